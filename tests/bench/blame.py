#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What it costs to know who changes a fixture: suites of 500 tests, without and with FIXD_BLAME, in turn. Times are those of the processor,
medians of ROUNDS; `tests that leave a change` are those of which there is something to say."""

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import textwrap

BUILD = os.environ.get("FIXD_BUILD", os.getcwd())
SRC = os.environ.get("FIXD_SRC", os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
ROUNDS = int(os.environ.get("ROUNDS", "5"))
ROW = "{:44}{:>10}{:>10}{:>8}"

# Each test reads 1 MiB of the fixture, and writes to four pages of it; one in argv[1] leaves that, the others put it back.
SUITE = r"""
#include <fixd/test.h>
int main(int argc, char *argv[])
{
	int one_in = atoi(argv[argc - 1]);
	unsigned sum = 0;
	for (int i = 0; i < 500; i++) {
		char name[16];
		snprintf(name, sizeof name, "test %d", i);
		fixd_test_begin(name);
		unsigned char *bytes = fixd_test("bytes");
		for (int k = 0; k < 1 << 20; k++)
			sum = sum * 31 + bytes[k];
		for (int k = 0; k < 4; k++)
			bytes[(i + k * 1000) * 4096] ^= 1;
		for (int k = 0; k < 4 && (one_in == 0 || i % one_in); k++)
			bytes[(i + k * 1000) * 4096] ^= 1;
		fixd_test_reset();
	}
	fixd_test_end();
	return sum == 1;
}
"""
CONFTEST = """
    import fixd, numpy
    @fixd.fixture(scope="session", writable=True)
    def matrix(): return numpy.zeros((4000, 2000))
    """
TESTS = """
    import numpy, os, pytest
    ONE_IN = int(os.environ["ONE_IN"])
    @pytest.mark.parametrize("n", range(500))
    def test_some(matrix, n):
        assert matrix[:200].sum() == 0
        matrix[n, 4:8] = 7
        if not ONE_IN or n % ONE_IN:
            matrix[n, 4:8] = 0
    """


def seconds(command, cwd, env):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, cwd=cwd, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def row(title, without, watched, cwd, env):
    times = [(seconds(without, cwd, env), seconds(watched[0], cwd, {**env, **watched[1]})) for _ in range(ROUNDS)]
    a, b = (statistics.median(t[i] for t in times) for i in (0, 1))
    print(ROW.format(title, f"{a:.3f} s", f"{b:.3f} s", f"{b / a:.2f} x"), flush=True)


def suites_of_c(home, env):
    with open(home + "/suite.c", "w") as f:
        f.write(SUITE)
    subprocess.run(["gcc", "-g", "-O2", "-o", home + "/suite", home + "/suite.c", "-I", SRC + "/contrib/adapters", "-I", SRC + "/include", "-L", BUILD + "/.libs",
                    "-lfixd", "-Wl,-rpath," + BUILD + "/.libs"], check=True)
    for one_in, title in ((0, "none leaves a change"), (50, "one in 50 tests leaves a change"), (1, "each leaves one")):
        command = [home + "/suite", str(one_in)]
        row("C: " + title, command, (command, {"FIXD_BLAME": "1"}), home, env)


def suites_of_pytest(home, env):
    python = "/usr/bin/python3"
    if subprocess.run([python, "-c", "import numpy, pytest"], capture_output=True).returncode:
        print("pytest: SKIP numpy or pytest is not installed")
        return
    for name, text in (("conftest.py", CONFTEST), ("test_it.py", TESTS)):
        with open(f"{home}/{name}", "w") as f:
            f.write(textwrap.dedent(text))
    command = [python, "-m", "pytest", "-q", "-p", "fixd.plugin", "-p", "no:cacheprovider"]
    env = {**env, "PYTHONPATH": SRC + "/contrib/pytest-fixd", "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "FIXD_LIBRARY": BUILD + "/.libs/libfixd.so.0",
           "PYTHONDONTWRITEBYTECODE": "1", "FIXD_BIN": BUILD}
    for one_in, title in ((0, "none leaves a change"), (50, "one in 50 tests leaves a change"), (2, "each other leaves one")):
        row("pytest: " + title, command, (command + ["--fixd-blame"], {}), home, {**env, "ONE_IN": str(one_in)})


def main():
    with tempfile.TemporaryDirectory(prefix="fixd-bench-") as home:
        with open(home + "/fixd.ini", "w") as f:
            f.write("[fixture bytes]\ncommand = head -c 67108864 /dev/zero\n")
        ours, theirs = os.pipe()
        daemon = subprocess.Popen([BUILD + "/fixd", "--config", home + "/fixd.ini", "--socket", home + "/socket", "--ready-fd", str(theirs), "--log-level", "error"],
                                  pass_fds=[theirs])
        os.read(ours, 1)
        try:
            env = {**{k: v for k, v in os.environ.items() if not k.startswith("FIXD_BLAME")}, "FIXD_SOCKET": home + "/socket"}
            print(ROW.format("500 tests, 64 MiB", "without", "with", ""))
            suites_of_c(home, env)
            suites_of_pytest(home, env)
        finally:
            daemon.terminate()
            daemon.wait()


if __name__ == "__main__":
    sys.exit(main())
