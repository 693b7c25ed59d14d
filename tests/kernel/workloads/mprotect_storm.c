// SPDX-License-Identifier: GPL-2.0-only
// Ranges split and merged by mprotect at random, but alike in every run, with forks in between.
#include "workload.h"

enum { PAGES = 32, STEPS = 40, HOLE = -1 };

static const int rights[] = {PROT_NONE, PROT_READ, RW, RW, PROT_READ | PROT_EXEC};
static char* area;
static int now[PAGES];  // rights, or HOLE

static void change(uint32_t first, uint32_t pages, int prot) {
    const int result = mprotect(area + first * PAGE, pages * PAGE, prot);
    // With a hole in the range everything before it is changed.
    for (uint32_t i = first; i < first + pages && now[i] != HOLE; ++i) now[i] = prot;
    require(result == 0 || errno == ENOMEM, "mprotect");
}

static void storm(uint32_t state, int steps) {
    for (int i = 0; i < steps; ++i) {
        const uint32_t first = chance(&state, PAGES);
        const uint32_t room = PAGES - first < 8 ? PAGES - first : 8;
        const uint32_t pages = 1 + chance(&state, room);
        const uint32_t what = chance(&state, 16);
        if (what == 0) {
            unmap(area + first * PAGE, 1);
            now[first] = HOLE;
        } else if (what == 1) {
            map(area + first * PAGE, pages);
            for (uint32_t page = first; page < first + pages; ++page) now[page] = RW;
        } else if (what < 6) {
            for (uint32_t page = first; page < first + pages; ++page) {
                if (now[page] == RW) write_pages(area + page * PAGE, 1, 2);
            }
        } else {
            change(first, pages, rights[chance(&state, 5)]);
        }
    }
}

// Everything becomes writable and is written: as few VMAs as the kernel's rules allow.
static void settle(void) {
    for (uint32_t page = 0; page < PAGES; ++page) {
        if (now[page] == HOLE) continue;
        change(page, 1, RW);
        write_pages(area + page * PAGE, 1, 3);
    }
}

static void live_as_child(uint32_t generation, struct gate ready, struct gate stop) {
    storm(100 + generation, STEPS);
    open_gate(ready);
    await(stop);
    settle();
    walk("the child has settled");
    const pid_t grandchild = fork_or_die();
    if (grandchild == 0) {
        storm(200 + generation, STEPS / 2);
        walk("the grandchild has split");
        _exit(0);
    }
    reap(grandchild);
    _exit(0);
}

int main(void) {
    area = map(NULL, PAGES);
    for (int page = 0; page < PAGES; ++page) now[page] = RW;
    write_pages(area, PAGES / 2, 1);
    storm(11, STEPS);
    walk("before fork");
    for (uint32_t generation = 0; generation < 3; ++generation) {
        const struct gate ready = make_gate();
        const struct gate stop = make_gate();
        const pid_t child = fork_or_die();
        if (child == 0) live_as_child(generation, ready, stop);
        await(ready);
        storm(300 + generation, STEPS / 2);
        walk("both have split");
        open_gate(stop);
        reap(child);
        settle();
    }
    walk("settled");
    return 0;
}
