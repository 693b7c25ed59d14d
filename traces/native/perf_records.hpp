// SPDX-License-Identifier: GPL-2.0-only
// Counts the records of a perf.data while perf record still writes it, for people to watch. What
// the records hold is perf script's to tell.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

#include "traces/native/event.hpp"

namespace rmapreplay {

class PerfRecordCounter {
  public:
    // The next bytes of the file, cut anywhere. A file that is none of perf's counts as empty.
    void feed(std::string_view chunk);
    u64 samples() const { return samples_; }
    // Two tell of the same: the kernel at the next record it has room for, which may never come,
    // and perf (since 6.1) at the end of each event's life, of samples only.
    u64 lost() const { return lost_records_ > lost_samples_ ? lost_records_ : lost_samples_; }

  private:
    void file_header();
    void record();
    template <class T>
    T at(std::size_t offset) const;

    bool in_records_ = false;
    bool ended_ = false;
    u64 left_ = 0;  // bytes of records, 0: nobody knows yet
    // What is read of the header or record at hand, and what of it is of no interest.
    std::array<char, 56> head_{};
    std::size_t have_ = 0;
    std::size_t want_ = head_.size();
    u64 skip_ = 0;
    u64 samples_ = 0;
    u64 lost_records_ = 0;
    u64 lost_samples_ = 0;
};

}  // namespace rmapreplay
