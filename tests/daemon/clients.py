#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Clients that come and go, misbehave, are many, or are somebody else."""

import errno
import fcntl
import mmap
import os
import resource
import select
import signal
import socket
import struct
import subprocess
import sys
import threading

import harness
import wire
from harness import COW, NOBODY, Client, FixdError, exit_code, once, request, wait_for

INI = "[fixture f]\nfile = input\n[fixture slow]\ncommand = cat gate\n"


def start(t, ini=INI, **more):
    t.write("input", "some bytes\n")
    d = t.daemon(ini, **more)
    return d


def raw(d):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    s.settimeout(harness.LIMIT)
    s.connect(d.socket)
    return s


def message(kind, body=b"", size=None, id=1, n_fds=0):
    return struct.pack("<HHIQ", kind, n_fds, 16 + len(body) if size is None else size, id) + body


HELLO = request("hello", version=wire.VERSION)

# What a client of each version said, and of each answer its size, its descriptors and the first two bytes.
RECORDED = {
    "5": [
        ("0100000018000000" "0100000000000000" "0500000000000000", (32, 1, "0180")),
        ("1000000021000000" "0200000000000000" "00000000e8030000" "0100000000000000" "66", (96, 1, "1080")),
    ],
    "6": [
        ("0100000018000000" "0100000000000000" "0600000005000000", (32, 1, "0180")),
        ("1000000021000000" "0200000000000000" "00000000e8030000" "0100000000000000" "66", (96, 1, "1080")),
    ],
    "7": [
        ("0100000018000000" "0100000000000000" "0700000005000000", (32, 1, "0180")),
        ("1000000021000000" "0200000000000000" "00000000e8030000" "0100000000000000" "66", (96, 1, "1080")),
    ],
    "8": [
        ("0100000018000000" "0100000000000000" "0800000005000000", (32, 1, "0180")),
        ("1000000021000000" "0200000000000000" "00000000e8030000" "0100000000000000" "66", (96, 1, "1080")),
    ],
}


def attach(name, timeout=1000, flags=0):
    return request("attach", flags=flags, timeout_ms=timeout, name=name)


def is_dropped(s):
    """True once the daemon has hung up."""
    try:
        while s.recv(65536):
            pass
    except ConnectionResetError:
        pass
    return True


def greeted(d):
    s = raw(d)
    s.send(HELLO)
    data, fds, _, _ = socket.recv_fds(s, 65536, 8)
    for fd in fds:
        os.close(fd)
    assert len(data) == 32 and len(fds) == 1
    return s


def test_malformed_messages(t):
    d = start(t)
    good = d.client()
    bad = [
        b"", b"x", HELLO[:-1], HELLO + b"x", b"\0" * 16, b"\xff" * 16, os.urandom(100), b"\0" * 8192, b"\0" * 8193, b"\0" * 100000,
        message(1, HELLO[16:], size=1), message(1, HELLO[16:], size=0xffffffff),
        request("hello", id=0, version=wire.VERSION), attach(b"f"), message(9999),
        message(1, struct.pack("<II", 4, 0)) + b"x",
    ]
    for m in bad:
        s = raw(d)
        s.send(m)
        assert is_dropped(s), m
        s.close()
    after_hello = [
        HELLO, message(2), message(2, b"\0" * 7), message(2, struct.pack("<IHH", 0, 9, 0)), message(18, b"\0" * 7),
        message(18, struct.pack("<HHI", 1, 9, 0) + b"x"), message(19, b"\0" * 15), message(20), message(21),
        message(21, struct.pack("<IHH", 0, 3, 0)), message(16, struct.pack("<IIHHHH", 0, 0, 1, 0, 0, 1) + b"f" + b"\0" * 8),
        message(16, struct.pack("<IIHHHH", 2, 0, 1, 0, 0, 65) + b"f" + b"\0" * 520), message(16, struct.pack("<IIHHHH", 2, 0, 1, 0, 0, 2) + b"f" + b"\0" * 8),
        message(16), message(16, b"\0" * 15), message(16, struct.pack("<IIHHHH", 0, 0, 65535, 0, 0, 0)),
        message(16, struct.pack("<IIHHHH", 0, 0, 1, 65535, 65535, 0) + b"f"), attach(b""), attach(b"a\0b"),
        message(16, struct.pack("<IIHHHH", 0, 0, 1, 0, 0, 0) + b"f and more"), message(17), message(17, b"\0" * 8), message(17, b"\0" * 24), message(35), message(35, b"\0" * 8),
        message(22), message(22, b"\0" * 7), message(22, struct.pack("<HHHH", 3, 0, 0, 0) + b"no"), message(22, struct.pack("<HHHH", 1, 0, 0, 0) + b"no"),
        message(22, struct.pack("<HHHH", 501, 0, 0, 0) + b"x" * 501), message(22, struct.pack("<HHHH", 3, 0, 0, 0) + b"a\0b"), message(23),
        message(17, struct.pack("<QQII", 2**64 - 1, 0, 0, 0)), message(32, struct.pack("<IHH", 0, 200, 0) + b"short"),
        message(48, struct.pack("<IHHq", 0, 10, 0, 0)), message(50), message(0x8001, b"\0" * 8), message(0xffff, b"\0" * 8),
        message(17, b"\0" * 24, n_fds=1), message(17, b"\0" * 24, n_fds=23), message(17, b"\0" * 24, n_fds=25), message(17, b"\0" * 24, n_fds=0xffff),
    ]
    for m in after_hello:
        s = greeted(d)
        s.send(m)
        assert is_dropped(s), m
        s.close()
    assert good.read("f") == b"some bytes\n", "another client notices nothing"


def test_flags_that_nobody_knows(t):
    """What a later version means by one is not done without it: a cleanup that was only to say what it would do, for instance."""
    d = start(t)
    c = d.client()
    assert c.read("f") == b"some bytes\n"
    s = greeted(d)
    requests = [name for name, (_, part) in wire.REQUESTS.items() if "flags" in wire.FIELDS[part][1]]
    assert {"attach", "cleanup", "join", "release", "status", "stop"} <= set(requests)
    for name in requests:
        s.send(request(name, flags=1 << 31, **({"name": b"f"} if name == "attach" else {})))
        data = s.recv(8192)
        kind, error = struct.unpack_from("<H", data)[0], struct.unpack_from("<i", data, 16)[0]
        assert kind == 0xffff and error == -errno.EINVAL and b"does not know all flags" in data, (name, data)
    assert d.instance("f")["state"] == "ready" and c.read("f") == b"some bytes\n"


def test_random_messages(t):
    import random

    d = start(t)
    good = d.client()
    random.seed(1)
    for _ in range(300):
        s = greeted(d)
        m = bytearray(random.choice([attach(b"f"), message(32, b"\0" * 8), message(48, b"\0" * 16), message(17, b"\1" * 24), message(35, b"\0" * 16)]))
        for _ in range(random.randint(1, 6)):
            m[random.randrange(len(m))] = random.randrange(256)
        if m[0] in (49, 50, 51):
            continue
        s.send(m)
        s.close()
    assert good.read("f") == b"some bytes\n"


def test_wrong_version(t):
    d = start(t)
    s = raw(d)
    s.send(request("hello", version=99))
    answer = s.recv(65536)
    kind, _, _, _, error, _ = struct.unpack("<HHIQiI", answer[:24])
    assert kind == 0xffff and error == -errno.EPROTONOSUPPORT and b"version %d" % wire.VERSION in answer and b"99" in answer
    s.close()


def error_of(answer):
    kind, _, size, _, error, n = struct.unpack("<HHIQiI", answer[:24])
    assert kind == 0xffff and size == len(answer) == 24 + n, answer
    return error, answer[24:].decode()


def hello(d, version, lowest):
    s = raw(d)
    s.send(request("hello", version=version, lowest=lowest))
    data, fds, _, _ = socket.recv_fds(s, 65536, 8)
    for fd in fds:
        os.close(fd)
    return s, data


def test_clients_of_other_versions(t):
    """Of each version that there was: what it says, as it was recorded, is understood, and what it is told is what it knows."""
    d = start(t)
    for name, recorded in sorted(RECORDED.items()):
        s = raw(d)
        for sent, told in recorded:
            s.send(bytes.fromhex(sent))
            data, fds, _, _ = socket.recv_fds(s, 65536, 8)
            for fd in fds:
                os.close(fd)
            assert len(data) == told[0] and len(fds) == told[1] and data[:2].hex() == told[2], (name, sent, data)
        s.close()
    version = struct.Struct("<HHIQI")
    for asked, spoken in (((6, 5), 6), ((5, 0), 5), ((5, 3), 5), ((9, 2), wire.VERSION), ((6, 6), 6)):
        s, data = hello(d, *asked)
        assert len(data) == 32 and version.unpack(data[:20])[4] == spoken, (asked, data)
        s.close()
    for asked in ((4, 0), (99, wire.VERSION + 1), (wire.VERSION + 1, 0), (4, 2)):
        s, data = hello(d, *asked)
        error, sentence = error_of(data)
        assert error == -errno.EPROTONOSUPPORT and f"version {wire.VERSION}" in sentence and str(asked[0]) in sentence, (asked, sentence)
        s.close()


def test_requests_of_a_later_version(t):
    d = start(t)
    s = greeted(d)
    s.send(message(9999, b"anything", id=7))
    answer = s.recv(65536)
    error, sentence = error_of(answer)
    assert error == -errno.EOPNOTSUPP and "does not know requests of type 9999" in sentence and struct.unpack("<HHIQ", answer[:16])[3] == 7
    fixed = harness.fixed("attach", timeout_ms=60000, name=b"f")[:-1]
    s.send(message(16, fixed + b"\0" * 24 + b"f", n_fds=40))
    data, fds, _, _ = socket.recv_fds(s, 65536, 8)
    assert data[:2] == struct.pack("<H", 16 | 0x8000) and len(fds) == 1 and os.pread(fds[0], 100, 0) == b"some bytes\n"
    os.close(fds[0])
    s.send(message(16, fixed + b"\0" * 23 + b"\1" + b"f", n_fds=40))
    error, sentence = error_of(s.recv(65536))
    assert error == -errno.E2BIG and "does not know all that the request asks for" in sentence
    # Of an earlier one: what is missing is zero.
    for part in (fixed, fixed[:14]):
        s.send(message(16, part + b"f", n_fds=len(part)))
        data, fds, _, _ = socket.recv_fds(s, 65536, 8)
        assert data[:2] == struct.pack("<H", 16 | 0x8000) and len(fds) == 1
        os.close(fds[0])
    s.close()
    # Before hello nothing is answered, and who does not read is not answered for ever.
    s = raw(d)
    s.send(message(17, b"\0" * 24 + b"\1", n_fds=25))
    assert is_dropped(s)
    for unread in (message(9999), message(16, fixed + b"\1" + b"f", n_fds=17)):
        s = greeted(d)
        try:
            for _ in range(100000):
                s.send(unread)
            assert False, "it was answered 100,000 times without reading"
        except (BrokenPipeError, ConnectionResetError):
            pass
        s.close()
    assert "does not read its answers" in d.words()


@harness.once
def test_daemons_of_other_versions(t):
    """One from before versions were ranges says no to the first hello; one of later answers with the version that both speak."""
    def serve(path, answer):
        server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        server.bind(path)
        server.listen(5)

        def run():
            c, _ = server.accept()
            while m := c.recv(9000):
                number = struct.unpack("<HHIQ", m[:16])[3]
                spoken = answer(*struct.unpack("<II", m[16:24]))
                if isinstance(spoken, str):
                    c.send(struct.pack("<HHIQiI", 0xffff, 0, 24 + len(spoken), number, -errno.EPROTONOSUPPORT, len(spoken)) + spoken.encode())
                    continue
                fd = sealed(bytes(4096), 0xf)
                body = struct.pack("<IIIIQ", spoken, 8192, 512, 1, 0)[:24 if spoken > 6 else 16]
                socket.send_fds(c, [struct.pack("<HHIQ", 1 | 0x8000, 1, 16 + len(body), number) + body], [fd])
                os.close(fd)
        threading.Thread(target=run, daemon=True).start()

    heard = []

    def old(version, lowest):
        heard.append((version, lowest))
        return 5 if (version, lowest) == (5, 0) else "this fixd speaks version 5 of the protocol"

    serve(t.path("old"), old)
    c = harness.Client(t.path("old"))
    assert heard == [(wire.VERSION, wire.VERSION_MIN), *((version, 0) for version in range(wire.VERSION - 1, 4, -1))], heard
    c.close()
    serve(t.path("six"), lambda version, lowest: 6 if lowest <= 6 <= version else "no")
    harness.Client(t.path("six")).close()
    serve(t.path("later"), lambda version, lowest: version)
    harness.Client(t.path("later")).close()
    serve(t.path("ancient"), lambda version, lowest: "this fixd speaks version 3 of the protocol")
    try:
        harness.Client(t.path("ancient"))
        assert False, "it speaks none that the library does"
    except FixdError as e:
        assert e.number == errno.EPROTONOSUPPORT and "version 3" in e.sentence, e.__dict__


def test_descriptors_where_none_belong(t):
    d = start(t)
    good = d.client()
    before = d.count_fds()
    for _ in range(20):
        s = greeted(d)
        with open("/dev/null") as null:
            socket.send_fds(s, [attach(b"f")], [null.fileno()] * 10)
        assert is_dropped(s)
        s.close()
    wait_for(lambda: d.count_fds() <= before, "no descriptor to stay")
    assert good.read("f") == b"some bytes\n"


def test_flood(t):
    """Asking for ever without reading costs the flooder its connection, and nobody else anything."""
    d = start(t)
    good = d.client()
    s = greeted(d)
    s.setblocking(False)
    sent = 0
    try:
        while sent < 1000000:
            try:
                s.send(attach(b"f"))
                sent += 1
            except BlockingIOError:
                assert good.read("f") == b"some bytes\n"
    except (BrokenPipeError, ConnectionResetError):
        pass
    assert sent < 1000000 and "does not read its answers" in d.words()
    assert good.read("f") == b"some bytes\n"
    s.close()


def test_attached_again_and_again(t):
    """By another user, without a detach: one connection may do that so often, and go on when it has detached."""
    if os.geteuid():
        raise harness.Skip("needs root")
    os.chmod(t.dir, 0o755)
    d = start(t, "[fixd]\nallow-users = nobody\n" + INI)

    def again():
        s = greeted(d)

        def answer(request):
            s.send(request)
            data, fds, _, _ = socket.recv_fds(s, 65536, 4)
            for fd in fds:
                os.close(fd)
            return data

        first = answer(attach(b"f"))
        for _ in range(16383):
            assert answer(attach(b"f"))[:2] != b"\xff\xff"
        error, sentence = error_of(answer(attach(b"f")))
        assert error == -errno.EDQUOT and "attached 16384 times already" in sentence, sentence
        s.send(message(17, first[24:32] + bytes(16)))
        assert answer(attach(b"f"))[:2] != b"\xff\xff"
        s.close()
        return True

    assert exit_code(t.child(again, uid=NOBODY)) == 0


def test_reports_that_nobody_reads(t):
    """Of another user, with however many connections: the next is made when one was read, and none is lost."""
    if os.geteuid():
        raise harness.Skip("needs root")
    os.chmod(t.dir, 0o755)
    d = t.daemon("[fixd]\nallow-users = nobody\n[fixture f]\ncommand = echo f\n")
    c = d.client()
    c.read("f")
    asks = 80

    def ask(name, **fields):
        connections = [greeted(d) for _ in range(asks)]
        waiting = select.poll()
        for s in connections:
            s.send(request(name, **fields))
            waiting.register(s, select.POLLIN)
        wait_for(lambda: len(waiting.poll(0)) >= 60, "most of the answers")
        for s in connections:
            for _ in range(5):
                assert len(waiting.poll(0)) <= 64, "at most 64 MiB, and each counts as 1 MiB at least"
            data, fds, _, _ = socket.recv_fds(s, 65536, 4)
            assert struct.unpack("<H", data[:2])[0] == wire.REQUESTS[name][0] | 0x8000 and len(fds) == 1, data
            os.close(fds[0])
            waiting.unregister(s)
            s.close()
        return True

    for name, fields in ("list", {"pattern": b"*"}), ("log", {"pattern": b"f"}), ("events", {}), ("events", {"wait_ms": 3600000}):
        child = t.child(lambda: ask(name, **fields), uid=NOBODY)
        # Who follows is also told when nothing more happens.
        while (ended := os.waitpid(child, 0 if "wait_ms" in fields else os.WNOHANG)) == (0, 0):
            c.read("f")
        assert ended[1] == 0, (name, ended)
    # Who ends without reading any has nothing left.
    def leave():
        for s in [greeted(d) for _ in range(asks)]:
            s.send(request("list", pattern=b"*"))
        return True

    assert exit_code(t.child(leave, uid=NOBODY)) == 0
    assert exit_code(t.child(lambda: ask("list", pattern=b"*"), uid=NOBODY)) == 0


def test_slow_reader(t):
    """One that reads late gets everything it asked for."""
    d = start(t)
    s = greeted(d)
    for n in range(40):
        s.send(attach(b"f"))
    assert d.client().read("f") == b"some bytes\n"
    for n in range(40):
        data, fds, _, _ = socket.recv_fds(s, 65536, 8)
        assert len(fds) == 1
        assert os.pread(fds[0], 100, 0) == b"some bytes\n"
        os.close(fds[0])
    s.close()


def test_asks_and_leaves(t):
    d = start(t)
    os.mkfifo(t.path("gate"))
    for _ in range(50):
        s = greeted(d)
        s.send(attach(b"slow"))
        s.close()
    # What had not begun when the last of them left is not built.
    reader = t.child(lambda: d.client().read("slow") == b"x")
    with open(t.path("gate"), "w") as gate:
        gate.write("x")
    assert exit_code(reader) == 0


def test_image_is_sealed(t):
    d = start(t)
    s = greeted(d)
    s.send(attach(b"f"))
    fds = []
    while not fds:  # on a busy machine it is told first that it waits
        _, fds, _, _ = socket.recv_fds(s, 65536, 8)
    fd = fds[0]
    assert os.read(fd, 100) == b"some bytes\n" and os.fstat(fd).st_size == 11
    assert os.fstat(fd).st_mode & 0o7777 == 0o444
    for attempt in (lambda: os.write(fd, b"x"), lambda: os.ftruncate(fd, 0), lambda: os.truncate(f"/proc/self/fd/{fd}", 100),
                    lambda: mmap.mmap(fd, 11, mmap.MAP_SHARED, mmap.PROT_WRITE)):
        try:
            attempt()
            assert False, "the image could be changed"
        except (OSError, ValueError):
            pass
    again = None
    try:
        again = os.open(f"/proc/self/fd/{fd}", os.O_RDWR)
        os.write(again, b"x")
        assert False
    except OSError:
        pass
    os.close(fd)
    if again is not None:
        os.close(again)
    s.close()


def test_killed_client_gives_its_leases_back(t):
    d = start(t)
    r, w = os.pipe()

    def hold():
        client = Client(d.socket)
        client.attach("f")
        client.attach("f")
        os.write(w, b"x")
        signal.pause()

    pid = t.child(hold)
    os.read(r, 1)
    i = d.instance("f")
    assert i["leases"] == 2 and i["pids"] == [pid, pid], i
    assert "Kept (in use): 1" in d.ctl("cleanup", "f").out
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    wait_for(lambda: d.instance("f")["leases"] == 0, "the leases to end")
    assert "Removed: 1" in d.ctl("cleanup", "f").out
    os.close(r)
    os.close(w)


def test_lease_is_inherited_by_forked_children(t):
    d = start(t)
    ready_r, ready_w = os.pipe()
    go_r, go_w = os.pipe()

    def parent():
        view = Client(d.socket).attach("f")
        if os.fork() == 0:
            os.close(go_w)
            os.read(go_r, 1)
            os._exit(0 if view.data == b"some bytes\n" else 1)
        os.write(ready_w, b"x")
        return True

    assert exit_code(t.child(parent)) == 0
    os.read(ready_r, 1)
    assert d.instance("f")["leases"] == 1, "the child still has the view"
    os.write(go_w, b"x")
    wait_for(lambda: d.instance("f")["leases"] == 0, "the last copy to go")
    for fd in (ready_r, ready_w, go_r, go_w):
        os.close(fd)


def test_child_asks_by_its_own_connection(t):
    d = start(t)
    c = d.client()
    v = c.attach("f", flags=COW)
    v.write(0, b"PARENT")

    def child():
        assert v.data == b"PARENTytes\n"
        v.write(0, b"CHILD!")
        other = c.attach("f")
        assert other.data == b"some bytes\n"
        other.detach()
        assert v.reset() == 1 and v.data == b"some bytes\n"
        v.detach()
        return c.read("f") == b"some bytes\n"

    assert exit_code(t.child(child)) == 0
    assert v.data == b"PARENTytes\n", "the child's writes are its own"
    assert d.instance("f")["leases"] == 1
    v.detach()


def test_invalidate_while_leased(t):
    """Old holders keep their bytes; the memory goes with the last of them."""
    with open(t.path("input"), "wb") as f:
        f.write(b"a" * 2**20)
    d = t.daemon("[fixture f]\nfile = input\n")
    c = d.client()
    old = [c.attach("f"), c.attach("f")]
    with open(t.path("input"), "wb") as f:
        f.write(b"b" * 2**20)
    new = c.attach("f")
    assert old[0].data == old[1].data == b"a" * 2**20 and new.data == b"b" * 2**20

    def used():
        return d.status()["daemon"]["memory_bytes"]

    assert used() == 2 * 2**20
    old[0].detach()
    assert used() == 2 * 2**20
    old[1].detach()
    assert used() == 2**20
    new.detach()


def test_reset_and_changes(t):
    with open(t.path("input"), "wb") as f:
        f.write(bytes(range(256)) * 4096)
    d = t.daemon("[fixture f]\nfile = input\n")
    c = d.client()
    v, w = c.attach("f", flags=COW), c.attach("f", flags=COW)
    assert v.address != w.address and v.changes() == []
    v.write(10, b"\xff")
    v.write(4095, b"\xee\xee")
    v.write(500000, b"damage")
    v.write(100, bytes([100]))
    assert v.changes() == [(10, 1), (4095, 2), (500000, 6)], v.changes()
    assert w.changes() == [] and w.data == bytes(range(256)) * 4096
    assert v.reset() == 3
    assert v.data == bytes(range(256)) * 4096 and v.changes() == [] and v.reset() == 0
    ro = c.attach("f")
    assert ro.reset() == 0 and ro.changes() == []
    pid = os.fork()
    if pid == 0:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        signal.signal(signal.SIGSEGV, signal.SIG_DFL)
        os.dup2(os.open("/dev/null", os.O_WRONLY), 2)
        ro.write(0, b"x")
        os._exit(0)
    assert exit_code(pid) != 0, "a read-only view cannot be written"
    for view in (v, w, ro):
        view.detach()


def test_descriptors_run_out(t):
    """At the limit new clients wait; those who are connected go on."""
    def few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (48, 48))

    d = start(t, preexec=few)
    good = d.client()
    many = []
    for _ in range(80):
        s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        s.connect(d.socket)
        s.send(HELLO)
        many.append(s)
    wait_for(lambda: "connections are not accepted for a while" in d.words(), "the limit")
    # No descriptor is left for a build either: that is a sentence, not the end.
    try:
        good.attach("f")
        assert False, "there should be no descriptor for a builder"
    except FixdError as e:
        assert "Too many open files" in e.sentence or "cannot" in e.sentence, e.sentence
    for s in many[:40]:
        s.close()
    for s in many[40:]:
        s.settimeout(harness.LIMIT)
        data, fds, _, _ = socket.recv_fds(s, 65536, 8)
        for fd in fds:
            os.close(fd)
        assert len(data) == 32, "those who waited are let in"
        s.close()
    d.ctl("cleanup", "--failed")
    assert good.read("f") == b"some bytes\n"


def test_many_clients(t):
    d = start(t)

    def work():
        c = Client(d.socket)
        return all(c.read("f") == b"some bytes\n" for _ in range(50))

    pids = [t.child(work) for _ in range(100)]
    assert [exit_code(p) for p in pids] == [0] * 100
    status = d.status()["daemon"]
    assert status["hits"] + status["misses"] == 5000 and d.instance("f")["builds"] == 1


def test_threads(t):
    import threading

    d = start(t)
    errors = []

    def work():
        try:
            c = Client(d.socket)
            for _ in range(50):
                v = c.attach("f", flags=COW)
                v.write(0, b"other")
                assert v.reset() == 1 and v.current
                v.detach()
            c.close()
        except BaseException as e:
            errors.append(e)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors, errors


@once
def test_two_users(t):
    if os.geteuid() != 0:
        raise harness.Skip("only root can become another user")
    import pwd

    nobody, daemon_user = pwd.getpwnam("nobody"), pwd.getpwnam("daemon")
    os.chmod(t.dir, 0o755)
    d = start(t, "[fixd]\nallow-users = nobody\n" + INI)

    def as_user(user, work):
        def run():
            os.setgroups([])
            os.setgid(user.pw_gid)
            os.setuid(user.pw_uid)
            return work()
        return exit_code(t.child(run))

    def allowed():
        c = Client(d.socket)
        stop = message(50, b"\0" * 8)
        s = greeted(d)
        s.send(stop)
        assert b"only the user of the daemon" in s.recv(65536)
        return c.read("f") == b"some bytes\n"

    def refused():
        try:
            Client(d.socket)
        except FixdError as e:
            return e.number == errno.EACCES and "not allowed" in e.sentence
        return False

    assert as_user(nobody, allowed) == 0
    assert as_user(daemon_user, refused) == 0
    d.configure("[fixd]\nallow-groups = daemon\n" + INI)
    d.ctl("reload")
    assert as_user(daemon_user, lambda: Client(d.socket).read("f") == b"some bytes\n") == 0
    assert as_user(nobody, refused) == 0


def test_socket_is_private(t):
    d = start(t)
    assert os.stat(d.socket).st_mode & 0o777 == 0o600


def test_second_daemon_refuses(t):
    d = start(t)
    second = t.daemon(None, ready=False, expect=1)
    assert second.process.wait(harness.LIMIT) == 1
    assert "another fixd listens" in d.words()
    assert d.client().read("f") == b"some bytes\n"


def test_sockets_that_are_not_dead(t):
    """A listener that takes no connections, and one of another kind."""
    for kind in (socket.SOCK_SEQPACKET, socket.SOCK_STREAM):
        with socket.socket(socket.AF_UNIX, kind) as listener, socket.socket(socket.AF_UNIX, kind) as client:
            listener.bind(t.path("socket"))
            listener.listen(0)
            client.connect(t.path("socket"))
            d = t.daemon(INI, ready=False, expect=1)
            assert d.process.wait(harness.LIMIT) == 1
            assert "another fixd listens" in d.words()
            assert os.path.exists(t.path("socket"))
        os.unlink(t.path("socket"))


def test_what_is_in_the_way_of_the_lock(t):
    for make in (os.mkdir, lambda path: os.symlink("/nowhere", path), os.mkfifo):
        make(t.path("socket.lock"))
        d = t.daemon(INI, ready=False, expect=1)
        assert d.process.wait(harness.LIMIT) == 1
        assert f"{t.path('socket.lock')} is in the way" in d.words()
        os.rmdir(t.path("socket.lock")) if os.path.isdir(t.path("socket.lock")) else os.unlink(t.path("socket.lock"))
        os.unlink(d.log)


def test_dead_socket_is_replaced(t):
    d = start(t)
    c = d.client()
    c.read("f")
    d.kill()
    assert os.path.exists(d.socket)
    start(t)
    assert c.read("f") == b"some bytes\n", "a client finds the new daemon"


def test_no_daemon(t):
    try:
        Client(t.path("nothing"))
        assert False
    except FixdError as e:
        assert e.number == errno.ENOENT and "no daemon at" in e.sentence
    os.environ["FIXD_DISABLE"] = "1"
    try:
        c = Client(t.path("nothing"))
        c.attach("f")
        assert False
    except FixdError as e:
        assert e.number == errno.ECANCELED and "FIXD_DISABLE" in e.sentence
    finally:
        del os.environ["FIXD_DISABLE"]
        c.close()


def test_daemon_that_does_not_answer(t):
    """A stopped daemon costs the time-out, not for ever."""
    d = start(t)
    c = d.client()
    c.read("f")
    d.pause()
    try:
        c.attach("f", timeout=0.1)
        assert False
    except FixdError as e:
        assert e.number == errno.ETIMEDOUT and "has not answered" in e.sentence
    finally:
        d.resume()
    assert c.read("f") == b"some bytes\n", "the late answer is not taken for another's"
    wait_for(lambda: d.instance("f")["leases"] <= 1, "detached")


def test_socket_activation(t):
    path = t.path("activated")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    listener.listen()
    t.write("input", "some bytes\n")

    client = t.child(lambda: Client(path).read("f") == b"some bytes\n")
    # Replaces the shell, so that the pid is the one that LISTEN_PID names.
    with open(t.path("fixd.ini"), "w") as f:
        f.write(INI)
    script = f'exec 3<&{listener.fileno()}; export LISTEN_PID=$$ LISTEN_FDS=1; exec "$@"'
    p = subprocess.Popen(["sh", "-c", script, "sh", *t.wrapper, harness.program("fixd"), "--config", t.path("fixd.ini"),
                          "--socket", t.path("input/none/socket")],  # where none can be
                         pass_fds=[listener.fileno()], stderr=subprocess.PIPE, env=harness.process_environment())
    assert exit_code(client) == 0
    p.terminate()
    assert p.wait(harness.LIMIT) == 0, p.stderr.read()
    assert os.path.exists(path), "the socket is the manager's"
    p.stderr.close()
    listener.close()


def test_notifications(t):
    path = t.path("notify")
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(path)
    manager.settimeout(harness.LIMIT)
    d = start(t, env={"NOTIFY_SOCKET": path})
    first = manager.recv(4096)
    assert first.startswith(b"READY=1\nSTATUS=2 fixtures"), first
    d.process.send_signal(signal.SIGHUP)
    assert manager.recv(4096).startswith(b"RELOADING=1\nMONOTONIC_USEC=")
    assert manager.recv(4096) == b"READY=1"
    d.stop()
    assert manager.recv(4096) == b"STOPPING=1"
    manager.close()


def test_a_manager_that_does_not_read(t):
    with open("/proc/sys/net/unix/max_dgram_qlen") as f:
        room = int(f.read())
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(t.path("notify"))
    manager.settimeout(harness.LIMIT)
    d = start(t, env={"NOTIFY_SOCKET": t.path("notify")})
    for _ in range(room // 2 + 3):
        d.ctl("reload")
    assert d.words().count("cannot be told") == 1, "it is not waited for again and again"
    while select.select([manager], [], [], 0)[0]:
        manager.recv(4096)
    d.ctl("reload")
    assert manager.recv(4096).startswith(b"RELOADING=1\n")
    manager.close()


def test_time_out_of_the_environment(t):
    """With the units that all durations have; anything else is refused, not ignored."""
    d = t.daemon("[fixture slow]\ncommand = sleep 1000\ntimeout = 1s\n[fixture f]\ncommand = echo x\n")
    for value in ("abc", "-5", "0", "1 second", "99999999999999"):
        done = d.ctl("get", "f", code=2, env={"FIXD_TIMEOUT": value})
        assert f"FIXD_TIMEOUT is '{value}'" in done.err and "ms, s, m or h" in done.err, done.err
    for value in ("10", "10.5", "10s", "1m", ""):
        assert d.ctl("get", "f", env={"FIXD_TIMEOUT": value}).out == "x\n"
    assert "was not ready in time" in d.ctl("get", "slow", code=5, env={"FIXD_TIMEOUT": "100ms"}).err


def test_idle_exit(t):
    d = start(t, "[fixd]\nidle-exit = 100ms\n" + INI)
    c = Client(d.socket)
    c.read("f")
    c.close()
    wait_for(lambda: not d.running(), "it to leave")
    assert "idle-exit" in d.words()


def test_idle_exit_of_the_command_line(t):
    """It is for a file that does not say it."""
    for ini, limit in (INI, "100ms"), ("[fixd]\nidle-exit = 100ms\n" + INI, "1h"):
        d = start(t, ini, args=["--idle-exit", limit])
        wait_for(lambda: not d.running(), "it to leave")
        assert "idle-exit" in d.words()


@harness.once
def test_the_socket_is_removed(t):
    """Nobody can ask it for anything any more, nor to stop."""
    d = start(t, "[fixture s]\nservice = echo $$; exec sleep 1000\nteardown = touch torn\n")
    c = Client(d.socket)
    c.read("s")
    os.unlink(d.socket)
    c.close()
    wait_for(lambda: not d.running(), "it to leave")
    assert "the socket was removed, and nobody is connected: leaving" in d.words() and os.path.exists(t.path("torn"))


def sealed(data, seals=0xf):
    fd = os.memfd_create("lie", os.MFD_ALLOW_SEALING)
    os.write(fd, data)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


@harness.once
def test_a_daemon_that_lies(t):
    """The library believes nothing that it can look at: every lie is an error with a sentence, and none a crash."""
    path = t.path("liar")
    server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    server.bind(path)
    server.listen(20)
    header = struct.Struct("<HHIQ")
    image = struct.Struct("<QQQQQQQIIII")
    good = dict(serial=1, address=0, size=4096, root=0, low=0, high=0, value=1, slot=0, generation=1, kind=1, more=0)
    assert image.size == 72

    def answer(board=4096, seals=0xf, slots=512, real=4096, path=b"", n=1, **lies):
        c, _ = server.accept()
        kind, _, _, number = header.unpack(c.recv(9000)[:16])
        body = harness.fixed("welcome", version=wire.VERSION, message_max=wire.MESSAGE_MAX, board_slots=slots, pid=1)
        fd = sealed(bytes(board), seals)
        socket.send_fds(c, [header.pack(kind | 0x8000, 1, 16 + len(body), number) + body], [fd])
        os.close(fd)
        message = c.recv(9000)
        if message:
            kind, _, _, number = header.unpack(message[:16])
            fd = sealed(bytes(real), lies.pop("image_seals", 0xf))
            body = struct.pack("<IHH", 0, n, len(path)) + image.pack(*{**good, **lies}.values()) * n + path
            socket.send_fds(c, [header.pack(kind | 0x8000, n, 16 + len(body), number) + body], [fd] * n)
            os.close(fd)
        c.close()

    def ask(**lies):
        thread = threading.Thread(target=answer, kwargs=lies)
        thread.start()
        try:
            client = Client(path)
            try:
                return client.attach("x", timeout=5).data
            finally:
                client.close()
        except harness.FixdError as e:
            assert e.number == errno.EPROTO and len(e.sentence) > 20, (lies, e.number, e.sentence)
        finally:
            thread.join()

    assert ask() == bytes(4096)
    for lies in ({"size": 8192}, {"size": 100}, {"real": 0}, {"root": 5000}, {"root": 2**63}, {"address": 4097}, {"image_seals": 0}, {"board": 8},
                 {"board": 4096, "slots": 2**30}, {"seals": 0}, {"slots": 0}, {"path": b"relative"}, {"path": b"/a\0b"}, {"size": 2**60},
                 {"size": 0, "root": 1}):
        assert ask(**lies) is None, lies
    server.close()


def test_requests_behind_a_stop(t):
    """Who has asked for the end is heard no more, while what is to be torn down takes its time."""
    gate = t.path("gate")
    d = t.daemon(f"[fixture s]\nservice = echo up; exec sleep 1000\nteardown = while [ ! -e {gate} ]; do sleep 0.01; done\n"
                 "teardown-timeout = 60s\n")
    c = d.client()
    c.attach("s").detach()
    s = greeted(d)
    root = t.dir.encode()
    s.send(request("join", id=2, root=root, run=b"run"))
    s.recv(100)
    s.send(request("stop", id=3))
    s.recv(100)
    wait_for(lambda: "is being torn down" in d.words(), "the end of the service")
    for n in range(4, 30):
        s.send(request("join", id=n, root=root, run=b"run"))
        s.send(attach(b"s"))
    t.write("gate", "")
    assert d.process.wait(harness.LIMIT) == 0, d.words()


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
