# SPDX-License-Identifier: MIT
"""Real libraries on real servers: a suite of Django and an engine of SQLAlchemy, on clones of PostgreSQL."""

import glob
import os
import re
import shutil
import sys

import conftest
import pytest
from conftest import PACKAGE

pytest.importorskip("django", reason="python3-django is not installed")
pytest.importorskip("psycopg2", reason="python3-psycopg2 is not installed")
PROGRAMS = [os.path.dirname(path) for path in sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))]
pytestmark = pytest.mark.skipif(not PROGRAMS, reason="there is no PostgreSQL here")
# All of the suite takes minutes: make check-django.
PART = [] if os.environ.get("FIXD_DJANGO") == "all" else ["-k", "[0]"]
if not PART:
    conftest.LIMIT *= 10


@pytest.fixture
def shop(project):
    """The suite, with a cluster that its first test builds."""
    shutil.copytree(os.path.join(PACKAGE, "django"), project.path, dirs_exist_ok=True)
    if os.geteuid() == 0:
        with open(project.file("fixd.ini")) as f:
            project.write("fixd.ini", re.sub(r"^(\[fixture .*\])$", r"\1\nuser = postgres", f.read(), flags=re.MULTILINE))
    project.env.update(PATH=f"{PROGRAMS[-1]}:{os.environ['PATH']}", SHOP_PYTHON=sys.executable)
    return project


def results(shop, *options):
    """Of each test, by name."""
    output = shop.run("-rA", *PART, *options).output
    return dict(reversed(line.split(" ")[:2]) for line in output.splitlines() if re.match("(PASSED|FAILED|ERROR) ", line)), output


def test_the_suite_of_a_shop(shop):
    """The same alone, beside each other and in any order; its tests look whether somebody was there before."""
    alone, output = results(shop)
    assert len(alone) >= (35 if PART else 300) and set(alone.values()) == {"PASSED"}, output
    for options in (["-n", "4", "--order=1"],) if PART else (["-n", "4"], ["--order=1"], ["-n", "4", "--order=2"]):
        found, output = results(shop, *options)
        assert found == alone, output


def test_how_libraries_connect(shop):
    """As README says, for Django a server for each worker, for SQLAlchemy one for each test."""
    pytest.importorskip("sqlalchemy", reason="python3-sqlalchemy is not installed")
    shop.conftest("""
        os.environ.setdefault("DJANGO_SETTINGS_MODULE", "settings")
        import django, sqlalchemy
        django.setup()
        from django.db import connections
        pg, fresh_pg = fixd.use("pg"), fixd.use("pg", scope="function")
        @pytest.fixture(scope="session")
        def django_db_setup(pg):
            connections["default"].settings_dict["HOST"] = pg
            yield
            connections.close_all()
        @pytest.fixture
        def engine(fresh_pg):
            engine = sqlalchemy.create_engine(f"postgresql+psycopg2://test@/shop?host={fresh_pg}")
            yield engine
            engine.dispose()
        """)
    shop.write("test_it.py", """
        import pytest, sqlalchemy
        from sqlalchemy import orm
        class Tag(orm.declarative_base()):
            __tablename__ = "shop_tag"
            id, name = sqlalchemy.Column(sqlalchemy.Integer, primary_key=True), sqlalchemy.Column(sqlalchemy.String)
        seen = []
        @pytest.mark.parametrize("n", range(6))
        def test_visits(django_db_setup, n):
            from shop.models import Visit
            assert Visit.objects.count() == len(seen)
            seen.append(Visit.objects.create(who=str(n)))
        @pytest.mark.parametrize("n", range(4))
        def test_commits(engine, n):
            with orm.Session(engine) as session:
                assert session.query(Tag).count() == 3
                tag = Tag(name=f"tag{n}")
                session.add(tag)
                session.commit()
                assert tag.id == 4
        def test_kills_the_server(engine):
            with pytest.raises(sqlalchemy.exc.DBAPIError), engine.connect() as connection:
                connection.execute(sqlalchemy.text("copy (select 1) to program 'kill -9 $(head -n 1 postmaster.pid)'"))
                connection.execute(sqlalchemy.text("select pg_sleep(60)"))
        """)
    shop.run("-n", "3", "test_it.py").passed(11)
