# SPDX-License-Identifier: MIT
"""A fleet: hosts in network namespaces of their own, one with nginx, each of the others with a daemon and a checkout. Run by make check-fleet."""

import json
import os
import sqlite3
import subprocess
import time

import harness
from harness import LIMIT, once, wait_for
from remote import Machine, keygen, need, store

HOSTS = int(os.environ.get("HOSTS", "12"))
FILES = int(os.environ.get("FILES", "20000"))

FIXTURES = """[fixture database]
command = echo database >> runs; python3 database.py
watch = database.py, words
watch-by = content
remote = yes
[fixture index]
command = echo index >> runs; sort -r words; wc -c < "$FIXD_DEP_database"
depends = database
watch = words
watch-by = content
remote = yes
[fixture tree]
tree = echo tree >> runs; python3 tree.py "$FIXD_DIR"
watch = tree.py
watch-by = content
remote = yes
"""
DATABASE = """import os, sqlite3, sys
db = sqlite3.connect("made.sqlite")
db.execute("create table words (word text primary key, length integer)")
db.executemany("insert into words values (?, ?)", [(w, len(w)) for w in open("words").read().split()])
db.commit()
db.close()
sys.stdout.buffer.write(open("made.sqlite", "rb").read())
os.unlink("made.sqlite")
"""
TREE = f"""import os, sys
for n in range({FILES}):
    d = f"{{sys.argv[1]}}/{{n // 1000}}"
    os.makedirs(d, exist_ok=True)
    with open(f"{{d}}/{{n}}", "w") as f:
        f.write(f"{{n}} " * 50)
    os.utime(f"{{d}}/{{n}}", (1, 1))
"""
WORDS = "\n".join(f"word{n * 7919 % 100003}" for n in range(50000)) + "\n"


def namespace():
    """A process that holds one; it goes with it."""
    holder = subprocess.Popen(["unshare", "-n", "sh", "-c", "ip link set lo up && echo up; exec sleep 100000"], stdout=subprocess.PIPE)
    assert holder.stdout.readline() == b"up\n"
    return holder


def inside(host, *command):
    subprocess.run([*enter(host), *command], check=True, stderr=subprocess.PIPE)


def enter(host):
    return ["nsenter", "-t", str(host.pid), "-n"]


class Network:
    """A switch, and hosts 10.9.0.1 and on."""

    def __init__(self, n):
        self.hosts = []
        try:
            self.switch = namespace()
            inside(self.switch, "ip", "link", "add", "bridge", "type", "bridge")
            inside(self.switch, "ip", "link", "set", "bridge", "up")
        except (OSError, AssertionError, subprocess.CalledProcessError) as e:
            raise harness.Skip(f"no network namespaces here: {e}")
        for k in range(n):
            host = namespace()
            self.hosts.append(host)
            inside(self.switch, "ip", "link", "add", f"port{k}", "type", "veth", "peer", "name", "eth0", "netns", str(host.pid))
            inside(self.switch, "ip", "link", "set", f"port{k}", "master", "bridge", "up")
            inside(host, "ip", "address", "add", f"10.9.0.{k + 1}/24", "dev", "eth0")
            inside(host, "ip", "link", "set", "eth0", "up")

    def cut(self, k):
        inside(self.switch, "ip", "link", "set", f"port{k}", "down")

    def close(self):
        for process in [*self.hosts, self.switch]:
            process.kill()
            process.communicate()


class Fleet:
    """Host 0 has the store, the others are machines."""

    def __init__(self, t, n):
        need(t)
        self.t, self.net = t, Network(n + 1)
        self.public = keygen(t)
        path, conf = store(t, "nginx", "10.9.0.1", 8080)
        self.nginx = subprocess.Popen([*enter(self.net.hosts[0]), path, "-c", conf, "-p", t.dir], stderr=subprocess.PIPE)
        self.url = "http://10.9.0.1:8080/fixtures"
        wait_for(lambda: self.nginx.poll() is not None or subprocess.run([*enter(self.net.hosts[0]), "curl", "-s", "http://10.9.0.1:8080/"],
                                                                       stdout=subprocess.DEVNULL).returncode == 0, "nginx")

    def machine(self, k, fixtures=FIXTURES, more="timeout = 20s", **files):
        remote = f"[remote]\nurl = {self.url}\npublic-keys = {self.public}\nwrite = yes\nkey-file = {self.t.path('key')}\n{more}\n"
        wrapper, self.t.wrapper = self.t.wrapper, [*self.t.wrapper, *enter(self.net.hosts[k])]
        try:
            return Machine(self.t, f"host{k}", remote + fixtures, **{"database.py": DATABASE, "tree.py": TREE, "words": WORDS, **files})
        finally:
            self.t.wrapper = wrapper

    def close(self):
        self.nginx.terminate()
        self.nginx.communicate()
        self.net.close()


def warm(m, *more):
    begun = time.monotonic()
    m.daemon.ctl("warm", "--timeout", "300s", *more, timeout=600)
    return time.monotonic() - begun


def facts(m):
    """What is to be the same everywhere."""
    path = m.dir + "/got.sqlite"
    m.daemon.ctl("get", "-o", path, "database")
    view = m.daemon.client().attach("tree")
    with open(f"{view.path}/{FILES // 2000}/{FILES // 2}") as f:
        text = f.read()
    db = sqlite3.connect(path)
    row = db.execute("select count(*), sum(length), max(word) from words").fetchone()
    db.close()
    return row, len(os.listdir(view.path)), text, m.get("index")[:100], {n: m.daemon.instance(n)["digest"] for n in ("database", "index", "tree")}


@once
def test_a_fleet(t):
    """One builds, all have it."""
    fleet = Fleet(t, HOSTS)
    try:
        a = fleet.machine(1)
        built = warm(a, "--wait-upload")
        wanted, took = facts(a), []
        for k in range(2, HOSTS + 1):
            m = fleet.machine(k)
            took.append(warm(m))
            assert m.runs() == [], (k, m.runs())
            if k < 4:
                assert facts(m) == wanted, (k, facts(m), wanted)
            m.daemon.stop()
        print(f"# {HOSTS} hosts: built and sent in {built:.2f} s, downloaded in {min(took):.2f} to {max(took):.2f} s each; "
              f"{built + sum(took):.1f} s in all, {HOSTS * built:.1f} s if each built")
    finally:
        fleet.close()


@once
def test_a_server_that_goes(t):
    """Cut off, killed: what is needed is built, and the time of it is lost once."""
    fleet = Fleet(t, 3)
    try:
        a = fleet.machine(1, more="")
        a.daemon.ctl("warm", "--wait-upload", "--timeout", "300s", "database", "index", timeout=600)
        wanted = a.get("index")
        fleet.net.cut(0)
        b = fleet.machine(2, more="")
        assert b.get("index") == wanted and sorted(b.runs()) == ["database", "index"]
        said = b.log("database") + b.log("index")
        assert said.count("left alone for a minute") == 1, said
        left = json.loads(b.daemon.ctl("remote", "--json").out)
        assert left["left_alone_s"] > 0 and left["downloads"] == 0, left
    finally:
        fleet.close()


if __name__ == "__main__":
    harness.main(__import__("__main__"))
