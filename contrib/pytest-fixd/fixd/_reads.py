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
from typing import Any, Iterable, Iterator, List, Optional, Sequence, Set, Tuple

_NOT_OURS = ("__pycache__", "site-packages", "dist-packages", "node_modules")
REMEMBERED_MAX = 1000

_noted: Optional[Set[Tuple[str, bool]]] = None  # (path, only read)
_is_listening = False


def _listen(event: str, arguments: Tuple[Any, ...]) -> None:
    if event not in ("open", "ctypes.dlopen") or _noted is None:
        return
    try:
        if event == "ctypes.dlopen":
            arguments = (arguments[0], "r", 0)
        path, mode, flags = arguments
        if isinstance(path, (str, bytes)):
            reads = mode.startswith("r") and "+" not in mode if isinstance(mode, str) else flags & os.O_ACCMODE == os.O_RDONLY
            _noted.add((os.path.abspath(os.fsdecode(path)), reads))
    except Exception:
        pass  # it would be that of whoever opens something


class Reads:
    def __init__(self) -> None:
        self.began = time.time()
        self._modules = set(sys.modules)
        self.noted: Set[Tuple[str, bool]] = set()

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        global _noted, _is_listening
        if not _is_listening:
            _is_listening = True
            sys.addaudithook(_listen)
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
        loaded = {str(getattr(module, "__file__", "")) for module in list(sys.modules.values())} if modules else set()
        read |= {path for path in loaded if not _is_test(os.path.basename(path))}
        found = sorted({os.path.realpath(path) for path in read} - known)
        found = [path for path in found if _is_of_project(path, root) and self._was_there(path)]
        if not found:
            return []
        watched = {os.path.realpath(p) for words in watch for p in glob.iglob(os.path.join(glob.escape(root), words), recursive=True)}
        watched |= {os.path.realpath(os.path.join(root, words)) for words in watch}
        return [os.path.relpath(path, root) for path in found if not any(p in watched for p in _ways_to(path))]

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


def _state_of(path: str) -> List[int]:
    try:
        status = os.stat(path)
        return [status.st_size, status.st_mtime_ns]
    except OSError:
        return []


def remembered(files: Sequence[str], root: str) -> List[List[Any]]:
    return [[path, _state_of(os.path.join(root, path))] for path in files[:REMEMBERED_MAX]]


def difference(files: Iterable[Sequence[Any]], root: str) -> Optional[str]:
    """The first of what remembered() gave that is another one now."""
    return next((path for path, state in files if _state_of(os.path.join(root, path)) != state), None)


def _ways_to(path: str) -> Iterator[str]:
    while len(path) > 1:
        yield path
        path = os.path.dirname(path)
