# SPDX-License-Identifier: MIT
"""How long a fixture may take: then what the main thread does is interrupted."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from typing import Any, Iterator

AGAIN_S = 1.0  # somebody may have caught it


class Interrupt(BaseException):
    """Not an Exception: no fixture is to catch it by the way."""


class TookTooLong(Exception):
    """The fixture was interrupted."""


@contextlib.contextmanager
def _alarms(seconds: float) -> Iterator[None]:
    """SIGALRM after that time, and again and again: by the timer of the process if nobody has it, else from a thread."""
    if signal.getitimer(signal.ITIMER_REAL) == (0.0, 0.0):
        signal.setitimer(signal.ITIMER_REAL, seconds, AGAIN_S)
        try:
            yield
        finally:
            if signal.getitimer(signal.ITIMER_REAL)[1] == AGAIN_S:  # otherwise it is the fixture's own by now
                signal.setitimer(signal.ITIMER_REAL, 0)
        return
    stop, main = threading.Event(), threading.get_ident()

    def ring() -> None:
        wait = seconds
        while not stop.wait(wait):
            signal.pthread_kill(main, signal.SIGALRM)
            wait = AGAIN_S

    thread = threading.Thread(target=ring, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


@contextlib.contextmanager
def limited(seconds: float, title: str) -> Iterator[None]:
    """Raises TookTooLong in what runs longer.  Other threads than the main one cannot be interrupted, nor can C code that does
    not return to Python."""
    before = signal.getsignal(signal.SIGALRM)
    # A handler that is not Python's could not be put back.
    if threading.current_thread() is not threading.main_thread() or before is None:
        yield
        return
    deadline = time.monotonic() + seconds
    expired = over = False

    def on_alarm(number: int, frame: Any) -> None:
        nonlocal expired
        if not over and time.monotonic() >= deadline:
            expired = True
            raise Interrupt
        # Somebody else's, who set it before: what this one runs for may be limited, too.
        if callable(before):
            before(number, frame)

    signal.signal(signal.SIGALRM, on_alarm)
    try:
        with _alarms(seconds):
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
        if signal.getsignal(signal.SIGALRM) is on_alarm:
            signal.signal(signal.SIGALRM, before)
