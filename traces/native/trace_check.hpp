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
#include <vector>

#include "traces/native/columns.hpp"

namespace rmapreplay {

// Takes the batches of one trace in order, and gives the names in them their codes.
class TraceCheck {
  public:
    struct Expected {
        std::string_view name;
        Type type;
    };
    // The columns that are looked at; those of names hold places in a dictionary.
    static constexpr std::array<Expected, 18> kColumns = {{
        {"time", Type::int64},
        {"op", Type::int32},
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
        {"path", Type::int32},
        {"source", Type::int32},
        {"kind", Type::int32},
    }};
    // The columns of names: a code for each place in the dictionary, kUnknown for a name that the
    // format does not know.
    static constexpr std::array<std::string_view, 4> kNamed = {"op", "path", "source", "kind"};
    static constexpr u8 kUnknown = 0xff;
    using Dictionaries = std::array<std::span<const u8>, kNamed.size()>;
    using Codes = std::array<std::vector<u8>, kNamed.size()>;  // a code per row, 0 for null

    struct Problem {
        u64 row;  // of the trace
        std::string column;
        std::string reason;  // empty: the name there is unknown
    };

    // The first problem in the next batch, whose columns are in the order of kColumns; without one
    // fills in `codes`.
    std::optional<Problem> check(std::span<const ColumnView> columns, std::size_t rows,
                                 const Dictionaries& dictionaries, Codes& codes);
    u64 rows() const { return rows_; }

  private:
    u64 rows_ = 0;
    i64 time_ = std::numeric_limits<i64>::min();
};

}  // namespace rmapreplay
