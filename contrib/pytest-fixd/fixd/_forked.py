# SPDX-License-Identifier: MIT
"""What a fork does to be a process of its own: each of these is something that it would have in common with the template."""

from __future__ import annotations

import atexit
import ctypes
import io
import os
import sys
import time
from typing import Any, Callable, Dict, List

from ._objects import all_of


def temporary_files() -> List[Any]:
    """Objects that remove files when they end: those are the template's.  To be called there."""
    tempfile = sys.modules.get("tempfile")
    if tempfile is None:
        return []
    kinds = (tempfile.TemporaryDirectory, tempfile._TemporaryFileWrapper)  # type: ignore[attr-defined]
    return all_of(kinds)


def _leave_files(temporary: List[Any]) -> None:
    for thing in temporary:
        finalizer = getattr(thing, "_finalizer", None)
        if finalizer is not None:
            finalizer.detach()
            thing.cleanup = lambda: None
        for part in (thing, getattr(thing, "_closer", None)):
            if hasattr(part, "delete"):
                part.delete = False  # type: ignore[union-attr]


def _read_environment() -> None:
    """os.environ is what the process was started with; the library has given it its caller's."""
    entries = ctypes.POINTER(ctypes.c_char_p).in_dll(ctypes.CDLL(None), "environ")
    found: Dict[bytes, bytes] = {}
    i = 0
    while entries[i]:
        name, _, value = entries[i].partition(b"=")  # type: ignore[union-attr]
        found.setdefault(name, value)
        i += 1
    data: Dict[bytes, bytes] = os.environ._data  # type: ignore[attr-defined]
    data.clear()
    data.update(found)
    time.tzset()


def _open_stream(stream: Any, fd: int) -> None:
    """The same object, as others may have it, over another file."""
    if not isinstance(stream, io.TextIOWrapper):
        return
    raw = io.FileIO(fd, "rb" if fd == 0 else "wb", closefd=False)
    unbuffered = isinstance(stream.buffer, io.RawIOBase)
    try:
        name, mode = stream.name, stream.mode
    except AttributeError:
        name, mode = f"<{('stdin', 'stdout', 'stderr')[fd]}>", "r" if fd == 0 else "w"
    raw.name = name
    below: Any = raw if unbuffered else io.BufferedReader(raw) if fd == 0 else io.BufferedWriter(raw)
    stream.__init__(below, encoding=stream.encoding, errors=stream.errors, newline=None if fd == 0 else "\n",  # type: ignore[misc]
                    line_buffering=fd == 2 or (fd == 1 and os.isatty(1)), write_through=unbuffered)
    stream.mode = mode  # type: ignore[misc]


def _open_streams() -> None:
    for fd, stream in enumerate((sys.__stdin__, sys.__stdout__, sys.__stderr__)):
        _open_stream(stream, fd)


def _draw_other_numbers() -> None:
    """Python's own generator does so by itself."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and "numpy.random" in sys.modules:
        numpy.random.seed()


def _leave_exit_handlers() -> None:
    """They are the template's, but for those that look after whatever there is when they run."""
    atexit._clear()
    coverage = getattr(sys.modules.get("coverage"), "Coverage", None)
    measuring = coverage.current() if hasattr(coverage, "current") else None
    if measuring is not None and hasattr(measuring, "_atexit"):
        atexit.register(measuring._atexit)
    if "logging" in sys.modules:
        atexit.register(sys.modules["logging"].shutdown)
    finalize = getattr(sys.modules.get("weakref"), "finalize", None)
    if finalize is not None and finalize._registered_with_atexit:
        for info in finalize._registry.values():
            info.atexit = False
        atexit.register(finalize._exitfunc)
    if "multiprocessing.util" in sys.modules:
        atexit.register(sys.modules["multiprocessing.util"]._exit_function)


def _forget_others() -> None:
    """Processes and loops of the template, where the audit has let them pass."""
    modules = sys.modules
    if "subprocess" in modules:
        modules["subprocess"]._active.clear()
    if "multiprocessing.process" in modules:
        modules["multiprocessing.process"]._children.clear()
    if "multiprocessing.util" in modules:
        modules["multiprocessing.util"]._finalizer_registry.clear()
        modules["multiprocessing.util"]._run_after_forkers()
    if "concurrent.futures.thread" in modules:
        modules["concurrent.futures.thread"]._threads_queues.clear()
    if "asyncio.events" in modules:
        modules["asyncio.events"]._set_running_loop(None)


def put_threads_away() -> List[Callable[[], Any]]:
    """Of libraries that start some when they are imported, and can do without; what gives a fork its own."""
    again: List[Callable[[], Any]] = []
    numexpr = sys.modules.get("numexpr")
    if hasattr(numexpr, "set_num_threads"):
        before = numexpr.set_num_threads(1)  # type: ignore[union-attr]
        again.append(lambda: numexpr.set_num_threads(before))  # type: ignore[union-attr]
    return again


def become(arguments: List[str], temporary: List[Any]) -> None:
    _read_environment()
    _open_streams()
    _draw_other_numbers()
    _leave_exit_handlers()
    _leave_files(temporary)
    _forget_others()
    sys.argv = [*sys.argv[:1], *arguments]
