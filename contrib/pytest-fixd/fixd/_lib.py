# SPDX-License-Identifier: MIT
"""libfixd(3), as objects.  Every failure is a FixdError with the library's sentence."""

from __future__ import annotations

import ctypes
import errno
import os
import select
import threading
import time
from typing import Any, Callable, Iterable, List, Optional, Sequence, Tuple, Union

COW = 1
_NOWAIT = 2
OBSERVER = 1
_KEEPER = 1
_VIEW_BUILT, _VIEW_REUSED = 1, 2

# Python hears of a Ctrl-C only between two calls.
NOTE_MAX = (1 << 20) - 4096  # OFFER_NOTE_MAX of wire/offer.h, less what tells where a copy of it lies
CALL_S = 1.0

_pointer = ctypes.c_void_p


def _patiently(call: Callable[[float], Any], timeout_s: float) -> Any:
    """call(seconds) until it does not time out, or all of the time is over; 0: once, for the default time."""
    end = time.monotonic() + timeout_s
    while True:
        left = end - time.monotonic()
        try:
            return call(max(min(left, CALL_S), 0.001) if timeout_s > 0 else 0)
        except FixdError as e:
            if e.errno != errno.ETIMEDOUT or left <= CALL_S:
                raise


class FixdError(OSError):
    """What libfixd or the daemon refused; `errno` is positive."""


class _Options(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("flags", ctypes.c_uint), ("timeout_ms", ctypes.c_int),
                ("scope_key", ctypes.c_char_p), ("depends", ctypes.POINTER(_pointer)), ("n_depends", ctypes.c_size_t)]


class _Teardown(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("note", ctypes.c_char_p), ("note_size", ctypes.c_size_t), ("flags", ctypes.c_uint)]


class _Range(ctypes.Structure):
    _fields_ = [("start", _pointer), ("length", ctypes.c_size_t)]


_FUNCTIONS = [
    ("fixd_open", ctypes.c_int, [ctypes.POINTER(_pointer), ctypes.c_char_p]),
    ("fixd_close", None, [_pointer]),
    ("fixd_error", ctypes.c_char_p, [_pointer]),
    ("fixd_attach", ctypes.c_int, [_pointer, ctypes.c_char_p, ctypes.POINTER(_Options), ctypes.POINTER(_pointer)]),
    ("fixd_fd", ctypes.c_int, [_pointer]),
    ("fixd_detach", None, [_pointer]),
    ("fixd_join", ctypes.c_int, [_pointer, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_uint]),
    ("fixd_define", ctypes.c_int, [_pointer, ctypes.c_char_p, ctypes.POINTER(ctypes.c_char_p)]),
    ("fixd_build_begin", ctypes.c_int, [_pointer, ctypes.c_char_p, ctypes.POINTER(_Options), ctypes.POINTER(_pointer),
                                        ctypes.POINTER(_pointer)]),
    ("fixd_build_memory", _pointer, [_pointer, ctypes.c_size_t]),
    ("fixd_build_commit", ctypes.c_int, [_pointer, ctypes.c_size_t, ctypes.POINTER(_Teardown), ctypes.POINTER(_pointer)]),
    ("fixd_build_abort", ctypes.c_int, [_pointer, ctypes.c_char_p]),
    ("fixd_run_done", None, [_pointer]),
    ("fixd_release", ctypes.c_int, [_pointer, ctypes.c_int, ctypes.POINTER(_pointer), ctypes.POINTER(ctypes.c_size_t)]),
    ("fixd_claim_teardown", ctypes.c_int, [_pointer, ctypes.c_char_p, ctypes.POINTER(_pointer), ctypes.POINTER(_pointer),
                                  ctypes.POINTER(ctypes.c_size_t)]),
    ("fixd_view_root", _pointer, [_pointer]),
    ("fixd_view_data", _pointer, [_pointer]),
    ("fixd_view_size", ctypes.c_size_t, [_pointer]),
    ("fixd_view_path", ctypes.c_char_p, [_pointer]),
    ("fixd_view_generation", ctypes.c_uint32, [_pointer]),
    ("fixd_view_flags", ctypes.c_uint, [_pointer]),
    ("fixd_view_current", ctypes.c_bool, [_pointer]),
    ("fixd_set_test", None, [_pointer, ctypes.c_char_p]),
    ("fixd_view_reset", ctypes.c_int64, [_pointer]),
    ("fixd_view_changes", ctypes.c_int64, [_pointer, ctypes.POINTER(_Range), ctypes.c_size_t]),
    ("fixd_view_used", None, [_pointer, ctypes.c_char_p]),
    ("fixd_view_object", ctypes.c_int64, [_pointer, _pointer, ctypes.c_char_p, ctypes.c_size_t]),
    ("fixd_view_blame", ctypes.c_int64, [_pointer, _pointer, ctypes.c_char_p, ctypes.c_size_t]),
]

_loaded: Optional[ctypes.CDLL] = None


def library_path() -> str:
    """libfixd.so of $FIXD_LIBRARY, or where the loader finds it."""
    return os.environ.get("FIXD_LIBRARY") or "libfixd.so.0"


def library() -> ctypes.CDLL:
    global _loaded
    if _loaded is None:
        path = library_path()
        try:
            lib = ctypes.CDLL(path)
        except OSError as e:
            raise FixdError(errno.ENOENT, f"libfixd is not installed ({e}); FIXD_LIBRARY may name it") from None
        for name, result, arguments in _FUNCTIONS:
            function = getattr(lib, name, None)
            if function is None:
                raise FixdError(errno.ENOSYS, f"{path} is older than this plugin: it has no {name}()")
            function.restype, function.argtypes = result, arguments
        _loaded = lib
    return _loaded


_libc = ctypes.CDLL(None)
_libc.free.argtypes = [_pointer]
_libc.free.restype = None


def _taken(pointer: ctypes.c_void_p, size: int) -> Optional[bytes]:
    """Bytes that the library allocated for us."""
    if not pointer.value:
        return None
    data = ctypes.string_at(pointer.value, size)
    _libc.free(pointer)
    return data


class View:
    """One mapping of an image.  It stays while anything refers to it, also a memoryview of its bytes."""

    def __init__(self, connection: "Connection", handle: ctypes.c_void_p, writable: bool):
        self.connection, self.writable = connection, writable
        self._handle: Optional[ctypes.c_void_p] = handle
        self._lib, self._pid = connection._lib, os.getpid()
        self.address: int = self._lib.fixd_view_data(handle)
        self.size: int = self._lib.fixd_view_size(handle)
        self.isolated = True  # what is written to it is undone
        self.generation: int = self._lib.fixd_view_generation(handle)
        self.built: bool = bool(self._lib.fixd_view_flags(handle) & _VIEW_BUILT)
        self.reused: bool = bool(self._lib.fixd_view_flags(handle) & _VIEW_REUSED)

    def __del__(self) -> None:
        self.detach()

    def detach(self) -> None:
        """Lets go of it now: nothing may look at its bytes any more."""
        handle, self._handle = getattr(self, "_handle", None), None
        # A forked child has its parent's mappings until it ends; the library gives nothing back for it.
        if handle:
            with self.connection._lock:
                self._lib.fixd_detach(handle)

    @property
    def root(self) -> int:
        """The address of the object that a builder has set as the root."""
        return self._lib.fixd_view_root(self._handle)

    @property
    def data(self) -> memoryview:
        """The bytes: shared, not copied; read-only unless the view is copy-on-write."""
        if self.size == 0:
            return memoryview(b"")
        array = (ctypes.c_ubyte * self.size).from_address(self.address)
        array._view = self  # type: ignore[attr-defined]  # the memory lives as long as the array
        view = memoryview(array).cast("B")
        return view if self.writable else view.toreadonly()

    @property
    def path(self) -> Optional[str]:
        path = self._lib.fixd_view_path(self._handle)
        return os.fsdecode(path) if path else None

    @property
    def current(self) -> bool:
        return self._lib.fixd_view_current(self._handle)

    def reset(self) -> int:
        """Makes a copy-on-write view pristine; how many pages were put back."""
        # A forked child says nothing to the daemon, and another thread of its parent may have had the lock.
        if os.getpid() != self._pid:
            return self.connection._checked(self._lib.fixd_view_reset(self._handle))
        with self.connection._lock:
            return self.connection._checked(self._lib.fixd_view_reset(self._handle))

    def changes(self, most: int = 64) -> List[Tuple[int, int]]:
        """(offset, length) of bytes that this process changed: at most `most` runs of them."""
        ranges = (_Range * most)()
        n = self.connection._checked(self._lib.fixd_view_changes(self._handle, ranges, most))
        return [(r.start - self.address, r.length) for r in ranges[: min(n, most)]]

    def writer(self, offset: int) -> str:
        """With FIXD_BLAME, lines that say who wrote first to the page of this byte; empty: nobody knows."""
        text = ctypes.create_string_buffer(8192)
        self.connection._checked(self._lib.fixd_view_blame(self._handle, self.address + offset, text, len(text)))
        return text.value.decode(errors="replace")

    def object(self, offset: int) -> str:
        """What the builder has said, or a variable of the program tells, of what lies there; empty: nothing."""
        text = ctypes.create_string_buffer(512)
        n = self._lib.fixd_view_object(self._handle, self.address + offset, text, len(text))
        return text.value.decode(errors="replace") if n > 0 else ""

    def used(self, line: Optional[str] = None) -> None:
        """Says that the test has had it, and which line has changed it, for fixctl report."""
        with self.connection._lock:
            self._lib.fixd_view_used(self._handle, line and line.encode(errors="replace"))

    def blame_nobody(self) -> None:
        """The library says nothing of what is changed now: it may be."""
        self._lib.fixd_view_blame(self._handle, None, None, 0)

    def release(self, wait_s: float = 0) -> Tuple[bool, Optional[bytes]]:
        """Gives the image up.  (whether this member of the run was the last, the builder's note)."""
        note, size = _pointer(), ctypes.c_size_t()

        def ask(seconds: float) -> int:
            with self.connection._lock:
                return self.connection._checked(self._lib.fixd_release(self._handle, int(seconds * 1000), ctypes.byref(note), ctypes.byref(size)))

        return bool(_patiently(ask, wait_s)), _taken(note, size.value)


class Build:
    """An image that this process was told to build: commit() or abort() it."""

    def __init__(self, connection: "Connection", handle: ctypes.c_void_p, writable: bool):
        self._connection, self._writable = connection, writable
        self._handle: Optional[ctypes.c_void_p] = handle
        self._lib = connection._lib

    def memory(self, size: int) -> memoryview:
        """The first `size` bytes of the image, to be filled; not to be used after commit() or abort()."""
        if size == 0:
            return memoryview(bytearray())
        address = self._lib.fixd_build_memory(self._handle, size)
        if not address:
            raise FixdError(errno.EDQUOT, self._connection._sentence())
        return memoryview((ctypes.c_ubyte * size).from_address(address)).cast("B")

    def commit(self, size: int, note: Optional[bytes] = None, keeper: bool = False, teardown: bool = False) -> View:
        how = None
        if note is not None or keeper or teardown:
            how = ctypes.byref(_Teardown(ctypes.sizeof(_Teardown), note, len(note or b""), _KEEPER if keeper else 0))
        view, handle = _pointer(), self._handle
        self._handle = None
        with self._connection._lock:
            result = self._lib.fixd_build_commit(handle, size, how, ctypes.byref(view))
            handle.value = None  # type: ignore[union-attr]
            self._connection._checked(result)
        return View(self._connection, view, self._writable)

    def abort(self, sentence: Optional[str]) -> None:
        """It failed, and the others are told why; or with None, somebody else may build it."""
        handle, self._handle = self._handle, None
        if handle:
            words = None if sentence is None else sentence.encode(errors="replace").replace(b"\0", b" ")
            with self._connection._lock:
                self._lib.fixd_build_abort(handle, words)
                handle.value = None

    def __del__(self) -> None:
        if getattr(self, "_handle", None):
            self.abort(None)


class Connection:
    """A connection to the daemon.  Any thread; one request at a time."""

    def __init__(self, socket: Optional[str] = None):
        self._lib = library()
        self._lock = threading.RLock()
        self._waiting = threading.Lock()
        handle = _pointer()
        r = self._lib.fixd_open(ctypes.byref(handle), os.fsencode(socket) if socket else None)
        if r < 0:
            raise FixdError(-r, self._lib.fixd_error(None).decode(errors="replace"))
        self._handle: Optional[ctypes.c_void_p] = handle

    def _sentence(self) -> str:
        return self._lib.fixd_error(self._handle).decode(errors="replace")

    def _checked(self, r: int) -> int:
        if r < 0:
            raise FixdError(-r, self._sentence())
        return r

    def close(self) -> None:
        """Ends all leases; views stay mapped."""
        handle, self._handle = self._handle, None
        if handle:
            with self._lock:
                self._lib.fixd_close(handle)

    def join(self, root: Union[str, "os.PathLike[str]"], run: Optional[str] = None, observer: bool = False) -> None:
        with self._lock:
            self._checked(self._lib.fixd_join(self._handle, os.fsencode(root), run.encode() if run else None,
                                              OBSERVER if observer else 0))

    def define(self, name: str, settings: Iterable[str] = ()) -> None:
        values = [os.fsencode(s) for s in settings]
        with self._lock:
            self._checked(self._lib.fixd_define(self._handle, name.encode(), (ctypes.c_char_p * (len(values) + 1))(*values, None)))

    def _options(self, writable: bool, timeout_s: float, scope_key: str, depends: Sequence[View] = ()) -> _Options:
        handles = (_pointer * len(depends))(*[v._handle for v in depends])
        return _Options(ctypes.sizeof(_Options), COW if writable else 0, int(timeout_s * 1000),
                        scope_key.encode(errors="surrogateescape"), handles, len(depends))

    def attach(self, name: str, writable: bool = False, timeout_s: float = 0, scope_key: str = "") -> View:
        """A fixture of fixd.ini, or one that another client has built.  It is asked for once: who stands in a line keeps the place."""
        view, options = _pointer(), self._options(writable, timeout_s, scope_key)
        options.flags |= _NOWAIT
        answer = select.poll()
        with self._waiting:
            while True:
                with self._lock:
                    told = self._lib.fixd_attach(self._handle, name.encode(), ctypes.byref(options), ctypes.byref(view))
                    if told != -errno.EAGAIN:
                        self._checked(told)
                        return View(self, view, writable)
                    fd = self._lib.fixd_fd(self._handle)
                answer.register(fd, select.POLLIN)
                # What another thread asks may take the answer.
                answer.poll(CALL_S * 1000)
                answer.unregister(fd)

    def begin(self, name: str, writable: bool = False, timeout_s: float = 0, scope_key: str = "",
              depends: Sequence[View] = ()) -> Union[View, Build]:
        """A View; or a Build, and this process is the builder."""
        view, build = _pointer(), _pointer()

        def ask(seconds: float) -> Union[View, Build]:
            options = self._options(writable, seconds, scope_key, depends)
            with self._lock:
                told = self._checked(self._lib.fixd_build_begin(self._handle, name.encode(), ctypes.byref(options),
                                                                ctypes.byref(view), ctypes.byref(build)))
            return Build(self, build, writable) if told else View(self, view, writable)

        try:
            return _patiently(ask, timeout_s)
        except KeyboardInterrupt:
            # The others are not to wait for what nobody builds here; of a Build that was made the handle is none any more.
            Build(self, build, writable).abort(None)
            raise

    def set_test(self, test: Optional[str]) -> None:
        """The test that runs from now on, which the daemon's log of events names; None: none does."""
        with self._lock:
            self._lib.fixd_set_test(self._handle, None if test is None else test.encode(errors="replace").replace(b"\0", b" "))

    def closing(self) -> None:
        with self._lock:
            self._lib.fixd_run_done(self._handle)

    def adopt(self, pattern: str = "*") -> Optional[Tuple[str, bytes]]:
        """(instance, note) of an image that nobody was told to tear down."""
        title, note, size = _pointer(), _pointer(), ctypes.c_size_t()
        with self._lock:
            found = self._checked(self._lib.fixd_claim_teardown(self._handle, pattern.encode(), ctypes.byref(title), ctypes.byref(note),
                                                       ctypes.byref(size)))
        if not found:
            return None
        name = ctypes.string_at(title.value).decode(errors="replace") if title.value else ""
        _libc.free(title)
        return name, _taken(note, size.value) or b""
