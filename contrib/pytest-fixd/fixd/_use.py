# SPDX-License-Identifier: MIT
"""Fixtures of an ini file, which the daemon builds, as fixtures of pytest."""

from __future__ import annotations

import json
import os
import pathlib
import re
from typing import Any, Dict, Iterator, Optional, Sequence

import pytest

from . import _daemon
from ._fixtures import LOST, FixtureBuildError
from ._lib import FixdError, View
from ._runtime import runtime_of

# From wide to narrow; pytest knows no definition.
SCOPES = ("session", "package", "module", "class", "definition", "function")


class IniFile:
    """What the daemon knows of its file of fixtures, which it has read again if pytest was told of one."""

    def __init__(self, runtime: Any):
        self.problem: Optional[str] = None
        self._fixtures: Dict[str, Dict[str, Any]] = {}
        try:
            if runtime.ini is not None:
                self._read_again(runtime)
            told = _daemon.fixctl(runtime.socket, ["list", "--json"])
            if told.returncode != 0:
                self.problem = self.problem or told.stderr.strip()
                return
            self._fixtures = {fixture["name"]: fixture for fixture in json.loads(told.stdout)}
        except (_daemon.NoDaemon, ValueError) as e:
            self.problem = str(e)

    def _read_again(self, runtime: Any) -> None:
        done = _daemon.fixctl(runtime.socket, ["reload"])
        if done.returncode != 0:
            self.problem = done.stderr.strip()

    def fixture(self, name: str) -> Dict[str, Any]:
        """Empty: there is none, which the daemon tells better."""
        return self._fixtures.get(name.split("[")[0], {})

    def clones(self, name: str) -> int:
        """How many there may be at once; 0: it has none."""
        said = re.search(r"^clones = (\d+)$", self.fixture(name).get("policy", ""), re.MULTILINE)
        return int(said.group(1)) if said else 0


class Held:
    """One that is set up in this process; what the runtime looks at is as of a Handle."""

    private: Optional[str] = None
    unseen = was_had = False
    cached: Any = None

    def __init__(self, definition: "Use", title: str, fixturedef: Any, lease: View):
        self.definition, self.title, self.instance, self.fixturedef = definition, title, title, fixturedef
        self.lease: Optional[View] = lease
        self.view: Optional[View] = None  # what fixtures that are built from it depend on
        self.stored: Optional[Held] = None
        self.how = "built" if lease.built else "reused" if lease.reused else "attached"
        self.value: Any = None  # what tests get

    def take(self, source: str, is_clone: bool) -> None:
        """A service is told by where it is: that is the value, and as such part of what is made from it."""
        lease = self.lease
        assert lease is not None
        if is_clone:
            self.how = "clone"
        if source == "service":
            self.value = bytes(lease.data).decode(errors="surrogateescape")
            return
        self.view, self.stored = lease, self
        if lease.path is not None:
            self.value = pathlib.Path(lease.path)
        elif source == "plugin":
            self.value = lease
        elif is_clone:
            # It ends with its test, though a traceback may refer to the value for as long as it is kept.
            self.value = memoryview(bytearray(lease.data) if self.definition.writable else bytes(lease.data))
        else:
            self.value = lease.data

    @property
    def has_died(self) -> bool:
        """Of a clone: what this process has is of no use to anybody any more."""
        return self.how == "clone" and self.lease is not None and not self.lease.current

    @staticmethod
    def where(offset: int) -> str:
        return f"byte {offset}"

    def let_go(self) -> None:
        """A clone ends now; bytes stay for as long as something of the test refers to them."""
        lease, self.lease = self.lease, None
        if lease is not None and (self.how == "clone" or not isinstance(self.value, (memoryview, View))):
            lease.detach()
        self.view = self.stored = self.value = None


class Use:
    """One call of fixd.use()."""

    def __init__(self, name: str, scope: Any, writable: bool, timeout: Optional[float]):
        self.name, self.scope, self.writable, self.timeout = name, scope, writable, timeout

    def set_up(self, runtime: Any, request: Any) -> Held:
        __tracebackhide__ = True
        title = self.name + (f"[{request.param}]" if hasattr(request, "param") else "")
        self.scope = request.scope
        runtime.connect_once()
        if runtime.connection is None:
            why = "FIXD_DISABLE is set" if runtime.disabled else runtime.problem
            raise FixtureBuildError(f"fixture '{title}' is built by the daemon, and there is none: {why}")
        objection = runtime.ini_file.problem or self._objection(runtime.ini_file.fixture(self.name), title)
        if objection:
            raise FixtureBuildError(objection)
        held = Held(self, title, request._fixturedef, self._attach(runtime, title, _place(request)))
        held.take(runtime.ini_file.fixture(self.name).get("source", ""), runtime.ini_file.clones(self.name) > 0)
        runtime.hold(held)
        return held

    def _objection(self, fixture: Dict[str, Any], title: str) -> Optional[str]:
        scope, source = fixture.get("scope", "session"), fixture.get("source")
        if SCOPES.index(scope) > SCOPES.index(self.scope):
            return (f"fixture '{title}' has scope = {scope} in {fixture['file']}:{fixture['line']}, and is used with scope=\"{self.scope}\": "
                    f"expected scope=\"{'function' if scope == 'definition' else scope}\", or a narrower one")
        if self.writable and source in ("service", "tree", "directory"):
            return f"fixture '{title}' is a {source}: writable=True is for bytes and objects"
        return None

    def _attach(self, runtime: Any, title: str, place: str) -> View:
        __tracebackhide__ = True
        timeout_s = self.timeout or runtime.timeout
        try:
            return runtime.connection.attach(title, writable=self.writable, timeout_s=timeout_s, scope_key=place)
        except FixdError as e:
            if e.errno in LOST:
                runtime.lose(e)
            raise FixtureBuildError(str(e.strerror or e)) from None


def _place(request: Any) -> str:
    """The scope key of a test, or of the tests that share a fixture."""
    node, scope = request.node.nodeid, request.scope
    if scope == "package":
        return f"{os.path.dirname(node) if node.endswith('.py') else node or '.'}/package"
    return {"session": "", "class": f"{node}::class"}.get(scope, node)


def use(name: str, *, scope: Any = "session", params: Optional[Sequence[str]] = None, ids: Any = None, autouse: bool = False,
        writable: bool = False, timeout: Optional[float] = None) -> Any:
    """A pytest fixture that is a fixture of fixd.ini: `pg = fixd.use("pg")`.

    name      of the fixture, or name[param].
    scope     session (each process has what it holds to its end), package, module, class, function, or a callable as pytest has it.
              With clones each of these has a clone of its own, which ends with it.
    params    of those that the file lists: each test runs with each of them.
    writable  bytes and objects are copy-on-write, and pristine again after each test.
    timeout   seconds to wait for it; default: --fixd-timeout.

    Its value is, of a service, what it says of where it is, a str; of a tree its directory, a pathlib.Path; of objects a fixd.View; of
    everything else the bytes, a memoryview of the shared ones.
    """
    if not callable(scope) and (scope not in SCOPES or scope == "definition"):
        raise ValueError(f"scope={scope!r}: expected one of {', '.join(s for s in SCOPES if s != 'definition')}")
    if timeout is not None and not timeout > 0:
        raise ValueError(f"timeout={timeout!r}: expected a number of seconds above 0")
    definition = Use(name, scope, writable, timeout)

    def wrapper(*self_args: Any, request: Any) -> Iterator[Any]:
        __tracebackhide__ = True
        runtime = runtime_of(request.config)
        held = definition.set_up(runtime, request)
        yield held.value
        runtime.end_handle(held)
        held.let_go()

    wrapper._fixd_use = definition  # type: ignore[attr-defined]
    wrapper.__doc__ = f"The fixture '{name}' of the daemon's file, fixd.ini."
    return pytest.fixture(scope=scope, params=params, ids=ids, autouse=autouse)(wrapper)


__all__ = ["use"]
