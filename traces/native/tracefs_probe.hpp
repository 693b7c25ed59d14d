// SPDX-License-Identifier: GPL-2.0-only
// The events of a tracefs capture that the importer has a use for, and those that it knows to tell
// nothing more.
#pragma once

#include <cstddef>
#include <iterator>
#include <string_view>

#include "traces/native/event.hpp"

namespace rmapreplay {

enum class Probe : u8 {
    // The input.
    task_newtask,
    sched_process_exec,
    sched_process_exit,
    tracing_mark_write,
    fault,    // handle_mm_fault()
    faultx,   // its return
    vma_map,  // perf_event_mmap()
    mmap,     // do_mmap(), its return
    mm_exec,  // begin_new_exec()
    mm_dup,   // dup_mmap()
    mm_dupx,  // its return
    mm_exit,  // exit_mmap()
    // Objects.
    avc_ins,    // anon_rmap_tree_insert()
    avc_rm,     // anon_rmap_tree_remove()
    av_unlink,  // unlink_anon_vmas()
    av_free,    // __put_anon_vma()
    av_fork,    // anon_vma_fork()
    av_forkx,   // its return
    vma_new,    // vm_area_alloc(), its return
    vma_dup,    // vm_area_dup(), its return
    vma_free,   // vm_area_free()
    // Walks.
    walk,     // rmap_walk_anon()
    walkx,    // its return
    itf,      // anon_rmap_tree_iter_first(), its return
    itn,      // anon_rmap_tree_iter_next(), its return
    v_ref,    // folio_referenced_one()
    v_unmap,  // try_to_unmap_one()
    v_migr,   // try_to_migrate_one()
    v_rmig,   // remove_migration_pte()
    v_old,    // damon_folio_mkold_one()
    v_young,  // damon_folio_young_one()
    pvmw,     // page_vma_mapped_walk(), its return
    v_unmap_x,  // try_to_unmap_one(), its return
    fo_rm,      // folio_remove_rmap_ptes()
    fo_rmd,     // folio_remove_rmap_pmd()
    ksmwalk,    // rmap_walk_ksm()
    // Pages that faults map.
    fo_new,  // folio_add_new_anon_rmap()
    fo_add,  // folio_add_anon_rmap_ptes()
    other,
};

// In the order of Probe; all from Probe::other on are Probe::other.
inline constexpr std::string_view kProbeNames[] = {
    "task_newtask",
    "sched_process_exec",
    "sched_process_exit",
    "tracing_mark_write",
    "fault",
    "faultx",
    "vma_map",
    "mmap",
    "mm_exec",
    "mm_dup",
    "mm_dupx",
    "mm_exit",
    "avc_ins",
    "avc_rm",
    "av_unlink",
    "av_free",
    "av_fork",
    "av_forkx",
    "vma_new",
    "vma_dup",
    "vma_free",
    "walk",
    "walkx",
    "itf",
    "itn",
    "v_ref",
    "v_unmap",
    "v_migr",
    "v_rmig",
    "v_old",
    "v_young",
    "pvmw",
    "v_unmap_x",
    "fo_rm",
    "fo_rmd",
    "ksmwalk",
    "fo_new",
    "fo_add",
    "sched_process_fork",
    "v_ref_x",
    "v_migr_x",
    "v_rmig_x",
    "v_young_x",
    "av_prep",
    "av_prepx",
    "av_clone",
    "av_clonex",
    "vma_link",
    "vma_ins",
    "vma_special",
    "vma_split",
    "vma_splitx",
    "vma_expand",
    "vma_commit",
    "vma_complete",
    "vma_shrink",
    "vma_copy",
    "vma_down",
    "vma_reloc",
    "mmunmap",
    "mbrk",
    "stk",
    "cpr",
    "mvpt",
    "fo_move",
};
static_assert(kProbeNames[static_cast<std::size_t>(Probe::fo_add)] == "fo_add");

inline constexpr std::size_t kNoProbe = std::size(kProbeNames);
// Position in kProbeNames, or kNoProbe.
std::size_t find_probe(std::string_view name);

constexpr Probe probe_at(std::size_t position) {
    return position < static_cast<std::size_t>(Probe::other) ? static_cast<Probe>(position)
                                                             : Probe::other;
}

constexpr bool is_walk_probe(Probe probe) { return probe >= Probe::walk && probe <= Probe::fo_rmd; }

// What a task may be seen to do inside exit_mmap().
constexpr bool in_exit_mmap(Probe probe) {
    switch (probe) {
        case Probe::av_unlink:
        case Probe::avc_rm:
        case Probe::av_free:
        case Probe::vma_free:
        case Probe::fo_rm:
        case Probe::fo_rmd:
        case Probe::other: return true;
        default: return false;
    }
}

}  // namespace rmapreplay
