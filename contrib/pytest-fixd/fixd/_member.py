# SPDX-License-Identifier: MIT
"""What this process has to do with fixd: its connection, the fixtures that it has set up, and what its tests have done to them.

PYTEST_DONT_REWRITE: a warm interpreter has it before pytest.
"""

from __future__ import annotations

import contextlib
import errno
import functools
import os
import re
import sys
import time
import uuid
import warnings
from typing import Any, Dict, List, Optional, Set, Tuple

import pytest

from . import _asked, _blame, _daemon, _directories, _ledger, _live, _patterns, _process, _remote, _renewal, _rerun, _teardown
from ._definition import Definition, function_of
from ._fixtures import tear_down, tokens
from ._handle import Handle
from ._lib import Connection, FixdError, View
from ._setting import is_in_file, of_file, setting
from ._use import Held, IniFile
from ._witness import Witness

PYTHON = "FIXD_PYTHON"
# A builder's process waits so long for the others before somebody else has to clean up.
LAST_S = 3600.0
TIMEOUT_S = 600.0


def is_worker(config: pytest.Config) -> bool:
    return hasattr(config, "workerinput")


def has_workers(config: pytest.Config) -> bool:
    """Tests run in other processes (pytest-xdist), this one only looks after them."""
    return bool(getattr(config.option, "tx", None)) or getattr(config.option, "dist", "no") != "no"


def _measures_coverage(config: pytest.Config) -> bool:
    """By pytest-cov, or by `coverage run`."""
    if getattr(config.option, "cov_source", None) and not getattr(config.option, "no_cov", False):
        return True
    coverage = getattr(sys.modules.get("coverage"), "Coverage", None)
    return coverage is not None and getattr(coverage, "current", lambda: None)() is not None


class Runtime:
    """What this process has to do with fixd."""

    def __init__(self, config: pytest.Config):
        self.config = config
        self.root = os.path.realpath(config.rootpath)
        socket = of_file(config, "fixd_socket")
        ini = of_file(config, "fixd_config")
        self.ini = os.path.join(self.root, ini) if ini else None  # the file of fixtures that the daemon reads
        self.socket = os.path.join(self.root, socket) if socket else _daemon.socket_path(self.ini)
        self.reuse: bool = setting(config, "reuse_fixtures")
        self.max_age: Optional[float] = setting(config, "fixture_max_age")
        self.timeout: float = setting(config, "fixd_timeout") or TIMEOUT_S
        self.wait_s = self.timeout + 60
        self.strict: bool = setting(config, "fixd_strict")
        self.too_long: Set[str] = set()  # to be looked at line by line
        self.blame: bool = setting(config, "fixd_blame")
        self.leaks: bool = self.strict or self.blame or setting(config, "fixd_leaks")
        self.connection: Optional[Connection] = None
        self.run: str = getattr(config, "workerinput", {}).get("fixd_run") or uuid.uuid4().hex
        self.process: str = getattr(config, "workerinput", {}).get("fixd_process") or _process.process(os.getpid())  # of the run
        self.problem: Optional[str] = None  # why there is no daemon
        self.began: float = getattr(config, "workerinput", {}).get("fixd_began") or time.time()  # the run
        self.failures: Dict[Tuple[str, str], Any] = {}  # of this process, by name and place: an exception, where, and what others are told of it
        self.disabled = os.environ.get("FIXD_DISABLE") == "1"
        self.handles: Dict[Any, Handle] = {}  # by pytest's definition of the fixture
        self.kept: Dict[Tuple[Definition, str, str], Handle] = {}  # of function and definition scope, between tests
        self.asked = _asked.Kept()
        self.writable: List[Handle] = []
        self.deferred: List[Handle] = []  # others had them still
        self.last: List[Handle] = []  # that this process waits for at its end
        self.defined: Dict[Tuple[Definition, str], str] = {}
        self.pid = os.getpid()
        self.leaked: List[str] = []
        self.item: Any = None  # that can be run again
        self.has_ended = False  # with its fixtures
        self.test = ""  # that runs
        self.running: Any = None
        self.messages: List[str] = []
        self.is_closing = False
        self._asked = False  # for a daemon
        self.configured: Dict[str, str] = {}  # what hooks have set, when the tests were known
        self.header_is_over = self.header_told = False
        # What is measured is to be run.
        self.measures = _measures_coverage(config) and config.getoption("reuse_fixtures") is None
        self.reuse = self.reuse and not self.measures
        self._told: set = set()
        self.unsettled: set = set()  # definitions of what changes what it is made of
        self._witness: Optional[Witness] = None

    # The connection.

    def connect_once(self) -> None:
        """When there is a fixture that is shared."""
        if not self._asked:
            self.connect()
            if self.connection is not None and not is_worker(self.config):
                self.adopt("*")  # what a run that was killed has left behind
                _directories.sweep()

    def has_left_something(self) -> bool:
        """An earlier run: to a daemon that is there, or in notes that have outlived one."""
        return os.path.exists(self.socket) or _ledger.has_any(self.socket, self.root)

    def connect(self) -> None:
        """Joins the run; a worker that cannot is like its controller, which has tried before."""
        self._asked = True
        worker = getattr(self.config, "workerinput", {})
        if "fixd_problem" in worker:
            self.problem = worker["fixd_problem"]
            return
        if self.disabled or _live.is_template():
            return
        os.environ["FIXD_SOCKET"] = self.socket
        os.environ[PYTHON] = f"{sys.implementation.cache_tag}:{sys.prefix}"
        try:
            connection = _daemon.connect(self.socket, may_start=True, ini=self.ini)
            connection.join(self.root, self.run, observer=has_workers(self.config) and not worker)
            if self.test:
                connection.set_test(self.test)  # the first one that needs it
            self.connection = connection
        except (FixdError, _daemon.NoDaemon) as e:
            self.problem = str(getattr(e, "strerror", None) or e)
            if self.header_is_over:
                self._warn(f"every process builds its fixtures itself: {self.problem}")

    def header(self) -> str:
        why = " (coverage is measured; --reuse-fixtures uses them)" if self.measures else ""
        return f"fixd: {self.socket}{'' if self.reuse else f', fixtures of earlier runs are not used{why}'}"

    def lose(self, error: FixdError) -> None:
        """The daemon is gone; what is set up from here on is this process's own."""
        self.connection, self.problem = None, str(error.strerror)
        self.messages.append(f"the daemon was lost, and fixtures were built in every process from then on: {error.strerror}")
        self._warn(self.messages[-1])

    def tell_once(self, what: Any, message: str) -> bool:
        """True: it is told now."""
        if what in self._told:
            return False
        self._told.add(what)
        self._warn(message)
        return True

    def _warn(self, message: str) -> None:
        """Nothing fails by it, also where warnings are errors; and a test that looks at its own warnings (recwarn) does not see it."""
        hook = self.config.hook.pytest_warning_recorded if self.config.pluginmanager.has_plugin("warnings") else None
        try:
            with warnings.catch_warnings(record=True) if hook is not None else contextlib.nullcontext() as caught:
                warnings.warn(pytest.PytestWarning(message), stacklevel=2)
        except pytest.PytestWarning:
            if message not in self.messages:
                self.messages.append(message)
            return
        for one in caught or ():
            hook.call_historic(kwargs={"warning_message": one, "nodeid": self.test, "when": "runtest", "location": None})

    def define(self, definition: Definition, reuse: bool, request: Any) -> str:
        """The name of the fixture in the daemon, which knows it from now on."""
        assert self.connection is not None
        name = definition.name(self.root, request) + ("" if reuse else "#run")
        if (definition, name) not in self.defined:
            self.connection.define(name, self._settings(definition, reuse, definition.class_of(request)))
            self.defined[(definition, name)] = name
        return name

    def _settings(self, definition: Definition, reuse: bool, cls: Any) -> List[str]:
        max_age = definition.max_age if definition.max_age is not None else self.max_age
        settings = [f"scope={definition.scope}", f"env={PYTHON}", f"reuse={'yes' if reuse else 'no'}", "age-from=creation", "retry-after=none",
                    f"version={definition.version(self.root, cls)}",
                    f"timeout={max(1, int((definition.timeout or self.timeout) * 1000))}ms",
                    f"max-age={f'{int(max_age * 1000)}ms' if max_age is not None and reuse else 'none'}"]
        doc = (definition.function.__doc__ or "").strip().splitlines()
        if doc:
            settings.append("doc=" + doc[0][:200])
        if definition.watch:
            settings.append("watch=" + "\n".join(_patterns.of(self.root, definition.watch)))
        return settings

    @functools.cached_property
    def remote(self) -> Optional[_remote.Remote]:
        return _remote.of(self.socket)

    def told(self, name: str, value: Optional[float]) -> str:
        """A number of seconds, and who has said it."""
        if self.config.getoption(name) is not None:
            by = "--" + name.replace("_", "-")
        elif is_in_file(self.config, name):
            by = f"{name} in {os.path.basename(str(self.config.inipath))}"
        else:
            by = "by default"
        return f"{f'{value:g} s' if value is not None else 'none'} ({by})"

    def forget_failure(self, full: str, item: Any) -> bool:
        """Once for each try of a test: whoever asks next builds the fixture.  False: it was done already."""
        what = (full, item.nodeid, item.execution_count)
        if what in self._told:
            return False
        self._told.add(what)
        return self.forget(full, "--failed")

    def forget(self, full: str, *options: str) -> bool:
        """The instance is built again for whoever asks next."""
        pattern = re.sub(r"([][*?\\\\])", r"\\\1", full)
        return _daemon.fixctl(self.socket, ["cleanup", "--force", *options, pattern], self.root).returncode == 0

    def witness(self) -> Optional[Witness]:
        """To be asked for before anything is built."""
        if self._witness is None or self._witness.pid != os.getpid():
            try:
                self._witness = Witness()
            except OSError:
                return None
        return self._witness

    @functools.cached_property
    def ini_file(self) -> IniFile:
        """For as long as this process runs."""
        return IniFile(self)

    # Fixtures that are set up.

    def hold(self, held: Held) -> None:
        self.handles[held.fixturedef] = held
        if held.view is not None and held.view.writable:
            self.writable.append(held)

    def begin_handle(self, definition: Definition, request: Any) -> Handle:
        handle = Handle(definition, definition.name(self.root, request), request._fixturedef)
        self.handles[request._fixturedef] = handle
        if definition.unmovable and definition.asked_for_reuse and self.connection is not None and self.reuse:
            self.tell_once((definition, "unmovable"), f"fixture '{handle.title}' is not reused by later runs: {definition.unmovable}, so "
                           "only the process that built it can end it; say reuse=False, or give teardown=")
        return handle

    def end_handle(self, handle: Handle) -> None:
        if self.handles.get(handle.fixturedef) is handle:
            del self.handles[handle.fixturedef]
        if handle in self.writable:
            self.look_at(handle)
            self.writable.remove(handle)
        if self.leaks:
            self.look_at_own(handle)

    def kept_handle(self, definition: Definition, full: str, place: str) -> Optional[Handle]:
        """Between the tests of a function, or of all functions, the fixture stays set up in this process."""
        handle = self.kept.get((definition, full, place))
        if handle is None:
            return None
        if handle.view is not None and not handle.view.current and not definition.to_be_torn_down:
            del self.kept[(definition, full, place)]
            self.end_handle(handle)
            return None
        return handle

    def keep(self, handle: Handle, full: str, place: str) -> Handle:
        if handle.definition.scope in ("function", "definition"):
            self.kept[(handle.definition, full, place)] = handle
        return handle

    def keeps(self, handle: Handle) -> bool:
        return handle in self.kept.values()

    def end_kept(self, nextitem: Optional[pytest.Item]) -> None:
        """What was for one test function ends when another one follows."""
        following = function_of(nextitem)
        errors: List[Exception] = []
        for key, handle in list(self.kept.items()):
            if nextitem is not None and (key[0].scope != "definition" or key[2] == following):
                continue
            del self.kept[key]
            try:
                tear_down(self, handle)
            except Exception as e:
                errors.append(e)
        if errors:
            raise errors[0]

    # Around a test.

    def begin_test(self, item: Any) -> None:
        self.test, self.running = item.nodeid, item
        # What is undone here was written by a test before, and nobody knows which.
        if self.connection is not None:
            self.connection.set_test(None)
        # What a doctest asks for by getfixture() nobody knows before.
        wanted = ("request",) if hasattr(item, "dtest") else getattr(item, "fixturenames", ())
        for handle in list(self.handles.values()):
            # Or it may be asked for by request.getfixturevalue(), and somebody has had it.
            if handle.fixturedef.argname in wanted or ("request" in wanted and (handle.was_had or handle.unseen)):
                handle.was_had = handle.was_had and getattr(handle.definition, "parse", None) is not None
                if handle.unseen and handle.view is not None:
                    handle.view.reset()
                    handle.unseen = False
                _renewal.renew(handle, self.handles.values())
        if self.connection is not None:
            self.connection.set_test(self.test)

    def replace_dead(self, item: pytest.Item) -> None:
        """What was made with a clone that has died goes with it; who needs them next gets others."""
        request = getattr(item, "_request", None)
        for held in [h for h in self.handles.values() if isinstance(h, Held) and h.has_died] if request is not None else []:
            errors = ""
            try:
                held.fixturedef.finish(request)
            except Exception as e:
                errors = f"; and what was made with it did not end well: {e!r}"
            warnings.warn(pytest.PytestWarning(f"fixture '{held.title}' has died: tests from here on get a fresh one{errors}"))

    def look_at(self, handle: Handle) -> None:
        """Notes what the test did to a copy-on-write fixture, and undoes it."""
        view = handle.view
        if view is None:
            return
        looks = self.leaks and handle.definition.scope != "function"
        if self.blame:
            self.look_closely(handle, view, looks)
            return
        changes = view.changes(4) if looks else []
        view.reset()
        if changes and handle.stored is not None:
            offset, length = changes[0]
            more = f" and {len(changes) - 1} other place(s)" if len(changes) > 1 else ""
            self.leaked.append(f"{self.test} changed the shared fixture '{handle.title}': {length} byte(s) from "
                               f"{handle.stored.where(offset)}{more}")

    def look_closely(self, handle: Handle, view: View, looks: bool) -> None:
        """As look_at(), and who it was."""
        changes, others, unasked = _blame.changes_of(view, handle.value) if looks else ([], 0, 0)
        view.blame_nobody()
        view.reset()
        for change in changes if handle.stored is not None else ():
            self.leaked.append(f"{self.test} changed the shared fixture '{handle.title}': "
                               f"{_blame.sentence_of(change, view, handle.stored.where(change.offset))}")
        if others:
            self.leaked.append(f"{self.test} changed the shared fixture '{handle.title}' from {others} other places of the program")
        if unasked:
            self.leaked.append(f"{self.test} changed the shared fixture '{handle.title}' in {unasked} more place(s), each by whom is not told")

    def look_at_own(self, handle: Handle) -> None:
        """Notes what the test did to what this process has of its own of a value: that is not undone."""
        if handle.private is None or handle.stored is None:
            return
        if handle.has_changed():
            stays = not (_renewal.is_wanted(handle) and _renewal.is_possible(handle, self.handles.values()))
            self.leaked.append(f"{self.test} changed the shared fixture '{handle.title}' outside of its arrays"
                               f"{': later tests of this process see that' if stays else ''}{self.who_changed(handle)}")

    def look_for_lines(self, item: Any) -> None:
        """While the test still has what it needs to be run again; from here on it is not the test itself."""
        if self.blame:
            self.say_who_used()
        self.item = item if self.blame and getattr(item, "funcargs", None) is not None else None
        for handle in self.handles.values():
            handle.cached = getattr(handle.fixturedef, "cached_result", None)
        try:
            for handle in self.handles.values() if self.item is not None else ():
                self.look_at_own(handle)
        finally:
            self.has_ended = True

    def who_changed(self, handle: Handle) -> str:
        """Of what is not undone, by running the test once more."""
        if self.item is None:
            return ""
        # The one that ends with the test is not among them any more.
        handles = [handle, *(h for h in self.handles.values() if h is not handle)]
        if handle.title in self.too_long:
            return ""
        try:
            found = _rerun.find(self.item, handle, handles, self.has_ended)
        except TimeoutError as e:
            self.too_long.add(handle.title)
            return f"\n    by which line is not known: {e}"
        if found is None:
            return "\n    by which line is not known: it did not happen again when the test was run alone"
        if handle.view is not None and found.lines:
            handle.view.used(found.lines[0].partition(" at ")[2])
        return "".join(["\n    " + line for line in [found.what, *found.lines] if line])

    def has_asked(self, handle: Handle) -> bool:
        """The test that runs has it, by its name or by request.getfixturevalue(), or it cannot be told."""
        asked = getattr(getattr(self.running, "_request", None), "_fixture_defs", None)
        return asked is None or handle.fixturedef.argname in asked or handle.fixturedef.argname in getattr(self.running, "fixturenames", ())

    def say_who_used(self) -> None:
        """For fixctl report: who might have seen what others have changed."""
        for handle in self.handles.values():
            if handle.view is not None and handle.definition.scope != "function" and self.has_asked(handle):
                handle.view.used()

    def put_back(self) -> None:
        for handle in self.handles.values():
            handle.was_had = handle.was_had or self.has_asked(handle)
        for handle in self.writable:
            if self.leaks or self.has_asked(handle):
                self.look_at(handle)
            else:
                handle.unseen = True  # where no kernel tells it at once, looking at 1 GiB takes some ms
        try:
            for handle in list(self.handles.values()) if self.leaks else ():
                self.look_at_own(handle)
        finally:
            self.item, self.has_ended = None, False
        told, self.leaked = self.leaked, []
        if told and self.strict:
            pytest.fail("\n".join(told), pytrace=False)
        for message in told:
            warnings.warn(pytest.PytestWarning(message))

    # The end.

    def begin_closing(self) -> None:
        """Nothing new is set up from here on: others need not wait for this process."""
        if not self.is_closing and self.connection is not None and os.getpid() == self.pid:
            self.is_closing = True
            try:
                self.connection.closing()
            except FixdError:
                pass

    def give_up(self, handle: Handle, wait: bool = False) -> None:
        """Exactly one process of the run, the last that could use the fixture, tears it down.  Whoever has built it waits for that, when
        it has let go of all but what it has built and what that needs: others may wait for those."""
        is_own = handle.made or handle.generator is not None
        if self.is_closing and not wait and os.getpid() == self.pid and any(handle.view in other.needs for other in (*self.last, *self.deferred)):
            self.last.append(handle)
            return
        view, definition = handle.view, handle.definition
        # A forked child does not wait for its parent, nor the parent's other children: somebody finds what it leaves.
        here = os.getpid() == self.pid
        last, note = False, None
        try:
            last, note = view.release(LAST_S if wait and is_own and here else 0)  # type: ignore[union-attr]
        except FixdError as e:
            # With the daemon everybody who could take over is gone; else somebody else has.
            last = e.errno != errno.ETIMEDOUT and handle.made and here
        if not last and not wait and here and is_own:
            (self.last if self.is_closing else self.deferred).append(handle)
            return
        stored = handle.stored
        handle.view = handle.stored = None
        if definition.tokens:
            generator, handle.generator = handle.generator, None
            if generator is not None:
                tokens().end(definition, generator, last)
        elif last and (handle.generator is not None or (handle.made and definition.unmovable)):
            handle.finish(stored)
        elif last and note is not None:
            # A second half that fails is an error of the test that is last; that nobody can run it is none of its.
            try:
                _teardown.follow(note)
            except _teardown.Lost as e:
                self.messages.append(_teardown.lost_sentence(note, e))
        elif last:
            handle.finish(stored)
        else:
            handle.leave_to_others()

    def adopt(self, pattern: str) -> None:
        """Tears down what others have left behind."""
        while True:
            try:
                found = self.connection.adopt(pattern)  # type: ignore[union-attr]
            except FixdError:
                return
            if found is None:
                break
            self._follow(found[1])
        if _ledger.has_any(self.socket, self.root) and self.session is not None:
            for note in _ledger.abandoned(self.socket, self.root, self.session, pattern):
                self._follow(note)

    def _follow(self, note: bytes) -> None:
        problem = _teardown.follow_and_report(note)
        if problem:
            self.messages.append(problem)

    @functools.cached_property
    def session(self) -> Optional[str]:
        """Which one the daemon has of this project; None: it does not say."""
        return _daemon.session_of(self.socket, self.root)

    def copied(self, title: str, note: bytes, reuse: bool) -> Tuple[bytes, Optional[str]]:
        """The note, of which a copy is kept if the daemon does not."""
        of_run = "" if reuse else self.process
        return (note, None) if self.session is None else _ledger.add(self.socket, self.root, self.session, title, note, of_run)

    def follow_abandoned(self, root: Optional[str]) -> int:
        """There is no daemon any more; how many it has left."""
        notes = 0
        for note in _ledger.abandoned(self.socket, root, None) if _daemon.is_gone(self.socket) else ():
            self._follow(note)
            notes += 1
        return notes

    def end_last(self) -> List[Exception]:
        """In pytest's order; what was for a part of the run is least urgent."""
        errors: List[Exception] = []
        handles, self.last, self.deferred = [*self.last, *self.deferred[::-1]], [], []
        for handle in handles:
            try:
                self.give_up(handle, wait=True)
            except Exception as e:
                errors.append(e)
        return errors

    def finish(self) -> None:
        self.begin_closing()
        for error in self.end_last():
            self.messages.append(f"a clean-up failed: {type(error).__name__}: {error}")

    def close(self) -> None:
        witness, self._witness = self._witness, None
        if witness is not None and witness.pid == os.getpid():
            witness.close()
        if self.connection is None:
            return
        if not is_worker(self.config):
            self.adopt("*")
        connection, self.connection = self.connection, None
        connection.close()
