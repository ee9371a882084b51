# SPDX-License-Identifier: MIT
"""fixctl report: every number of a small known history, in all its forms."""

import html.parser
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile

import harness
from harness import COW, LIMIT, FixdError, once, wait_for

INI = """[fixture corpus]
category = text
command = head -c 300000 /dev/zero
[fixture index]
category = text
params = small, large
command = cat $FIXD_DEP_corpus; printf x
depends = corpus
scope = module
[fixture lexicon]
command = printf lexicon
[fixture words]
category = a <b> | "c"
command = cat $FIXD_DEP_lexicon
depends = lexicon
teardown = echo why >&2; exit 5
[fixture broken]
command = exit 3
[fixture never]
command = true
[fixture nor]
scope = function
command = true
"""


# By the tests of history(); one of them says which it is before each reset, the other only when it attaches.
CHANGES = [("test_c.py::test_two", "corpus", "session", 2, 5), ("test_b.py::test_z", "corpus", "session", 2, 4),
           ("test_c.py::test_one", "corpus", "session", 1, 1)]


def history(t):
    d = t.daemon(INI)
    c = d.client()
    for _ in range(5):
        c.read("corpus")
    for n in ("small", "large", "small"):
        c.attach(f"index[{n}]", key="test_a.py::test_x").detach()
    view = c.attach("corpus", COW, key="test_b.py::test_z")
    for _ in range(2):
        view.write(0, b"x")
        view.write(200000, b"x")
        view.reset()
    view.reset()
    view.detach()
    view = c.attach("corpus", COW)
    for test, *pages in (("test_c.py::test_one", 1), ("test_c.py::test_two", 4), ("test_c.py::test_two", 1)):
        c.set_test(test)
        for n in range(pages[0]):
            view.write(n * 70000, b"x")
        view.reset()
    c.set_test(None)
    view.detach()
    c.read("words")
    try:
        c.attach("broken")
        assert False
    except FixdError:
        pass
    d.ctl("cleanup", "index*")
    d.ctl("cleanup", "words", code=1)
    c.attach("index[large]", key="test_a.py::test_x").detach()
    return d


def report(d, *args):
    return json.loads(d.ctl("report", "--format=json", *args).out)


def check_fixture(f, uses, builds, reuses, **more):
    assert (f["uses"], f["builds"], f["reuses"]) == (uses, builds, reuses), f
    assert f["hit_rate"] == (reuses / uses if uses else None), f
    assert abs(f["time_saved_s"] - reuses * (f["init_s"] or 0)) < 1e-9, f
    assert (f["init_s"] is not None) == (builds > 0) and f["gpu_mb"] is None
    assert (f["attach_p50_s"] is None) == (uses - more.pop("waited", min(uses, builds)) == 0), f
    expected = {"failures": 0, "stale": 0, "evictions": 0, "teardown_failures": 0, "resets": 0, "dirty_resets": 0, "pages_changed": 0,
                "category": "-", "scope": "session", "type": "command", "used": True, "status": "Success"} | more
    assert {k: f[k] for k in expected} == expected, {k: (f[k], expected[k]) for k in expected if f[k] != expected[k]}


def test_every_number(t):
    d = history(t)
    r = report(d)
    by_name = {f["name"]: f for f in r["fixtures"]}
    assert [f["name"] for f in r["fixtures"]] == ["corpus", "index", "words", "broken", "lexicon", "never", "nor"]
    check_fixture(by_name["corpus"], 7, 1, 6, category="text", memory_mb=303104 / 1e6, resets=6, dirty_resets=5, pages_changed=10)
    check_fixture(by_name["index"], 4, 3, 1, category="text", scope="module", stale=2, memory_mb=303104 / 1e6)
    check_fixture(by_name["words"], 1, 1, 0, category='a <b> | "c"', stale=1, teardown_failures=1)
    check_fixture(by_name["broken"], 0, 0, 0, failures=1, used=False, status="the command exited with status 3", memory_mb=None)
    check_fixture(by_name["lexicon"], 0, 1, 0)
    check_fixture(by_name["never"], 0, 0, 0, used=False, status="Not built")
    check_fixture(by_name["nor"], 0, 0, 0, used=False, status="Not built", scope="function")
    s = r["sharing"]
    assert (s["uses"], s["builds"], s["failures"], s["reuses"]) == (12, 6, 1, 7) and s["hit_rate"] == 7 / 12
    assert (s["stale"], s["evictions"], s["teardown_failures"]) == (3, 0, 1)
    assert (s["resets"], s["dirty_resets"], s["pages_changed"], s["pages_changed_per_dirty_reset"]) == (6, 5, 10, 2.0)
    assert abs(s["time_saved_s"] - sum(f["time_saved_s"] for f in r["fixtures"])) < 1e-9
    assert 0 < s["attach_p50_s"] <= s["attach_p99_s"] < 1
    assert abs(r["summary"].pop("used_percent") - 400 / 7) < 1e-9
    assert r["summary"] == {
        "total": 7, "used": 4, "unused": 3,
        "by_category": [{"category": "text", "count": 2, "used": 2, "usage_percent": 100.0},
                        {"category": 'a <b> | "c"', "count": 1, "used": 1, "usage_percent": 100.0},
                        {"category": "-", "count": 4, "used": 1, "usage_percent": 25.0}],
        "by_scope": [{"scope": "session", "count": 5, "used": 3, "usage_percent": 60.0},
                     {"scope": "module", "count": 1, "used": 1, "usage_percent": 100.0},
                     {"scope": "function", "count": 1, "used": 0, "usage_percent": 0.0}]}, r["summary"]
    assert r["high_impact"] == ["corpus"] and r["unused"] == ["never", "nor"]
    assert set(r["slowest"]) == {"corpus", "index", "words", "lexicon"} and r["most_memory"][:2] == ["corpus", "index"]
    assert r["slowest"] == sorted(r["slowest"], key=lambda n: -by_name[n]["init_s"])
    assert r["stale_causes"] == [{"cause": "cleaned up", "count": 3}]
    assert [tuple(c.values()) for c in r["changed_by"]] == CHANGES, r["changed_by"]
    assert list(r["changed_by"][0]) == ["test", "name", "scope", "dirty_resets", "pages_changed"]
    assert not r["lost"] and r["since"] is None and r["root"] == os.path.realpath(t.dir)
    # Of no time nothing, but what there is.
    nothing = report(d, "--since=0ms")
    assert nothing["events"] == 0 and nothing["summary"]["used"] == 0 and len(nothing["fixtures"]) == 7


def test_what_was_measured(t):
    """By fixctl bench: with params, of the largest."""
    d = history(t)
    delta = lambda v: {"value": v, "noise": 0.0}
    path = t.write("bench.json", json.dumps({"fixtures": [
        {"name": "corpus", "init_delta_s": delta(-0.5), "memory_delta_bytes": delta(3e6), "gpu_delta_bytes": {"median": 7e6}},
        {"name": "index[small]", "init_delta_s": delta(1.0), "memory_delta_bytes": delta(1e6), "gpu_delta_bytes": None},
        {"name": "index[large]", "init_delta_s": delta(2.0), "memory_delta_bytes": delta(0), "gpu_delta_bytes": None},
        {"name": "broken", "init_delta_s": None, "memory_delta_bytes": None, "gpu_delta_bytes": None}]}))
    before, after = [{f["name"]: f for f in report(d, *args)["fixtures"]} for args in ([], ["--bench", path])]
    found = {n: (f["init_s"], f["memory_mb"], f["gpu_mb"]) for n, f in after.items()}
    assert found["corpus"] == (-0.5, 3.0, 7.0) and found["index"] == (2.0, 1.0, None) and found["broken"] == (None, None, None), found
    assert after["words"] == before["words"]
    assert "| corpus | 7 | command | session | text | -0.500 | 3.0 | 7.0 | Success |" in d.ctl("report", "--bench", path).out
    assert "no output of fixctl bench" in d.ctl("report", "--bench", t.path("fixd.ini"), code=2).err


def cells(line):
    return [c.strip().replace("\\|", "|") for c in re.split(r"(?<!\\)\|", line)[1:-1]]


def number(v, decimals):
    return "N/A" if v is None else f"{v:.{decimals}f}"


def test_markdown(t):
    d = history(t)
    r, text = report(d), d.ctl("report").out
    lines = text.splitlines()
    at = lines.index("| Fixture Name | Uses | Type | Scope | Category | Init Time (s) | Memory Δ (MB) | GPU Δ (MB) | Status |")
    for line, f in zip(lines[at + 2:], r["fixtures"]):
        assert cells(line) == [f["name"], str(f["uses"]), f["type"], f["scope"], f["category"], number(f["init_s"], 3),
                               number(f["memory_mb"], 1), "N/A", f["status"]], line
    for words in ("- **Total Fixtures**: 7\n- **Used Fixtures**: 4 (57.1%)\n- **Unused Fixtures**: 3\n", "| text | 2 | 2 | 100.0% |",
                  "| Hit rate | 58.3% |", "| cleaned up | 3 |", "| test_b.py::test_z | corpus | session | 2 | 4 |",
                  "### High-Impact Optimization Targets\n\n- `corpus` (7 uses)\n", "### Slowest Initialization (Top 5)\n\n1. `",
                  "### Unused Fixtures (Consider for Removal)\n\n- `never`\n- `nor`\n"):
        assert words in text, (words, text)


class Page(html.parser.HTMLParser):
    """The tables of a page by their id, and its tiles."""

    def __init__(self, text):
        super().__init__()
        self.tables, self.table, self.text, self.outside, self.svgs = {}, None, "", [], 0
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.svgs += tag == "svg"
        for name in ("src", "href"):
            if name in attrs:
                self.outside.append(attrs[name])
        if tag in ("link", "img", "iframe"):
            self.outside.append(tag)
        if tag == "table":
            self.table = self.tables[attrs["id"]] = []
        elif tag == "tr":
            self.table.append([])
        elif tag in ("td", "th"):
            self.table[-1].append("")
        elif tag == "div" and attrs.get("class") == "tile":
            self.text += "\n"

    def handle_endtag(self, tag):
        if tag == "table":
            self.table = None
        if tag == "b":
            self.text += " "

    def handle_data(self, data):
        if self.table and self.table[-1]:
            self.table[-1][-1] += data.rstrip("\n")
        else:
            self.text += data


def in_browser(t, browser, path):
    """What becomes of a page there."""
    done = subprocess.run([browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", f"--user-data-dir={t.path('profile')}",
                           "--enable-logging=stderr", "--dump-dom", "file://" + path], capture_output=True, text=True, timeout=LIMIT,
                          env=harness.process_environment() | {"HOME": t.dir})
    assert done.returncode == 0 and "CONSOLE" not in done.stderr, done.stderr
    return done.stdout


@once
def test_html_of_many(t):
    """The most expensive first, the rest folded; time in which nothing happened is cut out; what failed says why."""
    clock = harness.Clock(t)
    d = t.daemon("[policy]\nmax-age = none\n" + "".join(f"[fixture f{n:02}]\ncommand = printf {n}\n" for n in range(40)) +
                 "[fixture broken]\ncommand = echo why '<here>' >&2; exit 3\n", env=clock.env)
    d.ctl("warm", code=4)
    clock.advance(36000)
    d.client().read("f39")
    html = d.ctl("report", "--format=html").out
    init = {f["name"]: f["init_s"] or 0 for f in report(d)["fixtures"]}
    table = html.partition('<table id="fixtures">')[2].partition("</table>")[0]
    rows = re.findall(r'<tr( class="more")?><td>(\w+)</td>', table)
    assert [init[name] for _, name in rows] == sorted(init.values(), reverse=True) and [bool(more) for more, _ in rows] == [False] * 30 + [True] * 11, rows
    chart = html.partition('<div class="chart">')[2].partition("<h2>")[0]
    assert re.findall(r'class="name" title="(\w+)"', chart) == [name for _, name in rows] and chart.partition("<details>")[0].count("<svg") == 30
    assert "10 h" in html.partition("<h2>Timeline</h2>")[2] and "are cut out (grey)" in html and chart.count('class="cut"') % 41 == 0 < chart.count('class="cut"'), html
    assert "<pre>the command exited with status 3\nwhy &lt;here&gt;</pre>" in html and 'title="broken"' in chart and 'class="bad"' in chart
    browser = shutil.which("chromium")
    if browser:
        path = t.write("sorted.html", html + "<script>for (const n of [1, 2]) document.querySelector('#fixtures th').click()</script>")
        page = Page(in_browser(t, browser, path))
        assert [row[0] for row in page.tables["fixtures"][1:]] == sorted(init, reverse=True), page.tables["fixtures"]
    d.configure(open(d.config).read() + "".join(f"[fixture unused.of_many.{n:02}]\ncommand = true\n" for n in range(40)))
    d.ctl("reload")
    html = d.ctl("report", "--format=html").out
    names = html.partition("<h3>Unused Fixtures")[2].partition("<h2>")[0]
    assert names.count("<code>") == 79 and names.partition("<details>")[0].count("<code>") == 30 and "The other 49" in names, names
    assert "<code>unused.<wbr>of_many.<wbr>00</code>, " in names, names


@once
def test_html_in_a_browser(t):
    browser = shutil.which("chromium")
    if not browser:
        raise harness.Skip("chromium is not installed")
    d = history(t)
    path = t.path("report.html")
    d.ctl("report", "--format=html", "--output", path)
    r = report(d)
    page = Page(in_browser(t, browser, path))
    rows = 5  # of the timeline, and the graph
    assert not page.outside and page.svgs == rows + 1, (page.outside, page.svgs)
    assert page.tables["fixtures"][0][:9] == ["Fixture Name", "Uses", "Type", "Scope", "Category", "Init Time (s)", "Memory Δ (MB)", "GPU Δ (MB)", "Status"]
    expected = [
        [f["name"], str(f["uses"]), f["type"], f["scope"], f["category"], number(f["init_s"], 3), number(f["memory_mb"], 1), "N/A", f["status"],
         str(f["builds"]), str(f["reuses"]), "N/A" if f["hit_rate"] is None else f"{100 * f['hit_rate']:.1f}%", number(f["time_saved_s"], 3)]
        for f in sorted(r["fixtures"], key=lambda f: (-(f["init_s"] or 0), -f["uses"], f["name"]))]
    assert page.tables["fixtures"][1:] == expected, (page.tables["fixtures"], expected)
    for key, name in (("by_category", "category"), ("by_scope", "scope")):
        assert page.tables[key.replace("_", "-")][1:] == [[g[name], str(g["count"]), str(g["used"]), f"{g['usage_percent']:.1f}%"]
                                                          for g in r["summary"][key]]
    assert page.tables["causes"][1:] == [["cleaned up", "3"]] and page.tables["changes"][1:] == [[str(v) for v in c] for c in CHANGES]
    for words in ("7 fixtures", "57.1% of them used", "12 attaches", "6 builds", "7 reuses", "58.3% hit rate", "1 failed builds",
                  f"{r['sharing']['time_saved_s']:.3f} s time saved"):
        assert words in page.text, (words, page.text)


@once
def test_clones(t):
    d = t.daemon("[fixture s]\nservice = echo up; exec sleep 1000\nready = line\nclones = 2\n[fixture x]\ncommand = echo x\n")
    c = d.client()
    for _ in range(2):
        c.attach("s").detach()
    wait_for(lambda: d.instance("s")["clones"]["held"] == 0, "all to be given back")
    whole = report(d)
    s = [f for f in whole["fixtures"] if f["name"] == "s"][0]
    assert s["used"] and s["uses"] == 2 and s["builds"] >= 2 and s["status"] == "Success" and s["stale"] == 0, s
    assert whole["unused"] == ["x"] and not whole["stale_causes"], whole
    clones = whole["clones"]
    assert [(n["name"], n["given"]) for n in clones] == [("s", 2)] and clones[0]["started"] >= 2 and clones[0]["start_s"] > 0, clones
    assert re.search(r"### Clones\n\n\| Fixture Name \|.*\n.*\n\| s \| 2 \| \d+ \| ", d.ctl("report").out)
    assert re.search(r'<table id="clones">(.*\n)*<tr><td>s</td><td class="n">2</td>', d.ctl("report", "--format=html").out)


@once
def test_many_changes(t):
    d = t.daemon("[fixture f]\ncommand = echo x\n")
    c = d.client()
    view = c.attach("f", COW)
    for n in range(23):
        c.set_test(f"test_{n}")
        view.write(0, b"y")
        view.reset()
    text = d.ctl("report").out
    assert "| test_19 | f | session | 1 | 1 |\n\n... and 3 more\n" in text and "test_20" not in text, text


@once
def test_odd_requests(t):
    d = t.daemon("[fixture " + "n" * 40 + "]\ncommand = true\n" + "".join(f"[fixture f{n}]\ncommand = true\n" for n in range(30)))
    assert "- ... and 21 more" in d.ctl("report").out
    assert "None: no fixture" in d.ctl("report").out
    assert "<svg" in d.ctl("report", "--format=html").out
    assert "expected one of markdown, json, html" in d.ctl("report", "--format=pdf", code=2).err
    assert "--since" in d.ctl("report", "--since=yesterday", code=2).err
    assert "unexpected argument 'f1'" in d.ctl("report", "f1", code=2).err
    assert "cannot be written" in d.ctl("report", "-o", t.path("nowhere/report"), code=1).err
    # What is no file is written to, and stays.
    os.symlink("/dev/full", t.path("full"))
    assert "cannot be written" in d.ctl("report", "-o", t.path("full"), code=1).err and os.path.islink(t.path("full"))
    os.symlink("/proc/self/fd/1", t.path("stdout"))
    assert d.ctl("report", "-o", t.path("stdout")).out.startswith("# ") and os.path.islink(t.path("stdout"))
    # A file without a name, too.
    with tempfile.TemporaryFile() as out:
        subprocess.run([harness.program("fixctl"), "-s", d.socket, "report", "-o", "/dev/fd/1"], stdout=out, check=True, timeout=LIMIT)
        out.seek(0)
        assert out.read(2) == b"# "
    t.write("report.new", "somebody's own\n")
    os.symlink(os.path.basename(t.write("file", "")), t.path("report"))
    d.ctl("report", "-o", t.path("report"))
    assert open(t.path("report.new")).read() == "somebody's own\n" and os.readlink(t.path("report")) == "file" and os.path.getsize(t.path("file"))
    of_session = json.loads(d.ctl("report", "--json", "--session", "/usr/..").out)
    assert of_session["fixtures"] != [] and of_session["root"] == "/"


def scripts(name):
    """The blocks of shell in a file of contrib/ci."""
    found, indent = [], None
    for line in open(os.path.join(harness.SRC, "contrib", "ci", name)).read().splitlines():
        depth = len(line) - len(line.lstrip())
        if indent is not None and (not line.strip() or depth >= indent):
            found[-1] += line[indent:] + "\n"
            continue
        indent = None
        if re.fullmatch(r" *(run:|-) \|", line):
            found.append("")
            indent = depth + 2
    return found


@once
def test_the_examples_for_ci(t):
    """What they run is run here: twice, so that there is something to compare with."""
    t.write("fixd.ini", "[fixture corpus]\ncommand = echo words\n")
    t.write("Makefile", "check:\n\tgrep words $$FIXD_FIXTURE_corpus\n\ttest ! -e fail\n")
    env = harness.process_environment() | {"PATH": harness.BUILD + ":" + os.environ["PATH"], "GITHUB_STEP_SUMMARY": t.path("summary"), "TMPDIR": t.dir}

    def run(script, code=0):
        done = subprocess.run(["bash", "-e", "-c", script], cwd=t.dir, env=env, capture_output=True, text=True, timeout=LIMIT)
        assert done.returncode == code, (script, done)
        return done
    for name, files in (("github.yml", ["summary", "fixtures.html"]), ("gitlab.yml", ["fixtures.md", "fixtures.html"])):
        tests, measured = scripts(name)
        assert "words" in run(tests).stdout
        for file in files:
            assert "corpus" in open(t.path(file)).read(), file
            os.remove(t.path(file))
        t.write("fail", "")
        run(tests, code=2)
        assert all(os.path.exists(t.path(file)) for file in files), "a report also of tests that fail"
        os.remove(t.path("fail"))
        run(measured)
        assert json.loads(open(t.path("fixtures.json")).read())["fixtures"][0]["name"] == "corpus"
        t.write("fixd.ini", "[fixture corpus]\ncommand = sleep 0.3; echo words\n")
        assert "corpus: wall s" in run(measured, code=1).stderr
        t.write("fixd.ini", "[fixture corpus]\ncommand = echo words\n")
        os.remove(t.path("fixtures.json"))


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
