# SPDX-License-Identifier: MIT
"""Sessions and runs: what is known of them, and for how long."""

import os
import shutil
import subprocess
import sys

import harness
from harness import wait_for


def session(d, root):
    return [s for s in d.status()["sessions"] if s["root"] == root][0]


def test_what_a_run_uses(t):
    d = t.daemon("[fixture a]\ncommand = echo a\n[fixture b]\ncommand = echo b\nparams = x, y\n")
    root = os.path.realpath(t.dir)
    first, second = d.client().join(root, "run-1"), d.client().join(root, "run-1")
    watcher = d.client().join(root, "run-1", observer=True)
    first.read("a")
    first.read("a")
    second.attach("b[x]")
    runs = session(d, root)["runs"]
    assert len(runs) == 1 and runs[0]["id"] == "run-1" and runs[0]["ended"] is None and runs[0]["members"] == 2, runs
    assert runs[0]["pids"] == [os.getpid()] * 3
    assert runs[0]["uses"] == [{"name": "a", "generation": 1, "attaches": 2, "built": True},
                               {"name": "b[x]", "generation": 1, "attaches": 1, "built": True}], runs
    assert "Active Runs:\n  run-1\n" in d.ctl("status").out
    for client in (first, second, watcher):
        t.clients.remove(client)
        client.close()
    run = wait_for(lambda: session(d, root)["runs"][0]["ended"] and session(d, root)["runs"][0], "the end of the run")
    assert run["ended"] >= run["began"] and run["pids"] == [] and len(run["uses"]) == 2
    assert "Active Runs" not in d.ctl("status").out


def test_so_many_runs_are_remembered(t):
    d = t.daemon("[fixture a]\ncommand = echo a\n")
    root = os.path.realpath(t.dir)
    for n in range(25):
        client = d.client().join(root, f"run-{n}")
        client.read("a")
        t.clients.remove(client)
        client.close()
    wait_for(lambda: session(d, root)["runs"][-1]["ended"], "the end of the last run")
    s = session(d, root)
    assert [r["id"] for r in s["runs"]] == [f"run-{n}" for n in range(5, 25)] and s["total_runs"] == 25


def test_a_run_of_a_command(t):
    d = t.daemon("[fixture a]\ncommand = echo a\n[fixture b]\ncommand = echo b\n")
    subprocess.run([harness.program("fixctl"), "--socket", d.socket, "run", "--fixture", "a", "true"], check=True,
                   env=harness.process_environment())
    run = wait_for(lambda: session(d, os.path.realpath(t.dir))["runs"][0], "the run")
    assert [u["name"] for u in run["uses"]] == ["a"], run


def test_other_users_do_not_see_it(t):
    if os.geteuid() != 0:
        raise harness.Skip("only root can be another user")
    if not harness.can_be_reached(harness.program("fixctl")):
        raise harness.Skip("nobody cannot reach the build directory")
    d = t.daemon("[fixd]\nallow-users = nobody\n[fixture a]\ncommand = echo a\n")
    os.chmod(t.dir, 0o755)
    root = os.path.realpath(t.dir)
    d.client().join(root, "run-1").read("a")

    def look():
        done = subprocess.run([harness.program("fixctl"), "--socket", d.socket, "status", "--json"], capture_output=True)
        return b"run-1" not in done.stdout and b'"runs"' in done.stdout
    assert harness.exit_code(t.child(look, uid=65534)) == 0


def test_the_root_is_gone(t):
    clock = harness.Clock(t)
    os.mkdir(t.path("root"))
    t.write("root/file", "one")
    d = t.daemon(f"[fixd]\nroot = {t.path('root')}\n[fixture f]\ncommand = cat file\n", env=clock.env)
    view = d.client().attach("f")
    shutil.rmtree(t.path("root"))
    clock.advance(11)
    d.status()
    wait_for(lambda: d.instance("f")["state"] == "stale", "that it is noticed")
    assert d.instance("f")["stale_cause"] == "the root directory of its session is gone" and not view.current
    assert view.data == b"one"
    # It may come back.
    os.mkdir(t.path("root"))
    t.write("root/file", "two")
    assert d.client().read("f") == b"two"


def test_sessions_that_nobody_misses(t):
    clock = harness.Clock(t)
    d = t.daemon("[fixture f]\ncommand = echo f\n", env=clock.env)
    for name in ("here", "gone", "used"):
        os.mkdir(t.path(name))
        client = d.client().join(os.path.realpath(t.path(name)))
        client.define("mine")
        client.begin("mine").commit(name.encode()).detach()
        if name != "used":
            t.clients.remove(client)
            client.close()
    shutil.rmtree(t.path("gone"))
    wait_for(lambda: d.status()["daemon"]["connections"] == 2, "the end of the connections")
    clock.advance(11)
    d.status()

    def roots():
        return sorted(os.path.basename(s["root"]) for s in d.status()["sessions"][1:])
    wait_for(lambda: roots() == ["here", "used"], "the end of the session")
    clock.advance(600)  # max-age
    d.status()
    clock.advance(25 * 3600)
    d.status()
    wait_for(lambda: roots() == ["used"], "that the other one is forgotten, too")


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
