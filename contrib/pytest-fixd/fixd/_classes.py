# SPDX-License-Identifier: MIT
"""What classes have beside what stands in their source: set by a constructor, or a metaclass, when the first instance was made."""

from __future__ import annotations

import os
import pickle
import sys
from typing import Any, Dict, Iterable, List, Tuple

from . import _source, _values

# Each class as a process finds it, and its attributes.
States = List[Tuple[bytes, Dict[str, str]]]


def _state(attributes: Any, name: str) -> str:
    if name not in attributes:
        return "missing"
    value = attributes[name]
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return "number"  # it may count
    try:
        return "set" if value else "empty"
    except Exception:
        return "set"


def _is_cache(cls: type, name: str) -> bool:
    """Of an installed package: what it remembers of its own, and fills again."""
    file = getattr(sys.modules.get(cls.__module__), "__file__", None)
    return "cache" in name.lower() and not (file and _source.is_project(os.path.realpath(file)))


def states(classes: Iterable[type]) -> States:
    """Of classes, and those that they are made of: as a process finds them, and their attributes."""
    found = []
    for cls in sorted({base for cls in classes for base in cls.__mro__ if base.__module__ != "builtins"}, key=lambda c: c.__qualname__):
        try:
            known = _values.dump(cls, "pickle")[1]
        except _values.CannotShare:
            continue
        names = [n for n in vars(cls) if not (n.startswith("__") and n.endswith("__")) and not _is_cache(cls, n)]
        found.append((known, {n: _state(vars(cls), n) for n in names}))
    return found


def data_of(classes: Iterable[type]) -> List[Tuple[str, List[str]]]:
    """The same of what is no code, and only that it is there, as it is kept with a value."""
    kept = []
    for known, there in states(classes):
        try:
            attributes = vars(pickle.loads(known))
        except Exception:
            continue
        names = [n for n in there if n in attributes and not hasattr(type(attributes[n]), "__get__")]
        if names:
            kept.append((known.decode("latin-1"), names))
    return kept


def missing(kept: Iterable[Tuple[str, List[str]]]) -> str:
    """A sentence on what this process does not have of it, or nothing."""
    for known, names in kept:
        try:
            cls = pickle.loads(known.encode("latin-1"))
        except Exception:
            continue
        absent = [n for n in names if n not in vars(cls)]
        if absent:
            return f"the class {cls.__qualname__} has no {', '.join(absent[:4])} here, as it had where it was built"
    return ""


def lacking(cls: type, there: Dict[str, str]) -> List[str]:
    here = {name: _state(vars(cls), name) for name in there}
    return [n for n, state in there.items() if here[n] == "missing" or (here[n] == "empty" and state == "set")]
