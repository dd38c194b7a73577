# Sourced by the scripts of test/: a private PostgreSQL server on a free loopback port, with its data in a folder of its own. Needs root,
# as which PostgreSQL does not run.

PG_DIR= PG_BIN=

start_postgres() { # sets DATABASE. With $PG_HOST it listens at that address, for whoever reaches it.
  PG_BIN=$(ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1)
  [ -n "$PG_BIN" ] || { echo "PostgreSQL is not there: script/deps postgresql"; return 1; }
  PG_DIR=$(mktemp -d "${TMPDIR:-/tmp}/berm-postgres.XXXXXX") && chown nobody "$PG_DIR" || return 1
  local port host=${PG_HOST:-127.0.0.1} others=${PG_HOST:+host all all all trust}
  port=$(free_port)
  as_nobody "$PG_BIN/initdb" -D "$PG_DIR/data" -U berm --auth=trust --no-sync >/dev/null && echo "$others" >>"$PG_DIR/data/pg_hba.conf" &&
    as_nobody "$PG_BIN/pg_ctl" -D "$PG_DIR/data" -l "$PG_DIR/log" -w -t 120 -o "-p $port -c listen_addresses=$host -c unix_socket_directories= -c fsync=off" start >/dev/null &&
    "$PG_BIN/psql" -qAt -h "$host" -p "$port" -U berm -d postgres -c 'CREATE DATABASE berm' ||
    { cat "$PG_DIR/log"; return 1; }
  DATABASE="postgres://berm@$host:$port/berm?sslmode=disable"
}

as_nobody() { (cd / && exec setpriv --reuid nobody --regid "$(id -g nobody)" --clear-groups "$@"); }

stop_postgres() {
  [ -n "$PG_DIR" ] || return 0
  as_nobody "$PG_BIN/pg_ctl" -D "$PG_DIR/data" -m immediate stop >/dev/null 2>&1
  rm -rf "$PG_DIR"
}
