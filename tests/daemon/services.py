# SPDX-License-Identifier: MIT
"""Services, teardown, reset, exclusive use; and what is left when somebody is killed: nothing."""

import ctypes
import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time

import harness
from harness import LIMIT, SANITIZERS, SLOWNESS, FixdError, once, wait_for

SERVER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "server")
# For what has a process that ignores the signal, and a command that is done before.
BRIEF = f"teardown-timeout = {int(SLOWNESS) or 1}s\n"


def service(options="", more="", name="server", ready="port"):
    return f"[fixture {name}]\nservice = exec {sys.executable} {SERVER} {options}\nready = {ready}\n{more}\n"


def ask(where, what=b"hello"):
    """The pid of who answers there."""
    host, port = where.decode().split(":")
    with socket.create_connection((host, int(port)), LIMIT) as s:
        s.sendall(what)
        return int(s.recv(100) or b"0")


def is_alive(pid):
    return harness.process_state(pid) not in ("", "Z", "X")


def is_gone(pid):
    return not is_alive(pid)


def processes_of(t):
    """The daemon, its helpers and what they have started: TMPDIR is passed on to all of them."""
    found = []
    for path in glob.glob("/proc/[0-9]*"):
        pid = int(path.split("/")[2])
        try:
            with open(path + "/environ", "rb") as f:
                environ = f.read()
            with open(path + "/cmdline", "rb") as f:
                words = f.read()
        except OSError:
            continue
        if pid != os.getpid() and (b"TMPDIR=" + t.dir.encode() + b"\0") in environ and is_alive(pid):
            found.append((pid, words.replace(b"\0", b" ").decode()))
    return found


def directories(t):
    """What the test's daemons have outside of themselves."""
    return glob.glob(t.runtime + "/*")


def start(t, ini, **more):
    return t.daemon(ini, env={"TMPDIR": t.dir, "XDG_RUNTIME_DIR": t.runtime, **more.pop("env", {})}, **more)


def test_a_service(t):
    d = start(t, service())
    a, b = d.client(), d.client()
    view, other = a.attach("server"), b.attach("server")
    pid = ask(view.data)
    assert other.data == view.data and ask(other.data) == pid and view.built and not other.built
    i = d.instance("server")
    assert i["service_pid"] == pid and view.data == b"127.0.0.1:%d" % i["port"], i
    assert os.path.exists(i["dir"] + "/pid")
    view.detach()
    other.detach()
    # It is kept between runs.
    assert ask(d.client().read("server")) == pid
    # Retired, it lives as long as somebody holds it.
    view = a.attach("server")
    d.ctl("cleanup", "server", "--force")
    assert not view.current and ask(view.data) == pid
    new = b.attach("server")
    assert ask(new.data) != pid and new.generation == 2 and new.data != view.data
    view.detach()
    wait_for(lambda: is_gone(pid) and not os.path.exists(i["dir"]), "the end of the first one")
    assert ask(new.data)


def test_ready(t):
    d = start(t, service("--line tcp://here", ready="line", name="line") +
              service("--line x", "value = db://127.0.0.1:${FIXD_PORT}/${FIXD_FIXTURE}\n", ready="line", name="value") +
              service("--file $FIXD_DIR/up", ready="file:${FIXD_DIR}/up", name="file") +
              service("", ready="command:test -s $FIXD_DIR/pid", name="command") +
              service("--chatty --line first", ready="line", name="chatty"))
    c = d.client()
    assert c.read("line") == b"tcp://here"
    value = c.read("value").decode()
    assert value == f"db://127.0.0.1:{d.instance('value')['port']}/value"
    assert c.read("file").startswith(b"in the file, pid ") and not c.read("file").endswith(b"\n")
    assert ask(c.read("command")) == d.instance("command")["service_pid"]
    wait_for(lambda: "a second line" in d.ctl("log", "line").out, "what it says later")
    # What nobody reads is thrown away, and does not stop it.
    assert c.read("chatty") == b"first"
    wait_for(lambda: len(d.ctl("log", "chatty").out) > 60000, "its output")
    assert ask(b"127.0.0.1:%d" % d.instance("chatty")["port"])


def test_it_notifies(t):
    """READY=1 and nothing else; what it says of its status is in the log."""
    d = start(t, service("--notify", ready="notify") + service("--line READY=1", "timeout = 300ms\n", ready="notify", name="silent") +
              "[fixture fails]\nservice = exit 7\nready = notify\n")
    c = d.client()
    assert ask(c.read("server")) == d.instance("server")["service_pid"]
    assert "warming up\nat work" in d.ctl("log", "server").out
    for name, words in ("silent", "timed out after 300.0 ms: the service was not ready by then (ready = notify)"), \
            ("fails", "exited with status 7 before it was ready"):
        try:
            c.attach(name)
            assert False
        except FixdError as e:
            assert words in e.sentence, e.sentence


def test_it_is_prewarmed(t):
    warm = os.path.join(t.dir, "warm")
    d = start(t, service("--line x", f"prewarm = echo $FIXD_PORT >> {warm}", ready="line") +
              service("--line x", "prewarm = echo no such table >&2; exit 3\n", ready="line", name="cold") +
              service("--line x", "prewarm = kill -9 $(cat $FIXD_DIR/pid); exec sleep 1000\n", ready="line", name="dying"))
    c = d.client()
    c.attach("server")
    with open(warm) as f:
        assert f.read() == f"{d.instance('server')['port']}\n"
    for name, words in ("cold", "its prewarm command exited with status 3\n"), ("dying", "killed by signal 9 (Killed) before it was ready"):
        try:
            c.attach(name)
            assert False
        except FixdError as e:
            assert words in e.sentence, e.sentence


@once
def test_a_stranger_notifies(t):
    """Another user who has learnt the name of the socket cannot say that a service is ready."""
    if os.geteuid() != 0:
        raise harness.Skip("only root has other users")
    name, go = os.path.join(t.dir, "name"), os.path.join(t.dir, "go")
    d = start(t, f"[fixture a]\nservice = echo $NOTIFY_SOCKET > {name}.new; mv {name}.new {name}; until test -e {go}; do sleep 0.01; done; exit 7\n"
                 "ready = notify\n")
    asker = subprocess.Popen([harness.program("fixctl"), "--socket", d.socket, "get", "a"], stderr=subprocess.PIPE, text=True)
    wait_for(lambda: os.path.exists(name), "the name")
    with open(name) as f:
        address = f.read().strip().replace("@", "\0", 1)
    stranger = os.fork()
    if stranger == 0:
        os.setuid(harness.NOBODY)
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"READY=1", address)
        os._exit(0)
    assert harness.exit_code(stranger) == 0
    with open(go, "w"):
        pass
    assert "exited with status 7 before it was ready" in asker.communicate(timeout=LIMIT)[1]


@once
def test_it_notifies_as_another_user(t):
    """Of root's services many have become another user by then, with or without a sandbox, or have gone into the background."""
    if os.geteuid() != 0:
        raise harness.Skip("only root has other users")
    say = t.write("say.py", f"import os, socket, time\nif os.fork():\n    time.sleep(1000)\nos.setuid({harness.NOBODY})\n"
                  "with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:\n"
                  "    s.sendto(b'READY=1', os.environ['NOTIFY_SOCKET'].replace('@', '\\0', 1))\ntime.sleep(1000)\n")
    d = start(t, f"[fixture words]\ntree = echo first > $FIXD_DIR/word\n[fixture plain]\nservice = exec {sys.executable} {say}\nready = notify\n"
              f"[fixture boxed]\nservice = exec {sys.executable} {say}\nready = notify\ndata = words\n")
    c = d.client()
    c.attach("plain")
    c.attach("boxed")


@once
def test_a_stranger_floods(t):
    """It costs the helper little, and does not keep the service from saying that it is ready."""
    if os.geteuid() != 0:
        raise harness.Skip("only root has other users")
    name, go = os.path.join(t.dir, "name"), os.path.join(t.dir, "go")
    say = t.write("say.py", "import os, socket\nwith socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:\n"
                  "    s.sendto(b'READY=1', os.environ['NOTIFY_SOCKET'].replace('@', '\\0', 1))\n")
    d = start(t, f"[fixture a]\nservice = echo $NOTIFY_SOCKET > {name}.new; mv {name}.new {name}; until test -e {go}; do sleep 0.01; done; "
                 f"{sys.executable} {say}; exec sleep 1000\nready = notify\nvalue = up\n")
    asker = subprocess.Popen([harness.program("fixctl"), "--socket", d.socket, "get", "a"], stdout=subprocess.PIPE, text=True)
    wait_for(lambda: os.path.exists(name), "the name")
    with open(name) as f:
        address = f.read().strip().replace("@", "\0", 1)
    sent, end = os.pipe()
    strangers = []
    for _ in range(3):
        strangers.append(os.fork())
        if strangers[-1] == 0:
            try:
                os.setuid(harness.NOBODY)
                with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
                    while True:
                        s.sendto(b"READY=1", address)
                        os.write(end, b".")
            finally:
                os._exit(0)
    os.close(end)
    with open("/proc/sys/net/unix/max_dgram_qlen") as f:
        queue = int(f.read())
    began, n = time.monotonic(), 0
    while n < queue + 400:
        n += len(os.read(sent, 1))
    # Sixteen are taken in 10 ms.
    assert time.monotonic() - began > 0.15, time.monotonic() - began
    with open(go, "w"):
        pass
    threading.Thread(target=lambda: [None for _ in iter(lambda: os.read(sent, 4096), b"")], daemon=True).start()
    assert asker.communicate(timeout=LIMIT)[0] == "up"
    for pid in strangers:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    wait_for(lambda: f"user {harness.NOBODY} sends to the service's NOTIFY_SOCKET, and is not heard" in d.ctl("log", "a").out, "it to be said")


def test_it_never_gets_ready(t):
    d = start(t, service("--mute", "timeout = 300ms\n", name="mute") + service("--mute", "timeout = 300ms\n", ready="line", name="silent") +
              "[fixture fails]\nservice = echo cannot bind >&2; exit 7\n[fixture forgets]\nservice = exec true\n" +
              "[fixture killed]\nservice = kill -9 $$\n")
    c = d.client()
    for name, words in (("mute", "timed out after"), ("silent", "timed out after"), ("fails", "exited with status 7 before it was ready\ncannot bind"),
                        ("forgets", "exited with status 0"), ("killed", "killed by signal 9")):
        try:
            c.attach(name)
            assert False
        except FixdError as e:
            assert words in e.sentence, e.sentence
    wait_for(lambda: not [p for p in processes_of(t) if p[0] != d.pid], "all processes to end")
    assert d.status()["daemon"]["failures"] == 5


def test_it_dies(t):
    d = start(t, service() + "[fixture seed]\ncommand = echo $FIXD_DEP_server; cat $FIXD_DEP_server\ndepends = server\n")
    c = d.client()
    view, seed = c.attach("server"), c.attach("seed")
    pid = ask(view.data)
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: is_gone(pid), "its end")
    # However soon a client asks: it does not get the dead one, nor what was made with it.
    again = d.client().attach("server")
    assert ask(again.data) != pid and again.generation == 2
    assert d.client().attach("seed").generation == 2
    assert not view.current and not seed.current
    cause = d.instance("server")["stale_cause"]
    assert "its service" in cause, cause
    try:
        ask(again.data, b"die")
    except ConnectionResetError:
        pass
    wait_for(lambda: "exited with status 3" in (d.instance("server")["stale_cause"] or ""), "the cause")
    wait_for(lambda: d.instance("seed")["stale_cause"] == "its dependency 'server' is torn down", "what depends on it")


def test_started_again_at_once(t):
    clock = harness.Clock(t)
    d = start(t, service("", "rebuild = eager\nwarm = yes\ntimeout = 1h\n"), env=clock.env)
    pids = set()
    for n in range(4):
        pid = wait_for(lambda: d.instance("server").get("service_pid"), "the service")
        assert pid not in pids
        pids.add(pid)
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: d.instance("server")["state"] != "ready", "that it is known")
        # Each time it waits longer; the clock does not move by itself that far.
        clock.advance(60)
        d.status()
    wait_for(lambda: d.instance("server")["state"] == "ready", "the last one")


def test_a_restart_that_fails_is_tried_again(t):
    clock = harness.Clock(t)
    t.write("starts", "")
    d = start(t, f"""[fixture server]
service = echo x >> {t.path('starts')}; case $(wc -l < {t.path('starts')}) in 2|3) exit 3;; esac; echo $$; exec sleep 1000
rebuild = eager
warm = yes
timeout = 1h
retry-after = none
""", env=clock.env)
    pid = wait_for(lambda: d.instance("server").get("service_pid"), "the service")
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: (clock.advance(60), d.instance("server"))[1].get("service_pid") not in (None, 0, pid), "the fourth start")
    assert d.instance("server")["state"] == "ready" and len(lines(t, "starts")) == 4


def test_into_the_background(t):
    d = start(t, service("--away", "teardown-timeout = 500ms\n"))
    c = d.client()
    view = c.attach("server")
    pid = ask(view.data)
    with open(d.instance("server")["dir"] + "/pid") as f:
        assert int(f.read()) == pid
    assert d.instance("server")["service_pid"] != pid
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: d.instance("server")["state"] == "stale", "its end to be noticed")
    pid = ask(c.attach("server").data)
    d.ctl("cleanup", "--force", "server")
    c.close()
    t.clients.remove(c)
    wait_for(lambda: is_gone(pid), "the end of the second one")


def test_it_ignores_sigterm(t):
    d = start(t, service("--deaf --child", "teardown-timeout = 300ms\n"))
    pid = ask(d.client().read("server"))
    assert "server: its processes did not end within" in d.ctl("cleanup", "server", code=1).out
    assert is_gone(pid)
    assert "did not end within 300 ms of SIGTERM and were killed" in d.instance("server")["teardown_error"].replace(".00", "").replace(".0", "")
    assert d.status()["daemon"]["teardown_failures"] == 1
    assert "Teardown failed: its processes did not end" in d.ctl("status").out
    wait_for(lambda: not [p for p in processes_of(t) if p[0] != d.pid], "its child to end, too")


def test_a_port_is_taken(t):
    """Between its choice and its use; the next attempt has another one."""
    port, taken = t.path("port"), t.path("taken")
    started = t.write("started.sh", f"if ! test -e {taken}; then echo $FIXD_PORT >{port}.new; mv {port}.new {port}; "
                      f"while ! test -e {taken}; do sleep 0.01; done; fi\nexec {sys.executable} {SERVER}\n")
    d = start(t, f"[fixture server]\nservice = exec sh {started}\nready = port\n")
    found = []
    asking = threading.Thread(target=lambda: found.append(d.client().read("server")))
    asking.start()
    wait_for(lambda: os.path.exists(port), "its choice")
    with open(port) as f, socket.create_server(("127.0.0.1", int(f.read()))) as thief:
        t.write("taken", "")
        asking.join()
        assert ask(found[0]) and found[0] != b"127.0.0.1:%d" % thief.getsockname()[1]
    assert "was taken by another process" in d.words()


def test_check_and_reset(t):
    d = start(t, service("", f"reset = cat $FIXD_VALUE >> {t.path('resets')}; echo >> {t.path('resets')}; test ! -e {t.path('broken')}\n"
                         f"check = test ! -e {t.path('unfit')}\ncheck-timeout = 20s\n"))
    c = d.client()

    def resets():
        return t.runs("resets")
    view = c.attach("server")
    pid = ask(view.data)
    assert resets() == 0, "a fresh one needs none"
    other = d.client().attach("server")
    assert resets() == 0, "nor one that others hold"
    view.detach()
    other.detach()
    view = c.attach("server")
    assert resets() == 1 and ask(view.data) == pid
    with open(t.path("resets")) as f:
        assert f.read() == view.data.decode() + "\n"
    view.detach()
    t.write("broken", "")
    view = c.attach("server")
    assert ask(view.data) != pid and "its reset failed: its command exited with status 1" in d.instance("server")["stale_cause"]
    os.remove(t.path("broken"))
    pid = ask(view.data)
    view.detach()
    t.write("unfit", "")
    t.write("log-of-the-test", d.ctl("log", "server").out)
    try:
        # It is asked before; the new one is not asked again.
        assert ask(c.read("server")) != pid
    finally:
        os.remove(t.path("unfit"))
    assert "its check failed" in d.instance("server")["stale_cause"]


def test_a_check_takes_too_long(t):
    d = start(t, "[fixture f]\ncommand = date +%N\ncheck = sleep 100\ncheck-timeout = 100ms\n")
    c = d.client()
    first = c.read("f")
    assert c.read("f") != first and "its check failed: it timed out" in d.instance("f")["stale_cause"]


def test_exclusive(t):
    d = start(t, service("", f"exclusive = yes\nreset = echo >> {t.path('resets')}\n"))
    first = d.client().attach("server")
    pid = ask(first.data)
    order, views = [], {}

    def wait(n, client):
        views[n] = client.attach("server")
        order.append(n)
    threads = []
    for n in range(3):
        threads.append(threading.Thread(target=wait, args=(n, d.client())))
        threads[-1].start()
        wait_for(lambda: d.status()["daemon"]["waiting"] == n + 1, "the request")
    assert not order
    try:
        d.client().attach("server", timeout=0.05)
        assert False
    except FixdError as e:
        assert f"is exclusive, and was held by process {os.getpid()} all the time" in e.sentence, e.sentence
    d.ctl("warm", "server")
    for n in range(3):
        (views[n - 1] if n else first).detach()
        wait_for(lambda: len(order) == n + 1, "the next one")
        threads[n].join()
        assert order[-1] == n and ask(views[n].data) == pid and t.runs("resets") == n + 1
    # Of a retired one the next begins when it is over.
    d.ctl("cleanup", "--force", "server")
    waiting = threading.Thread(target=wait, args=(3, d.client()))
    waiting.start()
    wait_for(lambda: d.status()["daemon"]["waiting"] == 1, "the request")
    assert ask(views[2].data) == pid
    views[2].detach()
    waiting.join()
    assert ask(views[3].data) != pid


def test_a_holder_of_an_exclusive_one_is_killed(t):
    d = start(t, service("", "exclusive = yes\n"))
    r, w = os.pipe()

    def hold():
        d.client().attach("server")
        os.write(w, b"x")
        time.sleep(1000)
    child = t.child(hold)
    os.read(r, 1)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert ask(d.client().read("server"))


def record(t, name, what="$FIXD_FIXTURE"):
    return f"teardown = echo {what} >> {t.path(name)}\n"


def lines(t, name):
    try:
        with open(t.path(name)) as f:
            return f.read().split("\n")[:-1]
    except FileNotFoundError:
        return []


def test_teardown(t):
    """For every source: once for each image, when nobody holds it any more."""
    t.write("file", "bytes")
    t.write("directory/name", "bytes")
    plugin = t.plugin("objects", "#include <fixd-builder.h>\nint fixd_build(struct fixd_builder *b)\n{\n"
                      "int *p = fixd_alloc(b, 64);\n*p = 5;\nfixd_set_root(b, p);\nreturn 0;\n}\n")
    sources = {"file": "file", "directory": "directory", "plugin": plugin, "command": "printf bytes", "tree": "echo bytes >$FIXD_DIR/name"}
    what = {"directory": "ls $FIXD_VALUE", "tree": "ls $FIXD_VALUE"}
    d = start(t, "".join(f"[fixture {n}]\n{n} = {s}\n" + record(t, "torn", f"$FIXD_FIXTURE $({what.get(n, 'wc -c <$FIXD_VALUE')})")
                         for n, s in sources.items()))
    c = d.client()
    views = [c.attach(n) for n in sources]
    d.ctl("cleanup", "--all", "--force")
    assert lines(t, "torn") == [], "they are held"
    for v in views:
        v.detach()
    wait_for(lambda: len(lines(t, "torn")) == 5, "the teardowns")
    assert sorted(lines(t, "torn")) == ["command 5", "directory name", "file 5", "plugin 4096", "tree name"], lines(t, "torn")
    # At the end of the daemon, too.
    d.ctl("warm")
    d.stop()
    assert sorted(lines(t, "torn"))[:2] == ["command 5", "command 5"] and len(lines(t, "torn")) == 10


def test_order_of_teardowns(t):
    ini = service("", record(t, "torn"))
    for n, depends in (("schema", "server"), ("rows", "schema"), ("report", "rows, server"), ("plain", "rows")):
        ini += f"[fixture {n}]\ncommand = date +%N\ndepends = {depends}\n" + (record(t, "torn") if n != "plain" else "")
    d = start(t, ini)
    c = d.client()
    c.read("report")
    # What has no teardown of its own keeps what it was made with.
    plain = c.attach("plain")
    d.ctl("cleanup", "--all", "--force")
    wait_for(lambda: lines(t, "torn") == ["report"], "the first")
    plain.detach()
    wait_for(lambda: len(lines(t, "torn")) == 4, "all of them")
    assert lines(t, "torn") == ["report", "rows", "schema", "server"]
    os.remove(t.path("torn"))
    c.read("report")
    d.stop()
    assert lines(t, "torn") == ["report", "rows", "schema", "server"]


def test_what_was_made_with_a_torn_down_one_is_not_the_same(t):
    """However equal its bytes are: it keeps the one it was made with."""
    t.write("in", "1")
    d = start(t, f"[fixture s]\ncommand = cat in\nwatch = in\n{record(t, 'torn', 's')}[fixture f]\ncommand = echo same\ndepends = s\n")
    v = d.client().attach("f")
    t.write("in", "22")
    w = d.client().attach("f")
    assert w.generation == v.generation + 1 and lines(t, "torn") == []
    v.detach()
    wait_for(lambda: lines(t, "torn") == ["s"], "the teardown of the first")
    w.detach()
    d.ctl("cleanup", "s")
    assert lines(t, "torn") == ["s", "s"] and d.instance("f")["state"] != "ready"


def test_words_that_are_no_text(t):
    """They do not hide the others."""
    d = start(t, "[fixture bad]\ncommand = echo x\nteardown = printf 'caf\\351 \\377 \\303\\251\\n' >&2; exit 3\n")
    d.client().read("bad")
    report = json.loads(d.ctl("cleanup", "--all", "--json", code=1).out)
    assert report["errors"] == ["bad: its teardown exited with status 3\ncaf\ufffd \ufffd \u00e9"], report


def test_a_teardown_fails(t):
    d = start(t, "[fixture bad]\ncommand = echo x\nteardown = echo why >&2; exit 5\n"
              "[fixture slow]\ncommand = echo x\nteardown = sleep 1000\nteardown-timeout = 100ms\n"
              "[fixture good]\ncommand = echo x\ndepends = bad\nteardown = true\n")
    c = d.client()
    for n in ("bad", "slow", "good"):
        c.read(n)
    d.ctl("cleanup", "--all", code=1)
    assert d.status()["daemon"]["teardown_failures"] == 2
    assert d.instance("bad")["teardown_error"] == "its teardown exited with status 5\nwhy"
    assert "its teardown was ended after 100" in d.instance("slow")["teardown_error"]
    assert "why" in d.ctl("log", "bad").out
    wait_for(lambda: not [p for p in processes_of(t) if p[0] != d.pid], "all processes to end")
    # It is built again all the same.
    assert c.read("bad") == b"x\n"


def test_the_next_build_waits_for_the_teardown(t):
    d = start(t, f"[fixture f]\ncommand = test ! -e {t.path('made')} && touch {t.path('made')}\n"
              f"teardown = while ! test -e {t.path('go')}; do sleep 0.01; done; rm {t.path('made')}\n")
    c = d.client()
    c.read("f")
    d.begin_cleanup("f")
    done = []
    thread = threading.Thread(target=lambda: done.append(c.read("f")))
    thread.start()
    wait_for(lambda: d.status()["daemon"]["waiting"] == 1, "the request")
    t.write("go", "")
    thread.join()
    assert done == [b""]


def kill_helpers(t, d):
    for pid, words in processes_of(t):
        if "fixd-builder" in words:
            os.kill(pid, signal.SIGKILL)


def two(t, more=""):
    return (service("--child", record(t, "torn", "server $(cat $FIXD_VALUE)") + BRIEF + more) +
            "[fixture seed]\ncommand = echo seeded\ndepends = server\n" + record(t, "torn", "seed $(cat $FIXD_VALUE $FIXD_DEP_server)"))


def test_the_daemon_is_killed(t):
    """Then its keepers do what they would have been told to, in order."""
    d = start(t, two(t))
    assert d.client().read("seed") == b"seeded\n"
    where = d.client().read("server").decode()
    d.kill()
    wait_for(lambda: not processes_of(t), "all processes to end")
    assert lines(t, "torn") == ["seed seeded " + where, "server " + where], lines(t, "torn")
    # And the next one works, and removes what is left.
    d = start(t, two(t))
    assert d.client().read("seed") == b"seeded\n"
    d.stop()
    assert not directories(t)
    assert len(lines(t, "torn")) == 4


def test_a_service_that_says_goodbye(t):
    """When its daemon was killed nobody reads what it says, however much, and it ends as it wants to."""
    script = t.write("talks.py", f"""
import os, signal, sys, time
def end(*_):
    for _ in range(2000): os.write(2, b"x" * 99 + b"\\n")
    open({t.path('ended')!r}, "w").write("well")
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
signal.signal(signal.SIGPIPE, signal.SIG_DFL)
print("up", flush=True)
while True: time.sleep(1)
""")
    d = t.daemon(f"[fixture s]\nservice = exec {sys.executable} {script}\nready = line\n")
    d.client().attach("s")
    pid = d.instance("s")["service_pid"]
    d.kill()
    wait_for(lambda: is_gone(pid), "its end")
    wait_for(lambda: os.path.exists(t.path("ended")) and open(t.path("ended")).read() == "well", "its last word")


def test_everybody_is_killed(t):
    """Then the next daemon does it, from their notes."""
    d = start(t, two(t))
    d.client().read("seed")
    where = d.client().read("server").decode()
    d.pause()
    kill_helpers(t, d)
    d.kill()
    d = start(t, two(t))
    wait_for(lambda: len(lines(t, "torn")) == 2, "the teardowns")
    assert lines(t, "torn") == ["seed seeded " + where, "server " + where], lines(t, "torn")
    wait_for(lambda: not [p for p in processes_of(t) if p[0] != d.pid], "all processes to end")
    assert d.client().read("seed") == b"seeded\n"
    d.stop()
    assert not directories(t)


def test_a_keeper_is_killed(t):
    """Another one takes its place, and the service is stale."""
    d = start(t, two(t))
    d.client().read("seed")
    pid = d.instance("server")["service_pid"]
    # All of them before the first is missed: one that is killed in the middle of a teardown may have it done again.
    d.pause()
    kill_helpers(t, d)
    d.resume()
    wait_for(lambda: d.instance("server")["state"] == "stale" and d.instance("seed")["state"] == "stale", "that it is known")
    wait_for(lambda: len(lines(t, "torn")) == 2, "the teardowns")
    assert [line.split()[0] for line in lines(t, "torn")] == ["seed", "server"]
    assert is_gone(pid)
    assert d.client().read("seed") == b"seeded\n"


def test_killed_while_it_starts(t):
    """The daemon, or the helper, or both, before the service is ready: nothing is left."""
    for who in ("daemon", "helper", "both"):
        d = start(t, service("--mute --child"))
        child = t.child(lambda: d.client().attach("server"))
        wait_for(lambda: [p for p in processes_of(t) if SERVER in p[1]], "the service to start")
        if who == "both":
            d.pause()
        if who != "daemon":
            kill_helpers(t, d)
        if who == "helper":
            assert harness.exit_code(child) != 0
            wait_for(lambda: not [p for p in processes_of(t) if p[0] != d.pid], "all processes to end")
            d.stop()
        else:
            d.kill()
            harness.exit_code(child)
        if who == "both":
            d = start(t, service())
            assert ask(d.client().read("server"))
            d.stop()
        wait_for(lambda: not processes_of(t), f"all processes to end ({who})")
        if who == "daemon":
            d = start(t, service())
            d.stop()
        assert not directories(t), who


def test_stopped_while_it_starts(t):
    d = start(t, service("--mute --child") + "[fixture slow]\ncommand = sleep 1000\n" + record(t, "torn"))
    children = [t.child(lambda n=n: d.client().attach(n)) for n in ("server", "slow")]
    wait_for(lambda: [p for p in processes_of(t) if SERVER in p[1]], "the service to start")
    d.stop()
    for child in children:
        assert harness.exit_code(child) != 0
    assert not processes_of(t) and not directories(t) and lines(t, "torn") == []


def test_old_age(t):
    clock = harness.Clock(t)
    d = start(t, service("", "max-age = 60s\nage-from = last-use\n"), env=clock.env)
    c = d.client()
    view = c.attach("server")
    pid = ask(view.data)
    clock.advance(600)
    d.status()
    assert view.current, "it is in use"
    view.detach()
    wait_for(lambda: d.instance("server")["leases"] == 0, "the end of the lease")
    clock.advance(61)
    d.status()
    wait_for(lambda: is_gone(pid), "it to end by itself")


def test_reload(t):
    d = start(t, service("", record(t, "torn", "one")))
    d.client().read("server")
    d.configure(service("", record(t, "torn", "two")))
    d.ctl("reload")
    wait_for(lambda: lines(t, "torn") == ["one"], "the teardown that it was built with")
    d.client().read("server")
    d.configure("[fixture other]\ncommand = true\n")
    d.ctl("reload")
    wait_for(lambda: lines(t, "torn") == ["one", "two"], "the second")


def test_it_dies_while_somebody_asks(t):
    """The request and the death arrive together: one successor is built."""
    d = start(t, service())
    a, b = d.client(), d.client()
    held = a.attach("server")
    pid = ask(held.data)
    d.pause()
    found = []
    asking = threading.Thread(target=lambda: found.append(b.attach("server")))
    asking.start()
    wait_for(lambda: unread(d) > 0, "the request to be there")
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: is_gone(pid), "its end")
    d.resume()
    asking.join()
    assert found[0].generation == 2 and ask(found[0].data) != pid
    d.status()
    assert d.instance("server")["generation"] == 2
    assert len([p for p in processes_of(t) if SERVER in p[1]]) == 1


def unread(d):
    """Bytes that wait for the daemon in its sockets."""
    total = 0
    for line in subprocess.run(["ss", "-xpH"], capture_output=True, check=False).stdout.decode().splitlines():
        if d.socket in line:
            total += int(line.split()[2])
    return total


def test_the_log_is_broken(t):
    """By the end of the daemon: what its helper passes on then does not end the helper."""
    script = t.write("yes.sh", "echo up\nsetsid sleep 1000 &\nexec yes\n")
    for n in range(3):
        d = start(t, f"[fixture server]\nservice = exec sh {script}\nready = line\n{BRIEF}" + record(t, f"torn{n}"))
        assert d.client().read("server") == b"up"
        wait_for(lambda: "y\ny\n" in d.ctl("log", "server").out, "its output")
        d.kill()
        wait_for(lambda: not processes_of(t), "all processes to end")
        assert lines(t, f"torn{n}") == ["server"]


def test_its_first_process_ends_later(t):
    """And leaves the work to another one: that is no end."""
    go = t.path("go")
    script = t.write("parent.sh", f"{sys.executable} {SERVER} &\nwhile ! test -e {go}; do sleep 0.01; done\n")
    d = start(t, f"[fixture server]\nservice = exec sh {script}\nready = port\nteardown-timeout = 300ms\n")
    c = d.client()
    pid, parent = ask(c.read("server")), d.instance("server")["service_pid"]
    t.write("go", "")
    wait_for(lambda: is_gone(parent), "its first process to end")
    assert ask(c.read("server")) == pid and d.instance("server")["generation"] == 1
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: d.instance("server")["state"] == "stale", "its real end")


def test_ready_is_a_file_that_is_written_later(t):
    """What is in it counts, and not that it is there."""
    d = t.daemon("".join(f"[fixture {name}]\nservice = : >$FIXD_DIR/up; {more}exec sleep 1000\nready = file:${{FIXD_DIR}}/up\n"
                         for name, more in (("later", "echo there >$FIXD_DIR/up; "), ("empty", ""))))
    assert d.client().read("later") == b"there"
    assert d.client().read("empty") != b"there"


def test_ready_is_a_fifo(t):
    d = start(t, "[fixture server]\nservice = mkfifo $FIXD_DIR/up; exec sleep 1000\nready = file:${FIXD_DIR}/up\n")
    try:
        d.client().read("server")
        assert False
    except FixdError as e:
        assert "is no file" in e.sentence, e.sentence


def test_ready_hangs_and_the_service_ends(t):
    d = start(t, "[fixture server]\nservice = exit 3\nready = command:sleep 1000\n")
    try:
        d.client().read("server")
        assert False
    except FixdError as e:
        assert "exited with status 3" in e.sentence, e.sentence


def test_no_reset_under_a_build(t):
    go = t.path("go")
    d = start(t, service("", f"reset = echo reset >> {t.path('seq')}\n") +
              f"[fixture seed]\ncommand = echo begin >> {t.path('seq')}; while ! test -e {go}; do sleep 0.01; done; echo end >> {t.path('seq')}\n"
              "depends = server\n")
    c = d.client()
    c.read("server")
    building = threading.Thread(target=lambda: d.client().read("seed"))
    building.start()
    wait_for(lambda: "begin" in lines(t, "seq"), "the build")
    c.read("server")
    c.read("server")
    t.write("go", "")
    building.join()
    assert lines(t, "seq") == ["reset", "begin", "end"], lines(t, "seq")


def test_the_same_bytes_again(t):
    """What was torn down is not current again because its successor looks like it."""
    d = start(t, "[fixture f]\ncommand = echo same\n" + record(t, "torn"))
    c = d.client()
    held = c.attach("f")
    d.configure(f"[fixture f]\ncommand = while ! test -e {t.path('go')}; do sleep 0.01; done; echo same\n")
    d.ctl("reload")
    found = []
    asking = threading.Thread(target=lambda: found.append(d.client().attach("f")))
    asking.start()
    wait_for(lambda: d.instance("f")["state"] == "building", "the build")
    held.detach()
    wait_for(lambda: lines(t, "torn") == ["f"], "the teardown")
    t.write("go", "")
    asking.join()
    assert found[0].generation == 2 and found[0].data == b"same\n"


def test_inputs_change_during_the_build(t):
    """What was built for nothing is torn down before it is built again."""
    t.write("in", "1")
    once_ = t.path("once")
    script = t.write("build.sh", f"echo build >> {t.path('seq')}\nif ! test -e {once_}; then touch {once_}; echo 22 > {t.path('in')}; fi\n")
    d = start(t, f"[fixture f]\nwatch = in\ncommand = sh {script}\nteardown = sleep 0.1; echo torn >> {t.path('seq')}\n")
    d.client().read("f")
    assert lines(t, "seq") == ["build", "torn", "build"], lines(t, "seq")


def test_inputs_that_are_not_looked_at_in_one_turn(t):
    """It runs while they are looked at again."""
    for k in range(3000):
        t.write(f"in/{k % 30}/{k}", "")
    once = t.path("once")
    edit = t.write("edit", f"if ! test -e {once}; then touch {once}; for f in {t.dir}/in/*/*; do echo 1 > $f; done; fi\n")
    d = start(t, service(more="watch = in", name="f").replace("exec", f"sh {edit}; exec") +
              record(t, "torn", "torn"))
    view = d.client().attach("f")
    assert ask(view.data) and view.current and view.generation == 1
    assert lines(t, "torn") == ["torn"], "the first one was built for nothing"
    t.write("in/0/new", "")
    assert not is_gone(ask(view.data))
    assert ask(d.client().attach("f").data) != ask(view.data)


def test_a_large_note(t):
    """Of all its dependencies' bytes."""
    n = 20
    d = start(t, "".join(f"[fixture d{k}]\ncommand = head -c 60000 /dev/zero | tr '\\0' x\n" for k in range(n)) +
              f"[fixture f]\ncommand = echo hi\ndepends = {', '.join(f'd{k}' for k in range(n))}\n" + record(t, "torn", "$(cat $FIXD_DEP_d19 | wc -c)"))
    view = d.client().attach("f")
    assert view.current
    view.detach()
    d.ctl("cleanup", "f")
    wait_for(lambda: lines(t, "torn") == ["60000"], "the teardown")


def test_order_across_what_is_not_kept(t):
    """Without a daemon: what lies between has no helper."""
    d = start(t, service("", record(t, "torn")) + "[fixture seed]\ncommand = cat $FIXD_DEP_server\ndepends = server\n"
              f"[fixture report]\ncommand = echo r\ndepends = seed\nteardown = sleep 0.2; echo report >> {t.path('torn')}\n")
    d.client().read("report")
    d.kill()
    wait_for(lambda: not processes_of(t), "all processes to end")
    assert lines(t, "torn") == ["report", "server"]


def test_another_daemon_tears_down(t):
    """What a killed one has left, while that is started again: both work."""
    go = t.path("go")
    ini = f"[fixture f]\ncommand = echo x\nteardown = while ! test -e {go}; do sleep 0.01; done; echo torn >> {t.path('torn')}\n"
    d = start(t, ini)
    d.client().read("f")
    d.pause()
    kill_helpers(t, d)
    d.kill()
    other = harness.Case(t.mode, t.wrapper)
    o = harness.Daemon(other, "[fixture x]\ncommand = true\n", env={"TMPDIR": t.dir, "XDG_RUNTIME_DIR": t.runtime})
    try:
        d = start(t, ini)
        assert d.client().read("f") == b"x\n"
        t.write("go", "")
        wait_for(lambda: lines(t, "torn") == ["torn"], "the teardown")
    finally:
        t.write("go", "")
        other.finish(False)


@once
def test_as_another_user(t):
    if os.geteuid() != 0:
        raise harness.Skip("only root starts processes as other users")
    os.chmod(t.dir, 0o755)
    os.mkdir(t.path("open"))
    os.chmod(t.path("open"), 0o777)
    shutil.copy(SERVER, t.path("open"))
    python = "/usr/bin/python3" if os.access("/usr/bin/python3", os.X_OK) else sys.executable
    ini = (f"[fixture server]\nservice = exec {python} {t.path('open/server')}\nready = port\n"
           f"user = nobody\nteardown = id -un >> {t.path('open/torn')}\n")
    d = start(t, ini)
    where = d.client().read("server")
    with open(f"/proc/{ask(where)}/status") as f:
        assert "Uid:\t65534" in f.read()
    d.pause()
    kill_helpers(t, d)
    d.kill()
    d = start(t, ini)
    wait_for(lambda: lines(t, "open/torn") == ["nobody"], "the teardown, as that user")
    d.client().read("server")
    d.ctl("cleanup", "server")
    wait_for(lambda: lines(t, "open/torn") == ["nobody", "nobody"], "the second")
    d.stop()
    assert not directories(t)


def until(t, name):
    """A teardown that lasts until the test lets it end."""
    return f"teardown = while ! test -e {t.path('go')}; do sleep 0.01; done; echo {name} >>{t.path('torn')}\n"


def test_eviction_of_what_must_be_torn_down(t):
    """Who needs the memory waits for the teardowns; also a client that has built something."""
    t.write("go", "")
    # A builder asks for more than it needs, by a quarter and what it reads at once: that must not matter.
    d = start(t, "[fixd]\nmemory-max = 12900K\n" + "".join(
        f"[fixture {n}]\ncommand = head -c {size}M /dev/zero\n{until(t, n)}" for n, size in (("a", 1), ("b", 8), ("c", 4))))
    c = d.client()
    c.read("a")
    c.read("b")
    c.read("a")
    os.remove(t.path("go"))
    asked = threading.Thread(target=lambda: d.client().read("c"))
    asked.start()
    wait_for(lambda: d.instance("b")["state"] == "stale", "the least recently used to be given up")
    assert d.instance("a")["state"] == "ready" and d.instance("c")["state"] == "building" and not lines(t, "torn")
    t.write("go", "")
    asked.join()
    assert lines(t, "torn") == ["b"] and d.status()["daemon"]["evictions"] == 1
    assert d.instance("b")["stale_cause"] == "evicted: memory-max was reached"
    os.remove(t.path("go"))
    builder = d.client().join("/", "run").define("client")
    build = builder.begin("client")
    asked = threading.Thread(target=build.commit, args=(b"x" * (10 << 20),))
    asked.start()
    wait_for(lambda: d.instance("c")["state"] == "stale", "the larger one to be given up, too")
    # Nothing that is held goes, and nobody waits for it.
    t.write("go", "")
    asked.join()
    wait_for(lambda: sorted(lines(t, "torn")) == ["a", "b", "c"], "both teardowns")
    try:
        c.read("c")
        assert False
    except FixdError as e:
        assert "memory-max" in e.sentence, e.sentence


def test_restarted_while_a_client_waits_for_memory(t):
    """It is told that there is none."""
    d = start(t, f"[fixd]\nmemory-max = 2M\n[fixture a]\ncommand = head -c 1M /dev/zero\n{until(t, 'a')}")
    d.client().read("a")
    build = d.client().join("/", "run").define("client").begin("client")
    problems = []

    def commit():
        try:
            build.commit(b"x" * (1 << 20))
        except FixdError as e:
            problems.append(e.sentence)
    asked = threading.Thread(target=commit)
    asked.start()
    wait_for(lambda: d.instance("a")["state"] == "stale", "room to be made")
    d.ctl("restart")
    asked.join()
    assert len(problems) == 1 and "memory-max" in problems[0], problems
    t.write("go", "")
    wait_for(lambda: lines(t, "torn") == ["a"], "the teardown")


def test_what_a_client_made_of_a_service(t):
    """It holds the service, and goes with it."""
    d = start(t, "[fixd]\nmemory-max = 64M\n" + service("", record(t, "torn")))
    c = d.client().join("/", "run").define("rows")
    server = c.attach("server")
    pid = ask(server.data)
    view = c.begin("rows", depends=[server]).commit(b"made by " + server.data)
    server.detach()
    done = d.ctl("cleanup", "server")
    assert "Removed: 0" in done.out and "Kept (in use): 1" in done.out, done.out
    view.detach()
    view = c.begin("rows", depends=[c.attach("server")])
    assert view.generation == 1 and view.data.startswith(b"made by")
    d.ctl("cleanup", "--force", "server")
    assert "rows: generation 1 is stale: its dependency 'server' is torn down" in d.words()
    assert is_alive(pid) and not lines(t, "torn")
    c.close()
    wait_for(lambda: len(lines(t, "torn")) == 1, "the teardown")
    wait_for(lambda: is_gone(pid), "its end")


def test_removed_and_there_again(t):
    """A fixture that was removed while somebody held the only one, or while it was torn down."""
    ini = service("", "exclusive = yes\n" + until(t, "server"))
    d = start(t, ini)
    view = d.client().attach("server")
    d.configure("[fixture other]\ncommand = true\n")
    d.ctl("reload")
    d.configure(ini)
    d.ctl("reload")
    next_one = []
    asked = threading.Thread(target=lambda: next_one.append(d.client().attach("server")))
    asked.start()
    wait_for(lambda: d.status()["daemon"]["waiting"] == 1, "the request")
    assert is_alive(ask(view.data)) and d.instance("server")["state"] == "building"
    view.detach()
    wait_for(lambda: d.status()["daemon"]["waiting"] == 1, "the request to go on waiting")
    assert not next_one and not lines(t, "torn")
    t.write("go", "")
    asked.join()
    assert lines(t, "torn") == ["server"] and next_one[0].generation == 2


def test_cleanup_waits(t):
    d = start(t, f"[fixture a]\ncommand = echo a\n{until(t, 'a')}[fixture b]\ncommand = echo b\ndepends = a\n"
              "teardown = echo why >&2; exit 3\n[fixture held]\ncommand = echo x\nteardown = true\n")
    c = d.client()
    c.read("b")
    held = c.attach("held")
    done = []
    asked = threading.Thread(target=lambda: done.append(d.ctl("cleanup", "a", "held", "--json", code=1)))
    asked.start()
    wait_for(lambda: d.instance("b")["teardown_error"], "the teardown of what needs it")
    assert not done and not lines(t, "torn")
    # Others are not held up, and somebody who goes is no problem.
    assert json.loads(d.ctl("cleanup", "--failed", "--json").out)["removed"] == []
    t.write("go", "")
    asked.join()
    report = json.loads(done[0].out)
    assert sorted(report["removed"]) == ["a", "b"] and report["kept"] == ["held"], report
    assert report["errors"] == ["b: its teardown exited with status 3\nwhy"] and report["freed_bytes"] == 8192, report
    assert lines(t, "torn") == ["a"]
    os.remove(t.path("go"))
    c.read("a")
    d.begin_cleanup("a")
    asked = threading.Thread(target=lambda: done.append(d.ctl("cleanup", "held", "--force", "--json")))
    asked.start()
    asked.join()
    held.detach()
    t.write("go", "")
    wait_for(lambda: lines(t, "torn") == ["a", "a"], "the teardown")
    os.remove(t.path("go"))
    # A daemon that ends, or restarts, does not leave anybody waiting.
    c.read("a")
    asked = threading.Thread(target=lambda: done.append(d.ctl("cleanup", "a", code=1)))
    asked.start()
    wait_for(lambda: d.instance("a")["state"] == "stale", "it to be given up")
    d.ctl("restart")
    asked.join()
    assert "a: is still being torn down, and fixd ends or restarts" in done[-1].out, done[-1].out
    t.write("go", "")
    wait_for(lambda: lines(t, "torn") == ["a", "a", "a"], "the teardown")


def test_what_a_killed_daemon_left_comes_first(t):
    """It may have the port, or the file, that the next one needs."""
    ini = f"[fixture only]\ncommand = echo x >{t.path('the-only-one')}; echo built >>{t.path('torn')}\n{until(t, 'only')}[fixture other]\ncommand = true\n"
    d = start(t, ini)
    d.client().read("only")
    d.pause()
    kill_helpers(t, d)
    d.kill()
    d = start(t, ini)
    d.client().read("other")
    try:
        d.client().attach("only", timeout=0.05)
        assert False
    except FixdError as e:
        assert "what was there before is still being torn down" in e.sentence, e.sentence
    asked = threading.Thread(target=lambda: d.client().read("only"))
    asked.start()
    wait_for(lambda: d.status()["daemon"]["waiting"] == 1, "the request")
    t.write("go", "")
    asked.join()
    assert lines(t, "torn") == ["built", "only", "built"]


def test_many_services(t):
    n = 10 if SANITIZERS else 30
    d = start(t, "[fixd]\njobs = 8\n" + "".join(service(name=f"s{k}") for k in range(n)))
    d.ctl("warm")
    ports = {d.instance(f"s{k}")["port"] for k in range(n)}
    assert len(ports) == n
    assert len({ask(d.client().read(f"s{k}")) for k in range(n)}) == n


@once
def test_the_stop_signal(t):
    # A shell starts what is in the background so; what it is passed on to cannot trap it.
    d = start(t, preexec=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN), ini="[fixture s]\nstop-signal = INT\nservice = trap 'echo int >got; exit 0' INT; trap '' TERM; echo up; while :; do sleep 0.05; done\n"
                 "[fixture k]\nteardown-timeout = 100ms\nservice = trap '' TERM; echo up; while :; do sleep 0.05; done\n")
    d.client().attach("s").detach()
    d.ctl("cleanup", "s")
    with open(t.path("got")) as f:
        assert f.read() == "int\n"
    d.client().attach("k").detach()
    assert "did not end within 100.0 ms of SIGTERM" in d.ctl("cleanup", "k", code=None).out


SHARED = r"""
import ctypes, mmap, os, signal, sys, time
libc = ctypes.CDLL(None)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
fd = os.open("/dev/shm/" + sys.argv[1], os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
os.ftruncate(fd, 4096)
os.open("/dev/shm/" + sys.argv[1] + "-open", os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
m = mmap.mmap(fd, 4096)
before = mmap.mmap(os.open("/dev/shm/" + sys.argv[1] + "-before", os.O_RDONLY), 4096, mmap.MAP_SHARED, mmap.PROT_READ)
s = libc.shmget(0, 4096, 0o1600)
libc.shmat.restype = ctypes.c_void_p
libc.shmat(s, None, 0)
print(s, libc.shmget(0, 4096, 0o1600), flush=True)  # and one that it does not attach
time.sleep(1000)
"""


@once
def test_what_a_killed_service_leaves(t, prefix=()):
    """Shared memory that its processes have made, and nobody has mapped; what was there before is somebody else's."""
    name = "fixd-test-" + os.path.basename(t.dir)
    before = f"/dev/shm/{name}-before"
    with open(before, "wb") as f:
        f.write(bytes(4096))
    time.sleep(0.05)  # older than the service by more than a tick of the kernel's clock
    t.write("shared.py", SHARED)
    d = start(t, f"[fixture s]\nteardown-timeout = 100ms\nservice = exec {sys.executable} shared.py {name}\n", prefix=prefix)
    segments = set(d.client().read("s").decode().split())

    def there():
        with open("/proc/sysvipc/shm") as f:
            return {line.split()[1] for line in f} & segments

    pid = d.instance("s")["service_pid"]
    own = os.readlink(f"/proc/{pid}/ns/ipc") != os.readlink("/proc/self/ns/ipc")
    with open(f"/proc/{d.pid}/status") as f:
        may = any(line.startswith("CapEff:") and int(line.split()[1], 16) >> 21 & 1 for line in f)
    assert own == may, "CAP_SYS_ADMIN allows it"
    assert len(segments) == 2 and (own or there() == segments)
    d.ctl("cleanup", "s", code=None)
    assert not glob.glob(f"/dev/shm/{name}*[!e]")
    assert not there()
    # Also after it was killed by somebody else.
    d.client().attach("s").detach()
    os.kill(d.instance("s")["service_pid"], signal.SIGKILL)
    wait_for(lambda: not os.path.exists("/dev/shm/" + name), "what it had to go")
    assert os.path.exists(before)
    os.unlink(before)


@once
def test_what_a_killed_service_leaves_without_a_namespace(t):
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        raise harness.Skip("needs root and setpriv")
    test_what_a_killed_service_leaves(t, ["setpriv", "--inh-caps=-sys_admin", "--bounding-set=-sys_admin"])


@once
def test_a_root_that_has_gone(t):
    """Whatever fails before a service is started is told, and not what becomes of a helper that has nothing to keep."""
    os.mkdir(t.path("root"))
    d = start(t, "[fixd]\nroot = root\n[policy]\nretry-after = 1ms\n[fixture s]\nservice = echo up; exec sleep 1000\n")
    os.rmdir(t.path("root"))
    c = d.client()

    def fails():
        try:
            c.attach("s").detach()
            return False
        except FixdError as e:
            assert "root cannot be entered: No such file or directory" in e.sentence, e.sentence
            return True

    assert fails()
    os.mkdir(t.path("root"))
    wait_for(lambda: not fails(), "it to be tried again")


OBJECTS = r"""
import ctypes, os, sys, time
libc = ctypes.CDLL(None)
print("up", flush=True)
while not os.path.exists(sys.argv[1]):
    time.sleep(0.002)
segment, used, shared, queue = libc.shmget(0, 4096, 0o1600), libc.semget(0, 2, 0o1600), libc.semget(0, 2, 0o1600), libc.msgget(0, 0o1600)
for number in used, shared:
    libc.semctl(number, 0, 16, 1)  # SETVAL
libc.msgsnd(queue, ctypes.byref(ctypes.c_long(1)), 0, 0)
with open(sys.argv[1] + "-made", "w") as f:
    f.write(f"{segment} {used} {shared} {queue}\n")
time.sleep(1000)
"""


@once
def test_system_v_objects_of_a_service_that_is_killed(t):
    """Made after it was ready; those that somebody else has used are left to it, and what was there before is not the service's."""
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        raise harness.Skip("needs root and setpriv")
    libc = ctypes.CDLL(None)
    t.write("objects.py", OBJECTS)
    before = [("shm", libc.shmget(0, 4096, 0o1600)), ("sem", libc.semget(0, 1, 0o1600)), ("msg", libc.msgget(0, 0o1600))]
    d = start(t, f"[fixture s]\nservice = exec {sys.executable} objects.py {t.path('go')}\n",
              prefix=["setpriv", "--inh-caps=-sys_admin", "--bounding-set=-sys_admin"])
    d.client().attach("s").detach()
    pid = d.instance("s")["service_pid"]
    t.write("go", "")
    wait_for(lambda: os.path.exists(t.path("go-made")) and open(t.path("go-made")).read().endswith("\n"), "its objects")
    with open(t.path("go-made")) as f:
        segment, used, shared, queue = map(int, f.read().split())

    def there(table, number):
        with open("/proc/sysvipc/" + table) as f:
            return str(number) in [line.split()[1] for line in f]

    assert there("shm", segment) and there("sem", used) and there("msg", queue)
    libc.semctl(shared, 1, 16, 1)  # by this process
    os.kill(pid, signal.SIGKILL)
    for table, number in ("shm", segment), ("sem", used), ("msg", queue):
        wait_for(lambda: not there(table, number), f"{table} {number} to go")
    assert there("sem", shared) and all(there(*object) for object in before)
    libc.semctl(shared, 0, 0)
    for table, number in before:
        {"shm": libc.shmctl, "msg": libc.msgctl}.get(table, lambda n, _, __: libc.semctl(n, 0, 0))(number, 0, None)


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
