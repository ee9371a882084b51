#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What an ordinary user's programs see, whom the kernel asks for rights that root always has: natively, and in a run."""

import os
import shutil
import subprocess
import sys

from stage import LIMIT, NOBODY, Skip, can_reach, environment, main, modes, program, run_as, wait_for

SHOW = """
import os, stat, threading

def tree(top):
    for base, directories, files in os.walk(top):
        directories.sort()
        for name in sorted(directories + files):
            path = os.path.join(base, name)
            st = os.lstat(path)
            data = open(path).read() if stat.S_ISREG(st.st_mode) and os.access(path, os.R_OK) else ""
            print(path, oct(st.st_mode), st.st_nlink if not stat.S_ISDIR(st.st_mode) else "", repr(data))

def try_to(what, call, *arguments):
    try:
        call(*arguments)
        print(what, "done")
    except OSError as e:
        print(what, e.strerror)

def write(path, text="more"):
    with open(path, "a") as f:
        f.write(text)
"""


def same(t, make, script, why=None):
    """The script says the same of a directory as of a fixture with the same in it, which `make` has put there."""
    if os.geteuid() != 0:
        raise Skip("only root can become somebody else")
    python = next(filter(can_reach, (sys.executable, "/usr/bin/python3")), None)
    if not can_reach(program("fixctl")) or not python:
        raise Skip("nobody cannot reach the build directory, or Python")
    if t.mode == "mount" and why:
        raise Skip(why)
    os.chmod(t.dir, 0o755)
    said = []
    t.write("script.py", SHOW + script)
    for name in "native", "run":
        home = t.path(name)
        os.makedirs(os.path.join(home, "d"))
        os.makedirs(os.path.join(home, "other"))
        ini = t.write(f"{name}/fixd.ini", "[fixture d]\ndirectory = d\npath = d\n")
        own(home)
        made = run_as([python, "-c", SHOW + make], home, home)
        assert made.returncode == 0, made
        command = [python, t.path("script.py")]
        if name == "run":
            command = [program("fixctl"), "run", "--isolate", t.mode, "--config", ini, "--", *command]
        done = run_as(command, home, home, env=environment(HOME=home, TMPDIR=home))
        said.append((done.returncode, done.stdout, done.stderr))
        # What the command has left running, like the server of fakeroot, ends a moment later, and the run with it.
        wait_for(lambda: not [n for n in os.listdir(home) if n.startswith("fixd-run")], "the end of the run")
        shutil.rmtree(home)
    assert said[0] == said[1], f"natively {said[0]}\n in a run {said[1]}"
    assert said[0][0] == 0, said[0]


def own(home):
    os.chown(home, NOBODY, NOBODY)
    for base, directories, files in os.walk(home):
        for name in directories + files:
            os.chown(os.path.join(base, name), NOBODY, NOBODY)


def test_directories_that_may_not_be_written_to(t):
    """As a cache of Go's modules has them, and the sources of automake's distcheck."""
    same(t, """
os.makedirs("d/closed/below")
for n in range(5):
    write(f"d/closed/{n}", str(n))
write("d/closed/below/f", "f")
os.chmod("d/closed", 0o555)
""", """
write("d/closed/0")
os.chmod("d/closed/1", 0o600)
os.utime("d/closed/2", (1, 1))
os.link("d/closed/3", "d/link")
try_to("new", write, "d/closed/new")
try_to("away", os.unlink, "d/closed/4")
write("d/closed/below/f")
write("d/closed/below/new")
tree("d")
os.chmod("d/closed", 0o755)
os.unlink("d/closed/4")
os.mkdir("d/own")
write("d/own/f")
os.chmod("d/own", 0o555)
write("d/own/f")
try_to("in its own", write, "d/own/g")
tree("d")
""")


FILES = """
os.mkdir("d/closed"); os.mkdir("other/closed"); os.mkdir("d/sticky")
for n in "abcdefg":
    write("d/" + n, "d " + n)
    write("other/" + n, "other " + n)
write("d/closed/f", "f"); write("other/closed/f", "f")
write("d/there", "old"); write("other/there", "old")
write("d/" + "n" * 253, "long"); write("other/" + "m" * 254, "long")
os.chmod("d/closed", 0o555); os.chmod("other/closed", 0o555); os.chmod("d/e", 0o4711)
"""


def test_names_that_cross_the_border(t):
    """A file that is renamed out of a tree or into one, which is a copy: all or nothing, as without one."""
    same(t, FILES, """
for one, other in ("d", "other"), ("other", "d"):
    try_to("closed to there", os.rename, one + "/closed/f", other + "/there")
    try_to("into closed", os.rename, one + "/a", other + "/closed/new")
    os.chmod(one + "/b", 0)
    try_to("unreadable", os.rename, one + "/b", other + "/b2")
    os.chmod(one + "/c", 0o200)
    try_to("only to be written to", os.rename, one + "/c", other + "/c2")
try_to("long", os.rename, "d/" + "n" * 253, "other/" + "n" * 253)
try_to("longer", os.rename, "other/" + "m" * 254, "d/" + "m" * 254)
try_to("setuid", os.rename, "d/e", "other/e2")
tree("d")
tree("other")
wrong = set()

def move(n):
    for k in range(50):
        write(f"d/of{n}", "x" * 5000)
        try:
            os.rename(f"d/of{n}", "other/target")
        except OSError as e:
            wrong.add(e.strerror)
        if len(open("other/target").read()) != 5000:
            wrong.add("half of one")

threads = [threading.Thread(target=move, args=(n,)) for n in range(6)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(wrong, sorted(os.listdir("other")))
""", why="mounts say EXDEV, as between file systems")


def test_names_of_scripts(t):
    """By which programs look for them: the script's own, also where its interpreter is a script."""
    same(t, """
for name, first in ("hello.tests", "#!/bin/sh"), ("a-name-that-is-too-long", "#!/bin/sh -e"), ("inner", "#!/bin/sh"):
    write("d/" + name, first + "\\ncat /proc/$$/comm; env | grep FIXD_SCRIPT\\ntrue\\n")
    os.chmod("d/" + name, 0o755)
write("d/outer", "#!" + os.path.abspath("d/inner") + "\\n")
os.chmod("d/outer", 0o755)
""", """
import subprocess
for name in "hello.tests", "a-name-that-is-too-long", "outer":
    print(subprocess.run(["d/" + name], stdout=subprocess.PIPE).stdout)
    os.waitpid(os.posix_spawn("d/" + name, [name], os.environ), 0)
""")


def test_files_of_others(t):
    """Nobody but root gives files to others, and what forgives that goes on."""
    same(t, "write('d/f')\nwrite('other/f')\n", """
import subprocess
for path in "d/f", "other/f":
    for uid, gid in (0, -1), (-1, 0), (0, 0), (os.getuid(), os.getgid()), (-1, -1), (os.getuid(), 0):
        try_to(f"chown {path} {uid} {gid}", os.chown, path, uid, gid)
        try_to("lchown", os.lchown, path, uid, gid)
        fd = os.open(path, os.O_RDONLY)
        try_to("fchown", os.fchown, fd, uid, gid)
    try_to("of a directory", lambda: os.chown(os.path.basename(path), 0, -1, dir_fd=os.open(os.path.dirname(path), os.O_RDONLY)))
    if os.path.exists("/usr/bin/fakeroot"):
        for command in f"chown 0:0 {path}; echo $?; stat -c %u:%g {path}", f"install -o root -g 1 {path} {path}2; echo $?; cp -a {path}2 {path}3; echo $?":
            print(subprocess.run(["fakeroot", "sh", "-c", command], capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"}))
""")


def test_variables_that_are_set_to_something_else(t):
    """They stay, as does the clone that a program inside of the run has got for itself; what was cleared comes back."""
    ini = t.write("fixd.ini", "[fixture data]\ntree = echo x >$FIXD_DIR/x\n[fixture own]\nservice = echo up; exec sleep 1000\nready = line\ndata = data\nclones = 3\nvalue = ${FIXD_DIR}\n")
    script = ("echo $FIXD_FIXTURE_own; FIXD_FIXTURE_own=mine sh -c 'echo $FIXD_FIXTURE_own'; env -i /bin/sh -c 'echo $FIXD_FIXTURE_own'; "
              f"{program('fixctl')} with own -- sh -c 'echo $FIXD_FIXTURE_own'; FIXD_SOCKET=elsewhere sh -c 'echo $FIXD_SOCKET'; cat $FIXD_FIXTURE_own")
    done = subprocess.run([program("fixctl"), "run", "--isolate", t.mode, "--config", ini, "--", "sh", "-c", script], cwd=t.dir, capture_output=True, text=True,
                          timeout=LIMIT, env=environment(TMPDIR=t.dir))
    of_the_run, mine, cleared, own, socket, first = done.stdout.splitlines()
    assert (mine, cleared, socket) == ("mine", of_the_run, "elsewhere") and own != of_the_run and own != first, done


if __name__ == "__main__":
    main(sys.modules[__name__], modes)
