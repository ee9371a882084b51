# SPDX-License-Identifier: MIT
"""Real servers as services: PostgreSQL, MariaDB, Redis and nginx, as they are in Debian."""

import glob
import os
import pwd
import shutil
import signal
import subprocess
import sys
import threading
import urllib.request

import harness
import services
from harness import LIMIT, Skip, once, wait_for
from services import directories, is_gone, lines, processes_of, record, start


def bin_of_postgres():
    found = sorted(glob.glob("/usr/lib/postgresql/*/bin/initdb"))
    if not found:
        raise Skip("there is no PostgreSQL here")
    return os.path.dirname(found[-1])


def need(*programs):
    for p in programs:
        if not shutil.which(p) and not os.access("/usr/sbin/" + p, os.X_OK):
            raise Skip(f"there is no {p} here")


def user_of_postgres():
    """It does not run as root."""
    if os.geteuid() != 0:
        return ""
    try:
        pwd.getpwnam("postgres")
    except KeyError:
        raise Skip("there is no user postgres") from None
    return "user = postgres\n"


def postgres(t, schema_more=""):
    """initdb once, the server from a copy of that, a schema in it."""
    need("psql")
    where, as_user = bin_of_postgres(), user_of_postgres()
    os.chmod(t.dir, 0o755)
    t.write("initdb.sh", f"exec {where}/initdb -D $FIXD_DIR/data -U test --auth=trust --no-sync -E UTF8 --locale=C >&2\n")
    t.write("server.sh", f"cp -r $FIXD_DEP_cluster/data $FIXD_DIR/data\nchmod -R u+rwX,go-rwx $FIXD_DIR/data\n"
            f"exec {where}/postgres -D $FIXD_DIR/data -p $FIXD_PORT -k $FIXD_DIR -c fsync=off -c listen_addresses=127.0.0.1\n")
    t.write("schema.sql", "create table rows (id serial, name text); insert into rows (name) select 'row ' || n from generate_series(1, 1000) n;\n")
    return (f"[policy]\ntimeout = 120s\ncheck-timeout = 60s\nmax-age = none\n"
            f"[fixture cluster]\ntree = sh {t.path('initdb.sh')}\n{as_user}"
            f"[fixture server]\nservice = exec sh {t.path('server.sh')}\n{as_user}depends = cluster\n"
            f"ready = command:pg_isready -q -h 127.0.0.1 -p $FIXD_PORT\n"
            "value = postgresql://test@127.0.0.1:${FIXD_PORT}\n"
            f"[fixture schema]\ndepends = server\n"
            f"command = psql -qX -v ON_ERROR_STOP=1 -f {t.path('schema.sql')} $(cat $FIXD_DEP_server)/postgres >&2 &&\n"
            f"  printf %s $(cat $FIXD_DEP_server)/postgres\n{schema_more}")


def psql(where, sql):
    done = subprocess.run(["psql", "-qXAt", "-v", "ON_ERROR_STOP=1", "-c", sql, where.decode()], capture_output=True, timeout=LIMIT,
                          env=harness.process_environment())
    assert done.returncode == 0, done.stderr
    return done.stdout.decode().strip()


def test_postgresql(t):
    d = start(t, postgres(t, f"teardown = psql -qXAtc 'select count(*) from rows' $(cat $FIXD_VALUE) >> {t.path('torn')}\n"))
    t.write("torn", "")
    os.chmod(t.path("torn"), 0o666)
    where = d.client().read("schema")
    assert psql(where, "select count(*) from rows") == "1000"
    # Tests in transactions, by many at once.
    answers = []
    threads = [threading.Thread(target=lambda: answers.append(
        psql(d.client().read("schema"), "begin; delete from rows where id <= 500; select count(*) from rows; rollback"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == ["500"] * 8
    assert psql(where, "select count(*) from rows") == "1000"
    built = d.instance("cluster")["created"]
    # A crash: the schema is made anew, in a new server; the cluster is the same.
    os.kill(d.instance("server")["service_pid"], signal.SIGKILL)
    wait_for(lambda: d.instance("server")["state"] == "stale" and d.instance("schema")["state"] == "stale", "the crash to be noticed")
    again = d.client().read("schema")
    assert psql(again, "select count(*) from rows") == "1000" and d.instance("cluster")["created"] == built
    # Its teardown still finds the server.
    d.ctl("cleanup", "--all")
    wait_for(lambda: lines(t, "torn")[-1:] == ["1000"], "the teardown")
    wait_for(lambda: not [p for p in processes_of(t) if "postgres" in p[1]], "the end of the server")
    assert d.status()["daemon"]["teardown_failures"] <= 1, "only that of the schema in the crashed server"


def test_postgresql_exclusive_and_reset(t):
    """For tests that commit: one at a time, and truncated after each."""
    t.write("reset.sql", "truncate rows restart identity; insert into rows (name) values ('only');\n")
    d = start(t, postgres(t, f"exclusive = yes\nreset = psql -qX -v ON_ERROR_STOP=1 -f {t.path('reset.sql')} $(cat $FIXD_VALUE)\n"))
    os.chmod(t.path("reset.sql"), 0o644)
    first = d.client().attach("schema")
    assert psql(first.data, "insert into rows (name) values ('x'); select count(*) from rows") == "1001"
    counts, all_ready = [], threading.Barrier(4)

    def test():
        client = d.client()
        all_ready.wait()
        view = client.attach("schema")
        counts.append(psql(view.data, "select count(*) from rows"))
        psql(view.data, "insert into rows (name) values ('x')")
        view.detach()
    threads = [threading.Thread(target=test) for _ in range(3)]
    for thread in threads:
        thread.start()
    all_ready.wait()
    wait_for(lambda: d.status()["daemon"]["waiting"] == 3, "the requests")
    assert not counts
    first.detach()
    for thread in threads:
        thread.join()
    assert counts == ["1"] * 3


def postgres_clones(t, more="clones = 4"):
    """A cluster with a schema, stopped cleanly; a server of its own on that for each holder, who connects to its socket."""
    need("psql")
    where, as_user = bin_of_postgres(), user_of_postgres()
    os.chmod(t.dir, 0o1777)
    t.write("cluster.sh", f"""set -e
{where}/initdb -D "$FIXD_DIR" -U test --auth=trust --no-sync --wal-segsize=1 -E UTF8 --locale=C >&2
printf '%s\\n' 'fsync = off' "listen_addresses = ''" 'max_prepared_transactions = 4' >> "$FIXD_DIR/postgresql.conf"
sockets=$(mktemp -d)
trap '{where}/pg_ctl -s -w -D "$FIXD_DIR" -m fast stop >&2; rm -r "$sockets"' EXIT
{where}/pg_ctl -s -w -D "$FIXD_DIR" -o "-k $sockets" start >&2
psql -qX -v ON_ERROR_STOP=1 -h "$sockets" -U test -f {t.path('schema.sql')} postgres >&2
""")
    t.write("schema.sql", "create role app login; create table rows (id serial, name text); insert into rows (name) select 'row ' || n from generate_series(1, 1000) n;\n")
    return (f"[policy]\ntimeout = 120s\nmax-age = none\n[fixture cluster]\ntree = sh {t.path('cluster.sh')}\n{as_user}" +
            postgres_on_cluster("pg", f"prewarm = {where}/psql -qXAt -h $FIXD_DIR -U test -c \"select pg_logical_emit_message(true, 'warm', '')\" postgres\n{more}"))


def postgres_on_cluster(name, more):
    return (f"[fixture {name}]\nservice = exec {bin_of_postgres()}/postgres -D $FIXD_DATA -k $FIXD_DIR\ndata = cluster\n{user_of_postgres()}"
            "ready = notify\nvalue = host=${FIXD_DIR} user=test dbname=postgres\n" + f"{more}\n")


PRISTINE = "1000|1|128MB|0|0"


def test_a_cluster_that_was_stopped_by_force(t):
    """Each clone recovers, which it is told of."""
    d = start(t, postgres_clones(t).replace("cluster.sh", "forced.sh"))
    with open(t.path("cluster.sh")) as script:
        t.write("forced.sh", script.read().replace("-m fast stop", "-m immediate stop"))
    view = d.client().attach("pg")
    assert what_is_there(view) == PRISTINE
    assert "its data are of a server that was not stopped (global/pg_control says that PostgreSQL was not shut down)" in d.words()


def what_is_there(view):
    """Of everything that a holder may change; the backend of what has warmed the server up may still be about to end."""
    warms = "select count(*) from pg_stat_activity where application_name = 'psql' and pid <> pg_backend_pid()"
    harness.wait_for(lambda: psql(view.data, warms) == "0", "the first client's backend to end")
    return psql(view.data, "select (select count(*) from rows), (select count(*) from pg_roles where rolname = 'app'), current_setting('shared_buffers'), "
                           "(select count(*) from pg_prepared_xacts), (select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid())")


CONNECTION_WAS_LOST = 2  # as psql says it


def connect(view):
    """A connection that stays open, in a transaction that has a lock."""
    session = subprocess.Popen(["psql", "-qXAt", view.data.decode()], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                               text=True, env=harness.process_environment())
    session.stdin.write("begin; lock table rows; select 'locked';\n")
    session.stdin.flush()
    assert session.stdout.readline() == "locked\n"
    return session


def clone_of(d, view):
    """How the status shows what that view is of."""
    return next(i for i in d.instances().values() if i.get("dir") and i["dir"] in view.data.decode())


def test_clones_of_postgresql(t):
    """Whatever a holder does, the next one has the cluster as it was built."""
    d = start(t, postgres_clones(t))
    c = d.client()
    for change in ("drop table rows", "drop role app", "alter system set shared_buffers = '1MB'", "create database other",
                   "begin; delete from rows; prepare transaction 'left'"):
        view = c.attach("pg")
        assert what_is_there(view) == PRISTINE, change
        psql(view.data, change)
        view.detach()
    assert "was not stopped" not in d.words()
    # Settings that only count after a restart are gone with the crash that makes one, too.
    view = c.attach("pg")
    assert what_is_there(view) == PRISTINE
    os.kill(clone_of(d, view)["service_pid"], signal.SIGKILL)
    wait_for(lambda: not view.current, "the crash to be told")
    view.detach()
    other = c.attach("pg")
    assert what_is_there(other) == PRISTINE
    # The holder goes, and leaves a connection with a lock open: it is cut.
    session = connect(other)
    where = clone_of(d, other)["dir"]
    other.detach()
    wait_for(lambda: not os.path.exists(where), "the end of what was given back")
    session.communicate("commit;\n")
    assert session.returncode == CONNECTION_WAS_LOST
    # Beside each other.
    all_ready, answers = threading.Barrier(4), []

    def test():
        view = d.client().attach("pg")
        before = what_is_there(view)
        all_ready.wait(LIMIT)
        psql(view.data, "delete from rows where id > 1; create role mine")
        all_ready.wait(LIMIT)
        answers.append((before, psql(view.data, "select count(*) from rows")))
    threads = [threading.Thread(target=test) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [(PRISTINE, "1")] * 4, answers


def working_below(t):
    """PostgreSQL writes its titles over its environment, but all of it works in the data."""
    found = []
    for path in glob.glob("/proc/[0-9]*/cwd"):
        try:
            if os.readlink(path).startswith(t.runtime):
                found.append(path)
        except OSError:
            continue
    return found


def helper_of(pid, d):
    """The process between that one and the daemon which is the daemon's child."""
    while True:
        with open(f"/proc/{pid}/stat") as f:
            parent = int(f.read().rsplit(")", 1)[1].split()[1])
        if parent == d.pid:
            return pid
        pid = parent


def shared_memory():
    """Names of the POSIX kind, and who has made the System V kind."""
    with open("/proc/sysvipc/shm") as f:
        return set(os.listdir("/dev/shm")), {int(line.split()[4]) for line in f.readlines()[1:]}


# make check-clones does it 25 times as often.
CLONES = int(os.environ.get("FIXD_CLONES", "40"))


@once
def test_clones_and_kills(t):
    """Servers, their helpers and the daemon are killed in between: nothing is left, and nobody sees what another one did."""
    ini = postgres_clones(t) + postgres_on_cluster("bare", "clones = 4")
    d = start(t, ini)
    pids, names, private, before = set(), set(), True, set(os.listdir(t.dir))
    for number in range(CLONES):
        view = d.client().attach("bare")
        assert what_is_there(view) == PRISTINE, number
        clone = clone_of(d, view)
        private = private and os.readlink(f"/proc/{clone['service_pid']}/ns/mnt") != os.readlink("/proc/self/ns/mnt")
        pids.add(clone["service_pid"])
        names.update(os.listdir(f"/proc/{clone['service_pid']}/root/dev/shm"))
        psql(view.data, "drop table rows")
        if number % 10 == 3:
            os.kill(clone["service_pid"], signal.SIGKILL)
            wait_for(lambda: not view.current, "the crash to be told")
        if number % 10 == 6:
            os.kill(helper_of(clone["service_pid"], d), signal.SIGKILL)
        if number % 40 == 39:
            d.expect = -signal.SIGKILL
            os.kill(d.pid, signal.SIGKILL)
            d.process.wait(LIMIT)
            d = start(t, ini)
        view.detach()
    d.stop()
    wait_for(lambda: not processes_of(t) and not working_below(t), "the end of all processes")
    assert not directories(t) and set(os.listdir(t.dir)) <= before, os.listdir(t.dir)
    with open("/proc/mounts") as mounts:
        assert t.runtime not in mounts.read()
    made, makers = shared_memory()
    if private:
        assert len(names) > 1 and not made & {name for name in names if name.startswith("PostgreSQL")} and not makers & pids


def mariadb_clones(t):
    need("mariadbd", "mariadb-install-db", "mariadb")
    user = "user = mysql\n" if os.geteuid() == 0 else ""
    os.chmod(t.dir, 0o1777)
    t.write("schema.sql", "create database app; create user app@localhost; grant all on app.* to app@localhost;\n"
            "use app; create table numbers (id int primary key); insert into numbers values (1), (2), (3);\n")
    t.write("init.sh", f"""mariadb-install-db --datadir=$FIXD_DIR --auth-root-authentication-method=normal --skip-test-db >&2 || exit
mariadbd --datadir=$FIXD_DIR --socket=$FIXD_DIR/socket --pid-file=$FIXD_DIR/pid --skip-networking >&2 &
until mariadb-admin -s --socket=$FIXD_DIR/socket -u root ping; do kill -0 $! && sleep 0.1 || exit; done >&2
mariadb --socket=$FIXD_DIR/socket -u root < {t.path('schema.sql')} >&2; s=$?
mariadb-admin --socket=$FIXD_DIR/socket -u root shutdown; wait $! && exit $s
""")
    return ("[policy]\ntimeout = 120s\nmax-age = none\n"
            f"[fixture mydata]\n{user}tree = sh {t.path('init.sh')}\n"
            f"[fixture my]\n{user}service = exec mariadbd --datadir=$FIXD_DATA --socket=$FIXD_DIR/socket --pid-file=$FIXD_DIR/pid "
            "--skip-networking --innodb-flush-log-at-trx-commit=0\ndata = mydata\nclones = 3\nready = notify\nvalue = ${FIXD_DIR}/socket\n")


def mariadb(view, sql):
    done = subprocess.run(["mariadb", "--socket", view.data.decode(), "-u", "root", "-BNe", sql, "app"], capture_output=True, text=True, timeout=LIMIT)
    assert done.returncode == 0, done.stderr
    return done.stdout.split()


@once
def test_clones_of_mariadb(t):
    d = start(t, mariadb_clones(t), env={"PATH": os.environ["PATH"] + ":/usr/sbin"})
    c = d.client()
    look = "select count(*), (select count(*) from mysql.user where user = 'app'), @@global.max_connections from numbers; show processlist"

    def pristine(view):
        found = mariadb(view, look)
        return found[:3] == ["3", "1", "151"] and "app.numbers" not in found
    for change in ("drop table numbers", "drop user app@localhost", "set global max_connections = 20", "alter table numbers engine = memory",
                   "create database other; xa start 'left'; insert into numbers values (9); xa end 'left'; xa prepare 'left'"):
        view, other = c.attach("my"), c.attach("my")
        assert pristine(view), change
        mariadb(view, change)
        assert pristine(other), change
        view.detach()
        other.detach()
    view = c.attach("my")
    assert mariadb(view, "xa recover") == []
    os.kill(clone_of(d, view)["service_pid"], signal.SIGKILL)
    wait_for(lambda: not view.current, "the crash to be told")
    view.detach()
    assert pristine(c.attach("my"))
    d.stop()
    wait_for(lambda: not processes_of(t), "the end of all servers")
    assert not directories(t)


def redis(t, more="", options=""):
    need("redis-server", "redis-cli")
    return (f"[fixture redis]\nservice = exec redis-server --port $FIXD_PORT --dir $FIXD_DIR --save '' --bind 127.0.0.1 {options}\n"
            "ready = port\nvalue = redis://127.0.0.1:${FIXD_PORT}/0\n" + more)


def test_clones_of_redis(t):
    """It says itself that it is ready; its socket is in its directory, and each is empty."""
    need("redis-server", "redis-cli")
    d = start(t, "[fixture redis]\nservice = exec redis-server --port 0 --unixsocket $FIXD_DIR/socket --dir $FIXD_DIR --supervised systemd\n"
                 "clones = 3\nready = notify\nprewarm = redis-cli -s $FIXD_DIR/socket ping\nvalue = ${FIXD_DIR}/socket\n")

    def ask(view, *command):
        return subprocess.run(["redis-cli", "-s", view.data.decode(), *command], capture_output=True, timeout=LIMIT, check=True, text=True).stdout.strip()
    c = d.client()
    for ending in "nothing", "save", "crash":
        view, other = c.attach("redis"), c.attach("redis")
        assert ask(view, "dbsize") == "0" and ask(view, "config", "get", "maxmemory").split()[-1] == "0"
        assert ask(view, "set", "a", "1") == ask(view, "config", "set", "maxmemory", "1gb") == "OK"
        assert ask(other, "exists", "a") == "0"
        if ending == "save":
            assert ask(view, "save") == "OK"
        if ending == "crash":
            os.kill(clone_of(d, view)["service_pid"], signal.SIGKILL)
            wait_for(lambda: not view.current, "the crash to be told")
        view.detach()
        other.detach()
    d.stop()
    assert not processes_of(t) and not directories(t)


def redis_cli(where, *command):
    done = subprocess.run(["redis-cli", "-u", where.decode(), *command], capture_output=True, timeout=LIMIT)
    assert done.returncode == 0, done
    return done.stdout.decode().strip()


def test_redis(t):
    d = start(t, redis(t, "reset = redis-cli -u $(cat $FIXD_VALUE) flushall\n" + record(t, "torn", "$(redis-cli -u $(cat $FIXD_VALUE) dbsize)")))
    c = d.client()
    view = c.attach("redis")
    assert redis_cli(view.data, "set", "a", "1") == "OK"
    view.detach()
    view = c.attach("redis")
    assert redis_cli(view.data, "dbsize") in ("0", "(integer) 0"), "it was reset"
    pid = d.instance("redis")["service_pid"]
    # It ends, by itself.
    redis_cli(view.data, "set", "b", "2")
    subprocess.run(["redis-cli", "-u", view.data.decode(), "shutdown", "nosave"], check=False, capture_output=True)
    wait_for(lambda: is_gone(pid) and d.instance("redis")["state"] != "ready", "its end")
    assert redis_cli(d.client().read("redis"), "dbsize") in ("0", "(integer) 0")
    d.stop()
    assert "0" in lines(t, "torn"), "of the second one; the first had ended"
    assert not directories(t)


def nginx(t, daemon):
    need("nginx")
    t.write("www/index.html", "served\n")
    t.write("nginx.conf", "daemon %s;\npid PIDFILE;\nerror_log stderr;\nevents {}\nhttp {\n access_log off;\n"
            "client_body_temp_path DIR; proxy_temp_path DIR; fastcgi_temp_path DIR; uwsgi_temp_path DIR; scgi_temp_path DIR;\n"
            "server { listen 127.0.0.1:PORT; root %s; }\n}\n" % (daemon, t.path("www")))
    for name in ("", "www", "www/index.html"):
        os.chmod(t.path(name), 0o755)
    t.write("nginx.sh", f"sed -e s,PIDFILE,$FIXD_DIR/pid, -e s,DIR,$FIXD_DIR,g -e s,PORT,$FIXD_PORT, {t.path('nginx.conf')} >$FIXD_DIR/conf\n"
            "exec nginx -c $FIXD_DIR/conf -p $FIXD_DIR -e stderr\n")
    return (f"[fixture web]\nservice = PATH=$PATH:/usr/sbin exec sh {t.path('nginx.sh')}\nready = port\n"
            "value = http://127.0.0.1:${FIXD_PORT}/\n")


def fetch(where):
    with urllib.request.urlopen(where.decode(), timeout=LIMIT) as answer:
        return answer.read()


def nginx_works(t, daemon):
    d = start(t, nginx(t, daemon))
    where = d.client().read("web")
    assert fetch(where) == b"served\n"
    with open(d.instance("web")["dir"] + "/pid") as f:
        master = int(f.read())
    # A crash of the master leaves workers; they do not stay.
    os.kill(master, signal.SIGKILL)
    workers = [p for p in processes_of(t) if "nginx: worker" in p[1]]
    if daemon == "off":
        wait_for(lambda: d.instance("web")["state"] == "stale", "the crash to be noticed")
        wait_for(lambda: not [p for p in processes_of(t) if "nginx" in p[1]], "the workers to end")
        again = d.client().read("web")
        assert again != where and fetch(again) == b"served\n"
    d.stop()
    assert not processes_of(t) and not directories(t), workers


def test_nginx(t):
    nginx_works(t, "off")


def test_nginx_in_the_background(t):
    nginx_works(t, "on")


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
