// SPDX-License-Identifier: GPL-2.0-only
// The tracefs parser as Python sees it.
#include "traces/native/bind_importer.hpp"
#include "traces/native/tracefs.hpp"
#include "traces/native/tracefs_points.hpp"

namespace nb = nanobind;

void bind_tracefs(nb::module_& m) {
    using namespace rmapreplay;
    bind_importer<TracefsParser>(m, "TracefsParser", "Reads tracefs text with rmap probes.")
        .def_prop_ro(
            "truth_ready",
            [](TracefsParser& parser) { return parser.truth().rows() + parser.mapped().rows(); },
            "How many rows the take_ functions of the truth would give in all.")
        .def(
            "take_visits", [](TracefsParser& p) { return wrap_table(p.truth().take_visits()); },
            "VMAs handed to recorded walks, as an Arrow struct array; see truth.py.")
        .def(
            "take_mapped", [](TracefsParser& p) { return wrap_table(p.mapped().take()); },
            "VMAs reported after calls and faults, likewise.")
        .def(
            "take_objects", [](TracefsParser& p) { return wrap_table(p.truth().take_objects()); },
            "Objects allocated, freed, inserted and removed, likewise.")
        .def(
            "take_bursts", [](TracefsParser& p) { return wrap_table(p.truth().take_bursts()); },
            "Bursts of walks, likewise.")
        .def_prop_ro("fault_orders", &TracefsParser::fault_orders,
                     "Whether every folio that a fault made so far told its order.");
    bind_adoption(bind_importer<TracepointsParser>(m, "TracepointsParser",
                                                   "Reads tracefs text of tracepoints."))
        .def_prop_ro(
            "truth_ready", [](TracepointsParser& parser) { return parser.mapped().rows(); },
            "How many rows take_mapped() would give.")
        .def(
            "take_mapped", [](TracepointsParser& p) { return wrap_table(p.mapped().take()); },
            "VMAs reported after calls and faults, as an Arrow struct array; see truth.py.")
        .def_prop_ro("records_seen", &TracepointsParser::records_seen,
                     "Whether perf's records of mappings were among the lines so far.");
}
