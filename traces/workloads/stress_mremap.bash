#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# about: stress-ng --mremap: anonymous memory, populated, that is shrunk, grown and moved
# packages: stress-ng
# version: stress-ng --version
# threads: no

# shellcheck source-path=SCRIPTDIR source=common.bash
source "$(dirname "$0")/common.bash"
need stress-ng

prepare() { :; }

run() { stress-ng --temp-path . --no-rand-seed --oomable --mremap 2 --mremap-ops 800 --mremap-bytes 1M; }

workload "$@"
