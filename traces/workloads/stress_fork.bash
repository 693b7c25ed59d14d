#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# about: stress-ng --fork: processes that fork children, which exit at once
# packages: stress-ng
# version: stress-ng --version
# threads: no

# shellcheck source-path=SCRIPTDIR source=common.bash
source "$(dirname "$0")/common.bash"
need stress-ng

prepare() { :; }

run() { stress-ng --temp-path . --no-rand-seed --oomable --fork 2 --fork-ops 3000; }

workload "$@"
