// SPDX-License-Identifier: GPL-2.0-only
// Listens to a replay: keeps the distributions a summary needs, and if asked turns every record
// into a row of a table, handed on whenever it is full.
#pragma once

#include <algorithm>
#include <array>
#include <functional>
#include <span>
#include <string_view>
#include <vector>

#include "replay/native/histogram.hpp"
#include "replay/native/recorder.hpp"
#include "traces/native/table.hpp"

namespace rmapreplay {

// Bytes of a vm_area_struct as slab allocates it, Linux 6.15 and later (v6.18: 192 in slabinfo).
inline constexpr u32 kVmAreaStructBytes = 192;

// The kinds of object a model's ledger counts, kVmAreaStruct first.
std::vector<ObjectKind> object_kinds(const ModelInfo& model);
// The functions that allocate them, the machine's own first.
std::vector<AllocSite> alloc_sites(const ModelInfo& model);

// What all models count in the same words: sums over a model's counters of a class, named after it.
inline constexpr std::array kWalkSums = {CostClass::step, CostClass::lookup, CostClass::lock,
                                         CostClass::refcount};
inline constexpr std::array kOpSums = {CostClass::link, CostClass::lock, CostClass::refcount};
std::string_view sum_name(CostClass cost);  // "steps", "lookups", ...

// Makes such sums. Which counter goes where is worked out once.
template <std::size_t N>
class CostSums {
  public:
    CostSums(const std::array<CostClass, N>& classes, std::span<const Counter> counters)
        : size_(counters.size()) {
        for (std::size_t i = 0; i < size_; ++i) {
            sum_of_[i] = N;
            for (std::size_t sum = 0; sum < N; ++sum)
                if (classes[sum] == counters[i].cost) sum_of_[i] = static_cast<u8>(sum);
        }
    }
    std::array<u64, N> operator()(const std::array<u64, kMaxCounters>& counters) const {
        std::array<u64, N + 1> sums{};  // the last is for what goes into none
        for (std::size_t i = 0; i < size_; ++i) sums[sum_of_[i]] += counters[i];
        std::array<u64, N> result;
        std::copy_n(sums.begin(), N, result.begin());
        return result;
    }

  private:
    std::size_t size_;
    std::array<u8, kMaxCounters> sum_of_{};
};

class ResultTables final : public Recorder {
  public:
    // Takes over a table, named walks, visits, misses, operations or memory, with its next rows.
    using Sink = std::function<void(std::string_view name, Table&& rows)>;
    static constexpr std::size_t kRowsPerTable = std::size_t{1} << 16;
    static constexpr std::size_t kFirstMisses = 10;

    // `label` fills the tables' model column. Without a sink only the distributions are kept.
    // Throws std::invalid_argument if a counter has the name of another column.
    ResultTables(const ModelInfo& model, std::string_view label, Sink sink);

    void walk(const WalkRecord& record) override;
    void visit(const VisitRecord& record) override;
    void miss(const MissRecord& record) override;
    void operation(const OperationRecord& record) override;
    void memory(const MemoryRecord& record) override;
    // Hands on what is left; every table once, even if it is empty.
    void finish();

    // visits, hits, useless, levels, the sums, then the model's own counters.
    struct Metric {
        std::string_view name;
        Histogram values;
    };
    std::vector<Metric> metrics() const;
    const std::vector<MissRecord>& first_misses() const { return first_misses_; }

  private:
    struct Walks {
        Walks(const ModelInfo& model, std::string_view label);
        Table table;
        TypedColumn<u64>&walk, &seq;
        DictColumn<u8>& model;
        DictColumn<u8>& kind;
        TypedColumn<u64>& folio;
        TypedColumn<i32>& pid;
        DictColumn<u8>& mapping;
        TypedColumn<u16>& fork_depth;
        TypedColumn<u8>& order;
        TypedColumn<u32>&mapcount, &visits, &hits, &useless, &useless_empty, &useless_other,
            &misses, &levels;
        std::vector<TypedColumn<u64>*> sums;
        TypedColumn<bool>& stopped;
        std::vector<TypedColumn<u64>*> counters;
    };
    struct Visits {
        explicit Visits(std::string_view label);
        Table table;
        TypedColumn<u64>& walk;
        DictColumn<u8>& model;
        TypedColumn<u32>&visit, &mm;
        TypedColumn<i32>& pid;
        TypedColumn<u64>&start, &end, &index;
        TypedColumn<u32>& hits;
    };
    struct Misses {
        explicit Misses(std::string_view label);
        Table table;
        TypedColumn<u64>&walk, &seq;
        DictColumn<u8>& model;
        TypedColumn<u32>& mm;
        TypedColumn<i32>& pid;
        TypedColumn<u64>& addr;
    };
    struct Operations {
        Operations(const ModelInfo& model, std::string_view label);
        Table table;
        TypedColumn<u64>& seq;
        DictColumn<u8>& model;
        DictColumn<u8>& op;
        TypedColumn<i32>& pid;
        std::vector<TypedColumn<u64>*> sums, allocated, freed, counters;
    };
    struct Memory {
        Memory(const ModelInfo& model, std::string_view label);
        Table table;
        TypedColumn<u64>& seq;
        TypedColumn<i64>& time;
        DictColumn<u8>& model;
        std::vector<TypedColumn<u64>*> live;
        TypedColumn<u64>&bytes, &folios, &ptes, &mms;
    };
    void flush_if_full(std::string_view name, Table& table) {
        if (table.rows() >= kRowsPerTable) sink_(name, table.take());
    }

    std::vector<ObjectKind> kinds_;
    CostSums<kWalkSums.size()> walk_sums_;
    CostSums<kOpSums.size()> op_sums_;
    std::vector<std::size_t> walk_counters_, op_counters_;  // those that are no sum
    Sink sink_;
    // Of visits, hits, useless and levels, of each counter, and of those sums that are of several.
    std::vector<Histogram> distributions_;
    struct Sum {
        std::vector<std::size_t> counters;
        std::size_t distribution = 0;  // that of the only counter, or its own
    };
    std::array<Sum, kWalkSums.size()> sums_;
    std::vector<std::string_view> counter_names_;
    std::vector<MissRecord> first_misses_;
    Walks walks_;
    Visits visits_;
    Misses misses_;
    Operations operations_;
    Memory memory_;
};

}  // namespace rmapreplay
