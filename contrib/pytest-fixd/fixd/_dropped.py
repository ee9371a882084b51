# SPDX-License-Identifier: MIT
"""Attributes that an object has and its copy would not: those that its class's own way to be pickled leaves out, as requests.Session does
with what a program has set besides.  What its class knows of, and leaves out all the same, it can do without: caches, what is open; and so
is what is private, or no plain value: another object that it knows, as a column its frame."""

from __future__ import annotations

import copyreg
import datetime
import decimal
import enum
import functools
import pathlib
import pickle
import sys
import types
import uuid
import weakref
from typing import Any, Callable, Dict, FrozenSet, Optional

_HOOKS = ("__reduce__", "__reduce_ex__", "__getstate__")
_PLAIN = (str, bytes, int, float, complex, enum.Enum, pathlib.PurePath, datetime.date, datetime.time, datetime.timedelta, decimal.Decimal, uuid.UUID)
# So many of a class are looked at that leave nothing out.
LOOKED_AT_MAX = 32
_own_ways: "weakref.WeakKeyDictionary[type, bool]" = weakref.WeakKeyDictionary()


def _has_own_way(cls: type) -> bool:
    known = _own_ways.get(cls)
    if known is None:
        known = _own_ways[cls] = cls in copyreg.dispatch_table or any(getattr(cls, name, None) is not getattr(object, name, None) for name in _HOOKS)
    return known


@functools.lru_cache(maxsize=None)
def _known_to(cls: type) -> FrozenSet[str]:
    """Names that the class has, or the code of its functions, which decides what is left out; and those that it is made of."""
    mro = cls.__mro__[next((i for i, c in enumerate(cls.__mro__) if any(name in vars(c) for name in _HOOKS)), 0):]
    members = [(name, f) for c in mro for name, f in vars(c).items()]
    functions = [f.__func__ if issubclass(type(f), (classmethod, staticmethod)) else f.fget if issubclass(type(f), property) else f for _, f in members]
    codes = [f.__code__ for f in functions if issubclass(type(f), types.FunctionType)]
    return frozenset([*(name for name, _ in members), *(name for c in mro for name in vars(c).get("__annotations__", ())),
                      *(name for code in codes for name in code.co_names)])


def _is_array(value: Any) -> bool:
    numpy = sys.modules.get("numpy")
    return numpy is not None and issubclass(type(value), numpy.ndarray)


def _is_plain(value: Any, depth: int = 3) -> bool:
    if issubclass(type(value), _PLAIN) or (_is_array(value) and not value.dtype.hasobject):
        return True
    if depth == 0:
        return False
    if hasattr(type(value), "__dataclass_fields__") or issubclass(type(value), types.SimpleNamespace):
        value = vars(value)
    if issubclass(type(value), dict):
        value = [*value.keys(), *value.values()]
    return type(value) in (tuple, list, set, frozenset) and all(one is None or _is_plain(one, depth - 1) for one in value)


def _reduced(value: Any) -> Any:
    reduce = copyreg.dispatch_table.get(type(value))
    return reduce(value) if reduce is not None else value.__reduce_ex__(5)


def _state_of(value: Any) -> Any:
    """Without a copy of an array's elements, where that can be."""
    if _is_array(value) and type(value).__reduce__ is sys.modules["numpy"].ndarray.__reduce__:
        return None
    reduced = _reduced(value)
    if not isinstance(reduced, tuple):
        return vars(value)  # it is found by its name
    return reduced[2] if len(reduced) > 2 else None


class Looking:
    """At the objects of one value."""

    def __init__(self) -> None:
        self._whole: Dict[type, int] = {}  # how many of a class left nothing out

    def attributes(self, value: Any) -> Dict[str, Any]:
        """As far as its state tells: what it has got by arguments of its class is among them."""
        cls, own = type(value), getattr(value, "__dict__", None)
        if issubclass(cls, BaseException):
            # It is made anew of its args, by whatever its class makes of them.
            return {"args": value.args, **({} if value.__cause__ is None else {"__cause__": value.__cause__})}
        if type(own) is not dict or not own or not _has_own_way(cls) or self._whole.get(cls, 0) >= LOOKED_AT_MAX:
            return {}
        state = _state_of(value)
        states = state if type(state) is tuple else (state,)
        parts = [part for part in states if isinstance(part, dict)]
        # As pydantic has them, below a name of their own.
        parts += [part["__dict__"] for part in parts if isinstance(part.get("__dict__"), dict)]
        kept = {name for part in parts for name in part}
        # Who leaves out all of them is not the class: numpy, or whoever has registered a way for it.
        known = () if _is_array(value) or cls in copyreg.dispatch_table else _known_to(cls)
        found = {name: own[name] for name in sorted(map(str, own)) if name not in kept and not name.startswith("_") and name in own and
                 name not in known and _is_plain(own[name])}
        if not found:
            self._whole[cls] = self._whole.get(cls, 0) + 1
        return found


def lost(value: Any, suspects: Dict[str, Any], dumps: Callable[[Any], bytes]) -> Optional[str]:
    """The first of those that a copy has not, or not so."""
    try:
        # Not of the same parts: they may be told whose they are.
        copy = pickle.loads(dumps(value))
    except Exception:
        return None  # it takes more to make one: nobody can tell
    return next((name for name, one in suspects.items() if not hasattr(copy, name) or _differs(getattr(copy, name), one)), None)


def _differs(a: Any, b: Any) -> bool:
    try:
        # What is no number is not equal to itself.
        return a is not b and not bool(a == b) and pickle.dumps(a, 5) != pickle.dumps(b, 5)
    except Exception:
        return False  # as arrays: it is there
