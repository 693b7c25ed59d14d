// SPDX-License-Identifier: GPL-2.0-only
// A slab cache: objects of one kind at stable addresses, with 4-byte handles. Allocating and
// freeing take constant time; what was freed last is handed out first. Memory stays with the pool.
#pragma once

#include <memory>
#include <type_traits>
#include <vector>

#include "rmap_models/native/vma.hpp"

namespace rmapreplay {

// Handle 0 is never given out, so it can say "none".
template <typename T, unsigned kChunkBits = 9>
class Pool {
    static_assert(std::is_trivially_destructible_v<T>);
    static constexpr u32 kChunk = u32{1} << kChunkBits;
    union Slot {
        Slot() {}  // memory is first touched when it is handed out
        T object;
        u32 next_free;
    };

  public:
    Pool() = default;
    Pool(const Pool&) = delete;
    Pool& operator=(const Pool&) = delete;

    // A value-initialised object.
    u32 alloc() {
        u32 handle = free_;
        if (handle) {
            free_ = slot(handle).next_free;
        } else {
            if (next_ >> kChunkBits == chunks_.size())
                chunks_.push_back(std::make_unique_for_overwrite<Slot[]>(kChunk));
            handle = next_++;
        }
        new (&slot(handle).object) T{};
        ++live_;
        return handle;
    }
    void free(u32 handle) {
        slot(handle).next_free = free_;
        free_ = handle;
        --live_;
    }
    T& operator[](u32 handle) { return slot(handle).object; }
    const T& operator[](u32 handle) const { return slot(handle).object; }
    std::size_t live() const { return live_; }
    std::size_t bytes() const { return chunks_.size() * sizeof(Slot) * kChunk; }

  private:
    Slot& slot(u32 handle) const { return chunks_[handle >> kChunkBits][handle & (kChunk - 1)]; }

    std::vector<std::unique_ptr<Slot[]>> chunks_;
    u32 next_ = 1;
    u32 free_ = 0;
    std::size_t live_ = 0;
};

}  // namespace rmapreplay
