#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The adapters' examples, each with its framework, its fixture, and without a daemon."""

import json
import os
import shutil
import subprocess
import sys

from stage import Skip, environment, main, program
from harness import BUILD, LIMIT, SANITIZERS, SRC
from manual import runs
from recipes import check_suite

ADAPTERS = os.path.join(SRC, "contrib", "adapters")
EXAMPLES = os.path.join(ADAPTERS, "examples")


def modes():
    yield "adapters", []


def example(t):
    """A copy of the examples, and a daemon for them."""
    shutil.copytree(os.path.join(SRC, "contrib", "adapters"), t.path("contrib/adapters"))
    subprocess.run(["chmod", "-R", "u+w", t.path("contrib")], check=True)
    home = t.path("contrib/adapters/examples")
    with open(home + "/fixd.ini") as f:
        return home, t.daemon(f"[fixd]\nroot = {home}\n" + f.read())


def pkg_config(t):
    """As it would be installed."""
    t.write("pc/fixd.pc", f"Name: fixd\nDescription: fixd\nVersion: 0\nLibs: -L{BUILD}/.libs -Wl,-rpath,{BUILD}/.libs -lfixd\n"
            f"Cflags: -I{SRC}/include -I{ADAPTERS}\n")
    return t.path("pc")


def prefix(t):
    """The same for CMake, which looks below a directory."""
    for directory in ("include", "lib", "share/cmake/fixd"):
        os.makedirs(t.path("prefix/" + directory))
    for header in ("fixd.h", "fixd-builder.h"):
        os.symlink(f"{SRC}/include/{header}", t.path("prefix/include/" + header))
    os.symlink(os.path.join(ADAPTERS, "fixd"), t.path("prefix/include/fixd"))
    for library in ("fixd", "fixd-free", "fixd-builder"):
        for name in (f"lib{library}.so", f"lib{library}.so.0"):
            os.symlink(f"{BUILD}/.libs/{name}", t.path("prefix/lib/" + name))
    for where, name in ((SRC, "FixdFixtures.cmake"), (SRC, "FixdForkTests.cmake"), (SRC, "fixd-config.cmake"), (BUILD, "fixd-config-version.cmake")):
        shutil.copyfile(f"{where}/contrib/cmake/{name}", t.path("prefix/share/cmake/fixd/" + name))
    return t.path("prefix")


def tools(t, daemon=None):
    env = environment(PKG_CONFIG_PATH=pkg_config(t), PATH=BUILD + ":" + os.environ["PATH"], TMPDIR=t.dir)
    if SANITIZERS:
        env["ASAN_OPTIONS"] = "detect_leaks=0:verify_asan_link_order=0"
    # The example's make is no part of the one that runs this.
    for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL", "CC"):
        env.pop(name, None)
    env["FIXD_SOCKET"] = daemon.socket if daemon else t.path("nobody")
    return env


def run(command, env, cwd, code=0):
    done = subprocess.run(command, env=env, cwd=cwd, capture_output=True, timeout=LIMIT * 3)
    out = (done.stdout + done.stderr).decode(errors="replace")
    assert code is None or done.returncode == code, f"{command}: {done.returncode}, not {code}\n{out}"
    return out


def blames(t, daemon, home, source):
    """FIXD_BLAME names the line in which a test of it scribbles."""
    if SANITIZERS or subprocess.run([sys.executable, "-c", "import ctypes; ctypes.CDLL('libdw.so.1')"], capture_output=True).returncode:
        return
    with open(os.path.join(home, source)) as f:
        line = [number for number, text in enumerate(f, 1) if "memset(" in text][0]
    out = run(["./suite"], {**tools(t, daemon), "FIXD_BLAME": "1"}, home)
    assert f"/{source}:{line} in " in out and "'words': 20 bytes at offset 0x0, \"apple\\nbanana\\nche\"... became \"xxxx" in out.replace(" is changed", ""), out


def framework(t, header, libraries, said, source=None, flags=(), failed=1, changed=()):
    name = os.path.basename(header).split(".")[0]
    source = source or name + ".c"
    compiler = "g++" if source.endswith(".cc") else "gcc"
    if subprocess.run([compiler, "-E", "-x", "c++" if compiler == "g++" else "c", "-"], input=f"#include <{header}>\n".encode() if header else b"",
                      capture_output=True).returncode:
        raise Skip(f"<{header}> is not installed")
    home, daemon = example(t)
    sanitizers = ["-fsanitize=" + s for s in SANITIZERS]
    run([compiler, "-g", "-Wall", "-Werror", *sanitizers, *flags, "-o", "suite", source, "-I", "..", "-I", SRC + "/include", "-L", BUILD + "/.libs", "-lfixd",
         "-Wl,-rpath," + BUILD + "/.libs", *libraries], environment(), home)
    for more in ({}, {"CK_FORK": "no"}):
        out = run(["./suite"], {**tools(t, daemon), **more}, home)
        assert said in out, out
    blames(t, daemon, home, source)
    report = json.loads(daemon.ctl("report", "--format=json").out)
    assert [c["test"] for c in report["changed_by"] if not c["test"].startswith("pid ")] == list(changed), report["changed_by"]
    out = run(["./suite"], {**tools(t), **({"CK_FORK": "no"} if name == "check" else {})}, home, failed)
    assert "no daemon at" in out, out


def test_check(t):
    framework(t, "check.h", ["-lcheck", "-lsubunit", "-lm", "-lrt", "-lpthread"], "100%: Checks: 2, Failures: 0, Errors: 0")


def test_cmocka(t):
    framework(t, "", ["-lcmocka"], "[  PASSED  ] 2 test(s).", source="cmocka.c", failed=2, changed=["scribbles"])


def test_criterion(t):
    if SANITIZERS:
        raise Skip("Criterion's own processes leak")
    framework(t, "criterion/criterion.h", ["-lcriterion"], "Tested: 2 | Passing: 2 | Failing: 0 | Crashing: 0")


def test_googletest(t):
    framework(t, "gtest/gtest.h", ["-lgtest", "-lgtest_main", "-lpthread"], "[  PASSED  ] 2 tests.", source="gtest.cc", changed=["Words.Scribbles"])


def test_catch2(t):
    if SANITIZERS:
        raise Skip("version 2 is in the suite itself, which takes long to compile")
    v3 = os.path.exists("/usr/include/catch2/catch_test_macros.hpp")
    framework(t, "catch2/catch_all.hpp" if v3 else "catch2/catch.hpp", ["-lCatch2Main", "-lCatch2"] if v3 else [], "All tests passed (2 assertions in 2 test cases)",
              source="catch2.cc", flags=["-g1", "-DCATCH_CONFIG_DISABLE_MATCHERS"], failed=None, changed=["scribbles"])


def test_doctest(t):
    framework(t, "doctest/doctest.h", [], "2 passed | 0 failed", source="doctest.cc", changed=["scribbles"])


def test_boost(t):
    framework(t, "boost/test/unit_test.hpp", ["-lboost_unit_test_framework"], "*** No errors detected", source="boost.cc", failed=201, changed=["words/scribbles"])


BROKEN = r"""
#include <fixd/gtest.h>
class Own : public FixdTest { protected: void TearDown() override {} };
TEST_F(Own, Scribbles) { get<char>("words")[0] = 'Z'; }
TEST_F(Own, IsPristine) { EXPECT_EQ(get<char>("words")[0], 'a'); }
TEST_F(Own, Broken) { EXPECT_NE(get<char>("broken"), nullptr); }
TEST_F(Own, Other) { EXPECT_EQ(1, 1); }
"""


def one_is_broken(t, header):
    """A daemon that can build the one fixture and not the other."""
    if not os.path.exists("/usr/include/" + header):
        raise Skip(f"<{header}> is not installed")
    home, daemon = example(t)
    daemon.configure("[fixture words]\ncommand = echo apple\n[fixture broken]\ncommand = exit 3\n")
    daemon.ctl("reload")
    return home, daemon


def broken_googletest(t, *flags):
    """What a program of BROKEN says."""
    home, daemon = one_is_broken(t, "gtest/gtest.h")
    run(["g++", *flags, *("-fsanitize=" + s for s in SANITIZERS), "-o", "broken", t.write("broken.cc", BROKEN), "-I", "..", "-I", SRC + "/include",
         "-L", BUILD + "/.libs", "-lfixd", "-Wl,-rpath," + BUILD + "/.libs", "-lgtest", "-lgtest_main", "-lpthread"], environment(), home)
    return run(["./broken", "--gtest_output=xml:" + t.path("out.xml")], tools(t, daemon), home, 1)


def test_googletest_goes_on(t):
    """A fixture that cannot be built fails its tests and no others; a TearDown() of the class's own loses nothing."""
    out = broken_googletest(t)
    assert "[  PASSED  ] 3 tests." in out and "fixture 'broken' cannot be built: the command exited with status 3" in out, out
    with open(t.path("out.xml")) as f:
        assert 'tests="4" failures="1"' in f.read()


def test_googletest_without_exceptions(t):
    """Nothing but the end of the program can leave the test, and the report is written before."""
    out = broken_googletest(t, "-fno-exceptions")
    assert "fixture 'broken' cannot be built: the command exited with status 3" in out, out
    with open(t.path("out.xml")) as f:
        report = f.read()
    assert 'name="IsPristine"' in report and "fixture &apos;broken&apos; cannot be built" in report and report.endswith("</testsuites>\n"), report


ANY_ORDER = {
    "helper.cc": '#include <fixd/test.h>\nchar *helped() { return static_cast<char *>(fixd_test("broken")); }\n',
    "tests.cc": r"""
#include <fixd/test.h>
#include <fixd/gtest.h>
char *helped();
class Own : public FixdTest {};
TEST_F(Own, Broken) { EXPECT_NE(get<char>("broken"), nullptr); }
TEST_F(Own, Helped) { EXPECT_NE(helped(), nullptr); }
TEST_F(Own, Other) { EXPECT_EQ(get<char>("words")[0], 'a'); }
"""}


def test_headers_in_any_order(t):
    """A file that has no framework does what the framework of its program does."""
    home, daemon = one_is_broken(t, "gtest/gtest.h")
    sanitizers = ["-fsanitize=" + s for s in SANITIZERS]
    for name, text in ANY_ORDER.items():
        run(["g++", *sanitizers, "-Wall", "-Wextra", "-Werror", "-c", "-o", t.path(name + ".o"), t.write(name, text), "-I", "..", "-I", SRC + "/include"], environment(), home)
    for names in (["helper.cc", "tests.cc"], ["tests.cc", "helper.cc"]):
        run(["g++", *sanitizers, "-o", "any", *(t.path(name + ".o") for name in names), "-L", BUILD + "/.libs", "-lfixd", "-Wl,-rpath," + BUILD + "/.libs", "-lgtest",
             "-lgtest_main", "-lpthread"], environment(), home)
        out = run(["./any"], tools(t, daemon), home, 1)
        assert "[  PASSED  ] 1 test." in out and out.count("fixture 'broken' cannot be built: the command exited with status 3") == 2, out


BEFORE_A_TEST = r"""
#include <fixd/cunit.h>
#include <CUnit/Basic.h>
static char *words;
static int begin(void) { words = fixd_test("broken"); return 0; }
static void set_up(void) { fixd_cunit_begin(); words = fixd_test("broken"); }
static void uses(void) { CU_ASSERT_EQUAL(words[0], 'a'); }
static void other(void) { CU_ASSERT_EQUAL(*(char *)fixd_test("words"), 'a'); }
int main(void)
{
	CU_pSuite suite;
	CU_initialize_registry();
	suite = CU_add_suite_with_setup_and_teardown("setup", NULL, fixd_cunit_end, set_up, fixd_test_reset);
	CU_add_test(suite, "one", uses);
	suite = CU_add_suite_with_setup_and_teardown("suite", begin, fixd_cunit_end, fixd_cunit_begin, fixd_test_reset);
	CU_add_test(suite, "two", uses);
	CU_add_test(suite, "three", uses);
	suite = CU_add_suite_with_setup_and_teardown("good", NULL, fixd_cunit_end, fixd_cunit_begin, fixd_test_reset);
	CU_add_test(suite, "four", other);
	CU_basic_set_mode(CU_BRM_VERBOSE);
	CU_basic_run_tests();
	CU_basic_run_tests();
	return (int)CU_get_number_of_tests_failed();
}
"""


def test_cunit_before_a_test(t):
    """Where CUnit cannot leave what it runs: the tests that come after fail, each time, and others go on."""
    home, daemon = one_is_broken(t, "CUnit/CUnit.h")
    sanitizers = ["-fsanitize=" + s for s in SANITIZERS]
    run(["gcc", *sanitizers, "-o", "suite", t.write("before.c", BEFORE_A_TEST), "-I", "..", "-I", SRC + "/include", "-L", BUILD + "/.libs", "-lfixd",
         "-Wl,-rpath," + BUILD + "/.libs", "-lcunit"], environment(), home)
    out = run(["./suite"], tools(t, daemon), home, 3)
    assert out.count("tests      4      4      1      3") == 2 and out.count("fixture 'broken' cannot be built: the command exited with status 3") == 6, out


def test_boost_outside_of_a_test(t):
    """The fixture of a suite or of the module is one of fixd, too."""
    if not os.path.exists("/usr/include/boost/test/unit_test.hpp"):
        raise Skip("<boost/test/unit_test.hpp> is not installed")
    home, daemon = example(t)
    sanitizers = ["-fsanitize=" + s for s in SANITIZERS]
    daemon.configure("[fixture words]\ncommand = echo apple\n")
    daemon.ctl("reload")
    run(["g++", *sanitizers, "-o", "suite", t.write("global.cc", r"""
#define BOOST_TEST_MODULE all
#define BOOST_TEST_DYN_LINK
#include <fixd/boost.h>
struct Global : FixdTest { void setup() { BOOST_REQUIRE_EQUAL(get<char>("words")[0], 'a'); } };
BOOST_TEST_GLOBAL_FIXTURE(Global);
BOOST_AUTO_TEST_CASE(other) { BOOST_TEST(true); }
"""), "-I", "..", "-I", SRC + "/include", "-L", BUILD + "/.libs", "-lfixd", "-Wl,-rpath," + BUILD + "/.libs", "-lboost_unit_test_framework"], environment(), home)
    assert "*** No errors detected" in run(["./suite"], tools(t, daemon), home)


def test_other_frameworks_go_on(t):
    """The tests that need a fixture that cannot be built fail, and say why; nothing ends."""
    home, daemon = example(t)
    daemon.configure("[fixture words]\ncommand = exit 3\n")
    daemon.ctl("reload")
    sanitizers = ["-fsanitize=" + s for s in SANITIZERS]
    for source, header, libraries, summary in (("check.c", "check.h", ["-lcheck", "-lsubunit", "-lm", "-lrt", "-lpthread"], "0%: Checks: "),
                                               ("cmocka.c", "cmocka.h", ["-lcmocka"], "2 FAILED TEST(S)"),
                                               ("cunit.c", "CUnit/CUnit.h", ["-lcunit"], "tests      2      2      0      2")):
        if not os.path.exists("/usr/include/" + header):
            continue
        run(["gcc", *sanitizers, "-o", "suite", source, "-I", "..", "-I", SRC + "/include", "-L", BUILD + "/.libs", "-lfixd", "-Wl,-rpath," + BUILD + "/.libs",
             *libraries], environment(), home)
        for more in ({}, {"CK_FORK": "no"}):
            out = run(["./suite"], {**tools(t, daemon), **more}, home, None)
            assert summary in out and "fixture 'words' cannot be built: the command exited with status 3" in out, out


TWO_CASES = r"""
#include <fixd/check.h>
START_TEST(good) { fixd_test("words"); } END_TEST
START_TEST(bad) { fixd_test("broken"); } END_TEST
int main(void)
{
	Suite *suite = suite_create("all");
	TCase *a = tcase_create("a"), *b = tcase_create("b");
	SRunner *runner = srunner_create(suite);
	tcase_add_fixd(a, "words");
	tcase_add_test(a, good);
	tcase_add_fixd(b, "words");
	tcase_add_fixd(b, "broken");
	tcase_add_test(b, bad);
	tcase_add_test(b, good);
	suite_add_tcase(suite, a);
	suite_add_tcase(suite, b);
	srunner_run_all(runner, CK_VERBOSE);
	return srunner_ntests_failed(runner);
}
"""
OWN_TEARDOWN = r"""
#include <fixd/cmocka.h>
static int prepare(void **state) { *state = fixd_test("words"); return 0; }
static int cleans(void **state) { (void)state; return 0; }
static int cannot(void **state) { (void)state; return 1; }
static void scribbles(void **state) { assert_ptr_equal(*state, fixd_test("words")); memset(*state, 'x', 5); }
static void pristine(void **state) { (void)state; assert_memory_equal(fixd_test("words"), "apple", 5); }
static void has_own(void **state) { assert_string_equal(*state, "mine"); }
static void skips(void **state) { (void)state; memset(fixd_test("words"), 'x', 5); skip(); }
int main(void)
{
	static char mine[] = "mine";
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(scribbles, prepare, cleans), cmocka_unit_test(pristine), cmocka_unit_test_prestate(has_own, mine),
		cmocka_unit_test_setup(scribbles, prepare), cmocka_unit_test(skips), cmocka_unit_test(pristine), fixd_unit_test(scribbles),
		cmocka_unit_test_setup_teardown(has_own, cannot, cleans), cmocka_unit_test_setup_teardown(scribbles, prepare, cannot), cmocka_unit_test(pristine),
	};
	return fixd_run_group_tests(tests, NULL, NULL);
}
"""
NAMES = r"""
#include <fixd/test.h>
#include <string>
int main()
{
	std::string name = "words";
	void *there = fixd_test(name.c_str());
	name = "other";
	return !strncmp((char *)fixd_test(name.c_str()), "other", 5) && fixd_test("words") == there ? 0 : 1;
}
"""


def suite_of(t, home, text, *libraries):
    """A suite of its own, with its sanitizers."""
    compiler, name = ("g++", "own.cc") if "std::" in text else ("gcc", "own.c")
    run([compiler, "-Wall", "-Wextra", "-Werror", *["-fsanitize=" + s for s in SANITIZERS], "-o", "own", t.write(name, text), "-I", ADAPTERS, "-I", SRC + "/include",
         "-L", BUILD + "/.libs", "-lfixd", "-Wl,-rpath," + BUILD + "/.libs", *libraries], environment(), home)


def test_check_goes_on_in_other_cases(t):
    """What one case has asked for is not what another one needs."""
    if not os.path.exists("/usr/include/check.h"):
        raise Skip("<check.h> is not installed")
    home, daemon = example(t)
    daemon.configure("[fixture words]\ncommand = echo apple\n[fixture broken]\ncommand = exit 3\n")
    daemon.ctl("reload")
    suite_of(t, home, TWO_CASES, "-lcheck", "-lsubunit", "-lm", "-lrt", "-lpthread")
    for more in ({}, {"CK_FORK": "no"}):
        out = run(["./own"], {**tools(t, daemon), **more}, home, 1)
        assert "66%: Checks: 3, Failures: 1, Errors: 0" in out and "fixture 'broken' cannot be built: the command exited with status 3" in out, out


def test_cmocka_with_a_teardown_of_its_own(t):
    """A test that has one, or none, is followed by a reset all the same."""
    if not os.path.exists("/usr/include/cmocka.h"):
        raise Skip("<cmocka.h> is not installed")
    home, daemon = example(t)
    suite_of(t, home, OWN_TEARDOWN, "-lcmocka")
    out = run(["./own"], tools(t, daemon), home, None)
    for line in ("[  SKIPPED ] skips", "[  ERROR   ] has_own", "[       OK ] pristine"):
        assert line in out, out
    assert out.count("[       OK ] pristine") == 3 and "[  FAILED  ] pristine" not in out, out
    report = json.loads(daemon.ctl("report", "--format=json").out)
    assert {c["test"] for c in report["changed_by"]} == {"scribbles", "skips"}, report["changed_by"]


def test_names_that_do_not_stay(t):
    """A name that was put together for the call is copied."""
    need("g++")
    home, daemon = example(t)
    daemon.configure("[fixture words]\ncommand = echo apple\n[fixture other]\ncommand = echo other\n")
    daemon.ctl("reload")
    suite_of(t, home, NAMES)
    run(["./own"], tools(t, daemon), home)


CONTAINER = r"""
#include <fixd-builder.h>
#include <map>
#include <string>
using words = std::map<std::string, std::string>;
extern "C" int fixd_build(struct fixd_builder *b)
{
	auto *w = new words;
	for (int i = 0; i < 1000; i++)
		(*w)["a key that is too long for the object itself " + std::to_string(i)] = "and a value that is that, too " + std::to_string(i);
	fixd_set_root(b, w);
	return 0;
}
"""
CHANGES = r"""
#include <fixd.h>
#include <map>
#include <string>
using words = std::map<std::string, std::string>;
int main()
{
	struct fixd *f;
	struct fixd_view *v;
	struct fixd_options o = {};
	o.size = sizeof o;
	o.flags = FIXD_COW;
	if (fixd_open(&f, nullptr) < 0 || fixd_attach(f, "words", &o, &v) < 0)
		return 2;
	for (int i = 0; i < 3; i++) {
		auto *w = static_cast<words *>(fixd_view_root(v));
		if (w->size() != 1000)
			return 3;
		for (int k = 0; k < 500; k++) {
			w->erase(w->begin());
			w->begin()->second += " with more, and so much more that it has to be moved elsewhere";
			(*w)["new " + std::to_string(k)] = "value";
		}
		w->clear();
		if (fixd_view_reset(v) <= 0)
			return 4;
	}
	fixd_detach(v);
	fixd_close(f);
	return 0;
}
"""


def test_containers_in_views(t):
    """Are changed and destroyed like any, with what pkg-config says to link."""
    if SANITIZERS:
        raise Skip("the address sanitizer has a malloc of its own inside")
    so, changes = t.path("words.so"), t.path("changes")
    libraries = ["-L", BUILD + "/.libs", "-Wl,-rpath," + BUILD + "/.libs"]
    run(["g++", "-shared", "-fPIC", "-o", so, t.write("words.cc", CONTAINER), "-I", SRC + "/include", *libraries, "-lfixd-builder"], environment(), t.dir)
    with open(os.path.join(SRC, "src/client/fixd.pc.in")) as f:
        said = [line for line in f if line.startswith("Libs: ")][0].split()[2:]
    daemon = t.daemon(f"[fixture words]\nplugin = {so}\nmalloc = arena\n")
    for more in ([], ["-l:libjemalloc.so.2"], ["-no-pie"]):
        run(["g++", "-o", changes, t.write("changes.cc", CHANGES), "-I", SRC + "/include", *libraries, *said, *more], environment(), t.dir)
        run([changes], {**environment(), "FIXD_SOCKET": daemon.socket}, t.dir)


def test_cunit(t):
    framework(t, "CUnit/CUnit.h", ["-lcunit"], "asserts      3      3      3      0", source="cunit.c", changed=["scribbles"])


def need(name):
    if not shutil.which(name):
        raise Skip(f"{name} is not installed")
    if SANITIZERS:
        raise Skip("the example is built without a sanitizer")


def test_make_check(t):
    need("pkg-config")
    home, daemon = example(t)
    out = run(["make", "check"], tools(t, daemon), home)
    assert out.count("plain") >= 2
    out = run(["make", "check"], tools(t), home, 2)
    assert "Error 99" in out, out
    env = tools(t)
    del env["FIXD_SOCKET"]
    run(["make", "-B"], env, home, 2)
    run(["fixctl", "run", "--config", "fixd.ini", "--fixture", "words", "--", "make", "-B", "check"], env, home)
    assert not os.path.exists(home + "/words.txt")


def test_meson(t):
    need("meson")
    need("ninja")
    home, daemon = example(t)
    env = tools(t, daemon)
    run(["meson", "setup", "build"], env, home)
    out = run(["meson", "test", "-C", "build"], env, home)
    assert "Ok:                 4" in out, out
    assert daemon.instance("server")["clones"]["given"] == 2
    # No fixture is an error, which is not the test's failure.
    daemon.configure("[fixture words]\ncommand = false\npath = words.txt\n")
    daemon.ctl("reload")
    out = run(["meson", "test", "-C", "build", "--no-rebuild"], env, home, None)
    assert "exit status 99" in out and out.count("ERROR") >= 2, out


def test_commands_of_ctest(t):
    """Each argument is the command's as it stands."""
    need("cmake")
    t.write("p/CMakeLists.txt", "cmake_minimum_required(VERSION 3.18)\nproject(p NONE)\nenable_testing()\nfind_package(Fixd REQUIRED)\n"
            'fixd_add_test(NAME a COMMAND sh -c "echo one; echo two" x "a;b c" WITH pg)\n')
    run(["cmake", "-S", ".", "-B", "build", "-DCMAKE_PREFIX_PATH=" + prefix(t), "-DFIXCTL=" + program("fixctl")], environment(), t.path("p"))
    with open(t.path("p/build/CTestTestfile.cmake")) as f:
        line = next(line for line in f if line.startswith("add_test("))
    assert line.endswith(' "with" "pg" "--" "sh" "-c" "echo one; echo two" "x" "a;b c")\n'), line


def test_ctest(t):
    need("cmake")
    home, daemon = example(t)
    env = tools(t, daemon)
    run(["cmake", "-S", ".", "-B", "build", "-DCMAKE_PREFIX_PATH=" + prefix(t)], env, home)
    run(["cmake", "--build", "build"], env, home)
    out = run(["ctest", "--test-dir", "build"], env, home)
    forks = os.path.exists(home + "/build/forks")
    assert f"100% tests passed, 0 tests failed out of {13 if forks else 7}" in out, out
    if forks:
        xml = sorted(os.listdir(home + "/build/xml"))
        assert xml[:2] == ["Index.CanBeRuined.xml", "Index.FindsAWord.xml"] and len(xml) == 5, xml
        where = daemon.instance("forks")
        with open(where["dir"] + "/prepared") as f:
            assert int(f.read()) == where["service_pid"] and where["generation"] == 1, where
    words = daemon.instances()["words"]
    assert words["size"] is None and words["stale_cause"] == "cleaned up", words
    # At the same time, with two servers for three tests, which all ruin theirs.
    out = run(["ctest", "--test-dir", "build", "-j", "3", "-R", "^own"], env, home)
    assert "0 tests failed" in out and daemon.instance("server")["clones"]["given"] == 6, out
    # CTest builds the fixture of one test.
    out = run(["ctest", "--test-dir", "build", "-R", "^plain$"], env, home)
    assert "fixd.warm.words" in out and "legacy" not in out, out
    daemon.configure("[fixture words]\ncommand = false\npath = words.txt\n")
    daemon.ctl("reload")
    out = run(["ctest", "--test-dir", "build"], env, home, 8)
    assert "fixd.warm.words" in out and "Not Run" in out, out


BASE = r"""
#include <cstdlib>
#define FIXD_TEST_NOT_PRISTINE(message) abort()
#include <fixd/cxx.h>
struct Base : public FixdScope {
	Base() : FixdScope("a test") {}
	char *words() { return get<char>("words"); }
};
char *scribble();
"""
FIRST = """
#include "base.h"
char *scribble()
{
	Base test;
	memset(test.words(), 'x', 5);
	return test.words();
}
"""
SECOND = """
#include "base.h"
int main()
{
	char *there = scribble();
	Base test;
	return test.words() != there || fixd_test("words") != there || memcmp(there, "apple", 5) != 0;
}
"""


def test_a_class_of_several_files(t):
    """In a header, with all that gcc has to say of it: it has the same views in all of them."""
    need("g++")
    daemon = t.daemon("[fixture words]\ncommand = echo apple\n")
    t.write("base.h", BASE)
    files = [t.write("first.cc", FIRST), t.write("second.cc", SECOND)]
    for level in "-O0", "-O2":
        run(["g++", "-Wall", "-Wextra", "-Werror", level, "-o", "two", *files, "-I", SRC + "/include", "-I", ADAPTERS, "-L", BUILD + "/.libs",
             "-Wl,-rpath," + BUILD + "/.libs", "-lfixd"], environment(), t.dir)
        run(["./two"], {**environment(), "FIXD_SOCKET": daemon.socket}, t.dir)


@runs("fixd-recipes.7 C *")
def test_the_recipe_for_c(t):
    need("pkg-config")
    check_suite(t, "C", tools(t))


@runs("fixd-recipes.7 C++ and CTest *")
def test_the_recipe_for_cxx_and_ctest(t):
    need("cmake")
    if not os.path.exists("/usr/include/gtest/gtest.h"):
        raise Skip("GoogleTest is not installed")
    check_suite(t, "C++ and CTest", {**tools(t), "CMAKE_PREFIX_PATH": prefix(t)})


@runs("fixd-recipes.7 Meson *")
def test_the_recipe_for_meson(t):
    need("meson")
    check_suite(t, "Meson", tools(t), ["C"])


if __name__ == "__main__":
    main(sys.modules[__name__], modes)
