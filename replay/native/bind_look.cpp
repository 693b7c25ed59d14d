// SPDX-License-Identifier: GPL-2.0-only
// What a replay shows of one moment (look.hpp): for explain and inspect.
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>

#include <set>

#include "replay/native/bind_replay.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace rmapreplay {
namespace {

nb::object row_or_none(u64 row) { return row == kNever ? nb::none() : nb::object(nb::int_(row)); }

nb::dict folio_dict(const FolioView& folio) {
    return dict_of("index", folio.index, "pages", folio.nr, "mapcount", folio.mapcount, "exclusive",
                   folio.exclusive, "home", folio.home);
}

nb::dict counters_dict(const ModelInfo& info, const std::array<u64, kMaxCounters>& counters) {
    nb::dict result;
    for (std::size_t i = 0; i < info.walk_counters.size(); ++i)
        result[str(info.walk_counters[i].name)] = counters[i];
    return result;
}

nb::list entries_list(const std::vector<FolioEntry>& entries) {
    nb::list result;
    for (const FolioEntry& e : entries)
        result.append(dict_of("mm", e.mm, "pid", e.pid, "addr", e.addr, "found", e.found));
    return result;
}

}  // namespace

nb::object Replay::story() const {
    const WalkStory* told = machine_->story();
    if (!told) return nb::none();
    const WalkRecord& r = told->record;
    nb::list visits;
    for (const VisitRecord& v : told->visits)
        visits.append(dict_of("visit", v.visit, "mm", v.mm, "pid", v.pid, "start", v.start, "end",
                              v.end, "index", v.index, "hits", v.hits, "levels", v.levels,
                              "counters", counters_dict(*entry_.info, v.counters)));
    const auto kind = kWalkKindNames[static_cast<std::size_t>(r.kind)];
    nb::dict walk =
        dict_of("walk", r.walk, "seq", r.seq, "time", told->time, "kind", str(kind), "visits",
                r.visits, "hits", r.hits, "useless_empty", r.useless_empty, "useless_other",
                r.useless_other, "misses", r.misses, "levels", r.levels, "stopped", r.stopped,
                "counters", counters_dict(*entry_.info, r.counters));
    nb::dict folio = folio_dict(told->folio);
    folio.update(dict_of("folio", r.folio, "order", r.order, "mm", told->mm, "pid", told->pid,
                         "addr", told->addr, "mapping",
                         str(kMappingKindNames[static_cast<std::size_t>(r.mapping)]), "fork_depth",
                         r.fork_depth));
    return dict_of("walk", walk, "folio", folio, "visits", visits, "entries",
                   entries_list(told->entries));
}

nb::list Replay::lives() const {
    nb::list result;
    for (const MmLife& life : machine_->lives())
        result.append(dict_of(
            "mm", life.mm, "parent", life.parent ? nb::object(nb::int_(life.parent)) : nb::none(),
            "pid", life.pid, "how", str(kMmOriginNames[static_cast<std::size_t>(life.how)]), "born",
            life.born, "execed", row_or_none(life.execed), "gone", row_or_none(life.gone)));
    return result;
}

nb::dict Replay::users() const {
    nb::dict result;
    for (const Mm* mm : machine_->mms()) result[nb::int_(mm->serial)] = machine_->users(*mm);
    return result;
}

nb::object Replay::page(u32 mm, u64 addr) const {
    const auto page = machine_->page(mm, addr);
    if (!page) return nb::none();
    nb::dict result = dict_of("what", str(PageView::kNames[static_cast<std::size_t>(page->what)]),
                              "by_pmd", page->by_pmd);
    if (page->what == PageView::What::folio) result.update(folio_dict(page->folio));
    return result;
}

nb::list Replay::sharers(u32 mm, u64 addr) const {
    return entries_list(machine_->sharers(mm, addr));
}

nb::object Replay::vma_details() const {
    Table table;
    auto& vmas = table.add_column<u32>("vma");
    auto& anon = table.add_column<u64>("anon");
    auto& shared = table.add_column<u64>("shared");
    auto& swap = table.add_column<u64>("swap");
    auto& homes = table.add_column<u32>("home");
    static constexpr std::array<std::string_view, 6> kNames = {"heap", "stack", "anon",
                                                               "file", "shmem", "special"};
    auto& names = table.add_enum("kind", kNames);
    for (const Mm* mm : machine_->mms())
        for (std::size_t i = 0; i < mm->vmas.size(); ++i) {
            const Vma& vma = *mm->vmas.at(i);
            const VmaPages pages = machine_->pages(vma);
            vmas.append(vma.serial);
            anon.append(pages.anon);
            shared.append(pages.shared);
            swap.append(pages.swap);
            homes.append(vma.anon_vma ? model_->home(vma) : 0);
            const auto name = std::find(kNames.begin(), kNames.end(), machine_->name_of(vma));
            names.append_code(static_cast<u8>(name - kNames.begin()));
        }
    return wrap_table(std::move(table));
}

nb::dict Replay::object_view(u32 handle) const {
    const ObjectView view = model_->view(handle);
    nb::list fields;
    for (const ObjectField& field : view.fields) {
        static constexpr std::array<std::string_view, 3> kIs = {"number", "object", "mm"};
        fields.append(dict_of("name", str(field.name), "value", field.value, "is",
                              str(kIs[static_cast<std::size_t>(field.is)])));
    }
    nb::list remaps;
    for (const Remap& remap : model_->remaps(handle))
        remaps.append(
            dict_of("first", remap.first, "last", remap.last, "displacement", remap.displacement));
    return dict_of("object", handle, "kind", str(view.kind), "fields", fields, "remaps", remaps);
}

// Those that VMAs lead to, and those that these name.
nb::list Replay::objects_seen() const {
    nb::list result;
    if (entry_.info->needs.pages) return result;  // homes are of pages, not of VMAs
    std::set<u32> found;
    std::vector<u32> left;
    const auto add = [&](u32 handle) {
        if (found.insert(handle).second) left.push_back(handle);
    };
    for (const Mm* mm : machine_->mms())
        for (std::size_t i = 0; i < mm->vmas.size(); ++i) {
            const Vma& vma = *mm->vmas.at(i);
            if (!vma.anon_vma) continue;
            add(model_->home(vma));
            for (const u32 handle : model_->anon_vma_chain(vma)) add(handle);
        }
    while (!left.empty()) {
        const u32 handle = left.back();
        left.pop_back();
        for (const ObjectField& field : model_->view(handle).fields)
            if (field.is == ObjectField::Is::object) add(static_cast<u32>(field.value));
    }
    for (const u32 handle : found) result.append(object_view(handle));
    return result;
}

void bind_look(nb::class_<Replay>& replay) {
    replay
        .def(
            "stop_at_walk", [](Replay& self, u64 number) { self.machine().stop_at_walk(number); },
            "number"_a,
            "Before that walk: replay up to it and no further. Rows fed later are passed over.")
        .def_prop_ro("stopped", &Replay::stopped, "Whether that walk is done.")
        .def("story", &Replay::story,
             "That walk in full, or None before it: walk, folio, visits (with the counters as they "
             "stood), entries (all that map the folio; found: by the walk).")
        .def(
            "record_lives", [](Replay& self) { self.machine().record_lives(); },
            "Before the first event: keeps a record of every mm there has been.")
        .def("lives", &Replay::lives,
             "Of every mm so far: mm, parent, pid, how, born, execed, gone (rows).")
        .def("users", &Replay::users,
             "Tasks of every living mm, by serial. 0: it is dying, or fork is not done with it.")
        .def("page", &Replay::page, "mm"_a, "addr"_a,
             "What the page of an mm holds: what (nothing, zero_page, guard, swap, folio), and of "
             "a folio index, pages, mapcount, exclusive, home. None: no VMA covers it.")
        .def("sharers", &Replay::sharers, "mm"_a, "addr"_a,
             "All entries that map the folio that this page maps: mm, pid, addr.")
        .def("vma_details", &Replay::vma_details,
             "A row per row of vmas(): vma (serial), anon, shared, swap (pages), home (where its "
             "pages are homed, if faulted), kind (heap, stack, anon, file, shmem, special).")
        .def("object_view", &Replay::object_view, "handle"_a,
             "An object of the model: object, kind, fields (name, value, is: number, object or "
             "mm), remaps.")
        .def("objects", &Replay::objects_seen,
             "The model's objects that VMAs lead to, and those that these name, by handle.");
}

}  // namespace rmapreplay
