# SPDX-License-Identifier: MIT
"""The same command twice: with its files on disk, without fixd; and with the same files as fixtures, in a run. Nothing that it
says or leaves behind may differ."""

import functools
import json
import os
import shutil
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "daemon"))

import harness  # noqa: E402
from harness import LIMIT, Skip, process_environment, program, wait_for  # noqa: E402,F401


def modes():
    """How a run shows fixtures."""
    yield "shim", []
    yield "mount", []


def why_no_mounts():
    """A sentence, where this machine does not allow them."""
    done = subprocess.run([program("fixctl"), "--json", "doctor"], capture_output=True, timeout=LIMIT, env=environment())
    mounts = [c for c in json.loads(done.stdout) if c["name"] == "mounts"][0]
    return None if mounts["ok"] else mounts["detail"]


def skipping(test, reason):
    @functools.wraps(test)
    def skip(t):
        if t.mode == "mount":
            raise Skip(reason)
        test(t)
    return skip


NOBODY = 65534


def can_reach(path):
    """Can nobody execute it? A build directory may be below one of root's."""
    return subprocess.run(["test", "-x", path], user=NOBODY, group=NOBODY, extra_groups=[]).returncode == 0


def run_as(command, work, tmp, user=NOBODY, group=NOBODY, groups=(), env=None):
    """As another user, whose files are below `tmp`."""
    rights = ["setpriv", f"--reuid={user}", f"--regid={group}", "--groups=" + ",".join(map(str, groups)) if groups else "--clear-groups"]
    return subprocess.run(rights + command, cwd=work, capture_output=True, timeout=LIMIT, stdin=subprocess.DEVNULL,
                          env=env or environment(HOME="/", TMPDIR=tmp))


def main(module, modes=modes):
    """As the harness's, but for what cannot be tried here."""
    reason = why_no_mounts()
    for name, test in list(vars(module).items()):
        if reason and name.startswith("test_"):
            setattr(module, name, skipping(test, reason))
    harness.main(module, modes)


def environment(**more):
    env = process_environment()
    env.update({"LC_ALL": "C", "TZ": "UTC", "PYTHONDONTWRITEBYTECODE": "1", "GIT_CONFIG_NOSYSTEM": "1"}, **more)
    for name in ("FIXD_SOCKET", "FIXD_RUN", "FIXD_SHIM"):
        env.pop(name, None)
    return env


class Fixture:
    """A file, directory or command, and where it is shown."""

    def __init__(self, name, kind, source, path=None, more=""):
        self.name, self.kind, self.source, self.path, self.more = name, kind, source, path, more

    def section(self, t):
        # A line of fixd.ini has its limits.
        if self.kind in ("tree", "command") and len(self.source) > 100:
            self.source = "sh " + t.write(self.name + ".sh", self.source + "\n")
        shown = f"path = {self.path}\n" if self.path else ""
        return f"[fixture {self.name}]\n{self.kind} = {self.source}\n{shown}{self.more}\n"

    def put(self, work):
        """There, without fixd."""
        to = os.path.join(work, self.path)
        os.makedirs(os.path.dirname(to), exist_ok=True)
        if self.kind in ("file", "directory"):
            subprocess.run(["cp", "-a", self.source, to], check=True)
        elif self.kind == "command":
            with open(to, "wb") as f:
                subprocess.run(self.source, shell=True, stdout=f, check=True)
        else:
            os.makedirs(to)
            subprocess.run(self.source, shell=True, env=environment(FIXD_DIR=to), check=True)


class Outcome:
    def __init__(self, done, left):
        self.out, self.err, self.code, self.left = done.stdout, done.stderr, done.returncode, left

    def differences(self, other):
        for what in ("code", "out", "err", "left"):
            a, b = getattr(self, what), getattr(other, what)
            if a != b:
                yield f"{what}: without fixd {a!r:.3000}\n  with fixd {b!r:.3000}"


class Stage:
    """A directory of its own for the command, a daemon with the fixtures."""

    def __init__(self, t, *fixtures, settings=""):
        self.t, self.fixtures = t, fixtures
        self.work = t.path("work")
        self.leaves_processes = False  # then the end of the command is not the end of all
        self.fresh()
        self.ini = f"[fixd]\nroot = {self.work}\n{settings}[policy]\nmax-age = none\n" + "".join(f.section(t) for f in fixtures)
        self.daemon = t.daemon(self.ini)

    def fresh(self):
        shutil.rmtree(self.work, ignore_errors=True)
        os.makedirs(self.work)

    def left(self):
        """What lies in the directory, but for the fixtures, and what it holds."""
        shown = [f.path for f in self.fixtures if f.path]
        found = {}
        for base, directories, files in os.walk(self.work):
            for name in directories + files:
                path = os.path.join(base, name)
                relative = os.path.relpath(path, self.work)
                if any(relative == s or relative.startswith(s + "/") or s.startswith(relative + "/") for s in shown):
                    continue
                if os.path.islink(path):
                    found[relative] = os.readlink(path)
                elif os.path.isfile(path):
                    with open(path, "rb") as f:
                        found[relative] = f.read()
                else:
                    found[relative] = None
        return found

    def native(self, command, **env):
        for fixture in self.fixtures:
            if fixture.path:
                fixture.put(self.work)
        done = subprocess.run(command, cwd=self.work, capture_output=True, timeout=LIMIT * 3, env=environment(**env),
                              stdin=subprocess.DEVNULL)
        outcome = Outcome(done, self.left())
        self.fresh()
        return outcome

    def run_command(self, *options):
        return [program("fixctl"), "--socket", self.daemon.socket, "run", "--isolate", self.t.mode, *options, "--"]

    def run(self, command, *options, **env):
        """In a run."""
        done = subprocess.run(self.run_command(*options) + command, cwd=self.work, capture_output=True, timeout=LIMIT * 3,
                              env=environment(TMPDIR=self.t.dir, **env), stdin=subprocess.DEVNULL)
        outcome = Outcome(done, self.left())
        self.check_nothing_left()
        return outcome

    def check_nothing_left(self):
        def scratch():
            return [n for n in os.listdir(self.t.dir) if n.startswith("fixd-run-")]
        if self.leaves_processes:
            wait_for(lambda: not scratch(), "the scratch directory to go")
        assert not scratch(), f"the scratch directory is still there: {scratch()}"
        assert os.path.isdir(self.work)
        for fixture in self.fixtures:
            if fixture.path:
                path = os.path.join(self.work, fixture.path.split("/")[0])
                assert not os.path.lexists(path), f"{path} has been left behind"

    def same(self, script, twice=False):
        """`script`, for bash, does the same with and without fixd."""
        command = ["bash", "-c", script] if isinstance(script, str) else script
        without, with_it = self.native(command), self.run(command)
        difference = list(without.differences(with_it))
        assert not difference, "\n".join([f"{command}:"] + difference)
        assert without.code is not None
        self.fresh()
        if twice:
            again = self.run(command)
            difference = list(without.differences(again))
            assert not difference, "\n".join([f"the second run of {command}:"] + difference)
            self.fresh()
        return without
