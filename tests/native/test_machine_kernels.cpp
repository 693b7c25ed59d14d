// SPDX-License-Identifier: GPL-2.0-only
// What one kernel does otherwise than another, beyond what other files test for each of them.
#include "tests/native/check.hpp"
#include "tests/native/scenario.hpp"

using namespace rmapreplay;
using scenario::Replay;
using scenario::X;
using scenario::Y;

namespace {

constexpr u64 MAYMOVE = 1, DONTUNMAP = 4;

Replay started(Kernel kernel) {
    Replay r("anon_vma", kernel);
    r.exec(1);
    return r;
}

}  // namespace

TEST_CASE("6.12 reuses no page of a large folio that was shared") {
    for (Kernel kernel : {Kernel::v6_12, Kernel::v6_18}) {
        Replay r = started(kernel);
        r.mmap(1, X, 16);
        Event e = r.event(Op::fault, 1);
        e.addr = X;
        e.write = true;
        e.order = 4;
        r.apply(e);
        r.fork(1, 2);
        r.exit(2);
        r.write(1, X);
        CHECK(r.walk(1, X) == "1+");
        CHECK(r.log.walks.back().order == (kernel == Kernel::v6_12 ? 0 : 4));
        r.machine->validate();
    }
}

TEST_CASE("a locked source that MREMAP_DONTUNMAP keeps is split in 7.3 only") {
    for (Kernel kernel : {Kernel::v6_12, Kernel::v6_18, Kernel::v7_3}) {
        Replay r = started(kernel);
        r.mmap(1, X, 4);
        r.range(Op::mlock, 1, X, 4);
        const u64 before = r.vmas();
        r.mremap(1, X + kPageSize, 2, Y, 2, MAYMOVE | DONTUNMAP);
        CHECK(r.vmas() == before + (kernel == Kernel::v7_3 ? 3u : 1u));
        r.machine->validate();
    }
}

TEST_CASE("in 6.12 PR_SET_MEMORY_MERGE keeps new mappings apart") {
    for (Kernel kernel : {Kernel::v6_12, Kernel::v6_18}) {
        Replay r = started(kernel);
        Event e = r.event(Op::prctl, 1);
        e.flags = 67;
        e.addr = 1;
        r.apply(e);
        r.mmap(1, X, 2);
        const u64 before = r.vmas();
        r.mmap(1, X + 2 * kPageSize, 2);
        CHECK(r.vmas() == before + (kernel == Kernel::v6_12 ? 1u : 0u));
        r.mprotect(1, X, 4, scenario::kProtRead);  // existing ranges do merge
        CHECK(r.vmas() == before);
        r.machine->validate();
    }
}

TEST_CASE("MAP_DROPPABLE: a kind of its own, neither locked nor kept by fork") {
    for (Kernel kernel : {Kernel::v6_12, Kernel::v7_3}) {
        constexpr u64 kDroppable = 0x38;  // MAP_DROPPABLE | MAP_ANONYMOUS | MAP_FIXED
        Replay r = started(kernel);
        r.mmap(1, X, 2);
        r.mmap(1, X + 2 * kPageSize, 2, scenario::kProtRw, kDroppable);
        CHECK(r.vmas() == 3u);
        r.range(Op::mlock, 1, X + 2 * kPageSize, 1);
        r.madvise(1, X + 2 * kPageSize, 1, 19);  // KEEPONFORK
        r.madvise(1, X + 2 * kPageSize, 1, 17);  // DODUMP
        CHECK(r.vmas() == 3u);
        r.write(1, X, 4);
        r.fork(1, 2);
        CHECK(r.walk(1, X + kPageSize) == "1+ 2+");
        CHECK(r.walk(1, X + 2 * kPageSize) == "1+");
        CHECK(r.anomalies() == 0u);
        r.machine->validate();
    }
}

TEST_CASE("an mm is called after its first process, then after the lowest that is left") {
    constexpr u64 kCloneVm = 0x100;
    Replay r = started(Kernel::v7_3);
    r.mmap(1, X, 1);
    r.write(1, X);
    r.fork(1, 4, kCloneVm);
    r.fork(1, 3, kCloneVm);
    r.exec(3);
    CHECK(r.walk(1, X) == "1+");
    r.fork(1, 2, kCloneVm);
    r.exit(1);
    CHECK(r.walk(4, X) == "2+");
    r.exec(2);
    CHECK(r.walk(4, X) == "4+");
    r.exit(4);
    r.machine->validate();
}
