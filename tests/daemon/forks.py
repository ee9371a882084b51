# SPDX-License-Identifier: MIT
"""Templates: processes that stop at a checkpoint, and are forked for whoever asks."""

import json
import errno
import os
import pty
import re
import resource
import select
import signal
import socket
import struct
import subprocess
import termios
import time

import harness
from harness import BUILD, LIMIT, NOBODY, SANITIZERS, SRC, children_of, once, wait_for
from services import is_alive, is_gone

# What it does before the checkpoint is in its environment, and what its forks do in their arguments.
PROGRAM = r"""
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <fixd.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static int fds[2] = { -1, -1 };
static struct fixd_view *view;

static void note(const char *what)
{
	int fd = open(getenv("NOTES"), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);

	dprintf(fd, "%s %d\n", what, getpid());
	close(fd);
}

static void of_template(void) { note("exit handler of the template in"); }
static void of_fork(void) { note("exit handler of the fork in"); }
static void on_before(void *arg) { note(arg); }
static void on_child(void *arg) { (void)arg; note("child"); }

static _Atomic int waiting;

static void *waits_for_ever(void *arg)
{
	waiting = gettid();
	for (;;)
		pause();
	return arg;
}

/* It has nothing else to sleep in. */
static bool sleeps(int tid)
{
	char path[64], state = 0;
	FILE *f;

	snprintf(path, sizeof path, "/proc/self/task/%d/stat", tid);
	f = fopen(path, "re");
	if (f) {
		fscanf(f, "%*d (%*[^)]) %c", &state);
		fclose(f);
	}
	return state == 'S';
}

static void make(const char *what)
{
	pthread_t thread;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	if (!strcmp(what, "thread")) {
		pthread_create(&thread, NULL, waits_for_ever, NULL);
		pthread_setname_np(thread, "pool-7");
		while (!waiting || !sleeps(waiting))
			;
	} else if (!strcmp(what, "child")) {
		if (fork() == 0)
			execlp("sleep", "sleep", "1000", NULL);
	} else if (!strcmp(what, "socket")) {
		struct sockaddr_un at = { .sun_family = AF_UNIX, .sun_path = "listener" };

		fds[0] = socket(AF_UNIX, SOCK_STREAM, 0);
		unlink(at.sun_path);
		bind(fds[0], (struct sockaddr *)&at, sizeof at);
		listen(fds[0], 1);
		fds[1] = socket(AF_UNIX, SOCK_STREAM, 0);
		connect(fds[1], (struct sockaddr *)&at, sizeof at);
	} else if (!strcmp(what, "pipe")) {
		pipe(fds);
	} else if (!strcmp(what, "eventfd")) {
		fds[0] = eventfd(0, 0);
	} else if (!strcmp(what, "epoll")) {
		fds[0] = epoll_create1(0);
	} else if (!strcmp(what, "inotify")) {
		fds[0] = inotify_init1(0);
	} else if (!strcmp(what, "timerfd")) {
		fds[0] = timerfd_create(CLOCK_MONOTONIC, 0);
	} else if (!strcmp(what, "signalfd")) {
		fds[0] = signalfd(-1, &set, 0);
	} else if (!strcmp(what, "file")) {
		fds[0] = open("written", O_CREAT | O_WRONLY, 0600);
	} else if (!strcmp(what, "log")) {
		fds[0] = open("written", O_CREAT | O_WRONLY | O_APPEND, 0600);
	} else if (!strcmp(what, "lock")) {
		fds[0] = open("locked", O_CREAT | O_RDONLY, 0600);
		flock(fds[0], LOCK_EX);
	} else if (!strcmp(what, "mapping")) {
		fds[0] = open("mapped", O_CREAT | O_RDWR | O_APPEND, 0600);
		ftruncate(fds[0], 8192);
		mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fds[0], 0);
	} else if (!strcmp(what, "timer")) {
		alarm(1000);
	} else if (!strcmp(what, "timer_create")) {
		timer_t timer;

		timer_create(CLOCK_MONOTONIC, NULL, &timer);
	} else if (!strcmp(what, "view")) {
		struct fixd_options o = { .size = sizeof o, .flags = FIXD_COW };
		struct fixd *f;

		if (fixd_open(&f, NULL) < 0 || fixd_attach(f, "words", &o, &view) < 0)
			exit((fprintf(stderr, "%s\n", fixd_error(NULL)), 3));
	}
}

static void tell(int argc, char **argv)
{
	char cwd[4096];
	struct rlimit l;
	struct winsize size = { 0 };
	mode_t mask = umask(0);
	struct sigaction hup;
	DIR *dir = opendir("/proc/self/fd");
	struct dirent *e;

	getrlimit(RLIMIT_NOFILE, &l);
	sigaction(SIGHUP, NULL, &hup);
	ioctl(0, TIOCGWINSZ, &size);
	printf("pid=%d\nparent=%d\ngroup=%d\ncwd=%s\numask=%o\nnofile=%llu\nignored=%d\nrandom=%d\nsize=%dx%d\ntty=%d\n", getpid(), getppid(),
	       getpgrp(), getcwd(cwd, sizeof cwd), mask, (unsigned long long)l.rlim_cur, hup.sa_handler == SIG_IGN, rand(), size.ws_col,
	       size.ws_row, open("/dev/tty", O_RDWR | O_CLOEXEC) >= 0);
	for (int i = 0; i < argc; i++)
		printf("arg=%s\n", argv[i]);
	for (char **v = environ; *v; v++)
		printf("env=%s\n", *v);
	while ((e = readdir(dir)))
		if (atoi(e->d_name) > 2 && atoi(e->d_name) != dirfd(dir)) {
			char path[64], to[4096];
			ssize_t n;

			snprintf(path, sizeof path, "/proc/self/fd/%s", e->d_name);
			n = readlink(path, to, sizeof to - 1);
			to[n > 0 ? n : 0] = 0;
			if (strcmp(to, "/dev/tty"))
				printf("fd=%s %s\n", e->d_name, to);
		}
}

static int covered(int n)
{
	return n + 1;
}

static void on_signal(int signal) { dprintf(1, "signal %d\n", signal); }

int main(int argc, char **argv)
{
	struct fixd_checkpoint how = { .size = sizeof how, .child = on_child, .arg = "before" };
	char word[100];
	int r;

	note("prepared");
	atexit(of_template);
	setenv("OWN", "of the template", 1);
	unsetenv("GONE");
	if (getenv("MAKE"))
		make(getenv("MAKE"));
	if (getenv("HOOK"))
		how.before = on_before;
	if (getenv("KEEP")) {
		how.keep_fds = fds;
		how.n_keep_fds = 2;
	}
	printf("not flushed by the template\n");
	r = fixd_fork_here(&argc, &argv, &how);
	if (r < 0)
		return fprintf(stderr, "no checkpoint: %s\n", fixd_error(NULL)), 9;
	atexit(of_fork);
	if (argc < 2) {
		printf("plain %d\n", r);
	} else if (!strcmp(argv[1], "tell")) {
		tell(argc, argv);
	} else if (!strcmp(argv[1], "exit")) {
		printf("flushed");
		return covered(atoi(argv[2]) - 1);
	} else if (!strcmp(argv[1], "die")) {
		raise(atoi(argv[2]));
	} else if (!strcmp(argv[1], "cat")) {
		while (fgets(word, sizeof word, stdin))
			fputs(word, stdout);
	} else if (!strcmp(argv[1], "wait")) {
		signal(SIGTERM, on_signal);
		signal(SIGINT, on_signal);
		signal(SIGWINCH, on_signal);
		dprintf(1, "waits %d\n", getpid());
		for (;;)
			pause();
	} else if (!strcmp(argv[1], "write")) {
		char *p = (char *)fixd_view_data(view);

		printf("%.5s", p);
		memcpy(p, argv[2], 5);
		printf(" %.5s", p);
		printf(" %d", (int)fixd_view_reset(view));
		printf(" %.5s\n", p);
	}
	return 0;
}
"""


def section(t, more="", make="", name="template", program="template", hook=False):
    path = t.path(program)
    os.environ["NOTES"] = t.path("notes")
    if not os.path.exists(path):
        t.program(program, PROGRAM)
    before = f"NOTES={t.path('notes')} GONE=1 {'MAKE=' + make + ' ' if make else ''}{'HOOK=1 ' if hook else ''}"
    return f"[fixture {name}]\nprocess = {before}exec {path}\n{more}\n"


def notes(t):
    try:
        with open(t.path("notes")) as f:
            return [line.rsplit(" ", 1)[0] for line in f.read().splitlines()]
    except FileNotFoundError:
        return []


def told(text):
    found = {}
    for line in text.splitlines():
        key, _, value = line.partition("=")
        found.setdefault(key, []).append(value)
    return found


def started(d, *args, **more):
    """A fork in the background; its first line has its pid."""
    p = subprocess.Popen([harness.program("fixctl"), "--socket", d.socket, "fork", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         env=harness.process_environment(), **more)
    p.fork = int(p.stdout.readline().split()[1])
    return p


def template_of(d, name="template"):
    return d.instance(name)["service_pid"]


def test_variables(t):
    """The template is prepared with those of its caller that the section names; with others it is another one."""
    d = t.daemon(section(t, "env = OWN, X"))
    for value in "a", "b", "a":
        seen = told(d.ctl("fork", "template", "--", "tell", env={"X": value}).out)
        assert f"X={value}" in seen["env"], seen
    assert notes(t).count("prepared") == 2


def test_what_a_fork_gets(t):
    take_over(t, t.daemon(section(t)))
    assert "before" not in notes(t)


def test_what_a_fork_gets_behind_a_hook(t):
    """Such a one is made when it is asked for."""
    take_over(t, t.daemon(section(t, hook=True)))
    assert notes(t).count("before") == 3


def take_over(t, d):
    where = t.path("elsewhere")
    os.mkdir(where)

    def prepare():
        import resource
        os.umask(0o27)
        resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300))
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    env = {"X": "a b\nc", "GONE": "of the caller", "OWN": "of the caller"}
    seen = [told(d.ctl("fork", "template", "--", "tell", "", "two words", env=env, cwd=where, preexec_fn=prepare,
                       stdin=subprocess.DEVNULL).out) for _ in range(2)]
    for one in seen:
        assert one["arg"] == [t.path("template"), "tell", "", "two words"], one
        assert one["cwd"] == [where] and one["umask"] == ["27"] and one["nofile"] == ["200"] and one["ignored"] == ["1"], one
        assert one["parent"] == [str(template_of(d))] and one["group"] == one["pid"] and one["tty"] == ["0"], one
        assert "fd" not in one, one["fd"]
        env = one["env"]
        assert "X=a b" in env and "OWN=of the template" in env, env
        assert not [v for v in env if v.startswith(("GONE=", "NOTIFY_SOCKET=", "FIXD_TEMPLATE=", "FIXD_AUDIT=", "FIXD_KEEPER="))], env
    assert seen[0]["random"] != seen[1]["random"]
    assert d.ctl("fork", "template", "--", "cat", input=b"one\ntwo\n").out == "one\ntwo\n"
    assert notes(t).count("prepared") == 1 and notes(t).count("child") == 3
    shown = d.instance("template")
    assert shown["source"] == "process" and shown["state"] == "ready" and shown["size"] > 50000, shown
    assert f"Template: pid {template_of(d)}, directory" in d.ctl("status", "template").out


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        return [int(child) for child in f.read().split()]


def spare_of(template, forks=()):
    """It waits, and has nothing of the template's but its end of a pair of sockets."""
    def waits(pid):
        return pid not in forks and harness.process_state(pid) == "S" and len(os.listdir(f"/proc/{pid}/fd")) == 4

    return wait_for(lambda: [pid for pid in children_of(template) if waits(pid)], "a spare fork")[0]


def test_a_spare_fork(t):
    """One is made before anybody asks; whoever asks gets it, and one that was lost costs nothing."""
    d = t.daemon(section(t) + section(t, name="hooked", hook=True))
    d.ctl("warm")
    template = template_of(d)
    spare = spare_of(template)
    for _ in range(3):
        assert told(d.ctl("fork", "template", "--", "tell").out)["pid"] == [str(spare)]
        wait_for(lambda: is_gone(spare), "the end of the fork")
        spare = spare_of(template)
    os.kill(spare, signal.SIGKILL)
    wait_for(lambda: is_gone(spare), "its end")
    assert int(told(d.ctl("fork", "template", "--", "tell").out)["pid"][0]) != spare
    both = [started(d, "template", "--", "wait") for _ in range(2)]
    spare = spare_of(template, [p.fork for p in both])
    assert children_of(template_of(d, "hooked")) == []
    assert d.ctl("fork", "hooked").out == "plain 1\n" and children_of(template_of(d, "hooked")) == []
    os.kill(template, signal.SIGKILL)
    for p in both:
        assert p.wait(timeout=LIMIT) != 0
        p.communicate()
    wait_for(lambda: is_gone(spare), "the end of the spare fork with its template")
    d.ctl("fork", "template")
    spare = spare_of(template_of(d))
    d.ctl("cleanup", "template")
    assert is_gone(spare)


def test_how_a_fork_ends(t):
    d = t.daemon(section(t))
    for code in 0, 1, 77:
        done = d.ctl("fork", "template", "--", "exit", str(code), code=code)
        assert (done.out, done.err) == ("flushed", ""), done.out + done.err
    assert notes(t).count("exit handler of the fork in") == 3
    for number in signal.SIGTERM, signal.SIGKILL, signal.SIGABRT:
        d.ctl("fork", "template", "--", "die", str(int(number)), code=128 + number)
    # What was registered before the checkpoint is the template's, and happens once.
    assert "exit handler of the template in" not in notes(t)
    d.ctl("cleanup", "template")
    assert notes(t).count("exit handler of the template in") == 1 and notes(t)[-1] == "exit handler of the template in"
    assert d.ctl("log", "template").out.count("not flushed by the template") == 1


def test_signals(t):
    d = t.daemon(section(t))
    p = started(d, "template", "--", "wait")
    for number in signal.SIGTERM, signal.SIGINT, signal.SIGWINCH:
        p.send_signal(number)
        line = p.stdout.readline()
        assert line == f"signal {int(number)}\n".encode(), (number, line)
    p.send_signal(signal.SIGTSTP)
    wait_for(lambda: harness.process_state(p.fork) == "T" and harness.process_state(p.pid) == "T", "both to stop")
    p.send_signal(signal.SIGCONT)
    wait_for(lambda: harness.process_state(p.fork) == "S", "it to go on")
    os.kill(p.fork, signal.SIGSTOP)
    wait_for(lambda: harness.process_state(p.pid) == "T", "its caller to stop with it")
    p.send_signal(signal.SIGCONT)
    wait_for(lambda: harness.process_state(p.fork) == "S", "it to go on again")
    p.send_signal(signal.SIGQUIT)
    assert p.wait(LIMIT) == 128 + signal.SIGQUIT, p.returncode
    # It is gone when its caller is killed, and others are not.
    first, second = started(d, "template", "--", "wait"), started(d, "template", "--", "wait")
    first.kill()
    wait_for(lambda: is_gone(first.fork), "its end")
    assert is_alive(second.fork)
    second.terminate()
    assert second.stdout.readline() == b"signal 15\n"
    second.kill()
    for p in first, second:
        p.communicate()
    wait_for(lambda: d.instance("template")["leases"] == 0, "the end of the leases")


def expect(fd, pattern):
    seen = b""
    end = time.monotonic() + LIMIT
    while not re.search(pattern, seen):
        assert select.select([fd], [], [], max(0, end - time.monotonic()))[0], seen
        seen += os.read(fd, 4096)
    return re.search(pattern, seen)


def test_a_terminal(t):
    d = t.daemon(section(t))

    def at_terminal(*args):
        pid, fd = pty.fork()
        if pid == 0:
            os.execve(harness.program("fixctl"), ["fixctl", "--socket", d.socket, "fork", *args], harness.process_environment())
        harness.CHILDREN.append(pid)
        return pid, fd

    # Ours: a terminal, and not its controlling one.
    pid, fd = at_terminal("template", "--", "tell")
    assert b"tty=0" in expect(fd, rb"tty=.\r\n").group()
    assert harness.exit_code(pid) == 0
    os.close(fd)
    # One of its own.
    pid, fd = at_terminal("--tty", "template", "--", "wait")
    fork = int(expect(fd, rb"waits (\d+)\r\n").group(1))
    attributes = termios.tcgetattr(fd)
    assert not attributes[3] & termios.ICANON
    os.write(fd, b"\x03")
    expect(fd, rb"signal 2\r\n")
    termios.tcsetwinsize(fd, (33, 111))
    expect(fd, rb"signal 28\r\n")
    os.write(fd, b"\x1c")
    assert harness.exit_code(pid) == 128 + signal.SIGQUIT
    assert termios.tcgetattr(fd)[3] & termios.ICANON, "the terminal is not as it was"
    assert is_gone(fork)
    os.close(fd)
    pid, fd = at_terminal("--tty", "template", "--", "tell")
    assert b"tty=1" in expect(fd, rb"tty=.\r\n").group()
    assert harness.exit_code(pid) == 0
    os.close(fd)
    assert "tty=1" in d.ctl("fork", "-T", "template", "--", "tell", stdin=subprocess.DEVNULL).out
    # The end of a line that has none.
    with open(t.write("part", "hello")) as part:
        assert d.ctl("fork", "-T", "template", "--", "cat", stdin=part).out.endswith("hello")
    # More than it reads, and more than a terminal takes.
    with open(t.write("much", "line\n" * 200000)) as much:
        assert "tty=1" in d.ctl("fork", "-T", "template", "--", "tell", stdin=much).out


def test_a_template_is_an_image(t):
    watched = t.write("input", "one")
    d = t.daemon(section(t, f"watch = {watched}"))
    p = started(d, "template", "--", "wait")
    first = template_of(d)
    # An edit: the next fork is of another template, and who has one of the old keeps it.
    t.write("input", "another")
    d.ctl("fork", "template", "--", "exit", "0")
    second = template_of(d)
    assert first != second and is_alive(first) and is_alive(p.fork)
    assert "changed" in d.instance("template")["stale_cause"]
    p.kill()
    p.communicate()
    wait_for(lambda: is_gone(first), "the end of the old one")
    # Restarted in place it goes on, with its forks.
    p = started(d, "template", "--", "wait")
    d.ctl("restart")
    assert template_of(d) == second and is_alive(p.fork)
    p.send_signal(signal.SIGTERM)
    assert p.stdout.readline() == b"signal 15\n"
    # One that dies is stale with its reason, and its forks die with it.
    os.kill(second, signal.SIGKILL)
    assert p.wait(LIMIT) == 1 and b"the template has ended, and its forks with it" in p.stderr.read()
    p.stdout.close()
    wait_for(lambda: is_gone(p.fork), "the end of its fork")
    d.ctl("fork", "template", "--", "exit", "0")
    assert template_of(d) != second and "service" not in d.instance("template")["stale_cause"], d.instance("template")
    assert d.instance("template")["generation"] == 3
    d.ctl("cleanup", "template")
    assert "service_pid" not in d.instance("template")


def test_what_it_has_loaded(t):
    """Built again, a program or one of its libraries makes it stale, whatever the section says."""
    program = ("#include <fixd.h>\n#include <stdio.h>\n#include <stdlib.h>\n#include <unistd.h>\nint number(void);\n"
               "int main(int argc, char **argv) { const char *files[] = { getenv(\"READ\"), NULL };\n"
               "struct fixd_checkpoint how = { .size = sizeof how, .files = files }; fixd_fork_here(&argc, &argv, &how);\n"
               "printf(\"%d %d\\n\", number(), WORD); fflush(stdout); return argc > 1 ? pause() : 0; }")

    def build_library(n):
        t.plugin("libnumber", f"int number(void) {{ return {n}; }}")

    def build(word):
        t.program("p", program, f"-DWORD={word}", t.path("libnumber.so"), "-Wl,-rpath," + t.dir)
    build_library(1)
    build(1)
    read = t.write("read", "one")
    d = t.daemon(f"[fixture template]\nprocess = READ={read} exec {t.path('p')}\nmax-age = none\n")
    assert d.ctl("fork", "template").out == "1 1\n"
    holder = subprocess.Popen([harness.program("fixctl"), "--socket", d.socket, "fork", "template", "--", "wait"], stdout=subprocess.PIPE,
                              env=harness.process_environment())
    assert holder.stdout.readline() == b"1 1\n"
    first = template_of(d)
    os.unlink(t.path("libnumber.so"))
    build_library(2)
    assert d.ctl("fork", "template").out == "2 1\n"
    cause = f"it has loaded {os.path.realpath(t.path('libnumber.so'))}, which has changed"
    assert d.instance("template")["stale_cause"] == cause, d.instance("template")["stale_cause"]
    # Who has one keeps it.
    assert holder.poll() is None and is_alive(first)
    os.unlink(t.path("p"))
    build(2)
    assert d.ctl("fork", "template").out == "2 2\n"
    assert d.instance("template")["generation"] == 3
    t.write("read", "another")
    assert d.ctl("fork", "template").out == "2 2\n" and d.ctl("fork", "template").out == "2 2\n"
    assert d.instance("template")["generation"] == 4 and f"it has loaded {read}, which" in d.instance("template")["stale_cause"]
    holder.kill()
    holder.communicate()
    wait_for(lambda: is_gone(first), "the end of the first")


def test_what_it_depends_on(t):
    d = t.daemon("[fixture words]\ncommand = printf 'hello world'\n" + section(t, "depends = words", make="view"))
    template = None
    for word in "howdy", "hallo":
        seen = d.ctl("fork", "template", "--", "write", word).out
        assert seen == f"hello {word} 1 hello\n", seen
        template = template or template_of(d)
        assert template_of(d) == template
    # In the template nothing of it is private.
    with open(f"/proc/{template}/smaps") as f:
        entry = re.search(r"memfd:fixd:words.*?Private_Dirty: +(\d+) kB", f.read(), re.S)
    assert entry.group(1) == "0", entry.group()


HAZARDS = {
    "thread": r"a fork would not have the thread 'pool-7' \(\d+\), which is in pause\(\) of libc.so.6.* \(thread\)",
    "child": r"the child process '(sleep|template)' \(\d+\) would be none of a fork's \(child\)",
    "socket": r"all forks would share descriptor \d+, a socket that listens at listener \(socket\)\n"
              r"fixd: checkpoint: all forks would share descriptor \d+, a socket that is connected to listener \(socket\)",
    "pipe": r"all forks would share descriptor \d+, a pipe \(pipe\)",
    "eventfd": r"all forks would share descriptor \d+, an eventfd \(eventfd\)",
    "epoll": r"all forks would share descriptor \d+, an epoll instance \(epoll\)",
    "inotify": r"all forks would share descriptor \d+, an inotify instance \(inotify\)",
    "timerfd": r"all forks would share descriptor \d+, a timer \(timerfd\)",
    "signalfd": r"all forks would share descriptor \d+, a descriptor of signals \(signalfd\)",
    "lock": r"all forks would share the lock of descriptor \d+, \S+/locked \(lock\)",
    "mapping": r"all forks would share 8192 bytes of writable memory at 0x[0-9a-f]+, \S+/mapped \(mapping\)",
    "timer": r"a fork would not have the real timer of setitimer\(2\) or alarm\(2\) \(timer\)",
    "timer_create": r"a fork would not have the timer 0 of timer_create\(2\) \(timer\)",
}


@once
def test_the_audit(t):
    ini = "".join(section(t, name=name, make=name) for name in HAZARDS)
    d = t.daemon(ini + section(t, name="file", make="file") + section(t, name="log", make="log"))
    for name, pattern in HAZARDS.items():
        said = d.ctl("fork", name, code=4).err
        assert "the process exited with status 70 before it came to its checkpoint" in said, said
        if name == "thread" and SANITIZERS:
            pattern = pattern.replace(r"in pause\(\) of libc.so.6.*", r".*")
        assert re.search("fixd: checkpoint: " + pattern, said), said
        assert f"or allow it (audit = KIND:allow in [fixture {name}])" in said
        kind = "timer" if name == "timer_create" else name
        assert not [line for line in said.splitlines() if line.startswith("fixd: checkpoint: ") and not line.endswith((f"({kind})", f"{name}])"))], said
    # Only a warning: a file that is written from its start.
    assert d.ctl("fork", "file").out == "plain 1\n"
    assert re.search(r"warning: all forks would write at the same place of descriptor \d+, \S+/written \(file\)", d.ctl("log", "file").out)
    d.ctl("fork", "log")
    assert "checkpoint" not in d.ctl("log", "log").out


@once
def test_rules_of_the_audit(t):
    for rules, code in (("warn", 0), ("pipe:allow", 0), ("pipe:warn", 0), ("allow, pipe:error", 4), ("socket:allow", 4), ("pipe:allow, error", 4)):
        d = t.daemon(section(t, f"audit = {rules}", make="pipe"))
        d.ctl("fork", "template", code=code)
        said = d.ctl("log", "template").out
        assert ("a pipe" in said) == ("pipe:allow" != rules), (rules, said)
        assert ("warning: all forks" in said) == (rules in ("warn", "pipe:warn")), (rules, said)
        d.stop()
    # The program itself keeps them, and its forks have them.
    d = t.daemon(section(t, make="pipe").replace("MAKE=", "KEEP=1 MAKE="))
    assert len(told(d.ctl("fork", "template", "--", "tell").out)["fd"]) == 2


def test_refusals(t):
    plain = t.write("plain", "text")
    d = t.daemon(section(t) + f"[fixture file]\nfile = {plain}\n"
                 "[fixture never]\nprocess = exec sleep 1000\ntimeout = 200 ms\n[fixture ends]\nprocess = echo last words; exit 3\n"
                 "[fixture wrong]\nprocess = FIXD_TEMPLATE=/nowhere/fork exec " + t.path("template") + "\n")
    assert "'file' is no template; expected a fixture with 'process ='" in d.ctl("fork", "file", code=1).err
    assert ("timed out after 200.0 ms: the process had not come to its checkpoint by then (fixd_fork_here() or fixd.checkpoint())"
            in d.ctl("fork", "never", code=4).err)
    said = d.ctl("fork", "ends", code=4).err
    assert "the process exited with status 3 before it came to its checkpoint\nlast words" in said, said
    assert "no checkpoint: the template cannot listen at /nowhere/fork: No such file" in d.ctl("fork", "wrong", code=4, env={}).err
    assert "no fixture 'nothing'" in d.ctl("fork", "nothing", code=1).err
    assert "a NAME is missing" in d.ctl("fork", code=2).err and "a NAME is missing" in d.ctl("fork", "--", "x", code=2).err
    assert "arguments of the fork come after '--'" in d.ctl("fork", "template", "x", code=2).err
    assert "FIXD_DISABLE is set" in d.ctl("fork", "template", env={"FIXD_DISABLE": "1"}, code=1).err
    # Without a daemon it is a program like any other; twice and with one that is not asked, too.
    env = harness.process_environment()
    for more in {}, {"FIXD_DISABLE": "1", "FIXD_TEMPLATE": t.path("s")}:
        done = subprocess.run([t.path("template")], env={**env, **more}, capture_output=True, timeout=LIMIT)
        assert done.returncode == 0 and done.stdout == b"not flushed by the template\nplain 0\n", done


@once
def test_only_its_user(t):
    if os.geteuid() != 0:
        raise harness.Skip("only root can be somebody else")
    if not harness.can_be_reached(harness.program("fixctl")):
        raise harness.Skip("the build directory cannot be reached by other users")
    os.chmod(t.dir, 0o755)
    d = t.daemon("[fixd]\nallow-users = nobody\n" + section(t) + section(t, "user = nobody", name="theirs"))
    for name, uid, code in ("template", 0, 0), ("template", NOBODY, 1), ("theirs", NOBODY, 0), ("theirs", 0, 1):
        done = d.ctl("fork", name, "--", "exit", "0", code=None, cwd="/", user=uid, group=uid, extra_groups=[])
        assert done.returncode == code, (name, uid, done.out, done.err)
        assert not code or "user" in done.err and "may fork it" in done.err, done.err


@once
def test_who_only_says_that_it_is_a_template(t):
    """Where it listens is what an image says, which anybody may have built: another user's process hears nothing."""
    if os.geteuid() != 0:
        raise harness.Skip("only root can be somebody else")
    os.chmod(t.dir, 0o755)
    where = t.path("theirs")
    os.mkdir(where)
    os.chown(where, NOBODY, NOBODY)
    read, write = os.pipe()

    def listen():
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
            s.bind(where + "/fork")
            os.chmod(where + "/fork", 0o777)
            s.listen()
            os.write(write, b"x")
            return s.accept()[0].recv(1 << 16) == b""

    child = t.child(listen, NOBODY)
    assert os.read(read, 1) == b"x"
    d = t.daemon(f"[fixture theirs]\ncommand = printf %s {where}/fork\n")
    assert "the template 'theirs' runs as another user, and only that user may fork it" in d.ctl("fork", "theirs", code=1).err
    assert harness.exit_code(child) == 0, "it was told something"
    os.close(read)
    os.close(write)


@once
def test_a_template_that_does_not_run(t):
    """Nobody is accepted, and who comes next cannot even connect: that has its limit, too."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    d = t.daemon(section(t))
    where = d.client().read("template").decode()
    os.kill(template_of(d), signal.SIGSTOP)
    waiting = []
    try:
        while True:
            waiting.append(socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET | socket.SOCK_NONBLOCK))
            waiting[-1].connect(where)
    except OSError as e:
        if e.errno != errno.EAGAIN:
            raise harness.Skip(f"its queue cannot be filled: {e}") from None
    assert "the template 'template' does not answer" in d.ctl("fork", "template", code=5, env={"FIXD_TIMEOUT": "100ms"}).err
    os.kill(template_of(d), signal.SIGCONT)
    for s in waiting:
        s.close()
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert d.ctl("fork", "template").out == "plain 1\n"


@once
def test_a_hook_that_closes_everything(t):
    """The template cannot be reached any more: it ends, and says why."""
    for hook in "before", "parent":
        t.program(hook, "#define _GNU_SOURCE\n#include <fixd.h>\n#include <unistd.h>\n"
                  "static void all(void *arg) { (void)arg; closefrom(3); }\n"
                  "int main(int argc, char **argv)\n{\n"
                  f"struct fixd_checkpoint how = {{ .size = sizeof how, .{hook} = all }};\n"
                  "return fixd_fork_here(&argc, &argv, &how) < 0;\n}\n")
    d = t.daemon("".join(f"[fixture {hook}]\nprocess = exec {t.path(hook)}\nmax-age = none\n" for hook in ("before", "parent")))
    for hook in "before", "parent":
        caller = subprocess.Popen([harness.program("fixctl"), "--socket", d.socket, "fork", hook], env=harness.process_environment(),
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for(lambda: "of the template were closed by what is called around a fork" in d.ctl("log", hook, code=None).out, "the reason")
        wait_for(lambda: f"{hook}: generation 1 is stale: its process exited with status" in d.words(), "its end")
        caller.kill()
        caller.wait()
    d.stop()


INI_ERRORS = {
    "ready = port": "ready, value and prewarm are not for a process: it is ready at its checkpoint",
    "value = x": "ready, value and prewarm are not for a process",
    "clones = 2": "data, clones, exclusive and reset are not for a process: everybody has a fork of its own",
    "exclusive = yes": "data, clones, exclusive and reset are not for a process",
    "audit = never": "audit = never: expected error, warn or allow, or one of them behind a kind and ':' (socket:allow)",
    "audit = sockets:allow": "audit = sockets:allow: expected one of thread, child, socket, pipe,",
    "file = x": "exactly one source is allowed",
}


@once
def test_what_does_not_fit(t):
    for line, sentence in INI_ERRORS.items():
        ini = t.write("wrong.ini", f"[fixture x]\nprocess = true\n{line}\n")
        done = subprocess.run([harness.program("fixd"), "--config", ini, "--check"], capture_output=True, timeout=LIMIT)
        assert done.returncode == 78 and sentence in done.stderr.decode(), (line, done.stderr)
    ini = t.write("wrong.ini", "[fixture x]\ncommand = true\naudit = warn\n")
    done = subprocess.run([harness.program("fixd"), "--config", ini, "--check"], capture_output=True, timeout=LIMIT)
    assert done.returncode == 78 and b"audit is for a process" in done.stderr


def test_many_at_once(t):
    d = t.daemon(section(t))
    d.ctl("warm", "template")
    all_ = [subprocess.Popen([harness.program("fixctl"), "--socket", d.socket, "fork", "template", "--", "exit", str(n % 100)],
                             stdout=subprocess.PIPE, env=harness.process_environment()) for n in range(60)]
    for n, p in enumerate(all_):
        out, _ = p.communicate(timeout=LIMIT)
        assert p.returncode == n % 100 and out == b"flushed", (n, p.returncode, out)
    assert notes(t).count("prepared") == 1, notes(t)
    wait_for(lambda: d.instance("template")["leases"] == 0, "the end of the leases")
    assert d.status()["daemon"]["hits"] == 60


@once
def test_the_report(t):
    d = t.daemon(section(t) + "[fixture x]\ncommand = echo x\n")
    assert json.loads(d.ctl("report", "--format=json").out)["forks"] == []
    held = started(d, "template", "--", "wait")
    for _ in range(2):
        d.ctl("fork", "template", "--", "exit", "0")
    held.kill()
    held.wait()
    wait_for(lambda: d.instance("template")["leases"] == 0, "the end of the leases")
    forks = json.loads(d.ctl("report", "--format=json").out)["forks"]
    assert [(f["name"], f["forks"], f["most_at_once"]) for f in forks] == [("template", 3, 2)], forks
    f = forks[0]
    assert 0 < f["life_p50_s"] <= f["life_p99_s"] and f["prepare_s"] > 0 and abs(f["saved_s"] - 2 * f["prepare_s"]) < 1e-9, f
    assert re.search(r"### Forks\n\n\| Fixture Name \|.*\n.*\n\| template \| 3 \| 2 \| \d", d.ctl("report").out)
    assert re.search(r'<table id="forks">(.*\n)*<tr><td>template</td><td class="n">3</td><td class="n">2</td>', d.ctl("report", "--format=html").out)


def test_a_caller_that_says_what_it_likes(t):
    d = t.daemon(section(t))
    view = d.client().attach("template")
    where = view.data.decode()
    holder = started(d, "template", "--", "wait")
    head = struct.pack("=IIIIIIQ", 1, 0, 1, 5, 0o22, 0, 0) + struct.pack("=QQ", 2**64 - 1, 2**64 - 1) * 16
    null = [os.open("/dev/null", os.O_RDWR) for _ in range(5)]
    text = os.memfd_create("text")
    os.write(text, b"tell")
    for message, fds in ((b"", []), (b"x" * 5000, []), (head, []), (head, null[:3]), (head, null), (head[:-1], null), (head, [text, *null[1:]]),
                         (struct.pack("=I", 2) + head[4:], null), (head[:8] + struct.pack("=I", 9) + head[12:], [text, *null[1:]])):
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
            s.settimeout(LIMIT)
            s.connect(where)
            if message:
                socket.send_fds(s, [message], fds)
                answer = s.recv(4096)
                assert not answer or struct.unpack("=i", answer[:4])[0] < 0, answer
    for fd in null + [text]:
        os.close(fd)
    silent = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(50)]
    for s in silent:
        s.connect(where)
    assert d.ctl("fork", "template").out == "plain 1\n" and is_alive(holder.fork)
    for s in silent:
        s.close()
    holder.kill()
    holder.communicate()


@once
def test_coverage(t):
    if SANITIZERS or "clang" in os.environ.get("CC", "cc"):
        raise harness.Skip("gcov is gcc's, and is tried without sanitizers")
    where = t.path("coverage")
    os.mkdir(where)
    source = t.write("covered.c", PROGRAM)
    subprocess.run(["gcc", "--coverage", "-O0", "-pthread", "-o", "covered", source, "-I", SRC + "/include", "-L", BUILD + "/.libs", "-lfixd",
                    "-Wl,-rpath," + BUILD + "/.libs"], cwd=where, check=True)
    d = t.daemon(section(t, program="coverage/covered"))
    for _ in range(3):
        d.ctl("fork", "template", "--", "exit", "5", code=5)
    d.ctl("cleanup", "template")
    lines = subprocess.run(["gcov", "-t", "covered.gcda"], cwd=where, capture_output=True, text=True).stdout
    assert re.search(r"^ +3\*?: +\d+:\treturn n \+ 1;$", lines, re.M), lines[-3000:]
    assert re.search(r"^ +#####: +\d+:.*raise\(atoi", lines, re.M), "what was not run is not covered"


if __name__ == "__main__":
    harness.main(__import__("__main__"))
