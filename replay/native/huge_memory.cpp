// SPDX-License-Identifier: GPL-2.0-only
// Folios of more than one page: made by faults, mapped by a PMD or by entries of their own, split
// (mm/huge_memory.c).
#include <algorithm>

#include "replay/native/state.hpp"

namespace rmapreplay {

namespace {
constexpr unsigned kLeafPages = 512;
}  // namespace

// ---- faults ----

// __do_huge_pmd_anonymous_page()
void Machine::State::new_huge_page(AddressSpace& mm, Vma& vma, u64 addr, PteLeaf& leaf) {
    const Home home = model.home(vma);
    leaf.huge = make_folio(vma.index_at(addr & ~(kPmdSize - 1)), kPmdOrder, 1, home, true);
    model.folios_homed(home, 1);
    ++mm.anon_ptes;
    ++anon_ptes;
    if (every_page) mapped(mm, addr & ~(kPmdSize - 1), leaf.huge, true);
}

// alloc_anon_folio(): a folio of 2^order pages, naturally aligned, mapped by entries of its own. It
// must lie within the VMA and find all its entries empty.
bool Machine::State::new_large_folio(AddressSpace& mm, Vma& vma, u64 addr, PteLeaf& leaf,
                                     unsigned order) {
    if (order > kPmdOrder) return false;
    const u64 size = kPageSize << order, base = addr & ~(size - 1);
    if (base < vma.start || base + size > vma.end) return false;
    const unsigned first = PageTable::page_of(base), last = first + (1u << order);
    for (unsigned page = first; page < last; ++page)
        if (PageTable::entry(store, leaf, page) > kZero) return false;
    if (order == kPmdOrder) {
        leaf.present.fill(0);
        PageTable::trim(store, leaf);
        new_huge_page(mm, vma, addr, leaf);
        return true;
    }
    const Home home = model.home(vma);
    const Pte pte = make_folio(vma.index_at(base), order, 1u << order, home, true);
    for (unsigned page = first; page < last; ++page) PageTable::set(store, leaf, page, pte);
    model.folios_homed(home, 1);
    mm.anon_ptes += u64{1} << order;
    anon_ptes += u64{1} << order;
    if (every_page)
        for (u64 at = base; at < base + size; at += kPageSize) mapped(mm, at, pte);
    return true;
}

// A read or write of a 2 MB range without page table may be served by one PMD
// (thp_vma_allowable_order(), create_huge_pmd()).
bool Machine::State::thp_eligible(const AddressSpace& mm, const Vma& vma, u64 addr) const {
    if (facts.thp == ThpMode::never || vma.file || mm.thp_disabled) return false;
    if (vma.flags & (VM_NOHUGEPAGE | VM_SPECIAL | VM_SHARED)) return false;
    if (facts.thp == ThpMode::madvise && !(vma.flags & VM_HUGEPAGE)) return false;
    if (&vma == mm.exec_stack) return false;
    const u64 base = addr & ~(kPmdSize - 1);
    return base >= vma.start && base + kPmdSize <= vma.end;
}

// Whether every entry that maps this large folio is in mm, mostly in this VMA, but an mprotect() or
// mremap() may have parted them.
bool Machine::State::mapped_only_by(AddressSpace& mm, const Vma& vma, Pte pte) {
    const Folio& f = folio(pte);
    const auto entries_in = [&](const Vma& in) {
        const u64 first = std::max<u64>(f.index, in.anon_pgoff);
        const u64 last = std::min<u64>(f.index + (u64{1} << f.order), in.last_index() + 1);
        u32 found = 0;
        for (u64 index = first; index < last; ++index)
            found += mm.pages.get(store, in.address_of(index)) == pte;
        return found;
    };
    u32 found = entries_in(vma);
    for (std::size_t i = 0; found < f.mapcount && i < mm.vmas.size(); ++i)
        if (const Vma& other = *mm.vmas.at(i); &other != &vma && other.anon_vma)
            found += entries_in(other);
    return found == f.mapcount;
}

// ---- unmapping and splitting ----

void Machine::State::zap_huge(AddressSpace& mm, PteLeaf& leaf, u64 base) {
    if (is_folio(leaf.huge)) put_mapping(mm, base, leaf.huge);
    leaf.huge = kNone;
}

// __split_huge_pmd(): the same folio, mapped by 512 entries. `addr` is any in the leaf.
void Machine::State::split_huge_pmd(AddressSpace& mm, PteLeaf& leaf, u64 addr) {
    const Pte pte = leaf.huge;
    leaf.huge = kNone;
    for (unsigned page = 0; page < kLeafPages; ++page) PageTable::set(store, leaf, page, pte);
    if (!is_folio(pte)) return;
    folio(pte).mapcount += kLeafPages - 1;
    mm.anon_ptes += kLeafPages - 1;
    anon_ptes += kLeafPages - 1;
    if (!every_page) return;
    const u64 base = addr & ~(kPmdSize - 1);
    unmapped(mm, base, pte);
    for (u64 at = base; at < base + kPmdSize; at += kPageSize) mapped(mm, at, pte);
}

// vma_adjust_trans_huge()
void Machine::State::split_huge_at(AddressSpace& mm, u64 addr) {
    if (facts.thp == ThpMode::never || addr % kPmdSize == 0) return;
    PteLeaf* leaf = mm.pages.leaf(store, addr);
    if (leaf && leaf->huge) split_huge_pmd(mm, *leaf, addr);
}

// __folio_split(): parts of 2^order pages, each at home where the whole was and as exclusive. Parts
// that nothing maps are freed.
void Machine::State::split_folio(Pte pte, unsigned order) {
    const Folio whole = folio(pte);
    const u64 end = whole.index + (u64{1} << whole.order);
    std::vector<Pte> parts(std::size_t{1} << (whole.order - order), kNone);
    const auto map_part = [&](const AddressSpace& mm, const Vma& vma, PteLeaf& leaf, u64 index) {
        const u64 addr = vma.address_of(index);
        const unsigned page = PageTable::page_of(addr);
        if (every_page) unmapped(mm, addr, pte);
        if (!every_page && !order && whole.exclusive && model.home(vma) == whole.home) {
            PageTable::set(store, leaf, page, kPrivate);
            ++private_pages;
            model.folios_homed(whole.home, 1);
            return;
        }
        const u64 n = (index - whole.index) >> order;
        if (!parts[n]) {
            const Home home = needs.pages ? model.home(vma) : whole.home;
            parts[n] = make_folio(whole.index + (n << order), order, 0, home, whole.exclusive != 0);
            folio(parts[n]).marked = whole.marked;
            if (timeline) timeline->folio_split_off(parts[n], pte);
            model.folios_homed(home, 1);
        }
        PageTable::set(store, leaf, page, parts[n]);
        ++folio(parts[n]).mapcount;
        if (every_page) mapped(mm, addr, parts[n]);
    };
    for (const auto& mm : mms)
        for (std::size_t i = 0; i < mm->vmas.size(); ++i) {
            const Vma& vma = *mm->vmas.at(i);
            if (!vma.anon_vma) continue;
            const u64 first = std::max<u64>(whole.index, vma.anon_pgoff);
            const u64 last = std::min<u64>(end, vma.last_index() + 1);
            for (u64 index = first; index < last; ++index) {
                const u64 addr = vma.address_of(index);
                PteLeaf* leaf = mm->pages.leaf(store, addr);
                if (!leaf) continue;
                if (leaf->huge == pte) split_huge_pmd(*mm, *leaf, addr);
                if (PageTable::entry(store, *leaf, PageTable::page_of(addr)) == pte)
                    map_part(*mm, vma, *leaf, index);
            }
        }
    model.folios_unhomed(folio(pte).home, 1);
    free_folio(pte);
}

}  // namespace rmapreplay
