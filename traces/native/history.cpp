// SPDX-License-Identifier: GPL-2.0-only
#include "traces/native/history.hpp"

#include <stdexcept>
#include <utility>

namespace rmapreplay {
namespace {

constexpr u64 kUserEnd = u64{1} << 47;  // TASK_SIZE_MAX with four-level page tables, plus a page
constexpr u64 kPageMask = ~u64{0xfff};

// include/asm/trap_pf.h
constexpr u64 X86_PF_PROT = 1u << 0;
constexpr u64 X86_PF_WRITE = 1u << 1;

constexpr i64 kUnknown = 1;  // result of an execve whose return was not seen

bool is_exec(Sys sys) { return sys == Sys::execve || sys == Sys::execveat; }

bool makes_task(Sys sys) {
    return sys == Sys::clone || sys == Sys::fork || sys == Sys::vfork || sys == Sys::clone3;
}

bool never_returns(Sys sys) { return sys == Sys::exit || sys == Sys::exit_group; }

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
        child.threads = 1;
        child.shm = processes_[parent.pid].shm;
        if (processes_[parent.pid].mm && (clone_flags & uapi::clone_vm) != 0) {
            child.mm = processes_[parent.pid].mm;
        }
        processes_[child_tid] = std::move(child);
        last_pid_ = -1;
    }
    threads_.erase(child_tid);
    if (auto it = threads_.find(parent.tid); it != threads_.end()) settle_exit_mmap(it->second);
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
}

// ---- system calls ----

void History::enter(i64 time, Task task, const Call& call) {
    stats_.syscalls.add(syscall_name(call.sys));
    if (!is_exec(call.sys) && !known_or_dropped(task.pid)) return;
    if (never_returns(call.sys)) return;
    Thread& thread = threads_[task.tid];
    if (thread.in_call) {
        ++stats_.unmatched_enters;
        abandon(task, thread);
    }
    settle_exit_mmap(thread);
    thread.adopted = false;
    thread.in_call = true;
    thread.pid = task.pid;
    thread.call = call;
    thread.has_mapping = false;
    thread.reported.clear();
    if (is_exec(call.sys)) {
        thread.exec = std::make_unique<ExecWindow>();
        processes_[task.pid].exec_tid = task.tid;
    } else if (row_at(call) == RowAt::enter) {
        thread.place = timeline_.reserve(time);
    }
}

void History::exit(i64 time, Task task, Sys sys, i64 result) {
    auto it = threads_.find(task.tid);
    if (it != threads_.end()) settle_exit_mmap(it->second);
    if (it != threads_.end() && it->second.in_call && it->second.call.sys != sys) {
        ++stats_.unmatched_enters;
        abandon(task, it->second);
    }
    if (it == threads_.end() || !it->second.in_call) {
        if (!known_or_dropped(task.pid)) return;
        if (it != threads_.end() && std::exchange(it->second.adopted, false)) {
            stats_.dropped.add("entered_before_capture");
        } else if (!(makes_task(sys) && result == 0)) {  // a new task's, from its parent's clone
            ++stats_.unmatched_exits;
        }
        return;
    }
    Thread& thread = it->second;
    thread.in_call = false;
    if (is_exec(sys)) {
        finish_exec(task, thread, result);
    } else {
        finish_call(time, task, thread, result);
    }
    for (Event& event : std::exchange(thread.after_call, {})) {
        event.time = time;
        push(event);
    }
}

void History::finish_call(i64 time, Task task, Thread& thread, i64 result) {
    const Call& call = thread.call;
    const Timeline::Place place = std::exchange(thread.place, 0);
    if (is_error(result) && !failed_with_effect(call, -result)) {
        stats_.dropped.add("failed_" + syscall_name(call.sys) + "_" + errno_name(-result));
        if (place) timeline_.cancel(place);
        return;
    }
    Event event = row(time, task, Op::mmap);
    switch (row_at(call)) {
        case RowAt::nowhere: break;
        case RowAt::unusable: stats_.dropped.add("unusable_" + syscall_name(call.sys)); break;
        case RowAt::exit: {
            const bool made = call.sys == Sys::shmat ? describe_shmat(task, thread, result, event)
                                                     : describe_mmap(task, thread, result, event);
            if (made) timeline_.push(event, std::move(thread.reported));
            break;
        }
        case RowAt::enter: {
            bool made = true;
            if (call.sys == Sys::shmdt) {
                made = describe_shmdt(task, thread, event);
            } else {
                describe(call, result, event);
                made = within_user_space(event);
            }
            if (!made) {
                timeline_.cancel(place);
            } else if (!timeline_.fill(place, event, std::move(thread.reported))) {
                stats_.dropped.add("returned_too_late");
            }
            break;
        }
    }
}

// mprotect, madvise and mlock of nothing, or up to a hole, may name addresses that cannot exist.
bool History::within_user_space(const Event& event) {
    if (event.addr < kUserEnd && event.len <= ~event.addr) return true;
    stats_.dropped.add("address_beyond_user_space");
    return false;
}

bool History::describe_mmap(Task task, Thread& thread, i64 result, Event& event) {
    describe(thread.call, result, event);
    const bool reported = thread.has_mapping && !is_error(result) &&
                          event.addr - thread.mapping.addr < thread.mapping.len;
    if (reported && !thread.identity.empty()) event.path = thread.mapping.path;
    if ((event.flags & uapi::map_anonymous) != 0) return true;
    if (reported && !thread.identity.empty()) {
        event.file = files_.id(thread.identity, event.fd);
    } else {
        event.file = files_.id("process " + std::to_string(task.pid), event.fd);
        stats_.dropped.add("inode_of_mmap");
    }
    return true;
}

bool History::describe_shmat(Task task, Thread& thread, i64 result, Event& event) {
    if (!thread.has_mapping || thread.mapping.addr != static_cast<u64>(result)) {
        stats_.dropped.add("shmat_of_unknown_length");
        return false;
    }
    const u64 shmflg = thread.call.args[2];
    event.op = Op::mmap;
    event.addr = static_cast<u64>(result);
    event.len = thread.mapping.len;
    event.flags = uapi::map_shared | ((shmflg & uapi::shm_remap) != 0 ? uapi::map_fixed : 0);
    event.prot = uapi::prot_read | ((shmflg & uapi::shm_rdonly) != 0 ? 0 : uapi::prot_write) |
                 ((shmflg & uapi::shm_exec) != 0 ? uapi::prot_exec : 0);
    event.file = files_.fresh();  // do_shmat() opens the segment anew each time
    event.path = thread.mapping.path;
    processes_[task.pid].shm[event.addr] = event.len;
    return true;
}

bool History::describe_shmdt(Task task, Thread& thread, Event& event) {
    auto& shm = processes_[task.pid].shm;
    auto it = shm.find(thread.call.args[0]);
    if (it == shm.end()) {
        stats_.dropped.add("shmdt_of_unknown_length");
        return false;
    }
    event.op = Op::munmap;
    event.addr = it->first;
    event.len = it->second;
    shm.erase(it);
    return true;
}

// The call's outcome will never be known.
void History::abandon(Task task, Thread& thread) {
    if (!thread.after_call.empty()) {
        stats_.dropped.add("fault_in_unfinished_call", thread.after_call.size());
        thread.after_call.clear();
    }
    if (thread.place) timeline_.cancel(std::exchange(thread.place, 0));
    if (thread.exec) finish_exec(task, thread, thread.exec->committed() ? 0 : kUnknown);
    thread.in_call = false;
}

// ---- what is mapped ----

void History::mapped(i64 time, Task task, const Mapping& mapping) {
    ExecWindow* exec = exec_window(task);
    if (exec && !exec->takes_mappings()) exec = nullptr;
    if (!exec && !known_sideband(task.pid)) return;
    if (!exec) {
        const auto it = threads_.find(task.tid);
        if (it != threads_.end()) reported(it->second, mapping);
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
