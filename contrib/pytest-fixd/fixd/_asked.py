# SPDX-License-Identifier: MIT
"""What a fixture gets by request.getfixturevalue(): it is made of that as of its arguments.

Only its build can tell what that is, and it may depend on what was got before.  So the image of such a fixture has in place of a value
the name that is asked for first.  The fixture with that among its arguments is another instance, which has the value, or the name that is
asked for next.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import sys
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Set, Tuple

import pytest

from . import _values
from ._lib import Build, View

KIND = "asks"
_FAILURES = (Exception, pytest.skip.Exception, pytest.fail.Exception)


class Answer(NamedTuple):
    name: str
    fixturedef: Any  # None: there is none, or it cannot be set up
    failure: str = ""


class Where(NamedTuple):
    """An instance: of a fixture with its arguments, and some of what it has asked for."""

    full: str
    place: str
    views: Tuple[View, ...]
    answers: Tuple[Answer, ...]


class Again(Exception):
    """Somebody else has built it meanwhile."""


def ask(request: Any, name: str) -> Answer:
    """As the fixture would."""
    # Where pytest counts who overrides whom, what has failed may be asked for once more.
    counted = getattr(request, "_arg2index", None)
    before = dict(counted) if counted is not None else {}
    try:
        return Answer(name, request._get_active_fixturedef(name))
    except _FAILURES as e:
        if counted is not None:
            counted.clear()
            counted.update(before)
        return Answer(name, None, type(e).__qualname__)


# What another test, or another process, has otherwise; and of a scope, what all have that share it.
DONE_TO_THE_TEST = ("addfinalizer", "applymarker")
OF_THE_TEST = ("node", "function", "module", "cls", "instance", "keywords", "fixturenames", "path", "fspath", "session", *DONE_TO_THE_TEST)
_OF_SCOPE = {scope: ("node", "path", "fspath") for scope in ("class", "module", "package")}
_OURS = ("_pytest.", "pytest", "xdist.", __package__ + ".")


def _listening(kind: type, name: str) -> property:
    original = inspect.getattr_static(kind, name)

    def get(request: Any) -> Any:
        if not str(sys._getframe(1).f_globals.get("__name__", "")).startswith(_OURS):
            request._fixd_record.looked.add(name)
        return original.__get__(request, kind)

    return property(get)


@functools.lru_cache(maxsize=None)
def _kind_that_listens(kind: type) -> type:
    there = [name for name in OF_THE_TEST if inspect.getattr_static(kind, name, None) is not None]
    return type(kind.__name__, (kind,), {name: _listening(kind, name) for name in there})


class Record:
    """What a fixture asks for while it is built, and what it looks at of the test that needs it."""

    def __init__(self, request: Any, around: Callable[[Callable[[], Any]], Any], as_built: Callable[[str, Any], Any]):
        """`around` calls what sets up what is asked for; `as_built` gives it as others have it."""
        self._around, self._as_built = around, as_built
        self.answers: List[Answer] = []
        self.looked: Set[str] = set()
        self._request, self._get = request, request.getfixturevalue

    def of_the_test(self, scope: Any, names: Sequence[str]) -> Optional[str]:
        """Of these what others with which it would be shared have otherwise, as far as can be told."""
        found = [name for name in names if name in self.looked and name not in _OF_SCOPE.get(scope, ())]
        return f"request.{found[0]}" if found else None

    def _getfixturevalue(self, argname: str) -> Any:
        __tracebackhide__ = True
        try:
            value = self._around(functools.partial(self._get, argname))
        except _FAILURES as e:
            self.answers.append(Answer(argname, None, type(e).__qualname__))
            raise
        self.answers.append(Answer(argname, self._request._get_active_fixturedef(argname)))
        return self._as_built(argname, value)

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        request, kind = self._request, type(self._request)
        request.getfixturevalue, request._fixd_record = self._getfixturevalue, self
        request.__class__ = _kind_that_listens(kind)
        try:
            yield
        finally:
            request.__class__ = kind
            del request.getfixturevalue, request._fixd_record


def commit(build: Build, name: str) -> View:
    return build.commit(_values.write(build, KIND, name.encode(errors="surrogatepass"), []))


def next_of(view: View) -> Optional[str]:
    """What is asked for next; None: it has the value."""
    stored = _values.Stored(view, "auto")
    return str(stored.main, "utf-8", "surrogatepass") if stored.head["kind"] == KIND else None


class Kept:
    """In this process, what fixtures ask for that are set up for each test."""

    def __init__(self) -> None:
        self._known: Dict[Any, Tuple[Tuple[View, ...], View, str]] = {}

    def keep(self, definition: Any, where: Where, view: View, asks: str) -> None:
        if definition.scope in ("function", "definition"):
            self._known[(definition, where.full, where.place)] = (where.views, view, asks)

    def known(self, definition: Any, where: Where) -> Optional[str]:
        found = self._known.get((definition, where.full, where.place))
        return found[2] if found is not None and found[1].current and found[0] == where.views else None
