#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# A redis server that saves in the background while it goes on being written to, and is reclaimed.

ask() {
    { echo "$1" >&100; read -r -n 1 -u 101 _; } 2>/dev/null
}
client() { redis-cli -s /tmp/redis.sock "$@"; }
until_saved() {
    until client info persistence | grep -q rdb_bgsave_in_progress:0; do sleep 0.2; done
}

redis-server --port 0 --unixsocket /tmp/redis.sock --save '' --dir /tmp --daemonize no \
    --enable-debug-command yes --rdb-key-save-delay 1500 --loglevel warning 100>&- 101>&- &
until [ -S /tmp/redis.sock ]; do sleep 0.1; done
client debug populate 1500 key 100 >/dev/null
ask "migrate filled"
client bgsave
for i in {1..20}; do echo "SET key:$((i * 60)) $i$i$i$i"; done | client >/dev/null
ask "migrate saving"
ask "reclaim saving"
client debug populate 100 new 100 >/dev/null
for i in {1..20}; do echo "GET key:$((i * 50))"; done | client >/dev/null
ask "migrate after reclaim"
until_saved
client debug populate 200 newer 100 >/dev/null
ask "migrate saved"
client shutdown nosave
wait
