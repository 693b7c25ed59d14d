// SPDX-License-Identifier: GPL-2.0-only
// Processes that have the reverse map walked themselves, without a launcher: they page out and
// migrate what they share over fork.
#include <sys/syscall.h>

#include "workload.h"

enum { PAGES = 24, MPOL_MF_MOVE_ALL_ = 4 };

static char* pages;

static void migrate(int node) {
    void* at[PAGES];
    int nodes[PAGES];
    int status[PAGES];
    for (int i = 0; i < PAGES; ++i) {
        at[i] = pages + i * (long)PAGE;
        nodes[i] = node;
    }
    require(syscall(SYS_move_pages, 0, (long)PAGES, at, nodes, status, MPOL_MF_MOVE_ALL_) >= 0,
            "move_pages");
}

static void page_out(size_t first, size_t n) { advise(pages + first * PAGE, n, MADV_PAGEOUT); }

static void generation(int left) {
    write_pages(pages + (size_t)left * 4 * PAGE, 4, left);
    migrate(left % 2);
    if (left > 0) {
        const pid_t child = fork_or_die();
        if (child == 0) {
            generation(left - 1);
            _exit(0);
        }
        reap(child);
    }
    page_out((size_t)left * 4, 4);  // its own: pages of others count as shared
    read_pages(pages, PAGES);
    migrate(1 - left % 2);
    write_pages(pages, PAGES / 2, left);
}

int main(void) {
    pages = map(NULL, PAGES);
    write_pages(pages, PAGES, 1);
    page_out(0, PAGES);
    write_pages(pages, PAGES / 2, 2);
    read_pages(pages, PAGES);
    generation(4);
    return 0;
}
