# SPDX-License-Identifier: MIT
"""pytest --fixd-warm begins again in its fork (_again.py) as soon as the plugin is loaded, before all that would only be loaded twice.

Only where the command line alone says that it will; in doubt, and where it cannot be, nothing has happened, and _again.begin() finds out."""

from __future__ import annotations

import os
import sys
from typing import Iterable, List

# Options that do something else than to run tests.
NO_RUN = ("cleanup", "session_status", "daemon", "daemon_status", "daemon_stop", "fixd_explain", "version", "help")
_NO_RUN_SHORT = ("-V", "-h")


def is_forked() -> bool:
    return getattr(sys, "_fixd_forked", False)


def words() -> List[str]:
    """What the interpreter was started with."""
    given = getattr(sys, "orig_argv", None)  # Python 3.10
    if given is not None:
        return list(given[1:])
    import subprocess

    program = ["-m", "pytest"] if sys.argv[0].endswith("__main__.py") else [sys.argv[0]]
    return [*subprocess._args_from_interpreter_flags(), *program, *sys.argv[1:]]  # type: ignore[attr-defined]


def become(command: List[str]) -> None:
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(command[0], command)


def _is_of_pytest(program: str) -> bool:
    return program.endswith(os.path.join("pytest", "__main__.py")) or os.path.basename(program) in ("pytest", "py.test")


def _runs_tests(arguments: Iterable[str]) -> bool:
    long = tuple("--" + name.replace("_", "-") for name in NO_RUN)
    return not any(word.split("=")[0] in long or word in _NO_RUN_SHORT for word in arguments)


def _may_be_live(home: str) -> bool:
    """A template of live fixtures may be what this run is to be forked from."""
    import glob

    specs = glob.glob(os.path.join(glob.escape(home), "live-*.spec"))
    if not specs:
        return False
    import json

    paths = [os.path.realpath(p.split("::")[0]) + os.sep for p in (".", *sys.argv[1:]) if not p.startswith("-")]
    for spec in specs:
        try:
            with open(spec) as f:
                root = json.load(f)["live"]["root"]
        except (OSError, ValueError, LookupError, TypeError):
            return True
        if any(path.startswith(os.path.join(root, "")) for path in paths):
            return True
    return False


def begin() -> None:
    """Does not return where it is possible."""
    if is_forked() or "--fixd-warm" not in sys.argv or not _is_of_pytest(sys.argv[0]) or os.environ.get("PYTEST_ADDOPTS"):
        return
    if not _runs_tests(sys.argv[1:]) or sys.gettrace() is not None or sys.getprofile() is not None:
        return
    from . import _python

    try:
        home, _ = _python.own_home()
        if not _may_be_live(home):
            os.environ[_python.RECORD_OF] = _python.record_of(words())
            become(_python.fork_command(words(), os.environ))
    except _python.Plain:
        pass
    os.environ.pop(_python.RECORD_OF, None)
