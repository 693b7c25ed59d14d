// SPDX-License-Identifier: GPL-2.0-only
// From what a capture saw to the rows of a trace: enter and exit of system calls paired per thread,
// processes followed from their first exec, exec's own mappings told from those of mmap. Importers
// read the lines of their format and call this.
#pragma once

#include <array>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "traces/native/event_table.hpp"
#include "traces/native/exec_window.hpp"
#include "traces/native/syscalls.hpp"
#include "traces/native/tally.hpp"
#include "traces/native/timeline.hpp"

namespace rmapreplay {

inline constexpr u64 kUserEnd = u64{1} << 47;  // TASK_SIZE_MAX with four-level page tables

struct Task {
    i32 pid = 0;  // thread group
    i32 tid = 0;
};

// What the import met, for the trace's metadata.
struct ImportStats {
    u64 lines = 0;
    u64 lost = 0;  // events that the capture itself says it lost
    u64 unmatched_enters = 0;  // system calls whose return was not seen
    u64 unmatched_exits = 0;  // returns whose entry was not seen
    u64 processes_alive = 0;  // when the capture ended
    Tally events;  // seen, by the capture's name for them
    Tally syscalls;  // entered
    Tally dropped;  // could not be used, by reason
};

class History {
  public:
    // With `mapped`, what perf_event_mmap() reported of calls and faults goes there.
    explicit History(EventTable& out, MappedTable* mapped = nullptr)
        : out_(out), mapped_(mapped), timeline_(out, mapped, mapped ? kLinger : 0) {}
    History(const History&) = delete;
    History& operator=(const History&) = delete;

    // Before the first event: a process that was there before the capture began, with its tasks
    // (not its leader, if that has exited). Its events count from the start. `mm_of`: another such
    // process whose address space it shares, 0: none. Throws std::invalid_argument if `pid` is
    // known already, has no task, or `mm_of` is not known.
    void adopt(i32 pid, std::span<const i32> tids, i32 mm_of = 0);
    // What shmat has mapped in an adopted process.
    void adopt_shm(i32 pid, u64 addr, u64 len);
    // An adopted process runs a 32-bit program.
    void adopt_compat(i32 pid);
    // `file` numbers below are taken by rows of others.
    void first_file(u32 file) { files_.begin_at(file); }

    // Calls in order of time (ns).
    // raw_syscalls, by number: which call that is depends on the program.
    void sys_enter(i64 time, Task task, i64 number, const std::array<u64, 6>& args);
    void sys_exit(i64 time, Task task, i64 number, i64 result);
    void enter(i64 time, Task task, const Call& call);
    void exit(i64 time, Task task, Sys sys, i64 result);
    void fault(i64 time, Task task, u64 addr, u64 error_code, Source source);
    // `parent` made a task; clone_flags as the kernel has them (no exit signal in the low byte).
    void new_task(i64 time, Task parent, i32 child_tid, u64 clone_flags);
    // perf_event_mmap(): a mapping as it is after mmap, mprotect, brk, stack growth or in exec.
    void mapped(i64 time, Task task, const Mapping& mapping);
    // The point of no return of an exec has passed: the new address space is in use.
    void comm_exec(i64 time, Task task);
    void exec_done(i64 time, Task task, std::string_view filename);
    void task_exit(i64 time, Task task);
    void exit_mmap(i64 time, Task task);
    // The task got the mmap lock of the address space `mm` (a pointer, never 0). Captures need not
    // have this, nor both.
    void write_locked(i64 time, Task task, u64 mm);
    void read_locked(i64 time, Task task, u64 mm);
    void finish();

    // Whether an event of this process would be used; counts it as dropped if not.
    bool known_sideband(i32 pid);
    ImportStats& stats() { return stats_; }
    const ImportStats& stats() const { return stats_; }

  private:
    // A fault is reported to have grown the stack while it is handled, after its own event. Other
    // tasks' rows may come in between, but not many.
    static constexpr std::size_t kLinger = 4096;

    // Processes share one if CLONE_VM made them. Its end may be seen before its last user's.
    struct AddressSpace {
        bool ended = false;
        u64 mm = 0;  // its pointer, where known
        i32 copier = 0;  // the task in dup_mmap(), which holds the lock
    };
    // Left by its last user, and its exit_mmap() is due.
    struct Ended {
        i32 pid = 0;
        u64 mm = 0;  // as above
    };
    struct Thread {
        bool in_call = false;
        bool adopted = false;  // may be in a call that it entered before the capture
        i32 pid = 0;  // of the task in the call
        Call call;
        Timeline::Place place = 0;  // of the call's row, 0: none reserved
        u64 locked = 0;  // the mm that it locked last
        u64 copy = 0;  // in a call that makes a task: the mm of the copy
        Timeline::Place dup_mmap = 0;  // where the copy was done at the latest, if not just now
        bool has_mapping = false;  // mmap, shmat: what perf_event_mmap() reported
        Event mapping;
        std::string identity;
        std::vector<Event> after_call;  // faults that need the mapping made by the call
        Timeline::Reported reported;  // VMAs that the call made
        Timeline::Place fault = 0;  // the last fault, and where
        u64 fault_addr = 0;
        bool faulting = false;  // it may still be waiting for the lock
        // exit_mmap() by a task that is not known to have left the address space: rows of its exit
        // and of the exit_mmap, until its next event tells whose end that was.
        Timeline::Place exit = 0;
        Timeline::Place exit_mmap = 0;
        u64 exit_mm = 0;  // and which it was, where known
        std::unique_ptr<ExecWindow> exec;
    };
    struct Process {
        bool known = false;
        bool compat = false;  // runs a 32-bit program
        i32 threads = 0;
        i32 exec_tid = 0;  // the thread that is in execve
        std::shared_ptr<AddressSpace> mm = std::make_shared<AddressSpace>();
        std::unordered_map<u64, u64> shm;  // shmat: address -> length
    };

    bool known(i32 pid);
    bool known_or_dropped(i32 pid);
    bool compat(i32 pid) const;
    void compat_brk(i64 time, Task task, i64 result);
    static bool is_heap(const Thread& thread, const Mapping& mapping);
    Event row(i64 time, Task task, Op op) const;
    ExecWindow* exec_window(Task task);
    void finish_call(i64 time, Task task, Thread& thread, i64 result);
    void finish_row(Timeline::Place place, const Event& event, bool made, Thread& thread);
    bool within_user_space(const Event& event);
    bool describe_mmap(Task task, Thread& thread, i64 result, Event& event);
    bool describe_shmat(Task task, Thread& thread, i64 result, Event& event);
    bool describe_shmdt(Task task, Thread& thread, Event& event);
    void finish_exec(Task task, Thread& thread, i64 result);
    void reported(Thread& thread, const Mapping& mapping);
    void leave_mm(i32 pid, Process& process);
    std::optional<i32> take_ended(u64 mm);
    std::optional<i32> guess_ended(u64 mm, std::optional<i32> pid = std::nullopt);
    void end_copy(AddressSpace& own, i64 time, Task task, u64 mm);
    void copy_done(i64 time, Task task, Thread& thread);
    void copy_failed(Task task, Thread& thread);
    void copy_over(Task task, Thread& thread);
    void settle_exit_mmap(Thread& thread);
    void abandon(Task task, Thread& thread);
    void push(const Event& event) { timeline_.push(event); }

    EventTable& out_;
    MappedTable* mapped_;
    Timeline timeline_;
    FileIds files_;
    ImportStats stats_;
    std::unordered_map<i32, Process> processes_;  // by pid
    std::unordered_map<i32, Thread> threads_;  // by tid, those with something to remember
    std::deque<Ended> ended_;
    bool exit_mmap_seen_ = false;
    bool compat_seen_ = false;  // some process has run a 32-bit program
    i32 last_pid_ = -1;  // known() of the last asked for
    bool last_known_ = false;
};

}  // namespace rmapreplay
