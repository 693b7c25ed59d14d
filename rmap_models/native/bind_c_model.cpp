// SPDX-License-Identifier: GPL-2.0-only
#include "rmap_models/native/bind_c_model.hpp"

#include <nanobind/stl/string.h>

#include <memory>
#include <stdexcept>
#include <utility>

#include "rmap_models/native/bind_buffer.hpp"
#include "rmap_models/native/c_model.hpp"

namespace nb = nanobind;
using namespace nb::literals;

namespace rmapreplay {
namespace {

constexpr const char* kAttribute = "rmap_model_ops";

// Where a library is, and where to tell what it is being asked. It is loaded when a model is made
// of it.
struct CModelFile {
    std::string path;
    std::shared_ptr<WritableBuffer> word;
};

// A table at an address, and what keeps its functions alive.
struct TableInMemory {
    TableInMemory(nb::handle model, const rmap_model_ops& ops)
        : owner(nb::borrow(model)), table(ops) {}
    ~TableInMemory() {
        nb::gil_scoped_acquire gil;
        owner.reset();
    }
    nb::object owner;
    CModelTable table;
};

ModelEntry loaded(const CModelFile& file) {
    const auto library = std::make_shared<CLibrary>(file.path.c_str());
    return {&library->table().info(),
            [library, word = file.word](const ModelParams& params, Costs& costs) {
                return library->table().make(
                    params, costs, word ? static_cast<CallbackWord*>(word->data()) : nullptr);
            }};
}

}  // namespace

bool is_c_model(nb::handle model) {
    return nb::isinstance<CModelFile>(model) || nb::hasattr(model, "__fspath__") ||
           nb::hasattr(model, kAttribute);
}

ModelEntry c_model_entry(nb::handle model) {
    if (nb::isinstance<CModelFile>(model)) return loaded(nb::cast<CModelFile&>(model));
    if (nb::hasattr(model, "__fspath__")) {
        const nb::object path = nb::module_::import_("os.path").attr("abspath")(model);
        return loaded(CModelFile{nb::cast<std::string>(path), nullptr});
    }
    u64 address = 0;
    if (!nb::try_cast(model.attr(kAttribute), address) || !address)
        throw std::invalid_argument(std::string(kAttribute) + " is not the address of a table");
    const auto held =
        std::make_shared<TableInMemory>(model, *reinterpret_cast<const rmap_model_ops*>(address));
    return {&held->table.info(), [held](const ModelParams& params, Costs& costs) {
                return held->table.make(params, costs);
            }};
}

}  // namespace rmapreplay

void bind_c_model(nb::module_& m) {
    using namespace rmapreplay;
    nb::list callbacks;
    for (const char* name : kCallbackNames) callbacks.append(name);
    m.attr("C_MODEL_CALLBACKS") = callbacks;
    nb::dict functions;
    for (const MachineFunction& function : machine_functions())
        functions[function.name] = function.address;
    m.attr("C_MODEL_FUNCTIONS") = functions;
    m.attr("C_MODEL_ABI_VERSION") = RMAP_ABI_VERSION;
    nb::class_<CModelFile>(
        m, "CModel",
        "A model in a shared library, as its Path is, that can be looked at from "
        "outside.")
        .def(
            "__init__",
            [](CModelFile* self, std::string path, nb::object callback) {
                new (self) CModelFile{std::move(path), nullptr};
                if (!callback.is_none())
                    self->word = std::make_shared<WritableBuffer>(callback, sizeof(CallbackWord));
            },
            "path"_a, "callback"_a = nb::none(),
            "`path` has a slash. `callback`: a writable buffer of 4 bytes or more, which is to "
            "hold "
            "the callback that the model is in, as a place in C_MODEL_CALLBACKS.")
        .def_ro("path", &CModelFile::path);
}
