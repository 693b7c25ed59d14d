// SPDX-License-Identifier: GPL-2.0-only
#include "replay/native/result_tables.hpp"

#include <stdexcept>
#include <string>
#include <utility>

namespace rmapreplay {
namespace {

constexpr std::array<std::string_view, 4> kPlainMetrics = {"visits", "hits", "useless", "levels"};

template <std::size_t N>
std::vector<TypedColumn<u64>*> add_sums(Table& table, const std::array<CostClass, N>& classes) {
    std::vector<TypedColumn<u64>*> columns;
    for (const CostClass cost : classes)
        columns.push_back(&table.add_column<u64>(std::string(sum_name(cost))));
    return columns;
}

// The counters that need a column of their own: all but one that is by itself the sum it is called
// after.
template <std::size_t N>
std::vector<std::size_t> own_counters(std::span<const Counter> counters,
                                      const std::array<CostClass, N>& classes) {
    std::vector<std::size_t> own;
    for (std::size_t i = 0; i < counters.size(); ++i) {
        const CostClass cost = counters[i].cost;
        const bool summed = std::find(classes.begin(), classes.end(), cost) != classes.end();
        const auto of_class = std::count_if(counters.begin(), counters.end(),
                                            [&](const Counter& c) { return c.cost == cost; });
        if (!summed || of_class > 1 || counters[i].name != sum_name(cost)) own.push_back(i);
    }
    return own;
}

std::vector<TypedColumn<u64>*> add_counters(Table& table, std::span<const Counter> counters,
                                            const std::vector<std::size_t>& own) {
    std::vector<TypedColumn<u64>*> columns;
    for (const std::size_t i : own) {
        const std::string name(counters[i].name);
        for (std::size_t column = 0; column < table.columns(); ++column)
            if (table.column(column).name() == name)
                throw std::invalid_argument("a counter cannot be called '" + name +
                                            "': that is another column's name");
        columns.push_back(&table.add_column<u64>(name));
    }
    return columns;
}

std::vector<TypedColumn<u64>*> add_kinds(Table& table, const ModelInfo& model,
                                         const std::string& suffix) {
    std::vector<TypedColumn<u64>*> columns;
    for (const ObjectKind& kind : object_kinds(model)) {
        columns.push_back(&table.add_column<u64>(std::string(kind.name) + suffix));
    }
    return columns;
}

template <class Counts>
void append_all(const std::vector<TypedColumn<u64>*>& columns, const Counts& counts) {
    for (std::size_t i = 0; i < columns.size(); ++i) columns[i]->append(counts[i]);
}

void append_own(const std::vector<TypedColumn<u64>*>& columns, const std::vector<std::size_t>& own,
                const std::array<u64, kMaxCounters>& counters) {
    for (std::size_t i = 0; i < columns.size(); ++i) columns[i]->append(counters[own[i]]);
}

// Every row of a model's tables names it by the first and only string.
DictColumn<u8>& add_model(Table& table, std::string_view label) {
    DictColumn<u8>& column = table.add_dict8("model");
    column.code(label);
    return column;
}

}  // namespace

std::vector<ObjectKind> object_kinds(const ModelInfo& model) {
    std::vector<ObjectKind> kinds{{"vm_area_struct", kVmAreaStructBytes}};
    kinds.insert(kinds.end(), model.objects.begin(), model.objects.end());
    return kinds;
}

std::string_view sum_name(CostClass cost) {
    constexpr std::array<std::string_view, kCostClassNames.size()> names = {
        "steps", "lookups", "locks", "refcounts", "links", ""};
    return names[static_cast<std::size_t>(cost)];
}

std::vector<AllocSite> alloc_sites(const ModelInfo& model) {
    std::vector<AllocSite> sites{{kVmAreaStruct, "vm_area_alloc"}, {kVmAreaStruct, "vm_area_dup"}};
    sites.insert(sites.end(), model.sites.begin(), model.sites.end());
    return sites;
}

ResultTables::Walks::Walks(const ModelInfo& info, std::string_view label)
    : walk(table.add_column<u64>("walk")),
      seq(table.add_column<u64>("seq")),
      model(add_model(table, label)),
      kind(table.add_enum("kind", kWalkKindNames)),
      folio(table.add_column<u64>("folio")),
      pid(table.add_column<i32>("pid")),
      mapping(table.add_enum("mapping", kMappingKindNames)),
      fork_depth(table.add_column<u16>("fork_depth")),
      order(table.add_column<u8>("order")),
      mapcount(table.add_column<u32>("mapcount")),
      visits(table.add_column<u32>("visits")),
      hits(table.add_column<u32>("hits")),
      useless(table.add_column<u32>("useless")),
      useless_empty(table.add_column<u32>("useless_empty")),
      useless_other(table.add_column<u32>("useless_other")),
      misses(table.add_column<u32>("misses")),
      levels(table.add_column<u32>("levels")),
      sums(add_sums(table, kWalkSums)),
      stopped(table.add_column<bool>("stopped")),
      counters(
          add_counters(table, info.walk_counters, own_counters(info.walk_counters, kWalkSums))) {}

ResultTables::Visits::Visits(std::string_view label)
    : walk(table.add_column<u64>("walk")),
      model(add_model(table, label)),
      visit(table.add_column<u32>("visit")),
      mm(table.add_column<u32>("mm")),
      pid(table.add_column<i32>("pid")),
      start(table.add_column<u64>("start")),
      end(table.add_column<u64>("end")),
      index(table.add_column<u64>("index")),
      hits(table.add_column<u32>("hits")) {}

ResultTables::Misses::Misses(std::string_view label)
    : walk(table.add_column<u64>("walk")),
      seq(table.add_column<u64>("seq")),
      model(add_model(table, label)),
      mm(table.add_column<u32>("mm")),
      pid(table.add_column<i32>("pid")),
      addr(table.add_column<u64>("addr")) {}

ResultTables::Operations::Operations(const ModelInfo& info, std::string_view label)
    : seq(table.add_column<u64>("seq")),
      model(add_model(table, label)),
      op(table.add_enum("op", kOpNames)),
      pid(table.add_column<i32>("pid")),
      sums(add_sums(table, kOpSums)),
      allocated(add_kinds(table, info, "_allocated")),
      freed(add_kinds(table, info, "_freed")),
      counters(add_counters(table, info.op_counters, own_counters(info.op_counters, kOpSums))) {}

ResultTables::Memory::Memory(const ModelInfo& info, std::string_view label)
    : seq(table.add_column<u64>("seq")),
      time(table.add_column<i64>("time")),
      model(add_model(table, label)),
      live(add_kinds(table, info, "")),
      bytes(table.add_column<u64>("bytes")),
      folios(table.add_column<u64>("folios")),
      ptes(table.add_column<u64>("ptes")),
      mms(table.add_column<u64>("mms")) {}

ResultTables::ResultTables(const ModelInfo& model, std::string_view label, Sink sink)
    : kinds_(object_kinds(model)),
      walk_sums_(kWalkSums, model.walk_counters),
      op_sums_(kOpSums, model.op_counters),
      walk_counters_(own_counters(model.walk_counters, kWalkSums)),
      op_counters_(own_counters(model.op_counters, kOpSums)),
      sink_(std::move(sink)),
      walks_(model, label),
      visits_(label),
      misses_(label),
      operations_(model, label),
      memory_(model, label) {
    const auto counters = model.walk_counters;
    for (const Counter& counter : counters) counter_names_.push_back(counter.name);
    std::size_t distributions = kPlainMetrics.size() + counters.size();
    for (std::size_t sum = 0; sum < kWalkSums.size(); ++sum) {
        for (std::size_t i = 0; i < counters.size(); ++i)
            if (counters[i].cost == kWalkSums[sum]) sums_[sum].counters.push_back(i);
        const auto& of = sums_[sum].counters;
        if (of.size() == 1) sums_[sum].distribution = kPlainMetrics.size() + of[0];
        if (of.size() > 1) sums_[sum].distribution = distributions++;
    }
    distributions_.resize(distributions);
}

std::vector<ResultTables::Metric> ResultTables::metrics() const {
    std::vector<Metric> all;
    for (std::size_t i = 0; i < kPlainMetrics.size(); ++i)
        all.push_back({kPlainMetrics[i], distributions_[i]});
    for (std::size_t sum = 0; sum < kWalkSums.size(); ++sum) {
        all.push_back({sum_name(kWalkSums[sum]), {}});
        if (sums_[sum].counters.empty())
            all.back().values.add(0, distributions_[0].count());
        else
            all.back().values = distributions_[sums_[sum].distribution];
    }
    for (const std::size_t i : walk_counters_)
        all.push_back({counter_names_[i], distributions_[kPlainMetrics.size() + i]});
    return all;
}

void ResultTables::walk(const WalkRecord& record) {
    const u32 useless = record.useless_empty + record.useless_other;
    distributions_[0].add(record.visits);
    distributions_[1].add(record.hits);
    distributions_[2].add(useless);
    distributions_[3].add(record.levels);
    for (std::size_t i = 0; i < counter_names_.size(); ++i)
        distributions_[kPlainMetrics.size() + i].add(record.counters[i]);
    for (const Sum& sum : sums_) {
        if (sum.counters.size() < 2) continue;
        u64 value = 0;
        for (const std::size_t i : sum.counters) value += record.counters[i];
        distributions_[sum.distribution].add(value);
    }
    if (!sink_) return;
    walks_.walk.append(record.walk);
    walks_.seq.append(record.seq);
    walks_.model.append_code(0);
    walks_.kind.append_code(static_cast<u8>(record.kind));
    walks_.folio.append(record.folio);
    walks_.pid.append(record.pid);
    walks_.mapping.append_code(static_cast<u8>(record.mapping));
    walks_.fork_depth.append(record.fork_depth);
    walks_.order.append(record.order);
    walks_.mapcount.append(record.mapcount);
    walks_.visits.append(record.visits);
    walks_.hits.append(record.hits);
    walks_.useless.append(useless);
    walks_.useless_empty.append(record.useless_empty);
    walks_.useless_other.append(record.useless_other);
    walks_.misses.append(record.misses);
    walks_.levels.append(record.levels);
    append_all(walks_.sums, walk_sums_(record.counters));
    walks_.stopped.append(record.stopped);
    append_own(walks_.counters, walk_counters_, record.counters);
    flush_if_full("walks", walks_.table);
}

void ResultTables::visit(const VisitRecord& record) {
    if (!sink_) return;
    visits_.walk.append(record.walk);
    visits_.model.append_code(0);
    visits_.visit.append(record.visit);
    visits_.mm.append(record.mm);
    visits_.pid.append(record.pid);
    visits_.start.append(record.start);
    visits_.end.append(record.end);
    visits_.index.append(record.index);
    visits_.hits.append(record.hits);
    flush_if_full("visits", visits_.table);
}

void ResultTables::miss(const MissRecord& record) {
    if (first_misses_.size() < kFirstMisses) first_misses_.push_back(record);
    if (!sink_) return;
    misses_.walk.append(record.walk);
    misses_.seq.append(record.seq);
    misses_.model.append_code(0);
    misses_.mm.append(record.mm);
    misses_.pid.append(record.pid);
    misses_.addr.append(record.addr);
    flush_if_full("misses", misses_.table);
}

void ResultTables::operation(const OperationRecord& record) {
    if (!sink_) return;
    operations_.seq.append(record.seq);
    operations_.model.append_code(0);
    operations_.op.append_code(static_cast<u8>(record.op));
    operations_.pid.append(record.pid);
    append_all(operations_.sums, op_sums_(record.costs.counters));
    append_all(operations_.allocated, record.costs.allocated);
    append_all(operations_.freed, record.costs.freed);
    append_own(operations_.counters, op_counters_, record.costs.counters);
    flush_if_full("operations", operations_.table);
}

void ResultTables::memory(const MemoryRecord& record) {
    if (!sink_) return;
    memory_.seq.append(record.seq);
    memory_.time.append(record.time);
    memory_.model.append_code(0);
    append_all(memory_.live, record.live);
    u64 bytes = 0;
    for (std::size_t i = 0; i < kinds_.size(); ++i) bytes += record.live[i] * kinds_[i].bytes;
    memory_.bytes.append(bytes);
    memory_.folios.append(record.folios);
    memory_.ptes.append(record.ptes);
    memory_.mms.append(record.mms);
    flush_if_full("memory", memory_.table);
}

void ResultTables::finish() {
    if (!sink_) return;
    sink_("walks", walks_.table.take());
    sink_("visits", visits_.table.take());
    sink_("misses", misses_.table.take());
    sink_("operations", operations_.table.take());
    sink_("memory", memory_.table.take());
}

}  // namespace rmapreplay
