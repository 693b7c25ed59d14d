// SPDX-License-Identifier: GPL-2.0-only
// Numbers that stand for VMAs and address spaces, for models written in other languages. What such
// a model hands back is checked: a number that stands for nothing is the model's failure, not ours.
#pragma once

#include <stdexcept>
#include <string>
#include <vector>

#include "rmap_models/native/invariant.hpp"
#include "rmap_models/native/model.hpp"

namespace rmapreplay {

// A model did what no model may. The text says what, in one line.
class ModelFailure : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

// A VMA's number holds its serial, so that a number kept too long is told from that of the VMA
// which lives in the same place now. 0 is no VMA, and no mm.
class Handles {
  public:
    u64 of(const Vma& vma) {
        if (vma.slot >= vmas_.size()) vmas_.resize(vma.slot + 1, {nullptr, 0});
        vmas_[vma.slot].vma = &vma;
        return u64{vma.serial} << 32 | vma.slot;
    }
    u32 of(const Mm& mm) {
        if (mm.serial >= mms_.size()) mms_.resize(mm.serial + 1, nullptr);
        mms_[mm.serial] = &mm;
        return mm.serial;
    }
    void forget(const Mm& mm) { mms_[mm.serial] = nullptr; }

    // Null if there is none, or no more.
    const Vma* vma(u64 handle) const {
        const u64 slot = handle & 0xffffffff;
        if (slot >= vmas_.size() || !vmas_[slot].vma) return nullptr;
        const Vma* vma = vmas_[slot].vma;
        return vma->mm && vma->serial == handle >> 32 ? vma : nullptr;
    }
    const Mm* mm(u64 handle) const { return handle < mms_.size() ? mms_[handle] : nullptr; }

    // A walk begins: each VMA may be offered to it once.
    void begin_walk() { ++walk_; }
    // What a model offers to a walk. Throws ModelFailure if it is no VMA, not faulted, has none of
    // the folio's pages, or was offered before.
    const Vma& offered(u64 handle, const FolioView& folio) {
        const Vma* found = vma(handle);
        if (!found || !found->anon_vma || found->last_index() < folio.index ||
            found->anon_pgoff >= folio.index + folio.nr || vmas_[found->slot].walk == walk_)
            refuse(handle, found);
        vmas_[found->slot].walk = walk_;
        return *found;
    }

    // For what a model finds by mm and address: whether the VMA has a page of the folio and was not
    // offered yet, which it then is.
    bool offer_once(const Vma& vma, const FolioView& folio) {
        if (!vma.anon_vma || vma.last_index() < folio.index ||
            vma.anon_pgoff >= folio.index + folio.nr)
            return false;
        of(vma);
        Slot& slot = vmas_[vma.slot];
        if (slot.walk == walk_) return false;
        slot.walk = walk_;
        return true;
    }

  private:
    [[noreturn, gnu::cold, gnu::noinline]] void refuse(u64 handle, const Vma* found) const {
        if (!found) throw ModelFailure("offered VMA " + std::to_string(handle) + ", which is none");
        const std::string what = "offered " + describe(*found);
        if (!found->anon_vma) throw ModelFailure(what + ", not faulted");
        if (vmas_[found->slot].walk == walk_) throw ModelFailure(what + " twice");
        throw ModelFailure(what + ", which has no page of the folio");
    }

    struct Slot {
        const Vma* vma;
        u64 walk;  // the last that it was offered to
    };
    std::vector<Slot> vmas_;  // by Vma::slot
    std::vector<const Mm*> mms_;  // by Mm::serial
    u64 walk_ = 0;
};

}  // namespace rmapreplay
