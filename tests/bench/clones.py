#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a PostgreSQL of one's own costs: a clone, against what a suite would do without fixd, in turn in one run. Both speak to the
server through libpq; the same cluster, without fsync, in memory."""

import ctypes
import os
import shutil
import signal
import statistics
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "daemon"))
import harness
import servers
from harness import wait_for
from services import start

ROUNDS = int(os.environ.get("ROUNDS", "60"))
CLONES, HOLDERS, SUPPLIED = 8, 200, 100
# What an application has: 60 tables with 500 rows in each, and indexes.
SCHEMA = "create role app login; create table rows (id serial primary key, name text);" + "".join(
    f"create table t{n} (id serial primary key, name text, at timestamptz default now()); create index on t{n} (name);"
    f"insert into t{n} (name) select 'row ' || k from generate_series(1, 500) k;" for n in range(60))
QUERY = b"insert into rows (name) values ('mine') returning id"
ROW, FIGURE = "{:34}{:>9}{:>9}  {:38}{:>9}{:>9}{:>8}  {}", "{:52}{:>10}  {}"


def load_libpq():
    try:
        pq = ctypes.CDLL("libpq.so.5")
    except OSError:
        raise harness.Skip("there is no libpq here") from None
    for name, result, arguments in (("PQconnectdb", ctypes.c_void_p, [ctypes.c_char_p]), ("PQstatus", ctypes.c_int, [ctypes.c_void_p]),
                                    ("PQexec", ctypes.c_void_p, [ctypes.c_void_p, ctypes.c_char_p]), ("PQfinish", None, [ctypes.c_void_p]),
                                    ("PQresultStatus", ctypes.c_int, [ctypes.c_void_p]), ("PQclear", None, [ctypes.c_void_p]),
                                    ("PQerrorMessage", ctypes.c_char_p, [ctypes.c_void_p])):
        function = getattr(pq, name)
        function.restype, function.argtypes = result, arguments
    return pq


class Session:
    """A connection; false if there is none."""

    def __init__(self, pq, where):
        self.pq, self.handle = pq, pq.PQconnectdb(where)

    def __bool__(self):
        return self.pq.PQstatus(self.handle) == 0

    def run(self, sql):
        result = self.pq.PQexec(self.handle, sql)
        if self.pq.PQresultStatus(result) not in (1, 2):
            sys.exit(f"{sql.decode()}: {self.pq.PQerrorMessage(self.handle).decode()}")
        self.pq.PQclear(result)

    def close(self):
        self.pq.PQfinish(self.handle)


def use(pq, where):
    session = Session(pq, where)
    session.run(QUERY)
    session.close()


def timed(work):
    begin = time.perf_counter()
    kept = work()
    return (time.perf_counter() - begin) * 1e3, kept


class Copy:
    """A server on a copy of the cluster, as a suite would start one."""

    def __init__(self, pq, cluster, where):
        self.where = where
        subprocess.run(["cp", "-a", cluster, where], check=True)
        user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
        self.process = subprocess.Popen([servers.bin_of_postgres() + "/postgres", "-D", where, "-k", where], stderr=subprocess.DEVNULL, **user)
        self.address = f"host={where} user=test dbname=".encode()
        # The quickest to find out: pg_ctl looks ten times a second.
        while not (session := Session(pq, self.address + b"template1")):
            session.close()
            time.sleep(0.001)
        self.session = session

    def end(self):
        self.session.close()
        # Killed, it would leave shared memory behind.
        self.process.send_signal(signal.SIGINT)
        self.process.wait()
        shutil.rmtree(self.where)


def quantile(values, q):
    return sorted(values)[min(len(values) - 1, int(len(values) * q))]


def row(what, ours, against, theirs, reach):
    p50 = [statistics.median(values) for values in (ours, theirs)]
    print(ROW.format(what, f"{p50[0]:.1f}", f"{quantile(ours, 0.99):.1f}", against, f"{p50[1]:.1f}", f"{quantile(theirs, 0.99):.1f}",
                     f"{p50[1] / p50[0]:.1f} x", reach), flush=True)


def figure(what, value, reach):
    print(FIGURE.format(what, value, reach), flush=True)


def quiet(d, ready, name="pg"):
    """So many are ready, and nothing is being started or ended."""
    def is_quiet():
        clones = d.instance(name)["clones"]
        return clones["ready"] >= ready and not clones["starting"] and not clones["ending"]
    wait_for(is_quiet, f"{ready} to be ready")


def one(pq, client, name="pg"):
    view = client.attach(name)
    use(pq, view.data)
    return view


def measure_ready(t, pq, d, cluster):
    client, copy, ours, theirs = d.client(), Copy(pq, cluster, t.runtime + "/copy"), [], []
    client.attach("pg").detach()
    for number in range(ROUNDS):
        quiet(d, 1)
        ms, view = timed(lambda: one(pq, client))
        view.detach()
        ours.append(ms)
        quiet(d, 1)
        name = b"test%d" % number

        def create():
            copy.session.run(b"create database " + name + b" template postgres strategy file_copy")
            use(pq, copy.address + name)
        theirs.append(timed(create)[0])
        copy.session.run(b"drop database " + name)
    copy.end()
    row("a ready clone, first query", ours, "CREATE DATABASE TEMPLATE, first query", theirs, "5 ms, p99 10 ms, 4 x")


def measure_start(t, pq, d, cluster):
    """Without prewarm, which the other side does not have either."""
    client, ours, theirs = d.client(), [], []
    d.ctl("cleanup", "pg")
    for _ in range(ROUNDS // 2):
        ms, view = timed(lambda: one(pq, client, "cold"))
        ours.append(ms)
        view.detach()
        # Nothing is ready, and nothing is started ahead.
        d.ctl("cleanup", "cold")
        quiet(d, 0, "cold")

        def start_copy():
            copy = Copy(pq, cluster, t.runtime + "/copy")
            use(pq, copy.address + b"postgres")
            return copy
        ms, copy = timed(start_copy)
        theirs.append(ms)
        copy.end()
    row("none is ready, first query", ours, "cp -a and start, first query", theirs, "45 ms, 2 x")


def in_threads(work, n):
    threads = [threading.Thread(target=work, args=(number,)) for number in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def measure_supply(d):
    clients = [d.client() for _ in range(CLONES)]

    def take(number):
        for _ in range(SUPPLIED // CLONES):
            clients[number].attach("pg").detach()
    given = d.instance("pg")["clones"]["given"]
    ms, _ = timed(lambda: in_threads(take, CLONES))
    given = d.instance("pg")["clones"]["given"] - given
    figure(f"supply, {CLONES} holders that ask again and again, 1/s", f"{given / ms * 1e3:.1f}", "20")


def pss_of(pid):
    """Of all in its namespace, in MiB."""
    mine, total = os.readlink(f"/proc/{pid}/ns/pid"), 0
    for other in filter(str.isdigit, os.listdir("/proc")):
        try:
            if os.readlink(f"/proc/{other}/ns/pid") == mine:
                with open(f"/proc/{other}/smaps_rollup") as f:
                    total += next(int(line.split()[1]) for line in f if line.startswith("Pss:"))
        except OSError:
            continue
    return total / 1024


def measure_memory(d):
    held = d.client().attach("pg")
    quiet(d, 1)
    ready = next(i for name, i in d.instances().items() if name.startswith("pg/") and i["state"] == "ready" and not i["leases"])
    if os.readlink(f"/proc/{ready['service_pid']}/ns/pid") == os.readlink("/proc/self/ns/pid"):
        print("memory of a ready clone: not measured, there are no namespaces here")
    else:
        figure("PSS of a ready clone, MiB", f"{pss_of(ready['service_pid']):.1f}", "at most 20")
        figure("counted for it, with what it has written, MiB", f"{ready['size'] / 2**20:.1f}", "")
    held.detach()


def measure_order(pq, d):
    """They ask one after the other, and hold for one query."""
    waits, order = [0.0] * HOLDERS, []
    first = [d.client().attach("pg") for _ in range(CLONES)]

    def hold(number, client):
        waits[number], view = timed(lambda: client.attach("pg"))
        order.append(number)
        use(pq, view.data)
        view.detach()
    threads = []
    for number in range(HOLDERS):
        threads.append(threading.Thread(target=hold, args=(number, d.client())))
        threads[-1].start()
        wait_for(lambda: d.status()["daemon"]["waiting"] == number + 1, "it to wait")
    begin = time.perf_counter()
    for view in first:
        view.detach()
    for thread in threads:
        thread.join()
    seconds = time.perf_counter() - begin
    figure(f"{HOLDERS} holders, {CLONES} clones: all served within, s", f"{seconds:.1f}", "")
    figure("served earlier or later than asked, places at most", max(abs(place - number) for place, number in enumerate(order)), f"at most {CLONES}")


def main():
    t = harness.Case("bench", [])
    failed = True
    try:
        pq = load_libpq()
        clones = servers.postgres_clones(t, f"clones = {CLONES}")
        t.write("schema.sql", SCHEMA)
        d = start(t, clones + servers.postgres_on_cluster("cold", "clones = 1"))
        cluster = d.client().attach("cluster").path
        print(ROW.format("ms", "p50", "p99", "", "p50", "p99", "", "reach"))
        measure_ready(t, pq, d, cluster)
        measure_start(t, pq, d, cluster)
        measure_supply(d)
        measure_memory(d)
        measure_order(pq, d)
        failed = False
    except harness.Skip as why:
        print(f"clones of PostgreSQL are not measured: {why}")
        failed = False
    finally:
        t.finish(failed)


if __name__ == "__main__":
    main()
