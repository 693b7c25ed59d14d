// SPDX-License-Identifier: GPL-2.0-only
#include <dlfcn.h>

#include <stdexcept>
#include <string>

#include "rmap_models/native/c_model.hpp"

namespace rmapreplay {

CLibrary::CLibrary(const char* path) : handle_(dlopen(path, RTLD_NOW | RTLD_LOCAL)) {
    if (!handle_) throw std::invalid_argument(std::string("cannot be loaded: ") + dlerror());
    try {
        const auto rmap_model =
            reinterpret_cast<const rmap_model_ops* (*)()>(dlsym(handle_, "rmap_model"));
        if (!rmap_model)
            throw std::invalid_argument(
                "exports no function rmap_model(); rmap_model.h says what it returns");
        const rmap_model_ops* table = rmap_model();
        if (!table) throw std::invalid_argument("rmap_model() returned NULL");
        table_ = std::make_unique<CModelTable>(*table);
    } catch (...) {
        dlclose(handle_);
        throw;
    }
}

CLibrary::~CLibrary() {
    table_.reset();
    dlclose(handle_);
}

}  // namespace rmapreplay
