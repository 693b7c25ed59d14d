#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only
# about: git gc --aggressive of a repository of loose objects, git repack with two threads, and git fsck
# packages: git
# version: git --version
# threads: yes

# shellcheck source-path=SCRIPTDIR source=common.bash
source "$(dirname "$0")/common.bash"
need git awk

export GIT_CONFIG_NOSYSTEM=1

# COMMITS commits, each of which changes a few lines in some of FILES files, for git fast-import.
history_() {
    awk -v commits="$1" -v files="$2" -v lines=150 '
        function line(n) { return sprintf("%d %s %d\n", n, rand() < 0.5 ? "left" : "right", 1e9 * rand()) }
        function text(file,    all, i) {
            for (i = 0; i < lines; i++) all = all content[file, i]
            return all
        }
        BEGIN {
            srand(1)
            for (f = 0; f < files; f++) for (i = 0; i < lines; i++) content[f, i] = line(i)
            for (c = 0; c < commits; c++) {
                printf "commit refs/heads/main\ncommitter A <a@example.org> %d +0000\n", 1.6e9 + 60 * c
                printf "data 7\nchange\n\n"
                for (k = 0; k < (c ? 5 : files); k++) {
                    f = c ? int(files * rand()) : k
                    for (i = 0; i < 4; i++) content[f, int(lines * rand())] = line(i)
                    all = text(f)
                    printf "M 100644 inline dir%d/file%d\ndata %d\n%s\n", f % 7, f, length(all), all
                }
            }
        }'
}

prepare() {
    git init -q --bare repository
    cd repository
    git config pack.threads 2
    history_ 400 70 | git -c fastimport.unpackLimit=100000 fast-import --quiet
    (($(git count-objects | cut -d " " -f 1) > 2000)) || die "the objects are not loose"
}

run() {
    cd repository
    git gc --aggressive --prune=now
    git repack -a -d -f --window=50
    git fsck --full
    git gc
}

workload "$@"
