# SPDX-License-Identifier: MIT
"""What tells one instance from another, and what makes it another version."""

import json
import os
import re
import shutil

import pytest


def run_twice(project, edit, built=2, args=()):
    """Runs, edits, runs again; `log` has a line for each build."""
    project.run(*args).passed(1)
    edit()
    project.run(*args).passed(1)
    assert project.count("built") == built, project.log()


TABLE = """
    @fixd.fixture(scope="session")
    def table({arguments}):
        log("built")
        {body}
    """


def table(project, body, arguments="", head=""):
    import textwrap

    project.conftest(head + "\n" + textwrap.dedent(TABLE).format(arguments=arguments, body=body))


@pytest.mark.parametrize("head,body,file,new", [
    ("from conf2 import N", "return N", "conf2.py", "N = 2\n"),
    ("from conf2 import *", "return N", "conf2.py", "N = 2\n"),
    ("import conf2", "return conf2.N", "conf2.py", "N = 2\n"),
    ("import conf2 as other", "return other.N", "conf2.py", "N = 2\n"),
    ("", "import conf2; return conf2.N", "conf2.py", "N = 2\n"),
    ("from pkg import sub", "return sub.N", "pkg/sub.py", "N = 2\n"),
    ("import ns.conf2", "return ns.conf2.N", "ns/conf2.py", "N = 2\n"),
    ("from between import N", "return N", "conf2.py", "N = 2\n"),
    ("def testdata():\n    import conf2\n    return conf2.N", "return testdata()", "conf2.py", "N = 2\n"),
    ("class TestData:\n    from conf2 import N", "return TestData.N", "conf2.py", "N = 2\n"),
])
def test_edits_of_what_it_refers_to(project, head, body, file, new):
    for name in ("conf2.py", "pkg/sub.py", "ns/conf2.py"):
        project.write(name, "N = 1\n")
    project.write("pkg/__init__.py", "")
    project.write("between.py", "from conf2 import N\n")
    table(project, body, head=head)
    project.write("test_it.py", f"def test(table):\n    from {file[:-3].replace('/', '.')} import N\n    assert table == N\n")
    run_twice(project, lambda: project.write(file, new))


def edit_comment(project):
    with open(project.file("conftest.py"), "a") as f:
        f.write("# a comment\n\n@pytest.fixture\ndef another(): return 2\n")


def test_edits_that_change_nothing(project):
    project.write("conf2.py", "N = 1\n")
    project.write("other.py", "N = 1\n")
    table(project, "return conf2.N", head="import conf2, other")
    project.write("test_it.py", "def test(table): assert table == 1\n")
    run_twice(project, lambda: (project.write("other.py", "N = 2\n"), edit_comment(project)), built=1)


def test_many_modules_and_none_is_imported(project):
    """A fixture of a large application: its modules are looked at, not run."""
    for n in range(1500):
        project.write(f"app/m{n}.py", f"from . import m{(n * 7 + 1) % 1500}\nimport app.m{(n * 3 + 2) % 1500} as x\n" + "def f(): pass\n" * 50)
    project.write("app/__init__.py", "")
    project.write("app/entry.py", "def work():\n    from app import m0\n    return 1\n")
    project.write("app/m700.py", "raise SystemExit('imported')\n")
    table(project, "return entry.work() if False else 1", head="from app import entry")
    project.write("test_it.py", "def test(table): assert table == 1\n")
    run_twice(project, lambda: project.write("app/m800.py", "N = 2\n"))


def test_code_beside_the_root(project):
    project.write("src/lib.py", "N = 1\n")
    project.write("tests/pytest.ini", "[pytest]\npythonpath = ../src\n")
    project.conftest("""
        import lib
        @fixd.fixture(scope="session")
        def table():
            log("built")
            return lib.N
        """, "tests/conftest.py")
    project.write("tests/test_it.py", "import lib\ndef test(table): assert table == lib.N\n")
    run_twice(project, lambda: project.write("src/lib.py", "N = 2\n"), args=("--rootdir", "tests", "tests"))


def test_attributes_of_the_class(project):
    test = "import fixd\nclass TestX:\n    n = {n}\n    @fixd.fixture\n    def f(self): return self.n\n    def test(self, f): assert f == {n}\n"
    project.write("test_it.py", test.format(n=1))
    project.run().passed(1)
    project.write("test_it.py", test.format(n=2))
    project.run().passed(1)


def test_plain_fixtures_among_its_arguments(project):
    head = "@pytest.fixture(scope='session')\ndef size(): return {n}\n"
    table(project, "return size", "size", head.format(n=2))
    project.write("test_it.py", "def test(table, size): assert table == size\n")
    run_twice(project, lambda: table(project, "return size", "size", head.format(n=3)))


def test_params_of_plain_fixtures(project):
    table(project, "return n * 10", "n", "@pytest.fixture(params=[1, 2, 1], scope='session')\ndef n(request): return request.param\n")
    project.write("test_it.py", "def test(table, n): assert table == n * 10\n")
    project.run().passed(3)
    assert project.count("built") == 2


def test_parametrized_arguments(project):
    project.conftest("""
        @fixd.fixture
        def table(n):
            log("built")
            return n
        """)
    project.write("test_it.py", "import pytest\n@pytest.mark.parametrize('n', [1, 2, 1])\ndef test(n, table): assert table == n\n")
    project.run().passed(3)
    assert project.count("built") == 2


def test_overridden_plain_fixture(project):
    table(project, "return n", "n", "@pytest.fixture(scope='session')\ndef n(): return 1\n")
    project.write("a/test_a.py", "def test(table): assert table == 1\n")
    project.write("sub/conftest.py", "import pytest\n@pytest.fixture(scope='session')\ndef n(): return 2\n")
    project.write("sub/test_b.py", "def test(table, n): assert n == 2\n")
    project.run().passed(2)


def test_what_each_test_has_for_itself(project):
    project.conftest("""
        @fixd.fixture
        def repo(tmp_path):
            log("built")
            (tmp_path / "x").write_text("x")
            return tmp_path
        @fixd.fixture
        def quiet(monkeypatch):
            monkeypatch.setenv("QUIET", "1")
            return 1
        """)
    project.write("test_it.py", """
        import os, pytest
        @pytest.mark.parametrize("n", range(3))
        def test(repo, quiet, tmp_path, n):
            assert repo == tmp_path and (repo / "x").exists() and os.environ["QUIET"] == "1"
            (repo / "x").unlink()
        """)
    done = project.run().passed(3)
    assert project.count("built") == 3 and "is built by every test: it uses 'tmp_path'" in done.output


def test_what_pytest_offers_is_no_part_of_the_key(project):
    """Every worker has a base directory of its own."""
    table(project, "return len(str(tmp_path_factory.mktemp('x'))) > 0 and pytestconfig is not None",
          "tmp_path_factory, pytestconfig")
    project.write("test_it.py", "import pytest\n@pytest.mark.parametrize('n', range(6))\ndef test(table, n): assert table\n")
    for _ in range(2):
        project.run("-n", "3").passed(6)
    assert project.count("built") == 1


def test_key(project):
    table(project, "return request.config.getoption('size')", "request",
          "def pytest_addoption(parser): parser.addoption('--size', type=int, default=0)\n")
    with open(project.file("conftest.py")) as f:
        text = f.read()
    project.write("conftest.py", text.replace('scope="session")', 'scope="session", key=lambda request: request.config.getoption("size"))'))
    project.write("test_it.py", "def test(table, request): assert table == request.config.getoption('size')\n")
    for size in (1, 2, 1):
        project.run(f"--size={size}").passed(1)
    assert project.count("built") == 2


def test_decorated_by_a_helper(project):
    project.write("helpers.py", """
        import functools
        def d(f):
            @functools.wraps(f)
            def inner(*a, **k): return f(*a, **k)
            return inner
        """)
    for p in "ab":
        project.conftest(f"""
            from helpers import d
            @fixd.fixture(scope="session")
            @d
            def data(): return "{p}"
            """, f"{p}/conftest.py")
        project.write(f"{p}/test_{p}.py", f"def test(data): assert data == '{p}'\n")
    project.run("--import-mode=importlib", env={"PYTHONPATH": f"{project.env['PYTHONPATH']}:{project.path}"}).passed(2)


def test_rootdir_elsewhere(project):
    import os

    os.mkdir(project.file("root"))
    for p in "ab":
        project.conftest(f"@fixd.fixture(scope='session')\ndef data(): return '{p}'\n", f"{p}/conftest.py")
        project.write(f"{p}/test_{p}.py", f"def test(data): assert data == '{p}'\n")
    for p in "ab":
        project.run("--rootdir=root", p).passed(1)


def test_fixtures_from_a_factory(project):
    project.conftest("""
        def make(n, name):
            @fixd.fixture(scope="session", name=name)
            def f(request):
                return n if n == 1 else request.getfixturevalue("one") + 1
            return f
        a, b = make(1, "one"), make(2, "two")
        """)
    project.write("test_it.py", "def test(one, two): assert (one, two) == (1, 2)\n")
    project.run().passed(1)


def test_methods_of_a_base_class(project):
    project.write("test_it.py", """
        import fixd
        class Base:
            @fixd.fixture
            def f(self): return self.make()
            def test(self, f): assert f == self.make()
        class TestA(Base):
            def make(self): return "a"
        class TestB(Base):
            def make(self): return "b"
        """)
    project.run().passed(2)


def test_params_that_cannot_be_pickled(project):
    project.conftest("@fixd.fixture\ndef table(request): return request.param()\n")
    for n in (1, 2):
        project.write(f"test_{n}.py", f"import pytest\n@pytest.mark.parametrize('table', [lambda: {n}], indirect=True)\n"
                                      f"def test(table): assert table == {n}\n")
    project.run().passed(2)


def test_params_that_are_sets(project):
    project.conftest("""
        @fixd.fixture(scope="session", params=[{"a", "b", "c", "d"}], ids=str)
        def data(request):
            log("built")
            return sorted(request.param)
        """)
    project.write("test_it.py", "def test(data): assert data == ['a', 'b', 'c', 'd']\n")
    for seed in "123":
        project.run(env={"PYTHONHASHSEED": seed}).passed(1)
    assert project.count("built") == 1


def test_a_build_that_writes_to_what_it_is_made_of(project):
    pytest.importorskip("numpy")
    project.conftest("""
        import numpy
        @fixd.fixture
        def a(): return numpy.zeros(5)
        @fixd.fixture
        def b(a):
            a += 1
            return float(a.sum())
        """)
    project.write("test_it.py", "def test_1(a, b): assert (a.sum(), b) == (0, 5)\ndef test_2(a, b): assert (a.sum(), b) == (0, 5)\n")
    project.run().passed(2)


def test_callable_scope_and_no_age(project):
    project.conftest("""
        @fixd.fixture(scope=lambda fixture_name, config: "module")
        def data():
            log("built")
            return 1
        @fixd.fixture(scope="session", max_age=0)
        def young():
            log("young")
            return 1
        """)
    for n in "ab":
        project.write(f"test_{n}.py", "def test(data, young): pass\n")
    for _ in range(2):
        project.run().passed(2)
    assert project.count("built") == 2 and project.count("young") >= 2


# Second halves.

@pytest.mark.parametrize("body,expected", [
    # A condition decides.
    ("c = False\n    if c:\n        yield 1\n        log('a')\n    else:\n        yield 2\n        log('b')", ["b"]),
    ("if False:\n        yield None\n        return\n    yield 1\n    log('down')", ["down"]),
    ("try:\n        yield 1\n    except ValueError:\n        log('except')\n    else:\n        log('else')\n    finally:\n        log('finally')",
     ["else", "finally"]),
    ("import json\n    yield 1\n    log(json.dumps([1]))", ["[1]"]),
    ("x = 1\n    del x\n    yield 1\n    try:\n        x\n    except UnboundLocalError:\n        log('unset')", ["unset"]),
    ("n = 5\n    def bump():\n        nonlocal n\n        n += 1\n        return n\n    n = 6\n    yield 1\n    log(str(n))", ["6"]),
])
@pytest.mark.parametrize("reuse", ["True", "False"])
def test_second_halves(project, body, expected, reuse):
    project.write("conftest.py", "import os, fixd\ndef log(line):\n    with open(os.environ['LOG'], 'a') as f:\n        f.write(line + '\\n')\n"
                                 f"@fixd.fixture(scope='session', reuse={reuse})\ndef value():\n    {body}\n")
    project.write("test_it.py", "def test(value): assert value\n")
    project.run().passed(1)
    assert project.run("--cleanup").code == 0
    assert project.log() == expected


def test_second_half_in_a_package(project):
    project.write("tests/__init__.py", "")
    project.write("tests/sub/__init__.py", "")
    project.write("tests/sub/util.py", "import os\ndef log(s):\n    with open(os.environ['LOG'], 'a') as f: f.write(s + '\\n')\n")
    project.write("tests/sub/conftest.py", "import fixd\nfrom .util import log\n@fixd.fixture(scope='session')\ndef value():\n"
                                           "    yield 1\n    log('down')\n")
    project.write("tests/sub/test_it.py", "def test(value): assert value == 1\n")
    project.run().passed(1)
    assert project.run("--cleanup").code == 0, project.log()
    assert project.log() == ["down"]


def test_second_half_after_a_failure(project):
    project.conftest("""
        import threading
        @fixd.fixture(scope="session")
        def value():
            log("up")
            yield threading.Lock()
            log("down")
        """)
    project.write("test_it.py", "def test(value): pass\n")
    project.run()
    assert project.log() == ["up", "down"]


@pytest.mark.parametrize("reuse", ["True", "False"])
def test_teardown_that_is_a_lambda(project, reuse):
    project.conftest(f"""
        @fixd.fixture(scope="session", reuse={reuse}, teardown=lambda data: log(f"down {{data}}"))
        def value():
            log("up")
            return 7
        """)
    project.write("test_it.py", "def test(value): assert value == 7\n")
    project.run("-n", "2").passed(1)
    assert project.log() == ["up", "down 7"]


def test_teardown_of_the_library(project):
    project.conftest("""
        @fixd.fixture(scope="session", teardown=os.unlink)
        def path():
            open("made", "w").close()
            return os.path.abspath("made")
        """)
    project.write("test_it.py", "import os\ndef test(path): assert os.path.exists(path)\n")
    project.run().passed(1)
    project.run().passed(1)
    assert project.run("--cleanup").code == 0
    import os

    assert not os.path.exists(project.file("made"))


# Runs, processes, errors.

def test_pytest_inside_a_test(project):
    project.conftest("""
        @fixd.fixture(scope="session", reuse=False)
        def server():
            log("up")
            yield 1
            log("down")
        """)
    project.write("inner.py", "def test(server): assert server == 1\n")
    project.write("test_it.py", """
        import subprocess, sys
        def test(server):
            done = subprocess.run([sys.executable, "-m", "pytest", "-p", "fixd.plugin", "-q", "-p", "no:cacheprovider", "inner.py"],
                                  timeout=60, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout
        """)
    for workers in ("0", "2"):
        project.forget()
        project.run("-n", workers).passed(1)
        assert project.log() == ["up", "up", "down", "down"]


def test_each_test_in_a_forked_child(project):
    project.conftest("""
        @fixd.fixture(scope="session", reuse=False)
        def server():
            log("up")
            yield 1
            log("down")
        @pytest.hookimpl(tryfirst=True)
        def pytest_runtest_protocol(item, nextitem):
            from _pytest.runner import runtestprotocol
            pid = os.fork()
            if pid == 0:
                reports = runtestprotocol(item, nextitem=nextitem, log=False)
                os._exit(0 if all(r.passed for r in reports) else 1)
            failed = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
            item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
            from _pytest.reports import TestReport
            report = TestReport(item.nodeid, item.location, {}, "failed" if failed else "passed", None, "call")
            item.ihook.pytest_runtest_logreport(report=report)
            return True
        """)
    project.write("test_it.py", "import pytest\n@pytest.mark.parametrize('n', range(3))\ndef test(server, n): assert server == 1\n")
    project.run().passed(3)
    assert project.count("up") == project.count("down") >= 1, project.log()


def test_fixtures_that_wait_for_each_other(project):
    project.conftest("""
        import time
        @fixd.fixture(scope="session")
        def a(request):
            time.sleep(0.5)
            return request.getfixturevalue("b")
        @fixd.fixture(scope="session")
        def b(request):
            time.sleep(0.5)
            return request.getfixturevalue("a")
        """)
    project.write("test_a.py", "def test(a): pass\n")
    project.write("test_b.py", "def test(b): pass\n")
    done = project.run("-n", "2", "--dist", "loadfile")
    assert done.outcomes() == {"error": 2}, done.output


def test_words_that_look_like_a_skip(project):
    project.conftest("""
        @fixd.fixture(scope="session")
        def data(): raise ValueError("report: FAILED: 3 SKIPPED: 0")
        """)
    project.write("test_it.py", "import pytest\n@pytest.mark.parametrize('n', range(4))\ndef test(data, n): pass\n")
    assert project.run("-n", "2").outcomes() == {"error": 4}
    project.conftest("""
        import unittest
        @fixd.fixture(scope="session")
        def data(): raise unittest.SkipTest("not today")
        """)
    assert project.run("-n", "2").outcomes() == {"skipped": 4}


def test_interrupted_build_is_somebody_else_s(project):
    import os
    import signal

    from conftest import wait_for

    project.conftest("""
        import time
        @fixd.fixture(scope="session")
        def data():
            log("tried")
            while not os.path.exists("fast"):
                time.sleep(0.05)
            return 1
        """)
    project.write("test_it.py", "def test(data): assert data == 1\n")
    first = project.start()
    wait_for(lambda: project.count("tried") == 1, "the first build")
    second = project.start()
    import json

    def waits():
        status = project.fixctl("status", "--json")
        return status.returncode == 0 and json.loads(status.stdout)["daemon"]["waiting"] == 1

    wait_for(waits, "the second run to wait")
    os.killpg(first.pid, signal.SIGINT)
    first.communicate(timeout=60)
    project.write("fast", "")
    output = second.communicate(timeout=60)[0]
    assert second.returncode == 0, output
    assert project.count("tried") == 2


def test_plugin_that_is_not_loaded(project):
    project.write("test_it.py", "import fixd\n@fixd.fixture\ndef data(): return 1\ndef test(data): pass\n")
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-m", "pytest", "-p", "no:fixd", "-p", "no:cacheprovider"], cwd=project.path,
                          env=project.env, capture_output=True, text=True)
    assert "the plugin fixd is not loaded" in done.stdout


def test_bad_numbers(project):
    project.write("test_it.py", "import fixd\n@fixd.fixture(timeout=0.5)\ndef data(): return 1\ndef test(data): pass\n")
    project.run().passed(1)
    project.write("pytest.ini", "[pytest]\nfixd_timeout =\n")
    project.run().passed(1)
    project.write("pytest.ini", "[pytest]\nfixd_timeout = 0\n")
    assert "fixd_timeout = 0: expected a number of seconds" in project.run().output
    project.write("pytest.ini", "[pytest]\nfixd_socket = run/socket\n")
    project.run().passed(1)
    project.fixctl("--socket", project.file("run/socket"), "stop")


def test_single_test_that_leaks(project):
    pytest.importorskip("numpy")
    project.conftest("""
        import numpy
        @fixd.fixture(scope="module", writable=True)
        def matrix(): return numpy.zeros(10)
        """)
    project.write("test_it.py", "def test(matrix): matrix[0] = 1\n")
    assert "test_it.py::test changed the shared fixture" in project.run("--fixd-leaks").output
    assert project.run("--fixd-strict").outcomes() == {"passed": 1, "error": 1}


def test_socket_of_somebody_else(project):
    import os

    if os.getuid() != 0:
        pytest.skip("only root can be somebody else")
    os.chmod(project.path, 0o755)
    os.mkdir(project.file("theirs"))
    os.chown(project.file("theirs"), 65534, 65534)
    project.write("test_it.py", "import fixd\n@fixd.fixture\ndef data(): return 1\ndef test(data): assert data == 1\n")
    done = project.run("-v", env={"FIXD_SOCKET": project.file("theirs/socket")}).passed(1)
    assert "belongs to somebody else" in done.output


@pytest.mark.parametrize("workers", ["0", "2"])
def test_fixtures_of_fixtures(project, workers):
    """Made of another instance, a fixture is another one, whatever the scopes."""
    project.conftest("""
        import pytest
        @fixd.fixture(params=[1, 2])
        def a(request): return [request.param]
        @fixd.fixture
        def b(a): return a[0] * 10
        @fixd.fixture(scope="session", params=[1, 2])
        def s(request): return [request.param]
        @fixd.fixture(scope="session")
        def made_of_s(s): log(f"made of {s[0]}"); return s[0] * 10
        @fixd.fixture
        def f(made_of_s): return made_of_s + 1
        @fixd.fixture(scope="module")
        def cfg(request): return request.module.X
        @fixd.fixture
        def of_cfg(cfg): return cfg * 2
        """)
    for n, x in enumerate((1, 2)):
        project.write(f"test_{n}.py", f"""
            X = {x}
            def test_1(a, b): assert b == a[0] * 10
            def test_2(a, b): assert b == a[0] * 10
            def test_3(s, made_of_s, f): assert made_of_s == s[0] * 10 and f == made_of_s + 1
            def test_4(cfg, of_cfg): assert cfg == X and of_cfg == 2 * X
            """)
    for _ in range(2):
        project.run("-n", workers).passed(14)
    assert sorted(project.log()) == ["made of 1", "made of 2"], "once for all runs"


def test_overridden_dependency(project):
    project.conftest("""
        @fixd.fixture(scope="session")
        def base(): return 1
        @fixd.fixture
        def derived(base): return base * 10
        """)
    project.write("test_a.py", "def test(derived): assert derived == 10\n")
    project.write("test_b.py", """
        import fixd
        @fixd.fixture(scope="session")
        def base(): return 2
        def test(derived): assert derived == 20
        """)
    project.run().passed(2)


def test_values_that_only_look_alike(project):
    """Functions with other defaults or closures, objects that are only themselves, strings with a repr of their own."""
    project.conftest("""
        import pytest
        def adder(n): return lambda x: x + n
        class Secret(str):
            def __repr__(self): return "Secret(***)"
        A, B = object(), object()
        @fixd.fixture(scope="session", params=[lambda x, n=n: x + n for n in (1, 2)] + [adder(3), adder(4)])
        def function(request): return request.param(0)
        @fixd.fixture(scope="session", params=[A, B])
        def thing(request): return "A" if request.param is A else "B"
        @fixd.fixture(scope="session", params=[Secret("x"), Secret("y")])
        def secret(request): return str.__str__(request.param)
        @pytest.fixture(params=["json", "xml"])
        def make(request):
            kind = request.param
            return lambda x: f"{kind}:{x}"
        @fixd.fixture
        def doc(make): return make(5)
        @pytest.fixture
        def recursive():
            a = [1]
            a.append(a)
            return a
        @fixd.fixture
        def of_recursive(recursive): return recursive[0]
        @pytest.fixture
        def parser():
            def expr(n): return term(n) if n else 0
            def term(n): return expr(n - 1) + factor(n)
            def factor(n): return 1 if n else expr(n)
            return lambda: (expr, term, factor)
        @fixd.fixture
        def of_parser(parser): return parser()[0](5)
        class Config:
            def __init__(self, n): self.n, self.missing = n, object()
        @pytest.fixture(params=[1, 2])
        def config(request): return Config(request.param)
        @fixd.fixture
        def of_config(config): return config.n
        """)
    project.write("test_it.py", """
        def test_parser(of_parser): assert of_parser == 5
        def test_config(config, of_config): assert of_config == config.n
        seen = {"function": [], "thing": [], "secret": []}
        def test_1(function): seen["function"].append(function)
        def test_2(thing): seen["thing"].append(thing)
        def test_3(secret): seen["secret"].append(secret)
        def test_doc(make, doc): assert doc == make(5)
        def test_recursive(of_recursive): assert of_recursive == 1
        def test_all(): assert seen == {"function": [1, 2, 3, 4], "thing": ["A", "B"], "secret": ["x", "y"]}
        """)
    project.run().passed(15)


def test_fixtures_from_a_factory(project):
    project.write("lib.py", """
        import fixd, time
        def make(n):
            @fixd.fixture(scope="session")
            def data(): time.sleep(0.2); return n
            return data
        def make_by_default(n):
            @fixd.fixture(scope="session")
            def other(n=n): return n
            return other
        """)
    project.write("pytest.ini", "[pytest]\npythonpath = .\n")
    for place, n in (("a", 1), ("b", 2)):
        project.write(f"{place}/conftest.py", f"import lib\ndata = lib.make({n})\nother = lib.make_by_default({n})\n")
        project.write(f"{place}/test_{place}.py", f"def test(data, other): assert data == {n} and other == {n}\n")
    for options in ((), ("-n", "2", "--dist", "loadfile", "--no-reuse-fixtures")):
        project.run(*options).passed(2)


def test_sets_inside_of_objects(project):
    """They have an order of their own in every process."""
    project.conftest("""
        import dataclasses, pytest
        @dataclasses.dataclass
        class Config: features: frozenset
        @pytest.fixture(scope="session")
        def config(): return Config(frozenset({"alpha", "beta", "gamma", "delta", "epsilon"}))
        @fixd.fixture(scope="session")
        def data(config): log("built"); return 1
        """)
    project.write("test_it.py", "def test(data): pass\n")
    for seed in "123":
        project.run(env={"PYTHONHASHSEED": seed}).passed(1)
    assert project.count("built") == 1


def test_attributes_of_a_class(project):
    """What a method finds by self is part of what it builds; edits of tests are not."""
    project.write("base.py", """
        import fixd
        class Base:
            size = 0
            @fixd.fixture(scope="class")
            def data(self): return self.size
        """)
    project.write("pytest.ini", "[pytest]\npythonpath = .\n")
    for size in (1, 22):
        project.write("test_it.py", f"from base import Base\nclass TestIt(Base):\n    size = {size}\n    def test(self, data): assert data == {size}\n")
        project.run().passed(1)


def test_closures_that_call_each_other(project):
    project.conftest("""
        import functools
        def make():
            def even(n): return n == 0 or odd(n - 1)
            def odd(n): return n != 0 and even(n - 1)
            @fixd.fixture
            def data(): return even(4)
            return data
        data = make()
        def passes(f):
            def inner(*args, **more): return f(*args, **more)
            return inner
        @fixd.fixture
        @passes
        def other(): return 3
        """)
    project.write("test_it.py", "def test(data, other): assert data and other == 3\n")
    project.run().passed(1)


def test_warnings_that_are_errors(project):
    """fixd's own make no test fail."""
    project.conftest("""
        import contextlib
        @fixd.fixture
        def per_test(tmp_path): return 1
        @fixd.fixture(scope="session")
        def block():
            with contextlib.nullcontext():
                yield 2
        """)
    project.write("test_it.py", "def test_1(per_test, block): pass\ndef test_2(per_test, block): pass\n")
    project.run("-W", "error").passed(2)


def test_no_place_for_a_daemon(project):
    project.write("plain", "no directory")
    project.write("test_it.py", "import fixd\n@fixd.fixture\ndef data(): return 1\ndef test(data): assert data == 1\n")
    done = project.run("-v", env={"FIXD_SOCKET": project.file("plain/socket")}).passed(1)
    assert "there is no place for the daemon" in done.output, done.output


def test_imports_of_all_kinds(project):
    """An edit of what they lead to makes another version."""
    project.write("pytest.ini", "[pytest]\npythonpath = .\n")
    project.write("deep/__init__.py", "")
    project.write("reached.py", """
        from deep import one, \\
            two
        import os; import deep.three
        if True: from deep.four import V as four
        def total(): return one.V + two.V + deep.three.V + four
        """)
    project.conftest("""
        import reached
        from deep.five import V as cfg
        @fixd.fixture(scope="session")
        def data(cfg=cfg): return reached.total() + cfg
        """)
    names = ("one", "two", "three", "four", "five")
    values = dict.fromkeys(names, 1)
    for n, changed in enumerate((None, *names)):
        if changed:
            values[changed] = 10 * (n + 1)
        for name, value in values.items():
            project.write(f"deep/{name}.py", f"V = {value}\n")
        project.write("test_it.py", f"def test(data): assert data == {sum(values.values())}\n")
        project.run().passed(1)


def test_directories_of_plain_fixtures(project):
    """Another run has others, and so has each worker."""
    project.conftest("""
        @pytest.fixture(scope="session")
        def place(tmp_path_factory): return tmp_path_factory.mktemp("place") / "file"
        @fixd.fixture(scope="session")
        def text(place):
            log("built")
            place.write_text("it")
            return str(place)
        """)
    project.write("test_it.py", "import pytest\n@pytest.mark.parametrize('i', range(4))\ndef test(place, text, i): assert text == str(place) and place.read_text()\n")
    for options in ((), (), ("-n2",)):
        done = project.run(*options).passed(4)
        assert re.search(r"'text' \(conftest.py:\d+\) is built in every process: it uses 'place', which lies in a directory of this run.*; parse=", done.output), done.output
    assert project.count("built") in (3, 4)
    assert json.loads(project.fixctl("status", "--json").stdout)["sessions"][-1]["instances"] == []


def test_what_cannot_be_compared(project):
    """An object of this process: what is made of it is not what another process has made of its own."""
    project.conftest("""
        import threading
        class Connection:
            def __init__(self): self.lock, self.pid = threading.Lock(), os.getpid()
        @pytest.fixture(scope="session")
        def connection(): return Connection()
        @fixd.fixture(scope="session")
        def pid(connection): return connection.pid
        @fixd.fixture(scope="session")
        def shared(): return Connection()
        @fixd.fixture(scope="session")
        def of_shared(shared): return shared.pid
        @fixd.fixture(scope="session", key=lambda request: 1)
        def told(connection): return os.getppid()
        """)
    project.write("test_it.py", """
        import pytest
        @pytest.mark.parametrize("i", range(4))
        def test_pid(connection, shared, pid, of_shared, i): assert connection.pid == pid and shared.pid == of_shared
        def test_told(told): open("told", "a").write(f"{told} ")
        """)
    for options in ((), (), ("-n2",)):
        done = project.run(*options).passed(5)
        assert len(re.findall(r"'pid' \(conftest.py:\d+\) is built in every process: it uses 'connection', which cannot be compared.*; parse=", done.output)) == 1, done.output
    assert len(set(open(f"{project.path}/told").read().split())) == 1


OWN_WAY = """
import threading
class Session:
    def __init__(self): self.headers, self.hits, self._lock = {}, 0, threading.Lock()
    def __getstate__(self): return {"headers": self.headers}
    def __setstate__(self, state): self.__init__(); self.headers = state["headers"]
"""


def test_what_pickle_leaves_out(project):
    """What a program has given an object besides is part of what it is, though its class does not pickle that; what it can do without is not."""
    project.conftest(OWN_WAY + """
def opened(url):
    session = Session()
    session.url, session._cache = url, {os.getpid(): object()}
    return session
@pytest.fixture(scope="module", params=["one", "two"])
def api(request): return opened(request.param)
@fixd.fixture(scope="module")
def users(api):
    log(api.url)
    return api.url
@fixd.fixture(scope="session")
def shared(): return opened("shared")
@fixd.fixture(scope="session")
def whole():
    log("whole")
    return [Session()]
""")
    project.write("test_it.py", "import pytest\n@pytest.mark.parametrize('n', range(3))\ndef test(users, api, shared, whole, n):\n"
                                "    assert users == api.url and shared.url == 'shared' and whole[0].hits == 0\n")
    for options in (["-n", "2"], []):
        output = project.run(*options).passed(6).output
        assert "'shared' (conftest.py:24) is built in every process: a Session leaves out its 'url' when it is pickled; parse= can make" in output, output
    assert sorted(project.log()) == ["one", "two", "whole"]


def test_one_version_under_every_hash_seed(project):
    """Also of packages that do not say what they need: of each of their files that is reached."""
    site = project.file("lib/python3/site-packages")
    for name, text in (("first/__init__.py", ""), ("first/a.py", "import second\n"), ("first/b.py", "import third\n"), ("second.py", ""), ("third.py", "")):
        project.write(f"lib/python3/site-packages/{name}", text)
    for name in ("first", "second", "third"):
        project.write(f"lib/python3/site-packages/{name}-1.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
    project.conftest("from first import a, b\n@fixd.fixture(scope='session')\ndef data():\n    log('data')\n    return a.__name__, b.__name__\n")
    project.write("test_it.py", "def test(data): pass\n")
    for seed in range(5):
        project.run(env={"PYTHONHASHSEED": str(seed), "PYTHONPATH": f"{project.env['PYTHONPATH']}:{site}"}).passed(1)
    assert project.log() == ["data"]


def test_what_a_class_can_do_without(project):
    """It knows of it, and leaves it out all the same: a column its frame, an object what it can open again."""
    pandas = pytest.importorskip("pandas")
    assert pandas
    project.conftest("""
        import pandas
        class Lazy:
            client = None
            def __init__(self): self.rows, self.total = [1, 2], 3
            def __getstate__(self): return {"rows": self.rows}
            def __setstate__(self, state):
                self.rows = state["rows"]
                self.total = sum(self.rows)
        @fixd.fixture(scope="session")
        def series():
            log("series")
            return pandas.DataFrame({"a": [1, 2]})["a"]
        @fixd.fixture(scope="session")
        def lazy():
            log("lazy")
            made = Lazy()
            made.client = "opened"
            return made
        """)
    project.write("test_it.py", "def test(series, lazy): assert series.sum() == lazy.total == 3\n")
    for _ in range(2):
        assert "built in every process" not in project.run().passed(1).output
    assert sorted(project.log()) == ["lazy", "series"]


def test_what_a_method_gets_by_self(project):
    """Attributes that were set for a test are part of what it is, and methods and attributes of the class of its version."""
    project.write("dep.py", "SIZE = 1\ndef size():\n    return 1\n")
    project.write("base.py", """
        import fixd
        class Base:
            @fixd.fixture(scope="class")
            def data(self): return self.make(), self.size
            @classmethod
            @fixd.fixture(scope="session")
            def of_class(cls): return cls.named()
        """)
    project.write("test_it.py", """
        import fixd, pytest, dep
        from base import Base
        class TestSet:
            @pytest.fixture(autouse=True, params=[1, 2])
            def _set(self, request): self.n = request.param
            @fixd.fixture
            def data(self): return self.n * 10
            @fixd.fixture
            def passes_on(self): return number_of(self)
            def test(self, data, passes_on): assert data == self.n * 10 == passes_on * 10
        def number_of(one): return one.n
        class TestMethod:
            def setup_method(self, method): self.name, self.lock = method.__name__, open(__file__)
            @fixd.fixture
            def data(self): return f"for {self.name}"
            @fixd.fixture
            def cannot(self): return self.lock.name + self.name
            def test_x(self, data, cannot): assert data == "for test_x" and cannot.endswith("test_x")
            def test_y(self, data, cannot): assert data == "for test_y" and cannot.endswith("test_y")
        class TestDerived(Base):
            size = dep.SIZE
            def make(self): return 1
            @classmethod
            def named(cls): return "one"
            def test(self, data, of_class): assert data == (self.make(), self.size) and of_class == self.named()
        def sized(n):
            def decorate(cls): cls.size = n; return cls
            return decorate
        @sized(5)
        class TestDecorated(Base):
            def make(self): return dep.size()
            def test(self, data): assert data == (self.make(), self.size)
        """)
    for _ in range(2):
        output = project.run().passed(6).output
        assert "is built by every test: it uses 'self.lock', which each test has for itself" in output, output
    project.write("dep.py", "SIZE = 2\ndef size():\n    return 2\n")
    with open(project.file("test_it.py")) as f:
        text = f.read()
    project.write("test_it.py", text.replace("return 1\n", "return 3\n").replace("sized(5)", "sized(6)").replace('"one"', '"two"'))
    project.run().passed(6)
    project.run("-n", "2").passed(6)


def test_parameter_of_a_plain_argument(project):
    """Also where its value does not tell it."""
    project.write("settings.py", "BACKEND = 'none'\n")
    project.conftest("""
        import settings
        @pytest.fixture(scope="module", params=["sqlite", "pg"])
        def backend(request):
            settings.BACKEND = request.param
            yield
            settings.BACKEND = "none"
        @pytest.fixture(scope="module")
        def between(backend): return None
        @fixd.fixture(scope="module")
        def db(backend): return "connected to " + settings.BACKEND
        @fixd.fixture(scope="session")
        def number(plain): return plain
        @pytest.fixture(scope="session", params=[1, 2])
        def plain(request): return request.param
        @fixd.fixture(scope="module")
        def further(between): return settings.BACKEND
        """)
    project.write("test_it.py", """
        import settings
        def test(db, further): assert db == "connected to " + settings.BACKEND and further == settings.BACKEND
        def test_number(number, plain): assert number == plain
        """)
    for _ in range(2):
        project.run().passed(4)
    names = project.fixctl("status").stdout
    assert "number[plain=1]" in names and "db[backend.param='sqlite' backend=None]" in names, names


def test_directory_of_the_run_inside_another_value(project):
    project.conftest("""
        import dataclasses, pathlib
        @dataclasses.dataclass
        class Place: dir: pathlib.Path
        @pytest.fixture(scope="session")
        def place(tmp_path_factory): return [{"place": Place(tmp_path_factory.mktemp("place"))}]
        @fixd.fixture(scope="session")
        def path(place):
            path = place[0]["place"].dir / "f"
            path.write_text("1")
            return path
        """)
    project.write("test_it.py", "def test(path): assert path.read_text() == '1'\n")
    for _ in range(2):
        output = project.run("--basetemp", project.file("base")).passed(1).output
        assert "is built in every process: it uses 'place', which lies in a directory of this run" in output, output


def test_code_that_comes_with_a_value(project):
    """Of a plain fixture or a parameter: an object, a function, a class, also where only they lead to its module."""
    helper = "class Helper:\n    def compute(self): return inner()\ndef make(): return inner()\ndef inner(): return {}\n"
    project.conftest("""
        from helper0 import Helper
        import functools, helper1
        @pytest.fixture(scope="session")
        def helper(): return [Helper()]
        @fixd.fixture(scope="session")
        def by_object(helper): return helper[0].compute()
        @pytest.fixture(scope="session")
        def factory(): return functools.partial(helper1.make)
        @fixd.fixture(scope="session")
        def by_function(factory): return factory()
        @pytest.fixture(scope="session")
        def kind():
            import helper2
            return helper2.Helper
        @fixd.fixture(scope="session")
        def by_class(kind): return kind().compute()
        @fixd.fixture(scope="session")
        def by_param(request): return request.param()
        """)
    project.write("test_it.py", """
        import os, pytest, helper3
        EXPECTED = int(os.environ["EXPECTED"])
        def test(by_object, by_function, by_class): assert by_object == by_function == by_class == EXPECTED
        @pytest.mark.parametrize("by_param", [helper3.make], indirect=True)
        def test_param(by_param): assert by_param == EXPECTED
        """)
    for value in 1, 2:
        for n in range(4):
            project.write(f"helper{n}.py", helper.format(value))
        for _ in range(2):
            project.run(env={"EXPECTED": str(value)}).passed(2)


def test_installed_in_parts_and_under_another_name(project):
    """A package of several distributions, and one whose distribution only says which files it has."""
    def install(*versions):
        for name, version, files, top in zip(("ns_a", "ns_b", "my_lib"), versions, (["ns/a/__init__.py"], ["ns/b/__init__.py"], ["core/__init__.py", "core/data.json"]), "ns ns -".split()):
            for path in os.listdir(site) if os.path.isdir(site) else ():
                if path.startswith(name + "-"):
                    shutil.rmtree(os.path.join(site, path))
            where = f"site-packages/{name}-{version}.0.dist-info"
            project.write(f"{where}/METADATA", f"Name: {name}\nVersion: {version}.0\n")
            project.write(f"{where}/RECORD", "".join(f"{f},sha256={f}{version},1\n" for f in files))
            if top != "-":
                project.write(f"{where}/top_level.txt", top + "\n")
        for name, version in zip("ab", versions):
            project.write(f"site-packages/ns/{name}/__init__.py", f"def build(): return {version}\n")
        project.write("site-packages/core/__init__.py", "import json, os\ndef build():\n"
                      "    with open(os.path.join(os.path.dirname(__file__), 'data.json')) as f: return json.load(f)\n")
        project.write("site-packages/core/data.json", str(versions[2]))

    site = project.file("site-packages")
    project.conftest("""
        import core, ns.a, ns.b
        @fixd.fixture(scope="session")
        def all_(): return [ns.a.build(), ns.b.build(), core.build()]
        """)
    project.write("test_it.py", "import os\ndef test(all_): assert all_ == eval(os.environ['EXPECTED'])\n")
    path = project.env["PYTHONPATH"] + os.pathsep + site
    for versions in (1, 1, 1), (2, 1, 1), (2, 2, 1), (2, 2, 2):
        install(*versions)
        project.run(env={"EXPECTED": repr(list(versions)), "PYTHONPATH": path}).passed(1)
