// SPDX-License-Identifier: GPL-2.0-only
// execve.
#include "traces/native/scan.hpp"
#include "traces/native/tracefs.hpp"

namespace rmapreplay {
namespace {

// include/linux/mm.h
constexpr u64 VM_PFNMAP = 0x400;
constexpr u64 VM_EXEC = 0x4;
constexpr u64 VM_GROWSDOWN = 0x100;
constexpr u64 VM_DONTEXPAND = 0x40000;

// _install_special_mapping() alone makes mappings without a file that may not be expanded.
Special special_mapping(u64 file, u64 vm_flags) {
    if (file != 0 || (vm_flags & VM_DONTEXPAND) == 0) return Special::none;
    if ((vm_flags & VM_EXEC) != 0) return Special::vdso;
    return (vm_flags & VM_PFNMAP) != 0 ? Special::vvar_vclock : Special::vvar;
}

}  // namespace

// begin_new_exec(): the point of no return. The old mm goes only after the other threads.
bool TracefsParser::mm_exec(const TracefsLine& line, Thread& thread) {
    Fields fields(line.body);
    const u64 pointer = fields.number(" mm=");
    if (!fields.ok()) return false;
    TracefsMm* mm = mms_.find(pointer);
    Process* process = this->process(thread);
    if (!process) {
        if (mm) mms_.forget(pointer);
        stats_.dropped.add("other_process");
        return true;
    }
    if (!mm || mm->state != TracefsMm::State::bprm) {
        mm = &mms_.create(pointer, TracefsMm::State::live, process->pid);
    }
    mm->state = TracefsMm::State::live;
    if (process->exec) finish_exec(*process);
    process->exec = std::make_unique<Exec>();
    process->exec->tid = line.tid;
    Thread& leader = this->thread(process->pid);  // the number it goes on under
    leader.pid = leader.last_pid = process->pid;
    leave_mm(process->mm, process->pid);
    if (const TracefsMm* old = mms_.by_serial(process->mm); old && old->users == 0) {
        process->exec->old_mm = old->serial;
    }
    process->mm = mm->serial;
    process->started = true;
    process->threads = 1;
    process->shm.clear();
    return true;
}

// The row sits where the old mm is gone and nothing has happened to the new one.
void TracefsParser::place_exec(Process& process, i64 time) {
    Exec& exec = *process.exec;
    if (exec.placed) return;
    exec.placed = true;
    exec.row = timeline_.reserve(time);
}

void TracefsParser::exec_mapping(Process& process, Event event, u64 file) {
    place_exec(process, event.time);
    Exec& exec = *process.exec;
    if (file == 0 && (event.vm_flags & VM_GROWSDOWN) != 0) {
        // Reported before it is moved to its place, and again after.
        if (exec.stack) stats_.dropped.add("mapping_of_unplaced_stack");
        event.special = Special::stack;
        event.path = table_.path("[stack]");
        exec.stack = event;
        return;
    }
    push_stack(process);
    event.special = special_mapping(file, event.vm_flags);
    event.path = table_.path(kSpecialNames[static_cast<std::size_t>(event.special)]);
    // The first segment of an ELF image is mapped with the length of the whole image, and what lies
    // behind it is unmapped without a system call (elf_load(), fs/binfmt_elf.c).
    if (event.addr > exec.image_start && event.addr < exec.image_end) {
        Event trim = row(event.time, event.pid, event.tid, Op::munmap);
        trim.addr = event.addr;
        trim.len = exec.image_end - event.addr;
        timeline_.push(trim);
        exec.image_end = exec.image_start;
    }
    if (file != 0 && file != exec.image_file) {
        exec.image_file = file;
        exec.image_start = event.addr;
        exec.image_end = event.addr + event.len;
    }
    timeline_.push(event);
}

void TracefsParser::push_stack(Process& process) {
    if (!process.exec->stack) return;
    process.exec->stack->time = now_;  // others may have gone on meanwhile
    timeline_.push(*process.exec->stack);
    process.exec->stack.reset();
}

// " filename=/bin/scen pid=116 old_pid=116", after the last of exec's own mappings
bool TracefsParser::exec_done(const TracefsLine& line) {
    const auto pid = last_field<i32>(line.body, " pid=");
    const auto old_pid = last_field<i32>(line.body, " old_pid=");
    const std::size_t end = line.body.rfind(" pid=");
    if (!pid || !old_pid || !line.body.starts_with(" filename=")) return false;
    if (*pid != *old_pid) thread(*pid) = std::exchange(thread(*old_pid), Thread{});
    Process* process = this->process(thread(*pid));
    if (!process || !process->exec) {
        stats_.dropped.add(process ? "exec_without_mm_exec" : "other_process");
        return true;
    }
    process->threads = 1;
    place_exec(*process, line.time);
    if (process->exec->row == 0) return true;
    Event event = row(line.time, process->pid, line.tid, Op::exec);
    event.path = table_.path(line.body.substr(10, end - 10));
    timeline_.fill(std::exchange(process->exec->row, 0), event);
    return true;
}

// The new program runs, or died before it could.
void TracefsParser::finish_exec(Process& process) {
    place_exec(process, now_);
    if (process.exec->row != 0) {
        timeline_.fill(process.exec->row, row(0, process.pid, process.pid, Op::exec));
    }
    push_stack(process);
    process.exec.reset();
}

}  // namespace rmapreplay
