# SPDX-License-Identifier: MIT
"""How long a fixture may take: then what the main thread does is interrupted."""

from __future__ import annotations

import contextlib
import signal
import threading
from typing import Any, Iterator


class _Interrupt(BaseException):
    """Not an Exception: no fixture is to catch it by the way."""


class TookTooLong(Exception):
    """The fixture was interrupted."""


@contextlib.contextmanager
def limited(seconds: float, title: str) -> Iterator[None]:
    """Raises TookTooLong in what runs longer.  Other threads than the main one cannot be interrupted, nor can C code that does
    not return to Python."""
    before = signal.getsignal(signal.SIGALRM)
    # A handler that is not Python's could not be put back.
    if threading.current_thread() is not threading.main_thread() or before is None:
        yield
        return
    main, lock = threading.get_ident(), threading.Lock()
    expired = over = False

    def on_alarm(number: int, frame: Any) -> None:
        if expired and not over:
            raise _Interrupt
        # Somebody else's, who set it before.
        if callable(before):
            before(number, frame)

    def expire() -> None:
        nonlocal expired
        with lock:
            if not over:
                expired = True
                signal.pthread_kill(main, signal.SIGALRM)

    signal.signal(signal.SIGALRM, on_alarm)
    timer = threading.Timer(seconds, expire)
    timer.daemon = True
    timer.start()
    try:
        try:
            yield
        finally:
            with lock:
                over = True
            timer.cancel()
            signal.signal(signal.SIGALRM, before)
    except _Interrupt:
        over = True
        timer.cancel()
        signal.signal(signal.SIGALRM, before)
        if not expired:
            raise  # that of a fixture that this one was asked by
        raise TookTooLong(f"fixture '{title}' took longer than {seconds:g} s") from None
