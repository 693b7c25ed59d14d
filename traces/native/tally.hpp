// SPDX-License-Identifier: GPL-2.0-only
// Counts by name: what an importer saw, and what it could not use and why.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "traces/native/event.hpp"

namespace rmapreplay {

class Tally {
  public:
    using Counts = std::map<std::string, u64, std::less<>>;

    void add(std::string_view name, u64 n = 1) {
        if (auto it = counts_.find(name); it != counts_.end()) {
            it->second += n;
        } else {
            counts_.emplace(name, n);
        }
    }
    u64 operator[](std::string_view name) const {
        auto it = counts_.find(name);
        return it == counts_.end() ? 0 : it->second;
    }
    const Counts& counts() const { return counts_; }

  private:
    Counts counts_;
};

}  // namespace rmapreplay
