// SPDX-License-Identifier: GPL-2.0-only
// Random traces for the machine, made up event by event.
#pragma once

#include <sched.h>
#include <sys/mman.h>

#include <algorithm>
#include <random>
#include <utility>
#include <vector>

#include "replay/native/machine.hpp"

namespace monkey {

using namespace rmapreplay;

inline constexpr i32 kPids = 6;
inline constexpr u64 kHeap = 0x555500000000;
inline constexpr u64 kArea = 0x700000000000;  // a multiple of 2 MB: what is mapped lies around it
inline constexpr u64 kStackTop = 0x7ffc00000000;

inline constexpr u64 kMayMove = 1, kMoveFixed = 2, kDontUnmap = 4;  // MREMAP_*
inline constexpr u64 kThpDisable = 41, kMemoryMerge = 67, kSetVma = 0x53564d41;  // PR_*

// Makes up one event after another, as mainline could have recorded them: `truth` is a machine
// under anon_vma, whose VMAs say what a call may be given.
class Monkey {
  public:
    Monkey(const Machine& truth, u64 seed, const TraceFacts& facts)
        : truth_(truth),
          random_(seed),
          kernel_(facts.kernel),
          thp_(facts.thp),
          teardown_(facts.teardown) {}

    // The next event; some come in a fixed order and are made up together.
    Event next() {
        while (queue_.empty()) make_up();
        const Event e = queue_.front();
        queue_.erase(queue_.begin());
        return e;
    }
    // The end of every task.
    Event exit(i32 pid) { return event(Op::exit, pid); }

  private:
    u64 below(u64 n) { return random_() % n; }
    bool one_in(u64 n) { return below(n) == 0; }
    Event event(Op op, i32 pid) {
        Event e;
        e.op = op;
        e.pid = e.tid = pid;
        e.time = ++time_;
        return e;
    }
    Event range(Op op, i32 pid, u64 addr, u64 pages) {
        Event e = event(op, pid);
        e.addr = addr;
        e.len = pages * kPageSize;
        return e;
    }
    void put(const Event& e) { queue_.push_back(e); }

    // 48 pages around a 2 MB boundary, or with huge pages 6 MB.
    u64 address() {
        if (thp_ == ThpMode::never || one_in(3)) return kArea + (below(48) - 24) * kPageSize;
        const u64 pmd = kArea + (below(3) - 1) * kPmdSize;
        return one_in(2) ? pmd : pmd + (below(8) - 4) * kPageSize;
    }
    u64 pages() {
        if (thp_ != ThpMode::never && one_in(3)) return 512 * (1 + below(2)) + (one_in(4) ? 3 : 0);
        return 1 + below(one_in(4) ? 24 : 6);
    }
    const Vma* any_vma(const Mm& mm) {
        const Vma* vma = mm.vmas.at(below(mm.vmas.size()));
        // Mostly where the others are too.
        return vma->start > kStackTop / 2 + kArea / 2 && !one_in(4)
                   ? mm.vmas.at(below(mm.vmas.size()))
                   : vma;
    }

    void make_up() {
        const i32 pid = 1 + static_cast<i32>(below(kPids));
        const Mm* mm = truth_.mm_of(pid);
        if (!mm || mm->vmas.empty()) {
            if (!mm && !one_in(3)) return make_up();
            return exec(pid);
        }
        switch (below(40)) {
            case 0:
            case 1:
            case 2:
            case 3: return map(pid, *mm);
            case 4:
            case 5: return put(range(Op::munmap, pid, address(), pages()));
            case 6:
            case 7: return mprotect(pid);
            case 8:
            case 9:
            case 10: return mremap(pid, *mm);
            case 11: return brk(pid);
            case 12:
            case 13: return madvise(pid);
            case 14: return mlock(pid);
            case 15: return mbind_or_prctl(pid);
            case 19: return one_in(2) ? neighbours(pid) : away_and_home(pid);
            case 16:
            case 17: return fork(pid);
            case 18: return one_in(3) ? exec(pid) : put(exit(pid));
            case 20:
            case 21:
            case 22: return reclaim(pid, *mm);
            case 23: return reuse_swapped(pid, *mm);
            case 24: return walk(pid, *mm);
            case 25:
            case 26: return teardown();
            case 27: return dup_mmap(pid);
            default: return fault(pid, *mm);
        }
    }

    void map(i32 pid, const Mm& mm) {
        Event e = range(Op::mmap, pid, address(), pages());
        constexpr u32 kProts[] = {3, 3, 3, 3, 1, 0, 7, 5};
        e.prot = kProts[below(8)];
        const u64 kind = below(8);
        if (kind == 0) {
            e.flags = MAP_SHARED | MAP_ANONYMOUS;
        } else if (kind < 3) {  // offsets that continue where neighbours are
            e.flags = MAP_PRIVATE;
            e.file = 1 + static_cast<u32>(below(2));
            e.fd = 3;
            e.offset = one_in(4) ? below(4) * kPageSize : e.addr - kArea + 2 * kPmdSize;
        } else {
            e.flags = MAP_PRIVATE | MAP_ANONYMOUS;
        }
        if (one_in(12)) e.flags |= MAP_NORESERVE;
        if (one_in(16)) e.flags |= MAP_LOCKED;
        if (one_in(12)) e.flags |= MAP_POPULATE;
        if (one_in(12)) e.flags |= MAP_STACK;
        if (one_in(16) && !e.file && !(e.flags & MAP_SHARED)) e.flags |= MAP_GROWSDOWN;
        const Vma* there = mm.vmas.find(e.addr);
        if ((there && there->start < e.addr + e.len) || one_in(2)) e.flags |= MAP_FIXED;
        put(e);
    }

    void mprotect(i32 pid) {
        Event e = range(Op::mprotect, pid, address(), pages());
        constexpr u32 kProts[] = {3, 3, 3, 1, 0, 7};
        e.prot = kProts[below(6)];
        put(e);
    }

    // What mainline would not have done is not made up: sources in one VMA (except for moves of
    // equal length since 6.17), a free place unless MREMAP_FIXED.
    void mremap(i32 pid, const Mm& mm) {
        const Vma* vma = any_vma(mm);
        if (vma->flags & VM_DONTEXPAND) return fault(pid, mm);
        u64 addr = vma->start, len = vma->end - vma->start;
        if (one_in(2)) {
            addr += below(vma->pages()) * kPageSize;
            len = kPageSize * (1 + below((vma->end - addr) >> kPageShift));
        }
        Event e = event(Op::mremap, pid);
        e.addr = e.new_addr = addr;
        e.len = e.new_len = len;
        const auto is_free = [&](u64 from, u64 to) {
            const Vma* there = mm.vmas.find(from);
            return !there || there->start >= to;
        };
        switch (below(6)) {
            case 0:  // shrink
                e.new_len = kPageSize * (1 + below(len >> kPageShift));
                break;
            case 1:  // grow in place
                e.len = vma->end - addr;
                e.new_len = e.len + pages() * kPageSize;
                if (!is_free(vma->end, addr + e.new_len)) return;
                break;
            case 2:  // the kernel's choice of place
                e.flags = kMayMove;
                e.new_len = len + below(4) * kPageSize;
                e.new_addr = address();
                if (e.new_len == e.len || !is_free(e.new_addr, e.new_addr + e.new_len)) return;
                break;
            case 3:  // over others
                e.flags = kMayMove | kMoveFixed;
                e.new_addr = address();
                if (one_in(2)) e.new_len = pages() * kPageSize;
                break;
            case 4:  // several VMAs
                e.flags = kMayMove | kMoveFixed;
                e.new_addr = address();
                if (kernel_ >= Kernel::v6_18) e.len = e.new_len = pages() * kPageSize;
                break;
            case 5:
                e.flags = kMayMove | kDontUnmap | (one_in(2) ? kMoveFixed : 0);
                e.new_addr = address();
                if (!(e.flags & kMoveFixed) && !is_free(e.new_addr, e.new_addr + len)) return;
                break;
        }
        if (e.flags & kMoveFixed) {
            if (e.new_addr < e.addr + e.len && e.addr < e.new_addr + e.new_len) return;  // EINVAL
            if (one_in(4)) {  // home again
                const u64 home = vma->index_at(addr) << kPageShift;
                if (home > kPmdSize && (home + e.new_len <= e.addr || e.addr + e.len <= home))
                    e.new_addr = home;
            }
        }
        put(e);
    }

    // What chance alone would seldom make: neighbours that were first faulted apart and may join
    // later, some, all or none of them faulted.
    void neighbours(i32 pid) {
        const u64 addr = address(), n = 1 + below(4);
        constexpr i32 kOnOff[][2] = {{10, 11}, {16, 17}, {14, 15}, {18, 19}};
        const auto& advice = kOnOff[below(std::size(kOnOff))];
        put(fresh(pid, addr, 3 * n));
        Event e = range(Op::madvise, pid, addr + n * kPageSize, n);
        e.advice = advice[0];
        put(e);
        some_writes(pid, addr, 3 * n);
        if (one_in(2)) share(pid);
        if (one_in(2)) put(range(Op::munmap, pid, addr + n * kPageSize, 1 + below(n)));
        if (one_in(2)) {
            e.advice = advice[1];
            put(e);
        } else {
            put(fresh(pid, addr + n * kPageSize, n));
        }
        some_writes(pid, addr, 3 * n);
    }

    // A part of a mapping goes away and comes back, to neighbours old and new.
    void away_and_home(i32 pid) {
        const u64 addr = address(), n = 1 + below(4);
        const u64 far = kArea + (u64{16} << 20) + below(8) * kPageSize;
        put(fresh(pid, addr, 3 * n));
        some_writes(pid, addr, 3 * n);
        if (one_in(2)) share(pid);
        Event e = range(Op::mremap, pid, addr + below(3) * n * kPageSize, n);
        e.new_addr = far;
        e.new_len = e.len;
        e.flags = kMayMove | kMoveFixed | (one_in(3) ? kDontUnmap : 0);
        put(e);
        if (one_in(2)) put(fresh(pid, addr, 3 * n));
        some_writes(pid, addr, 3 * n);
        some_writes(pid, far, n);
        if (one_in(3)) return;
        std::swap(e.addr, e.new_addr);
        e.flags &= ~kDontUnmap;
        put(e);
    }

    void share(i32 pid) {
        Event e = event(Op::fork, pid);
        for (e.child = 1; e.child <= kPids; ++e.child)
            if (!truth_.mm_of(e.child)) return put(e);
    }
    Event fresh(i32 pid, u64 addr, u64 pages) {
        Event e = range(Op::mmap, pid, addr, pages);
        e.prot = 3;
        e.flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
        return e;
    }
    void some_writes(i32 pid, u64 addr, u64 pages) {
        const u64 pattern = random_() & random_();
        for (u64 i = 0; i < pages; ++i) {
            if (!(pattern >> i & 1)) continue;
            Event e = event(Op::fault, pid);
            e.addr = addr + i * kPageSize;
            e.write = true;
            e.source = Source::user;
            put(e);
        }
    }

    void brk(i32 pid) {
        Event e = event(Op::brk, pid);
        e.addr = kHeap + below(16 * kPageSize);
        if (one_in(2)) e.addr &= ~(kPageSize - 1);
        put(e);
    }

    void madvise(i32 pid) {
        Event e = range(Op::madvise, pid, address(), pages());
        constexpr i32 kAdvice[] = {0,  1,  2,  4,  4,  4,  8,  10, 11, 12,  13,  14, 14,
                                   14, 15, 16, 17, 18, 19, 22, 23, 24, 102, 102, 103};
        e.advice = kAdvice[below(std::size(kAdvice))];
        put(e);
    }

    void mlock(i32 pid) {
        constexpr u64 kMcl[] = {1, 2, 3, 5, 7, 6};
        Event e;
        switch (below(6)) {
            case 0:
                e = event(Op::mlockall, pid);
                e.flags = kMcl[below(std::size(kMcl))];
                break;
            case 1:
            case 2: e = event(Op::munlockall, pid); break;
            case 3: e = range(Op::munlock, pid, address(), pages()); break;
            default:
                e = range(Op::mlock, pid, address() + below(kPageSize), pages());
                e.flags = below(2);  // MLOCK_ONFAULT
        }
        if (one_in(8)) e.error = 12;
        put(e);
    }

    void mbind_or_prctl(i32 pid) {
        Event e;
        if (one_in(2)) {
            e = range(Op::mbind, pid, address(), pages());
            e.advice = static_cast<i32>(below(3));
        } else if (one_in(8)) {
            e = event(Op::prctl, pid);
            e.flags = one_in(2) ? kThpDisable : kMemoryMerge;
            e.addr = below(2);
        } else {
            e = range(Op::prctl, pid, address(), pages());
            e.flags = kSetVma;
            e.new_addr = below(3);
        }
        put(e);
    }

    void fork(i32 pid) {
        Event e = event(Op::fork, pid);
        e.child = 1 + static_cast<i32>(below(kPids));
        if (one_in(8)) {
            e.flags = CLONE_VM | CLONE_THREAD;
        } else {
            if (truth_.mm_of(e.child)) return fault(pid, *truth_.mm_of(pid));
            if (one_in(8)) e.flags = CLONE_VM | CLONE_VFORK;
        }
        put(e);
    }

    // ---- what reclaim does, and what comes back ----

    // One mm's entries, or a whole family's.
    void reclaim(i32 pid, const Mm& mm) {
        const Vma* vma = any_vma(mm);
        const u64 first = below(vma->pages());
        const u64 pages = 1 + below(std::min<u64>(vma->pages() - first, one_in(4) ? 24 : 6));
        constexpr Op kOps[] = {Op::swap_out, Op::swap_out, Op::swap_out, Op::swap_in, Op::discard};
        const Op op = kOps[below(std::size(kOps))];
        const bool all = one_in(2);
        for (i32 each = 1; each <= kPids; ++each)
            if (each == pid || all) put(range(op, each, vma->start + first * kPageSize, pages));
    }

    // Out, and in again by some of those who had it: from the swap cache or read anew, to be
    // written or not.
    void reuse_swapped(i32 pid, const Mm& mm) {
        const Vma* vma = any_vma(mm);
        const u64 addr = vma->start + below(vma->pages()) * kPageSize;
        if (one_in(2)) share(pid);
        for (i32 each = 1; each <= kPids; ++each) put(range(Op::swap_out, each, addr, 1));
        if (one_in(3)) share(pid);
        if (one_in(4)) put(exit(1 + static_cast<i32>(below(kPids))));
        for (u64 n = below(2 * kPids); n > 0; --n) {
            const i32 each = 1 + static_cast<i32>(below(kPids));
            if (one_in(3)) put(range(Op::swap_in, each, addr, 1));
            Event e = event(Op::fault, each);
            e.addr = addr;
            e.write = one_in(2);
            e.source = Source::user;
            put(e);
        }
    }

    // A folio may have been split since.
    void walk(i32 pid, const Mm& mm) {
        const Vma* vma = any_vma(mm);
        Event e = event(Op::walk, pid);
        e.addr = vma->start + below(vma->pages()) * kPageSize;
        e.kind = one_in(2) ? WalkKind::all : WalkKind::unmap;
        e.order = static_cast<u8>(below(6));
        put(e);
    }

    // ---- the end of an mm, step by step ----

    Op step() {
        constexpr Op kSteps[] = {Op::unmap_vmas, Op::free_pgtables, Op::exit_mmap, Op::exit_mmap};
        return kSteps[below(std::size(kSteps))];
    }
    bool has_process(const Mm* mm) const {
        for (i32 pid = 1; pid <= kPids; ++pid)
            if (truth_.mm_of(pid) == mm) return true;
        return false;
    }
    void teardown() {
        const auto mms = truth_.mms();
        const Mm* mm = mms[below(mms.size())];
        if (!has_process(mm) && mm->pid) put(event(step(), mm->pid));
    }
    // An exec's old mm goes before the row of the exec.
    void rows_ahead(i32 pid) {
        if (teardown_ == Teardown::at_exit || one_in(2)) return;
        for (i32 other = 1; other <= kPids; ++other)
            if (other != pid && truth_.mm_of(other) == truth_.mm_of(pid)) return;
        for (u64 n = below(3); n > 0; --n) put(event(step(), pid));
    }

    // The copy that a fork makes before anybody sees the child. Not every fork succeeds.
    void dup_mmap(i32 pid) {
        put(event(Op::dup_mmap, pid));
        for (u64 n = below(3); n > 0; --n) make_up();
        if (!one_in(4)) share(pid);
    }

    void exec(i32 pid) {
        if (truth_.mm_of(pid)) rows_ahead(pid);
        put(event(Op::exec, pid));
        u64 stack = 1;
        if (one_in(4)) {  // arguments of several pages
            stack = 2 + below(4);
            put(range(Op::mapping, pid, 0x7ffffffff000 - stack * kPageSize, stack));
        }
        Event file = range(Op::mapping, pid, kHeap - 16 * kPageSize, 8);
        file.prot = 3;
        file.flags = MAP_PRIVATE;
        file.file = 3;
        put(file);
        if (one_in(8)) return;  // rows lost
        Event e = range(Op::mapping, pid, 0, 32 + stack);
        e.addr = kStackTop + below(16) * kPageSize;
        e.special = Special::stack;
        put(e);
        Event break_ = event(Op::brk, pid);
        break_.addr = kHeap;
        put(break_);
        Event vdso = range(Op::mapping, pid, kArea - 2 * kPmdSize, 2);
        vdso.prot = 5;
        vdso.special = Special::vdso;
        put(vdso);
    }

    void fault(i32 pid, const Mm& mm) {
        Event e = event(Op::fault, pid);
        const Vma* vma = any_vma(mm);
        e.addr = vma->start + below(vma->pages()) * kPageSize + below(kPageSize);
        if (thp_ != ThpMode::never && one_in(2))
            e.addr = vma->start + below(std::min<u64>(vma->pages(), 8)) * kPageSize;
        if (one_in(24)) e.addr = vma->start - (1 + below(4)) * kPageSize;  // growth, or SIGSEGV
        e.write = !one_in(4);
        e.source = Source::user;
        if (one_in(4) && e.write) {
            const unsigned order = 2 + static_cast<unsigned>(below(8));
            const u64 size = kPageSize << order, base = e.addr & ~(size - 1);
            if (base >= vma->start && base + size <= vma->end && !vma->file)
                e.order = static_cast<u8>(order);
        }
        const u64 run = one_in(4) ? 6 : 1;
        for (u64 i = 0; i < run; ++i, e.addr += kPageSize) {
            put(e);
            e.order = 0;
        }
    }

    const Machine& truth_;
    std::mt19937_64 random_;
    Kernel kernel_;
    ThpMode thp_;
    Teardown teardown_;
    i64 time_ = 0;
    std::vector<Event> queue_;
};

}  // namespace monkey
