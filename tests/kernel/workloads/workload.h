// SPDX-License-Identifier: GPL-2.0-only
// What the workloads share. Each runs by itself too: without a launcher nobody answers, and nothing
// is walked.
#pragma once

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#define PAGE ((size_t)4096)
#define RW (PROT_READ | PROT_WRITE)

// ---- the launcher ----

// Has the launcher do `trigger` to the whole workload, as it stands now. See guest/guest.h.
static inline void ask(const char* trigger, const char* label) {
    char line[128];
    if (fcntl(100, F_GETFD) < 0) return;
    const int length = snprintf(line, sizeof line, "%s %s\n", trigger, label);
    if (write(100, line, (size_t)length) != length || read(101, line, 1) != 1) _exit(120);
}

static inline void walk(const char* label) { ask("migrate", label); }

static inline void require(bool condition, const char* what) {
    if (condition) return;
    perror(what);
    _exit(121);
}

// ---- memory ----

static inline char* map_with(void* at, size_t pages, int prot, int flags) {
    if (at) flags |= MAP_FIXED;
    char* p = mmap(at, pages * PAGE, prot, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);
    require(p != MAP_FAILED, "mmap");
    return p;
}

static inline char* map(void* at, size_t pages) { return map_with(at, pages, RW, 0); }

static inline void unmap(char* p, size_t pages) { require(!munmap(p, pages * PAGE), "munmap"); }

static inline void protect(char* p, size_t pages, int prot) {
    require(!mprotect(p, pages * PAGE, prot), "mprotect");
}

static inline void advise(char* p, size_t pages, int advice) {
    require(!madvise(p, pages * PAGE, advice), "madvise");
}

static inline void write_pages(char* p, size_t pages, int value) {
    for (size_t i = 0; i < pages; ++i) ((volatile char*)p)[i * PAGE] = (char)value;
}

static inline void read_pages(const char* p, size_t pages) {
    for (size_t i = 0; i < pages; ++i) (void)((const volatile char*)p)[i * PAGE];
}

// ---- processes ----

// One waits until another has opened it, once per opening.
struct gate {
    int ends[2];
};

static inline struct gate make_gate(void) {
    struct gate gate;
    require(!pipe(gate.ends), "pipe");
    return gate;
}

static inline void open_gate(struct gate gate) {
    require(write(gate.ends[1], "", 1) == 1, "write to a gate");
}

static inline void await(struct gate gate) {
    char byte;
    require(read(gate.ends[0], &byte, 1) == 1, "read from a gate");
}

// The caller will not open it.
static inline void leave(struct gate gate) { close(gate.ends[1]); }

// Waits until everybody has left, which an exit does after its memory is gone.
static inline void await_all_gone(struct gate gate) {
    char byte;
    while (read(gate.ends[0], &byte, 1) > 0) {
    }
    close(gate.ends[0]);
}

static inline pid_t fork_or_die(void) {
    fflush(NULL);
    const pid_t child = fork();
    require(child >= 0, "fork");
    return child;
}

static inline void reap(pid_t child) {
    int status;
    require(waitpid(child, &status, 0) == child, "waitpid");
    require(WIFEXITED(status) && WEXITSTATUS(status) == 0, "a child failed");
}

// ---- chance, the same in every run: xorshift ----

static inline uint32_t chance(uint32_t* state, uint32_t below) {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state % below;
}
