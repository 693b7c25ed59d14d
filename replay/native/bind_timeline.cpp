// SPDX-License-Identifier: GPL-2.0-only
// A replay that records its history, as replay/timeline.py uses it.
#include <stdexcept>

#include "replay/native/bind_replay.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace rmapreplay {

void Replay::record_timeline(nb::object sink) {
    if (row_ || timeline_) throw std::invalid_argument("the replay has begun");
    timeline_sink_ = std::move(sink);
    timeline_ = std::make_unique<TimelineTables>(
        *model_, machine_->folios(), [this](std::string_view name, Table&& table) {
            nb::gil_scoped_acquire gil;
            timeline_sink_(str(name), wrap_table(std::move(table)));
        });
    machine_->record_timeline(*timeline_);
}

void bind_timeline(nb::class_<Replay>& replay) {
    replay.def("record_timeline", &Replay::record_timeline, "sink"_a,
               "Before the first event: sink(name, rows) takes the tables of docs/timeline.md as "
               "they fill, and each once at the end. Raises ValueError later than that.");
}

}  // namespace rmapreplay
