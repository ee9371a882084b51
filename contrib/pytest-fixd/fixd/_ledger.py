# SPDX-License-Identifier: MIT
"""Copies of the notes that a daemon has: they outlive it, so that what it would have given out is still torn down, exactly once.

A copy is a file beside the socket.  Its name tells the socket, the root directory and the session that the note was given to; a
daemon that has a session of another birth never had that note.  What is of one run only also tells the process of that run, and is
not taken while it lives.  Whoever removes the file does what the note says.
"""

from __future__ import annotations

import os
import pickle
import time
from typing import Iterator, Optional, Tuple

from . import _daemon
from ._definition import digest_of
from ._process import lives


def _place(socket: str, make: bool = False) -> str:
    """A directory that nobody else can write to: what lies there is run as code."""
    where = os.path.join(_daemon.own_home(socket), "notes")
    if make:
        os.makedirs(where, mode=0o700, exist_ok=True)
    _daemon.check_home(where)
    return where


def add(socket: str, root: str, session: str, title: str, note: bytes, run: str = "") -> Tuple[bytes, Optional[str]]:
    """The note as the daemon is to have it, and its copy; None: there is no place for one.  `run`: the process of the run it is of."""
    try:
        path = os.path.join(_place(socket, make=True), f"{digest_of(socket)}-{digest_of(root)}-{time.time_ns():020}-{os.getpid()}-{digest_of(session)}")
        note = pickle.dumps({**pickle.loads(note), "copy": path})
        with open(path + "~", "wb") as f:
            pickle.dump((title, note, run), f)
        os.rename(path + "~", path)
    except (OSError, _daemon.NoDaemon):
        return note, None
    return note, path


def strike(path: Optional[str]) -> bool:
    """False: somebody else has struck the copy, and does what the note says. Without a copy nobody can tell."""
    try:
        os.unlink(path or "")
    except FileNotFoundError:
        return not path or not os.path.isdir(os.path.dirname(path))
    except OSError:
        pass
    return True


def has_any(socket: str, root: Optional[str]) -> bool:
    return any(_copies(socket, root))


def _copies(socket: str, root: Optional[str]) -> Iterator[str]:
    """The newest first: what was built later may need what was built earlier."""
    start = f"{digest_of(socket)}-{digest_of(root)}-" if root is not None else f"{digest_of(socket)}-"
    try:
        place = _place(socket)
        names = [n for n in os.listdir(place) if n.startswith(start) and not n.endswith("~")]
    except (OSError, _daemon.NoDaemon):
        return
    for name in sorted(names, key=lambda n: n.split("-")[2], reverse=True):
        yield os.path.join(place, name)


def abandoned(socket: str, root: Optional[str], session: Optional[str], wanted: str = "*") -> Iterator[bytes]:
    """The notes of daemons that are gone, for whoever strikes them: of that root directory (None: of all) but not of that session, which has its own, nor
    of a run that still lives; `wanted`: the title of an instance, or *."""
    for path in _copies(socket, root):
        if session is not None and path.endswith(f"-{digest_of(session)}"):
            continue
        try:
            with open(path, "rb") as f:
                title, note, *run = pickle.load(f)
        except (OSError, EOFError, pickle.UnpicklingError):
            continue
        if wanted in ("*", title) and not any(map(lives, run)):
            yield note
