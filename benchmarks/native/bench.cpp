// SPDX-License-Identifier: GPL-2.0-only
// Timings of the core, one JSON object per line on stdout. Each engine figure is measured back to
// back with a baseline that does the least a replay could get away with, so that their ratio means
// the same on a slow and on a fast machine.
//
//   bench faults MODEL [events]   a compile job's mix: exec, mappings, ~1500 faults, exit
//   bench fork MODEL              copying many pages, and many VMAs
//   bench walk MODEL              walks over few and many sharers
//   bench memory MODEL            bytes per live page and per live VMA
//   bench replay MODEL [events]   the mix of `faults` and nothing else, for profilers
#include <malloc.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "replay/native/machine.hpp"

using namespace rmapreplay;

namespace {

using Clock = std::chrono::steady_clock;
double ns_since(Clock::time_point start) {
    return std::chrono::duration<double, std::nano>(Clock::now() - start).count();
}

struct Silent final : Recorder {
    u64 records = 0;
    void walk(const WalkRecord&) override { ++records; }
    void visit(const VisitRecord&) override {}
    void miss(const MissRecord&) override { ++records; }
    void operation(const OperationRecord&) override { ++records; }
    void memory(const MemoryRecord&) override { ++records; }
};

struct Bench {
    explicit Bench(const char* name) {
        const ModelEntry* entry = find_model(name);
        if (!entry) {
            std::fprintf(stderr, "no model %s\n", name);
            std::exit(2);
        }
        model = entry->make(ModelParams{Kernel::v6_18, {}}, costs);
        TraceFacts facts;
        facts.kernel = Kernel::v6_18;
        machine =
            std::make_unique<Machine>(*model, costs, facts, parse_walk_policy("none"), silent);
    }
    Event event(Op op, i32 pid) {
        Event e;
        e.op = op;
        e.pid = e.tid = pid;
        return e;
    }
    Event range(Op op, i32 pid, u64 addr, u64 pages) {
        Event e = event(op, pid);
        e.addr = addr;
        e.len = pages * kPageSize;
        return e;
    }
    Event mmap(i32 pid, u64 addr, u64 pages, u32 prot = 3, u32 file = 0) {
        Event e = range(Op::mmap, pid, addr, pages);
        e.prot = prot;
        e.flags = file ? 0x12 : 0x32;
        e.file = file;
        return e;
    }
    Event fault(i32 pid, u64 addr, bool write) {
        Event e = event(Op::fault, pid);
        e.addr = addr;
        e.write = write;
        e.source = Source::user;
        return e;
    }
    Event fork(i32 pid, i32 child, u64 flags = 0) {
        Event e = event(Op::fork, pid);
        e.child = e.child_tid = child;
        e.flags = flags;
        return e;
    }
    void run(const Event& e) { machine->apply(e); }

    Costs costs;
    Silent silent;
    std::unique_ptr<RmapModel> model;
    std::unique_ptr<Machine> machine;
};

u64 resident_bytes() {
    unsigned long size = 0, resident = 0;
    if (std::FILE* f = std::fopen("/proc/self/statm", "r")) {
        if (std::fscanf(f, "%lu %lu", &size, &resident) != 2) resident = 0;
        std::fclose(f);
    }
    return u64{resident} * kPageSize;
}

// One compiler process of a make: vfork, exec with a dozen libraries, a heap that grows, faults of
// which four in five write a fresh page, exit. The proportions are those of the lua_make capture
// (196,941 rows: 94 % faults; of these 82 % writes to fresh memory, 3 % copies of file pages).
std::vector<Event> compile_job(Bench& b) {
    std::vector<Event> job;
    job.push_back(b.fork(1, 2, 0x4100));
    job.push_back(b.event(Op::exec, 2));
    const u64 image = 0x550000000000, libraries = 0x7f0000000000;
    u32 file = 1;
    for (u64 i = 0; i < 14; ++i) {
        const u64 base = i == 0 ? image : libraries + i * 0x1000000;
        job.push_back(b.mmap(2, base, 64, 1, file));
        job.push_back(b.mmap(2, base + 16 * kPageSize, 24, 5, file));
        job.push_back(b.mmap(2, base + 56 * kPageSize, 8, 3, file));
        for (u64 p = 0; p < 4; ++p) job.push_back(b.fault(2, base + (56 + p) * kPageSize, true));
        for (u64 p = 0; p < 16; ++p) job.push_back(b.fault(2, base + p * kPageSize, false));
        Event protect = b.range(Op::mprotect, 2, base + 56 * kPageSize, 2);
        protect.prot = 1;
        job.push_back(protect);
        ++file;
    }
    const u64 heap = image + 0x10000000;
    Event brk = b.event(Op::brk, 2);
    brk.addr = heap;
    job.push_back(brk);
    for (u64 chunk = 0; chunk < 9; ++chunk) {
        brk.addr = heap + (chunk + 1) * 132 * kPageSize;
        job.push_back(brk);
        for (u64 p = 0; p < 132; ++p)
            job.push_back(b.fault(2, heap + (chunk * 132 + p) * kPageSize, true));
    }
    for (u64 i = 0; i < 6; ++i) {
        const u64 at = 0x7e0000000000 + i * 0x100000;
        job.push_back(b.mmap(2, at, 32));
        for (u64 p = 0; p < 16; ++p) job.push_back(b.fault(2, at + p * kPageSize, true));
        if (i % 2) job.push_back(b.range(Op::munmap, 2, at, 32));
    }
    job.push_back(b.event(Op::exit, 2));
    return job;
}

// The least that a replay of faults could do: a dictionary from page to folio.
u64 dictionary(const std::vector<Event>& job, u64 rounds) {
    u64 folios = 0;
    for (u64 r = 0; r < rounds; ++r) {
        std::unordered_map<u64, u64> pages;
        for (const Event& e : job)
            if (e.op == Op::fault && e.write) pages.try_emplace(e.addr >> kPageShift, ++folios);
    }
    return folios;
}

// The engine alone, for profilers.
void replay(const char* model, u64 events) {
    Bench b(model);
    b.run(b.event(Op::exec, 1));
    const std::vector<Event> job = compile_job(b);
    for (u64 done = 0; done < events; done += job.size())
        for (const Event& e : job) b.run(e);
    std::printf("{\"bench\":\"replay\",\"model\":\"%s\",\"events\":%llu}\n", model,
                static_cast<unsigned long long>(b.machine->totals().events));
}

void faults(const char* model, u64 events) {
    Bench b(model);
    b.run(b.event(Op::exec, 1));
    const std::vector<Event> job = compile_job(b);
    const u64 rounds = std::max<u64>(1, events / job.size());
    u64 fault_rows = 0;
    for (const Event& e : job) fault_rows += e.op == Op::fault;
    auto start = Clock::now();
    for (u64 r = 0; r < rounds; ++r)
        for (const Event& e : job) b.run(e);
    const double engine = ns_since(start) / static_cast<double>(rounds * job.size());
    start = Clock::now();
    const u64 kept = dictionary(job, rounds);
    const double baseline = ns_since(start) / static_cast<double>(rounds * job.size());
    u64 anomalies = 0;
    for (u64 n : b.machine->totals().anomalies) anomalies += n;
    std::printf(
        "{\"bench\":\"faults\",\"model\":\"%s\",\"events\":%llu,\"fault_share\":%.3f,"
        "\"ns_per_event\":%.2f,\"million_events_per_second\":%.2f,"
        "\"dictionary_ns_per_event\":%.2f,\"ratio\":%.3f,\"anomalies\":%llu,\"kept\":%llu}\n",
        model, static_cast<unsigned long long>(rounds * job.size()),
        static_cast<double>(fault_rows) / static_cast<double>(job.size()), engine, 1e3 / engine,
        baseline, engine / baseline, static_cast<unsigned long long>(anomalies),
        static_cast<unsigned long long>(kept));
}

void fork_one(const char* model, const char* what, u64 vmas, u64 pages_per_vma, int rounds) {
    Bench b(model);
    b.run(b.event(Op::exec, 1));
    // A hole after each keeps them apart.
    for (u64 i = 0; i < vmas; ++i) {
        const u64 at = 0x100000000 + i * (pages_per_vma + 1) * kPageSize;
        b.run(b.mmap(1, at, pages_per_vma));
        for (u64 p = 0; p < pages_per_vma; ++p) b.run(b.fault(1, at + p * kPageSize, true));
    }
    double first = 0, best = 1e300, exits = 1e300;
    for (int i = 0; i < rounds; ++i) {
        auto start = Clock::now();
        b.run(b.fork(1, 2));
        const double took = ns_since(start);
        if (i == 0) first = took;  // turns private pages into shared folios
        best = std::min(best, took);
        start = Clock::now();
        b.run(b.event(Op::exit, 2));
        exits = std::min(exits, ns_since(start));
    }
    std::vector<u32> from(vmas * pages_per_vma, 1), to(from.size());
    const auto start = Clock::now();
    std::memcpy(to.data(), from.data(), to.size() * sizeof(u32));
    const double copy = ns_since(start);
    const double n = static_cast<double>(vmas * pages_per_vma), v = static_cast<double>(vmas);
    std::printf(
        "{\"bench\":\"fork %s\",\"model\":\"%s\",\"vmas\":%llu,\"pages\":%llu,"
        "\"first_ns_per_page\":%.2f,\"ns_per_page\":%.2f,\"ns_per_vma\":%.1f,"
        "\"exit_ns_per_page\":%.2f,\"memcpy_ns_per_page\":%.3f,\"check\":%u}\n",
        what, model, static_cast<unsigned long long>(vmas),
        static_cast<unsigned long long>(vmas * pages_per_vma), first / n, best / n, best / v,
        exits / n, copy / n, to.back());
}

void walk(const char* model, i32 sharers) {
    Bench b(model);
    b.run(b.event(Op::exec, 1));
    const u64 at = 0x100000000, pages = 512;
    b.run(b.mmap(1, at, pages));
    for (u64 p = 0; p < pages; ++p) b.run(b.fault(1, at + p * kPageSize, true));
    for (i32 i = 0; i < sharers; ++i) b.run(b.fork(1, 2 + i));
    Event e = b.event(Op::walk, 1);
    e.kind = WalkKind::all;
    const u64 rounds = std::max<u64>(1, 2000000 / (pages * static_cast<u64>(sharers + 1)));
    const auto start = Clock::now();
    for (u64 r = 0; r < rounds; ++r)
        for (u64 p = 0; p < pages; ++p) {
            e.addr = at + p * kPageSize;
            b.run(e);
        }
    const double took = ns_since(start);
    const Totals& t = b.machine->totals();
    std::printf(
        "{\"bench\":\"walk\",\"model\":\"%s\",\"sharers\":%d,\"walks\":%llu,"
        "\"ns_per_walk\":%.1f,\"ns_per_visit\":%.2f,\"misses\":%llu}\n",
        model, sharers, static_cast<unsigned long long>(t.walks),
        took / static_cast<double>(t.walks), took / static_cast<double>(t.visits),
        static_cast<unsigned long long>(t.misses));
}

void memory(const char* model, const char* what, u64 vmas, u64 pages_per_vma, i32 children) {
    malloc_trim(0);
    const u64 before = resident_bytes();
    Bench b(model);
    b.run(b.event(Op::exec, 1));
    for (u64 i = 0; i < vmas; ++i) {
        const u64 at = 0x100000000 + i * (pages_per_vma + 1) * kPageSize;
        b.run(b.mmap(1, at, pages_per_vma));
        for (u64 p = 0; p < pages_per_vma; ++p) b.run(b.fault(1, at + p * kPageSize, true));
    }
    for (i32 i = 0; i < children; ++i) b.run(b.fork(1, 2 + i));
    const double bytes = static_cast<double>(resident_bytes() - before);
    const double mms = 1.0 + children;
    std::printf(
        "{\"bench\":\"memory %s\",\"model\":\"%s\",\"bytes_per_page\":%.2f,"
        "\"bytes_per_vma\":%.1f,\"machine_bytes\":%llu}\n",
        what, model, bytes / (mms * static_cast<double>(vmas * pages_per_vma)),
        bytes / (mms * static_cast<double>(vmas)),
        static_cast<unsigned long long>(b.machine->memory_bytes()));
}

}  // namespace

int main(int argc, char** argv) {
    if (argc < 3) {
        std::fprintf(stderr, "usage: bench faults|fork|walk|memory|replay MODEL [events]\n");
        return 2;
    }
    const std::string what = argv[1];
    const char* model = argv[2];
    if (what == "replay") {
        replay(model, argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 1'000'000);
    } else if (what == "faults") {
        faults(model, argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 10'000'000);
    } else if (what == "fork") {
        fork_one(model, "pages", 1, 1 << 18, 5);
        fork_one(model, "vmas", 20000, 1, 5);
    } else if (what == "walk") {
        for (i32 sharers : {0, 1, 19, 999}) walk(model, sharers);
    } else if (what == "memory") {
        memory(model, "pages", 1, 1 << 21, 0);
        memory(model, "pages shared by 4", 1, 1 << 20, 3);
        memory(model, "vmas", 200000, 1, 0);
    } else {
        std::fprintf(stderr, "no bench %s\n", what.c_str());
        return 2;
    }
    return 0;
}
