// SPDX-License-Identifier: GPL-2.0-only
// Slab allocations: which of them belong to what a trace tells of.
#include <string>

#include "check.hpp"
#include "trace_rows.hpp"
#include "traces/native/kmem.hpp"

using namespace rmapreplay;

namespace {

std::string at(int ns, const std::string& task, const std::string& rest) {
    return task + " [000] 1.0000000" + (ns < 10 ? "0" : "") + std::to_string(ns) + ": " + rest +
           "\n";
}
std::string alloc(int ns, const std::string& task, const char* ptr, const char* name,
                  const char* site) {
    return at(ns, task,
              std::string("kmem:kmem_cache_alloc: call_site=") + site + "+0x1a ptr=" + ptr +
                  " name=" + name + " bytes_req=1 bytes_alloc=2 gfp_flags=GFP_KERNEL|__GFP_ZERO");
}
std::string vma(int ns, const std::string& task, const char* ptr) {
    return alloc(ns, task, ptr, "vm_area_struct", "vm_area_alloc");
}
std::string freed(int ns, const std::string& task, const char* ptr) {
    return at(ns, task,
              std::string("kmem:kmem_cache_free: call_site=exit_mmap+0x81 ptr=") + ptr + " name=x");
}
std::string enter(int ns, const std::string& task, int number) {
    return at(ns, task,
              "raw_syscalls:sys_enter: NR " + std::to_string(number) + " (1, 2, 3, 4, 5, 6)");
}
std::string leave(int ns, const std::string& task, int number, int result) {
    return at(
        ns, task,
        "raw_syscalls:sys_exit: NR " + std::to_string(number) + " = " + std::to_string(result));
}
std::string forked(int ns, const std::string& task, int child) {
    return at(ns, task,
              "task:task_newtask: pid=" + std::to_string(child) +
                  " comm=a pid=5 clone_flags=1200000 oom_score_adj=0");
}

// A new task, so that what it does counts.
const std::string kNew = forked(0, "1/1", 7);

struct Parsed {
    std::string rows;
    u64 live = 0;
    u64 lost = 0;
    Tally dropped;
};

Parsed parse(const std::string& text) {
    KmemParser parser;
    parser.feed(text);
    parser.finish();
    const Table table = parser.take();
    Parsed parsed{{}, parser.live(), parser.lost(), parser.dropped()};
    for (std::size_t row = 0; row < table.rows(); ++row) {
        for (std::size_t i = 0; i < table.columns(); ++i) {
            parsed.rows += trace_rows::cell(table.column(i), row);
            parsed.rows += i + 1 < table.columns() ? " " : "\n";
        }
    }
    return parsed;
}

}  // namespace

TEST_CASE("kmem: whoever frees an object, it is followed by pointer") {
    const Parsed parsed =
        parse(kNew + vma(1, "7/7", "0xffff1") + freed(2, "9/9", "0xffff2") +
              freed(3, "20/20", "0xffff1") + freed(4, "7/7", "0xffff1") + vma(5, "7/7", "0xffff1"));
    CHECK(parsed.rows ==
          "1000000001 7 7 vm_area_struct alloc 1 vm_area_alloc\n"
          "1000000003 20 20 vm_area_struct free 1 exit_mmap\n"
          "1000000005 7 7 vm_area_struct alloc 2 vm_area_alloc\n");
    CHECK(parsed.live == u64{1});
    CHECK(parsed.dropped["freed_but_not_allocated"] == u64{2});
}

TEST_CASE("kmem: caches of a size are merged and go by any of their names") {
    const Parsed parsed =
        parse(kNew + alloc(1, "7/7", "0xffff1", "fs_cache", "anon_vma_clone.part.0") +
              alloc(2, "7/7", "0xffff2", "fs_cache", "copy_fs_struct") +
              alloc(3, "7/7", "0xffff3", "anon_vma_chain", "ep_ptable_queue_proc") +
              alloc(4, "7/7", "0xffff4", "cred_jar", "vm_area_dup") +
              alloc(5, "7/7", "0xffff5", "vm_area_struct", "prepare_creds") +
              alloc(6, "7/7", "0xffff6", "anon_vma", "anon_vma_fork") +
              alloc(7, "7/7", "0xffff7", "anon_vma_chain", "anon_vma_fork"));
    CHECK(parsed.rows ==
          "1000000001 7 7 anon_vma_chain alloc 1 anon_vma_clone.part.0\n"
          "1000000004 7 7 vm_area_struct alloc 1 vm_area_dup\n"
          "1000000006 7 7 anon_vma alloc 1 anon_vma_fork\n"
          "1000000007 7 7 anon_vma_chain alloc 2 anon_vma_fork\n");
    CHECK(parsed.dropped["other_user_of_cache"] == u64{2});
    CHECK(parsed.dropped["object_fs_cache"] == u64{1});
}

TEST_CASE("kmem: of a process that was there before, all counts from its first exec on") {
    const Parsed parsed =
        parse(vma(1, "7/7", "0xffff1") + enter(2, "7/7", 59) + vma(3, "7/7", "0xffff2") +
              freed(4, "7/7", "0xffff2") + leave(5, "7/7", 59, -2) + vma(6, "7/7", "0xffff3") +
              enter(7, "7/7", 59) + vma(8, "7/7", "0xffff4") + freed(9, "7/7", "0xffff1") +
              freed(10, "7/7", "0xffff3") + leave(11, "7/7", 59, 0) + freed(12, "7/7", "0xffff4"));
    CHECK(parsed.rows ==
          "1000000008 7 7 vm_area_struct alloc 4 vm_area_alloc\n"
          "1000000012 7 7 vm_area_struct free 4 exit_mmap\n");
    CHECK(parsed.dropped["before_first_exec"] == u64{4});
    CHECK(parsed.dropped["of_failed_call"] == u64{2});
    CHECK(parsed.live == u64{0});

    const std::string never_execs = vma(1, "7/7", "0xffff1") + forked(2, "7/7", 8);
    CHECK(parse(never_execs).rows == "1000000001 7 7 vm_area_struct alloc 1 vm_area_alloc\n");
}

TEST_CASE(
    "kmem: what a failed fork or exec allocated does not count, what others did meanwhile does") {
    const std::string meanwhile = kNew + forked(0, "1/1", 8) + enter(1, "7/7", 56) +
                                  vma(2, "7/7", "0xffff1") + vma(3, "8/8", "0xffff2") +
                                  freed(4, "7/7", "0xffff1");
    const std::string others = "1000000003 8 8 vm_area_struct alloc 1 vm_area_alloc\n";
    const Parsed failed = parse(meanwhile + leave(5, "7/7", 56, -11));
    CHECK(failed.rows == "1000000003 8 8 vm_area_struct alloc 2 vm_area_alloc\n");
    CHECK(failed.dropped["of_failed_call"] == u64{2});
    CHECK(failed.live == u64{1});
    // A call that does not return, and one that succeeds.
    const std::string all =
        "1000000002 7 7 vm_area_struct alloc 1 vm_area_alloc\n"
        "1000000003 8 8 vm_area_struct alloc 2 vm_area_alloc\n"
        "1000000004 7 7 vm_area_struct free 1 exit_mmap\n";
    CHECK(parse(meanwhile).rows == all);
    CHECK(parse(meanwhile + leave(5, "7/7", 56, 9)).rows == all);
    CHECK(parse(meanwhile + enter(5, "7/7", 56) + leave(6, "7/7", 56, -11)).rows == all);
    // The child's return from its parent's call.
    CHECK(parse(kNew + leave(1, "7/7", 56, 0) + vma(2, "7/7", "0xffff1")).live == u64{1});
    // Other calls fail without consequence.
    CHECK(parse(kNew + enter(1, "7/7", 9) + vma(2, "7/7", "0xffff1") + leave(3, "7/7", 9, -12))
              .live == u64{1});
}

TEST_CASE("kmem: a thread that execs takes its leader's place") {
    const Parsed parsed =
        parse(kNew + forked(0, "7/7", 8) + enter(1, "7/7", 58) + vma(2, "7/7", "0xffff1") +
              enter(3, "7/8", 59) + vma(4, "7/8", "0xffff2") + leave(5, "7/7", 59, 0) +
              leave(6, "7/7", 56, -1) + leave(7, "7/8", 59, -1));
    CHECK(parsed.rows ==
          "1000000002 7 7 vm_area_struct alloc 1 vm_area_alloc\n"
          "1000000004 7 8 vm_area_struct alloc 2 vm_area_alloc\n");
}

TEST_CASE("kmem: a call that stays open does not hold rows for ever") {
    std::string text = kNew + forked(0, "1/1", 8) + enter(1, "7/7", 56) + vma(2, "7/7", "0xffff1");
    const std::string many = vma(3, "8/8", "0xffff2") + freed(3, "9/9", "0xffff2");
    for (int i = 0; i < 50'000; ++i) text += many;
    KmemParser parser;
    parser.feed(text);
    CHECK(parser.rows() > u64{30'000});
    parser.feed(leave(4, "7/7", 56, -11));  // too late
    parser.finish();
    CHECK(parser.rows() == u64{100'001});
    CHECK(parser.live() == u64{1});
}

TEST_CASE("kmem: what is lost, and what is none of it") {
    const Parsed parsed =
        parse(kNew + at(1, "0/0", "PERF_RECORD_LOST lost 20") +
              at(2, "0/0", "PERF_RECORD_LOST_SAMPLES lost 2") + at(3, "7/7", "a:b: c=1") +
              at(3, "7/7", "PERF_RECORD_COMM: a:7/7") + at(4, "7/7", "task:task_newtask: comm=a") +
              at(5, "7/7", "raw_syscalls:sys_exit: NR 59") +
              at(6, "7/7", "kmem:kmem_cache_free: ptr=0x1 name=x") + "# comment\n\nrubbish\n");
    CHECK(parsed.lost == u64{22});
    CHECK(parsed.rows.empty());
    CHECK(parsed.dropped["event_a:b"] == u64{1});
    CHECK(parsed.dropped["malformed_line"] == u64{4});
}
