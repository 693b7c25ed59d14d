// SPDX-License-Identifier: GPL-2.0-only
// Pages that reclaim takes away and faults bring back: alone, shared over fork, read first or
// written first, freed lazily, forked while they are out.
#include "workload.h"

enum { PAGES = 12 };

static char *alone, *shared, *lazy;

static void child_body(struct gate ready, struct gate stop) {
    write_pages(shared + 8 * PAGE, 2, 2);  // its own copies
    open_gate(ready);
    await(stop);
    read_pages(shared, 3);  // back in, shared
    write_pages(shared + 3 * PAGE, 2, 3);  // back in, copied
    write_pages(shared + 8 * PAGE, 1, 3);
    write_pages(alone, 2, 3);
    walk("the child has read and written");
    const pid_t grandchild = fork_or_die();  // with entries that are still out
    if (grandchild == 0) {
        write_pages(shared + 5 * PAGE, 1, 4);
        read_pages(shared + 6 * PAGE, 1);
        walk("the grandchild too");
        ask("reclaim", "all three out");
        write_pages(shared + 6 * PAGE, 1, 5);
        walk("the grandchild again");
        _exit(0);
    }
    reap(grandchild);
    _exit(0);
}

int main(void) {
    alone = map(NULL, PAGES);
    shared = map(NULL, PAGES);
    protect(shared + (PAGES - 1) * PAGE, 1, PROT_NONE);
    lazy = map(NULL, PAGES);
    write_pages(alone, PAGES, 1);
    write_pages(lazy, PAGES, 1);
    ask("pageout", "alone");
    read_pages(alone, 3);
    write_pages(alone + 3 * PAGE, 3, 2);
    walk("half of it back");

    write_pages(shared, PAGES - 1, 1);
    advise(lazy, PAGES / 2, MADV_FREE);
    write_pages(lazy, 1, 2);  // wanted after all
    ask("reclaim", "lazily freed");
    read_pages(lazy, 2);
    write_pages(lazy + 2 * PAGE, 2, 3);
    write_pages(shared, PAGES - 1, 2);
    walk("refaulted");

    const struct gate ready = make_gate();
    const struct gate stop = make_gate();
    const pid_t child = fork_or_die();
    if (child == 0) child_body(ready, stop);
    await(ready);
    ask("reclaim", "shared pages");
    write_pages(shared + PAGES / 2 * PAGE, 1, 6);
    walk("the parent has written");
    open_gate(stop);
    reap(child);
    write_pages(shared, PAGES - 1, 7);
    walk("alone again");
    // Out, moved, split and protected while out, and back.
    ask("reclaim", "alone, out");
    char* moved = mremap(alone, PAGES / 2 * PAGE, PAGES / 2 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
                         (char*)0x700000000000);
    require(moved != MAP_FAILED, "mremap");
    unmap(moved + PAGE, 1);
    protect(moved + 3 * PAGE, 1, PROT_READ);
    read_pages(moved + 3 * PAGE, 3);
    write_pages(moved, 1, 8);
    advise(shared, 3, MADV_DONTNEED);
    write_pages(shared + PAGE, 2, 8);
    walk("moved while out");
    return 0;
}
