#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# about: a multiprocessing pool of Python; forked workers count references in shared objects, and are replaced
# packages: python3
# version: /usr/bin/python3 --version
# threads: yes

# shellcheck source-path=SCRIPTDIR source=common.bash
source "$(dirname "$0")/common.bash"
need /usr/bin/python3

prepare() { :; }

run() {
    export PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1
    /usr/bin/python3 "$programs/python_pool.py"
}

workload "$@"
