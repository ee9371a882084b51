# SPDX-License-Identifier: MIT
"""fixd.checkpoint(): a program prepares, stops there, and is forked for everybody who asks.

Needs nothing but Python itself, so that any program may have one.
"""

from __future__ import annotations

import ctypes
import gc
import io
import os
import sys
import threading
import warnings
from typing import Any, Callable, Iterable, List, Optional

from . import _forked, _hazards
from ._lib import FixdError, library_path
from ._objects import all_of, file_of

_RETURN_AT_END = 2
_FORKED, _ENDS = 1, 2
AUDIT_FAILED = 70  # as libfixd has it

_hook = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
# A fork that fails leaves its errno.
_fork_hook = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, use_errno=True)


class _How(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("flags", ctypes.c_uint), ("n_keep_fds", ctypes.c_uint), ("keep_fds", ctypes.POINTER(ctypes.c_int)),
                ("before", _hook), ("parent", _hook), ("child", _hook), ("fork", _fork_hook), ("arg", ctypes.c_void_p),
                ("files", ctypes.POINTER(ctypes.c_char_p))]


def is_wanted() -> bool:
    """Was this process started to be a template?"""
    return bool(os.environ.get("FIXD_TEMPLATE")) and os.environ.get("FIXD_DISABLE") != "1" and not _passed


_passed = False


def _fork(_: Any) -> int:
    """By Python, so that everything that looks after itself in a fork does."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the audit has told of threads
            return os.fork()
    except OSError as e:
        ctypes.set_errno(e.errno)
        return -1


def _let_threads_end() -> None:
    """Libraries that end their threads before a fork, and start them after it (OpenBLAS), do so now: they are no hazard."""
    if len(os.listdir("/proc/self/task")) <= threading.active_count():
        return
    pid = _fork(None)
    if pid == 0:
        os._exit(0)
    if pid > 0:
        os.waitpid(pid, 0)


def _flush_all() -> None:
    """What is still in a buffer every fork would write again."""
    for thing in all_of((io.TextIOWrapper, io.BufferedWriter, io.BufferedRandom)):
        try:
            thing.flush()
        except (OSError, ValueError):
            pass


def _audit(keep_fds: Iterable[int]) -> List[int]:
    """The descriptors of which no more is to be said; does not return when something does not survive a fork."""
    found = _hazards.find()
    _flush_all()
    if _hazards.tell(found, os.environ.get("FIXD_AUDIT", ""), keep_fds):
        fixture = os.environ.get("FIXD_FIXTURE", "...")
        print("fixd: checkpoint: what is told above does not survive a fork: end or close it before, or allow it (audit = KIND:allow in "
              f"[fixture {fixture}])", file=sys.stderr, flush=True)
        sys.exit(AUDIT_FAILED)
    return sorted({*keep_fds, *(fd for hazard in found for fd in hazard.fds)})


def _loaded_files(more: Iterable[str]) -> List[bytes]:
    """What modules were read from, without those of Python itself: it is another program when one of them is another."""
    found = (file_of(module) for module in list(sys.modules.values()))
    paths = {os.path.abspath(path) for path in (*found, *more) if path}
    return sorted(os.fsencode(p) for p in paths if not _hazards.is_library(p) and os.path.exists(p))


def checkpoint(*, keep_fds: Iterable[int] = (), files: Iterable[str] = (), after_fork: Optional[Callable[[], Any]] = None) -> List[str]:
    """In a program that fixd has started for `process =`: stops here, and returns in every fork, with the arguments of whoever has asked
    for it.  Elsewhere it returns the program's own arguments at once.

    keep_fds    descriptors that all forks share on purpose.
    files       that it has read: when one of them has changed, or a module that it has imported, the next fork is one of another template.
    after_fork  called in every fork, before this returns there: reopens what must be.

    In the fork sys.argv, os.environ, the directory and the standard streams are the caller's, random numbers are its own, and exit
    handlers that were registered before belong to the template.  That ends with SystemExit raised here.
    """
    global _passed
    if not is_wanted():
        return sys.argv[1:]
    _passed = True
    path = library_path()
    try:
        library = ctypes.PyDLL(path)  # the interpreter is this thread's all the time
    except OSError as e:
        raise FixdError(2, f"libfixd is not installed ({e}); FIXD_LIBRARY may name it") from None
    gc.collect()
    threads = _forked.put_threads_away()
    _let_threads_end()
    # Of other threads and of the C side the rest is told by the library.
    fds = _audit(list(keep_fds))
    temporary = _forked.temporary_files()
    gc.freeze()  # what is not looked at is not copied
    numbers = (ctypes.c_int * len(fds))(*fds)
    loaded = _loaded_files(files)
    names = (ctypes.c_char_p * (len(loaded) + 1))(*loaded, None)
    how = _How(size=ctypes.sizeof(_How), flags=_RETURN_AT_END, n_keep_fds=len(fds), keep_fds=numbers, fork=_fork_hook(_fork), files=names)
    argc, argv = ctypes.c_int(0), ctypes.POINTER(ctypes.c_char_p)()
    # The library keeps what it is given.
    checkpoint._kept = how, numbers, names, argc, argv  # type: ignore[attr-defined]
    r = library.fixd_fork_here(ctypes.byref(argc), ctypes.byref(argv), ctypes.byref(how))
    if r < 0:
        library.fixd_error.restype, library.fixd_error.argtypes = ctypes.c_char_p, [ctypes.c_void_p]
        raise FixdError(-r, library.fixd_error(None).decode(errors="replace"))
    if r == _ENDS:
        sys.exit(0)
    if r == _FORKED:
        _forked.become([os.fsdecode(argv[i]) for i in range(1, argc.value)], temporary)
        for start in threads:
            start()
        if after_fork is not None:
            after_fork()
    return sys.argv[1:]
