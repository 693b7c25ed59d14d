// SPDX-License-Identifier: GPL-2.0-only
// The extension module rmapreplay._native. Each area binds its own part.
#include <nanobind/nanobind.h>

#include "traces/native/bind_arrow.hpp"

void bind_traces(nanobind::module_& m);
void bind_models(nanobind::module_& m);
void bind_python_machine(nanobind::module_& m);
void bind_c_model(nanobind::module_& m);
void bind_replay(nanobind::module_& m);

NB_MODULE(_native, m) {
    m.doc() = "The native core of rmapreplay; use the Python packages instead.";
    rmapreplay::bind_arrow(m);
    bind_traces(m);
    bind_models(m);
    bind_python_machine(m);
    bind_c_model(m);
    bind_replay(m);
}
