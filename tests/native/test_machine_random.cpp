// SPDX-License-Identifier: GPL-2.0-only
// Random traces, replayed by one machine per model side by side: after every few events the machine
// and its model recount themselves, all machines agree on what maps what, and no walk misses a
// mapping. RMAPREPLAY_FUZZ_SEEDS=n runs n times as many seeds.
#include <sched.h>
#include <sys/mman.h>

#include <cstdlib>
#include <random>

#include "tests/native/check.hpp"
#include "tests/native/scenario.hpp"

using namespace rmapreplay;

namespace {

constexpr i32 kPids = 6;
constexpr u64 kHeap = 0x555500000000;
constexpr u64 kArea = 0x700000000000;  // a multiple of 2 MB: what is mapped lies around it
constexpr u64 kStackTop = 0x7ffc00000000;

constexpr u64 kMayMove = 1, kMoveFixed = 2, kDontUnmap = 4;  // MREMAP_*
constexpr u64 kThpDisable = 41, kMemoryMerge = 67, kSetVma = 0x53564d41;  // PR_*

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
    Side(const char* name_, Kernel kernel, ThpMode thp) : name(name_) {
        model = find_model(name)->make(ModelParams{kernel, {}}, costs);
        TraceFacts facts;
        facts.kernel = kernel;
        facts.thp = thp;
        machine = std::make_unique<Machine>(*model, costs, facts, parse_walk_policy("none"), tally);
    }

    bool may_miss() const { return name == "cow-poc"; }

    std::string name;
    Costs costs;
    Tally tally;
    std::unique_ptr<RmapModel> model;
    std::unique_ptr<Machine> machine;
};

// Makes up one event after another, as mainline could have recorded them: `truth` is a machine under
// anon_vma, whose VMAs say what a call may be given.
class Monkey {
  public:
    Monkey(const Machine& truth, u64 seed, Kernel kernel, ThpMode thp)
        : truth_(truth), random_(seed), kernel_(kernel), thp_(thp) {}

    // The next event; some come in a fixed order and are made up together.
    Event next() {
        while (queue_.empty()) make_up();
        const Event e = queue_.front();
        queue_.erase(queue_.begin());
        return e;
    }
    // The end of every task.
    Event exit(i32 pid) { return event(Op::exit, pid); }

  private:
    u64 below(u64 n) { return random_() % n; }
    bool one_in(u64 n) { return below(n) == 0; }
    Event event(Op op, i32 pid) {
        Event e;
        e.op = op;
        e.pid = e.tid = pid;
        e.time = ++time_;
        return e;
    }
    Event range(Op op, i32 pid, u64 addr, u64 pages) {
        Event e = event(op, pid);
        e.addr = addr;
        e.len = pages * kPageSize;
        return e;
    }
    void put(const Event& e) { queue_.push_back(e); }

    // 48 pages around a 2 MB boundary, or with huge pages 6 MB.
    u64 address() {
        if (thp_ == ThpMode::never || one_in(3)) return kArea + (below(48) - 24) * kPageSize;
        const u64 pmd = kArea + (below(3) - 1) * kPmdSize;
        return one_in(2) ? pmd : pmd + (below(8) - 4) * kPageSize;
    }
    u64 pages() {
        if (thp_ != ThpMode::never && one_in(3)) return 512 * (1 + below(2)) + (one_in(4) ? 3 : 0);
        return 1 + below(one_in(4) ? 24 : 6);
    }
    const Vma* any_vma(const Mm& mm) {
        const Vma* vma = mm.vmas.at(below(mm.vmas.size()));
        // Mostly where the others are too.
        return vma->start > kStackTop / 2 + kArea / 2 && !one_in(4)
                   ? mm.vmas.at(below(mm.vmas.size()))
                   : vma;
    }

    void make_up() {
        const i32 pid = 1 + static_cast<i32>(below(kPids));
        const Mm* mm = truth_.mm_of(pid);
        if (!mm || mm->vmas.empty()) {
            if (!mm && !one_in(3)) return make_up();
            return exec(pid);
        }
        switch (below(32)) {
            case 0:
            case 1:
            case 2:
            case 3: return map(pid, *mm);
            case 4:
            case 5: return put(range(Op::munmap, pid, address(), pages()));
            case 6:
            case 7: return mprotect(pid);
            case 8:
            case 9:
            case 10: return mremap(pid, *mm);
            case 11: return brk(pid);
            case 12:
            case 13: return madvise(pid);
            case 14: return mlock(pid);
            case 15: return mbind_or_prctl(pid);
            case 19: return one_in(2) ? neighbours(pid) : away_and_home(pid);
            case 16:
            case 17: return fork(pid);
            case 18: return one_in(3) ? exec(pid) : put(exit(pid));
            default: return fault(pid, *mm);
        }
    }

    void map(i32 pid, const Mm& mm) {
        Event e = range(Op::mmap, pid, address(), pages());
        constexpr u32 kProts[] = {3, 3, 3, 3, 1, 0, 7, 5};
        e.prot = kProts[below(8)];
        const u64 kind = below(8);
        if (kind == 0) {
            e.flags = MAP_SHARED | MAP_ANONYMOUS;
        } else if (kind < 3) {  // offsets that continue where neighbours are
            e.flags = MAP_PRIVATE;
            e.file = 1 + static_cast<u32>(below(2));
            e.fd = 3;
            e.offset = one_in(4) ? below(4) * kPageSize : e.addr - kArea + 2 * kPmdSize;
        } else {
            e.flags = MAP_PRIVATE | MAP_ANONYMOUS;
        }
        if (one_in(12)) e.flags |= MAP_NORESERVE;
        if (one_in(16)) e.flags |= MAP_LOCKED;
        if (one_in(12)) e.flags |= MAP_POPULATE;
        if (one_in(12)) e.flags |= MAP_STACK;
        if (one_in(16) && !e.file && !(e.flags & MAP_SHARED)) e.flags |= MAP_GROWSDOWN;
        const Vma* there = mm.vmas.find(e.addr);
        if ((there && there->start < e.addr + e.len) || one_in(2)) e.flags |= MAP_FIXED;
        put(e);
    }

    void mprotect(i32 pid) {
        Event e = range(Op::mprotect, pid, address(), pages());
        constexpr u32 kProts[] = {3, 3, 3, 1, 0, 7};
        e.prot = kProts[below(6)];
        put(e);
    }

    // What mainline would not have done is not made up: sources in one VMA (except for moves of
    // equal length since 6.17), a free place unless MREMAP_FIXED.
    void mremap(i32 pid, const Mm& mm) {
        const Vma* vma = any_vma(mm);
        if (vma->flags & VM_DONTEXPAND) return fault(pid, mm);
        u64 addr = vma->start, len = vma->end - vma->start;
        if (one_in(2)) {
            addr += below(vma->pages()) * kPageSize;
            len = kPageSize * (1 + below((vma->end - addr) >> kPageShift));
        }
        Event e = event(Op::mremap, pid);
        e.addr = e.new_addr = addr;
        e.len = e.new_len = len;
        const auto is_free = [&](u64 from, u64 to) {
            const Vma* there = mm.vmas.find(from);
            return !there || there->start >= to;
        };
        switch (below(6)) {
            case 0:  // shrink
                e.new_len = kPageSize * (1 + below(len >> kPageShift));
                break;
            case 1:  // grow in place
                e.len = vma->end - addr;
                e.new_len = e.len + pages() * kPageSize;
                if (!is_free(vma->end, addr + e.new_len)) return;
                break;
            case 2:  // the kernel's choice of place
                e.flags = kMayMove;
                e.new_len = len + below(4) * kPageSize;
                e.new_addr = address();
                if (e.new_len == e.len || !is_free(e.new_addr, e.new_addr + e.new_len)) return;
                break;
            case 3:  // over others
                e.flags = kMayMove | kMoveFixed;
                e.new_addr = address();
                if (one_in(2)) e.new_len = pages() * kPageSize;
                break;
            case 4:  // several VMAs
                e.flags = kMayMove | kMoveFixed;
                e.new_addr = address();
                if (kernel_ >= Kernel::v6_18) e.len = e.new_len = pages() * kPageSize;
                break;
            case 5:
                e.flags = kMayMove | kDontUnmap | (one_in(2) ? kMoveFixed : 0);
                e.new_addr = address();
                if (!(e.flags & kMoveFixed) && !is_free(e.new_addr, e.new_addr + len)) return;
                break;
        }
        if (e.flags & kMoveFixed) {
            if (e.new_addr < e.addr + e.len && e.addr < e.new_addr + e.new_len) return;  // EINVAL
            if (one_in(4)) {  // home again
                const u64 home = vma->index_at(addr) << kPageShift;
                if (home > kPmdSize && (home + e.new_len <= e.addr || e.addr + e.len <= home))
                    e.new_addr = home;
            }
        }
        put(e);
    }

    // What chance alone would seldom make: neighbours that were first faulted apart and may join
    // later, some, all or none of them faulted.
    void neighbours(i32 pid) {
        const u64 addr = address(), n = 1 + below(4);
        constexpr i32 kOnOff[][2] = {{10, 11}, {16, 17}, {14, 15}, {18, 19}};
        const auto& advice = kOnOff[below(std::size(kOnOff))];
        put(fresh(pid, addr, 3 * n));
        Event e = range(Op::madvise, pid, addr + n * kPageSize, n);
        e.advice = advice[0];
        put(e);
        some_writes(pid, addr, 3 * n);
        if (one_in(2)) share(pid);
        if (one_in(2)) put(range(Op::munmap, pid, addr + n * kPageSize, 1 + below(n)));
        if (one_in(2)) {
            e.advice = advice[1];
            put(e);
        } else {
            put(fresh(pid, addr + n * kPageSize, n));
        }
        some_writes(pid, addr, 3 * n);
    }

    // A part of a mapping goes away and comes back, to neighbours old and new.
    void away_and_home(i32 pid) {
        const u64 addr = address(), n = 1 + below(4);
        const u64 far = kArea + (u64{16} << 20) + below(8) * kPageSize;
        put(fresh(pid, addr, 3 * n));
        some_writes(pid, addr, 3 * n);
        if (one_in(2)) share(pid);
        Event e = range(Op::mremap, pid, addr + below(3) * n * kPageSize, n);
        e.new_addr = far;
        e.new_len = e.len;
        e.flags = kMayMove | kMoveFixed | (one_in(3) ? kDontUnmap : 0);
        put(e);
        if (one_in(2)) put(fresh(pid, addr, 3 * n));
        some_writes(pid, addr, 3 * n);
        some_writes(pid, far, n);
        if (one_in(3)) return;
        std::swap(e.addr, e.new_addr);
        e.flags &= ~kDontUnmap;
        put(e);
    }

    void share(i32 pid) {
        Event e = event(Op::fork, pid);
        for (e.child = 1; e.child <= kPids; ++e.child)
            if (!truth_.mm_of(e.child)) return put(e);
    }
    Event fresh(i32 pid, u64 addr, u64 pages) {
        Event e = range(Op::mmap, pid, addr, pages);
        e.prot = 3;
        e.flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED;
        return e;
    }
    void some_writes(i32 pid, u64 addr, u64 pages) {
        const u64 pattern = random_() & random_();
        for (u64 i = 0; i < pages; ++i) {
            if (!(pattern >> i & 1)) continue;
            Event e = event(Op::fault, pid);
            e.addr = addr + i * kPageSize;
            e.write = true;
            e.source = Source::user;
            put(e);
        }
    }

    void brk(i32 pid) {
        Event e = event(Op::brk, pid);
        e.addr = kHeap + below(16 * kPageSize);
        if (one_in(2)) e.addr &= ~(kPageSize - 1);
        put(e);
    }

    void madvise(i32 pid) {
        Event e = range(Op::madvise, pid, address(), pages());
        constexpr i32 kAdvice[] = {0,  1,  2,  4,  4,  4,  8,  10, 11, 12,  13,  14, 14,
                                   14, 15, 16, 17, 18, 19, 22, 23, 24, 102, 102, 103};
        e.advice = kAdvice[below(std::size(kAdvice))];
        put(e);
    }

    void mlock(i32 pid) {
        constexpr u64 kMcl[] = {1, 2, 3, 5, 7, 6};
        Event e;
        switch (below(6)) {
            case 0:
                e = event(Op::mlockall, pid);
                e.flags = kMcl[below(std::size(kMcl))];
                break;
            case 1:
            case 2: e = event(Op::munlockall, pid); break;
            case 3: e = range(Op::munlock, pid, address(), pages()); break;
            default:
                e = range(Op::mlock, pid, address() + below(kPageSize), pages());
                e.flags = below(2);  // MLOCK_ONFAULT
        }
        if (one_in(8)) e.error = 12;
        put(e);
    }

    void mbind_or_prctl(i32 pid) {
        Event e;
        if (one_in(2)) {
            e = range(Op::mbind, pid, address(), pages());
            e.advice = static_cast<i32>(below(3));
        } else if (one_in(8)) {
            e = event(Op::prctl, pid);
            e.flags = one_in(2) ? kThpDisable : kMemoryMerge;
            e.addr = below(2);
        } else {
            e = range(Op::prctl, pid, address(), pages());
            e.flags = kSetVma;
            e.new_addr = below(3);
        }
        put(e);
    }

    void fork(i32 pid) {
        Event e = event(Op::fork, pid);
        e.child = 1 + static_cast<i32>(below(kPids));
        if (one_in(8)) {
            e.flags = CLONE_VM | CLONE_THREAD;
        } else {
            if (truth_.mm_of(e.child)) return fault(pid, *truth_.mm_of(pid));
            if (one_in(8)) e.flags = CLONE_VM | CLONE_VFORK;
        }
        put(e);
    }

    void exec(i32 pid) {
        put(event(Op::exec, pid));
        u64 stack = 1;
        if (one_in(4)) {  // arguments of several pages
            stack = 2 + below(4);
            put(range(Op::mapping, pid, 0x7ffffffff000 - stack * kPageSize, stack));
        }
        Event file = range(Op::mapping, pid, kHeap - 16 * kPageSize, 8);
        file.prot = 3;
        file.flags = MAP_PRIVATE;
        file.file = 3;
        put(file);
        if (one_in(8)) return;  // rows lost
        Event e = range(Op::mapping, pid, 0, 32 + stack);
        e.addr = kStackTop + below(16) * kPageSize;
        e.special = Special::stack;
        put(e);
        Event break_ = event(Op::brk, pid);
        break_.addr = kHeap;
        put(break_);
        Event vdso = range(Op::mapping, pid, kArea - 2 * kPmdSize, 2);
        vdso.prot = 5;
        vdso.special = Special::vdso;
        put(vdso);
    }

    void fault(i32 pid, const Mm& mm) {
        Event e = event(Op::fault, pid);
        const Vma* vma = any_vma(mm);
        e.addr = vma->start + below(vma->pages()) * kPageSize + below(kPageSize);
        if (thp_ != ThpMode::never && one_in(2))
            e.addr = vma->start + below(std::min<u64>(vma->pages(), 8)) * kPageSize;
        if (one_in(24)) e.addr = vma->start - (1 + below(4)) * kPageSize;  // growth, or SIGSEGV
        e.write = !one_in(4);
        e.source = Source::user;
        if (one_in(4) && e.write) {
            const unsigned order = 2 + static_cast<unsigned>(below(8));
            const u64 size = kPageSize << order, base = e.addr & ~(size - 1);
            if (base >= vma->start && base + size <= vma->end && !vma->file)
                e.order = static_cast<u8>(order);
        }
        const u64 run = one_in(4) ? 6 : 1;
        for (u64 i = 0; i < run; ++i, e.addr += kPageSize) {
            put(e);
            e.order = 0;
        }
    }

    const Machine& truth_;
    std::mt19937_64 random_;
    Kernel kernel_;
    ThpMode thp_;
    i64 time_ = 0;
    std::vector<Event> queue_;
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
    Kernel kernel;
    ThpMode thp;
    u64 seed;
    int steps;
};

// Whether every machine found the same pages of the same mms in the same folios.
void same_truth(const std::vector<std::unique_ptr<Side>>& sides) {
    const auto expected = sides.front()->machine->anon_mappings();
    for (const auto& side : sides)
        if (side->machine->anon_mappings() != expected)
            throw std::logic_error(side->name + " has another truth than " + sides.front()->name);
}

void walk_everything(Side& side) {
    for (const WalkKind kind : {WalkKind::all, WalkKind::referenced}) side.machine->walk_all(kind);
    if (!side.may_miss() && side.tally.misses) throw std::logic_error(side.name + " missed");
}

void replay(const Plan& plan) {
    std::vector<std::unique_ptr<Side>> sides;
    for (const char* model : {"anon_vma", "cow", "cow-poc"})
        sides.push_back(std::make_unique<Side>(model, plan.kernel, plan.thp));
    Monkey monkey(*sides.front()->machine, plan.seed, plan.kernel, plan.thp);
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
                if (plan.thp == ThpMode::never) same_truth(sides);
                for (const auto& side : sides) walk_everything(*side);
            }
        }
        for (i32 pid = 1; pid <= kPids; ++pid)
            while (sides.front()->machine->mm_of(pid)) apply(monkey.exit(pid));
        for (const auto& side : sides) {
            side->machine->validate();
            CHECK(side->machine->mms().empty());
            for (const u64 live : side->costs.live) CHECK(live == u64{0});
        }
    } catch (const std::logic_error& error) {
        std::string last;
        const std::size_t shown = std::getenv("RMAPREPLAY_FUZZ_TRACE") ? done.size() : 8;
        for (std::size_t i = done.size() - std::min(shown, done.size()); i < done.size(); ++i)
            last += "\n    " + describe(done[i]);
        check::report(false, __FILE__, __LINE__, error.what(),
                      "kernel " + std::to_string(static_cast<int>(plan.kernel)) + ", thp " +
                          std::to_string(static_cast<int>(plan.thp)) + ", seed " +
                          std::to_string(plan.seed) + ", after" + last);
    }
}

void run(ThpMode thp, u64 seeds, int steps) {
    const char* more = std::getenv("RMAPREPLAY_FUZZ_SEEDS");
    if (more) seeds *= std::strtoull(more, nullptr, 10);
    for (const Kernel kernel : {Kernel::v6_12, Kernel::v6_18, Kernel::v7_3})
        for (u64 seed = 0; seed < seeds; ++seed) replay({kernel, thp, seed, steps});
}

}  // namespace

TEST_CASE("machine, random: small pages and folios of the orders that faults tell") {
    run(ThpMode::never, 25, 800);
}

TEST_CASE("machine, random: huge pages by madvise") { run(ThpMode::madvise, 6, 500); }

TEST_CASE("machine, random: huge pages wherever they fit") { run(ThpMode::always, 6, 500); }
