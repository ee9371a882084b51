# SPDX-License-Identifier: MIT
"""Files of the project that a build reads, as far as Python tells, and that neither watch= nor the version of the fixture knows.

They are remembered with what was built, so that a process that finds them changed builds it again. What programs read that it starts is
not seen, nor what libraries of C open themselves.
"""

from __future__ import annotations

import contextlib
import glob
import importlib.util
import os
import stat
import sys
import time
from importlib.machinery import EXTENSION_SUFFIXES
from typing import Any, Dict, Iterable, Iterator, List, Optional, Sequence, Set, Tuple

from . import _variables

_NOT_OURS = ("__pycache__", "site-packages", "dist-packages", "node_modules")
REMEMBERED_MAX = 1000

_noted: Optional[Set[Tuple[str, bool]]] = None  # (path, only read)
_by_module: Dict[str, Set[str]] = {}  # files that modules have read while they were imported, by that of the module
_is_listening = _are_imported = False


def _module_at_work() -> Optional[str]:
    """The file of the module of the project that is being imported: by its own code, or by what that has called."""
    frame: Any = sys._getframe(2)
    while frame is not None:
        if frame.f_code.co_name == "<module>" and _variables.is_project_file(frame.f_code.co_filename):
            return os.path.realpath(frame.f_code.co_filename)
        frame = frame.f_back
    return None


def _listen(event: str, arguments: Tuple[Any, ...]) -> None:
    if event not in ("open", "ctypes.dlopen") or (_noted is None and _are_imported):
        return
    try:
        if event == "ctypes.dlopen":
            arguments = (arguments[0], "r", 0)
        path, mode, flags = arguments
        if not isinstance(path, (str, bytes)):
            return
        path = os.fsdecode(path)
        reads = mode.startswith("r") and "+" not in mode if isinstance(mode, str) else flags & os.O_ACCMODE == os.O_RDONLY
        if _noted is not None:
            _noted.add((os.path.abspath(path), reads))
        elif reads and not path.endswith((".py", ".pyc")):
            module = _module_at_work()
            if module is not None:
                _by_module.setdefault(module, set()).add(os.path.abspath(path))
    except Exception:
        pass  # it would be that of whoever opens something


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
        self.noted: Set[Tuple[str, bool]] = set()
        self.at_import: Set[str] = set()  # of what unknown() gives: not by the build itself

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        global _noted
        begin()
        before, _noted = _noted, self.noted
        try:
            yield
        finally:
            _noted = before

    def unknown(self, root: str, watch: Iterable[str], known: Set[str], modules: bool) -> List[str]:
        """Those that were there before, relative to the root directory; `known`: paths that the version has; `modules`: it may have got any
        module that is loaded, without opening anything."""
        written = {path for path, reads in self.noted if not reads}
        read = {_source_of(path) for path, reads in self.noted if reads and path not in written} | self._loaded()
        at_import = {path for module in known for path in _by_module.get(module, ())} - read
        self.at_import = {os.path.relpath(path, root) for path in at_import}
        read |= at_import
        loaded = {str(getattr(module, "__file__", "")) for module in list(sys.modules.values())} if modules else set()
        read |= {path for path in loaded if not _is_test(os.path.basename(path))}
        # By a link it is another one when that leads elsewhere.
        found = sorted(path if path.startswith(root + os.sep) else os.path.realpath(path) for path in read)
        found = [path for path in found if self._is_unknown(os.path.realpath(path), root, known)]
        if not found:
            return []
        watched = {os.path.realpath(p) for words in watch for p in glob.iglob(os.path.join(glob.escape(root), words), recursive=True)}
        watched |= {os.path.realpath(os.path.join(root, words)) for words in watch}
        return sorted({os.path.relpath(path, root) for path in found if not any(p in watched for p in _ways_to(os.path.realpath(path)))})

    def _is_unknown(self, path: str, root: str, known: Set[str]) -> bool:
        return path not in known and _is_of_project(path, root) and self._was_there(path)

    def _loaded(self) -> Set[str]:
        """Extension modules that it was the first to import: no file is opened for them in Python."""
        files = {str(getattr(sys.modules[name], "__file__", "")) for name in set(sys.modules) - self._modules}
        return {path for path in files if path.endswith(tuple(EXTENSION_SUFFIXES))}

    def _was_there(self, path: str) -> bool:
        try:
            status = os.stat(path)
        except OSError:
            return False
        return stat.S_ISREG(status.st_mode) and status.st_mtime < self.began


def _source_of(path: str) -> str:
    try:
        return importlib.util.source_from_cache(path) if path.endswith(".pyc") else path
    except ValueError:
        return path


def _is_of_project(path: str, root: str) -> bool:
    if not path.startswith(root + os.sep):
        return False
    return not any(part.startswith(".") or part in _NOT_OURS for part in path[len(root) + 1:].split(os.sep))


def _is_test(name: str) -> bool:
    return name.startswith("test_") or name.endswith("_test.py")


def _state_of(path: str) -> List[Any]:
    try:
        status, real = os.stat(path), os.path.realpath(path)
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns, *([real] if real != path else [])]


def remembered(files: Sequence[str], root: str) -> List[List[Any]]:
    return [[path, _state_of(os.path.join(root, path))] for path in files[:REMEMBERED_MAX]]


def difference(files: Iterable[Sequence[Any]], root: str) -> Optional[str]:
    """The first of what remembered() gave that is another one now."""
    return next((path for path, state in files if _state_of(os.path.join(root, path)) != state), None)


def _ways_to(path: str) -> Iterator[str]:
    while len(path) > 1:
        yield path
        path = os.path.dirname(path)
