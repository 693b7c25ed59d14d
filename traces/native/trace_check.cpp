// SPDX-License-Identifier: GPL-2.0-only
#include "traces/native/trace_check.hpp"

#include <algorithm>
#include <bit>
#include <cstdio>

#include "traces/native/event_table.hpp"

namespace rmapreplay {
namespace {

constexpr u64 kUserEnd = u64{1} << 47;

constexpr std::size_t position(std::string_view name) {
    std::size_t i = 0;
    while (TraceCheck::kColumns[i].name != name) ++i;
    return i;
}

constexpr std::size_t kTime = position("time");
constexpr std::size_t kOp = position("op");
constexpr std::size_t kPid = position("pid");
constexpr std::size_t kAddr = position("addr");
constexpr std::size_t kLen = position("len");
constexpr std::size_t kNewAddr = position("new_addr");
constexpr std::size_t kChild = position("child");

template <std::size_t n>
constexpr std::array<std::size_t, n> positions(const std::array<std::string_view, n>& names) {
    std::array<std::size_t, n> at{};
    for (std::size_t i = 0; i < n; ++i) at[i] = position(names[i]);
    return at;
}
constexpr auto kNamedAt = positions(TraceCheck::kNamed);
constexpr auto kNeedsAt = positions(needs::names);
constexpr auto kAlwaysAt = positions<4>({"time", "op", "pid", "tid"});

// The columns that rows of an operation may not leave null, as bits by position.
u32 needed_at(Op op) {
    u32 at = 0;
    for (std::size_t always : kAlwaysAt) at |= u32{1} << always;
    for (std::size_t bit = 0; bit < kNeedsAt.size(); ++bit) {
        if (needed_columns(op) >> bit & 1) at |= u32{1} << kNeedsAt[bit];
    }
    return at;
}

// The code of each row's name, 0 for null. True if all are known. Everything is in locals, or the
// compiler would take the bytes written for any of it.
bool look_up(const ColumnView places, std::size_t rows, std::span<const u8> dictionary,
             std::vector<u8>& codes) {
    codes.resize(rows);
    u8* const out = codes.data();
    const u32* const place = static_cast<const u32*>(places.values) + places.offset;
    bool all_known = true;
    for (std::size_t row = 0; row < rows; ++row) {
        u8 code = place[row] < dictionary.size() ? dictionary[place[row]] : TraceCheck::kUnknown;
        if (!places.valid(row)) code = 0;  // whatever place it has
        all_known &= code != TraceCheck::kUnknown;
        out[row] = code;
    }
    return all_known;
}

// PID_MAX_LIMIT, include/linux/threads.h
bool is_pid(i32 pid) { return pid >= 0 && pid < 4 * 1024 * 1024; }

std::string hex(u64 value) {
    char text[20];
    std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(value));
    return text;
}

}  // namespace

std::optional<TraceCheck::Problem> TraceCheck::check(std::span<const ColumnView> columns,
                                                     std::size_t rows,
                                                     const Dictionaries& dictionaries,
                                                     Codes& codes) {
    const auto problem = [this](std::size_t row, std::size_t column, std::string reason) {
        return Problem{rows_ + row, std::string(kColumns[column].name), std::move(reason)};
    };
    std::array<std::size_t, kNamed.size()> suspects{};  // columns with names to look at row by row
    std::size_t suspect = 0;
    for (std::size_t i = 0; i < kNamed.size(); ++i) {
        if (!look_up(columns[kNamedAt[i]], rows, dictionaries[i], codes[i])) {
            suspects[suspect++] = i;
        }
    }
    const u8* const ops = codes[0].data();
    const ColumnView times = columns[kTime];
    const ColumnView starts = columns[kAddr];
    const ColumnView lengths = columns[kLen];
    const ColumnView targets = columns[kNewAddr];
    const ColumnView pids = columns[kPid];
    const ColumnView children = columns[kChild];
    i64 before = time_;
    u32 with_nulls = 0;
    for (std::size_t i = 0; i < kColumns.size(); ++i) {
        if (columns[i].validity) with_nulls |= u32{1} << i;
    }
    std::array<u32, kOpNames.size()> needed{};
    for (std::size_t i = 0; i < needed.size(); ++i) {
        needed[i] = needed_at(static_cast<Op>(i)) & with_nulls;
    }

    for (std::size_t row = 0; row < rows; ++row) {
        for (std::size_t i = 0; i < suspect; ++i) {
            if (codes[suspects[i]][row] == kUnknown) return problem(row, kNamedAt[suspects[i]], "");
        }
        const u8 op = ops[row];
        for (u32 rest = needed[op]; rest != 0; rest &= rest - 1) {
            const auto column = static_cast<std::size_t>(std::countr_zero(rest));
            if (columns[column].valid(row)) continue;
            const bool always =
                std::find(kAlwaysAt.begin(), kAlwaysAt.end(), column) != kAlwaysAt.end();
            return problem(
                row, column,
                always ? "is null" : "is null, but " + std::string(kOpNames[op]) + " needs it");
        }
        const i64 now = times.get<i64>(row);
        if (now < before) {
            return problem(row, kTime,
                           std::to_string(now) + " is before the row above, " +
                               std::to_string(before) + ": rows must be sorted by time");
        }
        before = now;
        if (const i32 pid = pids.get<i32>(row); !is_pid(pid)) {
            return problem(row, kPid, std::to_string(pid) + " is not a process id");
        }
        const u64 start = starts.get<u64>(row);
        if (start >= kUserEnd) {
            return problem(row, kAddr, hex(start) + " is not a user-space address");
        }
        const u64 length = lengths.get<u64>(row);
        if (length > ~start) {
            return problem(row, kLen, hex(length) + " goes past the end of the address space");
        }
        if (static_cast<Op>(op) == Op::fork) {
            const i32 child = children.get<i32>(row);
            if (!is_pid(child))
                return problem(row, kChild, std::to_string(child) + " is not a process id");
        }
        if (static_cast<Op>(op) != Op::mremap) continue;
        const u64 target = targets.get<u64>(row);
        if (target >= kUserEnd) {
            return problem(row, kNewAddr, hex(target) + " is not a user-space address");
        }
    }
    time_ = before;
    rows_ += rows;
    return std::nullopt;
}

}  // namespace rmapreplay
