// SPDX-License-Identifier: GPL-2.0-only
// Splitting, merging, mapping and unmapping of VMAs, by the rules of mm/vma.c (Linux 7.3; what
// earlier kernels do otherwise is said where it matters).
#include "replay/native/state.hpp"

namespace rmapreplay {

namespace {

constexpr u64 kVmasPerChunk = 256;

// VM_STICKY: a merge does not need these equal, and its result keeps them (v7.3 VMA_STICKY_FLAGS).
constexpr u64 kSticky = VM_SOFTDIRTY | VM_MAYBE_GUARD;

constexpr u64 PROT_READ = 0x1, PROT_WRITE = 0x2, PROT_EXEC = 0x4;
constexpr u64 MAP_SHARED = 0x01, MAP_TYPE = 0x0f, MAP_SHARED_VALIDATE = 0x03, MAP_DROPPABLE = 0x08,
              MAP_FIXED = 0x10, MAP_ANONYMOUS = 0x20, MAP_GROWSDOWN = 0x100, MAP_LOCKED = 0x2000,
              MAP_NORESERVE = 0x4000, MAP_POPULATE = 0x8000, MAP_NONBLOCK = 0x10000,
              MAP_STACK = 0x20000, MAP_HUGETLB = 0x40000, MAP_FIXED_NOREPLACE = 0x100000;

u64 pages_between(u64 start, u64 end) { return (end - start) >> kPageShift; }

}  // namespace

// ---- objects ----

Vma* Machine::State::vma_alloc(AddressSpace& mm, std::size_t site) {
    costs.allocated_at(site, kVmAreaStruct);
    if (free_vmas.empty()) {
        vma_chunks.push_back(std::make_unique<Vma[]>(kVmasPerChunk));
        for (u64 i = kVmasPerChunk; i-- > 0;) {
            Vma& vma = vma_chunks.back()[i];
            vma.slot = static_cast<u32>((vma_chunks.size() - 1) * kVmasPerChunk + i);
            free_vmas.push_back(&vma);
        }
    }
    Vma* vma = free_vmas.back();
    free_vmas.pop_back();
    const u32 slot = vma->slot;
    *vma = Vma{};
    vma->mm = &mm;
    vma->serial = ++vmas_made;
    vma->slot = slot;
    if (timeline) timeline->vma_made(*vma);
    return vma;
}

// vm_area_dup(): everything but the model's links.
Vma* Machine::State::vma_dup(const Vma& vma) {
    Vma* copy = vma_alloc(static_cast<AddressSpace&>(*vma.mm), kVmAreaDup);
    const u32 serial = copy->serial, slot = copy->slot;
    *copy = vma;
    copy->serial = serial;
    copy->slot = slot;
    copy->chain = nullptr;
    if (timeline) timeline->vma_made(*copy, &vma);
    return copy;
}

void Machine::State::vma_free(Vma* vma) {
    costs.freed(kVmAreaStruct);
    if (timeline) timeline->vma_freed(*vma);
    vma->mm = nullptr;
    vma->serial = 0;
    free_vmas.push_back(vma);
}

void Machine::State::set_range(Vma& vma, u64 start, u64 end, u64 pgoff, u64 anon_pgoff) {
    VmaTree& tree = vma.mm->vmas;
    tree.set_end(tree.index_of(&vma), end);
    vma.start = start;
    vma.end = end;
    vma.pgoff = pgoff;
    vma.anon_pgoff = anon_pgoff;
    vma_changed(vma);
}

void Machine::State::resize(Vma& vma, u64 start, u64 end) {
    // Unsigned wrap makes this right for growth at the start too.
    const u64 delta = static_cast<u64>(static_cast<i64>(start - vma.start) >> kPageShift);
    set_range(vma, start, end, vma.pgoff + delta, vma.anon_pgoff + delta);
}

void Machine::State::anon_vma_prepare(Vma& vma) {
    if (vma.anon_vma) return;
    model.anon_vma_prepare(vma);
    vma_changed(vma);
}

// ---- split ----

// __split_vma(): the new VMA is the part below addr, or the part above it. The old one keeps its
// identity but loses its place among equals in the model's trees.
Vma* Machine::State::split_vma(AddressSpace& mm, Vma* vma, u64 addr, bool new_below) {
    split_huge_at(mm, addr);
    Vma* fresh = vma_dup(*vma);
    if (new_below) {
        fresh->end = addr;
    } else {
        const u64 delta = pages_between(vma->start, addr);
        fresh->start = addr;
        fresh->pgoff += delta;
        fresh->anon_pgoff += delta;
    }
    if (vma->anon_vma) model.anon_vma_clone(*fresh, *vma, CloneFor::split);
    pre_update(*vma);
    if (new_below)
        resize(*vma, addr, vma->end);
    else
        resize(*vma, vma->start, addr);
    mm.vmas.insert(fresh);
    post_update(*vma);
    return fresh;
}

// ---- merge ----

bool Machine::State::is_mergeable_vma(const VmaMerge& vmg, const Vma& vma) const {
    return vma.policy == vmg.policy && ((vma.flags ^ vmg.flags) & ~kSticky) == 0 &&
           vma.file == vmg.file && vma.anon_name == vmg.anon_name;
}

bool Machine::State::is_mergeable_anon_vma(const VmaMerge& vmg, const Vma& target) const {
    // An unfaulted target would take over the source's links: not those of a fork child, and none
    // before Linux kernel commit 879bca0a2c4f ("mm/vma: fix incorrectly disallowed anonymous VMA
    // merges") (in v6.16), when its own empty list was not list_is_singular() either.
    if (!target.anon_vma && vmg.anon_vma)
        return facts.kernel > Kernel::v6_12 && !is_fork_child(vmg.middle) &&
               !is_fork_child(vmg.copied_from);
    if (target.anon_vma && !vmg.anon_vma) return !is_fork_child(&target);
    return target.anon_vma == vmg.anon_vma;
}

bool Machine::State::can_vma_merge_left(const VmaMerge& vmg) const {
    const Vma* prev = vmg.prev;
    if (!prev || prev->end != vmg.start) return false;
    if (!is_mergeable_vma(vmg, *prev) || !is_mergeable_anon_vma(vmg, *prev)) return false;
    // v7.3 wants the anonymous offsets adjacent only for private file mappings; before, and for
    // anonymous memory, both offsets are the same number.
    return prev->pgoff + prev->pages() == vmg.pgoff &&
           prev->anon_pgoff + prev->pages() == vmg.anon_pgoff;
}

bool Machine::State::can_vma_merge_right(const VmaMerge& vmg, bool can_merge_left) const {
    const Vma* next = vmg.next;
    if (!next || next->start != vmg.end) return false;
    if (!is_mergeable_vma(vmg, *next) || !is_mergeable_anon_vma(vmg, *next)) return false;
    const u64 pages = pages_between(vmg.start, vmg.end);
    if (vmg.pgoff + pages != next->pgoff || vmg.anon_pgoff + pages != next->anon_pgoff)
        return false;
    // Each fits the new range; all three join only if they fit each other too.
    return !can_merge_left || !vmg.prev->anon_vma || !next->anon_vma ||
           vmg.prev->anon_vma == next->anon_vma;
}

void Machine::State::dup_anon_vma(Vma& dst, const Vma& src) {
    if (!src.anon_vma || dst.anon_vma) return;
    dst.anon_vma = src.anon_vma;
    model.anon_vma_clone(dst, src, CloneFor::merge_unfaulted);
    vma_changed(dst);
}

void Machine::State::commit_merge(VmaMerge& vmg) {
    AddressSpace& mm = *vmg.mm;
    Vma& vma = vmg.adjust_next_start ? *vmg.middle : *vmg.target;
    Vma* adjust = vmg.adjust_middle_start ? vmg.middle : vmg.adjust_next_start ? vmg.next : nullptr;
    split_huge_at(mm, vmg.start);
    split_huge_at(mm, vmg.end);
    Vma* removed[2] = {vmg.remove_middle ? vmg.middle : nullptr,
                       vmg.remove_next ? vmg.next : nullptr};
    pre_update(vma);
    if (adjust) pre_update(*adjust);
    for (Vma* gone : removed)
        if (gone) mm.vmas.erase(gone);
    // The one that shrinks goes first, so that the tree stays ordered by end.
    if (vmg.adjust_middle_start) {
        resize(*adjust, vmg.end, adjust->end);
        set_range(vma, vmg.start, vmg.end, vmg.pgoff, vmg.anon_pgoff);
    } else if (vmg.adjust_next_start) {
        set_range(vma, vmg.start, vmg.end, vmg.pgoff, vmg.anon_pgoff);
        resize(*adjust, vmg.end, adjust->end);
    } else {
        set_range(vma, vmg.start, vmg.end, vmg.pgoff, vmg.anon_pgoff);
    }
    post_update(vma);
    if (adjust) post_update(*adjust);
    for (Vma* gone : removed)
        if (gone) {
            unlink_anon_vmas(*gone);
            vma_free(gone);
        }
}

//              vmg.start  vmg.end
//                  v         v
//    |---- prev ---|* middle *|---- next ---|   middle as a whole: one or both neighbours take it
//    |---- prev ---|****|-- middle rest ----|   its lower part: prev grows, middle shrinks
//    |- middle rest --|****|---- next ------|   its upper part: next grows, middle shrinks
Vma* Machine::State::vma_merge_existing_range(VmaMerge& vmg) {
    Vma* middle = vmg.middle;
    Vma* prev = vmg.prev;
    const u64 start = vmg.start;
    const bool left_side = vmg.start == middle->start;
    const bool right_side = vmg.end == middle->end;
    if ((vmg.flags & VM_SPECIAL) || (!left_side && !right_side)) return nullptr;

    const bool merge_left = left_side && can_vma_merge_left(vmg);
    bool merge_right = false;
    if (right_side) {
        vmg.next = vmg.mm->vmas.next(middle);
        merge_right = can_vma_merge_right(vmg, merge_left);
    }
    if (!merge_left && !merge_right) return nullptr;
    Vma* next = vmg.next;
    const bool merge_both = merge_left && merge_right;
    vmg.remove_middle = left_side && right_side;
    vmg.remove_next = merge_both;

    u64 sticky = vmg.flags & kSticky;
    if (merge_right) sticky |= next->flags & kSticky;
    if (merge_left) sticky |= prev->flags & kSticky;
    vmg.target = merge_left ? prev : next;
    if (merge_left) {
        vmg.start = prev->start;
        vmg.pgoff = prev->pgoff;
        vmg.anon_pgoff = prev->anon_pgoff;
        if (merge_both) {
            vmg.end = next->end;
            dup_anon_vma(*prev, next->anon_vma ? *next : *middle);
        } else {
            vmg.adjust_middle_start = !vmg.remove_middle;
            dup_anon_vma(*prev, *middle);
        }
    } else {
        if (vmg.remove_middle) {
            const u64 pages = pages_between(vmg.start, vmg.end);
            vmg.end = next->end;
            vmg.pgoff = next->pgoff - pages;
            vmg.anon_pgoff = next->anon_pgoff - pages;
        } else {
            vmg.adjust_next_start = true;
            vmg.start = middle->start;
            vmg.end = start;
            vmg.pgoff = middle->pgoff;
            vmg.anon_pgoff = middle->anon_pgoff;
        }
        dup_anon_vma(*next, *middle);
    }
    commit_merge(vmg);
    vmg.target->flags |= sticky;
    return vmg.target;
}

//    |---- prev ---|  new range  |---- next ---|   prev, next or both grow over it
Vma* Machine::State::vma_merge_new_range(VmaMerge& vmg) {
    if ((vmg.flags & VM_SPECIAL) || (!vmg.prev && !vmg.next)) return nullptr;
    const bool left = can_vma_merge_left(vmg);
    const bool right = !vmg.just_expand && can_vma_merge_right(vmg, left);
    if (right) {
        const u64 pages = pages_between(vmg.start, vmg.end);
        vmg.target = vmg.next;
        vmg.end = vmg.next->end;
        vmg.pgoff = vmg.next->pgoff - pages;
        vmg.anon_pgoff = vmg.next->anon_pgoff - pages;
    }
    if (left) {
        vmg.target = vmg.prev;
        vmg.start = vmg.prev->start;
        vmg.pgoff = vmg.prev->pgoff;
        vmg.anon_pgoff = vmg.prev->anon_pgoff;
    }
    if (!vmg.target) return nullptr;
    vma_expand(vmg);
    return vmg.target;
}

void Machine::State::vma_expand(VmaMerge& vmg) {
    Vma* next = vmg.next;
    vmg.remove_next = next && vmg.target != next && vmg.end == next->end;
    u64 sticky = (vmg.flags | vmg.target->flags) & kSticky;
    if (vmg.remove_next) {
        sticky |= next->flags & kSticky;
        dup_anon_vma(*vmg.target, *next);
    }
    if (vmg.copied_from) dup_anon_vma(*vmg.target, *vmg.copied_from);
    commit_merge(vmg);
    vmg.target->flags |= sticky;
}

VmaMerge Machine::State::modify_request(AddressSpace& mm, Vma* vma, u64 start, u64 end) {
    VmaMerge vmg;
    vmg.mm = &mm;
    vmg.prev = start > vma->start ? vma : mm.vmas.prev(vma);
    vmg.middle = vma;
    vmg.start = start;
    vmg.end = end;
    vmg.pgoff = vma->pgoff + pages_between(vma->start, start);
    vmg.anon_pgoff = vma->index_at(start);
    vmg.flags = vma->flags;
    vmg.anon_vma = vma->anon_vma;
    vmg.file = vma->file;
    vmg.policy = vma->policy;
    vmg.anon_name = vma->anon_name;
    return vmg;
}

// vma_modify(): the VMA that covers exactly what is to change, by merging or else by splitting.
Vma* Machine::State::vma_modify(VmaMerge& vmg) {
    Vma* vma = vmg.middle;
    const u64 start = vmg.start, end = vmg.end;
    if (Vma* merged = vma_merge_existing_range(vmg)) return merged;
    if (vma->start < start) split_vma(*vmg.mm, vma, start, true);
    if (vma->end > end) split_vma(*vmg.mm, vma, end, false);
    return vma;
}

// ---- unmap ----

// vms_gather_munmap_vmas() and vms_clear_ptes(): both ends are split before anything goes.
void Machine::State::detach_range(AddressSpace& mm, u64 start, u64 end,
                                  std::vector<Vma*>& detached) {
    Vma* first = mm.vmas.find(start);
    if (!first || first->start >= end) return;
    if (start > first->start) split_vma(mm, first, start, true);
    for (std::size_t i = mm.vmas.lower(start); i < mm.vmas.size(); ++i) {
        Vma* vma = mm.vmas.at(i);
        if (vma->start >= end) break;
        if (vma->end > end) split_vma(mm, vma, end, false);
        detached.push_back(vma);
    }
    for (Vma* vma : detached) zap_range(mm, *vma, vma->start, vma->end, false);
    for (Vma* vma : detached) unlink_anon_vmas(*vma);
    for (Vma* vma : detached) mm.vmas.erase(vma);
    free_page_tables(mm, start, end);
}

void Machine::State::free_detached(std::vector<Vma*>& detached) {
    for (Vma* vma : detached) {
        if (static_cast<AddressSpace&>(*vma->mm).exec_stack == vma)
            static_cast<AddressSpace&>(*vma->mm).exec_stack = nullptr;
        vma_free(vma);
    }
    detached.clear();
}

bool Machine::State::munmap(AddressSpace& mm, u64 start, u64 end) {
    std::vector<Vma*> detached;
    detach_range(mm, start, end, detached);
    const bool any = !detached.empty();
    free_detached(detached);
    return any;
}

// ---- map ----

u64 Machine::State::vm_flags_for(const AddressSpace& mm, u64 prot, u64 map_flags) const {
    u64 flags = mm.def_flags | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC;
    if (prot & PROT_READ) flags |= VM_READ;
    if (prot & PROT_WRITE) flags |= VM_WRITE;
    if (prot & PROT_EXEC) flags |= VM_EXEC;
    if (map_flags & MAP_GROWSDOWN) flags |= VM_GROWSDOWN;
    if (map_flags & MAP_LOCKED) flags |= VM_LOCKED;
    if (map_flags & MAP_STACK) flags |= VM_NOHUGEPAGE;
    if (map_flags & MAP_NORESERVE) flags |= VM_NORESERVE;
    if (map_flags & MAP_HUGETLB) flags |= VM_HUGETLB | VM_DONTEXPAND;
    const u64 type = map_flags & MAP_TYPE;
    if (type == MAP_SHARED || type == MAP_SHARED_VALIDATE) flags |= VM_SHARED | VM_MAYSHARE;
    if (type == MAP_DROPPABLE) {  // neither locked nor copied by fork (do_mmap())
        flags &= ~(VM_LOCKED | VM_LOCKONFAULT);
        flags |= VM_DROPPABLE | VM_NORESERVE | VM_WIPEONFORK | VM_DONTDUMP;
    }
    // accountable_mapping()
    if ((flags & VM_WRITE) && !(flags & (VM_NORESERVE | VM_SHARED | VM_HUGETLB)))
        flags |= VM_ACCOUNT;
    return ksm_vma_flags(mm, flags);
}

// mmap_region(), and do_brk_flags() with just_expand.
Vma* Machine::State::mmap_region(AddressSpace& mm, const MmapRequest& r) {
    std::vector<Vma*> replaced;
    detach_range(mm, r.start, r.end, replaced);

    VmaMerge vmg;
    vmg.mm = &mm;
    vmg.start = r.start;
    vmg.end = r.end;
    vmg.pgoff = r.pgoff;
    vmg.anon_pgoff = r.anon_pgoff;
    vmg.flags = r.flags;
    // In v6.12 ksm_add_vma() marks what could not merge, so that all that is marked cannot.
    if (facts.kernel == Kernel::v6_12 && mm.ksm_merge_any) vmg.flags &= ~VM_MERGEABLE;
    vmg.file = r.file;
    vmg.just_expand = r.just_expand;
    const std::size_t i = mm.vmas.lower(r.start);
    vmg.next = i < mm.vmas.size() ? mm.vmas.at(i) : nullptr;
    vmg.prev = i > 0 ? mm.vmas.at(i - 1) : nullptr;
    if (vmg.prev && vmg.prev->end <= r.prev_above) vmg.prev = nullptr;
    Vma* vma = vma_merge_new_range(vmg);
    if (!vma) {
        vma = vma_alloc(mm);
        vma->start = r.start;
        vma->end = r.end;
        vma->pgoff = r.pgoff;
        vma->anon_pgoff = r.anon_pgoff;
        vma->flags = r.flags;
        vma->file = r.file;
        mm.vmas.insert(vma);
    }
    free_detached(replaced);
    return vma;
}

void Machine::State::do_mmap(AddressSpace& mm, const Event& e) {
    if (e.error) {  // a hugetlb mmap without pages to reserve makes a VMA and frees it
        vma_free(vma_alloc(mm));
        return;
    }
    MmapRequest r;
    r.start = e.addr;
    r.end = e.addr + page_up(e.len);
    r.flags = vm_flags_for(mm, e.prot, e.flags);
    const bool anonymous = e.flags & MAP_ANONYMOUS;
    const bool shared = r.flags & VM_SHARED;
    if (!anonymous) r.file = e.file;
    if (anonymous && shared) r.file = kShmemFiles + ++shared_files;  // shmem_zero_setup()
    r.pgoff = anonymous ? (shared ? 0 : r.start >> kPageShift) : e.offset >> kPageShift;
    r.anon_pgoff = anon_pgoff_apart || r.file == 0 ? r.start >> kPageShift : r.pgoff;
    if (!(e.flags & (MAP_FIXED | MAP_FIXED_NOREPLACE))) {
        const Vma* there = mm.vmas.find(r.start);
        if (there && there->start < r.end) anomaly(Anomaly::mmap_over_mapping);
    }
    mmap_region(mm, r);
    const bool fill = (e.flags & (MAP_POPULATE | MAP_NONBLOCK)) == MAP_POPULATE;
    if (fill || (r.flags & VM_LOCKED)) populate(mm, r.start, r.end);
}

// brk(): growth joins the heap on its left only (do_brk_flags()); shrinking unmaps.
void Machine::State::do_brk(AddressSpace& mm, const Event& e) {
    const u64 to = e.addr;
    if (!mm.brk) {
        mm.brk = mm.brk_start = mm.heap_end = to;
        if (!mm.heap_start) mm.heap_start = to;
        return;
    }
    const u64 from = page_up(mm.brk), until = page_up(to);
    if (until > from) {
        const Vma* there = mm.vmas.find(from);
        if (there && there->start < until) {
            anomaly(Anomaly::brk_mismatch);
        } else {
            MmapRequest r;
            r.start = from;
            r.end = until;
            r.pgoff = r.anon_pgoff = from >> kPageShift;
            r.flags = ksm_vma_flags(mm, VM_READ | VM_WRITE | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC |
                                            VM_ACCOUNT | mm.def_flags);
            r.just_expand = true;
            r.prev_above = mm.brk_start;  // vma_prev_limit(): never the bss
            mmap_region(mm, r);
            if (r.flags & VM_LOCKED) populate(mm, from, until);
        }
    } else if (until < from) {
        if (to < mm.brk_start)
            anomaly(Anomaly::brk_mismatch);
        else
            munmap(mm, until, from);
    }
    mm.brk = mm.heap_end = to;
}

// expand_downwards(): the stack grows to hold addr, within its limit and clear of what lies below.
bool Machine::State::expand_downwards(AddressSpace& mm, Vma& vma, u64 addr) {
    constexpr u64 kStackGuardGap = 256 * kPageSize;
    addr = page_down(addr);
    if (vma.end - addr > facts.stack_limit) return false;
    if (const Vma* prev = mm.vmas.prev(&vma)) {
        if (prev->end > addr) return false;
        if (!(prev->flags & VM_GROWSDOWN) && (prev->flags & VM_ACCESS_FLAGS) &&
            addr - prev->end < kStackGuardGap)
            return false;
    }
    anon_vma_prepare(vma);
    pre_update(vma);
    resize(vma, addr, vma.end);
    post_update(vma);
    return true;
}

}  // namespace rmapreplay
