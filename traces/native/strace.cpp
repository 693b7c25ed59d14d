// SPDX-License-Identifier: GPL-2.0-only
#include "traces/native/strace.hpp"

#include <algorithm>

namespace rmapreplay {
namespace {

constexpr std::string_view kUnfinished = " <unfinished ...>";
constexpr std::string_view kDetached = " <detached ...>";
constexpr u64 kCloneVfork = 0x4100;  // vfork(): CLONE_VFORK | CLONE_VM

u64 clone_flags(Sys sys, std::string_view arguments) {
    if (sys == Sys::vfork) return kCloneVfork;
    u64 flags = 0;
    if (const std::size_t at = arguments.find("flags="); at != std::string_view::npos) {
        const std::string_view text = arguments.substr(at + 6);
        strace_number(text.substr(0, text.find_first_of(",})")), flags);
    }
    return flags & ~u64{0xff};  // kernel_clone_args keeps the exit signal apart
}

// mmap2 is i386's, whose offset strace prints in bytes.
Sys syscall_of(std::string_view name) {
    return name == "mmap2" ? Sys::mmap : syscall_by_name(name);
}

// A quoted string as strace prints it, unescaped.
std::string unquote(std::string_view text) {
    std::string out;
    if (!text.starts_with('"')) return out;
    for (std::size_t i = 1; i < text.size() && text[i] != '"'; ++i) {
        if (text[i] != '\\' || i + 1 == text.size()) {
            out += text[i];
            continue;
        }
        ++i;
        unsigned value = 0;
        std::size_t digits = 0;
        while (digits < 3 && i + digits < text.size() && text[i + digits] >= '0' &&
               text[i + digits] <= '7') {
            value = value * 8 + static_cast<unsigned>(text[i + digits] - '0');
            ++digits;
        }
        if (digits > 0) {
            out += static_cast<char>(value);
            i += digits - 1;
        } else {
            out += text[i] == 'n' ? '\n' : text[i] == 't' ? '\t' : text[i];
        }
    }
    return out;
}

// "0x7f51c8fe7000", "0", "-1 ENOENT (No such file or directory)", "?" as the kernel returned it.
bool parse_result(std::string_view text, i64& result) {
    Scan scan(text);
    if (text.starts_with("0x")) {
        u64 value = 0;
        if (!scan.hex(value)) return false;
        result = static_cast<i64>(value);
        return true;
    }
    if (!scan.number(result)) return false;
    if (result != -1) return true;
    scan.spaces();
    const std::string_view name = scan.rest().substr(0, scan.rest().find(' '));
    const i32 error = errno_by_name(name);
    result = error ? -error : -1;
    return true;
}

}  // namespace

void StraceParser::line(std::string_view text) {
    ImportStats& stats = history_.stats();
    ++stats.lines;
    if (text.empty()) return;
    Scan scan(text);
    i32 tid = 0;
    i64 time = 0;
    // "23136 1795387327.104944 " or, on a terminal, "[pid 23136] 1795387327.104944 ".
    const bool terminal = scan.skip("[pid ");
    if (terminal) scan.spaces();
    bool good = scan.number(tid) && (!terminal || scan.skip("]"));
    scan.spaces();
    good = good && scan.seconds(time) && scan.skip(" ");
    if (!good) {
        // The first task of a terminal log has no pid; it cannot be told from the others.
        stats.dropped.add("malformed_line");
        return;
    }
    if (!held_.empty() || parent_unclear(tid)) {
        hold(time, tid, scan.rest());
    } else if (!use(time, tid, scan.rest())) {
        stats.dropped.add("malformed_line");
    }
}

// The last line, without a newline: strace was killed, or told to let go, while a call went on.
void StraceParser::cut_short(std::string_view text) {
    const bool call = text.find('(') != std::string_view::npos;
    const bool returned = text.find(" = ") != std::string_view::npos || text.ends_with("...>");
    if (!call || returned) return line(text);
    line(std::string(text) + std::string(kUnfinished));
}

// A task never seen was made by a clone that has not returned yet; there may be several such.
bool StraceParser::parent_unclear(i32 tid) const {
    return cloning_.size() > 1 && !pids_.contains(tid) && !parents_.contains(tid);
}

void StraceParser::hold(i64 time, i32 tid, std::string_view rest) {
    held_.push_back({time, tid, std::string(rest)});
    Scan scan(rest);
    std::string_view name;
    if (scan.skip("<... ") && scan.until(' ', name) && makes_task(syscall_by_name(name))) {
        if (const auto child = last_field<i32>(rest, " = "); child && *child > 0) {
            parents_[*child] = tid;
        }
    }
    release(kMostHeld);
}

// Uses held lines up to the first whose task is still unclear, and beyond it if more than `most`
// lines wait.
void StraceParser::release(std::size_t most) {
    while (!held_.empty() && (held_.size() > most || !parent_unclear(held_.front().tid))) {
        const Held held = std::move(held_.front());
        held_.pop_front();
        if (!use(held.time, held.tid, held.rest)) history_.stats().dropped.add("malformed_line");
    }
    if (held_.empty()) parents_.clear();
}

bool StraceParser::use(i64 time, i32 tid, std::string_view rest) {
    if (rest.starts_with("--- ")) return true;  // a signal
    const Task task = task_of(time, tid);
    if (rest.starts_with("+++ ")) return status(time, task, rest);
    if (rest.starts_with("<... ")) {
        Scan scan(rest.substr(5));
        std::string_view name;
        if (!scan.until(' ', name) || !scan.skip("resumed>")) return false;
        auto it = pending_.find(tid);
        if (it == pending_.end() || it->second.name != name) {
            ++history_.stats().unmatched_exits;
            return true;
        }
        // What follows is the rest of the arguments and the result.
        const std::string text = it->second.text + std::string(scan.rest());
        const std::size_t end = text.rfind(" = ");
        if (end == std::string::npos) return false;
        std::string_view arguments = std::string_view(text).substr(0, end);
        arguments = arguments.substr(0, arguments.rfind(')'));
        const std::string result = text.substr(end + 3);
        const std::string called(name);
        return complete(time, task, called, arguments, result);
    }
    Scan scan(rest);
    std::string_view name;
    if (!scan.until('(', name)) return false;
    history_.stats().events.add(name);
    for (std::string_view mark : {kUnfinished, kDetached}) {
        if (!rest.ends_with(mark)) continue;
        std::string_view arguments = scan.rest();
        arguments.remove_suffix(mark.size());
        return unfinished(time, task, name, arguments);
    }
    // "mmap(NULL, 8192) = 0x7f..", padded before the =; the last " = " belongs to the result.
    const std::string_view text = scan.rest();
    const std::size_t end = text.rfind(" = ");
    if (end == std::string_view::npos) return false;
    std::string_view arguments = text.substr(0, end);
    arguments = arguments.substr(0, arguments.rfind(')'));
    enter(time, task, syscall_of(name), arguments);
    return complete(time, task, name, arguments, text.substr(end + 3));
}

bool StraceParser::unfinished(i64 time, Task task, std::string_view name,
                              std::string_view arguments) {
    const Sys sys = syscall_of(name);
    Unfinished& call = pending_[task.tid];
    call = {std::string(name), std::string(arguments), 0, 0};
    if (makes_task(sys)) {
        call.clone_flags = clone_flags(sys, arguments);
        cloning_.push_back(task.tid);
    }
    enter(time, task, sys, arguments);
    return true;
}

bool StraceParser::complete(i64 time, Task task, std::string_view name, std::string_view arguments,
                            std::string_view result_text) {
    const Sys sys = syscall_of(name);
    i32 child_seen = 0;
    if (auto it = pending_.find(task.tid); it != pending_.end()) {
        child_seen = it->second.child;
    }
    std::erase(cloning_, task.tid);
    i64 result = 0;
    const bool returned = parse_result(result_text, result);
    if (returned) {
        if (makes_task(sys) && result > 0 && child_seen == 0) {
            made(time, task, static_cast<i32>(result), clone_flags(sys, arguments));
        } else if (makes_task(sys) && child_seen != 0 && result != child_seen) {
            history_.stats().dropped.add("wrong_parent_guessed");
        }
        leave(time, task, sys, arguments, result);
    }
    pending_.erase(task.tid);
    return returned || result_text.starts_with('?');
}

void StraceParser::enter(i64 time, Task task, Sys sys, std::string_view arguments) {
    if (sys == Sys::none) return;
    Call call;
    call.sys = sys;
    const auto texts = strace_arguments(arguments);
    bool numbers = true;
    for (std::size_t i = 0; i < std::min(texts.size(), call.args.size()); ++i) {
        std::string_view text = texts[i];
        if (const std::size_t path = text.find('<');  // "3</etc/ld.so.cache>"
            path != std::string_view::npos && !text.substr(path).starts_with("<<")) {
            text = text.substr(0, path);
        }
        if (!strace_number(text, call.args[i])) numbers = false;
    }
    // The node mask of mbind and the name of PR_SET_VMA print as more than a number.
    if (!numbers && row_at(call) != RowAt::nowhere && sys != Sys::mbind && sys != Sys::prctl) {
        history_.stats().dropped.add("unknown_argument_of_" + syscall_name(sys));
    }
    history_.enter(time, task, call);
}

void StraceParser::leave(i64 time, Task task, Sys sys, std::string_view arguments, i64 result) {
    if (sys == Sys::none) return;
    if ((sys == Sys::execve || sys == Sys::execveat) && result == 0) {
        const auto texts = strace_arguments(arguments);
        const std::size_t at = sys == Sys::execveat ? 1 : 0;
        history_.comm_exec(time, task);
        history_.exec_done(time, task, at < texts.size() ? unquote(texts[at]) : "");
        history_.stats().dropped.add("mappings_of_exec");
    } else if (sys == Sys::mmap && !is_error(result)) {
        report_mapping(time, task, arguments, result);
    }
    history_.exit(time, task, sys, result);
}

// With -y the path tells which file a descriptor is; the inode stays unknown.
void StraceParser::report_mapping(i64 time, Task task, std::string_view arguments, i64 result) {
    const auto texts = strace_arguments(arguments);
    if (texts.size() < 5) return;
    const std::string_view fd = texts[4];
    const std::size_t open = fd.find('<');
    const std::size_t close = fd.rfind('>');
    if (open == std::string_view::npos || close == std::string_view::npos || close <= open) return;
    Mapping mapping;
    mapping.addr = static_cast<u64>(result);
    strace_number(texts[1], mapping.len);
    mapping.path = mapping.identity = fd.substr(open + 1, close - open - 1);
    history_.mapped(time, task, mapping);
}

bool StraceParser::status(i64 time, Task task, std::string_view text) {
    // "+++ superseded by execve in pid 23137 +++": the leader is gone, that thread takes its tid.
    if (text.starts_with("+++ superseded")) {
        const auto by = last_field<i32>(text, "pid ");
        if (!by) return false;
        if (auto it = pending_.find(*by); it != pending_.end()) {
            Unfinished call = std::move(it->second);
            pending_.erase(it);
            pending_[task.tid] = std::move(call);
        }
        history_.task_exit(time, task);
        pids_.erase(*by);
        return true;
    }
    if (!text.starts_with("+++ exited") && !text.starts_with("+++ killed")) return false;
    history_.task_exit(time, task);
    pending_.erase(task.tid);
    std::erase(cloning_, task.tid);
    pids_.erase(task.tid);
    return true;
}

void StraceParser::made(i64 time, Task parent, i32 child, u64 flags) {
    pids_[child] = (flags & uapi::clone_thread) != 0 ? parent.pid : child;
    history_.new_task(time, parent, child, flags);
}

// The thread group of a task; see parent_unclear().
Task StraceParser::task_of(i64 time, i32 tid) {
    if (auto it = pids_.find(tid); it != pids_.end()) return {it->second, tid};
    if (cloning_.empty()) {
        pids_[tid] = tid;
        return {tid, tid};
    }
    auto made_by = cloning_.begin();
    if (auto it = parents_.find(tid); it != parents_.end()) {
        made_by = std::find(cloning_.begin(), cloning_.end(), it->second);
        if (made_by == cloning_.end()) made_by = cloning_.begin();
    } else if (cloning_.size() > 1) {
        history_.stats().dropped.add("parent_guessed");
    }
    const i32 parent = *made_by;
    cloning_.erase(made_by);
    Unfinished& call = pending_[parent];
    call.child = tid;
    made(time, {pids_[parent], parent}, tid, call.clone_flags);
    return {pids_[tid], tid};
}

}  // namespace rmapreplay
