// SPDX-License-Identifier: GPL-2.0-only
#include "traces/native/tracefs_line.hpp"

#include "traces/native/scan.hpp"

namespace rmapreplay {
namespace {

constexpr std::size_t kCommWidth = 16;  // trace_print_context(), kernel/trace/trace_output.c

bool is_digit(char c) { return c >= '0' && c <= '9'; }

bool is_name(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '_';
}

// "20:" or "12.345678:", at the end of the head.
bool parse_time(std::string_view word, i64& time) {
    Scan scan(word);
    if (word.find('.') != std::string_view::npos) return scan.seconds(time) && scan.skip(":");
    return scan.number(time) && scan.skip(":");
}

bool parse_number(std::string_view text, u64& value) {
    Scan scan(text);
    if (scan.skip("0x")) return scan.number(value, 16);
    if (scan.number(value)) return true;
    i64 negative = 0;
    if (!scan.number(negative)) return false;
    value = static_cast<u64>(negative);
    return true;
}

}  // namespace

bool parse_tracefs_line(std::string_view text, TracefsLine& line) {
    if (text.size() <= kCommWidth || text[kCommWidth] != '-') return false;
    Scan scan(text.substr(kCommWidth + 1));
    if (!scan.number(line.tid)) return false;
    std::string_view cpu;
    if (!scan.until('[', cpu) || !scan.until(']', cpu)) return false;
    scan.spaces();
    // The irq state has no colon at its end, the time has.
    std::string_view word = scan.rest().substr(0, scan.rest().find(' '));
    if (!word.ends_with(':')) {
        scan.skip(word);
        scan.spaces();
        word = scan.rest().substr(0, scan.rest().find(' '));
    }
    if (!parse_time(word, line.time)) return false;
    scan.skip(word);
    scan.spaces();
    const std::string_view rest = scan.rest();
    std::size_t end = 0;
    while (end < rest.size() && is_name(rest[end])) ++end;
    if (end == 0) return false;
    line.event = rest.substr(0, end);
    line.body = rest.substr(end);
    if (line.body.starts_with(':')) line.body.remove_prefix(1);
    return true;
}

bool is_tracefs_comment(std::string_view text) {
    return text.starts_with('#') || text.starts_with("CPU:");
}

u64 lost_by_comment(std::string_view text) {
    Scan scan(text);
    u64 kept = 0;
    u64 written = 0;
    std::string_view word;
    if (scan.skip("# entries-in-buffer/entries-written: ")) {
        const bool told = scan.number(kept) && scan.skip("/") && scan.number(written);
        return told && written > kept ? written - kept : 0;
    }
    if (!scan.skip("CPU:") || !scan.until('[', word) || !scan.skip("LOST ")) return 0;
    return scan.number(kept) ? kept : 1;
}

u64 Fields::number(std::string_view key) {
    u64 value = 0;
    const std::string_view text = word(key);
    if (text.empty() || !parse_number(text, value)) ok_ = false;
    return value;
}

std::string_view Fields::word(std::string_view key) {
    std::size_t at = body_.find(key, at_);
    if (at == std::string_view::npos) at = body_.find(key);
    if (at == std::string_view::npos) {
        ok_ = false;
        return {};
    }
    at += key.size();
    at_ = at;
    return body_.substr(at, body_.find(' ', at) - at);
}

std::string_view probe_symbol(std::string_view body) {
    if (!body.starts_with(" (")) return {};
    body.remove_prefix(2);
    return body.substr(0, body.find_first_of("+ )"));
}

bool parse_syscall_arguments(std::string_view body, Call& call) {
    Scan scan(body);
    if (!scan.skip("(")) return false;
    for (u64& argument : call.args) {
        if (scan.peek() == ')') return true;
        std::string_view name;
        if (!scan.until(':', name)) return false;
        scan.spaces();
        scan.skip("0x");  // older kernels leave it out, newer ones up to 9
        if (!scan.number(argument, 16)) return false;
        const std::size_t end = scan.rest().find(", ");
        if (end == std::string_view::npos) return scan.rest().ends_with(')');
        scan.skip(scan.rest().substr(0, end + 2));
    }
    return true;
}

bool parse_syscall_result(std::string_view body, i64& result) {
    Scan scan(body);
    u64 value = 0;
    if (!scan.skip(" -> ") || !parse_number(scan.rest(), value)) return false;
    result = static_cast<i64>(value);
    return true;
}

}  // namespace rmapreplay
