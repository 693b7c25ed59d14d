// SPDX-License-Identifier: GPL-2.0-only
#include "replay/native/bind_models.hpp"

#include <nanobind/stl/string.h>

#include <stdexcept>

#include "replay/native/bind_replay.hpp"
#include "rmap_models/native/bind_c_model.hpp"
#include "rmap_models/native/bind_python_model.hpp"

namespace nb = nanobind;

namespace rmapreplay {
namespace {

ModelEntry built_in(const std::string& name) {
    if (const ModelEntry* entry = find_model(name)) return *entry;
    std::string known;
    for (const ModelEntry& entry : models()) {
        known += (known.empty() ? "" : ", ") + std::string(entry.info->name);
    }
    throw std::invalid_argument("no model named " + name + " (there are " + known + ")");
}

nb::list describe(std::span<const Counter> counters) {
    nb::list result;
    for (const Counter& counter : counters) {
        const auto cost = kCostClassNames[static_cast<std::size_t>(counter.cost)];
        result.append(dict_of("name", str(counter.name), "cost", str(cost), "doc", str(counter.doc),
                              "lock", str(counter.lock)));
    }
    return result;
}

nb::dict describe(const ModelInfo& info) {
    nb::list params;
    for (const Param& param : info.params) {
        params.append(dict_of("name", str(param.name), "values", str(param.values), "initial",
                              str(param.initial), "doc", str(param.doc)));
    }
    nb::dict objects;
    for (const ObjectKind& kind : object_kinds(info)) objects[str(kind.name)] = kind.bytes;
    nb::list locks;
    for (const LockClass& lock : info.locks) {
        locks.append(
            dict_of("name", str(lock.name), "type", str(lock.type), "covers", str(lock.covers)));
    }
    return dict_of(
        "name", str(info.name), "doc", str(info.doc), "params", params, "objects", objects, "locks",
        locks, "walk_counters", describe(info.walk_counters), "op_counters",
        describe(info.op_counters), "needs",
        dict_of("pages", info.needs.pages, "index_is_address", info.needs.index_is_address));
}

}  // namespace

ModelEntry model_entry(nb::handle model) {
    if (nb::isinstance<nb::str>(model)) return built_in(nb::cast<std::string>(model));
    if (is_python_model(model)) return python_model_entry(model);
    if (is_c_model(model)) return c_model_entry(model);
    throw std::invalid_argument("not a model: " + nb::cast<std::string>(nb::repr(model)));
}

}  // namespace rmapreplay

void bind_models(nb::module_& m) {
    using namespace rmapreplay;
    m.def(
        "models",
        [] {
            nb::list result;
            for (const ModelEntry& entry : models()) result.append(describe(*entry.info));
            return result;
        },
        "Static descriptions of the models: name, doc, params, objects (bytes), counters.");
    m.def(
        "model_info", [](nb::handle model) { return describe(*model_entry(model).info); },
        nb::arg("model"),
        "The same of one model, given as Replay takes it. Raises ValueError, with one clear line, "
        "if "
        "it is none.");
}
