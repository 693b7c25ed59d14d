// SPDX-License-Identifier: GPL-2.0-only
#include "rmap_models/native/cow_context.hpp"

#include <algorithm>

namespace rmapreplay {

namespace {

enum Object : std::size_t { kCowContext = 1, kMapleNode = 2, kDisplacement = 3 };
enum OpCounter : std::size_t { kRemapStores, kRemapErases, kRefcounts, kSpinLocks };
enum WalkCounter : std::size_t {
    kContextsLive,
    kContextsDead,
    kMmget,
    kVmaLookups,
    kRemapLookups,
    kRemapEntries,
    kEmptyContexts
};

constexpr ModelInfo kInfo = {
    "cow",
    "cow-context as intended: one context per mm, and a tree of what was moved",
    kCowParams,
    kCowObjects,
    kCowWalkCounters,
    kCowOpCounters,
    {},
    kCowLocks};

u64 index_of(u64 addr, i64 displacement) {
    return (addr >> kPageShift) - static_cast<u64>(displacement);
}

}  // namespace

// ---- contexts ----

CowContext& CowModel::alloc(Mm& mm) {
    if (free_.empty()) {
        free_.push_back(static_cast<u32>(contexts_.size()));
        contexts_.push_back(std::make_unique<CowContext>());
    }
    CowContext& context = *contexts_[free_.back()];
    context = CowContext{};
    context.self = free_.back();
    free_.pop_back();
    context.mm = &mm;
    context.refcount = 1;
    mm.rmap = &context;
    costs_.allocated(kCowContext);
    if (watcher_) watcher_->object_made(context.self, &mm);
    return context;
}

// Drops a reference. A context that nothing references any more drops its parent's; one that is
// still referenced stays linked, dead or not, and keeps its ancestors.
void CowModel::put(CowContext* context) {
    costs_.count(kRefcounts);
    while (context && --context->refcount == 0) {
        CowContext* parent = context->parent;
        if (parent) {
            costs_.count(kSpinLocks);
            costs_.count(kRefcounts);
            if (context->prev_sibling)
                context->prev_sibling->next_sibling = context->next_sibling;
            else
                parent->first_child = context->next_sibling;
            if (context->next_sibling) context->next_sibling->prev_sibling = context->prev_sibling;
        }
        costs_.freed(kCowContext);
        free_.push_back(context->self);
        context = parent;
    }
}

// Exec, or the first sight of an mm: a root.
void CowModel::mm_init(Mm& mm) { alloc(mm); }

// Linked before its elder siblings, and before any PTE is copied that a walk would have to find.
void CowModel::mm_fork_begin(Mm& child, Mm& parent) {
    alloc(child);
    link(child, parent);
}

void CowModel::link(Mm& child, Mm& parent) {
    auto& context = *static_cast<CowContext*>(child.rmap);
    auto& above = *static_cast<CowContext*>(parent.rmap);
    costs_.count(kSpinLocks);
    costs_.count(kRefcounts);
    context.parent = &above;
    context.next_sibling = above.first_child;
    if (above.first_child) above.first_child->prev_sibling = &context;
    above.first_child = &context;
    ++above.refcount;
}

void CowModel::mm_exit(Mm& mm) {
    auto& context = *static_cast<CowContext*>(mm.rmap);
    context.mm = nullptr;
    mm.rmap = nullptr;
    context.remaps.clear();
    tell_ledger(context);
    put(&context);
}

// ---- displaced VMAs ----

void CowModel::tell_ledger(CowContext& context) {
    const auto account = [this](std::size_t kind, u32& told, u32 now) {
        if (now > told) costs_.allocated(kind, now - told);
        if (now < told) costs_.freed(kind, told - now);
        told = now;
    };
    account(kMapleNode, context.maple_nodes, context.remaps.maple_nodes());
    account(kDisplacement, context.array_slots, context.remaps.array_slots());
    if (watcher_) watcher_->remaps_changed(context.self);
}

// A faulted VMA is at a place.
void CowModel::enter(CowContext& context, const Vma& vma) {
    const i64 d = displacement_of(vma);
    if (d == 0) return;
    costs_.count(kRemapStores);
    costs_.count(kSpinLocks);
    context.remaps.insert(vma.anon_pgoff, vma.last_index(), d, insert_);
    tell_ledger(context);
}

// A faulted VMA has left [start, end). What another of the mm's VMAs now holds there in its stead
// (a split's new half, a merge's survivor) stays: entries know places, not VMAs.
void CowModel::leave(CowContext& context, u64 start, u64 end, i64 d, const Vma* except) {
    if (d == 0) return;
    costs_.count(kRemapErases);
    costs_.count(kSpinLocks);
    const VmaTree& vmas = context.mm->vmas;
    u64 next = start;
    for (std::size_t i = vmas.lower(start); i < vmas.size() && vmas.at(i)->start < end; ++i) {
        const Vma& vma = *vmas.at(i);
        if (&vma == except || !vma.anon_vma || displacement_of(vma) != d) continue;
        if (vma.start > next)
            context.remaps.erase(index_of(next, d), index_of(vma.start, d) - 1, d);
        next = std::max(next, vma.end);
    }
    if (next < end) context.remaps.erase(index_of(next, d), index_of(end, d) - 1, d);
    tell_ledger(context);
}

void CowModel::anon_vma_prepare(Vma& vma) {
    CowContext& context = context_of(vma);
    vma.anon_vma = &context;
    enter(context, vma);
}

void CowModel::anon_vma_clone(Vma& dst, const Vma& src, CloneFor why) {
    CowContext& context = context_of(dst);
    switch (why) {
        case CloneFor::remap: remap(context, dst, src); break;
        case CloneFor::merge_unfaulted: enter(context, dst); break;
        // The halves lie where the whole did.
        case CloneFor::split: break;
    }
}

void CowModel::remap(CowContext& context, const Vma& dst, const Vma&) { enter(context, dst); }

void CowModel::anon_vma_fork(Vma& child, const Vma&) { anon_vma_prepare(child); }

void CowModel::unlink_anon_vmas(Vma& vma) {
    leave(context_of(vma), vma.start, vma.end, displacement_of(vma), &vma);
    vma.anon_vma = nullptr;
}

void CowModel::pre_update_vma(Vma& vma) {
    changing_[changes_++] = {&vma, vma.start, vma.end, displacement_of(vma)};
}

void CowModel::post_update_vma(Vma& vma) {
    const auto it = std::find_if(changing_.begin(), changing_.begin() + changes_,
                                 [&](const Before& b) { return b.vma == &vma; });
    const Before before = *it;
    *it = changing_[--changes_];
    CowContext& context = context_of(vma);
    const i64 d = displacement_of(vma);
    if (d == before.displacement && vma.start <= before.start && vma.end >= before.end) {
        if (vma.start == before.start && vma.end == before.end) return;
    } else {
        leave(context, before.start, before.end, before.displacement, nullptr);
    }
    enter(context, vma);
}

std::vector<Remap> CowModel::remaps(u32 object) const {
    std::vector<Remap> result;
    for (const RemapTree::Entry& entry : contexts_[object]->remaps.entries())
        for (const i64 d : entry.displacements.values())
            result.push_back({entry.first, entry.last, d});
    return result;
}

ObjectView CowModel::view(u32 object) const {
    const CowContext& seen = *contexts_[object];
    ObjectView view{"cow_context", {}};
    if (seen.mm) view.fields.push_back({"mm", seen.mm->serial, ObjectField::Is::mm});
    if (seen.parent) view.fields.push_back({"parent", seen.parent->self, ObjectField::Is::object});
    view.fields.push_back({"refcount", seen.refcount});
    return view;
}

// ---- folios ----

Home CowModel::home(const Vma& vma) const { return context_of(vma).self; }

Home CowModel::root_home(const Vma& vma) const {
    const CowContext* context = &context_of(vma);
    while (context->parent) context = context->parent;
    return context->self;
}

void CowModel::folios_homed(Home home, u64 n) {
    costs_.count(kRefcounts, n);
    contexts_[home]->refcount += n;
}

void CowModel::folios_unhomed(Home home, u64 n) {
    if (n == 0) return;
    costs_.count(kRefcounts, n - 1);
    CowContext* context = contexts_[home].get();
    context->refcount -= n - 1;
    put(context);
}

// ---- walks ----

// The home first, then all below it: children, newest first, before their parent.
void CowModel::rmap_walk(Walk& walk) {
    const CowContext* const top = contexts_[walk.folio.home].get();
    if (!visit_context(walk, *top)) return;
    const auto lowest = [](const CowContext* context) {
        while (context->first_child) context = context->first_child;
        return context;
    };
    for (const CowContext* at = lowest(top); at != top;
         at = at->next_sibling ? lowest(at->next_sibling) : at->parent)
        if (!visit_context(walk, *at)) return;
}

// Whether the walk goes on.
bool CowModel::visit_context(Walk& walk, const CowContext& context) {
    if (!context.mm) {
        ++walk.counters[kContextsDead];
        return true;
    }
    ++walk.counters[kContextsLive];
    ++walk.counters[kMmget];
    handed_on_ = 0;
    const bool exclusive = !folio_maybe_mapped_shared(walk.folio);
    const bool go_on =
        visit_displaced(walk, context, 0) && !(exclusive && exclusive_walk_is_over(walk)) &&
        visit_remapped(walk, context) && !(exclusive && exclusive_walk_is_over(walk));
    if (handed_on_ == 0) ++walk.counters[kEmptyContexts];
    return go_on;
}

// One mm maps the folio, so when all its mappings are found nobody else has any. Until then it may
// be that the mm has moved it, or that the mm is not the folio's home but below it.
bool CowModel::exclusive_walk_is_over(const Walk& walk) const {
    return walk.found >= walk.folio.mapcount;
}

bool CowModel::visit_remapped(Walk& walk, const CowContext& context) {
    ++walk.counters[kRemapLookups];
    const FolioView& folio = walk.folio;
    const auto entries = context.remaps.lookup(folio.index, folio.index + folio.nr - 1);
    walk.counters[kRemapEntries] += entries.size();
    if (entries.size() <= 1) {
        if (!entries.empty())
            for (const i64 d : entries.front().displacements.values())
                if (!visit_displaced(walk, context, d)) return false;
        return true;
    }
    distinct_.clear();
    for (const RemapTree::Entry& entry : entries) {
        const auto values = entry.displacements.values();
        distinct_.insert(distinct_.end(), values.begin(), values.end());
    }
    std::sort(distinct_.begin(), distinct_.end());
    distinct_.erase(std::unique(distinct_.begin(), distinct_.end()), distinct_.end());
    for (const i64 d : distinct_)
        if (!visit_displaced(walk, context, d)) return false;
    return true;
}

// The VMAs that cover the folio's pages at this displacement and that are displaced by it. Others
// there hold something else.
bool CowModel::visit_displaced(Walk& walk, const CowContext& context, i64 d) {
    ++walk.counters[kVmaLookups];
    const VmaTree& vmas = context.mm->vmas;
    const FolioView& folio = walk.folio;
    const i64 first = static_cast<i64>(folio.index) + d;
    const i64 end = first + static_cast<i64>(folio.nr);
    const auto hand_on = [&](const Vma& vma) {
        if (!vma.anon_vma || displacement_of(vma) != d) return true;
        ++handed_on_;
        return walk.visit(vma);
    };
    if (folio.nr == 1) {
        const Vma* vma = first < 0 ? nullptr : vmas.lookup(static_cast<u64>(first) << kPageShift);
        return !vma || hand_on(*vma);
    }
    if (end <= 0) return true;
    const u64 from = static_cast<u64>(std::max(first, i64{0})) << kPageShift;
    const u64 to = static_cast<u64>(end) << kPageShift;
    for (std::size_t i = vmas.lower(from); i < vmas.size() && vmas.at(i)->start < to; ++i)
        if (!hand_on(*vmas.at(i))) return false;
    return true;
}

extern const ModelEntry cow_entry;
const ModelEntry cow_entry = {
    &kInfo, [](const ModelParams& params, Costs& costs) -> std::unique_ptr<RmapModel> {
        check_params(kInfo, params);
        return std::make_unique<CowModel>(kInfo, costs);
    }};

}  // namespace rmapreplay
