// SPDX-License-Identifier: GPL-2.0-only
#include <map>
#include <string>

#include "replay/native/result_tables.hpp"
#include "tests/native/check.hpp"

using namespace rmapreplay;

namespace {

constexpr std::array<ObjectKind, 1> kObjects = {{{"thing", 10}}};
constexpr Counter kWalkCounters[] = {{"steps", CostClass::step, "nodes read"}};
constexpr Counter kOpCounters[] = {{"links", CostClass::link, "nodes linked"}};
const ModelInfo kModel{"m", "a model", {}, kObjects, kWalkCounters, kOpCounters};

const Column& column_of(const Table& table, std::string_view name) {
    for (std::size_t i = 0; i < table.columns(); ++i) {
        if (table.column(i).name() == name) return table.column(i);
    }
    throw std::logic_error("no column " + std::string(name));
}

template <class T>
T value(const Table& table, std::string_view name, std::size_t row) {
    return dynamic_cast<const TypedColumn<T>&>(column_of(table, name))[row];
}

struct Collected {
    std::map<std::string, std::vector<Table>> tables;
    ResultTables::Sink sink() {
        return [this](std::string_view name, Table&& table) {
            tables[std::string(name)].push_back(std::move(table));
        };
    }
};

}  // namespace

TEST_CASE("percentiles are by nearest rank, for small and large values alike") {
    Histogram histogram;
    CHECK(histogram.percentile(50) == u64{0});
    for (u64 i = 1; i <= 100; ++i) histogram.add(i * 100);
    CHECK(histogram.percentile(50) == u64{5000});
    CHECK(histogram.percentile(95) == u64{9500});
    CHECK(histogram.percentile(99) == u64{9900});
    CHECK(histogram.percentile(100) == u64{10000});
    CHECK(histogram.max() == u64{10000});
    CHECK(histogram.mean() == 5050.0);
    Histogram three;
    for (u64 v : {1, 1, 7}) three.add(v);
    CHECK(three.percentile(50) == u64{1});
    CHECK(three.percentile(67) == u64{7});
}

TEST_CASE("a walk becomes a row, and a value of every metric") {
    Collected collected;
    ResultTables tables(kModel, "m:a=1", collected.sink());
    WalkRecord record;
    record.walk = 3;
    record.seq = 9;
    record.kind = WalkKind::migrate;
    record.pid = 41;
    record.mapping = MappingKind::stack;
    record.fork_depth = 2;
    record.visits = 5;
    record.hits = 2;
    record.useless_empty = 1;
    record.useless_other = 2;
    record.levels = 20;
    record.stopped = true;
    record.counters[0] = 77;
    tables.walk(record);
    tables.finish();
    REQUIRE(collected.tables["walks"].size() == std::size_t{1});
    const Table& walks = collected.tables["walks"][0];
    CHECK(walks.rows() == std::size_t{1});
    CHECK(value<u64>(walks, "walk", 0) == u64{3});
    CHECK(value<u64>(walks, "seq", 0) == u64{9});
    CHECK(value<u32>(walks, "useless", 0) == u32{3});
    CHECK(value<u64>(walks, "steps", 0) == u64{77});
    CHECK(value<bool>(walks, "stopped", 0));
    CHECK(column_of(walks, "model").strings()[0] == "m:a=1");
    CHECK(value<i32>(walks, "pid", 0) == i32{41});
    CHECK(value<u16>(walks, "fork_depth", 0) == u16{2});
    const Column& mapping = column_of(walks, "mapping");
    CHECK(mapping.strings()[static_cast<const u8*>(mapping.values())[0]] == "stack");
    const Column& kind = column_of(walks, "kind");
    CHECK(kind.strings()[static_cast<const u8*>(kind.values())[0]] == "migrate");
    // The model's one counter of steps is called as their sum is: one column, one metric.
    REQUIRE(tables.metrics().size() == std::size_t{8});
    CHECK(tables.metrics()[2].name == "useless");
    CHECK(tables.metrics()[2].values.max() == u64{3});
    CHECK(tables.metrics()[4].name == "steps");
    CHECK(tables.metrics()[4].values.sum() == u64{77});
}

TEST_CASE("counters are summed by what they count, whatever the model calls them") {
    constexpr Counter walk_counters[] = {{"nodes", CostClass::step, ""},
                                         {"seen", CostClass::other, ""},
                                         {"entries", CostClass::step, ""},
                                         {"gets", CostClass::refcount, ""},
                                         {"read_lock", CostClass::lock, "", "a"}};
    constexpr Counter op_counters[] = {
        {"adds", CostClass::link, ""},        {"dels", CostClass::link, ""},
        {"scanned", CostClass::step, ""},     {"lock_a", CostClass::lock, "", "a"},
        {"lock_b", CostClass::lock, "", "b"}, {"refcounts", CostClass::refcount, ""}};
    ModelInfo info = kModel;
    info.walk_counters = walk_counters;
    info.op_counters = op_counters;
    Collected collected;
    ResultTables tables(info, "m", collected.sink());
    WalkRecord walk;
    walk.counters = {1, 20, 300, 4000, 50000};
    tables.walk(walk);
    OperationRecord operation;
    operation.costs.counters = {1, 20, 300, 4000, 50000, 600000};
    tables.operation(operation);
    tables.finish();
    const Table& walks = collected.tables["walks"][0];
    CHECK(value<u64>(walks, "steps", 0) == u64{301});
    CHECK(value<u64>(walks, "lookups", 0) == u64{0});
    CHECK(value<u64>(walks, "locks", 0) == u64{50000});
    CHECK(value<u64>(walks, "refcounts", 0) == u64{4000});
    CHECK(value<u64>(walks, "entries", 0) == u64{300});
    const Table& operations = collected.tables["operations"][0];
    CHECK(value<u64>(operations, "links", 0) == u64{21});
    CHECK(value<u64>(operations, "locks", 0) == u64{54000});
    CHECK(value<u64>(operations, "refcounts", 0) == u64{600000});
    CHECK(value<u64>(operations, "scanned", 0) == u64{300});
    CHECK(tables.metrics()[4].name == "steps");
    CHECK(tables.metrics()[4].values.sum() == u64{301});
    CHECK(tables.metrics()[8].name == "nodes");
}

TEST_CASE("a counter cannot have the name of another column") {
    for (const Counter counter :
         {Counter{"visits", CostClass::step, ""}, Counter{"locks", CostClass::step, ""}}) {
        ModelInfo info = kModel;
        info.walk_counters = std::span(&counter, 1);
        CHECK_THROWS_AS(ResultTables(info, "m", nullptr), std::invalid_argument);
    }
}

TEST_CASE("tables are handed on at a fixed size, and once more at the end") {
    Collected collected;
    ResultTables tables(kModel, "m:a=1", collected.sink());
    for (std::size_t i = 0; i < ResultTables::kRowsPerTable + 3; ++i) tables.walk({});
    CHECK(collected.tables["walks"].size() == std::size_t{1});
    tables.finish();
    REQUIRE(collected.tables["walks"].size() == std::size_t{2});
    CHECK(collected.tables["walks"][0].rows() == ResultTables::kRowsPerTable);
    CHECK(collected.tables["walks"][1].rows() == std::size_t{3});
    for (const char* name : {"visits", "misses", "operations", "memory"}) {
        CHECK(collected.tables[name].size() == std::size_t{1});
    }
}

TEST_CASE("memory has the bytes of all kinds together") {
    Collected collected;
    ResultTables tables(kModel, "m:a=1", collected.sink());
    MemoryRecord record;
    record.live[kVmAreaStruct] = 2;
    record.live[1] = 3;
    tables.memory(record);
    tables.finish();
    const Table& memory = collected.tables["memory"][0];
    CHECK(value<u64>(memory, "bytes", 0) == u64{2 * kVmAreaStructBytes + 3 * 10});
    CHECK(value<u64>(memory, "thing", 0) == u64{3});
}

TEST_CASE("without a sink the first misses and the distributions stay") {
    ResultTables tables(kModel, "m:a=1", nullptr);
    for (u64 i = 0; i < 2 * ResultTables::kFirstMisses; ++i) {
        MissRecord miss;
        miss.addr = i;
        tables.miss(miss);
    }
    tables.walk({});
    tables.finish();
    REQUIRE(tables.first_misses().size() == ResultTables::kFirstMisses);
    CHECK(tables.first_misses()[1].addr == u64{1});
    CHECK(tables.metrics()[0].values.count() == u64{1});
}
