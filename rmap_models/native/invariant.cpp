// SPDX-License-Identifier: GPL-2.0-only
#include "rmap_models/native/invariant.hpp"

namespace rmapreplay {

std::string hex(u64 value) {
    std::string digits;
    do digits.insert(digits.begin(), "0123456789abcdef"[value & 15]);
    while (value >>= 4);
    return "0x" + digits;
}

std::string describe(const Mm& mm) {
    return "mm " + std::to_string(mm.serial) + " (pid " + std::to_string(mm.pid) + ")";
}

std::string describe(const Vma& vma) {
    return "VMA " + hex(vma.start) + "-" + hex(vma.end) + " of " + describe(*vma.mm);
}

}  // namespace rmapreplay
