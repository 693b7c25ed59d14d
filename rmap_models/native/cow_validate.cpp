// SPDX-License-Identifier: GPL-2.0-only
// The invariants of cow-context, recounted from the mms, their VMAs and the folios: the tree of
// contexts, their reference counts, and that remap trees hold the places of displaced VMAs and
// nothing else. (As the proof of concept is written they may lack some; see cow_poc.cpp.)
#include <algorithm>
#include <functional>
#include <string>
#include <unordered_set>

#include "rmap_models/native/cow_context.hpp"
#include "rmap_models/native/invariant.hpp"

namespace rmapreplay {

namespace {

constexpr u64 kLastIndex = ~u64{0} >> 1;

[[noreturn]] void broken(const std::string& what) { throw BrokenInvariant(what); }

// Pages of [first, last] that the entries know to be displaced by d.
u64 known_pages(std::span<const RemapTree::Entry> entries, u64 first, u64 last, i64 d) {
    u64 pages = 0;
    for (const RemapTree::Entry& e : entries)
        if (e.displacements.contains(d))
            pages += std::min(e.last, last) - std::max(e.first, first) + 1;
    return pages;
}

}  // namespace

void CowModel::validate_remaps(const Mm& mm) const {
    const CowContext& context = this->context(mm);
    u64 known = 0;
    for (std::size_t i = 0; i < mm.vmas.size(); ++i) {
        const Vma& vma = *mm.vmas.at(i);
        if (!vma.anon_vma) continue;
        if (vma.anon_vma != &context) broken(describe(vma) + " has another context's word");
        const i64 d = displacement_of(vma);
        if (d == 0) continue;
        const u64 first = vma.anon_pgoff, last = vma.last_index();
        const u64 pages = known_pages(context.remaps.lookup(first, last), first, last, d);
        if (pages < vma.pages() && !may_forget_remaps())
            broken(describe(vma) + " is displaced, and the remap tree knows " +
                   std::to_string(pages) + " of its " + std::to_string(vma.pages()) + " pages");
        known += pages;
    }
    const std::string name = "the remap tree of " + describe(mm);
    u64 places = 0, slots = 0;
    const RemapTree::Entry* before = nullptr;
    for (const RemapTree::Entry& e : context.remaps.lookup(0, kLastIndex)) {
        const auto values = e.displacements.values();
        if (e.first > e.last || (before && before->last >= e.first))
            broken(name + " is out of order at " + hex(e.first));
        if (before && before->last + 1 == e.first && before->displacements == e.displacements)
            broken(name + " has a needless boundary at " + hex(e.first));
        if (std::ranges::adjacent_find(values, std::greater_equal<>()) != values.end())
            broken(name + " has displacements out of order at " + hex(e.first));
        places += (e.last - e.first + 1) * values.size();
        slots += e.displacements.array_slots();
        before = &e;
    }
    if (places != known)
        broken(name + " has " + std::to_string(places) + " pages, of living VMAs " +
               std::to_string(known));
    if (slots != context.remaps.array_slots() || slots != context.array_slots ||
        context.remaps.maple_nodes() != context.maple_nodes)
        broken(name + " has told the ledger another size");
}

void CowModel::validate_context(const CowContext& context, u64 homed) const {
    const std::string name = "cow_context " + std::to_string(context.self) +
                             (context.mm ? " of " + describe(*context.mm) : "");
    const u64 mm = context.mm ? 1 : 0;
    u64 children = 0;
    const CowContext* before = nullptr;
    for (const CowContext* child = context.first_child; child; child = child->next_sibling) {
        if (child->parent != &context || child->prev_sibling != before)
            broken(name + " has a child that is linked elsewhere");
        before = child;
        ++children;
    }
    if (context.refcount != mm + children + homed)
        broken(name + ": refcount is " + std::to_string(context.refcount) + ", recounted " +
               std::to_string(mm) + " (mm) + " + std::to_string(children) + " (children) + " +
               std::to_string(homed) + " (folios)");
    if (context.refcount == 0) broken(name + " lives and nothing references it");
    if (!context.mm && !context.remaps.empty()) broken(name + " has no mm any more, and remaps");
}

void CowModel::validate(const Live& live) const {
    for (const Mm* mm : live.mms) {
        if (!mm->rmap) broken(describe(*mm) + " has no context");
        if (context(*mm).mm != mm) broken("the context of " + describe(*mm) + " is another mm's");
        validate_remaps(*mm);
    }
    const std::unordered_set<const Mm*> living(live.mms.begin(), live.mms.end());
    std::vector<bool> is_free(contexts_.size());
    for (const u32 handle : free_) is_free[handle] = true;
    for (const auto& context : contexts_) {
        if (is_free[context->self]) continue;
        if (context->mm && !living.contains(context->mm))
            broken("cow_context " + std::to_string(context->self) +
                   " has an mm that does not live");
        const auto homed = live.homed.find(context->self);
        validate_context(*context, homed == live.homed.end() ? 0 : homed->second);
    }
    for (const auto& [home, folios] : live.homed)
        if (folios && (home >= contexts_.size() || is_free[home]))
            broken(std::to_string(folios) + " folios are homed at cow_context " +
                   std::to_string(home) + ", which does not live");
}

}  // namespace rmapreplay
