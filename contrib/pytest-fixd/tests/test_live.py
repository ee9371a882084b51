# SPDX-License-Identifier: MIT
"""Live fixtures: made once, alive in all processes of all runs."""

import os
import subprocess

import pytest
from conftest import BUILD, wait_for


@pytest.fixture
def live(project):
    yield project
    subprocess.run([os.path.join(BUILD, "fixctl"), "--socket", os.path.join(project.home, "fixd", "python", "socket"), "stop"],
                   capture_output=True, env=project.env)


MODEL = """
    class Model:
        def __init__(self, weight):
            self.weight, self.apply = weight, lambda x: x * self.weight    # cannot be pickled
    @fixd.fixture(live=True)
    def model():
        log("load")
        yield Model(3)
        log("unload")
    """
TESTS = """
    import conftest, pytest
    @pytest.mark.parametrize("n", range(4))
    def test_model(model, n):
        assert model.apply(n) == 3 * n and isinstance(model, conftest.Model) and type(model) is conftest.Model
    """


@pytest.mark.parametrize("workers", ["0", "2"])
def test_made_once_in_three_runs(live, workers):
    live.conftest(MODEL)
    live.write("test_it.py", TESTS)
    for _ in range(3):
        output = live.run("-n", workers, "-v").passed(4).output
        assert "warning" not in output, output
    assert live.log() == ["load"]


OBJECTS = {
    "function": ("return lambda x: x + 1", "value(1) == 2"),
    "registry": ("return {'meter': lambda x: x, 'foot': lambda x: x * 0.3048}", "value['foot'](10) == 3.048"),
    "module": ("import json; return json", "value.loads('1') == 1"),
    "generator": ("return iter(range(3))", "next(value) == 0"),
    "lock": ("import threading; return threading.Lock()", "value.acquire(False)"),
    "logger": ("import logging; log = logging.getLogger('live'); log.addHandler(logging.StreamHandler()); return log", "len(value.handlers) == 1"),
    "database": ("import sqlite3; db = sqlite3.connect(':memory:'); db.execute('create table t(x)'); return db",
                 "value.execute('insert into t values(1)').rowcount == 1 and value.execute('select count(*) from t').fetchone() == (1,)"),
}


def test_objects_of_all_kinds(live):
    """Each run has them as they were made."""
    for name, (make, check) in OBJECTS.items():
        live.write(f"{name}_of.py", f"def make():\n    {make}\n")
    live.conftest("".join(f"""
        import {name}_of
        @fixd.fixture(live=True)
        def {name}():
            log("{name}")
            return {name}_of.make()
        """ for name in OBJECTS))
    live.write("test_it.py", "".join(f"def test_{name}({name}):\n    value = {name}\n    assert {check}\n" for name, (_, check) in OBJECTS.items()))
    for _ in range(2):
        live.run().passed(len(OBJECTS))
    assert sorted(live.log()) == sorted(OBJECTS)


def test_engine(live):
    """Of SQLAlchemy: what it has built stays, its connections are opened anew."""
    pytest.importorskip("sqlalchemy")
    live.conftest("""
        import sqlalchemy
        def begin(engine):
            engine.dispose()
            log("after fork")
        @fixd.fixture(live=True, after_fork=begin)
        def engine():
            log("engine")
            e = sqlalchemy.create_engine("sqlite:///" + os.path.join(os.path.dirname(__file__), "db"))
            with e.begin() as c:
                c.execute(sqlalchemy.text("create table if not exists t(x)"))
            e.dispose()
            return e
        """)
    live.write("test_it.py", """
        import sqlalchemy
        def test(engine):
            with engine.connect() as c: assert c.execute(sqlalchemy.text("select count(*) from t")).scalar() == 0
        """)
    for _ in range(2):
        output = live.run().passed(1).output
        assert "warning" not in output, output
    assert live.log() == ["engine", "after fork", "after fork"]


def test_what_after_fork_returns(live):
    live.conftest("""
        @fixd.fixture(live=True, after_fork=lambda value: (os.getpid(), *value))
        def value(): return (os.getpid(),)
        """)
    live.write("test_it.py", "import os\ndef test(value): assert len(value) == 2 and value[0] == os.getpid() != value[1]\n")
    live.run().passed(1)


def test_edits(live):
    """Of the conftest.py, of what it imports, and of what its fixture imports when it is set up."""
    live.write("early.py", "value = 1\n")
    live.write("late.py", "value = 1\n")
    live.conftest("""
        import early
        @fixd.fixture(live=True)
        def value():
            import late
            log("made")
            yield early.value + late.value
            log("ended")
        """)
    live.write("test_it.py", "import os\ndef test(value): assert value == int(os.environ['EXPECTED'])\n")
    for early, late, expected in ((1, 1, "2"), (5, 1, "6"), (5, 5, "10")):
        live.write("early.py", f"value = {early}\n")
        live.write("late.py", f"value = {late}\n")
        for _ in range(2):
            live.run(env={"EXPECTED": expected}).passed(1)
    assert live.count("made") == 3
    wait_for(lambda: live.count("ended") == 2, "the templates to end that are retired")
    assert live.run("--cleanup").code == 0
    wait_for(lambda: live.count("ended") == 3, "the last one to end")


def test_watch(live):
    live.write("data", "1")
    live.conftest("""
        @fixd.fixture(live=True, watch=["data"])
        def value():
            log("made")
            return open(os.path.join(os.path.dirname(__file__), "data")).read()
        """)
    live.write("test_it.py", "def test(value): assert value == open('data').read()\n")
    for text in ("1", "2"):
        live.write("data", text)
        for _ in range(2):
            live.run().passed(1)
    assert live.count("made") == 2


def test_made_of_others(live):
    """Of plain fixtures, and of live ones, which are the same objects."""
    live.conftest("""
        @pytest.fixture(scope="session")
        def plain(): return 1
        @fixd.fixture(live=True)
        def first(plain):
            log("first")
            return [plain]
        @fixd.fixture(live=True)
        def second(first):
            log("second")
            return {"first": first}
        """)
    live.write("test_it.py", "def test(first, second, plain): assert second['first'] is first and first == [plain]\n")
    for _ in range(2):
        live.run().passed(1)
    assert live.log() == ["first", "second"]


def test_each_process_has_its_own(live):
    """What a test does to it is of its process."""
    live.conftest("@fixd.fixture(live=True)\ndef counter(): return {'count': 0}\n")
    live.write("test_it.py", "def test(counter):\n    counter['count'] += 1\n    assert counter['count'] == 1\n")
    for _ in range(2):
        live.run().passed(1)


def test_environment(live):
    live.conftest("@fixd.fixture(live=True)\ndef value():\n    log('made')\n    return os.environ.get('WHICH')\n")
    live.write("test_it.py", "import os\ndef test(value): assert value == os.environ.get('WHICH')\n")
    for which in ("a", "b", "a"):
        live.run(env={"WHICH": which}).passed(1)
    assert live.count("made") == 2


UNFIT = {
    "thread": ("import threading; go = threading.Event(); threading.Thread(target=go.wait, name='busy one', daemon=True).start()", "the thread 'busy one'"),
    "socket": ("import socket; global server; server = socket.create_server(('127.0.0.1', 0))", "share the socket 'conftest.server'"),
    "process": ("import subprocess; global child; child = subprocess.Popen(['sleep', '1'])", "subprocess.Popen('sleep 1')"),
    "fails": ("assert 'FIXD_TEMPLATE' not in os.environ", "in the template it has failed: AssertionError"),
    "option": ("request.config.getoption('verbose')", "it reads an option of the run"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_what_cannot_be_forked_is_built_in_each_process(live, name):
    make, why = UNFIT[name]
    live.conftest(f"@fixd.fixture(live=True)\ndef value(request):\n    {make}\n    return 1\n")
    live.write("test_it.py", "def test(value): assert value == 1\n")
    output = live.run().passed(1).output
    assert "fixture 'value' is built in every process: " in output and why in output, output


def test_where_there_are_no_templates(live):
    live.conftest(MODEL)
    live.write("test_it.py", TESTS)
    live.run(env={"FIXD_DISABLE": "1"}).passed(4)
    assert live.log() == ["load", "unload"]


def test_what_is_opened_where_there_are_no_templates(live):
    """after_fork= makes the value of every process, also of the one that has set it up."""
    live.conftest("""
        class Client:
            def __init__(self, settings): self.settings = settings
        @fixd.fixture(live=True, after_fork=Client)
        def client(): return {"url": "x"}
        """)
    live.write("test_it.py", "def test(client): assert client.settings == {'url': 'x'}\n")
    live.run(env={"FIXD_DISABLE": "1"}).passed(1)
    live.run().passed(1)


def test_coverage_is_that_of_a_plain_run(live):
    pytest.importorskip("pytest_cov")
    live.conftest(MODEL)
    live.write("test_it.py", TESTS)
    live.run().passed(4)
    output = live.run("--cov=conftest", "--cov-report=term").passed(4).output
    assert "coverage is measured" in output and "100%" in next(line for line in output.splitlines() if line.startswith("conftest.py")), output


def test_of_a_test_module(live):
    live.conftest("")
    live.write("test_it.py", "import fixd\n@fixd.fixture(live=True)\ndef value(): return 1\ndef test(value): assert value == 1\n")
    assert "fixture 'value' is built in every process: " in live.run().passed(1).output


def test_of_a_directory_below(live):
    live.conftest(MODEL, "deep/conftest.py")
    live.write("deep/test_it.py", "def test(model): assert model.apply(2) == 6\n")
    live.write("test_other.py", "def test(): pass\n")
    for _ in range(2):
        assert "warning" not in live.run("deep").passed(1).output
    assert live.log() == ["load"]


@pytest.mark.parametrize("said, why", [("live=True, scope='function'", "expected 'session'"), ("live=True, parse=int", "parse= is for data"),
                                       ("after_fork=int", "after_fork= is for live=True")])
def test_what_is_no_live_fixture(live, said, why):
    live.conftest(f"@fixd.fixture({said})\ndef value(): return 1\n")
    live.write("test_it.py", "def test(): pass\n")
    result = live.run()
    assert result.code != 0 and why in result.output
