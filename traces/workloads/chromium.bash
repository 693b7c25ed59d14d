#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# about: headless Chromium opens and closes tabs of four sites; its zygote forks a renderer for each
# packages: chromium python3
# version: chromium --version 2>/dev/null
# threads: yes

# shellcheck source-path=SCRIPTDIR source=common.bash
source "$(dirname "$0")/common.bash"
need chromium /usr/bin/python3

prepare() { :; }

run() {
    /usr/bin/python3 "$programs/chromium_tabs.py" chromium --headless --no-sandbox --disable-gpu \
        --disable-quic --no-first-run --disable-background-networking --disable-component-update \
        --disable-sync --user-data-dir="$PWD/profile" --host-resolver-rules='MAP *.test 127.0.0.1'
}

workload "$@"
