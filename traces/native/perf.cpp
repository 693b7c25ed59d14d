// SPDX-License-Identifier: GPL-2.0-only
#include "traces/native/perf.hpp"

#include <algorithm>
#include <array>

namespace rmapreplay {
namespace {

bool parse_task(Scan& scan, Task& task) {
    return scan.number(task.pid) && scan.skip("/") && scan.number(task.tid);
}

// "pid/tid [cpu] time: ", from the pid on; the cpu is optional.
bool parse_task_and_time(Scan& scan, PerfLine& parsed) {
    std::string_view cpu;
    scan.spaces();
    if (!parse_task(scan, parsed.task)) return false;
    scan.spaces();
    if (scan.skip("[") && !scan.until(']', cpu)) return false;
    scan.spaces();
    return scan.seconds(parsed.time) && scan.skip(":");
}

}  // namespace

bool parse_perf_line(std::string_view line, PerfLine& parsed) {
    Scan scan(line);
    while (!parse_task_and_time(scan, parsed)) {
        // A comm in front, which may hold spaces: try from the next word on.
        scan = Scan(line);
        scan.spaces();
        std::string_view word;
        if (!scan.until(' ', word)) return false;
        line = scan.rest();
    }
    scan.spaces();
    const std::string_view rest = scan.rest();
    const auto end =
        std::find_if(rest.begin(), rest.end(), [](char c) { return c == ' ' || c == '('; });
    parsed.event = {rest.begin(), end};
    parsed.body = {end, rest.end()};
    parsed.colon = parsed.event.ends_with(':');
    if (parsed.colon) parsed.event.remove_suffix(1);
    if (parsed.body.starts_with(' ')) parsed.body.remove_prefix(1);
    return !parsed.event.empty();
}

bool parse_perf_mapping(std::string_view body, Task& task, Mapping& mapping) {
    Scan scan(body);
    std::string_view offset;
    std::string_view prot;
    if (!parse_task(scan, task) || !scan.skip(": [") || !scan.hex(mapping.addr) ||
        !scan.skip("(") || !scan.hex(mapping.len) || !scan.skip(") @ ") ||
        !scan.until(' ', offset) || !scan.until(']', mapping.identity) || !scan.skip(": ") ||
        !Scan(offset).hex(mapping.offset)) {
        return false;
    }
    prot = scan.rest().substr(0, 4);
    if (prot.size() < 4) return false;
    mapping.prot = (prot[0] == 'r' ? uapi::prot_read : 0) |
                   (prot[1] == 'w' ? uapi::prot_write : 0) | (prot[2] == 'x' ? uapi::prot_exec : 0);
    mapping.shared = prot[3] == 's';
    scan.skip(prot);
    scan.skip(" ");
    mapping.path = scan.rest();
    // perf's name for memory without one.
    if (mapping.path == "//anon") mapping.path = {};
    if (mapping.identity == "00:00 0 0") mapping.identity = {};
    return true;
}

void PerfParser::line(std::string_view text) {
    ImportStats& stats = history_.stats();
    ++stats.lines;
    if (text.empty() || text.front() == '#') return;
    PerfLine parsed;
    if (!parse_perf_line(text, parsed)) {
        stats.dropped.add("malformed_line");
        return;
    }
    stats.events.add(parsed.event);
    if (!use(parsed)) stats.dropped.add("malformed_line");
}

bool PerfParser::use(const PerfLine& line) {
    signal_frame_ = kNoPage;
    if (!signal_frames_.empty()) {
        const auto it = signal_frames_.find(line.task.tid);
        if (it != signal_frames_.end()) {
            signal_frame_ = it->second;
            signal_frames_.erase(it);
        }
    }
    const std::string_view event = line.event;
    if (event == "exceptions:page_fault_user") return page_fault(line, Source::user);
    if (event == "exceptions:page_fault_kernel") return page_fault(line, Source::kernel);
    if (event == "raw_syscalls:sys_enter") return sys_enter(line);
    if (event == "raw_syscalls:sys_exit") return sys_exit(line);
    if (event == "PERF_RECORD_MMAP2") {
        Task task;
        Mapping mapping;
        if (!parse_perf_mapping(line.body, task, mapping)) return false;
        history_.mapped(line.time, task, mapping);
        return true;
    }
    if (event == "PERF_RECORD_COMM") return comm(line);
    if (event == "PERF_RECORD_FORK" || event == "PERF_RECORD_EXIT") return sideband_task(line);
    if (event == "PERF_RECORD_LOST" || event == "PERF_RECORD_LOST_SAMPLES") return lost(line);
    if (event == "task:task_newtask") return task_newtask(line);
    if (event == "sched:sched_process_exec") return process_exec(line);
    if (event == "sched:sched_process_exit") {
        history_.task_exit(line.time, line.task);
        return true;
    }
    if (event == "mmap:exit_mmap") {
        history_.exit_mmap(line.time, line.task);
        return true;
    }
    if (event == "mmap_lock:mmap_lock_acquire_returned") return mmap_lock(line);
    // They tell nothing that the events above do not.
    if (event == "task:task_rename" || event == "sched:sched_process_fork" ||
        event == "mmap_lock:mmap_lock_released") {
        return true;
    }
    history_.stats().dropped.add("event_" + std::string(event));
    return true;
}

// "address=0x557bfab701f8 ip=0x7fbc6c460109 error_code=0x6"; the ip may be a symbol.
bool PerfParser::page_fault(const PerfLine& line, Source source) {
    Scan scan(line.body);
    u64 addr = 0;
    u64 error_code = 0;
    if (!scan.skip("address=") || !scan.hex(addr)) return false;
    const std::string_view rest = scan.rest();
    const std::size_t at = rest.rfind("error_code=");
    if (at == std::string_view::npos) return false;
    Scan code(rest.substr(at + 11));
    if (!code.hex(error_code)) return false;
    if (source == Source::kernel && repeats_for_signal_frame(line.task.tid, addr, rest)) {
        history_.stats().dropped.add("fault_of_signal_frame");
        return true;
    }
    history_.fault(line.time, line.task, addr, error_code, source);
    return true;
}

// copy_fpstate_to_sigframe() saves registers with page faults disabled. Where that takes an
// exception, it does nothing: the function clears the place, which takes the same exception in
// earnest, and tries again. Nothing of the task comes in between.
bool PerfParser::repeats_for_signal_frame(i32 tid, u64 addr, std::string_view rest) {
    const u64 page = addr >> 12;
    if (page == signal_frame_) return true;
    if (rest.starts_with(" ip=copy_fpstate_to_sigframe")) signal_frames_.emplace(tid, page);
    return false;
}

// "NR 9 (0, 2000, 3, 22, ffffffff, 0)"
bool PerfParser::sys_enter(const PerfLine& line) {
    Scan scan(line.body);
    i64 nr = 0;
    std::array<u64, 6> args{};
    if (!scan.skip("NR ") || !scan.number(nr) || !scan.skip(" (")) return false;
    for (std::size_t i = 0; i < args.size(); ++i) {
        if (i > 0 && !scan.skip(", ")) return false;
        if (!scan.hex(args[i])) return false;
    }
    if (!scan.skip(")")) return false;
    history_.sys_enter(line.time, line.task, nr, args);
    return true;
}

// "NR 9 = 139770303311872"
bool PerfParser::sys_exit(const PerfLine& line) {
    Scan scan(line.body);
    i64 nr = 0;
    i64 result = 0;
    if (!scan.skip("NR ") || !scan.number(nr) || !scan.skip(" = ") || !scan.number(result)) {
        return false;
    }
    history_.sys_exit(line.time, line.task, nr, result);
    return true;
}

// "pid=723 comm=bash clone_flags=1200000 oom_score_adj=0"
bool PerfParser::task_newtask(const PerfLine& line) {
    Scan scan(line.body);
    i32 child = 0;
    const auto flags = last_field<u64>(line.body, " clone_flags=", 16);
    if (!scan.skip("pid=") || !scan.number(child) || !flags) return false;
    history_.new_task(line.time, line.task, child, *flags);
    return true;
}

// "filename=/usr/bin/bash pid=722 old_pid=722"
bool PerfParser::process_exec(const PerfLine& line) {
    std::string_view body = line.body;
    const std::size_t end = body.rfind(" pid=");
    if (!body.starts_with("filename=") || end == std::string_view::npos) return false;
    history_.exec_done(line.time, line.task, body.substr(9, end - 9));
    return true;
}

// "PERF_RECORD_COMM exec: name:722/722", or "PERF_RECORD_COMM: name:722/722" for a change of name
bool PerfParser::comm(const PerfLine& line) {
    const std::size_t at = line.body.rfind(':');
    if (at == std::string_view::npos) return false;
    Scan scan(line.body.substr(at + 1));
    Task task;
    if (!parse_task(scan, task)) return false;
    if (!line.colon && line.body.starts_with("exec: ")) {
        history_.comm_exec(line.time, task);
    } else {
        history_.known_sideband(task.pid);
    }
    return true;
}

// "(723:724):(723:723)": pid and tid of the task, then of its parent
bool PerfParser::sideband_task(const PerfLine& line) {
    Scan scan(line.body);
    Task task;
    Task parent;
    const auto pair = [&scan](Task& t) {
        return scan.skip("(") && scan.number(t.pid) && scan.skip(":") && scan.number(t.tid) &&
               scan.skip(")");
    };
    if (!pair(task) || !scan.skip(":") || !pair(parent)) return false;
    // A new process becomes known by task_newtask, which follows.
    history_.known_sideband(line.event == "PERF_RECORD_FORK" ? parent.pid : task.pid);
    return true;
}

// "mm=0xffff888105b4f080 memcg_id=1 write=true success=true"; before Linux 6.11 memcg_path=/a/b
bool PerfParser::mmap_lock(const PerfLine& line) {
    Scan scan(line.body);
    u64 mm = 0;
    if (!scan.skip("mm=") || !scan.hex(mm)) return false;
    const std::size_t at = line.body.rfind(" write=");
    if (at == std::string_view::npos) return false;
    const std::string_view how = line.body.substr(at);
    if (mm == 0) return false;
    if (how == " write=true success=true") history_.write_locked(line.time, line.task, mm);
    if (how == " write=false success=true") history_.read_locked(line.time, line.task, mm);
    return true;
}

// "lost 123"
bool PerfParser::lost(const PerfLine& line) {
    const auto n = last_field<u64>(line.body, "lost ");
    if (!n) return false;
    history_.stats().lost += *n;
    return true;
}

}  // namespace rmapreplay
