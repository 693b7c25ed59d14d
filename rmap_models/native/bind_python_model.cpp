// SPDX-License-Identifier: GPL-2.0-only
// Takes the machine's calls to a Python object. Nothing that it hands back is trusted.
#include "rmap_models/native/bind_python_model.hpp"

#include <nanobind/stl/string.h>

#include <memory>
#include <stdexcept>
#include <utility>
#include <vector>

#include "rmap_models/native/bind_python_machine.hpp"
#include "rmap_models/native/owned_info.hpp"
#include "rmap_models/native/params.hpp"

namespace nb = nanobind;

namespace rmapreplay {
namespace {

nb::object base_class() {
    return nb::module_::import_("rmapreplay.rmap_models.base").attr("RmapModel");
}

// "ZeroDivisionError: division by zero (mine.py, line 12)"
std::string last_line(nb::handle error) {
    return nb::cast<std::string>(
        nb::module_::import_("rmapreplay.rmap_models.errors").attr("last_line")(error));
}

// Whether it is a whole number, or stands for one as numpy's do, that fits.
template <class T>
bool number(nb::handle said, T& out) {
    if (!PyIndex_Check(said.ptr())) return false;
    const nb::object index = nb::steal(PyNumber_Index(said.ptr()));
    if (!index.is_valid()) throw nb::python_error();
    return nb::try_cast(index, out, false);
}

const char* kernel_name(Kernel kernel) {
    switch (kernel) {
        case Kernel::v6_12: return "6.12";
        case Kernel::v6_18: return "6.18";
        case Kernel::v7_3: break;
    }
    return "7.3";
}

class PythonModel final : public RmapModel {
  public:
    PythonModel(nb::handle cls, std::shared_ptr<OwnedInfo> info, const ModelInfo& view,
                const ModelParams& params, Costs& costs);

    const ModelInfo& info() const override { return info_; }
    void mm_init(Mm& mm) override { tell(mm_init_, handles().of(mm)); }
    void mm_fork_begin(Mm& child, Mm& parent) override {
        tell(mm_fork_begin_, handles().of(child), handles().of(parent));
    }
    void mm_fork_end(Mm& child, Mm& parent) override {
        tell(mm_fork_end_, handles().of(child), handles().of(parent));
    }
    void mm_exit(Mm& mm) override {
        tell(mm_exit_, handles().of(mm));
        handles().forget(mm);
    }

    void anon_vma_prepare(Vma& vma) override {
        vma.anon_vma = word_of(anon_vma_prepare_, vma, handles().of(vma));
    }
    void anon_vma_clone(Vma& dst, const Vma& src, CloneFor why) override;
    void anon_vma_fork(Vma& child, const Vma& parent) override {
        child.anon_vma = word_of(anon_vma_fork_, child, handles().of(child), handles().of(parent));
    }
    void unlink_anon_vmas(Vma& vma) override {
        tell(unlink_anon_vmas_, handles().of(vma));
        vma.anon_vma = nullptr;
        if (vma.slot < homes_.size()) homes_[vma.slot].serial = 0;
    }
    void pre_update_vma(Vma& vma) override { tell(pre_update_vma_, handles().of(vma)); }
    void post_update_vma(Vma& vma) override { tell(post_update_vma_, handles().of(vma)); }
    bool vma_is_fork_child(const Vma& vma) const override;

    Home home(const Vma& vma) const override;
    Home root_home(const Vma& vma) const override {
        return root_home_.method.is_valid() ? home_from(root_home_, handles().of(vma)) : home(vma);
    }
    void folios_homed(Home home, u64 n) override { tell(folios_homed_, home, n); }
    void folios_unhomed(Home home, u64 n) override { tell(folios_unhomed_, home, n); }
    void page_add_rmap(Home& home, const Mm& mm, u64 addr) override {
        if (page_add_rmap_.method.is_valid())
            home = home_from(page_add_rmap_, home, handles().of(mm), addr);
    }
    void page_remove_rmap(Home& home, const Mm& mm, u64 addr) override {
        if (page_remove_rmap_.method.is_valid())
            home = home_from(page_remove_rmap_, home, handles().of(mm), addr);
    }
    void page_copied_for_move(const Mm& mm, u64 addr) override {
        tell(page_copied_for_move_, handles().of(mm), addr);
    }
    void rmap_walk(Walk& walk) override;
    void validate(const Live& live) const override;

  private:
    // A method of the object; none where the class leaves RmapModel's, whose part is then done
    // here.
    struct Callback {
        const char* name;
        nb::object method{};
    };
    // What home() said of the VMA with this serial.
    struct KnownHome {
        u32 serial;
        Home home;
    };

    Handles& handles() const { return machine_->handles; }
    void find_callbacks();
    template <class F>
    auto in_python(const Callback& callback, F&& body) const;
    template <class... Args>
    void tell(const Callback& callback, Args... args) const {
        if (callback.method.is_valid()) in_python(callback, [&] { callback.method(args...); });
    }
    template <class... Args>
    Home home_from(const Callback& callback, Args... args) const;
    template <class... Args>
    void* word_of(const Callback& callback, const Vma& vma, Args... args) const;

    std::shared_ptr<OwnedInfo> owned_;
    const ModelInfo& info_;
    nb::object machine_object_, walk_object_;
    PythonMachine* machine_;
    PythonWalk* walk_;
    nb::object model_;
    Callback mm_init_{"mm_init"};
    Callback mm_fork_begin_{"mm_fork_begin"};
    Callback mm_fork_end_{"mm_fork_end"};
    Callback mm_exit_{"mm_exit"};
    Callback anon_vma_prepare_{"anon_vma_prepare"};
    Callback anon_vma_clone_{"anon_vma_clone"};
    Callback anon_vma_fork_{"anon_vma_fork"};
    Callback unlink_anon_vmas_{"unlink_anon_vmas"};
    Callback pre_update_vma_{"pre_update_vma"};
    Callback post_update_vma_{"post_update_vma"};
    Callback vma_is_fork_child_{"vma_is_fork_child"};
    Callback home_{"home"};
    Callback root_home_{"root_home"};
    Callback folios_homed_{"folios_homed"};
    Callback folios_unhomed_{"folios_unhomed"};
    Callback page_add_rmap_{"page_add_rmap"};
    Callback page_remove_rmap_{"page_remove_rmap"};
    Callback page_copied_for_move_{"page_copied_for_move"};
    Callback rmap_walk_{"rmap_walk"};
    Callback validate_{"validate"};
    mutable std::vector<KnownHome> homes_;  // by Vma::slot
};

// ---- calling ----

// Holds the GIL and the machine open while `body` runs. What goes wrong names the callback; what is
// no error but a wish to stop (KeyboardInterrupt) passes.
template <class F>
auto PythonModel::in_python(const Callback& callback, F&& body) const {
    nb::gil_scoped_acquire gil;
    const PythonMachine::Open open(*machine_);
    const auto at = [&](const std::string& what) {
        return std::string(callback.name) + "(): " + what;
    };
    const auto stand_by_failure = [&] {
        if (!machine_->failure().empty()) throw ModelFailure(at(machine_->failure()));
    };
    try {
        if constexpr (std::is_void_v<decltype(body())>) {
            body();
            stand_by_failure();
        } else {
            auto result = body();
            stand_by_failure();
            return result;
        }
    } catch (nb::python_error& error) {
        if (!error.matches(PyExc_Exception)) throw;
        const std::string text = at(last_line(error.value()));
        nb::raise_from(error, PyExc_RuntimeError, "%s", text.c_str());
    }
}

template <class... Args>
Home PythonModel::home_from(const Callback& callback, Args... args) const {
    return in_python(callback, [&] {
        const nb::object said = callback.method(args...);
        Home home = 0;
        if (!number(said, home))
            throw ModelFailure(std::string(callback.name) + "(): returned " +
                               nb::cast<std::string>(nb::repr(said)) +
                               ", which is no number from 0 to 4294967295");
        return home;
    });
}

template <class... Args>
void* PythonModel::word_of(const Callback& callback, const Vma& vma, Args... args) const {
    u64 word = vma.mm->serial;
    if (callback.method.is_valid())
        word = in_python(callback, [&] {
            const nb::object said = callback.method(args...);
            u64 own = 0;
            if (!number(said, own) || own == 0)
                throw ModelFailure(std::string(callback.name) + "(): returned " +
                                   nb::cast<std::string>(nb::repr(said)) + " for " + describe(vma) +
                                   ", which is no number from 1 to 2**64 - 1");
            return own;
        });
    return reinterpret_cast<void*>(word);
}

// ---- callbacks ----

void PythonModel::anon_vma_clone(Vma& dst, const Vma& src, CloneFor why) {
    if (!anon_vma_clone_.method.is_valid()) return;
    const char* name = why == CloneFor::split             ? "split"
                       : why == CloneFor::merge_unfaulted ? "merge_unfaulted"
                                                          : "remap";
    tell(anon_vma_clone_, handles().of(dst), handles().of(src), name);
}

bool PythonModel::vma_is_fork_child(const Vma& vma) const {
    if (!vma_is_fork_child_.method.is_valid()) return false;
    return in_python(vma_is_fork_child_, [&] {
        const int truth = PyObject_IsTrue(vma_is_fork_child_.method(handles().of(vma)).ptr());
        if (truth < 0) throw nb::python_error();
        return truth == 1;
    });
}

Home PythonModel::home(const Vma& vma) const {
    if (vma.slot >= homes_.size()) homes_.resize(vma.slot + 1, {0, 0});
    KnownHome& known = homes_[vma.slot];
    if (known.serial != vma.serial) known = {vma.serial, home_from(home_, handles().of(vma))};
    return known.home;
}

void PythonModel::rmap_walk(Walk& walk) {
    in_python(rmap_walk_, [&] {
        struct InProgress {
            PythonWalk& walk;
            ~InProgress() { walk.end(); }
        };
        walk_->begin(walk);
        const InProgress in_progress{*walk_};
        rmap_walk_.method(walk_object_);
    });
}

// Homes must not have changed since they were asked for; then the model recounts itself.
void PythonModel::validate(const Live& live) const {
    for (const Mm* mm : live.mms)
        for (std::size_t i = 0; i < mm->vmas.size(); ++i) {
            const Vma& vma = *mm->vmas.at(i);
            if (!vma.anon_vma) continue;
            const Home before = home(vma);
            const Home now = home_from(home_, handles().of(vma));
            if (now != before)
                throw BrokenInvariant("the home of " + describe(vma) + " was " +
                                      std::to_string(before) + " and is " + std::to_string(now));
        }
    if (!validate_.method.is_valid()) return;
    std::string broken;
    in_python(validate_, [&] {
        nb::list mms;
        for (const Mm* mm : live.mms) mms.append(handles().of(*mm));
        nb::dict homed;
        for (const auto& [home, n] : live.homed) homed[nb::int_(home)] = n;
        const nb::object counted =
            nb::module_::import_("rmapreplay.rmap_models.base").attr("Live")(mms, homed);
        try {
            validate_.method(counted);
        } catch (nb::python_error& error) {
            if (!error.matches(PyExc_AssertionError)) throw;
            broken = last_line(error.value());
        }
    });
    if (!broken.empty()) throw BrokenInvariant(broken);
}

// ---- making one ----

PythonModel::PythonModel(nb::handle cls, std::shared_ptr<OwnedInfo> owned, const ModelInfo& info,
                         const ModelParams& params, Costs& costs)
    : owned_(std::move(owned)), info_(info) {
    const char* kernel = kernel_name(check_params(info_, params));
    machine_object_ = nb::cast(new PythonMachine(info_, costs), nb::rv_policy::take_ownership);
    machine_ = nb::inst_ptr<PythonMachine>(machine_object_);
    walk_object_ = nb::cast(new PythonWalk(info_, *machine_), nb::rv_policy::take_ownership);
    walk_ = nb::inst_ptr<PythonWalk>(walk_object_);
    nb::dict given;
    for (const Param& param : info_.params)
        if (param.name != kKernelParam.name)
            given[nb::str(param.name.data(), param.name.size())] =
                nb::str(param.initial.data(), param.initial.size());
    for (const auto& [key, value] : params.values)
        if (key != kKernelParam.name) given[key.c_str()] = value;
    try {
        model_ = cls(machine_object_, kernel, **given);
    } catch (nb::python_error& error) {
        if (!error.matches(PyExc_Exception)) throw;
        const std::string text = "__init__(): " + last_line(error.value());
        nb::raise_from(error, PyExc_ValueError, "%s", text.c_str());
    }
    find_callbacks();
}

void PythonModel::find_callbacks() {
    const nb::object base = base_class();
    for (Callback* callback :
         {&mm_init_,          &mm_fork_begin_,        &mm_fork_end_,       &mm_exit_,
          &anon_vma_prepare_, &anon_vma_clone_,       &anon_vma_fork_,     &unlink_anon_vmas_,
          &pre_update_vma_,   &post_update_vma_,      &vma_is_fork_child_, &home_,
          &root_home_,        &folios_homed_,         &folios_unhomed_,    &page_add_rmap_,
          &page_remove_rmap_, &page_copied_for_move_, &rmap_walk_,         &validate_}) {
        nb::object method = model_.attr(callback->name);
        if (!nb::getattr(method, "__func__", method).is(base.attr(callback->name)))
            callback->method = std::move(method);
    }
    if (info_.needs.pages) {
        folios_homed_.method.reset();  // the homes of its folios are its own
        folios_unhomed_.method.reset();
    }
}

// ---- what a class says of itself ----

// Runs `body`, which reads the class attribute `name`.
template <class F>
void reading(const char* name, F&& body) {
    try {
        body();
    } catch (nb::python_error& error) {
        throw std::invalid_argument(std::string(name) + ": " + error.what());
    } catch (const nb::cast_error&) {
        throw std::invalid_argument(std::string(name) + ": not of the right type");
    }
}

std::string_view text(OwnedInfo& info, nb::handle value) {
    return info.keep(nb::cast<std::string>(value));
}

void read_counters(OwnedInfo& info, nb::handle cls, const char* name,
                   std::vector<Counter>& counters) {
    reading(name, [&] {
        for (const nb::handle counter : cls.attr(name)) {
            const std::string cost = nb::cast<std::string>(counter.attr("cost"));
            counters.push_back({text(info, counter.attr("name")), cost_class(cost),
                                text(info, counter.attr("doc")), text(info, counter.attr("lock"))});
        }
    });
}

void read(OwnedInfo& info, nb::handle cls) {
    reading("name", [&] {
        info.name = text(info, cls.attr("name"));
        if (info.name.empty()) info.name = text(info, cls.attr("__name__"));
    });
    reading("doc", [&] {
        info.doc = text(info, cls.attr("doc"));
        if (info.doc.empty() && !cls.attr("__doc__").is_none()) {
            const std::string_view whole = text(info, cls.attr("__doc__"));
            info.doc = whole.substr(0, whole.find('\n'));
        }
    });
    info.params.push_back(kKernelParam);
    reading("params", [&] {
        for (const nb::handle param : cls.attr("params"))
            info.params.push_back({text(info, param.attr("name")), text(info, param.attr("values")),
                                   text(info, param.attr("initial")),
                                   text(info, param.attr("doc"))});
    });
    reading("objects", [&] {
        for (const nb::handle item : cls.attr("objects").attr("items")())
            info.objects.push_back({text(info, item[0]), nb::cast<u32>(item[1])});
    });
    read_counters(info, cls, "walk_counters", info.walk_counters);
    read_counters(info, cls, "op_counters", info.op_counters);
    reading("locks", [&] {
        for (const nb::handle lock : cls.attr("locks"))
            info.locks.push_back({text(info, lock.attr("name")), text(info, lock.attr("type")),
                                  text(info, lock.attr("covers"))});
    });
    reading("needs_pages", [&] { info.needs.pages = nb::cast<bool>(cls.attr("needs_pages")); });
    reading("index_is_address",
            [&] { info.needs.index_is_address = nb::cast<bool>(cls.attr("index_is_address")); });
}

}  // namespace

bool is_python_model(nb::handle model) {
    return PyType_Check(model.ptr()) && PyObject_IsSubclass(model.ptr(), base_class().ptr()) == 1;
}

ModelEntry python_model_entry(nb::handle model) {
    auto info = std::make_shared<OwnedInfo>();
    read(*info, model);
    const ModelInfo& view = info->finish();
    return {&view, [cls = nb::borrow(model), info, &view](const ModelParams& params, Costs& costs) {
                return std::make_unique<PythonModel>(cls, info, view, params, costs);
            }};
}

}  // namespace rmapreplay
