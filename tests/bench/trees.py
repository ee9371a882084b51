#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a run costs in trees of 20,000 files: each operation without fixd, with mounts and with the shim, in turn, in one process tree
each. Medians and worst of ROUNDS; ratios are to the one without. `first`: of a run's first change or look."""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

BUILD = os.environ.get("FIXD_BUILD", os.getcwd())
ROUNDS = int(os.environ.get("ROUNDS", "5"))
DIRECTORIES, FILES = 200, 100

# Each is timed by itself, in the order in which they stand, in one run.
OPERATIONS = [
    ("git status, first", "git status --porcelain"),
    ("git status, again", "git status --porcelain"),
    ("grep -r", "grep -r no-such-word . --exclude-dir=.git || true"),
    ("find | xargs cat", "find . -path ./.git -prune -o -type f -print0 | xargs -0 cat"),
    ("touch, first change", "touch new"),
    ("git status, after it", "git status --porcelain"),
    ("write to 100 files", "for i in d1/*; do echo more >>$i; done"),
    ("grep -r, after them", "grep -r no-such-word . --exclude-dir=.git || true"),
    ("rm -r of 2,000 files", "rm -r d2? d3?"),
]

IN_ONE_DIRECTORY = [
    ("touch, first change", "touch new"),
    ("ls, after it", "ls"),
    ("write to 100 files", "for i in f1??; do echo more >>$i; done"),
    ("rm -r of all", "find . -type f -delete"),
]

TIMER = """
import subprocess, sys, time
for command in sys.argv[1:]:
    start = time.perf_counter()
    subprocess.run(["sh", "-c", command], stdout=subprocess.DEVNULL, check=True)
    print(time.perf_counter() - start)
"""


def make_tree(root):
    for d in range(DIRECTORIES):
        os.makedirs(f"{root}/d{d}")
        for f in range(FILES):
            with open(f"{root}/d{d}/f{f}", "w") as out:
                out.write(f"{d} {f}\n" * 20)
    git = ["git", "-C", root, "-c", "user.name=x", "-c", "user.email=x@x", "-c", "init.defaultBranch=main"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "all"], check=True, stdout=subprocess.DEVNULL)


def times(command, cwd):
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{command}: {done.stderr}")
    return [float(line) for line in done.stdout.split()]


def make_one_directory(root):
    os.makedirs(root)
    for f in range(DIRECTORIES * FILES):
        with open(f"{root}/f{f}", "w") as out:
            out.write(f"{f}\n" * 20)


def measure(home, title, make, operations):
    env = {**os.environ, "TMPDIR": home}
    os.environ.update(env)
    work, pristine = f"{home}/work", f"{home}/pristine"
    timer = [sys.executable, "-c", TIMER, *(command for _, command in operations)]
    daemon = None
    try:
        os.makedirs(work)
        make(pristine)
        with open(f"{home}/fixd.ini", "w") as f:
            f.write(f"[fixd]\nroot = {work}\n[policy]\nmax-age = none\ntimeout = 5m\n[fixture tree]\ndirectory = {pristine}\npath = tree\n")
        daemon = subprocess.Popen([f"{BUILD}/fixd", "--config", f"{home}/fixd.ini", "--socket", f"{home}/socket"], stderr=subprocess.DEVNULL)
        while not os.path.exists(f"{home}/socket"):
            time.sleep(0.01)
        run = [f"{BUILD}/fixctl", "--socket", f"{home}/socket", "run", "-t", "5m"]
        subprocess.run([*run, "--", "true"], cwd=work, check=True, stderr=subprocess.DEVNULL)
        found = {"native": [], "mount": [], "shim": []}
        for _ in range(ROUNDS):
            subprocess.run(["cp", "-a", pristine, f"{work}/tree"], check=True)
            found["native"].append(times(timer, f"{work}/tree"))
            shutil.rmtree(f"{work}/tree")
            for mode in "mount", "shim":
                found[mode].append(times([*run, "-i", mode, "--", "sh", "-c", 'cd tree && exec "$@"', "sh", *timer], work))
        print(f"{title:24}{'native':>12}{'mount':>12}{'ratio':>7}{'shim':>12}{'ratio':>7}    (ms: median of {ROUNDS}, worst)")
        for k, (name, _) in enumerate(operations):
            row = {mode: [1000 * r[k] for r in rounds] for mode, rounds in found.items()}
            base = statistics.median(row["native"])
            cells = [f"{base:7.1f}/{max(row['native']):4.0f}"]
            for mode in "mount", "shim":
                m = statistics.median(row[mode])
                cells.append(f"{m:7.1f}/{max(row[mode]):4.0f}{m / base:7.2f}")
            print(f"{name:24}{'  '.join(cells)}")
    finally:
        if daemon:
            daemon.terminate()
            daemon.wait()


def main():
    if not shutil.which("git"):
        sys.exit("git is not installed")
    for title, make, operations in (("20,000 files", make_tree, OPERATIONS), ("in one directory", make_one_directory, IN_ONE_DIRECTORY)):
        home = tempfile.mkdtemp(prefix="fixd-bench-")
        try:
            measure(home, title, make, operations)
        finally:
            shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
