# SPDX-License-Identifier: MIT
"""Images of other machines: signed, over HTTP, from servers that are there, sick, or lying."""

import ctypes
import hashlib
import http.server
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import threading
import time

import harness
from harness import LIMIT, once, wait_for
from mounts import in_a_mount_namespace, inside

REMOTE = harness.program("fixd-remote")


class Store(http.server.BaseHTTPRequestHandler):
    """GET, HEAD and PUT; and what else a test wants: `lie(handler, path, body)` answers in its place."""
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, code, body=b"", length=None):
        self.send_response(code)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        self.server.asked.append((self.command, self.path))
        body = self.server.files.get(self.path)
        try:
            if self.server.lie and self.command == "GET" and self.server.lie(self, self.path, body):
                self.close_connection = True
                return
            self.answer(200 if body is not None else 404, body or b"not here")
        except OSError:
            self.close_connection = True

    do_HEAD = do_GET

    def do_PUT(self):
        self.server.asked.append((self.command, self.path))
        self.server.gate.wait(LIMIT)
        if len(self.server.files) >= self.server.room:
            self.close_connection = True
            return self.answer(507, b"no space")
        self.server.files[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.thanks:
            self.close_connection = True
            return self.server.thanks(self, "", None)
        self.answer(201)


class Server:
    def __init__(self, handler=Store):
        self.http = type("Http", (http.server.ThreadingHTTPServer,), {"request_queue_size": 64})(("127.0.0.1", 0), handler)
        self.http.daemon_threads = True
        self.http.files, self.http.asked, self.http.lie, self.http.gate = {}, [], None, threading.Event()
        self.http.gate.set()  # without it nothing is taken
        self.http.room = sys.maxsize  # files
        self.http.thanks = None  # what is said of a file that was taken, if it is not 201
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.http.server_port}/fixtures"

    def asked(self, what):
        return [path for command, path in self.http.asked if command == what]

    def manifests(self):
        return sorted(path for path in self.http.files if "/ac/" in path)

    def close(self):
        self.http.shutdown()
        self.http.server_close()


class Machine:
    """A checkout of its own, with its own daemon and its own memory of sick remotes."""

    def __init__(self, t, name, ini, prefix=(), env=(), **files):
        self.t, self.dir = t, t.path(name)
        os.makedirs(self.dir + "/run")
        os.chmod(self.dir + "/run", 0o700)
        for path, text in files.items():
            with open(f"{self.dir}/{path}", "w") as f:
                f.write(text)
        case = harness.Case(t.mode, t.wrapper)
        shutil.rmtree(case.dir)
        case.dir = self.dir
        self.daemon = case.daemon(ini, env={"XDG_RUNTIME_DIR": self.dir + "/run", **dict(env)}, prefix=prefix)
        self.daemon.case = t
        t.daemons.append(self.daemon)

    def get(self, name):
        return self.daemon.ctl("get", name).out

    def runs(self):
        try:
            with open(self.dir + "/runs") as f:
                return f.read().split()
        except FileNotFoundError:
            return []

    def log(self, name):
        return self.daemon.ctl("log", name).out


def need(t):
    if not os.access(REMOTE, os.X_OK):
        raise harness.Skip("fixd-remote was not built: libcurl, libzstd, libsodium or libcrypto is missing")


def keygen(t, name="key"):
    done = subprocess.run([REMOTE, "keygen", t.path(name)], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def section(t, server, public, write=True, more="timeout = 20s"):
    """With time for a machine that is busy."""
    write = f"write = yes\nkey-file = {t.path('key')}\n" if write else ""
    return f"[remote]\nurl = {server.url}\npublic-keys = {public}\n{write}{more}\n"


FIXTURES = """[fixture words]
command = echo words >> runs; cat input; seq 1 20000
watch = input
watch-by = content
remote = yes
[fixture tree]
tree = echo tree >> runs; cp input "$FIXD_DIR"; cd "$FIXD_DIR"; mkdir -p d/e "d/with blank" closed; echo hi > d/f; ln d/f d/g; ln -s ../d link; chmod 755 d/f; chmod 700 closed
watch = input
watch-by = content
remote = yes
[fixture count]
command = echo count >> runs; wc -l < "$FIXD_DEP_words"
depends = words
watch-by = content
remote = yes
"""


def stored(server, n):
    wait_for(lambda: len(server.manifests()) == n, f"{n} images on the server")


def test_two_machines(t):
    need(t)
    server, public = Server(), keygen(t)
    ini = section(t, server, public) + FIXTURES
    a = Machine(t, "a", ini, input="text\n")
    wanted = a.get("words"), a.get("count")
    a.daemon.ctl("warm", "tree")
    assert sorted(a.runs()) == ["count", "tree", "words"]
    stored(server, 3)
    b = Machine(t, "elsewhere", ini, input="text\n")
    assert (b.get("words"), b.get("count")) == wanted
    view, other = b.daemon.client().attach("tree"), a.daemon.client().attach("tree")
    assert view.data == other.data
    names = sorted(os.path.relpath(os.path.join(where, name), view.path) for where, d, f in os.walk(view.path) for name in d + f)
    assert names == ["closed", "d", "d/e", "d/f", "d/g", "d/with blank", "input", "link"], names
    assert os.stat(view.path + "/d/f").st_ino == os.stat(view.path + "/d/g").st_ino and os.readlink(view.path + "/link") == "../d"
    assert b.runs() == [] and len(server.asked("PUT")) == 6, server.http.asked
    for name in "words", "tree", "count":
        assert a.daemon.instance(name)["digest"] == b.daemon.instance(name)["digest"]
    # Another input is another image; the same again is there still.
    with open(b.dir + "/input", "w") as f:
        f.write("other\n")
    got = b.get("words")
    assert got.startswith("other\n") and b.runs() == ["words"], (got[:20], b.runs())
    stored(server, 4)
    with open(b.dir + "/input", "w") as f:
        f.write("text\n")
    assert b.get("words") == wanted[0] and b.runs() == ["words"]
    server.close()


def test_what_is_shown_in_place(t):
    """A tree that keeps its modes."""
    need(t)
    server, public = Server(), keygen(t)
    ini = section(t, server, public) + ("[fixture data]\ntree = echo run >> runs; cd \"$FIXD_DIR\"; mkdir in; echo x > in/f; chmod 600 in/f; chmod 710 in; "
                                        "chmod 700 .\nwatch-by = content\nremote = yes\npath = data\n")
    views = []
    for name in "a", "b":
        m = Machine(t, name, ini)
        views.append(m.daemon.client().attach("data"))
        stored(server, 1)
        assert [oct(os.stat(views[-1].path + p).st_mode & 0o777) for p in ("", "/in", "/in/f")] == ["0o700", "0o710", "0o600"]
    assert views[0].data == views[1].data and m.runs() == []
    server.close()


@once
def test_what_makes_a_key(t):
    need(t)
    server, public = Server(), keygen(t)
    base = section(t, server, public, more="timeout = 3s")
    words = "[fixture f]\ncommand = echo f >> runs; cat input\nwatch = input\nwatch-by = content\nremote = yes\n"
    first = Machine(t, "m0", base + words, input="x")
    first.get("f")
    stored(server, 1)
    variants = {  # what differs: is it another key?
        "m1": (words, "x", False), "m2": (words + "doc = words\nmax-age = 5s\n", "x", False), "m3": (words, "y", True),
        "m4": (words.replace("cat input", "cat  input"), "x", True), "m5": (words + "env = SOME\n", "x", True),
        "m6": (words.replace("[fixture f]", "[fixture g]"), "x", True),  # its command has FIXD_FIXTURE
    }
    for name, (text, content, differs) in variants.items():
        m = Machine(t, name, base + text, input=content)
        m.daemon.ctl("get", "g" if "[fixture g]" in text else "f", env={"SOME": "value"})
        assert (m.runs() != []) == differs, (name, m.runs())
    server.close()


@once
def test_links_and_times_in_a_key(t):
    """Where a link leads to is part of a key, when a file was written is not."""
    need(t)
    server, public = Server(), keygen(t)
    ini = section(t, server, public, more="timeout = 3s") + (
        "[fixture source]\ndirectory = data\nwatch-by = content\n"
        "[fixture f]\ncommand = echo f >> runs; cat data/to; readlink data/to\ndepends = source\nwatch = data\nwatch-by = content\nremote = yes\n")
    runs = []
    for k, target in enumerate(["a", "a", "b"]):
        m = Machine(t, f"m{k}", ini)
        os.mkdir(m.dir + "/data")
        for name in "ab":
            with open(f"{m.dir}/data/{name}", "w") as f:
                f.write("the same\n")
            os.utime(f"{m.dir}/data/{name}", (1000 * k, 1000 * k))
        os.symlink(target, m.dir + "/data/to")
        assert m.get("f") == f"the same\n{target}\n"
        runs.append(len(m.runs()))
        stored(server, len(set("aab"[:k + 1])))
    assert runs == [1, 0, 1], runs
    server.close()


@once
def test_what_was_refused(t):
    """What its check does not want, what is too old and what was cleaned up does not come back from the remote."""
    need(t)
    server, public = Server(), keygen(t)
    for name, more in ("checked", "check = ! test -s bad\n"), ("old", "max-age = 1ms\n"), ("cleaned", ""):
        ini = section(t, server, public, more="timeout = 3s") + f"[fixture {name}]\ncommand = echo f >> runs; cat now\nwatch-by = content\nremote = yes\n" + more
        m = Machine(t, name, ini, now="one", bad="")
        assert m.get(name) == "one"
        stored(server, 1 + ["checked", "old", "cleaned"].index(name))
        with open(m.dir + "/now", "w") as f:
            f.write("two")
        if name == "checked":
            with open(m.dir + "/bad", "w") as f:
                f.write("yes")
        if name == "cleaned":
            m.daemon.ctl("cleanup", name)
            m.daemon.ctl("restart")
        assert m.get(name) == "two" and len(m.runs()) == 2, (name, m.runs())
        wait_for(lambda: len([path for path in server.asked("PUT") if "/ac/" in path]) == 2, "the other one in its place")
        del server.http.asked[:]
    server.close()


@once
def test_what_changes_meanwhile(t):
    """What was read before its input changed does not go to the remote as what is made from the new one."""
    need(t)
    server, public = Server(), keygen(t)
    ini = section(t, server, public) + ("[fixture f]\ncommand = cat input; echo f >> runs; until test -e go; do sleep 0.01; done\nwatch = input\n"
                                        "watch-by = content\nremote = yes\n")
    m = Machine(t, "m", ini, input="old\n")
    waiting = subprocess.Popen([harness.program("fixctl"), "--socket", m.daemon.socket, "get", "f"], stdout=subprocess.DEVNULL)
    wait_for(m.runs, "the build")
    with open(m.dir + "/input", "w") as f:
        f.write("new\n")
    open(m.dir + "/go", "w").close()
    waiting.communicate(timeout=LIMIT)
    assert m.get("f") == "new\n"
    stored(server, 1)
    assert len([path for path in server.asked("PUT") if "/ac/" in path]) == 1, server.http.asked
    again = Machine(t, "again", ini, input="new\n")
    assert again.get("f") == "new\n" and again.runs() == []
    server.close()


def test_what_is_built_of_other_inputs(t):
    """Of a file that comes meanwhile, or is another one for a moment, the names and contents before and after do not tell: the daemon does."""
    need(t)
    server, public = Server(), keygen(t)
    command = "command = echo f >> runs; until test -e go; do sleep 0.01; done; cat data/*; if test -e back; then mv back data/1; fi\n"
    ini = section(t, server, public) + f"[fixture f]\n{command}watch = data/*\nwatch-by = content\nremote = yes\n"

    def built(name, meanwhile, then):
        m = Machine(t, name, ini)
        os.mkdir(m.dir + "/data")
        with open(m.dir + "/data/1", "w") as f:
            f.write("first\n")
        waiting = subprocess.Popen([harness.program("fixctl"), "--socket", m.daemon.socket, "get", "f"], stdout=subprocess.PIPE, text=True)
        wait_for(m.runs, "the build")
        meanwhile(m.dir)
        open(m.dir + "/go", "w").close()
        assert waiting.communicate(timeout=LIMIT)[0] == then and len(m.runs()) == 2, m.runs()

    def add(top):
        with open(top + "/data/2", "w") as f:
            f.write("second\n")

    def flip(top):
        os.rename(top + "/data/1", top + "/back")
        with open(top + "/data/1", "w") as f:
            f.write("for a moment\n")

    built("added", add, "first\nsecond\n")
    stored(server, 1)
    built("flipped", flip, "first\n")
    stored(server, 2)
    last = Machine(t, "last", ini)
    os.mkdir(last.dir + "/data")
    with open(last.dir + "/data/1", "w") as f:
        f.write("first\n")
    assert last.get("f") == "first\n" and last.runs() == []
    server.close()


def read_manifest(server):
    path, = server.manifests()
    return path, server.http.files[path]


def lies(server, path, blob, other):
    """What a server may do instead, by name; `path` is that of the manifest, `blob` that of the bytes, `other` one that was signed for another key."""
    def instead(what, answer):
        def lie(handler, asked, body):
            if asked != what:
                return False
            answer(handler, body)
            return True
        return lie

    def raw(data, pause=0.0, times=1):
        def answer(handler, _body):
            for _ in range(times):
                handler.wfile.write(data)
                handler.wfile.flush()
                time.sleep(pause)
        return answer

    def body_of(change, **more):
        return lambda handler, body: handler.answer(200, change(body), **more)

    head = b"HTTP/1.1 200 OK\r\n"
    return {
        "an error page": instead(path, body_of(lambda b: b"<html>please log in</html>")),
        "an empty manifest": instead(path, body_of(lambda b: b"")),
        "another one's": instead(path, body_of(lambda b: other)),
        "a bit flipped": instead(path, body_of(lambda b: b.replace(b"size 1", b"size 2"))),
        "a signature flipped": instead(path, body_of(lambda b: b[:-2] + (b"0" if b[-2:-1] != b"0" else b"1") + b"\n")),
        "cut": instead(path, body_of(lambda b: b[:-20])),
        "zeros": instead(path, body_of(lambda b: b.replace(b"key", b"k\0y"))),
        "endless": instead(path, raw(head + b"\r\n" + b"x" * 100000, times=50)),
        "longer than it says": instead(path, body_of(lambda b: b * 2)),
        "redirected": instead(path, raw(b"HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n")),
        "broken": instead(path, lambda h, b: h.answer(500, b"oops")),
        "no HTTP": instead(path, raw(b"\0\1\2 hello\r\n\r\n")),
        "endless headers": instead(path, raw(head + b"X: " + b"y" * 60000 + b"\r\n", times=60)),
        "slow headers": instead(path, raw(b"H", pause=0.5, times=20)),
        "hung up": instead(path, lambda h, b: None),
        "a blob that is cut": instead(blob, body_of(lambda b: b[:-5])),
        "a blob cut behind its length": instead(blob, lambda h, b: h.answer(200, b[:100], length=len(b))),
        "a blob with more": instead(blob, body_of(lambda b: b + b"more")),
        "a blob of zeros": instead(blob, body_of(lambda b: b"\0" * len(b))),
        "a blob that is wrong at its end": instead(blob, body_of(lambda b: b[:-1] + bytes([b[-1] ^ 1]))),
        "no blob": instead(blob, lambda h, b: h.answer(404)),
        "compressed": instead(path, raw(head + b"Content-Encoding: gzip\r\nContent-Length: 20\r\n\r\n" + b"\x1f\x8b\x08\0" + b"\0" * 16)),
        "pieces of a wrong length": instead(path, raw(head + b"Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc\r\n")),
        "pieces without an end": instead(path, raw(head + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 20000, times=20)),
        "a negative length": instead(path, raw(head + b"Content-Length: -5\r\n\r\nhello")),
        "a length that is never sent": instead(path, raw(head + b"Content-Length: 9000000000000000000\r\n\r\nhello")),
        "an answer of no bytes": instead(path, raw(b"HTTP/1.1 204 No Content\r\n\r\n")),
        "a part of it": instead(path, lambda h, b: h.answer(206, b[:50])),
        "another host": instead(path, raw(b"HTTP/1.1 301 Moved\r\nLocation: http://127.0.0.2:1/x\r\nContent-Length: 0\r\n\r\n")),
        "a password": instead(path, raw(b"HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Basic realm=x\r\nContent-Length: 0\r\n\r\n")),
        "another protocol": instead(path, raw(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n\0\0\0")),
        "HTTP 0.9": instead(path, lambda h, b: h.wfile.write(b)),
        "continue for ever": instead(path, raw(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, times=20)),
        "the manifest as a blob": instead(blob, body_of(lambda b: server.http.files[path])),
        "a blob that drips": instead(blob, raw(head + b"Content-Length: 100000\r\n\r\n" + b"a" * 50, pause=0.2, times=30)),
        "a blob that is elsewhere": instead(blob, raw(b"HTTP/1.1 307 There\r\nLocation: http://127.0.0.2:1/x\r\nContent-Length: 0\r\n\r\n")),
        "a blob that does not come": instead(blob, raw(head + b"Content-Length: 100000\r\n\r\nabc", pause=0.5, times=10)),
    }


@once
def test_servers_that_lie(t):
    need(t)
    server, public = Server(), keygen(t)
    ini = section(t, server, public, more="") + "[fixture f]\ncommand = echo f >> runs; cat input; seq 1 20000\nwatch = input\nwatch-by = content\nremote = yes\n"
    other = Machine(t, "other", ini, input="other\n")
    other.get("f")
    stored(server, 1)
    _, signed_for_other = read_manifest(server)
    server.http.files.clear()
    wanted = Machine(t, "first", ini, input="text\n").get("f")
    stored(server, 1)
    path, _ = read_manifest(server)
    blob, = (p for p in server.http.files if "/cas/" in p)
    files = dict(server.http.files)
    for number, (what, lie) in enumerate(lies(server, path, blob, signed_for_other).items()):
        server.http.files, server.http.lie = dict(files), lie
        m = Machine(t, f"m{number}", ini, input="text\n")
        assert m.get("f") == wanted, what
        assert m.runs() == ["f"], f"{what}: taken, or built twice: {m.runs()}"
        said = m.log("f")
        assert "fixd-remote: " in said and ("is not taken: " in said or "left alone for a minute" in said), (what, said)
        m.daemon.stop()
    server.http.lie = None
    m = Machine(t, "last", ini, input="text\n")
    assert m.get("f") == wanted and m.runs() == []
    server.close()


def library(name, **functions):
    lib = ctypes.CDLL(name)
    for function, result in functions.items():
        getattr(lib, function).restype = result
    return lib


def sign(t, lines):
    """A manifest, by the key of the test."""
    sodium = library("libsodium.so.23")
    with open(t.path("key")) as f:
        secret = bytes.fromhex(f.read().strip())
    text, signature = b"".join(lines), ctypes.create_string_buffer(64)
    assert sodium.crypto_sign_detached(signature, None, text, ctypes.c_ulonglong(len(text)), secret) == 0
    return text + b"signature " + secret[32:].hex().encode() + b" " + signature.raw.hex().encode() + b"\n"


def compress(data):
    zstd = library("libzstd.so.1", ZSTD_compress=ctypes.c_size_t, ZSTD_compressBound=ctypes.c_size_t)
    out = ctypes.create_string_buffer(zstd.ZSTD_compressBound(ctypes.c_size_t(len(data))))
    size = zstd.ZSTD_compress(out, ctypes.c_size_t(len(out)), data, ctypes.c_size_t(len(data)), 3)
    return out.raw[:size]


@once
def test_what_is_signed_and_wrong(t):
    """Whoever has the key makes a mistake, or means harm: it is refused all the same, before it takes memory."""
    need(t)
    server, public = Server(), keygen(t)
    ini = section(t, server, public, write=False, more="") + "[fixd]\nmemory-max = 64M\n[fixture f]\ncommand = echo f >> runs; echo wanted\nwatch-by = content\nremote = yes\n"
    Machine(t, "first", ini.replace("[fixd]", f"write = yes\nkey-file = {t.path('key')}\n[fixd]")).get("f")
    stored(server, 1)
    path, text = read_manifest(server)
    start, files = text[:text.index(b"size")].splitlines(keepends=True), dict(server.http.files)

    def made(size, *chunks, builder=b"builder x\n"):
        """Of pieces as they are stored, and the sizes that are said of them."""
        for stored_bytes, _ in chunks:
            server.http.files["/fixtures/cas/" + hashlib.sha256(stored_bytes).hexdigest()] = stored_bytes
        return [*start, b"size %d\n" % size, builder,
                *[b"chunk %s %d %d\n" % (hashlib.sha256(data).hexdigest().encode(), len(data), says) for data, says in chunks]]

    frame, big, bomb = compress(b"wrong\n"), compress(b"\0" * (2 << 20)), compress(b"\0" * (1 << 28))
    wrong = {
        "more than its pieces": made(7, (frame, 6)), "less than its pieces": made(5, (frame, 6)), "a piece of nothing": made(0, (frame, 0)),
        "a piece that is too large": made(1 << 22, (frame, 1 << 22)), "a piece that is more": made(5, (frame, 5)), "a piece that is less": made(7, (frame, 7)),
        "a bomb": made(6, (bomb, 6)), "a bomb of the largest size": made(2 << 20, (bomb, 2 << 20)), "no frame": made(6, (b"wrong\n", 6)),
        "half a frame": made(6, (frame[:-2], 6)), "a piece once more": made(12, (frame + b"x", 6), (frame, 6)),
        "more than there is memory": made(100 << 20, *[(big, 2 << 20)] * 50), "more than anybody has": made(1 << 62),
        "a newer one": [line.replace(b"fixd-remote 2", b"fixd-remote 3") for line in made(6, (frame, 6))],
        "as Windows ends lines": [line.replace(b"\n", b"\r\n") for line in made(6, (frame, 6))],
        "a second size": made(6, (frame, 6), builder=b"size 6\nbuilder x\n"), "no hash": [*made(6, (frame, 6))[:-1], b"chunk ../../x 3 6\n"],
        "a number that is none": [line.replace(b"size 6", b"size 0x6") for line in made(6, (frame, 6))],
        "a hash in capitals": [line if not line.startswith(b"chunk") else line.upper().replace(b"CHUNK", b"chunk") for line in made(6, (frame, 6))],
    }
    for number, (what, lines) in enumerate(wrong.items()):
        server.http.files[path] = sign(t, lines)
        m = Machine(t, f"m{number}", ini)
        assert m.get("f") == "wanted\n" and m.runs() == ["f"], (what, m.log("f"))
        assert "is not taken: " in m.log("f"), (what, m.log("f"))
        m.daemon.stop()
    server.http.files[path] = sign(t, made(6, (frame, 6)))
    m = Machine(t, "right", ini)
    assert m.get("f") == "wrong\n", m.log("f")
    server.http.files = files
    server.close()


@once
def test_a_dead_server(t):
    """It costs its time-out once, and no more for a minute."""
    need(t)
    public = keygen(t)
    with socket.socket() as deaf:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(8)  # connects, and says nothing
        server = type("Deaf", (), {"url": f"http://127.0.0.1:{deaf.getsockname()[1]}/x"})
        m = Machine(t, "m", section(t, server, public, more="timeout = 1s") + FIXTURES, input="text\n")
        wanted = m.get("words")
        assert wanted.startswith("text\n") and "left alone for a minute" in m.log("words"), m.log("words")
        m.get("count")
        m.daemon.ctl("warm", "tree")
        assert m.log("count") == "" and m.log("tree") == ""
        deaf.setblocking(False)
        deaf.accept()[0].close()
        try:
            deaf.accept()
            raise AssertionError("it was asked again")
        except BlockingIOError:
            pass
    # And nobody listens at all.
    m = Machine(t, "n", section(t, server, public) + FIXTURES, input="text\n")
    assert m.get("words") == wanted and "left alone for a minute" in m.log("words")
    # Who waits for what goes there is told that it does not.
    done = m.daemon.ctl("warm", "--wait-upload", "tree", code=1)
    assert "tree did not go to the remote: the remote is left alone for a minute" in done.err, done.err


@once
def test_a_full_server(t):
    """What it has no room for is said, and costs nothing else; half of an image is never taken for one."""
    need(t)
    for room in 0, 1:
        server, public = Server(), keygen(t, f"key{room}")
        server.http.room = room
        ini = section(t, server, public).replace(t.path("key"), t.path(f"key{room}")) + "[fixture f]\ncommand = echo f >> runs; echo words\nwatch-by = content\nremote = yes\n"
        m = Machine(t, f"full{room}", ini)
        done = m.daemon.ctl("warm", "--wait-upload", "f", code=1)
        assert "it answers with status 507; nothing is sent there for a minute" in m.log("f") + done.err, (m.log("f"), done.err)
        assert m.get("f") == "words\n" and len(server.http.files) == room and not server.manifests()
        assert Machine(t, f"next{room}", ini).get("f") == "words\n"
        # What is there can be had meanwhile.
        assert json.loads(m.daemon.ctl("remote", "-j").out)["left_alone_s"] == 0 < json.loads(m.daemon.ctl("remote", "-j").out)["sends_nothing_s"]
        # With room again what is missing follows by hand.
        server.http.room = 10
        m.daemon.ctl("remote", "push", "f")
        assert len(server.manifests()) == 1
        server.close()


@once
def test_no_room_here(t):
    """What comes is given up and leaves nothing; with room it comes."""
    need(t)
    server, public = Server(), keygen(t)
    ini = section(t, server, public) + ("[fixture f]\ntree = echo f >> runs; head -c 8000000 /dev/urandom >$FIXD_DIR/noise; touch $FIXD_DIR/last\n"
                                        "watch-by = content\nremote = yes\n")
    Machine(t, "a", ini).daemon.ctl("warm", "--wait-upload", "f")
    stored(server, 1)
    full = in_a_mount_namespace(t, "mkdir -p run; mount -t tmpfs -o size=4m t /dev/shm; mount -t tmpfs -o size=4m,mode=700 t run")
    b = Machine(t, "b", ini, prefix=full)
    done = b.daemon.ctl("warm", "f", code=4)
    assert "No space left on device" in b.log("f") and "cannot be built" in done.err, (b.log("f"), done.err)
    assert server.asked("GET") and not inside(b.daemon, "find /dev/shm run -name noise")
    inside(b.daemon, "mount -o remount,size=64m /dev/shm; mount -o remount,size=64m run")
    before = b.runs()
    b.daemon.ctl("cleanup", "--failed", "f")
    b.daemon.ctl("warm", "f")
    assert b.runs() == before
    server.close()


F = "[fixture f]\ncommand = echo f >> runs; cat input\nwatch = input\nwatch-by = content\nremote = yes\n"


@once
def test_answers_without_end(t):
    """What nobody wants is not waited for: of an error the status says all."""
    need(t)
    server, public = Server(), keygen(t)
    ini = section(t, server, public) + F
    Machine(t, "first", ini, input="text\n").get("f")
    stored(server, 1)

    def endless(status, which):
        def lie(handler, path, body):
            if which not in path:
                return False
            handler.send_response(status)
            handler.end_headers()
            try:
                while True:
                    handler.wfile.write(bytes(65536))
            except OSError:
                return True
        return lie

    for k, (status, which) in enumerate(((404, "/cas/"), (404, "/ac/"), (500, "/cas/"), (500, "/ac/"))):
        server.http.lie = endless(status, which)
        m = Machine(t, f"m{k}", ini, input="text\n")
        assert m.get("f") == "text\n" and m.runs() == ["f"], (status, which)
        m.daemon.stop()
    server.http.files.clear()
    server.http.lie, server.http.thanks = None, endless(201, "")
    Machine(t, "last", ini, input="text\n").daemon.ctl("warm", "--wait-upload", "f")
    assert len(server.manifests()) == 1
    server.close()


@once
def test_slow_to_have_nothing(t):
    """Each miss would cost that time again."""
    need(t)
    server, public = Server(), keygen(t)
    asked = []

    def slow(handler, path, body):
        asked.append(path)
        threading.Event().wait(4)  # most of its patience
        handler.answer(404)
        return True
    server.http.lie = slow
    m = Machine(t, "m", section(t, server, public, write=False, more="timeout = 7s") + F + F.replace("fixture f", "fixture g"), input="text\n")
    assert m.get("f") == m.get("g") == "text\n"
    assert len(asked) == 1 and "slow to say that there is nothing; it is left alone for a minute" in m.log("f"), asked
    server.close()


@once
def test_the_time_of_a_build(t):
    """It is for the build, whatever has come before."""
    need(t)
    server, public = Server(), keygen(t)
    ini = section(t, server, public) + F + "timeout = 5s\n"
    Machine(t, "first", ini, input="text\n").get("f")
    stored(server, 1)

    def late(handler, path, body):
        if body is None or "/cas/" not in path:
            return False
        threading.Event().wait(6)
        handler.answer(200, body)
        return True
    server.http.lie = late
    m = Machine(t, "m", ini, input="text\n")
    assert m.get("f") == "text\n" and m.runs() == []
    server.close()


@once
def test_language_and_time_zone(t):
    """Builders have them of the daemon: what was sorted otherwise is another image."""
    need(t)
    server, public = Server(), keygen(t)
    ini = section(t, server, public) + F.replace("cat input", "date -d @0 +%H")
    for zone, ran in ("UTC", ["f"]), ("UTC+5", ["f"]), ("UTC", []):
        m = Machine(t, f"m{zone}{len(ran)}", ini, env={"TZ": zone}, input="text\n")
        m.daemon.ctl("warm", "--wait-upload", "f")
        assert m.get("f") == {"UTC": "00\n", "UTC+5": "19\n"}[zone] and m.runs() == ran, zone
        m.daemon.stop()
    server.close()


@once
def test_slow_with_everything(t):
    """Each answer just in time, and then silence: what is lost is lost once, not once for each of them."""
    need(t)
    server, public = Server(), keygen(t)
    ini = section(t, server, public, more="timeout = 6s\nread = a, b, main") + "[fixture f]\ncommand = echo f >> runs; cat input\nwatch = input\nwatch-by = content\nremote = yes\n"
    wanted = Machine(t, "first", ini, input="text\n").get("f")
    stored(server, 1)
    asked = []

    def slow(handler, path, body):
        asked.append((path, time.monotonic()))
        # Of the manifests each a little later, of the piece nothing.
        handler.server.gate_of_the_slow.wait(2 if "/ac/" in path else LIMIT)
        handler.answer(404 if body is None else 200, body or b"")
        return True
    server.http.gate_of_the_slow = threading.Event()
    server.http.lie = slow
    m = Machine(t, "m", ini, input="text\n")
    began = time.monotonic()
    assert m.get("f") == wanted and m.runs() == ["f"]
    took = time.monotonic() - began
    assert [path.split("/")[2] for path, _ in asked] in (["a", "b", "main"], ["a", "b", "main", "cas"]), asked
    assert 6 <= took < 11, f"{took} s: four answers of 6 s at most each"
    server.http.gate_of_the_slow.set()
    server.close()


@once
def test_a_proxy(t):
    """That of the daemon's environment, for builders and for what is asked by hand; the caller's counts for nothing."""
    need(t)
    server, public = Server(), keygen(t)
    far = type("Far", (), {"url": "http://store.invalid/fixtures"})
    proxy = f"http://127.0.0.1:{server.http.server_port}"
    ini = section(t, far, public) + "[fixture f]\ncommand = echo f >> runs; echo words\nwatch-by = content\nremote = yes\n"
    a = Machine(t, "a", ini, env={"http_proxy": proxy})
    a.daemon.ctl("remote", "check", env={"http_proxy": "http://127.0.0.1:1"})
    a.daemon.ctl("warm", "--wait-upload")
    assert any(path.startswith(far.url + "/main/ac/") for path in server.manifests()), server.manifests()
    b = Machine(t, "b", ini, env={"http_proxy": proxy})
    assert b.get("f") == "words\n" and b.runs() == []
    c = Machine(t, "c", ini)
    assert "wrong  server:" in c.daemon.ctl("remote", "check", code=1, env={"http_proxy": proxy}).out
    # Only of a proxy the '@' may stand behind a password.
    d = Machine(t, "d", ini, env={"http_proxy": proxy, "no_proxy": "store.invalid,name@host"})
    assert "wrong  server:" in d.daemon.ctl("remote", "check", code=1).out
    server.close()


@once
def test_slow_again_and_again(t):
    """A server that is never silent for too long costs all fixtures together what one of them may wait."""
    need(t)
    server, public = Server(), keygen(t)
    names = [f"f{k}" for k in range(8)]
    ini = section(t, server, public, write=False, more="timeout = 2s") + "".join(
        f"[fixture {name}]\ncommand = echo {name} >> runs; echo {name}\nwatch-by = content\nremote = yes\n" for name in names)

    def slow(handler, path, body):
        threading.Event().wait(0.6)
        handler.answer(404)
        return True
    server.http.lie = slow
    m = Machine(t, "m", ini)
    assert [m.get(name) for name in names] == [name + "\n" for name in names] and m.runs() == names
    assert len(server.asked("GET")) <= 4, server.asked("GET")
    assert "left alone for a minute" in "".join(m.log(name) for name in names)
    server.close()


@once
def test_half_a_piece_on_the_server(t):
    """What a server that was killed has half of is sent again; what came and was not taken has not come."""
    need(t)
    server, public = Server(), keygen(t)
    ini = section(t, server, public) + "[fixture f]\ncommand = echo f >> runs; seq 1 20000\nwatch-by = content\nremote = yes\n"
    a = Machine(t, "a", ini)
    a.daemon.ctl("warm", "--wait-upload")
    piece = max((path for path in server.http.files if "/cas/" in path), key=lambda path: len(server.http.files[path]))
    whole = server.http.files[piece]
    server.http.files[piece] = whole[:100]
    b = Machine(t, "b", ini)
    said = b.daemon.ctl("remote", "pull", "f", code=1).out
    assert "f: built, it is not on the remote, or was not taken" in said and b.runs() == ["f"], said
    a.daemon.ctl("remote", "push", "f")
    assert server.http.files[piece] == whole
    c = Machine(t, "c", ini)
    assert c.daemon.ctl("remote", "pull", "f").out.startswith("f: pulled") and c.runs() == []
    # A wrong one of the right length is found by who takes it, and replaced by what was built instead.
    server.http.files[piece] = whole[::-1]
    d = Machine(t, "d", ini)
    d.daemon.ctl("warm", "--wait-upload")
    assert d.runs() == ["f"] and server.http.files[piece] == whole
    server.http.files[piece] = whole[::-1]
    a.daemon.ctl("remote", "push", "--anew", "f")
    assert server.http.files[piece] == whole
    assert "--anew is for remote push" in a.daemon.ctl("remote", "pull", "--anew", "f", code=2).err
    # One that takes pieces, and nothing that is signed, is not right.
    server.http.room = len(server.http.files) + 1
    assert "wrong  write: it answers with status 507" in a.daemon.ctl("remote", "check", code=1).out
    server.close()


@once
def test_a_tree_that_cannot_travel(t):
    """Is told of by whoever waits for it."""
    need(t)
    server, public = Server(), keygen(t)
    a = Machine(t, "a", section(t, server, public) + "[fixture f]\ntree = mkfifo $FIXD_DIR/pipe\nwatch-by = content\nremote = yes\n")
    said = a.daemon.ctl("warm", "--wait-upload", code=1).err
    assert "it has devices, FIFOs, sockets" in said and server.manifests() == [], said
    server.close()


@once
def test_uploads_have_their_turns(t):
    """Not all at once, however many there are; a restart knows those that wait."""
    need(t)
    server, public = Server(), keygen(t)
    server.http.gate.clear()
    ini = section(t, server, public) + "".join(f"[fixture f{n}]\ncommand = echo {n}\nwatch-by = content\nremote = yes\n" for n in range(7))
    a = Machine(t, "a", ini)
    a.daemon.ctl("warm")

    def up():
        return [x for x in a.daemon.status()["daemon"]["remote"]["transfers"] if x["up"]]

    wait_for(lambda: len(server.asked("PUT")) == 4, "four of them")
    assert len(up()) == 7 and len(server.asked("PUT")) == 4
    a.daemon.ctl("restart")
    assert len(up()) == 7 and len(server.asked("PUT")) == 4
    server.http.gate.set()
    wait_for(lambda: len(server.manifests()) == 7 and not up(), "all of them")
    # What waits when the daemon ends goes on alone.
    server.http.gate.clear()
    server.http.files.clear()
    b = Machine(t, "b", ini)
    b.daemon.ctl("warm")
    b.daemon.ctl("stop")
    server.http.gate.set()
    wait_for(lambda: len(server.manifests()) == 7, "all of them again")
    server.close()


@once
def test_a_build_without_its_program(t):
    """Where there is a fixd-builder and no fixd-remote beside it, and where a plugin ignores its children: the time limit holds."""
    need(t)
    server, public = Server(), keygen(t)
    shutil.copy(harness.program("fixd-builder"), t.path("fixd-builder"))
    so = t.plugin("ignores", "#include <fixd-builder.h>\n#include <signal.h>\n#include <unistd.h>\nstatic __attribute__((constructor)) void begin(void) { signal(SIGCHLD, SIG_IGN); }\n"
                  "int fixd_build(struct fixd_builder *b) { int *p = fixd_alloc(b, 4); *p = 1; if (access(\"ready\", F_OK)) for (;;) pause(); return 0; }\n")
    ini = section(t, server, public) + f"[policy]\ntimeout = 1s\nretry-after = 1ms\n[fixture f]\ncommand = sleep 1000\nwatch-by = content\nremote = yes\n[fixture g]\nplugin = {so}\nwatch-by = content\nremote = yes\n"
    a = Machine(t, "a", ini, env={"FIXD_BUILDER": t.path("fixd-builder")})
    b = Machine(t, "b", ini)
    for machine, name in (a, "f"), (a, "g"), (b, "g"):
        assert "timed out after 1.00 s" in machine.daemon.ctl("get", name, code=4).err, machine.daemon.words()
    open(b.dir + "/ready", "w").close()
    b.daemon.ctl("warm", "g", "--wait-upload")
    assert len(server.manifests()) == 1
    server.close()


@once
def test_a_shared_secret(t):
    """In place of keys; what has another one, or is signed otherwise, is not taken."""
    need(t)
    server, public = Server(), keygen(t)
    words = "[fixture f]\ncommand = echo f >> runs; cat input\nwatch = input\nwatch-by = content\nremote = yes\n"
    ours, theirs, short = t.write("ours", "a" * 32 + "\n"), t.write("theirs", "b" * 32), t.write("short", "c" * 31)
    shared = lambda path, more="": f"[remote]\nurl = {server.url}\nhmac-file = {path}\n{more}\n" + words
    Machine(t, "a", shared(ours, "write = yes"), input="x").daemon.ctl("warm", "--wait-upload")
    b = Machine(t, "b", shared(ours), input="x")
    assert b.get("f") == "x" and b.runs() == []
    for name, ini, said in (("c", shared(theirs), "its signature is wrong"), ("d", shared(short), "is too short: expected a line of 32 bytes"),
                            ("e", section(t, server, public, write=False) + words, "that is shared elsewhere, and not here (hmac-file)")):
        m = Machine(t, name, ini, input="x")
        assert m.get("f") == "x" and m.runs() == ["f"] and said in m.log("f"), m.log("f")
    path, text = read_manifest(server)
    for number, bad in enumerate((text.replace(b"size 1", b"size 2"), text[:-2] + b"\n", text[:-66] + b"0" * 64 + b"\n")):
        server.http.files[path] = bad
        m = Machine(t, f"bad{number}", shared(ours), input="x")
        assert m.get("f") == "x" and m.runs() == ["f"] and "is not taken: " in m.log("f"), m.log("f")
    server.close()


@once
def test_namespaces(t):
    """What somebody may write who may not write for all is not taken for that."""
    need(t)
    server, public = Server(), keygen(t)
    theirs = keygen(t, "theirs")
    words = "[fixture f]\ncommand = echo f >> runs; cat input\nwatch = input\nwatch-by = content\nremote = yes\n"
    keys = f"main:{public}, pr/*:{theirs}"
    as_pr = section(t, server, keys, more="namespace = pr/7\nread = pr/7, main").replace(t.path("key"), t.path("theirs"))
    evil = Machine(t, "evil", section(t, server, keys).replace(t.path("key"), t.path("theirs")) + words, input="x")
    evil.get("f")
    stored(server, 1)
    m = Machine(t, "m", section(t, server, keys, write=False) + words, input="x")
    assert m.get("f") == "x" and m.runs() == ["f"] and "signed by a key that is not trusted for this namespace" in m.log("f"), m.log("f")
    server.http.files.clear()
    pr = Machine(t, "pr", as_pr + words, input="x")
    pr.get("f")
    stored(server, 1)
    assert "/pr/7/ac/" in server.manifests()[0]
    again = Machine(t, "again", as_pr + words, input="x")
    assert again.get("f") == "x" and again.runs() == []
    m = Machine(t, "main", section(t, server, keys, write=False) + words, input="x")
    assert m.get("f") == "x" and m.runs() == ["f"]
    # What is moved there by whoever has the server is signed for another place.
    path, text = read_manifest(server)
    server.http.files[path.replace("/pr/7/", "/main/")] = text
    m = Machine(t, "moved", section(t, server, f"{public}, {theirs}", write=False) + words, input="x")
    assert m.get("f") == "x" and m.runs() == ["f"] and "it is of another namespace" in m.log("f")
    server.close()


def description(t, path, depends=()):
    """Of the fixture `tree` below; as the builder describes it."""
    umask = os.umask(0)
    os.umask(umask)
    parts = ["=format", "4", "=machine", platform.machine(), "=page", str(os.sysconf("SC_PAGE_SIZE")), "=kind", "3", "=fixture", "tree", "=user", "",
             "=umask", f"{umask:03o}", "=stray-pointers", "0", "=source", "exit 1", "=param", "", "=scope-key", "", "=as-is", "no"]
    for name in "LANG", "LANGUAGE", "LC_ALL", "LC_COLLATE", "LC_CTYPE", "LC_NUMERIC", "LC_TIME", "TZ":
        parts += ["=environment " + name, os.environ.get(name, "")]
    fd = os.memfd_create("description")
    os.write(fd, "".join(p + "\0" for p in parts).encode())
    return fd


def entry(kind, path, size=0, more="", mode="755"):
    digest = "0.000000000 " + "0" * 32 if kind == "f" else "0 -"
    return f"{kind} {mode} {size} {digest} {path}{more}\n"


@once
def test_trees_that_lie(t):
    """Signed, and wrong all the same: nothing is made outside of the tree, and the build fails as it would have."""
    need(t)
    server, public = Server(), keygen(t)
    outside = t.path("outside")
    os.mkdir(outside)
    ini = section(t, server, public) + "[fixture tree]\ntree = exit 1\nwatch-by = content\nremote = yes\nretry-after = 1ms\n"
    packs = {
        "up": entry("d", "..") , "up deeper": entry("d", "a") + entry("f", "a/../../x"), "absolute": entry("f", outside + "/x"),
        "through a link": entry("l", "a", more=f" -> {outside}") + entry("f", "a/x"),
        "a link's name": entry("l", "a", more=f" -> {outside}/made") + entry("f", "a"),
        "another name of what is outside": entry("l", "a", more=f" -> {outside}") + entry("h", "b", more=" -> a/x"),
        "a device": entry("c", "null", mode="666"), "empty": entry("d", ""), "twice": entry("d", "a") * 2,
        "escaped": entry("d", "\\056\\056"), "a zero": entry("d", "a\\000b"), "no line": "nonsense\n", "too large": entry("f", "a", size=10**15),
        "cut": entry("f", "a", size=1000), "another digest": entry("f", "a", size=3),
    }
    for what, manifest in packs.items():
        data = f"{len(manifest)} 755\n{manifest}abc".encode()
        image = os.memfd_create("image")
        os.write(image, data)
        d = description(t, "tree")
        subprocess.run([REMOTE, "put", f"--url={server.url}", "--write=main", f"--key-file={t.path('key')}", f"--parts-fd={d}", f"--image-fd={image}"],
                       pass_fds=[d, image], check=True)
        os.close(d)
        os.close(image)
        m = Machine(t, "m-" + hashlib.md5(what.encode()).hexdigest()[:6], ini)
        said = m.daemon.ctl("warm", "tree", code=4)
        log = m.log("tree")
        assert "is not taken from the remote" in log, (what, log, said.err)
        assert os.listdir(outside) == [], (what, os.listdir(outside))
        m.daemon.stop()
    server.close()


@once
def test_what_does_not_fit(t):
    need(t)
    hex_ = "ab" * 32
    good = f"[remote]\nurl = http://localhost/x\npublic-keys = {hex_}\n"
    fixture = "[fixture f]\ncommand = true\nwatch-by = content\nremote = yes\n"
    for ini, sentence in (
            ("[remote]\npublic-keys = " + hex_, "[remote] has no url; expected url = http://HOST/PATH"),
            (good.replace("http:", "ftp:"), ":2: url = ftp://localhost/x: expected http://HOST/PATH, https://HOST/PATH or s3://HOST/BUCKET/PATH"),
            ("[remote]\nurl = http://x/y\n", "[remote] has neither public-keys or hmac-file, whose images are taken, nor write = yes"),
            (good.replace(hex_, "abc"), ":3: public-keys: 'abc' is no public key"),
            (good.replace(hex_, "../x:" + hex_), "public-keys: '../x' does not name namespaces"),
            (good + "write = yes\n", ":4: write = yes needs key-file"),
            (good + "region = eu-west-1\n", ":4: region and credentials-file are for url = s3://HOST/BUCKET/PATH"),
            (good + "namespace = /main\n", ":4: namespace = /main: expected letters"),
            (good + "read = main, a/../b\n", ":4: read = a/../b: expected namespaces"),
            (good + "timeout = 10ms\n", ":4: timeout of [remote]: expected from 1s to 1h"),
            (fixture, ":4: [fixture f] remote = yes needs a section [remote]"),
            (good + fixture.replace("watch-by = content\n", ""), "remote = yes needs watch-by = content"),
            (good + fixture.replace("command = true", "service = true"), ":7: [fixture f] remote = yes is for command, tree and plugin, and this is a service"),
            (good + fixture + "depends = s\n[fixture s]\nservice = true\n", ":8: [fixture f] remote = yes cannot depend on 's', which is a service"),
            ("[remotes]\n", "unknown section [remotes] (did you mean [remote]?)")):
        path = t.write("wrong.ini", ini)
        done = subprocess.run([harness.program("fixd"), "--config", path, "--check"], capture_output=True, timeout=LIMIT)
        assert done.returncode == 78 and sentence in done.stderr.decode(), (ini, done.stderr.decode())


# The program, the arguments before its configuration, and what is another thing in a test.
SERVERS = {
    "nginx": ("nginx", (("listen 8080", "listen {address}:{port}"), ("error_log stderr", "error_log {dir}/error"), ("worker_processes auto", "worker_processes 1"))),
    "apache": ("apache2", (("Listen 8080", "Listen {address}:{port}"), ("ErrorLog /dev/stderr", "ErrorLog {dir}/error"))),
}


def store(t, name, address, port):
    """The program of a web server, and a file that makes a store of it."""
    program, changes = SERVERS[name]
    path = shutil.which(program, path=os.environ["PATH"] + ":/usr/sbin")
    if not path:
        raise harness.Skip(f"{program} is not installed")
    home = t.path("server")
    os.makedirs(home + "/store")
    for d in home, home + "/store":
        os.chmod(d, 0o777)
    os.chmod(t.dir, 0o755)
    with open(os.path.join(harness.SRC, f"contrib/ci/{name}.conf")) as f:
        text = f.read()
    for ours, of_test in (("/srv/fixd", "{dir}/store"), ("/run/fixd-store.pid", "{dir}/pid"), *changes):
        assert ours in text, ours
        text = text.replace(ours, of_test.format(address=address, port=port, dir=home))
    return path, t.write("server/conf", text)


def web_server(t, name):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    path, conf = store(t, name, "127.0.0.1", port)
    command = [path, "-c", conf, "-p", t.dir] if name == "nginx" else [path, "-DFOREGROUND", "-f", conf]
    process = subprocess.Popen(command, stderr=subprocess.PIPE)

    def answers():
        if process.poll() is not None:
            raise harness.Skip(f"this {name} has no WebDAV: {process.stderr.read().decode()}")
        with socket.socket() as s:
            return s.connect_ex(("127.0.0.1", port)) == 0
    wait_for(answers, name)
    return process, f"http://127.0.0.1:{port}/fixtures"


def two_machines_and(t, name):
    need(t)
    process, url = web_server(t, name)
    server = type("Server", (), {"url": url})
    ac = t.path("server/store/fixtures/main/ac")
    try:
        public = keygen(t)
        ini = section(t, server, public) + FIXTURES
        a = Machine(t, "a", ini, input="text\n")
        assert a.daemon.ctl("remote", "check").out.count("ok") == 3
        wanted = a.get("words"), a.get("count")
        a.daemon.ctl("warm", "tree")
        # What the check has put there has a name of its own.
        wait_for(lambda: os.path.isdir(ac) and len([f for f in os.listdir(ac) if f[0] != "." and f != "0" * 64]) == 3, "3 images")
        b = Machine(t, "b", ini, input="text\n")
        assert (b.get("words"), b.get("count")) == wanted
        b.daemon.ctl("warm", "tree")
        assert b.runs() == [] and a.daemon.instance("tree")["digest"] == b.daemon.instance("tree")["digest"]
    finally:
        process.terminate()
        process.communicate()


@once
def test_nginx(t):
    two_machines_and(t, "nginx")


@once
def test_apache(t):
    two_machines_and(t, "apache")


if __name__ == "__main__":
    harness.main(__import__("__main__"))
