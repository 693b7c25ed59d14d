#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# about: a pool of forked workers over shared numpy arrays, some in huge pages, which they write to in part
# packages: python3-numpy
# version: /usr/bin/python3 -c 'import sys, numpy; print("Python", sys.version.split()[0], "numpy", numpy.__version__)'
# threads: yes

# shellcheck source-path=SCRIPTDIR source=common.bash
source "$(dirname "$0")/common.bash"
need /usr/bin/python3

prepare() { /usr/bin/python3 -c 'import numpy'; }

run() {
    export PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1
    /usr/bin/python3 "$programs/python_numpy_pool.py"
}

workload "$@"
