// SPDX-License-Identifier: GPL-2.0-only
// Makes a scenario's system calls on a live kernel. Its processes act in lockstep: a monitor tells
// one of them by a pipe what to do next and waits until it is done. Each began with an exec of this
// program, so that it has nothing of the monitor's memory; they end when the monitor's pipes close.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

enum op {
    MAP,
    UNMAP,
    MOVE,
    PROTECT,
    BRK,
    ADVISE,
    LOCK,
    UNLOCK,
    LOCK_ALL,
    UNLOCK_ALL,
    BIND,
    SEAL,
    PRCTL,
    WRITE,
    READ,
    POPULATE,
    SWAP_OUT,
    NOTHING,
    WALK,
    FORK,
    VFORK,
    EXEC,
    EXIT,
};

struct step {
    int line;  // of the scenario
    const char* text;
    enum op op;
    int actor;  // which of the processes
    int child;
    unsigned long addr, len, to, new_len, flags, offset;
    int prot, advice, file, error;
};

// ---- the scenario ----
// @SCENARIO@
// ---- what it runs on ----

enum { STEPS = sizeof steps / sizeof *steps, PAGE = 4096, VFORK_STACK = 1 << 16 };
// Descriptors of every process but the monitor: where to answer, files, and where commands come.
enum { FD_ANSWER = 100, FD_FILE, FD_COMMAND = FD_FILE + FILES, FD_END = FD_COMMAND + ACTORS };

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#ifndef MADV_PAGEOUT
#define MADV_PAGEOUT 21
#endif
#ifndef PR_SET_VMA
#define PR_SET_VMA 0x53564d41
#endif
#ifndef SYS_mseal
#define SYS_mseal 462
#endif

struct answer {
    int error;
    unsigned long value;  // that the call returned, or the pid of a new process
};

static unsigned long heap;  // where the break was at first, rounded up to a page

static unsigned long place(unsigned long addr) {
    return addr >= HEAP && addr < HEAP + HEAP_ROOM ? addr - HEAP + heap : addr;
}

static void reply(int error, unsigned long value) {
    const struct answer answer = {error, value};
    if (write(FD_ANSWER, &answer, sizeof answer) != sizeof answer) _exit(1);
}

static void serve(int actor);

static int vforked(void* actor) {
    reply(0, (unsigned long)getpid());
    serve((int)(intptr_t)actor);
    return 0;
}

// The parent goes on when the child has exited or exec'd, and so cannot answer itself.
static void do_vfork(int child) {
    static bool in_vfork;
    char stack[VFORK_STACK];
    if (in_vfork) {
        reply(EBUSY, 0);
        return;
    }
    in_vfork = true;
    char* const top = stack + (sizeof stack - (uintptr_t)(stack + sizeof stack) % 16);
    if (clone(vforked, top, CLONE_VM | CLONE_VFORK | SIGCHLD, (void*)(intptr_t)child) < 0)
        reply(errno, 0);
    in_vfork = false;
}

static void become(int actor) {
    char number[12];
    snprintf(number, sizeof number, "%d", actor);
    execl("/proc/self/exe", "scenario", "--actor", number, (char*)NULL);
    reply(errno, 0);
}

static long call(const struct step* s) {
    void* const at = (void*)place(s->addr);
    // Places are to be free unless the scenario says `fixed`.
    const unsigned long fixed = s->flags & MAP_FIXED ? 0 : MAP_FIXED_NOREPLACE;
    const unsigned long first_node = 1;
    switch (s->op) {
        case MAP:
            return (long)mmap(at, s->len, s->prot, (int)(s->flags | fixed),
                              s->file ? FD_FILE + s->file - 1 : -1, (off_t)s->offset);
        case UNMAP: return munmap(at, s->len);
        case MOVE: return (long)mremap(at, s->len, s->new_len, (int)s->flags, (void*)place(s->to));
        case PROTECT: return mprotect(at, s->len, s->prot);
        case BRK: return brk(at);
        case ADVISE: return madvise(at, s->len, s->advice);
        case LOCK: return s->flags ? syscall(SYS_mlock2, at, s->len, s->flags) : mlock(at, s->len);
        case UNLOCK: return munlock(at, s->len);
        case LOCK_ALL: return mlockall((int)s->flags);
        case UNLOCK_ALL: return munlockall();
        case BIND:
            if (!s->advice) return syscall(SYS_mbind, at, s->len, 0, NULL, 0, s->flags);
            return syscall(SYS_mbind, at, s->len, s->advice, &first_node, 64, s->flags);
        case SEAL: return syscall(SYS_mseal, at, s->len, 0);
        case PRCTL:
            if (s->flags != PR_SET_VMA) return prctl((int)s->flags, s->addr, 0, 0, 0);
            return prctl(PR_SET_VMA, 0, at, s->len, s->to ? "scenario" : NULL);
        case POPULATE: return madvise(at, s->len, s->advice);
        case SWAP_OUT: return madvise(at, s->len, MADV_PAGEOUT);
        default: return 0;
    }
}

// Where a call that maps something is to have put it; others return 0.
static long wanted(const struct step* s) {
    if (s->op == MAP) return (long)place(s->addr);
    return s->op == MOVE ? (long)place(s->to) : 0;
}

static void touch(const struct step* s, int actor) {
    volatile char* const at = (char*)place(s->addr);
    for (unsigned long i = 0; i < s->len; i += PAGE) {
        if (s->op == WRITE)
            at[i] = (char)(1 + actor);
        else
            (void)at[i];
    }
    reply(0, 0);
}

// What a process does all its life. The end of its commands is its own.
static void serve(int actor) {
    int number;
    while (read(FD_COMMAND + actor, &number, sizeof number) == sizeof number) {
        const struct step* const s = &steps[number];
        if (s->op == WRITE || s->op == READ) {
            touch(s, actor);
        } else if (s->op == FORK) {
            const pid_t child = fork();
            if (child)
                reply(child < 0 ? errno : 0, (unsigned long)child);
            else
                actor = s->child;
        } else if (s->op == VFORK) {
            do_vfork(s->child);
        } else if (s->op == EXEC) {
            become(actor);
        } else if (s->op == EXIT) {
            break;
        } else {
            errno = 0;
            const long got = call(s);
            const int error = got == -1 ? errno : 0;
            reply(error == s->error && (error || got == wanted(s)) ? 0
                  : error                                          ? error
                                                                   : ERANGE,
                  (unsigned long)got);
        }
    }
    _exit(0);
}

static int act(int actor) {
    const unsigned long now = (unsigned long)sbrk(0);
    heap = (now + PAGE - 1) / PAGE * PAGE;
    reply(brk((void*)heap) ? errno : 0, (unsigned long)getpid());
    serve(actor);
    return 0;
}

// ---- the monitor ----

static int answers;  // descriptor
static int commands[ACTORS];  // descriptors
static pid_t pids[ACTORS];  // 0 of those that do not live
static int lifelines[ACTORS];  // pidfds

static void fail(const struct step* s, const char* reason) {
    if (s)
        fprintf(stderr, "%s:%d: %s: %s\n", SCENARIO, s->line, s->text, reason);
    else
        fprintf(stderr, "%s: %s\n", SCENARIO, reason);
    exit(1);
}

static int moved(int fd, int to) {
    const int high = fcntl(fd, F_DUPFD_CLOEXEC, to);
    if (high < 0) fail(NULL, strerror(errno));
    close(fd);
    return high;
}

static void placed(int fd, int at) {
    if (dup2(fd, at) < 0) fail(NULL, strerror(errno));
    close(fd);
}

// All pipes are there from the beginning, so that every process has its own when it is forked.
static void open_all(void) {
    struct rlimit files;
    int ends[2];
    if (getrlimit(RLIMIT_NOFILE, &files)) fail(NULL, strerror(errno));
    files.rlim_cur = files.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &files) || files.rlim_cur < FD_END + 2 * ACTORS + 16)
        fail(NULL, "too few open files are allowed (ulimit -n) for so many processes");
    if (pipe(ends)) fail(NULL, strerror(errno));
    answers = moved(ends[0], FD_END);
    placed(ends[1], FD_ANSWER);
    for (int i = 0; i < ACTORS; ++i) {
        if (pipe(ends)) fail(NULL, strerror(errno));
        commands[i] = moved(ends[1], FD_END);
        placed(ends[0], FD_COMMAND + i);
    }
    for (int i = 0; i < FILES; ++i) {
        const int file = memfd_create("scenario", 0);
        if (file < 0 || ftruncate(file, (off_t)1 << 40)) fail(NULL, strerror(errno));
        placed(file, FD_FILE + i);
    }
}

static void born(const struct step* s, int actor, pid_t pid) {
    pids[actor] = pid;
    lifelines[actor] = (int)syscall(SYS_pidfd_open, pid, 0);
    if (lifelines[actor] < 0) fail(s, "pidfd_open (Linux 5.3 has it)");
}

static void died(const struct step* s, int actor) {
    struct pollfd end = {lifelines[actor], POLLIN, 0};
    while (poll(&end, 1, -1) < 0)
        if (errno != EINTR) fail(s, strerror(errno));
    close(lifelines[actor]);
    pids[actor] = 0;
}

static struct answer answer_of(const struct step* s, int actor) {
    struct answer answer;
    struct pollfd any[2] = {{answers, POLLIN, 0}, {actor < 0 ? -1 : lifelines[actor], POLLIN, 0}};
    while (poll(any, 2, -1) < 0)
        if (errno != EINTR) fail(s, strerror(errno));
    if (!(any[0].revents & POLLIN)) fail(s, "the process died of it");
    if (read(answers, &answer, sizeof answer) != sizeof answer) fail(s, "no answer");
    if (answer.error == ERANGE && answer.value) {
        char text[64];
        snprintf(text, sizeof text, "returned %#lx, and was to return another place", answer.value);
        fail(s, text);
    }
    if (answer.error) fail(s, strerror(answer.error));
    return answer;
}

static void start(const struct step* s) {
    const pid_t pid = fork();
    if (pid < 0) fail(s, strerror(errno));
    if (pid == 0) {
        become(s->actor);
        _exit(1);
    }
    born(s, s->actor, pid);
    answer_of(s, s->actor);
    printf("      process %d\n", pid);
}

static void command(const struct step* s) {
    const int number = (int)(s - steps);
    if (write(commands[s->actor], &number, sizeof number) != sizeof number)
        fail(s, strerror(errno));
    if (s->op == EXIT) {
        died(s, s->actor);
        return;
    }
    const struct answer answer = answer_of(s, s->actor);
    if (s->op == FORK || s->op == VFORK) {
        born(s, s->child, (pid_t)answer.value);
        printf("      process %d\n", (int)answer.value);
    }
}

static void look(const struct step* s, bool pause) {
    const int pid = (int)pids[s->actor];
    printf("      /proc/%d/smaps, /proc/%d/pagemap at %#lx\n", pid, pid, s->addr);
    if (!pause) return;
    printf("      Enter to go on ");
    fflush(stdout);
    for (int c = getchar(); c != '\n' && c != EOF;) c = getchar();
}

static void settle_huge_pages(void) {
    char text[64] = "";
    if (!strcmp(THP, "never")) {
        prctl(PR_SET_THP_DISABLE, 1, 0, 0, 0);
        return;
    }
    const int fd = open("/sys/kernel/mm/transparent_hugepage/enabled", O_RDONLY);
    const bool known = fd >= 0 && read(fd, text, sizeof text - 1) > 0;
    if (fd >= 0) close(fd);
    if (!known || !strstr(text, "[" THP "]"))
        printf("note: the scenario is about transparent huge pages set to '" THP "'\n");
}

int main(int argc, char** argv) {
    bool pause = false;
    if (argc == 3 && !strcmp(argv[1], "--actor")) return act(atoi(argv[2]));
    if (argc == 2 && !strcmp(argv[1], "--pause")) {
        pause = true;
    } else if (argc != 1) {
        fprintf(stderr, "usage: %s [--pause]   (--pause: wait for Enter at each walk)\n", argv[0]);
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGCHLD, SIG_IGN);  // nobody waits for children; kept by fork and exec
    signal(SIGPIPE, SIG_IGN);
    settle_huge_pages();
    open_all();
    for (int i = 0; i < STEPS; ++i) {
        const struct step* const s = &steps[i];
        printf("%4d  %s\n", s->line, s->text);
        if (s->op == WALK)
            look(s, pause);
        else if (s->op == EXEC && !pids[s->actor])
            start(s);
        else if (s->op != NOTHING)
            command(s);
    }
    for (int i = 0; i < ACTORS; ++i)
        if (pids[i]) {
            close(commands[i]);
            died(NULL, i);
        }
    return 0;
}
