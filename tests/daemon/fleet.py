# SPDX-License-Identifier: MIT
"""What is asked of a remote by hand, and what is told of images on their way."""

import contextlib
import datetime
import glob
import hashlib
import hmac
import io
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time

import harness
from harness import LIMIT, SANITIZERS, Skip, once, wait_for
from hosts import Network, enter
from manual import runs
from remote import FIXTURES, Machine, Server, Store, keygen, need, section, store, stored
from schema import Schema
from tutorial import steps

WORDS = "[fixture words]\ncommand = echo words >> runs; cat input; seq 1 20000\nwatch = input\nwatch-by = content\nremote = yes\n"


def remote_of(m):
    return m.daemon.status()["daemon"]["remote"]


def events(m, name=None):
    lines = m.daemon.ctl("trace", "--once", "--json").out.splitlines()
    return [e for e in map(json.loads, lines) if not name or e.get("name") == name]


@once
def test_status(t):
    need(t)
    server, public = Server(), keygen(t)
    m = Machine(t, "m", section(t, server, public) + WORDS, input="text\n")
    m.daemon.ctl("warm", "--wait-upload", "words")
    assert len(server.manifests()) == 1
    r = json.loads(m.daemon.ctl("remote", "status", "--json").out)
    for what, value in ("remote", r), ("remote-status", r), ("status", m.daemon.status()):
        assert not Schema(what + ".json").wrong(value), (what, Schema(what + ".json").wrong(value))
    assert (r["url"], r["reads"], r["writes"], r["namespace"]) == (server.url, ["main"], True, "main"), r
    assert (r["uploads"], r["downloads"], r["failures"], r["transfers"], r["left_alone_s"]) == (1, 0, 0, [], 0), r
    assert sorted(e["event"] for e in events(m, "words")) == ["build", "ready", "upload", "uploaded"], events(m)
    other = Machine(t, "other", section(t, server, public, write=False) + WORDS, input="text\n")
    other.get("words")
    wait_for(lambda: {e["event"] for e in events(other, "words")} >= {"build", "download", "downloaded", "ready"}, "the events")
    text = other.daemon.ctl("remote").out
    assert f"URL: {server.url}\nReads: main\nWrites: nothing\nDownloads: 1 image, " in text, text
    assert "downloaded: " in other.daemon.ctl("explain", "words").out
    none = Machine(t, "none", "[fixture f]\ncommand = true\n")
    assert "this daemon has no remote" in none.daemon.ctl("remote", code=1).err and remote_of(none) is None
    server.close()


@once
def test_check(t):
    need(t)
    server, public = Server(), keygen(t)
    m = Machine(t, "m", section(t, server, public) + WORDS, input="text\n")
    r = json.loads(m.daemon.ctl("remote", "check", "--json").out)
    assert not Schema("remote.json").wrong(r), Schema("remote.json").wrong(r)
    assert r["ok"] and [c["name"] for c in r["checks"]] == ["server", "key-file", "write"], r
    server.http.lie = lambda handler, path, body: handler.answer(200, b"log in") or True
    out = m.daemon.ctl("remote", "check", code=1).out
    assert "write: what it gives back is not what it was given" in out or "write: it sends more than it should" in out, out
    stranger = Machine(t, "stranger", section(t, server, "ab" * 32) + WORDS, input="text\n")
    assert "nobody takes what is signed with it here" in stranger.daemon.ctl("remote", "check", code=1).out
    server.close()
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))  # and nobody listens
        dead = type("Dead", (), {"url": f"http://127.0.0.1:{s.getsockname()[1]}/x"})
        m = Machine(t, "dead", section(t, dead, public) + WORDS, input="text\n")
        assert "wrong  server: " in m.daemon.ctl("remote", "check", code=1).out
        m.get("words")
        assert 0 < json.loads(m.daemon.ctl("remote", "--json").out)["left_alone_s"] <= 60


@once
def test_push_and_pull(t):
    need(t)
    server, public = Server(), keygen(t)
    ini = section(t, server, public) + FIXTURES
    a = Machine(t, "a", ini, input="text\n")
    a.daemon.ctl("warm", "--wait-upload")
    stored(server, 3)
    server.http.files.clear()
    said = a.daemon.ctl("remote", "push", "words", "tree", "count").out
    assert [line.split(", ")[0] for line in said.splitlines()] == ["words: pushed", "tree: pushed", "count: pushed"], said
    assert len(server.manifests()) == 3
    # Also what a daemon has built that was replaced by another since.
    a.daemon.ctl("restart")
    server.http.files.clear()
    a.daemon.ctl("remote", "push", "words")
    assert len(server.manifests()) == 1
    a.daemon.ctl("remote", "push", "tree")
    assert "there is no fixture 'nothing'" in a.daemon.ctl("remote", "push", "nothing", code=1).err
    b = Machine(t, "b", ini, input="text\n")
    assert b.daemon.ctl("remote", "pull", "words", "tree").out == "words: pulled\ntree: pulled\n"
    assert b.daemon.ctl("remote", "pull", "words").out == "words: kept, it was here already\n" and b.runs() == []
    done = json.loads(b.daemon.ctl("remote", "pull", "count", "--json", code=1).out)
    assert not Schema("remote.json").wrong(done), Schema("remote.json").wrong(done)
    assert done["done"] == "built" and b.runs() == ["count"], done
    b.daemon.ctl("cleanup", "words")
    assert f"there is no fixture 'wods' in {b.dir}/fixd.ini (did you mean 'words'?)" in b.daemon.ctl("remote", "push", "wods", code=1).err
    assert "it was not built, or given up" in b.daemon.ctl("remote", "push", "words", code=1).err
    server.close()


@once
def test_prune(t):
    """What nobody has used for long is removed from the directory of a server, and nothing else."""
    need(t)
    server, public = Server(), keygen(t)
    words = "[fixture %s]\ncommand = echo %s; seq 1 200000\nwatch-by = content\nremote = yes\n"
    a = Machine(t, "a", section(t, server, public) + words % ("old", "old") + words % ("young", "young"))
    a.daemon.ctl("warm", "--wait-upload", "old")
    old, = server.manifests()
    a.daemon.ctl("warm", "--wait-upload", "young")
    young, = set(server.manifests()) - {old}
    store, day = t.path("store"), 24 * 3600

    def age(path, days):
        os.utime(path, (time.time() - days * day,) * 2)

    def there():
        return sorted(os.path.relpath(os.path.join(where, name), store) for where, _, files in os.walk(store) for name in files)

    def refused(*args, code=2):
        return a.daemon.ctl("remote", *args, code=code).err

    for path, body in server.http.files.items():
        os.makedirs(os.path.dirname(store + path), exist_ok=True)
        with open(store + path, "wb") as f:
            f.write(body)
        age(store + path, 40)
    pieces = [{line.split()[1] for line in server.http.files[path].decode().splitlines() if line.startswith("chunk ")} for path in (old, young)]
    assert pieces[0] & pieces[1] and pieces[0] - pieces[1], "the second one has pieces of the first one, and of its own"
    age(store + young, 29)
    for name in "index.html", "fixtures/cas/README", "fixtures/cas/" + "f" * 64 + ".tmp", "fixtures/main/ac/" + "F" * 64:
        with open(f"{store}/{name}", "w") as f:
            f.write("of somebody else\n")
        age(f"{store}/{name}", 400)
    os.symlink("/etc/passwd", store + "/fixtures/cas/" + "a" * 64)
    new = store + "/fixtures/cas/" + "b" * 64
    open(new, "w").close()
    before = there()
    would = json.loads(a.daemon.ctl("remote", "prune", "--dry-run", "--json", store).out)
    assert not Schema("remote.json").wrong(would) and there() == before
    assert (would["manifests"], would["pieces"], would["kept"], would["dry_run"]) == (1, len(pieces[0] - pieces[1]), 1, True), would
    said = a.daemon.ctl("remote", "prune", store).out
    assert said.startswith(f"removed 1 image(s) and {would['pieces']} piece(s), ") and said.endswith("; 1 image(s) stay\n"), said
    gone = {old[1:]} | {"fixtures/cas/" + piece for piece in pieces[0] - pieces[1]}
    assert set(before) - set(there()) == gone
    # Looking at what stays is no use of it: a day later it is as old.
    assert json.loads(a.daemon.ctl("remote", "prune", "-jn", "--older-than", "695h", store).out)["manifests"] == 1
    age(new, 2)
    assert json.loads(a.daemon.ctl("remote", "prune", "-j", store).out)["pieces"] == 1 and not os.path.exists(new)
    for path in sorted(server.http.files):
        with contextlib.suppress(FileNotFoundError), open(store + path, "rb") as f:
            server.http.files[path] = f.read()
            continue
        del server.http.files[path]
    b = Machine(t, "b", section(t, server, public, write=False) + words % ("young", "young"))
    assert b.daemon.ctl("remote", "pull", "young").out == "young: pulled\n"
    # What is wrong with the question.
    os.mkdir(t.path("empty"))
    assert "is no directory of a remote" in refused("prune", t.path("empty"), code=1)
    assert "No such file or directory" in refused("prune", t.path("nowhere"), code=1)
    # A part of it, in which everything seems to be unused.
    open(new, "w").close()
    age(new, 40)
    assert "it has pieces in cas, and no NAMESPACE/ac" in refused("prune", store + "/fixtures/cas", code=1)
    os.rename(store + "/fixtures/main", t.path("main"))
    os.symlink(t.path("main"), store + "/fixtures/main")
    os.symlink(store, t.path("link-to-store"))
    for path in store, t.path("link-to-store"):
        said = refused("prune", path, code=1)
        assert f"{path}/fixtures/main leads out of the directory" in said and "cannot be read" not in said, said
    assert os.path.exists(new)
    assert f"unexpected argument '{store}'" in refused("prune", store, store) and "the DIRECTORY of remote prune is missing" in refused("prune")
    assert "the NAME of remote push is missing" in refused("push") and "unexpected argument 'words'" in refused("check", "words")
    assert "--older-than x: expected a number with" in refused("prune", "--older-than", "x", store)
    assert "--older-than and --dry-run are for remote prune" in refused("status", "-n")
    server.close()


@once
def test_keygen(t):
    need(t)

    def keygen(*args, code=0):
        done = subprocess.run([harness.program("fixctl"), "remote", "keygen", *args], capture_output=True, text=True, env=harness.process_environment())
        assert done.returncode == code, done
        return done

    assert re.fullmatch(r"[0-9a-f]{64}\n", keygen(t.path("one")).stdout) and os.stat(t.path("one")).st_mode & 0o777 == 0o600
    made = json.loads(keygen("--json", t.path("two")).stdout)
    assert not Schema("remote.json").wrong(made) and made["key_file"] == t.path("two"), made
    assert "File exists" in keygen(t.path("one"), code=1).stderr and "the FILE of remote keygen is missing" in keygen(code=2).stderr


@once
def test_idle_exit_waits(t):
    """A daemon that nobody needs stays until what it has built is on the remote."""
    need(t)
    server, public = Server(), keygen(t)
    server.http.gate.clear()
    m = Machine(t, "m", "[fixd]\nidle-exit = 1s\n" + section(t, server, public, more="timeout = 1h") + WORDS, input="text\n")
    m.get("words")
    wait_for(lambda: "waiting for what goes to the remote" in m.daemon.words(), "the time of idle-exit to be over")
    assert m.daemon.running() and server.manifests() == []
    server.http.gate.set()
    assert m.daemon.process.wait(LIMIT) == 0 and len(server.manifests()) == 1
    server.close()


@once
def test_a_restart_does_not_lose_sight(t):
    """Of what is on its way to the remote: the daemon after it hears of its end, and waits for it when it is idle."""
    need(t)
    server, public = Server(), keygen(t)
    server.http.gate.clear()
    m = Machine(t, "m", section(t, server, public) + WORDS, input="text\n")
    m.daemon.ctl("warm", "words")
    wait_for(lambda: [x["name"] for x in remote_of(m)["transfers"]] == ["words"], "the upload")
    wait_for(lambda: server.asked("PUT"), "its first piece")
    for _ in range(2):
        m.daemon.ctl("restart")
        assert [(x["name"], x["up"]) for x in remote_of(m)["transfers"]] == [("words", True)]
    waiting = subprocess.Popen([harness.program("fixctl"), "--socket", m.daemon.socket, "warm", "--wait-upload", "words"], stderr=subprocess.DEVNULL)
    server.http.gate.set()
    assert waiting.wait(LIMIT) == 0
    now = remote_of(m)
    assert now["transfers"] == [] and now["uploads"] == 1 and len(server.manifests()) == 1, now
    assert [e["event"] for e in events(m, "words") if "load" in e["event"]] == ["upload", "uploaded"]
    server.close()


@once
def test_a_run_waits_if_asked(t):
    need(t)
    server, public = Server(), keygen(t)
    server.http.gate.clear()
    m = Machine(t, "m", section(t, server, public, more="timeout = 1h") + WORDS, input="text\n")
    run = [harness.program("fixctl"), "--socket", m.daemon.socket, "run"]
    env = harness.process_environment()
    subprocess.run([*run, "true"], timeout=LIMIT, check=True, env=env)  # it does not, unless it is
    assert server.manifests() == []
    waiting = subprocess.Popen([*run, "--wait-upload", "sh", "-c", "touch ran; exit 7"], cwd=m.dir, env=env)
    wait_for(lambda: os.path.exists(m.dir + "/ran"), "the command")
    wait_for(lambda: any(x["up"] for x in remote_of(m)["transfers"]), "the upload")
    assert waiting.poll() is None
    server.http.gate.set()
    assert waiting.wait(LIMIT) == 7 and len(server.manifests()) == 1
    server.close()


@once
def test_which_part_of_a_key_differs(t):
    need(t)
    server, public = Server(), keygen(t)
    ini = section(t, server, public) + WORDS + "env = STAGE\nparams = a, b\n"
    explained = {}
    machines = {"a": (ini, "text\n", "de"), "b": (ini, "other\n", "de"), "c": (ini.replace("seq 1", "seq 2"), "text\n", "de"), "d": (ini, "text\n", "fr"),
                "e": (ini + "doc = words\n", "text\n", "de")}
    for name, (config, content, language) in machines.items():
        machines[name] = m = Machine(t, name, config, input=content)
        m.daemon.ctl("warm", "words[a]", env={"STAGE": language})
        text = m.daemon.ctl("explain", "--json", "words").out
        assert not Schema("explain.json").wrong(json.loads(text)), Schema("explain.json").wrong(json.loads(text))
        explained[name] = t.write(name + ".json", text)
    parts = {p["name"]: p for p in json.loads(open(explained["a"]).read())["instances"][0]["key_parts"]}
    assert parts["param"]["value"] == "a" and parts["/input"]["file"] and parts["machine"]["value"] == os.uname().machine, parts
    assert "\n    /input = " in machines["a"].daemon.ctl("explain", "words[a]").out
    for name, what in ("b", "/input"), ("c", "source"), ("d", "env"):
        lines = machines["a"].daemon.ctl("explain", "--against", explained[name], "words[a]", code=1).out.splitlines()
        assert len(lines) == 2 and lines[1].startswith(f"    {what}: "), lines
    assert "nothing: they are the same" in machines["a"].daemon.ctl("explain", "--against", explained["e"], "words[a]").out
    machines["a"].daemon.ctl("warm", "words[b]", env={"STAGE": "de"})
    machines["a"].daemon.ctl("remote", "push", "words[b]", env={"STAGE": "de"})
    assert "has no key of 'words[b]'" in machines["a"].daemon.ctl("explain", "--against", explained["b"], "words[b]", code=1).err
    server.close()


def s3_signature(secret, method, path, headers, names, date, region):
    """AWS Signature Version 4 of a request without a query."""
    scope = f"{date[:8]}/{region}/s3/aws4_request"
    canonical = "\n".join([method, path, "", *(f"{n}:{headers[n].strip()}" for n in names), "", ";".join(names), headers["x-amz-content-sha256"]])
    to_sign = "\n".join(["AWS4-HMAC-SHA256", date, scope, hashlib.sha256(canonical.encode()).hexdigest()])
    key = b"AWS4" + secret.encode()
    for part in [*scope.split("/"), to_sign]:
        key = hmac.new(key, part.encode(), hashlib.sha256).digest()
    return key.hex()


class S3(Store):
    """Asks of each request that it is signed as S3 has it."""

    def wrong(self, body):
        kind, *fields = self.headers.get("Authorization", "").replace(",", " ").split()
        fields = dict(f.split("=", 1) for f in fields)
        headers = {k.lower(): v for k, v in self.headers.items()}
        names, date = fields["SignedHeaders"].split(";"), headers["x-amz-date"]
        who = f"KEYID/{date[:8]}/eu-west-9/s3/aws4_request"
        now = datetime.datetime.now(datetime.timezone.utc)
        then = datetime.datetime.strptime(date, "%Y%m%dT%H%M%SZ").replace(tzinfo=datetime.timezone.utc)
        if kind != "AWS4-HMAC-SHA256" or fields["Credential"] != who or abs((now - then).total_seconds()) > 900:
            return "who, where or when"
        if not {"host", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token"} <= set(names) or headers["x-amz-security-token"] != "TOKEN":
            return "what is signed"
        if headers["x-amz-content-sha256"] != hashlib.sha256(body).hexdigest():
            return "the body"
        return fields["Signature"] != s3_signature("SECRET/+", self.command, self.path, headers, names, date, "eu-west-9") and "the signature"

    def refuse(self, body=b""):
        wrong = self.wrong(body)
        if wrong:
            self.server.refused.append((self.command, self.path, wrong))
            self.answer(403)
        return wrong

    def do_GET(self):
        if not self.refuse():
            super().do_GET()

    do_HEAD = do_GET

    def do_PUT(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.rfile = io.BytesIO(body) if not self.refuse(body) else None
        if self.rfile:
            super().do_PUT()
        self.close_connection = True


@once
def test_s3(t):
    # Published: "Example: GET Object" of "Authenticating Requests (AWS Signature Version 4)".
    empty, date = hashlib.sha256(b"").hexdigest(), "20130524T000000Z"
    headers = {"host": "examplebucket.s3.amazonaws.com", "range": "bytes=0-9", "x-amz-content-sha256": empty, "x-amz-date": date}
    assert s3_signature("wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "GET", "/test.txt", headers, sorted(headers), date, "us-east-1") == \
        "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41"
    need(t)
    server, public = Server(S3), keygen(t)
    server.http.refused = []
    server.url = server.url.replace("http://", "s3+http://")
    credentials = t.write("credentials", "[other]\naws_access_key_id = NO\n[default]\naws_access_key_id=KEYID\naws_secret_access_key = SECRET/+\n"
                          "aws_session_token = TOKEN\n")
    more = f"region = eu-west-9\ncredentials-file = {credentials}"
    a = Machine(t, "a", section(t, server, public, more=more) + FIXTURES, input="text\n")
    a.daemon.ctl("warm", "--wait-upload")
    stored(server, 3)
    b = Machine(t, "b", section(t, server, public, more=more) + FIXTURES, input="text\n")
    assert b.get("count") == a.get("count") and b.runs() == []
    assert b.daemon.ctl("remote", "check").out.count("ok     ") == 3 and server.http.refused == [], server.http.refused
    for what, text in ("has no credentials of S3", "[default]\n"), ("it answers with status 403", "aws_access_key_id = KEYID\naws_secret_access_key = x\n"):
        m = Machine(t, what.split()[0], section(t, server, public, more=more.replace(credentials, t.write("wrong", text))) + WORDS, input="text\n")
        assert m.get("words") == b.get("words") and m.runs() == ["words"] and what in m.log("words"), m.log("words")
    server.close()


TREE = """[fixture tree]
tree = python3 make.py "$FIXD_DIR"
watch = input
watch-by = content
remote = yes
"""
MAKE = """import os, random, sys
for n in range(1000):
    d = f"{sys.argv[1]}/{n // 100}"
    os.makedirs(d, exist_ok=True)
    text = open("input").read() if n == 500 else random.Random(n).randbytes(20000)
    open(f"{d}/{n}", "wb" if type(text) is bytes else "w").write(text)
    os.utime(f"{d}/{n}", (1, 1))
"""


def sizes(server):
    return sum(len(data) for path, data in server.http.files.items() if "/cas/" in path)


@once
def test_only_what_changed_is_sent(t):
    """A tree of 20 MB, of which one file is another; and pieces that are there are not sent again."""
    need(t)
    server, public = Server(), keygen(t)
    ini = section(t, server, public) + TREE
    m = Machine(t, "m", ini, input="text\n", **{"make.py": MAKE})
    m.daemon.ctl("warm", "--wait-upload", "--timeout", "60s")
    first, puts = sizes(server), len(server.asked("PUT"))
    assert first > 19_000_000 and puts > 20
    with open(m.dir + "/input", "w") as f:
        f.write("another text\n")
    m.daemon.ctl("warm", "--wait-upload", "--timeout", "60s")
    sent = sizes(server) - first
    assert len(server.manifests()) == 2 and 0 < sent < first / 6 and len(server.asked("PUT")) - puts < puts / 4, (first, sent, puts)
    # An upload that broke goes on where it was.
    gone = sorted(path for path in server.http.files if "/cas/" in path)[:3]
    for path in [*gone, *server.manifests()]:
        del server.http.files[path]
    server.http.asked.clear()
    m.daemon.ctl("remote", "push", "tree")
    assert set(server.asked("PUT")) <= {*gone, *server.manifests()} and len(server.manifests()) == 1
    b = Machine(t, "b", ini, input="another text\n", **{"make.py": "raise SystemExit(1)"})
    assert b.daemon.client().attach("tree").data == m.daemon.client().attach("tree").data
    server.close()


@once
def test_what_breaks_goes_on(t):
    """A piece whose connection breaks is asked for again; where each one does, it is given up soon."""
    need(t)
    server, public = Server(), keygen(t)
    ini = section(t, server, public) + "[fixture f]\ncommand = echo f >> runs; seq 1 900000\nwatch-by = content\nremote = yes\n"
    wanted = Machine(t, "a", ini)
    wanted.daemon.ctl("warm", "--wait-upload")
    blobs = {path for path in server.http.files if "/cas/" in path}
    assert len(blobs) > 4
    for name, most, runs in ("b", 1, []), ("c", 10**9, ["f"]):
        broken = []

        def breaks(handler, path, body, broken=broken, most=most):
            if path not in blobs or broken.count(path) >= most:
                return False
            broken.append(path)
            handler.answer(200, body[:len(body) // 2], length=len(body))
            return True

        server.http.lie = breaks
        m = Machine(t, name, ini)
        assert m.get("f") == wanted.get("f") and m.runs() == runs and len(broken) >= (len(blobs) if most == 1 else 3), (name, m.runs(), len(broken))
    server.close()


@once
def test_the_examples_for_ci(t):
    """The commands of contrib/ci: the main branch and a pull request write where they may, and what has no key reads."""
    need(t)
    server, public = Server(), keygen(t)
    pr = keygen(t, "pr-key")
    commands = []
    for name in "github", "gitlab":
        with open(os.path.join(harness.SRC, f"contrib/ci/{name}-fleet.yml")) as f:
            found = re.findall(r"contrib/ci/(with-remote .*)", f.read().split("jobs:")[-1])
        assert len(found) == 2, found
        commands.append([re.sub(r"\$\{\{.*?\}\}", "1", c).replace("./run-tests", "cat words #") for c in found])
    assert commands[0][0] == commands[1][0]

    def run(checkout, number, **env):
        directory = t.path(checkout)
        os.makedirs(directory + "/run", exist_ok=True)
        os.chmod(directory + "/run", 0o700)
        ini = f"[remote]\nurl = {server.url}\npublic-keys = main:{public}, pr/*:{pr}\nread = main\ntimeout = 20s\n" + WORDS + "path = words\n"
        if env.pop("terse", False):
            ini = ini.replace("read = main\n", "").replace("[remote]", "[remote] ; of the team")
        for name, text in ("fixd.ini", ini), ("input", env.pop("input", "text\n")):
            with open(f"{directory}/{name}", "w") as f:
                f.write(text)
        path = f"{harness.SRC}/contrib/ci:{harness.BUILD}:{os.environ['PATH']}"
        done = subprocess.run(["sh", "-c", commands[number][env.pop("which", 0)]], cwd=directory, capture_output=True, text=True, timeout=LIMIT,
                              env={**harness.process_environment(), "PATH": path, "XDG_RUNTIME_DIR": directory + "/run", **env})
        assert done.returncode == 0, done.stdout + done.stderr
        with open(directory + "/fixd.ini") as f:
            assert f.read() == ini, "fixd.ini is not as it was"
        return done.stdout, os.path.exists(directory + "/runs")

    def secret(name):
        with open(t.path(name)) as f:
            return f.read().strip()

    assert run("main", 0, MAIN_KEY=secret("key"))[1] and [p.split("/ac/")[0] for p in server.manifests()] == ["/fixtures/main"]
    assert not run("shard", 0, which=1, MAIN_KEY="$FIXD_KEY", PR_KEY="", NUMBER="")[1], "a shard built it"
    assert not run("pr", 0, PR_KEY=secret("pr-key"), NUMBER="7", MAIN_KEY="$FIXD_KEY")[1], "a pull request built what the main branch has"
    assert not run("pr-terse", 0, PR_KEY=secret("pr-key"), NUMBER="8", terse=True)[1], "it reads its own only"
    assert run("changed", 1, PR_KEY=secret("pr-key"), NUMBER="7", input="other\n")[1]
    assert [p.split("/ac/")[0] for p in server.manifests()] == ["/fixtures/main", "/fixtures/pr/7"]
    assert not run("shard-of-pr", 1, which=1, PR_KEY=secret("pr-key"), NUMBER="7", input="other\n")[1]
    assert run("shard-of-main", 1, which=1, input="other\n")[1], "the main branch took what a pull request has built"
    server.close()


@runs("ci/README Two machines *")
@once
def test_two_machines_by_hand(t):
    """What a newcomer types, on hosts of their own."""
    need(t)
    listing, begin, make_keys, ini, send, take = steps("ci/README Two machines *")
    assert listing[0] == "mkdir -p /srv/fixd" and begin[0].startswith("nginx -c") and ini[0] == "cat fixd.ini"
    net = Network(3)
    path, conf = store(t, "nginx", "10.9.0.1", 8080)
    # None of these has a sanitizer's runtime.
    env = harness.process_environment()
    nginx = subprocess.Popen([*enter(net.hosts[0]), path, "-c", conf, "-p", t.dir], stderr=subprocess.PIPE, env=env)
    ask = [*enter(net.hosts[0]), "curl", "-s", "-m", "5", "http://10.9.0.1:8080/"]

    def say(host, command):
        directory = t.path(f"host{host}")
        path = f"{harness.SRC}:{harness.BUILD}:{os.environ['PATH']}"
        command = command.replace("contrib/ci/", f"{harness.SRC}/contrib/ci/")
        done = subprocess.run([*enter(net.hosts[host]), "sh", "-c", command], cwd=directory, capture_output=True, text=True, timeout=LIMIT,
                              env={**env, "PATH": path, "XDG_RUNTIME_DIR": directory + "/run"})
        assert done.returncode == 0, (command, done)
        return done.stdout

    try:
        wait_for(lambda: subprocess.run(ask, stdout=subprocess.DEVNULL, env=env).returncode == 0, "nginx")
        for host in 1, 2:
            os.makedirs(t.path(f"host{host}/run"), 0o700)
        public = say(1, make_keys[0]).strip()
        for host in 1, 2:
            text = "".join(line + "\n" for line in ini[1]).replace("//store:", "//10.9.0.1:").replace("PUBLIC", public)
            t.write(f"host{host}/fixd.ini", text)
            t.write(f"host{host}/words.txt", "words\n")
            os.chmod(t.write(f"host{host}/make-corpus", f"#!/bin/sh\necho run >>{t.path('runs')}\ncat \"$1\"\n"), 0o755)
        for host, (command, lines) in (1, send), (2, take):
            assert say(host, command) == "".join(line.replace("//store:", "//10.9.0.1:") + "\n" for line in lines if line) and t.runs("runs") == 1
    finally:
        nginx.terminate()
        nginx.communicate()
        net.close()


@once
def test_progress(t):
    """How far a download is, is told while it goes on."""
    need(t)
    server, public = Server(), keygen(t)
    ini = section(t, server, public) + WORDS
    Machine(t, "a", ini, input="text\n").daemon.ctl("warm", "--wait-upload")
    gate = threading.Event()

    def slow(handler, path, body):
        if "/cas/" not in path:
            return False
        handler.answer(200, body[:len(body) // 2], length=len(body))
        handler.wfile.flush()
        gate.wait(LIMIT)
        handler.wfile.write(body[len(body) // 2:])
        return True

    server.http.lie = slow
    b = Machine(t, "b", section(t, server, public, more="timeout = 30s") + WORDS, input="text\n")
    warm = subprocess.Popen([harness.program("fixctl"), "--socket", b.daemon.socket, "warm"], stdout=subprocess.PIPE)
    transfer, = wait_for(lambda: remote_of(b)["transfers"], "the download")
    size = len("text\n") + len("".join(f"{n}\n" for n in range(1, 20001)))
    assert (transfer["name"], transfer["up"], transfer["size"]) == ("words", False, size), transfer
    watch = subprocess.Popen([harness.program("fixctl"), "--socket", b.daemon.socket, "status", "--watch"], stdout=subprocess.PIPE)
    for line in watch.stdout:
        if line.startswith(b"Remote: downloading words, "):
            break
    watch.kill()
    watch.communicate()
    gate.set()
    assert b"words: ready" in warm.communicate(timeout=LIMIT)[0] and b.runs() == []
    server.close()


WORDNET = "/usr/share/wordnet"


@once
def test_wordnet(t):
    """The graph of the demo, what points into it, and the database: from one machine to two, where the facts of the demo are checked."""
    need(t)
    if not os.path.exists(WORDNET + "/data.noun"):
        raise Skip("the package wordnet-base is not installed")
    if SANITIZERS:
        raise Skip("the suite of the demo checks memory, which a sanitizer's runtime takes")
    server, public = Server(), keygen(t)
    demo = os.path.join(harness.SRC, "contrib", "demo")
    with open(demo + "/fixd.ini") as f:
        ini = f.read().replace("[policy]", "[policy]\nwatch-by = content")
    for name in "wordnet", "hypernyms", "database":
        ini = ini.replace(f"[fixture {name}]", f"[fixture {name}]\nremote = yes")
    digests = []
    for name, base in ("a", ""), ("b", ""), ("c", "[fixd]\naddress-base = 0x7ea000000000\n"):
        m = Machine(t, name, base + section(t, server, public) + ini)
        for path in glob.glob(WORDNET + "/data.*") + glob.glob(WORDNET + "/index.*") + [
                demo + "/to-sqlite", os.path.join(harness.BUILD, "contrib/demo/.libs/wordnet.so")]:
            shutil.copy(path, m.dir)
        m.daemon.ctl("warm", "--wait-upload", timeout=300)
        digests.append({n: m.daemon.instance(n)["digest"] for n in ("wordnet", "hypernyms", "database", "nouns")})
        done = subprocess.run([os.path.join(harness.BUILD, "contrib/demo/suite")], capture_output=True, text=True, timeout=300,
                              env={**os.environ, "FIXD_SOCKET": m.daemon.socket})
        assert done.returncode == 0 and "failed=0" in done.stdout, done.stdout + done.stderr
        downloads = [e["name"] for e in events(m) if e["event"] == "downloaded"]
        assert sorted(downloads) == ([] if name == "a" else ["database", "hypernyms", "wordnet"]), downloads
        m.daemon.stop()
    assert digests[0] == digests[1] == digests[2]
    server.close()


if __name__ == "__main__":
    harness.main(__import__("__main__"))
