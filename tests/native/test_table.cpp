// SPDX-License-Identifier: GPL-2.0-only
#include "tests/native/check.hpp"
#include "traces/native/table.hpp"

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
