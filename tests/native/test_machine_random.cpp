// SPDX-License-Identifier: GPL-2.0-only
// Random traces, replayed by one machine per model side by side: after every few events the machine
// and its model recount themselves, all machines agree on what maps what, and no walk misses a
// mapping. Whether the replay records its history, for which each page has a record of its own,
// makes no difference, and what the history has open is what lives. RMAPREPLAY_FUZZ_SEEDS=n runs n
// times as many seeds.
#include <cstdlib>
#include <map>
#include <utility>

#include "replay/native/timeline.hpp"
#include "tests/native/check.hpp"
#include "tests/native/machine_monkey.hpp"
#include "tests/native/scenario.hpp"

using namespace rmapreplay;

namespace {

// Counts; a fuzzed trace has too many walks to keep.
struct Tally final : Recorder {
    u64 misses = 0;
    u64 walked = 0;  // which folios, in which order
    void walk(const WalkRecord& walk) override {
        walked = walked * 0x9e3779b97f4a7c15u + (walk.seq << 48 ^ walk.folio);
    }
    void visit(const VisitRecord&) override {}
    void miss(const MissRecord&) override { ++misses; }
    void operation(const OperationRecord&) override {}
    void memory(const MemoryRecord&) override {}
};

// The rows that a timeline hands on, held against what was mapped at moments of the replay.
class History {
  public:
    void take(std::string_view name, const Table& table) {
        if (name != "mappings") return;
        const auto value = [&]<class T>(std::size_t column, std::size_t row, T) {
            return static_cast<const T*>(table.column(column).values())[row];
        };
        for (std::size_t i = 0; i < table.rows(); ++i)
            rows_.push_back({value(0, i, u64{}), value(1, i, u32{}), value(2, i, u64{}),
                             value(3, i, u16{}), value(4, i, u64{}),
                             table.column(5).is_null(i) ? ~u64{0} : value(5, i, u64{})});
    }
    void note(u64 seq, std::vector<AnonMapping> mappings) {
        moments_.emplace_back(seq, std::move(mappings));
    }
    void check(const std::string& name) const {
        for (const auto& [seq, expected] : moments_) {
            std::map<std::pair<u32, u64>, u64> folio_of;
            for (const Row& row : rows_)
                if (row.from <= seq && seq < row.to)
                    for (u64 page = 0; page < row.pages; ++page)
                        if (!folio_of.emplace(std::pair(row.mm, row.page + page), row.folio).second)
                            throw std::logic_error(name + "'s history maps a page twice");
            std::map<u64, u64> called;  // folios after their first page, as the machine does
            std::vector<AnonMapping> found;
            for (const auto& [where, folio] : folio_of) {
                const u64 own = u64{where.first} << 36 | where.second;
                found.push_back({where.first, where.second << kPageShift,
                                 called.emplace(folio, own).first->second});
            }
            if (found != expected) throw std::logic_error(name + "'s history is another");
        }
    }

  private:
    struct Row {
        u64 folio;
        u32 mm;
        u64 page, pages, from, to;
    };
    std::vector<Row> rows_;
    std::vector<std::pair<u64, std::vector<AnonMapping>>> moments_;
};

struct Side {
    Side(const char* name_, const TraceFacts& facts, bool every_page) : name(name_) {
        model = find_model(name)->make(ModelParams{facts.kernel, {}}, costs);
        machine =
            std::make_unique<Machine>(*model, costs, facts, parse_walk_policy("reclaim:3"), tally);
        if (!every_page) return;
        timeline = std::make_unique<TimelineTables>(
            *model, machine->folios(),
            [this](std::string_view table, Table&& rows) { history.take(table, rows); });
        machine->record_timeline(*timeline);
    }

    bool may_miss() const { return name == "cow-poc"; }

    std::string name;
    Costs costs;
    Tally tally;
    std::unique_ptr<RmapModel> model;
    History history;
    std::unique_ptr<TimelineTables> timeline;
    std::unique_ptr<Machine> machine;
};

std::string describe(const Event& e) {
    char text[256];
    std::snprintf(text, sizeof text,
                  "%s pid=%d addr=%#llx len=%#llx new=%#llx+%#llx flags=%#llx prot=%u file=%u "
                  "advice=%d child=%d write=%d order=%d",
                  std::string(kOpNames[static_cast<std::size_t>(e.op)]).c_str(), e.pid,
                  static_cast<unsigned long long>(e.addr), static_cast<unsigned long long>(e.len),
                  static_cast<unsigned long long>(e.new_addr),
                  static_cast<unsigned long long>(e.new_len),
                  static_cast<unsigned long long>(e.flags), e.prot, e.file, e.advice, e.child,
                  e.write, e.order);
    return text;
}

struct Plan {
    TraceFacts facts;
    u64 seed;
    int steps;
};

// Whether every machine found the same pages of the same mms in the same folios. Where the index is
// an address, mremap() copies pages that others share: another truth.
void same_truth(const std::vector<std::unique_ptr<Side>>& sides) {
    const Side* first[2] = {};
    std::vector<AnonMapping> expected[2];
    for (const auto& side : sides) {
        const bool address = side->model->info().needs.index_is_address;
        const auto found = side->machine->anon_mappings();
        if (!std::exchange(first[address], side.get())) expected[address] = found;
        if (found != expected[address])
            throw std::logic_error(side->name + " has another truth than " + first[address]->name);
    }
}

void walk_everything(Side& side) {
    for (const WalkKind kind : {WalkKind::all, WalkKind::referenced}) side.machine->walk_all(kind);
    if (!side.may_miss() && side.tally.misses) throw std::logic_error(side.name + " missed");
}

void replay(const Plan& plan) {
    std::vector<std::unique_ptr<Side>> sides;
    for (const char* model :
         {"anon_vma", "cow", "cow-poc", "pte_chain", "anonmm", "anon_vma_global", "anon_vma_lazy"})
        for (const bool every_page : {false, true})
            sides.push_back(std::make_unique<Side>(model, plan.facts, every_page));
    monkey::Monkey monkey(*sides.front()->machine, plan.seed, plan.facts);
    std::vector<Event> done;
    const auto apply = [&](const Event& e) {
        done.push_back(e);
        for (const auto& side : sides) side->machine->apply(e);
    };
    try {
        for (int i = 0; i < plan.steps; ++i) {
            apply(monkey.next());
            if (i % 4 == 0)
                for (const auto& side : sides) side->machine->validate();
            if (i % 16 == 0) {
                // A huge page must fit its VMA, and how far that reaches depends on the model.
                if (plan.facts.thp == ThpMode::never) same_truth(sides);
                for (const auto& side : sides) walk_everything(*side);
            }
            if (i % 64 == 0)
                for (const auto& side : sides)
                    if (side->timeline)
                        side->history.note(side->machine->totals().events - 1,
                                           side->machine->anon_mappings());
        }
        for (i32 pid = 1; pid <= monkey::kPids; ++pid)
            while (sides.front()->machine->mm_of(pid)) apply(monkey.exit(pid));
        for (const auto& side : sides) {
            side->machine->validate();
            side->machine->finish();
            side->machine->validate();
            if (side->timeline) side->timeline->finish();
            side->history.check(side->name);
            CHECK(side->machine->mms().empty());
            for (const u64 live : side->costs.live) CHECK(live == u64{0});
        }
        for (std::size_t i = 0; i < sides.size(); i += 2) {
            CHECK(sides[i]->machine->totals() == sides[i + 1]->machine->totals());
            CHECK(sides[i]->costs.peak == sides[i + 1]->costs.peak);
            CHECK(sides[i]->tally.walked == sides[i + 1]->tally.walked);
        }
    } catch (const std::logic_error& error) {
        std::string last;
        const std::size_t shown = std::getenv("RMAPREPLAY_FUZZ_TRACE") ? done.size() : 8;
        for (std::size_t i = done.size() - std::min(shown, done.size()); i < done.size(); ++i)
            last += "\n    " + describe(done[i]);
        check::report(false, __FILE__, __LINE__, error.what(),
                      "kernel " + std::to_string(static_cast<int>(plan.facts.kernel)) + ", thp " +
                          std::to_string(static_cast<int>(plan.facts.thp)) + ", teardown " +
                          std::to_string(static_cast<int>(plan.facts.teardown)) + ", seed " +
                          std::to_string(plan.seed) + ", after" + last);
    }
}

void run(ThpMode thp, u64 seeds, int steps) {
    const char* more = std::getenv("RMAPREPLAY_FUZZ_SEEDS");
    if (more) seeds *= std::strtoull(more, nullptr, 10);
    for (const Kernel kernel : {Kernel::v6_12, Kernel::v6_18, Kernel::v7_3})
        for (u64 seed = 0; seed < seeds; ++seed) {
            TraceFacts facts;
            facts.kernel = kernel;
            facts.thp = thp;
            facts.teardown = static_cast<Teardown>(seed % 3);
            facts.orders = thp != ThpMode::never && seed % 2;
            replay({facts, seed, steps});
        }
}

}  // namespace

TEST_CASE("machine, random: small pages and folios of the orders that faults tell") {
    run(ThpMode::never, 25, 800);
}

TEST_CASE("machine, random: huge pages by madvise") { run(ThpMode::madvise, 6, 500); }

TEST_CASE("machine, random: huge pages wherever they fit") { run(ThpMode::always, 6, 500); }
