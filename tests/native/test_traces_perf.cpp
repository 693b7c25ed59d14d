// SPDX-License-Identifier: GPL-2.0-only
#include <string>

#include "tests/native/damage.hpp"
#include "tests/native/perf_text.hpp"

using namespace rmapreplay;
using namespace perf_text;

TEST_CASE("perf: an exec makes a process known; what came before is dropped and counted") {
    const Parsed parsed =
        parse(fault(0, 7, 7, "0x1000", "0x6") + enter(0, 7, 7, 12, "0, 0, 0, 0, 0, 0") +
              leave(0, 7, 7, 12, "4096") + start() + fault(5, 8, 8, "0x1000", "0x6"));
    CHECK(parsed.rows == kStarted);
    CHECK(parsed.stats.dropped["before_first_exec"] == u64{4});
    CHECK(parsed.stats.unmatched_exits == u64{0});
    CHECK(parsed.stats.lines == u64{8});
    CHECK(parsed.stats.processes_alive == u64{1});
}

TEST_CASE("perf: faults are rounded to their page, with write and present from the error code") {
    CHECK(rows_after_start(fault(10, 7, 7, "0x7fff12345678", "0x7") +
                           fault(11, 7, 9, "0xfff", "0x14") +
                           fault(12, 7, 7, "0x2010", "0x2", "kernel")) ==
          "12000000010 fault 7/7 addr=0x7fff12345000 write=1 source=user present=1\n"
          "12000000011 fault 7/9 addr=0x0 write=0 source=user present=0\n"
          "12000000012 fault 7/7 addr=0x2000 write=1 source=kernel present=0\n");
}

TEST_CASE("perf: a fault on a kernel address is no mapping's") {
    const Parsed parsed = parse(start() + fault(9, 7, 7, "0xffffffffff600000", "0x15"));
    CHECK(parsed.rows == kStarted);
    CHECK(parsed.stats.dropped["fault_on_kernel_address"] == u64{1});
}

TEST_CASE("perf: of the two exceptions by which a page of a signal's frame comes, one is a fault") {
    const auto frame = [](int ns, int tid, const char* addr, const char* ip) {
        return fault(ns, 7, tid, addr, "0x2", "kernel", ip);
    };
    const char* const writes = "copy_fpstate_to_sigframe";
    std::string text = start();
    text += frame(10, 7, "0x2140", writes);  // clears a part of it
    text += frame(11, 7, "0x1f40", writes);  // with page faults disabled
    text += frame(12, 9, "0x1f00", "elf_load");  // another task's
    text += frame(13, 7, "0x1f40", writes);      // clears the rest
    text += frame(14, 7, "0x3f40", writes);
    text += frame(15, 7, "0x3f40", "__clear_user");  // not inlined
    text += frame(16, 7, "0x3f40", "__clear_user");
    text += frame(17, 7, "0x5140", writes);
    text += fault(18, 7, 7, "0x6000", "0x6");
    text += frame(19, 7, "0x5140", writes);  // the next frame
    text += frame(20, 7, "0x0", "strncpy_from_user");
    const Parsed parsed = parse(text);
    std::string expected = kStarted;
    const auto row = [&](const char* ns, const char* task, const char* addr,
                         const char* source = "kernel") {
        expected += std::string("120000000") + ns + " fault " + task + " addr=" + addr +
                    " write=1 source=" + source + " present=0\n";
    };
    row("10", "7/7", "0x2000");
    row("11", "7/7", "0x1000");
    row("12", "7/9", "0x1000");
    row("14", "7/7", "0x3000");
    row("16", "7/7", "0x3000");
    row("17", "7/7", "0x5000");
    row("18", "7/7", "0x6000", "user");
    row("19", "7/7", "0x5000");
    row("20", "7/7", "0x0");
    CHECK(parsed.rows == expected);
    CHECK(parsed.stats.dropped["fault_of_signal_frame"] == u64{2});
}

TEST_CASE("perf: munmap stands where it was entered, mmap where it returned") {
    CHECK(rows_after_start(enter(10, 7, 7, 11, "5000, 1000, 0, 0, 0, 0") +
                           enter(11, 7, 8, 9, "0, 2000, 3, 22, ffffffff, 0") +
                           fault(12, 7, 9, "0x9000", "0x6") + leave(13, 7, 8, 9, "20480") +
                           leave(14, 7, 7, 11, "0")) ==
          "12000000010 munmap 7/7 addr=0x5000 len=0x1000\n"
          "12000000012 fault 7/9 addr=0x9000 write=1 source=user present=0\n"
          "12000000013 mmap 7/8 addr=0x5000 len=0x2000 flags=0x22 prot=3\n");
}

TEST_CASE("perf: a file is told by what MMAP2 reports between enter and exit, and by descriptor") {
    const auto map = [](int ns, const char* fd, const char* ret, const std::string& reported) {
        return enter(ns, 7, 7, 9, std::string("0, 1800, 1, 2, ") + fd + ", 3000") +
               mmap2(ns + 1, 7, 7, reported) + leave(ns + 2, 7, 7, 9, ret);
    };
    const std::string a = " fe:00 11 22]: r--p /lib/a b.so";
    CHECK(rows_after_start(map(10, "3", "65536", "[0x10000(0x2000) @ 0x3000" + a) +
                           map(20, "4", "131072", "[0x20000(0x2000) @ 0x3000" + a) +
                           // merged with what was there, so it starts earlier
                           map(30, "3", "69632", "[0x10000(0x3000) @ 0x3000" + a)) ==
          "12000000012 mmap 7/7 addr=0x10000 len=0x1800 offset=0x3000 flags=0x2 prot=1 fd=3 file=1 "
          "path=/lib/a b.so\n"
          "12000000022 mmap 7/7 addr=0x20000 len=0x1800 offset=0x3000 flags=0x2 prot=1 fd=4 file=2 "
          "path=/lib/a b.so\n"
          "12000000032 mmap 7/7 addr=0x11000 len=0x1800 offset=0x3000 flags=0x2 prot=1 fd=3 file=1 "
          "path=/lib/a b.so\n");
}

TEST_CASE("perf: without MMAP2 a file is told by its descriptor, and that is counted") {
    const Parsed parsed =
        parse(start() + enter(10, 7, 7, 9, "0, 1000, 0, 2, 5, 0") + leave(11, 7, 7, 9, "65536"));
    CHECK(parsed.rows ==
          kStarted + "12000000011 mmap 7/7 addr=0x10000 len=0x1000 flags=0x2 prot=0 fd=5 file=1\n");
    CHECK(parsed.stats.dropped["inode_of_mmap"] == u64{1});
}

TEST_CASE("perf: failed calls are dropped and counted, unless they had effects") {
    const auto call = [](int ns, int nr, const char* args, const char* result) {
        return enter(ns, 7, 7, nr, args) + leave(ns + 1, 7, 7, nr, result);
    };
    const Parsed parsed = parse(start() + call(10, 11, "1, 1000, 0, 0, 0, 0", "-22") +
                                call(20, 10, "5000, 2000, 1, 0, 0, 0", "-12") +
                                call(30, 28, "5000, 2000, 17, 0, 0, 0", "-14") +
                                call(40, 9, "0, 200000, 3, 40021, ffffffff, 0", "-12") +
                                call(50, 9, "0, 200000, 3, 22, ffffffff, 0", "-12") +
                                call(52, 9, "0, 400000, 3, 40022, ffffffff, 0", "-12") +
                                call(54, 9, "0, 400000, 3, 40021, ffffffff, 0", "-22") +
                                call(60, 150, "ffff800000000000, 1000, 0, 0, 0, 0", "-12"));
    CHECK(parsed.rows ==
          kStarted +
              "12000000020 mprotect 7/7 addr=0x5000 len=0x2000 prot=1 error=12\n"
              "12000000030 madvise 7/7 addr=0x5000 len=0x2000 advice=23 error=14\n"
              "12000000041 mmap 7/7 addr=0x0 len=0x200000 flags=0x40021 prot=3 error=12\n"
              "12000000053 mmap 7/7 addr=0x0 len=0x400000 flags=0x40022 prot=3 error=12\n");
    CHECK(parsed.stats.dropped["failed_munmap_EINVAL"] == u64{1});
    CHECK(parsed.stats.dropped["failed_mmap_EINVAL"] == u64{1});
    CHECK(parsed.stats.dropped["failed_mmap_ENOMEM"] == u64{1});
    CHECK(parsed.stats.dropped["address_beyond_user_space"] == u64{1});
}

TEST_CASE("perf: the rest of the calls that change mappings") {
    const auto call = [](int ns, int nr, const char* args, const char* result) {
        return enter(ns, 7, 7, nr, args) + leave(ns + 1, 7, 7, nr, result);
    };
    CHECK(
        rows_after_start(
            call(10, 25, "5000, 1000, 3000, 1, 0, 0", "36864") +
            call(12, 12, "0, 0, 0, 0, 0, 0", "8192") +
            call(14, 149, "5000, 1000, 7, 0, 0, 0", "0") +
            call(16, 325, "5000, 1000, 1, 0, 0, 0", "0") + call(18, 151, "3, 0, 0, 0, 0, 0", "0") +
            call(20, 152, "0, 0, 0, 0, 0, 0", "0") + call(22, 329, "5000, 1000, 3, 1, 0, 0", "0") +
            call(24, 237, "5000, 1000, 2, 7f00, 3, 1", "0") +
            call(25, 462, "5000, 1000, 0, 0, 0, 0", "0") +
            call(26, 157, "53564d41, 0, 5000, 1000, 6000, 0", "0") +
            call(28, 157, "29, 1, 0, 0, 0, 0", "0") + call(30, 157, "f, 6000, 0, 0, 0, 0", "0")) ==
        "12000000010 mremap 7/7 addr=0x5000 len=0x1000 new_addr=0x9000 new_len=0x3000 flags=0x1\n"
        "12000000012 brk 7/7 addr=0x2000\n"
        "12000000014 mlock 7/7 addr=0x5000 len=0x1000\n"
        "12000000016 mlock 7/7 addr=0x5000 len=0x1000 flags=0x1\n"
        "12000000018 mlockall 7/7 flags=0x3\n"
        "12000000020 munlockall 7/7\n"
        "12000000022 mprotect 7/7 addr=0x5000 len=0x1000 prot=3\n"
        "12000000024 mbind 7/7 addr=0x5000 len=0x1000 flags=0x1 advice=2\n"
        "12000000025 mseal 7/7 addr=0x5000 len=0x1000\n"
        "12000000026 prctl 7/7 addr=0x5000 len=0x1000 new_addr=0x6000 flags=0x53564d41\n"
        "12000000028 prctl 7/7 addr=0x1 flags=0x29\n");
}

TEST_CASE("perf: shmat maps a file of its own, shmdt unmaps what it mapped, also in a child") {
    const std::string seg = "[0x20000(0x4000) @ 0 00:01 5 0]: rw-s /SYSV00000000 (deleted)";
    const Parsed parsed =
        parse(start() + enter(10, 7, 7, 30, "0, 0, 1000, 0, 0, 0") + mmap2(11, 7, 7, seg) +
              leave(12, 7, 7, 30, "131072") +
              at(13, 7, 7, "task:task_newtask: pid=8 comm=x clone_flags=1200000 oom_score_adj=0") +
              enter(14, 8, 8, 67, "20000, 0, 0, 0, 0, 0") + leave(15, 8, 8, 67, "0") +
              enter(16, 7, 7, 67, "30000, 0, 0, 0, 0, 0") + leave(17, 7, 7, 67, "0"));
    CHECK(parsed.rows == kStarted +
                             "12000000012 mmap 7/7 addr=0x20000 len=0x4000 flags=0x1 prot=1 file=1 "
                             "path=/SYSV00000000 (deleted)\n"
                             "12000000013 fork 7/7 flags=0x1200000 child=8 child_tid=8\n"
                             "12000000014 munmap 8/8 addr=0x20000 len=0x4000\n");
    CHECK(parsed.stats.dropped["shmdt_of_unknown_length"] == u64{1});
}

TEST_CASE("perf: threads belong to their parent's group; exits are per task") {
    CHECK(
        rows_after_start(
            at(10, 7, 7,
               "task:task_newtask: pid=9 comm=a clone_flags=1 clone_flags=3d0f00 oom_score_adj=0") +
            at(11, 7, 9, "sched:sched_process_exit: comm=a b pid=9 prio=120 group_dead=false") +
            at(12, 7, 7, "mmap:exit_mmap: mt_mod 0xffff888118c5c500, DESTROY")) ==
        "12000000010 fork 7/7 flags=0x3d0f00 child=7 child_tid=9\n"
        "12000000011 exit 7/9\n"
        "12000000012 exit_mmap 7/7\n");
}

// ---- the end of an address space ----

TEST_CASE("perf: an exit_mmap belongs to the process that used the address space last") {
    // A vfork child shares its parent's until it execs or exits; whoever goes last ends it.
    CHECK(rows_after_start(new_task(10, 7, 8, "4100") + exec(11, 8, false) + exits(20, 7, 7) +
                           exit_mmap(21, 7, 7) + exits(22, 8, 8) + exit_mmap(23, 8, 8)) ==
          "12000000010 fork 7/7 flags=0x4100 child=8 child_tid=8\n"
          "12000000013 exec 8/8 path=/bin/b\n"
          "12000000020 exit 7/7\n"
          "12000000021 exit_mmap 7/7\n"
          "12000000022 exit 8/8\n"
          "12000000023 exit_mmap 8/8\n");
    CHECK(rows_after_start(new_task(10, 7, 8, "4100") + exits(20, 7, 7) + exec(21, 8, true)) ==
          "12000000010 fork 7/7 flags=0x4100 child=8 child_tid=8\n"
          "12000000020 exit 7/7\n"
          "12000000022 exit_mmap 8/8\n"
          "12000000023 exec 8/8 path=/bin/b\n");
}

TEST_CASE("perf: an address space that another task held to its end is its own process's") {
    const std::string forked = new_task(10, 7, 8, "1200000") + new_task(11, 7, 9, "1200000");
    const std::string rows =
        "12000000010 fork 7/7 flags=0x1200000 child=8 child_tid=8\n"
        "12000000011 fork 7/7 flags=0x1200000 child=9 child_tid=9\n";
    // 9 reads /proc/8/maps while 8 exits, and goes on.
    const Parsed reader =
        parse(start() + forked + exits(12, 8, 8) + exit_mmap(13, 9, 9) +
              enter(14, 9, 9, 12, "0, 0, 0, 0, 0, 0") + exits(15, 9, 9) + exit_mmap(16, 9, 9));
    CHECK(reader.rows == kStarted + rows +
                             "12000000012 exit 8/8\n"
                             "12000000013 exit_mmap 8/8\n"
                             "12000000015 exit 9/9\n"
                             "12000000016 exit_mmap 9/9\n");
    // The same after an exec: what 8 had before.
    CHECK(rows_after_start(forked + exec(12, 8, false) + exit_mmap(20, 9, 9) +
                           fault(21, 9, 9, "0x5000", "0x4")) ==
          rows +
              "12000000014 exec 8/8 path=/bin/b\n"
              "12000000020 exit_mmap 8/8\n"
              "12000000021 fault 9/9 addr=0x5000 write=0 source=user present=0\n");
    // Nobody of the trace has lost one.
    const Parsed unknown = parse(start() + forked + exit_mmap(13, 9, 9) +
                                 fault(14, 9, 9, "0x5000", "0x4") + exits(15, 8, 8));
    CHECK(unknown.rows.find("exit_mmap") == std::string::npos);
    CHECK(unknown.stats.dropped["exit_mmap_of_unknown_process"] == u64{1});
    CHECK(unknown.stats.dropped["exit_mmap_not_seen"] == u64{1});
}

TEST_CASE("perf: before Linux 6.16 exit_mmap came first; an exit still has its row before it") {
    CHECK(rows_after_start(new_task(10, 7, 8, "1200000") + exit_mmap(12, 8, 8) +
                           fault(13, 7, 7, "0x5000", "0x4") + exits(14, 8, 8)) ==
          "12000000010 fork 7/7 flags=0x1200000 child=8 child_tid=8\n"
          "12000000012 exit 8/8\n"
          "12000000012 exit_mmap 8/8\n"
          "12000000013 fault 7/7 addr=0x5000 write=0 source=user present=0\n");
}

// ---- what calls and faults are reported to have made ----

TEST_CASE("perf: a report carries the time and task of the row of its call") {
    const Parsed parsed =
        parse(start() + enter(10, 7, 7, 10, "10000, 1000, 1, 0, 0, 0") +  // mprotect
              enter(11, 7, 9, 9, "0, 1000, 3, 22, ffffffff, 0") +  // mmap
              mmap2(12, 7, 9, "[0x20000(0x3000) @ 0x20000 00:00 0 0]: rw-p //anon") +  // merged
              leave(13, 7, 9, 9, "131072") +  //
              mmap2(14, 7, 7, "[0x10000(0x1000) @ 0x10000 00:00 0 0]: r--p //anon") +  //
              mmap2(15, 7, 7, "[0x11000(0x1000) @ 0x11000 00:00 0 0]: r--p //anon") +  //
              leave(16, 7, 7, 10, "0") +  //
              enter(17, 7, 7, 12, "40000, 0, 0, 0, 0, 0") +  // brk
              mmap2(18, 7, 7, "[0x30000(0x10000) @ 0x30000 00:00 0 0]: rw-p [heap]") +  //
              leave(19, 7, 7, 12, "262144") +  //
              enter(20, 7, 7, 9, "0, 1000, 3, 22, ffffffff, 0") +  // failed
              mmap2(21, 7, 7, "[0x50000(0x1000) @ 0x50000 00:00 0 0]: rw-p //anon") +  //
              leave(22, 7, 7, 9, "-12") +  //
              mmap2(23, 7, 7, "[0x60000(0x1000) @ 0x60000 00:00 0 0]: r-xp [uprobes]"));
    CHECK(parsed.mapped ==
          "time=12000000010 pid=7 tid=7 start=0x10000 end=0x11000\n"
          "time=12000000010 pid=7 tid=7 start=0x11000 end=0x12000\n"
          "time=12000000013 pid=7 tid=9 start=0x20000 end=0x23000\n"
          "time=12000000017 pid=7 tid=7 start=0x30000 end=0x40000\n");
}

TEST_CASE("perf: a stack that grows is the last fault's, also inside a call; exec's are not told") {
    const Parsed parsed = parse(
        start() + fault(10, 7, 7, "0x7ffe0008", "0x6") + fault(11, 7, 9, "0x5000", "0x6") +
        mmap2(12, 7, 7, "[0x7ffe0000(0x4000) @ 0x7ffe0000 00:00 0 0]: rw-p [stack]") +
        enter(13, 7, 7, 237, "5000, 1000, 0, 7ffd0000, 1, 0") +
        fault(14, 7, 7, "0x7ffd0008", "0x4", "kernel") +
        mmap2(15, 7, 7, "[0x7ffd0000(0x14000) @ 0x7ffd0000 00:00 0 0]: rw-p [stack]") +
        leave(16, 7, 7, 237, "0") +
        mmap2(17, 7, 7, "[0x9000(0x1000) @ 0x9000 00:00 0 0]: rw-p //anon") +  // not where it was
        enter(18, 7, 7, 59, "1, 2, 3, 4, 5, 6") + at(19, 7, 7, "PERF_RECORD_COMM exec: b:7/7") +
        mmap2(20, 7, 7, "[0x10000(0x4000) @ 0 fe:00 5 0]: r--p /bin/sh") +
        at(21, 7, 7, "sched:sched_process_exec: filename=/bin/sh pid=7 old_pid=7") +
        leave(22, 7, 7, 59, "0"));
    CHECK(parsed.mapped ==
          "time=12000000010 pid=7 tid=7 start=0x7ffe0000 end=0x7ffe4000\n"
          "time=12000000014 pid=7 tid=7 start=0x7ffd0000 end=0x7ffe4000\n");
}

TEST_CASE("perf: a task killed inside a call takes the call with it") {
    const Parsed parsed = parse(start() + enter(10, 7, 8, 11, "5000, 1000, 0, 0, 0, 0") +
                                fault(11, 7, 7, "0x9000", "0x4") +
                                at(12, 7, 8, "sched:sched_process_exit: comm=a pid=8 prio=120"));
    CHECK(parsed.rows == kStarted +
                             "12000000011 fault 7/7 addr=0x9000 write=0 source=user present=0\n"
                             "12000000012 exit 7/8\n");
    CHECK(parsed.stats.dropped["killed_in_syscall"] == u64{1});
}

TEST_CASE("perf: calls without their other half are counted") {
    const Parsed parsed = parse(
        start() + leave(10, 7, 7, 11, "0") +  // entered before the capture
        enter(11, 7, 7, 11, "5000, 1000, 0, 0, 0, 0") + enter(12, 7, 7, 12, "0, 0, 0, 0, 0, 0") +
        leave(13, 7, 7, 12, "4096") + leave(14, 7, 8, 56, "0") +  // a new task's return from clone
        enter(15, 7, 7, 10, "5000, 1000, 1, 0, 0, 0"));
    CHECK(parsed.rows == kStarted + "12000000012 brk 7/7 addr=0x1000\n");
    CHECK(parsed.stats.unmatched_exits == u64{1});
    CHECK(parsed.stats.unmatched_enters == u64{2});
}

TEST_CASE("perf: in an exec the old address space goes first, then the new one's mappings come") {
    const std::string image = " fe:00 5 0]: ";
    const Parsed parsed = parse(
        start() + enter(10, 7, 7, 59, "1, 2, 3, 4, 5, 6") +
        mmap2(11, 7, 7, "[0x7ffffffdd000(0x22000) @ 0x7ffffffdd000 00:00 0 0]: rw-p //anon") +
        fault(12, 7, 7, "0x1000", "0x4", "kernel") +
        at(13, 7, 7, "mmap:exit_mmap: mt_mod 0xffff888118c5c500, DESTROY") +
        at(14, 7, 7, "PERF_RECORD_COMM exec: sh:7/7") +
        mmap2(15, 7, 7, "[0x7fff85b24000(0x21000) @ 0x7ffffffde000 00:00 0 0]: rw-p [stack]") +
        mmap2(16, 7, 7, "[0x10000(0x14000) @ 0" + image + "r--p /bin/sh") +
        mmap2(17, 7, 7, "[0x12000(0xc000) @ 0x2000" + image + "r-xp /bin/sh") +
        mmap2(18, 7, 7, "[0x1e000(0x4000) @ 0xe000" + image + "rw-p /bin/sh") +
        fault(19, 7, 7, "0x1f764", "0x2", "kernel") +
        mmap2(20, 7, 7, "[0x22000(0xb000) @ 0x22000 00:00 0 0]: rw-p //anon") +
        mmap2(21, 7, 7, "[0x7f0000000000(0x2000) @ 0 00:00 0 0]: r-xp [vdso]") +
        at(22, 7, 7, "sched:sched_process_exec: filename=/bin/sh pid=7 old_pid=7") +
        leave(23, 7, 7, 59, "0"));
    CHECK(parsed.rows ==
          kStarted +
              "12000000012 fault 7/7 addr=0x1000 write=0 source=kernel present=0\n"
              "12000000013 exit_mmap 7/7\n"
              "12000000014 exec 7/7 path=/bin/sh\n"
              "12000000014 mapping 7/7 addr=0x7ffffffdd000 len=0x22000 "
              "offset=0x7ffffffdd000 flags=0x122 prot=3\n"
              "12000000015 mapping 7/7 addr=0x7fff85b24000 len=0x21000 "
              "offset=0x7ffffffde000 flags=0x122 prot=3 path=[stack]\n"
              "12000000016 mapping 7/7 addr=0x10000 len=0x14000 offset=0x0 flags=0x2 prot=1 "
              "file=1 path=/bin/sh\n"
              "12000000017 munmap 7/7 addr=0x12000 len=0x12000\n"
              "12000000017 mapping 7/7 addr=0x12000 len=0xc000 offset=0x2000 flags=0x2 "
              "prot=5 file=1 path=/bin/sh\n"
              "12000000018 mapping 7/7 addr=0x1e000 len=0x4000 offset=0xe000 flags=0x2 "
              "prot=3 file=1 path=/bin/sh\n"
              "12000000019 fault 7/7 addr=0x1f000 write=1 source=kernel present=0\n"
              "12000000020 mapping 7/7 addr=0x22000 len=0xb000 offset=0x22000 flags=0x22 "
              "prot=3\n"
              "12000000021 mapping 7/7 addr=0x7f0000000000 len=0x2000 offset=0x0 "
              "flags=0x22 prot=5 path=[vdso]\n");
}

TEST_CASE("perf: a failed exec frees an address space that nobody saw") {
    const Parsed parsed =
        parse(start() + enter(10, 7, 7, 59, "1, 2, 3, 4, 5, 6") +
              at(11, 7, 7, "mmap:exit_mmap: mt_mod 0xffff888118c5c500, DESTROY") +
              leave(12, 7, 7, 59, "-8") + enter(13, 7, 7, 59, "1, 2, 3, 4, 5, 6") +
              leave(14, 7, 7, 59, "-2"));
    CHECK(parsed.rows == kStarted);
    CHECK(parsed.stats.dropped["failed_execve_ENOEXEC"] == u64{1});
    CHECK(parsed.stats.dropped["failed_execve_ENOENT"] == u64{1});
    CHECK(parsed.stats.dropped["exit_mmap_of_failed_exec"] == u64{1});
}

TEST_CASE("perf: a thread that execs takes over the tid of the leader") {
    CHECK(rows_after_start(
              at(9, 7, 7, "task:task_newtask: pid=8 comm=a clone_flags=3d0f00 oom_score_adj=0") +
              enter(10, 7, 8, 59, "1, 2, 3, 4, 5, 6") +
              at(11, 7, 7, "sched:sched_process_exit: comm=a pid=7 prio=120") +
              at(12, 7, 7, "mmap:exit_mmap: mt_mod 0xffff888118c5c500, DESTROY") +
              at(13, 7, 7, "PERF_RECORD_COMM exec: sh:7/7") +
              mmap2(15, 7, 7, "[0x10000(0x4000) @ 0 fe:00 5 0]: r--p /bin/sh") +
              at(16, 7, 7, "sched:sched_process_exec: filename=/bin/sh pid=7 old_pid=8") +
              leave(17, 7, 7, 59, "0") + enter(18, 7, 7, 12, "0, 0, 0, 0, 0, 0") +
              leave(19, 7, 7, 12, "4096")) ==
          "12000000009 fork 7/7 flags=0x3d0f00 child=7 child_tid=8\n"
          "12000000011 exit 7/7\n"
          "12000000012 exit_mmap 7/7\n"
          "12000000013 exec 7/7 path=/bin/sh\n"
          "12000000015 mapping 7/7 addr=0x10000 len=0x4000 offset=0x0 flags=0x2 prot=1 file=1 "
          "path=/bin/sh\n"
          "12000000018 brk 7/7 addr=0x1000\n");
}

TEST_CASE("perf: losses, unknown events and damaged lines are counted, not fatal") {
    const Parsed parsed =
        parse(start() + at(10, 7, 7, "PERF_RECORD_LOST lost 17") +
              at(11, 7, 7, "PERF_RECORD_LOST_SAMPLES lost 5") +
              at(12, 7, 7, "kmem:rss_stat: mm_id=1 curr=1 type=MM_ANONPAGES size=4096B") +
              "nonsense\n" + at(13, 7, 7, "raw_syscalls:sys_enter: NR x") + "# comment\n\n");
    CHECK(parsed.stats.lost == u64{22});
    CHECK(parsed.stats.dropped["event_kmem:rss_stat"] == u64{1});
    CHECK(parsed.stats.dropped["malformed_line"] == u64{2});
    CHECK(parsed.stats.events["PERF_RECORD_LOST"] == u64{1});
}

TEST_CASE("perf: a comm in front of the pid is tolerated, even one with spaces and digits") {
    PerfLine line;
    REQUIRE(parse_perf_line("GC Thread#0 12 722/741 [001] 3.5: a:b: x=1", line));
    CHECK(line.task.pid == 722);
    CHECK(line.task.tid == 741);
    CHECK(line.time == i64{3500000000});
    CHECK(line.event == std::string_view("a:b"));
    CHECK(line.body == std::string_view("x=1"));
    CHECK_FALSE(parse_perf_line("java 722 [001] 3.5: a:b: x=1", line));
}

TEST_CASE("perf: text may be cut anywhere") {
    const std::string text = start() + enter(10, 7, 7, 9, "0, 2000, 3, 22, ffffffff, 0") +
                             leave(11, 7, 7, 9, "65536") +
                             "  7/7   [001] 12.000000012: exceptions:page_fault_user: "
                             "address=0x10008 ip=0x1 error_code=0x6";
    const std::string whole = parse(text).rows;
    CHECK(whole == kStarted +
                       "12000000011 mmap 7/7 addr=0x10000 len=0x2000 flags=0x22 prot=3\n"
                       "12000000012 fault 7/7 addr=0x10000 write=1 source=user present=0\n");
    for (std::size_t chunk = 1; chunk < text.size(); ++chunk) {
        if (parse(text, chunk).rows != whole) {
            CHECK(chunk == std::size_t{0});  // shows the size that failed
        }
    }
}

TEST_CASE("perf: damaged text never breaks the parser") {
    const std::string text =
        start() + mmap2(9, 7, 7, "[0x10000(0x3000) @ 0x3000 fe:00 11 22]: r--p /lib/a b.so") +
        enter(10, 7, 7, 9, "0, 2000, 3, 22, ffffffff, 0") + leave(11, 7, 7, 9, "65536") +
        at(12, 7, 7, "task:task_newtask: pid=8 comm=x clone_flags=1200000 oom_score_adj=0") +
        fault(13, 8, 8, "0x10008", "0x6") +
        mmap2(13, 8, 8, "[0x10000(0x4000) @ 0x10000 00:00 0 0]: rw-p [stack]") +
        enter(14, 7, 7, 10, "10000, 1000, 1, 0, 0, 0") +
        mmap2(15, 7, 7, "[0x10000(0x1000) @ 0x10000 00:00 0 0]: r--p //anon") +
        leave(16, 7, 7, 10, "0") + enter(16, 7, 7, 57, "0, 0, 0, 0, 0, 0") + locked(16, 7, 7) +
        locked(16, 7, 7, "0xff20") + enter(16, 8, 8, 11, "0, 1000, 0, 0, 0, 0") +
        locked(16, 8, 8, "0xff20") + leave(16, 8, 8, 11, "0") + fault(16, 8, 8, "0x5000", "0x6") +
        read_locked(16, 8, 8, "0xff20") + new_task(17, 7, 9, "4100") + exec(18, 9, true) +
        exit_mmap(24, 8, 8) + exits(25, 8, 8) + exit_mmap(26, 9, 9) +
        fault(27, 9, 9, "0x1000", "0x6") + exits(28, 9, 9) + exit_mmap(29, 9, 9);
    Damage damage;
    u64 lines = 0;
    for (int round = 0; round < 3000; ++round) {
        lines += parse(damage(text), 1 + damage.random(200)).stats.lines;
    }
    CHECK(lines > u64{3000} * 20);
}
