# SPDX-License-Identifier: MIT
"""What a fixture function says: its version, and its second half as a function of its own.

The version of a fixture covers its own source and everything in its module that is not another fixture or a test, as syntax trees,
and the files of the project's own modules that are reached by imports: an edit of a comment, of another fixture or of a test in its
module changes nothing, an edit of a helper changes every fixture that could call it.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import importlib.util
import inspect
import marshal
import os
import pickle
import re
import sys
import sysconfig
import textwrap
import types
from importlib.machinery import EXTENSION_SUFFIXES, PathFinder
from typing import Any, Callable, Dict, FrozenSet, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple

from . import _parts
from ._fingerprint import PLAIN, fingerprint


_LIBRARY = tuple({os.path.realpath(p) + os.sep for kind in ("stdlib", "platstdlib") for p in [sysconfig.get_path(kind)] if p})
_HERE = os.path.dirname(os.path.realpath(__file__)) + os.sep


_INSTALLED = ("site-packages", "dist-packages")


def is_ours(path: str) -> bool:
    """Of Python itself, or of this plugin."""
    inside = path.startswith(_LIBRARY) and not any(part in _INSTALLED for part in path.split(os.sep))
    return inside or path.startswith(_HERE)


def is_project(path: str) -> bool:
    """Somebody's own code: no library, and not this plugin."""
    return not (is_ours(path) or any(part in _INSTALLED for part in path.split(os.sep)))


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@functools.lru_cache(maxsize=None)
def _distributions(site: str) -> Dict[str, str]:
    """What is installed in a site-packages directory, by its own names."""
    try:
        names = os.listdir(site)
    except OSError:
        return {}
    return {_normal(n.split("-")[0].rpartition(".egg")[0] or n.split("-")[0]): os.path.join(site, n)
            for n in names if n.endswith((".dist-info", ".egg-info"))}


@functools.lru_cache(maxsize=None)
def _recorded(found: str) -> FrozenSet[str]:
    """Files of a distribution, relative to where it is installed; of an egg nobody says."""
    try:
        with open(os.path.join(found, "RECORD"), encoding="utf-8", errors="replace") as f:
            return frozenset(line.rsplit(",", 2)[0].strip('"') for line in f)
    except OSError:
        return frozenset()


def _tops(found: str) -> Set[str]:
    try:
        with open(os.path.join(found, "top_level.txt")) as f:
            return set(f.read().split())
    except OSError:
        return {path.split("/")[0].partition(".")[0] for path in _recorded(found) if ".dist-info/" not in path and not path.startswith("..")}


@functools.lru_cache(maxsize=None)
def _packages(site: str) -> Dict[str, List[str]]:
    """The same by the names of its packages, which may be others, and have parts of several distributions."""
    found: Dict[str, List[str]] = {}
    for path in sorted(_distributions(site).values()):
        for name in _tops(path):
            found.setdefault(_normal(name), []).append(path)
    return found


def _distribution_of(path: str, top: str) -> Optional[str]:
    """The version of the installed package that a file belongs to; None: it is not installed, or nothing tells its version."""
    found = _installed_as(path, top)
    return None if found is None else _version_of(found)


@functools.lru_cache(maxsize=None)
def _installed_as(path: str, top: str) -> Optional[str]:
    """What tells of it."""
    parts = path.split(os.sep)
    where = [i for i, part in enumerate(parts) if part in _INSTALLED]
    if not where:
        return None
    site = os.sep.join(parts[: where[-1] + 1])
    own = _distributions(site).get(_normal(top))
    if own is not None and "/".join(parts[where[-1] + 1:]) in _recorded(own):
        return own
    candidates = [*([own] if own else []), *(p for p in _packages(site).get(_normal(top), ()) if p != own)]
    file = "/".join(parts[where[-1] + 1:])
    return next((c for c in candidates if file in _recorded(c)), None) or (candidates[0] if candidates else None)


def _title_of(found: Optional[str], top: str) -> str:
    """Of a package with parts of several distributions each has its own."""
    if found is None or found == _distributions(os.path.dirname(found)).get(_normal(top)):
        return f"{top} as installed"
    site = os.path.dirname(found)
    alone = len(_packages(site).get(_normal(top), ())) <= 1
    return f"{top if alone else os.path.basename(found).partition('-')[0]} as installed"


# Also with an extra, if that is installed: perhaps for its sake.
_REQUIRES = re.compile(r"^Requires-Dist:[ \t]*([\w.-]+)", re.MULTILINE)


def _find_distribution(name: str, site: str) -> Optional[str]:
    """Beside that of whom it needs, or in another directory in which things are installed."""
    for place in [site, *(p for p in sys.path if os.path.basename(p) in _INSTALLED and p != site)]:
        found = _distributions(place).get(name)
        if found is not None:
            return found
    return None


@functools.lru_cache(maxsize=None)
def _required_by(found: str) -> Tuple[str, ...]:
    """What is installed that it says it needs."""
    for name in ("METADATA", "PKG-INFO"):
        try:
            with open(os.path.join(found, name), encoding="utf-8", errors="replace") as f:
                head = f.read().partition("\n\n")[0]
        except OSError:
            continue
        names = sorted({_normal(n) for n in [*_REQUIRES.findall(head), *_required_by_egg(found)]})
        return tuple(path for n in names for path in [_find_distribution(n, os.path.dirname(found))] if path is not None)
    return ()


def _required_by_egg(found: str) -> List[str]:
    try:
        with open(os.path.join(found, "requires.txt"), encoding="utf-8", errors="replace") as f:
            lines = f.read().partition("\n[")[0].split("\n")
    except OSError:
        return []
    return [word.group() for line in lines for word in [re.match(r"[\w.-]+", line.strip())] if word is not None]


@functools.lru_cache(maxsize=None)
def _version_of(found: str) -> Optional[str]:
    """The same on each machine that has the same installed: what is compiled there has no digest, and what lies outside is for its paths."""
    try:
        with open(os.path.join(found, "RECORD"), "rb") as f:
            lines = sorted(line for line in f.read().splitlines() if b",sha256=" in line and not line.startswith(b".."))
    except OSError:
        lines = []
    if lines:
        return f"{os.path.basename(found)} {hashlib.blake2b(bytes([10]).join(lines), digest_size=12).hexdigest()}"
    for path in *(os.path.join(found, name) for name in ("METADATA", "PKG-INFO", "RECORD")), found:
        try:
            status = os.stat(path)
            return f"{os.path.basename(found)} {status.st_size} {status.st_mtime_ns}"
        except OSError:
            pass
    return None


def is_project_function(function: Callable[..., Any]) -> bool:
    code = getattr(function, "__code__", None)
    return code is None or is_project(os.path.realpath(code.co_filename))


_trees: Dict[Tuple[str, int, int], ast.Module] = {}


def tree_of(path: str) -> ast.Module:
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


def _stands_alone(node: ast.AST, is_test_file: bool) -> bool:
    """A test or another fixture: nothing else in the module depends on what it says, unless it names it."""
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return (is_test_file and node.name.startswith("test")) or _is_fixture(node)
    return isinstance(node, ast.ClassDef) and is_test_file and node.name.startswith("Test")


def _first_line(node: Any) -> int:
    return node.decorator_list[0].lineno if node.decorator_list else node.lineno


def _plain(value: Any) -> str:
    """A word for a value that is the same in every process."""
    return fingerprint(value) or str(getattr(value, "__qualname__", type(value).__qualname__))


def _dump(node: ast.AST) -> str:
    return ast.dump(node, annotate_fields=False)


def _title(node: ast.AST) -> str:
    """What it defines, or is."""
    targets = getattr(node, "targets", None) or [t for t in [getattr(node, "target", None)] if t is not None]
    return getattr(node, "name", None) or ", ".join(ast.unparse(t) for t in targets) or type(node).__name__


def _names_in(nodes: Iterable[ast.AST]) -> Set[str]:
    """Names that mean something of the module: a function's parameters are its own, and of a fixture they are dependencies."""
    names: Set[str] = set()
    for node in nodes:
        own = {n.id for n in ast.walk(node) if isinstance(n, ast.Name)}
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            own -= {a.arg for a in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]}
            # What stands beside them is the module's, whatever they are called.
            beside = [*node.decorator_list, *node.args.defaults, *(d for d in node.args.kw_defaults if d is not None)]
            own |= {n.id for b in beside for n in ast.walk(b) if isinstance(n, ast.Name)}
        names |= own
    return names


def _own_nodes(tree: ast.Module, function: Callable[..., Any]) -> List[ast.AST]:
    """The function, and of a method the whole class."""
    def holds(node: ast.AST) -> bool:
        return any(isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef)) and n.name == function.__name__ and
                   _first_line(n) == function.__code__.co_firstlineno for n in ast.walk(node))

    return [node for node in tree.body if holds(node)]


def _relevant(tree: ast.Module, own: List[ast.AST], is_test_file: bool) -> List[ast.AST]:
    """What these nodes could use of their module: everything but tests and other fixtures, and those too if they are named."""
    chosen = own + [n for n in tree.body if n not in own and not _stands_alone(n, is_test_file)]
    left = [n for n in tree.body if n not in chosen]
    while True:
        names = _names_in(chosen)
        more = [n for n in left if getattr(n, "name", None) in names]
        if not more:
            return chosen
        chosen += more
        left = [n for n in left if n not in more]


_BY_NAME = ("import_module", "__import__", "importorskip")


def _named(node: ast.AST) -> Optional[str]:
    """The module that a call imports by its name, or that sys.modules is asked for."""
    if isinstance(node, ast.Call) and node.args:
        called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        name = node.args[0] if called in _BY_NAME else None
    else:
        is_modules = isinstance(node, ast.Subscript) and isinstance(node.value, ast.Attribute) and node.value.attr == "modules"
        name = node.slice if is_modules else None  # type: ignore[attr-defined]
    value = getattr(name, "value", None)
    return value if isinstance(value, str) else None


def _candidates(nodes: Iterable[ast.AST], module: str, package: str, names: Optional[Set[str]]) -> Set[str]:
    """Names of modules that the nodes import: at the top of a module those whose names are used (None: all)."""
    found: Set[str] = set()
    called: Dict[str, str] = {}
    nodes = list(nodes)
    for top in nodes:
        for node in ast.walk(top):
            # Inside a function it is for that function.
            wanted = names if node is top else None
            if isinstance(node, ast.Import):
                used = [a for a in node.names if wanted is None or (a.asname or a.name.split(".")[0]) in wanted]
                found |= {a.name for a in used}
                called.update({a.asname or a.name.split(".")[0]: a.name if a.asname else a.name.split(".")[0] for a in used})
            elif isinstance(node, ast.ImportFrom):
                base = "." * node.level + (node.module or "")
                try:
                    base = importlib.util.resolve_name(base, package) if node.level else base
                except (ImportError, ValueError):
                    continue
                names_of = [a for a in node.names if wanted is None or a.name == "*" or (a.asname or a.name) in wanted]
                if names_of:
                    found |= _imported_from(base, [a.name for a in names_of], package)
                    called.update({a.asname or a.name: f"{base}.{a.name}" for a in names_of})
            else:
                name = _named(node)
                if name is not None:
                    found.add(absolute(name, package))
    return found | _parts_of_packages(nodes, {name: whole for name, whole in called.items() if _is_package(whole)})


def _parts_of_packages(nodes: Iterable[ast.AST], packages: Dict[str, str]) -> Set[str]:
    """`pkg.part`, which somebody else may have imported; pkg by the names that it has here."""
    found = set()
    for top in nodes:
        for node in ast.walk(top) if packages else ():
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in packages:
                found.add(f"{packages[node.value.id]}.{node.attr}")
    return found


@functools.lru_cache(maxsize=None)
def _registering(path: str, package: str) -> Set[str]:
    """Modules that are imported and not used under any name: for what their import does."""
    tree = tree_of(path)
    used, found = _names_in(tree.body), set()
    for node in tree.body:
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names if (a.asname or a.name.split(".")[0]) not in used}
        elif isinstance(node, ast.ImportFrom):
            base = absolute("." * node.level + (node.module or ""), package)
            # What is no module is for whoever imports it from here.
            inner = {f"{base}.{a.name}" for a in node.names if (a.asname or a.name) not in used}
            found |= {name for name in inner if _file_of(name) is not None}
    paths = {name: _file_of(name) for name in found}
    return {name for name, path in paths.items() if path is not None and is_project(path) and _does_something(path)}


def _does_something(path: str) -> bool:
    """When it is imported, and elsewhere: a call, a decorator, a class of others, an import of another module that may."""
    try:
        body = tree_of(path).body
    except (OSError, SyntaxError, ValueError):
        return True
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            if node.decorator_list:
                return True
        elif isinstance(node, ast.ClassDef):
            if node.decorator_list or node.bases or node.keywords:
                return True
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            pass
        elif isinstance(node, (ast.Assign, ast.AnnAssign)):
            targets = getattr(node, "targets", None) or [getattr(node, "target")]
            if not all(isinstance(t, ast.Name) for t in targets) or any(isinstance(n, ast.Call) for n in ast.walk(node)):
                return True
        else:
            return True
    return False


def absolute(name: str, package: str) -> str:
    try:
        return importlib.util.resolve_name(name, package) if name.startswith(".") else name
    except (ImportError, ValueError):
        return name


def _by_other_finders(name: str) -> Any:
    """Packages that are installed as links to where they are written have finders of their own."""
    for finder in sys.meta_path:
        try:
            spec = finder.find_spec(name, None) if hasattr(finder, "find_spec") else None
        except Exception:
            spec = None
        if spec is not None:
            return spec
    return None


@functools.lru_cache(maxsize=None)
def _file_of(name: str) -> Optional[str]:
    """The source file of a module; None for Python's own, and for names that are no modules.  Nothing is imported for it."""
    path = getattr(sys.modules.get(name), "__file__", None)
    if path is None:
        parts = name.split(".")
        where: Optional[Sequence[str]] = None
        if parts[0] in getattr(sys, "stdlib_module_names", ()):
            return None
        for k in range(len(parts)):
            try:
                spec = PathFinder.find_spec(".".join(parts[: k + 1]), where) or (_by_other_finders(parts[0]) if k == 0 else None)
            except (ImportError, AttributeError, ValueError):
                return None
            if spec is None or (spec.origin and is_ours(os.path.realpath(spec.origin))):
                return None
            where, path = spec.submodule_search_locations, spec.origin
            if where is None and k + 1 < len(parts):
                return None
    if not path or not path.endswith((".py", *EXTENSION_SUFFIXES)):
        return None
    path = os.path.realpath(path)
    return None if is_ours(path) else path


def forget() -> None:
    """A new session may find other files."""
    _file_of.cache_clear()
    _distributions.cache_clear()
    _packages.cache_clear()
    _recorded.cache_clear()
    _installed_as.cache_clear()
    _required_by.cache_clear()
    _version_of.cache_clear()
    _reached.cache_clear()
    _registering.cache_clear()


# Of what is reached through imports the bytes count, and its own imports are found without parsing it: there may be thousands.
_NAME = rb"[.\w\x80-\xff]+"
_IMPORT = re.compile(rb"(?:^|[;:])[ \t]*(?:from[ \t]+(" + _NAME + rb")[ \t]+import[ \t]*(\((?:[^)#]|#[^\n]*\n)*\)|[^\n;#]+)|import[ \t]+([^\n;#]+))", re.MULTILINE)
_COMMENT = re.compile(rb"#[^\n]*")

# With a part that is computed, the beginning of a name.
_IMPORT_BY_NAME = re.compile(rb"(?:import_module|__import__|importorskip)\([ \t]*[\"'](" + _NAME + rb")[\"'][ \t]*([,)]?)")
_IMPORT_BY_FORMAT = re.compile(rb"(?:import_module|__import__|importorskip)\([ \t]*[fF][\"'](" + _NAME + rb")\{")
# What makes modules of a package known that no import names.
_FINDS_OWN = re.compile(rb"\b(?:iter_modules|walk_packages)\(|^def __getattr__\(", re.MULTILINE)
_ALL = re.compile(rb"^__all__[^\n=]*\+?=\s*([\[(][^\])]*[\])])", re.MULTILINE)
_STRING = re.compile(rb"[\"'](" + _NAME + rb")[\"']")


def _text(name: bytes) -> str:
    return name.decode(errors="replace")


def _modules_in(package: str) -> Set[str]:
    """All of a package of the project, by their names."""
    path = _file_of(package)
    if path is None or os.path.basename(path) != "__init__.py" or not is_project(path):
        return set()
    try:
        names = os.listdir(os.path.dirname(path))
    except OSError:
        return set()
    return {f"{package}.{n.partition('.')[0]}" for n in names if n.endswith((".py", *EXTENSION_SUFFIXES)) and n != "__init__.py"}


def _offered_by(package: str) -> Set[str]:
    """What `from package import *` may import."""
    path = _file_of(package)
    try:
        with open(path or "", "rb") as f:
            return {f"{package}.{_text(n)}" for listed in _ALL.findall(f.read()) for n in _STRING.findall(listed)}
    except OSError:
        return set()


def _named_in(source: bytes, package: str) -> Set[str]:
    """By calls."""
    found = set()
    for name, end in _IMPORT_BY_NAME.findall(source):
        whole = absolute(_text(name), package)
        found |= {whole} if end else _modules_in(whole.rpartition(".")[0])
    for name in _IMPORT_BY_FORMAT.findall(source):
        found |= _modules_in(absolute(_text(name), package).rpartition(".")[0])
    return found


def _imported_from(base: str, names: List[str], package: str) -> Set[str]:
    try:
        start = importlib.util.resolve_name(base, package) if base.startswith(".") else base
    except (ImportError, ValueError):
        return set()
    found = {start, *(f"{start}.{n}" for n in names if n != "*")}
    return found | _offered_by(start) if "*" in names else found


@functools.lru_cache(maxsize=None)
def _reached(path: str, name: str) -> Tuple[bytes, Tuple[str, ...]]:
    """(digest of the file, names of modules that it may import)."""
    package = name if os.path.basename(path) == "__init__.py" else name.rpartition(".")[0]
    with open(path, "rb") as f:
        source = f.read()
    digest = hashlib.blake2b(source, digest_size=12).digest()
    if not path.endswith(".py"):
        return digest, ()
    source = source.replace(b"\r\n", b"\n").replace(b"\\\n", b" ")
    found = _named_in(source, package)
    if package == name and _FINDS_OWN.search(source):
        found |= _modules_in(package)
    for base, names, plain in _IMPORT.findall(source):
        words = [w.split() for w in _COMMENT.sub(b"", names or plain).strip(b"()").split(b",")]
        listed = [_text(w[0]) for w in words if w]
        if not plain:
            found |= _imported_from(_text(base), listed, package)
            continue
        found |= set(listed)
        # `import pkg`, and pkg.part of it, which somebody else has imported.
        for word in filter(None, words):
            called = _text(word[-1]) if len(word) > 1 else _text(word[0]).partition(".")[0]
            whole = _text(word[0]) if len(word) > 1 else called
            if _is_package(whole):
                parts = re.findall(rb"\b" + re.escape(called.encode()) + rb"\.([\w\x80-\xff]+)", source)
                found |= {f"{whole}.{_text(part)}" for part in set(parts)}
    return digest, tuple(sorted(found))


def _is_package(name: str) -> bool:
    path = _file_of(name)
    return path is not None and os.path.basename(path) == "__init__.py" and is_project(path)


def _follow_required(found: Optional[str], seen: Dict[str, bytes]) -> bool:
    """What an installed package needs, and what that needs: another version of these may give other results.  False: it does not say."""
    left = list(_required_by(found)) if found is not None else []
    says = bool(left)
    while left:
        one = left.pop()
        title = f"{os.path.basename(one).partition('-')[0]} as installed"
        version = _version_of(one)
        if title not in seen and version is not None:
            seen[title] = version.encode()
            left += _required_by(one)
    return says


def _imports_beside(path: str, name: str) -> List[str]:
    """Where a package does not say what it needs: other packages that this file of it imports."""
    top = name.partition(".")[0]
    try:
        return [n for n in _reached(path, name)[1] if n.partition(".")[0] != top]
    except OSError:
        return []


def _follow(names: Iterable[str], seen: Dict[str, bytes]) -> None:
    """All of the project's own modules that are reached, and the digests of their files."""
    left, looked = sorted(names), set()
    while left:
        name = left.pop()
        path = _file_of(name)
        if path is None or path in seen or path in looked:
            continue
        looked.add(path)
        # Of what was installed its version counts; what has none is looked through like one's own.
        top = name.partition(".")[0]
        installed = _distribution_of(path, top)
        if installed is not None:
            seen[_title_of(_installed_as(path, top), top)] = installed.encode()
            # Of each file that is reached: in which order is not said.
            left += [] if _follow_required(_installed_as(path, top), seen) else _imports_beside(path, name)
            continue
        try:
            seen[path], more = _reached(path, name)
        except OSError:
            seen[path], more = b"unreadable", ()
        left += more
        # A package is run before what is in it.
        if "." in name:
            left.append(name.rpartition(".")[0])


def attributes_of(cls: Any) -> str:
    """What the class of a fixture and its bases say beside their functions: the fixture gets it by `self`."""
    parts = []
    for c in getattr(cls, "__mro__", ()):
        try:
            body = ast.parse(textwrap.dedent(inspect.getsource(c))).body[0].body  # type: ignore[attr-defined]
        except (OSError, TypeError, SyntaxError, IndexError, AttributeError):
            continue
        parts += [_dump(n) for n in body if isinstance(n, (ast.Assign, ast.AnnAssign, ast.AugAssign))]
    return "\n".join(parts)


def things_in(value: Any) -> List[Any]:
    """Whose code may count that is in a value: functions, classes and modules."""
    found = {id(thing): thing for one in _parts.parts_in(value) if type(one) not in PLAIN for thing in [_parts.code_of(one)]}
    return [thing for thing in found.values() if not (isinstance(thing, type) and thing.__module__ == "builtins") and _parts.is_hashable(thing)]


class Parts:
    """What a version is made of: (what it is, its bytes), in an order that is the same in every process."""

    def __init__(self, function: Any, root: str, methods: Sequence[Any] = (), **settings: Any):
        self.root = root
        self.all: List[Tuple[str, bytes]] = []
        self._functions: List[Any] = []
        self._own: Set[str] = set()
        seen: Dict[str, bytes] = {}
        whole = isinstance(function, (type, types.ModuleType))
        if whole:
            self._add_thing(function, seen)
        while not whole:
            if isinstance(function, types.FunctionType):
                self._add_function(function, seen)
            inner = getattr(function, "__wrapped__", None)
            if inner is None:
                break
            function = inner
        for method in methods:
            self._add_function(method, seen)
        # By that its values are found when they are loaded.
        self._add("the module it is in", str(getattr(function, "__module__", "")))
        for name, value in settings.items():
            self._add(f"setting {name}", _plain(value))
        self.files: Set[str] = {path for path in seen if os.path.isabs(path)} | self._own
        # Of its own module it was said above what counts.
        for path in sorted(set(seen) - self._own):
            what = f"module {os.path.relpath(path, root)}" if os.path.isabs(path) else f"package {path}"
            self.all.append((what, seen[path]))

    def _add(self, what: str, text: str) -> None:
        self.all.append((what, text.encode(errors="surrogatepass")))

    def _add_nodes(self, path: str, module: str, own: List[ast.AST], seen: Dict[str, bytes]) -> None:
        """Of a file, with what they could use."""
        name = os.path.basename(path)
        nodes = _relevant(tree_of(path), own, name.startswith("test_") or name.endswith("_test.py"))
        for node in nodes:
            self._add(f"source {os.path.relpath(path, self.root)}:{getattr(node, 'lineno', 0)} {_title(node)}", _dump(node))
        package = getattr(sys.modules.get(module), "__package__", None) or ""
        _follow(_candidates(nodes, module, package, _names_in(nodes)) | _registering(path, package), seen)

    def _add_value(self, name: str, value: Any, f: Any, seen: Dict[str, bytes]) -> None:
        if not isinstance(value, types.FunctionType):
            self._add(f"value {name} of {f.__name__}", _plain(value))
        for thing in things_in(value):
            if thing is not f:
                self._add_thing(thing, seen)

    def _add_installed(self, path: str, top: str, seen: Dict[str, bytes]) -> None:
        """The version of what it came with, and of what that says that it needs."""
        found = _installed_as(path, top)
        version = _distribution_of(path, top)
        if found is not None and version is not None:
            seen[_title_of(found, top)] = version.encode()
            _follow_required(found, seen)

    def _add_thing(self, thing: Any, seen: Dict[str, bytes]) -> None:
        """A function, class or module: of what is not the project's its distribution."""
        path = _parts.file_of(thing)
        if path is None or is_ours(path) or any(thing is known for known in self._functions):
            return
        if isinstance(thing, types.FunctionType) and is_project(path):
            self._add_function(thing, seen)
            return
        self._functions.append(thing)
        module = str(thing.__name__ if isinstance(thing, types.ModuleType) else thing.__module__)
        if not is_project(path):
            self._add_installed(path, module.partition(".")[0], seen)
            return
        if not isinstance(thing, type):
            _follow([module], seen)
            return
        name = thing.__qualname__.partition(".")[0]
        try:
            body = tree_of(path).body
            self._add_nodes(path, module, [n for n in body if getattr(n, "name", None) == name] or list(body), seen)
            self._own.add(path)
        except (OSError, SyntaxError, ValueError):
            _follow([module], seen)

    def _add_function(self, f: Callable[..., Any], seen: Dict[str, bytes]) -> None:
        if f in self._functions:
            return
        self._functions.append(f)
        path = os.path.realpath(f.__code__.co_filename)
        module = f.__module__ or ""
        try:
            self._add_nodes(path, module, _own_nodes(tree_of(path), f), seen)
        except (OSError, SyntaxError, ValueError):
            # No source to read: the code itself.
            self.all.append((f"code of {f.__name__}", marshal.dumps(f.__code__)))
        for cell_name, cell in zip(f.__code__.co_freevars, f.__closure__ or ()):
            try:
                value = cell.cell_contents
            except ValueError:
                continue  # not set yet
            self._add_value(cell_name, value, f, seen)
        for value in [*(f.__defaults__ or ()), *(f.__kwdefaults__ or {}).values()]:
            self._add_value("as a default", value, f, seen)
        self._own.add(path)


def without_line(what: str) -> str:
    """Where a line stands does not count."""
    return re.sub(r":\d+ ", " ", what)


def files_of(function: Callable[..., Any], root: str) -> Set[str]:
    """Of which its version tells when they have changed."""
    return Parts(function, root).files


def version(function: Callable[..., Any], root: str, methods: Sequence[Any] = (), **settings: Any) -> str:
    """A word that changes when what the fixture builds may have changed."""
    digest = hashlib.blake2b(digest_size=12)
    for what, data in Parts(function, root, methods, **settings).all:
        digest.update(without_line(what).encode(errors="surrogatepass") + b"\0" + data + b"\0")
    return digest.hexdigest()


_ENVIRONMENT = ("environ", "environb", "getenv", "getenvb")


def _meanings(variables: Dict[str, Any], nodes: Iterable[ast.AST]) -> Dict[str, str]:
    """Names that stand for the module os, or for what it has of the environment: of the module, and imported inside."""
    meant = {"os": os, **{f"os.{name}": getattr(os, name) for name in _ENVIRONMENT}}
    known = {name: what for name, value in variables.items() for what, thing in meant.items() if value is thing}
    for node in nodes:
        for n in ast.walk(node):
            if isinstance(n, ast.Import):
                known.update({a.asname or a.name: "os" for a in n.names if a.name == "os"})
            elif isinstance(n, ast.ImportFrom) and n.module == "os":
                known.update({a.asname or a.name: f"os.{a.name}" for a in n.names if a.name in _ENVIRONMENT})
    return known


def _outside(n: ast.AST, known: Dict[str, str]) -> Optional[str]:
    if isinstance(n, ast.Name):
        return f"the environment ({n.id})" if known.get(n.id, "os") != "os" else None
    if not isinstance(n, ast.Attribute):
        return None
    if n.attr in ("getoption", "getini"):
        return f"an option of the run ({ast.unparse(n)})"
    holder = n.value.attr if isinstance(n.value, ast.Attribute) else getattr(n.value, "id", "")
    if n.attr == "option" and holder in ("config", "pytestconfig"):
        return f"an option of the run ({ast.unparse(n)})"
    return f"the environment ({ast.unparse(n)})" if known.get(holder) == "os" and n.attr in _ENVIRONMENT else None


def reads_outside(function: Callable[..., Any]) -> Optional[str]:
    """What a fixture asks for that its version does not know: the environment, or options of the run."""
    try:
        path = os.path.realpath(function.__code__.co_filename)
        nodes = _own_nodes(tree_of(path), function)
    except (OSError, SyntaxError, ValueError):
        return None
    return next((what for node in nodes for what in [looks_outside(function.__globals__, node)] if what is not None), None)


def _is_written(n: ast.AST) -> Optional[ast.AST]:
    """The environment, where something is put into it: that is not read."""
    if isinstance(n, ast.Subscript) and isinstance(n.ctx, (ast.Store, ast.Del)):
        return n.value
    if isinstance(n, ast.Call) and isinstance(n.func, ast.Attribute) and n.func.attr in ("update", "clear"):
        return n.func.value
    return None


def looks_outside(variables: Dict[str, Any], node: ast.AST) -> Optional[str]:
    """The same of a part of a module with these variables."""
    known = _meanings(variables, [node])
    written = [w for n in ast.walk(node) for w in [_is_written(n)] if w is not None]
    inside = {id(n) for w in written for n in ast.walk(w)}
    found = [_outside(n, known) for n in ast.walk(node) if id(n) not in inside]
    return next((what for what in found if what is not None), None)


_LOOK_FOR_MODULES = (*_BY_NAME, "iter_modules", "walk_packages", "iter_entry_points", "entry_points")


def imports_computed(function: Callable[..., Any]) -> bool:
    """Modules whose names only its build knows."""
    try:
        nodes = _own_nodes(tree_of(os.path.realpath(function.__code__.co_filename)), function)
    except (OSError, SyntaxError, ValueError):
        return False
    calls = [n for node in nodes for n in ast.walk(node) if isinstance(n, ast.Call)]
    names = [n.func.attr if isinstance(n.func, ast.Attribute) else getattr(n.func, "id", "") for n in calls]
    return any(name in _LOOK_FOR_MODULES and _named(call) is None for name, call in zip(names, calls))


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
            moved = ast.Try(body=inner or [ast.Pass()], handlers=statement.handlers, orelse=statement.orelse,
                            finalbody=statement.finalbody)
            return ([moved] if moved.finalbody or moved.orelse or inner else []) + rest
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
    if hasattr(function, "__wrapped__"):
        raise Unmovable("it is decorated by something else, too")
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    except (OSError, SyntaxError, IndentationError) as e:
        raise Unmovable(f"its source cannot be read: {e}") from None
    if not isinstance(tree, ast.FunctionDef):
        raise Unmovable("it is no plain function")
    inside = [n for statement in tree.body for n in _walk_here(statement)]
    if sum(isinstance(n, (ast.Yield, ast.YieldFrom)) for n in inside) != 1:
        raise Unmovable("it yields in more than one place")
    if any(isinstance(n, ast.Global) for n in inside):
        raise Unmovable("it sets a global variable")
    if any(isinstance(n, ast.Nonlocal) for n in inside):
        raise Unmovable("it sets a variable of the function around it")
    rest = _body_after_yield(tree.body)
    if not rest:
        return None
    code = function.__code__
    local = set(code.co_varnames) | set(code.co_cellvars) | set(code.co_freevars)
    after = [n for s in rest for n in ast.walk(s)]
    private = [n.attr for n in after if isinstance(n, ast.Attribute) and n.attr.startswith("__") and not n.attr.endswith("__")]
    if "__class__" in local or private:
        raise Unmovable("it uses what only code inside its class can: super() or a private name")
    looking = sorted({n.func.id for n in after if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)} & {"locals", "eval", "exec", "vars"})
    if looking:
        raise Unmovable(f"it uses {looking[0]}(), which sees the names around it")
    used = {n.id for n in after if isinstance(n, ast.Name)} | {name for n in after if isinstance(n, ast.Nonlocal) for name in n.names}
    needs = tuple(sorted(used & local))
    # What was not set where it was built is not set here either.
    unset = [f"if {n} is _fixd_unset: del {n}" for n in needs]
    moved = ast.FunctionDef(name="second_half", body=ast.parse("\n".join(unset)).body + rest, decorator_list=[], args=ast.arguments(
        posonlyargs=[], args=[ast.arg(arg=n) for n in needs], kwonlyargs=[], kw_defaults=[],
        defaults=[ast.Name("_fixd_unset", ast.Load()) for _ in needs]), lineno=1, col_offset=0)
    return SecondHalf(ast.unparse(ast.fix_missing_locations(ast.Module(body=[moved], type_ignores=[]))), needs)


def variables_of(half: SecondHalf, function: Callable[..., Any]) -> Dict[str, Any]:
    """What it uses of its module that may be changed."""
    used = {n.id for n in ast.walk(ast.parse(half.source)) if isinstance(n, ast.Name)} - set(half.needs)
    constant = (types.FunctionType, types.BuiltinFunctionType, types.ModuleType, type, *PLAIN)
    return {name: function.__globals__[name] for name in used if name in function.__globals__ and not isinstance(function.__globals__[name], constant)}


def pickled_locals(half: SecondHalf, frame_locals: Dict[str, Any]) -> bytes:
    """The values that the second half needs and has by now; modules by their names."""
    kept: Dict[str, Any] = {}
    for name in half.needs:
        if name not in frame_locals:
            continue
        value = frame_locals[name]
        if isinstance(value, types.ModuleType):
            kept[name] = ("module", value.__name__)
            continue
        try:
            pickle.dumps(value)
        except Exception as e:
            raise Unmovable(f"it needs '{name}' (a {type(value).__name__}): {e}") from None
        kept[name] = ("value", value)
    return pickle.dumps(kept)


def unpickled_locals(data: bytes) -> Dict[str, Any]:
    kept = pickle.loads(data)
    return {name: importlib.import_module(value) if kind == "module" else value for name, (kind, value) in kept.items()}
