// SPDX-License-Identifier: GPL-2.0-only
// What a machine consists of. Private to the machine's own files, which each hold one part of
// Machine::State:
//   vma_ops.cpp   split, merge, map, unmap        (mm/vma.c)
//   mremap.cpp    moving and resizing             (mm/mremap.c)
//   attributes.cpp  mprotect, madvise, mlock, ... (mm/mprotect.c, madvise.c, mlock.c)
//   pages.cpp     faults, CoW, zapping, fork's copy of page tables (mm/memory.c)
//   huge_memory.cpp  folios larger than a page    (mm/huge_memory.c)
//   swap.cpp      swap entries                    (mm/rmap.c, memory.c)
//   process.cpp   fork, exec                      (kernel/fork.c, fs/exec.c)
//   exit.cpp      the end of an address space     (kernel/exit.c, mm/mmap.c)
//   walk.cpp      rmap walks and their policies
//   validate.cpp  invariants, recounted
//   look.cpp      what it shows of one moment
//   machine.cpp   one event to the part it concerns
#pragma once

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "replay/native/folios.hpp"
#include "replay/native/look.hpp"
#include "replay/native/machine.hpp"
#include "replay/native/page_table.hpp"
#include "replay/native/timeline.hpp"

namespace rmapreplay {

// ksm_compatible(): what KSM may merge, private file mappings included.
inline constexpr bool ksm_compatible(u64 flags) {
    return !(flags & (VM_SHARED | VM_MAYSHARE | VM_SPECIAL | VM_HUGETLB | VM_DROPPABLE));
}
// Shared anonymous memory is a file of its own, made by shmem_zero_setup(); so are vdso and vvar.
inline constexpr u32 kShmemFiles = 0x80000000, kSpecialFiles = 0xc0000000;
inline constexpr bool is_anon_shmem(u32 file) {
    return file >= kShmemFiles && file < kSpecialFiles;
}
inline constexpr u64 page_down(u64 addr) { return addr & ~(kPageSize - 1); }
inline constexpr u64 page_up(u64 addr) { return page_down(addr + kPageSize - 1); }
inline constexpr u64 kTaskSize = (u64{1} << 47) - kPageSize;  // STACK_TOP_MAX on x86-64

// An order that is not known: a huge page where one fits, else a single page.
inline constexpr unsigned kAnyOrder = ~0u;

// How far exit_mmap() has come: the steps that traces have rows of, in their order.
enum class ExitStep : u8 { none, unmap_vmas, free_pgtables, exit_mmap };

struct AddressSpace : Mm {
    PageTable pages;
    u64 brk = 0;        // as brk() last returned it; 0: not known yet
    u64 brk_start = 0;  // where the heap begins
    u64 heap_start = 0, heap_end = 0;  // from there to the break; or as a snapshot has it
    u64 def_flags = 0;  // mlockall(MCL_FUTURE)
    u64 anon_ptes = 0;  // entries that map anonymous folios
    u16 fork_depth = 0;  // forks since exec, or since it was first seen
    u32 users = 0;      // tasks; none: fork is not done with it, or it is dying
    ExitStep exited = ExitStep::none;  // the last step done
    u64 swapped_in = 0;                // what the last swap_in row mapped, until it is faulted
    u64 swapped_in_bytes = 0;
    bool thp_disabled = false;    // PR_SET_THP_DISABLE
    bool ksm_merge_any = false;   // PR_SET_MEMORY_MERGE
    Vma* exec_stack = nullptr;    // exec's stack before it is moved into place
};

MappingKind mapping_kind(const AddressSpace& mm, const Vma& vma);  // walk.cpp

struct Process {
    AddressSpace* mm = nullptr;
    u32 tasks = 0;
    bool exec_begun = false;  // its old mm is going, its exec row follows
};

// An mm without users whose teardown has rows still to come, under the process that used it last.
struct DyingMm {
    i32 pid = 0;
    AddressSpace* mm = nullptr;
};

// A copy that dup_mmap() makes, or has made, for the fork of `tid` that comes next.
struct ForkedMm {
    i32 tid = 0;
    AddressSpace* mm = nullptr;
    AddressSpace* parent = nullptr;  // null: the copy is complete
    u64 until = 0;  // the VMAs that begin below are copied
};

// One entry found to map the folio that a walk looks for.
struct MappedAt {
    const Mm* mm;
    u64 addr;
    bool operator==(const MappedAt&) const = default;
};

// What a proposed range is to become, and which neighbours it may join (struct vma_merge_struct).
struct VmaMerge {
    AddressSpace* mm = nullptr;
    Vma* prev = nullptr;
    Vma* middle = nullptr;
    Vma* next = nullptr;
    Vma* target = nullptr;
    u64 start = 0, end = 0;
    u64 pgoff = 0, anon_pgoff = 0;
    u64 flags = 0;
    void* anon_vma = nullptr;
    Vma* copied_from = nullptr;
    u32 file = 0;
    u32 policy = 0;
    u64 anon_name = 0;
    bool just_expand = false;
    bool remove_middle = false, remove_next = false;
    bool adjust_middle_start = false, adjust_next_start = false;
};

// A range about to be mapped (struct mmap_state).
struct MmapRequest {
    u64 start = 0, end = 0;
    u64 pgoff = 0;
    u64 anon_pgoff = 0;
    u64 flags = 0;
    u32 file = 0;
    bool just_expand = false;  // only grow the VMA to the left (do_brk_flags())
    u64 prev_above = 0;  // do not join a VMA that ends here or below
};

struct Machine::State {
    State(RmapModel& model, Costs& costs, const TraceFacts& facts, const WalkPolicy& walks,
          Recorder& recorder);
    ~State();

    // ---- machine.cpp ----
    void apply(const Event& e);
    void finish();
    void anomaly(Anomaly kind);
    void begin_operation(Op op, i32 pid);  // the ledger's page for the operation in progress
    void end_operation();                  // reports it if it changed the structures
    Process* find_process(i32 pid);
    Process* process_of(i32 pid);  // counts an anomaly if there is none
    AddressSpace* mm_of(i32 pid);  // likewise
    AddressSpace* mm_mapping(i32 pid, u64 addr);  // a dying one if only that has the page
    Process& make_process(i32 pid);
    void drop_process(i32 pid);
    void housekeeping();                   // due memory samples and walks

    // ---- vma_ops.cpp ----
    Vma* vma_alloc(AddressSpace& mm, std::size_t site = kVmAreaAlloc);
    Vma* vma_dup(const Vma& vma);
    void vma_free(Vma* vma);
    void set_range(Vma& vma, u64 start, u64 end, u64 pgoff, u64 anon_pgoff);
    void resize(Vma& vma, u64 start, u64 end);  // offsets follow the start
    Vma* split_vma(AddressSpace& mm, Vma* vma, u64 addr, bool new_below);
    Vma* vma_merge_existing_range(VmaMerge& vmg);
    Vma* vma_merge_new_range(VmaMerge& vmg);
    void vma_expand(VmaMerge& vmg);
    Vma* vma_modify(VmaMerge& vmg);
    VmaMerge modify_request(AddressSpace& mm, Vma* vma, u64 start, u64 end);
    void dup_anon_vma(Vma& dst, const Vma& src);
    void commit_merge(VmaMerge& vmg);
    bool can_vma_merge_left(const VmaMerge& vmg) const;
    bool can_vma_merge_right(const VmaMerge& vmg, bool can_merge_left) const;
    bool is_mergeable_vma(const VmaMerge& vmg, const Vma& vma) const;
    bool is_mergeable_anon_vma(const VmaMerge& vmg, const Vma& target) const;
    bool is_fork_child(const Vma* vma) const {
        return vma && vma->anon_vma && model.vma_is_fork_child(*vma);
    }
    void vma_changed(const Vma& vma) {
        if (timeline) timeline->vma_changed(vma);
    }
    void unlink_anon_vmas(Vma& vma) {
        if (!vma.anon_vma) return;
        model.unlink_anon_vmas(vma);
        vma_changed(vma);
    }
    void pre_update(Vma& vma) {
        if (vma.anon_vma) model.pre_update_vma(vma);
    }
    void post_update(Vma& vma) {
        if (vma.anon_vma) model.post_update_vma(vma);
    }
    void anon_vma_prepare(Vma& vma);
    // The first half of unmapping: splits, zaps, unlinks and takes the VMAs out of the tree.
    void detach_range(AddressSpace& mm, u64 start, u64 end, std::vector<Vma*>& detached);
    void free_detached(std::vector<Vma*>& detached);
    bool munmap(AddressSpace& mm, u64 start, u64 end);  // whether anything was mapped
    Vma* mmap_region(AddressSpace& mm, const MmapRequest& request);
    u64 vm_flags_for(const AddressSpace& mm, u64 prot, u64 map_flags) const;
    static u64 ksm_vma_flags(const AddressSpace& mm, u64 flags) {
        return mm.ksm_merge_any && ksm_compatible(flags) ? flags | VM_MERGEABLE : flags;
    }
    void do_mmap(AddressSpace& mm, const Event& e);
    void do_brk(AddressSpace& mm, const Event& e);
    bool expand_downwards(AddressSpace& mm, Vma& vma, u64 addr);

    // Calls on_part(vma, start, end) for the part of each VMA that lies in [start, end), until it
    // returns false; holes are passed over. on_part may split and merge.
    template <class F>
    void for_each_part(AddressSpace& mm, u64 start, u64 end, F&& on_part) {
        for (u64 at = start; at < end;) {
            Vma* vma = mm.vmas.find(at);
            if (!vma || vma->start >= end) return;
            at = std::max(at, vma->start);
            const u64 until = std::min(vma->end, end);
            if (!on_part(*vma, at, until)) return;
            at = until;
        }
    }

    // ---- mremap.cpp ----
    void do_mremap(AddressSpace& mm, const Event& e);
    Vma* copy_vma(AddressSpace& mm, Vma*& vma, u64 old_addr, u64 addr, u64 len, bool keep_source);
    void move_vma(AddressSpace& mm, Vma* vma, u64 addr, u64 old_len, u64 new_addr, u64 new_len,
                  u64 flags);
    void move_page_tables(AddressSpace& mm, u64 old_addr, u64 new_addr, u64 len);
    Pte move_entry(AddressSpace& mm, u64 from, u64 to, Pte pte);

    // ---- attributes.cpp ----
    void do_mprotect(AddressSpace& mm, const Event& e);
    void do_madvise(AddressSpace& mm, const Event& e);
    void do_mlock(AddressSpace& mm, u64 start, u64 len, u64 flags, bool failed);
    void do_mlockall(AddressSpace& mm, u64 flags);
    void do_mbind(AddressSpace& mm, const Event& e);
    void do_mseal(AddressSpace& mm, const Event& e);
    void do_prctl(AddressSpace& mm, const Event& e);
    Vma* change_flags(AddressSpace& mm, Vma* vma, u64 start, u64 end, u64 flags);

    // ---- pages.cpp ----
    void fault(AddressSpace& mm, const Event& e);
    void fault_slow(AddressSpace& mm, const Event& e);
    void handle_fault(AddressSpace& mm, Vma& vma, u64 addr, bool write, i8 present,
                      unsigned order = kAnyOrder);
    void handle_write(AddressSpace& mm, Vma& vma, u64 addr, PteLeaf& leaf, i8 present,
                      unsigned order);
    void new_private_page(AddressSpace& mm, const Vma& vma, u64 addr, PteLeaf& leaf);
    // Only if every_page.
    void mapped(const AddressSpace& mm, u64 addr, Pte pte, bool by_pmd = false);
    void unmapped(const AddressSpace& mm, u64 addr, Pte pte);
    Pte make_folio(u64 index, unsigned order, u32 mapcount, Home home, bool exclusive);
    void free_folio(Pte pte);
    void folio_changed(Pte pte) {
        if (timeline) timeline->folio_changed(pte);
    }
    void move_anon_rmap(Pte pte, Home home);
    void populate(AddressSpace& mm, u64 start, u64 end, bool stop_at_errors = false);
    void do_populate(AddressSpace& mm, const Event& e);
    void populate_vma(AddressSpace& mm, Vma& vma, u64 start, u64 end, bool write);
    void zap_range(AddressSpace& mm, Vma& vma, u64 start, u64 end, bool keep_guards);
    void put_mapping(AddressSpace& mm, u64 addr, Pte pte);  // one entry of a recorded folio goes
    void free_unused(Pte pte);
    void install_guards(AddressSpace& mm, Vma& vma, u64 start, u64 end);
    void remove_guards(AddressSpace& mm, u64 start, u64 end);
    void copy_page_range(AddressSpace& child, AddressSpace& parent, const Vma& vma);
    void free_page_tables(AddressSpace& mm, u64 start, u64 end);
    Folio& folio(Pte pte) { return folios[pte]; }

    // ---- huge_memory.cpp ----
    void new_huge_page(AddressSpace& mm, Vma& vma, u64 addr, PteLeaf& leaf);
    bool new_large_folio(AddressSpace& mm, Vma& vma, u64 addr, PteLeaf& leaf, unsigned order);
    bool thp_eligible(const AddressSpace& mm, const Vma& vma, u64 addr) const;
    bool mapped_only_by(AddressSpace& mm, const Vma& vma, Pte pte);
    void zap_huge(AddressSpace& mm, PteLeaf& leaf, u64 base);
    void split_huge_pmd(AddressSpace& mm, PteLeaf& leaf, u64 addr);
    void split_huge_at(AddressSpace& mm, u64 addr);  // before a boundary is put at addr
    void split_folio(Pte pte, unsigned order);

    // ---- swap.cpp ----
    void do_swap_out(AddressSpace& mm, const Event& e);
    void do_discard(AddressSpace& mm, const Event& e);
    void do_swap_in(AddressSpace& mm, const Event& e);
    void do_swap_page(AddressSpace& mm, Vma& vma, u64 addr, PteLeaf& leaf, bool read_ahead = false);
    void fault_from_swap(AddressSpace& mm, Vma& vma, u64 addr, PteLeaf& leaf, bool write,
                         i8& present);
    void map_swapped(AddressSpace& mm, PteLeaf& leaf, u64 addr, Pte pte);
    void unmap_private_page(AddressSpace& mm, const Vma& vma);
    Pte dup_swap_entry(Pte entry, u64 index, Home home);
    void put_swap_entry(Pte entry);
    void drop_swap_entries(AddressSpace& mm, u64 start, u64 end);
    template <class F>
    void for_each_entry(AddressSpace& mm, const Event& e, bool wanted(Pte), F&& on_entry);

    // ---- process.cpp ----
    AddressSpace* mm_alloc(i32 pid);
    void do_fork(const Event& e);
    void add_child(const Event& e, AddressSpace& parent, AddressSpace* copied);
    AddressSpace* dup_mm(AddressSpace& parent);
    void dup_mmap(AddressSpace& child, AddressSpace& parent, u64 start, u64 end);
    void do_dup_mmap(const Event& e);
    AddressSpace* take_forked(i32 tid);
    void drop_forked(i32 tid);  // the fork it was made for has failed
    void do_exec(const Event& e);
    void begin_exec(i32 pid);
    void do_mapping(const Event& e);
    void setup_arg_pages(AddressSpace& mm, u64 start, u64 end);

    // ---- exit.cpp ----
    void do_exit(const Event& e);
    void mm_put(AddressSpace* mm, i32 pid, u32 tasks = 1);  // these stop using it
    void rename(AddressSpace& mm);  // the process it was called after is gone
    void do_teardown(const Event& e, ExitStep step);
    AddressSpace* exiting_mm(i32 pid, ExitStep step);
    void exit_mmap(AddressSpace* mm, ExitStep until = ExitStep::exit_mmap, u64 below = kTaskSize);
    void finish_teardown();

    // ---- validate.cpp ----
    void validate();
    void validate_timeline();
    void verify();  // validate(), as verify_every() asked for
    std::vector<AnonMapping> anon_mappings();

    // ---- walk.cpp ----
    void recorded_walk(const Event& e);
    void policy_walks();  // those due at this event
    void scan(WalkKind kind);
    void reclaim_step();
    void sample_walk();
    void walk_page(AddressSpace& mm, u64 addr, Pte pte, const Vma& vma, WalkKind kind);
    bool walk_found(const Mm& mm, u64 addr) const {
        return std::find(walk_hits.begin(), walk_hits.end(), MappedAt{&mm, addr}) !=
               walk_hits.end();
    }
    void plan_walks();

    // ---- look.cpp ----
    template <typename F>
    void for_each_entry_of(Pte pte, const AddressSpace& mm, u64 addr, F&& on_entry);
    void report_misses(const WalkRecord& record, Pte pte, const AddressSpace& mm, u64 addr);
    void tell_walk(const WalkRecord& record, const FolioView& folio, Pte pte,
                   const AddressSpace& mm, u64 addr);
    FolioView folio_at(const Vma& vma, u64 addr, Pte pte);
    void mm_made(const AddressSpace& mm, MmOrigin how, const AddressSpace* parent = nullptr);
    void mm_owned(const AddressSpace& mm);  // fork has given it to a process
    void mm_execed(const AddressSpace& mm);  // at its exec row
    void mm_gone(const AddressSpace& mm);
    MmLife* life_of(const AddressSpace& mm);

    RmapModel& model;
    Costs& costs;
    TraceFacts facts;
    WalkPolicy policy;
    Recorder& recorder;
    TimelineTables* timeline = nullptr;  // if the replay records its history
    bool visits_recorded = false;
    bool faults_recorded = false;
    const Needs needs;  // of the model
    bool every_page;    // each page has a record: nothing is kPrivate
    bool anon_pgoff_apart;  // private file pages have an offset of their own (7.3), not the file's

    Totals totals;
    std::array<OpCosts, kOpNames.size()> operations{};
    u64 seq = 0;  // row of the event in progress
    i64 time = 0;  // its time

    // Structures.
    std::vector<std::unique_ptr<Vma[]>> vma_chunks;
    std::vector<Vma*> free_vmas;
    u32 vmas_made = 0;
    PteStore store;
    FolioTable folios;
    std::vector<u32> process_slot;  // by pid: index into processes + 1
    std::vector<Process> processes;
    std::vector<u32> free_processes;
    std::vector<std::unique_ptr<AddressSpace>> mms;  // the living, in order of creation
    u32 mms_made = 0;
    std::vector<DyingMm> dying;  // oldest first
    std::vector<ForkedMm> forked;
    u64 private_pages = 0;  // kPrivate entries
    u64 anon_ptes = 0;  // entries that map anonymous folios
    u32 shared_files = 0;  // shmem files made for MAP_SHARED | MAP_ANONYMOUS

    // The operation in progress.
    Op op = Op::fault;
    i32 op_pid = 0;
    OpCosts op_before;

    // The walk in progress, kept here to keep their memory.
    std::vector<MappedAt> walk_hits;
    std::vector<VisitRecord> walk_visits;

    // What was asked to be told (look.hpp).
    u64 told_walk = kNever;
    std::optional<WalkStory> story;
    bool lives_recorded = false;
    std::vector<MmLife> lives;  // by serial

    // What is due when, in events.
    u64 next_due = 0;
    u64 next_memory = 0, memory_period = 1;
    u64 next_walk = ~u64{0};
    u64 next_verify = ~u64{0}, verify_period = 0;
    u64 scans_done = 0;
    std::vector<u64> sample_at;  // events, ascending
    std::size_t sample_next = 0;
    u64 random = 0;
    u32 hand_mm = 0;  // reclaim's clock hand: mm serial and address
    u64 hand_addr = 0;
    u64 hand_passed(const AddressSpace& mm) const {  // to where, in this mm
        if (mm.serial == hand_mm) return hand_addr;
        return mm.serial < hand_mm ? kTaskSize : 0;
    }
};

}  // namespace rmapreplay
