// SPDX-License-Identifier: GPL-2.0-only
// A family of processes that share some of their memory in every usual way, then wait for a byte
// each on the pipe at descriptor 100, and go on.
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PAGE = 4096, GATE = 100, GATE_WRITE, READY, READY_WRITE };

static void touch(char* at, int from, int to) {
    for (int page = from; page < to; page++) *(volatile char*)(at + page * PAGE) = 1;
}

static char* map(int pages, int flags) {
    char* at =
        mmap(NULL, (size_t)pages * PAGE, PROT_READ | PROT_WRITE, MAP_ANONYMOUS | flags, -1, 0);
    if (at == MAP_FAILED) exit(1);
    return at;
}

static void stand_by(void) {
    char byte = 'r';
    if (write(READY_WRITE, &byte, 1) != 1 || read(GATE, &byte, 1) != 1) _exit(1);
}

static void* sleeping(void* unused) {
    (void)unused;
    pause();
    return NULL;
}

static void grandchild(char* shared) {
    touch(shared, 15, 40);
    mprotect(shared + 60 * PAGE, 10 * PAGE, PROT_READ);
    char* own = map(300, MAP_PRIVATE);
    touch(own, 0, 100);
    stand_by();
    touch(own, 100, 200);
    touch(shared, 0, 60);
    exit(0);
}

static void elder(char* shared, char* heap) {
    touch(shared, 10, 20);
    munmap(shared + 100 * PAGE, 20 * PAGE);
    madvise(shared + 50 * PAGE, 10 * PAGE, MADV_DONTNEED);
    if (sbrk(40 * PAGE) == (void*)-1) exit(1);
    touch(heap, 0, 10);
    if (fork() == 0) grandchild(shared);
    stand_by();
    touch(shared, 0, 30);
    if (fork() == 0) {
        touch(shared, 30, 60);
        exit(0);
    }
    while (wait(NULL) > 0);
    exit(0);
}

static void younger(char* shared, char* split) {
    pthread_t thread;
    pthread_create(&thread, NULL, sleeping, NULL);
    char* own = map(32, MAP_PRIVATE);
    touch(own, 0, 16);
    mprotect(split + 20 * PAGE, 4 * PAGE, PROT_NONE);
    touch(shared, 0, 3);
    stand_by();
    touch(own, 16, 20);
    stand_by();
    exit(0);
}

int main(void) {
    int gate[2], ready[2];
    if (pipe(gate) || pipe(ready)) return 1;
    dup2(gate[0], GATE);
    dup2(gate[1], GATE_WRITE);
    dup2(ready[0], READY);
    dup2(ready[1], READY_WRITE);

    char *heap = malloc(100 * PAGE), *shared = map(256, MAP_PRIVATE);
    char *split = map(64, MAP_PRIVATE), *object = map(16, MAP_SHARED);
    touch(heap, 0, 100);
    touch(shared, 0, 200);
    touch(split, 0, 32);
    mprotect(split, 8 * PAGE, PROT_READ);
    touch(object, 0, 8);
    volatile char zero = shared[250 * PAGE];

    if (fork() == 0) elder(shared, heap);
    char byte;
    if (read(READY, &byte, 1) != 1 || read(READY, &byte, 1) != 1) return 1;
    touch(shared, 0, 5);
    touch(shared, 190, 230);
    if (fork() == 0) younger(shared, split);
    if (read(READY, &byte, 1) != 1) return 1;
    touch(shared, 100, 110);
    if (sbrk(20 * PAGE) == (void*)-1) return 1;
    touch(split, 30, 40);
    munmap(split + 50 * PAGE, 14 * PAGE);
    touch(map(10, MAP_PRIVATE), 0, 10);
    puts("ready");
    fflush(stdout);
    stand_by();
    touch(shared, 0, 256);
    if (fork() == 0) {
        touch(shared, 0, 50);
        free(heap);
        exit(0);
    }
    while (wait(NULL) > 0);
    return zero;
}
