#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# about: make -j2 of Lua 5.4: gcc, cc1, as and ld by vfork
# packages: gcc libc6-dev make xz-utils
# version: make --version | head -n 1; gcc --version | head -n 1
# threads: no

# shellcheck source-path=SCRIPTDIR source=common.bash
source "$(dirname "$0")/common.bash"
# shellcheck source=debian_source.bash
source "$(dirname "$0")/debian_source.bash"
need gcc make

prepare() { debian_source lua5.4 source; }

run() {
    make -j2 -C source/src posix
    source/src/lua -v
}

workload "$@"
