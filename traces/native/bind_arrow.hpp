// SPDX-License-Identifier: GPL-2.0-only
// Tables and batches across the Python boundary, by the Arrow C data interface: no libarrow, no
// copies, and pyarrow, polars and DuckDB alike at the other end.
#pragma once

#include <nanobind/nanobind.h>

#include <functional>
#include <span>
#include <string>
#include <vector>

#include "traces/native/columns.hpp"
#include "traces/native/table.hpp"

namespace rmapreplay {

// A Python object of class _native.Table, with __arrow_c_schema__ and __arrow_c_array__. The
// buffers stay where they are; they live as long as somebody holds them.
nanobind::object wrap_table(Table&& table);

// A struct array of another library, held until this goes away.
struct ImportedBatch {
    std::vector<std::string> names;
    std::vector<ColumnView> columns;
    std::size_t rows = 0;
};

// Calls `use` for each batch of an object with __arrow_c_array__ (a record batch) or
// __arrow_c_stream__ (a table, a polars frame). Columns must have one of the plain types of
// table.hpp; throws nanobind::type_error (not Arrow), std::invalid_argument (a column that is not
// plain, named).
void for_each_batch(nanobind::handle source, const std::function<void(const ImportedBatch&)>& use);

void bind_arrow(nanobind::module_& m);

}  // namespace rmapreplay
