// SPDX-License-Identifier: GPL-2.0-only
#include "tests/native/check.hpp"
#include "traces/native/event_table.hpp"

using namespace rmapreplay;

TEST_CASE("a column keeps no validity until a null comes, then one bit per row") {
    Table table;
    auto& column = table.add_column<i64>("a", true);
    for (i64 i = 0; i < 11; ++i) column.append(i);
    CHECK(column.validity() == nullptr);
    column.append_null();
    column.append(12);
    REQUIRE(column.validity() != nullptr);
    CHECK(column.null_count() == std::size_t{1});
    for (std::size_t row = 0; row < 13; ++row) CHECK(column.is_null(row) == (row == 11));
    CHECK(column[11] == i64{0});
    CHECK(column[12] == i64{12});
}

TEST_CASE("a null in a column that takes none is refused") {
    Table table;
    auto& column = table.add_column<u8>("a");
    CHECK_THROWS_AS(column.append_null(), std::logic_error);
}

TEST_CASE("booleans are packed") {
    Table table;
    auto& column = table.add_column<bool>("a");
    for (int i = 0; i < 19; ++i) column.append(i % 3 == 0);
    CHECK(column.rows() == std::size_t{19});
    const u8* bits = static_cast<const u8*>(column.values());
    CHECK(bits[0] == 0b01001001);
    CHECK(bits[1] == 0b10010010);
    CHECK(bits[2] == 0b100);
}

TEST_CASE("take leaves an empty table that knows its strings") {
    Table table;
    auto& name = table.add_dict8("name", true);
    auto& value = table.add_column<u32>("value");
    name.append("x");
    value.append(1);
    name.append_null();
    value.append(2);
    const Table taken = table.take();
    CHECK(table.rows() == std::size_t{0});
    CHECK(name.null_count() == std::size_t{0});
    CHECK(taken.rows() == std::size_t{2});
    CHECK(taken.column(0).is_null(1));
    CHECK(taken.column(0).strings()[0] == "x");
    name.append("y");
    CHECK(name.code_at(0) == 1);
    CHECK(taken.column(0).strings().size() == std::size_t{1});
}

TEST_CASE("a u8 dictionary takes 256 strings and no more") {
    Table table;
    auto& column = table.add_dict8("a");
    for (int i = 0; i < 256; ++i) column.append(std::to_string(i));
    column.append("255");
    CHECK_THROWS_AS(column.append("256"), std::length_error);
    CHECK(column.rows() == std::size_t{257});
}

TEST_CASE("columns of unequal length are told apart") {
    Table table;
    table.add_column<u8>("a").append(1);
    CHECK_THROWS_AS(table.add_column<u8>("b"), std::logic_error);
    Table other;
    other.add_column<u8>("a");
    auto& b = other.add_column<u8>("b");
    b.append(1);
    CHECK_THROWS_AS(other.validate(), std::logic_error);
}

TEST_CASE("many nulls at once are as many nulls one by one") {
    for (std::size_t before : {0, 1, 7, 8, 13}) {
        for (std::size_t nulls : {0, 1, 3, 8, 9, 40}) {
            Table at_once;
            Table singly;
            for (Table* table : {&at_once, &singly}) {
                auto& number = table->add_column<u64>("number", true);
                auto& flag = table->add_column<bool>("flag", true);
                auto& name = table->add_dict32("name", true);
                for (std::size_t i = 0; i < before; ++i) {
                    number.append(i);
                    flag.append(true);
                    name.append("x");
                }
                if (table == &at_once) {
                    number.append_nulls_up_to(before + nulls);
                    table->fill_up();
                } else {
                    for (std::size_t i = 0; i < nulls; ++i) {
                        number.append_null();
                        flag.append_null();
                        name.append_null();
                    }
                }
                number.append(1);
                flag.append(true);
                name.append("x");
            }
            at_once.validate();
            for (std::size_t c = 0; c < 3; ++c) {
                const Column& column = at_once.column(c);
                CHECK(column.rows() == before + nulls + 1);
                CHECK(column.null_count() == nulls);
                CHECK((column.validity() == nullptr) == (nulls == 0));
                for (std::size_t row = 0; row < column.rows(); ++row) {
                    CHECK(column.is_null(row) == singly.column(c).is_null(row));
                    CHECK(column.is_null(row) == (row >= before && row < before + nulls));
                }
            }
            const auto& flag = static_cast<const TypedColumn<bool>&>(at_once.column(1));
            const auto& number = static_cast<const TypedColumn<u64>&>(at_once.column(0));
            for (std::size_t row = 0; row < before; ++row) CHECK(flag[row]);
            for (std::size_t row = before; row < before + nulls; ++row) {
                CHECK(!flag[row]);
                CHECK(number[row] == u64{0});
            }
            CHECK(flag[before + nulls]);
        }
    }
}

TEST_CASE("columns that are behind are filled up with nulls, where they take any") {
    Table table;
    auto& time = table.add_column<i64>("time");
    auto& plain = table.add_column<u8>("plain");
    time.append(1);
    CHECK_THROWS_AS(table.fill_up(), std::logic_error);
    plain.append(2);
    table.fill_up();
    CHECK(plain.validity() == nullptr);
}

TEST_CASE("rows of events: what a row has no use for is null, from batch to batch") {
    EventTable events;
    Event exit;
    exit.op = Op::exit;
    Event fault;
    fault.op = Op::fault;
    fault.source = Source::user;
    fault.write = true;
    fault.present = 0;
    Event mapping;
    mapping.op = Op::mapping;
    mapping.path = events.path("/bin/a");
    mapping.file = 3;
    const auto columns = [](const Table& table, std::size_t row) {
        std::string out;
        for (std::size_t i = 0; i < table.columns(); ++i) {
            if (!table.column(i).is_null(row)) out += table.column(i).name() + " ";
        }
        return out;
    };
    const std::string of_exit = "time op pid tid ";
    const std::string of_fault = "time op pid tid addr write source present ";
    const std::string of_mapping = "time op pid tid addr len offset flags prot file path ";

    for (const Event& event : {exit, fault, exit}) events.append(event);
    const Table first = events.take();
    first.validate();
    CHECK(columns(first, 0) == of_exit);
    CHECK(columns(first, 1) == of_fault);
    CHECK(columns(first, 2) == of_exit);
    for (const Event& event : {mapping, exit, mapping}) events.append(event);
    CHECK(events.rows() == std::size_t{3});
    const Table second = events.take();
    second.validate();
    CHECK(columns(second, 0) == of_mapping);
    CHECK(columns(second, 1) == of_exit);
    CHECK(columns(second, 2) == of_mapping);
    const Table none = events.take();
    none.validate();
    CHECK(none.rows() == std::size_t{0});
    CHECK(events.total_rows() == u64{6});
}
