// SPDX-License-Identifier: GPL-2.0-only
#include "traces/native/event_table.hpp"

namespace rmapreplay {

EventTable::EventTable()
    : time_(table_.add_column<i64>("time")),
      op_(table_.add_dict8("op")),
      pid_(table_.add_column<i32>("pid")),
      tid_(table_.add_column<i32>("tid")),
      addr_(table_.add_column<u64>("addr", true)),
      len_(table_.add_column<u64>("len", true)),
      new_addr_(table_.add_column<u64>("new_addr", true)),
      new_len_(table_.add_column<u64>("new_len", true)),
      offset_(table_.add_column<u64>("offset", true)),
      flags_(table_.add_column<u64>("flags", true)),
      vm_flags_(table_.add_column<u64>("vm_flags", true)),
      prot_(table_.add_column<u32>("prot", true)),
      fd_(table_.add_column<i32>("fd", true)),
      file_(table_.add_column<u32>("file", true)),
      advice_(table_.add_column<i32>("advice", true)),
      child_(table_.add_column<i32>("child", true)),
      child_tid_(table_.add_column<i32>("child_tid", true)),
      error_(table_.add_column<i32>("error", true)),
      path_(table_.add_dict32("path", true)),
      write_(table_.add_column<bool>("write", true)),
      source_(table_.add_dict8("source", true)),
      present_(table_.add_column<bool>("present", true)),
      order_(table_.add_column<u8>("order", true)),
      kind_(table_.add_dict8("kind", true)) {
    // Codes equal the enumerators, so a row needs no look-up.
    for (std::string_view name : kOpNames) op_.code(name);
    for (std::string_view name : kSourceNames) source_.code(name);
    for (std::string_view name : kWalkKindNames) kind_.code(name);
}

u32 EventTable::path(std::string_view text) { return text.empty() ? 0 : path_.code(text) + 1; }

void EventTable::append(const Event& event) {
    const u32 need = needed_columns(event.op);
    time_.append(event.time);
    op_.append_code(static_cast<u8>(event.op));
    pid_.append(event.pid);
    tid_.append(event.tid);
    put(addr_, event.addr, u64{0}, need & needs::addr);
    put(len_, event.len, u64{0}, need & needs::len);
    put(new_addr_, event.new_addr, u64{0}, need & needs::new_addr);
    put(new_len_, event.new_len, u64{0}, need & needs::new_len);
    put(offset_, event.offset, u64{0}, need & needs::offset);
    put(flags_, event.flags, u64{0}, need & needs::flags);
    put(vm_flags_, event.vm_flags, u64{0}, false);
    put(prot_, event.prot, u32{0}, need & needs::prot);
    put(fd_, event.fd, i32{-1}, false);
    put(file_, event.file, u32{0}, false);
    put(advice_, event.advice, i32{0}, need & needs::advice);
    put(child_, event.child, i32{0}, need & needs::child);
    put(child_tid_, event.child_tid, i32{0}, need & needs::child_tid);
    put(error_, event.error, i32{0}, false);
    if (event.path != 0) put_code(path_, event.path - 1);
    put(write_, event.write, false, need & needs::write);
    if (event.source != Source::none) put_code(source_, static_cast<u8>(event.source));
    if (event.present >= 0) put(present_, event.present != 0, false, true);
    put(order_, event.order, u8{0}, false);
    if (event.kind != WalkKind::none) put_code(kind_, static_cast<u8>(event.kind));
    if (total_rows_ == 0) first_time_ = event.time;
    last_time_ = event.time;
    ++total_rows_;
}

}  // namespace rmapreplay
