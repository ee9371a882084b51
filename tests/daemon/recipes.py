# SPDX-License-Identifier: MIT
"""The examples of the manuals: fixd accepts all of them, and the recipes do what they say."""

import glob
import os
import re
import shutil
import subprocess
import sys

import harness
import servers
from harness import LIMIT, once
from servers import need
from services import start


def examples(page):
    """The literal blocks of a page that are sections of fixd.ini, each with the heading above it."""
    found, heading, block = {}, None, None
    with open(os.path.join(harness.SRC, "man", page)) as f:
        for line in f:
            if line.startswith((".Ss ", ".Sh ")):
                heading = line[4:].strip()
            elif line.startswith(".Bd -literal"):
                block = []
            elif line.startswith(".Ed"):
                if block and block[0].startswith(("[fixd]", "[policy]", "[fixture ")):
                    found[heading] = found.get(heading, "") + "".join(block)
                block = None
            elif block is not None:
                block.append(line.replace("\\e", "\\").replace("\\-", "-"))
    return found


@once
def test_all_are_accepted(t):
    pages = [os.path.basename(path) for path in glob.glob(os.path.join(harness.SRC, "man", "*.[1-8]"))]
    all_of_them = {(page, heading): ini for page in pages for heading, ini in examples(page).items()}
    for page, heading in (("fixd.ini.5", "EXAMPLES"), ("fixd-recipes.7", "PostgreSQL")):
        assert (page, heading) in all_of_them
    for where, ini in all_of_them.items():
        # What they name has to be there.
        for kind, path in re.findall(r"^(directory|plugin) = (.*)$", ini, flags=re.MULTILINE):
            file = t.write(path + "/file" if kind == "directory" else path, "")
            if kind == "plugin":
                shutil.copy(os.path.join(harness.BUILD, ".libs", "libfixd.so.0"), file)
        done = subprocess.run([harness.program("fixd"), "--check", "--config", t.write("fixd.ini", ini)], capture_output=True, text=True, timeout=LIMIT)
        assert done.returncode == 0, f"{where}: {done.stderr}"


def begin(t, heading, user=None, **env):
    """A daemon with that recipe; `user`: who runs its servers if the daemon is root's."""
    ini = examples("fixd-recipes.7")[heading]
    os.chmod(t.dir, 0o755)
    if user and os.geteuid() == 0:
        ini = re.sub(r"^(\[fixture .*\])$", rf"\1\nuser = {user}", ini, flags=re.MULTILINE)
    return start(t, ini, env=env)


def test_postgresql(t):
    need("psql")
    where = servers.bin_of_postgres()
    servers.user_of_postgres()
    t.write("schema.sql", "create table rows (id int); insert into rows select generate_series(1, 1000);\n")
    d = begin(t, "PostgreSQL", "postgres", PATH=f"{where}:{os.environ['PATH']}")
    c = d.client()
    for _ in range(2):
        view = c.attach("pg")
        assert servers.psql(view.data, "select count(*) from rows") == "1000"
        servers.psql(view.data, "drop table rows; select 1")
        view.detach()
    d.ctl("with", "pg", "--", "sh", "-c", 'psql -qX -v ON_ERROR_STOP=1 "$FIXD_FIXTURE_pg" -c "drop table rows"')


def test_mariadb(t):
    need("mariadbd", "mariadb-install-db", "mariadb")
    t.write("schema.sql", "create database app;\nuse app;\ncreate table numbers (id int);\ninsert into numbers values (1);\n")
    d = begin(t, "MariaDB", "mysql", PATH=f"{os.environ['PATH']}:/usr/sbin")
    c = d.client()
    for _ in range(2):
        view = c.attach("my")
        done = subprocess.run(["mariadb", "--socket", view.data.decode(), "-u", "root", "-BNe", "select * from numbers; drop table numbers", "app"],
                              capture_output=True, text=True, timeout=LIMIT)
        assert done.stdout == "1\n", done
        view.detach()


def test_redis(t):
    need("redis-server", "redis-cli")
    d = begin(t, "Redis")
    c = d.client()
    for _ in range(2):
        view = c.attach("redis")
        done = subprocess.run(["redis-cli", "-s", view.data.decode(), "incr", "a"], capture_output=True, text=True, timeout=LIMIT)
        assert done.stdout == "1\n", done
        view.detach()


if __name__ == "__main__":
    harness.main(sys.modules[__name__])
