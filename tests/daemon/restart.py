# SPDX-License-Identifier: MIT
"""fixctl restart: another process, and nobody notices."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import threading

import harness
import services
import wire
from harness import COW, LIMIT, SLOWNESS, FixdError, wait_for
from services import ask, is_gone, lines, record, service, start


def restart(d):
    words = d.ctl("restart").out
    assert words.startswith("fixd ") and f"goes on: pid {d.pid}," in words, words


def test_images_and_views(t):
    t.write("file", "bytes")
    t.write("directory/name", "tree")
    plugin = t.plugin("objects", "#include <fixd-builder.h>\nint fixd_build(struct fixd_builder *b)\n{\n"
                      "void **p = fixd_alloc(b, 64);\n*p = p;\nfixd_set_root(b, p);\nreturn 0;\n}\n")
    counted = t.counted("date +%N")
    d = start(t, f"[policy]\nmax-age = none\n[fixture file]\nfile = file\n[fixture tree]\ndirectory = directory\n[fixture objects]\nplugin = {plugin}\n"
              f"[fixture command]\ncommand = {counted}\nwatch = file\n[fixture more]\ncommand = cat $FIXD_DEP_objects\ndepends = objects\n"
              "params = a, b\n")
    c = d.client()
    views = [c.attach(n, flags=COW) for n in ("file", "objects", "command", "more[a]")]
    tree = c.attach("tree")
    views[0].write(0, b"B")
    before = {n: (i["generation"], i["address"], i["digest"], i["created"]) for n, i in d.instances().items()}
    for _ in range(3):
        restart(d)
        assert {n: (i["generation"], i["address"], i["digest"], i["created"]) for n, i in d.instances().items()} == before
        for v in views + [tree]:
            assert v.current
        assert views[0].data == b"Bytes" and views[0].reset() >= 0 and views[0].data == b"bytes"
        views[0].write(0, b"B")
        assert c.attach("command").data == views[2].data and t.runs() == 1
        assert c.attach("objects", flags=COW).address == views[1].address
        assert os.path.exists(tree.path + "/name") and d.status()["daemon"]["pid"] == d.pid
    assert d.instance("command")["leases"] == 4 and d.instance("command")["pids"] == [os.getpid()] * 4
    # What was watched still is, and the board still tells.
    t.write("file", "other bytes")
    assert c.attach("file").data == b"other bytes" and not views[0].current and not views[2].current
    assert views[0].data == b"Bytes"
    d.ctl("cleanup", "--force", "objects")
    assert not views[1].current
    wait_for(lambda: d.instance("file")["generation"] == 2, "the second generation")


def test_an_edit_between(t):
    """While nobody watches: by the clock of a test that is a moment, by that of an upgrade longer."""
    t.write("file", "one")
    d = start(t, "[fixture file]\nfile = file\n[fixture failed]\ncommand = cat missing\nwatch = missing\n")
    c = d.client()
    assert c.read("file") == b"one"
    try:
        c.read("failed")
        assert False
    except FixdError as e:
        assert "cat: missing" in e.sentence
    for n in range(20):
        child = t.child(lambda: t.write("file", f"edit {n}"))
        restart(d)
        harness.exit_code(child)
        assert c.read("file") == f"edit {n}".encode()
    # A failure is kept, until its input comes.
    assert d.instance("failed")["state"] == "failed" and d.instance("failed")["builds"] == 1
    t.write("missing", "here")
    assert c.read("failed") == b"here"


def test_a_large_tree_goes_on(t):
    """What is watched is looked at again after the restart, in slices: nothing was edited, or something was."""
    for k in range(5000):
        t.write(f"large/{k % 20}/{k}", "")
    d = t.daemon(f"[fixture f]\ncommand = {t.counted('cat large/3/3')}\nwatch = large\n")
    c = d.client()
    assert c.read("f") == b""
    d.ctl("restart")
    assert c.read("f") == b"" and t.runs() == 1
    d.ctl("cleanup", "--stale")
    assert c.read("f") == b"" and t.runs() == 1
    t.write("large/3/3", "three\n")
    d.ctl("restart")
    d.ctl("restart")  # while the look of the one before may still be under way
    assert c.read("f") == b"three\n" and t.runs() == 2
    t.write("large/new", "")
    d.ctl("restart")
    d.ctl("cleanup", "--stale")
    assert d.instance("f")["state"] == "stale"


def test_another_configuration(t):
    ini = "[fixture a]\ncommand = echo a\n[fixture b]\ncommand = echo b\n[fixture c]\ncommand = echo c\n[fixture dropped]\ncommand = date +%N\non-restart = drop\n"
    d = start(t, ini)
    c = d.client()
    views = {n: c.attach(n) for n in ("a", "b", "c", "dropped")}
    d.configure(ini.replace("echo b", "echo other").replace("[fixture c]", "[fixture d]"))
    restart(d)
    assert views["a"].current and not views["dropped"].current
    assert c.read("b") == b"other\n" and views["b"].data == b"b\n" and views["c"].data == b"c\n"
    assert c.read("dropped") != views["dropped"].data and "c" not in d.instances()
    # One that is wrong is no reason to lose anything.
    d.configure("[fixture a]\nnonsense = 1\n")
    done = d.ctl("restart", code=1)
    assert "not restarted" in done.err and "unknown key 'nonsense'" in d.words()
    assert c.read("a") == b"a\n" and views["a"].current


def test_another_socket_is_configured(t):
    """The one that clients know stays, and goes with the daemon."""
    ini = "[fixd]\nsocket = SOCKET\n[fixture f]\ncommand = echo f\n"
    config = t.write("socket.ini", ini.replace("SOCKET", "first"))
    read_end, write_end = os.pipe()
    d = subprocess.Popen([*t.wrapper, harness.program("fixd"), "--config", config, "--ready-fd", str(write_end)], pass_fds=[write_end],
                         env=harness.process_environment(), stderr=subprocess.DEVNULL)
    os.close(write_end)
    assert os.read(read_end, 1) == b"\n"
    os.close(read_end)
    fixctl = [harness.program("fixctl"), "--socket", t.path("first")]
    t.write("socket.ini", ini.replace("SOCKET", "second"))
    for command in ["restart"], ["get", "f"], ["stop"]:
        subprocess.run([*fixctl, *command], check=True, stdout=subprocess.DEVNULL, timeout=harness.LIMIT)
    assert d.wait(harness.LIMIT) == 0
    assert not [name for name in os.listdir(t.dir) if name.startswith(("first", "second"))], os.listdir(t.dir)


def test_another_program(t):
    """One that is gone, or cannot take over."""
    shutil.copy(harness.program("fixd"), t.path("fixd"))
    real = harness.program
    try:
        harness.program = lambda name: t.path("fixd") if name == "fixd" else real(name)
        d = start(t, "[fixture a]\ncommand = echo a\n", env={"FIXD_BUILDER": real("fixd-builder")})
    finally:
        harness.program = real
    c = d.client()
    view = c.attach("a")
    restart(d)
    os.remove(t.path("fixd"))
    assert "cannot be started: No such file" in d.ctl("restart", code=1).err
    os.chmod(t.write("fixd", "#!/bin/sh\nexit 1\n"), 0o755)
    assert "does not like what it would have to go on with" in d.ctl("restart", code=1).err
    # It likes it, and then is no program.
    os.chmod(t.write("fixd", '#!/bin/sh\ncase "$*" in *--check*) printf garbage >"$0.new"; chmod 755 "$0.new"; mv "$0.new" "$0";; esac\n'), 0o755)
    assert "Exec format error" in d.ctl("restart", code=1).err
    assert view.current and c.read("a") == b"a\n"
    os.remove(t.path("fixd"))
    shutil.copy(real("fixd"), t.path("fixd"))
    restart(d)
    assert view.current


def test_somebody_waits(t):
    """For a build, which is begun again."""
    d = start(t, "[fixture slow]\ncommand = " + t.counted(f"while ! test -e {t.path('go')}; do sleep 0.01; done; echo done") +
              "\n[fixture after]\ncommand = cat $FIXD_DEP_slow\ndepends = slow\n")
    children = [t.child(lambda n=n: d.client().read(n) == b"done\n") for n in ("slow", "after", "slow")]
    wait_for(lambda: d.status()["daemon"]["waiting"] == 3 and t.runs() == 1, "the build")
    restart(d)
    assert d.status()["daemon"]["waiting"] == 3
    wait_for(lambda: t.runs() == 2, "that it is begun again")
    restart(d)
    t.write("go", "")
    assert [harness.exit_code(c) for c in children] == [0] * 3


def test_a_time_limit_goes_on(t):
    # It must be seen to wait, by a fixctl that takes a second in an emulated machine.
    d = start(t, f"[fixture slow]\ncommand = sleep 1000\ntimeout = {int(SLOWNESS) + 1}s\n")

    def wait():
        try:
            d.client().read("slow", timeout=0.5 * SLOWNESS)
        except FixdError as e:
            return "was not ready in time" in e.sentence
    child = t.child(wait)
    wait_for(lambda: d.status()["daemon"]["waiting"] == 1, "the request")
    restart(d)
    assert harness.exit_code(child) == 0


def test_clients_build(t):
    root = os.path.realpath(t.dir)
    d = start(t, "[fixture given]\nclient = yes\n")
    builder, other = d.client().join(root, "run"), d.client().join(root, "run")
    builder.define("mine", "max-age=none")
    build = builder.begin("mine", key="here")
    waiting = []
    thread = threading.Thread(target=lambda: waiting.append(other.begin("mine", key="here")))
    thread.start()
    wait_for(lambda: d.status()["daemon"]["waiting"] == 1, "the other one")
    restart(d)
    view = build.commit(b"value")
    thread.join()
    assert waiting[0].data == b"value" and waiting[0].generation == 1
    restart(d)
    # Definitions and images stay.
    assert d.client().join(root, "run").begin("mine", key="here").data == b"value" and view.current
    assert [s for s in d.status()["sessions"] if s["total_runs"]][0]["total_runs"] == 1
    # A builder that dies is noticed by the new daemon.
    r, w = os.pipe()

    def die():
        d.client().begin("given")
        os.write(w, b"x")
        signal.pause()
    child = t.child(die)
    os.read(r, 1)
    restart(d)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    d.client().begin("given").commit(b"x")


def test_what_nothing_else_leads_to(t):
    """An image that somebody builds from, and that is not that of its fixture any more; a time limit that is the longest."""
    root = os.path.realpath(t.dir)
    t.write("input", "one")
    d = start(t, "[fixture given]\ncommand = cat input\nwatch = input\n[fixture stays]\ncommand = echo stays\n")
    c = d.client().join(root, "run")
    stays = c.attach("stays")
    given = c.attach("given")
    build = c.define("made", "timeout=640000h").begin("made", depends=[given])
    given.detach()
    d.ctl("cleanup", "given", "--force")
    t.write("input", "another")
    assert d.client().read("given") == b"another"
    restart(d)
    assert stays.current and "starting afresh" not in d.words() and "not restarted" not in d.words()
    assert build.commit(b"value").data == b"value"


def test_the_last_of_a_run(t):
    root = os.path.realpath(t.dir)
    d = start(t, "")
    a, b = d.client().join(root, "run"), d.client().join(root, "run")
    a.define("mine", "reuse=no")
    first = a.begin("mine").commit(b"value", note=b"note")
    second = b.begin("mine")
    answers = []
    thread = threading.Thread(target=lambda: answers.append(first.release(wait=LIMIT)))
    thread.start()
    wait_for(lambda: d.status()["daemon"]["waiting"] == 1, "that it waits")
    restart(d)
    assert not answers
    answers.append(second.release(wait=LIMIT))
    thread.join()
    assert sorted(answers) == [(False, None), (True, b"note")], answers


def test_orphans_stay(t):
    root = os.path.realpath(t.dir)
    d = start(t, "")
    a = d.client().join(root, "run")
    a.define("mine", "reuse=no")
    a.begin("mine").commit(b"value", note=b"note")
    t.clients.remove(a)
    a.close()
    wait_for(lambda: d.status()["daemon"]["connections"] == 1, "its end")
    restart(d)
    assert d.client().join(root).adopt() == ("mine", b"note")


def test_services_stay(t):
    d = start(t, service("", "exclusive = yes\n" + record(t, "torn")) + service("", name="eager", more="rebuild = eager\nwarm = yes\n"))
    c = d.client()
    view = c.attach("server")
    pid = ask(view.data)
    waiting = []
    thread = threading.Thread(target=lambda: waiting.append(d.client().attach("server")))
    thread.start()
    wait_for(lambda: d.status()["daemon"]["waiting"] == 1, "the other one")
    eager = wait_for(lambda: d.instance("eager").get("service_pid"), "the other service")
    for _ in range(3):
        restart(d)
        assert ask(view.data) == pid and view.current and not waiting
    view.detach()
    thread.join()
    assert ask(waiting[0].data) == pid
    # Their ends are noticed.
    os.kill(eager, signal.SIGKILL)
    wait_for(lambda: (d.instance("eager").get("service_pid") or eager) != eager, "the next one")
    waiting[0].detach()
    d.ctl("cleanup", "server")
    wait_for(lambda: is_gone(pid) and lines(t, "torn") == ["server"], "its teardown")
    c.read("server")
    restart(d)
    d.stop()
    assert lines(t, "torn") == ["server"] * 2 and not services.directories(t)


def test_a_service_that_is_starting(t):
    go = t.path("go")
    d = start(t, f"[fixture slow]\nservice = while ! test -e {go}; do sleep 0.01; done; exec {sys.executable} {services.SERVER}\nready = port\n")
    child = t.child(lambda: ask(d.client().read("slow")) > 0)
    wait_for(lambda: d.status()["daemon"]["waiting"] == 1 and d.instance("slow")["state"] == "building", "the start")
    restart(d)
    t.write("go", "")
    assert harness.exit_code(child) == 0


def test_stopped_during_a_restart(t):
    """Then it stops; what would have gone on is torn down."""
    d = start(t, f"[policy]\nmax-age = none\n[fixture stubborn]\nservice = trap '' TERM INT HUP; echo x >{t.path('runs')}; while true; do sleep 1; done\n"
              "ready = line\nteardown-timeout = 1s\n" + service())
    pid = ask(d.client().read("server"))
    waiting = d.client()
    outcomes = []
    thread = threading.Thread(target=lambda: outcomes.append(outcome_of(waiting)))
    thread.start()
    wait_for(lambda: os.path.exists(t.path("runs")), "the service to start")
    asking = harness.subprocess.Popen([harness.program("fixctl"), "--socket", d.socket, "restart"], stdout=-3, stderr=-3)
    wait_for(lambda: "restarting: asked by" in d.words(), "the restart to begin")
    d.process.send_signal(signal.SIGTERM)
    assert d.process.wait(LIMIT) == 0
    asking.wait(LIMIT)
    thread.join(LIMIT)
    assert is_gone(pid) and outcomes == ["lost"], outcomes


def outcome_of(client):
    try:
        client.attach("stubborn")
    except FixdError:
        return "lost"
    return "attached"


def test_a_teardown_that_runs(t):
    d = start(t, f"[fixture f]\ncommand = date +%N\nteardown = while ! test -e {t.path('go')}; do sleep 0.01; done; echo >> {t.path('torn')}\n")
    first = d.client().read("f")
    d.begin_cleanup("f")
    child = t.child(lambda: d.client().read("f") != first)
    wait_for(lambda: d.status()["daemon"]["waiting"] == 1, "the request")
    restart(d)
    t.write("go", "")
    assert harness.exit_code(child) == 0 and t.runs("torn") == 1


def test_while_everybody_works(t):
    t.write("file", "bytes")
    d = start(t, service() + "[fixture file]\nfile = file\n[fixture short]\ncommand = date +%N\nmax-age = 1ms\n")
    d.ctl("warm")
    pid = d.instance("server")["service_pid"]
    stop = t.path("stop")

    def work():
        c = d.client()
        n = 0
        while not os.path.exists(stop):
            n += 1
            assert c.read("file") == b"bytes"
            assert c.read("short")
            assert ask(c.read("server")) == pid
            if n % 10 == 0:
                d.client().read("file")
        return n > 0
    children = [t.child(work) for _ in range(6)]
    for _ in range(15):
        restart(d)
    t.write("stop", "")
    assert [harness.exit_code(c) for c in children] == [0] * 6


def test_a_client_that_does_not_read(t):
    d = start(t, "[fixture f]\ncommand = echo f\n")
    c = d.client()
    view = c.attach("f")
    stuck = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    stuck.connect(d.socket)
    stuck.sendall(harness.request("hello", version=wire.VERSION))
    stuck.recv(100)
    stuck.settimeout(1)
    try:
        for n in range(2, 60):
            stuck.sendall(harness.request("status", id=n))
    except (TimeoutError, BrokenPipeError):
        pass
    restart(d)
    assert view.current and c.read("f") == b"f\n"
    stuck.close()


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
