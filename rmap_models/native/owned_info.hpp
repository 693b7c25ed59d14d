// SPDX-License-Identifier: GPL-2.0-only
// The description of a model that is not compiled in: a ModelInfo with what it refers to.
#pragma once

#include <deque>
#include <string>
#include <vector>

#include "rmap_models/native/model.hpp"

namespace rmapreplay {

class OwnedInfo {
  public:
    OwnedInfo() = default;
    OwnedInfo(const OwnedInfo&) = delete;  // views point into it
    OwnedInfo& operator=(const OwnedInfo&) = delete;

    // Keeps a text for as long as this lives.
    std::string_view keep(std::string text) {
        texts_.push_back(std::move(text));
        return texts_.back();
    }

    std::string_view name;
    std::string_view doc;
    std::vector<Param> params;
    std::vector<ObjectKind> objects;
    std::vector<Counter> walk_counters;
    std::vector<Counter> op_counters;
    std::vector<LockClass> locks;
    std::vector<AllocSite> sites;
    Needs needs;

    // When all of it is there. Throws std::invalid_argument, with one clear line, if there is more
    // than a ledger holds, or a name cannot be a column of the tables.
    const ModelInfo& finish();

  private:
    std::deque<std::string> texts_;
    ModelInfo info_;
};

// Throws std::invalid_argument, with one clear line, if there is no such class.
CostClass cost_class(std::string_view name);

}  // namespace rmapreplay
