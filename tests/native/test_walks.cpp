// SPDX-License-Identifier: GPL-2.0-only
// When walks happen, and which folios they take.
#include <algorithm>
#include <map>
#include <set>

#include "tests/native/check.hpp"
#include "tests/native/scenario.hpp"

using namespace rmapreplay;
using scenario::Replay;
using scenario::X;

namespace {

// Ten pages, of which a child shares all and copies three: 19 rows, then `idle` rows of faults that
// change nothing.
constexpr u64 kRows = 1 + 1 + 10 + 1 + 3;
constexpr u64 kFolios = 1 + 10 + 3;  // the stack, which the child shares; ten pages; three copies
constexpr u64 kTaskTop = (u64{1} << 47) - 2 * kPageSize;  // the page of the arguments

void ten_pages_and_a_child(Replay& r) {
    r.exec(1);
    r.mmap(1, X, 10);
    r.write(1, X, 10);
    r.fork(1, 2);
    r.write(2, X, 3);
}
void idle(Replay& r, u64 rows) {
    for (u64 i = 0; i < rows; ++i) r.read(1, X);
}
Replay with(std::string_view walks, u64 rows) {
    return Replay("anon_vma", Kernel::v7_3, ThpMode::never, {}, walks, rows);
}

}  // namespace

TEST_CASE("scan: every folio once, shared ones too, at K points inside the trace") {
    Replay r = with("scan:3", 400);
    ten_pages_and_a_child(r);
    idle(r, 400 - kRows);
    r.machine->finish();
    CHECK(r.log.walks.size() == 3 * kFolios);
    std::map<u64, u64> at;
    for (const WalkRecord& w : r.log.walks) ++at[w.seq];
    CHECK(at == (std::map<u64, u64>{{99, kFolios}, {199, kFolios}, {299, kFolios}}));
    std::set<u64> folios;
    for (const WalkRecord& w : r.log.walks) folios.insert(w.folio);
    CHECK(folios.size() == kFolios);
    for (std::size_t i = 0; i < r.log.walks.size(); ++i) CHECK(r.log.walks[i].walk == i);
    CHECK(r.log.walks.front().kind == WalkKind::referenced);
}

TEST_CASE("every: a scan each N events; end: one after the last row; none: none") {
    Replay every = with("every:50,kind=migrate", 0);
    ten_pages_and_a_child(every);
    idle(every, 134);  // 150 rows
    every.machine->finish();
    CHECK(every.log.walks.size() == 3 * kFolios);
    CHECK(every.log.walks.back().kind == WalkKind::migrate);
    // A policy's migration moves nothing: the next walk finds the same.
    CHECK(every.walk(1, X + 5 * kPageSize) == "1+ 2+");

    Replay end = with("end,kind=all", 0);
    ten_pages_and_a_child(end);
    CHECK(end.log.walks.empty());
    end.machine->finish();
    CHECK(end.log.walks.size() == kFolios);
    CHECK(end.log.walks.back().seq == kRows - 1);

    Replay none = with("none", 0);
    ten_pages_and_a_child(none);
    none.machine->finish();
    CHECK(none.log.walks.empty());
}

TEST_CASE("reclaim: the clock hand passes every folio once a round") {
    Replay r = with("reclaim:2", 0);
    ten_pages_and_a_child(r);
    idle(r, 2 * 4 * kFolios);
    std::vector<u64> passed;
    for (const WalkRecord& w : r.log.walks) passed.push_back(w.folio);
    // From the second time that the hand comes to the lowest page, nothing changes any more.
    const u64 lowest = u64{1} << 36 | X >> kPageShift;
    auto round = std::find(passed.begin(), passed.end(), lowest);
    round = std::find(round + 1, passed.end(), lowest);
    REQUIRE(passed.end() - round >= static_cast<std::ptrdiff_t>(2 * kFolios));
    CHECK(std::set<u64>(round, round + kFolios).size() == kFolios);
    CHECK(std::equal(round, round + kFolios, round + kFolios));
}

TEST_CASE("sample: N walks, the same for a seed, others for another") {
    const auto sampled = [](std::string_view walks) {
        Replay r = with(walks, 1000);
        ten_pages_and_a_child(r);
        idle(r, 1000 - kRows);
        r.machine->finish();
        std::vector<std::pair<u64, u64>> taken;
        for (const WalkRecord& w : r.log.walks) taken.emplace_back(w.seq, w.folio);
        return taken;
    };
    const auto first = sampled("sample:40@1");
    // Draws before the first page is mapped find nothing to walk.
    CHECK(first.size() <= 40u);
    CHECK(first.size() >= 38u);
    CHECK(first == sampled("sample:40@1"));
    CHECK(first != sampled("sample:40@2"));
}

TEST_CASE("recorded walks take place whatever the policy; one of no folio is an anomaly") {
    Replay r = with("end", 0);
    ten_pages_and_a_child(r);
    CHECK(r.walk(2, X) == "2+");
    CHECK(r.walk(2, X + 20 * kPageSize) == "");
    CHECK(r.count(Anomaly::walk_no_folio) == 1u);
    CHECK(r.log.walks.size() == 1u);
}

TEST_CASE("memory is sampled through the trace and at its end") {
    Replay r = with("none", 512);
    ten_pages_and_a_child(r);
    idle(r, 512 - kRows);
    r.machine->finish();
    CHECK(r.log.memories.size() == 257u);
    const MemoryRecord& last = r.log.memories.back();
    CHECK(last.seq == 511u);
    CHECK(last.folios == kFolios);
    CHECK(last.ptes == 1u + 1 + 10 + 10);
    CHECK(last.mms == 2u);
    CHECK(last.live[kVmAreaStruct] == 4u);
}

TEST_CASE("a walk says whose mapping it began from, of what kind, and how many forks down") {
    Replay r = with("none", 0);
    constexpr u64 heap = 0x555500000000, library = X + 64 * kPageSize;
    r.exec(1);
    r.brk(1, heap);
    r.brk(1, heap + 4 * kPageSize);
    r.mmap(1, X, 4);
    r.mmap(1, library, 4, scenario::kProtRw, 0x2, 7);
    const std::vector<std::pair<u64, MappingKind>> places = {{heap, MappingKind::heap},
                                                             {X, MappingKind::anon},
                                                             {library, MappingKind::file},
                                                             {kTaskTop, MappingKind::stack}};
    for (const auto& [addr, kind] : places) r.write(1, addr);
    r.fork(1, 2);
    r.fork(2, 3);
    for (const i32 pid : {1, 2, 3})
        for (const auto& [addr, kind] : places) {
            r.walk(pid, addr);
            const WalkRecord& w = r.log.walks.back();
            CHECK(w.pid == pid);
            CHECK(i32{w.fork_depth} == pid - 1);
            CHECK(w.mapping == kind);
        }
    // An mm of its own again; and heap that was moved away is no heap.
    r.exec(3);
    r.walk(3, kTaskTop);
    CHECK(u32{r.log.walks.back().fork_depth} == 0u);
    r.mremap(1, heap, 4, scenario::Y, 4, 3);
    r.walk(1, scenario::Y);
    CHECK(r.log.walks.back().mapping == MappingKind::anon);
}

TEST_CASE("the heap of a snapshot is a heap before brk() is called") {
    Replay r = with("none", 0);
    Event e = r.event(Op::mapping, 1);
    e.addr = X;
    e.len = 2 * kPageSize;
    e.prot = scenario::kProtRw;
    e.flags = scenario::kPrivateAnon;
    e.special = Special::heap;
    r.apply(e);
    r.write(1, X);
    r.walk(1, X);
    CHECK(r.log.walks.back().mapping == MappingKind::heap);
    r.brk(1, X + 2 * kPageSize);
    r.walk(1, X);
    CHECK(r.log.walks.back().mapping == MappingKind::heap);
}
