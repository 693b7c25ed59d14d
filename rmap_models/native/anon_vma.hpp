// SPDX-License-Identifier: GPL-2.0-only
// The anonymous reverse map of mainline Linux: anon_vma and anon_vma_chain (mm/rmap.c).
//
// An anon_vma stands for the pages that one VMA, and what it was split into, made. An
// anon_vma_chain (AVC) links a VMA with an anon_vma: the VMA may map pages of that anon_vma. Each
// VMA lists its AVCs; each anon_vma keeps its own in an interval tree by page offset. A walk visits
// the VMAs in the tree of the folio's anon_vma that overlap the folio.
#pragma once

#include "rmap_models/native/interval_tree.hpp"
#include "rmap_models/native/model.hpp"
#include "rmap_models/native/pool.hpp"

namespace rmapreplay {

// struct anon_vma_chain. The interval is that of the VMA, kept here so that a search reads nothing
// else. One cache line.
struct alignas(64) AnonVmaChain : IntervalNode {
    Vma* vma;
    u32 anon_vma;  // handle
    u32 same_vma;  // handle of the next one in the VMA's list, 0 at its end
};
static_assert(sizeof(AnonVmaChain) == 64);

// struct anon_vma. Handles name others: an anon_vma's parent and root may outlive its own VMAs.
struct AnonVma {
    IntervalTree<AnonVmaChain> tree;
    u32 self;
    u32 root;
    u32 parent;
    u32 refcount;  // 1, and for a root 1 for each living descendant
    u32 num_children;  // those whose parent this is; a root is its own child
    u32 num_active_vmas;  // VMAs whose own anon_vma this is
};
static_assert(sizeof(AnonVma) == 32);

class AnonVmaModel final : public RmapModel {
  public:
    AnonVmaModel(Kernel kernel, Costs& costs);
    const ModelInfo& info() const override;

    void anon_vma_prepare(Vma& vma) override;
    void anon_vma_clone(Vma& dst, const Vma& src, CloneFor why) override;
    void anon_vma_fork(Vma& child, const Vma& parent) override;
    void unlink_anon_vmas(Vma& vma) override;
    void pre_update_vma(Vma& vma) override;
    void post_update_vma(Vma& vma) override;
    bool vma_is_fork_child(const Vma& vma) const override;
    Home home(const Vma& vma) const override;
    Home root_home(const Vma& vma) const override;
    void rmap_walk(Walk& walk) override;
    std::vector<u32> anon_vma_chain(const Vma& vma) const override;
    ObjectView view(u32 object) const override;
    void watch(RmapWatcher* watcher) override { watcher_ = watcher; }
    void validate(const Live& live) const override;

    // What tests look at.
    const AnonVma& anon_vma(const Vma& vma) const { return *static_cast<AnonVma*>(vma.anon_vma); }
    const AnonVma& at(u32 handle) const { return anon_vmas_[handle]; }
    std::size_t bytes() const { return anon_vmas_.bytes() + chains_.bytes(); }

  private:
    AnonVma& own(const Vma& vma) { return *static_cast<AnonVma*>(vma.anon_vma); }
    AnonVma& anon_vma_alloc(std::size_t site);
    void anon_vma_free(AnonVma& anon_vma);
    void put_anon_vma(AnonVma& anon_vma);
    AnonVmaChain& anon_vma_chain_assign(Vma& vma, AnonVma& anon_vma);
    void anon_vma_chain_free(u32 avc);
    AnonVma* find_mergeable_anon_vma(const Vma& vma);
    AnonVma* reusable_anon_vma(const Vma& old, const Vma& a, const Vma& b);
    void clone_chain(Vma& dst, const Vma& src, bool forking);
    void clone_one(Vma& dst, const AnonVmaChain& from, bool forking);
    void maybe_reuse_anon_vma(Vma& dst, AnonVma& anon_vma);

    Kernel kernel_;
    Costs& costs_;
    RmapWatcher* watcher_ = nullptr;
    Pool<AnonVma> anon_vmas_;
    Pool<AnonVmaChain> chains_;
    u32 updating_ = 0;  // VMAs between pre_update_vma() and post_update_vma()
    std::vector<u32> scratch_;
};

}  // namespace rmapreplay
