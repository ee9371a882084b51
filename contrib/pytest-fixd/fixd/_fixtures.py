# SPDX-License-Identifier: MIT
"""The decorator, and what happens when pytest sets such a fixture up."""

from __future__ import annotations

import contextlib
import errno
import functools
import inspect
import os
import re
import traceback
import unittest
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Set, Union

import pytest

from . import _asked, _classes, _directories, _ends, _history, _ledger, _limit, _live, _made_of, _outside, _patterns, _reads, _remote, _source, _teardown, _values
from ._definition import NOT_COMPARED, SCOPES, Arguments, Definition, PerProcess, PerTest, full_name, is_offered, param_key, place_of, title_of
from ._fingerprint import fingerprint
from ._handle import Handle
from ._lib import NOTE_MAX, Build, FixdError, View
from ._runtime import runtime_of
from ._values import Stored

UNSETTLED_MAX = 1  # somebody else may have written meanwhile, once
SENTENCE_MAX = 3000
FORGOTTEN_MAX = 2
FILES_SHOWN = 3
# In the sentence of a failed build that was none: nothing that a traceback has ends like that.
OUTCOME = re.compile("(skipped|xfailed|unshared): (.*)\x1f", re.DOTALL)
# In that of the daemon when several processes have tried in vain.
UNSETTLED = re.compile("its inputs changed during each of .*", re.DOTALL)
# What to do about one that cannot be shared.
MADE_OUT_OF = "parse= can make what cannot be shared out of what can"
OF_EACH_TEST = "which each test has for itself"
# What is being built by this process and by those that have started it: PID ROOT NAME, a line each.
BUILDS = "FIXD_PYTEST_BUILDS"
LEFT_OUT = "a watch= that leaves out what the fixture writes avoids that"
# The daemon is gone, or the project has closed what leads to it.
LOST = (errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN, errno.EBADF, errno.ENOTSOCK)


class FixtureBuildError(Exception):
    """Another process failed to build the fixture; the text ends with its traceback."""


class Unshared(Exception):
    """Every process has to build the fixture itself; a sentence says why."""


def cause_of(error: BaseException) -> Optional[str]:
    """What the others are told of a failed build: its traceback, from the fixture's own frame on.  None: it was only interrupted."""
    if isinstance(error, (pytest.skip.Exception, pytest.xfail.Exception, unittest.SkipTest)):
        reason = str(getattr(error, "msg", None) or error)
        outcome = "xfailed" if isinstance(error, pytest.xfail.Exception) else "skipped"
        return f"{outcome}: {reason[:SENTENCE_MAX]}\x1f"
    if isinstance(error, (KeyboardInterrupt, GeneratorExit, pytest.exit.Exception, _limit.Interrupt)):
        return None
    frames = error.__traceback__
    while frames is not None and os.path.dirname(frames.tb_frame.f_code.co_filename) == os.path.dirname(__file__):
        frames = frames.tb_next
    text = "".join(traceback.format_exception(type(error), error, frames)).rstrip()
    return text if len(text) <= SENTENCE_MAX else "...\n" + text[-SENTENCE_MAX:]


def why_unshared(error: BaseException, last_try: bool) -> Optional[str]:
    """A reason to keep what was built in this process, or None: it is a failure, or another try is worth it."""
    if isinstance(error, PerTest):
        return f"it uses '{error}', {OF_EACH_TEST}"
    if isinstance(error, PerProcess):
        return f"it uses {error}"
    if isinstance(error, Unshared):
        return str(error)
    if isinstance(error, _values.CannotShare):
        return f"{error}; {MADE_OUT_OF}"
    if isinstance(error, FixdError) and error.errno == errno.EAGAIN and last_try:
        changed = str(error.strerror).replace("; begin again", "")
        return f"each time it was built, what it is made of had changed meanwhile, perhaps by itself: {changed}; {LEFT_OUT}"
    if isinstance(error, FixdError) and error.errno == errno.EDQUOT:
        return f"{error.strerror}; {MADE_OUT_OF}"
    return None


def abort(builds: Sequence[Build], sentence: Optional[str]) -> None:
    for build in builds:
        build.abort(sentence)


def raise_failure(error: FixdError) -> None:
    __tracebackhide__ = True
    sentence = str(error.strerror or error)
    outcome = OUTCOME.search(sentence)
    if outcome and outcome.group(1) == "unshared":
        raise Unshared(outcome.group(2))
    unsettled = UNSETTLED.search(sentence)
    if unsettled:
        raise Unshared(f"{unsettled.group()}, perhaps by itself; {LEFT_OUT}")
    if outcome:
        (pytest.skip if outcome.group(1) == "skipped" else pytest.xfail)(outcome.group(2))
    raise FixtureBuildError(sentence) from None


class SetUp:
    """One fixture being set up: what it needs to be run, here or not."""

    def __init__(self, runtime: Any, definition: Definition, request: Any, arguments: Dict[str, Any], self_args: Sequence[Any]):
        self.runtime, self.definition, self.request = runtime, definition, request
        self._arguments, self._self_args = arguments, self_args
        self.called = request._fixturedef.argname
        self._wanted: Optional[_remote.Wanted] = None  # as other machines know it
        self._looked = False  # for it on the remote
        self._cause: Optional[str] = None  # why it is built again
        self._passed: Dict[str, Any] = {}  # arguments of a build for others, and what tells of a change

    def call(self, directories: Optional[_directories.Directories] = None, for_others: bool = False) -> Any:
        __tracebackhide__ = True
        arguments = {name: self._as_built(name, value) for name, value in self._arguments.items()} if for_others else dict(self._arguments)
        if for_others:
            self._passed = {name: (value, stored, stored.private_print(value)) for name, value in arguments.items()
                            for stored in [self._stored_of(name)] if stored is not None}
        if directories is not None:
            arguments["tmp_path_factory"] = directories
        return self.definition.function(*self._self_args, **arguments)

    def _as_built(self, name: str, value: Any) -> Any:
        """What others get is made of what others have, and not of what a test has changed here."""
        handle = self._handle_of(name)
        if not isinstance(handle, Handle) or handle.stored is None or handle.value is not value:
            return value
        stored, definition = handle.stored, handle.definition
        if definition.store is not None or definition.tokens:
            return value
        if definition.parse is not None:
            # Nobody can tell whether it was changed: it is not made twice before somebody has had it.
            in_test = self.called not in getattr(self.request._pyfuncitem, "fixturenames", ()) and self.runtime.has_asked(handle)
            return definition.parsed(stored.value()) if handle.was_had or in_test else value
        fresh = stored.value()
        return value if stored.private_print(value) == stored.private_print(fresh) else fresh

    def _stored_of(self, name: str) -> Optional[Stored]:
        """Of a shared argument, where what it is can be told from what others have."""
        handle = self._handle_of(name)
        if not isinstance(handle, Handle) or handle.definition.parse is not None or handle.definition.tokens or handle.definition.store is not None:
            return None
        return handle.stored

    def _changed_shared(self) -> Optional[str]:
        """An argument that others have as it was; elements of its arrays are put back."""
        return next((name for name, (value, stored, before) in self._passed.items() if before is not None and stored.private_print(value) != before and
                     stored.canonical_print(value) != stored.canonical_print(stored.value())), None)

    def _prints_of_plain(self) -> Dict[str, Optional[str]]:
        """Of the arguments that are no shared ones."""
        return {name: _values.reading_print(value) for name, value in self._arguments.items()
                if name != "request" and getattr(self._handle_of(name), "stored", None) is None and not self._is_offered(name)}

    def _is_offered(self, name: str) -> bool:
        """By pytest or pytest-xdist: what they note down of their own is no change."""
        try:
            return is_offered(self.request._get_active_fixturedef(name))
        except Exception:
            return True

    def _prints_of_needed(self) -> Dict[str, Optional[str]]:
        """Of variables of the module that the second half uses."""
        half = self.definition.second_half
        return {name: fingerprint(value) for name, value in _source.variables_of(half, self.definition.function).items()} if half is not None else {}

    def _handle_of(self, name: str) -> Any:
        """Of a shared one; else None."""
        try:
            return self.runtime.handles.get(self.request._get_active_fixturedef(name)) if name != "request" else None
        except Exception:
            return None

    def local(self) -> Handle:
        """Like plain pytest: without a daemon, or of what each test has for itself."""
        __tracebackhide__ = True
        handle = self.runtime.begin_handle(self.definition, self.request)
        handle.data = self.first_half(handle)
        handle.value = self.definition.parsed(handle.data)
        return handle

    def live(self) -> Handle:
        """In the template, for all that are forked from it; or in a process that is no fork."""
        __tracebackhide__ = True
        definition = self.definition
        if not _live.is_template() and not self.runtime.disabled:
            self.runtime.tell_once((definition, "live"), f"fixture '{self.called}' is built in every process: {_live.why_not(definition)}")
        handle = self.local()
        _live.keep(definition, handle.value)
        if not _live.is_template():
            handle.value = _live.opened(definition, handle.value)
        return handle

    def shared(self) -> Handle:
        """From shared memory, built first if nobody has."""
        __tracebackhide__ = True
        definition, runtime = self.definition, self.runtime
        if definition in runtime.unsettled:
            return self.local()
        if definition.scope == "function" and definition.makes_directories and definition.isolate:
            self._tell_alone(definition, "is built by every test: each may change the directory that it makes; writable=False shares it")
            return self.local()
        answers: List[_asked.Answer] = []
        while True:
            try:
                got = self._at(self._where(answers))
            except _asked.Again:
                answers.clear()
                continue
            except PerTest as e:
                self._tell_alone(definition, f"is built by every test: it uses '{e}', {OF_EACH_TEST}; {MADE_OUT_OF}")
                return self.local()
            except PerProcess as e:
                self._tell_alone(definition, f"is built in every process: it uses {e}; {MADE_OUT_OF}")
                return self.local()
            if isinstance(got, Handle):
                return got
            answers.append(_asked.ask(self.request, got))

    def _where(self, answers: Sequence[_asked.Answer]) -> _asked.Where:
        definition, runtime = self.definition, self.runtime
        arguments = Arguments(definition, self.request, runtime.handles, runtime.root, answers, self._self_args[0] if self._self_args else None)
        name = runtime.define(definition, definition.reuse and runtime.reuse, self.request)
        full = full_name(name, param_key(self.request), arguments.key)
        return _asked.Where(full, place_of(definition, self.request), tuple(arguments.views), tuple(answers))

    def _at(self, where: _asked.Where) -> Union[Handle, str]:
        """The fixture, or the name that it asks for next."""
        __tracebackhide__ = True
        definition, runtime, full, place = self.definition, self.runtime, where.full, where.place
        known = runtime.asked.known(definition, where)
        if known is not None:
            return known
        kept = runtime.kept_handle(definition, full, place)
        if kept is not None:
            if definition.scope == "function":
                kept.value = definition.parsed(self.data_of(kept))
            runtime.handles[self.request._fixturedef] = kept
            return kept
        handle = runtime.begin_handle(definition, self.request)
        handle.instance = f"{full} @ {place}"
        for attempt in range(UNSETTLED_MAX + 1):
            try:
                got = self._begin_as_it_is(where)
            except Unshared as e:
                if LEFT_OUT in str(e):
                    runtime.unsettled.add(definition)
                self._tell_unshared(str(e))
                return self.local()
            if isinstance(got, View):
                asks = _asked.next_of(got)
                if asks is not None:
                    runtime.asked.keep(definition, where, got, asks)
                    return asks
                self._use(handle, got, "reused" if got.reused else "attached")
                assert handle.stored is not None
                self._start_as_another(handle)
                missing = "" if definition.tokens else _classes.missing(handle.stored.head.get("classes", ()))
                if missing:
                    runtime.end_handle(handle)
                    self._tell_unshared(f"{missing}; {MADE_OUT_OF}")
                    return self.local()
                return runtime.keep(handle, full, place)
            try:
                built = self._build(handle, got, where, attempt == UNSETTLED_MAX)
                return handle if built is None else runtime.keep(handle, built.full, built.place)
            except FixdError as e:
                if e.errno != errno.EAGAIN:
                    raise
        raise AssertionError("unreachable")

    def _difference(self, got: Union[View, Build]) -> Optional[str]:
        if not isinstance(got, View) or _asked.next_of(got) is not None:
            return None
        return _made_of.difference(Stored(got, self.definition.serializer).head, self.runtime, self.request)

    def _begin_as_it_is(self, where: _asked.Where) -> Union[View, Build]:
        """What was made of something that is otherwise here is built again."""
        __tracebackhide__ = True
        runtime, got = self.runtime, self._begin(where)
        for _ in range(FORGOTTEN_MAX):
            other = self._difference(got)
            if other is None:
                return got
            self._cause = other
            # Somebody else may have seen that, too.
            again = self._begin(where)
            if isinstance(again, View) and again.generation == got.generation and runtime.forget(where.full):  # type: ignore[union-attr]
                again = self._begin(where)
            if other != _made_of.GONE:
                runtime.tell_once((self.definition, "changed"), f"fixture '{self.called}' is built again: {other}")
            got = again
        other = self._difference(got)
        if other is not None:
            raise Unshared(f"{other}, and in another process it is not")
        return got

    def _tell_unshared(self, why: str) -> None:
        how = "by every test" if why.endswith(OF_EACH_TEST) else "in every process"
        self._tell_alone((self.definition, "unshared"), f"is built {how}: {why}")

    def _tell_alone(self, once: Any, why: str) -> None:
        """Now, and to --fixd-explain."""
        code = self.definition.function.__code__
        place = f"{os.path.relpath(code.co_filename, self.runtime.root)}:{code.co_firstlineno}"
        if self.runtime.tell_once(once, f"fixture '{self.called}' ({place}) {why}"):
            _history.note_alone(self.runtime, self.definition, why)

    def _begin(self, where: _asked.Where) -> Union[View, Build]:
        __tracebackhide__ = True
        runtime = self.runtime
        if any(line.endswith(f" {runtime.root} {where.full}") and not line.startswith(f"{os.getpid()} ") for line in os.environ.get(BUILDS, "").splitlines()):
            raise Unshared("a process that has started this one is building it")
        try:
            got: Union[View, Build] = runtime.connection.begin(where.full, writable=self.definition.writable, timeout_s=runtime.wait_s,
                                                               scope_key=where.place, depends=where.views)
            if isinstance(got, View) or not self.definition.remote or not runtime.reuse or where.answers:
                return got
            return self._from_remote(got, where) if runtime.remote else got
        except FixdError as e:
            if e.errno != errno.EIO:
                raise
            failure = e
        # A test that is tried again wants its fixtures tried again, too.
        if getattr(self.request._pyfuncitem, "execution_count", 1) > 1 and runtime.forget_failure(where.full, self.request._pyfuncitem):
            return self._begin(where)
        own = runtime.failures.get((where.full, where.place))
        if own is not None and own[2] in str(failure.strerror):
            raise own[0].with_traceback(own[1])
        raise_failure(failure)
        raise AssertionError("unreachable")

    @contextlib.contextmanager
    def _named(self, full: str) -> Iterator[None]:
        """A process that is started by the build must not wait for it."""
        before = os.environ.get(BUILDS)
        os.environ[BUILDS] = "\n".join([*filter(None, [before]), f"{os.getpid()} {self.runtime.root} {full}"])
        try:
            yield
        finally:
            os.environ.pop(BUILDS, None)
            if before is not None:
                os.environ[BUILDS] = before

    def _described(self, where: _asked.Where) -> _remote.Wanted:
        definition, root = self.definition, self.runtime.root
        self._reset(where.views)
        version = definition.version(root, definition.class_of(self.request))
        return _remote.described(root, where.full, where.place, version, definition.watch, where.views)

    def _from_remote(self, build: Build, where: _asked.Where) -> Union[View, Build]:
        """As other machines know it; each time that it is to be built anew, as what it is made of may be another."""
        __tracebackhide__ = True
        runtime, definition = self.runtime, self.definition
        look, self._looked, self._wanted = not self._looked, True, None
        outside = _source.reads_outside(definition.function) if definition.key is None else None
        if outside:
            self._tell_of_remote(f"it reads {outside}, which others may have otherwise; key= can tell")
            return build
        try:
            self._wanted = self._described(where)
        except OSError as e:
            self._tell_of_remote(str(e))
            return build
        size, wrong = runtime.remote.take(build, self._wanted, (definition.timeout or runtime.timeout) / 2, look)
        self._tell_of_remote(wrong, "remote")
        if size is None:
            return build
        try:
            return build.commit(size)
        except FixdError as e:
            if e.errno != errno.EAGAIN:
                raise
        # What it is made of has changed meanwhile.
        return self._begin(where)

    def _offer(self, view: View, where: _asked.Where) -> None:
        """What was described before it was built, if it is that still."""
        wanted, self._wanted = self._wanted, None
        if wanted is None or not self.runtime.remote.writes:
            return
        try:
            same = self._described(where).pairs == wanted.pairs
        except OSError:
            same = False
        self._tell_of_remote(self.runtime.remote.offer(view, wanted) if same else "what it is made of has changed while it was built")

    def _tell_of_remote(self, wrong: str, once: Any = None) -> None:
        definition = self.definition
        if wrong:
            self.runtime.tell_once(once or (definition, "remote"), f"fixture '{self.called}' does not come from the remote, nor go "
                                                                   f"there: {wrong}")

    def _use(self, handle: Handle, view: View, how: str) -> None:
        handle.view, handle.how = view, how
        handle.stored = Stored(view, self.definition.serializer)
        view.isolated = self.definition.isolate
        if view.writable and view.isolated:
            self.runtime.writable.append(handle)

    def first_half(self, handle: Handle, directories: Optional[_directories.Directories] = None, for_others: bool = False) -> Any:
        __tracebackhide__ = True
        definition = self.definition
        handle.made = True
        if not definition.generator:
            return self.call(directories, for_others)
        generator = self.call(directories, for_others)
        try:
            value = next(generator)
            if definition.tokens:
                value = tokens().first(generator)
        except StopIteration:
            raise tokens().exhausted(definition) if definition.tokens else ValueError(
                f"fixture '{handle.title}' did not yield a value") from None
        handle.generator = generator
        return value

    def _steps(self, where: _asked.Where, answers: Sequence[_asked.Answer]) -> List[_asked.Where]:
        """What it is from there on, each time it has asked for something that counts."""
        if not answers and not where.answers:
            return [where]
        steps = [self._where([])]
        for answer in answers:
            step = self._where([*steps[-1].answers, answer])
            if step[:3] != steps[-1][:3]:
                steps.append(step)
        left = steps[len(where.answers):]
        if not left or left[0][:3] != where[:3]:
            self.runtime.forget(steps[0].full)
            raise _values.CannotShare("it asks for other fixtures than before; key= can tell when")
        return left

    def _begin_steps(self, builds: List[Build], steps: List[_asked.Where]) -> None:
        """Adds those after the first one."""
        __tracebackhide__ = True
        for step, after in zip(steps, steps[1:]):
            self.runtime.adopt(title_of(self.definition, after.full, after.place))
            got = self._begin(after)
            if isinstance(got, View):
                self._commit_steps(builds, steps)
                raise _asked.Again
            builds.append(got)

    def _commit_steps(self, builds: List[Build], steps: List[_asked.Where]) -> None:
        """Those that are not the last one.  The first was begun before anything was read that may change meanwhile."""
        for build, step, after in zip(builds, steps, steps[1:]):
            asks = after.answers[-1].name
            self.runtime.asked.keep(self.definition, step, _asked.commit(build, asks), asks)

    def _build(self, handle: Handle, build: Build, where: _asked.Where, last_try: bool) -> Optional[_asked.Where]:
        """What it is now; None: it is this process's own."""
        __tracebackhide__ = True
        definition, runtime, builds = self.definition, self.runtime, [build]
        reuse, title = definition.reuse and runtime.reuse, title_of(definition, where.full, where.place)
        no_buffers: List[memoryview] = []
        made_of, ends = _made_of.MadeOf(definition, runtime, self.request), _ends.Ends(definition.class_of(self.request) if definition.is_method else None, self._self_args[0] if self._self_args else None)
        asked = _asked.Record(self.request, ends.asks, self._as_built)
        classes: Set[type] = set()
        directories = _directories.Directories() if definition.makes_directories else None
        if directories is not None:
            handle.directories = directories.made
        try:
            runtime.adopt(title)  # the clean-up of what is built anew comes first
            # What others get is made of what others have.
            self._reset(where.views)
            witness = runtime.witness() if definition.store is None and definition.serializer != "json" else None
            with _limit.limited(definition.timeout or runtime.timeout, title), made_of.listening(asked), ends.listening(), self._named(where.full):
                before, needed = self._prints_of_plain(), self._prints_of_needed()
                value = handle.data = self.first_half(handle, directories, for_others=True)
            besides = ends.set_besides(made_of.set) if not definition.tokens else None
            if besides:
                raise _values.CannotShare(besides)
            changed = next((name for name, print_ in self._prints_of_plain().items() if print_ != before.get(name, print_)), None) or self._changed_shared()
            if changed is not None:
                raise _values.CannotShare(f"it has changed its argument '{changed}', which other processes and tests have as it was")
            changed = next((name for name, print_ in self._prints_of_needed().items() if print_ != needed.get(name, print_)), None)
            if changed is not None and reuse:
                raise _values.CannotShare(f"its second half needs '{changed}', which it has changed here only; reuse=False shares it within the run")
            self._check_looks(asked)
            steps = self._steps(where, asked.answers)
            self._reset(steps[-1].views)
            self._begin_steps(builds, steps)
            if len(steps) > 1:
                self._wanted = None  # the description does not tell what it has asked for
            title = title_of(definition, steps[-1].full, steps[-1].place)
            handle.instance = f"{steps[-1].full} @ {steps[-1].place}"
            self._warn_of(value, made_of)
            if definition.store is not None:
                definition.store_value(self.request, handle.title, value)
                kind, main, buffers = "bytes", b"", no_buffers
            else:
                kind, main, buffers = _values.dump(value, definition.serializer, classes)
            if kind.startswith("own"):
                classes = _values.classes_of(value)
            objection = witness.objection(kind, main, buffers, definition.serializer, classes) if witness is not None else None
            if objection:
                raise _values.CannotShare(objection)
            # Of a run's own the builder waits for the others, to run its second half.
            ending = ends.objection(main) if (reuse or not definition.to_be_torn_down) and not definition.tokens else None
            if ending:
                raise _values.CannotShare(f"{ending}; reuse=False shares it within the run, if there is something behind a yield")
            note = self._note(handle, reuse, value)
            if note is not None:
                note, handle.copy = runtime.copied(title, note, reuse)
            size = _values.write(builds[-1], kind, main, buffers, handle.directories, classes=_classes.data_of(classes), made_of=made_of.data(handle.directories))
            keeper = not reuse and not definition.tokens and (handle.generator is not None or bool(definition.unmovable))
            self._commit_steps(builds, steps)
            _directories.keep(handle.directories)
            view = builds[-1].commit(size, note=note, keeper=keeper, teardown=definition.to_be_torn_down and not reuse)
        except BaseException as e:
            _ledger.strike(handle.copy)
            handle.copy = None
            why = why_unshared(e, last_try)
            if why is not None:
                abort(builds, f"unshared: {why[:SENTENCE_MAX]}\x1f")
                if isinstance(e, FixdError) and e.errno == errno.EAGAIN:
                    runtime.unsettled.add(definition)
                handle.value = definition.parsed(handle.data)
                self._tell_unshared(why)
                return None
            cause = cause_of(e)
            if cause:
                runtime.failures[(where.full, where.place)] = (e, e.__traceback__, cause)
            abort(builds, cause)
            # Nobody gets the value: what belongs to it ends.
            if handle.generator is not None or handle.data is not None or handle.directories:
                handle.finish()
            raise
        try:
            handle.needs = steps[-1].views
            self._take_built(handle, view, reuse, value, made_of.data(()))
            self._offer(view, steps[-1])
        except BaseException:
            # It is no test's yet, and nobody else would end it in this run.
            tear_down(runtime, handle)
            raise
        return steps[-1]

    def _check_looks(self, asked: _asked.Record) -> None:
        definition = self.definition
        looked = asked.of_the_test(definition.scope, _asked.OF_THE_TEST if definition.key is None else _asked.DONE_TO_THE_TEST)
        if looked == "request.addfinalizer":
            raise PerProcess(f"{looked}(), whose function this process alone can call; teardown=, or what stands behind a yield, others can, too")
        if looked and definition.scope in ("function", "definition"):
            raise PerTest(looked)
        if looked:
            raise PerProcess(f"{looked}, {NOT_COMPARED}")

    def _take_built(self, handle: Handle, view: View, reuse: bool, value: Any, besides: Dict[str, Any]) -> None:
        definition, runtime = self.definition, self.runtime
        self._use(handle, view, "built")
        _history.note_alone(runtime, definition, None)
        if reuse:
            _history.note(runtime, handle.title, _history.made_of(runtime, definition, definition.class_of(self.request)), besides, self._cause)
        if definition.store is None and not definition.tokens:
            # As everybody else gets it; what was made here is not needed besides that.
            handle.data = None
            shared = self.data_of(handle)
            handle.share(value, shared)
            value = shared
        if reuse:
            handle.leave_to_others()
        self._hand_out(handle, value)

    def _warn_of(self, value: Any, made_of: _made_of.MadeOf) -> None:
        """Of what is built once where it may have been meant for every process, or for every environment."""
        definition, name = self.definition, self.called
        self._warn_of_none(value)
        outside = _source.reads_outside(definition.function) or _outside.by_variable(made_of.outside)
        if definition.key is None and definition.reuse and self.runtime.reuse:
            self._warn_of_later_runs(name, made_of.read, outside)
        if self._wanted is not None and (made_of.files or made_of.outside):
            self._wanted = None
            self._tell_of_remote(f"it reads {made_of.files[0]}, which watch= does not name" if made_of.files else
                                 f"it reads {outside or ' '.join(made_of.outside[0][:2])}, which others may have otherwise; key= can tell")
        for words in _patterns.unmatched(self.runtime.root, definition.watch):
            self.runtime.tell_once((definition, words), f"fixture '{name}': watch={words!r} names nothing that is in {self.runtime.root}")

    def _warn_of_none(self, value: Any) -> None:
        definition = self.definition
        if value is None and not definition.tokens and definition.parse is None:
            self.runtime.tell_once((definition, "none"), f"fixture '{self.called}' has {'yielded' if definition.generator else 'returned'} None, and what it "
                                   "does besides is done in one process only; parse= is called in every process")

    def _warn_of_later_runs(self, name: str, files: List[str], outside: Optional[str]) -> None:
        """They may find it otherwise: that costs a build, and is seen at the first use in a process only."""
        definition, tell = self.definition, self.runtime.tell_once
        if outside:
            tell((definition, "outside"), f"fixture '{name}' reads {outside}, and is built again where that is another one; "
                 "say key=lambda request: ..., whose result is part of what it is")
        if files:
            more = f" and {len(files) - FILES_SHOWN} more" if len(files) > FILES_SHOWN else ""
            tell((definition, "reads"), f"fixture '{name}' reads {', '.join(files[:FILES_SHOWN])}{more}, which watch= does not name: that it changes is seen "
                 "by the next process only")

    @staticmethod
    def _reset(views: List[View]) -> None:
        for view in views:
            if view.writable and view.isolated:
                view.reset()

    def _note(self, handle: Handle, reuse: bool, value: Any) -> Optional[bytes]:
        """For whoever tears it down in our place."""
        definition = self.definition
        if definition.tokens or not definition.to_be_torn_down:
            return None
        try:
            if definition.unmovable:
                raise _source.Unmovable(definition.unmovable)
            note = self._note_of_end(handle, value)
            if len(note) > NOTE_MAX:
                raise _source.Unmovable(f"what it needs takes {len(note) / (1 << 20):.1f} MiB, of which 1 MiB can be kept")
            return note
        except _source.Unmovable as e:
            if reuse:
                raise _values.CannotShare(f"its second half cannot be run in a later run: {e}; reuse=False shares it within the run") from None
            definition.unmovable = str(e)
            return _teardown.note_of_loss(handle.title, str(e), handle.directories)

    def _note_of_end(self, handle: Handle, value: Any) -> bytes:
        definition = self.definition
        if definition.teardown:
            return _teardown.note_for_function(handle.title, definition.teardown, value, handle.directories)
        if definition.second_half is None:
            return _teardown.note_for_directories(handle.title, handle.directories)
        assert handle.generator is not None
        return _teardown.note_for_second_half(handle.title, definition.function, definition.second_half, handle.generator.gi_frame.f_locals,
                                              handle.directories)

    @staticmethod
    def data_of(handle: Handle) -> Any:
        assert handle.stored is not None
        return handle.stored.value()

    def _start_as_another(self, handle: Handle) -> None:
        """In a process that did not build it."""
        definition = self.definition
        data = definition.load_value(self.request, handle.title) if definition.store is not None else self.data_of(handle)
        if definition.tokens and definition.generator:
            handle.generator = self.call()
            data = tokens().later(definition, handle.generator, data)
        self._warn_of_none(data)
        self._hand_out(handle, data)

    def _hand_out(self, handle: Handle, data: Any) -> None:
        definition = self.definition
        handle.value = definition.parsed(data)
        told = self.runtime.leaks and (definition.isolate or not definition.writable)
        if told and definition.store is None and definition.scope != "function":
            assert handle.stored is not None
            handle.private = handle.pristine = handle.stored.private_print(handle.value)
            if definition.parse is not None:
                # It is not made a second time to be compared.
                handle.canonical = handle.stored.canonical_print(handle.value)


def tokens() -> Any:
    from .shared_session_scope import _tokens

    return _tokens


def tear_down(runtime: Any, handle: Handle) -> None:
    """The fixture is not used here any more; what belongs to it ends with the last process that could use it."""
    definition = handle.definition
    runtime.end_handle(handle)
    if handle.how == "local" and definition.tokens and handle.generator is not None:
        generator, handle.generator = handle.generator, None
        tokens().end(definition, generator, True)
    elif handle.how == "local":
        handle.finish()
    elif not definition.to_be_torn_down or (definition.reuse and runtime.reuse):
        handle.view = handle.stored = None
    else:
        runtime.give_up(handle)


def decorate(function: Callable[..., Any], definition_of: Callable[[Callable[..., Any]], Definition], scope: Any,
             pytest_options: Dict[str, Any], method: Any = lambda f: f) -> Any:
    """The pytest fixture around a fixture function."""
    if isinstance(function, (classmethod, staticmethod)):
        return decorate(function.__func__, definition_of, scope, pytest_options, type(function))
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"fixture '{function.__name__}' is async: share the data it needs, and make the rest of it in a plain fixture")
    definition = definition_of(function)
    if definition.live:
        _live.definitions.append(definition)
    signature = inspect.signature(function)
    parameters = list(signature.parameters.values())
    wants_request = "request" in signature.parameters
    extra = [n for n in definition.store_fixtures() if n not in signature.parameters]

    @functools.wraps(function)
    def wrapper(*self_args: Any, **arguments: Any) -> Iterator[Any]:
        __tracebackhide__ = True
        request = arguments["request"] if wants_request else arguments.pop("request")
        for name in extra:
            arguments.pop(name)
        runtime = runtime_of(request.config)
        runtime.connect_once()
        definition.is_method = bool(self_args)
        if callable(definition.scope):
            definition.scope = request.scope
        this = SetUp(runtime, definition, request, arguments, self_args)
        if definition.live and _live.has(definition):
            yield _live.value(definition)
            return
        if definition.live:
            handle = this.live()
        elif runtime.connection is None:
            handle = this.local()
        else:
            try:
                handle = this.shared()
            except FixdError as e:
                if e.errno not in LOST:
                    raise
                runtime.lose(e)
                handle = this.local()
        yield handle.value
        if not runtime.keeps(handle):
            tear_down(runtime, handle)

    more = [inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY) for n in extra]
    if not wants_request:
        more.append(inspect.Parameter("request", inspect.Parameter.KEYWORD_ONLY))
    any_more = [p for p in parameters if p.kind is inspect.Parameter.VAR_KEYWORD]
    parameters = [p for p in parameters if p.kind is not inspect.Parameter.VAR_KEYWORD]
    wrapper.__signature__ = signature.replace(parameters=parameters + more + any_more)  # type: ignore[attr-defined]
    wrapper._fixd = definition  # type: ignore[attr-defined]
    note = "Shared by fixd: built once, by the first process that needs it."
    wrapper.__doc__ = f"{inspect.cleandoc(function.__doc__)}\n\n{note}" if function.__doc__ else note
    marker: Any = pytest.fixture
    return marker(scope="function" if scope == "definition" else scope, **pytest_options)(method(wrapper))


def _check_live(scope: Any, **not_for_it: Any) -> None:
    if scope != "session":
        raise ValueError(f"scope={scope!r}: expected 'session', as live=True is one object in each process")
    for name, value in not_for_it.items():
        if value is not None:
            raise ValueError(f"{name}= is for data, and live=True for an object as it is")


def fixture(function: Optional[Callable[..., Any]] = None, *, scope: Any = None, params: Optional[Sequence[Any]] = None,
            ids: Any = None, autouse: bool = False, name: Optional[str] = None, reuse: bool = True,
            max_age: Optional[float] = None, watch: Union[str, Sequence[str]] = (), serializer: Any = "auto",
            parse: Optional[Callable[[Any], Any]] = None, store: Any = None, writable: Optional[bool] = None, isolate: Optional[bool] = None,
            teardown: Optional[Callable[[Any], Any]] = None, timeout: Optional[float] = None,
            key: Optional[Callable[[Any], Any]] = None, live: bool = False,
            after_fork: Optional[Callable[[Any], Any]] = None, remote: bool = False) -> Any:
    """A pytest fixture that is built once and shared, used like @pytest.fixture.

    scope       session, package, module, class, or a callable as pytest has it; `function`: built once for the session, and each
                test gets it pristine; `definition`: one for all parameters of a test function.
    reuse       later runs get it, too, until it is stale; False: it lives as long as the run.
    max_age     seconds after which it is stale; default: --fixture-max-age.
    watch       files, directories and globs, relative to the root directory, whose change makes it stale; ** is any number of directories.
    key         key(request) is called before; another result is another instance: for options and the environment.
    serializer  "auto" (bytes and str as they are, all else pickled, arrays without a copy), "json", "pickle", or an object
                with dumps and loads, like fixd.Serializer.
    parse       called in every process with the data; its result is the fixture's value: for connections, clients, models.
    store       keeps the data in place of shared memory: see fixd.shared_session_scope.
    writable    each test may change the value, and gets it as it was built (arrays are copy-on-write); False: arrays are read-only.
    isolate     False: what a test changes stays, in its process: a value that accumulates on purpose. Default: as writable; of more than
                256 KiB that are no arrays, only the arrays are put back then, unless it is True.
    teardown    called with the data, once, by the last process that could use it, or when the fixture is retired.
    timeout     seconds that a build may take; default: --fixd-timeout.
    live        it is an object that stays in a process, from which all processes of all runs are forked: for what cannot be pickled.
    after_fork  of a live one: called with it in every process that uses it; reopens what must be. What it returns is used in its place.
    remote      what one machine has built others take from the [remote] of the daemon's file, from their own namespace; for what is a
                value and no more: without a second half, teardown, directories, or paths of the machine.

    A generator's second half runs exactly once, in the last process of the run that could still use the fixture; of a reused
    fixture when it is retired.  Errors are told to every test that needs the fixture; the build is not repeated in this run.
    """
    if scope is None:
        scope = "session" if live else "function"
    if not callable(scope) and scope not in SCOPES:
        raise ValueError(f"scope={scope!r}: expected one of {', '.join(SCOPES)}")
    if live:
        _check_live(scope, params=params, parse=parse, store=store, writable=writable, key=key)
    elif after_fork:
        raise ValueError("after_fork= is for live=True")
    if timeout is not None and not timeout > 0:
        raise ValueError(f"timeout={timeout!r}: expected a number of seconds above 0")
    if max_age is not None and not max_age >= 0:
        raise ValueError(f"max_age={max_age!r}: expected a number of seconds")
    _values.check_serializer(serializer)
    _reads.begin()

    def define(f: Callable[..., Any]) -> Any:
        if remote:
            _remote.check(f, reuse=not reuse, teardown=teardown, store=store, live=live, max_age=max_age is not None)
        if teardown and inspect.isgeneratorfunction(f):
            raise ValueError(f"fixture '{f.__name__}' yields: its second half is its teardown, teardown= is for those that return")
        make = functools.partial(Definition, scope=scope, reuse=reuse, max_age=max_age,
                                 watch=[watch] if isinstance(watch, str) else watch, serializer=serializer, parse=parse,
                                 store=store, writable=writable, isolate=isolate, teardown=teardown, timeout=timeout, key=key, live=live,
                                 after_fork=after_fork, remote=remote)
        return decorate(f, make, scope, {"params": params, "ids": ids, "autouse": autouse, "name": name})

    return define(function) if function is not None else define


__all__ = ["FixtureBuildError", "fixture"]
