// SPDX-License-Identifier: GPL-2.0-only
// A warm process that forks one worker after the other: each lives for a while, writes, maps memory
// of its own, some fork again and die before their child, and the server goes on writing.
#include "workload.h"

enum { WORKERS = 12, WARM = 24, OWN = 4 };

static char* warm;  // in three VMAs
static char* table;

static void warm_up(void) {
    warm = map(NULL, WARM);
    write_pages(warm, WARM, 1);
    protect(warm + 8 * PAGE, 4, PROT_READ);
    table = map(NULL, OWN);
    write_pages(table, 2, 1);  // half of it never
}

static void work(int number) {
    write_pages(warm + (number % 8) * PAGE, 1, number);
    read_pages(warm, WARM);
    char* own = map(NULL, OWN);
    write_pages(own, OWN, number);
    if (number % 4 == 1) unmap(warm + 16 * PAGE, 4);
    if (number % 4 == 2) {
        map(warm + 16 * PAGE, 4);  // what its relatives still share is something else here
        write_pages(warm + 16 * PAGE, 3, number);
    }
    if (number % 4 == 3) {
        protect(warm + 8 * PAGE, 4, RW);  // merges with both sides, where the kernel can
        write_pages(warm + 9 * PAGE, 1, number);
    }
    write_pages(table + (number % OWN) * PAGE, 1, number);
}

static void worker(int number, struct gate ready, struct gate stop) {
    work(number);
    if (number % 3 == 0) {
        const struct gate forked = make_gate();
        if (fork_or_die()) {
            await(forked);
            _exit(0);  // before its child
        }
        write_pages(warm + 20 * PAGE, 2, number);
        open_gate(forked);
    }
    open_gate(ready);
    await(stop);
    _exit(0);
}

int main(void) {
    const struct gate ready = make_gate();
    const struct gate stop = make_gate();
    const struct gate gone = make_gate();
    warm_up();
    walk("warm");
    for (int number = 0; number < WORKERS; ++number) {
        if (!fork_or_die()) worker(number, ready, stop);
        await(ready);
        // Between forks: pages that later workers inherit, and earlier ones do not.
        write_pages(warm + ((number * 5) % 8) * PAGE, 1, number);
        if (number == 5) walk("6 workers");
        if (number >= 6) {
            open_gate(stop);  // one of them goes, whichever is first
            wait(NULL);
        }
    }
    walk("12 workers forked");
    for (int number = 6; number < WORKERS; ++number) open_gate(stop);
    await_all_gone(gone);
    while (wait(NULL) > 0) {
    }
    walk("the server alone");
    write_pages(warm, 8, 50);
    if (!fork_or_die()) {
        walk("one more worker");
        _exit(0);
    }
    wait(NULL);
    return 0;
}
