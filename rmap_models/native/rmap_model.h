/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * A model of the anonymous reverse map as a C library, for `rmapreplay run --model ./libmine.so`.
 *
 * The machine keeps the truth: VMAs, page tables, folios. A model keeps whatever objects its design
 * needs to find, from a folio, every VMA that may map it. The machine calls the model at the places
 * where the kernel calls mm/rmap.c, under the kernel's names; the model tells the ledger what it
 * allocated, freed and counted.
 *
 * A library exports one function, rmap_model(), that returns its table of callbacks:
 *
 *     static const struct rmap_model_ops ops = {
 *         .abi_version = RMAP_ABI_VERSION,
 *         .struct_size = sizeof(ops),
 *         .name = "mine",
 *         ...
 *     };
 *     const struct rmap_model_ops *rmap_model(void) { return &ops; }
 *
 * Units: addresses and sizes in bytes; `index`, `anon_pgoff` and `nr` in pages of 4096 bytes.
 *
 * Numbers: VMAs and address spaces are known by number. 0 is none. No number is used twice in a
 * replay, so that of a VMA which is gone is known to be stale.
 *
 * Ownership: what a callback is handed lives until it returns, but for `machine`, which lives until
 * exit() has returned. Texts and arrays that the table refers to must live as long as the library is
 * loaded, and not change. What a model allocates is its own, to be freed in exit().
 *
 * Errors: callbacks that return int return 0, or a negative number when they failed: call
 * machine->fail() first, to say why, and return what it returns. The replay under this model then
 * ends and names the callback, the row of the trace and the text. Functions of the machine that are
 * handed nonsense (a VMA that is none, a counter that does not exist) return a negative number and
 * end the replay likewise, whatever the callback returns.
 *
 * Threads: a replay is single-threaded. A library may serve several replays in one process, each
 * with a state of its own; so keep what changes in the state, not in globals.
 *
 * Versions: the tables begin with their version and size, and grow at their end. A library built
 * with an older header of the same version runs on: callbacks that its table has no room for have
 * their defaults.
 */
#ifndef RMAP_MODEL_H
#define RMAP_MODEL_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Changes when a library built before can no longer be run. */
#define RMAP_ABI_VERSION 1

#define RMAP_PAGE_SHIFT 12
#define RMAP_PAGE_SIZE (UINT64_C(1) << RMAP_PAGE_SHIFT)

/* Bits of rmap_vma.flags, as in include/linux/mm.h; the others are there too. */
#define RMAP_VM_WRITE UINT64_C(0x2)
#define RMAP_VM_GROWSDOWN UINT64_C(0x100)
#define RMAP_VM_LOCKED UINT64_C(0x2000)

/* How many a table may declare. */
#define RMAP_MAX_OBJECTS 7
#define RMAP_MAX_SITES 6
#define RMAP_MAX_COUNTERS 12 /* of a walk, and of operations */

/* ---- what a model says of itself; every array ends with an element whose name is NULL ---- */

/* A parameter, given as `--model ./libmine.so:name=value`. `values`: alternatives between bars, of
 * which the given one is known to be one, or free text for people to read. `initial`: the default.
 * Every model also takes `kernel`, see rmap_machine.kernel. */
struct rmap_param {
    const char *name, *values, *initial, *doc;
};

/* A kind of object that the structures are made of; bytes as the kernel allocates it. */
struct rmap_object_kind {
    const char* name;
    uint32_t bytes;
};

/* A function that allocates objects of one kind, where more than one does: its name, as call_site in
 * kmem:kmem_cache_alloc has it, and the number of the kind in `objects`. */
struct rmap_site {
    const char* name;
    uint32_t object;
};

/* What a counter counts, in the words that all models share. */
enum rmap_cost_class {
    RMAP_COST_STEP,     /* an entry of an index read: a tree node, a list element */
    RMAP_COST_LOOKUP,   /* a search in an mm's tree of VMAs */
    RMAP_COST_LOCK,     /* a lock taken, in either mode */
    RMAP_COST_REFCOUNT, /* a reference count changed */
    RMAP_COST_LINK,     /* an entry of an index added, removed or moved */
    RMAP_COST_OTHER     /* what only this model has */
};

/* One of a model's own counters. `cost`: enum rmap_cost_class. A lock's counter names in `lock` the
 * lock class; others leave it NULL. */
struct rmap_counter {
    const char* name;
    uint32_t cost;
    const char* doc;
    const char* lock;
};

/* A kind of lock that the design takes. `name` as the kernel's source would have it, `type` one of
 * rwsem, spinlock, bit_spinlock, `covers`: what one such lock serialises. */
struct rmap_lock_class {
    const char *name, *type, *covers;
};

/* Bits of rmap_model_ops.needs: what the design asks of the rest of mm, where that is not as in
 * mainline. */
/* page_add_rmap() and page_remove_rmap() for every page; folios_homed() and folios_unhomed() are then
 * not called. */
#define RMAP_NEEDS_PAGES 1u
/* folio->index is the virtual page, also of memory that was moved: mremap() gives each VMA the offset
 * of its new place, takes pages of one mm along and copies those that are shared. */
#define RMAP_NEEDS_INDEX_IS_ADDRESS 2u

/* ---- what the machine hands over ---- */

/* A VMA as it is now (struct vm_area_struct). The three pointers are the model's own words. */
struct rmap_vma {
    uint64_t vma;        /* its number */
    uint64_t start, end; /* bytes */
    uint64_t anon_pgoff; /* offset of `start` in the space of folio->index, in pages */
    uint64_t flags;      /* vm_flags */
    /* Not NULL once the VMA was anonymously faulted. The machine only compares it: faulted VMAs
     * merge if their words are equal. A pointer to the VMA's object, or any number. */
    void* anon_vma;
    void* anon_vma_chain; /* as the model likes; NULL in a new VMA */
    void* mm_rmap; /* the word of its mm, see struct rmap_mm */
    uint32_t mm; /* number of its mm */
    uint32_t file; /* struct file, 0: anonymous */
};

/* An address space (struct mm_struct). */
struct rmap_mm {
    void* rmap; /* the model's own word */
    uint32_t mm; /* its number */
    int32_t pid; /* the process that first used it; 0 until fork has told */
};

/* A walk in progress: the folio, to be read only; and what the model counts. */
struct rmap_walk {
    uint64_t* counters; /* by their places in walk_counters: add to them */
    uint64_t index; /* folio->index */
    uint32_t nr; /* pages */
    uint32_t mapcount; /* entries of page tables that map it */
    uint32_t home; /* where the folio is homed */
    uint32_t exclusive; /* PageAnonExclusive: 1 or 0 */
    uint32_t found; /* mappings found so far, as entries; visit() adds to it */
};

/* What lives, for validate(). */
struct rmap_live {
    const uint32_t* mms; /* numbers, in order of creation */
    size_t mm_count;
    const uint32_t* homes; /* ascending */
    const uint64_t* folios; /* homed at each, as the page tables have them */
    size_t home_count;
};

/* Parameters given, as texts. */
struct rmap_params {
    size_t count;
    const char* const* names;
    const char* const* values;
};

/* The value given for a parameter, or NULL. */
static inline const char* rmap_param_value(const struct rmap_params* params, const char* name) {
    size_t i;
    for (i = 0; i < params->count; ++i)
        if (strcmp(params->names[i], name) == 0) return params->values[i];
    return NULL;
}

enum rmap_kernel { RMAP_KERNEL_6_12, RMAP_KERNEL_6_18, RMAP_KERNEL_7_3 };

/* What a model may ask and tell, during its callbacks. Objects, sites and counters are numbered by
 * their place in the model's table, from 0. Functions return 0 unless something else is said, and a
 * negative number after a failure. */
struct rmap_machine {
    uint32_t abi_version;
    uint32_t struct_size;
    uint32_t kernel; /* enum rmap_kernel: whose rules hold, where kernels differ */
    /* By their places in op_counters: add to them. Those of the operation in progress; each callback
     * has its own. */
    uint64_t* counters;

    /* Says why a callback failed, in one line; the text is copied. Returns -1. */
    int (*fail)(const struct rmap_machine*, const char* message);

    /* The ledger, which is closed in init() and exit(). n objects of a kind were allocated; one, by
     * one of the functions in `sites`; n were freed. */
    int (*allocated)(const struct rmap_machine*, uint32_t object, uint64_t n);
    int (*allocated_at)(const struct rmap_machine*, uint32_t site);
    int (*freed)(const struct rmap_machine*, uint32_t object, uint64_t n);

    /* Questions. Each fills *found and returns 1, or returns 0 if there is none. A VMA or mm that is
     * asked about must exist, but for find(), which tells whether it does. */
    int (*find)(const struct rmap_machine*, uint64_t vma, struct rmap_vma* found);
    /* find_vma(): the first VMA of mm that ends above addr. */
    int (*find_vma)(const struct rmap_machine*, uint32_t mm, uint64_t addr, struct rmap_vma* found);
    int (*next)(const struct rmap_machine*, uint64_t vma, struct rmap_vma* found);
    int (*prev)(const struct rmap_machine*, uint64_t vma, struct rmap_vma* found);
    int (*mm)(const struct rmap_machine*, uint32_t mm, struct rmap_mm* found);

    /* Only during rmap_walk(). Offers a faulted VMA that overlaps [index, index + nr), at most once.
     * Returns 1 to go on, 0 if the walk is over (rmap_one() or done() said stop). */
    int (*visit)(struct rmap_walk*, uint64_t vma);
    /* The same of the VMA of mm that covers addr, for designs that find places and not VMAs. Offers
     * nothing, and says to go on, if there is no such VMA, it is not faulted, has no page of the
     * folio, or was offered to this walk before. */
    int (*visit_at)(struct rmap_walk*, uint32_t mm, uint64_t addr);
};

/* Why a VMA's links are cloned (enum vma_operation, mm/vma.h in v7.3). */
enum rmap_clone_for { RMAP_CLONE_SPLIT, RMAP_CLONE_MERGE_UNFAULTED, RMAP_CLONE_REMAP };

/* ---- the table ---- */

/* `state` is what init() left in *state. A callback that is NULL does nothing, unless it is marked
 * required or something else is said. */
struct rmap_model_ops {
    uint32_t abi_version; /* RMAP_ABI_VERSION */
    uint32_t struct_size; /* sizeof(struct rmap_model_ops) */
    const char* name; /* a-z, 0-9, _ and - */
    const char* doc; /* one line */
    const struct rmap_param* params;
    const struct rmap_object_kind* objects;
    const struct rmap_site* sites;
    const struct rmap_counter* walk_counters;
    const struct rmap_counter* op_counters;
    const struct rmap_lock_class* locks;
    uint32_t needs; /* RMAP_NEEDS_... */

    /* ---- a replay ---- */
    /* Required. Makes the model of one replay. After a failure exit() is not called. */
    int (*init)(const struct rmap_machine*, const struct rmap_params*, void** state);
    /* The replay is over, or has failed. Objects that live need not be told to the ledger. */
    void (*exit)(void* state);

    /* ---- mm; all may set mm->rmap ---- */
    int (*mm_init)(void* state, struct rmap_mm* mm); /* exec, or first sight of an mm */
    int (*mm_fork_begin)(void* state, struct rmap_mm* child,
                         struct rmap_mm* parent); /* dup_mmap() */
    /* All VMAs and page tables are copied. */
    int (*mm_fork_end)(void* state, struct rmap_mm* child, struct rmap_mm* parent);
    int (*mm_exit)(void* state, struct rmap_mm* mm); /* exit_mmap(): its VMAs are gone */

    /* ---- VMA; may set anon_vma_chain of the VMAs that are not const ---- */
    /* Required. __anon_vma_prepare(): first anonymous fault in a VMA; sets vma->anon_vma. */
    int (*anon_vma_prepare)(void* state, struct rmap_vma* vma);
    /* anon_vma_clone(): dst, which has the final range of a split or move or, for
     * RMAP_CLONE_MERGE_UNFAULTED, its old one, gets src's links. dst->anon_vma is src's already,
     * dst->anon_vma_chain is NULL. Only if src is faulted. `why`: enum rmap_clone_for. */
    int (*anon_vma_clone)(void* state, struct rmap_vma* dst, const struct rmap_vma* src,
                          uint32_t why);
    /* Required. anon_vma_fork(): sets child->anon_vma, which is NULL. Only if parent is faulted. */
    int (*anon_vma_fork)(void* state, struct rmap_vma* child, const struct rmap_vma* parent);
    /* unlink_anon_vmas(): only if the VMA is faulted; afterwards it is not, and both of its words are
     * NULL. It may be faulted again. */
    int (*unlink_anon_vmas)(void* state, struct rmap_vma* vma);
    /* Around every change of a faulted VMA's start, end or offset
     * (anon_rmap_tree_pre/post_update_vma()). */
    int (*pre_update_vma)(void* state, struct rmap_vma* vma);
    int (*post_update_vma)(void* state, struct rmap_vma* vma);
    /* vma_is_fork_child(): 1 if a faulted VMA must not be merged with an unfaulted one, else 0. NULL:
     * always 0. */
    int (*vma_is_fork_child)(void* state, const struct rmap_vma* vma);

    /* ---- folio ---- */
    /* Required. Where a new, reused or exclusive page of this faulted VMA is homed (folio->mapping):
     * any number. Asked for once while the VMA is faulted, and must stay the same as it is
     * split, merged, resized and moved. */
    int (*home)(void* state, const struct rmap_vma* vma, uint32_t* home);
    /* Where a page of this faulted VMA is homed that comes from swap and is not known to be
     * exclusive: a walk from there must reach every mm that could have it. NULL: home(). */
    int (*root_home)(void* state, const struct rmap_vma* vma, uint32_t* home);
    /* n folios came to be homed / are no longer homed there (freed or re-homed). */
    int (*folios_homed)(void* state, uint32_t home, uint64_t n);
    int (*folios_unhomed)(void* state, uint32_t home, uint64_t n);

    /* ---- walk ---- */
    /* Required. rmap_walk_anon(): visit() every VMA that may map the folio, in the design's order,
     * until it says stop. */
    int (*rmap_walk)(void* state, struct rmap_walk* walk);

    /* ---- a library may end its table here, or after any member below ---- */
    /* Only with RMAP_NEEDS_PAGES: an entry of mm at addr came to map a folio, or no longer does. *home
     * is a word per folio, the model's to change: what home() said when the folio was new. A PMD that
     * maps a huge page is one entry, at its first page; when it is split, 512 entries take its place
     * one by one. A move is a removal, then an addition. */
    int (*page_add_rmap)(void* state, uint32_t* home, uint32_t mm, uint64_t addr);
    int (*page_remove_rmap)(void* state, uint32_t* home, uint32_t mm, uint64_t addr);
    /* Only with RMAP_NEEDS_INDEX_IS_ADDRESS: mremap() had to copy a shared page. */
    int (*page_copied_for_move)(void* state, uint32_t mm, uint64_t addr);
    /* Recounts every object, between events, if the replay is asked to --verify. A failure is a
     * broken invariant; the text names it. */
    int (*validate)(void* state, const struct rmap_live* live);
};

/* What a library exports. */
#if defined(__GNUC__)
__attribute__((visibility("default")))
#endif
const struct rmap_model_ops* rmap_model(void);

#ifdef __cplusplus
}
#endif

#endif
