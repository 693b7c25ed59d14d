// SPDX-License-Identifier: GPL-2.0-only
// The lives of vm_area_struct, anon_vma and anon_vma_chain objects, told from their probes. Answer
// key only: nothing here ends up in the trace.
#pragma once

#include <deque>
#include <unordered_map>

#include "traces/native/tally.hpp"
#include "traces/native/tracefs_mms.hpp"
#include "traces/native/tracefs_truth.hpp"

namespace rmapreplay {

// Objects are known by address; one that was never seen to begin is not of a traced process and
// is left out.
class TracefsObjects {
  public:
    TracefsObjects(TracefsMms& mms, TruthTables& out, Tally& dropped)
        : mms_(mms), out_(out), dropped_(dropped) {}

    void vma_alloc(i64 time, u64 vma, u32 mm);
    // vm_area_dup() in the same mm.
    void vma_dup(i64 time, u64 orig, u64 vma);
    void vma_free(i64 time, u64 vma, u64 start, u64 end);
    // Serial of a live VMA's mm; 0 if it is not known.
    u32 mm_of(u64 vma) const {
        const auto it = vmas_.find(vma);
        return it == vmas_.end() ? 0 : it->second.mm;
    }

    // Where the VMA of a live anon_vma_chain ends; 0 if it is not known.
    u64 end_of(u64 avc) const {
        const auto it = chains_.find(avc);
        return it == chains_.end() ? 0 : it->second.end;
    }

    // anon_rmap_tree_insert(). What is new in it has just been allocated.
    struct Insert {
        u64 avc, anon_vma, root, parent, vma;
        u32 mm;
        u64 start, end;
    };
    void avc_insert(i64 time, const Insert& insert);
    // anon_rmap_tree_remove(); `unlinked`: by unlink_anon_vmas(), which frees it right away.
    void avc_remove(i64 time, u64 avc, bool unlinked);
    // __put_anon_vma()
    void anon_vma_free(i64 time, i32 tid, u64 anon_vma);
    // anon_vma_fork() of a VMA for mm, and its return. Linux 7.3 allocates an anon_vma first and
    // frees it if another can be reused; such a one never gets into a tree, and only its end shows.
    void fork_begin(i64 time, i32 tid, u32 mm);
    void fork_end(i32 tid);
    // The task has gone on to something else than freeing.
    void settle(i32 tid);
    void finish();

  private:
    struct Vma {
        u32 id;
        u32 mm;
    };
    struct AnonVma {
        u32 id;
        u64 root;
        u32 members = 0;  // live anon_vmas whose root it is, without itself
        u32 linked = 0;   // anon_vma_chains in its tree
    };
    struct Chain {
        u32 id;
        u32 mm;
        u32 vma;
        u64 anon_vma;
        bool linked;
        u64 start, end;
    };
    using Place = u64;  // position in queue_, 0: none
    enum class State : u8 { open, ready, cancelled };
    struct Row {
        TruthChange change;
        State state;
    };
    // The root whose free is due unless __put_anon_vma() shows it yet to come.
    struct Due {
        Place place = 0;
        u64 anon_vma = 0;
    };

    TruthChange change(i64 time, TruthObject object, TruthAction action, u32 id) const;
    Place queue(const TruthChange& change, State state = State::ready);
    void drain(bool all);
    TruthChange chain_change(i64 time, TruthAction action, const Chain& chain) const;
    void forget(u64 anon_vma, i64 time, i32 tid);

    TracefsMms& mms_;
    TruthTables& out_;
    Tally& dropped_;
    std::unordered_map<u64, Vma> vmas_;
    std::unordered_map<u64, AnonVma> anon_vmas_;
    std::unordered_map<u64, Chain> chains_;
    u32 last_vma_ = 0;
    u32 last_anon_vma_ = 0;
    u32 last_chain_ = 0;
    // In order of time; held back until the mm's process has a number and dues are settled.
    std::deque<Row> queue_;
    Place first_ = 1;
    std::unordered_map<i32, Due> due_;      // by tid
    std::unordered_map<i32, Place> spare_;  // by tid: what anon_vma_fork() may have allocated
};

}  // namespace rmapreplay
