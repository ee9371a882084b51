# SPDX-License-Identifier: MIT
"""The examples of the manuals: fixd accepts all of them, and the recipes do what they say."""

import os
import re
import shutil
import subprocess
import sys
import urllib.request

import harness
import manual
import servers
from harness import LIMIT, Skip, once
from manual import runs
from servers import need
from services import processes_of, start

SUITES = "fixd-recipes.7 SUITES 1"


def suite(heading):
    """Of a recipe for suites, its files, and the commands below them."""
    parts = manual.take(f"fixd-recipes.7 {heading} *")
    files = [(re.search(r"\.Pa (\S+)(?: ,\n.*\n\.Pa \S+)? :\n$", b.before), b.text) for b in parts if b.kind == "Bd"]
    return {file[1]: text for file, text in files}, [b.text.rstrip() for b in parts if b.kind == "Dl"]


def check_suite(t, heading, env=(), more=(), replace=()):
    """It does what the recipe says, and notices when the fixture is another."""
    files, commands = suite(heading)
    for other in more:
        files |= suite(other)[0]
    ini = manual.text(SUITES)
    all_of_env = {**harness.process_environment(), "PATH": f"{harness.BUILD}:{os.environ['PATH']}", **dict(env)}
    for name in ("FIXD_SOCKET", "MAKEFLAGS", "MFLAGS", "MAKELEVEL", "CC"):
        all_of_env.pop(name, None)

    def run(command):
        for old, new in replace:
            command = command.replace(old, new)
        return subprocess.run(["sh", "-c", command], cwd=t.dir, env=all_of_env, capture_output=True, text=True, timeout=LIMIT * 3)
    for name, text in {**files, "fixd.ini": ini}.items():
        for old, new in replace:
            text = text.replace(old, new)
        t.write(name, text)
    for command in commands:
        done = run(command)
        assert done.returncode == 0, (command, done.stdout[-2000:], done.stderr[-2000:])
    t.write("fixd.ini", ini.replace("apple", "cherry"))
    done = run(commands[-1])
    assert done.returncode, (commands[-1], done.stdout)


@runs(SUITES, "fixd-recipes.7 A suite that stays as it is *")
@once
def test_a_suite_that_stays_as_it_is(t):
    check_suite(t, "A suite that stays as it is")
    assert not os.path.exists(t.path("words.txt"))


@runs("fixd-recipes.7 pytest *")
@once
def test_pytest(t):
    if harness.SANITIZERS:
        raise Skip("pytest itself does not run under a sanitizer")
    path = f"{harness.BUILD}:/usr/bin:/bin"
    if subprocess.run(["python3", "-c", "import pytest"], env={"PATH": path}, capture_output=True, timeout=LIMIT).returncode:
        raise Skip("pytest is not installed")
    check_suite(t, "pytest", {"PATH": path, "PYTHONPATH": os.path.join(harness.SRC, "contrib/pytest-fixd"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                              "PYTEST_PLUGINS": "fixd.plugin", "LD_LIBRARY_PATH": os.path.join(harness.BUILD, ".libs"), "TMPDIR": t.dir})


@runs("fixd-recipes.7 Continuous integration 1")
@once
def test_continuous_integration(t):
    """Its command stands in a block; the status is the suite's, and the report is there."""
    command = manual.text("fixd-recipes.7 Continuous integration 1")
    t.write("fixd.ini", manual.text(SUITES))
    t.write("Makefile", "check:\n\tgrep -q $(WORD) words.txt\n")
    env = {**harness.process_environment(), "PATH": f"{harness.BUILD}:{os.environ['PATH']}", "MAKEFLAGS": ""}
    for word, status in (("apple", 0), ("cherry", 2)):
        done = subprocess.run(["sh", "-c", command], cwd=t.dir, env={**env, "WORD": word}, capture_output=True, text=True, timeout=LIMIT)
        assert done.returncode == status, (done.stdout, done.stderr)
        with open(t.path("fixtures.html")) as f:
            assert "Fixture Report" in f.read()
        os.remove(t.path("fixtures.html"))


@once
def test_all_are_accepted(t):
    inis = {name: b.text for name, b in manual.blocks().items() if b.text.startswith(("[fixd]", "[policy]", "[fixture "))}
    assert {"fixd.ini.5 EXAMPLES 1", "fixd-recipes.7 PostgreSQL 1"} <= set(inis)
    for where, ini in inis.items():
        # What they name has to be there.
        for kind, path in re.findall(r"^(directory|plugin) = (.*)$", ini, flags=re.MULTILINE):
            file = t.write(path + "/file" if kind == "directory" else path, "")
            if kind == "plugin":
                shutil.copy(os.path.join(harness.BUILD, ".libs", "libfixd.so.0"), file)
        done = subprocess.run([harness.program("fixd"), "--check", "--config", t.write("fixd.ini", ini)], capture_output=True, text=True, timeout=LIMIT)
        assert done.returncode == 0, f"{where}: {done.stderr}"


def begin(t, heading, user=None, **env):
    """A daemon with that recipe; `user`: who runs its servers if the daemon is root's."""
    ini = manual.text(f"fixd-recipes.7 {heading} 1")
    os.chmod(t.dir, 0o1777)  # it is their TMPDIR
    if user and os.geteuid() == 0:
        ini = re.sub(r"^(\[fixture .*\])$", rf"\1\nuser = {user}", ini, flags=re.MULTILINE)
    return start(t, ini, env=env)


@runs("fixd-recipes.7 PostgreSQL 1", "fixd-recipes.7 SERVERS AND DATABASES 1")
def test_postgresql(t):
    need("psql")
    where = servers.bin_of_postgres()
    servers.user_of_postgres()
    t.write("schema.sql", "create table rows (id int); insert into rows select generate_series(1, 1000);\n")
    d = begin(t, "PostgreSQL", "postgres", PATH=f"{where}:{os.environ['PATH']}")
    c = d.client()
    for _ in range(2):
        view = c.attach("pg")
        assert servers.psql(view.data, "select count(*) from rows") == "1000"
        servers.psql(view.data, "drop table rows; select 1")
        view.detach()
    t.write("test.sql", "\\set ON_ERROR_STOP 1\ndrop table rows;\n")
    command = manual.text("fixd-recipes.7 SERVERS AND DATABASES 1")
    env = {**harness.process_environment(), "PATH": f"{harness.BUILD}:{where}:{os.environ['PATH']}", "FIXD_SOCKET": d.socket}
    for _ in range(2):
        subprocess.run(["sh", "-ec", command], cwd=t.dir, env=env, check=True, capture_output=True, timeout=LIMIT)


@runs("fixd-recipes.7 MariaDB 1")
def test_mariadb(t):
    need("mariadbd", "mariadb-install-db", "mariadb")
    t.write("schema.sql", "create database app; use app; create user app@localhost; create table numbers (id int); insert into numbers values (1);\n")
    d = begin(t, "MariaDB", "mysql", PATH=f"{os.environ['PATH']}:/usr/sbin")
    c = d.client()
    # Beside each other.
    for view in [c.attach("my") for _ in range(2)]:
        done = subprocess.run(["mariadb", "--socket", view.data.decode(), "-u", "root", "-BNe", "select * from numbers; drop table numbers", "app"],
                              capture_output=True, text=True, timeout=LIMIT)
        assert done.stdout == "1\n", done


@runs("fixd-recipes.7 Redis 1")
def test_redis(t):
    need("redis-server", "redis-cli")
    d = begin(t, "Redis")
    c = d.client()
    for _ in range(2):
        view = c.attach("redis")
        done = subprocess.run(["redis-cli", "-s", view.data.decode(), "incr", "a"], capture_output=True, text=True, timeout=LIMIT)
        assert done.stdout == "1\n", done
        view.detach()


@runs("fixd-recipes.7 SQLite 1")
def test_sqlite(t):
    need("sqlite3")
    t.write("schema.sql", "create table numbers (id int); insert into numbers values (1);\n")
    d = begin(t, "SQLite")
    for _ in range(2):
        done = d.ctl("run", "--", "sqlite3", "db/app.db", "select * from numbers; drop table numbers", cwd=t.dir)
        assert done.out == "1\n", done


SEARCH = """#!{python}
import http.server, os, sys, urllib.request
words = sys.argv[1:]
if words[0] == "index":
    with open(words[1] + "/one.txt") as document, open(words[2] + "/index.html", "w") as index:
        index.write("found: " + document.read())
elif words[0] == "ask":
    urllib.request.urlopen("http://127.0.0.1:" + words[1] + "/").read()
else:
    os.chdir(words[1])
    http.server.ThreadingHTTPServer(("127.0.0.1", int(words[2])), http.server.SimpleHTTPRequestHandler).serve_forever()
"""


def get(view):
    with urllib.request.urlopen(view.data.decode(), timeout=LIMIT) as answer:
        return answer.read()


@runs("fixd-recipes.7 Slow starters 1")
def test_slow_starters(t):
    os.chmod(t.write("search", SEARCH.format(python=sys.executable)), 0o755)
    t.write("documents/one.txt", "a document\n")
    d = begin(t, "Slow starters")
    c = d.client()
    views = [c.attach("search") for _ in range(2)]
    assert [get(view) for view in views] == [b"found: a document\n"] * 2 and views[0].data != views[1].data


@runs("fixd-recipes.7 A web server 1")
def test_a_web_server(t):
    t.write("www/index.html", "served\n")
    d = begin(t, "A web server")
    c = d.client()
    views = [c.attach("web") for _ in range(2)]
    assert [get(view) for view in views] == [b"served\n"] * 2 and views[0].data != views[1].data
    d.stop()
    assert not processes_of(t)


def check_language(t, name, *needs):
    """Its program passes, and fails when the fixture is another."""
    need(*needs)
    d = begin(t, "Other languages")
    (block,) = [b for b in manual.blocks().values() if re.search(rf"^\.Ql fixctl .* -- {name} .*:$", b.before, flags=re.MULTILINE)]
    command = re.search(r"^\.Ql fixctl (.*) :$", block.before, flags=re.MULTILINE)[1].split()
    program = manual.text(block.name)
    t.write(command[-1], program)
    d.ctl(*command, cwd=t.dir)
    t.write(command[-1], program.replace("apple", "cherry"))
    assert d.ctl(*command, cwd=t.dir, code=None).returncode


@runs("fixd-recipes.7 Other languages 1", "fixd-recipes.7 Other languages 2")
@once
def test_perl(t):
    check_language(t, "prove", "prove")


@runs("fixd-recipes.7 Other languages 3")
@once
def test_node(t):
    check_language(t, "node", "node")


@runs("fixd-recipes.7 Other languages 4")
@once
def test_ruby(t):
    if shutil.which("ruby") and subprocess.run(["ruby", "-e", "require 'minitest/autorun'"], capture_output=True, timeout=LIMIT).returncode:
        raise Skip("minitest is not installed")
    check_language(t, "ruby", "ruby")


@runs("fixd-recipes.7 Other languages 5")
@once
def test_java(t):
    check_language(t, "java", "java", "javac")  # it compiles what it runs


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
