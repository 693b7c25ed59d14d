// SPDX-License-Identifier: GPL-2.0-only
// Which process an mm_struct pointer stands for, at this point of a tracefs capture.
#pragma once

#include <deque>
#include <unordered_map>

#include "traces/native/event.hpp"

namespace rmapreplay {

// One mm_struct of a traced process, from allocation to exit_mmap() and the frees that follow it.
struct TracefsMm {
    enum class State : u8 {
        bprm,    // execve builds it; nobody runs in it yet
        forked,  // dup_mmap() fills it; the child has no number yet
        live,
        dead,    // exit_mmap() has begun, or the fork or exec failed
    };
    u32 serial = 0;  // order of creation, from 1
    i32 pid = 0;     // the process that uses it; 0 while forked
    u32 users = 0;   // processes, when live
    State state = State::bprm;
};

class TracefsMms {
  public:
    // nullptr: not of a traced process. Dead ones are found until their pointer is used again.
    TracefsMm* find(u64 pointer) {
        if (pointer == last_pointer_) return last_;
        auto it = by_pointer_.find(pointer);
        last_pointer_ = pointer;
        last_ = it == by_pointer_.end() ? nullptr : it->second;
        return last_;
    }
    TracefsMm* by_serial(u32 serial) { return serial == 0 ? nullptr : &all_[serial - 1]; }
    TracefsMm& create(u64 pointer, TracefsMm::State state, i32 pid) {
        TracefsMm& mm = all_.emplace_back();
        mm.serial = static_cast<u32>(all_.size());
        mm.pid = pid;
        mm.state = state;
        mm.users = 1;
        by_pointer_[pointer] = &mm;
        last_pointer_ = 0;
        return mm;
    }
    // The pointer now stands for an mm that nobody traced uses.
    void forget(u64 pointer) {
        by_pointer_.erase(pointer);
        last_pointer_ = 0;
    }

  private:
    std::deque<TracefsMm> all_;
    std::unordered_map<u64, TracefsMm*> by_pointer_;
    u64 last_pointer_ = 0;
    TracefsMm* last_ = nullptr;
};

}  // namespace rmapreplay
