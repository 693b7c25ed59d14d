#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# about: PostgreSQL under pgbench; every transaction of the second half has a connection, a process, of its own
# packages: postgresql
# version: $(printf '%s\n' /usr/lib/postgresql/*/bin/postgres | sort -V | tail -n 1) --version
# threads: no

# shellcheck source-path=SCRIPTDIR source=common.bash
source "$(dirname "$0")/common.bash"

newest=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
PATH=$newest:$PATH
need initdb postgres pgbench pg_isready
user postgres

bench() { "${as[@]}" pgbench -h "$PWD/data" -n "$@" postgres; }

prepare() {
    own data
    "${as[@]}" initdb -D data -A trust --no-sync
    cat >>data/postgresql.conf <<END
listen_addresses = ''
unix_socket_directories = '$PWD/data'
fsync = off
shared_buffers = 32MB
autovacuum_naptime = 1s
END
    serve "${as[@]}" postgres -D data
    until_ready pg_isready -q -h "$PWD/data"
    bench -i -q
    stop "$server" INT
}

run() {
    serve "${as[@]}" postgres -D data
    until_ready pg_isready -q -h "$PWD/data"
    bench -c 8 -j 1 -t 500
    bench -c 8 -j 1 -t 60 -C
    stop "$server" INT
}

workload "$@"
