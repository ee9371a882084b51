# SPDX-License-Identifier: MIT
"""pytest --fixd-explain NAME: what a shared fixture's version is made of, and when it was built and why."""

from __future__ import annotations

import json
import os
from typing import Any, Dict, Iterator, Optional, Tuple

import pytest

from . import _daemon, _history, _outside, _reads, _source
from ._definition import Definition
from ._use import Use


def _found(runtime: Any, session: pytest.Session, name: str) -> Iterator[Tuple[Any, Definition]]:
    """Fixtures of that name among those that the collected tests could use, each definition once."""
    seen = set()
    for fixturedefs in session._fixturemanager._arg2fixturedefs.values():
        for fixturedef in fixturedefs:
            definition = getattr(fixturedef.func, "_fixd", None)
            names = () if definition is None else (fixturedef.argname, definition.function.__qualname__, _history.place_of(runtime, definition))
            if name in names and definition not in seen:
                seen.add(definition)
                yield fixturedef, definition


def _of_file(session: pytest.Session, name: str) -> Iterator[Use]:
    """Those that the daemon's file has, of that name there or here."""
    for called, fixturedefs in session._fixturemanager._arg2fixturedefs.items():
        for fixturedef in fixturedefs:
            use = getattr(fixturedef.func, "_fixd_use", None)
            if use is not None and name in (called, use.name):
                yield use


def _say_use(runtime: Any, use: Use) -> None:
    write = runtime.config.get_terminal_writer().line
    runtime.connect_once()
    fixture = runtime.ini_file.fixture(use.name)
    problem = runtime.problem or runtime.ini_file.problem or ("" if fixture else "not in the file of the daemon")
    write("")
    if problem:
        write(f"{use.name}: {problem}")
        return
    write(f"{use.name}: {fixture['file']}:{fixture['line']}, scope {fixture['scope']}, a {fixture['source']}")
    for line in fixture["policy"].splitlines():
        write(f"    {line}")


def _instances(runtime: Any, definition: Definition) -> Iterator[Dict[str, Any]]:
    try:
        said = _daemon.fixctl(runtime.socket, ["status", "--json"], runtime.root).stdout
        sessions = json.loads(said)["sessions"]
    except (_daemon.NoDaemon, ValueError, KeyError):
        return
    place = _history.place_of(runtime, definition)
    for session in sessions:
        for instance in session["instances"]:
            if instance["name"].split("@")[0].split("<")[0].split("#")[0] == place:
                yield instance


def _say_instance(write: Any, i: Dict[str, Any], cause: Optional[str]) -> None:
    param = f"[{i['param']}]" if i["param"] else ""
    where = f" @ {i['scope_key']}" if i["scope_key"] else ""
    write(f"    {i['name']}{param}{where}: {i['state']}, built {i['builds']} times")
    if i["state"] == "stale" and i["stale_cause"]:
        write(f"        will be built again because: {i['stale_cause']}")
    elif i["stale_cause"] or cause:
        write(f"        last time because: {cause or i['stale_cause']}")
    if i["error"]:
        write(f"        {i['error'].splitlines()[0]}")


def _say_changes(write: Any, now: Dict[str, str], last: _history.Last) -> None:
    for line in last.changed:
        write(f"        changed before that: {line}")
    for line in _history.differences(last.made_of, now) if last.made_of else ():
        write(f"        changed since: {line}")


def _say_besides(write: Any, runtime: Any, last: _history.Last) -> None:
    """What it has read: that is part of what it is made of, and is looked at when it is asked for."""
    for path, was in last.besides.get("files", ()):
        write(f"        read {path}{'' if _reads.difference([[path, was]], runtime.root) is None else ', which has changed since: it will be built again'}")
    for kind, name, was in last.besides.get("outside", ()):
        differs = kind != "marks" and _outside.difference([[kind, name, was]], runtime) is not None
        write(f"        {kind} {name} = {_history.shown('value', was.encode())}{', which is another one now: it will be built again' if differs else ''}")


def explain(runtime: Any, session: pytest.Session) -> None:
    config = session.config
    name = config.getoption("fixd_explain")
    write = config.get_terminal_writer().line
    any_found = False
    for fixturedef, definition in _found(runtime, session, name):
        any_found = True
        function, cls = definition.function, None
        if definition.is_method:
            cls = next((i.cls for i in session.items if getattr(i, "cls", None) is not None and hasattr(i.cls, fixturedef.argname)), None)
        settings, methods = definition.settings(cls), definition.methods(cls)
        code = function.__code__
        write("")
        write(f"{fixturedef.argname}: {os.path.relpath(code.co_filename, runtime.root)}:{code.co_firstlineno}, scope {definition.scope}, version "
              f"{_source.version(function, runtime.root, methods, **settings)}")
        now = _history.made_of(runtime, definition, cls)
        for what, data in _source.Parts(function, runtime.root, methods, **settings).all:
            if not what.startswith("setting "):
                write(f"    {_history.shown(what, data)}  {what}")
        for what, value in now.items():
            if what.startswith(("setting ", "environment ")):
                write(f"    {what} = {value}")
        for path in definition.watch:
            write(f"    watched   {path}")
        outside = _source.reads_outside(function) if definition.key is None else None
        if outside:
            write(f"    reads     {outside}, and is built again where that is another one; key= makes an instance for each")
        alone = _history.alone(runtime, definition)
        if alone:
            write(f"    {alone}")
        for instance in _instances(runtime, definition):
            last = _history.last(runtime, instance["name"])
            _say_instance(write, instance, last.cause)
            _say_changes(write, now, last)
            _say_besides(write, runtime, last)
    for use in _of_file(session, name):
        any_found = True
        _say_use(runtime, use)
    if not any_found:
        raise pytest.UsageError(f"--fixd-explain: no shared fixture is called '{name}' in what was collected")
