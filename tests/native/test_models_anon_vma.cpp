// SPDX-License-Identifier: GPL-2.0-only
// anon_vma's bookkeeping, rule by rule, under the kernels that differ.
#include "rmap_models/native/anon_vma.hpp"
#include "rmap_models/native/params.hpp"
#include "tests/native/check.hpp"
#include "tests/native/model_bench.hpp"

using namespace rmapreplay;
using bench::Bench;

namespace {

enum Object : std::size_t { kAnonVma = 1, kAvc = 2 };
enum OpCounter : std::size_t { kInserts, kRemoves, kLock, kShared, kReused };
constexpr u64 X = 0x7000;
using Handles = std::vector<u32>;

struct AnonBench : Bench {
    explicit AnonBench(Kernel kernel = Kernel::v7_3) : Bench("anon_vma", kernel) {}
    AnonVmaModel& rmap() { return static_cast<AnonVmaModel&>(*model); }
    const AnonVma& own(Mm& mm, u64 page = X) { return rmap().anon_vma(at(mm, page)); }
    u32 handle(Mm& mm, u64 page = X) { return own(mm, page).self; }
    Handles chain(Mm& mm, u64 page = X) { return rmap().anon_vma_chain(at(mm, page)); }
    AnonVma& damage(Mm& mm, u64 page = X) { return const_cast<AnonVma&>(own(mm, page)); }
    bool notices(std::string_view what) const { return broken().find(what) != std::string::npos; }
    void check() { CHECK(broken() == ""); }
};

}  // namespace

TEST_CASE("anon_vma: the first fault makes one anon_vma and one link") {
    AnonBench b;
    Mm& mm = b.exec();
    b.mmap(mm, X, 4);
    b.write(mm, X);
    CHECK(b.op.allocated[kAnonVma] == u64{1});
    CHECK(b.op.allocated[kAvc] == u64{1});
    CHECK(b.op.counters[kLock] == u64{1});
    CHECK(b.own(mm).num_children == 1u);  // itself
    CHECK(b.own(mm).num_active_vmas == 1u);
    b.check();
    b.exit(mm);
    CHECK(b.costs.live[kAnonVma] == u64{0});
    CHECK(b.costs.live[kAvc] == u64{0});
    b.check();
}

TEST_CASE("anon_vma: a neighbour's is shared if only what mprotect changes differs, next first") {
    AnonBench b;
    Mm& mm = b.exec();
    b.mmap(mm, X, 4);
    Vma& middle = b.mmap(mm, X + 4, 4, bench::kRw & ~VM_WRITE);
    Vma& above = b.mmap(mm, X + 8, 4);
    b.write(mm, X);
    above.policy = 1;  // keeps the two ends apart for now
    b.write(mm, X + 8);
    above.policy = 0;
    CHECK(b.handle(mm) != b.handle(mm, X + 8));
    b.model->anon_vma_prepare(middle);
    CHECK(b.handle(mm, X + 4) == b.handle(mm, X + 8));
    CHECK(b.own(mm, X + 8).num_active_vmas == 2u);
    CHECK(b.op.counters[kShared] == u64{1});
    b.check();
}

TEST_CASE("anon_vma: what keeps a neighbour's anon_vma from being shared") {
    struct {
        const char* what;
        void (*change)(Vma&);
        bool shared;
    } cases[] = {
        {"nothing", [](Vma&) {}, true},
        {"VM_SOFTDIRTY", [](Vma& v) { v.flags |= VM_SOFTDIRTY; }, true},
        {"VM_EXEC", [](Vma& v) { v.flags |= VM_EXEC; }, true},
        {"VM_ACCOUNT", [](Vma& v) { v.flags &= ~VM_ACCOUNT; }, false},
        {"VM_NOHUGEPAGE", [](Vma& v) { v.flags |= VM_NOHUGEPAGE; }, false},
        {"file", [](Vma& v) { v.file = 7; }, false},
        {"policy", [](Vma& v) { v.policy = 1; }, false},
        {"vm_pgoff", [](Vma& v) { ++v.pgoff; }, false},
        {"anonymous offset", [](Vma& v) { ++v.anon_pgoff; }, false},
    };
    for (const auto& c : cases) {
        AnonBench b;
        Mm& mm = b.exec();
        b.mmap(mm, X, 4);
        c.change(b.mmap(mm, X + 4, 4));
        b.write(mm, X);
        b.write(mm, X + 4);
        const bool shared = b.handle(mm) == b.handle(mm, X + 4);
        check::report(shared == c.shared, __FILE__, __LINE__, c.what);
        b.check();
    }
}

TEST_CASE("anon_vma: guard markers keep neighbours apart before v7.3 only") {
    for (const Kernel kernel : {Kernel::v6_18, Kernel::v7_3}) {
        AnonBench b(kernel);
        Mm& mm = b.exec();
        b.mmap(mm, X, 4);
        b.mmap(mm, X + 4, 4, bench::kRw | VM_MAYBE_GUARD);
        b.write(mm, X);
        b.write(mm, X + 4);
        CHECK((b.handle(mm) == b.handle(mm, X + 4)) == (kernel == Kernel::v7_3));
    }
}

TEST_CASE("anon_vma: a fork child's is never shared with a neighbour") {
    AnonBench b;
    Mm& parent = b.exec();
    b.mmap(parent, X, 4);
    b.mmap(parent, X + 4, 4);
    b.write(parent, X);
    Mm& child = b.fork(parent);
    CHECK(b.model->vma_is_fork_child(b.at(child, X)));
    CHECK_FALSE(b.model->vma_is_fork_child(b.at(parent, X)));
    CHECK_FALSE(b.model->vma_is_fork_child(b.at(parent, X + 4)));
    b.write(child, X + 4);
    CHECK(b.handle(child) != b.handle(child, X + 4));
    CHECK(b.chain(child, X + 4) == Handles{b.handle(child, X + 4)});
    b.check();
}

TEST_CASE("anon_vma: v7.3 turns the order of the list around at each fork, v6.18 keeps it") {
    for (const Kernel kernel : {Kernel::v6_12, Kernel::v6_18, Kernel::v7_3}) {
        AnonBench b(kernel);
        Mm& a = b.exec();
        b.mmap(a, X, 1);
        b.write(a, X);
        Mm& c1 = b.fork(a);
        Mm& c2 = b.fork(c1);
        Mm& c3 = b.fork(c2);
        const u32 h0 = b.handle(a), h1 = b.handle(c1), h2 = b.handle(c2), h3 = b.handle(c3);
        CHECK(b.chain(a) == Handles{h0});
        CHECK(b.chain(c1) == Handles{h1, h0});
        if (kernel == Kernel::v7_3) {
            CHECK(b.chain(c2) == Handles{h2, h0, h1});
            CHECK(b.chain(c3) == Handles{h3, h1, h0, h2});
        } else {
            CHECK(b.chain(c2) == Handles{h2, h1, h0});
            CHECK(b.chain(c3) == Handles{h3, h2, h1, h0});
        }
        CHECK(b.own(a).num_children == 2u);
        CHECK(b.own(a).refcount == 4u);
        CHECK(b.own(c1).num_children == 1u);
        CHECK(b.own(c2).parent == h1);
        CHECK(b.own(c3).root == h0);
        CHECK(b.own(c3).num_children == 0u);
        b.check();
        // The same in split and in the copy that mremap makes.
        const Handles before = b.chain(c3);
        b.mremap(c3, X, 1, X + 64);
        const Handles turned(before.rbegin(), before.rend());
        CHECK(b.chain(c3, X + 64) == (kernel == Kernel::v7_3 ? turned : before));
        b.check();
        CHECK(b.misses() == 0u);
    }
}

TEST_CASE("anon_vma: fork takes over an anon_vma that nobody owns and that has one child") {
    for (const Kernel kernel : {Kernel::v6_18, Kernel::v7_3}) {
        AnonBench b(kernel);
        Mm& a = b.exec();
        b.mmap(a, X, 1);
        b.write(a, X);
        Mm& c1 = b.fork(a);
        const u32 root = b.handle(a), first = b.handle(c1);
        b.exit(a);
        CHECK(b.rmap().at(root).num_active_vmas == 0u);
        CHECK(b.rmap().at(root).num_children == 2u);  // itself and c1's
        b.check();

        Mm& c2 = b.fork(c1);  // the root has nobody left but counts itself: not taken
        const u32 second = b.handle(c2);
        CHECK(second != root);
        CHECK(second != first);
        b.exit(c1);
        CHECK(b.rmap().at(first).num_children == 1u);

        b.new_op();
        Mm& c3 = b.fork(c2);
        CHECK(b.handle(c3) == first);
        CHECK(b.chain(c3).size() == std::size_t{3});
        CHECK(b.rmap().at(first).num_active_vmas == 1u);
        CHECK(b.op.counters[kReused] == u64{1});
        // v7.3 has made one of each in advance.
        const u64 ahead = kernel == Kernel::v7_3 ? 1 : 0;
        CHECK(b.op.allocated[kAnonVma] == ahead);
        CHECK(b.op.freed[kAnonVma] == ahead);
        CHECK(b.op.allocated[kAvc] == 3 + ahead);
        CHECK(b.op.freed[kAvc] == ahead);
        CHECK(b.op.counters[kInserts] == u64{3});
        CHECK(b.op.counters[kLock] == u64{1});
        b.check();
        CHECK(b.misses() == 0u);
        b.exit(c2);
        b.check();
        b.exit(c3);
        CHECK(b.costs.live[kAnonVma] == u64{0});
        CHECK(b.costs.live[kAvc] == u64{0});
        b.check();
    }
}

TEST_CASE("anon_vma: objects are counted at the function that allocates them") {
    for (const Kernel kernel : {Kernel::v6_18, Kernel::v7_3}) {
        AnonBench b(kernel);
        const auto at = [&](std::string_view name, std::size_t kind) {
            const auto sites = b.model->info().sites;
            for (std::size_t i = 0; i < sites.size(); ++i)
                if (sites[i].name == name && sites[i].kind == kind)
                    return b.costs.sites[kMachineSites + i];
            throw std::logic_error("no such site");
        };
        Mm& a = b.exec();
        b.mmap(a, X, 1);
        b.write(a, X);
        Mm& c1 = b.fork(a);
        b.exit(a);
        Mm& c2 = b.fork(c1);
        b.exit(c1);
        b.fork(c2);  // takes over c1's
        CHECK(at("__anon_vma_prepare", kAnonVma) == u64{1});
        CHECK(at("__anon_vma_prepare", kAvc) == u64{1});
        CHECK(at("anon_vma_clone", kAvc) == u64{1 + 2 + 3});
        const u64 forks = kernel == Kernel::v7_3 ? 3 : 2;
        CHECK(at("anon_vma_fork", kAnonVma) == forks);
        CHECK(at("anon_vma_fork", kAvc) == forks);
    }
}

TEST_CASE("anon_vma: one with two children is not taken over") {
    AnonBench b;
    Mm& a = b.exec();
    b.mmap(a, X, 1);
    b.write(a, X);
    Mm& c1 = b.fork(a);
    Mm& c2 = b.fork(c1);
    Mm& c3 = b.fork(c1);
    const u32 first = b.handle(c1);
    CHECK(b.own(c1).num_children == 2u);
    b.exit(c1);
    Mm& c4 = b.fork(c2);
    CHECK(b.handle(c4) != first);
    b.exit(c3);  // its anon_vma goes, and one child with it
    CHECK(b.rmap().at(first).num_children == 1u);
    Mm& c5 = b.fork(c2);
    CHECK(b.handle(c5) == first);
    b.check();
}

TEST_CASE("anon_vma: the order of the list decides which of two is taken over") {
    for (const Kernel kernel : {Kernel::v6_18, Kernel::v7_3}) {
        AnonBench b(kernel);
        Mm& a = b.exec();
        b.mmap(a, X, 1);
        b.write(a, X);
        Mm& c1 = b.fork(a);
        Mm& c2 = b.fork(c1);
        Mm& c3 = b.fork(c2);
        const u32 h1 = b.handle(c1), h2 = b.handle(c2);
        b.exit(c1);
        b.exit(c2);
        // c3's list is [3 2 1 0] walked from its tail, or [3 1 0 2] walked from its head: 1 is met
        // first either way. One generation on the two part.
        Mm& c4 = b.fork(c3);
        CHECK(b.handle(c4) == h1);
        b.exit(c4);
        CHECK(b.rmap().at(h1).num_active_vmas == 0u);
        // Not known to any but its own process: the next fork takes 1 again, its sibling then 2.
        Mm& c5 = b.fork(c3);
        Mm& c6 = b.fork(c5);
        CHECK(b.handle(c5) == h1);
        CHECK(b.handle(c6) == h2);
        b.check();
        CHECK(b.misses() == 0u);
    }
}

TEST_CASE("anon_vma: a split's old half loses its place among equals") {
    AnonBench b;
    Mm& a = b.exec();
    Vma& vma = b.mmap(a, X, 4);
    b.write(a, X, 4);
    Mm& child = b.fork(a);
    const Vma* in_child = &b.at(child, X);
    CHECK(b.walk(a, X).visited == (std::vector<const Vma*>{&vma, in_child}));
    b.new_op();
    b.split(vma, X + 2, false);
    CHECK(b.walk(a, X).visited == (std::vector<const Vma*>{in_child, &vma}));
    CHECK(b.op.counters[kInserts] == u64{2});
    CHECK(b.op.counters[kRemoves] == u64{1});
    CHECK(b.op.counters[kLock] == u64{2});  // anon_vma_clone(), then vma_prepare()
    CHECK(b.own(a).num_active_vmas == 2u);
    CHECK(b.misses() == 0u);
    b.check();
}

TEST_CASE("anon_vma: a merge takes the lock once for both VMAs it moves") {
    AnonBench b;
    Mm& a = b.exec();
    Vma& lower = b.mmap(a, X, 8);
    b.write(a, X, 8);
    Vma& upper = b.split(lower, X + 4, false);
    b.new_op();
    b.move_boundary(lower, upper, X + 6);
    CHECK(b.op.counters[kLock] == u64{1});
    CHECK(b.op.counters[kInserts] == u64{2});
    b.check();
    CHECK(b.misses() == 0u);
    b.new_op();
    b.merge(lower, upper);
    CHECK(b.op.counters[kLock] == u64{2});  // vma_prepare(), then unlink_anon_vmas()
    CHECK(b.own(a).num_active_vmas == 1u);
    CHECK(b.op.freed[kAvc] == u64{1});
    b.check();
    CHECK(b.misses() == 0u);
}

TEST_CASE("anon_vma: merging an unfaulted VMA with a faulted one clones the link") {
    AnonBench b;
    Mm& a = b.exec();
    Vma& lower = b.mmap(a, X, 4);
    Vma& upper = b.mmap(a, X + 4, 4);
    b.write(a, X + 4, 4);
    b.merge(lower, upper);
    CHECK(b.chain(a).size() == std::size_t{1});
    CHECK(b.own(a).num_active_vmas == 1u);
    b.check();
    CHECK(b.misses() == 0u);
}

TEST_CASE("anon_vma: a root outlives its tree until its descendants are gone") {
    // In v7.3 the list of a grandchild is [own, root, middle], so unlinking it as the last of the
    // family empties the root's tree before the middle one's.
    AnonBench b;
    Mm& a = b.exec();
    b.mmap(a, X, 1);
    b.write(a, X);
    Mm& c1 = b.fork(a);
    Mm& c2 = b.fork(c1);
    b.exit(a);
    b.exit(c1);
    CHECK(b.costs.live[kAnonVma] == u64{3});
    b.check();
    b.exit(c2);
    CHECK(b.costs.live[kAnonVma] == u64{0});
    b.check();
}

TEST_CASE("anon_vma: a home stays the same through split, merge, growth and move") {
    AnonBench b;
    Mm& a = b.exec();
    Vma& vma = b.mmap(a, X, 8);
    b.write(a, X, 8);
    const Home home = b.model->home(vma);
    Vma& upper = b.split(vma, X + 4, false);
    CHECK(b.model->home(upper) == home);
    Vma& moved = b.mremap(a, X + 5, 2, X + 100);
    CHECK(b.model->home(moved) == home);
    b.grow_down(vma, 3);
    CHECK(b.model->home(vma) == home);
    CHECK(b.misses() == 0u);
    b.check();
    b.mremap(a, X + 100, 2, X + 200, true);
    CHECK(b.at(a, X + 100).anon_vma == nullptr);
    CHECK(b.misses() == 0u);
    b.check();
}

TEST_CASE("anon_vma: validate() notices what does not fit") {
    AnonBench b;
    Mm& a = b.exec();
    Vma& vma = b.mmap(a, X, 8);
    b.write(a, X, 8);
    Mm& child = b.fork(a);
    Mm& grandchild = b.fork(child);
    b.check();

    vma.end += kPageSize;
    CHECK(b.notices("changed its range without its links"));
    vma.end -= kPageSize;
    AnonVma& own = b.damage(child);
    ++own.num_active_vmas;
    CHECK(b.notices(": num_active_vmas is 2, recounted 1"));
    --own.num_active_vmas;
    ++own.num_children;
    CHECK(b.notices(": num_children is 2, recounted 1"));
    --own.num_children;
    ++own.refcount;
    CHECK(b.notices(": refcount is 2, recounted 1"));
    --own.refcount;
    own.root = own.self;
    CHECK(b.notices("has another root than its parent"));
    own.root = own.parent;
    const u32 parent = std::exchange(own.parent, b.handle(grandchild));
    CHECK(b.notices("not its parent"));
    own.parent = parent;
    void* word = std::exchange(b.at(child, X).anon_vma, nullptr);
    CHECK(b.notices("has one of anon_vma and links only"));
    b.at(child, X).anon_vma = b.at(a, X).anon_vma;
    CHECK(b.notices("has its own anon_vma in common with VMA 0x7000000-0x7008000 of mm 1 (pid 0)"));
    b.at(child, X).anon_vma = b.at(grandchild, X).anon_vma;
    CHECK(b.notices("does not link its own anon_vma"));
    b.at(child, X).anon_vma = word;
    void* links = std::exchange(vma.chain, b.at(child, X).chain);
    CHECK(b.notices("lists another VMA's link"));
    vma.chain = links;
    auto* node = const_cast<AnonVmaChain*>(own.tree.first(X, X, b.op.calls));
    node->augmented ^= 2;
    CHECK(b.notices("a node does not know where its subtree ends"));
    node->augmented ^= 2;
    b.check();

    Live live = b.live();
    live.mms.pop_back();
    CHECK_THROWS_AS(b.model->validate(live), BrokenInvariant);
    live = b.live();
    live.homed[99] = 1;
    CHECK_THROWS_AS(b.model->validate(live), BrokenInvariant);
}

TEST_CASE("anon_vma: validate() notices VMAs that share an anon_vma and not all others") {
    AnonBench b;
    Mm& a = b.exec();
    b.mmap(a, X, 8);
    b.write(a, X, 8);
    Mm& child = b.fork(a);
    Mm& grandchild = b.fork(child);
    Vma& copy = b.mmap(child, X + 8, 8);
    copy.anon_vma = b.at(child, X).anon_vma;
    b.model->anon_vma_clone(copy, b.at(grandchild, X), CloneFor::split);
    CHECK(b.notices(
        "does not link the anon_vmas that VMA 0x7000000-0x7008000 of mm 3 (pid 0) links"));
    b.model->unlink_anon_vmas(copy);
    b.check();
}

// The ratio that the reuse rule was made for is not an invariant.
TEST_CASE("anon_vma: a chain of forks whose elders exit leaves many anon_vmas to one VMA") {
    for (const Kernel kernel : {Kernel::v6_12, Kernel::v6_18, Kernel::v7_3}) {
        AnonBench b(kernel);
        Mm* mm = &b.exec();
        b.mmap(*mm, X, 1);
        b.write(*mm, X);
        for (int i = 0; i < 4; ++i) mm = &b.fork(*mm);
        while (b.processes() > 1) b.exit(b.process(0));
        b.check();
        CHECK(b.chain(b.process(0)).size() == std::size_t{5});
        CHECK(b.costs.live[kAnonVma] == u64{5});
        // Forks take them up, and make none, while there are any.
        for (int i = 0; i < 4; ++i) {
            Mm& last = b.process(0);
            b.fork(last);
            b.exit(last);
            b.check();
            CHECK(b.costs.live[kAnonVma] == u64{5});
        }
    }
}

TEST_CASE("models: unknown parameters and kernels are refused in one line") {
    Costs costs;
    for (const ModelEntry& entry : models()) {
        CHECK(find_model(entry.info->name) == &entry);
        CHECK_THROWS_AS(entry.make(ModelParams{Kernel::v7_3, {{"colour", "red"}}}, costs),
                        std::invalid_argument);
        CHECK_THROWS_AS(entry.make(ModelParams{Kernel::v7_3, {{"kernel", "5.4"}}}, costs),
                        std::invalid_argument);
        CHECK_NOTHROW(entry.make(ModelParams{Kernel::v7_3, {{"kernel", "auto"}}}, costs));
        CHECK(entry.info->objects.size() < kMaxObjects);  // and vm_area_struct
        CHECK(entry.info->walk_counters.size() <= kMaxCounters);
        CHECK(entry.info->op_counters.size() <= kMaxCounters);
    }
    CHECK(find_model("prio_tree") == nullptr);
    const ModelInfo& info = *find_model("anon_vma")->info;
    CHECK(check_params(info, {Kernel::v6_12, {}}) == Kernel::v6_12);
    CHECK(check_params(info, {Kernel::v6_12, {{"kernel", "auto"}}}) == Kernel::v6_12);
    CHECK(check_params(info, {Kernel::v6_12, {{"kernel", "7.3"}}}) == Kernel::v7_3);
}
