// SPDX-License-Identifier: GPL-2.0-only
// Rows of tracefs captures for what happens to an address space as a whole, and to its pages:
// fork's copy, its end, reclaim, and what the kernel reports of its VMAs.
#include "tests/native/check.hpp"
#include "tests/native/damage.hpp"
#include "tests/native/tracefs_text.hpp"

using namespace tracefs_text;

namespace {

std::string rows_after_start(const std::string& text) {
    const std::string rows = parse(start() + text).rows;
    REQUIRE(rows.starts_with(kStarted));
    return rows.substr(kStarted.size());
}
const std::string kForked =
    "11 dup_mmap 7/7\n"
    "12 fork 7/7 flags=0x1200000 child=8 child_tid=8\n";

std::string walk(int count, int tid, const std::string& flags, const std::string& flags_1 = "0x0") {
    return event(
        count, tid, "walk",
        "folio=0xd0 flags=" + flags + " f1=" + flags_1 + " map=0xc1 idx=0x5 mc=0 locked=0");
}
std::string visit(int count, int tid, const std::string& probe, const std::string& vma,
                  const std::string& mm) {
    return event(count, tid, probe,
                 "folio=0xd0 addr=0x5000 vma=" + vma + " mm=" + mm + " start=0x5000 end=0x9000");
}
std::string checked(int count, int tid, const std::string& vma, const std::string& addr,
                    int found) {
    return event(
        count, tid, "pvmw",
        "vma=" + vma + " pfn=0x1 addr=" + addr + " pte0=0x0 fl=0x0 ret=" + std::to_string(found));
}
std::string removed(int count, int tid, const std::string& vma, int pages = 1) {
    return event(count, tid, "fo_rm",
                 "folio=0xd0 map=0xc1 n=" + std::to_string(pages) + " vma=" + vma);
}
std::string visited(int count, int tid, const std::string& vma, int success) {
    return event(count, tid, "v_unmap_x", "vma=" + vma + " ret=" + std::to_string(success));
}
std::string walked(int count, int tid) { return event(count, tid, "walkx", "folio=0xd0"); }

// An anonymous page on its way to swap: PG_swapbacked, PG_swapcache, PG_locked, PG_uptodate.
const std::string kSwapping = "0x20409";
const std::string kLazilyFreed = "0x9";

std::string fault_begins(int count, int tid, const std::string& mm, const std::string& addr,
                         const std::string& flags) {
    return event(count, tid, "fault",
                 "vma=0xf0 mm=" + mm + " addr=" + addr + " flags=" + flags +
                     " start=0x1000 end=0x9000 vmf=0x0 file=0x0 av=0x0");
}
std::string fault_ends(int count, int tid, const std::string& result = "0x0") {
    return at(count, tid,
              "faultx: (do_user_addr_fault+0x1bd/0x810 <- handle_mm_fault) addr=0x0 ret=" + result);
}
std::string fo_new(int count, int tid, const std::string& fields) {
    return event(count, tid, "fo_new",
                 "folio=0xd0 " + fields + " vma=0xf0 mm=0xa1 addr=0x5000 fl=0x1");
}
std::string fo_add(int count, int tid, const std::string& addr, int pages,
                   const std::string& more = "") {
    return event(
        count, tid, "fo_add",
        "folio=0xd0" + more + " n=" + std::to_string(pages) + " vma=0xf0 addr=" + addr + " fl=0x0");
}

}  // namespace

// ---- fork's copy ----

TEST_CASE("tracefs: dup_mmap() has its row where it returned, if a process came of it") {
    const std::string begun = event(10, 7, "mm_dup", "mm=0xa2 oldmm=0xa1");
    CHECK(rows_after_start(begun + fault(11, 7, "0xa1", "0x5000", "0x41") +
                           event(13, 7, "mm_dupx", "mm=0xa2 ret=0") +
                           new_task(14, 7, 8, "1200000")) ==
          "11 fault 7/7 addr=0x5000 write=1 source=user\n"
          "13 dup_mmap 7/7\n"
          "14 fork 7/7 flags=0x1200000 child=8 child_tid=8\n");
    // It failed itself, or what copy_process() does after it.
    for (const char* result : {"-12", "0"}) {
        const Parsed failed =
            parse(start() + at(9, 7, "sys_fork()") + begun +
                  event(13, 7, "mm_dupx", std::string("mm=0xa2 ret=") + result) +
                  event(14, 7, "mm_exit", "mm=0xa2") + at(15, 7, "sys_fork -> 0xfffffffffffffff4") +
                  new_task(16, 7, 9, "3d0f00"));
        CHECK(failed.rows == kStarted + "16 fork 7/7 flags=0x3d0f00 child=7 child_tid=9\n");
        CHECK(failed.stats.dropped["exit_mmap_of_failed_fork"] == u64{1});
    }
    // A later fork is not mistaken for this one's, nor does this one hold anything up.
    TracefsParser parser;
    parser.feed(start() + at(9, 7, "sys_fork()") + begun +
                event(13, 7, "mm_dupx", "mm=0xa2 ret=0") +
                at(14, 7, "sys_fork -> 0xfffffffffffffff5") + new_task(15, 7, 9, "4100"));
    CHECK(trace_rows::text(parser.table()) ==
          kStarted + "15 fork 7/7 flags=0x4100 child=9 child_tid=9\n");
}

TEST_CASE("tracefs: without the probe of dup_mmap's return a fork is a row alone") {
    CHECK(rows_after_start(event(10, 7, "mm_dup", "mm=0xa2 oldmm=0xa1") +
                           new_task(12, 7, 8, "1200000") +
                           fault(13, 8, "0xa2", "0x5000", "0x41")) ==
          "12 fork 7/7 flags=0x1200000 child=8 child_tid=8\n"
          "13 fault 8/8 addr=0x5000 write=1 source=user\n");
}

// ---- the end ----

TEST_CASE("tracefs: exit_mmap() ends with the last VMA it frees, however long that takes") {
    const std::string vmas =
        at(10, 7, "vma_new: (__mmap_region+0x1/0x2 <- vm_area_alloc) mm=0xa1 vma=0xb5");
    CHECK(rows_after_start(vmas + exits(11, 7) + event(12, 7, "mm_exit", "mm=0xa1") +
                           event(13, 7, "fo_rm", "folio=0xd0 map=0xc1 n=1 vma=0xb5") +
                           unlink_vma(14, 7, "0xa1", "0xba1") + unlink_vma(15, 7, "0xa1", "0xb5") +
                           free_vma(16, 7, "0xa1", "0xba1") + new_task(17, 5, 6, "1200000") +
                           free_vma(18, 7, "0xa1", "0xb5")) ==
          "11 exit 7/7\n"
          "12 unmap_vmas 7/7\n"
          "16 free_pgtables 7/7\n"
          "18 exit_mmap 7/7\n");
}

TEST_CASE("tracefs: who ends an address space does not matter, only whose it was") {
    // khugepaged (33) or a reader of /proc (9, of the workload) held 8's to the end.
    for (int tid : {33, 9}) {
        CHECK(rows_after_start(fork(10, 7, 8, "0xa2") + new_task(13, 7, 9, "4100") + exits(14, 8) +
                               exit_mmap(15, tid, "0xa2") +
                               fault(18, 9, "0xa1", "0x5000", "0x40")) ==
              kForked +
                  "13 fork 7/7 flags=0x4100 child=9 child_tid=9\n"
                  "14 exit 8/8\n"
                  "15 unmap_vmas 8/8\n"
                  "17 free_pgtables 8/8\n"
                  "17 exit_mmap 8/8\n"
                  "18 fault 9/9 addr=0x5000 write=0 source=user\n");
    }
    // Beyond an exec: what 8 had before it.
    CHECK(rows_after_start(fork(10, 7, 8, "0xa2") + exec_from(13, 8, "0xa3") + exec_to(15, 8) +
                           exit_mmap(17, 33, "0xa2")) == kForked +
                                                             "15 exec 8/8 path=/bin/a\n"
                                                             "17 unmap_vmas 8/8\n"
                                                             "19 free_pgtables 8/8\n"
                                                             "19 exit_mmap 8/8\n");
}

TEST_CASE("tracefs: a shared address space is the last user's") {
    // The child of a vfork uses it on while the parent exits, or execs.
    CHECK(rows_after_start(new_task(10, 7, 8, "4100") + exits(11, 7) + exits(12, 8) +
                           exit_mmap(13, 8, "0xa1")) ==
          "10 fork 7/7 flags=0x4100 child=8 child_tid=8\n"
          "11 exit 7/7\n"
          "12 exit 8/8\n"
          "13 unmap_vmas 8/8\n"
          "15 free_pgtables 8/8\n"
          "15 exit_mmap 8/8\n");
    CHECK(rows_after_start(new_task(10, 7, 8, "100") + exec_from(11, 7, "0xa2") + exec_to(13, 7) +
                           fault(15, 8, "0xa1", "0x5000", "0x40") + exits(17, 8) +
                           exit_mmap(18, 8, "0xa1")) ==
          "10 fork 7/7 flags=0x100 child=8 child_tid=8\n"
          "13 exec 7/7 path=/bin/a\n"
          "15 fault 8/8 addr=0x5000 write=0 source=user\n"
          "17 exit 8/8\n"
          "18 unmap_vmas 8/8\n"
          "20 free_pgtables 8/8\n"
          "20 exit_mmap 8/8\n");
}

TEST_CASE("tracefs: up to Linux 6.15 exits follow the end of the memory; their rows do not") {
    CHECK(rows_after_start(new_task(10, 7, 9, "3d0f00") + exit_mmap(11, 9, "0xa1") +
                           exits(14, 9, "") + exits(15, 7, "")) ==
          "10 fork 7/7 flags=0x3d0f00 child=7 child_tid=9\n"
          "11 exit 7/9\n"
          "11 exit 7/7\n"
          "11 unmap_vmas 7/9\n"
          "13 free_pgtables 7/9\n"
          "13 exit_mmap 7/9\n");
}

TEST_CASE("tracefs: Linux 6.12 frees VMAs once more after a grace period, which tells nothing") {
    CHECK(rows_after_start(
              at(10, 7, "vma_new: (mmap_region+0x1/0x2 <- vm_area_alloc) mm=0xa1 vma=0xb5") +
              free_vma(11, 7, "0xa1", "0xb5") + exits(12, 7) + event(13, 7, "mm_exit", "mm=0xa1") +
              unlink_vma(14, 7, "0xa1", "0xba1") + free_vma(15, 7, "0xa1", "0xb5") +
              free_vma(16, 7, "0xa1", "0xba1")) ==
          "12 exit 7/7\n"
          "13 unmap_vmas 7/7\n"
          "16 free_pgtables 7/7\n"
          "16 exit_mmap 7/7\n");
}

TEST_CASE("tracefs: bprm_mm_init() makes an exec's first VMA up to Linux 6.15") {
    const Parsed parsed =
        parse(start() +
              at(10, 7, "vma_new: (alloc_bprm.isra.0+0x1/0x2 <- vm_area_alloc) mm=0xa2 vma=0xba2") +
              fault(11, 7, "0xa2", "0xffe000", "0x81", "0x0", "__get_user_pages") +
              event(13, 7, "mm_exec", "mm=0xa2") + exit_mmap(14, 7, "0xa1") + exec_to(17, 7));
    CHECK(parsed.rows == kStarted +
                             "14 unmap_vmas 7/7\n"
                             "16 free_pgtables 7/7\n"
                             "16 exit_mmap 7/7\n"
                             "16 exec 7/7 path=/bin/a\n");
    CHECK(parsed.stats.dropped["exec_stack_gup"] == u64{1});
}

// ---- reclaim ----

TEST_CASE("tracefs: reclaim's walk takes entries, each a row where it happened") {
    const std::string before = fork(10, 7, 8, "0xa2") + walk(20, 33, kSwapping);
    const std::string after = walked(40, 33);
    CHECK(rows_after_start(before + visit(21, 33, "v_unmap", "0xf0", "0xa1") +
                           checked(22, 33, "0xf0", "0x6000", 1) + removed(23, 33, "0xf0") +
                           checked(24, 33, "0xf0", "0x7000", 0) + visited(25, 33, "0xf0", 1) +
                           visit(26, 33, "v_unmap", "0xf1", "0xa2") +
                           checked(27, 33, "0xf1", "0x6000", 1) + removed(28, 33, "0xf1") +
                           visited(29, 33, "0xf1", 1) + after) ==
          kForked +
              "20 walk 7/7 addr=0x6000 kind=unmap\n"
              "23 swap_out 7/7 addr=0x6000 len=0x1000\n"
              "28 swap_out 8/8 addr=0x6000 len=0x1000\n");
    // Nothing is taken of a VMA that the walk gives up at, nor by a walk of another kind.
    CHECK(rows_after_start(before + visit(21, 33, "v_unmap", "0xf0", "0xa1") +
                           checked(22, 33, "0xf0", "0x6000", 1) + visited(23, 33, "0xf0", 0) +
                           removed(24, 33, "0xf1") + after) ==
          kForked + "20 walk 7/7 addr=0x6000 kind=unmap\n");
    CHECK(rows_after_start(before + visit(21, 33, "v_migr", "0xf0", "0xa1") +
                           checked(22, 33, "0xf0", "0x6000", 1) + removed(23, 33, "0xf0") +
                           after) == kForked + "20 walk 7/7 addr=0x6000 kind=migrate\n");
}

TEST_CASE("tracefs: entries of a large folio go page by page, lazily freed ones in batches") {
    const std::string large = "0x20449";  // PG_head
    CHECK(rows_after_start(walk(10, 33, large, "0x102") + visit(11, 33, "v_unmap", "0xf0", "0xa1") +
                           checked(12, 33, "0xf0", "0x5000", 1) + removed(13, 33, "0xf0") +
                           checked(14, 33, "0xf0", "0x6000", 1) + visited(15, 33, "0xf0", 0) +
                           walked(16, 33)) ==
          "10 walk 7/7 addr=0x5000 order=2 kind=unmap\n"
          "13 swap_out 7/7 addr=0x5000 len=0x1000\n");
    CHECK(rows_after_start(walk(10, 33, "0x49", "0x102") +
                           visit(11, 33, "v_unmap", "0xf0", "0xa1") +
                           checked(12, 33, "0xf0", "0x5000", 1) + removed(13, 33, "0xf0", 4) +
                           visited(14, 33, "0xf0", 1) + walked(15, 33)) ==
          "10 walk 7/7 addr=0x5000 order=2 kind=unmap\n"
          "13 discard 7/7 addr=0x5000 len=0x4000\n");
    // Linux 6.12: a huge page at once. A failure leaves it.
    for (int success : {1, 0}) {
        CHECK(rows_after_start(removed(9, 7, "0xf0") + walk(10, 33, "0x49", "0x109") +
                               visit(11, 33, "v_unmap", "0xf0", "0xa1") +
                               checked(12, 33, "0xf0", "0x200000", 1) +
                               visited(13, 33, "0xf0", success) + walked(14, 33)) ==
              std::string("10 walk 7/7 addr=0x200000 order=9 kind=unmap\n") +
                  (success ? "13 discard 7/7 addr=0x200000 len=0x200000\n" : ""));
    }
}

TEST_CASE("tracefs: which walks leave swap entries, and which nothing") {
    const auto taken = [](const std::string& flags) {
        const std::string rows = rows_after_start(
            walk(10, 33, flags) + visit(11, 33, "v_unmap", "0xf0", "0xa1") +
            checked(12, 33, "0xf0", "0x6000", 1) + removed(13, 33, "0xf0") + walked(14, 33));
        const std::size_t line = rows.find("13 ");
        return rows.substr(line, rows.find(' ', line + 3) - line);
    };
    CHECK(taken(kSwapping) == "13 swap_out");
    CHECK(taken(kLazilyFreed) == "13 discard");
    CHECK(taken("0x120009") == "13 discard");  // PG_hwpoison, never in the swap cache
    CHECK(taken("0x120409") == "13 swap_out");  // PG_hwpoison in the swap cache
}

TEST_CASE("tracefs: what is taken of others is left out, and stands without its walk's row") {
    const Parsed parsed =
        parse(start() + walk(10, 33, kSwapping) + visit(11, 33, "v_unmap", "0xf9", "0x99") +
              checked(12, 33, "0xf9", "0x6000", 1) + removed(13, 33, "0xf9") +
              visit(14, 33, "v_unmap", "0xf0", "0xa1") + checked(15, 33, "0xf0", "0x6000", 1) +
              removed(16, 33, "0xf0"));  // the capture ends before the walk does
    CHECK(parsed.rows == kStarted + "16 swap_out 7/7 addr=0x6000 len=0x1000\n");
    CHECK(parsed.visits == "");
    CHECK(parsed.stats.dropped["swap_out_of_other_process"] == u64{1});
    CHECK(parsed.stats.dropped["walk_end_not_seen"] == u64{1});
}

// ---- faults ----

TEST_CASE("tracefs: a fault that finds its page in the swap cache maps it, then goes on") {
    CHECK(rows_after_start(new_task(9, 7, 9, "3d0f00") +
                           fault_begins(10, 7, "0xa1", "0x6010", "0x41") +
                           fault(11, 9, "0xa1", "0x8000", "0x40") + fo_add(13, 7, "0x5000", 4) +
                           fo_new(14, 7, "f1=0x0") + fault_ends(15, 7)) ==
          "9 fork 7/7 flags=0x3d0f00 child=7 child_tid=9\n"
          "11 fault 7/9 addr=0x8000 write=0 source=user\n"
          "13 swap_in 7/7 addr=0x5000 len=0x4000\n"
          "13 fault 7/7 addr=0x6000 write=1 source=user\n");
    // It stays mapped where the copy fails. Another task's fault on this mm is the mm's.
    CHECK(rows_after_start(fault_begins(10, 7, "0xa1", "0x6010", "0x41") +
                           fo_add(11, 7, "0x6000", 1) + fault_ends(12, 7, "0x1") +
                           fault_begins(13, 5, "0xa1", "0x7000", "0x81") +
                           fo_add(14, 5, "0x7000", 1) + fault_ends(15, 5)) ==
          "11 swap_in 7/7 addr=0x6000 len=0x1000\n"
          "14 swap_in 7/7 addr=0x7000 len=0x1000\n"
          "14 fault 7/7 addr=0x7000 write=1 source=gup\n");
}

TEST_CASE("tracefs: what else maps pages of known folios is no swap-in") {
    // The split of a huge page, and what compaction moves while the fault waits for memory.
    const std::string inside = walk(11, 7, "0x20009") + visit(12, 7, "v_rmig", "0xf1", "0xa1") +
                               checked(13, 7, "0xf1", "0x7000", 1) + fo_add(14, 7, "0x7000", 1) +
                               walked(15, 7);
    CHECK(rows_after_start(fault_begins(10, 7, "0xa1", "0x6010", "0x41") + inside +
                           fo_add(16, 7, "0x0", 512) + fault_ends(17, 7) +
                           fo_add(18, 7, "0x5000", 1)) ==
          "10 fault 7/7 addr=0x6000 write=1 source=user\n"
          "11 walk 7/7 addr=0x7000 kind=all\n");
    // A huge folio may come from the swap cache too; its flags tell.
    CHECK(rows_after_start(fault_begins(10, 7, "0xa1", "0x206010", "0x41") +
                           fo_add(11, 7, "0x200000", 512, " flags=0x20449") + fault_ends(12, 7)) ==
          "11 swap_in 7/7 addr=0x200000 len=0x200000\n"
          "11 fault 7/7 addr=0x206000 write=1 source=user\n");
}

TEST_CASE("tracefs: the order of the folio that a fault ends with, where its flags are told") {
    const auto parsed = [](const std::string& text) {
        TracefsParser parser;
        parser.feed(start() + text);
        parser.finish();
        return std::pair{trace_rows::text(parser.table()).substr(kStarted.size()),
                         parser.fault_orders()};
    };
    const std::string first = fault_begins(10, 7, "0xa1", "0x6000", "0x41");
    const std::string told = fo_new(11, 7, "flags=0x20048 f1=0x204");
    CHECK(parsed(first + told + fault_ends(12, 7)) ==
          std::pair{std::string("10 fault 7/7 addr=0x6000 write=1 source=user order=4\n"), true});
    // Without PG_head the byte is not an order. A copy comes after what was read from swap.
    CHECK(parsed(first + told + fo_new(12, 7, "flags=0x20008 f1=0x2080c") + fault_ends(13, 7)) ==
          std::pair{std::string("10 fault 7/7 addr=0x6000 write=1 source=user\n"), true});
    CHECK(parsed(first + told + fault_ends(12, 7) + fo_new(13, 5, "f1=0x2080c")) ==
          std::pair{std::string("10 fault 7/7 addr=0x6000 write=1 source=user order=4\n"), false});
    CHECK(parsed(first + fault_ends(12, 7)) ==
          std::pair{std::string("10 fault 7/7 addr=0x6000 write=1 source=user\n"), false});
}

// ---- what calls and faults are reported to have made ----

TEST_CASE("tracefs: a report carries the time and task of the row of its call") {
    const Parsed parsed = parse(
        start() + new_task(9, 7, 9, "3d0f00") +
        at(10, 7, "sys_mprotect(start: 0x10000, len: 0x2000, prot: 1)") +
        at(11, 9, "sys_mmap(addr: 0, len: 0x1000, prot: 3, flags: 0x22, fd: 0xffffffff, off: 0)") +
        vma_map(12, 9, "0xa1", "0x20000", "0x23000", "0x100073") +
        event(13, 9, "mmap",
              "file=0x0 addr=0x0 len=0x1000 prot=0x3 flags=0x22 pgoff=0x0 ret=0x20000") +
        fault(14, 9, "0xa1", "0x20000", "0x1", "0x0", "__get_user_pages") +
        at(16, 9, "sys_mmap -> 0x20000") + vma_map(17, 7, "0xa1", "0x10000", "0x11000", "0x71") +
        vma_map(18, 7, "0xa1", "0x11000", "0x12000", "0x71") + at(19, 7, "sys_mprotect -> 0x0") +
        at(20, 7, "sys_shmat(shmid: 1, shmaddr: 0, shmflg: 0)") +
        vma_map(21, 7, "0xa1", "0x30000", "0x33000", "0xfb", "0x0", "0xf7") +
        event(22, 7, "mmap",
              "file=0xf7 addr=0x0 len=0x3000 prot=0x3 flags=0x1 pgoff=0x0 ret=0x30000") +
        at(23, 7, "sys_shmat -> 0x30000") +
        at(24, 7, "sys_mmap(addr: 0, len: 0x1000, prot: 3, flags: 0x22, fd: 0xffffffff, off: 0)") +
        vma_map(25, 7, "0xa1", "0x50000", "0x51000", "0x100073") +
        at(26, 7, "sys_mmap -> 0xfffffffffffffff4") + exec_from(27, 7, "0xa2") +
        vma_map(29, 7, "0xa2", "0x1000", "0x2000", "0x71", "0x0", "0xf1") + exec_to(30, 7));
    CHECK(parsed.mapped ==
          "time=10 pid=7 tid=7 start=0x10000 end=0x11000\n"
          "time=10 pid=7 tid=7 start=0x11000 end=0x12000\n"
          "time=13 pid=7 tid=9 start=0x20000 end=0x23000\n"
          "time=22 pid=7 tid=7 start=0x30000 end=0x33000\n");
}

TEST_CASE("tracefs: a stack grows before the fault it grows for, which may be put off") {
    const Parsed parsed =
        parse(start() + vma_map(10, 7, "0xa1", "0x7000", "0x28000", "0x100173") +
              fault(11, 7, "0xa1", "0x7010", "0x41", "0x400") +
              fault(13, 7, "0xa1", "0x7010", "0x41") + fault(15, 7, "0xa1", "0x7010", "0x41") +
              vma_map(17, 5, "0xa1", "0x6000", "0x28000", "0x100173") +  // ptrace
              fault(18, 5, "0xa1", "0x6010", "0x81", "0x0", "__get_user_pages"));
    CHECK(parsed.mapped ==
          "time=13 pid=7 tid=7 start=0x7000 end=0x28000\n"
          "time=18 pid=7 tid=7 start=0x6000 end=0x28000\n");
}

TEST_CASE("tracefs: damaged rows of copies, ends and swap never break the parser") {
    const std::string text =
        start() + fork(10, 7, 8, "0xa2") + new_task(13, 7, 9, "4100") +
        walk(14, 33, kSwapping, "0x102") + visit(15, 33, "v_unmap", "0xf0", "0xa1") +
        checked(16, 33, "0xf0", "0x6000", 1) + removed(17, 33, "0xf0") +
        checked(18, 33, "0xf0", "0x7000", 1) + visited(19, 33, "0xf0", 0) + walked(20, 33) +
        fault_begins(21, 8, "0xa2", "0x6010", "0x41") + fo_add(22, 8, "0x6000", 1) +
        fo_new(23, 8, "flags=0x40 f1=0x104") + fault_ends(24, 8) +
        at(25, 7, "sys_mprotect(start: 0x10000, len: 0x2000, prot: 1)") +
        vma_map(26, 7, "0xa1", "0x10000", "0x11000", "0x71") + at(27, 7, "sys_mprotect -> 0x0") +
        vma_map(28, 8, "0xa2", "0x7000", "0x28000", "0x100173") +
        fault(29, 8, "0xa2", "0x7010", "0x41") + exits(31, 8) + exit_mmap(32, 33, "0xa2") +
        exec_from(35, 9, "0xa4") + exec_to(37, 9) + exit_mmap(39, 9, "0xa4") + exits(42, 9, "") +
        exits(43, 7) + exit_mmap(44, 7, "0xa1");
    const u64 whole = parse(text).stats.lines;
    Damage damage;
    u64 lines = 0;
    for (int i = 0; i < 2000; ++i) {
        const std::string damaged = damage(text);
        const Parsed parsed = parse(damaged, 1 + damage.random(200));
        CHECK(parse(damaged).rows == parsed.rows);
        lines += parsed.stats.lines;
    }
    CHECK(lines > 1900 * whole);
}

// ---- in parts ----

TEST_CASE("tracefs: what is copied or unlinked when another task goes on has rows before it") {
    const auto avc = [](int count, int tid, const std::string& what, const std::string& mm,
                        const std::string& vma, const std::string& start) {
        return event(count, tid, what,
                     "avc=0xe" + vma.substr(2) + " av=0xf1 root=0xf1 par=0xf1 vma=" + vma +
                         " mm=" + mm + " start=" + start + " end=0x" + start.substr(2) + "0");
    };
    CHECK(rows_after_start(
              new_task(10, 7, 9, "4100") + event(11, 7, "mm_dup", "mm=0xa2 oldmm=0xa1") +
              event(11, 7, "vma_dup", "orig=0xba1 vma=0xba2") +
              avc(12, 7, "avc_ins", "0xa2", "0xba2", "0x500") +
              fault(13, 9, "0xa1", "0x5000", "0x40") + fault(15, 9, "0xa1", "0x6000", "0x40") +
              event(17, 7, "mm_dupx", "mm=0xa2 ret=0") + new_task(18, 7, 8, "1200000")) ==
          "10 fork 7/7 flags=0x4100 child=9 child_tid=9\n"
          "12 dup_mmap 7/7 addr=0x5000\n"
          "13 fault 9/9 addr=0x5000 write=0 source=user\n"
          "15 fault 9/9 addr=0x6000 write=0 source=user\n"
          "17 dup_mmap 7/7\n"
          "18 fork 7/7 flags=0x1200000 child=8 child_tid=8\n");
    CHECK(rows_after_start(
              fork(10, 7, 8, "0xa2") + avc(13, 8, "avc_ins", "0xa2", "0xba2", "0x500") +
              exits(14, 8) + event(15, 8, "mm_exit", "mm=0xa2") +
              unlink_vma(16, 8, "0xa2", "0xba2") + fault(17, 7, "0xa1", "0x5000", "0x40") +
              avc(19, 8, "avc_rm", "0xa2", "0xba2", "0x500") +
              fault(20, 7, "0xa1", "0x6000", "0x40") + free_vma(22, 8, "0xa2", "0xba2")) ==
          kForked +
              "14 exit 8/8\n"
              "15 unmap_vmas 8/8\n"
              "17 fault 7/7 addr=0x5000 write=0 source=user\n"
              "19 free_pgtables 8/8 addr=0x5000\n"
              "20 fault 7/7 addr=0x6000 write=0 source=user\n"
              "22 free_pgtables 8/8\n"
              "22 exit_mmap 8/8\n");
}

TEST_CASE("tracefs: a thread that exits after the one that left the group dead is no stranger") {
    CHECK(rows_after_start(new_task(10, 7, 9, "3d0f00") +
                           at(11, 9, "sched_process_exit: comm=a pid=9 prio=120 group_dead=true") +
                           at(12, 7, "sched_process_exit: comm=a pid=7 prio=120 group_dead=false") +
                           exit_mmap(13, 7, "0xa1")) ==
          "10 fork 7/7 flags=0x3d0f00 child=7 child_tid=9\n"
          "11 exit 7/9\n"
          "12 exit 7/7\n"
          "13 unmap_vmas 7/7\n"
          "15 free_pgtables 7/7\n"
          "15 exit_mmap 7/7\n");
}
