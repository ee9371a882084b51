#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""FIXD_BLAME: who changed a fixture, by the line of the source."""

import json
import os
import re
import subprocess
import sys

from stage import Skip, environment, main
from harness import BUILD, LIMIT, SANITIZERS, SRC, wait_for

SOURCES = os.path.join(SRC, "tests", "blame")
LIBRARIES = ["-L", BUILD + "/.libs", "-Wl,-rpath," + BUILD + "/.libs", "-lfixd"]
FREE = ["-Wl,--push-state,--no-as-needed", "-lfixd-free", "-Wl,--pop-state"]
WORDS = r"""
#include <fixd-builder.h>
#include <map>
#include <string>
extern "C" int fixd_build(struct fixd_builder *b)
{
	auto *w = new std::map<std::string, std::string>;
	for (int i = 0; i < 1000; i++)
		(*w)["a key that is too long for the object itself " + std::to_string(i)] = "value";
	fixd_set_root(b, w);
	return 0;
}
"""


def modes():
    yield "blame", []


def run(command, cwd, env=None, code=0):
    done = subprocess.run(command, cwd=cwd, env=env or environment(), capture_output=True, timeout=LIMIT * 3)
    out = (done.stdout + done.stderr).decode(errors="replace")
    assert code is None or done.returncode == code, f"{command}: {done.returncode}, not {code}\n{out}"
    return out


def marked(*sources):
    """Of each test that leaks, the file and line that write first: those of its mark."""
    lines = {}
    for source in sources:
        test = None
        with open(os.path.join(SOURCES, source)) as f:
            for number, line in enumerate(f, 1):
                begins = re.match(r"(?:LEAK\(|static void )(\w+)\(?", line)
                test = begins.group(1) if begins else test
                mark = re.search(r"/[/*] writes(?:: (\w+))?", line)
                if mark:
                    lines[mark.group(1) or test] = f"{source}:{number}"
    return lines


def named(out):
    """What the reports in `out` say: of each test the lines that wrote first."""
    found, test = {}, None
    for line in out.splitlines():
        begins = re.match(r"fixd: test '(\w+)' changed '", line)
        test = begins.group(1) if begins else test
        writer = re.match(r"fixd:   first written at (?:\S*/)?(\S+:\d+) in ", line)
        if writer:
            found.setdefault(test, set()).add(writer.group(1))
    return found


def daemon_of(t):
    """Bytes of every value, numbers, and with a compiler of C++ a map."""
    with open(t.path("bytes"), "wb") as f:
        f.write(bytes(range(256)) * 256)
    so = t.path("words.so")
    run(["g++", "-shared", "-fPIC", "-o", so, t.write("words.cc", WORDS), "-I", SRC + "/include", *LIBRARIES, "-lfixd-builder"], t.dir)
    return t.daemon(f"[fixture bytes]\nfile = {t.path('bytes')}\n[fixture numbers]\ncommand = head -c 32768 /dev/zero\n"
                    f"[fixture words]\nplugin = {so}\nmalloc = arena\n")


def compiled(t, source, more=(), libraries=(*LIBRARIES, *FREE)):
    program = t.path(source.split(".")[0])
    run(["g++" if source.endswith(".cc") else "gcc", "-g", "-Wall", "-o", program, os.path.join(SOURCES, source), "-I", SRC + "/contrib/adapters", "-I",
         SRC + "/include", "-I", SOURCES, *libraries, "-lpthread", *more], t.dir)
    return program


def needs_lines():
    """They are libdw's, and a sanitizer has handlers of its own."""
    if SANITIZERS:
        raise Skip("the address sanitizer has handlers of its own")
    if subprocess.run([sys.executable, "-c", "import ctypes; ctypes.CDLL('libdw.so.1')"], capture_output=True).returncode:
        raise Skip("libdw.so.1 is not installed")


def check(t, program, expected, ways=([],)):
    """`ways`: what may stand before the program."""
    env = {**environment(), "FIXD_BLAME": "1", "FIXD_SOCKET": daemon_of(t).socket}
    for way in ways:
        out = run([*way, program], t.dir, env)
        found = named(out)
        for test in sorted(set(expected) | set(found)):
            assert found.get(test, set()) == {expected.get(test)}, f"{way} {test}: {found.get(test)}, not {expected.get(test)}\n{out}"
    return out


def test_leaks_of_c(t):
    needs_lines()
    library = t.path("libsome.so")
    run(["gcc", "-g", "-shared", "-fPIC", "-o", library, SOURCES + "/library.c"], t.dir)
    out = check(t, compiled(t, "leaks.c", ["-L", t.dir, "-Wl,-rpath," + t.dir, "-lsome"]), marked("leaks.c", "library.c"))
    assert "changed 'bytes': 1 byte at offset 0x1b58, 58 became 59\n" in out, out
    assert "called from " in out and re.search(r"in thread \d+\n", out), out


def test_calls_that_write(t):
    needs_lines()
    # The shim stands in front of some of them.
    check(t, compiled(t, "calls.c"), marked("calls.c"), ([], [BUILD + "/fixctl", "run", "--isolate=shim", "--blame", "--"]))


def test_leaks_of_cxx(t):
    needs_lines()
    check(t, compiled(t, "containers.cc"), marked("containers.cc"))


def test_in_sanitized_programs(t):
    """What stands in front of libc there is not who wrote."""
    needs_lines()
    library = t.path("libsome.so")
    run(["gcc", "-shared", "-fPIC", "-o", library, SOURCES + "/library.c"], t.dir)
    socket, expected = daemon_of(t).socket, marked("leaks.c")
    for kind in ("address", "thread"):
        program = compiled(t, "leaks.c", ["-L", t.dir, "-Wl,-rpath," + t.dir, "-lsome", "-fsanitize=" + kind], LIBRARIES)
        tests = ["stores_a_byte", "fills_pages", "reads_into_it"]
        out = run([program, *tests], t.dir, {**environment(), "FIXD_BLAME": "1", "FIXD_SOCKET": socket, "ASAN_OPTIONS": "detect_leaks=0"})
        assert named(out) == {test: {expected[test]} for test in tests}, f"{kind}\n{out}"


POINTS = """
#include <fixd-builder.h>
int fixd_build(struct fixd_builder *b)
{
	char **p = fixd_alloc(b, sizeof *p);

	*p = (char *)(size_t)fixd_dep(b, "words", NULL);
	fixd_set_root(b, p);
	return 0;
}
"""
WRITES = """
#include <fixd/test.h>
int main(void)
{
	**(char **)fixd_test("points") ^= 1;
	fixd_test_reset();
	return 0;
}
"""


def test_what_objects_point_into(t):
    """Its name is not known, if nobody has attached it by that."""
    needs_lines()
    daemon = daemon_of(t)
    so, program = t.path("points.so"), t.path("writes")
    run(["gcc", "-shared", "-fPIC", "-o", so, t.write("points.c", POINTS), "-I", SRC + "/include", *LIBRARIES, "-lfixd-builder"], t.dir)
    run(["gcc", "-g", "-o", program, t.write("writes.c", WRITES), "-I", SRC + "/contrib/adapters", "-I", SRC + "/include", *LIBRARIES], t.dir)
    with open(t.path("fixd.ini"), "a") as f:
        f.write(f"[fixture points]\nplugin = {so}\ndepends = words\n")
    daemon.ctl("reload")
    said = t.path("said")
    run([program], t.dir, {**environment(), "FIXD_BLAME": "1", "FIXD_BLAME_FILE": said, "FIXD_SOCKET": daemon.socket})
    with open(said) as f:
        out = f.read()
    assert out.startswith("fixd: 'points, what it points into' is changed: 1 byte at offset 0x") and "/writes.c:5 in main()" in out, out


def described(t, *flags):
    """The plugin that describes its objects, and a program that asks what fixd_view_object() says of some."""
    if SANITIZERS:
        raise Skip("the program is not sanitized")
    so, program = t.path("words.so"), t.path("fields")
    run(["gcc", "-shared", "-fPIC", *flags, "-o", so, SOURCES + "/words.c", "-I", SRC + "/include", *LIBRARIES, "-lfixd-builder"], t.dir)
    run(["gcc", *flags, "-o", program, SOURCES + "/fields.c", "-I", SRC + "/contrib/adapters", "-I", SRC + "/include", *LIBRARIES, *FREE], t.dir)
    daemon = t.daemon("".join(f"[fixture {name}]\nplugin = {so}:{function}\n" for name, function in
                              (("words", "fixd_build"), ("plain", "plain"), ("beside", "beside"))))

    def said(*arguments, **env):
        out = run([program, *arguments], t.dir, {**environment(), **env, "FIXD_SOCKET": daemon.socket})
        return re.findall("^object: (.*)", out, flags=re.MULTILINE), out
    return daemon, said


def test_described_objects(t):
    """By the words of their plugin, and the fields of its debug info."""
    needs_lines()
    _, said = described(t, "-g")
    objects, out = said("words", "changes", FIXD_BLAME="1")
    assert objects == ["struct corpus.counts[5]", "struct word[17].places[2].column", "struct word[18].text", "struct word[99].weight"], out
    assert re.search("changed 'words': 1 byte at offset 0x[0-9a-f]+, struct word\\[17\\].places\\[2\\].column, 00 became 01\n", out), out
    objects, out = said("words", "asks")
    assert objects[:6] == ["struct corpus.words", "struct word[0].text", "struct word[3].next", "struct word[3].weight", "struct word[2].count", "root + 0x7d0"], out
    assert objects[6].endswith(" is no address of this view") and f"{len(objects[2])} struct \n" in out, out


def test_changes_that_are_watched(t):
    """The ranges are the same, whoever knows of the pages."""
    _, said = described(t)
    expected = [f"{i}: {n} bytes at {at}" for i in (0, 1) for n, at in ((10, 4090), (1, 9000), (2000, 12000))]
    for env in {}, {"FIXD_BLAME": "1"}:
        objects, out = said("plain", "ranges", **env)
        assert objects == expected, out


def test_described_without_debug_info(t):
    daemon, said = described(t)
    objects, out = said("words", "asks")
    assert objects[:5] == ["struct corpus", "struct word[0]", "struct word[3] + 0x30", "struct word[3] + 0x2a", "struct word[2] + 0xc"], out
    objects, out = said("plain", "asks")
    assert objects[0] == "root" and objects[5] == "root + 0x7d0", out
    err = daemon.ctl("warm", "beside", code=4).err
    assert re.search(r"fixd_builder_describe\(\) was given objects at 0x\w+, which are not in the image", err), err


def test_objects_by_a_variable(t):
    needs_lines()
    _, said = described(t)
    objects, out = said("plain", "asks", "variable")
    assert objects[0] == "variable" and objects[5] == "variable + 0x7d0", out


THREADS = """
#include <err.h>
#include <fixd.h>
#include <pthread.h>
static void *work(void *arg)
{
	struct fixd_options cow = { .size = sizeof cow, .flags = FIXD_COW };
	struct fixd_view *v;
	struct fixd *f;

	if (fixd_open(&f, NULL) < 0)
		errx(1, "%s", fixd_error(NULL));
	for (int i = 0; i < 300; i++) {
		if (fixd_attach(f, (const char *)arg, &cow, &v) < 0)
			errx(1, "%s", fixd_error(f));
		((char *)fixd_view_data(v))[0] ^= 1;
		((char *)fixd_view_data(v))[0] ^= 1;
		fixd_view_reset(v);
		fixd_detach(v);
	}
	fixd_close(f);
	return NULL;
}
int main(void)
{
	static char bytes[] = "bytes", words[] = "words";
	pthread_t threads[6];

	for (int i = 0; i < 6; i++)
		pthread_create(&threads[i], NULL, work, i % 2 ? words : bytes);
	for (int i = 0; i < 6; i++)
		pthread_join(threads[i], NULL);
	return 0;
}
"""


def test_threads_that_attach(t):
    """The same objects, and bytes of their own."""
    needs_lines()
    program = t.path("threads")
    run(["gcc", "-g", "-o", program, t.write("threads.c", THREADS), "-I", SRC + "/include", *LIBRARIES, "-lpthread"], t.dir)
    run([program], t.dir, {**environment(), "FIXD_SOCKET": daemon_of(t).socket, "FIXD_BLAME": "1"})


GOES = """
#include <dlfcn.h>
#include <fixd/test.h>
#include <stdlib.h>
int main(int argc, char *argv[])
{
	void *library = dlopen(argv[argc - 1], RTLD_NOW), **variable = library ? dlsym(library, "of_a_library") : NULL;
	char *words = fixd_test("words");

	if (!variable)
		abort();
	*variable = words;
	for (int i = 0; i < 2; i++) {
		fixd_test_begin(i ? "without" : "with");
		words[5] ^= 1;
		fixd_test_reset();
		if (!i)
			dlclose(library);
	}
	fixd_test_end();
	return 0;
}
"""


def test_a_library_that_goes(t):
    """Its variables are looked at while they are there."""
    needs_lines()
    program, library = t.path("goes"), t.path("libgoes.so")
    run(["gcc", "-g", "-shared", "-fPIC", "-o", library, t.write("libgoes.c", "void *of_a_library;\n")], t.dir)
    run(["gcc", "-g", "-o", program, t.write("goes.c", GOES), "-I", SRC + "/contrib/adapters", "-I", SRC + "/include", *LIBRARIES], t.dir)
    out = run([program, library], t.dir, {**environment(), "FIXD_SOCKET": daemon_of(t).socket, "FIXD_BLAME": "1"})
    assert "of_a_library + 0x5" in out and out.count("first written at") == 2, out


SUITE = """
#include <fixd/test.h>
int main(int argc, char *argv[])
{
	for (int i = 1; i < argc; i++) {
		fixd_test_begin(argv[i]);
		char *bytes = fixd_test("bytes");
		if (argv[i][0] == 'w')
			bytes[9000] ^= 1;
		fixd_test_reset();
	}
	fixd_test_end();
	return 0;
}
"""


def test_report_of_culprits(t):
    """Who changed it, in which line, and which tests had it after that: in this program, and in the next."""
    needs_lines()
    daemon, program = daemon_of(t), t.path("suite")
    run(["gcc", "-g", "-o", program, t.write("suite.c", SUITE), "-I", SRC + "/contrib/adapters", "-I", SRC + "/include", *LIBRARIES], t.dir)
    env = {**environment(), "FIXD_SOCKET": daemon.socket}
    run([program, "early", "writes"], t.dir, env)  # nobody watches
    run([program, "reads", "writes", "r2", "writes", "r3"], t.dir, {**env, "FIXD_BLAME": "1"})
    run([program, "reads", "w4"], t.dir, {**env, "FIXD_BLAME": "1"})
    line = program + ".c:9 in main()"
    expected = [{"test": "writes", "name": "bytes", "writer": line, "times": 2, "victims": ["r2", "r3", "reads", "w4"], "victim_count": 4},
                {"test": "w4", "name": "bytes", "writer": line, "times": 1, "victims": [], "victim_count": 0}]
    wait_for(lambda: json.loads(daemon.ctl("report", "--json").out)["culprits"] == expected, "the culprits")
    assert f"| writes | bytes | {line} | 2 | r2, r3, reads, w4 |\n" in daemon.ctl("report").out
    assert '<table id="culprits">' in daemon.ctl("report", "--format=html").out
    past = daemon.ctl("trace", "--past", "--once").out
    assert re.search(rf"USED +S bytes  # pid \d+ reads\n", past) and re.search(rf"USED +S bytes  # pid \d+ w4, changed at {re.escape(line)}\n", past), past


FORKS = """
#include <fixd/test.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>
static void test(const char *name)
{
	int other[2];
	if (name[1] == 'x') { /* what was inherited is something else now */
		socketpair(AF_UNIX, SOCK_SEQPACKET, 0, other);
		for (int fd = 3; fd < other[0]; fd++)
			dup2(other[0], fd);
	}
	fixd_test_begin(name);
	char *bytes = fixd_test("bytes");
	if (name[0] == 'w')
		bytes[9000] ^= 1;
	if (name[1] == 'e')
		exit(0);
	fixd_test_reset();
	if (name[1] == 'x' && recv(other[1], &other, 1, MSG_DONTWAIT) >= 0)
		abort();
}
int main(int argc, char *argv[])
{
	fixd_test("bytes");
	for (int i = 1; i < argc; i++) {
		int status = 1;
		pid_t pid = argv[i][2] == 'l' ? 0 : fork();
		if (pid == 0) {
			test(argv[i]);
			_exit(0);
		}
		if (pid < 0 || waitpid(pid, &status, 0) < 0 || status != 0)
			abort();
	}
	fixd_test_end();
	return 0;
}
"""


def test_report_of_forked_culprits(t):
    """As Check runs them: each test in a child of the process that has attached."""
    needs_lines()
    daemon, program = daemon_of(t), t.path("suite")
    run(["gcc", "-g", "-o", program, t.write("suite.c", FORKS), "-I", SRC + "/contrib/adapters", "-I", SRC + "/include", *LIBRARIES], t.dir)
    # At the end of a child that does not reset, and of the process itself, too.
    run([program, "reads", "writes", "wx", "we", "r2", "w4", "wel"], t.dir, {**environment(), "FIXD_SOCKET": daemon.socket, "FIXD_BLAME": "1"})
    (line,) = [f"{program}.c:{n} in test()" for n, text in enumerate(FORKS.splitlines(), 1) if "^=" in text]
    expected = [{"test": "writes", "name": "bytes", "writer": line, "times": 1, "victims": ["we", "r2", "w4", "wel"], "victim_count": 4},
                {"test": "we", "name": "bytes", "writer": line, "times": 1, "victims": ["r2", "w4", "wel"], "victim_count": 3},
                {"test": "w4", "name": "bytes", "writer": line, "times": 1, "victims": ["wel"], "victim_count": 1},
                {"test": "wel", "name": "bytes", "writer": line, "times": 1, "victims": [], "victim_count": 0}]
    wait_for(lambda: json.loads(daemon.ctl("report", "--json").out)["culprits"] == expected, "the culprits")
    past = daemon.ctl("trace", "--past", "--once").out
    assert len(re.findall(r"CHANGED +S bytes .* (writes|w4)\b", past)) == 2, past


FORKED = """
#include <fixd/test.h>
int main(int argc, char **argv)
{
	char *bytes = fixd_test("bytes");

	if (fixd_fork_here(&argc, &argv, NULL) < 0)
		return 2;
	bytes[100] = 1;
	fixd_test_reset();
	bytes[5000] = 1;
	fixd_test_reset();
	return 0;
}
"""


def test_fork_of_a_template(t):
    """Views that were attached before the checkpoint are watched in the forks."""
    needs_lines()
    program = t.path("forked")
    run(["gcc", "-g", "-o", program, t.write("forked.c", FORKED), "-I", SRC + "/contrib/adapters", "-I", SRC + "/include", *LIBRARIES], t.dir)
    daemon = t.daemon(f"[fixture bytes]\ncommand = head -c 8192 /dev/zero\n[fixture live]\nprocess = FIXD_BLAME=1 exec {program}\n")
    out = run([BUILD + "/fixctl", "--socket", daemon.socket, "fork", "live"], t.dir, {**environment(), "FIXD_BLAME": "1"})
    for offset, line in (("0x64", 9), ("0x1388", 11)):
        assert re.search(f"1 byte at offset {offset}, 00 became 01\nfixd:   first written at \\S*/forked.c:{line} in main", out), out


if __name__ == "__main__":
    main(sys.modules[__name__], modes)
