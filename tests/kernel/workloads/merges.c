// SPDX-License-Identifier: GPL-2.0-only
// Every way in which mappings become one or fail to: holes filled, neighbours faulted or not, on
// one side or both, before and after a fork, extended in place, moved beside each other.
#include "workload.h"

static char* const arena = (char*)0x700000000000;
static char label[64];

enum { PIECE = 3, FAULTED_LEFT = 1, FAULTED_MIDDLE = 2, FAULTED_RIGHT = 4, CASES = 8 };

static char* piece(int which, int number) { return arena + (which * 64 + number * PIECE) * PAGE; }

static void make(char* at, bool faulted) {
    map(at, PIECE);
    if (faulted) write_pages(at, PIECE - 1, 1);
}

static void drop(int which) { munmap(piece(which, 0), 48 * PAGE); }

// Three pieces side by side, made in the order left, right, middle.
static void fill_hole(int which) {
    make(piece(which, 0), which & FAULTED_LEFT);
    make(piece(which, 2), which & FAULTED_RIGHT);
    make(piece(which, 1), which & FAULTED_MIDDLE);
    write_pages(piece(which, 0), 3 * PIECE, 2);
}

// A piece made elsewhere and moved in between; with its pages, or before it has any.
static void move_into_hole(int which) {
    make(piece(which, 0), which & FAULTED_LEFT);
    make(piece(which, 2), which & FAULTED_RIGHT);
    make(piece(which, 8), which & FAULTED_MIDDLE);
    require(mremap(piece(which, 8), PIECE * PAGE, PIECE * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
                   piece(which, 1)) != MAP_FAILED,
            "mremap");
    write_pages(piece(which, 0), 3 * PIECE, 2);
}

// Of one piece the middle is taken out and comes back: unmapped, protected, or moved away.
static void split_and_rejoin(int which) {
    map(piece(which, 0), 3 * PIECE);
    if (which & FAULTED_LEFT) write_pages(piece(which, 0), 3 * PIECE, 1);
    if (which & FAULTED_MIDDLE) {
        protect(piece(which, 1), PIECE, PROT_READ);
        protect(piece(which, 1), PIECE, RW);
    } else if (which & FAULTED_RIGHT) {
        unmap(piece(which, 1), PIECE);
        map(piece(which, 1), PIECE);
        write_pages(piece(which, 1), 1, 2);
    } else {
        char* away = mremap(piece(which, 1), PIECE * PAGE, PIECE * PAGE,
                            MREMAP_MAYMOVE | MREMAP_FIXED, piece(which, 10));
        require(away != MAP_FAILED, "mremap");
        require(mremap(away, PIECE * PAGE, PIECE * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
                       piece(which, 1)) != MAP_FAILED,
                "mremap");
    }
    write_pages(piece(which, 0), 3 * PIECE, 3);
}

// mmap and mremap extend what is there, and in a forked child they may not.
static void extend(int which) {
    make(piece(which, 1), which & FAULTED_MIDDLE);
    make(piece(which, 2), which & FAULTED_RIGHT);
    if (which & FAULTED_LEFT) make(piece(which, 0), true);
    mremap(piece(which, 1), 2 * PIECE * PAGE, 3 * PIECE * PAGE, 0);
    map(piece(which, 4), PIECE);
    write_pages(piece(which, 1), PIECE, 2);
    write_pages(piece(which, 4), 1, 2);
    char* end = (char*)sbrk(2 * (intptr_t)PAGE);
    write_pages(end, 1, 2);
}

static void all(const char* name, void (*make_one)(int)) {
    for (int which = 0; which < CASES; ++which) make_one(which);
    snprintf(label, sizeof label, "%s", name);
    walk(label);
    const pid_t child = fork_or_die();
    if (child == 0) {
        // What the fork has shared can no longer merge; what is new can.
        for (int which = 0; which < CASES; which += 3) {
            drop(which);
            make_one(which);
        }
        for (int which = 1; which < CASES; which += 3) {
            map(piece(which, 3), PIECE);
            write_pages(piece(which, 3), PIECE, 4);
            unmap(piece(which, 1) + PAGE, 1);
            map(piece(which, 1) + PAGE, 1);
            write_pages(piece(which, 1), 2, 4);
        }
        snprintf(label, sizeof label, "%s, in a child", name);
        walk(label);
        _exit(0);
    }
    reap(child);
    for (int which = 0; which < CASES; ++which) drop(which);
}

int main(void) {
    all("hole filled", fill_hole);
    all("moved into a hole", move_into_hole);
    all("split and joined again", split_and_rejoin);
    all("extended", extend);
    return 0;
}
