# SPDX-License-Identifier: MIT
"""Each test gets a value as it was built: also its columns, keys and attributes, which are a process's own.

The elements of arrays are put back after each test (they are copy-on-write).  For the rest pytest's value of a fixture is replaced before
a test that asks for it by another one, loaded from the image: arrays are not copied, so that costs what its structure costs.  What a
plain fixture of a wider scope was made of stays: it would belong to nobody else any more.
"""

from __future__ import annotations

from typing import Any, Iterable

RENEWED_MAX = 256 << 10  # bytes of what is no array; of more, isolate=True
_CONSTANT = (bytes, str, int, float, complex, bool, type(None))


def _dependents(fixturedef: Any) -> Iterable[Any]:
    """Those that pytest ends before it, and has set up now."""
    for finalizer in getattr(fixturedef, "_finalizers", ()):
        other = getattr(getattr(finalizer, "func", None), "__self__", None)
        if getattr(other, "cached_result", None) is not None:
            yield other


def is_wanted(handle: Any) -> bool:
    definition, stored = handle.definition, handle.stored
    if stored is None or not getattr(definition, "isolate", False) or definition.parse is not None or definition.store is not None or definition.tokens:
        return False
    return not isinstance(handle.value, _CONSTANT) and (definition.asked_to_isolate or stored.main_size <= RENEWED_MAX)


def is_possible(handle: Any, handles: Iterable[Any]) -> bool:
    """What is shared itself has a value of its own."""
    shared = {other.fixturedef for other in handles if other.stored is not None}
    return all(d in shared or d.scope == "function" for d in _dependents(handle.fixturedef))


def renew(handle: Any, handles: Iterable[Any]) -> None:
    cached = getattr(handle.fixturedef, "cached_result", None)
    if cached is None or cached[0] is not handle.value or not is_wanted(handle) or not is_possible(handle, handles):
        return
    handle.value = handle.stored.value()
    handle.fixturedef.cached_result = (handle.value, *cached[1:])
    handle.private, handle.canonical = handle.pristine, None
