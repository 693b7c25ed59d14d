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

    Tally() = default;
    Tally(const Tally& other) : counts_(other.counts_) {}
    Tally& operator=(const Tally& other) {
        counts_ = other.counts_;
        last_ = nullptr;
        return *this;
    }

    void add(std::string_view name, u64 n = 1) {
        // The same name comes many times in a row.
        if (!last_ || last_->first != name) {
            auto it = counts_.find(name);
            if (it == counts_.end()) it = counts_.emplace(name, 0).first;
            last_ = &*it;
        }
        last_->second += n;
    }
    u64 operator[](std::string_view name) const {
        auto it = counts_.find(name);
        return it == counts_.end() ? 0 : it->second;
    }
    const Counts& counts() const { return counts_; }

  private:
    Counts counts_;
    Counts::value_type* last_ = nullptr;  // in counts_, of the last add()
};

}  // namespace rmapreplay
