// SPDX-License-Identifier: GPL-2.0-only
// What a model of the anonymous reverse map is, and what it may ask of the machine. Read this
// first.
//
// The machine keeps the truth: VMAs, page tables, folios. A model keeps whatever objects its design
// needs to find, from a folio, every VMA that may map it. The machine calls the model at the places
// where the kernel calls mm/rmap.c, under the kernel's names; the model counts what it did in
// Costs.
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "rmap_models/native/vma.hpp"

namespace rmapreplay {

// Where a folio's reverse map starts (folio->mapping): a handle the model gives out. The machine
// stores it with shared folios; a page mapped by one mm only is always homed at its VMA's home().
using Home = u32;

inline constexpr std::size_t kMaxObjects = 8;  // object kinds, vm_area_struct included
inline constexpr std::size_t kMaxCounters = 12;  // per walk, and per operation
inline constexpr std::size_t kMaxSites = 8;  // functions that allocate

// A kind of object the structures are made of; bytes as the kernel allocates it.
struct ObjectKind {
    std::string_view name;
    u32 bytes;
};

// What a counter counts, in the words that all models share: sums over the counters of a class can
// be compared (docs/metrics.md).
enum class CostClass : u8 {
    step,  // an entry of an index read: a tree node, a list element, a context, a remap entry
    lookup,  // a search in an mm's tree of VMAs
    lock,  // a lock taken, in either mode
    refcount,  // a reference count changed
    link,  // an entry of an index added, removed or moved
    other,  // what only this model has
};
inline constexpr std::array<std::string_view, 6> kCostClassNames = {"step",     "lookup", "lock",
                                                                    "refcount", "link",   "other"};

// One of a model's own counters. A lock's counter names its LockClass.
struct Counter {
    std::string_view name;
    CostClass cost;
    std::string_view doc;
    std::string_view lock = {};
};

// A kind of lock that the design takes.
struct LockClass {
    std::string_view name;  // as the kernel's source has it: "anon_vma->root->rwsem"
    std::string_view type;  // rwsem, spinlock, bit_spinlock
    std::string_view covers;  // what one such lock serialises
};

// A function that allocates objects of one kind, by the name that the slab allocator sees
// (call_site of kmem:kmem_cache_alloc).
struct AllocSite {
    std::size_t kind;
    std::string_view name;
};

// What one kind of operation (fork, fault, ...) has cost so far.
struct OpCosts {
    u64 calls = 0;
    std::array<u64, kMaxObjects> allocated{};
    std::array<u64, kMaxObjects> freed{};
    std::array<u64, kMaxCounters> counters{};
    bool operator==(const OpCosts&) const = default;
};

// The ledger. The machine points `op` at the operation in progress; models add to it.
struct Costs {
    OpCosts* op = nullptr;
    std::array<u64, kMaxObjects> live{};
    std::array<u64, kMaxObjects> peak{};
    std::array<u64, kMaxSites> sites{};  // objects allocated by each function

    void allocated_at(std::size_t site, std::size_t kind) {
        ++sites[site];
        allocated(kind);
    }
    void allocated(std::size_t kind, u64 n = 1) {
        op->allocated[kind] += n;
        live[kind] += n;
        if (live[kind] > peak[kind]) peak[kind] = live[kind];
    }
    void freed(std::size_t kind, u64 n = 1) {
        op->freed[kind] += n;
        live[kind] -= n;
    }
    void count(std::size_t counter, u64 n = 1) { op->counters[counter] += n; }
};

// A folio as a walk sees it.
struct FolioView {
    u64 index = 0;  // folio->index, in pages
    u32 nr = 1;  // pages (1 << order)
    u32 mapcount = 1;  // PTEs that map it
    Home home = 0;
    bool exclusive = false;  // PageAnonExclusive
};

// One rmap walk in progress. The model hands over VMAs with visit(); the machine tests each against
// the page tables and says whether to go on.
class Walk {
  public:
    FolioView folio;
    std::array<u64, kMaxCounters> counters{};  // named by ModelInfo::walk_counters

    // Offers a VMA that overlaps [index, index + nr). False: the walk is over (rmap_one() or done()
    // said stop).
    virtual bool visit(const Vma& vma) = 0;
    // Mappings found so far, as PTEs.
    u32 found = 0;

  protected:
    ~Walk() = default;
};

// What lives, for a model to recount itself from.
struct Live {
    std::vector<const Mm*> mms;  // in order of creation; their VMAs are in Mm::vmas
    std::map<Home, u64> homed;  // folios homed there, as the page tables have them
};

struct Param {
    std::string_view name;
    std::string_view values;  // human-readable: "6.12|6.18|7.3|auto"
    std::string_view initial;  // default value
    std::string_view doc;
};

// What a design asks of the rest of mm, where that is not as in mainline.
struct Needs {
    // page_add_rmap() and page_remove_rmap() for every page. Each then has a folio record of its
    // own, which costs the replay time and memory.
    bool pages = false;
    // folio->index is the virtual page, also of memory that was moved: mremap() gives each VMA the
    // offset of its new place, takes pages of one mm along and copies those that are shared.
    bool index_is_address = false;
};

// Static description of a model. Object kind 0 is the machine's own vm_area_struct, so a model's
// first kind has number 1 in Costs; likewise its first site comes after the machine's two.
struct ModelInfo {
    std::string_view name;
    std::string_view doc;
    std::span<const Param> params;
    std::span<const ObjectKind> objects;
    std::span<const Counter> walk_counters;
    std::span<const Counter> op_counters;
    std::span<const AllocSite> sites = {};
    std::span<const LockClass> locks = {};
    Needs needs = {};
};
inline constexpr std::size_t kVmAreaStruct = 0;
inline constexpr std::size_t kVmAreaAlloc = 0, kVmAreaDup = 1, kMachineSites = 2;

// Why a VMA's links are cloned (enum vma_operation, mm/vma.h in v7.3).
enum class CloneFor : u8 { split, merge_unfaulted, remap };

// Told of what a model keeps to find VMAs by, as it changes. Only a replay that records its history
// has one (replay/native/timeline.hpp).
class RmapWatcher {
  public:
    // There is a new object that VMAs are linked to or folios homed at, of this mm if it is of one.
    // Its handle is what home() says, and may have been another's before.
    virtual void object_made(u32 object, const Mm* mm) = 0;
    // The object finds the VMA by its offsets as they are now, after others that begin there too.
    // If it is linked already, it stays in its place, and only its offsets are others.
    virtual void linked(u32 object, const Vma&) = 0;
    virtual void unlinked(u32 object, const Vma&) = 0;
    virtual void remaps_changed(u32 object) = 0;

  protected:
    ~RmapWatcher() = default;
};

// Where an object looks for [first, last] beside where the index says: so many pages further on.
struct Remap {
    u64 first;
    u64 last;
    i64 displacement;
    auto operator<=>(const Remap&) const = default;
};

// An object of a model's, for people to look at: what kind it is, and its fields as the kernel calls
// them. A field may name another object by its handle, or an mm by its serial number.
struct ObjectField {
    enum class Is : u8 { number, object, mm };
    std::string_view name;
    u64 value;
    Is is = Is::number;
};
struct ObjectView {
    std::string_view kind;  // empty: the model does not say
    std::vector<ObjectField> fields;
};

class RmapModel {
  public:
    virtual ~RmapModel() = default;
    virtual const ModelInfo& info() const = 0;

    // ---- mm ----
    virtual void mm_init(Mm&) {}  // exec, or first sight of an mm
    virtual void mm_fork_begin(Mm& /*child*/, Mm& /*parent*/) {}  // dup_mmap() starts
    virtual void mm_fork_end(Mm& /*child*/, Mm& /*parent*/) {}  // all VMAs and PTEs are copied
    virtual void mm_exit(Mm&) {}  // exit_mmap(): its VMAs are gone

    // ---- VMA ----
    // __anon_vma_prepare(): first anonymous fault in a VMA whose anon_vma word is null; sets it.
    virtual void anon_vma_prepare(Vma&) = 0;
    // anon_vma_clone(): dst, with the final range of split/remap or, for merge_unfaulted, its old
    // one, gets src's links. dst.anon_vma already equals src.anon_vma, dst.chain is null. Called
    // only if src is faulted.
    virtual void anon_vma_clone(Vma& dst, const Vma& src, CloneFor) = 0;
    // anon_vma_fork(): called only if parent is faulted; child.anon_vma and chain come in null.
    virtual void anon_vma_fork(Vma& child, const Vma& parent) = 0;
    // unlink_anon_vmas(): called only if vma is faulted; leaves both words null.
    virtual void unlink_anon_vmas(Vma&) = 0;
    // Around every change of a faulted VMA's start, end or offset
    // (anon_rmap_tree_pre/post_update_vma()).
    virtual void pre_update_vma(Vma&) = 0;
    virtual void post_update_vma(Vma&) = 0;
    // Whether a faulted VMA must not be merged with an unfaulted one (vma_is_fork_child()). Faulted
    // VMAs merge only if their anon_vma words are equal.
    virtual bool vma_is_fork_child(const Vma&) const = 0;

    // ---- folio ----
    // Where a new, reused or exclusive page of this faulted VMA is homed. Must stay the same as the
    // VMA is split, merged, resized and moved.
    virtual Home home(const Vma&) const = 0;
    // Where a page of this faulted VMA is homed that comes from swap and is not known to be
    // exclusive (__folio_set_anon()). Relatives may have swap entries of it and will map it too, so
    // a walk from there must reach every mm that could.
    virtual Home root_home(const Vma& vma) const { return home(vma); }
    // n folios came to be homed / are no longer homed there (freed or re-homed).
    virtual void folios_homed(Home, u64 /*n*/) {}
    virtual void folios_unhomed(Home, u64 /*n*/) {}
    // Only if info().needs.pages: an entry of mm at addr came to map a folio, or no longer does.
    // The folio's home is the model's to change in place: it is what home() said when the folio was
    // new, and then a word per folio. A PMD that maps a huge page is one entry, at its first page;
    // when it is split, 512 entries take its place one by one. A move is a removal, then an
    // addition. folios_homed() and folios_unhomed() say nothing to such a model.
    virtual void page_add_rmap(Home&, const Mm&, u64 /*addr*/) {}
    virtual void page_remove_rmap(Home&, const Mm&, u64 /*addr*/) {}
    // Only if info().needs.index_is_address: mremap() had to copy a shared page.
    virtual void page_copied_for_move(const Mm&, u64 /*addr*/) {}

    // ---- walk ----
    // rmap_walk_anon(): offers every VMA that may map the folio, in the design's order.
    virtual void rmap_walk(Walk&) = 0;

    // ---- for verification ----
    // The VMA's list of links (vma->anon_vma_chain), head first: for each the handle of the object
    // it leads to. Empty for a design without such links.
    virtual std::vector<u32> anon_vma_chain(const Vma&) const { return {}; }
    // From before the first event on. Models without links, homes that are objects, or remaps need
    // none.
    virtual void watch(RmapWatcher*) {}
    virtual std::vector<Remap> remaps(u32 /*object*/) const { return {}; }
    // Of an object that lives, by what home() or anon_vma_chain() calls it.
    virtual ObjectView view(u32 /*object*/) const { return {}; }
    // Recounts every object of the model. Throws BrokenInvariant (invariant.hpp) that names the
    // first invariant found broken, and of what. Called between events, never by a replay that was
    // not asked to verify.
    virtual void validate(const Live&) const {}
};

// How a model is made. Adding a model: one file that defines these, one line in registry.cpp.
struct ModelParams {
    Kernel kernel = Kernel::v7_3;  // resolved from the trace's metadata when the parameter is auto
    std::vector<std::pair<std::string, std::string>> values;  // as given, key=value
};
struct ModelEntry {
    const ModelInfo* info;
    std::function<std::unique_ptr<RmapModel>(const ModelParams&, Costs&)> make;
};
std::span<const ModelEntry> models();
const ModelEntry* find_model(std::string_view name);

}  // namespace rmapreplay
