// SPDX-License-Identifier: GPL-2.0-only
// What faults, fork and unmapping do to page tables and folios (mm/memory.c).
#include <algorithm>

#include "replay/native/state.hpp"

namespace rmapreplay {

namespace {
constexpr unsigned kLeafPages = 512;
constexpr u64 kAccessible = VM_READ | VM_WRITE | VM_EXEC;
}  // namespace

// ---- faults ----

// The common case in one piece: a write to an empty page of a faulted, small-paged private VMA.
void Machine::State::fault(AddressSpace& mm, const Event& e) {
    Vma* vma = mm.vmas.lookup(e.addr);
    if (vma && e.write && vma->anon_vma && e.present != 1 && !e.order &&
        (vma->flags & (VM_WRITE | VM_SHARED)) == VM_WRITE) {
        PteLeaf* leaf = mm.pages.leaf(store, e.addr);
        const unsigned page = PageTable::page_of(e.addr), g = page / kGroupPages;
        if (leaf && !leaf->huge && leaf->group[g] != kNoGroup &&
            !(leaf->present[g] >> (page % kGroupPages) & 1)) {
            new_private_page(mm, *vma, page_down(e.addr), *leaf);
            return;
        }
    }
    fault_slow(mm, e);
}

void Machine::State::fault_slow(AddressSpace& mm, const Event& e) {
    Vma* vma = mm.vmas.lookup(e.addr);
    if (!vma) {
        Vma* above = mm.vmas.find(e.addr);
        if (above && (above->flags & VM_GROWSDOWN) && expand_downwards(mm, *above, e.addr))
            vma = above;
    }
    if (!vma)
        anomaly(Anomaly::fault_outside_vma);
    else if (e.source != Source::gup &&
             !(vma->flags & (e.write ? VM_WRITE : kAccessible)))  // forced GUP may write read-only
        anomaly(Anomaly::fault_access_denied);
    else
        handle_fault(mm, *vma, page_down(e.addr), e.write, e.present,
                     e.order || facts.orders ? e.order : kAnyOrder);
}

// handle_mm_fault(). `present` is what the hardware found in the entry: 1, 0 or -1 for unknown;
// `order` is that of a new folio, or kAnyOrder: a huge page where one fits, else a page.
void Machine::State::handle_fault(AddressSpace& mm, Vma& vma, u64 addr, bool write, i8 present,
                                  unsigned order) {
    if (vma.flags & (VM_SHARED | VM_HUGETLB | VM_SPECIAL)) return;  // no anonymous memory
    PteLeaf* leaf = mm.pages.leaf(store, addr);
    if (leaf && vma.anon_vma) fault_from_swap(mm, vma, addr, *leaf, write, present);
    if (vma.file && !write) {  // pages of files are not ours to track, private copies are
        if (present == 0 && is_anon(mm.pages.get(store, addr)))
            anomaly(Anomaly::fault_present_mismatch);
        return;
    }
    if (!leaf) {
        leaf = mm.pages.make_leaf(store, addr);
        if (thp_eligible(mm, vma, addr)) {  // do_huge_pmd_anonymous_page()
            anon_vma_prepare(vma);
            if (!write && facts.use_zero_page) {  // no folio, so its order is not told either
                leaf->huge = kZero;
                return;
            }
            if (order >= kPmdOrder) {
                new_huge_page(mm, vma, addr, *leaf);
                return;
            }
        }
    }
    if (write) {
        handle_write(mm, vma, addr, *leaf, present, order);
        return;
    }
    const Pte pte = mm.pages.get(store, addr);
    if (pte == kGuard) {
        anomaly(Anomaly::fault_access_denied);
    } else if (pte == kNone) {
        PageTable::set(store, *leaf, PageTable::page_of(addr), kZero);
    } else if (is_anon(pte) && present == 0) {
        anomaly(Anomaly::fault_present_mismatch);
    }
}

void Machine::State::handle_write(AddressSpace& mm, Vma& vma, u64 addr, PteLeaf& leaf, i8 present,
                                  unsigned order) {
    if (leaf.huge == kZero) {  // do_huge_zero_wp_pmd(): a huge folio takes its place
        anon_vma_prepare(vma);
        if (order >= kPmdOrder && thp_eligible(mm, vma, addr)) {
            new_huge_page(mm, vma, addr, leaf);
            return;
        }
        split_huge_pmd(mm, leaf, addr);
    } else if (leaf.huge) {  // do_huge_pmd_wp_page()
        Folio& f = folio(leaf.huge);
        if (f.exclusive) {
            if (present == 0) anomaly(Anomaly::fault_present_mismatch);
            return;
        }
        if (f.mapcount == 1) {
            move_anon_rmap(leaf.huge, model.home(vma));
            return;
        }
        split_huge_pmd(mm, leaf, addr);
    }
    const Pte pte = mm.pages.get(store, addr);
    switch (pte) {
        case kNone:
            if (present == 1 && !vma.file) anomaly(Anomaly::fault_present_mismatch);
            [[fallthrough]];
        case kZero:
            anon_vma_prepare(vma);
            if (order && order != kAnyOrder && new_large_folio(mm, vma, addr, leaf, order)) return;
            if (pte == kZero) PageTable::clear(leaf, PageTable::page_of(addr));
            new_private_page(mm, vma, addr, leaf);
            return;
        case kGuard: anomaly(Anomaly::fault_access_denied); return;
        case kPrivate:
            // Only its protection was in the way, or another thread was faster.
            if (present == 0) anomaly(Anomaly::fault_present_mismatch);
            return;
        default: break;
    }
    // do_wp_page(): reuse the folio if nobody else refers to it, else copy.
    if (present == 0) anomaly(Anomaly::fault_present_mismatch);
    Folio& f = folio(pte);
    if (f.order) {
        // __wp_can_reuse_large_anon_folio(): a last page is copied, to free the rest. v6.12 has no
        // such function: wp_can_reuse_anon_folio() takes no page of a large folio.
        const bool may_reuse = f.mapcount > 1 && facts.kernel > Kernel::v6_12;
        if (f.exclusive || (may_reuse && mapped_only_by(mm, vma, pte))) {
            f.exclusive = 1;  // reused where it is; its home stays
            folio_changed(pte);
            return;
        }
    } else if (f.exclusive) {
        return;
    } else if (f.mapcount == 1 && !f.swapped) {
        move_anon_rmap(pte, model.home(vma));
        if (every_page) return;
        // From here on the entry alone says all there is to know.
        folios.free(pte);
        PageTable::set(store, leaf, PageTable::page_of(addr), kPrivate);
        ++private_pages;
        return;
    }
    put_mapping(mm, addr, pte);
    new_private_page(mm, vma, addr, leaf);
}

// folio_move_anon_rmap()
void Machine::State::move_anon_rmap(Pte pte, Home home) {
    Folio& f = folio(pte);
    f.exclusive = 1;
    folio_changed(pte);
    if (needs.pages || f.home == home) return;
    model.folios_unhomed(f.home, 1);
    model.folios_homed(home, 1);
    f.home = home;
    if (timeline) timeline->folio_homed(pte, false);
}

void Machine::State::new_private_page(AddressSpace& mm, const Vma& vma, u64 addr, PteLeaf& leaf) {
    const unsigned page = PageTable::page_of(addr);
    const Home home = model.home(vma);
    ++mm.anon_ptes;
    ++anon_ptes;
    model.folios_homed(home, 1);
    if (!every_page) {
        PageTable::set(store, leaf, page, kPrivate);
        ++private_pages;
        return;
    }
    const Pte pte = make_folio(vma.index_at(addr), 0, 1, home, true);
    PageTable::set(store, leaf, page, pte);
    mapped(mm, addr, pte);
}

// ---- entries ----

// An entry has come to map a folio, or no longer does, for those who need to know of each.
void Machine::State::mapped(const AddressSpace& mm, u64 addr, Pte pte, bool by_pmd) {
    if (needs.pages) model.page_add_rmap(folio(pte).home, mm, addr);
    if (!timeline) return;
    if (needs.pages) timeline->folio_homed(pte, false);
    timeline->mapped(mm, addr, pte, by_pmd);
}

void Machine::State::unmapped(const AddressSpace& mm, u64 addr, Pte pte) {
    if (needs.pages) model.page_remove_rmap(folio(pte).home, mm, addr);
    if (!timeline) return;
    if (needs.pages) timeline->folio_homed(pte, false);
    timeline->unmapped(mm, addr);
}

// ---- folios ----

Pte Machine::State::make_folio(u64 index, unsigned order, u32 mapcount, Home home, bool exclusive) {
    const Pte pte = folios.make(index, order, mapcount, home);
    folio(pte).exclusive = exclusive;
    if (timeline) timeline->folio_made(pte);
    return pte;
}

void Machine::State::free_folio(Pte pte) {
    if (timeline) timeline->folio_freed(pte);
    folios.free(pte);
}

// ---- populate ----

// __mm_populate(): holes are passed over, and unless it is for mlock() what is not accessible too.
void Machine::State::populate(AddressSpace& mm, u64 start, u64 end, bool stop_at_errors) {
    for_each_part(mm, start, end, [&](Vma& vma, u64 from, u64 to) {
        if (stop_at_errors && !(vma.flags & (VM_LOCKONFAULT | kAccessible))) return false;
        // populate_vma_page_range(): write faults break CoW in private writable mappings.
        if (!(vma.flags & VM_LOCKONFAULT))
            populate_vma(mm, vma, from, to, (vma.flags & (VM_WRITE | VM_SHARED)) == VM_WRITE);
        return true;
    });
}

void Machine::State::do_populate(AddressSpace& mm, const Event& e) {
    for_each_part(mm, e.addr, e.addr + page_up(e.len), [&](Vma& vma, u64 start, u64 end) {
        populate_vma(mm, vma, start, end, e.write);
        return true;
    });
}

void Machine::State::populate_vma(AddressSpace& mm, Vma& vma, u64 start, u64 end, bool write) {
    if (vma.flags & (VM_SHARED | VM_HUGETLB | VM_SPECIAL)) return;
    if (write ? !(vma.flags & VM_WRITE) : !(vma.flags & kAccessible)) return;
    if (!write && vma.file && !vma.anon_vma) return;
    for (u64 at = start; at < end; at += kPageSize) {
        const Pte pte = mm.pages.get(store, at);
        const bool done = write ? pte == kPrivate || (is_folio(pte) && folio(pte).exclusive)
                                : pte != kNone && !is_swap(pte);
        if (!done) handle_fault(mm, vma, at, write, -1);
    }
}

// ---- zap ----

void Machine::State::put_mapping(AddressSpace& mm, u64 addr, Pte pte) {
    Folio& f = folio(pte);
    if (every_page) unmapped(mm, addr, pte);
    --mm.anon_ptes;
    --anon_ptes;
    if (--f.mapcount == 0) free_unused(pte);
}

// A folio that nothing maps any more lives on in swap while swap entries refer to it.
void Machine::State::free_unused(Pte pte) {
    const Folio& f = folio(pte);
    if (f.mapcount || f.swapped) return;
    model.folios_unhomed(f.home, 1);
    free_folio(pte);
}

// zap_page_range_single(). Guard markers survive MADV_DONTNEED.
void Machine::State::zap_range(AddressSpace& mm, Vma& vma, u64 start, u64 end, bool keep_guards) {
    u64 private_zapped = 0;
    mm.pages.for_each_leaf(
        store, start, end, [&](PteLeaf& leaf, u64 base, unsigned first, unsigned last) {
            if (leaf.huge) {
                if (first == 0 && last == kLeafPages) {
                    zap_huge(mm, leaf, base);
                    return;
                }
                split_huge_pmd(mm, leaf, base);
            }
            PageTable::for_each_page(store, leaf, first, last, [&](unsigned page, Pte pte) {
                if (pte == kGuard && keep_guards) return;
                if (pte == kPrivate)
                    ++private_zapped;
                else if (is_folio(pte))
                    put_mapping(mm, base + u64{page} * kPageSize, pte);
                else if (is_swap(pte))
                    put_swap_entry(pte);
                PageTable::clear(leaf, page);
            });
            PageTable::trim(store, leaf);
        });
    if (!private_zapped) return;
    private_pages -= private_zapped;
    mm.anon_ptes -= private_zapped;
    anon_ptes -= private_zapped;
    model.folios_unhomed(model.home(vma), private_zapped);
}

// free_pgtables(): page tables go with their last VMA.
void Machine::State::free_page_tables(AddressSpace& mm, u64 start, u64 end) {
    std::vector<u64> empty;
    mm.pages.for_each_leaf(store, start, end, [&](PteLeaf& leaf, u64 base, unsigned, unsigned) {
        if (!leaf.empty()) return;
        const Vma* vma = mm.vmas.find(base);
        if (!vma || vma->start >= base + kPmdSize) empty.push_back(base);
    });
    for (u64 base : empty) mm.pages.free_leaf(store, base);
}

// ---- guards ----

// madvise_guard_install(): what was mapped goes, and the VMA counts as faulted. Since v7.x only
// anonymous ones do: there VM_MAYBE_GUARD makes fork copy the markers.
void Machine::State::install_guards(AddressSpace& mm, Vma& vma, u64 start, u64 end) {
    if (!vma.file || facts.kernel < Kernel::v7_3) anon_vma_prepare(vma);
    zap_range(mm, vma, start, end, false);
    for (u64 at = start; at < end; at += kPageSize)
        PageTable::set(store, *mm.pages.make_leaf(store, at), PageTable::page_of(at), kGuard);
    if (facts.kernel >= Kernel::v7_3) vma.flags |= VM_MAYBE_GUARD;
    vma_changed(vma);
}

void Machine::State::remove_guards(AddressSpace& mm, u64 start, u64 end) {
    mm.pages.for_each_leaf(
        store, start, end, [&](PteLeaf& leaf, u64, unsigned first, unsigned last) {
            PageTable::for_each_page(store, leaf, first, last, [&](unsigned page, Pte pte) {
                if (pte == kGuard) PageTable::clear(leaf, page);
            });
        });
}

// ---- fork ----

// copy_page_range(): every anonymous page becomes shared, and is no longer known to be exclusive.
void Machine::State::copy_page_range(AddressSpace& child, AddressSpace& parent, const Vma& vma) {
    const Home home = vma.anon_vma ? model.home(vma) : Home{};  // unfaulted: guards alone
    const u64 passed = hand_passed(parent);
    u64 copied = 0;
    parent.pages.for_each_leaf(
        store, vma.start, vma.end, [&](PteLeaf& leaf, u64 base, unsigned first, unsigned last) {
            if (leaf.huge) {  // copy_huge_pmd()
                child.pages.make_leaf(store, base)->huge = leaf.huge;
                if (is_folio(leaf.huge)) {
                    Folio& f = folio(leaf.huge);
                    ++f.mapcount;
                    f.exclusive = 0;
                    ++copied;
                    folio_changed(leaf.huge);
                    if (every_page) mapped(child, base, leaf.huge, true);
                }
                return;
            }
            PteLeaf* to = nullptr;
            for (unsigned g = first / kGroupPages; g * kGroupPages < last; ++g) {
                u64 bits = leaf.present[g];
                const unsigned from_page = g * kGroupPages;
                if (first > from_page) bits &= ~u64{0} << (first - from_page);
                if (last < from_page + kGroupPages) bits &= (u64{1} << (last - from_page)) - 1;
                if (!bits) continue;
                if (!to) to = child.pages.make_leaf(store, base);
                if (to->group[g] == kNoGroup) to->group[g] = store.groups.alloc();
                Pte* const src = store.groups[leaf.group[g]].pte.data();
                Pte* const dst = store.groups[to->group[g]].pte.data();
                const u64 from_addr = base + u64{from_page} * kPageSize;
                const u64 index = vma.index_at(from_addr);
                to->present[g] |= bits;
                for (; bits; bits &= bits - 1) {
                    const auto bit = static_cast<unsigned>(std::countr_zero(bits));
                    Pte pte = src[bit];
                    if (pte == kPrivate) {
                        pte = src[bit] = folios.make(index + bit, 0, 2, home);
                        folio(pte).marked = from_addr + bit * kPageSize < passed;
                        --private_pages;
                        ++copied;
                    } else if (is_folio(pte)) {
                        Folio& f = folio(pte);
                        ++f.mapcount;
                        if (f.exclusive && f.order == 0)
                            f.marked = from_addr + bit * kPageSize < passed;
                        f.exclusive = 0;
                        ++copied;
                        folio_changed(pte);
                    } else if (is_swap(pte)) {
                        pte = src[bit] = dup_swap_entry(pte, index + bit, home);
                    }
                    dst[bit] = pte;
                    if (every_page && is_folio(pte))
                        mapped(child, from_addr + bit * kPageSize, pte);
                }
            }
        });
    child.anon_ptes += copied;
    anon_ptes += copied;
}

}  // namespace rmapreplay
