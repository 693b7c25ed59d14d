// SPDX-License-Identifier: GPL-2.0-only
// The machine: what maps what after each kind of operation, under every model.
#include "tests/native/check.hpp"
#include "tests/native/scenario.hpp"

using namespace rmapreplay;
using scenario::Replay;
using scenario::X;
using scenario::Y;

namespace {

constexpr u64 MAYMOVE = 1, FIXED = 2, DONTUNMAP = 4;
constexpr i32 DONTNEED = 4, DONTFORK = 10, DOFORK = 11, HUGEPAGE = 14, WIPEONFORK = 18,
              POPULATE_WRITE = 23, GUARD_INSTALL = 102, GUARD_REMOVE = 103;
constexpr Kernel kKernels[] = {Kernel::v6_12, Kernel::v6_18, Kernel::v7_3};
constexpr const char* kModels[] = {"anon_vma", "cow"};

// exec leaves one VMA, the stack.
Replay started(const char* model = "anon_vma", Kernel kernel = Kernel::v7_3,
               ThpMode thp = ThpMode::never) {
    Replay r(model, kernel, thp);
    r.exec(1);
    return r;
}

template <class F>
void everywhere(F&& test, Kernel since = Kernel::v6_12) {
    for (const char* model : kModels)
        for (Kernel kernel : kKernels) {
            if (kernel < since) continue;
            Replay r = started(model, kernel);
            test(r);
            CHECK(r.log.misses.empty());
        }
}

}  // namespace

TEST_CASE("exec makes one faulted stack VMA") {
    everywhere([](Replay& r) {
        CHECK(r.vmas() == 1u);
        CHECK(r.walk(1, 0x7fffffffe000) == "1+");
        r.exit(1);
        CHECK(r.vmas() == 0u);
        CHECK(r.anomalies() == 0u);
    });
}

TEST_CASE("adjacent anonymous mappings merge, other flags keep them apart") {
    everywhere([](Replay& r) {
        r.mmap(1, X, 4);
        r.mmap(1, X + 4 * kPageSize, 4);
        CHECK(r.vmas() == 2u);
        r.mmap(1, X + 8 * kPageSize, 4, scenario::kProtRead);
        CHECK(r.vmas() == 3u);
        // NORESERVE: writable without VM_ACCOUNT
        r.mmap(1, X + 12 * kPageSize, 4, scenario::kProtRw, 0x4022 | scenario::kFixed);
        CHECK(r.vmas() == 4u);
        // MAP_STACK: VM_NOHUGEPAGE
        r.mmap(1, X + 16 * kPageSize, 4, scenario::kProtRw, 0x20022 | scenario::kFixed);
        CHECK(r.vmas() == 5u);
        // A hole filled joins both sides.
        r.munmap(1, X + kPageSize, 2);
        CHECK(r.vmas() == 6u);
        r.mmap(1, X + kPageSize, 2);
        CHECK(r.vmas() == 5u);
    });
}

TEST_CASE("mprotect splits and merges back") {
    everywhere([](Replay& r) {
        r.mmap(1, X, 4);
        r.write(1, X, 4);
        r.mprotect(1, X + kPageSize, 1, scenario::kProtRead);
        CHECK(r.vmas() == 4u);
        CHECK(r.walk(1, X + kPageSize) == "1+");
        CHECK(r.walk(1, X + 3 * kPageSize) == "1+");
        r.mprotect(1, X + kPageSize, 1, scenario::kProtRw);
        CHECK(r.vmas() == 2u);
        for (u64 i = 0; i < 4; ++i) CHECK(r.walk(1, X + i * kPageSize) == "1+");
    });
}

TEST_CASE("mseal: sealed memory merges with sealed memory only, and fork inherits it") {
    everywhere([](Replay& r) {
        r.mmap(1, X, 4);
        r.range(Op::mseal, 1, X + kPageSize, 1);
        CHECK(r.vmas() == 4u);
        r.mmap(1, X + 4 * kPageSize, 1);  // joins the unsealed one below
        CHECK(r.vmas() == 4u);
        r.range(Op::mseal, 1, X + kPageSize, 1);
        CHECK(r.vmas() == 4u);
        r.fork(1, 2);
        CHECK(r.vmas() == 8u);
        r.range(Op::mseal, 1, X, 5);
        CHECK(r.vmas() == 6u);
        r.range(Op::mseal, 2, X, 5);
        CHECK(r.vmas() == 4u);
        CHECK(r.anomalies() == 0u);
    });
}

TEST_CASE("mprotect of unfaulted memory drops and regains VM_ACCOUNT") {
    everywhere([](Replay& r) {
        r.mmap(1, X, 4, 0);  // PROT_NONE
        r.mprotect(1, X, 2, scenario::kProtRw);
        CHECK(r.vmas() == 3u);
        r.mmap(1, X - 4 * kPageSize, 4);
        CHECK(r.vmas() == 3u);  // joins the part made writable
        r.mprotect(1, X, 2, 0);
        CHECK(r.vmas() == 3u);  // back with the PROT_NONE part
    });
}

TEST_CASE("MAP_FIXED over mappings replaces them") {
    everywhere([](Replay& r) {
        r.mmap(1, X, 8);
        r.write(1, X, 8);
        r.mmap(1, X + 2 * kPageSize, 4, scenario::kProtRead);
        CHECK(r.vmas() == 4u);
        CHECK(r.walk(1, X) == "1+");
        CHECK(r.count(Anomaly::walk_no_folio) == 0u);
        CHECK(r.walk(1, X + 2 * kPageSize) == "");
        CHECK(r.count(Anomaly::walk_no_folio) == 1u);
    });
}

TEST_CASE("the heap grows to its left neighbour only, and shrinks") {
    everywhere([](Replay& r) {
        r.brk(1, X);
        r.brk(1, X + 4 * kPageSize);
        r.write(1, X, 4);
        CHECK(r.vmas() == 2u);
        r.brk(1, X + 8 * kPageSize);
        CHECK(r.vmas() == 2u);
        r.brk(1, X + 2 * kPageSize);
        CHECK(r.vmas() == 2u);
        CHECK(r.walk(1, X + kPageSize) == "1+");
        r.brk(1, X + 6 * kPageSize);
        r.write(1, X + 5 * kPageSize);
        CHECK(r.anomalies() == 0u);
        r.brk(1, X - kPageSize);
        CHECK(r.count(Anomaly::brk_mismatch) == 1u);
    });
}

TEST_CASE("a fault below the stack grows it, within its limit") {
    everywhere([](Replay& r) {
        r.write(1, 0x7fffffffe000 - 40 * kPageSize);
        CHECK(r.anomalies() == 0u);
        CHECK(r.walk(1, 0x7fffffffe000 - 40 * kPageSize) == "1+");
        CHECK(r.walk(1, 0x7fffffffe000) == "1+");
        r.write(1, 0x7fffffffe000 - 9 * 256 * kPageSize);
        CHECK(r.count(Anomaly::fault_outside_vma) == 1u);
    });
}

TEST_CASE("fork shares, a write copies, the last owner reuses") {
    everywhere([](Replay& r) {
        r.mmap(1, X, 4);
        r.write(1, X, 4);
        r.fork(1, 2);
        CHECK(r.walk(1, X) == "1+ 2+");
        r.write(2, X);
        // The parent's page is now the parent's alone; every model may still look at the child.
        CHECK(r.walk(1, X).substr(0, 2) == "1+");
        CHECK(r.walk(2, X) == "2+");
        r.exit(1);
        CHECK(r.walk(2, X + kPageSize).find("2+") != std::string::npos);
        r.write(2, X + kPageSize);
        CHECK(r.walk(2, X + kPageSize) == "2+");
        r.exit(2);
        CHECK(r.vmas() == 0u);
        CHECK(r.anomalies() == 0u);
    });
}

TEST_CASE("vfork shares the mm until exec; a thread keeps it alive") {
    everywhere([](Replay& r) {
        r.mmap(1, X, 2);
        r.fork(1, 2, 0x4100);  // CLONE_VFORK | CLONE_VM
        r.write(2, X, 2);
        CHECK(r.walk(1, X) == "1+");
        r.exec(2);
        CHECK(r.walk(1, X) == "1+");
        r.fork(1, 1, 0x10100);  // a thread
        r.exit(1);
        CHECK(r.walk(1, X) == "1+");
        r.exit(1);
        r.exit(2);
        CHECK(r.vmas() == 0u);
        CHECK(r.anomalies() == 0u);
    });
}

TEST_CASE("DONTFORK is not copied, WIPEONFORK comes empty, DONTNEED refaults") {
    everywhere([](Replay& r) {
        r.mmap(1, X, 2);
        r.mmap(1, Y, 2);
        r.write(1, X, 2);
        r.write(1, Y, 2);
        r.madvise(1, X, 2, DONTFORK);
        r.madvise(1, Y, 2, WIPEONFORK);
        r.fork(1, 2);
        CHECK(r.vmas() == 5u);  // stack twice, X once, Y twice
        CHECK(r.walk(1, Y) == "1+");
        r.write(2, Y);
        CHECK(r.walk(2, Y) == "2+");
        CHECK(r.walk(1, Y) == "1+");
        r.madvise(1, Y, 2, DONTNEED);
        CHECK(r.walk(1, Y) == "");
        r.write(1, Y);
        CHECK(r.walk(1, Y) == "1+");
        CHECK(r.count(Anomaly::walk_no_folio) == 1u);
    });
}

TEST_CASE("mremap: move, grow in place, shrink, over a mapping, keep the source") {
    everywhere([](Replay& r) {
        r.mmap(1, X, 4);
        r.write(1, X, 4);
        r.fork(1, 2);
        r.mremap(1, X, 4, Y, 4, MAYMOVE | FIXED);
        CHECK(r.walk(2, X + kPageSize) == r.walk(1, Y + kPageSize));
        CHECK(r.log.visits.size() >= 2u);
        r.mremap(1, Y, 4, Y, 8, 0);
        r.write(1, Y + 6 * kPageSize);
        CHECK(r.walk(1, Y + 6 * kPageSize) == "1+");
        r.mremap(1, Y, 8, Y, 2, 0);
        CHECK(r.walk(1, Y + kPageSize).find("1+") != std::string::npos);
        r.mmap(1, X, 4);
        r.write(1, X, 4);
        CHECK(r.walk(1, X) == "1+");
        r.mremap(1, Y, 1, X + kPageSize, 1, MAYMOVE | FIXED);  // one page of it, over another
        CHECK(r.walk(1, X + kPageSize).find("1+") != std::string::npos);
        CHECK(r.walk(1, Y + kPageSize).find("1+") != std::string::npos);
        CHECK(r.anomalies() == 0u);
        r.mmap(1, Y + 32 * kPageSize, 2);
        r.write(1, Y + 32 * kPageSize, 2);
        r.mremap(1, Y + 32 * kPageSize, 2, Y + 64 * kPageSize, 2, MAYMOVE | DONTUNMAP);
        CHECK(r.walk(1, Y + 64 * kPageSize) == "1+");
        r.write(1, Y + 32 * kPageSize);
        CHECK(r.walk(1, Y + 32 * kPageSize) == "1+");
        CHECK(r.anomalies() == 0u);
    });
}

TEST_CASE("an unfaulted mapping takes the offset of its new place and merges there") {
    everywhere([](Replay& r) {
        r.mmap(1, X, 2);
        r.mmap(1, Y, 2);
        r.mremap(1, X, 2, Y + 2 * kPageSize, 2, MAYMOVE | FIXED);
        CHECK(r.vmas() == 2u);
        r.mmap(1, X, 2);
        r.write(1, X);
        r.mremap(1, X, 2, Y + 4 * kPageSize, 2, MAYMOVE | FIXED);
        CHECK(r.vmas() == 3u);  // faulted: keeps its offset
        CHECK(r.walk(1, Y + 4 * kPageSize) == "1+");
    });
}

TEST_CASE("private file pages: reads are the file's, a write makes a private copy") {
    everywhere([](Replay& r) {
        r.mmap(1, X, 4, scenario::kProtRw, 0x12, 7, 0x3000);
        r.read(1, X);
        CHECK(r.walk(1, X) == "");
        r.write(1, X);
        CHECK(r.walk(1, X) == "1+");
        r.fork(1, 2);
        CHECK(r.walk(2, X) == "1+ 2+");
    });
}

TEST_CASE("populate, mlock and MADV_POPULATE fault pages in without fault events") {
    everywhere([](Replay& r) {
        r.mmap(1, X, 2, scenario::kProtRw, 0x8022 | scenario::kFixed);
        CHECK(r.walk(1, X + kPageSize) == "1+");
        r.mmap(1, Y, 4);
        Event e = r.event(Op::mlock, 1);
        e.addr = Y;
        e.len = kPageSize;
        r.apply(e);
        CHECK(r.walk(1, Y) == "1+");
        r.madvise(1, Y + 2 * kPageSize, 1, POPULATE_WRITE);
        CHECK(r.walk(1, Y + 2 * kPageSize) == "1+");
        CHECK(r.vmas() == 4u);
        CHECK(r.anomalies() == 0u);
    });
}

TEST_CASE("guard pages refuse faults until they are removed") {
    everywhere([](Replay& r) {
        r.mmap(1, X, 4);
        r.write(1, X, 4);
        r.madvise(1, X + kPageSize, 1, GUARD_INSTALL);
        r.write(1, X + kPageSize);
        CHECK(r.count(Anomaly::fault_access_denied) == 1u);
        r.madvise(1, X, 4, DONTNEED);
        r.write(1, X + kPageSize);
        CHECK(r.count(Anomaly::fault_access_denied) == 2u);
        r.madvise(1, X, 4, GUARD_REMOVE);
        r.write(1, X + kPageSize);
        CHECK(r.walk(1, X + kPageSize) == "1+");
    });
}

TEST_CASE("a huge page is one folio: split by munmap, copied by page after fork") {
    for (const char* model : kModels) {
        Replay r = started(model, Kernel::v6_18, ThpMode::madvise);
        r.mmap(1, X, 1024);
        r.madvise(1, X, 1024, HUGEPAGE);
        r.write(1, X + 5 * kPageSize);
        CHECK(r.walk(1, X + 300 * kPageSize) == "1+");
        CHECK(r.log.walks.back().order == 9);
        CHECK(r.log.walks.back().mapcount == 1u);
        r.fork(1, 2);
        CHECK(r.walk(1, X) == "1+ 2+");
        CHECK(r.log.walks.back().mapcount == 2u);
        r.write(2, X + kPageSize);  // the child copies one page
        CHECK(r.walk(2, X + kPageSize) == "2+");
        CHECK(r.walk(1, X) == "1+ 2+");
        CHECK(r.log.walks.back().mapcount == 512u);
        r.exit(2);
        r.munmap(1, X, 8);
        CHECK(r.walk(1, X + 8 * kPageSize) == "1+");
        CHECK(r.log.walks.back().mapcount == 504u);
        r.read(1, X + 512 * kPageSize);  // huge zero page: faulted, no folio
        CHECK(r.walk(1, X + 512 * kPageSize) == "");
        r.write(1, X + 700 * kPageSize);
        CHECK(r.walk(1, X + 512 * kPageSize) == "1+");
        CHECK(r.log.walks.back().order == 9);
        CHECK(r.log.misses.empty());
        r.exit(1);
        CHECK(r.vmas() == 0u);
    }
}

TEST_CASE("a folio of the order that the trace tells, shared and copied page by page") {
    everywhere([](Replay& r) {
        r.mmap(1, X, 64);
        Event e = r.event(Op::fault, 1);
        e.addr = X + 5 * kPageSize;
        e.write = true;
        e.order = 4;  // 64 KB: pages 0 to 15
        r.apply(e);
        CHECK(r.walk(1, X + 15 * kPageSize) == "1+");
        CHECK(r.log.walks.back().order == 4);
        CHECK(r.log.walks.back().mapcount == 16u);
        CHECK(r.walk(1, X + 16 * kPageSize) == "");
        r.fork(1, 2);
        CHECK(r.walk(2, X) == "1+ 2+");
        r.write(2, X);
        CHECK(r.walk(2, X) == "2+");
        CHECK(r.log.walks.back().order == 0);
        e.addr = X + 17 * kPageSize;
        e.order = 6;  // does not fit beside what is there: a single page
        r.apply(e);
        CHECK(r.walk(1, X + 17 * kPageSize).substr(0, 2) == "1+");
        CHECK(r.log.walks.back().order == 0);
    });
}

TEST_CASE("an unfaulted mapping takes over a faulted one's links only since 6.15") {
    for (const char* model : kModels)
        for (Kernel kernel : kKernels) {
            Replay r = started(model, kernel);
            r.mmap(1, X, 2);
            r.mmap(1, X + 2 * kPageSize, 2, scenario::kProtRead);
            r.write(1, X);
            r.mprotect(1, X + 2 * kPageSize, 2, scenario::kProtRw);
            CHECK(r.vmas() == 2u);  // the faulted one takes the other, under every kernel
            r.mmap(1, Y, 2);
            r.mmap(1, Y + 2 * kPageSize, 2);
            r.madvise(1, Y + 2 * kPageSize, 2, DONTFORK);
            r.write(1, Y + 2 * kPageSize);
            r.madvise(1, Y + 2 * kPageSize, 2, DOFORK);
            CHECK(r.vmas() == (kernel == Kernel::v6_12 ? 4u : 3u));
            CHECK(r.walk(1, Y + 2 * kPageSize) == "1+");
        }
}

TEST_CASE("the first growth of the heap does not join the bss below it") {
    everywhere([](Replay& r) {
        r.mmap(1, X - 4 * kPageSize, 4);
        r.brk(1, X);
        r.brk(1, X + kPageSize);
        CHECK(r.vmas() == 3u);
        r.brk(1, X + 2 * kPageSize);
        CHECK(r.vmas() == 3u);
    });
}

TEST_CASE("madvise ends at the first mapping that refuses it") {
    everywhere([](Replay& r) {
        r.mmap(1, X, 2);
        r.mmap(1, X + 2 * kPageSize, 2, scenario::kProtRw, 0x2022 | scenario::kFixed);  // LOCKED
        r.mmap(1, X + 4 * kPageSize, 2);
        r.write(1, X, 6);
        r.range(Op::madvise, 1, X, 6, 0, DONTNEED, 22);  // EINVAL
        CHECK(r.walk(1, X) == "");
        CHECK(r.walk(1, X + 2 * kPageSize) == "1+");
        CHECK(r.walk(1, X + 4 * kPageSize) == "1+");
        r.mmap(1, Y, 1, scenario::kProtRw, 0x21 | scenario::kFixed);  // shared
        r.mmap(1, Y + kPageSize, 1);
        r.write(1, Y + kPageSize);
        r.range(Op::madvise, 1, Y, 2, 0, WIPEONFORK, 22);
        r.fork(1, 2);
        CHECK(r.walk(2, Y + kPageSize) == "1+ 2+");
    });
}

TEST_CASE("guards in a private file mapping: unfaulted and copied by fork since 7.3") {
    for (Kernel kernel : kKernels) {
        Replay r = started("anon_vma", kernel);
        r.mmap(1, X, 2, scenario::kProtRw, 0x12, 7);
        r.madvise(1, X, 1, GUARD_INSTALL);
        CHECK(r.live("anon_vma") == (kernel == Kernel::v7_3 ? 1u : 2u));  // the stack has one
        r.fork(1, 2);
        r.write(2, X);
        CHECK(r.count(Anomaly::fault_access_denied) == 1u);
        r.machine->validate();
        r.write(2, X + kPageSize);
        CHECK(r.walk(2, X + kPageSize) == "2+");
        r.exit(2);
        r.exit(1);
        CHECK(r.vmas() == 0u);
    }
}

TEST_CASE("PR_SET_MEMORY_MERGE covers private files, not shared memory, and outlives exec") {
    const auto test = [](Replay& r) {
        Event e = r.event(Op::prctl, 1);
        e.flags = 67;
        e.addr = 1;
        r.apply(e);
        r.mmap(1, X, 2, scenario::kProtRw, 0x12, 7);
        r.mmap(1, X + 8 * kPageSize, 2, scenario::kProtRw, 0x11, 8);
        r.madvise(1, X, 2, 13);  // UNMERGEABLE: it was
        r.mmap(1, X + 2 * kPageSize, 2, scenario::kProtRw, 0x12, 7, 2 * kPageSize);
        r.madvise(1, X + 8 * kPageSize, 1, 13);  // it was not: nothing to split
        CHECK(r.vmas() == 4u);
        r.exec(1);
        r.mmap(1, X, 2);
        r.madvise(1, X, 1, 13);
        CHECK(r.vmas() == 3u);
    };
    everywhere(test, Kernel::v6_18);
}

TEST_CASE("only anonymous memory has names, shared memory among it") {
    everywhere([](Replay& r) {
        const auto name = [&](u64 addr, u64 pages) {
            Event e = r.event(Op::prctl, 1);
            e.flags = 0x53564d41;
            e.addr = addr;
            e.len = pages * kPageSize;
            e.new_addr = 5;
            r.apply(e);
        };
        r.mmap(1, X, 2, scenario::kProtRw, 0x21 | scenario::kFixed);  // shared
        name(X, 1);
        CHECK(r.vmas() == 3u);
        r.mmap(1, Y, 2, scenario::kProtRw, 0x12, 7);
        r.mmap(1, Y + 2 * kPageSize, 2);
        name(Y + kPageSize, 2);  // EBADF at the file
        CHECK(r.vmas() == 5u);
    });
}

TEST_CASE("mprotect: LOCKONFAULT is not populated, GROWSDOWN starts where the stack does") {
    everywhere([](Replay& r) {
        const auto lock = [&](u64 addr, u64 flags) {
            Event e = r.event(Op::mlock, 1);
            e.addr = addr;
            e.len = 2 * kPageSize;
            e.flags = flags;
            r.apply(e);
            r.mprotect(1, addr, 2, scenario::kProtRw);
        };
        r.mmap(1, X, 2, scenario::kProtRead);
        r.mmap(1, Y, 2, scenario::kProtRead);
        lock(X, 0);
        lock(Y, 1);
        CHECK(r.walk(1, X) == "1+");
        CHECK(r.walk(1, Y) == "");
        const u64 top = 0x7fffffffe000;
        r.write(1, top - 4 * kPageSize);  // the stack is five pages
        r.mprotect(1, top, 1, 0x01000000 | scenario::kProtRead);
        r.write(1, top - 2 * kPageSize);
        CHECK(r.count(Anomaly::fault_access_denied) == 1u);
        CHECK(r.vmas() == 3u);
    });
}

TEST_CASE("mprotect ends with EACCES at a shared file that was opened to be read") {
    everywhere([](Replay& r) {
        r.mmap(1, X, 2, scenario::kProtRead);
        r.mmap(1, X + 2 * kPageSize, 2, scenario::kProtRead, 0x11, 7);
        r.mmap(1, X + 4 * kPageSize, 2, scenario::kProtRead);
        r.range(Op::mprotect, 1, X, 6, scenario::kProtRw, 0, 13);
        r.write(1, X);
        r.write(1, X + 4 * kPageSize);
        CHECK(r.walk(1, X) == "1+");
        CHECK(r.count(Anomaly::fault_access_denied) == 1u);
    });
}

TEST_CASE("mlock that fails: at a hole, at PROT_NONE, and for its limit") {
    everywhere([](Replay& r) {
        const auto lock = [&](u64 addr, u64 pages) {
            Event e = r.event(Op::mlock, 1);
            e.addr = addr;
            e.len = pages * kPageSize;
            e.error = 12;
            r.apply(e);
        };
        r.mmap(1, X, 4);
        lock(X, 2);  // RLIMIT_MEMLOCK: nothing has happened
        CHECK(r.vmas() == 2u);
        r.mprotect(1, X + 2 * kPageSize, 2, 0);
        lock(X, 4);  // all locked, populated up to what is not accessible
        CHECK(r.walk(1, X + kPageSize) == "1+");
        r.mmap(1, Y, 2);
        lock(Y, 3);  // locked up to the hole, not populated
        CHECK(r.walk(1, Y) == "");
        r.mmap(1, Y + 2 * kPageSize, 2);
        CHECK(r.vmas() == 5u);
        CHECK(r.count(Anomaly::protect_hole) == 0u);
    });
}

TEST_CASE("a large folio is reused over all VMAs of its mm, but not for its last page") {
    for (const char* model : kModels)
        for (Kernel kernel : {Kernel::v6_18, Kernel::v7_3}) {
            Replay r = started(model, kernel);
            r.mmap(1, X, 16);
            Event e = r.event(Op::fault, 1);
            e.addr = X;
            e.write = true;
            e.order = 4;
            r.apply(e);
            r.fork(1, 2);
            r.exit(2);
            r.mprotect(1, X + 8 * kPageSize, 4, scenario::kProtRead);  // three VMAs
            r.write(1, X);
            CHECK(r.walk(1, X) == "1+ 1+ 1+");
            CHECK(r.log.walks.back().mapcount == 16u);
            r.fork(1, 2);
            r.exit(2);
            r.munmap(1, X + kPageSize, 15);
            r.write(1, X);
            CHECK(r.walk(1, X) == "1+");
            CHECK(r.log.walks.back().order == 0);
            r.machine->validate();
        }
}

TEST_CASE("what cannot be is counted") {
    everywhere([](Replay& r) {
        r.write(1, Y);
        CHECK(r.count(Anomaly::fault_outside_vma) == 1u);
        r.munmap(1, Y, 1);
        CHECK(r.count(Anomaly::munmap_nothing) == 1u);
        r.mremap(1, Y, 1, Y, 2, 0);
        CHECK(r.count(Anomaly::mremap_no_source) == 1u);
        r.write(9, Y);
        CHECK(r.count(Anomaly::unknown_process) == 1u);
        r.exit(9);
        CHECK(r.count(Anomaly::exit_unknown) == 1u);
        r.mmap(1, X, 2, scenario::kProtRead);
        r.write(1, X);
        CHECK(r.count(Anomaly::fault_access_denied) == 1u);
        r.mmap(1, X, 1, scenario::kProtRw, scenario::kPrivateAnon);
        CHECK(r.count(Anomaly::mmap_over_mapping) == 1u);
        r.mprotect(1, X, 3, scenario::kProtRw);
        CHECK(r.count(Anomaly::protect_hole) == 1u);
        r.range(Op::mprotect, 1, X, 3, scenario::kProtRw, 0, 12);  // ENOMEM said so
        CHECK(r.count(Anomaly::protect_hole) == 1u);
        r.fork(1, 2);
        r.fork(1, 2);
        CHECK(r.count(Anomaly::fork_existing) == 1u);
    });
}

TEST_CASE("early stops: referenced at mapcount or an mlocked VMA, unmap when nothing is left") {
    Replay r = started();
    r.mmap(1, X, 1);
    r.write(1, X);
    r.fork(1, 2);
    r.fork(1, 3);
    r.write(2, X);
    CHECK(r.walk(1, X, WalkKind::all) == "1+ 2- 3+");
    CHECK(!r.log.walks.back().stopped);
    CHECK(r.walk(1, X, WalkKind::referenced) == "1+ 2- 3+");
    CHECK(r.log.walks.back().stopped);
    r.write(3, X);
    CHECK(r.walk(1, X, WalkKind::migrate) == "1+");
    CHECK(r.log.walks.back().stopped);
    CHECK(r.walk(1, X, WalkKind::all) == "1+ 2- 3-");
    r.fork(1, 4);
    Event e = r.event(Op::mlock, 1);
    e.addr = X;
    e.len = kPageSize;
    r.apply(e);  // breaks the sharing with 4: the page is 1's own again
    CHECK(r.walk(1, X, WalkKind::referenced) == "1+");
}

TEST_CASE("walk policies are parsed or refused in one line") {
    CHECK(parse_walk_policy("scan:4").n == 4u);
    CHECK(parse_walk_policy("sample:10@7").seed == 7u);
    CHECK(parse_walk_policy("every:5,kind=migrate").kind == WalkKind::migrate);
    CHECK(parse_walk_policy("end").when == WalkPolicy::When::end);
    for (const char* bad :
         {"", "scan:", "scan:0", "scan:x", "often", "every:1,kind=odd", "end:3", "scan:1,speed=2"})
        CHECK_THROWS_AS(parse_walk_policy(bad), std::invalid_argument);
}
