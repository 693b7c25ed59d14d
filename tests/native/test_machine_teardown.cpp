// SPDX-License-Identifier: GPL-2.0-only
// Fork and the end of address spaces, step by step where the trace has rows of the steps.
#include "tests/native/check.hpp"
#include "tests/native/scenario.hpp"

using namespace rmapreplay;
using scenario::Replay;
using scenario::X;
using scenario::Y;

namespace {

constexpr u64 kVfork = 0x4100,
              kThread = 0x10100;  // CLONE_VFORK | CLONE_VM, CLONE_THREAD | CLONE_VM

Replay started(Teardown teardown, Kernel kernel = Kernel::v7_3, const char* model = "anon_vma") {
    TraceFacts facts = Replay::facts_of(kernel);
    facts.teardown = teardown;
    Replay r(model, facts);
    r.exec(1);
    r.mmap(1, X, 4);
    r.write(1, X, 4);
    return r;
}

// Live VMAs, anon_vmas and AVCs, and mms.
std::string live(const Replay& r) {
    return std::to_string(r.vmas()) + " " + std::to_string(r.live("anon_vma")) + " " +
           std::to_string(r.live("anon_vma_chain")) + " " + std::to_string(r.machine->mms().size());
}

void nothing_left(const Replay& r) {
    CHECK(live(r) == "0 0 0 0");
    CHECK(r.anomalies() == 0u);
    CHECK(r.log.misses.empty());
}

}  // namespace

TEST_CASE("teardown: without rows, everything goes with the last task") {
    Replay r = started(Teardown::at_exit);
    r.fork(1, 1, kThread);
    r.exit(1);
    CHECK(live(r) == "2 2 2 1");
    r.exit(1);
    CHECK(live(r) == "0 0 0 0");
    // A capture that has some of the rows, though not of every address space.
    r.row(Op::unmap_vmas, 1);
    r.row(Op::exit_mmap, 1);
    nothing_left(r);
}

TEST_CASE("teardown: links and VMAs wait for exit_mmap, pages go with the last task") {
    Replay r = started(Teardown::vmas);
    r.fork(1, 2);
    CHECK(live(r) == "4 4 6 2");
    r.exit(2);
    CHECK(live(r) == "4 4 6 2");
    CHECK(r.walk(1, X) == "1+ 2-");
    r.machine->validate();
    r.row(Op::unmap_vmas, 2);  // not awaited here
    CHECK(live(r) == "4 4 6 2");
    r.row(Op::exit_mmap, 2);
    CHECK(live(r) == "2 2 2 1");
    CHECK(r.walk(1, X) == "1+");
    r.exit(1);
    r.row(Op::free_pgtables, 1);  // this one has it
    CHECK(live(r) == "2 0 0 1");
    r.row(Op::exit_mmap, 1);
    nothing_left(r);
}

TEST_CASE("teardown: pages, links and VMAs go one after the other") {
    for (const char* model : {"anon_vma", "cow"}) {
        Replay r = started(Teardown::all, Kernel::v7_3, model);
        r.fork(1, 2);
        r.exit(2);
        CHECK(r.walk(1, X) == "1+ 2+");  // still mapped
        CHECK(r.walk(2, X + kPageSize) == "1+ 2+");  // and named by the process that is gone
        r.write(1, X);  // so a write copies
        r.row(Op::unmap_vmas, 2);
        r.machine->validate();
        CHECK(r.machine->anon_mappings().size() == 5u);
        CHECK(r.walk(1, X + kPageSize, WalkKind::all).substr(0, 2) == "1+");
        CHECK(r.log.walks.back().mapcount == 1u);
        r.machine->walk_all(WalkKind::all);
        r.row(Op::free_pgtables, 2);
        r.machine->validate();
        CHECK(r.vmas() == 4u);
        CHECK(r.walk(1, X + kPageSize) == "1+");
        r.row(Op::exit_mmap, 2);
        CHECK(r.vmas() == 2u);
        CHECK(r.log.misses.empty());
        r.exit(1);
        r.row(Op::exit_mmap, 1);  // implies the other two
        CHECK(r.vmas() == 0u);
        CHECK(r.machine->mms().empty());
        CHECK(r.anomalies() == 0u);
    }
}

TEST_CASE("teardown: a visit to an unmapped VMA that is still linked is in vain") {
    Replay r = started(Teardown::all);
    r.fork(1, 2);
    r.exit(2);
    r.row(Op::unmap_vmas, 2);
    CHECK(r.walk(1, X) == "1+ 2-");
    r.row(Op::free_pgtables, 2);
    CHECK(r.walk(1, X) == "1+");
}

TEST_CASE("teardown: an anon_vma is reused only once its VMA is unlinked") {
    const auto live_after = [](bool unlinked) {
        Replay r = started(Teardown::all);
        r.fork(1, 2);
        r.fork(2, 3);
        r.exit(2);
        if (unlinked) r.row(Op::free_pgtables, 2);
        r.fork(3, 4);
        return r.live("anon_vma");
    };
    // Two VMAs each: those of 1, of 2 and of 3; 4 takes over what 2 gave up, or gets its own.
    CHECK(live_after(true) == 6u);
    CHECK(live_after(false) == 8u);
}

TEST_CASE("teardown: an exec's old mm goes before its row; the new one was there before") {
    for (Kernel kernel : {Kernel::v6_12, Kernel::v6_18, Kernel::v7_3}) {
        Replay r = started(Teardown::all, kernel);
        r.row(Op::unmap_vmas, 1);
        CHECK(live(r) == "3 3 3 2");
        r.machine->validate();
        r.row(Op::free_pgtables, 1);
        CHECK(live(r) == "3 1 1 2");
        r.row(Op::exit_mmap, 1);
        CHECK(live(r) == "1 1 1 1");
        r.exec(1);
        CHECK(live(r) == "1 1 1 1");
        CHECK(r.costs.peak[kVmAreaStruct] == 3u);
        const auto& costs = r.machine->operations();
        CHECK(costs[static_cast<std::size_t>(Op::exec)].allocated[kVmAreaStruct] == 2u);
        CHECK(costs[static_cast<std::size_t>(Op::exit_mmap)].freed[kVmAreaStruct] == 2u);
        r.exit(1);
        r.row(Op::exit_mmap, 1);
        nothing_left(r);
    }
}

TEST_CASE("teardown: an exec's old mm that somebody else holds goes later, the oldest first") {
    Replay r = started(Teardown::all);
    r.exec(1);
    r.mmap(1, X, 8);
    r.exec(1);
    CHECK(live(r) == "5 4 4 3");
    r.row(Op::unmap_vmas, 1);
    r.row(Op::unmap_vmas, 1);
    r.machine->validate();
    CHECK(r.machine->anon_mappings().size() == 1u);
    r.row(Op::exit_mmap, 1);
    CHECK(live(r) == "3 2 2 2");  // the first one had two VMAs, both faulted
    r.row(Op::exit_mmap, 1);
    CHECK(live(r) == "1 1 1 1");
    r.machine->validate();
    CHECK(r.anomalies() == 0u);
}

TEST_CASE("teardown: the last of those who share an mm gives it its name") {
    Replay r = started(Teardown::all);
    r.fork(1, 2, kVfork);
    r.exit(1);
    CHECK(live(r) == "2 2 2 1");
    r.exit(2);
    r.row(Op::exit_mmap, 2);
    nothing_left(r);
}

TEST_CASE("teardown: a task may fault after its exit, as long as its memory is there") {
    Replay r = started(Teardown::all);
    r.mmap(1, Y, 1);
    r.exit(1);
    r.write(1, Y);
    CHECK(r.walk(1, Y) == "1+");
    CHECK(r.anomalies() == 0u);
    r.row(Op::unmap_vmas, 1);
    r.write(1, Y);
    CHECK(r.count(Anomaly::unknown_process) == 1u);
    r.row(Op::exit_mmap, 1);
    CHECK(live(r) == "0 0 0 0");
}

TEST_CASE("teardown: a process id may be used again before the rows come") {
    Replay r = started(Teardown::all);
    r.fork(1, 2);
    r.exit(2);
    r.fork(1, 2);
    CHECK(live(r) == "6 6 10 3");
    r.row(Op::exit_mmap, 2);
    CHECK(live(r) == "4 4 6 2");
    CHECK(r.walk(2, X) == "1+ 2+");
    CHECK(r.anomalies() == 0u);
    r.machine->validate();
}

TEST_CASE("teardown: what never came is counted when the trace ends") {
    Replay r = started(Teardown::all);
    r.fork(1, 2);
    r.fork(1, 3);
    r.exit(2);
    r.exit(3);
    r.row(Op::unmap_vmas, 3);
    r.machine->finish();
    CHECK(r.count(Anomaly::teardown_not_seen) == 2u);
    CHECK(r.anomalies() == 2u);
    CHECK(live(r) == "2 2 2 1");  // process 1 lives
    CHECK(r.log.memories.back().mms == 1u);
    r.machine->validate();
}

TEST_CASE("teardown: an end of nothing is counted") {
    Replay r = started(Teardown::all);
    r.row(Op::exit_mmap, 9);
    CHECK(r.count(Anomaly::exit_unknown) == 1u);
    r.fork(1, 2, kVfork);
    r.row(Op::unmap_vmas, 1);  // 2 uses it still
    CHECK(r.count(Anomaly::exit_unknown) == 2u);
    CHECK(r.walk(1, X) == "1+");
    r.machine->validate();
}

TEST_CASE("dup_mmap: the copy is made there, and is the child's from fork on") {
    for (const char* model : {"anon_vma", "cow"}) {
        Replay r = started(Teardown::at_exit, Kernel::v7_3, model);
        r.row(Op::dup_mmap, 1);
        r.machine->validate();
        CHECK(r.vmas() == 4u);
        CHECK(r.walk(1, X) == "1+ 0+");  // whose it will be is not known yet
        r.write(1, X);  // the parent has another thread: it copies
        r.munmap(1, X + kPageSize, 1);
        r.mmap(1, X + 8 * kPageSize, 1);
        r.fork(1, 2);
        r.machine->validate();
        CHECK(r.vmas() == 6u);  // two of the child, four of the parent
        CHECK(r.walk(2, X).find("2+") != std::string::npos);
        CHECK(r.walk(2, X + kPageSize).find("2+") != std::string::npos);
        CHECK(r.machine->mm_of(2)->pid == 2);
        CHECK(r.machine->mm_of(2)->serial == 2u);
        r.fork(1, 3);  // no dup_mmap before this one
        CHECK(r.vmas() == 10u);
        for (i32 pid : {1, 2, 3}) r.exit(pid);
        CHECK(r.vmas() == 0u);
        CHECK(r.anomalies() == 0u);
        CHECK(r.log.misses.empty());
    }
}

TEST_CASE("dup_mmap: two threads fork at once, each child gets its own copy") {
    Replay r = started(Teardown::at_exit);
    r.fork(1, 1, kThread);
    Event e = r.event(Op::dup_mmap, 1);
    e.tid = 11;
    r.apply(e);
    r.mmap(1, X + 8 * kPageSize, 1);
    r.row(Op::dup_mmap, 1);
    r.fork(1, 2);
    CHECK(r.machine->mm_of(2)->vmas.size() == 3u);
    e = r.event(Op::fork, 1);
    e.tid = 11;
    e.child = e.child_tid = 3;
    r.apply(e);
    CHECK(r.machine->mm_of(3)->vmas.size() == 2u);
    r.machine->validate();
    CHECK(r.anomalies() == 0u);
}

TEST_CASE("dup_mmap: the copy of a fork that failed goes") {
    const auto waiting = [] {
        Replay r = started(Teardown::all);
        r.row(Op::dup_mmap, 1);
        CHECK(live(r) == "4 4 6 2");
        return r;
    };
    Replay again = waiting();
    again.row(Op::dup_mmap, 1);
    CHECK(live(again) == "4 4 6 2");
    again.fork(1, 2, kVfork);  // shares the mm: what waited was not for this one
    CHECK(live(again) == "2 2 2 1");
    Replay exiting = waiting();
    exiting.exit(1);
    exiting.row(Op::exit_mmap, 1);
    nothing_left(exiting);
    Replay execing = waiting();
    execing.exec(1);
    execing.row(Op::exit_mmap, 1);
    CHECK(live(execing) == "1 1 1 1");
    Replay cut = waiting();
    cut.machine->finish();
    CHECK(live(cut) == "2 2 2 1");
    CHECK(cut.anomalies() == 0u);  // the trace may end there
}

TEST_CASE("dup_mmap in parts: what others do in between comes in between") {
    for (const char* model : {"anon_vma", "cow", "cow-poc"}) {
        Replay r(model, Kernel::v7_3);
        r.exec(1);
        r.mmap(1, X, 1);
        r.mmap(1, Y, 1);
        r.write(1, X);
        r.write(1, Y);
        const auto dup = [&](i32 pid, u64 below) {
            Event e = r.event(Op::dup_mmap, pid);
            e.addr = below;
            r.apply(e);
            if (std::string_view(model) != "cow-poc") r.machine->validate();
        };
        r.fork(1, 2);
        dup(1, X + kPageSize);  // X is copied, Y is not
        dup(2, 0);
        CHECK(r.walk(1, Y).size() == 8u);  // 1, 2 and 2's child
        r.fork(2, 4);
        dup(1, 0);
        r.fork(1, 3);
        r.machine->validate();
        if (std::string_view(model) == "anon_vma") {
            CHECK(r.walk(1, X) == "1+ 2+ 3+ 4+");
            CHECK(r.walk(1, Y) == "1+ 2+ 4+ 3+");
        }
        // A part of a copy that is never finished goes with its task.
        dup(3, X + kPageSize);
        r.exit(3);
        CHECK(r.anomalies() == 0u);
        r.machine->validate();
    }
}

TEST_CASE("free_pgtables in parts: the VMAs above still are where walks look") {
    Replay r = started(Teardown::all);
    r.mmap(1, Y, 1);
    r.write(1, Y);
    r.fork(1, 2);
    r.exit(2);
    r.row(Op::unmap_vmas, 2);
    Event e = r.event(Op::free_pgtables, 2);
    e.addr = X + kPageSize;
    r.apply(e);
    CHECK(r.walk(1, X) == "1+");
    CHECK(r.walk(1, Y) == "1+ 2-");
    r.machine->validate();
    r.row(Op::free_pgtables, 2);
    CHECK(r.walk(1, Y) == "1+");
    r.row(Op::exit_mmap, 2);
    CHECK(r.anomalies() == 0u);
    r.machine->validate();
}
