// SPDX-License-Identifier: GPL-2.0-only
// fork's copy of an address space, and the end of one.
#include <utility>

#include "traces/native/tracefs.hpp"

namespace rmapreplay {

// ---- dup_mmap() ----

bool TracefsParser::mm_dup(const TracefsLine& line, Thread& thread) {
    Fields fields(line.body);
    const u64 pointer = fields.number(" mm=");
    if (!fields.ok()) return false;
    cancel_dup(thread);
    const Process* process = this->process(thread);
    if (!process || !process->started) {
        mms_.forget(pointer);
        return true;
    }
    thread.forked_mm = mms_.create(pointer, TracefsMm::State::forked, 0).serial;
    thread.in_dup = true;
    thread.copied = thread.copied_told = 0;
    return true;
}

// Whether the rest of copy_process() goes well is yet to be seen.
bool TracefsParser::mm_dup_done(const TracefsLine& line, Thread& thread) {
    if (!std::exchange(thread.in_dup, false)) return true;
    const bool told = line.body.find(" ret=") != std::string_view::npos;
    Fields fields(line.body);
    const bool failed = told && fields.number(" ret=") != 0;
    if (!fields.ok()) return false;
    if (!failed) thread.dup_place = timeline_.reserve(line.time);
    return true;
}

void TracefsParser::cancel_dup(Thread& thread) {
    timeline_.cancel(std::exchange(thread.dup_place, 0));
}

// ---- exit_mmap() ----

// The process uses the mm no more. If others made with CLONE_VM do, it is that of the lowest
// number, as the machine has it.
void TracefsParser::leave_mm(u32 serial, i32 pid) {
    TracefsMm* mm = mms_.by_serial(serial);
    if (!mm || --mm->users == 0 || mm->pid != pid) return;
    for (const auto& [other, user] : processes_) {
        if (other == pid || user.mm != serial) continue;
        if (mm->pid == pid || other < mm->pid) mm->pid = other;
    }
}

// exit_mmap(): nobody uses the mm any more. Whoever let go of it last does the work, which may be a
// reader of /proc or khugepaged; the rows name the process that it was the memory of.
bool TracefsParser::mm_exit(const TracefsLine& line, Thread& thread) {
    Fields fields(line.body);
    TracefsMm* mm = mms_.find(fields.number(" mm="));
    if (!fields.ok()) return false;
    if (!mm || mm->state == TracefsMm::State::dead) {
        stats_.dropped.add("other_process");
        return true;
    }
    const TracefsMm::State before = std::exchange(mm->state, TracefsMm::State::dead);
    if (before == TracefsMm::State::bprm) {
        stats_.dropped.add("exit_mmap_of_failed_exec");
        return true;
    }
    if (before == TracefsMm::State::forked) {
        if (thread.forked_mm == mm->serial) {
            cancel_dup(thread);
            thread.in_dup = false;
        }
        stats_.dropped.add("exit_mmap_of_failed_fork");
        return true;
    }
    place_exits(line, thread, *mm);
    thread.teardown = {};
    thread.teardown.mm = mm->serial;
    timeline_.push(teardown_row(line.time, line.tid, thread, Op::unmap_vmas));
    return true;
}

Event TracefsParser::teardown_row(i64 time, i32 tid, const Thread& thread, Op op) {
    const i32 pid = mms_.by_serial(thread.teardown.mm)->pid;
    return row(time, pid, thread.last_pid == pid ? tid : pid, op);
}

// Up to Linux 6.15 do_exit() calls exit_mm() first and sched_process_exit follows; a trace has the
// exits of a process before the end of its memory.
void TracefsParser::place_exits(const TracefsLine& line, Thread& thread, const TracefsMm& mm) {
    const Process* process = this->process(thread);
    if (!process || process->exec || process->mm != mm.serial) return;
    if (process->threads <= 1) {
        thread.exit_place = timeline_.reserve(line.time);
        return;
    }
    for (auto& [tid, other] : threads_) {
        if (other.pid == thread.pid) other.exit_place = timeline_.reserve(line.time);
    }
}

// unlink_anon_vmas() of a VMA in free_pgtables(), which calls it for each.
void TracefsParser::exit_mmap_unlinks(Thread& thread, u32 mm) {
    Teardown& teardown = thread.teardown;
    if (teardown.mm == 0 || teardown.mm != mm) return;
    ++teardown.vmas;
    teardown.unlinks = true;
}

// Before the first VMA is freed, or when there is none.
void TracefsParser::exit_mmap_unlinked(i64 time, i32 tid, Thread& thread) {
    if (!std::exchange(thread.teardown.unlinks, false)) return;
    timeline_.push(teardown_row(time, tid, thread, Op::free_pgtables));
}

// Another task goes on. What this one has copied or taken away by now is told, since what the other
// does may depend on it: rows with an address, up to which it is done.
void TracefsParser::pause(i64 time, i32 tid, Thread& thread) {
    if (thread.in_dup && thread.copied > thread.copied_told) {
        Event event = row(time, thread.pid, tid, Op::dup_mmap);
        event.addr = thread.copied_told = thread.copied;
        timeline_.push(event);
    }
    Teardown& teardown = thread.teardown;
    if (teardown.unlinks && teardown.unlinked > teardown.told) {
        Event event = teardown_row(time, tid, thread, Op::free_pgtables);
        event.addr = teardown.told = teardown.unlinked;
        timeline_.push(event);
    }
}

// The row belongs where the last VMA is freed, which is known when as many are gone as there were.
void TracefsParser::exit_mmap_frees(const TracefsLine& line, Thread& thread, u32 mm) {
    Teardown& teardown = thread.teardown;
    if (teardown.mm == 0 || teardown.mm != mm) return;
    exit_mmap_unlinked(line.time, line.tid, thread);
    if (teardown.end != 0) timeline_.cancel(teardown.end);
    teardown.end = timeline_.reserve(line.time);
    if (teardown.vmas > 0 && --teardown.vmas == 0) exit_mmap_done(line.tid, thread);
}

void TracefsParser::exit_mmap_done(i32 tid, Thread& thread) {
    exit_mmap_unlinked(now_, tid, thread);
    const Event event = teardown_row(now_, tid, thread, Op::exit_mmap);
    const Teardown teardown = std::exchange(thread.teardown, {});
    if (teardown.end == 0) {
        timeline_.push(event);
    } else {
        timeline_.fill(teardown.end, event);
    }
    Process* process = this->process(thread);
    if (!process || !process->exec || process->exec->old_mm != teardown.mm) return;
    process->exec->old_mm = 0;
    place_exec(*process, now_);
}

}  // namespace rmapreplay
