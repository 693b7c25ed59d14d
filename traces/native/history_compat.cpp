// SPDX-License-Identifier: GPL-2.0-only
// raw_syscalls events, which tell a call by its number only, and 32-bit programs, whose numbers are
// others. What a 64-bit program calls through int 0x80 cannot be told from a call of its own.
#include <stdexcept>
#include <utility>

#include "traces/native/history.hpp"
#include "traces/native/syscalls_i386.hpp"

namespace rmapreplay {
namespace {

bool is_exec(Sys sys) { return sys == Sys::execve || sys == Sys::execveat; }

}  // namespace

void History::adopt_compat(i32 pid) {
    if (!known(pid)) {
        throw std::invalid_argument("process " + std::to_string(pid) + " is not known");
    }
    processes_[pid].compat = compat_seen_ = true;
}

bool History::compat(i32 pid) const {
    if (!compat_seen_) return false;
    const auto it = processes_.find(pid);
    return it != processes_.end() && it->second.compat;
}

void History::sys_enter(i64 time, Task task, i64 number, const std::array<u64, 6>& args) {
    if (!compat(task.pid)) {
        const Sys sys = syscall_by_number(number);
        if (sys != Sys::none) enter(time, task, {sys, args});
        return;
    }
    if (number == i386::old_mmap) stats_.dropped.add("unusable_old_mmap");
    const Call call = i386::call(number, args);
    if (call.sys != Sys::none) enter(time, task, call);
}

void History::sys_exit(i64 time, Task task, i64 number, i64 result) {
    const auto it = threads_.find(task.tid);
    const Sys entered =
        it != threads_.end() && it->second.in_call ? it->second.call.sys : Sys::none;
    const bool was_compat = compat(task.pid);
    if (is_exec(entered) && result == 0) {
        // SET_PERSONALITY2() makes the number that of an execve of the new program.
        const bool is_compat = number == i386::execve;
        if (is_compat || number == static_cast<i64>(Sys::execve)) {
            if (is_compat) compat_seen_ = true;
            processes_[task.pid].compat = is_compat;
            exit(time, task, entered, result);
            return;
        }
    }
    if (was_compat && number == i386::brk) {
        compat_brk(time, task, result);
        return;
    }
    Sys sys = was_compat ? i386::syscall(number) : syscall_by_number(number);
    if (was_compat && number == i386::ipc && (entered == Sys::shmat || entered == Sys::shmdt)) {
        sys = entered;
    }
    if (sys != Sys::none) exit(time, task, sys, result);
}

// Its row needs no more than the result; see kBrkExits.
void History::compat_brk(i64 time, Task task, i64 result) {
    stats_.syscalls.add(syscall_name(Sys::brk));
    Thread& thread = threads_[task.tid];
    settle_exit_mmap(thread);
    Event event = row(time, task, Op::brk);
    event.addr = static_cast<u64>(result);
    timeline_.push(event, std::exchange(thread.reported, {}));
}

// What perf_event_mmap() reports outside of the calls whose entry is recorded: a stack that grew
// after a fault, or a heap in brk.
bool History::is_heap(const Thread& thread, const Mapping& mapping) {
    if (thread.in_call || !mapping.identity.empty()) return false;
    const bool faulted = thread.fault != 0 && thread.fault_addr - mapping.addr < mapping.len;
    // A new heap has no name yet.
    return mapping.path == "[heap]" || (mapping.path.empty() && !faulted);
}

}  // namespace rmapreplay
