# SPDX-License-Identifier: MIT
"""Code that is reached in other ways than by names of the module: where it is another one, what was made by it is built again."""

import os

import pytest

CODE = {
    "of_value.py": "class Made:\n    def go(self): return 1\n",
    "of_parse.py": "def parse(data): return data * 1\n",
    "module.py": "def compute(): return 1\n",
    "constants.py": "class Small: n = 1\nclass Holder: inner = Small\n",
    "colors.py": "import enum\nclass Color(enum.Enum):\n    RED = 1\n",
    "in_slots.py": "class Own:\n    def go(self): return 1\n",
    "mapped.py": "def one(x): return x * 1\n",
    "closed.py": "class Config:\n    def go(self): return 1\ndef plain(): return 1\n",
    "model.py": "class Model:\n    def go(self): return 1\n",
    "listed/first.py": "X = 1\n", "listed/second.py": "X = 1\n", "listed/third.py": "X = 1\n",
    "starred/part.py": "X = 1\n",
    "lazy/_own.py": "def compute(): return 1\n",
    "looped/part.py": "X = 1\n",
    "attribute/part.py": "X = 1\n",
    "plugs/named.py": "X = 1\n", "plugs/formatted.py": "X = 1\n",
    "crlf/part.py": "X = 1\n",
    "größe.py": "X = 1\n",
}
AROUND = {
    "listed/__init__.py": "",
    "lists.py": "from listed import (\n    first,  # the first (of some)\n    second,  # noqa: F401\n    third\n)\ndef all(): return first.X + second.X * 10 + third.X * 100\n",
    "starred/__init__.py": '__all__ = ["part"]\n', "stars.py": "from starred import *\ndef x(): return part.X\n",
    "lazy/__init__.py": "import importlib\ndef __getattr__(name):\n    if name == 'compute': return importlib.import_module('._own', __name__).compute\n"
                        "    raise AttributeError(name)\n",
    "looped/__init__.py": "import importlib, pkgutil\nfor m in pkgutil.iter_modules(__path__): importlib.import_module(f'{__name__}.{m.name}')\n",
    "attribute/__init__.py": "",
    "plugs/__init__.py": "",
    "loads.py": "import importlib\ndef by_sum(name): return importlib.import_module('plugs.' + name).X\ndef by_format(name): return importlib.import_module(f'plugs.{name}').X\n",
    "crlf/__init__.py": "", "lines.py": "from crlf \\\r\n    import part\r\ndef x(): return part.X\r\n",
    "umlaut.py": "from größe import X\ndef x(): return X\n",
    "holder.py": "class Slots:\n    __slots__ = ('own',)\n    def __init__(self, own): self.own = own\n",
    "makes.py": """
        import fixd
        def make(what):
            @fixd.fixture(scope="session")
            def made(): return what() if callable(what) and not isinstance(what, type) else what.go() if hasattr(what, "go") else [f() for f in what]
            return made
        """,
    "bases.py": """
        import fixd
        class Base:
            model = None
            @fixd.fixture(scope="class")
            def of_self(self): return self.model().go()
        """,
    "plain.py": """
        import functools, pytest, colors, constants, holder, in_slots, mapped, module
        @pytest.fixture(scope="session")
        def backend(): return module
        @pytest.fixture(scope="session")
        def small(): return constants.Small()
        @pytest.fixture(scope="session")
        def outer(): return constants.Holder
        @pytest.fixture(scope="session")
        def color(): return colors.Color
        @pytest.fixture(scope="session")
        def slots(): return holder.Slots(in_slots.Own())
        @pytest.fixture(scope="session")
        def mapper(): return functools.partial(map, mapped.one)
        """,
    "conftest.py": """
        import fixd, pytest
        import attribute, lazy, lines, lists, loads, looped, stars, umlaut
        from of_value import Made
        from of_parse import parse
        import closed, makes
        pytest_plugins = ["plain"]
        @fixd.fixture(scope="session")
        def value(): return {"made": Made()}
        @fixd.fixture(scope="session")
        def of_value(value): return value["made"].go()
        @fixd.fixture(scope="session", parse=parse)
        def parsed(): return 5
        @fixd.fixture(scope="session")
        def of_parsed(parsed): return parsed
        @fixd.fixture(scope="session", parse=lambda data: data * 1)
        def by_lambda(): return 5
        @fixd.fixture(scope="session")
        def of_lambda(by_lambda): return by_lambda
        @fixd.fixture(scope="session")
        def of_plain(backend, small, outer, color, slots, mapper):
            return [backend.compute(), small.n, outer.inner.n, [c.value for c in color], slots.own.go(), list(mapper([1]))]
        @fixd.fixture(scope="session")
        def of_param(request): return request.param.compute()
        of_object, of_function, of_list = makes.make(closed.Config()), makes.make(closed.plain), makes.make([closed.plain])
        @fixd.fixture(scope="session")
        def of_imports():
            return [lists.all(), stars.x(), lazy.compute(), looped.part.X, attribute.part.X, loads.by_sum("named"), loads.by_format("formatted"), lines.x(), umlaut.x()]
        """,
    "test_it.py": """
        import pytest
        import attribute.part, plugs.named, plugs.formatted  # noqa: F401
        import module
        from bases import Base
        from model import Model
        N = int(open("n").read())
        def test_value(value, of_value): assert of_value == value["made"].go() == N
        def test_parsed(of_parsed, of_lambda): assert of_parsed == of_lambda == 5 * N
        def test_plain(of_plain): assert of_plain == [N, N, N, [N], N, [N]]
        @pytest.mark.parametrize("of_param", [module], indirect=True)
        def test_param(of_param): assert of_param == N
        def test_closed(of_object, of_function, of_list): assert [of_object, of_function, of_list] == [N, N, [N]]
        class TestSelf(Base):
            model = Model
            def test_self(self, of_self): assert of_self == N
        def test_imports(of_imports): assert of_imports == [111 * N, N, N, N, N, N, N, N, N]
        """,
}


def test_code_that_is_another_one(project):
    for name, text in {**CODE, **AROUND}.items():
        project.write(name, text)
    project.write("n", "1")
    project.run("-x").passed(7)
    project.write("n", "2")
    for name, text in CODE.items():
        project.write(name, text.replace("1", "2"))
    conftest = open(project.file("conftest.py")).read()
    project.write("conftest.py", conftest.replace("data * 1)", "data * 2)"))
    project.run().passed(7)
    assert "attached" not in project.run("-n2").passed(7).output


def test_modules_that_are_called_otherwise(project):
    """A value is found by the name of the module of its class."""
    project.write("x/test_b.py", "import fixd\nclass Local: pass\n@fixd.fixture(scope='module')\ndef local(): return Local()\n"
                                 "def test(local): assert type(local) is Local\n")
    project.run().passed(1)
    project.write("x/__init__.py", "")
    project.run().passed(1)
    os.remove(project.file("x/__init__.py"))
    project.run().passed(1)
    project.run("--import-mode=importlib").passed(1)


def test_what_is_set_on_the_object_of_a_test(project):
    """Each test has one of its own."""
    project.write("test_it.py", """
        import fixd
        class TestIt:
            @fixd.fixture(autouse=True)
            def inject(self):
                self.words = [1]
                return 5
            def test_a(self): assert self.words == [1]
            def test_b(self, inject): assert self.words == [1] and inject == 5
        """)
    for _ in range(2):
        done = project.run().passed(2)
        assert "it has set 'self.words', which other processes have not" in done.output


@pytest.mark.parametrize("how", ["os.environb[b'MODE']", "os.getenvb(b'MODE')", "collections.ChainMap({}, os.environ)['MODE'].encode()",
                                 "string.Template('$MODE').substitute(os.environ).encode()"])
def test_the_environment_by_others(project, how):
    project.conftest(f"import collections, string\n@fixd.fixture(scope='session')\ndef mode(): return {how}\n")
    project.write("test_it.py", "import os\ndef test(mode): assert mode == os.environb[b'MODE']\n")
    project.run(env={"MODE": "a"}).passed(1)
    project.run(env={"MODE": "b"}).passed(1)


def test_a_shared_argument_that_is_changed(project):
    """Others have it as it was."""
    project.conftest("""
        @fixd.fixture(scope="session")
        def base(): return {"n": []}
        @fixd.fixture(scope="session")
        def more(base):
            base["n"].append(1)
            return len(base["n"])
        @fixd.fixture(scope="session")
        def only_read(base): return len(base)
        """)
    project.write("test_it.py", "def test(more, base, only_read): assert base == {'n': [1]} and more == 1 and only_read == 1\n")
    for _ in range(2):
        done = project.run().passed(1)
        assert done.output.count("it has changed its argument 'base'") == 1 and "'only_read'" not in done.output, done.output


@pytest.mark.parametrize("ahead", [0, 10 ** 6])
def test_a_file_that_has_another_time(project, ahead):
    """Of the future; or the same as the one that it replaces, which is as large."""
    at = 10 ** 9 if not ahead else int(os.stat(project.path).st_mtime) + ahead
    project.write("data", "1")
    os.utime(project.file("data"), (at, at))
    project.conftest("@fixd.fixture(scope='session')\ndef data(): return open('data').read()\n")
    project.write("test_it.py", "def test(data): assert data == open('data').read()\n")
    project.run().passed(1)
    project.write("new", "2")
    os.utime(project.file("new"), (at, at))
    os.rename(project.file("new"), project.file("data"))
    project.run().passed(1)


@pytest.mark.parametrize("how", ["exec(open(path).read(), found)", "found = runpy.run_path(path)",
                                 "spec = importlib.util.spec_from_file_location('own', path); own = importlib.util.module_from_spec(spec); "
                                 "spec.loader.exec_module(own); found = vars(own)"])
def test_files_that_are_executed(project, how):
    """When the module is imported, and not by an import."""
    project.write("settings.py", "X = 1\n")
    project.conftest(f"import importlib.util, runpy\npath, found = os.path.join(os.path.dirname(__file__), 'settings.py'), {{}}\n{how}\n"
                     "@fixd.fixture(scope='session')\ndef data(): return found['X']\n")
    project.write("test_it.py", "import settings\ndef test(data): assert data == settings.X\n")
    project.run().passed(1)
    project.write("settings.py", "X = 22\n")
    project.run().passed(1)


def test_files_from_where_it_is_run(project):
    project.conftest("@fixd.fixture(scope='session')\ndef data(): return open('data').read()\n")
    project.write("pytest.ini", "[pytest]\n")
    project.write("test_it.py", "def test(data): assert data == open('data').read()\n")
    for name in "a", "b":
        project.write(f"{name}/data", name)
        project.run("../test_it.py", cwd=project.file(name)).passed(1)


def test_what_a_copy_would_lose(project):
    """In silence: what an exception says, and its cause; that a mark is the one that everybody knows."""
    project.write("marks.py", """
        MISSING = object()
        class NotFound(Exception):
            def __init__(self, code): super().__init__(f"code {code}")
        def chained():
            try:
                try: raise KeyError("x")
                except KeyError as e: raise ValueError("y") from e
            except ValueError as e: return e
        """)
    project.conftest("""
        import marks
        @fixd.fixture(scope="session")
        def error(): return marks.NotFound(3)
        @fixd.fixture(scope="session")
        def chain(): return {"error": marks.chained()}
        @fixd.fixture(scope="session")
        def mark(): return [marks.MISSING]
        @fixd.fixture(scope="session")
        def plain(): return ValueError("plain", 5)
        """)
    project.write("test_it.py", """
        import marks
        def test(error, chain, mark, plain):
            assert str(error) == "code 3" and isinstance(chain["error"].__cause__, KeyError) and mark[0] is marks.MISSING and plain.args == ("plain", 5)
        """)
    for _ in range(2):
        output = project.run().passed(1).output
        assert output.count("is built in every process") == 3 and "'plain'" not in output, output
