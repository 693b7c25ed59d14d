// SPDX-License-Identifier: GPL-2.0-only
#include "tests/native/check.hpp"
#include "traces/native/tally.hpp"

using namespace rmapreplay;

TEST_CASE("a tally counts by name, in runs and in turns") {
    Tally tally;
    for (std::string_view name : {"a", "a", "b", "a", "bb", "bb", "b"}) tally.add(name);
    tally.add("a", 10);
    CHECK((tally.counts() == Tally::Counts{{"a", 13}, {"b", 2}, {"bb", 2}}));
    CHECK(tally["c"] == u64{0});
    tally.add("c", 0);
    CHECK(tally.counts().size() == std::size_t{4});
}

TEST_CASE("a copy of a tally counts for itself") {
    Tally first;
    first.add("a");
    Tally second = first;
    second.add("a");
    first.add("a", 5);
    CHECK(second["a"] == u64{2});
    CHECK(first["a"] == u64{6});
    first.add("b");
    second = first;
    second.add("b");
    first.add("b", 7);
    CHECK(second["b"] == u64{2});
    CHECK(first["b"] == u64{8});
}
