// SPDX-License-Identifier: GPL-2.0-only
// What must hold between any two events, and how those who recount it name what they found.
#pragma once

#include <stdexcept>
#include <string>

#include "rmap_models/native/vma.hpp"

namespace rmapreplay {

// One does not hold: a bug of a model or of the machine, whatever the trace. The text is one line
// that names the invariant and the object.
class BrokenInvariant : public std::logic_error {
  public:
    using std::logic_error::logic_error;
};

std::string hex(u64 value);
std::string describe(const Mm& mm);  // "mm 3 (pid 100)"
std::string describe(const Vma& vma);  // "VMA 0x7f0000000000-0x7f0000002000 of mm 3 (pid 100)"

}  // namespace rmapreplay
