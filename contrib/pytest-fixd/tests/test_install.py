# SPDX-License-Identifier: MIT
"""Installed as a package, pytest finds the plugin by itself."""

import glob
import os
import shutil
import subprocess
import sys

from conftest import PACKAGE, python_path


def test_entry_point(project, tmp_path):
    shutil.copytree(PACKAGE, tmp_path / "source", ignore=shutil.ignore_patterns("tests", "bench", "__pycache__"))
    for path in (tmp_path / "source").rglob("*"):
        os.chmod(path, 0o755 if path.is_dir() else 0o644)
    os.chmod(tmp_path / "source", 0o755)
    done = subprocess.run([sys.executable, "-c", "import setuptools; setuptools.setup()", "-q", "install", "--root",
                           str(tmp_path / "root"), "--single-version-externally-managed"], cwd=tmp_path / "source",
                          capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    [plugin] = glob.glob(str(tmp_path / "root" / "**" / "fixd" / "plugin.py"), recursive=True)
    site = os.path.dirname(os.path.dirname(plugin))
    assert os.path.exists(os.path.join(site, "fixd", "py.typed"))
    project.write("test_it.py", "import fixd\n@fixd.fixture\ndef data(): return [1]\ndef test(data): assert data == [1]\n")
    done = subprocess.run([sys.executable, "-m", "pytest"], cwd=project.path, text=True, capture_output=True,
                          env={**project.env, "PYTHONPATH": python_path(site), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": ""})
    assert done.returncode == 0 and "fixd: /" in done.stdout, done.stdout + done.stderr


def test_threads_attach_and_let_go(project):
    """Views die in whatever thread drops them."""
    project.conftest("""
        @fixd.fixture(scope="session")
        def data(): return bytes(100000)
        """)
    project.write("test_it.py", """
        import os, threading, fixd
        def test(data, pytestconfig):
            from fixd.plugin import runtime_of
            connection = runtime_of(pytestconfig).connection
            def work():
                for _ in range(200):
                    view = connection.attach("conftest.py::data")
                    assert len(view.data) > 100000
            threads = [threading.Thread(target=work) for _ in range(4)]
            [t.start() for t in threads]
            [t.join() for t in threads]
        """)
    project.run().passed(1)


def test_forked_children_use_what_they_have(project):
    project.conftest("""
        @fixd.fixture(scope="session")
        def data(): return list(range(1000))
        """)
    project.write("test_it.py", """
        import multiprocessing
        def child(queue, data): queue.put(sum(data))
        def test(data):
            context = multiprocessing.get_context("fork")
            queue = context.Queue()
            processes = [context.Process(target=child, args=(queue, data)) for _ in range(4)]
            [p.start() for p in processes]
            assert [queue.get() for _ in processes] == [499500] * 4
            [p.join() for p in processes]
            assert [p.exitcode for p in processes] == [0] * 4
        """)
    project.run("-n", "2").passed(1)
