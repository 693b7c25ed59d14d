// SPDX-License-Identifier: GPL-2.0-only
// The address-space vocabulary that models and machine share, in the kernel's names.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include "traces/native/event.hpp"

namespace rmapreplay {

inline constexpr u64 kPageShift = 12;
inline constexpr u64 kPageSize = u64{1} << kPageShift;
inline constexpr u64 kPmdOrder = 9;  // pages of a 2 MB mapping, as a power of two
inline constexpr u64 kPmdSize = kPageSize << kPmdOrder;

// Which kernel's rules hold where they differ (facts cited at each use).
enum class Kernel : u8 { v6_12, v6_18, v7_3 };

// vm_flags, include/linux/mm.h.
inline constexpr u64 VM_READ = 0x1;
inline constexpr u64 VM_WRITE = 0x2;
inline constexpr u64 VM_EXEC = 0x4;
inline constexpr u64 VM_SHARED = 0x8;
inline constexpr u64 VM_ACCESS_FLAGS = VM_READ | VM_WRITE | VM_EXEC;
inline constexpr u64 VM_MAYREAD = 0x10;
inline constexpr u64 VM_MAYWRITE = 0x20;
inline constexpr u64 VM_MAYEXEC = 0x40;
inline constexpr u64 VM_MAYSHARE = 0x80;
inline constexpr u64 VM_GROWSDOWN = 0x100;
inline constexpr u64 VM_MAYBE_GUARD = 0x800;
inline constexpr u64 VM_PFNMAP = 0x400;
inline constexpr u64 VM_LOCKED = 0x2000;
inline constexpr u64 VM_IO = 0x4000;
inline constexpr u64 VM_SEQ_READ = 0x8000;
inline constexpr u64 VM_RAND_READ = 0x10000;
inline constexpr u64 VM_DONTCOPY = 0x20000;
inline constexpr u64 VM_DONTEXPAND = 0x40000;
inline constexpr u64 VM_LOCKONFAULT = 0x80000;
inline constexpr u64 VM_ACCOUNT = 0x100000;
inline constexpr u64 VM_NORESERVE = 0x200000;
inline constexpr u64 VM_HUGETLB = 0x400000;
inline constexpr u64 VM_SYNC = 0x800000;
inline constexpr u64 VM_WIPEONFORK = 0x2000000;
inline constexpr u64 VM_DONTDUMP = 0x4000000;
inline constexpr u64 VM_SOFTDIRTY = 0x8000000;
inline constexpr u64 VM_MIXEDMAP = 0x10000000;
inline constexpr u64 VM_HUGEPAGE = 0x20000000;
inline constexpr u64 VM_NOHUGEPAGE = 0x40000000;
inline constexpr u64 VM_MERGEABLE = 0x80000000;
inline constexpr u64 VM_DROPPABLE = u64{1} << 40;
inline constexpr u64 VM_SEALED = u64{1} << 42;  // v6.18; bit 63 before
inline constexpr u64 VM_SPECIAL = VM_IO | VM_DONTEXPAND | VM_PFNMAP | VM_MIXEDMAP;

struct Mm;

// One contiguous mapping (struct vm_area_struct). Addresses in bytes, offsets in pages.
struct Vma {
    u64 start = 0;
    u64 end = 0;
    u64 pgoff = 0;       // vm_pgoff: offset of `start` in the file
    u64 anon_pgoff = 0;  // offset of `start` in folio->index space (see Kernel)
    u64 flags = 0;
    Mm* mm = nullptr;
    // The model's two words. `anon_vma` is non-null iff the VMA has been anonymously faulted; the
    // machine only compares it (kernel: vma->anon_vma). `chain` is the model's own (kernel:
    // vma->anon_vma_chain).
    void* anon_vma = nullptr;
    void* chain = nullptr;
    u32 file = 0;       // struct file, 0: anonymous
    u32 policy = 0;     // mempolicy, 0: default
    u64 anon_name = 0;  // PR_SET_VMA_ANON_NAME, 0: none
    u32 serial = 0;     // order of creation in this replay
    u32 slot = 0;       // where the machine keeps it; taken again once it is freed

    u64 pages() const { return (end - start) >> kPageShift; }
    u64 last_index() const { return anon_pgoff + pages() - 1; }
    // linear_page_index() / vma_address(), mm/internal.h
    u64 index_at(u64 addr) const { return anon_pgoff + ((addr - start) >> kPageShift); }
    u64 address_of(u64 index) const { return start + ((index - anon_pgoff) << kPageShift); }
};

// The VMAs of one mm, by address: a sorted array with a one-entry cache (kernel: mm->mm_mt).
class VmaTree {
  public:
    std::size_t size() const { return slots_.size(); }
    bool empty() const { return slots_.empty(); }
    Vma* at(std::size_t i) const { return slots_[i].vma; }

    // Index of the first VMA with end > addr; size() if there is none.
    std::size_t lower(u64 addr) const {
        auto it = std::upper_bound(slots_.begin(), slots_.end(), addr,
                                   [](u64 a, const Slot& s) { return a < s.end; });
        return static_cast<std::size_t>(it - slots_.begin());
    }
    // find_vma(): the first VMA with end > addr.
    Vma* find(u64 addr) const {
        const std::size_t i = lower(addr);
        return i < slots_.size() ? slots_[i].vma : nullptr;
    }
    // vma_lookup(): the VMA that contains addr.
    Vma* lookup(u64 addr) const {
        if (cache_ && addr - cache_->start < cache_->end - cache_->start) return cache_;
        Vma* vma = find(addr);
        if (!vma || vma->start > addr) return nullptr;
        cache_ = vma;
        return vma;
    }
    std::size_t index_of(const Vma* vma) const { return lower(vma->start); }
    Vma* prev(const Vma* vma) const {
        const std::size_t i = index_of(vma);
        return i > 0 ? slots_[i - 1].vma : nullptr;
    }
    Vma* next(const Vma* vma) const {
        const std::size_t i = index_of(vma) + 1;
        return i < slots_.size() ? slots_[i].vma : nullptr;
    }

    void insert(Vma* vma) {
        cache_ = nullptr;
        slots_.insert(slots_.begin() + static_cast<std::ptrdiff_t>(lower(vma->start)),
                      Slot{vma->end, vma});
    }
    void erase(const Vma* vma) {
        cache_ = nullptr;
        slots_.erase(slots_.begin() + static_cast<std::ptrdiff_t>(index_of(vma)));
    }
    // Appends in ascending order (fork copies a whole tree).
    void append(Vma* vma) { slots_.push_back(Slot{vma->end, vma}); }
    void reserve(std::size_t n) { slots_.reserve(n); }
    // Must follow every change of a linked VMA's end; `i` is its index before the change.
    void set_end(std::size_t i, u64 end) { slots_[i].end = end; }
    u64 bytes() const { return slots_.capacity() * sizeof(Slot); }
    void clear() {
        slots_.clear();
        cache_ = nullptr;
    }

  private:
    struct Slot {
        u64 end;
        Vma* vma;
    };
    std::vector<Slot> slots_;
    mutable Vma* cache_ = nullptr;
};

// One address space (struct mm_struct), as far as a model sees it.
struct Mm {
    VmaTree vmas;
    void* rmap = nullptr;  // the model's object for this mm, if it keeps one
    u32 serial = 0;        // order of creation in this replay
    i32 pid = 0;  // the process that first used it; if that is gone, the lowest that does
};

}  // namespace rmapreplay
