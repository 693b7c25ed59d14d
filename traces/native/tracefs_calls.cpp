// SPDX-License-Identifier: GPL-2.0-only
// System calls, and what they map.
#include "traces/native/tracefs.hpp"

namespace rmapreplay {
namespace {

constexpr u64 kPageShift = 12;

// include/linux/mm.h
constexpr u64 VM_GROWSDOWN = 0x100;
constexpr u64 VM_SHARED = 0x8;
constexpr u64 VM_LOCKED = 0x2000;
constexpr u64 VM_NORESERVE = 0x200000;
constexpr u64 VM_HUGETLB = 0x400000;
// include/uapi/asm-generic/mman.h
constexpr u64 MAP_LOCKED_ = 0x2000;
constexpr u64 MAP_NORESERVE_ = 0x4000;
bool is_exec(Sys sys) { return sys == Sys::execve || sys == Sys::execveat; }

u64 map_flags(u64 vm_flags, bool has_file) {
    u64 flags = (vm_flags & VM_SHARED) != 0 ? uapi::map_shared : uapi::map_private;
    if (!has_file) flags |= uapi::map_anonymous;
    if ((vm_flags & VM_GROWSDOWN) != 0) flags |= uapi::map_growsdown;
    if ((vm_flags & VM_LOCKED) != 0) flags |= MAP_LOCKED_;
    if ((vm_flags & VM_NORESERVE) != 0) flags |= MAP_NORESERVE_;
    if ((vm_flags & VM_HUGETLB) != 0) flags |= uapi::map_hugetlb;
    return flags;
}

}  // namespace

// ---- system calls ----

void TracefsParser::enter(const TracefsLine& line, Thread& thread, Sys sys) {
    stats_.syscalls.add(syscall_name(sys));
    if (!started_or_dropped(thread)) return;
    if (sys == Sys::exit || sys == Sys::exit_group) return;  // never return
    Call call;
    call.sys = sys;
    if (!parse_syscall_arguments(line.body, call)) {
        stats_.dropped.add("malformed_line");
        return;
    }
    if (thread.in_call) {
        ++stats_.unmatched_enters;
        abandon_call(thread, {});
    }
    thread.in_call = true;
    thread.call = call;
    thread.map_end = 0;
    thread.do_mmap_file = 0;
    thread.reported.clear();
    if (row_at(call) == RowAt::enter) thread.call_place = timeline_.reserve(line.time);
}

void TracefsParser::exit(const TracefsLine& line, Thread& thread, Sys sys, i64 result) {
    Process* process = this->process(thread);
    if (is_exec(sys) && result == 0 && process && process->exec) finish_exec(*process);
    if (thread.in_call && thread.call.sys != sys) {
        ++stats_.unmatched_enters;
        abandon_call(thread, {});
    }
    if (!thread.in_call) {
        // The candidate's first exec was entered before the trace began; a new task returns from a
        // clone that its parent entered.
        const bool no_enter = is_exec(sys) || (makes_task(sys) && result == 0);
        if (started_or_dropped(thread) && !no_enter) ++stats_.unmatched_exits;
        return;
    }
    thread.in_call = false;
    const Timeline::Place place = std::exchange(thread.call_place, 0);
    Timeline::Reported reported;
    if (reports_vmas(thread.call)) reported = take_reported(thread);
    if (makes_task(sys)) cancel_dup(thread);
    if (is_error(result) && !failed_with_effect(thread.call, -result)) {
        stats_.dropped.add("failed_" + syscall_name(sys) + "_" + errno_name(-result));
        if (place) timeline_.cancel(place);
        return;
    }
    Event event = row(line.time, thread.pid, line.tid, Op::mmap);
    if (!make_call_row(thread, result, event) || !within_user_space(event)) {
        if (place) timeline_.cancel(place);
    } else if (place == 0) {
        timeline_.push(event, std::move(reported));
    } else if (!timeline_.fill(place, event, std::move(reported))) {
        stats_.dropped.add("returned_too_late");
    }
}

bool TracefsParser::make_call_row(Thread& thread, i64 result, Event& event) {
    const Call& call = thread.call;
    switch (row_at(call)) {
        case RowAt::nowhere: return false;
        case RowAt::unusable:
            stats_.dropped.add("unusable_" + syscall_name(call.sys));
            return false;
        default: break;
    }
    if (call.sys == Sys::shmat) return false;  // do_mmap() has told all of it
    if (call.sys == Sys::shmdt) {
        auto& shm = processes_[thread.pid].shm;
        const auto it = shm.find(call.args[0]);
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
    describe(call, result, event);
    if (call.sys != Sys::mmap) return true;
    // MAP_SHARED|MAP_ANONYMOUS gets a file of its own inside do_mmap(): only the VMA has it.
    const bool in_vma = event.addr >= thread.map_start && event.addr < thread.map_end;
    event.file = in_vma ? thread.map_file : thread.do_mmap_file;
    return true;
}

// mprotect, madvise and mlock of nothing, or up to a hole, may name addresses that cannot exist.
bool TracefsParser::within_user_space(const Event& event) {
    if (event.addr < kUserEnd && event.len <= ~event.addr && event.new_addr < kUserEnd) return true;
    stats_.dropped.add("address_beyond_user_space");
    return false;
}

void TracefsParser::abandon_call(Thread& thread, std::string_view reason) {
    if (!reason.empty() && row_at(thread.call) != RowAt::nowhere) stats_.dropped.add(reason);
    if (thread.call_place) timeline_.cancel(std::exchange(thread.call_place, 0));
    thread.in_call = false;
}

// ---- what is mapped ----

bool TracefsParser::mapped(const TracefsLine& line, Thread& thread) {
    Fields fields(line.body);
    const u64 pointer = fields.number(" mm=");
    const u64 start = fields.number(" start=");
    const u64 end = fields.number(" end=");
    const u64 vm_flags = fields.number(" fl=");
    const u64 pgoff = fields.number(" pgoff=");
    const u64 file = fields.number(" file=");
    if (!fields.ok()) return false;
    const TracefsMm* mm = mms_.find(pointer);
    Process* process = this->process(thread);
    if (!mm || mm->state == TracefsMm::State::dead) {
        stats_.dropped.add(process ? "before_first_exec" : "other_process");
        return true;
    }
    const bool in_exec = process && process->exec && process->mm == mm->serial;
    if (mm->state == TracefsMm::State::bprm) {
        // Room for long arguments; the length of the final stack tells as much.
        stats_.dropped.add("mapping_of_unplaced_stack");
        return true;
    }
    if (!in_exec) {  // state after an mmap, mprotect, brk or stack growth
        thread.reported.push_back({pointer, {start, end}});
        thread.map_file = file_id(file);
        thread.map_start = start;
        thread.map_end = end;
        return true;
    }
    Event event = row(line.time, process->pid, line.tid, Op::mapping);
    event.addr = start;
    event.len = end - start;
    event.offset = pgoff << kPageShift;
    event.vm_flags = vm_flags;
    event.prot = static_cast<u32>(vm_flags & 7);  // VM_READ, VM_WRITE, VM_EXEC are PROT_*
    event.flags = map_flags(vm_flags, file != 0);
    event.file = file_id(file);
    // With five-level page tables the stack is first made at 2^56.
    const bool unplaced = (vm_flags & VM_GROWSDOWN) != 0 && start >= kUserEnd;
    if (unplaced) stats_.dropped.add("mapping_of_unplaced_stack");
    if (!unplaced && within_user_space(event)) exec_mapping(*process, event, file);
    return true;
}

Timeline::Reported TracefsParser::take_reported(Thread& thread) {
    Timeline::Reported taken;
    for (const Reported& reported : thread.reported) taken.push_back(reported.vma);
    thread.reported.clear();
    return taken;
}

// The return of do_mmap(), still under mmap_lock: where an mmap row sits, before the faults of
// MAP_POPULATE.
bool TracefsParser::do_mmap(const TracefsLine& line, Thread& thread) {
    Fields fields(line.body);
    const u64 file = fields.number(" file=");
    const u64 len = fields.number(" len=");
    const u64 prot = fields.number(" prot=");
    const u64 flags = fields.number(" flags=");
    const u64 pgoff = fields.number(" pgoff=");
    const u64 address = fields.number(" ret=");
    if (!fields.ok()) return false;
    if (!started_or_dropped(thread)) return true;
    Process& process = processes_[thread.pid];
    if (process.exec || is_error(static_cast<i64>(address))) return true;
    if (thread.in_call && thread.call.sys == Sys::mmap) {
        thread.do_mmap_file = file_id(file);
        if (thread.call_place == 0) thread.call_place = timeline_.reserve(line.time);
        return true;
    }
    // shmat, io_setup and other calls that map something besides what they are for
    Event event = row(line.time, thread.pid, line.tid, Op::mmap);
    event.addr = address;
    event.len = len;
    event.prot = static_cast<u32>(prot);
    event.flags = flags;
    event.file = file_id(file);
    if (file != 0) event.offset = pgoff << kPageShift;
    Timeline::Reported reported = take_reported(thread);
    if (!within_user_space(event)) return true;
    timeline_.push(event, std::move(reported));
    if (thread.in_call && thread.call.sys == Sys::shmat) process.shm[address] = len;
    return true;
}

}  // namespace rmapreplay
