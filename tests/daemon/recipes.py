# SPDX-License-Identifier: MIT
"""The examples of the manuals: fixd accepts all of them, and the recipes do what they say."""

import glob
import os
import re
import shutil
import subprocess
import sys
import urllib.request

import harness
import servers
from harness import LIMIT, Skip, once
from servers import need
from services import processes_of, start


def examples(page):
    """The literal blocks of a page that are sections of fixd.ini, each with the heading above it."""
    found, heading, block = {}, None, None
    with open(os.path.join(harness.SRC, "man", page)) as f:
        for line in f:
            if line.startswith((".Ss ", ".Sh ")):
                heading = line[4:].strip()
            elif line.startswith(".Bd -literal"):
                block = []
            elif line.startswith(".Ed"):
                if block and block[0].startswith(("[fixd]", "[policy]", "[fixture ")):
                    found[heading] = found.get(heading, "") + "".join(block)
                block = None
            elif block is not None:
                block.append(line.replace("\\e", "\\").replace("\\-", "-"))
    return found


def programs(page, heading):
    """Of a part of a page, the commands of fixctl and the file that follows each, by its name."""
    with open(os.path.join(harness.SRC, "man", page)) as f:
        part = f.read().split(f".Ss {heading}\n")[1].split("\n.S")[0]
    return [(command.split(), block.replace("\\e", "\\"))
            for command, block in re.findall(r"^\.Ql fixctl (.*) :\n\.Bd -literal.*\n((?:.*\n)*?)\.Ed", part, flags=re.MULTILINE)]


def suite(heading):
    """Of a recipe for suites, its files, and the commands below them."""
    with open(os.path.join(harness.SRC, "man", "fixd-recipes.7")) as f:
        part = f.read().split(f".Ss {heading}\n")[1].split("\n.S")[0]
    files = re.findall(r"^\.Pa (\S+)(?: ,\n.*\n\.Pa \S+)? :\n\.Bd -literal.*\n((?:.*\n)*?)\.Ed", part, flags=re.MULTILINE)
    return {name: text.replace("\\e", "\\") for name, text in files}, re.findall(r"^\.Dl (.*)", part, flags=re.MULTILINE)


def check_suite(t, heading, env=(), more=(), replace=()):
    """It does what the recipe says, and notices when the fixture is another."""
    files, commands = suite(heading)
    for other in more:
        files |= suite(other)[0]
    ini = examples("fixd-recipes.7")["SUITES"]
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


@once
def test_a_suite_that_stays_as_it_is(t):
    check_suite(t, "A suite that stays as it is")
    assert not os.path.exists(t.path("words.txt"))


@once
def test_pytest(t):
    if harness.SANITIZERS:
        raise Skip("pytest itself does not run under a sanitizer")
    path = f"{harness.BUILD}:/usr/bin:/bin"
    if subprocess.run(["python3", "-c", "import pytest"], env={"PATH": path}, capture_output=True, timeout=LIMIT).returncode:
        raise Skip("pytest is not installed")
    check_suite(t, "pytest", {"PATH": path, "PYTHONPATH": os.path.join(harness.SRC, "contrib/pytest-fixd"), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",
                              "PYTEST_PLUGINS": "fixd.plugin", "LD_LIBRARY_PATH": os.path.join(harness.BUILD, ".libs"), "TMPDIR": t.dir})


@once
def test_continuous_integration(t):
    """Its command stands in a block; the status is the suite's, and the report is there."""
    with open(os.path.join(harness.SRC, "man", "fixd-recipes.7")) as f:
        command = re.search(r"\.Bd -literal.*\n(fixctl run(?:.*\n)*?)\.Ed", f.read())[1]
    t.write("fixd.ini", examples("fixd-recipes.7")["SUITES"])
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
    pages = [os.path.basename(path) for path in glob.glob(os.path.join(harness.SRC, "man", "*.[1-8]"))]
    all_of_them = {(page, heading): ini for page in pages for heading, ini in examples(page).items()}
    for page, heading in (("fixd.ini.5", "EXAMPLES"), ("fixd-recipes.7", "PostgreSQL")):
        assert (page, heading) in all_of_them
    for where, ini in all_of_them.items():
        # What they name has to be there.
        for kind, path in re.findall(r"^(directory|plugin) = (.*)$", ini, flags=re.MULTILINE):
            file = t.write(path + "/file" if kind == "directory" else path, "")
            if kind == "plugin":
                shutil.copy(os.path.join(harness.BUILD, ".libs", "libfixd.so.0"), file)
        done = subprocess.run([harness.program("fixd"), "--check", "--config", t.write("fixd.ini", ini)], capture_output=True, text=True, timeout=LIMIT)
        assert done.returncode == 0, f"{where}: {done.stderr}"


def begin(t, heading, user=None, **env):
    """A daemon with that recipe; `user`: who runs its servers if the daemon is root's."""
    ini = examples("fixd-recipes.7")[heading]
    os.chmod(t.dir, 0o1777)  # it is their TMPDIR
    if user and os.geteuid() == 0:
        ini = re.sub(r"^(\[fixture .*\])$", rf"\1\nuser = {user}", ini, flags=re.MULTILINE)
    return start(t, ini, env=env)


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
    d.ctl("with", "pg", "--", "sh", "-c", 'psql -qX -v ON_ERROR_STOP=1 "$FIXD_FIXTURE_pg" -c "drop table rows"')


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


def test_redis(t):
    need("redis-server", "redis-cli")
    d = begin(t, "Redis")
    c = d.client()
    for _ in range(2):
        view = c.attach("redis")
        done = subprocess.run(["redis-cli", "-s", view.data.decode(), "incr", "a"], capture_output=True, text=True, timeout=LIMIT)
        assert done.stdout == "1\n", done
        view.detach()


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


def test_slow_starters(t):
    os.chmod(t.write("search", SEARCH.format(python=sys.executable)), 0o755)
    t.write("documents/one.txt", "a document\n")
    d = begin(t, "Slow starters")
    c = d.client()
    views = [c.attach("search") for _ in range(2)]
    assert [get(view) for view in views] == [b"found: a document\n"] * 2 and views[0].data != views[1].data


def test_a_web_server(t):
    t.write("www/index.html", "served\n")
    d = begin(t, "A web server")
    c = d.client()
    views = [c.attach("web") for _ in range(2)]
    assert [get(view) for view in views] == [b"served\n"] * 2 and views[0].data != views[1].data
    d.stop()
    assert not processes_of(t)


@once
def test_other_languages(t):
    d = begin(t, "Other languages")
    found = {command[command.index("--") + 1]: (command, program) for command, program in programs("fixd-recipes.7", "Other languages")}
    assert set(found) == {"prove", "node", "ruby", "java"}, found
    there = [language for language in found if shutil.which(language)]
    for language in there:
        command, program = found[language]
        if language == "java" and not shutil.which("javac"):
            continue  # it compiles what it runs
        t.write(command[-1], program)
        d.ctl(*command, cwd=t.dir)
        t.write(command[-1], program.replace("apple", "cherry"))
        assert d.ctl(*command, cwd=t.dir, code=None).returncode, language
    if not there:
        raise Skip("none of these languages is installed")


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
