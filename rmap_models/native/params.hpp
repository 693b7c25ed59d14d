// SPDX-License-Identifier: GPL-2.0-only
// Parameters that every model takes.
#pragma once

#include "rmap_models/native/model.hpp"

namespace rmapreplay {

inline constexpr Param kKernelParam = {
    "kernel", "6.12|6.18|7.3|auto", "auto",
    "whose rules hold where kernels differ; auto: of the kernel the trace was captured on"};

// The kernel a model is to follow: the `kernel` parameter if it names one, else
// ModelParams::kernel. Throws std::invalid_argument with one clear line if a parameter is not one
// of info.params or `kernel` is none of its values.
Kernel check_params(const ModelInfo& info, const ModelParams& params);

}  // namespace rmapreplay
