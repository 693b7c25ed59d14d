// SPDX-License-Identifier: GPL-2.0-only
#include "traces/native/syscalls.hpp"

#include <algorithm>
#include <iterator>
#include <utility>

namespace rmapreplay {
namespace {

constexpr std::pair<Sys, std::string_view> kNames[] = {
    {Sys::mmap, "mmap"},
    {Sys::mprotect, "mprotect"},
    {Sys::munmap, "munmap"},
    {Sys::brk, "brk"},
    {Sys::mremap, "mremap"},
    {Sys::madvise, "madvise"},
    {Sys::shmat, "shmat"},
    {Sys::clone, "clone"},
    {Sys::fork, "fork"},
    {Sys::vfork, "vfork"},
    {Sys::execve, "execve"},
    {Sys::exit, "exit"},
    {Sys::shmdt, "shmdt"},
    {Sys::mlock, "mlock"},
    {Sys::munlock, "munlock"},
    {Sys::mlockall, "mlockall"},
    {Sys::munlockall, "munlockall"},
    {Sys::prctl, "prctl"},
    {Sys::remap_file_pages, "remap_file_pages"},
    {Sys::exit_group, "exit_group"},
    {Sys::mbind, "mbind"},
    {Sys::execveat, "execveat"},
    {Sys::userfaultfd, "userfaultfd"},
    {Sys::mlock2, "mlock2"},
    {Sys::pkey_mprotect, "pkey_mprotect"},
    {Sys::clone3, "clone3"},
    {Sys::process_madvise, "process_madvise"},
    {Sys::process_mrelease, "process_mrelease"},
    {Sys::set_mempolicy_home_node, "set_mempolicy_home_node"},
    {Sys::map_shadow_stack, "map_shadow_stack"},
    {Sys::mseal, "mseal"},
};

constexpr std::pair<i32, std::string_view> kErrors[] = {
    {1, "EPERM"},       {2, "ENOENT"},      {3, "ESRCH"},       {4, "EINTR"},
    {5, "EIO"},         {6, "ENXIO"},       {7, "E2BIG"},       {8, "ENOEXEC"},
    {9, "EBADF"},       {10, "ECHILD"},     {11, "EAGAIN"},     {12, "ENOMEM"},
    {13, "EACCES"},     {14, "EFAULT"},     {16, "EBUSY"},      {17, "EEXIST"},
    {18, "EXDEV"},      {19, "ENODEV"},     {20, "ENOTDIR"},    {21, "EISDIR"},
    {22, "EINVAL"},     {23, "ENFILE"},     {24, "EMFILE"},     {26, "ETXTBSY"},
    {27, "EFBIG"},      {28, "ENOSPC"},     {30, "EROFS"},      {36, "ENAMETOOLONG"},
    {38, "ENOSYS"},     {40, "ELOOP"},      {75, "EOVERFLOW"},  {80, "ELIBBAD"},
    {95, "EOPNOTSUPP"}, {110, "ETIMEDOUT"}, {133, "EHWPOISON"},
};

}  // namespace

std::span<const Sys> recorded_syscalls() {
    static const auto ids = [] {
        std::array<Sys, std::size(kNames)> all{};
        std::transform(std::begin(kNames), std::end(kNames), all.begin(),
                       [](const auto& known) { return known.first; });
        std::sort(all.begin(), all.end());
        return all;
    }();
    return ids;
}

std::string syscall_name(Sys sys) {
    for (const auto& [known, name] : kNames) {
        if (known == sys) return std::string(name);
    }
    return "syscall_" + std::to_string(static_cast<i64>(sys));
}

Sys syscall_by_name(std::string_view name) {
    for (const auto& [sys, known] : kNames) {
        if (known == name) return sys;
    }
    return Sys::none;
}

Sys syscall_by_number(i64 number) {
    const auto ids = recorded_syscalls();
    const Sys sys = static_cast<Sys>(number);
    return std::binary_search(ids.begin(), ids.end(), sys) ? sys : Sys::none;
}

std::string errno_name(i64 error) {
    for (const auto& [known, name] : kErrors) {
        if (known == error) return std::string(name);
    }
    return "errno_" + std::to_string(error);
}

i32 errno_by_name(std::string_view name) {
    for (const auto& [error, known] : kErrors) {
        if (known == name) return error;
    }
    return 0;
}

RowAt row_at(const Call& call) {
    switch (call.sys) {
        case Sys::mmap:
        case Sys::shmat: return RowAt::exit;
        case Sys::mprotect:
        case Sys::pkey_mprotect:
        case Sys::munmap:
        case Sys::shmdt:
        case Sys::brk:
        case Sys::mremap:
        case Sys::madvise:
        case Sys::mlock:
        case Sys::mlock2:
        case Sys::munlock:
        case Sys::mlockall:
        case Sys::munlockall:
        case Sys::mbind:
        case Sys::mseal: return RowAt::enter;
        case Sys::prctl:
            switch (call.args[0]) {
                case uapi::pr_set_vma:
                case uapi::pr_set_thp_disable:
                case uapi::pr_set_memory_merge: return RowAt::enter;
                default: return RowAt::nowhere;
            }
        case Sys::remap_file_pages:
        case Sys::process_madvise:
        case Sys::process_mrelease:
        case Sys::userfaultfd:
        case Sys::set_mempolicy_home_node:
        case Sys::map_shadow_stack: return RowAt::unusable;
        default: return RowAt::nowhere;
    }
}

bool locks_mm(const Call& call) {
    switch (row_at(call)) {
        case RowAt::nowhere:
        case RowAt::unusable: return false;
        case RowAt::enter:
        case RowAt::exit: return call.sys != Sys::madvise || call.args[2] != uapi::madv_collapse;
    }
    return false;
}

bool failed_with_effect(const Call& call, i64 error) {
    switch (call.sys) {
        case Sys::mprotect:
        case Sys::pkey_mprotect:
        case Sys::mlock:
        case Sys::mlock2:
        case Sys::munlock: return error == uapi::enomem;
        case Sys::madvise:
            return error == uapi::enomem || error == uapi::efault || error == uapi::ehwpoison;
        case Sys::mmap:  // no huge pages to reserve
            return error == uapi::enomem && (call.args[3] & uapi::map_hugetlb) != 0;
        default: return false;
    }
}

bool reports_vmas(const Call& call) {
    switch (call.sys) {
        case Sys::mmap:
        case Sys::shmat:
        case Sys::mprotect:
        case Sys::pkey_mprotect:
        case Sys::brk: return true;
        default: return false;
    }
}

void describe(const Call& call, i64 result, Event& event) {
    const auto& a = call.args;
    if (is_error(result)) event.error = static_cast<i32>(-result);
    switch (call.sys) {
        case Sys::mmap:
            event.op = Op::mmap;
            event.addr = is_error(result) ? 0 : static_cast<u64>(result);
            event.len = a[1];
            event.prot = static_cast<u32>(a[2]);
            event.flags = a[3];
            // fd and offset mean nothing to an anonymous mapping.
            if ((a[3] & uapi::map_anonymous) == 0) {
                event.fd = static_cast<i32>(a[4]);
                event.offset = a[5];
            }
            break;
        case Sys::munmap:
            event.op = Op::munmap;
            event.addr = a[0];
            event.len = a[1];
            break;
        case Sys::mremap:
            event.op = Op::mremap;
            event.addr = a[0];
            event.len = a[1];
            event.new_len = a[2];
            event.flags = a[3];
            event.new_addr = static_cast<u64>(result);
            break;
        case Sys::mprotect:
        case Sys::pkey_mprotect:
            event.op = Op::mprotect;
            event.addr = a[0];
            event.len = a[1];
            event.prot = static_cast<u32>(a[2]);
            break;
        case Sys::brk:
            event.op = Op::brk;
            event.addr = static_cast<u64>(result);
            break;
        case Sys::madvise:
            event.op = Op::madvise;
            event.addr = a[0];
            event.len = a[1];
            event.advice = static_cast<i32>(a[2]);
            break;
        case Sys::mlock:
        case Sys::mlock2:
            event.op = Op::mlock;
            event.addr = a[0];
            event.len = a[1];
            if (call.sys == Sys::mlock2) event.flags = a[2];
            break;
        case Sys::munlock:
            event.op = Op::munlock;
            event.addr = a[0];
            event.len = a[1];
            break;
        case Sys::mlockall:
            event.op = Op::mlockall;
            event.flags = a[0];
            break;
        case Sys::munlockall: event.op = Op::munlockall; break;
        case Sys::mbind:
            event.op = Op::mbind;
            event.addr = a[0];
            event.len = a[1];
            event.advice = static_cast<i32>(a[2]);
            event.flags = a[5];
            break;
        case Sys::mseal:
            event.op = Op::mseal;
            event.addr = a[0];
            event.len = a[1];
            break;
        case Sys::prctl:
            event.op = Op::prctl;
            event.flags = a[0];
            if (a[0] == uapi::pr_set_vma) {
                event.addr = a[2];
                event.len = a[3];
                event.new_addr = a[4];
            } else {
                event.addr = a[1];
            }
            break;
        default: break;
    }
}

}  // namespace rmapreplay
