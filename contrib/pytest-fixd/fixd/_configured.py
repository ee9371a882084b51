# SPDX-License-Identifier: MIT
"""What the project's hooks of pytest have set before the first test: variables of its modules, where pytest_configure() put an option there.

They are looked at once in a process, when its tests are known: what tests and builds do to them later is not meant.
"""

from __future__ import annotations

import types
from typing import Any, Dict, Iterable, Iterator, Optional

from . import _variables
from ._fingerprint import PLAIN, fingerprint

# Hooks that are called when tests run.
_LATER = ("runtest", "fixture", "report", "finish", "unconfigure", "terminal", "makereport", "exception", "warning")


def _hooks(config: Any) -> Iterator[Any]:
    for plugin in config.pluginmanager.get_plugins():
        if isinstance(plugin, types.ModuleType):
            yield from (f for name, f in vars(plugin).items() if name.startswith("pytest_") and isinstance(f, types.FunctionType)
                        and not any(word in name for word in _LATER))


def _print(value: Any) -> Optional[str]:
    """Of a class what stands in it, as far as it can be told."""
    if _variables.is_a(value, type):
        data = [(name, one) for name, one in vars(value).items() if _variables.is_a(one, (*PLAIN, dict, list, tuple, set, frozenset)) and not name.startswith("__")]
        return fingerprint(sorted((name, _print(one)) for name, one in data))
    try:
        return fingerprint(value)
    except Exception:
        return None  # what is made on demand cannot be made yet


def variables(config: Any, functions: Iterable[Any]) -> Dict[str, str]:
    """MODULE:NAME of those that hooks may have set and these functions lead to, and what they are; those of which that cannot be told are
    left out."""
    by_hooks = _variables.of(*_hooks(config))
    if not by_hooks.data:
        return {}
    found = {}
    for full in by_hooks.data & _variables.of(*functions).data:
        value = _variables.value_of(full)
        if not _variables.is_a(value, PLAIN) or full.rpartition(":")[2] in by_hooks.written:
            found[full] = _print(value)
    return {full: now for full, now in found.items() if now is not None}
