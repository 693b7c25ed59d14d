// SPDX-License-Identifier: GPL-2.0-only
// System calls, what they map, and faults.
#include "traces/native/tracefs.hpp"

namespace rmapreplay {
namespace {

constexpr u64 kPageMask = ~u64{0xfff};
constexpr u64 kPageShift = 12;
constexpr u64 kUserEnd = u64{1} << 47;  // as far as a trace's addresses go

// include/linux/mm.h
constexpr u64 VM_GROWSDOWN = 0x100;
constexpr u64 VM_SHARED = 0x8;
constexpr u64 VM_LOCKED = 0x2000;
constexpr u64 VM_NORESERVE = 0x200000;
constexpr u64 VM_HUGETLB = 0x400000;
// include/uapi/asm-generic/mman.h
constexpr u64 MAP_LOCKED_ = 0x2000;
constexpr u64 MAP_NORESERVE_ = 0x4000;
// enum fault_flag and enum vm_fault_reason, include/linux/mm_types.h
constexpr u64 FAULT_FLAG_WRITE = 0x1;
constexpr u64 FAULT_FLAG_USER = 0x40;
constexpr u64 FAULT_FLAG_REMOTE = 0x80;
constexpr u64 VM_FAULT_OOM = 0x1;
constexpr u64 VM_FAULT_SIGBUS = 0x2;
constexpr u64 VM_FAULT_HWPOISON = 0x10 | 0x20;  // small and large
constexpr u64 VM_FAULT_SIGSEGV = 0x40;
constexpr u64 VM_FAULT_RETRY = 0x400;

// Whether the call takes away what is mapped at the address. A split on the way has uprobe_mmap()
// write breakpoints once more into what is about to go.
bool unmaps(const Call& call, u64 addr) {
    if (call.sys != Sys::munmap && call.sys != Sys::mremap) return false;
    return addr >= call.args[0] && addr - call.args[0] < call.args[1];
}

bool is_exec(Sys sys) { return sys == Sys::execve || sys == Sys::execveat; }

bool makes_task(Sys sys) {
    return sys == Sys::clone || sys == Sys::fork || sys == Sys::vfork || sys == Sys::clone3;
}

// Callers of handle_mm_fault() that are not an exception's handler.
bool is_gup(std::string_view caller) {
    return caller.find("get_user_pages") != std::string_view::npos ||
           caller.starts_with("faultin_page") || caller.starts_with("fixup_user_fault");
}

std::string_view fault_error(u64 result) {
    if ((result & VM_FAULT_OOM) != 0) return "failed_fault_oom";
    if ((result & VM_FAULT_SIGBUS) != 0) return "failed_fault_sigbus";
    if ((result & VM_FAULT_HWPOISON) != 0) return "failed_fault_hwpoison";
    if ((result & VM_FAULT_SIGSEGV) != 0) return "failed_fault_sigsegv";
    return {};
}

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
    if (is_error(result) && !failed_with_effect(thread.call, -result)) {
        stats_.dropped.add("failed_" + syscall_name(sys) + "_" + errno_name(-result));
        if (place) timeline_.cancel(place);
        return;
    }
    Event event = row(line.time, thread.pid, line.tid, Op::mmap);
    if (!make_call_row(thread, result, event) || !within_user_space(event)) {
        if (place) timeline_.cancel(place);
    } else if (place == 0) {
        timeline_.push(event);
    } else if (!timeline_.fill(place, event)) {
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
    if (!process || !mm || mm->state == TracefsMm::State::dead) {
        stats_.dropped.add(process ? "before_first_exec" : "other_process");
        return true;
    }
    const bool in_exec = process->exec && process->mm == mm->serial;
    if (mm->state == TracefsMm::State::bprm) {
        // Room for long arguments; the length of the final stack tells as much.
        stats_.dropped.add("mapping_of_unplaced_stack");
        return true;
    }
    if (!in_exec) {  // state after an mmap, mprotect, brk or stack growth
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
    if (!within_user_space(event)) return true;
    timeline_.push(event);
    if (thread.in_call && thread.call.sys == Sys::shmat) process.shm[address] = len;
    return true;
}

// ---- faults ----

bool TracefsParser::fault_enter(const TracefsLine& line, Thread& thread) {
    Fields fields(line.body);
    const u64 pointer = fields.number(" mm=");
    const u64 addr = fields.number(" addr=");
    const u64 flags = fields.number(" flags=");
    if (!fields.ok()) return false;
    if (thread.in_fault) {
        timeline_.cancel(thread.fault_place);
        thread.in_fault = false;
        stats_.dropped.add("fault_end_not_seen");
    }
    const TracefsMm* mm = mms_.find(pointer);
    const Process* process = this->process(thread);
    if (mm && mm->state == TracefsMm::State::bprm) {
        stats_.dropped.add("exec_stack_gup");  // execve writes the arguments
        return true;
    }
    if (thread.in_call && unmaps(thread.call, addr)) {
        stats_.dropped.add("fault_in_range_being_unmapped");
        return true;
    }
    const bool unknown = process && process->started && process->mm == 0;
    if (!unknown && (!mm || mm->state != TracefsMm::State::live)) {
        stats_.dropped.add(process && !process->started ? "before_first_exec" : "other_process");
        return true;
    }
    // uprobe_mmap() writes its breakpoints before do_mmap() returns.
    if (thread.in_call && thread.call.sys == Sys::mmap && thread.call_place == 0) {
        thread.call_place = timeline_.reserve(line.time);
    }
    if (addr >= kUserEnd) {
        stats_.dropped.add("address_beyond_user_space");
        return true;
    }
    thread.in_fault = true;
    thread.fault_place = timeline_.reserve(line.time);
    thread.fault_mm = pointer;
    thread.fault = Event{};
    thread.fault.op = Op::fault;
    thread.fault.addr = addr & kPageMask;
    thread.fault.write = (flags & FAULT_FLAG_WRITE) != 0;
    thread.fault.source = (flags & FAULT_FLAG_USER) != 0     ? Source::user
                          : (flags & FAULT_FLAG_REMOTE) != 0 ? Source::gup
                                                             : Source::kernel;
    return true;
}

bool TracefsParser::fault_exit(const TracefsLine& line, Thread& thread) {
    if (!thread.in_fault) return true;  // dropped at its entry
    thread.in_fault = false;
    Fields fields(line.body);
    const u64 result = fields.number(" ret=");
    const std::string_view error = fault_error(result);
    if (!fields.ok() || !error.empty() || (result & VM_FAULT_RETRY) != 0) {
        timeline_.cancel(thread.fault_place);
        if (fields.ok()) stats_.dropped.add(error.empty() ? "fault_retry" : error);
        return fields.ok();
    }
    Event& event = thread.fault;
    if (event.source == Source::kernel && is_gup(probe_symbol(line.body))) {
        event.source = Source::gup;
    }
    Process* process = this->process(thread);
    TracefsMm* mm = mms_.find(thread.fault_mm);
    if (process && process->mm == 0 && event.source != Source::gup) {
        // Exceptions happen in the task's own mm; its fork was not seen to make it.
        if (!mm) mm = &mms_.create(thread.fault_mm, TracefsMm::State::live, process->pid);
        process->mm = mm->serial;
    }
    if (process && mm && process->mm == mm->serial) {
        event.pid = thread.pid;
        event.tid = line.tid;
    } else if (mm && mm->pid != 0) {  // process_vm_writev, ptrace and the like
        event.pid = mm->pid;
        event.tid = mm->pid;
    } else {
        timeline_.cancel(thread.fault_place);
        stats_.dropped.add("other_process");
        return true;
    }
    if (!timeline_.fill(thread.fault_place, event)) stats_.dropped.add("returned_too_late");
    return true;
}

}  // namespace rmapreplay
