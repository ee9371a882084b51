# SPDX-License-Identifier: MIT
"""Habits of projects that a plugin which looks at variables, classes and surroundings must bear with."""

import pytest

PROXY = """
class Proxy:
    def __getattr__(self, name):
        raise RuntimeError("too early")
current = Proxy()
"""


def test_objects_that_are_made_on_demand(project):
    """Settings and sessions of web frameworks: they fail when they are asked for anything too early."""
    project.write("lazy.py", PROXY)
    project.write("shop.py", "from lazy import current\ndef connect(): return current.config\ndef names(): return ['bob'] if True else connect()\n")
    project.conftest("""
        import shop, lazy
        class Document:
            user = lazy.current
            def __init__(self): self.words = 3
            def __getstate__(self): return dict(self.__dict__)
            def __setstate__(self, state): self.__dict__.update(state)
        def pytest_configure(config): config.names = shop.names()
        @fixd.fixture(scope="session")
        def names():
            log("names")
            return shop.names()
        @fixd.fixture(scope="session")
        def document():
            log("document")
            return Document()
        """)
    project.write("test_it.py", "def test(names, document): assert names == ['bob'] and document.words == 3\n")
    for _ in range(2):
        assert "built in every process" not in project.run().passed(1).output
    assert sorted(project.log()) == ["document", "names"]


def test_a_module_that_only_its_path_names(project):
    project.write("helpers.py", "OPTIONS = {'n': 1}\n")
    project.conftest("""
        import importlib.util
        spec = importlib.util.spec_from_file_location("no_name", os.path.join(os.path.dirname(__file__), "helpers.py"))
        helpers = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(helpers)
        def pytest_configure(config): helpers.OPTIONS["n"] = 2
        @fixd.fixture(scope="session")
        def size(): return helpers.OPTIONS["n"]
        """)
    project.write("test_it.py", "def test(size): assert size == 2\n")
    project.run().passed(1)


def test_variables_of_one_conftest_of_several(project):
    """Each is called conftest, and only one of them stands in sys.modules."""
    project.write("sub/conftest.py", "import pytest\n@pytest.fixture\ndef other(): return 1\n")
    project.write("sub/test_sub.py", "def test(other): pass\n")
    project.conftest("""
        SIZE, WORD = os.environ.get("SIZE", "1"), None
        def pytest_addoption(parser): parser.addoption("--word", default="a")
        def pytest_configure(config):
            global WORD
            WORD = config.getoption("word")
        @fixd.fixture(scope="session")
        def both():
            log("both")
            return SIZE, WORD
        """)
    project.write("test_it.py", "import os\ndef test(both, request): assert both == (os.environ['SIZE'], request.config.getoption('word'))\n")
    for size, word, built in (("1", "a", 1), ("1", "a", 1), ("2", "a", 2), ("2", "b", 3)):
        project.run("--word", word, env={"SIZE": size}).passed(2)
        assert project.count("both") == built, (size, word)


def test_what_hooks_put_into_classes(project):
    project.write("settings.py", "class Settings:\n    words = {}\n    ways = []\n")
    project.conftest("""
        import settings
        def pytest_addoption(parser): parser.addoption("--word", default="a")
        def pytest_configure(config):
            settings.Settings.words["word"] = config.getoption("word")
            settings.Settings.ways = [config.getoption("word")]
        @fixd.fixture(scope="session")
        def word(): return settings.Settings.words["word"]
        @fixd.fixture(scope="session")
        def way(): return settings.Settings.ways[0]
        """)
    project.write("test_it.py", "def test(word, way, request): assert word == way == request.config.getoption('word')\n")
    for word in "a", "b":
        project.run("--word", word).passed(1)


@pytest.mark.parametrize("where", ["conftest.py", "test_it.py", None])
def test_a_project_that_shares_nothing_bears_nothing(project, where):
    """An audit hook is called for much more than files, and cannot be taken away again."""
    project.write("conftest.py", "import fixd\n" if where == "conftest.py" else "")
    fixture = "import fixd\n@fixd.fixture(scope='session')\ndef f(): return 1\n" if where == "test_it.py" else ""
    project.write("test_it.py", f"{fixture}import sys\ndef test(): assert sys.modules['fix' + 'd._reads']._is_listening is {where is not None}\n")
    project.run().passed(1)


SESSION = """
class Session:
    names = ["headers"]
    def __init__(self): self.headers = {}
    def __getstate__(self): return {name: getattr(self, name) for name in self.names}
    def __setstate__(self, state): self.__dict__.update(state)
class ApiSession(Session):
    def __init__(self, url):
        super().__init__()
        self.url = url
"""


def test_what_a_base_leaves_out_of_its_subclass(project):
    """It is lost, though the subclass knows it: such a value is not shared, and two that differ in it are two."""
    project.conftest(SESSION + """
@fixd.fixture(scope="session")
def session(): return ApiSession("http://a")
@pytest.fixture(scope="session", params=["http://a", "http://b"])
def client(request): return ApiSession(request.param)
@fixd.fixture(scope="session")
def listing(client): return client.url
""")
    project.write("test_it.py", "def test(session): assert session.url == 'http://a'\ndef test_listing(listing, client): assert listing == client.url\n")
    for _ in range(2):
        assert "'session' (conftest.py" in project.run().passed(3).output


def test_a_look_does_not_change_the_value(project):
    """To see what pickle leaves out a copy is made: not of the value's own parts, which would get another parent."""
    project.conftest("""
        class Leaf: pass
        class Tree:
            def __init__(self, *leaves):
                self.leaves = leaves
                for leaf in leaves: leaf.tree = self
            def __getstate__(self): return {"leaves": self.leaves}
            def __setstate__(self, state): self.__init__(*state["leaves"])
        @fixd.fixture(scope="session")
        def tree():
            tree = Tree(Leaf())
            tree.source = "a file"
            return tree
        """)
    project.write("test_it.py", "def test(tree): assert tree.leaves[0].tree is tree and tree.source == 'a file'\n")
    project.run().passed(1)


def test_a_directory_that_is_gone(project):
    """pytest itself does not mind."""
    project.conftest("@fixd.fixture(scope='session')\ndef small(): return [1]\n")
    project.write("test_it.py", "import os, tempfile\ndef test_goes():\n    with tempfile.TemporaryDirectory() as d: os.chdir(d)\n"
                                "def test(small): assert small == [1]\n")
    project.run().passed(2)


def test_what_an_asked_fixture_sets(project):
    """Each process sets it up."""
    project.conftest("""
        @pytest.fixture(scope="session")
        def surroundings(tmp_path_factory):
            patch = pytest.MonkeyPatch()
            patch.chdir(os.path.dirname(__file__) + "/sub")
            patch.syspath_prepend("x")
            yield 3
            patch.undo()
        @fixd.fixture(scope="session")
        def value(request):
            log("value")
            return request.getfixturevalue("surroundings")
        """)
    project.write("sub/keep", "")
    project.write("test_it.py", "import os\ndef test(value): assert value == 3 and os.path.basename(os.getcwd()) == 'sub'\n")
    for _ in range(2):
        assert "built in every process" not in project.run().passed(1).output
    assert project.count("value") == 1


def test_an_environment_that_a_late_import_sets(project):
    """A module that the build is the first to import is not imported by those who get the value."""
    project.write("bootstrap.py", "import os\nos.environ['MODE'] = 'test'\n")
    project.conftest("@fixd.fixture(scope='session')\ndef data():\n    import bootstrap\n    return [1]\n")
    project.write("test_it.py", "import os\ndef test(data): assert os.environ['MODE'] == 'test'\n")
    for _ in range(2):
        assert "it has set the variable MODE of the environment" in project.run().passed(1).output


@pytest.mark.parametrize("process", ["multiprocessing.Process", "Server", "multiprocessing.get_context('fork').Process", "manager"])
def test_a_process_that_ends_with_its_builder(project, process):
    project.conftest(f"""
        import multiprocessing, time
        class Server(multiprocessing.Process): pass
        @fixd.fixture(scope="session")
        def server():
            global manager
            if {process!r} == "manager":
                manager = multiprocessing.Manager()
                return manager._process.pid
            process = {process}(target=time.sleep, args=(60,), daemon=True)
            process.start()
            return process.pid
        """)
    project.write("test_it.py", "import os\ndef test(server): os.kill(server, 0)\n")
    for _ in range(2):
        output = project.run().passed(1).output
        assert "fixture 'server'" in output and "is built in every process: it has begun a process" in output


def test_processes_that_have_ended(project):
    """A process of multiprocessing that nobody has joined, and a pool of processes, are no matter of the value."""
    project.conftest("""
        import concurrent.futures, multiprocessing
        def start():
            process = multiprocessing.Process(target=int)
            process.start()
            os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        start()
        @fixd.fixture(scope="session")
        def value():
            log("value")
            start()
            global pool
            pool = concurrent.futures.ProcessPoolExecutor(1)
            global other
            other = multiprocessing.Pool(1)
            return pool.submit(int, other.apply(int, (3,))).result()
        """)
    project.write("test_it.py", "def test(value): assert value == 3\n")
    for _ in range(2):
        assert "built in every process" not in project.run().passed(1).output
    assert project.count("value") == 1


def test_files_that_builds_replace(project):
    """What a build itself writes is no input of it, however it is put into place."""
    project.write("cache.json", "1")
    project.conftest("""
        @fixd.fixture(scope="session")
        def value():
            log("value")
            path = os.path.join(os.path.dirname(__file__), "cache.json")
            text = open(path).read()
            with open(path + ".new", "w") as f: f.write(text + "1")
            os.replace(path + ".new", path)
            return text
        """)
    project.write("test_it.py", "def test(value): assert value == '1'\n")
    for _ in range(3):
        project.run().passed(1)
    assert project.count("value") == 1


def test_fields_of_odd_values(project):
    """A state that has the object's own below a name, as pydantic's, and what is not equal to itself, are whole."""
    project.conftest("""
        class Base:
            def __getstate__(self): return {"__dict__": dict(self.__dict__), "extra": None}
            def __setstate__(self, state): self.__dict__.update(state["__dict__"])
        class Model(Base):
            rate: float
            def __init__(self): self.rate, self.rows = float("nan"), [float("nan")]
        @fixd.fixture(scope="session")
        def model(): return Model()
        """)
    project.write("test_it.py", "def test(model): assert model.rate != model.rate\n")
    for _ in range(2):
        assert "built in every process" not in project.run().passed(1).output


def test_a_second_half_that_needs_a_plain_argument(project):
    """It is run before what its fixture was made of has ended, where no other process uses it."""
    project.conftest("""
        @pytest.fixture(scope="session")
        def server():
            running = [True]
            yield running
            running.clear()
        @fixd.fixture(scope="session", reuse=False, key=lambda request: "account")
        def account(server):
            yield "bob"
            assert server, "the server has ended"
        """)
    project.write("test_it.py", "def test(account): assert account == 'bob'\n")
    project.run().passed(1)


def test_files_that_are_edited_while_they_are_read(project):
    """What was read is what is remembered."""
    project.write("data.txt", "old")
    project.conftest("""
        @fixd.fixture(scope="session")
        def data():
            log("data")
            path = os.path.join(os.path.dirname(__file__), "data.txt")
            text = open(path).read()
            if os.environ.get("EDITS"):  # somebody does
                import subprocess
                subprocess.run(["sh", "-c", "printf 'of another time' >data.txt"], cwd=os.path.dirname(path), check=True)
            return text
        """)
    project.write("test_it.py", "def test(data): print(f'<{data}>')\n")
    assert "<old>" in project.run("-s", env={"EDITS": "1"}).passed(1).output
    for _ in range(2):
        assert "<of another time>" in project.run("-s").passed(1).output
    assert project.count("data") == 2


@pytest.mark.parametrize("name", [".env", ".data/x", "../outside"])
def test_files_in_odd_places(project, name):
    """Hidden ones, and beside the tests where the settings of pytest lie in these."""
    root = "tests" if name.startswith("..") else "."
    project.write("setup.cfg", "")
    project.write(f"{root}/pytest.ini", "[pytest]\n")
    project.write(f"{root}/{name}", "1")
    project.conftest(f"@fixd.fixture(scope='session')\ndef data(): return open(os.path.join(os.path.dirname(__file__), '{name}')).read()\n", f"{root}/conftest.py")
    project.write(f"{root}/test_it.py", f"import os\ndef test(data): assert data == open(os.path.join(os.path.dirname(__file__), '{name}')).read()\n")
    for text in "1", "22":
        project.write(f"{root}/{name}", text)
        project.run(cwd=project.file(root)).passed(1)


def test_a_module_that_builds_import_inside(project):
    """Only the first of them sees what it reads."""
    project.write("table.json", "[1, 2]")
    project.write("tables.py", "import json, os\nTABLE = json.load(open(os.path.join(os.path.dirname(__file__), 'table.json')))\n")
    project.conftest("@fixd.fixture(scope='session')\ndef total():\n    from tables import TABLE\n    return sum(TABLE)\n"
                     "@fixd.fixture(scope='session')\ndef largest():\n    from tables import TABLE\n    return max(TABLE)\n")
    project.write("test_it.py", "def test(total, largest):\n    from tables import TABLE\n    assert (total, largest) == (sum(TABLE), max(TABLE))\n")
    for text in "[1, 2]", "[1, 20]":
        project.write("table.json", text)
        project.run().passed(1)


def test_what_modules_read_that_only_a_conftest_imports(project):
    """Before any of them says a word of us."""
    project.write("cfg.json", "1")
    project.write("src/proj/__init__.py", "")
    project.write("src/proj/testing.py", """
        import json
        CFG = json.load(open("cfg.json"))
        import fixd
        @fixd.fixture(scope="session")
        def index(): return CFG
        """)
    project.write("tests/test_it.py", "import json\ndef test(index): assert index == json.load(open('cfg.json'))\n")
    project.write("pytest.ini", "[pytest]\npythonpath = src\n")
    project.write("tests/conftest.py", "from proj.testing import index\n")
    for text in "1", "2":
        project.write("cfg.json", text)
        project.run("tests").passed(1)


def test_a_class_that_another_fixture_sets(project):
    """It does so in each process, as any fixture that is asked for."""
    project.conftest("")
    project.write("test_it.py", """
        import fixd, pytest
        class TestIt:
            @pytest.fixture(scope="class")
            def db(self, request): request.cls.db = 1
            @fixd.fixture(scope="class")
            def value(self, request):
                request.getfixturevalue("db")
                return 1
            def test(self, value): assert self.db == value
        """)
    assert "built in every process" not in project.run().passed(1).output
