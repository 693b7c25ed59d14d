// SPDX-License-Identifier: GPL-2.0-only
// Text with bytes changed, taken out and put in, the same way every time.
#pragma once

#include <string>

#include "traces/native/event.hpp"

class Damage {
  public:
    // At least one and at most four places of `text` are damaged.
    std::string operator()(std::string text) {
        for (std::size_t n = 1 + random(4); n > 0; --n) {
            const std::size_t at = random(text.size());
            switch (random(3)) {
                case 0: text[at] = static_cast<char>(random(256)); break;
                case 1: text.erase(at, random(40)); break;
                default: text.insert(at, text.substr(random(text.size()), random(40)));
            }
        }
        return text;
    }
    // Below `below`; 0 if that is 0.
    std::size_t random(std::size_t below) {
        seed_ ^= seed_ << 13;
        seed_ ^= seed_ >> 7;
        seed_ ^= seed_ << 17;
        return below == 0 ? 0 : static_cast<std::size_t>(seed_ % below);
    }

  private:
    rmapreplay::u64 seed_ = 1;
};
