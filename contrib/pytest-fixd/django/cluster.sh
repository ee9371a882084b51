# SPDX-License-Identifier: MIT
# A cluster in $FIXD_DIR with the tables and rows of the shop, stopped cleanly. $1: the Python that has Django.
set -e
initdb -D "$FIXD_DIR" -U test --auth=trust --no-sync --wal-segsize=1 -E UTF8 --locale=C >&2
printf '%s\n' 'fsync = off' "listen_addresses = ''" 'max_prepared_transactions = 4' 'wal_level = logical' 'shared_buffers = 16MB' \
	'max_connections = 20' 'autovacuum = off' 'max_logical_replication_workers = 0' >> "$FIXD_DIR/postgresql.conf"
SHOP_HOST=$(mktemp -d) DJANGO_SETTINGS_MODULE=settings
export SHOP_HOST DJANGO_SETTINGS_MODULE
trap 'pg_ctl -s -w -D "$FIXD_DIR" -m fast stop >&2; rm -r "$SHOP_HOST"' EXIT
pg_ctl -s -w -D "$FIXD_DIR" -o "-k $SHOP_HOST" start >&2
psql -qX -v ON_ERROR_STOP=1 -h "$SHOP_HOST" -U test -c 'create role reader login' -c 'create database shop' postgres >&2
"$1" -m django migrate -v 0 >&2
"$1" -m django migrate --run-syncdb -v 0 >&2
"$1" fill.py >&2
psql -qX -h "$SHOP_HOST" -U test -c 'grant select on all tables in schema public to reader' -c 'vacuum analyze' shop >&2
