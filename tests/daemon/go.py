#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""The package for Go: its own tests, and ten packages whose test binaries share one build and one server."""

import os
import shutil
import subprocess
import sys

import harness
import manual
from harness import LIMIT, Skip, once, wait_for
from recipes import SUITES, suite

PACKAGE = os.path.join(harness.SRC, "contrib", "go")
GRAPH = """
#include <fixd-builder.h>
struct node { struct node *next; long value; };
int fixd_build(struct fixd_builder *b)
{
	struct node *first = 0;
	for (long i = 1; i <= 3; i++) {
		struct node *n = fixd_alloc(b, sizeof *n);
		n->next = first;
		n->value = i;
		first = n;
	}
	fixd_set_root(b, first);
	return 0;
}
"""
TEST = """
package p%d
import ("os"; "testing"; "fixd")
func TestShared(t *testing.T) {
	if fixd.Get(t, "corpus").String() != "apple\\nbanana\\ncherry\\n" { t.Error("other words") }
	if s := fixd.Get(t, "server").String(); len(s) < 4 || s[:3] != "at " { t.Error(s) }
	own := fixd.Own(t, "own").String()
	if err := os.Remove(own + "/words"); err != nil { t.Error(err) }
}
"""


def go(t, daemon, *args):
    env = {**harness.process_environment(), "GOFLAGS": "-mod=mod", "GOPROXY": "off", "GOCACHE": t.path("cache"), "GOPATH": t.path("gopath"),
           "GOENV": "off", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0", "HOME": t.dir, "FIXD_SOCKET": daemon.socket}
    done = subprocess.run(["go", *args], cwd=t.path("work"), env=env, capture_output=True, text=True, timeout=LIMIT * 3)
    assert done.returncode == 0, f"go {args}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


@once
def test_packages(t):
    if not shutil.which("go"):
        raise Skip("go is not installed")
    shutil.copytree(PACKAGE, t.path("fixd"), copy_function=shutil.copyfile)
    os.mkfifo(t.path("fixd/testdata/gate"))
    with open(t.path("fixd/testdata/fixd.ini")) as f:
        d = t.daemon(f"[fixd]\nroot = {t.path('fixd/testdata')}\n{f.read()}{manual.text(SUITES)}[fixture graph]\nplugin = {t.plugin('graph', GRAPH)}\n")
    for n in range(10):
        t.write(f"work/p{n}/p_test.go", TEST % n)
    t.write("work/words/words_test.go", suite("Go")[0]["words_test.go"])
    t.write("work/go.mod", f"module work\ngo 1.19\nrequire fixd v0.0.0\nreplace fixd => {t.path('fixd')}\n")
    said = go(t, d, "test", "-vet=off", "./...", "fixd")
    assert said.count("ok  \t") == 12, said
    assert (t.runs("fixd/testdata/runs"), t.runs("fixd/testdata/starts")) == (1, 1), d.ctl("status").out
    assert d.instance("own")["clones"]["given"] == 13, d.instance("own")
    # What nobody waited for is still being built.
    with open(t.path("fixd/testdata/gate"), "w"):
        pass
    wait_for(lambda: d.instance("slow")["state"] != "building", "its end: what is built after a cleanup stays")


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
