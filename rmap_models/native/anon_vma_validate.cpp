// SPDX-License-Identifier: GPL-2.0-only
// The invariants of anon_vma and anon_vma_chain, recounted from the VMAs.
//
// They follow from three rules: links are only ever copied list by list (anon_vma_clone()), a fork
// adds at most one anon_vma, below the parent VMA's own, and an anon_vma is taken up again only
// while no VMA owns it. So a list holds with an anon_vma its parent, and so up to the root; VMAs
// that own the same anon_vma are of one mm and have the same list; and an anon_vma lives as long as
// its tree has links.
//
// That there are at most two anon_vmas to a VMA is not among them. It follows from each anon_vma
// having VMAs of its own or two children, which holds for those in the parent's list when a fork
// makes a new one, but not for good: when the elder processes of a chain of forks have gone, the
// youngest VMA's list keeps all of their anon_vmas alive, until later forks take them up one by
// one.
#include <algorithm>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "rmap_models/native/anon_vma.hpp"
#include "rmap_models/native/invariant.hpp"

namespace rmapreplay {

namespace {

[[noreturn]] void broken(const std::string& what) { throw BrokenInvariant(what); }

std::string anon_vma_name(u32 handle) { return "anon_vma " + std::to_string(handle); }

// What an anon_vma should say of itself.
struct Recount {
    u32 links = 0;
    u32 active = 0;
    u32 children = 0;
    u32 descendants = 0;
    const Vma* owner = nullptr;  // one of the VMAs whose own it is
};

void same_list(const Vma& vma, const Vma& owner, std::vector<u32> list, std::vector<u32> expected) {
    if (owner.mm != vma.mm)
        broken(describe(vma) + " has its own anon_vma in common with " + describe(owner));
    std::sort(list.begin(), list.end());
    std::sort(expected.begin(), expected.end());
    if (list != expected)
        broken(describe(vma) + " does not link the anon_vmas that " + describe(owner) +
               " links, and has the same one of its own");
}

}  // namespace

std::vector<u32> AnonVmaModel::anon_vma_chain(const Vma& vma) const {
    std::vector<u32> handles;
    for (auto at = static_cast<u32>(reinterpret_cast<std::uintptr_t>(vma.chain)); at;
         at = chains_[at].same_vma)
        handles.push_back(chains_[at].anon_vma);
    return handles;
}

void AnonVmaModel::validate(const Live& live) const {
    std::unordered_map<u32, Recount> recounts;
    std::unordered_set<const IntervalNode*> listed;
    for (const Mm* mm : live.mms) {
        for (std::size_t i = 0; i < mm->vmas.size(); ++i) {
            const Vma& vma = *mm->vmas.at(i);
            if (!vma.anon_vma != !vma.chain)
                broken(describe(vma) + " has one of anon_vma and links only");
            if (!vma.anon_vma) continue;
            for (auto at = static_cast<u32>(reinterpret_cast<std::uintptr_t>(vma.chain)); at;
                 at = chains_[at].same_vma) {
                const AnonVmaChain& avc = chains_[at];
                if (avc.vma != &vma) broken(describe(vma) + " lists another VMA's link");
                if (avc.start != vma.anon_pgoff || avc.last != vma.last_index())
                    broken(describe(vma) + " changed its range without its links");
                if (!listed.insert(&avc).second) broken(describe(vma) + " lists a link twice");
                ++recounts[avc.anon_vma].links;
            }
            const u32 own = anon_vma(vma).self;
            const std::vector<u32> list = anon_vma_chain(vma);
            const std::unordered_set<u32> linked(list.begin(), list.end());
            if (linked.size() != list.size())
                broken(describe(vma) + " links an anon_vma more than once");
            if (!linked.contains(own)) broken(describe(vma) + " does not link its own anon_vma");
            for (const u32 handle : list)
                if (!linked.contains(anon_vmas_[handle].parent))
                    broken(describe(vma) + " links " + anon_vma_name(handle) + ", not its parent");
            Recount& recount = recounts[own];
            ++recount.active;
            if (!recount.owner)
                recount.owner = &vma;
            else
                same_list(vma, *recount.owner, list, anon_vma_chain(*recount.owner));
        }
    }
    if (listed.size() != chains_.live())
        broken(std::to_string(chains_.live()) + " links live, VMAs list " +
               std::to_string(listed.size()));
    if (recounts.size() != anon_vmas_.live())
        broken(std::to_string(anon_vmas_.live()) + " anon_vmas live, VMAs link " +
               std::to_string(recounts.size()));

    for (const auto& [handle, recount] : recounts) {
        const AnonVma& anon_vma = anon_vmas_[handle];
        const bool is_root = anon_vma.root == handle;
        if (is_root != (anon_vma.parent == handle) || !recounts.contains(anon_vma.root) ||
            anon_vma.root != anon_vmas_[anon_vma.parent].root)
            broken(anon_vma_name(handle) + " has another root than its parent");
        ++recounts.at(anon_vma.parent).children;  // a root is its own
        if (!is_root) ++recounts.at(anon_vma.root).descendants;
    }
    const auto counts = [](u32 handle, const char* what, u32 says, u32 has) {
        if (says != has)
            broken(anon_vma_name(handle) + ": " + what + " is " + std::to_string(says) +
                   ", recounted " + std::to_string(has));
    };
    for (const auto& [handle, recount] : recounts) {
        const AnonVma& anon_vma = anon_vmas_[handle];
        std::size_t links = 0;
        try {
            links = anon_vma.tree.validate();
        } catch (const BrokenInvariant& tree) {
            broken(anon_vma_name(handle) + ": " + tree.what());
        }
        u64 touched = 0;
        for (const AnonVmaChain* avc = anon_vma.tree.first(0, ~u64{0} >> 1, touched); avc;
             avc = anon_vma.tree.next(avc, 0, ~u64{0} >> 1, touched))
            if (!listed.contains(avc) || avc->anon_vma != handle)
                broken(anon_vma_name(handle) + " has a link at page offset " + hex(avc->start) +
                       " that no living VMA lists");
        counts(handle, "number of links", static_cast<u32>(links), recount.links);
        counts(handle, "num_active_vmas", anon_vma.num_active_vmas, recount.active);
        counts(handle, "num_children", anon_vma.num_children, recount.children);
        counts(handle, "refcount", anon_vma.refcount, 1 + recount.descendants);
    }
    for (const auto& [home, folios] : live.homed)
        if (folios && !recounts.contains(home))
            broken(std::to_string(folios) + " folios are homed at " + anon_vma_name(home) +
                   ", which does not live");
}

}  // namespace rmapreplay
