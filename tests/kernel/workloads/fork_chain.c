// SPDX-License-Identifier: GPL-2.0-only
// Generations that each fork the next and exit: fork reuses the anon_vmas that the dead have left.
// In the second chain each generation leaves a sibling behind for a while, which prevents that.
#include "workload.h"

enum { GENERATIONS = 12, PAGES = 8 };

static char label[64];

static const char* named(const char* chain, int generation) {
    snprintf(label, sizeof label, "%s, generation %d", chain, generation);
    return label;
}

// Each generation writes two pages of its own, reads one, and lets go of its ancestors' bit by bit.
static void live(char* area, int generation) {
    write_pages(area + (generation % PAGES) * PAGE, 1, generation);
    write_pages(area + ((generation * 3 + 1) % PAGES) * PAGE, 1, generation);
    if (generation % 4 == 3) {
        map(area + (generation % PAGES) * PAGE, 1);
        write_pages(area + (generation % PAGES) * PAGE, 1, generation);
    }
}

static _Noreturn void lone_chain(char* area) {
    for (int generation = 0; generation < GENERATIONS; ++generation) {
        const struct gate gone = make_gate();
        live(area, generation);
        if (generation % 3 == 0) walk(named("chain", generation));
        if (fork_or_die()) _exit(0);
        leave(gone);
        await_all_gone(gone);  // the parent has exited
        if (generation % 3 == 2) walk(named("chain, parent gone", generation));
    }
    walk("chain, last");
    _exit(0);
}

static _Noreturn void chain_with_siblings(char* area) {
    struct gate release[GENERATIONS];
    for (int generation = 0; generation < GENERATIONS; ++generation) {
        release[generation] = make_gate();
        live(area, generation);
        const struct gate written = make_gate();
        if (!fork_or_die()) {
            write_pages(area + (generation % PAGES) * PAGE, 1, 100);
            open_gate(written);
            await(release[generation]);
            _exit(0);
        }
        await(written);
        if (generation % 3 == 1) walk(named("siblings", generation));
        const struct gate gone = make_gate();
        if (fork_or_die()) _exit(0);
        leave(gone);
        await_all_gone(gone);  // the parent; the sibling has no end of this gate
        if (generation >= 3) open_gate(release[generation - 3]);
    }
    walk("siblings, last");
    for (int i = GENERATIONS - 3; i < GENERATIONS; ++i) open_gate(release[i]);
    _exit(0);
}

int main(void) {
    for (int chain = 0; chain < 2; ++chain) {
        const struct gate gone = make_gate();
        if (!fork_or_die()) {
            close(gone.ends[0]);
            char* area = map(NULL, PAGES);
            write_pages(area, PAGES, 1);
            if (chain == 0) lone_chain(area);
            chain_with_siblings(area);
        }
        leave(gone);
        await_all_gone(gone);
        walk("the root alone");
    }
    return 0;
}
