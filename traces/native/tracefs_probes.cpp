// SPDX-License-Identifier: GPL-2.0-only
// From probe events to the answer key.
#include <unordered_map>

#include "traces/native/tracefs.hpp"
#include "traces/native/tracefs_probe.hpp"

namespace rmapreplay {
namespace {

RmapOne rmap_one(Probe probe) {
    switch (probe) {
        case Probe::v_ref: return RmapOne::folio_referenced;
        case Probe::v_unmap: return RmapOne::try_to_unmap;
        case Probe::v_migr: return RmapOne::try_to_migrate;
        case Probe::v_rmig: return RmapOne::remove_migration_pte;
        case Probe::v_old: return RmapOne::damon_mkold;
        case Probe::v_young: return RmapOne::damon_young;
        default: return RmapOne::none;
    }
}

// Callers of vm_area_alloc() in execve: create_init_stack_vma() since Linux 6.16; bprm_mm_init()
// before, or whatever the compiler has made it part of.
bool makes_exec_stack(std::string_view caller) {
    for (const char* name : {"create_init_stack_vma", "__bprm_mm_init", "bprm_mm_init",
                             "alloc_bprm", "do_execveat_common", "kernel_execve"}) {
        if (caller.starts_with(name)) return true;
    }
    return false;
}

}  // namespace

std::size_t find_probe(std::string_view name) {
    static const std::unordered_map<std::string_view, std::size_t> positions = [] {
        std::unordered_map<std::string_view, std::size_t> map;
        for (std::size_t i = 0; i < kNoProbe; ++i) map.emplace(kProbeNames[i], i);
        return map;
    }();
    const auto it = positions.find(name);
    return it == positions.end() ? kNoProbe : it->second;
}

bool TracefsParser::probe_walk(Probe probe, const TracefsLine& line) {
    Fields fields(line.body);
    switch (probe) {
        case Probe::walk: {
            const u64 flags = fields.number(" flags=");
            const u64 flags_1 = fields.number(" f1=");
            if (!fields.ok()) return false;
            walks_.begin(line.time, line.tid, flags, flags_1);
            return true;
        }
        case Probe::walkx: walks_.end(line.tid); return true;
        case Probe::itf:
        case Probe::itn: {
            const u64 avc = fields.number(" avc=");
            if (!fields.ok()) return false;
            walks_.iterated(line.tid, avc != 0);
            return true;
        }
        case Probe::pvmw: {
            const u64 vma = fields.number(" vma=");
            const u64 addr = fields.number(" addr=");
            const u64 found = fields.number(" ret=");
            if (!fields.ok()) return false;
            walks_.page_checked(line.tid, vma, addr, found != 0);
            return true;
        }
        case Probe::fo_rm: {
            const u64 pages = fields.number(" n=");
            const u64 vma = fields.number(" vma=");
            if (!fields.ok()) return false;
            walks_.removed(line.time, line.tid, vma, pages);
            return true;
        }
        case Probe::fo_rmd: {
            const u64 vma = fields.number(" vma=");
            if (!fields.ok()) return false;
            walks_.pmd_removed(line.tid, vma);
            return true;
        }
        case Probe::v_unmap_x: {
            const u64 vma = fields.number(" vma=");
            const u64 success = fields.number(" ret=");
            if (!fields.ok()) return false;
            walks_.unmapped(line.time, line.tid, vma, success != 0);
            return true;
        }
        default: {
            const u64 vma = fields.number(" vma=");
            const u64 mm = fields.number(" mm=");
            const u64 start = fields.number(" start=");
            const u64 end = fields.number(" end=");
            if (!fields.ok()) return false;
            const bool told = line.body.find(" addr=") != std::string_view::npos;
            const u64 addr = told ? fields.number(" addr=") : start;
            walks_.visit(line.tid, rmap_one(probe), {vma, mms_.find(mm), start, end, addr});
            return true;
        }
    }
}

bool TracefsParser::probe_objects(Probe probe, const TracefsLine& line, Thread& thread) {
    Fields fields(line.body);
    // unlink_anon_vmas() does nothing but remove and free until it returns.
    if (probe != Probe::avc_rm && probe != Probe::av_free) {
        thread.unlinking = 0;
        objects_.settle(line.tid);
    }
    switch (probe) {
        case Probe::avc_ins: {
            TracefsObjects::Insert insert{};
            insert.avc = fields.number(" avc=");
            insert.anon_vma = fields.number(" av=");
            insert.root = fields.number(" root=");
            insert.parent = fields.number(" par=");
            insert.vma = fields.number(" vma=");
            const TracefsMm* mm = mms_.find(fields.number(" mm="));
            insert.start = fields.number(" start=");
            insert.end = fields.number(" end=");
            if (!fields.ok()) return false;
            if (!mm || mm->state == TracefsMm::State::dead) return true;
            insert.mm = mm->serial;
            objects_.avc_insert(line.time, insert);
            if (thread.in_dup && insert.mm == thread.forked_mm) thread.copied = insert.end;
            return true;
        }
        case Probe::avc_rm: {
            const u64 avc = fields.number(" avc=");
            const u64 vma = fields.number(" vma=");
            if (!fields.ok()) return false;
            const bool unlinked = thread.unlinking == vma;
            if (unlinked && thread.teardown.unlinks) {
                thread.teardown.unlinked = objects_.end_of(avc);
            }
            objects_.avc_remove(line.time, avc, unlinked);
            return true;
        }
        case Probe::av_unlink: {
            thread.unlinking = fields.number(" vma=");
            if (!fields.ok()) return false;
            exit_mmap_unlinks(thread, objects_.mm_of(thread.unlinking));
            return true;
        }
        case Probe::av_free: {
            const u64 anon_vma = fields.number(" av=");
            if (!fields.ok()) return false;
            objects_.anon_vma_free(line.time, line.tid, anon_vma);
            return true;
        }
        case Probe::av_fork:
            if (thread.in_dup) objects_.fork_begin(line.time, line.tid, thread.forked_mm);
            return true;
        case Probe::av_forkx: objects_.fork_end(line.tid); return true;
        case Probe::vma_new: {
            const u64 pointer = fields.number(" mm=");
            const u64 vma = fields.number(" vma=");
            if (!fields.ok()) return false;
            const TracefsMm* mm = mms_.find(pointer);
            if (!mm || mm->state == TracefsMm::State::dead) {
                // The first VMA of an execve's new mm, if it is an mm of ours at all.
                if (mm) mms_.forget(pointer);
                if (thread.pid == 0 || !makes_exec_stack(probe_symbol(line.body))) return true;
                mm = &mms_.create(pointer, TracefsMm::State::bprm, thread.pid);
            }
            objects_.vma_alloc(line.time, vma, mm->serial);
            return true;
        }
        case Probe::vma_dup: {
            const u64 orig = fields.number(" orig=");
            const u64 vma = fields.number(" vma=");
            if (!fields.ok()) return false;
            if (thread.in_dup) {
                objects_.vma_alloc(line.time, vma, thread.forked_mm);
            } else {
                objects_.vma_dup(line.time, orig, vma);
            }
            return true;
        }
        case Probe::vma_free: {
            const u64 vma = fields.number(" vma=");
            const u64 start = fields.number(" start=");
            const u64 end = fields.number(" end=");
            if (!fields.ok()) return false;
            const u32 mm = objects_.mm_of(vma);
            objects_.vma_free(line.time, vma, start, end);
            exit_mmap_frees(line, thread, mm);
            return true;
        }
        default: return true;
    }
}

}  // namespace rmapreplay
