# SPDX-License-Identifier: MIT
"""Options that do something else than to run tests: each is a function of the runtime, and gives the status to exit with."""

from __future__ import annotations

import sys
from typing import Any, List

from . import _again, _daemon, _directories
from ._lib import FixdError


def _print_fixctl(runtime: Any, arguments: List[str], own_session: bool) -> int:
    done = _daemon.fixctl(runtime.socket, arguments, runtime.root if own_session else None)
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    return done.returncode


def _session_status(runtime: Any) -> int:
    if _daemon.is_gone(runtime.socket):
        print(f"no daemon listens on {runtime.socket}, and so nothing is shared yet: the first test that asks for a shared fixture starts it", file=sys.stderr)
        return 3
    return _print_fixctl(runtime, ["status"], True)


def _daemon_status(runtime: Any) -> int:
    return _print_fixctl(runtime, ["status"], False)


def _tear_all_down(runtime: Any, root: str) -> None:
    """The second halves of what is forgotten run here."""
    try:
        runtime.connection = _daemon.connect(runtime.socket, may_start=False)
        runtime.connection.join(root)
    except (FixdError, _daemon.NoDaemon):
        runtime.connection = None
        return
    runtime.adopt("*")
    runtime.connection.close()
    runtime.connection = None


def _told(runtime: Any, code: int, abandoned: int) -> int:
    """The status to exit with."""
    if abandoned:
        print(f"fixd: the daemon has ended, and {abandoned} clean-up(s) that it has left were run")
    for message in runtime.messages:
        print(f"fixd: {message}", file=sys.stderr)
    return 1 if runtime.messages else 0 if abandoned else code


def _cleanup(runtime: Any) -> int:
    ended = _again.clean_up(runtime.root)
    _directories.sweep()
    if ended and _daemon.is_gone(runtime.socket):
        return _told(runtime, 0, runtime.follow_abandoned(runtime.root))
    code = _print_fixctl(runtime, ["cleanup", "--all"], True)
    if code == 0:
        _tear_all_down(runtime, runtime.root)
    return _told(runtime, code, runtime.follow_abandoned(runtime.root))


def _daemon_start(runtime: Any) -> int:
    try:
        _daemon.connect(runtime.socket, may_start=True, ini=runtime.ini).close()
    except _daemon.NoDaemon as e:
        print(f"fixd: {e}", file=sys.stderr)
        return 3
    print(f"fixd listens on {runtime.socket}")
    return 0


def _daemon_stop(runtime: Any) -> int:
    """It serves other projects, too: what they have built would not be torn down later."""
    for root in _daemon.own_roots(runtime.socket):
        if _daemon.fixctl(runtime.socket, ["cleanup", "--all"], root).returncode == 0:
            _tear_all_down(runtime, root)
    code = _print_fixctl(runtime, ["stop"], False)
    return _told(runtime, code, runtime.follow_abandoned(None))


COMMANDS = {"session_status": _session_status, "cleanup": _cleanup, "daemon": _daemon_start, "daemon_status": _daemon_status,
            "daemon_stop": _daemon_stop}
