# SPDX-License-Identifier: MIT
"""Attributes that an object has and its copy would not: those that its class's own way to be pickled leaves out, as requests.Session does
with what a program has set besides.  Private ones are taken for what it can do without: caches, locks."""

from __future__ import annotations

import functools
import pickle
import sys
import weakref
from typing import Any, Dict, Optional

_HOOKS = ("__reduce__", "__reduce_ex__", "__getstate__")
_own_ways: "weakref.WeakKeyDictionary[type, bool]" = weakref.WeakKeyDictionary()


def _has_own_way(cls: type) -> bool:
    known = _own_ways.get(cls)
    if known is None:
        known = _own_ways[cls] = any(getattr(cls, name, None) is not getattr(object, name, None) for name in _HOOKS)
    return known


def _state_of(value: Any) -> Any:
    """Without a copy of an array's elements, where that can be."""
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.ndarray) and type(value).__reduce__ is numpy.ndarray.__reduce__:
        return None
    reduced = value.__reduce_ex__(5)
    if not isinstance(reduced, tuple):
        return vars(value)  # it is found by its name
    return reduced[2] if len(reduced) > 2 else None


def attributes(value: Any) -> Dict[str, Any]:
    """As far as its state tells: what it has got by arguments of its class is among them."""
    own = getattr(value, "__dict__", None)
    if type(own) is not dict or not own or not _has_own_way(type(value)):
        return {}
    state = _state_of(value)
    states = state if type(state) is tuple else (state,)
    kept = {name for part in states if isinstance(part, dict) for name in part}
    return {name: own[name] for name in sorted(map(str, own)) if name not in kept and not name.startswith("_") and name in own and
            not isinstance(getattr(type(value), name, None), (functools.cached_property, property))}


def lost(value: Any) -> Optional[str]:
    """The first of those that a copy has not, or not so."""
    suspects = attributes(value)
    if not suspects:
        return None
    copy = pickle.loads(pickle.dumps(value))
    for name, one in suspects.items():
        if name not in getattr(copy, "__dict__", {}) and (not hasattr(copy, name) or getattr(copy, name) is not one):
            return name
    return None
