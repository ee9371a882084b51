# SPDX-License-Identifier: MIT
"""The log of events, and fixctl trace."""

import json
import os
import re
import signal
import subprocess
import sys

import harness
from harness import COW, LIMIT, FixdError, once, wait_for

INI = """[fixture corpus]
command = printf 12345678
teardown = true
[fixture index]
params = small, large
command = cat $FIXD_DEP_corpus
depends = corpus
scope = module
[fixture broken]
command = echo why >&2; exit 3
scope = function
"""


def events(d, *args):
    return [json.loads(line) for line in d.ctl("trace", "--once", "--json", *args).out.splitlines()]


def kinds(d, name=None):
    return [e["event"] for e in events(d) if name is None or e.get("name") == name]


def in_words(d, *args):
    """Without what differs from run to run."""
    out = d.ctl("trace", "--once", *args).out.replace(f"pid {os.getpid()}", "pid PID")
    return re.sub(r"[0-9.]+ (ms|s|us|ns)\b", "TIME", out).replace("TIME TIME", "TIME").splitlines()


def test_the_form_of_setup_show(t):
    d = t.daemon(INI)
    c = d.client()
    c.attach("index[small]", key="tests/test_a.py::TestB::test_c").detach()
    try:
        c.attach("broken", key="tests/test_a.py::test_d")
        assert False
    except FixdError:
        pass
    c.read("corpus")
    d.ctl("cleanup", "--all")
    assert in_words(d) == [
        "BUILD    S corpus",
        "SETUP    S corpus  # 4.0 KiB, TIME",
        "    BUILD    M index[small] @ tests/test_a.py",
        "    SETUP    M index[small] @ tests/test_a.py (fixtures used: corpus)  # 4.0 KiB, TIME",
        "    ATTACH   M index[small] @ tests/test_a.py  # pid PID tests/test_a.py::TestB::test_c, TIME",
        "    DETACH   M index[small] @ tests/test_a.py  # pid PID, TIME",
        "        BUILD    F broken @ tests/test_a.py::test_d",
        "        FAILED   F broken @ tests/test_a.py::test_d  # the command exited with status 3",
        "ATTACH   S corpus  # pid PID",
        "DETACH   S corpus  # pid PID, TIME",
        "STALE    S corpus  # cleaned up",
        "    STALE    M index[small] @ tests/test_a.py  # its dependency 'corpus' is torn down",
        "    TEARDOWN M index[small] @ tests/test_a.py",
        "TEARDOWN S corpus",
    ], "\n".join(in_words(d))


def test_as_json(t):
    d = t.daemon(INI)
    c = d.client().join(t.dir, "run-1")
    c.attach("index[small]").detach()
    view = c.attach("corpus", COW)
    view.write(0, b"x")
    assert view.reset() > 0
    view.reset()
    view.write(0, b"x")
    view.reset()
    view.detach()
    c.close()
    wait_for(lambda: "run-ended" in kinds(d), "the end of the run")
    all_of_them = events(d)
    assert [e["number"] for e in all_of_them] == list(range(1, len(all_of_them) + 1))
    assert all(a["time"] <= b["time"] for a, b in zip(all_of_them, all_of_them[1:]))
    assert [e["event"] for e in all_of_them] == ["run-began", "build", "ready", "build", "ready", "attach", "detach", "attach", "detach",
                                                "run-ended"]
    ready = all_of_them[4]
    assert ready["name"] == "index[small]" and ready["scope"] == "module" and ready["depends"] == ["corpus"]
    assert ready["size"] == 4096 and 0 < ready["build_cpu_s"] and ready["build_peak_bytes"] > 100000 and ready["build_s"] > 0, ready
    first, second = all_of_them[5], all_of_them[7]
    assert first["built"] and not second["built"] and first["run"] == "run-1" and first["pid"] == os.getpid()
    assert first["took_s"] > ready["build_s"] > second["took_s"]
    detach = all_of_them[8]
    assert detach["of"] == second["number"] and detach["resets"] == 3 and detach["dirty_resets"] == 2
    assert detach["pages_changed"] == 2, detach
    # Of one run.
    assert [e["event"] for e in events(d, "--run", "run-1")] == ["run-began", "attach", "attach", "run-ended"]
    assert events(d, "--run", "run-2") == []


def test_as_it_happens(t):
    d = t.daemon(INI)
    d.client().read("corpus")
    with open(t.path("seen"), "w") as out:
        trace = subprocess.Popen([harness.program("fixctl"), "--socket", d.socket, "trace"], stdout=out, stderr=out,
                                 env=harness.process_environment())
    try:
        wait_for(lambda: d.status()["daemon"]["waiting"] == 1, "it to wait")
        d.client().read("index[large]")
        wait_for(lambda: "DETACH   M index[large]" in open(t.path("seen")).read(), "the words")
        # In good time, and only what is new.
        assert "corpus" not in open(t.path("seen")).read().split("index")[0]
        d.ctl("restart")
        d.client().read("index[small]")
        wait_for(lambda: "DETACH   M index[small]" in open(t.path("seen")).read(), "it to go on with the next program")
    finally:
        trace.send_signal(signal.SIGINT)
    assert trace.wait(LIMIT) == 0
    lines = open(t.path("seen")).read().splitlines()
    assert len(lines) == len(set(lines)), lines


def test_a_test_by_its_name(t):
    """Of a view that serves many tests, whoever changed it."""
    d = t.daemon(INI)
    c = d.client().join(t.dir, "run-1")
    c.set_test("a.py::one")
    view = c.attach("corpus", COW, key="elsewhere")
    view.write(0, b"x")
    assert view.reset() == 1
    c.set_test("a.py::two")
    view.reset()
    d.ctl("restart")
    view.write(0, b"x")
    view.reset()
    d.ctl("restart")
    c.read("corpus")
    c.set_test("\u00e9" * 300)
    c.read("corpus")
    c.set_test("")
    c.read("corpus")
    view.write(0, b"x")
    view.reset()
    view.detach()
    c.close()
    wait_for(lambda: "run-ended" in kinds(d), "the end of the run")
    found = events(d)
    assert [(e["event"], e.get("test")) for e in found if e["event"] in ("attach", "changed")] == [
        ("attach", "a.py::one"), ("changed", "a.py::one"), ("changed", "a.py::two"), ("attach", "a.py::two"), ("attach", "\u00e9" * 250),
        ("attach", None)], found
    attach, first, second = [e for e in found if e.get("test") in ("a.py::one", "a.py::two")][:3]
    assert {**first, "number": 0, "time": 0} == {
        "number": 0, "time": 0, "event": "changed", "name": "corpus", "session": attach["session"], "run": "run-1", "test": "a.py::one",
        "scope": "session", "pid": os.getpid(), "generation": 1, "of": attach["number"], "pages_changed": 1}
    assert second["of"] == attach["number"] and second["run"] == "run-1"
    # What was told already is not told again.
    detach = found[-2]
    assert detach["of"] == attach["number"] and (detach["resets"], detach["dirty_resets"], detach["pages_changed"]) == (2, 1, 1), detach
    assert "CHANGED  S corpus  # pid PID a.py::one, 1 page" in in_words(d, "--run", "run-1")


def test_a_test_of_another_connection(t):
    """A new daemon, and a forked child, hear of it, too; a child's changes are nobody's."""
    d = t.daemon(INI)
    c = d.client()
    c.set_test("one")
    view = c.attach("corpus", COW)
    view.write(0, b"x")

    def work():
        assert view.reset() == 1
        return c.read("corpus") == b"12345678"

    assert harness.exit_code(t.child(work)) == 0
    d.kill()
    d = t.daemon(INI)
    c.read("corpus")
    assert view.reset() == 1
    wait_for(lambda: kinds(d, "corpus")[-1:] == ["detach"], "the detach")
    found = [(e["event"], e.get("test")) for e in events(d) if e["event"] in ("attach", "changed")]
    assert found == [("attach", "one")], found


def test_changes_wait_for_nobody(t):
    """A daemon that takes nothing hears of them later, and the leases stay."""
    d = t.daemon(INI)
    c = d.client()
    c.set_test("one")
    view = c.attach("corpus", COW)
    d.pause()
    try:
        for _ in range(3000):
            view.write(0, b"x")
            assert view.reset() == 1
    finally:
        d.resume()
    view.detach()
    wait_for(lambda: kinds(d, "corpus")[-1:] == ["detach"], "the detach")
    found = events(d)
    changed, detach = [e for e in found if e["event"] == "changed"], found[-1]
    assert 0 < len(changed) < 3000 and {e["test"] for e in changed} == {"one"}
    assert len(changed) + detach["resets"] == 3000 and detach["dirty_resets"] == detach["pages_changed"] == detach["resets"], detach


@once
def test_nobody_is_there(t):
    """The daemon goes while somebody follows."""
    d = t.daemon(INI)
    trace = subprocess.Popen([harness.program("fixctl"), "--socket", d.socket, "trace"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                             env=harness.process_environment())
    wait_for(lambda: d.status()["daemon"]["waiting"] == 1, "it to wait")
    d.stop()
    out, err = trace.communicate(timeout=LIMIT)
    assert trace.returncode == 3 and err.startswith(b"fixctl: "), (trace.returncode, out, err)


def test_restarts_keep_it(t):
    d = t.daemon(INI)
    d.client().read("corpus")
    before = events(d)
    d.ctl("restart")
    assert events(d)[:len(before)] == before
    d.client().read("corpus")
    after = events(d)
    assert after[-1]["number"] == len(after) and after[-1]["event"] == "detach"


def test_it_does_not_grow(t):
    """The newest take the place of the oldest."""
    d = t.daemon(INI)
    c = d.client()
    key = "a" * 400
    c.read("corpus")
    memory = os.stat(f"/proc/{d.pid}/fd/{next(n for n in os.listdir(f'/proc/{d.pid}/fd') if 'fixd:events' in os.readlink(f'/proc/{d.pid}/fd/{n}'))}")
    for n in range(15000):
        c.attach("corpus", key=f"{key}{n}").detach()
    done = d.ctl("trace", "--once", "--json")
    left = [json.loads(line) for line in done.out.splitlines()]
    assert done.err == "fixctl: older events are not known any more\n"
    assert left[-1]["number"] == left[0]["number"] + len(left) - 1 and left[-1]["event"] == "detach"
    assert left[-2]["test"] == key + "14999" and 10000 < len(left) < 30000 and left[0]["number"] > 1000, (len(left), left[0])
    assert memory.st_size < 9 << 20


def test_what_others_may_see(t):
    """What a user's clients build and hold is its own business."""
    if os.geteuid() != 0:
        raise harness.Skip("only root can be several users")
    if not harness.can_be_reached(harness.program("fixctl")):
        raise harness.Skip("nobody cannot reach the build directory")
    os.chmod(t.dir, 0o755)
    d = t.daemon("[fixd]\nallow-users = nobody\n" + INI)
    c = d.client().join("/", "secret").define("hidden")
    c.begin("hidden").commit(b"x")
    c.attach("corpus")
    done = subprocess.run([harness.program("fixctl"), "--socket", d.socket, "trace", "--once", "--json"], capture_output=True, text=True, timeout=LIMIT,
                          user="nobody", env=harness.process_environment())
    assert done.returncode == 0, done.stderr
    seen = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(e["event"], e["name"]) for e in seen] == [("build", "corpus"), ("ready", "corpus")], seen
    assert "hidden" in d.ctl("trace", "--once").out and "secret" in d.ctl("trace", "--once").out
    # Of one session only what is in it.
    only = [e.get("name") for e in events(d, "--run", "secret")]
    assert only == [None, "hidden", "corpus"], only


def test_trace_ends_with_its_reader(t):
    """Also when nothing happens any more."""
    d = t.daemon("[fixture f]\ncommand = echo x\n")
    d.client().read("f")
    r, w = os.pipe()
    process = subprocess.Popen([harness.program("fixctl"), "--socket", d.socket, "trace", "--past"], stdout=w, stderr=subprocess.DEVNULL)
    os.close(w)
    assert os.read(r, 1)
    os.close(r)
    process.wait(LIMIT)


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
