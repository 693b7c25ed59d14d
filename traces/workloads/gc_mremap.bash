#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# about: a garbage collector that compacts by mremap, and forks children that write checkpoints meanwhile
# packages: gcc libc6-dev
# version: gcc --version | head -n 1
# threads: no

# shellcheck source-path=SCRIPTDIR source=common.bash
source "$(dirname "$0")/common.bash"
need gcc

prepare() { gcc -O2 -Wall -o gc_mremap "$programs/gc_mremap.c"; }

run() { ./gc_mremap; }

workload "$@"
