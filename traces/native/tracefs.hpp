// SPDX-License-Identifier: GPL-2.0-only
// Reads tracefs `trace` text with system call, task and fault events and probes of mm/rmap.c and
// mm/vma.c, in chunks cut anywhere. The trace is made of what a capture without probes could see
// too, but better timed; the probes' own knowledge goes into the truth tables.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "traces/native/event_table.hpp"
#include "traces/native/history.hpp"
#include "traces/native/lines.hpp"
#include "traces/native/timeline.hpp"
#include "traces/native/tracefs_line.hpp"
#include "traces/native/tracefs_mms.hpp"
#include "traces/native/tracefs_objects.hpp"
#include "traces/native/tracefs_truth.hpp"
#include "traces/native/tracefs_walks.hpp"

namespace rmapreplay {

// The events the importer knows; all others are counted as dropped.
enum class Probe : u8;

class TracefsParser {
  public:
    TracefsParser();
    TracefsParser(const TracefsParser&) = delete;
    TracefsParser& operator=(const TracefsParser&) = delete;

    void feed(std::string_view chunk) {
        lines_.feed(chunk, [this](std::string_view line) { this->line(line); });
    }
    void finish();  // after the last chunk
    EventTable& table() { return table_; }
    TruthTables& truth() { return truth_; }
    MappedTable& mapped() { return mapped_; }
    // Whether every new anonymous folio of a fault told its order.
    bool fault_orders() const { return new_folios_ > 0 && new_folios_ == orders_told_; }
    const ImportStats& stats() const { return stats_; }

  private:
    // A VMA that the kernel reported, and its mm.
    struct Reported {
        u64 mm;
        ReportedVma vma;
    };
    // An exit_mmap() in progress.
    struct Teardown {
        u32 mm = 0;  // serial, 0: none
        bool unlinks = false;  // free_pgtables() has begun and not ended
        u64 unlinked = 0;  // where the VMA ends that left the reverse map last
        u64 told = 0;  // what of that a free_pgtables row tells
        u32 vmas = 0;  // taken off the reverse map and not yet freed
        Timeline::Place end = 0;  // of its last row: the last VMA freed so far, 0: none yet
    };
    // A task, traced or not.
    struct Thread {
        i32 pid = 0;  // thread group, 0: not traced
        i32 last_pid = 0;  // the same, also after its exit
        bool in_call = false;
        Call call;
        Timeline::Place call_place = 0;
        u32 map_file = 0;  // last vma_map: struct file, and where
        u64 map_start = 0;
        u64 map_end = 0;
        u32 do_mmap_file = 0;  // struct file as do_mmap() got it
        std::vector<Reported> reported;  // VMAs of a call or fault whose row is still to come
        bool in_fault = false;
        Timeline::Place fault_place = 0;
        u64 fault_mm = 0;
        Event fault;
        Timeline::Place swap_in_place = 0;  // 0: the fault found nothing in the swap cache
        Event swap_in;
        u32 forked_mm = 0;   // serial of what dup_mmap() filled last
        bool in_dup = false;
        u64 copied = 0;  // where the VMA ends that dup_mmap() has linked last
        u64 copied_told = 0;  // what of that a dup_mmap row tells
        Timeline::Place dup_place = 0;  // of its row, until the fork is known to succeed
        u64 unlinking = 0;   // VMA of the unlink_anon_vmas() in progress
        Teardown teardown;
        Timeline::Place exit_place = 0;  // of its exit, if exit_mmap() came first
    };
    // An execve past its point of no return.
    struct Exec {
        i32 tid = 0;              // who called it
        u32 old_mm = 0;           // serial, 0: none to be torn down
        Timeline::Place row = 0;  // 0: not placed yet, or filled
        bool placed = false;      // the exec row has its place
        std::optional<Event> stack;  // its mapping, until that is known to be the last
        u64 image_file = 0;  // struct file of the ELF image being mapped
        u64 image_start = 0;
        u64 image_end = 0;
    };
    struct Process {
        i32 pid = 0;
        i32 threads = 1;
        bool started = false;  // its first exec was seen, or its parent had started
        bool dead = false;  // every thread has begun to exit
        u32 mm = 0;            // serial, 0: not known
        std::unique_ptr<Exec> exec;
        std::unordered_map<u64, u64> shm;     // shmat: address -> length
    };

    void line(std::string_view text);
    bool use(Probe probe, const TracefsLine& line, Thread& thread);
    Thread& thread(i32 tid);
    Process* process(const Thread& thread);
    bool started_or_dropped(const Thread& thread);
    Event row(i64 time, i32 pid, i32 tid, Op op) const;
    u32 file_id(u64 pointer);

    // tracefs.cpp: tasks, markers
    void marker(const TracefsLine& line);
    bool new_task(const TracefsLine& line, Thread& parent);
    bool task_exit(const TracefsLine& line, Thread& thread);
    bool burst(std::string_view text, i64 time, bool begins);

    // tracefs_calls.cpp: system calls and what they map
    void enter(const TracefsLine& line, Thread& thread, Sys sys);
    void exit(const TracefsLine& line, Thread& thread, Sys sys, i64 result);
    bool make_call_row(Thread& thread, i64 result, Event& event);
    bool within_user_space(const Event& event);
    void abandon_call(Thread& thread, std::string_view reason);
    bool mapped(const TracefsLine& line, Thread& thread);
    bool do_mmap(const TracefsLine& line, Thread& thread);
    Timeline::Reported take_reported(Thread& thread);

    // tracefs_faults.cpp
    bool fault_enter(const TracefsLine& line, Thread& thread);
    bool fault_exit(const TracefsLine& line, Thread& thread);
    bool new_folio(const TracefsLine& line, Thread& thread);
    bool mapped_again(const TracefsLine& line, Thread& thread);
    void swapped_in(i64 time, Thread& thread, u64 addr, u64 pages);
    Timeline::Reported grown(Thread& thread);

    // tracefs_exec.cpp: execve
    bool mm_exec(const TracefsLine& line, Thread& thread);
    void place_exec(Process& process, i64 time);
    void exec_mapping(Process& process, Event event, u64 file);
    void push_stack(Process& process);
    bool exec_done(const TracefsLine& line);
    void finish_exec(Process& process);

    // tracefs_mm.cpp: dup_mmap and exit_mmap
    bool mm_dup(const TracefsLine& line, Thread& thread);
    bool mm_dup_done(const TracefsLine& line, Thread& thread);
    void cancel_dup(Thread& thread);
    void leave_mm(u32 mm, i32 pid);
    bool mm_exit(const TracefsLine& line, Thread& thread);
    void place_exits(const TracefsLine& line, Thread& thread, const TracefsMm& mm);
    Event teardown_row(i64 time, i32 tid, const Thread& thread, Op op);
    void exit_mmap_unlinks(Thread& thread, u32 mm);
    void exit_mmap_unlinked(i64 time, i32 tid, Thread& thread);
    void pause(i64 time, i32 tid, Thread& thread);
    void exit_mmap_frees(const TracefsLine& line, Thread& thread, u32 mm);
    void exit_mmap_done(i32 tid, Thread& thread);

    // tracefs_probes.cpp: the answer key
    bool probe_objects(Probe probe, const TracefsLine& line, Thread& thread);
    bool probe_walk(Probe probe, const TracefsLine& line);

    LineSplitter lines_;
    EventTable table_;
    TruthTables truth_;
    MappedTable mapped_;
    ImportStats stats_;
    Timeline timeline_{table_, &mapped_};
    TracefsMms mms_;
    TracefsObjects objects_{mms_, truth_, stats_.dropped};
    TracefsWalks walks_{timeline_, truth_, stats_.dropped};

    i64 now_ = 0;
    u64 new_folios_ = 0;   // folio_add_new_anon_rmap() seen
    u64 orders_told_ = 0;  // with the folio's flags
    std::vector<u64> seen_;  // by position in kProbeNames
    std::unordered_map<i32, Thread> threads_;
    i32 running_ = -1;  // task of the line before
    i32 last_tid_ = -1;
    Thread* last_thread_ = nullptr;
    std::unordered_map<i32, Process> processes_;
    std::unordered_map<u64, u32> files_;  // struct file -> number
    i32 launcher_ = 0;                    // task that said START and not yet ROOTPID
    std::vector<i32> candidates_;         // what it made since
    bool root_seen_ = false;
    bool burst_open_ = false;
    TruthBurst burst_;
};

}  // namespace rmapreplay
