// SPDX-License-Identifier: GPL-2.0-only
// The `mapped` rows of the truth sidecar: VMAs as the kernel reported them after a call or fault
// that has a row in the trace.
#pragma once

#include "traces/native/event.hpp"
#include "traces/native/table.hpp"

namespace rmapreplay {

// A VMA as perf_event_mmap() reports it: when it has its final range, merges included.
struct ReportedVma {
    u64 start = 0;
    u64 end = 0;
};

class MappedTable {
  public:
    // `cause`: the trace's row of the call or fault.
    void append(const Event& cause, const ReportedVma& vma) {
        time_.append(cause.time);
        pid_.append(cause.pid);
        tid_.append(cause.tid);
        start_.append(vma.start);
        end_.append(vma.end);
    }
    Table take() { return table_.take(); }
    std::size_t rows() const { return table_.rows(); }

  private:
    Table table_;
    TypedColumn<i64>& time_ = table_.add_column<i64>("time");
    TypedColumn<i32>& pid_ = table_.add_column<i32>("pid");
    TypedColumn<i32>& tid_ = table_.add_column<i32>("tid");
    TypedColumn<u64>& start_ = table_.add_column<u64>("start");
    TypedColumn<u64>& end_ = table_.add_column<u64>("end");
};

}  // namespace rmapreplay
