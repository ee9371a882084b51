# SPDX-License-Identifier: MIT
"""A text for a value that is the same in every process."""

from __future__ import annotations

import hashlib
import io
import marshal
import pathlib
import pickle
import types
from typing import Any, List, Optional, Tuple

from . import _dropped

PLAIN = (str, bytes, int, float, complex, bool, type(None))
SORTED_MAX = 64 << 10


class _Told:
    """An object() is equal to itself only; in others it is a mark that is in all of them.  What pickle does not see is told besides."""

    def __init__(self, out: Any, besides: List[str], **options: Any):
        super().__init__(out, **options)
        self._besides, self._looking = besides, _dropped.Looking()

    def reducer_override(self, value: Any) -> Any:
        for name, one in self._looking.attributes(value).items():
            print_ = fingerprint(one)
            if print_ is not None:
                self._besides.append(f"{type(value).__name__}.{name}={print_}")
        return (str, ("any object()",)) if type(value) is object else NotImplemented


class _Pickler(_Told, pickle.Pickler):
    """The fast one."""


class _SortingPickler(_Told, pickle._Pickler):  # type: ignore[attr-defined,misc]
    """Sets have an order of their own in every process."""

    dispatch = dict(pickle._Pickler.dispatch)  # type: ignore[attr-defined]

    def save_sorted(self, value: Any) -> None:
        self.save((type(value).__name__, sorted(_pickled(v, _SortingPickler) for v in value)))

    dispatch[set] = dispatch[frozenset] = save_sorted


def _pickled(value: Any, pickler: Any = _Pickler) -> bytes:
    buffers: List[pickle.PickleBuffer] = []
    besides: List[str] = []
    out = io.BytesIO()
    pickler(out, besides, protocol=5, buffer_callback=buffers.append).dump(value)
    return out.getvalue() + b"".join(b.raw() for b in buffers) + "".join(besides).encode()


def _function_print(f: types.FunctionType, inside: Tuple[Any, ...]) -> Optional[str]:
    # Functions may call each other by their closures.
    if any(f is g for g in inside):
        return f"again:{[f is g for g in inside].index(True)}"
    held = _print((f.__defaults__, f.__kwdefaults__, tuple(c.cell_contents for c in f.__closure__ or ())), (*inside, f))
    if held is None:
        return None
    return f"function:{f.__module__}.{f.__qualname__}:{hashlib.blake2b(marshal.dumps(f.__code__)).hexdigest()}:{held}"


def _all_prints(values: Any, inside: Tuple[Any, ...]) -> Optional[List[str]]:
    known = []
    for value in values:
        one = _print(value, inside)
        if one is None:
            return None
        known.append(one)
    return known


def _print(value: Any, inside: Tuple[Any, ...] = ()) -> Optional[str]:
    kind = type(value)
    if kind in PLAIN:
        return f"{kind.__name__}:{value!r}"
    if kind is object:
        return None
    if kind in (tuple, list, set, frozenset) or (isinstance(value, tuple) and hasattr(value, "_fields")):
        known = _all_prints(value, inside)
        if known is None:
            return None
        return f"{kind.__name__}({','.join(sorted(known) if isinstance(value, (set, frozenset)) else known)})"
    if kind is dict:
        pairs = _print(list(value.items()), inside)
        return None if pairs is None else f"dict({pairs})"
    if isinstance(value, pathlib.PurePath):
        return f"path:{value}"
    if isinstance(value, types.ModuleType):
        return f"module:{value.__name__}"
    if isinstance(value, types.FunctionType):
        return _function_print(value, inside)
    data = _pickled(value)
    if len(data) <= SORTED_MAX:
        data = _pickled(value, _SortingPickler)
    return f"{kind.__name__}:{hashlib.blake2b(data).hexdigest()}"


def fingerprint(value: Any) -> Optional[str]:
    """A text that is equal in every process for equal values, and differs for others; None for what cannot be told."""
    try:
        return _print(value)
    except Exception:  # RecursionError, too
        return None
