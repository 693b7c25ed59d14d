// SPDX-License-Identifier: GPL-2.0-only
// mm/rmap.c's rules for anon_vma and anon_vma_chain, function by function. Where nothing else is
// said they are those of v7.3, and the same since v6.12.
//
// Locks: only the root's rwsem is ever taken, once per section. move_ptes() (mm/mremap.c) may take
// it again for each page table it moves; that is not counted, since it depends on no model state.
#include "rmap_models/native/anon_vma.hpp"

#include "rmap_models/native/params.hpp"

namespace rmapreplay {

namespace {

enum Object : std::size_t { kAnonVma = 1, kAnonVmaChain = 2 };
enum Site : std::size_t {
    kAnonVmaPrepare = kMachineSites,
    kAvcPrepare,
    kAvcClone,
    kAnonVmaFork,
    kAvcFork
};
enum OpCounter : std::size_t { kAvcInserts, kAvcRemoves, kRootLockWrite, kShared, kReused };
enum WalkCounter : std::size_t { kTreeNodes, kAvcs, kRootLockRead };

constexpr Param kParams[] = {kKernelParam};
constexpr ObjectKind kObjects[] = {{"anon_vma", 104}, {"anon_vma_chain", 64}};
constexpr LockClass kLocks[] = {
    {"anon_vma->root->rwsem", "rwsem", "the trees of a root anon_vma and all its descendants"}};
constexpr Counter kWalkCounters[] = {
    {"tree_nodes", CostClass::step, "nodes of the interval tree read"},
    {"avcs", CostClass::other, "anon_vma_chains found to overlap the folio"},
    {"root_lock_read", CostClass::lock, "anon_vma_lock_read()", kLocks[0].name}};
constexpr Counter kOpCounters[] = {
    {"avc_inserts", CostClass::link, "anon_rmap_tree_insert()"},
    {"avc_removes", CostClass::link, "anon_rmap_tree_remove()"},
    {"root_lock_write", CostClass::lock, "anon_vma_lock_write()", kLocks[0].name},
    {"anon_vma_shared", CostClass::other, "first faults that took a neighbour's anon_vma"},
    {"anon_vma_reused", CostClass::other, "forks that took up an anon_vma without VMAs"}};
constexpr AllocSite kSites[] = {{kAnonVma, "__anon_vma_prepare"},
                                {kAnonVmaChain, "__anon_vma_prepare"},
                                {kAnonVmaChain, "anon_vma_clone"},
                                {kAnonVma, "anon_vma_fork"},
                                {kAnonVmaChain, "anon_vma_fork"}};
constexpr ModelInfo kInfo = {
    "anon_vma",    "mainline Linux: an interval tree of anon_vma_chains per anon_vma",
    kParams,       kObjects,
    kWalkCounters, kOpCounters,
    kSites,        kLocks};

u32 chain_head(const Vma& vma) {
    return static_cast<u32>(reinterpret_cast<std::uintptr_t>(vma.chain));
}
void set_chain_head(Vma& vma, u32 avc) {
    vma.chain = reinterpret_cast<void*>(static_cast<std::uintptr_t>(avc));
}

}  // namespace

AnonVmaModel::AnonVmaModel(Kernel kernel, Costs& costs) : kernel_(kernel), costs_(costs) {}

const ModelInfo& AnonVmaModel::info() const { return kInfo; }

// ---- objects ----

AnonVma& AnonVmaModel::anon_vma_alloc(std::size_t site) {
    costs_.allocated_at(site, kAnonVma);
    const u32 handle = anon_vmas_.alloc();
    AnonVma& anon_vma = anon_vmas_[handle];
    anon_vma.self = anon_vma.root = anon_vma.parent = handle;
    anon_vma.refcount = 1;
    if (watcher_) watcher_->object_made(handle, nullptr);
    return anon_vma;
}

void AnonVmaModel::anon_vma_free(AnonVma& anon_vma) {
    costs_.freed(kAnonVma);
    anon_vmas_.free(anon_vma.self);
}

// __put_anon_vma(): the last descendant takes a root without VMAs along.
void AnonVmaModel::put_anon_vma(AnonVma& anon_vma) {
    if (--anon_vma.refcount) return;
    AnonVma& root = anon_vmas_[anon_vma.root];
    anon_vma_free(anon_vma);
    if (&root != &anon_vma && --root.refcount == 0) anon_vma_free(root);
}

// anon_vma_chain_assign() and anon_rmap_tree_insert(): new links go to the head of the VMA's list.
AnonVmaChain& AnonVmaModel::anon_vma_chain_assign(Vma& vma, AnonVma& anon_vma) {
    const u32 handle = chains_.alloc();
    AnonVmaChain& avc = chains_[handle];
    avc.start = vma.anon_pgoff;
    avc.last = vma.last_index();
    avc.vma = &vma;
    avc.anon_vma = anon_vma.self;
    avc.same_vma = chain_head(vma);
    set_chain_head(vma, handle);
    anon_vma.tree.insert(&avc);
    if (watcher_) watcher_->linked(anon_vma.self, vma);
    return avc;
}

void AnonVmaModel::anon_vma_chain_free(u32 avc) { chains_.free(avc); }

// ---- the first anonymous fault ----

// __anon_vma_prepare()
void AnonVmaModel::anon_vma_prepare(Vma& vma) {
    costs_.allocated_at(kAvcPrepare, kAnonVmaChain);
    AnonVma* anon_vma = find_mergeable_anon_vma(vma);
    if (anon_vma) {
        costs_.count(kShared);
    } else {
        anon_vma = &anon_vma_alloc(kAnonVmaPrepare);
        anon_vma->num_children = 1;
    }
    costs_.count(kRootLockWrite);
    costs_.count(kAvcInserts);
    vma.anon_vma = anon_vma;
    anon_vma_chain_assign(vma, *anon_vma);
    ++anon_vma->num_active_vmas;
}

// find_mergeable_anon_vma(), mm/vma.c: the neighbour above first.
AnonVma* AnonVmaModel::find_mergeable_anon_vma(const Vma& vma) {
    const VmaTree& vmas = vma.mm->vmas;
    const std::size_t i = vmas.index_of(&vma);
    if (i + 1 < vmas.size()) {
        const Vma& next = *vmas.at(i + 1);
        if (AnonVma* anon_vma = reusable_anon_vma(next, vma, next)) return anon_vma;
    }
    if (i == 0) return nullptr;
    const Vma& prev = *vmas.at(i - 1);
    return reusable_anon_vma(prev, prev, vma);
}

// reusable_anon_vma() and anon_vma_compatible(), mm/vma.c: `old`'s, if `a` lies just below `b`,
// they differ in nothing that mprotect() cannot change, and `old` has never been through a fork.
AnonVma* AnonVmaModel::reusable_anon_vma(const Vma& old, const Vma& a, const Vma& b) {
    if (!old.anon_vma || a.end != b.start || a.file != b.file || a.policy != b.policy)
        return nullptr;
    // VMA_IGNORE_MERGE_FLAGS holds VM_MAYBE_GUARD where the kernel has guard markers in flags
    // (v7.x).
    u64 ignored = VM_ACCESS_FLAGS | VM_SOFTDIRTY;
    if (kernel_ >= Kernel::v7_3) ignored |= VM_MAYBE_GUARD;
    if ((a.flags ^ b.flags) & ~ignored) return nullptr;
    if (a.pgoff + a.pages() != b.pgoff) return nullptr;
    // Since v7.3 anonymous offsets are apart from the file's.
    if (a.anon_pgoff + a.pages() != b.anon_pgoff) return nullptr;
    return vma_is_fork_child(old) ? nullptr : &own(old);
}

// vma_is_fork_child(), mm/vma.c: more than one AVC.
bool AnonVmaModel::vma_is_fork_child(const Vma& vma) const {
    const u32 head = chain_head(vma);
    return head && chains_[head].same_vma;
}

// ---- copies ----

// Copies every link of src. v7.3 goes through src's list from its head and so turns the order
// around; v6.18 goes from the tail and keeps it. The trees are entered in the order of the walk.
void AnonVmaModel::clone_chain(Vma& dst, const Vma& src, bool forking) {
    if (kernel_ >= Kernel::v7_3) {
        for (u32 at = chain_head(src); at;) {
            const AnonVmaChain& from = chains_[at];
            at = from.same_vma;
            clone_one(dst, from, forking);
        }
        return;
    }
    scratch_.clear();
    for (u32 at = chain_head(src); at; at = chains_[at].same_vma) scratch_.push_back(at);
    for (std::size_t i = scratch_.size(); i-- > 0;) clone_one(dst, chains_[scratch_[i]], forking);
}

void AnonVmaModel::clone_one(Vma& dst, const AnonVmaChain& from, bool forking) {
    AnonVma& anon_vma = anon_vmas_[from.anon_vma];
    costs_.allocated_at(kAvcClone, kAnonVmaChain);
    costs_.count(kAvcInserts);
    anon_vma_chain_assign(dst, anon_vma);
    if (forking) maybe_reuse_anon_vma(dst, anon_vma);
}

// The first one met that no VMA owns any more and that has at most one child. A root that lives has
// itself and a child, so it is never taken. (v6.18: inside anon_vma_clone().)
void AnonVmaModel::maybe_reuse_anon_vma(Vma& dst, AnonVma& anon_vma) {
    if (dst.anon_vma || anon_vma.num_active_vmas > 0 || anon_vma.num_children > 1) return;
    dst.anon_vma = &anon_vma;
    ++anon_vma.num_active_vmas;
    costs_.count(kReused);
}

// anon_vma_clone(), for all but fork.
void AnonVmaModel::anon_vma_clone(Vma& dst, const Vma& src, CloneFor) {
    costs_.count(kRootLockWrite);
    clone_chain(dst, src, false);
    ++own(dst).num_active_vmas;
}

void AnonVmaModel::anon_vma_fork(Vma& child, const Vma& parent) {
    // v7.3 allocates the child's own anon_vma and its link first, and frees both if another can be
    // reused; v6.18 allocates them only when needed.
    const bool ahead = kernel_ >= Kernel::v7_3;
    AnonVma* anon_vma = nullptr;
    if (ahead) {
        anon_vma = &anon_vma_alloc(kAnonVmaFork);
        costs_.allocated_at(kAvcFork, kAnonVmaChain);
    }
    costs_.count(kRootLockWrite);
    clone_chain(child, parent, true);
    if (child.anon_vma) {
        if (ahead) {
            anon_vma_free(*anon_vma);
            costs_.freed(kAnonVmaChain);
        }
        return;
    }
    if (!ahead) {
        anon_vma = &anon_vma_alloc(kAnonVmaFork);
        costs_.allocated_at(kAvcFork, kAnonVmaChain);
    }
    AnonVma& above = own(parent);
    anon_vma->num_active_vmas = 1;
    anon_vma->root = above.root;
    anon_vma->parent = above.self;
    ++anon_vmas_[above.root].refcount;
    child.anon_vma = anon_vma;
    costs_.count(kRootLockWrite);
    costs_.count(kAvcInserts);
    anon_vma_chain_assign(child, *anon_vma);
    ++above.num_children;
}

// ---- the end of a VMA ----

// unlink_anon_vmas(): in list order; an anon_vma whose tree is now empty goes, but only after all
// links are undone, since its child may come later in the list.
void AnonVmaModel::unlink_anon_vmas(Vma& vma) {
    costs_.count(kRootLockWrite);
    u64 links = 0;
    u32 emptied = 0;  // AVCs of the anon_vmas to free, in list order
    u32* emptied_end = &emptied;
    for (u32 at = chain_head(vma); at;) {
        AnonVmaChain& avc = chains_[at];
        AnonVma& anon_vma = anon_vmas_[avc.anon_vma];
        const u32 next = avc.same_vma;
        anon_vma.tree.erase(&avc);
        if (watcher_) watcher_->unlinked(anon_vma.self, vma);
        ++links;
        if (anon_vma.tree.empty()) {
            --anon_vmas_[anon_vma.parent].num_children;  // a root: its own
            *emptied_end = at;
            emptied_end = &avc.same_vma;
        } else {
            anon_vma_chain_free(at);
        }
        at = next;
    }
    *emptied_end = 0;
    --own(vma).num_active_vmas;
    vma.anon_vma = nullptr;
    set_chain_head(vma, 0);
    while (emptied) {
        const u32 at = emptied;
        emptied = chains_[at].same_vma;
        put_anon_vma(anon_vmas_[chains_[at].anon_vma]);
        anon_vma_chain_free(at);
    }
    costs_.freed(kAnonVmaChain, links);
    costs_.count(kAvcRemoves, links);
}

// ---- changes of a VMA's range ----

// anon_rmap_tree_pre_update_vma(), mm/vma.c. vma_prepare() takes the lock once for all that change
// together, vma_complete() gives it back.
void AnonVmaModel::pre_update_vma(Vma& vma) {
    if (updating_++ == 0) costs_.count(kRootLockWrite);
    for (u32 at = chain_head(vma); at; at = chains_[at].same_vma) {
        AnonVmaChain& avc = chains_[at];
        anon_vmas_[avc.anon_vma].tree.erase(&avc);
        if (watcher_) watcher_->unlinked(avc.anon_vma, vma);
        costs_.count(kAvcRemoves);
    }
}

// anon_rmap_tree_post_update_vma(), mm/vma.c: back in, now behind its equals.
void AnonVmaModel::post_update_vma(Vma& vma) {
    --updating_;
    for (u32 at = chain_head(vma); at; at = chains_[at].same_vma) {
        AnonVmaChain& avc = chains_[at];
        avc.start = vma.anon_pgoff;
        avc.last = vma.last_index();
        anon_vmas_[avc.anon_vma].tree.insert(&avc);
        if (watcher_) watcher_->linked(avc.anon_vma, vma);
        costs_.count(kAvcInserts);
    }
}

// ---- folios ----

Home AnonVmaModel::home(const Vma& vma) const { return anon_vma(vma).self; }

// The oldest one possible: every relative's VMA has a link to it.
Home AnonVmaModel::root_home(const Vma& vma) const { return anon_vma(vma).root; }

ObjectView AnonVmaModel::view(u32 object) const {
    const AnonVma& seen = anon_vmas_[object];
    ObjectView view{"anon_vma", {{"root", seen.root, ObjectField::Is::object}}};
    if (seen.parent != object)
        view.fields.push_back({"parent", seen.parent, ObjectField::Is::object});
    view.fields.push_back({"refcount", seen.refcount});
    view.fields.push_back({"num_children", seen.num_children});
    view.fields.push_back({"num_active_vmas", seen.num_active_vmas});
    return view;
}

// rmap_walk_anon()
void AnonVmaModel::rmap_walk(Walk& walk) {
    const u64 first = walk.folio.index, last = first + walk.folio.nr - 1;
    const auto& tree = anon_vmas_[walk.folio.home].tree;
    u64& nodes = walk.counters[kTreeNodes];
    ++walk.counters[kRootLockRead];
    for (const AnonVmaChain* avc = tree.first(first, last, nodes); avc;
         avc = tree.next(avc, first, last, nodes)) {
        ++walk.counters[kAvcs];
        if (!walk.visit(*avc->vma)) return;
    }
}

extern const ModelEntry anon_vma_entry;
const ModelEntry anon_vma_entry = {
    &kInfo, [](const ModelParams& params, Costs& costs) -> std::unique_ptr<RmapModel> {
        return std::make_unique<AnonVmaModel>(check_params(kInfo, params), costs);
    }};

}  // namespace rmapreplay
