// SPDX-License-Identifier: GPL-2.0-only
#include "rmap_models/native/bind_python_machine.hpp"

#include <nanobind/stl/string.h>

#include <stdexcept>

namespace nb = nanobind;
using namespace nb::literals;

namespace rmapreplay {

// ---- names ----

void Names::add(std::string_view name, std::size_t number) {
    numbers_[nb::str(name.data(), name.size())] = number;
}

std::size_t Names::number(nb::handle name, const char* unknown) const {
    PyObject* found = PyDict_GetItemWithError(numbers_.ptr(), name.ptr());
    if (found) return PyLong_AsSize_t(found);
    if (PyErr_Occurred()) throw nb::python_error();
    std::string known;
    for (const auto [each, _] : numbers_)
        known += (known.empty() ? "" : ", ") + nb::cast<std::string>(each);
    throw ModelFailure(unknown + nb::cast<std::string>(nb::repr(name)) + " (there are " +
                       (known.empty() ? "none" : known) + ")");
}

// ---- the machine ----

PythonMachine::PythonMachine(const ModelInfo& info, Costs& costs) : costs_(costs) {
    for (std::size_t i = 0; i < info.objects.size(); ++i)
        kinds_.add(info.objects[i].name, kVmAreaStruct + 1 + i);
    for (std::size_t i = 0; i < info.op_counters.size(); ++i)
        op_counters_.add(info.op_counters[i].name, i);
}

void PythonMachine::require_open() const {
    if (!open_) throw std::runtime_error("the machine answers only while it calls the model");
}

const Vma& PythonMachine::known_vma(u64 handle) {
    return checked([&]() -> const Vma& {
        if (const Vma* found = handles.vma(handle)) return *found;
        throw ModelFailure("asked about VMA " + std::to_string(handle) + ", which is none");
    });
}

const Mm& PythonMachine::known_mm(u64 handle) {
    return checked([&]() -> const Mm& {
        if (const Mm* found = handles.mm(handle)) return *found;
        throw ModelFailure("asked about mm " + std::to_string(handle) + ", which is none");
    });
}

PythonVma PythonMachine::vma(u64 handle) {
    const Vma& v = known_vma(handle);
    return {v.start, v.end,  v.pgoff,  v.anon_pgoff, v.last_index(),
            v.flags, v.file, v.policy, v.mm->serial, v.anon_vma != nullptr};
}

PythonMm PythonMachine::mm(u64 handle) { return {known_mm(handle).pid}; }

u64 PythonMachine::find_vma(u64 mm, u64 addr) {
    const Vma* found = known_mm(mm).vmas.find(addr);
    return found ? handles.of(*found) : 0;
}

nb::list PythonMachine::vmas(u64 mm, u64 start, u64 end) {
    const VmaTree& tree = known_mm(mm).vmas;
    nb::list found;
    for (std::size_t i = tree.lower(start); i < tree.size() && tree.at(i)->start < end; ++i)
        found.append(handles.of(*tree.at(i)));
    return found;
}

u64 PythonMachine::at_least_0(i64 n) {
    if (n < 0) throw ModelFailure("counts " + std::to_string(n));
    return static_cast<u64>(n);
}

void PythonMachine::allocated(nb::handle kind, i64 n) {
    checked([&] { costs_.allocated(kinds_.number(kind, "allocates objects "), at_least_0(n)); });
}

void PythonMachine::freed(nb::handle kind, i64 n) {
    checked([&] {
        const std::size_t number = kinds_.number(kind, "frees objects ");
        const u64 gone = at_least_0(n);
        if (gone > costs_.live[number])
            throw ModelFailure("frees " + std::to_string(gone) + " of " +
                               nb::cast<std::string>(nb::repr(kind)) + ", of which " +
                               std::to_string(costs_.live[number]) + " live");
        costs_.freed(number, gone);
    });
}

void PythonMachine::count(nb::handle counter, i64 n) {
    checked([&] {
        costs_.count(op_counters_.number(counter, "counts in no op_counter "), at_least_0(n));
    });
}

// ---- a walk ----

PythonWalk::PythonWalk(const ModelInfo& info, PythonMachine& machine) : machine_(machine) {
    for (std::size_t i = 0; i < info.walk_counters.size(); ++i)
        counters_.add(info.walk_counters[i].name, i);
}

Walk& PythonWalk::walk() const {
    if (!walk_) throw std::runtime_error("the walk is over");
    return *walk_;
}

bool PythonWalk::overlaps(u64 handle) {
    const FolioView& folio = walk().folio;
    const Vma& vma = machine_.known_vma(handle);
    return vma.anon_vma && vma.last_index() >= folio.index &&
           vma.anon_pgoff < folio.index + folio.nr;
}

bool PythonWalk::visit(u64 handle) {
    Walk& current = walk();
    return machine_.checked(
        [&] { return current.visit(machine_.handles.offered(handle, current.folio)); });
}

void PythonWalk::count(nb::handle counter, i64 n) {
    Walk& current = walk();
    machine_.checked([&] {
        current.counters[counters_.number(counter, "counts in no walk_counter ")] +=
            machine_.at_least_0(n);
    });
}

}  // namespace rmapreplay

void bind_python_machine(nb::module_& m) {
    using namespace rmapreplay;
    nb::exception<ModelFailure>(m, "ModelFailure", PyExc_RuntimeError);
    nb::class_<PythonVma>(m, "Vma", "A VMA as it was when the machine was asked.")
        .def_ro("start", &PythonVma::start)
        .def_ro("end", &PythonVma::end)
        .def_ro("pgoff", &PythonVma::pgoff)
        .def_ro("anon_pgoff", &PythonVma::anon_pgoff)
        .def_ro("last_index", &PythonVma::last_index)
        .def_ro("flags", &PythonVma::flags)
        .def_ro("file", &PythonVma::file)
        .def_ro("policy", &PythonVma::policy)
        .def_ro("mm", &PythonVma::mm)
        .def_ro("faulted", &PythonVma::faulted)
        .def("__repr__", [](const PythonVma& vma) {
            return "<" + std::string(vma.faulted ? "faulted " : "") + "VMA " + hex(vma.start) +
                   "-" + hex(vma.end) + " of mm " + std::to_string(vma.mm) + ">";
        });
    nb::class_<PythonMm>(m, "Mm", "An address space.").def_ro("pid", &PythonMm::pid);
    nb::class_<PythonMachine>(m, "Machine", "What a model may ask of the machine.")
        .def("vma", &PythonMachine::vma, "vma"_a)
        .def("mm", &PythonMachine::mm, "mm"_a)
        .def("mm_of", &PythonMachine::mm_of, "vma"_a)
        .def("find_vma", &PythonMachine::find_vma, "mm"_a, "addr"_a)
        .def("vmas", &PythonMachine::vmas, "mm"_a, "start"_a = 0,
             "end"_a = std::numeric_limits<u64>::max(),
             nb::sig("def vmas(self, mm: int, start: int = 0, end: int = 2**64 - 1) -> list[int]"))
        .def("allocated", &PythonMachine::allocated, "kind"_a, "n"_a = 1,
             nb::sig("def allocated(self, kind: str, n: int = 1) -> None"))
        .def("freed", &PythonMachine::freed, "kind"_a, "n"_a = 1,
             nb::sig("def freed(self, kind: str, n: int = 1) -> None"))
        .def("count", &PythonMachine::count, "counter"_a, "n"_a = 1,
             nb::sig("def count(self, counter: str, n: int = 1) -> None"));
    nb::class_<PythonWalk>(m, "Walk", "One rmap walk in progress.")
        .def_prop_ro("index", [](const PythonWalk& walk) { return walk.walk().folio.index; })
        .def_prop_ro("nr", [](const PythonWalk& walk) { return walk.walk().folio.nr; })
        .def_prop_ro("mapcount", [](const PythonWalk& walk) { return walk.walk().folio.mapcount; })
        .def_prop_ro("home", [](const PythonWalk& walk) { return walk.walk().folio.home; })
        .def_prop_ro("exclusive",
                     [](const PythonWalk& walk) { return walk.walk().folio.exclusive; })
        .def_prop_ro("found", [](const PythonWalk& walk) { return walk.walk().found; })
        .def("overlaps", &PythonWalk::overlaps, "vma"_a)
        .def("visit", &PythonWalk::visit, "vma"_a)
        .def("count", &PythonWalk::count, "counter"_a, "n"_a = 1,
             nb::sig("def count(self, counter: str, n: int = 1) -> None"));
}
