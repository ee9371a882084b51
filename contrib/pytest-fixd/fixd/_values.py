# SPDX-License-Identifier: MIT
"""How values lie in an image, and how they are read from it without a copy.

An image is a magic word, the length of a JSON head, the head, the main part, and buffers, each aligned.  The elements of numpy's
arrays, and what else supports pickle protocol 5's out-of-band data, are the image's own memory when they are read.
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import os
import pickle
import struct
import sys
import types
import weakref
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Sequence, Set, Tuple, Union

from . import _arrays, _canonical, _dropped
from ._lib import Build, View

MAGIC = b"FIXDPY1\n"
_PREFIX = struct.Struct("<8sQ")
_PAGE = 4096


class Serializer(NamedTuple):
    """Your own form: `dumps` makes bytes or str of a value, `loads` makes the value of them again."""

    dumps: Callable[[Any], Union[bytes, str]]
    loads: Callable[[Any], Any]


# Each where it was defined: a process that was forked later finds it there, too.
own_serializers: Dict[int, Any] = {}


class CannotShare(TypeError):
    """The value cannot be put into memory that other processes use."""


# More modules than sys.modules has: of several conftest.py only one is there.  Set by the plugin.
more_modules: Callable[[], Iterable[Any]] = tuple


def _is_in(module: Any, qualname: str, value: Any) -> bool:
    for part in qualname.split("."):
        module = getattr(module, part, None)
    return module is value


def _by_file(file: str, name: str, qualname: str) -> Any:
    from ._teardown import module_of_file

    found = module_of_file(name, file, more_modules())
    for part in qualname.split("."):
        found = getattr(found, part)
    return found


def module_of(value: Any) -> Any:
    """Which has the class or function under its name; None: none is found."""
    name, qualname = value.__module__, value.__qualname__
    found = (m for m in (sys.modules.get(name), *more_modules()) if getattr(m, "__name__", None) == name and _is_in(m, qualname, value))
    return next(found, None) or (sys.modules.get(name) if name != "conftest" else None)


def _reduce_global(value: Any) -> Any:
    """Classes and functions of a conftest.py are known by its file: there may be several, all called `conftest`."""
    name, qualname = value.__module__, value.__qualname__
    if "<" in qualname or not isinstance(name, str) or (name != "conftest" and _is_in(sys.modules.get(name), qualname, value)):
        return NotImplemented
    for module in (sys.modules.get(name), *more_modules()):
        if getattr(module, "__name__", None) == name and _is_in(module, qualname, value) and getattr(module, "__file__", None):
            return _by_file, (os.path.realpath(module.__file__), name, qualname)
    return NotImplemented


class _Pickler(pickle.Pickler):
    classes: Optional[Set[type]] = None  # those of what was pickled are added to it
    arrays: Optional[List[Any]] = None  # and those of numpy
    together = _arrays.ALONE  # arrays that lie in the same memory
    objects: Optional[Dict[Any, Any]] = None  # whose copies may have less than they have, one of each kind
    looking: Any = None

    def reducer_override(self, value: Any) -> Any:
        if self.classes is not None:
            self.classes.add(value if isinstance(value, type) else type(value))
        if isinstance(value, (type, types.FunctionType)):
            return _reduce_global(value)
        if type(value) is object and self.objects is not None:
            raise CannotShare("an object() is equal to itself only, and another process has another one")
        numpy = sys.modules.get("numpy")
        if numpy is not None and isinstance(value, numpy.ndarray):
            if self.arrays is not None:
                self.arrays.append(value)
            return _arrays.reduce(value, numpy, self.together)
        if self.objects is not None:
            suspects = self.looking.attributes(value)
            if suspects:
                self.objects.setdefault((type(value), *suspects), (value, suspects))
        return NotImplemented


def _is_of_pandas(cls: type) -> bool:
    return cls.__module__.startswith("pandas.")


_caching: "weakref.WeakKeyDictionary[type, bool]" = weakref.WeakKeyDictionary()


def _has_caches(cls: type) -> bool:
    """It has a functools.cached_property, or is of pandas; of a class that is asked for after each test that is looked up once."""
    known = _caching.get(cls)
    if known is None:
        known = _caching[cls] = _is_of_pandas(cls) or any(isinstance(a, functools.cached_property) for c in cls.__mro__ for a in vars(c).values())
    return known


def _without_caches(state: Any, cls: type) -> Any:
    """Of an object's state: not what it remembers of its own, by functools.cached_property or, in pandas, as _cache."""
    if type(state) is tuple:
        return tuple(_without_caches(part, cls) for part in state)
    if type(state) is not dict:
        return state
    return {name: value for name, value in state.items() if not (name == "_cache" and _is_of_pandas(cls)) and
            not isinstance(getattr(cls, str(name), None), functools.cached_property)}


class _ReadingPickler(_Pickler):
    """To tell whether a value was changed: reading it, which may fill caches, is no change."""

    def reducer_override(self, value: Any) -> Any:
        reduced, cls = super().reducer_override(value), type(value)
        numpy = sys.modules.get("numpy")
        if reduced is not NotImplemented:
            if numpy is not None and isinstance(value, numpy.ndarray):
                return _arrays.without_caches(value, reduced, numpy)
            return reduced
        if not _has_caches(cls):
            return NotImplemented
        own = value.__reduce_ex__(5)
        return (*own[:2], _without_caches(own[2], cls) or None, *own[3:]) if isinstance(own, tuple) and len(own) > 2 else own


def reading_print(value: Any) -> Optional[str]:
    """A word that differs when it was changed, and not when it was only read; in this process.  None: it cannot be told."""
    buffers: List[pickle.PickleBuffer] = []
    out = io.BytesIO()
    try:
        _ReadingPickler(out, protocol=5, buffer_callback=buffers.append).dump(value)
        digest = hashlib.blake2b(out.getvalue())
        for buffer in buffers:
            digest.update(buffer.raw())
        return digest.hexdigest()
    except Exception:
        return None


_Classes = Optional[Set[type]]


def _dump_auto(value: Any, buffers: List[pickle.PickleBuffer], classes: _Classes = None) -> Tuple[str, bytes]:
    if type(value) is bytes:
        return "bytes", value
    if type(value) is str:
        return "str", value.encode(errors="surrogatepass")
    return _dump_pickle(value, buffers, classes)


def _dump_pickle(value: Any, buffers: List[pickle.PickleBuffer], classes: _Classes = None) -> Tuple[str, bytes]:
    arrays: List[Any] = []
    objects: Dict[Any, Any] = {}
    main = _pickled(value, buffers, classes, arrays, _arrays.ALONE, objects)
    for one, suspects in objects.values():
        name = _dropped.lost(one, suspects, _pickled_alone)
        if name is not None:
            raise CannotShare(f"a {type(one).__name__} leaves out its '{name}' when it is pickled")
    together = _arrays.Together(arrays, sys.modules.get("numpy")) if arrays else _arrays.ALONE
    if together:
        buffers.clear()
        main = _pickled(value, buffers, classes, None, together)
    return "pickle", main


def _pickled(value: Any, buffers: List[pickle.PickleBuffer], classes: _Classes, arrays: Optional[List[Any]], together: Any,
             objects: Optional[Dict[Any, Any]] = None) -> bytes:
    out = io.BytesIO()
    pickler = _Pickler(out, protocol=5, buffer_callback=buffers.append)
    pickler.classes, pickler.arrays, pickler.together, pickler.objects, pickler.looking = classes, arrays, together, objects, _dropped.Looking()
    pickler.dump(value)
    return out.getvalue()


def _pickled_alone(value: Any) -> bytes:
    """With all its bytes."""
    out = io.BytesIO()
    _Pickler(out, protocol=5).dump(value)
    return out.getvalue()


def _dump_json(value: Any, _: List[pickle.PickleBuffer], __: _Classes = None) -> Tuple[str, bytes]:
    return "json", json.dumps(value).encode()


_DUMPS: Dict[str, Callable[[Any, List[pickle.PickleBuffer], _Classes], Tuple[str, bytes]]] = {
    "auto": _dump_auto, "pickle": _dump_pickle, "json": _dump_json,
}


def check_serializer(serializer: Any) -> None:
    if isinstance(serializer, str) and serializer not in _DUMPS:
        raise ValueError(f"serializer={serializer!r}: expected one of {', '.join(_DUMPS)}, or an object with dumps and loads")
    if not isinstance(serializer, str) and not (hasattr(serializer, "dumps") and hasattr(serializer, "loads")):
        raise ValueError("a serializer has the functions dumps and loads; see fixd.Serializer")


def dump(value: Any, serializer: Any, classes: _Classes = None) -> Tuple[str, bytes, List[memoryview]]:
    """(kind, main part, buffers); the classes of what is pickled are added to `classes`."""
    buffers: List[pickle.PickleBuffer] = []
    try:
        if isinstance(serializer, str):
            kind, main = _DUMPS[serializer](value, buffers, classes)
        else:
            own = serializer.dumps(value)
            kind, main = ("own str", own.encode()) if isinstance(own, str) else ("own bytes", bytes(own))
        return kind, main, [b.raw() for b in buffers]
    except CannotShare:
        raise
    except Exception as e:
        raise CannotShare(f"a {type(value).__name__} cannot be put into shared memory: {e}") from e


def classes_of(value: Any) -> Set[type]:
    """As far as pickle would find them."""
    classes: Set[type] = set()
    try:
        dump(value, "pickle", classes)
    except CannotShare:
        pass
    return classes


def _aligned(offset: int, size: int) -> int:
    step = _PAGE if size >= _PAGE else 64
    return (offset + step - 1) // step * step


def write(build: Build, kind: str, main: bytes, buffers: List[memoryview], directories: Sequence[str] = (), elements: bool = True,
          classes: Sequence[Any] = (), made_of: Optional[Dict[str, Any]] = None) -> int:
    """Fills the image; its size.  `directories` belong to the value; without `elements` there are zeros in the place of buffers;
    `classes`: what its classes have; `made_of`: see _made_of."""
    room = [0] * len(buffers)
    head: Dict[str, Any] = {"kind": kind, "main": [0, len(main)], "buffers": [], "directories": list(directories), "classes": list(classes),
                            "made_of": made_of or {}}

    def place(head_size: int) -> int:
        offset = _PREFIX.size + head_size
        head["main"][0] = offset
        offset += len(main)
        for i, b in enumerate(buffers):
            room[i] = _aligned(offset, b.nbytes)
            offset = room[i] + b.nbytes
        head["buffers"] = [[at, b.nbytes] for at, b in zip(room, buffers)]
        return offset

    # The head tells offsets that depend on its own length: room for the longest is left.
    place(1 << 40)
    size = len(json.dumps(head))
    total = place(size)
    memory = build.memory(total)
    _PREFIX.pack_into(memory, 0, MAGIC, size)
    memory[_PREFIX.size:_PREFIX.size + size] = json.dumps(head).ljust(size).encode()
    memory[head["main"][0]:head["main"][0] + len(main)] = main
    for (at, length), b in zip(head["buffers"], buffers if elements else ()):
        memory[at:at + length] = b
    return total


def _address(memory: memoryview) -> int:
    numpy = sys.modules.get("numpy")
    return numpy.frombuffer(memory, numpy.uint8).__array_interface__["data"][0] if numpy and memory.nbytes else -1


class Stored:
    """What lies in a view: decoded once for each use."""

    def __init__(self, view: View, serializer: Any):
        data = view.data
        magic, size = _PREFIX.unpack_from(data)
        if magic != MAGIC:
            raise ValueError("the image was not made by this plugin")
        self.view, self._serializer = view, serializer
        self.head: Dict[str, Any] = json.loads(bytes(data[_PREFIX.size:_PREFIX.size + size]))
        at, length = self.head["main"]
        self._main = data[at:at + length]
        self._buffers = [data[at:at + length] for at, length in self.head["buffers"]]
        self._kind: str = self.head["kind"]

    @property
    def main(self) -> memoryview:
        """What is no array."""
        return self._main

    @property
    def main_size(self) -> int:
        return len(self._main)

    def value(self) -> Any:
        kind, main = self._kind, self._main
        if kind == "pickle":
            return pickle.loads(main, buffers=self._buffers)
        if kind == "bytes":
            return bytes(main)
        if kind == "str":
            return str(main, "utf-8", "surrogatepass")
        if kind == "json":
            return json.loads(bytes(main))
        if kind == "own str":
            return self._serializer.loads(str(main, "utf-8"))
        return self._serializer.loads(bytes(main))

    def _print_of_array(self, value: Any) -> Optional[str]:
        """Of an array whose elements lie in the image only how it is looked at is the process's own."""
        numpy = sys.modules.get("numpy")
        if numpy is None or type(value) is not numpy.ndarray or value.dtype.hasobject:
            return None
        at = value.__array_interface__["data"][0] - self.view.address
        if not (value.flags.forc and 0 <= at and at + value.nbytes <= self.view.size):
            return None
        return f"{at} {value.shape} {value.strides} {value.dtype.str if value.dtype.names is None else repr(value.dtype)}"

    def private_print(self, value: Any) -> Optional[str]:
        """A word for what a process has of its own of the value: it changes when that is changed.  None: it cannot be told."""
        return self._print_of_array(value) or self._print_of_pickle(value, bytes)

    def canonical_print(self, value: Any) -> Optional[str]:
        """The same, slowly, whatever of it is the same object that cannot be changed."""
        return self._print_of_array(value) or self._print_of_pickle(value, _canonical.digest_of)

    def _print_of_pickle(self, value: Any, print_of: Callable[[bytes], Union[None, str, bytes]]) -> Optional[str]:
        buffers: List[pickle.PickleBuffer] = []
        try:
            out = io.BytesIO()
            _ReadingPickler(out, protocol=5, buffer_callback=buffers.append).dump(value)
        except Exception:
            return None
        first = print_of(out.getvalue())
        if first is None:
            return None
        digest = hashlib.blake2b(first.encode() if isinstance(first, str) else first)
        for buffer in buffers:
            raw = buffer.raw()
            at = _address(raw) - self.view.address
            digest.update(f"{at} {raw.nbytes}".encode() if 0 <= at < self.view.size else raw)
        return digest.hexdigest()

    def where(self, offset: int) -> str:
        """Which part of the value a byte of the image belongs to."""
        for i, (at, length) in enumerate(self.head["buffers"]):
            if at <= offset < at + length:
                return f"byte {offset - at} of array {i}" if len(self.head["buffers"]) > 1 else f"byte {offset - at} of the array"
        return f"byte {offset} of the image"
