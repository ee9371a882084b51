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
