// SPDX-License-Identifier: GPL-2.0-only
// Programs of 32 bits, whose system calls have other numbers.
#include <algorithm>
#include <string>
#include <vector>

#include "tests/native/perf_text.hpp"
#include "traces/native/syscalls_i386.hpp"

using namespace rmapreplay;
using namespace perf_text;

namespace {

// The process, of 64 or 32 bits, becomes a program of either: execve returns with the new one's
// number.
std::string exec_to(int ns, int pid, int entered, int left) {
    return enter(ns, pid, pid, entered, "1, 2, 3, 4, 5, 6") +
           at(ns + 1, pid, pid,
              "PERF_RECORD_COMM exec: b:" + std::to_string(pid) + "/" + std::to_string(pid)) +
           at(ns + 2, pid, pid, "sched:sched_process_exec: filename=/b pid=7 old_pid=7") +
           leave(ns + 3, pid, pid, left, "0");
}
std::string call(int ns, int nr, const std::string& args, const std::string& result) {
    return enter(ns, 7, 7, nr, args) + leave(ns + 1, 7, 7, nr, result);
}
const std::string kProgram = "12000000006 exec 7/7 path=/b\n";
// What a 32-bit program's events make, after its exec.
std::string rows_of_compat(const std::string& text) {
    const std::string rows = rows_after_start(exec_to(5, 7, 59, 11) + text);
    REQUIRE(rows.starts_with(kProgram));
    return rows.substr(kProgram.size());
}

}  // namespace

TEST_CASE("compat: calls of a 32-bit program, by its numbers") {
    CHECK(rows_of_compat(call(10, 192, "0, 2000, 3, 22, ffffffff, 0", "4160344064") +
                         call(12, 192, "f7d8a000, 1000, 5, 12, 3, 22", "4158169088") +
                         call(14, 91, "f7f90000, c687, 0, 0, 0, 0", "0") +
                         call(16, 125, "f7f83000, 2000, 1, 0, 0, 0", "0") +
                         call(18, 163, "f7c68000, 1000, 2000, 1, 0, 0", "4160335872") +
                         call(20, 219, "f7f9b000, 2000, 4, 0, 0, 0", "0") +
                         call(22, 150, "f7f9b000, 1000, 0, 0, 0, 0", "0") +
                         call(24, 151, "f7f9b000, 1000, 0, 0, 0, 0", "0") +
                         call(26, 152, "3, 0, 0, 0, 0, 0", "0") +
                         call(28, 153, "0, 0, 0, 0, 0, 0", "0") +
                         call(30, 376, "f7f9b000, 1000, 1, 0, 0, 0", "0") +
                         call(32, 172, "29, 1, 0, 0, 0, 0", "0") +
                         call(34, 274, "f7f9b000, 1000, 2, 0, 0, 1", "0") +
                         call(36, 462, "f7f9b000, 1000, 0, 0, 0, 0", "0")) ==
          "12000000011 mmap 7/7 addr=0xf7f9d000 len=0x2000 flags=0x22 prot=3\n"
          "12000000013 mmap 7/7 addr=0xf7d8a000 len=0x1000 offset=0x22000 flags=0x12 prot=5 fd=3 "
          "file=1\n"
          "12000000014 munmap 7/7 addr=0xf7f90000 len=0xc687\n"
          "12000000016 mprotect 7/7 addr=0xf7f83000 len=0x2000 prot=1\n"
          "12000000018 mremap 7/7 addr=0xf7c68000 len=0x1000 new_addr=0xf7f9b000 new_len=0x2000 "
          "flags=0x1\n"
          "12000000020 madvise 7/7 addr=0xf7f9b000 len=0x2000 advice=4\n"
          "12000000022 mlock 7/7 addr=0xf7f9b000 len=0x1000\n"
          "12000000024 munlock 7/7 addr=0xf7f9b000 len=0x1000\n"
          "12000000026 mlockall 7/7 flags=0x3\n"
          "12000000028 munlockall 7/7\n"
          "12000000030 mlock 7/7 addr=0xf7f9b000 len=0x1000 flags=0x1\n"
          "12000000032 prctl 7/7 addr=0x1 flags=0x29\n"
          "12000000034 mbind 7/7 addr=0xf7f9b000 len=0x1000 flags=0x1 advice=2\n"
          "12000000036 mseal 7/7 addr=0xf7f9b000 len=0x1000\n");
}

TEST_CASE("compat: one number is another call in each kind of program, also in children") {
    // 11 is munmap and execve; 9, 10 and 12 (mmap, mprotect, brk) are link, unlink and chdir; 91 is
    // fchmod and munmap.
    const std::string munmap64 =
        enter(40, 7, 7, 11, "5000, 1000, 0, 0, 0, 0") + leave(41, 7, 7, 11, "0");
    const Parsed parsed =
        parse(start() + call(5, 91, "3, 1a4, 0, 0, 0, 0", "-1") + exec_to(10, 7, 59, 11) +
              call(15, 9, "0, 2000, 3, 22, ffffffff, 0", "-2") +
              call(17, 10, "0, 2000, 3, 0, 0, 0", "0") + call(19, 12, "0, 0, 0, 0, 0, 0", "0") +
              call(21, 11, "0, 0, 0, 0, 0, 0", "-2") + new_task(23, 7, 8, "1200000") +
              leave(24, 8, 8, 120, "0") + enter(25, 8, 8, 91, "5000, 1000, 0, 0, 0, 0") +
              leave(26, 8, 8, 91, "0") + exec_to(30, 7, 11, 59) + munmap64);
    CHECK(parsed.rows == kStarted +
                             "12000000011 exec 7/7 path=/b\n"
                             "12000000023 fork 7/7 flags=0x1200000 child=8 child_tid=8\n"
                             "12000000025 munmap 8/8 addr=0x5000 len=0x1000\n"
                             "12000000031 exec 7/7 path=/b\n"
                             "12000000040 munmap 7/7 addr=0x5000 len=0x1000\n");
    CHECK(parsed.stats.dropped["failed_execve_ENOENT"] == u64{1});
    CHECK(parsed.stats.dropped.counts().size() == std::size_t{1});
    CHECK(parsed.stats.unmatched_enters + parsed.stats.unmatched_exits == u64{0});
    CHECK(parsed.stats.syscalls["munmap"] == u64{2});
}

TEST_CASE("compat: execveat returns as execve does") {
    const Parsed parsed =
        parse(start() + exec_to(10, 7, 322, 59) + exec_to(20, 7, 322, 11) +
              exec_to(30, 7, 358, 11) + call(40, 91, "5000, 1000, 0, 0, 0, 0", "0") +
              exec_to(50, 7, 358, 59) + call(60, 11, "5000, 1000, 0, 0, 0, 0", "0"));
    CHECK(parsed.rows.find("12000000040 munmap") != std::string::npos);
    CHECK(parsed.rows.find("12000000060 munmap") != std::string::npos);
    CHECK(parsed.stats.dropped.counts().empty());
    CHECK(parsed.stats.unmatched_enters + parsed.stats.unmatched_exits == u64{0});
}

TEST_CASE("compat: System V memory comes through ipc, or by its own numbers") {
    const std::string seg = "[0xf7f97000(0x4000) @ 0 00:01 47 2142520667]: rw-s /SYSV0 (deleted)";
    const std::string mapped = " mmap 7/7 addr=0xf7f97000 len=0x4000 flags=0x1 prot=3 file=";
    CHECK(rows_of_compat(
              enter(10, 7, 7, 117, "17, 0, 4000, 380, 0, 0") + leave(11, 7, 7, 117, "47") +
              enter(12, 7, 7, 117, "10015, 2f, 0, ffddafe8, 0, 0") + mmap2(13, 7, 7, seg) +
              leave(14, 7, 7, 117, "0") + call(15, 117, "16, 0, 0, 0, f7f97000, 0", "0") +
              enter(20, 7, 7, 397, "2f, 0, 0, 0, 0, 0") + mmap2(21, 7, 7, seg) +
              leave(22, 7, 7, 397, "4160319488") + call(23, 398, "f7f97000, 0, 0, 0, 0, 0", "0")) ==
          "12000000014" + mapped + "1 path=/SYSV0 (deleted)\n" +
              "12000000015 munmap 7/7 addr=0xf7f97000 len=0x4000\n" + "12000000022" + mapped +
              "2 path=/SYSV0 (deleted)\n" + "12000000023 munmap 7/7 addr=0xf7f97000 len=0x4000\n");
}

TEST_CASE("compat: of brk only the return is recorded; what was reported before is its heap") {
    const std::string brk =
        leave(9, 7, 7, 45, "1461501952") +
        mmap2(10, 7, 7, "[0x571cc000(0x4a000) @ 0x571cc000 00:00 0 0]: rw-p //anon") +
        leave(11, 7, 7, 45, "1461805056");
    const std::string text =
        brk + fault(12, 7, 7, "0x571cd000", "0x6") +
        mmap2(13, 7, 7, "[0x571cc000(0x6b000) @ 0x571cc000 00:00 0 0]: rw-p [heap]") +
        leave(14, 7, 7, 45, "1461940224") + leave(15, 7, 7, 45, "1461805056") +
        fault(16, 7, 7, "0xffdb0000", "0x6") +
        mmap2(17, 7, 7, "[0xffdb0000(0x2000) @ 0xffdb0000 00:00 0 0]: rw-p [stack]") +
        fault(18, 7, 7, "0xf0000000", "0x6") +
        mmap2(19, 7, 7, "[0xf0000000(0x2000) @ 0xf0000000 00:00 0 0]: rw-p //anon") +
        enter(20, 7, 7, 192, "0, 1000, 3, 22, ffffffff, 0") +
        mmap2(21, 7, 7, "[0xe0000000(0x1000) @ 0xe0000000 00:00 0 0]: rw-p //anon") +
        leave(22, 7, 7, 192, "3758096384");
    CHECK(rows_of_compat(text) ==
          "12000000009 brk 7/7 addr=0x571cc000\n"
          "12000000011 brk 7/7 addr=0x57216000\n"
          "12000000012 fault 7/7 addr=0x571cd000 write=1 source=user present=0\n"
          "12000000014 brk 7/7 addr=0x57237000\n"
          "12000000015 brk 7/7 addr=0x57216000\n"
          "12000000016 fault 7/7 addr=0xffdb0000 write=1 source=user present=0\n"
          "12000000018 fault 7/7 addr=0xf0000000 write=1 source=user present=0\n"
          "12000000022 mmap 7/7 addr=0xe0000000 len=0x1000 flags=0x22 prot=3\n");
    const Parsed parsed = parse(start() + exec_to(5, 7, 59, 11) + text);
    CHECK(parsed.stats.dropped.counts().empty());
    CHECK(parsed.stats.unmatched_exits == u64{0});
    CHECK(parsed.stats.syscalls["brk"] == u64{4});
    CHECK(parsed.mapped ==
          "time=12000000011 pid=7 tid=7 start=0x571cc000 end=0x57216000\n"
          "time=12000000014 pid=7 tid=7 start=0x571cc000 end=0x57237000\n"
          "time=12000000016 pid=7 tid=7 start=0xffdb0000 end=0xffdb2000\n"
          "time=12000000018 pid=7 tid=7 start=0xf0000000 end=0xf0002000\n"
          "time=12000000022 pid=7 tid=7 start=0xe0000000 end=0xe0001000\n");
    // A 64-bit program has received 1.4 GB.
    CHECK(parse(start() + brk).rows == kStarted);
}

TEST_CASE("compat: a program of before the capture, and a call whose arguments are in memory") {
    PerfParser parser;
    parser.adopt(7, std::vector<i32>{7});
    parser.adopt_compat(7);
    const Parsed parsed =
        parse(parser, leave(10, 7, 7, 91, "0") + call(11, 91, "5000, 1000, 0, 0, 0, 0", "0") +
                          call(13, 90, "ffdb0000, 0, 0, 0, 0, 0", "4160344064") +
                          leave(15, 7, 7, 45, "1461501952"));
    CHECK(parsed.rows ==
          "12000000011 munmap 7/7 addr=0x5000 len=0x1000\n"
          "12000000015 brk 7/7 addr=0x571cc000\n");
    CHECK(parsed.stats.dropped["entered_before_capture"] == u64{1});
    CHECK(parsed.stats.dropped["unusable_old_mmap"] == u64{1});
}

TEST_CASE("compat: locks order the calls of 32-bit threads, too") {
    CHECK(rows_of_compat(
              new_task(9, 7, 8, "3d0f00") + enter(10, 7, 7, 91, "5000, 1000, 0, 0, 0, 0") +
              enter(11, 7, 8, 192, "5000, 1000, 3, 32, ffffffff, 0") + locked(12, 7, 8) +
              locked(13, 7, 7) + leave(14, 7, 8, 192, "20480") + leave(15, 7, 7, 91, "0")) ==
          "12000000009 fork 7/7 flags=0x3d0f00 child=7 child_tid=8\n"
          "12000000012 mmap 7/8 addr=0x5000 len=0x1000 flags=0x32 prot=3\n"
          "12000000013 munmap 7/7 addr=0x5000 len=0x1000\n");
}

TEST_CASE("compat: the numbers to record ascend, and leave out frequent calls of 64-bit programs") {
    const auto numbers = i386::recorded();
    CHECK(std::is_sorted(numbers.begin(), numbers.end()));
    for (const i64 frequent : {0, 1, 2, 3, 45, 257, 7, 202}) {
        CHECK_FALSE(std::binary_search(numbers.begin(), numbers.end(), frequent));
        CHECK(i386::syscall(frequent) == Sys::none);
    }
}
