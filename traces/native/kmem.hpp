// SPDX-License-Identifier: GPL-2.0-only
// Reads perf script text of kmem:kmem_cache_alloc and kmem_cache_free: which objects of the reverse
// map a kernel really allocated and freed in a captured run, one row each.
//
// What no trace has rows of is left out, if the text tells of it: of a process that was there
// before the capture, all before its first exec (task:task_newtask tells which processes are new),
// and what execve or clone allocated in vain (raw_syscalls:sys_enter and sys_exit of these).
#pragma once

#include <deque>
#include <string_view>
#include <unordered_map>
#include <unordered_set>
#include <vector>

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
    void finish();

    // Columns: time (ns), pid and tid of the acting task, object (vm_area_struct, anon_vma or
    // anon_vma_chain), action (alloc, free), id (serial within the object's kind, from 1; those of
    // objects that are left out are skipped), site (the function that called the allocator).
    Table take() { return table_.take(); }
    std::size_t ready() const { return table_.rows(); }
    u64 rows() const { return rows_; }
    u64 lines() const { return line_count_; }
    u64 live() const { return rows_ - 2 * freed_; }  // objects allocated and not freed
    u64 lost() const { return lost_; }  // events that the capture itself says it lost
    const Tally& dropped() const { return dropped_; }

  private:
    // What an object was allocated for: nothing in particular (0), the program that a process ran
    // when the capture began, or one call of execve or clone. Whether that counts shows later.
    using Purpose = u32;
    enum class Fate : u8 { open, counts, in_vain, before_first_exec };

    struct Object {
        u8 kind;
        u32 id;
        Purpose purpose;
    };
    struct Row {
        i64 time;
        Task task;
        Object object;
        u8 action;
        u8 site;
    };
    struct Call {
        i32 pid;
        Purpose purpose;
    };
    static constexpr std::size_t kMostHeld = 1 << 16;

    void line(std::string_view line);
    bool use(const PerfLine& line);
    bool sys_enter(const PerfLine& line);
    bool sys_exit(const PerfLine& line);
    bool allocation(const PerfLine& line);
    bool free(const PerfLine& line);
    void first_sight(i32 tid);
    Purpose begin();
    Purpose purpose_of(i32 tid) const;
    void settle(Purpose purpose, Fate fate);
    void release(std::size_t most);
    void append(const Row& row);

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
    std::vector<Fate> fates_{Fate::counts};  // by purpose
    std::unordered_map<i32, Purpose> old_;  // by tid: what tasks ran that were there before
    std::unordered_set<i32> known_;  // tids
    std::unordered_map<i32, Call> calls_;  // in progress, by tid
    std::deque<Row> held_;  // from the first whose fate is open
    std::array<u32, 3> last_id_{};
    u64 rows_ = 0;
    u64 freed_ = 0;  // of these rows
    u64 line_count_ = 0;
    u64 lost_ = 0;
    Tally dropped_;
};

}  // namespace rmapreplay
