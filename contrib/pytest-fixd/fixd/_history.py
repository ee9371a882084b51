# SPDX-License-Identifier: MIT
"""What a fixture was made of when it was built last, and what had changed since the time before: for --fixd-explain."""

from __future__ import annotations

import hashlib
import json
import os
from typing import Any, Dict, List, NamedTuple, Optional

from . import _daemon, _source
from ._definition import Definition, digest_of

SHOWN_MAX = 80


def shown(what: str, data: bytes) -> str:
    """The value itself if it can be read, else a word for it."""
    text = data.decode(errors="replace")
    if what.startswith(("setting ", "value ")) and len(text) <= SHOWN_MAX and text.isprintable():
        return text.partition(":")[2] or text
    return hashlib.blake2b(data, digest_size=4).hexdigest()


def _chosen(runtime: Any, definition: Definition) -> Dict[str, str]:
    """What was said in the decorator, by an option, in the project's file of settings, or in the environment."""
    max_age, timeout = definition.max_age, definition.timeout
    return {
        "setting scope": "chosen by a function" if definition.chooses_scope else str(definition.scope),
        "setting reuse": str(definition.reuse),
        "setting max_age": f"{max_age:g} s" if max_age is not None else runtime.told("fixture_max_age", runtime.max_age),
        "setting timeout": f"{timeout:g} s" if timeout is not None else runtime.told("fixd_timeout", runtime.timeout),
        "setting watch": ", ".join(str(path) for path in definition.watch) or "nothing",
        "environment FIXD_PYTHON": os.environ.get("FIXD_PYTHON", ""),
    }


def made_of(runtime: Any, definition: Definition, cls: Any) -> Dict[str, str]:
    """By what it is: values, or words that differ when it does."""
    parts = _source.Parts(definition.function, runtime.root, definition.methods(cls), **definition.settings(cls)).all
    return {**{_source.without_line(what): shown(what, data) for what, data in parts}, **_chosen(runtime, definition)}


def differences(old: Dict[str, str], new: Dict[str, str]) -> List[str]:
    found = []
    for what in sorted({*old, *new}):
        before, now = old.get(what), new.get(what)
        if before is None or now is None:
            found.append(f"{what} is {'new' if before is None else 'gone'}")
        elif before != now:
            found.append(f"{what}: was {before}, is {now}" if " " in what and what.split()[0] in ("setting", "value", "environment") else what)
    return found


def place_of(runtime: Any, definition: Definition) -> str:
    function = definition.function
    return f"{os.path.relpath(os.path.realpath(function.__code__.co_filename), runtime.root)}::{function.__qualname__}"


def alone(runtime: Any, definition: Definition) -> str:
    """Why every test or process has built it itself, when it was needed last."""
    try:
        with open(_file(runtime, "alone " + place_of(runtime, definition))) as f:
            return f.read()
    except (OSError, ValueError, _daemon.NoDaemon):
        return ""


def note_alone(runtime: Any, definition: Definition, why: Optional[str]) -> None:
    """None: it is shared."""
    try:
        path = _file(runtime, "alone " + place_of(runtime, definition))
        if why is None:
            os.unlink(path)
            return
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        with open(path, "w") as f:
            f.write(why)
    except (OSError, _daemon.NoDaemon):
        pass  # it cannot be explained later


def _file(runtime: Any, name: str) -> str:
    return os.path.join(_daemon.own_home(runtime.socket), "versions", f"{digest_of(runtime.socket, runtime.root, name)}.json")


class Last(NamedTuple):
    """Of a build: what it was made of, what of that had changed, what it has read besides (as _made_of has it), and why it was not used any more
    what there was, if the daemon does not know that."""

    made_of: Dict[str, str]
    changed: List[str]
    besides: Dict[str, Any]
    cause: Optional[str]


def last(runtime: Any, name: str) -> Last:
    try:
        with open(_file(runtime, name)) as f:
            told = json.load(f)
        return Last(dict(told["made_of"]), list(told["changed"]), dict(told["besides"]), told["cause"])
    except (OSError, ValueError, KeyError, _daemon.NoDaemon):
        return Last({}, [], {}, None)


def note(runtime: Any, name: str, now: Dict[str, str], besides: Dict[str, Any], cause: Optional[str]) -> None:
    """It is being built."""
    before = last(runtime, name)
    changed = before.changed if before.made_of == now and not cause else differences(before.made_of, now) if before.made_of else []
    this = Last(now, changed, besides, cause)
    if before == this:
        return
    try:
        path = _file(runtime, name)
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        draft = f"{path}.{os.getpid()}"
        with open(draft, "w") as f:
            json.dump(this._asdict(), f)
        os.rename(draft, path)
    except (OSError, _daemon.NoDaemon):
        pass  # it cannot be explained later
