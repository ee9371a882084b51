#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Builds: once for everybody, and what happens when they go wrong."""

import os
import resource
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time

import harness
from harness import FixdError, Skip, children_of, exit_code, once, wait_for


def fails(client, name, *words, number=5, **more):
    try:
        client.attach(name, **more)
    except FixdError as e:
        assert e.number == number, (e.number, e.sentence)
        for word in words:
            assert word in e.sentence, e.sentence
        return e.sentence
    raise AssertionError(f"{name} was attached")


@once
def test_a_command_of_several_lines(t):
    """Blanks count in what it is written in."""
    d = t.daemon("""[fixture python]
command = python3 - <<'END'
  for i in range(2):
      if i:
          print(i)
  END
[fixture quoted]
command =
\tpython3 -c '
\tfor i in range(3):
\t    print(i)
\t'
[fixture yaml]
command = cat <<END
    a:
      b: 1
   c: 2
    END
[fixture list]
command = echo $A $B
env =
  A,
     B
""".replace("python3", sys.executable), env={**harness.process_environment(), "A": "1", "B": "2"})
    c = d.client()
    assert [c.read(name) for name in ("python", "quoted", "yaml")] == [b"1\n", b"0\n1\n2\n", b"a:\n  b: 1\nc: 2\n"]
    assert d.ctl("get", "list", env={"A": "1", "B": "2"}).out == "1 2\n"


def test_a_file_that_is_a_pipe(t):
    os.mkfifo(t.path("fifo"))
    try:
        t.daemon(f"[fixture a]\nfile = {t.path('fifo')}\n").client().read("a")
        raise AssertionError
    except FixdError as e:
        assert "is a pipe; use 'command = cat" in e.sentence, e.sentence


def test_a_builder_that_could_not_be_started(t):
    """Nothing was tried, and what was lacking may be there a moment later."""
    clock = harness.Clock(t)
    d = t.daemon("[fixture a]\ncommand = echo a\n", env=clock.env)
    c = d.client()
    pid, limits = d.process.pid, resource.prlimit(d.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (len(os.listdir(f"/proc/{pid}/fd")), limits[1]))
    try:
        c.read("a")
        raise AssertionError
    except FixdError as e:
        assert "its builder cannot be started" in e.sentence, e.sentence
    resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    clock.advance(2)
    assert c.read("a") == b"a\n"


def test_capabilities_in_a_tree(t):
    """They are part of what the command has made, though its files lose them when they are moved."""
    if os.geteuid() != 0 or subprocess.run(["sh", "-c", f": >{t.path('c')} && setcap cap_net_raw+ep {t.path('c')}"], capture_output=True).returncode:
        raise Skip("needs root, setcap, and a file system that has them")
    d = t.daemon(f"[fixture t]\ntree = for f in full empty; do head -c $(test $f = empty && echo 0 || echo 100000) /dev/zero >$FIXD_DIR/$f; setcap cap_net_raw+ep $FIXD_DIR/$f; done\n"
                 f"path = {t.path('shown')}\n")
    tree = d.client().attach("t").path
    for name in "full", "empty":
        assert os.getxattr(os.path.join(tree, name), "security.capability") == os.getxattr(t.path("c"), "security.capability"), name


def test_what_a_command_leaves_running(t):
    """Ends with it, also in a session of its own: when the build is good, fails, or takes too long, and when the daemon is killed."""
    ways = {"good": "echo x", "fails": "exit 1", "slow": "exec sleep 1000", "kept": "echo x", "keptfails": "exit 1"}
    t.write("away.py", "import os, subprocess, sys\np = subprocess.Popen(['sleep', '1000'], start_new_session=True, stdin=-3, stdout=-3, stderr=-3)\n"
            "with open(sys.argv[1] + '.new', 'w') as f: f.write(str(p.pid))\nos.rename(sys.argv[1] + '.new', sys.argv[1])\n")
    start = f"{sys.executable} {t.path('away.py')} {t.path('pid-')}"
    d = t.daemon("".join(f"[fixture {name}]\ncommand = {start}{name}; {end}\n{'timeout = 500ms' if name == 'slow' else ''}\n{'teardown = true' if name.startswith('kept') else ''}\n"
                         for name, end in ways.items()) +
                 f"[fixture tree]\ntree = {start}tree; echo x >$FIXD_DIR/f\n[fixture checked]\ncommand = echo x\ncheck = {start}checked; true\n"
                 f"[fixture hangs]\ncommand = {start}hangs; exec sleep 1000\n")

    def pid_of(name):
        with open(t.path("pid-" + name)) as f:
            return int(f.read())

    c = d.client()
    for name in "good", "kept", "checked", "checked", "tree":
        c.attach(name).detach()
    for name in "fails", "slow", "keptfails":
        fails(c, name)
    for name in "good", "fails", "slow", "keptfails", "tree", "checked":
        wait_for(lambda: harness.process_state(pid_of(name)) == "", f"the end of what '{name}' has left")
    # What a teardown is to end is left to that.
    assert harness.process_state(pid_of("kept")) == "S"
    d.ctl("cleanup", "kept")
    wait_for(lambda: harness.process_state(pid_of("kept")) == "", "its end with the fixture")
    t.child(lambda: harness.Client(d.socket).attach("hangs"))
    wait_for(lambda: os.path.exists(t.path("pid-hangs")), "it to begin")
    d.kill()
    wait_for(lambda: harness.process_state(pid_of("hangs")) == "", "its end with the daemon")


def test_single_flight(t):
    """64 clients ask for a cold fixture at the same time: one build."""
    os.mkfifo(t.path("gate"))
    d = t.daemon(f"[fixture f]\ncommand = {t.counted('cat gate')}\n")
    pids = [t.child(lambda: harness.Client(d.socket).read("f") == b"through the gate") for _ in range(64)]
    wait_for(lambda: d.status()["daemon"]["connections"] == 65, "all to be connected")
    wait_for(lambda: t.runs() == 1, "the build")
    with open(t.path("gate"), "w") as gate:
        gate.write("through the gate")
    assert [exit_code(p) for p in pids] == [0] * 64
    assert t.runs() == 1
    status = d.status()["daemon"]
    assert status["misses"] + status["hits"] == 64 and status["misses"] >= 1


def test_jobs_run_side_by_side(t):
    """Two builds that each wait for the other can only end when both run."""
    for n in "ab":
        os.mkfifo(t.path(n))
    d = t.daemon("[fixd]\njobs = 2\n[fixture a]\ncommand = echo x > a & cat b\n[fixture b]\ncommand = echo x > b & cat a\n"
                 "[fixture both]\ndepends = a, b\ncommand = cat $FIXD_DEP_a $FIXD_DEP_b\n")
    assert d.client().read("both") == b"x\nx\n"


QUEUE = ("[fixd]\njobs = 1\nallow-users = nobody\n[fixture v]\nparams = 0, 1, 2, 3, 4, 5, 6, 7, 8, 9\n"
         "command = echo $FIXD_PARAM >> order; while ! test -e go; do sleep 0.01; done\n[fixture w]\ndepends = v[8]\ncommand = echo w >> order\n")


def order(t):
    try:
        with open(t.path("order")) as f:
            return f.read().split()
    except FileNotFoundError:
        return []


def test_builds_that_nobody_waits_for_any_more(t):
    d = t.daemon(QUEUE)
    first = t.child(lambda: d.client().attach("v[0]") and True)
    wait_for(lambda: order(t) == ["0"], "the first one is built")
    c = d.client()
    for name in [f"v[{k}]" for k in range(1, 8)] + ["w"]:
        try:
            c.attach(name, timeout=0.02)
            assert False, name
        except FixdError as e:
            assert "was not ready in time" in e.sentence, e.sentence
    t.write("go", "")
    c.attach("v[9]")
    assert exit_code(first) == 0
    assert order(t) == ["0", "9"], order(t)
    assert {d.instance(f"v[{k}]")["state"] for k in range(1, 9)} == {"absent"}
    c.attach("w")
    assert order(t) == ["0", "9", "8", "w"], order(t)


def test_users_take_turns(t):
    """However much one of them has asked for before."""
    if os.geteuid() != 0:
        raise Skip("other users are made by root only")
    d = t.daemon(QUEUE)
    os.chmod(t.dir, 0o755)
    children = []
    for k in range(6):
        children.append(t.child(lambda k=k: d.client().attach(f"v[{k}]") and True, uid=65534))
        wait_for(lambda: d.status()["daemon"]["waiting"] == k + 1, "the next one waits")
    children.append(t.child(lambda: d.client().attach("w") and True))
    wait_for(lambda: d.status()["daemon"]["waiting"] == 7, "the other user waits")
    t.write("go", "")
    assert [exit_code(pid) for pid in children] == [0] * 7
    assert order(t).index("8") == 1 and order(t).index("w") <= 3, order(t)


def test_jobs_bound(t):
    d = t.daemon("[fixd]\njobs = 2\n" + "".join(
        f"[fixture f{n}]\ncommand = echo + >> events; cat gate; echo - >> events\n" for n in range(6)))
    os.mkfifo(t.path("gate"))
    warm = t.child(lambda: d.ctl("warm"))

    def finished():
        """Lets whoever waits at the gate pass."""
        try:
            os.close(os.open(t.path("gate"), os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            pass
        return t.runs("events") == 12

    wait_for(finished, "all builds")
    assert exit_code(warm) == 0
    running = most = 0
    for line in open(t.path("events")):
        running += 1 if line == "+\n" else -1
        most = max(most, running)
    assert most <= 2, most


def test_command_fails(t):
    d = t.daemon(f"[fixture f]\ncommand = {t.counted('echo the reason >&2; exit 3')}\n[fixture g]\ndepends = f\ncommand = true\n")
    c = d.client()
    fails(c, "f", "status 3", "the reason")
    fails(c, "f", "status 3", "the reason")
    assert t.runs() == 1, "a failure is kept"
    fails(c, "g", "depends on 'f'", "the reason")
    assert t.runs() == 1
    i = d.instance("f")
    assert i["state"] == "failed" and "the reason" in i["error"]
    assert d.ctl("log", "f").out == "the reason\n"
    d.ctl("cleanup", "--failed")
    fails(c, "f", "status 3")
    assert t.runs() == 2


def check_cured_by_input(t, ini):
    """The failure of `f` is kept until its input is good."""
    t.write("input", "bad")
    c = t.daemon(ini).client()
    fails(c, "f")
    fails(c, "f")
    assert t.runs() == 1
    t.write("input", "good\n")
    assert c.read("f") == b"good\n"


def test_failure_is_tried_again_when_an_input_changes(t):
    check_cured_by_input(t, f"[fixture f]\ncommand = {t.counted('grep good input')}\nwatch = input\n")


def test_failure_is_tried_again_when_a_dependency_changes(t):
    check_cured_by_input(t, f"[fixture base]\nfile = input\n"
                         f"[fixture f]\ndepends = base\ncommand = {t.counted('grep good $FIXD_DEP_base')}\n")


def test_retry_after(t):
    clock = harness.Clock(t)
    d = t.daemon(f"[fixture f]\nretry-after = 10s\ncommand = {t.counted('false')}\n", env=clock.env)
    c = d.client()
    fails(c, "f")
    clock.advance(9)
    fails(c, "f")
    assert t.runs() == 1
    clock.advance(2)
    fails(c, "f")
    assert t.runs() == 2


def test_builder_killed(t):
    d = t.daemon("[fixture f]\ncommand = kill -9 $PPID; cat\n")
    fails(d.client(), "f", "killed by signal 9")


def test_command_killed(t):
    d = t.daemon("[fixture f]\ncommand = kill -9 $$\n")
    fails(d.client(), "f", "the command was killed by signal 9")


def test_plugin_crash_and_exit(t):
    crash = t.plugin("crash", "#include <fixd-builder.h>\n#include <signal.h>\n"
                     "int fixd_build(struct fixd_builder *b) { (void)b; raise(SIGSEGV); return 0; }\n")
    leave = t.plugin("leave", "#include <fixd-builder.h>\n#include <unistd.h>\n"
                     "int fixd_build(struct fixd_builder *b) { (void)b; _exit(0); }\n")
    refuse = t.plugin("refuse", "#include <fixd-builder.h>\n"
                      'int fixd_build(struct fixd_builder *b) { return fixd_fail(b, "line %d is wrong", 7); }\n')
    d = t.daemon(f"[fixture crash]\nplugin = {crash}\n[fixture leave]\nplugin = {leave}\n[fixture refuse]\nplugin = {refuse}\n"
                 f"[fixture symbol]\nplugin = {refuse}:nothing\n")
    c = d.client()
    if not harness.SANITIZERS:
        fails(c, "crash", "killed by signal 11")
    fails(c, "leave", "status 0 without publishing")
    fails(c, "refuse", "line 7 is wrong")
    fails(c, "symbol", "no function 'nothing'")


def test_plugin_leaves_its_process_otherwise(t):
    """With children that it does not want to hear of, or an alarm, in another directory: its teardown is run once, as ever."""
    for name, does in (("deaf", "signal(SIGCHLD, SIG_IGN); signal(SIGINT, SIG_IGN); umask(0777); if (chdir(\"/proc\") < 0) return -1;"),
                       ("alarm", "struct itimerval soon = { .it_value.tv_usec = 50000 }; setitimer(ITIMER_REAL, &soon, NULL);")):
        t.plugin(name, "#include <fixd-builder.h>\n#include <signal.h>\n#include <sys/stat.h>\n#include <sys/time.h>\n#include <unistd.h>\n"
                 "int fixd_build(struct fixd_builder *b)\n{\nint *p = fixd_alloc(b, sizeof *p);\n*p = 1;\n" + does + "\nreturn 0;\n}\n")
        d = t.daemon(f"[fixture f]\nplugin = {name}.so\nteardown = (echo begun; umask) >> {name}.down; sleep 0.2; kill -INT $$\n")
        d.client().attach("f").detach()
        begun = time.monotonic()
        d.stop()
        assert time.monotonic() - begun < 8, "its time limit is 10 s"
        assert "its teardown was killed by signal 2" in d.words(), d.words()
        with open(t.path(f"{name}.down")) as f:
            lines = f.read().split()
        assert lines[0] == "begun" and len(lines) == 2 and int(lines[1], 8) != 0o777, lines


def test_plugin_closes_its_descriptors(t):
    """In any order, also before it publishes, also where the helper stays as a keeper."""
    closing = [(1, 2), (2, 1), (2,), (0, 1, 2)]
    for number, fds in enumerate(closing):
        t.plugin(f"closes{number}", "#include <fixd-builder.h>\n#include <sys/wait.h>\n#include <unistd.h>\n"
                 "int fixd_build(struct fixd_builder *b)\n{ int *p = fixd_alloc(b, sizeof *p);\n*p = 1;\n"
                 + "".join(f"close({fd});\n" for fd in fds) + "usleep(20000);\nreturn 0; }\n")
    d = t.daemon("[fixture plain]\ncommand = echo plain\n" + "".join(
        f"[fixture kept{n}]\nplugin = closes{n}.so\nteardown = true\n[fixture not{n}]\nplugin = closes{n}.so\n"
        for n in range(len(closing))))
    c = d.client()
    for number in range(len(closing)):
        c.attach(f"kept{number}").detach()
        c.attach(f"not{number}").detach()
    assert c.read("plain") == b"plain\n"
    said = d.ctl("cleanup", "kept*").out
    assert "Removed: 4" in said and "Errors: 0" in said, said


def test_plugin_takes_the_builders_descriptors(t):
    """What was done to them is what is told, and not what became of it; nothing is written to what lies there instead."""
    cut = "the builder closed its connection to fixd (descriptor 3), or put something else there"
    does = {
        "close": ("close(3);", cut),
        "all": ("closefrom(0);", cut),
        "null": ('dup2(open("/dev/null", O_RDWR), 3);', cut),
        "socket": ("int s[2]; socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s); dup2(s[0], 3);", cut),
        "moved": ("dup2(3, 99); close(3);", cut),
        "more": ("close(3); memset(fixd_alloc(b, 100 << 20), 1, 100 << 20);", cut),
        "waits": ("close(3); pause();", cut),
        "shut": ("shutdown(3, SHUT_RDWR);", cut),
        "says": ('write(3, "hello", 5); pause();', "the builder wrote to its connection to fixd (descriptor 3), which only fixd-builder may do"),
        "files": ('closefrom(4); for (int n = 0; n < 9; n++) open("mine", O_RDWR);', "the plugin closed descriptor 4, which fixd-builder needs"),
    }
    t.write("mine", "mine\n")
    for name, (code, _) in does.items():
        t.plugin(name, "#define _GNU_SOURCE\n#include <fcntl.h>\n#include <fixd-builder.h>\n#include <string.h>\n#include <sys/socket.h>\n"
                 "#include <unistd.h>\nint fixd_build(struct fixd_builder *b)\n{ *(int *)fixd_alloc(b, sizeof(int)) = 1;\n" + code + "\nreturn 0; }\n")
    d = t.daemon("".join(f"[fixture {n}]\nplugin = {n}.so\n[fixture kept-{n}]\nplugin = {n}.so\nteardown = true\n" for n in does))
    c = d.client()
    for name, (_, sentence) in does.items():
        fails(c, name, sentence)
        fails(c, "kept-" + name, sentence)
    with open(t.path("mine")) as f:
        assert f.read() == "mine\n"


SENDS = """#define _GNU_SOURCE
#include <fcntl.h>
#include <fixd-builder.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static void say(const void *message, size_t size, int fd)
{
	struct iovec iov = { (void *)message, size };
	union { struct cmsghdr header; char bytes[CMSG_SPACE(sizeof(int))]; } control = { 0 };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);

	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof fd);
	memcpy(CMSG_DATA(c), &fd, sizeof fd);
	sendmsg(3, &m, 0);
}

int fixd_build(struct fixd_builder *b)
{
	*(int *)fixd_alloc(b, sizeof(int)) = 1;
	CODE
	return 0;
}
"""


def test_plugin_speaks_for_its_helper(t):
    """Of a remote that it does not have; and figures, and a process, that nobody has."""
    t.plugin("stays", SENDS.replace("CODE", "int s[2]; socketpair(AF_UNIX, SOCK_SEQPACKET, 0, s); uint32_t m[2] = { 8, 0 }; for (int i = 0; i < 99; i++) say(m, sizeof m, s[0]); pause();"))
    t.plugin("publishes", SENDS.replace("CODE", """
	struct { uint32_t message; int32_t error; uint64_t size, root, tree, cpu, peak, digests[4]; uint32_t sentence, service; } r = { 2, 0, 4096, 0, 0, -1, -1, { 1, 2, 3, 4 }, 0, 1 };
	int fd = memfd_create("mine", MFD_ALLOW_SEALING | MFD_CLOEXEC);
	ftruncate(fd, 4096);
	fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
	say(&r, sizeof r, fd);
	_exit(0);"""))
    d = t.daemon("[policy]\ntimeout = 50s\n[fixture stays]\nplugin = stays.so\n[fixture publishes]\nplugin = publishes.so\n[fixture plain]\ncommand = echo plain\n")
    c = d.client()
    fails(c, "stays", "the builder wrote to its connection to fixd (descriptor 3)")
    c.attach("publishes").detach()
    view = c.attach("plain")
    d.ctl("restart")
    assert view.current and d.instance("publishes")["state"] == "ready", "all goes on"


def test_builder_that_never_stops_talking(t):
    """Its time limit ends it, and others are served meanwhile."""
    d = t.daemon("[fixture talks]\ncommand = for i in 1 2 3 4; do yes >&2 & done; wait\ntimeout = 1s\n[fixture plain]\ncommand = echo plain\n")
    fails(d.client(), "talks", "timed out after 1.00 s")
    assert d.client().read("plain") == b"plain\n"


@once
def test_builder_that_cannot_be_started(t):
    """Whatever the child cannot do on its way is told by name, and costs one build."""
    d = t.daemon("[policy]\nretry-after = 1ms\n[fixture f]\ncommand = echo x\n", prefix=t.injecting("dup2", "EMFILE", 2, follow=True))
    fails(d.client(), "f", "fixd-builder cannot be started", "standard output", "Too many")
    assert d.instance("f")["state"] == "failed"


def test_started_without_standard_descriptors(t):
    """Nothing that is opened gets their numbers: a builder's channel would be closed, or the log be written into a socket."""
    d = t.daemon("[fixture f]\ncommand = echo x; echo said >&2\n", preexec=lambda: os.closerange(0, 3))
    assert d.client().read("f") == b"x\n"
    assert d.ctl("log", "f").out == "said\n"


@once
def test_limit_of_addresses(t):
    """Images that have room are built, however much memory-max would allow."""
    if harness.SANITIZERS:
        raise Skip("sanitizers need more addresses than that")
    so = t.plugin("objects", "#include <fixd-builder.h>\nint fixd_build(struct fixd_builder *b)\n{ int *p = fixd_alloc(b, 100000);\n"
                  "if (!p) return fixd_builder_fail(b, \"no memory\");\n*p = 1; return 0; }\n")
    d = t.daemon(f"[fixd]\nmemory-max = 8G\n[fixture small]\ncommand = echo x\n[fixture objects]\nplugin = {so}\n[fixture large]\ncommand = head -c 700M /dev/zero\n",
                 preexec=lambda: resource.setrlimit(resource.RLIMIT_AS, (600 << 20, 600 << 20)))
    c = d.client()
    assert c.read("small") == b"x\n"
    c.attach("objects").detach()
    fails(c, "large", "there are no addresses for it; expected no limit of them (ulimit -v)")


@once
def test_limit_of_file_sizes(t):
    """Nobody is killed by it; what it is that is too large is told."""
    def limit(size):
        return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))

    t.write("plain", "x" * (20 << 20))
    d = t.daemon("[fixture small]\ncommand = echo x\n[fixture large]\ncommand = head -c 20M /dev/zero\n[fixture file]\nfile = plain\n"
                 "[fixture tree]\ntree = head -c 20M /dev/zero >$FIXD_DIR/file\n", preexec=limit(16 << 20))
    c = d.client()
    assert c.read("small") == b"x\n" and "may not be larger than 16.0 MiB here" in d.words()
    for name in "large", "file":
        fails(c, name, "larger than files may be here; expected no limit (ulimit -f)")
    fails(c, "tree", "the command")
    d.stop()
    done = subprocess.run([harness.program("fixd"), "--config", d.config, "--socket", t.path("other")], capture_output=True, preexec_fn=limit(0),
                          env=harness.process_environment(), timeout=harness.LIMIT)
    assert done.returncode == 1 and b"File too large" in done.stderr and b"ulimit -f" in done.stderr, done


@once
def test_output_that_somebody_keeps_open(t):
    """It is waited for, and said why."""
    d = t.daemon("[fixture f]\ntimeout = 3s\ncommand = echo x; sleep 1000 &\n[fixture late]\ncommand = echo early; (read line <gate; echo late) &\n")
    fails(d.client(), "f", "timed out after 3", "the command has ended, but a process that it left behind has its standard output open")
    os.mkfifo(t.path("gate"))
    reading = threading.Thread(target=lambda: open(t.path("gate"), "w").write("\n"))
    reading.start()
    assert d.client().read("late") == b"early\nlate\n"
    reading.join()


def test_time_out_kills_everything(t):
    d = t.daemon("[fixture f]\ntimeout = 200ms\ncommand = echo $$ > pid; sleep 1000 & cat /dev/zero | cat >/dev/null\n")
    start = time.monotonic()
    fails(d.client(), "f", "timed out after 200.0 ms")
    assert time.monotonic() - start < harness.LIMIT / 2
    wait_for(lambda: not children_of(d.pid), "the builder to be gone")
    wait_for(lambda: not [p for p in os.listdir("/proc") if p.isdigit() and _cwd(p) == t.dir and int(p) != d.pid],
             "its children to be gone")


def _cwd(pid):
    try:
        return os.readlink(f"/proc/{pid}/cwd")
    except OSError:
        return None


def test_client_time_out(t):
    os.mkfifo(t.path("gate"))
    d = t.daemon(f"[fixture f]\ncommand = {t.counted('cat gate')}\n")
    c = d.client()
    fails(c, "f", "not ready in time", number=110, timeout=0.1)
    with open(t.path("gate"), "w") as gate:
        gate.write("late")
    assert c.read("f") == b"late" and t.runs() == 1, "the build went on"


def test_memory_max_of_a_fixture(t):
    t.write("big", "x" * 100000)
    d = t.daemon("[fixture f]\nmemory-max = 64K\ncommand = head -c 65537 /dev/zero\n"
                 "[fixture exact]\nmemory-max = 64K\ncommand = head -c 65536 /dev/zero\n"
                 "[fixture file]\nmemory-max = 64K\nfile = big\n"
                 "[fixture endless]\nmemory-max = 20M\ncommand = cat /dev/zero\n"
                 "[fixture tree]\nmemory-max = 64K\ndirectory = .\n")
    c = d.client()
    fails(c, "f", "larger than memory-max")
    fails(c, "file", "larger than memory-max")
    fails(c, "endless", "larger than memory-max")
    fails(c, "tree", "larger than memory-max")
    assert len(c.read("exact")) == 65536
    d.ctl("cleanup", "--all")
    assert d.status()["daemon"]["memory_bytes"] == 0


def test_memory_max_of_a_plugin(t):
    so = t.plugin("greedy", "#include <fixd-builder.h>\n"
                  "int fixd_build(struct fixd_builder *b) { while (fixd_alloc(b, 100000)) ; return -1; }\n")
    d = t.daemon(f"[fixture f]\nmemory-max = 40M\nplugin = {so}\n")
    fails(d.client(), "f", "larger than memory-max")


def test_eviction(t):
    """What nobody holds makes room, least recently used first; what is held does not."""
    d = t.daemon("[fixd]\nmemory-max = 40M\n" + "".join(
        f"[fixture f{n}]\ncommand = {t.counted('head -c 10M /dev/zero')}\n" for n in range(6)))
    c = d.client()
    held = c.attach("f0")
    for n in range(1, 6):
        c.read(f"f{n}")
    assert d.status()["daemon"]["evictions"] >= 2
    i = d.instances()
    assert i["f0"]["state"] == "ready" and i["f5"]["state"] == "ready" and i["f1"]["state"] == "stale"
    assert "memory-max" in i["f1"]["stale_cause"]
    held.detach()


def test_nothing_is_evicted_in_vain(t):
    for n, size in (("a", 60), ("b", 5), ("c", 5), ("big", 50)):
        with open(t.path(n), "wb") as f:
            f.write(bytes(size << 20))
    d = t.daemon("[fixd]\nmemory-max = 100M\n[policy]\nmax-age = none\n" + "".join(f"[fixture {n}]\nfile = {n}\n" for n in ("a", "b", "c", "big")))
    c = d.client()
    v = c.attach("a")
    for n in "bc":
        c.attach(n).detach()
    fails(c, "big", "what others leave")
    assert all(d.instance(n)["state"] == "ready" for n in "abc")
    fails(c, "big", "what others leave")
    assert d.instance("big")["builds"] == 1, "it is not tried again for nothing"
    v.detach()
    d.ctl("restart")
    fails(c, "big", "what others leave")
    d.ctl("cleanup", "a")
    c.attach("big").detach()


def test_everything_held(t):
    d = t.daemon("[fixd]\nmemory-max = 40M\n" + "".join(
        f"[fixture f{n}]\ncommand = head -c 15M /dev/zero\n" for n in range(3)))
    c = d.client()
    held = [c.attach("f0"), c.attach("f1")]
    fails(c, "f2", "memory-max")
    for v in held:
        v.detach()
    d.ctl("cleanup", "--failed")
    c.read("f2")


def test_file_bytes(t):
    data = os.urandom(5 * 2**20 + 12345)
    with open(t.path("input"), "wb") as f:
        f.write(data)
    t.write("empty", "")
    d = t.daemon("[fixture f]\nfile = input\n[fixture empty]\nfile = empty\n[fixture huge]\nfile = input\nhuge-pages = yes\n"
                 "[fixture small]\nfile = input\nhuge-pages = no\n")
    c = d.client()
    assert c.read("f") == data and c.read("huge") == data and c.read("small") == data
    assert c.read("empty") == b""
    v = c.attach("empty", flags=harness.COW)
    assert v.reset() == 0 and v.changes() == []
    v.detach()
    assert d.ctl("get", "f", "-o", t.path("out")).out == ""
    assert open(t.path("out"), "rb").read() == data


def test_digest_is_that_of_xxhsum(t):
    import shutil
    import subprocess

    if not shutil.which("xxhsum"):
        raise harness.Skip("xxhsum is not installed")
    t.write("input", "some text\n" * 1000)
    d = t.daemon("[fixture f]\nfile = input\n")
    d.client().read("f")
    expected = subprocess.run(["xxhsum", "-H2", t.path("input")], capture_output=True, check=True).stdout.decode().split()[0]
    assert d.instance("f")["digest"] == expected


def test_directory(t):
    t.write("data/a", "a\n")
    t.write("data/sub/b c", "b\n")
    os.chmod(t.path("data/a"), 0o755)
    os.symlink("a", t.path("data/link"))
    os.utime(t.path("data/a"), ns=(1, 123456789012345678))
    d = t.daemon("[fixture f]\ndirectory = data\n[fixture g]\ndepends = f\ncommand = cat \"$FIXD_DEP_f/sub/b c\"\n")
    c = d.client()
    v = c.attach("f")
    root = v.path
    assert open(root + "/sub/b c").read() == "b\n" and os.readlink(root + "/link") == "a"
    assert os.stat(root + "/a").st_mtime_ns == 123456789012345678
    assert os.stat(root + "/a").st_mode & 0o7777 == 0o555 and os.stat(root).st_mode & 0o7777 == 0o555
    lines = v.data.decode().splitlines()
    assert len(lines) == 4 and lines[1] == "l 777 0 0 - link -> a" and lines[2].startswith("d 555 ")
    assert lines[3].startswith("f 444 2 ") and lines[3].endswith(" sub/b\\040c"), lines
    assert c.read("g") == b"b\n"
    t.write("data/new", "new\n")
    assert not os.path.exists(root + "/new")
    w = c.attach("f")
    assert open(w.path + "/new").read() == "new\n" and w.path != root
    assert os.path.exists(root + "/a"), "the old tree lives as long as its lease"
    v.detach()
    w.detach()
    wait_for(lambda: not os.path.exists(root), "the old tree to go")


def test_what_a_directory_has(t):
    """Names of one file, FIFOs and sockets; as root also devices."""
    t.write("data/one", "bytes\n")
    os.mkdir(t.path("data/sub"))
    os.link(t.path("data/one"), t.path("data/sub/two"))
    os.mkfifo(t.path("data/pipe"))
    server = socket.socket(socket.AF_UNIX)
    server.bind(t.path("data/socket"))
    root = os.geteuid() == 0
    if root:
        os.mknod(t.path("data/null"), 0o600 | stat.S_IFCHR, os.makedev(1, 3))
        os.chown(t.path("data/one"), 1000, 1001)
    if root:
        os.makedirs(t.path("as-it-is"))
        subprocess.run(["cp", "-a", t.path("data/one"), t.path("as-it-is/file")], check=True)
        subprocess.run(["setfattr", "-n", "user.word", "-v", "value", t.path("as-it-is/file")], check=False, capture_output=True)
    d = t.daemon("[fixture f]\ndirectory = data\n[fixture g]\ndirectory = as-it-is\npath = shown\n" if root else "[fixture f]\ndirectory = data\n")
    v = d.client().attach("f")
    one, two = os.stat(v.path + "/one"), os.stat(v.path + "/sub/two")
    assert one.st_ino == two.st_ino and one.st_nlink == 2
    assert stat.S_ISFIFO(os.stat(v.path + "/pipe").st_mode) and stat.S_ISSOCK(os.stat(v.path + "/socket").st_mode)
    kinds = [line.split()[0] for line in v.data.decode().splitlines()]
    assert kinds == (["c"] if root else []) + ["f", "p", "s", "d", "h"], v.data
    if root:
        assert os.stat(v.path + "/null").st_rdev == os.makedev(1, 3)
        g = d.client().attach("g")
        assert (os.stat(g.path + "/file").st_uid, os.stat(g.path + "/file").st_gid) == (1000, 1001)
        lines = g.data.decode().splitlines()
        assert lines[-1].startswith("a 1000 1001 0 ") and lines[-1].endswith(" file"), lines
        g.detach()
    v.detach()
    server.close()


def test_exclude(t):
    """Is no part of the tree, of its digest, nor of what is watched."""
    for name in (".git/config", "src/a.c", "src/a.o", "src/deep/b.o", "build/out", "keep/build/out", "core"):
        t.write("data/" + name, name)
    d = t.daemon("[policy]\nmax-age = none\n[fixture f]\ndirectory = data\nexclude = .git, *.o, ./core\n  build/\n  src/deep/*\n"
                 "[fixture g]\ndirectory = data\nexclude = keep/build, core\nwatch-by = content\n"
                 + "".join(f"[fixture f{n}]\ndirectory = {written}\nexclude = .git, *.o, ./core, build/, src/deep/*\n" for n, written in enumerate(("data/", "./data//.", ".//data/./"))))
    c = d.client()

    def tree(name):
        v = c.attach(name)
        found = sorted(os.path.relpath(os.path.join(b, n), v.path) for b, _, files in os.walk(v.path) for n in files)
        v.detach()
        return found
    for name in "f", "f0", "f1", "f2":
        assert tree(name) == ["src/a.c"], (name, tree(name))
    assert tree("g") == [".git/config", "build/out", "src/a.c", "src/a.o", "src/deep/b.o"], tree("g")
    for name in (".git/config", ".git/new", "src/a.o", "build/more"):
        t.write("data/" + name, "changed")
    for name in "f", "f0", "f1", "f2":
        assert tree(name) == ["src/a.c"] and d.instance(name)["generation"] == 1, name
    t.write("data/keep/build/out", "changed")
    t.write("data/src/a.c", "changed")
    tree("g")
    for name in "f", "f0", "f1", "f2":
        assert tree(name) == ["src/a.c"] and d.instance(name)["generation"] == d.instance("g")["generation"] == 2, name
    t.write("data/keep/build/out", "once more")
    tree("f"), tree("g")
    assert d.instance("f")["generation"] == 2 and d.instance("g")["generation"] == 2


def test_tree_of_a_command(t):
    t.write("input", "one")
    d = t.daemon("[fixture f]\nwatch = input\nmemory-max = 1M\n"
                 "tree = mkdir $FIXD_DIR/sub && cp input $FIXD_DIR/sub/copy && ln -s sub/copy $FIXD_DIR/link && echo noise\n"
                 "[fixture g]\ndepends = f\ncommand = cat $FIXD_DEP_f/link\n"
                 "[fixture bad]\ntree = touch $FIXD_DIR/half && echo words >&2 && exit 3\n"
                 "[fixture large]\nmemory-max = 1M\ntree = head -c 3000000 /dev/zero >$FIXD_DIR/zeros\n")
    c = d.client()
    v = c.attach("f")
    assert sorted(os.listdir(v.path)) == ["link", "sub"] and open(v.path + "/link").read() == "one"
    assert os.stat(v.path).st_mode & 0o7777 == 0o555 and os.stat(v.path + "/sub/copy").st_mode & 0o7777 == 0o444
    lines = v.data.decode().splitlines()
    assert [line.split()[0] for line in lines] == ["l", "d", "f"] and c.read("g") == b"one"
    t.write("input", "another")
    w = c.attach("f")
    assert open(w.path + "/link").read() == "another" and open(v.path + "/link").read() == "one"
    fails(c, "bad", "exited with status 3", "words")
    fails(c, "large", "larger than memory-max")
    home = os.path.dirname(w.path)
    v.detach(), w.detach()
    d.ctl("cleanup", "--all")
    wait_for(lambda: not os.path.exists(home) or os.listdir(home) == [], "all trees to go")


def test_tree_of_a_command_of_another_user(t):
    if os.geteuid() != 0:
        raise Skip("only root can build as another user")
    os.chmod(t.dir, 0o755)
    d = t.daemon("[fixture f]\nuser = nobody\ntree = id -un >$FIXD_DIR/who\n"
                 "[fixture closed]\nuser = nobody\ntree = cd $FIXD_DIR; mkdir -p a/b; echo x >a/b/c; chmod 500 a/b; chmod 0 a; chmod 555 .\n")
    v, w = (d.client().attach(name) for name in ("f", "closed"))
    assert open(v.path + "/who").read() == "nobody\n" and os.listdir(v.path) == ["who"]
    assert open(w.path + "/a/b/c").read() == "x\n"
    v.detach(), w.detach()


def test_other_names_of_files_in_a_tree(t):
    """A command may link what is not its own: that is copied, and stays as it is."""
    base = "mkdir $FIXD_DIR/d; echo of the base >$FIXD_DIR/d/x"
    d = t.daemon(f"[fixture base]\ntree = {base}\n[fixture f]\ntree = cp -al $FIXD_DEP_base/. $FIXD_DIR/; ln $FIXD_DIR/d/x $FIXD_DIR/y\ndepends = base\n")
    v, w = (d.client().attach(name) for name in ("base", "f"))
    before = os.stat(v.path + "/d/x")
    for path in v.path + "/d/x", w.path + "/d/x", w.path + "/y":
        assert open(path).read() == "of the base\n", path
    assert before.st_mode & 0o777 == 0o444 and before.st_nlink == 1, before
    v.detach(), w.detach()


def test_trees_that_are_somebody_elses(t):
    """What a command has put into the place of its directory, or mounted in it, is refused and stays as it is; also where the build fails."""
    for name in "data/a", "data/sub/b":
        t.write(name, "precious\n")
    data, mount = t.path("data"), "mkdir $FIXD_DIR/m && mount --bind {} $FIXD_DIR/m && touch $FIXD_DIR/s && mount --bind {}/a $FIXD_DIR/s"
    can = os.geteuid() == 0 and not subprocess.run(["unshare", "-m", "mount", "--bind", data, data], capture_output=True).returncode
    tries = [("link", f"rmdir $FIXD_DIR; ln -s {data} $FIXD_DIR", "its directory is none any more")]
    if can:
        tries += [("mounted", mount.format(data, data), "something is mounted at m"), ("failed", mount.format(data, data) + "; exit 1", "exited with status 1"),
                  ("over", f"mount --bind {data} $FIXD_DIR", "something is mounted at")]
    d = t.daemon("".join(f"[fixture {name}]\ntree = {command}\n" for name, command, _ in tries))
    for name, _, words in tries:
        try:
            d.client().attach(name)
            assert False, name
        except harness.FixdError as e:
            assert words in e.sentence, e.sentence
    d.stop()
    assert sorted(os.listdir(data)) == ["a", "sub"] and open(t.path("data/sub/b")).read() == "precious\n" and os.stat(data).st_mode & 0o777 == 0o755
    with open("/proc/self/mounts") as f:
        assert t.dir not in f.read()


def test_files_of_several_names_take_their_room_once(t):
    for n, names in (1, "a"), (2, "a b"), (3, "a b c"):
        d = t.daemon(f"[fixture f]\ntree = cd $FIXD_DIR; head -c 6000000 /dev/zero >a; {' '.join(f'ln a {k};' for k in names.split()[1:])} chmod 0 a\nmemory-max = 15M\n")
        v = d.client().attach("f")
        assert os.stat(v.path + "/a").st_nlink == n and os.stat(v.path + "/a").st_size == 6000000
        v.detach()
        d.stop()


def test_trees_of_a_killed_daemon_are_removed(t):
    t.write("data/a", "a\n")
    ini = "[fixture f]\ndirectory = data\n"
    env = {"XDG_RUNTIME_DIR": t.runtime}
    d = t.daemon(ini, env=env)
    v = d.client().attach("f")
    path = v.path
    d.kill()
    assert os.path.exists(path)
    v.detach()
    e = t.daemon(ini, env=env)
    assert not os.path.exists(path)
    w = e.client().attach("f")
    path = w.path
    other = harness.Case(t.mode, t.wrapper)
    try:
        other.write("data/a", "a\n")
        g = other.daemon(ini, env=env)
        assert os.path.exists(path), "those of a living daemon stay"
        e.kill()
        g.stop()
        g = other.daemon(ini, env=env)
        assert os.path.exists(path + "/a"), "those that somebody uses stay, too"
        w.detach()
        g.stop()
        other.daemon(ini, env=env)
        assert not os.path.exists(path), "any daemon of the user removes the others"
    finally:
        other.finish(False)


@once
def test_what_others_put_in_the_way_of_trees(t):
    """A directory of somebody else's with our kind of name costs nothing, and nobody else can lock what a killed daemon leaves."""
    if os.geteuid() != 0:
        raise Skip("other users are made by root only")
    os.chmod(t.runtime, 0o1777)
    planted = os.path.join(t.runtime, "fixd-trees-0-planted")
    os.mkdir(planted)
    os.chown(planted, 65534, 65534)
    ini = "[fixture t]\ntree = echo x >$FIXD_DIR/x\n"
    d = t.daemon(ini, env={"XDG_RUNTIME_DIR": t.runtime})
    d.client().attach("t").detach()
    home, = [n for n in os.listdir(t.runtime) if n.startswith("fixd-trees-0-") and n != "fixd-trees-0-planted"]
    d.kill()

    def lock():
        try:
            os.open(os.path.join(t.runtime, home), os.O_RDONLY)
        except PermissionError:
            return True

    assert exit_code(t.child(lock, uid=65534)) == 0
    t.clients.pop().close()
    t.daemon(ini, env={"XDG_RUNTIME_DIR": t.runtime}).client().attach("t")
    wait_for(lambda: not os.path.exists(os.path.join(t.runtime, home)), "what the killed daemon left to be removed")
    assert os.path.exists(planted)
    os.rmdir(planted)


@once
def test_what_a_file_with_holes_takes(t):
    """A part of its size, also where memory-max is smaller; and its bytes are those of the file."""
    files = {"hole": (64 << 20, {}), "begin": (64 << 20, {0: b"begin"}), "end": ((64 << 20) + 5, {64 << 20: b"bytes"}), "odd": (12345, {}),
             "pieces": (40 << 20, {n << 20: b"x" * 5000 for n in range(1, 40, 3)}), "full": (5 << 20, {0: b"y" * (5 << 20)})}
    for name, (size, pieces) in files.items():
        with open(t.path(name), "wb") as f:
            f.truncate(size)
            for at, data in pieces.items():
                f.seek(at)
                f.write(data)
    d = t.daemon("[fixd]\nmemory-max = 8M\n" + "".join(f"[fixture {n}]\nfile = {n}\n" for n in files))
    c = d.client()
    for name, (size, pieces) in files.items():
        d.ctl("get", name, "--output", t.path("got"))
        same = subprocess.run(["cmp", t.path(name), t.path("got")], capture_output=True)
        assert same.returncode == 0, same
        used = sum(-(-len(data) // 4096) * 4096 for data in pieces.values())
        taken = d.status()["daemon"]["memory_bytes"]
        assert used <= taken <= used + len(pieces) * (256 << 10), (name, taken, used)  # what is read at once may reach into a hole
        d.ctl("restart")
        assert d.status()["daemon"]["memory_bytes"] == taken and d.instance(name)["generation"] == 1
        d.ctl("cleanup", name)
    with open(t.path("full"), "ab") as f:
        f.write(b"z" * (4 << 20))
    fails(c, "full", "larger than memory-max")


@once
def test_what_a_tree_takes(t):
    """Holes stay holes; files without bytes cost, too; a draft is counted while it is copied, and no longer."""
    os.mkdir(t.path("sparse"))
    with open(t.path("sparse/file"), "wb") as f:
        f.write(b"begin")
        f.seek(100 << 20)
        f.write(b"end")
        f.truncate(200 << 20)
    d = t.daemon("[fixture sparse]\ndirectory = sparse\n[fixture made]\ntree = cp --sparse=always sparse/file $FIXD_DIR/\n"
                 "[fixture many]\nmemory-max = 2M\ntree = cd $FIXD_DIR && seq 10000 | xargs touch\n"
                 "[fixture fits]\nmemory-max = 5M\ntree = head -c 4M /dev/zero | tr '\\0' x >$FIXD_DIR/f\n"
                 "[fixture draft]\nmemory-max = 5M\ntree = head -c 6M /dev/zero | tr '\\0' x >$FIXD_DIR/f; mkfifo $FIXD_DIR/p\n"
                 "[fixture endless]\nmemory-max = 8M\ntree = while head -c 64K /dev/zero >>$FIXD_DIR/f; do :; done\n"
                 "[fixture crowd]\nmemory-max = 2M\ntree = cd $FIXD_DIR; n=0; while : >$n; do n=$((n + 1)); done\n")
    c = d.client()
    for name in ("sparse", "made"):
        path = c.attach(name).path + "/file"
        status = os.stat(path)
        assert status.st_size == 200 << 20 and status.st_blocks * 512 < 1 << 20, status
        with open(path, "rb") as f:
            assert f.read(5) == b"begin" and f.seek(100 << 20) and f.read(3) == b"end"
        assert d.instance(name)["size"] < 1 << 20
    digests = [c.attach(name).data.split()[4] for name in ("sparse", "made")]
    assert digests[0] == digests[1] == subprocess.run(["xxhsum", "-H2", t.path("sparse/file")], capture_output=True).stdout.split()[0]
    fails(c, "many", "larger than memory-max")
    assert c.attach("fits").path and 4 << 20 <= d.instance("fits")["size"] < 5 << 20
    fails(c, "draft", "larger than memory-max")
    for name in ("endless", "crowd"):  # is told while its command still runs
        fails(c, name, "larger than memory-max")


@once
def test_attributes_take_memory(t):
    with tempfile.NamedTemporaryFile(dir="/dev/shm") as f:
        try:
            os.setxattr(f.name, "user.words", b"x")
        except OSError as e:
            raise Skip(f"files in /dev/shm have no attributes of users: {e.strerror}")
    script = t.write("attributes.py", "import os\nfor n in range(40):\n    path = f'{os.environ[\"FIXD_DIR\"]}/{n}'\n"
                     "    open(path, 'w').close()\n    os.setxattr(path, 'user.words', b'w' * 60000)\n")
    d = t.daemon("".join(f"[fixture {name}]\nmemory-max = {most}\ntree = {sys.executable} {script}\n" for name, most in (("fits", "4M"), ("much", "2M"))))
    c = d.client()
    assert c.attach("fits").path and d.instance("fits")["size"] > 40 * 60000
    fails(c, "much", "larger than memory-max")


def test_views_of_trees_leave_no_descriptor(t):
    """Also when the tree is gone before them."""
    t.write("data/a", "a\n")
    d = t.daemon("[fixture f]\ndirectory = data\nwatch = stamp\n")
    c = d.client()
    c.attach("f").detach()
    before = len(os.listdir("/proc/self/fd"))
    for n in range(10):
        v = c.attach("f")
        t.write("stamp", "x" * n)
        c.attach("f").detach()
        d.ctl("cleanup", "--all", "--force")
        v.detach()
    v = c.attach("f")
    d.stop()
    v.detach()
    assert len(os.listdir("/proc/self/fd")) <= before


OBJECTS = """
#include <fixd-builder.h>
#include <string.h>
struct node { struct node *next; const char *text; const struct node *below; };
int base(struct fixd_builder *b)
{
	struct node *head = 0;
	for (int i = 0; i < 100000; i++) {
		struct node *n = fixd_alloc(b, sizeof *n);
		n->next = head;
		n->text = fixd_strdup(b, "text");
		head = n;
		if (i % 3 == 0)
			fixd_free(b, fixd_alloc(b, 100));
	}
	fixd_set_root(b, head);
	return 0;
}
int top(struct fixd_builder *b)
{
	const struct node *below = fixd_dep(b, "base", NULL);
	struct node *n = fixd_alloc(b, sizeof *n);
	if (!below || !below->next)
		return fixd_fail(b, "no base");
	n->text = below->next->text;
	n->below = below;
	fixd_set_root(b, n);
	return 0;
}
"""


def test_plugin_objects(t):
    import ctypes

    class Node(ctypes.Structure):
        pass

    Node._fields_ = [("next", ctypes.POINTER(Node)), ("text", ctypes.c_char_p), ("below", ctypes.POINTER(Node))]
    so = t.plugin("objects", OBJECTS)
    d = t.daemon(f"[fixture base]\nplugin = {so}:base\n[fixture top]\nplugin = {so}:top\ndepends = base\n")
    c = d.client()
    v = c.attach("top")
    top = Node.from_address(harness.LIB.fixd_view_root(v.handle))
    assert top.text == b"text"
    count, node = 0, top.below
    while node:
        count += node.contents.text == b"text"
        node = node.contents.next
    assert count == 100000
    b = c.attach("base")
    assert harness.LIB.fixd_view_root(b.handle) == ctypes.addressof(top.below.contents), "one image, one place"
    fails(c, "base", "other mode", number=16, flags=harness.COW)
    b.detach()
    v.detach()
    w = c.attach("top", flags=harness.COW)
    below = Node.from_address(harness.LIB.fixd_view_root(w.handle)).below.contents
    below.text = b"damaged"
    assert w.reset() >= 1 and below.text == b"text", "what it points into is put back, too"
    # Somebody else's writes are not undone by one who is alone, and nobody else's are its own.
    for name in "top", "base":
        fails(c, name, "alone", number=16, flags=harness.COW | harness.ALONE)
    c.attach("base", flags=harness.COW).detach()
    w.detach()
    w = c.attach("base", flags=harness.COW | harness.ALONE)
    for flags in harness.COW, harness.COW | harness.ALONE:
        fails(c, "top", "alone", number=16, flags=flags)
    w.detach()
    c.attach("top", flags=harness.COW | harness.ALONE).detach()


def test_same_objects_have_the_same_digest(t):
    """Objects built again elsewhere are recognised, and what depends on them stays."""
    so = t.plugin("objects", OBJECTS)
    t.write("watched", "1")
    d = t.daemon(f"[fixture base]\nplugin = {so}:base\nwatch = watched\n[fixture top]\nplugin = {so}:top\ndepends = base\n")
    c = d.client()
    v = c.attach("top")
    before = d.instances()
    t.write("watched", "2")
    w = c.attach("top")
    after = d.instances()
    assert after["base"]["builds"] == 2 and after["top"]["builds"] == 1
    assert after["base"]["digest"] == before["base"]["digest"] and after["base"]["generation"] == 1
    assert v.current
    v.detach()
    w.detach()


def test_malloc_arena(t):
    if "address" in harness.SANITIZERS or "thread" in harness.SANITIZERS:
        raise harness.Skip("the sanitizer brings its own malloc")
    so = t.plugin("library", """
#include <fixd-builder.h>
#include <stdlib.h>
#include <string.h>
int fixd_build(struct fixd_builder *b)
{
	char **list = malloc(100 * sizeof *list);
	for (int i = 0; i < 100; i++)
		list[i] = strdup("a library that knows nothing of fixd");
	free(list[50]);
	list[50] = NULL;
	fixd_set_root(b, list);
	return 0;
}
""")
    d = t.daemon(f"[fixture f]\nplugin = {so}\nmalloc = arena\n[fixture heap]\nplugin = {so}\n")
    c = d.client()
    v = c.attach("f")
    import ctypes
    array = (ctypes.c_char_p * 100).from_address(harness.LIB.fixd_view_root(v.handle))
    assert array[99].startswith(b"a library") and array[50] is None
    v.detach()
    fails(c, "heap", "not in the image")


def test_realloc_leaves_nothing_in_the_arena(t):
    if "address" in harness.SANITIZERS or "thread" in harness.SANITIZERS:
        raise harness.Skip("the sanitizer brings its own malloc")
    so = t.plugin("vectors", """
#include <fixd-builder.h>
#include <stdlib.h>
#include <string.h>
static int own;
int fixd_build(struct fixd_builder *b)
{
	static const size_t sizes[][2] = { { 512, 4096 }, { 64 << 10, 32 << 10 }, { 1 << 20, 20 << 10 }, { 1 << 20, 8 } };
	for (int k = 0; k < 4; k++) {
		void **p = malloc(sizes[k][0]);
		for (size_t i = 0; i < sizes[k][0] / sizeof *p; i++)
			p[i] = &own;
		p = realloc(p, sizes[k][1]);
		if (p[0] != &own)
			return 1;
		memset(p, 0, sizes[k][1]);
	}
	free(realloc(NULL, 10));
	return realloc(malloc(10), 0) != NULL;
}
""")
    d = t.daemon(f"[fixture f]\nplugin = {so}\nmalloc = arena\n")
    d.client().attach("f").detach()


def test_what_a_plugin_says_is_told(t):
    so = t.plugin("says", """
#include <fixd-builder.h>
#include <stdlib.h>
int fixd_build(struct fixd_builder *b)
{
	if (fixd_alloc(b, 64 << 20))
		return 0;
	return *fixd_builder_param(b) ? 1 : fixd_fail(b, "row 7 of the table is wrong");
}
int by_malloc(struct fixd_builder *b)
{
	return malloc(64 << 20) ? 0 : fixd_fail(b, "the table is too large");
}
""")
    d = t.daemon(f"[fixture f]\nplugin = {so}\nmemory-max = 1M\n"
                 f"[fixture plain]\nplugin = {so}\nmemory-max = 1M\nparams = x\n"
                 + (f"[fixture heap]\nplugin = {so}:by_malloc\nmalloc = arena\nmemory-max = 1M\n"
                    if not {"address", "thread"} & set(harness.SANITIZERS) else ""))
    c = d.client()
    fails(c, "f", "row 7 of the table is wrong", "larger than memory-max")
    fails(c, "plain[x]", "larger than memory-max")
    if d.instances().get("heap") is not None:
        fails(c, "heap", "the table is too large", "larger than memory-max")


def test_dependency_by_path_in_the_arena(t):
    """Also when the keeper is killed, and somebody else has to tear down."""
    if "address" in harness.SANITIZERS or "thread" in harness.SANITIZERS:
        raise harness.Skip("the sanitizer brings its own malloc")
    so = t.plugin("paths", """
#include <fixd-builder.h>
#include <stdio.h>
int fixd_build(struct fixd_builder *b)
{
	const char *path = fixd_dep_path(b, "small");
	FILE *f = path ? fopen(path, "r") : NULL;
	char *line = fixd_alloc(b, 100);
	if (!f || !fgets(line, 100, f))
		return fixd_fail(b, "%s cannot be read", path ? path : "nothing");
	fclose(f);
	return 0;
}
""")
    torn = t.path("torn")
    d = t.daemon(f"[fixture small]\ncommand = echo small bytes\n"
                 f"[fixture f]\ndepends = small\nplugin = {so}\nmalloc = arena\nteardown = cat $FIXD_DEP_small >>{torn}\n")
    c = d.client()
    v = c.attach("f")
    assert b"small bytes" in v.data
    v.detach()
    for pid in children_of(d.process.pid):
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: os.path.exists(torn) and open(torn).read() == "small bytes\n", "the teardown")


def test_stray_pointers(t):
    so = t.plugin("stray", """
#include <fixd-builder.h>
#include <stdlib.h>
int fixd_build(struct fixd_builder *b)
{
	void **p = fixd_alloc(b, 64);
	p[1] = malloc(10);
	p[2] = (void *)"a literal";
	p[3] = p;
	return 0;
}
""")
    d = t.daemon("".join(f"[fixture {n}]\nplugin = {so}\nstray-pointers = {n}\n" for n in ("error", "warn", "allow")))
    c = d.client()
    fails(c, "error", "2 pointer(s)", "offset 0x8", "offset 0x10", "stray.so")
    c.read("warn")
    assert "2 stray pointer(s)" in d.ctl("log", "warn").out
    c.read("allow")
    assert d.ctl("log", "allow").out == ""


def test_stray_pointers_are_named(t):
    """What they lead to, as its author calls it, and for each kind what can be done."""
    so = t.plugin("kinds", """
#include <fixd-builder.h>
#include <stdlib.h>
static int hidden[100000];
static __thread int own[10];
int seen[100000];
int filled[100000] = { 1 };
const char literal[] = "literal";
int fixd_build(struct fixd_builder *b)
{
	int local = 0;
	void **p = fixd_alloc(b, 64);
	p[0] = &hidden[70000];
	p[1] = &seen[5];
	p[2] = &filled[5];
	p[3] = (void *)literal;
	p[4] = (void *)fixd_build;
	p[5] = malloc(10);
	p[6] = &local;
	p[7] = &own[5];
	fixd_set_root(b, p);
	return 0;
}
""")
    d = t.daemon(f"[fixture a]\nplugin = {so}\n")
    fails(d.client(), "a", "8 pointer(s)", f"in static variable 'hidden' of {so}", f"in thread-local variable 'own' of {so}", f"in static variable 'seen' of {so}", f"in static variable 'filled' of {so}",
          "in constant 'literal' of", f"in function 'fixd_build' of {so}", "in the builder's heap", "in the builder's stack",
          "malloc = arena in the section", "keep a number or a name", "copy what is needed into the arena")


def test_one_stray_pointer_of_each_kind(t):
    """Behind many of one kind the others are told, too, with what can be done about them."""
    so = t.plugin("many", """
#include <fixd-builder.h>
#include <stdlib.h>
#include <sys/mman.h>
static int same[1000];
int fixd_build(struct fixd_builder *b)
{
	void **p = fixd_alloc(b, 4096);
	for (int k = 0; k < 100; k++)
		p[k] = &same[k];
	p[100] = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	p[101] = (void *)fixd_build;
	fixd_set_root(b, p);
	return 0;
}
""")
    d = t.daemon(f"[fixture a]\nplugin = {so}\n")
    said = fails(d.client(), "a", "102 pointer(s)", "memory of mmap()", "what mmap() gave", "function 'fixd_build'", "keep a number or a name")
    assert said.count("static variable 'same'") == 8, said


HIDDEN = """
#include <fixd-builder.h>
#include <errno.h>
#include <sys/auxv.h>
namespace {
struct Shape { virtual int area() const { return 1; } virtual ~Shape() {} };
struct Square : Shape { int area() const override { return 2; } };
const char *const names[] = { "a", "b" };
}
extern "C" int fixd_build(struct fixd_builder *b)
{
	const void **p = (const void **)fixd_alloc(b, 64);
	static Square square;
	p[0] = *(void **)&square;
	p[1] = &names[1];
	p[2] = &errno;
	p[3] = (void *)getauxval(AT_EXECFN);
	fixd_set_root(b, p);
	return 0;
}
"""


def test_stray_pointers_of_what_is_not_exported(t):
    """Of an unnamed namespace, with its symbols and without: a table of functions is known as one."""
    if not shutil.which("g++") or not shutil.which("strip"):
        raise harness.Skip("g++ or strip is not installed")
    source, so = t.write("hidden.cc", HIDDEN), t.path("hidden.so")
    subprocess.run(["g++", "-O0", "-shared", "-fPIC", "-o", so, source, "-I", os.path.join(harness.SRC, "include"), "-L", os.path.join(harness.BUILD, ".libs"),
                    "-Wl,-z,relro", "-Wl,-rpath," + os.path.join(harness.BUILD, ".libs"), "-lfixd-builder"], check=True)
    subprocess.run(["strip", "-o", t.path("stripped.so"), so], check=True)
    d = t.daemon(f"[fixture named]\nplugin = {so}\n[fixture stripped]\nplugin = stripped.so\n")
    fails(d.client(), "named", "4 pointer(s)", f"in table of virtual functions 'vtable for (anonymous namespace)::Square' of {so}", "virtual functions: ",
          f"in constant '(anonymous namespace)::names' of {so}", "in thread-local variable 'errno' of ", "in the builder's arguments and environment")
    fails(d.client(), "stripped", "4 pointer(s)", f"in table of virtual functions of {t.path('stripped.so')}", f"in constant of {t.path('stripped.so')}")


SEEDED = """
#include <fixd-builder.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
/* As libraries seed their hash tables. */
int fixd_build(struct fixd_builder *b)
{
	long *p = fixd_alloc(b, 2 * sizeof(*p));
	const long *dep = fixd_dep(b, "before", NULL);
	p[0] = getpid();
	p[1] = dep ? dep[1] + 1 : 7;
	fixd_set_root(b, p);
	return 0;
}
int same_everywhere(const void *root) { const long *p = root; return p[1] != 7 && p[1] != 8; }
int seed_is_right(const void *root) { const long *p = root; if (p[0] != getpid()) { fprintf(stderr, "the seed is another one\\n"); return 1; } return 0; }
int crashes(const void *root) { (void)root; abort(); }
int ends(const void *root) { (void)root; exit(0); }
int minus(const void *root) { (void)root; return -256; }
int closes(const void *root) { (void)root; for (int fd = 0; fd < 100; fd++) close(fd); return 0; }
"""


def test_verify(t):
    """A function of the plugin looks at the image in a fresh process before anybody gets it."""
    so = t.plugin("seeded", SEEDED)
    d = t.daemon("".join(f"[fixture {n}]\nplugin = {so}\nverify = {v}\n{more}" for n, v, more in (
        ("before", "same_everywhere", ""), ("after", "same_everywhere", "depends = before\n"), ("seeded", "seed_is_right", ""), *((n, n, "") for n in ("crashes", "ends", "minus", "closes")),
        ("missing", "no_such_function", ""))))
    c = d.client()
    assert c.read("before")[8] == 7 and c.read("after")[8] == 8
    what = "what was built is not right in another process: verify "
    fails(c, "seeded", what[:-len("verify ")] + "seed_is_right() returned 1")
    assert "the seed is another one" in d.ctl("log", "seeded").out
    fails(c, "crashes", what + "was killed by signal 6")
    fails(c, "ends", what + "exited with status 0, and did not return")
    assert c.read("closes")[8] == 7
    fails(c, "minus", "minus() returned -256")
    fails(c, "missing", f"{so} has no function 'no_such_function', which verify names")
    assert d.instance("seeded")["state"] == "failed" and d.instance("seeded")["size"] is None


def test_names_of_the_interface(t):
    """The long ones, beside those of libfixd in C++; and the short ones."""
    if not shutil.which("g++"):
        raise harness.Skip("g++ is not installed")
    source, so = t.write("both.cc", """
#define FIXD_BUILDER_LONG_NAMES
#include <fixd.h>
#include <fixd-builder.h>
fixd_build *of_a_client;
extern "C" int fixd_builder_main(struct fixd_builder *b)
{
	fixd_builder_set_root(b, fixd_builder_strdup(b, "a long name"));
	return 0;
}
"""), t.path("both.so")
    subprocess.run(["g++", "-Wall", "-Werror", "-shared", "-fPIC", "-o", so, source, "-I", os.path.join(harness.SRC, "include"),
                    "-L", os.path.join(harness.BUILD, ".libs"), "-Wl,-rpath," + os.path.join(harness.BUILD, ".libs"), "-lfixd-builder"], check=True)
    short = t.plugin("short", """
#include <fixd-builder.h>
int fixd_build(struct fixd_builder *b) { fixd_set_root(b, fixd_strdup(b, "a short name")); return 0; }
""")
    none = t.plugin("none", "int another_function(void) { return 0; }\n")
    d = t.daemon(f"[fixture long]\nplugin = {so}\n[fixture short]\nplugin = {short}\n[fixture none]\nplugin = {none}\n")
    assert d.client().read("long").startswith(b"a long name\0") and d.client().read("short").startswith(b"a short name\0")
    fails(d.client(), "none", "has no function 'fixd_build', nor 'fixd_builder_main'")


def test_virtual_functions_are_named(t):
    if "address" in harness.SANITIZERS or "thread" in harness.SANITIZERS:
        raise harness.Skip("the sanitizer brings its own malloc")
    if not shutil.which("g++"):
        raise harness.Skip("g++ is not installed")
    source, so = t.write("shape.cc", """
#include <fixd-builder.h>
namespace shapes { struct Round { virtual ~Round() {} int r = 3; }; }
extern "C" int fixd_build(struct fixd_builder *b) { fixd_set_root(b, new shapes::Round); return 0; }
"""), t.path("shape.so")
    subprocess.run(["g++", "-shared", "-fPIC", "-o", so, source, "-I", os.path.join(harness.SRC, "include"), "-L", os.path.join(harness.BUILD, ".libs"),
                    "-Wl,-rpath," + os.path.join(harness.BUILD, ".libs"), "-lfixd-builder"], check=True)
    d = t.daemon(f"[fixture a]\nplugin = {so}\nmalloc = arena\n")
    fails(d.client(), "a", "in table of virtual functions 'vtable for shapes::Round' of", "their table is at another address in every process")


def test_environment(t):
    """`env` passes variables of the client on, and makes them part of the identity."""
    d = t.daemon("[fixture f]\nenv = LEVEL, COLOUR\ncommand = echo \"$FIXD_FIXTURE/$LEVEL/${COLOUR-unset}\"\n"
                 "[fixture g]\ndepends = f\ncommand = cat $FIXD_DEP_f\n[fixture bare]\ncommand = echo ${LEVEL-unset}\n", env={"LEVEL": "0"})
    os.environ["LEVEL"] = "1"
    os.environ.pop("COLOUR", None)
    c = d.client()
    assert c.read("f") == b"f/1/unset\n" and c.read("g") == b"f/1/unset\n"
    os.environ["LEVEL"] = "2"
    os.environ["COLOUR"] = ""
    assert c.read("g") == b"f/2/\n" and c.read("f") == b"f/2/\n"
    assert c.read("bare") == b"unset\n", "a builder's environment is clean"
    os.environ["LEVEL"] = "1"
    del os.environ["COLOUR"]
    assert c.read("f") == b"f/1/unset\n"
    assert len([i for i in d.status()["sessions"][0]["instances"] if i["name"] == "f"]) == 2
    del os.environ["LEVEL"]


def test_params_and_scopes(t):
    d = t.daemon("[fixture f]\nparams = 10, 20\ncommand = echo $FIXD_PARAM\n"
                 "[fixture m]\nscope = module\ncommand = echo \"$FIXD_SCOPE_KEY\"\n"
                 "[fixture p]\nscope = package\ncommand = echo \"$FIXD_SCOPE_KEY\"\n"
                 "[fixture k]\nscope = class\ndepends = m, p, f[20]\ncommand = cat $FIXD_DEP_m $FIXD_DEP_p $FIXD_DEP_f_20; echo \"$FIXD_SCOPE_KEY\"\n")
    c = d.client()
    assert c.read("f[10]") == b"10\n" and c.read("f[20]") == b"20\n"
    fails(c, "f", "ask for one", number=2)
    fails(c, "f[30]", "no param '30'", number=2)
    assert c.read("m", key="pkg/a.py::A::t") == b"pkg/a.py\n" and c.read("m", key="pkg/b.py::t") == b"pkg/b.py\n"
    assert c.read("p", key="pkg/a.py::A::t") == b"pkg\n" and c.read("p", key="a.py::t") == b"\n"
    assert c.read("k", key="pkg/a.py::A::t") == b"pkg/a.py\npkg\n20\npkg/a.py::A\n"
    assert len([i for i in d.status()["sessions"][0]["instances"] if i["name"] == "m"]) == 2


@once
def test_builds_as_another_user(t):
    if os.geteuid() != 0:
        raise harness.Skip("only root can build as another user")
    import shutil

    os.chmod(t.dir, 0o755)
    t.write("data/x", "x")
    os.mkdir(t.path("private"), 0o700)
    shutil.copy(os.environ.get("FIXD_BUILDER", harness.program("fixd-builder")), t.path("private/fixd-builder"))
    d = t.daemon("[fixture f]\nuser = nobody\ncommand = id -un\n[fixture d]\nuser = nobody\ndirectory = data\n",
                 env={"FIXD_BUILDER": t.path("private/fixd-builder")})
    c = d.client()
    assert c.read("f") == b"nobody\n"
    v = c.attach("d")
    assert open(v.path + "/x").read() == "x"
    v.detach()


def test_daemon_killed_takes_builders_along(t):
    d = t.daemon("[fixture f]\ncommand = echo $$ > pid; sleep 1000; true\n")
    client = t.child(lambda: fails(harness.Client(d.socket), "f", number=111))
    wait_for(lambda: os.path.exists(t.path("pid")) and open(t.path("pid")).read().endswith("\n"), "the build")
    builder = int(open(t.path("pid")).read())
    d.kill()
    assert exit_code(client) == 0, "the client is told at once"
    wait_for(lambda: not os.path.exists(f"/proc/{builder}") or open(f"/proc/{builder}/stat").read().split()[2] == "Z",
             "the command to be gone")


def test_a_cold_chain(t):
    d = t.daemon("".join(f"[fixture f{n}]\n" + (f"depends = f{n - 1}\ncommand = cat $FIXD_DEP_f{n - 1}\n" if n else "command = echo x\n")
                         for n in range(6)))
    assert d.client().read("f5") == b"x\n"


def test_a_chain_that_fails(t):
    d = t.daemon("".join(f"[fixture f{n}]\n" + (f"depends = f{n - 1}\ncommand = cat $FIXD_DEP_f{n - 1}\n" if n else "command = echo why >&2; false\n")
                         for n in range(4)))
    fails(d.client(), "f3", "depends on 'f2'", "why")


def test_a_diamond_with_a_slow_leg(t):
    """What is only wanted by others is built whatever it is called, and whichever of its dependencies ends last."""
    ini = "".join(f"[fixture {n}]\ndepends = {d}\ncommand = echo {n}\n" for n, d in (("a", "d1, i"), ("z", "d1, i"), ("i", "d1, d2")))
    os.mkfifo(t.path("gate"))
    d = t.daemon(ini + "[fixture d1]\ncommand = echo d1\n[fixture d2]\ncommand = cat gate\n")
    warm = t.child(lambda: d.ctl("warm", "a", "z"))
    wait_for(lambda: "d1" in d.instances() and d.instance("d1")["state"] == "ready", "the quick leg")
    with open(t.path("gate"), "w"):
        pass
    assert exit_code(warm) == 0


def test_a_diamond(t):
    """Many ways down are not many times the work."""
    ini = "[fixture a0]\ncommand = echo x\n[fixture b0]\ncommand = echo x\n"
    for n in range(1, 24):
        ini += "".join(f"[fixture {x}{n}]\ndepends = a{n - 1}, b{n - 1}\ncommand = cat $FIXD_DEP_a{n - 1}\n" for x in "ab")
    d = t.daemon(ini)
    c = d.client()
    assert c.read("a23") == b"x\n"
    start = time.monotonic()
    c.read("a23")
    assert time.monotonic() - start < 5


def test_reload_while_a_dependency_is_built(t):
    os.mkfifo(t.path("gate"))
    ini = "[fixture dep]\ncommand = {dep}\n[fixture top]\ndepends = dep\ncommand = cat $FIXD_DEP_dep\n"
    d = t.daemon(ini.format(dep="cat gate"))
    client = t.child(lambda: harness.Client(d.socket).read("top") == b"new\n")
    wait_for(lambda: "dep" in d.instances() and d.instance("dep")["state"] == "building" and children_of(d.pid), "the build")
    d.configure(ini.format(dep="echo new"))
    d.ctl("reload")
    assert exit_code(client) == 0


def test_reload_that_takes_the_chain_apart(t):
    os.mkfifo(t.path("gate"))
    d = t.daemon("[fixture a]\ncommand = cat gate\n[fixture c]\ndepends = a\ncommand = cat $FIXD_DEP_a\n"
                 "[fixture b]\ndepends = c\ncommand = cat $FIXD_DEP_c\n")
    client = t.child(lambda: harness.Client(d.socket).read("b") == b"c again\n")
    wait_for(lambda: "a" in d.instances() and d.instance("a")["state"] == "building", "the build")
    d.configure("[fixture c]\ncommand = echo c\n[fixture b]\ndepends = c\ncommand = cat $FIXD_DEP_c | sed 's/$/ again/'\n")
    d.ctl("reload")
    assert exit_code(client) == 0


def test_failure_is_kept_while_a_dependency_is_checked(t):
    d = t.daemon(f"[fixture dep]\ncommand = echo x\ncheck = true\n[fixture f]\ndepends = dep\ncommand = {t.counted('false')}\n")
    c = d.client()
    for _ in range(4):
        fails(c, "f", "status 1")
    assert t.runs() == 1


def test_dependency_that_expires_during_the_build(t):
    d = t.daemon("[fixture dep]\nmax-age = 50ms\ncommand = date +%N\n"
                 "[fixture top]\ndepends = dep\ncommand = for n in 1 2 3 4 5 6 7 8; do date >/dev/null\n  done; cat gate $FIXD_DEP_dep\n")
    os.mkfifo(t.path("gate"))
    client = t.child(lambda: len(harness.Client(d.socket).read("top")) == 10)
    wait_for(lambda: "top" in d.instances() and d.instance("top")["state"] == "building" and d.instance("dep")["state"] == "ready", "top")
    wait_for(lambda: (d.instance("dep")["age_s"] or 0) > 0.2, "the dependency to be too old")
    with open(t.path("gate"), "w"):
        pass
    assert exit_code(client) == 0
    assert d.instance("top")["builds"] == 1


def test_many_images_with_much_memory_allowed(t):
    d = t.daemon("[fixd]\nmemory-max = 64G\njobs = 4\n" + "".join(f"[fixture f{n}]\ncommand = echo {n}\n" for n in range(60)))
    d.ctl("warm")
    i = d.instances()
    assert all(x["state"] == "ready" for x in i.values())
    assert max(x["address"] for x in i.values()) - min(x["address"] for x in i.values()) < 60 * 2**21


def test_plugins_share_the_addresses(t):
    so = t.plugin("small", "#include <fixd-builder.h>\nint fixd_build(struct fixd_builder *b) { return fixd_alloc(b, 100) ? 0 : -1; }\n")
    d = t.daemon("[fixd]\nmemory-max = none\njobs = 8\n" + "".join(f"[fixture f{n}]\nplugin = {so}\n" for n in range(40)))
    d.ctl("warm")
    assert all(x["state"] == "ready" for x in d.instances().values())


def test_content_of_many_files(t):
    for n in range(2000):
        t.write(f"data/a-directory-with-a-long-name/{n}", str(n))
    d = t.daemon("[fixture f]\ndirectory = data\nwatch-by = content\n")
    c = d.client()
    v = c.attach("f")
    os.utime(t.path("data/a-directory-with-a-long-name/7"))
    w = c.attach("f")
    assert d.instance("f")["builds"] == 1
    v.detach()
    w.detach()


def test_more_images_than_descriptors(t):
    import resource

    d = t.daemon("[fixture f]\nscope = function\ncommand = echo \"$FIXD_SCOPE_KEY\"\n",
                 preexec=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (96, 96)))
    c = d.client()
    for n in range(150):
        assert c.read("f", key=f"x.c::{n}") == f"x.c::{n}\n".encode()


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
