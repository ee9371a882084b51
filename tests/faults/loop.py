#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The fault loop: every system call of daemon, helper and client, and every operation of the ring, fails once, and then for ever from there on,
with each error it may give. Afterwards: nobody has crashed or hangs, what failed was said in a sentence, a later try works, and no
descriptor, memory, process or file is left.

loop.py [daemon] [epoll] [helper] [remote] [client] [operations]
Of a room a part: FAULTS=openat,read for some calls; FAULT_FIXTURES=service,clone for some helpers, or words,files for some images of a remote;
FAULT_WHO=builder or remote for one of the two that speak to one; FAULT_STRIDE=N for each N-th place.
A table at the end, and status 1 if anything was wrong. Needs strace.
"""

import collections
import errno
import glob
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "daemon"))
import harness
import remote as remotes
from harness import Case, FixdError, program, wait_for

# Not close(2): the kernel closes, whatever it says; nor brk(2), which fails without an error.
ERRORS = {
    "accept4": "EMFILE ENOMEM ECONNABORTED EINTR", "access": "ENOMEM", "bind": "ENOMEM", "chmod": "EIO", "clone": "EAGAIN ENOMEM",
    "clone3": "EAGAIN ENOMEM", "connect": "EAGAIN EINTR ECONNREFUSED", "dup": "EMFILE", "dup2": "EBUSY EINTR", "dup3": "EBUSY EMFILE",
    "epoll_create1": "EMFILE ENOMEM", "epoll_ctl": "ENOMEM ENOSPC", "epoll_pwait2": "EINTR", "epoll_wait": "EINTR", "execve": "ENOMEM EACCES",
    "fallocate": "ENOSPC EINTR EOPNOTSUPP", "fchmod": "EIO", "fcntl": "EAGAIN ENOMEM", "flock": "EINTR ENOLCK", "fstat": "ENOMEM", "fstatfs": "EIO",
    "ftruncate": "EINTR ENOSPC", "getcwd": "ENOMEM", "getdents64": "ENOMEM EIO", "getsockopt": "ENOBUFS", "inotify_add_watch": "ENOSPC ENOMEM",
    "inotify_init1": "EMFILE ENOMEM", "inotify_rm_watch": "EINVAL", "io_uring_enter": "EAGAIN EBUSY EINTR ENOMEM EBADF", "io_uring_register": "ENOMEM EINVAL EPERM",
    "io_uring_setup": "ENOMEM EPERM ENOSYS", "ioctl": "ENOMEM EINTR", "kill": "EPERM", "listen": "EADDRINUSE", "lseek": "EIO", "lstat": "ENOMEM",
    "madvise": "EAGAIN", "memfd_create": "EMFILE ENOMEM", "mkdir": "ENOSPC", "mkdirat": "ENOSPC", "mmap": "ENOMEM EAGAIN", "mprotect": "ENOMEM",
    "mremap": "ENOMEM", "munmap": "ENOMEM", "newfstatat": "ENOMEM EIO", "open": "EMFILE ENOMEM", "openat": "EMFILE ENFILE ENOMEM EINTR EIO",
    "pidfd_open": "EMFILE ENOMEM ESRCH", "pidfd_send_signal": "EPERM", "pipe2": "EMFILE", "poll": "EINTR ENOMEM", "ppoll": "EINTR ENOMEM",
    "prctl": "EPERM", "pread64": "EINTR EIO", "prlimit64": "EPERM", "pwrite64": "EINTR ENOSPC EIO", "read": "EINTR EIO ENOMEM", "readlink": "ENOMEM",
    "recvfrom": "EINTR ENOMEM", "recvmsg": "EINTR ENOMEM", "rename": "ENOSPC", "rmdir": "EBUSY", "rt_sigtimedwait": "EPERM", "sendmsg": "EAGAIN EINTR ENOBUFS ETOOMANYREFS EPIPE",
    "sendto": "EAGAIN EINTR ENOBUFS EPIPE", "setpgid": "EPERM", "setpriority": "EPERM", "setsockopt": "ENOBUFS", "shutdown": "EPERM", "signalfd4": "EMFILE ENOMEM",
    "socket": "EMFILE ENOBUFS", "socketpair": "EMFILE ENOMEM", "stat": "ENOMEM", "statfs": "EIO", "statx": "ENOMEM", "symlinkat": "ENOSPC",
    "timerfd_create": "EMFILE", "unlink": "EBUSY", "unlinkat": "EBUSY EIO", "utimensat": "EIO", "vfork": "EAGAIN", "wait4": "EINTR ECHILD",
    "waitid": "EINTR ECHILD", "write": "EINTR ENOSPC EIO", "writev": "EINTR ENOSPC",
}
OPERATIONS = ["EAGAIN", "ENOMEM", "EINTR", "ENOBUFS", "ECONNRESET", "EINVAL"]
STRIDE = int(os.environ.get("FAULT_STRIDE", "1"))
ONLY = [c for c in os.environ.get("FAULTS", "").split(",") if c]
WHO = os.environ.get("FAULT_WHO", "")
FIXTURE = [f for f in os.environ.get("FAULT_FIXTURES", "").split(",") if f]
LIMIT = 30

INI = """
[policy]
timeout = 20s
retry-after = 1ms
[fixture plain]
command = cat input
watch = input
[fixture tree]
tree = echo one > "$FIXD_DIR/file"
[fixture objects]
plugin = PLUGIN
[fixture service]
service = echo up; exec sleep 1000
teardown = true
"""
PLUGIN = """
#include "fixd-builder.h"
int fixd_build(struct fixd_builder *b)
{
	char *p = fixd_alloc(b, 5000);

	if (!p)
		return fixd_fail(b, "there is no memory for the object");
	fixd_set_root(b, p);
	return 0;
}
"""
FIXTURES = ["plain", "tree", "objects", "service"]
# What else only its helper makes otherwise.
MORE = """
[fixture clone]
service = cat "$FIXD_DATA/file"; exec sleep 1000
data = tree
clones = 1
[fixture template]
process = exec TEMPLATE
"""
# What another machine may have made.
REMOTE = """
[policy]
retry-after = 1ms
[fixture words]
command = seq 1 3000
watch-by = content
remote = yes
[fixture files]
tree = mkdir "$FIXD_DIR/d"; echo one > "$FIXD_DIR/d/f"
watch-by = content
remote = yes
"""
VALUE = "".join(f"{k}\n" for k in range(1, 3001)).encode()
TEMPLATE = """
#include <fixd.h>

int main(int argc, char **argv)
{
	return fixd_fork_here(&argc, &argv, NULL) < 0;
}
"""

table = collections.OrderedDict()
problems = []


def note(where, what, right, detail=""):
    tried, bad = table.get((where, what), (0, 0))
    table[(where, what)] = (tried + 1, bad + (not right))
    if os.environ.get("FAULT_VERBOSE"):
        print(f"{time.monotonic():.2f} {where} {what}", flush=True)
    if not right:
        problems.append(f"{where}: {detail}")
        print(f"# WRONG {where}: {detail}"[:4000], flush=True)


def calls_of(trace, before_main):
    """The names of the calls in their order, each with its number; what the loader does, after each execve, is not ours to mend."""
    numbers, skip, ours = collections.Counter(), collections.Counter(), []
    for line in trace:
        name = re.match(r"(?:\d+ +)?(\w+)\(", line)
        if not name:
            continue
        name = name.group(1)
        numbers[name] += 1
        if name == "execve" and line.rstrip().endswith("= 0"):
            skip = collections.Counter(before_main)
            continue
        if skip[name] > 0:
            skip[name] -= 1
            continue
        ours.append((name, numbers[name]))
    return ours


def before_main(command):
    done = subprocess.run(["strace", "-o", "/dev/stdout", *command], capture_output=True, text=True)
    names = re.findall(r"^(\w+)\(", done.stdout, re.M)
    # What --version does itself: it writes, and ends.
    return collections.Counter(n for n in names if n not in ("write", "exit_group", "execve"))


def places(ours):
    """(call, when, error): each once; and for ever from the first one, from a later one, and from each tenth."""
    by_name = collections.defaultdict(list)
    for name, number in ours:
        if name in ERRORS and (not ONLY or name in ONLY):
            by_name[name].append(number)
    for name, numbers in sorted(by_name.items()):
        for error in ERRORS[name].split():
            for number in numbers[::STRIDE]:
                yield name, str(number), error
            # Signals and a full queue are over at some time.
            if error == "EINTR":
                continue
            for number in sorted({numbers[0], numbers[len(numbers) // 2], *numbers[::10 * STRIDE]}):
                yield name, f"{number}+", error


class Place:
    """A directory with a plugin that was compiled, for one process that is to fail."""

    def __init__(self, mode):
        wrapper = [program("tests/without"), "io_uring_setup"] if mode == "epoll" else []
        self.case = Case(mode, wrapper)
        self.case.write("input", "one\n")
        self.so = self.case.plugin("objects", PLUGIN)
        self.ini = INI.replace("PLUGIN", self.so)

    def again(self):
        self.case.daemons.clear()
        while harness.VIEWS:
            harness.VIEWS.pop().detach()
        for c in self.case.clients:
            c.close()
        self.case.clients.clear()
        self.case.write("input", "one\n")
        for path in glob.glob(self.case.path("log*")) + glob.glob(self.case.path("strace*")):
            os.remove(path)

    def end(self):
        shutil.rmtree(self.case.dir, ignore_errors=True)


def try_for(function, limit):
    """Until it does not raise; the last failure."""
    end = time.monotonic() + limit
    while True:
        try:
            function()
            return None
        except (FixdError, AssertionError, subprocess.TimeoutExpired) as e:
            if isinstance(e, FixdError):
                assert len(e.sentence) > 15, f"no sentence: {e.sentence!r}"
            if time.monotonic() > end:
                return e
            time.sleep(0.01)


def scenario(case, d, limit):
    """What a daemon does in its life, but for its end. None, or what did not work in the end."""

    def read(name, value):
        def once():
            c = harness.Client(d.socket)
            try:
                v = c.attach(name, timeout=limit)
                data = v.data
                v.detach()
            finally:
                c.close()
            assert value is None or data == value, f"{name} is {data!r}"
        return once

    def build():
        c = harness.Client(d.socket)
        try:
            c.join(case.dir, "run").define("made", "scope=session")
            b = c.begin("made", timeout=limit)
            v = b.commit(b"made\n", note=b"note") if isinstance(b, harness.Build) else b
            assert v.data == b"made\n"
            v.detach()
        finally:
            c.close()

    steps = [read(n, None if n in ("tree", "objects") else b"one\n" if n == "plain" else b"up") for n in FIXTURES] + [build]
    for step in steps:
        if e := try_for(step, limit):
            return e
    case.write("input", "other\n")
    if e := try_for(read("plain", b"other\n"), limit):
        return e
    for command in (["status"], ["report"], ["reload"], ["restart"], ["status"]):
        if e := try_for(lambda: d.ctl(*command, timeout=LIMIT), limit):
            return e
    if e := try_for(read("plain", b"other\n"), limit):
        return e
    return try_for(lambda: d.ctl("cleanup", "--all", timeout=LIMIT), limit)


def left_behind(case):
    """Processes that have our directory in their environment or command line, the socket, the directory of trees."""
    found = [p for p in (case.path("socket"),) if os.path.exists(p)]
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f, open(f"/proc/{pid}/environ", "rb") as g:
                words = f.read() + g.read()
        except OSError:
            continue
        if case.dir.encode() in words and int(pid) != os.getpid() and b"strace" not in words:
            found.append(f"{pid} {words[:200]!r}")
    return found


def listens(path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        return s.connect_ex(path) == 0


def one_daemon(place, prefix, env, for_ever):
    """Runs a daemon with a fault. None, or what was wrong."""
    case, limit = place.case, 1 if for_ever else 15
    place.again()
    start = time.monotonic()
    d = case.daemon(place.ini, prefix=prefix, ready=False, env=env)
    try:
        wait_for(lambda: d.process.poll() is not None or listens(d.socket), "it to start", LIMIT)
        failure = scenario(case, d, limit) if d.process.poll() is None else None
        if d.process.poll() is None:
            if failure and not for_ever:
                return f"it does not work again: {failure}"
            d.process.send_signal(signal.SIGTERM)
        code = d.process.wait(LIMIT)
    except (AssertionError, subprocess.TimeoutExpired) as e:
        d.process.kill()
        d.process.wait()
        return f"{type(e).__name__} {e} after {time.monotonic() - start:.0f} s\n{d.words()[-1500:]}"
    finally:
        if d.process.poll() is None:
            d.process.kill()
            d.process.wait()
    # The loader of the program that takes its place at a restart gives up by itself.
    if code == 127 and "error while loading shared libraries" in d.words():
        code = 1
    if code < 0 or code not in (0, 1, 78):
        return f"it ended with {code}\n{d.words()[-1500:]}"
    if code and "fixd: " not in d.words():
        return f"it ended with {code} without a sentence"
    # Who could not begin has nothing to remove: the next one does.
    if code:
        for path in (case.path("socket"), case.path("socket.lock")):
            if os.path.exists(path):
                os.remove(path)
    try:
        wait_for(lambda: not left_behind(case), "everything to go", 5)
    except AssertionError:
        # What cannot be removed for ever is not.
        if not for_ever or any(p[0].isdigit() for p in left_behind(case)):
            return f"left behind: {left_behind(case)}"
    for path in left_behind(case):
        os.remove(path)
    return None


def daemon(mode):
    place = Place(mode)
    before = before_main([program("fixd"), "--version"])
    wrong = one_daemon(place, ["strace", "-D", "-o", place.case.path("strace")], None, False)
    assert not wrong, wrong
    with open(place.case.path("strace"), errors="replace") as f:
        ours = calls_of(f, before)
    for call, when, error in places(ours):
        prefix = ["strace", "-D", "-qq", "-o", place.case.path("strace"), "-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={when}"]
        wrong = one_daemon(place, prefix, None, "+" in when)
        note(f"daemon, {mode}", call, not wrong, f"{call} {error} {when}: {wrong}")
    place.end()


def operations():
    place = Place("ring")
    count, so = place.case.write("count", "0\n"), program("tests/faults/ring.so")
    wrong = one_daemon(place, [], {"LD_PRELOAD": so, "FIXD_FAULT_COUNT": count}, False)
    assert not wrong, wrong
    with open(count) as f:
        n = int(f.read())
    for error in OPERATIONS:
        for k in [str(i) for i in range(1, n + 1, STRIDE)] + [f"{i}+" for i in range(1, n + 1, 10 * STRIDE)]:
            wrong = one_daemon(place, [], {"LD_PRELOAD": so, "FIXD_FAULT": f"{k}:{getattr(errno, error)}"}, "+" in k)
            note("operations of the ring", error, not wrong, f"{error} {k}: {wrong}")
    place.end()


def wrapper(case, name, inject, real):
    """A program that is another one, traced by strace with the words of `inject`, if there are any. A script cannot be executed by its descriptor."""
    source = case.write(os.path.basename(name) + ".c", f"""
#include <sys/stat.h>
#include <unistd.h>
int main(int argc, char **argv)
{{
	struct stat st;

	(void)argc;
	if (stat("{inject}", &st) < 0 || !st.st_size)
		execv("{real}", argv);
	argv[0] = "{real}";
	execv("{case.path(name)}.sh", argv);
	return 127;
}}
""")
    subprocess.run([os.environ.get("CC", "cc").split()[0], "-o", case.path(name), source], check=True)
    os.chmod(case.write(name + ".sh", f'#!/bin/sh\nexec strace -q -o {inject}.trace $(cat {inject}) {real} "$@"\n'), 0o755)


def helper():
    place = Place("ring")
    case = place.case
    inject = case.path("inject")
    wrapper(case, "builder", inject, program("fixd-builder"))
    before = before_main([program("fixd-builder"), "--version"])
    case.program("template", TEMPLATE)
    d = case.daemon(place.ini + MORE.replace("TEMPLATE", case.path("template")), env={"FIXD_BUILDER": case.path("builder")})
    c = d.client()

    def build(words):
        with open(inject, "w") as f:
            f.write(words)
        d.ctl("cleanup", name, "--force", timeout=LIMIT, code=None)
        c.attach(name, timeout=LIMIT).detach()

    c.attach("tree").detach()
    for name in [*FIXTURES, "clone", "template"]:
        if FIXTURE and name not in FIXTURE:
            continue
        build("-s 0")
        d.ctl("cleanup", name, "--force", timeout=LIMIT)
        wait_for(lambda: "+++" in open(inject + ".trace").read(), "its end")
        with open(inject + ".trace", errors="replace") as f:
            ours = calls_of(f, before)
        for call, when, error in places(ours):
            wrong = None
            try:
                build(f"-e trace={call} -e inject={call}:error={error}:when={when}")
            except FixdError as e:
                wrong = None if len(e.sentence) > 15 else f"no sentence: {e.sentence!r}"
            except (AssertionError, subprocess.TimeoutExpired) as e:
                wrong = str(e)
            os.truncate(inject, 0)
            if not wrong and (e := try_for(lambda: (d.ctl("cleanup", name, "--force", code=None), c.attach(name, timeout=LIMIT).detach()), 2 * LIMIT)):
                wrong = f"it does not work again: {e}"
            note(f"helper, {name}", call, not wrong, f"{call} {error} {when}: {wrong}")
    case.finish(False)


def remote():
    """A helper that takes an image from a remote, or brings one there, and its fixd-remote, which may fail in any way: then the image is built."""
    place = Place("ring")
    case = place.case
    os.mkdir(case.path("bin"))
    os.mkdir(case.path("run"), 0o700)
    shutil.copy(program("fixd-builder"), case.path("bin"))
    inject = {}
    for name, real in ("builder", case.path("bin/fixd-builder")), ("bin/fixd-remote", program("fixd-remote")):
        inject[name] = case.path(os.path.basename(name) + ".inject")
        wrapper(case, name, inject[name], real)
    key = subprocess.run([program("fixd-remote"), "keygen", case.path("key")], capture_output=True, text=True, check=True).stdout.strip()
    server = remotes.Server()
    section = f"[remote]\nurl = {server.url}\npublic-keys = {key}\nwrite = yes\nkey-file = {case.path('key')}\ntimeout = 20s\n"
    d = case.daemon(section + REMOTE, env={"FIXD_BUILDER": case.path("builder"), "XDG_RUNTIME_DIR": case.path("run")})
    c = d.client()
    d.ctl("warm", "--wait-upload")
    wait_for(lambda: len(server.manifests()) == 2, "both to be on the server")
    files = dict(server.http.files)

    def goes_up():
        return [t for t in d.status()["daemon"]["remote"]["transfers"] if t["up"]]

    def build(who, words, brings):
        # What the one before has built instead, and nobody waited for: it would be found there.
        wait_for(lambda: not goes_up(), "all to be there", LIMIT)
        server.http.files.clear()
        server.http.files.update({} if brings else files)
        # What is remembered of remotes that are sick; somebody may be at it.
        for path in glob.glob(case.path("run/fixd/remote-*")):
            os.remove(path)
        d.ctl("cleanup", name, "--force", timeout=LIMIT, code=None)
        if os.path.exists(inject[who] + ".trace"):
            os.remove(inject[who] + ".trace")
        with open(inject[who], "w") as f:
            f.write(words)
        try:
            v = c.attach(name, timeout=LIMIT)
            assert name != "words" or v.data == VALUE, f"it is {v.data[:50]!r}"
            assert name != "files" or open(v.path + "/d/f").read() == "one\n", os.listdir(v.path)
            v.detach()
            if brings:
                d.ctl("warm", name, "--wait-upload", timeout=LIMIT, code=None)
            wait_for(lambda: "+++" in open(inject[who] + ".trace").read(), "it to be traced to its end")
        finally:
            os.truncate(inject[who], 0)

    for who in inject:
        before = before_main([program("fixd-builder" if who == "builder" else "fixd-remote"), "--version"])
        for name, brings in ("words", False), ("words", True), ("files", False), ("files", True):
            if (FIXTURE and name not in FIXTURE) or WHO not in who:
                continue
            build(who, "-s 0", brings)
            assert not brings or server.manifests(), "it was taken from somewhere"
            with open(inject[who] + ".trace", errors="replace") as f:
                ours = calls_of(f, before)
            for call, when, error in places(ours):
                wrong = None
                try:
                    build(who, f"-e trace={call} -e inject={call}:error={error}:when={when}", brings)
                except FixdError as e:
                    wrong = None if len(e.sentence) > 15 and who == "builder" else f"it fails: {e.sentence!r}"
                except (AssertionError, subprocess.TimeoutExpired) as e:
                    wrong = str(e)
                if not wrong and (e := try_for(lambda: build("builder", "-s 0", False), LIMIT)):
                    wrong = f"it does not work again: {e}"
                note(f"{'helper' if who == 'builder' else 'fixd-remote'}, {'to' if brings else 'from'} remote", call, not wrong, f"{name} {call} {error} {when}: {wrong}")
    server.close()
    case.finish(False)


def client():
    place = Place("ring")
    case = place.case
    d = case.daemon(place.ini)
    session = [program("tests/faults/session"), d.socket, case.dir]
    before = before_main([session[0]])
    d.client().attach("service").detach()
    done = subprocess.run(["strace", "-o", case.path("trace"), *session], capture_output=True)
    assert done.returncode == 0, done.stdout
    with open(case.path("trace"), errors="replace") as f:
        ours = calls_of(f, before)
    for call, when, error in places(ours):
        wrong = None
        d.ctl("cleanup", "made", code=None)
        try:
            done = subprocess.run(["strace", "-qq", "-o", case.path("trace"), "-e", f"trace={call}", "-e", f"inject={call}:error={error}:when={when}",
                                   *session], capture_output=True, timeout=90 if "+" in when else LIMIT)
            if done.returncode not in (0, 3):
                wrong = f"it ended with {done.returncode}: {done.stdout.decode()[-500:]}"
            elif subprocess.run(session, timeout=LIMIT, stdout=subprocess.DEVNULL).returncode:
                wrong = "it does not work again"
        except subprocess.TimeoutExpired:
            wrong = "it hangs"
        note("client", call, not wrong, f"{call} {error} {when}: {wrong}")
    # Notes wait for somebody who takes them.
    c = d.client().join(case.dir, "run")
    d.ctl("cleanup", "--all", "--force")
    while c.adopt("*"):
        pass
    case.finish(False)


def main():
    rooms = {"daemon": lambda: daemon("ring"), "epoll": lambda: daemon("epoll"), "helper": helper, "client": client, "remote": remote, "operations": operations}
    if not shutil.which("strace"):
        sys.exit("loop.py: strace is needed")
    start = time.monotonic()
    # Who has no more time wants to know what was tried.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("loop.py: ended before all was tried"))
    try:
        for name in sys.argv[1:] or rooms:
            rooms[name]()
    finally:
        for (where, what), (tried, bad) in table.items():
            print(f"{where:24} {what:20} {tried:6} tried {bad:6} wrong")
        print(f"{sum(t for t, _ in table.values())} faults, {len(problems)} wrong, {time.monotonic() - start:.0f} s")
    sys.exit(1 if problems else 0)


main()
