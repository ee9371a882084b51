# SPDX-License-Identifier: MIT
"""A service manager that keeps descriptors, as systemd does: restart, crash, stop; and socket activation."""

import array
import itertools
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading

import harness
import remote
from harness import LIMIT, FixdError, wait_for
from services import ask, is_gone, lines, processes_of, record, service


class Manager:
    """Speaks sd_notify(3) with one daemon after the other."""

    def __init__(self, t):
        self.t = t
        self.path = t.path("notify")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.setblocking(False)
        self.stored, self.said = [], []
        self.lock = threading.Lock()
        self.open = True
        # Always, as a service manager does: the daemon waits for room.
        self.thread = threading.Thread(target=self.listen_always)
        self.thread.start()
        finish = t.finish

        def finish_and_close(failed):
            self.release()
            if os.path.exists(t.path("socket")):
                os.remove(t.path("socket"))  # a unit has it in its RuntimeDirectory
            try:
                finish(failed)
            finally:
                self.open = False
                self.thread.join()
                self.release()
        t.finish = finish_and_close

    def listen_always(self):
        while self.open:
            if select.select([self.socket], [], [], 0.05)[0]:
                self.listen()

    def listen(self):
        """What was said until now."""
        with self.lock:
            return self.take_all()

    def take_all(self):
        while True:
            try:
                message, control, _, _ = self.socket.recvmsg(4096, socket.CMSG_SPACE(4 * 10))
            except BlockingIOError:
                return self
            fds = array.array("i")
            for level, kind, data in control:
                if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
                    fds.frombytes(data[:len(data) - len(data) % fds.itemsize])
            words = dict(line.split("=", 1) for line in message.decode().splitlines())
            self.said.append(words)
            if "BARRIER" in words:
                os.close(fds.pop())
            if "FDSTOREREMOVE" in words:
                for item in [i for i in self.stored if i[0] == words["FDNAME"]]:
                    os.close(item[1])
                    self.stored.remove(item)
            for fd in fds:
                assert words.get("FDSTORE") == "1" and words.get("FDPOLL") == "0"
                self.stored.append((words["FDNAME"], fd))

    def heard(self, **what):
        return any(all(words.get(k) == v for k, v in what.items()) for words in self.listen().said)

    def start(self, ini=None, extra=(), store=True, **env):
        """A daemon with what is stored, and other descriptors before it."""
        t = self.t
        passed = list(extra) + (self.listen().stored if store else [])
        self.said.clear()

        def arrange():
            # Out of the way first, then in their places.
            moved = [os.dup2(fd, 500 + n) for n, (_, fd) in enumerate(passed)]
            for n, fd in enumerate(moved):
                os.dup2(fd, 3 + n, inheritable=True)
                os.close(fd)
            for fd in range(3 + len(passed), 400):
                try:
                    os.close(fd)
                except OSError:
                    pass
        if ini is not None:
            t.write("fixd.ini", ini)
        shell = 'LISTEN_PID=$$ exec "$@"' if passed else 'exec "$@"'
        names = {"LISTEN_FDS": str(len(passed)), "LISTEN_FDNAMES": ":".join(n for n, _ in passed)} if passed else {}
        command = list(t.wrapper) + ["sh", "-c", shell, "sh", harness.program("fixd"), "--config", t.path("fixd.ini"), "--socket", t.path("socket"),
                                     "--log-level", "debug"]
        d = harness.Daemon.__new__(harness.Daemon)
        d.case, d.expect, d.dir = t, None, t.dir
        d.config, d.socket, d.log = t.path("fixd.ini"), t.path("socket"), t.path("log")
        with open(d.log, "ab") as log:
            d.process = subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL, close_fds=False, preexec_fn=arrange, cwd=t.dir,
                                         env={**harness.process_environment(), "NOTIFY_SOCKET": self.path, "FDSTORE": "4096", "TMPDIR": t.dir,
                                              "XDG_RUNTIME_DIR": t.runtime, **names, **env})
        d.pid = d.process.pid
        t.daemons.append(d)
        wait_for(lambda: self.heard(READY="1") or d.process.poll() is not None, "READY=1")
        assert d.process.poll() is None, d.words()
        return d

    def release(self):
        """The unit is stopped: the store is given up."""
        for _, fd in self.listen().stored:
            os.close(fd)
        self.stored.clear()


def manager(t):
    return Manager(t)


def ini(t):
    t.write("file", "bytes\n")
    return ("[policy]\nmax-age = none\n" + service("", record(t, "torn")) + "[fixture f]\ncommand = " + t.counted("cat file") +
            "\nwatch = file\n[fixture seed]\ncommand = cat $FIXD_DEP_server\ndepends = server\n" + record(t, "torn"))


def test_restart(t):
    """The clients do not notice, either."""
    m = manager(t)
    d = m.start(ini(t))
    c = d.client()
    views = [c.attach(n) for n in ("f", "server", "seed")]
    pid = ask(views[1].data)
    for _ in range(3):
        d.stop()
        assert m.heard(STOPPING="1") and not is_gone(pid) and lines(t, "torn") == []
        d = m.start()
        assert all(v.current for v in views) and c.attach("f").data == b"bytes\n" and t.runs() == 1
        assert d.instance("server")["service_pid"] == pid and ask(c.attach("server").data) == pid
        assert d.instance("server")["leases"] >= 1
    t.write("file", "new")
    assert c.attach("f").generation == 2 and not views[0].current
    # It is stopped for good: the manager lets go of everything.
    d.stop()
    m.release()
    wait_for(lambda: lines(t, "torn") == ["seed", "server"], "the teardowns")
    wait_for(lambda: not processes_of(t), "all processes to end")


def test_crash(t):
    m = manager(t)
    d = m.start(ini(t))
    c = d.client()
    view, seed = c.attach("f"), c.attach("seed")
    pid = d.instance("server")["service_pid"]
    wait_for(lambda: len(m.listen().stored) > 8, "the store")
    happened = d.ctl("trace", "--once", "--json").out
    d.kill()
    assert view.data == b"bytes\n"
    t.write("file", "an edit while there is no daemon")
    d = m.start()
    assert d.instance("server")["service_pid"] == pid and not is_gone(pid) and lines(t, "torn") == []
    assert seed.current
    assert d.ctl("trace", "--once", "--json").out.startswith(happened) and "ready" in happened
    # The edit is seen.
    assert d.client().read("f").startswith(b"an edit") and t.runs() == 2 and d.instance("f")["generation"] == 2 and not view.current
    assert d.client().attach("seed").data == seed.data
    d.ctl("stop")
    d.process.wait(LIMIT)
    assert lines(t, "torn") == ["seed", "server"] and not processes_of(t)


def test_a_crash_just_after_a_hand_out(t):
    """What is handed out is known to the store before the answer leaves."""
    m = manager(t)
    d = m.start(service("", record(t, "torn")))
    for _ in range(5):
        go, said = os.pipe(), os.pipe()

        def hold():
            view = d.client().attach("server")
            os.write(said[1], b"x")
            os.read(go[0], 1)
            return ask(view.data) > 0
        holder = t.child(hold)
        os.read(said[0], 1)
        d.kill()
        d = m.start()
        assert d.instance("server")["pids"] == [holder], d.words()
        os.write(go[1], b"x")
        assert harness.exit_code(holder) == 0
        assert lines(t, "torn") == []
        d.ctl("cleanup", "server", "--force")
        wait_for(lambda: lines(t, "torn") != [], "its teardown")
        os.unlink(t.path("torn"))
        for fd in go + said:
            os.close(fd)


def test_a_crash_during_a_build(t):
    """Whose note is kept ready: the next daemon goes on without it, builds again, and ends."""
    m = manager(t)
    fixture = f"[fixture seed]\ncommand = echo x >> {t.path('begun')}; test -e {t.path('go')} || sleep 1000; echo seed\n" + record(t, "torn")
    d = m.start(fixture + "[fixture f]\ncommand = echo f\n")
    assert d.client().read("f") == b"f\n"
    waits = t.child(lambda: d.client().attach("seed"))
    wait_for(lambda: lines(t, "begun") == ["x"], "the build")
    d.ctl("cleanup", "f")  # something is saved while it runs
    wait_for(lambda: m.listen().stored, "the store")
    d.kill()
    os.kill(waits, signal.SIGKILL)
    harness.exit_code(waits)
    t.write("go", "")
    d = m.start()
    assert d.client().read("seed") == b"seed\n" and lines(t, "begun") == ["x", "x"]
    d.ctl("stop")
    assert d.process.wait(LIMIT) == 0 and lines(t, "torn") == ["seed"] and not processes_of(t)


def test_a_crash_under_a_holder(t):
    """Who held a service holds it on, though its connection is gone."""
    m = manager(t)
    d = m.start(service("", "exclusive = yes\n" + record(t, "torn")) + "[fixture plain]\ncommand = true\n")
    go, said = os.pipe(), os.pipe()

    def hold():
        c = d.client()
        c.attach("plain")
        view = c.attach("server")
        os.write(said[1], b"x")
        os.read(go[0], 1)
        # It does not wait for itself.
        pid = ask(view.data)
        again = c.attach("server", timeout=5)
        os.write(said[1], b"x")
        os.read(go[0], 1)
        return ask(again.data) == pid
    holder = t.child(hold)
    os.read(said[0], 1)
    wait_for(lambda: {"/memfd:fixd:plain (deleted)", "/memfd:fixd:server (deleted)", "pipe:"} <= set(kinds(m)), "the store to hold both")
    for _ in range(2):
        d.kill()
        d = m.start()
    assert d.instance("server")["pids"] == [holder] and d.instance("plain")["leases"] == 0
    try:
        d.client().attach("server", timeout=0.05)
        assert False
    except FixdError as e:
        assert f"held by process {holder}" in e.sentence, e.sentence
    assert "Kept (in use): 1" in d.ctl("cleanup", "server").out
    # It goes on with a restart, too.
    d.ctl("restart")
    assert d.instance("server")["pids"] == [holder]
    os.write(go[1], b"x")
    os.read(said[0], 1)
    assert d.instance("server")["pids"] == [holder]
    d.kill()
    d = m.start()
    assert d.instance("server")["pids"] == [holder]
    os.write(go[1], b"x")
    assert harness.exit_code(holder) == 0
    wait_for(lambda: d.instance("server")["pids"] == [], "the end of it to be noticed")
    assert ask(d.client().attach("server").data) and lines(t, "torn") == []
    for fd in go + said:
        os.close(fd)
    d.ctl("stop")
    d.process.wait(LIMIT)


def test_a_clone_whose_holder_ends_with_the_daemon(t):
    """Nobody else gets it: it is not pristine any more."""
    m = manager(t)
    d = m.start(service("", "clones = 2\n"))
    go, said = os.pipe(), os.pipe()

    def hold():
        d.client().attach("server")
        os.write(said[1], b"x")
        os.read(go[0], 1)
    holder = t.child(hold)
    os.read(said[0], 1)
    assert d.instance("server/1")["pids"] == [holder]
    wait_for(lambda: "/memfd:fixd:server (deleted)" in kinds(m), "the store to hold it")
    d.kill()
    os.kill(holder, signal.SIGKILL)
    assert harness.exit_code(holder) == -signal.SIGKILL
    d = m.start()
    c = d.client()
    c.attach("server")
    held = next(i for i in d.instances().values() if i["pids"] == [os.getpid()])
    assert (held["name"], held["generation"]) != ("server/1", 1), held
    for fd in go + said:
        os.close(fd)
    d.ctl("stop")
    d.process.wait(LIMIT)


def holds(m):
    """Who has begun (1) or ceased (0) to hold something since all of the state was written."""
    m.listen()
    with m.lock:
        state = os.pread(next(fd for name, fd in m.stored if name == "fixd-state"), 4096, 0)
    number = struct.unpack_from("=Q", state, 32)[0]
    all = [struct.unpack_from("=QQII", state, at) for at in range(256, 4096 - 23, 24)]
    return [(pid, held) for n, serial, pid, held in itertools.takewhile(lambda one: one[0] == number, all)]


def test_a_crash_after_many_hand_outs(t):
    """What was handed out and given back since all was written is known, too."""
    m = manager(t)
    d = m.start(service("", "exclusive = yes\n") + "[fixture plain]\ncommand = echo\n")

    def all_is_written():
        d.ctl("cleanup", "plain")
        d.client().read("plain")
        wait_for(lambda: holds(m) == [], "all to be written")
    me = os.getpid()
    c = d.client()
    c.attach("server").detach()
    view = c.attach("server")
    for many in 1, 3, 200:
        all_is_written()
        for _ in range(many):
            view.detach()
            view = c.attach("server")
        assert holds(m)[-2:] == [(me, 0), (me, 1)]
        pid = ask(view.data)
        d.kill()
        d = m.start()
        assert d.instance("server")["pids"] == [me]
        c = d.client()
        view = c.attach("server", timeout=5)
        assert ask(view.data) == pid
        all_is_written()
        view.detach()
        wait_for(lambda: holds(m) == [(me, 0)], "it to be heard")
        d.kill()
        d = m.start()
        # Its process lives, and somebody else gets it.
        assert d.instance("server")["pids"] == []
        c = d.client()
        view = c.attach("server", timeout=5)
        assert ask(view.data) == pid
    d.ctl("stop")
    d.process.wait(LIMIT)


def test_what_a_service_says_to_the_next_daemon(t):
    """Also what it says while there is none, and at its end."""
    m = manager(t)
    os.mkfifo(t.path("words"))
    d = m.start("[fixture server]\nservice = echo up; while read word; do echo said $word; done <> words\nready = line\nteardown = echo torn down\n")
    with os.fdopen(os.open(t.path("words"), os.O_RDWR), "w") as words:
        d.client().attach("server").detach()
        wait_for(lambda: d.instance("server")["pids"] == [], "it to be given back")
        for n in range(2):
            wait_for(lambda: "/memfd:fixd:server (deleted)" in kinds(m), "the store to hold it")
            d.kill()
            print("between", n, file=words, flush=True)
            d = m.start()
            print("after", n, file=words, flush=True)
            wait_for(lambda: f"said between {n}\nsaid after {n}" in d.ctl("log", "server").out, "what it says")
        d.ctl("cleanup", "server")
        wait_for(lambda: "torn down" in d.ctl("log", "server").out, "what its teardown says")
    d.ctl("stop")
    d.process.wait(LIMIT)


def test_a_question_that_the_next_daemon_answers(t):
    """The file is read for ever here, and somebody waits for that."""
    m = manager(t)
    d = m.start("[fixture f]\ncommand = echo one\n")
    os.remove(d.config)
    os.mkfifo(d.config)
    waits = t.child(lambda: d.ctl("reload"))
    wait_for(lambda: "is read again: asked by" in d.words(), "it to ask")
    d.process.terminate()
    assert d.process.wait(LIMIT) == 0
    os.remove(d.config)
    d = m.start("[fixture f]\ncommand = echo two\n")
    assert harness.exit_code(waits) == 0 and d.client().read("f") == b"two\n"
    d.ctl("stop")
    d.process.wait(LIMIT)


def test_a_log_that_is_not_in_the_store(t):
    """The store was full: the service does not wait for a reader."""
    m = manager(t)
    service = "echo up; n=0; while sleep 0.01; do head -c 4000 /dev/zero | tr '\\0' x; n=$((n+1)); echo $n > count; done"
    d = m.start(f"[fixture server]\nservice = {service}\nready = line\n")
    d.client().attach("server").detach()
    wait_for(lambda: "/memfd:fixd:server (deleted)" in kinds(m), "the store to hold it")
    d.kill()
    m.listen()
    for item in list(m.stored):
        # That of a hold blocks.
        if os.readlink(f"/proc/self/fd/{item[1]}").startswith("pipe:") and not os.get_blocking(item[1]):
            os.close(item[1])
            m.stored.remove(item)
    d = m.start()

    def count():
        try:
            with open(t.path("count")) as f:
                return int(f.read() or 0)
        except FileNotFoundError:
            return 0
    before = count()
    # More than a pipe holds.
    wait_for(lambda: count() > before + 40, "it to go on")
    d.ctl("stop")
    assert d.process.wait(LIMIT) == 0 and "was given up" not in d.words()


def test_what_goes_to_a_remote_when_the_daemon_leaves(t):
    """What waits for its turn goes on alone: nobody may come after it."""
    remote.need(t)
    m = manager(t)
    server, public = remote.Server(), remote.keygen(t)
    server.http.gate.clear()
    d = m.start(remote.section(t, server, public) +
                "".join(f"[fixture f{n}]\ncommand = echo {n}\nwatch-by = content\nremote = yes\n" for n in range(7)))
    d.ctl("warm")
    wait_for(lambda: len(server.asked("PUT")) == 4, "four of them")
    d.process.terminate()
    assert d.process.wait(LIMIT) == 0 and "is left with the service manager" in d.words()
    server.http.gate.set()
    wait_for(lambda: len(server.manifests()) == 7, "all of them")
    server.close()


def kinds(m):
    """What the store holds, without the numbers that tell one build from the next."""
    m.listen()
    with m.lock:
        return sorted(os.readlink(f"/proc/self/fd/{fd}").split("[")[0] for _, fd in m.stored)


def test_the_store_shrinks(t):
    m = manager(t)
    d = m.start("[fixture f]\ncommand = date +%N\n[fixture server]\ncommand = echo x\nteardown = true\n")
    c = d.client()
    images = {"/memfd:fixd:f (deleted)", "/memfd:fixd:server (deleted)"}
    seen = []
    for _ in range(20):
        c.read("f")
        c.read("server")
        wait_for(lambda: images <= set(kinds(m)) and "pipe:" in kinds(m), "the store to hold both")
        d.ctl("cleanup", "--all")
        wait_for(lambda: not images & set(kinds(m)) and "pipe:" not in kinds(m), "the store to hold none")
        seen.append(len(kinds(m)))
    # The state, the board, the log of events, the socket, its lock and that of the directory.
    wait_for(lambda: len(kinds(m)) == 6, "as little as at first")
    assert max(seen) <= 7, seen
    d.ctl("stop")
    d.process.wait(LIMIT)


def test_a_store_that_lost_something(t):
    m = manager(t)
    d = m.start("[policy]\nmax-age = none\n" + "".join(f"[fixture f{n}]\ncommand = {t.counted('echo x')}\n" for n in range(6)))
    for n in range(6):
        d.client().read(f"f{n}")
    wait_for(lambda: len(m.listen().stored) > 8, "the store")
    d.kill()
    m.listen()
    # Half of it, and one that is something else.
    for item in m.stored[3::2]:
        os.close(item[1])
        m.stored.remove(item)
    null = os.open("/dev/null", os.O_RDONLY)
    os.dup2(null, m.stored[-1][1])
    os.close(null)
    d = m.start()
    for n in range(6):
        assert d.client().read(f"f{n}") == b"x\n"
    d.ctl("stop")
    d.process.wait(LIMIT)


def started_run(t, d):
    """A run that has an image of its own, which goes with it."""
    os.makedirs(t.path("root"), exist_ok=True)
    c = d.client()
    c.join(t.path("root"), "run1")
    c.define("x", "reuse=no")
    return c, c.begin("x").commit(b"of the run")


def stored(m, d, name):
    """It is stored, and so is a state that knows of it: the daemon has answered since."""
    wait_for(lambda: f"/memfd:fixd:{name} (deleted)" in kinds(m), "the image to be stored")
    for _ in range(2):
        d.status()
    m.listen()


def end(d):
    d.ctl("stop")
    d.process.wait(LIMIT)


def test_runs_that_ended_meanwhile(t):
    """Their images go without the daemon; and what was seen to be there before a crash is not gone on with twice."""
    m = manager(t)
    d = m.start("[fixture f]\ncommand = echo x\n")
    ready, gone = os.pipe(), os.pipe()

    def member():
        started_run(t, d)
        os.write(ready[1], b"x")
        return os.read(gone[0], 1) == b"x"
    pid = t.child(member)
    assert os.read(ready[0], 1) == b"x"
    d.stop()
    os.write(gone[1], b"x")
    assert harness.exit_code(pid) == 0
    d = m.start()
    assert d.client().read("f") == b"x\n" and not [i for i in d.status()["sessions"] for i in i["instances"] if i["name"] == "x"]
    c, v = started_run(t, d)
    stored(m, d, "x")
    d.kill()
    d = m.start()
    assert d.client().read("f") == b"x\n"
    v.detach()
    c.close()
    end(d)


def test_restarts_in_place_store_one_state(t):
    m = manager(t)
    d = m.start("[policy]\nmax-age = none\n[fixture f]\ncommand = date +%N\n")
    for _ in range(3):
        d.ctl("restart")
        d.ctl("cleanup", "f")
        was = d.client().read("f")
        stored(m, d, "f")
        assert [name for name, _ in m.stored].count("fixd-state") == 1
    d.kill()
    d = m.start()
    assert d.client().read("f") == was
    end(d)


def test_what_changed_while_no_daemon_ran(t):
    """Those who only look at the board see it, and eager fixtures are built again."""
    m = manager(t)
    t.write("in", "1")
    d = m.start("[policy]\nmax-age = none\nrebuild = eager\n[fixture f]\ncommand = cat in\nwatch = in\n")
    v = d.client().attach("f")
    assert v.current
    stored(m, d, "f")
    d.kill()
    t.write("in", "22")
    d = m.start()
    wait_for(lambda: not v.current, "the board to say so")
    wait_for(lambda: d.instance("f")["generation"] == 2 and d.instance("f")["state"] == "ready", "the build")
    v.detach()
    end(d)


def test_a_tree_that_is_gone(t):
    """Whatever has removed it, or a half of it, when the daemon was killed: it is not given out."""
    m = manager(t)
    d = m.start(f"[policy]\nmax-age = none\n[fixture f]\ntree = {t.counted('echo x >$FIXD_DIR/x')}\n")
    v = d.client().attach("f")
    path = v.path
    v.detach()
    d.status()
    stored(m, d, "f")
    d.kill()
    os.rename(path, path + ".gone")
    d = m.start()
    v = d.client().attach("f")
    assert open(v.path + "/x").read() == "x\n" and t.runs() == 2
    assert not os.path.exists(path + ".gone")
    v.detach()
    end(d)


def test_a_garbled_state(t):
    m = manager(t)
    d = m.start("[fixture f]\ncommand = echo x\n")
    d.client().read("f")
    wait_for(lambda: len(m.listen().stored) > 2, "the store")
    d.kill()
    m.listen()
    state = [fd for name, fd in m.stored if name == "fixd-state"][0]
    os.pwrite(state, b"garbage" * 5000, 4096)
    d = m.start()
    assert "starting afresh" in d.words() and d.client().read("f") == b"x\n"
    d.ctl("stop")
    d.process.wait(LIMIT)


def test_socket_activation(t):
    """The socket is the manager's, and stays when the daemon ends."""
    m = manager(t)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listening.bind(t.path("socket"))
    listening.listen(10)
    d = m.start(ini(t), extra=[("fixd.socket", listening.fileno())])
    c = d.client()
    view = c.attach("f")
    d.stop()
    d = m.start(extra=[("fixd.socket", listening.fileno())])
    assert view.current and c.read("f") == b"bytes\n"
    d.ctl("restart")
    assert view.current and d.client().read("f") == b"bytes\n"
    d.ctl("stop")
    d.process.wait(LIMIT)
    assert os.path.exists(t.path("socket"))
    listening.close()
    os.remove(t.path("socket"))


@harness.once
def test_several_sockets(t):
    """Whoever connected to the second one would wait for ever."""
    sockets = [socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) for _ in range(2)]
    for n, s in enumerate(sockets):
        s.bind(t.path(f"socket{n}"))
        s.listen(10)
    t.write("fixd.ini", "[fixture f]\ncommand = echo f\n")

    def arrange():
        for n, fd in enumerate([os.dup2(s.fileno(), 500 + n) for n, s in enumerate(sockets)]):
            os.dup2(fd, 3 + n, inheritable=True)
    done = subprocess.run(["sh", "-c", 'LISTEN_PID=$$ exec "$@"', "sh", harness.program("fixd"), "--config", t.path("fixd.ini")], close_fds=False,
                          preexec_fn=arrange, capture_output=True, timeout=LIMIT, env={**harness.process_environment(), "LISTEN_FDS": "2"})
    assert done.returncode == 1 and b"several sockets were handed over: expected one" in done.stderr, done
    for n, s in enumerate(sockets):
        s.close()
        os.remove(t.path(f"socket{n}"))


def test_watchdog(t):
    m = manager(t)
    d = m.start("", WATCHDOG_USEC="100000")
    wait_for(lambda: sum("WATCHDOG" in words for words in m.listen().said) >= 3, "signs of life")
    os.kill(d.pid, signal.SIGHUP)
    wait_for(lambda: m.heard(RELOADING="1"), "that it reloads")
    d.ctl("stop")
    d.process.wait(LIMIT)


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
