// SPDX-License-Identifier: GPL-2.0-only
// The anonymous folios that need a record of their own: those that several entries map, that were
// shared once, or that are larger than a page. (A page known to be exclusive is a kPrivate entry.)
#pragma once

#include <vector>

#include "replay/native/page_table.hpp"
#include "rmap_models/native/model.hpp"

namespace rmapreplay {

struct Folio {
    u64 index : 44 = 0;     // folio->index, in pages
    u64 order : 8 = 0;      //
    u64 exclusive : 1 = 0;  // large folios only: mapped by one mm and never shared since
    u64 marked : 1 = 0;     // seen in the scan in progress
    u32 mapcount = 0;       // entries that map it; a PMD mapping counts once
    Home home = 0;
};
static_assert(sizeof(Folio) == 16);

class FolioTable {
  public:
    Folio& operator[](Pte pte) { return folios_[pte - kFirst]; }
    const Folio& operator[](Pte pte) const { return folios_[pte - kFirst]; }

    Pte make(u64 index, unsigned order, u32 mapcount, Home home) {
        Pte pte;
        if (free_.empty()) {
            pte = static_cast<Pte>(folios_.size()) + kFirst;
            folios_.emplace_back();
        } else {
            pte = free_.back();
            free_.pop_back();
        }
        Folio& f = (*this)[pte];
        f.index = index & ((u64{1} << 44) - 1);
        f.order = order & 0xff;
        f.exclusive = 0;
        f.marked = 0;
        f.mapcount = mapcount;
        f.home = home;
        ++live_;
        return pte;
    }
    void free(Pte pte) {
        (*this)[pte].mapcount = 0;
        free_.push_back(pte);
        --live_;
    }
    u64 live() const { return live_; }
    void unmark_all() {
        for (Folio& f : folios_) f.marked = 0;
    }
    u64 bytes() const { return folios_.capacity() * sizeof(Folio) + free_.capacity() * 4; }

  private:
    std::vector<Folio> folios_;
    std::vector<Pte> free_;
    u64 live_ = 0;
};

}  // namespace rmapreplay
