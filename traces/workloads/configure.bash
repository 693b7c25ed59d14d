#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# about: the configure script of GNU units: a shell that forks for everything, and many small compilations
# packages: gcc libc6-dev make xz-utils
# version: bash --version | head -n 1; gcc --version | head -n 1
# threads: no

# shellcheck source-path=SCRIPTDIR source=common.bash
source "$(dirname "$0")/common.bash"
# shellcheck source=debian_source.bash
source "$(dirname "$0")/debian_source.bash"
need gcc make

prepare() { debian_source units source; }

run() {
    cd source
    bash ./configure --disable-dependency-tracking
    test -s Makefile
}

workload "$@"
