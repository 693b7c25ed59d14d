// SPDX-License-Identifier: GPL-2.0-only
#include "traces/native/perf_records.hpp"

#include <algorithm>
#include <cstring>

namespace rmapreplay {
namespace {

// struct perf_file_header, tools/perf/util/header.h: where in it the section of records stands.
constexpr std::string_view kMagic = "PERFILE2";
constexpr std::size_t kDataOffset = 40;
constexpr std::size_t kDataSize = 48;

// struct perf_event_header, include/uapi/linux/perf_event.h
constexpr std::size_t kRecordHeader = 8;
constexpr std::size_t kRecordSize = 6;  // where its size stands
constexpr u32 PERF_RECORD_LOST = 2;     // header, u64 id, u64 lost
constexpr u32 PERF_RECORD_SAMPLE = 9;
constexpr u32 PERF_RECORD_LOST_SAMPLES = 13;  // header, u64 lost

}  // namespace

template <class T>
T PerfRecordCounter::at(std::size_t offset) const {
    T value;
    std::memcpy(&value, head_.data() + offset, sizeof value);
    return value;
}

void PerfRecordCounter::feed(std::string_view chunk) {
    while (!ended_ && !chunk.empty()) {
        if (skip_ > 0) {
            const auto n = static_cast<std::size_t>(std::min<u64>(skip_, chunk.size()));
            chunk.remove_prefix(n);
            skip_ -= n;
            continue;
        }
        const std::size_t n = std::min(want_ - have_, chunk.size());
        std::memcpy(head_.data() + have_, chunk.data(), n);
        chunk.remove_prefix(n);
        have_ += n;
        if (have_ < want_) return;
        if (in_records_) {
            record();
        } else {
            file_header();
        }
    }
}

void PerfRecordCounter::file_header() {
    const u64 begin = at<u64>(kDataOffset);
    ended_ = std::string_view(head_.data(), kMagic.size()) != kMagic || begin < have_;
    skip_ = begin - have_;
    left_ = at<u64>(kDataSize);
    in_records_ = true;
    have_ = 0;
    want_ = kRecordHeader;
}

void PerfRecordCounter::record() {
    const u32 type = at<u32>(0);
    const u64 size = at<u16>(kRecordSize);
    const std::size_t lost = type == PERF_RECORD_LOST           ? kRecordHeader + 8
                             : type == PERF_RECORD_LOST_SAMPLES ? kRecordHeader
                                                                : 0;
    if (have_ == kRecordHeader && lost > 0) {
        want_ = lost + 8;
        if (size >= want_) return;
    }
    if (size < want_) {
        ended_ = true;
        return;
    }
    if (type == PERF_RECORD_SAMPLE) ++samples_;
    if (type == PERF_RECORD_LOST) lost_records_ += at<u64>(lost);
    if (type == PERF_RECORD_LOST_SAMPLES) lost_samples_ += at<u64>(lost);
    skip_ = size - have_;
    have_ = 0;
    want_ = kRecordHeader;
    if (left_ > 0) {
        left_ -= std::min(left_, size);
        ended_ = left_ == 0;
    }
}

}  // namespace rmapreplay
