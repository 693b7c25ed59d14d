// SPDX-License-Identifier: GPL-2.0-only
// What lives in a replay, as tables: for whoever compares it with a running kernel, or verifies it.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <algorithm>
#include <stdexcept>

#include "replay/native/bind_replay.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace rmapreplay {
namespace {

// Calls on_vma(mm, vma) for every VMA, by mm in order of creation, then by address.
template <class F>
void for_each_vma(const Machine& machine, F&& on_vma) {
    for (const Mm* mm : machine.mms())
        for (std::size_t i = 0; i < mm->vmas.size(); ++i) on_vma(*mm, *mm->vmas.at(i));
}

}  // namespace

nb::object Replay::vmas() const {
    Table table;
    auto& serials = table.add_column<u32>("mm");
    auto& pids = table.add_column<i32>("pid");
    auto& starts = table.add_column<u64>("start");
    auto& ends = table.add_column<u64>("end");
    auto& indices = table.add_column<u64>("index");
    auto& offsets = table.add_column<u64>("offset");
    auto& flags = table.add_column<u64>("flags");
    auto& files = table.add_column<u32>("file");
    auto& faulted = table.add_column<bool>("faulted");
    for_each_vma(*machine_, [&](const Mm& mm, const Vma& vma) {
        serials.append(mm.serial);
        pids.append(mm.pid);
        starts.append(vma.start);
        ends.append(vma.end);
        indices.append(vma.anon_pgoff);
        offsets.append(vma.pgoff << kPageShift);
        flags.append(vma.flags);
        files.append(vma.file);
        faulted.append(vma.anon_vma != nullptr);
    });
    return wrap_table(std::move(table));
}

nb::object Replay::links() const {
    Table table;
    auto& serials = table.add_column<u32>("mm");
    auto& pids = table.add_column<i32>("pid");
    auto& starts = table.add_column<u64>("start");
    auto& ends = table.add_column<u64>("end");
    auto& positions = table.add_column<u32>("position");
    auto& objects = table.add_column<u32>("object");
    auto& owns = table.add_column<bool>("own");
    for_each_vma(*machine_, [&](const Mm& mm, const Vma& vma) {
        u32 position = 0;
        for (const u32 object : model_->anon_vma_chain(vma)) {
            serials.append(mm.serial);
            pids.append(mm.pid);
            starts.append(vma.start);
            ends.append(vma.end);
            positions.append(position++);
            objects.append(object);
            owns.append(object == model_->home(vma));
        }
    });
    return wrap_table(std::move(table));
}

nb::object Replay::mappings() const {
    Table table;
    auto& serials = table.add_column<u32>("mm");
    auto& pids = table.add_column<i32>("pid");
    auto& addresses = table.add_column<u64>("addr");
    auto& folios = table.add_column<u64>("folio");
    const std::vector<const Mm*> mms = machine_->mms();
    auto mm = mms.begin();
    for (const AnonMapping& mapping : machine_->anon_mappings()) {
        while ((*mm)->serial != mapping.mm) ++mm;  // both are in order of creation
        serials.append(mapping.mm);
        pids.append((*mm)->pid);
        addresses.append(mapping.addr);
        folios.append(mapping.folio);
    }
    return wrap_table(std::move(table));
}

std::optional<u32> Replay::mm_of(i32 pid) const {
    const Mm* mm = machine_->mm_of(pid);
    return mm ? std::optional(mm->serial) : std::nullopt;
}

nb::dict Replay::live() const {
    nb::dict result;
    const std::vector<ObjectKind> kinds = object_kinds(*entry_.info);
    for (std::size_t i = 0; i < kinds.size(); ++i) result[str(kinds[i].name)] = costs_.live[i];
    return result;
}

void Replay::validate() const { machine_->validate(); }

void Replay::walk_all(const std::string& kind) {
    const auto* known = std::find(kWalkKindNames.begin() + 1, kWalkKindNames.end(), kind);
    if (known == kWalkKindNames.end()) throw std::invalid_argument("no walk kind " + kind);
    nb::gil_scoped_release release;
    machine_->walk_all(static_cast<WalkKind>(known - kWalkKindNames.begin()));
}

void Replay::watch(nb::handle rows) {
    std::vector<Watch> all = watches_;
    for_each_batch(rows, [&](const ImportedBatch& batch) {
        if (batch.names != std::vector<std::string>{"row", "pid", "addr"} ||
            batch.columns[0].type != Type::uint64 || batch.columns[1].type != Type::int32 ||
            batch.columns[2].type != Type::uint64)
            throw std::invalid_argument("columns are row (uint64), pid (int32), addr (uint64)");
        for (std::size_t i = 0; i < batch.rows; ++i) {
            const Watch watch{batch.columns[0].get<u64>(i), batch.columns[1].get<i32>(i),
                              batch.columns[2].get<u64>(i)};
            if (watch.row < row_ || (!all.empty() && watch.row < all.back().row))
                throw std::invalid_argument("rows to watch are not in order, or were fed already");
            all.push_back(watch);
        }
    });
    watches_ = std::move(all);
    if (next_watch_ < watches_.size()) watched_row_ = watches_[next_watch_].row;
}

void Replay::note_watched() {
    for (; next_watch_ < watches_.size() && watches_[next_watch_].row == row_; ++next_watch_) {
        Watch& watch = watches_[next_watch_];
        const Mm* mm = machine_->mm_of(watch.pid);
        const Vma* vma = mm ? mm->vmas.lookup(watch.addr) : nullptr;
        if (!vma) continue;
        watch.start = vma->start;
        watch.end = vma->end;
    }
    watched_row_ = next_watch_ < watches_.size() ? watches_[next_watch_].row : ~u64{0};
}

void Replay::note_owner(i32 child) {
    const Mm* mm = machine_->mm_of(child);
    if (mm && mm->pid == child) owners_.emplace_back(mm->serial, child);
}

nb::object Replay::owners() const {
    Table table;
    auto& serials = table.add_column<u32>("mm");
    auto& pids = table.add_column<i32>("pid");
    for (const auto& [serial, pid] : owners_) {
        serials.append(serial);
        pids.append(pid);
    }
    return wrap_table(std::move(table));
}

nb::object Replay::watched() const {
    Table table;
    auto& starts = table.add_column<u64>("start");
    auto& ends = table.add_column<u64>("end");
    for (const Watch& watch : watches_) {
        starts.append(watch.start);
        ends.append(watch.end);
    }
    return wrap_table(std::move(table));
}

void bind_state(nb::class_<Replay>& replay) {
    replay
        .def("vmas", &Replay::vmas,
             "Every VMA, by mm and address: mm (serial), pid (who first used the mm), start, end, "
             "index (anonymous offset of start, in pages), offset (in the file, bytes), flags "
             "(vm_flags), file, faulted.")
        .def("links", &Replay::links,
             "Every anon_vma_chain of a model that links so, by mm and address: mm, pid, start, "
             "end of the VMA, position in its list, object (handle of the anon_vma), own (it is "
             "vma->anon_vma).")
        .def("mappings", &Replay::mappings,
             "Every page that maps an anonymous folio, by mm and address: mm, pid, addr, folio.")
        .def("mm_of", &Replay::mm_of, "pid"_a,
             "The serial number of a living process's mm, else None.")
        .def("live", &Replay::live, "Live objects by kind.")
        .def("watch", &Replay::watch, "rows"_a,
             "Notes VMAs while rows are fed: after each `row` (uint64, ascending) the one at "
             "`addr` (uint64) of `pid` (int32). Raises ValueError for other columns or order.")
        .def("watched", &Replay::watched,
             "What watch() asked for, in its order: start and end of the VMA; 0 if there was none, "
             "or the row is still to come.")
        .def("owners", &Replay::owners,
             "The address spaces that fork gave to a process: mm (serial) and pid. Until its fork "
             "row one that dup_mmap made has pid 0 in every table.")
        .def("validate", &Replay::validate,
             "Recounts the machine and its model. Raises BrokenInvariant that names the first "
             "invariant found broken.")
        .def(
            "record_every_page", [](Replay& self) { self.machine().record_every_page(); },
            "Before the first event: gives each page a folio record. Changes no result.")
        .def("verify_every", &Replay::verify_every, "events"_a,
             "validate() after each so many events from here on, and at the end; 0: no more.")
        .def("walk_all", &Replay::walk_all, "kind"_a,
             "Walks every live anonymous folio once, now. Raises ValueError if there is no such "
             "kind of walk.");
}

}  // namespace rmapreplay
