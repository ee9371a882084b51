#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Objects whose addresses are taken: they are relocated, and are right, shared and pristine as they are at home."""

import ctypes
import errno
import mmap
import os
import resource
import socket
import struct
import subprocess
import sys

import harness
import remote
import wire
from builds import fails
from clients import greeted
from harness import LIMIT, request, wait_for

PLUGIN = """
#include <fixd-builder.h>
#include <string.h>
struct node { struct node *next; const char *text, *end; const struct node *below; long number; };
int base(struct fixd_builder *b)
{
	struct node *head = 0;
	for (int i = 0; i < 10000; i++) {
		struct node *n = fixd_builder_alloc(b, sizeof *n);
		n->next = head;
		n->text = fixd_builder_strdup(b, "text");
		n->end = n->text + 4;
		n->number = i;
		head = n;
	}
	fixd_builder_set_root(b, head);
	return 0;
}
int top(struct fixd_builder *b)
{
	size_t size;
	const struct node *below = fixd_builder_dep(b, "base", NULL);
	const char *words = fixd_builder_dep(b, "words", &size);
	struct node *n = fixd_builder_alloc(b, sizeof *n);
	n->text = words + 4;
	n->end = words + size;
	n->below = below;
	fixd_builder_set_root(b, n);
	return 0;
}
"""
INI = """
[fixture words]
command = printf one.two
[fixture base]
plugin = {so}:base
[fixture top]
plugin = {so}:top
depends = base, words
"""


class Node(ctypes.Structure):
    pass


Node._fields_ = [("next", ctypes.POINTER(Node)), ("text", ctypes.c_void_p), ("end", ctypes.c_void_p), ("below", ctypes.POINTER(Node)),
                 ("number", ctypes.c_long)]


def root(v):
    return Node.from_address(harness.LIB.fixd_view_root(v.handle))


def words(v):
    return [word for word, in struct.iter_unpack("Q", v.data[:len(v.data) // 8 * 8])]


def check_base(node):
    count = 0
    while True:
        assert ctypes.string_at(node.text) == b"text" and node.end == node.text + 4
        count += 1
        if not node.next:
            break
        node = node.next.contents
    assert count == 10000 and node.number == 0


def check_top(node):
    assert ctypes.string_at(node.text, node.end - node.text) == b"two"
    check_base(node.below.contents)


LIBC = ctypes.CDLL(None, use_errno=True)
LIBC.mmap.restype = ctypes.c_void_p
LIBC.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
LIBC.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
MAP_FIXED_NOREPLACE = 0x100000


class Taken:
    """This process has something else there."""

    def __init__(self, address):
        self.address = address

    def __enter__(self):
        assert LIBC.mmap(self.address, 4096, 0, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) == self.address

    def __exit__(self, *what):
        LIBC.munmap(self.address, 4096)


def mappings():
    with open("/proc/self/maps") as f:
        return [line for line in f if "fixd" in line]


def fixtures(t):
    d = t.daemon(INI.format(so=t.plugin("objects", PLUGIN)))
    return d, d.client()


def homes(c):
    found = []
    for name in ("words", "base", "top"):
        v = c.attach(name)
        found.append(v.address)
        v.detach()
    return found


def test_each_that_may_be_taken(t):
    """The image itself, what it points into, or several at once."""
    d, c = fixtures(t)
    addresses = homes(c)
    for flags in (0, harness.COW):
        for taken in ([0], [1], [2], [0, 1], [1, 2], [0, 1, 2]):
            before = mappings(), len(os.listdir("/proc/self/fd"))
            held = [Taken(addresses[k]) for k in taken]
            for h in held:
                h.__enter__()
            v = c.attach("top", flags=flags)
            check_top(root(v))
            assert (v.address == addresses[2]) == (2 not in taken)
            for h in held:
                h.__exit__()
            v.detach()
            assert (mappings(), len(os.listdir("/proc/self/fd"))) == before, "nothing stays"


def test_two_daemons(t):
    """Their addresses may be the same ones: both are used at once."""
    ini = "[fixd]\naddress-base = 0x7e9000000000\n" + INI.format(so=t.plugin("objects", PLUGIN))
    one = t.daemon(ini)
    other = t.daemon(ini, args=("--socket", t.path("other")))
    other.socket = t.path("other")
    views = [d.client().attach("top") for d in (one, other)]
    assert views[0].address != views[1].address
    for v in views:
        check_top(root(v))
    for v in views:
        v.detach()


def test_pristine(t):
    """What is changed in relocated objects is told, and put back, in every process."""
    d, c = fixtures(t)
    with Taken(homes(c)[1]):
        v = c.attach("top", flags=harness.COW)
        below = root(v).below.contents
        below.number = 7
        root(v).number = 8
        assert len(v.changes()) == 2
        in_child = t.child(lambda: below.number == 7 and v.reset() == 2 and below.number == 9999 and root(v).number == 0)
        assert harness.exit_code(in_child) == 0 and below.number == 7
        assert v.reset() == 2 and below.number == 9999 and root(v).number == 0
        check_top(root(v))
        assert v.changes() == []
        v.detach()


WRITER = """
#define _GNU_SOURCE
#include <fixd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
int main(int argc, char **argv)
{
	struct fixd_options cow = { .size = sizeof cow, .flags = FIXD_COW };
	void *taken = (void *)strtoull(argv[2], NULL, 16);
	struct node { struct node *next; char *text, *end, *below; long number; } *node;
	struct fixd_view *v;
	struct fixd *f;
	char text[4096] = "";

	if (mmap(taken, 4096, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0) != taken || fixd_open(&f, argv[1]) < 0 ||
	    fixd_attach(f, "base", &cow, &v) < 0)
		return 2;
	node = fixd_view_root(v);
	if ((void *)node == taken || strcmp(node->text, "text"))
		return 3;
	node->next->number = 42;
	if (fixd_view_blame(v, &node->next->number, text, sizeof text) < 0)
		return 4;
	puts(text);
	printf("%lld\\n", (long long)fixd_view_reset(v));
	fixd_detach(v);
	fixd_close(f);
	return 0;
}
"""


def test_who_changes_it(t):
    """It is watched there, too, by the line that writes."""
    if harness.SANITIZERS:
        raise harness.Skip("a sanitizer has its own handler")
    d, c = fixtures(t)
    program = t.program("writer", WRITER)
    done = subprocess.run([program, d.socket, f"{homes(c)[1]:x}"], capture_output=True, text=True, env={**os.environ, "FIXD_BLAME": "1"}, timeout=LIMIT)
    assert done.returncode == 0, (done.returncode, done.stderr)
    line = WRITER[:WRITER.index("number = 42")].count("\n") + 1
    assert f"writer.c:{line}" in done.stdout and done.stdout.splitlines()[-1] == "1", done.stdout


def test_one_place_for_all(t):
    """A second view, also of what is pointed into, shares what the first one has."""
    d, c = fixtures(t)
    with Taken(homes(c)[1]):
        v = c.attach("top")
        held = len(mappings())
        w, b = c.attach("top"), c.attach("base")
        assert v.address == w.address and b.address == ctypes.addressof(root(v).below.contents) - (harness.LIB.fixd_view_root(b.handle) - b.address)
        assert len(mappings()) == held
        for view in (v, w, b):
            view.detach()
    v = c.attach("base")
    assert v.address == homes(c)[1], "at home again"
    v.detach()


def copies(d):
    """Descriptors of the daemon."""
    return sum("fixd:relocated" in fd for fd in d.list_fds())


def test_one_copy_for_all_processes(t):
    """The daemon makes it; what lies elsewhere than the others' has its own."""
    d, c = fixtures(t)
    addresses = homes(c)
    start, gate = os.pipe()

    def work():
        os.close(gate)
        os.read(start, 1)
        v = d.client().attach("top")
        check_top(root(v))
        with open("/proc/self/maps") as f:
            lines = [line.split() for line in f if "fixd:relocated" in line]
        os.write(told, ("".join(f"{line[0]} {line[4]}\n" for line in lines)).encode())
        return True

    with Taken(addresses[1]):
        heard, told = os.pipe()
        children = [t.child(work) for _ in range(8)]
        os.close(gate)
        os.close(start)
        assert all(harness.exit_code(pid) == 0 for pid in children)
        os.close(told)
        with os.fdopen(heard) as f:
            seen = f.read().splitlines()
        assert len(seen) == 16 and len(set(seen)) == 2, "base and top, the same places and the same files in all"
        wait_for(lambda: copies(d) == 2, "two copies")
        # The next door is taken as well: another copy.
        with Taken(addresses[1] - (1 << 40)):
            v = c.attach("base")
            check_base(root(v))
            assert v.address == addresses[1] - (2 << 40)
            v.detach()
        wait_for(lambda: copies(d) == 3, "three copies")
    d.ctl("cleanup", "--all", "--force")
    wait_for(lambda: copies(d) == 0, "they go with their image")


def test_no_room_for_a_copy(t):
    """Where memory-max leaves none for it, and for another user, who may not ask for it, each process makes its own."""
    os.chmod(t.dir, 0o755)
    d = t.daemon("[fixd]\nmemory-max = 1M\nallow-users = nobody\n[fixture base]\nplugin = {so}:base\n".format(so=t.plugin("objects", PLUGIN)))
    c = d.client()
    v = c.attach("base")
    home = v.address
    v.detach()
    with Taken(home):
        v = c.attach("base")
        check_base(root(v))
        assert v.address != home and copies(d) == 0
        v.detach()

        def work():
            check_base(root(d.client().attach("base")))
            return True

        # Only root can be another user.
        assert os.geteuid() or harness.exit_code(t.child(work, uid=harness.NOBODY)) == 0
        assert copies(d) == 0


def test_asked_for_wrongly(t):
    """By a client that makes messages of its own: it is answered, and nothing is made."""
    d, c = fixtures(t)
    s = greeted(d)
    s.send(request("attach", name=b"top", timeout_ms=int(LIMIT * 1000)))
    data, fds, _, _ = socket.recv_fds(s, 65536, 8)
    form, names, _ = wire.FIELDS["image"]
    size = struct.calcsize(form)
    top, *below = [dict(zip(names, struct.unpack_from(form, data, 24 + k * size))) for k in range(len(fds))]
    for fd in fds:
        os.close(fd)

    def asked(serial, *moves):
        s.send(request("relocate", serial=serial, moves=len(moves), behind=b"".join(struct.pack("<QQ", *m) for m in moves)))
        data, fds, _, _ = socket.recv_fds(s, 65536, 8)
        return struct.unpack_from("<H", data)[0], fds

    blob, = (im for im in below if im["kind"] == 1)
    there = (top["address"], 0x7d0000000000)
    for serial, *moves in ((10**9, there), (top["serial"], (top["address"] + 4096, 0x7d0000000000)), (top["serial"], (top["address"], 0x7d0000000001)),
                           (top["serial"], (top["address"], 0)), (top["serial"], (top["address"], 1 << 63)), (top["serial"], there, (1, 2)),
                           (blob["serial"], (blob["address"], 0x7d0000000000))):
        assert asked(serial, *moves) == (0xffff, []), (serial, moves)
    assert copies(d) == 0
    kind, fds = asked(top["serial"], there)
    assert kind != 0xffff and len(fds) == 1 and os.fstat(fds[0]).st_size == top["size"]
    wait_for(lambda: copies(d) == 1, "one copy")
    os.close(fds[0])
    # So many are kept of an image, and no more.
    answers = [asked(top["serial"], (top["address"], 0x7c0000000000 + (n << 21))) for n in range(10)]
    assert [len(fds) for _, fds in answers] == [1] * 7 + [0] * 3
    wait_for(lambda: copies(d) == 8, "eight copies")
    for _, fds in answers:
        for fd in fds:
            os.close(fd)
    s.send(request("relocate", serial=top["serial"]))
    assert s.recv(100) == b"", "a message that says nothing is malformed"
    d.ctl("cleanup", "--all", "--force")
    wait_for(lambda: copies(d) == 0, "they go with their image")


def test_where_files_may_not_be_as_large(t):
    """A copy of its own that the limits of the process do not allow is an error, no signal."""
    d, c = fixtures(t)

    def work():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        fails(d.client(), "base", "cannot be mapped: File too large", number=errno.EFBIG)
        return True

    home = homes(c)[1]
    with Taken(home), Taken(home - (1 << 40)), Taken(home - (2 << 40)), Taken(home - (3 << 40)):
        assert harness.exit_code(t.child(work)) == 0


def test_what_must_not_be_relocated(t):
    """It is refused, also when only what it points into is elsewhere; what does not point into it is not."""
    d = t.daemon(INI.format(so=t.plugin("objects", PLUGIN)) + "relocate = no\n")
    c = d.client()
    for taken in homes(c)[1:]:
        with Taken(taken):
            before = len(mappings())
            fails(c, "top", "relocate = no", number=errno.EEXIST)
            assert len(mappings()) == before
            v = c.attach("base")
            check_base(root(v))
            v.detach()
    d.ctl("restart")
    with Taken(homes(c)[2]):
        fails(c, "top", "relocate = no", number=errno.EEXIST)


PACKED = """
#include <fixd-builder.h>
struct __attribute__((packed)) row { char kind; const char *text; };
int base(struct fixd_builder *b)
{
	struct row *r = fixd_builder_alloc(b, sizeof *r);
	r->kind = 1;
	r->text = fixd_builder_strdup(b, "text");
	fixd_builder_set_root(b, r);
	return 0;
}
"""


def test_packed_pointers_are_not_relocated(t):
    """Nobody would find them: it is as with relocate = no."""
    d = t.daemon(f"[fixture base]\nplugin = {t.plugin('packed', PACKED)}:base\n")
    c = d.client()
    v = c.attach("base")
    home = v.address
    v.detach()
    for _ in range(2):
        with Taken(home):
            fails(c, "base", "or a pointer in a packed struct", number=errno.EEXIST)
        d.ctl("restart")


def test_built_at_two_bases(t):
    """The bytes are the same but for the addresses."""
    so = t.plugin("objects", PLUGIN)
    built = []
    for base in ("0x7e9000000000", "0x7ea000000000"):
        d = t.daemon(f"[fixd]\naddress-base = {base}\n" + INI.format(so=so), args=("--socket", t.path(base)))
        d.socket = t.path(base)
        v = d.client().attach("top")
        built.append((v, d.instance("top")["digest"], d.instance("base")["digest"]))
    (one, *digests), (other, *same) = built
    assert digests == same and one.address != other.address and one.data != other.data
    # Which image has which place is decided by which build is quicker.
    assert all(a == b or (0x7e9000000000 <= a < 0x7ea000000000 <= b) for a, b in zip(words(one), words(other)))
    one.detach()
    other.detach()


TRAVELLING = """
[policy]
watch-by = content
[fixture words]
command = echo words >> runs; printf one.two
remote = yes
[fixture base]
plugin = {so}:noted_base
remote = yes
[fixture top]
plugin = {so}:noted_top
depends = base, words
verify = right
remote = yes
"""


def test_from_another_machine(t):
    """Objects that were built elsewhere, also for other addresses, are those that would have been built here."""
    remote.need(t)
    server, public = remote.Server(), remote.keygen(t)
    so = t.plugin("objects", PLUGIN + """
#include <stdio.h>
int right(const struct node *top)
{
	return strncmp(top->text, "two", 3) || strcmp(top->below->text, "text") || !top->below->next;
}
static void note(const char *what)
{
	FILE *f = fopen("runs", "a");
	fprintf(f, "%s\\n", what);
	fclose(f);
}
int noted_base(struct fixd_builder *b)
{
	note("base");
	return base(b);
}
int noted_top(struct fixd_builder *b)
{
	note("top");
	return top(b);
}
""")
    ini = remote.section(t, server, public) + TRAVELLING.format(so=so)
    other = "[fixd]\naddress-base = 0x7ea000000000\n"
    a = remote.Machine(t, "a", ini)
    v = a.daemon.client().attach("top")
    home = v.address
    assert sorted(a.runs()) == ["base", "top", "words"]
    remote.stored(server, 3)
    sent = len(server.asked("PUT"))
    v.detach()
    for name, base in (("b", ""), ("c", other)):
        m = remote.Machine(t, name, base + ini)
        v = m.daemon.client().attach("top")
        check_top(root(v))
        for fixture in ("base", "top"):
            assert m.daemon.instance(fixture)["digest"] == a.daemon.instance(fixture)["digest"]
        assert m.runs() == [] and len(server.asked("PUT")) == sent, (m.runs(), server.asked("PUT"))
        assert (v.address == home) == (not base), "the same place on each machine, unless it is in another region"
        v.detach()
    # What was relocated goes on from there.
    server.http.files.clear()
    assert m.daemon.ctl("remote", "push", "words", "base", "top").returncode == 0
    last = remote.Machine(t, "last", ini)
    check_top(root(last.daemon.client().attach("top")))
    assert last.runs() == []
    server.close()


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
