// SPDX-License-Identifier: GPL-2.0-only
// pte_chain, anonmm, anon_vma_global and anon_vma_lazy: what each does and what it costs, on
// scenarios small enough to count by hand. Every exec has made a stack of one page too.
#include "tests/native/check.hpp"
#include "tests/native/scenario.hpp"

using namespace rmapreplay;
using scenario::Replay;
using scenario::X;
using scenario::Y;

namespace {

constexpr u64 P = kPageSize;
constexpr u64 kMoveFixed = 3;  // MREMAP_MAYMOVE | MREMAP_FIXED

struct Rival : Replay {
    explicit Rival(std::string_view name) : Replay(name), info(*find_model(name)->info) {
        exec(1);
        mmap(1, X, 2);
    }
    // Of the last walk.
    u64 walked(std::string_view counter) const {
        return log.walks.back().counters[index_of(info.walk_counters, counter)];
    }
    // Of all operations of a kind so far.
    u64 counted(Op op, std::string_view counter) const {
        return machine->operations()[static_cast<std::size_t>(op)]
            .counters[index_of(info.op_counters, counter)];
    }
    // Everything ends, and nothing is left.
    void end(std::initializer_list<i32> pids) {
        machine->validate();
        for (const i32 pid : pids) exit(pid);
        machine->finish();
        machine->validate();
        for (const u64 live : costs.live) CHECK(live == u64{0});
        CHECK(log.misses.empty());
    }
    const ModelInfo& info;

  private:
    static std::size_t index_of(std::span<const Counter> counters, std::string_view name) {
        for (std::size_t i = 0; i < counters.size(); ++i)
            if (counters[i].name == name) return i;
        throw std::invalid_argument("no counter " + std::string(name));
    }
};

}  // namespace

TEST_CASE("pte_chain: mapped once, a page needs no object; each seven PTEs more, one") {
    Rival r("pte_chain");
    r.write(1, X);
    CHECK(r.live("pte_chain") == u64{0});
    CHECK(r.walk(1, X) == "1+");
    CHECK(r.walked("ptes") == u64{1});
    CHECK(r.walked("pte_chains") == u64{0});
    CHECK(r.walked("vma_lookups") == u64{1});
    CHECK(r.walked("chain_lock") == u64{1});
    for (i32 child = 2; child <= 7; ++child) r.fork(1, child);
    CHECK(r.live("pte_chain") == u64{2});  // the stack's page and that at X, seven PTEs each
    CHECK(r.counted(Op::fork, "rmap_adds") == u64{12});
    CHECK(r.counted(Op::fork, "chain_lock") == u64{12});
    r.fork(1, 8);
    CHECK(r.live("pte_chain") == u64{4});
    CHECK(r.walk(1, X) == "8+ 7+ 6+ 5+ 4+ 3+ 2+ 1+");
    CHECK(r.walked("ptes") == u64{8});
    CHECK(r.walked("pte_chains") == u64{2});

    // The oldest is found last, eight entries on; number 8's entry takes its place.
    r.exit(1);
    CHECK(r.counted(Op::exit, "ptes_scanned") == u64{16});
    CHECK(r.counted(Op::exit, "rmap_removes") == u64{2});
    CHECK(r.live("pte_chain") == u64{2});
    CHECK(r.walk(2, X) == "7+ 6+ 5+ 4+ 3+ 2+ 8+");
    CHECK(r.walk(2, X, WalkKind::referenced) == "7+ 6+ 5+ 4+ 3+ 2+ 8+");
    for (i32 pid = 3; pid <= 8; ++pid) r.exit(pid);
    CHECK(r.live("pte_chain") == u64{2});  // it does not become direct again
    CHECK(r.walk(2, X) == "2+");
    r.end({2});
}

TEST_CASE("pte_chain: a page that is copied, moved or goes to swap is listed where it is") {
    Rival r("pte_chain");
    r.write(1, X, 2);
    r.fork(1, 2);
    r.write(2, X);  // a copy
    CHECK(r.walk(1, X) == "1+");
    CHECK(r.walk(2, X) == "2+");
    CHECK(r.walk(1, X + P) == "2+ 1+");
    r.mremap(2, X + P, 1, Y, 1, kMoveFixed);
    CHECK(r.counted(Op::mremap, "rmap_adds") == u64{1});
    CHECK(r.counted(Op::mremap, "rmap_removes") == u64{1});
    CHECK(r.walk(1, X + P) == "2+ 1+");
    CHECK(r.log.visits.front().start == Y);
    r.swap_out(1, X + P);
    CHECK(r.walk(2, Y) == "2+");
    r.swap_out(2, Y);
    r.read(1, X + P);
    r.read(2, Y);
    CHECK(r.walk(1, X + P) == "2+ 1+");
    r.end({1, 2});
}

TEST_CASE("anonmm: the indicated mm, then on around the family's list") {
    Rival r("anonmm");
    r.write(1, X);
    r.fork(1, 2);
    r.fork(1, 3);
    r.write(2, X);
    r.fork(2, 4);
    CHECK(r.live("anonmm") == u64{4});
    CHECK(r.walk(1, X) == "1+ 2- 3+ 4-");
    CHECK(r.walked("anonmms_live") == u64{4});
    CHECK(r.walked("vma_lookups") == u64{4});
    CHECK(r.walked("head_lock") == u64{1});
    CHECK(r.walk(4, X) == "2+ 3- 4+ 1-");
    CHECK(r.walk(4, X, WalkKind::referenced) == "2+ 3- 4+");
    // Three forks: the head's lock, a reference to it and a place on its list each.
    CHECK(r.counted(Op::fork, "head_lock") == u64{3});
    CHECK(r.counted(Op::fork, "refcounts") == u64{3});
    CHECK(r.counted(Op::fork, "list_adds") == u64{3});

    // Dead, but a page is at home there.
    r.exit(2);
    CHECK(r.live("anonmm") == u64{4});
    CHECK(r.walk(4, X) == "3- 4+ 1-");
    CHECK(r.walked("anonmms_dead") == u64{1});
    r.munmap(4, X, 1);
    CHECK(r.live("anonmm") == u64{3});

    // Exec starts a family of its own; a VMA that does not cover the page is no visit.
    r.fork(1, 5);
    r.exec(5);
    CHECK(r.walk(1, X) == "1+ 3+");
    CHECK(r.walked("anonmms_live") == u64{3});
    // The head of the family goes last.
    r.exit(1);
    CHECK(r.live("anonmm") == u64{4});
    CHECK(r.walk(3, X) == "3+");
    r.end({3, 4, 5});
}

TEST_CASE("anonmm: mremap takes pages of one mm along, and copies those of several") {
    Rival r("anonmm");
    r.write(1, X);
    r.fork(1, 2);
    r.write(1, X + P);
    r.mremap(1, X, 2, Y, 2, kMoveFixed);
    CHECK(r.counted(Op::mremap, "pages_copied") == u64{1});
    CHECK(r.walk(1, Y) == "1+");
    CHECK(r.walk(1, Y + P) == "1+");
    CHECK(r.log.visits.front().index == Y >> kPageShift);
    CHECK(r.walk(2, X) == "2+");  // number 1 has nothing there any more
    CHECK(r.walked("vma_lookups") == u64{2});
    r.end({1, 2});
}

TEST_CASE("anon_vma_global: one anon_vma for the family, and every VMA of it on one list") {
    Rival r("anon_vma_global");
    r.write(1, X, 2);
    for (i32 child = 2; child <= 11; ++child) r.fork(1, child);
    CHECK(r.live("anon_vma") == u64{2});  // with the stack's
    CHECK(r.counted(Op::fork, "anon_vma_lock") == u64{20});
    CHECK(r.counted(Op::fork, "list_adds") == u64{20});
    r.write(11, X);  // a page of its own, looked for in all
    CHECK(r.walk(11, X) == "1- 2- 3- 4- 5- 6- 7- 8- 9- 10- 11+");
    CHECK(r.walked("vmas") == u64{11});
    CHECK(r.walked("anon_vma_lock") == u64{1});
    CHECK(r.walk(11, X, WalkKind::referenced) == "1- 2- 3- 4- 5- 6- 7- 8- 9- 10- 11+");
    for (i32 child = 3; child <= 10; ++child) r.exit(child);
    CHECK(r.counted(Op::exit, "list_dels") == u64{16});

    // Half of a split is read and, its range not being the page's, not visited.
    r.mprotect(1, X + P, 1, scenario::kProtRead);
    CHECK(r.counted(Op::mprotect, "list_adds") == u64{1});
    CHECK(r.counted(Op::mprotect, "anon_vma_lock") == u64{1});
    CHECK(r.walk(11, X) == "2- 11+ 1-");  // the new half is the lower one
    CHECK(r.walked("vmas") == u64{4});
    // Merged again: the lock is taken once.
    r.mprotect(1, X + P, 1, scenario::kProtRw);
    CHECK(r.counted(Op::mprotect, "list_dels") == u64{1});
    CHECK(r.counted(Op::mprotect, "anon_vma_lock") == u64{2});
    CHECK(r.live("anon_vma") == u64{2});
    r.end({1, 2, 11});
}

TEST_CASE("anon_vma_lazy: nothing before a fork; a walk is one VMA lookup, without a lock") {
    Rival r("anon_vma_lazy");
    r.write(1, X, 2);
    CHECK(r.live("anon_vma") == u64{0});
    CHECK(r.live("anon_vma_chain") == u64{0});
    CHECK(r.walk(1, X) == "1+");
    CHECK(r.walked("vma_lookups") == u64{1});
    CHECK(r.walked("root_lock_read") == u64{0});
    CHECK(r.walked("tree_nodes") == u64{0});
    // The upper half is the root VMA, the lower half is new and refers to it.
    r.mprotect(1, X + P, 1, scenario::kProtRead);
    CHECK(r.counted(Op::mprotect, "root_vma_refs") == u64{1});
    CHECK(r.counted(Op::mprotect, "root_lock_write") == u64{0});
    CHECK(r.walk(1, X) == "1+");
    r.munmap(1, X + P, 1);
    CHECK(r.live("lazy_root_vma") == u64{1});
    CHECK(r.walk(1, X) == "1+");
    r.munmap(1, X, 1);
    CHECK(r.live("lazy_root_vma") == u64{0});
    r.end({1});
}

TEST_CASE("anon_vma_lazy: a fork upgrades the parent's VMAs, and gives the child no anon_vma") {
    Rival r("anon_vma_lazy");
    r.write(1, X);
    r.fork(1, 2);
    CHECK(r.counted(Op::fork, "upgrades") == u64{2});  // the stack's and that at X
    CHECK(r.counted(Op::fork, "folios_fixed") == u64{2});
    CHECK(r.live("anon_vma") == u64{2});
    CHECK(r.live("anon_vma_chain") == u64{4});
    CHECK(r.walk(1, X) == "1+ 2+");
    CHECK(r.walked("root_lock_read") == u64{1});
    r.fork(1, 3);
    CHECK(r.counted(Op::fork, "upgrades") == u64{2});
    CHECK(r.live("anon_vma") == u64{2});
    // A child's own pages are at home at the parent's, until it is a parent itself.
    r.write(2, X);
    CHECK(r.walk(2, X) == "1- 2+ 3-");
    r.fork(2, 4);
    CHECK(r.counted(Op::fork, "upgrades") == u64{4});
    CHECK(r.live("anon_vma") == u64{4});
    CHECK(r.walk(2, X) == "2+ 4+");
    CHECK(r.walk(1, X) == "1+ 2- 3+ 4-");
    r.end({1, 2, 3, 4});
}

TEST_CASE("anon_vma_lazy: the same forks cost mainline an anon_vma and a link per VMA of a child") {
    Rival lazy("anon_vma_lazy"), mainline("anon_vma");
    for (Rival* r : {&lazy, &mainline}) {
        r->write(1, X);
        for (i32 child = 2; child <= 9; ++child) r->fork(1, child);
    }
    CHECK(lazy.live("anon_vma") == u64{2});
    CHECK(mainline.live("anon_vma") == u64{18});
    CHECK(lazy.live("anon_vma_chain") == u64{18});
    CHECK(mainline.live("anon_vma_chain") == u64{34});
}

TEST_CASE("anon_vma_lazy: in a chain of forks whose elders exit, an anon_vma is taken up again") {
    Rival r("anon_vma_lazy");
    r.write(1, X);
    for (i32 pid = 1; pid < 20; ++pid) {
        r.fork(pid, pid + 1);
        r.exit(pid);
        CHECK(r.live("anon_vma") == u64{2});
        CHECK(r.live("anon_vma_chain") == u64{2});
    }
    CHECK(r.counted(Op::fork, "anon_vma_reused") == u64{36});
    CHECK(r.walk(20, X) == "20+");
    r.end({20});
}

TEST_CASE("anon_vma_lazy: a VMA that is moved is upgraded before") {
    Rival r("anon_vma_lazy");
    r.write(1, X, 2);
    r.mremap(1, X, 1, Y, 1, kMoveFixed);
    CHECK(r.counted(Op::mremap, "upgrades") == u64{1});
    CHECK(r.live("anon_vma") == u64{1});
    CHECK(r.walk(1, Y) == "1+");
    CHECK(r.walk(1, X + P) == "1+");
    r.end({1});
}
