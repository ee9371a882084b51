# SPDX-License-Identifier: MIT
"""The second half of a fixture runs exactly once, whatever happens to the run."""

import fcntl
import json
import os
import signal
import subprocess

import pytest

from conftest import wait_for

DISTS = ["load", "loadfile", "loadscope", "worksteal", "each"]
SERVER = """
    @fixd.fixture(scope="session", reuse=False)
    def server():
        log("up")
        port = 8080
        yield port
        assert port == 8080
        log("down")
    """
MANY = """
    import os, pytest, time
    @pytest.mark.parametrize("n", range(12))
    def test_many({fixtures}, n):
        {body}
        time.sleep(0.01)
    """


def many(fixtures="server", body="assert server == 8080"):
    return MANY.format(fixtures=fixtures, body=body)


def once(project, n=1):
    assert sorted(project.log()) == sorted(["up", "down"] * n), project.log()


@pytest.mark.parametrize("workers", ["0", "1", "2", "8"])
def test_generator(project, workers):
    project.conftest(SERVER)
    project.write("test_it.py", many())
    for n in (1, 2):
        project.run("-n", workers).passed(12)
        once(project, n)


@pytest.mark.parametrize("restarted", [False, True])
def test_dependents_end_first(project, restarted):
    """Whatever is forgotten at once, and in which order it was built."""
    project.conftest("".join(f"""
        @fixd.fixture(scope="session")
        def {name}({", ".join(needs)}):
            log("{name} up")
            yield "{name}"
            log("{name} down")
        """ for name, needs in (("a", ""), ("b", "a"), ("z", ""), ("c", "bz"), ("d", "zc"))))
    project.write("test_it.py", "def test_it(d, a): pass\n")
    project.run().passed(1)
    up = [line.split()[0] for line in project.log()]
    project.forget()
    if restarted:
        assert project.fixctl("restart").returncode == 0
    project.run("--cleanup")
    assert project.log() == [f"{name} down" for name in reversed(up)], (up, project.log())


@pytest.mark.parametrize("dist", DISTS)
def test_dist(project, dist):
    if dist == "worksteal" and "worksteal" not in project.run("--help").output:
        pytest.skip("this pytest-xdist has no worksteal")
    project.conftest(SERVER)
    for name in "abcd":
        project.write(f"test_{name}.py", many())
    done = project.run("-n", "3", "--dist", dist)
    assert done.code == 0, done.output
    once(project)


@pytest.mark.parametrize("workers", ["0", "2", "4"])
@pytest.mark.parametrize("option", ["-x", "--maxfail=2"])
def test_early_stop(project, workers, option):
    project.conftest(SERVER)
    project.write("test_it.py", many(body="assert n < 3"))
    assert project.run("-n", workers, option).code in (1, 2)
    once(project)


def test_failing_tests(project):
    project.conftest(SERVER)
    project.write("test_it.py", many(body="assert n % 2"))
    project.run("-n", "2")
    once(project)


@pytest.mark.parametrize("workers", ["0", "3"])
def test_getfixturevalue(project, workers):
    project.conftest(SERVER)
    project.write("test_it.py", many("request", "assert request.getfixturevalue('server') == 8080"))
    project.run("-n", workers).passed(12)
    once(project)


def test_worker_that_has_not_built_is_killed(project):
    project.conftest(SERVER + """
    @pytest.fixture(scope="session")
    def slow(server, worker_id):
        return worker_id
    """)
    project.write("test_it.py", """
        import os, signal, pytest, time
        @pytest.mark.parametrize("n", range(12))
        def test(server, n, worker_id):
            time.sleep(0.05)
            if n == 11:
                os.kill(os.getpid(), signal.SIGKILL)
        """)
    project.run("-n", "3")
    once(project)


def test_builder_is_killed(project):
    """Its note lets another process do what it would have done."""
    project.conftest("""
        @fixd.fixture(scope="session", reuse=False)
        def server():
            log("up")
            with open("pid", "w") as f:
                f.write(str(os.getpid()))
            port = 8080
            yield port
            try:
                assert port == 8080
            finally:
                log("down")
        """)
    project.write("test_it.py", """
        import os, signal, pytest, time
        @pytest.mark.parametrize("n", range(20))
        def test(server, n):
            time.sleep(0.02)
            if n == 15:
                os.kill(int(open("pid").read()), signal.SIGKILL)
            time.sleep(0.02)
        """)
    project.run("-n", "3")
    once(project)


def test_all_workers_are_killed(project):
    project.conftest(SERVER)
    project.write("test_it.py", """
        import os, signal
        def test(server): os.kill(os.getpid(), signal.SIGKILL)
        """)
    project.run("-n", "1", "--max-worker-restart=0")
    once(project)


def test_whole_run_is_killed(project):
    """The next run finds what is left, and ends it."""
    project.conftest(SERVER)
    project.write("test_it.py", "import time\ndef test(server):\n    open('started', 'w').close()\n    time.sleep(100)\n")
    process = project.start()
    # Before that it may be up, but what is to be done about it is not told.
    wait_for(lambda: os.path.exists(project.file("started")), "the test")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    project.write("test_it.py", "def test(): pass\n")
    project.run().passed(1)
    once(project)


def test_what_only_the_builder_could_end(project):
    project.conftest("""
        import contextlib
        @contextlib.contextmanager
        def running():
            log("up")
            yield 8080
            log("down")
        @fixd.fixture(scope="session", reuse=False)
        def server():
            with running() as port:
                yield port
        """)
    project.write("test_it.py", many())
    project.run("-n", "3").passed(12)
    once(project)
    project.forget()
    project.write("test_it.py", "import os, signal\ndef test(server): os.kill(os.getpid(), signal.SIGKILL)\n")
    killed = project.run("-n", "1", "--max-worker-restart=0")
    assert project.log() == ["up"]
    assert "the clean-up of fixture 'conftest.py::server' could not be run: its builder was killed" in killed.output
    assert "it yields inside a 'with' block" in killed.output


@pytest.mark.parametrize("workers", ["0", "3"])
def test_interrupted(project, workers):
    project.conftest(SERVER)
    project.write("test_it.py", """
        import os, pytest, time
        @pytest.mark.parametrize("n", range(6))
        def test(server, n):
            open(f"started-{n}", "w").close()
            time.sleep(0.1 if n else 30)
        """)
    process = project.start("-n", workers)
    wait_for(lambda: os.path.exists(project.file("started-0")), "the first test")
    os.killpg(process.pid, signal.SIGINT)
    output = process.communicate(timeout=100)[0]
    wait_for(lambda: len(project.log()) >= 2, f"the clean-up after {output}")
    once(project)


@pytest.mark.parametrize("twice", ["", "; _teardown.follow(note)"])
def test_somebody_else_was_told_to(project, twice):
    """What a signal has cut off, an answer or a question, can leave two who believe that they are the last."""
    project.conftest(SERVER)
    project.write("test_it.py", f"""
        import os, pickle
        from fixd import _ledger, _teardown
        def test(server):
            (path,) = _ledger._copies(os.environ["FIXD_SOCKET"], os.getcwd())
            with open(path, "rb") as f:
                note = pickle.load(f)[1]
            _teardown.follow(note){twice}
        """)
    project.run().passed(1)
    once(project)


@pytest.mark.parametrize("reuse", [False, True])
def test_interrupted_when_it_is_just_built(project, reuse):
    """Others may have it already, and no test of this process."""
    project.conftest(f"""
        def parse(data):
            if os.path.exists("interrupt"): raise KeyboardInterrupt
            return data
        @fixd.fixture(scope="session", reuse={reuse}, parse=parse)
        def server():
            log("up")
            yield 8080
            log("down")
        """)
    project.write("test_it.py", "def test(server): assert server == 8080\n")
    project.write("interrupt", "")
    assert project.run().code == 2
    assert project.log() == (["up"] if reuse else ["up", "down"])
    os.unlink(project.file("interrupt"))
    project.run().passed(1)
    assert project.log() == (["up"] if reuse else ["up", "down", "up", "down"])


def test_interrupted_while_others_wait(project):
    """Who waits for a build hears of it, too, and hands it to nobody who does not."""
    project.conftest(SERVER + """
    @pytest.fixture(scope="session")
    def native(server):
        log("native up")
        yield
        log("native down")
    @fixd.fixture(scope="session")
    def slow():
        log("building")
        import time
        time.sleep(100)
    """)
    project.write("test_it.py", many("server, native, slow", "pass"))
    process = project.start("-n", "3")
    wait_for(lambda: project.count("native up") == 3 and project.count("building") and json.loads(project.fixctl("status", "--json").stdout)["daemon"]["waiting"] == 2,
             "two workers that wait for the third")
    os.killpg(process.pid, signal.SIGINT)
    output = process.communicate(timeout=100)[0]
    assert process.returncode == 2 and "KeyboardInterrupt" in output and "Error" not in output, output
    assert sorted(project.log()) == sorted(["up", "down", "building"] + ["native up", "native down"] * 3), output
    wait_for(lambda: not lives(process.pid), "the end of all processes of the run")
    status = json.loads(project.fixctl("status", "--json").stdout)
    assert [i["leases"] for s in status["sessions"] for i in s["instances"]] == [0]


def lives(group):
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def test_narrower_scopes(project):
    project.conftest("""
        @fixd.fixture(scope="module", reuse=False)
        def server(request):
            log("up")
            yield request.node.nodeid
            log("down")
        """)
    for name in "abc":
        project.write(f"test_{name}.py", many(body="assert server == request.node.nodeid.split('::')[0]", fixtures="server, request"))
    for n, workers in enumerate(["0", "3"], 1):
        project.run("-n", workers).passed(36)
        once(project, 3 * n)


@pytest.mark.parametrize("workers", ["0", "3"])
def test_function_scope(project, workers):
    project.conftest("""
        @fixd.fixture(reuse=False)
        def server():
            log("up")
            yield [8080]
            log("down")
        """)
    project.write("test_it.py", many(body="assert server == [8080]; server.append(1)"))
    project.run("-n", workers).passed(12)
    once(project)


def test_order(project):
    """Dependents end first."""
    project.conftest("""
        @fixd.fixture(scope="session", reuse=False)
        def a():
            yield 1
            log("a")
        @fixd.fixture(scope="session", reuse=False)
        def b(a):
            yield 2
            log("b")
        @fixd.fixture(scope="session", reuse=False)
        def c(b):
            yield 3
            log("c")
        """)
    project.write("test_it.py", many("c", "assert c == 3"))
    for workers in ("0", "3"):
        project.forget()
        project.run("-n", workers).passed(12)
        assert project.log() == ["c", "b", "a"]


REUSED = """
    VERSION = {version}
    @fixd.fixture(scope="session")
    def server():
        log(f"up {{VERSION}}")
        name = f"server {{VERSION}}"
        yield name
        log(f"down {{name}}")
    """


def test_reused_ends_when_it_is_retired(project):
    project.conftest(REUSED.format(version=1))
    project.write("test_it.py", many(body="assert server.startswith('server')"))
    for workers in ("0", "2"):
        project.run("-n", workers).passed(12)
    assert project.log() == ["up 1"]
    project.conftest(REUSED.format(version=2))
    project.run("-n", "2").passed(12)
    assert project.log() == ["up 1", "down server 1", "up 2"], "before it is built anew"
    assert project.run("--cleanup").code == 0
    assert project.log() == ["up 1", "down server 1", "up 2", "down server 2"]


def test_reused_ends_when_the_daemon_is_stopped(project):
    project.conftest(REUSED.format(version=1))
    project.write("test_it.py", many(body="assert server == 'server 1'"))
    project.run().passed(12)
    assert project.run("--daemon-stop").code == 0
    assert project.log() == ["up 1", "down server 1"]


def test_reused_of_another_project_ends_with_the_daemon(project):
    """One daemon serves them all, and whoever stops it ends what the others have left."""
    for name in ("one", "two"):
        project.write(f"{name}/pytest.ini", "[pytest]\n")
        project.conftest(f"""
            @fixd.fixture(scope="session")
            def server():
                yield "{name}"
                log("down {name}")
            """, f"{name}/conftest.py")
        project.write(f"{name}/test_it.py", f"def test(server): assert server == '{name}'\n")
        project.run(cwd=project.file(name)).passed(1)
    assert project.run("--daemon-stop", cwd=project.file("one")).code == 0
    assert sorted(project.log()) == ["down one", "down two"]


def daemon_lives(project):
    """It holds a lock; a question would keep it from being idle."""
    try:
        with open(project.socket + ".lock", "rb") as f:
            fcntl.flock(f, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        pass  # it has removed it
    return False


def end_daemon(project, how):
    if how == "stop":
        project.fixctl("stop")
    elif how == "kill":
        os.kill(json.loads(project.fixctl("status", "--json").stdout)["daemon"]["pid"], signal.SIGKILL)
    wait_for(lambda: not daemon_lives(project), "the daemon's end")


@pytest.mark.parametrize("how, workers", [("stop", "0"), ("stop", "2"), ("kill", "0"), ("idle-exit", "0")])
def test_reused_ends_though_the_daemon_has(project, how, workers):
    """What was told to it only would never be known again."""
    if how == "idle-exit":
        project.write(".home/fixd/pytest.ini", "[fixd]\nidle-exit = 100ms\n")
        os.chmod(project.file(".home/fixd"), 0o700)
    project.conftest(REUSED.format(version=1))
    project.write("test_it.py", many(body="assert server == 'server 1'"))
    for n in (1, 2):
        project.run("-n", workers).passed(12)
        assert project.log() == ["up 1", "down server 1"] * (n - 1) + ["up 1"]
        end_daemon(project, how)
    project.write("test_it.py", "import fixd\n@fixd.fixture\ndef other(): return 1\ndef test(other): pass\n")
    for _ in (1, 2):
        project.run("-n", workers).passed(1)
        assert project.log() == ["up 1", "down server 1"] * 2


WAITS = """
    import os, time
    def test(server):
        open("started", "w").close()
        while not os.path.exists("go"): time.sleep(0.01)
    """


def notes_left(project):
    return os.listdir(project.file(".home/fixd/notes"))


def test_whole_run_and_its_daemon_are_killed(project):
    """Nobody who was told is left."""
    project.conftest(SERVER)
    project.write("test_it.py", WAITS)
    process = project.start("-n", "1")
    wait_for(lambda: os.path.exists(project.file("started")), "the test")
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    end_daemon(project, "kill")
    project.write("test_it.py", "def test(): pass\n")
    project.run().passed(1)
    once(project)
    assert not notes_left(project)


def test_another_run_ends_nothing_that_is_used(project):
    """Though the daemon has died."""
    project.conftest(SERVER)
    project.write("test_it.py", WAITS)
    project.write("test_other.py", "def test(): pass\n")
    process = project.start("-n", "1", "test_it.py")
    wait_for(lambda: os.path.exists(project.file("started")), "the test")
    end_daemon(project, "kill")
    project.run("test_other.py").passed(1)
    assert project.log() == ["up"]
    project.write("go", "")
    output = process.communicate(timeout=100)[0]
    assert process.returncode == 0, output
    once(project)
    assert not notes_left(project)


@pytest.mark.parametrize("option", ["--cleanup", "--daemon-stop"])
def test_clean_up_when_the_daemon_has_ended(project, option):
    project.conftest(REUSED.format(version=1))
    project.write("test_it.py", many(body="assert server == 'server 1'"))
    project.run().passed(12)
    end_daemon(project, "stop")
    assert project.run(option).code == 0
    assert project.log() == ["up 1", "down server 1"]
    assert project.run(option).code == 3, "there is no daemon, and nothing is left"
    project.run().passed(12)
    assert project.log() == ["up 1", "down server 1", "up 1"]


def test_teardown_function(project):
    project.conftest("""
        def stop(data): log(f"down {data}")
        @fixd.fixture(scope="session", reuse=False, teardown=stop)
        def server():
            log("up")
            return 8080
        """)
    project.write("test_it.py", many())
    for workers in ("0", "3"):
        project.forget()
        project.run("-n", workers).passed(12)
        assert project.log() == ["up", "down 8080"]
    refused = project.write("test_bad.py", "import fixd\n@fixd.fixture(teardown=len)\ndef f(): yield 1\n")
    assert "its second half is its teardown" in project.run(refused).output


def test_reused_that_cannot_be_ended_later(project):
    project.conftest("""
        import threading
        @fixd.fixture(scope="session")
        def server():
            lock = threading.Lock()
            yield 8080
            lock.acquire()
        """)
    project.write("test_it.py", many())
    done = project.run()
    assert done.code == 0 and "fixture 'server' (conftest.py:9) is built in every process: its second half cannot be run in a later run: it needs 'lock'" in done.output
    assert "reuse=False shares it within the run" in done.output


def test_reused_with_a_block_lives_as_long_as_the_run(project):
    project.conftest("""
        import tempfile
        @fixd.fixture(scope="session")
        def directory():
            log("up")
            with tempfile.TemporaryDirectory() as name:
                yield name
            log("down")
        """)
    project.write("test_it.py", many("directory", "assert os.path.isdir(directory)"))
    for n in (1, 2):
        done = project.run("-n", "2").passed(12)
        once(project, n)
    assert "is not reused by later runs: it yields inside a 'with' block" in done.output


def test_failing_clean_up_is_told(project):
    project.conftest("""
        @fixd.fixture(scope="session", reuse=False)
        def server():
            yield 1
            raise OSError("it does not stop")
        """)
    project.write("test_it.py", "def test(server): pass\n")
    done = project.run()
    assert done.outcomes() == {"passed": 1, "error": 1} and "it does not stop" in done.output


def test_nothing_is_left_of_the_daemon_s(project):
    project.conftest(SERVER)
    project.write("test_it.py", many())
    project.run("-n", "4").passed(12)
    status = json.loads(project.fixctl("status", "--json").stdout)
    assert [s["instances"] for s in status["sessions"]] == [[], []]
    assert status["daemon"]["memory_bytes"] == 0


def test_tokens_without_a_daemon(project):
    project.conftest("""
        from fixd.shared_session_scope import shared_session_scope_json, SetupToken
        @shared_session_scope_json()
        def data():
            d = yield
            if d is SetupToken.FIRST:
                log("first")
                d = [1]
            token = yield d
            log(f"cleanup {token}")
        """)
    project.write("test_it.py", "def test_1(data): assert data == [1]\ndef test_2(data): assert data == [1]\n")
    project.run(env={"FIXD_DISABLE": "1"}).passed(2)
    assert project.log() == ["first", "cleanup CleanupToken.LAST"]


def test_each_waits_for_the_other(project):
    """Two workers have built one fixture each, and had the other's, too: nobody waits while somebody waits for it."""
    project.conftest("""
        @fixd.fixture(scope="session", reuse=False)
        def one():
            log("up one")
            yield 1
            log("down one")
        @fixd.fixture(scope="session", reuse=False)
        def two():
            log("up two")
            yield 2
            log("down two")
        @fixd.fixture(scope="session", reuse=False)
        def made(two):
            log("up made")
            yield 3
            log("down made")
        """)
    project.write("test_it.py", "import time\n" + "".join(f"def test_{name}_{i}({name}): time.sleep(0.02)\n" for i in range(6) for name in ("one", "two", "made")))
    for workers in ("2", "3"):
        project.forget()
        project.run("-n", workers).passed(18)
        log = project.log()
        assert sorted(log) == ["down made", "down one", "down two", "up made", "up one", "up two"] and log.index("down made") < log.index("down two"), log


def test_second_halves_that_cannot_be_moved(project):
    """They have all of their variables, bytes and arrays, too, when they run where they were built."""
    project.conftest("""
        import contextlib
        count = 0
        @fixd.fixture(scope="session", reuse=False)
        def sets():
            global count
            token = b"secret"
            yield 1
            count = len(token)
            log(f"sets {count}")
        @fixd.fixture(scope="session", reuse=False)
        def inside():
            token = b"secret"
            with contextlib.nullcontext():
                yield 1
                log(f"inside {len(token)}")
        """)
    project.write("test_it.py", "def test(sets, inside): pass\n")
    project.run().passed(1)
    assert sorted(project.log()) == ["inside 6", "sets 6"]


def test_a_second_half_that_needs_much(project):
    """More than is kept of what the builder leaves to others: each process builds it, or the builder ends it."""
    project.conftest("""
        import numpy
        @fixd.fixture(scope="session")
        def table():
            t = numpy.ones(200_000)
            yield t
            log(f"table {t.sum():.0f}")
        @fixd.fixture(scope="session", teardown=lambda data: log("corpus"))
        def corpus(): return b"x" * 2_000_000
        def end(data): log(f"run {len(data)}")
        @fixd.fixture(scope="session", teardown=end, reuse=False)
        def of_run(): return b"x" * 2_000_000
        """)
    project.write("test_it.py", "def test(table, of_run): assert table[0] == 1 and len(of_run) == 2_000_000\n")
    for _ in range(2):
        output = project.run().passed(1).output
        assert ("fixture 'table' (conftest.py:9) is built in every process: its second half cannot be run in a later run: what it needs takes 1.5 MiB, "
                "of which 1 MiB can be kept; reuse=False shares it within the run") in output, output
        assert sorted(project.log()) == ["run 2000000", "table 200000"], project.log()
        project.forget()


def test_a_second_half_that_needs_what_the_first_has_changed(project):
    """In its module, or by its names: another process has not got that."""
    project.conftest("""
        STARTED = {}
        @fixd.fixture(scope="session")
        def server():
            STARTED["server"] = "the process"
            yield 1
            log(STARTED.pop("server"))
        @fixd.fixture(scope="session", reuse=False)
        def of_run():
            STARTED["run"] = "of the run"
            yield 1
            log(STARTED.pop("run"))
        @fixd.fixture(scope="session")
        def by_names():
            secret = "secret"
            yield 1
            log(locals()["secret"])
        """)
    project.write("test_it.py", "def test(server, of_run, by_names): pass\n")
    for _ in range(2):
        output = project.run().passed(1).output
        assert "fixture 'server' (conftest.py:9) is built in every process: its second half needs 'STARTED', which it has changed here only" in output, output
        assert "by_names' is not reused by later runs: it uses locals(), which sees the names around it" in output, output
        assert sorted(project.log()) == ["of the run", "secret", "the process"], project.log()
        project.forget()
