// SPDX-License-Identifier: GPL-2.0-only
// The machine and the models as replay/engine.py uses them.
#include <nanobind/nanobind.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <stdexcept>

#include "replay/native/bind_models.hpp"
#include "replay/native/bind_replay.hpp"
#include "replay/native/event_batch.hpp"
#include "rmap_models/native/invariant.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace rmapreplay {
namespace {

template <class Enum>
Enum choice(std::string_view what, std::string_view text,
            std::initializer_list<std::pair<std::string_view, Enum>> choices) {
    for (const auto& [name, value] : choices) {
        if (name == text) return value;
    }
    throw std::invalid_argument(std::string(what) + ": unknown value " + std::string(text));
}

Kernel parse_kernel(std::string_view text) {
    return choice<Kernel>(
        "kernel", text, {{"6.12", Kernel::v6_12}, {"6.18", Kernel::v6_18}, {"7.3", Kernel::v7_3}});
}

ThpMode parse_thp(std::string_view text) {
    return choice<ThpMode>(
        "thp", text,
        {{"never", ThpMode::never}, {"madvise", ThpMode::madvise}, {"always", ThpMode::always}});
}

Teardown parse_teardown(std::string_view text) {
    return choice<Teardown>(
        "teardown", text,
        {{"at_exit", Teardown::at_exit}, {"vmas", Teardown::vmas}, {"all", Teardown::all}});
}

void check_names(const ImportedBatch& batch) {
    const auto same = [](const std::string& name, const EventColumn& column) {
        return name == column.name;
    };
    if (!std::equal(batch.names.begin(), batch.names.end(), kEventColumns.begin(),
                    kEventColumns.end(), same)) {
        throw std::invalid_argument("not a batch of events in canonical form");
    }
}

nb::dict anomalies(const Totals& totals) {
    nb::dict result;
    for (std::size_t i = 0; i < totals.anomalies.size(); ++i) {
        if (totals.anomalies[i] == 0) continue;
        result[str(anomaly_name(static_cast<Anomaly>(i)))] =
            dict_of("count", totals.anomalies[i], "first_row", totals.first_anomaly[i]);
    }
    return result;
}

}  // namespace

Replay::Replay(nb::object model, const std::string& label,
               const std::map<std::string, std::string>& params, const std::string& kernel,
               const std::string& thp, bool use_zero_page, u64 stack_limit,
               const std::string& teardown, bool orders, u64 rows, const std::string& walks,
               bool visits, nb::object sink)
    : source_(std::move(model)), entry_(model_entry(source_)), sink_(std::move(sink)) {
    ModelParams given{parse_kernel(kernel), {params.begin(), params.end()}};
    model_ = entry_.make(given, costs_);
    ResultTables::Sink on_table;
    if (!sink_.is_none()) {
        on_table = [this](std::string_view name, Table&& table) {
            nb::gil_scoped_acquire gil;
            sink_(str(name), wrap_table(std::move(table)));
        };
    }
    tables_ = std::make_unique<ResultTables>(*entry_.info, label, std::move(on_table));
    const TraceFacts facts{given.kernel, parse_thp(thp),           use_zero_page, rows,
                           stack_limit,  parse_teardown(teardown), orders};
    machine_ =
        std::make_unique<Machine>(*model_, costs_, facts, parse_walk_policy(walks), *tables_);
    machine_->record_visits(visits && !sink_.is_none());
    machine_->record_faults(!sink_.is_none());
}

void Replay::feed(nb::handle events) {
    for_each_batch(events, [this](const ImportedBatch& imported) {
        check_names(imported);
        nb::gil_scoped_release release;
        if (stopped_) return;
        EventBatch batch(imported.columns, imported.rows);
        for (std::size_t row = 0; row < batch.rows(); ++row, ++row_) {
            const Event& event = batch.decode(row);
            if (shared_row_) *static_cast<volatile u64*>(shared_row_->data()) = row_;
            try {
                machine_->apply(event);
            } catch (const WalkReached&) {
                stopped_ = true;
                return;
            }
            if (event.op == Op::fork) note_owner(event.child);
            if (row_ == watched_row_) note_watched();
        }
    });
}

void Replay::finish() {
    nb::gil_scoped_release release;
    try {
        if (!stopped_) machine_->finish();
    } catch (const WalkReached&) {
        stopped_ = true;
    }
    tables_->finish();
    if (timeline_) timeline_->finish();
}

nb::dict Replay::summary() const {
    const Totals& totals = machine_->totals();
    nb::dict result;
    result["events"] = totals.events;
    result["anomalies"] = anomalies(totals);
    result["verified"] = totals.verified;
    result["walks"] = totals.walks;
    result["visits"] = totals.visits;
    result["hits"] = totals.hits;
    result["useless"] = totals.useless;
    result["misses"] = totals.misses;
    result["first_misses"] = first_misses();
    nb::dict walk;
    for (const ResultTables::Metric& metric : tables_->metrics()) {
        const Histogram& values = metric.values;
        walk[str(metric.name)] =
            dict_of("mean", values.mean(), "p50", values.percentile(50), "p95",
                    values.percentile(95), "p99", values.percentile(99), "max", values.max());
    }
    result["walk"] = walk;
    result["objects"] = objects();
    result["operations"] = operations();
    result["machine_bytes"] = machine_->memory_bytes();
    return result;
}

nb::list Replay::first_misses() const {
    nb::list result;
    for (const MissRecord& miss : tables_->first_misses()) {
        result.append(
            dict_of("walk", miss.walk, "row", miss.seq, "pid", miss.pid, "address", miss.addr));
    }
    return result;
}

nb::dict Replay::objects() const {
    nb::dict result;
    const std::vector<ObjectKind> kinds = object_kinds(*entry_.info);
    const std::vector<AllocSite> sites = alloc_sites(*entry_.info);
    for (std::size_t i = 0; i < kinds.size(); ++i) {
        nb::dict by_site;
        for (std::size_t site = 0; site < sites.size(); ++site)
            if (sites[site].kind == i) by_site[str(sites[site].name)] = costs_.sites[site];
        u64 allocated = 0;
        u64 freed = 0;
        for (const OpCosts& op : machine_->operations()) {
            allocated += op.allocated[i];
            freed += op.freed[i];
        }
        result[str(kinds[i].name)] = dict_of("allocated", allocated, "freed", freed, "peak",
                                             costs_.peak[i], "live", costs_.live[i], "bytes_peak",
                                             costs_.peak[i] * kinds[i].bytes, "sites", by_site);
    }
    return result;
}

nb::dict Replay::operations() const {
    nb::dict result;
    const std::vector<ObjectKind> kinds = object_kinds(*entry_.info);
    const CostSums sums(kOpSums, entry_.info->op_counters);
    for (std::size_t op = 0; op < kOpNames.size(); ++op) {
        const OpCosts& costs = machine_->operations()[op];
        if (costs.calls == 0) continue;
        nb::dict allocated;
        nb::dict freed;
        nb::dict counters;
        for (std::size_t i = 0; i < kinds.size(); ++i) {
            allocated[str(kinds[i].name)] = costs.allocated[i];
            freed[str(kinds[i].name)] = costs.freed[i];
        }
        for (std::size_t i = 0; i < entry_.info->op_counters.size(); ++i) {
            counters[str(entry_.info->op_counters[i].name)] = costs.counters[i];
        }
        nb::dict in_common;
        const auto summed = sums(costs.counters);
        for (std::size_t i = 0; i < kOpSums.size(); ++i)
            in_common[str(sum_name(kOpSums[i]))] = summed[i];
        result[str(kOpNames[op])] = dict_of("calls", costs.calls, "costs", in_common, "allocated",
                                            allocated, "freed", freed, "counters", counters);
    }
    return result;
}

}  // namespace rmapreplay

void bind_replay(nb::module_& m) {
    using namespace rmapreplay;
    nb::exception<BrokenInvariant>(m, "BrokenInvariant", PyExc_RuntimeError);
    nb::class_<Replay> replay(m, "Replay", "One replay of one trace under one model.");
    replay
        .def(nb::init<nb::object, const std::string&, const std::map<std::string, std::string>&,
                      const std::string&, const std::string&, bool, u64, const std::string&, bool,
                      u64, const std::string&, bool, nb::object>(),
             nb::kw_only(), "model"_a, "label"_a, "params"_a, "kernel"_a, "thp"_a,
             "use_zero_page"_a, "stack_limit"_a, "teardown"_a = "at_exit", "orders"_a = false,
             "rows"_a, "walks"_a, "visits"_a, "sink"_a = nb::none())
        .def(
            "feed", &Replay::feed, "events"_a,
            "Applies a batch of events in canonical form, in order. Raises ValueError if it is not "
            "canonical.")
        .def_prop_ro("row", &Replay::row,
                     "The row being applied, or the next one: where it failed.")
        .def("share_row", &Replay::share_row, "buffer"_a,
             "From now on the buffer's first 8 bytes hold the row being applied.")
        .def("finish", &Replay::finish, "Makes the walks due at the end and hands on every table.")
        .def("summary", &Replay::summary, "Totals and distributions so far, as plain dicts.");
    bind_state(replay);
    bind_look(replay);
    bind_timeline(replay);
    m.def(
        "check_walk_policy",
        [](const std::string& text) { static_cast<void>(parse_walk_policy(text)); }, "text"_a,
        "Raises ValueError, with one clear line, if the text is not a walk policy.");
}
