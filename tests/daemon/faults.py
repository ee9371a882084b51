#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What the kernel refuses, for a moment or for good: nothing ends or hangs, and a later try works."""

import os
import subprocess
import sys
import time

import harness
from harness import LIMIT, FixdError, Skip, once, wait_for

INI = """
[policy]
timeout = 20s
retry-after = 1ms
[fixture plain]
command = cat input
watch = input
[fixture service]
service = echo up; exec sleep 1000
"""


def works(t, d):
    """Whatever was refused: in the end everything can be had, and one user's trouble is told in a sentence."""
    c = d.client()

    def has(name, value):
        try:
            return c.read(name, timeout=20) == value
        except FixdError as e:
            assert len(e.sentence) > 20, e.sentence
            return False

    t.write("input", "one\n")
    wait_for(lambda: has("plain", b"one\n"), "a build")
    wait_for(lambda: has("service", b"up"), "a service")
    t.write("input", "other\n")
    wait_for(lambda: has("plain", b"other\n"), "a rebuild")
    d.ctl("cleanup", "--all")


def ends(t, call, error, whens, more=""):
    """For each of the `whens`, a daemon that fails there."""
    for when in whens:
        t.write("input", "none\n")
        d = t.daemon(more + INI, prefix=t.injecting(call, error, when))
        works(t, d)
        assert t.was_injected(), (call, error, when)
        d.stop()


def on(t, mode):
    if t.mode != mode:
        raise Skip(f"it is not the {mode} that is used")


def test_descriptors_that_cannot_be_watched(t):
    on(t, "epoll")
    ends(t, "epoll_ctl", "ENOMEM", ["1..2", "4", "6", "7", "9", "5+"])
    ends(t, "epoll_ctl", "ENOSPC", ["5"])
    ends(t, "fcntl", "ENOMEM", ["6", "12"])


def test_no_loop_at_all(t):
    on(t, "epoll")
    config = t.write("none.ini", "[fixd]\nio = epoll\n" + INI)
    done = subprocess.run([*t.injecting("epoll_create1", "EMFILE", "1+"), harness.program("fixd"), "--config", config, "--socket", t.path("none")],
                          capture_output=True, timeout=LIMIT, env=harness.process_environment())
    assert done.returncode == 1 and b"no event loop: Too many open files" in done.stderr, done


def test_ring_that_refuses_for_a_moment(t):
    on(t, "ring")
    for error in ("EAGAIN", "ENOMEM", "EBUSY", "EINTR"):
        ends(t, "io_uring_enter", error, ["8", "12..20"])


def test_ring_that_is_lost(t):
    on(t, "ring")
    for error, when in (("EAGAIN", "9+"), ("EBADF", "12"), ("EPERM", "15+")):
        t.write("input", "none\n")
        d = t.daemon(INI, prefix=t.injecting("io_uring_enter", error, when))
        before = d.client()
        assert before.read("plain") == b"none\n"
        works(t, d)
        daemon = d.status()["daemon"]
        assert daemon["io"] == "epoll" and "io_uring has failed" in daemon["io_reason"], daemon
        assert d.words().count("going on with epoll") == 1, d.words()
        os.truncate(d.log, 0)
        assert before.read("plain") == b"other\n"
        d.stop()


def test_calls_that_a_filter_refuses(t):
    """For ever, as older containers do."""
    for error in "EPERM", "ENOSYS":
        t.write("input", "none\n")
        d = t.daemon(INI, prefix=t.injecting("execveat", error, "1+", follow=True))
        works(t, d)
        assert t.was_injected(), error
        d.stop()
        config = t.write("refused.ini", "[fixture f]\ncommand = echo f\n")
        done = subprocess.run([*t.injecting("pidfd_open", error, "1+"), harness.program("fixd"), "--config", config, "--socket", t.path("refused")],
                              capture_output=True, timeout=LIMIT, env=harness.process_environment())
        assert done.returncode == 1 and b"pidfd_open(2) is refused: expected Linux 5.3 or later" in done.stderr, done


def test_processes_where_clone3_is_refused(t):
    """By a filter that is older than the C library: fork(2) is let through."""
    t.write("input", "none\n")
    d = t.daemon(INI, prefix=t.injecting("clone3", "EACCES", "1+", follow=True))
    works(t, d)


def test_helper_that_may_never_poll(t):
    """It reads, which waits as well, and does not go round and round until its time is over."""
    t.write("input", "none\n")
    more = '[fixture tree]\ntree = sleep 0.1; echo one > "$FIXD_DIR/file"\n'
    d = t.daemon(INI.replace("timeout = 20s", "timeout = 10m") + more, prefix=t.injecting("poll", "ENOMEM", "1+", follow=True))
    assert d.client().read("plain") == b"none\n"
    d.client().attach("tree").detach()
    assert t.was_injected()


def test_directory_whose_attributes_cannot_be_read(t):
    """What is not in it, but it, has its name, too."""
    os.mkdir(t.path("tree"))
    d = t.daemon("[fixture tree]\ndirectory = tree\n", prefix=t.injecting("flistxattr", "EACCES", "1+", follow=True))
    try:
        d.client().attach("tree")
        assert False
    except FixdError as e:
        assert f"{t.path('tree')} cannot be copied: Permission denied" in e.sentence, e.sentence


def test_directory_that_cannot_be_read_to_its_end(t):
    """What was read before is no tree."""
    for k in range(300):
        t.write(f"tree/{k:03}", "")
    for error, when, words in ("EIO", "1+", "Input/output error"), ("EIO", "2+", "Input/output error"), ("EPERM", "1+", "Operation not permitted"):
        d = t.daemon("[fixture tree]\ndirectory = tree\n", prefix=t.injecting("getdents64", error, when, follow=True))
        try:
            v = d.client().attach("tree")
            assert False, v.data
        except FixdError as e:
            assert words in e.sentence and t.path("tree") in e.sentence, e.sentence
        d.stop()


def test_watched_directory_that_cannot_be_read(t):
    """For a moment: what it has is not known, so nothing is built of it; later it is, and edits are noticed."""
    config = "[policy]\nretry-after = 1ms\n[fixture f]\ncommand = cat tree/sub/input\nwatch = tree\n"
    for call, error, when, where in (("getdents64", "EIO", "1", "tree"), ("getdents64", "EIO", "2", "tree"), ("getdents64", "ENOMEM", "1", "tree/sub"),
                                     ("openat", "EMFILE", "1", "tree/sub")):
        t.write("tree/sub/input", "one")
        words = [*t.injecting(call, error, when), "-P", t.path(where)]
        d = t.daemon(config, prefix=words)
        told = None
        try:
            assert d.client().read("f") == b"one"
        except FixdError as e:
            told = e.sentence
            assert f"what it watches cannot be looked at: {t.path(where)}: " in told, told
        assert told and t.was_injected(), (call, when)
        wait_for(lambda: reads(d, "f", b"one"), "it to be built")
        t.write("tree/sub/input", "other")
        assert reads(d, "f", b"other"), (call, error, when)
        d.stop()


def reads(d, name, value):
    try:
        return d.client().read(name) == value
    except FixdError:
        return False


def test_builder_that_may_not_hear_of_the_daemons_end(t):
    d = t.daemon(INI, prefix=t.injecting("prctl", "EPERM", "1+", follow=True))
    try:
        d.client().read("plain")
        assert False
    except FixdError as e:
        assert "prctl(2) is refused: Operation not permitted" in e.sentence, e.sentence


def test_children_that_may_never_be_waited_for(t):
    """What is kept would never be seen to end: it is not begun, and the daemon ends as always."""
    if harness.SANITIZERS:
        raise Skip("the sanitizer waits for a process of its own")
    for call in "waitid", "wait4":
        wrapper = harness.without(call)
        if not wrapper:
            raise Skip("there is no libseccomp")
        d = t.daemon("[fixture service]\nservice = echo up; exec sleep 1000\nteardown = true\n", prefix=wrapper)
        try:
            d.client().attach("service")
            assert False
        except FixdError as e:
            assert f"{call}(2) is refused: Operation not permitted; expected a seccomp filter that allows it" in e.sentence, e.sentence
        d.stop()


def test_an_end_with_calls_that_are_refused(t):
    """The signal is read otherwise, a keeper is told by the end of its channel, processes are signalled by descriptor, children are known without a list."""
    calls = "rt_sigtimedwait", "shutdown", "kill", "getdents64"
    for call in calls:
        wrapper = harness.without(call)
        if not wrapper:
            raise Skip("there is no libseccomp")
        d = t.daemon("[fixture service]\nservice = echo up; exec sleep 1000\nteardown = echo down >> ends\n", prefix=wrapper)
        assert d.client().read("service") == b"up"
        begun = time.monotonic()
        d.stop()
        assert time.monotonic() - begun < 8, f"{call}: two limits of 10 s are over"
        assert "cannot be killed" not in d.words(), d.words()
    with open(t.path("ends")) as f:
        assert f.read() == "down\n" * len(calls)


def test_a_time_limit_where_kill_is_refused(t):
    wrapper = harness.without("kill")
    if not wrapper:
        raise Skip("there is no libseccomp")
    d = t.daemon("[policy]\ntimeout = 100ms\n[fixture command]\ncommand = sleep 1000\n[fixture service]\nservice = sleep 1000 & sleep 1000\nready = file:no\n",
                 prefix=wrapper)
    for name in "command", "service":
        try:
            d.client().attach(name)
            assert False
        except FixdError as e:
            assert "timed out after 100" in e.sentence, e.sentence
    d.stop()
    d = t.daemon("[fixture service]\nservice = echo up; exec sleep 1000\n", prefix=[*wrapper, *harness.without("pidfd_send_signal")])
    try:
        d.client().attach("service")
        assert False
    except FixdError as e:
        assert "kill(2) is refused: Operation not permitted; expected a seccomp filter that allows it, or pidfd_send_signal(2)" in e.sentence, e.sentence
    d.stop()


@once
def test_a_service_that_is_ended_before_it_is_a_program(t):
    """It has the helper's signals until then, which ignores SIGTERM: that is not lost."""
    words = [w.replace("error=EPERM", "delay_exit=500000") for w in t.injecting("setpgid", "EPERM", "1", follow=True)]
    d = t.daemon("[fixture service]\nservice = exec sleep 1000\nteardown-timeout = 10m\n", prefix=words)
    asking = subprocess.Popen([harness.program("fixctl"), "--socket", d.socket, "warm", "service"], env=harness.process_environment(),
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def begun():
        with open(t.path("strace")) as f:
            return f.read().count("setpgid(") >= 4

    wait_for(begun, "daemon, helper and service to be in their groups")
    d.stop()
    asking.wait(LIMIT)


def test_children_that_cannot_be_made_or_waited_for(t):
    ends(t, "clone,clone3,fork,vfork", "EAGAIN", ["1", "2..3"])
    ends(t, "waitid", "EINTR", ["1", "1..4"])
    ends(t, "pidfd_open", "EMFILE", ["1"])


def test_memory_that_is_refused(t):
    ends(t, "memfd_create", "ENOMEM", ["5", "5..6"])  # of the third on: older kernels refuse a flag first
    ends(t, "socketpair,pipe2", "EMFILE", ["2", "3"])


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
