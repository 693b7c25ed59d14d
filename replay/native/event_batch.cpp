// SPDX-License-Identifier: GPL-2.0-only
#include "replay/native/event_batch.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace rmapreplay {
namespace {

enum At : std::size_t {
    kTime,
    kOp,
    kPid,
    kTid,
    kAddr,
    kLen,
    kNewAddr,
    kNewLen,
    kOffset,
    kFlags,
    kVmFlags,
    kProt,
    kFd,
    kFile,
    kAdvice,
    kChild,
    kChildTid,
    kError,
    kSpecial,
    kWrite,
    kSource,
    kPresent,
    kOrder,
    kKind,
};
static_assert(kKind + 1 == kEventColumns.size());

// Turns a code into an enumerator; `names` lists those that exist.
template <class Enum, std::size_t N>
Enum checked(const std::array<std::string_view, N>&, u8 code, std::size_t column) {
    if (code >= N) {
        throw std::invalid_argument("column " + std::string(kEventColumns[column].name) +
                                    ": no such code: " + std::to_string(code));
    }
    return static_cast<Enum>(code);
}

}  // namespace

EventBatch::EventBatch(std::span<const ColumnView> columns, std::size_t rows) : rows_(rows) {
    if (columns.size() != kEventColumns.size()) {
        throw std::invalid_argument("a batch of events has " +
                                    std::to_string(kEventColumns.size()) + " columns, not " +
                                    std::to_string(columns.size()));
    }
    for (std::size_t i = 0; i < columns.size(); ++i) {
        if (columns[i].type != kEventColumns[i].type) {
            throw std::invalid_argument("column " + std::string(kEventColumns[i].name) +
                                        " has the wrong type");
        }
    }
    std::copy(columns.begin(), columns.end(), columns_.begin());
    fault_.op = Op::fault;
}

const Event& EventBatch::decode(std::size_t row) {
    const Op op = checked<Op>(kOpNames, columns_[kOp].get<u8>(row, 0xff), kOp);
    const bool is_fault = op == Op::fault;
    Event& event = is_fault ? fault_ : other_;
    event.time = columns_[kTime].get<i64>(row);
    event.pid = columns_[kPid].get<i32>(row);
    event.tid = columns_[kTid].get<i32>(row);
    event.addr = columns_[kAddr].get<u64>(row);
    event.write = columns_[kWrite].get<bool>(row);
    event.source = checked<Source>(kSourceNames, columns_[kSource].get<u8>(row), kSource);
    event.present = columns_[kPresent].valid(row)
                        ? static_cast<i8>(columns_[kPresent].get<bool>(row) ? 1 : 0)
                        : i8{-1};
    event.order = columns_[kOrder].get<u8>(row);
    if (!is_fault) decode_rest(row, op);
    return event;
}

void EventBatch::decode_rest(std::size_t row, Op op) {
    Event& event = other_;
    event.op = op;
    event.len = columns_[kLen].get<u64>(row);
    event.new_addr = columns_[kNewAddr].get<u64>(row);
    event.new_len = columns_[kNewLen].get<u64>(row);
    event.offset = columns_[kOffset].get<u64>(row);
    event.flags = columns_[kFlags].get<u64>(row);
    event.vm_flags = columns_[kVmFlags].get<u64>(row);
    event.prot = columns_[kProt].get<u32>(row);
    event.fd = columns_[kFd].get<i32>(row, -1);
    event.file = columns_[kFile].get<u32>(row);
    event.advice = columns_[kAdvice].get<i32>(row);
    event.child = columns_[kChild].get<i32>(row);
    event.child_tid = columns_[kChildTid].get<i32>(row);
    event.error = columns_[kError].get<i32>(row);
    event.special = checked<Special>(kSpecialNames, columns_[kSpecial].get<u8>(row), kSpecial);
    event.kind = checked<WalkKind>(kWalkKindNames, columns_[kKind].get<u8>(row), kKind);
}

}  // namespace rmapreplay
