#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# about: a fork server like a zygote: 40 MB warm, 400 children that live and die, some of which fork again
# packages: gcc libc6-dev
# version: gcc --version | head -n 1
# threads: no

# shellcheck source-path=SCRIPTDIR source=common.bash
source "$(dirname "$0")/common.bash"
need gcc

prepare() { gcc -O2 -Wall -o fork_server "$programs/fork_server.c"; }

run() { ./fork_server; }

workload "$@"
