// SPDX-License-Identifier: GPL-2.0-only
// The built-in models. A new one is a file of its own and a line here.
#include <algorithm>
#include <array>
#include <stdexcept>

#include "rmap_models/native/params.hpp"

namespace rmapreplay {

extern const ModelEntry anon_vma_entry;         // anon_vma.cpp
extern const ModelEntry cow_entry;              // cow_context.cpp
extern const ModelEntry cow_poc_entry;          // cow_poc.cpp
extern const ModelEntry pte_chain_entry;        // pte_chain.cpp
extern const ModelEntry anonmm_entry;           // anonmm.cpp
extern const ModelEntry anon_vma_global_entry;  // anon_vma_global.cpp
extern const ModelEntry anon_vma_lazy_entry;    // anon_vma_lazy.cpp

std::span<const ModelEntry> models() {
    static const std::array entries = {anon_vma_entry,     cow_entry,    cow_poc_entry,
                                       pte_chain_entry,    anonmm_entry, anon_vma_global_entry,
                                       anon_vma_lazy_entry};
    return entries;
}

const ModelEntry* find_model(std::string_view name) {
    const auto all = models();
    const auto found = std::find_if(all.begin(), all.end(),
                                    [&](const ModelEntry& e) { return e.info->name == name; });
    return found == all.end() ? nullptr : &*found;
}

Kernel check_params(const ModelInfo& info, const ModelParams& params) {
    Kernel kernel = params.kernel;
    for (const auto& [key, value] : params.values) {
        const bool known = std::any_of(info.params.begin(), info.params.end(),
                                       [&](const Param& p) { return p.name == key; });
        if (!known) {
            std::string takes;
            for (const Param& p : info.params) takes += " " + std::string(p.name);
            throw std::invalid_argument("model " + std::string(info.name) + " has no parameter '" +
                                        key + "' (it takes:" + takes + ")");
        }
        if (key != kKernelParam.name || value == "auto") continue;
        if (value == "6.12")
            kernel = Kernel::v6_12;
        else if (value == "6.18")
            kernel = Kernel::v6_18;
        else if (value == "7.3")
            kernel = Kernel::v7_3;
        else
            throw std::invalid_argument("model " + std::string(info.name) + ": kernel is one of " +
                                        std::string(kKernelParam.values) + ", not '" + value + "'");
    }
    return kernel;
}

}  // namespace rmapreplay
