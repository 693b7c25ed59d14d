// SPDX-License-Identifier: GPL-2.0-only
#include <cstring>
#include <string>
#include <vector>

#include "tests/native/check.hpp"
#include "traces/native/perf_records.hpp"

using namespace rmapreplay;

namespace {

template <class T>
void put(std::string& out, T value) {
    out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

std::string record(u32 type, std::vector<u64> body, u16 less = 0) {
    std::string out;
    put(out, type);
    put(out, u16{2});
    put(out, static_cast<u16>(8 + 8 * body.size() - less));
    for (u64 word : body) put(out, word);
    out.resize(out.size() - less);
    return out;
}

constexpr u64 kDataOffset = 300;

// A perf.data with these records; `size` as perf writes it, 0 while it records.
std::string perf_data(const std::string& records, u64 size = 0) {
    std::string out = "PERFILE2";
    for (u64 word : {u64{104}, u64{144}, u64{104}, u64{32}, kDataOffset, size}) put(out, word);
    out.resize(kDataOffset, '\x09');
    return out + records;
}

const std::string kSample = record(9, {1, 2, 3});
const std::string kMmap2 = record(10, {9, 9, 9, 9}, 3);

struct Counts {
    u64 samples;
    u64 lost;
    bool operator==(const Counts&) const = default;
};
Counts count(const std::string& file, std::size_t chunk) {
    PerfRecordCounter counter;
    for (std::size_t at = 0; at < file.size(); at += chunk) {
        counter.feed(std::string_view(file).substr(at, chunk));
    }
    return {counter.samples(), counter.lost()};
}

}  // namespace

TEST_CASE("perf records: samples and losses are counted wherever the bytes are cut") {
    const std::string file =
        perf_data(kMmap2 + kSample + record(2, {77, 5}) + kSample + record(13, {6, 99}) + kSample);
    for (std::size_t chunk = 1; chunk <= file.size(); ++chunk) {
        CHECK((count(file, chunk) == Counts{3, 6}));
    }
}

TEST_CASE("perf records: what was lost is told twice at most") {
    const std::string told = record(2, {77, 5}) + record(2, {78, 4});
    const std::string summed = record(13, {3, 99}) + record(13, {5, 98});
    CHECK((count(perf_data(kSample + told), 64) == Counts{1, 9}));
    CHECK((count(perf_data(kSample + summed), 64) == Counts{1, 8}));
    CHECK((count(perf_data(kSample + told + summed), 64) == Counts{1, 9}));
}

TEST_CASE("perf records: a record counts when it has begun, a loss when it has been told") {
    const std::string lost = record(2, {77, 5});
    PerfRecordCounter counter;
    counter.feed(perf_data(kSample.substr(0, 8)));
    CHECK(counter.samples() == 1u);
    counter.feed(kSample.substr(8) + lost.substr(0, 23));
    CHECK(counter.lost() == 0u);
    counter.feed(lost.substr(23));
    CHECK(counter.lost() == 5u);
}

TEST_CASE("perf records: what follows the records of a finished file is none") {
    const std::string records = kSample + kMmap2 + kSample;
    CHECK((count(perf_data(records, records.size()) + kSample, 64) == Counts{2, 0}));
    CHECK((count(perf_data(records) + kSample, 64) == Counts{3, 0}));
}

TEST_CASE("perf records: other files and damaged ones count as far as they go") {
    CHECK((count("", 1) == Counts{0, 0}));
    CHECK((count(std::string(4096, '\0'), 100) == Counts{0, 0}));
    CHECK((count("# text" + perf_data(kSample + kSample), 100) == Counts{0, 0}));
    CHECK((count(perf_data(kSample + std::string(64, '\0') + kSample), 100) == Counts{1, 0}));
    // A loss without a number.
    CHECK((count(perf_data(kSample + record(2, {77}) + kSample), 100) == Counts{1, 0}));
    std::string before_its_header = perf_data(kSample);
    before_its_header[40] = 8;
    before_its_header[41] = 0;
    CHECK((count(before_its_header, 100) == Counts{0, 0}));
}
