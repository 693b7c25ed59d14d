// SPDX-License-Identifier: GPL-2.0-only
// perf's records among the lines of a trace. They wait for the next line of their task.
#include "traces/native/perf.hpp"
#include "traces/native/scan.hpp"
#include "traces/native/tracefs_points.hpp"

namespace rmapreplay {
namespace {

// A trace tells times in microseconds, records in nanoseconds.
constexpr i64 kRounding = 999;

}  // namespace

bool TracepointsParser::keep_record(std::string_view text) {
    PerfLine line;
    if (!parse_perf_line(text, line) || !line.event.starts_with("PERF_RECORD_")) return false;
    ImportStats& stats = history_.stats();
    stats.events.add(line.event);
    if (line.event == "PERF_RECORD_LOST") {
        stats.lost += last_field<u64>(line.body, "lost ").value_or(1);
        return true;
    }
    records_seen_ = true;
    records_[line.task.tid].push_back({line.time, std::string(text)});
    if (++kept_ > most_kept_) forget_records_of_others();
    return true;
}

// perf tells of every process there is.
void TracepointsParser::forget_records_of_others() {
    for (auto it = records_.begin(); it != records_.end();) {
        if (pids_.contains(it->first)) {
            ++it;
            continue;
        }
        kept_ -= it->second.size();
        history_.stats().dropped.add("sideband_of_unknown_process", it->second.size());
        it = records_.erase(it);
    }
    most_kept_ = 2 * kept_ + (1u << 16);
}

// What the task had mapped before it came to this line.
void TracepointsParser::use_records(const TracefsLine& line) {
    if (kept_ == 0) return;
    // Of what shows the same microsecond, a return comes after what the call mapped, and an exec
    // and its faults after what it mapped; all else comes before what it leads to.
    const bool after = line.body.starts_with(" -> ") || line.event == "sys_exit" ||
                       line.event == "sched_process_exec" ||
                       (execs_.contains(line.tid) && line.event.starts_with("page_fault_"));
    const i64 until = line.time + (after ? kRounding : 0);
    if (line.event == "sched_process_exec") {
        const auto old_pid = last_field<i32>(line.body, " old_pid=");
        if (old_pid && *old_pid != line.tid) use_records(line.time, *old_pid, until);
    }
    use_records(line.time, line.tid, until);
}

void TracepointsParser::use_records(i64 time, i32 tid, i64 until) {
    const auto it = records_.find(tid);
    if (it == records_.end()) return;
    std::deque<Record>& records = it->second;
    for (; !records.empty() && records.front().time <= until; records.pop_front()) {
        use_record(time, records.front().text);
        --kept_;
    }
    if (records.empty()) records_.erase(it);
}

void TracepointsParser::use_record(i64 time, std::string_view text) {
    PerfLine line;
    parse_perf_line(text, line);
    if (line.event == "PERF_RECORD_COMM") {
        history_.comm_exec(time, line.task);
        return;
    }
    Task task;
    Mapping mapping;
    if (line.event != "PERF_RECORD_MMAP2" || !parse_perf_mapping(line.body, task, mapping)) {
        history_.stats().dropped.add("malformed_line");
        return;
    }
    history_.mapped(time, task, mapping);
}

}  // namespace rmapreplay
