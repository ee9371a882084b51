# SPDX-License-Identifier: MIT
"""What @fixd.fixture was told, and what tells one instance of a fixture from another."""

from __future__ import annotations

import functools
import hashlib
import inspect
import os
import pathlib
import types
import urllib.parse
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Set, Tuple

from . import _by_self, _parts, _source, _values, _variables
from ._fingerprint import PLAIN, fingerprint
from ._lib import View

SCOPES = ("session", "package", "module", "class", "definition", "function")
NAME_MAX = 150
PARAM_MAX = 60
READABLE_MAX = 20
DEPENDS_MAX = 64
# Of what pytest and pytest-xdist offer each test: the same for all of them.
SAME_FOR_ALL = {"cache", "worker_id", "testrun_uid"}


def digest_of(*parts: str) -> str:
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        digest.update(part.encode(errors="surrogatepass") + b"\0")
    return digest.hexdigest()


class Definition:
    """One use of @fixd.fixture."""

    count = 0  # while there is none, nothing is to be done

    def __init__(self, function: Callable[..., Any], scope: Any, reuse: bool, max_age: Optional[float], watch: Sequence[str],
                 serializer: Any, parse: Optional[Callable[[Any], Any]], store: Any, writable: Optional[bool],
                 teardown: Optional[Callable[[Any], Any]], timeout: Optional[float], key: Optional[Callable[[Any], Any]] = None,
                 tokens: bool = False, isolate: Optional[bool] = None, live: bool = False,
                 after_fork: Optional[Callable[[Any], Any]] = None, remote: bool = False):
        Definition.count += 1
        self.live, self.after_fork, self.remote = live, after_fork, remote
        self.function, self.scope, self.max_age, self.watch = function, scope, max_age, list(watch)
        self.serializer, self.parse, self.store, self.teardown, self.timeout = serializer, parse, store, teardown, timeout
        if not isinstance(serializer, str):
            _values.own_serializers[id(serializer)] = serializer
        self.key, self.tokens, self._writable, self._isolate = key, tokens, writable, isolate
        self.makes_directories = "tmp_path_factory" in inspect.signature(function).parameters
        self.generator = inspect.isgeneratorfunction(function)
        self.chooses_scope = callable(scope)
        self.second_half: Optional[_source.SecondHalf] = None
        self.unmovable: Optional[str] = None
        if self.generator and not tokens:
            try:
                self.second_half = _source.second_half(function)
            except _source.Unmovable as e:
                self.unmovable = str(e)
        if teardown is not None and "<" in getattr(teardown, "__qualname__", "<"):
            self.unmovable = "its teardown= is no function of a module"
        # What only its builder can end lives no longer than the run, and so do files of the run.
        of_run = self.unmovable or tokens or "tmp_path_factory" in self.store_fixtures()
        self.reuse = reuse and not of_run
        self.asked_for_reuse = reuse
        self.is_method = next(iter(inspect.signature(function).parameters), "") in ("self", "cls")
        self._names: Dict[Any, str] = {}
        self._files: Optional[Set[str]] = None

    @property
    def writable(self) -> bool:
        if self._writable is not None:
            return self._writable
        return self.scope == "function" or not (self.tokens or self.store is not None)

    @property
    def isolate(self) -> bool:
        """What a test changes is undone."""
        return self.writable if self._isolate is None else self._isolate

    @property
    def asked_to_isolate(self) -> bool:
        """Whatever it costs."""
        return bool(self._isolate)

    @property
    def to_be_torn_down(self) -> bool:
        return bool(self.tokens and self.generator or self.second_half or self.unmovable or self.teardown or self.makes_directories)

    def name(self, root: str, request: Any) -> str:
        """The fixture's name in the session: where it is defined, what it is called, and of which class it is."""
        called = request._fixturedef.argname
        cls, place = self.class_of(request), ""
        # What a function has made is of the place that it was made for.
        if "<locals>" in self.function.__qualname__:
            place = getattr(request._fixturedef, "baseid", "") or ""
        if cls is not None and "<locals>" in cls.__qualname__:
            place = request._pyfuncitem.parent.nodeid
        if (root, called, cls, place) not in self._names:
            self._names[(root, called, cls, place)] = self._make_name(root, called, cls, place)
        return self._names[(root, called, cls, place)]

    def class_of(self, request: Any) -> Any:
        return getattr(request._pyfuncitem, "cls", None) if self.is_method else None

    def _make_name(self, root: str, called: str, cls: Any, made_for: str) -> str:
        path = os.path.realpath(inspect.unwrap(self.function).__code__.co_filename)
        place = os.path.relpath(path, root)
        name = f"{path if place.startswith('..') else place}::{self.function.__qualname__}".replace("<locals>.", "")
        if called != self.function.__name__:
            name += f"@{called}"
        if cls is not None:
            name += f"<{cls.__module__}.{cls.__qualname__}>"
        if made_for:
            name += f" of {made_for}"
        name = urllib.parse.quote(name, safe="/:._-+@~#=,()<>{}!$&*;'")
        if len(name) > NAME_MAX:
            name = f"{digest_of(name)}...{name[-(NAME_MAX - 20):]}"
        return name

    def settings(self, cls: Any) -> Dict[str, Any]:
        """What counts for its version beside code: of the decorator, and of the class whose method it is."""
        attributes = {"attributes of the class": _source.attributes_of(cls)} if cls is not None else {}
        return {"serializer": self.serializer, **attributes}

    def version(self, root: str, cls: Any) -> str:
        return _source.version(self.function, root, self.methods(cls), **self.settings(cls))

    def files(self, root: str) -> Set[str]:
        """Of which its version tells when they have changed."""
        if self._files is None:
            self._files = _source.files_of(self.function, root)
        return self._files

    def methods(self, cls: Any) -> Sequence[Any]:
        """What it could call by `self`."""
        return _by_self.BySelf(self.function, cls).methods if cls is not None else ()

    # The value's own ways.

    def parsed(self, data: Any) -> Any:
        return self.parse(data) if self.parse else data

    def store_fixtures(self) -> Sequence[str]:
        return tuple(getattr(self.store, "fixtures", ())) if self.store is not None else ()

    def _store_values(self, request: Any) -> Dict[str, Any]:
        return {name: request.getfixturevalue(name) for name in self.store_fixtures()}

    def store_value(self, request: Any, title: str, value: Any) -> None:
        values, identifier = self._store_values(request), _identifier(title)
        with self.store.lock(identifier, values):
            self.store.write(identifier, value if isinstance(self.serializer, str) else self.serializer.dumps(value), values)

    def load_value(self, request: Any, title: str) -> Any:
        values, identifier = self._store_values(request), _identifier(title)
        with self.store.lock(identifier, values):
            value = self.store.read(identifier, values)
        return value if isinstance(self.serializer, str) else self.serializer.loads(value)


def _identifier(title: str) -> str:
    """Of a title, the name of a file."""
    return title.replace("/", ".").replace("::", ".")


def param_key(request: Any) -> Optional[str]:
    """A word for the parameter that is the same in every process; None without one."""
    if not hasattr(request, "param"):
        return None
    param = request.param
    if type(param) in PLAIN and not isinstance(param, (bytes, complex)):
        key = urllib.parse.quote(repr(param), safe="'\",.-+_:()=/ ")
        return key if len(key) <= PARAM_MAX else f"{key[:30]}...{digest_of(key)}"
    print_ = fingerprint(param)
    if print_ is None:
        # Another place may have another one at that index.
        print_ = f"{request.param_index} of {request._pyfuncitem.parent.nodeid}::{getattr(request._pyfuncitem, 'originalname', '')}"
    return f"{type(param).__name__}-{digest_of(print_)}"


def place_of(definition: Definition, request: Any) -> str:
    """The scope key: which part of the tests shares an instance."""
    scope = definition.scope
    if scope in ("session", "function"):
        return ""
    if scope == "package":
        return f"{getattr(request._fixturedef, 'baseid', '') or '.'}/package"
    node = request.node.nodeid
    if scope == "module":
        return node.split("::")[0]
    if scope == "class":
        return f"{node}::class"
    return function_of(request._pyfuncitem)


def function_of(item: Any) -> str:
    """The test function, without its parameters."""
    return f"{item.parent.nodeid}::{getattr(item, 'originalname', None) or item.name}" if item is not None and item.parent else ""


class PerTest(Exception):
    """An argument that each test has for itself."""


class PerProcess(Exception):
    """An argument that each process has for itself, as far as can be told."""


NOT_COMPARED = "which cannot be compared with that of another process; key= can tell which are the same"
OF_THIS_RUN = "which lies in a directory of this run; tmp_path_factory gives it one that lives as long as it does"
FACTORIES = ("tmp_path_factory", "tmpdir_factory")
OF_FACTORY = "whose directories end with this run; as an argument tmp_path_factory gives ones that live as long as it does"


@functools.lru_cache(maxsize=None)
def _version_of_code(thing: Any, root: str) -> str:
    return _source.version(thing, root)


@functools.lru_cache(maxsize=None)
def _counts(thing: Any) -> bool:
    """Written by somebody, and not Python's own or the plugin's."""
    path = _parts.file_of(thing)
    return path is not None and os.path.isfile(path) and not _source.is_ours(path)


def _is_of_this_run(value: Any, config: Any) -> bool:
    """A path below the base directory that pytest has made for this process."""
    base = getattr(getattr(config, "_tmp_path_factory", None), "_basetemp", None)
    return base is not None and any(_is_below(path, pathlib.Path(base)) for path in _paths_in(value))


def _is_below(path: Any, base: pathlib.Path) -> bool:
    text = os.fspath(path)
    return isinstance(text, str) and text.startswith(f"{base}{os.sep}")


def _paths_in(value: Any) -> Iterator[Any]:
    """What may be one, in a value and in what it has."""
    return (one for one in _parts.parts_in(value) if _variables.is_a(one, str) or _variables.is_a(one, pathlib.PurePath))


def _is_direct(fixturedef: Any) -> bool:
    return "direct_param" in getattr(fixturedef.func, "__name__", "")


def is_offered(fixturedef: Any) -> bool:
    """By pytest or pytest-xdist."""
    return not _is_direct(fixturedef) and str(getattr(inspect.unwrap(fixturedef.func), "__module__", "")).startswith(("_pytest.", "xdist."))


def _has_finalizers(fixturedef: Any) -> bool:
    """Of its own: what depends on it ends before it, by others."""
    return any(getattr(getattr(f, "func", f), "__name__", "") != "finish" for f in getattr(fixturedef, "_finalizers", ()))


class Arguments:
    """What a fixture gets: the fixd fixtures among it are dependencies, the rest is part of the key.  `asked`: what it gets by
    request.getfixturevalue(), as far as it is known."""

    def __init__(self, definition: Definition, request: Any, handles: Dict[Any, Any], root: str, asked: Sequence[Any] = (),
                 owner: Any = None):
        self.views: List[View] = []
        self._parts: List[str] = []
        self._handles, self._request, self._root = handles, request, root
        self._definition, self._has_key, self._reuse = definition, definition.key is not None, definition.reuse
        self._seen: set = set()
        if definition.key is not None:
            print_ = fingerprint(definition.key(request))
            if print_ is None:
                raise TypeError("what key= returns must be picklable")
            self._parts.append(f"key={print_}")
        if not self._has_key:
            self._add_code("param", getattr(request, "param", None))
        if owner is not None and not self._has_key:
            self._add_own(definition, owner)
        if definition.reuse and "tmpdir_factory" in request._fixturedef.argnames:
            raise PerProcess(f"'tmpdir_factory', {OF_FACTORY}")
        self._visit(request._fixturedef, definition.scope)
        for name, argument, failure in asked:
            if argument is None:
                self._parts.append(f"{name}=raises:{failure}")
            elif name in FACTORIES and definition.reuse:
                raise PerProcess(f"'{name}', {OF_FACTORY}")
            elif name != "request":
                self._visit_one(name, argument, definition.scope)
        if len(self.views) > DEPENDS_MAX:
            raise PerProcess(f"more than {DEPENDS_MAX} shared fixtures")

    def _add_own(self, definition: Definition, owner: Any) -> None:
        """What it gets by `self`."""
        for name, value, print_, of_object in _by_self.parts_of(definition.function, owner):
            self._add_code(f"self.{name}", value)
            if print_ is not None:
                self._parts.append(f"self.{name}={print_}")
            elif of_object and definition.scope in ("function", "definition"):
                raise PerTest(f"self.{name}")
            elif of_object:
                raise PerProcess(f"'self.{name}', {NOT_COMPARED}")

    @property
    def key(self) -> Optional[str]:
        """A word for all of them: readable as far as they are short and plain, and with a digest if they are not."""
        if not self._parts:
            return None
        shown, whole = [], True
        for part in sorted(self._parts):
            name, _, value = part.partition("=")
            kind, _, text = value.partition(":")
            plain = kind in ("int", "float", "bool", "str", "NoneType") and len(text) <= READABLE_MAX and text.isprintable()
            whole = whole and plain
            shown.append(f"{name}={text}" if plain else name)
        words = urllib.parse.quote(" ".join(shown), safe="'\",.-+_:()=/ ")
        if whole and len(words) <= PARAM_MAX:
            return words
        return f"{words[:PARAM_MAX - 20]} {digest_of(*sorted(self._parts))}"

    def _visit(self, fixturedef: Any, scope: str) -> None:
        for name in getattr(fixturedef, "argnames", ()):
            if name == "request":
                continue
            try:
                argument = self._request._get_active_fixturedef(name)
            except Exception:
                continue
            if argument is not fixturedef:
                self._visit_one(name, argument, scope)

    def _visit_one(self, name: str, argument: Any, scope: str) -> None:
        if id(argument) in self._seen:
            return
        self._seen.add(id(argument))
        handle = self._handles.get(argument)
        if handle is not None and handle.view is not None:
            if handle.view not in self.views:
                self.views.append(handle.view)
            self._parts.append(f"{name}={handle.instance}")
            # The same bytes may be of other code by now, and another value be made of them.
            parse = getattr(handle.definition, "parse", None)
            if not self._has_key:
                self._add_things(name, self._things_of(handle, parse))
                self._add_parse(name, parse)
        else:
            self._visit_plain(name, argument, scope)

    def _visit_plain(self, name: str, argument: Any, scope: str) -> None:
        # What pytest itself offers is the same everywhere, or, like the directory of tmp_path_factory, each process's own by design.
        parametrized = _is_direct(argument)
        function = inspect.unwrap(argument.func)
        offered = is_offered(argument)
        if name == "testrun_uid" and offered and self._reuse and not self._has_key:
            raise PerProcess("'testrun_uid', which is another one in each run; reuse=False shares it within the run")
        if name in SAME_FOR_ALL and offered:
            return
        of_each_test = not parametrized and str(getattr(argument.scope, "value", argument.scope)) == "function"
        # A plugin's, or one that ends with the test.
        if of_each_test and (inspect.isgeneratorfunction(function) or not _source.is_project_function(function) or _has_finalizers(argument)):
            raise PerTest(name)
        if offered:
            return
        result = getattr(argument, "cached_result", None)
        # It is there for what it does.
        if of_each_test and result is not None and result[0] is None:
            raise PerTest(name)
        print_ = fingerprint(result[0]) if result is not None and result[2] is None else None
        if print_ is None and of_each_test:
            raise PerTest(name)
        if print_ is None and not parametrized and not self._has_key:
            raise PerProcess(f"'{name}', {NOT_COMPARED}")
        if not parametrized and not self._has_key and _is_of_this_run(result[0], self._request.config):
            raise PerProcess(f"'{name}', {OF_THIS_RUN}")
        if print_ is None:
            # What it is cannot be told, but where it comes from; key= tells the rest.
            print_ = self._request.node.nodeid if parametrized else self._origin(name, argument)
        self._parts.append(f"{name}={print_}")
        param = None if parametrized else self._param_of(name, argument, result)
        if param is not None and param != print_:
            self._parts.append(f"{name}.param={param}")
        if not self._has_key and result is not None and result[2] is None:
            self._add_code(name, result[0])
        self._visit(argument, scope)

    def _add_code(self, name: str, value: Any) -> None:
        """What the project's code in a value says, where the fixture's own version does not know it."""
        self._add_things(name, _source.things_in(value))

    @staticmethod
    def _things_of(handle: Any, parse: Any) -> List[Any]:
        """Once: others of its kind are of the same code."""
        known = getattr(handle, "things", None)
        if known is None:
            known = handle.things = _source.things_in((handle.value, parse))
        return known

    def _add_things(self, name: str, things: List[Any]) -> None:
        found = [thing for thing in things if _counts(thing)]
        known = self._definition.files(self._root) if found else ()
        unknown = [thing for thing in found if _parts.file_of(thing) not in known]
        if unknown:
            self._parts.append(f"{name}.code={digest_of(*sorted({_version_of_code(thing, self._root) for thing in unknown}))}")

    def _add_parse(self, name: str, parse: Any) -> None:
        """One that stands in a decorator no other source has."""
        code = getattr(parse, "__code__", None)
        if code is not None and code.co_name == "<lambda>":
            self._parts.append(f"{name}.parse={digest_of(code.co_code.hex(), repr(code.co_names), *map(repr, code.co_consts))}")

    def _param_of(self, name: str, argument: Any, result: Any) -> Optional[str]:
        """What it was given, which its value need not tell."""
        callspec = getattr(self._request._pyfuncitem, "callspec", None)
        if not getattr(argument, "params", None) and name not in getattr(callspec, "params", {}):
            return None
        param = fingerprint(result[1]) if result is not None and result[1] is not None else None
        return param or str(getattr(callspec, "indices", {}).get(name))

    def _origin(self, name: str, argument: Any) -> str:
        index = getattr(argument, "cached_param_index", None)
        try:
            version = _source.version(argument.func, self._root)
        except Exception:
            version = getattr(argument.func, "__qualname__", "")
        result = getattr(argument, "cached_result", None)
        param = fingerprint(result[1]) if result is not None else None
        return f"{getattr(argument, 'baseid', '')}::{name}:{version}:{param or index}"


def title_of(definition: Definition, full: str, place: str) -> str:
    """The instance's title in the daemon."""
    key = place
    if definition.scope == "package":
        key = place.rsplit("/", 1)[0]
    elif definition.scope == "class":
        key = place[:-len("::class")]
    return f"{full} @ {key}" if key else full


def full_name(name: str, param: Optional[str], arguments: Optional[str]) -> str:
    parts: Tuple[str, ...] = tuple(p for p in (param, arguments) if p is not None)
    return f"{name}[{', '.join(parts)}]" if parts else name
