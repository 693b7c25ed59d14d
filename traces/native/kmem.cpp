// SPDX-License-Identifier: GPL-2.0-only
#include "traces/native/kmem.hpp"

#include <algorithm>
#include <array>

namespace rmapreplay {
namespace {

constexpr u8 kVmAreaStruct = 0;
constexpr u8 kAnonVma = 1;
constexpr u8 kAnonVmaChain = 2;
constexpr u8 kNone = 3;
constexpr std::array<std::string_view, 3> kObjects = {"vm_area_struct", "anon_vma",
                                                      "anon_vma_chain"};
// The cache of anon_vma_chain is merged with others of its size, and that of vm_area_struct was
// before Linux 6.13; it may go by the name of any of them. These are the objects' own users.
constexpr std::array<std::string_view, 2> kVmaSites = {"vm_area_alloc", "vm_area_dup"};
constexpr std::array<std::string_view, 3> kChainSites = {"anon_vma_clone", "anon_vma_fork",
                                                         "__anon_vma_prepare"};
constexpr u8 kAlloc = 0;
constexpr u8 kFree = 1;

bool among(std::span<const std::string_view> names, std::string_view name) {
    return std::find(names.begin(), names.end(), name) != names.end();
}

u8 kind_of(std::string_view cache, std::string_view site) {
    site = site.substr(0, site.find('.'));  // gcc: NAME.part.0, NAME.isra.0
    if (cache == kObjects[kAnonVma]) return kAnonVma;  // never merged, for it has a constructor
    if (among(kVmaSites, site)) return kVmAreaStruct;
    return among(kChainSites, site) ? kAnonVmaChain : kNone;
}

// The value behind "key=", up to the next space.
std::string_view field(std::string_view body, std::string_view key) {
    std::size_t at = body.find(key);
    if (at == std::string_view::npos) return {};
    at += key.size();
    return body.substr(at, body.find(' ', at) - at);
}

// "NR 59 (...", "NR 59 = 0"
bool parse_call(Scan& scan, Sys& sys) {
    i64 number = 0;
    if (!scan.skip("NR ") || !scan.number(number)) return false;
    sys = static_cast<Sys>(number);
    return true;
}

bool is_exec(Sys sys) { return sys == Sys::execve || sys == Sys::execveat; }

bool is_clone(Sys sys) {
    return sys == Sys::clone || sys == Sys::clone3 || sys == Sys::fork || sys == Sys::vfork;
}

}  // namespace

KmemParser::KmemParser()
    : time_(table_.add_column<i64>("time")),
      pid_(table_.add_column<i32>("pid")),
      tid_(table_.add_column<i32>("tid")),
      object_(table_.add_dict8("object")),
      action_(table_.add_dict8("action")),
      id_(table_.add_column<u32>("id")),
      site_(table_.add_dict8("site")) {
    for (std::string_view name : kObjects) object_.code(name);
    action_.code("alloc");
    action_.code("free");
}

void KmemParser::finish() {
    lines_.finish([this](std::string_view line) { this->line(line); });
    release(0);
}

void KmemParser::line(std::string_view text) {
    ++line_count_;
    if (text.empty() || text.front() == '#') return;
    PerfLine parsed;
    if (!parse_perf_line(text, parsed) || !use(parsed)) dropped_.add("malformed_line");
}

bool KmemParser::use(const PerfLine& line) {
    const std::string_view event = line.event;
    if (event == "kmem:kmem_cache_alloc") return allocation(line);
    if (event == "kmem:kmem_cache_free") return free(line);
    if (event == "raw_syscalls:sys_enter") return sys_enter(line);
    if (event == "raw_syscalls:sys_exit") return sys_exit(line);
    if (event == "task:task_newtask") {
        const auto tid = last_field<i32>(line.body.substr(0, line.body.find(" comm=")), "pid=");
        if (!tid) return false;
        first_sight(line.task.tid);
        known_.insert(*tid);
        return true;
    }
    if (event == "PERF_RECORD_LOST" || event == "PERF_RECORD_LOST_SAMPLES") {
        const auto n = last_field<u64>(line.body, "lost ");
        if (n) lost_ += *n;
        return n.has_value();
    }
    if (!event.starts_with("PERF_RECORD_")) dropped_.add("event_" + std::string(event));
    return true;
}

bool KmemParser::sys_enter(const PerfLine& line) {
    Scan scan(line.body);
    Sys sys = Sys::none;
    if (!parse_call(scan, sys)) return false;
    if (!is_exec(sys) && !is_clone(sys)) return true;
    const Task task = line.task;
    first_sight(task.tid);
    // Without a return, the call before did what it was for.
    if (auto it = calls_.find(task.tid); it != calls_.end())
        settle(it->second.purpose, Fate::counts);
    calls_[task.tid] = {task.pid, begin()};
    return true;
}

bool KmemParser::sys_exit(const PerfLine& line) {
    Scan scan(line.body);
    Sys sys = Sys::none;
    i64 result = 0;
    if (!parse_call(scan, sys) || !scan.skip(" = ") || !scan.number(result)) return false;
    if (!is_exec(sys) && !is_clone(sys)) return true;
    const Task task = line.task;
    const bool new_program = is_exec(sys) && result == 0;
    if (auto it = calls_.find(task.tid); it != calls_.end()) {
        settle(it->second.purpose, result < 0 ? Fate::in_vain : Fate::counts);
        calls_.erase(it);
    }
    if (!new_program) return true;
    // If it was not the leader who called, it is now (de_thread()); no other is left.
    std::erase_if(calls_, [&](const auto& call) {
        if (call.second.pid != task.pid) return false;
        settle(call.second.purpose, Fate::counts);
        return true;
    });
    if (auto it = old_.find(task.tid); it != old_.end()) {
        settle(it->second, Fate::before_first_exec);
        old_.erase(it);
    }
    return true;
}

// "call_site=anon_vma_clone+0x5c ptr=0xffff.. name=anon_vma_chain .."
bool KmemParser::allocation(const PerfLine& line) {
    std::string_view site = field(line.body, "call_site=");
    site = site.substr(0, site.find('+'));
    const std::string_view cache = field(line.body, " name=");
    u64 address = 0;
    if (site.empty() || cache.empty() || !Scan(field(line.body, " ptr=")).hex(address))
        return false;

    const u8 kind = kind_of(cache, site);
    if (kind == kNone) {
        const bool shared = among(kObjects, cache);
        dropped_.add(shared ? "other_user_of_cache" : "object_" + std::string(cache));
        live_.erase(address);
        return true;
    }
    first_sight(line.task.tid);
    const Object object{kind, ++last_id_[kind], purpose_of(line.task.tid)};
    if (!live_.insert_or_assign(address, object).second) dropped_.add("free_not_seen");
    held_.push_back({line.time, line.task, object, kAlloc, site_.code(site)});
    release(kMostHeld);
    return true;
}

bool KmemParser::free(const PerfLine& line) {
    std::string_view site = field(line.body, "call_site=");
    site = site.substr(0, site.find('+'));
    u64 address = 0;
    if (site.empty() || !Scan(field(line.body, " ptr=")).hex(address)) return false;

    const auto it = live_.find(address);
    if (it == live_.end()) {  // another user's, or allocated before the capture began
        dropped_.add("freed_but_not_allocated");
        return true;
    }
    held_.push_back({line.time, line.task, it->second, kFree, site_.code(site)});
    live_.erase(it);
    release(kMostHeld);
    return true;
}

// A task that nobody made in the capture was there before.
void KmemParser::first_sight(i32 tid) {
    if (known_.insert(tid).second) old_[tid] = begin();
}

KmemParser::Purpose KmemParser::begin() {
    fates_.push_back(Fate::open);
    return static_cast<Purpose>(fates_.size() - 1);
}

KmemParser::Purpose KmemParser::purpose_of(i32 tid) const {
    if (auto it = calls_.find(tid); it != calls_.end()) return it->second.purpose;
    if (auto it = old_.find(tid); it != old_.end()) return it->second;
    return 0;
}

void KmemParser::settle(Purpose purpose, Fate fate) {
    if (fates_[purpose] == Fate::open) fates_[purpose] = fate;
    release(kMostHeld);
}

// Passes held rows on, up to the first that may not count; if more than `most` are held, it does.
void KmemParser::release(std::size_t most) {
    for (; !held_.empty(); held_.pop_front()) {
        const Row& row = held_.front();
        Fate& fate = fates_[row.object.purpose];
        if (fate == Fate::open) {
            if (held_.size() <= most) return;
            fate = Fate::counts;
        }
        switch (fate) {
            case Fate::in_vain: dropped_.add("of_failed_call"); break;
            case Fate::before_first_exec: dropped_.add("before_first_exec"); break;
            default: append(row);
        }
    }
}

void KmemParser::append(const Row& row) {
    time_.append(row.time);
    pid_.append(row.task.pid);
    tid_.append(row.task.tid);
    object_.append_code(row.object.kind);
    action_.append_code(row.action);
    id_.append(row.object.id);
    site_.append_code(row.site);
    ++rows_;
    freed_ += row.action == kFree;
}

}  // namespace rmapreplay
