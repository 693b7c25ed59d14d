// SPDX-License-Identifier: GPL-2.0-only
// A batch of a trace in canonical form, decoded row by row into Events.
#pragma once

#include <array>
#include <span>
#include <string_view>

#include "traces/native/columns.hpp"
#include "traces/native/event.hpp"

namespace rmapreplay {

// Canonical form: these columns in this order, any of them nullable.
struct EventColumn {
    std::string_view name;
    Type type;
};
inline constexpr std::array<EventColumn, 24> kEventColumns = {{
    {"time", Type::int64},      {"op", Type::uint8},        {"pid", Type::int32},
    {"tid", Type::int32},       {"addr", Type::uint64},     {"len", Type::uint64},
    {"new_addr", Type::uint64}, {"new_len", Type::uint64},  {"offset", Type::uint64},
    {"flags", Type::uint64},    {"vm_flags", Type::uint64}, {"prot", Type::uint32},
    {"fd", Type::int32},        {"file", Type::uint32},     {"advice", Type::int32},
    {"child", Type::int32},     {"child_tid", Type::int32}, {"error", Type::int32},
    {"special", Type::uint8},   {"write", Type::boolean},   {"source", Type::uint8},
    {"present", Type::boolean}, {"order", Type::uint8},     {"kind", Type::uint8},
}};

class EventBatch {
  public:
    // `columns` must outlive the batch. Throws std::invalid_argument if they are not canonical.
    EventBatch(std::span<const ColumnView> columns, std::size_t rows);

    std::size_t rows() const { return rows_; }

    // The event of a row; the reference holds until the next call. Throws std::invalid_argument
    // naming the column if it holds a code that does not exist.
    const Event& decode(std::size_t row) {
        const Op op = checked<Op>(kOp, columns_[kOp].get<u8>(row, 0xff), kOpNames.size());
        const bool is_fault = op == Op::fault;
        Event& event = is_fault ? fault_ : other_;
        event.time = columns_[kTime].get<i64>(row);
        event.pid = columns_[kPid].get<i32>(row);
        event.tid = columns_[kTid].get<i32>(row);
        event.addr = columns_[kAddr].get<u64>(row);
        event.write = columns_[kWrite].get<bool>(row);
        event.source =
            checked<Source>(kSource, columns_[kSource].get<u8>(row), kSourceNames.size());
        event.present = columns_[kPresent].valid(row)
                            ? static_cast<i8>(columns_[kPresent].get<bool>(row) ? 1 : 0)
                            : i8{-1};
        event.order = columns_[kOrder].get<u8>(row);
        if (!is_fault) decode_rest(row, op);
        return event;
    }

  private:
    enum At : std::size_t {
        kTime,
        kOp,
        kPid,
        kTid,
        kAddr,
        kLen,
        kNewAddr,
        kNewLen,
        kOffset,
        kFlags,
        kVmFlags,
        kProt,
        kFd,
        kFile,
        kAdvice,
        kChild,
        kChildTid,
        kError,
        kSpecial,
        kWrite,
        kSource,
        kPresent,
        kOrder,
        kKind,
    };
    static_assert(kKind + 1 == kEventColumns.size());

    // Turns a code into one of the first `n` enumerators.
    template <class Enum>
    static Enum checked(At column, u8 code, std::size_t n) {
        if (code >= n) [[unlikely]]
            refuse(column, code);
        return static_cast<Enum>(code);
    }
    [[noreturn]] static void refuse(At column, u8 code);
    void decode_rest(std::size_t row, Op op);

    std::array<ColumnView, kEventColumns.size()> columns_;
    std::size_t rows_;
    // Most rows are faults, which use nine of the columns: the rest of `fault_` never changes.
    Event fault_;
    Event other_;
};

}  // namespace rmapreplay
