# SPDX-License-Identifier: MIT
"""What a fixture gets by request.getfixturevalue(): it is made of that as of its arguments.

Only its build can tell what that is, and it may depend on what was got before.  So the image of such a fixture has in place of a value
the name that is asked for first.  The fixture with that among its arguments is another instance, which has the value, or the name that is
asked for next.
"""

from __future__ import annotations

import contextlib
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

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


class Record:
    """What a fixture asks for while it is built."""

    def __init__(self, request: Any):
        self.answers: List[Answer] = []
        self._request, self._get = request, request.getfixturevalue

    def _getfixturevalue(self, argname: str) -> Any:
        __tracebackhide__ = True
        try:
            value = self._get(argname)
        except _FAILURES as e:
            self.answers.append(Answer(argname, None, type(e).__qualname__))
            raise
        self.answers.append(Answer(argname, self._request._get_active_fixturedef(argname)))
        return value

    @contextlib.contextmanager
    def listening(self) -> Iterator[None]:
        self._request.getfixturevalue = self._getfixturevalue
        try:
            yield
        finally:
            del self._request.getfixturevalue


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
