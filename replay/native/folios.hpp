// SPDX-License-Identifier: GPL-2.0-only
// The anonymous folios that need a record of their own: those that several entries map or have in
// swap, that were shared once, or that are larger than a page. (A page known to be exclusive is a
// kPrivate or kSwapPrivate entry.)
#pragma once

#include <memory>
#include <unordered_map>
#include <vector>

#include "replay/native/page_table.hpp"
#include "rmap_models/native/model.hpp"

namespace rmapreplay {

struct Folio {
    u64 index : 44;     // folio->index, in pages
    u64 order : 8;      //
    u64 exclusive : 1;  // mapped by one mm and never shared since; order 0: but homed elsewhere
    u64 marked : 1;     // seen in the scan in progress
    u64 swapped : 1;    // swap entries refer to it; order 0 only
    u32 mapcount;       // entries that map it; a PMD mapping counts once; 0 only if swapped
    Home home;
};
static_assert(sizeof(Folio) == 16);

class FolioTable {
  public:
    Folio& operator[](Pte pte) {
        const u32 i = pte - kFirst;
        return chunks_[i / kChunk][i % kChunk];
    }
    const Folio& operator[](Pte pte) const {
        const u32 i = pte - kFirst;
        return chunks_[i / kChunk][i % kChunk];
    }

    Pte make(u64 index, unsigned order, u32 mapcount, Home home) {
        Pte pte;
        if (free_.empty()) {
            if (made_ % kChunk == 0)
                chunks_.push_back(std::make_unique_for_overwrite<Folio[]>(kChunk));
            pte = made_++ + kFirst;
        } else {
            pte = free_.back();
            free_.pop_back();
        }
        (*this)[pte] = Folio{index & ((u64{1} << 44) - 1), order & 0xff, 0, 0, 0, mapcount, home};
        ++live_;
        return pte;
    }
    void free(Pte pte) {
        (*this)[pte].mapcount = 0;
        free_.push_back(pte);
        --live_;
    }
    // The swap entries that refer to it (swap_map).
    u32 swap_count(Pte pte) const { return (*this)[pte].swapped ? swap_map_.at(pte) : 0; }
    void swap_dup(Pte pte, u32 n = 1) {
        swap_map_[pte] += n;
        (*this)[pte].swapped = 1;
    }
    void swap_put(Pte pte) {
        const auto it = swap_map_.find(pte);
        if (--it->second) return;
        swap_map_.erase(it);
        (*this)[pte].swapped = 0;
    }

    u64 live() const { return live_; }
    u64 mapped() const {  // without those that are in swap only
        u64 n = live_;
        for (const auto& [pte, count] : swap_map_) n -= (*this)[pte].mapcount == 0;
        return n;
    }
    u32 made() const { return made_; }  // entries are kFirst .. kFirst + made - 1
    void unmark_all() {
        for (u32 i = 0; i < made_; ++i) chunks_[i / kChunk][i % kChunk].marked = 0;
    }
    u64 bytes() const {
        return chunks_.size() * kChunk * sizeof(Folio) + free_.capacity() * sizeof(Pte) +
               swap_map_.size() * sizeof(*swap_map_.begin());
    }

  private:
    static constexpr u32 kChunk = 4096;
    std::vector<std::unique_ptr<Folio[]>> chunks_;
    u32 made_ = 0;
    std::vector<Pte> free_;
    u64 live_ = 0;
    std::unordered_map<Pte, u32> swap_map_;
};

}  // namespace rmapreplay
