// SPDX-License-Identifier: GPL-2.0-only
// Rows in order of time, although some are known in full only later: a place is reserved when a
// system call is entered, and filled or cancelled when it returns. Rows leave in the order of their
// places; the oldest open place holds back all behind it. The VMAs that a row's call or fault was
// reported to have made go with it.
#pragma once

#include <algorithm>
#include <deque>
#include <utility>
#include <vector>

#include "traces/native/event_table.hpp"
#include "traces/native/mapped_table.hpp"

namespace rmapreplay {

class Timeline {
  public:
    using Place = u64;  // never 0
    using Reported = std::vector<ReportedVma>;
    static constexpr std::size_t kLongest = 1u << 20;

    // The last `linger` rows stay, so that report() can still reach them.
    explicit Timeline(EventTable& out, MappedTable* mapped = nullptr, std::size_t linger = 0)
        : out_(out), mapped_(mapped), linger_(linger) {}

    Place push(Event event, Reported reported = {}) {
        event.time = in_order(event.time);
        if (queue_.empty() && linger_ == 0) {
            emit({event, State::ready, std::move(reported)});
            return first_++;
        }
        queue_.push_back({event, State::ready, std::move(reported)});
        const Place place = first_ + queue_.size() - 1;
        drain();
        bound();
        return place;
    }
    Place reserve(i64 time) {
        Event event;
        event.time = in_order(time);
        queue_.push_back({event, State::open, {}});
        return first_ + queue_.size() - 1;
    }
    // The row goes where the place is, at the time it was reserved for. False: the place was given
    // up in the meantime (see abandoned()).
    bool fill(Place place, Event event, Reported reported = {}) {
        if (place < first_) return false;
        Row& row = queue_[place - first_];
        event.time = row.event.time;
        row = {event, State::ready, std::move(reported)};
        drain();
        return true;
    }
    void cancel(Place place) {
        if (place < first_) return;
        queue_[place - first_].state = State::cancelled;
        drain();
    }
    // Another VMA that the row at `place` made. False: it has left.
    bool report(Place place, ReportedVma vma) {
        if (place < first_) return false;
        queue_[place - first_].reported.push_back(vma);
        return true;
    }
    // The row at `place` belongs behind all that came since, at `time`. Where it is then; 0: it has
    // left.
    Place postpone(Place place, i64 time) {
        if (place < first_) return 0;
        if (place == first_ + queue_.size() - 1) return place;
        Row& row = queue_[place - first_];
        Event event = row.event;
        Reported reported = std::move(row.reported);
        row.state = State::cancelled;
        event.time = time;
        return push(event, std::move(reported));
    }
    // Gives up every open place: nothing more is coming.
    void finish() {
        linger_ = 0;
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
        Reported reported;
    };

    i64 in_order(i64 time) {
        if (time < last_) ++went_back_;
        return last_ = std::max(last_, time);
    }
    void emit(const Row& row) {
        if (row.state != State::ready) return;
        out_.append(row.event);
        if (!mapped_) return;
        for (const ReportedVma& vma : row.reported) mapped_->append(row.event, vma);
    }
    void drain() {
        while (queue_.size() > linger_ && queue_.front().state != State::open) {
            emit(queue_.front());
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
    MappedTable* mapped_;
    std::size_t linger_;
    std::deque<Row> queue_;
    Place first_ = 1;  // of queue_.front()
    i64 last_ = std::numeric_limits<i64>::min();
    u64 abandoned_ = 0;
    u64 went_back_ = 0;
};

}  // namespace rmapreplay
