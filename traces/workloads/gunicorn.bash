#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# about: gunicorn with four workers forked from a warm parent (preload), each replaced after 50 requests
# packages: gunicorn python3 apache2-utils
# version: gunicorn --version
# threads: no

# shellcheck source-path=SCRIPTDIR source=common.bash
source "$(dirname "$0")/common.bash"
need gunicorn ab

prepare() {
    cat >shop.py <<END
import json

# What the parent has loaded, its workers share until they count references in it.
ITEMS = {n: {"id": n, "name": f"item {n}", "tags": [str(n % k) for k in range(2, 7)]} for n in range(40000)}


def application(environ, start_response):
    first = int(environ["PATH_INFO"].rsplit("/", 1)[1])
    text = json.dumps([item for n, item in ITEMS.items() if n % 100 == first])
    start_response("200 OK", [("Content-Type", "application/json")])
    return [text.encode()]
END
}

run() {
    free_port
    serve gunicorn --bind "127.0.0.1:$port" --workers 4 --preload --max-requests 50 \
        --worker-tmp-dir "$PWD" --log-level warning shop:application
    until_ready accepts "$port"
    for item in {1..20}; do fetch 50 "item/$item" -c 4; done
    stop "$server"
}

workload "$@"
