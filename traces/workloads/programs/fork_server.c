// SPDX-License-Identifier: GPL-2.0-only
// A fork server as a zygote is one: a warm heap that all children share, a child for every request.
// A child counts references in some of the objects, so that it copies their pages, makes objects of
// its own, and waits. Some fork again: two that stay beside them, or a chain of four generations
// whose elders exit. Of those that stay the server keeps so many, and ends another one for each
// that comes.
#define _GNU_SOURCE
#include <err.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    REQUESTS = 400,
    KEPT = 24,
    OBJECTS = 120000,  // 330 bytes each on average: 40 MB
    TOUCHED = 100,  // of the server's objects, by each child
    IMAGE = 4 << 20,  // bytes that are mapped and, once filled, in part protected
    GENERATIONS = 4,
};

struct object {
    struct object* next;
    uint32_t references;
    uint32_t size;
};

static struct object* objects[OBJECTS];
static char* image;
static int arrivals[2];  // a pipe: the pid of each descendant that stays

// xorshift: chance, but the same in every run.
static uint32_t chance(uint32_t* state, uint32_t below) {
    *state ^= *state << 13;
    *state ^= *state >> 17;
    *state ^= *state << 5;
    return *state % below;
}

static struct object* make_object(uint32_t* state, struct object* next) {
    const uint32_t size = 24 + (chance(state, 32) ? chance(state, 512) : chance(state, 6000));
    struct object* object = malloc(sizeof *object + size);
    if (!object) err(1, "malloc");
    *object = (struct object){next, 1, size};
    memset(object + 1, (int)size, size);
    return object;
}

static void warm_up(uint32_t* state) {
    for (int i = 0; i < OBJECTS; ++i) objects[i] = make_object(state, i ? objects[i - 1] : NULL);
    image = mmap(NULL, IMAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (image == MAP_FAILED) err(1, "mmap");
    memset(image, 1, IMAGE / 2);
    if (mprotect(image, IMAGE / 4, PROT_READ)) err(1, "mprotect");
}

static pid_t fork_or_die(void) {
    const pid_t child = fork();
    if (child < 0) err(1, "fork");
    return child;
}

// What a request is: references into the warm heap, a list of its own, a piece of the image.
static void serve(uint32_t state) {
    for (int i = 0; i < TOUCHED; ++i) ++objects[chance(&state, OBJECTS)]->references;
    struct object* own = NULL;
    for (int i = 0; i < 300; ++i) own = make_object(&state, own);
    image[IMAGE / 2 + chance(&state, IMAGE / 2)] = 2;
    if (chance(&state, 4) == 0 && mprotect(image, IMAGE / 8, PROT_READ | PROT_WRITE))
        err(1, "mprotect");
    char* scratch =
        mmap(NULL, 64 << 10, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (scratch == MAP_FAILED) err(1, "mmap");
    memset(scratch, 3, 64 << 10);
    if (chance(&state, 2)) munmap(scratch, 64 << 10);
    while (own && chance(&state, 100)) {
        struct object* next = own->next;
        free(own);
        own = next;
    }
}

static _Noreturn void stay(void) {
    const pid_t self = getpid();
    if (write(arrivals[1], &self, sizeof self) != sizeof self) err(1, "write");
    for (;;) pause();
}

// How many will stay of what this request forks.
static int family(int request) { return request % 8 == 3 ? 3 : 1; }

static _Noreturn void child(int request, uint32_t state) {
    serve(state);
    if (request % 8 == 7) {
        for (int generation = 1; generation < GENERATIONS; ++generation) {
            if (fork_or_die()) _exit(0);
            serve(chance(&state, UINT32_MAX) | 1);
        }
    }
    for (int i = 1; i < family(request); ++i) {
        if (!fork_or_die()) {
            serve(state + (uint32_t)i);
            break;
        }
    }
    stay();
}

static void end(pid_t pid) {
    if (kill(pid, SIGKILL)) err(1, "kill");
    // Fails for one whose parent stays: its parent's end makes it ours to reap.
    waitpid(pid, NULL, 0);
}

// Reaps whoever has ended, and sees that all did as they should.
static void reap(int options) {
    int status;
    while (waitpid(-1, &status, options) > 0) {
        if (WIFEXITED(status) && WEXITSTATUS(status)) errx(1, "a child failed");
    }
}

int main(void) {
    static pid_t kept[KEPT + 3];
    int n = 0;
    uint32_t state = 2463534242;
    if (prctl(PR_SET_CHILD_SUBREAPER, 1)) err(1, "prctl");
    if (pipe(arrivals)) err(1, "pipe");
    warm_up(&state);
    for (int request = 0; request < REQUESTS; ++request) {
        const uint32_t seed = chance(&state, UINT32_MAX) | 1;
        if (!fork_or_die()) child(request, seed);
        for (int i = 0; i < family(request); ++i) {
            if (read(arrivals[0], &kept[n], sizeof kept[n]) != sizeof kept[n]) err(1, "read");
            ++n;
        }
        while (n > KEPT) {
            const uint32_t chosen = chance(&state, (uint32_t)n);
            end(kept[chosen]);
            kept[chosen] = kept[--n];
        }
        reap(WNOHANG);
        // The server lives on, too: pages that later children share, and earlier ones do not.
        for (int i = 0; i < 20; ++i) {
            const uint32_t number = chance(&state, OBJECTS);
            free(objects[number]);
            objects[number] = make_object(&state, NULL);
        }
    }
    while (n) end(kept[--n]);
    reap(0);
    return 0;
}
