# SPDX-License-Identifier: MIT
"""Tearing a fixture down in another process than the one that built it: the builder leaves a note, whoever comes last follows it."""

from __future__ import annotations

import importlib
import importlib.util
import os
import pickle
import sys
import traceback
from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

from . import _directories, _ledger
from ._source import SecondHalf, Unmovable, pickled_locals, unpickled_locals


class Lost(Exception):
    """Nobody but the builder could have torn it down, and the builder is gone."""


def note_for_directories(fixture: str, directories: List[str]) -> bytes:
    return pickle.dumps({"fixture": fixture, "directories": directories})


def note_for_second_half(fixture: str, function: Callable[..., Any], half: SecondHalf, frame_locals: Dict[str, Any],
                         directories: List[str]) -> bytes:
    return pickle.dumps({"directories": directories, "fixture": fixture, "file": function.__code__.co_filename, "module": function.__module__,
                         "source": half.source, "locals": pickled_locals(half, frame_locals)})


def note_for_function(fixture: str, teardown: Callable[[Any], Any], value: Any, directories: List[str]) -> bytes:
    try:
        code = getattr(teardown, "__code__", None)
        return pickle.dumps({"directories": directories, "fixture": fixture, "file": code.co_filename if code else None, "module": teardown.__module__,
                             "function": teardown.__qualname__, "value": pickle.dumps(value)})
    except Exception as e:
        raise Unmovable(f"its value, which teardown= gets, cannot be kept: {e}") from None


def note_of_loss(fixture: str, why: str, directories: List[str]) -> bytes:
    return pickle.dumps({"fixture": fixture, "lost": why, "directories": directories})


def _dotted(path: str) -> Tuple[str, str]:
    """(name, directory that must be on sys.path) of a module by its file, as pytest would import it."""
    directory, file = os.path.split(path)
    parts = [] if file == "__init__.py" else [file[:-len(".py")]]
    while os.path.exists(os.path.join(directory, "__init__.py")):
        directory, name = os.path.split(directory)
        parts.insert(0, name)
    return ".".join(parts), directory


def module_of_file(name: str, path: Optional[str], more: Iterable[Any] = ()) -> Any:
    """The module of a fixture, imported if this process does not have it; `more`: modules that sys.modules may not have."""
    if path is None:
        return importlib.import_module(name)
    real = os.path.realpath(path)
    found = [(module, file) for module in [*more, *sys.modules.values()] for file in [getattr(module, "__file__", None)] if isinstance(file, str)]
    # To ask the system for each of thousands takes its time: first those that are called like it.
    found.sort(key=lambda one: os.path.basename(one[1]) != os.path.basename(real))
    for module, file in found:
        if os.path.realpath(file) == real:
            return module
    if not os.path.exists(real):
        raise Lost(f"its module {path} is gone")
    dotted, directory = _dotted(real)
    sys.path.insert(0, directory)
    try:
        if dotted not in sys.modules:
            return importlib.import_module(dotted)
        # Another file of that name, a conftest.py somewhere else.
        spec = importlib.util.spec_from_file_location(f"_fixd_{dotted.replace('.', '_')}", real)
        if spec is None or spec.loader is None:
            raise Lost(f"its module {path} cannot be imported")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module
    finally:
        sys.path.remove(directory)


def follow(note: bytes) -> None:
    """Does what the note says, unless somebody else does.  Lost, or whatever the second half raises."""
    what = pickle.loads(note)
    if not _ledger.strike(what.get("copy")):
        return
    try:
        _follow(what)
    finally:
        _directories.remove(what.get("directories", ()))


def _follow(what: Dict[str, Any]) -> None:
    if "lost" in what:
        raise Lost(what["lost"])
    if "module" not in what:
        return
    module = module_of_file(what["module"], what["file"])
    # Values may be of classes that the module defines.
    added = what["module"] not in sys.modules
    if added:
        sys.modules[what["module"]] = module
    try:
        if "function" in what:
            target: Any = module
            for part in what["function"].split("."):
                target = getattr(target, part)
            target(pickle.loads(what["value"]))
        else:
            namespace = dict(vars(module), _fixd_unset=object())
            exec(compile(what["source"], f"<second half of {what['fixture']}>", "exec"), namespace)
            namespace["second_half"](**unpickled_locals(what["locals"]))
    finally:
        if added:
            del sys.modules[what["module"]]


def name_of(note: bytes) -> str:
    try:
        return str(pickle.loads(note)["fixture"])
    except Exception:
        return "?"


def lost_sentence(note: bytes, why: Lost) -> str:
    return (f"the clean-up of fixture '{name_of(note)}' could not be run: its builder was killed, and nobody else could ({why}); "
            "what it started, or made, may still be there")


def follow_and_report(note: bytes) -> Optional[str]:
    """None, or a sentence for the user."""
    try:
        follow(note)
        return None
    except Lost as e:
        return lost_sentence(note, e)
    except BaseException as e:
        where = "".join(traceback.format_exception_only(type(e), e)).strip()
        return f"the clean-up of fixture '{name_of(note)}' failed: {where}"
