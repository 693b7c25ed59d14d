// SPDX-License-Identifier: GPL-2.0-only
// The anonymous folios that need a record of their own: those that several entries map, that were
// shared once, or that are larger than a page. (A page known to be exclusive is a kPrivate entry.)
#pragma once

#include <memory>
#include <vector>

#include "replay/native/page_table.hpp"
#include "rmap_models/native/model.hpp"

namespace rmapreplay {

struct Folio {
    u64 index : 44;     // folio->index, in pages
    u64 order : 8;      //
    u64 exclusive : 1;  // large folios only: mapped by one mm and never shared since
    u64 marked : 1;     // seen in the scan in progress
    u32 mapcount;       // entries that map it; a PMD mapping counts once
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
        (*this)[pte] = Folio{index & ((u64{1} << 44) - 1), order & 0xff, 0, 0, mapcount, home};
        ++live_;
        return pte;
    }
    void free(Pte pte) {
        (*this)[pte].mapcount = 0;
        free_.push_back(pte);
        --live_;
    }
    u64 live() const { return live_; }
    u32 made() const { return made_; }  // entries are kFirst .. kFirst + made - 1
    void unmark_all() {
        for (u32 i = 0; i < made_; ++i) chunks_[i / kChunk][i % kChunk].marked = 0;
    }
    u64 bytes() const {
        return chunks_.size() * kChunk * sizeof(Folio) + free_.capacity() * sizeof(Pte);
    }

  private:
    static constexpr u32 kChunk = 4096;
    std::vector<std::unique_ptr<Folio[]>> chunks_;
    u32 made_ = 0;
    std::vector<Pte> free_;
    u64 live_ = 0;
};

}  // namespace rmapreplay
