# SPDX-License-Identifier: MIT
"""Arrays of numpy, of whatever kind, whose elements lie in an image.

numpy gives only contiguous arrays of simple types to pickle's out-of-band buffers; all others (views with steps, dates, subclasses,
masks) it copies into the pickle.  Here each array is its elements, which are a buffer, and how to look at them.
"""

from __future__ import annotations

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


def _rebuilt_view(base: Any, offset: int, cls: type, shape: Tuple[int, ...], dtype: Any, strides: Tuple[int, ...]) -> Any:
    return sys.modules["numpy"].ndarray.__new__(cls, shape, dtype, base, offset, strides)


def owners_of(arrays: List[Any], numpy: Any) -> Dict[int, Any]:
    """Of arrays of one value those that are views of another of them, by their id: that one, which has all of their memory."""
    roots = {id(a): a.base if isinstance(a.base, numpy.ndarray) else a for a in arrays if type(a) is numpy.ndarray and a.size and not a.dtype.hasobject}
    whole: Dict[int, Any] = {}
    for a in arrays:
        root = roots.get(id(a))
        if root is not None and a.flags.forc and a.nbytes == root.nbytes and (a is root or id(root) not in whole):
            whole[id(root)] = a
    return {id(a): whole[id(root)] for a in arrays for root in [roots.get(id(a))] if root is not None and whole.get(id(root), a) is not a}


def _reduce_view(a: Any, owner: Any) -> Any:
    """Who writes to one of them sees it in the other."""
    offset = a.__array_interface__["data"][0] - owner.__array_interface__["data"][0]
    return _rebuilt_view, (owner, offset, type(a), a.shape, a.dtype, a.strides)


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


def reduce(a: Any, numpy: Any, owners: Dict[int, Any]) -> Any:
    """As reducer_override() of a pickler has it."""
    if id(a) in owners:
        return _reduce_view(a, owners[id(a)])
    cls, in_band = type(a), a.dtype.hasobject or a.size == 0 or a.dtype.itemsize == 0
    if in_band and cls is numpy.ndarray:
        return NotImplemented
    ours, theirs = numpy.ndarray, numpy.ma.MaskedArray if "numpy.ma" in sys.modules else None
    if theirs is not None and not in_band and isinstance(a, theirs) and cls.__reduce__ is theirs.__reduce__:
        return _rebuilt_masked, (cls, _plain(a, numpy), _attributes(a))
    if any(getattr(cls, name, None) is not getattr(ours, name, None) for name in ("__reduce__", "__reduce_ex__", "__setstate__")):
        return NotImplemented if in_band else _reduce_own(a, numpy)
    given = _attributes(a)
    more = (given, None, None, _give) if given else ()
    if in_band:
        return (_viewed, (_plain(a, numpy), cls), *more)
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
