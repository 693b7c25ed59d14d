// SPDX-License-Identifier: GPL-2.0-only
// Which rows come first when tasks work at the same time, with the order of the mmap lock and
// without.
#include <string>

#include "tests/native/perf_text.hpp"

using namespace rmapreplay;
using namespace perf_text;

namespace {

std::string thread_of(int ns, int pid, int tid) { return new_task(ns, pid, tid, "3d0f00"); }
const std::string kThread = "12000000009 fork 7/7 flags=0x3d0f00 child=7 child_tid=8\n";
std::string rows_of_two(const std::string& text) {
    const std::string rows = rows_after_start(thread_of(9, 7, 8) + text);
    REQUIRE(rows.starts_with(kThread));
    return rows.substr(kThread.size());
}

const std::string kUnmap = "5000, 1000, 0, 0, 0, 0";
const std::string kMap = "5000, 1000, 3, 32, ffffffff, 0";  // MAP_FIXED
const std::string kMapped = "20480";

}  // namespace

// ---- without locks ----

TEST_CASE("order: calls of threads may overlap in any way") {
    CHECK(rows_of_two(enter(10, 7, 7, 11, kUnmap) + enter(11, 7, 8, 10, "9000, 1000, 1, 0, 0, 0") +
                      enter(12, 7, 9, 12, "0, 0, 0, 0, 0, 0") + leave(13, 7, 8, 10, "0") +
                      leave(14, 7, 9, 12, "4096") + leave(15, 7, 7, 11, "0")) ==
          "12000000010 munmap 7/7 addr=0x5000 len=0x1000\n"
          "12000000011 mprotect 7/8 addr=0x9000 len=0x1000 prot=1\n"
          "12000000012 brk 7/9 addr=0x1000\n");
}

TEST_CASE("order: a call that another thread's exec cut short has no row") {
    const std::string text =
        start() + thread_of(9, 7, 8) + enter(10, 7, 7, 11, kUnmap) +
        enter(11, 7, 8, 59, "1, 2, 3, 4, 5, 6") + exits(12, 7, 7) + exit_mmap(13, 7, 7) +
        at(14, 7, 7, "PERF_RECORD_COMM exec: b:7/7") +
        at(15, 7, 7, "sched:sched_process_exec: filename=/bin/b pid=7 old_pid=8") +
        leave(16, 7, 7, 59, "0") + enter(17, 7, 7, 11, kUnmap) + leave(18, 7, 7, 11, "0");
    const Parsed parsed = parse(text);
    CHECK(parsed.rows == kStarted + kThread +
                             "12000000012 exit 7/7\n"
                             "12000000013 exit_mmap 7/7\n"
                             "12000000014 exec 7/7 path=/bin/b\n"
                             "12000000017 munmap 7/7 addr=0x5000 len=0x1000\n");
    CHECK(parsed.stats.dropped["killed_in_syscall"] == u64{1});
    CHECK(parsed.stats.unmatched_enters + parsed.stats.unmatched_exits == u64{0});
}

TEST_CASE("order: a thread killed while it waits for the lock has done nothing") {
    const Parsed parsed = parse(start() + thread_of(9, 7, 8) + enter(10, 7, 8, 9, kMap) +
                                enter(11, 7, 7, 11, kUnmap) + locked(12, 7, 7) + exits(13, 7, 8) +
                                leave(14, 7, 7, 11, "0"));
    CHECK(parsed.rows == kStarted + kThread +
                             "12000000012 munmap 7/7 addr=0x5000 len=0x1000\n"
                             "12000000013 exit 7/8\n");
    CHECK(parsed.stats.dropped["killed_in_syscall"] == u64{1});
}

// ---- with them ----

TEST_CASE("order: a munmap and an mmap of one range are as the locks were, not the entries") {
    const auto calls = [](const std::string& first, const std::string& second) {
        return enter(10, 7, 7, 11, kUnmap) + enter(11, 7, 8, 9, kMap) + first + second +
               leave(14, 7, 8, 9, kMapped) + leave(15, 7, 7, 11, "0");
    };
    const std::string unmap = " munmap 7/7 addr=0x5000 len=0x1000\n";
    const std::string map = " mmap 7/8 addr=0x5000 len=0x1000 flags=0x32 prot=3\n";
    CHECK(rows_of_two(calls(locked(12, 7, 7), locked(13, 7, 8))) ==
          "12000000012" + unmap + "12000000013" + map);
    CHECK(rows_of_two(calls(locked(12, 7, 8), locked(13, 7, 7))) ==
          "12000000012" + map + "12000000013" + unmap);
    CHECK(rows_of_two(calls("", "")) == "12000000010" + unmap + "12000000014" + map);
}

TEST_CASE("order: locks order calls that return in another order, and their reports stay theirs") {
    const Parsed parsed = parse(
        start() + thread_of(9, 7, 8) +  //
        enter(10, 7, 7, 9, "0, 1000, 3, 22, ffffffff, 0") +
        enter(11, 7, 8, 9, "0, 1000, 3, 22, ffffffff, 0") + locked(12, 7, 8) +
        mmap2(13, 7, 8, "[0x6000(0x1000) @ 0x6000 00:00 0 0]: rw-p //anon") + locked(14, 7, 7) +
        mmap2(15, 7, 7, "[0x5000(0x2000) @ 0x5000 00:00 0 0]: rw-p //anon") +
        leave(16, 7, 7, 9, "20480") + fault(17, 7, 7, "0x5008", "0x6") +
        leave(18, 7, 8, 9, "24576"));
    CHECK(parsed.rows == kStarted + kThread +
                             "12000000012 mmap 7/8 addr=0x6000 len=0x1000 flags=0x22 prot=3\n"
                             "12000000014 mmap 7/7 addr=0x5000 len=0x1000 flags=0x22 prot=3\n"
                             "12000000017 fault 7/7 addr=0x5000 write=1 source=user present=0\n");
    CHECK(parsed.mapped ==
          "time=12000000012 pid=7 tid=8 start=0x6000 end=0x7000\n"
          "time=12000000014 pid=7 tid=7 start=0x5000 end=0x7000\n");
}

TEST_CASE("order: failed calls leave no row where they had locked") {
    const Parsed parsed = parse(
        start() + enter(10, 7, 7, 11, kUnmap) + locked(11, 7, 7) + leave(12, 7, 7, 11, "-22") +
        enter(13, 7, 7, 9, kMap) + locked(14, 7, 7) + leave(15, 7, 7, 9, "-12") +
        enter(16, 7, 7, 10, kUnmap) + locked(17, 7, 7) + leave(18, 7, 7, 10, "-12"));
    CHECK(parsed.rows ==
          kStarted + "12000000017 mprotect 7/7 addr=0x5000 len=0x1000 prot=0 error=12\n");
    CHECK(parsed.stats.dropped["failed_munmap_EINVAL"] == u64{1});
    CHECK(parsed.stats.dropped["failed_mmap_ENOMEM"] == u64{1});
}

TEST_CASE(
    "order: locks not got, or given back, and of calls that lock again and again tell nothing") {
    const auto lock = [](int ns, const std::string& fields) {
        return at(ns, 7, 7, "mmap_lock:mmap_lock_acquire_returned: mm=0xff10 " + fields);
    };
    const Parsed parsed = parse(
        start() + enter(10, 7, 7, 11, kUnmap) + lock(11, "memcg_id=1 write=false success=false") +
        lock(12, "memcg_id=1 write=true success=false") +
        at(13, 7, 7, "mmap_lock:mmap_lock_released: mm=0xff10 memcg_id=1 write=true") +
        leave(14, 7, 7, 11, "0") + enter(20, 7, 7, 28, "5000, 200000, 19, 0, 0, 0") +
        read_locked(20, 7, 7) + locked(21, 7, 7) + leave(23, 7, 7, 28, "0") +  // MADV_COLLAPSE
        enter(30, 7, 7, 28, "5000, 200000, e, 0, 0, 0") +                 // MADV_HUGEPAGE
        lock(31, "memcg_path=/a write=b write=true success=true") + leave(32, 7, 7, 28, "0") +
        locked(33, 7, 7) + lock(34, "write=true success=true"));
    CHECK(parsed.rows == kStarted +
                             "12000000010 munmap 7/7 addr=0x5000 len=0x1000\n"
                             "12000000020 madvise 7/7 addr=0x5000 len=0x200000 advice=25\n"
                             "12000000031 madvise 7/7 addr=0x5000 len=0x200000 advice=14\n");
    CHECK(parsed.stats.dropped.counts().empty());
}

TEST_CASE("order: advice that locks for reading stands where it first got the lock") {
    CHECK(rows_of_two(enter(10, 7, 7, 28, "5000, 2000, 4, 0, 0, 0") +  // MADV_DONTNEED
                      enter(11, 7, 8, 11, kUnmap) + locked(12, 7, 8) + leave(13, 7, 8, 11, "0") +
                      read_locked(14, 7, 7) + fault(15, 7, 8, "0x9000", "0x6") +
                      read_locked(16, 7, 7) + leave(17, 7, 7, 28, "0") +
                      enter(20, 7, 7, 149, "5000, 1000, 0, 0, 0, 0") + locked(21, 7, 7) +
                      fault(22, 7, 8, "0xa000", "0x6") + read_locked(23, 7, 7) +  // it populates
                      leave(24, 7, 7, 149, "0")) ==
          "12000000012 munmap 7/8 addr=0x5000 len=0x1000\n"
          "12000000014 madvise 7/7 addr=0x5000 len=0x2000 advice=4\n"
          "12000000015 fault 7/8 addr=0x9000 write=1 source=user present=0\n"
          "12000000021 mlock 7/7 addr=0x5000 len=0x1000\n"
          "12000000022 fault 7/8 addr=0xa000 write=1 source=user present=0\n");
}

// ---- faults ----

TEST_CASE("order: a fault that waited for the lock stands where it got it, others where raised") {
    const auto faults = [](const std::string& after) {
        return enter(10, 7, 7, 9, kMap) + fault(11, 7, 8, "0x9000", "0x6") + locked(12, 7, 7) +
               leave(13, 7, 7, 9, kMapped) + after;
    };
    const std::string map = "12000000012 mmap 7/7 addr=0x5000 len=0x1000 flags=0x32 prot=3\n";
    const auto fault_at = [](const char* when) {
        return std::string(when) + " fault 7/8 addr=0x9000 write=1 source=user present=0\n";
    };
    CHECK(rows_of_two(faults("")) == fault_at("12000000011") + map);
    CHECK(rows_of_two(faults(read_locked(14, 7, 8))) == map + fault_at("12000000014"));
    // Locks of others, of another address space, or when the task went on.
    CHECK(rows_of_two(faults(read_locked(14, 7, 7) + read_locked(15, 7, 8, "0xff20"))) ==
          fault_at("12000000011") + map);
    CHECK(rows_of_two(faults(enter(14, 7, 8, 12, "0, 0, 0, 0, 0, 0") + read_locked(15, 7, 8) +
                             leave(16, 7, 8, 12, "4096"))) ==
          fault_at("12000000011") + map + "12000000015 brk 7/8 addr=0x1000\n");
}

TEST_CASE("order: a fault that locks again, when what it waited for was read, stands there") {
    CHECK(rows_of_two(fault(10, 7, 8, "0x9000", "0x6") + read_locked(11, 7, 8) +
                      fault(20, 7, 7, "0xa000", "0x6") + read_locked(9'000'000, 7, 8)) ==
          "12000000020 fault 7/7 addr=0xa000 write=1 source=user present=0\n"
          "12009000000 fault 7/8 addr=0x9000 write=1 source=user present=0\n");
}

TEST_CASE("order: a stack's growth is reported with the fault, wherever that stands") {
    const Parsed parsed =
        parse(start() + thread_of(9, 7, 8) + fault(10, 7, 7, "0x7ffe0008", "0x6") +
              fault(11, 7, 8, "0x9000", "0x6") + locked(11, 7, 8) + read_locked(12, 7, 7) +
              locked(13, 7, 7) +
              mmap2(14, 7, 7, "[0x7ffe0000(0x4000) @ 0x7ffe0000 00:00 0 0]: rw-p [stack]"));
    CHECK(parsed.rows ==
          kStarted + kThread +
              "12000000011 fault 7/8 addr=0x9000 write=1 source=user present=0\n"
              "12000000012 fault 7/7 addr=0x7ffe0000 write=1 source=user present=0\n");
    CHECK(parsed.mapped == "time=12000000012 pid=7 tid=7 start=0x7ffe0000 end=0x7ffe4000\n");
}

// ---- fork ----

TEST_CASE(
    "order: a copy is done before another thread gets the lock, else when the task is there") {
    const auto fork = [](const std::string& meanwhile) {
        return enter(10, 7, 7, 56, "1200011, 0, 0, 0, 0, 0") + locked(11, 7, 7) +
               locked(12, 7, 7, "0xff20") + fault(13, 7, 8, "0x9000", "0x6") + meanwhile +
               new_task(18, 7, 10, "1200000") + leave(20, 7, 7, 56, "10");
    };
    const std::string copied = " dup_mmap 7/7\n";
    const std::string forked = "12000000018 fork 7/7 flags=0x1200000 child=10 child_tid=10\n";
    const std::string faulted = "12000000013 fault 7/8 addr=0x9000 write=1 source=user present=0\n";
    const std::string unmapped = " munmap 7/8 addr=0x5000 len=0x1000\n";
    CHECK(rows_of_two(fork("")) == faulted + "12000000018" + copied + forked);
    // It waited since before the fork, and returns after it.
    CHECK(rows_of_two(enter(9, 7, 8, 11, kUnmap) + fork(locked(14, 7, 8)) +
                      leave(21, 7, 8, 11, "0")) ==
          faulted + "12000000014" + copied + "12000000014" + unmapped + forked);
    // Without locks it stands where it was entered.
    CHECK(rows_of_two(enter(10, 7, 7, 56, "1200011, 0, 0, 0, 0, 0") + enter(11, 7, 8, 11, kUnmap) +
                      new_task(18, 7, 10, "1200000") + leave(21, 7, 8, 11, "0") +
                      leave(22, 7, 7, 56, "10")) == "12000000011" + unmapped + forked);
}

TEST_CASE("order: of faults during a copy, those that wait for its lock are not in it") {
    CHECK(rows_of_two(enter(10, 7, 7, 57, "0, 0, 0, 0, 0, 0") + locked(11, 7, 7) +
                      locked(12, 7, 7, "0xff20") + fault(13, 7, 8, "0x9000", "0x6") +
                      fault(14, 7, 8, "0xa000", "0x6") + read_locked(15, 7, 8) +
                      new_task(18, 7, 10, "0") + leave(20, 7, 7, 57, "10")) ==
          "12000000013 fault 7/8 addr=0x9000 write=1 source=user present=0\n"
          "12000000015 dup_mmap 7/7\n"
          "12000000015 fault 7/8 addr=0xa000 write=1 source=user present=0\n"
          "12000000018 fork 7/7 flags=0x0 child=10 child_tid=10\n");
}

TEST_CASE(
    "order: a fault that waits for a copy's lock comes after it, also if the fork was there "
    "first") {
    CHECK(rows_of_two(enter(10, 7, 7, 57, "0, 0, 0, 0, 0, 0") + locked(11, 7, 7) +
                      locked(12, 7, 7, "0xff20") + fault(13, 7, 8, "0x9000", "0x6") +
                      new_task(18, 7, 10, "0") + read_locked(19, 7, 8) +
                      leave(20, 7, 7, 57, "10")) ==
          "12000000018 dup_mmap 7/7\n"
          "12000000018 fork 7/7 flags=0x0 child=10 child_tid=10\n"
          "12000000019 fault 7/8 addr=0x9000 write=1 source=user present=0\n");
}

TEST_CASE("order: a call of another address space does not end a copy") {
    CHECK(rows_after_start(
              new_task(10, 7, 9, "1200000") + enter(11, 7, 7, 56, "1200011, 0, 0, 0, 0, 0") +
              enter(12, 9, 9, 11, kUnmap) + locked(13, 7, 7) + locked(14, 7, 7, "0xff20") +
              locked(15, 9, 9, "0xff30") + leave(16, 9, 9, 11, "0") +
              new_task(18, 7, 10, "1200000") + leave(20, 7, 7, 56, "10")) ==
          "12000000010 fork 7/7 flags=0x1200000 child=9 child_tid=9\n"
          "12000000015 munmap 9/9 addr=0x5000 len=0x1000\n"
          "12000000018 dup_mmap 7/7\n"
          "12000000018 fork 7/7 flags=0x1200000 child=10 child_tid=10\n");
}

TEST_CASE("order: a fork that fails leaves no copy, whether its memory was made or not") {
    const Parsed parsed =
        parse(start() + thread_of(9, 7, 8) + enter(10, 7, 7, 56, "1200011, 0, 0, 0, 0, 0") +
              locked(11, 7, 7) + locked(12, 7, 7, "0xff20") + locked(13, 7, 8) +
              locked(14, 7, 7, "0xff20") + exit_mmap(15, 7, 7) + leave(16, 7, 7, 56, "-11") +
              enter(20, 7, 7, 56, "1200011, 0, 0, 0, 0, 0") + locked(21, 7, 7) +
              locked(22, 7, 7, "0xff20") + enter(23, 7, 8, 11, kUnmap) + locked(24, 7, 8) +
              leave(25, 7, 8, 11, "0") + exits(26, 7, 7));
    CHECK(parsed.rows == kStarted + kThread +
                             "12000000024 munmap 7/8 addr=0x5000 len=0x1000\n"
                             "12000000026 exit 7/7\n");
    CHECK(parsed.stats.dropped["exit_mmap_of_failed_fork"] == u64{1});
    CHECK(parsed.stats.dropped["failed_clone_EAGAIN"] == u64{1});
}

TEST_CASE("order: vfork and threads copy nothing") {
    CHECK(rows_after_start(enter(10, 7, 7, 58, "0, 0, 0, 0, 0, 0") + new_task(11, 7, 8, "4100") +
                           locked(12, 7, 8, "0xff20")) ==
          "12000000011 fork 7/7 flags=0x4100 child=8 child_tid=8\n");
}

// ---- the end ----

TEST_CASE("order: a pointer tells whose address space a task held to its end") {
    // 8 and 9 exit while 10 reads their /proc/PID/maps; it lets go of 9's first.
    const auto fork = [](int ns, int child, const std::string& mm) {
        return enter(ns, 7, 7, 57, "0, 0, 0, 0, 0, 0") + locked(ns + 1, 7, 7) +
               locked(ns + 2, 7, 7, mm) + new_task(ns + 3, 7, child, "0") +
               leave(ns + 4, 7, 7, 57, std::to_string(child));
    };
    const std::string forks =
        fork(10, 8, "0xff20") + fork(20, 9, "0xff30") + fork(30, 10, "0xff40");
    const std::string text =
        start() + forks + exits(40, 8, 8) + exits(41, 9, 9) + locked(42, 10, 10, "0xff30") +
        exit_mmap(43, 10, 10) + fault(44, 10, 10, "0x5000", "0x4") + locked(45, 10, 10, "0xff20") +
        exit_mmap(46, 10, 10) + locked(47, 10, 10, "0xff50") + exit_mmap(48, 10, 10) +
        fault(49, 10, 10, "0x5000", "0x4") + exits(50, 10, 10) + locked(51, 10, 10, "0xff40") +
        exit_mmap(52, 10, 10);
    const Parsed parsed = parse(text);
    const std::string ends = parsed.rows.substr(parsed.rows.find("12000000040"));
    const std::string read = " fault 10/10 addr=0x5000 write=0 source=user present=0\n";
    CHECK(ends ==
          "12000000040 exit 8/8\n12000000041 exit 9/9\n12000000043 exit_mmap 9/9\n"
          "12000000044" +
              read + "12000000046 exit_mmap 8/8\n12000000049" + read +
              "12000000050 exit 10/10\n12000000052 exit_mmap 10/10\n");
    CHECK(parsed.stats.dropped["exit_mmap_of_unknown_process"] == u64{1});  // nobody's: 0xff50
    CHECK(parsed.stats.dropped["exit_mmap_not_seen"] == u64{0});
}

TEST_CASE("order: exec makes an address space with another pointer") {
    const std::string text =
        start() + new_task(9, 7, 8, "1200000") + enter(10, 8, 8, 59, "1, 2, 3, 4, 5, 6") +
        locked(11, 8, 8, "0xff90") + locked(12, 8, 8, "0xff20") + exit_mmap(13, 8, 8) +
        at(14, 8, 8, "PERF_RECORD_COMM exec: b:8/8") + locked(15, 8, 8, "0xff90") +
        at(16, 8, 8, "sched:sched_process_exec: filename=/bin/b pid=8 old_pid=8") +
        leave(17, 8, 8, 59, "0") + exits(20, 8, 8) + locked(21, 7, 7, "0xff90") +
        exit_mmap(22, 7, 7) + fault(23, 7, 7, "0x5000", "0x4");
    CHECK(rows_after_start(text.substr(start().size())) ==
          "12000000009 fork 7/7 flags=0x1200000 child=8 child_tid=8\n"
          "12000000013 exit_mmap 8/8\n"
          "12000000014 exec 8/8 path=/bin/b\n"
          "12000000020 exit 8/8\n"
          "12000000022 exit_mmap 8/8\n"
          "12000000023 fault 7/7 addr=0x5000 write=0 source=user present=0\n");
}
