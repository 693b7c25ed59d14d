// SPDX-License-Identifier: GPL-2.0-only
// System calls of 32-bit programs. The kernel's raw_syscalls events give their numbers, which mean
// other calls than the same numbers of 64-bit programs.
#pragma once

#include <array>
#include <span>
#include <string_view>

#include "traces/native/syscalls.hpp"

namespace rmapreplay::i386 {

// arch/x86/entry/syscalls/syscall_32.tbl
inline constexpr i64 execve = 11;
inline constexpr i64 brk = 45;
inline constexpr i64 old_mmap = 90;  // its arguments are in memory
inline constexpr i64 ipc = 117;  // semaphores, messages and System V shared memory in one

// The numbers to record, ascending. Not among them are frequent calls of 64-bit programs that mean
// here what other events tell (exit is their write, fork their open) or what nobody uses
// (remap_file_pages is their openat), and brk, their recvfrom.
std::span<const i64> recorded();
// For brk the exits are enough, and addresses are more than recvfrom returns: no 32-bit program
// lies below 128 MB. A condition for the filter of raw_syscalls:sys_exit.
inline constexpr std::string_view kBrkExits = "id == 45 && ret > 134217727";

// What a number stands for; Sys::none: old_mmap, ipc, and what importers have no use for.
Sys syscall(i64 number);

// The call with its arguments as the same call of a 64-bit program has them. Of ipc, shmat and
// shmdt; Sys::none as above.
Call call(i64 number, const std::array<u64, 6>& args);

}  // namespace rmapreplay::i386
