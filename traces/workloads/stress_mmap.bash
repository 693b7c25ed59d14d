#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# about: stress-ng --mmap: files and anonymous memory mapped in every way, and unmapped page by page
# packages: stress-ng
# version: stress-ng --version
# threads: no

# shellcheck source-path=SCRIPTDIR source=common.bash
source "$(dirname "$0")/common.bash"
need stress-ng

prepare() { :; }

run() { stress-ng --temp-path . --no-rand-seed --oomable --mmap 2 --mmap-ops 80 --mmap-bytes 4M; }

workload "$@"
