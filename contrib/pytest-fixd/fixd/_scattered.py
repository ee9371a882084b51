# SPDX-License-Identifier: MIT
"""Calls of Python that have the kernel write to several buffers, while it is watched who changes what (FIXD_BLAME): where nothing stands in
front of libc they would fail with EFAULT, since the kernel cannot write to a page that is watched."""

from __future__ import annotations

import ctypes
import functools
import os
import socket
from typing import Any, Callable, Iterable, List, Tuple

from ._lib import View

PAGE = 4096
# The calls, and which of their arguments are the buffers.
_CALLS: List[Tuple[Any, str, int]] = [(os, "readv", 1), (os, "preadv", 1), (socket.socket, "recvmsg_into", 1)]


def _touch(buffer: Any, views: Iterable[View]) -> None:
    """Each page that lies in a view is written to as it is, by us."""
    memory = memoryview(buffer)
    if memory.readonly or not memory.contiguous or memory.nbytes == 0:
        return
    memory = memory.cast("B")
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    if any(view.address <= start < view.address + view.size for view in views):
        for at in (*range(0, len(memory), PAGE), len(memory) - 1):
            memory[at] = memory[at]


def _touching(function: Callable[..., Any], position: int, views: Callable[[], Iterable[View]]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*arguments: Any, **named: Any) -> Any:
        buffers: Iterable[Any] = arguments[position] if len(arguments) > position else named.get("buffers", ())
        if isinstance(buffers, (list, tuple)):
            for buffer in buffers:
                _touch(buffer, views())
        return function(*arguments, **named)

    return call


def watch(views: Callable[[], Iterable[View]]) -> Callable[[], None]:
    """Returns what ends it."""
    own = [(where, name, vars(where).get(name)) for where, name, _ in _CALLS]
    for where, name, position in _CALLS:
        setattr(where, name, _touching(getattr(where, name), position, views))

    def end() -> None:
        for where, name, function in own:
            if function is None:
                delattr(where, name)  # a base class has it
            else:
                setattr(where, name, function)

    return end
