// SPDX-License-Identifier: GPL-2.0-only
// Address spaces: which one a task locks, copies and ends.
#include <algorithm>
#include <iterator>
#include <utility>

#include "traces/native/history.hpp"

namespace rmapreplay {

// ---- the mmap lock ----

void History::write_locked(i64 time, Task task, u64 mm) {
    if (!known_or_dropped(task.pid)) return;
    ExecWindow* exec = exec_window(task);
    Thread& thread = threads_[task.tid];
    const u64 before = std::exchange(thread.locked, mm);
    AddressSpace* own = processes_[task.pid].mm.get();
    if (!own) return;
    if (exec) {
        if (exec->committed()) own->mm = mm;
        return;
    }
    end_copy(*own, time, task, mm);
    if (!thread.in_call) return;
    if (makes_task(thread.call.sys)) {
        // dup_mmap() locks the parent's, then the child's.
        if (before == 0 || before == mm || thread.copy != 0) return;
        own->mm = before;
        own->copier = task.tid;
        thread.copy = mm;
    } else if (locks_mm(thread.call)) {
        own->mm = mm;
        timeline_.cancel(thread.place);
        thread.place = timeline_.reserve(time);
    }
}

// Most faults need no lock but the VMA's. That which gives a VMA its first anon_vma, and one in a
// VMA that another task is changing, wait for this one.
void History::read_locked(i64 time, Task task, u64 mm) {
    if (!known_or_dropped(task.pid)) return;
    const auto it = threads_.find(task.tid);
    AddressSpace* own = processes_[task.pid].mm.get();
    if (it == threads_.end() || !own || (own->mm != 0 && own->mm != mm)) return;
    Thread& thread = it->second;
    end_copy(*own, time, task, mm);
    if (thread.faulting) {
        if (const Timeline::Place place = timeline_.postpone(thread.fault, time)) {
            thread.fault = place;
        } else {
            stats_.dropped.add("fault_locked_too_late");
        }
    } else if (thread.place != 0 && thread.locked == 0 && locks_mm(thread.call)) {
        thread.locked = mm;
        timeline_.cancel(thread.place);
        thread.place = timeline_.reserve(time);
    }
}

// Another task has got the lock that dup_mmap() holds: the copy is done.
void History::end_copy(AddressSpace& own, i64 time, Task task, u64 mm) {
    if (own.copier == 0 || own.copier == task.tid || own.mm != mm) return;
    threads_[std::exchange(own.copier, 0)].dup_mmap = timeline_.reserve(time);
}

// The copy was done when somebody else got the lock, or else just now.
void History::copy_done(i64 time, Task task, Thread& thread) {
    const Event event = row(time, task, Op::dup_mmap);
    if (thread.dup_mmap == 0) {
        push(event);
    } else {
        timeline_.fill(std::exchange(thread.dup_mmap, 0), event);
    }
    copy_over(task, thread);
}

void History::copy_failed(Task task, Thread& thread) {
    timeline_.cancel(std::exchange(thread.dup_mmap, 0));
    copy_over(task, thread);
}

void History::copy_over(Task task, Thread& thread) {
    thread.copy = 0;
    AddressSpace* own = processes_[task.pid].mm.get();
    if (own && own->copier == task.tid) own->copier = 0;
}

// ---- the end of an address space ----

void History::leave_mm(i32 pid, Process& process) {
    if (!process.mm) return;
    if (process.mm.use_count() == 1 && !process.mm->ended) ended_.push_back({pid, process.mm->mm});
    process.mm.reset();
}

// The latest of those whose exit_mmap() is due that `mm` (0: not known) is known to be.
std::optional<i32> History::take_ended(u64 mm) {
    const auto it = std::find_if(ended_.rbegin(), ended_.rend(),
                                 [&](const Ended& each) { return mm != 0 && each.mm == mm; });
    if (it == ended_.rend()) return std::nullopt;
    const i32 pid = it->pid;
    ended_.erase(std::next(it).base());
    return pid;
}

// The first of those that it may be; with `pid`, of those of this process.
std::optional<i32> History::guess_ended(u64 mm, std::optional<i32> pid) {
    const auto it = std::find_if(ended_.begin(), ended_.end(), [&](const Ended& each) {
        return (mm == 0 || each.mm == 0) && (!pid || each.pid == *pid);
    });
    if (it == ended_.end()) return std::nullopt;
    const i32 found = it->pid;
    ended_.erase(it);
    return found;
}

// The task goes on, so the address space it put an end to is not its own: it held a reference on
// another's, as a reader of /proc/PID does. Whose, only its pointer tells, if that is known.
void History::settle_exit_mmap(Thread& thread) {
    if (thread.exit_mmap == 0) return;
    timeline_.cancel(std::exchange(thread.exit, 0));
    const Timeline::Place place = std::exchange(thread.exit_mmap, 0);
    const u64 mm = std::exchange(thread.exit_mm, 0);
    std::optional<i32> pid = take_ended(mm);
    if (!pid) pid = guess_ended(mm);
    if (pid) {
        timeline_.fill(place, row(0, {*pid, *pid}, Op::exit_mmap));
    } else {
        timeline_.cancel(place);
        stats_.dropped.add("exit_mmap_of_unknown_process");
    }
}

void History::exit_mmap(i64 time, Task task) {
    ExecWindow* exec = exec_window(task);
    if (exec && exec->exit_mmap() != 0) {  // two in one exec: the first was not what it seemed
        timeline_.cancel(exec->exit_mmap());
        exec->hold_exit_mmap(0);
        stats_.dropped.add("exit_mmap_repeated");
    }
    if (!known_or_dropped(task.pid)) return;
    exit_mmap_seen_ = true;
    // In an exec this is the old address space if the exec succeeds, else the unfinished new one.
    if (exec && !exec->committed()) {
        exec->hold_exit_mmap(timeline_.reserve(time));
        return;
    }
    // exit_mmap() itself has locked it.
    Thread& thread = threads_[task.tid];
    const u64 mm = std::exchange(thread.locked, 0);
    if (mm != 0 && mm == thread.copy) {
        copy_failed(task, thread);
        stats_.dropped.add("exit_mmap_of_failed_fork");
        return;
    }
    std::optional<i32> pid = take_ended(mm);
    if (!pid) pid = guess_ended(mm, task.pid);
    if (pid) {
        push(row(time, *pid == task.pid ? task : Task{*pid, *pid}, Op::exit_mmap));
    } else {
        settle_exit_mmap(thread);
        thread.pid = task.pid;
        thread.exit = timeline_.reserve(time);
        thread.exit_mmap = timeline_.reserve(time);
        thread.exit_mm = mm;
    }
    if (processes_[task.pid].threads > 0) return;
    settle_exit_mmap(thread);
    threads_.erase(task.tid);
}

}  // namespace rmapreplay
