// SPDX-License-Identifier: GPL-2.0-only
// Tables of the truth sidecar that a tracefs capture fills; docs/truth-sidecar.md describes them.
#pragma once

#include <string>
#include <string_view>

#include "traces/native/table.hpp"

namespace rmapreplay {

// One VMA handed to a recorded walk.
struct TruthVisit {
    i64 time = 0;
    u32 walk = 0;   // ordinal among the trace's walk rows, from 0
    u32 visit = 0;  // position in the walk, from 0
    i32 pid = 0;    // 0: no traced process
    u64 start = 0;
    u64 end = 0;
    u32 found = 0;         // PTEs of the folio found there
    bool stopped = false;  // the walk ended here although the tree held more, or might have
};

enum class TruthObject : u8 { vm_area_struct, anon_vma, anon_vma_chain };
inline constexpr std::array<std::string_view, 3> kTruthObjectNames = {"vm_area_struct", "anon_vma",
                                                                      "anon_vma_chain"};
enum class TruthAction : u8 { alloc, free, insert, remove };
inline constexpr std::array<std::string_view, 4> kTruthActionNames = {"alloc", "free", "insert",
                                                                      "remove"};

// One object allocated or freed, or one anon_vma_chain put into or taken from its anon_vma's tree.
// 0 in a reference and in start/end reads as null.
struct TruthChange {
    i64 time = 0;
    TruthObject object = TruthObject::vm_area_struct;
    TruthAction action = TruthAction::alloc;
    u32 id = 0;    // serial within the kind of object, from 1
    u32 mm = 0;    // serial of the mm_struct, from 1
    i32 pid = 0;   // the process of that mm; 0: it never had one
    u64 start = 0;
    u64 end = 0;
    u32 vma = 0;       // anon_vma_chain: its VMA
    u32 anon_vma = 0;  // anon_vma_chain: its anon_vma
    u32 root = 0;      // anon_vma: its root, itself included
    u32 parent = 0;    // anon_vma: its parent, itself included
};

// One burst of walks that the capture's launcher asked for.
struct TruthBurst {
    i64 time = 0;
    i64 end_time = 0;
    i32 burst = 0;
    std::string label;
};

class TruthTables {
  public:
    void append(const TruthVisit& visit);
    void append(const TruthChange& change);
    void append(const TruthBurst& burst);

    Table take_visits() { return visits_.take(); }
    Table take_objects() { return objects_.take(); }
    Table take_bursts() { return bursts_.take(); }
    std::size_t rows() const { return visits_.rows() + objects_.rows() + bursts_.rows(); }

  private:
    template <class T>
    static void put(TypedColumn<T>& column, T value) {
        if (value != T{}) {
            column.append(value);
        } else {
            column.append_null();
        }
    }

    Table visits_;
    struct {
        TypedColumn<i64>& time;
        TypedColumn<u32>& walk;
        TypedColumn<u32>& visit;
        TypedColumn<i32>& pid;
        TypedColumn<u64>& start;
        TypedColumn<u64>& end;
        TypedColumn<u32>& found;
        TypedColumn<bool>& stopped;
    } visit_{visits_.add_column<i64>("time"),  visits_.add_column<u32>("walk"),
             visits_.add_column<u32>("visit"), visits_.add_column<i32>("pid", true),
             visits_.add_column<u64>("start"), visits_.add_column<u64>("end"),
             visits_.add_column<u32>("found"), visits_.add_column<bool>("stopped")};
    Table objects_;
    struct {
        TypedColumn<i64>& time;
        DictColumn<u8>& object;
        DictColumn<u8>& action;
        TypedColumn<u32>& id;
        TypedColumn<u32>& mm;
        TypedColumn<i32>& pid;
        TypedColumn<u64>& start;
        TypedColumn<u64>& end;
        TypedColumn<u32>& vma;
        TypedColumn<u32>& anon_vma;
        TypedColumn<u32>& root;
        TypedColumn<u32>& parent;
    } object_{objects_.add_column<i64>("time"),
              objects_.add_dict8("object"),
              objects_.add_dict8("action"),
              objects_.add_column<u32>("id"),
              objects_.add_column<u32>("mm", true),
              objects_.add_column<i32>("pid", true),
              objects_.add_column<u64>("start", true),
              objects_.add_column<u64>("end", true),
              objects_.add_column<u32>("vma", true),
              objects_.add_column<u32>("anon_vma", true),
              objects_.add_column<u32>("root", true),
              objects_.add_column<u32>("parent", true)};
    Table bursts_;
    struct {
        TypedColumn<i64>& time;
        TypedColumn<i64>& end_time;
        TypedColumn<i32>& burst;
        DictColumn<u32>& label;
    } burst_{bursts_.add_column<i64>("time"), bursts_.add_column<i64>("end_time"),
             bursts_.add_column<i32>("burst"), bursts_.add_dict32("label")};
};

inline void TruthTables::append(const TruthVisit& v) {
    visit_.time.append(v.time);
    visit_.walk.append(v.walk);
    visit_.visit.append(v.visit);
    put(visit_.pid, v.pid);
    visit_.start.append(v.start);
    visit_.end.append(v.end);
    visit_.found.append(v.found);
    visit_.stopped.append(v.stopped);
}

inline void TruthTables::append(const TruthChange& c) {
    object_.time.append(c.time);
    object_.object.append(kTruthObjectNames[static_cast<std::size_t>(c.object)]);
    object_.action.append(kTruthActionNames[static_cast<std::size_t>(c.action)]);
    object_.id.append(c.id);
    put(object_.mm, c.mm);
    put(object_.pid, c.pid);
    put(object_.start, c.start);
    put(object_.end, c.end);
    put(object_.vma, c.vma);
    put(object_.anon_vma, c.anon_vma);
    put(object_.root, c.root);
    put(object_.parent, c.parent);
}

inline void TruthTables::append(const TruthBurst& b) {
    burst_.time.append(b.time);
    burst_.end_time.append(b.end_time);
    burst_.burst.append(b.burst);
    burst_.label.append(b.label);
}

}  // namespace rmapreplay
