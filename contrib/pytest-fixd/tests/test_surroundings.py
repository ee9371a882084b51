# SPDX-License-Identifier: MIT
"""What stands around a fixture: classes, other plugins, workers, installed code, directories, tries."""

import glob
import os
import shutil
import subprocess
import sys

import pytest
from conftest import BUILD


def many(fixture):
    return f"import pytest, time\n@pytest.mark.parametrize('i', range(6))\ndef test({fixture}, i): time.sleep(0.05)\n"


def test_class_methods(project):
    """The class is part of what a fixture is, in both orders of the decorators."""
    project.write("test_it.py", """
        import fixd
        class Base:
            name = None
            @classmethod
            @fixd.fixture(scope="session")
            def one(cls): return "one of " + str(cls.name)
            @fixd.fixture(scope="class")
            @classmethod
            def two(cls): return "two of " + str(cls.name)
            @fixd.fixture(scope="session")
            @staticmethod
            def three(): return 3
        class TestA(Base):
            name = "a"
            def test(self, one, two, three): assert (one, two, three) == ("one of a", "two of a", 3)
        class TestB(Base):
            name = "b"
            def test(self, one, two, three): assert (one, two, three) == ("one of b", "two of b", 3)
        """)
    project.run().passed(2)
    project.run().passed(2)


def test_classes_of_two_conftests(project):
    model = "class Model:\n    def kind(self): return {!r}\ndef make(): return {!r}\n"
    project.conftest(model.format("root", "root") + "@fixd.fixture(scope='session')\ndef model(): return Model(), make\n")
    project.write("sub/conftest.py", model.format("sub", "sub"))
    project.write("test_a.py", "def test(model): assert (model[0].kind(), model[1]()) == ('root', 'root')\n")
    project.write("sub/test_b.py", "def test(model): assert (model[0].kind(), model[1]()) == ('root', 'root')\n")
    project.run("test_a.py").passed(1)
    project.run().passed(2)
    project.run("sub").passed(1)


def test_what_a_plugin_gives_each_test(project):
    """Known by its scope, not by its name: what ends with the test, and what cannot be compared."""
    project.conftest("""
        from unittest import mock
        class Patches:
            def __init__(self): self.made = []
            def patch(self, *a, **k):
                self.made.append(mock.patch(*a, **k))
                return self.made[-1].start()
        @pytest.fixture
        def patches():
            p = Patches()
            yield p
            for m in p.made: m.stop()
        @pytest.fixture
        def handle(): return open(os.devnull)
        @fixd.fixture
        def home(patches):
            patches.patch("os.getcwd", return_value="x")
            return 5
        @fixd.fixture
        def number(handle): return handle.fileno()
        """)
    project.write("test_it.py", "import os\ndef test_1(home, number, handle): assert os.getcwd() == 'x' and number == handle.fileno()\n"
                                "def test_2(home, number, handle): assert os.getcwd() == 'x' and number == handle.fileno()\n")
    done = project.run()
    assert done.code == 0 and "it uses 'patches', which each test has for itself" in done.output, done.output


def test_the_number_of_a_worker(project):
    """Is asked for by what is built once by hand: it makes no worker build its own."""
    project.conftest("""
        @fixd.fixture(scope="session", reuse=False)
        def data(tmp_path_factory, worker_id, testrun_uid):
            log("built")
            return 1
        """)
    project.write("test_it.py", many("data"))
    assert project.run("-n", "2").code == 0
    assert project.count("built") == 1


def test_installed_code(project):
    """A package that was installed anew, with a version that says so or without."""
    site = project.file("site-packages")
    project.env["PYTHONPATH"] += os.pathsep + site
    project.write("site-packages/bare/__init__.py", "def build(): return 1\n")
    project.write("site-packages/known/__init__.py", "from .inside import build\n")
    project.write("site-packages/known/inside.py", "def build(): return 1\n")
    project.write("site-packages/Other_Name-1.dist-info/top_level.txt", "known\n")
    project.write("site-packages/Other_Name-1.dist-info/RECORD", "")
    project.conftest("""
        import bare, known
        @fixd.fixture(scope="session")
        def of_bare(): return bare.build()
        @fixd.fixture(scope="session")
        def of_known(): return known.build()
        """)
    project.write("test_it.py", "import bare, known\ndef test(of_bare, of_known): assert (of_bare, of_known) == (bare.build(), known.build())\n")
    project.run().passed(1)
    project.write("site-packages/bare/__init__.py", "def build(): return 2 + 0\n")
    project.run().passed(1)
    shutil.rmtree(os.path.join(site, "Other_Name-1.dist-info"))
    project.write("site-packages/known/inside.py", "def build(): return 2 + 0\n")
    project.write("site-packages/Other_Name-2.dist-info/top_level.txt", "known\n")
    project.write("site-packages/Other_Name-2.dist-info/RECORD", "")
    project.run().passed(1)


def test_a_try_again(project):
    """A test that is tried again has its fixtures tried again, once for all of them."""
    pytest.importorskip("pytest_rerunfailures")
    project.conftest("""
        @fixd.fixture(scope="session")
        def service():
            log("try")
            with open(os.environ["LOG"]) as f:
                if f.read().count("try") == 1: raise OSError("the network was away")
            return 1
        """)
    project.write("test_it.py", "def test_1(service): assert service == 1\ndef test_2(service): assert service == 1\n")
    assert project.run("--reruns", "2").outcomes()["passed"] == 2
    assert project.count("try") == 2


@pytest.mark.parametrize("scope, workers, most", [("session", "0", 2), ("module", "0", 4), ("session", "2", 4)])
def test_a_build_that_writes_what_it_watches(project, scope, workers, most):
    """It is tried once more, as somebody else may have written; then each process, or module, has its own."""
    project.conftest(f"""
        @fixd.fixture(scope="{scope}", watch=["dists"])
        def wheels():
            log("built")
            with open("dists/PKG-INFO", "w") as f: f.write(str(os.times()))
            return 1
        """)
    project.write("dists/setup.py", "")
    for name in "abc":
        project.write(f"test_{name}.py", many("wheels"))
    done = project.run("-n", workers).passed(18)
    assert "fixture 'wheels' (conftest.py:8) is built in every process" in done.output and "dists/PKG-INFO changed" in done.output, done.output
    assert project.count("built") <= most


def directories(project):
    return glob.glob(os.path.join(project.home, f"fixd-pytest-of-{os.getuid()}", "*"))


def test_directories_live_as_long_as_the_fixture(project):
    project.conftest("""
        @fixd.fixture(scope="session")
        def tree(tmp_path_factory):
            log("built")
            path = tmp_path_factory.mktemp("tree")
            (path / "x").write_text("1")
            assert tmp_path_factory.mktemp("tree") != path and path.name == "tree0"
            return path
        """)
    project.write("test_it.py", "def test(tree): assert (tree / 'x').read_text() == '1'\ndef test_2(tmp_path): pass\n")
    for _ in range(5):
        project.run().passed(2)
    assert project.count("built") == 1 and len(directories(project)) == 1
    # Somebody has removed it: it is built again.
    shutil.rmtree(directories(project)[0])
    project.run().passed(2)
    assert project.count("built") == 2 and len(directories(project)) == 1
    assert project.run("--cleanup").code == 0
    assert not directories(project)


def test_directories_of_a_run(project):
    project.conftest("""
        @fixd.fixture(scope="session", reuse=False)
        def tree(tmp_path_factory):
            path = tmp_path_factory.mktemp("tree")
            (path / "x").write_text("1")
            yield path
            log((path / "x").read_text())
        @fixd.fixture(scope="session", reuse=False)
        def broken(tmp_path_factory):
            tmp_path_factory.mktemp("broken")
            raise OSError("no")
        """)
    project.write("test_it.py", "import pytest\n@pytest.mark.parametrize('i', range(6))\ndef test(tree, i): assert (tree / 'x').read_text() == '1'\n"
                                "def test_broken(broken): pass\n")
    assert project.run("-n", "2").outcomes() == {"passed": 6, "error": 1}
    assert project.log() == ["1"] and not directories(project)


def test_a_package_is_not_searched_twice():
    """A version is told in milliseconds, however much is installed."""
    code = "import sys, time; sys.path.insert(0, sys.argv[1]); from fixd import _source; import pytest\nseen = {}\n_source._follow(['pytest'], seen)\nprint(sorted(seen))"
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    done = subprocess.run([sys.executable, "-c", code, package], capture_output=True, text=True, check=True)
    assert "'pytest as installed'" in done.stdout and all(word.strip(" '").endswith(" as installed") for word in done.stdout.strip("[]\n").split(",")), done.stdout


def test_no_daemon_for_what_no_test_asks_for(project):
    project.conftest("""
        @fixd.fixture(scope="session")
        def table(): return 1
        @pytest.fixture
        def made_of_it(table): return table
        """)
    project.write("test_it.py", "def test_other(): pass\ndef test_table(made_of_it): pass\ndef test_asks(request): request.getfixturevalue('table')\n")
    for words in ("other", "not other and not asks", "asks"):
        project.run("-k", words).passed(1)
        assert os.path.exists(project.socket) == (words != "other"), words
        project.run("--daemon-stop")


def test_no_daemon_without_shared_fixtures(project):
    project.write("test_it.py", "import pytest\n@pytest.fixture\ndef data(): return 1\ndef test(data): pass\n")
    for more in ([], ["-n", "2"]):
        assert project.run(*more).code == 0
    assert not os.path.exists(project.socket)
    # Found in a test module only, also by workers.
    project.write("test_it.py", "import fixd, os, pytest\n@fixd.fixture(scope='session', reuse=False)\ndef data():\n    with open(os.environ['LOG'], 'a') as f:\n"
                                "        f.write('up\\n')\n    yield 1\n    with open(os.environ['LOG'], 'a') as f: f.write('down\\n')\n"
                                "@pytest.mark.parametrize('i', range(8))\ndef test(data, i): pass\n")
    for more in ([], ["-n", "2"]):
        project.forget()
        assert project.run(*more).code == 0
        assert project.log() == ["up", "down"]


def test_no_child_of_this_process(project):
    """Neither the daemon nor who tries what was built: a fixture may wait for all of its own."""
    project.conftest("""
        class Value: pass
        @fixd.fixture(scope="session")
        def value():
            if os.fork() == 0:
                os._exit(0)
            while True:
                try:
                    os.wait()
                except ChildProcessError:
                    return Value()
        """)
    project.write("test_it.py", "import os, pytest\ndef test(value):\n    with pytest.raises(ChildProcessError): os.waitpid(-1, os.WNOHANG)\n")
    project.run().passed(1)
    project.conftest(open(project.file("conftest.py")).read().replace("_exit(0)", "_exit(1)"))
    project.run("-n", "1").passed(1)


def test_explain(project):
    project.conftest("""
        import numpy
        def helper(): return 3
        class Unrelated: pass
        @fixd.fixture(scope="session", watch=["*.txt"])
        def table(): return helper(), numpy.zeros(3)
        """)
    project.write("a.txt", "1")
    project.write("test_it.py", "def test(table): open('ran', 'a').close()\n")
    project.run().passed(1)
    project.write("a.txt", "22")
    project.run().passed(1)
    os.unlink(os.path.join(project.path, "ran"))
    done = project.run("--fixd-explain", "table")
    assert done.code == 0 and not os.path.exists(os.path.join(project.path, "ran")), done.output
    assert "table: conftest.py:11" in project.run("-n2", "--fixd-explain", "table").output
    for words in ("table: conftest.py:11, scope session, version ", "conftest.py:9 helper", "numpy as installed", "watched   *.txt",
                  "conftest.py::table: ready, built 2 times", "a.txt changed"):
        assert words in done.output, done.output
    assert project.run("--fixd-explain", "chair").code == 4


EXPLAINED = """
    FORM, LENGTH = {form!r}, {length}
    @fixd.fixture(scope="session", serializer=FORM)
    def table(n=LENGTH): return [n, os.environ.get("HOME")]
    """


def test_explain_which_setting(project):
    """With what it was and what it is, as far as that can be read, and who says so."""
    project.conftest(EXPLAINED.format(form="auto", length=1))
    project.write("test_it.py", "def test(table): pass\n")
    project.write("pytest.ini", "[pytest]\nfixd_timeout = 50\n")
    project.run().passed(1)
    project.conftest(EXPLAINED.format(form="json", length=2))
    project.run("-n", "2").passed(1)
    done = project.run("--fixd-explain", "table", "--fixture-max-age=5")
    for words in ("setting serializer = 'json'", "setting max_age = 5 s (--fixture-max-age)", "setting timeout = 50 s (fixd_timeout in pytest.ini)",
                  "environment FIXD_PYTHON = ", "last time because: its definition changed", "reads     the environment (os.environ)",
                  "changed before that: setting serializer: was 'auto', is 'json'", "changed before that: value as a default of table: was 1, is 2",
                  "changed since: setting max_age: was 600 s (by default), is 5 s (--fixture-max-age)"):
        assert words in done.output, done.output


def test_explain_what_is_no_text(project):
    """Paths that are watched, and a function that chooses the scope."""
    project.conftest("""
        import pathlib
        def choose(fixture_name, config): return "session"
        @fixd.fixture(scope=choose, watch=[pathlib.Path("a.txt")])
        def table(): return 1
        """)
    project.write("a.txt", "")
    project.write("test_it.py", "def test(table): pass\n")
    project.run().passed(1)
    done = project.run("--fixd-explain", "table")
    assert "setting scope = chosen by a function" in done.output and "setting watch = a.txt" in done.output, done.output
    assert "changed since" not in done.output, done.output


def test_what_may_have_been_meant_otherwise(project):
    project.conftest("""
        @fixd.fixture(scope="session")
        def nothing(): os.putenv("X", "1")
        @fixd.fixture(scope="session")
        def option(request): return request.config.getoption("verbose")
        @fixd.fixture(scope="session")
        def environment(): return os.environ.get("HOME")
        @fixd.fixture(scope="session", key=lambda request: os.environ.get("HOME"))
        def known(): return os.environ.get("HOME")
        """)
    project.write("test_it.py", "def test(nothing, option, environment, known): pass\n")
    done = project.run()
    for words in ("fixture 'nothing' has returned None", "fixture 'option' reads an option of the run (request.config.getoption)",
                  "fixture 'environment' reads the environment (os.environ)"):
        assert done.output.count(words) == 1, done.output
    assert "'known'" not in done.output and done.outcomes() == {"passed": 1, "warning": 3}


@pytest.mark.parametrize("body, what", [
    ("return environ.get('HOME')", "the environment (environ)"),
    ("return ask('HOME')", "the environment (ask)"),
    ("return system.environ.get('HOME')", "the environment (system.environ)"),
    ("import os as o; return o.getenv('HOME')", "the environment (o.getenv)"),
    ("from os import environ as e; return e['HOME']", "the environment (e)"),
    ("return request.config.option.verbose", "an option of the run (request.config.option)"),
    ("return pytestconfig.getini('testpaths')", "an option of the run (pytestconfig.getini)"),
    ("return os.path.join('a', 'environ')", None),
])
def test_reads_outside_by_any_name(project, body, what):
    project.conftest(f"""
        import os as system
        from os import environ, getenv as ask
        @fixd.fixture(scope="session")
        def value(request, pytestconfig):
            {body}
        """)
    project.write("test_it.py", "def test(value): pass\n")
    done = project.run()
    assert done.outcomes() == ({"passed": 1, "warning": 1} if what else {"passed": 1}), done.output
    assert not what or f"fixture 'value' reads {what}" in done.output, done.output


def test_coverage_is_of_this_run(project):
    pytest.importorskip("pytest_cov")
    project.write("product.py", "def build():\n    return 1\n")
    project.conftest("""
        import product
        @fixd.fixture(scope="session")
        def data():
            log("built")
            return product.build()
        """)
    project.write("test_it.py", "def test(data): assert data == 1\n")
    project.run().passed(1)
    for times in 2, 3:
        done = project.run("--cov=product", "--cov-report=term-missing", "-v")
        assert done.code == 0 and "100%" in done.output and project.count("built") == times, done.output
    assert "coverage is measured" in done.output
    assert project.run("--cov=product", "--reuse-fixtures").code == 0 and project.count("built") == 3


def test_a_socket_in_the_project(project):
    """What the daemon there needs is nothing that pytest, or anybody else, reads as its own."""
    project.conftest("@fixd.fixture(scope='session')\ndef data(): return [1]\n")
    project.write("test_it.py", "def test_it(data): assert data\ndef test_not(data): assert False\n")
    project.write("pyproject.toml", "[tool.pytest.ini_options]\naddopts = '-k it'\n")
    os.chmod(project.path, 0o700)
    env = {"FIXD_SOCKET": project.file("socket")}
    before = set(os.listdir(project.path))
    try:
        for _ in range(2):
            project.run("--deselect", "test_it.py::test_not", env=env).passed(1)
    finally:
        subprocess.run([os.path.join(BUILD, "fixctl"), "--socket", project.file("socket"), "stop"], env=project.env)
    left = set(os.listdir(project.path)) - before - {"__pycache__"}
    assert left <= {".pytest-fixd.ini", ".pytest-fixd.log", "socket.lock"}, left


@pytest.mark.parametrize("table", ["tool.pytest.ini_options", "tool.pytest"])
def test_settings_in_toml(project, table):
    """Newer ones of pytest know true, 600 and 12.5 there."""
    if table == "tool.pytest" and int(pytest.__version__.split(".")[0]) < 9:
        pytest.skip("this pytest does not read [tool.pytest]")
    project.conftest("@fixd.fixture(scope='session')\ndef data(): return 1\n")
    project.write("test_it.py", "def test(data): assert data == 1\n")
    project.write("pyproject.toml", f"[{table}]\nfixture_max_age = 77\nfixd_timeout = 12.5\nfixd_leaks = true\nfixd_warm = false\n")
    output = project.run("-W", "error", "--fixd-explain", "data").output
    assert "77 s (fixture_max_age in pyproject.toml)" in output and "12.5 s (fixd_timeout in pyproject.toml)" in output, output
    for wrong in "fixture_max_age = 'soon'", "fixd_timeout = nan", "fixd_leaks = 'maybe'", "fixd_warm = 'maybe'":
        project.write("pyproject.toml", f"[{table}]\n{wrong}\n")
        done = project.run()
        name, _, value = wrong.replace("'", "").partition(" = ")
        expected = "true or false" if value == "maybe" else "a number of seconds"
        assert done.code == 4 and f"{name} = {value}: expected {expected}" in done.output and "Traceback" not in done.output, done.output


def test_arguments_can_be_read(project):
    project.conftest("""
        @pytest.fixture(scope="session", params=[1, 2])
        def size(request): return request.param
        @pytest.fixture(scope="session")
        def kind(): return "large"
        @pytest.fixture(scope="session")
        def words(): return ["a"] * 100
        @fixd.fixture(scope="session")
        def data(size, kind): return size
        @fixd.fixture(scope="session")
        def more(words, kind): return words
        """)
    project.write("test_it.py", "def test(data, more): pass\n")
    project.run().passed(2)
    status = project.run("--session-status").output
    assert "conftest.py::data[kind='large' size=1]" in status and "conftest.py::data[kind='large' size=2]" in status and "conftest.py::more[kind='large' words " in status, status


def test_a_second_half_that_sets_what_is_around_it(project):
    project.conftest("""
        def make():
            count = 0
            @fixd.fixture(scope="session", reuse=False)
            def counted():
                nonlocal count
                yield 1
                count += 1
                log(f"ended {count}")
            return counted
        counted = make()
        """)
    project.write("test_it.py", many("counted"))
    for more in ([], ["-n", "2"]):
        project.forget()
        assert project.run(*more).code == 0
        assert project.log() == ["ended 1"]


def test_a_file_of_fixtures(project):
    """Its daemon has a place of its own, beside that of the projects without one, and reads it where it lies."""
    project.write("pytest.ini", "[pytest]\nfixd_config = db/fixd.ini\n")
    project.write("db/fixd.ini", "[fixture input]\nfile = input\n")
    project.write("db/input", "abc")
    done = project.run("--daemon", env={"FIXD_SOCKET": ""})
    [socket] = glob.glob(project.file(".home/fixd/*/socket"))
    assert done.code == 0 and f"fixd listens on {socket}" in done.output and project.fixctl("status").returncode == 3
    assert project.fixctl("--socket", socket, "get", "input").stdout == "abc"
    assert project.run("--daemon-stop", env={"FIXD_SOCKET": ""}).code == 0 and not os.path.exists(socket)
    project.write("db/fixd.ini", "[fixture input]\nfiles = input\n")
    assert "fixd.ini:2" in project.run("--daemon", env={"FIXD_SOCKET": ""}).output


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_build_that_exits(project, workers):
    """sys.exit() is an error as any other, as it is in plain pytest: not the end of whoever has tried."""
    project.conftest("""
        @fixd.fixture(scope="session")
        def value():
            log("built")
            raise SystemExit("it gives up")
        """)
    project.write("test_it.py", "import pytest\n@pytest.mark.parametrize('n', range(6))\ndef test(value, n): pass\n")
    done = project.run("-n", workers)
    assert done.outcomes() == {"error": 6} and "SystemExit: it gives up" in done.output and "in a row" not in done.output, done.output
    assert project.count("built") == 1


@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_build_that_closes_sockets(project, workers):
    """Also the one to the daemon: plain pytest does not mind."""
    project.conftest("""
        def close_all():
            for fd in map(int, os.listdir("/proc/self/fd")):
                try:
                    if os.readlink(f"/proc/self/fd/{fd}").startswith("socket:"): os.close(fd)
                except OSError:
                    pass
        @fixd.fixture(scope="session")
        def value():
            close_all()
            return [1]
        @fixd.fixture(scope="session")
        def another(): return [2]
        """)
    project.write("test_it.py", "import pytest\n@pytest.mark.parametrize('n', range(4))\ndef test(value, another, n): assert value + another == [1, 2]\n")
    assert "the daemon was lost" in project.run("-n", workers).passed(4).output


def test_a_test_that_looks_at_its_warnings(project):
    """It sees its own, and people see the plugin's; a filter holds for these, too."""
    project.conftest("import threading\n@fixd.fixture\ndef lock(): return threading.Lock()\n")
    project.write("test_it.py", "import warnings\ndef test(recwarn, lock):\n    warnings.warn('own')\n    assert [str(w.message) for w in recwarn] == ['own']\n")
    said = "is built in every process: a lock cannot be put into shared memory"
    for options in ([], ["-n", "1"]):
        assert said in project.run(*options).passed(1).output, options
    project.write("test_it.py", "def test(lock): pass\n")
    assert said not in project.run("-W", "ignore::pytest.PytestWarning").passed(1).output
