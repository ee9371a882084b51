#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The tutorial of fixd(7), typed as it stands there: what it prints must be what the page says, but for times and other numbers."""

import os
import re
import subprocess
import sys

import harness
from harness import once, wait_for

SAID = "=== said ==="


def steps(page):
    """[command, the lines that are to follow it] of the literal blocks that begin with a prompt."""
    found, block = [], None
    with open(os.path.join(harness.SRC, "man", page)) as f:
        for line in f:
            if line.startswith(".Bd -literal"):
                block = []
            elif line.startswith(".Ed"):
                for said in block if block and block[0].startswith("$ ") else []:
                    if said.startswith("$ "):
                        found.append([said[2:], []])
                    else:
                        found[-1][1].append(said)
                block = None
            elif block is not None:
                block.append(line.rstrip("\n").replace("\\e", "\\"))
    return found


def pattern(lines):
    """Numbers may be others, and so may the room around them."""
    parts = []
    for line in lines:
        words = [re.sub(r"\d+(\\\.\d+)?", r"\\d+(?:\\.\\d+)?", re.escape(w)) for w in line.split()]
        parts.append(r" *" + r" +".join(words) + r" *\n")
    return "".join(parts)


class Shell:
    def __init__(self, directory):
        env = {**harness.process_environment(), "PATH": f"{harness.BUILD}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8", "MAKEFLAGS": ""}
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


@once
def test_the_tutorial(t):
    home = os.path.realpath(t.dir)
    shell = Shell(home)
    tutorial = steps("fixd.7")
    try:
        for command, lines in tutorial:
            file = re.fullmatch(r"cat (\S+)", command)
            if file:
                t.write(file[1], "".join(line + "\n" for line in lines))
            elif command.endswith("&"):
                shell.say(command.replace("fixd ", "fixd --log-level error ", 1))
                wait_for(lambda: subprocess.run([harness.program("fixctl"), "-s", t.path("socket"), "list"], capture_output=True).returncode == 0,
                         "the daemon")
            else:
                said, status = shell.say(command)
                assert status == 0 and re.fullmatch(pattern(lines), said.replace(home, "/home/me/project")), f"$ {command}\n{said}"
    finally:
        if os.path.exists(t.path("socket")):
            shell.say("fixctl stop")
        shell.end()
    assert len(tutorial) > 15 and tutorial[4][0] == "fixctl run -c fixd.ini -- make check"


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
