# SPDX-License-Identifier: MIT
"""What can be shared, and how it looks in a test."""

import json
import re

import pytest

IN_REGION = "0x7e8000000000 <= {0} < 0x7f0000000000"


def test_kinds(project):
    project.conftest("""
        import datetime
        @fixd.fixture(scope="session", params=[b"", b"\\0bytes", "", "str \\u00e4", "\\ud800", {"a": [1, None]}, (1, 2), 10**30,
                                               datetime.date(2026, 1, 1), {1, 2}], ids=repr)
        def value(request): return request.param
        """)
    project.write("test_it.py", """
        def test(value, request):
            want = request.node.callspec.params["value"]
            assert value == want and type(value) is type(want)
        """)
    project.run("-n", "2").passed(10)
    project.run().passed(10)


def test_json(project):
    project.conftest("""
        @fixd.fixture(scope="session", serializer="json")
        def value(): return {"a": (1, 2)}
        """)
    project.write("test_it.py", "def test(value): assert value == {'a': [1, 2]}\n")
    project.run().passed(1)


def test_arrays_are_the_image(project):
    pytest.importorskip("numpy")
    project.conftest("""
        import numpy
        @fixd.fixture(scope="session", writable=False)
        def arrays(): return {"a": numpy.arange(100000), "b": [numpy.ones((50, 50), dtype="f4")], "c": "text"}
        """)
    project.write("test_it.py", f"""
        import numpy, pytest
        def test_place(arrays):
            for a in (arrays["a"], arrays["b"][0]):
                assert {IN_REGION.format('a.ctypes.data')} and not a.flags.writeable
            assert arrays["a"].sum() == 4999950000 and arrays["b"][0].sum() == 2500 and arrays["c"] == "text"
        def test_read_only(arrays):
            with pytest.raises(ValueError, match="read-only"):
                arrays["a"][0] = 1
        """)
    project.run().passed(2)
    project.run("-n", "2").passed(2)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_writable_is_pristine_for_each_test(project, workers):
    pytest.importorskip("numpy")
    project.conftest("""
        import numpy
        @fixd.fixture(scope="module", writable=True)
        def shared(): return numpy.zeros(1000)
        @fixd.fixture
        def mine(): return numpy.zeros(1000)
        @fixd.fixture
        def plain(): return {"count": 0}
        """)
    project.write("test_it.py", """
        import pytest
        @pytest.mark.parametrize("n", range(6))
        def test(shared, mine, plain, n):
            assert shared.sum() == 0 and mine.sum() == 0 and plain == {"count": 0}
            shared[n] = mine[n] = plain["count"] = n + 1
            assert shared.sum() == n + 1
        """)
    for _ in range(2):
        project.run("-n", workers).passed(6)


def test_arrays_outlive_the_fixture(project):
    """Somebody kept it: its memory stays."""
    pytest.importorskip("numpy")
    project.conftest("""
        import numpy
        kept = []
        @fixd.fixture(scope="module")
        def array(): return numpy.arange(1000000)
        """)
    project.write("test_a.py", "def test(array):\n    import conftest\n    conftest.kept.append(array[5:])\n")
    project.write("test_b.py", """
        def test():
            import conftest, gc
            gc.collect()
            assert conftest.kept[0].sum() == 499999500000 - 10
        """)
    project.run().passed(2)


def test_serializer_and_parse(project):
    project.conftest("""
        import datetime
        iso = fixd.Serializer(lambda value: value.isoformat(), datetime.datetime.fromisoformat)

        class Client:
            def __init__(self, port): self.port = port

        @fixd.fixture(scope="session", serializer=iso)
        def when(): return datetime.datetime(2026, 1, 2)

        @fixd.fixture(scope="session", parse=Client)
        def client():
            log("port")
            return 8080
        """)
    project.write("test_it.py", """
        import datetime, pytest
        @pytest.mark.parametrize("n", range(4))
        def test(when, client, n): assert when == datetime.datetime(2026, 1, 2) and client.port == 8080
        """)
    project.run("-n", "2").passed(4)
    assert project.log() == ["port"]


def test_store_lives_as_long_as_its_files(project):
    """The files of a run are gone in the next one, and so is what they hold."""
    project.conftest("""
        from fixd.shared_session_scope import JsonStore
        @fixd.fixture(scope="session", store=JsonStore())
        def value():
            log("built")
            return {"a": 1}
        """)
    project.write("test_it.py", "import pytest\n@pytest.mark.parametrize('n', range(4))\ndef test(value, n): assert value == {'a': 1}\n")
    for n in (1, 2):
        project.run("-n", "2").passed(4)
        assert project.count("built") == n


def test_what_cannot_be_shared(project):
    project.conftest("""
        import threading
        @fixd.fixture(scope="session")
        def lock():
            log("built")
            return threading.Lock()
        """)
    project.write("test_it.py", "def test_1(lock): pass\ndef test_2(lock): pass\n")
    for times in 1, 2:
        done = project.run()
        assert done.outcomes() == {"passed": 2, "warning": 1} and "fixture 'lock' (conftest.py:9) is built in every process: a lock cannot be put" in done.output
        assert "parse= can make" in done.output and project.count("built") == times


def test_bad_arguments(project):
    for arguments, words in [("scope='world'", "expected one of session"), ("serializer='yaml'", "expected one of auto, pickle, json"),
                             ("serializer=3", "has the functions dumps and loads")]:
        project.write("conftest.py", f"import fixd\n@fixd.fixture({arguments})\ndef data(): return 1\n")
        project.write("test_it.py", "def test(data): pass\n")
        assert words in project.run().output
    project.write("conftest.py", "import fixd\n@fixd.fixture\nasync def data(): return 1\n")
    assert "is async" in project.run().output


def test_counter_passes_on_every_rerun(project):
    """The counter of the rpytest documentation, which may fail there."""
    project.conftest("""
        @fixd.fixture(scope="session")
        def counter():
            log("built")
            return {"count": 0}
        """)
    project.write("test_it.py", "def test_increment(counter):\n    counter['count'] += 1\n    assert counter['count'] == 1\n")
    for _ in range(3):
        project.run().passed(1)
    assert project.count("built") == 1


LEAKY = """
    import numpy
    @fixd.fixture(scope="session", writable=True)
    def matrix(): return numpy.zeros(1000)
    """


def test_leaks_are_told(project):
    pytest.importorskip("numpy")
    project.conftest(LEAKY)
    project.write("test_it.py", "def test_bad(matrix): matrix[10] = 1\ndef test_good(matrix): assert matrix.sum() == 0\n")
    told = project.run("--fixd-leaks")
    assert told.outcomes() == {"passed": 2, "warning": 1}, told.output
    assert "test_it.py::test_bad changed the shared fixture 'conftest.py::matrix'" in told.output
    assert "byte 86 of the array" in told.output or "byte 80 of the array" in told.output, told.output
    assert "changed" not in project.run().output
    strict = project.run("--fixd-strict")
    assert strict.outcomes() == {"passed": 2, "error": 1} and "test_bad changed" in strict.output
    project.write("pytest.ini", "[pytest]\nfixd_strict = true\n")
    assert project.run().outcomes() == {"passed": 2, "error": 1}


@pytest.mark.parametrize("scope, workers", [("session", "0"), ("session", "2"), ("module", "0"), ("definition", "0")])
def test_leak_of_the_last_test(project, scope, workers):
    """Before the fixture ends, of what is no array, too."""
    project.conftest(f"""
        @fixd.fixture(scope="{scope}")
        def table(): return {{"rows": []}}
        @fixd.fixture(scope="{scope}")
        def of_it(table): return {{"made": [dict(table)]}}
        """)
    project.write("test_it.py", "def test_good(table): pass\ndef test_bad(table, of_it): table['rows'].append(1); of_it['made'].append(2)\n")
    for _ in (1, 2):
        done = project.run("-n", workers, "--fixd-leaks")
        assert done.outcomes() == {"passed": 2, "warning": 2}, done.output
        for name in ("table", "of_it"):
            assert f"test_it.py::test_bad changed the shared fixture 'conftest.py::{name}' outside of its arrays" in done.output, done.output
    assert project.run("-n", workers, "--fixd-strict").outcomes() == {"passed": 2, "error": 1}


@pytest.mark.parametrize("workers", ["0", "2"])
def test_report_names_who_changed_what(project, workers):
    """Each test, though one attach serves them all."""
    pytest.importorskip("numpy")
    project.conftest(LEAKY + """
    @fixd.fixture
    def own(): return numpy.zeros(10000)
    """)
    project.write("test_it.py", """
        import pytest
        @pytest.mark.parametrize("n", [1, 2])
        def test_bad(matrix, n): matrix[10] = 1
        def test_good(matrix): assert matrix.sum() == 0
        def test_own(own): own[:] = 1
        def test_same(own): assert own.sum() == 0
        """)
    project.run("-n", workers).passed(5)
    report = json.loads(project.fixctl("--session", str(project.path), "report", "--format=json").stdout)
    found = [(c["test"], c["name"], c["scope"], c["dirty_resets"]) for c in report["changed_by"]]
    assert found[0] == ("test_it.py::test_own", "conftest.py::own", "function", 1)
    assert sorted(found[1:]) == [(f"test_it.py::test_bad[{n}]", "conftest.py::matrix", "session", 1) for n in (1, 2)]
    own, *others = [c["pages_changed"] for c in report["changed_by"]]
    assert 19 <= own <= 21 and others == [1, 1]
    events = [json.loads(line) for line in project.fixctl("--session", str(project.path), "trace", "--once", "--json").stdout.splitlines()]
    attached = [(e["test"], e["name"]) for e in events if e["event"] == "attach"]
    assert ("test_it.py::test_own", "conftest.py::own") in attached or ("test_it.py::test_same", "conftest.py::own") in attached
    assert all(test.startswith("test_it.py::test_") for test, _ in attached) and len(attached) >= 2


# Errors.

@pytest.mark.parametrize("workers", ["0", "4"])
def test_failing_fixture_is_built_once(project, workers):
    project.conftest("""
        def deep(): raise ZeroDivisionError("of the builder")
        @fixd.fixture(scope="session")
        def data():
            log("tried")
            deep()
        """)
    project.write("test_it.py", """
        import pytest
        @pytest.mark.parametrize("n", range(8))
        def test(data, n): pass
        """)
    done = project.run("-n", workers)
    assert done.outcomes() == {"error": 8}, done.output
    assert project.count("tried") == 1
    assert done.output.count("ZeroDivisionError: of the builder") >= 8 and "in deep" in done.output or "def deep" in done.output
    project.run("-n", workers)
    assert project.count("tried") == 2, "the next run tries again"


def test_failure_shows_the_fixture_only(project):
    project.conftest("""
        @fixd.fixture(scope="session")
        def broken(): raise OSError("no such luck")
        """)
    project.write("test_it.py", "def test(broken): pass\n")
    done = project.run()
    assert done.outcomes() == {"error": 1} and "conftest.py:9: OSError" in done.output and "_fixtures.py" not in done.output, done.output


@pytest.mark.parametrize("how, outcome", [("skip", "skipped"), ("xfail", "xfailed")])
def test_outcome_in_a_fixture(project, how, outcome):
    """It is that of every test that needs the fixture, whoever runs it."""
    project.conftest(f"""
        @fixd.fixture(scope="session")
        def data(): pytest.{how}("no data here")
        """)
    project.write("test_it.py", "import pytest\n@pytest.mark.parametrize('n', range(4))\ndef test(data, n): pass\n")
    assert project.run("-n", "2").outcomes() == {outcome: 4}


@pytest.mark.parametrize("workers", ["0", "2"])
def test_fixture_that_hangs(project, workers):
    """It is interrupted; those who wait are told, and what comes after it runs."""
    project.conftest("""
        import time
        @fixd.fixture(scope="session", timeout=0.5)
        def hangs(): time.sleep(1000)
        @fixd.fixture(scope="session")
        def another(): return 1
        """)
    project.write("test_it.py", """
        def test_1(hangs): pass
        def test_2(hangs): pass
        def test_3(another): assert another == 1
        """)
    done = project.run("-n", workers, "-v")
    assert done.code == 1 and "1 passed, 2 errors" in done.output, done.output
    assert "took longer than 0.5 s" in done.output or "timed out after" in done.output


def test_limit_of_the_outer_fixture(project):
    """It is not the inner one's, whatever runs when it is over."""
    project.conftest("""
        import time
        @fixd.fixture(scope="session", timeout=60)
        def inner(): time.sleep(3); return 1
        @fixd.fixture(scope="session", timeout=0.5)
        def outer(request): return request.getfixturevalue("inner")
        """)
    project.write("test_it.py", "def test_1(outer): pass\n")
    output = project.run("-v").output
    assert "outer' took longer than 0.5 s" in output, output
    assert "inner' took" not in output


def test_clean_up_of_what_took_too_long(project):
    """It may take its time; an alarm of the fixture's own takes the limit from nobody."""
    project.conftest("""
        import signal, time
        @fixd.fixture(scope="session", timeout=0.3)
        def data():
            signal.alarm(100)
            signal.alarm(0)
            try: time.sleep(1000)
            finally:
                time.sleep(1.5)
                log("cleaned up")
        """)
    project.write("test_it.py", "def test(data): pass\n")
    assert "took longer than 0.3 s" in project.run("-v").output and project.log() == ["cleaned up"]


def test_alarm_of_somebody_else(project):
    """A signal that is not ours goes to whoever has it."""
    project.conftest("""
        import signal, time
        heard = []
        signal.signal(signal.SIGALRM, lambda *_: heard.append(1))
        @fixd.fixture(scope="session", timeout=60)
        def data():
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            while not heard: time.sleep(0.01)
            return 1
        """)
    project.write("test_it.py", "import signal\ndef test(data): assert data == 1 and signal.getsignal(signal.SIGALRM).__name__ == '<lambda>'\n")
    project.run().passed(1)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_without_a_daemon(project, workers):
    project.conftest("""
        @fixd.fixture(scope="session")
        def data():
            log("built")
            yield [1]
            log("ended")
        @fixd.fixture(scope="session", parse=len)
        def parsed(): return "abc"
        @fixd.fixture
        def mine(data): return {"n": 0}
        """)
    project.write("test_it.py", """
        import pytest
        @pytest.mark.parametrize("n", range(4))
        def test(data, parsed, mine, n):
            assert data == [1] and parsed == 3 and mine == {"n": 0}
            mine["n"] = 1
        """)
    disabled = project.run("-n", workers, "-v", env={"FIXD_DISABLE": "1"})
    disabled.passed(4)
    assert disabled.output.count("fixd: warning: FIXD_DISABLE is set") == 1
    n = max(1, int(workers))
    assert project.count("built") == n and project.count("ended") == n
    broken = project.run("-n", workers, "-v", env={"FIXD_BIN": "/nowhere"})
    broken.passed(4)
    assert "every process builds its fixtures itself: the program fixd is not installed" in broken.output
    assert not project.fixctl("status").returncode == 0


def test_daemon_of_the_runtime_directory(project):
    import os

    if os.path.exists("/run/fixd/socket") or os.path.exists(f"/tmp/fixd-{os.geteuid()}/socket"):
        pytest.skip("this machine has a daemon")
    project.write("test_it.py", "import fixd\n@fixd.fixture\ndef data(): return 1\ndef test(data): assert data == 1\n")
    project.run("-v", env={"FIXD_SOCKET": ""}).passed(1)
    assert project.fixctl("status").returncode == 0


def test_daemon_that_cannot_start(project):
    project.write("fixd", "#!/bin/sh\necho 'it is broken' >&2\nexit 1\n")
    import os

    os.chmod(project.file("fixd"), 0o755)
    project.write("test_it.py", "import fixd\n@fixd.fixture\ndef data(): return 1\ndef test(data): assert data == 1\n")
    done = project.run("-v", env={"FIXD_BIN": project.path})
    assert "fixd did not start: it is broken" in done.passed(1).output


def test_reading_is_no_change(project):
    """Where it fills caches: of pandas, of masked arrays, of functools.  What follows them is a change."""
    pytest.importorskip("pandas")
    project.conftest("""
        import functools, numpy, pandas
        class Object:
            @functools.cached_property
            def n(self): return 3
            def __init__(self): self._cache = {}
        def of_dates():
            dates = pandas.date_range("2020-01-01", periods=100)
            return pandas.DataFrame({"d": dates, "x": numpy.arange(100.0), "c": pandas.Categorical(["u", "v"] * 50)}).set_index("d", drop=False)
        @fixd.fixture(scope="session")
        def frame(): return of_dates()
        @fixd.fixture(scope="session")
        def masked(): return numpy.ma.masked_greater(numpy.arange(24.0).reshape(4, 6), 20)
        @fixd.fixture(scope="session")
        def thing(): return Object()
        """)
    project.write("test_it.py", """
        import pytest
        READ = [lambda f: f.loc["2020-01-05"], lambda f: f.resample("D").x.sum(), lambda f: f.values, lambda f: list(f.iterrows()),
                lambda f: f.groupby("c", observed=True).x.sum(), lambda f: f.describe(), repr]
        @pytest.mark.parametrize("i", range(len(READ)))
        def test_frame(frame, i): READ[i](frame)
        def test_masked(masked): assert masked.fill_value == 1e20 and repr(masked)
        def test_thing(thing): assert thing.n == 3
        """)
    project.run("--fixd-strict").passed(9)
    project.write("test_it.py", """
        def test_frame(frame): frame.index.name = "other"
        def test_masked(masked): masked.fill_value = 4
        def test_thing(thing): thing.n = thing.n; thing._cache["m"] = 4
        def test_that_is_last(): pass
        """)
    done = project.run("--fixd-strict", "-v")
    for name in ("frame", "masked", "thing"):
        assert f"test_it.py::test_{name} changed the shared fixture" in done.output, done.output


def test_class_that_somebody_else_has_prepared(project):
    """Where it was built nothing seemed to be missing; who loads it sees that something is."""
    project.conftest("""
        class Prepared(type):
            def __call__(cls):
                cls.tokens = {"a": 1}
                return super().__call__()
        class Lexer(metaclass=Prepared):
            pass
        @fixd.fixture(scope="session")
        def lexer(): log("lexer"); return [Lexer()]
        """)
    project.write("test_it.py", "import conftest\ndef test_other(): conftest.Lexer()\ndef test_it(lexer): assert lexer[0].tokens['a'] == 1\n")
    assert "warning" not in project.run().passed(2).outcomes() and project.count("lexer") == 1
    assert "warning" not in project.run().passed(2).outcomes() and project.count("lexer") == 1
    alone = project.run("test_it.py::test_it").passed(1)
    assert "'lexer' (conftest.py:14) is built in every process: the class Lexer has no tokens here" in alone.output, alone.output
    assert project.count("lexer") == 2


@pytest.mark.parametrize("how", ["fixd.fixture(scope='session', serializer=fixd.Serializer(pickle.dumps, lambda b: pickle.loads(b)))",
                                 "shared_session_scope_pickle()"])
def test_what_making_it_does_by_a_serializer_of_its_own(project, how):
    project.conftest(f"""
        import pickle
        from fixd.shared_session_scope import shared_session_scope_pickle
        class Lazy:
            table = None
            def __init__(self):
                Lazy.table = Lazy.table or {{"a": 1}}
        class Plain: pass
        @{how}
        def lazy(): log("lazy"); return [Lazy()]
        @{how}
        def plain(): log("plain"); return [Plain()]
        """)
    project.write("test_it.py", """
        import pytest
        @pytest.mark.parametrize("n", range(4))
        def test(lazy, plain, n): assert lazy[0].table["a"] == 1
        """)
    done = project.run("-n", "2").passed(4)
    assert project.count("plain") == 1 and "is built in every process: what has made its list has also" in done.output, done.output
    assert "set table of the class Lazy" in done.output and "'plain'" not in done.output, done.output


def test_what_making_it_does_to_its_class(project):
    """Once: a process that only loads it has the class as it was."""
    project.conftest("""
        class Prepared(type):
            def __call__(cls):
                if "_tokens" not in vars(cls):
                    cls._tokens = {"a": 1}
                return super().__call__()
        class Lexer(metaclass=Prepared):
            pass
        class Lazy:
            table, made = None, 0
            def __init__(self):
                Lazy.made += 1
                Lazy.table = Lazy.table or {"a": 1}
        class Counted:
            made = 0
            def __init__(self):
                Counted.made += 1
        class Pair(Exception):
            def __init__(self, a, b):
                super().__init__(a)
        @fixd.fixture(scope="session")
        def lexer(): log("lexer"); return {"of": [Lexer()]}
        @fixd.fixture(scope="session")
        def another(): log("another"); return Lexer()
        @fixd.fixture(scope="session")
        def lazy(): log("lazy"); return Lazy()
        @fixd.fixture(scope="session")
        def counted(): log("counted"); return Counted()
        @fixd.fixture(scope="session")
        def pair(): log("pair"); return Pair(1, 2)
        """)
    project.write("test_it.py", """
        def test_1(lexer): assert lexer["of"][0]._tokens == {"a": 1}
        def test_2(another): assert another._tokens == {"a": 1}
        def test_3(lazy): assert lazy.table["a"] == 1
        def test_4(counted): pass
        def test_5(pair): assert pair.args == (1,)
        """)
    for n in (1, 2):
        done = project.run().passed(5)
        for name, why in (("lexer", "set _tokens of the class Lexer"), ("another", "set _tokens of the class Lexer"),
                          ("lazy", "set table of the class Lazy"), ("pair", "cannot be loaded by another process: TypeError")):
            assert re.search(f"fixture '{name}' \\(conftest.py:[0-9]+\\) is built in every process: .*{why}.*parse=", done.output), done.output
            assert project.count(name) == n
        assert project.count("counted") == 1 and "'counted'" not in done.output


def test_what_a_package_remembers(project):
    """A class of an installed package that has a cache is shared; one of the project may need what it calls so."""
    package = project.write("site-packages/kinds.py", """
        class Kind:
            _cache_of_kinds = {}
            def __init__(self, name): self.name = self._cache_of_kinds.setdefault(name, name)
            def __reduce__(self): return _load, (self.name,)
        def _load(name):
            kind = object.__new__(Kind)
            kind.name = name
            return kind
        """)
    project.write("own.py", open(package).read())
    project.conftest("""
        import sys
        sys.path.insert(0, os.path.join(os.path.dirname(__file__), "site-packages"))
        import kinds, own
        @fixd.fixture(scope="session")
        def kind(): log("kind"); return kinds.Kind("a")
        @fixd.fixture(scope="session")
        def mine(): log("mine"); return own.Kind("a")
        """)
    project.write("test_it.py", "def test(kind, mine): assert kind.name == mine.name == 'a'\n")
    for n in (1, 2):
        done = project.run().passed(1)
        assert "set _cache_of_kinds of the class Kind" in done.output and "'kind'" not in done.output, done.output
    assert project.log() == ["kind", "mine", "mine"]


def test_frames_with_intervals(project):
    """pandas notes down in the class of a type which of them it has made."""
    pytest.importorskip("pandas")
    project.conftest("""
        import pandas
        @fixd.fixture(scope="session")
        def frame():
            log("built")
            return pandas.DataFrame({"i": pandas.interval_range(0, 3), "p": pandas.period_range("2020", periods=3, freq="M")})
        """)
    project.write("test_it.py", "def test(frame): assert str(frame.i.dtype).startswith('interval') and frame.shape == (3, 2)\n")
    for _ in range(2):
        project.run().passed(1)
    assert project.count("built") == 1


YIELDS = {"plain": "value = load()\n    yield value", "after": "value = load()\n    yield value\n    log('end')",
          "needed": "value = load()\n    yield value\n    assert value.table", "finally": "value = load()\n    try:\n        yield value\n    finally:\n        log('end')",
          "with": "with open(os.devnull):\n        value = load()\n        yield value", "other": "value = load()\n    other = value.table\n    yield value\n    assert other"}


@pytest.mark.parametrize("reuse", (True, False))
@pytest.mark.parametrize("way", YIELDS)
def test_a_builder_keeps_no_copy(project, way, reuse):
    """What it has built goes when it has what everybody has, though its generator stays."""
    project.conftest(f"""
        import weakref
        class Model: pass
        built = []
        def load():
            model = Model()
            model.table = [1]
            built.append(weakref.ref(model))
            return model
        @fixd.fixture(scope="session", reuse={reuse})
        def model():
            {YIELDS[way].replace(chr(10), chr(10) + "        ")}
        """)
    project.write("test_it.py", "import conftest, gc\ndef test(model):\n    gc.collect()\n    assert model.table == [1] and conftest.built[0]() is None\n")
    project.run().passed(1)
    project.run("--cleanup")
    assert project.count("end") == (way in ("after", "finally"))


def test_what_a_builder_keeps_alive(project):
    """A variable of its generator may be all that holds what the value leads to."""
    project.conftest("""
        import tempfile
        @fixd.fixture(scope="session", reuse=False)
        def directory():
            made = tempfile.TemporaryDirectory()
            numbers = bytes(10)
            yield made.name
            log("end")
        """)
    project.write("test_it.py", "import gc, os, pytest\n@pytest.mark.parametrize('n', range(4))\ndef test(directory, n):\n    gc.collect()\n    assert os.path.isdir(directory)\n")
    for options in ([], ["-n", "2"]):
        project.run(*options).passed(4)
