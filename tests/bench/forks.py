#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a fork of a template costs, against starting its program, in turn in one run."""

import os
import shutil
import statistics
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "daemon"))
import harness

ROUNDS = int(os.environ.get("ROUNDS", "60"))
CASES = int(os.environ.get("CASES", "200"))
ROW = "{:44}{:>9}{:>9}  {:34}{:>9}{:>9}{:>9}  {}"

# So many MiB of nodes, as a program has that has read something.
PROGRAM = r"""
#include <fixd.h>
#include <stdio.h>
#include <stdlib.h>

struct node {
	struct node *next;
	unsigned long hash, filler[5];
};

int main(int argc, char **argv)
{
	size_t n = strtoul(getenv("PREPARE"), NULL, 10) * (1 << 20) / 64;
	struct fixd_options cow = { .size = sizeof cow, .flags = FIXD_COW };
	struct node *list = NULL;
	struct fixd_view *v;
	struct fixd *f;

	for (size_t i = 0; i < n; i++) {
		struct node *x = malloc(sizeof *x);

		x->next = list;
		x->hash = i * 0x9e3779b97f4a7c15 ^ (list ? list->hash >> 7 : 0);
		list = x;
	}
	if (getenv("VIEW") && (fixd_open(&f, NULL) < 0 || fixd_attach(f, "bytes", &cow, &v) < 0))
		return fprintf(stderr, "%s\n", fixd_error(NULL)), 1;
	if (fixd_fork_here(&argc, &argv, NULL) < 0)
		return 1;
	printf("%lx\n", list ? list->hash : 0);
	fflush(stdout);
	return 0;
}
"""

TESTS = r"""
#include <fixd.h>
#include <gtest/gtest.h>
#include <time.h>

static void prepare()
{
	struct timespec now, begin;

	/* Work, and no sleep: two processors do not share it. */
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &begin);
	do
		clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	while ((now.tv_sec - begin.tv_sec) * 1000 + (now.tv_nsec - begin.tv_nsec) / 1000000 < 300);
}

class Case : public testing::TestWithParam<int> {};
TEST_P(Case, Holds) { EXPECT_EQ(GetParam() * 2 / 2, GetParam()); }
INSTANTIATE_TEST_SUITE_P(All, Case, testing::Range(0, CASES));

int main(int argc, char **argv)
{
	prepare();
	if (fixd_fork_here(&argc, &argv, nullptr) < 0)
		return 1;
	testing::InitGoogleTest(&argc, argv);
	return RUN_ALL_TESTS();
}
"""


def first_line(command, env):
    """Until it says something, in ms; then its end."""
    begin = time.perf_counter()
    p = subprocess.Popen(command, stdout=subprocess.PIPE, env=env)
    p.stdout.readline()
    ms = (time.perf_counter() - begin) * 1e3
    p.communicate()
    assert p.returncode == 0, command
    return ms


def quantile(values, q):
    return sorted(values)[min(len(values) - 1, int(len(values) * q))]


def row(what, ours, against, theirs, reach, more=True):
    p50 = [statistics.median(values) for values in (ours, theirs)]
    ratio = p50[1] / p50[0] if more else p50[0] / p50[1]
    print(ROW.format(what, f"{p50[0]:.1f}", f"{quantile(ours, 0.99):.1f}", against, f"{p50[1]:.1f}", f"{quantile(theirs, 0.99):.1f}",
                     f"{ratio:.2f} x", reach), flush=True)


def ctl(d, *args):
    return [harness.program("fixctl"), "--socket", d.socket, *args]


def measure_forks(t):
    program = t.program("program", PROGRAM)
    bytes_ = t.path("bytes")
    with open(bytes_, "wb") as f:
        f.truncate(1 << 30)
    env = harness.process_environment()
    sections = "".join(f"[fixture {name}]\nprocess = {what} exec {program}\n{more}\nmax-age = none\n" for name, what, more in (
        ("empty", "PREPARE=0", ""), ("heap", "PREPARE=200", ""), ("view", "PREPARE=0 VIEW=1", "depends = bytes")))
    d = t.daemon(f"[fixture bytes]\nfile = {bytes_}\n" + sections)
    d.ctl("warm", "empty", "heap", "view")
    forked = {name: [] for name in ("empty", "heap", "view")}
    started = []
    for _ in range(ROUNDS):
        for name, values in forked.items():
            values.append(first_line(ctl(d, "fork", name), env))
        if len(started) < ROUNDS // 3:
            started.append(first_line([program], {**env, "PREPARE": "200"}))
    row("a fork with 200 MB, to its first line", forked["heap"], "starting it", started, "8 ms, 50 x")
    row("the same with 1 GiB of a fixture", forked["view"], "without", forked["empty"], "at most 1.2 x", more=False)
    d.stop()


# All that is there of these, and what it takes in memory.
MODULES = "numpy", "pandas", "sqlalchemy", "django.test", "scipy.stats", "sklearn.ensemble", "sklearn.linear_model"
PYTHON = """
import importlib, resource
for name in {names}:
    importlib.import_module(name)
import fixd
fixd.checkpoint()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, flush=True)
"""


def measure_python(t):
    names = [name for name in MODULES if subprocess.run(["/usr/bin/python3", "-c", f"import {name}"], stderr=subprocess.DEVNULL).returncode == 0]
    env = {k: v for k, v in harness.process_environment().items() if k != "PYTHONDONTWRITEBYTECODE"}
    env.update(PYTHONPATH=harness.SRC + "/contrib/pytest-fixd", FIXD_LIBRARY=harness.BUILD + "/.libs/libfixd.so.0")
    script = t.write("modules.py", PYTHON.format(names=names))
    command = ["/usr/bin/python3", script]
    size = int(subprocess.run(command, env=env, stdout=subprocess.PIPE, check=True).stdout) >> 10
    d = t.daemon(f"[fixture python]\nprocess = exec {' '.join(command)}\nenv = PYTHONPATH, FIXD_LIBRARY\nmax-age = none\n", env=env)
    d.ctl("warm", "python", env=env)
    turns = [(first_line(ctl(d, "fork", "python"), env), first_line(command, env)) for _ in range(ROUNDS // 3)]
    row(f"a fork of Python with {size} MiB of modules", [a for a, _ in turns], "starting it", [b for _, b in turns], "8 ms, 50 x")
    d.stop()


def run_cases(where, commands):
    shutil.rmtree(where, ignore_errors=True)
    os.mkdir(where)
    with open(where + "/CTestTestfile.cmake", "w") as f:
        for number, command in enumerate(commands):
            f.write(f"add_test(case{number} {' '.join(command)})\n")
    begin = time.perf_counter()
    subprocess.run(["ctest", "-j", str(os.cpu_count()), "-Q"], cwd=where, check=True)
    return time.perf_counter() - begin


def measure_cases(t):
    if not shutil.which("ctest") or not os.path.exists("/usr/include/gtest/gtest.h"):
        print("cases of GoogleTest under CTest: not measured, ctest or GoogleTest is not installed")
        return
    source, program = t.write("tests.cc", TESTS), t.path("tests")
    subprocess.run(["g++", "-O1", f"-DCASES={CASES}", "-o", program, source, "-I", harness.SRC + "/include", "-L", harness.BUILD + "/.libs", "-lfixd",
                    "-lgtest", "-pthread", "-Wl,-rpath," + harness.BUILD + "/.libs"], check=True)
    d = t.daemon(f"[fixture tests]\nprocess = exec {program}\nmax-age = none\n")
    filters = [f"--gtest_filter=All/Case.Holds/{n}" for n in range(CASES)]
    forks = run_cases(t.path("forks"), [[*ctl(d, "fork", "tests", "--"), f] for f in filters])
    one = run_cases(t.path("one"), [[program]])
    few = max(CASES // 10, 1)
    each = run_cases(t.path("each"), [[program, f] for f in filters[:few]]) * CASES / few
    floor = run_cases(t.path("floor"), [["true"]] * CASES)
    print(f"{CASES} cases, 0.3 s to start: a fork each {forks:.2f} s; one process for all {one:.2f} s; a process each {each:.1f} s (of {few}); "
          f"CTest with as many of true(1) {floor:.2f} s")
    print(f"a fork each: {each / forks:.1f} x faster than a process each; {forks / one:.2f} x one process (reach: 1.5 x), "
          f"{(forks - floor) / one:.2f} x without what CTest itself takes")
    d.stop()


def main():
    t = harness.Case("bench", [])
    failed = True
    try:
        print(ROW.format("ms", "p50", "p99", "against", "p50", "p99", "", "reach"))
        measure_forks(t)
        measure_python(t)
        measure_cases(t)
        failed = False
    finally:
        t.finish(failed)


if __name__ == "__main__":
    main()
