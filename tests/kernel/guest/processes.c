// SPDX-License-Identifier: GPL-2.0-only
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "guest.h"

#define CGROUPS "/sys/fs/cgroup/"
#define WORKLOAD CGROUPS "workload/"

void make_cgroup(void) {
    must_write(CGROUPS "cgroup.subtree_control", "+memory");
    if (mkdir(WORKLOAD, 0755) != 0) fail("cannot make the cgroup %s", WORKLOAD);
}

void join_cgroup(void) { must_write(WORKLOAD "cgroup.procs", "0"); }

void kill_cgroup(void) { must_write(WORKLOAD "cgroup.kill", "1"); }

void freeze(bool on) {
    char text[256];
    must_write(WORKLOAD "cgroup.freeze", on ? "1" : "0");
    for (int tries = 0; tries < 20000; ++tries) {
        if (read_file(WORKLOAD "cgroup.events", text, sizeof text) < 0) break;
        if (strstr(text, on ? "frozen 1" : "frozen 0")) return;
        usleep(1000);
    }
    fail("the workload could not be %s", on ? "frozen" : "thawed");
}

static int by_number(const void* left, const void* right) {
    return *(const int*)left - *(const int*)right;
}

int processes(int pids[PROCESSES_MAX]) {
    static char text[PROCESSES_MAX * 12];
    int n = 0;
    if (read_file(WORKLOAD "cgroup.procs", text, sizeof text) < 0) fail("no cgroup.procs");
    char* at = text;
    for (char* end = NULL; n < PROCESSES_MAX; at = end) {
        long pid = strtol(at, &end, 10);
        if (end == at) break;
        if (pid > 0) pids[n++] = (int)pid;
    }
    qsort(pids, (size_t)n, sizeof *pids, by_number);
    return n;
}
