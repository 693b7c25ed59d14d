// SPDX-License-Identifier: GPL-2.0-only
#include "traces/native/trace_check.hpp"

#include <cstdio>

#include "traces/native/event_table.hpp"

namespace rmapreplay {
namespace {

// Positions in TraceCheck::kColumns.
enum At : std::size_t { time, op, pid, tid, addr, len, new_addr };

constexpr u64 kUserEnd = u64{1} << 47;

constexpr std::size_t position(std::string_view name) {
    std::size_t i = 0;
    while (TraceCheck::kColumns[i].name != name) ++i;
    return i;
}

// Where the columns of needs::names are.
constexpr auto kNeedsAt = [] {
    std::array<std::size_t, needs::names.size()> at{};
    for (std::size_t bit = 0; bit < at.size(); ++bit) at[bit] = position(needs::names[bit]);
    return at;
}();

std::string hex(u64 value) {
    char text[20];
    std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
    return text;
}

}  // namespace

std::optional<TraceCheck::Problem> TraceCheck::check(std::span<const ColumnView> columns,
                                                     std::size_t rows) {
    const auto problem = [this](std::size_t row, std::size_t column, std::string reason) {
        return Problem{rows_ + row, std::string(kColumns[column].name), std::move(reason)};
    };
    std::array<u32, kOpNames.size()> needed{};
    for (std::size_t i = 0; i < needed.size(); ++i) needed[i] = needed_columns(static_cast<Op>(i));

    for (std::size_t row = 0; row < rows; ++row) {
        for (std::size_t column : {At::time, At::op, At::pid, At::tid}) {
            if (!columns[column].valid(row)) return problem(row, column, "is null");
        }
        const i64 now = columns[At::time].get<i64>(row);
        if (now < time_) {
            return problem(row, At::time,
                           std::to_string(now) + " is before the row above, " +
                               std::to_string(time_) + ": rows must be sorted by time");
        }
        time_ = now;
        const u8 code = columns[At::op].get<u8>(row);
        if (code >= kOpNames.size()) return problem(row, At::op, "unknown operation");
        for (u32 rest = needed[code]; rest != 0; rest &= rest - 1) {
            const std::size_t column = kNeedsAt[static_cast<std::size_t>(__builtin_ctz(rest))];
            if (!columns[column].valid(row)) {
                return problem(row, column,
                               "is null, but " + std::string(kOpNames[code]) + " needs it");
            }
        }
        const u64 start = columns[At::addr].get<u64>(row);
        if (start >= kUserEnd) {
            return problem(row, At::addr, hex(start) + " is not a user-space address");
        }
        const u64 length = columns[At::len].get<u64>(row);
        if (length > ~start) {
            return problem(row, At::len, hex(length) + " goes past the end of the address space");
        }
        const u64 target = columns[At::new_addr].get<u64>(row);
        if (target >= kUserEnd && static_cast<Op>(code) == Op::mremap) {
            return problem(row, At::new_addr, hex(target) + " is not a user-space address");
        }
    }
    rows_ += rows;
    return std::nullopt;
}

}  // namespace rmapreplay
