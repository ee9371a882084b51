# SPDX-License-Identifier: MIT
"""README: its examples are run as they stand there; what belongs to a project, or is a large package, is made up."""

import functools
import inspect
import os
import re
import subprocess
import sys

import pytest
from conftest import BUILD, LIMIT, PACKAGE
from test_remote import TOOL, key, machine, server  # noqa: F401 (fixtures)

sys.path.append(os.path.join(PACKAGE, "..", "..", "tests", "daemon"))
manual = pytest.importorskip("manual", reason="not in a tree of fixd's source")
README = "pytest-fixd/README "


def text(name):
    return manual.text(README + name)


def runs(*names):
    """And when it has come to its end it has taken them."""
    def mark(test):
        @functools.wraps(test)
        def run(**fixtures):
            test(**fixtures)
            manual.check(run)
        return manual.runs(*(README + name for name in names))(run)
    return mark


def write(project, name, *parts):
    project.write(name, "import fixd, os, pytest, sqlite3, subprocess\n" + "\n".join(parts))


@runs("pytest-fixd 1")
def test_the_first_one(project):
    pytest.importorskip("numpy")
    write(project, "conftest.py", text("pytest-fixd 1").replace("    return", "    open(os.environ['LOG'], 'a').write('built\\n')\n    return"))
    project.write("data/table.csv", "1 2\n3 4\n")
    project.write("test_it.py", """
        import pytest
        @pytest.mark.parametrize("n", range(4))
        def test(table, n):
            assert table.sum() == 10
            table[:] = 0
        """)
    for _ in range(2):
        project.run("-n", "2").passed(4)
    assert project.count("built") == 1
    project.write("data/more.csv", "")
    project.run().passed(4)
    assert project.count("built") == 2


PARTS = """
class Model:
    def __init__(self, weights): self.weights = weights
class Client:
    def __init__(self, token): self.token = token
def load_weights(name): return [1, 2]
def authenticate(): return "token"
def build_schema_and_load():
    db = sqlite3.connect(":memory:")
    db.execute("create table numbers as select 1 as n")
    return db
"""


@runs("Things that live 1")
def test_things_that_live(project):
    if not hasattr(__import__("sqlite3").Connection, "serialize"):
        pytest.skip("sqlite3 of this Python cannot serialize")
    write(project, "conftest.py", PARTS, text("Things that live 1"))
    os.chmod(project.write("server", "#!/bin/sh\necho started >>$LOG; trap 'echo ended >>$LOG; exit' TERM; sleep 1000 & wait\n"), 0o755)
    project.write("test_it.py", """
        import pytest
        @pytest.mark.parametrize("n", range(2))
        def test(model, api_client, database, server, n):
            assert (model.weights, api_client.token, server) == ([1, 2], "token", "http://127.0.0.1:8080")
            assert database.execute("delete from numbers returning n").fetchall() == [(1,)]
        """)
    project.run().passed(2)
    assert project.count("started") == 1


STUBS = """
import sys, types
class Engine:
    def __init__(self, url=None): self.url = url
    def dispose(self, close=True): pass
sqlalchemy, Base = types.ModuleType("sqlalchemy"), types.SimpleNamespace(metadata=types.SimpleNamespace(create_all=lambda engine: None))
sqlalchemy.create_engine = Engine
class Settings(dict):
    settings_dict = {}
    def close_all(self): open(os.environ["LOG"], "a").write("closed\\n")
    def __getitem__(self, name): return self
connections = Settings()
class Blocker:
    def unblock(self): return self
    __enter__ = __exit__ = lambda *_: None
@pytest.fixture(scope="session")
def django_db_blocker(): return Blocker()
"""
SERVERS = """
[fixture data]
tree = touch "$FIXD_DIR/x"
[fixture pg]
service = echo "$FIXD_DIR"; exec sleep infinity
data = data
clones = 4
[fixture schema]
command = python3 -c 'import sqlite3, sys; db = sqlite3.connect(":memory:"); db.execute("create table t (n)"); db.commit(); sys.stdout.buffer.write(db.serialize())'
"""


@runs("Fixtures of an ini file [124]")
def test_fixtures_of_an_ini_file(project):
    """The real libraries are in test_databases.py."""
    project.write("pytest.ini", text("Fixtures of an ini file 1"))
    project.write("fixd.ini", SERVERS)
    engine, django, memory = re.split(r"^\S.*:\n(?:.*:\n)?\n", text("Fixtures of an ini file 4").replace("\ntree of data=)", " tree of data=)"), flags=re.M)[1:]
    first, *_ = django.split("\n\n")
    parts = ["\n".join(line[4:] for line in part.splitlines()) for part in (engine, first, memory)]
    write(project, "conftest.py", STUBS, text("Fixtures of an ini file 2"), 'schema = fixd.use("schema")\n', *parts)
    project.write("test_it.py", """
        import os
        def test_values(pg, fresh_pg, engine, database):
            assert os.path.isabs(pg) and pg != fresh_pg and database.execute("select * from t").fetchall() == []
            assert engine.url == f"postgresql+psycopg2://test@/test?host={pg}"
        def test_django(django_db_setup, pg):
            from conftest import connections
            assert connections.settings_dict["HOST"] == pg
        """)
    project.run().passed(2)
    assert project.count("closed") == 1


@runs("What other machines have built 1")
@pytest.mark.skipif(not os.path.exists(TOOL), reason="this fixd was built without fixd-remote")
def test_what_other_machines_have_built(machine):  # noqa: F811
    conftest = text("What other machines have built 1").replace("    return", "    log('built')\n    return")
    a, b = (machine(name, "def parse(corpus):\n    return sorted(os.listdir(corpus))\n" + conftest,
                    "def test(corpus):\n    assert corpus == ['a', 'b']\n") for name in "ab")
    for p in a, b:
        p.write("corpus/a", "1")
        p.write("corpus/b", "2")
        p.run("--fixd-wait-upload").passed(1)
    assert a.log() == ["built"] and b.log() == []


@runs("Objects that stay as they are 1")
def test_objects_that_stay(project):
    write(project, "conftest.py", STUBS, """
class Thing:
    def unload(self): open(os.environ["LOG"], "a").write("unloaded\\n")
def load_model(name):
    open(os.environ["LOG"], "a").write("loaded\\n")
    return Thing()
""", text("Objects that stay as they are 1"))
    project.write("test_it.py", "def test(model, engine): assert model and engine\n")
    for _ in range(2):
        project.run().passed(1)
    assert project.count("loaded") == 1 and project.count("unloaded") == 0
    assert project.run("--cleanup").code == 0 and project.count("unloaded") == 1


@runs("Programs that are forked *")
def test_programs_that_are_forked(project):
    script, ini, command = text("Programs that are forked 1").split("\n\n")
    project.write("pandas.py", "")
    project.write("models.py", "class Model:\n    def predict(self, words): return len(words)\ndef load_model(): return Model()\n")
    project.write("model.npz", "")
    project.write("predict.py", script)
    project.write("fixd.ini", ini + "\nenv = PYTHONPATH, LD_LIBRARY_PATH, FIXD_LIBRARY\n")
    env = {**project.env, "PATH": f"{BUILD}:{os.environ['PATH']}"}
    run = ["fixctl", "run", "-c", "fixd.ini", "--", "sh", "-ec", command.replace("$ ", "")]
    done = subprocess.run(run, cwd=project.path, env=env, capture_output=True, text=True, timeout=LIMIT)
    assert (done.returncode, done.stdout) == (0, "2\n"), done
    # What ends the template.
    project.write("predict.py", "import threading\nevent = threading.Event()\ndef work():\n    event.wait()\n"
                  "threading.Thread(target=work, name='worker', daemon=True).start()\n" + script)
    done = subprocess.run(run, cwd=project.path, env=env, capture_output=True, text=True, timeout=LIMIT)
    said = done.stderr.replace(project.path, "/src")
    pattern = r"\s+".join(re.sub(r"\d+", r"\\d+", re.escape(w)) for w in text("Programs that are forked 2").split())
    assert done.returncode and re.search(pattern, said), said


@runs("fixd-python *")
def test_fixd_python(project):
    project.write("bin/fixd-python", f'#!/bin/sh\nexec {sys.executable} -m fixd._python "$@"\n')
    project.write("bin/pytest", f'#!/bin/sh\nexec {sys.executable} -m pytest "$@"\n')
    for name in "fixd-python", "pytest":
        os.chmod(project.file("bin/" + name), 0o755)
    project.write("script.py", "import json, sys\nprint(sys.argv[1:])\n")
    project.write("test_it.py", "def test(): pass\n")
    env = {**project.env, "PATH": f"{project.file('bin')}:{os.environ['PATH']}", "PYTEST_ADDOPTS": "-p fixd.plugin -p no:cacheprovider"}
    said = [subprocess.run(["sh", "-c", line[2:]], cwd=project.path, env=env, capture_output=True, text=True, timeout=LIMIT)
            for line in (text("fixd-python 1") + text("fixd-python 2")).splitlines()]
    subprocess.run([os.path.join(BUILD, "fixctl"), "--socket", os.path.join(project.home, "fixd", "python", "socket"), "stop"], capture_output=True, env=env)
    assert said[0].stdout == "['words']\n", said[0]
    assert "1 passed" in said[1].stdout and "1 passed" in said[2].stdout and "fixd: warm" in said[2].stdout, said[1:]


@runs("Coming from pytest-shared-session-scope 1")
def test_coming_from_elsewhere(project):
    old, new = text("Coming from pytest-shared-session-scope 1").splitlines()
    assert old.startswith("-from pytest_shared_session_scope ")
    project.write("test_it.py", f"{new[1:]}\n@shared_session_scope_json()\ndef data(): return 123\ndef test(data): assert data == 123\n")
    project.run().passed(1)


@runs("What you can say 1", "Options, *", "Fixtures of an ini file 3")
def test_what_can_be_said(project):
    """Each name of the tables is one that is taken."""
    sys.path.append(PACKAGE)
    import fixd
    words = re.findall(r"(?<![\w.])([a-z_]+)=", "".join(line[:20] if line[0] != "@" else line for line in text("What you can say 1").splitlines(True)))
    assert {"scope", "params", "watch", "live"} <= set(words) <= set(inspect.signature(fixd.fixture).parameters), words
    words = re.findall(r"^([a-z_]+)=|, ([a-z_]+)=", "".join(line[:20] + "\n" for line in text("Fixtures of an ini file 3").splitlines()), flags=re.M)
    assert {a or b for a, b in words} <= set(inspect.signature(fixd.use).parameters), words
    table = text("Options, also in pytest.ini and pyproject.toml 1")
    known = project.run("--help").output
    for option in re.findall(r"--[a-z-]+[a-z]|^ +([a-z_]+) = ", table, flags=re.M):
        assert option in known, option


