// SPDX-License-Identifier: GPL-2.0-only
// Calls that change what a range may do or how it is kept: mprotect, madvise, mlock, mbind, mseal,
// prctl (mm/mprotect.c, madvise.c, mlock.c, mempolicy.c, mseal.c; Linux 7.3). Each walks the VMAs
// of its range and lets vma_modify() merge or split; what changes nothing does not even try.
#include <algorithm>

#include "replay/native/state.hpp"

namespace rmapreplay {

namespace {

constexpr u64 kLockedMask = VM_LOCKED | VM_LOCKONFAULT;

enum : i32 {
    MADV_NORMAL = 0,
    MADV_RANDOM = 1,
    MADV_SEQUENTIAL = 2,
    MADV_DONTNEED = 4,
    MADV_FREE = 8,
    MADV_DONTFORK = 10,
    MADV_DOFORK = 11,
    MADV_MERGEABLE = 12,
    MADV_UNMERGEABLE = 13,
    MADV_HUGEPAGE = 14,
    MADV_NOHUGEPAGE = 15,
    MADV_DONTDUMP = 16,
    MADV_DODUMP = 17,
    MADV_WIPEONFORK = 18,
    MADV_KEEPONFORK = 19,
    MADV_POPULATE_READ = 22,
    MADV_POPULATE_WRITE = 23,
    MADV_DONTNEED_LOCKED = 24,
    MADV_GUARD_INSTALL = 102,
    MADV_GUARD_REMOVE = 103,
};

// What madvise_vma_behavior() refuses with EINVAL, which ends the call there.
bool refused(const Vma& vma, i32 advice) {
    const u64 flags = vma.flags;
    switch (advice) {
        case MADV_DONTNEED: return !(flags & VM_HUGETLB) && (flags & (VM_LOCKED | VM_PFNMAP));
        case MADV_FREE: return vma.file;
        case MADV_DONTNEED_LOCKED: return !(flags & VM_HUGETLB) && (flags & VM_PFNMAP);
        case MADV_GUARD_INSTALL: return flags & (VM_SPECIAL | VM_HUGETLB | VM_LOCKED);
        case MADV_GUARD_REMOVE: return flags & (VM_SPECIAL | VM_HUGETLB);
        case MADV_DOFORK: return flags & VM_SPECIAL;
        case MADV_DODUMP:
            return (flags & VM_DROPPABLE) || (!(flags & VM_HUGETLB) && (flags & VM_SPECIAL));
        case MADV_KEEPONFORK: return flags & VM_DROPPABLE;
        case MADV_WIPEONFORK: return vma.file || (flags & VM_SHARED);
        default: return false;
    }
}

bool vma_supports_mlock(const Vma& vma) {
    return !(vma.flags & (VM_SPECIAL | VM_HUGETLB | VM_DROPPABLE));
}

// madvise_update_vma(): the flags an advice leads to, or the old ones.
u64 advised(u64 flags, i32 advice) {
    switch (advice) {
        case MADV_NORMAL: return flags & ~(VM_RAND_READ | VM_SEQ_READ);
        case MADV_RANDOM: return (flags & ~VM_SEQ_READ) | VM_RAND_READ;
        case MADV_SEQUENTIAL: return (flags & ~VM_RAND_READ) | VM_SEQ_READ;
        case MADV_DONTFORK: return flags | VM_DONTCOPY;
        case MADV_DOFORK: return flags & ~VM_DONTCOPY;
        case MADV_WIPEONFORK: return flags | VM_WIPEONFORK;
        case MADV_KEEPONFORK: return flags & ~VM_WIPEONFORK;
        case MADV_DONTDUMP: return flags | VM_DONTDUMP;
        case MADV_DODUMP: return flags & ~VM_DONTDUMP;
        case MADV_MERGEABLE: return ksm_compatible(flags) ? flags | VM_MERGEABLE : flags;
        case MADV_UNMERGEABLE: return flags & ~VM_MERGEABLE;
        case MADV_HUGEPAGE: return (flags & ~VM_NOHUGEPAGE) | VM_HUGEPAGE;
        case MADV_NOHUGEPAGE: return (flags & ~VM_HUGEPAGE) | VM_NOHUGEPAGE;
        default: return flags;
    }
}

}  // namespace

// vma_modify_flags() for one VMA's part of a range.
Vma* Machine::State::change_flags(AddressSpace& mm, Vma* vma, u64 start, u64 end, u64 flags) {
    if (flags == vma->flags) return vma;
    VmaMerge vmg = modify_request(mm, vma, start, end);
    vmg.flags = flags;
    Vma* changed = vma_modify(vmg);
    changed->flags = flags | (changed->flags & (VM_SOFTDIRTY | VM_MAYBE_GUARD));
    vma_changed(*changed);
    return changed;
}

void Machine::State::do_mprotect(AddressSpace& mm, const Event& e) {
    constexpr u32 PROT_GROWSDOWN = 0x01000000;
    constexpr i32 kEacces = 13;
    const u64 end = e.addr + page_up(e.len);
    u64 start = e.addr;
    if (e.prot & PROT_GROWSDOWN) {  // from the start of the stack that this is in
        const Vma* vma = mm.vmas.find(start);
        if (!vma || vma->start >= end || !(vma->flags & VM_GROWSDOWN)) return;
        start = vma->start;
    }
    u64 access = 0;
    if (e.prot & 1) access |= VM_READ;
    if (e.prot & 2) access |= VM_WRITE;
    if (e.prot & 4) access |= VM_EXEC;
    for (u64 at = start; at < end;) {
        Vma* vma = mm.vmas.lookup(at);
        if (!vma) {  // ENOMEM at a hole, with everything before it done
            if (!e.error) anomaly(Anomaly::protect_hole);
            return;
        }
        const u64 until = std::min(vma->end, end);
        const u64 old = vma->flags;
        // The first that may not have this access. How a shared file was opened is known only by
        // this very error.
        if (e.error == kEacces &&
            ((access & ~(old >> 4)) || (access & VM_WRITE && old & VM_SHARED)))
            return;
        u64 flags = (old & ~VM_ACCESS_FLAGS) | access;
        // mprotect_fixup(): becoming writable charges private memory; that is undone only while an
        // anonymous mapping has no pages.
        if (flags & VM_WRITE) {
            if (!(old & (VM_ACCOUNT | VM_WRITE | VM_HUGETLB | VM_SHARED | VM_NORESERVE)))
                flags |= VM_ACCOUNT;
        } else if ((old & VM_ACCOUNT) && !vma->file && !vma->anon_vma) {
            flags &= ~VM_ACCOUNT;
        }
        if (flags != old) {
            split_huge_at(mm, at);
            split_huge_at(mm, until);
            vma = change_flags(mm, vma, at, until, flags);
            if ((old & (VM_WRITE | VM_SHARED | VM_LOCKED)) == VM_LOCKED &&
                (flags & (VM_WRITE | VM_LOCKONFAULT)) == VM_WRITE)
                populate_vma(mm, *vma, at, until, true);
        }
        at = until;
    }
}

void Machine::State::do_madvise(AddressSpace& mm, const Event& e) {
    const u64 end = e.addr + page_up(e.len);
    if (e.advice == MADV_POPULATE_READ || e.advice == MADV_POPULATE_WRITE) {
        for (u64 at = e.addr; at < end;) {
            Vma* vma = mm.vmas.lookup(at);
            if (!vma) {
                if (!e.error) anomaly(Anomaly::protect_hole);
                return;
            }
            const u64 until = std::min(vma->end, end);
            populate_vma(mm, *vma, at, until, e.advice == MADV_POPULATE_WRITE);
            at = until;
        }
        return;
    }
    bool hole = false;
    for (u64 at = e.addr; at < end;) {
        Vma* vma = mm.vmas.find(at);
        if (!vma || vma->start >= end) {
            hole = true;
            break;
        }
        if (vma->start > at) hole = true;  // passed over; the call ends with ENOMEM
        at = std::max(at, vma->start);
        if (refused(*vma, e.advice)) return;
        const u64 until = std::min(vma->end, end);
        switch (e.advice) {
            case MADV_DONTNEED:
            case MADV_DONTNEED_LOCKED:
                if (!(vma->flags & VM_HUGETLB)) zap_range(mm, *vma, at, until, true);
                break;
            case MADV_FREE: drop_swap_entries(mm, at, until); break;
            case MADV_GUARD_INSTALL: install_guards(mm, *vma, at, until); break;
            case MADV_GUARD_REMOVE: remove_guards(mm, at, until); break;
            default:
                // MADV_COLD, PAGEOUT, WILLNEED, COLLAPSE and REMOVE change no anonymous mapping by
                // themselves.
                if (const u64 flags = advised(vma->flags, e.advice); flags != vma->flags)
                    change_flags(mm, vma, at, until, flags);
        }
        at = until;
    }
    if (hole && !e.error) anomaly(Anomaly::protect_hole);
}

// apply_vma_lock_flags() and __mm_populate()
void Machine::State::do_mlock(AddressSpace& mm, u64 start, u64 len, u64 flags, bool failed) {
    const u64 end = page_up(start + len);
    start = page_down(start);
    if (failed) {
        // ENOMEM for a hole or for what cannot be populated comes after the flags are set;
        // without either it was RLIMIT_MEMLOCK, which is looked at first.
        u64 at = start;
        for (const Vma* vma; at < end; at = vma->end)
            if (vma = mm.vmas.lookup(at); !vma || !(vma->flags & VM_ACCESS_FLAGS)) break;
        if (at >= end) return;
    }
    for (u64 at = start; at < end;) {
        Vma* vma = mm.vmas.lookup(at);
        if (!vma) {
            if (!failed) anomaly(Anomaly::protect_hole);
            return;
        }
        const u64 until = std::min(vma->end, end);
        if (vma_supports_mlock(*vma))
            change_flags(mm, vma, at, until, (vma->flags & ~kLockedMask) | flags);
        at = until;
    }
    // Also of a call that fails with ENOMEM here: populating ends at what is not accessible.
    if (flags & VM_LOCKED) populate(mm, start, end, true);
}

void Machine::State::do_mlockall(AddressSpace& mm, u64 flags) {
    constexpr u64 MCL_CURRENT = 1, MCL_FUTURE = 2, MCL_ONFAULT = 4;
    const u64 lock = VM_LOCKED | (flags & MCL_ONFAULT ? VM_LOCKONFAULT : 0);
    mm.def_flags &= ~kLockedMask;
    if (flags & MCL_FUTURE) {
        mm.def_flags |= lock;
        if (!(flags & MCL_CURRENT)) return;
    }
    const u64 to_add = flags & MCL_CURRENT ? lock : 0;
    for (u64 at = 0;;) {
        Vma* vma = mm.vmas.find(at);
        if (!vma) break;
        at = vma->end;
        if (vma_supports_mlock(*vma))
            change_flags(mm, vma, vma->start, vma->end, (vma->flags & ~kLockedMask) | to_add);
    }
    if (to_add) populate(mm, 0, kTaskSize);
}

// A range with a policy of its own does not merge with others (mbind(), set_vma_policy()).
void Machine::State::do_mbind(AddressSpace& mm, const Event& e) {
    const auto policy = static_cast<u32>(e.advice & 0xff);  // mode; MPOL_DEFAULT is none
    for_each_part(mm, e.addr, e.addr + page_up(e.len), [&](Vma& vma, u64 start, u64 end) {
        if (vma.policy != policy) {
            VmaMerge vmg = modify_request(mm, &vma, start, end);
            vmg.policy = policy;
            vma_modify(vmg)->policy = policy;
        }
        return true;
    });
}

// __mseal_range(). What is sealed refuses to be unmapped, moved or protected otherwise: such calls
// fail, and have no rows.
void Machine::State::do_mseal(AddressSpace& mm, const Event& e) {
    for_each_part(mm, e.addr, e.addr + page_up(e.len), [&](Vma& vma, u64 start, u64 end) {
        change_flags(mm, &vma, start, end, vma.flags | VM_SEALED);
        return true;
    });
}

void Machine::State::do_prctl(AddressSpace& mm, const Event& e) {
    constexpr u64 PR_SET_THP_DISABLE = 41, PR_SET_MEMORY_MERGE = 67, PR_SET_VMA = 0x53564d41;
    switch (e.flags) {
        case PR_SET_THP_DISABLE: mm.thp_disabled = e.addr != 0; break;
        case PR_SET_MEMORY_MERGE:
            // ksm_enable_merge_any(), ksm_disable_merge_any(): nothing is merged or split.
            if (mm.ksm_merge_any == (e.addr != 0)) break;
            mm.ksm_merge_any = e.addr != 0;
            for (u64 at = 0; Vma* vma = mm.vmas.find(at); at = vma->end) {
                vma->flags = ksm_vma_flags(mm, vma->flags & ~VM_MERGEABLE) |
                             (e.addr ? vma->flags & VM_MERGEABLE : 0);
                vma_changed(*vma);
            }
            break;
        case PR_SET_VMA:  // stops with EBADF at a file
            for_each_part(mm, e.addr, e.addr + page_up(e.len), [&](Vma& vma, u64 start, u64 end) {
                if (vma.file && !is_anon_shmem(vma.file)) return false;
                if (vma.anon_name != e.new_addr) {
                    VmaMerge vmg = modify_request(mm, &vma, start, end);
                    vmg.anon_name = e.new_addr;
                    vma_modify(vmg)->anon_name = e.new_addr;
                }
                return true;
            });
            break;
        default: break;
    }
}

}  // namespace rmapreplay
