// SPDX-License-Identifier: GPL-2.0-only
// One line of tracefs `trace` text: its head, and the fields of an event behind it.
#pragma once

#include <string_view>

#include "traces/native/event.hpp"
#include "traces/native/syscalls.hpp"

namespace rmapreplay {

// "     comm-123     [000] .l.1.     20: fault: (handle_mm_fault+0x4/0x300) vma=0x.. mm=0x.."
struct TracefsLine {
    i32 tid = 0;
    i64 time = 0;            // ns; with trace clock `counter` the count itself
    std::string_view event;  // "fault", "sys_mmap", "tracing_mark_write"
    std::string_view
        body;   // all after it and its colon: " (handle_mm_fault+..", "(addr: ..", " -> 0x0"
};
// The comm is padded to 16 bytes and may hold anything; columns for the tgid and for irq state are
// optional.
bool parse_tracefs_line(std::string_view text, TracefsLine& line);

// "# entries-in-buffer/entries-written: 31387/31390   #P:1", "CPU:0 [LOST 3 EVENTS]"
bool is_tracefs_comment(std::string_view text);
// How many events such a line says were lost.
u64 lost_by_comment(std::string_view text);

// "key=value" fields of a body, hexadecimal with 0x and decimal without. A missing or unreadable
// field gives 0 and makes ok() false. Cheapest when asked for in the order of the text.
class Fields {
  public:
    explicit Fields(std::string_view body) : body_(body) {}

    u64 number(std::string_view key);  // key with space and equals sign: " mm="
    std::string_view word(std::string_view key);
    bool ok() const { return ok_; }

  private:
    std::string_view body_;
    std::size_t at_ = 0;
    bool ok_ = true;
};

// "do_user_addr_fault" of " (do_user_addr_fault+0x1bd/0x810 <- handle_mm_fault) ..", which is where
// a return probe's function returned to; empty if there is none.
std::string_view probe_symbol(std::string_view body);

// "(addr: 0, len: 0x2000, prot: 3)", in Linux 6.12 "(addr: 0, len: 2000, prot: 3)"; surplus
// arguments are left out, strings behind pointers skipped.
bool parse_syscall_arguments(std::string_view body, Call& call);

// " -> 0xfffffffffffffff4"
bool parse_syscall_result(std::string_view body, i64& result);

}  // namespace rmapreplay
