#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What images of other machines cost: hosts in network namespaces, one of them with nginx."""

import os
import random
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "daemon"))
import harness
from hosts import Fleet, enter, once, warm
from remote import REMOTE

SIZE = int(os.environ.get("SIZE", "1024"))  # MiB
ROUNDS = int(os.environ.get("ROUNDS", "3"))
HOSTS = int(os.environ.get("HOSTS", "12"))


def say(what, value, than=""):
    print(f"# {what:56}{value:>12}  {than}", flush=True)


def seconds(command, **more):
    begun = time.monotonic()
    subprocess.run(command, check=True, **more)
    return time.monotonic() - begun


def write_large(path):
    """That zstd makes four times smaller."""
    rng = random.Random(1)
    with open(path, "wb") as f:
        for _ in range(SIZE):
            f.write(b"".join(rng.randbytes(1024) + bytes(3072) for _ in range(256)))


@once
def test_a_large_image(t):
    fleet = Fleet(t, 2)
    try:
        store = t.path("server/store")
        write_large(store + "/large")
        large = f"[fixture large]\ncommand = cat {store}/large\nmemory-max = {SIZE + 64}M\nwatch-by = content\nremote = yes\n"
        a = fleet.machine(1, large)
        a.daemon.ctl("warm", "--wait-upload", "--timeout", "600s", timeout=900)
        a.daemon.stop()
        subprocess.run(["zstd", "-q", "-3", "-f", "--rm", store + "/large", "-o", store + "/large.zst"], check=True)
        b = fleet.machine(2, large)
        plain, ours, plain_cpu, ours_cpu = [], [], [], []
        target = f"/dev/shm/fixd-bench-{os.getpid()}"
        for _ in range(ROUNDS):
            before = os.times()
            plain.append(seconds([*enter(fleet.net.hosts[2]), "sh", "-c", f"curl -s http://10.9.0.1:8080/large.zst | zstd -q -d >{target}"]))
            after = os.times()
            plain_cpu.append(after.children_user + after.children_system - before.children_user - before.children_system)
            os.unlink(target)
            b.daemon.ctl("cleanup", "large")
            ours.append(warm(b))
            ours_cpu.append(b.daemon.instance("large")["build_cpu_s"])
        assert b.runs() == [] and b.daemon.status()["daemon"]["remote"]["downloads"] == ROUNDS
        say(f"{SIZE} MiB: curl | zstd -d", f"{min(plain):.2f} s")
        say(f"{SIZE} MiB: into a sealed image", f"{min(ours):.2f} s", f"{min(plain) / min(ours):.2f} x of that (0.7 or more)")
        say("of which processor time", f"{min(ours_cpu):.2f} s", f"against {min(plain_cpu):.2f} s")
    finally:
        fleet.close()


@once
def test_what_is_not_there(t):
    fleet = Fleet(t, 2)
    try:
        description = t.write("description", "=a\0b\0")
        options = [*enter(fleet.net.hosts[2]), REMOTE, "get", f"--url={fleet.url}", "--read=main", f"--public-key={fleet.public}"]

        def asked(*command):
            with open(description) as f:
                begun = time.monotonic()
                subprocess.run([*command, f"--description-fd={f.fileno()}"], pass_fds=[f.fileno()])
                return time.monotonic() - begun
        took = sorted(asked(*options) for _ in range(50))
        started = sorted(asked(*enter(fleet.net.hosts[2]), "true") for _ in range(50))
        say("a look-up that misses, median", f"{(took[25] - started[25]) * 1000:.1f} ms", "(5 or less)")
    finally:
        fleet.close()


@once
def test_a_dead_remote(t):
    fleet = Fleet(t, 2)
    fixtures = "".join(f"[fixture f{n}]\ncommand = echo {n}\nwatch-by = content\nremote = yes\n" for n in range(20))
    try:
        fleet.net.cut(0)
        dead = warm(fleet.machine(1, fixtures, more=""))
        none = warm(fleet.machine(2, fixtures.replace("remote = yes\n", "")))
        say("20 fixtures beside a dead remote", f"{dead - none:.2f} s", f"more than without (2 or less); {none:.2f} s without")
    finally:
        fleet.close()


@once
def test_a_fleet(t):
    """Each with a fixture that takes 5 s."""
    fixture = "[fixture slow]\ncommand = sleep 5; seq 1 1000000\nwatch-by = content\nremote = yes\n"
    fleet = Fleet(t, HOSTS)
    try:
        first = fleet.machine(1, fixture)
        built = warm(first, "--wait-upload")
        others = [fleet.machine(k, fixture) for k in range(2, HOSTS + 1)]
        begun = time.monotonic()
        asking = [subprocess.Popen([harness.program("fixctl"), "--socket", m.daemon.socket, "warm"], stdout=subprocess.DEVNULL) for m in others]
        assert all(p.wait() == 0 for p in asking)
        took = time.monotonic() - begun
        came = sum(m.daemon.status()["daemon"]["remote"]["downloads"] for m in others)
        say(f"{HOSTS} hosts: {HOSTS - came} build, {came} downloads at once", f"{built + took:.2f} s", f"of {HOSTS} builds: {HOSTS * built:.1f} s of work")
    finally:
        fleet.close()


if __name__ == "__main__":
    harness.main(__import__("__main__"))
