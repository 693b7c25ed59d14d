// SPDX-License-Identifier: GPL-2.0-only
// Lines of tracefs text for tests, and what the importer makes of them as text.
#pragma once

#include <cstdio>
#include <string>
#include <string_view>

#include "tests/native/trace_rows.hpp"
#include "traces/native/tracefs.hpp"

namespace tracefs_text {

using namespace rmapreplay;

// One line of tracefs text: comm, task, count, and the rest.
inline std::string at(int count, int tid, const std::string& rest, const std::string& comm = "a") {
    char head[64];
    std::snprintf(head, sizeof head, "%16s-%-7d [000] .l.1. %12d: ", comm.c_str(), tid, count);
    return head + rest + "\n";
}
inline std::string event(int count, int tid, const std::string& name, const std::string& fields) {
    return at(count, tid, name + ": (some_function+0x4/0x300) " + fields);
}
inline std::string vma_map(int count, int tid, const std::string& mm, const std::string& start,
                           const std::string& end, const std::string& flags,
                           const std::string& pgoff = "0x0", const std::string& file = "0x0") {
    return event(count, tid, "vma_map",
                 "vma=0xf0 mm=" + mm + " start=" + start + " end=" + end + " fl=" + flags +
                     " pgoff=" + pgoff + " file=" + file + " av=0x0");
}
// handle_mm_fault() from `count` to `count + 1`.
inline std::string fault(int count, int tid, const std::string& mm, const std::string& addr,
                         const std::string& flags, const std::string& result = "0x0",
                         const std::string& caller = "do_user_addr_fault") {
    return event(count, tid, "fault",
                 "vma=0xf0 mm=" + mm + " addr=" + addr + " flags=" + flags +
                     " start=0x1000 end=0x9000 vmf=0x0 file=0x0 av=0x0") +
           at(count + 1, tid,
              "faultx: (" + caller + "+0x1bd/0x810 <- handle_mm_fault) addr=" + addr +
                  " ret=" + result);
}
inline std::string new_task(int count, int parent, int child, const std::string& flags) {
    return at(count, parent,
              "task_newtask: pid=" + std::to_string(child) + " comm=a clone_flags=" + flags +
                  " oom_score_adj=0");
}
// The VMA that every mm here has: 0xba1 of 0xa1.
inline std::string first_vma(const std::string& mm) { return "0xb" + mm.substr(2); }
// dup_mmap() and the task it is for, from `count` to `count + 2`.
inline std::string fork(int count, int parent, int child, const std::string& mm) {
    return event(count, parent, "mm_dup", "mm=" + mm + " oldmm=0xa1") +
           event(count, parent, "vma_dup", "orig=0xba1 vma=" + first_vma(mm)) +
           event(count + 1, parent, "mm_dupx", "mm=" + mm + " ret=0") +
           new_task(count + 2, parent, child, "1200000");
}
inline std::string exec_from(int count, int tid, const std::string& mm) {
    return at(count, tid,
              "vma_new: (create_init_stack_vma+0x62/0x310 <- vm_area_alloc) mm=" + mm +
                  " vma=" + first_vma(mm)) +
           event(count + 1, tid, "mm_exec", "mm=" + mm);
}
inline std::string exec_to(int count, int tid, const std::string& name = "/bin/a") {
    const std::string pid = std::to_string(tid);
    return at(count, tid,
              "sched_process_exec: filename=" + name + " pid=" + pid + " old_pid=" + pid) +
           at(count + 1, tid, "sys_execve -> 0x0");
}
inline std::string unlink_vma(int count, int tid, const std::string& mm, const std::string& vma) {
    return event(count, tid, "av_unlink",
                 "vma=" + vma + " mm=" + mm + " start=0x5000 end=0x9000 av=0x0");
}
inline std::string free_vma(int count, int tid, const std::string& mm, const std::string& vma) {
    return event(count, tid, "vma_free", "vma=" + vma + " mm=" + mm + " start=0x5000 end=0x9000");
}
// exit_mmap() of an mm with its one VMA, from `count` to `count + 2`.
inline std::string exit_mmap(int count, int tid, const std::string& mm) {
    return event(count, tid, "mm_exit", "mm=" + mm) +
           unlink_vma(count + 1, tid, mm, first_vma(mm)) +
           free_vma(count + 2, tid, mm, first_vma(mm));
}
inline std::string exits(int count, int tid, const std::string& last = " group_dead=true") {
    return at(count, tid,
              "sched_process_exit: comm=a pid=" + std::to_string(tid) + " prio=120" + last);
}
// Launcher 5 starts process 7 with mm 0xa1, at 1..9.
inline std::string start() {
    return at(1, 5, "tracing_mark_write: H1 START /bin/a", "h1") + new_task(2, 5, 7, "4100") +
           at(3, 7, "sys_execve(filename: 0x1 \"/bin/a\", argv: 0x2, envp: 0x3)", "h1") +
           exec_from(4, 7, "0xa1") + exec_to(6, 7) +
           at(9, 5, "tracing_mark_write: H1 ROOTPID 7", "h1");
}
inline const std::string kStarted = "6 exec 7/7 path=/bin/a\n";

struct Parsed {
    std::string rows;
    std::string mapped;
    std::string visits;
    std::string objects;
    std::string bursts;
    ImportStats stats;
};
inline Parsed parse(const std::string& text, std::size_t chunk = 1 << 20) {
    TracefsParser parser;
    for (std::size_t i = 0; i < text.size(); i += chunk)
        parser.feed(std::string_view(text).substr(i, chunk));
    parser.finish();
    return {trace_rows::text(parser.table()),
            trace_rows::named_text(parser.mapped().take()),
            trace_rows::named_text(parser.truth().take_visits()),
            trace_rows::named_text(parser.truth().take_objects()),
            trace_rows::named_text(parser.truth().take_bursts()),
            parser.stats()};
}

}  // namespace tracefs_text
