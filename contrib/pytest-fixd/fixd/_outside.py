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
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Set, Tuple

from . import _variables
from ._fingerprint import fingerprint

ABSENT = "absent"
# Each process or test has another one, as they are to tell them apart.
_OF_PROCESS = ("PYTEST_CURRENT_TEST", "PYTEST_XDIST_")
# Between who asks and what is asked.
_BETWEEN = tuple(os.path.realpath(m.__file__) for m in (os, os.path, sys.modules["_collections_abc"], argparse) if getattr(m, "__file__", None))


def _asked_by_project(depth: int = 2) -> bool:
    frame = sys._getframe(depth)
    while frame is not None and _is_between(frame.f_code.co_filename):
        frame = frame.f_back  # type: ignore[assignment]
    return frame is not None and _variables.is_project_file(frame.f_code.co_filename)


@functools.lru_cache(maxsize=None)
def _is_between(name: str) -> bool:
    return name.startswith("<frozen ") or os.path.realpath(name) in _BETWEEN


_listener: Optional["Outside"] = None


class _Environment(type(os.environ)):  # type: ignore[misc]
    def __getitem__(self, name: Any) -> Any:
        if _listener is not None and isinstance(name, str) and not name.startswith(_OF_PROCESS) and _asked_by_project():
            _listener.names.add(("environment", name))
        return super().__getitem__(name)


class _Options(argparse.Namespace):
    def __getattribute__(self, name: str) -> Any:
        if _listener is not None and not name.startswith("_") and _asked_by_project():
            _listener.names.add(("option", name))
        return super().__getattribute__(name)


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
        elif kind == "marks":
            value = [(mark.name, mark.args, mark.kwargs) for mark in request.node.iter_markers()]
        else:
            module, _, variable = name.partition(":")
            value = getattr(sys.modules[module], variable)
    except Exception:
        return ABSENT
    return fingerprint(value)


def _listening_to(kind: str, method: Callable[..., Any]) -> Callable[..., Any]:
    def ask(name: str, *arguments: Any, **named: Any) -> Any:
        # What is built by what is built has a listener of its own.
        if _listener is not None and _asked_by_project():
            _listener.names.add((kind, str(name)))
        return method(name, *arguments, **named)

    return ask


class Outside:
    """While something is built."""

    def __init__(self, request: Any):
        self.names: Set[Tuple[str, str]] = set()
        self._request = request

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        global _listener
        config, before = self._request.config, _listener
        kind, options = type(os.environ), type(config.option)
        is_plain = kind in (_Environment, *_Environment.__bases__)
        methods = {"getoption": "option", "getini": "ini", "getvalue": "option"}
        there = [name for name in methods if name not in vars(config)]
        try:
            if is_plain:
                os.environ.__class__ = _Environment
            if options is argparse.Namespace:
                config.option.__class__ = _Options
            for name in there:
                setattr(config, name, _listening_to(methods[name], getattr(config, name)))
            _listener = self
            yield
        finally:
            _listener = before
            for name in there:
                vars(config).pop(name, None)
            if options is argparse.Namespace:
                config.option.__class__ = options
            if is_plain:
                os.environ.__class__ = kind

    def found(self, function: Any) -> List[List[str]]:
        """[kind, name, what it is now] of each."""
        names = self.names | {("variable", name) for name in _variables.from_outside(function)}
        known = [(kind, name, _now(kind, name, self._request)) for kind, name in sorted(names)]
        return [[kind, name, now] for kind, name, now in known if now is not None]


def difference(found: Iterable[List[str]], request: Any) -> Optional[str]:
    """The first that is another one here; None: all are the same."""
    return next((f"{kind} {name}" for kind, name, then in found if _now(kind, name, request) != then), None)


def by_variable(found: Iterable[List[str]]) -> Optional[str]:
    """What its own lines do not show."""
    return next((f"the environment by a variable ({name.replace(':', '.')})" for kind, name, _ in found if kind == "variable"), None)
