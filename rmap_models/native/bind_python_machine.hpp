// SPDX-License-Identifier: GPL-2.0-only
// What a model written in Python sees of the machine: rmap_models/base.py has the protocols.
#pragma once

#include <nanobind/nanobind.h>

#include <limits>
#include <string>

#include "rmap_models/native/handles.hpp"

namespace rmapreplay {

// A VMA as it was when it was asked for: a copy, since it may go at any time.
struct PythonVma {
    u64 start, end, pgoff, anon_pgoff, last_index, flags;
    u32 file, policy, mm;
    bool faulted;
};
struct PythonMm {
    i32 pid;
};

// A name that the class declares, to its number in the ledger: a dict, for its strings know their
// hashes.
class Names {
  public:
    void add(std::string_view name, std::size_t number);
    // Throws ModelFailure that lists what there is.
    std::size_t number(nanobind::handle name, const char* unknown) const;

  private:
    nanobind::dict numbers_;
};

// `Machine` in Python. It answers only while the model is being called, for only then is the
// machine still and the ledger open. What it finds wrong is remembered, should the model catch the
// exception.
class PythonMachine {
  public:
    PythonMachine(const ModelInfo& info, Costs& costs);

    // While one of these lives, a callback is running.
    class Open {
      public:
        explicit Open(PythonMachine& machine) : machine_(machine) { machine_.open_ = true; }
        ~Open() { machine_.open_ = false; }
        Open(const Open&) = delete;
        Open& operator=(const Open&) = delete;

      private:
        PythonMachine& machine_;
    };
    void require_open() const;
    const std::string& failure() const { return failure_; }

    PythonVma vma(u64 handle);
    PythonMm mm(u64 handle);
    u32 mm_of(u64 handle) { return known_vma(handle).mm->serial; }
    u64 find_vma(u64 mm, u64 addr);
    nanobind::list vmas(u64 mm, u64 start, u64 end);
    void allocated(nanobind::handle kind, i64 n);
    void freed(nanobind::handle kind, i64 n);
    void count(nanobind::handle counter, i64 n);

    const Vma& known_vma(u64 handle);
    u64 at_least_0(i64 n);
    // Throws what `body` throws; a ModelFailure is remembered.
    template <class F>
    decltype(auto) checked(F&& body) {
        require_open();
        try {
            return body();
        } catch (const ModelFailure& failure) {
            failure_ = failure.what();
            throw;
        }
    }

    Handles handles;

  private:
    const Mm& known_mm(u64 handle);

    Costs& costs_;
    Names kinds_;
    Names op_counters_;
    std::string failure_;
    bool open_ = false;
};

// `Walk` in Python: one object, which stands for the walk in progress.
class PythonWalk {
  public:
    PythonWalk(const ModelInfo& info, PythonMachine& machine);

    void begin(Walk& walk) {
        walk_ = &walk;
        machine_.handles.begin_walk();
    }
    void end() { walk_ = nullptr; }
    Walk& walk() const;  // throws ModelFailure if none is in progress
    bool overlaps(u64 handle);
    bool visit(u64 handle);
    void count(nanobind::handle counter, i64 n);

  private:
    PythonMachine& machine_;
    Names counters_;
    Walk* walk_ = nullptr;
};

}  // namespace rmapreplay
