# SPDX-License-Identifier: MIT
"""The local variables of a generator that stands at its yield: what they refer to would stay as long as it does."""

from __future__ import annotations

import ctypes
import sys
from typing import Any, Callable


def change(generator: Any, new: Callable[[str, Any], Any]) -> None:
    """Each is what new(name, value) says; but those that functions inside use, too."""
    frame = generator.gi_frame
    if frame is None:
        return
    code, variables = frame.f_code, frame.f_locals
    for name in code.co_varnames:
        if name in variables and name not in code.co_cellvars:
            variables[name] = new(name, variables[name])
    if sys.version_info < (3, 13):
        # There it is a copy, which is written back by this function only (PEP 667).
        ctypes.pythonapi.PyFrame_LocalsToFast(ctypes.py_object(frame), ctypes.c_int(0))
