# SPDX-License-Identifier: MIT
"""Services over a writable view of a tree."""

import functools
import os
import signal
import subprocess
import sys

import harness
from harness import LIMIT, FixdError, once, wait_for
from services import is_alive, is_gone, processes_of, start

TREE = """[fixture words]
tree = cd "$FIXD_DIR"; mkdir -p deep/er; echo first > word; echo lowest > deep/er/word; chmod 640 word; chmod 700 .
"""


@functools.cache
def has_namespaces():
    """Does this machine allow what a sandbox needs?"""
    unshare = ["unshare", *(["-r"] if os.geteuid() else []), "-mipf", "--mount-proc", "true"]
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
    return not is_refused(t)


def test_a_view_of_its_data(t):
    script = t.write("serve", 'read -r word < "$FIXD_DATA/word" && echo second > "$FIXD_DATA/word" && rm -r "$FIXD_DATA/deep" || exit 9\n'
                              'stat -c %a "$FIXD_DATA" "$FIXD_DATA/word" > "$FIXD_DIR/modes"; ls "$FIXD_DATA" > "$FIXD_DIR/names"\n'
                              'touch "$FIXD_DIR/shared" "$1" "$2"; echo "$word"; exec sleep 1000\n')
    mine = [f"/dev/shm/fixd-test-{os.getpid()}", f"/tmp/fixd-test-mine-{os.getpid()}"]
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


def test_it_writes_too_much(t):
    """What it writes is memory, and limited as such; the machine is none the worse."""
    script = t.write("serve", 'if head -c 16M /dev/zero > "$FIXD_DATA/much" 2>/dev/null; then echo all; else echo full; fi\nexec sleep 1000\n')
    d = start(t, TREE + f"[fixture server]\nservice = sh {script}\ndata = words\nmemory-max = 4M\n")
    assert d.client().attach("server").data == (b"all" if is_refused(t) else b"full")


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
    before = read("/proc/mounts")
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
    assert read("/proc/mounts") == before


def modes():
    yield from harness.modes()
    if harness.without("mount"):
        yield "refused", harness.without("mount")


if __name__ == "__main__":
    harness.main(sys.modules[__name__], modes)
