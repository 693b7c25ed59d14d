// SPDX-License-Identifier: GPL-2.0-only
// Takes the machine's calls to a table of C functions, and theirs to the machine. Nothing that a
// model hands back is trusted. No exception may pass through its frames: what it did wrong is
// noted, and thrown once it has returned.
#include "rmap_models/native/c_model.hpp"

#include <algorithm>
#include <cstring>
#include <string>

#include "rmap_models/native/handles.hpp"
#include "rmap_models/native/params.hpp"

namespace rmapreplay {
namespace {

enum class Callback : u32 {
    none,
    init,
    exit,
    mm_init,
    mm_fork_begin,
    mm_fork_end,
    mm_exit,
    anon_vma_prepare,
    anon_vma_clone,
    anon_vma_fork,
    unlink_anon_vmas,
    pre_update_vma,
    post_update_vma,
    vma_is_fork_child,
    home,
    root_home,
    folios_homed,
    folios_unhomed,
    page_add_rmap,
    page_remove_rmap,
    page_copied_for_move,
    rmap_walk,
    validate,
    count
};
constexpr std::array<const char*, static_cast<std::size_t>(Callback::count)> kNames = {
    "",
    "init",
    "exit",
    "mm_init",
    "mm_fork_begin",
    "mm_fork_end",
    "mm_exit",
    "anon_vma_prepare",
    "anon_vma_clone",
    "anon_vma_fork",
    "unlink_anon_vmas",
    "pre_update_vma",
    "post_update_vma",
    "vma_is_fork_child",
    "home",
    "root_home",
    "folios_homed",
    "folios_unhomed",
    "page_add_rmap",
    "page_remove_rmap",
    "page_copied_for_move",
    "rmap_walk",
    "validate"};

const char* name_of(Callback callback) { return kNames[static_cast<std::size_t>(callback)]; }

class CModel;

// What the model holds a pointer to; the functions in it find their way back.
struct MachineForModel : rmap_machine {
    CModel* model;
};
struct WalkForModel : rmap_walk {
    CModel* model;
    Walk* walk;
};

class CModel final : public RmapModel {
  public:
    CModel(const rmap_model_ops& ops, const ModelInfo& info, const ModelParams& params,
           Costs& costs, CallbackWord* callback);
    ~CModel() override {
        costs_.op = nullptr;  // the machine is gone
        machine_.counters = nowhere_.data();
        at(Callback::exit);
        if (ops_.exit) ops_.exit(state_);
        at(Callback::none);
    }

    const ModelInfo& info() const override { return info_; }

    void mm_init(Mm& mm) override { tell(Callback::mm_init, ops_.mm_init, mm); }
    void mm_fork_begin(Mm& child, Mm& parent) override {
        tell(Callback::mm_fork_begin, ops_.mm_fork_begin, child, parent);
    }
    void mm_fork_end(Mm& child, Mm& parent) override {
        tell(Callback::mm_fork_end, ops_.mm_fork_end, child, parent);
    }
    void mm_exit(Mm& mm) override {
        tell(Callback::mm_exit, ops_.mm_exit, mm);
        handles_.forget(mm);
    }

    void anon_vma_prepare(Vma& vma) override {
        rmap_vma shown = view(vma);
        ask(Callback::anon_vma_prepare, ops_.anon_vma_prepare, &shown);
        take_words(Callback::anon_vma_prepare, vma, shown);
    }
    void anon_vma_clone(Vma& dst, const Vma& src, CloneFor why) override {
        if (!ops_.anon_vma_clone) return;
        rmap_vma shown = view(dst);
        const rmap_vma from = view(src);
        ask(Callback::anon_vma_clone, ops_.anon_vma_clone, &shown, &from, static_cast<u32>(why));
        dst.chain = shown.anon_vma_chain;
    }
    void anon_vma_fork(Vma& child, const Vma& parent) override {
        rmap_vma shown = view(child);
        const rmap_vma from = view(parent);
        ask(Callback::anon_vma_fork, ops_.anon_vma_fork, &shown, &from);
        take_words(Callback::anon_vma_fork, child, shown);
    }
    void unlink_anon_vmas(Vma& vma) override {
        tell(Callback::unlink_anon_vmas, ops_.unlink_anon_vmas, vma);
        vma.anon_vma = nullptr;
        vma.chain = nullptr;
        if (vma.slot < homes_.size()) homes_[vma.slot].serial = 0;
    }
    void pre_update_vma(Vma& vma) override {
        tell(Callback::pre_update_vma, ops_.pre_update_vma, vma);
    }
    void post_update_vma(Vma& vma) override {
        tell(Callback::post_update_vma, ops_.post_update_vma, vma);
    }
    bool vma_is_fork_child(const Vma& vma) const override {
        if (!ops_.vma_is_fork_child) return false;
        const rmap_vma shown = view(vma);
        return ask(Callback::vma_is_fork_child, ops_.vma_is_fork_child, &shown) != 0;
    }

    // Asked for at every fault, but it stays the same: so the model is asked once.
    Home home(const Vma& vma) const override {
        if (vma.slot < homes_.size() && homes_[vma.slot].serial == vma.serial)
            return homes_[vma.slot].home;
        return first_home(vma);
    }
    Home root_home(const Vma& vma) const override {
        return ops_.root_home ? home_by(Callback::root_home, ops_.root_home, vma) : home(vma);
    }
    void folios_homed(Home home, u64 n) override {
        if (ops_.folios_homed) ask(Callback::folios_homed, ops_.folios_homed, home, n);
    }
    void folios_unhomed(Home home, u64 n) override {
        if (ops_.folios_unhomed) ask(Callback::folios_unhomed, ops_.folios_unhomed, home, n);
    }
    void page_add_rmap(Home& home, const Mm& mm, u64 addr) override {
        if (ops_.page_add_rmap)
            ask(Callback::page_add_rmap, ops_.page_add_rmap, &home, mm.serial, addr);
    }
    void page_remove_rmap(Home& home, const Mm& mm, u64 addr) override {
        if (ops_.page_remove_rmap)
            ask(Callback::page_remove_rmap, ops_.page_remove_rmap, &home, mm.serial, addr);
    }
    void page_copied_for_move(const Mm& mm, u64 addr) override {
        if (ops_.page_copied_for_move)
            ask(Callback::page_copied_for_move, ops_.page_copied_for_move, mm.serial, addr);
    }

    void rmap_walk(Walk& walk) override;
    void validate(const Live& live) const override;

    // ---- what the model calls ----
    int fail(std::string what) const {
        if (failure_.empty()) failure_ = std::move(what);
        return -1;
    }
    int closed() const;
    int allocated(u64 object, u64 n);
    int allocated_at(u64 site);
    int freed(u64 object, u64 n);
    int find(u64 number, rmap_vma* found) const { return answer(handles_.vma(number), found); }
    int find_vma(u32 number, u64 addr, rmap_vma* found) const;
    int neighbour(u64 number, rmap_vma* found, Vma* (VmaTree::*which)(const Vma*) const) const;
    int find_mm(u32 number, rmap_mm* found) const;
    int visit(WalkForModel& walk, u64 number);
    int visit_at(WalkForModel& walk, u32 mm, u64 addr);
    int no_mm(u32 number) const;

  private:
    void at(Callback callback) const {
        // Of one thread; another process may be looking on.
        callback_->store(static_cast<u32>(callback), std::memory_order_relaxed);
    }
    template <class Function, class... Args>
    int ask(Callback callback, Function function, Args... args) const {
        at(callback);
        machine_.counters = costs_.op->counters.data();
        const int said = function(state_, args...);
        at(Callback::none);
        if (said < 0 || !failure_.empty()) stop(callback, said);
        check_counters("op_counter", machine_.counters, info_.op_counters.size(), callback);
        return said;
    }
    // Nothing may be in the places that the model has not declared.
    void check_counters(const char* what, const u64* counters, std::size_t declared,
                        Callback callback) const {
        u64 more = 0;
        for (std::size_t i = declared; i < kMaxCounters; ++i) more |= counters[i];
        if (more) refuse_counter(what, counters, declared, callback);
    }
    [[noreturn]] void refuse_counter(const char* what, const u64* counters, std::size_t declared,
                                     Callback callback) const;
    [[noreturn]] void stop(Callback callback, int said) const;
    std::string take_failure(int said) const;

    rmap_vma view(const Vma& vma) const {
        return {handles_.of(vma), vma.start, vma.end,      vma.anon_pgoff, vma.flags,
                vma.anon_vma,     vma.chain, vma.mm->rmap, vma.mm->serial, vma.file};
    }
    rmap_mm view(const Mm& mm) const { return {mm.rmap, handles_.of(mm), mm.pid}; }

    template <class Function>
    void tell(Callback callback, Function function, Mm& mm) {
        rmap_mm shown = view(mm);
        if (!function) return;
        ask(callback, function, &shown);
        mm.rmap = shown.rmap;
    }
    template <class Function>
    void tell(Callback callback, Function function, Mm& child, Mm& parent) {
        rmap_mm shown = view(child), from = view(parent);
        if (!function) return;
        ask(callback, function, &shown, &from);
        child.rmap = shown.rmap;
        parent.rmap = from.rmap;
    }
    template <class Function>
    void tell(Callback callback, Function function, Vma& vma) {
        if (!function) return;
        rmap_vma shown = view(vma);
        ask(callback, function, &shown);
        vma.chain = shown.anon_vma_chain;
    }
    void take_words(Callback callback, Vma& vma, const rmap_vma& shown) const {
        if (!shown.anon_vma)
            throw ModelFailure(std::string(name_of(callback)) + "(): left anon_vma of " +
                               describe(vma) + " NULL");
        vma.anon_vma = shown.anon_vma;
        vma.chain = shown.anon_vma_chain;
    }
    template <class Function>
    Home home_by(Callback callback, Function function, const Vma& vma) const {
        const rmap_vma shown = view(vma);
        Home home = 0;
        ask(callback, function, &shown, &home);
        return home;
    }
    int answer(const Vma* vma, rmap_vma* found) const {
        if (!vma) return 0;
        *found = view(*vma);
        return 1;
    }

    Home first_home(const Vma& vma) const;

    // What home() said of the VMA with this serial.
    struct KnownHome {
        u32 serial = 0;
        Home home = 0;
    };

    const rmap_model_ops& ops_;
    const ModelInfo& info_;
    Costs& costs_;
    mutable Handles handles_;
    mutable std::vector<KnownHome> homes_;  // by Vma::slot
    mutable std::string failure_;  // what the model did wrong first, in this callback
    CallbackWord unread_{0};
    CallbackWord* callback_;
    mutable MachineForModel machine_;
    mutable std::array<u64, kMaxCounters> nowhere_{};  // what is counted while the ledger is closed
    void* state_ = nullptr;
};

// ---- the machine's functions ----

CModel& model_of(const rmap_machine* machine) {
    return *static_cast<const MachineForModel*>(machine)->model;
}
WalkForModel& walk_of(rmap_walk* walk) { return *static_cast<WalkForModel*>(walk); }

int machine_fail(const rmap_machine* machine, const char* message) {
    std::string line = message && *message ? message : "failed without saying why";
    std::replace(line.begin(), line.end(), '\n', ' ');
    return model_of(machine).fail(std::move(line));
}
int machine_allocated(const rmap_machine* machine, u32 object, u64 n) {
    return model_of(machine).allocated(object, n);
}
int machine_allocated_at(const rmap_machine* machine, u32 site) {
    return model_of(machine).allocated_at(site);
}
int machine_freed(const rmap_machine* machine, u32 object, u64 n) {
    return model_of(machine).freed(object, n);
}
int machine_find(const rmap_machine* machine, u64 vma, rmap_vma* found) {
    return model_of(machine).find(vma, found);
}
int machine_find_vma(const rmap_machine* machine, u32 mm, u64 addr, rmap_vma* found) {
    return model_of(machine).find_vma(mm, addr, found);
}
int machine_next(const rmap_machine* machine, u64 vma, rmap_vma* found) {
    return model_of(machine).neighbour(vma, found, &VmaTree::next);
}
int machine_prev(const rmap_machine* machine, u64 vma, rmap_vma* found) {
    return model_of(machine).neighbour(vma, found, &VmaTree::prev);
}
int machine_mm(const rmap_machine* machine, u32 mm, rmap_mm* found) {
    return model_of(machine).find_mm(mm, found);
}
int machine_visit_at(rmap_walk* walk, u32 mm, u64 addr) {
    return walk_of(walk).model->visit_at(walk_of(walk), mm, addr);
}
int machine_visit(rmap_walk* walk, u64 vma) {
    return walk_of(walk).model->visit(walk_of(walk), vma);
}
constexpr rmap_machine kMachine = {
    .abi_version = RMAP_ABI_VERSION,
    .struct_size = sizeof(rmap_machine),
    .kernel = RMAP_KERNEL_7_3,
    .counters = nullptr,
    .fail = machine_fail,
    .allocated = machine_allocated,
    .allocated_at = machine_allocated_at,
    .freed = machine_freed,
    .find = machine_find,
    .find_vma = machine_find_vma,
    .next = machine_next,
    .prev = machine_prev,
    .mm = machine_mm,
    .visit = machine_visit,
    .visit_at = machine_visit_at,
};

std::string number_of(std::string_view what, u64 number, std::size_t declared) {
    return std::string(what) + " " + std::to_string(number) + " is none of the " +
           std::to_string(declared) + " declared";
}

int CModel::closed() const {
    return fail("the ledger is closed: there is no event before the first and after the last");
}

int CModel::allocated(u64 object, u64 n) {
    if (!costs_.op) return closed();
    if (object >= info_.objects.size())
        return fail(number_of("object", object, info_.objects.size()));
    costs_.allocated(object + 1, n);
    return 0;
}

int CModel::allocated_at(u64 site) {
    if (!costs_.op) return closed();
    if (site >= info_.sites.size()) return fail(number_of("site", site, info_.sites.size()));
    costs_.allocated_at(site + kMachineSites, info_.sites[site].kind);
    return 0;
}

int CModel::freed(u64 object, u64 n) {
    if (!costs_.op) return closed();
    if (object >= info_.objects.size())
        return fail(number_of("object", object, info_.objects.size()));
    if (costs_.live[object + 1] < n)
        return fail("freed " + std::to_string(n) + " " + std::string(info_.objects[object].name) +
                    " of " + std::to_string(costs_.live[object + 1]) + " that live");
    costs_.freed(object + 1, n);
    return 0;
}

[[gnu::cold]] int CModel::no_mm(u32 number) const {
    return fail("asked about mm " + std::to_string(number) + ", which is none");
}

int CModel::find_vma(u32 number, u64 addr, rmap_vma* found) const {
    const Mm* mm = handles_.mm(number);
    if (!mm) return no_mm(number);
    const Vma* vma = mm->vmas.lookup(addr);  // which remembers the last one
    return answer(vma ? vma : mm->vmas.find(addr), found);
}

int CModel::neighbour(u64 number, rmap_vma* found, Vma* (VmaTree::*which)(const Vma*) const) const {
    const Vma* vma = handles_.vma(number);
    if (!vma)
        return fail("asked for what is beside VMA " + std::to_string(number) + ", which is none");
    return answer((vma->mm->vmas.*which)(vma), found);
}

int CModel::find_mm(u32 number, rmap_mm* found) const {
    const Mm* mm = handles_.mm(number);
    if (!mm) return no_mm(number);
    *found = view(*mm);
    return 1;
}

int CModel::visit(WalkForModel& walk, u64 number) {
    if (!failure_.empty()) return -1;
    try {
        const bool go_on = walk.walk->visit(handles_.offered(number, walk.walk->folio));
        walk.found = walk.walk->found;
        return go_on;
    } catch (const std::exception& error) {
        return fail(error.what());
    }
}

int CModel::visit_at(WalkForModel& walk, u32 number, u64 addr) {
    if (!failure_.empty()) return -1;
    const Mm* mm = handles_.mm(number);
    if (!mm) return no_mm(number);
    const Vma* vma = mm->vmas.lookup(addr);
    if (!vma || !handles_.offer_once(*vma, walk.walk->folio)) return 1;
    const bool go_on = walk.walk->visit(*vma);
    walk.found = walk.walk->found;
    return go_on;
}

// ---- calling the model ----

std::string CModel::take_failure(int said) const {
    std::string text = failure_.empty() ? "returned " + std::to_string(said) + " without saying why"
                                        : std::move(failure_);
    failure_.clear();
    return text;
}

void CModel::stop(Callback callback, int said) const {
    throw ModelFailure(std::string(name_of(callback)) + "(): " + take_failure(said));
}

void CModel::rmap_walk(Walk& walk) {
    handles_.begin_walk();
    const FolioView& folio = walk.folio;
    WalkForModel shown{{walk.counters.data(), folio.index, folio.nr, folio.mapcount, folio.home,
                        folio.exclusive, 0},
                       this,
                       &walk};
    ask(Callback::rmap_walk, ops_.rmap_walk, static_cast<struct rmap_walk*>(&shown));
    check_counters("walk_counter", walk.counters.data(), info_.walk_counters.size(),
                   Callback::rmap_walk);
}

void CModel::refuse_counter(const char* what, const u64* counters, std::size_t declared,
                            Callback callback) const {
    std::size_t i = declared;
    while (!counters[i]) ++i;
    throw ModelFailure(std::string(name_of(callback)) + "(): " + number_of(what, i, declared));
}

Home CModel::first_home(const Vma& vma) const {
    if (vma.slot >= homes_.size()) homes_.resize(vma.slot + 1);
    homes_[vma.slot] = {vma.serial, home_by(Callback::home, ops_.home, vma)};
    return homes_[vma.slot].home;
}

// Homes must be as they were when they were asked for; then the model recounts itself.
void CModel::validate(const Live& live) const {
    for (const Mm* mm : live.mms)
        for (std::size_t i = 0; i < mm->vmas.size(); ++i) {
            const Vma& vma = *mm->vmas.at(i);
            if (!vma.anon_vma) continue;
            const Home before = home(vma), now = home_by(Callback::home, ops_.home, vma);
            if (now != before)
                throw BrokenInvariant("the home of " + describe(vma) + " was " +
                                      std::to_string(before) + " and is " + std::to_string(now));
        }
    if (!ops_.validate) return;
    std::vector<u32> mms, homes;
    std::vector<u64> folios;
    for (const Mm* mm : live.mms) mms.push_back(handles_.of(*mm));
    for (const auto& [home, n] : live.homed) {
        homes.push_back(home);
        folios.push_back(n);
    }
    const rmap_live shown{mms.data(), mms.size(), homes.data(), folios.data(), homes.size()};
    machine_.counters = nowhere_.data();
    at(Callback::validate);
    const int said = ops_.validate(state_, &shown);
    at(Callback::none);
    if (said < 0 || !failure_.empty()) throw BrokenInvariant(take_failure(said));
}

CModel::CModel(const rmap_model_ops& ops, const ModelInfo& info, const ModelParams& params,
               Costs& costs, CallbackWord* callback)
    : ops_(ops),
      info_(info),
      costs_(costs),
      callback_(callback ? callback : &unread_),
      machine_{kMachine, this} {
    switch (check_params(info, params)) {
        case Kernel::v6_12: machine_.kernel = RMAP_KERNEL_6_12; break;
        case Kernel::v6_18: machine_.kernel = RMAP_KERNEL_6_18; break;
        case Kernel::v7_3: machine_.kernel = RMAP_KERNEL_7_3; break;
    }
    std::vector<const char*> names, values;
    for (const auto& [name, value] : params.values) {
        names.push_back(name.c_str());
        values.push_back(value.c_str());
    }
    const rmap_params given{names.size(), names.data(), values.data()};
    machine_.counters = nowhere_.data();
    at(Callback::init);
    const int said = ops_.init(&machine_, &given, &state_);
    at(Callback::none);
    if (said < 0 || !failure_.empty()) stop(Callback::init, said);
}

// ---- what a table says ----

std::invalid_argument bad(const std::string& what) { return std::invalid_argument(what); }

// Calls on_item for the elements of an array that ends with a nameless one; one more than `most`
// are enough to know that there are too many.
template <class Item, class F>
void for_each(const Item* items, std::size_t most, F&& on_item) {
    for (std::size_t i = 0; items && items[i].name && i <= most; ++i) on_item(items[i]);
}

std::string_view text(const char* text) { return text ? text : ""; }

void add_counters(std::vector<Counter>& counters, const rmap_counter* declared) {
    for_each(declared, kMaxCounters, [&](const rmap_counter& counter) {
        if (counter.cost > RMAP_COST_OTHER)
            throw bad("counter '" + std::string(counter.name) + "' has cost " +
                      std::to_string(counter.cost) + ", which is none");
        counters.push_back({counter.name, static_cast<CostClass>(counter.cost), text(counter.doc),
                            text(counter.lock)});
    });
}

// Alternatives between bars are a choice; anything else is for the model to read.
void check_choices(const ModelInfo& info, const ModelParams& params) {
    for (const auto& [name, value] : params.values)
        for (const Param& param : info.params) {
            if (param.name != name || param.values.find('|') == param.values.npos) continue;
            const std::string all = "|" + std::string(param.values) + "|";
            if (value.find('|') != value.npos || all.find("|" + value + "|") == all.npos)
                throw bad(name + "=" + value + ": must be one of " + std::string(param.values));
        }
}

}  // namespace

const std::span<const char* const> kCallbackNames = kNames;

std::span<const MachineFunction> machine_functions() {
    const auto address = [](auto* function) { return reinterpret_cast<std::uintptr_t>(function); };
    static const std::array functions = {
        MachineFunction{"fail", address(machine_fail)},
        MachineFunction{"allocated", address(machine_allocated)},
        MachineFunction{"allocated_at", address(machine_allocated_at)},
        MachineFunction{"freed", address(machine_freed)},
        MachineFunction{"find", address(machine_find)},
        MachineFunction{"find_vma", address(machine_find_vma)},
        MachineFunction{"next", address(machine_next)},
        MachineFunction{"prev", address(machine_prev)},
        MachineFunction{"mm", address(machine_mm)},
        MachineFunction{"visit", address(machine_visit)},
        MachineFunction{"visit_at", address(machine_visit_at)}};
    return functions;
}

CModelTable::CModelTable(const rmap_model_ops& table) {
    if (table.abi_version != RMAP_ABI_VERSION)
        throw bad("is built for version " + std::to_string(table.abi_version) +
                  " of rmap_model.h, this is version " + std::to_string(RMAP_ABI_VERSION) +
                  "; build it again");
    constexpr std::size_t kLeast = offsetof(rmap_model_ops, page_add_rmap);
    if (table.struct_size < kLeast || table.struct_size > sizeof(ops_))
        throw bad("has a table of " + std::to_string(table.struct_size) +
                  " bytes; this version of rmap_model.h has " + std::to_string(sizeof(ops_)) +
                  ", and at least " + std::to_string(kLeast) + " are needed");
    std::memcpy(static_cast<void*>(&ops_), &table, table.struct_size);
    for (const auto& [name, there] :
         {std::pair{"init", ops_.init != nullptr},
          std::pair{"anon_vma_prepare", ops_.anon_vma_prepare != nullptr},
          std::pair{"anon_vma_fork", ops_.anon_vma_fork != nullptr},
          std::pair{"home", ops_.home != nullptr},
          std::pair{"rmap_walk", ops_.rmap_walk != nullptr}})
        if (!there) throw bad("has no " + std::string(name) + "(), which is required");
    if (!ops_.name || !*ops_.name) throw bad("has no name");
    if (ops_.needs & ~(RMAP_NEEDS_PAGES | RMAP_NEEDS_INDEX_IS_ADDRESS))
        throw bad("needs " + std::to_string(ops_.needs) + ", which has unknown bits");

    owned_.name = ops_.name;
    owned_.doc = text(ops_.doc);
    owned_.params.push_back(kKernelParam);
    for_each(ops_.params, 64, [&](const rmap_param& param) {
        owned_.params.push_back(
            {param.name, text(param.values), text(param.initial), text(param.doc)});
    });
    for_each(ops_.objects, RMAP_MAX_OBJECTS, [&](const rmap_object_kind& kind) {
        owned_.objects.push_back({kind.name, kind.bytes});
    });
    for_each(ops_.sites, RMAP_MAX_SITES, [&](const rmap_site& site) {
        if (site.object >= owned_.objects.size())
            throw bad("site '" + std::string(site.name) +
                      "': " + number_of("object", site.object, owned_.objects.size()));
        owned_.sites.push_back({site.object + 1, site.name});
    });
    add_counters(owned_.walk_counters, ops_.walk_counters);
    add_counters(owned_.op_counters, ops_.op_counters);
    for_each(ops_.locks, 64, [&](const rmap_lock_class& lock) {
        owned_.locks.push_back({lock.name, text(lock.type), text(lock.covers)});
    });
    owned_.needs = {(ops_.needs & RMAP_NEEDS_PAGES) != 0,
                    (ops_.needs & RMAP_NEEDS_INDEX_IS_ADDRESS) != 0};
    info_ = &owned_.finish();
}

std::unique_ptr<RmapModel> CModelTable::make(const ModelParams& params, Costs& costs,
                                             CallbackWord* callback) const {
    check_choices(*info_, params);
    return std::make_unique<CModel>(ops_, *info_, params, costs, callback);
}

}  // namespace rmapreplay
