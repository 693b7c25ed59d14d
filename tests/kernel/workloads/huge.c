// SPDX-License-Identifier: GPL-2.0-only
// Transparent huge pages: large folios shared over fork, copied, and their huge mappings split by
// munmap, mprotect, mremap and madvise. The argument is the size of the areas in pages: 512 for
// folios that a PMD maps, less for sizes in between.
#include "workload.h"

enum { AREAS = 5, HUGE_PAGES = 512 };

static size_t pages;
static char* areas[AREAS];

// At 2 MB boundaries, with room in between.
static char* area_at(int number) { return (char*)0x700000000000 + number * 4 * HUGE_PAGES * PAGE; }

static void split_in_child(int generation) {
    write_pages(areas[0], 1, 2);                         // a copy of one page, or of all
    unmap(areas[1] + pages / 2 * PAGE, pages / 4);       // the middle
    protect(areas[2] + pages / 4 * PAGE, pages / 4, PROT_READ);
    if (generation == 1) write_pages(areas[2], 1, 2);
    walk("child has split");
    char* away = mremap(areas[3] + pages / 2 * PAGE, pages / 4 * PAGE, pages / 4 * PAGE,
                        MREMAP_MAYMOVE | MREMAP_FIXED, area_at(AREAS));
    require(away != MAP_FAILED, "mremap");
    write_pages(away, 2, 3);
    advise(areas[4] + PAGE, 2, MADV_DONTNEED);
    write_pages(areas[4], 2, 3);
    walk("child has moved a part");
}

int main(int argc, char** argv) {
    pages = argc > 1 ? (size_t)atoi(argv[1]) : HUGE_PAGES;
    for (int i = 0; i < AREAS; ++i) {
        areas[i] = map(area_at(i), pages);
        write_pages(areas[i], 1, 1);  // makes the whole folio
    }
    walk("fresh");
    for (int generation = 0; generation < 2; ++generation) {
        const pid_t child = fork_or_die();
        if (child == 0) {
            split_in_child(generation);
            _exit(0);
        }
        reap(child);
        write_pages(areas[0], 1, 4);  // alone again
    }
    walk("parent");
    // The parent's own, split while nobody shares it.
    protect(areas[1] + PAGE, 1, PROT_READ);
    unmap(areas[2], 1);
    advise(areas[3], pages / 2, MADV_DONTNEED);
    char* moved =
        mremap(areas[4], pages * PAGE, pages * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, area_at(AREAS));
    require(moved != MAP_FAILED, "mremap");
    write_pages(areas[3], 1, 5);
    walk("parent has split");
    ask("pageout", "paged out");
    read_pages(areas[0], 2);
    write_pages(moved, 2, 6);
    walk("back from swap, in part");
    return 0;
}
