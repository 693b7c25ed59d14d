// SPDX-License-Identifier: GPL-2.0-only
// Builds short traces in code and replays them, for tests of the machine and its models.
#pragma once

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "replay/native/machine.hpp"

namespace scenario {

using namespace rmapreplay;

inline constexpr u64 kProtRw = 3, kProtRead = 1;
inline constexpr u64 kPrivateAnon = 0x22, kFixed = 0x10;
inline constexpr u64 X = 0x700000000000, Y = 0x710000000000;

// Keeps what a replay reports.
struct Log final : Recorder {
    std::vector<WalkRecord> walks;
    std::vector<VisitRecord> visits;
    std::vector<MissRecord> misses;
    std::vector<OperationRecord> operations;
    std::vector<MemoryRecord> memories;
    void walk(const WalkRecord& r) override { walks.push_back(r); }
    void visit(const VisitRecord& r) override { visits.push_back(r); }
    void miss(const MissRecord& r) override { misses.push_back(r); }
    void operation(const OperationRecord& r) override { operations.push_back(r); }
    void memory(const MemoryRecord& r) override { memories.push_back(r); }
};

// One replay, driven by calls. Process ids are the caller's; lengths are in pages.
class Replay {
  public:
    explicit Replay(std::string_view model, Kernel kernel = Kernel::v7_3,
                    ThpMode thp = ThpMode::never,
                    std::vector<std::pair<std::string, std::string>> params = {},
                    std::string_view walks = "none", u64 rows = 0)
        : Replay(model, facts_of(kernel, thp, rows), std::move(params), walks) {}
    Replay(std::string_view model, const TraceFacts& facts,
           std::vector<std::pair<std::string, std::string>> params = {},
           std::string_view walks = "none")
        : Replay(entry_of(model), facts, std::move(params), walks) {}
    Replay(const ModelEntry& entry, const TraceFacts& facts,
           std::vector<std::pair<std::string, std::string>> params = {},
           std::string_view walks = "none") {
        model_ = entry.make(ModelParams{facts.kernel, std::move(params)}, costs);
        machine = std::make_unique<Machine>(*model_, costs, facts, parse_walk_policy(walks), log);
        machine->record_visits(true);
        machine->record_faults(true);
    }

    static const ModelEntry& entry_of(std::string_view model) {
        const ModelEntry* entry = find_model(model);
        if (!entry) throw std::invalid_argument("no model " + std::string(model));
        return *entry;
    }
    static TraceFacts facts_of(Kernel kernel, ThpMode thp = ThpMode::never, u64 rows = 0) {
        TraceFacts facts;
        facts.kernel = kernel;
        facts.thp = thp;
        facts.rows = rows;
        return facts;
    }

    Event event(Op op, i32 pid) {
        Event e;
        e.op = op;
        e.pid = e.tid = pid;
        e.time = ++time_;
        return e;
    }
    void apply(const Event& e) { machine->apply(e); }

    void exec(i32 pid) { apply(event(Op::exec, pid)); }
    void mmap(i32 pid, u64 addr, u64 pages, u64 prot = kProtRw, u64 flags = kPrivateAnon | kFixed,
              u32 file = 0, u64 offset = 0) {
        Event e = event(Op::mmap, pid);
        e.addr = addr;
        e.len = pages * kPageSize;
        e.prot = static_cast<u32>(prot);
        e.flags = flags;
        e.file = file;
        e.fd = file ? 3 : -1;
        e.offset = offset;
        apply(e);
    }
    void range(Op op, i32 pid, u64 addr, u64 pages, u64 prot = 0, i32 advice = 0, i32 error = 0) {
        Event e = event(op, pid);
        e.addr = addr;
        e.len = pages * kPageSize;
        e.prot = static_cast<u32>(prot);
        e.advice = advice;
        e.error = error;
        apply(e);
    }
    void munmap(i32 pid, u64 addr, u64 pages) { range(Op::munmap, pid, addr, pages); }
    void mprotect(i32 pid, u64 addr, u64 pages, u64 prot) {
        range(Op::mprotect, pid, addr, pages, prot);
    }
    void madvise(i32 pid, u64 addr, u64 pages, i32 advice) {
        range(Op::madvise, pid, addr, pages, 0, advice);
    }
    void mremap(i32 pid, u64 addr, u64 pages, u64 new_addr, u64 new_pages, u64 flags) {
        Event e = event(Op::mremap, pid);
        e.addr = addr;
        e.len = pages * kPageSize;
        e.new_addr = new_addr;
        e.new_len = new_pages * kPageSize;
        e.flags = flags;
        apply(e);
    }
    void brk(i32 pid, u64 to) {
        Event e = event(Op::brk, pid);
        e.addr = to;
        apply(e);
    }
    void touch(i32 pid, u64 addr, u64 pages, bool write) {
        for (u64 i = 0; i < pages; ++i) {
            Event e = event(Op::fault, pid);
            e.addr = addr + i * kPageSize;
            e.write = write;
            e.source = Source::user;
            apply(e);
        }
    }
    void write(i32 pid, u64 addr, u64 pages = 1) { touch(pid, addr, pages, true); }
    void read(i32 pid, u64 addr, u64 pages = 1) { touch(pid, addr, pages, false); }
    void fork(i32 pid, i32 child, u64 flags = 0) {
        Event e = event(Op::fork, pid);
        e.child = e.child_tid = child;
        e.flags = flags;
        apply(e);
    }
    void exit(i32 pid) { apply(event(Op::exit, pid)); }
    void row(Op op, i32 pid) { apply(event(op, pid)); }
    void swap_out(i32 pid, u64 addr, u64 pages = 1) { range(Op::swap_out, pid, addr, pages); }
    void swap_in(i32 pid, u64 addr, u64 pages = 1) { range(Op::swap_in, pid, addr, pages); }

    // Walks the folio at addr; returns "pid+" for each visit that hit and "pid-" for one that did
    // not, in order, separated by spaces.
    std::string walk(i32 pid, u64 addr, WalkKind kind = WalkKind::all) {
        log.visits.clear();
        Event e = event(Op::walk, pid);
        e.addr = addr;
        e.kind = kind;
        apply(e);
        std::string seen;
        for (const VisitRecord& v : log.visits)
            seen += (seen.empty() ? "" : " ") + std::to_string(v.pid) + (v.hits ? "+" : "-");
        return seen;
    }
    // Live vm_area_structs, of all processes.
    u64 vmas() const { return costs.live[kVmAreaStruct]; }
    u64 anomalies() const {
        u64 sum = 0;
        for (u64 n : machine->totals().anomalies) sum += n;
        return sum;
    }
    u64 count(Anomaly kind) const {
        return machine->totals().anomalies[static_cast<std::size_t>(kind)];
    }
    u64 live(std::string_view object) const {
        const auto objects = model_->info().objects;
        for (std::size_t i = 0; i < objects.size(); ++i)
            if (objects[i].name == object) return costs.live[i + 1];
        throw std::invalid_argument("no object " + std::string(object));
    }

    RmapModel& model() { return *model_; }

    Costs costs;
    Log log;
    std::unique_ptr<Machine> machine;

  private:
    std::unique_ptr<RmapModel> model_;
    i64 time_ = 0;
};

}  // namespace scenario
