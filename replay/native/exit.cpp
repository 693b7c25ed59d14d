// SPDX-License-Identifier: GPL-2.0-only
// The end of tasks and of address spaces (kernel/exit.c, exit_mmap() in mm/mmap.c), all at once or
// step by step, as far as the trace has rows of the steps.
#include <algorithm>

#include "replay/native/state.hpp"

namespace rmapreplay {

namespace {

// The first step that waits for its row.
ExitStep first_with_row(Teardown teardown) {
    switch (teardown) {
        case Teardown::all: return ExitStep::unmap_vmas;
        case Teardown::vmas: return ExitStep::free_pgtables;
        case Teardown::at_exit: break;
    }
    return ExitStep::none;
}

}  // namespace

void Machine::State::do_exit(const Event& e) {
    drop_forked(e.tid);
    Process* process = find_process(e.pid);
    if (!process) {
        anomaly(Anomaly::exit_unknown);
        return;
    }
    AddressSpace* mm = process->mm;
    if (--process->tasks == 0) drop_process(e.pid);
    mm_put(mm, e.pid);
}

void Machine::State::mm_put(AddressSpace* mm, i32 pid, u32 tasks) {
    mm->users -= tasks;
    if (mm->users) {
        const Process* process = find_process(pid);
        if (mm->pid == pid && (!process || process->mm != mm)) rename(*mm);
        return;
    }
    switch (facts.teardown) {
        case Teardown::at_exit: exit_mmap(mm); return;
        case Teardown::vmas: exit_mmap(mm, ExitStep::unmap_vmas); break;
        case Teardown::all: break;
    }
    dying.push_back({pid, mm});
}

// The process it is called after is gone, and others still use it: the one with the lowest number.
void Machine::State::rename(AddressSpace& mm) {
    for (std::size_t pid = 0; pid < process_slot.size(); ++pid)
        if (process_slot[pid] && processes[process_slot[pid] - 1].mm == &mm) {
            mm.pid = static_cast<i32>(pid);
            return;
        }
}

// exit_mmap(): all pages, then all links in address order, then the VMAs. If free_pgtables() is the
// last step, it may be done for now with the VMAs that begin below `below`.
void Machine::State::exit_mmap(AddressSpace* mm, ExitStep until, u64 below) {
    const std::size_t n = mm->vmas.size();
    const auto due = [&](ExitStep step) { return mm->exited < step && step <= until; };
    if (due(ExitStep::unmap_vmas)) {
        for (std::size_t i = 0; i < n; ++i) {
            Vma& vma = *mm->vmas.at(i);
            if (vma.anon_vma) zap_range(*mm, vma, vma.start, vma.end, false);
        }
        mm->pages.free_all(store);
        mm->exited = ExitStep::unmap_vmas;
    }
    if (due(ExitStep::free_pgtables)) {
        for (std::size_t i = 0; i < n && mm->vmas.at(i)->start < below; ++i)
            unlink_anon_vmas(*mm->vmas.at(i));
        if (below < kTaskSize) return;
        mm->exited = ExitStep::free_pgtables;
    }
    if (until < ExitStep::exit_mmap) return;
    for (std::size_t i = 0; i < n; ++i) vma_free(mm->vmas.at(i));
    mm->vmas.clear();
    model.mm_exit(*mm);
    mm_gone(*mm);
    std::erase_if(dying, [&](const DyingMm& each) { return each.mm == mm; });
    mms.erase(std::find_if(mms.begin(), mms.end(), [&](auto& p) { return p.get() == mm; }));
}

// ---- rows of the teardown ----

void Machine::State::do_teardown(const Event& e, ExitStep step) {
    // The trace does not have these rows of every address space, so none waited for this one.
    const ExitStep first = first_with_row(facts.teardown);
    if (first == ExitStep::none || step < first) return;
    if (AddressSpace* mm = exiting_mm(e.pid, step))
        exit_mmap(mm, step, e.addr && step == ExitStep::free_pgtables ? e.addr : kTaskSize);
    else
        anomaly(Anomaly::exit_unknown);  // no address space has an end without rows before it
}

// The oldest mm known by this process id that still has the step to do. If none is dying it is that
// of a living process, which loses it by the exec whose row comes next, and has had its new one
// since execve() began.
AddressSpace* Machine::State::exiting_mm(i32 pid, ExitStep step) {
    for (const DyingMm& each : dying)
        if ((each.pid == pid || each.mm->pid == pid) && each.mm->exited < step) return each.mm;
    const Process* process = find_process(pid);
    if (!process || process->mm->users != process->tasks) return nullptr;
    AddressSpace* mm = process->mm;
    const Op row = op;
    begin_operation(Op::exec, pid);
    begin_exec(pid);
    end_operation();
    begin_operation(row, pid);
    return mm;
}

// Those whose rows the capture has lost, or ended before; and copies for forks that never came.
void Machine::State::finish_teardown() {
    if (dying.empty() && forked.empty()) return;
    begin_operation(Op::exit_mmap, 0);
    while (!forked.empty()) drop_forked(forked.front().tid);
    while (!dying.empty()) {
        anomaly(Anomaly::teardown_not_seen);
        exit_mmap(dying.front().mm);
    }
    end_operation();
}

}  // namespace rmapreplay
