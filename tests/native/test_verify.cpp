// SPDX-License-Identifier: GPL-2.0-only
// When a replay verifies itself, and what it says of a model whose objects are not right.
#include "rmap_models/native/cow_context.hpp"
#include "rmap_models/native/invariant.hpp"
#include "tests/native/check.hpp"
#include "tests/native/scenario.hpp"

using namespace rmapreplay;
using scenario::Replay;
using scenario::X;

namespace {

// A process with four pages.
void start(Replay& r) {
    r.exec(1);
    r.mmap(1, X, 4);
    r.write(1, X, 4);
}

std::string broken(Replay& r) {
    try {
        r.machine->validate();
    } catch (const BrokenInvariant& invariant) {
        return invariant.what();
    }
    return "";
}

}  // namespace

TEST_CASE("verify: off unless asked for") {
    Replay r("cow");
    start(r);
    r.machine->finish();
    CHECK(r.machine->totals().verified == u64{0});
}

TEST_CASE("verify: after each N events and at the end, but the end only once") {
    for (const auto& [every, times] : {std::pair<u64, u64>{1, 6}, {2, 3}, {4, 2}, {6, 1}, {7, 1}}) {
        Replay r("anon_vma");
        r.machine->verify_every(every);
        start(r);
        CHECK(r.machine->totals().verified == 6 / every);
        r.machine->finish();
        CHECK(r.machine->totals().verified == times);
    }
}

TEST_CASE("verify: a broken invariant ends the event after which it is found") {
    Replay r("cow");
    start(r);
    auto* context = static_cast<CowContext*>(r.machine->mm_of(1)->rmap);
    ++context->refcount;
    r.machine->verify_every(2);
    r.write(1, X);
    CHECK_THROWS_AS(r.write(1, X), BrokenInvariant);
    CHECK(r.machine->totals().events == u64{8});
    CHECK(r.machine->totals().verified == u64{0});
    CHECK(broken(r) ==
          "cow_context 0 of mm 1 (pid 1): refcount is 7, recounted 1 (mm) + 0 (children) + 5 "
          "(folios)");
    --context->refcount;
    CHECK(broken(r) == "");
}

TEST_CASE("verify: the machine's text names VMA, mm and process") {
    Replay r("anon_vma");
    start(r);
    r.fork(1, 2);
    auto* vma = const_cast<Vma*>(r.machine->mm_of(2)->vmas.lookup(X));
    vma->pgoff += 1;
    CHECK(broken(r) == "VMA 0x700000000000-0x700000004000 of mm 2 (pid 2) has two offsets");
    vma->pgoff -= 1;
    CHECK(broken(r) == "");
}
