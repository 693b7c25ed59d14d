// SPDX-License-Identifier: GPL-2.0-only
// The questions that the mailing list raised about cow-context, each with its numbers under both
// designs.
#include "rmap_models/native/anon_vma.hpp"
#include "rmap_models/native/cow_context.hpp"
#include "tests/native/check.hpp"
#include "tests/native/model_bench.hpp"

using namespace rmapreplay;
using bench::Bench;
using bench::Walked;

namespace {

constexpr u64 X = 0x7000;
enum Live : std::size_t { kFirstKind = 1 };  // anon_vma, or cow_context
enum CowWalk : std::size_t { kContextsLive, kContextsDead, kEmptyContexts = 6 };
using Mms = std::vector<const Mm*>;

u32 useless(const Walked& walked) { return static_cast<u32>(walked.visited.size()) - walked.hits; }

}  // namespace

TEST_CASE("question a: a child that mapped something new at X, without and with a third sharer") {
    for (const bool third : {false, true}) {
        for (const std::string_view name : {"anon_vma", "cow", "cow-poc"}) {
            Bench b(name);
            Mm& a = b.exec();
            b.mmap(a, X, 1);
            b.write(a, X);
            Mm& child = b.fork(a);
            Mm* sharer = third ? &b.fork(a) : nullptr;
            b.munmap(child, X, 1);
            b.mmap(child, X, 1);
            b.write(child, X);
            const Walked walked = b.walk(a, X);
            CHECK(walked.misses == 0u);
            // anon_vma's tree knows that the child's VMA has gone.
            if (name == "anon_vma") {
                CHECK(useless(walked) == 0u);
                CHECK(walked.visited.size() == (third ? std::size_t{2} : std::size_t{1}));
                continue;
            }
            // Exclusive, that is one visit; with a third sharer the child is visited in vain.
            CHECK(walked.mms == (third ? Mms{&a, sharer, &child} : Mms{&a}));
            CHECK(useless(walked) == (third ? 1u : 0u));
        }
    }
}

TEST_CASE("question b: the parent unmaps X; until the child writes, the home is the parent's") {
    for (const std::string_view name : {"anon_vma", "cow", "cow-poc"}) {
        Bench b(name);
        Mm& a = b.exec();
        b.mmap(a, X, 1);
        b.write(a, X);
        Mm& child = b.fork(a);
        b.munmap(a, X, 1);
        const Walked before = b.walk(child, X);
        b.write(child, X);
        const Walked after = b.walk(child, X);
        CHECK(after.mms == Mms{&child});
        CHECK(after.hits == 1u);
        if (name == "anon_vma") {
            CHECK(before.mms == Mms{&child});
        } else if (name == "cow") {
            CHECK(before.mms == Mms{&child});
            CHECK(before.counters[kContextsLive] == u64{2});  // the parent's, found empty, first
            CHECK(before.counters[kEmptyContexts] == u64{1});
            CHECK(after.counters[kContextsLive] == u64{1});
        } else {
            CHECK(before.hits == 0u);  // hole 2
            CHECK(before.misses == 1u);
        }
    }
}

TEST_CASE("question c: child k keeps only VMA k of n") {
    constexpr u64 n = 120;
    for (const std::string_view name : {"anon_vma", "cow"}) {
        Bench b(name);
        Mm& p = b.exec();
        // One page each, a hole between, so that no two share an anon_vma.
        for (u64 i = 0; i < n; ++i) {
            b.mmap(p, X + 2 * i, 1);
            b.write(p, X + 2 * i);
        }
        std::vector<Mm*> children;
        for (u64 k = 0; k < n; ++k) {
            children.push_back(&b.fork(p));
            for (u64 i = 0; i < n; ++i)
                if (i != k) b.munmap(*children.back(), X + 2 * i, 1);
        }
        for (const u64 k : {u64{0}, n / 2, n - 1}) {
            const Walked walked = b.walk(p, X + 2 * k);
            CHECK(walked.mms == (Mms{&p, children[k]}));  // two visits, both hits
            CHECK(walked.misses == 0u);
            if (name == "cow") {
                CHECK(walked.counters[kContextsLive] == n + 1);
                CHECK(walked.counters[kEmptyContexts] == n - 1);
                // With early stop it depends on the place among the children, newest first.
                CHECK(b.walk(p, X + 2 * k, true).counters[kContextsLive] == n - k + 1);
            } else {
                CHECK(walked.counters[1] == u64{2});  // avcs
            }
        }
    }
}

TEST_CASE("question d: fork, parent exits, child forks, ...: what piles up") {
    constexpr u64 generations = 50;
    for (const Kernel kernel : {Kernel::v6_18, Kernel::v7_3}) {
        Bench b("anon_vma", kernel);
        Mm* at = &b.exec();
        b.mmap(*at, X, 1);
        b.write(*at, X);
        for (u64 i = 0; i < generations; ++i) {
            Mm* child = &b.fork(*at);
            b.exit(*at);
            at = child;
        }
        // Reuse keeps it at the root and two that take turns.
        CHECK(b.costs.live[kFirstKind] == u64{3});
        CHECK(b.walk(*at, X).mms == Mms{at});
    }
    Bench b("cow");
    Mm* at = &b.exec();
    b.mmap(*at, X, 1);
    b.write(*at, X);
    for (u64 i = 0; i < generations; ++i) {
        Mm* child = &b.fork(*at);
        b.exit(*at);
        at = child;
    }
    CHECK(b.costs.live[kFirstKind] == generations + 1);
    const Walked walked = b.walk(*at, X);
    CHECK(walked.mms == Mms{at});
    CHECK(walked.counters[kContextsDead] == u64{1});  // the home; the youngest is the only leaf
    b.exit(*at);
    CHECK(b.costs.live[kFirstKind] == u64{0});
}

TEST_CASE("question e: a child pins its parent only, but so the whole line above it") {
    Bench b("cow");
    auto& rmap = static_cast<CowModel&>(*b.model);
    Mm& a = b.exec();
    b.mmap(a, X, 1);
    b.write(a, X);
    Mm& m = b.fork(a);
    Mm& y = b.fork(m);
    const Home first = rmap.context(a).self, middle = rmap.context(m).self;
    b.exit(m);
    CHECK(rmap.at(middle).refcount == u64{1});  // its child
    CHECK(rmap.at(first).refcount == u64{3});   // mm, folio, and the dead child
    b.exit(y);
    CHECK(rmap.live_contexts() == std::size_t{1});  // dropping stopped at the living first
    CHECK(rmap.at(first).refcount == u64{2});
    CHECK(b.misses() == 0u);
}
