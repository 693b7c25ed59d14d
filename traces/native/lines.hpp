// SPDX-License-Identifier: GPL-2.0-only
// Text that arrives in chunks cut anywhere, handed on line by line.
#pragma once

#include <cstddef>
#include <cstring>
#include <string>
#include <string_view>

namespace rmapreplay {

class LineSplitter {
  public:
    // Calls use(line), without the newline, for every line that `chunk` completes.
    template <class Use>
    void feed(std::string_view chunk, Use&& use) {
        if (!carry_.empty()) {
            const std::size_t end = chunk.find('\n');
            carry_.append(chunk.substr(0, end));
            if (end == std::string_view::npos) return;
            chunk.remove_prefix(end + 1);
            std::string line;
            line.swap(carry_);
            use(without_return(line));
        }
        while (!chunk.empty()) {
            const void* found = std::memchr(chunk.data(), '\n', chunk.size());
            if (!found) break;
            const auto end =
                static_cast<std::size_t>(static_cast<const char*>(found) - chunk.data());
            use(without_return(chunk.substr(0, end)));
            chunk.remove_prefix(end + 1);
        }
        carry_.assign(chunk);
    }
    // The last line, if the text does not end with a newline.
    template <class Use>
    void finish(Use&& use) {
        if (carry_.empty()) return;
        std::string line;
        line.swap(carry_);
        use(without_return(line));
    }

  private:
    static std::string_view without_return(std::string_view line) {
        if (line.ends_with('\r')) line.remove_suffix(1);
        return line;
    }
    std::string carry_;
};

}  // namespace rmapreplay
