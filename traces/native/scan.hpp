// SPDX-License-Identifier: GPL-2.0-only
// A cursor over one line of text. Every step either succeeds and advances or fails and stays.
#pragma once

#include <charconv>
#include <optional>
#include <string_view>
#include <system_error>

#include "traces/native/event.hpp"

namespace rmapreplay {

class Scan {
  public:
    explicit Scan(std::string_view text) : text_(text) {}

    std::string_view rest() const { return text_; }
    bool done() const { return text_.empty(); }
    char peek() const { return text_.empty() ? '\0' : text_.front(); }

    void spaces() {
        std::size_t n = 0;
        while (n < text_.size() && text_[n] == ' ') ++n;
        text_.remove_prefix(n);
    }
    bool skip(std::string_view expected) {
        if (!text_.starts_with(expected)) return false;
        text_.remove_prefix(expected.size());
        return true;
    }
    template <class T>
    bool number(T& value, int base = 10) {
        const auto [end, error] =
            std::from_chars(text_.data(), text_.data() + text_.size(), value, base);
        if (error != std::errc{}) return false;
        text_.remove_prefix(static_cast<std::size_t>(end - text_.data()));
        return true;
    }
    // 0x prefix optional.
    bool hex(u64& value) {
        const Scan before = *this;
        skip("0x");
        if (number(value, 16)) return true;
        *this = before;
        return false;
    }
    // Up to the next `stop`, which is consumed.
    bool until(char stop, std::string_view& token) {
        const std::size_t end = text_.find(stop);
        if (end == std::string_view::npos) return false;
        token = text_.substr(0, end);
        text_.remove_prefix(end + 1);
        return true;
    }
    // "12.345678901" as nanoseconds, any number of decimals.
    bool seconds(i64& ns) {
        const Scan before = *this;
        i64 whole = 0;
        if (!number(whole) || whole < 0 || whole > 9'000'000'000) {
            *this = before;
            return false;
        }
        ns = whole * 1'000'000'000;
        if (!skip(".")) return true;
        i64 unit = 100'000'000;
        std::size_t n = 0;
        for (; n < text_.size() && text_[n] >= '0' && text_[n] <= '9'; ++n) {
            ns += (text_[n] - '0') * unit;
            unit /= 10;
        }
        text_.remove_prefix(n);
        return true;
    }

  private:
    std::string_view text_;
};

// The number behind the last `key` in a line of "key=value" fields, whose earlier values (a comm, a
// file name) may hold anything.
template <class T>
std::optional<T> last_field(std::string_view line, std::string_view key, int base = 10) {
    const std::size_t at = line.rfind(key);
    if (at == std::string_view::npos) return std::nullopt;
    Scan scan(line.substr(at + key.size()));
    T value{};
    if (!scan.number(value, base)) return std::nullopt;
    return value;
}

}  // namespace rmapreplay
