// SPDX-License-Identifier: GPL-2.0-only
// Lines as perf script prints them, made in code: one function per event, with nanoseconds, pid and
// tid in front; and what PerfParser makes of a text.
#pragma once

#include <cstdio>
#include <string>
#include <string_view>

#include "tests/native/check.hpp"
#include "tests/native/trace_rows.hpp"
#include "traces/native/perf.hpp"

namespace perf_text {

using namespace rmapreplay;

// One line of perf script: pid, tid, nanoseconds, and the rest.
inline std::string at(int ns, int pid, int tid, const std::string& rest) {
    char time[32];
    std::snprintf(time, sizeof time, "12.%09d", ns);
    return "  " + std::to_string(pid) + "/" + std::to_string(tid) + "   [001] " + time + ": " +
           rest + "\n";
}
inline std::string enter(int ns, int pid, int tid, int nr, const std::string& args) {
    return at(ns, pid, tid,
              "      raw_syscalls:sys_enter: NR " + std::to_string(nr) + " (" + args + ")");
}
inline std::string leave(int ns, int pid, int tid, int nr, const std::string& result) {
    return at(ns, pid, tid,
              "       raw_syscalls:sys_exit: NR " + std::to_string(nr) + " = " + result);
}
inline std::string fault(int ns, int pid, int tid, const std::string& addr, const std::string& code,
                         const std::string& kind = "user", const std::string& ip = "elf_load") {
    return at(ns, pid, tid,
              "exceptions:page_fault_" + kind + ": address=" + addr + " ip=" + ip +
                  " error_code=" + code);
}
inline std::string mmap2(int ns, int pid, int tid, const std::string& rest) {
    return at(ns, pid, tid,
              "PERF_RECORD_MMAP2 " + std::to_string(pid) + "/" + std::to_string(tid) + ": " + rest);
}
// Process 7 becomes known: an exec without mappings, at 1..4 ns.
inline std::string start(int pid = 7) {
    return enter(1, pid, pid, 59, "1, 2, 3, 4, 5, 6") +
           at(2, pid, pid,
              "PERF_RECORD_COMM exec: a b:c:" + std::to_string(pid) + "/" + std::to_string(pid)) +
           at(3, pid, pid, "sched:sched_process_exec: filename=/bin/a pid=1 b pid=7 old_pid=7") +
           leave(4, pid, pid, 59, "0");
}
inline const std::string kStarted = "12000000002 exec 7/7 path=/bin/a pid=1 b\n";

struct Parsed {
    std::string rows;
    std::string mapped;
    ImportStats stats;
};
inline Parsed parse(PerfParser& parser, const std::string& text, std::size_t chunk = 1 << 20) {
    for (std::size_t i = 0; i < text.size(); i += chunk)
        parser.feed(std::string_view(text).substr(i, chunk));
    parser.finish();
    return {trace_rows::text(parser.table()), trace_rows::named_text(parser.mapped().take()),
            parser.stats()};
}
inline Parsed parse(const std::string& text, std::size_t chunk = 1 << 20) {
    PerfParser parser;
    return parse(parser, text, chunk);
}
inline std::string exit_mmap(int ns, int pid, int tid) {
    return at(ns, pid, tid, "mmap:exit_mmap: mt_mod 0xffff888118c5c500, DESTROY");
}
inline std::string locked(int ns, int pid, int tid, const std::string& mm = "0xff10") {
    return at(
        ns, pid, tid,
        "mmap_lock:mmap_lock_acquire_returned: mm=" + mm + " memcg_id=1 write=true success=true");
}
inline std::string read_locked(int ns, int pid, int tid, const std::string& mm = "0xff10") {
    return at(
        ns, pid, tid,
        "mmap_lock:mmap_lock_acquire_returned: mm=" + mm + " memcg_id=1 write=false success=true");
}
inline std::string exits(int ns, int pid, int tid) {
    return at(ns, pid, tid, "sched:sched_process_exit: comm=a pid=" + std::to_string(tid));
}
inline std::string new_task(int ns, int pid, int child, const std::string& flags) {
    return at(ns, pid, pid,
              "task:task_newtask: pid=" + std::to_string(child) + " comm=a clone_flags=" + flags +
                  " oom_score_adj=0");
}
inline std::string exec(int ns, int pid, bool exit_mmap_of_old) {
    return enter(ns, pid, pid, 59, "1, 2, 3, 4, 5, 6") +
           (exit_mmap_of_old ? exit_mmap(ns + 1, pid, pid) : "") +
           at(ns + 2, pid, pid,
              "PERF_RECORD_COMM exec: b:" + std::to_string(pid) + "/" + std::to_string(pid)) +
           at(ns + 3, pid, pid, "sched:sched_process_exec: filename=/bin/b pid=8 old_pid=8") +
           leave(ns + 4, pid, pid, 59, "0");
}
inline std::string rows_after_start(const std::string& text) {
    const std::string rows = parse(start() + text).rows;
    REQUIRE(rows.starts_with(kStarted));
    return rows.substr(kStarted.size());
}

}  // namespace perf_text
