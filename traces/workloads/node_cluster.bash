#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# about: four workers of node's cluster module answering requests; now and then one is killed and replaced
# packages: nodejs
# version: node --version
# threads: yes

# shellcheck source-path=SCRIPTDIR source=common.bash
source "$(dirname "$0")/common.bash"
need node

prepare() { :; }

run() {
    node "$programs/node_cluster.js" "$PWD/node.sock"
}

workload "$@"
