// SPDX-License-Identifier: GPL-2.0-only
#include <stdexcept>

#include "replay/native/event_batch.hpp"
#include "tests/native/check.hpp"

using namespace rmapreplay;

namespace {

// Canonical columns in plain vectors, `shift` unused rows before the first.
struct Columns {
    static constexpr std::size_t kShift = 5;
    std::vector<std::vector<u64>> words;  // room for any type, 8 bytes a row
    std::vector<std::vector<u8>> bits;
    std::vector<ColumnView> views;

    explicit Columns(std::size_t rows) {
        for (const EventColumn& column : kEventColumns) {
            words.emplace_back(rows + kShift);
            bits.emplace_back(rows + kShift);
            views.push_back({column.type, words.back().data(), bits.back().data(), kShift});
        }
    }
    static std::size_t index(std::string_view name) {
        for (std::size_t i = 0; i < kEventColumns.size(); ++i) {
            if (kEventColumns[i].name == name) return i;
        }
        throw std::logic_error("no column");
    }
    template <class T>
    void set(std::string_view name, std::size_t row, T value) {
        const std::size_t i = index(name);
        const std::size_t at = row + kShift;
        bits[i][at / 8] = static_cast<u8>(bits[i][at / 8] | (1u << (at % 8)));
        if constexpr (std::is_same_v<T, bool>) {
            u8* packed = reinterpret_cast<u8*>(words[i].data());
            if (value) packed[at / 8] = static_cast<u8>(packed[at / 8] | (1u << (at % 8)));
        } else {
            reinterpret_cast<T*>(words[i].data())[at] = value;
        }
    }
};

}  // namespace

TEST_CASE("nulls read as the defaults of Event") {
    Columns columns(2);
    columns.set<u8>("op", 0, static_cast<u8>(Op::fault));
    columns.set<u8>("op", 1, static_cast<u8>(Op::mmap));
    EventBatch batch(columns.views, 2);
    const Event fault = batch.decode(0);
    CHECK(fault.op == Op::fault);
    CHECK(fault.present == i8{-1});
    CHECK(fault.source == Source::none);
    const Event mmap = batch.decode(1);
    CHECK(mmap.op == Op::mmap);
    CHECK(mmap.fd == -1);
    CHECK(mmap.len == u64{0});
}

TEST_CASE("every column reaches its member, past the offset of a slice") {
    Columns columns(3);
    const std::size_t row = 2;
    columns.set<u8>("op", row, static_cast<u8>(Op::mremap));
    columns.set<i64>("time", row, -7);
    columns.set<i32>("pid", row, 11);
    columns.set<i32>("tid", row, 12);
    columns.set<u64>("addr", row, ~u64{0} - 4095);
    columns.set<u64>("len", row, 14);
    columns.set<u64>("new_addr", row, 15);
    columns.set<u64>("new_len", row, 16);
    columns.set<u64>("offset", row, 17);
    columns.set<u64>("flags", row, 18);
    columns.set<u64>("vm_flags", row, 19);
    columns.set<u32>("prot", row, 20);
    columns.set<i32>("fd", row, 21);
    columns.set<u32>("file", row, 22);
    columns.set<i32>("advice", row, 23);
    columns.set<i32>("child", row, 24);
    columns.set<i32>("child_tid", row, 25);
    columns.set<i32>("error", row, 26);
    columns.set<u8>("special", row, static_cast<u8>(Special::vdso));
    columns.set<bool>("write", row, true);
    columns.set<u8>("source", row, static_cast<u8>(Source::gup));
    columns.set<bool>("present", row, false);
    columns.set<u8>("order", row, 9);
    columns.set<u8>("kind", row, static_cast<u8>(WalkKind::migrate));
    EventBatch batch(columns.views, 3);
    const Event event = batch.decode(row);
    CHECK(event.op == Op::mremap);
    CHECK(event.time == i64{-7});
    CHECK(event.pid == 11);
    CHECK(event.tid == 12);
    CHECK(event.addr == ~u64{0} - 4095);
    CHECK(event.len == u64{14});
    CHECK(event.new_addr == u64{15});
    CHECK(event.new_len == u64{16});
    CHECK(event.offset == u64{17});
    CHECK(event.flags == u64{18});
    CHECK(event.vm_flags == u64{19});
    CHECK(event.prot == u32{20});
    CHECK(event.fd == 21);
    CHECK(event.file == u32{22});
    CHECK(event.advice == 23);
    CHECK(event.child == 24);
    CHECK(event.child_tid == 25);
    CHECK(event.error == 26);
    CHECK(event.special == Special::vdso);
    CHECK(event.write);
    CHECK(event.source == Source::gup);
    CHECK(event.present == i8{0});
    CHECK(event.order == u8{9});
    CHECK(event.kind == WalkKind::migrate);
}

TEST_CASE("a fault after another operation shows nothing of it") {
    Columns columns(3);
    columns.set<u8>("op", 0, static_cast<u8>(Op::mmap));
    columns.set<u64>("len", 0, 4096);
    columns.set<i32>("fd", 0, 3);
    columns.set<u8>("op", 1, static_cast<u8>(Op::fault));
    columns.set<u64>("addr", 1, 0x1000);
    columns.set<bool>("write", 1, true);
    columns.set<u8>("op", 2, static_cast<u8>(Op::fault));
    EventBatch batch(columns.views, 3);
    batch.decode(0);
    const Event fault = batch.decode(1);
    CHECK(fault.len == u64{0});
    CHECK(fault.fd == -1);
    CHECK(fault.write);
    CHECK_FALSE(batch.decode(2).write);
    CHECK(batch.decode(2).addr == u64{0});
}

TEST_CASE("codes that do not exist are refused") {
    Columns columns(3);
    columns.set<u8>("op", 0, static_cast<u8>(kOpNames.size()));
    columns.set<u8>("op", 1, static_cast<u8>(Op::fault));
    columns.set<u8>("source", 1, static_cast<u8>(kSourceNames.size()));
    EventBatch batch(columns.views, 3);
    CHECK_THROWS_AS(batch.decode(0), std::invalid_argument);
    CHECK_THROWS_AS(batch.decode(1), std::invalid_argument);
    CHECK_THROWS_AS(batch.decode(2), std::invalid_argument);  // a null op
}

TEST_CASE("columns that are not canonical are refused") {
    Columns columns(1);
    std::vector<ColumnView> views = columns.views;
    views.pop_back();
    CHECK_THROWS_AS(EventBatch(views, 1), std::invalid_argument);
    views = columns.views;
    views[0].type = Type::uint64;
    CHECK_THROWS_AS(EventBatch(views, 1), std::invalid_argument);
}
