// SPDX-License-Identifier: GPL-2.0-only
// Swap: what pages are homed and shared as when they come back, under every model; and folios that
// the kernel has split.
#include "tests/native/check.hpp"
#include "tests/native/scenario.hpp"

using namespace rmapreplay;
using scenario::Replay;
using scenario::X;
using scenario::Y;

namespace {

constexpr u64 MAYMOVE = 1, FIXED = 2;
constexpr i32 DONTNEED = 4, FREE = 8, HUGEPAGE = 14, POPULATE_READ = 22, POPULATE_WRITE = 23;
constexpr Kernel kKernels[] = {Kernel::v6_12, Kernel::v6_18, Kernel::v7_3};
constexpr u64 kPage = kPageSize;

// One process with four pages at X.
Replay started(const char* model = "anon_vma", Kernel kernel = Kernel::v7_3) {
    Replay r(model, kernel);
    r.exec(1);
    r.mmap(1, X, 4);
    r.write(1, X, 4);
    return r;
}

template <class F>
void everywhere(F&& test) {
    for (const char* model : {"anon_vma", "cow"})
        for (Kernel kernel : kKernels) {
            Replay r = started(model, kernel);
            test(r);
            r.machine->validate();
            CHECK(r.log.misses.empty());
            for (i32 pid = 1; pid < 10; ++pid)
                while (r.machine->mm_of(pid)) r.exit(pid);
            for (const u64 live : r.costs.live) CHECK(live == 0u);
        }
}

u64 mapcount(const Replay& r) { return r.log.walks.back().mapcount; }

}  // namespace

TEST_CASE("swap: an entry in swap is no mapping; a fault brings the page back, private as it was") {
    everywhere([](Replay& r) {
        r.swap_out(1, X, 2);
        r.machine->validate();
        CHECK(r.machine->anon_mappings().size() == 3u);  // two pages and the stack
        CHECK(r.walk(1, X) == "");
        CHECK(r.count(Anomaly::walk_no_folio) == 1u);
        r.read(1, X);
        CHECK(r.walk(1, X) == "1+");
        r.write(1, X + kPage);
        CHECK(r.walk(1, X + kPage) == "1+");
        // Known to be exclusive all along: its home is the VMA's own, and a fork shares it.
        r.fork(1, 2);
        CHECK(r.walk(2, X) == "1+ 2+");
        CHECK(r.anomalies() == 1u);
    });
}

TEST_CASE("swap: out is what is mapped, in what is in swap; anything else is counted") {
    everywhere([](Replay& r) {
        r.swap_out(1, Y);
        r.swap_in(1, X);
        CHECK(r.count(Anomaly::swap_mismatch) == 2u);
        r.swap_out(1, X);
        r.swap_out(1, X);
        r.range(Op::discard, 1, X, 1);
        CHECK(r.count(Anomaly::swap_mismatch) == 4u);
        r.swap_out(1, X, 4);  // three of them
        r.swap_in(1, X, 4);
        CHECK(r.count(Anomaly::swap_mismatch) == 4u);
        CHECK(r.walk(1, X + 3 * kPage) == "1+");
    });
}

TEST_CASE("swap: presence is that of a mapping") {
    everywhere([](Replay& r) {
        r.swap_out(1, X, 4);
        const auto fault = [&](u64 page, i8 present) {
            Event e = r.event(Op::fault, 1);
            e.addr = X + page * kPage;
            e.write = true;
            e.present = present;
            r.apply(e);
        };
        fault(0, 0);
        CHECK(r.anomalies() == 0u);
        fault(1, 1);
        CHECK(r.count(Anomaly::fault_present_mismatch) == 1u);
        // The fault for which a swap_in row stands found nothing yet.
        r.swap_in(1, X + 2 * kPage);
        fault(2, 0);
        CHECK(r.count(Anomaly::fault_present_mismatch) == 1u);
        fault(2, 0);
        CHECK(r.count(Anomaly::fault_present_mismatch) == 2u);
    });
}

TEST_CASE("swap: the same folio from the swap cache, one relative after the other") {
    everywhere([](Replay& r) {
        r.fork(1, 2);
        r.swap_out(1, X);
        CHECK(r.walk(2, X) == "1- 2+");
        CHECK(mapcount(r) == 1u);
        r.swap_out(2, X);
        r.swap_in(2, X);
        CHECK(mapcount(r) == 1u);
        CHECK(r.walk(2, X).find("2+") != std::string::npos);
        r.read(1, X);  // the folio is back: mapped once more
        CHECK(r.walk(1, X) == "1+ 2+");
        CHECK(mapcount(r) == 2u);
        CHECK(r.anomalies() == 0u);
    });
}

TEST_CASE("swap: a write to a page that others have in swap copies it") {
    everywhere([](Replay& r) {
        r.fork(1, 2);
        r.fork(1, 3);
        for (i32 pid : {1, 2, 3}) r.swap_out(pid, X);
        r.write(2, X);
        CHECK(r.walk(2, X) == "2+");
        CHECK(mapcount(r) == 1u);
        r.read(3, X);
        r.write(3, X);  // 1 still has it in swap
        CHECK(r.walk(3, X) == "3+");
        r.read(1, X);
        CHECK(r.walk(1, X).find("1+") != std::string::npos);
        r.write(1, X);  // the last one: reused
        CHECK(r.walk(1, X).substr(0, 2) == "1+");
        CHECK(r.anomalies() == 0u);
    });
}

// Which VMAs a walk of the child's page visits says where the page is homed: at the child's own
// anon_vma, only the child's; at the root of it, the parent's too.
TEST_CASE("swap: a page read anew is homed at the root unless its entry says exclusive") {
    for (Kernel kernel : kKernels) {
        const bool refs_count = kernel < Kernel::v7_3;  // the last reference is exclusive too
        Replay r = started("anon_vma", kernel);
        r.fork(1, 2);
        r.write(2, X);  // 2's own
        r.swap_out(2, X);
        r.read(2, X);  // pte_swp_exclusive()
        CHECK(r.walk(2, X) == "2+");

        r.fork(2, 3);  // now 2 and 3 share it
        r.swap_out(2, X);
        r.swap_out(3, X);
        r.read(3, X);
        CHECK(r.walk(3, X) == "1- 2- 3+");  // root: 1's anon_vma, though 1 never had it
        r.read(2, X);
        CHECK(r.walk(3, X) == "1- 2+ 3+");

        r.swap_out(2, X);
        r.swap_out(3, X);
        r.exit(2);
        r.read(3, X);  // the last entry of the page
        CHECK(r.walk(3, X) == (refs_count ? "3+" : "1- 3+"));
        r.write(3, X);  // do_wp_page(): nobody else has it, so it moves to 3's own
        CHECK(r.walk(3, X) == "3+");
        CHECK(r.anomalies() == 0u);
        CHECK(r.log.misses.empty());
        r.machine->validate();
    }
}

TEST_CASE(
    "swap: from the swap cache a page keeps its home; a last writer moves it only since 7.x") {
    for (Kernel kernel : kKernels) {
        Replay r = started("anon_vma", kernel);
        r.fork(1, 2);
        r.fork(2, 3);
        for (i32 pid : {1, 2, 3}) r.swap_out(pid, X);
        r.madvise(1, X, 1, DONTNEED);
        r.madvise(3, X, 1, DONTNEED);
        r.swap_in(2, X);
        CHECK(r.walk(2, X) == "1- 2+ 3-");  // at home with 1
        r.write(2, X);
        CHECK(r.walk(2, X) == (kernel < Kernel::v7_3 ? "1- 2+ 3-" : "2+ 3-"));
        r.write(2, X);
        CHECK(r.walk(2, X) == (kernel < Kernel::v7_3 ? "1- 2+ 3-" : "2+ 3-"));
        CHECK(r.anomalies() == 0u);
        r.machine->validate();
    }
}

TEST_CASE("swap: cow homes a shared page at the top of the tree, cow-poc where it was faulted") {
    const auto misses = [](const char* model) {
        Replay r = started(model);
        r.fork(1, 2);
        r.swap_out(1, X);
        r.swap_out(2, X);
        r.read(2, X);
        r.read(1, X);
        CHECK(r.walk(2, X).find("2+") != std::string::npos);
        return r.log.misses.size();
    };
    CHECK(misses("cow") == 0u);
    CHECK(misses("anon_vma") == 0u);
    CHECK(misses("cow-poc") == 1u);  // 1 is not below 2
}

TEST_CASE("swap: fork shares entries, unmapping drops them, moving takes them along") {
    everywhere([](Replay& r) {
        r.swap_out(1, X, 4);
        r.fork(1, 2);
        r.machine->validate();
        r.read(2, X);
        r.read(1, X);
        CHECK(r.walk(1, X) == "1+ 2+");
        r.munmap(2, X + kPage, 1);
        r.madvise(1, X + 2 * kPage, 1, DONTNEED);
        r.madvise(1, X + 3 * kPage, 1, FREE);  // what is in swap goes at once
        r.machine->validate();
        r.write(1, X + kPage);  // the last entry
        CHECK(r.walk(1, X + kPage).find("1+") != std::string::npos);
        r.mprotect(2, X + 3 * kPage, 1, scenario::kProtRead);
        r.mremap(2, X + 2 * kPage, 1, Y, 1, MAYMOVE | FIXED);
        r.machine->validate();
        r.read(2, Y);
        CHECK(r.walk(2, Y).find("2+") != std::string::npos);
        r.read(2, X + 3 * kPage);
        CHECK(r.walk(2, X + 3 * kPage).find("2+") != std::string::npos);
        r.read(1, X + 3 * kPage);  // the zero page
        CHECK(r.walk(1, X + 3 * kPage) == "");
        CHECK(r.count(Anomaly::walk_no_folio) == 1u);
    });
}

TEST_CASE("swap: exec and exit drop entries, the last one the page") {
    everywhere([](Replay& r) {
        r.fork(1, 2);
        r.swap_out(1, X, 4);
        r.swap_out(2, X, 4);
        r.exit(2);
        r.machine->validate();
        r.exec(1);
        r.machine->validate();
        CHECK(r.machine->anon_mappings().size() == 1u);
    });
}

TEST_CASE("swap: populate and mlock read entries in, of private file pages too") {
    everywhere([](Replay& r) {
        r.swap_out(1, X, 4);
        r.madvise(1, X, 1, POPULATE_READ);
        r.madvise(1, X + kPage, 1, POPULATE_WRITE);
        r.range(Op::mlock, 1, X + 2 * kPage, 2);
        for (u64 i = 0; i < 4; ++i) CHECK(r.walk(1, X + i * kPage) == "1+");
        r.mmap(1, Y, 2, scenario::kProtRw, 0x12, 7);
        r.write(1, Y, 2);
        r.swap_out(1, Y, 2);
        r.read(1, Y);
        r.madvise(1, Y + kPage, 1, POPULATE_READ);
        CHECK(r.walk(1, Y) == "1+");
        CHECK(r.walk(1, Y + kPage) == "1+");
        CHECK(r.anomalies() == 0u);
    });
}

TEST_CASE("swap: discarded pages are gone") {
    everywhere([](Replay& r) {
        r.fork(1, 2);
        r.write(1, X);
        r.range(Op::discard, 1, X, 2);
        r.machine->validate();
        CHECK(r.walk(1, X) == "");
        CHECK(r.walk(2, X + kPage).find("2+") != std::string::npos);
        CHECK(mapcount(r) == 1u);
        CHECK(r.count(Anomaly::walk_no_folio) == 1u);
        CHECK(r.count(Anomaly::swap_mismatch) == 0u);
    });
}

TEST_CASE("swap: pages of a dying mm can still go, until it is unmapped") {
    TraceFacts facts = Replay::facts_of(Kernel::v7_3);
    facts.teardown = Teardown::all;
    Replay r("anon_vma", facts);
    r.exec(1);
    r.mmap(1, X, 4);
    r.write(1, X, 4);
    r.fork(1, 2);
    r.exit(2);
    r.swap_out(2, X);
    r.swap_out(1, X);
    r.machine->validate();
    r.read(1, X);
    CHECK(r.walk(1, X) == "1+ 2-");
    r.row(Op::exit_mmap, 2);
    r.machine->validate();
    r.write(1, X);
    CHECK(r.walk(1, X) == "1+");
    CHECK(r.anomalies() == 0u);
}

TEST_CASE("swap: memory counts what is mapped") {
    Replay r = started();
    r.fork(1, 2);  // five folios, ten entries
    r.swap_out(1, X, 4);
    r.swap_out(2, X, 2);
    r.machine->finish();
    CHECK(r.log.memories.back().folios == 3u);
    CHECK(r.log.memories.back().ptes == 4u);
}

// ---- large folios ----

namespace {

void large(Replay& r, u64 addr, u8 order) {
    Event e = r.event(Op::fault, 1);
    e.addr = addr;
    e.write = true;
    e.order = order;
    r.apply(e);
}

}  // namespace

TEST_CASE("swap: pages of a large folio come back one by one") {
    everywhere([](Replay& r) {
        r.mmap(1, Y, 16);
        large(r, Y, 4);
        r.swap_out(1, Y, 16);
        r.machine->validate();
        r.read(1, Y + 3 * kPage);
        CHECK(r.walk(1, Y + 3 * kPage) == "1+");
        CHECK(r.log.walks.back().order == 0);
        r.mmap(1, Y + 32 * kPage, 16);
        large(r, Y + 32 * kPage, 4);
        r.fork(1, 2);
        for (i32 pid : {1, 2}) r.swap_out(pid, Y + 32 * kPage, 16);
        r.machine->validate();
        r.swap_in(2, Y + 32 * kPage, 16);
        CHECK(r.walk(2, Y + 40 * kPage).find("2+") != std::string::npos);
        r.read(1, Y + 40 * kPage);
        CHECK(r.walk(1, Y + 40 * kPage) == "1+ 2+");
    });
}

TEST_CASE("swap: a PMD is split before its pages go") {
    for (const char* model : {"anon_vma", "cow"}) {
        Replay r(model, Kernel::v7_3, ThpMode::madvise);
        r.exec(1);
        r.mmap(1, X, 512);
        r.madvise(1, X, 512, HUGEPAGE);
        r.write(1, X);
        r.fork(1, 2);
        r.swap_out(1, X, 512);
        r.machine->validate();
        CHECK(r.walk(2, X + 7 * kPage).find("2+") != std::string::npos);
        CHECK(mapcount(r) == 1u);
        r.range(Op::discard, 2, X, 512);
        r.read(1, X + 7 * kPage);
        CHECK(r.walk(1, X + 7 * kPage).substr(0, 2) == "1+");
        CHECK(r.anomalies() == 0u);
        CHECK(r.log.misses.empty());
        r.machine->validate();
    }
}

TEST_CASE("a walk of a smaller folio than was faulted in says that it was split") {
    for (const char* model : {"anon_vma", "cow"}) {
        Replay r(model, Kernel::v7_3, ThpMode::madvise);
        r.exec(1);
        r.mmap(1, X, 1024);
        r.madvise(1, X, 1024, HUGEPAGE);
        r.write(1, X);
        r.fork(1, 2);
        r.write(2, X + kPage);
        const auto walk = [&](u64 page, u8 order) {
            Event e = r.event(Op::walk, 1);
            e.addr = X + page * kPage;
            e.kind = WalkKind::all;
            e.order = order;
            r.apply(e);
            r.machine->validate();
        };
        walk(20, 4);
        CHECK(r.log.walks.back().order == 4);
        CHECK(mapcount(r) == 32u);
        r.walk(1, X);  // of unknown order: as it is now
        CHECK(r.log.walks.back().order == 4);
        CHECK(mapcount(r) == 31u);  // of which 2 has copied a page
        walk(20, 9);  // larger: not something that a split could do
        CHECK(r.log.walks.back().order == 4);
        // Exclusive parts of one page need no record any more.
        r.write(1, X + 512 * kPage);
        walk(512 + 9, 2);
        CHECK(r.log.walks.back().order == 2);
        CHECK(mapcount(r) == 4u);
        CHECK(r.anomalies() == 0u);
        CHECK(r.log.misses.empty());
    }
}

TEST_CASE("where faults tell all orders, none is of order 0") {
    TraceFacts facts = Replay::facts_of(Kernel::v7_3, ThpMode::always);
    facts.orders = true;
    Replay r("anon_vma", facts);
    r.exec(1);
    r.mmap(1, X, 2048);
    r.write(1, X);  // none could be had
    CHECK(r.walk(1, X) == "1+");
    CHECK(r.log.walks.back().order == 0);
    CHECK(r.machine->anon_mappings().size() == 2u);
    large(r, X + 512 * kPage, 9);
    CHECK(r.walk(1, X + 700 * kPage) == "1+");
    CHECK(mapcount(r) == 1u);
    r.read(1, X + 1024 * kPage);  // the huge zero page is no folio
    CHECK(r.walk(1, X + 1024 * kPage) == "");
    r.write(1, X + 1030 * kPage);  // and is split if no huge page can take its place
    CHECK(r.walk(1, X + 1030 * kPage) == "1+");
    CHECK(r.log.walks.back().order == 0);
    r.machine->validate();
    // A walk tells its folio's order too.
    r.walk(1, X + 700 * kPage);
    CHECK(r.log.walks.back().order == 0);
    CHECK(r.machine->anon_mappings().size() == 1u + 1 + 512 + 1);
    r.machine->validate();
}

TEST_CASE("before 7.3 reading ahead keeps the last sharer's page from being known as exclusive") {
    for (Kernel kernel : kKernels) {
        Replay r = started("anon_vma", kernel);
        r.fork(1, 2);
        r.write(1, X, 2);  // the old pages are 2's alone, and not known to be
        r.swap_out(2, X, 2);
        r.read(2, X);  // read anew: at home in 2, if it is known by now that nobody else has it
        Event e = r.event(Op::swap_in, 2);
        e.addr = X + kPage;
        e.len = kPage;
        e.flags = 1;
        r.apply(e);
        r.read(2, X + kPage);
        const bool known = kernel != Kernel::v7_3;
        CHECK(r.walk(2, X) == (known ? "2+" : "1- 2+"));
        CHECK(r.walk(2, X + kPage) == "1- 2+");
        CHECK(r.anomalies() == 0u);
        r.machine->validate();
    }
}
