# SPDX-License-Identifier: MIT
"""What a fixture function says: its version, and its second half as a function of its own.

The version of a fixture covers its own source, everything in its module that is not another fixture or a test, and the project's
own modules that it refers to, as syntax trees: an edit of a comment changes nothing, an edit of another fixture or of a test
changes nothing, an edit of a helper changes every fixture that could call it.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import marshal
import os
import pickle
import sys
import textwrap
import types
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Set, Tuple


def _names_of(code: types.CodeType) -> Set[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= _names_of(constant)
    return names


def _file_of(module: Any) -> Optional[str]:
    path = getattr(module, "__file__", None)
    return os.path.realpath(path) if path and path.endswith(".py") else None


def _is_project(path: Optional[str], root: str) -> bool:
    return bool(path) and path.startswith(root + os.sep) and "site-packages" not in path  # type: ignore[union-attr]


def _project_module(value: Any, root: str) -> Optional[types.ModuleType]:
    """The project's own module that a value is, or comes from."""
    module = value if isinstance(value, types.ModuleType) else sys.modules.get(getattr(value, "__module__", None) or "")
    return module if module is not None and _is_project(_file_of(module), root) else None


def _reached(names: Iterable[str], namespace: Dict[str, Any], root: str, seen: Dict[str, types.ModuleType]) -> None:
    for name in names:
        module = _project_module(namespace.get(name), root)
        path = _file_of(module) if module else None
        if module is None or path is None or path in seen:
            continue
        seen[path] = module
        _reached(list(vars(module)), vars(module), root, seen)


_trees: Dict[Tuple[str, int, int], ast.Module] = {}


def _tree(path: str) -> ast.Module:
    status = os.stat(path)
    key = (path, status.st_mtime_ns, status.st_size)
    if key not in _trees:
        with open(path, "rb") as f:
            _trees[key] = ast.parse(f.read(), path)
    return _trees[key]


def _is_fixture(node: ast.AST) -> bool:
    """Decorated with something called ...fixture... or shared_session_scope...: pytest's, ours, or others like them."""
    for decorator in getattr(node, "decorator_list", []):
        target = decorator.func if isinstance(decorator, ast.Call) else decorator
        name = target.attr if isinstance(target, ast.Attribute) else getattr(target, "id", "")
        if "fixture" in name or name.startswith("shared_session_scope"):
            return True
    return False


def _stands_alone(node: ast.AST) -> bool:
    """A test or another fixture: nothing else in the module depends on what it says."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return node.name.startswith("test") or _is_fixture(node)
    return isinstance(node, ast.ClassDef) and node.name.startswith("Test")


def _first_line(node: Any) -> int:
    return node.decorator_list[0].lineno if node.decorator_list else node.lineno


def _plain(value: Any) -> str:
    """A word for a value that is the same in every process."""
    if isinstance(value, (str, bytes, int, float, complex, bool, type(None))):
        return repr(value)
    if isinstance(value, (tuple, list)):
        return type(value).__name__ + ",".join(map(_plain, value))
    return getattr(value, "__qualname__", type(value).__qualname__)


def _dump(node: ast.AST) -> str:
    return ast.dump(node, annotate_fields=False)


def version(function: Callable[..., Any], root: str) -> str:
    """A word that changes when what the fixture builds may have changed."""
    digest = hashlib.blake2b(digest_size=12)

    def add(s: str) -> None:
        digest.update(s.encode(errors="surrogatepass") + b"\0")

    function = inspect.unwrap(function)
    path = _file_of(inspect.getmodule(function)) or os.path.realpath(function.__code__.co_filename)
    names = _names_of(function.__code__)
    try:
        module_tree = _tree(path)
        own = [n for n in ast.walk(module_tree) if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef)) and
               n.name == function.__name__ and _first_line(n) == function.__code__.co_firstlineno]
        for node in own:
            add(_dump(node))
        if not own:
            add(inspect.getsource(function))
        for node in module_tree.body:
            if not _stands_alone(node):
                add(_dump(node))
                names |= {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
    except (OSError, SyntaxError, ValueError):
        # No source to read: the code itself.
        digest.update(marshal.dumps(function.__code__))
    for cell in function.__closure__ or ():
        try:
            add(_plain(cell.cell_contents))
        except ValueError:
            pass  # not set yet
    seen: Dict[str, types.ModuleType] = {path: sys.modules[__name__]}
    _reached(names, function.__globals__, root, seen)
    for other in sorted(set(seen) - {path}):
        try:
            add(os.path.relpath(other, root) + _dump(_tree(other)))
        except (OSError, SyntaxError, ValueError):
            add(other)
    return digest.hexdigest()


class SecondHalf(NamedTuple):
    """What a generator does after its yield, as source of a function of the names it needs."""

    source: str
    needs: Tuple[str, ...]


class Unmovable(Exception):
    """The second half can only be run where the first half was."""


def _body_after_yield(body: List[ast.stmt]) -> Optional[List[ast.stmt]]:
    """The statements after the one that yields, or None if none of them does."""
    for i, statement in enumerate(body):
        yields = [n for n in _walk_here(statement) if isinstance(n, (ast.Yield, ast.YieldFrom))]
        if not yields:
            continue
        rest = body[i + 1:]
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Yield):
            return rest
        if isinstance(statement, ast.Try):
            inner = _body_after_yield(statement.body)
            if inner is None:
                raise Unmovable("it yields in an 'except', 'else' or 'finally'")
            inner += statement.orelse
            moved = ast.Try(body=inner or [ast.Pass()], handlers=statement.handlers, orelse=[], finalbody=statement.finalbody)
            return ([moved] if moved.finalbody or inner else []) + rest
        if isinstance(statement, ast.If):
            for branch in (statement.body, statement.orelse):
                inner = _body_after_yield(branch)
                if inner is not None:
                    return inner + rest
        kind = {ast.With: "a 'with' block", ast.AsyncWith: "a 'with' block", ast.For: "a loop", ast.While: "a loop"}
        raise Unmovable(f"it yields inside {kind.get(type(statement), 'an expression')}")
    return None


def _walk_here(node: ast.AST) -> Iterable[ast.AST]:
    """The node and what is inside, but not inside functions of its own."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            yield from _walk_here(child)


def second_half(function: Callable[..., Any]) -> Optional[SecondHalf]:
    """None: there is nothing after the yield.  Unmovable says why it must stay where it is."""
    function = inspect.unwrap(function)
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    except (OSError, SyntaxError, IndentationError) as e:
        raise Unmovable(f"its source cannot be read: {e}") from None
    if not isinstance(tree, ast.FunctionDef):
        raise Unmovable("it is no plain function")
    rest = _body_after_yield(tree.body)
    if not rest:
        return None
    code = function.__code__
    local = set(code.co_varnames) | set(code.co_cellvars) | set(code.co_freevars)
    used = {n.id for s in rest for n in ast.walk(s) if isinstance(n, ast.Name)} | {
        n for s in rest for x in ast.walk(s) if isinstance(x, (ast.Nonlocal, ast.Global)) for n in x.names}
    needs = tuple(sorted(used & local))
    moved = ast.FunctionDef(name="second_half", body=rest, decorator_list=[], args=ast.arguments(
        posonlyargs=[], args=[ast.arg(arg=n) for n in needs], kwonlyargs=[], kw_defaults=[],
        defaults=[ast.Constant(None) for _ in needs]), lineno=1, col_offset=0)
    return SecondHalf(ast.unparse(ast.fix_missing_locations(ast.Module(body=[moved], type_ignores=[]))), needs)


def pickled_locals(half: SecondHalf, frame_locals: Dict[str, Any]) -> bytes:
    """The values that the second half needs and has by now."""
    kept = {}
    for name in half.needs:
        if name not in frame_locals:
            continue
        try:
            pickle.dumps(frame_locals[name])
        except Exception as e:
            raise Unmovable(f"it needs '{name}' (a {type(frame_locals[name]).__name__}): {e}") from None
        kept[name] = frame_locals[name]
    return pickle.dumps(kept)
