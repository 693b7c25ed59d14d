// SPDX-License-Identifier: GPL-2.0-only
// What a machine shows of itself to whoever asks about one moment: a walk with all that it met, the
// address spaces there have been, what a page holds, and which objects the model has.
#pragma once

#include <array>
#include <optional>
#include <string_view>
#include <vector>

#include "replay/native/recorder.hpp"

namespace rmapreplay {

// How an address space came to be.
enum class MmOrigin : u8 { fork, exec, first_seen };
inline constexpr std::array<std::string_view, 3> kMmOriginNames = {"fork", "exec", "first_seen"};

// An address space from its beginning to its end; rows of the trace, of which kNever is none.
inline constexpr u64 kNever = ~u64{0};
struct MmLife {
    u32 mm = 0;  // Mm::serial
    u32 parent = 0;  // it was copied from; 0: none
    i32 pid = 0;  // the process that first had it; 0: a copy that fork is not done with
    MmOrigin how = MmOrigin::first_seen;
    u64 born = 0;
    u64 execed = kNever;  // its exec row
    u64 gone = kNever;  // by this row all of it is torn down
};

// An entry of a page table that maps a folio.
struct FolioEntry {
    u32 mm = 0;
    i32 pid = 0;
    u64 addr = 0;  // of a PMD: of its first page
    bool found = false;  // by the walk asked about
};

// One walk, told in full.
struct WalkStory {
    WalkRecord record;
    i64 time = 0;
    FolioView folio;
    u32 mm = 0;  // the mapping that the walk found the folio by
    i32 pid = 0;
    u64 addr = 0;
    std::vector<VisitRecord> visits;
    std::vector<FolioEntry> entries;  // all that map the folio, by mm and address
};

// What a page of an mm holds.
struct PageView {
    enum class What : u8 { nothing, zero_page, guard, swap, folio };
    static constexpr std::array<std::string_view, 5> kNames = {"nothing", "zero_page", "guard",
                                                               "swap", "folio"};
    What what = What::nothing;
    FolioView folio;  // if it is one
    bool by_pmd = false;
};

// How many pages of a VMA hold what.
struct VmaPages {
    u64 anon = 0;  // map an anonymous folio
    u64 shared = 0;  // of these, one that other entries map too
    u64 swap = 0;  // are in swap
};

}  // namespace rmapreplay
