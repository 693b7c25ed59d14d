// SPDX-License-Identifier: GPL-2.0-only
// Address spaces with more than one user: vfork, clone(CLONE_VM) without CLONE_THREAD, threads;
// forks and execs by each, and the mm outliving the process that made it. All take turns.
#include "workload.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>

enum { PAGES = 4, STACK = 16 };

static char* area;
static struct gate turn_thread, turn_main;
static const char* self;

static void exec_child(void) {
    execl(self, self, "leaf", NULL);
    _exit(122);
}

static void* thread_body(void* unused) {
    (void)unused;
    char* own = map(NULL, PAGES);
    write_pages(own, PAGES, 1);
    write_pages(area, 1, 2);
    open_gate(turn_main);
    await(turn_thread);
    const pid_t child = fork_or_die();  // from a thread: the child has this one alone
    if (child == 0) {
        write_pages(area, 2, 3);
        write_pages(own, 1, 3);
        walk("forked by a thread");
        exec_child();
    }
    reap(child);
    unmap(own, 2);
    open_gate(turn_main);
    return NULL;
}

static int roommate_body(void* unused) {
    (void)unused;
    write_pages(area + PAGE, 1, 4);
    char* own = map(NULL, PAGES);
    write_pages(own, 2, 4);
    const pid_t child = fork_or_die();  // a copy of the shared mm
    if (child == 0) {
        write_pages(area, PAGES, 5);
        walk("forked by a process that shares its mm");
        _exit(0);
    }
    reap(child);
    return 0;
}

// The process that made the mm exits; the other goes on using it.
static int survivor_body(void* unused) {
    (void)unused;
    await(turn_thread);
    write_pages(area, PAGES, 6);
    walk("the first user of the mm is gone");
    const pid_t child = fork_or_die();
    if (child == 0) {
        write_pages(area, 1, 7);
        walk("forked by the survivor");
        _exit(0);
    }
    reap(child);
    _exit(0);
}

static char* stack_top(void) { return map(NULL, STACK) + STACK * PAGE; }

int main(int argc, char** argv) {
    self = argv[0];
    area = map(NULL, PAGES);
    write_pages(area, PAGES, 1);
    if (argc > 1) return 0;  // a leaf: lives just long enough
    turn_thread = make_gate();
    turn_main = make_gate();

    pid_t child = vfork();
    if (child == 0) {
        ((volatile char*)area)[PAGE] = 2;  // in the parent's memory
        exec_child();
    }
    reap(child);
    walk("after vfork and exec");

    pthread_t thread;
    require(!pthread_create(&thread, NULL, thread_body, NULL), "pthread_create");
    await(turn_main);
    walk("two threads");
    open_gate(turn_thread);
    await(turn_main);
    pthread_join(thread, NULL);
    walk("the thread is gone");

    child = clone(roommate_body, stack_top(), CLONE_VM | SIGCHLD, NULL);
    require(child > 0, "clone");
    reap(child);

    const struct gate gone = make_gate();
    child = fork_or_die();
    if (child == 0) {
        write_pages(area, 2, 8);
        require(clone(survivor_body, stack_top(), CLONE_VM | SIGCHLD, NULL) > 0, "clone");
        _exit(0);
    }
    reap(child);
    open_gate(turn_thread);
    leave(gone);
    await_all_gone(gone);
    walk("alone");
    return 0;
}
