# SPDX-License-Identifier: MIT
"""Every example of the manuals and READMEs is run: those that have no suite of their own, here."""

import ast
import fcntl
import glob
import os
import re
import shutil
import socket
import struct
import subprocess
import sys

sys.path.append(os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "shim"))
sys.path.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
import adapters  # noqa: E402
import fleet  # noqa: E402
import go  # noqa: E402
import harness  # noqa: E402
import manual  # noqa: E402
import recipes  # noqa: E402
import rust  # noqa: E402
import systemd  # noqa: E402
import tutorial  # noqa: E402
import wire  # noqa: E402
from harness import LIMIT, SANITIZERS, Skip, once, request  # noqa: E402
from manual import runs, text  # noqa: E402
from tutorial import perform, steps  # noqa: E402

TABLE = "a table of names, or prose"
# What is no example to be run, and why.
NOT_RUN = {
    "fixd-protocol.7 Requests *": "made of src/wire/messages.table, which tests/protocol.sh holds them to",
    "README Two commands 1": "they install packages: the second of them runs this",
    "ci/README fixd in CI, and on several machines 1": TABLE,
    "README Install 1": "contrib/package, which is tried in a clean root by hand",
    "README What is in the box 1": TABLE,
    "README Build *": "how this was built, and a table of names",
    "README Security 1": TABLE,
    "README Limits 1": TABLE,
    "HACKING *": "tables of names, and the commands of this tree's own targets",
    "adapters/README Adapters 1": TABLE,
    "pytest-fixd/README pytest-fixd 2": "contrib/pytest-fixd/tests/test_install.py installs it without a network",
    "pytest-fixd/README Limits 1": TABLE,
}


@once
def test_each_is_run_or_says_why_not(t):
    claims = []
    for module in adapters, fleet, go, recipes, rust, systemd, tutorial, sys.modules[__name__]:
        for test in vars(module).values():
            for pattern in getattr(test, "examples", ()):
                claims += manual.matching(pattern)
    with open(os.path.join(harness.SRC, "contrib/pytest-fixd/tests/test_readme.py")) as f:
        for words in re.findall(r"^@runs\((.*)\)$", f.read(), flags=re.MULTILINE):
            for pattern in ast.literal_eval(f"[{words}]"):
                claims += manual.matching("pytest-fixd/README " + pattern)
    for page in glob.glob(os.path.join(harness.SRC, "man", "*.[1-8]")):
        with open(page) as f:
            n = len(re.findall(r"^\.(?:Bd|Dl|D1)\b", f.read(), flags=re.MULTILINE))
        assert n == sum(b.page == os.path.basename(page) for b in manual.blocks().values()), page
    listed = {name for pattern in NOT_RUN for name in manual.matching(pattern)}
    neither = set(manual.blocks()) - set(claims) - listed
    assert not neither, f"no test runs these examples, and NOT_RUN does not have them: {sorted(neither)}"
    assert not listed & set(claims), f"NOT_RUN has what is run: {sorted(listed & set(claims))}"


def environment(t, daemon=None, **more):
    """Of somebody who has installed it all."""
    env = {**adapters.tools(t, daemon), "MAKEFLAGS": "", **more}
    env["PATH"] = f"{t.path('bin')}:{env['PATH']}"
    return env


def command(t, name, script):
    """In place of a program that is not there."""
    os.chmod(t.write(f"bin/{name}", f"#!/bin/sh\n{script}"), 0o755)


def shell(t, lines, env, codes=(0,)):
    done = subprocess.run(["sh", "-c", lines.removeprefix("$ ")], cwd=t.dir, env=env, capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode in codes, (lines, done)
    return done.stdout


SERVERS = """[fixture words]
command = printf 'apple'
[fixture pg]
service = echo at pg; exec sleep infinity
[fixture redis]
service = echo at redis; exec sleep infinity
"""


@runs("fixctl.1 with 1", "fixctl.1 EXAMPLES 1", "fixctl.1 EXAMPLES 2", "fixctl.1 EXAMPLES 3")
@once
def test_fixctl(t):
    d = t.daemon(SERVERS)
    env = environment(t, d)
    command(t, "ctest", 'echo "$* $FIXD_FIXTURE_pg $FIXD_FIXTURE_redis"\n')
    assert shell(t, text("fixctl.1 with 1"), env) == "-j8 at pg at redis\n"
    assert "words: ready after" in shell(t, text("fixctl.1 EXAMPLES 1"), env)
    assert shell(t, text("fixctl.1 EXAMPLES 2"), env) .startswith("Removed: 0\nKept (in use): 0\n")
    if not shell(t, "command -v jq || :", env):
        raise Skip("jq is not installed")
    assert int(shell(t, text("fixctl.1 EXAMPLES 3"), env)) >= len("apple" + "at pg" + "at redis")


@runs("fixctl.1 EXAMPLES 4", "fixctl.1 EXAMPLES 6")
@once
def test_what_is_kept_of_a_day(t):
    env = environment(t, t.daemon(SERVERS.split("[fixture pg]")[0]))
    example = text("fixctl.1 EXAMPLES 4")
    shell(t, example.replace("--compare yesterday.json >today.json", ">yesterday.json"), env)
    # 1: something is slower; that is whatever else the machine does.
    shell(t, example, env, (0, 1))
    assert '"name": "words"' in open(t.path("today.json")).read()
    shell(t, text("fixctl.1 EXAMPLES 6"), env)
    assert "<html" in open(t.path("fixtures.html")).read()


@runs("fixctl.1 EXAMPLES 5")
@once
def test_what_imports_take(t):
    if not shutil.which("pytest") or SANITIZERS:
        raise Skip("pytest is not installed" if not SANITIZERS else "pytest itself does not run under a sanitizer")
    t.write("test_it.py", "import json\ndef test(): pass\n")
    said = shell(t, text("fixctl.1 EXAMPLES 5"), environment(t, PYTEST_DISABLE_PLUGIN_AUTOLOAD="1"))
    with open(t.path(re.search(r"imports_\d+-\d+\.folded", said)[0])) as f:
        assert "_pytest" in f.read()


@runs("fixctl.1 EXAMPLES 7", "fixctl.1 EXAMPLES 8")
@once
def test_reports_that_are_shown(t):
    """Their titles and rows are those that the program writes."""
    source = "".join(open(os.path.join(harness.SRC, "src/fixctl", name)).read()
                     for name in os.listdir(os.path.join(harness.SRC, "src/fixctl")) if name.startswith("report"))
    for block in manual.take("fixctl.1 EXAMPLES [78]"):
        rows = block.text.split("## Sharing")[1].splitlines()
        words = [re.match(r"#+ (.*)|\| ([A-Z][^|]*) \|", line) for line in rows]
        for title in [m[1] or m[2] for m in words if m]:
            assert title in source, title


PROGRAM = """#include <err.h>
#include <errno.h>
#include <fixd.h>
#include <stdio.h>
#include <string.h>
static void breaks(void *root)
{
	if (memcmp(root, "apple", 5))
		errx(1, "it is not as it was built");
	memset(root, 'x', 5);
}
static void (*tests[])(void *) = { breaks, breaks };
static const size_t n_tests = 2, size = 6;
static void fill(void *p, size_t n) { memcpy(p, "banana", n); }
static void first(void)
{
%s}
static int second(void)
{
	struct fixd *f;
	struct fixd_view *v;
	int r;
	if (fixd_open(&f, NULL) < 0)
		errx(1, "%%s", fixd_error(NULL));
%s	return r < 0 || memcmp(fixd_view_data(v), "banana", 6);
}
static void die(const char *why) { errx(1, "%%s", why); }
static void use(void *root) { if (memcmp(root, "apple", 5)) die("it is not as it was built"); }
static void third(void)
{
%s}
int main(void) { first(); third(); return second(); }
"""


@runs("libfixd.3 EXAMPLES 1", "libfixd.3 EXAMPLES 2", "include/fixd.h comment 1")
def test_libfixd(t):
    d = t.daemon("[fixture corpus]\ncommand = printf apple\n")
    t.write("data/one.txt", "")
    parts = text("libfixd.3 EXAMPLES 1"), text("libfixd.3 EXAMPLES 2"), text("include/fixd.h comment 1")
    program = t.program("program", PROGRAM % parts, "-Wall", "-Wextra", "-Werror")
    for generation in 1, 1, 2:
        if generation == 2:
            t.write("data/two.txt", "")
        shell(t, program, environment(t, d))
        client = d.client().join(t.dir)
        assert client.attach("index").generation == generation
        client.close()
        t.clients.remove(client)


FORKS = """#include <err.h>
#include <fixd.h>
#include <stdio.h>
static void load_everything(void) {}
static int run_tests(int n, char **arguments) { return n != 2 || puts(arguments[1]) < 0; }
"""


@runs("libfixd.3 EXAMPLES 3", "fixctl.1 fork 1", "adapters/README Adapters 2")
@once
def test_forks(t):
    program = t.program("program", FORKS + text("libfixd.3 EXAMPLES 3"), "-Wall", "-Wextra", "-Werror")
    d = t.daemon(f"[fixture tests]\nprocess = exec {program}\n")
    commands = [text("fixctl.1 fork 1"), *(re.split("  +", line)[0] for line in text("adapters/README Adapters 2").splitlines())]
    said = [shell(t, one, environment(t, d), (0, 1)) for one in commands]
    # A shell makes of Index.* what is there; Check's has no argument.
    assert said == ["--gtest_filter=Parser.*\n", "--gtest_filter=Index.*\n", "", "finds_*\n"], said


LISTED = """Parses.
  Plainly
  DISABLED_Slowly
Some/Texts.
  Are/0  # GetParam() = "[1,2"
  Are/1  # GetParam() = "a;b"
  Are/2  # GetParam() = "]"
Typed/0.  # TypeParam = std::vector<int[3]>
  Works
"""


@once
def test_cases_of_ctest(t):
    """All that a program lists, whatever its parameters are."""
    if not shutil.which("cmake"):
        raise Skip("needs cmake")
    program = t.write("program", f"#!/bin/sh\ncat <<'EOF'\n{LISTED}EOF\n")
    os.chmod(program, 0o755)
    subprocess.run(["cmake", f"-DPROGRAM={program}", "-DPREFIX=p.", "-DCOMMAND=run;it", f"-DOUT={t.path('out')}", "-P",
                    os.path.join(harness.SRC, "contrib/cmake/FixdForkTests.cmake")], check=True, timeout=LIMIT)
    with open(t.path("out")) as f:
        found = re.findall(r"add_test\(\[==\[(.*?)\]==\] \[==\[run\]==\] \[==\[it\]==\] \[==\[--gtest_filter=(.*?)\]==\]", f.read())
    names = ["Parses.Plainly", "Parses.DISABLED_Slowly", "Some/Texts.Are/0", "Some/Texts.Are/1", "Some/Texts.Are/2", "Typed/0.Works"]
    assert found == [(f"p.{name}", name) for name in names], found


@runs("libfixd-builder.3 EXAMPLES *")
@once
def test_a_builder(t):
    if SANITIZERS:
        raise Skip("words look like addresses of the sanitizer's shadow, which the audit takes for the builder's memory")
    includes = "#include <errno.h>\n#include <fixd-builder.h>\n#include <stdio.h>\n#include <string.h>\n"
    t.write("words.c", includes + text("libfixd-builder.3 EXAMPLES 1"))
    t.write("words", "apple banana\n")
    t.write("pc/fixd-builder.pc", f"Name: fixd-builder\nDescription: fixd\nVersion: 0\nLibs: -L{harness.BUILD}/.libs -Wl,-rpath,{harness.BUILD}/.libs -lfixd-builder\n"
            f"Cflags: -I{harness.SRC}/include\n")
    env = environment(t)
    shell(t, text("libfixd-builder.3 EXAMPLES 2"), {**env, "PKG_CONFIG_PATH": t.path("pc")})
    client = t.daemon("[fixture words]\nplugin = words.so\n").client()
    data = client.attach("words").data
    assert b"apple\0" in data and b"banana\0" in data, data


PSQL = """echo "psql $*" >>psql.log
"""
START = """exec python3 -c 'import socket, sys
with socket.create_server(("127.0.0.1", int(sys.argv[1]))) as s:
    while True: s.accept()' "$FIXD_PORT"
"""
GRAPH = """#include <fixd-builder.h>
int fixd_builder_main(struct fixd_builder *b)
{
	char *first = fixd_builder_alloc(b, 1);

	*first = *fixd_builder_param(b);
	fixd_builder_set_root(b, first);
	return 0;
}
"""


@runs("fixd.ini.5 EXAMPLES 1")
@once
def test_fixd_ini(t):
    """All of it is built; of a database its client alone is there, which says what it was asked for."""
    t.write("data/corpus/one.txt", "one\n")
    os.chmod(t.write("build-index", '#!/bin/sh\ncat "$1"/*\n'), 0o755)
    os.makedirs(t.path(".libs"))
    os.rename(t.plugin("graph", GRAPH), t.path(".libs/graph.so"))
    t.write("start-postgres", START)
    command(t, "psql", PSQL)
    command(t, "pg_isready", 'exec python3 -c "import socket; socket.create_connection((\'$3\', $5))" 2>/dev/null\n')
    d = t.daemon(text("fixd.ini.5 EXAMPLES 1"), env={"PATH": f"{t.path('bin')}:{os.environ['PATH']}"})
    c = d.client()
    assert c.read("index") == b"one\n" and c.read("graph[large]")[:1] == b"l"
    where = c.read("postgres")
    assert re.fullmatch(rb"postgresql://test@127.0.0.1:\d+", where), where
    for _ in range(2):
        assert c.read("schema") == where
    with open(t.path("psql.log")) as f:
        said = f.read().splitlines()
    assert said[:2] == [f"psql -q{option} {where.decode()}" for option in ("f schema.sql", "f truncate.sql")], said


@runs("libfixd-preload.8 EXAMPLES 1", "README Quick start 1")
@once
def test_runs(t):
    t.write("wordnet/noun", "apple\n")
    t.write("data/corpus.bin", "apple\n")
    os.chmod(t.write("seed-database", "#!/bin/sh\ntouch $1/rows\n"), 0o755)
    t.write("Makefile", "check:\n\ttest -e tests/data/db/rows\n\tgrep -q apple tests/data/dict/noun\n\techo x >tests/data/dict/noun\n")
    perform(t, steps("libfixd-preload.8 EXAMPLES 1"), environment(t), [("/usr/share/wordnet", t.path("wordnet"))], whole=False)
    t.write("Makefile", "check:\n\tgrep -q apple tests/data/corpus.bin\n\techo x >tests/data/corpus.bin\n")
    perform(t, steps("README Quick start 1"), environment(t), whole=False)
    with open(t.path("wordnet/noun")) as tree, open(t.path("data/corpus.bin")) as file:
        assert tree.read() == file.read() == "apple\n"


ATTACHES = """#include <err.h>
#include <fixd.h>
#include <string.h>
static void test(void *index, size_t size)
{
	if (size != 6 || memcmp(index, "banana", 6))
		errx(1, "it is another index");
	memset(index, 'x', size);
}
static void all(void)
{
%s}
int main(void) { all(); }
"""


@runs("README Quick start 2", "README Quick start 3", "fixd.8 EXAMPLES 1")
@once
def test_daemons(t):
    t.write("data/corpus.bin", "apple\nbanana")
    os.chmod(t.write("build-index", '#!/bin/sh\ntail -n 1 "$1"\n'), 0o755)
    program = t.program("test", ATTACHES % text("README Quick start 3"), "-Wall", "-Wextra", "-Werror")
    said = perform(t, [*steps("README Quick start 2"), [program, []]], environment(t), [("/tmp/fixd.sock", t.path("socket"))], whole=False)
    assert "index: ready after" in said["fixctl warm"] and "corpus" in said["fixctl status"], said
    t.write("tests/fixd.ini", "[fixture words]\ncommand = echo apple\n")
    t.write("Makefile", "check:\n\tfixctl get words | grep -q apple\n")
    perform(t, steps("fixd.8 EXAMPLES 1"), environment(t), [("/tmp/p.sock", t.path("p.sock"))], whole=False)


@runs("adapters/README Adapters 3")
@once
def test_adapters(t):
    """As they are installed: what its examples need is pkg-config and make."""
    adapters.need("pkg-config")
    env = environment(t)
    shutil.copytree(adapters.ADAPTERS, t.dir, dirs_exist_ok=True)
    subprocess.run(["chmod", "-R", "u+w", t.dir], check=True)
    lines = [[line, []] for line in text("adapters/README Adapters 3").splitlines()]
    said = perform(t, lines, env, [("/tmp/words", t.path("socket"))], whole=False)
    assert any("legacy.sh" in out for out in said.values()), said


def layout(lines):
    """As struct has it: the format, and the names, of "u16 type  what it is" or "u32 1, u32 flags"."""
    parts = [re.match(r"(u16|u32|u64) (\w+)", part) for line in lines for part in line.split(", ")]
    fields = [f for f in parts if f]
    return "<" + "".join({"u16": "H", "u32": "I", "u64": "Q"}[f[1]] for f in fields), [f[2] for f in fields]


@runs("fixd-protocol.7 Header 1", "fixd-protocol.7 The channel of an offer 1")
@once
def test_the_protocol(t):
    """A client that knows only the page publishes what it has built, and then says why it cannot."""
    if not shutil.which("xxhsum"):
        raise Skip("xxhsum is not installed")
    form, names = layout(text("fixd-protocol.7 Header 1").splitlines())
    assert (form, tuple(names)) == wire.FIELDS["header"][:2]
    publish, give_up = [layout([line])[0] for line in text("fixd-protocol.7 The channel of an offer 1").splitlines()]
    d = t.daemon("[fixture mine]\nclient = yes\n[fixture other]\nclient = yes\n")
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.settimeout(LIMIT)
    s.connect(d.socket)
    s.send(request("hello", version=wire.VERSION, lowest=wire.VERSION))
    for fd in socket.recv_fds(s, 65536, 8)[1]:
        os.close(fd)

    def offer(name):
        s.send(request("attach", flags=2, timeout_ms=1000, name=name))
        _, (fd,), _, _ = socket.recv_fds(s, 65536, 8)
        channel = socket.socket(fileno=fd)
        channel.settimeout(LIMIT)
        return channel
    memory = os.memfd_create("mine", os.MFD_ALLOW_SEALING)
    os.write(memory, b"apple")
    os.fchmod(memory, 0o444)
    fcntl.fcntl(memory, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE)
    digest = subprocess.run(["xxhsum", "-H2"], input=b"apple", capture_output=True, check=True).stdout.split()[0]
    with offer(b"mine") as channel:
        socket.send_fds(channel, [struct.pack(publish, 1, 0, 5, int(digest[16:], 16), int(digest[:16], 16))], [memory])
        data, fds, _, _ = socket.recv_fds(channel, 65536, 8)
        assert struct.unpack("<iI", data[:8]) == (0, 0) and len(fds) == 1, data
    for fd in memory, *fds:
        os.close(fd)
    assert d.client().read("mine") == b"apple"
    with offer(b"other") as channel:
        channel.send(struct.pack(give_up, 2, 3) + b"why")
        assert struct.unpack("<iI", channel.recv(65536)[:8])[0] == 0
    s.close()
    assert d.instance("other")["error"] == "why", d.instance("other")


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
