// SPDX-License-Identifier: GPL-2.0-only
// How a native parser looks from Python: chunks of bytes in, Arrow tables and counts out.
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/vector.h>

#include <string_view>
#include <utility>
#include <vector>

#include "traces/native/bind_arrow.hpp"
#include "traces/native/history.hpp"

namespace rmapreplay {

using Counts = nanobind::typed<nanobind::dict, nanobind::str, nanobind::int_>;
using Stats = nanobind::typed<nanobind::dict, nanobind::str, nanobind::any>;

inline Counts to_dict(const Tally& tally) {
    nanobind::dict dict;
    for (const auto& [name, n] : tally.counts()) dict[name.c_str()] = n;
    return dict;
}

inline Stats to_dict(const ImportStats& stats) {
    nanobind::dict dict;
    dict["lines"] = stats.lines;
    dict["lost"] = stats.lost;
    dict["unmatched_enters"] = stats.unmatched_enters;
    dict["unmatched_exits"] = stats.unmatched_exits;
    dict["processes_alive"] = stats.processes_alive;
    dict["events"] = to_dict(stats.events);
    dict["syscalls"] = to_dict(stats.syscalls);
    dict["dropped"] = to_dict(stats.dropped);
    return dict;
}

// Parser has feed(string_view), finish(), table() -> EventTable& and stats() -> const ImportStats&.
template <class Parser>
nanobind::class_<Parser> bind_importer(nanobind::module_& m, const char* name, const char* doc) {
    namespace nb = nanobind;
    return nb::class_<Parser>(m, name, doc)
        .def(nb::init<>())
        .def(
            "feed",
            [](Parser& parser, nb::bytes chunk) {
                const std::string_view text(chunk.c_str(), chunk.size());
                nb::gil_scoped_release unlocked;
                parser.feed(text);
            },
            nb::arg("chunk"), "Parse the next bytes of the text, cut anywhere.")
        .def(
            "finish", [](Parser& parser) { parser.finish(); },
            "Parse what is left; call once, after the last chunk.")
        .def(
            "take", [](Parser& parser) { return wrap_table(parser.table().take()); },
            "The rows that are ready, as an Arrow struct array; the parser keeps none of them.")
        .def_prop_ro(
            "ready", [](Parser& parser) { return parser.table().rows(); },
            "How many rows take() would give.")
        .def_prop_ro(
            "rows", [](Parser& parser) { return parser.table().total_rows(); },
            "How many rows there have been in all.")
        .def_prop_ro("first_time", [](Parser& parser) { return parser.table().first_time(); })
        .def_prop_ro("last_time", [](Parser& parser) { return parser.table().last_time(); })
        .def(
            "stats", [](Parser& parser) { return to_dict(parser.stats()); },
            "Counts: lines, lost, unmatched_enters, unmatched_exits, processes_alive, and by name "
            "events, syscalls and dropped.");
}

// For a parser that can begin with processes that were there before; see History.
template <class Parser>
nanobind::class_<Parser>& bind_adoption(nanobind::class_<Parser>&& parser) {
    namespace nb = nanobind;
    return parser
        .def(
            "adopt",
            [](Parser& self, i32 pid, const std::vector<i32>& tids, i32 mm_of,
               const std::vector<std::pair<u64, u64>>& shm, bool compat) {
                self.adopt(pid, tids, mm_of);
                if (compat) self.adopt_compat(pid);
                for (const auto& [addr, len] : shm) self.adopt_shm(pid, addr, len);
            },
            nb::arg("pid"), nb::arg("tids"), nb::arg("mm_of") = 0,
            nb::arg("shm") = nb::make_tuple(), nb::arg("compat") = false,
            "Before the first chunk: a process that was there before the capture began, with its "
            "tasks `tids` (without its leader, if that has exited). Its events count from the "
            "start, and calls that its tasks were in by then are counted apart, as "
            "`entered_before_capture`. `mm_of`: a process adopted earlier whose address space it "
            "shares, 0 for none. `shm`: address and length in bytes of what shmat has mapped. "
            "`compat`: it runs a 32-bit program. "
            "Raises ValueError if `pid` is known already or has no tasks, or `mm_of` is unknown.")
        .def("first_file", &Parser::first_file, nb::arg("file"),
             "Before the first chunk: `file` numbers below this one are taken by other rows of the "
             "trace, and stand for none of the files that this parser tells.");
}

}  // namespace rmapreplay
