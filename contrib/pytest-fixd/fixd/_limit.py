# SPDX-License-Identifier: MIT
"""How long a fixture may take: then what the main thread does is interrupted."""

from __future__ import annotations

import contextlib
import ctypes
import signal
import sys
import threading
import time
from typing import Any, Iterator

AGAIN_S = 1.0  # somebody may have caught it
# Not SIGALRM: fixtures, and other plugins, have uses for that.
SIGNAL = signal.SIGRTMIN + 6


class Interrupt(BaseException):
    """Not an Exception: no fixture is to catch it by the way."""


class TookTooLong(Exception):
    """The fixture was interrupted."""


class _Event(ctypes.Structure):
    """struct sigevent of sigevent(7)."""

    _fields_ = [("value", ctypes.c_void_p), ("signo", ctypes.c_int), ("notify", ctypes.c_int), ("rest", ctypes.c_char * 48)]


class _Times(ctypes.Structure):
    """struct itimerspec: the interval, then the first time."""

    _fields_ = [(n, ctypes.c_long) for n in ("again_s", "again_ns", "first_s", "first_ns")]


@contextlib.contextmanager
def _ringing(seconds: float) -> Iterator[None]:
    """SIGNAL after that time, and again and again: by a timer of our own, which takes no thread, else from a thread."""
    libc, timer = ctypes.CDLL(None), ctypes.c_void_p()
    event = _Event(signo=SIGNAL, notify=0)  # SIGEV_SIGNAL
    if hasattr(libc, "timer_create") and libc.timer_create(1, ctypes.byref(event), ctypes.byref(timer)) == 0:  # CLOCK_MONOTONIC
        times = _Times(int(AGAIN_S), 0, int(seconds), int(seconds % 1 * 1e9) or 1)
        try:
            libc.timer_settime(timer, 0, ctypes.byref(times), None)
            yield
        finally:
            libc.timer_delete(timer)
        return
    stop, main = threading.Event(), threading.get_ident()

    def ring() -> None:
        wait = seconds
        while not stop.wait(wait):
            signal.pthread_kill(main, SIGNAL)
            wait = AGAIN_S

    thread = threading.Thread(target=ring, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _is_on_its_way() -> bool:
    """Is the fixture cleaning up after the first one?"""
    error = sys.exc_info()[1]
    while error is not None and not isinstance(error, Interrupt):
        error = error.__context__
    return error is not None


@contextlib.contextmanager
def limited(seconds: float, title: str) -> Iterator[None]:
    """Raises TookTooLong in what runs longer.  Other threads than the main one cannot be interrupted, nor can C code that does
    not return to Python."""
    before = signal.getsignal(SIGNAL)
    # A handler that is not Python's could not be put back.
    if threading.current_thread() is not threading.main_thread() or before is None:
        yield
        return
    deadline = time.monotonic() + seconds
    expired = over = False

    def on_alarm(number: int, frame: Any) -> None:
        nonlocal expired
        if not over and time.monotonic() >= deadline:
            if expired and _is_on_its_way():
                return
            expired = True
            raise Interrupt
        # Somebody else's, who set it before: what this one runs for may be limited, too.
        if callable(before):
            before(number, frame)

    signal.signal(SIGNAL, on_alarm)
    try:
        with _ringing(seconds):
            try:
                yield
            finally:
                over = True
    except Interrupt:
        if not expired:
            raise  # that of a fixture that this one was asked by
        raise TookTooLong(f"fixture '{title}' took longer than {seconds:g} s") from None
    finally:
        over = True
        if signal.getsignal(SIGNAL) is on_alarm:
            signal.signal(SIGNAL, before)
