// SPDX-License-Identifier: GPL-2.0-only
// Spans, and that a timeline notices what it was not told. What its tables say is tested in Python.
#include "replay/native/timeline.hpp"

#include <map>
#include <tuple>

#include "replay/native/spans.hpp"
#include "rmap_models/native/invariant.hpp"
#include "tests/native/check.hpp"
#include "tests/native/scenario.hpp"

using namespace rmapreplay;
using scenario::Replay;
using scenario::X;

namespace {

struct Ended {
    std::vector<std::tuple<u64, int, u64>> spans;  // key, value, from
    void operator()(u64 key, int value, u64 from) { spans.emplace_back(key, value, from); }
};

// The spans that end with this event.
std::vector<std::tuple<u64, int, u64>> settle(Spans<int>& spans, u64 now) {
    Ended ended;
    spans.settle(now, ended);
    return ended.spans;
}

// A replay whose timeline goes nowhere.
struct Recorded : Replay {
    explicit Recorded(std::string_view model)
        : Replay(model),
          tables(this->model(), machine->folios(), [this](std::string_view name, Table&& t) {
              rows[std::string(name)] += t.rows();
          }) {
        machine->record_timeline(tables);
        exec(1);
        mmap(1, X, 4);
        write(1, X, 4);
        fork(1, 2);
        machine->validate();
    }
    std::string broken() {
        try {
            machine->validate();
        } catch (const BrokenInvariant& invariant) {
            return invariant.what();
        }
        return "";
    }
    Vma& vma(i32 pid) { return *machine->mm_of(pid)->vmas.lookup(X); }

    std::map<std::string, std::size_t> rows;
    TimelineTables tables;
};

}  // namespace

TEST_CASE("spans: from one event to another") {
    using Rows = std::vector<std::tuple<u64, int, u64>>;
    Spans<int> spans;
    spans.set(7, 1);
    CHECK(settle(spans, 10) == Rows{});
    CHECK(*spans.find(7) == 1);
    spans.set(7, 2);
    CHECK(settle(spans, 12) == (Rows{{7, 1, 10}}));
    spans.end(7);
    CHECK(spans.find(7) == nullptr);
    CHECK(settle(spans, 15) == (Rows{{7, 2, 12}}));
    CHECK(spans.size() == std::size_t{0});
}

TEST_CASE("spans: what changes and changes back within an event goes on") {
    using Rows = std::vector<std::tuple<u64, int, u64>>;
    Spans<int> spans;
    spans.set(7, 1);
    settle(spans, 10);
    spans.set(7, 2);
    spans.end(7);
    spans.set(7, 1);
    CHECK(settle(spans, 11) == Rows{});
    spans.end(7);
    CHECK(settle(spans, 12) == (Rows{{7, 1, 10}}));
}

TEST_CASE("spans: what comes and goes within an event was never there") {
    using Rows = std::vector<std::tuple<u64, int, u64>>;
    Spans<int> spans;
    spans.set(7, 1);
    spans.end(7);
    spans.end(8);
    CHECK(settle(spans, 10) == Rows{});
    CHECK(spans.size() == std::size_t{0});
}

TEST_CASE("spans: open ones by key") {
    Spans<int> spans;
    for (const u64 key : {9, 3, 6}) spans.set(key, static_cast<int>(key) * 10);
    settle(spans, 4);
    Ended open;
    spans.for_each(open);
    CHECK(open.spans ==
          (std::vector<std::tuple<u64, int, u64>>{{3, 30, 4}, {6, 60, 4}, {9, 90, 4}}));
}

TEST_CASE("timeline: a change that nobody told of is noticed") {
    for (const char* model : {"anon_vma", "cow"}) {
        Recorded r(model);
        r.vma(2).flags ^= VM_LOCKED;
        CHECK(r.broken().starts_with("timeline: "));
        CHECK(r.broken().ends_with("has changed"));
        r.vma(2).flags ^= VM_LOCKED;
        CHECK(r.broken() == "");
    }
}

TEST_CASE("timeline: what the model tells must be what it keeps") {
    {
        Recorded r("anon_vma");
        r.tables.unlinked(r.model().anon_vma_chain(r.vma(2)).front(), r.vma(2));
        CHECK(r.broken().ends_with("a link has changed"));
    }
    {
        Recorded r("cow");
        r.mremap(1, X, 4, X + 64 * kPageSize, 4, 3);
        r.machine->validate();
        const u32 context = r.model().home(*r.machine->mm_of(1)->vmas.lookup(X + 64 * kPageSize));
        r.tables.object_made(context, r.machine->mm_of(1));
        CHECK(r.broken() != "");
    }
}

TEST_CASE("timeline: every table is handed on, also the empty ones") {
    Recorded r("cow");
    r.machine->finish();
    r.tables.finish();
    CHECK(r.rows.size() == std::size_t{7});
    CHECK(r.rows.at("mms") == std::size_t{2});
    CHECK(r.rows.at("link_spans") == std::size_t{0});
    // Four entries each, and the page of the arguments.
    CHECK(r.rows.at("mappings") == std::size_t{10});
}
