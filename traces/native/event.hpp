// SPDX-License-Identifier: GPL-2.0-only
// One row of a trace: an operation that changed (or may have changed) what maps what.
// docs/trace-format.md describes the columns; this header is their one definition in code.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace rmapreplay {

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using i8 = std::int8_t;
using i32 = std::int32_t;
using i64 = std::int64_t;

// What happened. The order is the code used between reader and engine; files hold the names.
enum class Op : u8 {
    mmap,
    munmap,
    mremap,
    mprotect,
    brk,
    madvise,
    mlock,
    munlock,
    mlockall,
    munlockall,
    mbind,
    prctl,
    fork,
    exec,
    exit,
    exit_mmap,
    mapping,
    fault,
    populate,
    walk,
    dup_mmap,
    unmap_vmas,
    free_pgtables,
    swap_out,
    swap_in,
    discard,
    mseal,
};
inline constexpr std::array<std::string_view, 27> kOpNames = {
    "mmap",       "munmap",        "mremap",     "mprotect", "brk",      "madvise", "mlock",
    "munlock",    "mlockall",      "munlockall", "mbind",    "prctl",    "fork",    "exec",
    "exit",       "exit_mmap",     "mapping",    "fault",    "populate", "walk",    "dup_mmap",
    "unmap_vmas", "free_pgtables", "swap_out",   "swap_in",  "discard",  "mseal",
};

// Who took a fault: user code, the kernel on a user address, or another context
// (get_user_pages: FAULT_FLAG_REMOTE or a fault without an exception).
enum class Source : u8 { none, user, kernel, gup };
inline constexpr std::array<std::string_view, 4> kSourceNames = {"", "user", "kernel", "gup"};

// Which rmap walk: folio_referenced, try_to_unmap, try_to_migrate, and `all` for walks that
// never stop early (remove_migration_ptes).
enum class WalkKind : u8 { none, referenced, unmap, migrate, all };
inline constexpr std::array<std::string_view, 5> kWalkKindNames = {"", "referenced", "unmap",
                                                                   "migrate", "all"};

// The mappings that the kernel names itself; every other path reads as `none`.
enum class Special : u8 { none, stack, heap, vdso, vvar, vvar_vclock, uprobes };
inline constexpr std::array<std::string_view, 7> kSpecialNames = {
    "", "[stack]", "[heap]", "[vdso]", "[vvar]", "[vvar_vclock]", "[uprobes]"};

// Fields that an operation does not use stay at their default, which is how a null reads.
struct Event {
    i64 time = 0;       // ns since an arbitrary start, never decreasing
    Op op = Op::fault;  //
    i32 pid = 0;        // thread group (process) of the acting task
    i32 tid = 0;        // the acting task
    u64 addr = 0;  // bytes; mmap, mapping: where it is; brk: the break afterwards; mremap: old
    u64 len = 0;  // bytes, as passed; mremap: old length
    u64 new_addr = 0;  // mremap: where it is now
    u64 new_len = 0;  // mremap: new length
    u64 offset = 0;  // bytes: mmap, mapping: file offset; of [stack]: address before relocation
    u64 flags = 0;  // raw: MAP_*, MREMAP_*, CLONE_*, MLOCK_*, MCL_*; prctl: the option
    u64 vm_flags = 0;  // mapping: raw vm_flags where the capture had them, else 0
    u32 prot = 0;  // raw PROT_*
    i32 fd = -1;  // mmap
    u32 file = 0;  // struct file within this trace, 0: none
    i32 advice = 0;  // madvise: raw MADV_*; mbind: mode
    i32 child = 0;  // fork: thread group of the new task
    i32 child_tid = 0;  // fork: the new task
    i32 error = 0;  // errno of a failed call that had effects
    u32 path = 0;  // importers: index into their string table
    Special special = Special::none;
    bool write = false;  // fault, populate
    Source source = Source::none;  // fault
    i8 present = -1;  // fault: 1 the PTE was present, 0 it was not, -1 unknown
    u8 order = 0;  // fault: order of the folio, where the capture knew it
    WalkKind kind = WalkKind::none;
};

}  // namespace rmapreplay
