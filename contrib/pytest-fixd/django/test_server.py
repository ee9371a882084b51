# SPDX-License-Identifier: MIT
"""What no transaction takes back, and what is left behind: of a server that others use, too, no test could do it."""

import time

import psycopg2
import pytest
from django.db import Error, OperationalError, connection
from shop.models import Product

each = pytest.mark.parametrize("n", range(2))
_left = []  # open to the end of the process


def run(*commands):
    connection.ensure_connection()
    connection.connection.autocommit = True
    with connection.cursor() as cursor:
        for command in commands:
            cursor.execute(command)
        return cursor.fetchone() if cursor.description else None


def leave(*commands):
    """A connection that nobody closes."""
    other = psycopg2.connect(host=connection.settings_dict["HOST"], user="test", dbname="shop")
    _left.append(other)
    for command in commands:
        other.cursor().execute(command)
    return other


def connections():
    """Of clients; what has warmed the server up has ended, but its backend may still be about to."""
    count = "select count(*) from pg_stat_activity where backend_type = 'client backend'"
    deadline = time.monotonic() + 30
    while run(count + " and application_name = 'psql'") != (0,):
        assert time.monotonic() < deadline
    return run(count)[0]


def roles():
    return run("select count(*) from pg_roles where rolname in ('reader', 'writer')")[0]


@each
def test_drop_a_role(n):
    assert roles() == 1
    run("drop owned by reader", "drop role reader")
    assert roles() == 0


@each
def test_make_a_role(n):
    assert roles() == 1
    run("create role writer superuser", "alter role reader rename to nobody")
    assert roles() == 1


@each
def test_alter_system(n):
    assert run("show work_mem") == ("4MB",)
    run("alter system set work_mem = '8MB'", "alter system set max_connections = 7", "select pg_reload_conf()")
    assert run("select count(*) from pg_file_settings where sourcefile like '%auto.conf'") == (2,)


@each
def test_alter_database(n):
    assert run("show search_path") == ('"$user", public',)
    run("alter database shop set search_path = nothing", "alter role test set statement_timeout = 1")
    connection.close()
    with pytest.raises(Error):
        Product.objects.count()


@each
def test_kill_the_server(n):
    with pytest.raises(Error):
        run("copy (select 1) to program 'kill -9 $(head -n 1 postmaster.pid)'", "select pg_sleep(60)")
    connection.close()
    with pytest.raises(OperationalError):
        Product.objects.count()


@each
def test_stop_the_server(n):
    with pytest.raises(Error):
        run("copy (select 1) to program 'kill -INT $(head -n 1 postmaster.pid)'", "select pg_sleep(60)")


@each
def test_crash_of_a_backend(n):
    pid = leave("begin").get_backend_pid()
    with pytest.raises(Error):
        run(f"copy (select 1) to program 'kill -9 {pid}'", "select pg_sleep(60)")


@each
def test_leave_a_prepared_transaction(n):
    assert run("select count(*) from pg_prepared_xacts") == (0,)
    run("begin", "delete from shop_stock", "prepare transaction 'left'")
    run("select pg_advisory_lock(1)")
    assert run("select count(*) from pg_prepared_xacts") == (1,)


@each
def test_leave_a_lock(n):
    leave("lock table shop_product")
    assert run("select count(*) from pg_locks where relation = 'shop_product'::regclass and mode = 'AccessExclusiveLock'") == (1,)


@each
def test_leave_connections(n):
    assert connections() == 1
    for _ in range(10):
        leave("listen news", "create temp table mine (id int)")
    assert connections() == 11


@each
def test_drop_the_database(n):
    settings = connection.settings_dict
    connection.close()
    other = psycopg2.connect(host=settings["HOST"], user="test", dbname="postgres")
    other.autocommit = True
    other.cursor().execute("drop database shop with (force)")
    other.close()
    with pytest.raises(OperationalError):
        Product.objects.count()


@each
def test_use_up_the_connections(n):
    with pytest.raises(psycopg2.OperationalError):
        for _ in range(200):
            leave("select 1")


@each
def test_slots_and_extensions(n):
    assert run("select count(*) from pg_replication_slots") == (0,)
    run("select pg_create_logical_replication_slot('left', 'pgoutput')", "create publication all_of_it for all tables", "create schema mine")
    assert run("select count(*) from pg_replication_slots") == (1,)


@each
def test_damage_the_data(n):
    run("checkpoint", "copy (select 1) to program 'rm -r base global/pg_control; mkdir base'")
    connection.close()
    with pytest.raises(OperationalError):
        Product.objects.count()
