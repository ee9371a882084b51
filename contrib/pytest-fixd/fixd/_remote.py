# SPDX-License-Identifier: MIT
"""Pickles on the daemon's remote: what one machine has built others take, where the fixture says remote=True.

A pickle is code: it is taken from the namespace of this machine only, whatever else the daemon reads.  What is taken was signed for the
same source, parameters, files, dependencies, Python and machine; whatever goes wrong with the remote is told once, and the fixture
is built here.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import os
import platform
import subprocess
import sys
import threading
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from . import _daemon, _patterns
from ._lib import Build, FixdError, View

# Of how values are written: another one makes other keys.
FORMAT = "pytest-fixd 2"
HEADER_MAX = 32
GRACE_S = 30
# What Python reads, writes and sorts by.
SEEN_BY_ALL = ("LANG", "LANGUAGE", "LC_ALL", "LC_COLLATE", "LC_CTYPE", "LC_NUMERIC", "LC_TIME", "TZ")


class Remote:
    """[remote] of a daemon, for one process."""

    def __init__(self, section: Dict[str, Any]):
        """`section`: of `fixctl remote status --json`."""
        own = f"--read={section['namespace']}"
        self._program = section["program"]
        self._options = [o for o in section["options"] if not o.startswith("--read=") or o == own]
        self.reads, self.writes = own in self._options, bool(section["writes"])
        self._going: List[int] = []

    def take(self, build: Build, wanted: "Wanted", seconds: float, look: bool) -> Tuple[Optional[int], str]:
        """Fills the image with what was found in that time, or only finds out the key.  (its size; what went wrong).  None: it is to be built."""
        # It gives up by itself then, and is remembered to have done so.
        command = [self._program, "get" if look and self.reads else "key", *self._options, f"--within-ms={int(seconds * 1000)}", *wanted.descriptors()]
        try:
            with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0,
                                  pass_fds=wanted.fds) as process:
                patience = threading.Timer(seconds + min(GRACE_S, seconds / 2), process.kill)
                patience.start()
                try:
                    size = _fill(build, process.stdout)
                    process.stdout.close()  # type: ignore[union-attr]
                    words = process.stderr.read().decode(errors="replace").strip()  # type: ignore[union-attr]
                    code = process.wait()
                finally:
                    patience.cancel()
                    process.kill()
        except (OSError, FixdError) as e:
            return None, str(e)
        if code < 0:
            return None, f"fixd-remote was ended by signal {-code}"
        return (size, "") if code == 0 and size is not None else (None, words)

    def offer(self, view: View, wanted: "Wanted") -> str:
        """Sends it there in the background, also when this process has ended.  What went wrong before that."""
        copy = told = end = -1
        try:
            copy = os.memfd_create("fixd:offer")
            told, end = os.pipe()
            with open(copy, "wb", closefd=False) as f:
                f.write(view.data)
            command = [self._program, "put", *self._options, f"--image-fd={copy}", *wanted.descriptors()]
            # No child of ours: a process that waits for all of its own would wait for it, too.
            subprocess.run(["/bin/sh", "-c", '"$@" &', "sh", *command], pass_fds=[copy, *wanted.fds], start_new_session=True, check=True,
                           stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=end)
            self._going.append(told)
            told = -1
            return ""
        except (OSError, subprocess.SubprocessError) as e:
            return str(e)
        finally:
            for fd in (copy, end, told):
                if fd >= 0:
                    os.close(fd)

    def wait(self) -> List[str]:
        """Until what this process has offered is there, or cannot be sent; fixd-remote waits for no silent server.  What went wrong."""
        going, self._going = self._going, []
        wrong = []
        for fd in going:
            with open(fd, errors="replace") as f:
                wrong += f.read().splitlines()
        return wrong


def check(function: Callable[..., Any], **others: Any) -> None:
    """For a decorator: what is more than a value belongs to its machine."""
    name = function.__name__
    for setting, value in others.items():
        if value:
            raise ValueError(f"fixture '{name}': remote=True does not go with {setting}={'False' if setting == 'reuse' else '...'}")
    if inspect.isgeneratorfunction(function):
        raise ValueError(f"fixture '{name}' yields, and remote=True: its second half would have to be run on another machine")
    if "tmp_path_factory" in inspect.signature(function).parameters:
        raise ValueError(f"fixture '{name}' makes directories, and remote=True: they would not be on another machine")


def of(socket: str) -> Optional[Remote]:
    """That of the daemon, if there is one."""
    try:
        section = json.loads(_daemon.fixctl(socket, ["remote", "status", "--json"]).stdout)
        return Remote(section) if os.access(section["program"], os.X_OK) else None
    except (_daemon.NoDaemon, ValueError, KeyError, TypeError):
        return None


class Wanted:
    """What an image is made from, as fixd-remote has it."""

    def __init__(self, pairs: Sequence[Tuple[str, str]]):
        self.pairs = list(pairs)
        self.fds: List[int] = []
        for name in "description", "parts":
            self.fds.append(os.memfd_create("fixd:" + name))
        with open(self.fds[0], "wb", closefd=False) as f:
            f.write(os.fsencode("".join(f"{name}\0{value}\0" for name, value in pairs)))

    def descriptors(self) -> List[str]:
        return [f"--description-fd={self.fds[0]}", f"--parts-fd={self.fds[1]}"]

    def __del__(self) -> None:
        for fd in self.fds:
            os.close(fd)


def described(root: str, full: str, place: str, version: str, watch: Sequence[str], depends: Sequence[View]) -> Wanted:
    """Once an image is to be built, and before its inputs are read; and once more when they were.  OSError: it cannot be said."""
    pairs = [("=format", FORMAT), ("=machine", platform.machine()), ("=python", sys.version), ("=fixture", full), ("=place", place),
             ("=version", version)] + [(f"=environment {name}", os.environ.get(name, "")) for name in SEEN_BY_ALL]
    for path in sorted({p for pattern in _patterns.of(root, watch) for p in _below(pattern)}):
        name = os.path.relpath(path, root)
        if os.path.islink(path):
            pairs.append((f"=link {name}", os.readlink(path)))
        if os.path.isfile(path):
            pairs += [(f"@input {name}", path), (f"=mode {name}", "x" if os.access(path, os.X_OK) else "-")]
        else:
            pairs.append((f"=input {name}", "no file"))
    for number, view in enumerate(depends):
        pairs.append((f"=depends {number}", hashlib.sha256(view.data).hexdigest()))
    return Wanted(pairs)


def _below(pattern: str) -> List[str]:
    """What it names, and all that is in that."""
    found = []
    for path in _patterns.named(pattern):
        found.append(path)
        for directory, names, files in os.walk(path):
            found += [os.path.join(directory, name) for name in names + files]
    return found


def _fill(build: Build, source: Any) -> Optional[int]:
    """"BYTES\\n" and those bytes; None: it is not whole, or too large."""
    header = b""
    while not header.endswith(b"\n"):
        byte = source.read(1)
        if not byte or len(header) > HEADER_MAX:
            return None
        header += byte
    size = int(header)
    try:
        memory = build.memory(size)
    except FixdError:
        return None
    at = 0
    while at < size:
        n = source.readinto(memory[at:])
        if not n:
            memory[:at] = bytes(at)
            return None
        at += n
    return size
