// SPDX-License-Identifier: GPL-2.0-only
// What holds from one event to another: values by key, and since when. Values may change many times
// within an event; only what differs between the ends of two events counts.
#pragma once

#include <algorithm>
#include <unordered_map>
#include <vector>

#include "traces/native/event.hpp"

namespace rmapreplay {

template <class Value>
class Spans {
    struct Span {
        Value value;
        u64 from;
        bool live;
        bool touched;  // in this event
    };

  public:
    void set(u64 key, const Value& value) {
        const auto [it, fresh] = spans_.try_emplace(key, Span{value, 0, false, false});
        touch(key, it->second);
        it->second.value = value;
        it->second.live = true;
    }
    void end(u64 key) {
        const auto it = spans_.find(key);
        if (it == spans_.end()) return;
        touch(key, it->second);
        it->second.live = false;
    }
    // The value now, or null.
    const Value* find(u64 key) const {
        const auto it = spans_.find(key);
        return it != spans_.end() && it->second.live ? &it->second.value : nullptr;
    }

    // The event of row `now` is over. Calls ended(key, value, from) for each span that ended by it.
    template <class F>
    void settle(u64 now, F&& ended) {
        for (const Touched& t : touched_) {
            Span& span = *t.span;
            span.touched = false;
            const bool same = t.lived && span.live && t.before == span.value;
            if (t.lived && !same) ended(t.key, t.before, span.from);
            if (!span.live)
                spans_.erase(t.key);
            else if (same)
                span.value = t.before;  // with what does not count
            else
                span.from = now;
        }
        touched_.clear();
    }
    // Calls open(key, value, from) for each span there is, by key.
    template <class F>
    void for_each(F&& open) const {
        std::vector<u64> keys;
        keys.reserve(spans_.size());
        for (const auto& [key, span] : spans_) keys.push_back(key);
        std::sort(keys.begin(), keys.end());
        for (const u64 key : keys) {
            const Span& span = spans_.at(key);
            open(key, span.value, span.from);
        }
    }
    std::size_t size() const { return spans_.size(); }  // between events

  private:
    struct Touched {
        u64 key;
        Span* span;  // a node of the map: it stays where it is
        Value before;
        bool lived;
    };
    void touch(u64 key, Span& span) {
        if (span.touched) return;
        span.touched = true;
        touched_.push_back({key, &span, span.value, span.live});
    }

    std::unordered_map<u64, Span> spans_;
    std::vector<Touched> touched_;
};

}  // namespace rmapreplay
