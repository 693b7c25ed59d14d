// SPDX-License-Identifier: GPL-2.0-only
// cow: contexts, displacements and the order of walks. cow-poc: each of its holes, which cow does
// not have.
#include <random>

#include "rmap_models/native/cow_context.hpp"
#include "tests/native/check.hpp"
#include "tests/native/model_bench.hpp"

using namespace rmapreplay;
using bench::Bench;

namespace {

enum Object : std::size_t { kCowContext = 1, kMapleNode = 2, kDisplacement = 3 };
enum WalkCounter : std::size_t {
    kContextsLive,
    kContextsDead,
    kMmget,
    kVmaLookups,
    kRemapLookups,
    kRemapEntries,
    kEmptyContexts
};
constexpr u64 X = 0x7000, Y = 0x9000;
using Mms = std::vector<const Mm*>;

struct CowBench : Bench {
    explicit CowBench(std::string_view name = "cow") : Bench(name) {}
    CowModel& rmap() { return static_cast<CowModel&>(*model); }
    const CowContext& context(const Mm& mm) { return rmap().context(mm); }
    std::vector<i64> displacements(const Mm& mm, u64 index) {
        std::vector<i64> all;
        for (const auto& e : context(mm).remaps.lookup(index, index))
            for (const i64 d : e.displacements.values()) all.push_back(d);
        return all;
    }
    bool notices(std::string_view what) const { return broken().find(what) != std::string::npos; }
    void check() { CHECK(broken() == ""); }
};

}  // namespace

TEST_CASE("cow: home first, then children before their parent, newest first, never an ancestor") {
    CowBench b;
    Mm& a = b.exec();
    b.mmap(a, X, 1);
    Mm& h = b.fork(a);
    b.write(h, X);
    Mm& c1 = b.fork(h);
    Mm& c2 = b.fork(h);
    Mm& g1 = b.fork(c1);
    Mm& g2 = b.fork(c1);
    Mm& g3 = b.fork(c2);
    CHECK(b.walk(g1, X).mms == (Mms{&h, &g3, &c2, &g2, &g1, &c1}));
    CHECK(b.walk(g1, X).counters[kContextsLive] == u64{6});
    CHECK(b.misses() == 0u);
    b.check();

    b.exit(c1);  // dead, but linked: its children hold it
    const auto walked = b.walk(g1, X);
    CHECK(walked.mms == (Mms{&h, &g3, &c2, &g2, &g1}));
    CHECK(walked.counters[kContextsDead] == u64{1});
    CHECK(walked.counters[kContextsLive] == u64{5});
    CHECK(b.misses() == 0u);
    b.check();

    b.write(g2, X);  // its own copy: a home without descendants
    CHECK(b.walk(g2, X).mms == Mms{&g2});
}

TEST_CASE("cow: contexts come with mms and go when nothing needs them") {
    CowBench b;
    Mm& a = b.exec();
    b.mmap(a, X, 1);
    b.write(a, X);
    CHECK(b.context(a).refcount == u64{2});  // mm, folio
    Mm& c = b.fork(a);
    CHECK(b.context(a).refcount == u64{3});  // and child
    CHECK(b.context(c).refcount == u64{1});
    const Home home = b.context(a).self;
    b.exit(a);
    CHECK(b.rmap().live_contexts() == std::size_t{2});
    CHECK(b.rmap().at(home).mm == nullptr);
    CHECK(b.rmap().at(home).refcount == u64{2});
    CHECK(b.misses() == 0u);
    b.check();
    b.exit(c);
    CHECK(b.rmap().live_contexts() == std::size_t{0});
    CHECK(b.costs.live[kCowContext] == u64{0});
    b.check();
}

TEST_CASE("cow: dropping a context stops at the first ancestor that is still needed") {
    CowBench b;
    Mm* at = &b.exec();
    b.mmap(*at, X, 2);
    b.write(*at, X);
    for (int i = 0; i < 10; ++i) {  // fork, parent exits, child forks, ...
        Mm* child = &b.fork(*at);
        if (i == 4) b.write(*child, X);  // its copy makes it a home
        b.exit(*at);
        at = child;
    }
    CHECK(b.rmap().live_contexts() == std::size_t{11});
    b.check();
    Mm& one = b.fork(*at);
    Mm& other = b.fork(*at);
    b.exit(*at);
    b.check();
    const auto shared = b.walk(one, X);
    CHECK(shared.mms == (Mms{&other, &one}));
    CHECK(shared.counters[kContextsDead] == u64{6});  // number 5 (home) to number 10
    b.exit(other);
    const auto exclusive = b.walk(one, X);  // the leaf comes first, and is enough
    CHECK(exclusive.mms == Mms{&one});
    CHECK(exclusive.counters[kContextsDead] == u64{1});
    b.munmap(one, X, 1);
    CHECK(b.rmap().live_contexts() == std::size_t{12});  // its ancestors hang on it
    b.exit(one);
    CHECK(b.rmap().live_contexts() == std::size_t{0});
    b.check();
}

TEST_CASE("cow: no VMA is a fork child, and all faulted VMAs of an mm may merge") {
    CowBench b;
    Mm& a = b.exec();
    b.mmap(a, X, 2);
    b.mmap(a, Y, 2);
    b.write(a, X);
    b.write(a, Y);
    Mm& c = b.fork(a);
    CHECK(b.at(c, X).anon_vma == b.at(c, Y).anon_vma);
    CHECK(b.at(c, X).anon_vma != b.at(a, X).anon_vma);
    CHECK_FALSE(b.model->vma_is_fork_child(b.at(c, X)));
}

TEST_CASE("cow: moves are recorded, copied by fork and forgotten when they come home") {
    CowBench b;
    Mm& a = b.exec();
    b.mmap(a, X, 8);
    b.write(a, X, 8);
    CHECK(b.context(a).remaps.empty());
    b.mremap(a, X, 8, Y);
    CHECK(b.displacements(a, X + 3) == std::vector<i64>{static_cast<i64>(Y - X)});
    CHECK(b.costs.live[kMapleNode] == u64{1});
    CHECK(b.misses() == 0u);
    b.check();
    Mm& c = b.fork(a);
    CHECK(b.displacements(c, X + 3) == std::vector<i64>{static_cast<i64>(Y - X)});
    b.mremap(c, Y + 2, 2, Y + 100);  // a part of it, in the child
    CHECK(b.displacements(c, X + 1) == std::vector<i64>{static_cast<i64>(Y - X)});
    CHECK(b.displacements(c, X + 3) == std::vector<i64>{static_cast<i64>(Y - X + 98)});
    CHECK(b.misses() == 0u);
    b.check();
    b.mremap(a, Y, 8, X);
    CHECK(b.context(a).remaps.empty());
    CHECK(b.misses() == 0u);
    b.check();
    b.munmap(c, Y + 100, 2);
    CHECK(b.displacements(c, X + 3).empty());
    CHECK(b.misses() == 0u);
    b.check();
    b.exit(a);
    b.exit(c);
    CHECK(b.costs.live[kMapleNode] == u64{0});
}

TEST_CASE("cow: a displaced VMA stays known through split, merge, boundary moves and growth") {
    CowBench b;
    Mm& a = b.exec();
    b.mmap(a, X, 16);
    b.write(a, X, 16);
    Vma& moved = b.mremap(a, X, 16, Y);
    const auto known = [&] { return b.context(a).remaps.lookup(0, ~u64{0} >> 1).size(); };
    Vma& upper = b.split(moved, Y + 8, false);
    b.check();
    CHECK(known() == std::size_t{1});
    Vma& lower = b.split(moved, Y + 4, true);
    b.check();
    b.move_boundary(moved, upper, Y + 6);
    b.check();
    b.merge(lower, moved);
    b.merge(lower, upper);
    b.check();
    CHECK(known() == std::size_t{1});
    b.grow_down(lower, 5);
    b.check();
    CHECK(b.displacements(a, X - 5) == std::vector<i64>{static_cast<i64>(Y - X)});
    CHECK(b.misses() == 0u);
    b.munmap(a, Y + 3, 4);
    b.check();
    CHECK(known() == std::size_t{2});
    CHECK(b.misses() == 0u);
    b.mremap(a, Y - 5, 4, Y + 50, true);  // the source stays and loses what it held
    b.check();
    CHECK(b.misses() == 0u);
}

TEST_CASE("cow: an exec'd stack is moved with its offsets, twice re-entered") {
    CowBench b;
    Mm& a = b.exec();
    const u64 top = 0x7ffff;
    Vma& stack = b.mmap(a, top - 1, 1);
    b.write(a, top - 1);
    b.model->pre_update_vma(stack);  // relocate_vma_down(): both places, then the lower one
    stack.start -= 0x100 << kPageShift;
    b.model->post_update_vma(stack);
    b.check();
    b.model->pre_update_vma(stack);
    a.vmas.set_end(0, stack.start + kPageSize);
    stack.end = stack.start + kPageSize;
    b.model->post_update_vma(stack);
    b.check();
    CHECK(b.displacements(a, top - 1) == std::vector<i64>{-0x100});
    CHECK(b.displacements(a, top).empty());
    b.grow_down(stack, 33);
    CHECK(b.displacements(a, top - 34) == std::vector<i64>{-0x100});
    b.check();
    Mm& c = b.fork(a);
    CHECK(b.displacements(c, top - 1) == std::vector<i64>{-0x100});
    b.check();
}

TEST_CASE("cow: private file mappings of early kernels pile up on small offsets") {
    CowBench b;
    Mm& a = b.exec();
    for (u64 i = 0; i < 20; ++i) {
        b.map(a, X + i * 32, 8, 2, bench::kRw, static_cast<u32>(i + 1));
        b.write(a, X + i * 32 + i % 8);
    }
    CHECK(b.displacements(a, 5).size() == std::size_t{20});
    CHECK(b.costs.live[kDisplacement] == u64{20});
    b.check();
    CHECK(b.misses() == 0u);
    const auto walked = b.walk(a, X + 3 * 32 + 3);
    CHECK(walked.visited.size() == std::size_t{20});  // exclusive or not, all are looked at
    CHECK(walked.hits == 1u);
}

TEST_CASE("cow: an exclusive folio that is where its index says costs one VMA lookup") {
    CowBench b;
    Mm& a = b.exec();
    b.mmap(a, X, 1);
    Mm& c = b.fork(a);
    b.fork(c);
    b.write(a, X);
    const auto walked = b.walk(a, X);
    CHECK(walked.visited.size() == std::size_t{1});
    CHECK(walked.counters[kContextsLive] == u64{1});
    CHECK(walked.counters[kVmaLookups] == u64{1});
    CHECK(walked.counters[kRemapLookups] == u64{0});
}

// ---- the holes ----

namespace {

// Runs a scenario that ends with pages mapped, under both; says how many mappings each missed.
struct Missed {
    u32 cow;
    u32 poc;
};
template <typename Scenario>
Missed missed_by(Scenario&& scenario) {
    Missed missed{};
    for (const bool poc : {false, true}) {
        CowBench b(poc ? "cow-poc" : "cow");
        scenario(b);
        if (!poc) b.check();
        (poc ? missed.poc : missed.cow) = b.misses() / 2;  // each page is walked twice
    }
    return missed;
}

}  // namespace

TEST_CASE("cow-poc hole 1: exclusive and displaced") {
    const auto scenario = [](bool shared) {
        return [shared](CowBench& b) {
            Mm& a = b.exec();
            b.mmap(a, X, 1);
            b.write(a, X);
            b.mremap(a, X, 1, Y);
            if (shared) b.fork(a);
        };
    };
    CHECK(missed_by(scenario(false)).cow == 0u);
    CHECK(missed_by(scenario(false)).poc == 1u);
    CHECK(missed_by(scenario(true)).cow == 0u);
    CHECK(missed_by(scenario(true)).poc == 0u);
}

TEST_CASE("cow-poc hole 2: exclusive, at home at a living ancestor that has unmapped it") {
    const auto scenario = [](bool parent_exits) {
        return [parent_exits](CowBench& b) {
            Mm& a = b.exec();
            b.mmap(a, X, 1);
            b.write(a, X);
            b.fork(a);
            if (parent_exits)
                b.exit(a);
            else
                b.munmap(a, X, 1);
        };
    };
    CHECK(missed_by(scenario(false)).cow == 0u);
    CHECK(missed_by(scenario(false)).poc == 1u);
    // A dead ancestor is passed over before anything is asked.
    CHECK(missed_by(scenario(true)).cow == 0u);
    CHECK(missed_by(scenario(true)).poc == 0u);
}

TEST_CASE("cow-poc hole 5: a smaller displacement overwrites the next larger one") {
    const auto scenario = [](bool ascending) {
        return [ascending](CowBench& b) {
            Mm& a = b.exec();
            // Two private file mappings, the same offsets, both shared with a child afterwards.
            b.map(a, ascending ? X : Y, 1, 4, bench::kRw, 1);
            b.map(a, ascending ? Y : X, 1, 4, bench::kRw, 2);
            b.write(a, ascending ? X : Y);
            b.write(a, ascending ? Y : X);
            Mm& c = b.fork(a);
            b.munmap(c, X, 1);
            b.write(a, X);
        };
    };
    // In ascending order nothing is overwritten; page X, exclusive and displaced, is hole 1.
    CHECK(missed_by(scenario(true)).cow == 0u);
    CHECK(missed_by(scenario(true)).poc == 1u);
    // Descending: Y's place is lost in the parent, which had it first; the child entered X first.
    CHECK(missed_by(scenario(false)).cow == 0u);
    CHECK(missed_by(scenario(false)).poc == 2u);
}

TEST_CASE("cow-poc hole 6: moving a part records a wrong old displacement") {
    const auto scenario = [](u64 skip) {
        return [skip](CowBench& b) {
            Mm& a = b.exec();
            b.mmap(a, X, 8);
            b.write(a, X, 8);
            b.mremap(a, X + skip, 2, Y);
            b.fork(a);  // shared, so that hole 1 is not in the way
        };
    };
    CHECK(missed_by(scenario(0)).cow == 0u);
    CHECK(missed_by(scenario(0)).poc == 0u);  // the front part: no page is skipped
    CHECK(missed_by(scenario(3)).cow == 0u);
    CHECK(missed_by(scenario(3)).poc == 2u);  // in the parent; fork enters the child's anew
}

// ---- the remap tree ----

TEST_CASE("remap tree: random stores and erasures agree with a set of (index, displacement)") {
    std::mt19937_64 random(7);
    for (int round = 0; round < 30; ++round) {
        RemapTree tree;
        std::vector<std::pair<u64, i64>> truth;
        const u64 space = round % 2 ? 40 : 12;
        for (int step = 0; step < 300; ++step) {
            const u64 first = random() % space, last = first + random() % 9;
            const i64 d = static_cast<i64>(random() % 5) - 2;
            if (random() % 5 < 3) {
                tree.insert(first, last, d);
                for (u64 i = first; i <= last; ++i)
                    if (std::find(truth.begin(), truth.end(), std::pair{i, d}) == truth.end())
                        truth.emplace_back(i, d);
            } else {
                tree.erase(first, last, d);
                std::erase_if(truth, [&](const auto& p) {
                    return p.second == d && p.first >= first && p.first <= last;
                });
            }
            std::vector<std::pair<u64, i64>> got;
            u64 end = 0;
            u32 slots = 0;
            const RemapTree::Entry* before = nullptr;
            for (const auto& e : tree.lookup(0, 1000)) {
                const auto values = e.displacements.values();
                CHECK(e.first <= e.last);
                CHECK(e.first >= end);
                CHECK(std::is_sorted(values.begin(), values.end()));
                if (before) CHECK_FALSE(e.first == end && before->displacements == e.displacements);
                for (u64 i = e.first; i <= e.last; ++i)
                    for (const i64 value : values) got.emplace_back(i, value);
                if (values.size() > 1) slots += static_cast<u32>(values.size());
                end = e.last + 1;
                before = &e;
            }
            std::sort(truth.begin(), truth.end());
            CHECK(got == truth);
            CHECK(tree.array_slots() == slots);
            const u64 at = random() % space, until = at + random() % 5;
            for (const auto& e : tree.lookup(at, until)) CHECK((e.first <= until && e.last >= at));
        }
    }
}

TEST_CASE("remap tree: nodes as a maple tree would have, at least") {
    RemapTree tree;
    CHECK(tree.maple_nodes() == 0u);
    for (u64 i = 0; i < 7; ++i) tree.insert(i * 10, i * 10 + 3, 5);
    CHECK(tree.maple_nodes() == 1u);  // 7 ranges and 8 gaps in 16 slots
    tree.insert(100, 101, 5);
    CHECK(tree.maple_nodes() == 3u);  // two leaves and a root above them
    tree.clear();
    CHECK(tree.maple_nodes() == 0u);
}

TEST_CASE("cow: validate() notices what does not fit") {
    for (const char* name : {"cow", "cow-poc"}) {
        CowBench b(name);
        Mm& a = b.exec();
        b.mmap(a, X, 4);
        b.write(a, X, 4);
        Mm& child = b.fork(a);
        b.mremap(child, X, 4, Y);
        b.check();

        auto& context = const_cast<CowContext&>(b.context(a));
        ++context.refcount;
        CHECK(b.notices(
            " of mm 1 (pid 0): refcount is 7, recounted 1 (mm) + 1 (children) + 4 (folios)"));
        --context.refcount;
        context.mm = &child;
        CHECK(b.notices("the context of mm 1 (pid 0) is another mm's"));
        context.mm = &a;
        auto& below = const_cast<CowContext&>(b.context(child));
        below.parent = &below;
        CHECK(b.notices("has a child that is linked elsewhere"));
        below.parent = &context;
        below.remaps.insert(X + 100, X + 101, 7);
        CHECK(b.notices("the remap tree of mm 3 (pid 0) has 6 pages, of living VMAs 4"));
        below.remaps.erase(X + 100, X + 101, 7);
        ++below.maple_nodes;
        CHECK(b.notices("has told the ledger another size"));
        --below.maple_nodes;
        b.check();

        below.remaps.erase(X + 1, X + 1, Y - X);
        below.maple_nodes = below.remaps.maple_nodes();
        CHECK((b.broken() == "") == (b.rmap().info().name == "cow-poc"));  // holes 5 and 6
        below.remaps.insert(X + 1, X + 1, Y - X);
        below.maple_nodes = below.remaps.maple_nodes();
        b.check();

        Live live = b.live();
        live.homed[99] = 1;
        CHECK_THROWS_AS(b.model->validate(live), BrokenInvariant);
        live = b.live();
        live.mms.pop_back();
        CHECK_THROWS_AS(b.model->validate(live), BrokenInvariant);
    }
}
