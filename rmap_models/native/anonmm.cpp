// SPDX-License-Identifier: GPL-2.0-only
// Hugh Dickins' anonmm of 2004 ("anobjrmap 5/6 anonmm", for 2.6.5; Andrea Arcangeli's anon_vma was
// merged instead): one object per mm. An anonymous page lies at one address, folio->index, in
// whichever mms of its family map it; a family is what was forked since the last exec. A walk asks
// each of them.
//
//   anonmm.head    the anonmm of the mm that did exec; its lock and list are the family's
//   anonmm.count   1 for the mm, 1 per page at home there; a head: 1 for itself and 1 per member
//   anonmm.mm      null once the mm is gone; the anonmm stays while pages are at home there
//
// Since the index is an address, mremap() must give a page that moves another one, and copy a page
// that others map too (Needs::index_is_address).
//
// Where 2004 does not say, or a walk has more to do now: the mm's VMA at the address is looked up,
// and offered if it was ever anonymously faulted (then, page_referenced_one() went straight to the
// page table, and passed over an mm without any pages by its rss). page_referenced_anon() moved
// pages away from an mm that is gone; here walks change nothing, so a dead anonmm may stay longer.
// A page in swap that is not known to be exclusive keeps its home until it is read. PG_maplock,
// taken to change a mapcount, is not counted: mapcounts are atomic now.
#include <map>
#include <string>
#include <unordered_map>

#include "rmap_models/native/invariant.hpp"
#include "rmap_models/native/params.hpp"
#include "rmap_models/native/pool.hpp"

namespace rmapreplay {

namespace {

enum Object : std::size_t { kAnonMm = 1 };
enum OpCounter : std::size_t { kListAdds, kListDels, kRefcounts, kHeadLock, kPagesCopied };
enum WalkCounter : std::size_t { kLive, kDead, kVmaLookups, kHeadLockWalk };

constexpr Param kParams[] = {kKernelParam};
constexpr ObjectKind kObjects[] = {{"anonmm", 40}};  // count, lock, mm, head, list
constexpr LockClass kLocks[] = {
    {"anonmm->head->lock", "spinlock", "the list of all mms forked since one exec"}};
constexpr Counter kWalkCounters[] = {
    {"anonmms_live", CostClass::step, "anonmms visited whose mm lives"},
    {"anonmms_dead", CostClass::step, "anonmms visited whose mm is gone"},
    {"vma_lookups", CostClass::lookup, "searches for the VMA at folio->index in a living mm"},
    {"head_lock", CostClass::lock, "for the whole walk", kLocks[0].name}};
constexpr Counter kOpCounters[] = {
    {"list_adds", CostClass::link, "anonmms put on their family's list, by dup_rmap()"},
    {"list_dels", CostClass::link, "anonmms taken off it"},
    {"refcounts", CostClass::refcount, "references taken or dropped: mm, member, page"},
    {"head_lock", CostClass::lock, "to change the list", kLocks[0].name},
    {"pages_copied", CostClass::other, "shared pages that mremap() had to copy"}};
constexpr ModelInfo kInfo = {.name = "anonmm",
                             .doc = "one object per mm, and a list of all mms since the last exec",
                             .params = kParams,
                             .objects = kObjects,
                             .walk_counters = kWalkCounters,
                             .op_counters = kOpCounters,
                             .locks = kLocks,
                             .needs = {.index_is_address = true}};

struct AnonMm {
    Mm* mm;
    u64 count;
    u32 self;
    u32 head;
    u32 next, prev;  // the family's list, a ring that its head is part of
};

class AnonMmModel final : public RmapModel {
  public:
    explicit AnonMmModel(Costs& costs) : costs_(costs) {}
    const ModelInfo& info() const override { return kInfo; }

    void mm_init(Mm& mm) override;
    void mm_fork_begin(Mm& child, Mm& parent) override;
    void mm_exit(Mm& mm) override;

    // A VMA has no object: any two of an mm may be merged.
    void anon_vma_prepare(Vma& vma) override { vma.anon_vma = vma.mm->rmap; }
    void anon_vma_clone(Vma&, const Vma&, CloneFor) override {}
    void anon_vma_fork(Vma& child, const Vma&) override { anon_vma_prepare(child); }
    void unlink_anon_vmas(Vma& vma) override { vma.anon_vma = nullptr; }
    void pre_update_vma(Vma&) override {}
    void post_update_vma(Vma&) override {}
    bool vma_is_fork_child(const Vma&) const override { return false; }

    // Also where a page from swap is at home, whoever had it before: walks ask the whole family.
    Home home(const Vma& vma) const override { return of(*vma.mm).self; }
    void folios_homed(Home home, u64 n) override;
    void folios_unhomed(Home home, u64 n) override;
    void page_copied_for_move(const Mm&, u64) override { costs_.count(kPagesCopied); }

    void rmap_walk(Walk& walk) override;
    ObjectView view(u32 object) const override;
    void validate(const Live& live) const override;

  private:
    static AnonMm& of(const Mm& mm) { return *static_cast<AnonMm*>(mm.rmap); }
    AnonMm& alloc(Mm& mm);
    void put(AnonMm& anonmm, u64 n);
    void free(AnonMm& anonmm);
    bool visit(Walk& walk, const AnonMm& anonmm);

    Costs& costs_;
    Pool<AnonMm> anonmms_;
};

AnonMm& AnonMmModel::alloc(Mm& mm) {
    costs_.allocated(kAnonMm);
    const u32 handle = anonmms_.alloc();
    AnonMm& anonmm = anonmms_[handle];
    anonmm.mm = &mm;
    anonmm.count = 1;
    anonmm.self = anonmm.head = anonmm.next = anonmm.prev = handle;
    mm.rmap = &anonmm;
    return anonmm;
}

void AnonMmModel::free(AnonMm& anonmm) {
    costs_.freed(kAnonMm);
    anonmms_.free(anonmm.self);
}

// exec_rmap(): a family of its own.
void AnonMmModel::mm_init(Mm& mm) { alloc(mm).count = 2; }

// dup_rmap(), before any VMA is copied.
void AnonMmModel::mm_fork_begin(Mm& child, Mm& parent) {
    AnonMm& anonmm = alloc(child);
    AnonMm& head = anonmms_[of(parent).head];
    costs_.count(kHeadLock);
    costs_.count(kListAdds);
    costs_.count(kRefcounts);
    ++head.count;
    anonmm.head = head.self;  // list_add_tail()
    anonmm.next = head.self;
    anonmm.prev = head.prev;
    anonmms_[head.prev].next = anonmm.self;
    head.prev = anonmm.self;
}

// exit_rmap()
void AnonMmModel::mm_exit(Mm& mm) {
    AnonMm& anonmm = of(mm);
    mm.rmap = nullptr;
    anonmm.mm = nullptr;
    costs_.count(kHeadLock);
    put(anonmm, 1);
}

// A member that nothing refers to leaves the list and its head; a head that has only itself goes.
void AnonMmModel::put(AnonMm& anonmm, u64 n) {
    costs_.count(kRefcounts, n);
    anonmm.count -= n;
    AnonMm& head = anonmms_[anonmm.head];
    if (&anonmm != &head) {
        if (anonmm.count) return;
        costs_.count(kListDels);
        costs_.count(kRefcounts);
        anonmms_[anonmm.prev].next = anonmm.next;
        anonmms_[anonmm.next].prev = anonmm.prev;
        free(anonmm);
        --head.count;
    }
    if (head.count == 1) free(head);
}

void AnonMmModel::folios_homed(Home home, u64 n) {
    costs_.count(kRefcounts, n);
    anonmms_[home].count += n;
}

// clear_page_anon(). The last page of a member whose mm is gone takes the lock: free_anonmm().
void AnonMmModel::folios_unhomed(Home home, u64 n) {
    AnonMm& anonmm = anonmms_[home];
    if (anonmm.count == n) costs_.count(kHeadLock);
    put(anonmm, n);
}

// page_referenced_anon(), try_to_unmap_anon(): the indicated mm first, then on around the list from
// there. Not only mms younger than it: what comes from swap is at home where it was first read.
void AnonMmModel::rmap_walk(Walk& walk) {
    ++walk.counters[kHeadLockWalk];
    u32 at = walk.folio.home;
    do {
        const AnonMm& anonmm = anonmms_[at];
        if (!visit(walk, anonmm)) return;
        at = anonmm.next;
    } while (at != walk.folio.home);
}

bool AnonMmModel::visit(Walk& walk, const AnonMm& anonmm) {
    if (!anonmm.mm) {
        ++walk.counters[kDead];
        return true;
    }
    ++walk.counters[kLive];
    ++walk.counters[kVmaLookups];
    const VmaTree& vmas = anonmm.mm->vmas;
    const u64 first = walk.folio.index << kPageShift;
    if (walk.folio.nr == 1) {
        const Vma* vma = vmas.lookup(first);
        return !vma || !vma->anon_vma || walk.visit(*vma);
    }
    const u64 end = first + (u64{walk.folio.nr} << kPageShift);
    for (std::size_t i = vmas.lower(first); i < vmas.size() && vmas.at(i)->start < end; ++i)
        if (vmas.at(i)->anon_vma && !walk.visit(*vmas.at(i))) return false;
    return true;
}

ObjectView AnonMmModel::view(u32 object) const {
    const AnonMm& seen = anonmms_[object];
    ObjectView view{"anonmm", {}};
    if (seen.mm) view.fields.push_back({"mm", seen.mm->serial, ObjectField::Is::mm});
    view.fields.push_back({"head", seen.head, ObjectField::Is::object});
    view.fields.push_back({"count", seen.count});
    return view;
}

// Every mm has its anonmm; the lists are rings around a head; an anonmm lives as long as its mm or
// pages at home there, a head as long as its members; counts are right.
void AnonMmModel::validate(const Live& live) const {
    const auto broken = [](const std::string& what) { throw BrokenInvariant(what); };
    const auto name = [](const AnonMm& a) {
        return "anonmm " + std::to_string(a.self) + (a.mm ? " of " + describe(*a.mm) : "");
    };
    std::unordered_map<u32, u64> members;  // by head, itself included
    std::size_t found = 0;
    for (const Mm* mm : live.mms) {
        if (!mm->rmap || of(*mm).mm != mm) broken(describe(*mm) + " has no anonmm of its own");
        for (std::size_t i = 0; i < mm->vmas.size(); ++i)
            if (const Vma& vma = *mm->vmas.at(i); vma.anon_vma && vma.anon_vma != mm->rmap)
                broken(describe(vma) + " has another mm's word");
        const u32 head = of(*mm).head;
        if (anonmms_[head].head != head) broken(name(of(*mm)) + " has a head that is none");
        if (members.contains(head)) continue;
        u32 at = head;
        do {
            const AnonMm& anonmm = anonmms_[at];
            if (anonmm.head != head) broken(name(anonmm) + " is on another family's list");
            if (anonmms_[anonmm.next].prev != at) broken(name(anonmm) + " is wrongly linked");
            if (++members[head], ++found > anonmms_.live()) broken("a list of anonmms has no end");
            at = anonmm.next;
        } while (at != head);
    }
    if (found != anonmms_.live() || found != costs_.live[kAnonMm])
        broken(std::to_string(found) + " anonmms are on the lists of living mms, " +
               std::to_string(anonmms_.live()) + " live, the ledger has " +
               std::to_string(costs_.live[kAnonMm]));
    for (const auto& [head, n] : members) {
        u32 at = head;
        do {
            const AnonMm& anonmm = anonmms_[at];
            const auto homed = live.homed.find(at);
            const u64 count = (anonmm.mm ? 1 : 0) + (at == head ? n : 0) +
                              (homed == live.homed.end() ? 0 : homed->second);
            if (anonmm.count != count || !count)
                broken(name(anonmm) + ": count is " + std::to_string(anonmm.count) +
                       ", recounted " + std::to_string(count));
            at = anonmm.next;
        } while (at != head);
    }
    for (const auto& [home, folios] : live.homed)
        if (folios && !members.contains(anonmms_[home].head))
            broken(std::to_string(folios) + " folios are homed at anonmm " + std::to_string(home) +
                   ", which does not live");
}

}  // namespace

extern const ModelEntry anonmm_entry;
const ModelEntry anonmm_entry = {
    &kInfo, [](const ModelParams& params, Costs& costs) -> std::unique_ptr<RmapModel> {
        check_params(kInfo, params);
        return std::make_unique<AnonMmModel>(costs);
    }};

}  // namespace rmapreplay
