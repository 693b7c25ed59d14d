// SPDX-License-Identifier: GPL-2.0-only
#include <string>
#include <vector>

#include "tests/native/check.hpp"
#include "tests/native/trace_rows.hpp"
#include "traces/native/kmem.hpp"
#include "traces/native/lines.hpp"
#include "traces/native/timeline.hpp"
#include "traces/native/trace_check.hpp"

using namespace rmapreplay;

namespace {

Event at(i64 time, Op op = Op::exit) {
    Event event;
    event.time = time;
    event.op = op;
    event.pid = event.tid = 1;
    return event;
}

// One canonical batch of a single brk row, whose columns a test can spoil.
struct Row {
    i64 time = 5;
    i32 op = static_cast<i32>(Op::brk);
    i32 pid = 1, tid = 1;
    u64 addr = 0x1000;
    u64 words[5] = {};
    u32 prot = 0;
    i32 numbers[3] = {};
    bool write = false;
    i32 places[3] = {};  // of path, source and kind
    u8 nothing = 0;  // validity of a null

    std::vector<ColumnView> columns() const {
        std::vector<ColumnView> out;
        const void* values[] = {&time,      &op,         &pid,        &tid,        &addr,
                                &words[0],  &words[1],   &words[2],   &words[3],   &words[4],
                                &prot,      &numbers[0], &numbers[1], &numbers[2], &write,
                                &places[0], &places[1],  &places[2]};
        for (std::size_t i = 0; i < TraceCheck::kColumns.size(); ++i) {
            ColumnView column;
            column.type = TraceCheck::kColumns[i].type;
            column.values = values[i];
            out.push_back(column);
        }
        return out;
    }
};
// The dictionaries hold every name the format knows, in order, and behind them one unknown.
std::optional<TraceCheck::Problem> check_row(TraceCheck& check, std::span<const ColumnView> columns,
                                             TraceCheck::Codes& codes) {
    std::array<std::vector<u8>, TraceCheck::kNamed.size()> names;
    const std::size_t known[] = {kOpNames.size(), kSpecialNames.size(), kSourceNames.size(),
                                 kWalkKindNames.size()};
    TraceCheck::Dictionaries dictionaries;
    for (std::size_t i = 0; i < names.size(); ++i) {
        for (std::size_t code = 0; code < known[i]; ++code) {
            names[i].push_back(static_cast<u8>(code));
        }
        names[i].push_back(TraceCheck::kUnknown);
        dictionaries[i] = names[i];
    }
    return check.check(columns, 1, dictionaries, codes);
}

std::string problem(const Row& row, int null_column = -1) {
    auto columns = row.columns();
    if (null_column >= 0) columns[static_cast<std::size_t>(null_column)].validity = &row.nothing;
    TraceCheck check;
    TraceCheck::Codes codes;
    const auto found = check_row(check, columns, codes);
    return found ? found->column + ": " + found->reason : "";
}

}  // namespace

TEST_CASE("lines: chunks cut anywhere, with and without a last newline") {
    const std::string text = "one\n\ntwo\r\nthree";
    for (std::size_t chunk = 1; chunk <= text.size(); ++chunk) {
        LineSplitter lines;
        std::string seen;
        const auto use = [&seen](std::string_view line) { seen += "[" + std::string(line) + "]"; };
        for (std::size_t i = 0; i < text.size(); i += chunk) {
            lines.feed(std::string_view(text).substr(i, chunk), use);
        }
        CHECK(seen == "[one][][two]");
        lines.finish(use);
        CHECK(seen == "[one][][two][three]");
        lines.finish(use);
        CHECK(seen == "[one][][two][three]");
    }
}

TEST_CASE("timeline: rows wait for the oldest open place") {
    EventTable out;
    Timeline timeline(out);
    const auto first = timeline.reserve(10);
    timeline.push(at(11, Op::exec));
    const auto second = timeline.reserve(12);
    timeline.push(at(13));
    CHECK(out.total_rows() == u64{0});
    CHECK(timeline.fill(second, at(0, Op::munlockall)));
    CHECK(out.total_rows() == u64{0});
    timeline.cancel(first);
    CHECK(trace_rows::text(out) == "11 exec 1/1\n12 munlockall 1/1\n13 exit 1/1\n");
}

TEST_CASE("timeline: time never goes back, and a place that stays open is given up") {
    EventTable out;
    Timeline timeline(out);
    timeline.push(at(20));
    timeline.push(at(15));
    CHECK(timeline.went_back() == u64{1});
    CHECK(trace_rows::text(out) == "20 exit 1/1\n20 exit 1/1\n");
    const auto open = timeline.reserve(21);
    for (std::size_t i = 0; i < Timeline::kLongest; ++i) timeline.push(at(22));
    CHECK(timeline.abandoned() == u64{1});
    CHECK_FALSE(timeline.fill(open, at(0)));
    timeline.cancel(open);
    CHECK(out.total_rows() == u64{2} + Timeline::kLongest);
    timeline.reserve(23);
    timeline.push(at(24, Op::exec));
    timeline.finish();
    CHECK(out.last_time() == i64{24});
}

TEST_CASE("timeline: what a row is reported to have made goes with it, at its time") {
    EventTable out;
    MappedTable mapped;
    Timeline timeline(out, &mapped, 2);
    const auto call = timeline.reserve(10);
    const auto fault = timeline.push(at(11, Op::exec), {{0x1000, 0x2000}});
    timeline.push(at(12));
    CHECK(timeline.fill(call, at(0, Op::munlockall), {{0x3000, 0x4000}, {0x4000, 0x5000}}));
    CHECK(timeline.report(fault, {0x5000, 0x6000}));
    timeline.push(at(13));
    timeline.push(at(14));
    CHECK_FALSE(timeline.report(fault, {0x6000, 0x7000}));  // two rows stay, no more
    CHECK(out.total_rows() == u64{3});
    const auto cancelled = timeline.reserve(15);
    timeline.report(cancelled, {0x8000, 0x9000});
    timeline.cancel(cancelled);
    timeline.finish();
    CHECK(out.total_rows() == u64{5});
    CHECK(trace_rows::named_text(mapped.take()) ==
          "time=10 pid=1 tid=1 start=0x3000 end=0x4000\n"
          "time=10 pid=1 tid=1 start=0x4000 end=0x5000\n"
          "time=11 pid=1 tid=1 start=0x1000 end=0x2000\n"
          "time=11 pid=1 tid=1 start=0x5000 end=0x6000\n");
}

TEST_CASE("event table: null where an operation has no use for a column") {
    EventTable out;
    Event event = at(1, Op::mapping);
    out.append(event);  // offset 0 is a value here
    event.op = Op::fault;
    event.source = Source::gup;
    event.order = 9;
    out.append(event);
    event = at(2, Op::walk);
    event.kind = WalkKind::unmap;
    out.append(event);
    CHECK(trace_rows::text(out) ==
          "1 mapping 1/1 addr=0x0 len=0x0 offset=0x0 flags=0x0 prot=0\n"
          "1 fault 1/1 addr=0x0 write=0 source=gup order=9\n"
          "2 walk 1/1 addr=0x0 kind=unmap\n");
    CHECK(out.path("") == u32{0});
    CHECK(out.path("a") == out.path("a"));
}

TEST_CASE("trace check: each rule of the format") {
    Row row;
    CHECK(problem(row) == "");
    CHECK(problem(row, 0) == "time: is null");
    CHECK(problem(row, 4) == "addr: is null, but brk needs it");
    CHECK(problem(row, 1) == "op: is null");
    row.op = kOpNames.size();
    CHECK(problem(row) == "op: ");
    CHECK(problem(row, 1) == "op: is null");  // what place a null has does not matter
    row.op = 1 << 30;                         // nor does a damaged one
    CHECK(problem(row) == "op: ");
    row = Row{};
    row.addr = u64{1} << 47;
    CHECK(problem(row) == "addr: 0x800000000000 is not a user-space address");
    row = Row{};
    row.words[0] = ~u64{0};
    CHECK(problem(row) == "len: 0xffffffffffffffff goes past the end of the address space");
    row = Row{};
    row.op = static_cast<i32>(Op::mremap);
    row.words[1] = u64{1} << 63;
    CHECK(problem(row) == "new_addr: 0x8000000000000000 is not a user-space address");
}

TEST_CASE("trace check: names get their codes, nulls 0") {
    TraceCheck check;
    TraceCheck::Codes codes;
    Row row;
    row.places[0] = static_cast<i32>(Special::vdso);
    row.places[1] = 999;
    auto columns = row.columns();
    columns[16].validity = &row.nothing;
    CHECK_FALSE(check_row(check, columns, codes));
    CHECK(codes[0] == std::vector<u8>{static_cast<u8>(Op::brk)});
    CHECK(codes[1] == std::vector<u8>{static_cast<u8>(Special::vdso)});
    CHECK(codes[2] == std::vector<u8>{0});
}

TEST_CASE("trace check: time must rise, across batches too") {
    TraceCheck check;
    TraceCheck::Codes codes;
    Row row;
    CHECK_FALSE(check_row(check, row.columns(), codes));
    CHECK_FALSE(check_row(check, row.columns(), codes));  // equal times are fine
    row.time = 4;
    const auto found = check_row(check, row.columns(), codes);
    REQUIRE(found.has_value());
    CHECK(found->row == u64{2});
    CHECK(found->column == "time");
    CHECK(found->reason == "4 is before the row above, 5: rows must be sorted by time");
}

TEST_CASE("kmem: objects are followed by pointer; the chain cache has other users") {
    const auto line = [](int ns, const std::string& rest) {
        return "7/8 [000] 1.00000000" + std::to_string(ns) + ": " + rest + "\n";
    };
    const auto alloc = [&line](int ns, const char* name, const char* site, const char* ptr) {
        return line(ns, std::string("kmem:kmem_cache_alloc: call_site=") + site +
                            "+0x1a ptr=" + ptr + " name=" + name + " bytes_req=1 bytes_alloc=2");
    };
    const auto free = [&line](int ns, const char* name, const char* ptr) {
        return line(ns, std::string("kmem:kmem_cache_free: call_site=unlink_anon_vmas+0x81 ptr=") +
                            ptr + " name=" + name);
    };
    KmemParser parser;
    parser.feed(free(0, "anon_vma_chain", "0xffff1") +  // from before the capture
                alloc(1, "anon_vma_chain", "anon_vma_clone", "0xffff2") +
                alloc(2, "anon_vma_chain", "ep_ptable_queue_proc", "0xffff3") +
                alloc(3, "anon_vma", "anon_vma_fork", "0xffff4") +
                alloc(4, "vm_area_struct", "vm_area_dup", "0xffff5") +
                alloc(5, "mm_struct", "mm_alloc", "0xffff6") +
                free(6, "anon_vma_chain", "0xffff3") + free(7, "anon_vma_chain", "0xffff2") +
                alloc(8, "anon_vma_chain", "__anon_vma_prepare", "0xffff2") + "rubbish\n");
    parser.finish();
    const Table table = parser.take();
    std::string rows;
    for (std::size_t row = 0; row < table.rows(); ++row) {
        for (std::size_t i = 0; i < table.columns(); ++i) {
            rows += trace_rows::cell(table.column(i), row) + (i + 1 < table.columns() ? " " : "\n");
        }
    }
    CHECK(rows ==
          "1000000001 7 8 anon_vma_chain alloc 1 anon_vma_clone\n"
          "1000000003 7 8 anon_vma alloc 1 anon_vma_fork\n"
          "1000000004 7 8 vm_area_struct alloc 1 vm_area_dup\n"
          "1000000007 7 8 anon_vma_chain free 1 unlink_anon_vmas\n"
          "1000000008 7 8 anon_vma_chain alloc 2 __anon_vma_prepare\n");
    CHECK(parser.live() == u64{3});
    CHECK(parser.dropped()["freed_but_not_allocated"] == u64{2});
    CHECK(parser.dropped()["other_user_of_cache"] == u64{1});
    CHECK(parser.dropped()["object_mm_struct"] == u64{1});
    CHECK(parser.dropped()["malformed_line"] == u64{1});
}
