# SPDX-License-Identifier: MIT
"""What a build reads beside its source and its arguments: the environment, options of the run, and variables of modules that were made from these.

It is remembered with what was built, so that a process that has another one of these builds it again.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import os
import sys
import types
from typing import Any, Iterable, Iterator, List, Optional, Set, Tuple

import pytest

from . import _variables
from ._fingerprint import fingerprint
from ._runtime import runtime_of

ABSENT = "absent"
OF_HOOK = "a hook's variable"
CONFIG = "config attribute"
STASH = "config stash"
DIRECTORY = "the working directory"
NOT_IN_ITS_LINES = ("variable", OF_HOOK, CONFIG, STASH)
# Each process or test has another one, as they are to tell them apart.
_OF_PROCESS = ("PYTEST_CURRENT_TEST", "PYTEST_XDIST_")
# Between who asks and what is asked.
_BETWEEN_NAMES = ("os", "posixpath", "_collections_abc", "argparse", "collections", "string", "re", "configparser")


def _between() -> Set[str]:
    return {os.path.realpath(str(m.__file__)) for m in map(sys.modules.get, _BETWEEN_NAMES) if getattr(m, "__file__", None)}


def _asked_by_project(depth: int = 2) -> bool:
    frame = sys._getframe(depth)
    while frame is not None and _is_between(frame.f_code.co_filename):
        frame = frame.f_back  # type: ignore[assignment]
    return frame is not None and _variables.is_project_file(frame.f_code.co_filename)


@functools.lru_cache(maxsize=None)
def _is_between(name: str) -> bool:
    return name.startswith("<frozen ") or os.path.realpath(name) in _between()


_listener: Optional["Outside"] = None


def _note(kind: str, name: str) -> None:
    """By one that is between."""
    if _listener is not None and _asked_by_project(3):
        _listener.names.add((kind, name))


class _Environment(type(os.environ)):  # type: ignore[misc]
    """Also that of bytes."""

    def __getitem__(self, name: Any) -> Any:
        if isinstance(name, (str, bytes)) and not os.fsdecode(name).startswith(_OF_PROCESS):
            _note("environment", os.fsdecode(name))
        return super().__getitem__(name)

    def __setitem__(self, name: Any, value: Any) -> None:
        if _listener is not None and isinstance(name, (str, bytes)) and _is_by_build():
            _listener.set.add(os.fsdecode(name))
        super().__setitem__(name, value)

    def __delitem__(self, name: Any) -> None:
        if _listener is not None and isinstance(name, (str, bytes)) and _is_by_build():
            _listener.set.add(os.fsdecode(name))
        super().__delitem__(name)


def _is_by_build() -> bool:
    """Not by a library that is imported, nor by a fixture that the build asks for: these do so in each process.  A module of the project that
    nothing but the build imports is not imported by those who get the value."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_name == "call_fixture_func":
            return False
        if frame.f_code.co_name == "<module>" and not _variables.is_project_file(frame.f_code.co_filename):
            return False
        if os.path.dirname(frame.f_code.co_filename) == os.path.dirname(__file__):
            return True
        frame = frame.f_back
    return False


class _Options(argparse.Namespace):
    def __getattribute__(self, name: str) -> Any:
        if not name.startswith("_"):
            _note("option", name)
        return super().__getattribute__(name)


# Of pytest's own, and what tells processes apart.
_OF_PYTEST = ("option", "pluginmanager", "hook", "trace", "stash", "cache", "workerinput", "workeroutput", "workerid")
_METHODS = {"getoption": "option", "getvalue": "option", "getini": "ini"}


@functools.lru_cache(maxsize=None)
def _listening_config(kind: Any) -> Any:
    def asking(method: str) -> Any:
        def ask(self: Any, name: str, *arguments: Any, **named: Any) -> Any:
            _note(_METHODS[method], str(name))
            return getattr(kind, method)(self, name, *arguments, **named)

        return ask

    class Config(kind):  # type: ignore[misc]
        def __getattribute__(self, name: str) -> Any:
            if _listener is not None and not name.startswith("__") and name not in _OF_PYTEST and not hasattr(kind, name):
                _note(CONFIG, name)
            return super().__getattribute__(name)

    for method in _METHODS:
        if hasattr(kind, method):
            setattr(Config, method, asking(method))
    return Config


class _Stash(pytest.Stash):
    __slots__ = ()

    def __getitem__(self, key: Any) -> Any:
        _note_key(key)
        return super().__getitem__(key)

    def get(self, key: Any, default: Any) -> Any:
        _note_key(key)
        return super().get(key, default)


def _note_key(key: Any) -> None:
    """By the variable that it is: it has no name of its own."""
    if _listener is None or not _asked_by_project(3):
        return
    for module in [*sys.modules.values(), *_variables.more_modules()]:
        path = getattr(module, "__file__", None) if _variables.is_a(module, types.ModuleType) else None
        word = _variables.word_of(module) if path and _variables.is_project_file(str(path)) else None
        if word is not None:
            _listener.names |= {(STASH, f"{word}:{name}") for name, value in vars(module).items() if value is key}


def _now(kind: str, name: str, request: Any) -> Optional[str]:
    """A word for what it is; None: that cannot be told."""
    config = request.config
    try:
        if kind == "environment":
            value: Any = os.environ.get(name, None)
        elif kind == "option":
            value = config.getoption(name, None)
        elif kind == "ini":
            value = config.getini(name)
        elif kind == OF_HOOK:
            return runtime_of(config).configured.get(name, ABSENT)
        elif kind == CONFIG:
            value = vars(config)[name]
        elif kind == STASH:
            value = config.stash[_variables.value_of(name)]
        elif kind == DIRECTORY:
            value = os.getcwd()
        elif kind == "marks":
            value = [(mark.name, mark.args, mark.kwargs) for mark in request.node.iter_markers()]
        else:
            value = _variables.value_of(name)
    except Exception:
        return ABSENT
    return fingerprint(value)


class Outside:
    """While something is built."""

    def __init__(self, request: Any):
        self.names: Set[Tuple[str, str]] = set()
        self.set: Set[str] = set()  # variables of the environment
        self._request = request

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        global _listener
        config, before = self._request.config, _listener
        listening = [(os.environ, _Environment), (os.environb, _Environment), (config.option, _Options), (config.stash, _Stash), (config, _listening_config(type(config)))]
        # What is built by what is built finds them so; and what is somebody else's stays that.
        silent = [(thing, type(thing), kind) for thing, kind in listening if type(thing) in kind.__bases__]
        try:
            for thing, _, kind in silent:
                thing.__class__ = kind
            _listener = self
            yield
        finally:
            _listener = before
            for thing, kind, _ in silent:
                thing.__class__ = kind

    def found(self, function: Any) -> List[List[str]]:
        """[kind, name, what it is now] of each."""
        walk = _variables.of(function)
        names = self.names | {("variable", name) for name in walk.found}
        names |= {("environment", name) for module in walk.modules for name in _variables.environment_of(module)}
        names |= {(OF_HOOK, name) for name in walk.data & set(runtime_of(self._request.config).configured)}
        known = [(kind, name, _now(kind, name, self._request)) for kind, name in sorted(names)]
        return [[kind, name, now] for kind, name, now in known if now is not None]


def working_directory(request: Any) -> List[str]:
    """Where files were looked for."""
    return [DIRECTORY, "", str(_now(DIRECTORY, "", request))]


def difference(found: Iterable[List[str]], request: Any) -> Optional[str]:
    """The first that is another one here; None: all are the same."""
    return next((f"{kind} {name}".rstrip() for kind, name, then in found if _now(kind, name, request) != then), None)


def by_variable(found: Iterable[List[str]]) -> Optional[str]:
    """What its own lines do not show."""
    names = [name.rpartition(":") for kind, name, _ in found if kind == "variable"]
    if not names:
        return None
    word, _, name = names[0]
    return f"the environment by a variable ({os.path.basename(word)[:-len('.py')] if os.path.isabs(word) else word}.{name})"
