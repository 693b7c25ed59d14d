// SPDX-License-Identifier: GPL-2.0-only
// Rows of a parsed trace as text, one line each: "time op pid/tid column=value ..", columns that
// are null left out, addresses and flags in hex.
#pragma once

#include <sstream>
#include <string>
#include <string_view>
#include <vector>

#include "traces/native/event_table.hpp"

namespace trace_rows {

inline std::string cell(const rmapreplay::Column& column, std::size_t row) {
    using namespace rmapreplay;
    std::ostringstream out;
    switch (column.type()) {
        case Type::boolean:
            out << (static_cast<const TypedColumn<bool>&>(column)[row] ? 1 : 0);
            break;
        case Type::uint8: out << int{static_cast<const TypedColumn<u8>&>(column)[row]}; break;
        case Type::uint32: out << static_cast<const TypedColumn<u32>&>(column)[row]; break;
        case Type::int32: out << static_cast<const TypedColumn<i32>&>(column)[row]; break;
        case Type::int64: out << static_cast<const TypedColumn<i64>&>(column)[row]; break;
        case Type::uint64:
            out << "0x" << std::hex << static_cast<const TypedColumn<u64>&>(column)[row];
            break;
        case Type::dict8:
            out << column.strings()[static_cast<const DictColumn<u8>&>(column).code_at(row)];
            break;
        case Type::dict32:
            out << column.strings()[static_cast<const DictColumn<u32>&>(column).code_at(row)];
            break;
        default: out << "?";
    }
    return out.str();
}

// Any table: "column=value .." per row, nulls left out.
inline std::string named_text(const rmapreplay::Table& table) {
    std::string out;
    for (std::size_t row = 0; row < table.rows(); ++row) {
        for (std::size_t i = 0; i < table.columns(); ++i) {
            const rmapreplay::Column& column = table.column(i);
            if (column.is_null(row)) continue;
            out += (out.empty() || out.back() == '\n' ? "" : " ") + column.name() + "=" +
                   cell(column, row);
        }
        out += "\n";
    }
    return out;
}

inline std::string text(rmapreplay::EventTable& events) {
    const rmapreplay::Table table = events.take();
    std::string out;
    for (std::size_t row = 0; row < table.rows(); ++row) {
        out += cell(table.column(0), row) + " " + cell(table.column(1), row) + " " +
               cell(table.column(2), row) + "/" + cell(table.column(3), row);
        for (std::size_t i = 4; i < table.columns(); ++i) {
            const rmapreplay::Column& column = table.column(i);
            if (!column.is_null(row)) out += " " + column.name() + "=" + cell(column, row);
        }
        out += "\n";
    }
    return out;
}

}  // namespace trace_rows
