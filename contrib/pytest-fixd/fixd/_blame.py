# SPDX-License-Identifier: MIT
"""Which part of a value was changed, and who did it: what --fixd-blame says of a copy-on-write fixture.

libfixd keeps the first write to each page with its stack, Python's included (FIXD_BLAME, see libfixd(3)).  Here an address becomes a
place in the value, like `["weights"][3, 4]`.
"""

from __future__ import annotations

import os
import sys
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from ._lib import View
from ._rerun import attributes_of

VARIABLE = "FIXD_BLAME"
PAGE = 4096  # has one first writer
BYTES_MAX = 8  # that are shown
CHANGES_MIN = 256  # that are asked for at first
CHANGES_MAX = 1 << 16  # and that are looked at
PAGES_MAX = 256  # of which it is asked who wrote, and the last
WRITERS_MAX = 4  # that are told
OBJECTS_MAX = 20000  # of a value, that are searched for its arrays


class Spot(NamedTuple):
    """An element of an array of a value."""

    path: str
    array: Any
    index: Tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.path}[{', '.join(map(str, self.index))}]"

    def element(self) -> str:
        return repr(self.array[self.index].item() if self.array.dtype.names is None else self.array[self.index])


class Watching:
    """For as long as tests run: this process, and those that it starts."""

    def __init__(self) -> None:
        self._before = os.environ.get(VARIABLE)
        os.environ[VARIABLE] = "1"

    def end(self) -> None:
        if self._before is None:
            os.environ.pop(VARIABLE, None)
        else:
            os.environ[VARIABLE] = self._before


def _parts(value: Any) -> Iterator[Tuple[str, Any]]:
    """What a value is made of, and how one gets there from it."""
    pandas, numpy = sys.modules.get("pandas"), sys.modules["numpy"]
    if isinstance(value, numpy.ma.MaskedArray):
        yield ".data", value.data
        yield ".mask", numpy.ma.getmask(value)
    elif pandas is not None and isinstance(value, pandas.DataFrame):
        for i, name in enumerate(value.columns):
            yield f"[{name!r}]", value.iloc[:, i]
        yield ".index", value.index
    elif pandas is not None and isinstance(value, (pandas.Series, pandas.Index)):
        array = value.array
        yield "", getattr(array, "_ndarray", None) if not hasattr(array, "_mask") else array._data
        yield ".mask", getattr(array, "_mask", None)
        if isinstance(value, pandas.Series):
            yield ".index", value.index
    elif isinstance(value, dict):
        for key, part in value.items():
            yield f"[{key!r}]", part
    elif isinstance(value, (list, tuple)):
        for i, part in enumerate(value):
            yield f"[{i}]", part
    elif not isinstance(value, type):
        for name, part in (attributes_of(value) or {}).items():
            yield f".{name}", part


def _arrays(value: Any) -> Iterator[Tuple[str, Any]]:
    numpy = sys.modules["numpy"]
    waiting: List[Tuple[str, Any]] = [("", value)]
    seen: Dict[int, Any] = {}
    while waiting and len(seen) < OBJECTS_MAX:
        path, part = waiting.pop(0)
        if id(part) in seen:
            continue
        seen[id(part)] = part
        if type(part) is not numpy.ma.MaskedArray and isinstance(part, numpy.ndarray) and not isinstance(part, numpy.ma.MaskedArray):
            yield path, part
        elif not isinstance(part, (str, bytes, int, float)):
            try:
                waiting.extend((path + way, inner) for way, inner in _parts(part))
            except Exception:
                pass  # an object with views of its own on what it is made of


def _index(array: Any, address: int) -> Optional[Tuple[int, ...]]:
    """Of the element at this address, if it is the array's."""
    if array.size == 0 or array.dtype.hasobject or min(array.strides, default=0) < 0:
        return None
    offset = address - array.__array_interface__["data"][0]
    index = [0] * array.ndim
    for axis in sorted(range(array.ndim), key=lambda axis: -array.strides[axis]):
        step = array.strides[axis]
        if step > 0:
            index[axis], offset = divmod(offset, step)
    if 0 <= offset < array.itemsize and all(0 <= i < n for i, n in zip(index, array.shape)):
        return tuple(index)
    return None


def spot_of(value: Any, address: int) -> Optional[Spot]:
    """None: it is in no array of the value, or numpy is not there."""
    if "numpy" not in sys.modules:
        return None
    for path, array in _arrays(value):
        index = _index(array, address)
        if index is not None:
            return Spot(path, array, index)
    return None


class Change(NamedTuple):
    """By one writer; the first of them is told."""

    writer: str
    offset: int
    length: int
    spot: Optional[Spot]
    became: str
    others: int
    object: str  # of an image that no Python made


def _bytes_at(view: View, offset: int, length: int) -> str:
    return bytes(view.data[offset:offset + min(length, BYTES_MAX)]).hex(" ")


def changes_of(view: View, value: Any) -> Tuple[List[Change], int, int]:
    """(Those of each writer, how many other writers there are, how many places nobody was asked about), before the view is reset."""
    by_writer: Dict[str, Change] = {}
    by_page: Dict[int, str] = {}
    unasked = 0
    n = CHANGES_MIN
    while len(found := view.changes(n)) == n and n < CHANGES_MAX:
        n *= 16
    last = found[-1][0] if found else 0
    for offset, length in found:
        page = (view.address + offset) // PAGE
        if page not in by_page and len(by_page) == PAGES_MAX and offset < last:
            unasked += 1  # to ask takes a while
            continue
        writer = by_page[page] = by_page[page] if page in by_page else view.writer(offset)
        if writer in by_writer:
            by_writer[writer] = by_writer[writer]._replace(others=by_writer[writer].others + 1)
        else:
            spot = spot_of(value, view.address + offset) if len(by_writer) < WRITERS_MAX else None
            became = spot.element() if spot else _bytes_at(view, offset, length)
            by_writer[writer] = Change(writer, offset, length, spot, became, 0, "" if spot else view.object(offset))
    return list(by_writer.values())[:WRITERS_MAX], max(0, len(by_writer) - WRITERS_MAX), unasked


def sentence_of(change: Change, view: View, where: str) -> str:
    """After the view was reset: what was there before is there again.  `where`: the place, if it is no element of an array."""
    if change.spot is None:
        what = (f"{change.length} byte(s) from {where}{f', {change.object}' if change.object else ''}: "
                f"{_bytes_at(view, change.offset, change.length)} became {change.became}")
    else:
        what = f"{change.spot} was {change.spot.element()} and became {change.became}"
    more = f", and {change.others} other place(s)" if change.others else ""
    lines = [line if line.startswith(" ") else "  " + line for line in change.writer.splitlines()] or ["  nobody knows by whom"]
    return "\n".join([what + more] + ["  " + line for line in lines])
