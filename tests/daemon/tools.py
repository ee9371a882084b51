#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The command lines: fixd with good and bad files, fixctl and its exit codes."""

import json
import os
import pty
import pwd
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys

import harness
from harness import Skip, exit_code, once, wait_for


def check(t, ini, *words, code=78, encoding="utf-8"):
    """`fixd --check` of a file."""
    path = t.path("fixd.ini")
    with open(path, "w", encoding=encoding) as f:
        f.write(ini)
    done = subprocess.run([harness.program("fixd"), "--config", path, "--check"], capture_output=True,
                          env=harness.process_environment())
    out = done.stdout.decode() + done.stderr.decode()
    assert done.returncode == code, (done.returncode, out)
    for word in words:
        assert word.replace("FILE", path) in out, f"{word!r} is not in:\n{out}"
    return out


GOOD = "[fixture a]\ncommand = true\n"


@once
def test_good_file(t):
    check(t, GOOD, "1 fixture, no problems", code=0)
    check(t, "[fixd]\njobs = 3\nmemory-max = 2G\naddress-base = 0x7e9000000000\nio = epoll\nlog-level = debug\nidle-exit = none\n"
             "[policy]\nmax-age = none\nage-from = last-use\nwatch-by = content\ntimeout = 500ms\nretry-after = 5m\nrebuild = eager\n"
             "memory-max = none\non-restart = drop\n"
             "[fixture a]\ndoc = one\n  two\ncategory = x\nscope = module\nparams = 1, 2\nmalloc = heap\nhuge-pages = no\n"
             "stray-pointers = warn\nwarm = no\nenv = A, B\ncommand = a\n  b\n  c\n", "no problems", code=0)


@once
def test_where_it_cannot_listen(t):
    """Says so, and leaves nothing behind."""
    t.write("fixd.ini", "[fixd]\n")
    t.write("plain", "mine\n")
    before = sorted(os.listdir(t.dir))
    for socket, why in ((t.path("plain"), "File exists"), (t.dir, "File exists"), (t.path("x" * 200), "File name too long")):
        done = subprocess.run([harness.program("fixd"), "--config", t.path("fixd.ini"), "--socket", socket], capture_output=True, timeout=harness.LIMIT)
        assert done.returncode == 1 and why in done.stderr.decode(), done
    assert sorted(os.listdir(t.dir)) == before and open(t.path("plain")).read() == "mine\n"
    done = subprocess.run([harness.program("fixd"), "--config", t.path("fixd.ini"), "--resumes", "1"], capture_output=True, timeout=harness.LIMIT)
    assert done.returncode == 2 and b"--resumes is for --check" in done.stderr, done
    done = subprocess.run([harness.program("fixctl"), "--socket", "x" * 200, "status"], capture_output=True, timeout=harness.LIMIT)
    assert done.returncode == 3 and b"1 to 107 bytes, not 200" in done.stderr, done


@once
def test_bad_files(t):
    check(t, "key = 1\n", "FILE:1: a key before the first section", "[fixture NAME]")
    check(t, "[other]\nkey = 1\n", "FILE:1: unknown section [other]", "[policy]")
    check(t, "[fixd]\nnonsense\n", "FILE:2: neither '[section]' nor 'key = value'")
    check(t, "[fixd]\njbos = 1\n", "FILE:2: unknown key 'jbos' (did you mean 'jobs'?); allowed here: socket, root, jobs")
    check(t, "[fixd]\nquite-different = 1\n", "FILE:2: unknown key 'quite-different'; allowed here: socket, root, jobs")
    check(t, "[fixtur a]\nkey = 1\n", "FILE:1: unknown section [fixtur a] (did you mean [fixture a]?)")
    check(t, "[fixd]\njobs = 0\n", "FILE:2: jobs = 0: expected a number from 1 to 1024")
    check(t, "[fixd]\njobs = 2x\n", "FILE:2: jobs = 2x")
    check(t, "[fixd]\njobs = 99999999999999999999\n", "FILE:2: jobs")
    check(t, "[fixd]\njobs = 1\njobs = 2\n", "FILE:3: key 'jobs' is there already, at line 2")
    check(t, GOOD + GOOD, "FILE:3: section [fixture a] is there already, at line 1")
    check(t, "[fixd]\naddress-base = 0x1001\n", "FILE:2: address-base = 0x1001: expected a multiple of 2 MiB")
    check(t, "[fixd]\nio = fast\n", "FILE:2: io = fast: expected one of auto, io_uring, epoll")
    check(t, "[fixd]\nmemory-max = 12Q\n", "FILE:2: memory-max = 12Q: expected a number of bytes with K, M or G")
    check(t, "[fixd]\nmemory-max = 99999999999G\n", "FILE:2: memory-max")
    check(t, "[fixd]\nallow-users = nobody-of-that-name\n", "no user 'nobody-of-that-name'")
    check(t, "[fixd]\nroot = nowhere\n", "FILE:2: root = nowhere: expected an existing directory")
    check(t, "[policy]\nmax-age = 10d\n", "FILE:2: max-age = 10d: expected a number with ms, s, m or h (90s), or none")
    check(t, "[policy]\ntimeout = none\n", "FILE:2: timeout = none")
    check(t, "[policy]\nmax-age = -1\n", "FILE:2: max-age = -1")
    check(t, "[policy]\ncommand = x\n", "FILE:2: unknown key 'command'")
    check(t, "[policy]\nmax-age =\n", "FILE:2: max-age has no value")
    check(t, "[policy]\non-restart = never\n", "FILE:2: on-restart = never: expected one of keep, drop")
    check(t, "\ufeff[fixd]\n", "FILE:1: the file begins with a byte order mark")
    check(t, "[fixture a]\ncommand = x\nparams = p, q, p\n", "params: 'p' is there twice")
    check(t, "[fixture a]\ncommand = x\nenv = A=B, 1A\n", "'A=B' is no name of a variable", "'1A' is no name")
    check(t, "[fixture a]\ncommand = x\ntimeout = 0\n", "timeout: expected a duration above 0")
    check(t, "[fixture a]\nplugin = words.so:\n", "FILE:2: plugin = words.so:: expected")
    check(t, "[fixture a]\nfile = .\n[fixture b]\ndirectory = fixd.ini\n[fixture c]\nplugin = fixd.ini\n", "it is a directory",
          "it is no directory", "it is no shared library")
    check(t, "[policy]\nrebuild = eager\n[fixture a]\nclient = yes\n", "no problems", code=0)
    check(t, "[fixture a]\n", "FILE:1: [fixture a] has no source")
    check(t, "[fixture a]\nfile = x\ncommand = y\n", "FILE:3: file and command: exactly one source is allowed")
    check(t, "[fixture a b]\ncommand = x\n", "FILE:1: [fixture a b]: a name has")
    check(t, "[fixture a]\ncommand = x ; y\n", "FILE:2: command: ' ;' would start a comment")
    for length in (190, 200, 300, 5000):
        check(t, f"[fixture a]\ncommand = echo {'x' * length}\n{'k' * length} = 1\n", f"FILE:3: unknown key '{'k' * length}'")
    for length in (41, 42, 60, 100):
        check(t, f"[fixture {'n' * length}] ; {'c' * 300}\ncommand = x ; {'c' * 300}\nkommand = x\n", "FILE:2: command: ' ;'", "FILE:3: unknown key 'kommand'")
    check(t, "[fixture a]\ncommand = printf hi\0there\n", "FILE:2: there is a NUL byte in the line")
    check(t, "[fixture a]\ncommand = x\ndo\0c = x\n", "FILE:3: there is a NUL byte in the line")
    check(t, "[fixture a]b]\ncommand = x\n", "FILE:1: something stands behind ']' of [fixture a]: 'b]'")
    check(t, "[fixture a]command = x\nfile = fixd.ini\n", "FILE:1: something stands behind ']' of [fixture a]: 'command = x'")
    check(t, "[fixture a]\ncommand = x\n[fixture b\ncommand = y\nnonsense\n[fixture c]\nkommand = x\n", "FILE:3: a section without ']'", "FILE:7: unknown key")
    check(t, "[fixture b]\ncommand = x\n  [fixture a\n  command = y\n", "FILE:3: a section without ']'", "FILE:3: a section begins at the start of a line")
    check(t, "[fixture b]\ncommand = x\n  [ -f y ] && z\n  [[ -f y ]]\n", "1 fixture, no problems", code=0)
    check(t, "[fixture a]\rcommand = x\rkommand = y\r", "FILE:3: unknown key 'kommand'")
    check(t, "[fixture a]\r\ncommand = x\r\nkommand = y\r\n", "FILE:3: unknown key 'kommand'")
    check(t, "; " + "x" * 500 + "\n  # " + "y" * 500 + "\n[fixture a]\nkommand = x\n", "FILE:4: unknown key 'kommand'")
    check(t, "[fixture a]\ncommand = x\nwatch = a, src/**/*.c\n", "FILE:3: watch = ", "src/**/*.c: '**' is no wildcard")
    check(t, "[fixture a]\ncommand = x\nwatch = a\n  b # c\n", "FILE:3: watch = ", "' #' begins no comment behind a value")
    check(t, "[fixture a]\ncommand = x\nwatch = my \\#1\n", "no problems", code=0)
    check(t, "[POLICY]\nMax-Age = 3\n[policy]\nTIMEOUT = 3\n", "FILE:1: unknown section [POLICY] (did you mean [policy]?)", "(did you mean 'timeout'?)")
    check(t, "command = x\n[fixture a\n", "FILE:1: a key before", "[remote]", "FILE:2: a section without")
    check(t, "\ufeff[fixture a]\ncommand = x\n", "FILE:1: the file is UTF-16; save it as UTF-8", encoding="utf-16-le")
    check(t, "[fixture a]\ncommand = x\nverify = f\n", "FILE:3: verify is for plugins")
    check(t, "[fixture a]\ncommand = x\nexclude = *.o\n", "FILE:3: exclude is for directory =")
    check(t, "[fixture a]\ndirectory = .\nexclude = /tmp\n", "FILE:3: exclude: '/tmp' is absolute")
    check(t, "[fixture a]\ncommand = x\ndepends = b\n", "FILE:3: [fixture a] depends on 'b', which is not defined")
    check(t, "[fixture a]\ncommand = x\ndepends = crpus\n[fixture corpus]\ncommand = x\n", "which is not defined (did you mean 'corpus'?)")
    check(t, "[fixture a]\ncommand = x\ndepends = a\n", "cycle")
    check(t, "".join(f"[fixture {n}]\ncommand = x\ndepends = {m}\n" for n, m in ("ab", "bc", "ca")), "cycle")
    check(t, "[fixture a]\nscope = session\ncommand = x\ndepends = b\n[fixture b]\nscope = module\ncommand = x\n",
          "FILE:4: [fixture a] has scope session and depends on 'b' with the narrower scope module")
    check(t, "[fixture a]\ncommand = x\ndepends = b\n[fixture b]\nparams = 1\ncommand = x\n", "has params; write one of them")
    check(t, "[fixture b]\ncommand = x\nparams = 1, 2\n[fixture d]\ncommand = x\ndepends = b[3]\n", "depends on 'b[3]', and 'b' has no param '3'; its params are 1, 2")
    check(t, "[fixture a]\ncommand = x\ndepends = b[1]\n[fixture b]\ncommand = x\n", "has no params")
    check(t, "[fixture a]\nscope = test\ncommand = x\n", "FILE:2: scope = test: expected one of session, package, module, class, definition, function")
    os.mkfifo(t.path("fifo"))
    check(t, "[fixture a]\nfile = fifo\n", "FILE:2: [fixture a] file = ", "it is a pipe; use command =")
    check(t, "[fixture a]\nfile = missing\n", "FILE:2: [fixture a] file = ", "No such file")
    check(t, "[fixture a]\ncommand = x\ndepends = b, b\n[fixture b]\ncommand = x\n", "depends on 'b' twice")
    check(t, "[fixture a]\ncommand = x\ndepends = b.c, b-c\n[fixture b.c]\ncommand = x\n[fixture b-c]\ncommand = x\n",
          "FILE:3: [fixture a] depends on 'b.c' and 'b-c', which would both be $FIXD_DEP_b_c")
    check(t, "[fixture a]\ncommand = x\ndepends = b[c], b_c\n[fixture b]\ncommand = x\nparams = c\n[fixture b_c]\ncommand = x\n", "depends on 'b[c]' and 'b_c', which would both be $FIXD_DEP_b_c")
    assert check(t, "[fixture a]\ncommand = x\nparams = 1, 2, 1, 1, 3\n", "FILE:3: params: '1' is there twice").count("twice") == 1
    assert check(t, GOOD + "[ fixture \t a ]\ncommand = x\n", "FILE:3: section [fixture a] is there already, at line 1").count("\n") == 1
    check(t, GOOD + "  [fixture b]\n  kommand = x\n", "FILE:3: a section begins at the start of a line", "FILE:4: unknown key 'kommand'")
    check(t, "  [fixd]\njobs = 1\n", "FILE:1: a section begins at the start of a line")
    check(t, "[fixture a]\ncommand = [ -e x ] &&\n  [ -e y ]\nwatch = x\n  [fixture-x]*\n", "no problems", code=0)
    check(t, "[fixture]\ncommand = x\n", "FILE:1: [fixture] has no name; write [fixture NAME]")
    check(t, "[fixture a]\n[fixture b]\nkommand = x\n[fixture c]\n", "FILE:1: [fixture a] has no source", "FILE:4: [fixture c] has no source")
    check(t, "[fixture a]\ncommand = x\nscope = sesion\n", "FILE:3: scope = sesion: expected one of session,", "(did you mean 'session'?)")
    check(t, "[fixture a]\ncommand = x\ndepends = q\n", "on 'q', which is not defined\n")
    check(t, "[policy]\nmax-age = 2562047h\n", "FILE:2: max-age = 2562047h")
    check(t, "[fixture a]\nclient = no\n", "FILE:2: client = no: expected yes")
    check(t, "[fixture a]\nclient = yes\n[fixture b]\ncommand = x\ndepends = a\n", "depends on 'a', which is built by clients")
    check(t, "[fixture a]\nclient = yes\nwarm = yes\n", "FILE:3: depends, warm,", "not for client = yes")
    check(t, "[fixture a]\ncommand = x\nreuse = no\n", "FILE:3: version and reuse are for client = yes")
    check(t, "[fixd]\nuser-images-max = 0\n", "FILE:2: user-images-max = 0: expected a number from 1")
    check(t, "[fixture a]\ntree = x ; y\n", "FILE:2: tree: ' ;' would start a comment")
    check(t, "[fixture a]\nservice = x\ndata = b\n[fixture b]\ncommand = x\n",
          "[fixture a] data = b: expected a fixture with tree or directory, and it has command")
    check(t, "[fixture a]\nservice = x\ndata = b\n", "[fixture a] depends on 'b', which is not defined")
    check(t, "[fixture a]\ntree = x\ndata = b\n[fixture b]\ntree = x\n", "FILE:3: data is for services")
    check(t, "[fixture a]\ntree = x\nclones = 2\n", "FILE:3: clones is for services")
    check(t, "[fixture a]\nservice = x\nclones = 0\n", "clones = 0: expected a number from 1 to 256")
    check(t, "[fixture a]\nservice = x\nclones = 2\nexclusive = yes\n", "FILE:4: exclusive and reset are not for a service with clones")
    check(t, "[fixture a]\nservice = x\nclones = 2\n[fixture b]\ncommand = x\ndepends = a\n[fixture c]\ncommand = x\ndepends = b\nreset = x\n",
          "[fixture c] depends on 'b', of which each holder has a clone of its own: exclusive and reset are not for it")
    check(t, "[fixture a]\nservice = x\ndata = b\nstop-signal = INT\n[fixture b]\ntree = x\n", "FILE:4: stop-signal is not for a service with data or clones")
    check(t, "[fixture a]\nservice = x\nready = file:$FIXD_DIR/up\n", "ready = file:$FIXD_DIR/up: a variable is written ${FIXD_DIR} here")
    check(t, "[fixture a]\nservice = x\nready = soon\n", "FILE:3: ready = soon: expected one of line, port, notify, file:PATH, command:COMMAND")
    check(t, "[fixture a]\nservice = x\nready = file:\n", "ready = file:: expected")
    check(t, "[fixture a]\nservice = x\nready = port5\n", "ready = port5: expected")
    for more in "prewarm = ls $FIXD_DATA", "teardown = ls $FIXD_DATA", "ready = command:test -e $FIXD_DATA/up":
        check(t, f"[fixture d]\ntree = x\n[fixture a]\nservice = x\ndata = d\n{more}\n", "FILE:6: " + more + ": only the service itself sees what is in FIXD_DATA")
    check(t, "[fixture a]\nservice = x\nready = port\nvalue = ${PORT}\n", "FILE:4: value = ${PORT}: ${PORT} is not known here; expected one of ${FIXD_PORT}")
    check(t, "[fixture a]\nservice = x\nvalue = ${FIXD_PORT\n", "has no closing brace")
    check(t, "[fixture a]\ncommand = x\nready = port\n", "FILE:3: ready and value are for services")
    check(t, "[fixture a]\nclient = yes\nteardown = x\n", "FILE:3: teardown, reset and exclusive are not for client = yes: who builds it tears it down")
    check(t, "[fixture a]\ncommand = x\ndepends = b\n[fixture b]\ncommand = x\nexclusive = yes\n", "'b', which is exclusive")
    check(t, "[fixture a]\ncommand = x\nteardown = x ; y\n", "FILE:3: teardown: ' ;' would start a comment")
    check(t, "[fixture a]\nservice = x\nservice = y\n", "FILE:3: key 'service' is there already")
    check(t, "[fixd]\njobs = 1\nallow-users = nobody, none-of-that-name\n", "FILE:3: allow-users: there is no user 'none-of-that-name'")
    check(t, "[fixd]\njobs = 1\nallow-groups = none-of-that-name\n", "FILE:3: allow-groups: there is no group 'none-of-that-name'")
    check(t, f"[fixd]\njobs = 1\nsocket = /tmp/{'s' * 200}\n", "FILE:3: socket = /tmp/sss", "expected a path of at most 107 bytes, and this has 205")
    check(t, f"[fixd]\nsocket = /{'s' * 106}\n", "no problems", code=0)
    for key in "command", "tree", "service", "process":
        check(t, f"[fixture a]\ndoc = long\n{key} = {'x' * 131072}\n", f"FILE:3: {key}: a command has at most 131071 bytes, and this has 131072; write it to a file")
    check(t, f"[fixture a]\ncommand = {'x' * 131071}\n", "no problems", code=0)
    check(t, f"[fixture a]\ncommand = x\nteardown = {'x' * 131072}\n", "FILE:3: teardown: a command has at most")
    out = check(t, "[fixd]\njobs = 0\nio = x\n[policy]\nrebuild = never\n", "FILE:2:", "FILE:3:", "FILE:5:")
    assert len(out.splitlines()) == 3, "every mistake is told at once"
    done = subprocess.run([harness.program("fixd"), "--config", t.path("absent")], capture_output=True,
                          env=harness.process_environment())
    assert done.returncode == 78 and b"cannot be read: No such file" in done.stderr


@once
def test_fixd_command_line(t):
    for args, code, word in [(["--help"], 0, "Usage: fixd"), (["--version"], 0, "fixd 0"), ([], 2, "--config FILE is missing"),
                             (["--nonsense"], 2, "Try 'fixd --help'"), (["--config", "x", "y"], 2, "unexpected argument"),
                             (["--config", "x", "--log-level", "loud"], 2, "expected one of"), (["--ready-fd", "x"], 2, "--ready-fd x"),
                             (["--config", "x", "--check", "--background"], 2, "one of --background and --check is meant, not both"),
                             (["--config", "x", "--idle-exit", "soon"], 2, "--idle-exit soon: expected a number above 0")]:
        done = subprocess.run([harness.program("fixd"), *args], capture_output=True, env=harness.process_environment())
        assert done.returncode == code and word in (done.stdout + done.stderr).decode(), (args, done)
    lines = subprocess.run([harness.program("fixd"), "--help"], capture_output=True).stdout.splitlines()
    assert len(lines) < 24 and max(map(len, lines)) < 80, lines


@once
def test_a_daemon_in_the_background(t):
    """It listens when its start has ended, holds nothing of who started it but standard error, and is restarted in place."""
    config, path, pid = t.write("fixd.ini", "[fixture a]\ncommand = echo a\n"), t.path("socket"), None

    def ask(*args):
        return subprocess.run([harness.program("fixctl"), "--socket", path, *args], capture_output=True, text=True, timeout=harness.LIMIT,
                              env=harness.process_environment())

    def begin(file):
        with open(t.path("log"), "a") as log:
            return subprocess.run([harness.program("fixd"), "--config", file, "--socket", path, "--background"], stdout=subprocess.PIPE, stderr=log,
                                  timeout=harness.LIMIT, env=harness.process_environment())

    assert begin(t.path("none")).returncode == 78 and not os.path.exists(path)
    done = begin(config)
    assert done.returncode == 0 and done.stdout == b"", done
    try:
        pid = json.loads(ask("status", "--json").stdout)["daemon"]["pid"]
        assert os.getsid(pid) == pid and os.readlink(f"/proc/{pid}/fd/0") == os.readlink(f"/proc/{pid}/fd/1") == "/dev/null"
        assert begin(config).returncode == 1 and "another fixd listens" in open(t.path("log")).read()
        assert ask("restart").returncode == 0 and ask("get", "a").stdout == "a\n"
        assert json.loads(ask("status", "--json").stdout)["daemon"]["pid"] == pid
    finally:
        if pid:
            assert ask("stop").returncode == 0
    # A limit without a single descriptor left: there is no child, and that is told.
    done = subprocess.run(["prlimit", "--nofile=4", harness.program("fixd"), "--config", config, "--socket", path, "--background"], capture_output=True,
                          timeout=harness.LIMIT)
    assert done.returncode == 1 and b"--background: Too many open files" in done.stderr, done


def test_who_may_connect_after_a_restart(t):
    """Whoever the file names by then."""
    if os.geteuid() != 0:
        raise Skip("needs root")
    d = t.daemon("[fixture a]\ncommand = echo a\n")
    for users, mode in ("allow-users = nobody\n", 0o666), ("", 0o600):
        d.configure(f"[fixd]\n{users}[fixture a]\ncommand = echo a\n")
        d.ctl("restart")
        assert stat.S_IMODE(os.stat(d.socket).st_mode) == mode, users


def test_closed_standard_descriptors(t):
    """Nothing of ours gets their numbers: what is written there would be for the daemon."""
    d = t.daemon("[fixture a]\ncommand = echo hi\n")

    def run(words, closed):
        return subprocess.run(["sh", "-c", f'exec "$@" {closed}', "sh", harness.program("fixctl"), "--socket", d.socket, *words], capture_output=True,
                              env=harness.process_environment(), timeout=harness.LIMIT)

    for words in ["get", "a"], ["ps"], ["status"], ["trace", "--once"]:
        done = run(words, ">&-")
        assert done.returncode == 1 and b"standard output: Bad file descriptor" in done.stderr or b"Bad file descriptor" in done.stderr, (words, done)
        assert run(words, "2>&- >&-").returncode == 1, words
        assert run(words, "<&-").returncode == 0, words
    # Whoever is started has them closed, as without it.
    done = run(["with", "a", "--", "sh", "-c", "ls /proc/$$/fd >&2"], "<&- >&-")
    assert b"0" not in done.stderr.split() and b"2" in done.stderr.split(), done

    def client():
        for fd in range(3):
            os.close(fd)
        c = d.client()
        for fd in range(3):
            try:
                os.write(fd, b"x")
                return False
            except OSError:
                pass
        return c.read("a") == b"hi\n"

    _, status = os.waitpid(t.child(client), 0)
    assert status == 0 and "lost" not in d.words()


def test_reload_with_a_broken_file(t):
    d = t.daemon(GOOD.replace("true", "echo one"))
    c = d.client()
    v = c.attach("a")
    d.configure("[fixture a]\ncommand = echo two\nscope = wrong\n")
    done = d.ctl("reload", code=1)
    assert "the old one stays" in done.err and ":3: scope = wrong" in done.err
    d.process.send_signal(signal.SIGHUP)
    wait_for(lambda: d.words().count("the old one stays") == 2, "the signal")
    assert v.current and c.read("a") == b"one\n"
    d.configure("[fixture a]\ncommand = echo two\n")
    assert d.ctl("reload").err == ""
    assert c.read("a") == b"two\n"
    v.detach()


INI = """[fixture corpus]
doc = All the words
  and more of them
command = echo words; echo noise >&2
[fixture index]
depends = corpus
params = small, large
command = cat $FIXD_DEP_corpus
[fixture module]
scope = module
command = echo m
[fixture broken]
command = echo why >&2; exit 1
"""


def test_a_slow_configuration(t):
    """Whoever waits for it keeps nobody waiting, and one that never comes keeps nothing from ending."""
    ini = "[fixture %s]\ncommand = echo %s\n"
    asked, was_read = "is read again: asked by", "configuration read:"
    d = t.daemon(ini % ("a", "one"))
    c = d.client()
    c.attach("a")
    os.remove(d.config)
    os.mkfifo(d.config)

    def give(name, times):
        with open(d.config, "w") as fifo:
            fifo.write(ini % (name, name))
        wait_for(lambda: d.words().count(was_read) == times, "it to be read")
    waiting = [t.child(lambda: d.ctl("reload")) for _ in range(3)]
    wait_for(lambda: d.words().count(asked) == 3, "them to ask")
    d.process.send_signal(signal.SIGHUP)
    assert c.attach("a").data == b"one\n"
    # It was begun for the first one; the others have asked since then.
    give("b", 1)
    give("c", 2)
    assert [harness.exit_code(pid) for pid in waiting] == [0, 0, 0]
    assert c.attach("c").data == b"c\n"
    # One that hangs has an end with a restart, which reads anew for those who wait.
    last = t.child(lambda: d.ctl("reload"))
    wait_for(lambda: d.words().count(asked) == 4, "it to ask")
    # In one piece: it may be about to open it.
    os.rename(t.write("other.ini", ini % ("d", "d")), d.config)
    d.ctl("restart")
    assert harness.exit_code(last) == 0 and c.attach("d").data == b"d\n"
    # Nor does the end wait.
    os.remove(d.config)
    os.mkfifo(d.config)
    # The one before was asked for once more after the restart, unless it had got what it waited for by then.
    before = d.words().count(asked)
    last = t.child(lambda: d.ctl("reload", code=None))
    wait_for(lambda: d.words().count(asked) > before, "it to ask")
    assert c.attach("d").data == b"d\n"
    d.process.terminate()
    assert d.process.wait(harness.LIMIT) == 0
    harness.exit_code(last)


def test_whose_daemon_it_is(t):
    d = t.daemon(INI)
    os.mkdir(t.path("other"))
    t.write("other/fixd.ini", "[fixture x]\ncommand = true\n")
    name = pwd.getpwuid(os.geteuid()).pw_name
    assert f"User: {name} ({os.geteuid()})\n" in d.ctl("status", cwd=t.dir).out
    assert "Not of this directory" not in d.ctl("status", cwd=t.dir).out
    elsewhere = f"Not of this directory: its configuration is not {os.path.realpath(t.path('other'))}/fixd.ini\n"
    os.mkdir(t.path("other/tests"))
    for directory in "other", "other/tests":
        assert elsewhere in d.ctl("status", cwd=t.path(directory)).out
    d.stop()
    os.symlink(".", t.path("link"))
    d = t.daemon(None, args=["--config", t.path("link/fixd.ini")])
    os.mkdir(t.path("below"))
    for directory in t.dir, t.path("below"), t.path("link/below"):
        assert "Not of this directory" not in d.ctl("status", cwd=directory).out
    assert f"Not of this directory: its root is {os.path.realpath(t.dir)}\n" in d.ctl("status", cwd="/").out


@once
def test_socket_that_is_handed_over(t):
    """Its path is what is told; one of another kind is refused with what would be right."""
    t.write("fixd.ini", "[fixture a]\ncommand = echo hi\n")

    def start(kind, path):
        with socket.socket(socket.AF_UNIX, kind) as s:
            s.bind(path)
            s.listen(5)
            return subprocess.Popen(["sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", harness.program("fixd"), "--config", t.path("fixd.ini")],
                                    preexec_fn=lambda: os.dup2(os.dup(s.fileno()), 3), close_fds=False, stderr=subprocess.PIPE,
                                    env={**harness.process_environment(), "LISTEN_FDS": "1"}, text=True)

    p = start(socket.SOCK_STREAM, t.path("stream"))
    words = p.communicate(timeout=harness.LIMIT)[1]
    assert p.returncode == 1 and "--seqpacket" in words and "ListenSequentialPacket=" in words, words
    p = start(socket.SOCK_SEQPACKET, t.path("packets"))
    try:
        # What others have left on the machine may be told before.
        words = next(line for line in p.stderr if "still in use" not in line)
        assert f"listening on {t.path('packets')} (" in words, words
        client = harness.Client(t.path("packets"))
        assert client.read("a") == b"hi\n"
        client.close()
        p.terminate()
        p.communicate(timeout=harness.LIMIT)
        assert p.returncode == 0
    finally:
        p.kill()


def test_status(t):
    d = t.daemon(INI)
    d.client().read("index[small]")
    s = d.status()
    daemon, session = s["daemon"], s["sessions"][0]
    assert set(daemon) == {"pid", "version", "uptime_s", "socket", "config", "io", "io_reason", "address_base", "memory_bytes", "memory_max",
                           "connections", "waiting", "hits", "misses", "failures", "teardown_failures", "evictions", "longest_turn_s", "root", "uid",
                           "unsandboxed", "remote"}, set(daemon)
    assert daemon["pid"] == d.pid and daemon["socket"] == d.socket and daemon["misses"] == 1
    assert daemon["io"] == ("io_uring" if t.mode == "ring" else "epoll") and bool(daemon["io_reason"]) == (t.mode != "ring")
    assert set(session) == {"id", "root", "uid", "created", "last_run", "total_runs", "reuse", "max_age_s", "runs", "instances"}
    assert session["uid"] == os.geteuid() and session["max_age_s"] == 600 and session["root"] == os.path.realpath(t.dir)
    i = session["instances"][1]
    assert set(i) == {"name", "param", "scope", "scope_key", "state", "generation", "address", "size", "digest", "source", "created",
                      "age_s", "last_used", "reused", "leases", "pids", "build_s", "build_cpu_s", "build_peak_bytes", "builds", "progress_bytes", "stale_cause",
                      "error", "teardown_error", "depends"}, set(i)
    named = json.loads(d.ctl("status", "--json", "index*").out)["sessions"][0]["instances"][0]
    assert set(named) - set(i) == {"expires_s", "watched", "watched_count"} and 500 < named["expires_s"] <= 600, named
    assert i["name"] == "index" and i["param"] == "small" and i["depends"] == ["corpus"] and i["state"] == "ready"
    text = d.ctl("status").out
    for words in ("Session Status\n==============\nSession ID: sess-", "Repo: ", "Total Runs: 0", "Active Session Fixtures:",
                  "  corpus\n", "    Age: ", "    Created: ", "    Reused: 0 times", "Fixture Reuse: ENABLED", "Max Age: 600 seconds"):
        assert words in text, (words, text)
    assert "\033" not in text
    assert "corpus" not in d.ctl("status", "index").out and "index[small]" in d.ctl("status", "index*").out
    assert "Active Session Fixtures: none" in d.ctl("status", "broken").out
    assert "nothing is called 'nonsense'\n" in d.ctl("status", "nonsense", code=1).err
    for command in "status", "ps", "list", "warm", "cleanup", "log":
        assert d.ctl(command, "indxe", code=1).err == "fixctl: nothing is called 'indxe' (did you mean 'index'?)\n"
    assert d.ctl("log", "indxe[small]", code=1).err == "fixctl: nothing is called 'indxe[small]' (did you mean 'index'?)\n"
    assert "Digest: " not in text and "    Digest: " in d.ctl("status", "-v").out and "    Digest: " in d.ctl("status", "corpus").out
    table = d.ctl("status", "--format=table").out.splitlines()
    assert [line.split()[0] for line in table] == ["STATE", "ready", "ready"] and table[1].endswith("  corpus") and table[2].endswith("  index[small]"), table
    metrics = d.ctl("status", "--format=openmetrics").out
    assert metrics.endswith("# EOF\n") and "fixd_misses_total 1\n" in metrics
    assert 'fixd_instance_builds_total{session="' in metrics and 'name="corpus"' in metrics
    d.ctl("cleanup", "corpus")
    active, _, inactive = d.ctl("status").out.partition("Not Active:\n")
    assert "corpus" not in active and "  corpus: stale: cleaned up\n" in inactive, (active, inactive)


def test_watch(t):
    d = t.daemon(INI)
    p = subprocess.Popen([harness.program("fixctl"), "-s", d.socket, "status", "--watch"], stdout=subprocess.PIPE,
                         env=harness.process_environment())
    seen = 0
    while seen < 2:
        seen += b"Session Status" in p.stdout.readline()
    p.send_signal(signal.SIGINT)
    assert p.wait(harness.LIMIT) == 0
    p.stdout.close()


def test_list(t):
    d = t.daemon(INI)
    lines = d.ctl("list").out.splitlines()
    assert lines[1] == f"corpus [session] {os.path.realpath(d.config)}:1  All the words", lines
    assert len(lines) == 4
    out = d.ctl("list", "-v", "index").out
    assert "params: small, large" in out and "depends: corpus" in out and "max-age = 10m" in out, out
    assert [f["name"] for f in json.loads(d.ctl("list", "--json").out)] == ["broken", "corpus", "index", "module"]
    d.ctl("list", "nonsense", code=1)


COMPLETE = """
. "$1"
shift
COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
_fixctl
printf '%s\n' "${COMPREPLY[@]}"
"""


@once
def test_completion(t):
    """By bash; what there is to be completed comes from the help and from the daemon."""
    d = t.daemon(INI)
    env = {**harness.process_environment(), "PATH": harness.BUILD + ":" + os.environ["PATH"], "FIXD_SOCKET": t.path("nobody")}

    def complete(*words):
        done = subprocess.run(["bash", "-c", COMPLETE, "bash", os.path.join(harness.SRC, "contrib/completions/fixctl"), "fixctl", *words],
                              env=env, capture_output=True, text=True, timeout=harness.LIMIT)
        assert (done.returncode, done.stderr) == (0, ""), (words, done)
        return done.stdout.split()

    assert sorted(complete("re")) == ["reload", "remote", "report", "restart"]
    assert complete("--s") == ["--session", "--socket"]
    assert {"help", "status", "run", "doctor"} <= set(complete(""))
    assert complete("help", "wa") == ["warm"]
    assert complete("cleanup", "--st") == ["--stale"] and "--older-than" in complete("cleanup", "--")
    assert complete("--socket", d.socket, "cleanup", "--stale", "") == ["broken", "corpus", "index", "module"]
    assert complete("-s", d.socket, "get", "co") == ["corpus"]
    c = d.client().join(t.dir).define("x$(touch${IFS}pwned)").define("it's")
    assert complete("-s", d.socket, "get", "x") == [r"x\$\(touch\$\{IFS\}pwned\)"] and sorted(complete("-s", d.socket, "get", "i")) == ["index", r"it\'s"]
    assert not os.path.exists("pwned")
    c.close()
    assert complete("graph", "--format", "=", "") == complete("graph", "--format", "=") == ["dot", "svg", "json"]
    assert complete("status", "--format", "=", "t") == ["text", "table"] and complete("warm", "--timeout", "=", "") == []
    assert complete("remote", "") == ["status", "check", "push", "pull", "prune", "keygen"] and complete("remote", "--json", "pu") == ["push", "pull"]
    assert complete("-s", d.socket, "remote", "push", "co") == ["corpus"] and complete("remote", "prune", "") == complete("remote", "check", "") == []
    for command in set(complete("")[1:]) - {"remote"}:
        usage = d.ctl("help", command).out.splitlines()[0]
        assert bool(complete("-s", d.socket, command, "")) == ("NAME" in usage), usage
    assert complete("run", "-c./fixd.ini", "") == complete("run", "-f[a/", "") == [], "and nothing is said"
    assert complete("--socket", "=", d.socket, "get", "co") == ["corpus"]
    assert complete("run", "-i", "m") == complete("run", "--isolate", "m") == ["mount"] and complete("run", "--config", "") == []
    assert complete("-s", d.socket, "run", "-f", "co") == complete("-s", d.socket, "run", "--fixture", "co") == ["corpus"]
    assert complete("get", "") == complete("run", "--", "ls", "-") == complete("report", "--output", "") == complete("graph", "") == []


# What the shell's own part would be given, and which part it asks for.
ZSH = """
compadd() { shift; print -rl -- $@ }
_describe() { print -rl -- ${${(P)@[-1]}/:/	} }
_files() { print FILES }
_normal() { print NORMAL $words }
compset() { [[ $words[CURRENT] == --*=* ]] && IPREFIX=${words[CURRENT]%%=*}= }
words=("${@:2}") CURRENT=$(($# - 1))
. "$1"
"""
FISH = """
source $argv[1]
complete -C "$argv[2..]"
"""


@once
def test_completion_by_others(t):
    d = t.daemon(INI)
    env = {**harness.process_environment(), "PATH": harness.BUILD + ":" + os.environ["PATH"], "FIXD_SOCKET": t.path("nobody"), "HOME": t.dir}

    def complete(shell, *words):
        script, file, head = {"zsh": (ZSH, "_fixctl", ["-f", "-c"]), "fish": (FISH, "fixctl.fish", ["-c"])}[shell]
        done = subprocess.run([shell, *head, script, *(["zsh"] if shell == "zsh" else []), os.path.join(harness.SRC, "contrib/completions", file), "fixctl", *words],
                              env=env, capture_output=True, text=True, timeout=harness.LIMIT)
        assert (done.returncode, done.stderr) == (0, ""), (shell, words, done)
        return sorted(line.split("=")[-1] for line in done.stdout.splitlines())

    there = [shell for shell in ("zsh", "fish") if shutil.which(shell)]
    if not there:
        raise harness.Skip("neither zsh nor fish is installed")
    for shell in there:
        assert complete(shell, "remote", "") == ["check", "keygen", "prune", "pull", "push", "status"], shell
        assert complete(shell, "-s", d.socket, "remote", "push", "") == ["broken", "corpus", "index", "module"], shell
        assert complete(shell, "graph", "--format=") == ["dot", "json", "svg"], shell
        assert complete(shell, "run", "-i", "") == complete(shell, "run", "--isolate", "") == ["auto", "mount", "shim"], shell
        complete(shell, "run", "-c./fixd.ini", "")  # nothing is said
        assert complete(shell, f"--socket={d.socket}", "get", "co") == complete(shell, "-s", d.socket, "get", "co") != [], shell
        assert complete(shell, "-s", d.socket, "run", "-f", "") == ["broken", "corpus", "index", "module"], shell
        # With what the help says of each.
        assert "warm\tbuild now what is not fresh" in complete(shell, "help", "wa") and any(c.startswith("status\t") for c in complete(shell, "sta")), shell
        options = complete(shell, "warm", "--")
        assert "--wait-upload\tend only when all that goes to the remote is there" in options and len({o.split("\t")[0] for o in options}) == len(options), options
        assert "--once" in [o.split("\t")[0] for o in complete(shell, "trace", "--")], shell


def test_warm(t):
    d = t.daemon(INI)
    done = d.ctl("warm", "index", "corpus")
    lines = done.out.splitlines()
    assert len(lines) == 3 and all(": ready" in line for line in lines) and "after" in done.out, lines
    assert d.ctl("warm", "index").out == "index[small]: ready\nindex[large]: ready\n"
    assert "skipped, scope module" in d.ctl("warm", "module").out
    done = d.ctl("warm", code=4)
    assert "broken: failed" in done.out and "status 1\nwhy" in done.err
    d.ctl("warm", "nonsense", code=1)
    assert d.status()["daemon"]["hits"] == 0, "warming is no use"


def test_warm_times_out(t):
    os.mkfifo(t.path("gate"))
    d = t.daemon("[fixture f]\ncommand = cat gate\n")
    # What goes on has not failed.
    done = d.ctl("warm", "--timeout", "50ms", code=5)
    assert done.out == "f: building\n" and "not ready in time; it is still building" in done.err, done
    said = json.loads(d.ctl("warm", "--timeout", "50ms", "--json", code=5).out)
    assert said["state"] == "building" and not said["built"] and "it is still building" in said["error"], said
    with open(t.path("gate"), "w"):
        pass
    wait_for(lambda: d.instance("f")["state"] == "ready", "the build")


def test_log_of_a_build_that_runs(t):
    """What hangs can be looked at."""
    os.mkfifo(t.path("gate"))
    d = t.daemon("[fixture f]\ncommand = echo begun >&2; cat gate; echo over >&2\n")
    assert "nothing called 'f' was ever built" in d.ctl("log", "f", code=1).err
    warm = t.child(lambda: d.ctl("warm"))
    wait_for(lambda: d.instances() and d.instance("f")["state"] == "building", "the build")
    wait_for(lambda: d.ctl("log", "f").out == "begun\n", "its words")
    with open(t.path("gate"), "w"):
        pass
    assert exit_code(warm) == 0 and d.ctl("log", "f").out == "begun\nover\n"


def warm_on_a_terminal(d, *names):
    pid, fd = pty.fork()
    if pid == 0:
        os.environ.pop("LD_PRELOAD", None)
        os.execv(harness.program("fixctl"), ["fixctl", "-s", d.socket, "warm", *names])
    return pid, fd


def read_to_end(fd, seen):
    """Until the program on that terminal has ended."""
    try:
        while True:
            seen += os.read(fd, 4096)
    except OSError:
        os.close(fd)
    return seen


@once
def test_warm_that_waits_for_another(t):
    """How long the last build took tells nothing as long as this one has not begun."""
    os.mkfifo(t.path("gate"))
    d = t.daemon("[fixture first]\ncommand = cat gate\n[fixture then]\ndepends = first\ncommand = sleep 1\n")
    for was_built in False, True:
        pid, fd = warm_on_a_terminal(d, "then")
        seen = b""
        while seen.count(b"0 of 1, building then") < 3:
            seen += os.read(fd, 4096)
        assert b"to go" not in seen, seen
        with open(t.path("gate"), "w"):
            pass
        seen = read_to_end(fd, seen)
        assert exit_code(pid) == 0 and (b"some 1 s to go" in seen or b"some 2 s to go" in seen) == was_built, seen
        d.ctl("cleanup", "--all")


@once
def test_warm_on_a_terminal(t):
    os.mkfifo(t.path("gate"))
    d = t.daemon("[fixture f]\ncommand = cat gate\n")
    pid, fd = warm_on_a_terminal(d)
    seen = b""
    while b"0 of 1, building f" not in seen:
        seen += os.read(fd, 4096)
    with open(t.path("gate"), "w"):
        pass
    seen = read_to_end(fd, seen)
    assert exit_code(pid) == 0 and b"ready" in seen, seen


def test_get_and_log(t):
    d = t.daemon(INI)
    assert d.ctl("get", "corpus").stdout == b"words\n"
    assert d.ctl("log", "corpus").out == "noise\n"
    assert d.ctl("get", "module", "--scope-key", "x.c::t").out == "m\n"
    d.ctl("get", "corpus", "-o", t.path("out"))
    # What is open already is gone on with, where it is.
    with open(t.path("appended"), "w+b") as log:
        for path in "/dev/stdout", "/dev/fd/1", "/proc/self/fd/1":
            log.write(b"here: ")
            log.flush()
            subprocess.run([harness.program("fixctl"), "--socket", d.socket, "get", "corpus", "-o", path], stdout=log, check=True, cwd=t.dir)
        log.seek(0)
        assert log.read() == 3 * (b"here: " + open(t.path("out"), "rb").read())
    assert open(t.path("out")).read() == "words\n"
    done = d.ctl("get", "broken", "-o", t.path("out"), code=4)
    assert "why" in done.err and open(t.path("out")).read() == "words\n", "nothing is lost"
    d.ctl("get", "nonsense", code=1)
    assert d.ctl("get", "corpsu", code=1).err == f"fixctl: there is no fixture 'corpsu' in {os.path.realpath(d.config)} (did you mean 'corpus'?)\n"
    c = d.client().join(t.dir).define("of-a-client")
    assert f"but in the session of {t.dir}: fixctl --session {t.dir}" in d.ctl("get", "of-a-client", code=1).err
    c.close()
    assert "has no param 'smal' (did you mean 'small'?)" in d.ctl("get", "index[smal]", code=1).err
    d.ctl("log", "nonsense", code=1)
    d.ctl("get", code=2)
    out = os.fsdecode(os.fsencode(t.path("out")) + b"\xff")
    assert json.loads(d.ctl("get", "corpus", "-o", out, "--json").stdout)["output"] == t.path("out") + "\ufffd"
    assert d.ctl("get", "corpus", "-o", "/nowhere/out", code=1).err == "fixctl: /nowhere/out: No such file or directory\n"


def test_log_is_the_newest_part(t):
    d = t.daemon("[fixture f]\ncommand = seq -w 20000 >&2; echo x\n")
    d.client().read("f")
    log = d.ctl("log", "f").out
    assert len(log) == 64 << 10 and log.endswith("20000\n"), (len(log), log[-20:])


def test_full_device(t):
    d = t.daemon(INI)
    with open("/dev/full", "w") as full:
        p = subprocess.run([harness.program("fixctl"), "-s", d.socket, "status"], stdout=full, stderr=subprocess.PIPE,
                           env=harness.process_environment())
    assert p.returncode == 1 and b"No space left" in p.stderr


def test_stop(t):
    d = t.daemon(INI)
    v = d.client().attach("corpus")
    d.ctl("stop")
    assert d.process.wait(harness.LIMIT) == 0 and not os.path.exists(d.socket)
    assert not v.current and v.data == b"words\n"
    v.detach()
    assert "no daemon at" in d.ctl("status", code=3).err


@once
def test_a_dead_default_socket_hides_no_other(t):
    uid = os.geteuid()
    if any(os.path.exists(p) for p in (f"/run/user/{uid}/fixd/socket", f"/tmp/fixd-{uid}/socket")):
        raise Skip("this user has a fixd at one of its default sockets")
    runtime, home = t.path("runtime"), t.path("home")
    for directory in (f"{runtime}/fixd", f"{home}/.cache/fixd"):
        os.makedirs(directory, mode=0o700)
    first = f"{runtime}/fixd/socket"
    env = {**harness.process_environment(), "XDG_RUNTIME_DIR": runtime, "HOME": home}
    env.pop("FIXD_SOCKET", None)
    d = t.daemon(INI)
    os.symlink(d.socket, f"{home}/.cache/fixd/socket")
    for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, None):  # somebody else's, and a link to itself
        with socket.socket(socket.AF_UNIX, kind or socket.SOCK_STREAM) as other:
            if kind is None:
                os.symlink(first, first)
            else:
                other.bind(first)
            if kind == socket.SOCK_STREAM:
                other.listen(1)
            got = subprocess.run([harness.program("fixctl"), "get", "corpus"], capture_output=True, env=env)
            assert got.stdout == b"words\n", (kind, got)
            os.unlink(first)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as dead:
        dead.bind(first)
    got = subprocess.run([harness.program("fixctl"), "get", "corpus"], capture_output=True, env=env)
    assert got.stdout == b"words\n", got
    d.stop()
    got = subprocess.run([harness.program("fixctl"), "get", "corpus"], capture_output=True, env=env)
    assert f"no daemon at {runtime}/fixd/socket".encode() in got.stderr, got


@once
def test_default_socket_in_any_environment(t):
    """Of daemon and client: a directory that only one of them is told of, or that is none, leads to the same socket."""
    uid = 30000 + os.getpid() % 30000
    if os.geteuid() or not harness.can_be_reached(harness.program("fixd")) or os.path.exists(f"/run/user/{uid}"):
        raise Skip("no other user can run it")
    own, closed = t.path("own"), t.path("o" * 100)
    alias = f"/tmp/fixd-{uid}/socket"
    os.chmod(t.dir, 0o755)
    for directory in own, closed:
        os.mkdir(directory, 0o700)
        os.chown(directory, uid, uid)
    config = t.write("default.ini", "[fixture f]\ncommand = echo f\n")
    as_user = {"user": uid, "group": uid, "extra_groups": [], "cwd": own}
    base = {k: v for k, v in harness.process_environment().items() if k not in ("FIXD_SOCKET", "XDG_RUNTIME_DIR", "HOME")}
    environments = [base, *({**base, "XDG_RUNTIME_DIR": d} for d in (own, closed, "own", t.path("none"), t.dir, "")), {**base, "TMPDIR": own}]

    daemons = []

    def daemon(env):
        read_end, write_end = os.pipe()
        d = subprocess.Popen([harness.program("fixd"), "--config", config, "--ready-fd", str(write_end)], env=env, pass_fds=[write_end],
                             stderr=subprocess.PIPE, **as_user)
        daemons.append(d)
        os.close(write_end)
        ready = os.read(read_end, 1)
        os.close(read_end)
        return d, ready

    def get(env):
        return subprocess.run([harness.program("fixctl"), "get", "f"], env=env, capture_output=True, **as_user)

    try:
        for server in environments:
            d, ready = daemon(server)
            assert ready == b"\n", (server, d.communicate())
            for env in environments:
                done = get(env)
                assert done.stdout == b"f\n", (server, env, done)
            assert os.path.islink(alias) == (server.get("XDG_RUNTIME_DIR") == own), server
            other, ready = daemon(base)
            assert not ready and b"another fixd listens" in other.communicate()[1]
            d.kill()  # what it leaves is in nobody's way
            d.communicate()
        d, ready = daemon(base)
        assert ready and get(base).stdout == b"f\n"
        d.terminate()
        d.communicate()
        d, ready = daemon(environments[1])
        assert ready and os.path.islink(alias)
        d.terminate()
        d.communicate()
        assert not os.path.lexists(alias)
    finally:
        for d in daemons:
            d.kill()
            d.wait()
        shutil.rmtree(os.path.dirname(alias), ignore_errors=True)


@once
def test_fixctl_command_line(t):
    for args, code, word in [(["--help"], 0, "cleanup"), (["help", "warm"], 0, "Usage: fixctl warm"), (["warm", "--help"], 0, "Usage: fixctl warm"),
                             (["--version"], 0, "fixctl 0"), ([], 2, "Usage: fixctl"), (["dance"], 2, "no command 'dance'"),
                             (["help", "dance"], 2, "no command 'dance'\n"),
                             (["stauts"], 2, "no command 'stauts' (did you mean 'status'?)"), (["sta"], 2, "(did you mean 'status'?)"),
                             (["help", "--help"], 0, "Usage: fixctl ["), (["help", "-j"], 0, "Usage: fixctl ["),
                             (["help", "wram"], 2, "(did you mean 'warm'?)"), (["status", "a", "b"], 2, "Try 'fixctl help status'"),
                             (["status", "--format=xml"], 2, "expected one of"), (["cleanup", "--older-than", "x"], 2, "--older-than x"),
                             (["cleanup", "a", "--all"], 2, "either names or --all"), (["--nonsense"], 2, "Try 'fixctl --help'"),
                             (["explain", ""], 2, "an empty argument"), (["ps", ""], 2, "an empty argument"), (["status", ""], 2, "an empty argument")]:
        done = subprocess.run([harness.program("fixctl"), *args], capture_output=True, env=harness.process_environment())
        assert done.returncode == code and word in (done.stdout + done.stderr).decode(), (args, done)
    help_lines = subprocess.run([harness.program("fixctl"), "--help"], capture_output=True).stdout.splitlines()
    assert len(help_lines) < 24 and max(map(len, help_lines)) <= 80


@once
def test_graph(t):
    t.write("x", "1")
    d = t.daemon("[fixture a]\nfile = x\n[fixture b]\ncommand = sleep 0.3; echo b\ndepends = a\n[fixture c]\ndepends = a, b\n"
                 "command = echo c\n[fixture d]\nparams = 1, 2\ncommand = echo $FIXD_PARAM\n[fixture e]\ncommand = exit 1\n"
                 "[fixture f]\nfile = x\nscope = module\n")
    d.ctl("warm", "a", "b", "c", "d", "e", code=4)
    dot = d.ctl("graph").out
    assert dot.startswith("digraph fixtures {") and '"c" -> "b" [color' in dot and '"c" -> "a";' in dot and '"b" -> "a" [color' in dot
    assert "critical path: " in dot and '"f" [label = "f [module]\nabsent"' in dot and "failed" in dot
    import xml.etree.ElementTree as xml

    svg = xml.fromstring(d.ctl("graph", "--format=svg").out)
    names = [e.text for e in svg.iter("{http://www.w3.org/2000/svg}title")]
    assert names == ["a", "b", "c", "d", "e", "f"]
    lines = [e for e in svg.iter("{http://www.w3.org/2000/svg}path") if e.get("marker-end")]
    assert len(lines) == 3 and len([e for e in lines if e.get("stroke") == "#c00000"]) == 2
    assert "expected one of dot, svg, json" in d.ctl("graph", "--format=png", code=2).err


def points(path):
    """Of a path of M, C and L in absolute coordinates: many points on it."""
    at, found = (0, 0), []
    for letter, numbers in re.findall(r"([MCL])([-0-9 ]+)", path):
        n = [int(x) for x in numbers.split()]
        if letter == "C":
            curve = [at, *zip(n[0::2], n[1::2])]
            for k in range(41):
                u, v = 1 - k / 40, k / 40
                found.append(tuple(u**3 * curve[0][i] + 3 * u * u * v * curve[1][i] + 3 * u * v * v * curve[2][i] + v**3 * curve[3][i] for i in (0, 1)))
        elif letter == "L":
            found += [tuple(at[i] + (n[i] - at[i]) * k / 40 for i in (0, 1)) for k in range(41)]
        at = tuple(n[-2:])
    return found


@once
def test_no_arrow_passes_behind_a_box(t):
    depends = {0: "", 1: "0", 2: "1 0", 3: "2 0", 4: "3 1 0", 5: "", 6: "5", 7: "6 5 0", 8: "4 5 6", 9: "8 0 1 5", 10: "", 11: "10 0"}
    d = t.daemon("".join(f"[fixture f{n}]\ncommand = true\n" + (f"depends = {', '.join('f' + x for x in on.split())}\n" if on else "")
                         for n, on in depends.items()))
    import xml.etree.ElementTree as xml

    svg = xml.fromstring(d.ctl("graph", "--format=svg").out)
    boxes = [tuple(int(e.get(k)) for k in ("x", "y", "width", "height")) for e in svg.iter("{http://www.w3.org/2000/svg}rect")]
    arrows = [points(e.get("d")) for e in svg.iter("{http://www.w3.org/2000/svg}path") if e.get("marker-end")]
    assert len(boxes) == 12 and len(arrows) == sum(len(on.split()) for on in depends.values())
    for x, y, width, height in boxes:
        for arrow in arrows:
            inside = [p for p in arrow if x < p[0] < x + width and y < p[1] < y + height]
            assert not inside, (inside, (x, y, width, height))
    assert all(0 <= y <= int(svg.get("height")) for arrow in arrows for _, y in arrow)


def test_doctor(t):
    done = subprocess.run([harness.program("fixctl"), "doctor"], capture_output=True, env=harness.process_environment())
    out = done.stdout.decode()
    assert done.returncode == 0
    for name in ("io_uring", "dirty pages", "huge pages", "address region", "open files", "inotify", "tmpfs", "memory"):
        assert f" {name}: " in out, out
    wrapper = harness.without("io_uring_setup")
    if wrapper:
        out = subprocess.run([*wrapper, harness.program("fixctl"), "doctor"], capture_output=True).stdout.decode()
        assert "lacks io_uring: refused" in out


def test_cleanup_options(t):
    clock = harness.Clock(t)
    d = t.daemon(INI, env=clock.env)
    c = d.client()
    c.read("corpus")
    clock.advance(100)
    c.read("index[small]")
    d.ctl("warm", "index[large]")
    removed = lambda *args: json.loads(d.ctl("cleanup", "--json", *args).out)["removed"]
    assert removed("--older-than", "50s") == ["corpus"]
    assert removed("--unused") == ["index[large]"]
    assert removed("index[large]") == [] and removed("index[small]") == ["index[small]"]


@once
def test_init(t):
    """Of what a project has, a file that is right, and in which the tests run."""
    def init(*args, code=0):
        done = subprocess.run([harness.program("fixctl"), "init", *args], cwd=t.dir, capture_output=True, text=True, env=harness.process_environment())
        assert done.returncode == code, done
        return done

    check(t, init("-n").stdout, "no problems", code=0)
    assert init(t.write("words", "x\n"), code=1).stderr == f"fixctl: {t.path('words')}: Not a directory\n"
    os.unlink(t.path("words"))
    os.unlink(t.path("fixd.ini"))
    t.write("CMakeLists.txt", "project(p)\nenable_testing()\n")
    t.write("pyproject.toml", "[tool.pytest.ini_options]\n")
    t.write("go.mod", "module p\n")
    t.write("package.json", '{"scripts": {"test": "node --test"}}\n')
    t.write("tests/data/deep/words", "w" * 5000)
    t.write("tests/fixtures/a b/data/x", "x")
    for alike in "test/data", "test-data", "test_data":
        t.write(f"{alike}/x", "x")
    t.write("test dätä/data/x", "x")
    t.write("a$b/data/x", "what it is in would mean something else")
    t.write("t/base.t", "")
    t.write("Makefile", "check:\n\ttrue\n")
    for passed_over in ".git/data/x", "build/data/x", "node_modules/data/x", "a/b/c/d/e/data/x":
        t.write(passed_over, "x")
    os.makedirs(t.path("empty/data"))
    os.symlink("tests", t.path("testdata"))
    found = json.loads(init("--json", "--dry-run").stdout)
    assert [s["name"] for s in found["suites"]] == ["CTest", "pytest", "Go", "npm", "prove", "make"], found
    # Go remembers results, and does not know of fixtures.
    assert found["suites"][2]["command"].endswith("go test -count=1 ./..."), found
    # Tests have each in a variable of its own.
    assert [(f["name"], f["directory"]) for f in found["fixtures"][:4]] == [("test-data", "test/data"), ("test-d--t---data", "test dätä/data"), ("test-data-2", "test-data"), ("test_data-3", "test_data")]
    assert found["fixtures"][4:] == [{"name": "tests-data", "directory": "tests/data", "files": 1, "bytes": 5000},
                                 {"name": "tests-fixtures", "directory": "tests/fixtures", "files": 1, "bytes": 1}], found
    assert not os.path.exists(t.path("fixd.ini"))
    done = init()
    assert "fixd.ini: written, with 6 directories of data\n" in done.stdout and "-- ctest --test-dir build\n" in done.stdout, done
    ini = open(t.path("fixd.ini")).read()
    assert max(map(len, ini.splitlines())) < 80, ini
    os.mkdir(t.path("other"))
    assert init("other").stdout.endswith("\nNext: cd other && fixctl run -c fixd.ini -- make check\n")
    assert "there already, and stays as it is" in init(code=1).stderr and open(t.path("fixd.ini")).read() == ini
    check(t, ini, "6 fixtures, no problems", code=0)
    # Its examples are right, too.
    t.write("fixd.ini", "")
    uncommented = [line[2:] if line.startswith("# ") and (" = " in line or line.startswith("# [")) else line for line in ini.splitlines()]
    check(t, "\n".join(uncommented) + "\n", "9 fixtures, no problems", code=0)
    t.write("fixd.ini", ini)
    done = subprocess.run([harness.program("fixctl"), "run", "-c", "fixd.ini", "--", "sh", "-c", "echo y > tests/data/deep/words; wc -c < tests/data/deep/words"],
                          cwd=t.dir, capture_output=True, text=True, env=harness.process_environment())
    assert (done.returncode, done.stdout.strip()) == (0, "2"), done
    assert os.path.getsize(t.path("tests/data/deep/words")) == 5000
    assert "No such file" in init(t.path("nowhere"), code=1).stderr and "unexpected argument 'b'" in init("a", "b", code=2).stderr


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
