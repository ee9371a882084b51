# SPDX-License-Identifier: MIT
"""The pytest plugin: options, and what happens around each test.

PYTEST_DONT_REWRITE: a warm interpreter has it before pytest.
"""

from __future__ import annotations

import functools
import os
import re
import sys
import types
from typing import Any, Callable, Iterator, List, Optional

import pluggy
import pytest

from . import _early

_early.begin()

from . import _again, _blame, _commands, _configured, _daemon, _explain, _live, _reads, _scattered, _source, _values, _variables
from ._definition import Definition
from ._lib import FixdError
from ._member import Runtime, has_workers, is_worker
from ._runtime import runtime_key, runtime_of
from ._setting import seconds, seconds_or_nought


def _around(**options: Any) -> Callable[[Callable[..., Iterator[None]]], Any]:
    """A hook around the others: what stands after its yield is done in any case, and may fail.  Old pluggy has one way to say so,
    and newer ones warn of that."""
    new = tuple(int(n) for n in re.findall(r"\d+", pluggy.__version__)[:2]) >= (1, 2)

    def decorate(function: Callable[..., Iterator[None]]) -> Any:
        if not new:
            return pytest.hookimpl(hookwrapper=True, **options)(function)

        @functools.wraps(function)
        def wrapper(*arguments: Any, **named: Any) -> Iterator[Any]:
            steps = function(*arguments, **named)
            next(steps)
            try:
                result = yield
            except BaseException:
                next(steps, None)
                raise
            next(steps, None)
            return result

        return pytest.hookimpl(wrapper=True, **options)(wrapper)

    return decorate


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("fixd", "fixtures shared by all processes and runs (fixd)")
    group.addoption("--reuse-fixtures", action="store_true", default=None, dest="reuse_fixtures",
                    help="use what earlier runs have built (default)")
    group.addoption("--no-reuse-fixtures", action="store_false", dest="reuse_fixtures",
                    help="build shared fixtures anew, once for this run")
    group.addoption("--fixture-max-age", type=seconds_or_nought, metavar="SECS", help="build fixtures again that are older (default 600)")
    group.addoption("--fixd-timeout", type=seconds, metavar="SECS", help="how long a fixture may take to build (default 600)")
    group.addoption("--fixd-leaks", action="store_true", default=None, help="warn when a test changes a shared fixture")
    group.addoption("--fixd-blame", action="store_true", default=None, help="as --fixd-leaks, and say which line of the source changed it first")
    group.addoption("--fixd-strict", action="store_true", default=None, help="a test that changes a shared fixture is an error")
    group.addoption("--fixd-explain", metavar="NAME", help="say what the version of a shared fixture is made of, and when it was built and why")
    group.addoption("--fixd-wait-upload", action="store_true", help="end when what was built for other machines (remote=True) is on the remote")
    group.addoption("--session-status", action="store_true", help="show this project's shared fixtures, and exit")
    group.addoption("--cleanup", action="store_true", help="forget this project's shared fixtures, and exit")
    group.addoption("--fixd-cleanup", action="store_true", dest="cleanup", help="the same")
    group.addoption("--daemon", action="store_true", help="start the daemon, and exit")
    group.addoption("--daemon-status", action="store_true", help="show the daemon, and exit")
    group.addoption("--daemon-stop", action="store_true", help="tear all fixtures down, stop the daemon, and exit")
    group.addoption("--fixd-warm", action="store_true", default=None, help="run in a fork of an interpreter that has imported the packages")
    parser.addini("reuse_fixtures", "use what earlier runs have built", type="bool", default=True)
    parser.addini("fixture_max_age", "seconds after which a shared fixture is built again", default="600")
    parser.addini("fixd_timeout", "seconds that a shared fixture may take to build", default="600")
    parser.addini("fixd_leaks", "warn when a test changes a shared fixture", type="bool", default=False)
    parser.addini("fixd_blame", "as fixd_leaks, and say which line of the source changed it first", type="bool", default=False)
    parser.addini("fixd_strict", "a test that changes a shared fixture is an error", type="bool", default=False)
    parser.addini("fixd_warm", "run in a fork of an interpreter that has imported the packages", type="bool", default=False)
    parser.addini("fixd_config", "a file of fixtures, see fixd.ini(5), that the daemon is started with", default="")
    parser.addini("fixd_socket", "where the daemon listens", default="")


@_around(tryfirst=True)
def pytest_load_initial_conftests(early_config: Any) -> Iterator[None]:
    _again.begin(early_config)
    _live.use_modules()
    _reads.begin_if_wanted(early_config)
    yield
    _again.begin_live(early_config)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(specs: Any) -> None:
    _again.set_up_workers(specs)


@pytest.hookimpl(tryfirst=True)
def pytest_cmdline_main(config: pytest.Config) -> Optional[int]:
    if config.getoption("fixd_explain") and hasattr(config.option, "numprocesses"):
        # What workers say nobody sees.
        config.option.numprocesses, config.option.dist, config.option.tx = None, "no", []
    for option, command in _commands.COMMANDS.items():
        if config.getoption(option):
            runtime = Runtime(config)
            os.environ["FIXD_SOCKET"] = runtime.socket
            try:
                return command(runtime)
            except (_daemon.NoDaemon, FixdError) as e:
                print(f"fixd: {getattr(e, 'strerror', None) or e}", file=sys.stderr)
                return 3
    return None


def pytest_configure(config: pytest.Config) -> None:
    _source.forget()
    runtime = config.stash[runtime_key] = Runtime(config)
    if runtime.blame:
        config.add_cleanup(_blame.Watching().end)
        config.add_cleanup(_scattered.watch(lambda: [h.view for h in runtime.handles.values() if h.view is not None]))
    # There may be a run in a run.
    config.add_cleanup(functools.partial(_set_more_modules, _values.more_modules))
    _set_more_modules(lambda: [m for m in config.pluginmanager.get_plugins() if isinstance(m, types.ModuleType)])


def _set_more_modules(find: Callable[[], Any]) -> None:
    _values.more_modules = _variables.more_modules = find


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session: pytest.Session) -> None:
    runtime = runtime_of(session.config)
    if session.config.option.collectonly or getattr(session.config.option, "showfixtures", False):
        return
    # Here nobody knows yet which tests there are; where they run in other processes, this one never will.
    if Definition.count and has_workers(session.config):
        runtime.connect_once()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """All of a run's processes have joined it before the first of them has run a test."""
    runtime = runtime_of(session.config)
    _reads.end_of_imports()
    if session.config.getoption("fixd_explain"):
        if Definition.count:
            runtime.connect_once()
        _explain.explain(runtime, session)
        return
    if session.config.option.collectonly or getattr(session.config.option, "showfixtures", False):
        return
    if Definition.count:
        runtime.configured = _configured.variables(session.config, _shared_functions(session))
    if any(map(_asks_for_shared, session.items)) or Definition.count and (is_worker(session.config) or runtime.has_left_something()):
        runtime.connect_once()


def _asks_for_shared(item: Any) -> bool:
    """By its name; what it asks for by request.getfixturevalue() is found then."""
    found = getattr(getattr(item, "_fixtureinfo", None), "name2fixturedefs", {})
    return any(hasattr(fixturedef.func, "_fixd") for of_name in found.values() for fixturedef in of_name)


def _shared_functions(session: Any) -> Iterator[Any]:
    for of_name in session._fixturemanager._arg2fixturedefs.values():
        yield from (fixturedef.func._fixd.function for fixturedef in of_name if hasattr(fixturedef.func, "_fixd"))


def pytest_report_collectionfinish(config: pytest.Config) -> Optional[str]:
    """Where the first fixture was found in a test module the header came too early."""
    runtime = runtime_of(config)
    return runtime.header() if runtime.connection is not None and not runtime.header_told else None


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> Optional[bool]:
    return True if session.config.getoption("fixd_explain") else None


def pytest_report_header(config: pytest.Config) -> List[str]:
    return [line for line in (_again.header(config), _daemon_header(config)) if line]


def _daemon_header(config: pytest.Config) -> Optional[str]:
    runtime = runtime_of(config)
    runtime.header_is_over = True
    if runtime.connection is not None:
        runtime.header_told = True
        return runtime.header()
    if runtime.disabled:
        return "fixd: warning: FIXD_DISABLE is set: every process builds its fixtures itself"
    if runtime.problem:
        return f"fixd: warning: every process builds its fixtures itself: {runtime.problem}"
    return None


@_around(tryfirst=True)
def pytest_fixture_setup(fixturedef: Any, request: Any) -> Iterator[None]:
    """With --setup-show: whether a shared fixture was built, or where it came from."""
    yield
    config = request.config
    handle = runtime_of(config).handles.get(fixturedef)
    if handle is None or not getattr(config.option, "setupshow", False):
        return
    capture = config.pluginmanager.getplugin("capturemanager")
    if capture:
        capture.suspend_global_capture()
    writer = config.get_terminal_writer()
    writer.write(f" ({handle.how})")
    writer.flush()
    if capture:
        capture.resume_global_capture()


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    runtime = runtime_of(item.config)
    runtime.begin_test(item)
    runtime.replace_dead(item)


@_around(tryfirst=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: Optional[pytest.Item]) -> Iterator[None]:
    runtime = runtime_of(item.config)
    runtime.look_for_lines(item)
    if nextitem is None:
        runtime.begin_closing()
    yield
    try:
        if nextitem is not None:
            runtime.end_kept(nextitem)
    finally:
        runtime.put_back()
    errors = runtime.end_last() if nextitem is None else []
    if errors:
        raise errors[0]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """A worker of pytest-xdist is a member of our run."""
    runtime = runtime_of(node.config)
    node.workerinput["fixd_run"] = runtime.run
    node.workerinput["fixd_process"] = runtime.process
    node.workerinput["fixd_began"] = runtime.began
    if runtime.problem:
        node.workerinput["fixd_problem"] = runtime.problem


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """What a worker has used may be left to the last one: the controller of a run that knew of no fixture."""
    if getattr(node, "workeroutput", {}).get("fixd_used"):
        runtime_of(node.config).connect_once()


# The innermost wrapper: after the last fixtures have ended, before the terminal's summary.
@_around(trylast=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    runtime = runtime_of(session.config)
    runtime.begin_closing()
    if is_worker(session.config) and runtime.connection is not None:
        session.config.workeroutput["fixd_used"] = True  # type: ignore[attr-defined]
    yield
    try:
        runtime.end_kept(None)
    except Exception as e:
        runtime.messages.append(f"a clean-up failed: {type(e).__name__}: {e}")
    runtime.finish()
    if runtime.connection is not None and not is_worker(session.config):
        runtime.adopt("*")
    if session.config.getoption("fixd_wait_upload") and vars(runtime).get("remote"):
        runtime.messages += runtime.remote.wait()  # type: ignore[union-attr]


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    messages = runtime_of(config).messages
    if messages:
        terminalreporter.section("fixd", yellow=True)
        for message in messages:
            terminalreporter.line(message)


def pytest_unconfigure(config: pytest.Config) -> None:
    runtime = config.stash.get(runtime_key, None)
    if runtime is not None:
        runtime.close()
        for message in runtime.messages if is_worker(config) else ():
            print(f"fixd: {message}", file=sys.stderr)
