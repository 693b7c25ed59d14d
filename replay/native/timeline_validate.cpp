// SPDX-License-Identifier: GPL-2.0-only
// Whether what a timeline has open is what lives: nothing that changed was forgotten.
#include <string>

#include "replay/native/state.hpp"
#include "rmap_models/native/invariant.hpp"

namespace rmapreplay {

namespace {

[[noreturn]] void broken(const std::string& what) { throw BrokenInvariant("timeline: " + what); }

}  // namespace

void TimelineTables::validate(const std::vector<const Mm*>& mms) const {
    if (mms.size() != mms_.size()) broken("an mm that is gone, or was never made");
    std::size_t vmas = 0, links = 0, remaps = 0;
    for (const Mm* mm : mms) {
        if (!mms_.contains(mm->serial)) broken(describe(*mm) + " was never made");
        for (std::size_t i = 0; i < mm->vmas.size(); ++i, ++vmas) {
            const Vma& vma = *mm->vmas.at(i);
            const VmaValue* value = vmas_.find(vma.serial);
            if (!value || *value != value_of(vma, 0)) broken(describe(vma) + " has changed");
            if (!objects_made_) continue;
            for (const u32 object : model_.anon_vma_chain(vma)) {
                const LinkValue* link = links_.find(link_key(object, vma));
                if (!link || link->mm != mm->serial || link->first != vma.anon_pgoff ||
                    link->last != vma.last_index())
                    broken(describe(vma) + ": a link has changed");
                ++links;
            }
        }
    }
    if (vmas != vmas_.size()) broken("a VMA that is gone");
    if (links != links_.size()) broken("a link that is gone");
    for (u32 object = 0; object < objects_.size(); ++object) {
        std::vector<Remap> now = model_.remaps(object);
        if (now.empty()) continue;
        std::sort(now.begin(), now.end());
        const auto it = remaps_.find(objects_[object].serial);
        if (it == remaps_.end() ||
            !std::equal(now.begin(), now.end(), it->second.begin(), it->second.end(),
                        [](const Remap& a, const RemapSpan& b) { return a == b.remap; }))
            broken("remaps of object " + std::to_string(object) + " have changed");
        ++remaps;
    }
    if (remaps != remaps_.size()) broken("remaps of an object that is gone");
}

void TimelineTables::validate_folio(Pte pte, bool mapped) const {
    const FolioRecord* record = pte - kFirst < records_.size() ? &records_[pte - kFirst] : nullptr;
    const FolioValue* value = record ? folio_spans_.find(record->serial) : nullptr;
    const std::string name = "folio " + std::to_string(pte - kFirst);
    if (!value || *value != value_of(pte)) broken(name + " has changed");
    if (!mapped) return;  // the object where it was at home may be gone
    const Home home = folios_[pte].home;
    const Object object = home < objects_.size() ? objects_[home] : Object{};
    if (value->home != (object.serial ? object.serial : home)) broken(name + " has moved");
}

void TimelineTables::validate_entry(const Mm& mm, u64 addr, Pte pte, bool by_pmd) const {
    validate_folio(pte, true);
    const MappingValue* mapping = mappings_.find(page_key(mm, addr));
    if (!mapping || mapping->folio != records_[pte - kFirst].serial ||
        mapping->pages != (by_pmd ? 1u << kPmdOrder : 1u))
        broken(describe(mm) + ": the mapping has changed at page " +
               std::to_string(addr >> kPageShift));
}

void Machine::State::validate_timeline() {
    std::vector<const Mm*> live;
    u64 entries = 0;
    for (const auto& mm : mms) {
        live.push_back(mm.get());
        const auto entry = [&](u64 addr, Pte pte, bool by_pmd) {
            if (pte == kPrivate) broken(describe(*mm) + ": a page without record");
            if (is_swap(pte) && pte != kSwapPrivate)
                timeline->validate_folio(pte & ~kSwap, folio(pte & ~kSwap).mapcount > 0);
            if (!is_folio(pte)) return;
            timeline->validate_entry(*mm, addr, pte, by_pmd);
            ++entries;
        };
        mm->pages.for_each_leaf(
            store, 0, ~u64{0}, [&](PteLeaf& leaf, u64 base, unsigned, unsigned) {
                if (leaf.huge) entry(base, leaf.huge, true);
                PageTable::for_each_page(store, leaf, 0, 512, [&](unsigned page, Pte pte) {
                    entry(base + u64{page} * kPageSize, pte, false);
                });
            });
    }
    if (entries != timeline->entries()) broken("a mapping that is gone");
    if (folios.live() != timeline->folios()) broken("a folio that is gone");
    timeline->validate(live);
}

}  // namespace rmapreplay
