// SPDX-License-Identifier: GPL-2.0-only
// The machine's answers to questions about one moment (look.hpp). Each takes time in proportion to
// what it looks at; nothing changes.
#include "replay/native/look.hpp"

#include "replay/native/state.hpp"

namespace rmapreplay {

// Calls on_entry(mm, addr) for every entry that maps the folio which `pte` names: the one at addr
// of mm, if it has no record.
template <typename F>
void Machine::State::for_each_entry_of(Pte pte, const AddressSpace& mm, u64 addr, F&& on_entry) {
    if (pte == kPrivate) {
        on_entry(mm, addr);
        return;
    }
    for (const auto& each : mms)
        each->pages.for_each_leaf(
            store, 0, kTaskSize, [&](PteLeaf& leaf, u64 base, unsigned, unsigned) {
                if (leaf.huge) {
                    if (leaf.huge == pte) on_entry(*each, base);
                    return;
                }
                PageTable::for_each_page(store, leaf, 0, 512, [&](unsigned page, Pte entry) {
                    if (entry == pte) on_entry(*each, base + u64{page} * kPageSize);
                });
            });
}

// Misses are rare, so what was never offered is looked for the hard way.
void Machine::State::report_misses(const WalkRecord& record, Pte pte, const AddressSpace& mm,
                                   u64 addr) {
    for_each_entry_of(pte, mm, addr, [&](const AddressSpace& at, u64 missed) {
        if (!walk_found(at, missed))
            recorder.miss(MissRecord{record.walk, seq, at.serial, at.pid, missed});
    });
}

void Machine::State::tell_walk(const WalkRecord& record, const FolioView& folio, Pte pte,
                               const AddressSpace& mm, u64 addr) {
    WalkStory& told = story.emplace();
    told.record = record;
    told.time = time;
    told.folio = folio;
    told.mm = mm.serial;
    told.pid = mm.pid;
    told.addr = addr;
    told.visits = walk_visits;
    for_each_entry_of(pte, mm, addr, [&](const AddressSpace& at, u64 mapped) {
        told.entries.push_back({at.serial, at.pid, mapped, walk_found(at, mapped)});
    });
}

FolioView Machine::State::folio_at(const Vma& vma, u64 addr, Pte pte) {
    if (pte == kPrivate) {
        FolioView view;
        view.index = vma.index_at(addr);
        view.home = model.home(vma);
        view.exclusive = true;
        return view;
    }
    const Folio& f = folio(pte);
    return FolioView{f.index, u32{1} << f.order, f.mapcount, f.home, f.exclusive != 0};
}

// ---- the lives of address spaces ----

void Machine::State::mm_made(const AddressSpace& mm, MmOrigin how, const AddressSpace* parent) {
    if (timeline) timeline->mm_made(mm, how, parent);
    if (lives_recorded) lives.push_back({mm.serial, parent ? parent->serial : 0, mm.pid, how, seq});
}

// Serials count from 1, without gaps.
MmLife* Machine::State::life_of(const AddressSpace& mm) {
    return lives_recorded ? &lives[mm.serial - 1] : nullptr;
}

void Machine::State::mm_owned(const AddressSpace& mm) {
    if (timeline) timeline->mm_owned(mm);
    if (MmLife* life = life_of(mm)) life->pid = mm.pid;
}

void Machine::State::mm_execed(const AddressSpace& mm) {
    if (timeline) timeline->mm_execed(mm);
    if (MmLife* life = life_of(mm)) life->execed = seq;
}

void Machine::State::mm_gone(const AddressSpace& mm) {
    if (timeline) timeline->mm_gone(mm);
    if (MmLife* life = life_of(mm)) life->gone = seq;
}

// ---- Machine ----

void Machine::stop_at_walk(u64 number) { state_->told_walk = number; }
const WalkStory* Machine::story() const { return state_->story ? &*state_->story : nullptr; }
void Machine::record_lives() { state_->lives_recorded = true; }
const std::vector<MmLife>& Machine::lives() const { return state_->lives; }

std::optional<PageView> Machine::page(u32 mm, u64 addr) const {
    State& s = *state_;
    for (const auto& each : s.mms) {
        if (each->serial != mm) continue;
        const Vma* vma = each->vmas.lookup(addr);
        if (!vma) return std::nullopt;
        const PteLeaf* leaf = each->pages.leaf(s.store, addr);
        const Pte pte = each->pages.get(s.store, addr);
        PageView view;
        view.by_pmd = leaf && leaf->huge;
        if (is_anon(pte)) {
            view.what = PageView::What::folio;
            view.folio = s.folio_at(*vma, addr, pte);
        } else if (is_swap(pte)) {
            view.what = PageView::What::swap;
        } else if (pte == kZero) {
            view.what = PageView::What::zero_page;
        } else if (pte == kGuard) {
            view.what = PageView::What::guard;
        }
        return view;
    }
    return std::nullopt;
}

std::vector<FolioEntry> Machine::sharers(u32 mm, u64 addr) const {
    State& s = *state_;
    std::vector<FolioEntry> all;
    for (const auto& each : s.mms) {
        if (each->serial != mm) continue;
        const Pte pte = each->pages.get(s.store, addr);
        if (!is_anon(pte)) return all;
        s.for_each_entry_of(pte, *each, page_down(addr), [&](const AddressSpace& at, u64 mapped) {
            all.push_back({at.serial, at.pid, mapped, false});
        });
    }
    return all;
}

VmaPages Machine::pages(const Vma& vma) const {
    State& s = *state_;
    VmaPages count;
    const auto add = [&](Pte pte, u64 pages) {
        if (is_swap(pte)) count.swap += pages;
        if (!is_anon(pte)) return;
        count.anon += pages;
        if (is_folio(pte) && s.folio(pte).mapcount > 1) count.shared += pages;
    };
    const auto& mm = static_cast<const AddressSpace&>(*vma.mm);
    mm.pages.for_each_leaf(s.store, vma.start, vma.end,
                           [&](PteLeaf& leaf, u64, unsigned first, unsigned last) {
                               if (leaf.huge) {
                                   add(leaf.huge, last - first);
                                   return;
                               }
                               PageTable::for_each_page(s.store, leaf, first, last,
                                                        [&](unsigned, Pte pte) { add(pte, 1); });
                           });
    return count;
}

std::string_view Machine::name_of(const Vma& vma) const {
    if (vma.file >= kSpecialFiles) return "special";
    if (is_anon_shmem(vma.file)) return "shmem";
    const auto& mm = static_cast<const AddressSpace&>(*vma.mm);
    return kMappingKindNames[static_cast<std::size_t>(mapping_kind(mm, vma))];
}

u32 Machine::users(const Mm& mm) const { return static_cast<const AddressSpace&>(mm).users; }

}  // namespace rmapreplay
