// SPDX-License-Identifier: GPL-2.0-only
// Pages that go to swap and come back (mm/rmap.c try_to_unmap_one(), mm/memory.c do_swap_page()).
//
// A swap entry is not a mapping: walks find nothing there. One that is known to be the only one of
// its page says so itself (kSwapPrivate). Others name the record of the folio that went: it counts
// them, and stands for whatever folio holds the page next, of which there is never more than one.
#include "replay/native/state.hpp"

namespace rmapreplay {

namespace {
constexpr u64 kReadAhead = 1;  // swap_in: flags
}

// ---- entries ----

// copy_nonpresent_pte(): both sides share the page from now on.
Pte Machine::State::dup_swap_entry(Pte entry, u64 index, Home home) {
    if (entry == kSwapPrivate) {
        const Pte pte = make_folio(index, 0, 0, home, false);
        model.folios_homed(home, 1);
        folios.swap_dup(pte, 2);
        return pte | kSwap;
    }
    folios.swap_dup(entry & ~kSwap);
    return entry;
}

// swap_put_entries_direct()
void Machine::State::put_swap_entry(Pte entry) {
    if (entry == kSwapPrivate) return;
    folios.swap_put(entry & ~kSwap);
    free_unused(entry & ~kSwap);
}

// ---- out ----

// Calls on_entry(vma, leaf, address, entry) for each entry of e's range that is of the `wanted`
// sort.
template <class F>
void Machine::State::for_each_entry(AddressSpace& mm, const Event& e, bool wanted(Pte),
                                    F&& on_entry) {
    bool any = false;
    for_each_part(mm, e.addr, e.addr + page_up(e.len), [&](Vma& vma, u64 start, u64 end) {
        mm.pages.for_each_leaf(
            store, start, end, [&](PteLeaf& leaf, u64 base, unsigned first, unsigned last) {
                if (leaf.huge) split_huge_pmd(mm, leaf, base);
                PageTable::for_each_page(store, leaf, first, last, [&](unsigned page, Pte pte) {
                    if (!wanted(pte)) return;
                    any = true;
                    on_entry(vma, leaf, base + u64{page} * kPageSize, pte);
                });
            });
        return true;
    });
    if (!any) anomaly(Anomaly::swap_mismatch);
}

void Machine::State::unmap_private_page(AddressSpace& mm, const Vma& vma) {
    --private_pages;
    --mm.anon_ptes;
    --anon_ptes;
    model.folios_unhomed(model.home(vma), 1);
}

// try_to_unmap_one(). A large folio's pages go their own ways from here: each comes back alone.
void Machine::State::do_swap_out(AddressSpace& mm, const Event& e) {
    for_each_entry(mm, e, is_anon, [&](Vma& vma, PteLeaf& leaf, u64 addr, Pte pte) {
        const unsigned page = PageTable::page_of(addr);
        if (is_folio(pte) && folio(pte).order) {
            split_folio(pte, 0);
            pte = PageTable::entry(store, leaf, page);
        }
        if (pte == kPrivate) {
            PageTable::set(store, leaf, page, kSwapPrivate);
            unmap_private_page(mm, vma);
            return;
        }
        // What is exclusive was split off a folio that had its home elsewhere; read anew, it is at
        // home here.
        if (folio(pte).exclusive) {
            PageTable::set(store, leaf, page, kSwapPrivate);
        } else {
            PageTable::set(store, leaf, page, pte | kSwap);
            folios.swap_dup(pte);
        }
        put_mapping(mm, addr, pte);
    });
}

// A clean page after MADV_FREE: there is nothing to keep.
void Machine::State::do_discard(AddressSpace& mm, const Event& e) {
    for_each_entry(mm, e, is_anon, [&](Vma& vma, PteLeaf& leaf, u64 addr, Pte pte) {
        PageTable::clear(leaf, PageTable::page_of(addr));
        if (pte == kPrivate)
            unmap_private_page(mm, vma);
        else
            put_mapping(mm, addr, pte);
    });
}

// madvise_free_pte_range(): what is in swap is dropped at once; pages wait for reclaim.
void Machine::State::drop_swap_entries(AddressSpace& mm, u64 start, u64 end) {
    mm.pages.for_each_leaf(
        store, start, end, [&](PteLeaf& leaf, u64, unsigned first, unsigned last) {
            PageTable::for_each_page(store, leaf, first, last, [&](unsigned page, Pte pte) {
                if (!is_swap(pte)) return;
                put_swap_entry(pte);
                PageTable::clear(leaf, page);
            });
        });
}

// ---- in ----

// A folio in the swap cache is mapped by one more of its swap entries.
void Machine::State::map_swapped(AddressSpace& mm, PteLeaf& leaf, u64 addr, Pte pte) {
    PageTable::set(store, leaf, PageTable::page_of(addr), pte);
    ++folio(pte).mapcount;
    folios.swap_put(pte);
    ++mm.anon_ptes;
    ++anon_ptes;
    if (every_page) mapped(mm, addr, pte);
}

// do_swap_page() of folios that were still in the swap cache: they are anonymous as ever, so they
// keep home and index (folio_add_anon_rmap_ptes()). Those that reading ahead has put there are new.
void Machine::State::do_swap_in(AddressSpace& mm, const Event& e) {
    for_each_entry(mm, e, is_swap, [&](Vma& vma, PteLeaf& leaf, u64 addr, Pte entry) {
        if (e.flags & kReadAhead)
            do_swap_page(mm, vma, addr, leaf, true);
        else if (entry == kSwapPrivate)
            new_private_page(mm, vma, addr, leaf);
        else
            map_swapped(mm, leaf, addr, entry & ~kSwap);
    });
    mm.swapped_in = e.addr;
    mm.swapped_in_bytes = page_up(e.len);
}

// do_swap_page() of a page that must be read, or that a relative has had read since.
void Machine::State::do_swap_page(AddressSpace& mm, Vma& vma, u64 addr, PteLeaf& leaf,
                                  bool read_ahead) {
    const Pte entry = PageTable::entry(store, leaf, PageTable::page_of(addr));
    if (entry == kSwapPrivate) {
        new_private_page(mm, vma, addr, leaf);
        return;
    }
    const Pte pte = entry & ~kSwap;
    Folio& f = folio(pte);
    if (f.mapcount == 0) {
        // Until v7.x the last entry of a page on a device like zram (SWP_SYNCHRONOUS_IO) was read
        // into a folio outside of the swap cache, which nobody else could know: exclusive. Now only
        // the entry itself can say so.
        if (facts.kernel < Kernel::v7_3 && folios.swap_count(pte) == 1 && !read_ahead) {
            put_swap_entry(entry);
            new_private_page(mm, vma, addr, leaf);
            return;
        }
        // __folio_set_anon(). Its index is the same in every mm that has an entry.
        const Home home = model.root_home(vma);
        model.folios_homed(home, 1);
        model.folios_unhomed(f.home, 1);
        f.home = home;
        if (timeline) timeline->folio_homed(pte, true);
    }
    map_swapped(mm, leaf, addr, pte);
}

// A fault on a swap entry, or on what the swap_in row before it has just mapped on its behalf.
// Afterwards `present`, what the hardware found, says nothing any more.
void Machine::State::fault_from_swap(AddressSpace& mm, Vma& vma, u64 addr, PteLeaf& leaf,
                                     bool write, i8& present) {
    const Pte pte = PageTable::entry(store, leaf, PageTable::page_of(addr));
    if (is_swap(pte)) {
        if (present == 1) anomaly(Anomaly::fault_present_mismatch);
        do_swap_page(mm, vma, addr, leaf);
    } else if (addr - mm.swapped_in < mm.swapped_in_bytes) {
        mm.swapped_in_bytes = 0;
        // Until v7.x a write that took the last entry freed the swap slot before it mapped the
        // folio, found no reference but its own, and had it exclusive where it was at home; now
        // do_wp_page() moves it.
        if (write && facts.kernel < Kernel::v7_3 && is_folio(pte))
            if (Folio& f = folio(pte); f.order == 0 && f.mapcount == 1 && !f.swapped) {
                f.exclusive = 1;
                folio_changed(pte);
            }
    } else {
        return;
    }
    present = -1;
}

}  // namespace rmapreplay
