# SPDX-License-Identifier: MIT
"""Finding the user's daemon, or starting one."""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import pwd
import select
import shutil
import signal
import stat
import subprocess
import time
from typing import Iterator, List, Optional

from ._lib import Connection, FixdError, library

START_S = 20
IDLE_EXIT = "1h"


class NoDaemon(Exception):
    """There is none, and none could be started: a sentence."""


def program(name: str) -> Optional[str]:
    """fixd or fixctl: in $FIXD_BIN, or where the shell would find it."""
    directory = os.environ.get("FIXD_BIN")
    return shutil.which(name, path=directory) if directory else shutil.which(name)


SYSTEM = "/run/fixd/socket"
SOCKET_MAX = 108  # unix(7)


def _serves_us(socket: str) -> bool:
    try:
        Connection(socket).close()
        return True
    except FixdError:
        return False


def socket_path(ini: Optional[str] = None) -> str:
    """Where the daemon listens, as libfixd(3) has it: the user's own if there is one, else the machine's if it serves this user; the
    daemon of an ini file of fixtures has a place of its own."""
    if os.environ.get("FIXD_SOCKET"):
        return os.environ["FIXD_SOCKET"]
    below = hashlib.blake2b(os.fsencode(ini), digest_size=4).hexdigest() if ini else ""
    places = list(_own_places(below))
    for path in places:
        if os.path.exists(path):
            return path
    if ini and places:
        return places[0]
    return SYSTEM if not places or os.path.exists(SYSTEM) and _serves_us(SYSTEM) else places[0]


def _is_own(directory: str) -> bool:
    try:
        status = os.lstat(directory)
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022


def _own_places(below: str = "") -> Iterator[str]:
    """Where a daemon of this user may listen; what others could have put there is passed over."""
    paths = (os.path.join(home, below, "socket") for home in _own_homes())
    return (path for path in paths if len(os.fsencode(path)) < SOCKET_MAX)


def _own_homes() -> Iterator[str]:
    for base in (os.environ.get("XDG_RUNTIME_DIR", ""), f"/run/user/{os.getuid()}"):
        if base.startswith("/") and _is_own(base):
            yield os.path.join(base, "fixd")
    tmp = f"/tmp/fixd-{os.getuid()}"
    homes = [os.environ.get("HOME", "")]
    if _is_own(tmp) if os.path.lexists(tmp) else os.access("/tmp", os.W_OK):
        yield tmp
    else:
        homes.insert(0, _account_home())
    for home in homes:
        if home.startswith("/") and _is_own(home):
            yield os.path.join(home, ".cache", "fixd")


def _account_home() -> str:
    """Whatever HOME says."""
    try:
        return pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:
        return ""


def check_home(directory: str) -> None:
    """A directory that is nobody else's."""
    status = os.lstat(directory)
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o022:
        raise NoDaemon(f"{directory} belongs to somebody else, or others can write to it")


def _is_of_plugin(directory: str) -> bool:
    """A place for sockets, where nothing else lies; another one may be somebody's project."""
    return any(directory == home or os.path.dirname(directory) == home for home in _own_homes())


def own_home(socket: str) -> str:
    """Where this user keeps what goes with that socket, or NoDaemon."""
    directory = os.path.dirname(os.path.abspath(socket))
    if _is_own(directory) and _is_of_plugin(directory):
        return directory
    for path in _own_places():
        return os.path.dirname(path)
    raise NoDaemon("no directory for the daemon is this user's own")


def _make_home(directory: str) -> None:
    parent = os.path.dirname(directory)
    if parent and not os.path.lexists(parent):
        _make_home(parent)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    check_home(directory)


def _tail(path: str) -> str:
    try:
        with open(path, errors="replace") as f:
            lines = f.read().strip().splitlines()
        return lines[-1] if lines else "it said nothing"
    except OSError:
        return "it said nothing"


def _make_config(config: str) -> None:
    if os.path.exists(config):
        return
    draft = f"{config}.{os.getpid()}"
    with open(draft, "w") as f:
        f.write("; The daemon that pytest-fixd starts; edit as you like, see fixd.ini(5).\n"
                f"[fixd]\nidle-exit = {IDLE_EXIT}\n")
    os.rename(draft, config)


def start(socket: str, ini: Optional[str] = None) -> None:
    """Starts a daemon of the user's, with that file of fixtures, and waits until it answers.  It ends by itself when nobody uses it."""
    fixd = program("fixd")
    if not fixd:
        raise NoDaemon("the program fixd is not installed")
    home = os.path.dirname(os.path.abspath(socket))
    names = ("pytest.ini", "log") if _is_of_plugin(home) else (".pytest-fixd.ini", ".pytest-fixd.log")
    config, log = ini or os.path.join(home, names[0]), os.path.join(home, names[1])
    try:
        _make_home(home)
        if not ini:
            _make_config(config)
    except OSError as e:
        raise NoDaemon(f"there is no place for the daemon: {e}") from None
    ready, tell = os.pipe()
    try:
        # No child of ours: a process that waits for all of its own would wait for it, too.
        told = subprocess.run(["/bin/sh", "-c", '"$@" >>"$0" 2>&1 & echo $!', os.path.abspath(log), os.path.abspath(fixd), "--config",
                               os.path.abspath(config), "--socket", os.path.abspath(socket), "--ready-fd", str(tell),
                               *(["--idle-exit", IDLE_EXIT] if ini else [])], pass_fds=[tell],
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True, cwd="/", text=True, check=True)
        os.close(tell)
        tell = -1
        answered = select.select([ready], [], [], START_S)[0]
        if answered and os.read(ready, 1) == b"\n":
            return
        if not answered:
            os.kill(int(told.stdout), signal.SIGKILL)
        raise NoDaemon(f"fixd did not start: {_tail(log)}")
    except (OSError, subprocess.SubprocessError) as e:
        raise NoDaemon(f"fixd cannot be started: {e}") from None
    finally:
        os.close(ready)
        if tell >= 0:
            os.close(tell)


def _is_starting(socket: str) -> bool:
    """Does a daemon hold the lock of that socket?  It may not listen yet."""
    try:
        with open(socket + ".lock", "rb") as f:
            fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    except OSError:
        return False


def _connect_to_other(socket: str) -> Connection:
    """To the daemon that somebody else was faster to start: it is ready soon."""
    end = time.monotonic() + START_S
    while True:
        starting = _is_starting(socket)
        try:
            return Connection(socket)
        except FixdError:
            if not starting or time.monotonic() > end:
                raise
            time.sleep(0.01)


def connect(socket: str, may_start: bool, ini: Optional[str] = None) -> Connection:
    """To a daemon that runs, or that is started, with that file of fixtures."""
    try:
        library()
    except FixdError as e:
        raise NoDaemon(str(e.strerror or e)) from None  # no daemon is of use then
    home = os.path.dirname(socket)
    # Anybody could have made that directory before us, and what a daemon gives out is run as code.
    if home.startswith("/tmp/") and os.path.isdir(home):
        check_home(home)
    try:
        return Connection(socket)
    except FixdError as e:
        if not may_start:
            raise NoDaemon(str(e.strerror or e)) from None
    problem: Optional[NoDaemon] = None
    try:
        start(socket, ini)
    except NoDaemon as e:
        problem = e  # perhaps somebody else was faster
    try:
        return _connect_to_other(socket)
    except FixdError as e:
        raise problem or NoDaemon(str(e.strerror or e)) from None


def fixctl(socket: str, arguments: List[str], root: Optional[str] = None) -> "subprocess.CompletedProcess[str]":
    tool = program("fixctl")
    if not tool:
        raise NoDaemon("the program fixctl is not installed")
    session = ["--session", root] if root else []
    return subprocess.run([tool, "--socket", socket, *session, *arguments], stdin=subprocess.DEVNULL, text=True,
                          capture_output=True)


def session_of(socket: str, root: str) -> Optional[str]:
    """A word for the session of a root directory, as long as the daemon lives or is replaced by one that has it all."""
    try:
        sessions = json.loads(fixctl(socket, ["status", "--json"], root).stdout)["sessions"]
    except (NoDaemon, ValueError, KeyError):
        return None
    return next((repr(s["created"]) for s in sessions if s["root"] == root and s["uid"] == os.getuid()), None)


def is_gone(socket: str) -> bool:
    """Nobody listens there, nor is about to."""
    try:
        Connection(socket).close()
        return False
    except FixdError as e:
        return e.errno in (errno.ENOENT, errno.ECONNREFUSED) and not _is_starting(socket)


def own_roots(socket: str) -> List[str]:
    """The directories of this user's sessions; none where there is no daemon."""
    try:
        sessions = json.loads(fixctl(socket, ["status", "--json"]).stdout)["sessions"]
    except (ValueError, KeyError):
        return []
    return [session["root"] for session in sessions if session["uid"] == os.getuid()]
