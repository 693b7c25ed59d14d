#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# about: stress-ng --rmap: children that map one file again and again, and write to it
# packages: stress-ng
# version: stress-ng --version
# threads: no

# shellcheck source-path=SCRIPTDIR source=common.bash
source "$(dirname "$0")/common.bash"
need stress-ng

prepare() { :; }

run() { stress-ng --temp-path . --no-rand-seed --oomable --rmap 2 --rmap-ops 100; }

workload "$@"
