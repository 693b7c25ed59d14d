#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# about: nginx with four workers, reloaded under the load of ab, so that new workers take over from old
# packages: nginx apache2-utils
# version: nginx -v 2>&1
# threads: no

# shellcheck source-path=SCRIPTDIR source=common.bash
source "$(dirname "$0")/common.bash"
need nginx ab
user www-data

prepare() {
    own tmp
    mkdir www
    seq 1 2000 >www/small.txt
    seq 1 200000 >www/large.txt
    cat >nginx.conf <<END
daemon off;
user www-data;
worker_processes 4;
pid $PWD/nginx.pid;
error_log stderr warn;
events { worker_connections 256; }
http {
    access_log off;
    client_body_temp_path $PWD/tmp/body;
    proxy_temp_path $PWD/tmp/proxy;
    fastcgi_temp_path $PWD/tmp/fastcgi;
    uwsgi_temp_path $PWD/tmp/uwsgi;
    scgi_temp_path $PWD/tmp/scgi;
    types { text/plain txt; }
    gzip on;
    gzip_types text/plain;
    server {
        include listen.conf;
        root $PWD/www;
        location / { }
        location /proxied/ { include backend.conf; }
    }
}
END
}

run() {
    free_port
    echo "listen 127.0.0.1:$port;" >listen.conf
    echo "proxy_pass http://127.0.0.1:$port/;" >backend.conf
    serve nginx -p "$PWD" -c nginx.conf -e stderr
    until_ready accepts "$port"
    for _ in {1..16}; do
        fetch 2000 small.txt -c 16
        fetch 2000 small.txt -c 16 -k -H "Accept-Encoding: gzip"
        fetch 20 large.txt -c 4 -H "Accept-Encoding: gzip"
        fetch 100 proxied/large.txt -c 4
        kill -HUP "$server"
    done
    stop "$server" QUIT
}

workload "$@"
