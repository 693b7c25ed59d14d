// SPDX-License-Identifier: GPL-2.0-only
#include "replay/native/event_batch.hpp"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace rmapreplay {
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

void EventBatch::refuse(At column, u8 code) {
    throw std::invalid_argument("column " + std::string(kEventColumns[column].name) +
                                ": no such code: " + std::to_string(code));
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
    event.special =
        checked<Special>(kSpecial, columns_[kSpecial].get<u8>(row), kSpecialNames.size());
    event.kind = checked<WalkKind>(kKind, columns_[kKind].get<u8>(row), kWalkKindNames.size());
}

}  // namespace rmapreplay
