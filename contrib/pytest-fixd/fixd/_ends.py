# SPDX-License-Identifier: MIT
"""What a build has done to its process, which others would not have: temporary files that go with an object, functions that are called
at the end of the process, a server that listens in it; variables of the environment, the working directory, attributes of a class."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import socket
import sys
import tempfile
from typing import Any, Callable, Dict, Iterable, Iterator, List, Optional, Set, Tuple

from . import _variables

_OWNERS = ("TemporaryDirectory", "NamedTemporaryFile")
_listener: Optional["Ends"] = None
_is_listening = False


def _owner() -> Optional[str]:
    """Which of tempfile's is being made; of mkdtemp() and mkstemp() what they make stays."""
    frame: Any = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename == tempfile.__file__:
        name = type(frame.f_locals["self"]).__name__ if "self" in frame.f_locals else frame.f_code.co_name
        if name in _OWNERS:
            return name if frame.f_locals.get("delete", True) else None
        frame = frame.f_back
    return None


def _listen(event: str, arguments: Tuple[Any, ...]) -> None:
    if _listener is not None and event in ("tempfile.mkdtemp", "tempfile.mkstemp"):
        owner = _owner()
        if owner is not None:
            _listener.paths.append((arguments[0], owner))


def _sockets() -> Dict[str, int]:
    """Descriptors, by a word of the kernel's for each socket."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            link = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue  # that of the list itself
        if link.startswith("socket:"):
            found[link] = int(name)
    return found


def _listens(fd: int) -> bool:
    try:
        with socket.socket(fileno=os.dup(fd)) as s:
            return bool(s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
    except OSError:
        return False


def _directory() -> Optional[str]:
    try:
        return os.getcwd()
    except OSError:
        return None  # it has been removed


class _Surroundings:
    """As they are now."""

    def __init__(self, cls: Optional[type], owner: Any):
        self._owner, self._own = owner, dict(getattr(owner, "__dict__", {}))
        self._environment, self._directory, self._path = dict(os.environ), _directory(), list(sys.path)
        self._attributes = [(c, dict(vars(c))) for c in getattr(cls, "__mro__", ()) if c is not object]

    def difference(self, variables: Iterable[str]) -> Optional[str]:
        """What is another one now; `variables` of the environment were set."""
        if _directory() != self._directory:
            return "the working directory"
        if sys.path != self._path:
            return "sys.path"
        for name in sorted(variables):
            if os.environ.get(name) != self._environment.get(name) and not name.startswith(("PYTEST_", "FIXD_")):
                return f"the variable {name} of the environment"
        for cls, before in self._attributes:
            for name, value in dict(vars(cls)).items():
                if not name.startswith("__") and before.get(name, self) is not value:
                    return f"'{name}' of its class"
        own = next((n for n, value in getattr(self._owner, "__dict__", {}).items() if self._own.get(n, self) is not value and
                    not isinstance(getattr(type(self._owner), n, None), functools.cached_property)), None)
        return None if own is None else f"'self.{own}'"

    def changed_by(self, other: Callable[[], Any]) -> Any:
        """What another one sets, as a fixture that is asked for, it sets in each process."""
        __tracebackhide__ = True
        directory, path, attributes = _directory(), list(sys.path), [dict(vars(c)) for c, _ in self._attributes]
        own = dict(getattr(self._owner, "__dict__", {}))
        try:
            return other()
        finally:
            self._own.update({n: value for n, value in getattr(self._owner, "__dict__", {}).items() if own.get(n, self) is not value})
            for (c, before), was in zip(self._attributes, attributes):
                before.update({name: value for name, value in dict(vars(c)).items() if was.get(name, self) is not value})
            # What the build has set before stays its own.
            if directory == self._directory:
                self._directory = _directory()
            if path == self._path:
                self._path = list(sys.path)


def _runs(child: Any) -> bool:
    try:
        return child._parent_pid == os.getpid() and bool(child.is_alive())
    except Exception:
        return False  # it has been closed


def _children() -> Set[Any]:
    """Processes that were begun by name: nobody needs those of pools."""
    process, context, futures = (sys.modules.get(name) for name in ("multiprocessing.process", "multiprocessing.context", "concurrent.futures.process"))
    kinds = tuple(filter(None, (getattr(context, f"{name}Process", None) for name in ("", "Fork", "Spawn", "ForkServer"))))
    pooled = {child for thread in list(getattr(futures, "_threads_wakeups", ())) for child in list((getattr(thread, "processes", None) or {}).values())}
    # Who is asked whether it runs may leave the set.
    return {child for child in list(getattr(process, "_children", ()))
            if isinstance(child, kinds) and "PoolWorker" not in child.name and child not in pooled and _runs(child)}


class Ends:
    def __init__(self, cls: Optional[type], owner: Any = None) -> None:
        """`owner`: the object whose method builds; None, or a class: there is none."""
        self._before = _Surroundings(cls, None if isinstance(owner, type) else owner)
        self._children = _children()
        self.paths: List[Tuple[str, str]] = []
        self._sockets = _sockets()
        self._at_exit = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        global _listener, _is_listening
        if not _is_listening:
            _is_listening = True
            sys.addaudithook(_listen)
        before, register = _listener, atexit.register

        def register_and_note(function: Any, *arguments: Any, **named: Any) -> Any:
            # A module that is imported may do that, too: it does so in each process.
            code = sys._getframe(1).f_code
            self._at_exit = self._at_exit or (code.co_name != "<module>" and _variables.is_project_file(code.co_filename))
            return register(function, *arguments, **named)

        try:
            _listener, atexit.register = self, register_and_note  # type: ignore[assignment]
            yield
        finally:
            _listener, atexit.register = before, register  # type: ignore[assignment]

    def asks(self, other: Callable[[], Any]) -> Any:
        __tracebackhide__ = True
        return self._before.changed_by(other)

    def set_besides(self, variables: Iterable[str]) -> Optional[str]:
        what = self._before.difference(variables)
        return f"it has set {what}, which other processes have not" if what is not None else None

    def objection(self, main: bytes) -> Optional[str]:
        """Of use to this run only. `main`: the value, as it is pickled."""
        # A path may be pickled in parts; the last one is nobody else's.
        owner = next((owner for path, owner in self.paths if os.path.exists(path) and os.fsencode(os.path.basename(path)) in main), None)
        if owner is not None:
            return f"it has the path of a {owner}, which goes with the process that has made it, where tmp_path_factory's directories stay"
        if self._at_exit:
            return "it uses atexit.register(), whose function is called when the process that has built it ends"
        if any(_listens(fd) for link, fd in _sockets().items() if link not in self._sockets):
            return "what it has begun listens in the process that has built it, and ends with that"
        if _children() - self._children:
            return "it has begun a process of multiprocessing's, which ends with the one that has built it"
        return None
