#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# about: GNU sort with threads and temporary files that it merges, and ripgrep over a tree of files
# packages: ripgrep
# version: sort --version | head -n 1; rg --version | head -n 1
# threads: yes

# shellcheck source-path=SCRIPTDIR source=common.bash
source "$(dirname "$0")/common.bash"
need sort rg awk

prepare() {
    awk 'BEGIN {
        srand(1)
        for (i = 0; i < 2000000; i++)
            printf "%d %x word%d\n", 1e9 * rand(), 1e9 * rand(), 5000 * rand()
    }' >lines.txt
    mkdir tree
    split -l 50000 lines.txt tree/
    local part
    for part in tree/*; do
        mkdir "$part.d"
        split -l 500 "$part" "$part.d/"
        rm "$part"
    done
}

run() {
    sort --parallel=2 -S 12M -T . -k 3,3 -k 1,1n lines.txt -o sorted.txt
    sort --parallel=2 -S 60M -T . -u lines.txt -o unique.txt
    sort -c -k 3,3 -k 1,1n sorted.txt
    local pattern
    for pattern in word1234 '^[0-9]+ dead' 'word(12|34)5$' '\bbeef[0-9]' '(?i)WORD[0-9]7+$'; do
        rg --threads 4 --count "$pattern" tree >counts
        rg --mmap --only-matching "$pattern" sorted.txt >found
        test -s found
    done
}

workload "$@"
