// SPDX-License-Identifier: GPL-2.0-only
// The reverse map of the cow-context proposal (proof of concept of spring 2026): no object per VMA.
//
// Each mm has one context, linked below the context of the mm it was forked from. A folio points to
// the context of the mm that made it, its home, and has the same index as in mainline. Memory lies
// where its index says unless it was moved: then the context's remap tree knows by how much. A walk
// looks for the folio's page in its home and in all mms forked from there.
//
// CowModel is the design as intended: it finds every mapping. CowPoc (cow_poc.cpp) is the same as
// it was written; each difference is one override, named after the hole it is.
#pragma once

#include <array>
#include <memory>
#include <span>
#include <vector>

#include "rmap_models/native/model.hpp"
#include "rmap_models/native/params.hpp"
#include "rmap_models/native/remap_tree.hpp"

namespace rmapreplay {

struct CowContext {
    Mm* mm = nullptr;  // null once the mm is gone
    CowContext* parent = nullptr;
    CowContext* first_child = nullptr;  // newest first
    CowContext* next_sibling = nullptr;
    CowContext* prev_sibling = nullptr;
    RemapTree remaps;
    u64 refcount = 0;  // 1 for the mm, 1 per child context, 1 per folio homed here
    u32 self = 0;  // handle
    u32 maple_nodes = 0, array_slots = 0;  // as told to the ledger
};

// folio_maybe_mapped_shared(): what the list's discussion calls "exclusive" is its opposite. It is
// wider than PageAnonExclusive, which a fork clears for good until the next write fault: a page
// whose other sharers are gone is exclusive to the list, but not AnonExclusive.
inline bool folio_maybe_mapped_shared(const FolioView& folio) {
    return folio.mapcount > 1 && !folio.exclusive;
}

// In pages, from folio->index to virtual page.
inline i64 displacement_of(const Vma& vma) {
    return static_cast<i64>(vma.start >> kPageShift) - static_cast<i64>(vma.anon_pgoff);
}

// Bytes: the PoC's struct is about 96; maple nodes are 256; an array of displacements has a word
// for each. The last two are counted as RemapTree says, a lower bound.
inline constexpr ObjectKind kCowObjects[] = {
    {"cow_context", 96}, {"maple_node", 256}, {"displacement", 8}};
inline constexpr LockClass kCowLocks[] = {
    {"cow_context->lock", "spinlock", "the remap tree of one mm, or the list of its children"}};
inline constexpr Counter kCowWalkCounters[] = {
    {"contexts_live", CostClass::step, "contexts visited whose mm lives"},
    {"contexts_dead", CostClass::step, "contexts visited whose mm is gone"},
    {"mmget", CostClass::refcount, "mmget_not_zero(), with its mmput()"},
    {"vma_lookups", CostClass::lookup, "searches in an mm's maple tree, one per displacement"},
    {"remap_lookups", CostClass::other, "searches in a context's remap tree"},
    {"remap_entries", CostClass::step, "entries of remap trees read"},
    {"empty_contexts", CostClass::other, "contexts visited that gave no VMA"}};
inline constexpr Counter kCowOpCounters[] = {
    {"remap_stores", CostClass::link, "displaced ranges entered into a remap tree"},
    {"remap_erases", CostClass::link, "displaced ranges taken out of a remap tree"},
    {"refcounts", CostClass::refcount, "references taken or dropped: mm, child, folio"},
    {"spin_locks", CostClass::lock, "for a remap tree or a list of children", kCowLocks[0].name}};
inline constexpr Param kCowParams[] = {kKernelParam};

class CowModel : public RmapModel {
  public:
    CowModel(const ModelInfo& info, Costs& costs) : CowModel(info, costs, insert_sorted) {}
    const ModelInfo& info() const final { return info_; }

    void mm_init(Mm& mm) final;
    void mm_fork_begin(Mm& child, Mm& parent) override;
    void mm_exit(Mm& mm) final;

    void anon_vma_prepare(Vma& vma) final;
    void anon_vma_clone(Vma& dst, const Vma& src, CloneFor why) final;
    void anon_vma_fork(Vma& child, const Vma& parent) final;
    void unlink_anon_vmas(Vma& vma) final;
    void pre_update_vma(Vma& vma) final;
    void post_update_vma(Vma& vma) final;
    bool vma_is_fork_child(const Vma&) const final { return false; }

    Home home(const Vma& vma) const final;
    // The top of the fork tree, as in mainline: all that may have a swap entry of the page are
    // below it, since the page was made there or further down. A page of a few late sharers is then
    // looked for in the whole tree; its former home would do, but a swap entry has no room to say
    // which that was, and it would have to keep that context alive.
    Home root_home(const Vma& vma) const override;
    void folios_homed(Home home, u64 n) final;
    void folios_unhomed(Home home, u64 n) final;
    void rmap_walk(Walk& walk) final;
    void watch(RmapWatcher* watcher) final { watcher_ = watcher; }
    std::vector<Remap> remaps(u32 object) const final;
    ObjectView view(u32 object) const final;
    void validate(const Live& live) const final;

    // What tests look at.
    const CowContext& context(const Mm& mm) const { return *static_cast<CowContext*>(mm.rmap); }
    const CowContext& at(Home home) const { return *contexts_[home]; }
    std::size_t live_contexts() const { return contexts_.size() - free_.size(); }

  protected:
    CowModel(const ModelInfo& info, Costs& costs, SortedInsert insert)
        : info_(info), costs_(costs), insert_(insert) {}

    // Whether the walk is over for a folio that only one mm maps, once its place has been looked at
    // where its index says, and again wherever else the context knows of.
    virtual bool exclusive_walk_is_over(const Walk& walk) const;
    // mremap() has made dst, with its final range, from src.
    virtual void remap(CowContext& context, const Vma& dst, const Vma& src);
    // Whether a displaced VMA may be missing from its context's remap tree.
    virtual bool may_forget_remaps() const { return false; }

    void enter(CowContext& context, const Vma& vma);
    void link(Mm& child, Mm& parent);  // into the fork tree

  private:
    struct Before {  // a VMA as pre_update_vma() saw it
        const Vma* vma;
        u64 start, end;
        i64 displacement;
    };

    CowContext& context_of(const Vma& vma) const { return *static_cast<CowContext*>(vma.mm->rmap); }
    CowContext& alloc(Mm& mm);
    void put(CowContext* context);
    void leave(CowContext& context, u64 start, u64 end, i64 displacement, const Vma* except);
    void tell_ledger(CowContext& context);

    bool visit_context(Walk& walk, const CowContext& context);
    bool visit_displaced(Walk& walk, const CowContext& context, i64 displacement);
    bool visit_remapped(Walk& walk, const CowContext& context);

    void validate_remaps(const Mm& mm) const;
    void validate_context(const CowContext& context, u64 homed) const;

    const ModelInfo& info_;
    Costs& costs_;
    RmapWatcher* watcher_ = nullptr;
    const SortedInsert insert_;
    std::vector<std::unique_ptr<CowContext>> contexts_;  // by handle
    std::vector<u32> free_;
    std::array<Before, 2> changing_{};  // a merge changes at most two VMAs together
    unsigned changes_ = 0;
    u32 handed_on_ = 0;  // VMAs visited in the context at hand
    std::vector<i64> distinct_;
};

}  // namespace rmapreplay
