// SPDX-License-Identifier: GPL-2.0-only
#include "traces/native/tracefs_points.hpp"

#include "traces/native/scan.hpp"

namespace rmapreplay {
namespace {

// sys_enter and sys_exit of raw_syscalls; there is a call exit, too.
constexpr std::string_view kRaw = " NR ";

bool is_exec(Sys sys) { return sys == Sys::execve || sys == Sys::execveat; }

}  // namespace

void TracepointsParser::adopt(i32 pid, std::span<const i32> tids, i32 mm_of) {
    history_.adopt(pid, tids, mm_of);
    for (const i32 tid : tids) pids_[tid] = pid;
}

void TracepointsParser::finish() {
    lines_.finish([this](std::string_view line) { this->line(line); });
    for (const auto& [tid, exec] : execs_) {
        if (exec.faults.empty()) continue;
        history_.stats().dropped.add("fault_in_unfinished_call", exec.faults.size());
    }
    history_.finish();
}

// Events name the task alone. One that was not seen to be made is the first of its process.
Task TracepointsParser::task(i32 tid) const {
    const auto it = pids_.find(tid);
    return {it == pids_.end() ? tid : it->second, tid};
}

void TracepointsParser::line(std::string_view text) {
    ImportStats& stats = history_.stats();
    ++stats.lines;
    if (text.empty()) return;
    if (is_tracefs_comment(text)) {
        stats.lost += lost_by_comment(text);
        return;
    }
    // The comm of a trace's line is padded to a width that none has.
    if (text.front() != ' ' && keep_record(text)) return;
    TracefsLine line;
    if (!parse_tracefs_line(text, line)) {
        stats.dropped.add("malformed_line");
        return;
    }
    stats.events.add(line.event);
    use_records(line);
    if (!use(line, task(line.tid))) stats.dropped.add("malformed_line");
}

bool TracepointsParser::use(const TracefsLine& line, Task task) {
    const std::string_view event = line.event;
    if (event == "page_fault_user") return page_fault(line, task, Source::user);
    if (event == "page_fault_kernel") return page_fault(line, task, Source::kernel);
    if (line.body.starts_with(kRaw)) return raw_call(line, task);
    if (event.starts_with("sys_")) {
        const Sys sys = syscall_by_name(event.substr(4));
        return sys == Sys::none || call(line, task, sys);
    }
    if (event == "task_newtask") return new_task(line, task);
    if (event == "sched_prepare_exec") {
        execs_[task.tid].leaving = true;
        return true;
    }
    if (event == "sched_process_exec") return exec_done(line);
    if (event == "sched_process_exit") {
        exited(line.time, task);
        return true;
    }
    if (event == "exit_mmap") {
        // Of the old address space, or of an unfinished new one.
        if (const auto it = execs_.find(task.tid); it != execs_.end()) it->second.leaving = true;
        history_.exit_mmap(line.time, task);
        return true;
    }
    if (event == "mmap_lock_acquire_returned") return locked(line, task);
    if (event == "tracing_mark_write") return true;
    history_.stats().dropped.add("event_" + std::string(event));
    return true;
}

// ---- system calls ----

// "(addr: 0, len: 0x2000, ..", " -> 0x7f9a8c4d7000"
bool TracepointsParser::call(const TracefsLine& line, Task task, Sys sys) {
    Call call;
    i64 result = 0;
    call.sys = sys;
    if (line.body.starts_with('(')) {
        if (!parse_syscall_arguments(line.body, call)) return false;
        if (is_exec(sys)) execs_[task.tid] = {};
        history_.enter(line.time, task, call);
        return true;
    }
    if (!parse_syscall_result(line.body, result)) return false;
    left(line.time, task, sys, result);
    return true;
}

// " NR 9 (0, 2000, 3, 22, ffffffff, 0)", " NR 9 = 139770303311872"
bool TracepointsParser::raw_call(const TracefsLine& line, Task task) {
    Scan scan(line.body);
    i64 number = 0;
    if (!scan.skip(kRaw) || !scan.number(number)) return false;
    Call call;
    call.sys = syscall_by_number(number);
    if (call.sys == Sys::none) return true;
    i64 result = 0;
    if (line.event == "sys_exit") {
        if (!scan.skip(" = ") || !scan.number(result)) return false;
        left(line.time, task, call.sys, result);
        return true;
    }
    if (!scan.skip(" (")) return false;
    for (std::size_t i = 0; i < call.args.size(); ++i) {
        if (i > 0 && !scan.skip(", ")) return false;
        if (!scan.hex(call.args[i])) return false;
    }
    if (is_exec(call.sys)) execs_[task.tid] = {};
    history_.enter(line.time, task, call);
    return true;
}

void TracepointsParser::left(i64 time, Task task, Sys sys, i64 result) {
    if (is_exec(sys)) release_faults(time, task);
    history_.exit(time, task, sys, result);
}

// ---- faults ----

// " address=0x557bfab701f8 ip=0x7fbc6c460109 error_code=0x6"; the ip may be a symbol.
bool TracepointsParser::page_fault(const TracefsLine& line, Task task, Source source) {
    Scan scan(line.body);
    Fault fault{0, 0, source};
    const auto error_code = line.body.rfind(" error_code=");
    if (!scan.skip(" address=") || !scan.hex(fault.addr)) return false;
    if (error_code == std::string_view::npos) return false;
    Scan code(line.body.substr(error_code + 12));
    if (!code.hex(fault.error_code)) return false;
    const auto exec = execs_.find(task.tid);
    if (!records_seen_ && exec != execs_.end() && exec->second.leaving) {
        exec->second.faults.push_back(fault);
    } else {
        history_.fault(line.time, task, fault.addr, fault.error_code, source);
    }
    return true;
}

// Whose they were is clear now.
void TracepointsParser::release_faults(i64 time, Task task) {
    const auto it = execs_.find(task.tid);
    if (it == execs_.end()) return;
    for (const Fault& fault : it->second.faults) {
        history_.fault(time, task, fault.addr, fault.error_code, fault.source);
    }
    execs_.erase(it);
}

// ---- mmap_lock ----

// " mm=00000000a1eedf0f memcg_id=1 write=true success=true"; the pointer is hashed, or not.
bool TracepointsParser::locked(const TracefsLine& line, Task task) {
    Scan scan(line.body);
    u64 mm = 0;
    if (!scan.skip(" mm=") || !scan.hex(mm)) return false;
    if (mm == 0) return false;
    if (line.body.ends_with(" write=true success=true")) {
        history_.write_locked(line.time, task, mm);
    } else if (line.body.ends_with(" write=false success=true")) {
        history_.read_locked(line.time, task, mm);
    }
    return true;
}

// ---- tasks ----

// " pid=116 comm=h1 clone_flags=4100 oom_score_adj=0"
bool TracepointsParser::new_task(const TracefsLine& line, Task parent) {
    Scan scan(line.body);
    i32 child = 0;
    const auto flags = last_field<u64>(line.body, " clone_flags=", 16);
    if (!scan.skip(" pid=") || !scan.number(child) || !flags) return false;
    pids_[child] = (*flags & uapi::clone_thread) != 0 ? parent.pid : child;
    execs_.erase(child);
    history_.new_task(line.time, parent, child, *flags);
    return true;
}

// " filename=/usr/bin/bash pid=722 old_pid=722", after the last of exec's own mappings
bool TracepointsParser::exec_done(const TracefsLine& line) {
    const auto pid = last_field<i32>(line.body, " pid=");
    const auto old_pid = last_field<i32>(line.body, " old_pid=");
    const std::size_t end = line.body.rfind(" pid=");
    if (!pid || !old_pid || !line.body.starts_with(" filename=")) return false;
    const Task task{*pid, *pid};
    if (*pid != *old_pid) {  // a thread takes over the number of its leader
        execs_[*pid] = std::exchange(execs_[*old_pid], {});
        execs_.erase(*old_pid);
    }
    pids_[*pid] = *pid;
    if (!records_seen_) {
        history_.comm_exec(line.time, task);
        history_.stats().dropped.add("mappings_of_exec");
    }
    history_.exec_done(line.time, task, line.body.substr(10, end - 10));
    release_faults(line.time, task);
    return true;
}

void TracepointsParser::exited(i64 time, Task task) {
    if (const auto it = execs_.find(task.tid); it != execs_.end()) {
        const std::size_t faults = it->second.faults.size();
        if (faults > 0) history_.stats().dropped.add("fault_in_unfinished_call", faults);
        execs_.erase(it);
    }
    history_.task_exit(time, task);
}

}  // namespace rmapreplay
