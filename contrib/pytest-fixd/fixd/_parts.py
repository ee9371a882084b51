# SPDX-License-Identifier: MIT
"""What a value has in it, and whose code that is."""

from __future__ import annotations

import functools
import itertools
import os
import types
import weakref
from typing import Any, Dict, Iterator, List, Optional, Tuple

from . import _values

MAX = 1000  # of a value that are looked at


def parts_in(value: Any) -> Iterator[Any]:
    """It, and what it has, as far as there are not too many."""
    left, seen = [value], set()
    while left and len(seen) < MAX:
        one = left.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        left += _held_by(one)


def _held_by(one: Any) -> List[Any]:
    kind = type(one)  # what is made on demand may fail when it is asked for more
    if issubclass(kind, dict):
        return [*itertools.islice(one, MAX), *itertools.islice(one.values(), MAX), *attributes_of(one).values()]
    if issubclass(kind, (list, tuple, set, frozenset)):
        return [*itertools.islice(one, MAX), *attributes_of(one).values()]
    if issubclass(kind, functools.partial):
        return [one.func, *one.args, *one.keywords.values()]
    if issubclass(kind, types.MethodType):
        return [one.__func__, one.__self__]
    if issubclass(kind, type):
        # Classes in a class of the project are part of it; what it inherits its source names.
        return [a for n, a in vars(one).items() if not n.startswith("__") and isinstance(a, (type, types.FunctionType, types.ModuleType))]
    if issubclass(kind, (str, bytes, types.ModuleType, types.FunctionType)):
        return []
    return list(attributes_of(one).values())


_slots: "weakref.WeakKeyDictionary[type, List[Tuple[str, Any]]]" = weakref.WeakKeyDictionary()


def _slots_of(cls: type) -> List[Tuple[str, Any]]:
    known = _slots.get(cls)
    if known is None:
        known = _slots[cls] = [(name, slot) for c in cls.__mro__ if c.__module__ != "builtins" for name, slot in vars(c).items()
                               if type(slot) is types.MemberDescriptorType]
    return known


def attributes_of(one: Any) -> Dict[str, Any]:
    """Of the object itself, also those that have slots."""
    found: Dict[str, Any] = {}
    for name, slot in _slots_of(type(one)):
        try:
            found[name] = slot.__get__(one)
        except Exception:
            pass  # it is not set
    try:
        return {**found, **object.__getattribute__(one, "__dict__")}
    except Exception:
        return found


def code_of(one: Any) -> Any:
    """The function, class or module whose code a part is, or is made by."""
    kind = type(one)
    if issubclass(kind, types.MethodType):
        return one.__func__
    return one if issubclass(kind, (types.FunctionType, types.ModuleType, type)) else kind


def is_hashable(thing: Any) -> bool:
    """Metaclasses may say that classes are not."""
    try:
        hash(thing)
        return True
    except Exception:
        return False


@functools.lru_cache(maxsize=None)
def file_of(thing: Any) -> Optional[str]:
    """Where that is written; None: nowhere, as far as can be told."""
    if isinstance(thing, types.FunctionType):
        return os.path.realpath(thing.__code__.co_filename)
    if isinstance(thing, types.ModuleType):
        path = getattr(thing, "__file__", None)
        return os.path.realpath(path) if path else None
    return _file_of_class(thing)


def _file_of_class(cls: type) -> Optional[str]:
    # Several modules may be called conftest; and what a decorator has generated has no file.
    own = [a for a in vars(cls).values() if isinstance(a, types.FunctionType) and a.__module__ == cls.__module__]
    files = (os.path.realpath(f.__code__.co_filename) for f in own)
    found = next((path for path in files if os.path.isfile(path)), None)
    if found is not None:
        return found
    module = _values.module_of(cls)
    path = getattr(module, "__file__", None)
    return os.path.realpath(path) if path else None
