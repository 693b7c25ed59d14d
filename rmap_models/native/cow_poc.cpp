// SPDX-License-Identifier: GPL-2.0-only
// cow-context as its proof of concept was written: CowModel with the holes that make it miss
// mappings. Each is numbered as in the project's list of them:
//   1  exclusive and displaced                      exclusive_walk_is_over()
//   2  exclusive, at home at an ancestor            exclusive_walk_is_over()
//   3  shared page swapped in at home in one mm     root_home()
//   4  child linked only after its PTEs are copied  mm_fork_end()
//   5  displacements inserted off by one            insert_off_by_one()
//   6  partial move with a wrong old displacement   remap()
// Not here: what mmget() cannot have, an mm that has no users left and is not unmapped yet.
#include <algorithm>

#include "rmap_models/native/cow_context.hpp"

namespace rmapreplay {

namespace {

constexpr ModelInfo kInfo = {"cow-poc",
                             "cow-context as its proof of concept was written, holes included",
                             kCowParams,
                             kCowObjects,
                             kCowWalkCounters,
                             kCowOpCounters,
                             {},
                             kCowLocks};

// Hole 5. What lies behind the new displacement is shifted from one slot too far on, so the next
// larger one is overwritten.
void insert_off_by_one(std::vector<i64>& sorted, i64 d) {
    const auto larger = std::lower_bound(sorted.begin(), sorted.end(), d);
    if (larger == sorted.end())
        sorted.push_back(d);
    else
        *larger = d;
}

class CowPoc final : public CowModel {
  public:
    explicit CowPoc(Costs& costs) : CowModel(kInfo, costs, insert_off_by_one) {}

  private:
    // Holes 1 and 2. Exclusive (folio_maybe_mapped_shared() says no) is taken to mean: the first
    // living mm looked at is the one that maps it, where its index says. The walk ends there, found
    // or not: before the remap tree is asked (1), and before the mm that has inherited the page
    // from a living ancestor, or a living cousin visited earlier, gets its turn (2).
    bool exclusive_walk_is_over(const Walk&) const override { return true; }

    // Hole 3. The mm that happens to fault first is taken for the page's home. What its ancestors,
    // siblings and cousins map of it later, from the swap cache, lies outside of the walk.
    Home root_home(const Vma& vma) const override { return home(vma); }

    // Hole 4. A walk while fork copies, where a trace has one (dup_mmap in parts), does not come
    // here.
    void mm_fork_begin(Mm& child, Mm&) override { mm_init(child); }
    void mm_fork_end(Mm& child, Mm& parent) override { link(child, parent); }

    // Hole 6. The old displacement is taken from the new part's address and the whole VMA's offset,
    // so it is too large by the pages in front of the part that moves. If it names nothing, nothing
    // is replaced, and the new place is not recorded.
    void remap(CowContext& context, const Vma& dst, const Vma& src) override {
        const u64 skipped = dst.anon_pgoff - src.anon_pgoff;
        const i64 old = displacement_of(src) + static_cast<i64>(skipped);
        const auto entries = context.remaps.lookup(dst.anon_pgoff, dst.last_index());
        const bool known =
            old == 0 || std::any_of(entries.begin(), entries.end(), [&](const auto& entry) {
                return entry.displacements.contains(old);
            });
        if (known) enter(context, dst);
    }

    bool may_forget_remaps() const override { return true; }  // holes 5 and 6
};

}  // namespace

extern const ModelEntry cow_poc_entry;
const ModelEntry cow_poc_entry = {
    &kInfo, [](const ModelParams& params, Costs& costs) -> std::unique_ptr<RmapModel> {
        check_params(kInfo, params);
        return std::make_unique<CowPoc>(costs);
    }};

}  // namespace rmapreplay
