// SPDX-License-Identifier: GPL-2.0-only
// The adapter of rmap_model.h, under a table that is filled here: what each callback is handed,
// what is taken back, and that nothing wrong gets through.
#include <cstddef>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "rmap_models/native/c_model.hpp"
#include "rmap_models/native/handles.hpp"
#include "rmap_models/native/invariant.hpp"
#include "tests/native/check.hpp"
#include "tests/native/scenario.hpp"

using namespace rmapreplay;
using scenario::X;
using scenario::Y;

namespace {

enum Misdeed { none, walk, prepare, fork, mm, homes, recount, start };

// The list of all faulted VMAs, and what a test makes it do.
struct Lister {
    const rmap_machine* machine = nullptr;
    std::vector<u64> vmas;
    std::vector<std::string> calls;
    std::string colour;
    Misdeed when = none;
    std::function<int(Lister&, rmap_walk*)> misdeed;
    u32 home = 5;
    int exits = 0;

    int go_wrong(Misdeed now, rmap_walk* in_progress = nullptr) {
        return when == now ? misdeed(*this, in_progress) : 0;
    }
};
Lister* lister = nullptr;  // what the next replay gets

Lister& of(void* state) { return *static_cast<Lister*>(state); }
std::string text(u64 n) { return std::to_string(n); }

int take_vma(Lister& list, const rmap_vma* vma) {
    list.vmas.push_back(vma->vma);
    ++list.machine->counters[0];
    return list.machine->allocated(list.machine, 0, 1);
}

constexpr rmap_object_kind kObjects[] = {{"link", 24}, {nullptr, 0}};
constexpr rmap_counter kWalkCounters[] = {{"links", RMAP_COST_STEP, "links read", nullptr},
                                          {nullptr, 0, nullptr, nullptr}};
constexpr rmap_counter kOpCounters[] = {{"adds", RMAP_COST_LINK, "links added", nullptr},
                                        {nullptr, 0, nullptr, nullptr}};
constexpr rmap_param kParams[] = {{"colour", "red|blue", "red", ""},
                                  {nullptr, nullptr, nullptr, nullptr}};

rmap_model_ops table() {
    rmap_model_ops ops{};
    ops.abi_version = RMAP_ABI_VERSION;
    ops.struct_size = sizeof ops;
    ops.name = "lister";
    ops.objects = kObjects;
    ops.walk_counters = kWalkCounters;
    ops.op_counters = kOpCounters;
    ops.params = kParams;
    ops.init = [](const rmap_machine* machine, const rmap_params* params, void** state) {
        lister->machine = machine;
        if (const char* colour = rmap_param_value(params, "colour")) lister->colour = colour;
        *state = lister;
        return lister->go_wrong(start);
    };
    ops.exit = [](void* state) { ++of(state).exits; };
    ops.mm_init = [](void* state, rmap_mm* mm) {
        of(state).calls.push_back("mm_init " + text(mm->mm));
        mm->rmap = reinterpret_cast<void*>(u64{100} + mm->mm);
        return of(state).go_wrong(Misdeed::mm);
    };
    ops.mm_fork_begin = [](void* state, rmap_mm* child, rmap_mm* parent) {
        of(state).calls.push_back("mm_fork_begin " + text(child->mm) + " of " + text(parent->mm));
        child->rmap = parent->rmap;
        return 0;
    };
    ops.mm_fork_end = [](void* state, rmap_mm* child, rmap_mm*) {
        of(state).calls.push_back("mm_fork_end " + text(child->mm));
        return 0;
    };
    ops.mm_exit = [](void* state, rmap_mm* mm) {
        of(state).calls.push_back("mm_exit " + text(mm->mm));
        return 0;
    };
    ops.anon_vma_prepare = [](void* state, rmap_vma* vma) {
        vma->anon_vma = reinterpret_cast<void*>(vma->vma);
        vma->anon_vma_chain = reinterpret_cast<void*>(u64{0xcafe});
        const int said = of(state).go_wrong(prepare);
        return said < 0 ? said : take_vma(of(state), vma);
    };
    ops.anon_vma_clone = [](void* state, rmap_vma* dst, const rmap_vma* src, u32 why) {
        of(state).calls.push_back("anon_vma_clone " + text(why));
        CHECK(dst->anon_vma == src->anon_vma);
        CHECK(dst->anon_vma_chain == nullptr);
        CHECK(src->anon_vma_chain == reinterpret_cast<void*>(u64{0xcafe}));
        dst->anon_vma_chain = src->anon_vma_chain;
        return take_vma(of(state), dst);
    };
    ops.anon_vma_fork = [](void* state, rmap_vma* child, const rmap_vma* parent) {
        CHECK(child->anon_vma == nullptr);
        CHECK(child->mm != parent->mm);
        CHECK(child->mm_rmap == parent->mm_rmap);
        child->anon_vma = reinterpret_cast<void*>(child->vma);
        child->anon_vma_chain = reinterpret_cast<void*>(u64{0xcafe});
        const int said = of(state).go_wrong(Misdeed::fork);
        return said < 0 ? said : take_vma(of(state), child);
    };
    ops.unlink_anon_vmas = [](void* state, rmap_vma* vma) {
        CHECK(vma->anon_vma_chain == reinterpret_cast<void*>(u64{0xcafe}));
        std::erase(of(state).vmas, vma->vma);
        return of(state).machine->freed(of(state).machine, 0, 1);
    };
    ops.home = [](void* state, const rmap_vma*, u32* home) {
        *home = of(state).home;
        return of(state).go_wrong(homes);
    };
    ops.rmap_walk = [](void* state, rmap_walk* in_progress) {
        Lister& list = of(state);
        if (const int said = list.go_wrong(Misdeed::walk, in_progress)) return said;
        for (const u64 number : list.vmas) {
            rmap_vma vma;
            if (list.machine->find(list.machine, number, &vma) != 1) return -1;
            ++in_progress->counters[0];
            const u64 end = vma.anon_pgoff + ((vma.end - vma.start) >> RMAP_PAGE_SHIFT);
            if (end <= in_progress->index || vma.anon_pgoff >= in_progress->index + in_progress->nr)
                continue;
            if (list.machine->visit(in_progress, number) != 1) break;
        }
        return 0;
    };
    ops.validate = [](void* state, const rmap_live* live) {
        Lister& list = of(state);
        list.calls.push_back("validate " + text(live->mm_count) + " mms, " +
                             text(live->home_count ? live->folios[0] : 0) + " folios");
        return list.go_wrong(recount);
    };
    return ops;
}

ModelEntry entry_of(const CModelTable& table) {
    return {&table.info(), [&table](const ModelParams& params, Costs& costs) {
                return table.make(params, costs);
            }};
}

// A replay of two processes that share two pages of four.
struct Shared {
    explicit Shared(Misdeed when = none, std::function<int(Lister&, rmap_walk*)> misdeed = {},
                    std::vector<std::pair<std::string, std::string>> params = {})
        : checked(table()) {
        list.when = when;
        list.misdeed = std::move(misdeed);
        lister = &list;
        replay.emplace(entry_of(checked), scenario::Replay::facts_of(Kernel::v6_18),
                       std::move(params));
        replay->exec(1);
        replay->mmap(1, X, 4);
        replay->write(1, X, 2);
        replay->fork(1, 2);
    }
    Lister list;
    CModelTable checked;
    std::optional<scenario::Replay> replay;
};

// What the model's failure says.
template <class Error = ModelFailure, class F>
std::string failure_of(F&& act) {
    try {
        act();
    } catch (const Error& error) {
        return error.what();
    }
    return "";
}
std::string failure_in(Misdeed when, std::function<int(Lister&, rmap_walk*)> misdeed) {
    return failure_of([&] {
        Shared shared(when, std::move(misdeed));
        shared.replay->walk(1, X);
        shared.replay->machine->validate();
    });
}
std::string refusal_of(const std::function<void(rmap_model_ops&)>& spoil) {
    rmap_model_ops ops = table();
    spoil(ops);
    return failure_of<std::invalid_argument>([&] { CModelTable refused(ops); });
}
bool contains(const std::string& text, std::string_view part) {
    return text.find(part) != text.npos;
}

}  // namespace

TEST_CASE("C model: callbacks come in order, and words stay with VMAs and mms") {
    Shared s;
    scenario::Replay& r = *s.replay;
    CHECK(r.walk(1, X) == "1+ 2+");
    CHECK(r.log.walks.back().counters[0] == 4u);  // two stacks are listed too
    r.mprotect(1, X + kPageSize, 1, scenario::kProtRead);
    r.mremap(2, X, 1, Y, 1, 3);
    CHECK(r.walk(2, Y) == "1+ 2+");
    r.machine->validate();
    r.munmap(2, Y, 1);
    r.exit(2);
    CHECK(r.walk(1, X) == "1+");
    const std::vector<std::string> expected = {
        "mm_init 1",        "mm_fork_begin 2 of 1",     "mm_fork_end 2",
        "anon_vma_clone 0", "anon_vma_clone 0",         "anon_vma_clone 2",
        "anon_vma_clone 0", "validate 2 mms, 3 folios", "mm_exit 2"};
    CHECK(s.list.calls == expected);
    CHECK(r.costs.live[1] == s.list.vmas.size());
    s.replay.reset();
    CHECK(s.list.exits == 1);
}

TEST_CASE("C model: rules and parameters") {
    Shared s(none, {}, {{"colour", "blue"}, {"kernel", "6.12"}});
    CHECK(s.list.colour == "blue");
    CHECK(s.list.machine->kernel == static_cast<u32>(RMAP_KERNEL_6_12));
    CHECK(s.list.machine->struct_size == sizeof(rmap_machine));
    CHECK(s.checked.info().params.size() == 2u);
    CHECK(contains(failure_of<std::invalid_argument>(
                       [] { Shared refused(none, {}, {{"colour", "red|blue"}}); }),
                   "must be one of red|blue"));
}

TEST_CASE("C model: the machine answers what it is asked") {
    const auto ask = [](Lister& list, rmap_walk* in_progress) {
        const rmap_machine* m = list.machine;
        rmap_vma vma, other;
        rmap_mm mm;
        CHECK(m->find_vma(m, 1, X - kPageSize, &vma) == 1);
        CHECK(vma.start == X);
        CHECK(vma.end == X + 4 * kPageSize);
        CHECK(vma.anon_pgoff == X >> RMAP_PAGE_SHIFT);
        CHECK(vma.mm == 1u);
        CHECK(vma.mm_rmap == reinterpret_cast<void*>(u64{101}));
        CHECK((vma.flags & RMAP_VM_WRITE) != 0u);
        CHECK(m->prev(m, vma.vma, &other) == 0);
        CHECK(m->next(m, vma.vma, &other) == 1);
        CHECK((other.flags & RMAP_VM_GROWSDOWN) != 0u);
        CHECK(m->next(m, other.vma, &other) == 0);
        CHECK(m->find_vma(m, 1, ~u64{0}, &other) == 0);
        CHECK(m->find(m, vma.vma + (u64{1} << 32), &other) == 0);
        CHECK(m->find(m, 0, &other) == 0);
        CHECK(m->mm(m, 2, &mm) == 1);
        CHECK(mm.pid == 2);
        CHECK(mm.rmap == reinterpret_cast<void*>(u64{101}));
        CHECK(in_progress->index == X >> RMAP_PAGE_SHIFT);
        CHECK(in_progress->nr == 1u);
        CHECK(in_progress->mapcount == 2u);
        CHECK(in_progress->home == 5u);
        CHECK(in_progress->exclusive == 0u);
        CHECK(m->visit_at(in_progress, 2, X) == 1);
        CHECK(m->visit_at(in_progress, 2, X) == 1);  // not twice
        CHECK(m->visit_at(in_progress, 2, X + kPageSize * 99) == 1);  // nothing there
        CHECK(in_progress->found == 1u);
        return 0;
    };
    Shared s(walk, [&](Lister& list, rmap_walk* in_progress) {
        ask(list, in_progress);
        list.when = none;
        return list.machine->visit(in_progress, list.vmas[1]) == 1 ? 1 : 2;
    });
    CHECK(s.replay->walk(1, X) == "2+ 1+");
    CHECK(s.replay->machine->totals().misses == 0u);
}

TEST_CASE("C model: what it hands back is checked") {
    const auto visit = [](u64 vma) {
        return [vma](Lister& list, rmap_walk* w) { return list.machine->visit(w, vma); };
    };
    CHECK(failure_in(walk, visit(0)) == "rmap_walk(): offered VMA 0, which is none");
    CHECK(contains(failure_in(walk, visit(~u64{0})), "which is none"));
    CHECK(contains(failure_in(walk,
                              [](Lister& list, rmap_walk* w) {
                                  list.machine->visit(w, list.vmas[1]);
                                  return list.machine->visit(w, list.vmas[1]);
                              }),
                   "of mm 1 (pid 1) twice"));
    CHECK(contains(
        failure_in(walk,
                   [](Lister& list, rmap_walk* w) { return list.machine->visit(w, list.vmas[0]); }),
        "which has no page of the folio"));
    CHECK(failure_in(walk, [](Lister& list, rmap_walk* w) {
              return list.machine->visit_at(w, 9, X);
          }) == "rmap_walk(): asked about mm 9, which is none");
    // Whatever it returns, and only the first thing it did wrong.
    CHECK(contains(failure_in(walk,
                              [](Lister& list, rmap_walk* w) {
                                  list.machine->visit(w, 3);
                                  list.machine->visit(w, 4);
                                  return 0;
                              }),
                   "offered VMA 3,"));
    CHECK(failure_in(walk, [](Lister&, rmap_walk* w) { return ++w->counters[7], 0; }) ==
          "rmap_walk(): walk_counter 7 is none of the 1 declared");
    CHECK(failure_in(prepare, [](Lister& list, rmap_walk*) {
              return ++list.machine->counters[11], 0;
          }) == "anon_vma_prepare(): op_counter 11 is none of the 1 declared");
    CHECK(failure_in(prepare, [](Lister& list, rmap_walk*) {
              return list.machine->allocated(list.machine, 1, 1);
          }) == "anon_vma_prepare(): object 1 is none of the 1 declared");
    CHECK(failure_in(prepare, [](Lister& list, rmap_walk*) {
              return list.machine->allocated_at(list.machine, 0);
          }) == "anon_vma_prepare(): site 0 is none of the 0 declared");
    CHECK(failure_in(Misdeed::fork, [](Lister& list, rmap_walk*) {
              return list.machine->freed(list.machine, 0, 3);
          }) == "anon_vma_fork(): freed 3 link of 2 that live");
    CHECK(failure_in(homes, [](Lister&, rmap_walk*) { return -7; }) ==
          "home(): returned -7 without saying why");
    CHECK(failure_in(Misdeed::mm, [](Lister& list, rmap_walk*) {
              return list.machine->fail(list.machine, "two\nlines");
          }) == "mm_init(): two lines");
    CHECK(failure_in(start, [](Lister& list, rmap_walk*) {
              return list.machine->fail(list.machine, nullptr);
          }) == "init(): failed without saying why");
    CHECK(contains(failure_in(start,
                              [](Lister& list, rmap_walk*) {
                                  ++list.machine->counters[0];  // which goes nowhere
                                  return list.machine->freed(list.machine, 0, 0);
                              }),
                   "init(): the ledger is closed"));
}

TEST_CASE("C model: a failed recount is a broken invariant, and so is a home that changed") {
    const auto broken = [](Misdeed when, u32 home) {
        return failure_of<BrokenInvariant>([&] {
            Shared s(when, [](Lister& list, rmap_walk*) {
                return list.machine->fail(list.machine, "a link is lost");
            });
            s.list.home = home;
            s.replay->machine->validate();
        });
    };
    CHECK(broken(none, 5).empty());
    CHECK(broken(recount, 5) == "a link is lost");
    CHECK(contains(broken(none, 6), "of mm 1 (pid 1) was 5 and is 6"));
}

TEST_CASE("C model: tables that cannot be run are refused") {
    CHECK(contains(refusal_of([](rmap_model_ops& ops) { ops.abi_version = 7; }), "version 7"));
    CHECK(contains(refusal_of([](rmap_model_ops& ops) { ops.struct_size = 8; }), "of 8 bytes"));
    CHECK(contains(refusal_of([](rmap_model_ops& ops) { ++ops.struct_size; }), "bytes"));
    CHECK(contains(refusal_of([](rmap_model_ops& ops) { ops.home = nullptr; }), "has no home()"));
    CHECK(contains(refusal_of([](rmap_model_ops& ops) { ops.name = ""; }), "has no name"));
    CHECK(contains(refusal_of([](rmap_model_ops& ops) { ops.needs = 4; }), "unknown bits"));
    static constexpr rmap_counter kCostly[] = {{"links", 6, "", nullptr}, {}};
    CHECK(contains(refusal_of([](rmap_model_ops& ops) { ops.op_counters = kCostly; }), "cost 6"));
    static constexpr rmap_site kSites[] = {{"alloc", 1}, {}};
    CHECK(contains(refusal_of([](rmap_model_ops& ops) { ops.sites = kSites; }), "object 1"));
    // As many as memory holds, none of them the last.
    static std::vector<rmap_object_kind> endless(100, {"kind", 8});
    CHECK(
        contains(refusal_of([](rmap_model_ops& ops) { ops.objects = endless.data(); }), "at most"));
}

TEST_CASE("C model: an older, smaller table has the defaults of what it lacks") {
    rmap_model_ops ops = table();
    ops.struct_size = offsetof(rmap_model_ops, page_add_rmap);
    ops.page_add_rmap = [](void*, u32*, u32, u64) { return -1; };  // behind its end
    ops.mm_init = nullptr;
    ops.mm_exit = nullptr;
    Lister list;
    lister = &list;
    const CModelTable checked(ops);
    scenario::Replay r(entry_of(checked), scenario::Replay::facts_of(Kernel::v7_3));
    r.exec(1);
    r.mmap(1, X, 4);
    r.write(1, X, 2);
    r.machine->validate();
    CHECK(r.walk(1, X) == "1+");
    r.exit(1);
    CHECK(list.calls.empty());
}

TEST_CASE("C model: a library that is none") {
    CHECK(contains(failure_of<std::invalid_argument>([] { CLibrary none("./no-such.so"); }),
                   "cannot be loaded"));
}
