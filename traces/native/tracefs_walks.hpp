// SPDX-License-Identifier: GPL-2.0-only
// Recorded rmap walks of anonymous folios, put together from their probes: the walk row, which VMAs
// the kernel visited for it, and which entries try_to_unmap() took.
#pragma once

#include <deque>
#include <unordered_map>
#include <vector>

#include "traces/native/tally.hpp"
#include "traces/native/timeline.hpp"
#include "traces/native/tracefs_mms.hpp"
#include "traces/native/tracefs_truth.hpp"

namespace rmapreplay {

// Which rmap_one() a walk called.
enum class RmapOne : u8 {
    none,
    folio_referenced,
    try_to_unmap,
    try_to_migrate,
    remove_migration_pte,
    damon_mkold,
    damon_young,
};

// From a folio's flags and _flags_1.
u8 folio_order(u64 flags, u64 flags_1);

// A VMA that a walk came to.
struct Visited {
    u64 vma;
    const TracefsMm* mm;  // nullptr: of no traced process
    u64 start;
    u64 end;
    u64 addr;  // where the folio, or what of it lies in the VMA, would be
};

class TracefsWalks {
  public:
    TracefsWalks(Timeline& timeline, TruthTables& truth, Tally& dropped)
        : timeline_(timeline), truth_(truth), dropped_(dropped) {}

    // Of the walk that task `tid` is in; what belongs to no walk is counted and dropped.
    // `flags`, `flags_1`: the folio's.
    void begin(i64 time, i32 tid, u64 flags, u64 flags_1);
    void iterated(i32 tid, bool more);  // the tree gave another interval, or none
    void visit(i32 tid, RmapOne one, const Visited& visited);
    void page_checked(i32 tid, u64 vma, u64 addr, bool found);
    // folio_remove_rmap_ptes(): the entries of the page found last are gone.
    void removed(i64 time, i32 tid, u64 vma, u64 pages);
    // folio_remove_rmap_pmd(): the huge entry is gone.
    void pmd_removed(i32 tid, u64 vma);
    // The return of try_to_unmap_one().
    void unmapped(i64 time, i32 tid, u64 vma, bool success);
    void end(i32 tid);
    bool in_walk(i32 tid) { return of(tid) != nullptr; }
    // Gives up the walks that are still open.
    void finish();

  private:
    struct Visit : Visited {
        u32 found = 0;
        u64 first_addr = 0;  // where it was first found
        u64 last_addr = 0;  // where it was last found
        bool open = false;  // not known yet what became of that
    };
    struct Walk {
        i64 time = 0;
        i32 tid = 0;
        u64 flags = 0;
        u8 order = 0;
        RmapOne one = RmapOne::none;
        bool exhausted = false;  // the tree gave all it had
        bool done = false;  // ended or dropped
        bool kept = false;  // has a row
        Timeline::Place place = 0;
        std::vector<Visit> visits;
    };

    Walk* of(i32 tid);
    static Visit* visited(Walk* walk, u64 vma);
    bool make_row(const Walk& walk, Event& row);
    void take(i64 time, const Walk& walk, Visit& visit, u64 len);
    void drop(Walk& walk, std::string_view reason);
    void write_visits(const Walk& walk);
    void drain();

    Timeline& timeline_;
    TruthTables& truth_;
    Tally& dropped_;
    std::deque<Walk> walks_;  // in order of their beginning, as their rows will be
    u64 first_ = 0;  // number of walks_.front()
    std::unordered_map<i32, u64> open_;  // tid -> number
    i32 last_tid_ = -1;
    Walk* last_ = nullptr;
    u32 rows_ = 0;
    bool removals_seen_ = false;  // of any page: the capture has the probe
};

}  // namespace rmapreplay
