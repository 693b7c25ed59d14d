#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# about: Apache with mpm_prefork under ab; children live for 200 connections, and their number follows the load
# packages: apache2-bin apache2-utils
# version: apache2 -v | head -n 1
# threads: no

# shellcheck source-path=SCRIPTDIR source=common.bash
source "$(dirname "$0")/common.bash"
need apache2 ab
user www-data

prepare() {
    mkdir www
    seq 1 2000 >www/small.txt
    seq 1 50000 >www/large.txt
    echo '<html><!--#set var="n" value="1" --><!--#echo var="n" --><!--#include file="small.txt" --></html>' \
        >www/page.shtml
    modules=/usr/lib/apache2/modules
    for module in mpm_prefork unixd authz_core mime dir filter deflate include; do
        [[ ! -e $modules/mod_$module.so ]] || echo "LoadModule ${module}_module $modules/mod_$module.so"
    done >apache.conf
    cat >>apache.conf <<END
ServerName localhost
ServerRoot $PWD
DefaultRuntimeDir $PWD
PidFile $PWD/apache.pid
Mutex file:$PWD
User www-data
Group www-data
ErrorLog $PWD/log
TypesConfig /dev/null
AddType text/plain .txt
AddType text/html .shtml
AddOutputFilter INCLUDES .shtml
DocumentRoot $PWD/www
<Directory $PWD/www>
    Options +Includes
    Require all granted
    SetOutputFilter DEFLATE
</Directory>
StartServers 4
MinSpareServers 4
MaxSpareServers 8
MaxRequestWorkers 24
MaxConnectionsPerChild 200
END
}

# Apache ends its whole process group when it is stopped, so it gets one of its own.
run() {
    free_port
    serve setsid apache2 -d "$PWD" -f apache.conf -c "Listen 127.0.0.1:$port" -D FOREGROUND
    until_ready accepts "$port"
    for clients in 2 16 4; do
        fetch 4000 small.txt -c "$clients"
        fetch 2000 page.shtml -c "$clients" -H "Accept-Encoding: gzip"
        fetch 40 large.txt -c "$clients" -H "Accept-Encoding: gzip"
    done
    stop "$server"
}

workload "$@"
