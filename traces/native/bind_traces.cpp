// SPDX-License-Identifier: GPL-2.0-only
// What of the trace format and the importers Python can see.
#include <nanobind/nanobind.h>
#include <nanobind/stl/string.h>

#include "traces/native/bind_importer.hpp"
#include "traces/native/event_table.hpp"
#include "traces/native/perf.hpp"

namespace nb = nanobind;

namespace {

template <class Names>
nb::tuple names(const Names& list) {
    nb::list out;
    for (std::string_view name : list) out.append(nb::str(name.data(), name.size()));
    return nb::tuple(out);
}

nb::dict needed_by_op() {
    using namespace rmapreplay;
    nb::dict out;
    for (std::size_t op = 0; op < kOpNames.size(); ++op) {
        nb::list columns;
        for (std::size_t bit = 0; bit < needs::names.size(); ++bit) {
            if ((needed_columns(static_cast<Op>(op)) >> bit & 1) == 0) continue;
            columns.append(nb::str(needs::names[bit].data(), needs::names[bit].size()));
        }
        out[nb::str(kOpNames[op].data(), kOpNames[op].size())] = nb::tuple(columns);
    }
    return out;
}

}  // namespace

void bind_traces(nb::module_& m) {
    using namespace rmapreplay;
    m.attr("op_names") = names(kOpNames);
    m.attr("source_names") = names(kSourceNames);
    m.attr("walk_kind_names") = names(kWalkKindNames);
    m.attr("special_names") = names(kSpecialNames);
    m.attr("needed_columns") = needed_by_op();
    bind_importer<PerfParser>(m, "PerfParser", "Reads the text of perf script.");
}
