# SPDX-License-Identifier: MIT
"""Directories that live as long as what was built in them: tmp_path_factory's own are gone after three more runs of pytest."""

from __future__ import annotations

import os
import pathlib
import shutil
import stat
import tempfile
import time
from typing import Iterable, List, Optional

from ._process import lives, process

DRAFT = ".fixd-draft"  # has the process that builds it
ABANDONED_S = 3 * 86400  # nobody has asked for it for so long: whoever was to remove it is gone


def _base() -> str:
    """Where they lie: of this user, and nobody else can write there."""
    where = os.path.join(os.environ.get("PYTEST_DEBUG_TEMPROOT") or tempfile.gettempdir(), f"fixd-pytest-of-{os.getuid()}")
    os.makedirs(where, mode=0o700, exist_ok=True)
    status = os.lstat(where)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise OSError(f"{where} belongs to somebody else, or others can write to it")
    return where


class Directories:
    """In the place of tmp_path_factory, for one build of a fixture."""

    def __init__(self) -> None:
        self.made: List[str] = []

    def getbasetemp(self) -> pathlib.Path:
        """Its parent is nobody else's either: what is to be shared by the workers of pytest-xdist is put there."""
        if not self.made:
            self.made.append(tempfile.mkdtemp(prefix="", dir=_base()))
            os.mkdir(os.path.join(self.made[0], "base"), 0o700)
            with open(os.path.join(self.made[0], DRAFT), "w") as f:
                f.write(process(os.getpid()))
        return pathlib.Path(self.made[0], "base")

    def mktemp(self, basename: str, numbered: bool = True) -> pathlib.Path:
        if os.path.normpath(basename) != basename or os.sep in basename:
            raise ValueError(f"{basename} is not a normalized and relative path")
        number = 0
        while True:
            path = self.getbasetemp() / (f"{basename}{number}" if numbered else basename)
            try:
                path.mkdir(mode=0o700)
                return path
            except FileExistsError:
                if not numbered:
                    raise
                number += 1


def keep(paths: Iterable[str]) -> None:
    """They belong to something that was built; until then they go with their process."""
    for path in paths:
        os.unlink(os.path.join(path, DRAFT))


def _is_left(path: str) -> bool:
    """By a build whose process was killed."""
    try:
        with open(os.path.join(path, DRAFT)) as f:
            return not lives(f.read())
    except OSError:
        return False


def remove(paths: Iterable[str]) -> None:
    for path in paths:
        shutil.rmtree(path, ignore_errors=True)


def are_there(paths: Iterable[str]) -> bool:
    """Whoever asks for them keeps them."""
    for path in paths:
        try:
            os.utime(path)
        except OSError:
            return False
    return True


def changed(paths: Iterable[str], built: float, began: float) -> Optional[str]:
    """What in them was changed after they were built, and before this run began: by tests of an earlier one."""
    for top in paths:
        for where, directories, files in os.walk(top):
            for path in [os.path.join(where, name) for name in [*directories, *files]]:
                try:
                    when = os.lstat(path).st_ctime
                except OSError:
                    continue
                if built < when < began:
                    return path
    return None


def sweep() -> None:
    """What nobody was left to remove."""
    try:
        entries = list(os.scandir(_base()))
    except OSError:
        return
    remove(e.path for e in entries if e.stat(follow_symlinks=False).st_mtime < time.time() - ABANDONED_S or _is_left(e.path))
    try:
        os.rmdir(_base())
    except OSError:
        pass  # there are some
