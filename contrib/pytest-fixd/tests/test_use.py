# SPDX-License-Identifier: MIT
"""Fixtures of an ini file: fixd.use()."""

import glob
import json
import os
import shutil
import signal
import subprocess

import pytest
from conftest import BUILD, PACKAGE, wait_for

SERVE = """
    cat "$FIXD_DATA/word" > "$FIXD_DIR/word"; echo used > "$FIXD_DATA/word"
    echo "$FIXD_DIR"; exec sleep 1000
    """

INI = """
    [fixture words]
    doc = some words
    tree = cd "$FIXD_DIR"; mkdir deep; echo first > word; echo lowest > deep/word

    [fixture pg]
    service = exec sh ./serve
    data = words
    clones = 4

    [fixture one]
    service = echo "one at $FIXD_PORT"; exec sleep 1000

    [fixture size]
    command = echo "built $FIXD_PARAM" >> {log}; echo "$FIXD_PARAM"
    params = small, large

    [fixture input]
    file = input

    [fixture place]
    scope = module
    command = printf %s "$FIXD_SCOPE_KEY"

    [fixture broken]
    command = echo no such table >&2; exit 7
"""


@pytest.fixture
def ini(project):
    """A project with a file of fixtures, where they are not in the root directory."""
    project.write("pytest.ini", "[pytest]\nfixd_config = db/fixd.ini\n")
    project.write("db/serve", SERVE)
    project.write("db/input", "abc")
    project.write("db/fixd.ini", INI.format(log=project.file("log")))
    project.write("use.py", """
        import os
        def pristine(where):
            \"\"\"Nobody has had it before.\"\"\"
            with open(where + "/word") as f:
                assert f.read() == "first\\n"
            open(where + "/mine", "x").close()
            return where
        """)
    return project


def instance(project, name):
    sessions = json.loads(project.fixctl("status", "--json").stdout)["sessions"]
    return next(i for s in sessions for i in s["instances"] if i["name"] == name)


def nothing_held(project, name="pg"):
    wait_for(lambda: instance(project, name)["clones"]["held"] == 0, "all clones to be let go")


@pytest.mark.parametrize("workers", ["0", "4"])
def test_values_of_every_kind(ini, workers):
    ini.conftest("""
        words, one, input = fixd.use("words"), fixd.use("one"), fixd.use("input")
        small, size = fixd.use("size[small]"), fixd.use("size", params=["small", "large"])
        place, here = fixd.use("place", scope="module"), fixd.use("place", scope="function")
        """)
    ini.write("sub/test_it.py", """
        import pathlib, pytest
        def test_tree(words):
            assert isinstance(words, pathlib.Path) and (words / "deep" / "word").read_text() == "lowest\\n"
        def test_service(one): assert type(one) is str and one.startswith("one at ")
        def test_bytes(input, small):
            assert input == b"abc" and input.readonly and bytes(small) == b"small\\n"
        def test_params(size, request): assert size.tobytes().decode() == request.node.callspec.params["size"] + "\\n"
        class TestPlace:
            def test_place(self, place, here): assert place == here == b"sub/test_it.py"
        """)
    for _ in range(2):
        ini.run("-n", workers).passed(6)
    assert sorted(ini.log()) == ["built large", "built small"]


@pytest.mark.parametrize("options", [["-n", "0"], ["-n", "4"], ["-n", "2", "-p", "no:randomly"]])
def test_a_clone_for_each_test(ini, options):
    ini.conftest("from use import pristine\npg = fixd.use('pg', scope='function')\n")
    ini.write("test_it.py", """
        import pytest
        from use import pristine
        seen = set()
        @pytest.mark.parametrize("n", range(8))
        def test(pg, n):
            assert pristine(pg) not in seen
            seen.add(pg)
        """)
    for _ in range(2):
        ini.run(*options).passed(8)
        nothing_held(ini)
    assert instance(ini, "pg")["clones"]["given"] == 16


def test_a_clone_ends_though_its_test_has_failed(ini):
    """Whatever of its value a traceback keeps."""
    with open(ini.file("db/fixd.ini"), "a") as f:
        f.write("[fixture lone]\nservice = echo up; exec sleep 1000\nclones = 1\n[fixture schema]\ncommand = cat $FIXD_DEP_lone\ndepends = lone\n")
    ini.conftest("schema = fixd.use('schema', scope='function', timeout=20)\n")
    ini.write("test_it.py", """
        import pytest
        kept = []
        def test_fails(schema):
            part = schema[:1]
            assert part == b"x"
        def test_keeps(schema): kept.append(schema)
        def test_next(schema): assert schema.readonly and bytes(schema) == b"up" and kept[0] == schema
        """)
    done = ini.run("-n", "0")
    assert done.outcomes() == {"failed": 1, "passed": 2}, done.output


def test_a_clone_is_its_holders(ini):
    """Also when what it was made from is built again, for somebody else."""
    ini.conftest("""
        from use import pristine
        pg, fresh = fixd.use("pg"), fixd.use("pg", scope="function")
        @pytest.fixture(scope="session")
        def where(pg): return pristine(pg)
        """)
    ini.write("test_it.py", f"""
        import os, subprocess
        from fixd.plugin import runtime_of
        from use import pristine
        def test_before(where, request):
            socket = runtime_of(request.config).socket
            subprocess.run(["{BUILD}/fixctl", "--socket", socket, "cleanup", "words", "--force"], check=True)
        def test_other(where, fresh): assert pristine(fresh) != where
        def test_after(where, pg, request):
            assert pg == where and os.path.exists(pg + "/mine")
            assert all(held.lease.current for held in runtime_of(request.config).handles.values())
        """)
    done = ini.run("-n", "0").passed(3)
    assert "has died" not in done.output


@pytest.mark.parametrize("workers", ["0", "3"])
def test_a_clone_for_each_worker(ini, workers):
    ini.conftest("""
        pg = fixd.use("pg")
        @pytest.fixture(scope="session")
        def database(pg):
            from use import pristine
            log(f"took {pristine(pg)}")
            yield pg
            assert os.path.exists(pg + "/mine")
            log("closed")
        """)
    ini.write("test_it.py", "import pytest\n@pytest.mark.parametrize('n', range(9))\ndef test(database, pg, n): assert database is pg\n")
    ini.run("-n", workers).passed(9)
    nothing_held(ini)
    took = [line for line in ini.log() if line.startswith("took")]
    assert len(took) == len(set(took)) == ini.count("closed") <= max(1, int(workers))


def test_nothing_is_started_for_what_nobody_uses(ini):
    ini.conftest("pg = fixd.use('pg')\n")
    ini.write("test_it.py", "def test(): pass\ndef test_clone(pg): pass\n")
    ini.run("-k", "not clone").passed(1)
    assert ini.fixctl("status").returncode == 3


def test_marks_and_reports(ini):
    ini.conftest("words, pg, size = fixd.use('words'), fixd.use('pg', scope='function'), fixd.use('size[small]')\n")
    ini.write("test_it.py", "def test_a(words, pg, size): pass\ndef test_b(size): pass\n")
    first, second = (ini.run("--setup-show", "-n", "0").passed(2).output for _ in range(2))
    assert "SETUP    S words (built)" in first and "SETUP    F pg (clone)" in first, first
    assert "SETUP    S words (reused)" in second and "SETUP    S size (reused)" in second, second
    assert "The fixture 'pg' of the daemon's file" in ini.run("--fixtures").output
    events = [json.loads(line) for line in ini.fixctl("trace", "--once", "--json").stdout.splitlines()]
    asked = {e["name"].split("[")[0].split("/")[0]: e["test"] for e in events if e["event"] == "attach"}
    assert {asked[n] for n in ("words", "pg", "size")} == {"test_it.py::test_a"}, asked


def test_what_cannot_be_built(ini):
    ini.conftest("broken, none, wide, size = fixd.use('broken'), fixd.use('none'), fixd.use('place'), fixd.use('size[huge]')\n")
    ini.write("test_it.py", "\n".join(f"def test_{n}({n}): pass" for n in ("broken", "none", "wide", "size")) + "\ndef test(): pass\n")
    for workers in "0", "2":
        done = ini.run("-n", workers)
        assert done.outcomes() == {"passed": 1, "error": 4}, done.output
        for words in ("no such table", "there is no fixture 'none' in ", "fixture 'place' has scope = module in ", 'expected scope="module"',
                      "fixture 'size' has no param 'huge'"):
            assert words in done.output, done.output
    # Mended, it is built by the next run.
    ini.write("db/fixd.ini", INI.format(log=ini.file("log")).replace("echo no such table >&2; exit 7", "echo fine"))
    ini.run("-k", "broken").passed(1)


def test_a_file_with_mistakes(ini):
    ini.conftest("words = fixd.use('words')\n")
    ini.write("test_it.py", "def test_it(words): pass\n")
    good = INI.format(log=ini.file("log"))
    ini.write("db/fixd.ini", good + "    color = red\n")
    for _ in range(2):  # with no daemon, and with one that has read it when it was right
        done = ini.run()
        assert done.outcomes()["error"] == 1 and "fixd.ini:" in done.output and "color" in done.output, done.output
        ini.write("db/fixd.ini", good)
        ini.run().passed(1)
        ini.write("db/fixd.ini", good + "    color = red\n")


def test_without_a_daemon(ini):
    ini.conftest("words = fixd.use('words')\n@fixd.fixture\ndef data(): return 1\n")
    ini.write("test_it.py", "def test_it(words): pass\ndef test(data): pass\n")
    for env, why in (({"FIXD_DISABLE": "1"}, "FIXD_DISABLE is set"), ({"FIXD_BIN": "/nowhere"}, "the program fixd is not installed"),
                     ({"FIXD_LIBRARY": "libc.so.6", "FIXD_BIN": "/nowhere"}, "libc.so.6 is older than this plugin")):
        done = ini.run(env=env)
        assert done.outcomes()["error"] == 1 and done.outcomes()["passed"] == 1, done.output
        assert f"fixture 'words' is built by the daemon, and there is none: {why}" in done.output, done.output


def test_the_place_of_its_daemon(ini):
    """Beside the daemon of other projects, which has another file."""
    ini.conftest("words = fixd.use('words')\n")
    ini.write("test_it.py", "def test_it(words): assert words.is_dir()\n")
    ini.run("-n", "2", env={"FIXD_SOCKET": ""}).passed(1)
    [socket] = glob.glob(ini.file(".home/fixd/*/socket"))
    assert ini.fixctl("status").returncode == 3 and ini.fixctl("--socket", socket, "status").returncode == 0
    log = ini.fixctl("--socket", socket, "stop")
    assert log.returncode == 0, log.stderr


def test_bytes_that_a_test_may_write_to(ini):
    ini.conftest("input, mine = fixd.use('input', writable=True), fixd.use('input', writable=True, scope='function')\n")
    ini.write("test_it.py", """
        import pytest
        @pytest.mark.parametrize("n", range(2))
        def test(input, mine, n):
            assert input == b"abc" and mine == b"abc"
            input[1:2] = b"x"
        """)
    ini.run().passed(2)
    done = ini.run("--fixd-leaks", "-p", "no:randomly")
    assert "test_it.py::test[0] changed the shared fixture 'input': 1 byte(s) from byte 1" in done.passed(2).output
    assert ini.run("--fixd-strict").outcomes() == {"passed": 2, "error": 2}
    assert "changed the shared fixture 'input': 1 byte(s) from byte 1: 62 became 78\n" in ini.run("--fixd-blame").passed(2).output
    ini.write("test_it.py", "import fixd\ntree = fixd.use('words', writable=True)\ndef test(tree): pass\n")
    assert "fixture 'words' is a tree: writable=True is for bytes and objects" in ini.run().output


@pytest.mark.parametrize("workers", ["0", "3"])
def test_fixtures_made_of_it(ini, workers):
    ini.conftest("""
        words, one, pg = fixd.use("words"), fixd.use("one"), fixd.use("pg", scope="function")
        @fixd.fixture(scope="session")
        def index(words): log("index"); return (words / "word").read_text()
        @fixd.fixture(scope="session")
        def client(one): log("client"); return [one]
        @fixd.fixture
        def loaded(pg): log("loaded"); return [pg]
        """)
    ini.write("test_it.py", """
        import pytest
        @pytest.mark.parametrize("n", range(3))
        def test(index, client, loaded, one, pg, n): assert index in ("first\\n", "second\\n") and client == [one] and loaded == [pg]
        """)
    for _ in range(2):
        ini.run("-n", workers).passed(3)
    assert ini.count("index") == ini.count("client") == 1 and ini.count("loaded") == 6
    ini.write("db/fixd.ini", INI.format(log=ini.file("log")).replace("echo first", "echo second"))
    ini.run("-n", workers).passed(3)
    assert ini.count("index") == 2 and ini.count("client") == 1


@pytest.mark.parametrize("workers", ["0", "2"])
def test_interrupted(ini, workers):
    """Also where it waits for a clone that somebody else has."""
    ini.conftest("a, b, c, d, pg = [fixd.use('pg', scope='function') for _ in range(5)]\n")
    ini.write("test_it.py", """
        import os, pytest
        @pytest.fixture
        def marked(a, b, c, d):
            with open(os.environ["LOG"], "a") as f: f.write("waits\\n")
        def test_waits(marked, pg): pass
        """)
    process = ini.start("-n", workers)
    wait_for(lambda: ini.count("waits") == 1 or process.poll() is not None, "a test that waits")
    os.killpg(process.pid, signal.SIGINT)
    output = process.communicate(timeout=60)[0]
    assert process.returncode == 2, output
    nothing_held(ini)


def test_one_that_takes_too_long(ini):
    ini.conftest("a, b, c, d, pg = [fixd.use('pg', scope='function', timeout=0.5 if n == 4 else None) for n in range(5)]\n")
    ini.write("test_it.py", "def test(a, b, c, d, pg): pass\n")
    done = ini.run()
    assert done.outcomes()["error"] == 1 and "fixture 'pg' was not ready in time" in done.output, done.output
    nothing_held(ini)


def test_objects(ini):
    """They lie where their builder has put them."""
    if not shutil.which("cc"):
        pytest.skip("there is no C compiler")
    ini.write("db/pair.c", """
        #include <fixd-builder.h>
        int fixd_builder_main(struct fixd_builder *b)
        {
            int *values = fixd_builder_alloc(b, 2 * sizeof *values), **root = fixd_builder_alloc(b, sizeof *root);
            values[1] = 42;
            *root = values;
            fixd_builder_set_root(b, root);
            return 0;
        }
        """)
    include, library = os.path.join(os.path.dirname(os.path.dirname(PACKAGE)), "include"), os.path.join(BUILD, ".libs")
    subprocess.run(["cc", "-shared", "-fPIC", f"-I{include}", "-o", ini.file("db/pair.so"), ini.file("db/pair.c"), f"-L{library}",
                    f"-Wl,-rpath,{library}", "-lfixd-builder"], check=True)
    ini.write("db/fixd.ini", "[fixture pair]\nplugin = pair.so\n")
    ini.conftest("pair, mine = fixd.use('pair', writable=True), fixd.use('pair', writable=True, scope='function')\n")
    ini.write("test_it.py", """
        import ctypes, fixd, pytest
        def values_of(view): return ctypes.cast(view.root, ctypes.POINTER(ctypes.POINTER(ctypes.c_int))).contents
        @pytest.mark.parametrize("n", range(2))
        def test(pair, n):
            assert isinstance(pair, fixd.View) and pair.address <= pair.root < pair.address + pair.size
            assert values_of(pair)[1] == 42
            values_of(pair)[1] = 7
        def test_another(mine): assert values_of(mine)[1] == 42
        """)
    ini.run().passed(3)
    done = ini.run("--fixd-leaks")
    assert "changed the shared fixture 'pair': 1 byte(s) from byte " in done.passed(3).output, done.output


def test_explained(ini):
    ini.conftest("text, none = fixd.use('words'), fixd.use('none')\n")
    ini.write("test_it.py", "def test(text): pass\n")
    for name in "text", "words":
        said = ini.run(f"--fixd-explain={name}").output
        assert "words: " in said and "db/fixd.ini:2, scope session, a tree" in said and "    max-age = " in said, said
    assert "none: not in the file of the daemon" in ini.run("--fixd-explain=none").output
    ini.write("db/fixd.ini", "[fixture words]\ncolor = red\n")
    said = ini.run("--fixd-explain=words").output
    assert "color" in said and "a tree" not in said, said
