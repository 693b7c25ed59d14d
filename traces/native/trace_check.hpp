// SPDX-License-Identifier: GPL-2.0-only
// Whether the rows of a trace can be what docs/trace-format.md says, beyond names and types of the
// columns.
#pragma once

#include <array>
#include <limits>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "traces/native/columns.hpp"

namespace rmapreplay {

// Takes the batches of one trace in order.
class TraceCheck {
  public:
    struct Expected {
        std::string_view name;
        Type type;
    };
    // The columns that are looked at.
    static constexpr std::array<Expected, 17> kColumns = {{
        {"time", Type::int64},
        {"op", Type::uint8},
        {"pid", Type::int32},
        {"tid", Type::int32},
        {"addr", Type::uint64},
        {"len", Type::uint64},
        {"new_addr", Type::uint64},
        {"new_len", Type::uint64},
        {"offset", Type::uint64},
        {"flags", Type::uint64},
        {"prot", Type::uint32},
        {"advice", Type::int32},
        {"child", Type::int32},
        {"child_tid", Type::int32},
        {"write", Type::boolean},
        {"source", Type::uint8},
        {"kind", Type::uint8},
    }};
    struct Problem {
        u64 row;  // of the trace
        std::string column;
        std::string reason;
    };

    // The first problem in the next batch, whose columns are in the order of kColumns.
    std::optional<Problem> check(std::span<const ColumnView> columns, std::size_t rows);
    u64 rows() const { return rows_; }

  private:
    u64 rows_ = 0;
    i64 time_ = std::numeric_limits<i64>::min();
};

}  // namespace rmapreplay
