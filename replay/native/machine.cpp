// SPDX-License-Identifier: GPL-2.0-only
// One event to the part of the machine it concerns, and the ledger around it.
#include "replay/native/machine.hpp"

#include <algorithm>

#include "replay/native/state.hpp"

namespace rmapreplay {

std::string_view anomaly_name(Anomaly kind) {
    switch (kind) {
        case Anomaly::unknown_process: return "unknown_process";
        case Anomaly::fault_outside_vma: return "fault_outside_vma";
        case Anomaly::fault_access_denied: return "fault_access_denied";
        case Anomaly::fault_present_mismatch: return "fault_present_mismatch";
        case Anomaly::mmap_over_mapping: return "mmap_over_mapping";
        case Anomaly::munmap_nothing: return "munmap_nothing";
        case Anomaly::mremap_no_source: return "mremap_no_source";
        case Anomaly::protect_hole: return "protect_hole";
        case Anomaly::brk_mismatch: return "brk_mismatch";
        case Anomaly::exit_unknown: return "exit_unknown";
        case Anomaly::fork_existing: return "fork_existing";
        case Anomaly::walk_no_folio: return "walk_no_folio";
        case Anomaly::teardown_not_seen: return "teardown_not_seen";
        case Anomaly::swap_mismatch: return "swap_mismatch";
        case Anomaly::count: break;
    }
    return "";
}

Machine::State::State(RmapModel& model_, Costs& costs_, const TraceFacts& facts_,
                      const WalkPolicy& walks, Recorder& recorder_)
    : model(model_),
      costs(costs_),
      facts(facts_),
      policy(walks),
      recorder(recorder_),
      needs(model_.info().needs),
      every_page(needs.pages),
      // v7.3 gave every VMA an anonymous offset of its own; before, the file's was used.
      anon_pgoff_apart(facts_.kernel >= Kernel::v7_3 || needs.index_is_address) {
    costs.op = &operations[static_cast<std::size_t>(Op::fault)];
    memory_period = facts.rows ? std::max<u64>(1, facts.rows / 256) : 4096;
    next_memory = memory_period;
    plan_walks();
    next_due = std::min(next_memory, next_walk);
}

Machine::State::~State() = default;

// ---- processes ----

Process* Machine::State::find_process(i32 pid) {
    if (pid < 0 || static_cast<std::size_t>(pid) >= process_slot.size()) return nullptr;
    const u32 slot = process_slot[static_cast<std::size_t>(pid)];
    return slot ? &processes[slot - 1] : nullptr;
}

Process* Machine::State::process_of(i32 pid) {
    Process* process = find_process(pid);
    if (!process) anomaly(Anomaly::unknown_process);
    return process;
}

AddressSpace* Machine::State::mm_of(i32 pid) {
    if (const Process* process = find_process(pid)) return process->mm;
    // A task still writes to its memory after the row of its exit (mm_release()).
    for (const DyingMm& each : dying)
        if (each.pid == pid && each.mm->exited == ExitStep::none) return each.mm;
    anomaly(Anomaly::unknown_process);
    return nullptr;
}

// Walks, and reclaim, come upon the pages of a dying mm until they are unmapped.
AddressSpace* Machine::State::mm_mapping(i32 pid, u64 addr) {
    const Process* process = find_process(pid);
    AddressSpace* const own = process ? process->mm : nullptr;
    if (own && is_anon(own->pages.get(store, addr))) return own;
    for (const DyingMm& each : dying)
        if (each.pid == pid && is_anon(each.mm->pages.get(store, addr))) return each.mm;
    return own ? own : mm_of(pid);
}

Process& Machine::State::make_process(i32 pid) {
    const auto at = static_cast<std::size_t>(pid);
    if (at >= process_slot.size()) process_slot.resize(at + 1);
    if (free_processes.empty()) {
        processes.emplace_back();
        process_slot[at] = static_cast<u32>(processes.size());
    } else {
        process_slot[at] = free_processes.back() + 1;
        free_processes.pop_back();
    }
    return processes[process_slot[at] - 1];
}

void Machine::State::drop_process(i32 pid) {
    u32& slot = process_slot[static_cast<std::size_t>(pid)];
    processes[slot - 1] = Process{};
    free_processes.push_back(slot - 1);
    slot = 0;
}

void Machine::State::anomaly(Anomaly kind) {
    const auto at = static_cast<std::size_t>(kind);
    if (totals.anomalies[at]++ == 0) totals.first_anomaly[at] = seq;
}

// ---- the ledger ----

void Machine::State::begin_operation(Op which, i32 pid) {
    op = which;
    op_pid = pid;
    costs.op = &operations[static_cast<std::size_t>(which)];
    op_before = *costs.op;
}

void Machine::State::end_operation() {
    if (*costs.op == op_before) return;
    OperationRecord record{seq, op, op_pid, *costs.op};
    record.costs.calls = 1;
    for (std::size_t i = 0; i < kMaxObjects; ++i) {
        record.costs.allocated[i] -= op_before.allocated[i];
        record.costs.freed[i] -= op_before.freed[i];
    }
    for (std::size_t i = 0; i < kMaxCounters; ++i)
        record.costs.counters[i] -= op_before.counters[i];
    recorder.operation(record);
}

void Machine::State::housekeeping() {
    if (totals.events >= next_memory) {
        recorder.memory(MemoryRecord{seq, time, costs.live, private_pages + folios.mapped(),
                                     anon_ptes, mms.size()});
        next_memory = totals.events + memory_period;
    }
    policy_walks();
    if (totals.events >= next_verify) verify();
    next_due = std::min({next_memory, next_walk, next_verify});
}

// ---- events ----

void Machine::State::apply(const Event& e) {
    ++totals.events;
    time = e.time;
    OpCosts& costs_of_op = operations[static_cast<std::size_t>(e.op)];
    costs.op = &costs_of_op;
    if (timeline) timeline->begin_event(e.op);
    if (e.op == Op::fault) {
        ++costs_of_op.calls;
        if (faults_recorded) begin_operation(Op::fault, e.pid);
        if (AddressSpace* mm = mm_of(e.pid)) fault(*mm, e);
        if (faults_recorded) end_operation();
    } else if (e.op == Op::walk) {
        recorded_walk(e);
    } else {
        ++costs_of_op.calls;
        begin_operation(e.op, e.pid);
        switch (e.op) {
            case Op::fork: do_fork(e); break;
            case Op::exec: do_exec(e); break;
            case Op::exit: do_exit(e); break;
            case Op::mapping: do_mapping(e); break;
            case Op::dup_mmap: do_dup_mmap(e); break;
            case Op::unmap_vmas: do_teardown(e, ExitStep::unmap_vmas); break;
            case Op::free_pgtables: do_teardown(e, ExitStep::free_pgtables); break;
            case Op::exit_mmap: do_teardown(e, ExitStep::exit_mmap); break;
            case Op::swap_out:
                if (AddressSpace* mm = mm_mapping(e.pid, e.addr)) do_swap_out(*mm, e);
                break;
            case Op::discard:
                if (AddressSpace* mm = mm_mapping(e.pid, e.addr)) do_discard(*mm, e);
                break;
            default:
                if (AddressSpace* mm = mm_of(e.pid)) switch (e.op) {
                        case Op::mmap: do_mmap(*mm, e); break;
                        case Op::munmap:
                            if (!munmap(*mm, e.addr, e.addr + page_up(e.len)))
                                anomaly(Anomaly::munmap_nothing);
                            break;
                        case Op::mremap: do_mremap(*mm, e); break;
                        case Op::mprotect: do_mprotect(*mm, e); break;
                        case Op::brk: do_brk(*mm, e); break;
                        case Op::madvise: do_madvise(*mm, e); break;
                        case Op::mlock:
                            do_mlock(*mm, e.addr, e.len,
                                     VM_LOCKED | (e.flags & 1 ? VM_LOCKONFAULT : 0), e.error);
                            break;
                        case Op::munlock: do_mlock(*mm, e.addr, e.len, 0, e.error); break;
                        case Op::mlockall: do_mlockall(*mm, e.flags); break;
                        case Op::munlockall: do_mlockall(*mm, 0); break;
                        case Op::mbind: do_mbind(*mm, e); break;
                        case Op::mseal: do_mseal(*mm, e); break;
                        case Op::prctl: do_prctl(*mm, e); break;
                        case Op::populate: do_populate(*mm, e); break;
                        case Op::swap_in: do_swap_in(*mm, e); break;
                        default: break;
                    }
        }
        end_operation();
    }
    if (timeline) timeline->end_event();
    if (totals.events >= next_due) housekeeping();
    if (timeline) timeline->next_row();
    ++seq;
}

void Machine::State::finish() {
    if (seq) --seq;  // what happens now happens at the last row
    finish_teardown();
    if (timeline) timeline->end_event();  // as if in a row of their own
    if (policy.when == WalkPolicy::When::end) scan(policy.kind);
    recorder.memory(MemoryRecord{seq, time, costs.live, private_pages + folios.mapped(), anon_ptes,
                                 mms.size()});
    // Unless the last event was verified just now.
    if (verify_period && next_verify != totals.events + verify_period) verify();
}

// ---- Machine ----

Machine::Machine(RmapModel& model, Costs& costs, const TraceFacts& facts, const WalkPolicy& walks,
                 Recorder& recorder)
    : state_(std::make_unique<State>(model, costs, facts, walks, recorder)) {}
Machine::~Machine() = default;

void Machine::record_visits(bool on) { state_->visits_recorded = on; }
void Machine::record_faults(bool on) { state_->faults_recorded = on; }
void Machine::record_every_page() { state_->every_page = true; }
void Machine::record_timeline(TimelineTables& timeline) {
    record_every_page();
    state_->timeline = &timeline;
    state_->model.watch(&timeline);
}
const FolioTable& Machine::folios() const { return state_->folios; }
void Machine::verify_every(u64 events) {
    State& s = *state_;
    s.verify_period = events;
    s.next_verify = events ? s.totals.events + events : ~u64{0};
    s.next_due = std::min(s.next_due, s.next_verify);
}
void Machine::apply(const Event& event) { state_->apply(event); }
void Machine::finish() { state_->finish(); }
const Totals& Machine::totals() const { return state_->totals; }
const std::array<OpCosts, kOpNames.size()>& Machine::operations() const {
    return state_->operations;
}

u64 Machine::memory_bytes() const {
    const State& s = *state_;
    u64 bytes = s.store.bytes() + s.folios.bytes() + s.vma_chunks.size() * 256 * sizeof(Vma) +
                s.free_vmas.capacity() * sizeof(Vma*);
    for (const auto& mm : s.mms)
        bytes += sizeof(AddressSpace) + mm->pages.bytes() + mm->vmas.bytes();
    return bytes;
}

}  // namespace rmapreplay
