#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""calls.c and sockets.c, compiled in the ways that change which functions of libc a program calls."""

import difflib
import os
import shutil
import subprocess
import sys

from stage import Fixture, Skip, Stage, main, modes
from harness import SRC


def stage(t):
    source = t.path("source")
    os.makedirs(source + "/sub")
    t.write("source/a.txt", "hello\nworld\n")
    t.write("source/sub/b.txt", "bee\n")
    os.symlink("../a.txt", source + "/sub/link")
    t.write("source/run", "#!/bin/sh\necho \"$0\" \"$@\"\ncat data/f\npwd\n")
    os.chmod(source + "/run", 0o755)
    return Stage(t, Fixture("t", "directory", source, "data/t"), Fixture("f", "file", t.write("f", "the file\nof the test\n"), "data/f"))


def compiled(t, source, compiler, *flags):
    if not shutil.which(compiler):
        raise Skip(f"{compiler} is not installed")
    to = t.path(source)
    done = subprocess.run([compiler, "-w", "-g", "-D_GNU_SOURCE", *flags, "-o", to, os.path.join(SRC, "tests", "shim", source + ".c"), "-lpthread"],
                          capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    return to


def pristine(s):
    """What the next run sees is what the first one saw."""
    return s.run(["sh", "-c", "cat data/f data/t/a.txt data/t/sub/b.txt data/t/run; ls -lnR data/t"]).out


def test_odd_programs(t):
    odd = compiled(t, "odd", "gcc")
    s = stage(t)
    before, failures = pristine(s), []
    s.leaves_processes = True
    for name in subprocess.run([odd], capture_output=True, check=True).stdout.decode().split():
        # The kernel's mounts are other file systems, which may differ where file systems do, and whose first change signals interrupt.
        if t.mode == "mount" and name in ("nameless_file", "directories_above", "odd_paths", "changes_in_a_handler"):
            continue
        without, with_it = s.native([odd, name]), s.run([odd, name])
        difference = [line for line in difflib.unified_diff(without.out.decode(errors="replace").splitlines(),
                                                            with_it.out.decode(errors="replace").splitlines(), "without", "with", n=1, lineterm="")]
        if difference or without.code != with_it.code and (without.code, with_it.code) != (-11, 139):
            failures.append("\n".join([f"{name}: {without.code} {with_it.code} {with_it.err}"] + difference))
        if pristine(s) != before:
            failures.append(f"{name}: has changed what the next run sees")
            break
        s.fresh()
    assert not failures, "\n".join(failures)


def compare_one(t, s, source, compiler, *flags):
    command = [compiled(t, source, compiler, *flags)] + (["mounted"] if t.mode == "mount" else [])
    without, with_it = s.native(command), s.run(command)
    assert without.code == 0, without.__dict__
    a, b = without.out.decode().splitlines(), with_it.out.decode().splitlines()
    different = list(difflib.unified_diff(a, b, "without fixd", "with fixd", n=1, lineterm=""))
    assert not different, "\n".join(different[:60])
    assert (without.err, without.code, without.left) == (with_it.err, with_it.code, with_it.left), (without.__dict__, with_it.__dict__)


def compare(t, compiler, *flags):
    s = stage(t)
    for source in ("calls", "sockets"):
        compare_one(t, s, source, compiler, *flags)


def lines_of(out):
    """Whether a file system has extended attributes is its own affair."""
    return [line.replace("ENODATA", "EOPNOTSUPP") if "xattr" in line else line for line in out.splitlines()]


def test_errors(t):
    """Of every call, on odd paths: in a tree that nobody has changed, in one of which a part was copied, and in one that is all its own."""
    if t.mode == "mount":
        raise Skip("the kernel says them by itself")
    errors, source = compiled(t, "errors", "gcc"), t.path("source")
    os.makedirs(source)
    native = subprocess.run([errors, source], capture_output=True, check=True, timeout=300).stdout.decode()
    listed = t.write("native", native)
    s = Stage(t, Fixture("tree", "directory", source, "tree"))
    for change in ("true", "echo new >tree/full/new", "mv tree/full tree/moved; mv tree/moved tree/full; echo hello >tree/file"):
        done = s.run(["sh", "-c", f"{change}; exec {errors} $PWD/tree {listed}"])
        different = list(difflib.unified_diff(lines_of("".join(line for line in native.splitlines(True) if not line.endswith(" 0\n"))),
                                              lines_of(done.out.decode()), "without fixd", "with fixd", n=0, lineterm=""))
        assert done.code == 0 and not different, "\n".join([change, done.err.decode()] + different[:60])


FORTIFIED, LARGE = ["-O2", "-D_FORTIFY_SOURCE=2"], ["-D_FILE_OFFSET_BITS=64"]


def test_gcc_plain(t):
    compare(t, "gcc")


def test_gcc_fortified(t):
    compare(t, "gcc", *FORTIFIED)


def test_gcc_large_files(t):
    compare(t, "gcc", *LARGE)


def test_gcc_both(t):
    compare(t, "gcc", *FORTIFIED, *LARGE)


def test_clang_plain(t):
    compare(t, "clang")


def test_clang_fortified(t):
    compare(t, "clang", *FORTIFIED)


def test_clang_large_files(t):
    compare(t, "clang", *LARGE)


def test_clang_both(t):
    compare(t, "clang", *FORTIFIED, *LARGE)


def test_gcc_address_sanitizer(t):
    compare(t, "gcc", "-O1", "-fsanitize=address")


def test_clang_address_sanitizer(t):
    compare(t, "clang", "-O1", "-fsanitize=address")


if __name__ == "__main__":
    main(sys.modules[__name__], modes)
