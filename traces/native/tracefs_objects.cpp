// SPDX-License-Identifier: GPL-2.0-only
#include "traces/native/tracefs_objects.hpp"

namespace rmapreplay {

TruthChange TracefsObjects::change(i64 time, TruthObject object, TruthAction action, u32 id) const {
    TruthChange change;
    change.time = time;
    change.object = object;
    change.action = action;
    change.id = id;
    return change;
}

TracefsObjects::Place TracefsObjects::queue(const TruthChange& change, State state) {
    queue_.push_back({change, state});
    drain(false);
    return first_ + queue_.size() - 1;
}

void TracefsObjects::drain(bool all) {
    while (!queue_.empty()) {
        Row& row = queue_.front();
        if (row.state == State::open && !all) return;
        if (row.state == State::ready) {
            if (const TracefsMm* mm = mms_.by_serial(row.change.mm)) {
                if (mm->state == TracefsMm::State::forked && !all) return;
                row.change.pid = mm->pid;
            }
            out_.append(row.change);
        }
        queue_.pop_front();
        ++first_;
    }
}

// ---- vm_area_struct ----

void TracefsObjects::vma_alloc(i64 time, u64 vma, u32 mm) {
    if (vma == 0) return;  // out of memory
    const u32 id = ++last_vma_;
    if (!vmas_.insert_or_assign(vma, Vma{id, mm}).second) dropped_.add("truth_vma_free_not_seen");
    TruthChange row = change(time, TruthObject::vm_area_struct, TruthAction::alloc, id);
    row.mm = mm;
    queue(row);
}

void TracefsObjects::vma_dup(i64 time, u64 orig, u64 vma) {
    if (auto it = vmas_.find(orig); it != vmas_.end()) vma_alloc(time, vma, it->second.mm);
}

void TracefsObjects::vma_free(i64 time, u64 vma, u64 start, u64 end) {
    auto it = vmas_.find(vma);
    if (it == vmas_.end()) return;
    TruthChange row = change(time, TruthObject::vm_area_struct, TruthAction::free, it->second.id);
    row.mm = it->second.mm;
    row.start = start;
    row.end = end;
    vmas_.erase(it);
    queue(row);
}

// ---- anon_vma_chain ----

TruthChange TracefsObjects::chain_change(i64 time, TruthAction action, const Chain& chain) const {
    TruthChange row = change(time, TruthObject::anon_vma_chain, action, chain.id);
    row.mm = chain.mm;
    row.vma = chain.vma;
    auto it = anon_vmas_.find(chain.anon_vma);
    if (it != anon_vmas_.end()) row.anon_vma = it->second.id;
    row.start = chain.start;
    row.end = chain.end;
    return row;
}

void TracefsObjects::avc_insert(i64 time, const Insert& insert) {
    auto found = anon_vmas_.find(insert.anon_vma);
    if (found == anon_vmas_.end()) {
        const u32 id = ++last_anon_vma_;
        found = anon_vmas_.emplace(insert.anon_vma, AnonVma{id, insert.root}).first;
        TruthChange row = change(time, TruthObject::anon_vma, TruthAction::alloc, id);
        row.mm = insert.mm;
        if (auto root = anon_vmas_.find(insert.root); root != anon_vmas_.end()) {
            row.root = root->second.id;
            if (insert.root != insert.anon_vma) ++root->second.members;
        }
        if (auto parent = anon_vmas_.find(insert.parent); parent != anon_vmas_.end()) {
            row.parent = parent->second.id;
        }
        queue(row);
    }
    auto known = chains_.find(insert.avc);
    if (known != chains_.end() && known->second.linked) {
        dropped_.add("truth_avc_remove_not_seen");
        chains_.erase(known);
        known = chains_.end();
    }
    const bool fresh = known == chains_.end();
    Chain& chain = chains_[insert.avc];
    if (fresh) chain.id = ++last_chain_;
    chain.mm = insert.mm;
    const auto vma = vmas_.find(insert.vma);
    chain.vma = vma == vmas_.end() ? 0 : vma->second.id;
    chain.anon_vma = insert.anon_vma;
    chain.linked = true;
    chain.start = insert.start;
    chain.end = insert.end;
    ++found->second.linked;
    if (fresh) queue(chain_change(time, TruthAction::alloc, chain));
    queue(chain_change(time, TruthAction::insert, chain));
}

void TracefsObjects::avc_remove(i64 time, u64 avc, bool unlinked) {
    auto it = chains_.find(avc);
    if (it == chains_.end()) return;
    Chain& chain = it->second;
    chain.linked = false;
    if (auto tree = anon_vmas_.find(chain.anon_vma); tree != anon_vmas_.end()) {
        --tree->second.linked;
    }
    queue(chain_change(time, TruthAction::remove, chain));
    if (!unlinked) return;
    queue(chain_change(time, TruthAction::free, chain));
    chains_.erase(it);
}

// ---- anon_vma ----

void TracefsObjects::anon_vma_free(i64 time, i32 tid, u64 anon_vma) {
    if (auto due = due_.find(tid); due != due_.end() && due->second.anon_vma == anon_vma) {
        // It was not freed with its last member, but only now.
        queue_[due->second.place - first_].state = State::cancelled;
        due_.erase(due);
    } else {
        settle(tid);
    }
    auto spare = spare_.find(tid);
    if (spare != spare_.end() && !anon_vmas_.contains(anon_vma)) {
        Row& alloc = queue_[spare->second - first_];
        alloc.change.id = ++last_anon_vma_;
        alloc.state = State::ready;
        TruthChange row = change(time, TruthObject::anon_vma, TruthAction::free, alloc.change.id);
        row.mm = alloc.change.mm;
        spare_.erase(spare);
        queue(row);
        return;
    }
    forget(anon_vma, time, tid);
    drain(false);
}

void TracefsObjects::fork_begin(i64 time, i32 tid, u32 mm) {
    fork_end(tid);
    TruthChange row = change(time, TruthObject::anon_vma, TruthAction::alloc, 0);
    row.mm = mm;
    spare_[tid] = queue(row, State::open);
}

void TracefsObjects::fork_end(i32 tid) {
    auto it = spare_.find(tid);
    if (it == spare_.end()) return;
    queue_[it->second - first_].state = State::cancelled;
    spare_.erase(it);
    drain(false);
}

// Every anon_vma holds a reference on its root, and __put_anon_vma() of the last one frees a root
// that nothing else holds by itself, without another call of __put_anon_vma() (mm/rmap.c in v7.3).
// But the root may just as well be next in the list that unlink_anon_vmas() works off.
void TracefsObjects::forget(u64 anon_vma, i64 time, i32 tid) {
    auto it = anon_vmas_.find(anon_vma);
    if (it == anon_vmas_.end()) return;
    const u64 root = it->second.root;
    queue(change(time, TruthObject::anon_vma, TruthAction::free, it->second.id));
    anon_vmas_.erase(it);
    if (root == anon_vma) return;
    auto holder = anon_vmas_.find(root);
    if (holder == anon_vmas_.end() || --holder->second.members > 0) return;
    if (holder->second.linked > 0) return;
    const TruthChange row =
        change(time, TruthObject::anon_vma, TruthAction::free, holder->second.id);
    due_[tid] = {queue(row, State::open), root};
}

void TracefsObjects::settle(i32 tid) {
    if (due_.empty()) return;
    auto it = due_.find(tid);
    if (it == due_.end()) return;
    queue_[it->second.place - first_].state = State::ready;
    anon_vmas_.erase(it->second.anon_vma);
    due_.erase(it);
    drain(false);
}

void TracefsObjects::finish() {
    for (auto& [tid, due] : due_) {
        queue_[due.place - first_].state = State::ready;
        anon_vmas_.erase(due.anon_vma);
    }
    due_.clear();
    drain(true);
}

}  // namespace rmapreplay
