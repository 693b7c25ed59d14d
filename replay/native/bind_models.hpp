// SPDX-License-Identifier: GPL-2.0-only
// Models as Python names them.
#pragma once

#include <nanobind/nanobind.h>

#include "rmap_models/native/model.hpp"

namespace rmapreplay {

// A built-in model by its name, or a subclass of RmapModel. Throws std::invalid_argument if there
// is none. What the entry refers to lives as long as the entry.
ModelEntry model_entry(nanobind::handle model);

}  // namespace rmapreplay
