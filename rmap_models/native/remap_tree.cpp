// SPDX-License-Identifier: GPL-2.0-only
#include "rmap_models/native/remap_tree.hpp"

#include <algorithm>

namespace rmapreplay {

void insert_sorted(std::vector<i64>& sorted, i64 d) {
    sorted.insert(std::lower_bound(sorted.begin(), sorted.end(), d), d);
}

// ---- one range ----

bool Displacements::contains(i64 d) const {
    const auto all = values();
    return std::find(all.begin(), all.end(), d) != all.end();
}

void Displacements::add(i64 d, SortedInsert insert) {
    if (contains(d)) return;
    if (many_.empty()) many_.push_back(one_);
    insert(many_, d);
    settle();
}

bool Displacements::remove(i64 d) {
    if (many_.empty()) return one_ == d;
    std::erase(many_, d);
    settle();
    return false;
}

// A single displacement needs no array.
void Displacements::settle() {
    if (many_.size() != 1) return;
    one_ = many_.front();
    std::vector<i64>().swap(many_);
}

bool Displacements::operator==(const Displacements& other) const {
    return std::ranges::equal(values(), other.values());
}

// ---- the tree ----

std::size_t RemapTree::lower(u64 index) const {
    const auto it = std::lower_bound(entries_.begin(), entries_.end(), index,
                                     [](const Entry& e, u64 i) { return e.last < i; });
    return static_cast<std::size_t>(it - entries_.begin());
}

std::span<const RemapTree::Entry> RemapTree::lookup(u64 first, u64 last) const {
    const std::size_t begin = lower(first);
    std::size_t end = begin;
    while (end < entries_.size() && entries_[end].first <= last) ++end;
    return {entries_.data() + begin, end - begin};
}

std::size_t RemapTree::split_at(u64 index) {
    const std::size_t i = lower(index);
    if (i == entries_.size() || entries_[i].first >= index) return i;
    Entry upper = entries_[i];
    upper.first = index;
    entries_[i].last = index - 1;
    array_slots_ += upper.displacements.array_slots();
    entries_.insert(entries_.begin() + static_cast<std::ptrdiff_t>(i + 1), std::move(upper));
    return i + 1;
}

// Joins neighbours among entries [from - 1, to] that say the same.
void RemapTree::join_equals(std::size_t from, std::size_t to) {
    const std::size_t begin = from > 0 ? from - 1 : 0;
    const std::size_t end = std::min(to + 1, entries_.size());
    std::size_t kept = begin;
    for (std::size_t i = begin + 1; i < end; ++i) {
        Entry& e = entries_[kept];
        if (e.last + 1 == entries_[i].first && e.displacements == entries_[i].displacements) {
            e.last = entries_[i].last;
            array_slots_ -= e.displacements.array_slots();
        } else if (++kept != i) {
            entries_[kept] = std::move(entries_[i]);
        }
    }
    if (kept + 1 < end)
        entries_.erase(entries_.begin() + static_cast<std::ptrdiff_t>(kept + 1),
                       entries_.begin() + static_cast<std::ptrdiff_t>(end));
}

void RemapTree::insert(u64 first, u64 last, i64 d, SortedInsert insert) {
    const auto at = [this](std::size_t i) {
        return entries_.begin() + static_cast<std::ptrdiff_t>(i);
    };
    const std::size_t begin = split_at(first);
    split_at(last + 1);
    std::size_t i = begin;
    u64 next = first;  // not yet dealt with
    for (; i < entries_.size() && entries_[i].first <= last; ++i) {
        if (next < entries_[i].first) {
            entries_.insert(at(i), Entry{next, entries_[i].first - 1, Displacements(d)});
            ++i;
        }
        array_slots_ -= entries_[i].displacements.array_slots();
        entries_[i].displacements.add(d, insert);
        array_slots_ += entries_[i].displacements.array_slots();
        next = entries_[i].last + 1;
    }
    if (next <= last) entries_.insert(at(i++), Entry{next, last, Displacements(d)});
    join_equals(begin, i);
}

void RemapTree::erase(u64 first, u64 last, i64 d) {
    const std::size_t begin = split_at(first);
    split_at(last + 1);
    std::size_t kept = begin, i = begin;
    for (; i < entries_.size() && entries_[i].first <= last; ++i) {
        array_slots_ -= entries_[i].displacements.array_slots();
        if (entries_[i].displacements.remove(d)) continue;
        array_slots_ += entries_[i].displacements.array_slots();
        if (kept != i) entries_[kept] = std::move(entries_[i]);
        ++kept;
    }
    entries_.erase(entries_.begin() + static_cast<std::ptrdiff_t>(kept),
                   entries_.begin() + static_cast<std::ptrdiff_t>(i));
    join_equals(begin, kept);
}

u32 RemapTree::maple_nodes() const {
    constexpr std::size_t kSlots = 16;  // MAPLE_RANGE64_SLOTS
    if (entries_.empty()) return 0;
    std::size_t nodes = 0, slots = 2 * entries_.size() + 1;
    do {
        slots = (slots + kSlots - 1) / kSlots;
        nodes += slots;
    } while (slots > 1);
    return static_cast<u32>(nodes);
}

}  // namespace rmapreplay
