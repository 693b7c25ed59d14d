// SPDX-License-Identifier: GPL-2.0-only
// Processes that map, unmap, protect, write and fork at random, from a seed, and then wait:
// attached_monkey SEED [huge]. It prints a line when all are done.
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, AREAS = 24, GENERATIONS = 3 };

static struct {
    char* at;
    int pages;
} areas[AREAS];
static int known, file, huge, done[2];
static unsigned long long state;

static int below(unsigned n) {
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (int)((state >> 11) % n);
}

// Writes what can be written: read(2) fails where a store would be fatal.
static void touch(char* at, int pages) {
    for (int i = 0; i < pages; i++)
        if (pread(file, at + (long)i * PAGE, 1, 0) < 0) continue;
}

static void map(void) {
    int kind = below(8), pages = 1 + below(60), fd = -1, flags = MAP_PRIVATE | MAP_ANONYMOUS;
    if (kind == 0) {
        flags = MAP_PRIVATE;
        fd = file;
    } else if (kind == 1) {
        flags = MAP_SHARED | MAP_ANONYMOUS;
    } else if (kind == 2 && huge) {
        pages = 1024 + below(600);
    }
    char* at = mmap(NULL, (size_t)pages * PAGE, PROT_READ | PROT_WRITE, flags, fd, 0);
    if (at == MAP_FAILED || known == AREAS) return;
    if (pages >= 1024) madvise(at, (size_t)pages * PAGE, MADV_HUGEPAGE);
    areas[known].at = at;
    areas[known++].pages = pages;
}

static void step(void) {
    static const int access[] = {PROT_READ, PROT_NONE, PROT_READ | PROT_WRITE,
                                 PROT_READ | PROT_WRITE};
    int operation = known < 3 ? 0 : below(12), area = known ? below(known) : 0, pages = 0;
    char* at = NULL;
    if (known) {
        int from = below(areas[area].pages);
        pages = 1 + below(areas[area].pages - from);
        if (pages > 40) pages = 1 + below(40);
        at = areas[area].at + (long)from * PAGE;
    }
    switch (operation) {
        case 0:
        case 1: map(); break;
        case 2:
            if (below(3) == 0) munmap(at, (size_t)pages * PAGE);
            break;
        case 3: mprotect(at, (size_t)pages * PAGE, access[below(4)]); break;
        case 4: madvise(at, (size_t)pages * PAGE, MADV_DONTNEED); break;
        case 5:
            if (sbrk((1 + below(20)) * PAGE) != (void*)-1) touch((char*)sbrk(0) - PAGE, 1);
            break;
        default: touch(at, pages); break;
    }
}

static void live(int generation) {
    for (int steps = 30 + below(60); steps > 0; steps--) {
        step();
        if (generation == GENERATIONS || below(25)) continue;
        unsigned long long seed = state * 6364136223846793005u + 1442695040888963407u;
        if (fork() == 0) {
            state = seed;
            live(generation + 1);
            if (generation && below(4) == 0) _exit(0); // its children are orphans
            close(done[1]);
            pause();
        }
        below(7);
    }
}

int main(int count, char** arguments) {
    if (count < 2 || pipe(done)) return 1;
    state = strtoull(arguments[1], NULL, 0) * 0x9E3779B97F4A7C15u + 1;
    huge = count > 2 && strcmp(arguments[2], "huge") == 0;
    file = open(arguments[0], O_RDONLY);
    live(0);
    close(done[1]);
    char byte;
    while (read(done[0], &byte, 1) > 0);
    puts("ready");
    fflush(stdout);
    pause();
}
