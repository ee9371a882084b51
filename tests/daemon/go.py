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
from manual import runs, text
from recipes import check_suite

IMPORTS = 'package comment\nimport (\n"fixd"\n"testing"\n)\n'
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
import ("errors"; "fixd"; "os"; "syscall"; "testing")
var server, corpus *fixd.View
func TestMain(m *testing.M) {
	var err error
	if server, err = fixd.Hold("server"); err != nil { panic(err) }
	if corpus, err = fixd.Hold("corpus"); err != nil { panic(err) }
	if again, err := fixd.Hold("server"); err != nil || again != server { panic("another view") }
	if _, err := fixd.Hold("nothing"); !errors.Is(err, syscall.ENOENT) { panic(err) }
	os.Exit(m.Run())
}
func TestShared(t *testing.T) {
	if fixd.Get(t, "corpus") != corpus || fixd.Get(t, "server") != server { t.Error("another view than that of TestMain") }
	if corpus.String() != "apple\\nbanana\\ncherry\\n" { t.Error("other words") }
	if s := fixd.Get(t, "server").String(); len(s) < 4 || s[:3] != "at " { t.Error(s) }
	own := fixd.Own(t, "own").String()
	if err := os.Remove(own + "/words"); err != nil { t.Error(err) }
}
"""


def environment(t):
    return {**harness.process_environment(), "GOFLAGS": "-mod=mod", "GOPROXY": "off", "GOCACHE": t.path("cache"), "GOPATH": t.path("gopath"),
            "GOENV": "off", "GOTOOLCHAIN": "local", "CGO_ENABLED": "0", "HOME": t.dir}


def go(t, daemon, *args):
    done = subprocess.run(["go", *args], cwd=t.path("work"), env={**environment(t), "FIXD_SOCKET": daemon.socket}, capture_output=True, text=True, timeout=LIMIT * 3)
    assert done.returncode == 0, f"go {args}: {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout


def being_built(d, name):
    """Somebody who waits for it longer than any test does: on a slow machine these have given up before it begins."""
    asking = subprocess.Popen([harness.program("fixctl"), "--socket", d.socket, "warm", name], stdout=subprocess.DEVNULL, env=harness.process_environment())
    wait_for(lambda: d.instances().get(name, {}).get("state") == "building", f"{name} to be built")
    return asking


@runs("go/*", "fixd-recipes.7 Go *")
@once
def test_packages(t):
    if not shutil.which("go"):
        raise Skip("go is not installed")
    shutil.copytree(PACKAGE, t.path("fixd"), copy_function=shutil.copyfile)
    t.write("go.mod", "module words\ngo 1.19\n")
    check_suite(t, "Go", {**environment(t), "PATH": f"{harness.BUILD}:{os.environ['PATH']}"}, replace=[("/usr/share/fixd/go", t.path("fixd"))])
    os.mkfifo(t.path("fixd/testdata/gate"))
    with open(t.path("fixd/testdata/fixd.ini")) as f:
        d = t.daemon(f"[fixd]\nroot = {t.path('fixd/testdata')}\njobs = 8\n{f.read()}[fixture pg]\nservice = echo there; exec sleep infinity\n"
                     f"[fixture graph]\nplugin = {t.plugin('graph', GRAPH)}\n")
    slow = being_built(d, "slow")
    for n in range(10):
        t.write(f"work/p{n}/p_test.go", TEST % n)
    t.write("work/readme/readme_test.go", "package readme\n" + text("go/README The package fixd for Go 1"))
    t.write("work/comment/comment_test.go", IMPORTS + text("go/fixd.go comment 1"))
    assert text("go/README The package fixd for Go 2") == text("fixd-recipes.7 Go 2")
    t.write("work/go.mod", f"module work\ngo 1.19\nrequire fixd v0.0.0\nreplace fixd => {t.path('fixd')}\n")
    said = go(t, d, "test", "-vet=off", "-v", "./...", "fixd")
    assert said.count("\nok  \t") == 13, said
    for block in manual.take("go/example_test.go *"):
        assert f"--- PASS: {block.heading} " in said, (block.heading, said)
    assert (t.runs("fixd/testdata/runs"), t.runs("fixd/testdata/starts")) == (1, 1), d.ctl("status").out
    assert d.instance("own")["clones"]["given"] == 14, d.instance("own")
    with open(t.path("fixd/testdata/gate"), "w"):
        pass
    assert slow.wait(LIMIT) == 0, "what the tests do not wait for is built all the same"


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
