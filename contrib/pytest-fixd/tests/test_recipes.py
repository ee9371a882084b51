# SPDX-License-Identifier: MIT
"""The examples of the documents that fixd's users come from, as they stand there."""

import sys

import pytest

COMPAT = "from fixd.shared_session_scope import"

RECIPES = {
    "main": ("""
        {compat} shared_session_scope_json, CleanupToken, SetupToken
        import os
        def log(line):
            with open(os.environ["LOG"], "a") as f: f.write(line + "\\n")
        def expensive_calculation():
            log("calculated")
            return 123
        def clean_up(data):
            log(f"Cleaning up {{data}}")
        @shared_session_scope_json()
        def my_fixture_return():
            return expensive_calculation()
        @shared_session_scope_json()
        def my_fixture():
            data = yield
            if data is SetupToken.FIRST:
                data = expensive_calculation()
            token: CleanupToken = yield data
            if token is CleanupToken.LAST:
                clean_up(data)
        def test_return(my_fixture_return):
            assert my_fixture_return == 123
        def test(my_fixture):
            assert my_fixture == 123
        def test_again(my_fixture, my_fixture_return):
            assert my_fixture == 123
        """, 3, ["Cleaning up 123", "calculated", "calculated"]),
    "pickle": ("""
        {compat} shared_session_scope_pickle, SetupToken
        class CustomObject:
            def __init__(self, value):
                self.value = value
        @shared_session_scope_pickle()
        def my_fixture():
            object_instance = yield
            if object_instance is SetupToken.FIRST:
                object_instance = CustomObject(42)
            yield object_instance
        def test_custom_object(my_fixture):
            assert isinstance(my_fixture, CustomObject)
            assert my_fixture.value == 42
        """, 1, []),
    "non-serializable": ("""
        {compat} shared_session_scope_json
        from datetime import datetime
        def serialize(value: datetime) -> str:
            return value.isoformat()
        def deserialize(value: str) -> datetime:
            return datetime.fromisoformat(value)
        @shared_session_scope_json(serialize=serialize, deserialize=deserialize)
        def my_fixture_return():
            return datetime.now()
        def test_datetime(my_fixture_return):
            assert isinstance(my_fixture_return, datetime)
        """, 1, []),
    "non-serializable-parse": ("""
        {compat} shared_session_scope_fixture, SetupToken
        from fixd.shared_session_scope.store import FileStore
        import json
        def deserialize(value: str) -> dict:
            return json.loads(value)
        def serialize(value: dict) -> str:
            return json.dumps(value)
        class Connection:
            def __init__(self, port: int):
                self.port = port
            @classmethod
            def from_dict(cls, data: dict):
                return cls(**data)
        @shared_session_scope_fixture(
            store=FileStore(),
            parse=Connection.from_dict,
            serialize=serialize,
            deserialize=deserialize,
        )
        def connection():
            data = yield
            if data is SetupToken.FIRST:
                data = {{"port": 123}}
            yield data
        def test_connection(connection):
            assert connection.port == 123
            assert isinstance(connection, Connection)
        def test_again(connection):
            assert connection.port == 123
        """, 2, []),
    # Polars is not in Debian: numpy's files stand for parquet.
    "custom-store": ("""
        from typing import Any
        {compat} shared_session_scope_fixture, SetupToken
        import numpy
        from fixd.shared_session_scope.store import LocalFileStoreMixin
        from fixd.shared_session_scope.types import StoreValueNotExists
        class NumpyStore(LocalFileStoreMixin):
            def read(self, identifier: str, fixture_values: dict[str, Any]):
                path = self._get_path(identifier, fixture_values["tmp_path_factory"])
                try:
                    with open(path, "rb") as f:
                        return numpy.load(f)
                except FileNotFoundError:
                    raise StoreValueNotExists()
            def write(self, identifier: str, data, fixture_values: dict[str, Any]):
                path = self._get_path(identifier, fixture_values["tmp_path_factory"])
                with open(path, "wb") as f:
                    numpy.save(f, data)
        @shared_session_scope_fixture(NumpyStore())
        def my_fixture():
            data = yield
            if data is SetupToken.FIRST:
                data = numpy.array([1, 2, 3])
            yield data
        def test_array(my_fixture):
            assert isinstance(my_fixture, numpy.ndarray) and my_fixture.sum() == 6
        def test_again(my_fixture):
            assert my_fixture.sum() == 6
        """, 2, []),
    "returning-functions": ("""
        import pytest
        {compat} shared_session_scope_json
        @shared_session_scope_json()
        def important_ids():
            return [1,2,3]
        @pytest.fixture
        def cleanup_important_ids(important_ids):
            ids_to_cleanup = []
            def use_id(id_):
                if id_ not in important_ids:
                    raise ValueError(f"{{id_}} not in important_ids!")
                ids_to_cleanup.append(id_)
            yield use_id
            for id in ids_to_cleanup:
                print(f"Cleaning up {{id}}")
        def test_thing_with_ids(important_ids, cleanup_important_ids):
            for id in important_ids:
                cleanup_important_ids(id)
        """, 1, []),
    "cache": ("""
        {compat} shared_session_scope_json, SetupToken
        @shared_session_scope_json()
        def my_fixture(pytestconfig):
            data = yield
            if data is SetupToken.FIRST:
                data = pytestconfig.cache.get("example/value", None)
                if data is None:
                    data = {{"hey": "data"}}
                    pytestconfig.cache.set("example/value", data)
            yield data
        def test(my_fixture):
            assert my_fixture == {{"hey": "data"}}
        """, 1, []),
}


@pytest.mark.parametrize("workers", ["0", "3"])
@pytest.mark.parametrize("recipe", sorted(RECIPES))
def test_shared_session_scope(project, recipe, workers):
    text, n, log = RECIPES[recipe]
    project.write("test_it.py", text.format(compat=COMPAT))
    project.run("-n", workers, *(["-p", "cacheprovider"] if recipe == "cache" else [])).passed(n)
    assert sorted(project.log()) == log


TOKENS = f"""
    {COMPAT} shared_session_scope_json, CleanupToken, SetupToken
    @shared_session_scope_json({{arguments}})
    def data({{request}}):
        data = yield
        if data is SetupToken.FIRST:
            log("first")
            data = {{value}}
        token = yield data
        if token is CleanupToken.LAST:
            log("last")
    """
USERS = """
    import os, signal, pytest, time
    @pytest.mark.parametrize("n", range(12))
    def test(data, n):
        assert {what}
        time.sleep(0.01)
    """


def tokens(project, arguments="", request="", value="1", what="data == 1"):
    import textwrap

    project.conftest(textwrap.dedent(TOKENS).format(arguments=arguments, request=request, value=value))
    project.write("test_it.py", USERS.format(what=what))


@pytest.mark.parametrize("arguments", [["-n", "4"], ["-n", "2", "-x"], ["-n", "0"], ["-n", "0", "-x"]])
def test_tokens_once(project, arguments):
    tokens(project, what="n < 5" if "-x" in arguments else "data == 1")
    project.run(*arguments)
    assert sorted(project.log()) == ["first", "last"]


def test_tokens_when_a_worker_dies(project):
    tokens(project)
    project.write("test_die.py", "import os\ndef test_die(data): os._exit(1)\n")
    project.run("-n", "3")
    assert project.count("first") == 1 and project.count("last") == 1, project.log()


def test_tokens_with_params(project):
    tokens(project, "params=[10, 20]", "request", "request.param", "data in (10, 20)")
    project.run("-n", "3").passed(24)
    assert sorted(project.log()) == ["first"] * 2 + ["last"] * 2


def test_tokens_misused(project):
    project.conftest(f"""
        {COMPAT} shared_session_scope_json
        @shared_session_scope_json()
        def one(): yield 1
        @shared_session_scope_json()
        def three():
            yield
            yield 1
            yield 2
        """)
    project.write("test_it.py", "def test_1(one): pass\ndef test_2(three): pass\n")
    done = project.run()
    assert "MUST yield exactly twice" in done.output and "yields more than twice" in done.output


def test_model_client_and_database(project):
    """The tutorial on expensive resources: what is heavy is data, what lives is made of it in every process."""
    pytest.importorskip("numpy")
    project.conftest("""
        import sqlite3, numpy

        class SentimentModel:
            def __init__(self, weights):
                self.weights, self.call_count = weights, 0
            def classify(self, text):
                self.call_count += 1
                return "positive" if "good" in text.lower() else "negative"

        @fixd.fixture(scope="definition", parse=SentimentModel)
        def sentiment_model():
            log("loading model")
            return numpy.ones((1000, 300), dtype="f4")

        @fixd.fixture(scope="session", parse=SentimentModel)
        def shared_model():
            log("loading shared model")
            return numpy.ones((1000, 300), dtype="f4")

        class OpenAI:
            def __init__(self, api_key): self.api_key, self.pool = api_key, []

        @fixd.fixture(scope="session", parse=OpenAI)
        def openai_client():
            log("authenticating")
            return "token"

        def open_database(data):
            conn = sqlite3.connect(":memory:")
            conn.deserialize(data)
            return conn

        @fixd.fixture(parse=open_database)
        def test_database():
            log("creating schema")
            conn = sqlite3.connect(":memory:")
            conn.execute("CREATE TABLE evaluations (id INTEGER, result TEXT, score REAL)")
            conn.execute("INSERT INTO evaluations VALUES (1, 'positive', 0.85)")
            conn.execute("INSERT INTO evaluations VALUES (2, 'negative', 0.12)")
            conn.commit()
            return conn.serialize()
        """)
    project.write("test_evals.py", """
        import pytest
        data = [("This is good", "positive"), ("This is bad", "negative"), ("Really good stuff", "positive")]

        @pytest.mark.parametrize("text,expected", data)
        def test_sentiment(text, expected, sentiment_model):
            assert sentiment_model.classify(text) == expected and sentiment_model.weights.shape == (1000, 300)

        @pytest.mark.parametrize("text,expected", data)
        def test_sentiment_2(text, expected, sentiment_model, shared_model):
            assert sentiment_model.classify(text) == expected == shared_model.classify(text)

        def test_count(shared_model): assert shared_model.classify("good") == "positive"

        def test_llm(openai_client): assert openai_client.api_key == "token"

        @pytest.mark.parametrize("n", range(3))
        def test_database_is_pristine(test_database, n):
            assert test_database.execute("select count(*) from evaluations").fetchone() == (2,)
            test_database.execute("delete from evaluations")
        """)
    if sys.version_info < (3, 11):
        pytest.skip("sqlite3 can serialize from Python 3.11 on")
    project.run().passed(11)
    assert sorted(project.log()) == ["authenticating", "creating schema", "loading model", "loading model", "loading shared model"]
    project.run("-n", "3").passed(11)
    assert len(project.log()) == 5


def test_cards(project):
    """Chapter 3 of the pytest book: a session database, emptied for each test."""
    project.write("cards.py", """
        import sqlite3, pathlib
        class CardsDB:
            def __init__(self, path):
                self.db = sqlite3.connect(pathlib.Path(path) / "cards.db")
                self.db.execute("create table if not exists cards (summary text)")
            def add_card(self, summary):
                self.db.execute("insert into cards values (?)", (summary,)); self.db.commit()
            def count(self): return self.db.execute("select count(*) from cards").fetchone()[0]
            def delete_all(self): self.db.execute("delete from cards"); self.db.commit()
            def close(self): self.db.close()
        """)
    project.conftest("""
        import tempfile, shutil
        from cards import CardsDB

        @fixd.fixture(scope="session", reuse=False)
        def db_path():
            log("create")
            path = tempfile.mkdtemp(dir=os.getcwd())
            CardsDB(path).close()
            yield path
            shutil.rmtree(path)
            log("remove")

        @pytest.fixture(scope="session")
        def db(db_path):
            db_ = CardsDB(db_path)
            yield db_
            db_.close()

        @pytest.fixture(scope="function")
        def cards_db(db):
            db.delete_all()
            return db
        """)
    project.write("test_cards.py", """
        def test_empty(cards_db): assert cards_db.count() == 0
        def test_two(cards_db):
            cards_db.add_card("first"); cards_db.add_card("second")
            assert cards_db.count() == 2
        def test_empty_again(cards_db): assert cards_db.count() == 0
        """)
    shown = project.run("--setup-show").passed(3).output
    order = [line.strip().split(" (")[0] for line in shown.splitlines() if "SETUP" in line or "TEARDOWN" in line]
    assert order == ["SETUP    S db_path", "SETUP    S db", "SETUP    F cards_db", "TEARDOWN F cards_db", "SETUP    F cards_db",
                     "TEARDOWN F cards_db", "SETUP    F cards_db", "TEARDOWN F cards_db", "TEARDOWN S db", "TEARDOWN S db_path"]
    assert "SETUP    S db (fixtures used: db_path)" in shown and "SETUP    S db_path (built)" in shown
    assert project.log() == ["create", "remove"]


def test_a_large_table_and_wordnet(project):
    """200,000 records and the nouns of WordNet, in four processes and in the next run."""
    pytest.importorskip("numpy")
    import os

    if not os.path.exists("/usr/share/wordnet/data.noun"):
        pytest.skip("WordNet is not installed (package wordnet-base)")
    project.conftest("""
        import numpy

        @fixd.fixture(scope="session")
        def records():
            log("records")
            return [(i, f"name {i}", i * 0.5) for i in range(200_000)]

        @fixd.fixture(scope="session")
        def table(records):
            log("table")
            return numpy.array([(i, x) for i, _, x in records], dtype=[("id", "i8"), ("x", "f8")])

        @fixd.fixture(scope="session", watch=["/usr/share/wordnet/data.noun"])
        def nouns():
            log("nouns")
            words = {}
            with open("/usr/share/wordnet/data.noun", encoding="latin-1") as f:
                for line in f:
                    if not line.startswith(" "):
                        fields = line.split()
                        words.setdefault(fields[4].lower(), []).append(int(fields[0]))
            return words
        """)
    project.write("test_it.py", """
        import pytest
        @pytest.mark.parametrize("n", range(8))
        def test(records, table, nouns, n):
            assert len(records) == 200_000 and records[n] == (n, f"name {n}", n * 0.5)
            assert table["x"].sum() == sum(range(200_000)) / 2 and table.flags.writeable
            assert len(nouns["dog"]) >= 1 and sum(map(len, nouns.values())) == 82115
        """)
    for _ in range(2):
        project.run("-n", "4").passed(8)
    assert sorted(project.log()) == ["nouns", "records", "table"]
