// SPDX-License-Identifier: GPL-2.0-only
// Reads perf script text of kmem:kmem_cache_alloc and kmem_cache_free: which objects of the reverse
// map a kernel really allocated and freed in a captured run, one row each.
#pragma once

#include <string_view>
#include <unordered_map>

#include "traces/native/lines.hpp"
#include "traces/native/perf.hpp"
#include "traces/native/table.hpp"
#include "traces/native/tally.hpp"

namespace rmapreplay {

class KmemParser {
  public:
    KmemParser();
    KmemParser(const KmemParser&) = delete;
    KmemParser& operator=(const KmemParser&) = delete;

    void feed(std::string_view chunk) {
        lines_.feed(chunk, [this](std::string_view line) { this->line(line); });
    }
    void finish() {
        lines_.finish([this](std::string_view line) { this->line(line); });
    }

    // Columns: time (ns), pid and tid of the acting task, object (vm_area_struct, anon_vma or
    // anon_vma_chain), action (alloc, free), id (serial within the object's kind, from 1), site (the
    // function that called the allocator).
    Table take() { return table_.take(); }
    std::size_t ready() const { return table_.rows(); }
    u64 rows() const { return rows_; }
    u64 lines() const { return line_count_; }
    u64 live() const { return live_.size(); }  // objects allocated and not freed
    const Tally& dropped() const { return dropped_; }

  private:
    struct Object {
        u8 kind;
        u32 id;
    };
    void line(std::string_view line);
    bool use(const PerfLine& line);
    void append(const PerfLine& line, const Object& object, u8 action, std::string_view site);

    LineSplitter lines_;
    Table table_;
    TypedColumn<i64>& time_;
    TypedColumn<i32>& pid_;
    TypedColumn<i32>& tid_;
    DictColumn<u8>& object_;
    DictColumn<u8>& action_;
    TypedColumn<u32>& id_;
    DictColumn<u8>& site_;
    std::unordered_map<u64, Object> live_;  // by address
    std::array<u32, 3> last_id_{};
    u64 rows_ = 0;
    u64 line_count_ = 0;
    Tally dropped_;
};

}  // namespace rmapreplay
