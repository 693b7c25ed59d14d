// SPDX-License-Identifier: GPL-2.0-only
// One execve in progress, and the mappings it makes by itself.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "traces/native/event_table.hpp"
#include "traces/native/timeline.hpp"

namespace rmapreplay {

// What perf_event_mmap() tells of a VMA.
struct Mapping {
    u64 addr = 0;
    u64 len = 0;
    u64 offset = 0;  // bytes
    u32 prot = 0;    // PROT_*
    bool shared = false;
    std::string_view identity;  // device, inode and generation, or build id; empty: no file
    std::string_view path;      // empty: none
};

// Numbers for struct files. Two opens of one inode are two files, and do not merge; a capture shows
// no pointer, so a file is told by its inode and the descriptor it was mapped through.
class FileIds {
  public:
    static constexpr i32 kExec = -1;  // descriptor of what execve mapped
    u32 id(std::string_view identity, i32 fd);
    u32 fresh() { return ++last_; }
    // Numbers below `first` are others'. What they stand for is never one of the files told here,
    // not even of the same inode: whoever gave them out knew no descriptors.
    void begin_at(u32 first) {
        if (first > 0) last_ = std::max(last_, first - 1);
    }

  private:
    std::unordered_map<std::string, u32> ids_;
    std::string key_;
    u32 last_ = 0;
};

// A `mapping` row without time, task and file.
Event mapping_row(const Mapping& mapping, EventTable& table);

// Between the entry of execve and its return. Up to commit() all that happens is the old address
// space's, but the argument stack, which the kernel already builds in the new one.
class ExecWindow {
  public:
    bool committed() const { return committed_; }

    void hold_exit_mmap(Timeline::Place place) { exit_mmap_ = place; }
    Timeline::Place exit_mmap() const { return exit_mmap_; }
    void commit(Timeline::Place row) {
        committed_ = true;
        row_ = row;
    }
    Timeline::Place row() const { return row_; }
    // sched_process_exec comes after the last of exec's own mappings.
    bool takes_mappings() const { return !committed_ || row_ != 0; }
    void row_filled() { row_ = 0; }

    void hold_mapping(const Event& event) { early_.push_back(event); }
    std::vector<Event> take_held() { return std::exchange(early_, {}); }

    // The first segment of an ELF image is mapped with the length of the whole image, to find room
    // for it, and what lies behind it is then unmapped without a system call (elf_load(),
    // fs/binfmt_elf.c). The munmap row that has to come before `mapping`, if it is the second
    // segment: true and [addr, addr + len) in `trim`.
    bool trim(const Event& mapping, std::string_view identity, Event& trim);

  private:
    struct Image {
        std::string identity;
        u64 start;
        u64 end;
        bool trimmed;
    };
    bool committed_ = false;
    Timeline::Place exit_mmap_ = 0;
    Timeline::Place row_ = 0;
    std::vector<Event> early_;
    std::vector<Image> images_;
};

}  // namespace rmapreplay
