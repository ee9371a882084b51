# SPDX-License-Identifier: MIT
"""Tests of the plugin: real projects, real pytest processes, real daemons.  The results also go to $FIXD_TAP, as TAP."""

import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import time

import pytest
from starter import Starters

BUILD = os.environ.get("FIXD_BUILD", os.getcwd())
PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
CODE = os.environ.get("FIXD_CODE", PACKAGE)  # where the package is imported from
LIMIT = 120

# What the tests are about; others that a machine has do not belong to them.
PLUGINS = [m for m in ("xdist.plugin", "xdist.looponfail", "pytest_cov.plugin", "pytest_rerunfailures", "pytest_mock") if importlib.util.find_spec(m.split(".")[0])]


def python_path(first):
    """The suite runs with another pytest, too, which lies in a directory that its own PYTHONPATH names."""
    return os.pathsep.join([first, *filter(None, [os.environ.get("PYTHONPATH")])])


starters = None
_tap = []
_here = {"file": None}


def pytest_configure(config):
    # The workers of this run have nothing to say on their own.
    if os.environ.get("FIXD_TAP") and not hasattr(config, "workerinput"):
        _here["file"] = open(os.environ["FIXD_TAP"], "w")


@pytest.hookimpl(trylast=True)
def pytest_runtest_logreport(report):
    if not _here["file"]:
        return
    title = report.nodeid.split("/")[-1]
    if report.when == "call" or report.outcome != "passed":
        ok = "ok" if report.outcome in ("passed", "skipped") else "not ok"
        why = f" # SKIP {report.longrepr[2]}" if report.outcome == "skipped" else f" # {report.duration:.2f} s"
        if report.failed:
            for line in str(report.longrepr).splitlines()[-60:]:
                print(f"# {line}", file=_here["file"])
        _tap.append(title)
        print(f"{ok} {len(_tap)} - {title}{why}", file=_here["file"], flush=True)


def pytest_sessionfinish():
    if _here["file"]:
        print(f"1..{len(_tap)}", file=_here["file"], flush=True)


class Result:
    def __init__(self, code, output):
        self.code, self.output = code, output

    def outcomes(self):
        """{"passed": 3, ...} of the summary line."""
        found = re.findall(r"(\d+) (passed|failed|errors?|skipped|warnings?|deselected|xfailed)", self.output.splitlines()[-1])
        return {("error" if k.startswith("error") else k.rstrip("s") if k.startswith("warning") else k): int(n) for n, k in found}

    def passed(self, n):
        assert self.code == 0 and self.outcomes().get("passed") == n, self.output
        return self


class Project:
    """A directory with tests, and a daemon of its own."""

    def __init__(self, path):
        self.path = path
        self.home = os.path.join(path, ".home")
        self.socket = os.path.join(self.home, "fixd", "socket")
        os.makedirs(self.home, mode=0o700)
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("FIXD_", "PYTEST_"))}
        self.env.update(PYTHONPATH=python_path(CODE), PYTHONDONTWRITEBYTECODE="1", PYTEST_DISABLE_PLUGIN_AUTOLOAD="1", LOG=self.file("log"), FIXD_BIN=BUILD,
                        FIXD_LIBRARY=os.path.join(BUILD, ".libs", "libfixd.so.0"), FIXD_BUILDER=os.path.join(BUILD, "fixd-builder"),
                        XDG_RUNTIME_DIR=self.home, FIXD_SOCKET=self.socket,  # not a daemon that the machine has
                        NO_COLOR="1",
                        PYTEST_DEBUG_TEMPROOT=self.home)  # others would remove its garbage meanwhile, or say so
        self.env.pop("COLUMNS", None)

    def file(self, name):
        return os.path.join(self.path, name)

    def write(self, name, text):
        path = self.file(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(textwrap.dedent(text))
        return path

    def conftest(self, text, name="conftest.py"):
        """With log(), which writes a line that log_lines() reads."""
        self.write(name, "import os, fixd, pytest\n\ndef log(line):\n    with open(os.environ['LOG'], 'a') as f:\n"
                         "        f.write(f'{line}\\n')\n\n" + textwrap.dedent(text))

    def log(self):
        try:
            with open(self.file("log")) as f:
                return f.read().splitlines()
        except FileNotFoundError:
            return []

    def count(self, line):
        return self.log().count(line)

    def forget(self):
        if os.path.exists(self.file("log")):
            os.remove(self.file("log"))

    def start(self, *args, env=None, cwd=None):
        global starters
        words = [*[o for p in PLUGINS for o in ("-p", p)], "-p", "fixd.plugin", "-p", "no:cacheprovider", "-q", *args]
        full = {**self.env, **(env or {})}
        starters = starters or Starters(self.env)
        # What begins again is to begin with nothing.
        if starters.fits(full) and not any(a.startswith("--fixd-warm") for a in args):
            return starters.start(words, full, cwd or self.path)
        return subprocess.Popen([sys.executable, "-m", "pytest", *words], cwd=cwd or self.path, env=full, stdout=subprocess.PIPE,
                                # A job in the background of a script has it ignored, and then Python is not interrupted by it.
                                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
                                stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, text=True, start_new_session=True)

    def run(self, *args, env=None, cwd=None):
        process = self.start(*args, env=env, cwd=cwd)
        try:
            output = process.communicate(timeout=LIMIT)[0]
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            raise AssertionError("pytest hung:\n" + process.communicate()[0]) from None
        return Result(process.returncode, output)

    def fixctl(self, *args):
        return subprocess.run([os.path.join(BUILD, "fixctl"), "--socket", self.socket, *args],
                              capture_output=True, text=True, env=self.env)

    def close(self):
        self.fixctl("stop")


@pytest.fixture
def project(tmp_path):
    # Short: the path of a socket has 108 bytes.
    path = os.path.realpath(os.path.join("/tmp", f"fixd-py-{os.getpid()}-{time.monotonic_ns()}"))
    os.mkdir(path)
    p = Project(path)
    yield p
    p.close()
    shutil.rmtree(path, ignore_errors=True)


def wait_for(condition, what):
    end = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < end, f"waited for: {what}"
        time.sleep(0.01)
