// SPDX-License-Identifier: GPL-2.0-only
// Columns that grow row by row: what importers and replays hand out. Laid out as Arrow wants its
// buffers, so bind_arrow.cpp can pass them on without a copy; nothing here knows Arrow.
#pragma once

#include <cstddef>
#include <functional>
#include <limits>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "traces/native/event.hpp"

namespace rmapreplay {

// Dictionary types hold codes into a list of distinct strings.
enum class Type : u8 {
    boolean,
    uint8,
    uint16,
    uint32,
    uint64,
    int8,
    int32,
    int64,
    float64,
    dict8,
    dict32,
};

template <class T>
constexpr Type type_of() {
    if constexpr (std::is_same_v<T, bool>) return Type::boolean;
    if constexpr (std::is_same_v<T, u8>) return Type::uint8;
    if constexpr (std::is_same_v<T, u16>) return Type::uint16;
    if constexpr (std::is_same_v<T, u32>) return Type::uint32;
    if constexpr (std::is_same_v<T, u64>) return Type::uint64;
    if constexpr (std::is_same_v<T, i8>) return Type::int8;
    if constexpr (std::is_same_v<T, i32>) return Type::int32;
    if constexpr (std::is_same_v<T, i64>) return Type::int64;
    if constexpr (std::is_same_v<T, double>) return Type::float64;
}

// One bit per row, least significant first.
class Bits {
  public:
    std::size_t size() const { return size_; }
    const u8* data() const { return bytes_.data(); }
    bool operator[](std::size_t i) const { return (bytes_[i >> 3] >> (i & 7)) & 1; }
    void append(bool bit) {
        if ((size_ & 7) == 0) bytes_.push_back(0);
        if (bit) bytes_.back() = static_cast<u8>(bytes_.back() | (1u << (size_ & 7)));
        ++size_;
    }
    void append(bool bit, std::size_t n) {
        while (n > 0 && (size_ & 7) != 0) append(bit), --n;
        bytes_.insert(bytes_.end(), n >> 3, bit ? u8{0xff} : u8{0});
        size_ += n & ~std::size_t{7};
        for (n &= 7; n > 0; --n) append(bit);
    }
    void clear() {
        bytes_.clear();
        size_ = 0;
    }

  private:
    std::vector<u8> bytes_;
    std::size_t size_ = 0;
};

class Column {
  public:
    Column(std::string name, Type type, bool nullable)
        : name_(std::move(name)), type_(type), nullable_(nullable) {}
    virtual ~Column() = default;
    Column(const Column&) = delete;
    Column& operator=(const Column&) = delete;

    const std::string& name() const { return name_; }
    Type type() const { return type_; }
    bool nullable() const { return nullable_; }
    std::size_t null_count() const { return null_count_; }
    // One bit per row, 1: not null. nullptr while no row is null.
    const u8* validity() const { return null_count_ > 0 ? validity_.data() : nullptr; }
    bool is_null(std::size_t row) const { return null_count_ > 0 && !validity_[row]; }

    virtual std::size_t rows() const = 0;
    virtual const void* values() const = 0;  // rows() values (bits for boolean, codes for dict)
    virtual std::span<const std::string> strings() const { return {}; }  // dict types
    // So that it has `rows` rows, no fewer than it has.
    virtual void append_nulls_up_to(std::size_t rows) = 0;
    // An empty column takes over the rows; this one keeps name, type and known strings.
    virtual std::unique_ptr<Column> take() = 0;
    virtual void clear() = 0;

  protected:
    void note_valid() {
        if (null_count_ > 0) validity_.append(true);
    }
    void note_nulls(std::size_t rows_before, std::size_t n) {
        if (n == 0) return;
        if (!nullable_) throw std::logic_error("null in column " + name_);
        if (null_count_ == 0) validity_.append(true, rows_before);
        validity_.append(false, n);
        null_count_ += n;
    }
    void take_validity(Column& from) {
        validity_ = std::exchange(from.validity_, Bits{});
        null_count_ = std::exchange(from.null_count_, 0);
    }
    void clear_validity() {
        validity_.clear();
        null_count_ = 0;
    }

  private:
    std::string name_;
    Type type_;
    bool nullable_;
    Bits validity_;  // kept only once a null has come
    std::size_t null_count_ = 0;
};

template <class T>
class TypedColumn final : public Column {
  public:
    using Store = std::conditional_t<std::is_same_v<T, bool>, Bits, std::vector<T>>;

    TypedColumn(std::string name, bool nullable)
        : Column(std::move(name), type_of<T>(), nullable) {}

    void append(T value) {
        note_valid();
        push(value);
    }
    void append_null() { append_nulls_up_to(rows() + 1); }
    void append_nulls_up_to(std::size_t rows) override {
        const std::size_t n = rows - values_.size();
        note_nulls(values_.size(), n);
        if constexpr (std::is_same_v<T, bool>) {
            values_.append(false, n);
        } else {
            values_.resize(rows);
        }
    }
    T operator[](std::size_t row) const { return values_[row]; }

    std::size_t rows() const override { return values_.size(); }
    const void* values() const override { return values_.data(); }
    std::unique_ptr<Column> take() override {
        auto taken = std::make_unique<TypedColumn>(name(), nullable());
        taken->take_validity(*this);
        taken->values_ = std::exchange(values_, Store{});
        // The next batch is likely to be as long.
        if constexpr (!std::is_same_v<T, bool>) values_.reserve(taken->values_.size());
        return taken;
    }
    void clear() override {
        clear_validity();
        values_.clear();
    }

  private:
    void push(T value) {
        if constexpr (std::is_same_v<T, bool>) {
            values_.append(value);
        } else {
            values_.push_back(value);
        }
    }
    Store values_;
};

// Strings with few distinct values. Code is u8 (at most 256 distinct strings) or u32.
template <class Code>
class DictColumn final : public Column {
  public:
    static_assert(std::is_same_v<Code, u8> || std::is_same_v<Code, u32>);
    DictColumn(std::string name, bool nullable)
        : Column(std::move(name), sizeof(Code) == 1 ? Type::dict8 : Type::dict32, nullable) {}

    // The code of a string, adding it if it is new. Throws std::length_error if codes run out.
    Code code(std::string_view text) {
        if (auto it = codes_.find(text); it != codes_.end()) return it->second;
        if (strings_.size() > std::numeric_limits<Code>::max()) {
            throw std::length_error("too many distinct strings in column " + name());
        }
        const Code fresh = static_cast<Code>(strings_.size());
        strings_.emplace_back(text);
        codes_.emplace(strings_.back(), fresh);
        return fresh;
    }
    void append(std::string_view text) { append_code(code(text)); }
    // `code` must have been given out by code().
    void append_code(Code code) {
        note_valid();
        values_.push_back(code);
    }
    void append_null() { append_nulls_up_to(rows() + 1); }
    void append_nulls_up_to(std::size_t rows) override {
        note_nulls(values_.size(), rows - values_.size());
        values_.resize(rows);
    }
    Code code_at(std::size_t row) const { return values_[row]; }

    std::size_t rows() const override { return values_.size(); }
    const void* values() const override { return values_.data(); }
    std::span<const std::string> strings() const override { return strings_; }
    std::unique_ptr<Column> take() override {
        auto taken = std::make_unique<DictColumn>(name(), nullable());
        taken->take_validity(*this);
        taken->values_ = std::exchange(values_, {});
        values_.reserve(taken->values_.size());
        taken->strings_ = strings_;
        return taken;
    }
    void clear() override {
        clear_validity();
        values_.clear();
    }

  private:
    struct Hash {
        using is_transparent = void;
        std::size_t operator()(std::string_view s) const {
            return std::hash<std::string_view>{}(s);
        }
    };
    std::vector<Code> values_;
    std::vector<std::string> strings_;
    std::unordered_map<std::string, Code, Hash, std::equal_to<>> codes_;
};

// A set of columns of equal length. Columns live as long as the table; references stay good
// through append, clear() and take().
class Table {
  public:
    template <class T>
    TypedColumn<T>& add_column(std::string name, bool nullable = false) {
        return add<TypedColumn<T>>(std::move(name), nullable);
    }
    DictColumn<u8>& add_dict8(std::string name, bool nullable = false) {
        return add<DictColumn<u8>>(std::move(name), nullable);
    }
    // With the names of an enumeration, whose codes are its enumerators.
    DictColumn<u8>& add_enum(std::string name, std::span<const std::string_view> names) {
        DictColumn<u8>& column = add_dict8(std::move(name));
        for (std::string_view text : names) column.code(text);
        return column;
    }
    DictColumn<u32>& add_dict32(std::string name, bool nullable = false) {
        return add<DictColumn<u32>>(std::move(name), nullable);
    }

    std::size_t columns() const { return columns_.size(); }
    const Column& column(std::size_t i) const { return *columns_[i]; }
    std::size_t rows() const { return columns_.empty() ? 0 : columns_.front()->rows(); }
    // Throws std::logic_error if columns differ in length.
    void validate() const {
        for (const auto& column : columns_) {
            if (column->rows() != rows()) {
                throw std::logic_error("column " + column->name() + " has " +
                                       std::to_string(column->rows()) + " rows, not " +
                                       std::to_string(rows()));
            }
        }
    }
    // Columns that are behind the first one get nulls.
    void fill_up() {
        for (auto& column : columns_) column->append_nulls_up_to(rows());
    }
    // The rows so far as a table of their own; this one goes on empty, with the same columns.
    Table take() {
        Table taken;
        for (auto& column : columns_) taken.columns_.push_back(column->take());
        return taken;
    }
    void clear() {
        for (auto& column : columns_) column->clear();
    }

  private:
    template <class C>
    C& add(std::string name, bool nullable) {
        if (rows() > 0) throw std::logic_error("column " + name + " added to a table with rows");
        auto column = std::make_unique<C>(std::move(name), nullable);
        C& ref = *column;
        columns_.push_back(std::move(column));
        return ref;
    }
    std::vector<std::unique_ptr<Column>> columns_;
};

}  // namespace rmapreplay
