// SPDX-License-Identifier: GPL-2.0-only
// A replay as history: what held from which row of the trace to which, as tables
// (docs/timeline.md). The machine says what it makes, changes and ends; the model what it links and
// remaps. Rows leave as spans end, so what is kept is in proportion to what lives.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <string_view>
#include <tuple>
#include <vector>

#include "replay/native/folios.hpp"
#include "replay/native/look.hpp"
#include "replay/native/recorder.hpp"
#include "replay/native/spans.hpp"
#include "traces/native/table.hpp"

namespace rmapreplay {

// What a VMA maps.
enum class VmaKind : u8 { anon, file, shmem, special };
inline constexpr std::array<std::string_view, 4> kVmaKindNames = {"anon", "file", "shmem",
                                                                  "special"};

class TimelineTables final : public RmapWatcher {
  public:
    // Takes over a table with its next rows.
    using Sink = std::function<void(std::string_view name, Table&& rows)>;
    static constexpr std::size_t kRowsPerTable = std::size_t{1} << 16;

    TimelineTables(const RmapModel& model, const FolioTable& folios, Sink sink);

    // ---- from the machine ----
    void begin_event(Op op) { op_ = op; }
    void end_event();  // all that changed is known
    void next_row() { ++row_; }
    void finish();  // hands on what is open, and every table once at least

    void mm_made(const Mm& mm, MmOrigin how, const Mm* parent = nullptr);
    void mm_owned(const Mm& mm);  // fork has given it to a process
    void mm_execed(const Mm& mm);  // at its exec row
    void mm_gone(const Mm& mm);

    // Fields are read at the end of the event.
    void vma_changed(const Vma& vma) { changed_vmas_.push_back(&vma); }
    void vma_made(const Vma& vma, const Vma* origin = nullptr);
    void vma_freed(const Vma& vma);

    // Index and exclusive are read at the end of the event.
    void folio_made(Pte pte);
    void folio_split_off(Pte pte, Pte whole);  // at home where the whole is
    void folio_changed(Pte pte) { changed_folios_.push_back(pte); }
    void folio_homed(Pte pte, bool by_root_home);  // its home was set
    void folio_freed(Pte pte);

    void mapped(const Mm& mm, u64 addr, Pte pte, bool by_pmd);
    void unmapped(const Mm& mm, u64 addr);
    void walk(const WalkRecord& record, const FolioView& folio, Pte pte, const Mm& mm, u64 addr);

    // ---- from the model ----
    void object_made(u32 object, const Mm* mm) override;
    void linked(u32 object, const Vma& vma) override;
    void unlinked(u32 object, const Vma& vma) override;
    void remaps_changed(u32 object) override;

    // ---- between events ----
    // Throw BrokenInvariant unless what lives is what the tables have open.
    void validate(const std::vector<const Mm*>& mms) const;
    void validate_folio(Pte pte, bool mapped) const;
    void validate_entry(const Mm& mm, u64 addr, Pte pte, bool by_pmd) const;
    u64 entries() const { return mappings_.size(); }
    u64 folios() const { return folio_spans_.size(); }

  private:
    struct MmValue {
        i32 pid;
        u32 parent;  // 0: none
        MmOrigin how;
        u64 born;
        std::optional<u64> execed;
    };
    struct VmaValue {
        u32 mm;
        u64 start, end, anon_pgoff, pgoff;
        u32 file;
        u64 flags;
        bool faulted;
        Op op;  // that made it so
        u32 origin;  // 0: none
        bool operator==(const VmaValue& other) const;  // op and origin aside
    };
    struct FolioValue {
        u8 order;
        u64 index;
        u32 home;
        u32 home_mm;  // 0: none
        bool home_root;
        bool exclusive;
        u64 born;
        bool operator==(const FolioValue&) const = default;
    };
    struct FolioRecord {  // of a Pte
        u64 serial = 0;  // 0: free
        u64 born = 0;
        u32 home = 0;
        u32 home_mm = 0;
        bool home_root = false;
    };
    struct MappingValue {
        u64 folio;
        u16 pages;
        bool operator==(const MappingValue&) const = default;
    };
    struct LinkValue {
        u32 mm;
        u64 first, last, order;
        bool operator==(const LinkValue&) const = default;
    };
    struct Object {
        u32 serial = 0;
        u32 mm = 0;
    };
    struct RemapSpan {
        Remap remap;
        u32 mm;
        u64 from;
    };

    static u64 page_key(const Mm& mm, u64 addr) {
        return u64{mm.serial} << 36 | addr >> kPageShift;
    }
    u64 link_key(u32 object, const Vma& vma) const {
        return u64{objects_[object].serial} << 32 | vma.serial;
    }
    VmaValue value_of(const Vma& vma, u32 origin) const;
    FolioValue value_of(Pte pte) const;
    FolioRecord& record_of(Pte pte);
    void set_home(FolioRecord& record, Pte pte, bool by_root_home);
    void settle_remaps();

    using End = std::optional<u64>;  // none: open
    void emit_mm(u32 serial, const MmValue& mm, End to);
    void emit_vma(u64 serial, const VmaValue& vma, u64 from, End to);
    void emit_folio(u64 serial, const FolioValue& folio, u64 from, End to);
    void emit_mapping(u64 key, const MappingValue& mapping, u64 from, End to);
    void emit_link(u64 key, const LinkValue& link, u64 from, End to);
    void emit_remap(u32 context, const RemapSpan& span, End to);

    struct Mms {
        Mms();
        Table table;
        TypedColumn<u32>& mm;
        TypedColumn<i32>& pid;
        TypedColumn<u32>& parent;
        DictColumn<u8>& how;
        TypedColumn<u64>&born, &execed, &gone;
    };
    struct Vmas {
        Vmas();
        Table table;
        TypedColumn<u32>&vma, &mm;
        TypedColumn<u64>&start, &end, &anon_pgoff, &pgoff;
        TypedColumn<u32>& file;
        DictColumn<u8>& kind;
        TypedColumn<u64>& flags;
        TypedColumn<bool>& faulted;
        TypedColumn<u64>&from, &to;
        TypedColumn<u32>& origin;
        DictColumn<u8>& op;
    };
    struct Folios {
        Folios();
        Table table;
        TypedColumn<u64>& folio;
        TypedColumn<u8>& order;
        TypedColumn<u64>& index;
        TypedColumn<u32>&home, &home_mm;
        TypedColumn<bool>&home_root, &exclusive;
        TypedColumn<u64>&born, &from, &to;
    };
    struct Mappings {
        Mappings();
        Table table;
        TypedColumn<u64>& folio;
        TypedColumn<u32>& mm;
        TypedColumn<u64>& page;
        TypedColumn<u16>& pages;
        TypedColumn<u64>&from, &to;
    };
    struct Links {
        Links();
        Table table;
        TypedColumn<u32>&object, &vma, &mm;
        TypedColumn<u64>&first, &last, &from, &to, &order;
    };
    struct Remaps {
        Remaps();
        Table table;
        TypedColumn<u32>&context, &mm;
        TypedColumn<u64>&first, &last;
        TypedColumn<i64>& displacement;
        TypedColumn<u64>&from, &to;
    };
    struct Walks {
        Walks();
        Table table;
        TypedColumn<u64>&walk, &seq;
        DictColumn<u8>& kind;
        TypedColumn<u64>& folio;
        TypedColumn<u32>& mm;
        TypedColumn<u64>&page, &index;
        TypedColumn<u8>& order;
        TypedColumn<u32>& mapcount;
        TypedColumn<bool>& exclusive;
        TypedColumn<u32>&home, &visits, &hits, &useless, &useless_empty, &useless_other, &misses;
        TypedColumn<bool>& stopped;
    };
    template <class T>
    void flush_if_full(std::string_view name, T& of) {
        if (of.table.rows() >= kRowsPerTable) sink_(name, of.table.take());
    }

    const RmapModel& model_;
    const FolioTable& folios_;
    Sink sink_;
    u64 row_ = 0;  // of the event in progress
    Op op_ = Op::fault;

    std::map<u32, MmValue> mms_;  // by serial
    std::vector<const Vma*> changed_vmas_;
    Spans<VmaValue> vmas_;  // by serial
    std::vector<Pte> changed_folios_;
    std::vector<FolioRecord> records_;  // by Pte
    u64 folios_made_ = 0;
    Spans<FolioValue> folio_spans_;  // by serial
    Spans<MappingValue> mappings_;  // by page_key()
    std::vector<Object> objects_;  // by the model's handle
    u32 objects_made_ = 0;
    u64 links_made_ = 0;
    Spans<LinkValue> links_;  // by link_key()
    std::vector<std::pair<u32, u32>> changed_remaps_;  // handle, serial
    std::map<u32, std::vector<RemapSpan>> remaps_;  // by serial of the context

    Mms mm_table_;
    Vmas vma_table_;
    Folios folio_table_;
    Mappings mapping_table_;
    Links link_table_;
    Remaps remap_table_;
    Walks walk_table_;
};

}  // namespace rmapreplay
