# SPDX-License-Identifier: MIT
"""fixd.checkpoint(): programs that stop there, what forks of them are, and what does not survive one."""

import json
import os
import re
import subprocess
import sys
import textwrap

import pytest
from conftest import BUILD, CODE, LIMIT, python_path, wait_for


class Templates:
    """A daemon whose fixtures are templates of Python programs."""

    def __init__(self, project):
        self.project, self.names = project, []
        self._daemon = None

    def add(self, name, text, *keys, arguments=""):
        """A program; `keys` are more lines of its section."""
        path = self.project.write(f"{name}.py", text)
        command = f"exec env PYTHONDONTWRITEBYTECODE=1 PYTHONPATH={python_path(CODE)} FIXD_LIBRARY={self.project.env['FIXD_LIBRARY']} {sys.executable} {arguments} {path}"
        with open(self.project.file("fixd.ini"), "a") as f:
            f.write("\n".join([f"[fixture {name}]", f"process = {command}", *keys]) + "\n\n")
        if self._daemon:
            done = self.project.fixctl("reload")
            assert done.returncode == 0, done.stderr
        else:
            self._start()

    def _start(self):
        ready, tell = os.pipe()
        self._daemon = subprocess.Popen([os.path.join(BUILD, "fixd"), "--config", self.project.file("fixd.ini"), "--socket", self.project.socket,
                                         "--ready-fd", str(tell)], pass_fds=[tell], env=self.project.env, cwd="/", stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=open(self.project.file("daemon"), "w"), start_new_session=True)
        os.close(tell)
        assert os.read(ready, 1) == b"\n", open(self.project.file("daemon")).read()
        os.close(ready)

    def fork(self, name, *arguments, env=None, cwd=None, stdin=""):
        return subprocess.run([os.path.join(BUILD, "fixctl"), "--socket", self.project.socket, "fork", name, "--", *arguments], input=stdin,
                              capture_output=True, text=True, timeout=LIMIT, cwd=cwd or self.project.path,
                              env={**self.project.env, **(env or {})})

    def output(self, name, *arguments, **how):
        done = self.fork(name, *arguments, **how)
        assert done.returncode == 0, done.stderr + self.log(name)
        return done.stdout

    def log(self, name):
        return self.project.fixctl("log", name).stdout

    def close(self):
        self.project.fixctl("stop")
        if self._daemon:
            self._daemon.wait(LIMIT)


@pytest.fixture
def templates(project):
    t = Templates(project)
    yield t
    t.close()


@pytest.fixture
def program(templates):
    """Adds one that notes that it has prepared; HERE is the project's directory."""
    def add(text, *keys, arguments=""):
        text = "with open('HERE/log', 'a') as f: f.write('prepared\\n')\n" + textwrap.dedent(text)
        here = templates.project.path
        templates.add("t", text.replace("HERE", here), *keys, arguments=arguments.replace("HERE", here))
        return templates

    return add


def test_without_a_template(project):
    path = project.write("prog.py", "import fixd, sys\nprint(fixd.checkpoint(), 'pytest' in sys.modules)\n")
    done = subprocess.run([sys.executable, path, "a", "b"], env=project.env, capture_output=True, text=True, timeout=LIMIT)
    assert done.stdout == "['a', 'b'] False\n", done.stderr


def test_a_fork_is_its_callers(program):
    t = program("""
        import json, os, sys, fixd
        os.environ["SET"] = "by the program"
        arguments = fixd.checkpoint()
        os.umask(mask := os.umask(0))
        print(json.dumps([arguments, sys.argv[1:], os.getcwd(), os.environ.get("ASKED"), os.environ["SET"], mask, sys.stdin.read(), os.getenv("TZ")]))
        print("to stderr", file=sys.stderr)
        sys.exit(7)
        """)
    os.mkdir(t.project.file("elsewhere"))
    for word in ("one", "two"):
        done = t.fork("t", word, "\udcff", env={"ASKED": word, "SET": "by the caller", "TZ": "UTC"}, cwd=t.project.file("elsewhere"), stdin=word)
        arguments = [word, "\udcff"]
        assert json.loads(done.stdout) == [arguments, arguments, t.project.file("elsewhere"), word, "by the program", 0o022, word, "UTC"], done.stderr
        assert (done.returncode, done.stderr) == (7, "to stderr\n")
    assert t.project.log() == ["prepared"]


def test_end_of_the_template(program):
    t = program("""
        import atexit, fixd, os, sys, tempfile, weakref
        log = lambda word: open("HERE/log", "a").write(word + "\\n")
        class Thing: pass
        thing = Thing()
        atexit.register(log, "before")
        weakref.finalize(thing, log, "finalizer")
        try:
            with tempfile.TemporaryDirectory() as directory, tempfile.NamedTemporaryFile("a", suffix="kept") as file:
                fixd.checkpoint()
                atexit.register(print, "after")
                print(directory, file.name)
        finally:
            log("finally")
        """)
    for _ in range(2):
        directory, file, after = t.output("t").split()
        assert after == "after" and os.path.isdir(directory) and os.path.exists(file)
    assert t.project.log() == ["prepared", "finally", "finally"]
    assert t.project.fixctl("cleanup", "--force", "t").returncode == 0
    wait_for(lambda: not os.path.exists(directory), "the template to end")
    wait_for(lambda: sorted(t.project.log()) == ["before", "finalizer", "finally", "finally", "finally", "prepared"], "its exit handlers")
    assert not os.path.exists(file)


def test_random_numbers(program):
    t = program("""
        import fixd, random
        try:
            import numpy
        except ImportError:
            numpy = random
        random.seed(1)
        numpy.random.seed(1)
        fixd.checkpoint()
        print(random.random(), numpy.random.random())
        """, "audit = warn")
    drawn = [t.output("t").split() for _ in range(3)]
    assert len({n for one in drawn for n in one}) == 6, drawn


def test_what_was_not_flushed(program):
    """Nobody writes it twice."""
    t = program("""
        import fixd, sys
        log = open("HERE/log", "a")
        log.write("once\\n")
        print("in the log of the template")
        fixd.checkpoint()
        log.write("each\\n")
        print("here")
        """)
    assert [t.output("t") for _ in range(2)] == ["here\n", "here\n"]
    assert t.project.log() == ["prepared", "once", "each", "each"]


def test_coverage(program):
    """The same lines as without a template, of each fork."""
    coverage = pytest.importorskip("coverage")
    t = program("""
        import fixd, sys
        def before():
            return 1
        def after(word):
            if word == "a":
                return "first"
            return "second"
        before()
        word = fixd.checkpoint()[0]
        after(word)
        """, arguments="-m coverage run --parallel-mode --data-file=HERE/data")
    plain = t.project.file("t.py")

    def lines(prefix):
        found = set()
        for name in os.listdir(t.project.path):
            if name.startswith(prefix + "."):
                data = coverage.CoverageData(basename=os.path.join(t.project.path, name))
                data.read()
                found.add(tuple(sorted(data.lines(plain) or ())))
        return found

    for word in "ab":
        t.output("t", word)
        subprocess.run([sys.executable, "-m", "coverage", "run", "--parallel-mode", f"--data-file={t.project.file('plain')}", plain, word],
                       env=t.project.env, check=True, cwd=t.project.path)
    assert lines("data") == lines("plain") != set()


def test_edits_of_what_it_has_read(program):
    """Of a module, and of a file that it names."""
    t = program("""
        import fixd, os
        os.chdir("HERE")
        import part
        data = open("data").read()
        fixd.checkpoint(files=["data"])
        print(part.value, data)
        """)
    for value, data in ((1, "a"), (2, "a"), (2, "other")):
        t.project.write("part.py", f"value = {value}\n")
        t.project.write("data", data)
        assert [t.output("t") for _ in range(2)] == [f"{value} {data}\n"] * 2


def test_a_second_checkpoint_is_none(program):
    t = program("import fixd\nfixd.checkpoint()\nprint(fixd.checkpoint())\n")
    assert t.output("t", "x") == "['x']\n"


def test_lazy_objects_stay_so(program):
    """Those of Django, which are what they stand for as soon as they are looked at, and modules that are read when they are used."""
    t = program("""
        import fixd, importlib.util, socket, sys
        class Lazy:
            @property
            def __class__(self): raise SystemExit("it was asked for its class")
            def __getattr__(self, name): raise SystemExit(f"it was asked for its {name}")
            def __eq__(self, other): raise SystemExit("it was compared")
            __hash__ = None
        spec = importlib.util.find_spec("part")
        spec.loader = importlib.util.LazyLoader(spec.loader)
        class LazyNames(type(sys)):
            @property
            def __dict__(self): raise SystemExit("it was asked for all that it has")
        sys.modules["names"] = LazyNames("names")
        lazy, part = [Lazy()], importlib.util.module_from_spec(spec)
        sys.modules["part"], sys.modules["lazy"] = part, lazy[0]
        spec.loader.exec_module(part)
        fixd.checkpoint()
        print("part_is_read" in sys.modules, part.value)
        """)
    t.project.write("part.py", "import sys\nsys.modules['part_is_read'] = None\nvalue = 1\n")
    assert t.output("t") == "False 1\n"


def test_after_fork(program):
    t = program("import fixd, os\nhad = []\nfixd.checkpoint(after_fork=lambda: had.append(os.getpid()))\nprint(had == [os.getpid()])\n")
    assert [t.output("t") for _ in range(2)] == ["True\n"] * 2


def test_fork_hooks_of_python(program):
    """What registers itself with Python looks after itself."""
    t = program("""
        import fixd, os
        was = []
        os.register_at_fork(after_in_child=lambda: was.append("child"))
        fixd.checkpoint()
        print(was, os.fork() and os.wait()[1])
        """)
    assert t.output("t").splitlines()[-1] in ("['child'] 0", "['child', 'child'] 0")


# What does not survive: (program before its checkpoint, what is told).
REFUSED = {
    "thread_pool": ("""
        from concurrent.futures import ThreadPoolExecutor
        pool = ThreadPoolExecutor(2)
        pool.submit(int).result()
        """, r"the 1 thread\(s\) of the ThreadPoolExecutor 'pool' \(.*t\.py:4\) .*shutdown\(\) ends them \(thread\)"),
    "thread": ("""
        import threading
        go = threading.Event()
        def work(): go.wait()
        threading.Thread(target=work, name="worker", daemon=True).start()
        """, r"would not have the thread 'worker', which is in wait\(\) \(threading\.py:\d+\), called by work\(\) \(.*t\.py:5\).*\(thread\)"),
    "held_lock": ("""
        import threading
        lock, held, go = threading.Lock(), threading.Event(), threading.Event()
        def hold():
            with lock:
                held.set()
                go.wait()
        threading.Thread(target=hold, name="holder", daemon=True).start()
        held.wait()
        """, r"the thread 'holder', which is in wait\(\) .*called by hold\(\) \(.*t\.py:8\)"),
    "process_pool": ("""
        from concurrent.futures import ProcessPoolExecutor
        pool = ProcessPoolExecutor(1)
        pool.submit(int).result()
        """, r"process\(es\) of the ProcessPoolExecutor 'pool' \(.*t\.py:4\) .*\(child\)"),
    "multiprocessing_pool": ("""
        import multiprocessing
        pool = multiprocessing.Pool(1)
        """, r"the 1 process\(es\) of the multiprocessing\.Pool 'pool' \(.*t\.py:4\) .*\(child\)"),
    "multiprocessing_thread_pool": ("""
        from multiprocessing.pool import ThreadPool
        pool = ThreadPool(2)
        """, r"the 2 thread\(s\) of the ThreadPool 'pool' \(.*t\.py:4\)"),
    "multiprocessing_process": ("""
        import multiprocessing, time
        process = multiprocessing.Process(target=time.sleep, args=(1000,), name="child", daemon=True)
        process.start()
        """, r"the multiprocessing\.Process 'child' 'process' \(.*t\.py:4\) would be none of a fork's \(child\)"),
    "subprocess": ("""
        import subprocess
        class Server:
            def __init__(self): self.process = subprocess.Popen(["sleep", "1000"])
        server = Server()
        """, r"the process of subprocess\.Popen\('sleep 1000'\), held by 'server' \(.*t\.py:6\), would be none of a fork's \(child\)"),
    "event_loop": ("""
        import asyncio
        loop = asyncio.new_event_loop()
        """, r"the event loop of asyncio 'loop' \(.*t\.py:4\); close\(\) it \(epoll\)"),
    "selector": ("""
        import selectors
        selector = selectors.DefaultSelector()
        """, r"share the selector 'selector' \(.*t\.py:4\) \(epoll\) \(epoll\)"),
    "epoll": ("""
        import select
        loop = select.epoll()
        """, r"share descriptor \d+, an epoll instance \(epoll\)"),
    "sqlite_file": ("""
        import os, sqlite3
        os.chdir(os.path.dirname(__file__))
        class Store:
            def __init__(self): self.db = sqlite3.connect("some.db")
        store = Store()
        store.db.execute("create table if not exists t(x)")
        """, r"the connection of sqlite3, held by 'store' \(.*t\.py:7\), to .*/some\.db, and not have its locks.*\(lock\)"),
    "socket": ("""
        import socket
        server = socket.create_server(("127.0.0.1", 0))
        """, r"the socket 'server' \(.*t\.py:4\) of 127\.0\.0\.1:\d+ \(socket\)"),
    "connection": ("""
        import socket
        server = socket.create_server(("127.0.0.1", 0))
        client = socket.create_connection(server.getsockname())
        """, r"the socket 'client' \(.*t\.py:5\) of 127\.0\.0\.1:\d+, connected to 127\.0\.0\.1:\d+ \(socket\)"),
    "http_client": ("""
        import http.client, socket
        server = socket.create_server(("127.0.0.1", 0))
        client = http.client.HTTPConnection(*server.getsockname())
        client.connect()
        """, r"the socket, held by 'client' \(.*t\.py:5\), of .*, connected to 127\.0\.0\.1:\d+ \(socket\)"),
    "database": ("""
        import socket
        class Connection:
            def __init__(self): self.s = socket.socketpair()[0]
            def fileno(self): return self.s.fileno()
            cursor = commit = rollback = lambda self: None
        db = Connection()
        """, r"the database connection 'db' \(.*t\.py:8\) \(__main__\.Connection\); close it, and connect after the checkpoint \(socket\)"),
    "pipe": ("""
        import os
        ends = os.pipe()
        """, r"share descriptor \d+, a pipe \(pipe\)"),
    "shared_memory": ("""
        import os
        from multiprocessing import shared_memory
        block = shared_memory.SharedMemory(create=True, size=4096)
        shared_memory.resource_tracker.unregister(block._name, "shared_memory")
        os.unlink("/dev/shm/" + block.name)
        """, r"the SharedMemory 'block' \(.*t\.py:5\) '\w+' \(mapping\)"),
    "shared_mapping": ("""
        import mmap
        memory = mmap.mmap(-1, 4096)
        """, r"share 4096 bytes of writable memory at 0x[0-9a-f]+, .*\(mapping\)"),
    "alarm": ("""
        import signal
        signal.alarm(1000)
        """, r"the real timer of setitimer\(2\) or alarm\(2\) \(timer\)"),
    "flock": ("""
        import fcntl, os
        file = open(os.path.dirname(__file__) + "/locked", "a")
        fcntl.flock(file, fcntl.LOCK_EX)
        """, r"share the lock of descriptor \d+, .*/locked \(lock\)"),
    "queue_listener": ("""
        import logging.handlers, queue
        listener = logging.handlers.QueueListener(queue.SimpleQueue())
        listener.start()
        """, r"the thread 'Thread-1 \(_monitor\)', which is in \w+\(\) \(handlers\.py:\d+\)"),
    "watchdog": ("""
        import faulthandler
        faulthandler.dump_traceback_later(1000)
        """, r"would not have the thread '.*' \(\d+\), which is .*\(thread\)"),
    "traced": ("""
        import tracemalloc, socket
        tracemalloc.start()
        def connect(): return [socket.socket()]
        sockets = connect()
        """, r"the socket, made at .*:\d+,.* \(socket\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(program, name):
    before, told = REFUSED[name]
    t = program(before + "\n        import fixd\n        fixd.checkpoint()\n        print('forked')\n")
    done = t.fork("t")
    assert (done.returncode, done.stdout) == (4, ""), done.stderr
    log = t.log("t")
    assert re.search(told, log), log
    assert "audit = KIND:allow in [fixture t]" in log


@pytest.mark.parametrize("name", ["socket", "event_loop", "sqlite_file"])
def test_allowed(program, name):
    """As the section says."""
    before, told = REFUSED[name]
    kind = {"event_loop": "epoll", "sqlite_file": "lock"}.get(name, name)
    more = ", file:allow, socket:allow" if name in ("sqlite_file", "event_loop") else ""
    t = program(before + "\n        import fixd\n        fixd.checkpoint()\n        print('forked')\n", f"audit = {kind}:allow{more}")
    assert t.output("t") == "forked\n"
    assert "checkpoint" not in t.log("t")


def test_warned_of(program):
    before, told = REFUSED["socket"]
    t = program(before + "\n        import fixd\n        fixd.checkpoint()\n        print('forked')\n", "audit = warn")
    assert t.output("t") == "forked\n"
    assert re.search("fixd: checkpoint: warning: .*" + told, t.log("t")) and t.log("t").count("checkpoint") == 1, t.log("t")


# What is repaired: (before the checkpoint, after it, what a fork prints).
REPAIRED = {
    "sqlite_memory": ("import sqlite3; db = sqlite3.connect(':memory:'); db.execute('create table t(x)')",
                      "db.execute('insert into t values(1)'); print(db.execute('select count(*) from t').fetchone()[0])", "1"),
    "environment": ("import os; was = os.environ.get('ASKED')", "print(was, os.environ['ASKED'], os.getenv('ASKED'))", "None yes yes"),
    "logging": ("import logging, sys; logging.basicConfig(stream=sys.stdout, format='%(message)s'); logging.warning('once')",
                "logging.warning('each')", "each"),
    "faulthandler": ("import faulthandler; faulthandler.enable()", "print(faulthandler.is_enabled())", "True"),
    "signal": ("import os, signal; had = []; signal.signal(signal.SIGUSR1, lambda *_: had.append(1))",
               "os.kill(os.getpid(), signal.SIGUSR1); print(had)", "[1]"),
    "interrupt": ("import os, signal", "try:\n    os.kill(os.getpid(), signal.SIGINT)\nexcept KeyboardInterrupt: print('interrupted')", "interrupted"),
    "closed_pool": ("from concurrent.futures import ThreadPoolExecutor\nwith ThreadPoolExecutor() as p: p.submit(int).result()",
                    "with ThreadPoolExecutor() as p: print(p.submit(int).result())", "0"),
    "multiprocessing": ("import multiprocessing; context = multiprocessing.get_context('fork')",
                        "with context.Pool(1) as p: print(p.map(abs, [-1]))", "[1]"),
    "asyncio": ("import asyncio; asyncio.run(asyncio.sleep(0))", "print(asyncio.run(asyncio.sleep(0, 'slept')))", "slept"),
    "subprocess": ("import subprocess; subprocess.run(['true'])", "print(subprocess.run(['echo', 'x'], capture_output=True, text=True).stdout.strip())", "x"),
    "threads_after": ("import threading", "t = threading.Thread(target=print, args=('ran',)); t.start(); t.join()", "ran"),
    "uuid": ("import uuid; uuid.uuid1()", "print(len({uuid.uuid1(), uuid.uuid4()}))", "2"),
    "umask": ("import os; os.umask(0o777)", "print(oct(os.umask(0)))", "0o22"),
}


@pytest.mark.parametrize("name", REPAIRED)
def test_repaired(program, name):
    before, after, printed = REPAIRED[name]
    t = program(f"import fixd\n{before}\nfixd.checkpoint()\n{after}\n")
    for _ in range(2):
        assert t.output("t", env={"ASKED": "yes"}).strip() == printed, t.log("t")
