# SPDX-License-Identifier: MIT
"""A pickle without what its value does not say: which of equal strings, bytes and numbers were one object.

Unpickling makes the names of attributes one with those that the process has already (it interns them), so that values which were loaded
from the same bytes at two times may be pickled in two ways."""

from __future__ import annotations

import hashlib
import pickletools
from typing import Any, Dict, Optional

# Of more it takes too long.
SIZE_MAX = 4 << 20

_LEFT_OUT = {"PROTO", "FRAME"}
_TO_MEMORY = {"MEMOIZE", "PUT", "BINPUT", "LONG_BINPUT"}
_FROM_MEMORY = {"GET", "BINGET", "LONG_BINGET"}
_CONSTANTS = ("UNICODE", "BYTES", "STRING", "INT", "LONG", "FLOAT")


def digest_of(pickled: bytes) -> Optional[str]:
    """The same for equal values, whatever of them is shared that cannot be changed; None: it is too much to tell."""
    if len(pickled) > SIZE_MAX:
        return None
    digest = hashlib.blake2b()
    memory: Dict[int, bytes] = {}
    last, is_constant, objects = b"", False, 0
    for op, argument, _ in pickletools.genops(pickled):
        name: str = op.name
        if name in _LEFT_OUT:
            continue
        if name in _TO_MEMORY:
            memory[len(memory) if argument is None else argument] = last if is_constant else b"object %d" % objects
            objects += not is_constant
            continue
        if name in _FROM_MEMORY:
            last = memory[argument]
        else:
            last = f"{name} {argument!r}".encode(errors="backslashreplace")
            is_constant = name.rstrip("1248").endswith(_CONSTANTS)
        digest.update(last)
        digest.update(b"\n")
    return digest.hexdigest()
