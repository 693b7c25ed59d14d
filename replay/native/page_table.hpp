// SPDX-License-Identifier: GPL-2.0-only
// The truth: which folio each page of an mm holds.
//
// A page table is a sorted array of 2 MB leaves. A leaf holds eight groups of 64 entries, each
// allocated when first needed, and says by bitmap which entries hold something, so that fork, unmap
// and scans touch only what is mapped. An entry is 4 bytes:
//   kNone         nothing
//   kZero         the shared zero page: mapped, but no anonymous folio
//   kGuard        a guard marker (MADV_GUARD_INSTALL)
//   kSwapPrivate  a swap entry that is known to be the only one of its page (pte_swp_exclusive())
//   kPrivate      an order-0 folio that only this entry maps and that is known to be exclusive
//                 (PageAnonExclusive). It needs no record of its own: its index follows from the
//                 VMA's offset and its home from the VMA.
//   >= kFirst     a folio in the FolioTable
//   with kSwap    a swap entry of that folio, which may be gone from memory; its record stays
// A leaf may instead be mapped as a whole by one PMD.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <vector>

#include "rmap_models/native/pool.hpp"
#include "rmap_models/native/vma.hpp"

namespace rmapreplay {

using Pte = u32;
inline constexpr Pte kNone = 0;
inline constexpr Pte kZero = 1;
inline constexpr Pte kGuard = 2;
inline constexpr Pte kSwapPrivate = 3;
inline constexpr Pte kPrivate = 4;
inline constexpr Pte kFirst = 16;
inline constexpr Pte kSwap = Pte{1} << 31;

inline constexpr bool is_anon(Pte pte) { return pte - kPrivate < kSwap - kPrivate; }  // mapped
inline constexpr bool is_folio(Pte pte) { return pte - kFirst < kSwap - kFirst; }
inline constexpr bool is_swap(Pte pte) { return pte == kSwapPrivate || pte >= kSwap; }

inline constexpr unsigned kGroupPages = 64;
inline constexpr unsigned kGroups = 8;
inline constexpr u32 kNoGroup = 0;

struct PteGroup {
    std::array<Pte, kGroupPages> pte{};
};

struct PteLeaf {
    std::array<u64, kGroups> present{};
    std::array<u32, kGroups> group{};  // kNoGroup, or a handle
    Pte huge = kNone;  // kZero or a folio: the whole leaf is one PMD mapping
    bool moving = false;  // mremap in progress takes it along

    bool empty() const {
        u64 any = huge;
        for (u64 bits : present) any |= bits;
        return any == 0;
    }
};

// Leaves and groups of every mm come from here.
struct PteStore {
    Pool<PteLeaf> leaves;
    Pool<PteGroup> groups;
    u64 bytes() const { return leaves.bytes() + groups.bytes(); }
};

class PageTable {
  public:
    static constexpr u64 key_of(u64 addr) { return addr >> (kPageShift + kPmdOrder); }
    static constexpr unsigned page_of(u64 addr) { return (addr >> kPageShift) & 511; }

    PteLeaf* leaf(PteStore& store, u64 addr) const {
        const u64 key = key_of(addr);
        if (key == cached_key_) return cached_leaf_;
        const std::size_t i = lower(key);
        if (i == slots_.size() || slots_[i].key != key) return nullptr;
        return remember(key, &store.leaves[slots_[i].leaf]);
    }
    PteLeaf* make_leaf(PteStore& store, u64 addr) {
        const u64 key = key_of(addr);
        if (key == cached_key_) return cached_leaf_;
        const std::size_t i = lower(key);
        if (i == slots_.size() || slots_[i].key != key)
            slots_.insert(slots_.begin() + static_cast<std::ptrdiff_t>(i),
                          Slot{key, store.leaves.alloc()});
        return remember(key, &store.leaves[slots_[i].leaf]);
    }

    // The entry for addr; a page under a PMD mapping reads as that mapping's folio.
    Pte get(PteStore& store, u64 addr) const {
        const PteLeaf* l = leaf(store, addr);
        return l ? entry(store, *l, page_of(addr)) : kNone;
    }
    static Pte entry(PteStore& store, const PteLeaf& l, unsigned page) {
        if (l.huge) return l.huge;
        const unsigned g = page / kGroupPages, bit = page % kGroupPages;
        if (!(l.present[g] >> bit & 1)) return kNone;
        return store.groups[l.group[g]].pte[bit];
    }
    static void set(PteStore& store, PteLeaf& l, unsigned page, Pte pte) {
        const unsigned g = page / kGroupPages, bit = page % kGroupPages;
        if (l.group[g] == kNoGroup) l.group[g] = store.groups.alloc();
        store.groups[l.group[g]].pte[bit] = pte;
        l.present[g] |= u64{1} << bit;
    }
    static void clear(PteLeaf& l, unsigned page) {
        l.present[page / kGroupPages] &= ~(u64{1} << (page % kGroupPages));
    }
    // Gives back the groups that hold nothing.
    static void trim(PteStore& store, PteLeaf& l) {
        for (unsigned g = 0; g < kGroups; ++g)
            if (l.group[g] != kNoGroup && !l.present[g]) {
                store.groups.free(l.group[g]);
                l.group[g] = kNoGroup;
            }
    }

    // Calls on_leaf(leaf, address of its first page, first page, last page + 1) for every leaf that
    // overlaps [start, end), in address order.
    template <typename F>
    void for_each_leaf(PteStore& store, u64 start, u64 end, F&& on_leaf) const {
        for (std::size_t i = lower(key_of(start)); i < slots_.size(); ++i) {
            const u64 base = slots_[i].key << (kPageShift + kPmdOrder);
            if (base >= end) break;
            const auto first = start > base ? page_of(start) : 0u;
            const auto last = end - base >= kPmdSize ? 512u : page_of(end);
            on_leaf(store.leaves[slots_[i].leaf], base, first, last);
        }
    }
    // Calls on_page(page number within the leaf, entry) for the present entries of [first, last).
    template <typename F>
    static void for_each_page(PteStore& store, PteLeaf& l, unsigned first, unsigned last,
                              F&& on_page) {
        for (unsigned g = first / kGroupPages; g * kGroupPages < last; ++g) {
            u64 bits = l.present[g];
            if (!bits) continue;
            const unsigned base = g * kGroupPages;
            if (first > base) bits &= ~u64{0} << (first - base);
            if (last < base + kGroupPages) bits &= (u64{1} << (last - base)) - 1;
            Pte* const pte = store.groups[l.group[g]].pte.data();
            for (; bits; bits &= bits - 1) {
                const auto bit = static_cast<unsigned>(std::countr_zero(bits));
                on_page(base + bit, pte[bit]);
            }
        }
    }

    // Frees the leaf that holds addr; it must be empty.
    void free_leaf(PteStore& store, u64 addr) {
        const std::size_t i = lower(key_of(addr));
        trim(store, store.leaves[slots_[i].leaf]);
        store.leaves.free(slots_[i].leaf);
        slots_.erase(slots_.begin() + static_cast<std::ptrdiff_t>(i));
        cached_key_ = kNoKey;
    }
    void free_all(PteStore& store) {
        for (const Slot& s : slots_) {
            PteLeaf& l = store.leaves[s.leaf];
            l.present.fill(0);
            trim(store, l);
            store.leaves.free(s.leaf);
        }
        slots_.clear();
        slots_.shrink_to_fit();
        cached_key_ = kNoKey;
    }
    u64 bytes() const { return slots_.capacity() * sizeof(Slot); }

  private:
    struct Slot {
        u64 key;
        u32 leaf;
    };
    static constexpr u64 kNoKey = ~u64{0};

    std::size_t lower(u64 key) const {
        auto it = std::lower_bound(slots_.begin(), slots_.end(), key,
                                   [](const Slot& s, u64 k) { return s.key < k; });
        return static_cast<std::size_t>(it - slots_.begin());
    }
    PteLeaf* remember(u64 key, PteLeaf* l) const {
        cached_key_ = key;
        return cached_leaf_ = l;
    }

    std::vector<Slot> slots_;
    mutable u64 cached_key_ = kNoKey;
    mutable PteLeaf* cached_leaf_ = nullptr;
};

}  // namespace rmapreplay
