# SPDX-License-Identifier: MIT
"""Arrays of numpy, of whatever kind, whose elements lie in an image.

numpy gives only contiguous arrays of simple types to pickle's out-of-band buffers; all others (views with steps, dates, subclasses,
masks) it copies into the pickle.  Here each array is its elements, which are a buffer, and how to look at them.
"""

from __future__ import annotations

import bisect
import pickle
import sys
from typing import Any, Dict, List, Tuple


def _elements(a: Any, numpy: Any) -> Tuple[Any, Tuple[int, ...]]:
    """(bytes of the elements, without gaps, in the order in which they lie in memory; strides): copied only if there are gaps."""
    # What is repeated without being there more than once stays so.
    # (The dots make it an array where there is no axis, too: an element would have lost its byte order.)
    once = a[(*(slice(0, 1) if step == 0 and n > 1 else slice(None) for step, n in zip(a.strides, a.shape)), ...)]
    order = sorted(range(once.ndim), key=lambda axis: (-abs(once.strides[axis]), axis))
    flat = numpy.ascontiguousarray(once.transpose(order))
    strides = [0] * a.ndim
    for axis, step in zip(order, flat.strides):
        strides[axis] = 0 if a.strides[axis] == 0 and a.shape[axis] > 1 else step
    return flat.reshape(-1).view(numpy.uint8), tuple(strides)


def _rebuilt(cls: type, shape: Tuple[int, ...], dtype: Any, strides: Tuple[int, ...], buffer: Any) -> Any:
    return sys.modules["numpy"].ndarray.__new__(cls, shape, dtype, buffer, 0, strides)


# What lies between arrays in the same memory is kept with them, up to so many times their size.
GAPS_MAX = 2


def _rebuilt_view(base: Any, offset: int, cls: type, shape: Tuple[int, ...], dtype: Any, strides: Tuple[int, ...]) -> Any:
    return sys.modules["numpy"].ndarray.__new__(cls, shape, dtype, base, offset, strides)


def _rebuilt_objects(base: Any, first: int, cls: type, shape: Tuple[int, ...], strides: Tuple[int, ...]) -> Any:
    """No buffer may have objects."""
    return sys.modules["numpy"].lib.stride_tricks.as_strided(base[first:], shape, strides).view(cls)


def _address(a: Any) -> int:
    return int(a.__array_interface__["data"][0])


def _extent(a: Any) -> Tuple[int, int]:
    """Addresses of its first byte and behind its last one."""
    steps = [step * (n - 1) for step, n in zip(a.strides, a.shape)]
    return _address(a) + sum(s for s in steps if s < 0), _address(a) + sum(s for s in steps if s > 0) + a.itemsize


def _overlaps_itself(a: Any) -> bool:
    """Some elements lie in each other; not those that are only repeated."""
    first, end = _extent(a)
    n = a.itemsize
    for step, count in zip(a.strides, a.shape):
        n *= 1 if step == 0 else count
    return n > end - first


def _is_of_memory(a: Any, numpy: Any) -> bool:
    return a.size > 0 and a.itemsize > 0 and (a.dtype == object or not a.dtype.hasobject) and not _is_masked(a, numpy)


def _is_masked(a: Any, numpy: Any) -> bool:
    """Its elements are another array, which is looked at itself."""
    return "numpy.ma" in sys.modules and isinstance(a, numpy.ma.MaskedArray)


class _Memory:
    """What several arrays lie in."""

    def __init__(self, first: int, end: int, owner: Any):
        self.first, self.end, self.owner = first, end, owner


def _base_of(a: Any, numpy: Any) -> Any:
    base = a.base
    if type(base).__name__ == "DummyArray":  # of as_strided()
        base = base.base
    return base if isinstance(base, numpy.ndarray) else None


def _owner_of(arrays: List[Any], first: int, end: int, numpy: Any) -> Any:
    """One of them that has all of it, or what they are views of; None: neither can be told."""
    objects = arrays[0].dtype == object
    if any((a.dtype == object) != objects for a in arrays):
        return None
    for a in arrays:
        if type(a) is numpy.ndarray and a.flags.c_contiguous and _extent(a) == (first, end) and (not objects or a.ndim == 1):
            return a
    root = arrays[0]
    while _base_of(root, numpy) is not None:
        root = _base_of(root, numpy)
    begin, behind = _extent(root) if root.size else (0, 0)
    if not root.flags.forc or begin > first or behind < end or (root.dtype == object) != objects or (root.dtype.hasobject and not objects):
        return None
    flat = _plain(root, numpy).reshape(-1, order="A")
    if objects:
        return flat[(first - begin) // root.itemsize:(end - begin) // root.itemsize]
    return flat.view(numpy.uint8)[first - begin:end - begin]


class Together:
    """Of arrays of one value those that lie in the same memory, and are views of it: who writes where they overlap sees it in each."""

    def __init__(self, arrays: List[Any], numpy: Any):
        self._all: List[_Memory] = []
        known = sorted(((*_extent(a), k) for k, a in enumerate(arrays) if _is_of_memory(a, numpy)))
        k = 0
        while k < len(known):
            first, end, members = known[k][0], known[k][1], [known[k][2]]
            while k + 1 < len(known) and known[k + 1][0] < end:
                k += 1
                end = max(end, known[k][1])
                members.append(known[k][2])
            k += 1
            inside = [arrays[m] for m in sorted(members)]
            # Columns of one matrix lie between each other, and need not bring what is between them.
            if end - first <= GAPS_MAX * sum(a.nbytes for a in inside) and (len(inside) > 1 or _overlaps_itself(inside[0])):
                owner = _owner_of(inside, first, end, numpy)
                if owner is not None:
                    self._all.append(_Memory(first, end, owner))
        self._begins = [memory.first for memory in self._all]

    def __bool__(self) -> bool:
        return bool(self._all)

    def view(self, a: Any) -> Any:
        """As a part of what it lies in, as a pickler has it; None: it lies alone, or is that."""
        if not self._all or not a.size:
            return None
        first, end = _extent(a)
        k = bisect.bisect_right(self._begins, first) - 1
        if k < 0 or end > self._all[k].end or self._all[k].owner is a:
            return None
        memory = self._all[k]
        offset = _address(a) - memory.first
        if a.dtype == object:
            return _rebuilt_objects, (memory.owner, offset // a.itemsize, type(a), a.shape, a.strides)
        return _rebuilt_view, (memory.owner, offset, type(a), a.shape, a.dtype, a.strides)


ALONE: Any = Together([], None)


def _rebuilt_masked(cls: type, data: Any, attributes: Any) -> Any:
    masked = data.view(cls)
    vars(masked).update(attributes)
    return masked


def _rebuilt_own(data: Any, make: Any, arguments: Any, state: Any) -> Any:
    """Of a class with a state of its own: what its __setstate__() makes of no elements, and then these."""
    empty = make(*arguments)
    empty.__setstate__(state)
    own = data.view(type(empty))
    if hasattr(own, "__dict__"):
        vars(own).update(vars(empty))
    return own


def _plain(a: Any, numpy: Any) -> Any:
    return numpy.ndarray.view(a, numpy.ndarray)


_MADE_ANEW = ("_basedict", "_mmap")  # of a masked array: what it was made of; of a memmap: the file's own memory


def _attributes(a: Any) -> Dict[str, Any]:
    """What a subclass, or its user, has given it: pickle, and so numpy, knows of elements only."""
    return {name: value for name, value in getattr(a, "__dict__", {}).items() if name not in _MADE_ANEW}


def _give(a: Any, attributes: Dict[str, Any]) -> None:
    vars(a).update(attributes)


def _viewed(data: Any, cls: type) -> Any:
    return data.view(cls)


def _without_elements(state: Any, a: Any) -> Any:
    """None: numpy's part is not found in the state, (version, shape, dtype, is Fortran's, elements), neither among others nor as one of them."""
    if type(state) is not tuple:
        return None
    for k in range(len(state) - 4):
        shape, elements = state[k + 1], state[k + 4]
        if type(shape) is tuple and shape == a.shape and type(elements) is bytes and len(elements) == a.nbytes:
            return (*state[:k + 1], (0,), state[k + 2], False, b"", *state[k + 5:])
    for k, part in enumerate(state):
        found = _without_elements(part, a)
        if found is not None:
            return (*state[:k], found, *state[k + 1:])
    return None


def _reduce_own(a: Any, numpy: Any) -> Any:
    """By its own way to be pickled, which puts the elements into numpy's part of the state."""
    made = a.__reduce_ex__(5)
    state = _without_elements(made[2], a) if isinstance(made, tuple) and len(made) == 3 else None
    return NotImplemented if state is None else (_rebuilt_own, (_plain(a, numpy), made[0], made[1], state))


def reduce(a: Any, numpy: Any, together: Together) -> Any:
    """As reducer_override() of a pickler has it."""
    cls, in_band = type(a), a.dtype.hasobject or a.size == 0 or a.dtype.itemsize == 0
    ours, theirs = numpy.ndarray, numpy.ma.MaskedArray if "numpy.ma" in sys.modules else None
    if theirs is not None and not in_band and isinstance(a, theirs) and cls.__reduce__ is theirs.__reduce__:
        return _rebuilt_masked, (cls, _plain(a, numpy), _attributes(a))
    if any(getattr(cls, name, None) is not getattr(ours, name, None) for name in ("__reduce__", "__reduce_ex__", "__setstate__")):
        return NotImplemented if in_band else _reduce_own(a, numpy)
    given = _attributes(a)
    more = (given, None, None, _give) if given else ()
    view = together.view(a)
    if view is not None:
        return (*view, *more)
    if in_band:
        return NotImplemented if cls is ours else (_viewed, (_plain(a, numpy), cls), *more)
    elements, strides = _elements(_plain(a, numpy), numpy)
    return (_rebuilt, (cls, a.shape, a.dtype, strides, pickle.PickleBuffer(elements)), *more)


def without_caches(a: Any, reduced: Any, numpy: Any) -> Any:
    """What reduce() made of it, without what a masked array notes down when it is asked what it is filled with: the default."""
    if reduced[0] is not _rebuilt_masked or reduced[1][2].get("_fill_value") is None:
        return reduced
    cls, plain, attributes = reduced[1]
    default = numpy.ma.array(0, dtype=a.dtype).fill_value if a.dtype.names is None else None
    if default is not None and attributes["_fill_value"].tobytes() == numpy.asarray(default, a.dtype).tobytes():
        attributes = {**attributes, "_fill_value": None}
    return reduced[0], (cls, plain, attributes)
