// SPDX-License-Identifier: GPL-2.0-only
// A garbage collector that moves page tables instead of bytes. Small objects live in a nursery: a
// collection moves all of it aside by mremap with MREMAP_DONTUNMAP, copies what lives back to the
// nursery's beginning, and gives back the rest. Large objects are whole pages in an arena: a
// collection closes the gaps between them by MREMAP_FIXED. In the middle of some collections a
// child is forked that writes a checkpoint, which is to say reads everything, while its parent goes
// on moving.
#define _GNU_SOURCE
#include <err.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE ((size_t)4096)

enum {
    CYCLES = 60,
    NURSERY = 8 << 20,
    SMALL = 20000,  // objects that the nursery holds at most
    LARGE = 400,  // objects in the arena
    LARGE_PAGES = 24,  // the most that one has
    CHECKPOINTS = 4,  // a child in every so many cycles
};

struct small {
    struct small* forwarded;
    uint32_t number;
    uint32_t size;
};

struct large {
    char* at;
    size_t pages;
    uint32_t number;
};

static char* nursery;  // [nursery, free_small) is in use
static char* free_small;
static char* from_space;
static struct small* smalls[SMALL];
static size_t n_smalls;

static char* arena;  // [arena, free_large) is in use, with gaps
static char* free_large;
static char* spare;  // room for one large object on its way
static struct large larges[LARGE];  // in the order of their addresses
static size_t n_larges;

static uint32_t state = 2463534242;
static uint32_t serial;
static pid_t checkpoint;

// xorshift: chance, but the same in every run.
static uint32_t chance(uint32_t below) {
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state % below;
}

static char* reserve(size_t size, int prot) {
    char* at = mmap(NULL, size, prot, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (at == MAP_FAILED) err(1, "mmap");
    return at;
}

static void map_at(char* at, size_t size) {
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
    if (mmap(at, size, PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED) err(1, "mmap");
}

static void move(char* from, char* to, size_t size, int flags) {
    if (mremap(from, size, size, MREMAP_MAYMOVE | MREMAP_FIXED | flags, to) == MAP_FAILED)
        err(1, "mremap");
}

static size_t round_up(size_t size) { return (size + PAGE - 1) / PAGE * PAGE; }

// ---- objects, and whether they are what they were ----

static void fill_large(const struct large* object) {
    for (size_t i = 0; i < object->pages; ++i)
        *(uint64_t*)(object->at + i * PAGE) = (uint64_t)object->number << 32 | i;
}

static void verify(void) {
    for (size_t i = 0; i < n_smalls; ++i) {
        const char* bytes = (const char*)(smalls[i] + 1);
        if (bytes[smalls[i]->size - 1] != (char)smalls[i]->number)
            errx(1, "a small object is lost");
    }
    for (size_t i = 0; i < n_larges; ++i) {
        for (size_t page = 0; page < larges[i].pages; ++page) {
            const uint64_t found = *(const uint64_t*)(larges[i].at + page * PAGE);
            if (found != ((uint64_t)larges[i].number << 32 | page)) errx(1, "a page is lost");
        }
    }
}

static void allocate_small(void) {
    while (n_smalls < SMALL) {
        const uint32_t size = 16 + 8 * chance(60);
        if (free_small + sizeof(struct small) + size > nursery + NURSERY) return;
        struct small* object = (struct small*)free_small;
        *object = (struct small){NULL, ++serial, size};
        memset(object + 1, (char)serial, size);
        free_small += sizeof *object + size;
        smalls[n_smalls++] = object;
    }
}

static void allocate_large(void) {
    while (n_larges < LARGE) {
        struct large* object = &larges[n_larges++];
        *object = (struct large){free_large, 1 + chance(LARGE_PAGES), ++serial};
        map_at(object->at, object->pages * PAGE);
        fill_large(object);
        free_large += object->pages * PAGE;
    }
}

// ---- checkpoints ----

static void end_checkpoint(void) {
    int status;
    if (checkpoint == 0) return;
    if (waitpid(checkpoint, &status, 0) != checkpoint) err(1, "waitpid");
    if (status != 0) errx(1, "a checkpoint failed");
    checkpoint = 0;
}

// The child sees the heap as it is now, whatever its parent moves and writes meanwhile.
static void begin_checkpoint(void) {
    end_checkpoint();
    checkpoint = fork();
    if (checkpoint < 0) err(1, "fork");
    if (checkpoint > 0) return;
    verify();
    for (size_t i = 0; i < n_larges; i += 8) *(uint64_t*)larges[i].at |= 1ull << 31;  // marks
    _exit(0);
}

// ---- collections ----

static void collect_small(void) {
    const size_t used = round_up((size_t)(free_small - nursery));
    move(nursery, from_space, used, MREMAP_DONTUNMAP);
    const ptrdiff_t offset = from_space - nursery;
    char* given_back = from_space;
    size_t kept = 0;
    free_small = nursery;
    for (size_t i = 0; i < n_smalls; ++i) {
        struct small* old = (struct small*)((char*)smalls[i] + offset);
        if (chance(10) < 3) {
            const size_t size = sizeof *old + old->size;
            struct small* copy = memcpy(free_small, old, size);
            old->forwarded = copy;
            free_small += size;
            smalls[kept++] = copy;
        }
        // Copied from, 256 KB at a time.
        if ((char*)old - given_back >= 256 << 10) {
            const size_t done = ((size_t)((char*)old - given_back)) / PAGE * PAGE;
            if (madvise(given_back, done, MADV_DONTNEED)) err(1, "madvise");
            given_back += done;
        }
    }
    n_smalls = kept;
    if (munmap(from_space, used)) err(1, "munmap");
}

static void drop_large(void) {
    size_t kept = 0;
    for (size_t i = 0; i < n_larges; ++i) {
        if (chance(3) == 0) {
            if (munmap(larges[i].at, larges[i].pages * PAGE)) err(1, "munmap");
        } else {
            larges[kept++] = larges[i];
        }
    }
    n_larges = kept;
}

// To the gap before it, by way of the spare room if the gap is smaller than the object.
static void slide(struct large* object, char* to) {
    const size_t size = object->pages * PAGE;
    if (to + size > object->at) {
        move(object->at, spare, size, 0);
        move(spare, to, size, 0);
    } else {
        move(object->at, to, size, 0);
    }
    object->at = to;
}

static void collect_large(bool forks) {
    drop_large();
    free_large = arena;
    for (size_t i = 0; i < n_larges; ++i) {
        if (forks && i == n_larges / 2) begin_checkpoint();
        if (larges[i].at != free_large) slide(&larges[i], free_large);
        free_large += larges[i].pages * PAGE;
        if (chance(4) == 0) fill_large(&larges[i]);
    }
}

int main(void) {
    nursery = reserve(NURSERY, PROT_READ | PROT_WRITE);
    from_space = reserve(NURSERY, PROT_NONE);
    arena = reserve((size_t)LARGE * LARGE_PAGES * PAGE, PROT_NONE);
    spare = reserve(LARGE_PAGES * PAGE, PROT_NONE);
    free_small = nursery;
    free_large = arena;
    for (int cycle = 0; cycle < CYCLES; ++cycle) {
        allocate_small();
        allocate_large();
        collect_small();
        collect_large(cycle % CHECKPOINTS == CHECKPOINTS - 1);
        if (cycle % 10 == 9) verify();
    }
    end_checkpoint();
    return 0;
}
