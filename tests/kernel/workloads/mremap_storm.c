// SPDX-License-Identifier: GPL-2.0-only
// mremap in all its forms, at random but alike in every run: moved, grown, shrunk, to a fixed
// place, without unmapping the source, in part, and back again; before a fork, and by both sides
// after it.
#include "workload.h"

enum { SLOTS = 12, ROOM = 16, STEPS = 24 };  // slots of ROOM pages each

static char* const arena = (char*)0x700000000000;

struct range {
    char* at;
    size_t pages;  // 0: nothing there
};

static struct range ranges[SLOTS];

static char* slot(uint32_t number) { return arena + number * ROOM * PAGE; }

static void refill(uint32_t number, uint32_t* state) {
    ranges[number] = (struct range){slot(number), 2 + chance(state, ROOM / 2 - 2)};
    map(ranges[number].at, ranges[number].pages);
    write_pages(ranges[number].at, chance(state, (uint32_t)ranges[number].pages + 1), 1);
}

// Moves `pages` pages to the place of another slot, of which nothing is left.
static void move(struct range* from, uint32_t to, size_t skip, size_t pages, int flags) {
    char* source = from->at + skip * PAGE;
    char* moved =
        mremap(source, pages * PAGE, pages * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED | flags, slot(to));
    if (moved == MAP_FAILED) return;  // several VMAs, for instance
    munmap(moved + pages * PAGE, (ROOM - pages) * PAGE);
    ranges[to] = (struct range){moved, pages};
    if (flags & MREMAP_DONTUNMAP) return;
    if (skip == 0 && pages == from->pages) from->pages = 0;
    if (skip == 0 && from->pages) {
        from->at += pages * PAGE;
        from->pages -= pages;
    } else if (from->pages) {
        from->pages = skip;
        munmap(source, ROOM * PAGE - (size_t)(source - slot((uint32_t)(from - ranges))));
    }
}

static void resize(struct range* range, size_t pages, int flags) {
    char* at = mremap(range->at, range->pages * PAGE, pages * PAGE, flags);
    if (at == MAP_FAILED) return;
    if (at != range->at) {  // wherever the kernel put it: back into its slot
        const uint32_t number = (uint32_t)(range - ranges);
        at = mremap(at, pages * PAGE, pages * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, slot(number));
        if (at == MAP_FAILED) return;
    }
    *range = (struct range){at, pages};
}

static void step(uint32_t* state) {
    const uint32_t number = chance(state, SLOTS);
    const uint32_t other = (number + 1 + chance(state, SLOTS - 1)) % SLOTS;
    struct range* range = &ranges[number];
    if (range->pages == 0) {
        refill(number, state);
        return;
    }
    switch (chance(state, 9)) {
        case 0:
        case 1: move(range, other, 0, range->pages, 0); break;
        case 2: move(range, other, 0, range->pages, MREMAP_DONTUNMAP); break;
        case 3: move(range, other, range->pages / 2, range->pages - range->pages / 2, 0); break;
        case 4: move(range, other, 0, (range->pages + 1) / 2, 0); break;
        case 5:
            if (range->pages < ROOM / 2) resize(range, range->pages + 2, 0);
            break;
        case 6:
            if (range->pages > 2) resize(range, range->pages - 1, 0);
            break;
        case 7:
            if (range->pages < ROOM / 2) resize(range, range->pages + 3, MREMAP_MAYMOVE);
            break;
        default: {  // away and back
            const size_t pages = range->pages;
            move(range, other, 0, pages, 0);
            struct range* moved = &ranges[other];
            if (moved->at == slot(other) && moved->pages == pages) move(moved, number, 0, pages, 0);
        }
    }
    if (range->pages) {
        write_pages(range->at, 1 + chance(state, (uint32_t)range->pages), 2);
    }
}

static void storm(uint32_t seed) {
    for (int i = 0; i < STEPS; ++i) step(&seed);
}

int main(void) {
    uint32_t seed = 2463534242;
    for (uint32_t i = 0; i < SLOTS; i += 2) refill(i, &seed);
    storm(seed);
    walk("before fork");
    for (int generation = 0; generation < 3; ++generation) {
        const struct gate ready = make_gate();
        const struct gate stop = make_gate();
        const pid_t child = fork_or_die();
        if (child == 0) {
            storm(seed + 77u * (uint32_t)generation + 1);
            open_gate(ready);
            await(stop);
            _exit(0);
        }
        await(ready);
        walk("the child has moved");
        storm(seed + 77u * (uint32_t)generation);
        walk("both have moved");
        open_gate(stop);
        reap(child);
        close(ready.ends[0]), close(ready.ends[1]);
        close(stop.ends[0]), close(stop.ends[1]);
    }
    walk("after the last child");
    return 0;
}
