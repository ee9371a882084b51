# SPDX-License-Identifier: MIT
"""What is built how often, and who gets it."""

import json
import os
import time

import pytest

DISTS = ["load", "loadfile", "loadscope", "worksteal", "each"]


def many(n=8, fixture="data", check="assert data"):
    return f"""
        import pytest, time
        @pytest.mark.parametrize("n", range({n}))
        def test_many({fixture}, n):
            {check}
            time.sleep(0.02)
        """


@pytest.mark.parametrize("workers", ["0", "1", "4"])
def test_built_once_in_three_runs(project, workers):
    """The three runs of the rpytest documentation: 40 s of set-up, once."""
    project.conftest("""
        @fixd.fixture(scope="session")
        def database():
            log("create_database"), log("load_test_data")
            return {"rows": 3}
        """)
    project.write("test_it.py", many(8, "database", "assert database == {'rows': 3}"))
    for _ in range(3):
        project.run("-n", workers, "--reuse-fixtures").passed(8)
    assert project.log() == ["create_database", "load_test_data"]


def test_which_test_asked(project):
    """In the log of events, and so in fixctl trace and report."""
    project.conftest("""
        @fixd.fixture(scope="session")
        def data():
            return b"x" * 1000
        @fixd.fixture(scope="module")
        def index(data):
            return data * 2
        """)
    project.write("test_it.py", "def test_a(data): assert data\ndef test_b(index): assert index\n")
    for _ in range(2):
        project.run("--reuse-fixtures").passed(2)
    events = [json.loads(line) for line in project.fixctl("trace", "--once", "--json").stdout.splitlines()]
    asked = [(e["name"].split("::")[-1].split("@")[0].strip(), e["test"], e["built"]) for e in events if e["event"] == "attach"]
    assert [(test, built) for _, test, built in asked] == [("test_it.py::test_a", True), ("test_it.py::test_b", True),
                                                           ("test_it.py::test_a", False), ("test_it.py::test_b", False)], asked
    report = json.loads(project.fixctl("report", "--json").stdout)
    assert [(f["uses"], f["builds"], f["reuses"], f["scope"]) for f in report["fixtures"]] == [(2, 1, 1, "session"), (2, 1, 1, "module")], report
    assert [e["event"] for e in events if e["event"].startswith("run-")] == ["run-began", "run-ended"] * 2


def test_return_style_is_shared(project):
    project.conftest("""
        @fixd.fixture(scope="session")
        def data():
            log("built")
            return [1, 2]
        """)
    project.write("test_it.py", many())
    project.run("-n", "4").passed(8)
    assert project.count("built") == 1


def test_not_reused(project):
    project.conftest("""
        @fixd.fixture(scope="session", reuse=False)
        def data():
            log("run")
            return 1
        @fixd.fixture(scope="session")
        def other():
            log("reused")
            return 1
        """)
    project.write("test_it.py", many(8, "data, other"))
    for _ in range(2):
        project.run("-n", "2").passed(8)
    assert sorted(project.log()) == ["reused", "run", "run"]
    project.run("--no-reuse-fixtures").passed(8)
    assert project.count("reused") == 2 and project.count("run") == 3
    project.write("pytest.ini", "[pytest]\nreuse_fixtures = false\n")
    project.run().passed(8)
    assert project.count("reused") == 3
    project.run("--reuse-fixtures").passed(8)
    assert project.count("reused") == 3


SCOPED = """
    @fixd.fixture(scope="{scope}")
    def value(request):
        log("built")
        return 1
    """


@pytest.mark.parametrize("scope,times", [("session", 1), ("package", 1), ("module", 3), ("class", 5), ("definition", 6),
                                         ("function", 1)])
@pytest.mark.parametrize("workers", ["0", "3"])
def test_scopes(project, scope, times, workers):
    project.conftest(SCOPED.format(scope=scope))
    for name in ("a/__init__.py", "b/__init__.py"):
        project.write(name, "")
    project.write("a/test_1.py", """
        import pytest
        class TestA:
            @pytest.mark.parametrize("n", range(3))
            def test_1(self, value, n): assert value == 1
        class TestB:
            def test_2(self, value): assert value == 1
            def test_3(self, value): assert value == 1
        """)
    project.write("a/test_2.py", "def test_4(value): assert value == 1\n")
    project.write("b/test_3.py", """
        def test_5(value): assert value == 1
        class TestA:
            def test_6(self, value): assert value == 1
        """)
    project.run("-n", workers).passed(8)
    assert project.count("built") == times
    project.run("-n", workers).passed(8)
    assert project.count("built") == times


def test_package_scope_by_package(project):
    for p in "ab":
        project.write(f"{p}/__init__.py", "")
        project.conftest(SCOPED.format(scope="package"), f"{p}/conftest.py")
        project.write(f"{p}/test_{p}1.py", "def test(value): pass\n")
        project.write(f"{p}/test_{p}2.py", "def test(value): pass\n")
    project.run().passed(4)
    assert project.count("built") == 2


def test_same_name_in_two_conftests(project):
    for p in "ab":
        project.conftest(f"""
            @fixd.fixture(scope="session")
            def data():
                return "of {p}"
            """, f"{p}/conftest.py")
        project.write(f"{p}/test_{p}.py", f"def test(data): assert data == 'of {p}'\n")
    project.run("-n", "2").passed(2)


def test_params(project):
    project.conftest("""
        @fixd.fixture(scope="session", params=[10, 20, "10", (1, 2), None], ids=str)
        def number(request):
            log(repr(request.param))
            return request.param
        """)
    project.write("test_it.py", """
        import pytest
        @pytest.mark.parametrize("n", range(4))
        def test(number, n, request):
            assert repr(number) == repr(request.node.callspec.params["number"])
        """)
    project.run("-n", "3").passed(20)
    assert sorted(project.log()) == sorted(map(repr, [10, 20, "10", (1, 2), None]))


def test_methods_and_request(project):
    project.write("test_it.py", """
        import fixd
        class TestIt:
            factor = 3
            @fixd.fixture(scope="class")
            def value(self, request, tmp_path_factory):
                assert request.fixturename == "value" and tmp_path_factory
                return self.factor * 2
            def test_1(self, value): assert value == 6
            def test_2(self, value): assert value == 6
        """)
    project.run().passed(2)


def test_overriding_a_fixture(project):
    project.conftest("""
        @fixd.fixture(scope="session")
        def data(): return [1]
        """)
    project.conftest("""
        @fixd.fixture(scope="session")
        def data(data): return data + [2]
        """, "sub/conftest.py")
    project.write("sub/test_it.py", "def test(data): assert data == [1, 2]\n")
    project.run().passed(1)


def test_name_and_autouse(project):
    project.conftest("""
        @fixd.fixture(scope="session", name="short", autouse=True)
        def a_long_name():
            log("built")
            return 7
        """)
    project.write("test_it.py", "def test_1(short): assert short == 7\ndef test_2(): pass\n")
    project.run().passed(2)
    assert project.count("built") == 1


# What makes it stale.

def versions(project):
    project.write("helper.py", "def helped():\n    return 1\n")
    project.conftest("""
        from helper import helped
        CONSTANT = 1

        def local_helper():
            return CONSTANT

        @fixd.fixture(scope="session")
        def one():
            log("one")
            return 1

        @fixd.fixture(scope="session")
        def two(one):
            log("two")
            return one + local_helper()

        @fixd.fixture(scope="session")
        def three():
            log("three")
            return helped()
        """)
    project.write("test_it.py", "def test(one, two, three): assert (one, two, three) == (1, 2, 1)\n")
    project.run().passed(1)
    assert sorted(project.log()) == ["one", "three", "two"]
    project.forget()


def edit(project, old, new, file="conftest.py"):
    with open(project.file(file)) as f:
        text = f.read()
    assert old in text
    project.write(file, text.replace(old, new))


@pytest.mark.parametrize("file,old,new,built", [
    ("conftest.py", 'log("one")', 'log("one"); 0', ["one"]),
    ("conftest.py", "return 1\n\n@fixd.fixture(scope=\"session\")\ndef two", "return 2 - 1\n\n@fixd.fixture(scope=\"session\")\ndef two",
     ["one"]),
    ("conftest.py", 'log("two")', '"a doc string"; log("two")', ["two"]),
    ("conftest.py", 'log("one")', 'log("one")  # a comment', []),
    ("conftest.py", "return CONSTANT", "return CONSTANT + 0", ["one", "three", "two"]),
    ("helper.py", "return 1", "return 1 + 0", ["three"]),
    ("test_it.py", "== (1, 2, 1)", "== (1, 2, 1) and True", []),
])
def test_an_edit_rebuilds_what_it_changes(project, file, old, new, built):
    versions(project)
    edit(project, old, new, file)
    project.run("-n", "2").passed(1)
    # Of what is alike afterwards, dependents stay.
    assert sorted(project.log()) == built


def test_dependents_of_a_changed_value(project):
    versions(project)
    edit(project, 'log("one")', 'log("one"); return 5')
    project.write("test_it.py", "def test(one, two, three): assert (one, two, three) == (5, 6, 1)\n")
    project.run().passed(1)
    assert sorted(project.log()) == ["one", "two"]


def test_dependents_through_a_plain_fixture(project):
    project.conftest("""
        @fixd.fixture(scope="session")
        def one(): return 1
        @pytest.fixture(scope="session")
        def plain(one): return one
        @fixd.fixture(scope="session")
        def two(plain):
            log("two")
            return plain + 1
        """)
    project.write("test_it.py", "def test(two): assert two == 2\n")
    project.run().passed(1)
    edit(project, "return 1", "return 3")
    project.write("test_it.py", "def test(two): assert two == 4\n")
    project.run().passed(1)
    assert project.count("two") == 2


def test_watch(project):
    project.write("data/x.txt", "1")
    project.conftest("""
        @fixd.fixture(scope="session", watch="data/*.txt")
        def data():
            log("built")
            return sorted(os.listdir("data"))
        """)
    project.write("test_it.py", "def test(data): assert data\n")
    for _ in range(2):
        project.run().passed(1)
    project.write("data/y.txt", "2")
    project.run().passed(1)
    assert project.count("built") == 2


def test_max_age(project):
    project.conftest("""
        @fixd.fixture(scope="session")
        def data():
            log("built")
            return 1
        """)
    project.write("test_it.py", "def test(data): assert data\n")
    project.run("--fixture-max-age=600").passed(1)
    project.run("--fixture-max-age=1000").passed(1)
    assert project.count("built") == 1, "another max-age alone is no reason"
    time.sleep(1)
    project.run("--fixture-max-age=1").passed(1)
    assert project.count("built") == 2
    time.sleep(1)
    project.run().passed(1)
    assert project.count("built") == 3, "it was too old for those who built it"
    bad = project.run("--fixture-max-age=nought")
    assert bad.code == 4 and "expected a number of seconds" in bad.output


# Options that do something else.

def test_commands(project):
    project.conftest("""
        @fixd.fixture(scope="session")
        def database():
            log("built")
            return 1
        """)
    project.write("test_it.py", "def test(database): assert database\n")
    assert project.run("--daemon-status").code == 3
    assert "listens on" in project.run("--daemon").output
    project.run().passed(1)
    project.run().passed(1)
    status = project.run("--session-status")
    for words in ("Session ID: sess-", f"Repo: {project.path}", "Total Runs: 2", "Active Session Fixtures:", "conftest.py::database",
                  "Reused: 1 times", "Fixture Reuse: ENABLED", "Max Age: 600 seconds"):
        assert words in status.output, status.output
    assert "Daemon" not in status.output
    daemon = project.run("--daemon-status")
    assert daemon.code == 0 and "PID: " in daemon.output
    cleaned = project.run("--cleanup")
    assert cleaned.code == 0 and "Removed: 1" in cleaned.output and "Errors: 0" in cleaned.output
    project.run().passed(1)
    assert project.count("built") == 2
    assert project.run("--daemon-stop").code == 0
    assert project.run("--daemon-status").code == 3
    project.run().passed(1)
    assert project.count("built") == 3


def test_setup_show_and_fixtures(project):
    project.conftest("""
        @fixd.fixture(scope="session")
        def data():
            '''Some data'''
            return 1
        @pytest.fixture(scope="session")
        def plain(): return 1
        """)
    project.write("test_it.py", "def test(data, plain): assert data\n")
    assert "SETUP    S data (built)\n" in project.run("--setup-show").output
    again = project.run("--setup-show").output
    assert "SETUP    S data (reused)\n" in again and "SETUP    S plain\n" in again
    shown = project.run("--fixtures", "-vv").output
    assert "data [session scope] -- conftest.py" in shown and "Some data" in shown and "Shared by fixd" in shown


def test_fifty_runs_at_once(project):
    project.conftest("""
        @fixd.fixture(scope="session")
        def data():
            log("built")
            return 1
        """)
    project.write("test_it.py", "def test(data): assert data\n")
    running = [project.start() for _ in range(12)]
    for process in running:
        output = process.communicate(timeout=120)[0]
        assert process.returncode == 0, output
    assert project.count("built") == 1


def test_daemon_killed_between_and_during_runs(project):
    project.conftest("""
        import signal, subprocess
        @fixd.fixture(scope="session")
        def data():
            log("built")
            return list(range(1000))
        @fixd.fixture(scope="session")
        def late(): return 2
        """)
    project.write("test_it.py", """
        import os, signal, json, subprocess
        def test_1(data): assert data[999] == 999
        def test_kill(data):
            status = subprocess.run([os.environ["FIXD_BIN"] + "/fixctl", "status", "--json"], capture_output=True)
            os.kill(json.loads(status.stdout)["daemon"]["pid"], signal.SIGKILL)
            assert data[999] == 999
        def test_2(data): assert data[999] == 999
        """)
    project.write("test_late.py", "def test_late(late): assert late == 2\n")
    # What is set up when the daemon is gone is this process's own.
    done = project.run("test_it.py", "test_late.py").passed(4)
    assert "the daemon was lost" in done.output and project.count("built") == 1
    project.run("-k", "test_1 or test_2").passed(2)
    assert project.count("built") == 2
