// SPDX-License-Identifier: GPL-2.0-only
// The machine: replays one trace under one model.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "replay/native/look.hpp"
#include "replay/native/recorder.hpp"
#include "rmap_models/native/model.hpp"
#include "traces/native/event.hpp"

namespace rmapreplay {

class FolioTable;
class TimelineTables;

// The walk that was asked for is done (Machine::stop_at_walk()).
struct WalkReached {};

enum class ThpMode : u8 { never, madvise, always };

// How much of the end of an address space has rows of its own. What has none happens at `exit`, or
// at the exec that takes its last user; but links stay until exit_mmap has its row, for in the
// kernel they go right before the VMAs, long after the last user where there are many pages to
// free.
enum class Teardown : u8 {
    at_exit,    // nothing
    vmas,       // exit_mmap: its links and VMAs go there
    all,        // unmap_vmas, free_pgtables and exit_mmap
};

// What the trace's metadata says about the machine it was captured on.
struct TraceFacts {
    Kernel kernel = Kernel::v7_3;
    ThpMode thp = ThpMode::never;
    bool use_zero_page = true;  // read faults on huge-eligible ranges map the huge zero page
    u64 rows = 0;               // events in the trace
    u64 stack_limit = u64{8} << 20;  // RLIMIT_STACK, bytes
    Teardown teardown = Teardown::at_exit;
    bool orders = false;  // faults tell the order of every new folio, so that 0 is order 0
};

// When walks happen that the trace did not record.
struct WalkPolicy {
    enum class When : u8 { none, scan, every, sample, reclaim, end };
    When when = When::scan;
    u64 n = 16;     // scan: points; every, reclaim: events; sample: walks
    u64 seed = 0;   // sample
    WalkKind kind = WalkKind::referenced;
    bool recorded = true;  // also replay the trace's own walk rows
};

// Parses `scan:16`, `every:100000`, `sample:1000@7`, `reclaim:64`, `end`, `none`, each with an
// optional `,kind=referenced|unmap|migrate|all`. Throws std::invalid_argument with one clear line.
WalkPolicy parse_walk_policy(std::string_view text);

// What the replay met that cannot be true of the state, by kind.
enum class Anomaly : u8 {
    unknown_process,        // an event of a process the trace never introduced
    fault_outside_vma,      // a fault at an address that no VMA covers (SIGSEGV)
    fault_access_denied,    // a fault that the VMA's permissions refuse (SIGSEGV)
    fault_present_mismatch, // the trace saw the PTE absent (present), the machine has it (not)
    mmap_over_mapping,      // mmap without MAP_FIXED placed where something is mapped
    munmap_nothing,         // munmap of a range with no mapping
    mremap_no_source,       // mremap of an address that no VMA covers
    protect_hole,  // mprotect, mlock, madvise of an unmapped range that was said to succeed
    brk_mismatch,  // brk moved in a way that the state does not allow
    exit_unknown,  // exit of a task, or end of an address space, that was not alive
    fork_existing,  // fork of a process id that is still alive
    walk_no_folio,  // a recorded walk of an address that maps no anonymous folio
    teardown_not_seen,  // an address space lost its last user and no row told its end
    swap_mismatch,  // swap_out or discard of what is not mapped, swap_in of what is not in swap
    count,
};
std::string_view anomaly_name(Anomaly);

struct Totals {
    u64 events = 0;
    u64 walks = 0, visits = 0, hits = 0, useless = 0, misses = 0;
    u64 verified = 0;  // times that every invariant was recounted (verify_every())
    std::array<u64, static_cast<std::size_t>(Anomaly::count)> anomalies{};
    std::array<u64, static_cast<std::size_t>(Anomaly::count)> first_anomaly{};  // row, if any
    bool operator==(const Totals&) const = default;
};

// One page of an mm that maps an anonymous folio. Folios have no name of their own: one is called
// after the first of its mappings in the order of AnonMapping lists, the same under every model.
struct AnonMapping {
    u32 mm = 0;    // Mm::serial
    u64 addr = 0;  // of the page
    u64 folio = 0;  // mm serial << 36 | virtual page of the folio's first mapping
    bool operator==(const AnonMapping&) const = default;
};

class Machine {
  public:
    // `costs` must be the ledger the model was made with.
    Machine(RmapModel& model, Costs& costs, const TraceFacts& facts, const WalkPolicy& walks,
            Recorder& recorder);
    ~Machine();
    Machine(const Machine&) = delete;
    Machine& operator=(const Machine&) = delete;

    void record_visits(bool on);  // also report every VisitRecord
    void record_faults(
        bool on);  // also report an OperationRecord of every fault that cost something
    // Before the first event: each anonymous page has a folio record of its own. Changes no result;
    // costs time and memory. Always so for a model with Needs::pages.
    void record_every_page();
    // Before the first event, with record_every_page(): tells all that changes.
    void record_timeline(TimelineTables& timeline);
    const FolioTable& folios() const;
    void verify_every(u64 events);  // validate() after each so many, and at the end; 0: never
    void apply(const Event& event);  // rows in order
    void finish();  // after the last row: end-of-trace walks and memory
    const Totals& totals() const;
    const std::array<OpCosts, kOpNames.size()>& operations() const;
    u64 memory_bytes() const;  // bytes of the machine's own state, for benchmarks

    // For verification; each takes time in proportion to everything that lives.
    // Recounts VMAs, page tables, folios and tasks, and has the model recount itself. Throws
    // BrokenInvariant (rmap_models/native/invariant.hpp) that names the first one found broken.
    void validate() const;
    void walk_all(WalkKind kind);  // walks every live anonymous folio once, now
    std::vector<const Mm*> mms() const;  // all that live, in order of creation
    const Mm* mm_of(i32 pid) const;  // of a living process, else null
    // All of them, by mm in order of creation, then by address.
    std::vector<AnonMapping> anon_mappings() const;

    // ---- look.cpp: for whoever asks about one moment ----
    // Before that walk: apply() or finish() throws WalkReached when it is done. The machine then
    // stays as the walk has seen it, and takes no more events.
    void stop_at_walk(u64 number);
    const WalkStory* story() const;  // of that walk; null before it
    void record_lives();  // before the first event
    const std::vector<MmLife>& lives() const;  // of all there have been, by serial
    std::optional<PageView> page(u32 mm, u64 addr) const;  // none: no such VMA
    std::vector<FolioEntry> sharers(u32 mm, u64 addr) const;  // all that map the folio there
    VmaPages pages(const Vma& vma) const;
    std::string_view name_of(const Vma& vma) const;  // heap, stack, anon, file, shmem or special
    u32 users(const Mm& mm) const;  // tasks; 0: it is dying, or fork is not done with it

  private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace rmapreplay
