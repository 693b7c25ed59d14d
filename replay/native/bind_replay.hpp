// SPDX-License-Identifier: GPL-2.0-only
// One replay of one trace under one model, as Python holds it.
#pragma once

#include <nanobind/nanobind.h>

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "replay/native/machine.hpp"
#include "replay/native/result_tables.hpp"
#include "replay/native/timeline.hpp"
#include "rmap_models/native/bind_buffer.hpp"
#include "traces/native/bind_arrow.hpp"

namespace rmapreplay {

inline nanobind::str str(std::string_view text) { return nanobind::str(text.data(), text.size()); }

// dict_of("a", 1, "b", 2): {"a": 1, "b": 2}
inline nanobind::dict dict_of() { return {}; }
template <class Value, class... Rest>
nanobind::dict dict_of(const char* key, Value&& value, Rest&&... rest) {
    nanobind::dict result;
    result[key] = std::forward<Value>(value);
    result.update(dict_of(std::forward<Rest>(rest)...));
    return result;
}

// Not for two threads at a time; feed() and finish() hold no GIL but while a full table is handed
// on.
class Replay {
  public:
    // `model` is what model_entry() (bind_models.hpp) takes.
    Replay(nanobind::object model, const std::string& label,
           const std::map<std::string, std::string>& params, const std::string& kernel,
           const std::string& thp, bool use_zero_page, u64 stack_limit, const std::string& teardown,
           bool orders, u64 rows, const std::string& walks, bool visits, nanobind::object sink);

    void feed(nanobind::handle events);
    void finish();
    u64 row() const { return row_; }
    // From now on `buffer` holds the row, for other processes to see.
    void share_row(nanobind::object buffer) { shared_row_.emplace(std::move(buffer), sizeof(u64)); }
    Machine& machine() { return *machine_; }
    nanobind::dict summary() const;

    // ---- bind_state.cpp: what lives after the rows fed so far ----
    nanobind::object vmas() const;
    nanobind::object links() const;
    nanobind::object mappings() const;
    std::optional<u32> mm_of(i32 pid) const;
    nanobind::dict live() const;
    void validate() const;
    void walk_all(const std::string& kind);
    void verify_every(u64 events) { machine_->verify_every(events); }

    // ---- bind_look.cpp: of one moment ----
    bool stopped() const { return stopped_; }
    nanobind::object story() const;
    nanobind::list lives() const;
    nanobind::dict users() const;
    nanobind::object page(u32 mm, u64 addr) const;
    nanobind::list sharers(u32 mm, u64 addr) const;
    nanobind::object vma_details() const;
    nanobind::dict object_view(u32 handle) const;
    nanobind::list objects_seen() const;

    // ---- bind_timeline.cpp ----
    void record_timeline(nanobind::object sink);

    // Rows after which to note the VMA at an address.
    void watch(nanobind::handle rows);
    nanobind::object watched() const;
    // Address spaces that fork gave to a process, so far.
    nanobind::object owners() const;

  private:
    struct Watch {
        u64 row;
        i32 pid;
        u64 addr;
        u64 start = 0, end = 0;  // of the VMA, once noted; none: 0
    };
    void note_watched();
    void note_owner(i32 child);
    nanobind::list first_misses() const;
    nanobind::dict objects() const;
    nanobind::dict operations() const;

    nanobind::object source_;  // of the entry, whose info may live there
    ModelEntry entry_;
    nanobind::object sink_;
    nanobind::object timeline_sink_;
    u64 row_ = 0;
    bool stopped_ = false;  // at the walk asked for
    std::optional<WritableBuffer> shared_row_;
    std::vector<Watch> watches_;  // by row
    std::size_t next_watch_ = 0;
    u64 watched_row_ = ~u64{0};  // of the next one
    std::vector<std::pair<u32, i32>> owners_;  // mm serial, pid
    Costs costs_;
    std::unique_ptr<RmapModel> model_;
    std::unique_ptr<ResultTables> tables_;
    std::unique_ptr<TimelineTables> timeline_;
    std::unique_ptr<Machine> machine_;  // goes first: it uses all of the above
};

// Adds the methods of bind_state.cpp to the class.
void bind_state(nanobind::class_<Replay>& replay);
// And of bind_look.cpp and bind_timeline.cpp.
void bind_look(nanobind::class_<Replay>& replay);
void bind_timeline(nanobind::class_<Replay>& replay);

}  // namespace rmapreplay
