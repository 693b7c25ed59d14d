// SPDX-License-Identifier: GPL-2.0-only
#include "traces/native/tracefs_walks.hpp"

namespace rmapreplay {
namespace {

constexpr u64 kPageSize = 4096;
constexpr u8 kPmdOrder = 9;
constexpr u64 kPmdSize = kPageSize << kPmdOrder;

// enum pageflags, include/linux/page-flags.h
constexpr u64 PG_swapcache = 1u << 10;
constexpr u64 PG_swapbacked = 1u << 17;
constexpr u64 PG_hwpoison = 1u << 20;

// Whether try_to_unmap_one() leaves swap entries. Of lazily freed pages (MADV_FREE) it leaves
// nothing, of poisoned ones outside the swap cache what kills whoever comes across it.
bool swaps_out(u64 flags) {
    if ((flags & PG_swapbacked) == 0) return false;
    return (flags & PG_hwpoison) == 0 || (flags & PG_swapcache) != 0;
}

}  // namespace

u8 folio_order(u64 flags, u64 flags_1) {
    constexpr u64 PG_head = 1u << 6;  // only then _flags_1 holds the order
    return (flags & PG_head) != 0 ? static_cast<u8>(flags_1 & 0xff) : u8{0};
}

TracefsWalks::Walk* TracefsWalks::of(i32 tid) {
    if (tid == last_tid_) return last_;
    auto it = open_.find(tid);
    last_tid_ = tid;
    last_ = it == open_.end() ? nullptr : &walks_[it->second - first_];
    return last_;
}

void TracefsWalks::begin(i64 time, i32 tid, u64 flags, u64 flags_1) {
    if (Walk* before = of(tid)) drop(*before, "walk_end_not_seen");
    open_[tid] = first_ + walks_.size();
    Walk& walk = walks_.emplace_back();
    walk.time = time;
    walk.tid = tid;
    walk.flags = flags;
    walk.order = folio_order(flags, flags_1);
    walk.place = timeline_.reserve(time);
    last_tid_ = tid;
    last_ = &walk;
}

void TracefsWalks::iterated(i32 tid, bool more) {
    if (Walk* walk = of(tid)) walk->exhausted = !more;
}

void TracefsWalks::visit(i32 tid, RmapOne one, const Visited& visited) {
    Walk* walk = of(tid);
    if (!walk) {
        dropped_.add("visit_outside_anon_walk");  // of a file's or KSM folio
        return;
    }
    walk->one = one;
    walk->visits.push_back({visited});
}

void TracefsWalks::page_checked(i32 tid, u64 vma, u64 addr, bool found) {
    Visit* visit = visited(of(tid), vma);
    if (!visit) return;
    visit->open = found;
    if (!found) return;
    visit->last_addr = addr;
    if (visit->found++ == 0) visit->first_addr = addr;
}

// The VMA that the walk is at, if it is this one.
TracefsWalks::Visit* TracefsWalks::visited(Walk* walk, u64 vma) {
    if (!walk || walk->visits.empty() || walk->visits.back().vma != vma) return nullptr;
    return &walk->visits.back();
}

void TracefsWalks::removed(i64 time, i32 tid, u64 vma, u64 pages) {
    removals_seen_ = true;
    Walk* walk = of(tid);
    Visit* visit = visited(walk, vma);
    if (!visit || !visit->open || walk->one != RmapOne::try_to_unmap) return;
    take(time, *walk, *visit, pages * kPageSize);
}

// try_to_migrate_one() of Linux 6.12, on behalf of split_huge_page(), makes a huge entry migration
// entries before it looks for the folio, and then finds it no more.
void TracefsWalks::pmd_removed(i32 tid, u64 vma) {
    Walk* walk = of(tid);
    Visit* visit = visited(walk, vma);
    if (!visit || visit->found > 0 || walk->one != RmapOne::try_to_migrate) return;
    visit->found = 1;
    visit->first_addr = visit->addr;
}

// Linux 6.12 discards a lazily freed huge page whole (unmap_huge_pmd_locked()), which nothing but
// success tells: had the page been split, more entries would have been looked at.
void TracefsWalks::unmapped(i64 time, i32 tid, u64 vma, bool success) {
    Walk* walk = of(tid);
    Visit* visit = visited(walk, vma);
    if (!visit || !visit->open || !success || walk->one != RmapOne::try_to_unmap) return;
    if (walk->order != kPmdOrder || !removals_seen_) return;
    visit->last_addr &= ~(kPmdSize - 1);
    take(time, *walk, *visit, kPmdSize);
}

// Reclaim took the entries: a row of its own, whatever becomes of the walk's.
void TracefsWalks::take(i64 time, const Walk& walk, Visit& visit, u64 len) {
    visit.open = false;
    if (!visit.mm || visit.mm->state != TracefsMm::State::live) {
        dropped_.add("swap_out_of_other_process");
        return;
    }
    Event row;
    row.time = time;
    row.op = swaps_out(walk.flags) ? Op::swap_out : Op::discard;
    row.pid = visit.mm->pid;
    row.tid = visit.mm->pid;
    row.addr = visit.last_addr;
    row.len = len;
    timeline_.push(row);
}

// The row needs a mapping of the folio by which a replay finds it.
bool TracefsWalks::make_row(const Walk& walk, Event& row) {
    row.op = Op::walk;
    row.order = walk.order;
    switch (walk.one) {
        case RmapOne::none: dropped_.add("walk_without_visit"); return false;
        case RmapOne::folio_referenced: row.kind = WalkKind::referenced; break;
        case RmapOne::try_to_unmap: row.kind = WalkKind::unmap; break;
        case RmapOne::try_to_migrate: row.kind = WalkKind::migrate; break;
        case RmapOne::remove_migration_pte:
        case RmapOne::damon_mkold: row.kind = WalkKind::all; break;
        case RmapOne::damon_young:
            // It ends at the first mapping that was used, which no other kind of walk does.
            if (!walk.exhausted) {
                dropped_.add("walk_of_damon_stopped");
                return false;
            }
            row.kind = WalkKind::all;
            break;
    }
    bool found = false;
    for (const Visit& visit : walk.visits) {
        if (visit.found == 0) continue;
        found = true;
        if (!visit.mm || visit.mm->pid == 0) continue;
        row.pid = visit.mm->pid;
        row.tid = visit.mm->pid;
        row.addr = visit.first_addr;
        return true;
    }
    dropped_.add(found ? "walk_of_other_process" : "walk_without_mapping");
    return false;
}

void TracefsWalks::end(i32 tid) {
    Walk* walk = of(tid);
    if (!walk) return;
    Event row;
    if (!make_row(*walk, row)) {
        timeline_.cancel(walk->place);
    } else if (timeline_.fill(walk->place, row)) {
        walk->kept = true;
    } else {
        dropped_.add("returned_too_late");
    }
    walk->done = true;
    open_.erase(tid);
    last_ = nullptr;
    drain();
}

void TracefsWalks::drop(Walk& walk, std::string_view reason) {
    dropped_.add(reason);
    timeline_.cancel(walk.place);
    walk.done = true;
    open_.erase(walk.tid);
    last_tid_ = -1;
    drain();
}

void TracefsWalks::drain() {
    while (!walks_.empty() && walks_.front().done) {
        if (walks_.front().kept) write_visits(walks_.front());
        walks_.pop_front();
        ++first_;
    }
}

void TracefsWalks::write_visits(const Walk& walk) {
    const u32 number = rows_++;
    for (std::size_t i = 0; i < walk.visits.size(); ++i) {
        const Visit& visit = walk.visits[i];
        TruthVisit row;
        row.time = walk.time;
        row.walk = number;
        row.visit = static_cast<u32>(i);
        row.pid = visit.mm ? visit.mm->pid : 0;
        row.start = visit.start;
        row.end = visit.end;
        row.found = visit.found;
        row.stopped = !walk.exhausted && i + 1 == walk.visits.size();
        truth_.append(row);
    }
}

void TracefsWalks::finish() {
    while (!open_.empty()) drop(walks_[open_.begin()->second - first_], "walk_end_not_seen");
}

}  // namespace rmapreplay
