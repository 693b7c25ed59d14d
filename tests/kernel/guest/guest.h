// SPDX-License-Identifier: GPL-2.0-only
// The guest's init: it boots, runs one workload under the probes, and sends home what they saw.
//
// Everything that goes wrong here ends in fail(): one line on the console and in result.txt, and
// the machine powers off. Memory is static and locked, so that the launcher makes no faults of its
// own while tracing is on.
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PATH_MAX_ = 256, ARGS_MAX = 64, PROCESSES_MAX = 4096 };

// ---- config.c: what the driver wants, from /truth/config ----

struct config {
    char thp[16];  // transparent_hugepage/enabled
    char folio_sizes[16][24];  // hugepages-*kB whose `enabled` is set to "always"
    int n_folio_sizes;
    long swap_mb;  // size of the zram swap device, 0: none
    long buffer_kb;  // trace buffer, per CPU
    long timer_ms;  // between bursts of walks that nobody asked for, 0: none
    long limit_s;  // the workload is killed after that
    char trigger[16];  // how bursts on the timer walk
    char* args[ARGS_MAX + 1];  // the workload's argv
};

void read_config(struct config* config, const char* path);

// ---- files.c ----

long read_file(const char* path, char* buffer, size_t size);  // bytes read, NUL added; -1: no file
bool write_file(const char* path, const char* text);  // errno tells why not
void must_write(const char* path, const char* text);
_Noreturn void fail(const char* format, ...) __attribute__((format(printf, 1, 2)));

// ---- archive.c: what goes home, through two virtio-serial ports ----

void open_ports(void);
void archive_add(const char* name, const char* text, size_t size);  // a member of the tar stream
void archive_end(void);
void send_trace(const char* path);  // the file as it is, through the port `trace`

// ---- tracing.c ----

void set_up_tracing(const struct config* config, const char* table);
void mark(const char* format, ...) __attribute__((format(printf, 1, 2)));
void tracing_on(bool on);
// Events that did not make it into the buffer, of all CPUs.
long lost_events(void);
// The table as the kernel took it, and what it refused and why.
const char* probe_report(void);

// ---- processes.c: the workload's cgroup ----

void make_cgroup(void);
void join_cgroup(void);  // the caller becomes part of it
void kill_cgroup(void);
void freeze(bool on);
// Numbers of its processes, in rising order.
int processes(int pids[PROCESSES_MAX]);

// ---- walks.c ----

// Freezes the workload, takes its maps, has its folios walked, and thaws it.
//   migrate  every anonymous folio moves to the other node: try_to_migrate(),
//   remove_migration_ptes() reclaim  the cgroup gives up what it can: folio_referenced(),
//   try_to_unmap() pageout  MADV_PAGEOUT on every mapping
//   maps     only the snapshot
void walk(const char* trigger, const char* label);
bool is_trigger(const char* word);
int bursts(void);

// ---- workload.c ----

struct outcome {
    int status;  // of the root process, as waitpid() has it
    bool killed;  // it took too long
};
struct outcome run_workload(const struct config* config);
