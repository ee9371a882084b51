# SPDX-License-Identifier: MIT
"""The line that changes what a process has of its own of a value: a key of a dict, a column of a frame.

Nothing of that lies in an image, so nobody sees it being written.  When a test was found to have changed some, a forked child runs the
test's function once more, with the values as they were built, and looks at them before each line; then what is set up and ended for
the test alone.  What the child does is gone with
it, but for what the test does outside of its process.
"""

from __future__ import annotations

import functools
import inspect
import json
import os
import pickle
import select
import signal
import sys
import sysconfig
import threading
import time
import warnings
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple

RERUN_S = 30
GRACE_S = 5  # of one that does not end by its alarm
LOOK_S = 0.01
WORDS_MAX = 60000
CALLERS_MAX = 6
SHOWN_MAX = 60
DEPTH_MAX = 8
_OF_CLASSES = ("_xunit_", "_unittest_", "xunit_", "unittest_")  # setup_method() and the like are fixtures, too
_LIBRARIES = tuple({os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep + "fixd" + os.sep,
                    *(sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib", "purelib", "platlib"))})


class Found(NamedTuple):
    what: str  # was changed, as far as that can be told
    lines: List[str]


def _is_own(file: str) -> bool:
    return not file.startswith(_LIBRARIES) and not file.startswith("<") and "/site-packages/" not in file and "/dist-packages/" not in file


def _shown(value: Any) -> str:
    try:
        text = " ".join(repr(value).split())
    except Exception:
        text = f"a {type(value).__name__}"
    return text if len(text) <= SHOWN_MAX else text[:SHOWN_MAX] + "..."


def _dumped(value: Any) -> Any:
    try:
        return pickle.dumps(value)
    except Exception:
        return None


def _inside(value: Any) -> Optional[Dict[str, Any]]:
    """Its parts, by how one gets there; None: it is looked at as a whole."""
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(value, pandas.DataFrame):
        columns = {f"[{name!r}]": list(value.iloc[:, i]) for i, name in enumerate(value.columns)}
        return {".columns": list(value.columns), ".index": list(value.index), **columns, ".columns.names": list(value.columns.names),
                ".index.names": list(value.index.names), ".attrs": value.attrs}
    if pandas is not None and isinstance(value, pandas.Series):
        return {".name": value.name, ".index": list(value.index), ".values": list(value), ".index.names": list(value.index.names), ".attrs": value.attrs}
    if isinstance(value, dict):
        return {f"[{key!r}]": part for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return {f"[{i}]": part for i, part in enumerate(value)}
    attributes = attributes_of(value) if type(value).__module__ not in ("builtins", "numpy", "pandas") else None
    return {f".{name}": part for name, part in attributes.items()} if attributes is not None else None


def attributes_of(value: Any) -> Optional[Dict[str, Any]]:
    """Those that lie in the object itself, also in slots; None: it has none."""
    own = getattr(value, "__dict__", None)
    slots = [name for cls in type(value).__mro__ for names in [cls.__dict__.get("__slots__", ())] for name in ([names] if isinstance(names, str) else names)]
    found = dict(own) if isinstance(own, dict) else {}
    for name in slots:
        if not name.startswith("__") and hasattr(value, name):
            found[name] = getattr(value, name)
    return found if slots or isinstance(own, dict) else None


def difference(was: Any, now: Any, path: str = "", depth: int = 0) -> str:
    """The first part that is another one, what it was and became; empty: none is."""
    before, after = _inside(was), _inside(now)
    if type(was) is type(now) and before is not None and after is not None and depth < DEPTH_MAX:
        for way in [*before, *(way for way in after if way not in before)]:
            if way not in after:
                return f"{path}{way}, which was {_shown(before[way])}, is gone"
            if way not in before:
                return f"{path}{way} is new: {_shown(after[way])}"
            deeper = difference(before[way], after[way], path + way, depth + 1)
            if deeper:
                return deeper
        if list(before) != list(after):
            return f"{path} has another order".lstrip()
    elif _dumped(was) != _dumped(now):
        return f"{path} was {_shown(was)} and became {_shown(now)}".lstrip()
    return ""


class _Tracer:
    def __init__(self, handle: Any, out: int):
        self._handle, self._out = handle, out
        self._print = handle.stored.private_print(handle.value)
        self._stack: List[Tuple[str, int, str]] = []
        self._looking = False

    def __call__(self, frame: Any, event: str, _: Any) -> Any:
        if not _is_own(frame.f_code.co_filename):
            return None
        if event in ("line", "return") and not self._looking:
            self._looking = True
            try:
                self._look(frame, event)
            finally:
                self._looking = False
        return self

    def _look(self, frame: Any, event: str) -> None:
        """Whatever has changed was changed by the line before."""
        now = self._handle.stored.private_print(self._handle.value)
        if now != self._print and self._stack:
            self._tell()
        at, self._stack = frame if event == "line" else frame.f_back, []
        while at is not None and len(self._stack) < CALLERS_MAX:
            if _is_own(at.f_code.co_filename):
                self._stack.append((at.f_code.co_filename, at.f_lineno, at.f_code.co_name))
            at = at.f_back

    def _tell(self) -> None:
        lines = [f"{'called from' if i else 'changed at'} {file}:{line} in {name}()" for i, (file, line, name) in enumerate(self._stack)]
        what = ""
        if getattr(self._handle.definition, "parse", None) is None:  # which would have to make another one
            what = difference(self._handle.stored.value(), self._handle.value) or "it is equal to what was built, but not the same: a copy, or locked"
        found = json.dumps([what, lines])
        os.write(self._out, found.encode()[:WORDS_MAX])
        os._exit(0)

    def end(self) -> None:
        """The last line of the test has no other after it."""
        self._looking = True
        if self._handle.stored.private_print(self._handle.value) != self._print and self._stack:
            self._tell()


def _renew(item: Any, handles: List[Any]) -> None:
    """The values are as they were built: those that the test gets, and those that it asks for."""
    for handle in handles:
        if handle.view is not None and handle.view.writable:
            handle.view.reset()
        if handle.stored is None or not hasattr(handle.stored, "private_print") or getattr(handle.definition, "parse", None) is not None:
            continue
        old, handle.value = handle.value, handle.stored.value()
        # It may have ended with the test, if that was the last one to have it.
        cached = getattr(handle.fixturedef, "cached_result", None) or handle.cached
        if cached is not None:
            handle.fixturedef.cached_result = (handle.value, *cached[1:])
        for name, value in item.funcargs.items():
            if value is old:
                item.funcargs[name] = handle.value


def _fixtures_again(item: Any, test: Callable[[], None] = lambda: None) -> None:
    """Those that the test has for itself are set up and ended once more, with what is called before and after it, and between that the test."""
    request = item._request
    own = [d for d in request._fixture_defs.values() if d.scope == "function" and not hasattr(d.func, "_fixd") and
           (d.argname.startswith(_OF_CLASSES) or _is_own(inspect.unwrap(d.func).__code__.co_filename))]
    for fixturedef in own:
        fixturedef.cached_result, fixturedef._finalizers = None, []
        del request._fixture_defs[fixturedef.argname]
        getattr(request, "_arg2index", {}).pop(fixturedef.argname, None)
    # It may have ended here already.
    item.session._setupstate.stack.setdefault(item, ([], None))
    for fixturedef in own:
        value = request.getfixturevalue(fixturedef.argname)
        if fixturedef.argname in item.funcargs:
            item.funcargs[fixturedef.argname] = value
    test()
    for fixturedef in own[::-1]:
        fixturedef.finish(request)


def _run(item: Any, handle: Any, handles: List[Any], out: int, steps: List[Callable[[], None]]) -> None:
    os.setpgid(0, 0)
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    signal.alarm(RERUN_S)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    for step in steps:
        _renew(item, handles)
        tracer = _Tracer(handle, out)
        threading.settrace(tracer)
        sys.settrace(tracer)
        try:
            step()
        except BaseException:
            pass  # that the test fails was told
        finally:
            sys.settrace(None)
            tracer.end()


def _end(child: int, has_ended: bool) -> None:
    """And all that it has begun."""
    for signal_all in (os.killpg,) if has_ended else (os.killpg, os.kill):
        try:
            signal_all(child, signal.SIGKILL)
        except OSError:
            pass
    try:
        if not has_ended:
            os.waitpid(child, 0)
    except ChildProcessError:
        pass


def _words_of(child: int, ours: int) -> bytes:
    """All that it has said when it has ended: what the test has begun there may live on, with the other end of the pipe.  Then it is ended."""
    status, limit = None, time.monotonic() + RERUN_S + GRACE_S
    try:
        while status is None and time.monotonic() < limit:
            pid, now = os.waitpid(child, os.WNOHANG)
            if pid:
                status = now
            else:
                select.select([], [], [], LOOK_S)
    except ChildProcessError:
        status = 0  # this program ignores the end of its children
    finally:
        _end(child, status is not None)
    os.set_blocking(ours, False)
    with open(ours, "rb", closefd=False) as f:
        words = f.read() or b""
    if not words and (status is None or os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGALRM):
        raise TimeoutError(f"the test alone, looked at line by line, takes longer than {RERUN_S} s")
    return words


def find(item: Any, handle: Any, handles: List[Any], has_ended: bool = False) -> Optional[Found]:
    """Who changes what `handle` has of its own; None: it did not happen again.  TimeoutError: it was not found out.  `has_ended`: it was not the test, but its fixtures."""
    # What it has may have been made with the value by a fixture of its own.
    steps = [functools.partial(_fixtures_again, item)] if has_ended else [item.runtest, functools.partial(_fixtures_again, item, item.runtest)]
    ours, theirs = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of threads, which the child does not have
        child = os.fork()
    if child == 0:
        try:
            os.close(ours)
            _run(item, handle, handles, theirs, steps)
        finally:
            os._exit(1)
    os.close(theirs)
    try:
        words = _words_of(child, ours)
    finally:
        os.close(ours)
    try:
        return Found(*json.loads(words))
    except ValueError:
        return None
