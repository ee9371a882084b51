# SPDX-License-Identifier: MIT
"""The decorator, and what happens when pytest sets such a fixture up."""

from __future__ import annotations

import ctypes
import errno
import functools
import hashlib
import inspect
import os
import pickle
import traceback
import urllib.parse
import warnings
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Union

import pytest

from . import _source, _teardown, _values
from ._lib import Build, FixdError, View
from ._values import Stored

SCOPES = ("session", "package", "module", "class", "definition", "function")
UNSETTLED_MAX = 3
NAME_MAX = 150
PARAM_MAX = 60
SKIPPED = "SKIPPED: "
SENTENCE_MAX = 3000


class FixtureBuildError(Exception):
    """Another process failed to build the fixture; the text ends with its traceback."""


class Definition:
    """What @fixd.fixture was told."""

    def __init__(self, function: Callable[..., Any], scope: str, reuse: bool, max_age: Optional[float], watch: Sequence[str],
                 serializer: Any, parse: Optional[Callable[[Any], Any]], store: Any, writable: Optional[bool],
                 teardown: Optional[Callable[[Any], Any]], timeout: Optional[float], tokens: bool = False):
        self.function, self.scope, self.max_age, self.watch = function, scope, max_age, list(watch)
        self.serializer, self.parse, self.store, self.teardown, self.timeout = serializer, parse, store, teardown, timeout
        self.tokens = tokens
        self.writable = scope == "function" if writable is None else writable
        self.generator = inspect.isgeneratorfunction(function)
        self.second_half: Optional[_source.SecondHalf] = None
        self.unmovable: Optional[str] = None
        if self.generator and not tokens:
            try:
                self.second_half = _source.second_half(function)
            except _source.Unmovable as e:
                self.unmovable = str(e)
        # What only its builder can end lives no longer than the run.
        self.reuse = reuse and not self.unmovable and not tokens
        self.asked_for_reuse = reuse
        self._names: Dict[str, str] = {}

    @property
    def to_be_torn_down(self) -> bool:
        return bool(self.tokens and self.generator or self.second_half or self.unmovable or self.teardown)

    def name(self, root: str) -> str:
        """The fixture's name in the session: where it is defined, and what it is called."""
        if root not in self._names:
            path = os.path.realpath(self.function.__code__.co_filename)
            place = os.path.relpath(path, root)
            if place.startswith(".."):
                place = self.function.__module__
            name = urllib.parse.quote(f"{place}::{self.function.__qualname__}".replace("<locals>.", ""), safe="/:._-+@~#=,()<>{}!$&*;'")
            if len(name) > NAME_MAX:
                digest = hashlib.blake2b(name.encode(), digest_size=8).hexdigest()
                name = f"{digest}...{name[-(NAME_MAX - 20):]}"
            self._names[root] = name
        return self._names[root]


def param_key(request: Any) -> Optional[str]:
    """A word for the parameter that is the same in every process; None without one."""
    if not hasattr(request, "param"):
        return None
    param = request.param
    plain = isinstance(param, (str, int, float, bool, type(None)))
    key = repr(param) if plain else _source._plain(param) if isinstance(param, (tuple, list)) else ""
    if not plain:
        try:
            key = f"{type(param).__name__}-{hashlib.blake2b(pickle.dumps(param, protocol=4), digest_size=8).hexdigest()}"
        except Exception:
            key = f"{type(param).__name__}-{request.param_index}"
    key = urllib.parse.quote(key, safe="'\",.-+_:()=/ ")
    if len(key) > PARAM_MAX:
        key = f"{key[:30]}...{hashlib.blake2b(key.encode(), digest_size=8).hexdigest()}"
    return key


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
    item = request._pyfuncitem
    return f"{item.parent.nodeid}::{getattr(item, 'originalname', None) or item.name}"


def dependencies_of(request: Any, handles: Dict[Any, "Handle"]) -> List[View]:
    """Views of the fixd fixtures that this one gets its arguments from, also through plain fixtures."""
    found: Dict[int, View] = {}
    seen = set()

    def visit(definition: Any) -> None:
        for name in getattr(definition, "argnames", ()):
            if name == "request" or (id(definition), name) in seen:
                continue
            seen.add((id(definition), name))
            try:
                argument = request._get_active_fixturedef(name)
            except Exception:
                continue
            if argument is definition:
                continue
            handle = handles.get(argument)
            if handle is not None and handle.view is not None:
                found[id(handle.view)] = handle.view
            else:
                visit(argument)

    visit(request._fixturedef)
    return list(found.values())[:64]


class Handle:
    """One fixture that is set up in this process."""

    def __init__(self, runtime: Any, definition: Definition, title: str):
        self.runtime, self.definition, self.title = runtime, definition, title
        self.view: Optional[View] = None
        self.stored: Optional[Stored] = None
        self.generator: Optional[Iterator[Any]] = None
        self.how = "local"  # built, attached, reused, local
        self.data: Any = None  # what teardown= gets
        self.value: Any = None  # what tests get

    def finish(self) -> None:
        """The second half, where the first half was run."""
        generator, self.generator = self.generator, None
        if generator is None:
            if self.definition.teardown:
                self.definition.teardown(self.data)
            return
        try:
            next(generator)
        except StopIteration:
            return
        raise RuntimeError(f"fixture '{self.title}' yields more than once")


def leak(generator: Any) -> None:
    """Somebody else tears it down: were it collected, its 'finally' would run here, too."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(generator))


def cause_of(error: BaseException) -> str:
    """The traceback of a failed build, for the others: from the fixture's own frame on."""
    if isinstance(error, pytest.skip.Exception):
        return SKIPPED + str(error.msg)
    frames = error.__traceback__
    while frames is not None and os.path.dirname(frames.tb_frame.f_code.co_filename) == os.path.dirname(__file__):
        frames = frames.tb_next
    text = "".join(traceback.format_exception(type(error), error, frames)).rstrip()
    return text if len(text) <= SENTENCE_MAX else "...\n" + text[-SENTENCE_MAX:]


def raise_failure(error: FixdError) -> None:
    sentence = str(error.strerror or error)
    if SKIPPED in sentence:
        pytest.skip(sentence.split(SKIPPED, 1)[1])
    raise FixtureBuildError(sentence) from None


def set_up(runtime: Any, definition: Definition, request: Any, arguments: Dict[str, Any], self_args: Sequence[Any]) -> Handle:
    """The fixture from shared memory, built first if nobody has."""
    reuse = definition.reuse and runtime.reuse
    name = runtime.define(definition, reuse)
    key = param_key(request)
    full = f"{name}[{key}]" if key is not None else name
    place = place_of(definition, request)
    kept = runtime.kept_handle(definition, full, place)
    if kept is not None:
        if definition.scope == "function":
            kept.value = definition.parsed(kept.stored.value())
        return kept
    handle = runtime.begin_handle(definition, request)
    depends = dependencies_of(request, runtime.handles)
    for attempt in range(UNSETTLED_MAX + 1):
        try:
            got = runtime.connection.begin(full, writable=definition.writable, timeout_s=runtime.wait_s, scope_key=place,
                                           depends=depends)
        except FixdError as e:
            if e.errno == errno.EIO:
                raise_failure(e)
            raise
        if isinstance(got, View):
            _use(runtime, handle, got, "reused" if got.reused else "attached")
            _start_others(handle, request, arguments, self_args)
            return runtime.keep(handle, full, place)
        try:
            _build(runtime, handle, got, reuse, title_of(definition, full, place), request, arguments, self_args)
            return runtime.keep(handle, full, place)
        except FixdError as e:
            if e.errno != errno.EAGAIN or attempt == UNSETTLED_MAX:
                raise
            if handle.generator is not None and not definition.tokens:
                handle.finish()  # it belongs to a value that nobody gets
    raise AssertionError("unreachable")


def title_of(definition: Definition, full: str, place: str) -> str:
    """The instance's title in the daemon."""
    key = place.rsplit("/", 1)[0] if definition.scope == "package" else place[:-len("::class")] if definition.scope == "class" else place
    return f"{full} @ {key}" if key else full


def _use(runtime: Any, handle: Handle, view: View, how: str) -> None:
    handle.view, handle.how = view, how
    handle.stored = Stored(view, handle.definition.serializer)
    if view.writable:
        runtime.writable.append(handle)


def _first_half(handle: Handle, arguments: Dict[str, Any], self_args: Sequence[Any]) -> Any:
    definition = handle.definition
    if not definition.generator:
        return definition.function(*self_args, **arguments)
    generator = definition.function(*self_args, **arguments)
    try:
        value = next(generator)
        if definition.tokens:
            value = runtime_tokens().first(generator)
    except StopIteration:
        raise runtime_tokens().exhausted(definition) if definition.tokens else ValueError(
            f"fixture '{handle.title}' did not yield a value") from None
    handle.generator = generator
    return value


def runtime_tokens() -> Any:
    from .shared_session_scope import _tokens

    return _tokens


def _build(runtime: Any, handle: Handle, build: Build, reuse: bool, title: str, request: Any, arguments: Dict[str, Any],
           self_args: Sequence[Any]) -> None:
    definition = handle.definition
    try:
        runtime.adopt(title)  # the clean-up of what is built anew comes first
        value = _first_half(handle, arguments, self_args)
        if definition.store is not None:
            definition.store_value(request, handle.title, value)
            kind, main, buffers = "bytes", b"", []
        else:
            kind, main, buffers = _values.dump(value, definition.serializer)
        note = _note(handle, reuse, value)
        size = _values.write(build, kind, main, buffers)
    except BaseException as e:
        build.abort(cause_of(e))
        raise
    view = build.commit(size, note=note, keeper=not reuse and handle.generator is not None and not definition.tokens,
                        teardown=definition.to_be_torn_down and not reuse)
    _use(runtime, handle, view, "built")
    if reuse and handle.generator is not None:
        leak(handle.generator)
        handle.generator = None
    handle.value = definition.parsed(value if definition.store is not None or definition.tokens else handle.stored.value())


def _note(handle: Handle, reuse: bool, value: Any) -> Optional[bytes]:
    """For whoever tears it down in our place."""
    definition = handle.definition
    if definition.tokens or not definition.to_be_torn_down:
        return None
    try:
        if definition.teardown:
            return _teardown.note_for_function(handle.title, definition.teardown, value)
        if definition.unmovable:
            raise _source.Unmovable(definition.unmovable)
        return _teardown.note_for_second_half(handle.title, definition.function, definition.second_half,
                                              handle.generator.gi_frame.f_locals)
    except _source.Unmovable as e:
        if reuse:
            raise _values.CannotShare(
                f"the second half of fixture '{handle.title}' cannot be run in a later run: {e}; say reuse=False, "
                "or give teardown=, a function of the value") from None
        return _teardown.note_of_loss(handle.title, str(e))


def _start_others(handle: Handle, request: Any, arguments: Dict[str, Any], self_args: Sequence[Any]) -> None:
    """In a process that did not build it."""
    definition = handle.definition
    data = definition.load_value(request, handle.title) if definition.store is not None else handle.stored.value()
    if definition.tokens and definition.generator:
        handle.generator = definition.function(*self_args, **arguments)
        data = runtime_tokens().later(definition, handle.generator, data)
    handle.value = definition.parsed(data)


def tear_down(runtime: Any, handle: Handle) -> None:
    """The fixture is not used here any more; what belongs to it ends with the last process that could use it."""
    runtime.end_handle(handle)
    if handle.how == "local":
        handle.finish()
        return
    definition = handle.definition
    if not definition.to_be_torn_down or (definition.reuse and runtime.reuse):
        handle.view = handle.stored = None
        return
    runtime.give_up(handle)


def local(runtime: Any, definition: Definition, request: Any, arguments: Dict[str, Any], self_args: Sequence[Any]) -> Handle:
    """Without a daemon: like plain pytest."""
    handle = runtime.begin_handle(definition, request)
    handle.data = _first_half(handle, arguments, self_args)
    handle.value = definition.parsed(handle.data)
    return handle


def decorate(function: Callable[..., Any], definition_of: Callable[[Callable[..., Any]], Definition], scope: str,
             pytest_options: Dict[str, Any]) -> Any:
    """The pytest fixture around a fixture function."""
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"fixture '{function.__name__}' is async: share the data it needs, and make the rest of it in a plain fixture")
    definition = definition_of(function)
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    wants_request = "request" in signature.parameters
    extra = [n for n in definition.store_fixtures() if n not in signature.parameters]

    @functools.wraps(function)
    def wrapper(*self_args: Any, **arguments: Any) -> Iterator[Any]:
        request = arguments["request"] if wants_request else arguments.pop("request")
        for name in extra:
            arguments.pop(name)
        from .plugin import runtime_of

        runtime = runtime_of(request.config)
        make = local if runtime.connection is None else set_up
        handle = make(runtime, definition, request, arguments, self_args)
        yield handle.value
        if not runtime.keeps(handle):
            tear_down(runtime, handle)

    more = [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY) for n in extra]
    if not wants_request:
        more.append(inspect.Parameter("request", inspect.Parameter.KEYWORD_ONLY))
    wrapper.__signature__ = signature.replace(parameters=parameters + more)  # type: ignore[attr-defined]
    wrapper._fixd = definition  # type: ignore[attr-defined]
    note = "Shared by fixd: built once, by the first process that needs it."
    wrapper.__doc__ = f"{inspect.cleandoc(function.__doc__)}\n\n{note}" if function.__doc__ else note
    return pytest.fixture(scope="function" if scope == "definition" else scope, **pytest_options)(wrapper)


def fixture(function: Optional[Callable[..., Any]] = None, *, scope: str = "function", params: Optional[Sequence[Any]] = None,
            ids: Any = None, autouse: bool = False, name: Optional[str] = None, reuse: bool = True,
            max_age: Optional[float] = None, watch: Union[str, Sequence[str]] = (), serializer: Any = "auto",
            parse: Optional[Callable[[Any], Any]] = None, store: Any = None, writable: Optional[bool] = None,
            teardown: Optional[Callable[[Any], Any]] = None, timeout: Optional[float] = None) -> Any:
    """A pytest fixture that is built once and shared, used like @pytest.fixture.

    scope       session, package, module, class; `function`: built once for the session, and each test gets it pristine;
                `definition`: one for all parameters of a test function.
    reuse       later runs get it, too, until it is stale; False: it lives as long as the run.
    max_age     seconds after which it is stale; default: --fixture-max-age.
    watch       files, directories and globs, relative to the root directory, whose change makes it stale.
    serializer  "auto" (bytes and str as they are, all else pickled, arrays without a copy), "json", "pickle", or an object
                with dumps and loads, like fixd.Serializer.
    parse       called in every process with the data; its result is the fixture's value: for connections, clients, models.
    store       keeps the data in place of shared memory: see fixd.shared_session_scope.
    writable    arrays are copy-on-write, and pristine again after each test; otherwise they are read-only.
    teardown    called with the data, once, by the last process that could use it, or when the fixture is retired.
    timeout     seconds that a build may take; default: --fixd-timeout.

    A generator's second half runs exactly once, in the last process of the run that could still use the fixture; of a reused
    fixture when it is retired.  Errors are told to every test that needs the fixture; the build is not repeated in this run.
    """
    if scope not in SCOPES:
        raise ValueError(f"scope={scope!r}: allowed are {', '.join(SCOPES)}")
    _values.check_serializer(serializer)

    def define(f: Callable[..., Any]) -> Any:
        if teardown and inspect.isgeneratorfunction(f):
            raise ValueError(f"fixture '{f.__name__}' yields: its second half is its teardown, teardown= is for those that return")
        make = functools.partial(SharedDefinition, scope=scope, reuse=reuse, max_age=max_age,
                                 watch=[watch] if isinstance(watch, str) else watch, serializer=serializer, parse=parse,
                                 store=store, writable=writable, teardown=teardown, timeout=timeout)
        return decorate(f, make, scope, {"params": params, "ids": ids, "autouse": autouse, "name": name})

    return define(function) if function is not None else define


class SharedDefinition(Definition):
    """With the value's own ways: a store, and parse."""

    def parsed(self, data: Any) -> Any:
        return self.parse(data) if self.parse else data

    def store_fixtures(self) -> Sequence[str]:
        return tuple(getattr(self.store, "fixtures", ())) if self.store is not None else ()

    def _store_values(self, request: Any) -> Dict[str, Any]:
        return {name: request.getfixturevalue(name) for name in self.store_fixtures()}

    def _identifier(self, request: Any, title: str) -> str:
        return title.replace("/", ".").replace("::", ".")

    def store_value(self, request: Any, title: str, value: Any) -> None:
        values = self._store_values(request)
        with self.store.lock(self._identifier(request, title), values):
            self.store.write(self._identifier(request, title), self.serialized(value), values)

    def load_value(self, request: Any, title: str) -> Any:
        values = self._store_values(request)
        with self.store.lock(self._identifier(request, title), values):
            return self.deserialized(self.store.read(self._identifier(request, title), values))

    def serialized(self, value: Any) -> Any:
        return value if isinstance(self.serializer, str) else self.serializer.dumps(value)

    def deserialized(self, value: Any) -> Any:
        return value if isinstance(self.serializer, str) else self.serializer.loads(value)


__all__ = ["FixtureBuildError", "fixture"]
