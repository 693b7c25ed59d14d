#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# about: redis-server with 40 MB of keys, written to while it saves itself in the background (BGSAVE)
# packages: redis-server redis-tools
# version: redis-server --version
# threads: yes

# shellcheck source-path=SCRIPTDIR source=common.bash
source "$(dirname "$0")/common.bash"
need redis-server redis-cli redis-benchmark

client() { redis-cli -e -s redis.sock "$@"; }

load() { redis-benchmark -s redis.sock -q -n "$1" -r 200000 -d 128 -c 20 -P 8 -t set,lpush,hset; }

prepare() {
    cat >redis.conf <<END
port 0
unixsocket $PWD/redis.sock
dir $PWD
save ""
loglevel warning
enable-debug-command yes
END
}

run() {
    serve redis-server redis.conf
    until_ready client ping
    client debug populate 200000 key 100
    for _ in 1 2 3 4; do
        load 20000
        rm -f dump.rdb
        client bgsave
        load 30000
        until_ready test -e dump.rdb
    done
    client shutdown nosave
    wait "$server"
}

workload "$@"
