// SPDX-License-Identifier: GPL-2.0-only
#include "traces/native/bind_arrow.hpp"

#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <memory>
#include <optional>
#include <stdexcept>

namespace nb = nanobind;

// The ABI of the Arrow C data and stream interfaces.
extern "C" {
struct ArrowSchema {
    const char* format;
    const char* name;
    const char* metadata;
    std::int64_t flags;
    std::int64_t n_children;
    ArrowSchema** children;
    ArrowSchema* dictionary;
    void (*release)(ArrowSchema*);
    void* private_data;
};
struct ArrowArray {
    std::int64_t length;
    std::int64_t null_count;
    std::int64_t offset;
    std::int64_t n_buffers;
    std::int64_t n_children;
    const void** buffers;
    ArrowArray** children;
    ArrowArray* dictionary;
    void (*release)(ArrowArray*);
    void* private_data;
};
struct ArrowArrayStream {
    int (*get_schema)(ArrowArrayStream*, ArrowSchema*);
    int (*get_next)(ArrowArrayStream*, ArrowArray*);
    const char* (*get_last_error)(ArrowArrayStream*);
    void (*release)(ArrowArrayStream*);
    void* private_data;
};
}

namespace rmapreplay {
namespace {

constexpr std::int64_t kNullable = 2;  // ARROW_FLAG_NULLABLE

const char* format_of(Type type) {
    switch (type) {
        case Type::boolean: return "b";
        case Type::uint8:
        case Type::dict8: return "C";  // of the codes
        case Type::uint16: return "S";
        case Type::uint32:
        case Type::dict32: return "I";
        case Type::uint64: return "L";
        case Type::int8: return "c";
        case Type::int32: return "i";
        case Type::int64: return "l";
        case Type::float64: return "g";
    }
    throw std::logic_error("a type without an Arrow format");
}

std::optional<Type> type_of_format(std::string_view format) {
    for (Type type : {Type::boolean, Type::uint8, Type::uint16, Type::uint32, Type::uint64,
                      Type::int8, Type::int32, Type::int64, Type::float64}) {
        if (format == format_of(type)) return type;
    }
    return std::nullopt;
}

bool is_dictionary(const Column& column) {
    return column.type() == Type::dict8 || column.type() == Type::dict32;
}

// ---- out ----

// What a released schema or array frees: its name, its children, and a share of the table.
struct SchemaParts {
    std::string name;
    std::vector<ArrowSchema> children;
    std::vector<ArrowSchema*> child_pointers;
    ArrowSchema dictionary{};
};
struct ArrayParts {
    std::shared_ptr<const Table> table;
    std::vector<const void*> buffers;
    std::vector<ArrowArray> children;
    std::vector<ArrowArray*> child_pointers;
    ArrowArray dictionary{};
    std::vector<std::int32_t> string_ends;  // of a dictionary's values
    std::string string_bytes;
};

template <class Arrow, class Parts>
void release_parts(Arrow* arrow) {
    for (std::int64_t i = 0; i < arrow->n_children; ++i) {
        if (arrow->children[i]->release) arrow->children[i]->release(arrow->children[i]);
    }
    if (arrow->dictionary && arrow->dictionary->release) {
        arrow->dictionary->release(arrow->dictionary);
    }
    delete static_cast<Parts*>(arrow->private_data);
    arrow->release = nullptr;
}

ArrowSchema make_schema(std::string name, const char* format, bool nullable,
                        std::vector<ArrowSchema> children = {}) {
    auto parts = std::make_unique<SchemaParts>();
    parts->name = std::move(name);
    parts->children = std::move(children);
    for (ArrowSchema& child : parts->children) parts->child_pointers.push_back(&child);
    ArrowSchema schema{};
    schema.format = format;
    schema.name = parts->name.c_str();
    schema.flags = nullable ? kNullable : 0;
    schema.n_children = static_cast<std::int64_t>(parts->child_pointers.size());
    schema.children = parts->child_pointers.data();
    schema.release = release_parts<ArrowSchema, SchemaParts>;
    schema.private_data = parts.release();
    return schema;
}

ArrowSchema export_schema(const Table& table) {
    std::vector<ArrowSchema> children;
    for (std::size_t i = 0; i < table.columns(); ++i) {
        const Column& column = table.column(i);
        ArrowSchema child = make_schema(column.name(), format_of(column.type()), column.nullable());
        if (is_dictionary(column)) {
            auto* parts = static_cast<SchemaParts*>(child.private_data);
            parts->dictionary = make_schema("", "u", false);
            child.dictionary = &parts->dictionary;
        }
        children.push_back(child);
    }
    return make_schema("", "+s", false, std::move(children));
}

ArrowArray make_array(std::unique_ptr<ArrayParts> parts, std::size_t rows, std::size_t nulls) {
    for (ArrowArray& child : parts->children) parts->child_pointers.push_back(&child);
    ArrowArray array{};
    array.length = static_cast<std::int64_t>(rows);
    array.null_count = static_cast<std::int64_t>(nulls);
    array.n_buffers = static_cast<std::int64_t>(parts->buffers.size());
    array.buffers = parts->buffers.data();
    array.n_children = static_cast<std::int64_t>(parts->child_pointers.size());
    array.children = parts->child_pointers.data();
    array.release = release_parts<ArrowArray, ArrayParts>;
    array.private_data = parts.release();
    return array;
}

ArrowArray export_strings(std::span<const std::string> strings) {
    auto parts = std::make_unique<ArrayParts>();
    parts->string_ends.push_back(0);
    for (const std::string& text : strings) {
        parts->string_bytes += text;
        parts->string_ends.push_back(static_cast<std::int32_t>(parts->string_bytes.size()));
    }
    parts->buffers = {nullptr, parts->string_ends.data(), parts->string_bytes.data()};
    return make_array(std::move(parts), strings.size(), 0);
}

// Arrow wants a buffer even where there are no rows to read from it.
const void* buffer_or_empty(const void* buffer) {
    static const std::uint64_t empty = 0;
    return buffer ? buffer : &empty;
}

ArrowArray export_array(const std::shared_ptr<const Table>& table) {
    auto batch = std::make_unique<ArrayParts>();
    batch->buffers = {nullptr};
    for (std::size_t i = 0; i < table->columns(); ++i) {
        const Column& column = table->column(i);
        auto parts = std::make_unique<ArrayParts>();
        parts->table = table;
        parts->buffers = {column.validity(), buffer_or_empty(column.values())};
        ArrayParts* kept = parts.get();
        ArrowArray child = make_array(std::move(parts), column.rows(), column.null_count());
        if (is_dictionary(column)) {
            kept->dictionary = export_strings(column.strings());
            child.dictionary = &kept->dictionary;
        }
        batch->children.push_back(child);
    }
    return make_array(std::move(batch), table->rows(), 0);
}

// A capsule that owns a heap copy of an Arrow struct, and releases what nobody took.
template <class Arrow>
nb::object capsule(const char* name, Arrow value) {
    auto owned = std::make_unique<Arrow>(value);
    PyObject* object = PyCapsule_New(owned.get(), name, [](PyObject* self) {
        auto* arrow = static_cast<Arrow*>(PyCapsule_GetPointer(self, PyCapsule_GetName(self)));
        if (arrow->release) arrow->release(arrow);
        delete arrow;
    });
    if (!object) {
        value.release(owned.get());
        throw nb::python_error();
    }
    owned.release();
    return nb::steal(object);
}

struct PyTable {
    std::shared_ptr<const Table> table;
};

// ---- in ----

// An Arrow struct moved out of its capsule.
template <class Arrow>
struct Owned {
    Arrow value{};
    Owned() = default;
    Owned(const Owned&) = delete;
    Owned& operator=(const Owned&) = delete;
    ~Owned() {
        if (value.release) value.release(&value);
    }
    void move_from(nb::handle capsule, const char* name) {
        auto* source = static_cast<Arrow*>(PyCapsule_GetPointer(capsule.ptr(), name));
        if (!source) throw nb::python_error();
        value = *source;
        source->release = nullptr;
    }
};

ImportedBatch view_batch(const ArrowSchema& schema, const ArrowArray& array) {
    if (std::string_view(schema.format) != "+s") {
        throw std::invalid_argument("not a record batch but an array of format " +
                                    std::string(schema.format));
    }
    if (array.null_count > 0) throw std::invalid_argument("a record batch with null rows");
    ImportedBatch batch;
    batch.rows = static_cast<std::size_t>(array.length);
    for (std::int64_t i = 0; i < schema.n_children; ++i) {
        const ArrowSchema& field = *schema.children[i];
        const ArrowArray& child = *array.children[i];
        const std::optional<Type> type = type_of_format(field.format);
        if (!type || field.dictionary) {
            throw std::invalid_argument("column " + std::string(field.name) +
                                        ": unexpected Arrow type " + field.format);
        }
        // A slice of the batch keeps its columns whole: both offsets count.
        ColumnView column;
        column.type = *type;
        column.values = child.buffers[1];
        column.validity =
            child.null_count == 0 ? nullptr : static_cast<const u8*>(child.buffers[0]);
        column.offset = static_cast<std::size_t>(child.offset + array.offset);
        batch.names.emplace_back(field.name);
        batch.columns.push_back(column);
    }
    return batch;
}

}  // namespace

nb::object wrap_table(Table&& table) {
    table.validate();
    return nb::cast(PyTable{std::make_shared<const Table>(std::move(table))});
}

void for_each_batch(nb::handle source, const std::function<void(const ImportedBatch&)>& use) {
    Owned<ArrowSchema> schema;
    if (nb::hasattr(source, "__arrow_c_array__")) {
        const nb::tuple pair = nb::cast<nb::tuple>(source.attr("__arrow_c_array__")());
        Owned<ArrowArray> array;
        schema.move_from(pair[0], "arrow_schema");
        array.move_from(pair[1], "arrow_array");
        use(view_batch(schema.value, array.value));
        return;
    }
    if (!nb::hasattr(source, "__arrow_c_stream__")) {
        throw nb::type_error("expected a record batch, a table or a frame that speaks Arrow");
    }
    Owned<ArrowArrayStream> stream;
    stream.move_from(source.attr("__arrow_c_stream__")(), "arrow_array_stream");
    auto check = [&stream](int code) {
        if (code == 0) return;
        const char* reason = stream.value.get_last_error(&stream.value);
        throw std::runtime_error(reason ? reason : "an Arrow stream failed");
    };
    check(stream.value.get_schema(&stream.value, &schema.value));
    while (true) {
        Owned<ArrowArray> array;
        check(stream.value.get_next(&stream.value, &array.value));
        if (!array.value.release) return;
        use(view_batch(schema.value, array.value));
    }
}

void bind_arrow(nb::module_& m) {
    nb::class_<PyTable>(m, "Table",
                        "Columns made by native code. pyarrow.record_batch(table) and "
                        "polars.DataFrame(table) read it without a copy.")
        .def_prop_ro("num_rows", [](const PyTable& self) { return self.table->rows(); })
        .def_prop_ro("column_names",
                     [](const PyTable& self) {
                         std::vector<std::string> names;
                         for (std::size_t i = 0; i < self.table->columns(); ++i) {
                             names.push_back(self.table->column(i).name());
                         }
                         return names;
                     })
        .def(
            "__arrow_c_schema__",
            [](const PyTable& self) { return capsule("arrow_schema", export_schema(*self.table)); })
        .def(
            "__arrow_c_array__",
            [](const PyTable& self, nb::object) {
                nb::object schema = capsule("arrow_schema", export_schema(*self.table));
                return nb::make_tuple(schema, capsule("arrow_array", export_array(self.table)));
            },
            nb::arg("requested_schema") = nb::none());
}

}  // namespace rmapreplay
