// SPDX-License-Identifier: GPL-2.0-only
// Random traces, replayed by one machine per model side by side: after every few events the machine
// and its model recount themselves, all machines agree on what maps what, and no walk misses a
// mapping. Whether each page has a record of its own makes no difference. RMAPREPLAY_FUZZ_SEEDS=n runs n times as many seeds.
#include <cstdlib>
#include <utility>

#include "tests/native/check.hpp"
#include "tests/native/machine_monkey.hpp"
#include "tests/native/scenario.hpp"

using namespace rmapreplay;

namespace {

// Counts; a fuzzed trace has too many walks to keep.
struct Tally final : Recorder {
    u64 misses = 0;
    void walk(const WalkRecord&) override {}
    void visit(const VisitRecord&) override {}
    void miss(const MissRecord&) override { ++misses; }
    void operation(const OperationRecord&) override {}
    void memory(const MemoryRecord&) override {}
};

struct Side {
    Side(const char* name_, const TraceFacts& facts, bool every_page) : name(name_) {
        model = find_model(name)->make(ModelParams{facts.kernel, {}}, costs);
        machine = std::make_unique<Machine>(*model, costs, facts, parse_walk_policy("none"), tally);
        if (every_page) machine->record_every_page();
    }

    bool may_miss() const { return name == "cow-poc"; }

    std::string name;
    Costs costs;
    Tally tally;
    std::unique_ptr<RmapModel> model;
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

// Whether every machine found the same pages of the same mms in the same folios. Where the index is an
// address, mremap() copies pages that others share: another truth.
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
        }
        for (i32 pid = 1; pid <= monkey::kPids; ++pid)
            while (sides.front()->machine->mm_of(pid)) apply(monkey.exit(pid));
        for (const auto& side : sides) {
            side->machine->validate();
            side->machine->finish();
            side->machine->validate();
            CHECK(side->machine->mms().empty());
            for (const u64 live : side->costs.live) CHECK(live == u64{0});
        }
        for (std::size_t i = 0; i < sides.size(); i += 2) {
            CHECK(sides[i]->machine->totals() == sides[i + 1]->machine->totals());
            CHECK(sides[i]->costs.peak == sides[i + 1]->costs.peak);
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
