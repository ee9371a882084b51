# SPDX-License-Identifier: MIT
"""Variables of the project's modules: where a function leads to, through functions, classes and modules of the project."""

from __future__ import annotations

import ast
import dis
import functools
import os
import re
import sys
import types
from typing import Any, Callable, Iterable, Iterator, Optional, Set

from . import _source

# More modules than sys.modules has: of several conftest.py only one is there.  Set by the plugin.
more_modules: Callable[[], Iterable[Any]] = tuple


def is_a(value: Any, kind: Any) -> bool:
    """Asks its type: what is made on demand may make itself, or fail, when it is asked for its class."""
    return issubclass(type(value), kind)


def word_of(module: Any) -> Optional[str]:
    """By which any process finds it: its name, or its file where several have that name."""
    name = module.__name__
    if (name == "conftest" or sys.modules.get(name) is not module) and any(m is module for m in more_modules()):
        return os.path.realpath(module.__file__)
    return str(name) if sys.modules.get(name) is module else None


def value_of(full: str) -> Any:
    """Of MODULE:NAME, as Walk gives them."""
    word, _, name = full.rpartition(":")
    if os.path.isabs(word):
        module = next(m for m in more_modules() if getattr(m, "__file__", None) and os.path.realpath(m.__file__) == word)
    else:
        module = sys.modules[word]
    return vars(module)[name]


@functools.lru_cache(maxsize=None)
def is_project_file(name: str) -> bool:
    path = os.path.realpath(name)
    return os.path.isfile(path) and _source.is_project(path)



def _codes(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _codes(inner)


def _statements(body: Iterable[ast.stmt]) -> Iterator[ast.stmt]:
    """Those that are run when a module is imported."""
    for statement in body:
        yield statement
        for name in ("body", "orelse", "finalbody"):
            if not isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                yield from _statements(getattr(statement, name, []))


def _module_is_project(module: Any) -> bool:
    path = getattr(module, "__file__", None) if is_a(module, types.ModuleType) else None
    return bool(path) and str(path).endswith(".py") and is_project_file(str(path))


_ENVIRONMENT_NAME = re.compile(r"[A-Z][A-Z0-9_]+")
# Of a user, a shell, a terminal, and of pytest's own.
_OF_NOBODY = re.compile(r"PATH|HOME|USER|PWD|OLDPWD|SHLVL|COLUMNS|LINES|PYTEST_.*|FIXD_.*")


def environment_of(module: Any) -> Set[str]:
    """Names of variables of the environment that it may have read when it was imported: all that it names, if it reads any."""
    try:
        tree = _source.tree_of(module.__file__)
    except (OSError, SyntaxError, ValueError):
        return set()
    if not _source.looks_outside(vars(module), tree):
        return set()
    written = {id(n.slice) for n in ast.walk(tree) if isinstance(n, ast.Subscript) and isinstance(n.ctx, (ast.Store, ast.Del))}
    words = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str) and id(n) not in written}
    return {w for w in words if _ENVIRONMENT_NAME.fullmatch(w) and not _OF_NOBODY.fullmatch(w)}


def _is_made_at_import(value: Any) -> bool:
    """Or a part of it: what a function has as defaults."""
    if is_a(value, types.FunctionType):
        return bool(value.__defaults__ or value.__kwdefaults__)
    return not is_a(value, types.ModuleType)


class Walk:
    """`found`: made from the environment or from options; `data`: all that are no functions and no modules; `written`: names that
    something is given to, as a variable of a module or as an attribute; `modules`: that something of which was made at import."""

    def __init__(self) -> None:
        self.modules: Set[Any] = set()
        self.found: Set[str] = set()
        self.data: Set[str] = set()
        self.written: Set[str] = set()
        self._seen: Set[Any] = set()

    def function(self, f: Any) -> None:
        if f in self._seen or not is_project_file(f.__code__.co_filename):
            return
        self._seen.add(f)
        names = {name for code in _codes(f.__code__) for name in code.co_names}
        self.written |= {i.argval for code in _codes(f.__code__) for i in dis.get_instructions(code) if i.opname in ("STORE_GLOBAL", "STORE_ATTR")}
        module = next((m for m in (sys.modules.get(f.__module__ or ""), *more_modules()) if m is not None and vars(m) is f.__globals__), None)
        for name in names & set(f.__globals__):
            value = f.__globals__[name]
            if _module_is_project(value):
                for attribute in names & set(vars(value)):
                    self.variable(value, attribute)
            elif module is not None:
                self.variable(module, name)

    def variable(self, module: Any, name: str) -> None:
        value = vars(module)[name]
        if (module, name) in self._seen:
            return
        self._seen.add((module, name))
        if _is_made_at_import(value) and _module_is_project(module):
            self.modules.add(module)
        if not is_a(value, (types.FunctionType, types.ModuleType)) and _module_is_project(module):
            self._add(self.data, module, name)
        if is_a(value, types.FunctionType):
            self.function(value)
        elif is_a(value, type):
            for method in vars(value).values():
                if is_a(method, types.FunctionType):
                    self.function(method)
        elif _module_is_project(module):
            self._assignment(module, name)

    def _add(self, to: Set[str], module: Any, name: str) -> None:
        word = word_of(module)
        if word is not None:
            to.add(f"{word}:{name}")

    def _assignment(self, module: Any, name: str) -> None:
        try:
            statements = list(_statements(_source.tree_of(module.__file__).body))
        except (OSError, SyntaxError, ValueError):
            return
        for statement in statements:
            if isinstance(statement, ast.ImportFrom):
                self._imported(module, statement, name)
            targets = getattr(statement, "targets", None) or [getattr(statement, "target", None)]
            names = {n.id for t in targets if t is not None for n in ast.walk(t) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
            if name in names and _source.looks_outside(vars(module), statement):
                self._add(self.found, module, name)

    def _imported(self, module: Any, statement: ast.ImportFrom, name: str) -> None:
        for alias in statement.names:
            if (alias.asname or alias.name) == name:
                base = "." * statement.level + (statement.module or "")
                other = sys.modules.get(_source.absolute(base, getattr(module, "__package__", None) or ""))
                if other is not None and alias.name in vars(other) and _module_is_project(other):
                    self.variable(other, alias.name)


def of(*functions: Any) -> Walk:
    """Where they lead to, all together."""
    walk = Walk()
    try:
        for function in functions:
            walk.function(function)
    except RecursionError:
        pass
    return walk
