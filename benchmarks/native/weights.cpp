// SPDX-License-Identifier: GPL-2.0-only
// What the things that models count take on this machine, as the weights of a cost model
// (docs/cost-models.md). One line per figure on stdout: its name, a tab, nanoseconds.
//
//   weights BYTES    what is touched lies scattered over so many bytes: 262144 keeps it in a core's
//                    own cache, 536870912 in memory, with misses of the TLB
//
// Each figure is the least of several runs: what else the machine does only adds.
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <numeric>
#include <vector>

#include "rmap_models/native/interval_tree.hpp"

using rmapreplay::IntervalNode;
using rmapreplay::IntervalTree;
using rmapreplay::u64;

namespace {

constexpr int kRounds = 9;
constexpr std::size_t kTouches = 1 << 20;

class Random {
  public:
    u64 operator()() {
        state_ ^= state_ << 13;
        state_ ^= state_ >> 7;
        return state_ ^= state_ << 17;
    }
    std::size_t below(std::size_t n) { return (*this)() % n; }

  private:
    u64 state_ = 0x9e3779b97f4a7c15u;
};

// The least time per touch of several runs of `touch_all`, which touches kTouches times.
void measure(const char* name, const std::function<void()>& touch_all) {
    using Clock = std::chrono::steady_clock;
    double least = 1e18;
    for (int round = 0; round < kRounds; ++round) {
        const auto start = Clock::now();
        touch_all();
        const std::chrono::duration<double, std::nano> took = Clock::now() - start;
        least = std::min(least, took.count() / kTouches);
    }
    std::printf("%s\t%.1f\n", name, least);
}

struct alignas(64) Line {
    Line* next;
    std::atomic<u64> word;  // even
};

struct Node : IntervalNode {
    char rest[64 - sizeof(IntervalNode) % 64];
};

// In huge pages where they can be had: so the kernel maps its own memory.
template <class T>
class Room {
  public:
    explicit Room(std::size_t n) : size_(n) {
        constexpr std::size_t kHuge = 2 << 20;
        const std::size_t bytes = (n * sizeof(T) + kHuge - 1) / kHuge * kHuge;
        memory_ = std::aligned_alloc(kHuge, bytes);
        madvise(memory_, bytes, MADV_HUGEPAGE);
        std::memset(memory_, 0, bytes);
    }
    Room(const Room&) = delete;
    ~Room() { std::free(memory_); }
    T& operator[](std::size_t i) { return static_cast<T*>(memory_)[i]; }
    std::size_t size() const { return size_; }

  private:
    std::size_t size_;
    void* memory_;
};

std::vector<u64> shuffled(std::size_t n, Random& random) {
    std::vector<u64> order(n);
    std::iota(order.begin(), order.end(), u64{0});
    for (std::size_t i = n - 1; i > 0; --i) std::swap(order[i], order[random.below(i + 1)]);
    return order;
}

// Each line leads to the next, in random order. `touch` returns 0, which its reader cannot know: so
// one touch must be over before the next begins.
void reads(std::size_t bytes, Random& random) {
    Room<Line> lines(bytes / sizeof(Line));
    const std::vector<u64> order = shuffled(lines.size(), random);
    for (std::size_t i = 0; i < order.size(); ++i)
        lines[order[i]].next = &lines[order[(i + 1) % order.size()]];
    Line* at = &lines[0];
    const auto chase = [&](auto touch) {
        return [&at, touch] {
            for (std::size_t i = 0; i < kTouches; ++i) at = at->next + touch(*at);
            // The end of the way is needed, so the way is.
            if (!at) std::abort();
        };
    };
    measure("read", chase([](Line&) { return 0; }));
    // Before that of counts, which leaves them.
    measure("read_and_lock", chase([](Line& line) {
                u64 free = 0;
                line.word.compare_exchange_strong(free, 1, std::memory_order_acquire);
                line.word.store(0, std::memory_order_release);
                return free;
            }));
    measure("read_and_count", chase([](Line& line) { return line.word.fetch_add(2) & 1; }));
}

// An index in which something is changed: trees of eight.
void changes(std::size_t bytes, Random& random) {
    constexpr std::size_t kTree = 8;
    Room<Node> nodes(bytes / sizeof(Node));
    const std::vector<u64> order = shuffled(nodes.size(), random);
    std::vector<IntervalTree<Node>> trees(nodes.size() / kTree);
    for (std::size_t i = 0; i < trees.size() * kTree; ++i) {
        Node& node = nodes[order[i]];
        node.start = random.below(1000);
        node.last = node.start + random.below(100);
        trees[i / kTree].insert(&node);
    }
    measure("insert_or_erase", [&] {
        for (std::size_t i = 0; i < kTouches / 2; ++i) {
            const std::size_t which = random.below(trees.size() * kTree);
            trees[which / kTree].erase(&nodes[order[which]]);
            trees[which / kTree].insert(&nodes[order[which]]);
        }
    });
}

// An allocation or a free: objects of the sizes that models have, freed in another order than made.
void allocations(std::size_t bytes, Random& random) {
    constexpr std::size_t kSizes[] = {64, 96, 104, 192};
    std::vector<void*> live(std::max<std::size_t>(64, bytes / 128));
    for (void*& object : live) object = std::malloc(kSizes[random.below(4)]);
    measure("allocate_or_free", [&] {
        for (std::size_t i = 0; i < kTouches / 2; ++i) {
            void*& object = live[random.below(live.size())];
            std::free(object);
            object = std::malloc(kSizes[random.below(4)]);
            *static_cast<volatile char*>(object) = 1;
        }
    });
    for (void* object : live) std::free(object);
}

}  // namespace

int main(int argc, char** argv) {
    const std::size_t bytes = argc == 2 ? std::strtoull(argv[1], nullptr, 10) : 0;
    if (bytes < 4096) {
        std::fprintf(stderr, "usage: weights BYTES (at least 4096)\n");
        return 2;
    }
    Random random;
    reads(bytes, random);
    changes(bytes, random);
    allocations(bytes, random);
}
