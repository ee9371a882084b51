#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The tutorial of fixd(7), typed as it stands there: what it prints must be what the page says, but for times and other numbers."""

import os
import re
import subprocess
import sys

import harness
import manual
from harness import once, wait_for
from manual import runs

SAID = "=== said ==="


def steps(pattern):
    """[command, the lines that are to follow it] of the blocks of that name."""
    found = []
    for line in "".join(b.text for b in manual.take(pattern)).splitlines():
        if line.startswith("$ "):
            found.append([line[2:], []])
        else:
            found[-1][1].append(line)
    return found


def pattern(lines):
    """Numbers may be others, and so may the room around them."""
    parts = []
    for line in lines:
        words = [re.sub(r"\d+(\\\.\d+)?", r"\\d+(?:\\.\\d+)?", re.escape(w)) for w in line.split()]
        parts.append(r" *" + r" +".join(words) + r" *\n")
    return "".join(parts)


class Shell:
    def __init__(self, directory, more):
        env = {**harness.process_environment(), "PATH": f"{harness.BUILD}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8", "MAKEFLAGS": "", **more}
        for name in "FIXD_SOCKET", "MAKELEVEL":
            env.pop(name, None)
        self.process = subprocess.Popen(["bash", "--norc"], cwd=directory, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT, text=True)

    def say(self, command):
        self.process.stdin.write(f"{command}\necho '{SAID}'$?\n")
        self.process.stdin.flush()
        said = ""
        while SAID not in said:
            line = self.process.stdout.readline()
            assert line, (command, said)
            said += line
        said, _, status = said.rpartition(SAID)
        return said, int(status)

    def end(self):
        self.process.stdin.close()
        self.process.wait(harness.LIMIT)
        self.process.stdout.close()


def socket_of(t, command):
    return os.path.join(t.dir, re.search(r"--socket (\S+)", command)[1])


def start(t, shell, command):
    """A daemon of the shell, at the socket that it is told."""
    path = socket_of(t, command)
    shell.say(command)
    wait_for(lambda: subprocess.run([harness.program("fixctl"), "-s", path, "list"], capture_output=True).returncode == 0, "the daemon")
    return path


def perform(t, what, env=None, replace=(), whole=True):
    """What is typed, in one shell, and what is to be seen then; `whole`: it all stands there. What each command has printed."""
    home, sockets, out = os.path.realpath(t.dir), [], {}
    shell = Shell(home, env or {})
    try:
        for command, lines in what:
            for old, new in replace:
                command, lines = command.replace(old, new), [line.replace(old, new) for line in lines]
            file = re.fullmatch(r"cat (\S+)", command)
            if file and lines:
                t.write(file[1], "".join(line + "\n" for line in lines))
            elif command.endswith("&"):
                sockets.append(start(t, shell, command))
            else:
                if "--background" in command:
                    sockets.append(socket_of(t, command))
                said, status = shell.say(command)
                out[command] = said
                seen = said.replace(home, "/home/me/project")
                assert status == 0 and (re.fullmatch(pattern(lines), seen) or not (whole or lines)), f"$ {command}\n{said}"
    finally:
        for path in sockets:
            if os.path.exists(path):
                shell.say(f"fixctl --socket {path} stop")
        shell.end()
    return out


@runs("fixd.7 *")
@once
def test_the_tutorial(t):
    tutorial = steps("fixd.7 *")
    assert len(tutorial) > 15 and tutorial[4][0] == "fixctl run -c fixd.ini -- make check"
    perform(t, tutorial)


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
