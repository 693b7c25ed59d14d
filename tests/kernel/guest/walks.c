// SPDX-License-Identifier: GPL-2.0-only
// Bursts of walks: the workload stands still, its maps are taken, and the kernel is made to walk
// the reverse map of each of its anonymous folios.
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "guest.h"

#define MEMORY_RECLAIM "/sys/fs/cgroup/workload/memory.reclaim"

enum {
    PAGE = 4096,
    LEAF = 512,  // pagemap entries read at a time
    FOLIOS_MAX = 1 << 18,  // of one burst
    PFNS_MAX = 1 << 24,  // 64 GB
    NODES = 2,
    UNTOUCHED = -1000,  // move_pages() has not come to this page
    MPOL_MF_MOVE_ALL_ = 4,  // linux/mempolicy.h
};

// Documentation/admin-guide/mm/pagemap.rst
#define PM_PRESENT (1ULL << 63)
#define PM_FILE_OR_SHARED (1ULL << 61)
#define PM_PFN ((1ULL << 55) - 1)
#define KPF_COMPOUND_TAIL (1ULL << 16)
#define KPF_ZERO_PAGE (1ULL << 24)

static int pids[PROCESSES_MAX];
static int n_pids;
static int n_bursts;

static const char* const triggers[] = {"migrate", "reclaim", "pageout", "maps"};

bool is_trigger(const char* word) {
    for (size_t i = 0; i < sizeof triggers / sizeof *triggers; ++i) {
        if (!strcmp(word, triggers[i])) return true;
    }
    return false;
}

int bursts(void) { return n_bursts; }

// ---- what is mapped ----

static const char* maps_of(int pid, size_t* length) {
    static char text[1 << 20];
    char path[PATH_MAX_];
    snprintf(path, sizeof path, "/proc/%d/maps", pid);
    long got = read_file(path, text, sizeof text);
    if (got < 0) got = 0;  // a zombie has none
    if (got >= (long)sizeof text - 1) fail("%s is longer than %zu bytes", path, sizeof text);
    text[got] = 0;
    *length = (size_t)got;
    return text;
}

static void take_maps(void) {
    static char text[4 << 20];
    char name[64];
    size_t length = 0;
    for (int i = 0; i < n_pids; ++i) {
        size_t size;
        const char* maps = maps_of(pids[i], &size);
        if (length + size + 64 > sizeof text)
            fail("the maps are longer than %zu bytes", sizeof text);
        length += (size_t)sprintf(text + length, "== pid %d\n", pids[i]);
        memcpy(text + length, maps, size);
        length += size;
    }
    snprintf(name, sizeof name, "maps.%d.txt", n_bursts);
    archive_add(name, text, length);
}

// The next mapping in user space, or false.
static bool next_range(const char** maps, unsigned long* start, unsigned long* end) {
    while (**maps) {
        int fields = sscanf(*maps, "%lx-%lx", start, end);
        const char* newline = strchr(*maps, '\n');
        *maps = newline ? newline + 1 : *maps + strlen(*maps);
        if (fields == 2 && *end <= 0x7ffffffff000UL) return true;
    }
    return false;
}

// ---- migrate ----

// Every anonymous folio once, at the first place where it is mapped.
static void* folio_at[FOLIOS_MAX];
static int first_of[PROCESSES_MAX + 1];  // of a process, by position in pids
static int n_folios;
static uint8_t seen[PFNS_MAX / 8];

static bool first_sight(uint64_t pfn) {
    if (pfn >= PFNS_MAX) fail("page frame %#llx is beyond 64 GB", (unsigned long long)pfn);
    const uint8_t bit = (uint8_t)(1u << (pfn % 8));
    if (seen[pfn / 8] & bit) return false;
    seen[pfn / 8] |= bit;
    return true;
}

static uint64_t page_flags(uint64_t pfn) {
    static uint64_t flags[LEAF];
    static uint64_t first = ~0ULL;  // page frame of flags[0]
    static int burst = -1;
    static int file = -1;
    if (file < 0) file = open("/proc/kpageflags", O_RDONLY | O_CLOEXEC);
    if (file < 0) fail("no /proc/kpageflags: needs CONFIG_PROC_PAGE_MONITOR");
    if (pfn / LEAF * LEAF != first || burst != n_bursts) {
        memset(flags, 0, sizeof flags);  // memory may end within
        first = pfn / LEAF * LEAF;
        burst = n_bursts;
        if (pread(file, flags, sizeof flags, (off_t)(first * 8)) <= 0)
            fail("cannot read kpageflags");
    }
    return flags[pfn - first];
}

// Whether the folio of this page is seen for the first time in a burst; never for the zero page. A
// large folio is naturally aligned, so its head lies in the same run of LEAF page frames.
static bool first_sight_of_folio(uint64_t pfn) {
    if (!first_sight(pfn) || (page_flags(pfn) & KPF_ZERO_PAGE)) return false;
    uint64_t head = pfn;
    while (head % LEAF && (page_flags(head) & KPF_COMPOUND_TAIL)) --head;
    return head == pfn || first_sight(head);
}

static void find_folios(int pid) {
    static uint64_t entries[LEAF];
    char path[PATH_MAX_];
    snprintf(path, sizeof path, "/proc/%d/pagemap", pid);
    int pagemap = open(path, O_RDONLY | O_CLOEXEC);
    if (pagemap < 0) return;
    size_t length;
    const char* maps = maps_of(pid, &length);
    unsigned long start, end;
    while (next_range(&maps, &start, &end)) {
        while (start < end) {
            unsigned long n = (end - start) / PAGE < LEAF ? (end - start) / PAGE : LEAF;
            ssize_t got = pread(pagemap, entries, n * 8, (off_t)(start / PAGE * 8));
            if (got <= 0) break;
            for (ssize_t i = 0; i < got / 8; ++i) {
                if (!(entries[i] & PM_PRESENT) || (entries[i] & PM_FILE_OR_SHARED)) continue;
                if (!first_sight_of_folio(entries[i] & PM_PFN)) continue;
                if (n_folios == FOLIOS_MAX) fail("more than %d folios in a burst", FOLIOS_MAX);
                folio_at[n_folios++] = (void*)(start + (unsigned long)i * PAGE);
            }
            start += (unsigned long)got / 8 * PAGE;
        }
    }
    close(pagemap);
}

// Moves the pages to the node where they are not; returns how many went.
static int move_to_other_node(int pid, void** pages, int n) {
    static int status[FOLIOS_MAX];
    static int target[FOLIOS_MAX];
    if (syscall(SYS_move_pages, pid, (long)n, pages, NULL, status, 0) < 0) return 0;
    int count = 0;
    for (int i = 0; i < n; ++i) {
        if (status[i] < 0 || status[i] >= NODES) continue;  // the zero page, or gone
        pages[count] = pages[i];
        target[count++] = NODES - 1 - status[i];
    }
    // The call ends early when a folio cannot be migrated: go on behind it.
    for (int i = 0; i < count; ++i) status[i] = UNTOUCHED;
    for (int done = 0; done < count;) {
        long left = syscall(SYS_move_pages, pid, (long)(count - done), pages + done, target + done,
                            status + done, MPOL_MF_MOVE_ALL_);
        if (left <= 0) break;
        int next = done;
        while (next < count && status[next] != UNTOUCHED) ++next;
        done = next > done ? next : done + 1;
    }
    int moved = 0;
    for (int i = 0; i < count; ++i) moved += status[i] == target[i];
    return moved;
}

static int migrate(void) {
    memset(seen, 0, sizeof seen);
    n_folios = 0;
    // Before anything moves: a folio that several processes map is known by its page frame.
    for (int i = 0; i < n_pids; ++i) {
        first_of[i] = n_folios;
        find_folios(pids[i]);
    }
    first_of[n_pids] = n_folios;
    int moved = 0;
    for (int i = 0; i < n_pids; ++i) {
        const int n = first_of[i + 1] - first_of[i];
        if (n > 0) moved += move_to_other_node(pids[i], folio_at + first_of[i], n);
    }
    return moved;
}

// ---- reclaim, pageout ----

static void reclaim(void) {
    // As much as there is, of anonymous memory alone. "max" came with Linux 6.16, 200 with 6.8.
    static const char* const requests[] = {"4G swappiness=max", "4G swappiness=200", "4G"};
    for (size_t i = 0; i < sizeof requests / sizeof *requests; ++i) {
        // EAGAIN: less was reclaimed than asked for.
        if (write_file(MEMORY_RECLAIM, requests[i]) || errno == EAGAIN) return;
        if (errno != EINVAL) break;
    }
    fail("memory.reclaim: %s", strerror(errno));
}

static void page_out(void) {
    for (int i = 0; i < n_pids; ++i) {
        int process = (int)syscall(SYS_pidfd_open, pids[i], 0);
        if (process < 0) continue;
        size_t length;
        const char* maps = maps_of(pids[i], &length);
        unsigned long start, end;
        while (next_range(&maps, &start, &end)) {
            struct {
                unsigned long base, length;
            } range = {start, end - start};
            // Special and locked mappings refuse it.
            syscall(SYS_process_madvise, process, &range, 1L, (long)MADV_PAGEOUT, 0L);
        }
        close(process);
    }
}

void walk(const char* trigger, const char* label) {
    freeze(true);
    n_pids = processes(pids);
    take_maps();
    int moved = 0;
    mark("H1 WALK_BEGIN n=%d trig=%s nproc=%d label=%s", n_bursts, trigger, n_pids, label);
    if (!strcmp(trigger, "migrate")) {
        moved = migrate();
    } else if (!strcmp(trigger, "reclaim")) {
        reclaim();
    } else if (!strcmp(trigger, "pageout")) {
        page_out();
    }
    mark("H1 WALK_END n=%d moved=%d of=%d", n_bursts, moved, n_folios);
    fprintf(stderr, "truth: burst %d [%s] %s: %d processes", n_bursts, label, trigger, n_pids);
    if (moved) fprintf(stderr, ", %d of %d folios moved", moved, n_folios);
    fprintf(stderr, "\n");
    ++n_bursts;
    freeze(false);
}
