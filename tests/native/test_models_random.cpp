// SPDX-License-Identifier: GPL-2.0-only
// Random operation sequences: after each, a model's invariants hold and no walk misses a mapping.
#include <algorithm>
#include <random>

#include "rmap_models/native/anon_vma.hpp"
#include "tests/native/check.hpp"
#include "tests/native/model_bench.hpp"

using namespace rmapreplay;
using bench::Bench;

namespace {

constexpr u64 kBase = 0x1000, kSpace = 96;  // pages; small, so that ranges meet often

class Monkey {
  public:
    Monkey(Bench& bench, u64 seed) : b_(bench), random_(seed) { b_.exec(); }

    void step() {
        if (b_.processes() == 0) b_.exec();
        Mm& mm = b_.process(below(b_.processes()));
        switch (below(16)) {
            case 0:
            case 1: map(mm); break;
            case 2: unmap(mm); break;
            case 3: split(mm); break;
            case 4:
            case 5: merge(mm); break;
            case 6: move(mm); break;
            case 7: grow(mm); break;
            case 8:
                if (b_.processes() < 7) forked(b_.fork(mm), mm);
                break;
            case 9:
                if (below(2) || b_.processes() == 7) b_.exit(mm);
                break;
            default: write(mm);
        }
    }

  private:
    u64 below(u64 n) { return random_() % n; }
    // A fork makes an anon_vma only if each that the parent's VMA links has VMAs of its own or at
    // least two children (maybe_reuse_anon_vma()).
    void forked(const Mm& child, const Mm& parent) {
        const auto* rmap = dynamic_cast<const AnonVmaModel*>(b_.model.get());
        for (std::size_t i = 0; rmap && i < parent.vmas.size(); ++i) {
            const Vma &from = *parent.vmas.at(i), &vma = *child.vmas.at(i);
            if (!vma.anon_vma) continue;
            const auto linked = rmap->anon_vma_chain(from);
            const u32 own = rmap->anon_vma(vma).self;
            if (std::find(linked.begin(), linked.end(), own) != linked.end()) continue;
            for (const u32 handle : linked)
                CHECK((rmap->at(handle).num_active_vmas || rmap->at(handle).num_children > 1));
        }
    }
    bool is_free(Mm& mm, u64 page, u64 pages) {
        const Vma* vma = mm.vmas.find(page << kPageShift);
        return !vma || vma->start >= (page + pages) << kPageShift;
    }
    Vma* any(Mm& mm) { return mm.vmas.empty() ? nullptr : mm.vmas.at(below(mm.vmas.size())); }
    u64 page_in(const Vma& vma) { return (vma.start >> kPageShift) + below(vma.pages()); }

    void map(Mm& mm) {
        const u64 page = kBase + below(kSpace), pages = 1 + below(8);
        if (!is_free(mm, page, pages)) return;
        if (below(3))
            b_.mmap(mm, page, pages);
        else  // a private file mapping, offset by the file
            b_.map(mm, page, pages, below(4), bench::kRw, 1 + static_cast<u32>(below(2)));
    }
    void unmap(Mm& mm) { b_.munmap(mm, kBase + below(kSpace), 1 + below(6)); }
    void split(Mm& mm) {
        Vma* vma = any(mm);
        if (!vma || vma->pages() < 2) return;
        b_.split(*vma, (vma->start >> kPageShift) + 1 + below(vma->pages() - 1), below(2));
    }
    void merge(Mm& mm) {
        if (mm.vmas.size() < 2) return;
        const std::size_t from = below(mm.vmas.size() - 1);
        for (std::size_t i = from; i + 1 < mm.vmas.size(); ++i) {
            Vma &prev = *mm.vmas.at(i), &next = *mm.vmas.at(i + 1);
            if (!b_.mergeable(prev, next)) continue;
            if (below(2) || !prev.anon_vma || !next.anon_vma)
                b_.merge(prev, next);
            else
                b_.move_boundary(
                    prev, next,
                    (prev.start >> kPageShift) + 1 + below(prev.pages() + next.pages() - 1));
            return;
        }
    }
    void move(Mm& mm) {
        Vma* vma = any(mm);
        if (!vma) return;
        const u64 page = page_in(*vma);
        const u64 pages = 1 + below((vma->end >> kPageShift) - page);
        // Home again now and then.
        const u64 to = below(3) == 0 ? vma->index_at(page << kPageShift) : kBase + below(kSpace);
        if (to < 0x100 || !is_free(mm, to, pages)) return;
        b_.mremap(mm, page, pages, to, below(3) == 0);
    }
    void grow(Mm& mm) {
        Vma* vma = any(mm);
        if (!vma || vma->file || vma->anon_pgoff < 8) return;
        const u64 pages = 1 + below(3), start = vma->start >> kPageShift;
        if (is_free(mm, start - pages, pages)) b_.grow_down(*vma, pages);
    }
    void write(Mm& mm) {
        if (Vma* vma = any(mm)) b_.write(mm, page_in(*vma), 1);
    }

    Bench& b_;
    std::mt19937_64 random_;
};

template <typename Check>
void run(std::string_view model, Kernel kernel, u64 seeds, int steps, Check&& check) {
    for (u64 seed = 0; seed < seeds; ++seed) {
        Bench b(model, kernel);
        Monkey monkey(b, seed);
        try {
            for (int i = 0; i < steps; ++i) {
                monkey.step();
                check(b, i);
            }
            while (b.processes()) b.exit(b.process(0));
            check(b, 0);
            for (const u64 live : b.costs.live) CHECK(live == u64{0});
        } catch (const std::logic_error& error) {
            check::report(false, __FILE__, __LINE__, error.what(),
                          std::string(model) + ", seed " + std::to_string(seed));
        }
    }
}

}  // namespace

TEST_CASE("models, random: anon_vma keeps its invariants and misses nothing") {
    for (const Kernel kernel : {Kernel::v6_12, Kernel::v6_18, Kernel::v7_3})
        run("anon_vma", kernel, 25, 400, [](Bench& b, int i) {
            b.validate();
            if (i % 8 == 0) CHECK(b.misses() == 0u);
        });
}

TEST_CASE("models, random: cow keeps its invariants and misses nothing") {
    run("cow", Kernel::v7_3, 60, 400, [](Bench& b, int i) {
        b.validate();
        if (i % 4 == 0) CHECK(b.misses() == 0u);
    });
}

TEST_CASE("models, random: anon_vma_global keeps its invariants and misses nothing") {
    run("anon_vma_global", Kernel::v7_3, 40, 400, [](Bench& b, int i) {
        b.validate();
        if (i % 4 == 0) CHECK(b.misses() == 0u);
    });
}

TEST_CASE("models, random: anon_vma_lazy keeps its invariants and misses nothing") {
    run("anon_vma_lazy", Kernel::v7_3, 60, 400, [](Bench& b, int i) {
        b.validate();
        if (i % 4 == 0) CHECK(b.misses() == 0u);
    });
}

TEST_CASE("models, random: cow-poc misses mappings, and keeps its invariants all the same") {
    u32 missed = 0;
    run("cow-poc", Kernel::v7_3, 20, 400, [&](Bench& b, int i) {
        b.validate();
        if (i % 8 == 0) missed += b.misses();
    });
    CHECK(missed > 0u);
}
