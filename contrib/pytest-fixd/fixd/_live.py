# SPDX-License-Identifier: MIT
"""@fixd.fixture(live=True): objects that stay as they are, in a process that every run is forked from.

The template is a session of pytest of its own, which loads the conftest.py files, sets the live fixtures up, and stops there. A fork of
it is a run: it loads no conftest.py that the template has loaded, so that its objects and their classes are the same. When the template
ends its session does, and with it the fixtures' second halves.
"""

from __future__ import annotations

import inspect
import os
import pathlib
import sys
import types
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any, Dict, List, Optional, Sequence, Tuple

import pytest

from . import _patterns, _source

# Definitions of live fixtures, in the order in which they were made.
definitions: List[Any] = []
# In a fork, and in the template: what was set up there, and what was not.
_values: Dict[Any, Any] = {}
_failed: Dict[Any, str] = {}
# Why this process is no fork.
reason = "this process is no fork of the template"

# Plugins that look after how tests are run, and start threads for it: the template has no tests.
_FOR_TESTS = ("rerunfailures", "pytest_rerunfailures", "pytest_cov", "pytest_cov.plugin", "timeout", "pytest_timeout")
_FOR_OUTPUT = ("logging", "warnings", "faulthandler", "cacheprovider")

_is_template = False
_modules: Dict[str, types.ModuleType] = {}
_prints: Dict[str, Tuple[int, int]] = {}
_spec: Dict[str, Any] = {}


def is_template() -> bool:
    return _is_template


def is_fork() -> bool:
    return bool(_spec) and not _is_template


def watched(root: str) -> List[str]:
    return _patterns.of(root, [w for d in definitions for w in d.watch])


def max_age() -> Optional[float]:
    return min((d.max_age for d in definitions if d.max_age is not None), default=None)


def directories() -> List[str]:
    """Of the conftest.py files that have live fixtures."""
    return sorted({os.path.dirname(os.path.realpath(d.function.__code__.co_filename)) for d in definitions})


# A fixture that is set up: in the template, and in a fork.

def keep(definition: Any, value: Any) -> None:
    _values[definition] = value


def has(definition: Any) -> bool:
    return is_fork() and definition in _values


def value(definition: Any) -> Any:
    """Once in each process."""
    return opened(definition, _values[definition])


def opened(definition: Any, made: Any) -> Any:
    """As a process uses it, whoever has set it up."""
    again = definition.after_fork(made) if definition.after_fork is not None else None
    return made if again is None else again


def why_not(definition: Any) -> str:
    """Why it is built in this process."""
    if not is_fork():
        return reason
    if definition in _failed:
        return _failed[definition]
    path = os.path.basename(definition.function.__code__.co_filename)
    return f"{path} is loaded after the run has begun; those of a conftest.py in the root directory, or one that is an argument, live in the template"


# The template.

class _Item(pytest.Function):
    """What asks for the fixtures, in place of a test."""

    @classmethod
    def make(cls, parent: Any, directory: str) -> "_Item":
        module = pytest.Module.from_parent(parent, path=pathlib.Path(directory) / "fixd_live.py")
        module.obj = types.ModuleType("fixd_live")
        item = cls.from_parent(module, name="fixd_live", callobj=lambda: None)
        item.fixturenames[:] = []  # others are for tests
        return item


class _Preparation:
    """A plugin of the template's session."""

    def __init__(self, stop: Any, directories: Sequence[str]):
        self._stop = stop
        self.status: Any = 0
        self._items: List[_Item] = []
        self._wanted = {path for d in map(pathlib.Path, directories) for path in (d, *d.parents)}
        self._nodes: Dict[str, Any] = {}  # of directories, where pytest has such

    @pytest.hookimpl(tryfirst=True)
    def pytest_ignore_collect(self, collection_path: pathlib.Path) -> bool:
        """There are no tests: only directories, as newer ones of pytest look into a conftest.py with its directory."""
        return collection_path not in self._wanted

    def pytest_collectstart(self, collector: Any) -> None:
        if isinstance(collector, getattr(pytest, "Directory", ())):
            self._nodes[str(collector.path)] = collector

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        root = str(session.config.rootpath)
        for name, fixturedefs in list(session._fixturemanager._arg2fixturedefs.items()):
            for fixturedef in fixturedefs:
                definition = getattr(inspect.unwrap(fixturedef.func), "_fixd", None) or getattr(fixturedef.func, "_fixd", None)
                if getattr(definition, "live", False):
                    self._set_up(session, name, definition, os.path.normpath(os.path.join(root, fixturedef.baseid)))
        try:
            self._stop()
        except SystemExit as e:
            self.status = e.code  # the session ends, and its fixtures with it
        return True

    def _set_up(self, session: pytest.Session, name: str, definition: Any, directory: str) -> None:
        outside = _source.reads_outside(definition.function)
        if outside and "option" in outside:
            _failed[definition] = f"it reads {outside}, which each run may have another one of"
            return
        item = _Item.make(self._nodes.get(directory, session), directory)
        try:
            if not self._items:
                session._setupstate.setup(item)  # and so the session, which is what all of them need
            self._items.append(item)
            item._request.getfixturevalue(name)
        except (Exception, pytest.skip.Exception, pytest.fail.Exception) as e:
            _failed[definition] = f"in the template it has failed: {type(e).__name__}: {e}"
            print(f"fixd: fixture '{name}': {_failed[definition]}", file=sys.stderr)


def _print_of(path: str) -> Optional[Tuple[int, int]]:
    try:
        status = os.stat(path)
        return status.st_mtime_ns, status.st_size
    except OSError:
        return None


def _note_modules() -> None:
    """The project's own, which forks have from here."""
    for module in list(sys.modules.values()):
        path = getattr(module, "__file__", None)
        if path and isinstance(module, types.ModuleType) and _source.is_project(os.path.realpath(path)):
            path = os.path.realpath(path)
            _modules[path] = module
            found = _print_of(path)
            if found is not None:
                _prints.setdefault(path, found)


def _forget_session(path: Sequence[str]) -> None:
    """In a fork: what the template's session has done to the process."""
    sys.meta_path[:] = [f for f in sys.meta_path if type(f).__module__ != "_pytest.assertion.rewrite"]
    sys.path[:] = path


def prepare(spec: Dict[str, Any], stop: Any) -> None:
    """In the template: returns at its end. `stop` stops, and does not return in forks."""
    global _is_template
    _is_template = True
    _spec.update(spec)
    before = list(sys.path)

    def stop_here() -> None:
        global _is_template
        _note_modules()
        stop(lambda: _begin_fork(before))

    live = spec["live"]
    os.chdir(live["root"])
    sys.path[:0] = [p for p in live["path"] if p not in sys.path]
    arguments = ["-s", "-o", "addopts=", *[a for n in (*_FOR_OUTPUT, *_FOR_TESTS) for a in ("-p", f"no:{n}")],
                 *[a for p in live["plugins"] if p not in _FOR_TESTS for a in ("-p", p)], "--rootdir", live["root"], *(["-c", live["ini"]] if live["ini"] else []),
                 *live["directories"]]
    preparation = _Preparation(stop_here, live["directories"])
    status = pytest.main(arguments, plugins=[preparation])
    sys.exit(preparation.status or (0 if status == pytest.ExitCode.OK else int(status)))


def _begin_fork(path: Sequence[str]) -> None:
    global _is_template
    _is_template = False
    _forget_session(path)


# In a fork.

class _Finder:
    """Finds a conftest.py, which pytest imports by its path, where the template has it."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> Optional[ModuleSpec]:
        if name.rpartition(".")[2] != "conftest":
            return None
        found = PathFinder.find_spec(name, path)
        module = _modules.get(os.path.realpath(found.origin)) if found is not None and found.origin else None
        return None if module is None else ModuleSpec(name, _Loader(module), origin=module.__file__)  # type: ignore[arg-type]


class _Loader:
    def __init__(self, module: types.ModuleType):
        self._module = module

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        return self._module

    def exec_module(self, module: types.ModuleType) -> None:
        """It was."""


def use_modules() -> None:
    """From now on, in a fork."""
    if is_fork():
        sys.meta_path.insert(0, _Finder())  # type: ignore[arg-type]


def is_stale(root: str) -> bool:
    """Something has changed that nobody watches: a module that a fixture imports, or what is to be watched."""
    return any(_print_of(p) != found for p, found in _prints.items()) or watched(root) != _spec["live"]["watch"] or max_age() != _spec["live"]["max_age"]


def name() -> str:
    return str(_spec["name"])
