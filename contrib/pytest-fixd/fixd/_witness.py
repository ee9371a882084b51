# SPDX-License-Identifier: MIT
"""What a process that has seen nothing be built has to object to what the others will get.

It loads it, and compares its classes.  What a constructor has made of a class, once, is missing there, as it would be in another
worker and in the next run.
"""

from __future__ import annotations

import mmap
import os
import pickle
from typing import Any, Dict, Iterable, List, NamedTuple, Tuple

from . import _values


class _Memory(NamedTuple):
    """In the place of an image that is built, and of a view of one."""

    fd: int

    def memory(self, size: int) -> memoryview:
        os.ftruncate(self.fd, size)
        return memoryview(mmap.mmap(self.fd, size))

    @property
    def data(self) -> memoryview:
        return memoryview(mmap.mmap(self.fd, 0, prot=mmap.PROT_READ))


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


def _states(classes: Iterable[type]) -> List[Tuple[bytes, Dict[str, str]]]:
    """Of classes, and those that they are made of: as a process finds them, and their attributes."""
    found = []
    for cls in sorted({base for cls in classes for base in cls.__mro__ if base.__module__ != "builtins"}, key=lambda c: c.__qualname__):
        try:
            known = _values.dump(cls, "pickle")[1]
        except _values.CannotShare:
            continue
        names = [n for n in vars(cls) if not (n.startswith("__") and n.endswith("__"))]
        found.append((known, {n: _state(vars(cls), n) for n in names}))
    return found


def _lacking(cls: type, states: Dict[str, str]) -> List[str]:
    here = {name: _state(vars(cls), name) for name in states}
    return [n for n, there in states.items() if here[n] == "missing" or (here[n] == "empty" and there == "set")]


def _objection(image: int, all_told: bool, states: List[Tuple[bytes, Dict[str, str]]]) -> str:
    value = None
    try:
        value = _values.Stored(_Memory(image), "pickle").value()  # type: ignore[arg-type]
    except Exception as e:
        if all_told:
            return f"what it has made cannot be loaded by another process: {type(e).__name__}: {e}"
    for known, there in states:
        try:
            cls = pickle.loads(known)
        except Exception:
            continue
        lacking = _lacking(cls, there)
        if lacking:
            return (f"what has made its {type(value).__name__} has also set {', '.join(lacking[:4])} of the class {cls.__qualname__}, which is not "
                    "set in a process that only loads it")
    return ""
