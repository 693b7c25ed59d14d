// SPDX-License-Identifier: GPL-2.0-only
// Captures that begin with processes that were there before.
#include <stdexcept>
#include <string>
#include <vector>

#include "tests/native/perf_text.hpp"

using namespace rmapreplay;
using namespace perf_text;

namespace {

struct Adopted {
    i32 pid;
    std::vector<i32> tids;
    i32 mm_of = 0;
};
Parsed parse_with(const std::vector<Adopted>& processes, const std::string& text) {
    PerfParser parser;
    for (const Adopted& process : processes) {
        parser.adopt(process.pid, process.tids, process.mm_of);
    }
    return parse(parser, text);
}

}  // namespace

TEST_CASE("adopt: events count from the first, of all threads; exits are known") {
    const Parsed parsed = parse_with(
        {{7, {7, 8}}}, fault(10, 7, 8, "0x5000", "0x6") + fault(11, 9, 9, "0x5000", "0x6") +
                           exits(12, 7, 8) + exits(13, 7, 7) + exit_mmap(14, 7, 7));
    CHECK(parsed.rows ==
          "12000000010 fault 7/8 addr=0x5000 write=1 source=user present=0\n"
          "12000000012 exit 7/8\n"
          "12000000013 exit 7/7\n"
          "12000000014 exit_mmap 7/7\n");
    CHECK(parsed.stats.dropped["before_first_exec"] == u64{1});
    CHECK(parsed.stats.processes_alive == u64{0});
    CHECK(parse_with({{7, {7, 8}}, {9, {9}}}, exits(12, 9, 9)).stats.processes_alive == u64{1});
}

TEST_CASE("adopt: a call entered before the capture is no error, but only one of each thread") {
    const Parsed parsed = parse_with(
        {{7, {7, 8, 9}}}, fault(9, 7, 7, "0x5000", "0x6") + leave(10, 7, 7, 11, "0") +  //
                              leave(11, 7, 7, 11, "0") +  // nobody entered it
                              enter(12, 7, 8, 12, "0, 0, 0, 0, 0, 0") +
                              leave(13, 7, 8, 12, "4096") + leave(14, 7, 8, 9, "65536") +
                              new_task(15, 7, 10, "3d0f00") + leave(16, 7, 10, 9, "65536"));
    CHECK(parsed.rows ==
          "12000000009 fault 7/7 addr=0x5000 write=1 source=user present=0\n"
          "12000000012 brk 7/8 addr=0x1000\n"
          "12000000015 fork 7/7 flags=0x3d0f00 child=7 child_tid=10\n");
    CHECK(parsed.stats.dropped["entered_before_capture"] == u64{1});
    CHECK(parsed.stats.unmatched_exits == u64{3});
}

TEST_CASE("adopt: an exec and a vfork that were under way when the capture began") {
    const Parsed parsed =
        parse_with({{7, {7}}, {8, {8}, 7}},
                   at(10, 8, 8, "PERF_RECORD_COMM exec: b:8/8") +
                       mmap2(11, 8, 8, "[0x10000(0x4000) @ 0 fe:00 5 0]: r--p /bin/b") +
                       at(12, 8, 8, "sched:sched_process_exec: filename=/bin/b pid=8 old_pid=8") +
                       leave(13, 8, 8, 59, "0") + leave(14, 7, 7, 58, "8") + exits(15, 8, 8) +
                       exit_mmap(16, 8, 8) + exits(17, 7, 7) + exit_mmap(18, 7, 7));
    CHECK(parsed.rows ==
          "12000000010 exec 8/8 path=/bin/b\n"
          "12000000011 mapping 8/8 addr=0x10000 len=0x4000 offset=0x0 flags=0x2 prot=1 file=1 "
          "path=/bin/b\n"
          "12000000015 exit 8/8\n"
          "12000000016 exit_mmap 8/8\n"
          "12000000017 exit 7/7\n"
          "12000000018 exit_mmap 7/7\n");
    CHECK(parsed.stats.dropped["entered_before_capture"] == u64{2});
    CHECK(parsed.stats.dropped["enter_of_exec"] == u64{0});
    CHECK(parsed.stats.unmatched_exits == u64{0});
}

TEST_CASE("adopt: processes that share an address space end it once, with the last") {
    const std::string text = exits(10, 7, 7) + exit_mmap(11, 9, 9) +
                             fault(12, 9, 9, "0x5000", "0x4") + exits(13, 8, 8) +
                             exit_mmap(14, 8, 8);
    // 9 held an address space to its end that nobody of the trace has lost yet.
    const Parsed shared = parse_with({{7, {7}}, {8, {8}, 7}, {9, {9}}}, text);
    CHECK(shared.rows ==
          "12000000010 exit 7/7\n"
          "12000000012 fault 9/9 addr=0x5000 write=0 source=user present=0\n"
          "12000000013 exit 8/8\n"
          "12000000014 exit_mmap 8/8\n");
    CHECK(shared.stats.dropped["exit_mmap_of_unknown_process"] == u64{1});
    const Parsed apart = parse_with({{7, {7}}, {8, {8}}, {9, {9}}}, text);
    CHECK(apart.stats.dropped["exit_mmap_of_unknown_process"] == u64{0});
}

TEST_CASE("adopt: threads live on after their leader, and one of them execs") {
    const Parsed parsed =
        parse_with({{7, {8, 9}}},
                   fault(10, 7, 8, "0x5000", "0x6") + exits(11, 7, 9) +
                       enter(12, 7, 8, 59, "1, 2, 3, 4, 5, 6") + exit_mmap(13, 7, 7) +
                       at(14, 7, 7, "PERF_RECORD_COMM exec: b:7/7") +
                       at(15, 7, 7, "sched:sched_process_exec: filename=/bin/b pid=7 old_pid=8") +
                       leave(16, 7, 7, 59, "0") + exits(17, 7, 7) + exit_mmap(18, 7, 7));
    CHECK(parsed.rows ==
          "12000000010 fault 7/8 addr=0x5000 write=1 source=user present=0\n"
          "12000000011 exit 7/9\n"
          "12000000013 exit_mmap 7/7\n"
          "12000000014 exec 7/7 path=/bin/b\n"
          "12000000017 exit 7/7\n"
          "12000000018 exit_mmap 7/7\n");
    CHECK(parsed.stats.processes_alive == u64{0});
    CHECK(parsed.stats.unmatched_enters == u64{0});
}

TEST_CASE("adopt: what perf makes up for processes that are there makes no rows") {
    const std::string synthesized =
        "     7/7     [000] 0.000000000: PERF_RECORD_COMM: a:7/7\n"
        "     7/7     [000] 0.000000000: PERF_RECORD_FORK(7:8):(7:7)\n"
        "     7/8     [000] 0.000000000: PERF_RECORD_COMM: b:7/8\n"
        "     7/7     [000] 0.000000000: PERF_RECORD_MMAP2 7/7: [0x5000(0x1000) @ 0 fe:00 5 0]: "
        "r-xp /bin/a\n"
        "     7/7     [000] 0.000000000: PERF_RECORD_MMAP2 7/7: [0(0x1000) @ 0 00:00 0 0]: "
        "rw-p //anon\n";
    const Parsed parsed = parse_with({{7, {7, 8}}}, synthesized + leave(10, 7, 7, 9, "20480"));
    CHECK(parsed.rows == "");
    CHECK(parsed.mapped == "");
    CHECK(parsed.stats.dropped["entered_before_capture"] == u64{1});
}

TEST_CASE("adopt: a fork of an adopted process is one like any other, shm and all") {
    PerfParser parser;
    parser.adopt(7, std::vector<i32>{7});
    parser.adopt_shm(7, 0x20000, 0x4000);
    const Parsed parsed =
        parse(parser, new_task(10, 7, 8, "1200000") + enter(11, 8, 8, 67, "20000, 0, 0, 0, 0, 0") +
                          leave(12, 8, 8, 67, "0"));
    CHECK(parsed.rows ==
          "12000000010 fork 7/7 flags=0x1200000 child=8 child_tid=8\n"
          "12000000011 munmap 8/8 addr=0x20000 len=0x4000\n");
}

TEST_CASE("adopt: file numbers begin behind those that a snapshot took") {
    PerfParser parser;
    parser.adopt(7, std::vector<i32>{7});
    parser.first_file(40);
    const std::string file = " fe:00 11 22]: r--p /lib/a.so";
    const Parsed parsed =
        parse(parser, enter(10, 7, 7, 9, "0, 1000, 1, 2, 3, 0") +
                          mmap2(11, 7, 7, "[0x10000(0x1000) @ 0" + file) +
                          leave(12, 7, 7, 9, "65536") + enter(13, 7, 7, 59, "1, 2, 3, 4, 5, 6") +
                          at(14, 7, 7, "PERF_RECORD_COMM exec: b:7/7") +
                          mmap2(15, 7, 7, "[0x10000(0x1000) @ 0" + file));
    CHECK(parsed.rows ==
          "12000000012 mmap 7/7 addr=0x10000 len=0x1000 flags=0x2 prot=1 fd=3 file=40 "
          "path=/lib/a.so\n"
          "12000000014 exec 7/7\n"
          "12000000015 mapping 7/7 addr=0x10000 len=0x1000 offset=0x0 flags=0x2 prot=1 file=41 "
          "path=/lib/a.so\n");
}

TEST_CASE("adopt: what cannot be is refused") {
    PerfParser parser;
    parser.adopt(7, std::vector<i32>{7});
    CHECK_THROWS_AS(parser.adopt(7, std::vector<i32>{7}), std::invalid_argument);
    CHECK_THROWS_AS(parser.adopt(8, std::vector<i32>{}), std::invalid_argument);
    CHECK_THROWS_AS(parser.adopt(8, std::vector<i32>{8}, 9), std::invalid_argument);
    CHECK_THROWS_AS(parser.adopt_shm(8, 0x1000, 0x1000), std::invalid_argument);
}

TEST_CASE("the calls to record are those that importers know by name, each once") {
    i64 last = -1;
    for (const Sys sys : recorded_syscalls()) {
        CHECK(static_cast<i64>(sys) > last);
        last = static_cast<i64>(sys);
        CHECK(syscall_by_name(syscall_name(sys)) == sys);
    }
    CHECK(last > 0);
}
