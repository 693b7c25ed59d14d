// SPDX-License-Identifier: GPL-2.0-only
// One of the many that libraries.c loads. All of its segments are mapped privately from a file: the
// dynamic linker relocates `tables` and protects them, the constructor writes `state`.
#define PAGE_ALIGNED __attribute__((aligned(4096)))

static int values[4];
static int* const tables[] PAGE_ALIGNED = {&values[0], &values[1], &values[2], &values[3]};
PAGE_ALIGNED volatile char state[3 * 4096] = {NUMBER};
static volatile char zeroed[2 * 4096];

__attribute__((constructor)) static void begin(void) {
    state[NUMBER % 3 * 4096] = 1;
    if (NUMBER % 2) zeroed[0] = 1;
}

__attribute__((visibility("default"))) int touch(int page) {
    state[page * 4096] = (char)page;
    zeroed[4096] = 1;
    return *tables[page];
}
