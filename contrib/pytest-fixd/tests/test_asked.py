# SPDX-License-Identifier: MIT
"""What a fixture gets by request.getfixturevalue() is as much a part of it as an argument."""

import pytest


def count(project, *names):
    return [project.count(name) for name in names]


@pytest.mark.parametrize("workers", ["0", "2"])
def test_shared_one(project, workers):
    """Its code, and what it watches."""
    project.write("table.txt", "1")
    inner = """
        @fixd.fixture(scope="session", watch="table.txt")
        def inner(): log("inner"); return [{}, open("table.txt").read()]
        """
    outer = """
        @fixd.fixture(scope="session")
        def outer(request): log("outer"); return request.getfixturevalue("inner") + [3]
        """
    project.write("test_it.py", "import os, pytest\n@pytest.mark.parametrize('n', range(4))\n"
                                "def test(outer, n): assert outer == eval(os.environ['WANTED'])\n")
    for n, (code, watched) in enumerate([("2", "1"), ("2", "1"), ("4", "1"), ("4", "5"), ("4", "5")]):
        if open(project.file("table.txt")).read() != watched:
            project.write("table.txt", watched)
        project.conftest(inner.format(code) + outer)
        built = [1, 1, 2, 3, 3][n]
        output = project.run("-n", workers, env={"WANTED": f"[{code}, '{watched}', 3]"}).passed(4).output
        assert count(project, "inner", "outer") == [built, built], output
        assert "warning" not in output.lower(), output


def test_name_that_is_computed(project):
    """What is asked for next may depend on what was got before; what was built before is used again."""
    project.conftest("""
        @pytest.fixture(scope="session")
        def which(): return os.environ["WHICH"]
        @fixd.fixture(scope="session")
        def red(): log("red"); return "red"
        @fixd.fixture(scope="session")
        def blue(): log("blue"); return "blue"
        @fixd.fixture(scope="session")
        def paint(request, pytestconfig):
            log("paint")
            request.getfixturevalue("pytestconfig")
            return [request.getfixturevalue(request.getfixturevalue("which")), request.getfixturevalue("which")]
        """)
    project.write("test_it.py", "import os\ndef test(paint): assert paint == [os.environ['WHICH']] * 2\n")
    for which, painted in (("red", 1), ("red", 1), ("blue", 2), ("red", 2), ("blue", 2)):
        project.run(env={"WHICH": which}).passed(1)
        assert project.count("paint") == painted
    assert count(project, "red", "blue") == [1, 1]


def test_plain_one(project):
    """Its value, also where a helper has asked for it, and of a fixture of each scope."""
    plain = """
        @pytest.fixture(scope="session")
        def plain(): return {}
        def get(request, name): return request.getfixturevalue(name)
        """
    shared = """
        @fixd.fixture(scope="{0}")
        def by_{0}(request): log("{0}"); return get(request, "plain")
        """
    scopes = ("session", "module", "class", "function")
    names = [f"by_{s}" for s in scopes]
    project.write("test_it.py", f"import os\nclass Test:\n    def test(self, {', '.join(names)}):\n"
                                f"        assert {' == '.join(names)} == int(os.environ['WANTED'])\n"
                                f"    def test_2(self, {', '.join(names)}): self.test({', '.join(names)})\n")
    for n, value in enumerate((1, 1, 2, 1)):
        project.conftest(plain.format(value) + "".join(shared.format(s) for s in scopes))
        project.run(env={"WANTED": str(value)}).passed(2)
        assert count(project, *scopes) == [[1, 1, 2, 2][n]] * 4


def test_one_that_is_not_there(project):
    """Until it is; and whoever asks for what fails, fails."""
    outer = """
        @fixd.fixture(scope="session")
        def outer(request):
            log("outer")
            try: return request.getfixturevalue("extra")
            except pytest.FixtureLookupError: return "nothing"
        """
    extra = """
        @fixd.fixture(scope="session")
        def extra(): {}
        """
    project.write("test_it.py", "import os\ndef test(outer): assert outer == os.environ['WANTED']\n")
    project.conftest(outer)
    for _ in range(2):
        project.run(env={"WANTED": "nothing"}).passed(1)
        assert project.count("outer") == 1
    project.conftest(outer + extra.format("return 'something'"))
    project.run(env={"WANTED": "something"}).passed(1)
    assert project.count("outer") == 2
    project.conftest(outer + extra.format("pytest.skip('not today')"))
    assert project.run().outcomes() == {"skipped": 1}


def test_failure_that_ends(project):
    text = """
        @fixd.fixture(scope="session")
        def inner(): return {}
        @fixd.fixture(scope="session")
        def outer(request): return 1 // request.getfixturevalue("inner")
        """
    project.write("test_it.py", "def test(outer): assert outer == 1\n")
    project.conftest(text.format(0))
    assert "ZeroDivisionError" in project.run().output
    project.conftest(text.format(1))
    project.run().passed(1)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_one_that_cannot_be_compared(project, workers):
    """It is another one in every process, or in every test, and so is what is made of it; key= tells that it is not."""
    project.conftest("""
        class Connection:
            def __reduce__(self): raise TypeError("not at all")
        @pytest.fixture(scope="session")
        def connection(): return Connection()
        @fixd.fixture(scope="session")
        def rows(request): log("rows"); request.getfixturevalue("connection"); return os.getpid()
        @fixd.fixture(scope="session", key=lambda request: "the same")
        def keyed(request): log("keyed"); request.getfixturevalue("connection"); return 1
        @fixd.fixture
        def place(request): return str(request.getfixturevalue("tmp_path"))
        """)
    project.write("test_it.py", "import os, pytest\n@pytest.mark.parametrize('n', range(4))\n"
                                "def test(rows, keyed, place, tmp_path, n):\n"
                                "    assert (rows, keyed, place) == (os.getpid(), 1, str(tmp_path))\n")
    for _ in range(2):
        output = project.run("-n", workers).passed(4).output
        for words in ("fixture 'rows' (conftest.py:12) is built in every process: it uses 'connection', which cannot be compared",
                      "fixture 'place' (conftest.py:16) is built by every test: it uses 'tmp_path', which each test has for itself"):
            assert words in output, output
    assert count(project, "rows", "keyed") == [2 * max(1, int(workers)), 1]


@pytest.mark.parametrize("factory, argument, how", [("tmp_path_factory", "request", 'request.getfixturevalue("tmp_path_factory")'),
                                                    ("tmpdir_factory", "tmpdir_factory", "tmpdir_factory")])
def test_directories_of_a_run(project, factory, argument, how):
    """pytest removes them, whoever uses them later."""
    project.conftest(f"""
        @fixd.fixture(scope="session")
        def path({argument}):
            path = {how}.mktemp("data") / "file"
            open(path, "w").close()
            return str(path)
        """)
    project.write("test_it.py", "import os\ndef test(path, tmp_path_factory):\n"
                                "    assert path.startswith(str(tmp_path_factory.getbasetemp()))\n")
    for _ in (1, 2):
        output = project.run().passed(1).output
        assert f"is built in every process: it uses '{factory}', whose directories end with this run" in output, output


def test_one_that_it_takes_the_place_of(project):
    project.conftest("""
        @fixd.fixture(scope="session", key=lambda request: os.environ["DATA"])
        def data(): log("below"); return os.environ["DATA"]
        """)
    project.write("test_it.py", """
        import os, fixd
        @fixd.fixture(scope="session")
        def data(request): return request.getfixturevalue("data") * 2
        def test(data): assert data == os.environ["DATA"] * 2
        """)
    for value in "aabba":
        project.run(env={"DATA": value}).passed(1)
    assert project.count("below") == 2


@pytest.mark.parametrize("reuse", ["--reuse-fixtures", "--no-reuse-fixtures"])
@pytest.mark.parametrize("how", ["argument", "asked"])
def test_second_halves(project, reuse, how):
    """Each of them once, with all workers, in the order that they have with arguments."""
    text = """
        @fixd.fixture(scope="session")
        def server():
            log("server")
            yield {}
            log("server ends")
        @fixd.fixture(scope="session")
        def client(request):
            log("client")
            yield request.getfixturevalue("server") + 1
            log("client ends")
        """
    if how == "argument":
        text = text.replace("client(request)", "client(server)").replace('request.getfixturevalue("server")', "server")
    project.write("test_it.py", "import os, pytest\n@pytest.mark.parametrize('n', range(6))\n"
                                "def test(client, n): assert client == int(os.environ['WANTED'])\n")
    begin, end = (["server", "client"] if how == "argument" else ["client", "server"]), ["client ends", "server ends"]
    project.conftest(text.format(1))
    for _ in range(2):
        project.run(reuse, "-n2", env={"WANTED": "2"}).passed(6)
    reused = reuse == "--reuse-fixtures"
    assert project.log() == (begin if reused else (begin + end) * 2)
    project.forget()
    project.conftest(text.format(2))
    project.run(reuse, "-n2", env={"WANTED": "3"}).passed(6)
    project.run("--cleanup")
    log = project.log()
    assert sorted(log) == sorted(begin + end * (1 + reused)), log
    assert reused or log == begin + end, log


def test_fixture_that_asks_otherwise_each_time(project):
    """Nothing tells when it is another one."""
    project.conftest("""
        @fixd.fixture(scope="session", key=lambda request: os.environ["KEY"])
        def one(): return os.environ["KEY"]
        @fixd.fixture(scope="session")
        def two(): return "2"
        @fixd.fixture(scope="session")
        def data(request): return request.getfixturevalue(os.environ["WHICH"])
        """)
    project.write("test_it.py", "import os\ndef test(data): assert data == os.environ['WANTED']\n")
    project.run(env={"WHICH": "one", "KEY": "1", "WANTED": "1"}).passed(1)
    output = project.run(env={"WHICH": "two", "KEY": "3", "WANTED": "2"}).passed(1).output
    assert "fixture 'data' (conftest.py:12) is built in every process: it asks for other fixtures than before" in output, output
    for _ in range(2):
        project.run(env={"WHICH": "two", "KEY": "3", "WANTED": "2"}).passed(1)


def test_what_is_done_to_a_test(project):
    """A mark that it gives, and an argument that it changes, belong to the test that has them."""
    project.conftest("""
        @fixd.fixture
        def broken(request):
            request.applymarker(pytest.mark.xfail(reason="known"))
            return 1
        @pytest.fixture
        def calls(): return []
        @fixd.fixture
        def service(calls):
            calls.append("started")
            return "service"
        class Settings:
            def __init__(self): self.words = ["a"]
            @functools.cached_property
            def upper(self): return [w.upper() for w in self.words]
        @pytest.fixture(scope="session")
        def settings(): return Settings()
        @fixd.fixture(scope="session")
        def reads(settings): return settings.upper
        """.replace("@fixd", "import functools\n        @fixd", 1))
    project.write("test_it.py", """
        def test_reads(reads): assert reads == ["A"]
        def test_1(broken): assert False
        def test_2(broken): assert False
        def test_3(service, calls): assert calls == ["started"]
        def test_4(service, calls): assert calls == ["started"]
        """)
    for _ in range(2):
        output = project.run().passed(3).output
        assert "2 xfailed" in output and "'reads'" not in output, output
        assert "fixture 'broken' (conftest.py:9) is built by every test: it uses 'request.applymarker', which each test has for itself" in output, output
        assert "fixture 'service' (conftest.py:15) is built in every process: it has changed its argument 'calls'" in output, output


def test_more_fixtures_than_one_can_be_made_of(project):
    project.conftest("""
        def one(i):
            @fixd.fixture(scope="session", name=f"f{i}")
            def f(): return i
            return f
        for i in range(65): globals()[f"f{i}"] = one(i)
        @fixd.fixture(scope="session")
        def total(request): return sum(request.getfixturevalue(f"f{i}") for i in range(65))
        """)
    project.write("test_it.py", "def test(total): assert total == sum(range(65))\n")
    output = project.run().passed(1).output
    assert "fixture 'total' (conftest.py:13) is built in every process: it uses more than 64 shared fixtures" in output, output
