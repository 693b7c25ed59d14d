// SPDX-License-Identifier: GPL-2.0-only
// A tiny machine to try models on without the real one: it makes the calls that mm/vma.c makes, and
// keeps a naive truth (one map of all PTEs) to hold walks against.
#pragma once

#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "rmap_models/native/invariant.hpp"
#include "rmap_models/native/model.hpp"

namespace bench {

using namespace rmapreplay;

inline constexpr u64 kRw = VM_READ | VM_WRITE | VM_MAYREAD | VM_MAYWRITE | VM_MAYEXEC | VM_ACCOUNT;

struct Page {
    u64 index = 0;
    Home home = 0;
    u32 mapcount = 1;
    bool exclusive = true;  // PageAnonExclusive
};

// What one walk did.
struct Walked {
    std::vector<const Vma*> visited;
    std::vector<const Mm*> mms;  // of each visit
    u32 hits = 0;
    u32 misses = 0;
    std::array<u64, kMaxCounters> counters{};
};

class Bench {
  public:
    explicit Bench(std::string_view name, Kernel kernel = Kernel::v7_3) {
        const ModelEntry* entry = find_model(name);
        if (!entry) throw std::invalid_argument("no such model");
        costs.op = &op;
        model = entry->make(ModelParams{kernel, {}}, costs);
    }

    // Addresses and lengths are in pages throughout.
    Mm& exec() {
        Mm& mm = new_mm();
        model->mm_init(mm);
        return mm;
    }
    Vma& mmap(Mm& mm, u64 at, u64 pages, u64 flags = kRw) { return map(mm, at, pages, at, flags); }
    // A private mapping whose offsets say something else than its address.
    Vma& map(Mm& mm, u64 at, u64 pages, u64 anon_pgoff, u64 flags = kRw, u32 file = 0) {
        Vma& vma = new_vma(mm);
        vma.start = at << kPageShift;
        vma.end = (at + pages) << kPageShift;
        vma.pgoff = vma.anon_pgoff = anon_pgoff;
        vma.flags = flags;
        vma.file = file;
        mm.vmas.insert(&vma);
        return vma;
    }
    Vma& at(Mm& mm, u64 page) {
        Vma* vma = mm.vmas.lookup(page << kPageShift);
        if (!vma) throw std::logic_error("nothing mapped there");
        return *vma;
    }

    // do_anonymous_page() and do_wp_page()
    void write(Mm& mm, u64 page) {
        Vma& vma = at(mm, page);
        if (!vma.anon_vma) model->anon_vma_prepare(vma);
        auto& pte = ptes_[{&mm, page}];
        if (pte && pte->mapcount > 1) {
            drop(pte);
            pte = nullptr;
        }
        const Home home = model->home(vma);
        if (!pte) {
            pte = std::make_shared<Page>();
            pte->index = vma.index_at(page << kPageShift);
            pte->home = home;
            model->folios_homed(home, 1);
        } else if (!pte->exclusive) {  // folio_move_anon_rmap()
            model->folios_homed(home, 1);
            model->folios_unhomed(pte->home, 1);
            pte->home = home;
            pte->exclusive = true;
        }
    }
    void write(Mm& mm, u64 page, u64 n) {
        for (u64 i = 0; i < n; ++i) write(mm, page + i);
    }

    Mm& fork(Mm& parent) {
        Mm& child = new_mm();
        model->mm_fork_begin(child, parent);
        for (std::size_t i = 0; i < parent.vmas.size(); ++i) {
            const Vma& from = *parent.vmas.at(i);
            Vma& vma = dup(from, child);
            vma.anon_vma = nullptr;
            if (from.anon_vma) model->anon_vma_fork(vma, from);
            child.vmas.append(&vma);
        }
        std::vector<std::pair<u64, std::shared_ptr<Page>>> copies;
        for (auto it = ptes_.lower_bound({&parent, 0});
             it != ptes_.end() && it->first.first == &parent; ++it) {
            ++it->second->mapcount;
            it->second->exclusive = false;
            copies.emplace_back(it->first.second, it->second);
        }
        for (auto& [page, pte] : copies) ptes_[{&child, page}] = pte;
        model->mm_fork_end(child, parent);
        return child;
    }

    // __split_vma(): the new VMA, below or above `page`.
    Vma& split(Vma& vma, u64 page, bool new_below) {
        const u64 addr = page << kPageShift, delta = (addr - vma.start) >> kPageShift;
        Vma& fresh = dup(vma, *vma.mm);
        Vma& upper = new_below ? vma : fresh;
        if (new_below) {
            fresh.end = addr;
        } else {
            fresh.start = addr;
            fresh.pgoff += delta;
            fresh.anon_pgoff += delta;
        }
        if (vma.anon_vma) model->anon_vma_clone(fresh, vma, CloneFor::split);
        if (vma.anon_vma) model->pre_update_vma(vma);
        if (&upper == &vma) {
            vma.start = addr;
            vma.pgoff += delta;
            vma.anon_pgoff += delta;
        } else {
            resize_end(vma, addr);
        }
        vma.mm->vmas.insert(&fresh);
        if (vma.anon_vma) model->post_update_vma(vma);
        return fresh;
    }

    void munmap(Mm& mm, u64 page, u64 pages) {
        const u64 start = page << kPageShift, end = (page + pages) << kPageShift;
        cut(mm, page);
        cut(mm, page + pages);
        for (u64 i = 0; i < pages; ++i) zap(mm, page + i);
        std::vector<Vma*> gone;
        for (std::size_t i = mm.vmas.lower(start); i < mm.vmas.size(); ++i)
            if (mm.vmas.at(i)->start < end) gone.push_back(mm.vmas.at(i));
        for (Vma* vma : gone)
            if (vma->anon_vma) model->unlink_anon_vmas(*vma);
        for (Vma* vma : gone) remove(*vma);
    }

    // can_vma_merge_after() for two neighbours that differ in nothing else.
    bool mergeable(const Vma& prev, const Vma& next) const {
        if (prev.end != next.start || prev.flags != next.flags || prev.file != next.file)
            return false;
        if (prev.anon_pgoff + prev.pages() != next.anon_pgoff) return false;
        if (!prev.anon_vma != !next.anon_vma) {
            const Vma& faulted = prev.anon_vma ? prev : next;
            return !model->vma_is_fork_child(faulted);
        }
        return prev.anon_vma == next.anon_vma;
    }
    // commit_merge(): prev takes next's range.
    void merge(Vma& prev, Vma& next) {
        if (!mergeable(prev, next)) throw std::logic_error("not mergeable");
        if (!prev.anon_vma && next.anon_vma) {
            prev.anon_vma = next.anon_vma;
            model->anon_vma_clone(prev, next, CloneFor::merge_unfaulted);
        }
        if (prev.anon_vma) model->pre_update_vma(prev);
        prev.mm->vmas.erase(&next);
        resize_end(prev, next.end);
        if (prev.anon_vma) model->post_update_vma(prev);
        if (next.anon_vma) model->unlink_anon_vmas(next);
        vmas_.erase(&next);
    }
    // The boundary between two VMAs of equal anon_vma moves to `page` (mprotect's cases 4 and 5).
    void move_boundary(Vma& prev, Vma& next, u64 page) {
        const u64 addr = page << kPageShift;
        const u64 delta = static_cast<u64>((static_cast<i64>(addr - next.start)) >> kPageShift);
        model->pre_update_vma(prev);
        model->pre_update_vma(next);
        next.start = addr;
        next.pgoff += delta;
        next.anon_pgoff += delta;
        resize_end(prev, addr);
        model->post_update_vma(prev);
        model->post_update_vma(next);
    }
    // expand_downwards()
    void grow_down(Vma& vma, u64 pages) {
        if (!vma.anon_vma) model->anon_vma_prepare(vma);
        model->pre_update_vma(vma);
        vma.start -= pages << kPageShift;
        vma.pgoff -= pages;
        vma.anon_pgoff -= pages;
        model->post_update_vma(vma);
    }

    // move_vma(): a faulted VMA keeps its offsets, an unfaulted one takes those of the new place.
    Vma& mremap(Mm& mm, u64 page, u64 pages, u64 to, bool dontunmap = false) {
        Vma& source = at(mm, page);
        Vma& copy = dup(source, mm);
        copy.start = to << kPageShift;
        copy.end = (to + pages) << kPageShift;
        copy.anon_pgoff = source.anon_vma ? source.index_at(page << kPageShift) : to;
        copy.pgoff = copy.anon_pgoff;
        if (source.anon_vma) model->anon_vma_clone(copy, source, CloneFor::remap);
        mm.vmas.insert(&copy);
        for (u64 i = 0; i < pages; ++i) {
            const auto it = ptes_.find({&mm, page + i});
            if (it == ptes_.end()) continue;
            ptes_[{&mm, to + i}] = it->second;
            ptes_.erase(it);
        }
        if (!dontunmap) {
            munmap(mm, page, pages);
        } else if (source.anon_vma && source.start == page << kPageShift &&
                   source.pages() == pages) {
            model->unlink_anon_vmas(source);
            source.anon_pgoff = source.pgoff = page;
        }
        return copy;
    }

    void exit(Mm& mm) {
        while (true) {
            const auto it = ptes_.lower_bound({&mm, 0});
            if (it == ptes_.end() || it->first.first != &mm) break;
            zap(mm, it->first.second);
        }
        for (std::size_t i = 0; i < mm.vmas.size(); ++i)
            if (mm.vmas.at(i)->anon_vma) model->unlink_anon_vmas(*mm.vmas.at(i));
        while (!mm.vmas.empty()) remove(*mm.vmas.at(mm.vmas.size() - 1));
        model->mm_exit(mm);
        std::erase_if(mms_, [&](const auto& p) { return p.get() == &mm; });
    }

    // The page at `page` of mm. Without `stop` the walk runs to its end, as WalkKind::all.
    Walked walk(const Mm& mm, u64 page, bool stop = false) {
        const auto it = ptes_.find({const_cast<Mm*>(&mm), page});
        if (it == ptes_.end()) throw std::logic_error("no page there");
        return walk_page(*it->second, stop);
    }
    bool has_page(Mm& mm, u64 page) const { return ptes_.count({&mm, page}) != 0; }
    // Walks every page there is, both ways, and returns how many mappings were missed.
    u32 misses() {
        u32 n = 0;
        std::map<const Page*, bool> done;
        for (const auto& [where, page] : ptes_)
            if (!std::exchange(done[page.get()], true))
                n += walk_page(*page, false).misses + walk_page(*page, true).misses;
        return n;
    }

    Live live() const {
        Live all;
        for (const auto& mm : mms_) all.mms.push_back(mm.get());
        std::map<const Page*, bool> counted;
        for (const auto& [where, page] : ptes_)
            if (!std::exchange(counted[page.get()], true)) ++all.homed[page->home];
        return all;
    }
    void validate() const { model->validate(live()); }
    // The first invariant that validate() finds broken, or "".
    std::string broken() const {
        try {
            validate();
        } catch (const BrokenInvariant& invariant) {
            return invariant.what();
        }
        return "";
    }
    std::size_t processes() const { return mms_.size(); }
    Mm& process(std::size_t i) { return *mms_[i]; }
    void new_op() { op = OpCosts{}; }

    OpCosts op;
    Costs costs;
    std::unique_ptr<RmapModel> model;

  private:
    class PageWalk final : public Walk {
      public:
        PageWalk(const Bench& bench, const Page& page, bool stop)
            : bench_(bench), page_(page), stop_(stop) {}
        bool visit(const Vma& vma) override {
            seen.visited.push_back(&vma);
            seen.mms.push_back(vma.mm);
            if (page_.index < vma.anon_pgoff || page_.index > vma.last_index())
                throw std::logic_error("a walk offered a VMA that does not cover the folio");
            const auto it = bench_.ptes_.find({vma.mm, vma.address_of(page_.index) >> kPageShift});
            if (it != bench_.ptes_.end() && it->second.get() == &page_) {
                if (!hits_.insert({it->first, true}).second)
                    throw std::logic_error("a walk offered a VMA twice");
                ++seen.hits;
                ++found;
            }
            return !(stop_ && found >= folio.mapcount);
        }
        Walked seen;

      private:
        const Bench& bench_;
        const Page& page_;
        bool stop_;
        std::map<std::pair<Mm*, u64>, bool> hits_;
    };

    Walked walk_page(const Page& page, bool stop) {
        PageWalk walk(*this, page, stop);
        walk.folio = {page.index, 1, page.mapcount, page.home, page.exclusive};
        model->rmap_walk(walk);
        walk.seen.misses = page.mapcount - walk.seen.hits;
        walk.seen.counters = walk.counters;
        return std::move(walk.seen);
    }
    Mm& new_mm() {
        mms_.push_back(std::make_unique<Mm>());
        mms_.back()->serial = ++serial_;
        return *mms_.back();
    }
    Vma& new_vma(Mm& mm) {
        auto vma = std::make_unique<Vma>();
        vma->mm = &mm;
        vma->serial = ++serial_;
        Vma& made = *vma;
        vmas_[&made] = std::move(vma);
        return made;
    }
    Vma& dup(const Vma& from, Mm& mm) {
        Vma& vma = new_vma(mm);
        const u32 serial = vma.serial;
        vma = from;
        vma.mm = &mm;
        vma.serial = serial;
        vma.chain = nullptr;
        return vma;
    }
    void resize_end(Vma& vma, u64 end) {
        vma.mm->vmas.set_end(vma.mm->vmas.index_of(&vma), end);
        vma.end = end;
    }
    void cut(Mm& mm, u64 page) {
        Vma* vma = mm.vmas.lookup(page << kPageShift);
        if (vma && vma->start != page << kPageShift) split(*vma, page, true);
    }
    void remove(Vma& vma) {
        vma.mm->vmas.erase(&vma);
        vmas_.erase(&vma);
    }
    void drop(std::shared_ptr<Page>& page) {
        if (--page->mapcount == 0) model->folios_unhomed(page->home, 1);
    }
    void zap(Mm& mm, u64 page) {
        const auto it = ptes_.find({&mm, page});
        if (it == ptes_.end()) return;
        drop(it->second);
        ptes_.erase(it);
    }

    std::map<std::pair<Mm*, u64>, std::shared_ptr<Page>> ptes_;
    std::vector<std::unique_ptr<Mm>> mms_;
    std::map<Vma*, std::unique_ptr<Vma>> vmas_;
    u32 serial_ = 0;
};

}  // namespace bench
