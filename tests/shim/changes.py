#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a run would show, what it has changed, and what is said on its standard error."""

import json
import os
import subprocess
import sys

from stage import NOBODY, Fixture, Skip, Stage, can_reach, environment, main, modes, program, run_as, wait_for
from harness import LIMIT


def stage(t):
    source = t.path("source")
    os.makedirs(source + "/sub/deep")
    for name in ("a", "b", "sub/c", "sub/deep/d", "touched"):
        t.write("source/" + name, name + "\n")
    os.symlink("a", source + "/link")
    return Stage(t, Fixture("tree", "directory", source, "tree"), Fixture("words", "command", "echo one", "words"),
                 Fixture("other", "command", "echo other", "other"))


CHANGES = """echo more >>tree/a; rm -r tree/sub/deep; mkdir tree/new; echo x >tree/new/x; ln -s x tree/new/y; chmod 600 tree/sub/c; touch tree/touched;
rm tree/link; ln -s b tree/link; mv tree/b tree/renamed; echo two >words; cat tree/sub/c other >/dev/null"""
EXPECTED = [("changed", "tree/a"), ("deleted", "tree/b"), ("changed", "tree/link"), ("new", "tree/new"), ("new", "tree/new/x"), ("new", "tree/new/y"),
            ("new", "tree/renamed"), ("changed", "tree/sub/c"), ("deleted", "tree/sub/deep"), ("changed", "words")]


def test_changes(t):
    s = stage(t)
    done = s.run(["sh", "-c", CHANGES], "--changes")
    assert done.code == 0 and done.out == b"", done.__dict__
    assert sorted(done.err.decode().splitlines()) == sorted(f"{what} {s.work}/{path}" for what, path in EXPECTED), done.err
    done = s.run(["sh", "-c", CHANGES + "; echo said; exit 7"], "--changes=" + t.path("list"), "--json")
    assert (done.code, done.out, done.err) == (7, b"said\n", b""), done.__dict__
    with open(t.path("list")) as f:
        found = json.load(f)
    assert sorted((c["change"], c["path"]) for c in found) == sorted((what, f"{s.work}/{path}") for what, path in EXPECTED), found
    assert {c["fixture"] for c in found} == {"tree", "words"}
    assert s.run(["cat", "tree/a", "words"], "--changes").err == b"", "nothing was changed"


def test_changes_of_any_name(t):
    """One that is no text is not left out, and none looks like another line."""
    s = stage(t)
    made = ["python3", "-c", r"for n in b'new\xff', b'a\ndeleted b', 'é \"\\'.encode(): open(b'tree/' + n, 'w')"]
    done = s.run(made, "--changes")
    assert sorted(done.err.decode().splitlines()) == sorted([rf'new "{s.work}/tree/a\012deleted b"', rf'new "{s.work}/tree/new\377"', f'new {s.work}/tree/é "\\']), done.__dict__
    found = json.loads(s.run(made, "--changes", "--json").err)
    assert sorted(c["path"] for c in found) == sorted(f"{s.work}/tree/{n}" for n in ("new\ufffd", "a\ndeleted b", 'é "\\')), found


def test_keep(t):
    s = stage(t)
    done = s.run(["sh", "-c", CHANGES], "--keep", t.path("kept"))
    assert done.code == 0 and done.err == b"", done.__dict__
    kept = sorted(os.path.relpath(os.path.join(b, n), t.path("kept")) for b, d, f in os.walk(t.path("kept")) for n in d + f)
    assert kept == ["tree", "tree/a", "tree/link", "tree/new", "tree/new/x", "tree/new/y", "tree/renamed", "tree/sub", "tree/sub/c", "words"], kept
    assert open(t.path("kept/tree/a")).read() == "a\nmore\n" and os.readlink(t.path("kept/tree/link")) == "b" and open(t.path("kept/words")).read() == "two\n"
    assert os.stat(t.path("kept/tree/sub/c")).st_mode & 0o777 == 0o600
    # What is there already is not overwritten.
    done = s.run(["sh", "-c", "echo again >words"], "--keep", t.path("kept"))
    assert done.code == 1 and b"fixctl: --keep: " in done.err and b"File exists" in done.err and open(t.path("kept/words")).read() == "two\n", done.__dict__


def test_changes_of_attributes(t):
    """Of a file or directory whose bytes and mode are the same; --keep has them, too."""
    s = stage(t)
    set_ = "/usr/bin/python3 -c 'import os; os.setxattr(\"tree/a\", \"user.x\", b\"y\"); os.setxattr(\"tree/sub\", \"user.d\", b\"z\")'"
    done = s.run(["sh", "-c", f"{set_} && touch tree/b && chmod $(stat -c %a tree/sub/c) tree/sub/c"], "--changes", "--keep", t.path("kept"))
    if b"Operation not supported" in done.err:
        raise Skip("the file system has no attributes of users")
    assert done.err.decode().splitlines() == [f"changed {s.work}/tree/a", f"changed {s.work}/tree/sub"], done.__dict__
    assert os.getxattr(t.path("kept/tree/a"), "user.x") == b"y" and os.getxattr(t.path("kept/tree/sub"), "user.d") == b"z"
    if os.geteuid() == 0:
        done = s.run(["chown", "1:1", "tree/a"], "--changes")
        assert done.err.decode().splitlines() == [f"changed {s.work}/tree/a"], done.__dict__


def test_keep_of_directories(t):
    """With their modes, when what is in them is there; what nobody can look into is left empty, and ends nothing."""
    s = stage(t)
    script = "mkdir -m 700 tree/secret && echo k >tree/secret/key; mkdir tree/n && echo x >tree/n/x && chmod 300 tree/n; chmod 1777 tree/sub; echo z >tree/z"
    done = s.run(["sh", "-c", script], "--changes", "--keep", t.path("kept"))
    # To root everything is open.
    lines = [f"new {s.work}/tree/n", *([f"new {s.work}/tree/n/x"] if os.geteuid() == 0 else []), f"new {s.work}/tree/secret", f"new {s.work}/tree/secret/key",
             f"changed {s.work}/tree/sub", f"new {s.work}/tree/z"]
    assert done.code == 0 and done.err.decode().splitlines() == lines, done.__dict__
    modes = [os.stat(t.path("kept/tree/" + name)).st_mode & 0o7777 for name in ("secret", "n", "sub")]
    assert modes == [0o700, 0o300, 0o1777] and open(t.path("kept/tree/secret/key")).read() == "k\n" and os.path.exists(t.path("kept/tree/z")), modes


def test_what_is_gone(t):
    if t.mode != "shim":
        raise Skip("where a tree is mounted it cannot be removed")
    s = stage(t)
    done = s.run(["sh", "-c", "rm -r tree words"], "--changes")
    assert sorted(done.err.decode().splitlines()) == [f"deleted {s.work}/tree", f"deleted {s.work}/words"], done.__dict__


def test_dry_run(t):
    """Says what would be where, and neither builds nor starts anything."""
    s = stage(t)
    done = subprocess.run(s.run_command("--dry-run") + ["touch", "started"], cwd=s.work, capture_output=True, env=environment(TMPDIR=t.dir), timeout=LIMIT)
    out = done.stdout.decode()
    assert done.returncode == 0 and not os.listdir(s.work) and f"tree: {s.work}/tree\n    of: directory\n    by: {t.mode}\n" in out, done
    assert f"words: {s.work}/words\n    of: command\n    by: shim\n" in out and "words" not in s.daemon.instances(), out
    done = subprocess.run(s.run_command("--dry-run"), cwd=s.work, capture_output=True, env=environment(TMPDIR=t.dir, FIXD_DISABLE="1"), timeout=LIMIT)
    assert (done.returncode, done.stdout) == (0, b"FIXD_DISABLE is set: nothing would be shown.\n"), done
    # With a daemon of its own, too.
    ini = t.write("own.ini", f"[fixture f]\ncommand = touch {t.path('built')}\nwarm = yes\npath = f\n[fixture g]\ncommand = echo g\npath = g\n")
    own = [program("fixctl"), "run", "--isolate", t.mode, "--config", ini]
    for more in ["-n"], ["-f", "g", "--", "grep", "g", "g"]:
        done = subprocess.run(own + more, cwd=t.dir, capture_output=True, env=environment(TMPDIR=t.dir), timeout=LIMIT)
        assert done.returncode == 0 and not os.path.exists(t.path("built")), (more, done)
    assert ("Trees are mounted" if t.mode == "mount" else "All is shown by the preloaded library: --isolate=shim") in out, out


def test_words_of_the_daemon(t):
    """Of one of the run's own: before the command, and not on its standard error, however long its teardowns take."""
    ini = t.write("own.ini", "[fixture good]\ncommand = echo good\nteardown = sleep 6; exit 3\npath = good\n[fixture bad]\ncommand = echo why >&2; exit 3\npath = bad\n")
    command = [program("fixctl"), "run", "--isolate", t.mode, "--config", ini]
    done = subprocess.run([*command, "-f", "good", "--", "sh", "-c", "echo out; echo err >&2; cat good"], cwd=t.dir, capture_output=True,
                          env=environment(TMPDIR=t.dir), timeout=LIMIT)
    assert (done.returncode, done.stdout, done.stderr.splitlines()[-1:]) == (0, b"out\ngood\n", [b"err"]), done
    done = subprocess.run([*command, "-f", "bad", "--", "true"], cwd=t.dir, capture_output=True, env=environment(TMPDIR=t.dir), timeout=LIMIT)
    assert done.returncode == 4 and b"why" in done.stderr and b"cannot be built" in done.stderr, done
    t.write("own.ini", "[fixture good]\nkommand = x\n")
    done = subprocess.run([*command, "--", "true"], cwd=t.dir, capture_output=True, env=environment(TMPDIR=t.dir), timeout=LIMIT)
    assert done.returncode == 78 and b"own.ini:2: unknown key 'kommand' (did you mean 'command'?)" in done.stderr, done


def test_static_programs_are_named(t):
    s = stage(t)
    static = t.path("static")
    if subprocess.run(["gcc", "-static", "-o", static, t.write("static.c", "int main(void) { return 0; }")], capture_output=True).returncode:
        raise Skip("nothing can be linked statically here")
    done = s.run(["sh", "-c", f"{static}; {static}; {static}"])
    said = f"{static}: it is linked statically, and does not see the fixtures of the run".encode()
    assert done.err.count(said) == (1 if t.mode == "shim" else 0), done.__dict__
    assert s.run([static]).err.count(said) == (1 if t.mode == "shim" else 0)


WRITES = r"""
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
int main(int n, char **argv)
{
	for (int i = 1; i < n; i++) {
		int fd = open(argv[i], O_WRONLY | O_CREAT | O_TRUNC, 0644);
		if (fd < 0 || write(fd, "static\n", 7) != 7 || close(fd)) return 1;
	}
	return 0;
}
"""


def test_static_programs_write_to_the_runs_own(t):
    """By relative paths, for they see no others: from a shell, from a child after vfork(), before and after other changes."""
    source = t.path("source")
    os.makedirs(source + "/sub/deep")
    for name in ("a", "sub/b", "sub/deep/c"):
        t.write(f"source/{name}", "shared\n")
    s = Stage(t, Fixture("tree", "directory", source, "shown/tree"))
    static = t.path("static")
    if subprocess.run(["gcc", "-static", "-o", static, t.write("static.c", WRITES)], capture_output=True).returncode:
        raise Skip("nothing can be linked statically here")
    show = "cat a sub/b sub/deep/c; ls . sub sub/deep"
    pristine = s.run(["sh", "-c", f"cd shown/tree; {show}"]).out
    spawn = "import os, subprocess, sys; subprocess.run(sys.argv[1:], cwd='sub', check=True); " \
            "os.waitpid(os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ), 0)"
    for command in (f"{static} a sub/b sub/deep/c new sub/new", f"cd sub; {static} ../a b deep/c ../new new; cd ..",
                    f"echo x >sub/x; cd sub/deep; {static} c ../b ../../a; cd ../..", f"cd sub; echo x >../x; exec 3<..; cd deep; {static} ../../a; cd ../..",
                    f"/usr/bin/python3 -c \"{spawn}\" {static} a ../sub/b 2>&1 || :"):
        changed = s.run(["sh", "-c", f"cd shown/tree; {command}; {show}"])
        assert changed.code == 0 and b"static\n" in changed.out, (command, changed.__dict__)
        again = s.run(["sh", "-c", f"cd shown/tree; {show}"])
        assert again.out == pristine, (command, again.__dict__)


RAW = r"""
#include <fcntl.h>
__asm__(".section .note.go.buildid, \"a\", @note\n.balign 4\n.long 4, 4, 4\n.asciz \"Go\\0\"\n.ascii \"x/yz\"\n.previous");
static long raw(long n, long a, long b, long c, long d)
{
	long r;
	register long r10 __asm__("r10") = d;
	__asm__ volatile("syscall" : "=a"(r) : "0"(n), "D"(a), "S"(b), "d"(c), "r"(r10) : "rcx", "r11", "memory");
	return r;
}
int main(int n, char **argv)
{
	for (int i = 1; i < n; i++) {
		long fd = raw(257, AT_FDCWD, (long)argv[i], O_WRONLY | O_CREAT | O_TRUNC, 0644);
		if (fd < 0 || raw(1, fd, (long)"raw\n", 4, 0) != 4) return 1;
	}
	return 0;
}
"""


def test_programs_of_go_write_to_the_runs_own(t):
    """They are linked dynamically, and make their system calls themselves."""
    if os.uname().machine != "x86_64":
        raise Skip("its system calls are those of x86-64")
    s = stage(t)
    raw = t.path("raw")
    subprocess.run(["gcc", "-w", "-o", raw, t.write("raw.c", RAW)], check=True)
    pristine = s.run(["sh", "-c", "cd tree && ls -A; cat $(find . -type f | sort)"])
    changed = s.run(["sh", "-c", f"cd tree && {raw} new; cat new"])
    assert changed.out == b"raw\n", changed.__dict__
    assert (b"it makes its system calls itself" in changed.err) == (t.mode == "shim"), changed.err
    assert s.run(["sh", "-c", "cd tree && ls -A; cat $(find . -type f | sort)"]).out == pristine.out


def test_programs_with_other_rights_write_to_the_runs_own(t):
    """The loader leaves the shim out of a program that changes its user."""
    if os.geteuid() != 0 or t.mode != "shim":
        raise Skip("as another user, without mounts")
    if not can_reach(program("fixctl")):
        raise Skip("nobody cannot reach the build directory")
    os.chmod(t.dir, 0o755)
    for name in ("home", "source"):
        os.makedirs(t.path(name))
        os.chown(t.path(name), NOBODY, NOBODY)
    t.write("source/a", "a\n")
    writes = t.path("writes")
    subprocess.run(["gcc", "-w", "-o", writes, t.write("writes.c", WRITES)], check=True)
    os.chmod(writes, 0o4755)
    ini = t.write("own.ini", f"[fixd]\nroot = {t.path('home')}\n[fixture tree]\ndirectory = {t.path('source')}\npath = tree\n")

    def run(script):
        return run_as([program("fixctl"), "run", "--isolate", "shim", "--config", ini, "--", "sh", "-c", script], t.path("home"), t.path("home"))
    done = run(f"cd tree && {writes} made && ls && cat made")
    assert done.stdout == b"a\nmade\nstatic\n", done
    assert run("ls tree").stdout == b"a\n"
    assert os.listdir(t.path("home")) == []


def test_from_the_working_directory(t):
    """What is asked relative to it is where it is, also when the tree became private meanwhile, or the directory was moved."""
    s = stage(t)
    s.same("cd tree/sub && stat -c '%n %F' c deep deep/d ../a && echo x >new && stat -c '%n %F' c deep deep/d ../a new && "
           "echo y >>c && stat -c '%n %s' c deep/d && cat c deep/d && ls deep", twice=True)
    s.same("cd tree/sub && echo x >new && mv ../sub ../moved && stat -c '%n %F' c new && cat c && mkdir ../sub && echo z >../sub/c && cat c ../sub/c; pwd -P | sed 's/.*tree/tree/'")
    s.same("cd tree/sub && (cd .. && echo x >sub/new && rm sub/c && ln -s deep/d sub/c) && stat -c '%n %F' c new && cat c && stat -Lc %F c")


def test_a_scratch_directory_elsewhere(t):
    """Where TMPDIR cannot be used."""
    s = stage(t)
    t.write("file", "no directory")
    for tmp, why in ("/proc", "No such file or directory"), (t.path("none"), "No such file or directory"), (t.path("file"), "Not a directory"):
        done = subprocess.run([*s.run_command(), "sh", "-c", "echo x >>tree/a && cat tree/a"], cwd=s.work, capture_output=True, timeout=LIMIT,
                              env=environment(TMPDIR=tmp))
        assert (done.returncode, done.stdout) == (0, b"a\nx\n"), done
        assert done.stderr.decode() == f"fixctl: no scratch directory in {tmp}: {why}; /tmp is taken\n", done.stderr


def test_descriptors_of_what_changes(t):
    """A directory that is only a place (O_PATH) stays the same one, and a file by its descriptor has the number that it has by its name."""
    s = stage(t)
    code = ("import os; p = os.open('tree/sub', os.O_PATH); os.rename('tree/sub', 'tree/moved'); print(os.stat('c', dir_fd=p).st_size); os.mkdir('tree/sub'); "
            "print(os.listdir('tree/sub'), os.stat('deep/d', dir_fd=p).st_size); f = open('tree/a', 'a'); f.write('x'); f.flush(); "
            "print(len({os.stat(n).st_ino for n in ('tree/a', f.fileno(), f'/proc/self/fd/{f.fileno()}', f'/dev/fd/{f.fileno()}')}))")
    s.same([sys.executable, "-c", code])


def test_a_tree_of_another_group(t):
    """Of what a user namespace does not know auto makes no mounts."""
    if os.geteuid() != 0 or t.mode != "mount":
        raise Skip("as another user, with mounts")
    if not can_reach(program("fixd")):
        raise Skip("nobody cannot reach the build directory")
    user = NOBODY
    os.chmod(t.dir, 0o755)
    for name in ("work", "tmp", "source"):
        os.makedirs(t.path(name))
        os.chown(t.path(name), user, user)
    t.write("source/a", "a\n")
    os.chown(t.path("source/a"), user, user)
    ini = t.write("own.ini", f"[fixd]\nroot = {t.path('work')}\n[fixture tree]\ndirectory = {t.path('source')}\npath = tree\n")

    def run(group, mode, script="echo b >>tree/a; cat tree/a"):
        daemon_group = ["setpriv", f"--reuid={user}", f"--regid={user}", f"--groups={user},100", "env", "HOME=/", f"TMPDIR={t.path('tmp')}"]
        d = subprocess.Popen([*daemon_group, program("fixd"), "--config", ini, "--socket", t.path("tmp/s")], stderr=subprocess.DEVNULL)
        try:
            wait_for(lambda: os.path.exists(t.path("tmp/s")) or d.poll() is not None, "the daemon")
            return run_as([program("fixctl"), "--socket", t.path("tmp/s"), "run", "--isolate", mode, "--", "sh", "-c", script],
                          t.path("work"), t.path("tmp"), group=group, groups=(user, 100))
        finally:
            d.terminate()
            d.wait(LIMIT)
    assert run(user, "auto").stdout == b"a\nb\n"
    done = run(100, "auto")
    assert done.stdout == b"a\nb\n", done
    refused = run(100, "mount")
    assert refused.returncode == 1 and b"belongs to another user or group than this process" in refused.stderr, refused
    # Of a second group that the user is in, the tree's files and their copies are, too.
    os.chown(t.path("source/a"), user, 100)
    assert run(user, "shim", "stat -c %g tree/a; echo b >>tree/a; stat -c %g tree/a").stdout == b"100\n100\n"


if __name__ == "__main__":
    main(sys.modules[__name__], modes)
