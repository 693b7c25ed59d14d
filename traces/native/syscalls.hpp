// SPDX-License-Identifier: GPL-2.0-only
// Which x86-64 system calls change what maps what, and the row that a finished one makes.
#pragma once

#include <array>
#include <span>
#include <string>
#include <string_view>

#include "traces/native/event.hpp"

namespace rmapreplay {

// arch/x86/entry/syscalls/syscall_64.tbl
enum class Sys : i64 {
    none = -1,
    mmap = 9,
    mprotect = 10,
    munmap = 11,
    brk = 12,
    mremap = 25,
    madvise = 28,
    shmat = 30,
    clone = 56,
    fork = 57,
    vfork = 58,
    execve = 59,
    exit = 60,
    shmdt = 67,
    mlock = 149,
    munlock = 150,
    mlockall = 151,
    munlockall = 152,
    prctl = 157,
    remap_file_pages = 216,
    exit_group = 231,
    mbind = 237,
    execveat = 322,
    userfaultfd = 323,
    mlock2 = 325,
    pkey_mprotect = 329,
    clone3 = 435,
    process_madvise = 440,
    process_mrelease = 448,
    set_mempolicy_home_node = 450,
    map_shadow_stack = 453,
    mseal = 462,
};

// Those that a capture has to record of 64-bit programs, ascending: the whole table.
std::span<const Sys> recorded_syscalls();
// Name as in the table above; "syscall_N" for others.
std::string syscall_name(Sys sys);
// Sys::none if the name, or the number, is not in the table above.
Sys syscall_by_name(std::string_view name);
Sys syscall_by_number(i64 number);
// "ENOMEM"; "errno_N" for those not in errno-base.h and a few more.
std::string errno_name(i64 error);
// 0 if unknown.
i32 errno_by_name(std::string_view name);

// Linux uapi values used where an importer has to look inside a call; lower case, for libc's
// headers claim the kernel's spelling as macros.
namespace uapi {
inline constexpr u64 map_shared = 0x01;
inline constexpr u64 map_private = 0x02;
inline constexpr u64 map_fixed = 0x10;
inline constexpr u64 map_anonymous = 0x20;
inline constexpr u64 map_growsdown = 0x100;
inline constexpr u64 map_hugetlb = 0x40000;
inline constexpr u64 clone_vm = 0x100;
inline constexpr u64 clone_thread = 0x10000;
inline constexpr u64 madv_collapse = 25;
inline constexpr u32 prot_read = 1;
inline constexpr u32 prot_write = 2;
inline constexpr u32 prot_exec = 4;
inline constexpr u64 pr_set_thp_disable = 41;
inline constexpr u64 pr_set_memory_merge = 67;
inline constexpr u64 pr_set_vma = 0x53564d41;
inline constexpr u64 shm_rdonly = 010000;
inline constexpr u64 shm_remap = 040000;
inline constexpr u64 shm_exec = 0100000;
inline constexpr i64 enomem = 12;
inline constexpr i64 efault = 14;
inline constexpr i64 ehwpoison = 133;
}  // namespace uapi

struct Call {
    Sys sys = Sys::none;
    std::array<u64, 6> args{};
};

// Where the row of a call belongs, if nothing tells when it took the lock (see locks_mm()). A call
// that takes away or changes acts on what is there when it starts, and another thread may already
// use what it gave up before it returns; what a call creates nobody can use before it returns.
enum class RowAt : u8 {
    nowhere,   // changes no mapping
    enter,
    exit,
    unusable,  // changes mappings in a way that the trace has no row for
};
RowAt row_at(const Call& call);

// Whether the call's effects are ordered by the mmap lock of its address space, if it takes that
// for writing: all calls take it once for all they do, but MADV_COLLAPSE, which does several times.
// Advice that leaves the VMAs alone takes it for reading, or a VMA's own.
bool locks_mm(const Call& call);

// Whether a call that returned `-error` has changed something all the same: mprotect, mlock and
// munlock work up to the hole they meet, madvise passes over it, and mmap of shared huge pages has
// made its VMA before it fails.
bool failed_with_effect(const Call& call, i64 error);

// Whether the kernel reports the VMAs that the call makes or changes (perf_event_mmap()). Such a
// call touches no memory of its caller's, so that no fault's report comes in between.
bool reports_vmas(const Call& call);

// The row of a call that succeeded or failed_with_effect(); `result` as returned. Leaves time,
// task, file and path alone. For mmap, munmap, mremap, mprotect, brk, madvise, m(un)lock(all),
// mbind and prctl.
void describe(const Call& call, i64 result, Event& event);

constexpr bool makes_task(Sys sys) {
    return sys == Sys::clone || sys == Sys::fork || sys == Sys::vfork || sys == Sys::clone3;
}

// Linux returns errors as -4095..-1.
constexpr bool is_error(i64 result) { return result < 0 && result >= -4095; }

}  // namespace rmapreplay
