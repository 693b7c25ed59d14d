// SPDX-License-Identifier: GPL-2.0-only
#include "traces/native/syscalls_i386.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

namespace rmapreplay::i386 {
namespace {

constexpr i64 kMmap2 = 192;  // its offset is in pages

constexpr std::pair<i64, Sys> kCalls[] = {
    {execve, Sys::execve},
    {old_mmap, Sys::none},
    {91, Sys::munmap},
    {ipc, Sys::none},
    {120, Sys::clone},
    {125, Sys::mprotect},
    {150, Sys::mlock},
    {151, Sys::munlock},
    {152, Sys::mlockall},
    {153, Sys::munlockall},
    {163, Sys::mremap},
    {172, Sys::prctl},
    {190, Sys::vfork},
    {kMmap2, Sys::mmap},
    {219, Sys::madvise},
    {274, Sys::mbind},
    {358, Sys::execveat},
    {374, Sys::userfaultfd},
    {376, Sys::mlock2},
    {380, Sys::pkey_mprotect},
    {397, Sys::shmat},
    {398, Sys::shmdt},
    {435, Sys::clone3},
    {440, Sys::process_madvise},
    {448, Sys::process_mrelease},
    {450, Sys::set_mempolicy_home_node},
    {453, Sys::map_shadow_stack},
    {462, Sys::mseal},
};

// include/uapi/linux/ipc.h; the upper half of the first argument is a version.
constexpr u64 kShmat = 21;
constexpr u64 kShmdt = 22;

}  // namespace

std::span<const i64> recorded() {
    static const auto numbers = [] {
        std::array<i64, std::size(kCalls)> all{};
        std::transform(std::begin(kCalls), std::end(kCalls), all.begin(),
                       [](const auto& known) { return known.first; });
        return all;
    }();
    return numbers;
}

Sys syscall(i64 number) {
    const auto it = std::find_if(std::begin(kCalls), std::end(kCalls),
                                 [number](const auto& known) { return known.first == number; });
    return it == std::end(kCalls) ? Sys::none : it->second;
}

Call call(i64 number, const std::array<u64, 6>& args) {
    Call call{syscall(number), args};
    if (number == kMmap2) call.args[5] = args[5] << 12;
    if (number != ipc) return call;
    switch (args[0] & 0xffff) {
        case kShmat: return {Sys::shmat, {args[1], args[4], args[2]}};
        case kShmdt: return {Sys::shmdt, {args[4]}};
        default: return call;
    }
}

}  // namespace rmapreplay::i386
