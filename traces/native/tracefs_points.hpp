// SPDX-License-Identifier: GPL-2.0-only
// Reads tracefs text of tracepoints alone, in chunks cut anywhere: what a kernel without probes can
// tell. What it cannot, perf's own records may add, as lines like those of perf script among the
// others; each comes no later than what its task did next.
#pragma once

#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "traces/native/event_table.hpp"
#include "traces/native/history.hpp"
#include "traces/native/lines.hpp"
#include "traces/native/mapped_table.hpp"
#include "traces/native/tracefs_line.hpp"

namespace rmapreplay {

class TracepointsParser {
  public:
    TracepointsParser() : history_(table_, &mapped_) {}
    TracepointsParser(const TracepointsParser&) = delete;
    TracepointsParser& operator=(const TracepointsParser&) = delete;

    // See History.
    void adopt(i32 pid, std::span<const i32> tids, i32 mm_of = 0);
    void adopt_compat(i32 pid) { history_.adopt_compat(pid); }
    void adopt_shm(i32 pid, u64 addr, u64 len) { history_.adopt_shm(pid, addr, len); }
    void first_file(u32 file) { history_.first_file(file); }

    void feed(std::string_view chunk) {
        lines_.feed(chunk, [this](std::string_view line) { this->line(line); });
    }
    void finish();  // after the last chunk
    EventTable& table() { return table_; }
    MappedTable& mapped() { return mapped_; }
    const ImportStats& stats() const { return history_.stats(); }
    // Whether perf's records were there, and with them what exec maps.
    bool records_seen() const { return records_seen_; }

  private:
    // One of perf's records.
    struct Record {
        i64 time;
        std::string text;
    };
    // A fault in an execve, which may belong to the old address space or to the new one.
    struct Fault {
        u64 addr;
        u64 error_code;
        Source source;
    };
    // An execve in progress.
    struct Exec {
        bool leaving = false;  // it may have given up the old address space
        std::vector<Fault> faults;  // since then
    };

    void line(std::string_view text);
    bool use(const TracefsLine& line, Task task);
    bool call(const TracefsLine& line, Task task, Sys sys);
    bool raw_call(const TracefsLine& line, Task task);
    void left(i64 time, Task task, Sys sys, i64 result);
    bool page_fault(const TracefsLine& line, Task task, Source source);
    void release_faults(i64 time, Task task);
    bool locked(const TracefsLine& line, Task task);
    bool new_task(const TracefsLine& line, Task parent);
    bool exec_done(const TracefsLine& line);
    void exited(i64 time, Task task);

    // tracefs_records.cpp
    bool keep_record(std::string_view text);
    void forget_records_of_others();
    void use_records(const TracefsLine& line);
    void use_records(i64 time, i32 tid, i64 until);
    void use_record(i64 time, std::string_view text);

    Task task(i32 tid) const;

    LineSplitter lines_;
    EventTable table_;
    MappedTable mapped_;
    History history_;
    std::unordered_map<i32, i32> pids_;  // tid -> thread group of every task seen
    std::unordered_map<i32, Exec> execs_;  // by tid
    std::unordered_map<i32, std::deque<Record>> records_;  // by tid, in order
    std::size_t kept_ = 0;  // records in all of these
    std::size_t most_kept_ = 1u << 16;  // after which those of others are forgotten
    bool records_seen_ = false;
};

}  // namespace rmapreplay
