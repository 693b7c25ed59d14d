// SPDX-License-Identifier: GPL-2.0-only
// /init of the guest; see guest.h.
#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/klog.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "guest.h"

#define THP "/sys/kernel/mm/transparent_hugepage/"

static void mount_all(void) {
    static const struct {
        const char *type, *at;
    } mounts[] = {
        {"proc", "/proc"},
        {"sysfs", "/sys"},
        {"devtmpfs", "/dev"},
        {"tracefs", "/sys/kernel/tracing"},
        {"cgroup2", "/sys/fs/cgroup"},
        {"tmpfs", "/tmp"},
        {"tmpfs", "/run"},
        {"tmpfs", "/dev/shm"},
        {"devpts", "/dev/pts"},
    };
    for (size_t i = 0; i < sizeof mounts / sizeof *mounts; ++i) {
        mkdir(mounts[i].at, 0755);
        if (mount(mounts[i].type, mounts[i].at, mounts[i].type, 0, NULL) != 0 && errno != EBUSY) {
            fail("cannot mount %s: %s", mounts[i].type, strerror(errno));
        }
    }
}

// In the order that the driver numbered them in.
static void load_modules(void) {
    glob_t modules;
    if (glob("/truth/modules/*.ko", 0, NULL, &modules) != 0) return;
    for (size_t i = 0; i < modules.gl_pathc; ++i) {
        int file = open(modules.gl_pathv[i], O_RDONLY | O_CLOEXEC);
        if (syscall(SYS_finit_module, file, "", 0) != 0 && errno != EEXIST) {
            fail("cannot load %s: %s", modules.gl_pathv[i], strerror(errno));
        }
        close(file);
    }
    globfree(&modules);
}

// What a swap device begins with: union swap_header, include/linux/swap.h.
static void make_swap(const char* device, long megabytes) {
    static char page[4096];
    const uint32_t info[2] = {1, (uint32_t)(megabytes * 256 - 1)};  // version, last page
    memcpy(page + 1024, info, sizeof info);
    memcpy(page + sizeof page - 10, "SWAPSPACE2", 10);
    int file = open(device, O_WRONLY | O_CLOEXEC);
    if (file < 0 || write(file, page, sizeof page) != sizeof page) {
        fail("cannot write to %s: %s", device, strerror(errno));
    }
    close(file);
    if (swapon(device, 0) != 0) fail("swapon %s: %s", device, strerror(errno));
}

static void set_up_memory(const struct config* config) {
    char path[PATH_MAX_];
    char number[32];
    // Nobody but the workload and the bursts is to move, collapse, write back or read ahead folios.
    write_file("/proc/sys/vm/compaction_proactiveness", "0");
    write_file("/proc/sys/vm/page-cluster", "0");
    write_file(THP "khugepaged/scan_sleep_millisecs", "4000000000");
    write_file(THP "khugepaged/alloc_sleep_millisecs", "4000000000");
    must_write(THP "enabled", config->thp);
    for (int i = 0; i < config->n_folio_sizes; ++i) {
        snprintf(path, sizeof path, THP "hugepages-%s/enabled", config->folio_sizes[i]);
        if (!write_file(path, "always")) fprintf(stderr, "truth: this kernel has no %s\n", path);
    }
    if (config->swap_mb == 0) return;
    snprintf(number, sizeof number, "%ldM", config->swap_mb);
    must_write("/sys/block/zram0/disksize", number);
    make_swap("/dev/zram0", config->swap_mb);
}

static void send_file(const char* path, const char* name) {
    static char text[1 << 20];
    long size = read_file(path, text, sizeof text);
    if (size >= 0) archive_add(name, text, (size_t)size);
}

static void send_kernel_log(void) {
    static char text[1 << 18];
    int size = klogctl(3, text, sizeof text);  // SYSLOG_ACTION_READ_ALL
    if (size < 0) fail("cannot read the kernel's log: %s", strerror(errno));
    archive_add("dmesg.txt", text, (size_t)size);
}

static void send_result(struct outcome outcome) {
    char text[256];
    int length = snprintf(text, sizeof text, "exit %d\nsignal %d\nkilled %d\nbursts %d\nlost %ld\n",
                          WIFEXITED(outcome.status) ? WEXITSTATUS(outcome.status) : -1,
                          WIFSIGNALED(outcome.status) ? WTERMSIG(outcome.status) : 0,
                          outcome.killed, bursts(), lost_events());
    archive_add("result.txt", text, (size_t)length);
}

int main(void) {
    static struct config config;
    mount_all();
    load_modules();
    open_ports();
    read_config(&config, "/truth/config");
    setenv("PATH", "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", 1);
    setenv("HOME", "/tmp", 1);
    setenv("LC_ALL", "C", 1);
    symlink("/proc/self/fd", "/dev/fd");
    make_cgroup();
    set_up_memory(&config);
    set_up_tracing(&config, "/truth/events");
    if (mlockall(MCL_CURRENT | MCL_FUTURE) != 0) fail("mlockall: %s", strerror(errno));

    const struct outcome outcome = run_workload(&config);

    send_trace("/sys/kernel/tracing/trace");
    send_kernel_log();
    send_file("/proc/vmstat", "vmstat.txt");
    send_result(outcome);
    archive_end();
    sync();
    reboot(RB_POWER_OFF);
    return 1;
}
