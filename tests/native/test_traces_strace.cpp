// SPDX-License-Identifier: GPL-2.0-only
#include <string>

#include "tests/native/check.hpp"
#include "tests/native/damage.hpp"
#include "tests/native/trace_rows.hpp"
#include "traces/native/strace.hpp"

using namespace rmapreplay;

namespace {

struct Parsed {
    std::string rows;
    ImportStats stats;
};
Parsed parse(const std::string& text, std::size_t chunk = 1 << 20) {
    StraceParser parser;
    for (std::size_t i = 0; i < text.size(); i += chunk) {
        parser.feed(std::string_view(text).substr(i, chunk));
    }
    parser.finish();
    return {trace_rows::text(parser.table()), parser.stats()};
}
const std::string kExec =
    "7 1.000001 execve(\"/bin/a \\\"b\\\"\\40c\", [\"a\"], 0x7f /* 3 vars */) = 0\n";
const std::string kStarted = "1000001000 exec 7/7 path=/bin/a \"b\" c\n";
std::string rows_after_start(const std::string& text) {
    const std::string rows = parse(kExec + text).rows;
    REQUIRE(rows.starts_with(kStarted));
    return rows.substr(kStarted.size());
}

}  // namespace

TEST_CASE("strace: numbers, names, flags and shifts") {
    u64 value = 1;
    CHECK(strace_number("NULL", value));
    CHECK(value == u64{0});
    CHECK(strace_number("PROT_READ|PROT_WRITE|0x10", value));
    CHECK(value == u64{0x13});
    CHECK(strace_number("MAP_PRIVATE|21<<MAP_HUGE_SHIFT", value));
    CHECK(value == (u64{2} | u64{21} << 26));
    CHECK(strace_number("CLONE_VM|CLONE_VFORK|SIGCHLD", value));
    CHECK(value == u64{0x4100});
    CHECK(strace_number("0666", value));
    CHECK(value == u64{0666});
    CHECK(strace_number("-1", value));
    CHECK(value == ~u64{0});
    CHECK(strace_number("0x2 /* MADV_??? */", value));
    CHECK(value == u64{2});
    CHECK_FALSE(strace_number("MAP_PRIVATE|MAP_OF_TOMORROW", value));
    CHECK(value == u64{2});
    CHECK_FALSE(strace_number("", value));
    CHECK_FALSE(strace_number("12x", value));
}

TEST_CASE("strace: arguments are split outside of quotes, brackets and paths") {
    const auto split =
        strace_arguments("\"a, \\\"b\", [1, {x=2, y=3}], 3</tmp/a, (b>c>, 4, MAP_PRIVATE|21<<26");
    REQUIRE(split.size() == std::size_t{5});
    CHECK(split[0] == std::string_view("\"a, \\\"b\""));
    CHECK(split[1] == std::string_view("[1, {x=2, y=3}]"));
    CHECK(split[2] == std::string_view("3</tmp/a, (b>c>"));
    CHECK(split[3] == std::string_view("4"));
    CHECK(split[4] == std::string_view("MAP_PRIVATE|21<<26"));
}

TEST_CASE("strace: calls become rows; with -y a file has its path") {
    CHECK(rows_after_start(
              "7 1.000010 brk(NULL)       = 0x5000\n"
              "7 1.000011 mmap(NULL, 8192, PROT_READ|PROT_WRITE, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) "
              "= 0x7f0000000000\n"
              "7 1.000012 mmap(NULL, 4097, PROT_READ, MAP_PRIVATE, 3</lib/a, b.so>, 0x2000) = "
              "0x7f0000010000\n"
              "7 1.000013 munmap(0x7f0000000000, 4096) = 0\n"
              "7 1.000014 madvise(0x7f0000001000, 4096, MADV_DONTNEED) = 0\n"
              "7 1.000015 mprotect(0x7f0000001000, 8192, PROT_NONE) = -1 ENOMEM (Cannot allocate)\n"
              "7 1.000016 mremap(0x7f0000001000, 4096, 8192, MREMAP_MAYMOVE) = 0x7f0000020000\n") ==
          "1000010000 brk 7/7 addr=0x5000\n"
          "1000011000 mmap 7/7 addr=0x7f0000000000 len=0x2000 flags=0x22 prot=3\n"
          "1000012000 mmap 7/7 addr=0x7f0000010000 len=0x1001 offset=0x2000 flags=0x2 prot=1 fd=3 "
          "file=1 path=/lib/a, b.so\n"
          "1000013000 munmap 7/7 addr=0x7f0000000000 len=0x1000\n"
          "1000014000 madvise 7/7 addr=0x7f0000001000 len=0x1000 advice=4\n"
          "1000015000 mprotect 7/7 addr=0x7f0000001000 len=0x2000 prot=0 error=12\n"
          "1000016000 mremap 7/7 addr=0x7f0000001000 len=0x1000 new_addr=0x7f0000020000 "
          "new_len=0x2000 flags=0x1\n");
}

TEST_CASE("strace: what is missing or failed is counted") {
    const Parsed parsed =
        parse("7 0.5 brk(NULL) = 0x5000\n" + kExec +
              "7 1.000010 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE, 3, 0) = 0x7f0000000000\n"
              "7 1.000011 munmap(0x1, 4096) = -1 EINVAL (Invalid argument)\n"
              "7 1.000012 execve(\"/x\", [\"x\"], NULL) = -1 ENOENT (No such file or directory)\n"
              "7 1.000013 --- SIGCHLD {si_signo=SIGCHLD} ---\n"
              "7 1.000014 <... munmap resumed>) = 0\n"
              "garbage\n");
    CHECK(parsed.rows == kStarted +
                             "1000010000 mmap 7/7 addr=0x7f0000000000 len=0x1000 flags=0x2 "
                             "prot=1 fd=3 file=1\n");
    CHECK(parsed.stats.dropped["before_first_exec"] == u64{2});  // entry and return
    CHECK(parsed.stats.dropped["inode_of_mmap"] == u64{1});
    CHECK(parsed.stats.dropped["failed_munmap_EINVAL"] == u64{1});
    CHECK(parsed.stats.dropped["failed_execve_ENOENT"] == u64{1});
    CHECK(parsed.stats.dropped["mappings_of_exec"] == u64{1});
    CHECK(parsed.stats.dropped["malformed_line"] == u64{1});
    CHECK(parsed.stats.unmatched_exits == u64{1});
}

TEST_CASE("strace: an unfinished call stands where it began") {
    CHECK(
        rows_after_start("7 1.000010 clone3({flags=CLONE_VM|CLONE_THREAD, exit_signal=0}, 88) = 8\n"
                         "7 1.000011 munmap(0x5000, 4096 <unfinished ...>\n"
                         "8 1.000012 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0 "
                         "<unfinished ...>\n"
                         "7 1.000013 <... munmap resumed>) = 0\n"
                         "8 1.000014 <... mmap resumed>) = 0x9000\n"
                         "8 1.000015 +++ exited with 0 +++\n") ==
        "1000010000 fork 7/7 flags=0x10100 child=7 child_tid=8\n"
        "1000011000 munmap 7/7 addr=0x5000 len=0x1000\n"
        "1000014000 mmap 7/8 addr=0x9000 len=0x1000 flags=0x22 prot=1\n"
        "1000015000 exit 7/8\n");
}

TEST_CASE("strace: a child that runs before its parent's clone returns") {
    CHECK(rows_after_start(
              "7 1.000010 vfork( <unfinished ...>\n"
              "8 1.000011 execve(\"/bin/c\", [\"c\"], 0x1 /* 2 vars */ <unfinished ...>\n"
              "7 1.000012 <... vfork resumed>) = 8\n"
              "8 1.000013 <... execve resumed>) = 0\n"
              "8 1.000014 +++ killed by SIGKILL +++\n") ==
          "1000011000 fork 7/7 flags=0x4100 child=8 child_tid=8\n"
          "1000013000 exec 8/8 path=/bin/c\n"
          "1000014000 exit 8/8\n");
}

TEST_CASE("strace: the task that a clone made is found among several") {
    // 8 and 9 are both in clone when 11 shows up; only 9's return tells that it is 9's.
    const std::string text =
        "7 1.000010 fork() = 8\n"
        "7 1.000011 fork() = 9\n"
        "8 1.000012 clone(child_stack=NULL, flags=CLONE_PARENT|SIGCHLD <unfinished ...>\n"
        "9 1.000013 clone(child_stack=NULL, flags=SIGCHLD <unfinished ...>\n"
        "11 1.000014 brk(NULL) = 0x1000\n"
        "9 1.000015 <... clone resumed>) = 11\n"
        "8 1.000016 <... clone resumed>) = 12\n"
        "12 1.000017 brk(NULL) = 0x2000\n";
    CHECK(rows_after_start(text) ==
          "1000010000 fork 7/7 flags=0x0 child=8 child_tid=8\n"
          "1000011000 fork 7/7 flags=0x0 child=9 child_tid=9\n"
          "1000014000 fork 9/9 flags=0x0 child=11 child_tid=11\n"
          "1000014000 brk 11/11 addr=0x1000\n"
          "1000016000 fork 8/8 flags=0x8000 child=12 child_tid=12\n"
          "1000017000 brk 12/12 addr=0x2000\n");
    CHECK(parse(kExec + text).stats.dropped["parent_guessed"] == u64{0});
}

TEST_CASE("strace: a thread that execs takes over the leader") {
    CHECK(rows_after_start("7 1.000010 clone(child_stack=0x1, flags=CLONE_VM|CLONE_THREAD) = 8\n"
                           "8 1.000011 execve(\"/bin/c\", [\"c\"], 0x1 <unfinished ...>\n"
                           "7 1.000012 +++ superseded by execve in pid 8 +++\n"
                           "7 1.000013 <... execve resumed>) = 0\n"
                           "7 1.000014 brk(NULL) = 0x1000\n"
                           "7 1.000015 +++ exited with 0 +++\n") ==
          "1000010000 fork 7/7 flags=0x10100 child=7 child_tid=8\n"
          "1000012000 exit 7/7\n"
          "1000013000 exec 7/7 path=/bin/c\n"
          "1000014000 brk 7/7 addr=0x1000\n"
          "1000015000 exit 7/7\n");
}

TEST_CASE("strace: calls that were in progress when it was told to let go, or killed") {
    const std::string text =
        "7 1.000010 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0) = 0x9000\n"
        "7 1.000011 clone(child_stack=NULL, flags=SIGCHLD) = 8\n"
        "8 1.000012 execve(\"/bin/c\", [\"c\"], 0x1 /* 2 vars */ <detached ...>\n";
    const std::string rows =
        "1000010000 mmap 7/7 addr=0x9000 len=0x1000 flags=0x22 prot=1\n"
        "1000011000 fork 7/7 flags=0x0 child=8 child_tid=8\n";
    CHECK(rows_after_start(text) == rows);
    for (const char* last : {"7 1.000013 vfork(", "7 1.000013 munmap(0x9000, 4096",
                             "7 1.000013 vfork( <unfinished ...>"}) {
        const Parsed parsed = parse(kExec + text + last);
        CHECK(parsed.rows == kStarted + rows);
        CHECK(parsed.stats.dropped["malformed_line"] == u64{0});
        CHECK(parsed.stats.unmatched_enters == u64{2});
    }
    const std::string whole = "7 1.000013 brk(0xb000) = 0xb000";
    CHECK(rows_after_start(text + whole) == rows + "1000013000 brk 7/7 addr=0xb000\n");
    CHECK(parse(kExec + text + "7 17953").stats.dropped["malformed_line"] == u64{1});
}

TEST_CASE("strace: i386 has an mmap of its own") {
    CHECK(
        rows_after_start(
            "7 1.000010 mmap2(NULL, 8192, PROT_READ, MAP_PRIVATE, 3</a>, 0x3000) = 0xf7f00000\n"
            "7 1.000011 mmap2(NULL, 4096, PROT_READ, MAP_PRIVATE|MAP_ANONYMOUS, -1, 0 "
            "<unfinished ...>\n"
            "7 1.000012 <... mmap2 resumed>) = 0xf7e00000\n") ==
        "1000010000 mmap 7/7 addr=0xf7f00000 len=0x2000 offset=0x3000 flags=0x2 prot=1 fd=3 file=1 "
        "path=/a\n"
        "1000012000 mmap 7/7 addr=0xf7e00000 len=0x1000 flags=0x22 prot=1\n");
}

TEST_CASE("strace: text may be cut anywhere") {
    const std::string text = kExec +
                             "[pid  7] 1.000010 munmap(0x5000, 4096 <unfinished ...>\n"
                             "7 1.000011 brk(NULL) = 0x1000\r\n"
                             "7 1.000013 mlockall(MCL_CURRENT|MCL_FUTURE) = 0";
    const std::string whole = parse(text).rows;
    CHECK(whole ==
          kStarted + "1000011000 brk 7/7 addr=0x1000\n1000013000 mlockall 7/7 flags=0x3\n");
    for (std::size_t chunk = 1; chunk < text.size(); ++chunk) {
        if (parse(text, chunk).rows != whole) {
            CHECK(chunk == std::size_t{0});  // shows the size that failed
        }
    }
}

TEST_CASE("strace: damaged text never breaks the parser") {
    const std::string text =
        kExec +
        "7 1.000010 clone3({flags=CLONE_VM|CLONE_THREAD, exit_signal=0}, 88) = 8\n"
        "7 1.000011 munmap(0x5000, 4096 <unfinished ...>\n"
        "8 1.000012 mmap(NULL, 4096, PROT_READ, MAP_PRIVATE|21<<26, 3</a, b>, 0 <unfinished ...>\n"
        "9 1.000013 fork( <unfinished ...>\n10 1.000013 brk(NULL) = 0x1000\n"
        "7 1.000013 <... munmap resumed>) = 0\n8 1.000014 <... mmap resumed>) = 0x9000\n"
        "7 1.000015 +++ superseded by execve in pid 8 +++\n8 1.000015 +++ exited with 0 +++\n";
    Damage damage;
    u64 lines = 0;
    for (int round = 0; round < 3000; ++round) {
        lines += parse(damage(text), 1 + damage.random(200)).stats.lines;
    }
    CHECK(lines > u64{3000} * 5);
}
