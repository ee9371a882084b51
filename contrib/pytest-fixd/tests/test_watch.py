# SPDX-License-Identifier: MIT
"""watch=: an edit of what it names is noticed, wherever that lies and however it is called."""

import os
import subprocess

import pytest
from conftest import BUILD

ROOTS = ["plain", "we[i]rd, *dir; #1 \u00fc "]


@pytest.mark.parametrize("root", ROOTS, ids=["plain", "odd"])
@pytest.mark.parametrize("watch,before,after", [
    ("data/a.csv", "data/a.csv", "data/a.csv"), ("data/*.csv", "data/b.csv", "data/new.csv"), ("data/a,b [1].csv", "data/a,b [1].csv", "data/a,b [1].csv"),
    ("data", "data/deep/er/x.csv", "data/new/new.csv"), ("data/**/*.csv", "data/deep/er/x.csv", "data/new/new.csv"), ("**/*.csv", "data/a.csv", "new/new.csv"),
    ("data/**", "data/deep/er/x.csv", "data/new/y.csv"), ("../*/data/../data/a.csv", "data/a.csv", "data/a.csv")], ids=str)
def test_an_edit_is_noticed(project, root, watch, before, after):
    for path in ("a.csv", "b.csv", "a,b [1].csv", "deep/er/x.csv"):
        project.write(f"{root}/data/{path}", "1")
    project.conftest(f"""
        @fixd.fixture(scope="session", watch=[{watch!r}])
        def value(): log("built")
        """, name=f"{root}/conftest.py")
    project.write(f"{root}/pytest.ini", "[pytest]\n")
    project.write(f"{root}/test_it.py", "def test(value): pass\n")
    project.write(f"{root}/unrelated.txt", "1")
    built = []
    for edited in (None, "unrelated.txt", before, after):
        if edited:
            project.write(f"{root}/{edited}", f"another one, of {len(built)}")
        assert "names nothing" not in project.run("test_it.py", cwd=project.file(root)).passed(1).output
        built.append(project.count("built"))
    assert built == [1, 1, 2, 3]


def test_what_names_nothing(project):
    """It is said where it is built: what the fixture itself has made is there."""
    project.conftest("""
        @fixd.fixture(scope="session", watch=["data/*.csv", "dta/*.csv", "made.txt", "nothing.txt"])
        def value():
            open(os.path.join(os.path.dirname(__file__), "made.txt"), "a")
            return 1
        """)
    project.write("data/a.csv", "1")
    project.write("test_it.py", "def test(value): pass\n")
    output = project.run().passed(1).output
    for words in ("dta/*.csv", "nothing.txt"):
        assert f"fixture 'value': watch='{words}' names nothing that is in {project.path}" in output, output
    assert output.count("names nothing") == 2, output


@pytest.fixture
def live(project):
    yield project
    subprocess.run([os.path.join(BUILD, "fixctl"), "--socket", os.path.join(project.home, "fixd", "python", "socket"), "stop"],
                   capture_output=True, env=project.env)


@pytest.mark.parametrize("root", ["plain", "odd, dir; #1 \u00fc"], ids=["plain", "odd"])
def test_live_fixtures(live, root):
    """Patterns, and the files that a template has imported from a directory with an odd name."""
    live.write(f"{root}/data/a.csv", "1")
    live.write(f"{root}/helper.py", "value = 1\n")
    live.conftest("""
        import helper
        @fixd.fixture(live=True, watch=["data/*.csv"])
        def value():
            log("built")
            return lambda: helper.value
        """, name=f"{root}/conftest.py")
    live.write(f"{root}/pytest.ini", "[pytest]\n")
    live.write(f"{root}/test_it.py", "import helper\ndef test(value): assert value() == helper.value\n")
    for n, (path, text) in enumerate([("data/a.csv", "22"), ("data/b.csv", "1"), ("helper.py", "value = 22\n")], 1):
        for _ in range(2):
            live.run(cwd=live.file(root)).passed(1)
            assert live.count("built") == n
        live.write(f"{root}/{path}", text)
    live.run(cwd=live.file(root)).passed(1)
    assert live.count("built") == 4


def test_files_that_are_not_watched(project):
    """What a build reads of the project's data is said, unless watch= names it, or it has written that itself."""
    project.write("table.csv", "1\n")
    for name in ("data/a.csv", "data/deep/b.csv", ".hidden/c.csv", "own_code.py"):
        project.write(name, "1\n")
    project.write("version/d.csv", "1\n")
    os.makedirs(project.file("links"))
    os.symlink("../version", project.file("links/newest"))
    project.conftest("""
        import json, pathlib
        here = pathlib.Path(__file__).parent
        @fixd.fixture(scope="session")
        def forgotten(): return [(here / name).read_text() for name in ("table.csv", "data/a.csv", ".hidden/c.csv", "own_code.py")]
        @fixd.fixture(scope="session", watch=["table.csv", "data/**/*.csv"])
        def watched():
            os.chdir(here)
            return [os.fsdecode(os.read(os.open(b"table.csv", os.O_RDONLY), 9)), (here / "data/a.csv").read_text(), (here / "data/deep/b.csv").read_text()]
        @fixd.fixture(scope="session", watch="data")
        def directory(): return (here / "data/deep/b.csv").read_text()
        @fixd.fixture(scope="session", watch=["links/*"])
        def link(): return (here / "links/newest/d.csv").read_text()
        @fixd.fixture(scope="session", watch=["links/**"])
        def behind_a_link(): return (here / "links/newest/d.csv").read_text()
        @fixd.fixture(scope="session")
        def written():
            (here / "made.txt").write_text("1")
            return (here / "made.txt").read_text()
        @fixd.fixture(scope="session", key=lambda request: (here / "table.csv").read_text())
        def keyed(): return (here / "table.csv").read_text()
        @fixd.fixture(scope="session", reuse=False)
        def of_run(): return (here / "table.csv").read_text()
        @fixd.fixture(scope="session")
        def other(): return 1
        """)
    project.write("test_it.py", """
        def test(other, forgotten, watched, directory, link, behind_a_link, written, keyed, of_run):
            assert open("table.csv").read() == keyed
        """)
    output = project.run().passed(1).output
    assert output.count("watch= does not name") == 2, output
    assert "fixture 'behind_a_link' reads links/newest/d.csv, which watch= does not name" in output, output
    assert "fixture 'forgotten' reads .hidden/c.csv, data/a.csv, own_code.py and 1 more, which watch= does not name: that it changes is seen by the next process only" in output, output


def test_what_a_build_asks_for(project):
    """An edit of a module that is imported by its name is noticed; nothing is said of a fixture that is asked for, which is as an argument."""
    project.write("helper.py", "def value(): return 1\n")
    project.conftest("""
        import importlib, sys
        @fixd.fixture(scope="session")
        def named(): log("named"); return importlib.import_module("helper").value()
        @fixd.fixture(scope="session")
        def skipping(): log("skipping"); return pytest.importorskip("helper").value()
        @fixd.fixture(scope="session")
        def there(named): log("there"); return sys.modules["helper"].value()
        @pytest.fixture(scope="session")
        def plain(): return 1
        @fixd.fixture(scope="session")
        def asking(request): log("asking"); return request.getfixturevalue("plain")
        """)
    project.write("test_it.py", "def test(named, skipping, there, asking): assert len({named, skipping, there}) == 1\n")
    for n in (1, 2):
        output = project.run().passed(1).output
        assert "warning" not in output, output
        assert [project.count(name) for name in ("named", "skipping", "there", "asking")] == [n, n, n, 1]
        project.write("helper.py", "def value(): return 2\n")
