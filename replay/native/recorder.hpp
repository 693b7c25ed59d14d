// SPDX-License-Identifier: GPL-2.0-only
// What a replay reports as it goes. The machine fills the records; whoever listens turns them into
// tables.
#pragma once

#include <array>
#include <string_view>

#include "rmap_models/native/model.hpp"

namespace rmapreplay {

// What kind of VMA a folio was found in, as /proc/PID/maps tells them apart.
enum class MappingKind : u8 { anon, heap, stack, file };
inline constexpr std::array<std::string_view, 4> kMappingKindNames = {"anon", "heap", "stack",
                                                                      "file"};

// One rmap walk under one model.
struct WalkRecord {
    u64 walk = 0;   // number of the walk in this replay, from 0; equal across models
    u64 seq = 0;    // row of the trace after which (or at which) it happened
    WalkKind kind = WalkKind::referenced;
    u64 folio = 0;  // mm serial << 36 | virtual page, of the mapping the walk found the folio by
    i32 pid = 0;  // of that mm
    MappingKind mapping = MappingKind::anon;  // that of the VMA there
    u16 fork_depth = 0;  // of that mm: forks since its exec, or since it was first seen
    u8 order = 0;
    u32 mapcount = 0;  // PTEs that map it
    u32 visits = 0;    // VMAs offered
    u32 hits = 0;      // visits that found the folio
    u32 useless_empty = 0;  // visits that found nothing mapped there
    u32 useless_other = 0;  // visits that found another folio there
    u32 misses = 0;    // PTEs never offered, when the walk was not stopped early
    u32 levels = 0;    // page-table levels descended
    bool stopped = false;  // ended early by the callback or by done()
    std::array<u64, kMaxCounters> counters{};
};

// One VMA offered to a walk.
struct VisitRecord {
    u64 walk = 0;
    u32 visit = 0;  // from 0
    u32 mm = 0;     // Mm::serial
    i32 pid = 0;
    u64 start = 0;
    u64 end = 0;
    u64 index = 0;  // anonymous offset of its start, in pages: what the walk is ordered by
    u32 hits = 0;   // PTEs found in it
    u32 levels = 0;  // of the walk so far, this visit included
    std::array<u64, kMaxCounters> counters{};  // the model's, as they stood when it was offered
};

// A mapping that a finished walk was never offered.
struct MissRecord {
    u64 walk = 0;
    u64 seq = 0;
    u32 mm = 0;
    i32 pid = 0;
    u64 addr = 0;
};

// One operation that allocated, freed or linked something.
struct OperationRecord {
    u64 seq = 0;
    Op op = Op::fault;
    i32 pid = 0;
    OpCosts costs;  // of this operation alone
};

// Live objects at a moment.
struct MemoryRecord {
    u64 seq = 0;
    i64 time = 0;
    std::array<u64, kMaxObjects> live{};
    u64 folios = 0;  // live anonymous folios
    u64 ptes = 0;    // PTEs that map them
    u64 mms = 0;
};

class Recorder {
  public:
    virtual ~Recorder() = default;
    virtual void walk(const WalkRecord&) = 0;
    virtual void visit(const VisitRecord&) = 0;
    virtual void miss(const MissRecord&) = 0;
    virtual void operation(const OperationRecord&) = 0;
    virtual void memory(const MemoryRecord&) = 0;
};

}  // namespace rmapreplay
