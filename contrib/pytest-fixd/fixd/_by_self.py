# SPDX-License-Identifier: MIT
"""What a fixture that is a method gets by `self`: methods and attributes of the class that it is used in, and what was set on the object."""

from __future__ import annotations

import ast
import functools
import inspect
import textwrap
import types
from typing import Any, Callable, Dict, Iterator, List, Optional, Set, Tuple

from ._fingerprint import PLAIN, fingerprint


def _parameter(function: Callable[..., Any]) -> str:
    return next(iter(inspect.signature(function).parameters), "")


def _tree_of(function: Callable[..., Any]) -> Optional[ast.AST]:
    try:
        return ast.parse(textwrap.dedent(inspect.getsource(function)))
    except (OSError, TypeError, SyntaxError):
        return None


@functools.lru_cache(maxsize=None)
def _read_by(function: Callable[..., Any]) -> Optional[frozenset]:
    """Names of attributes; None: any, since `self` goes on to others."""
    tree, owner = _tree_of(function), _parameter(function)
    if tree is None:
        return None
    found: Set[str] = set()
    of_attributes: Set[int] = set()
    for node in ast.walk(tree):
        if not isinstance(node, ast.Attribute):
            continue
        is_super = isinstance(node.value, ast.Call) and getattr(node.value.func, "id", "") == "super"
        if is_super or (isinstance(node.value, ast.Name) and node.value.id == owner):
            of_attributes.add(id(node.value))
            if isinstance(node.ctx, ast.Load):
                found.add(node.attr)
    passed_on = any(isinstance(n, ast.Name) and n.id == owner and id(n) not in of_attributes for n in ast.walk(tree))
    return None if passed_on else frozenset(found)


def _functions_of(attribute: Any) -> List[types.FunctionType]:
    """Those that are called when it is asked for, or as it is."""
    if isinstance(attribute, property):
        found = [attribute.fget]
    elif isinstance(attribute, (staticmethod, classmethod)):
        found = [attribute.__func__]
    else:
        found = [getattr(attribute, "func", attribute)]  # functools.cached_property, partialmethod
    return [f for f in found if isinstance(f, types.FunctionType)]


def _is_for_pytest(name: str, attribute: Any) -> bool:
    """A test, or a fixture: that is a dependency, if it is one."""
    return name.startswith("test") or "_pytestfixturefunction" in getattr(attribute, "__dict__", {}) or type(attribute).__name__ == "FixtureFunctionDefinition"


def _own_names(cls: type) -> Iterator[str]:
    for base in cls.__mro__:
        if base.__module__.split(".")[0] not in ("builtins", "unittest", "_pytest"):
            yield from (n for n, a in vars(base).items() if not (n.startswith("__") and n.endswith("__")) and not _is_for_pytest(n, a))


class BySelf:
    """Where a fixture function leads to by its `owner`, an object or a class."""

    def __init__(self, function: Callable[..., Any], owner: Any):
        self.methods: List[types.FunctionType] = []
        self.own: Dict[str, Any] = {}  # attributes of the object
        self.data: Dict[str, Any] = {}  # attributes of its class
        self._cls: Any = owner if isinstance(owner, type) else type(owner)
        self._set = {} if isinstance(owner, type) else dict(getattr(owner, "__dict__", {}))
        self._seen: Set[str] = set()
        self._follow(function)

    def _follow(self, function: Callable[..., Any]) -> None:
        names = _read_by(function)
        if names is None:
            names = frozenset([*_own_names(self._cls), *(n for n in self._set if not n.startswith("_"))])
        for name in sorted(names):
            if name not in self._seen:
                self._seen.add(name)
                self._attribute(name)

    def _attribute(self, name: str) -> None:
        if name in self._set:
            self.own[name] = self._set[name]
            return
        # With those that it overrides, which it may call.
        for base in self._cls.__mro__:
            if name not in vars(base) or base.__module__ == "builtins" or _is_for_pytest(name, vars(base)[name]):
                continue
            attribute = vars(base)[name]
            functions = _functions_of(attribute)
            if not functions:
                self.data.setdefault(name, attribute)
            for function in functions:
                if function not in self.methods:
                    self.methods.append(function)
                    self._follow(function)


@functools.lru_cache(maxsize=None)
def _literals_of(cls: type) -> Dict[str, Any]:
    """Attributes whose source says all of them."""
    found: Dict[str, Any] = {}
    for base in cls.__mro__:
        tree = _tree_of(base) if base.__module__ != "builtins" else None
        for node in getattr(getattr(tree, "body", [None])[0], "body", []):
            for target in getattr(node, "targets", None) or [getattr(node, "target", None)]:
                if isinstance(target, ast.Name) and isinstance(getattr(node, "value", None), ast.Constant):
                    found.setdefault(target.id, node.value.value)
    return found


def parts_of(function: Callable[..., Any], owner: Any) -> Iterator[Tuple[str, Any, Optional[str], bool]]:
    """(name, its value, a word for that, is it of the object) of what no source tells; None: there is no word for it."""
    found = BySelf(function, owner)
    literals = _literals_of(owner if isinstance(owner, type) else type(owner)) if found.data else {}
    for name, value in found.data.items():
        if not (type(value) in PLAIN and literals.get(name, found) == value):
            yield name, value, fingerprint(value), False
    for name, value in found.own.items():
        yield name, value, fingerprint(value), True
