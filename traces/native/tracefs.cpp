// SPDX-License-Identifier: GPL-2.0-only
#include "traces/native/tracefs.hpp"

#include "traces/native/scan.hpp"
#include "traces/native/tracefs_probe.hpp"

namespace rmapreplay {

TracefsParser::TracefsParser() : seen_(kNoProbe) {}

void TracefsParser::finish() {
    lines_.finish([this](std::string_view line) { this->line(line); });
    for (auto& [tid, thread] : threads_) {
        if (thread.teardown.mm != 0) exit_mmap_done(tid, thread);
        if (thread.in_fault) {
            timeline_.cancel(thread.fault_place);
            stats_.dropped.add("fault_end_not_seen");
        }
        if (!thread.in_call) continue;
        ++stats_.unmatched_enters;
        abandon_call(thread, {});
    }
    for (auto& [pid, process] : processes_) {
        if (process.exec) finish_exec(process);
        if (process.started) ++stats_.processes_alive;
    }
    walks_.finish();
    timeline_.finish();
    objects_.finish();
    if (burst_open_) truth_.append(burst_);
    for (std::size_t i = 0; i < seen_.size(); ++i) {
        if (seen_[i] > 0) stats_.events.add(kProbeNames[i], seen_[i]);
    }
    if (!root_seen_) stats_.dropped.add("root_process_not_seen");
    if (timeline_.abandoned() > 0) stats_.dropped.add("open_too_long", timeline_.abandoned());
    if (timeline_.went_back() > 0) stats_.dropped.add("time_went_back", timeline_.went_back());
}

void TracefsParser::line(std::string_view text) {
    ++stats_.lines;
    if (text.empty()) return;
    if (is_tracefs_comment(text)) {
        stats_.lost += lost_by_comment(text);
        return;
    }
    TracefsLine line;
    if (!parse_tracefs_line(text, line)) {
        stats_.dropped.add("malformed_line");
        return;
    }
    if (line.tid != running_) {
        if (const auto it = threads_.find(running_); it != threads_.end()) {
            pause(now_, running_, it->second);
        }
        running_ = line.tid;
    }
    now_ = line.time;
    Thread& thread = this->thread(line.tid);
    if (const std::size_t probe = find_probe(line.event); probe != kNoProbe) {
        ++seen_[probe];
        if (thread.teardown.mm != 0 && !in_exit_mmap(probe_at(probe))) {
            exit_mmap_done(line.tid, thread);
        }
        if (!use(probe_at(probe), line, thread)) stats_.dropped.add("malformed_line");
        return;
    }
    stats_.events.add(line.event);
    if (!line.event.starts_with("sys_")) {
        stats_.dropped.add("event_" + std::string(line.event));
        return;
    }
    const Sys sys = syscall_by_name(line.event.substr(4));
    if (sys == Sys::none) return;  // recorded for its own sake; changes no mapping
    if (thread.teardown.mm != 0) exit_mmap_done(line.tid, thread);
    i64 result = 0;
    if (line.body.starts_with("(")) {
        enter(line, thread, sys);
    } else if (parse_syscall_result(line.body, result)) {
        exit(line, thread, sys, result);
    } else {
        stats_.dropped.add("malformed_line");
    }
}

bool TracefsParser::use(Probe probe, const TracefsLine& line, Thread& thread) {
    // What comes first: the walks are most of a capture.
    if (is_walk_probe(probe)) return probe_walk(probe, line);
    switch (probe) {
        case Probe::fault: return fault_enter(line, thread);
        case Probe::faultx: return fault_exit(line, thread);
        case Probe::vma_map: return mapped(line, thread);
        case Probe::mmap: return do_mmap(line, thread);
        case Probe::task_newtask: return new_task(line, thread);
        case Probe::sched_process_exec: return exec_done(line);
        case Probe::sched_process_exit: return task_exit(line, thread);
        case Probe::tracing_mark_write: marker(line); return true;
        case Probe::mm_exec: return mm_exec(line, thread);
        case Probe::mm_dup: return mm_dup(line, thread);
        case Probe::mm_dupx: return mm_dup_done(line, thread);
        case Probe::mm_exit: return mm_exit(line, thread);
        case Probe::fo_new: return new_folio(line, thread);
        case Probe::fo_add: return mapped_again(line, thread);
        case Probe::ksmwalk: stats_.dropped.add("walk_of_ksm_folio"); return true;
        case Probe::other: return true;
        default: return probe_objects(probe, line, thread);
    }
}

TracefsParser::Thread& TracefsParser::thread(i32 tid) {
    if (tid != last_tid_) {
        last_tid_ = tid;
        last_thread_ = &threads_[tid];
    }
    return *last_thread_;
}

TracefsParser::Process* TracefsParser::process(const Thread& thread) {
    if (thread.pid == 0) return nullptr;
    auto it = processes_.find(thread.pid);
    return it == processes_.end() ? nullptr : &it->second;
}

bool TracefsParser::started_or_dropped(const Thread& thread) {
    const Process* process = this->process(thread);
    if (process && process->started) return true;
    stats_.dropped.add(process ? "before_first_exec" : "other_process");
    return false;
}

Event TracefsParser::row(i64 time, i32 pid, i32 tid, Op op) const {
    Event event;
    event.time = time;
    event.op = op;
    event.pid = pid;
    event.tid = tid;
    return event;
}

u32 TracefsParser::file_id(u64 pointer) {
    if (pointer == 0) return 0;
    return files_.try_emplace(pointer, static_cast<u32>(files_.size() + 1)).first->second;
}

// ---- tasks ----

// " pid=116 comm=h1 clone_flags=4100 oom_score_adj=0"
bool TracefsParser::new_task(const TracefsLine& line, Thread& parent) {
    Fields fields(line.body);
    const i32 child_tid = static_cast<i32>(fields.number(" pid="));
    const auto flags = last_field<u64>(line.body, " clone_flags=", 16);
    if (!fields.ok() || !flags || child_tid <= 0) return false;
    const bool is_thread = (*flags & uapi::clone_thread) != 0;
    Thread& child = thread(child_tid);
    if (child.teardown.mm != 0) exit_mmap_done(child_tid, child);
    child = {};  // the number may have been another's before
    if (!is_thread) processes_.erase(child_tid);
    if (line.tid == launcher_ && !is_thread) {
        processes_[child_tid].pid = child_tid;
        candidates_.push_back(child_tid);
        child.pid = child.last_pid = child_tid;
        return true;
    }
    if (!started_or_dropped(parent)) return true;
    Process& from = processes_[parent.pid];
    Event event = row(line.time, parent.pid, line.tid, Op::fork);
    event.flags = *flags;
    event.child_tid = child_tid;
    event.child = is_thread ? parent.pid : child_tid;
    child.pid = child.last_pid = event.child;
    if (is_thread) {
        ++from.threads;
    } else {
        if (parent.dup_place != 0 && (*flags & uapi::clone_vm) == 0) {
            timeline_.fill(std::exchange(parent.dup_place, 0),
                           row(0, parent.pid, line.tid, Op::dup_mmap));
        }
        Process& process = processes_[child_tid];
        process.pid = child_tid;
        process.started = true;
        process.shm = processes_[parent.pid].shm;
        process.mm = (*flags & uapi::clone_vm) != 0 ? from.mm : std::exchange(parent.forked_mm, 0);
        if (TracefsMm* mm = mms_.by_serial(process.mm)) {
            if (mm->state == TracefsMm::State::forked) {
                mm->state = TracefsMm::State::live;
                mm->pid = child_tid;
            } else {
                ++mm->users;
            }
        }
    }
    timeline_.push(event);
    return true;
}

// " comm=scen pid=117 prio=120 group_dead=true"
bool TracefsParser::task_exit(const TracefsLine& line, Thread& thread) {
    if (thread.in_call) abandon_call(thread, "killed_in_syscall");
    Process* process = this->process(thread);
    if (!process) {
        stats_.dropped.add("other_process");
        return true;
    }
    const i32 pid = thread.pid;
    // A thread that execs takes over the number of the leader, which exits for it (de_thread()).
    if (!process->exec || process->exec->tid == line.tid || line.tid != pid) thread.pid = 0;
    --process->threads;
    // The last to begin is told that the group is dead; others may be on their way out still.
    const bool told = line.body.find(" group_dead=") != std::string_view::npos;
    process->dead |= !told || line.body.ends_with("group_dead=true");
    const bool last = process->dead && process->threads <= 0;
    // A thread's execve ends all others.
    if (process->exec && (last || process->exec->tid == line.tid)) finish_exec(*process);
    if (process->started) {
        const Event event = row(line.time, pid, line.tid, Op::exit);
        if (thread.exit_place == 0) {
            timeline_.push(event);
        } else {
            timeline_.fill(std::exchange(thread.exit_place, 0), event);
        }
    } else {
        stats_.dropped.add("before_first_exec");
    }
    if (!last) return true;
    const u32 mm = process->mm;
    processes_.erase(pid);
    leave_mm(mm, pid);
    return true;
}

// ---- markers of the launcher ----

// " H1 START /bin/scen", " H1 ROOTPID 116", of one that was there before " H1 ROOT 116", " H1
// WALK_BEGIN n=100 trig=move_pages nproc=2 label=.."
void TracefsParser::marker(const TracefsLine& line) {
    Scan scan(line.body);
    if (!scan.skip(" H1 ")) return;
    if (scan.skip("START ")) {
        launcher_ = line.tid;
        candidates_.clear();
    } else if (scan.skip("ROOTPID ")) {
        i32 root = 0;
        if (!scan.number(root) || line.tid != launcher_) return;
        launcher_ = 0;
        for (i32 candidate : candidates_) {
            if (candidate == root) {
                root_seen_ = true;
            } else {
                processes_.erase(candidate);
                thread(candidate).pid = 0;
            }
        }
    } else if (scan.skip("ROOT ")) {
        i32 root = 0;
        if (!scan.number(root) || root <= 0) return;
        processes_[root].pid = root;
        Thread& thread = this->thread(root);
        thread.pid = thread.last_pid = root;
        root_seen_ = true;
    } else if (scan.skip("WALK_BEGIN ")) {
        burst(line.body, line.time, true);
    } else if (scan.skip("WALK_END ")) {
        burst(line.body, line.time, false);
    }
}

bool TracefsParser::burst(std::string_view text, i64 time, bool begins) {
    Fields fields(text);
    const i32 number = static_cast<i32>(fields.number(" n="));
    if (!fields.ok()) return false;
    if (begins) {
        if (burst_open_) truth_.append(burst_);
        const std::size_t label = text.find(" label=");
        burst_.time = time;
        burst_.end_time = time;
        burst_.burst = number;
        burst_.label = label == std::string_view::npos ? "" : text.substr(label + 7);
        burst_open_ = true;
    } else if (burst_open_ && burst_.burst == number) {
        burst_.end_time = time;
        burst_open_ = false;
        truth_.append(burst_);
    }
    return true;
}

}  // namespace rmapreplay
