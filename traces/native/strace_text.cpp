// SPDX-License-Identifier: GPL-2.0-only
// How strace writes arguments.
#include <utility>

#include "traces/native/strace.hpp"

namespace rmapreplay {
namespace {

// Linux uapi names (x86-64) of the calls that a trace has rows for.
constexpr std::pair<std::string_view, u64> kNames[] = {
    {"NULL", 0},
    {"PROT_NONE", 0},
    {"PROT_READ", 1},
    {"PROT_WRITE", 2},
    {"PROT_EXEC", 4},
    {"PROT_SEM", 8},
    {"PROT_GROWSDOWN", 0x1000000},
    {"PROT_GROWSUP", 0x2000000},
    {"MAP_FILE", 0},
    {"MAP_SHARED", 1},
    {"MAP_PRIVATE", 2},
    {"MAP_SHARED_VALIDATE", 3},
    {"MAP_DROPPABLE", 8},
    {"MAP_FIXED", 0x10},
    {"MAP_ANONYMOUS", 0x20},
    {"MAP_32BIT", 0x40},
    {"MAP_GROWSDOWN", 0x100},
    {"MAP_DENYWRITE", 0x800},
    {"MAP_EXECUTABLE", 0x1000},
    {"MAP_LOCKED", 0x2000},
    {"MAP_NORESERVE", 0x4000},
    {"MAP_POPULATE", 0x8000},
    {"MAP_NONBLOCK", 0x10000},
    {"MAP_STACK", 0x20000},
    {"MAP_HUGETLB", 0x40000},
    {"MAP_SYNC", 0x80000},
    {"MAP_FIXED_NOREPLACE", 0x100000},
    {"MAP_HUGE_SHIFT", 26},
    {"MAP_HUGE_2MB", u64{21} << 26},
    {"MAP_HUGE_1GB", u64{30} << 26},
    {"MREMAP_MAYMOVE", 1},
    {"MREMAP_FIXED", 2},
    {"MREMAP_DONTUNMAP", 4},
    {"MLOCK_ONFAULT", 1},
    {"MCL_CURRENT", 1},
    {"MCL_FUTURE", 2},
    {"MCL_ONFAULT", 4},
    {"MADV_NORMAL", 0},
    {"MADV_RANDOM", 1},
    {"MADV_SEQUENTIAL", 2},
    {"MADV_WILLNEED", 3},
    {"MADV_DONTNEED", 4},
    {"MADV_FREE", 8},
    {"MADV_REMOVE", 9},
    {"MADV_DONTFORK", 10},
    {"MADV_DOFORK", 11},
    {"MADV_MERGEABLE", 12},
    {"MADV_UNMERGEABLE", 13},
    {"MADV_HUGEPAGE", 14},
    {"MADV_NOHUGEPAGE", 15},
    {"MADV_DONTDUMP", 16},
    {"MADV_DODUMP", 17},
    {"MADV_WIPEONFORK", 18},
    {"MADV_KEEPONFORK", 19},
    {"MADV_COLD", 20},
    {"MADV_PAGEOUT", 21},
    {"MADV_POPULATE_READ", 22},
    {"MADV_POPULATE_WRITE", 23},
    {"MADV_DONTNEED_LOCKED", 24},
    {"MADV_COLLAPSE", 25},
    {"MADV_HWPOISON", 100},
    {"MADV_SOFT_OFFLINE", 101},
    {"MADV_GUARD_INSTALL", 102},
    {"MADV_GUARD_REMOVE", 103},
    {"MPOL_DEFAULT", 0},
    {"MPOL_PREFERRED", 1},
    {"MPOL_BIND", 2},
    {"MPOL_INTERLEAVE", 3},
    {"MPOL_LOCAL", 4},
    {"MPOL_PREFERRED_MANY", 5},
    {"MPOL_WEIGHTED_INTERLEAVE", 6},
    {"MPOL_F_STATIC_NODES", 0x8000},
    {"MPOL_F_RELATIVE_NODES", 0x4000},
    {"MPOL_F_NUMA_BALANCING", 0x2000},
    {"MPOL_MF_STRICT", 1},
    {"MPOL_MF_MOVE", 2},
    {"MPOL_MF_MOVE_ALL", 4},
    {"SHM_RDONLY", 010000},
    {"SHM_RND", 020000},
    {"SHM_REMAP", 040000},
    {"SHM_EXEC", 0100000},
    {"PR_SET_VMA", 0x53564d41},
    {"PR_SET_VMA_ANON_NAME", 0},
    {"PR_SET_THP_DISABLE", 41},
    {"PR_SET_MEMORY_MERGE", 67},
    {"CLONE_NEWTIME", 0x80},
    {"CLONE_VM", 0x100},
    {"CLONE_FS", 0x200},
    {"CLONE_FILES", 0x400},
    {"CLONE_SIGHAND", 0x800},
    {"CLONE_PIDFD", 0x1000},
    {"CLONE_PTRACE", 0x2000},
    {"CLONE_VFORK", 0x4000},
    {"CLONE_PARENT", 0x8000},
    {"CLONE_THREAD", 0x10000},
    {"CLONE_NEWNS", 0x20000},
    {"CLONE_SYSVSEM", 0x40000},
    {"CLONE_SETTLS", 0x80000},
    {"CLONE_PARENT_SETTID", 0x100000},
    {"CLONE_CHILD_CLEARTID", 0x200000},
    {"CLONE_DETACHED", 0x400000},
    {"CLONE_UNTRACED", 0x800000},
    {"CLONE_CHILD_SETTID", 0x1000000},
    {"CLONE_NEWCGROUP", 0x2000000},
    {"CLONE_NEWUTS", 0x4000000},
    {"CLONE_NEWIPC", 0x8000000},
    {"CLONE_NEWUSER", 0x10000000},
    {"CLONE_NEWPID", 0x20000000},
    {"CLONE_NEWNET", 0x40000000},
    {"CLONE_IO", 0x80000000},
    {"CLONE_CLEAR_SIGHAND", 0x100000000},
    {"CLONE_INTO_CGROUP", 0x200000000},
};

bool one_number(std::string_view text, u64& value) {
    const std::size_t shift = text.find("<<");
    if (shift != std::string_view::npos) {
        u64 amount = 0;
        if (!one_number(text.substr(0, shift), value) ||
            !one_number(text.substr(shift + 2), amount) || amount > 63) {
            return false;
        }
        value <<= amount;
        return true;
    }
    if (text.empty()) return false;
    Scan scan(text);
    if (text.starts_with("0x")) return scan.hex(value) && scan.done();
    if (text.starts_with('-')) {
        i64 negative = 0;
        if (!scan.number(negative)) return false;
        value = static_cast<u64>(negative);
        return scan.done();
    }
    if (text.front() >= '0' && text.front() <= '9') {
        return scan.number(value, text.front() == '0' ? 8 : 10) && scan.done();
    }
    for (const auto& [name, number] : kNames) {
        if (name == text) {
            value = number;
            return true;
        }
    }
    return false;
}

}  // namespace

bool strace_number(std::string_view text, u64& value) {
    value = 0;
    if (const std::size_t comment = text.find(" /*"); comment != std::string_view::npos) {
        text = text.substr(0, comment);
    }
    if (text.empty()) return false;
    bool all = true;
    while (!text.empty()) {
        const std::size_t end = text.find('|');
        u64 part = 0;
        if (one_number(text.substr(0, end), part)) {
            value |= part;
        } else if (!text.starts_with("SIG")) {  // the exit signal among clone's flags
            all = false;
        }
        text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
    }
    return all;
}

std::vector<std::string_view> strace_arguments(std::string_view text) {
    std::vector<std::string_view> arguments;
    std::size_t start = 0;
    int depth = 0;
    bool quoted = false;
    for (std::size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (quoted) {
            if (c == '\\') {
                ++i;
            } else if (c == '"') {
                quoted = false;
            }
            continue;
        }
        switch (c) {
            case '"': quoted = true; break;
            case '(':
            case '[':
            case '{': ++depth; break;
            case ')':
            case ']':
            case '}': --depth; break;
            // A descriptor's path may hold anything but ends with ">, " or ">" at the end.
            case '<': {
                if (i == 0 || text[i - 1] < '0' || text[i - 1] > '9' || i + 1 == text.size() ||
                    text[i + 1] == '<') {
                    if (i + 1 < text.size() && text[i + 1] == '<') ++i;
                    break;
                }
                const std::size_t end = text.find(">, ", i);
                i = end == std::string_view::npos ? text.size() - 1 : end;
                break;
            }
            case ',':
                if (depth == 0) {
                    arguments.push_back(text.substr(start, i - start));
                    start = i + 1 < text.size() && text[i + 1] == ' ' ? i + 2 : i + 1;
                }
                break;
            default: break;
        }
    }
    if (start < text.size()) arguments.push_back(text.substr(start));
    return arguments;
}

}  // namespace rmapreplay
