// SPDX-License-Identifier: GPL-2.0-only
// Reads the text of `strace -f -ttt`, optionally with -y (paths of file descriptors), in chunks cut
// anywhere. It shows no page faults, nothing that exec maps by itself and, without -y, no files.
#pragma once

#include <deque>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "traces/native/history.hpp"
#include "traces/native/lines.hpp"
#include "traces/native/scan.hpp"

namespace rmapreplay {

// The number that an argument of a system call stands for: decimal, octal, 0x.., NULL, names of
// flags joined by |, NAME<<SHIFT. False if a name is not known (its bits are left out) or it is no
// number at all.
bool strace_number(std::string_view text, u64& value);
// Splits "a, b, c" at the commas outside of quotes, brackets and comments.
std::vector<std::string_view> strace_arguments(std::string_view text);

class StraceParser {
  public:
    StraceParser() : history_(table_) {}
    StraceParser(const StraceParser&) = delete;
    StraceParser& operator=(const StraceParser&) = delete;

    void feed(std::string_view chunk) {
        lines_.feed(chunk, [this](std::string_view line) { this->line(line); });
    }
    void finish() {
        lines_.finish([this](std::string_view line) { cut_short(line); });
        release(0);
        history_.finish();
    }
    EventTable& table() { return table_; }
    const ImportStats& stats() const { return history_.stats(); }

  private:
    // A call whose line is not complete yet.
    struct Unfinished {
        std::string name;
        std::string text;  // arguments so far
        i32 child = 0;  // the task it made, if that showed up first
        u64 clone_flags = 0;  // of a clone
    };

    // A line that waits until it is clear which of several clones made its task.
    struct Held {
        i64 time;
        i32 tid;
        std::string rest;
    };
    static constexpr std::size_t kMostHeld = 4096;

    void line(std::string_view line);
    void cut_short(std::string_view line);
    void hold(i64 time, i32 tid, std::string_view rest);
    void release(std::size_t most);
    bool parent_unclear(i32 tid) const;
    bool use(i64 time, i32 tid, std::string_view rest);
    bool unfinished(i64 time, Task task, std::string_view name, std::string_view arguments);
    bool complete(i64 time, Task task, std::string_view name, std::string_view arguments,
                  std::string_view result);
    bool status(i64 time, Task task, std::string_view text);
    void enter(i64 time, Task task, Sys sys, std::string_view arguments);
    void leave(i64 time, Task task, Sys sys, std::string_view arguments, i64 result);
    Task task_of(i64 time, i32 tid);
    void made(i64 time, Task parent, i32 child, u64 flags);
    void report_mapping(i64 time, Task task, std::string_view arguments, i64 result);

    LineSplitter lines_;
    EventTable table_;
    History history_;
    std::unordered_map<i32, i32> pids_;  // tid -> thread group
    std::unordered_map<i32, Unfinished> pending_;  // by tid
    std::deque<Held> held_;
    std::unordered_map<i32, i32> parents_;  // of tasks in held lines: tid -> parent's tid
    std::vector<i32> cloning_;  // tids in an unfinished clone, oldest first
};

}  // namespace rmapreplay
