#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""When a fixture is built again, and when it is not."""

import os
import signal
import subprocess
import sys
import threading

import harness
from harness import Clock, FixdError, Skip, exit_code, once, wait_for
from mounts import in_a_mount_namespace, inside


def file_fixture(t, more=""):
    t.write("input", "one\n")
    d = t.daemon(f"[fixture f]\nfile = input\n{more}")
    return d, d.client()


def check_rebuilt(d, c, view, expected, cause):
    """`view` is out of date; an attach gives the new bytes, the old view keeps the old ones."""
    old = view.data
    fresh = c.attach("f")
    assert fresh.data == expected, fresh.data
    assert fresh.generation == view.generation + 1
    assert not view.current and fresh.current
    assert view.data == old
    found = d.instance("f")["stale_cause"]
    assert cause in found, found
    view.detach()
    fresh.detach()


def test_mtime_forward(t):
    d, c = file_fixture(t)
    v = c.attach("f")
    t.write("input", "two\n")
    check_rebuilt(d, c, v, b"two\n", "changed")


def test_mtime_backward(t):
    d, c = file_fixture(t)
    v = c.attach("f")
    with open(t.path("input"), "r+") as f:
        f.write("two\n")
    os.utime(t.path("input"), ns=(10**18, 10**18))
    check_rebuilt(d, c, v, b"two\n", "changed")


def test_same_mtime_other_size(t):
    d, c = file_fixture(t)
    before = os.stat(t.path("input"))
    v = c.attach("f")
    with open(t.path("input"), "a") as f:
        f.write("more\n")
    os.utime(t.path("input"), ns=(before.st_atime_ns, before.st_mtime_ns))
    check_rebuilt(d, c, v, b"one\nmore\n", "size")


def test_same_tick_same_size(t):
    """An edit right after the build that leaves mtime and size as they were."""
    d, c = file_fixture(t)
    before = os.stat(t.path("input"))
    v = c.attach("f")
    with open(t.path("input"), "r+") as f:
        f.write("two\n")
    os.utime(t.path("input"), ns=(before.st_atime_ns, before.st_mtime_ns))
    check_rebuilt(d, c, v, b"two\n", "input")


def test_rename_over(t):
    d, c = file_fixture(t)
    before = os.stat(t.path("input"))
    v = c.attach("f")
    t.write("new", "two\n")
    os.utime(t.path("new"), ns=(before.st_atime_ns, before.st_mtime_ns))
    os.rename(t.path("new"), t.path("input"))
    check_rebuilt(d, c, v, b"two\n", "replaced")


def test_deletion_and_return(t):
    d, c = file_fixture(t)
    v = c.attach("f")
    os.unlink(t.path("input"))
    wait_for(lambda: not v.current, "the board to say so")
    try:
        c.attach("f")
        assert False, "attached a file that is gone"
    except harness.FixdError as e:
        assert "No such file" in e.sentence and e.number == 5, e.sentence
    assert "vanished" in d.instance("f")["stale_cause"]
    t.write("input", "back\n")
    assert c.read("f") == b"back\n"
    v.detach()


def test_symlink_target(t):
    t.write("a", "one\n")
    t.write("b", "two\n")
    os.symlink("a", t.path("input"))
    d = t.daemon("[fixture f]\nfile = input\n")
    c = d.client()
    v = c.attach("f")
    os.symlink("b", t.path("other"))
    os.rename(t.path("other"), t.path("input"))
    check_rebuilt(d, c, v, b"two\n", "replaced")


def test_directory_on_the_way_replaced(t):
    t.write("x/y/input", "one\n")
    t.write("z/y/input", "two\n")
    d = t.daemon("[fixture f]\nfile = x/y/input\n")
    c = d.client()
    v = c.attach("f")
    os.rename(t.path("x"), t.path("old"))
    os.rename(t.path("z"), t.path("x"))
    check_rebuilt(d, c, v, b"two\n", "input")


def test_every_edit_before_an_attach_is_seen(t):
    d, c = file_fixture(t)
    for n in range(300):
        t.write("input", f"number {n}\n")
        data = c.read("f")
        assert data == f"number {n}\n".encode(), (n, data)


def test_memory_mapped_edit(t):
    import mmap

    d, c = file_fixture(t)
    v = c.attach("f")
    with open(t.path("input"), "r+b") as f:
        with mmap.mmap(f.fileno(), 0) as m:
            m[0:3] = b"two"
    check_rebuilt(d, c, v, b"two\n", "changed")


def test_glob_new_file(t):
    t.write("parts/1.txt", "1\n")
    d = t.daemon(f"[fixture f]\ncommand = {t.counted('cat parts/*.txt')}\nwatch = parts/*.txt\n")
    c = d.client()
    v = c.attach("f")
    t.write("parts/unrelated", "x")
    assert c.read("f") == b"1\n" and t.runs() == 1
    t.write("parts/2.txt", "2\n")
    check_rebuilt(d, c, v, b"1\n2\n", "2.txt appeared")
    os.unlink(t.path("parts/1.txt"))
    assert c.read("f") == b"2\n"
    assert t.runs() == 3


def test_glob_of_directories(t):
    t.write("src/a/x.in", "a\n")
    d = t.daemon(f"[fixture f]\ncommand = cat src/*/x.in\nwatch = src/*/x.in\n")
    c = d.client()
    v = c.attach("f")
    t.write("src/b/x.in", "b\n")
    check_rebuilt(d, c, v, b"a\nb\n", "src/b/x.in appeared")


def test_watched_directory(t):
    t.write("data/deep/one", "1")
    d = t.daemon(f"[fixture f]\ncommand = {t.counted('find data -type f | sort')}\nwatch = data\n")
    c = d.client()
    v = c.attach("f")
    t.write("data/deep/two", "2")
    check_rebuilt(d, c, v, b"data/deep/one\ndata/deep/two\n", "two appeared")
    t.write("data/deep/one", "edited")
    c.read("f")
    assert t.runs() == 3


def test_content_touch_keeps(t):
    t.write("input", "one\n")
    d = t.daemon(f"[fixture f]\ncommand = {t.counted('cat input')}\nwatch = input\nwatch-by = content\n")
    c = d.client()
    v = c.attach("f")
    for _ in range(3):
        os.utime(t.path("input"))
        assert c.read("f") == b"one\n"
    t.write("new", "one\n")
    os.rename(t.path("new"), t.path("input"))
    assert c.read("f") == b"one\n"
    assert t.runs() == 1 and v.current
    t.write("input", "two\n")
    check_rebuilt(d, c, v, b"two\n", "changed")
    assert t.runs() == 2


def test_content_edit_while_idle_reaches_the_board(t):
    t.write("input", "one\n")
    d = t.daemon("[fixture f]\nfile = input\nwatch-by = content\n")
    v = d.client().attach("f")
    t.write("input", "two\n")
    wait_for(lambda: not v.current, "the board to say so")
    v.detach()


INI = """[policy]
max-age = none
[fixture a]
command = echo {a}
[fixture b]
command = {b}
"""


def test_section_edited(t):
    d = t.daemon(INI.format(a="one", b=t.counted("echo b")))
    c = d.client()
    a, b = c.attach("a"), c.attach("b")
    d.configure(INI.format(a="two", b=t.counted("echo b")) + "[fixture c]\ncommand = echo c\n")
    d.ctl("reload")
    assert not a.current and b.current
    assert c.read("a") == b"two\n" and c.read("b") == b"b\n" and c.read("c") == b"c\n"
    assert t.runs() == 1, "another section was touched"
    assert "section" in d.instance("a")["stale_cause"]
    d.configure(INI.format(a="two", b=t.counted("echo b")))
    d.process.send_signal(signal.SIGHUP)
    wait_for(lambda: "c" not in d.instances(), "the removed fixture to go")
    try:
        c.attach("c")
        assert False
    except harness.FixdError as e:
        assert e.number == 2 and "no fixture 'c'" in e.sentence
    a.detach()
    b.detach()


def test_dependency_with_other_digest(t):
    t.write("input", "one\n")
    d = t.daemon(f"""[fixture base]
file = input
[fixture top]
command = {t.counted('cat $FIXD_DEP_base')}
depends = base
[fixture other]
command = echo run >> {t.dir}/others; echo other
""")
    c = d.client()
    assert c.read("top") == b"one\n" and c.read("other") == b"other\n"
    t.write("input", "two\n")
    assert c.read("top") == b"two\n" and c.read("other") == b"other\n"
    assert t.runs() == 2 and t.runs("others") == 1
    assert "dependency 'base'" in d.instance("top")["stale_cause"]


def test_dependents_are_out_of_date_at_once(t):
    """Whoever holds a view need not ask to learn that a dependency was rebuilt, and the eager are built again."""
    t.write("input", "one\n")
    d = t.daemon(f"""[fixture base]
file = input
[fixture top]
command = cat $FIXD_DEP_base
depends = base
[fixture eager]
command = {t.counted('cat $FIXD_DEP_base')}
depends = base
rebuild = eager
""")
    c = d.client()
    top, eager = c.attach("top"), c.attach("eager")
    t.write("new", "two\n")
    os.rename(t.path("new"), t.path("input"))
    assert c.read("base") == b"two\n"
    assert not top.current and not eager.current
    wait_for(lambda: t.runs() == 2 and d.instance("eager")["state"] == "ready", "the eager one")
    assert "dependency 'base'" in d.instance("top")["stale_cause"]
    fresh = c.attach("eager")
    assert fresh.data == b"two\n" and not fresh.built and c.read("top") == b"two\n"
    for v in (top, eager, fresh):
        v.detach()


def test_dependency_with_same_digest(t):
    """The chain is cut where a rebuild gives the same bytes."""
    t.write("input", "one\n")
    d = t.daemon(f"""[fixture base]
command = echo run >> {t.dir}/bases; head -c 3 input
watch = input
[fixture top]
command = {t.counted('cat $FIXD_DEP_base')}
depends = base
""")
    c = d.client()
    v = c.attach("top")
    t.write("input", "one, but longer\n")
    assert c.read("top") == b"one"
    assert t.runs("bases") == 2 and t.runs() == 1 and v.current
    d.ctl("cleanup", "base")
    assert c.read("top") == b"one"
    assert t.runs("bases") == 3 and t.runs() == 1, "the same again after a cleanup"
    v.detach()


def test_max_age_from_creation(t):
    clock = Clock(t)
    d = t.daemon(f"[policy]\nmax-age = 600s\n[fixture f]\ncommand = {t.counted('echo x')}\n", env=clock.env)
    c = d.client()
    c.read("f")
    clock.advance(300)
    c.read("f")
    clock.advance(299.9)
    c.read("f")
    assert t.runs() == 1, "just under"
    clock.advance(0.1 + 5)
    c.read("f")
    assert t.runs() == 2, "just over"
    assert "max-age" in d.instance("f")["stale_cause"]


def test_max_age_from_last_use(t):
    clock = Clock(t)
    d = t.daemon(f"[fixture f]\nmax-age = 600s\nage-from = last-use\ncommand = {t.counted('echo x')}\n", env=clock.env)
    c = d.client()
    for _ in range(3):
        c.read("f")
        clock.advance(599)
    v = c.attach("f")
    clock.advance(10000)
    c.read("f")
    assert t.runs() == 1, "what is leased is in use"
    v.detach()
    c.read("f")
    wait_for(lambda: d.instance("f")["leases"] == 0, "the detach")
    clock.advance(601)
    c.read("f")
    assert t.runs() == 2


def test_max_age_reaches_the_board_by_itself(t):
    d = t.daemon("[fixture f]\nmax-age = 50ms\ncommand = echo x\n")
    v = d.client().attach("f")
    wait_for(lambda: not v.current, "the image to expire")
    assert d.instance("f")["state"] == "stale"
    v.detach()


def test_max_age_zero_is_built_for_every_attach(t):
    d = t.daemon(f"[policy]\nmax-age = 0s\n[fixture f]\ncommand = {t.counted('echo x')}\n[fixture g]\ndepends = f\ncommand = cat $FIXD_DEP_f\n")
    c = d.client()
    c.read("f")
    c.read("f")
    assert t.runs() == 2
    assert c.read("g") == b"x\n"


def test_cleanup(t):
    d = t.daemon(f"[fixture f]\ncommand = {t.counted('echo x')}\n[fixture g]\ncommand = echo g\n")
    c = d.client()
    c.read("f")
    v = c.attach("g")
    out = d.ctl("cleanup", "*").out
    assert "Removed: 1\n  f\n" in out and "Kept (in use): 1\n  g\n" in out and "Freed: 4.0 KiB" in out, out
    c.read("f")
    assert t.runs() == 2 and "cleaned up" in d.instance("f")["stale_cause"]
    out = d.ctl("cleanup", "--all", "--force").out
    assert "Removed: 2" in out, out
    assert v.data == b"g\n" and not v.current
    v.detach()
    d.ctl("cleanup", code=2)


def test_restart(t):
    ini = f"[fixture f]\ncommand = {t.counted('echo x')}\n"
    d = t.daemon(ini)
    c = d.client()
    v = c.attach("f")
    d.stop()
    assert not v.current, "nothing is current after a stop"
    t.daemon(ini)
    assert c.read("f") == b"x\n", "the same client, after a restart"
    assert t.runs() == 2
    v.detach()


def test_check_command(t):
    t.write("outside", "yes")
    d = t.daemon(f"[fixture f]\ncommand = {t.counted('cat outside')}\ncheck = echo looked >> {t.dir}/checks; test ! -e wrong\n")
    c = d.client()
    assert c.read("f") == b"yes" and t.runs("checks") == 0, "a fresh build needs no check"
    c.read("f")
    assert t.runs("checks") == 1 and t.runs() == 1
    t.write("wrong", "")
    c.read("f")
    assert t.runs() == 2 and "check failed" in d.instance("f")["stale_cause"]


def test_command_executable_is_an_input(t):
    t.write("tool", "#!/bin/sh\necho one\n")
    os.chmod(t.path("tool"), 0o755)
    commands = ("./tool", "exec ./tool", "exec\t./tool x", "A=1 B= ./tool", "A=b=c exec ./tool", "./tool; exit 0")
    d = t.daemon("".join(f"[fixture f{n}]\ncommand = {command}\n" for n, command in enumerate(commands)))
    c = d.client()
    names = [f"f{n}" for n in range(len(commands))]
    assert [c.read(name) for name in names] == [b"one\n"] * len(names)
    t.write("tool", "#!/bin/sh\necho two\n")
    assert [c.read(name) for name in names] == [b"two\n"] * len(names)


def test_edit_during_build(t):
    """What was read may be half old: it is built again before anybody sees it."""
    t.write("input", "one\n")
    os.mkfifo(t.path("gate"))
    d = t.daemon(f"[fixture f]\ncommand = {t.counted('cat input; test -e opened || cat gate')}\nwatch = input\n")
    client = t.child(lambda: harness.Client(d.socket).read("f") == b"two\n")
    wait_for(lambda: t.runs() == 1, "the build to start")
    with open(t.path("gate"), "w"):
        t.write("input", "two\n")
        t.write("opened", "")
    assert harness.exit_code(client) == 0
    assert t.runs() == 2


def test_inputs_that_are_away_for_a_moment(t):
    """What a build reads of a file or directory that stands in for another one is not what is there: the same inodes come back."""
    t.write("data/input", "one\n")
    os.mkfifo(t.path("gate"))
    d = t.daemon(f"[fixture f]\ncommand = {t.counted('if test -e opened; then cat data/input; else cat gate; cat data/input; sh back; fi')}\nwatch = data/input\n")
    for what, k in ("data/input", 1), ("data", 3):
        if k > 1:
            os.unlink(t.path("opened"))
        t.write("back", f"rm -rf {what}; mv other {what}; echo >opened\n")
        d.ctl("cleanup", "f")
        client = t.child(lambda: harness.Client(d.socket).read("f") == b"one\n")
        wait_for(lambda: t.runs() == k, "the build to start")
        with open(t.path("gate"), "w"):
            os.rename(t.path(what), t.path("other"))
            t.write("data/input", "two\n")
        wait_for(lambda: t.runs() == k + 1, "the build to be done again")
        assert harness.exit_code(client) == 0


def test_what_is_missing_for_a_moment(t):
    """Away and back, once: behind a glob, a link on the way, and by a path with a dot in it."""
    for n, (watch, path, gone, back) in enumerate((("a/*/conf", "a/x/conf", "mv a/x/conf old", "mv old a/x/conf"), ("cur/conf", "cur/conf", "rm cur", "ln -s a/x cur"),
                                                   ("./a/x/conf", "a/x/conf", "mv a/x/conf old", "mv old a/x/conf"), ("./a/x", "a/x/conf", "mv a/x old", "mv old a/x")), 1):
        t.write("a/x/conf", "one\n")
        subprocess.run("rm -f opened cur; ln -s a/x cur", shell=True, cwd=t.dir, check=True)
        command = f"if test -e opened; then cat {path}; else echo >opened; {gone}; cat {path} || echo nothing; {back}; fi"
        d = t.daemon(f"[fixture f]\ncommand = {t.counted(command)}\nwatch = {watch}\n")
        assert d.client().read("f") == b"one\n" and t.runs() == 2 * n, (watch, t.runs())
        d.stop()


def test_names_that_come_and_go_while_many_look(t):
    """What a look has subscribed to is taken apart in slices, and its set may be gone before that is over."""
    for k in range(60):
        t.write(f"d/{k}/input.c", "0\n")
    d = t.daemon("".join(f"[fixture f{k}]\ncommand = cat d/*/*.c | wc -l\nwatch = d/*/*.c\n" for k in range(4)))
    for n in range(12):
        warm = t.child(lambda: d.ctl("warm", code=None) is not None)
        for k in range(8):
            os.rename(t.path(f"d/{k}"), t.path("away"))
            os.rename(t.path("away"), t.path(f"d/{k}"))
            t.write(f"d/{k}/input.c", f"{n}\n")
        assert harness.exit_code(warm) == 0
    assert d.client().read("f0") == b"60\n"


def test_a_link_that_leads_elsewhere_for_a_moment(t):
    """On the way to what is watched, by a name that is replaced, moved away, or removed and made again."""
    for n, there, back in (1, "ln -sfn two", "ln -sfn one"), (2, "mv cur old; ln -s two", "rm cur; mv old"), (3, "rm cur; ln -s two", "rm cur; ln -s one"):
        t.write("one/input", "one\n")
        t.write("two/input", "two\n")
        for name in "cur", "opened":
            if os.path.lexists(t.path(name)):
                os.unlink(t.path(name))
        os.symlink("one", t.path("cur"))
        command = f"if test -e opened; then cat cur/input; else echo >opened; {there} cur; cat cur/input; {back} cur; fi"
        d = t.daemon(f"[fixture f]\ncommand = {t.counted(command)}\nwatch = cur/input\n")
        assert d.client().read("f") == b"one\n" and t.runs() == 2 * n, (there, t.runs())
        d.stop()


def test_names_with_nothing_of_what_is_watched(t):
    """What a build itself puts into place beside its inputs, and a link that it makes anew as it was, are no change."""
    for k in "abc":
        t.write(f"{k}/in/conf", "one\n")
    os.symlink("c/in", t.path("cur"))
    out = "rm -rf {0}/out; mkdir {0}/.out; mv {0}/.out {0}/out; cat {0}/in/conf"
    d = t.daemon(f"[fixture glob]\ncommand = {t.counted(out.format('a'))}\nwatch = a/*/conf\n"
                 f"[fixture content]\ncommand = {t.counted(out.format('b'))}\nwatch = b/*/conf\nwatch-by = content\n"
                 f"[fixture link]\ncommand = {t.counted('ln -sfn c/in cur; cat cur/conf')}\nwatch = cur/conf\n")
    client = d.client()
    assert [client.read(name) for name in ("glob", "content", "link")] == [b"one\n"] * 3 and t.runs() == 3
    # Nor is a directory for what may come, which the build itself makes anew.
    anew = harness.Case(t.mode, t.wrapper)
    try:
        e = anew.daemon(f"[fixture f]\ncommand = {anew.counted('rm -rf out; mkdir -p out/sub; echo one')}\nwatch = out/local.conf, out/sub/*.conf\n")
        os.makedirs(anew.path("out/sub"))
        assert e.client().read("f") == b"one\n" and anew.runs() == 1
    finally:
        anew.finish(False)
    os.rename(t.path("a/out"), t.path("a/other"))
    os.mkdir(t.path("a/more"))
    assert client.read("glob") == b"one\n" and t.runs() == 3


def test_what_is_made_again_with_the_same_looks(t):
    """Other names of the same files, and new ones that have got the numbers of the old: of a directory, and below a glob and a tree."""
    for version in "one", "two":
        t.write(f"{version}/x", version + "\n")
        os.utime(t.path(f"{version}/x"), (1, 1))
    for n, watch, anew in ((1, "cur/x", "rm -rf cur; cp -al {} cur"), (2, "cur/*", "rm -rf cur; cp -a {} cur"), (3, "cur", "rm cur/x; ln {}/x cur/x"),
                           (4, "cur/*", "rm cur/x; ln {}/x cur/x")):
        subprocess.run("rm -rf cur opened; cp -al one cur", shell=True, cwd=t.dir, check=True)
        command = f"if test -e opened; then cat cur/x; else echo >opened; {anew.format('two')}; cat cur/x; {anew.format('one')}; fi"
        d = t.daemon(f"[fixture f]\ncommand = {t.counted(command)}\nwatch = {watch}\n")
        assert d.client().read("f") == b"one\n" and t.runs() == 2 * n, (watch, anew, t.runs())
        d.stop()


def test_inputs_that_never_settle(t):
    d = t.daemon(f"[fixture f]\ncommand = {t.counted('date +%N >> input; cat input')}\nwatch = input\n")
    try:
        d.client().attach("f")
        assert False
    except harness.FixdError as e:
        assert "changed during each of 3 builds" in e.sentence, e.sentence
    assert t.runs() == 3


def test_eager(t):
    t.write("input", "one\n")
    d = t.daemon(f"[fixture f]\ncommand = {t.counted('cat input')}\nwatch = input\nrebuild = eager\nwarm = yes\n")
    wait_for(lambda: t.runs() == 1, "the warm build")
    wait_for(lambda: d.instance("f")["state"] == "ready", "ready")
    t.write("new", "two\n")
    os.rename(t.path("new"), t.path("input"))
    wait_for(lambda: t.runs() == 2, "the eager build")
    c = d.client()
    v = c.attach("f")
    assert v.data == b"two\n"
    v.detach()
    assert t.runs() == 2


def test_network_file_systems_are_polled(t):
    """Without inotify the files are looked at on every attach."""
    t.write("input", "one\n")
    limit = "/proc/sys/fs/inotify/max_user_instances"
    if os.geteuid() != 0 or not os.access(limit, os.W_OK):
        raise harness.Skip("only root can take inotify away")
    with open(limit) as f:
        before = f.read()
    try:
        with open(limit, "w") as f:
            f.write("0")
        d = t.daemon("[fixture f]\nfile = input\n")
    finally:
        with open(limit, "w") as f:
            f.write(before)
    c = d.client()
    assert "no inotify" in d.words()
    assert c.read("f") == b"one\n"
    assert "Removed: 0" in d.ctl("cleanup", "--all", "--stale").out
    t.write("input", "another\n")
    assert d.instance("f")["state"] == "ready"
    assert "Removed: 1\n  f\n" in d.ctl("cleanup", "--stale").out
    for n in range(20):
        t.write("input", f"{n} {'x' * n}\n")
        assert c.read("f") == f"{n} {'x' * n}\n".encode()


def test_glob_in_a_directory_that_is_not_there_yet(t):
    d = t.daemon("[fixture f]\ncommand = cat src/*.txt 2>/dev/null; true\nwatch = src/*.txt\n")
    c = d.client()
    v = c.attach("f")
    t.write("src/a.txt", "a\n")
    check_rebuilt(d, c, v, b"a\n", "appeared")


def test_policy_that_watches_something_else(t):
    t.write("other", "1")
    d = t.daemon("[fixture f]\ncommand = cat other\n")
    c = d.client()
    c.read("f")
    d.configure("[policy]\nwatch = other\n[fixture f]\ncommand = cat other\n")
    d.ctl("reload")
    c.read("f")
    t.write("other", "22")
    assert c.read("f") == b"22"


def test_another_root(t):
    t.write("a/input", "a\n")
    t.write("b/input", "b\n")
    d = t.daemon("[fixd]\nroot = a\n[fixture f]\nfile = input\n")
    c = d.client()
    assert c.read("f") == b"a\n"
    d.configure("[fixd]\nroot = b\n[fixture f]\nfile = input\n")
    d.ctl("reload")
    assert c.read("f") == b"b\n"


def test_paths_that_look_like_patterns(t):
    """What the file lies in, and what a fixture is made from by its name, are no patterns."""
    root = "of [a-z]*, \\?"
    for path in ("input", "data/in[1].txt", "data/2.txt", "dir[x]*/file", "dir[x]*/out"):
        t.write(f"{root}/{path}", "1")
    d = t.daemon(f"[fixd]\nroot = {root}\n[fixture f]\nfile = data/in[1].txt\n[fixture w]\ncommand = cat data/*.txt\nwatch = data/*.txt\n"
                 "[fixture l]\ncommand = cat input\nwatch = input\n[fixture d]\ndirectory = dir[x]*\nexclude = out\n")
    c = d.client()
    views = {n: c.attach(n) for n in ("f", "w", "l", "d")}
    t.write(f"{root}/dir[x]*/out", "2")
    assert c.attach("d").path == views["d"].path
    for name, path in (("f", "data/in[1].txt"), ("w", "data/2.txt"), ("l", "input"), ("d", "dir[x]*/file")):
        t.write(f"{root}/{path}", "22")
        assert c.attach(name).generation == 2, name


def test_check_counts_from_when_it_looked(t):
    """Who asks after the outside changed is not answered by a check that had looked before."""
    os.mkfifo(t.path("gate"))
    t.write("outside", "1")
    d = t.daemon("[fixture f]\ncommand = cat outside\n"
                 "check = cmp -s outside seen; r=$?; echo looked >> looks; test ! -e slow || cat gate; exit $r\n")
    c = d.client()
    t.write("seen", "1")
    assert c.read("f") == b"1"
    t.write("slow", "")
    first = t.child(lambda: harness.Client(d.socket).read("f") in (b"1", b"2"))
    wait_for(lambda: t.runs("looks") == 1, "the first check to have looked")
    t.write("outside", "2")
    second = t.child(lambda: harness.Client(d.socket).read("f") == b"2")
    wait_for(lambda: d.status()["daemon"]["connections"] == 4, "both to wait")
    os.unlink(t.path("slow"))
    with open(t.path("gate"), "w"):
        pass
    assert harness.exit_code(first) == 0 and harness.exit_code(second) == 0


def test_cleanup_during_a_check(t):
    os.mkfifo(t.path("gate"))
    d = t.daemon(f"[fixture f]\ncommand = {t.counted('echo x')}\ncheck = echo looked >> looks; cat gate\n")
    d.client().read("f")
    client = t.child(lambda: harness.Client(d.socket).read("f") == b"x\n")
    wait_for(lambda: t.runs("looks") == 1, "the check")
    d.ctl("cleanup", "f")
    assert harness.exit_code(client) == 0 and t.runs() == 2


def test_age_nought_from_last_use(t):
    """A lease on something that is always too old does not keep the daemon busy."""
    d = t.daemon("[fixture f]\nmax-age = 0s\nage-from = last-use\ncommand = echo x\n")
    v = d.client().attach("f")

    def cpu():
        with open(f"/proc/{d.pid}/stat") as f:
            return sum(map(int, f.read().rsplit(")", 1)[1].split()[11:13]))

    before = cpu()
    for _ in range(20):
        d.status()
    assert cpu() - before < 20, "clock ticks"
    assert v.current
    v.detach()
    wait_for(lambda: not v.handle and d.instance("f")["state"] == "stale", "it to expire")


def test_what_is_in_a_directory(t):
    """Links, where they lead, directories and modes are part of it, by either way of watching."""
    for by in ("mtime", "content"):
        site = t.path(by)
        for v in ("v1", "v2"):
            t.write(f"{by}/{v}/index", v)
        t.write(f"{by}/script", "#!/bin/sh\n")
        t.write(f"{by}-outside", "one")
        for name, target in (("current", "v1"), ("dangling", "nowhere"), ("out", f"../{by}-outside")):
            os.symlink(target, f"{site}/{name}")
        d = t.daemon(f"[policy]\nmax-age = none\nwatch-by = {by}\n[fixture tree]\ndirectory = {site}\n"
                     f"[fixture cmd]\ncommand = cat {site}/current/index {site}/out\nwatch = {site}\n")
        c = d.client()

        def relink(name, target):
            os.symlink(target, f"{site}/new")
            os.rename(f"{site}/new", f"{site}/{name}")

        def tree(look):
            v = c.attach("tree")
            try:
                return look(v.path)
            finally:
                v.detach()
        assert tree(lambda p: os.readlink(p + "/current")) == "v1" and c.read("cmd") == b"v1one"
        relink("current", "v2")
        assert tree(lambda p: os.readlink(p + "/current")) == "v2" and c.read("cmd") == b"v2one"
        relink("dangling", "nowhere else")
        assert tree(lambda p: os.readlink(p + "/dangling")) == "nowhere else"
        os.mkdir(f"{site}/empty")
        assert tree(lambda p: os.path.isdir(p + "/empty"))
        os.chmod(f"{site}/script", 0o755)
        assert tree(lambda p: os.access(p + "/script", os.X_OK))
        t.write(f"{by}-outside", "twoo")
        assert c.read("cmd") == b"v2twoo"
        was = d.instance("cmd")["builds"]
        assert c.read("cmd") == b"v2twoo" and d.instance("cmd")["builds"] == was
        d.stop()


def test_a_change_in_a_lower_layer(t):
    """An overlay does not tell of it."""
    setup = ("mkdir -p lower upper merged && mount -t tmpfs t upper && mkdir upper/u upper/w && echo old >lower/in\n"
             "mount -t overlay o -o lowerdir=lower,upperdir=upper/u,workdir=upper/w merged")
    d = t.daemon(f"[fixture a]\ncommand = cat {t.dir}/merged/in\nwatch = {t.dir}/merged/in\n", prefix=in_a_mount_namespace(t, setup))
    c = d.client()
    assert c.read("a") == b"old\n"
    t.write("lower/in", "other\n")
    assert c.read("a") == b"other\n"
    # Of the same size, and with its time put back, as some programs copy.
    for by, read in ("mtime", b"again\n"), ("content", b"other\n"):
        d.configure(f"[fixture a]\ncommand = cat {t.dir}/merged/in\nwatch = {t.dir}/merged/in\nwatch-by = {by}\n")
        d.ctl("reload")
        c.read("a")
        status = os.stat(t.path("lower/in"))
        with open(t.path("lower/in"), "r+b") as f:
            f.write(read)
        os.utime(t.path("lower/in"), ns=(status.st_atime_ns, status.st_mtime_ns))
        assert c.read("a") == read, by


def test_a_new_file_in_a_lower_layer(t):
    """Also where there was nothing that could have been watched: nothing matched, or the directory was empty."""
    setup = ("mkdir -p lower/none lower/other lower/some/sub lower/whole upper merged && touch lower/other/x && mount -t tmpfs t upper && mkdir upper/u upper/w\n"
             "mount -t overlay o -o lowerdir=lower,upperdir=upper/u,workdir=upper/w merged")
    # A name that was looked for is not looked for again by the kernel.
    new = {"none": ("merged/none/*.c", "none/new.c"), "other": ("merged/other/*.c", "other/new.c"), "whole": ("merged/whole", "whole/f")}
    d = t.daemon("".join(f"[fixture {name}]\ncommand = ls {t.dir}/merged/{name} | wc -l\nwatch = {t.dir}/{pattern}\n"
                         for name, (pattern, _) in new.items()), prefix=in_a_mount_namespace(t, setup))
    c = d.client()
    before = {name: c.read(name) for name in new}
    for _, path in new.values():
        t.write("lower/" + path, "new\n")
    for name in new:
        assert c.read(name) != before[name], name


def test_a_mount_over_what_is_watched(t):
    t.write("dir/in", "old\n")
    d = t.daemon(f"[fixture a]\ncommand = cat {t.dir}/dir/in\nwatch = {t.dir}/dir/in\n", prefix=in_a_mount_namespace(t, "true"))
    c = d.client()
    assert c.read("a") == b"old\n"
    inside(d, f"mount -t tmpfs t {t.dir}/dir && echo over >{t.dir}/dir/in")
    assert c.read("a") == b"over\n"
    inside(d, f"umount {t.dir}/dir")
    assert c.read("a") == b"old\n"


def test_mounts_of_all_kinds(t):
    """At what is watched, above it, below it, behind a link, in a place with odd characters; and moved, and taken away."""
    for name in "up/dir/in", "up/dir/sub/deep", "o dd\\dir/in", "elsewhere/in":
        t.write(name, "old\n")
    os.symlink("elsewhere", t.path("link"))
    words = {"named": "up/dir/in", "tree": "up/dir", "pattern": "up/d*/in", "odd": "o?dd?dir/in", "link": "link/in"}
    d = t.daemon("".join(f"[fixture {name}]\ncommand = echo run >>{t.dir}/{name}.runs; cat up/dir/in up/dir/sub/deep o*/in link/in; echo\nwatch = {watch}\n"
                         for name, watch in words.items()), prefix=in_a_mount_namespace(t, "true"))
    c = d.client()

    def built():
        found = set()
        for name in words:
            before = t.runs(name + ".runs")
            c.attach(name).detach()
            found |= {name} if t.runs(name + ".runs") > before else set()
        return found

    assert built() == set(words)
    for script, concerned in (
        ("mkdir up/new; mount -t tmpfs t up/new; mkdir other; mount -t tmpfs t other", set()),
        ("mount -t tmpfs t up/dir/sub; echo other >up/dir/sub/deep", {"tree"}),
        ("umount up/dir/sub", {"tree"}),
        ("mkdir copy; cp -r up/dir copy; echo longer >copy/dir/in; mount --bind copy up", {"named", "tree", "pattern"}),
        ("umount up", {"named", "tree", "pattern"}),
        ("mount -t tmpfs t 'o dd\\dir'; echo longer >'o dd\\dir/in'", {"odd"}),
        ("mount --move 'o dd\\dir' elsewhere", {"odd", "link"}),
        ("umount elsewhere", {"link"}),
    ):
        inside(d, f"cd {t.dir}; {script}")
        assert built() == concerned, (script, concerned)


def test_one_file_of_a_tree(t):
    """Whatever happens to it, and to it alone, is seen; what comes and goes is nothing."""
    for n in range(300):
        t.write(f"tree/{n % 10}/{n}", f"{n}\n")
    d = t.daemon(f"[fixture a]\ncommand = {t.counted('cat tree/*/* | wc -l')}\nwatch = tree\n")
    c = d.client()
    view = c.attach("a")

    def unchanged():
        c.attach("a").detach()
        return view.current

    def changed():
        nonlocal view
        before, view = t.runs(), c.attach("a")
        return t.runs() == before + 1

    t.write("tree/3/passing", "x")
    os.unlink(t.path("tree/3/passing"))
    assert unchanged()
    with open(t.path("tree/3/13"), "r+b") as f:
        f.write(b"x")
    assert changed()
    os.utime(t.path("tree/4/14"), (1, 1))
    assert changed()
    os.rename(t.path("tree/5/15"), t.path("tree/6/moved"))
    assert changed()
    t.write("tree/7/fresh", "x")
    assert changed()
    os.unlink(t.path("tree/7/17"))
    assert changed()
    os.mkdir(t.path("tree/new"))
    assert changed()
    t.write("tree/new/file", "x")
    assert changed()
    os.chmod(t.path("tree/8/18"), 0o600)
    assert changed()
    os.symlink("nowhere", t.path("tree/9/dangling"))
    assert changed()
    t.write("tree/9/nowhere", "x")
    assert changed()
    assert unchanged()


def what_a_client_may_not_see(t, uid):
    """The daemon is that of `uid`; its client is another user."""
    if os.geteuid():
        raise Skip("other users are made by root only")
    if uid and not harness.can_be_reached(harness.program("fixd"), uid):
        raise Skip("others cannot reach the build directory")
    os.chmod(t.dir, 0o777)
    os.mkdir(t.path("private"), 0o700)
    os.mkdir(t.path("private/open"))
    os.mkdir(t.path("public"))
    t.write("private/secret1", "s")
    os.chown(t.path("private"), uid, uid)

    def become():
        os.chdir(t.path("private/open"))  # only the links of procfs lead there
        os.setgroups([])
        os.setgid(uid)
        os.setuid(uid)
    t.write("fixd.ini", "")
    d = t.daemon("[fixd]\nallow-users = nobody\n[fixture f]\ncommand = echo x\n", preexec=become)
    here, there = os.pipe(), os.pipe()

    def spy():
        c = harness.Client(d.socket).join("/tmp")
        for name, pattern in (("glob", "private/sec*"), ("file", "private/later"), ("way", "private/../private/secret1"), ("seen", "public/*"),
                              ("fds", "/proc/self/fd/*"), ("descriptors", f"/proc/{d.pid}/fd/*"), ("cwd", "/proc/self/cwd/sec*"), ("thread", "/proc/thread-self/cwd/secret3"), ("pid", f"/proc/{d.pid}/cwd/*")):
            c.define(name, "watch=" + os.path.join(t.dir, pattern))
            c.begin(name).commit(b"1")
        os.write(here[1], b"x")
        os.read(there[0], 1)
        more = [harness.Client(d.socket) for _ in range(3)]
        for name in ("glob", "file", "way", "fds", "descriptors", "cwd", "thread", "pid"):
            assert isinstance(c.begin(name), harness.View), name
        assert isinstance(c.begin("seen"), harness.Build)
        for other in more:
            other.close()
        return True

    pid = t.child(spy, uid=65534)
    os.close(here[1])
    assert os.read(here[0], 1) == b"x"
    for name in ("secret2", "later", "secret1", "open/secret3"):
        t.write("private/" + name, "changed")
    t.write("public/new", "x")
    os.write(there[1], b"x")
    assert exit_code(pid) == 0
    assert "secret" not in d.ctl("status").out and "later" not in d.ctl("status").out
    for fd in (here[0], *there):
        os.close(fd)


@once
def test_what_a_client_may_not_see_with_root(t):
    """It looks at what clients name with their rights."""
    what_a_client_may_not_see(t, 0)


@once
def test_what_a_client_may_not_see_with_a_user(t):
    """It cannot take on the client's identity, and asks the modes."""
    what_a_client_may_not_see(t, 1)


def a_large_tree(t, n=6000):
    """More than what is looked at in one turn of the loop."""
    for k in range(n):
        path = t.path(f"large/{k % 30}/{k}")
        if k < 30:
            os.makedirs(os.path.dirname(path))
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    return t.path("large")


def test_a_large_tree_is_looked_at_in_slices(t):
    """Others are served meanwhile; what is edited before, during and after a look is seen; who waits is answered once it is over."""
    a_large_tree(t)
    d = t.daemon("[policy]\nmax-age = none\n[fixture small]\ncommand = echo 1\n"
                 f"[fixture large]\ncommand = {t.counted('cat large/3/33 large/new 2>/dev/null; true')}\nwatch = large\n")
    c, other = d.client(), d.client()
    other.attach("small").detach()
    before = d.status()["daemon"]["hits"]
    waiting = threading.Thread(target=lambda: c.attach("large").detach())
    waiting.start()
    while waiting.is_alive():
        other.attach("small").detach()
    waiting.join()
    assert d.status()["daemon"]["hits"] - before > 10
    assert c.read("large") == b"" and t.runs() == 1
    t.write("large/3/33", "three\n")
    assert c.read("large") == b"three\n" and t.runs() == 2
    t.write("large/new", "new\n")
    assert c.read("large") == b"three\nnew\n" and t.runs() == 3
    # Nothing but a name that came and went: all is looked at, and nothing built.
    d.pause()
    os.mkdir(t.path("large/gone"))
    os.rmdir(t.path("large/gone"))
    d.resume()
    assert c.read("large") == b"three\nnew\n" and t.runs() == 3


def test_names_that_no_pattern_matches(t):
    """They change nothing, also during the first look, and however many of them come and go."""
    os.mkdir(t.path("many"))
    for k in range(3000):
        t.write(f"many/{k}.c", "")
    d = t.daemon("[policy]\nmax-age = none\n[fixture f]\ncommand = " + t.counted("cat many/7.c") + "\nwatch = many/*.c\n"
                 "[fixture g]\ncommand = echo g\nwatch = */7.c\n")
    c = d.client()
    over = threading.Event()

    def come_and_go():
        while not over.is_set():
            t.write("many/log.tmp", "x")
            os.unlink(t.path("many/log.tmp"))

    noise = threading.Thread(target=come_and_go)
    noise.start()
    try:
        for n in range(5):
            d.ctl("cleanup", "--all")
            assert c.read("f") == b"" and c.read("g") == b"g\n"
            assert t.runs() == n + 1, d.words()
        t.write("many/7.c", "seven\n")
        assert c.read("f") == b"seven\n"
    finally:
        over.set()
        noise.join()
    t.write("other/7.c", "")
    assert c.attach("g").built  # the pattern matches one more
    os.rename(t.path("many/9.c"), t.path("many/9.d"))
    assert c.attach("f").built


def test_another_name_of_a_watched_file(t):
    """A file is written to by a hard link outside of what is watched, which it had before; where it is watched for itself, also one of later."""
    for name in ("t/a", "t/b"):
        t.write(name, "1\n")
    os.mkdir(t.path("out"))
    os.link(t.path("t/a"), t.path("out/a"))
    d = t.daemon("[policy]\nmax-age = none\n[fixture f]\ncommand = cat t/*\nwatch = t\n[fixture g]\ncommand = cat t/*\nwatch = t/*\n")
    c = d.client()
    assert c.read("f") == c.read("g") == b"1\n1\n"
    t.write("out/a", "2\n")
    assert c.read("f") == c.read("g") == b"2\n1\n"
    os.link(t.path("t/b"), t.path("out/b"))
    assert c.read("f") == c.read("g") == b"2\n1\n"
    t.write("out/b", "3\n")
    assert c.read("g") == b"2\n3\n"


def test_edits_during_a_look(t):
    """Whoever asks after an edit sees it, wherever the look at hand has come to."""
    a_large_tree(t)
    d = t.daemon("[policy]\nmax-age = none\n[fixture large]\ncommand = cat large/3/33 large/29/29\nwatch = large\n")
    clients = [d.client() for _ in range(4)]
    clients[0].read("large")
    wrong = []

    def reader(c, k):
        for n in range(6):
            os.mkdir(t.path(f"large/gone{k}"))
            path = t.path(f"large/{'3/33' if k % 2 else '29/29'}")
            with open(f"{path}.{k}", "w") as f:
                f.write(f"{k} {n}\n")
            os.rmdir(t.path(f"large/gone{k}"))
            if k >= 2:
                continue
            os.rename(f"{path}.{k}", path)
            try:
                data = c.read("large")
            except FixdError as e:
                assert "inputs changed during each" in e.sentence, e.sentence
                continue
            if f"{k} {n}\n".encode() not in data:
                wrong.append((k, n, data))

    threads = [threading.Thread(target=reader, args=(c, k)) for k, c in enumerate(clients)]
    for x in threads:
        x.start()
    for x in threads:
        x.join()
    assert not wrong, wrong


def test_a_definition_that_comes_back(t):
    """What is held of it stays, and is known to be current again without asking."""
    ini = "[fixture f]\ncommand = echo f\n"
    d = t.daemon(ini)
    c = d.client()
    v = c.attach("f")
    d.configure("[fixture g]\ncommand = echo g\n")
    d.ctl("reload")
    assert not v.current and c.read("g") == b"g\n"  # has the place on the board that was f's
    d.configure(ini + "[fixture g]\ncommand = echo g\n")
    d.ctl("reload")
    again = c.attach("f")
    assert again.generation == v.generation and again.current and c.attach("g").current


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
