// SPDX-License-Identifier: GPL-2.0-only
#include "tests/native/check.hpp"
#include "tests/native/tracefs_text.hpp"

using namespace tracefs_text;

namespace {

std::string rows_after_start(const std::string& text) {
    const std::string rows = parse(start() + text).rows;
    REQUIRE(rows.starts_with(kStarted));
    return rows.substr(kStarted.size());
}

}  // namespace

// ---- lines ----

TEST_CASE("the head of a line: any comm, optional columns, two kinds of clock") {
    TracefsLine line;
    REQUIRE(parse_tracefs_line("     a-1 [00] b:-77      [001] .l.1.           20: fault: (f) x=1",
                               line));
    CHECK(line.tid == 77);
    CHECK(line.time == i64{20});
    CHECK(line.event == "fault");
    CHECK(line.body == " (f) x=1");
    REQUIRE(parse_tracefs_line(
        "            bash-77      (     77) [001] d...2    12.345678: sys_brk(brk: 0)", line));
    CHECK(line.time == i64{12'345'678'000});
    CHECK(line.event == "sys_brk");
    CHECK(line.body == "(brk: 0)");
    REQUIRE(parse_tracefs_line("            bash-77      [001]    12: sys_brk -> 0x5", line));
    CHECK(line.body == " -> 0x5");
    CHECK(!parse_tracefs_line("            bash-77      [001] .....", line));
    CHECK(!parse_tracefs_line("bash-77 [001] .....  12: fault: x", line));
    CHECK(!parse_tracefs_line("", line));
}

TEST_CASE("fields are found by name, in any order, and a missing one is noticed") {
    Fields fields(" (f) mm=0xff11 vma=0x2 ret=-1 n=12");
    CHECK(fields.number(" vma=") == u64{2});
    CHECK(fields.number(" mm=") == u64{0xff11});
    CHECK(fields.number(" n=") == u64{12});
    CHECK(fields.number(" ret=") == ~u64{0});
    CHECK(fields.ok());
    CHECK(fields.number(" a=") == u64{0});
    CHECK(!fields.ok());
}

TEST_CASE("arguments of system calls are hexadecimal, with 0x or, in Linux 6.12, without") {
    for (const char* text :
         {"(addr: 0x7f10, len: 0x2000, prot: 3, file: 0x1f0 \"a, b\", off: 0x12)",
          "(addr: 7f10, len: 2000, prot: 3, file: 1f0, off: 12)"}) {
        Call call;
        REQUIRE(parse_syscall_arguments(text, call));
        CHECK(call.args == std::array<u64, 6>{0x7f10, 0x2000, 3, 0x1f0, 0x12, 0});
    }
}

TEST_CASE("lines that do not parse, unknown events and lost events are counted") {
    const Parsed parsed =
        parse("# entries-in-buffer/entries-written: 30/37   #P:1\nCPU:1 [LOST 5 EVENTS]\nwhat\n" +
              at(1, 5, "irq_handler_entry: irq=1 name=timer") + event(2, 5, "fault", "mm=zzz"));
    CHECK(parsed.rows == "");
    CHECK(parsed.stats.lost == u64{12});
    CHECK(parsed.stats.dropped["malformed_line"] == u64{2});
    CHECK(parsed.stats.dropped["event_irq_handler_entry"] == u64{1});
    CHECK(parsed.stats.dropped["root_process_not_seen"] == u64{1});
}

// ---- processes ----

TEST_CASE("the trace begins with the root's exec and leaves out whom it does not descend from") {
    const Parsed parsed =
        parse(new_task(0, 1, 5, "1200000") + fault(0, 5, "0x99", "0x5000", "0x40") + start() +
              fault(10, 7, "0xa1", "0x5123", "0x41") + fault(12, 5, "0x99", "0x5000", "0x40"));
    CHECK(parsed.rows == kStarted + "10 fault 7/7 addr=0x5000 write=1 source=user\n");
    CHECK(parsed.stats.dropped["other_process"] == u64{3});
    CHECK(parsed.stats.dropped["before_first_exec"] == u64{1});  // the entry of its execve
    CHECK(parsed.stats.processes_alive == u64{1});
}

TEST_CASE("what the launcher makes after the root is not the workload") {
    CHECK(rows_after_start(new_task(10, 5, 8, "1200000") + exec_from(11, 8, "0xa2") +
                           exec_to(13, 8)) == "");
}

TEST_CASE("forks, threads, and exits with and without the last task") {
    CHECK(rows_after_start(fork(10, 7, 8, "0xa2") + new_task(13, 7, 9, "3d0f00") +
                           at(14, 9, "sched_process_exit: comm=a pid=9 prio=120 group_dead=false") +
                           at(15, 8, "sched_process_exit: comm=a pid=8 prio=120 group_dead=true") +
                           exit_mmap(16, 8, "0xa2")) ==
          "11 dup_mmap 7/7\n"
          "12 fork 7/7 flags=0x1200000 child=8 child_tid=8\n"
          "13 fork 7/7 flags=0x3d0f00 child=7 child_tid=9\n"
          "14 exit 7/9\n"
          "15 exit 8/8\n"
          "16 unmap_vmas 8/8\n"
          "18 free_pgtables 8/8\n"
          "18 exit_mmap 8/8\n");
}

TEST_CASE("an exec tears down the old mm first, wherever its row would have been") {
    CHECK(rows_after_start(fork(10, 7, 8, "0xa2") + exec_from(13, 8, "0xa3") +
                           exit_mmap(15, 8, "0xa2") +
                           vma_map(18, 8, "0xa3", "0x1000", "0x2000", "0x71", "0x0", "0xf1") +
                           exec_to(19, 8, "/bin/b c")) ==
          "11 dup_mmap 7/7\n"
          "12 fork 7/7 flags=0x1200000 child=8 child_tid=8\n"
          "15 unmap_vmas 8/8\n"
          "17 free_pgtables 8/8\n"
          "17 exit_mmap 8/8\n"
          "17 exec 8/8 path=/bin/b c\n"
          "18 mapping 8/8 addr=0x1000 len=0x1000 offset=0x0 flags=0x2 vm_flags=0x71 prot=1 "
          "file=1\n");
}

TEST_CASE("the mm of a vfork child is its parent's until it execs") {
    CHECK(rows_after_start(new_task(10, 7, 8, "4100") + fault(11, 8, "0xa1", "0x5000", "0x40") +
                           exec_from(13, 8, "0xa3") + exec_to(15, 8) +
                           fault(17, 8, "0xa3", "0x6000", "0x40")) ==
          "10 fork 7/7 flags=0x4100 child=8 child_tid=8\n"
          "11 fault 8/8 addr=0x5000 write=0 source=user\n"
          "15 exec 8/8 path=/bin/a\n"
          "17 fault 8/8 addr=0x6000 write=0 source=user\n");
}

// ---- exec ----

TEST_CASE("exec's mappings: the placed stack, the trimmed image, the special ones") {
    const Parsed parsed =
        parse(start() + exec_from(10, 7, "0xa2") + exit_mmap(11, 7, "0xa1") +
              vma_map(13, 7, "0xa2", "0xff000", "0x100000", "0x118173", "0xff") +
              vma_map(14, 7, "0xa2", "0x7000", "0x28000", "0x100173", "0xde") +
              vma_map(15, 7, "0xa2", "0x30000", "0x38000", "0x71", "0x0", "0xf1") +
              vma_map(16, 7, "0xa2", "0x31000", "0x33000", "0x75", "0x1", "0xf1") +
              vma_map(17, 7, "0xa2", "0x36000", "0x37000", "0x100073", "0x5", "0xf1") +
              vma_map(18, 7, "0xa2", "0x37000", "0x39000", "0x100073", "0x37") +
              vma_map(19, 7, "0xa2", "0x50000", "0x52000", "0x8040075") +
              vma_map(20, 7, "0xa2", "0x52000", "0x54000", "0x1c040011") +
              vma_map(21, 7, "0xa2", "0x54000", "0x55000", "0xc044411") + exec_to(22, 7) +
              vma_map(24, 7, "0xa2", "0x60000", "0x61000", "0x100073", "0x60"));
    CHECK(parsed.rows ==
          kStarted +
              "11 unmap_vmas 7/7\n"
              "13 free_pgtables 7/7\n"
              "13 exit_mmap 7/7\n"
              "13 exec 7/7 path=/bin/a\n"
              "15 mapping 7/7 addr=0x7000 len=0x21000 offset=0xde000 flags=0x122 "
              "vm_flags=0x100173 prot=3 path=[stack]\n"
              "15 mapping 7/7 addr=0x30000 len=0x8000 offset=0x0 flags=0x2 vm_flags=0x71 prot=1 "
              "file=1\n"
              "16 munmap 7/7 addr=0x31000 len=0x7000\n"
              "16 mapping 7/7 addr=0x31000 len=0x2000 offset=0x1000 flags=0x2 vm_flags=0x75 "
              "prot=5 file=1\n"
              "17 mapping 7/7 addr=0x36000 len=0x1000 offset=0x5000 flags=0x2 vm_flags=0x100073 "
              "prot=3 file=1\n"
              "18 mapping 7/7 addr=0x37000 len=0x2000 offset=0x37000 flags=0x22 "
              "vm_flags=0x100073 prot=3\n"
              "19 mapping 7/7 addr=0x50000 len=0x2000 offset=0x0 flags=0x22 vm_flags=0x8040075 "
              "prot=5 path=[vdso]\n"
              "20 mapping 7/7 addr=0x52000 len=0x2000 offset=0x0 flags=0x22 vm_flags=0x1c040011 "
              "prot=1 path=[vvar]\n"
              "21 mapping 7/7 addr=0x54000 len=0x1000 offset=0x0 flags=0x22 vm_flags=0xc044411 "
              "prot=1 path=[vvar_vclock]\n");
    CHECK(parsed.stats.dropped["mapping_of_unplaced_stack"] == u64{1});
}

TEST_CASE("an exec that fails leaves no row, nor do the arguments it wrote") {
    const Parsed parsed = parse(
        start() + at(10, 7, "sys_execve(filename: 0x1 \"/no\", argv: 0x2, envp: 0x3)") +
        at(11, 7, "vma_new: (create_init_stack_vma+0x62/0x310 <- vm_area_alloc) mm=0xa2 vma=0xb2") +
        fault(12, 7, "0xa2", "0xffe000", "0x81", "0x0", "__get_user_pages") +
        event(14, 7, "mm_exit", "mm=0xa2") + at(15, 7, "sys_execve -> 0xfffffffffffffff8"));
    CHECK(parsed.rows == kStarted);
    CHECK(parsed.stats.dropped["exec_stack_gup"] == u64{1});
    CHECK(parsed.stats.dropped["exit_mmap_of_failed_exec"] == u64{1});
    CHECK(parsed.stats.dropped["failed_execve_ENOEXEC"] == u64{1});
}

TEST_CASE("a thread that execs goes on under the leader's number") {
    CHECK(rows_after_start(new_task(10, 7, 9, "3d0f00") + exec_from(11, 9, "0xa2") +
                           at(13, 7, "sched_process_exit: comm=a pid=7 prio=120 group_dead=false") +
                           exit_mmap(14, 7, "0xa1") +
                           at(17, 7, "sched_process_exec: filename=/bin/b pid=7 old_pid=9") +
                           at(18, 7, "sys_execve -> 0x0") +
                           fault(19, 7, "0xa2", "0x5000", "0x40")) ==
          "10 fork 7/7 flags=0x3d0f00 child=7 child_tid=9\n"
          "13 exit 7/7\n"
          "14 unmap_vmas 7/7\n"
          "16 free_pgtables 7/7\n"
          "16 exit_mmap 7/7\n"
          "16 exec 7/7 path=/bin/b\n"
          "19 fault 7/7 addr=0x5000 write=0 source=user\n");
}

// ---- system calls ----

TEST_CASE("an mmap sits where do_mmap() returned, before what populates it") {
    CHECK(rows_after_start(
              at(10, 7,
                 "sys_mmap(addr: 0, len: 0x2000, prot: 3, flags: 0x8022, fd: 0xffffffff, off: 0)") +
              event(11, 7, "mmap",
                    "file=0x0 addr=0x0 len=0x2000 prot=0x3 flags=0x8022 pgoff=0x0 ret=0x5000") +
              fault(12, 7, "0xa1", "0x5000", "0x1", "0x0", "__get_user_pages") +
              at(14, 7, "sys_mmap -> 0x5000")) ==
          "11 mmap 7/7 addr=0x5000 len=0x2000 flags=0x8022 prot=3\n"
          "12 fault 7/7 addr=0x5000 write=1 source=gup\n");
}

TEST_CASE("a fault inside do_mmap() comes after the mmap too, and holds up nothing later") {
    TracefsParser parser;
    parser.feed(start() +
                at(10, 7, "sys_mmap(addr: 0, len: 0x2000, prot: 5, flags: 2, fd: 3, off: 0x1000)") +
                fault(11, 7, "0xa1", "0x5000", "0x81", "0x0", "__get_user_pages") +
                event(13, 7, "mmap",
                      "file=0xf1 addr=0x0 len=0x2000 prot=0x5 flags=0x2 pgoff=0x1 ret=0x5000") +
                at(14, 7, "sys_mmap -> 0x5000"));
    CHECK(parser.table().rows() == std::size_t{3});
    CHECK(trace_rows::text(parser.table()) ==
          kStarted +
              "11 mmap 7/7 addr=0x5000 len=0x2000 offset=0x1000 flags=0x2 prot=5 fd=3 file=1\n"
              "11 fault 7/7 addr=0x5000 write=1 source=gup\n");
    parser.finish();
}

TEST_CASE("shared anonymous memory has the file that its VMA shows") {
    CHECK(rows_after_start(
              at(10, 7,
                 "sys_mmap(addr: 0, len: 0x70, prot: 3, flags: 0x21, fd: 0xffffffff, off: 0)") +
              vma_map(11, 7, "0xa1", "0x5000", "0x6000", "0xfb", "0x0", "0xf7") +
              event(12, 7, "mmap",
                    "file=0x0 addr=0x0 len=0x70 prot=0x3 flags=0x21 pgoff=0x0 ret=0x5000") +
              at(13, 7, "sys_mmap -> 0x5000")) ==
          "12 mmap 7/7 addr=0x5000 len=0x70 flags=0x21 prot=3 file=1\n");
}

TEST_CASE("calls that change what is there sit at their entry, with their result") {
    CHECK(
        rows_after_start(at(10, 7,
                            "sys_mremap(addr: 0x5000, old_len: 0x1000, new_len: 0x2000, flags: 1, "
                            "new_addr: 0)") +
                         new_task(11, 7, 9, "3d0f00") + at(12, 7, "sys_mremap -> 0x8000") +
                         at(13, 7, "sys_brk(brk: 0x9000)") + at(14, 7, "sys_brk -> 0x9000") +
                         at(15, 7, "sys_mprotect(start: 0x5000, len: 0x1000, prot: 1)") +
                         at(16, 7, "sys_mprotect -> 0xfffffffffffffff4") +
                         at(17, 7, "sys_prctl(option: 0x43, arg2: 1, arg3: 0, arg4: 0, arg5: 0)") +
                         at(18, 7, "sys_prctl -> 0x0")) ==
        "10 mremap 7/7 addr=0x5000 len=0x1000 new_addr=0x8000 new_len=0x2000 flags=0x1\n"
        "11 fork 7/7 flags=0x3d0f00 child=7 child_tid=9\n"
        "13 brk 7/7 addr=0x9000\n"
        "15 mprotect 7/7 addr=0x5000 len=0x1000 prot=1 error=12\n"
        "17 prctl 7/7 addr=0x1 flags=0x43\n");
}

TEST_CASE("failed, unfinished, unmatched and unusable calls are counted") {
    const Parsed parsed =
        parse(start() + at(10, 7, "sys_munmap(addr: 0x5001, len: 0x1000)") +
              at(11, 7, "sys_munmap -> 0xffffffffffffffea") + at(12, 7, "sys_brk -> 0x1") +
              at(13, 7, "sys_map_shadow_stack(addr: 0, size: 0x1000, flags: 0)") +
              at(14, 7, "sys_map_shadow_stack -> 0x5000") +
              at(15, 7, "sys_munmap(addr: 0x5000, len: 0x1000)") +
              at(16, 7, "sched_process_exit: comm=a pid=7 prio=120 group_dead=true"));
    CHECK(parsed.rows == kStarted + "16 exit 7/7\n");
    CHECK(parsed.stats.dropped["failed_munmap_EINVAL"] == u64{1});
    CHECK(parsed.stats.dropped["unusable_map_shadow_stack"] == u64{1});
    CHECK(parsed.stats.dropped["killed_in_syscall"] == u64{1});
    CHECK(parsed.stats.unmatched_exits == u64{1});
    CHECK(parsed.stats.syscalls["munmap"] == u64{2});
}

TEST_CASE("shmat maps by do_mmap(), and shmdt knows how much") {
    CHECK(rows_after_start(
              at(10, 7, "sys_shmat(shmid: 1, shmaddr: 0, shmflg: 0)") +
              event(11, 7, "mmap",
                    "file=0xf1 addr=0x0 len=0x3000 prot=0x3 flags=0x1 pgoff=0x0 ret=0x5000") +
              at(12, 7, "sys_shmat -> 0x5000") + at(13, 7, "sys_shmdt(shmaddr: 0x5000)") +
              at(14, 7, "sys_shmdt -> 0x0")) ==
          "11 mmap 7/7 addr=0x5000 len=0x3000 flags=0x1 prot=3 file=1\n"
          "13 munmap 7/7 addr=0x5000 len=0x3000\n");
}

// ---- faults ----

TEST_CASE("who took a fault; retries and failures leave none") {
    const Parsed parsed = parse(start() + fault(10, 7, "0xa1", "0x5008", "0x1255") +
                                fault(12, 7, "0xa1", "0x5000", "0x214") +
                                fault(14, 7, "0xa1", "0x5000", "0x0", "0x0", "__get_user_pages") +
                                fault(16, 7, "0xa1", "0x5000", "0x1255", "0x400") +
                                fault(18, 7, "0xa1", "0x5000", "0x1255", "0x40") +
                                fault(20, 7, "0xa1", "0x5000", "0x1255", "0x4000") +
                                fault(22, 5, "0xa1", "0x6000", "0x81", "0x0", "__get_user_pages"));
    CHECK(parsed.rows == kStarted +
                             "10 fault 7/7 addr=0x5000 write=1 source=user\n"
                             "12 fault 7/7 addr=0x5000 write=0 source=kernel\n"
                             "14 fault 7/7 addr=0x5000 write=0 source=gup\n"
                             "20 fault 7/7 addr=0x5000 write=1 source=user\n"
                             "22 fault 7/7 addr=0x6000 write=1 source=gup\n");
    CHECK(parsed.stats.dropped["fault_retry"] == u64{1});
    CHECK(parsed.stats.dropped["failed_fault_sigsegv"] == u64{1});
}

TEST_CASE("a fault sits at its beginning, behind which others wait") {
    CHECK(rows_after_start(
              new_task(10, 7, 9, "3d0f00") +
              event(11, 7, "fault", "vma=0xf0 mm=0xa1 addr=0x5000 flags=0x41 start=0x0 end=0x0") +
              fault(12, 9, "0xa1", "0x6000", "0x41") +
              at(14, 7, "faultx: (do_user_addr_fault+0x1/0x2 <- f) addr=0x5000 ret=0x0")) ==
          "10 fork 7/7 flags=0x3d0f00 child=7 child_tid=9\n"
          "11 fault 7/7 addr=0x5000 write=1 source=user\n"
          "12 fault 7/9 addr=0x6000 write=1 source=user\n");
}

TEST_CASE("breakpoints written into a range that the same call unmaps are dropped") {
    const Parsed parsed = parse(start() +
                                at(10, 7,
                                   "sys_mremap(addr: 0x5000, old_len: 0x1000, new_len: 0x1000, "
                                   "flags: 3, new_addr: 0x8000)") +
                                fault(11, 7, "0xa1", "0x5000", "0x81", "0x0", "__get_user_pages") +
                                fault(13, 7, "0xa1", "0x8000", "0x81", "0x0", "__get_user_pages") +
                                at(15, 7, "sys_mremap -> 0x8000"));
    CHECK(parsed.rows ==
          kStarted +
              "10 mremap 7/7 addr=0x5000 len=0x1000 new_addr=0x8000 new_len=0x1000 flags=0x3\n"
              "13 fault 7/7 addr=0x8000 write=1 source=gup\n");
    CHECK(parsed.stats.dropped["fault_in_range_being_unmapped"] == u64{1});
}

TEST_CASE(
    "addresses that no trace can hold are dropped, where calls, faults and mappings name them") {
    const Parsed parsed = parse(
        start() + at(10, 7, "sys_madvise(start: 0xfffffffffffff000, len_in: 0, behavior: 4)") +
        at(11, 7, "sys_madvise -> 0x0") + fault(12, 7, "0xa1", "0x800000000000", "0x41") +
        exec_from(14, 7, "0xa2") +
        vma_map(16, 7, "0xa2", "0xffffffffffe000", "0xfffffffffff000", "0x118173", "0xde") +
        vma_map(17, 7, "0xa2", "0x7000", "0x28000", "0x100173", "0xde") + exec_to(18, 7));
    CHECK(parsed.rows == kStarted +
                             "17 exec 7/7 path=/bin/a\n"
                             "19 mapping 7/7 addr=0x7000 len=0x21000 offset=0xde000 flags=0x122 "
                             "vm_flags=0x100173 prot=3 path=[stack]\n");
    CHECK(parsed.stats.dropped["address_beyond_user_space"] == u64{2});
    CHECK(parsed.stats.dropped["mapping_of_unplaced_stack"] == u64{1});
}
