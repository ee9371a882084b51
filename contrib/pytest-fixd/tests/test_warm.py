# SPDX-License-Identifier: MIT
"""pytest --fixd-warm: the same results, without the imports."""

import os
import subprocess
import sys

import pytest
from conftest import BUILD, LIMIT


@pytest.fixture
def packages(project):
    """A project that imports a package that notes it."""
    packages = project.file("site-packages")
    project.env["PYTHONPATH"] += f":{packages}"
    project.write("site-packages/installed.py", "import os\nwith open(os.environ['LOG'], 'a') as f: f.write('imported\\n')\nvalue = 1\n")
    project.write("own.py", "import os\nwith open(os.environ['LOG'], 'a') as f: f.write('own\\n')\nvalue = 1\n")
    project.conftest("""
        import installed, own
        @fixd.fixture(scope="session")
        def data():
            log("data")
            return [1]
        """)
    project.write("test_it.py", """
        import installed, own, os, pytest, sys
        @pytest.mark.parametrize("n", range(4))
        def test_value(n, data): assert installed.value == own.value == data[0] == 1
        def test_output(capfd):
            os.system("echo x")
            print("y")
            assert sorted(capfd.readouterr().out.split()) == ["x", "y"]
        """)
    yield project
    subprocess.run([os.path.join(BUILD, "fixctl"), "--socket", os.path.join(project.home, "fixd", "python", "socket"), "stop"],
                   capture_output=True, env=project.env)


def counts(project):
    n = tuple(project.count(word) for word in ("imported", "own", "data"))
    project.forget()
    return n


@pytest.mark.parametrize("workers", ["0", "2"])
def test_later_runs_import_nothing(packages, workers):
    processes = 1 + int(workers)
    found = []
    for _ in range(3):
        result = packages.run("--fixd-warm", "-n", workers, "-v").passed(5)
        assert "fixd: warm" in result.output
        found.append(counts(packages))
    # The first run has none to be forked from, the second one makes one.
    assert found[1:] == [(1, processes, 0), (0, processes, 0)], found
    assert found[0][1:] == (processes, 1)


def test_all_ways_to_distribute(packages):
    for _ in range(2):
        packages.run("--fixd-warm", "-n", "2").passed(5)
    for dist in ("each", "loadfile"):
        counts(packages)
        packages.run("--fixd-warm", "-n", "2", "--dist", dist).passed(10 if dist == "each" else 5)
        assert counts(packages) == (0, 3, 0)


def test_results_are_the_same(packages):
    packages.write("test_more.py", """
        import pytest, warnings
        def test_fails():
            value = [1, 2]
            assert value == [1, 3]
        def test_raises(): raise ValueError("no")
        def test_warns(): warnings.warn("w")
        @pytest.mark.skip
        def test_skipped(): pass
        @pytest.fixture
        def broken(): 1 / 0
        def test_error(broken): pass
        """)
    def told(result):
        return result.code, [line for line in result.output.splitlines()[:-1] if not line.startswith("fixd: ")]
    cold = told(packages.run("-v"))
    for _ in range(2):
        assert told(packages.run("-v", "--fixd-warm")) == cold


def test_plugins_are_left_to_pytest(packages):
    """And what imports them: their assertions are rewritten."""
    packages.write("site-packages/plug.py", "def check(x): assert x == 1\n")
    packages.write("site-packages/user_of_plug.py", "import plug\n")
    packages.conftest("import user_of_plug")
    packages.write("test_it.py", """
        import plug, pytest
        def test():
            with pytest.raises(AssertionError, match="assert 2 == 1"): plug.check(2)
        """)
    for _ in range(3):
        output = packages.run("-p", "plug", "--fixd-warm").passed(1).output
        assert "warning" not in output, output


def test_in_the_ini(packages):
    packages.write("pytest.ini", "[pytest]\nfixd_warm = true\n")
    assert "fixd: warm" in packages.run("-v").passed(5).output


def test_edited_modules_and_packages(packages):
    for _ in range(2):
        packages.run("--fixd-warm").passed(5)
    packages.write("own.py", "value = 2\n")
    assert packages.run("--fixd-warm").outcomes() == {"failed": 4, "passed": 1}
    packages.write("site-packages/installed.py", "value = 2\n")
    packages.write("test_it.py", "import installed, own\ndef test(): assert installed.value == own.value == 2\n")
    packages.run("--fixd-warm").passed(1)


def test_without_a_daemon(packages):
    output = packages.run("--fixd-warm", "-v", env={"FIXD_DISABLE": "1"}).passed(5).output
    assert "fixd: not warm: FIXD_DISABLE is set" in output


def test_called_by_a_program(packages):
    path = packages.write("run.py", "import pytest, sys\nsys.exit(pytest.main(['-p', 'fixd.plugin', '-v', '--fixd-warm', '-p', 'no:cacheprovider']))\n")
    done = subprocess.run([sys.executable, path], env=packages.env, cwd=packages.path, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0 and "fixd: not warm: pytest was called by a program" in done.stdout, done.stdout


def test_coverage_of_a_warm_run(packages):
    pytest.importorskip("pytest_cov")
    found = []
    for options in ([], ["--fixd-warm"], ["--fixd-warm"]):
        output = packages.run("--cov=own", "--cov=test_it", "--cov-report=term", *options).passed(5).output
        found.append([line for line in output.splitlines() if ".py " in line])
    assert found[0] == found[1] == found[2] and len(found[0]) == 2


def test_begins_again_before_it_loads_anything(packages):
    """With the option on the command line; in doubt when all is known."""
    for _ in range(2):
        packages.run("--fixd-warm").passed(5)
    for options, early in (["--fixd-warm"], True), (["--fixd-warm", "--fixd-leaks"], True), (["-o", "fixd_warm=true"], False):
        packages.env["PYTHONPROFILEIMPORTTIME"] = "1"
        result = packages.run("-v", *options).passed(5)
        del packages.env["PYTHONPROFILEIMPORTTIME"]
        assert "fixd: warm" in result.output and (" fixd._live\n" not in result.output) == early, options
    assert "usage:" in packages.run("--fixd-warm", "--help").output
