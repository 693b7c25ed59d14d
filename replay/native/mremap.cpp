// SPDX-License-Identifier: GPL-2.0-only
// mremap() in all its forms, by the rules of mm/mremap.c and copy_vma() of mm/vma.c (Linux 7.3).
#include <algorithm>

#include "replay/native/state.hpp"

namespace rmapreplay {

namespace {
constexpr u64 MREMAP_FIXED = 2, MREMAP_DONTUNMAP = 4;
}

// The VMA at the new place: a neighbour grown over it, or a copy with the source's links. A faulted
// VMA keeps its offsets; an unfaulted one takes those of the new place, to merge more easily.
Vma* Machine::State::copy_vma(AddressSpace& mm, Vma*& vma, u64 old_addr, u64 addr, u64 len,
                              bool keep_source) {
    VmaMerge vmg = modify_request(mm, vma, old_addr, old_addr + len);
    vmg.middle = nullptr;
    vmg.copied_from = vma;
    vmg.start = addr;
    vmg.end = addr + len;
    bool can_self_merge = false;
    if (!vma->anon_vma || needs.index_is_address) {
        if (anon_pgoff_apart || !vma->file) vmg.anon_pgoff = addr >> kPageShift;
        if (!vma->file) {
            vmg.pgoff = vmg.anon_pgoff;
            can_self_merge = true;
        }
    }
    const u64 pgoff = vmg.pgoff, anon_pgoff = vmg.anon_pgoff;
    const std::size_t i = mm.vmas.lower(addr);
    vmg.next = i < mm.vmas.size() ? mm.vmas.at(i) : nullptr;
    vmg.prev = i > 0 ? mm.vmas.at(i - 1) : nullptr;
    // Since v7.x a source that is kept (MREMAP_DONTUNMAP) must not merge with its own copy.
    if (can_self_merge && keep_source && facts.kernel >= Kernel::v7_3) {
        if (vmg.prev == vma) vmg.prev = nullptr;
        if (vmg.next == vma) vmg.next = nullptr;
    }
    const u64 old_start = vma->start;
    if (Vma* merged = vma_merge_new_range(vmg)) {
        if (merged->start < old_start && merged->end > old_start) vma = merged;
        return merged;
    }
    Vma* copy = vma_dup(*vma);
    copy->start = addr;
    copy->end = addr + len;
    copy->pgoff = pgoff;
    copy->anon_pgoff = anon_pgoff;
    if (vma->anon_vma) model.anon_vma_clone(*copy, *vma, CloneFor::remap);
    mm.vmas.insert(copy);
    return copy;
}

// An entry is taken along to another address. Returns what it is there.
Pte Machine::State::move_entry(AddressSpace& mm, u64 from, u64 to, Pte pte) {
    if (needs.index_is_address && is_swap(pte) && pte != kSwapPrivate) {
        put_swap_entry(pte);
        model.page_copied_for_move(mm, to);
        return kSwapPrivate;
    }
    if (!is_folio(pte)) return pte;
    if (needs.index_is_address) {
        Folio& f = folio(pte);
        const bool whole = f.order == 0 || mm.pages.leaf(store, from)->huge;
        if (!whole || f.mapcount > 1 || f.swapped) {
            put_mapping(mm, from, pte);
            model.page_copied_for_move(mm, to);
            PteLeaf& leaf = *mm.pages.make_leaf(store, to);
            new_private_page(mm, *mm.vmas.lookup(to), to, leaf);
            return PageTable::entry(store, leaf, PageTable::page_of(to));
        }
        f.index = (to >> kPageShift) & ((u64{1} << 44) - 1);
        folio_changed(pte);
    }
    if (every_page) {
        const PteLeaf* leaf = mm.pages.leaf(store, from);
        unmapped(mm, from, pte);
        mapped(mm, to, pte, leaf->huge == pte);
    }
    return pte;
}

void Machine::State::move_page_tables(AddressSpace& mm, u64 old_addr, u64 new_addr, u64 len) {
    const u64 old_end = old_addr + len;
    const bool pmd_aligned = (old_addr - new_addr) % kPmdSize == 0;
    if (!pmd_aligned) {
        for (u64 at = old_addr; at < old_end; at = (at | (kPmdSize - 1)) + 1)
            if (PteLeaf* leaf = mm.pages.leaf(store, at); leaf && leaf->huge)
                split_huge_pmd(mm, *leaf, at);
    } else {
        if (needs.index_is_address)
            mm.pages.for_each_leaf(store, old_addr, old_end,
                                   [&](PteLeaf& leaf, u64 base, unsigned, unsigned) {
                                       if (is_folio(leaf.huge) && folio(leaf.huge).mapcount > 1)
                                           split_huge_pmd(mm, leaf, base);
                                   });
        split_huge_at(mm, old_addr);
        split_huge_at(mm, old_end);
    }
    mm.pages.for_each_leaf(store, old_addr, old_end, [&](PteLeaf& leaf, u64, unsigned, unsigned) {
        leaf.moving = leaf.huge || !leaf.empty();
    });
    for (u64 at = old_addr; at < old_end;) {
        const u64 leaf_end = std::min((at | (kPmdSize - 1)) + 1, old_end);
        PteLeaf* from = mm.pages.leaf(store, at);
        if (from && from->moving) {
            from->moving = false;
            if (from->huge) {
                const u64 to = new_addr + (at - old_addr);
                PteLeaf* const there = mm.pages.make_leaf(store, to);
                there->huge = move_entry(mm, at, to, from->huge);
                from->huge = kNone;
            } else {
                const u64 base = at & ~(kPmdSize - 1);
                const unsigned first = PageTable::page_of(at);
                const unsigned last = first + static_cast<unsigned>((leaf_end - at) >> kPageShift);
                PageTable::for_each_page(store, *from, first, last, [&](unsigned page, Pte& pte) {
                    const u64 at_page = base + u64{page} * kPageSize;
                    const u64 to = at_page - old_addr + new_addr;
                    const Pte moved = move_entry(mm, at_page, to, pte);
                    PageTable::set(store, *mm.pages.make_leaf(store, to), PageTable::page_of(to),
                                   moved);
                    PageTable::clear(*from, page);
                });
            }
        }
        at = leaf_end;
    }
}

void Machine::State::move_vma(AddressSpace& mm, Vma* vma, u64 addr, u64 old_len, u64 new_addr,
                              u64 new_len, u64 flags) {
    const bool dontunmap = flags & MREMAP_DONTUNMAP;
    // needs_pre_split(), in v7.3; before, the whole source is unlocked.
    if (dontunmap && (vma->flags & VM_LOCKED) && facts.kernel >= Kernel::v7_3) {
        if (vma->start != addr) split_vma(mm, vma, addr, true);
        if (vma->end != addr + old_len) split_vma(mm, vma, addr + old_len, false);
    }
    const u64 locked = vma->flags & VM_LOCKED;
    Vma* copy = copy_vma(mm, vma, addr, new_addr, new_len, dontunmap);
    move_page_tables(mm, addr, new_addr, std::min(old_len, new_len));
    if (dontunmap) {
        vma->flags &= ~(VM_LOCKED | VM_LOCKONFAULT);
        vma_changed(*vma);
        if (copy != vma && vma->start == addr && vma->end == addr + old_len) {
            unlink_anon_vmas(*vma);
            // v7.3 dontunmap_complete(): now unfaulted, its offsets are those of where it is.
            if (facts.kernel >= Kernel::v7_3) {
                vma->anon_pgoff = vma->start >> kPageShift;
                if (!vma->file) vma->pgoff = vma->anon_pgoff;
            }
        }
    } else if (old_len) {
        munmap(mm, addr, addr + old_len);
    }
    if (locked && new_len > old_len) populate(mm, new_addr + old_len, new_addr + new_len);
}

void Machine::State::do_mremap(AddressSpace& mm, const Event& e) {
    u64 old_len = page_up(e.len);
    const u64 new_len = page_up(e.new_len);
    const bool fixed = e.flags & MREMAP_FIXED;
    Vma* vma = mm.vmas.lookup(e.addr);
    if (!vma) {
        anomaly(Anomaly::mremap_no_source);
        return;
    }
    if (fixed && old_len == new_len) {
        // remap_move(): since v6.17 every VMA in the range, each at its own distance.
        const u64 end = e.addr + old_len;
        for (u64 at = e.addr; at < end;) {
            vma = mm.vmas.find(at);
            if (!vma || vma->start >= end) break;
            at = std::max(at, vma->start);
            const u64 len = std::min(end, vma->end) - at;
            const u64 to = e.new_addr + (at - e.addr);
            munmap(mm, to, to + len);
            vma = mm.vmas.lookup(at);
            if (!vma) break;
            move_vma(mm, vma, at, len, to, len, e.flags);
            at += len;
        }
        return;
    }
    if (fixed || (e.flags & MREMAP_DONTUNMAP)) {
        if (fixed) munmap(mm, e.new_addr, e.new_addr + new_len);
        if (new_len < old_len) {
            munmap(mm, e.addr + new_len, e.addr + old_len);
            old_len = new_len;
        }
        vma = mm.vmas.lookup(e.addr);
        if (vma) move_vma(mm, vma, e.addr, old_len, e.new_addr, new_len, e.flags);
        return;
    }
    if (new_len == old_len) return;
    if (new_len < old_len) {
        munmap(mm, e.addr + new_len, e.addr + old_len);
        return;
    }
    if (e.new_addr != e.addr) {
        const Vma* there = mm.vmas.find(e.new_addr);
        if (there && there->start < e.new_addr + new_len) {
            anomaly(Anomaly::mmap_over_mapping);
            munmap(mm, e.new_addr, e.new_addr + new_len);
            vma = mm.vmas.lookup(e.addr);
        }
        if (vma) move_vma(mm, vma, e.addr, old_len, e.new_addr, new_len, e.flags);
        return;
    }
    // In place: vma_merge_extend(), which may reach the next VMA and join it.
    const u64 end = e.addr + new_len;
    if (vma->end != e.addr + old_len) anomaly(Anomaly::mremap_no_source);
    const Vma* next = mm.vmas.next(vma);
    if (vma->end >= end || (next && next->start < end)) {
        anomaly(Anomaly::mmap_over_mapping);
        return;
    }
    const u64 old_end = vma->end;
    VmaMerge vmg = modify_request(mm, vma, old_end, end);
    vmg.prev = vma;
    vmg.middle = nullptr;
    vmg.next = mm.vmas.next(vma);
    Vma* grown = vma_merge_new_range(vmg);
    if (grown && (grown->flags & VM_LOCKED)) populate(mm, old_end, end);
}

}  // namespace rmapreplay
