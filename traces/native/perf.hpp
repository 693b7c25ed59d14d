// SPDX-License-Identifier: GPL-2.0-only
// Reads the text of
//   perf script --ns -F pid,tid,cpu,time,event,trace --show-mmap-events --show-task-events
//               --show-lost-events
// in chunks cut anywhere. A leading comm column is tolerated.
#pragma once

#include <string_view>
#include <unordered_map>

#include "traces/native/history.hpp"
#include "traces/native/lines.hpp"
#include "traces/native/scan.hpp"

namespace rmapreplay {

// What stands before the fields of an event.
struct PerfLine {
    Task task;
    i64 time = 0;            // ns
    std::string_view event;  // "raw_syscalls:sys_enter", "PERF_RECORD_MMAP2"
    bool colon = false;      // a colon follows it
    std::string_view body;   // after it
};
bool parse_perf_line(std::string_view line, PerfLine& parsed);
// "722/722: [0x..(0x..) @ 0x.. fe:00 260104 0]: r-xp path", the body of a PERF_RECORD_MMAP2.
bool parse_perf_mapping(std::string_view body, Task& task, Mapping& mapping);

class PerfParser {
  public:
    PerfParser() : history_(table_, &mapped_) {}
    PerfParser(const PerfParser&) = delete;
    PerfParser& operator=(const PerfParser&) = delete;

    // See History.
    void adopt(i32 pid, std::span<const i32> tids, i32 mm_of = 0) {
        history_.adopt(pid, tids, mm_of);
    }
    void adopt_compat(i32 pid) { history_.adopt_compat(pid); }
    void adopt_shm(i32 pid, u64 addr, u64 len) { history_.adopt_shm(pid, addr, len); }
    void first_file(u32 file) { history_.first_file(file); }

    void feed(std::string_view chunk) {
        lines_.feed(chunk, [this](std::string_view line) { this->line(line); });
    }
    // After the last chunk.
    void finish() {
        lines_.finish([this](std::string_view line) { this->line(line); });
        history_.finish();
    }
    EventTable& table() { return table_; }
    MappedTable& mapped() { return mapped_; }
    const ImportStats& stats() const { return history_.stats(); }

  private:
    void line(std::string_view line);
    bool use(const PerfLine& line);
    bool sys_enter(const PerfLine& line);
    bool sys_exit(const PerfLine& line);
    bool page_fault(const PerfLine& line, Source source);
    bool repeats_for_signal_frame(i32 tid, u64 addr, std::string_view rest);
    bool task_newtask(const PerfLine& line);
    bool process_exec(const PerfLine& line);
    bool comm(const PerfLine& line);
    bool sideband_task(const PerfLine& line);
    bool mmap_lock(const PerfLine& line);
    bool lost(const PerfLine& line);

    LineSplitter lines_;
    EventTable table_;
    MappedTable mapped_;
    History history_;
    static constexpr u64 kNoPage = ~u64{0};
    // Pages on which tasks, by tid, have just faulted in copy_fpstate_to_sigframe(); and that of
    // the task whose line this is.
    std::unordered_map<i32, u64> signal_frames_;
    u64 signal_frame_ = kNoPage;
};

}  // namespace rmapreplay
