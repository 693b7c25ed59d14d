// SPDX-License-Identifier: GPL-2.0-only
// execve.
#include <utility>

#include "traces/native/history.hpp"

namespace rmapreplay {

ExecWindow* History::exec_window(Task task) {
    auto thread = threads_.find(task.tid);
    if (thread != threads_.end() && thread->second.exec) return thread->second.exec.get();
    // A thread that execs takes over the leader's tid (de_thread(), fs/exec.c).
    auto process = processes_.find(task.pid);
    if (process == processes_.end() || process->second.exec_tid == 0 || task.pid != task.tid) {
        return nullptr;
    }
    auto from = threads_.find(process->second.exec_tid);
    if (from == threads_.end() || !from->second.exec) return nullptr;
    process->second.exec_tid = task.tid;
    Thread moved = std::move(from->second);
    threads_.erase(from);
    Thread& to = threads_[task.tid];
    to = std::move(moved);
    return to.exec.get();
}

void History::comm_exec(i64 time, Task task) {
    ExecWindow* exec = exec_window(task);
    if (!exec) {
        if (!known_sideband(task.pid)) return;
        Thread& thread = threads_[task.tid];
        const bool adopted = std::exchange(thread.adopted, false);
        stats_.dropped.add(adopted ? "entered_before_capture" : "enter_of_exec");
        abandon(task, thread);
        thread.in_call = true;
        thread.pid = task.pid;
        thread.call.sys = Sys::execve;
        thread.exec = std::make_unique<ExecWindow>();
        exec = thread.exec.get();
    }
    Process& process = processes_[task.pid];
    if (exec->exit_mmap() != 0) {
        timeline_.fill(exec->exit_mmap(), row(time, task, Op::exit_mmap));
        if (process.mm) process.mm->ended = true;
    }
    if (process.known) leave_mm(task.pid, process);
    process.mm = std::make_shared<AddressSpace>();
    process.known = true;
    process.threads = 1;
    process.shm.clear();
    last_pid_ = -1;
    exec->commit(timeline_.reserve(time));
    for (Event& event : exec->take_held()) {
        event.time = time;
        push(event);
    }
}

void History::exec_done(i64 time, Task task, std::string_view filename) {
    ExecWindow* exec = exec_window(task);
    if (!exec || !exec->committed() || exec->row() == 0) {
        if (known_or_dropped(task.pid)) stats_.dropped.add("exec_without_comm");
        return;
    }
    Event event = row(time, task, Op::exec);
    event.path = out_.path(filename);
    timeline_.fill(exec->row(), event);
    exec->row_filled();
}

void History::finish_exec(Task task, Thread& thread, i64 result) {
    const std::unique_ptr<ExecWindow> exec = std::move(thread.exec);
    thread.in_call = false;
    processes_[task.pid].exec_tid = 0;
    if (!exec) return;
    if (exec->committed()) {
        if (exec->row() != 0) timeline_.fill(exec->row(), row(0, task, Op::exec));
        return;
    }
    if (exec->exit_mmap() != 0) {
        timeline_.cancel(exec->exit_mmap());
        stats_.dropped.add("exit_mmap_of_failed_exec");
    }
    if (is_error(result)) {
        stats_.dropped.add("failed_" + syscall_name(thread.call.sys) + "_" + errno_name(-result));
    } else if (result == 0) {
        stats_.dropped.add("exec_without_comm");
    }
}

}  // namespace rmapreplay
