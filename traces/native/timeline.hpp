// SPDX-License-Identifier: GPL-2.0-only
// Rows in order of time, although some are known in full only later: a place is reserved when a
// system call is entered, and filled or cancelled when it returns. Rows leave in the order of their
// places; the oldest open place holds back all behind it.
#pragma once

#include <algorithm>
#include <deque>

#include "traces/native/event_table.hpp"

namespace rmapreplay {

class Timeline {
  public:
    using Place = u64;  // never 0
    static constexpr std::size_t kLongest = 1u << 20;

    explicit Timeline(EventTable& out) : out_(out) {}

    void push(Event event) {
        event.time = in_order(event.time);
        if (queue_.empty()) {
            out_.append(event);
        } else {
            queue_.push_back({event, State::ready});
            bound();
        }
    }
    Place reserve(i64 time) {
        Event event;
        event.time = in_order(time);
        queue_.push_back({event, State::open});
        return first_ + queue_.size() - 1;
    }
    // The row goes where the place is, at the time it was reserved for. False: the place was given
    // up in the meantime (see abandoned()).
    bool fill(Place place, Event event) {
        if (place < first_) return false;
        Row& row = queue_[place - first_];
        event.time = row.event.time;
        row = {event, State::ready};
        drain();
        return true;
    }
    void cancel(Place place) {
        if (place < first_) return;
        queue_[place - first_].state = State::cancelled;
        drain();
    }
    // Gives up every open place: nothing more is coming.
    void finish() {
        for (Row& row : queue_) {
            if (row.state == State::open) row.state = State::cancelled;
        }
        drain();
    }
    u64 abandoned() const { return abandoned_; }  // places given up: open for too long
    u64 went_back() const { return went_back_; }  // times that were earlier than the one before

  private:
    enum class State : u8 { open, ready, cancelled };
    struct Row {
        Event event;
        State state;
    };

    i64 in_order(i64 time) {
        if (time < last_) ++went_back_;
        return last_ = std::max(last_, time);
    }
    void drain() {
        while (!queue_.empty() && queue_.front().state != State::open) {
            if (queue_.front().state == State::ready) out_.append(queue_.front().event);
            queue_.pop_front();
            ++first_;
        }
    }
    // A call whose return was lost must not hold back the rest of the capture.
    void bound() {
        if (queue_.size() < kLongest || queue_.front().state != State::open) return;
        queue_.front().state = State::cancelled;
        ++abandoned_;
        drain();
    }

    EventTable& out_;
    std::deque<Row> queue_;
    Place first_ = 1;  // of queue_.front()
    i64 last_ = std::numeric_limits<i64>::min();
    u64 abandoned_ = 0;
    u64 went_back_ = 0;
};

}  // namespace rmapreplay
