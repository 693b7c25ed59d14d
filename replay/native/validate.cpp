// SPDX-License-Identifier: GPL-2.0-only
// What must hold between any two events, recounted from the VMAs and the page tables.
#include <string>
#include <unordered_map>

#include "replay/native/state.hpp"
#include "rmap_models/native/invariant.hpp"

namespace rmapreplay {

namespace {

[[noreturn]] void broken(const std::string& what) { throw BrokenInvariant(what); }

// What a folio should say of itself.
struct Recount {
    u32 mapcount = 0;
    u32 swap_count = 0;
    const Mm* mm = nullptr;  // the first that maps it
    u64 addr = 0;            // and where
    bool several_mms = false;
};

// Recounts one machine, mm by mm.
class Recounting {
  public:
    Recounting(const RmapModel& model, PteStore& store, const FolioTable& folios,
               bool anon_pgoff_apart, Kernel kernel, Needs needs)
        : model_(model),
          store_(store),
          folios_(folios),
          anon_pgoff_apart_(anon_pgoff_apart),
          kernel_(kernel),
          needs_(needs),
          folio_(folios.made()) {}

    void mm(const AddressSpace& mm) {
        vma_tree(mm);
        if (mm.exited >= ExitStep::free_pgtables)
            for (std::size_t i = 0; i < mm.vmas.size(); ++i)
                if (mm.vmas.at(i)->anon_vma) broken(describe(mm) + " is unlinked, a VMA is not");
        const u64 before = anon_ptes;
        u64 from = 0;
        mm.pages.for_each_leaf(
            store_, 0, ~u64{0}, [&](PteLeaf& leaf, u64 base, unsigned, unsigned) {
                if (base < from) broken(describe(mm) + ": page tables are out of order");
                if (mm.exited != ExitStep::none) broken(describe(mm) + " is unmapped, not empty");
                from = base + kPmdSize;
                const Vma* vma = mm.vmas.find(base);
                if (!vma || vma->start >= from)
                    broken(describe(mm) + " has a page table without VMA at " + hex(base));
                this->leaf(mm, leaf, base);
            });
        if (anon_ptes - before != mm.anon_ptes) broken(describe(mm) + ": anon_ptes is wrong");
    }

    void folios() {
        u64 live = 0;
        for (u32 i = 0; i < folio_.size(); ++i) {
            const Recount& recount = folio_[i];
            const Folio& folio = folios_[i + kFirst];
            const auto name = [&] {
                return "folio " + std::to_string(i) +
                       (recount.mm ? ", at " + hex(recount.addr) + " of " + describe(*recount.mm)
                                   : "");
            };
            if (folio.mapcount != recount.mapcount)
                broken(name() + ": mapcount is " + std::to_string(folio.mapcount) + ", recounted " +
                       std::to_string(recount.mapcount));
            if (!recount.mapcount && !recount.swap_count) continue;
            ++live;
            ++homed[folio.home];
            if (folios_.swap_count(i + kFirst) != recount.swap_count)
                broken(name() + ": swap count is " +
                       std::to_string(folios_.swap_count(i + kFirst)) + ", recounted " +
                       std::to_string(recount.swap_count));
            if (folio.order && folio.swapped) broken(name() + " is large and in swap");
            if (folio.exclusive && recount.several_mms)
                broken(name() + " is exclusive, and several mms map it");
            if (folio.exclusive && !folio.order && recount.mapcount + recount.swap_count != 1)
                broken(name() + " is exclusive and not alone");
        }
        if (live != folios_.live()) broken("folios that nothing maps");
    }

    u64 vmas = 0, anon_ptes = 0, private_pages = 0, leaves = 0, groups = 0;
    std::map<Home, u64> homed;

  private:
    void vma_tree(const AddressSpace& mm) {
        const VmaTree& tree = mm.vmas;
        const Vma* before = nullptr;
        bool has_exec_stack = false;
        for (std::size_t i = 0; i < tree.size(); ++i) {
            const Vma* vma = tree.at(i);
            const std::string name = describe(*vma);
            if (vma->mm != &mm) broken(name + " belongs to another mm");
            if ((vma->start | vma->end) % kPageSize) broken(name + " is not page-aligned");
            if (vma->start >= vma->end) broken(name + " is empty");
            if (before && before->end > vma->start) broken(name + " overlaps the one below");
            if (tree.index_of(vma) != i || tree.find(vma->start) != vma ||
                tree.find(vma->end - 1) != vma || tree.lookup(vma->start) != vma ||
                tree.lookup(vma->end - kPageSize) != vma || tree.prev(vma) != before)
                broken(name + " is not found where it is");
            if (tree.lookup(vma->end) == vma) broken(name + " is found beyond its end");
            if (vma->chain && !vma->anon_vma) broken(name + " has links and is not faulted");
            if (vma->anon_vma && (vma->flags & VM_SHARED) && kernel_ >= Kernel::v7_3)
                broken(name + " is shared and faulted");  // before v7.3 guards made them so
            if ((!vma->file || !anon_pgoff_apart_) && !(vma->flags & VM_SHARED) &&
                vma->pgoff != vma->anon_pgoff)
                broken(name + " has two offsets");
            if (needs_.index_is_address && vma->anon_vma &&
                vma->anon_pgoff != vma->start >> kPageShift)
                broken(name + " has an offset that is not its place");
            has_exec_stack |= vma == mm.exec_stack;
            before = vma;
            ++vmas;
        }
        if (mm.exec_stack && !has_exec_stack) broken(describe(mm) + ": exec's stack is gone");
    }

    void leaf(const AddressSpace& mm, PteLeaf& leaf, u64 base) {
        ++leaves;
        if (leaf.moving) broken(describe(mm) + ": mremap left a mark at " + hex(base));
        for (unsigned g = 0; g < kGroups; ++g) {
            if (leaf.group[g] != kNoGroup)
                ++groups;
            else if (leaf.present[g])
                broken(describe(mm) + ": entries without memory at " + hex(base));
            if (leaf.huge && leaf.present[g])
                broken(describe(mm) + ": entries below a PMD mapping at " + hex(base));
        }
        if (leaf.huge) {
            const Vma* vma = vma_of(mm, base, leaf.huge);
            if (vma->end < base + kPmdSize)
                broken(describe(mm) + ": a VMA ends within the PMD mapping at " + hex(base));
            if (leaf.huge == kZero) {
                if (!vma->anon_vma) broken(describe(mm) + ": a huge zero page, not faulted");
            } else if (!is_folio(leaf.huge)) {
                broken(describe(mm) + ": a PMD of no folio at " + hex(base));
            } else {
                mapping(mm, *vma, base, leaf.huge);
                if (folios_[leaf.huge].order != kPmdOrder)
                    broken(describe(mm) + ": a PMD maps a small folio at " + hex(base));
                if (folios_[leaf.huge].index != vma->index_at(base))
                    broken(describe(mm) + ": wrong folio->index at " + hex(base));
            }
            return;
        }
        PageTable::for_each_page(store_, leaf, 0, 512, [&](unsigned page, Pte pte) {
            const u64 addr = base + u64{page} * kPageSize;
            const Vma* vma = vma_of(mm, addr, pte);
            if (pte == kPrivate) {
                if (vma != private_in_) {
                    private_in_ = vma;
                    homed_there_ = &homed[model_.home(*vma)];
                }
                ++*homed_there_;
                ++private_pages;
                ++anon_ptes;
            } else if (is_folio(pte)) {
                mapping(mm, *vma, addr, pte);
            } else if (is_swap(pte)) {
                if (pte != kSwapPrivate) swap_entry(mm, *vma, addr, pte & ~kSwap);
            } else if (pte != kZero && pte != kGuard) {
                broken(describe(mm) + ": a present entry says none at " + hex(addr));
            }
        });
    }

    const Vma* vma_of(const AddressSpace& mm, u64 addr, Pte pte) const {
        const Vma* vma = mm.vmas.lookup(addr);
        if (!vma) broken(describe(mm) + ": an entry outside of every VMA at " + hex(addr));
        if ((is_anon(pte) || is_swap(pte)) && (!vma->anon_vma || (vma->flags & VM_SHARED)))
            broken(describe(mm) + ": an anonymous page in an unfaulted VMA at " + hex(addr));
        if (pte == kGuard && !vma->anon_vma && !(vma->flags & VM_MAYBE_GUARD))
            broken(describe(mm) + ": a guard that fork would forget at " + hex(addr));
        return vma;
    }

    void mapping(const AddressSpace& mm, const Vma& vma, u64 addr, Pte pte) {
        if (pte - kFirst >= folio_.size()) broken(describe(mm) + ": no such folio at " + hex(addr));
        Recount& recount = folio_[pte - kFirst];
        ++recount.mapcount;
        ++anon_ptes;
        if (!recount.mm) {
            recount.mm = &mm;
            recount.addr = addr;
        }
        recount.several_mms |= recount.mm != &mm;
        const Folio& folio = folios_[pte];
        if (vma.index_at(addr) - folio.index >= u64{1} << folio.order)
            broken(describe(mm) + ": wrong folio->index at " + hex(addr));
    }

    void swap_entry(const AddressSpace& mm, const Vma& vma, u64 addr, Pte pte) {
        if (pte - kFirst >= folio_.size()) broken(describe(mm) + ": no such folio at " + hex(addr));
        Recount& recount = folio_[pte - kFirst];
        ++recount.swap_count;
        if (!recount.mm) {
            recount.mm = &mm;
            recount.addr = addr;
        }
        recount.several_mms |= recount.mm != &mm;
        if (folios_[pte].index != vma.index_at(addr))
            broken(describe(mm) + ": wrong folio->index in swap at " + hex(addr));
    }

    const RmapModel& model_;
    PteStore& store_;
    const FolioTable& folios_;
    const bool anon_pgoff_apart_;
    const Kernel kernel_;
    const Needs needs_;
    std::vector<Recount> folio_;
    const Vma* private_in_ = nullptr;  // where the last kPrivate entry was
    u64* homed_there_ = nullptr;
};

}  // namespace

void Machine::State::validate() {
    Recounting recount(model, store, folios, anon_pgoff_apart, facts.kernel, needs);
    Live live;
    std::unordered_map<const AddressSpace*, u32> users;
    for (const u32 slot : process_slot)
        if (slot) users[processes[slot - 1].mm] += processes[slot - 1].tasks;
    std::unordered_map<const AddressSpace*, u32> waiting;
    for (const DyingMm& each : dying) ++waiting[each.mm];
    for (const ForkedMm& each : forked) {
        ++waiting[each.mm];
        if (each.mm->exited != ExitStep::none) broken(describe(*each.mm) + " was never used");
    }
    u32 serial = 0;
    for (const auto& mm : mms) {
        if (mm->serial <= serial) broken(describe(*mm) + " is out of order");
        serial = mm->serial;
        if (users[mm.get()] != mm->users) broken(describe(*mm) + ": users is wrong");
        // Without users it is dying, or fork is not done with it.
        if (waiting[mm.get()] != (mm->users ? 0 : 1)) broken(describe(*mm) + " waits for nothing");
        if (mm->users && mm->exited != ExitStep::none) broken(describe(*mm) + " lives unmapped");
        recount.mm(*mm);
        live.mms.push_back(mm.get());
    }
    if (users.size() != mms.size() || waiting.size() != mms.size()) broken("an mm that is gone");
    recount.folios();
    if (recount.vmas != costs.live[kVmAreaStruct]) broken("the ledger miscounts VMAs");
    if (recount.anon_ptes != anon_ptes) broken("anon_ptes is wrong");
    if (recount.private_pages != private_pages) broken("private_pages is wrong");
    if (recount.leaves != store.leaves.live()) broken("page tables that no mm has");
    if (recount.groups != store.groups.live()) broken("groups of entries that no page table has");
    live.homed = std::move(recount.homed);
    model.validate(live);
    if (timeline) validate_timeline();
}

void Machine::State::verify() {
    validate();
    ++totals.verified;
    next_verify = totals.events + verify_period;
}

std::vector<AnonMapping> Machine::State::anon_mappings() {
    std::vector<AnonMapping> all;
    std::unordered_map<Pte, u64> name;
    for (const auto& mm : mms)
        mm->pages.for_each_leaf(
            store, 0, ~u64{0}, [&](PteLeaf& leaf, u64 base, unsigned, unsigned) {
                const auto add = [&](u64 addr, Pte pte) {
                    if (!is_anon(pte)) return;
                    const u64 own = u64{mm->serial} << 36 | addr >> kPageShift;
                    all.push_back({mm->serial, addr,
                                   pte == kPrivate ? own : name.emplace(pte, own).first->second});
                };
                if (leaf.huge)
                    for (unsigned page = 0; page < 512; ++page)
                        add(base + u64{page} * kPageSize, leaf.huge);
                else
                    PageTable::for_each_page(store, leaf, 0, 512, [&](unsigned page, Pte pte) {
                        add(base + u64{page} * kPageSize, pte);
                    });
            });
    return all;
}

// ---- Machine ----

void Machine::validate() const { state_->validate(); }
void Machine::walk_all(WalkKind kind) { state_->scan(kind); }
std::vector<AnonMapping> Machine::anon_mappings() const { return state_->anon_mappings(); }

std::vector<const Mm*> Machine::mms() const {
    std::vector<const Mm*> all;
    for (const auto& mm : state_->mms) all.push_back(mm.get());
    return all;
}

const Mm* Machine::mm_of(i32 pid) const {
    const Process* process = state_->find_process(pid);
    return process ? process->mm : nullptr;
}

}  // namespace rmapreplay
