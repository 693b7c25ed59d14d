// SPDX-License-Identifier: GPL-2.0-only
// Guard regions, locked memory, memory populated when it is mapped, stacks that grow.
#include "workload.h"

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#define MADV_GUARD_REMOVE 103
#endif

enum { PAGES = 12 };

static volatile char sink;

// Grows the stack by `pages`, a page per call.
static __attribute__((noinline)) void descend(int pages) {
    volatile char frame[PAGE];
    frame[0] = (char)pages;
    if (pages > 0) descend(pages - 1);
    sink = frame[0];
}

static void guard(char* area) {
    // Linux 6.13 and later; EINVAL before, and nothing has happened.
    if (madvise(area + 2 * PAGE, 3 * PAGE, MADV_GUARD_INSTALL) != 0) return;
    write_pages(area + 6 * PAGE, 1, 3);
    walk("guarded");
    advise(area + 3 * PAGE, 1, MADV_GUARD_REMOVE);
    write_pages(area + 3 * PAGE, 1, 4);
}

static void lock(char* area) {
    require(!mlock(area, 4 * PAGE), "mlock");                      // populates, splits
    require(!mlock2(area + 6 * PAGE, 2 * PAGE, MLOCK_ONFAULT), "mlock2");
    write_pages(area + 6 * PAGE, 1, 5);
    walk("locked");
    require(!munlock(area + PAGE, PAGE), "munlock");
    protect(area + 2 * PAGE, 1, PROT_READ);
    protect(area + 2 * PAGE, 1, RW);  // writable and locked: populated at once
    require(!munlock(area, PAGES * PAGE), "munlock");
}

int main(void) {
    char* fresh = map(NULL, PAGES);
    guard(fresh);  // a guard alone gives the VMA its anon_vma
    char* area = map(NULL, PAGES);
    write_pages(area, PAGES / 2, 1);
    guard(area);
    char* populated = map_with(NULL, PAGES, RW, MAP_POPULATE);
    char* readable = map_with(NULL, PAGES, PROT_READ, MAP_POPULATE);
    map_with(NULL, 4, RW, MAP_LOCKED);
    char* growing = map_with((char*)0x700000000000, 2, RW, MAP_GROWSDOWN);
    write_pages(growing, 1, 1);
    lock(map(NULL, PAGES));
    descend(40);
    walk("all of it");

    for (int generation = 0; generation < 2; ++generation) {
        const pid_t child = fork_or_die();
        if (child == 0) {
            descend(60 + 20 * generation);
            write_pages(growing - 3 * PAGE, 3, 2);  // below its start
            guard(area);
            lock(area + PAGES / 2 * PAGE);
            write_pages(populated, 3, 2);
            protect(readable, 3, RW);
            write_pages(readable, 1, 2);
            walk("child");
            require(!mlockall(MCL_FUTURE), "mlockall");
            map(NULL, 3);
            walk("child, future locked");
            munlockall();
            _exit(0);
        }
        reap(child);
        descend(80);
        write_pages(growing - 2 * PAGE, 2, 3);
    }
    walk("parent");
    return 0;
}
