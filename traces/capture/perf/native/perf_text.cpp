// SPDX-License-Identifier: GPL-2.0-only
// A filter for `perf script --dlfilter` that prints tracepoints itself: the same text as with perf's
//   --ns -F pid,tid,cpu,time,event,trace
// but for blanks, at a fraction of the cost. What it prints goes through the standard output that
// perf prints all else to, so the order is perf's.
//
// It knows no event. Each --dlarg tells of one (see perf_formats.py), in parts with tabs between:
// the tracepoint's id, then text and fields by turns. A field is a letter, offset.size in the raw
// data, and for `f` names of flags:
//   d u x  a number: signed, unsigned, hexadecimal
//   p s S  an address; s, S: the function there, if it is the kernel's, S with the offset in it
//   t l    a string: an array; behind a __data_loc
//   b      true or false
//   f      flags, "f48.8:GFP_KERNEL=cc0|__GFP_ZERO=100"; `none` if there are none
// Other events, and samples that do not fit what was told of theirs, are left to perf.
#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

using u8 = std::uint8_t;
using u16 = std::uint16_t;
using u32 = std::uint32_t;
using u64 = std::uint64_t;
using i32 = std::int32_t;
using i64 = std::int64_t;

// ---- perf's interface: perf-dlfilter(1) ----

extern "C" {
struct perf_event_attr_start {
    u32 type;
    u32 size;
    u64 config;
};
struct perf_dlfilter_sample {
    u32 size;
    u16 ins_lat;
    u16 p_stage_cyc;
    u64 ip;
    i32 pid;
    i32 tid;
    u64 time;
    u64 addr, id, stream_id, period, weight, transaction, insn_cnt, cyc_cnt;
    i32 cpu;
    u32 flags;
    u64 data_src, phys_addr, data_page_size, code_page_size, cgroup;
    u8 cpumode;
    u8 addr_correlates_sym;
    u16 misc;
    u32 raw_size;
    const void* raw_data;
    u64 brstack_nr;
    const void* brstack;
    u64 raw_callchain_nr;
    const u64* raw_callchain;
    const char* event;
};
struct perf_dlfilter_al {
    u32 size;
    u32 symoff;
    const char* sym;
    u64 addr, sym_start, sym_end;
    const char* dso;
    u8 sym_binding, is_64_bit, is_kernel_ip;
    u32 buildid_size;
    u8* buildid;
    u8 filtered;
    const char* comm;
};
struct perf_dlfilter_functions {
    void* resolve_ip;
    void* resolve_addr;
    char** (*args)(void* ctx, int* dlargc);
    i32 (*resolve_address)(void* ctx, u64 address, perf_dlfilter_al* al);
    void* insn;
    void* srcline;
    perf_event_attr_start* (*attr)(void* ctx);
    void* object_code;
    void* reserved[120];
};

#define RMAPREPLAY_PERF_CALLS __attribute__((visibility("default")))
// Filled in by perf.
RMAPREPLAY_PERF_CALLS perf_dlfilter_functions perf_dlfilter_fns;
RMAPREPLAY_PERF_CALLS int start(void** data, void* ctx);
RMAPREPLAY_PERF_CALLS int stop(void* data, void* ctx);
RMAPREPLAY_PERF_CALLS int filter_event_early(void* data, const perf_dlfilter_sample* sample,
                                             void* ctx);
RMAPREPLAY_PERF_CALLS const char* filter_description(const char** long_description);
}

namespace {

constexpr u32 kTypeTracepoint = 2;  // PERF_TYPE_TRACEPOINT
constexpr std::string_view kKinds = "duxpsStlbf";
constexpr std::size_t kBuffer = 1u << 18;

struct Field {
    std::string before;  // text in front of it
    char kind = 0;
    u32 offset = 0;
    u32 size = 0;
    std::vector<std::pair<std::string, u64>> flags;
};
struct Format {
    u64 id = 0;
    std::vector<Field> fields;
    std::string after;
    u32 end = 0;  // of its fields in the raw data
};

// One line of text; what does not fit makes it bad.
class Line {
  public:
    std::string_view text() const { return {text_.data(), size_}; }
    bool good() const { return good_; }
    void clear() {
        size_ = 0;
        good_ = true;
    }
    void add(std::string_view s) {
        if (s.size() > text_.size() - size_) {
            good_ = false;
            return;
        }
        std::memcpy(text_.data() + size_, s.data(), s.size());
        size_ += s.size();
    }
    void add(char c) { add(std::string_view(&c, 1)); }
    template <class T>
    void number(T value, int base = 10) {
        char* const begin = text_.data() + size_;
        const auto [end, error] = std::to_chars(begin, text_.data() + text_.size(), value, base);
        if (error != std::errc{}) {
            good_ = false;
        } else {
            size_ += static_cast<std::size_t>(end - begin);
        }
    }
    // With zeros in front.
    void number(u64 value, unsigned width) {
        std::array<char, 20> digits;
        for (unsigned i = width; i-- > 0; value /= 10) {
            digits[i] = static_cast<char>('0' + value % 10);
        }
        add(std::string_view(digits.data(), width));
    }

  private:
    std::array<char, 1u << 17> text_;
    std::size_t size_ = 0;
    bool good_ = true;
};

class Printer {
  public:
    bool tell(std::string_view format);
    // Whether it was printed.
    bool print(const perf_dlfilter_sample& sample, void* ctx);

  private:
    struct Symbol {
        std::string name;  // empty: there is none
        u32 offset = 0;
    };
    // An event by perf's name for it, which is the same pointer each time.
    struct Event {
        const char* pointer;
        std::string_view name;
        const Format* format;  // nullptr: left to perf
    };

    const Event& event(const char* name, void* ctx);
    bool field(const Field& field, std::string_view raw, void* ctx);
    void function(u64 address, bool offset, void* ctx);
    void flags(const Field& field, u64 value);

    std::vector<Format> formats_;
    std::vector<Event> events_;
    std::unordered_map<u64, Symbol> symbols_;
    Line line_;
};

std::string_view next_part(std::string_view& text, char stop) {
    const std::size_t end = text.find(stop);
    const std::string_view part = text.substr(0, end);
    text = end == std::string_view::npos ? std::string_view{} : text.substr(end + 1);
    return part;
}

template <class T>
bool parse(std::string_view text, T& value, int base = 10) {
    const char* const last = text.data() + text.size();
    const auto [end, error] = std::from_chars(text.data(), last, value, base);
    return error == std::errc{} && end == last;
}

bool parse_field(std::string_view text, Field& field) {
    if (text.empty() || kKinds.find(text.front()) == std::string_view::npos) return false;
    field.kind = text.front();
    text.remove_prefix(1);
    std::string_view place = next_part(text, ':');
    while (!text.empty()) {
        std::string_view flag = next_part(text, '|');
        const std::string_view name = next_part(flag, '=');
        field.flags.emplace_back(name, 0);
        if (!parse(flag, field.flags.back().second, 16)) return false;
    }
    if (!parse(next_part(place, '.'), field.offset) || !parse(place, field.size)) return false;
    return field.kind == 't' || field.size == 1 || field.size == 2 || field.size == 4 ||
           field.size == 8;
}

bool Printer::tell(std::string_view told) {
    Format format;
    if (!parse(next_part(told, '\t'), format.id)) return false;
    format.after = next_part(told, '\t');
    while (!told.empty()) {
        Field field;
        field.before = std::exchange(format.after, {});
        if (!parse_field(next_part(told, '\t'), field)) return false;
        format.end = std::max(format.end, field.offset + field.size);
        format.fields.push_back(std::move(field));
        format.after = next_part(told, '\t');
    }
    formats_.push_back(std::move(format));
    return true;
}

const Printer::Event& Printer::event(const char* name, void* ctx) {
    for (const Event& event : events_) {
        if (event.pointer == name) return event;
    }
    const Format* found = nullptr;
    const perf_event_attr_start* attr = perf_dlfilter_fns.attr(ctx);
    for (const Format& format : formats_) {
        if (attr && attr->type == kTypeTracepoint && attr->config == format.id) found = &format;
    }
    return events_.emplace_back(Event{name, name, found});
}

bool Printer::print(const perf_dlfilter_sample& sample, void* ctx) {
    if (!sample.event) return false;
    const Event& event = this->event(sample.event, ctx);
    if (!event.format || sample.raw_size < event.format->end) return false;
    const std::string_view raw(static_cast<const char*>(sample.raw_data), sample.raw_size);
    line_.clear();
    line_.number(sample.pid);
    line_.add('/');
    line_.number(sample.tid);
    line_.add(" [");
    if (sample.cpu < 0 || sample.cpu > 999) {
        line_.number(sample.cpu);
    } else {
        line_.number(static_cast<u64>(sample.cpu), 3u);
    }
    line_.add("] ");
    line_.number(sample.time / 1'000'000'000);
    line_.add('.');
    line_.number(sample.time % 1'000'000'000, 9u);
    line_.add(": ");
    line_.add(event.name);
    line_.add(": ");
    for (const Field& field : event.format->fields) {
        line_.add(field.before);
        if (!this->field(field, raw, ctx)) return false;
    }
    line_.add(event.format->after);
    line_.add('\n');
    if (!line_.good()) return false;
    fwrite_unlocked(line_.text().data(), 1, line_.text().size(), stdout);
    return true;
}

template <class T>
T load(const char* from) {
    T value;
    std::memcpy(&value, from, sizeof value);
    return value;
}

u64 load_unsigned(const char* from, u32 size) {
    switch (size) {
        case 1: return load<u8>(from);
        case 2: return load<u16>(from);
        case 4: return load<u32>(from);
        default: return load<u64>(from);
    }
}

bool Printer::field(const Field& field, std::string_view raw, void* ctx) {
    const char* const at = raw.data() + field.offset;
    if (field.kind == 't') {
        line_.add(std::string_view(at, strnlen(at, field.size)));
        return true;
    }
    const u64 value = load_unsigned(at, field.size);
    switch (field.kind) {
        case 'd': {
            const unsigned unused = 64 - 8 * field.size;
            line_.number(static_cast<i64>(value << unused) >> unused);
            return true;
        }
        case 'u': line_.number(value); return true;
        case 'x': line_.number(value, 16); return true;
        case 'p':
            if (value == 0) return false;  // (nil), or whatever this perf says
            line_.add("0x");
            line_.number(value, 16);
            return true;
        case 's': function(value, false, ctx); return true;
        case 'S': function(value, true, ctx); return true;
        case 'l': {
            const std::size_t begin = value & 0xffff;
            const std::size_t size = value >> 16 & 0xffff;
            if (begin + size > raw.size()) return false;
            line_.add(std::string_view(raw.data() + begin, strnlen(raw.data() + begin, size)));
            return true;
        }
        case 'b': line_.add(value ? "true" : "false"); return true;
        case 'f': flags(field, value); return true;
        default: return false;
    }
}

void Printer::function(u64 address, bool offset, void* ctx) {
    if (address >> 63) {  // the kernel's half
        const auto [it, fresh] = symbols_.try_emplace(address);
        Symbol& symbol = it->second;
        perf_dlfilter_al al{};
        al.size = sizeof al;
        if (fresh && perf_dlfilter_fns.resolve_address(ctx, address, &al) == 0 && al.sym) {
            symbol = {al.sym, al.symoff};
        }
        if (!symbol.name.empty()) {
            line_.add(symbol.name);
            if (!offset) return;
            line_.add("+0x");
            line_.number(symbol.offset, 16);
            return;
        }
    }
    line_.add("0x");
    line_.number(address, 16);
}

void Printer::flags(const Field& field, u64 value) {
    if (value == 0) line_.add("none");
    const char* separator = "";
    for (const auto& [name, mask] : field.flags) {
        if (mask == 0 || (value & mask) != mask) continue;
        line_.add(std::exchange(separator, "|"));
        line_.add(name);
        value &= ~mask;
    }
    if (value == 0) return;
    line_.add(separator);
    line_.add("0x");
    line_.number(value, 16);
}

}  // namespace

int start(void** data, void* ctx) {
    auto* const printer = new Printer;
    *data = printer;
    int n = 0;
    char** const formats = perf_dlfilter_fns.args(ctx, &n);
    for (int i = 0; i < n; ++i) {
        if (printer->tell(formats[i])) continue;
        std::fprintf(stderr, "not the format of an event: %s\n", formats[i]);
        return -1;
    }
    // Never freed: perf prints on when this library is gone.
    std::setvbuf(stdout, new char[kBuffer], _IOFBF, kBuffer);
    return 0;
}

int stop(void* data, void*) {
    delete static_cast<Printer*>(data);
    return 0;
}

int filter_event_early(void* data, const perf_dlfilter_sample* sample, void* ctx) {
    if (sample->size < offsetof(perf_dlfilter_sample, event) + sizeof sample->event) return 0;
    return static_cast<Printer*>(data)->print(*sample, ctx) ? 1 : 0;
}

const char* filter_description(const char** long_description) {
    if (long_description) *long_description = "Part of rmapreplay, which says what to print.";
    return "prints tracepoints faster";
}
