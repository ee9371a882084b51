# SPDX-License-Identifier: MIT
"""The interface of the plugin pytest-shared-session-scope, on fixd: a project moves over by changing its imports.

What is different: values lie in shared memory unless a store is given; return-style fixtures are computed once, too; params and
equal names in different conftest.py files do not collide; the last process that could use a fixture gets CleanupToken.LAST exactly
once, also with -x, with getfixturevalue(), and when other workers were killed.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any, Callable, Optional

from .. import _values
from .._definition import Definition
from .._fixtures import decorate
from ._tokens import CleanupToken, SetupToken
from .store import FileStore, JsonStore, LocalFileStoreMixin, PickleStore
from .types import Store, StoreValueNotExists

__all__ = ["CleanupToken", "FileStore", "JsonStore", "LocalFileStoreMixin", "PickleStore", "SetupToken", "Store",
           "StoreValueNotExists", "shared_session_scope_fixture", "shared_session_scope_json", "shared_session_scope_pickle"]


def _fixture(serializer: Any, store: Optional[Store], parse: Optional[Callable[[Any], Any]], pytest_options: Any) -> Any:
    pytest_options.pop("scope", None)

    def define(function: Callable[..., Any]) -> Any:
        make = functools.partial(Definition, scope="session", reuse=False, max_age=None, watch=(), serializer=serializer,
                                 parse=parse, store=store, writable=None, teardown=None, timeout=None,
                                 tokens=inspect.isgeneratorfunction(function))
        return decorate(function, make, "session", pytest_options)

    return define


def _serializer(serialize: Optional[Callable[[Any], Any]], deserialize: Optional[Callable[[Any], Any]], plain: str) -> Any:
    if serialize is None and deserialize is None:
        return plain
    return _values.Serializer(serialize or (lambda value: value), deserialize or (lambda value: value))


def shared_session_scope_fixture(store: Optional[Store] = None, parse: Optional[Callable[[Any], Any]] = None,
                                 serialize: Optional[Callable[[Any], Any]] = None,
                                 deserialize: Optional[Callable[[Any], Any]] = None, metadata_storage: Any = None,
                                 **pytest_options: Any) -> Any:
    """`metadata_storage` is accepted and not needed: the daemon counts who is left."""
    return _fixture(_serializer(serialize, deserialize, "auto"), store, parse, pytest_options)


def shared_session_scope_json(parse: Optional[Callable[[Any], Any]] = None, serialize: Optional[Callable[[Any], Any]] = None,
                              deserialize: Optional[Callable[[Any], Any]] = None, **pytest_options: Any) -> Any:
    import json

    if serialize is None and deserialize is None:
        return _fixture("json", None, parse, pytest_options)
    to, back = serialize or (lambda value: value), deserialize or (lambda value: value)
    own = _values.Serializer(lambda value: json.dumps(to(value)), lambda text: back(json.loads(text)))
    return _fixture(own, None, parse, pytest_options)


def shared_session_scope_pickle(parse: Optional[Callable[[Any], Any]] = None, serialize: Optional[Callable[[Any], Any]] = None,
                                deserialize: Optional[Callable[[Any], Any]] = None, **pytest_options: Any) -> Any:
    import pickle

    if serialize is None and deserialize is None:
        return _fixture("pickle", None, parse, pytest_options)
    to, back = serialize or (lambda value: value), deserialize or (lambda value: value)
    own = _values.Serializer(lambda value: pickle.dumps(to(value), 5), lambda data: back(pickle.loads(data)))
    return _fixture(own, None, parse, pytest_options)
