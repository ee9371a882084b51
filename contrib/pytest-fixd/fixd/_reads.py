# SPDX-License-Identifier: MIT
"""Files of the project that a build reads, as far as Python tells: who does not name them in watch= gets old values for long.

What programs read that it starts is not seen, nor what libraries of C open themselves.
"""

from __future__ import annotations

import contextlib
import glob
import os
import stat
import sys
import time
from typing import Any, Iterable, Iterator, List, Optional, Set, Tuple

_CODE = (".py", ".pyc", ".pyi", ".so", ".pyd")
_NOT_DATA = ("__pycache__", "site-packages", "dist-packages", "node_modules")

_noted: Optional[Set[Tuple[str, bool]]] = None  # (path, only read)
_is_listening = False


def _listen(event: str, arguments: Tuple[Any, ...]) -> None:
    if event != "open" or _noted is None:
        return
    try:
        path, mode, flags = arguments
        if isinstance(path, (str, bytes)):
            reads = mode.startswith("r") and "+" not in mode if isinstance(mode, str) else flags & os.O_ACCMODE == os.O_RDONLY
            _noted.add((os.path.abspath(os.fsdecode(path)), reads))
    except Exception:
        pass  # it would be that of whoever opens something


class Reads:
    def __init__(self) -> None:
        self.began = time.time()
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

    def unwatched(self, root: str, watch: Iterable[str]) -> List[str]:
        """Those that were there before, relative to the root directory."""
        written = {path for path, reads in self.noted if not reads}
        found = sorted({os.path.realpath(path) for path, reads in self.noted if reads and path not in written})
        found = [path for path in found if _is_data(path, root) and self._was_there(path)]
        if not found:
            return []
        watched = {os.path.realpath(p) for words in watch for p in glob.iglob(os.path.join(glob.escape(root), words), recursive=True)}
        watched |= {os.path.realpath(os.path.join(root, words)) for words in watch}
        return [os.path.relpath(path, root) for path in found if not any(p in watched for p in _ways_to(path))]

    def _was_there(self, path: str) -> bool:
        try:
            status = os.stat(path)
        except OSError:
            return False
        return stat.S_ISREG(status.st_mode) and status.st_mtime < self.began


def _is_data(path: str, root: str) -> bool:
    if not path.startswith(root + os.sep) or path.endswith(_CODE):
        return False
    return not any(part.startswith(".") or part in _NOT_DATA for part in path[len(root) + 1:].split(os.sep))


def _ways_to(path: str) -> Iterator[str]:
    while len(path) > 1:
        yield path
        path = os.path.dirname(path)
