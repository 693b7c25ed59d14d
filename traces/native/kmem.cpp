// SPDX-License-Identifier: GPL-2.0-only
#include "traces/native/kmem.hpp"

#include <algorithm>

namespace rmapreplay {
namespace {

constexpr std::array<std::string_view, 3> kObjects = {"vm_area_struct", "anon_vma",
                                                      "anon_vma_chain"};
constexpr u8 kAnonVmaChain = 2;
// The cache of anon_vma_chain is merged with others of its size: these are its own users.
constexpr std::array<std::string_view, 3> kChainSites = {"anon_vma_clone", "anon_vma_fork",
                                                         "__anon_vma_prepare"};
constexpr u8 kAlloc = 0;
constexpr u8 kFree = 1;

// The value behind "key=", up to the next space.
std::string_view field(std::string_view body, std::string_view key) {
    std::size_t at = body.find(key);
    if (at == std::string_view::npos) return {};
    at += key.size();
    return body.substr(at, body.find(' ', at) - at);
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

void KmemParser::line(std::string_view text) {
    ++line_count_;
    if (text.empty() || text.front() == '#') return;
    PerfLine parsed;
    if (!parse_perf_line(text, parsed) || !use(parsed)) dropped_.add("malformed_line");
}

// "call_site=anon_vma_clone+0x5c ptr=0xffff.. name=anon_vma_chain .."
bool KmemParser::use(const PerfLine& line) {
    const bool alloc = line.event == "kmem:kmem_cache_alloc";
    if (!alloc && line.event != "kmem:kmem_cache_free") {
        dropped_.add("event_" + std::string(line.event));
        return true;
    }
    std::string_view site = field(line.body, "call_site=");
    site = site.substr(0, site.find('+'));
    const std::string_view name = field(line.body, " name=");
    u64 address = 0;
    Scan pointer(field(line.body, " ptr="));
    if (site.empty() || name.empty() || !pointer.hex(address)) return false;

    const auto kind = std::find(kObjects.begin(), kObjects.end(), name);
    if (kind == kObjects.end()) {
        dropped_.add("object_" + std::string(name));
        return true;
    }
    const u8 code = static_cast<u8>(kind - kObjects.begin());
    if (alloc) {
        if (code == kAnonVmaChain &&
            std::find(kChainSites.begin(), kChainSites.end(), site) == kChainSites.end()) {
            dropped_.add("other_user_of_cache");
            live_.erase(address);
            return true;
        }
        const Object object{code, ++last_id_[code]};
        if (!live_.insert_or_assign(address, object).second) dropped_.add("free_not_seen");
        append(line, object, kAlloc, site);
        return true;
    }
    const auto it = live_.find(address);
    if (it == live_.end()) {  // another user's, or allocated before the capture began
        dropped_.add("freed_but_not_allocated");
        return true;
    }
    append(line, it->second, kFree, site);
    live_.erase(it);
    return true;
}

void KmemParser::append(const PerfLine& line, const Object& object, u8 action,
                        std::string_view site) {
    time_.append(line.time);
    pid_.append(line.task.pid);
    tid_.append(line.task.tid);
    object_.append_code(object.kind);
    action_.append_code(action);
    id_.append(object.id);
    site_.append(site);
    ++rows_;
}

}  // namespace rmapreplay
