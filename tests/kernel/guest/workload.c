// SPDX-License-Identifier: GPL-2.0-only
// Runs the workload in its cgroup, and serves what it asks for: it writes a line `TRIGGER LABEL` to
// descriptor 100, and may go on when it has read a byte from descriptor 101.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "guest.h"

enum { REQUEST_FD = 100, ANSWER_FD = 101, OWN_FDS = 200, LINGER_MS = 5000 };

static long now_ms(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * 1000 + time.tv_nsec / 1000000;
}

// A pipe out of the way of the workload's descriptors.
static void make_pipe(int ends[2]) {
    int low[2];
    if (pipe2(low, O_CLOEXEC) != 0) fail("pipe: %s", strerror(errno));
    for (int i = 0; i < 2; ++i) {
        ends[i] = fcntl(low[i], F_DUPFD_CLOEXEC, OWN_FDS);
        close(low[i]);
    }
}

static void serve(int requests, int answers) {
    char line[256];
    size_t length = 0;
    while (length < sizeof line - 1 && read(requests, line + length, 1) == 1) {
        if (line[length] == '\n') break;
        ++length;
    }
    line[length] = 0;
    char* label = strchr(line, ' ');
    if (label) *label++ = 0;
    if (!is_trigger(line)) fail("the workload asks for '%s', which is no trigger", line);
    walk(line, label ? label : "");
    if (write(answers, "\n", 1) != 1) fail("cannot answer the workload: %s", strerror(errno));
}

struct outcome run_workload(const struct config* config) {
    static int pids[PROCESSES_MAX];
    struct outcome outcome = {0};
    int requests[2], answers[2];
    make_pipe(requests);
    make_pipe(answers);

    tracing_on(true);
    mark("H1 START %s", config->args[0]);
    // Until its exec the child is in our own address space, which keeps that out of the trace.
    pid_t root = vfork();
    if (root < 0) fail("vfork: %s", strerror(errno));
    if (root == 0) {
        join_cgroup();
        dup2(requests[1], REQUEST_FD);
        dup2(answers[0], ANSWER_FD);
        execvp(config->args[0], config->args);
        fprintf(stderr, "truth: cannot run %s: %s\n", config->args[0], strerror(errno));
        _exit(127);
    }
    mark("H1 ROOTPID %d", root);

    const long began = now_ms();
    long next_burst = began + config->timer_ms;
    long root_ended = 0;
    for (;;) {
        struct pollfd request = {.fd = requests[0], .events = POLLIN};
        if (poll(&request, 1, 20) > 0) {
            serve(requests[0], answers[1]);
            continue;
        }
        // Orphans of the workload become children of ours.
        int status;
        for (pid_t ended; (ended = waitpid(-1, &status, WNOHANG)) > 0;) {
            if (ended != root) continue;
            outcome.status = status;
            root_ended = now_ms();
        }
        if (processes(pids) == 0 && root_ended) break;
        if (config->timer_ms && !root_ended && now_ms() >= next_burst) {
            walk(config->trigger, "timer");
            next_burst = now_ms() + config->timer_ms;
        }
        const bool late = now_ms() - began > config->limit_s * 1000;
        const bool lingers = root_ended && now_ms() - root_ended > LINGER_MS;
        if (!outcome.killed && (late || lingers)) {
            outcome.killed = true;
            kill_cgroup();
        }
    }
    mark("H1 DONE");
    tracing_on(false);
    return outcome;
}
