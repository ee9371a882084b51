# SPDX-License-Identifier: MIT
"""fixctl bench: what it measures is what was done."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree

import harness
from harness import LIMIT, SANITIZERS, once, wait_for
from services import processes_of

INI = """[fixture corpus]
command = sleep 0.05; head -c 20000000 /dev/zero
[fixture index]
params = small, large
command = head -c 1000 $FIXD_DEP_corpus
depends = corpus
scope = module
[fixture tree]
tree = echo x >$FIXD_DIR/x
[fixture mine]
client = yes
[fixture broken]
command = echo why >&2; exit 3
[fixture slow]
command = sleep 1000
"""


def bench(t, *args, code=0, ini=INI, **more):
    t.write("bench.ini", ini)
    env = harness.process_environment() | {"TMPDIR": t.dir} | more
    done = subprocess.run([harness.program("fixctl"), "bench", "--config", t.path("bench.ini"), *args], capture_output=True, text=True, timeout=LIMIT,
                          env=env, cwd=t.dir)
    assert code is None or done.returncode == code, (done.returncode, done.stdout, done.stderr)
    wait_for(lambda: not processes_of(t), "its daemons to end")
    return done


def median_of(m):
    assert set(m) == {"median", "min", "max"} and m["min"] <= m["median"] <= m["max"], m
    return m["median"]


def test_what_is_measured(t):
    done = bench(t, "--runs", "3", "--timeout", "2s" if not SANITIZERS else "5s", "--json", code=4)
    r = json.loads(done.stdout)
    by_name = {f["name"]: f for f in r["fixtures"]}
    assert list(by_name) == ["broken", "corpus", "index[small]", "index[large]", "slow", "tree"], list(by_name)
    assert r["runs"] == 3 and not r["interrupted"] and r["config"] == t.path("bench.ini")
    assert set(by_name["corpus"]) == {"name", "type", "scope", "status", "runs", "wall_s", "cpu_s", "peak_bytes", "init_delta_s", "memory_delta_bytes",
                                      "gpu_delta_bytes", "size_bytes", "page_in_s", "attach_s", "reset_s"}
    corpus, base = by_name["corpus"], r["baseline"]
    assert corpus["status"] == "Success" and corpus["runs"] == 3 and base["runs"] == 3
    assert median_of(corpus["wall_s"]) >= 0.05 and 0 < median_of(corpus["cpu_s"]) and 0 < median_of(corpus["attach_s"]) < 1
    assert corpus["size_bytes"] == 20000768 and median_of(corpus["peak_bytes"]) > 20000000
    assert median_of(corpus["reset_s"]) > 0 and median_of(corpus["page_in_s"]) > 0
    # Over a builder that does nothing; below it is shown as it is.
    for key, delta in (("wall_s", "init_delta_s"), ("peak_bytes", "memory_delta_bytes")):
        for f in (corpus, by_name["tree"]):
            expected = f[key]["median"] - base[key]["median"]
            noise = sum(m["max"] - m["min"] for m in (f[key], base[key])) / 2
            assert abs(f[delta]["value"] - expected) < 1e-9 * max(1, abs(expected)) and abs(f[delta]["noise"] - noise) < 1e-9 * max(1, noise), (f, base)
    assert by_name["index[small]"]["size_bytes"] == 4096 and median_of(by_name["index[large]"]["wall_s"]) < corpus["wall_s"]["median"]
    assert by_name["broken"]["runs"] == 0 and by_name["broken"]["wall_s"] is None
    assert by_name["broken"]["status"] == "fixture 'broken' cannot be built: the command exited with status 3"
    assert by_name["slow"]["status"].startswith("Timeout (>") and by_name["slow"]["runs"] == 0
    assert "corpus: measured\n" in done.stderr and "broken: fixture 'broken' cannot be built" in done.stderr and "\r" not in done.stderr


@once
def test_which(t):
    def names(*args):
        return [f["name"] for f in json.loads(bench(t, "--runs=1", "--timeout=5s", "--json", *args).stdout)["fixtures"]]
    assert names("corpus", "tree") == ["corpus", "tree"]
    assert names("index[large]") == ["index[large]"]
    assert names("ind*", "-m", "1") == ["index[small]"]
    assert "no such fixture" in bench(t, "mine", code=1).stderr
    assert bench(t, "corpsu", "tree", "indx[large]", code=1).stderr == (
        "fixctl: nothing is called 'corpsu' (did you mean 'corpus'?)\nfixctl: nothing is called 'indx[large]' (did you mean 'index'?)\n")
    assert "expected a number from 1" in bench(t, "--runs=0", code=2).stderr
    assert bench(t, ini="[fixture\n", code=78).stderr
    text = bench(t, "--runs=1", "corpus", "broken", code=4).stdout.splitlines()
    assert text[0].split()[:3] == ["fixture", "wall", "s"] and text[1].startswith("broken") and "exited with status 3" in text[1], text
    assert text[2].startswith("corpus  ") and " n/a " in text[2], text
    # Of the daemon that runs, its file.
    d = t.daemon("[fixture here]\ncommand = true\n")
    assert json.loads(d.ctl("bench", "--runs=1", "--json").out)["fixtures"][0]["name"] == "here"
    assert d.status()["sessions"][0]["instances"] == []


@once
def test_compare(t):
    old = t.write("old.json", bench(t, "--runs=3", "--json", "corpus", "tree").stdout)
    slower = INI.replace("sleep 0.05; head -c 20000000", "sleep 0.5; head -c 40000000")
    done = bench(t, "--runs=3", "--compare", old, "corpus", "tree", ini=slower, code=1)
    assert re.search(r"^corpus: wall s 0\.[5-9][0-9]*, was 0\.[0-9]+: \+[0-9]+% worse$", done.stdout, re.M), done.stdout
    assert re.search(r"^corpus: size MB 40\.0, was 20\.0: \+100% worse$", done.stdout, re.M), done.stdout
    slow = t.write("slow.json", bench(t, "--runs=3", "--json", "corpus", ini=slower).stdout)
    # Microseconds are whatever else the machine does.
    done = bench(t, "--runs=3", "--compare", slow, "--threshold=10000", "corpus")
    assert "0 regressions of more than 10000% and the noise" in done.stdout, done.stdout
    done = bench(t, "--runs=3", "--compare", slow, "corpus", "--json", code=None)
    assert json.loads(done.stdout) and "size MB 20.0, was 40.0: -50% better" in done.stderr, done.stderr
    done = bench(t, "--runs=1", "--compare", old, "corpus", ini=INI.replace("sleep 0.05", "exit 1"), code=1)
    assert "corpus: fails now" in done.stdout, done.stdout
    assert "no output of fixctl bench" in bench(t, "--compare", t.path("bench.ini"), code=2).stderr
    assert "no output of fixctl bench" in bench(t, "--compare", t.path("nowhere"), code=2).stderr


@once
def test_a_gpu(t):
    """Its library says how much is used: here, as much as a file has bytes."""
    source = t.write("nvml.c", """
#include <sys/stat.h>
struct memory { unsigned long long total, free, used; };
int nvmlInit_v2(void) { return 0; }
int nvmlShutdown(void) { return 0; }
int nvmlDeviceGetCount_v2(unsigned *n) { *n = 2; return 0; }
int nvmlDeviceGetHandleByIndex_v2(unsigned n, void **d) { *d = (void *)(long)(n + 1); return n > 1; }
int nvmlDeviceGetMemoryInfo(void *d, struct memory *m)
{
	struct stat st = { 0 };
	stat("%s", &st);
	m->total = 1 << 30;
	m->used = 1000000 + (d == (void *)1 ? st.st_size : 0);
	return 0;
}
""" % t.path("gpu"))
    os.makedirs(t.path("lib"))
    subprocess.run(["cc", "-shared", "-fPIC", "-o", t.path("lib/libnvidia-ml.so.1"), source], check=True)
    t.write("gpu", "")
    ini = f"[fixture model]\ncommand = head -c 5000000 /dev/zero >{t.path('gpu')}; sleep 0.3; : >{t.path('gpu')}\n"
    r = json.loads(bench(t, "--runs=2", "--json", ini=ini, LD_LIBRARY_PATH=t.path("lib")).stdout)
    assert r["gpu"] and r["fixtures"][0]["gpu_delta_bytes"] == {"median": 5e6, "min": 5e6, "max": 5e6}, r["fixtures"]
    assert "5.0 \u00b10.0" in bench(t, "--runs=1", ini=ini, LD_LIBRARY_PATH=t.path("lib")).stdout


@once
def test_interrupted(t):
    """What was measured is kept, and nothing is left."""
    t.write("bench.ini", "[fixture first]\ncommand = true\n[fixture second]\ncommand = sleep 1000\n")
    p = subprocess.Popen([harness.program("fixctl"), "bench", "--config", t.path("bench.ini"), "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                         text=True, env=harness.process_environment() | {"TMPDIR": t.dir})
    assert p.stderr.readline() == "first: measured\n"
    p.send_signal(signal.SIGINT)
    out, _ = p.communicate(timeout=LIMIT)
    r = json.loads(out)
    assert p.returncode == 130 and r["interrupted"] and [f["name"] for f in r["fixtures"]] == ["first"], (p.returncode, r)
    wait_for(lambda: not processes_of(t), "its daemons to end")
    wait_for(lambda: not [n for n in os.listdir(t.dir) if n.startswith("fixd-run")], "its scratch directories to go")


@once
def test_progress_on_a_terminal(t):
    t.write("bench.ini", "[fixture first]\ncommand = true\n")
    pid, fd = pty.fork()
    if pid == 0:
        os.execve(harness.program("fixctl"), ["fixctl", "bench", "--config", t.path("bench.ini"), "--runs=4"],
                  harness.process_environment() | {"TMPDIR": t.dir})
    seen = b""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end and select.select([fd], [], [], LIMIT)[0]:
        try:
            data = os.read(fd, 4096)
        except OSError:
            break
        if not data:
            break
        seen += data
    assert harness.exit_code(pid) == 0
    assert b"\r\x1b[K[######" in seen and b" 2 of 4 runs, " in seen and b" left, first" in seen, seen


def imports(t, *command, code=0):
    done = subprocess.run([harness.program("fixctl"), "bench", "--imports", "--", *command], capture_output=True, text=True, timeout=LIMIT,
                          env=harness.process_environment(), cwd=t.dir)
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
    return done


@once
def test_imports(t):
    t.write("outer.py", "import inner\nimport json\n")
    t.write("inner.py", "import time\ntime.sleep(0.05)\n")
    done = imports(t, sys.executable, "-c", "import sys; sys.path.insert(0, '.'); import outer; print('out'); print('err', file=sys.stderr); sys.exit(3)", code=3)
    said = done.stdout.splitlines()
    assert said[0] == "out" and done.stderr == "err\n", (said, done.stderr)
    raw, folded, svg = said[1:]
    assert re.fullmatch(r"imports_raw_\d{8}-\d{6}\.txt", raw) and folded.endswith(".folded") and svg.endswith(".svg")
    lines = open(t.path(raw)).read().splitlines()
    assert lines[0] == "import time: self [us] | cumulative | imported package"
    all_stacks = [line.rsplit(" ", 1) for line in open(t.path(folded))]
    stacks = dict(all_stacks)
    assert int(stacks["outer;inner"]) >= 50000 and "outer;json;json.decoder" in stacks
    total = sum(int(line.split("|")[0].split(":")[1]) for line in lines if "[us]" not in line)
    assert sum(int(n) for _, n in all_stacks) == total
    picture = xml.etree.ElementTree.parse(t.path(svg)).getroot()
    titles = [e.text for e in picture.iter("{http://www.w3.org/2000/svg}title")]
    assert any(re.fullmatch(r"inner \(\d+\.\d{3} ms\)", n) for n in titles) and titles[0].startswith("all imports ("), titles[:5]


@once
def test_imports_of_others(t):
    assert "has told of no imports" in imports(t, "true").stderr
    assert "fixctl: no-such-program: No such file" in imports(t, "no-such-program", code=127).stderr
    imports(t, "sh", "-c", "kill -9 $$", code=137)
    assert len([n for n in os.listdir(t.dir) if n.startswith("imports_")]) == 9, os.listdir(t.dir)
    assert "a command is missing" in subprocess.run([harness.program("fixctl"), "bench", "--imports"], capture_output=True, text=True).stderr


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
