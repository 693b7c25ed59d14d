// SPDX-License-Identifier: GPL-2.0-only
#include "replay/native/timeline.hpp"

#include <algorithm>

#include "replay/native/state.hpp"

namespace rmapreplay {

namespace {

VmaKind kind_of_file(u32 file) {
    if (!file) return VmaKind::anon;
    if (is_anon_shmem(file)) return VmaKind::shmem;
    return file >= kSpecialFiles ? VmaKind::special : VmaKind::file;
}

template <class T>
void append(TypedColumn<T>& column, const std::optional<T>& value) {
    if (value)
        column.append(*value);
    else
        column.append_null();
}

// A serial; there is no number 0.
std::optional<u32> unless_none(u32 serial) { return serial ? std::optional(serial) : std::nullopt; }

}  // namespace

TimelineTables::TimelineTables(const RmapModel& model, const FolioTable& folios, Sink sink)
    : model_(model), folios_(folios), sink_(std::move(sink)) {}

// ---- address spaces ----

void TimelineTables::mm_made(const Mm& mm, MmOrigin how, const Mm* parent) {
    mms_[mm.serial] = {mm.pid, parent ? parent->serial : 0, how, row_, {}};
}

void TimelineTables::mm_owned(const Mm& mm) { mms_.at(mm.serial).pid = mm.pid; }

void TimelineTables::mm_execed(const Mm& mm) { mms_.at(mm.serial).execed = row_; }

void TimelineTables::mm_gone(const Mm& mm) {
    const auto it = mms_.find(mm.serial);
    if (it->second.born != row_) emit_mm(it->first, it->second, row_);
    mms_.erase(it);
}

// ---- VMAs ----

bool TimelineTables::VmaValue::operator==(const VmaValue& o) const {
    return mm == o.mm && start == o.start && end == o.end && anon_pgoff == o.anon_pgoff &&
           pgoff == o.pgoff && file == o.file && flags == o.flags && faulted == o.faulted;
}

TimelineTables::VmaValue TimelineTables::value_of(const Vma& vma, u32 origin) const {
    return {
        vma.mm->serial,          vma.start, vma.end, vma.anon_pgoff, vma.pgoff, vma.file, vma.flags,
        vma.anon_vma != nullptr, op_,       origin};
}

void TimelineTables::vma_made(const Vma& vma, const Vma* origin) {
    vmas_.set(vma.serial, value_of(vma, origin ? origin->serial : 0));
    changed_vmas_.push_back(&vma);
}

void TimelineTables::vma_freed(const Vma& vma) { vmas_.end(vma.serial); }

// ---- folios ----

TimelineTables::FolioRecord& TimelineTables::record_of(Pte pte) {
    const std::size_t at = pte - kFirst;
    if (at >= records_.size()) records_.resize(at + 1);
    return records_[at];
}

void TimelineTables::folio_made(Pte pte) {
    FolioRecord& record = record_of(pte);
    record = {};
    record.serial = ++folios_made_;
    record.born = row_;
    folio_homed(pte, false);
}

void TimelineTables::folio_split_off(Pte pte, Pte whole) {
    record_of(pte).home_root = record_of(whole).home_root;
}

void TimelineTables::folio_homed(Pte pte, bool by_root_home) {
    FolioRecord& record = record_of(pte);
    const Home home = folios_[pte].home;
    const Object object = home < objects_.size() ? objects_[home] : Object{};
    record.home = object.serial ? object.serial : home;
    record.home_mm = object.mm;
    record.home_root = by_root_home;
    folio_changed(pte);
}

void TimelineTables::folio_freed(Pte pte) {
    FolioRecord& record = record_of(pte);
    folio_spans_.end(record.serial);
    record.serial = 0;
}

TimelineTables::FolioValue TimelineTables::value_of(Pte pte) const {
    const Folio& folio = folios_[pte];
    const FolioRecord& record = records_[pte - kFirst];
    return {
        static_cast<u8>(folio.order), folio.index, record.home, record.home_mm, record.home_root,
        folio.exclusive != 0,         record.born};
}

// ---- mappings ----

void TimelineTables::mapped(const Mm& mm, u64 addr, Pte pte, bool by_pmd) {
    mappings_.set(page_key(mm, addr),
                  {record_of(pte).serial, static_cast<u16>(by_pmd ? 1u << kPmdOrder : 1u)});
}

void TimelineTables::unmapped(const Mm& mm, u64 addr) { mappings_.end(page_key(mm, addr)); }

// ---- what the model keeps ----

void TimelineTables::object_made(u32 object, const Mm* mm) {
    if (object >= objects_.size()) objects_.resize(object + 1);
    objects_[object] = {++objects_made_, mm ? mm->serial : 0};
}

void TimelineTables::linked(u32 object, const Vma& vma) {
    const u64 key = link_key(object, vma);
    const LinkValue* there = links_.find(key);
    const u64 order = there ? there->order : ++links_made_;
    links_.set(key, {vma.mm->serial, vma.anon_pgoff, vma.last_index(), order});
}

void TimelineTables::unlinked(u32 object, const Vma& vma) { links_.end(link_key(object, vma)); }

void TimelineTables::remaps_changed(u32 object) {
    const std::pair changed(object, objects_[object].serial);
    if (changed_remaps_.empty() || changed_remaps_.back() != changed)
        changed_remaps_.push_back(changed);
}

// What is in the tree and what was before, both in order.
void TimelineTables::settle_remaps() {
    for (const auto& [object, serial] : changed_remaps_) {
        // The context may be gone, and its handle be another's by now.
        std::vector<Remap> now;
        if (objects_[object].serial == serial) now = model_.remaps(object);
        std::sort(now.begin(), now.end());
        std::vector<RemapSpan> spans;
        const auto it = remaps_.find(serial);
        const std::vector<RemapSpan> before =
            it == remaps_.end() ? std::vector<RemapSpan>{} : std::move(it->second);
        std::size_t i = 0;
        for (const Remap& remap : now) {
            for (; i < before.size() && before[i].remap < remap; ++i)
                emit_remap(serial, before[i], row_);
            if (i < before.size() && before[i].remap == remap)
                spans.push_back(before[i++]);
            else
                spans.push_back({remap, objects_[object].mm, row_});
        }
        for (; i < before.size(); ++i) emit_remap(serial, before[i], row_);
        if (!spans.empty())
            remaps_[serial] = std::move(spans);
        else if (it != remaps_.end())
            remaps_.erase(it);
    }
    changed_remaps_.clear();
}

// ---- the end ----

void TimelineTables::end_event() {
    for (const Vma* vma : changed_vmas_) {
        if (!vma->mm) continue;  // freed since
        if (const VmaValue* value = vmas_.find(vma->serial))
            vmas_.set(vma->serial, value_of(*vma, value->origin));
    }
    changed_vmas_.clear();
    for (const Pte pte : changed_folios_)
        if (const u64 serial = records_[pte - kFirst].serial)
            folio_spans_.set(serial, value_of(pte));
    changed_folios_.clear();
    vmas_.settle(row_, [&](u64 serial, const VmaValue& vma, u64 from) {
        emit_vma(serial, vma, from, row_);
    });
    folio_spans_.settle(row_, [&](u64 serial, const FolioValue& folio, u64 from) {
        emit_folio(serial, folio, from, row_);
    });
    mappings_.settle(row_, [&](u64 key, const MappingValue& mapping, u64 from) {
        emit_mapping(key, mapping, from, row_);
    });
    links_.settle(
        row_, [&](u64 key, const LinkValue& link, u64 from) { emit_link(key, link, from, row_); });
    settle_remaps();
}

void TimelineTables::finish() {
    for (const auto& [serial, mm] : mms_) emit_mm(serial, mm, {});
    vmas_.for_each(
        [&](u64 serial, const VmaValue& vma, u64 from) { emit_vma(serial, vma, from, {}); });
    folio_spans_.for_each([&](u64 serial, const FolioValue& folio, u64 from) {
        emit_folio(serial, folio, from, {});
    });
    mappings_.for_each([&](u64 key, const MappingValue& mapping, u64 from) {
        emit_mapping(key, mapping, from, {});
    });
    links_.for_each(
        [&](u64 key, const LinkValue& link, u64 from) { emit_link(key, link, from, {}); });
    for (const auto& [serial, spans] : remaps_)
        for (const RemapSpan& span : spans) emit_remap(serial, span, {});
    sink_("mms", mm_table_.table.take());
    sink_("vma_spans", vma_table_.table.take());
    sink_("folios", folio_table_.table.take());
    sink_("mappings", mapping_table_.table.take());
    sink_("link_spans", link_table_.table.take());
    sink_("remap_spans", remap_table_.table.take());
    sink_("walks", walk_table_.table.take());
}

// ---- rows ----

void TimelineTables::emit_mm(u32 serial, const MmValue& mm, End to) {
    Mms& t = mm_table_;
    t.mm.append(serial);
    t.pid.append(mm.pid);
    append(t.parent, unless_none(mm.parent));
    t.how.append_code(static_cast<u8>(mm.how));
    t.born.append(mm.born);
    append(t.execed, mm.execed);
    append(t.gone, to);
    flush_if_full("mms", t);
}

void TimelineTables::emit_vma(u64 serial, const VmaValue& vma, u64 from, End to) {
    Vmas& t = vma_table_;
    t.vma.append(static_cast<u32>(serial));
    t.mm.append(vma.mm);
    t.start.append(vma.start);
    t.end.append(vma.end);
    t.anon_pgoff.append(vma.anon_pgoff);
    t.pgoff.append(vma.pgoff);
    t.file.append(vma.file);
    t.kind.append_code(static_cast<u8>(kind_of_file(vma.file)));
    t.flags.append(vma.flags);
    t.faulted.append(vma.faulted);
    t.from.append(from);
    append(t.to, to);
    append(t.origin, unless_none(vma.origin));
    t.op.append_code(static_cast<u8>(vma.op));
    flush_if_full("vma_spans", t);
}

void TimelineTables::emit_folio(u64 serial, const FolioValue& folio, u64 from, End to) {
    Folios& t = folio_table_;
    t.folio.append(serial);
    t.order.append(folio.order);
    t.index.append(folio.index);
    t.home.append(folio.home);
    append(t.home_mm, unless_none(folio.home_mm));
    t.home_root.append(folio.home_root);
    t.exclusive.append(folio.exclusive);
    t.born.append(folio.born);
    t.from.append(from);
    append(t.to, to);
    flush_if_full("folios", t);
}

void TimelineTables::emit_mapping(u64 key, const MappingValue& mapping, u64 from, End to) {
    Mappings& t = mapping_table_;
    t.folio.append(mapping.folio);
    t.mm.append(static_cast<u32>(key >> 36));
    t.page.append(key & ((u64{1} << 36) - 1));
    t.pages.append(mapping.pages);
    t.from.append(from);
    append(t.to, to);
    flush_if_full("mappings", t);
}

void TimelineTables::emit_link(u64 key, const LinkValue& link, u64 from, End to) {
    Links& t = link_table_;
    t.object.append(static_cast<u32>(key >> 32));
    t.vma.append(static_cast<u32>(key));
    t.mm.append(link.mm);
    t.first.append(link.first);
    t.last.append(link.last);
    t.from.append(from);
    append(t.to, to);
    t.order.append(link.order);
    flush_if_full("link_spans", t);
}

void TimelineTables::emit_remap(u32 context, const RemapSpan& span, End to) {
    Remaps& t = remap_table_;
    t.context.append(context);
    t.mm.append(span.mm);
    t.first.append(span.remap.first);
    t.last.append(span.remap.last);
    t.displacement.append(span.remap.displacement);
    t.from.append(span.from);
    append(t.to, to);
    flush_if_full("remap_spans", t);
}

void TimelineTables::walk(const WalkRecord& record, const FolioView& folio, Pte pte, const Mm& mm,
                          u64 addr) {
    Walks& t = walk_table_;
    const FolioRecord& known = record_of(pte);
    t.walk.append(record.walk);
    t.seq.append(row_);
    t.kind.append_code(static_cast<u8>(record.kind));
    t.folio.append(known.serial);
    t.mm.append(mm.serial);
    t.page.append(addr >> kPageShift);
    t.index.append(folio.index);
    t.order.append(record.order);
    t.mapcount.append(record.mapcount);
    t.exclusive.append(folio.exclusive);
    t.home.append(known.home);
    t.visits.append(record.visits);
    t.hits.append(record.hits);
    t.useless.append(record.useless_empty + record.useless_other);
    t.useless_empty.append(record.useless_empty);
    t.useless_other.append(record.useless_other);
    t.misses.append(record.misses);
    t.stopped.append(record.stopped);
    flush_if_full("walks", t);
}

// ---- columns ----

TimelineTables::Mms::Mms()
    : mm(table.add_column<u32>("mm")),
      pid(table.add_column<i32>("pid")),
      parent(table.add_column<u32>("parent", true)),
      how(table.add_enum("how", kMmOriginNames)),
      born(table.add_column<u64>("born")),
      execed(table.add_column<u64>("execed", true)),
      gone(table.add_column<u64>("gone", true)) {}

TimelineTables::Vmas::Vmas()
    : vma(table.add_column<u32>("vma")),
      mm(table.add_column<u32>("mm")),
      start(table.add_column<u64>("start")),
      end(table.add_column<u64>("end")),
      anon_pgoff(table.add_column<u64>("anon_pgoff")),
      pgoff(table.add_column<u64>("pgoff")),
      file(table.add_column<u32>("file")),
      kind(table.add_enum("kind", kVmaKindNames)),
      flags(table.add_column<u64>("flags")),
      faulted(table.add_column<bool>("faulted")),
      from(table.add_column<u64>("from")),
      to(table.add_column<u64>("to", true)),
      origin(table.add_column<u32>("origin", true)),
      op(table.add_enum("op", kOpNames)) {}

TimelineTables::Folios::Folios()
    : folio(table.add_column<u64>("folio")),
      order(table.add_column<u8>("order")),
      index(table.add_column<u64>("index")),
      home(table.add_column<u32>("home")),
      home_mm(table.add_column<u32>("home_mm", true)),
      home_root(table.add_column<bool>("home_root")),
      exclusive(table.add_column<bool>("exclusive")),
      born(table.add_column<u64>("born")),
      from(table.add_column<u64>("from")),
      to(table.add_column<u64>("to", true)) {}

TimelineTables::Mappings::Mappings()
    : folio(table.add_column<u64>("folio")),
      mm(table.add_column<u32>("mm")),
      page(table.add_column<u64>("page")),
      pages(table.add_column<u16>("pages")),
      from(table.add_column<u64>("from")),
      to(table.add_column<u64>("to", true)) {}

TimelineTables::Links::Links()
    : object(table.add_column<u32>("object")),
      vma(table.add_column<u32>("vma")),
      mm(table.add_column<u32>("mm")),
      first(table.add_column<u64>("first")),
      last(table.add_column<u64>("last")),
      from(table.add_column<u64>("from")),
      to(table.add_column<u64>("to", true)),
      order(table.add_column<u64>("order")) {}

TimelineTables::Remaps::Remaps()
    : context(table.add_column<u32>("context")),
      mm(table.add_column<u32>("mm")),
      first(table.add_column<u64>("first")),
      last(table.add_column<u64>("last")),
      displacement(table.add_column<i64>("displacement")),
      from(table.add_column<u64>("from")),
      to(table.add_column<u64>("to", true)) {}

TimelineTables::Walks::Walks()
    : walk(table.add_column<u64>("walk")),
      seq(table.add_column<u64>("seq")),
      kind(table.add_enum("kind", kWalkKindNames)),
      folio(table.add_column<u64>("folio")),
      mm(table.add_column<u32>("mm")),
      page(table.add_column<u64>("page")),
      index(table.add_column<u64>("index")),
      order(table.add_column<u8>("order")),
      mapcount(table.add_column<u32>("mapcount")),
      exclusive(table.add_column<bool>("exclusive")),
      home(table.add_column<u32>("home")),
      visits(table.add_column<u32>("visits")),
      hits(table.add_column<u32>("hits")),
      useless(table.add_column<u32>("useless")),
      useless_empty(table.add_column<u32>("useless_empty")),
      useless_other(table.add_column<u32>("useless_other")),
      misses(table.add_column<u32>("misses")),
      stopped(table.add_column<bool>("stopped")) {}

}  // namespace rmapreplay
