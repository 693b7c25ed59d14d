// SPDX-License-Identifier: GPL-2.0-only
// Events as columns: what an importer hands to the writer. Null is written where an operation has
// no use for a column.
#pragma once

#include <string>
#include <string_view>

#include "traces/native/event.hpp"
#include "traces/native/table.hpp"

namespace rmapreplay {

// Columns that an operation always carries, as bits; the others are null when they hold their
// default.
namespace needs {
inline constexpr u32 addr = 1u << 0;
inline constexpr u32 len = 1u << 1;
inline constexpr u32 new_addr = 1u << 2;
inline constexpr u32 new_len = 1u << 3;
inline constexpr u32 offset = 1u << 4;
inline constexpr u32 flags = 1u << 5;
inline constexpr u32 prot = 1u << 6;
inline constexpr u32 advice = 1u << 7;
inline constexpr u32 child = 1u << 8;
inline constexpr u32 child_tid = 1u << 9;
inline constexpr u32 write = 1u << 10;
inline constexpr u32 source = 1u << 11;
inline constexpr u32 kind = 1u << 12;
inline constexpr std::array<std::string_view, 13> names = {
    "addr",   "len",   "new_addr",  "new_len", "offset", "flags", "prot",
    "advice", "child", "child_tid", "write",   "source", "kind"};
}  // namespace needs

constexpr u32 needed_columns(Op op) {
    using namespace needs;
    switch (op) {
        case Op::mmap: return addr | len | prot | flags;
        case Op::munmap: return addr | len;
        case Op::mremap: return addr | len | new_addr | new_len | flags;
        case Op::mprotect: return addr | len | prot;
        case Op::brk: return addr;
        case Op::madvise: return addr | len | advice;
        case Op::mlock: return addr | len;
        case Op::munlock: return addr | len;
        case Op::mlockall: return flags;
        case Op::munlockall: return 0;
        case Op::mbind: return addr | len | advice;
        case Op::prctl: return flags;
        case Op::fork: return flags | child | child_tid;
        case Op::exec: return 0;
        case Op::exit: return 0;
        case Op::exit_mmap: return 0;
        case Op::mapping: return addr | len | offset | prot | flags;
        case Op::fault: return addr | write | source;
        case Op::populate: return addr | len | write;
        case Op::walk: return addr | kind;
        case Op::dup_mmap: return 0;
        case Op::unmap_vmas: return 0;
        case Op::free_pgtables: return 0;
        case Op::swap_out: return addr | len;
        case Op::swap_in: return addr | len;
        case Op::discard: return addr | len;
        case Op::mseal: return addr | len;
    }
    return 0;
}

class EventTable {
  public:
    EventTable();
    EventTable(const EventTable&) = delete;
    EventTable& operator=(const EventTable&) = delete;
    // Event::path of a string; 0 is the empty one.
    u32 path(std::string_view text);
    void append(const Event& event);

    u64 total_rows() const { return total_rows_; }  // also those taken already
    i64 first_time() const { return first_time_; }
    i64 last_time() const { return last_time_; }
    std::size_t rows() const { return table_.rows(); }
    Table take() {
        table_.fill_up();
        return table_.take();
    }

  private:
    // Most columns are null in most rows: a null is appended when a value follows, or by take().
    template <class T>
    void put(TypedColumn<T>& column, T value, T none, bool needed) {
        if (!needed && value == none) return;
        column.append_nulls_up_to(table_.rows() - 1);
        column.append(value);
    }
    template <class Code>
    void put_code(DictColumn<Code>& column, Code code) {
        column.append_nulls_up_to(table_.rows() - 1);
        column.append_code(code);
    }

    Table table_;
    TypedColumn<i64>& time_;
    DictColumn<u8>& op_;
    TypedColumn<i32>& pid_;
    TypedColumn<i32>& tid_;
    TypedColumn<u64>& addr_;
    TypedColumn<u64>& len_;
    TypedColumn<u64>& new_addr_;
    TypedColumn<u64>& new_len_;
    TypedColumn<u64>& offset_;
    TypedColumn<u64>& flags_;
    TypedColumn<u64>& vm_flags_;
    TypedColumn<u32>& prot_;
    TypedColumn<i32>& fd_;
    TypedColumn<u32>& file_;
    TypedColumn<i32>& advice_;
    TypedColumn<i32>& child_;
    TypedColumn<i32>& child_tid_;
    TypedColumn<i32>& error_;
    DictColumn<u32>& path_;
    TypedColumn<bool>& write_;
    DictColumn<u8>& source_;
    TypedColumn<bool>& present_;
    TypedColumn<u8>& order_;
    DictColumn<u8>& kind_;
    u64 total_rows_ = 0;
    i64 first_time_ = 0;
    i64 last_time_ = 0;
};

}  // namespace rmapreplay
