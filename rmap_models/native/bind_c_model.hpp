// SPDX-License-Identifier: GPL-2.0-only
// Models written in C, as Python names them: the Path of a shared library, or any object whose
// attribute rmap_model_ops is the address of a table (functions compiled by numba, say).
#pragma once

#include <nanobind/nanobind.h>

#include "rmap_models/native/model.hpp"

namespace rmapreplay {

bool is_c_model(nanobind::handle model);
// Throws std::invalid_argument if the table is not right. What the entry refers to lives as long as
// the entry does, and `model` too.
ModelEntry c_model_entry(nanobind::handle model);

}  // namespace rmapreplay
