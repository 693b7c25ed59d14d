// SPDX-License-Identifier: GPL-2.0-only
#include "rmap_models/native/owned_info.hpp"

#include <algorithm>
#include <set>
#include <stdexcept>

namespace rmapreplay {

namespace {

// What the tables walks, operations and memory have columns of their own for.
constexpr std::string_view kWalks[] = {
    "walk", "seq",     "model",         "kind",          "folio",  "order",  "mapcount", "visits",
    "hits", "useless", "useless_empty", "useless_other", "misses", "levels", "stopped"};
constexpr std::string_view kOperations[] = {"seq", "model", "op", "pid"};
constexpr std::string_view kMemory[] = {"seq",    "time", "model", "bytes",
                                        "folios", "ptes", "mms",   "vm_area_struct"};

bool is_name(std::string_view text) {
    const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || c == '_'; };
    return !text.empty() && letter(text[0]) && std::all_of(text.begin(), text.end(), [&](char c) {
        return letter(c) || (c >= '0' && c <= '9');
    });
}

std::invalid_argument bad(std::string_view what, std::string_view name, const std::string& why) {
    return std::invalid_argument(std::string(what) + " '" + std::string(name) + "' " + why);
}

template <class Item>
void check_names(std::string_view what, const std::vector<Item>& items, std::size_t most,
                 std::span<const std::string_view> columns) {
    if (items.size() > most)
        throw std::invalid_argument("has " + std::to_string(items.size()) + " of " +
                                    std::string(what) + ", at most " + std::to_string(most) +
                                    " are counted");
    std::set<std::string_view> seen;
    for (const Item& item : items) {
        if (!is_name(item.name))
            throw bad(what, item.name, "is not made of a-z, 0-9 and _, a letter first");
        if (std::find(columns.begin(), columns.end(), item.name) != columns.end())
            throw bad(what, item.name, "is what a column is called that every model has");
        if (!seen.insert(item.name).second) throw bad(what, item.name, "is there twice");
    }
}

void check_locks(std::string_view what, const std::vector<Counter>& counters,
                 const std::vector<LockClass>& locks) {
    for (const Counter& counter : counters) {
        const auto named = [&](const LockClass& lock) { return lock.name == counter.lock; };
        if (!counter.lock.empty() && std::none_of(locks.begin(), locks.end(), named))
            throw bad(what, counter.name,
                      "counts lock '" + std::string(counter.lock) + "', which is none of locks");
    }
}

}  // namespace

const ModelInfo& OwnedInfo::finish() {
    check_names("objects", objects, kMaxObjects - 1, kMemory);
    check_names("walk_counters", walk_counters, kMaxCounters, kWalks);
    check_names("op_counters", op_counters, kMaxCounters, kOperations);
    if (sites.size() > kMaxSites - kMachineSites)
        throw std::invalid_argument("has " + std::to_string(sites.size()) + " sites, at most " +
                                    std::to_string(kMaxSites - kMachineSites) + " are counted");
    check_locks("walk_counters", walk_counters, locks);
    check_locks("op_counters", op_counters, locks);
    for (const ObjectKind& kind : objects)
        if (kind.bytes == 0) throw bad("objects", kind.name, "has no bytes");
    info_ = {name, doc, params, objects, walk_counters, op_counters, sites, locks, needs};
    return info_;
}

CostClass cost_class(std::string_view name) {
    const auto found = std::find(kCostClassNames.begin(), kCostClassNames.end(), name);
    if (found != kCostClassNames.end())
        return static_cast<CostClass>(found - kCostClassNames.begin());
    std::string known;
    for (const std::string_view each : kCostClassNames)
        known += (known.empty() ? "" : ", ") + std::string(each);
    throw std::invalid_argument("cost '" + std::string(name) + "' is not one of " + known);
}

}  // namespace rmapreplay
