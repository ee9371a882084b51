# SPDX-License-Identifier: MIT
"""Files of the project that a build reads, as far as Python tells, and that neither watch= nor the version of the fixture knows.

They are remembered with what was built, so that a process that finds them changed builds it again. What programs read that it starts is
not seen, nor what libraries of C open themselves.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import glob
import importlib.util
import itertools
import os
import stat
import sys
import time
import warnings
from collections import ChainMap
from importlib.machinery import EXTENSION_SUFFIXES
from types import MappingProxyType
from typing import Any, Dict, Iterable, Iterator, List, Mapping, Optional, Sequence, Set, Tuple

from . import _patterns, _variables

_NOT_OURS = ("__pycache__", "site-packages", "dist-packages", "node_modules", ".git", ".hg", ".svn", ".tox", ".nox", ".venv", ".eggs", ".cache", ".idea",
             ".hypothesis", ".ipynb_checkpoints")
# Of caches of tools: .pytest_cache and others, and what measures coverage.
_CACHES = ("_cache", ".coverage")
_TESTS = ("test", "tests", "testing")
# What stands in the directory of a project.
_OF_PROJECTS = ("pyproject.toml", "setup.py", "setup.cfg", "tox.ini", ".git", ".hg", "src")
REMEMBERED_MAX = 1000
SEARCHED_MAX = 1000  # files

# Who calls these is no module that is imported.
_NOT_OF_MODULES = ("_pytest.", "pluggy.", __package__ + ".")

_reading: Optional["Reads"] = None
_by_module: Dict[str, Set[str]] = {}  # files that modules have read while they were imported, by that of the module
_as_read: Dict[str, Any] = {}  # and how they were
_is_listening = _are_imported = False


def _module_at_work() -> Optional[str]:
    """The file of the module of the project that is being imported: by its own code, or by what that has called."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        name = str(frame.f_globals.get("__name__"))
        if name == "__main__" or name.startswith(_NOT_OF_MODULES):
            return None
        if frame.f_code.co_name == "<module>" and _variables.is_project_file(frame.f_code.co_filename):
            return os.path.realpath(frame.f_code.co_filename)
        frame = frame.f_back
    return None


def _is_import(frame: Any) -> bool:
    """By a statement, which the source of whoever has it tells, and not by somebody who executes a file."""
    while frame is not None and frame.f_code.co_filename.startswith("<frozen "):
        if frame.f_code.co_name in ("_load_unlocked", "_find_and_load"):
            return True
        frame = frame.f_back
    return False


def _listen(event: str, arguments: Tuple[Any, ...]) -> None:
    if event not in ("open", "ctypes.dlopen", "os.rename") or (_reading is None and _are_imported):
        return
    try:
        if event == "os.rename":
            if _reading is not None:
                _reading.note(os.path.abspath(os.fsdecode(arguments[1])), False)
            return
        if event == "ctypes.dlopen":
            arguments = (arguments[0], "r", 0)
        path, mode, flags = arguments
        if not isinstance(path, (str, bytes)):
            return
        path = os.fsdecode(path)
        is_relative = not os.path.isabs(path)
        reads = mode.startswith("r") and "+" not in mode if isinstance(mode, str) else flags & os.O_ACCMODE == os.O_RDONLY
        path = os.path.abspath(path)
        if _reading is not None:
            _reading.note(path, reads)
            if is_relative and reads:
                _reading.relative.add(path)
        # Those that import it later get what it has read, too.
        is_import = path.endswith((".py", ".pyc")) and _is_import(sys._getframe(1))
        module = _module_at_work() if reads and not is_import else None
        if module is not None:
            path = _source_of(path)
            _by_module.setdefault(module, set()).add(path)
            _as_read.setdefault(os.path.realpath(path), _looks(path))
    except Exception:
        pass  # it would be that of whoever opens something


def _knows_us(path: str) -> bool:
    """That file, or what it has pytest load."""
    try:
        with open(path, "rb") as f:
            text = f.read()
    except OSError:
        return False
    return b"fixd" in text or b"pytest_plugins" in text


def _files_of(paths: Iterable[str]) -> Iterator[str]:
    """All of Python's in these places."""
    for path in paths:
        if os.path.isfile(path):
            yield path
        for directory, below, files in os.walk(path):
            below[:] = [name for name in below if name not in _NOT_OURS and not name.startswith(".")]
            yield from (os.path.join(directory, name) for name in files if name.endswith(".py"))


def _imports_of(path: str, root: str) -> Iterator[str]:
    """Where modules may lie that a file imports: files and directories of the project."""
    try:
        with open(path, "rb") as f, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            nodes = list(ast.walk(ast.parse(f.read())))
    except (OSError, SyntaxError, ValueError):
        return
    here = os.path.dirname(path)
    places = {here, os.path.dirname(here), root, os.path.join(root, "src"), os.path.join(root, "lib"), *map(os.path.abspath, sys.path)}
    for node in nodes:
        names = [alias.name for alias in getattr(node, "names", ())]
        if isinstance(node, ast.ImportFrom):
            names = [node.module] if node.module else names
        elif not isinstance(node, ast.Import):
            continue
        level = getattr(node, "level", 0)
        own = [os.path.normpath(os.path.join(here, *[os.pardir] * (level - 1)))] if level else [p for p in places if p == root or p.startswith(root + os.sep)]
        for way in (os.path.join(place, name.partition(".")[0]) for place in own for name in names):
            yield from (path for path in (way, way + ".py") if os.path.exists(path))


def _is_wanted(config: Any) -> bool:
    """Does a file of this run know of us?  In doubt it does."""
    root, here = str(config.rootpath), str(config.invocation_params.dir)
    words = config.known_args_namespace.file_or_dir or [p for words in config.getini("testpaths") for p in glob.glob(os.path.join(root, words))] or [here]
    paths = {os.path.abspath(os.path.join(here, str(word).partition("::")[0])) for word in words}
    ways = {way for path in paths for way in _ways_to(path)} | {root}
    conftests = [os.path.join(way, "conftest.py") for way in ways]
    if not all(map(os.path.exists, paths)) or any(map(_knows_us, conftests)):
        return True
    files = list(itertools.islice(_files_of(paths), SEARCHED_MAX + 1))
    conftests += [path for path in files if os.path.basename(path) == "conftest.py"]
    modules = {module for path in conftests for module in _imports_of(path, root)}
    files += itertools.islice(_files_of(modules), SEARCHED_MAX + 1)
    return len(files) > SEARCHED_MAX or any(map(_knows_us, files))


def begin_if_wanted(config: Any) -> None:
    """An audit hook is called for much more than files, and stays: projects that share nothing need not bear it."""
    if not _is_listening and _is_wanted(config):
        begin()


def begin() -> None:
    """Before anything of the project is imported."""
    global _is_listening
    if not _is_listening:
        _is_listening = True
        sys.addaudithook(_listen)


def end_of_imports() -> None:
    """What is imported from here on is seen by those who build."""
    global _are_imported
    _are_imported = True


class Reads:
    def __init__(self) -> None:
        self.began = time.time()
        self._modules = set(sys.modules)
        self._noted: Set[Tuple[str, bool]] = set()  # (path, only read)
        self._as_read: Dict[str, Any] = {}
        self.relative: Set[str] = set()  # that were opened from the working directory
        self.as_read = ChainMap(self._as_read, _as_read)  # how files were when they were opened first, by their real paths
        self.at_import: Set[str] = set()  # of what unknown() gives: not by the build itself

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        global _reading
        begin()
        before, _reading = _reading, self
        try:
            yield
        finally:
            _reading = before

    def note(self, path: str, reads: bool) -> None:
        self._noted.add((path, reads))
        if reads:
            self._as_read.setdefault(os.path.realpath(path), _looks(path))

    def unknown(self, root: str, watch: Iterable[str], known: Set[str], modules: bool) -> List[str]:
        """Those that were there before, relative to the root directory; `known`: paths that the version has; `modules`: it may have got any
        module that is loaded, without opening anything."""
        written = {path for path, reads in self._noted if not reads}
        read = {_source_of(path) for path, reads in self._noted if reads and path not in written} | self._loaded()
        at_import = {path for module in known for path in _by_module.get(module, ())} - read - written
        self.at_import = {os.path.relpath(path, root) for path in at_import}
        read |= at_import
        loaded = {str(getattr(module, "__file__", "")) for module in list(sys.modules.values())} if modules else set()
        read |= {path for path in loaded if not _is_test(os.path.basename(path))}
        # By a link it is another one when that leads elsewhere.
        top = _top_of(root)
        found = sorted(path if path.startswith(top + os.sep) else os.path.realpath(path) for path in read)
        found = [path for path in found if self._is_unknown(os.path.realpath(path), root, known)]
        if not found:
            return []
        # Nobody looks through a link for what changes below, unless it is named itself.
        watched = {os.path.realpath(p) for pattern in _patterns.of(root, watch) for p in _patterns.named(pattern)}
        watched |= {os.path.realpath(os.path.join(root, words)) for words in watch}
        return sorted({os.path.relpath(path, root) for path in found if not any(p in watched for p in _ways_to(os.path.realpath(path)))})

    def _is_unknown(self, path: str, root: str, known: Set[str]) -> bool:
        return path not in known and _is_of_project(path, _top_of(root)) and self._was_there(path)

    def _loaded(self) -> Set[str]:
        """Extension modules that it was the first to import: no file is opened for them in Python."""
        files = {str(getattr(sys.modules[name], "__file__", "")) for name in set(sys.modules) - self._modules}
        return {path for path in files if path.endswith(tuple(EXTENSION_SUFFIXES))}

    def _was_there(self, path: str) -> bool:
        status = self.as_read.get(path) or _looks(path)
        # Its mtime may lie in the future.
        return status is not None and stat.S_ISREG(status.st_mode) and min(status.st_mtime, status.st_ctime) < self.began


def _source_of(path: str) -> str:
    try:
        return importlib.util.source_from_cache(path) if path.endswith(".pyc") else path
    except ValueError:
        return path


def _looks(path: str) -> Any:
    try:
        return os.stat(path)
    except OSError:
        return None


def _top_of(root: str) -> str:
    """Where the settings of pytest lie beside the tests, the project is what they are in."""
    above = os.path.dirname(root)
    if os.path.basename(root) in _TESTS and above != os.sep and any(os.path.exists(os.path.join(above, name)) for name in _OF_PROJECTS):
        return above
    return root


@functools.lru_cache(maxsize=None)
def _prefixes_in(top: str) -> List[str]:
    """Interpreters that lie in the project."""
    found = {os.path.realpath(prefix) for prefix in (sys.prefix, sys.base_prefix)}
    return [prefix + os.sep for prefix in found if prefix.startswith(top + os.sep)]


def _is_of_project(path: str, top: str) -> bool:
    if not path.startswith(top + os.sep) or any(path.startswith(prefix) for prefix in _prefixes_in(top)):
        return False
    parts = path[len(top) + 1:].split(os.sep)
    return not any(part in _NOT_OURS or part.startswith(".") and (part.endswith(_CACHES) or part.startswith(_CACHES)) for part in parts)


def _is_test(name: str) -> bool:
    return name.startswith("test_") or name.endswith("_test.py")


def _state_of(path: str, as_read: Mapping[str, Any] = MappingProxyType({})) -> List[Any]:
    path = os.path.normpath(path)
    real = os.path.realpath(path)
    status = as_read.get(real) or _looks(path)
    return [status.st_size, status.st_mtime_ns, status.st_ino, *([real] if real != path else [])] if status is not None else []


def remembered(files: Sequence[str], root: str, as_read: Mapping[str, Any]) -> List[List[Any]]:
    """How they were when they were read."""
    return [[path, _state_of(os.path.join(root, path), as_read)] for path in files[:REMEMBERED_MAX]]


def difference(files: Iterable[Sequence[Any]], root: str) -> Optional[str]:
    """The first of what remembered() gave that is another one now."""
    return next((path for path, state in files if _state_of(os.path.join(root, path)) != state), None)


def _ways_to(path: str) -> Iterator[str]:
    while len(path) > 1:
        yield path
        path = os.path.dirname(path)
