// SPDX-License-Identifier: GPL-2.0-only
// System calls: enter and exit of each thread paired, and the rows they make.
#include <utility>

#include "traces/native/history.hpp"

namespace rmapreplay {
namespace {

constexpr i64 kUnknown = 1;  // result of an execve whose return was not seen

bool is_exec(Sys sys) { return sys == Sys::execve || sys == Sys::execveat; }

bool never_returns(Sys sys) { return sys == Sys::exit || sys == Sys::exit_group; }

}  // namespace

void History::enter(i64 time, Task task, const Call& call) {
    stats_.syscalls.add(syscall_name(call.sys));
    if (!is_exec(call.sys) && !known_or_dropped(task.pid)) return;
    Thread& thread = threads_[task.tid];
    thread.faulting = false;
    if (never_returns(call.sys)) return;
    if (thread.in_call) {
        ++stats_.unmatched_enters;
        abandon(task, thread);
    }
    settle_exit_mmap(thread);
    thread.adopted = false;
    thread.in_call = true;
    thread.locked = 0;
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
    thread.in_call = thread.faulting = false;
    if (thread.copy != 0) copy_failed(task, thread);
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
            finish_row(place, event, made, thread);
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
            finish_row(place, event, made, thread);
            break;
        }
    }
}

void History::finish_row(Timeline::Place place, const Event& event, bool made, Thread& thread) {
    if (!made) {
        timeline_.cancel(place);
    } else if (place == 0) {
        timeline_.push(event, std::move(thread.reported));
    } else if (!timeline_.fill(place, event, std::move(thread.reported))) {
        stats_.dropped.add("returned_too_late");
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
    // Through ipc() it returns 0, and the address to memory.
    if (!thread.has_mapping || (result != 0 && thread.mapping.addr != static_cast<u64>(result))) {
        stats_.dropped.add("shmat_of_unknown_length");
        return false;
    }
    const u64 shmflg = thread.call.args[2];
    event.op = Op::mmap;
    event.addr = thread.mapping.addr;
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
    if (thread.copy != 0) copy_failed(task, thread);
    if (thread.exec) finish_exec(task, thread, thread.exec->committed() ? 0 : kUnknown);
    thread.in_call = false;
}

}  // namespace rmapreplay
