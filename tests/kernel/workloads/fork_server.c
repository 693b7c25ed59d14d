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

static struct gate ready, stop[WORKERS], gone[WORKERS];

static _Noreturn void worker(int number) {
    work(number);
    if (number % 3 == 0) {
        const struct gate parent_gone = make_gate();
        if (fork_or_die()) _exit(0);  // before its child
        leave(parent_gone);
        await_all_gone(parent_gone);
        write_pages(warm + 20 * PAGE, 2, number);
    }
    open_gate(ready);
    await(stop[number]);
    _exit(0);
}

// Lets the worker go, or the child it has left, and waits until its memory is gone too.
static void end(int number) {
    open_gate(stop[number]);
    await_all_gone(gone[number]);
    while (waitpid(-1, NULL, WNOHANG) > 0) {
    }
}

int main(void) {
    ready = make_gate();
    warm_up();
    walk("warm");
    for (int number = 0; number < WORKERS; ++number) {
        stop[number] = make_gate();
        gone[number] = make_gate();
        if (!fork_or_die()) worker(number);
        leave(gone[number]);
        await(ready);
        // Between forks: pages that later workers inherit, and earlier ones do not.
        write_pages(warm + ((number * 5) % 8) * PAGE, 1, number);
        if (number == 5) walk("6 workers");
        if (number >= 6) end(number * 5 % 6);
    }
    walk("12 workers forked");
    for (int number = 6; number < WORKERS; ++number) end(number);
    walk("the server alone");
    write_pages(warm, 8, 50);
    const pid_t child = fork_or_die();
    if (child == 0) {
        walk("one more worker");
        _exit(0);
    }
    reap(child);
    return 0;
}
