# SPDX-License-Identifier: MIT
"""What a fixture is made of besides its source: what its version does not know is found out, and nobody gets a wrong value for it."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys

import pytest

READS = {
    "by a helper": ("def ask(name): return os.environ.get(name)\n@fixd.fixture(scope='session')\ndef value(): return ask('STAGE')", ""),
    "in a variable": ("STAGE = os.environ.get('STAGE')\n@fixd.fixture(scope='session')\ndef value(): return STAGE", "the environment by a variable (conftest.STAGE)"),
    "in another module": ("import settings\n@fixd.fixture(scope='session')\ndef value(): return settings.stage()", "the environment by a variable (settings.STAGE)"),
    "in another module's": ("from settings import STAGE as stage\n@fixd.fixture(scope='session')\ndef value(): return stage", "the environment by a variable (settings.STAGE)"),
    "in words": ("@fixd.fixture(scope='session')\ndef value(): return os.path.expandvars('$STAGE')", ""),
    "by itself": ("@fixd.fixture(scope='session')\ndef value(): return os.getenv('STAGE')", "the environment (os.getenv)"),
}


@pytest.mark.parametrize("how", READS)
def test_environment(project, how):
    """It is told, and where it is another one the fixture is built again."""
    source, words = READS[how]
    project.write("settings.py", "import os\nif True:\n    STAGE = os.environ['STAGE']\ndef stage(): return STAGE\n")
    project.conftest(source.replace("def value():", "def value():\n    log('value')\n   "))
    project.write("test_it.py", "import os\ndef test(value): assert value == os.environ['STAGE']\n")
    for n, (stage, built) in enumerate([("one", 1), ("one", 1), ("two", 2), ("two", 2)]):
        result = project.run("-n", "2" if n == 3 else "0", env={"STAGE": stage}).passed(1)
        assert project.count("value") == built, result.output
        assert n or (words in result.output and ("key=lambda request" in result.output) == bool(words)), result.output
        assert n != 2 or "fixture 'value' is built again: " in result.output, result.output


def test_options(project):
    project.conftest("""
        def pytest_addoption(parser):
            parser.addoption("--stage")
            parser.addini("place", "")
        def helper(config): return [config.getvalue("stage"), config.getini("place")]
        @fixd.fixture(scope="session")
        def value(request):
            log("value")
            config = request.config
            return [config.option.stage, *helper(config)]
        """)
    project.write("test_it.py", "def test(value, pytestconfig):\n    stage = pytestconfig.getoption('stage')\n"
                                "    assert value == [stage, stage, pytestconfig.getini('place')]\n")
    for n, (arguments, built) in enumerate([(["--stage=a"], 1), (["--stage=a"], 1), (["--stage=b"], 2), (["--stage=b", "-o", "place=x"], 3)]):
        output = project.run(*arguments).passed(1).output
        assert project.count("value") == built and (n or "reads an option of the run" in output), output


FILES = {
    "code that is run": ("exec(open('rules.py').read(), what); return what['RULE']", "rules.py"),
    "a name that is computed": ("import importlib; sys.modules.pop('rules', None); return importlib.import_module(''.join(['ru', 'les'])).RULE", "rules.py"),
    "one that is loaded already": ("import importlib, pkgutil; names = [m.name for m in pkgutil.iter_modules([os.getcwd()]) if m.name == 'rules']; "
                                   "return importlib.import_module(names[0]).RULE", "rules.py"),
    "code by its path": ("import runpy; return runpy.run_path('rules.py')['RULE']", "rules.py"),
    "code as data": ("return open('rules.py').read()[7:10]", "rules.py"),
    "data": ("return open('data/rule').read()", "data/rule"),
}


@pytest.mark.parametrize("what", FILES)
def test_files(project, what):
    body, file = FILES[what]
    loaded = "import importlib; importlib.import_module('ru' + 'les')" if "loaded" in what else ""
    project.conftest(f"import sys\n{loaded}\n@fixd.fixture(scope='session')\ndef value():\n    log('value')\n    what = {{}}\n    {body}\n")
    project.write("test_it.py", "import os\ndef test(value): assert str(value) == os.environ['RULE']\n")
    for n, (rule, built) in enumerate([("100", 1), ("100", 1), ("2000"[:3], 2)]):
        if n != 1:
            project.write(file, f"RULE = {rule}\n" if file.endswith(".py") else rule)
        output = project.run(env={"RULE": rule, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": f"{project.path}:{project.env['PYTHONPATH']}"}).passed(1).output
        assert project.count("value") == built, output
        assert n or f"fixture 'value' reads {file}, which watch= does not name" in output, output


def test_library_of_c(project):
    """That ctypes has loaded."""
    project.conftest("import ctypes\n@fixd.fixture(scope='session')\ndef value(): return ctypes.CDLL('./libnumber.so').number()\n")
    project.write("test_it.py", "import os\ndef test(value): assert value == int(os.environ['NUMBER'])\n")
    for number in 1, 2:
        project.write("number.c", f"int number(void) {{ return {number}; }}\n")
        subprocess.run(["cc", "-shared", "-fPIC", "-o", project.file("libnumber.so"), project.file("number.c")], check=True)
        project.run(env={"NUMBER": str(number)}).passed(1)


def test_extension_module(project):
    """The project's own, which is compiled anew."""
    ext = importlib.util.find_spec("_ctypes")
    suffix = importlib.machinery.EXTENSION_SUFFIXES[0]
    project.write("fast.c", "#include <Python.h>\nstatic struct PyModuleDef def = { PyModuleDef_HEAD_INIT, \"fast\", 0, -1, 0 };\n"
                            "PyMODINIT_FUNC PyInit_fast(void) { PyObject *m = PyModule_Create(&def); PyModule_AddIntConstant(m, \"N\", NUMBER); return m; }\n")
    include = subprocess.run([sys.executable, "-c", "import sysconfig; print(sysconfig.get_paths()['include'])"], capture_output=True, text=True).stdout.strip()

    def build(number):
        done = subprocess.run(["cc", "-shared", "-fPIC", f"-DNUMBER={number}", "-I", include, "-o", project.file("fast" + suffix), project.file("fast.c")],
                              capture_output=True, text=True)
        if "Python.h" in done.stderr:
            pytest.skip("Python's headers are not installed")
        assert done.returncode == 0, done.stderr

    assert ext
    project.conftest("import fast\n@fixd.fixture(scope='session')\ndef value(): return fast.N\n")
    project.write("test_it.py", "import os\ndef test(value): assert value == int(os.environ['NUMBER'])\n")
    for number in 1, 2:
        build(number)
        project.run(env={"NUMBER": str(number), "PYTHONPATH": f"{project.path}:{project.env['PYTHONPATH']}"}).passed(1)


LOOKS = {
    "marker": ("function", "request.node.get_closest_marker('number').args[0]", "built by every test: it uses 'request.node'"),
    "name": ("function", "int(request.function.__name__[-1])", "built by every test: it uses 'request.function'"),
    "module": ("module", "getattr(request.module, 'NUMBER') + BY_TEST", "built in every process: it uses request.module"),
    "class": ("class", "request.cls.number + BY_TEST", "built in every process: it uses request.cls"),
    "class's marker": ("class", "request.node.get_closest_marker('all').args[0] + BY_TEST", ""),
    "session": ("session", "len(request.session.items) - 2 + BY_TEST", "built in every process: it uses request.session"),
}


@pytest.mark.parametrize("what", LOOKS)
def test_looks_at_the_test(project, what):
    scope, expression, words = LOOKS[what]
    project.conftest("def pytest_configure(config): [config.addinivalue_line('markers', m) for m in ('number(n): one', 'all(n): all')]\n"
                     f"BY_TEST = 0\n@fixd.fixture(scope={scope!r})\ndef value(request):\n    return {expression}\n")
    each = scope == "function"
    for number in (0, 5):
        project.write("test_it.py", f"import pytest\nNUMBER = {number}\n@pytest.mark.all({number})\nclass Test:\n    number = {number}\n"
                                    f"    @pytest.mark.number(1)\n    def test_1(self, value): assert value == {1 if each else 0 if what == 'session' else number}\n"
                                    f"    @pytest.mark.number(2)\n    def test_2(self, value): assert value == {2 if each else 0 if what == 'session' else number}\n")
        output = project.run().passed(2).output
        assert words in output and ("key=" in output or each or not words), output


def test_finalizer_of_its_own(project):
    """Nobody else could call it."""
    project.conftest("@fixd.fixture(scope='session')\ndef value(request):\n    log('begin')\n    request.addfinalizer(lambda: log('end'))\n    return 1\n")
    project.write("test_it.py", "import pytest, time\n@pytest.mark.parametrize('n', range(4))\ndef test(value, n): assert value == 1\n")
    output = project.run("-n", "2").passed(4).output
    assert "it uses request.addfinalizer(), whose function this process alone can call" in output, output
    assert project.count("begin") == project.count("end") > 0
    assert project.log()[-1] == "end"


@pytest.mark.parametrize("how", ["request.addfinalizer(rows.clear)", "rows.clear()"])
def test_argument_that_each_test_has(project, how):
    """Not only if it yields: what it does is done for each test."""
    project.conftest(f"rows = []\n@pytest.fixture\ndef clean(request): {how}\n"
                     "@fixd.fixture\ndef value(clean):\n    rows.append(1)\n    return len(rows)\n")
    project.write("test_it.py", "from conftest import rows\ndef test_1(value): assert rows == [1]\ndef test_2(value): assert rows == [1]\n")
    for _ in range(2):
        assert "is built by every test: it uses 'clean'" in project.run("-p", "no:randomly").passed(2).output


def test_parent_of_the_base_directory(project, tmp_path):
    """As the manual of pytest-xdist has it: what lies there is of this fixture only."""
    conftest = ("@fixd.fixture(scope='session')\ndef value(tmp_path_factory, worker_id):\n    log('value')\n"
                "    place = tmp_path_factory.getbasetemp().parent / 'data'\n    if place.exists(): return place.read_text()\n"
                "    place.write_text(os.environ['WHO'])\n    return place.read_text()  # {}\n")
    project.write("test_it.py", "import os\ndef test(value): assert value == os.environ['WHO']\n")
    project.conftest(conftest.format(1))
    project.run(env={"WHO": "one"}).passed(1)
    project.write("other/pytest.ini", "[pytest]\n")
    project.conftest(conftest.format(1), name="other/conftest.py")
    project.write("other/test_it.py", open(project.file("test_it.py")).read())
    project.run(env={"WHO": "two"}, cwd=project.file("other")).passed(1)
    project.conftest(conftest.format(1).replace("log('value')", "log('another')"))
    project.run("test_it.py", env={"WHO": "three"}).passed(1)


def test_directory_that_a_test_changes(project):
    """In the next run it is as it was built, as without fixd; in this one its tests share it."""
    project.conftest("@fixd.fixture(scope='session')\ndef repo(tmp_path_factory):\n    log('repo')\n    path = tmp_path_factory.mktemp('repo')\n"
                     "    (path / 'file').write_text('one')\n    return path\n")
    project.write("test_it.py", "import os\ndef test_1(repo): assert (repo / 'file').read_text() == 'one'\n"
                                "def test_2(repo):\n    if os.environ['CHANGE'] == 'yes':\n        (repo / 'out').mkdir()\n")
    for n, (change, built) in enumerate([("no", 1), ("yes", 1), ("yes", 2), ("yes", 3)]):
        output = project.run(env={"CHANGE": change}).passed(2).output
        assert project.count("repo") == built, output
        assert ("fixture 'repo' is built again: an earlier run has changed" in output) == (n > 1), output


def test_the_same_exception(project):
    """Who has built it in vain is told as pytest tells it; xfail(raises=) and pytest.raises() know it."""
    project.conftest("@fixd.fixture\ndef value():\n    log('value')\n    raise ConnectionError('no server')\n")
    project.write("test_it.py", "import pytest\n@pytest.mark.xfail(raises=ConnectionError, strict=True)\n@pytest.mark.parametrize('n', range(3))\ndef test(value, n): pass\n")
    assert project.run().outcomes() == {"xfailed": 3} and project.count("value") == 1


def test_build_that_runs_the_suite(project):
    """A process that it starts does not wait for it."""
    project.conftest("import subprocess, sys\n@fixd.fixture(scope='session')\ndef value():\n    if os.environ.get('INNER'): return 'inner'\n"
                     "    done = subprocess.run([sys.executable, '-m', 'pytest', '-p', 'fixd.plugin', '-q', 'test_it.py::test_inner'], env={**os.environ, 'INNER': '1'},\n"
                     "                          capture_output=True, text=True, timeout=60)\n"
                     "    assert done.returncode == 0 and 'a process that has started this one is building it' in done.stdout, done\n    return 'outer'\n")
    project.write("test_it.py", "def test_inner(value): assert value == 'inner'\ndef test_outer(value): assert value == 'outer'\n")
    project.run("test_it.py::test_outer").passed(1)


def test_nothing_but_what_it_does(project):
    project.conftest("@fixd.fixture(scope='session', autouse=True)\ndef begun():\n    log('begun')\n    yield\n")
    project.write("test_it.py", "def test(): pass\n")
    for _ in range(2):
        output = project.run().passed(1).output
        assert "fixture 'begun' has yielded None, and what it does besides is done in one process only" in output and "key=" not in output, output


@pytest.mark.skipif(not importlib.util.find_spec("pytest_cov"), reason="pytest-cov is not installed")
def test_coverage_that_is_not_measured(project):
    project.conftest("@fixd.fixture(scope='session')\ndef value(): log('value'); return 1\n")
    project.write("pytest.ini", "[pytest]\naddopts = --cov=. --cov-report=\n")
    project.write("test_it.py", "def test(value): pass\n")
    for _ in range(2):
        project.run("--no-cov").passed(1)
    assert project.count("value") == 1


def test_doctests(project):
    """Each gets it as it was built, as tests do."""
    project.conftest("@fixd.fixture(scope='session')\ndef value(): return {'a': [1]}\n")
    project.write("it.py", "def one():\n    '''\n    >>> getfixture('value')['a'].append(2)\n    '''\n"
                           "def two():\n    '''\n    >>> getfixture('value')\n    {'a': [1]}\n    '''\n")
    project.run("--doctest-modules", "it.py").passed(2)


def test_explained_fallback(project):
    project.conftest("@fixd.fixture(name='called')\ndef value(request):\n    return request.node.name\n")
    project.write("test_it.py", "def test(called): assert called == 'test'\n")
    assert "fixture 'called' (conftest.py:7) is built by every test: it uses 'request.node'" in project.run().passed(1).output
    assert "is built by every test: it uses 'request.node'" in project.run("--fixd-explain", "called").output
    project.conftest("@fixd.fixture(name='called')\ndef value(request):\n    return 'test'\n")
    project.run().passed(1)
    assert "by every test" not in project.run("--fixd-explain", "called").output


def test_build_that_is_killed(project):
    """Its directory goes with the next run."""
    project.conftest("import signal\n@fixd.fixture(scope='session')\ndef value(tmp_path_factory):\n    log(tmp_path_factory.mktemp('x'))\n"
                     "    if os.environ.get('KILL'): os.kill(os.getpid(), signal.SIGKILL)\n    return 1\n")
    project.write("test_it.py", "def test(value): pass\n")
    assert project.run(env={"KILL": "yes"}).code == -9
    project.run().passed(1)
    assert [os.path.exists(path) for path in project.log()] == [False, True]


def test_one_in_another(project):
    """Each remembers what it has asked for itself."""
    project.conftest("def pytest_addoption(parser): parser.addoption('--stage')\n"
                     "@fixd.fixture(scope='session')\ndef inner(pytestconfig):\n    log('inner')\n    return [pytestconfig.getoption('stage'), os.environ['STAGE']]\n"
                     "@fixd.fixture(scope='session')\ndef outer(request):\n    log('outer')\n    return [os.environ['PLACE'], *request.getfixturevalue('inner')]\n")
    project.write("test_it.py", "import os\ndef test(outer, pytestconfig): assert outer == [os.environ['PLACE'], pytestconfig.getoption('stage'), os.environ['STAGE']]\n")
    for option, stage, place, logged in (("a", "b", "c", ["outer", "inner"]), ("a", "b", "d", ["outer"]), ("e", "b", "d", ["inner", "outer"]), ("e", "f", "d", ["inner", "outer"])):
        project.forget()
        project.run("--stage", option, env={"STAGE": stage, "PLACE": place}).passed(1)
        assert sorted(project.log()) == sorted(logged), (option, stage, place, project.log())


CONFIGURED = """
import settings
url, kept, table = None, pytest.StashKey(), {}
class Holder: url = None
class One:
    def __init__(self): self.url = None
    def get(self): return self.url
one = One()
def pytest_addoption(parser): parser.addoption("--url")
def set_up(url): settings.url = Holder.url = one.url = url
def pytest_configure(config):
    global url
    url = table["url"] = config.stash[kept] = config.place = config.getoption("url")
    set_up(url)
"""
WAYS = {"variable": "url", "dict": "table['url']", "class": "Holder.url", "object": "one.get()", "module": "settings.url", "stash": "request.config.stash[kept]",
        "get": "request.config.stash.get(kept, None)", "attribute": "request.config.place", "getattr": "getattr(request.config, 'place', None)"}


def test_what_hooks_have_set(project):
    """Where pytest_configure() puts an option, and a fixture finds it."""
    project.write("settings.py", "url = None\n")
    project.conftest(CONFIGURED + "".join(f"@fixd.fixture(scope='session')\ndef by_{name}(request):\n    log('{name}')\n    return {way}\n"
                                          for name, way in WAYS.items()))
    project.write("test_it.py", f"import pytest\n@pytest.mark.parametrize('way', {[*WAYS]})\ndef test(request, way):\n"
                                "    assert request.getfixturevalue('by_' + way) == request.config.getoption('url')\n")
    for url, built in (("a", len(WAYS)), ("a", 0), ("b", len(WAYS)), ("b", 0)):
        project.forget()
        project.run("--url", url, "-n", "2" if url == "b" else "0").passed(len(WAYS))
        assert len(project.log()) == built, (url, project.log())


def test_what_tests_do_to_variables_of_hooks(project):
    """That is not what it is made of: every process has done something else."""
    project.conftest("seen = []\ndef pytest_configure(config): seen.append('begun')\n"
                     "@fixd.fixture(scope='session')\ndef value():\n    log('value')\n    seen.append('built')\n    return len(seen)\n"
                     "@fixd.fixture(scope='session')\ndef late():\n    log('late')\n    return seen[0]\n")
    project.write("test_it.py", "import conftest, pytest\n@pytest.mark.parametrize('i', range(6))\ndef test(value, i): conftest.seen.append(i)\ndef test_late(late): pass\n")
    for options in (["-n", "3"], []):
        project.run(*options).passed(7)
    assert sorted(project.log()) == ["late", "value"]


ENDS = """
import atexit, http.server, pathlib, shutil, tempfile, threading
@fixd.fixture(scope="session")
def directory():
    d = tempfile.TemporaryDirectory()
    pathlib.Path(d.name, "f").write_text("x")
    yield d.name
    d.cleanup()
@fixd.fixture(scope="session")
def file():
    f = tempfile.NamedTemporaryFile("w")
    yield f.name
@fixd.fixture(scope="session")
def removed():
    d = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, d)
    return d
@fixd.fixture(scope="session")
def url():
    server = http.server.HTTPServer(("127.0.0.1", 0), http.server.SimpleHTTPRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}/"
@fixd.fixture(scope="session")
def used():
    log("used")
    with tempfile.TemporaryDirectory() as d:
        return pathlib.Path(d).exists()
"""


def test_what_ends_with_its_builder(project):
    """It is of no use to a later run, nor to another process."""
    project.conftest(ENDS)
    project.write("test_it.py", """
        import os, pathlib, pytest, urllib.request
        @pytest.mark.parametrize("n", range(3))
        def test(directory, file, removed, url, used, n):
            assert pathlib.Path(directory, "f").read_text() == "x" and os.path.exists(file) and os.path.isdir(removed) and used is True
            urllib.request.urlopen(url, timeout=10)
        """)
    for options in ([], [], ["-n", "2"]):
        output = project.run(*options).passed(3).output
        for name, why in (("directory", "it has the path of a TemporaryDirectory"), ("file", "it has the path of a NamedTemporaryFile"),
                          ("removed", "it uses atexit.register()"), ("url", "what it has begun listens in the process that has built it")):
            assert re.search(f"'{name}' .* is built in every process: {re.escape(why)}", output), (name, output)
    assert project.count("used") == 1


def test_what_modules_read(project):
    """While they are imported: what is made of that is built again when it has changed, and nobody else is told."""
    project.write("schema.json", '{"n": 1}')
    project.write("helper.py", "import json, pathlib\nclass Table:\n    rows = json.loads((pathlib.Path(__file__).parent / 'schema.json').read_text())\n")
    project.conftest("import helper\n@fixd.fixture(scope='session')\ndef table():\n    log('table')\n    return helper.Table.rows['n']\n")
    project.write("test_it.py", "import helper\ndef test(table): assert table == helper.Table.rows['n']\n")
    for text, built in ((None, 1), (None, 1), ('{"n": 2222}', 2)):
        if text:
            project.write("schema.json", text)
        assert "reads schema.json" not in project.run().passed(1).output
        assert project.count("table") == built


def test_modules_that_register(project):
    """Nothing has their name, and something of them is used."""
    project.write("registry.py", "READERS = {}\ndef reader(f):\n    READERS[f.__name__] = f\n    return f\n")
    project.write("plugins/__init__.py", "")
    for name in ("csv", "xml"):
        project.write(f"plugins/{name}.py", f"from registry import reader\n@reader\ndef {name}(): return 1\n")
    project.conftest("import registry\nimport plugins.csv\nfrom plugins import xml\n@fixd.fixture(scope='session')\ndef data():\n"
                     "    return [registry.READERS[n]() for n in ('csv', 'xml')]\n")
    project.write("test_it.py", "import registry\ndef test(data): assert data == [registry.READERS[n]() for n in ('csv', 'xml')]\n")
    for changed in (None, "csv", "xml"):
        if changed:
            project.write(f"plugins/{changed}.py", f"from registry import reader\n@reader\ndef {changed}(): return 2222\n")
        project.run().passed(1)


def test_links_that_lead_elsewhere(project):
    for version in ("v1", "v2"):
        project.write(f"{version}/d", version)
    os.symlink("v1", project.file("current"))
    project.conftest("@fixd.fixture(scope='session')\ndef data(): return open('current/d').read()\n")
    project.write("test_it.py", "def test(data): assert data == open('current/d').read()\n")
    project.run().passed(1)
    os.unlink(project.file("current"))
    os.symlink("v2", project.file("current"))
    assert "current/d has changed" in project.run().passed(1).output


@pytest.mark.parametrize("says", ("", "Requires-Dist: core>=1\nRequires-Dist: other ; extra == 'more'\n"))
def test_what_packages_need(project, says):
    """Of which another version was installed, and of the package that the fixture uses the same."""
    site = project.file("lib/python3/site-packages")
    def install(name, version, text, more=""):
        shutil.rmtree(f"{site}/{name}-{version - 1}.dist-info", ignore_errors=True)
        project.write(f"lib/python3/site-packages/{name}-{version}.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{more}\nText\n")
        project.write(f"lib/python3/site-packages/{name}.py", text)
    project.env["PYTHONPATH"] = f"{project.env['PYTHONPATH']}:{site}"
    install("product", 1, "import core\ndef make(): return core.build()\n", says)
    install("core", 1, "def build(): return 1\n")
    project.conftest("import product\n@fixd.fixture(scope='session')\ndef data(): return product.make()\n")
    project.write("test_it.py", "import product\ndef test(data): assert data == product.make()\n")
    project.run().passed(1)
    install("core", 2, "def build(): return 2222\n")
    project.run().passed(1)


def test_explained_causes(project):
    """What a build has read, whether that has changed since, and why it was built again: nobody has cleaned up."""
    project.conftest("@fixd.fixture(scope='session')\ndef value(): return os.environ.get('STAGE'), open('d.txt').read()\n")
    project.write("test_it.py", "def test(value): pass\n")
    project.write("d.txt", "one")
    project.run().passed(1)
    output = project.run("--fixd-explain", "value").output
    assert "read d.txt\n" in output and "environment STAGE = " in output and "has changed" not in output and "another one now" not in output, output
    project.write("d.txt", "two and more")
    assert "read d.txt, which has changed since: it will be built again" in project.run("--fixd-explain", "value").output
    project.run().passed(1)
    assert "last time because: d.txt has changed" in project.run("--fixd-explain", "value").output
    project.run(env={"STAGE": "prod"}).passed(1)
    output = project.run("--fixd-explain", "value").output
    assert "last time because: environment STAGE is another one" in output and "which is another one now: it will be built again" in output, output
    project.run("--cleanup")
    project.run().passed(1)
    assert "last time because: cleaned up" in project.run("--fixd-explain", "value").output


def test_what_others_have_not(project):
    """What a build sets besides in its own process: each that needs it does so. What a module sets when it is imported everybody has."""
    project.write("lib/python3/site-packages/sets.py", "import os\nos.environ['BY_IMPORT'] = '1'\ndef load(): os.environ['BY_CALL'] = '1'\n")
    project.env["PYTHONPATH"] = f"{project.env['PYTHONPATH']}:{project.file('lib/python3/site-packages')}"
    project.conftest("""
        import unittest.mock
        @fixd.fixture(scope="session", autouse=True)
        def mode(): os.environ.setdefault("MODE", "test")
        @fixd.fixture(scope="session")
        def loaded():
            import sets
            sets.load()
            return 1
        @fixd.fixture(scope="session")
        def imported():
            import sets
            log("imported")
            return 1
        @fixd.fixture(scope="session")
        def patched():
            log("patched")
            with unittest.mock.patch.dict(os.environ, {"PATCHED": "1"}):
                return os.environ["PATCHED"]
        class Base:
            @fixd.fixture(scope="class")
            @classmethod
            def db(cls):
                cls.url = "db://1"
                return 7
        @fixd.fixture(scope="session")
        def moved():
            os.chdir("/")
            return 1
        """)
    project.write("test_it.py", """
        import conftest, os
        def test(loaded, imported, patched): assert os.environ["MODE"] == "test" and os.environ["BY_CALL"] == "1" and "PATCHED" not in os.environ
        class TestIt(conftest.Base):
            def test(self, db): assert db == 7 and self.url == "db://1"
        def test_moved(moved): assert os.getcwd() == "/"
        """)
    for _ in range(2):
        output = project.run().passed(3).output
        for name, what in (("mode", "the variable MODE of the environment"), ("loaded", "the variable BY_CALL of the environment"), ("db", "'url' of its class"),
                           ("moved", "the working directory")):
            assert re.search(f"'{name}' .*is built in every process: it has set {what}, which other processes have not", output), (name, output)
    assert sorted(project.log()) == ["imported", "patched"]


AT_IMPORT = {
    "a class": "class Config:\n    url = os.environ.get('URL')\n@fixd.fixture(scope='session')\ndef value(): return Config.url",
    "an object": "class Settings:\n    def __init__(self): self.url = os.environ.get('URL')\nsettings = Settings()\n@fixd.fixture(scope='session')\ndef value(): return settings.url",
    "another variable": "_raw = os.environ.get('URL')\nURL = _raw + ''\n@fixd.fixture(scope='session')\ndef value(): return URL",
    "a condition": "if os.environ.get('URL') == 'b':\n    URL = 'b'\nelse:\n    URL = 'a'\n@fixd.fixture(scope='session')\ndef value(): return URL",
    "a function": "def ask(name): return os.environ[name]\nURL = ask('URL')\n@fixd.fixture(scope='session')\ndef value(): return URL",
    "a default": "def url(default=os.environ.get('URL')): return default\n@fixd.fixture(scope='session')\ndef value(): return url()",
    "an entry": "TABLE = {}\nTABLE['url'] = os.environ.get('URL')\n@fixd.fixture(scope='session')\ndef value(): return TABLE['url']",
}


@pytest.mark.parametrize("where", ["conftest", "another module"])
@pytest.mark.parametrize("how", AT_IMPORT)
def test_environment_that_a_module_has_read(project, how, where):
    """When it was imported, in whatever way."""
    if where == "conftest":
        project.conftest(AT_IMPORT[how])
    else:
        project.write("made.py", "import fixd, os\n" + AT_IMPORT[how])
        project.conftest("from made import value")
    project.write("test_it.py", "import os\ndef test(value): assert value == os.environ['URL']\n")
    for url in "a", "a", "b", "a":
        project.run(env={"URL": url}).passed(1)
