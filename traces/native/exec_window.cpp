// SPDX-License-Identifier: GPL-2.0-only
#include "traces/native/exec_window.hpp"

#include "traces/native/syscalls.hpp"

namespace rmapreplay {

u32 FileIds::id(std::string_view identity, i32 fd) {
    key_.assign(identity);
    key_ += '|';
    key_ += std::to_string(fd);
    const auto [it, fresh] = ids_.try_emplace(key_, last_ + 1);
    if (fresh) ++last_;
    return it->second;
}

Event mapping_row(const Mapping& mapping, EventTable& table) {
    Event event;
    event.op = Op::mapping;
    event.addr = mapping.addr;
    event.len = mapping.len;
    event.offset = mapping.offset;
    event.prot = mapping.prot;
    event.flags = mapping.shared ? uapi::map_shared : uapi::map_private;
    if (mapping.identity.empty()) event.flags |= uapi::map_anonymous;
    if (mapping.path == "[stack]") event.flags |= uapi::map_growsdown;
    event.path = table.path(mapping.path);
    return event;
}

bool ExecWindow::trim(const Event& mapping, std::string_view identity, Event& trim) {
    if (identity.empty()) return false;
    for (Image& image : images_) {
        if (image.identity != identity) continue;
        if (image.trimmed || mapping.addr <= image.start || mapping.addr >= image.end) return false;
        image.trimmed = true;
        trim = Event{};
        trim.op = Op::munmap;
        trim.addr = mapping.addr;
        trim.len = image.end - mapping.addr;
        return true;
    }
    images_.push_back({std::string(identity), mapping.addr, mapping.addr + mapping.len, false});
    return false;
}

}  // namespace rmapreplay
