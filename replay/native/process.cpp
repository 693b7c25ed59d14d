// SPDX-License-Identifier: GPL-2.0-only
// Processes and their address spaces: fork, exec, and what exec maps (kernel/fork.c, fs/exec.c,
// fs/binfmt_elf.c, mm/mmap.c).
#include <algorithm>

#include "replay/native/state.hpp"

namespace rmapreplay {

namespace {

constexpr u64 kCloneVm = 0x100, kCloneThread = 0x10000;  // CLONE_*, linux/sched.h
constexpr u64 kStackExpand = u64{128} << 10;  // setup_arg_pages(): room below the arguments
constexpr u64 kStackFlags =
    VM_READ | VM_WRITE | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC | VM_GROWSDOWN | VM_ACCOUNT;

}  // namespace

AddressSpace* Machine::State::mm_alloc(i32 pid) {
    mms.push_back(std::make_unique<AddressSpace>());
    AddressSpace* mm = mms.back().get();
    mm->serial = ++mms_made;
    mm->pid = pid;
    return mm;
}

// ---- fork ----

void Machine::State::do_fork(const Event& e) {
    AddressSpace* const copied = take_forked(e.tid);
    if (Process* parent = process_of(e.pid)) add_child(e, *parent->mm, copied);
    if (copied && !copied->users) exit_mmap(copied);  // it was for a fork that failed
}

void Machine::State::add_child(const Event& e, AddressSpace& parent, AddressSpace* copied) {
    if (e.flags & kCloneThread) {
        ++find_process(e.pid)->tasks;
        ++parent.users;
        return;
    }
    if (e.child <= 0) {
        anomaly(Anomaly::unknown_process);
        return;
    }
    if (const Process* stale = find_process(e.child)) {
        anomaly(Anomaly::fork_existing);
        AddressSpace* old = stale->mm;
        old->users -= stale->tasks;
        drop_process(e.child);
        // A process id is free only when the teardown is over.
        if (!old->users) exit_mmap(old);
        if (old == &parent) return;
    }
    AddressSpace* mm = &parent;
    if (!(e.flags & kCloneVm)) {
        mm = copied;
        if (!mm) {
            mm = dup_mm(parent);
            dup_mmap(*mm, parent, 0, kTaskSize);
            model.mm_fork_end(*mm, parent);
        }
        mm->pid = e.child;
        mm_owned(*mm);
    }
    ++mm->users;
    make_process(e.child) = Process{mm, 1};
}

// dup_mmap(), or a part of it: the VMAs that begin below addr. Whose address space this is to be,
// the fork row tells.
void Machine::State::do_dup_mmap(const Event& e) {
    AddressSpace* parent = mm_of(e.pid);
    auto it = std::find_if(forked.begin(), forked.end(),
                           [&](const ForkedMm& each) { return each.tid == e.tid; });
    if (it != forked.end() && (!parent || it->parent != parent)) {
        drop_forked(e.tid);
        it = forked.end();
    }
    if (!parent) return;
    if (it == forked.end()) it = forked.insert(it, {e.tid, dup_mm(*parent), parent});
    const u64 from = std::exchange(it->until, e.addr ? e.addr : kTaskSize);
    dup_mmap(*it->mm, *parent, from, it->until);
    if (e.addr) return;
    model.mm_fork_end(*it->mm, *parent);
    it->parent = nullptr;
}

// What dup_mmap() has made; one that was cut off is of no use.
AddressSpace* Machine::State::take_forked(i32 tid) {
    const auto it = std::find_if(forked.begin(), forked.end(),
                                 [&](const ForkedMm& each) { return each.tid == tid; });
    if (it == forked.end()) return nullptr;
    const ForkedMm taken = *it;
    forked.erase(it);
    if (!taken.parent) return taken.mm;
    exit_mmap(taken.mm);
    return nullptr;
}

void Machine::State::drop_forked(i32 tid) {
    if (AddressSpace* mm = take_forked(tid)) exit_mmap(mm);
}

// What is to become a copy; it belongs to no process yet.
AddressSpace* Machine::State::dup_mm(AddressSpace& parent) {
    AddressSpace* child = mm_alloc(0);
    child->brk = parent.brk;
    child->brk_start = parent.brk_start;
    child->heap_start = parent.heap_start;
    child->heap_end = parent.heap_end;
    child->fork_depth = static_cast<u16>(std::min(parent.fork_depth + 1, 0xffff));
    child->thp_disabled = parent.thp_disabled;
    child->ksm_merge_any = parent.ksm_merge_any;
    child->vmas.reserve(parent.vmas.size());
    mm_made(*child, MmOrigin::fork, &parent);
    model.mm_fork_begin(*child, parent);
    return child;
}

// Copies the VMAs that begin in [start, end), with their pages. In the kernel the parent's do not
// change meanwhile; should a trace say so, what no longer fits is left out.
void Machine::State::dup_mmap(AddressSpace& child, AddressSpace& parent, u64 start, u64 end) {
    if (!child.vmas.empty()) start = std::max(start, child.vmas.at(child.vmas.size() - 1)->end);
    for (std::size_t i = parent.vmas.lower(start); i < parent.vmas.size(); ++i) {
        const Vma& from = *parent.vmas.at(i);
        if (from.start >= end) break;
        if (from.start < start || from.flags & VM_DONTCOPY) continue;
        Vma* vma = vma_dup(from);
        vma->mm = &child;
        vma->anon_vma = nullptr;
        vma->flags &= ~(VM_LOCKED | VM_LOCKONFAULT);
        const bool wipe = vma->flags & VM_WIPEONFORK;
        if (from.anon_vma && !wipe) model.anon_vma_fork(*vma, from);
        child.vmas.append(vma);
        // vma_needs_copy()
        if ((from.anon_vma || (from.flags & VM_MAYBE_GUARD)) && !wipe)
            copy_page_range(child, parent, from);
    }
}

// ---- exec ----

void Machine::State::do_exec(const Event& e) {
    drop_forked(e.tid);
    Process* process = find_process(e.pid);
    if (!process || !process->exec_begun) begin_exec(e.pid);
    Process& execed = *find_process(e.pid);
    execed.exec_begun = false;
    mm_execed(*execed.mm);
}

// A new mm with one VMA, at the top of the address space, that holds the arguments; only then does
// the old mm lose a user (bprm_mm_init(), exec_mmap()).
void Machine::State::begin_exec(i32 pid) {
    AddressSpace* mm = mm_alloc(pid);
    mm_made(*mm, MmOrigin::exec);
    model.mm_init(*mm);
    Process* process = find_process(pid);
    if (process) {  // MMF_INIT_LEGACY_MASK: kept over execve()
        const AddressSpace& old = *process->mm;
        mm->thp_disabled = old.thp_disabled;
        mm->ksm_merge_any = old.ksm_merge_any;
    }
    Vma* stack = vma_alloc(*mm);
    stack->start = kTaskSize - kPageSize;
    stack->end = kTaskSize;
    stack->pgoff = stack->anon_pgoff = stack->start >> kPageShift;
    // VM_STACK_INCOMPLETE_SETUP
    stack->flags = ksm_vma_flags(*mm, kStackFlags | VM_RAND_READ | VM_SEQ_READ);
    mm->vmas.insert(stack);
    mm->exec_stack = stack;
    handle_fault(*mm, *stack, stack->start, true, -1);

    mm->users = 1;
    if (!process) process = &make_process(pid);
    const Process before = std::exchange(*process, Process{mm, 1, true});
    if (before.mm) mm_put(before.mm, pid, before.tasks);
}

// setup_arg_pages(): the stack with its arguments moves down to where it is to be, keeping its
// offsets, and gets room to grow.
void Machine::State::setup_arg_pages(AddressSpace& mm, u64 start, u64 end) {
    Vma& stack = *mm.exec_stack;
    const u64 args = end - start > kStackExpand ? end - start - kStackExpand : kPageSize;
    while (stack.end - stack.start < args) {
        expand_downwards(mm, stack, stack.start - kPageSize);
        handle_fault(mm, stack, stack.start, true, -1);
    }
    const u64 shift = stack.end - end;
    const u64 old_start = stack.start, old_end = stack.end, length = old_end - old_start;
    if (shift) {  // relocate_vma_down()
        u64 pgoff = stack.pgoff, anon_pgoff = stack.anon_pgoff;
        if (needs.index_is_address) pgoff = anon_pgoff = (old_start - shift) >> kPageShift;
        pre_update(stack);
        set_range(stack, old_start - shift, old_end, pgoff, anon_pgoff);
        post_update(stack);
        move_page_tables(mm, old_start, old_start - shift, length);
        pre_update(stack);
        set_range(stack, old_start - shift, end, pgoff, anon_pgoff);
        post_update(stack);
        free_page_tables(mm, old_start, old_end);
    }
    stack.flags &= ~(VM_RAND_READ | VM_SEQ_READ);
    vma_changed(stack);
    mm.exec_stack = nullptr;
    if (start < stack.start) {
        pre_update(stack);
        resize(stack, start, stack.end);
        post_update(stack);
    }
}

// A row that says what is mapped at a place: exec's own mappings, or a snapshot.
void Machine::State::do_mapping(const Event& e) {
    if (!find_process(e.pid)) {
        AddressSpace* fresh = mm_alloc(e.pid);
        mm_made(*fresh, MmOrigin::first_seen);
        model.mm_init(*fresh);
        fresh->users = 1;
        make_process(e.pid) = Process{fresh, 1};
    }
    AddressSpace& mm = *find_process(e.pid)->mm;
    const u64 end = e.addr + page_up(e.len);
    if (mm.exec_stack && e.special == Special::stack) {
        setup_arg_pages(mm, e.addr, end);
        return;
    }
    if (mm.exec_stack && end > mm.exec_stack->start && e.addr < mm.exec_stack->end) {
        // Arguments longer than a page: the stack before it is moved.
        Vma& stack = *mm.exec_stack;
        while (stack.start > e.addr) {
            if (!expand_downwards(mm, stack, stack.start - kPageSize)) break;
            handle_fault(mm, stack, stack.start, true, -1);
        }
        return;
    }
    MmapRequest r;
    r.start = e.addr;
    r.end = end;
    r.flags = e.vm_flags ? e.vm_flags & ~VM_SOFTDIRTY : vm_flags_for(mm, e.prot, e.flags);
    const bool anonymous = e.file == 0;
    r.file = e.file;
    r.pgoff = anonymous ? r.start >> kPageShift : e.offset >> kPageShift;
    r.anon_pgoff = anon_pgoff_apart || anonymous ? r.start >> kPageShift : r.pgoff;
    switch (e.special) {
        case Special::stack:  // of a snapshot: its offset is from before it was moved
            r.flags |= kStackFlags;
            if (!needs.index_is_address) r.anon_pgoff = r.pgoff = e.offset >> kPageShift;
            break;
        case Special::vdso:
        case Special::vvar:
        case Special::vvar_vclock:
        case Special::uprobes:
            // Special mappings have operations of their own: each is a file that nobody shares.
            r.flags = (r.flags & ~VM_ACCOUNT) | VM_DONTEXPAND;
            r.file = kSpecialFiles + ++shared_files;
            break;
        case Special::heap:
            mm.heap_start = r.start;
            mm.heap_end = r.end;
            [[fallthrough]];
        case Special::none: r.just_expand = anonymous; break;  // bss: do_brk_flags()
    }
    mmap_region(mm, r);
}

}  // namespace rmapreplay
