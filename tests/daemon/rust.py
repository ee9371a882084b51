#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The crate for Rust: its own tests and examples, under cargo test without a network; twice, of which the second builds nothing."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib

import harness
import manual
from go import GRAPH, being_built
from harness import LIMIT, Skip, once
from manual import runs, text
from recipes import check_suite

CRATE = os.path.join(harness.SRC, "contrib", "rust")


def environment(t):
    env = {**harness.process_environment(), "CARGO_HOME": t.path("cargo"), "CARGO_TARGET_DIR": t.path("target"),
           "CARGO_INCREMENTAL": "0", "FIXD_LIB_DIR": os.path.join(harness.BUILD, ".libs"), "LD_LIBRARY_PATH": os.path.join(harness.BUILD, ".libs"),
           "GATE": t.path("crate/tests/gate")}
    # The make that runs this has jobs of its own, which cargo would ask for.
    for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):
        env.pop(name, None)
    return env


def cargo(t, daemon, *args):
    env = {**environment(t), "FIXD_SOCKET": daemon.socket}
    done = subprocess.run(["cargo", *args, "--offline"], cwd=t.path("crate"), env=env, capture_output=True, text=True, timeout=LIMIT * 3)
    assert done.returncode == 0, f"cargo {args}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def recipe(t):
    """As it stands in fixd-recipes(7); and the script that nextest runs before its tests."""
    t.write("src/lib.rs", "")
    env = {**environment(t), "PATH": f"{harness.BUILD}:{os.environ['PATH']}", "CARGO_NET_OFFLINE": "true"}
    check_suite(t, "Rust", env, replace=[("/usr/share/fixd/rust", t.path("crate"))])
    assert text("rust/README The crate fixd 2") in text("fixd-recipes.7 Rust 1")
    nextest = tomllib.loads(text("fixd-recipes.7 Rust 4"))
    (rule,) = nextest["profile"]["default"]["scripts"]
    script = nextest["scripts"]["setup"][rule["setup"]]["command"]
    for command, status, reused in ("printf apple", 0, 1), ("exit 3", 4, None):
        t.write("fixd.ini", f"[fixture words]\ncommand = {command}\n")
        done = subprocess.run(["fixctl", "run", "-c", "fixd.ini", "--", "sh", "-c", f"{script} && cargo test -q && fixctl status --json"], cwd=t.dir, env=env,
                              capture_output=True, text=True, timeout=LIMIT * 3)
        assert done.returncode == status, done
        if not status:
            (words,) = json.loads(done.stdout[done.stdout.index("{"):])["sessions"][0]["instances"]
            assert words["builds"] == 1 and words["reused"] >= reused, words


@runs("rust/*", "fixd-recipes.7 Rust *")
@once
def test_crate(t):
    if not shutil.which("cargo"):
        raise Skip("cargo is not installed")
    if harness.SANITIZERS:
        raise Skip("the crate is built without a sanitizer")
    shutil.copytree(CRATE, t.path("crate"), copy_function=shutil.copyfile, ignore=shutil.ignore_patterns("target", "Cargo.lock"))
    for gate in ("gate", "slow-gate"):
        os.mkfifo(t.path("crate/tests/" + gate))
    recipe(t)
    t.write("crate/tests/readme.rs", "\n".join(f"mod a{n} {{ {text(name)} }}" for n, name in enumerate(("rust/README The crate fixd 1", "rust/src/lib.rs comment 1"))))
    with open(t.path("crate/tests/fixd.ini")) as f:
        d = t.daemon(f"[fixd]\nroot = {t.path('crate/tests')}\njobs = 8\n{f.read()}[fixture graph]\nplugin = {t.plugin('graph', GRAPH)}\n")
    slow = being_built(d, "slow")
    said = cargo(t, d, "test")
    assert "10 passed; 0 failed" in said and said.count("2 passed; 0 failed") == 2 and "warning" not in said, said
    assert re.search(r"test src/lib.rs .*line \d+\) \.\.\. ok", said), said
    manual.take("rust/src/lib.rs comment 2")
    assert (t.runs("crate/tests/runs"), t.runs("crate/tests/starts")) == (1, 1), d.ctl("status").out
    with open(t.path("crate/tests/slow-gate"), "w"):
        pass
    assert slow.wait(LIMIT) == 0, "what the tests do not wait for is built all the same"


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
