// SPDX-License-Identifier: GPL-2.0-only
// What of the trace format and the importers Python can see.
#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/variant.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <optional>
#include <set>
#include <stdexcept>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include "traces/native/bind_importer.hpp"
#include "traces/native/event_table.hpp"
#include "traces/native/kmem.hpp"
#include "traces/native/perf.hpp"
#include "traces/native/perf_records.hpp"
#include "traces/native/strace.hpp"
#include "traces/native/syscalls_i386.hpp"
#include "traces/native/trace_check.hpp"

namespace nb = nanobind;

namespace {

using Strings = nb::typed<nb::tuple, nb::str, nb::ellipsis>;

template <class Names>
Strings names(const Names& list) {
    nb::list out;
    for (std::string_view name : list) out.append(nb::str(name.data(), name.size()));
    return nb::tuple(out);
}

nb::typed<nb::dict, nb::str, Strings> needed_by_op() {
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

using CheckResult =
    std::variant<std::vector<nb::bytes>, std::tuple<rmapreplay::u64, std::string, std::string>>;

// The codes of the names, per column of TraceCheck::kNamed, or the first problem.
CheckResult check_batch(rmapreplay::TraceCheck& check, nb::handle source,
                        const std::vector<nb::bytes>& dictionaries) {
    using namespace rmapreplay;
    if (dictionaries.size() != TraceCheck::kNamed.size()) {
        throw std::invalid_argument("not as many dictionaries as columns of names");
    }
    TraceCheck::Dictionaries known;
    for (std::size_t i = 0; i < known.size(); ++i) {
        const nb::bytes& codes = dictionaries[i];
        known[i] = {reinterpret_cast<const u8*>(codes.c_str()), codes.size()};
    }
    TraceCheck::Codes codes;
    std::optional<TraceCheck::Problem> problem;
    for_each_batch(source, [&](const ImportedBatch& batch) {
        std::vector<ColumnView> columns;
        for (const TraceCheck::Expected& expected : TraceCheck::kColumns) {
            const auto name = std::find(batch.names.begin(), batch.names.end(), expected.name);
            const ColumnView& column = batch.columns.at(
                static_cast<std::size_t>(std::distance(batch.names.begin(), name)));
            if (column.type != expected.type) {
                throw std::invalid_argument("column " + *name + " has the wrong type");
            }
            columns.push_back(column);
        }
        nb::gil_scoped_release unlocked;
        problem = check.check(columns, batch.rows, known, codes);
    });
    if (problem) return std::tuple(problem->row, problem->column, problem->reason);
    std::vector<nb::bytes> out;
    for (const std::vector<u8>& column : codes) out.emplace_back(column.data(), column.size());
    return out;
}

}  // namespace

void bind_tracefs(nb::module_& m);

void bind_traces(nb::module_& m) {
    using namespace rmapreplay;
    m.def("op_names", [] { return names(kOpNames); });
    m.def("source_names", [] { return names(kSourceNames); });
    m.def("walk_kind_names", [] { return names(kWalkKindNames); });
    m.def("special_names", [] { return names(kSpecialNames); });
    m.def("needed_columns", needed_by_op);
    m.def(
        "recorded_syscalls",
        [] {
            nb::list ids;
            std::set<i64> numbers(i386::recorded().begin(), i386::recorded().end());
            for (const Sys sys : recorded_syscalls()) numbers.insert(static_cast<i64>(sys));
            for (const i64 number : numbers) ids.append(number);
            return nb::typed<nb::tuple, nb::int_, nb::ellipsis>(nb::tuple(ids));
        },
        "The numbers of the system calls that an importer needs entry and exit of, ascending: of "
        "64-bit programs, and of 32-bit ones, for which numbers mean other calls. A capture's "
        "filter has to let just these through.");
    m.def(
        "recorded_brk_exits",
        [] { return nb::str(i386::kBrkExits.data(), i386::kBrkExits.size()); },
        "What else a capture has to let through of raw_syscalls:sys_exit: brk of 32-bit programs, "
        "whose number is a frequent call's of 64-bit ones.");
    m.def(
        "recorded_syscall_names",
        [] {
            nb::list found;
            for (const Sys sys : recorded_syscalls())
                found.append(nb::str(syscall_name(sys).c_str()));
            return nb::typed<nb::tuple, nb::str, nb::ellipsis>(nb::tuple(found));
        },
        "The names of those of 64-bit programs, by number.");
    nb::class_<TraceCheck>(m, "TraceCheck", "Checks the batches of one trace, in order.")
        .def(nb::init<>())
        .def("check", check_batch, nb::arg("batch"), nb::arg("dictionaries"),
             "Checks the next record batch. Columns of names (op, path, source, kind) hold places "
             "in a dictionary (int32), and `dictionaries` has for each of them a byte per place: "
             "the name's code, 255 if there is none. Returns for each of them a byte per row, the "
             "code or 0 for null; or the first problem as (row, column, reason), where an empty "
             "reason stands for an unknown name.");
    bind_adoption(bind_importer<PerfParser>(m, "PerfParser", "Reads the text of perf script."))
        .def_prop_ro(
            "truth_ready", [](PerfParser& parser) { return parser.mapped().rows(); },
            "How many rows take_mapped() would give.")
        .def(
            "take_mapped", [](PerfParser& p) { return wrap_table(p.mapped().take()); },
            "VMAs reported after calls and faults, as an Arrow struct array; see truth.py.");
    nb::class_<KmemParser>(m, "KmemParser", "Reads perf script text of slab allocations.")
        .def(nb::init<>())
        .def(
            "feed",
            [](KmemParser& parser, nb::bytes chunk) {
                const std::string_view text(chunk.c_str(), chunk.size());
                nb::gil_scoped_release unlocked;
                parser.feed(text);
            },
            nb::arg("chunk"), "Parse the next bytes of the text, cut anywhere.")
        .def("finish", &KmemParser::finish, "Parse what is left; call once, after the last chunk.")
        .def(
            "take", [](KmemParser& parser) { return wrap_table(parser.take()); },
            "The rows that are ready, as an Arrow struct array; the parser keeps none of them.")
        .def_prop_ro("ready", &KmemParser::ready, "How many rows take() would give.")
        .def_prop_ro("rows", &KmemParser::rows, "How many rows there have been in all.")
        .def_prop_ro("lines", &KmemParser::lines)
        .def_prop_ro("live", &KmemParser::live, "Objects that have not been freed.")
        .def_prop_ro("lost", &KmemParser::lost, "Events that the text says were lost.")
        .def_prop_ro(
            "dropped", [](KmemParser& parser) { return to_dict(parser.dropped()); },
            "What could not be used, by reason.");
    bind_importer<StraceParser>(m, "StraceParser", "Reads the text of strace -f -ttt.");
    bind_tracefs(m);
    nb::class_<PerfRecordCounter>(m, "PerfRecordCounter",
                                  "Counts the records of a perf.data that still grows.")
        .def(nb::init<>())
        .def(
            "feed",
            [](PerfRecordCounter& counter, nb::bytes chunk) {
                counter.feed(std::string_view(chunk.c_str(), chunk.size()));
            },
            nb::arg("chunk"), "The next bytes of the file, cut anywhere.")
        .def_prop_ro("samples", &PerfRecordCounter::samples, "Samples so far.")
        .def_prop_ro("lost", &PerfRecordCounter::lost, "Samples that perf says it lost, so far.");
}
