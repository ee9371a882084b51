# SPDX-License-Identifier: MIT
"""Services over a writable view of a tree, and clones of them: one for each holder."""

import functools
import glob
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time

import harness
from harness import LIMIT, FixdError, once, wait_for
from services import is_alive, is_gone, processes_of, start

TREE = """[fixture words]
tree = cd "$FIXD_DIR"; mkdir -p deep/er; echo first > word; echo lowest > deep/er/word; chmod 640 word; chmod 700 .
"""


@functools.cache
def has_namespaces():
    """Does this machine allow what a sandbox needs?"""
    mapped = os.geteuid() != 0
    mounts = ("cd $0 && mount -t tmpfs fixd . && cd $0 && mkdir upper work all && mount -t overlay fixd -o "
              f"lowerdir=/tmp,upperdir=upper,workdir=work,volatile{',userxattr' if mapped else ''} all")
    with tempfile.TemporaryDirectory() as place:
        unshare = ["unshare", *(["-r"] if mapped else []), "-mipf", "--mount-proc", "sh", "-c", mounts, place]
        return subprocess.run(unshare, stderr=subprocess.DEVNULL).returncode == 0


def is_refused(t):
    return t.mode == "refused" or not has_namespaces()


def read(path):
    with open(path) as f:
        return f.read()


def sandboxed(t, d, name):
    """In a sandbox, or, where there can be none, with the reason in its log."""
    said = d.ctl("log", name).out
    assert ("the service gets a copy of its data, and no namespaces of its own: " in said) == is_refused(t), said
    why = d.status()["daemon"]["unsandboxed"]
    assert bool(why) == is_refused(t) and (not why or why in said), why
    assert ("services with data or clones have none of their own: " in d.ctl("status").out) == is_refused(t)
    return not is_refused(t)


def test_a_view_of_its_data(t):
    script = t.write("serve", 'read -r word < "$FIXD_DATA/word" && echo second > "$FIXD_DATA/word" && rm -r "$FIXD_DATA/deep" || exit 9\n'
                              'stat -c %a "$FIXD_DATA" "$FIXD_DATA/word" > "$FIXD_DIR/modes"; ls "$FIXD_DATA" > "$FIXD_DIR/names"\n'
                              'touch "$FIXD_DIR/shared" "$1" "$2"; echo "$word"; exec sleep 1000\n')
    mine = [f"{place}/mine-{os.path.basename(t.runtime)}" for place in ("/dev/shm", "/tmp")]
    d = start(t, TREE + f"[fixture server]\nservice = sh {script} {' '.join(mine)}\ndata = words\n")
    c = d.client()
    view, tree = c.attach("server"), c.attach("words").path
    where = d.instance("server")
    assert view.data == b"first"
    # What it sees is as it was built, and its own; the tree is what it was.
    assert read(where["dir"] + "/modes") == "700\n640\n" and read(where["dir"] + "/names") == "word\n"
    assert read(tree + "/word") == "first\n" and read(tree + "/deep/er/word") == "lowest\n"
    private = sandboxed(t, d, "server")
    assert [os.path.exists(path) for path in mine] == [not private, not private]
    for path in mine:
        if not private:
            os.unlink(path)
    # With its first process all of it ends, what went into the background, too.
    view.detach()
    d.ctl("cleanup", "server", "--force")
    wait_for(lambda: is_gone(where["service_pid"]) and not os.path.exists(where["dir"]), "its end")
    wait_for(lambda: not [p for p in processes_of(t) if "sleep" in p[1]], "the end of its processes")
    assert c.attach("server").data == b"first"
    d.stop()
    for path in mine:
        if not private:
            os.unlink(path)


def test_it_writes_to_the_tree(t):
    """By the name that the tree has for what is built from it: in a sandbox that is its own view as well."""
    d = start(t, TREE + '[fixture server]\nservice = echo second > "$FIXD_DEP_words/word"; cat "$FIXD_DATA/word"; exec sleep 1000\n'
              'data = words\nclones = 2\n')
    c = d.client()
    tree = c.attach("words").path
    first = c.attach("server").data
    if sandboxed(t, d, "server/1"):
        assert first == b"second" and c.attach("server").data == b"second" and read(tree + "/word") == "first\n"


def test_nothing_is_started_after_a_clean_up_and_a_restart(t):
    """None is kept ready before somebody asks, whichever daemon that is."""
    d = t.daemon("[fixture k]\nservice = echo r; exec sleep 1000\nclones = 2\n")

    def there():
        i = [i for i in d.instances().values() if i["name"] == "k" and isinstance(i.get("clones"), dict)]
        return sum(i[0]["clones"][kind] for kind in ("ready", "starting")) if i else 0

    d.ctl("with", "k", "--", "true")
    d.ctl("cleanup", "--all")
    wait_for(lambda: there() == 0, "their end")
    d.ctl("restart")
    d.client()
    assert there() == 0
    d.ctl("with", "k", "--", "true")
    wait_for(lambda: there() > 0, "one that is ready")


def test_it_is_ready_by_a_file(t):
    """In its view, or anywhere that only the service sees."""
    mine = f"/tmp/up-{os.path.basename(t.runtime)}"
    d = start(t, TREE + f"[fixture data]\nservice = echo up > $FIXD_DATA/new; mv $FIXD_DATA/new $FIXD_DATA/up; exec sleep 1000\ndata = words\nready = file:${{FIXD_DATA}}/up\n"
                        f"[fixture tmp]\nservice = echo up > {mine}-new; mv {mine}-new {mine}; exec sleep 1000\ndata = words\nready = file:{mine}\n"
                        "[fixture tree]\nservice = exec sleep 1000\ndata = words\nready = file:${FIXD_DATA}/deep\n")
    c = d.client()
    assert c.attach("data").data == c.attach("tmp").data == b"up"
    try:
        c.attach("tree")
        assert False
    except FixdError as e:
        assert "/deep is no file, which 'ready' must name" in e.sentence and "/proc/" not in e.sentence, e.sentence
    if is_refused(t):
        os.unlink(mine)


def test_its_temporary_files(t):
    """Everybody may write to the daemon's TMPDIR: so may a service of another user."""
    if os.geteuid() != 0:
        raise harness.Skip("there is nobody else whom the daemon could start it as")
    os.chmod(t.dir, 0o1777)
    d = start(t, TREE.replace("chmod 700 .", "chmod 755 .") + "user = nobody\n"
              "[fixture server]\nuser = nobody\nservice = mktemp && cat $FIXD_DATA/word && exec sleep 1000\ndata = words\n")
    made = d.client().read("server").decode()
    # Where something is mounted below /tmp a user namespace can have no view of it.
    shared = is_refused(t) or "/tmp is shared: no overlay over it" in d.ctl("log", "server").out
    assert os.path.exists(made) == shared and os.path.dirname(made) == (t.dir if shared else "/tmp"), made


@harness.once
def test_its_data_is_of_another_user(t):
    """It gets a copy, which is its own, and the reason is told."""
    if os.geteuid() != 0:
        raise harness.Skip("there is nobody else whom the daemon could start it as")
    os.chmod(t.dir, 0o755)
    for user in "nobody", "daemon":
        d = start(t, TREE.replace("chmod 640 word; chmod 700 .", "chmod 755 .") + f"[fixture server]\nuser = {user}\n"
                  "service = echo second > $FIXD_DATA/word; cat $FIXD_DATA/word; exec sleep 1000\ndata = words\n")
        assert d.client().read("server") == b"second"
        assert "its data is of another user (0): expected the same 'user' for both" in d.ctl("log", "server").out
        d.stop()


@harness.once
def test_doctor(t):
    """It says of each refusal what is seen of it later."""
    for call in None, "mount", "unshare":
        wrapper = harness.without(call) if call else []
        if call and not wrapper:
            raise harness.Skip("no seccomp")
        out = subprocess.run([*wrapper, harness.program("fixctl"), "doctor"], capture_output=True, text=True).stdout
        words = "namespaces: services with data or clones " + ("run in" if has_namespaces() and not call else "get copies of their data")
        assert words in out, out


def test_it_writes_too_much(t):
    """What it writes is memory, and limited as such; the machine is none the worse."""
    script = t.write("serve", 'if head -c 16M /dev/zero > "$FIXD_DATA/much" 2>/dev/null; then :; else echo it is full >&2; fi; echo x\nexec sleep 1000\n')
    d = start(t, TREE + f"[fixture server]\nservice = sh {script}\ndata = words\nmemory-max = 4M\n")
    try:
        d.client().attach("server")
        assert False
    except FixdError as e:
        assert "than memory-max allows (4.0 MiB" in e.sentence, e.sentence
    assert ("is full" in d.ctl("log", "server").out) != is_refused(t)


def test_it_writes_files_without_a_byte(t):
    """Each takes memory of the kernel: 1 KiB is what a file counts for."""
    script = t.write("serve", 'cd "$FIXD_DATA"; n=0\nwhile [ $n -lt 6000 ]; do true > $n || exit 9; n=$((n + 1)); done\necho x; exec sleep 1000\n')
    d = start(t, TREE + f"[fixture server]\nservice = sh {script}\ndata = words\nmemory-max = 4M\n")
    try:
        d.client().attach("server")
        assert False
    except FixdError as e:
        full = "exited with status 9" in e.sentence and "No space left on device" in d.ctl("log", "server").out
        assert full or "than memory-max allows (4.0 MiB" in e.sentence, e.sentence


def test_it_fills_its_directory(t):
    """FIXD_DIR is everybody's memory: before it is ready, too, one that writes too much there is ended."""
    fill = 'service = head -c 64M /dev/zero > "$FIXD_DIR/much"; exec sleep 1000\ndata = words\nmemory-max = 32M\n'
    d = start(t, f"{TREE}[fixture notify]\n{fill}ready = notify\n[fixture line]\n{fill}"
                 f"[fixture file]\n{fill}ready = file:${{FIXD_DIR}}/up\n[fixture command]\n{fill}ready = command:sleep 1000\n"
                 f"[fixture prewarm]\n{fill.replace('head', 'echo x; head')}prewarm = sleep 1000\n")
    for name in "notify", "line", "file", "command", "prewarm":
        try:
            d.client().attach(name)
            assert False
        except FixdError as e:
            assert "the service takes more memory than memory-max allows (32.0 MiB), with the files that it has written" in e.sentence, e.sentence
    wait_for(lambda: not [p for p in processes_of(t) if "sleep" in p[1]], "the end of all")


@harness.once
def test_its_data_is_in_use(t):
    """A tree is taken when nobody writes there any more; a server that was not stopped is told of."""
    # In a session of its own, as a daemon.
    lag = 'cd "$FIXD_DIR"; echo early > word; setsid sh -c "trap : TERM; sleep %s; echo late > word" < /dev/null > /dev/null 2>&1 &\n'
    d = start(t, "[fixture ends]\ntree = " + lag % 0.3 + "[fixture stays]\ntree = " + lag % 1000)
    c = d.client()
    assert read(c.attach("ends").path + "/word") == "late\n"
    try:
        c.attach("stays")
        assert False
    except FixdError as e:
        assert "'stays'" in e.sentence and "which it left running, works in its tree" in e.sentence, e.sentence
    wait_for(lambda: not [p for p in processes_of(t) if "sleep 1000" in p[1]], "its end")


def test_it_ends(t):
    """By itself, with a status, or a signal, or by leaving others behind."""
    d = start(t, TREE + "[fixture fails]\nservice = echo cannot bind >&2; exit 7\ndata = words\n"
                        "[fixture killed]\nservice = kill -9 $$\ndata = words\n"
                        "[fixture away]\nservice = sleep 1000 & echo $! > $FIXD_DIR/pid; echo x\ndata = words\n"
                        "[fixture lives]\nservice = echo x; exec sleep 1000\ndata = words\n")
    c = d.client()
    for name, words in ("fails", "exited with status 7 before it was ready\n"), ("killed", "killed by signal 9"):
        try:
            c.attach(name)
            assert False
        except FixdError as e:
            assert words in e.sentence, e.sentence
    assert c.attach("away").current
    view = c.attach("lives")
    os.kill(d.instance("lives")["service_pid"], signal.SIGKILL)
    wait_for(lambda: not view.current, "its end to be told")
    assert c.attach("lives").generation == 2


def test_everybody_is_killed(t):
    """The daemon, the helper, or both: no process, mount or file is left."""
    for who in "daemon", "helper", "both":
        d = start(t, TREE + "[fixture server]\nservice = sleep 1000 & echo x; exec sleep 1000\ndata = words\n")
        view = d.client().attach("server")
        helper = [pid for pid, words in processes_of(t) if "fixd-builder" in words and is_alive(pid)]
        sleeping = lambda: [p for p in processes_of(t) if "sleep" in p[1]]
        assert view.data == b"x"
        if who != "helper":
            d.expect = -signal.SIGKILL
            os.kill(d.pid, signal.SIGKILL)
        if who != "daemon":
            for pid in helper:
                if is_alive(pid):
                    os.kill(pid, signal.SIGKILL)
        if who == "helper":
            view.detach()  # of what is not in a sandbox the rest is torn down when nobody holds it
        if who == "helper":
            wait_for(lambda: not sleeping(), "the end of the service")
            d.stop()
        # The next daemon removes what is left of the killed one.
        start(t, "").stop()
        wait_for(lambda: not processes_of(t), f"the end of all, with the {who} killed")
        assert not os.listdir(t.runtime), who
    assert t.runtime not in read("/proc/mounts")


def serve(t, more="", source=None):
    """A service that says where its directory is, and writes down there what it has found in its data: `first` the first time."""
    script = t.write("serve", 'echo $$ > "$FIXD_DIR/pid"; cat "$FIXD_DATA/word" > "$FIXD_DIR/word"; echo used > "$FIXD_DATA/word"\n'
                              'echo "$FIXD_DIR"; exec sleep 1000\n')
    return TREE + f"[fixture pg]\nservice = {source or f'sh {script}'}\ndata = words\n{more}\n"


def clones(d, name="pg"):
    return d.instance(name)["clones"]


def settled(d, name="pg", **wanted):
    """Waits until there are so many of each kind, and none starts or ends."""
    wanted = {"ready": 0, "held": 0, "starting": 0, "ending": 0, **wanted}
    wait_for(lambda: {k: clones(d, name)[k] for k in wanted} == wanted, f"{wanted} of {name}")


def use(view):
    """Nobody has had it before. Where it is."""
    where = view.data.decode()
    assert read(where + "/word") == "first\n" and not os.path.exists(where + "/mine")
    with open(where + "/mine", "w"):
        pass
    return where


def test_each_holder_has_its_own(t):
    d = start(t, serve(t, "clones = 3"))
    c = d.client()
    a = c.attach("pg")
    # One for who asks, and one ahead; not more for one test.
    settled(d, held=1, ready=1)
    b, other = c.attach("pg"), d.client().attach("pg")
    places = [use(view) for view in (a, b, other)]
    assert len(set(places)) == 3 and other.built
    settled(d, held=3)
    assert clones(d)["max"] == 3 and clones(d)["given"] == 3
    # Given back it ends, and its place is for another one, started ahead.
    b.detach()
    wait_for(lambda: not os.path.exists(places[1]), "the end of what was given back")
    settled(d, held=2, ready=1)
    again = c.attach("pg")
    assert use(again) not in places and not again.built
    text = d.ctl("status").out
    assert "Clones: 3 held, 0 ready, 0 starting; at most 3 at once; 4 were given out" in text and "pg/" not in text, text
    n = clones(d)
    assert n["started"] == n["given"] == 4 and n["wasted"] == 0 and 0 < n["hand_out_p50_s"] <= n["hand_out_p99_s"] and n["start_s"] > 0, n
    assert "Hand-out: p50 " in text and "; 0 of 4 started were for nobody" in text, text
    for view in a, again, other:
        view.detach()
    # What was used is of no use to anybody.
    wait_for(lambda: clones(d)["held"] == 0, "all to be given back")
    for _ in range(5):
        with_it = c.attach("pg")
        use(with_it)
        with_it.detach()
    # Given up, none takes its place before somebody asks.
    wait_for(lambda: clones(d)["ready"], "one to be ready")
    d.ctl("cleanup", "pg")
    settled(d)
    wait_for(lambda: clones(d)["wasted"], "the end of the one that nobody had")
    use(c.attach("pg"))


def test_who_waits_is_served_in_order(t):
    d = start(t, serve(t, "clones = 2"))
    held = [d.client().attach("pg") for _ in range(2)]
    askers, order = [], []

    def ask(number):
        view = d.client().attach("pg")
        use(view)
        order.append((number, view))

    for number in range(5):
        asker = threading.Thread(target=ask, args=(number,))
        asker.start()
        askers.append(asker)
        wait_for(lambda: d.status()["daemon"]["waiting"] == number + 1, "the second holder to wait")
    try:
        d.client().attach("pg", timeout=0.05)
        assert False
    except FixdError as e:
        assert "all of its 2 clones were held" in e.sentence, e.sentence
    for number in range(5):
        (held + [view for _, view in order])[number].detach()
        wait_for(lambda: len(order) == number + 1, "the next one to be served")
    assert [number for number, _ in order] == [0, 1, 2, 3, 4]
    for asker in askers:
        asker.join()


def test_a_clone_dies(t):
    d = start(t, serve(t, "clones = 4"))
    c = d.client()
    view = c.attach("pg")
    settled(d, held=1, ready=1)
    ready = next(i for name, i in d.instances().items() if name.startswith("pg/") and i["state"] == "ready" and not i["leases"])
    os.kill(ready["service_pid"], signal.SIGKILL)
    wait_for(lambda: not os.path.exists(ready["dir"]), "its end")
    settled(d, held=1, ready=1)
    # Held, it is told to its holder, which gets a fresh one when it asks.
    where = use(view)
    mine = next(i for i in d.instances().values() if i.get("dir") == where)
    os.kill(mine["service_pid"], signal.SIGKILL)
    wait_for(lambda: not view.current, "its end to be told")
    use(c.attach("pg"))
    # It takes the place of none that lives.
    others = [c.attach("pg") for _ in range(3)]
    assert len({use(other) for other in others}) == 3
    view.detach()
    wait_for(lambda: not os.path.exists(mine["dir"]), "the end of what was held")


@harness.once
def test_what_is_logged(t):
    """Of clones that come and go nothing, but that of one that dies."""
    d = start(t, serve(t, "clones = 4"), args=["--log-level", "info"])
    c = d.client()
    for _ in range(3):
        c.attach("pg").detach()
    view = c.attach("pg")
    mine = next(i for i in d.instances().values() if i.get("dir") == view.data.decode())
    os.kill(mine["service_pid"], signal.SIGKILL)
    wait_for(lambda: not view.current, "its end to be told")
    said = [line for line in read(d.log).splitlines() if ": pg/" in line]
    assert len(said) == 1 and "is stale: its service was killed by signal 9" in said[0], said


def is_tried_again(c, name):
    def attach():
        try:
            return c.attach(name)
        except FixdError:
            return None

    wait_for(attach, "it to be tried again")


def test_its_start_fails(t):
    """It is told to who asks, and not tried again at once, nor for ever."""
    d = start(t, serve(t, "clones = 4", source=t.counted("test -e " + t.path("works") + " && echo x && exec sleep 1000 || exit 7")))
    c = d.client()
    for _ in range(3):
        try:
            c.attach("pg")
            assert False
        except FixdError as e:
            assert "exited with status 7 before it was ready" in e.sentence, e.sentence
    wait_for(lambda: d.instance("pg")["state"] == "failed", "its failure to be told")
    t.write("works", "")
    is_tried_again(c, "pg")
    settled(d, held=1, ready=1)


def service_of(d, where):
    return next(i["service_pid"] for i in d.instances().values() if i.get("dir") == where)


def lowest(where):
    """What is deep in the data of the service with this directory, as it sees it."""
    for path in glob.glob("/proc/[0-9]*/environ"):
        try:
            environ = dict(v.partition("=")[::2] for v in read(path).split("\0"))
        except OSError:
            continue
        if environ.get("FIXD_DIR") == where and "FIXD_DATA" in environ:
            return read(f"{os.path.dirname(path)}/root{environ['FIXD_DATA']}/deep/er/word")
    return None


def test_its_data_is_built_again(t):
    """What is ready is of no use any more, what is held is its holder's."""
    word = t.write("word", "first\n")
    d = start(t, serve(t, "clones = 4").replace("echo first > word", f"cp {word} word; chmod 640 word") + "watch = nothing\n")
    d.ctl("cleanup", "words")
    c = d.client()
    view = c.attach("pg")
    where = use(view)
    service = service_of(d, where)
    settled(d, held=1, ready=1)
    t.write("word", "other\n")
    d.ctl("cleanup", "words", "--force")
    new = c.attach("pg")
    assert read(new.data.decode() + "/word") == "other\n"
    assert view.current and os.path.exists(where + "/pid") and read(where + "/word") == "first\n"
    # Also of what the service has not looked at before.
    assert lowest(where) == "lowest\n"
    settled(d, held=2, ready=1)
    assert read(c.attach("pg").data.decode() + "/word") == "other\n"
    # Over a restart the two trees stay apart.
    d.ctl("restart")
    d.ctl("cleanup", "words", "--force")
    assert read(c.attach("pg").data.decode() + "/word") == "other\n"
    assert view.current and new.current and lowest(where) == lowest(new.data.decode()) == "lowest\n"
    os.kill(service, signal.SIGKILL)
    wait_for(lambda: not view.current, "its end to be told")
    assert new.current


def test_a_chain(t):
    """What depends on a clone is made for each holder, on a clone of its own."""
    d = start(t, serve(t, "clones = 3") + "[fixture schema]\ncommand = cat $FIXD_DEP_pg\ndepends = pg\n"
              "[fixture app]\ncommand = echo $(cat $FIXD_DEP_pg) $(cat $FIXD_DEP_schema)\ndepends = pg, schema\n")
    c = d.client()
    a, b = c.attach("app"), c.attach("app")
    # Of one chain all have the same clone.
    places = [view.data.decode().split() for view in (a, b)]
    assert all(one == two for one, two in places) and places[0] != places[1], places
    for where, _ in places:
        assert read(where + "/word") == "first\n"
    mine = c.attach("pg")
    assert use(mine) not in (places[0][0], places[1][0])
    a.detach()
    wait_for(lambda: not os.path.exists(places[0][0]), "the end of its clone")
    assert os.path.exists(places[1][0] + "/pid")
    third = c.attach("app").data.decode().split()[0]
    assert third not in (places[0][0], places[1][0]) and read(third + "/word") == "first\n"


def test_a_chain_whose_service_fails(t):
    """Once: it is tried again, though what has failed is not the clone but what it needs."""
    d = start(t, serve(t, "clones = 1", source='mkdir $FIXD_DIR/../failed 2>/dev/null && exit 9; rmdir $FIXD_DIR/../failed; echo up; exec sleep 1000')
              + "[fixture app]\ncommand = cat $FIXD_DEP_pg\ndepends = pg\n")
    c = d.client()
    try:
        c.attach("app")
        assert False
    except FixdError as e:
        assert "exited with status 9" in e.sentence, e.sentence
    is_tried_again(c, "app")


def test_a_restart(t):
    """What is held stays, what is ready, too; nobody gets what somebody has had."""
    d = start(t, serve(t, "clones = 3"))
    c = d.client()
    view = c.attach("pg")
    where = use(view)
    settled(d, held=1, ready=1)
    ready = next(i for name, i in d.instances().items() if name.startswith("pg/") and not i["leases"])
    why = d.status()["daemon"]["unsandboxed"]
    figures = d.instance("pg")["clones"]
    d.ctl("restart")
    assert d.instance("pg")["clones"] == figures and figures["given"] == 1 and figures["hand_out_p50_s"] > 0
    assert d.status()["daemon"]["unsandboxed"] == why and bool(why) == is_refused(t)
    assert view.current and os.path.exists(where + "/pid")
    settled(d, held=1, ready=1)
    new = c.attach("pg")
    assert use(new) == ready["dir"] and not new.built
    view.detach()
    wait_for(lambda: not os.path.exists(where), "the end of what was given back")


def test_a_service_that_ignores_its_data(t):
    """It is told once, and only of one that somebody has had."""
    ignores = "echo ready; mkdir -p $FIXD_DIR/own; exec sleep 1000"
    d = start(t, f"{TREE}[fixture pg]\nservice = {ignores}\ndata = words\nclones = 2\nready = line\n"
                 f"[fixture deep]\nservice = cd $FIXD_DATA/..; read x < $FIXD_DATA/deep/er/word; echo ready; exec sleep 1000\ndata = words\nclones = 2\nready = line\n"
                 f"[fixture later]\nservice = echo $FIXD_DIR; while [ ! -e $FIXD_DIR/go ]; do sleep 0.01; done; cat $FIXD_DATA/word; touch $FIXD_DIR/done; exec sleep 1000\n"
                 "data = words\nclones = 2\nready = line\n")
    sentence = "its service has opened no file of its data; expected a command that uses the directory $FIXD_DATA, where 'words' is"
    c = d.client()
    for _ in range(3):
        began = time.monotonic()
        ignores, deep, view = c.attach("pg"), c.attach("deep"), c.attach("later")
        wait_for(lambda: time.monotonic() - began > 0.6, "them to have had the time to open something")
        ignores.detach()
        deep.detach()
        where = view.data.decode()
        open(where + "/go", "w").close()
        wait_for(lambda: os.path.exists(where + "/done"), "it to be read")
        view.detach()
    d.ctl("cleanup", "--all")
    wait_for(lambda: not any("/" in i["name"] for i in d.instances().values()), "all to end")
    told = [line for line in d.words().splitlines() if sentence in line]
    assert len(told) == 1 and told[0].startswith("fixd: pg/"), told


def test_data_of_a_server_that_was_killed(t):
    """Told once, also of several clones; a stopped server's data, and files that only look so, are not."""
    def control(state):
        return f"mkdir pg/global; printf 'identity0000versi\\0\\0\\0'  | head -c 16 >pg/global/pg_control; printf '\\{state}\\0\\0\\0rest' >>pg/global/pg_control"

    marks = {
        "killed": ("echo 4711 >pg/postmaster.pid", "pg/postmaster.pid is there"),
        "open": (control(6), "pg/global/pg_control says that PostgreSQL was not shut down"),
        "stopped": (control(1), None),
        "empty": ("mkdir pg/some.pid; : >pg/no.pid; echo words >pg/x.pid; ln -s no.pid pg/link.pid; mkdir -p pg/a/b; echo 4711 >pg/a/b/deep.pid", None),
    }
    d = start(t, "".join(f"[fixture {name}_data]\ntree = cd \"$FIXD_DIR\" && mkdir pg && {make}\n"
                         f"[fixture {name}]\nservice = ls $FIXD_DATA >/dev/null; echo ready; exec sleep 1000\ndata = {name}_data\nclones = 2\nready = line\n"
                         for name, (make, _) in marks.items()))
    c = d.client()
    for name in marks:
        for view in [c.attach(name) for _ in range(2)]:
            view.detach()
        d.ctl("cleanup", name)
    for name, (_, what) in marks.items():
        told = [line for line in d.words().splitlines() if line.startswith(f"fixd: {name}/") and "its data are of a server" in line]
        assert len(told) == (what is not None), (name, told)
        if what:
            assert (f"its data are of a server that was not stopped ({what}), and each service over them recovers first; expected a command of "
                    f"'{name}_data' that stops its server and waits for its end") in told[0], told


GREEDY = """import os, sys, time
if sys.argv[1] == "before":
    much = b"x" * (64 << 20)
print("ready", flush=True)
while not os.path.exists(os.environ["FIXD_DIR"] + "/go"):
    time.sleep(0.01)
much = b"x" * (64 << 20)
time.sleep(1000)
"""


def test_memory(t):
    """What a clone takes is counted, the files that it writes and its processes; no more of them are started than fit."""
    script = t.write("serve", 'head -c 16M /dev/zero > /dev/shm/$FIXD_PORT; echo x; while sleep 0.1; do :; done\n')
    d = start(t, f"[fixd]\nmemory-max = 60M\n{TREE}[fixture pg]\nservice = sh {script}\ndata = words\nclones = 8\n"
                 f"[fixture greedy]\nservice = exec {sys.executable} {t.write('greedy', GREEDY)} before\ndata = words\nmemory-max = 32M\n"
                 f"[fixture later]\nservice = exec {sys.executable} {t.path('greedy')} after\ndata = words\nmemory-max = 32M\n")
    if is_refused(t):
        raise harness.Skip("what is written in /dev/shm is only private in a sandbox")
    c = d.client()
    view = c.attach("pg")
    wait_for(lambda: d.status()["daemon"]["memory_bytes"] > 16 << 20, "it to be counted")
    held = [view]
    for number in 2, 3:
        held.append(c.attach("pg"))
        wait_for(lambda: d.status()["daemon"]["memory_bytes"] > number * 16 << 20, "it to be counted")
    try:
        c.attach("pg", timeout=1)
        assert False
    except FixdError as e:
        assert "not ready in time" in e.sentence, e.sentence
    held.pop().detach()
    c.attach("pg")
    for one in held:
        one.detach()
    # One alone that takes too much: at its start, or later.
    try:
        c.attach("greedy")
        assert False
    except FixdError as e:
        assert "than memory-max allows (32" in e.sentence, e.sentence
    view = c.attach("later")
    with open(d.instance("later")["dir"] + "/go", "w"):
        pass
    wait_for(lambda: not view.current, "its end")
    cause = d.instance("later")["stale_cause"]
    assert "takes more memory than memory-max allows (32" in cause, cause


def test_it_is_not_wanted_when_it_is_ready(t):
    """Nobody holds what a helper has just published, and it does not wait for that."""
    d = start(t, serve(t, "clones = 3\nteardown-timeout = 10m"))
    c = d.client()
    for number in range(20):
        c.attach("pg").detach()
        t.write("fixd.ini", serve(t, f"clones = 3\nteardown-timeout = 10m\nmemory-max = {number + 50}M"))
        d.ctl("reload")
    d.ctl("cleanup", "--all", "--force")
    wait_for(lambda: not [p for p in processes_of(t) if "sleep" in p[1]], "the end of all that were started")


def with_(d, *args, env=None):
    return subprocess.Popen([harness.program("fixctl"), "--socket", d.socket, "with", *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                            text=True, env={**harness.process_environment(), **(env or {})})


def said(asked):
    out, err = asked.communicate(timeout=LIMIT)
    return asked.returncode, out, err


def test_with(t):
    """Fixtures of all sources for the life of a command."""
    d = start(t, serve(t, "clones = 3") + f"[fixture f.x]\ncommand = echo bytes $FIXD_PARAM\nparams = a, b\n"
              "[fixture each]\ncommand = echo $FIXD_SCOPE_KEY\nscope = module\n[fixture fails]\ncommand = exit 3\n[fixture late]\ncommand = echo\n")
    two = [with_(d, "pg", "f.x[b]", "words", "--", "sh", "-c", 'cat "$FIXD_FIXTURE_f_x_b" "$FIXD_FIXTURE_words/word"; echo "$FIXD_FIXTURE_pg"; read -r line',
                 ) for _ in range(2)]
    places = [asked.communicate(timeout=LIMIT)[0].split("\n") for asked in two]
    assert [p[:2] for p in places] == [["bytes b", "first"]] * 2 and places[0][2] != places[1][2], places
    # It ends with the command.
    wait_for(lambda: not any(os.path.exists(p[2]) for p in places), "the end of the clones")
    assert said(with_(d, "-k", "a.py::test", "each", "--", "sh", "-c", "cat $FIXD_FIXTURE_each; exit 9")) == (9, "a.py\n", "")
    assert said(with_(d, "words", "--", "sh", "-c", "kill -TERM $$"))[0] == 128 + signal.SIGTERM
    assert said(with_(d, "words", "--", "/nothing"))[0] == 127
    # What the command starts need not inherit descriptors.
    starts = "import os, subprocess; subprocess.run(['cat', os.environ['FIXD_FIXTURE_f_x_b']], check=True)"
    assert said(with_(d, "f.x[b]", "--", "python3", "-c", starts)) == (0, "bytes b\n", "")
    assert said(with_(d, "words", "--", "sh", "-c", "echo ${FIXD_FIXTURE_words-none}", env={"FIXD_DISABLE": "1"})) == (0, "none\n", "")
    for args, code, words in ((["fails", "--", "true"], 4, "exited with status 3"), (["nothing", "--", "true"], 1, "no fixture 'nothing'"),
                              (["words"], 2, "'-- COMMAND' is missing"), (["--", "true"], 2, "a NAME is missing"),
                              (["f.x[a]", "f-x[a]", "--", "true"], 2, "would both be $FIXD_FIXTURE_f_x_a"),
                              (["late", "late", "--", "true"], 2, "would both be $FIXD_FIXTURE_late")):
        got = said(with_(d, *args))
        assert got[0] == code and words in got[2], got
    assert "late" not in d.instances()  # what is wrong with the names is told before anything is built


def test_with_is_killed(t):
    """The command goes with it, and what was held is let go of."""
    d = start(t, serve(t, "clones = 3"))
    asked = with_(d, "pg", "--", "sh", "-c", "echo $$ $FIXD_FIXTURE_pg; exec sleep 1000")
    pid, where = asked.stdout.readline().split()
    # What it is sent is the command's.
    asked.send_signal(signal.SIGUSR1)
    assert asked.wait(LIMIT) == 128 + signal.SIGUSR1
    wait_for(lambda: not os.path.exists(where), "the end of the clone")
    asked.communicate()
    asked = with_(d, "pg", "--", "sh", "-c", "echo $$ $FIXD_FIXTURE_pg; exec sleep 1000")
    pid, where = asked.stdout.readline().split()
    asked.kill()
    asked.communicate()
    wait_for(lambda: is_gone(int(pid)) and not os.path.exists(where), "the end of both")


def modes():
    yield from harness.modes()
    if harness.without("mount"):
        yield "refused", harness.without("mount")


if __name__ == "__main__":
    harness.main(sys.modules[__name__], modes)
