#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The crate for Rust: its own tests and examples, under cargo test without a network; twice, of which the second builds nothing."""

import os
import shutil
import subprocess
import sys
import tomllib

import harness
import manual
from go import GRAPH
from harness import LIMIT, Skip, once, wait_for
from recipes import SUITES, suite

CRATE = os.path.join(harness.SRC, "contrib", "rust")


def cargo(t, daemon, *args):
    env = {**harness.process_environment(), "FIXD_SOCKET": daemon.socket, "CARGO_HOME": t.path("cargo"), "CARGO_TARGET_DIR": t.path("target"),
           "CARGO_INCREMENTAL": "0", "FIXD_LIB_DIR": os.path.join(harness.BUILD, ".libs"), "LD_LIBRARY_PATH": os.path.join(harness.BUILD, ".libs"),
           "GATE": t.path("crate/tests/gate")}
    # The make that runs this has jobs of its own, which cargo would ask for.
    for name in ("MAKEFLAGS", "MFLAGS", "MAKELEVEL"):
        env.pop(name, None)
    done = subprocess.run(["cargo", *args, "--offline"], cwd=t.path("crate"), env=env, capture_output=True, text=True, timeout=LIMIT * 3)
    assert done.returncode == 0, f"cargo {args}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout + done.stderr


@once
def test_crate(t):
    if not shutil.which("cargo"):
        raise Skip("cargo is not installed")
    if harness.SANITIZERS:
        raise Skip("the crate is built without a sanitizer")
    shutil.copytree(CRATE, t.path("crate"), copy_function=shutil.copyfile, ignore=shutil.ignore_patterns("target", "Cargo.lock"))
    for gate in ("gate", "slow-gate"):
        os.mkfifo(t.path("crate/tests/" + gate))
    recipe = suite("Rust")[0]
    t.write("crate/tests/words.rs", recipe["tests/words.rs"])
    with open(t.path("crate/tests/fixd.ini")) as f:
        d = t.daemon(f"[fixd]\nroot = {t.path('crate/tests')}\njobs = 8\n{f.read()}{manual.text(SUITES)}[fixture graph]\nplugin = {t.plugin('graph', GRAPH)}\n")
    said = cargo(t, d, "test")
    assert "10 passed; 0 failed" in said and "2 passed; 0 failed" in said and "warning" not in said, said
    assert "test begin_with_apple ... ok" in said and "test may_be_changed ... ok" in said, said
    nextest = tomllib.loads(recipe[".config/nextest.toml"])
    assert nextest["profile"]["default"]["scripts"][0]["setup"] in nextest["scripts"]["setup"]
    assert 'fixd = { path = "/usr/share/fixd/rust" }' in recipe["Cargo.toml"]
    assert (t.runs("crate/tests/runs"), t.runs("crate/tests/starts")) == (1, 1), d.ctl("status").out
    # What nobody waited for is still being built.
    with open(t.path("crate/tests/slow-gate"), "w"):
        pass
    wait_for(lambda: d.instance("slow")["state"] != "building", "its end: what is built after a cleanup stays")


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
