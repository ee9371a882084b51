# SPDX-License-Identifier: MIT
"""Whole-program tests: real daemons in directories of their own, real sockets, real processes; TAP on standard output.

A test is a function `test_*(t)`; `t` is a Case. Every test runs in each mode (with the ring, and with the ring refused by seccomp,
unless a suite has others), or if it is marked @once in the first. After each, the daemons must be gone, cleanly, and must not have leaked a descriptor.
"""

import ctypes
import errno
import json
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import zlib

import manual
import wire

BUILD = os.environ.get("FIXD_BUILD", os.getcwd())
SRC = os.environ.get("FIXD_SRC", os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
SANITIZERS = os.environ.get("FIXD_SANITIZERS", "").split()
SLOWNESS = float(os.environ.get("FIXD_TEST_SLOWNESS", "1"))  # of this machine: an emulated one takes longer
LIMIT = 60 * (3 if SANITIZERS else 1) * SLOWNESS  # seconds for whatever a test waits for
TEST_LIMIT = 5 * LIMIT  # seconds for a whole test, whatever it does


NOBODY = 65534


def fixed(message, /, **fields):
    """The fixed part of a message and the strings whose lengths are in it; what is not given is zero."""
    form, names, strings = wire.FIELDS[wire.REQUESTS.get(message, (0, message))[1]]
    assert fields.keys() <= set(names), fields
    values = [len(fields.get(n, b"")) if n in strings else fields.get(n, b"" if n == "session" else 0) for n in names]
    return struct.pack(form, *values) + b"".join(fields.get(n, b"") for n in strings)


def request(message, /, id=1, behind=b"", **fields):
    body = fixed(message, **fields) + behind
    return fixed("header", type=wire.REQUESTS[message][0], size=16 + len(body), id=id) + body


def can_be_reached(path, uid=NOBODY):
    """By another user: a build directory may be below one that is root's alone."""
    return subprocess.run(["test", "-x", path], user=uid, group=uid, extra_groups=[]).returncode == 0


class Skip(Exception):
    """The test cannot run here; says why."""


def once(test):
    test.once = True
    return test


def exit_code(pid):
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def process_state(pid):
    """The letter of proc_pid_stat(5); nothing when it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return ""


def program(name):
    return os.path.join(BUILD, name)


def wait_for(condition, what, limit=LIMIT):
    """Waits until `condition()` is true; polls, because another process makes it true."""
    end = time.monotonic() + limit
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"waited {limit} s for: {what}")
        time.sleep(0.002)


def children_of(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        return [int(p) for p in f.read().split()]


def process_environment():
    env = dict(os.environ)
    env.pop("LD_PRELOAD", None)
    env["ASAN_OPTIONS"] = "detect_leaks=1"
    return env


class Range(ctypes.Structure):
    _fields_ = [("start", ctypes.c_void_p), ("length", ctypes.c_size_t)]


class Options(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("flags", ctypes.c_uint), ("timeout_ms", ctypes.c_int), ("scope_key", ctypes.c_char_p),
                ("depends", ctypes.POINTER(ctypes.c_void_p)), ("n_depends", ctypes.c_size_t)]


class Teardown(ctypes.Structure):
    _fields_ = [("size", ctypes.c_size_t), ("note", ctypes.c_char_p), ("note_size", ctypes.c_size_t), ("flags", ctypes.c_uint)]


def load_library():
    lib = ctypes.CDLL(os.path.join(BUILD, ".libs", "libfixd.so.0"))
    pointer = ctypes.c_void_p
    for name, result, arguments in [
        ("fixd_open", ctypes.c_int, [ctypes.POINTER(pointer), ctypes.c_char_p]),
        ("fixd_close", None, [pointer]),
        ("fixd_error", ctypes.c_char_p, [pointer]),
        ("fixd_attach", ctypes.c_int, [pointer, ctypes.c_char_p, ctypes.POINTER(Options), ctypes.POINTER(pointer)]),
        ("fixd_detach", None, [pointer]),
        ("fixd_view_root", pointer, [pointer]),
        ("fixd_view_data", pointer, [pointer]),
        ("fixd_view_size", ctypes.c_size_t, [pointer]),
        ("fixd_view_path", ctypes.c_char_p, [pointer]),
        ("fixd_view_generation", ctypes.c_uint32, [pointer]),
        ("fixd_view_built", ctypes.c_bool, [pointer]),
        ("fixd_set_test", None, [pointer, ctypes.c_char_p]),
        ("fixd_view_reset", ctypes.c_int64, [pointer]),
        ("fixd_view_changes", ctypes.c_int64, [pointer, ctypes.POINTER(Range), ctypes.c_size_t]),
        ("fixd_view_reused", ctypes.c_bool, [pointer]),
        ("fixd_view_current", ctypes.c_bool, [pointer]),
        ("fixd_join", ctypes.c_int, [pointer, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_uint]),
        ("fixd_define", ctypes.c_int, [pointer, ctypes.c_char_p, ctypes.POINTER(ctypes.c_char_p)]),
        ("fixd_build_begin", ctypes.c_int, [pointer, ctypes.c_char_p, ctypes.POINTER(Options), ctypes.POINTER(pointer),
                                            ctypes.POINTER(pointer)]),
        ("fixd_build_memory", pointer, [pointer, ctypes.c_size_t]),
        ("fixd_build_commit", ctypes.c_int, [pointer, ctypes.c_size_t, ctypes.POINTER(Teardown), ctypes.POINTER(pointer)]),
        ("fixd_build_abort", ctypes.c_int, [pointer, ctypes.c_char_p]),
        ("fixd_run_done", None, [pointer]),
        ("fixd_release", ctypes.c_int, [pointer, ctypes.c_int, ctypes.POINTER(pointer), ctypes.POINTER(ctypes.c_size_t)]),
        ("fixd_claim_teardown", ctypes.c_int, [pointer, ctypes.c_char_p, ctypes.POINTER(pointer), ctypes.POINTER(pointer),
                                      ctypes.POINTER(ctypes.c_size_t)]),
    ]:
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


LIB = load_library()
COW = 1
ALONE = 4


class FixdError(Exception):
    def __init__(self, number, sentence):
        super().__init__(sentence)
        self.number = -number
        self.sentence = sentence


CHILDREN = []  # that the test at hand has forked
VIEWS = []  # of this process: unmapped at the end of a test, because the objects of the next one may belong there


class View:
    def __init__(self, client, handle):
        self.client, self.handle = client, handle
        VIEWS.append(self)

    @property
    def data(self):
        return ctypes.string_at(LIB.fixd_view_data(self.handle), LIB.fixd_view_size(self.handle))

    @property
    def address(self):
        return LIB.fixd_view_data(self.handle)

    @property
    def generation(self):
        return LIB.fixd_view_generation(self.handle)

    @property
    def built(self):
        return LIB.fixd_view_built(self.handle)

    @property
    def reused(self):
        return LIB.fixd_view_reused(self.handle)

    @property
    def current(self):
        return LIB.fixd_view_current(self.handle)

    @property
    def path(self):
        return LIB.fixd_view_path(self.handle).decode()

    def write(self, offset, data):
        ctypes.memmove(self.address + offset, data, len(data))

    def reset(self):
        return LIB.fixd_view_reset(self.handle)

    def changes(self):
        ranges = (Range * 64)()
        n = LIB.fixd_view_changes(self.handle, ranges, 64)
        assert n >= 0, n
        return [(r.start - self.address, r.length) for r in ranges[: min(n, 64)]]

    def detach(self):
        if self.handle:
            LIB.fixd_detach(self.handle)
        self.handle = None

    def release(self, wait=0):
        """Whether this was the last, and the note."""
        note, size = ctypes.c_void_p(), ctypes.c_size_t()
        last = self.client.checked(LIB.fixd_release(self.handle, int(wait * 1000), ctypes.byref(note), ctypes.byref(size)))
        return bool(last), ctypes.string_at(note, size.value) if note else None


class Build:
    """What a client was told to build."""

    def __init__(self, client, handle):
        self.client, self.handle = client, handle

    def commit(self, data, note=None, keeper=False, teardown=False):
        memory = LIB.fixd_build_memory(self.handle, len(data))
        if data and not memory:
            error = FixdError(-errno.EDQUOT, LIB.fixd_error(self.client.handle).decode())
            self.abort(error.sentence)
            raise error
        ctypes.memmove(memory, data, len(data))
        t = Teardown(ctypes.sizeof(Teardown), note, len(note or b""), keeper)
        view = ctypes.c_void_p()
        wanted = ctypes.byref(t) if teardown or keeper or note is not None else None
        self.client.checked(LIB.fixd_build_commit(self.handle, len(data), wanted, ctypes.byref(view)))
        return View(self.client, view)

    def abort(self, sentence):
        return self.client.checked(LIB.fixd_build_abort(self.handle, sentence.encode() if sentence is not None else None))


class Client:
    def __init__(self, path):
        handle = ctypes.c_void_p()
        r = LIB.fixd_open(ctypes.byref(handle), path.encode())
        if r < 0:
            raise FixdError(r, LIB.fixd_error(None).decode())
        self.handle = handle

    def attach(self, name, flags=0, timeout=LIMIT, key=None):
        options = Options(ctypes.sizeof(Options), flags, int(timeout * 1000), key.encode() if key else None)
        view = ctypes.c_void_p()
        r = LIB.fixd_attach(self.handle, name.encode(), ctypes.byref(options), ctypes.byref(view))
        if r < 0:
            raise FixdError(r, LIB.fixd_error(self.handle).decode(errors="replace"))
        return View(self, view)

    def checked(self, r):
        if r < 0:
            raise FixdError(r, LIB.fixd_error(self.handle).decode(errors="replace"))
        return r

    def join(self, root, run=None, observer=False):
        self.checked(LIB.fixd_join(self.handle, root.encode(), run.encode() if run else None, 1 if observer else 0))
        return self

    def define(self, name, *settings):
        self.checked(LIB.fixd_define(self.handle, name.encode(), (ctypes.c_char_p * (len(settings) + 1))(
            *[s.encode() for s in settings], None)))
        return self

    def begin(self, name, flags=0, timeout=LIMIT, key=None, depends=()):
        """A View, or a Build for this client."""
        handles = (ctypes.c_void_p * len(depends))(*[v.handle for v in depends])
        options = Options(ctypes.sizeof(Options), flags, int(timeout * 1000), key.encode() if key else None, handles, len(depends))
        view, build = ctypes.c_void_p(), ctypes.c_void_p()
        r = self.checked(LIB.fixd_build_begin(self.handle, name.encode(), ctypes.byref(options), ctypes.byref(view),
                                              ctypes.byref(build)))
        return Build(self, build) if r == 1 else View(self, view)

    def set_test(self, test):
        LIB.fixd_set_test(self.handle, None if test is None else test.encode())

    def closing(self):
        LIB.fixd_run_done(self.handle)

    def adopt(self, pattern=None):
        """(title, note) or None."""
        title, note, size = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_size_t()
        found = self.checked(LIB.fixd_claim_teardown(self.handle, pattern.encode() if pattern else None, ctypes.byref(title),
                                            ctypes.byref(note), ctypes.byref(size)))
        return (ctypes.string_at(title).decode(), ctypes.string_at(note, size.value)) if found else None

    def read(self, name, **more):
        """Attach, the bytes, detach."""
        view = self.attach(name, **more)
        data = view.data
        view.detach()
        return data

    def close(self):
        LIB.fixd_close(self.handle)
        self.handle = None


class Daemon:
    def __init__(self, case, ini, args=(), env=None, prefix=(), ready=True, preexec=None, expect=None):
        self.case, self.expect = case, expect
        self.dir = case.dir
        self.config = os.path.join(self.dir, "fixd.ini")
        self.socket = os.path.join(self.dir, "socket")
        self.log = os.path.join(self.dir, "log")
        if ini is not None:
            self.configure(ini)
        read_end, write_end = os.pipe()
        command = list(case.wrapper) + list(prefix) + [program("fixd"), "--config", self.config, "--socket", self.socket,
                   "--log-level", "debug", "--ready-fd", str(write_end), *args]
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL, pass_fds=[write_end],
                                            cwd=self.dir, preexec_fn=preexec, env={**process_environment(), **(env or {})})
        self.pid = self.process.pid
        os.close(write_end)
        case.daemons.append(self)
        if ready:
            ok = select.select([read_end], [], [], LIMIT)[0] and os.read(read_end, 1) == b"\n"
            assert ok, "the daemon did not become ready:\n" + self.words()
            self.fds = self.count_fds()
        os.close(read_end)

    def configure(self, ini):
        with open(self.config + ".new", "w") as f:
            f.write(ini)
        os.rename(self.config + ".new", self.config)

    def words(self):
        with open(self.log, errors="replace") as f:
            return f.read()

    def count_fds(self):
        """The lock of the directory of trees is there from the first tree on."""
        return len([path for path in self.list_fds() if "/fixd-trees-" not in path])

    def list_fds(self):
        found = []
        for n in os.listdir(f"/proc/{self.pid}/fd"):
            try:
                found.append(os.readlink(f"/proc/{self.pid}/fd/{n}"))
            except FileNotFoundError:
                pass
        return found

    def client(self):
        client = Client(self.socket)
        self.case.clients.append(client)
        return client

    def ctl(self, *args, code=0, timeout=LIMIT, env=None, **more):
        done = subprocess.run([program("fixctl"), "--socket", self.socket, *args], capture_output=True, timeout=timeout,
                              env={**process_environment(), **(env or {})}, **more)
        done.out, done.err = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")
        assert code is None or done.returncode == code, f"fixctl {args}: {done.returncode}, not {code}\n{done.out}{done.err}"
        return done

    def status(self):
        return json.loads(self.ctl("status", "--json").out)

    def instances(self):
        return {title(i): i for i in self.status()["sessions"][0]["instances"]}

    def instance(self, name):
        return self.instances()[name]

    def begin_cleanup(self, name):
        """Without waiting for teardowns: nobody hears how they went."""
        asked = subprocess.Popen([program("fixctl"), "--socket", self.socket, "cleanup", name], stdout=subprocess.DEVNULL,
                                 env=process_environment())
        wait_for(lambda: self.instance(name)["state"] != "ready", "it to be given up")
        asked.kill()
        asked.wait()

    def running(self):
        return self.process.poll() is None

    def check_no_leaks(self):
        """With nobody connected and no image left it has the descriptors it started with."""
        self.ctl("cleanup", "--all", "--force", code=None)
        try:
            wait_for(lambda: self.count_fds() <= self.fds, f"only {self.fds} descriptors")
        except AssertionError as e:
            raise AssertionError(f"{e}, not {self.list_fds()}") from None
        used = self.status()["daemon"]["memory_bytes"]
        assert used == 0, f"{used} bytes are still counted"

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(LIMIT)
        allowed = self.expect if self.expect is not None else 0
        assert code == allowed, f"the daemon ended with {code}:\n" + self.words()
        return code

    def pause(self):
        """It has stopped when this returns: until then it would take what arrives, and keep it."""
        os.kill(self.pid, signal.SIGSTOP)
        wait_for(lambda: process_state(self.pid) == "T", "the daemon to stop")

    def resume(self):
        os.kill(self.pid, signal.SIGCONT)

    def kill(self):
        self.process.kill()
        self.process.wait()
        self.expect = -signal.SIGKILL


def title(i):
    """Of an instance of the report: NAME[PARAM], NAME[PARAM]/3 of a clone, NAME in OTHER/3 of what was made for one."""
    name = i["name"] + (f"[{i['param']}]" if i["param"] else "")
    if "clone" not in i:
        return name
    return i["clone"] if i["clone"].startswith(name + "/") else f"{name} in {i['clone']}"


class Clock:
    """The daemon's clock, moved forward by hand."""

    def __init__(self, case):
        self.path = os.path.join(case.dir, "clock")
        self.seconds = 0.0
        self.set()

    def set(self):
        with open(self.path, "r+b" if os.path.exists(self.path) else "w+b") as f:
            f.write(struct.pack("=q", int(self.seconds * 1e9)))

    def advance(self, seconds):
        self.seconds += seconds
        self.set()

    @property
    def env(self):
        return {"FIXD_TEST_CLOCK": self.path}


class Case:
    def __init__(self, mode, wrapper):
        self.mode, self.wrapper = mode, wrapper
        self.dir = tempfile.mkdtemp(prefix="fixd-test-")
        self.daemons, self.clients = [], []
        self._runtime = None

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text):
        path = self.path(name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "w") as f:
            f.write(text)
        return path

    @property
    def runtime(self):
        """A tmpfs directory of its own: what is left in /dev/shm any daemon removes, also one of another test."""
        if self._runtime is None:
            self._runtime = tempfile.mkdtemp(prefix="fixd-test-", dir="/dev/shm")
            os.chmod(self._runtime, 0o755)
        return self._runtime

    def daemon(self, ini, **more):
        return Daemon(self, ini, **more)

    def child(self, work, uid=None):
        """Forks a process that does `work()`, as another user if need be; its exit status is 0 if that returned True."""
        pid = os.fork()
        if pid == 0:
            code = 2
            try:
                if uid is not None:
                    os.setgroups([])
                    os.setgid(uid)
                    os.setuid(uid)
                code = 0 if work() else 1
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        CHILDREN.append(pid)
        return pid

    def counted(self, command):
        """A command that counts its runs in the file `runs`."""
        return f"echo run >> {self.dir}/runs && {command}"

    def runs(self, name="runs"):
        try:
            with open(self.path(name)) as f:
                return len(f.readlines())
        except FileNotFoundError:
            return 0

    def injecting(self, call, error, when, follow=False):
        """The words before a command that is to fail in a system call, the `when`-th or ("5+") all from there on; `follow`: its children, too."""
        if not shutil.which("strace"):
            raise Skip("strace is not installed")
        words = ["strace", "-D", "-qq", *(["-f"] if follow else []), "-o", self.path("strace"), "-e", f"trace={call}",
                 "-e", f"inject={call}:error={error}:when={when}"]
        if SANITIZERS or subprocess.run([*words, "true"], capture_output=True).returncode:
            raise Skip("processes cannot be traced here")
        return words

    def was_injected(self):
        with open(self.path("strace")) as f:
            return "(INJECTED)" in f.read()

    def plugin(self, name, source):
        """Compiles a plugin."""
        c, so = self.write(name + ".c", source), self.path(name + ".so")
        flags = ["-fsanitize=" + s for s in SANITIZERS]
        subprocess.run([os.environ.get("CC", "cc").split()[0], "-shared", "-fPIC", "-g", *flags, "-o", so, c,
                        "-I", os.path.join(SRC, "include"), "-L", os.path.join(BUILD, ".libs"), "-lfixd-builder",
                        "-Wl,-rpath," + os.path.join(BUILD, ".libs")], check=True)
        return so

    def program(self, name, source, *flags):
        """Compiles a program that uses libfixd."""
        c, to = self.write(name + ".c", source), self.path(name)
        flags += tuple("-fsanitize=" + s for s in SANITIZERS)
        subprocess.run([os.environ.get("CC", "cc").split()[0], "-g", "-pthread", "-o", to, c, "-I", os.path.join(SRC, "include"),
                        "-L", os.path.join(BUILD, ".libs"), "-lfixd", "-Wl,-rpath," + os.path.join(BUILD, ".libs"), *flags], check=True)
        return to

    def finish(self, failed):
        try:
            # Threads of a test that has failed still use its clients: their calls end with the daemon.
            for daemon in self.daemons if failed else ():
                if daemon.running():
                    daemon.kill()
            for thread in threading.enumerate() if failed else ():
                if thread is not threading.current_thread():
                    thread.join(LIMIT)
            while VIEWS:
                VIEWS.pop().detach()
            for client in self.clients:
                client.close()
            for daemon in self.daemons:
                if not failed and daemon.running() and daemon.expect is None and hasattr(daemon, "fds"):
                    daemon.check_no_leaks()
            for daemon in self.daemons:
                daemon.stop()
            for daemon in self.daemons:
                if not failed and daemon.expect is None:
                    assert not os.path.exists(daemon.socket), "the socket was left behind"
        finally:
            for daemon in self.daemons:
                if daemon.running():
                    daemon.process.kill()
                    daemon.process.wait()
            if failed:
                for daemon in self.daemons:
                    print("\n".join("# " + line for line in daemon.words().splitlines()[-40:]))
            for directory in filter(None, (self.dir, self._runtime)):
                shutil.rmtree(directory, ignore_errors=True)


def too_long(_signal, _frame):
    raise AssertionError(f"not done after {TEST_LIMIT} s")


def end_children():
    """What a test has forked and not waited for: it would hold pipes open, and the output that somebody reads to its end."""
    for pid in CHILDREN:
        try:
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
        except ChildProcessError:
            pass  # the test has waited for it
    CHILDREN.clear()


def run_one(test, mode, wrapper):
    case = Case(mode, wrapper)
    failed = True
    signal.signal(signal.SIGALRM, too_long)
    signal.setitimer(signal.ITIMER_REAL, TEST_LIMIT, LIMIT)
    try:
        test(case)
        manual.check(test)
        failed = False
    except Skip:
        failed = False
        raise
    finally:
        case.finish(failed)
        end_children()
        signal.setitimer(signal.ITIMER_REAL, 0)


def without(call):
    """The words before a command for which that system call is refused; none if that cannot be done here."""
    wrapper = program("tests/without")
    return [wrapper, call] if os.access(wrapper, os.X_OK) else []


def modes():
    yield "ring", []
    if without("io_uring_setup"):
        yield "epoll", without("io_uring_setup")


def is_tried(name, test, way, ways, named):
    """Whether it runs in that way. A sanitizer makes a test three times as long, and looks at nearly the same lines in each way:
    in a whole suite under one, half of the tests run in each; those that are named, in all."""
    if getattr(test, "once", False):
        return way == 0
    return named or not SANITIZERS or way == zlib.crc32(name.encode()) % ways


def main(module, modes=modes):
    tests = [(n, f) for n, f in sorted(vars(module).items(), key=lambda x: getattr(x[1], "__code__", None) and
             x[1].__code__.co_firstlineno or 0) if n.startswith("test_")]
    wanted = sys.argv[1:]
    ways = list(modes())
    plan = [(f"{name} [{mode}]", f, mode, wrapper) for number, (mode, wrapper) in enumerate(ways)
            for name, f in tests
            if (not wanted or name in wanted) and is_tried(name, f, number, len(ways), bool(wanted))]
    print(f"1..{len(plan)}")
    bad = 0
    for number, (title, test, mode, wrapper) in enumerate(plan, 1):
        start = time.monotonic()
        try:
            run_one(test, mode, wrapper)
            print(f"ok {number} - {title} # {time.monotonic() - start:.2f} s")
        except Skip as reason:
            print(f"ok {number} - {title} # SKIP {reason}")
        except Exception:
            bad += 1
            print("\n".join("# " + line for line in traceback.format_exc().splitlines()))
            print(f"not ok {number} - {title}")
        sys.stdout.flush()
    sys.exit(1 if bad else 0)
