// SPDX-License-Identifier: GPL-2.0-only
// The invariants of anon_vma and anon_vma_chain, recounted from the VMAs. For tests; far too slow
// for a replay.
#include <map>
#include <stdexcept>
#include <string>

#include "rmap_models/native/anon_vma.hpp"

namespace rmapreplay {

namespace {

// What an anon_vma should say of itself.
struct Recount {
    u32 links = 0;
    u32 active = 0;
    u32 children = 0;
    u32 descendants = 0;
};

[[noreturn]] void broken(const std::string& what) { throw std::logic_error("anon_vma: " + what); }

}  // namespace

std::vector<u32> AnonVmaModel::anon_vma_chain(const Vma& vma) const {
    std::vector<u32> handles;
    for (auto at = static_cast<u32>(reinterpret_cast<std::uintptr_t>(vma.chain)); at;
         at = chains_[at].same_vma)
        handles.push_back(chains_[at].anon_vma);
    return handles;
}

void AnonVmaModel::validate(std::span<const Vma* const> vmas) const {
    std::map<u32, Recount> seen;
    std::size_t chains = 0;
    for (const Vma* vma : vmas) {
        const std::string name = "VMA " + std::to_string(vma->serial);
        if (!vma->anon_vma != !vma->chain) broken(name + " has one of anon_vma and links only");
        if (!vma->anon_vma) continue;
        const AnonVma& own = anon_vma(*vma);
        bool lists_own = false;
        for (auto at = static_cast<u32>(reinterpret_cast<std::uintptr_t>(vma->chain)); at;
             at = chains_[at].same_vma) {
            const AnonVmaChain& avc = chains_[at];
            if (avc.vma != vma) broken(name + " lists another VMA's link");
            if (avc.start != vma->anon_pgoff || avc.last != vma->last_index())
                broken(name + " changed its range without its links");
            if (anon_vmas_[avc.anon_vma].root != own.root) broken(name + " has links to two roots");
            u64 touched = 0;
            const auto& tree = anon_vmas_[avc.anon_vma].tree;
            const IntervalNode* found = tree.first(avc.start, avc.last, touched);
            while (found && found != &avc)
                found = tree.next(static_cast<const AnonVmaChain*>(found), avc.start, avc.last,
                                  touched);
            if (!found) broken(name + " has a link that its anon_vma's tree does not find");
            ++seen[avc.anon_vma].links;
            ++chains;
            if (avc.anon_vma == own.self) lists_own = true;
        }
        if (!lists_own) broken(name + " does not list its own anon_vma");
        ++seen[own.self].active;
    }
    if (chains != chains_.live()) broken("links that no VMA lists");

    for (const auto& [handle, recount] : std::map(seen)) {
        const AnonVma& anon_vma = anon_vmas_[handle];
        ++seen[anon_vma.parent].children;
        if (anon_vma.root != handle) ++seen[anon_vma.root].descendants;
    }
    if (seen.size() != anon_vmas_.live()) broken("an anon_vma that no link and no child needs");
    for (const auto& [handle, recount] : seen) {
        const AnonVma& anon_vma = anon_vmas_[handle];
        const std::string name = "anon_vma " + std::to_string(handle);
        if (anon_vma.tree.validate() != recount.links) broken(name + " holds links of no VMA");
        if (anon_vma.num_active_vmas != recount.active) broken(name + ": num_active_vmas is wrong");
        if (anon_vma.num_children != recount.children) broken(name + ": num_children is wrong");
        const u32 references = (recount.links ? 1 : 0) + recount.descendants;
        if (anon_vma.refcount != references) broken(name + ": refcount is wrong");
    }
}

}  // namespace rmapreplay
