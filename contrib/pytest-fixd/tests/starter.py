# SPDX-License-Identifier: MIT
"""Starts pytest from an interpreter that has imported it: of most runs in these tests that import would be the larger part.

A starter is a process that has imported pytest, and forks for each run.  There are some, each with a hash seed of its own, which take
turns: two runs of one test differ as two processes do.  They end with the process that uses them."""

import importlib
import itertools
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading

STARTERS = 3
REQUEST_MAX = 1 << 17


class Ended(Exception):
    """Nobody asks any more."""


def become(request, out, said):
    """What exec would make of the fork."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    os.write(said, b"%d\n" % os.getpid())
    os.close(said)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.close(out)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["env"])
    sys.argv[:] = ["pytest", *request["args"]]
    sys.orig_argv[:] = [sys.executable, "-m", "pytest", *request["args"]]
    sys.path[0] = os.getcwd()


def take_request(channel, running):
    """True in the fork."""
    data, fds, _, _ = socket.recv_fds(channel, REQUEST_MAX, 2)
    if not data:
        raise Ended
    out, said = fds
    pid = os.fork()
    if pid == 0:
        channel.close()
        for other in running.values():
            os.close(other)
        become(json.loads(data), out, said)
        return True
    os.close(out)
    running[pid] = said
    return False


def reap(running):
    while running:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        os.write(running[pid], b"%d\n" % os.waitstatus_to_exitcode(status))
        os.close(running.pop(pid))


def main(channel):
    from _pytest.config import default_plugins

    for name in default_plugins:
        importlib.import_module("_pytest." + name)
    running = {}
    woken, wake = os.pipe()
    for end in woken, wake:
        os.set_blocking(end, False)
    signal.set_wakeup_fd(wake)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        ready = select.select([channel, woken], [], [])[0]
        if woken in ready:
            os.read(woken, 4096)
            reap(running)
        if channel in ready and take_request(channel, running):
            os.close(woken)
            os.close(wake)
            return


class Run:
    """One that was started: as subprocess.Popen has it, with its standard output."""

    def __init__(self, channel, request):
        self.args = request["args"]
        self.returncode = None
        reading, out = os.pipe()
        self._said, said = os.pipe()
        socket.send_fds(channel, [json.dumps(request).encode()], [out, said])
        os.close(out)
        os.close(said)
        self.stdout = open(reading, encoding="utf-8")
        self.pid = int(self._line())
        self._reader = None
        self._output = None

    def _line(self):
        line = b""
        while not line.endswith(b"\n"):
            more = os.read(self._said, 1)
            if not more:
                raise ChildProcessError("the process that starts pytest has ended")
            line += more
        return line

    def poll(self):
        if self.returncode is None and select.select([self._said], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout=None):
        if self.returncode is not None:
            return self.returncode
        if not select.select([self._said], [], [], timeout)[0]:
            raise subprocess.TimeoutExpired(self.args, timeout)
        self.returncode = int(self._line())
        os.close(self._said)
        return self.returncode

    def communicate(self, timeout=None):
        if not self._reader:
            self._reader = threading.Thread(target=self._read, daemon=True)
            self._reader.start()
        self._reader.join(timeout)
        if self._reader.is_alive():
            raise subprocess.TimeoutExpired(self.args, timeout)
        self.wait(timeout)
        return self._output, None

    def _read(self):
        self._output = self.stdout.read()
        self.stdout.close()

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self):
        self.send_signal(signal.SIGTERM)

    def kill(self):
        self.send_signal(signal.SIGKILL)


def at_start(env):
    """What an interpreter looks at before anything of pytest's."""
    return {k: v for k, v in env.items() if k.startswith(("PYTHON", "LC_", "LANG", "LD_", "TZ", "HOME"))}


class Starters:
    """For runs whose environment is, as far as an interpreter looks at it at its start, this one."""

    def __init__(self, env):
        self.env = env
        self.channels = []
        self.turn = itertools.count()

    def fits(self, env):
        return at_start(env) == at_start(self.env) and len(json.dumps(env)) < REQUEST_MAX // 2

    def start(self, args, env, cwd):
        n = next(self.turn) % STARTERS
        if n == len(self.channels):
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            subprocess.Popen([sys.executable, os.path.abspath(__file__), str(theirs.fileno())], env={**self.env, "PYTHONHASHSEED": str(n + 1)},
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, pass_fds=[theirs.fileno()],
                             preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))
            theirs.close()
            self.channels.append(ours)
        return Run(self.channels[n], {"args": list(args), "env": env, "cwd": cwd})


if __name__ == "__main__":
    try:
        main(socket.socket(fileno=int(sys.argv[1])))
    except Ended:
        sys.exit(0)
    runpy.run_module("pytest", run_name="__main__", alter_sys=True)
