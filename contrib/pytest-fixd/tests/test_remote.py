# SPDX-License-Identifier: MIT
"""Fixtures that other machines have built: each a checkout and a daemon of its own, and one server between them."""

import http.server
import os
import shutil
import subprocess
import threading
import time

import pytest

from conftest import BUILD, Project

TOOL = os.path.join(BUILD, "fixd-remote")
pytestmark = pytest.mark.skipif(not os.path.exists(TOOL), reason="this fixd was built without fixd-remote")

CONFTEST = """
import pathlib

@fixd.fixture(scope="session", remote=True, watch="words/*")
def words():
    log("words")
    return sorted(pathlib.Path("words/list").read_text().split())

@fixd.fixture(scope="session", remote=True)
def lengths(words):
    log("lengths")
    return {w: len(w) for w in words}
"""
TESTS = """
def test_words(words):
    assert words == ["pear", "plum"]

def test_lengths(lengths):
    assert lengths == {"pear": 4, "plum": 4}
"""


class Server:
    """PUT and GET of files."""

    def __init__(self):
        self.files, self.asked, self.wrong, self.refuses = {}, [], None, False
        server = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *args):
                pass

            def answer(self, code, data=b""):
                self.send_response(code)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            def do_PUT(self):
                data = self.rfile.read(int(self.headers["Content-Length"]))
                if not server.refuses:
                    server.files[self.path] = data
                self.answer(403 if server.refuses else 201)

            def do_GET(self):
                server.asked.append(self.path)
                data = server.files.get(self.path)
                if server.wrong and data is not None:
                    data = server.wrong(self.path, data)
                self.answer(404 if data is None else 200, data or b"")

            do_HEAD = do_GET

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def manifests(self):
        return [path for path in self.files if "/ac/" in path]

    def close(self):
        self.http.shutdown()
        self.http.server_close()


@pytest.fixture
def server():
    server = Server()
    yield server
    server.close()


@pytest.fixture
def key(tmp_path):
    secret = tmp_path / "secret"
    public = subprocess.run([TOOL, "keygen", str(secret)], capture_output=True, text=True, check=True).stdout.strip()
    return str(secret), public


@pytest.fixture
def machine(tmp_path, server, key):
    """machine(NAME): a checkout of the project there, with a daemon that uses the server."""
    made = []

    def make(name, conftest=CONFTEST, tests=TESTS, more="write = yes\n", url=server.url):
        path = os.path.realpath(os.path.join("/tmp", f"fixd-py-{os.getpid()}-{time.monotonic_ns()}-{name}"))
        os.mkdir(path)
        p = Project(path)
        p.write("words/list", "plum pear\n")
        p.conftest(conftest)
        p.write("test_it.py", tests)
        os.makedirs(os.path.dirname(p.socket), mode=0o700, exist_ok=True)
        with open(os.path.join(os.path.dirname(p.socket), "pytest.ini"), "w") as f:
            f.write(f"[remote]\nurl = {url}\npublic-keys = {key[1]}\nkey-file = {key[0]}\n{more}")
        made.append(p)
        return p

    yield make
    for p in made:
        p.close()
        shutil.rmtree(p.path, ignore_errors=True)


def test_built_once_for_two_machines(machine, server):
    a, b = machine("a"), machine("b")
    a.run("--fixd-wait-upload").passed(2)
    assert a.log() == ["words", "lengths"] and len(server.manifests()) == 2
    b.run("-n", "2").passed(2)
    assert b.log() == []
    # From then on it is as if it had been built there.
    b.write("words/list", "plum pear fig\n")
    assert b.run().outcomes() == {"failed": 2} and b.log() == ["words", "lengths"]


def test_what_differs_is_built(machine, server):
    machine("a").run("--fixd-wait-upload").passed(2)
    b = machine("b")
    other = CONFTEST.replace("sorted(", "sorted(w for w in ")
    for path, text in (("words/list", "pear plum "), ("words/more", ""), ("conftest.py", other)):
        before = len(server.manifests())
        (b.conftest if path == "conftest.py" else lambda text: b.write(path, text))(text)
        b.run("--fixd-wait-upload").passed(2)
        # What is made of the same words is not.
        assert b.log() == ["words"] and len(server.manifests()) == before + 1, path
        b.forget()


def test_what_python_reads_by(machine, server, monkeypatch):
    """The time zone and the language belong to a key, and so does where a link leads to, and what may be run."""
    runs = []
    for name, zone, target, mode in (("a", "UTC", "x", 0o644), ("b", "UTC+5", "x", 0o644), ("c", "UTC", "y", 0o644), ("d", "UTC", "x", 0o755),
                                     ("e", "UTC", "x", 0o644)):
        monkeypatch.setenv("TZ", zone)
        m = machine(name)
        for file in "xy":
            m.write(file, "the same")
        os.symlink("../" + target, os.path.join(m.path, "words/link"))
        os.chmod(os.path.join(m.path, "words/list"), mode)
        m.run("--fixd-wait-upload").passed(2)
        runs.append(m.log()[:1])
    assert runs == [["words"]] * 4 + [[]]


def test_only_what_asks_for_it(machine, server):
    a = machine("a", conftest=CONFTEST.replace("remote=True", "remote=False"))
    a.run("--fixd-wait-upload").passed(2)
    assert server.files == {} and server.asked == []


def test_of_the_own_namespace_only(machine, server):
    """Pickles are code: what main may read of pr/1, or the other way, are images."""
    a = machine("a")
    a.run("--fixd-wait-upload").passed(2)
    b = machine("b", more="write = yes\nnamespace = pr/1\nread = pr/1, main\n")
    b.run("--fixd-wait-upload").passed(2)
    assert b.log() == ["words", "lengths"] and sum(path.startswith("/pr/1/ac/") for path in server.manifests()) == 2
    c = machine("c", more="namespace = pr/1\nread = main\n")
    c.run().passed(2)
    assert c.log() == ["words", "lengths"]


def test_a_server_that_lies(machine, server):
    machine("a").run("--fixd-wait-upload").passed(2)
    b = machine("b", more="")
    for wrong in (lambda path, data: data[:-1], lambda path, data: data[:-1] + bytes([data[-1] ^ 1]), lambda path, data: b"",
                  lambda path, data: b"{}" if "/ac/" in path else data):
        server.wrong = wrong
        result = b.run("-W", "error").passed(2)
        assert b.log() == ["words", "lengths"] and "does not come from the remote" in result.output
        b.forget()
        b.fixctl("cleanup", "--force", "*")
    server.wrong = None
    b.run().passed(2)
    assert b.log() == []


def test_what_changes_meanwhile_does_not_travel(machine, server):
    """It is built once more, of what is there by then, which is described anew."""
    conftest = """
        import pathlib
        @fixd.fixture(scope="session", remote=True, watch="words/*")
        def f():
            log("built")
            found = sorted(os.listdir("words"))
            if pathlib.Path("more").exists():
                pathlib.Path("more").rename("words/more")
            return found
    """
    tests = "import os\ndef test(f):\n    assert f == sorted(os.listdir('words'))\n"
    a, b = machine("a", conftest, tests), machine("b", conftest, tests)
    a.write("more", "")
    a.run("--fixd-wait-upload").passed(1)
    b.run("--fixd-wait-upload").passed(1)
    assert a.log() == ["built", "built"] and b.log() == ["built"]
    # And what is right is there for the next.
    c = machine("c", conftest, tests)
    c.run().passed(1)
    assert c.log() == []


@pytest.mark.parametrize("reads, words", [("open('cfg').read()", "it reads cfg, which watch= does not name"),
                                          ("os.environ['STAGE']", "it reads the environment (os.environ), which others may have otherwise")])
def test_what_reads_more_does_not_travel(machine, server, reads, words):
    conftest = f"@fixd.fixture(scope='session', remote=True)\ndef f():\n    return {reads}\n"
    tests = "def test(f, request):\n    assert f == request.config.rootpath.name[-1]\n"
    for name in "a", "b":
        p = machine(name, conftest, tests)
        p.write("cfg", name)
        p.env["STAGE"] = name
        result = p.run("--fixd-wait-upload").passed(1)
        assert words in result.output and "does not come from the remote" in result.output, result.output
    assert server.manifests() == []


def test_what_is_installed(machine, server):
    """The same package, installed at another time."""
    conftest = "import mypkg\n@fixd.fixture(scope='session', remote=True)\ndef f():\n    log('built')\n    return mypkg.value\n"
    for n, (name, built) in enumerate((("a", ["built"]), ("b", []))):
        p = machine(name, conftest, "def test(f):\n    assert f == 1\n")
        p.write("site-packages/mypkg.py", "value = 1\n")
        p.write("site-packages/mypkg-1.dist-info/RECORD", f"mypkg.py,sha256=abc,10\n__pycache__/mypkg.cpython-3{n}.pyc,,\n../bin/mypkg,sha256={n},3\n")
        os.utime(p.file("site-packages/mypkg-1.dist-info/RECORD"), (n, n))
        p.env["PYTHONPATH"] += ":" + p.file("site-packages")
        p.run("--fixd-wait-upload").passed(1)
        assert p.log() == built, name


def test_uploads_that_are_refused(machine, server):
    server.refuses = True
    result = machine("a").run("--fixd-wait-upload").passed(2)
    assert "it answers with status 403" in result.output, result.output


def test_what_comes_too_late(machine, server):
    """After half of the time that the fixture has it is built, and nothing else is looked for there for a while."""
    conftest, comes = CONFTEST.replace("remote=True", "remote=True, timeout=16"), threading.Event()
    machine("a", conftest).run("--fixd-wait-upload").passed(2)
    server.wrong = lambda path, data: (comes.wait(60) if "/cas/" in path else None) and data or data
    server.asked.clear()
    b = machine("b", conftest, more="write = yes\ntimeout = 50s\n")
    result = b.run().passed(2)
    comes.set()
    assert b.log() == ["words", "lengths"] and "it has not come in its time" in result.output, result.output
    assert len([path for path in server.asked if "/ac/" in path]) == 1, server.asked


def test_no_server(machine):
    a = machine("a", url="http://127.0.0.1:1")
    result = a.run("--fixd-wait-upload").passed(2)
    assert a.log() == ["words", "lengths"] and result.outcomes()["warning"] == 1
    assert "fixture 'words' does not come from the remote, nor go there: " in result.output


def test_arrays(machine, server):
    pytest.importorskip("numpy")
    conftest = """
        import numpy
        @fixd.fixture(scope="session", remote=True)
        def table():
            log("built")
            return {"n": numpy.arange(100000.0), "when": numpy.array(["2026-01-01"], dtype="datetime64[D]")}
    """
    tests = """
        def test_one(table):
            assert table["n"].sum() == 4999950000.0
            table["n"][:] = 0
        def test_other(table):
            assert table["n"].sum() == 4999950000.0 and str(table["when"][0]) == "2026-01-01"
    """
    a, b = machine("a", conftest, tests), machine("b", conftest, tests)
    a.run("--fixd-wait-upload").passed(2)
    b.run("-n", "2").passed(2)
    assert a.log() == ["built"] and b.log() == []


@pytest.mark.parametrize("decorated, words", [
    ("@fixd.fixture(remote=True)\ndef f():\n    yield 1", "its second half would have to be run on another machine"),
    ("@fixd.fixture(remote=True)\ndef f(tmp_path_factory):\n    return 1", "would not be on another machine"),
    ("@fixd.fixture(remote=True, teardown=print)\ndef f():\n    return 1", "remote=True does not go with teardown=..."),
    ("@fixd.fixture(remote=True, reuse=False)\ndef f():\n    return 1", "remote=True does not go with reuse=False"),
    ("@fixd.fixture(remote=True, max_age=60)\ndef f():\n    return 1", "remote=True does not go with max_age=..."),
    ("@fixd.fixture(remote=True, live=True)\ndef f():\n    return 1", "remote=True does not go with live=..."),
])
def test_more_than_a_value(project, decorated, words):
    project.conftest(decorated)
    project.write("test_it.py", "def test_it(f):\n    pass\n")
    result = project.run()
    assert result.code != 0 and words in result.output, result.output
