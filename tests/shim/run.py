#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""fixctl run itself: what it passes on, what it refuses, what it leaves behind, and what the shim does for memory."""

import glob
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time

from stage import LIMIT, NOBODY, Fixture, Skip, Stage, can_reach, environment, main, modes, program, wait_for
from harness import BUILD, SANITIZERS, SRC, once


def stage(t, *more, settings=""):
    source = t.path("source")
    os.makedirs(source + "/sub", exist_ok=True)
    t.write("source/a.txt", "hello\n")
    t.write("source/sub/b.txt", "world\n")
    return Stage(t, Fixture("tree", "directory", source, "shown/tree"), Fixture("file", "file", t.write("one", "one\n"), "shown/file"),
                 Fixture("words", "command", "echo words"), *more, settings=settings)


def start(s, command, *options, **more):
    return subprocess.Popen(s.run_command(*options) + command, cwd=s.work, env=environment(TMPDIR=s.t.dir), **more)


def scratch(t):
    return glob.glob(t.path("fixd-run-*"))


def test_exit_status(t):
    s = stage(t)
    for script, code in (("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -TERM $$", 143), ("exit 255", 255)):
        assert s.run(["sh", "-c", script]).code == code, script
    missing = s.run(["no-such-command"])
    assert missing.code == 127 and b"no-such-command: No such file or directory" in missing.err, missing.err
    assert s.run(["/no/such/file"]).code == 127
    assert s.run([t.write("plain", "text")]).code == 126
    assert s.run([t.dir]).code == 126


def test_streams(t):
    s = stage(t)
    done = subprocess.run(s.run_command() + ["sh", "-c", "cat; echo to stderr >&2"], input=b"input", capture_output=True,
                          cwd=s.work, env=environment(TMPDIR=t.dir), timeout=LIMIT)
    assert (done.stdout, done.stderr, done.returncode) == (b"input", b"to stderr\n", 0), done
    # Nobody but the command holds a pipe open.
    process = start(s, ["sh", "-c", "sleep 1000 >/dev/null 2>&1 </dev/null & echo $!"], stdout=subprocess.PIPE)
    pid = int(process.stdout.read())
    assert process.wait(LIMIT) == 0
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not scratch(t), "the scratch directory to go")


def test_signals(t):
    s = stage(t)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
        process = start(s, ["sh", "-c", f"trap 'echo got it; exit 9' {int(number)}; echo ready; while :; do sleep 0.01; done"],
                        stdout=subprocess.PIPE)
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(number)
        assert process.stdout.read() == b"got it\n", number
        assert process.wait(LIMIT) == 9
    s.check_nothing_left()


def test_terminal(t):
    """The command has the terminal; Ctrl-C reaches it once."""
    s = stage(t)
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(s.work)
        command = s.run_command() + ["bash", "-c", "trap 'echo caught; n=1$n' INT; test -t 0 && echo ready; "
                                     "for ((i = 0; i < 300; i++)); do sleep 0.01; test -z \"$n\" || break; done; sleep 0.1; echo $n; exit 5"]
        os.execve(command[0], command, environment(TMPDIR=t.dir))
    said = b""
    sent = False
    while True:
        if select.select([fd], [], [], LIMIT)[0]:
            try:
                more = os.read(fd, 1000)
            except OSError:
                break
            said += more
            if not more:
                break
        if b"ready" in said and not sent:
            os.write(fd, b"\x03")
            sent = True
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 5, said
    assert said.count(b"caught") == 1 and b"\n1\r\n" in said, said
    os.close(fd)


def test_hangup(t):
    """The kernel tells only the leader of the session of it, which is fixctl here."""
    s = stage(t)
    pid, fd = pty.fork()
    if pid == 0:
        os.chdir(s.work)
        command = s.run_command() + ["sh", "-c", f"trap 'echo hup >{t.path('said')}; exit 3' HUP; echo ready; while true; do sleep 0.05; done"]
        os.execve(command[0], command, environment(TMPDIR=t.dir))
    said = b""
    while b"ready" not in said:
        assert select.select([fd], [], [], LIMIT)[0]
        said += os.read(fd, 1000)
    os.close(fd)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 3
    assert open(t.path("said")).read() == "hup\n"


def test_a_run_in_a_run(t):
    """Each has its own: what the inner one writes is gone when it has ended, whatever the modes."""
    s = stage(t)
    inner = " ".join([program("fixctl"), "run", "--isolate"])
    script = "echo changed >>shown/file; echo changed >>shown/tree/a.txt; cat shown/file shown/tree/a.txt; rm shown/tree/sub/b.txt"
    for mode in ("mount", "shim") if t.mode == "mount" else ("shim",):
        done = s.run(["sh", "-c", f"echo outer >>shown/file; {inner} {mode} -- sh -c '{script}'; {inner} {mode} -- sh -c '{script}'; "
                                  "cat shown/file shown/tree/sub/b.txt"])
        assert done.out == b"one\nchanged\nhello\nchanged\n" * 2 + b"one\nouter\nworld\n" and done.code == 0, (mode, done.__dict__)
        s.fresh()
    other = t.write("other.ini", f"[fixture other]\ncommand = echo another\npath = {s.work}/shown/other\n")
    done = s.run(["sh", "-c", f"{inner} shim --config {other} -- cat shown/other; cat shown/file"])
    assert done.out == b"another\none\n", done.__dict__


def test_trees_stay_when_their_daemon_dies(t):
    """Another one that starts then does not take them away."""
    s = stage(t)
    process = start(s, ["sh", "-c", f"echo up >{t.path('up')}; while ! test -e {t.path('go')}; do sleep 0.02; done; cat shown/tree/a.txt shown/tree/sub/b.txt"],
                    stdout=subprocess.PIPE)
    wait_for(lambda: os.path.exists(t.path("up")), "the run")
    s.daemon.kill()
    t.daemon(s.ini)
    t.write("go", "")
    assert process.communicate(timeout=LIMIT)[0] == b"hello\nworld\n" and process.returncode == 0


def test_directories_of_others_are_not_locked(t):
    """Who locks the directory that a fixture is shown in does not wait for a run, nor a run for it."""
    s = stage(t)
    os.makedirs(s.work + "/shown")
    done = subprocess.run(["flock", ".", "flock", "shown"] + s.run_command() + ["sh", "-c", "cat shown/file; flock -n shown/tree true; echo $?"],
                          cwd=s.work, env=environment(TMPDIR=t.dir), capture_output=True, timeout=LIMIT)
    assert done.stdout == b"one\n0\n", done
    done = subprocess.run(s.run_command() + ["flock", "-w", "5", "shown", "echo", "locked"], cwd=s.work, env=environment(TMPDIR=t.dir),
                          capture_output=True, timeout=LIMIT)
    assert done.stdout == b"locked\n", done
    assert os.path.isdir(s.work + "/shown")


def test_programs_and_paths_that_are_odd(t):
    source = t.path("odd")
    os.makedirs(source)
    t.write("odd/prog", "#!/bin/sh\necho run \"$@\"\n")
    os.chmod(source + "/prog", 0o755)
    s = stage(t, Fixture("odd", "directory", source, "eq/a=1"))
    assert s.run(["eq/a=1/prog", "one", "two"]).out == b"run one two\n"
    # A link of somebody's own: what it leads to is not covered.
    s.fresh()
    os.makedirs(s.work + "/real")
    t.write("work/real/precious", "mine\n")
    os.makedirs(s.work + "/shown")
    os.symlink("../real", s.work + "/shown/tree")
    done = subprocess.run([program("fixctl"), "--socket", s.daemon.socket, "run", "--", "cat", "real/precious"], cwd=s.work,
                          env=environment(TMPDIR=t.dir), capture_output=True, timeout=LIMIT)
    assert done.stdout == b"mine\n", done


def test_a_failed_build_is_the_end_of_it(t):
    s = stage(t, Fixture("broken", "command", "echo the disk is on fire >&2; exit 3", "shown/broken"))
    done = s.run(["touch", "started"])
    assert done.code == 4 and b"the disk is on fire" in done.err and b"broken" in done.err, done.err
    assert "started" not in done.left
    # Who does not need it, is not stopped by it.
    done = s.run(["cat", "shown/file"], "--fixture", "file", "--fixture", "wor*")
    assert (done.out, done.code) == (b"one\n", 0), done.err
    done = s.run(["true"], "--fixture", "nothing")
    assert done.code == 1 and b"nothing" in done.err
    assert b"is called so (did you mean 'words'?)" in s.run(["true"], "--fixture", "wrods").err


def test_variables(t):
    many = Fixture("many", "command", "echo $FIXD_PARAM", more="params = a, b.c\n")
    s = stage(t, many)
    done = s.run(["sh", "-c", "cat $FIXD_FIXTURE_words $FIXD_FIXTURE_many_a $FIXD_FIXTURE_many_b_c $FIXD_FIXTURE_file; ls $FIXD_FIXTURE_tree; "
                  "env | grep -c ^FIXD_FIXTURE_; echo $FIXD_SOCKET; test -n \"$FIXD_RUN\" && echo run"])
    assert done.out == f"words\na\nb.c\none\na.txt\nsub\n5\n{s.daemon.socket}\nrun\n".encode(), done
    # A cleared environment is no way out.
    done = s.run(["env", "-i", "sh", "-c", "cat shown/file; cat $FIXD_FIXTURE_words; /usr/bin/env -i /bin/cat shown/tree/a.txt"])
    assert done.out == b"one\nwords\nhello\n", done


def test_private_changes(t):
    """What is written to a fixture without a path, and by two runs at once."""
    s = stage(t)
    script = ("echo $0 > shown/file; echo $0 > shown/tree/new; echo $0 >> $FIXD_FIXTURE_words; touch %s.$0; "
              "while ! test -e %s.$1; do sleep 0.01; done; cat shown/file shown/tree/new $FIXD_FIXTURE_words") % (t.path("at"), t.path("at"))
    pair = [start(s, ["sh", "-c", script, a, b], stdout=subprocess.PIPE) for a, b in ("xy", "yx")]
    for process, name in zip(pair, "xy"):
        assert process.communicate(timeout=LIMIT)[0] == f"{name}\n{name}\nwords\n{name}\n".encode()
    s.check_nothing_left()
    done = s.run(["sh", "-c", "cat shown/file $FIXD_FIXTURE_words; ls shown/tree"])
    assert done.out == b"one\nwords\na.txt\nsub\n", done


def test_directories_that_were_made(t):
    """The last of two runs removes them, and nobody removes what somebody has put something into."""
    s = stage(t)
    first = start(s, ["cat"], stdin=subprocess.PIPE)
    wait_for(lambda: os.path.isdir(s.work + "/shown"), "the first run")
    second = start(s, ["sh", "-c", "cat; cat shown/tree/a.txt"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    wait_for(lambda: len(scratch(t)) == 2 and all(os.path.exists(d + "/table") for d in scratch(t)), "the second run")
    first.communicate()
    wait_for(lambda: len(scratch(t)) == 1, "the end of the first run")
    assert second.communicate()[0] == b"hello\n"
    s.check_nothing_left()
    done = subprocess.run(s.run_command() + ["touch", "shown/mine"], cwd=s.work, env=environment(TMPDIR=t.dir))
    assert done.returncode == 0 and os.listdir(s.work + "/shown") == ["mine"]


def test_directories_that_many_runs_make(t):
    """Runs that begin and end at the same moment: whoever is the last to need a directory removes it."""
    s = stage(t, *[Fixture(f"deep{k}", "command", "echo", f"shown/d{k}/e/f") for k in range(12)])
    for _ in range(30):
        runs = [start(s, ["true"]) for _ in range(4)]
        assert [r.wait(LIMIT) for r in runs] == [0] * 4
        s.check_nothing_left()


def test_a_daemon_of_its_own(t):
    ini = t.write("own.ini", "[fixture f]\ncommand = echo own\npath = here\n")
    os.mkdir(t.path("tmp"))
    command = [program("fixctl"), "run", "--isolate", t.mode, "--config", ini, "--"]
    env = environment(TMPDIR=t.path("tmp"))
    done = subprocess.run(command + ["sh", "-c", "cat here; fixctl=$0; $fixctl status -v | grep -c ready", program("fixctl")],
                          cwd=t.dir, env=env, capture_output=True, timeout=LIMIT)
    assert (done.stdout, done.returncode) == (b"own\n1\n", 0), done
    assert os.listdir(t.path("tmp")) == []
    t.write("own.ini", "[fixture f]\nnonsense = 1\n")
    done = subprocess.run(command + ["true"], cwd=t.dir, env=env, capture_output=True, timeout=LIMIT)
    assert done.returncode == 78 and b"own.ini:2: unknown key 'nonsense'" in done.stderr, done
    done = subprocess.run([program("fixctl"), "--socket", t.path("none"), "run", "true"], env=env, capture_output=True, timeout=LIMIT)
    assert done.returncode == 3 and b"--config" in done.stderr, done
    assert os.listdir(t.path("tmp")) == []


def descendants_of(marker):
    found = []
    for path in glob.glob("/proc/[0-9]*/environ"):
        try:
            with open(path, "rb") as f:
                if marker.encode() in f.read():
                    found.append(int(path.split("/")[2]))
        except OSError:
            pass
    return found


def test_fixctl_is_killed(t):
    """Then the command is, too, and nothing is left: no process, no directory, no daemon."""
    ini = t.write("own.ini", "[fixture f]\ncommand = echo own\npath = made/here\n[fixture d]\ntree = echo x >$FIXD_DIR/x\npath = made/d\n")
    os.mkdir(t.path("tmp"))
    env = environment(TMPDIR=t.path("tmp"), MARKER=t.dir)
    process = subprocess.Popen([program("fixctl"), "run", "--isolate", t.mode, "--config", ini, "--",
                                "sh", "-c", "echo changed > made/here; echo changed > made/d/x; echo ready; exec sleep 1000"],
                               cwd=t.dir, env=env, stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    assert len(descendants_of("MARKER=" + t.dir)) >= 3
    process.kill()
    process.wait()
    wait_for(lambda: not os.listdir(t.path("tmp")), "the scratch directory to go")
    wait_for(lambda: not descendants_of("MARKER=" + t.dir), "all processes to end")
    assert not os.path.exists(t.path("made"))


def test_everything_is_killed(t):
    """Then the next run removes what is left."""
    s = stage(t)
    process = start(s, ["sh", "-c", "echo x > shown/file; echo ready; exec sleep 1000"], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    keepers = [p for p in descendants_of("TMPDIR=" + t.dir) if p != process.pid and
               os.readlink(f"/proc/{p}/exe").endswith("fixctl")]
    assert len(keepers) == 1, keepers
    os.kill(keepers[0], signal.SIGKILL)
    process.kill()
    process.wait()
    wait_for(lambda: [p for p in descendants_of("TMPDIR=" + t.dir)] == [], "all processes to end")
    assert len(scratch(t)) == 1 and os.path.isdir(s.work + "/shown")
    link = scratch(t)[0] + "/copies"
    copies = os.readlink(link) if os.path.lexists(link) else None

    def next_run_removes_it():
        done = subprocess.run(s.run_command() + ["cat", "shown/file"], cwd=s.work, env=environment(TMPDIR=t.dir), capture_output=True)
        assert done.stdout == b"one\n", done
        return not scratch(t) and not os.path.exists(s.work + "/shown")
    wait_for(next_run_removes_it, "the next run to remove what is left")
    assert not copies or not os.path.exists(copies)


def test_a_process_that_is_left_behind(t):
    """The run ends with the command; a process that is left keeps what it has, until it ends."""
    s = stage(t)
    process = start(s, ["sh", "-c", "echo x > shown/file; echo y > shown/tree/new; (exec >/dev/null; while ! test -e go; do sleep 0.01; done; "
                        "cat shown/file shown/tree/new shown/tree/a.txt > result; mv result done) & exit 3"], stdout=subprocess.PIPE)
    assert process.stdout.read() == b"" and process.wait(LIMIT) == 3
    assert len(scratch(t)) == 1
    open(s.work + "/go", "w").close()
    wait_for(lambda: os.path.exists(s.work + "/done"), "the process that was left behind")
    assert open(s.work + "/done").read() == "x\ny\nhello\n"
    wait_for(lambda: not scratch(t), "the scratch directory to go")


def test_the_keeper_is_killed(t):
    """With its daemon the fixtures are gone: the command must not go on without them."""
    ini = t.write("own.ini", "[fixture d]\ntree = echo x >$FIXD_DIR/x\npath = made/d\n")
    os.mkdir(t.path("tmp"))
    env = environment(TMPDIR=t.path("tmp"), MARKER=t.dir)
    process = subprocess.Popen([program("fixctl"), "run", "--isolate", t.mode, "--config", ini, "--", "sh", "-c", "echo ready; exec sleep 1000"],
                               cwd=t.dir, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout.readline() == b"ready\n"
    keepers = [p for p in descendants_of("MARKER=" + t.dir) if p != process.pid and os.readlink(f"/proc/{p}/exe").endswith("fixctl")]
    assert len(keepers) == 1, keepers
    os.kill(keepers[0], signal.SIGKILL)
    assert process.wait(LIMIT) == 1 and b"keeper was killed" in process.stderr.read()
    assert os.listdir(t.path("tmp")) == [] and not os.path.exists(t.path("made"))
    wait_for(lambda: not descendants_of("MARKER=" + t.dir), "all processes to end")


def test_many_runs_at_once(t):
    """They make and remove the same directories, and sweep past each other."""
    s = stage(t)
    command = s.run_command() + ["sh", "-c", "cat shown/file shown/tree/sub/b.txt"]
    os.mkdir(t.path("other"))
    running = []
    for n in range(60):
        env = environment(TMPDIR=t.path("other") if n % 3 == 2 else t.dir)
        running.append(subprocess.Popen(command, cwd=s.work, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE))
        if len(running) == 6:
            done = running.pop(0)
            out, err = done.communicate(timeout=LIMIT)
            assert (out, err, done.returncode) == (b"one\nworld\n", b"", 0), (out, err)
    for done in running:
        out, err = done.communicate(timeout=LIMIT)
        assert (out, err, done.returncode) == (b"one\nworld\n", b"", 0), (out, err)
    s.check_nothing_left()
    assert os.listdir(t.path("other")) == []


def test_another_scratch_directory(t):
    """A run that works elsewhere, and ends earlier, takes nothing away."""
    s = stage(t)
    os.mkdir(t.path("other"))
    first = start(s, ["cat"], stdin=subprocess.PIPE)
    wait_for(lambda: any(os.path.exists(d + "/table") for d in scratch(t)), "the first run")
    second = subprocess.Popen(s.run_command() + ["sh", "-c", "echo x >shown/tree/x; echo ready; read line; cat shown/tree/x shown/tree/a.txt"], cwd=s.work,
                              env=environment(TMPDIR=t.path("other")), stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert second.stdout.readline() == b"ready\n"
    first.communicate()
    assert first.returncode == 0
    assert second.communicate(b"go\n")[0] == b"x\nhello\n"
    s.check_nothing_left()


@once
def test_what_only_looks_like_a_scratch_directory(t):
    s = stage(t)
    for name in ("fixd-run-results", "fixd-run-abcdef"):
        t.write(name + "/log", "precious\n")
        os.utime(t.path(name), (1, 1))
    done = subprocess.run(s.run_command() + ["true"], cwd=s.work, env=environment(TMPDIR=t.dir))
    assert done.returncode == 0 and len(scratch(t)) == 2 and os.path.exists(t.path("fixd-run-abcdef/log"))


def test_many_fixtures(t):
    """More than descriptors that a process usually may have."""
    os.makedirs(t.path("d"))
    t.write("d/x", "x\n")
    ini = "".join(f"[fixture t{n}]\ndirectory = {t.path('d')}\npath = t/{n}/d\n[fixture f{n}]\nfile = {t.path('d/x')}\npath = f/{n}/x\n"
                  for n in range(150))
    os.mkdir(t.path("work"))
    daemon = t.daemon(f"[fixd]\nroot = {t.path('work')}\n" + ini)
    command = ["sh", "-c", "ulimit -Sn 256; exec \"$0\" \"$@\"", program("fixctl"), "--socket", daemon.socket, "run", "--isolate", t.mode, "--",
               "sh", "-c", "cat t/*/d/x f/*/x | wc -l; ulimit -n"]
    done = subprocess.run(command, cwd=t.path("work"), env=environment(TMPDIR=t.dir), capture_output=True)
    assert (done.stdout, done.stderr) == (b"300\n256\n", b""), done
    assert os.listdir(t.path("work")) == [] and not scratch(t)


@once
def test_what_is_inherited(t):
    """Ignored and blocked signals, an alarm, closed streams: as without fixctl."""
    s = stage(t)

    def perl(code, command):
        done = subprocess.run(["perl", "-e", code + "; exec @ARGV"] + s.run_command() + command, cwd=s.work, env=environment(TMPDIR=t.dir),
                              capture_output=True, timeout=LIMIT)
        return done.stdout, done.returncode
    plain = subprocess.run(["perl", "-e", "$SIG{CHLD} = 'IGNORE'; exec @ARGV", "grep", "SigIgn", "/proc/self/status"], capture_output=True).stdout
    assert perl("$SIG{CHLD} = 'IGNORE'", ["grep", "SigIgn", "/proc/self/status"]) == (plain, 0)
    assert perl("alarm 1", ["sleep", "1000"])[1] == 128 + signal.SIGALRM
    look = "'ls /proc/$$/fd/0 /proc/$$/fd/1 >&2; echo in the way; cat shown/file >&2'"
    for closing in ("<&-", "<&- >&-"):
        plain = subprocess.run(["bash", "-c", f"exec {closing}; sh -c 'ls /proc/$$/fd/0 /proc/$$/fd/1 >&2; echo in the way; echo one >&2'"], capture_output=True)
        done = subprocess.run(["bash", "-c", f"exec {closing}; {' '.join(s.run_command())} sh -c {look}"], cwd=s.work, env=environment(TMPDIR=t.dir),
                              capture_output=True)
        a, b = (re.sub(rb"/proc/[0-9]*/", b"/proc/N/", x.stderr) for x in (plain, done))
        assert a == b and plain.stdout == done.stdout, (plain, done)


def test_the_command_is_in_a_fixture(t):
    source = t.path("source")
    os.makedirs(source)
    t.write("source/hello", "#!/bin/sh\necho hello \"$0\" \"$@\"\n")
    os.chmod(source + "/hello", 0o755)
    s = Stage(t, Fixture("bin", "directory", source, "bin"), Fixture("one", "file", source + "/hello", "one"))
    for name in ("bin/hello", "./bin/hello", s.work + "/bin/hello", "one", "./one"):
        if "/" in name:
            assert s.run([name, "a", "b"]).out == f"hello {name} a b\n".encode(), name
    assert s.run(["hello", "x"], PATH=s.work + "/bin:" + os.environ["PATH"]).out.endswith(b" x\n")


@once
def test_options_of_the_command(t):
    s = stage(t)
    assert b"Usage: grep" in s.run(["grep", "--help"]).out
    done = subprocess.run([program("fixctl"), "--socket", s.daemon.socket, "run", "grep", "--help"], cwd=s.work, env=environment(TMPDIR=t.dir), capture_output=True)
    assert b"Usage: grep" in done.stdout
    done = subprocess.run([program("fixctl"), "run", "--help"], env=environment(), capture_output=True)
    assert done.returncode == 0 and b"Usage: fixctl run" in done.stdout


def test_a_file_lies_where_a_tree_is_shown(t):
    if t.mode == "mount":
        mode = "auto"
    else:
        mode = "shim"
    s = stage(t)
    os.makedirs(s.work + "/shown")
    with open(s.work + "/shown/tree", "w") as f:
        f.write("a file\n")
    done = subprocess.run([program("fixctl"), "--socket", s.daemon.socket, "run", "--isolate", mode, "cat", "shown/tree/a.txt"], cwd=s.work,
                          env=environment(TMPDIR=t.dir), capture_output=True)
    assert (done.stdout, done.returncode) == (b"hello\n", 0), done
    assert open(s.work + "/shown/tree").read() == "a file\n"


def test_runs_are_counted(t):
    s = stage(t)
    for n in (1, 2, 3):
        s.run(["true"])
        session = s.daemon.status()["sessions"][0]
        assert session["root"] == s.work and session["total_runs"] == n, session
    assert session["last_run"] > time.time() - 100


def test_fresh(t):
    s = Stage(t, Fixture("count", "command", t.counted("wc -l <" + t.path("runs")), "count"))
    assert [int(s.run(["cat", "count"], *options).out) for options in ([], [], ["--fresh"], [], ["-F"])] == [1, 1, 2, 2, 3]


def test_fresh_is_that_fixture_only(t):
    """A bracket is no set of characters."""
    s = Stage(t, Fixture("db", "command", t.counted("echo x"), more="params = 1, 2"), Fixture("db1", "command", "echo y"))
    s.run(["true"])
    s.run(["true"], "--fresh", "--fixture", "db")
    i = s.daemon.instances()
    assert i["db1"]["builds"] == 1 and i["db1"]["state"] == "ready" and t.runs() == 4, i


def test_scratch_directory_with_a_long_name(t):
    s = stage(t)
    long = t.path("l" * 100)
    os.makedirs(long)
    config = t.write("private.ini", "[fixture f]\ncommand = echo x\n")
    done = subprocess.run([program("fixctl"), "run", "--config", config, "--", "true"], cwd=s.work, env=environment(TMPDIR=long), capture_output=True,
                          timeout=LIMIT)
    assert done.returncode == 1 and b"set TMPDIR" in done.stderr and not os.listdir(long), done
    assert subprocess.run(s.run_command() + ["true"], cwd=s.work, env=environment(TMPDIR=long), timeout=LIMIT).returncode == 0


def test_disabled(t):
    s = stage(t)
    done = s.run(["sh", "-c", "ls; echo $LD_PRELOAD $FIXD_RUN; exit 6"], FIXD_DISABLE="1")
    assert (done.out, done.code) == (b"\n", 6), done


@once
def test_misuse(t):
    for arguments, words in ((["run"], b"a command is missing"), (["run", "--isolate=chroot", "true"], b"expected one of auto, mount, shim"),
                             (["run", "--timeout=soon", "true"], b"--timeout soon"), (["run", "--nonsense", "true"], b"nonsense"),
                             (["--socket", "x", "run", "--config", "y", "true"], b"--socket")):
        done = subprocess.run([program("fixctl"), *arguments], env=environment(), capture_output=True, timeout=LIMIT)
        assert done.returncode == 2 and words in done.stderr, done


@once
def test_config_of_paths(t):
    def problem(text, *words):
        ini = t.write("bad.ini", text)
        done = subprocess.run([program("fixd"), "--config", ini, "--check"], capture_output=True, timeout=LIMIT)
        assert done.returncode == 78 and all(w in done.stderr.decode() for w in words), done
    problem("[fixture a]\ncommand = x\npath = d\n[fixture b]\ncommand = y\npath = d/e/../f\n", ":6:", "lies in the path of [fixture a]")
    problem("[fixture a]\ncommand = x\npath = d\n[fixture b]\ncommand = y\npath = ./d\n", "lies in the path of")
    problem("[fixture a]\ncommand = x\npath = /\n", ":3:", "path = /")
    problem("[fixture a]\ncommand = x\npath = d\nscope = module\n", "path is for fixtures of scope session")
    problem("[fixture a]\ncommand = x\npath = d\nparams = 1, 2\n", "path is for fixtures of scope session without params")
    problem("[fixture a]\nclient = yes\npath = d\n", "path is for")
    t.write("good.ini", "[fixture a]\ncommand = x\npath = d/e\n[fixture b]\ncommand = y\npath = d/ee\n")
    assert subprocess.run([program("fixd"), "--config", t.path("good.ini"), "--check"]).returncode == 0


def as_nobody(command, **more):
    return subprocess.run(command, user=NOBODY, group=NOBODY, extra_groups=[], capture_output=True, timeout=LIMIT, **more)


def test_another_user(t):
    """Without privileges, with a daemon of one's own and with one of root."""
    if os.geteuid() != 0:
        raise Skip("only root can become somebody else")
    if not os.access(program("fixctl"), os.X_OK) or not can_reach(program("fixctl")):
        raise Skip("nobody cannot reach the build directory")
    os.chmod(t.dir, 0o755)
    os.mkdir(t.path("home"))
    os.chown(t.path("home"), NOBODY, NOBODY)
    source = t.path("source")
    os.makedirs(source)
    t.write("source/a.txt", "hello\n")
    ini = t.write("own.ini", f"[fixd]\nroot = {t.path('home')}\nallow-users = nobody\n[fixture d]\ndirectory = {source}\npath = d\n"
                  "[fixture f]\ncommand = echo f\npath = f\n")
    script = "id -u; cat d/a.txt f; echo more >> d/a.txt; cat d/a.txt; touch d/new; ls d; stat -c %u d/new; rm d/a.txt; ls d; echo g > f; cat f; test -O d && echo own"
    wanted = b"%d\nhello\nf\nhello\nmore\na.txt\nnew\n%d\nnew\ng\nown\n" % (NOBODY, NOBODY)
    env = environment(TMPDIR=t.path("home"), HOME=t.path("home"))
    command = [program("fixctl"), "run", "--isolate", t.mode, "--config", ini, "--", "sh", "-c", script]
    if t.mode == "mount":
        probe = as_nobody([program("fixctl"), "doctor"], env=env).stdout.decode()
        if "lacks mounts" in probe:
            raise Skip("no user namespaces: " + probe.split("lacks mounts: ")[1].splitlines()[0])
    done = as_nobody(command, env=env, cwd=t.path("home"))
    assert (done.stdout, done.stderr, done.returncode) == (wanted, b"", 0), done
    assert os.listdir(t.path("home")) == []
    daemon = t.daemon(open(ini).read())
    command = [program("fixctl"), "--socket", daemon.socket, "run", "--isolate", "auto" if t.mode == "mount" else "shim", "--", "sh", "-c", script]
    done = as_nobody(command, env=env, cwd=t.path("home"))
    assert (done.stdout, done.stderr, done.returncode) == (wanted, b"", 0), done
    if t.mode == "mount":
        done = as_nobody(command[:4] + ["--isolate=mount", "true"], env=env, cwd=t.path("home"))
        assert done.returncode == 1 and b"belongs to another user" in done.stderr, done
    assert os.listdir(t.path("home")) == []


def test_privileges_given_up(t):
    """By a process of root's run, before and after the first change; and nobody outside of the run sees more than before."""
    if os.geteuid() != 0:
        raise Skip("only root has any")
    if not can_reach(program("fixctl")):
        raise Skip("nobody cannot reach the build directory")
    os.chmod(t.dir, 0o755)
    source = t.path("source")
    os.makedirs(source + "/sub")
    os.makedirs(source + "/closed")
    for name in "a", "sub/b", "secret", "closed/c":
        t.write("source/" + name, f"{name}\n")
    os.chmod(source + "/secret", 0o600)
    os.chmod(source + "/closed", 0o700)
    s = Stage(t, Fixture("tree", "directory", source, "tree"), Fixture("file", "file", t.write("file", "file\n"), "file"))
    looks = "cat tree/a tree/sub/b tree/new tree/secret tree/closed/c file; ls tree/closed; stat -c %A,%U,%n tree/*; echo x >>tree/a; echo x >file; rm tree/a; id -u"
    for change in "true", "echo more >>tree/a; echo more >>file; echo new >tree/new", "echo more >>tree/closed/c; chmod 640 tree/sub/b":
        s.same(f"{change}; setpriv --reuid=65534 --regid=65534 --clear-groups sh -c '{looks}'; cat tree/a")
    out = s.run(["sh", "-c", "echo more >>tree/a; cd ..; setpriv --reuid=65534 --regid=65534 --clear-groups env -u LD_PRELOAD ls fixd-run-*"]).err
    assert b"Permission denied" in out, out


PLUGIN = r"""
#include <fixd-builder.h>
#include <string.h>
struct node { struct node *next; char *word; };
int fixd_build(struct fixd_builder *b)
{
	struct node *first = 0;
	for (int i = 0; i < 1000; i++) {
		struct node *n = fixd_alloc(b, sizeof *n);
		n->next = first;
		n->word = strcpy(fixd_alloc(b, 8), "wordwor");
		first = n;
	}
	fixd_set_root(b, first);
	return 0;
}
"""

MEMORY = r"""
#include <errno.h>
#include <fixd.h>
#include <malloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>
struct node { struct node *next; char *word; };
static void handler(int sig, siginfo_t *si, void *context)
{
	(void)context;
	static const char said[] = "the program's own handler\n";
	if (write(1, said, sizeof said - 1) < 0 || sig != SIGSEGV || !si->si_addr) _exit(9);
	_exit(7);
}
int main(int argc, char **argv)
{
	struct fixd_options o = { .size = sizeof o, .flags = !strcmp(argv[1], "fork") ? FIXD_COW : FIXD_RO };
	struct fixd *f;
	struct fixd_view *v;
	struct node *n;
	char *p;
	(void)argc;
	if (fixd_open(&f, NULL) < 0 || fixd_attach(f, "objects", &o, &v) < 0) return 2;
	n = fixd_view_root(v);
	if (!strcmp(argv[1], "free")) {
		for (struct node *x = n, *next; x; x = next) { next = x->next; free(x->word); free(x); }
		if (malloc_usable_size(n) != 0 || strcmp(n->word, "wordwor")) return 3;
		p = realloc(n->word, 100);
		if (p == n->word || strcmp(p, "wordwor")) return 4;
		strcpy(p, "mine"); free(p);
		p = reallocarray(n->word, 10, 20);
		if (p == n->word || strcmp(p, "wordwor")) return 5;
		free(p);
		if (realloc(n->word, 0) || (p = malloc(10)) == NULL || malloc_usable_size(p) < 10) return 6;
		errno = 0;
		volatile size_t much = (size_t)-1;
		if (reallocarray(n->word, much, 2) || errno != ENOMEM) return 10;
		p = realloc(p, 50); free(p); free(NULL);
		puts("as it should");
	} else if (!strcmp(argv[1], "fault")) {
		n->word[3] = 'x';
	} else if (!strcmp(argv[1], "handler")) {
		struct sigaction a = { .sa_sigaction = handler, .sa_flags = SA_SIGINFO }, old;
		if (sigaction(SIGSEGV, NULL, &old) < 0 || old.sa_handler != SIG_DFL) return 11;
		sigaction(SIGSEGV, &a, &old);
		if (old.sa_handler != SIG_DFL || signal(SIGSEGV, SIG_DFL) == SIG_DFL || sigaction(SIGSEGV, &a, NULL) < 0) return 12;
		n->word[3] = 'x';
	} else if (!strcmp(argv[1], "null")) {
		raise(SIGSEGV);
	} else {
		n->word[0] = 'W';
		fflush(NULL);
		if (fork() == 0) { printf("child %s\n", n->word); fflush(stdout); _exit(0); }
		wait(NULL);
		printf("parent %s\n", n->word);
	}
	fixd_detach(v);
	fixd_close(f);
	return 0;
}
"""


def memory_program(t, *flags):
    """With an address sanitizer of its own the program is as good as any other here."""
    c = t.write("memory.c", MEMORY)
    to = t.path("memory" + "".join(f for f in flags if f.isalpha()))
    flags += tuple("-fsanitize=" + s for s in SANITIZERS)
    subprocess.run([os.environ.get("CC", "cc").split()[0], "-g", "-o", to, c, "-I", os.path.join(SRC, "include"),
                    "-L", os.path.join(BUILD, ".libs"), "-lfixd", "-Wl,--no-as-needed", "-lfixd-free", "-Wl,-rpath," + os.path.join(BUILD, ".libs"), *flags], check=True)
    return to


def objects(t):
    return Stage(t, Fixture("objects", "plugin", t.plugin("objects", PLUGIN)))


def test_memory_of_views(t):
    if SANITIZERS:
        raise Skip("the address sanitizer has a malloc of its own inside")
    s = objects(t)
    done = s.run([memory_program(t), "free"])
    assert (done.out, done.code) == (b"as it should\n", 0), done.__dict__
    # A malloc that comes as a library.
    done = s.run([memory_program(t, "-l:libjemalloc.so.2"), "free"])
    assert (done.out, done.code) == (b"as it should\n", 0), done.__dict__


def test_write_to_a_read_only_view(t):
    if SANITIZERS:
        raise Skip("the address sanitizer reports it itself")
    s = objects(t)
    memory = memory_program(t)
    done = s.run([memory, "fault"])
    assert done.code == 128 + signal.SIGSEGV and b"fixd: objects: write to a read-only view, at offset 0x" in done.err, done.__dict__
    done = s.run([memory, "handler"])
    assert (done.code, done.out) == (7, b"the program's own handler\n") and b"fixd: objects: write" in done.err, done.__dict__
    done = s.run([memory, "null"])
    assert done.code == 128 + signal.SIGSEGV and done.err == b"", done.__dict__


def test_views_of_a_forked_child(t):
    if SANITIZERS:
        raise Skip("the program is not sanitized")
    s = objects(t)
    memory = memory_program(t)
    assert s.run([memory, "fork"]).out == b"child Wordwor\nparent Wordwor\n"
    assert s.run([memory, "fork"], "--reset-on-fork").out == b"child wordwor\nparent Wordwor\n"


def test_who_changes_a_view(t):
    if SANITIZERS:
        raise Skip("the program is not sanitized")
    s = objects(t)
    done = s.run([memory_program(t), "fork"], "--blame")
    assert done.out == b"child Wordwor\nparent Wordwor\n", done.__dict__
    assert re.fullmatch(rb"fixd: 'objects' is changed: 1 byte at offset 0x[0-9a-f]+(, \w+( \+ 0x[0-9a-f]+)?)?, 77 became 57\nfixd:   first written at [^\n]* in main\(\)\n",
                        done.err), done.err
    done = s.run([memory_program(t), "fault"], "--blame")
    assert done.code == 128 + signal.SIGSEGV and re.search(rb"fixd: 'objects' is read-only, and was to be changed at offset 0x[0-9a-f]+(, \w+( \+ 0x[0-9a-f]+)?)?\n"
                                                           rb"fixd:   first written at [^\n]* in main\(\)\n", done.err), done.err


SANITIZED = r"""
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
int main(int argc, char **argv)
{
	char line[100] = "", *p = malloc(10);
	FILE *f = fopen("shown/tree/a.txt", "r");
	if (!f || !fgets(line, sizeof line, f)) return 2;
	fclose(f);
	fputs(line, stdout);
	fflush(stdout);
	if (argc > 1 && !strcmp(argv[1], "again")) return system("cat shown/file; ./again/none || true");
	if (argc > 1) p[atoi(argv[1])] = 1;
	free(p);
	return 0;
}
"""


def test_address_sanitizer(t):
    """Its runtime comes first, where a program wants that, and nowhere else."""
    s = stage(t)
    c, to = t.write("sanitized.c", SANITIZED), t.path("sanitized")
    subprocess.run(["gcc", "-g", "-fsanitize=address", "-o", to, c], check=True)
    done = s.run([to])
    assert (done.out, done.err, done.code) == (b"hello\n", b"", 0), done.__dict__
    done = s.run(["sh", "-c", f"{to}; {to} again 2>/dev/null; echo; echo $LD_PRELOAD | grep -c libasan"])
    assert (done.out, done.err) == (b"hello\nhello\none\n\n0\n", b""), done.__dict__
    # Also where a program that wants none was before.
    done = s.run(["sh", "-c", f"cp /usr/bin/true now; for n in 1 2 3; do ./now; done; cp {to} now; ./now; cp /usr/bin/echo now; ./now $LD_PRELOAD; "
                              f"mv now then; cp {to} now; ./now"])
    out = done.out.decode().splitlines()
    assert (out[0], out[2], done.err) == ("hello", "hello", b"") and "libasan" not in out[1], done.__dict__
    # And where somebody has asked for it, by its name or path, with what there was or without.
    library = t.path("module.so")
    subprocess.run(["gcc", "-shared", "-fPIC", "-fsanitize=address", "-o", library, t.write("module.c", "int three(void) { return 3; }\n")], check=True)
    opens = t.write("opens.py", f"import ctypes\nprint(ctypes.CDLL('{library}').three())\n")
    soname = next(word for word in subprocess.run(["readelf", "-d", library], capture_output=True, text=True).stdout.split() if "libasan.so" in word).strip("[]")
    path = subprocess.run(["gcc", "-print-file-name=libasan.so"], capture_output=True, text=True).stdout.strip()
    for value in (soname, path, f"{soname} $LD_PRELOAD", f"{path}:$LD_PRELOAD", f"$LD_PRELOAD:{path}"):
        done = s.run(["sh", "-c", f"LD_PRELOAD=\"{value}\" {sys.executable} {opens} && LD_PRELOAD=\"{value}\" sh -c '{sys.executable} {opens}; cat shown/file; {to}'"],
                     ASAN_OPTIONS="detect_leaks=0")
        assert (done.out, done.err) == (b"3\n3\none\nhello\n", b""), (value, done.__dict__)
    done = s.run([sys.executable, opens], LD_PRELOAD=soname, ASAN_OPTIONS="detect_leaks=0")
    assert (done.out, done.err) == (b"3\n", b""), done.__dict__
    done = s.run([to, "10"])
    assert done.code == 1 and b"heap-buffer-overflow" in done.err and b"sanitized.c" in done.err, done.__dict__


SPAWNS = r"""
#include <spawn.h>
#include <stddef.h>
#include <sys/wait.h>
extern char **environ;
int main(int argc, char **argv)
{
	pid_t pid;
	for (int n = 0; n < 5; n++)
		if (posix_spawn(&pid, argv[1], NULL, NULL, argv + 1, environ) != 0 || waitpid(pid, NULL, 0) < 0) return 1;
	return argc == 2 ? 0 : 1;
}
"""


@once
def test_programs_are_looked_into_once(t):
    """By whoever is first; of those that were changed just now nobody believes it."""
    if not shutil.which("strace"):
        raise Skip("strace is not installed")
    s = stage(t)
    c, to = t.write("spawns.c", SPAWNS), t.path("spawns")
    subprocess.run(["gcc", "-w", "-o", to, c], check=True)
    shutil.copy("/usr/bin/true", t.path("new"))
    for program_, looks in (("/usr/bin/true", 1), (t.path("new"), 10)):
        done = s.run(["sh", "-c", f"for n in 1 2; do strace -e trace=openat -o {t.path('trace')}$n {to} {program_} || exit 1; done"])
        assert done.code == 0, done.__dict__
        lines = "".join(open(t.path(f"trace{n}")).read() for n in (1, 2)).splitlines()
        assert len([line for line in lines if f'"{program_}"' in line]) == looks, lines


STATIC = r"""
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>
#include <sys/syscall.h>
/* Past libc, as Go's runtime does it. */
static long kernel(long n, long a, long b, long c)
{
#ifdef __x86_64__
	long r;
	register long fourth __asm__("r10") = 0;
	__asm__ volatile("syscall" : "=a"(r) : "0"(n), "D"(a), "S"(b), "d"(c), "r"(fourth) : "rcx", "r11", "memory");
	return r;
#else
	return syscall(n, a, b, c, 0);
#endif
}
int main(void)
{
	char line[100];
	int fd = (int)kernel(SYS_openat, AT_FDCWD, (long)"shown/tree/a.txt", O_RDWR | O_APPEND);
	if (fd < 0 || kernel(SYS_write, fd, (long)"more\n", 5) != 5 || lseek(fd, 0, SEEK_SET) != 0) return 2;
	ssize_t n = kernel(SYS_read, fd, (long)line, sizeof line);
	if (n > 0) kernel(SYS_write, 1, (long)line, n);
	fd = (int)kernel(SYS_openat, AT_FDCWD, (long)"shown/file", O_RDONLY);
	n = fd < 0 ? 0 : kernel(SYS_read, fd, (long)line, sizeof line);
	if (n > 0) kernel(SYS_write, 1, (long)line, n);
	return 0;
}
"""


def test_static_and_raw_programs(t):
    """The kernel shows them trees."""
    if t.mode != "mount":
        raise Skip("the shim is not seen by them; the manual says so")
    s = stage(t)
    c = t.write("static.c", STATIC)
    for name, flags in (("static", ["-static"]), ("raw", [])):
        subprocess.run(["gcc", "-o", t.path(name), c, *flags], check=True)
        done = s.run(["sh", "-c", f"{t.path(name)}; cat shown/tree/a.txt"])
        assert (done.out, done.code) == (b"hello\nmore\nhello\nmore\n", 0), done.__dict__
        # With a file on the disk to cover, they can read the fixture there.
        os.makedirs(s.work + "/shown")
        with open(s.work + "/shown/file", "w") as f:
            f.write("on disk\n")
        done = subprocess.run(s.run_command() + [t.path(name)], cwd=s.work, env=environment(TMPDIR=t.dir), capture_output=True)
        assert done.stdout == b"hello\nmore\none\n", done
        assert open(s.work + "/shown/file").read() == "on disk\n"
        s.fresh()


def test_what_lies_on_the_disk_is_covered(t):
    s = stage(t)
    os.makedirs(s.work + "/shown/tree/mine")
    with open(s.work + "/shown/file", "w") as f:
        f.write("on disk\n")
    done = subprocess.run(s.run_command() + ["sh", "-c", "cat shown/file; ls shown shown/tree; rm -r shown/tree/sub; echo x >shown/file; rm shown/file; ls shown"],
                          cwd=s.work, env=environment(TMPDIR=t.dir), capture_output=True)
    assert done.stdout == b"one\nshown:\nfile\ntree\n\nshown/tree:\na.txt\nsub\ntree\n", done
    assert os.listdir(s.work + "/shown/tree") == ["mine"] and open(s.work + "/shown/file").read() == "on disk\n"


def test_a_project_below_dev(t):
    """Where the kernel has names of its own, too, and where trees of fixtures lie."""
    work = tempfile.mkdtemp(prefix="fixd-test-", dir="/dev/shm")
    try:
        os.makedirs(work + "/tree/sub")
        for name, text in (("fixd.ini", "[fixture t]\ndirectory = tree\npath = tree\n[fixture made]\ntree = echo made >$FIXD_DIR/a\npath = made\n"),
                           ("tree/a", "a\n"), ("tree/b", "b\n")):
            with open(os.path.join(work, name), "w") as f:
                f.write(text)
        script = "cat made/a; echo more >>tree/a; rm tree/b; echo new >tree/sub/new; cat $PWD/tree/a; ls tree tree/sub; cat /dev/fd/0 </dev/null >/dev/stdout"
        done = subprocess.run([program("fixctl"), "run", "--isolate", t.mode, "-c", "fixd.ini", "--changes", "--", "sh", "-c", script], cwd=work,
                              capture_output=True, env=environment(TMPDIR=t.dir), timeout=LIMIT)
        assert done.stdout == b"made\na\nmore\ntree:\na\nsub\n\ntree/sub:\nnew\n" and done.returncode == 0, done
        assert {line.split()[0] for line in done.stderr.splitlines()} == {b"changed", b"deleted", b"new"}, done
        assert os.listdir(work + "/tree/sub") == [] and open(work + "/tree/a").read() == "a\n" and os.path.exists(work + "/tree/b")
    finally:
        shutil.rmtree(work)


def test_the_way_there_is_a_link(t):
    """The shell's working directory, or the path in fixd.ini, goes through a symbolic link."""
    s = stage(t)
    os.symlink(s.work, t.path("link"))
    for script in (f"cat {t.path('link')}/shown/file; ls {t.path('link')}/shown; cd shown/tree; pwd; cat $PWD/a.txt; /bin/pwd; cat ../file",):
        done = subprocess.run(s.run_command() + ["sh", "-c", script], cwd=t.path("link"), capture_output=True,
                              env=environment(TMPDIR=t.dir, PWD=t.path("link")))
        assert done.stdout == f"one\nfile\ntree\n{t.path('link')}/shown/tree\nhello\n{s.work}/shown/tree\none\n".encode(), done


LIBRARY = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
int other(void);
static int count;
int counted(void) { return ++count + other(); }
const char *file(void) { Dl_info info; return dladdr(&count, &info) ? info.dli_fname : "none"; }
"""

LOADER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
static void *load(const char *path, int flags)
{
	void *l = dlopen(path, RTLD_NOW | flags);
	int (*counted)(void) = l ? (int (*)(void))dlsym(l, "counted") : 0;
	const char *(*file)(void) = l ? (const char *(*)(void))dlsym(l, "file") : 0;
	const char *name = file ? file() : "";
	printf("%s: %d %s\n", path, counted ? counted() : -1, strrchr(name, '/') ? name : "");
	if (!l && !dlerror()) puts("no error");
	return l;
}
int main(int argc, char **argv)
{
	char here[4096];
	void *one, *two;
	one = load("shown/libs/libx.so", 0);
	two = load("./shown/../shown/libs/libx.so", 0);
	printf("%d\n", one && one == two);
	/* Whatever happens to the tree, what is loaded is what it is. */
	close(open("shown/libs/new", O_WRONLY | O_CREAT, 0600));
	rename("shown/libs/libx.so", "shown/libs/liby.so");
	two = load("shown/libs/libx.so", RTLD_NOLOAD);
	printf("%d\n", one == two);
	strcat(getcwd(here, 4000), "/shown/lib.so");
	load(here, 0);
	load("shown/lib.so", 0);
	printf("%d\n", dlmopen(LM_ID_NEWLM, "shown/libs/liby.so", RTLD_NOW) != NULL);
	load("shown/libs/none.so", 0);
	load("shown/libs/liby.so/none.so", 0);
	load("shown/libs/text", 0);
	load("libx.so", 0);
	load("libnone.so", 0);
	printf("%d\n", dlopen(NULL, RTLD_NOW) != NULL && dlopen("libm.so.6", RTLD_NOW) != NULL);
	return 0;
}
"""


def library(t, name, text, *flags):
    os.makedirs(os.path.dirname(t.path(name)), exist_ok=True)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", t.path(name), t.write(os.path.basename(name) + ".c", text), *flags], check=True)
    return t.path(name)


def test_libraries(t):
    """Those in fixtures, and those that are found by what the loader knows of the program: it must be the caller."""
    here = os.path.dirname(library(t, "libs/libother.so", "int other(void) { return 100; }"))
    library(t, "libs/libx.so", LIBRARY, "-L" + here, "-lother", "-Wl,-rpath,$ORIGIN")
    t.write("libs/text", "text\n")
    single = library(t, "single.so", LIBRARY + "int other(void) { return 200; }")
    # In a directory that only the program's RUNPATH names.
    library(t, "program/sub/libx.so", LIBRARY + "int other(void) { return 300; }")
    os.makedirs(t.path("program"), exist_ok=True)
    c, to = t.write("loader.c", LOADER), t.path("program/loader")
    subprocess.run(["gcc", "-w", "-o", to, c, "-Wl,--enable-new-dtags,-rpath,$ORIGIN/sub"], check=True)
    s = Stage(t, Fixture("libs", "directory", here, "shown/libs"), Fixture("lib", "file", single, "shown/lib.so"))
    done = s.same([to])
    assert b"libx.so: 301" in done.out and b"shown/lib.so: 202" in done.out, done.out
    assert done.out.count(b"\n1\n") == 4, done.out


REFUSED = r"""
import ctypes, os, socket
libc = ctypes.CDLL(None, use_errno=True)
def refused(what, r):
    print(what, r, os.strerror(ctypes.get_errno()))
refused("fanotify_mark", libc.fanotify_mark(-1, 1, ctypes.c_uint64(2), -100, b"shown/tree/sub"))
refused("fanotify_mark", libc.fanotify_mark(-1, 1, ctypes.c_uint64(2), os.open("shown/file", os.O_RDONLY), None))
try:
    socket.socket(socket.AF_UNIX).bind("shown/tree/" + 90 * "x")
except OSError as e:
    print("bind", e.strerror)
"""


def test_refusals(t):
    """What cannot be shown as it should be."""
    if t.mode == "mount":
        raise Skip("the kernel shows trees, and refuses nothing")
    s = stage(t)
    done = s.run(["python3", "-c", REFUSED])
    assert done.out.splitlines() == [b"fanotify_mark -1 Read-only file system"] * 2 + [b"bind Read-only file system"], done.__dict__
    wanted = [r"shown/tree/sub: fanotify_mark\(\)", r".*/shown/file: fanotify_mark\(\)", r"tree: shown/tree/x*: bind\(\)"]
    for line, what in zip(done.err.decode().splitlines(), wanted, strict=True):
        assert re.fullmatch(f"fixd: {what} cannot be done on a fixture here .*", line), done.err


UNCOVERED = r"""
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	struct stat st;
	int fds[4];
	for (int i = 0; i < 100; i++) {
		if (i == 1) write(2, "begin\n", 6); /* the first ones are asked for what the others know then */
		fds[0] = open(argv[1], O_RDONLY); fds[1] = open("other", O_RDONLY); fds[2] = openat(AT_FDCWD, "./sub/../other", O_RDONLY);
		stat(argv[1], &st); stat("other", &st); lstat("sub/none", &st); fstat(fds[0], &st); access("other", R_OK);
		for (int k = 0; k < 3; k++) close(fds[k]);
	}
	write(2, "end\n", 4);
	return argc == 2 ? 0 : 1;
}
"""


CLOSES = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
#include <sys/wait.h>
/* What a child between vfork() and exec closes, its parent still has; and what is closed in a range is not known any more. */
int main(void)
{
	char line[8] = "";
	int tree = open("shown/tree", O_RDONLY | O_DIRECTORY), fd, status;
	pid_t pid = vfork();
	if (pid == 0) { close_range(3, ~0u, 0); _exit(0); }
	if (waitpid(pid, &status, 0) != pid || status) return 2;
	fd = openat(tree, "a.txt", O_RDONLY);
	if (fd < 0 || read(fd, line, 1) != 1) return 3;
	close_range(3, ~0u, 0);
	if (open("/usr", O_RDONLY | O_DIRECTORY) != tree) return 4;
	return openat(tree, "a.txt", O_RDONLY) < 0 && openat(tree, "bin", O_RDONLY | O_DIRECTORY) >= 0 ? 0 : 5;
}
"""


def test_closing_many(t):
    s = stage(t)
    c, to = t.write("closes.c", CLOSES), t.path("closes")
    subprocess.run(["gcc", "-w", "-o", to, c], check=True)
    done = s.run([to])
    assert (done.code, done.err) == (0, b""), done.__dict__


@once
def test_start_touches_one_page(t):
    """All variables of the shim, so that the loader has little to do."""
    headers = subprocess.run(["readelf", "-lW", os.path.join(BUILD, ".libs", "libfixd-preload.so")], capture_output=True, text=True, check=True).stdout
    address, size = next((int(f[2], 16), int(f[5], 16)) for f in map(str.split, headers.splitlines()) if f[:1] == ["LOAD"] and "W" in f[6])
    assert address % 4096 + size <= 4096, headers


@once
def test_uncovered_paths_cost_no_system_call(t):
    s = stage(t)
    c, to = t.write("uncovered.c", UNCOVERED), t.path("uncovered")
    subprocess.run(["gcc", "-w", "-o", to, c], check=True)
    if subprocess.run(["which", "strace"], capture_output=True).returncode:
        raise Skip("strace is not installed")

    def calls(prefix):
        os.makedirs(s.work + "/sub", exist_ok=True)
        open(s.work + "/other", "w").close()
        trace = t.path("trace")
        subprocess.run(prefix + ["strace", "-o", trace, to, to], cwd=s.work, env=environment(TMPDIR=t.dir), stderr=subprocess.DEVNULL, check=True)
        lines = open(trace).read().splitlines()
        first = next(i for i, line in enumerate(lines) if "begin" in line)
        last = next(i for i, line in enumerate(lines) if '"end' in line)
        return last - first
    assert calls([]) == calls(s.run_command()), (calls([]), calls(s.run_command()))


if __name__ == "__main__":
    main(sys.modules[__name__], modes)
