// SPDX-License-Identifier: GPL-2.0-only
#include "traces/native/history.hpp"

#include <stdexcept>
#include <utility>

namespace rmapreplay {
namespace {

constexpr u64 kPageMask = ~u64{0xfff};

// include/asm/trap_pf.h
constexpr u64 X86_PF_PROT = 1u << 0;
constexpr u64 X86_PF_WRITE = 1u << 1;

}  // namespace

// ---- processes ----

bool History::known(i32 pid) {
    if (pid != last_pid_) {
        auto it = processes_.find(pid);
        last_pid_ = pid;
        last_known_ = it != processes_.end() && it->second.known;
    }
    return last_known_;
}

bool History::known_or_dropped(i32 pid) {
    if (known(pid)) return true;
    stats_.dropped.add("before_first_exec");
    return false;
}

bool History::known_sideband(i32 pid) {
    if (known(pid)) return true;
    stats_.dropped.add("sideband_of_unknown_process");
    return false;
}

Event History::row(i64 time, Task task, Op op) const {
    Event event;
    event.time = time;
    event.op = op;
    event.pid = task.pid;
    event.tid = task.tid;
    return event;
}

void History::adopt(i32 pid, std::span<const i32> tids, i32 mm_of) {
    const std::string name = "process " + std::to_string(pid);
    if (known(pid)) throw std::invalid_argument(name + " is known already");
    if (tids.empty()) throw std::invalid_argument(name + " has no task");
    if (mm_of != 0 && !known(mm_of)) {
        throw std::invalid_argument(name + " shares the memory of an unknown one");
    }
    Process process;
    process.known = true;
    process.threads = static_cast<i32>(tids.size());
    if (mm_of != 0) process.mm = processes_[mm_of].mm;
    processes_[pid] = std::move(process);
    for (const i32 tid : tids) threads_[tid].adopted = true;
    last_pid_ = -1;
}

void History::adopt_shm(i32 pid, u64 addr, u64 len) {
    if (!known(pid)) {
        throw std::invalid_argument("process " + std::to_string(pid) + " is not known");
    }
    processes_[pid].shm[addr] = len;
}

void History::new_task(i64 time, Task parent, i32 child_tid, u64 clone_flags) {
    if (!known_or_dropped(parent.pid)) {
        processes_.erase(child_tid);  // the number may have been another process's before
        last_pid_ = -1;
        return;
    }
    const auto maker = threads_.find(parent.tid);
    u64 copy = 0;
    if (maker != threads_.end()) {
        settle_exit_mmap(maker->second);
        copy = maker->second.copy;
        if (copy != 0) copy_done(time, parent, maker->second);
    }
    Event event = row(time, parent, Op::fork);
    event.flags = clone_flags;
    event.child_tid = child_tid;
    if ((clone_flags & uapi::clone_thread) != 0) {
        event.child = parent.pid;
        ++processes_[parent.pid].threads;
    } else {
        event.child = child_tid;
        Process child;
        child.known = true;
        child.compat = processes_[parent.pid].compat;
        child.threads = 1;
        child.shm = processes_[parent.pid].shm;
        if (processes_[parent.pid].mm && (clone_flags & uapi::clone_vm) != 0) {
            child.mm = processes_[parent.pid].mm;
        } else {
            child.mm->mm = copy;
        }
        processes_[child_tid] = std::move(child);
        last_pid_ = -1;
    }
    threads_.erase(child_tid);
    push(event);
}

void History::task_exit(i64 time, Task task) {
    Timeline::Place place = 0;
    if (auto it = threads_.find(task.tid); it != threads_.end()) {
        Thread& thread = it->second;
        if (thread.exec && thread.exec->committed()) {
            finish_exec(task, thread, 0);
        } else if (thread.in_call) {
            if (thread.exec || row_at(thread.call) != RowAt::nowhere) {
                stats_.dropped.add("killed_in_syscall");
            }
            abandon(task, thread);
        }
        if (thread.exit_mmap != 0) {
            // Before Linux 6.16 sched_process_exit came after exit_mm().
            place = thread.exit;
            timeline_.fill(thread.exit_mmap, row(0, task, Op::exit_mmap));
            if (processes_[task.pid].mm) processes_[task.pid].mm->ended = true;
        }
        threads_.erase(it);
    }
    if (!known_or_dropped(task.pid)) return;
    Process& process = processes_[task.pid];
    if (--process.threads <= 0) leave_mm(task.pid, process);
    const Event event = row(time, task, Op::exit);
    if (place == 0) {
        push(event);
    } else {
        timeline_.fill(place, event);
    }
}

void History::fault(i64 time, Task task, u64 addr, u64 error_code, Source source) {
    if (!known_or_dropped(task.pid)) return;
    if (addr >= kUserEnd) {
        stats_.dropped.add("fault_on_kernel_address");
        return;
    }
    Event event = row(time, task, Op::fault);
    event.addr = addr & kPageMask;
    event.write = (error_code & X86_PF_WRITE) != 0;
    event.present = (error_code & X86_PF_PROT) != 0;
    event.source = source;
    Thread& thread = threads_[task.tid];
    settle_exit_mmap(thread);
    if (source == Source::gup && thread.in_call && row_at(thread.call) == RowAt::exit) {
        thread.after_call.push_back(event);
        return;
    }
    thread.fault = timeline_.push(event);
    thread.fault_addr = event.addr;
    thread.faulting = true;
}

// ---- what is mapped ----

void History::mapped(i64 time, Task task, const Mapping& mapping) {
    ExecWindow* exec = exec_window(task);
    if (exec && !exec->takes_mappings()) exec = nullptr;
    if (!exec && !known_sideband(task.pid)) return;
    if (!exec) {
        const auto it = threads_.find(task.tid);
        if (it == threads_.end()) return;
        if (compat(task.pid) && is_heap(it->second, mapping)) {
            it->second.reported.push_back({mapping.addr, mapping.addr + mapping.len});
        } else {
            reported(it->second, mapping);
        }
        return;
    }
    Event event = mapping_row(mapping, out_);
    event.time = time;
    event.pid = task.pid;
    event.tid = task.tid;
    if (!mapping.identity.empty()) event.file = files_.id(mapping.identity, FileIds::kExec);
    if (!exec->committed()) {
        event.flags |= uapi::map_growsdown;  // the argument stack, not yet at its final place
        exec->hold_mapping(event);
        return;
    }
    Event trim;
    if (exec->trim(event, mapping.identity, trim)) {
        trim.time = time;
        trim.pid = task.pid;
        trim.tid = task.tid;
        push(trim);
    }
    push(event);
}

// A VMA after a call that mapped it, or after the fault that made a stack grow.
void History::reported(Thread& thread, const Mapping& mapping) {
    settle_exit_mmap(thread);
    if (!thread.in_call || !reports_vmas(thread.call)) {
        const u64 page = thread.fault_addr - mapping.addr;
        if (thread.fault == 0 || page >= mapping.len || !mapped_) return;
        if (!timeline_.report(thread.fault, {mapping.addr, mapping.addr + mapping.len})) {
            stats_.dropped.add("mapped_too_late");
        }
        return;
    }
    thread.reported.push_back({mapping.addr, mapping.addr + mapping.len});
    if (row_at(thread.call) != RowAt::exit) return;
    thread.has_mapping = true;
    thread.mapping = mapping_row(mapping, out_);
    thread.identity.assign(mapping.identity);
}

void History::finish() {
    for (auto& [tid, thread] : threads_) {
        // Its exit would have come next.
        timeline_.fill(thread.exit_mmap, row(0, {thread.pid, tid}, Op::exit_mmap));
        if (!thread.in_call) continue;
        ++stats_.unmatched_enters;
        abandon({thread.pid, tid}, thread);
    }
    timeline_.finish();
    if (timeline_.abandoned() > 0) stats_.dropped.add("open_too_long", timeline_.abandoned());
    if (timeline_.went_back() > 0) stats_.dropped.add("time_went_back", timeline_.went_back());
    if (exit_mmap_seen_ && !ended_.empty()) {
        stats_.dropped.add("exit_mmap_not_seen", ended_.size());
    }
    stats_.processes_alive = 0;
    for (const auto& [pid, process] : processes_) {
        if (process.known && process.threads > 0) ++stats_.processes_alive;
    }
}

}  // namespace rmapreplay
