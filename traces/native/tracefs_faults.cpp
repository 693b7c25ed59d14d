// SPDX-License-Identifier: GPL-2.0-only
// Faults, and the folios that they map.
#include "traces/native/tracefs.hpp"

namespace rmapreplay {
namespace {

constexpr u64 kPageMask = ~u64{0xfff};
constexpr u64 kPageSize = 4096;
constexpr u64 kPmdPages = 512;  // HPAGE_PMD_NR

// enum fault_flag and enum vm_fault_reason, include/linux/mm_types.h
constexpr u64 FAULT_FLAG_WRITE = 0x1;
constexpr u64 FAULT_FLAG_USER = 0x40;
constexpr u64 FAULT_FLAG_REMOTE = 0x80;
constexpr u64 VM_FAULT_OOM = 0x1;
constexpr u64 VM_FAULT_SIGBUS = 0x2;
constexpr u64 VM_FAULT_HWPOISON = 0x10 | 0x20;  // small and large
constexpr u64 VM_FAULT_SIGSEGV = 0x40;
constexpr u64 VM_FAULT_RETRY = 0x400;

// include/linux/page-flags.h
constexpr u64 PG_swapcache = 1u << 10;
constexpr u64 PG_swapbacked = 1u << 17;

constexpr u64 kReadAhead = 1;  // swap_in: flags

// Whether the call takes away what is mapped at the address. A split on the way has uprobe_mmap()
// write breakpoints once more into what is about to go.
bool unmaps(const Call& call, u64 addr) {
    if (call.sys != Sys::munmap && call.sys != Sys::mremap) return false;
    return addr >= call.args[0] && addr - call.args[0] < call.args[1];
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

}  // namespace

bool TracefsParser::fault_enter(const TracefsLine& line, Thread& thread) {
    Fields fields(line.body);
    const u64 pointer = fields.number(" mm=");
    const u64 addr = fields.number(" addr=");
    const u64 flags = fields.number(" flags=");
    if (!fields.ok()) return false;
    if (thread.in_fault) {
        timeline_.cancel(thread.fault_place);
        timeline_.cancel(std::exchange(thread.swap_in_place, 0));
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
    // What it mapped from the swap cache it mapped, even if it could not go on to copy it.
    const Timeline::Place swap_in_place = std::exchange(thread.swap_in_place, 0);
    Process* process = this->process(thread);
    TracefsMm* mm = mms_.find(thread.fault_mm);
    if (swap_in_place != 0) {
        const bool own = process && mm && process->mm == mm->serial;
        thread.swap_in.pid = own ? thread.pid : mm ? mm->pid : 0;
        thread.swap_in.tid = own ? line.tid : thread.swap_in.pid;
        if (thread.swap_in.pid != 0) {
            timeline_.fill(swap_in_place, thread.swap_in);
        } else {
            timeline_.cancel(swap_in_place);
        }
    }
    if (!fields.ok() || !error.empty() || (result & VM_FAULT_RETRY) != 0) {
        timeline_.cancel(thread.fault_place);
        if (fields.ok()) stats_.dropped.add(error.empty() ? "fault_retry" : error);
        return fields.ok();
    }
    Event& event = thread.fault;
    if (event.source == Source::kernel && is_gup(probe_symbol(line.body))) {
        event.source = Source::gup;
    }
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
    if (!timeline_.fill(thread.fault_place, event, grown(thread))) {
        stats_.dropped.add("returned_too_late");
    }
    return true;
}

// The stack that was extended for the fault, before handle_mm_fault() was called; what a call in
// progress has made waits for the call.
Timeline::Reported TracefsParser::grown(Thread& thread) {
    if (thread.reported.empty() || (thread.in_call && reports_vmas(thread.call))) return {};
    const auto below = [&](const Reported& reported) {
        return reported.mm == thread.fault_mm && thread.fault.addr >= reported.vma.start &&
               thread.fault.addr < reported.vma.end;
    };
    Timeline::Reported grown;
    for (const Reported& reported : thread.reported) {
        if (below(reported)) grown.push_back(reported.vma);
    }
    std::erase_if(thread.reported, below);
    return grown;
}

// folio_add_new_anon_rmap(): the last one of a fault is the folio it ends with.
bool TracefsParser::new_folio(const TracefsLine& line, Thread& thread) {
    ++new_folios_;
    if (line.body.find(" flags=") == std::string_view::npos) return true;
    Fields fields(line.body);
    const u64 flags = fields.number(" flags=");
    const u64 flags_1 = fields.number(" f1=");
    if (!fields.ok()) return false;
    ++orders_told_;
    if (!thread.in_fault) return true;
    thread.fault.order = folio_order(flags, flags_1);
    // What is made for the fault is not swapbacked yet; what reading ahead has made is.
    if (thread.fault.write || (flags & PG_swapbacked) == 0 || (flags & PG_swapcache) == 0)
        return true;
    const u64 addr = fields.number(" addr=");
    if (!fields.ok()) return false;
    swapped_in(line.time, thread, addr, u64{1} << thread.fault.order);
    thread.swap_in.flags = kReadAhead;
    return true;
}

// folio_add_anon_rmap_ptes() in a fault: do_swap_page() found the folio in the swap cache and still
// anonymous. One that it read anew comes by new_folio(); the walks of reclaim and migration that a
// fault may have to wait for have their own use of the function.
bool TracefsParser::mapped_again(const TracefsLine& line, Thread& thread) {
    if (!thread.in_fault || walks_.in_walk(line.tid)) return true;
    Fields fields(line.body);
    const u64 pages = fields.number(" n=");
    const u64 addr = fields.number(" addr=");
    if (!fields.ok()) return false;
    // The other use in a fault: __split_huge_pmd_locked() maps each page of a huge folio.
    const bool told = line.body.find(" flags=") != std::string_view::npos;
    const bool swapcache = told && (fields.number(" flags=") & PG_swapcache) != 0;
    if (pages == kPmdPages && !swapcache) return true;
    swapped_in(line.time, thread, addr, pages);
    return true;
}

// The fault goes on from here, perhaps to copy the page.
void TracefsParser::swapped_in(i64 time, Thread& thread, u64 addr, u64 pages) {
    timeline_.cancel(thread.fault_place);
    timeline_.cancel(thread.swap_in_place);
    thread.swap_in_place = timeline_.reserve(time);
    thread.fault_place = timeline_.reserve(time);
    thread.swap_in = Event{};
    thread.swap_in.op = Op::swap_in;
    thread.swap_in.addr = addr & kPageMask;
    thread.swap_in.len = pages * kPageSize;
}

}  // namespace rmapreplay
