// SPDX-License-Identifier: GPL-2.0-only
// Models written in Python: subclasses of rmapreplay.RmapModel (rmap_models/base.py).
#pragma once

#include <nanobind/nanobind.h>

#include "rmap_models/native/model.hpp"

namespace rmapreplay {

bool is_python_model(nanobind::handle model);  // a subclass, not an instance

// Throws std::invalid_argument, with one clear line, if what the class says of itself is not right.
ModelEntry python_model_entry(nanobind::handle model);

}  // namespace rmapreplay
