// SPDX-License-Identifier: GPL-2.0-only
// The interval tree against a plain vector: what overlaps, in which order, ties included.
#include <algorithm>
#include <memory>
#include <random>
#include <vector>

#include "rmap_models/native/interval_tree.hpp"
#include "tests/native/check.hpp"

using namespace rmapreplay;

namespace {

struct Span : IntervalNode {
    u32 id = 0;
};

struct Pair {
    IntervalTree<Span> tree;
    std::vector<std::unique_ptr<Span>> owned;
    std::vector<Span*> in_order;  // by start, equals by insertion

    Span* add(u64 start, u64 last) {
        owned.push_back(std::make_unique<Span>());
        Span* span = owned.back().get();
        span->id = static_cast<u32>(owned.size());
        put(span, start, last);
        return span;
    }
    void put(Span* span, u64 start, u64 last) {
        span->start = start;
        span->last = last;
        in_order.insert(std::upper_bound(in_order.begin(), in_order.end(), start,
                                         [](u64 s, const Span* b) { return s < b->start; }),
                        span);
        tree.insert(span);
    }
    void remove(Span* span) {
        in_order.erase(std::find(in_order.begin(), in_order.end(), span));
        tree.erase(span);
    }
    std::vector<u32> expected(u64 first, u64 last) const {
        std::vector<u32> ids;
        for (const Span* s : in_order)
            if (s->start <= last && s->last >= first) ids.push_back(s->id);
        return ids;
    }
    std::vector<u32> found(u64 first, u64 last, u64& touched) const {
        std::vector<u32> ids;
        for (Span* s = tree.first(first, last, touched); s; s = tree.next(s, first, last, touched))
            ids.push_back(s->id);
        return ids;
    }
};

unsigned height(const IntervalNode* node) {
    return node ? 1 + std::max(height(node->left), height(node->right)) : 0;
}

}  // namespace

TEST_CASE("interval tree: an empty tree and a tree of one") {
    Pair p;
    u64 touched = 0;
    CHECK(p.tree.empty());
    CHECK(p.found(0, 100, touched).empty());
    CHECK(touched == u64{0});
    Span* only = p.add(10, 19);
    CHECK(p.found(0, 9, touched).empty());
    CHECK(p.found(20, 30, touched).empty());
    CHECK(touched == u64{2});
    CHECK(p.found(19, 19, touched) == std::vector<u32>{1});
    CHECK(p.found(10, 10, touched) == std::vector<u32>{1});
    p.remove(only);
    CHECK(p.tree.empty());
    CHECK(p.tree.validate() == std::size_t{0});
}

TEST_CASE("interval tree: equal starts come in insertion order, re-insertion goes last") {
    Pair p;
    std::vector<Span*> spans;
    for (int i = 0; i < 100; ++i) spans.push_back(p.add(5, 5 + static_cast<u64>(i % 3)));
    u64 touched = 0;
    CHECK(p.found(5, 5, touched) == p.expected(5, 5));
    CHECK(touched == u64{100});
    Span* first = spans[0];
    p.remove(first);
    p.put(first, 5, 9);
    touched = 0;
    CHECK(p.found(5, 5, touched).back() == first->id);
    CHECK(p.found(9, 9, touched) == std::vector<u32>{first->id});
}

TEST_CASE("interval tree: random insertions, removals and searches agree with a vector") {
    std::mt19937_64 random(20240607);
    const auto below = [&](u64 n) { return random() % n; };
    for (int round = 0; round < 40; ++round) {
        Pair p;
        const u64 space = round % 4 == 0 ? 4 : round % 4 == 1 ? 40 : 4000;  // few starts: many ties
        const std::size_t target = 1 + below(300);
        std::vector<Span*> removed;
        for (int step = 0; step < 1500; ++step) {
            const bool grow = p.in_order.size() < target ? below(4) != 0 : below(4) == 0;
            if (grow) {
                const u64 start = below(space), last = start + below(below(8) == 0 ? space : 4);
                if (!removed.empty() && below(2)) {
                    p.put(removed.back(), start, last);
                    removed.pop_back();
                } else {
                    p.add(start, last);
                }
            } else if (!p.in_order.empty()) {
                Span* gone = p.in_order[below(p.in_order.size())];
                p.remove(gone);
                removed.push_back(gone);
            }
            if (step % 16 == 0) {
                CHECK(p.tree.validate() == p.in_order.size());
                const u64 first = below(space + 8), last = first + below(12);
                u64 touched = 0;
                CHECK(p.found(first, last, touched) == p.expected(first, last));
                CHECK(touched <= p.in_order.size());
            }
        }
        while (!p.in_order.empty()) {
            p.remove(p.in_order[below(p.in_order.size())]);
            CHECK(p.tree.validate() == p.in_order.size());
        }
    }
}

TEST_CASE("interval tree: a search for one of many reads few nodes") {
    Pair p;
    for (u64 i = 0; i < 4096; ++i) p.add(i * 10, i * 10 + 9);
    for (u64 i = 0; i < 4096; i += 37) {
        u64 touched = 0;
        CHECK(p.found(i * 10 + 3, i * 10 + 3, touched) ==
              std::vector<u32>{static_cast<u32>(i + 1)});
        // The path down, its left neighbours that are read to be ruled out, one way back up.
        CHECK(touched <= u64{48});
    }
    const IntervalNode* root = p.owned[0].get();
    while (root->parent) root = root->parent;
    CHECK(height(root) <= 24u);  // 2 log2(n + 1)
}

TEST_CASE("interval tree: validate() notices broken order and augmentation") {
    Pair p;
    for (u64 i = 0; i < 20; ++i) p.add(i, i + 1);
    CHECK_NOTHROW(p.tree.validate());
    const u64 start = p.owned[7]->start;
    p.owned[7]->start = 90;
    CHECK_THROWS_AS(p.tree.validate(), std::logic_error);
    p.owned[7]->start = start;
    p.owned[3]->last = 70;
    CHECK_THROWS_AS(p.tree.validate(), std::logic_error);
}
