# SPDX-License-Identifier: MIT
"""pytest begins again, in a fork of a warm interpreter (--fixd-warm) or of where live fixtures are; and so do the workers of pytest-xdist."""

from __future__ import annotations

import os
import shlex
import sys
from typing import Any, Iterable, List, Optional

import pytest

from . import _live, _source
from ._command_line import CommandLine
from ._early import NO_RUN, become, is_forked, words
from ._setting import of_file

_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
# Like fixd-python, wherever that is.
_LAUNCHER = f"import sys; sys.path.insert(0, {_PACKAGE!r}); from fixd import _python; del sys.path[0]; _python.{{main}}"
_TRIES = "FIXD_PYTHON_TRIES"
TRIES_MAX = 2

_cold_key = pytest.StashKey[str]()


def _is_worker() -> bool:
    """Of pytest-xdist: what it runs is told to it, and was begun."""
    return sys.argv[0] == "-c"


def _wants(config: Any) -> bool:
    return bool(getattr(config.known_args_namespace, "fixd_warm", None) or of_file(config, "fixd_warm"))


def _objection(config: Any) -> Optional[str]:
    """Why this process cannot be another one."""
    if any(getattr(config.known_args_namespace, name, None) for name in NO_RUN):
        return "no tests are run"
    if _is_worker():
        return "the process that has started this worker is no fork either"
    if list(config.invocation_params.args) != sys.argv[1:]:
        return "pytest was called by a program, with arguments of its own"
    if sys.gettrace() is not None or sys.getprofile() is not None:
        return "this process is measured or debugged"
    return None


def _measures(config: Any) -> bool:
    """By pytest-cov: lines that only the template runs would be missing."""
    return bool(getattr(config.known_args_namespace, "cov_source", None))


def _told(e: Exception) -> str:
    """Of the log of a template what the audit has said."""
    first, *log = str(e).splitlines() or [""]
    return "; ".join([first, *[line.partition("checkpoint: ")[2] for line in log if line.startswith("fixd: checkpoint: ")][:3]])


def begin(config: Any) -> None:
    """Does not return where it is possible: nothing but pytest and its plugins has been imported by now."""
    if is_forked():
        return
    from . import _python

    warm, why = _wants(config), _objection(config)
    try:
        os.environ[_python.RECORD_OF] = _python.record_of(words())
        if why is None and not _measures(config) and _live_template(config, warm).is_known():
            _begin_live(config)
        elif why is None and warm:
            become(_python.fork_command(words(), os.environ))
    except _python.Plain as e:
        why = _told(e)
    os.environ.pop(_python.RECORD_OF, None)
    _live.reason = why or _live.reason
    if warm and why:
        config.stash[_cold_key] = f"fixd: not warm: {why}"


def _live_template(config: Any, warm: bool) -> Any:
    from . import _python

    home, _ = _python.ready_home(os.environ)
    return _python.LiveTemplate(CommandLine(words()), os.environ, home, os.path.realpath(config.rootpath), warm)


def _begin_live(config: Any) -> None:
    from . import _python

    home, socket = _python.ready_home(os.environ)
    template = _live_template(config, _wants(config))
    if not template.is_known():
        template.live = {
            "root": str(config.rootpath), "ini": str(config.inipath) if config.inipath else None, "plugins": list(config.known_args_namespace.plugins or ()),
            "directories": _live.directories(), "path": [os.path.abspath(p) for p in sys.path], "watch": _live.watched(str(config.rootpath)), "max_age": _live.max_age()}
        template.files = _files_of_modules()
        template.patterns = template.live["watch"]
    become(_python.fork_command_of(template, home, socket, words()))


def _files_of_modules() -> List[str]:
    """Those that are loaded by now, without Python's own."""
    paths = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    return [p for p in paths if p and not _source.is_ours(os.path.realpath(p))]


def begin_live(config: Any) -> None:
    """When the first conftest.py files are loaded, and have live fixtures: pytest begins again where they are set up."""
    if _live.is_fork():
        if not _is_worker() and _live.is_stale(str(config.rootpath)):
            _start_over()
        return
    if not _live.definitions:
        return
    from . import _python

    why = "coverage is measured, and what makes it is to be, too" if _measures(config) else _objection(config)
    try:
        if why is None:
            os.environ[_python.RECORD_OF] = _python.record_of(words())
            _begin_live(config)
    except _python.Plain as e:
        why = _told(e)
    _live.reason = why or _live.reason


def clean_up(root: str) -> int:
    """Ends the templates of a project's live fixtures, whose second halves run there; how many there were."""
    import glob
    import json

    from . import _daemon, _python

    ended = 0
    home, socket = _python.own_home()
    for path in glob.glob(os.path.join(glob.escape(home), "live-*.spec")):
        with open(path) as f:
            spec = json.load(f)
        if spec["live"]["root"] == root and os.path.exists(socket):
            _python.forget(home, spec["name"])
            ended += _daemon.fixctl(socket, ["cleanup", "--force", spec["name"]]).returncode == 0
    return ended


def _start_over() -> None:
    """The template is another one now, and so is perhaps its section."""
    from . import _daemon, _python

    tries = int(os.environ.get(_TRIES, "0"))
    if tries >= TRIES_MAX:
        return
    os.environ[_TRIES] = str(tries + 1)
    home, socket = _python.own_home()
    _python.forget(home, _live.name())
    _daemon.fixctl(socket, ["cleanup", "--force", _live.name()])
    os.environ.pop(_python.RECORD_OF, None)
    become([sys.executable, *words()])


def header(config: Any) -> Optional[str]:
    return "fixd: warm" if is_forked() else config.stash.get(_cold_key, None)


def set_up_workers(specs: Iterable[Any]) -> None:
    """Each is forked from where this process was."""
    from ._python import RECORD_OF

    if not is_forked() or RECORD_OF not in os.environ:
        return
    main = f"main_live({_live.name()!r})" if _live.is_fork() else "main()"
    for spec in specs:
        if spec.popen and not spec.python:
            spec.python = f"{shlex.quote(sys.executable)} -c {shlex.quote(_LAUNCHER.format(main=main))}"
