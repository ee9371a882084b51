# SPDX-License-Identifier: MIT
"""All that the interpreter has, looked at without running any of its code: a lazy object is asked for nothing, a lazy module stays so."""

from __future__ import annotations

import gc
import types
from typing import Any, Dict, List, Optional, Tuple, Union


# A subclass may have a __dict__ that loads all that a package has (py, apipkg).
_names: Any = types.ModuleType.__dict__["__dict__"]


def is_a(thing: Any, kinds: Union[type, Tuple[type, ...]]) -> bool:
    """By its type alone: isinstance() also asks for its __class__, which may be computed."""
    return issubclass(type(thing), kinds)


def all_of(kinds: Union[type, Tuple[type, ...]]) -> List[Any]:
    return [thing for thing in gc.get_objects() if is_a(thing, kinds)]


def names_of(module: Any) -> Dict[str, Any]:
    """What is defined in an entry of sys.modules, which need not be a module."""
    return _names.__get__(module) if is_a(module, types.ModuleType) else {}


def file_of(module: Any) -> Optional[str]:
    path = names_of(module).get("__file__")
    return path if isinstance(path, str) else None
