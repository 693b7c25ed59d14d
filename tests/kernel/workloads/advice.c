// SPDX-License-Identifier: GPL-2.0-only
// What madvise takes away and what it keeps from a child: DONTNEED, FREE, WIPEONFORK, DONTFORK, and
// back; pages populated for reading and for writing.
#include "workload.h"

enum { PAGES = 6, AREAS = 6 };

static char* areas[AREAS];

static void in_child(int generation) {
    advise(areas[0], 3, MADV_DONTNEED);  // half of what it shares
    write_pages(areas[0] + PAGE, 1, 7);
    read_pages(areas[0], 1);  // the zero page
    write_pages(areas[1], 2, 7);  // wiped: its own from the first write
    require(mincore(areas[2], PAGE, (unsigned char[1]){0}) < 0 || generation == 2, "DONTFORK");
    write_pages(areas[3], 3, 7);
    walk("child, written");
    advise(areas[3], PAGES, MADV_DONTNEED);
    write_pages(areas[3], 2, 8);
    advise(areas[1], PAGES, MADV_KEEPONFORK);
    if (generation < 1) {
        const pid_t grandchild = fork_or_die();
        if (grandchild == 0) {
            write_pages(areas[1], 1, 9);
            write_pages(areas[4], 2, 9);
            walk("grandchild");
            _exit(0);
        }
        reap(grandchild);
    }
    advise(areas[4], 2, MADV_FREE);
    write_pages(areas[4], 1, 9);  // taken back before anybody has reclaimed it
    walk("child, refaulted");
}

int main(void) {
    for (int i = 0; i < AREAS; ++i) {
        areas[i] = map(NULL, PAGES + 1);
        protect(areas[i] + PAGES * PAGE, 1, PROT_NONE);  // neighbours never merge
        write_pages(areas[i], PAGES, 1);
    }
    advise(areas[1], PAGES, MADV_WIPEONFORK);
    advise(areas[2], PAGES, MADV_DONTFORK);
    advise(areas[5] + PAGE, 2, MADV_DONTFORK);  // the middle: a hole in the child
    walk("advised");
    for (int generation = 0; generation < 3; ++generation) {
        if (generation == 1) advise(areas[1], 3, MADV_KEEPONFORK);  // splits it
        if (generation == 2) advise(areas[2], PAGES, MADV_DOFORK);
        const pid_t child = fork_or_die();
        if (child == 0) {
            in_child(generation);
            _exit(0);
        }
        reap(child);
        advise(areas[0], 2, MADV_DONTNEED);
        advise(areas[0], PAGES, MADV_POPULATE_READ);
        advise(areas[3], PAGES, MADV_POPULATE_WRITE);
        walk("parent, after the child");
    }
    // Across VMAs and over a hole: ENOMEM, and all the same done to the rest.
    unmap(areas[4] + 2 * PAGE, 1);
    require(madvise(areas[4], PAGES * PAGE, MADV_DONTNEED) < 0 && errno == ENOMEM, "hole");
    write_pages(areas[4], 1, 3);
    walk("over a hole");
    return 0;
}
