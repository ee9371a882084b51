# SPDX-License-Identifier: MIT
"""A process that has seen nothing be built, and tries what the others will get.

It is forked before the first fixture is built here, and forks a child for each value: that loads it, and compares its classes.  What
a constructor has made of a class, once, is missing there, as it would be in another worker and in the next run.
"""

from __future__ import annotations

import gc
import mmap
import os
import pickle
import select
import signal
import socket
import sys
import warnings
from typing import Any, List, NamedTuple, Optional, Set

from . import _classes, _values

TRIAL_S = 60
WORDS_MAX = 4000
COPIED_MAX = 64 << 20  # of more than that the elements of arrays are not told: zeros stand for them


class _Memory(NamedTuple):
    """In the place of an image that is built, and of a view of one."""

    fd: int

    def memory(self, size: int) -> memoryview:
        os.ftruncate(self.fd, size)
        return memoryview(mmap.mmap(self.fd, size))

    @property
    def data(self) -> memoryview:
        return memoryview(mmap.mmap(self.fd, 0, prot=mmap.PROT_READ))


def _objection(image: int, serializer: Any, all_told: bool, states: _classes.States) -> str:
    value = None
    try:
        value = _values.Stored(_Memory(image), serializer).value()  # type: ignore[arg-type]
    except Exception as e:
        if all_told:
            return f"what it has made cannot be loaded by another process: {type(e).__name__}: {e}"
    for known, there in states:
        try:
            cls = pickle.loads(known)
        except Exception:
            continue
        lacking = _classes.lacking(cls, there)
        if lacking:
            return (f"what has made its {type(value).__name__} has also set {', '.join(lacking[:4])} of the class {cls.__qualname__}, which is not "
                    "set in a process that only loads it")
    return ""


def _try(sock: socket.socket, question: bytes, image: int, states: int) -> None:
    """In a child: what it does to the process is gone with it."""
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(TRIAL_S)
    all_told, own = [int(word) for word in question.split()]
    # One that was defined later is not known here.
    known = not own or own in _values.own_serializers
    words = _objection(image, _values.own_serializers.get(own), bool(all_told), pickle.loads(_Memory(states).data)) if known else ""
    sock.send(b"!" + words.encode(errors="replace")[:WORDS_MAX])


def _serve(sock: socket.socket, parent: int) -> None:
    waiting = select.poll()
    for fd in (sock.fileno(), parent):
        if fd >= 0:
            waiting.register(fd, select.POLLIN)
    while [fd for fd, _ in waiting.poll()] == [sock.fileno()]:
        question, fds, _, _ = socket.recv_fds(sock, WORDS_MAX, 2)
        if not question:
            return
        child = os.fork()
        if child == 0:
            _try(sock, question, *fds)
            return
        # Of one that did not come to an answer nothing is known.
        if os.waitpid(child, 0)[1] != 0:
            sock.send(b"?")
        for fd in fds:
            os.close(fd)


def _become(sock: socket.socket, parent: int) -> None:
    """Never returns.  It has nothing of its parent's but its memory: what it held would seem to be in use."""
    status = 1
    try:
        if os.fork() == 0:
            os.setsid()  # what is typed at the terminal is not for it
            sys.settrace(None)
            gc.disable()
            null = os.open(os.devnull, os.O_RDWR)
            for fd in (0, 1, 2):
                os.dup2(null, fd)
            for fd in [int(n) for n in os.listdir("/proc/self/fd")]:
                if fd > 2 and fd not in (sock.fileno(), parent):
                    try:
                        os.close(fd)
                    except OSError:
                        pass  # the directory itself
            _serve(sock, parent)
        status = 0
    finally:
        os._exit(status)


class Witness:
    def __init__(self) -> None:
        """OSError: there can be none."""
        self.pid = os.getpid()
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            parent = os.pidfd_open(self.pid) if hasattr(os, "pidfd_open") else -1
        except OSError:
            parent = -1
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of threads, which are none of its
                child = os.fork()
                if child == 0:
                    _become(theirs, parent)
            os.waitpid(child, 0)
        finally:
            theirs.close()
            if parent >= 0:
                os.close(parent)

    def objection(self, kind: str, main: bytes, buffers: List[memoryview], serializer: Any, classes: Set[type]) -> Optional[str]:
        """Why another process cannot use what was dumped; None: it can, as far as is known, like all that is of no class."""
        if not classes:
            return None
        all_told = sum(b.nbytes for b in buffers) <= COPIED_MAX
        image, states = os.memfd_create("fixd-trial"), os.memfd_create("fixd-trial-classes")
        try:
            _values.write(_Memory(image), kind, main, buffers, elements=all_told)  # type: ignore[arg-type]
            with open(states, "wb", closefd=False) as f:
                pickle.dump(_classes.states(classes), f)
            socket.send_fds(self._socket, [f"{all_told:d} {0 if isinstance(serializer, str) else id(serializer)}".encode()], [image, states])
            answer = self._socket.recv(WORDS_MAX + 1)
        except OSError:
            return None
        finally:
            os.close(image)
            os.close(states)
        return answer[1:].decode(errors="replace") or None

    def close(self) -> None:
        """It ends, and its memory is given back."""
        try:
            self._socket.shutdown(socket.SHUT_WR)
            self._socket.settimeout(1)
            self._socket.recv(1)
            self._socket.close()
        except OSError:
            pass  # the project may have closed it
