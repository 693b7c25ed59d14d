// SPDX-License-Identifier: GPL-2.0-only
// The reverse map of Linux 2.5 and 2.6.0 to 2.6.6: every page lists the PTEs that map it (mm/rmap.c
// of v2.6.0, by Rik van Riel). A walk reads the list, so it visits what maps the page and nothing
// else; the price is paid per PTE whenever one is set or cleared.
//
//   mapped once   page->pte.direct is the PTE itself (PG_direct): no object
//   more often    page->pte.chain is a list of pte_chains, each a cache line with room for NRPTE
//                 pointers, filled from the end; only the first may have free places
//
// The word that each folio has for it (Home) is the handle of a direct PTE, or of the first
// pte_chain.
//
// What is not as in 2.6.0: page_referenced() made a chain of one entry direct again. Here walks
// change nothing, so that a page which was once shared keeps a pte_chain until it is unmapped. A
// VMA is looked up for every PTE, as in try_to_unmap_one(). A PMD that maps a huge page, unknown
// then, is one entry; of a large folio that several entries of a VMA map, the VMA is visited once.
// Not counted: the word in struct page that every page of memory has for it, and callers that
// allocate a pte_chain ahead and do not need it.
#include <algorithm>
#include <array>
#include <string>
#include <unordered_set>

#include "rmap_models/native/invariant.hpp"
#include "rmap_models/native/params.hpp"
#include "rmap_models/native/pool.hpp"

namespace rmapreplay {

namespace {

enum Object : std::size_t { kPteChain = 1 };
enum OpCounter : std::size_t { kRmapAdds, kRmapRemoves, kChainLock, kPtesScanned };
enum WalkCounter : std::size_t { kPtes, kPteChains, kVmaLookups, kChainLockWalk };

constexpr Param kParams[] = {kKernelParam};
constexpr ObjectKind kObjects[] = {{"pte_chain", 64}};  // L1_CACHE_BYTES
constexpr LockClass kLocks[] = {{"pte_chain_lock", "bit_spinlock", "the PTEs that map one page"}};
constexpr Counter kWalkCounters[] = {
    {"ptes", CostClass::step, "entries of the page's list read"},
    {"pte_chains", CostClass::other, "pte_chains read, a cache line each"},
    {"vma_lookups", CostClass::lookup, "find_vma() of a PTE's address"},
    {"chain_lock", CostClass::lock, "pte_chain_lock()", kLocks[0].name}};
constexpr Counter kOpCounters[] = {
    {"rmap_adds", CostClass::link, "page_add_rmap()"},
    {"rmap_removes", CostClass::link, "page_remove_rmap()"},
    {"chain_lock", CostClass::lock, "pte_chain_lock()", kLocks[0].name},
    {"ptes_scanned", CostClass::step, "entries read by page_remove_rmap() to find the one to go"}};
constexpr ModelInfo kInfo = {.name = "pte_chain",
                             .doc = "Linux 2.5: every page lists the PTEs that map it",
                             .params = kParams,
                             .objects = kObjects,
                             .walk_counters = kWalkCounters,
                             .op_counters = kOpCounters,
                             .locks = kLocks,
                             .needs = {.pages = true}};

// A pointer to a PTE, as what the kernel made of it: ptep_to_mm() and ptep_to_address().
struct PtePointer {
    const Mm* mm;
    u64 addr;
    bool operator==(const PtePointer&) const = default;
};

// On x86-64 a line of 64 bytes holds next_and_idx and seven pointers.
constexpr u32 NRPTE = 7;
struct PteChain {
    u32 next;  // handle
    u32 idx;  // of the last pointer put in; those before it are free
    std::array<PtePointer, NRPTE> ptes;
};

class PteChainModel final : public RmapModel {
  public:
    explicit PteChainModel(Costs& costs) : costs_(costs) {}
    const ModelInfo& info() const override { return kInfo; }

    // VMAs are nothing to this design: any two of an mm may be merged.
    void anon_vma_prepare(Vma& vma) override { vma.anon_vma = vma.mm; }
    void anon_vma_clone(Vma&, const Vma&, CloneFor) override {}
    void anon_vma_fork(Vma& child, const Vma&) override { child.anon_vma = child.mm; }
    void unlink_anon_vmas(Vma& vma) override { vma.anon_vma = nullptr; }
    void pre_update_vma(Vma&) override {}
    void post_update_vma(Vma&) override {}
    bool vma_is_fork_child(const Vma&) const override { return false; }
    Home home(const Vma&) const override { return 0; }

    void page_add_rmap(Home& page, const Mm& mm, u64 addr) override;
    void page_remove_rmap(Home& page, const Mm& mm, u64 addr) override;
    void rmap_walk(Walk& walk) override;
    ObjectView view(u32 object) const override;
    void validate(const Live& live) const override;

  private:
    static bool is_direct(Home page) { return !(page & 1); }  // PageDirect()
    static Home direct(u32 handle) { return handle << 1; }
    static Home chain(u32 handle) { return handle ? handle << 1 | 1 : 0; }

    u32 pte_chain_alloc(u32 next, PtePointer pte);
    bool visit(Walk& walk, const PtePointer& pte);

    Costs& costs_;
    Pool<PtePointer> direct_;
    Pool<PteChain> chains_;
    std::vector<const Vma*> visited_;  // of a large folio
};

u32 PteChainModel::pte_chain_alloc(u32 next, PtePointer pte) {
    costs_.allocated(kPteChain);
    const u32 handle = chains_.alloc();
    PteChain& made = chains_[handle];
    made.next = next;
    made.idx = NRPTE - 1;
    made.ptes[made.idx] = pte;
    return handle;
}

void PteChainModel::page_add_rmap(Home& page, const Mm& mm, u64 addr) {
    costs_.count(kChainLock);
    costs_.count(kRmapAdds);
    const PtePointer pte{&mm, addr};
    if (!page) {
        const u32 handle = direct_.alloc();
        direct_[handle] = pte;
        page = direct(handle);
        return;
    }
    const u32 handle = page >> 1;
    if (is_direct(page)) {  // converted into a pte_chain
        const u32 made = pte_chain_alloc(0, direct_[handle]);
        direct_.free(handle);
        PteChain& first = chains_[made];
        first.ptes[--first.idx] = pte;
        page = chain(made);
    } else if (PteChain& first = chains_[handle]; first.idx) {
        first.ptes[--first.idx] = pte;
    } else {
        page = chain(pte_chain_alloc(handle, pte));
    }
}

// The pointer that was put in last takes the place of the one that goes.
void PteChainModel::page_remove_rmap(Home& page, const Mm& mm, u64 addr) {
    costs_.count(kChainLock);
    costs_.count(kRmapRemoves);
    const PtePointer pte{&mm, addr};
    const u32 handle = page >> 1;
    if (page && is_direct(page) && direct_[handle] == pte) {
        direct_.free(handle);
        page = 0;
        return;
    }
    for (u32 at = is_direct(page) ? 0 : handle; at; at = chains_[at].next)
        for (u32 i = chains_[at].idx; i < NRPTE; ++i) {
            costs_.count(kPtesScanned);
            if (chains_[at].ptes[i] != pte) continue;
            PteChain& first = chains_[handle];
            chains_[at].ptes[i] = first.ptes[first.idx];
            if (++first.idx == NRPTE) {
                page = chain(first.next);
                chains_.free(handle);
                costs_.freed(kPteChain);
            }
            return;
        }
    throw BrokenInvariant("page_remove_rmap: the PTE at " + hex(addr) + " of " + describe(mm) +
                          " is in no list of its page");
}

// page_referenced(), try_to_unmap(): from the entry put in last to the first.
void PteChainModel::rmap_walk(Walk& walk) {
    ++walk.counters[kChainLockWalk];
    visited_.clear();
    const u32 handle = walk.folio.home >> 1;
    if (is_direct(walk.folio.home)) {
        if (handle) visit(walk, direct_[handle]);
        return;
    }
    for (u32 at = handle; at; at = chains_[at].next) {
        const PteChain& chain = chains_[at];
        ++walk.counters[kPteChains];
        for (u32 i = chain.idx; i < NRPTE; ++i)
            if (!visit(walk, chain.ptes[i])) return;
    }
}

bool PteChainModel::visit(Walk& walk, const PtePointer& pte) {
    ++walk.counters[kPtes];
    ++walk.counters[kVmaLookups];
    const Vma* vma = pte.mm->vmas.lookup(pte.addr);
    if (!vma) return true;
    if (walk.folio.nr > 1) {
        if (std::find(visited_.begin(), visited_.end(), vma) != visited_.end()) return true;
        visited_.push_back(vma);
    }
    return walk.visit(*vma);
}

// What a page's word leads to.
ObjectView PteChainModel::view(u32 object) const {
    if (is_direct(object)) return {"PTE", {}};
    u64 chains = 0, ptes = 0;
    for (u32 at = object >> 1; at; at = chains_[at].next) {
        ++chains;
        ptes += NRPTE - chains_[at].idx;
    }
    return {"list", {{"pte_chains", chains}, {"ptes", ptes}}};
}

// Every folio's list holds places that a faulted VMA of a living mm covers, none twice, in
// pte_chains that are full but for the first; and there are no other lists.
void PteChainModel::validate(const Live& live) const {
    const std::unordered_set<const Mm*> mms(live.mms.begin(), live.mms.end());
    std::size_t directs = 0, chains = 0;
    std::vector<std::pair<u32, u64>> places;
    const auto check = [&](const std::string& name, const PtePointer& pte) {
        if (!mms.contains(pte.mm))
            throw BrokenInvariant(name + " holds a PTE of an mm that is gone");
        const Vma* vma = pte.mm->vmas.lookup(pte.addr);
        if (!vma || !vma->anon_vma)
            throw BrokenInvariant(name + " holds a PTE of no faulted VMA, at " + hex(pte.addr) +
                                  " of " + describe(*pte.mm));
        places.emplace_back(pte.mm->serial, pte.addr);
    };
    for (const auto& [page, folios] : live.homed) {
        if (!page) continue;  // folios in swap
        const std::string name = "the list " + std::to_string(page) + " of a page";
        if (folios != 1)
            throw BrokenInvariant(name + " is that of " + std::to_string(folios) + " pages");
        if (is_direct(page)) {
            ++directs;
            check(name, direct_[page >> 1]);
            continue;
        }
        for (u32 at = page >> 1; at; at = chains_[at].next) {
            const PteChain& chain = chains_[at];
            if (++chains > chains_.live()) throw BrokenInvariant(name + " has no end");
            if (chain.idx >= NRPTE || (chain.idx && at != page >> 1))
                throw BrokenInvariant(name + " has a pte_chain with free places behind the first");
            for (u32 i = chain.idx; i < NRPTE; ++i) check(name, chain.ptes[i]);
        }
    }
    if (directs != direct_.live() || chains != chains_.live())
        throw BrokenInvariant(std::to_string(chains_.live() + direct_.live() - directs - chains) +
                              " lists live that are of no page");
    if (costs_.live[kPteChain] != chains)
        throw BrokenInvariant("the ledger has " + std::to_string(costs_.live[kPteChain]) +
                              " pte_chains, " + std::to_string(chains) + " live");
    std::sort(places.begin(), places.end());
    if (const auto twice = std::adjacent_find(places.begin(), places.end()); twice != places.end())
        throw BrokenInvariant("the PTE at " + hex(twice->second) + " of mm " +
                              std::to_string(twice->first) + " is in two lists");
}

}  // namespace

extern const ModelEntry pte_chain_entry;
const ModelEntry pte_chain_entry = {
    &kInfo, [](const ModelParams& params, Costs& costs) -> std::unique_ptr<RmapModel> {
        check_params(kInfo, params);
        return std::make_unique<PteChainModel>(costs);
    }};

}  // namespace rmapreplay
