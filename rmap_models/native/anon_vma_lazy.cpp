// SPDX-License-Identifier: GPL-2.0-only
// ANON_VMA_LAZY: mainline's anon_vma, but none before a fork needs one ("[PATCH 00/15] mm:
// introduce ANON_VMA_LAZY for deferred anon_vma creation", May 2026, not accepted). What a VMA's
// word leads to is an anon_vma_tree:
//
//   vma       never forked. Pages point to the root VMA, the first that had this tree: where it is
//             mapped and what offset it has (vma_mapping_base()) never changes for it and those
//             split from it, so a page's address is known and its VMA is looked up there. Nothing
//             is linked, nothing is locked.
//   parent    a child's VMA after fork. It is linked to all anon_vmas that the parent's VMA is
//             linked to, and has none of its own: pages that it makes are at home at the parent's.
//   anon_vma  as in mainline. A VMA that is about to be a parent is upgraded to this first; pages
//             that pointed to the root VMA are corrected as fork copies them (try_dup_anon_rmap()).
//
// Where the patches do not say, or we do not know what they say, that was chosen which cannot miss:
//  - A VMA that mremap() moves, so that its pages' addresses change, is upgraded first. Exec's
//    stack, which is its own root when it is moved, is not.
//  - A first fault shares a neighbour's tree by mainline's rule (find_mergeable_anon_vma()); all
//    VMAs of a tree are upgraded together.
//  - A root VMA that is unmapped or merged away while others have its tree is kept in memory, since
//    pages point to it: object lazy_root_vma.
//  - An upgrade takes up an anon_vma that no VMA owns any more, as mainline's fork does
//    (maybe_reuse_anon_vma()), so a chain of forks whose elders exit does not grow without end.
//  - All pages of a tree follow its upgrade, also those of `parent`, for which the patches leave
//    them.
#include <algorithm>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "rmap_models/native/anon_vma.hpp"
#include "rmap_models/native/invariant.hpp"
#include "rmap_models/native/params.hpp"

namespace rmapreplay {

namespace {

enum Object : std::size_t { kAnonVma = 1, kAnonVmaChain, kLazyRootVma };
enum OpCounter : std::size_t {
    kAvcInserts,
    kAvcRemoves,
    kRootLockWrite,
    kRefcounts,
    kShared,
    kReused,
    kUpgrades,
    kFoliosFixed
};
enum WalkCounter : std::size_t { kTreeNodes, kAvcs, kVmaLookups, kRootLockRead };

constexpr Param kParams[] = {kKernelParam};
constexpr ObjectKind kObjects[] = {
    {"anon_vma", 104}, {"anon_vma_chain", 64}, {"lazy_root_vma", 192}};
constexpr LockClass kLocks[] = {
    {"anon_vma->root->rwsem", "rwsem", "the trees of a root anon_vma and all its descendants"}};
constexpr Counter kWalkCounters[] = {
    {"tree_nodes", CostClass::step, "nodes of the interval tree read"},
    {"avcs", CostClass::other, "anon_vma_chains found to overlap the folio"},
    {"vma_lookups", CostClass::lookup, "searches for the VMA of a page that points to a root VMA"},
    {"root_lock_read", CostClass::lock, "anon_vma_lock_read()", kLocks[0].name}};
constexpr Counter kOpCounters[] = {
    {"avc_inserts", CostClass::link, "anon_rmap_tree_insert()"},
    {"avc_removes", CostClass::link, "anon_rmap_tree_remove()"},
    {"root_lock_write", CostClass::lock, "anon_vma_lock_write()", kLocks[0].name},
    {"root_vma_refs", CostClass::refcount, "VMAs that began or ceased to share a root VMA"},
    {"tree_shared", CostClass::other, "first faults that took a neighbour's tree"},
    {"anon_vma_reused", CostClass::other, "upgrades that took up an anon_vma without VMAs"},
    {"upgrades", CostClass::other, "trees upgraded to a regular anon_vma"},
    {"folios_fixed", CostClass::other, "folios whose mapping an upgrade changed"}};
constexpr ModelInfo kInfo = {
    .name = "anon_vma_lazy",
    .doc = "ANON_VMA_LAZY of 2026: mainline's, but no anon_vma before a fork",
    .params = kParams,
    .objects = kObjects,
    .walk_counters = kWalkCounters,
    .op_counters = kOpCounters,
    .locks = kLocks};

enum class TreeKind : u8 { vma, parent, anon_vma };

struct AnonVmaTree {  // anon_vma_tree_t, and what folio->mapping becomes
    const Mm* mm;
    const Vma* root_vma;  // kind vma; null if it is only kept in memory
    i64 base;  // kind vma: virtual page minus page offset
    u64 folios;  // at home here
    u32 vmas;  // with this tree
    u32 self;
    u32 anon_vma;  // handle; kind vma: 0
    TreeKind kind;
    bool root_kept;
};

i64 vma_mapping_base(const Vma& vma) {
    return static_cast<i64>(vma.start >> kPageShift) - static_cast<i64>(vma.anon_pgoff);
}
u32 chain_head(const Vma& vma) {
    return static_cast<u32>(reinterpret_cast<std::uintptr_t>(vma.chain));
}
void set_chain_head(Vma& vma, u32 avc) {
    vma.chain = reinterpret_cast<void*>(static_cast<std::uintptr_t>(avc));
}

class AnonVmaLazy final : public RmapModel {
  public:
    explicit AnonVmaLazy(Costs& costs) : costs_(costs) {}
    const ModelInfo& info() const override { return kInfo; }

    void anon_vma_prepare(Vma& vma) override;
    void anon_vma_clone(Vma& dst, const Vma& src, CloneFor why) override;
    void anon_vma_fork(Vma& child, const Vma& parent) override;
    void unlink_anon_vmas(Vma& vma) override;
    void pre_update_vma(Vma& vma) override;
    void post_update_vma(Vma& vma) override;
    bool vma_is_fork_child(const Vma& vma) const override {
        return vma.chain && chains_[chain_head(vma)].same_vma;
    }
    Home home(const Vma& vma) const override { return home_of_tree(of(vma).self); }
    Home root_home(const Vma& vma) const override;
    void folios_homed(Home home, u64 n) override;
    void folios_unhomed(Home home, u64 n) override;
    void rmap_walk(Walk& walk) override;
    std::vector<u32> anon_vma_chain(const Vma& vma) const override;
    ObjectView view(u32 object) const override;
    void watch(RmapWatcher* watcher) override { watcher_ = watcher; }
    void validate(const Live& live) const override;

  private:
    // Pages are at home at a tree, or, from swap and not known to be exclusive, at a root anon_vma.
    static Home home_of_tree(u32 handle) { return handle << 1; }
    static Home home_of_anon_vma(u32 handle) { return handle << 1 | 1; }
    static bool at_anon_vma(Home home) { return home & 1; }
    static AnonVmaTree& of(const Vma& vma) { return *static_cast<AnonVmaTree*>(vma.anon_vma); }

    AnonVmaTree& tree_alloc(Vma& vma, TreeKind kind);
    void tree_put(AnonVmaTree& tree);
    void forget_root_vma(AnonVmaTree& tree);
    const Vma* find_mergeable(const Vma& vma) const;
    void upgrade(const Vma& vma);
    AnonVma& anon_vma_for(const AnonVmaTree& tree, const Vma& vma);
    void anon_vma_chain_assign(Vma& vma, AnonVma& anon_vma);
    void clone_chain(Vma& dst, const Vma& src);
    void unlink_chain(Vma& vma);
    void put_anon_vma(AnonVma& anon_vma);
    void walk_lazy(Walk& walk, const AnonVmaTree& tree);

    using Recount = std::unordered_map<u32, AnonVma>;
    u32 validate_vma(const Vma& vma, Recount& anon_vmas) const;
    void validate_anon_vmas(Recount& anon_vmas) const;

    Costs& costs_;
    RmapWatcher* watcher_ = nullptr;  // knows trees and anon_vmas by what home() would say
    Pool<AnonVmaTree> trees_;
    Pool<AnonVma> anon_vmas_;
    Pool<AnonVmaChain> chains_;
    u32 updating_ = 0;  // linked VMAs between pre_update_vma() and post_update_vma()
};

// ---- trees ----

AnonVmaTree& AnonVmaLazy::tree_alloc(Vma& vma, TreeKind kind) {
    const u32 handle = trees_.alloc();
    AnonVmaTree& tree = trees_[handle];
    tree.self = handle;
    tree.mm = vma.mm;
    tree.vmas = 1;
    tree.kind = kind;
    if (watcher_) watcher_->object_made(home_of_tree(handle), vma.mm);
    vma.anon_vma = &tree;
    return tree;
}

void AnonVmaLazy::tree_put(AnonVmaTree& tree) {
    if (!tree.vmas) forget_root_vma(tree);
    if (!tree.vmas && !tree.folios) trees_.free(tree.self);
}

void AnonVmaLazy::forget_root_vma(AnonVmaTree& tree) {
    tree.root_vma = nullptr;
    if (tree.root_kept) costs_.freed(kLazyRootVma);
    tree.root_kept = false;
}

// ---- the first anonymous fault ----

// vma_prepare_anon_vma_lazy()
void AnonVmaLazy::anon_vma_prepare(Vma& vma) {
    if (const Vma* near = find_mergeable(vma)) {
        costs_.count(kShared);
        vma.anon_vma = near->anon_vma;
        anon_vma_clone(vma, *near, CloneFor::merge_unfaulted);
        return;
    }
    AnonVmaTree& tree = tree_alloc(vma, TreeKind::vma);
    tree.root_vma = &vma;
    tree.base = vma_mapping_base(vma);
}

// find_mergeable_anon_vma(), mm/vma.c: the neighbour above or else below, if they differ in nothing
// that mprotect() cannot change and it has not been through forks.
const Vma* AnonVmaLazy::find_mergeable(const Vma& vma) const {
    const auto alike = [](const Vma& a, const Vma& b) {
        constexpr u64 kIgnored = VM_ACCESS_FLAGS | VM_SOFTDIRTY | VM_MAYBE_GUARD;
        return a.end == b.start && a.file == b.file && a.policy == b.policy &&
               !((a.flags ^ b.flags) & ~kIgnored) && a.pgoff + a.pages() == b.pgoff &&
               a.anon_pgoff + a.pages() == b.anon_pgoff;
    };
    const auto may_share = [this](const Vma* near) {
        return near && near->anon_vma && !vma_is_fork_child(*near);
    };
    const VmaTree& vmas = vma.mm->vmas;
    if (const Vma* next = vmas.next(&vma); may_share(next) && alike(vma, *next)) return next;
    if (const Vma* prev = vmas.prev(&vma); may_share(prev) && alike(*prev, vma)) return prev;
    return nullptr;
}

// ---- upgrade ----

// Every VMA that has the tree of this one comes to own an anon_vma.
void AnonVmaLazy::upgrade(const Vma& vma) {
    AnonVmaTree& tree = of(vma);
    costs_.count(kUpgrades);
    costs_.count(kRootLockWrite);
    AnonVma& anon_vma = anon_vma_for(tree, vma);
    const bool fresh = anon_vma.tree.empty();
    const auto own = [&](Vma& each) {
        if (fresh) {
            costs_.allocated(kAnonVmaChain);
            anon_vma_chain_assign(each, anon_vma);
        }
        ++anon_vma.num_active_vmas;
    };
    const VmaTree& vmas = tree.mm->vmas;
    if (tree.vmas == 1) {
        own(*vmas.at(vmas.index_of(&vma)));
    } else {
        for (std::size_t i = 0; i < vmas.size(); ++i)
            if (vmas.at(i)->anon_vma == &tree) own(*vmas.at(i));
    }
    if (tree.anon_vma != anon_vma.self) costs_.count(kFoliosFixed, tree.folios);
    tree.anon_vma = anon_vma.self;
    tree.kind = TreeKind::anon_vma;
    forget_root_vma(tree);
}

// One that the VMA is linked to already and nobody owns, or a new one.
AnonVma& AnonVmaLazy::anon_vma_for(const AnonVmaTree& tree, const Vma& vma) {
    for (u32 at = chain_head(vma); at; at = chains_[at].same_vma) {
        AnonVma& linked = anon_vmas_[chains_[at].anon_vma];
        if (linked.num_active_vmas || linked.num_children > 1) continue;
        costs_.count(kReused);
        return linked;
    }
    costs_.allocated(kAnonVma);
    const u32 handle = anon_vmas_.alloc();
    AnonVma& made = anon_vmas_[handle];
    made.self = made.root = made.parent = handle;
    made.refcount = 1;
    if (watcher_) watcher_->object_made(home_of_anon_vma(handle), nullptr);
    if (tree.kind == TreeKind::parent) {
        made.parent = tree.anon_vma;
        made.root = anon_vmas_[tree.anon_vma].root;
        ++anon_vmas_[made.root].refcount;
    }
    ++anon_vmas_[made.parent].num_children;  // a root is its own
    return made;
}

// ---- copies ----

void AnonVmaLazy::anon_vma_chain_assign(Vma& vma, AnonVma& anon_vma) {
    costs_.count(kAvcInserts);
    const u32 handle = chains_.alloc();
    AnonVmaChain& avc = chains_[handle];
    avc.start = vma.anon_pgoff;
    avc.last = vma.last_index();
    avc.vma = &vma;
    avc.anon_vma = anon_vma.self;
    avc.same_vma = chain_head(vma);
    set_chain_head(vma, handle);
    anon_vma.tree.insert(&avc);
    if (watcher_) watcher_->linked(home_of_anon_vma(anon_vma.self), vma);
}

void AnonVmaLazy::clone_chain(Vma& dst, const Vma& src) {
    costs_.count(kRootLockWrite);
    for (u32 at = chain_head(src); at; at = chains_[at].same_vma) {
        costs_.allocated(kAnonVmaChain);
        anon_vma_chain_assign(dst, anon_vmas_[chains_[at].anon_vma]);
    }
}

void AnonVmaLazy::anon_vma_clone(Vma& dst, const Vma& src, CloneFor) {
    AnonVmaTree& tree = of(src);
    if (tree.kind == TreeKind::vma && vma_mapping_base(dst) != tree.base) upgrade(src);
    ++tree.vmas;
    if (tree.kind == TreeKind::vma) {
        costs_.count(kRefcounts);
        return;
    }
    clone_chain(dst, src);
    if (tree.kind == TreeKind::anon_vma) ++anon_vmas_[tree.anon_vma].num_active_vmas;
}

void AnonVmaLazy::anon_vma_fork(Vma& child, const Vma& parent) {
    const AnonVmaTree& above = of(parent);
    if (above.kind != TreeKind::anon_vma) upgrade(parent);
    tree_alloc(child, TreeKind::parent).anon_vma = above.anon_vma;
    clone_chain(child, parent);
}

// ---- the end of a VMA ----

void AnonVmaLazy::unlink_anon_vmas(Vma& vma) {
    AnonVmaTree& tree = of(vma);
    if (tree.kind == TreeKind::vma) {
        costs_.count(kRefcounts);
        if (tree.root_vma == &vma && tree.vmas > 1) {
            costs_.allocated(kLazyRootVma);
            tree.root_vma = nullptr;
            tree.root_kept = true;
        }
    } else {
        if (tree.kind == TreeKind::anon_vma) --anon_vmas_[tree.anon_vma].num_active_vmas;
        unlink_chain(vma);
    }
    vma.anon_vma = nullptr;
    --tree.vmas;
    tree_put(tree);
}

// As in mainline: anon_vmas whose tree is now empty go after all links are undone.
void AnonVmaLazy::unlink_chain(Vma& vma) {
    costs_.count(kRootLockWrite);
    std::vector<AnonVma*> emptied;
    for (u32 at = chain_head(vma); at;) {
        AnonVmaChain& avc = chains_[at];
        AnonVma& anon_vma = anon_vmas_[avc.anon_vma];
        const u32 next = avc.same_vma;
        anon_vma.tree.erase(&avc);
        if (watcher_) watcher_->unlinked(home_of_anon_vma(anon_vma.self), vma);
        if (anon_vma.tree.empty()) {
            --anon_vmas_[anon_vma.parent].num_children;
            emptied.push_back(&anon_vma);
        }
        chains_.free(at);
        costs_.freed(kAnonVmaChain);
        costs_.count(kAvcRemoves);
        at = next;
    }
    set_chain_head(vma, 0);
    for (AnonVma* anon_vma : emptied) put_anon_vma(*anon_vma);
}

void AnonVmaLazy::put_anon_vma(AnonVma& anon_vma) {
    if (--anon_vma.refcount) return;
    AnonVma& root = anon_vmas_[anon_vma.root];
    costs_.freed(kAnonVma);
    anon_vmas_.free(anon_vma.self);
    if (&root == &anon_vma || --root.refcount) return;
    costs_.freed(kAnonVma);
    anon_vmas_.free(root.self);
}

// ---- changes of a VMA's range ----

void AnonVmaLazy::pre_update_vma(Vma& vma) {
    if (!vma.chain) return;
    if (updating_++ == 0) costs_.count(kRootLockWrite);
    for (u32 at = chain_head(vma); at; at = chains_[at].same_vma) {
        anon_vmas_[chains_[at].anon_vma].tree.erase(&chains_[at]);
        if (watcher_) watcher_->unlinked(home_of_anon_vma(chains_[at].anon_vma), vma);
        costs_.count(kAvcRemoves);
    }
}

void AnonVmaLazy::post_update_vma(Vma& vma) {
    if (!vma.chain) {
        AnonVmaTree& tree = of(vma);
        const i64 base = vma_mapping_base(vma);
        if (base == tree.base) return;
        if (tree.vmas == 1 && tree.root_vma == &vma)
            tree.base = base;  // relocate_vma_down(): pages point to the VMA that moves
        else
            upgrade(vma);
        return;
    }
    --updating_;
    for (u32 at = chain_head(vma); at; at = chains_[at].same_vma) {
        AnonVmaChain& avc = chains_[at];
        avc.start = vma.anon_pgoff;
        avc.last = vma.last_index();
        anon_vmas_[avc.anon_vma].tree.insert(&avc);
        if (watcher_) watcher_->linked(home_of_anon_vma(avc.anon_vma), vma);
        costs_.count(kAvcInserts);
    }
}

// ---- folios ----

Home AnonVmaLazy::root_home(const Vma& vma) const {
    const AnonVmaTree& tree = of(vma);
    return tree.kind == TreeKind::vma ? home_of_tree(tree.self)
                                      : home_of_anon_vma(anon_vmas_[tree.anon_vma].root);
}

void AnonVmaLazy::folios_homed(Home home, u64 n) {
    if (!at_anon_vma(home)) trees_[home >> 1].folios += n;
}

void AnonVmaLazy::folios_unhomed(Home home, u64 n) {
    if (at_anon_vma(home) || !n) return;
    AnonVmaTree& tree = trees_[home >> 1];
    tree.folios -= n;
    tree_put(tree);
}

// ---- walks ----

// anon_rmap_for_each_vma()
void AnonVmaLazy::rmap_walk(Walk& walk) {
    u32 handle = walk.folio.home >> 1;
    if (!at_anon_vma(walk.folio.home)) {
        const AnonVmaTree& tree = trees_[handle];
        if (tree.kind == TreeKind::vma) return walk_lazy(walk, tree);
        handle = tree.anon_vma;
    }
    const u64 first = walk.folio.index, last = first + walk.folio.nr - 1;
    const auto& tree = anon_vmas_[handle].tree;
    u64& nodes = walk.counters[kTreeNodes];
    ++walk.counters[kRootLockRead];
    for (const AnonVmaChain* avc = tree.first(first, last, nodes); avc;
         avc = tree.next(avc, first, last, nodes)) {
        ++walk.counters[kAvcs];
        if (!walk.visit(*avc->vma)) return;
    }
}

// One mm has the page, at the place that follows from the root VMA: there are the VMAs to visit.
void AnonVmaLazy::walk_lazy(Walk& walk, const AnonVmaTree& tree) {
    ++walk.counters[kVmaLookups];
    const VmaTree& vmas = tree.mm->vmas;
    const i64 first = std::max<i64>(static_cast<i64>(walk.folio.index) + tree.base, 0);
    const i64 end = static_cast<i64>(walk.folio.index) + walk.folio.nr + tree.base;
    for (std::size_t i = vmas.lower(static_cast<u64>(first) << kPageShift); i < vmas.size(); ++i) {
        const Vma& vma = *vmas.at(i);
        if (static_cast<i64>(vma.start >> kPageShift) >= end) return;
        if (vma.anon_vma == &tree && !walk.visit(vma)) return;
    }
}

// ---- verification ----

ObjectView AnonVmaLazy::view(u32 object) const {
    using Is = ObjectField::Is;
    if (at_anon_vma(object)) {
        const AnonVma& seen = anon_vmas_[object >> 1];
        ObjectView view{"anon_vma", {{"root", home_of_anon_vma(seen.root), Is::object}}};
        if (seen.parent != seen.self)
            view.fields.push_back({"parent", home_of_anon_vma(seen.parent), Is::object});
        view.fields.push_back({"refcount", seen.refcount});
        view.fields.push_back({"num_children", seen.num_children});
        view.fields.push_back({"num_active_vmas", seen.num_active_vmas});
        return view;
    }
    const AnonVmaTree& tree = trees_[object >> 1];
    ObjectView view{"tree of a root VMA", {{"vmas", tree.vmas}, {"folios", tree.folios}}};
    if (tree.kind == TreeKind::vma) {
        view.fields.push_back({"mm", tree.mm->serial, Is::mm});
        return view;
    }
    view.kind = tree.kind == TreeKind::parent ? "tree of a child" : "tree of an anon_vma";
    view.fields.push_back({"anon_vma", home_of_anon_vma(tree.anon_vma), Is::object});
    return view;
}

std::vector<u32> AnonVmaLazy::anon_vma_chain(const Vma& vma) const {
    std::vector<u32> handles;
    for (u32 at = chain_head(vma); at; at = chains_[at].same_vma)
        handles.push_back(home_of_anon_vma(chains_[at].anon_vma));
    return handles;
}

// What a VMA says of itself, and its part in what anon_vmas say. Returns how many links it has.
u32 AnonVmaLazy::validate_vma(const Vma& vma, Recount& anon_vmas) const {
    const auto broken = [&](const char* what) { throw BrokenInvariant(describe(vma) + what); };
    const AnonVmaTree& tree = of(vma);
    if (tree.mm != vma.mm) broken(" has a tree of another mm");
    const std::vector<u32> list = anon_vma_chain(vma);
    const std::unordered_set<u32> linked(list.begin(), list.end());
    if (linked.size() != list.size()) broken(" links an anon_vma more than once");
    if (tree.kind == TreeKind::vma) {
        if (!list.empty()) broken(" was never forked and has links");
        if (vma_mapping_base(vma) != tree.base) broken(" is not where its root VMA says");
        return 0;
    }
    if (!linked.contains(home_of_anon_vma(tree.anon_vma))) broken(" does not link its anon_vma");
    for (u32 at = chain_head(vma); at; at = chains_[at].same_vma) {
        const AnonVmaChain& avc = chains_[at];
        if (avc.vma != &vma) broken(" lists another VMA's link");
        if (avc.start != vma.anon_pgoff || avc.last != vma.last_index())
            broken(" changed its range without its links");
        if (!linked.contains(home_of_anon_vma(anon_vmas_[avc.anon_vma].parent)))
            broken(" links an anon_vma, not its parent");
        ++anon_vmas[avc.anon_vma].self;  // here: links
    }
    if (tree.kind == TreeKind::anon_vma) ++anon_vmas[tree.anon_vma].num_active_vmas;
    return static_cast<u32>(list.size());
}

void AnonVmaLazy::validate_anon_vmas(Recount& anon_vmas) const {
    for (auto& [handle, recount] : anon_vmas) {
        const AnonVma& anon_vma = anon_vmas_[handle];
        ++anon_vmas[anon_vma.parent].num_children;
        ++anon_vmas[anon_vma.root].refcount;  // a root counts itself
        if (anon_vma.root != handle) ++recount.refcount;
    }
    for (const auto& [handle, recount] : anon_vmas) {
        const AnonVma& anon_vma = anon_vmas_[handle];
        if (anon_vma.tree.validate() != recount.self ||
            anon_vma.num_active_vmas != recount.num_active_vmas ||
            anon_vma.num_children != recount.num_children || anon_vma.refcount != recount.refcount)
            throw BrokenInvariant(
                "anon_vma " + std::to_string(handle) +
                ": links, num_active_vmas, num_children or refcount are not as recounted");
    }
}

// As in mainline for what is linked. A tree has the VMAs and folios that it says, VMAs of one tree
// have the same links, and what was never forked lies where its root VMA says.
void AnonVmaLazy::validate(const Live& live) const {
    const auto broken = [](const std::string& what) { throw BrokenInvariant(what); };
    Recount anon_vmas;
    struct Tree {
        u32 vmas = 0;
        std::vector<u32> links;
    };
    std::unordered_map<u32, Tree> trees;
    std::size_t links = 0, kept = 0;
    for (const Mm* mm : live.mms)
        for (std::size_t i = 0; i < mm->vmas.size(); ++i) {
            const Vma& vma = *mm->vmas.at(i);
            if (!vma.anon_vma) continue;
            links += validate_vma(vma, anon_vmas);
            Tree& tree = trees[of(vma).self];
            std::vector<u32> list = anon_vma_chain(vma);
            std::sort(list.begin(), list.end());
            if (tree.vmas++ && tree.links != list)
                broken(describe(vma) + " does not link what others of its tree do");
            tree.links = std::move(list);
        }
    for (const auto& [home, folios] : live.homed) {
        const u32 handle = home >> 1;
        if (!folios) continue;
        if (at_anon_vma(home) ? !anon_vmas.contains(handle) : trees_[handle].folios != folios)
            broken(std::to_string(folios) + " folios are homed at " + std::to_string(home) +
                   ", which does not live or counts others");
        if (!at_anon_vma(home)) trees[handle];
    }
    for (const auto& [handle, recount] : trees) {
        const AnonVmaTree& tree = trees_[handle];
        if (tree.self != handle || tree.vmas != recount.vmas || (tree.root_kept && !tree.vmas))
            broken("anon_vma_tree " + std::to_string(handle) + " counts " +
                   std::to_string(tree.vmas) + " VMAs, " + std::to_string(recount.vmas) +
                   " have it");
        kept += tree.root_kept;
    }
    if (links != chains_.live() || anon_vmas.size() != anon_vmas_.live() ||
        trees.size() != trees_.live())
        broken("more links, anon_vmas or trees live than VMAs and folios have");
    if (costs_.live[kAnonVma] != anon_vmas.size() || costs_.live[kAnonVmaChain] != links ||
        costs_.live[kLazyRootVma] != kept)
        broken("the ledger miscounts anon_vmas, links or root VMAs");
    validate_anon_vmas(anon_vmas);
}

}  // namespace

extern const ModelEntry anon_vma_lazy_entry;
const ModelEntry anon_vma_lazy_entry = {
    &kInfo, [](const ModelParams& params, Costs& costs) -> std::unique_ptr<RmapModel> {
        check_params(kInfo, params);
        return std::make_unique<AnonVmaLazy>(costs);
    }};

}  // namespace rmapreplay
