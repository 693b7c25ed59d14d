// SPDX-License-Identifier: GPL-2.0-only
// Rmap walks: the machine's side of rmap_walk_anon() and its callbacks, and when walks happen.
#include <algorithm>
#include <charconv>
#include <limits>
#include <stdexcept>
#include <string>

#include "replay/native/state.hpp"

namespace rmapreplay {

namespace {

u64 folio_key(const AddressSpace& mm, u64 addr) {
    return u64{mm.serial} << 36 | addr >> kPageShift;
}

// splitmix64: the same numbers on every host.
u64 next_random(u64& state) {
    state += 0x9e3779b97f4a7c15u;
    u64 z = state;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

// Tests each offered VMA against the page tables: page_vma_mapped_walk() and what
// folio_referenced_one(), try_to_unmap_one() and try_to_migrate_one() tell the walk.
class PageWalk final : public Walk {
  public:
    PageWalk(PteStore& store, Pte target, const AddressSpace& owner, u64 owner_addr, WalkKind kind,
             std::vector<MappedAt>& hits)
        : store_(store),
          target_(target),
          owner_(&owner),
          owner_addr_(owner_addr),
          kind_(kind),
          hits_(hits) {
        hits_.clear();
    }

    bool visit(const Vma& vma) override {
        const u32 before = found;
        const Pte seen =
            folio.nr == 1 ? test_page(vma, vma.address_of(folio.index)) : test_range(vma);
        const u32 hits = found - before;
        ++record.visits;
        if (hits)
            ++record.hits;
        else if (is_anon(seen))
            ++record.useless_other;
        else
            ++record.useless_empty;
        if (visits)
            visits->push_back(VisitRecord{record.walk, record.visits - 1, vma.mm->serial,
                                          vma.mm->pid, vma.start, vma.end, vma.anon_pgoff, hits,
                                          record.levels, counters});
        record.stopped = kind_ != WalkKind::all &&
                         (found >= folio.mapcount ||
                          (kind_ == WalkKind::referenced && hits && (vma.flags & VM_LOCKED)));
        return !record.stopped;
    }

    WalkRecord record;
    std::vector<VisitRecord>* visits = nullptr;

  private:
    Pte test_page(const Vma& vma, u64 addr) {
        const auto& mm = static_cast<const AddressSpace&>(*vma.mm);
        const PteLeaf* leaf = mm.pages.leaf(store_, addr);
        record.levels += leaf && !leaf->huge ? 4 : 3;
        if (!leaf) return kNone;
        const Pte pte = PageTable::entry(store_, *leaf, PageTable::page_of(addr));
        if (pte == target_ && (pte != kPrivate || (&mm == owner_ && addr == owner_addr_)))
            hit(mm, addr);
        return pte;
    }
    Pte test_range(const Vma& vma) {
        const u64 first = std::max(folio.index, vma.anon_pgoff);
        const u64 last = std::min(folio.index + folio.nr - 1, vma.last_index());
        Pte seen = kNone;
        for (u64 index = first; index <= last; ++index) {
            const u64 addr = vma.address_of(index);
            const auto& mm = static_cast<const AddressSpace&>(*vma.mm);
            const PteLeaf* leaf = mm.pages.leaf(store_, addr);
            const bool huge = leaf && leaf->huge;
            const Pte pte = test_page(vma, addr);
            if (is_anon(pte)) seen = pte;
            // One PMD, or nothing at all, answers for the rest of its 2 MB.
            if (huge || !leaf) index += 511 - PageTable::page_of(addr);
        }
        return seen;
    }
    void hit(const Mm& mm, u64 addr) {
        ++found;
        hits_.emplace_back(&mm, addr);
    }

    PteStore& store_;
    Pte target_;
    const AddressSpace* owner_;
    u64 owner_addr_;
    WalkKind kind_;
    std::vector<MappedAt>& hits_;
};

}  // namespace

// vma_is_initial_heap(), and what the kernel's own stacks alone have.
MappingKind mapping_kind(const AddressSpace& mm, const Vma& vma) {
    if (vma.file) return MappingKind::file;
    if (vma.flags & VM_GROWSDOWN) return MappingKind::stack;
    const bool heap = vma.start < mm.heap_end && vma.end > mm.heap_start;
    return heap ? MappingKind::heap : MappingKind::anon;
}

WalkPolicy parse_walk_policy(std::string_view text) {
    const std::string given(text);
    const auto bad = [&](const std::string& why) {
        return std::invalid_argument("walks '" + given + "': " + why);
    };
    const auto number = [&](std::string_view digits) {
        u64 n = 0;
        const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), n);
        if (error != std::errc{} || end != digits.data() + digits.size() || digits.empty())
            throw bad("'" + std::string(digits) + "' is not a whole number");
        return n;
    };
    WalkPolicy policy;
    std::string_view when = text;
    if (const auto comma = text.find(','); comma != text.npos) {
        when = text.substr(0, comma);
        const std::string_view option = text.substr(comma + 1);
        if (!option.starts_with("kind=")) throw bad("only kind=... may follow the comma");
        const std::string_view kind = option.substr(5);
        const auto* known = std::find(kWalkKindNames.begin() + 1, kWalkKindNames.end(), kind);
        if (known == kWalkKindNames.end())
            throw bad("kind is one of referenced, unmap, migrate, all");
        policy.kind = static_cast<WalkKind>(known - kWalkKindNames.begin());
    }
    const auto colon = when.find(':');
    const std::string_view name = when.substr(0, colon);
    const std::string_view value = colon == when.npos ? "" : when.substr(colon + 1);
    using When = WalkPolicy::When;
    if (name == "none" || name == "end") {
        if (colon != when.npos) throw bad(std::string(name) + " takes no number");
        policy.when = name == "none" ? When::none : When::end;
        return policy;
    }
    if (name == "scan") {
        policy.when = When::scan;
        if (colon == when.npos) return policy;
        policy.n = number(value);
    } else if (name == "every" || name == "reclaim") {
        policy.when = name == "every" ? When::every : When::reclaim;
        policy.n = number(value);
    } else if (name == "sample") {
        policy.when = When::sample;
        const auto at = value.find('@');
        policy.n = number(value.substr(0, at));
        if (at != value.npos) policy.seed = number(value.substr(at + 1));
    } else {
        throw bad("one of scan:K, every:N, sample:N@seed, reclaim:N, end, none");
    }
    if (policy.n == 0) throw bad("the number must be at least 1");
    return policy;
}

// ---- one walk ----

void Machine::State::walk_page(AddressSpace& mm, u64 addr, Pte pte, const Vma& vma, WalkKind kind) {
    costs.op = &operations[static_cast<std::size_t>(Op::walk)];
    ++costs.op->calls;
    PageWalk walk(store, pte, mm, addr, kind, walk_hits);
    if (pte == kPrivate) {
        walk.folio.index = vma.index_at(addr);
        walk.folio.home = model.home(vma);
        walk.folio.exclusive = true;
    } else {
        const Folio& f = folio(pte);
        walk.folio = FolioView{f.index, u32{1} << f.order, f.mapcount, f.home, f.exclusive != 0};
        walk.record.order = static_cast<u8>(f.order);
    }
    WalkRecord& r = walk.record;
    r.walk = totals.walks++;
    r.seq = seq;
    r.kind = kind;
    r.folio = folio_key(mm, addr);
    r.pid = mm.pid;
    r.mapping = mapping_kind(mm, vma);
    r.fork_depth = mm.fork_depth;
    r.mapcount = walk.folio.mapcount;
    walk_visits.clear();
    const bool told = r.walk == told_walk;
    if (visits_recorded || told) walk.visits = &walk_visits;
    model.rmap_walk(walk);
    r.counters = walk.counters;
    if (!r.stopped && walk.found < r.mapcount) r.misses = r.mapcount - walk.found;
    totals.visits += r.visits;
    totals.hits += r.hits;
    totals.useless += r.visits - r.hits;
    totals.misses += r.misses;
    recorder.walk(r);
    if (timeline) timeline->walk(r, walk.folio, pte, mm, addr);
    if (visits_recorded)
        for (const VisitRecord& v : walk_visits) recorder.visit(v);
    if (r.misses) report_misses(r, pte, mm, addr);
    if (!told) return;
    tell_walk(r, walk.folio, pte, mm, addr);
    throw WalkReached{};
}

// A recorded walk counts and changes nothing. What try_to_unmap() took away has rows of its own
// (swap_out, discard). try_to_migrate() and remove_migration_ptes() put the same mappings back, of
// a folio that has taken over index, home and exclusivity (__folio_migrate_mapping()).
void Machine::State::recorded_walk(const Event& e) {
    const u64 addr = page_down(e.addr);
    AddressSpace* mm = mm_mapping(e.pid, addr);
    if (!mm) return;
    const Vma* vma = mm->vmas.lookup(addr);
    Pte pte = mm->pages.get(store, addr);
    if (!vma || !is_anon(pte)) {
        anomaly(Anomaly::walk_no_folio);
        return;
    }
    // Smaller than what was faulted in: the kernel has split it since.
    const bool order_known = e.order || facts.orders;
    if (order_known && is_folio(pte) && e.order < folio(pte).order) {
        split_folio(pte, e.order);
        pte = mm->pages.get(store, addr);
    }
    if (policy.recorded) walk_page(*mm, addr, pte, *vma, e.kind);
}

// ---- when ----

void Machine::State::plan_walks() {
    using When = WalkPolicy::When;
    constexpr u64 never = std::numeric_limits<u64>::max();
    switch (policy.when) {
        case When::none:
        case When::end: next_walk = never; break;
        case When::scan:
            // K points that cut the trace into K + 1 equal parts.
            next_walk =
                scans_done < policy.n
                    ? std::max<u64>(1, static_cast<u64>(static_cast<unsigned __int128>(facts.rows) *
                                                        (scans_done + 1) / (policy.n + 1)))
                    : never;
            break;
        case When::every:
        case When::reclaim: next_walk = totals.events + policy.n; break;
        case When::sample:
            if (totals.events == 0 && facts.rows) {
                random = policy.seed;
                for (u64 i = 0; i < policy.n; ++i)
                    sample_at.push_back(1 + next_random(random) % facts.rows);
                std::sort(sample_at.begin(), sample_at.end());
            }
            next_walk = sample_next < sample_at.size() ? sample_at[sample_next] : never;
            break;
    }
}

void Machine::State::policy_walks() {
    using When = WalkPolicy::When;
    while (totals.events >= next_walk) {
        switch (policy.when) {
            case When::scan:
                ++scans_done;
                scan(policy.kind);
                break;
            case When::every: scan(policy.kind); break;
            case When::reclaim: reclaim_step(); break;
            case When::sample:
                ++sample_next;
                sample_walk();
                break;
            case When::none:
            case When::end: break;
        }
        plan_walks();
    }
}

// Every live anonymous folio once, by mm in order of creation, then by address.
void Machine::State::scan(WalkKind kind) {
    folios.unmark_all();
    for (const auto& mm : mms)
        for (std::size_t i = 0; i < mm->vmas.size(); ++i) {
            const Vma& vma = *mm->vmas.at(i);
            if (!vma.anon_vma) continue;
            mm->pages.for_each_leaf(store, vma.start, vma.end,
                                    [&](PteLeaf& leaf, u64 base, unsigned first, unsigned last) {
                                        const auto walk = [&](u64 addr, Pte pte) {
                                            if (!is_anon(pte)) return;
                                            if (is_folio(pte)) {
                                                if (folio(pte).marked) return;
                                                folio(pte).marked = 1;
                                            }
                                            walk_page(*mm, addr, pte, vma, kind);
                                        };
                                        if (leaf.huge)
                                            walk(base, leaf.huge);
                                        else
                                            PageTable::for_each_page(
                                                store, leaf, first, last,
                                                [&](unsigned page, Pte pte) {
                                                    walk(base + u64{page} * kPageSize, pte);
                                                });
                                    });
        }
}

// The clock hand goes on to the next folio it has not passed in this round. Where a page that is
// exclusive was passed, the hand's own place tells; it is marked when fork shares it.
void Machine::State::reclaim_step() {
    if (!anon_ptes) return;
    for (int rounds = 0; rounds < 2; ++rounds) {
        auto it = std::lower_bound(mms.begin(), mms.end(), hand_mm,
                                   [](const auto& mm, u32 serial) { return mm->serial < serial; });
        for (; it != mms.end(); ++it) {
            AddressSpace& mm = **it;
            const u64 from = mm.serial == hand_mm ? hand_addr : 0;
            u64 found_at = 0;
            Pte found = kNone;
            mm.pages.for_each_leaf(
                store, from, kTaskSize, [&](PteLeaf& leaf, u64 base, unsigned first, unsigned) {
                    if (found) return;
                    const auto consider = [&](u64 addr, Pte pte) {
                        if (found || !is_anon(pte)) return;
                        if (is_folio(pte) && !(folio(pte).exclusive && folio(pte).order == 0)) {
                            if (folio(pte).marked) return;
                            folio(pte).marked = 1;
                        }
                        found = pte;
                        found_at = addr;
                    };
                    if (leaf.huge)
                        consider(base, leaf.huge);
                    else
                        PageTable::for_each_page(store, leaf, first, 512,
                                                 [&](unsigned page, Pte pte) {
                                                     consider(base + u64{page} * kPageSize, pte);
                                                 });
                });
            if (found) {
                hand_mm = mm.serial;
                hand_addr = found_at + kPageSize;
                walk_page(mm, found_at, found, *mm.vmas.lookup(found_at), policy.kind);
                return;
            }
        }
        hand_mm = 0;
        hand_addr = 0;
        folios.unmark_all();
    }
}

// A page drawn evenly from all entries that map anonymous folios.
void Machine::State::sample_walk() {
    if (!anon_ptes) return;
    u64 left = next_random(random) % anon_ptes;
    for (const auto& mm : mms) {
        if (left >= mm->anon_ptes) {
            left -= mm->anon_ptes;
            continue;
        }
        u64 found_at = 0;
        Pte found = kNone;
        mm->pages.for_each_leaf(
            store, 0, kTaskSize, [&](PteLeaf& leaf, u64 base, unsigned, unsigned) {
                if (found) return;
                const auto consider = [&](u64 addr, Pte pte) {
                    if (found || !is_anon(pte)) return;
                    if (left-- == 0) {
                        found = pte;
                        found_at = addr;
                    }
                };
                if (leaf.huge)
                    consider(base, leaf.huge);
                else
                    PageTable::for_each_page(store, leaf, 0, 512, [&](unsigned page, Pte pte) {
                        consider(base + u64{page} * kPageSize, pte);
                    });
            });
        walk_page(*mm, found_at, found, *mm->vmas.lookup(found_at), policy.kind);
        return;
    }
}

}  // namespace rmapreplay
