# SPDX-License-Identifier: MIT
"""--fixd-warm: pytest begins again, in a fork of a warm interpreter, and so do the workers of pytest-xdist."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from typing import Any, Iterable, List, Optional

import pytest

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Like fixd-python, wherever that is.
_LAUNCHER = f"import sys; sys.path.insert(0, {_PACKAGE!r}); from fixd._python import main; del sys.path[0]; main()"

_cold_key = pytest.StashKey[str]()


def is_forked() -> bool:
    return getattr(sys, "_fixd_forked", False)


def _wants(config: Any) -> bool:
    return bool(getattr(config.known_args_namespace, "fixd_warm", None) or config.getini("fixd_warm"))


def _objection(config: Any) -> Optional[str]:
    """Why this process cannot be another one."""
    if list(config.invocation_params.args) != sys.argv[1:]:
        return "pytest was called by a program, with arguments of its own"
    if sys.gettrace() is not None or sys.getprofile() is not None:
        return "this process is measured or debugged"
    return None


def _words() -> List[str]:
    """What the interpreter was started with."""
    given = getattr(sys, "orig_argv", None)  # Python 3.10
    if given is not None:
        return list(given[1:])
    program = ["-m", "pytest"] if sys.argv[0].endswith("__main__.py") else [sys.argv[0]]
    return [*subprocess._args_from_interpreter_flags(), *program, *sys.argv[1:]]  # type: ignore[attr-defined]


def begin(config: Any) -> None:
    """Does not return where it is possible: nothing but pytest and its plugins has been imported by now."""
    if is_forked() or not _wants(config) or hasattr(config, "workerinput"):
        return
    from . import _python

    why = _objection(config)
    try:
        if why is None:
            words = _words()
            os.environ[_python.RECORD_OF] = _python.record_of(words)
            command = _python.fork_command(words, os.environ)
            sys.stdout.flush()
            sys.stderr.flush()
            os.execv(command[0], command)
    except _python.Plain as e:
        why = str(e).splitlines()[0]
    os.environ.pop(_python.RECORD_OF, None)
    config.stash[_cold_key] = f"fixd: not warm: {why}"


def header(config: Any) -> Optional[str]:
    return "fixd: warm" if is_forked() else config.stash.get(_cold_key, None)


def set_up_workers(specs: Iterable[Any]) -> None:
    """Each is forked from where this process was."""
    from ._python import RECORD_OF

    if not is_forked() or RECORD_OF not in os.environ:
        return
    for spec in specs:
        if spec.popen and not spec.python:
            spec.python = f"{shlex.quote(sys.executable)} -c {shlex.quote(_LAUNCHER)}"
