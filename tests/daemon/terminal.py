#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What fixctl shows to people: in a terminal of some size, in colours, in lines that fit."""

import fcntl
import json
import os
import pty
import re
import signal
import struct
import sys
import termios
import unicodedata

import harness
from harness import exit_code, once, wait_for

COLOR = re.compile(r"\x1b\[[0-9;]*m")


class Terminal:
    """A fixctl in a terminal of its own."""

    def __init__(self, d, *args, columns=80, lines=24, env=None, directory=None):
        self.pid, self.fd = pty.fork()
        self.seen = ""
        if self.pid == 0:
            os.chdir(directory or ".")
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
            os.execve(harness.program("fixctl"), ["fixctl", "-s", d.socket, *args], {**harness.process_environment(), "NO_COLOR": "", **(env or {})})
        harness.CHILDREN.append(self.pid)

    def read(self):
        """False: it has ended."""
        try:
            self.seen += os.read(self.fd, 65536).decode(errors="replace")
            return True
        except OSError:
            return False

    def finish(self, code=0):
        while self.read():
            pass
        os.close(self.fd)
        ended = exit_code(self.pid)
        assert ended == code, (ended, self.seen)
        return self.seen.replace("\r\n", "\n")


INI = """[fixture corpus]
command = printf words
[fixture gated]
command = cat gate
[fixture broken]
command = printf 'why\\033[31m %s\\n' "$(seq -s ' ' 200)" >&2; exit 1
[fixture a-name-that-is-so-long-that-no-terminal-has-room-for-it-beside-the-figures]
file = input
[fixture held]
command = echo held
[fixture other]
command = echo other
[fixture server]
service = echo up; exec sleep 1000
ready = line
clones = 1
"""


def some_of_each(t):
    """A daemon with something in each state; what is gated is being built until somebody writes to `gate`."""
    os.mkfifo(t.path("gate"))
    t.write("input", "one\n")
    d = t.daemon(INI)
    c = d.client()
    d.ctl("warm", "corpus", "broken", "a-name*", "other", code=4)
    views = [c.attach("held"), c.attach("server")]
    t.write("input", "two\n")
    wait_for(lambda: d.instance("a-name-that-is-so-long-that-no-terminal-has-room-for-it-beside-the-figures")["state"] == "stale", "it to be stale")
    waiting = t.child(lambda: harness.Client(d.socket).read("gated") == b"")
    wait_for(lambda: d.instances().get("gated", {}).get("state") == "building", "the build")
    return d, views, waiting


def end(t, views, waiting):
    with open(t.path("gate"), "w"):
        pass
    for view in views:
        view.detach()
    assert exit_code(waiting) == 0


def test_ps(t):
    d, views, waiting = some_of_each(t)
    lines = d.ctl("ps").out.splitlines()
    assert lines[0].split() == ["FIXTURE", "STATE", "AGE", "SIZE", "BUILD", "REUSED", "HELD"], lines[0]
    assert [line.split()[0] for line in lines[1:]] == ["gated", "broken", "a-name-that-is-so-long-that-no-terminal-has-room-for-it-beside-the-figures",
                                                       "held", "server", "corpus", "other"], lines
    assert lines[3].endswith("  stale     " + t.path("input") + " changed (mtime)") or lines[3].endswith("changed (size)"), lines[3]
    assert lines[4].split()[-1] == "1" and lines[6].split()[-1] == "-" and all(line == line.rstrip() for line in lines), lines
    assert "server/1" not in "\n".join(lines) and "server/1" in d.ctl("ps", "--all").out
    assert [i["name"] for i in json.loads(d.ctl("ps", "--json", "?e*").out)] == ["held", "server"]
    assert "nothing is called 'nonsense'" in d.ctl("ps", "nonsense", code=1).err
    end(t, views, waiting)


@once
def test_ps_of_what_waits_and_what_is_gone(t):
    for name in "ab":
        os.mkfifo(t.path(name))
    d = t.daemon("[fixd]\njobs = 1\n[fixture a]\ncommand = cat a\n[fixture b]\ncommand = cat b\n[fixture gone]\ncommand = echo gone\n")
    d.ctl("warm", "gone")
    d.ctl("cleanup", "gone")
    waiting = [t.child(lambda name=name: harness.Client(d.socket).read(name) == b"") for name in "ab"]
    wait_for(lambda: len(d.instances()) == 3, "both to be asked for")
    lines = wait_for(lambda: (lines := d.ctl("ps", "-a").out.splitlines()) and " for " in lines[1] + lines[2] and lines, "one to be begun")
    states = [line.split(maxsplit=2) for line in lines[1:]]
    assert sorted(line[2][:4] for line in states[:2]) == ["for ", "when"] and states[2] == ["gone", "stale", "cleaned up"], lines
    assert d.ctl("ps").out.splitlines()[1:] == lines[1:3], lines
    (second,) = [line[0] for line in states[:2] if line[2] == "when its turn comes"]
    assert explained(d, second, "An attach") == "it would wait for the build, which begins when its turn comes"
    for name in {"a": "ba", "b": "ab"}[second]:
        with open(t.path(name), "w"):
            pass
    assert [exit_code(pid) for pid in waiting] == [0, 0]


@once
def test_clones(t):
    d = t.daemon("[policy]\nmax-age = none\n[fixture s]\nservice = echo up; exec sleep 1000\nready = line\nclones = 2\n"
                 "[fixture a]\ncommand = echo a\n")
    c = d.client()
    c.attach("a").detach()
    view = c.attach("s")
    wait_for(lambda: d.instance("s")["clones"]["ready"] == 1, "the other one")
    # What is held comes first, even if others of it are ready.
    lines = d.ctl("ps").out.splitlines()
    assert lines[1].split(maxsplit=2) == ["s", "ready", "clones: 1 held, 1 ready, at most 2"], lines
    views = [c.attach("s"), view]
    wait_for(lambda: d.instance("s")["state"] == "held", "all to be held")
    assert {n["name"]: n["state"] for n in json.loads(d.ctl("graph", "--json").out)["fixtures"]} == {"a": "ready", "s": "held"}
    views[0].detach()
    wait_for(lambda: d.instance("s")["clones"]["ready"] == 1, "another one")
    # One that has been used up is gone for good.
    assert {n["name"]: n["state"] for n in json.loads(d.ctl("graph", "--json").out)["fixtures"]} == {"a": "ready", "s": "ready"}
    said = d.ctl("explain", "s").out
    assert "  An attach   it would be given the clone that is ready\n" in said, said
    assert said.count("  An attach   it would be given another clone: this one is held, and ends with its holder\n") == 1, said
    assert said.count("  An attach   this may be the clone that it would be given\n") == 1, said
    view.detach()


def test_ps_fits_a_terminal(t):
    d, views, waiting = some_of_each(t)
    for columns in 80, 60, 132:
        seen = Terminal(d, "ps", columns=columns).finish()
        assert "\x1b[31mfailed" in seen and "\x1b[32mready" in seen, seen
        lines = COLOR.sub("", seen).splitlines()
        assert len(lines) == 8 and max(map(len, lines)) <= columns and lines[2].startswith("broken"), lines
        assert columns == 132 or re.match(r"a-na.*…\S*res +stale ", lines[3]), lines
    for env in {"NO_COLOR": "1"}, {"TERM": "dumb"}:
        plain = Terminal(d, "ps", env=env).finish()
        assert "\x1b" not in plain and "gated" in plain, env
    assert "\x1b" not in d.ctl("ps").out
    narrow = Terminal(d, "ps", columns=0, env={"COLUMNS": "44"}).finish()
    assert max(map(len, COLOR.sub("", narrow).splitlines()[2:4])) == 44, narrow
    end(t, views, waiting)


def test_list_fits_a_terminal(t):
    d = t.daemon(f"[fixture a]\ndoc = {'what it is ' * 20}\n  and more\ncommand = true\n[fixture b]\ncommand = true\n")
    lines = Terminal(d, "list").finish().splitlines()
    assert lines[0].startswith("\x1b[1ma\x1b[0m [session] ") and [len(COLOR.sub("", line)) <= 80 for line in lines] == [True, True], lines
    assert COLOR.sub("", lines[0]).endswith("…") and d.ctl("list").out.splitlines()[0].endswith(" what it is")
    t.write("fixd.ini", f"[fixture {'n' * 100}]\ncommand = true\n")
    d.ctl("reload")
    assert COLOR.sub("", Terminal(d, "list", columns=40).finish()) == "n" * 19 + "…" + "n" * 20 + "\n"


def explained(d, name, label):
    """The line of that label, or what stands indented below it, without the times that differ."""
    out = re.sub(r"\d[\d.]* (us|ms|s|min|h)\b( \d+ (s|min)\b)?", "TIME", d.ctl("explain", name).out)
    found = re.search(rf"^  {label}(.*)\n((?:    .*\n)*)", out, re.M)
    assert found, (label, out)
    return found[1].strip() or [line.strip() for line in found[2].splitlines()]


def test_explain(t):
    t.write("input", "one\n")
    os.mkfifo(t.path("gate"))
    t.write("fails", "")
    clock = harness.Clock(t)
    d = t.daemon("[policy]\nmax-age = none\n[fixture base]\nfile = input\n[fixture top]\ndepends = base\ncommand = cat gate\ncheck = true\nmax-age = 1h\ntimeout = 3h\n"
                 "[fixture broken]\ncommand = echo why >&2; exit 3\nwatch = fails\n[fixture on-it]\ndepends = broken\ncommand = true\n"
                 "[fixture some]\nparams = one, two\ncommand = true\n", env=clock.env)
    assert explained(d, "top", "State") == "absent: nobody has asked for it"
    assert explained(d, "top", "An attach") == "there is none: it would be built, after base (absent)"
    waiting = t.child(lambda: harness.Client(d.socket).read("top", timeout=10000) == b"")
    wait_for(lambda: d.instances().get("base", {}).get("state") == "ready" and d.instance("top")["state"] == "building", "its build")
    wait_for(lambda: explained(d, "top", "An attach") == "it would wait for the build that is under way: for TIME", "its beginning")
    clock.advance(4000)
    with open(t.path("gate"), "w"):
        pass
    assert exit_code(waiting) == 0
    assert explained(d, "top", "State") == "ready, generation 1, built TIME ago in TIME, used again 0 times"
    assert explained(d, "top", "Depends on") == "base (ready)" and explained(d, "top", "Max age") == "1h from creation, TIME to go", d.ctl("explain", "top").out
    assert explained(d, "base", "Max age") == "none"
    assert explained(d, "base", "Watched") == "its definition, and 1 file" and t.path("input") in d.ctl("explain", "base").out
    assert explained(d, "top", "An attach") == "it would be given generation 1 at once, if its check succeeds"
    history = explained(d, "top", "History")
    assert [line[21:] for line in history] == ["build began", "ready: generation 1, 0 B, built in TIME",
                                               f"given to pid {waiting}, which had waited TIME"], history
    t.write("input", "two and more\n")
    wait_for(lambda: d.instance("base")["state"] == "stale", "it to be stale")
    assert explained(d, "top", "An attach") == "after base (stale): it would be given generation 1 if that turns out as it was, and be built otherwise"
    assert explained(d, "base", "History")[-2].endswith("  stale: " + explained(d, "base", "State")[len("stale: "):])
    d.ctl("cleanup", "top")
    assert explained(d, "top", "An attach") == "cleaned up: it would be built, after base (stale), which took TIME the last time"
    d.ctl("warm", "broken", code=4)
    assert explained(d, "broken", "An attach") == "it would fail at once, until an input changes, or 'fixctl cleanup broken'"
    assert "State       failed: the command exited with status 3\n    why\n" in d.ctl("explain", "broken").out
    d.ctl("warm", "on-it", code=4)
    assert explained(d, "on-it", "An attach") == "there is none: it would fail at once, since broken has failed: see 'fixctl explain broken'"
    seen = Terminal(d, "explain", "broken").finish()
    assert "An attach   it would fail at once, until an input changes, or 'fixctl cleanup\n              broken'\n" in seen.replace("\r", ""), seen
    j = json.loads(d.ctl("explain", "--json", "broken").out)
    assert j["definition"]["name"] == "broken" and [e["event"] for e in j["instances"][0]["history"]] == ["build", "failed"], j
    assert [line.split()[:2] for line in d.ctl("ps", "broken").out.splitlines()[1:] + d.ctl("ps", "on-it").out.splitlines()[1:]] == [["broken", "failed"], ["on-it", "absent"]]
    t.write("fails", "not any more\n")
    wait_for(lambda: explained(d, "broken", "An attach").endswith(": it would be built"), "the edit to be seen")
    assert explained(d, "on-it", "An attach") == "there is none: it would be built, after broken (failed)"
    assert d.ctl("explain", "some[on]", code=1).err == "fixctl: fixture 'some' has no param 'on' (did you mean 'one'?)\n"
    assert d.ctl("explain", "some[one]").out.startswith("some[one]\n  State       absent: ")
    assert explained(d, "some", "An attach") == "it has params: one of them is asked for, like some[one]"
    assert "did you mean 'broken'?" in d.ctl("explain", "borken", code=1).err and "is a glob" in d.ctl("explain", "b*", code=2).err


@once
def test_explain_of_what_one_may_hold(t):
    d = t.daemon("[fixture one]\nservice = echo up; exec sleep 1000\nexclusive = yes\nreset = true\n"
                 "[fixture slow]\nservice = echo up; exec sleep 1000\nteardown = cat gate\n")
    d.ctl("warm", "slow")
    view = d.client().attach("one")
    assert explained(d, "one", "An attach") == f"it would wait until its holder, pid {os.getpid()}, lets go"
    view.detach()
    wait_for(lambda: d.instance("one")["leases"] == 0, "the end of the lease")
    assert explained(d, "one", "An attach") == "it would be given generation 1 when what was done with it has been reset"
    os.mkfifo(t.path("gate"))
    d.begin_cleanup("slow")
    assert explained(d, "slow", "An attach") == "it would be built when the last one has been torn down, which goes on now"
    with open(t.path("gate"), "w"):
        pass
    assert d.ctl("explain", "one[x]", code=1).err == "fixctl: fixture 'one' has no param 'x'\n"


class Screen:
    """What a terminal shows after all that was written to it: of the sequences those that screen.c uses."""

    def __init__(self, columns=80, lines=24):
        self.columns, self.lines = columns, lines
        self.rows, self.row, self.column = [""] * lines, 0, 0

    def feed(self, text):
        for part in re.findall(r"\x1b\[[0-9;]*[A-Za-z]|[^\x1b]", text):
            if part == "\x1b[H":
                self.row = self.column = 0
            elif part in ("\x1b[J", "\x1b[2J"):
                self.rows[self.row + (part == "\x1b[J" and self.column > 0):] = [""] * (self.lines - self.row)
                del self.rows[self.lines:]
            elif part == "\x1b[K":
                self.rows[self.row] = self.rows[self.row][:self.column]
            elif part == "\r":
                self.column = 0
            elif part == "\n":
                assert self.row + 1 < self.lines, "it scrolls"
                self.row += 1
            elif part[0] != "\x1b":
                assert self.column < self.columns, ("a line is too long", self.rows[self.row])
                self.rows[self.row] = self.rows[self.row][:self.column] + part + self.rows[self.row][self.column + 1:]
                self.column += 1
        return self

    def text(self):
        return "\n".join(self.rows).rstrip()


def shows(terminal, *words, columns=80, lines=24):
    """Waits for a screen that has these, and is drawn."""
    def seen():
        assert terminal.read()
        if not terminal.seen.endswith("\x1b[J"):
            return None
        text = Screen(columns, lines).feed(terminal.seen).text()
        return text if all(word in text for word in words) else None
    return wait_for(seen, f"{words} on the screen")


def test_status_watch_is_one_screen(t):
    d, views, waiting = some_of_each(t)
    watch = Terminal(d, "status", "--watch", columns=60, lines=10)
    text = shows(watch, "Building: gated for ", "\nDaemon\n======\nPID: ", columns=60, lines=10)
    assert "Session Status" not in text and len(text.splitlines()) == 9 and re.search(r"\n… \d+ more$", text), text
    fcntl.ioctl(watch.fd, termios.TIOCSWINSZ, struct.pack("HHHH", 60, 100, 0, 0))
    shows(watch, "Daemon\n======\nPID: ", "Session Status\n====", columns=100, lines=60)
    os.kill(watch.pid, signal.SIGINT)
    watch.finish()
    end(t, views, waiting)


@once
def test_watch_ends_with_the_daemon(t):
    d = t.daemon(INI)
    d.ctl("warm", "corpus")
    watch = Terminal(d, "ps", "--watch", columns=200)
    shows(watch, "corpus   ready", columns=200)
    d.stop()
    text = Screen(columns=200).feed(watch.finish(3)).text()
    assert "corpus   ready" in text and text.splitlines()[-1].startswith("fixctl: "), text


def test_watch_of_a_build(t):
    """How long it runs, and how long it will as the last one tells."""
    os.mkfifo(t.path("gate"))
    clock = harness.Clock(t)
    d = t.daemon("[fixture slow]\ncommand = cat gate\nmax-age = none\ntimeout = 10h\n", env=clock.env)

    def build():
        return t.child(lambda: harness.Client(d.socket).read("slow", timeout=10000) == b"")

    waiting = build()
    watch = Terminal(d, "ps", "--watch")
    assert re.search(r"^slow +building  for \d+ s$", shows(watch, "building  for "), re.M)
    clock.advance(7200)
    with open(t.path("gate"), "w"):
        pass
    assert exit_code(waiting) == 0
    shows(watch, "slow     ready", " 2 h")
    d.ctl("cleanup", "slow")
    waiting = build()
    # The daemon's clock is ahead.
    assert re.search(r"^slow +building  for 0 s, some 2 h( \d+ (s|min))? to go$", shows(watch, " to go"), re.M)
    assert re.search(r"State: building for 0 s, some 2 h.* to go\n", d.ctl("status").out)
    warm = Terminal(d, "warm")
    wait_for(lambda: warm.read() and re.search(r"0 of 1, building slow, \d+ s, some [12] h( \d+ min)? to go", warm.seen), "the line of warm")
    with open(t.path("gate"), "w"):
        pass
    assert exit_code(waiting) == 0
    assert "slow: " in warm.finish()
    os.kill(watch.pid, signal.SIGTERM)
    watch.finish()


@once
def test_get_on_a_terminal(t):
    """What is no text would be seen as something else, or change how the terminal works."""
    d = t.daemon("[fixture words]\ncommand = printf 'gr\\303\\274n'\n[fixture line]\ncommand = echo line\n[fixture none]\ncommand = true\n"
                 "[fixture zero]\ncommand = printf 'a\\0'\n[fixture red]\ncommand = printf '\\033[31m'\n[fixture c1]\ncommand = printf '\\302\\233'\n")
    assert [Terminal(d, "get", name).finish() for name in ("words", "line", "none")] == ["grün\n", "line\n", ""]
    for name in "zero", "red", "c1":
        assert Terminal(d, "get", name).finish(1) == f"fixctl: '{name}' is no text to show on a terminal; expected -o FILE or a pipe\n"
    assert d.ctl("get", "words").stdout == "grün".encode() and d.ctl("get", "zero").stdout == b"a\0"


@once
def test_bench_fits_a_terminal(t):
    d = t.daemon("[fixture words]\ncommand = echo words\n")
    for columns, first, more in (80, "fixture  wall s  init Δ s  memory Δ MB  size MB", True), (200, "fixture  wall s  cpu s  init Δ s", False):
        seen = Terminal(d, "bench", "--runs=1", "words", columns=columns).finish().replace("\r", "\n").splitlines()
        table = seen[next(k for k, line in enumerate(seen) if "fixture  " in line):]
        assert "  ".join(re.split("  +", re.sub("\033\\[[0-9;]*[mK]", "", table[0]))).startswith(first), table
        assert max(map(len, table[:2])) <= columns and ("A wider terminal" in table[-1]) == more, table


@once
def test_help_opens_the_manual(t):
    """On a terminal; what man itself does is told by one that writes down how it was called."""
    man = t.write("man", '#!/bin/sh\nprintf "%s\\n" "$@" >>called\nexit "$(cat status)"\n')
    os.chmod(man, 0o755)
    d = t.daemon(INI)

    def asked(*args, status=0, pager="less"):
        t.write("status", f"{status}\n")
        t.write("called", "")
        seen = Terminal(d, *args, env={"PATH": f"{t.dir}:{os.environ['PATH']}", "PAGER": pager}, directory=t.dir).finish()
        with open(t.path("called")) as f:
            return seen, f.read().splitlines()

    assert asked("help", "ps") == ("", ["-P", "less -R '+/^ +ps$'", "1", "fixctl"])
    assert asked("help", "ps", pager="more") == ("", ["1", "fixctl"])
    seen, called = asked("help", "ps", status=16)
    assert seen.startswith("Usage: fixctl ps") and called
    plain = d.ctl("run", "--help").out
    wrapped = asked("run", "--help")[0]
    assert wrapped.split() == plain.split() and max(map(len, wrapped.splitlines())) <= 80 < max(map(len, plain.splitlines())), wrapped
    for args in ("ps", "--help"), ("--help",), ("help",):
        seen, called = asked(*args)
        assert seen.startswith("Usage: fixctl") and not called, (args, seen, called)
    # Ctrl-C is the pager's.
    t.write("man", '#!/bin/sh\ntrap "echo hears >>called" INT\necho opens\nwhile [ ! -s called ]; do sleep 0.05; done\nexit 0\n')
    t.write("called", "")
    terminal = Terminal(d, "help", "ps", env={"PATH": f"{t.dir}:{os.environ['PATH']}"}, directory=t.dir)
    while "opens" not in terminal.seen:
        assert terminal.read(), terminal.seen
    os.write(terminal.fd, b"\x03")
    terminal.finish()
    assert open(t.path("called")).read() == "hears\n"


@once
def test_wide_characters(t):
    """Two columns each, and none for what is put over another."""
    d = t.daemon("[fixture f]\ncommand = true\nscope = module\n")
    c = d.client()
    c.attach("f", key="\u65e5\u672c\u8a9e" * 20)
    c.attach("f", key="e\u0301" * 70)
    for columns in 60, 61:
        for command in "ps", "list":
            for line in Terminal(d, command, "-a" if command == "ps" else "-v", columns=columns).finish().splitlines():
                plain = COLOR.sub("", line)
                width = sum(2 if unicodedata.east_asian_width(x) == "W" else 0 if unicodedata.combining(x) else 1 for x in plain)
                assert width <= columns, (width, plain)


@once
def test_words_of_others_control_no_terminal(t):
    """A key, the name of a test, the words of a builder: whoever has written them."""
    evil = "a\x1b]0;title\x07\u009b2J\nforged"
    d = t.daemon("[fixture f]\ncommand = printf x\nscope = module\n[fixture bad]\ncommand = printf 'red\\033[31m, \\033[2J\\007\\n' >&2; exit 1\n")
    c = d.client().join(t.dir, "run")
    c.set_test(evil)
    view = c.attach("f", key=evil)
    c.set_test(None)
    for command in ["status"], ["status", "f"], ["status", "--format=table"], ["ps", "-a"], ["trace", "--once"], ["explain", "f"], ["report"], ["cleanup", "--all"]:
        for seen in d.ctl(*command).out, Terminal(d, *command).finish():
            assert not re.search(r"[\x00-\x08\x0b-\x1a\x1c-\x1f\x7f\x80-\x9f]|\x1b(?!\[[0-9;]*m)|^\s*forged", seen, re.M), (command, seen)
    keys = [i["scope_key"] for s in json.loads(d.ctl("status", "--json").out)["sessions"] for i in s["instances"]]
    assert keys == [evil], keys
    assert evil in [e.get("test") for e in map(json.loads, d.ctl("trace", "--once", "--json").out.splitlines())]
    view.detach()
    error = d.ctl("get", "bad", code=4).err
    assert "red\x1b[31m, ?[2J?" in error, error
    assert "red\x1b[31m, ?[2J?" in Terminal(d, "log", "bad").finish()
    assert d.ctl("log", "bad").out == "red\x1b[31m, \x1b[2J\x07\n"


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
