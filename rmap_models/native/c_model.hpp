// SPDX-License-Identifier: GPL-2.0-only
// Models written against rmap_model.h: a table of C functions becomes a model like the built-in
// ones.
#pragma once

#include <atomic>
#include <memory>

#include "rmap_models/native/model.hpp"
#include "rmap_models/native/owned_info.hpp"
#include "rmap_models/native/rmap_model.h"

namespace rmapreplay {

// What the model is being asked, for those who want to know after a crash. 0: nothing, the machine
// is at work; else a place in kCallbackNames.
using CallbackWord = std::atomic<u32>;
extern const std::span<const char* const> kCallbackNames;

// The functions that every table's machine has, by name: their addresses are the same for all.
struct MachineFunction {
    const char* name;
    std::uintptr_t address;
};
std::span<const MachineFunction> machine_functions();

// A table that was looked over, and what the model says of itself. Copies the table; the functions,
// texts and arrays that it refers to must outlive this.
class CModelTable {
  public:
    // Throws std::invalid_argument, with one clear line, if it is of another version, lacks a
    // required function, or describes what cannot be.
    explicit CModelTable(const rmap_model_ops& table);

    const ModelInfo& info() const { return *info_; }
    // `callback`, if not null, always holds what is being asked. Throws std::invalid_argument if
    // the parameters are not right, ModelFailure if init() fails.
    std::unique_ptr<RmapModel> make(const ModelParams& params, Costs& costs,
                                    CallbackWord* callback = nullptr) const;

  private:
    rmap_model_ops ops_{};
    OwnedInfo owned_;
    const ModelInfo* info_ = nullptr;
};

// A shared library that exports rmap_model(), loaded for as long as this lives. `path` must contain
// a slash. Throws std::invalid_argument as above, or if it cannot be loaded. Its constructors run,
// and may do anything. (c_library.cpp)
class CLibrary {
  public:
    explicit CLibrary(const char* path);
    ~CLibrary();
    CLibrary(const CLibrary&) = delete;
    CLibrary& operator=(const CLibrary&) = delete;
    const CModelTable& table() const { return *table_; }

  private:
    void* handle_;
    std::unique_ptr<CModelTable> table_;
};

}  // namespace rmapreplay
