# SPDX-License-Identifier: MIT
"""The recipes of README for connections, with what every Python has: a small server that is spoken to over a socket, and sqlite3."""

import sqlite3
import sys

import pytest

# Of rows: `set KEY VALUE`, `get KEY`, `die`.  It begins with those that its data has.
SERVER = """
    import os, socket, sys
    rows = dict(line.split() for line in open(os.environ["FIXD_DATA"] + "/rows"))
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(os.environ["FIXD_DIR"] + "/socket")
    listener.listen()
    print(os.environ["FIXD_DIR"], flush=True)
    while True:
        client = listener.accept()[0]
        with client, client.makefile("rw") as words:
            for line in words:
                verb, *rest = line.split()
                if verb == "die":
                    sys.exit(1)
                if verb == "set":
                    rows[rest[0]] = rest[1]
                print(rows.get(rest[0], "none"), file=words, flush=True)
    """

# What a driver does, an engine as SQLAlchemy has it, and the settings of connections as Django has them.
DRIVER = """
    import socket
    class Connection:
        def __init__(self, host):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.connect(host + "/socket")
            self.words = self.socket.makefile("rw")
        def execute(self, command):
            print(command, file=self.words, flush=True)
            return self.words.readline().strip()
        def close(self):
            self.words.close(), self.socket.close()
    class Engine:
        def __init__(self, url):
            self.url, self.pool = url, []
        def connect(self):
            if not self.pool:
                self.pool.append(Connection(self.url.partition("host=")[2]))
            return self.pool[0]
        def dispose(self):
            while self.pool:
                self.pool.pop().close()
    class Configured:
        settings_dict, current = {"HOST": "", "NAME": "test"}, None
        def execute(self, command):
            self.current = self.current or Connection(self.settings_dict["HOST"])
            return self.current.execute(command)
        def close(self):
            if self.current:
                self.current.close()
    connections = {"default": Configured()}
    """

INI = """
    [fixture migrated]
    tree = echo 'ann admin' > "$FIXD_DIR/rows"

    [fixture pg]
    service = exec {python} -S server.py
    data = migrated
    clones = 4

    [fixture schema]
    command = {python} schema.py
    watch = schema.py
"""


@pytest.fixture
def database(project):
    project.write("pytest.ini", "[pytest]\nfixd_config = fixd.ini\n")
    project.write("fixd.ini", INI.format(python=sys.executable))
    project.write("server.py", SERVER)
    project.write("driver.py", DRIVER)
    return project


@pytest.mark.parametrize("workers", ["0", "4"])
def test_an_engine_for_each_test(database, workers):
    database.conftest("""
        from driver import Engine
        pg = fixd.use("pg", scope="function")
        @pytest.fixture
        def engine(pg):
            engine = Engine(f"postgresql+psycopg://test@/test?host={pg}")
            yield engine
            engine.dispose()
        """)
    database.write("test_it.py", """
        import pytest
        @pytest.mark.parametrize("n", range(6))
        def test_commits(engine, n):
            connection = engine.connect()
            assert connection.execute("get ann") == "admin" and connection.execute("get bob") == "none"
            assert connection.execute("set ann nobody") == "nobody" and connection.execute(f"set bob {n}") == str(n)
        @pytest.mark.parametrize("n", range(2))
        def test_kills_the_server(engine, n): assert engine.connect().execute("die") == ""
        """)
    for _ in range(2):
        database.run("-n", workers).passed(8)


@pytest.mark.parametrize("workers", ["0", "3"])
def test_the_settings_of_a_worker(database, workers):
    database.conftest("""
        from driver import connections
        pg = fixd.use("pg")
        @pytest.fixture(scope="session")
        def django_db_setup(pg):
            connections["default"].settings_dict["HOST"] = pg
            yield
            connections["default"].close()
        @pytest.fixture
        def db(django_db_setup): return connections["default"]
        """)
    database.write("test_it.py", """
        import pytest
        @pytest.mark.parametrize("n", range(6))
        def test(db, n): assert db.execute("get ann") == "admin" and db.execute(f"set row{n} {n}") == str(n)
        """)
    for _ in range(2):
        database.run("-n", workers).passed(6)


@pytest.mark.parametrize("ending", ["", "raise ValueError('it is gone')"])
def test_the_server_of_a_worker_is_killed(database, ending):
    """The tests after that have another one, and what was connected to the first has ended."""
    database.conftest("""
        from driver import Engine
        pg = fixd.use("pg")
        @pytest.fixture(scope="session")
        def engine(pg):
            engine = Engine(f"postgresql+psycopg2://test@/test?host={pg}")
            log("made")
            yield engine
            engine.dispose()
            log("ended")
            %s
        """ % ending)
    database.write("test_it.py", """
        import time
        from fixd.plugin import runtime_of
        def test_before(engine): assert engine.connect().execute("set ann nobody") == "nobody"
        def test_kills_it(engine, request):
            assert engine.connect().execute("die") == ""
            while all(held.lease.current for held in runtime_of(request.config).handles.values()):
                time.sleep(0.001)
        def test_after(engine): assert engine.connect().execute("get ann") == "admin"
        def test_again(engine): assert engine.connect().execute("set ann nobody") == "nobody"
        """)
    done = database.run("-n", "0")
    assert done.outcomes()["passed"] == 4 and database.count("made") == database.count("ended") == 2, done.output
    assert "fixture 'pg' has died" in done.output and ("did not end well: ValueError" in done.output) == bool(ending), done.output


@pytest.mark.skipif(not hasattr(sqlite3.Connection, "deserialize"), reason="sqlite3 of this Python has no deserialize()")
def test_sqlite_for_each_test(database):
    database.write("schema.py", """
        import sqlite3, sys
        db = sqlite3.connect(":memory:")
        db.executescript("create table users (name text); insert into users values ('ann');")
        sys.stdout.buffer.write(db.serialize())
        """)
    database.conftest("""
        import sqlite3
        schema = fixd.use("schema")
        @pytest.fixture
        def database(schema):
            db = sqlite3.connect(":memory:")
            db.deserialize(schema)
            yield db
            db.close()
        """)
    database.write("test_it.py", """
        import pytest
        @pytest.mark.parametrize("n", range(3))
        def test(database, n):
            assert database.execute("select name from users").fetchall() == [("ann",)]
            database.execute("insert into users values ('bob')")
            database.commit()
        """)
    for workers in "0", "2":
        database.run("-n", workers).passed(3)
