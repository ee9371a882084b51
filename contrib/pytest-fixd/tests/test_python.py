# SPDX-License-Identifier: MIT
"""fixd-python: what it runs is as python runs it, and its packages are imported once."""

import os
import signal
import subprocess
import sys
import textwrap

import pytest
from conftest import BUILD, LIMIT, wait_for

WARM = [sys.executable, "-m", "fixd._python"]


class Runs:
    """A directory with a package that notes when it is imported."""

    def __init__(self, project):
        self.project = project
        self.packages = project.file("site-packages")
        self.env = {**project.env, "FIXD_VERBOSE": "1", "PYTHONPATH": f"{project.env['PYTHONPATH']}:{self.packages}"}
        project.write("site-packages/installed.py", """
            import os
            with open(os.environ["LOG"], "a") as f: f.write("imported\\n")
            asked = os.environ.get("ASKED_AT_IMPORT")
            value = 1
            """)

    def start(self, *words, command=WARM, env=None, **how):
        return subprocess.Popen([*command, *words], env={**self.env, **(env or {})}, cwd=self.project.path, text=True, start_new_session=True,
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def run(self, *words, stdin="", **how):
        process = self.start(*words, **how)
        out, err = process.communicate(stdin, timeout=LIMIT)
        return process.returncode, out, err

    def good(self, *words, **how):
        code, out, err = self.run(*words, **how)
        assert (code, err) == (0, ""), out + err
        return out

    def imports(self):
        n = self.project.count("imported")
        self.project.forget()
        return n

    def close(self):
        subprocess.run([os.path.join(BUILD, "fixctl"), "--socket", os.path.join(self.project.home, "fixd", "python", "socket"), "stop"],
                       capture_output=True, env=self.env)


@pytest.fixture
def runs(project):
    r = Runs(project)
    yield r
    r.close()


SCRIPT = """
import sys, pickle, os
class Thing: pass
print(sys.argv, __name__, __file__, sys.path, sys.flags, os.getcwd(), sys.orig_argv, sys.executable)
print(pickle.loads(pickle.dumps(Thing())).__class__ is Thing, __import__("__main__").Thing is Thing, sys.stdin.read(), __doc__, __spec__, __cached__)
print("to stderr", file=sys.stderr)
"""

PROGRAMS = {
    "script": ["script.py", "a", "-b", "c d"],
    "text": ["-c", "import sys; print(sys.argv, sys.path[0] == '', __name__)", "x"],
    "module": ["-m", "package", "x"],
    "submodule": ["-mpackage.sub", "x"],
    "flags": ["-OBs", "-W", "error", "-Xutf8", "script.py"],
    "isolated": ["-I", "-c", "import sys; print(sys.path, sys.flags)"],
    "raises": ["raises.py"],
    "raises_text": ["-c", "1/0"],
    "raises_inside": ["inside.py"],
    "raises_module": ["-m", "package.raises"],
    "syntax": ["-c", "1 +"],
    "status": ["-c", "import sys; sys.exit(3)"],
    "message": ["-c", "import sys; sys.exit('a message')"],
    "at_exit": ["-c", "import atexit; atexit.register(print, 'at exit'); print('first')"],
    "interrupted": ["-c", "raise KeyboardInterrupt"],
    "killed": ["-c", "import os; os.kill(os.getpid(), 9)"],
    "no_script": ["missing.py"],
    "version": ["-V"],
    "warning": ["-c", "import warnings; warnings.warn('w')"],
    "processes": ["processes.py"],
    "unbuffered": ["-u", "-c", "import os; print('x'); os._exit(0)"],
}


@pytest.mark.parametrize("name", PROGRAMS)
def test_like_python(runs, name):
    p = runs.project
    p.write("script.py", SCRIPT)
    p.write("raises.py", "def f():\n    raise ValueError('no')\nf()\n")
    p.write("package/__init__.py", "")
    p.write("package/__main__.py", "import sys; print(sys.argv, sys.path[0], __name__, __package__, __spec__.name)")
    p.write("package/sub.py", "import sys; print(sys.argv, sys.path[0], __name__, __package__, __spec__.name)")
    p.write("package/raises.py", "1/0")
    p.write("inside.py", "exec('1/0')")
    p.write("processes.py", """
        import multiprocessing
        def double(n): return 2 * n
        if __name__ == "__main__":
            for how in ("fork", "spawn"):
                with multiprocessing.get_context(how).Pool(1) as pool: print(pool.map(double, [1, 2]))
        """)
    code, out, err = runs.run(*PROGRAMS[name], command=[sys.executable], stdin="some words")
    for _ in range(2 if name in ("script", "raises_module") else 1):
        warm = runs.run(*PROGRAMS[name], stdin="some words", env={"FIXD_VERBOSE": ""})
        # A shell tells a signal as fixctl does.
        assert warm == (code if code >= 0 else 128 - code, out, err)


def test_imports_of_packages(runs):
    p = runs.project
    p.write("own.py", "import os\nwith open(os.environ['LOG'], 'a') as f: f.write('own\\n')\nvalue = 1\n")
    p.write("prog.py", "import installed, own; print(installed.value, own.value)\n")
    counted = []
    for _ in range(4):
        assert runs.good("prog.py") == "1 1\n"
        assert p.count("own") == 1
        counted.append(runs.imports())
    assert counted == [1, 1, 0, 0]


@pytest.fixture
def warm(runs):
    """There is a template that has it, in which the variable is not set."""
    runs.project.write("prog.py", "import installed; print(installed.value, installed.asked)\n")
    for _ in range(3):
        assert runs.good("prog.py") == "1 None\n"
    assert runs.imports() == 2
    return runs


def test_edit_of_a_package(warm):
    with open(os.path.join(warm.packages, "installed.py"), "a") as f:
        f.write("value = 2\n")
    assert [warm.good("prog.py") for _ in range(2)] == ["2 None\n"] * 2
    assert warm.imports() == 1


def test_another_package(warm):
    """That is found in place of what was there."""
    warm.project.write("site-packages/installed/__init__.py", "value, asked = 3, None\n")
    assert [warm.good("prog.py") for _ in range(2)] == ["3 None\n"] * 2


def test_package_is_removed(warm):
    os.unlink(os.path.join(warm.packages, "installed.py"))
    code, out, err = warm.run("prog.py")
    assert code == 1 and "No module named 'installed'" in err


def test_environment_read_at_import(warm):
    for word in ("one", "two", "one"):
        assert warm.good("prog.py", env={"ASKED_AT_IMPORT": word}) == f"1 {word}\n"
    assert warm.imports() == 2
    assert warm.good("prog.py", env={"NOT_ASKED": "x"}) == "1 None\n"
    assert warm.imports() == 0


def test_flags_and_directories(warm):
    """Other flags are another interpreter; another directory is another program only for -m and -c."""
    assert warm.good("-O", "prog.py") == "1 None\n"
    assert warm.imports() == 1


def test_a_package_that_starts_threads(runs):
    """Is no package to be forked with: plain python, which says why."""
    runs.project.write("site-packages/busy.py", """
        import threading
        go = threading.Event()
        threading.Thread(target=go.wait, name="busy thread", daemon=True).start()
        """)
    runs.project.write("prog.py", "import busy; print('ran')\n")
    assert runs.good("prog.py") == "ran\n"
    code, out, err = runs.run("prog.py")
    assert (code, out) == (0, "ran\n") and "fixd-python: plain python: " in err and "the thread 'busy thread'" in err, err


@pytest.mark.parametrize("env, why", [({"FIXD_DISABLE": "1"}, "FIXD_DISABLE is set"), ({"FIXD_BIN": "/nonexistent"}, "are not installed"),
                                      ({"FIXD_LIBRARY": "/nonexistent"}, "libfixd is not installed")])
def test_plain_python(runs, env, why):
    code, out, err = runs.run("-c", "print('ran')", env=env)
    assert (code, out) == (0, "ran\n") and why in err, err


def test_killed_with_its_caller(runs):
    runs.project.write("prog.py", "import os, time\nprint(os.getpid(), flush=True)\ntime.sleep(1000)\n")
    process = runs.start("prog.py")
    pid = int(process.stdout.readline())
    process.kill()
    process.wait(LIMIT)
    wait_for(lambda: not os.path.exists(f"/proc/{pid}"), "the fork to end")


def test_signals_reach_it(runs):
    runs.project.write("prog.py", textwrap.dedent("""
        import signal, sys
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))
        print("ready", flush=True)
        while True: signal.pause()
        """))
    process = runs.start("prog.py")
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.wait(LIMIT) == 5


def test_at_once(runs):
    """Many that find no template make one."""
    runs.project.write("prog.py", "import installed; print(installed.value)\n")
    for expected in (8, 1, 0):
        processes = [runs.start("prog.py") for _ in range(8)]
        assert [p.communicate(timeout=LIMIT)[:2] for p in processes] == [("1\n", "")] * 8
        assert runs.imports() == expected
