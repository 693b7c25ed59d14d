// SPDX-License-Identifier: GPL-2.0-only
// The distribution of a count over many walks, exact and in bounded memory: counts are small
// integers, so how often each value came is all there is to know.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <map>

#include "traces/native/event.hpp"

namespace rmapreplay {

class Histogram {
  public:
    void add(u64 value) {
        if (value < kDense) {
            ++dense_[value];
        } else {
            ++sparse_[value];
        }
        ++count_;
        sum_ += value;
        max_ = std::max(max_, value);
    }

    void add(u64 value, u64 times) {
        if (!times) return;
        (value < kDense ? dense_[value] : sparse_[value]) += times;
        count_ += times;
        sum_ += value * times;
        max_ = std::max(max_, value);
    }

    u64 count() const { return count_; }
    u64 sum() const { return sum_; }
    u64 max() const { return max_; }
    double mean() const {
        return count_ == 0 ? 0.0 : static_cast<double>(sum_) / static_cast<double>(count_);
    }
    // The smallest value that at least `percent` per cent of the values do not exceed (nearest
    // rank); 0 if there are no values.
    u64 percentile(u64 percent) const {
        const u64 rank = std::max<u64>(1, (count_ * percent + 99) / 100);
        u64 seen = 0;
        for (std::size_t value = 0; value < kDense; ++value) {
            seen += dense_[value];
            if (seen >= rank) return value;
        }
        for (const auto& [value, times] : sparse_) {
            seen += times;
            if (seen >= rank) return value;
        }
        return 0;
    }

  private:
    static constexpr std::size_t kDense = 1024;
    std::array<u64, kDense> dense_{};
    std::map<u64, u64> sparse_;
    u64 count_ = 0;
    u64 sum_ = 0;
    u64 max_ = 0;
};

}  // namespace rmapreplay
