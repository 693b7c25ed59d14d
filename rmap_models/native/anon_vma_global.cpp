// SPDX-License-Identifier: GPL-2.0-only
// The reverse map of Linux 2.6.7 to 2.6.33 (mm/rmap.c of that time, by Andrea Arcangeli): one
// anon_vma for a VMA and all that is ever split, copied or forked from it, with a list of these
// VMAs. A walk reads the list from its head, and visits those VMAs whose range the page's index
// lies in (vma_address()). So a page of one process is looked for in every relative: with n
// children a walk takes O(n) steps, which is what anon_vma_chains were made against in 2.6.34.
//
// The lists need no object: vm_area_struct has the links in it (anon_vma_node). Nor do they know
// ranges, so a VMA that changes its own is not moved.
//
// What is not as it was then: which VMAs may be merged is decided by the machine's rules, those of
// the kernel asked for; from here they only need the same anon_vma, or none on one side.
#include <string>
#include <unordered_map>

#include "rmap_models/native/invariant.hpp"
#include "rmap_models/native/params.hpp"
#include "rmap_models/native/pool.hpp"

namespace rmapreplay {

namespace {

enum Object : std::size_t { kAnonVma = 1 };
enum Site : std::size_t { kAnonVmaPrepare = kMachineSites };
enum OpCounter : std::size_t { kListAdds, kListDels, kAnonVmaLock, kShared };
enum WalkCounter : std::size_t { kVmas, kAnonVmaLockWalk };

constexpr Param kParams[] = {kKernelParam};
constexpr ObjectKind kObjects[] = {{"anon_vma", 24}};  // a spinlock, padded, and a list_head
constexpr LockClass kLocks[] = {{"anon_vma->lock", "spinlock", "all VMAs forked from one"}};
constexpr Counter kWalkCounters[] = {
    {"vmas", CostClass::step, "VMAs of the list read, whatever their range"},
    {"anon_vma_lock", CostClass::lock, "page_lock_anon_vma()", kLocks[0].name}};
constexpr Counter kOpCounters[] = {
    {"list_adds", CostClass::link, "VMAs put on an anon_vma's list"},
    {"list_dels", CostClass::link, "VMAs taken off it"},
    {"anon_vma_lock", CostClass::lock, "to change the list, or the range of a VMA on it",
     kLocks[0].name},
    {"anon_vma_shared", CostClass::other, "first faults that took a neighbour's anon_vma"}};
constexpr AllocSite kSites[] = {{kAnonVma, "anon_vma_prepare"}};
constexpr ModelInfo kInfo = {.name = "anon_vma_global",
                             .doc = "Linux 2.6.7 to 2.6.33: one anon_vma for all forked from a VMA",
                             .params = kParams,
                             .objects = kObjects,
                             .walk_counters = kWalkCounters,
                             .op_counters = kOpCounters,
                             .sites = kSites,
                             .locks = kLocks};

struct ListedVma {  // vma->anon_vma_node
    Vma* vma;
    u32 next, prev;  // handles, 0 at the ends
};

struct AnonVmaList {  // struct anon_vma
    u32 self;
    u32 first, last;  // handles
};

class AnonVmaGlobal final : public RmapModel {
  public:
    explicit AnonVmaGlobal(Costs& costs) : costs_(costs) {}
    const ModelInfo& info() const override { return kInfo; }

    void anon_vma_prepare(Vma& vma) override;
    void anon_vma_clone(Vma& dst, const Vma& src, CloneFor why) override;
    void anon_vma_fork(Vma& child, const Vma& parent) override;
    void unlink_anon_vmas(Vma& vma) override;
    void pre_update_vma(Vma&) override;
    void post_update_vma(Vma& vma) override {
        --updating_;
        if (watcher_) watcher_->linked(of(vma).self, vma);
    }
    bool vma_is_fork_child(const Vma&) const override { return false; }
    // A page from swap too: all who may have it are on the same list.
    Home home(const Vma& vma) const override { return of(vma).self; }
    void rmap_walk(Walk& walk) override;
    std::vector<u32> anon_vma_chain(const Vma& vma) const override;
    ObjectView view(u32 object) const override;
    void watch(RmapWatcher* watcher) override { watcher_ = watcher; }
    void validate(const Live& live) const override;

  private:
    static AnonVmaList& of(const Vma& vma) { return *static_cast<AnonVmaList*>(vma.anon_vma); }
    static u32 node_of(const Vma& vma) {
        return static_cast<u32>(reinterpret_cast<std::uintptr_t>(vma.chain));
    }
    static AnonVmaList* find_mergeable_anon_vma(const Vma& vma);
    void list_add_tail(Vma& vma);

    Costs& costs_;
    RmapWatcher* watcher_ = nullptr;
    Pool<AnonVmaList> anon_vmas_;
    Pool<ListedVma> nodes_;
    u32 updating_ = 0;  // VMAs between pre_update_vma() and post_update_vma()
};

// __anon_vma_link()
void AnonVmaGlobal::list_add_tail(Vma& vma) {
    costs_.count(kListAdds);
    AnonVmaList& anon_vma = of(vma);
    const u32 handle = nodes_.alloc();
    nodes_[handle] = {&vma, 0, anon_vma.last};
    (anon_vma.last ? nodes_[anon_vma.last].next : anon_vma.first) = handle;
    anon_vma.last = handle;
    vma.chain = reinterpret_cast<void*>(static_cast<std::uintptr_t>(handle));
    if (watcher_) watcher_->linked(anon_vma.self, vma);
}

void AnonVmaGlobal::anon_vma_prepare(Vma& vma) {
    AnonVmaList* anon_vma = find_mergeable_anon_vma(vma);
    if (anon_vma) {
        costs_.count(kShared);
    } else {
        costs_.allocated_at(kAnonVmaPrepare, kAnonVma);
        const u32 handle = anon_vmas_.alloc();
        anon_vma = &anon_vmas_[handle];
        anon_vma->self = handle;
        if (watcher_) watcher_->object_made(handle, nullptr);
    }
    costs_.count(kAnonVmaLock);  // a new one's too, since v2.6.28
    vma.anon_vma = anon_vma;
    list_add_tail(vma);
}

// find_mergeable_anon_vma(), mm/mmap.c: of the VMA above or else below, if the two differ in
// nothing that mprotect() cannot change. That either was forked does not matter.
AnonVmaList* AnonVmaGlobal::find_mergeable_anon_vma(const Vma& vma) {
    const auto alike = [](const Vma& a, const Vma& b) {
        return a.end == b.start && a.file == b.file && a.policy == b.policy &&
               !((a.flags ^ b.flags) & ~VM_ACCESS_FLAGS) && a.pgoff + a.pages() == b.pgoff &&
               a.anon_pgoff + a.pages() == b.anon_pgoff;
    };
    const VmaTree& vmas = vma.mm->vmas;
    if (const Vma* next = vmas.next(&vma); next && next->anon_vma && alike(vma, *next))
        return &of(*next);
    if (const Vma* prev = vmas.prev(&vma); prev && prev->anon_vma && alike(*prev, vma))
        return &of(*prev);
    return nullptr;
}

// The new half of a split, and a VMA that takes over a faulted neighbour's, are listed while
// vma_adjust() holds the lock to change the ranges; copy_vma() takes it for itself.
void AnonVmaGlobal::anon_vma_clone(Vma& dst, const Vma&, CloneFor why) {
    if (why == CloneFor::remap) costs_.count(kAnonVmaLock);
    list_add_tail(dst);
}

// dup_mmap(): anon_vma_link()
void AnonVmaGlobal::anon_vma_fork(Vma& child, const Vma& parent) {
    costs_.count(kAnonVmaLock);
    child.anon_vma = parent.anon_vma;
    list_add_tail(child);
}

// anon_vma_unlink(), or __anon_vma_merge() where vma_adjust() has merged the VMA away under its
// lock.
void AnonVmaGlobal::unlink_anon_vmas(Vma& vma) {
    const bool merged_away = vma.mm->vmas.lookup(vma.start) != &vma;
    if (!merged_away) costs_.count(kAnonVmaLock);
    costs_.count(kListDels);
    AnonVmaList& anon_vma = of(vma);
    const u32 handle = node_of(vma);
    const ListedVma& node = nodes_[handle];
    (node.prev ? nodes_[node.prev].next : anon_vma.first) = node.next;
    (node.next ? nodes_[node.next].prev : anon_vma.last) = node.prev;
    nodes_.free(handle);
    if (watcher_) watcher_->unlinked(anon_vma.self, vma);
    vma.anon_vma = nullptr;
    vma.chain = nullptr;
    if (anon_vma.first) return;
    costs_.freed(kAnonVma);
    anon_vmas_.free(anon_vma.self);
}

// vma_adjust(): one lock for the two VMAs that change together.
void AnonVmaGlobal::pre_update_vma(Vma&) {
    if (updating_++ == 0) costs_.count(kAnonVmaLock);
}

// page_referenced_anon(), try_to_unmap_anon()
void AnonVmaGlobal::rmap_walk(Walk& walk) {
    ++walk.counters[kAnonVmaLockWalk];
    const u64 first = walk.folio.index, last = first + walk.folio.nr - 1;
    for (u32 at = anon_vmas_[walk.folio.home].first; at; at = nodes_[at].next) {
        ++walk.counters[kVmas];
        const Vma& vma = *nodes_[at].vma;
        if (vma.anon_pgoff > last || vma.last_index() < first) continue;
        if (!walk.visit(vma)) return;
    }
}

ObjectView AnonVmaGlobal::view(u32 object) const {
    u64 vmas = 0;
    for (u32 at = anon_vmas_[object].first; at; at = nodes_[at].next) ++vmas;
    return {"anon_vma", {{"vmas", vmas}}};
}

std::vector<u32> AnonVmaGlobal::anon_vma_chain(const Vma& vma) const {
    return vma.anon_vma ? std::vector{of(vma).self} : std::vector<u32>{};
}

// Each faulted VMA is on the list of its anon_vma, once; an anon_vma lives as long as its list is
// not empty; pages are at home at living ones.
void AnonVmaGlobal::validate(const Live& live) const {
    const auto broken = [](const std::string& what) { throw BrokenInvariant(what); };
    std::unordered_map<u32, std::size_t> vmas;  // by anon_vma
    std::size_t faulted = 0;
    for (const Mm* mm : live.mms)
        for (std::size_t i = 0; i < mm->vmas.size(); ++i) {
            const Vma& vma = *mm->vmas.at(i);
            if (!vma.anon_vma != !vma.chain)
                broken(describe(vma) + " has one of anon_vma and anon_vma_node only");
            if (!vma.anon_vma) continue;
            if (nodes_[node_of(vma)].vma != &vma) broken(describe(vma) + " has another's node");
            ++vmas[of(vma).self];
            ++faulted;
        }
    if (faulted != nodes_.live())
        broken(std::to_string(nodes_.live()) + " VMAs are listed, " + std::to_string(faulted) +
               " are faulted");
    if (vmas.size() != anon_vmas_.live() || vmas.size() != costs_.live[kAnonVma])
        broken(std::to_string(anon_vmas_.live()) + " anon_vmas live, the ledger has " +
               std::to_string(costs_.live[kAnonVma]) + ", VMAs have " +
               std::to_string(vmas.size()));
    for (const auto& [handle, expected] : vmas) {
        const std::string name = "anon_vma " + std::to_string(handle);
        std::size_t listed = 0;
        u32 before = 0;
        for (u32 at = anon_vmas_[handle].first; at; before = at, at = nodes_[at].next) {
            const ListedVma& node = nodes_[at];
            if (node.prev != before) broken(name + " has a list that is wrongly linked");
            if (!node.vma->anon_vma || of(*node.vma).self != handle || node_of(*node.vma) != at)
                broken(name + " lists a VMA that is not its own");
            if (++listed > expected) break;
        }
        if (listed != expected || anon_vmas_[handle].last != before)
            broken(name + " lists " + std::to_string(listed) + " VMAs, " +
                   std::to_string(expected) + " have it");
    }
    for (const auto& [home, folios] : live.homed)
        if (folios && !vmas.contains(home))
            broken(std::to_string(folios) + " folios are homed at anon_vma " +
                   std::to_string(home) + ", which does not live");
}

}  // namespace

extern const ModelEntry anon_vma_global_entry;
const ModelEntry anon_vma_global_entry = {
    &kInfo, [](const ModelParams& params, Costs& costs) -> std::unique_ptr<RmapModel> {
        check_params(kInfo, params);
        return std::make_unique<AnonVmaGlobal>(costs);
    }};

}  // namespace rmapreplay
