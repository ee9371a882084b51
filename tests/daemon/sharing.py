# SPDX-License-Identifier: MIT
"""What clients build: registered fixtures, offers, sessions, runs, quotas."""

import errno
import json
import os
import pwd
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import wire
from harness import (COW, LIB, LIMIT, Build, Client, FixdError, Skip, View, exit_code, main, once, process_environment, program, request,
                     wait_for)

INI = "[fixd]\n"


def refused(number, *words):
    """A context that wants a FixdError."""
    class Refused:
        def __enter__(self):
            return self

        def __exit__(self, kind, error, where):
            assert isinstance(error, FixdError), f"not refused: {error!r}"
            assert error.number == number, f"{errno.errorcode.get(error.number)}: {error.sentence}"
            for word in words:
                assert word in error.sentence, f"{word!r} is not in: {error.sentence}"
            self.sentence = error.sentence
            return True

    return Refused()


def member(d, t, run="run", name="value", settings=(), observer=False):
    c = d.client().join(t.dir, run, observer)
    return c.define(name, *settings) if name else c


def built(c, name="value", data=b"data", **more):
    b = c.begin(name)
    assert isinstance(b, Build), "somebody has built it already"
    return b.commit(data, **more)


def attached(c, name="value", **more):
    v = c.begin(name, **more)
    assert isinstance(v, View), "it is to be built again"
    return v


def background(t, work):
    """Runs work() in a thread; result() waits for it."""
    class Background(threading.Thread):
        def run(self):
            self.value = self.error = None
            try:
                self.value = work()
            except BaseException as e:
                self.error = e

        def result(self):
            self.join(LIMIT)
            assert not self.is_alive(), "it did not end"
            if self.error:
                raise self.error
            return self.value

    thread = Background()
    thread.start()
    return thread


def shared(d):
    """The instances of the session; its root is that of the ini file, so it is the first."""
    return d.status()["sessions"][0]["instances"]


def waiters(d, n):
    """Until n attaches wait, as the daemon's log says."""
    wait_for(lambda: d.status()["daemon"]["waiting"] == n, f"{n} who wait")


def test_built_once_and_attached_by_others(t):
    d = t.daemon(INI)
    v = built(member(d, t), data=b"the bytes")
    assert v.data == b"the bytes" and v.built and v.generation == 1 and v.current
    other = attached(member(d, t, run="another"))
    assert other.data == b"the bytes" and not other.built and other.generation == 1
    assert not v.reused and other.reused and not attached(member(d, t)).reused
    cow = attached(member(d, t), flags=COW)
    cow.write(0, b"THE")
    assert cow.data == b"THE bytes" and cow.reset() == 1 and cow.data == b"the bytes"
    i = shared(d)[0]
    assert (i["name"], i["source"], i["state"], i["leases"], i["builds"]) == ("value", "client", "ready", 4, 1)


def test_empty_and_large_images(t):
    d = t.daemon(INI)
    c = member(d, t)
    assert built(c, data=b"").data == b""
    c.define("large")
    large = os.urandom(1 << 20) * 40
    assert built(c, "large", large).data == large


def test_waiters_get_what_the_builder_built(t):
    d = t.daemon(INI)
    b = member(d, t).begin("value")
    others = [member(d, t) for _ in range(5)]
    threads = [background(t, lambda c=c: attached(c)) for c in others]
    waiters(d, 5)
    b.commit(b"for all")
    views = [x.result() for x in threads]
    assert all(v.data == b"for all" and v.built for v in views)
    assert shared(d)[0]["builds"] == 1


def test_dead_builder_is_replaced_by_a_waiter(t):
    d = t.daemon(INI)
    ready, go = os.pipe()

    def build_and_die():
        c = Client(d.socket).join(t.dir, "run").define("value")
        assert isinstance(c.begin("value"), Build)
        os.write(go, b"x")
        signal.pause()

    pid = t.child(build_and_die)
    assert os.read(ready, 1) == b"x"
    other = background(t, lambda: member(d, t).begin("value"))
    waiters(d, 1)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    b = other.result()
    assert isinstance(b, Build)
    assert b.commit(b"by the second").data == b"by the second"


def test_dead_builder_with_children_that_live_on(t):
    """A child that was forked while it built holds all its descriptors."""
    d = t.daemon(INI)
    ready, go = os.pipe()
    children = []

    def build_fork_and_die():
        c = Client(d.socket).join(t.dir, "run").define("value")
        c.begin("value")
        child = os.fork()
        if child == 0:
            signal.pause()
        os.write(go, struct.pack("i", child))
        signal.pause()

    pid = t.child(build_fork_and_die)
    children.append(struct.unpack("i", os.read(ready, 4))[0])
    try:
        other = background(t, lambda: member(d, t).begin("value"))
        waiters(d, 1)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        assert isinstance(other.result(), Build)
    finally:
        os.kill(children[0], signal.SIGKILL)


def test_builders_that_all_die(t):
    """After three it is the fixture's fault."""
    d = t.daemon(INI)
    for _ in range(3):
        c = member(d, t)
        b = c.begin("value")
        assert isinstance(b, Build)
        os.close(channel_of(d, b))
    with refused(errno.EIO, "3 clients in a row ended while they built it"):
        wait_for(lambda: not isinstance(member(d, t).begin("value"), Build), "the failure")
    # The next run tries again.
    d.ctl("cleanup", "--all")
    assert isinstance(member(d, t, run="later").begin("value"), Build)


def channel_of(d, build):
    """The descriptor of a build's channel: the second field of struct fixd_build."""
    import ctypes

    return ctypes.cast(build.handle, ctypes.POINTER(ctypes.c_int))[2]


def test_failure_is_told_to_all_and_kept_for_the_run(t):
    d = t.daemon(INI)
    b = member(d, t).begin("value")
    other = background(t, lambda: member(d, t).begin("value"))
    waiters(d, 1)
    b.abort("ZeroDivisionError: division by zero\nin line 3")
    with refused(errno.EIO, "fixture 'value' cannot be built: ZeroDivisionError: division by zero\nin line 3"):
        other.result()
    with refused(errno.EIO, "ZeroDivisionError"):
        member(d, t).begin("value")
    assert shared(d)[0]["builds"] == 1
    for c in list(d.case.clients):
        c.close()
    d.case.clients.clear()
    assert isinstance(member(d, t, run="the next run").begin("value"), Build)


def test_given_up_builds_are_somebody_else_s(t):
    d = t.daemon(INI)
    b = member(d, t).begin("value")
    other = background(t, lambda: member(d, t).begin("value"))
    waiters(d, 1)
    b.abort(None)
    assert other.result().commit(b"by another").data == b"by another"


def test_builders_that_wait_for_each_other(t):
    d = t.daemon(INI)
    one, two = member(d, t, name="a").define("b"), member(d, t, name=None)
    a, b = one.begin("a"), two.begin("b")
    waiting = background(t, lambda: one.begin("b"))
    waiters(d, 1)
    with refused(errno.EDEADLK, "its builder waits for what this client builds"):
        two.begin("a")
    with refused(errno.EDEADLK):
        two.begin("b")
    b.commit(b"b")
    assert waiting.result().data == b"b" and a.commit(b"a").data == b"a"


def test_who_cannot_build_is_told(t):
    d = t.daemon("[fixture mine]\nclient = yes\ndoc = built by who needs it\n")
    with refused(errno.EIO, "it is built by the clients that use it"):
        d.client().attach("mine")
    assert "the clients that use it build it" in d.ctl("warm", "mine").out
    v = built(d.client(), "mine", b"x")
    assert d.client().read("mine") == b"x" and d.ctl("get", "mine").out == "x"
    assert v.generation == 1


def test_version_makes_it_stale_max_age_does_not(t):
    d = t.daemon(INI)
    v = built(member(d, t, settings=["version=1", "max-age=1h"]))
    c = member(d, t, settings=["version=1", "max-age=2h"])
    assert attached(c).generation == 1 and v.current
    c.define("value", "version=2", "max-age=2h")
    assert not v.current
    b = c.begin("value")
    assert isinstance(b, Build) and b.commit(b"two").generation == 2
    assert shared(d)[0]["stale_cause"] == "its definition changed"
    assert v.data == b"data", "a holder keeps what it has"


def test_definition_that_changes_during_the_build(t):
    d = t.daemon(INI)
    c = member(d, t, settings=["version=1"])
    b = c.begin("value")
    member(d, t, settings=["version=2"])
    with refused(errno.EAGAIN, "not wanted any more"):
        b.commit(b"old")
    assert c.begin("value").commit(b"new").data == b"new"


def test_watched_input(t):
    d = t.daemon(INI)
    t.write("input", "1")
    c = member(d, t, settings=["watch=input"])
    v = built(c)
    t.write("input", "22")
    b = c.begin("value")
    assert isinstance(b, Build) and not v.current
    t.write("input", "333")
    with refused(errno.EAGAIN, "begin again"):
        b.commit(b"half old")
    assert c.begin("value").commit(b"new").data == b"new"
    assert "changed" in shared(d)[0]["stale_cause"]


def test_inputs_that_are_not_looked_at_in_one_turn(t):
    d = t.daemon(INI)
    for name in range(30):
        os.makedirs(t.path(f"input/{name}"))
        for file in range(100):
            os.mknod(t.path(f"input/{name}/{file}"))
    c = member(d, t, settings=["watch=input"])
    gone = t.child(lambda: member(d, t, settings=["watch=input"]).begin("value"))
    os.kill(gone, signal.SIGKILL)
    os.waitpid(gone, 0)
    b = c.begin("value")
    for n in range(30):
        t.write(f"input/{n}/{n}", "1")
    with refused(errno.EAGAIN, "begin again"):
        b.commit(b"half old")
    d.ctl("restart")
    built(c, data=b"new")
    assert attached(c).data == b"new"
    t.write("input/29/99", "22")
    assert isinstance(c.begin("value"), Build)


def test_next_builder_after_a_failure(t):
    d = t.daemon(INI)
    t.write("input", "1")
    c = member(d, t, settings=["watch=input"])
    c.begin("value").abort("a failure")
    t.write("input", "22")
    builder = t.child(lambda: isinstance(member(d, t).begin("value"), Build) and signal.pause())
    wait_for(lambda: shared(d)[0]["state"] == "building", "it is tried again")
    waiter = t.child(lambda: built(member(d, t, name=None)) and True)
    wait_for(lambda: d.status()["daemon"]["waiting"] == 1, "the other one waits")
    os.kill(builder, signal.SIGKILL)
    os.waitpid(builder, 0)
    assert exit_code(waiter) == 0


def test_dependencies(t):
    d = t.daemon(INI)
    c = member(d, t, name="a").define("b")
    a = built(c, "a", b"1")
    b = c.begin("b", depends=[a]).commit(b"b of 1")
    assert attached(c, "b", depends=[a]).generation == 1
    assert shared(d)[1]["depends"] == ["a"]
    c.define("a", "version=2")
    a2 = c.begin("a").commit(b"2")
    build = c.begin("b", depends=[a2])
    assert isinstance(build, Build)
    build.commit(b"b of 2")
    assert shared(d)[1]["stale_cause"] == "its dependency 'a' was rebuilt and differs"
    c.define("a", "version=3")
    a3 = c.begin("a").commit(b"2")
    assert a3.generation == 2, "the same bytes"
    assert attached(c, "b", depends=[a3]).generation == 2
    foreign = member(d, t, name=None)
    with refused(errno.EINVAL, "does not hold"):
        foreign.begin("b", depends=[a3])
    assert b.data == b"b of 1"


def test_scopes_and_params(t):
    d = t.daemon(INI)
    c = member(d, t, name="m", settings=["scope=module"]).define("d", "scope=definition")
    places = {}
    for key in ("p/a.py::T::test[1]", "p/a.py::test_2", "p/b.py::test"):
        got = c.begin("m", key=key)
        places[key] = got.commit(key.encode()) if isinstance(got, Build) else got
    assert [v.data for v in places.values()] == [b"p/a.py::T::test[1]"] * 2 + [b"p/b.py::test"]
    assert isinstance(c.begin("d", key="p/a.py::T::test[x[1]::y]"), Build)
    keys = {(i["name"], i["scope_key"]) for i in shared(d)}
    assert keys == {("m", "p/a.py"), ("m", "p/b.py"), ("d", "p/a.py::T::test")}
    built(c, "m[10]", b"ten")
    assert built(c, "m[20]", b"twenty").data == b"twenty" and attached(c, "m[10]").data == b"ten"


def test_bad_definitions(t):
    d = t.daemon("[fixture taken]\ncommand = echo\n")
    with refused(errno.ENOTCONN, "join one first"):
        d.client().define("value")
    c = member(d, t)
    for settings, words in [
        (["max-age=10d"], "max-age = 10d: expected a number with ms, s, m or h"), (["check=true"], "unknown key 'check'"),
        (["user=root"], "unknown key 'user'"), (["scope=world"], "expected one of session"),
        (["doc=1", "doc=2"], "key 'doc' is there twice"), (["watch-by=content"], "unknown key 'watch-by'"),
    ]:
        with refused(errno.EINVAL, words):
            c.define("value", *settings)
    for name in ("a b", "x[1]", "n" * 200):
        with refused(errno.EINVAL, "a name has"):
            c.define(name)
    with refused(errno.EINVAL, "have more than"):
        c.define("value", "doc=" + "x" * 8000)
    with refused(errno.EISCONN, "in session"):
        c.join(t.dir, "again")
    with refused(errno.ENOENT, "cannot be the root"):
        d.client().join(t.path("nowhere"))
    with refused(errno.ENOTDIR, "is no directory"):
        d.client().join(t.write("file", ""))
    assert isinstance(c.begin("value"), Build), "what was registered before is still there"


def test_bad_publications(t):
    """Each costs that build, nothing else."""
    d = t.daemon(INI)
    good = member(d, t)
    v = built(good)
    sealed = os.memfd_create("x", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(sealed, b"12345")
    os.fchmod(sealed, 0o444)
    import fcntl

    fcntl.fcntl(sealed, 1033, 15)
    plain = os.memfd_create("y", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(plain, b"12345")
    ends = os.pipe()
    disk = os.open(t.write("file", "12345"), os.O_RDONLY)
    commit = struct.pack("<IIQQQ", 1, 0, 5, 0, 0)
    with_note = struct.pack("<IIQQQ", 1, 1, 5, 0, 0)
    cases = [(commit, [plain], "not a sealed memory file"), (commit, [ends[0]], "not a sealed memory file"),
             (commit, [disk], "not a sealed memory file"), (commit, [], "not a sealed memory file"),
             (commit, [sealed, sealed], "not a sealed memory file"), (with_note, [sealed], "not a sealed memory file"),
             (with_note, [sealed, plain], "not a sealed memory file"),
             (struct.pack("<IIQQQ", 1, 0, 6, 0, 0), [sealed], "is not what it said"), (b"", [], None), (b"xxxx", [], None),
             (b"\xff" * 100, [sealed], None), (struct.pack("<II", 2, 99999) + b"why", [], "why"), (commit[:-1], [sealed], None)]
    before = d.count_fds()
    for n, (message, fds, words) in enumerate(cases):
        c = member(d, t, name=f"bad{n}")
        b = c.begin(f"bad{n}")
        s = socket.socket(fileno=os.dup(channel_of(d, b)))
        if message:
            socket.send_fds(s, [message], fds)
        if words:
            answer = s.recv(8192)
            assert words == "why" or words.encode() in answer, answer
            with refused(errno.EIO, words):
                member(d, t, name=None).begin(f"bad{n}")
        s.close()
        c.close()
        d.case.clients.remove(c)
    assert v.current and attached(member(d, t)).data == b"data"
    for fd in (sealed, plain, disk, *ends):
        os.close(fd)
    v.detach()
    # The image that all of them left alone is all there is besides the connections.
    for c in list(t.clients):
        c.close()
    t.clients.clear()
    wait_for(lambda: d.count_fds() <= before, "no descriptor of theirs to be left")


def test_build_that_takes_too_long(t):
    d = t.daemon(INI)
    c = member(d, t, settings=["timeout=100ms"])
    b = c.begin("value")
    with refused(errno.EIO, "timed out after 100.0 ms"):
        member(d, t, name=None).begin("value")
    with refused(errno.EAGAIN):
        b.commit(b"too late")


def test_more_than_memory_max(t):
    d = t.daemon("[fixd]\nmemory-max = 4M\n")
    c = member(d, t)
    with refused(errno.EDQUOT, "cannot have"):
        c.begin("value").commit(b"x" * (5 << 20))
    c.define("small", "memory-max=1M")
    with refused(errno.EDQUOT, "cannot have"):
        c.begin("small").commit(b"x" * (2 << 20))


def test_session_of_other_root_is_another(t):
    d = t.daemon(INI)
    os.mkdir(t.path("a")), os.mkdir(t.path("b"))
    one = d.client().join(t.path("a"), "r").define("value")
    two = d.client().join(t.path("b"), "r").define("value")
    built(one, data=b"of a")
    assert built(two, data=b"of b").data == b"of b"
    os.symlink(t.path("a"), t.path("link"))
    assert attached(d.client().join(t.path("link"), "r").define("value")).data == b"of a"
    roots = [s["root"] for s in d.status()["sessions"]]
    assert roots == [os.path.realpath(t.path(x)) for x in (".", "a", "b")]
    assert [s["total_runs"] for s in d.status()["sessions"]] == [0, 1, 1]
    assert d.status()["sessions"][1]["last_run"] and not d.status()["sessions"][0]["last_run"]


def two_users(t, ini=""):
    if os.geteuid() != 0:
        raise Skip("only root can be two users")
    nobody = pwd.getpwnam("nobody").pw_uid
    os.chmod(t.dir, 0o755)
    return t.daemon(f"[fixd]\nallow-users = nobody\n{ini}"), nobody


def copied_fixctl(t):
    """The directory of the build may be closed to others."""
    shutil.copy(program("fixctl"), t.path("fixctl"))
    return t.path("fixctl")


def test_users_do_not_see_each_other(t):
    d, nobody = two_users(t)
    tool = copied_fixctl(t)
    mine = built(member(d, t), data=b"secret")

    def other():
        c = Client(d.socket).join(t.dir, "run").define("value")
        got = c.begin("value")
        assert isinstance(got, Build)
        out = subprocess.run([tool, "--socket", d.socket, "status", "--json"], capture_output=True, text=True,
                             env=process_environment()).stdout
        return [s["uid"] for s in json.loads(out)["sessions"]] == [0, nobody] and got.commit(b"other").data == b"other"

    assert exit_code(t.child(other, nobody)) == 0
    assert mine.data == b"secret" and attached(member(d, t)).data == b"secret"


def test_quotas(t):
    d, nobody = two_users(t, "user-memory-max = 1M\nuser-images-max = 2\nuser-builds-max = 2\nuser-connections-max = 4\n")

    def other():
        c = Client(d.socket).join(t.dir, "run")
        for n in range(6):
            c.define(f"v{n}")
        with refused(errno.EDQUOT, "cannot have"):
            c.begin("v0").commit(b"x" * (2 << 20))
        one, two = c.begin("v1"), c.begin("v2")
        with refused(errno.EIO, "has 2 builds under way already; user-builds-max"):
            c.begin("v3")
        v1, v2 = one.commit(b"1"), two.commit(b"2")
        with refused(errno.EINVAL, "has 2 images in use already; user-images-max"):
            c.begin("v4").commit(b"4")
        v1.detach()
        c.begin("v5").commit(b"5").detach()
        with refused(errno.EINVAL, "user-memory-max"):
            c.define("v6", "version=1")
            c.begin("v6").commit(b"x" * (1 << 20))
        more = [Client(d.socket) for _ in range(3)]
        with refused(errno.EACCES, "has 4 connections already; user-connections-max"):
            Client(d.socket).attach("v1")
        return len(more) == 3 and v2.data == b"2"

    assert exit_code(t.child(other, nobody)) == 0
    for n in range(10):
        built(member(d, t, name=f"w{n}"), f"w{n}")


def test_reuse_no_lives_as_long_as_the_run(t):
    d = t.daemon(INI)
    with refused(errno.ENOTCONN, "lives no longer than a run"):
        d.client().join(t.dir).define("value", "reuse=no").begin("value")
    one, two = [member(d, t, settings=["reuse=no"]) for _ in range(2)]
    built(one, data=b"of the run").detach()
    assert attached(two).data == b"of the run"
    other = member(d, t, run="another", settings=["reuse=no"])
    assert isinstance(other.begin("value"), Build)
    one.close(), d.case.clients.remove(one)
    assert attached(member(d, t, settings=["reuse=no"])).data == b"of the run"
    for c in list(d.case.clients):
        c.close()
    d.case.clients.clear()
    wait_for(lambda: not shared(d), "the end of its instances")


def test_reuse_no_of_the_ini_file_in_another_session(t):
    """The instance is the ini file's session's, the run is that of the session that was joined."""
    d = t.daemon("[policy]\nmax-age = none\n[fixture value]\nclient = yes\nreuse = no\n")
    os.makedirs(t.path("elsewhere"))
    for n in range(25):
        c = d.client().join(t.path("elsewhere"), f"run{n}")
        if n == 0:
            built(c, data=b"of the run").detach()
        c.close()
        d.case.clients.remove(c)
        wait_for(lambda: d.status()["daemon"]["connections"] == 1, "the end of the run")
        assert not shared(d), shared(d)
    d.ctl("restart")
    assert not shared(d)


def test_runs_of_one_name_in_two_sessions(t):
    """Each has its own of what the ini file says lives as long as a run, and keeps it when the other one ends."""
    d = t.daemon("[policy]\nmax-age = none\n[fixture value]\nclient = yes\nreuse = no\n")
    os.makedirs(t.path("elsewhere"))
    one, two = d.client().join(t.dir, "ci"), d.client().join(t.path("elsewhere"), "ci")
    assert built(one, data=b"one").data == b"one" and built(two, data=b"two").data == b"two"
    d.ctl("restart")
    assert attached(one).data == b"one" and attached(two).data == b"two"
    one.close()
    d.case.clients.remove(one)
    wait_for(lambda: len(shared(d)) == 1, "the end of a run")
    assert attached(two).data == b"two"


def test_last_of_the_run_is_told(t):
    d = t.daemon(INI)
    one, two, three = [member(d, t, settings=["reuse=no"]) for _ in range(3)]
    views = [built(one, teardown=True), attached(two), attached(three)]
    assert [views[0].release(), views[1].release()] == [(False, None)] * 2, "others could still use it"
    two.closing()
    one.closing()
    three.closing()
    assert views[2].release() == (True, None)
    assert views[2].release() == (False, None) and views[0].release(1) == (False, None), "once"


class NoDescriptors:
    """While all numbers of this process are taken."""

    def __enter__(self):
        import resource
        self.before = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (256, self.before[1]))
        self.all = []
        try:
            while True:
                self.all.append(os.open("/dev/null", os.O_RDONLY))
        except OSError as e:
            assert e.errno == errno.EMFILE

    def __exit__(self, *_):
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE, self.before)
        for fd in self.all:
            os.close(fd)


def test_who_is_told_needs_a_descriptor(t):
    """What is told once is not told to a process that cannot take it."""
    d = t.daemon(INI)
    c = member(d, t, settings=["reuse=no"])
    v = built(c, note=b"pid 42")
    with NoDescriptors(), refused(errno.EMFILE, "no descriptor"):
        v.release()
    assert v.release() == (True, b"pid 42")
    v.detach()
    c.close()
    c = member(d, t, run="another")
    v = built(c, note=b"pid 43")
    v.detach()
    d.ctl("cleanup", "--all")
    with NoDescriptors(), refused(errno.EMFILE, "no descriptor"):
        c.adopt()
    assert c.adopt() == ("value", b"pid 43")


def test_commit_without_a_descriptor_leaves_no_lease(t):
    d = t.daemon(INI)
    c = member(d, t)
    b = c.begin("value")
    assert LIB.fixd_build_memory(b.handle, 5)
    with NoDescriptors(), refused(errno.EMFILE, "no descriptor"):
        b.commit(b"hello")
    wait_for(lambda: not any(i["leases"] for i in shared(d)), "no lease")


def test_forked_child_at_the_commit(t):
    """It has the memory of the image mapped, which then cannot be sealed."""
    d = t.daemon(INI)
    c = member(d, t)
    b = c.begin("value")
    assert LIB.fixd_build_memory(b.handle, 5)
    r, w = os.pipe()
    pid = t.child(lambda: os.read(r, 1) == b"x")
    assert b.commit(b"hello").data == b"hello"
    os.write(w, b"x")
    assert exit_code(pid) == 0
    os.close(r)
    os.close(w)


@once
def test_waiting_to_be_the_last_has_one_time_limit(t):
    d = t.daemon(INI)
    v = built(member(d, t, settings=["reuse=no"]))
    d.pause()
    begun = time.monotonic()
    try:
        with refused(errno.ETIMEDOUT, "has not answered"):
            v.release(1)
        assert time.monotonic() - begun < 5, "a second, and two of grace"
    finally:
        d.resume()


@once
def test_signals_do_not_make_waiting_endless(t):
    """Of a daemon that takes nothing, with signals that come more often than anything is waited for."""
    d = t.daemon(INI)
    c = member(d, t)
    d.pause()
    before = signal.signal(signal.SIGUSR1, lambda *_: None)
    main_thread, stop = threading.get_ident(), threading.Event()

    def interrupt():
        while not stop.wait(0.1):
            signal.pthread_kill(main_thread, signal.SIGUSR1)

    interrupting = background(t, interrupt)
    try:
        begun = time.monotonic()
        for _ in range(2000):
            c.closing()
        assert time.monotonic() - begun < 2 * 10 + 5, "twice what the library waits at most"
    finally:
        stop.set()
        interrupting.result()
        signal.signal(signal.SIGUSR1, before)
        d.resume()


def test_all_wait_and_one_is_the_last(t):
    d = t.daemon(INI)
    members = [member(d, t, settings=["reuse=no"]) for _ in range(4)]
    views = [built(members[0], teardown=True)] + [attached(c) for c in members[1:3]]
    waiting = []
    for c, v in zip(members, views):
        c.closing()
        waiting.append(background(t, lambda v=v: v.release(LIMIT)))
    # The fourth has never used it, but could.
    members[3].closing()
    assert sorted(w.result()[0] for w in waiting) == [False, False, True]


def test_keeper_is_the_last(t):
    """Who can do it best does it, however early it is done."""
    d = t.daemon(INI)
    keeper, other = [member(d, t, settings=["reuse=no"]) for _ in range(2)]
    v, w = built(keeper, keeper=True, note=b"a note"), attached(other)
    keeper.closing(), other.closing()
    waiting = background(t, lambda: v.release(LIMIT))
    assert w.release(LIMIT) == (False, None)
    assert waiting.result() == (True, b"a note")


def test_keeper_that_asks_early_comes_again(t):
    d = t.daemon(INI)
    keeper, other = [member(d, t, settings=["reuse=no"]) for _ in range(2)]
    v, w = built(keeper, keeper=True, note=b"a note"), attached(other)
    assert v.release() == (False, None)
    other.closing()
    assert w.release() == (False, None)
    keeper.closing()
    assert v.release(LIMIT) == (True, b"a note")


def test_release_times_out(t):
    d = t.daemon(INI)
    one, two = [member(d, t, settings=["reuse=no"]) for _ in range(2)]
    v, w = built(one, teardown=True, keeper=True, note=b"n"), attached(two)
    with refused(errno.ETIMEDOUT, "others could still use it"):
        v.release(0.05)
    two.closing()
    one.closing()
    assert w.release(LIMIT) == (True, b"n"), "it is somebody else's now"


def killed_keeper(t, d, ready, go):
    def work():
        c = Client(d.socket).join(t.dir, "run").define("value", "reuse=no")
        c.begin("value").commit(b"data", note=b"what to do", keeper=True)
        os.write(go, b"x")
        signal.pause()

    pid = t.child(work)
    assert os.read(ready, 1) == b"x"
    return pid


def test_killed_keeper_leaves_it_to_the_last(t):
    d = t.daemon(INI)
    other = member(d, t, name=None)
    pid = killed_keeper(t, d, *os.pipe())
    v = attached(other)
    other.closing()
    waiting = background(t, lambda: v.release(LIMIT))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert waiting.result() == (True, b"what to do")


def test_orphan_of_the_run_is_adopted_by_the_observer(t):
    d = t.daemon(INI)
    observer = member(d, t, name=None, observer=True)
    pid = killed_keeper(t, d, *os.pipe())
    assert observer.adopt() is None, "it is in use"
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert wait_for(observer.adopt, "the orphan") == ("value", b"what to do")
    assert observer.adopt() is None, "once"


def test_orphans_outlive_the_run(t):
    d = t.daemon(INI)
    c = member(d, t, settings=["version=1"])
    built(c, note=b"one").detach()
    c.define("value", "version=2")
    assert isinstance(c.begin("value"), Build)
    c.close(), d.case.clients.remove(c)
    later = member(d, t, run="later", name=None)
    assert later.adopt("other*") is None
    assert later.adopt("val*") == ("value", b"one") and later.adopt() is None


def test_torn_down_images_leave_no_orphan(t):
    d = t.daemon(INI)
    c = member(d, t, settings=["reuse=no"])
    v = built(c, note=b"one")
    c.closing()
    assert v.release() == (True, b"one")
    c.close(), d.case.clients.remove(c)
    assert member(d, t, run="later", name=None).adopt() is None


def test_restarted_daemon_knows_members_again(t):
    d = t.daemon(INI)
    c = member(d, t, settings=["reuse=no"])
    built(c).detach()
    d.kill()
    t.daemon(INI)
    assert built(c, data=b"again").data == b"again", "joined and registered by itself"


def test_forked_child_is_a_member_of_its_own(t):
    d = t.daemon(INI)
    c = member(d, t, settings=["reuse=no"])
    v = built(c, teardown=True)

    def child():
        w = attached(c)
        c.closing()
        return w.data == b"data" and w.release() == (False, None)

    assert exit_code(t.child(child)) == 0
    c.closing()
    assert v.release(LIMIT) == (True, None)


@once
def test_without_a_daemon(t):
    os.environ["FIXD_DISABLE"] = "1"
    try:
        c = Client(t.path("nothing")).join(t.dir, "run").define("value", "max-age=1h")
        v = built(c, data=b"local", teardown=True)
        assert v.data == b"local" and v.current and v.built
        cow = attached(c, flags=COW)
        cow.write(0, b"L")
        assert cow.data == b"Local" and cow.reset() == 1 and cow.data == b"local"
        assert isinstance(c.begin("value", key="another"), Build)
        assert v.release(1) == (True, None) and v.release(1) == (False, None) and c.adopt() is None
        w = built(c, data=b"again", note=b"pid 42")
        assert w.data == b"again" and w.release() == (True, b"pid 42")
        c.closing()
        c.close()
    finally:
        del os.environ["FIXD_DISABLE"]


def test_many_processes_build_once(t):
    d = t.daemon(INI)

    def work():
        c = Client(d.socket).join(t.dir, "run").define("value")
        got = c.begin("value")
        if isinstance(got, Build):
            with open(t.path("runs"), "a") as f:
                f.write("run\n")
            got = got.commit(b"z" * 100000)
        return got.data == b"z" * 100000

    assert [exit_code(pid) for pid in [t.child(work) for _ in range(30)]] == [0] * 30
    assert t.runs() == 1


def test_sessions_are_limited_and_idle_ones_go(t):
    d = t.daemon(INI)
    for n in range(70):
        os.mkdir(t.path(f"s{n}"))
        c = d.client().join(t.path(f"s{n}"))
        c.close(), d.case.clients.remove(c)
    assert len(d.status()["sessions"]) <= 65
    kept = [d.client().join(t.path(f"s{n}")) for n in range(63)]
    with refused(errno.EDQUOT, "64 sessions in use"):
        d.client().join(t.path("s69"))
    assert kept


# Attacks, and what once went wrong.

CLIENT_INI = "[fixture mine]\nclient = yes\n"


def test_cached_requests_of_one_user_are_not_another_s(t):
    d, nobody = two_users(t, CLIENT_INI)
    built(d.client(), "mine", b"secret")
    assert d.client().read("mine") == b"secret"

    def other():
        with refused(errno.EIO, "built by the clients"):
            Client(d.socket).attach("mine")
        got = Client(d.socket).begin("mine")
        return isinstance(got, Build) and got.commit(b"other").data == b"other"

    assert exit_code(t.child(other, nobody)) == 0
    assert d.client().read("mine") == b"secret"


def test_registered_name_of_the_ini_file(t):
    d, nobody = two_users(t, "[fixture corpus]\ncommand = echo real\n[fixture dep]\ndepends = corpus\ncommand = cat $FIXD_DEP_corpus\n")
    built(member(d, t, name="corpus"), "corpus", b"registered")
    assert d.client().read("corpus") == b"real\n" and d.client().read("dep") == b"real\n"

    def other():
        return Client(d.socket).read("corpus") == b"real\n"

    assert exit_code(t.child(other, nobody)) == 0


def test_run_that_begins_while_a_failed_build_is_tried_again(t):
    d = t.daemon(INI)
    t.write("input", "1")
    c = member(d, t, settings=["watch=input"])
    c.begin("value").abort("a failure")
    t.write("input", "22")
    b = c.begin("value")
    member(d, t, run="another", name=None)
    v = b.commit(b"data")
    assert v.current
    t.write("input", "333")
    assert isinstance(c.begin("value"), Build), "its input is still watched"


def test_polled_inputs_that_change_with_the_commit(t):
    d = t.daemon(INI)
    os.symlink("loop", t.path("loop"))  # what cannot be watched is polled
    t.write("input", "1")
    c = member(d, t, settings=["watch=loop/x,input"])
    for n in range(3):
        b = c.begin("value")
        t.write("input", "2" * (n + 2))
        with refused(errno.EAGAIN, "begin again"):
            b.commit(b"data", note=b"note")
    assert "its inputs changed during each of 3 builds" in shared(d)[0]["error"]
    assert c.adopt() is None, "the builder was told to build again, so it has torn down what it had"


def test_torn_down_images_are_not_given_out(t):
    d = t.daemon(INI)
    one = member(d, t, settings=["reuse=no"])
    v = built(one, note=b"n")
    one.closing()
    assert v.release() == (True, b"n")
    late = member(d, t, settings=["reuse=no"])
    assert isinstance(late.begin("value"), Build)


def test_reused_images_are_torn_down_when_they_are_retired(t):
    """Other runs may use them: a run has no last member."""
    d = t.daemon(INI)
    a, b = member(d, t, run="A"), member(d, t, run="B")
    v, w = built(a, data=b"db", note=b"drop db"), attached(b)
    a.closing()
    assert v.release(1) == (False, None) and attached(member(d, t, run="C")).data == b"db"
    for c in list(t.clients):
        c.close()
    t.clients.clear()
    d.ctl("cleanup", "--all")
    assert member(d, t, run="D", name=None).adopt() == ("value", b"drop db")
    assert w.data == b"db"


def test_releases_are_few(t):
    d = t.daemon(INI)
    one, two = [member(d, t, settings=["reuse=no"]) for _ in range(2)]
    v = built(one, teardown=True)
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.connect(d.socket)

    for m in (request("hello", version=wire.VERSION), request("join", root=os.path.realpath(t.dir).encode(), run=b"run"),
              request("attach", timeout_ms=1000, name=b"value")):
        s.send(m)
        answer = socket.recv_fds(s, 9000, 64)[0]
    serial = struct.unpack_from("<Q", answer, 24)[0]
    for number in (7, 8):
        s.send(request("release", id=number, serial=serial, flags=1, timeout_ms=3600000))
    kind, _, _, number, error = struct.unpack_from("<HHIQi", s.recv(9000))
    assert (kind, number, error) == (0xffff, 8, -errno.EALREADY)
    assert v.release() == (False, None) and two
    s.close()


def test_elected_member_is_dead(t):
    """What it could not be told of is somebody else's."""
    d = t.daemon(INI)
    observer = member(d, t, name=None, observer=True)
    b = member(d, t, settings=["reuse=no"])
    v = built(b, note=b"what to do")
    ready, go = os.pipe()

    def work():
        c = Client(d.socket).join(t.dir, "run").define("value", "reuse=no")
        x = attached(c)
        c.closing()
        os.write(go, b"x")
        x.release(LIMIT)

    pid = t.child(work)
    os.read(ready, 1)
    waiters(d, 1)
    b.closing()
    d.pause()
    asked = background(t, v.release)
    time.sleep(0.1)  # it may or may not have asked by then: both must end well
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    d.resume()
    if asked.result()[0]:
        return
    v.detach()
    assert wait_for(observer.adopt, "the orphan") == ("value", b"what to do")


def test_commit_gives_what_was_committed(t):
    d = t.daemon(INI)
    c1, c2 = member(d, t, name="a").define("b"), member(d, t, name=None)
    a1 = built(c1, "a", b"1")
    c1.define("a", "version=2")
    a2 = c2.begin("a").commit(b"2")
    b1 = c1.begin("b", depends=[a1])
    other = background(t, lambda: c2.begin("b", depends=[a2]))
    waiters(d, 1)
    assert b1.commit(b"of 1").data == b"of 1"
    assert other.result().commit(b"of 2").data == b"of 2"


def test_image_that_is_too_old_at_once(t):
    d = t.daemon(INI)
    c = member(d, t, settings=["max-age=0s"])
    assert c.begin("value").commit(b"x").data == b"x"
    assert isinstance(c.begin("value"), Build)


def test_the_same_request_twice_with_dependencies(t):
    d = t.daemon("[fixture f]\ncommand = echo x\n[fixture g]\ncommand = echo y\n")
    c = d.client()
    v = c.attach("f")
    assert [c.begin("g", depends=[v]).data for _ in range(2)] == [b"y\n"] * 2


def test_notes_are_counted(t):
    d, nobody = two_users(t, "user-memory-max = 1M\nuser-images-max = 4\n")

    def other():
        c = Client(d.socket).join(t.dir, "run")
        with refused(errno.EINVAL, "user-memory-max"):
            for n in range(10):
                c.define("v", f"version={n}")
                c.begin("v").commit(b"1", note=os.urandom(300 << 10)).detach()
        while c.adopt():
            pass
        return n <= 4

    assert exit_code(t.child(other, nobody)) == 0


@once
def test_instances_of_one_user_are_limited(t):
    d, nobody = two_users(t)

    def other():
        c = Client(d.socket).join(t.dir).define("v", "scope=function")
        held = [c.begin("v", key=f"{n}") for n in range(50)]
        with refused(errno.ENOSPC, "instances already"):
            for n in range(5000):
                if n % 50 == 49:
                    held.append(c.begin("v", key=f"x{n}"))
                else:
                    c.begin("v", key=f"x{n}").commit(b"1")
        return True

    d.configure("[fixd]\nallow-users = nobody\nuser-builds-max = 100000\nuser-images-max = 100000\n")
    d.ctl("reload")
    assert exit_code(t.child(other, nobody)) == 0
    assert built(member(d, t)).current


def test_images_with_notes_are_not_evicted_for_nothing(t):
    """They would be orphans, which count as much."""
    if os.getuid() != 0:
        raise Skip("only root can be somebody else")
    os.chmod(t.dir, 0o755)
    d = t.daemon("[fixd]\nallow-users = nobody\nuser-images-max = 4\n[policy]\nmax-age = none\n")

    def work():
        c = Client(d.socket).join(t.dir)
        for n in "ab":
            c.define(n).begin(n).commit(b"x", note=b"note").detach()
        for n in "pq":
            c.define(n).begin(n).commit(b"x").detach()
        c.define("w").begin("w").commit(b"w").detach()
        for n in "xyz":
            c.define(n).begin(n).commit(b"x", note=b"note").detach() if n != "z" else None
        with refused(errno.EINVAL, "user-images-max"):
            c.define("z").begin("z").commit(b"z")
        return c.adopt() is None
    assert exit_code(t.child(work, uid=pwd.getpwnam("nobody").pw_uid)) == 0
    d.ctl("cleanup", "--all")

    def adopt():
        c = Client(d.socket).join(t.dir)
        return [bool(c.adopt()) for _ in range(5)] == [True] * 4 + [False]
    assert exit_code(t.child(adopt, uid=pwd.getpwnam("nobody").pw_uid)) == 0


def test_sessions_that_nobody_is_in_make_room(t):
    """However many images they have that were only kept for later."""
    d = t.daemon("[policy]\nmax-age = none\n")
    for k in range(70):
        os.makedirs(t.path(f"root{k}"))
        c = d.client().join(t.path(f"root{k}"), "run")
        c.define("x").begin("x").commit(b"x").detach()
        c.close()
        wait_for(lambda: d.status()["daemon"]["connections"] == 1, "the end of the connection")
    assert len(d.status()["sessions"]) == 64


def test_instances_that_are_only_remembered_go_first(t):
    d = t.daemon("[policy]\nmax-age = none\n[fixture precious]\ncommand = echo p\n[fixture bad]\ncommand = exit 1\n"
                 "[fixture f]\nscope = function\ndepends = bad\ncommand = echo d\n")
    d.client().attach("precious").detach()
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
        s.connect(d.socket)

        def ask(message):
            s.send(message)
            s.recv(8192)
        ask(request("hello", version=wire.VERSION))
        for k in range(16400):
            ask(request("attach", timeout_ms=1000, name=b"f", key=f"m.py::t{k}".encode()))
    i = d.instance("precious")
    assert i["state"] == "ready" and i["builds"] == 1, i


def test_looking_at_what_clients_built(t):
    """Without the variables that told them apart, as long as there is no doubt; and nothing is left behind by it."""
    d = t.daemon(INI)
    here = ["--session", t.dir]
    for value, several in (("1", False), ("2", True)):
        os.environ["LEVEL"] = value
        c = member(d, t, settings=["env=LEVEL"])
        built(c, data=b"level " + value.encode())
        os.environ["LEVEL"] = "elsewhere"
        done = d.ctl(*here, "get", "value", code=4 if several else 0)
        del os.environ["LEVEL"]
        assert several or done.out == "level 1"
        c.close()
    assert "none of them asks" in done.err, done.err
    # Each user of it gets its own.
    os.environ["LEVEL"] = "1"
    assert member(d, t, settings=["env=LEVEL"]).read("value") == b"level 1"
    del os.environ["LEVEL"]
    assert len(shared(d)) == 2, shared(d)
    assert "skipped" in d.ctl(*here, "warm", "value").out and d.ctl(*here, "warm").out == ""
    assert len(shared(d)) == 2


def test_what_others_registered_is_not_shown(t):
    d, nobody = two_users(t)
    built(member(d, t, name="private"), "private", b"secret")
    tool = copied_fixctl(t)

    def other():
        def run(*arguments):
            return subprocess.run([tool, "--socket", d.socket, *arguments], capture_output=True, text=True,
                                  env=process_environment()).stdout

        return not any("private" in run(*a) for a in (["status", "--json"], ["list"], ["cleanup", "--all", "--force"]))

    assert exit_code(t.child(other, nobody)) == 0
    assert shared(d)[0]["state"] == "ready"


def test_closing_before_the_first_request_of_a_child(t):
    d = t.daemon(INI)
    c = member(d, t, settings=["reuse=no"])
    v = built(c, teardown=True)
    ready, go = os.pipe()

    def child():
        c.closing()
        attached(c).detach()
        os.write(go, b"x")
        signal.pause()

    pid = t.child(child)
    os.read(ready, 1)
    c.closing()
    assert v.release(LIMIT) == (True, None)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_patterns_over_the_whole_disk(t):
    d, nobody = two_users(t)

    def other():
        c = Client(d.socket).join(t.dir).define("v", "watch=/usr/*/*/*/*")
        with refused(errno.EIO, "has more than 5000 names to look through"):
            c.begin("v")
        return True

    assert exit_code(t.child(other, nobody)) == 0


if __name__ == "__main__":
    main(sys.modules[__name__])
