// SPDX-License-Identifier: GPL-2.0-only
// Columns that somebody else owns, as they come in: the reading counterpart of table.hpp.
#pragma once

#include "traces/native/table.hpp"

namespace rmapreplay {

struct ColumnView {
    Type type = Type::boolean;
    const void* values = nullptr;
    const u8* validity = nullptr;  // one bit per row, 1: not null; nullptr: no nulls
    std::size_t offset = 0;        // of row 0, in values and validity alike

    bool valid(std::size_t row) const { return !validity || bit(validity, row + offset); }

    // The value of a row whose column has type type_of<T>(), or `otherwise` where it is null.
    template <class T>
    T get(std::size_t row, T otherwise = T{}) const {
        if (!valid(row)) return otherwise;
        if constexpr (std::is_same_v<T, bool>) {
            return bit(static_cast<const u8*>(values), row + offset);
        } else {
            return static_cast<const T*>(values)[row + offset];
        }
    }

  private:
    static bool bit(const u8* bits, std::size_t i) { return (bits[i >> 3] >> (i & 7)) & 1; }
};

}  // namespace rmapreplay
