// SPDX-License-Identifier: GPL-2.0-only
// Where an mm's displaced memory is: for ranges of page offsets (folio->index), the distances, in
// pages, between offset and virtual page. What the cow-context proof of concept keeps in a maple
// tree: one displacement inline, several in a sorted array, overlapping ranges split.
#pragma once

#include <span>
#include <vector>

#include "rmap_models/native/vma.hpp"

namespace rmapreplay {

// Puts `d` into a sorted array that does not hold it.
using SortedInsert = void (*)(std::vector<i64>& sorted, i64 d);
void insert_sorted(std::vector<i64>& sorted, i64 d);

// The displacements of one range.
class Displacements {
  public:
    explicit Displacements(i64 only) : one_(only) {}

    std::span<const i64> values() const {
        return many_.empty() ? std::span(&one_, 1) : std::span<const i64>(many_);
    }
    bool contains(i64 d) const;
    void add(i64 d, SortedInsert insert);
    bool remove(i64 d);  // whether none is left
    bool operator==(const Displacements& other) const;
    std::size_t array_slots() const { return many_.size(); }

  private:
    void settle();

    i64 one_;
    std::vector<i64> many_;  // empty while there is only one
};

class RemapTree {
  public:
    struct Entry {
        u64 first;
        u64 last;  // inclusive
        Displacements displacements;
    };

    bool empty() const { return entries_.empty(); }
    std::span<const Entry> entries() const { return entries_; }
    // The entries that overlap [first, last], in order. They stay valid until the next change.
    std::span<const Entry> lookup(u64 first, u64 last) const;
    void insert(u64 first, u64 last, i64 d, SortedInsert insert = insert_sorted);
    void erase(u64 first, u64 last, i64 d);
    void clear() {
        entries_.clear();
        array_slots_ = 0;
    }

    // What the kernel would have allocated: maple nodes of 16 slots, all full (so at least this
    // many), a range and the gap before it taking a slot each; and slots of displacement arrays.
    u32 maple_nodes() const;
    u32 array_slots() const { return static_cast<u32>(array_slots_); }

  private:
    std::size_t lower(u64 index) const;     // first entry that ends at or after index
    std::size_t split_at(u64 index);  // first entry that starts at or after it, split there
    void join_equals(std::size_t from, std::size_t to);

    std::vector<Entry> entries_;
    std::size_t array_slots_ = 0;
};

}  // namespace rmapreplay
