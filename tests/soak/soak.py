#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Long trials of one daemon, with figures at the end and status 1 if anything was wrong.

soak.py kills [N]                1,000 times: the daemon, a helper, a keeper, a service or a client is killed (SIGKILL) at any moment
soak.py soak [CLIENTS [SECONDS]] 1,000 clients for 600 s, with edits every 100 ms: memory and descriptors of the daemon stay as they are
"""

import glob
import json
import os
import random
import signal
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "daemon"))
import harness
from harness import Case, program, wait_for

INI = """
[policy]
timeout = 20s
retry-after = 1ms
[fixture edited]
command = cat input
watch = input
[fixture still]
command = echo still
[fixture tree]
tree = echo one > "$FIXD_DIR/file"
[fixture served]
service = echo up; exec sleep 100000
teardown = true
"""


def processes(case):
    """Of this trial, by what they are; helpers have a clean environment, and are those of this build."""
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f, open(f"/proc/{pid}/environ", "rb") as g:
                command, environment, exe = f.read().split(b"\0"), g.read(), os.readlink(f"/proc/{pid}/exe")
        except OSError:
            continue
        name = os.path.basename(command[0]).decode()
        ours = case.dir.encode() in b" ".join(command) + environment or name == "fixd-builder" and exe.startswith(harness.BUILD)
        if not ours or int(pid) == os.getpid():
            continue
        kind = {"fixd": "daemon", "fixd-builder": "helper", "clients": "client"}.get(name, "service")
        found.setdefault(kind, []).append(int(pid))
    return found


def begin_clients(case, d, n, seconds):
    return subprocess.Popen([program("tests/soak/clients"), d.socket, case.dir, str(n), str(seconds)], stdout=subprocess.PIPE)


def result(clients):
    out, _ = clients.communicate()
    return json.loads(out)


def memory(pid):
    with open(f"/proc/{pid}/smaps_rollup") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Pss_Anon:"))


def start(case, ini):
    d = case.daemon(ini)
    d.expect = None
    return d


def nothing_is_left(case):
    left = processes(case)
    left.pop("client", None)
    return not left and not glob.glob(os.path.join(case.runtime, "fixd-trees-*"))


def kills(n=1000):
    case = Case("ring", [])
    env = {"XDG_RUNTIME_DIR": case.runtime}
    case.write("input", "0\n")
    d = case.daemon(INI, env=env)
    clients = begin_clients(case, d, 12, 100000)
    killed, wrong, longest = {}, [], 0.0
    generator = random.Random(1)
    begun = time.monotonic()
    for k in range(n):
        time.sleep(generator.random() * 0.06)
        kind = generator.choice(["daemon", "helper", "helper", "service", "client"])
        mine = [p for p in processes(case).get(kind, []) if p != clients.pid]
        if not mine:
            kind, mine = "daemon", [d.pid]
        target = generator.choice(mine)
        try:
            os.kill(target, signal.SIGKILL)
        except ProcessLookupError:
            pass
        # What has its name and is not it is a child that has not become its program yet.
        kind = "child" if kind == "daemon" and target != d.pid else kind
        killed[kind] = killed.get(kind, 0) + 1
        if target == d.pid:
            d.process.wait()
            case.daemons.clear()
            since = time.monotonic()
            d = case.daemon(None, env=env)
            longest = max(longest, time.monotonic() - since)
        if d.process.poll() is not None:
            wrong.append(f"kill {k}: the daemon ended with {d.process.returncode}: {d.words()[-500:]}")
            case.daemons.clear()
            d = case.daemon(None, env=env)
        if k % 50 == 49:
            print(f"# {k + 1} kills, {time.monotonic() - begun:.0f} s", flush=True)
            os.truncate(d.log, 0)
            try:
                c = harness.Client(d.socket)
                for name, value in (("still", b"still\n"), ("served", b"up")):
                    wait_for(lambda: works(c, name, value), name, 30)
                c.close()
            except AssertionError as e:
                wrong.append(f"kill {k}: {e}")
    clients.send_signal(signal.SIGTERM)
    # Who waited for a helper that was killed has failed, and was told so.
    figures = result(clients)
    wrong += [f"{figures[k]} {k}" for k in ("stale", "torn") if figures[k]]
    d.process.send_signal(signal.SIGTERM)
    if d.process.wait(30) != 0:
        wrong.append("it did not stop")
    try:
        wait_for(lambda: nothing_is_left(case), "everything to go", 30)
    except AssertionError:
        wrong.append(f"left behind: {processes(case)} {os.listdir(case.runtime)}")
    return {"kills": killed, "longest start": round(longest, 3), "seconds": round(time.monotonic() - begun), **figures}, wrong


def works(c, name, value):
    try:
        return c.read(name, timeout=20) == value
    except harness.FixdError:
        return False


def soak(n=1000, seconds=600):
    case = Case("ring", [])
    case.write("input", "0\n")
    d = start(case, INI)
    fds = d.fds
    clients = begin_clients(case, d, n, seconds)
    rows = []
    begun = time.monotonic()
    for k in range(10):
        time.sleep(seconds / 10)
        rows.append((round(time.monotonic() - begun), memory(d.pid), d.count_fds() if d.running() else 0))
        print("# after %d s: %d KiB, %d descriptors" % rows[-1], flush=True)
    figures = result(clients)
    wrong = [f"{figures[k]} {k}" for k in ("stale", "torn", "failed") if figures[k]]
    try:
        d.check_no_leaks()
        d.stop()
    except AssertionError as e:
        wrong.append(str(e))
    early, late = rows[1], rows[-1]
    if late[1] > early[1] * 1.1 + 1024:
        wrong.append(f"its memory grew from {early[1]} to {late[1]} KiB")
    figures.update({"memory after a fifth, KiB": early[1], "memory at the end, KiB": late[1], "descriptors before": fds})
    return figures, wrong


def main():
    trials = {"kills": kills, "soak": soak}
    if not sys.argv[1:] or sys.argv[1] not in trials:
        sys.exit(__doc__)
    figures, wrong = trials[sys.argv[1]](*map(int, sys.argv[2:]))
    print(json.dumps(figures))
    for w in wrong:
        print(f"WRONG: {w}")
    sys.exit(1 if wrong else 0)


main()
