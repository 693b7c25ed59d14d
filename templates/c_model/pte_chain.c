/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The reverse map of Linux 2.5 to 2.6.6 as a C library: every page lists the PTEs that map it
 * (mm/rmap.c of v2.6.0). A walk reads the list, so it visits what maps the page and nothing else; the
 * price is paid per PTE, whenever one is set or cleared.
 *
 * Copy this folder to begin a model of your own; rmap_model.h says what each callback means. Build and
 * run it:
 *
 *     make
 *     rmapreplay run TRACE --model ./libpte_chain.so
 *
 * What the kernel kept in struct page is the word that each folio has here, `home`:
 *
 *     0                  nothing maps the page
 *     handle << 1        mapped once (PG_direct): the handle stands for the PTE itself, no object
 *     handle << 1 | 1    the first of its pte_chains, each a cache line with NRPTE places, which are
 *                        filled from the end; only the first may have free places
 */
#include <stdlib.h>

#include "rmap_model.h"

/* On x86-64 a line of 64 bytes holds next_and_idx and seven pointers to PTEs. */
enum { NRPTE = 7, PTE_CHAIN_BYTES = 64 };

/* What the model counts; the places in the arrays below. */
enum { PTE_CHAIN };
enum { WALK_PTES, WALK_PTE_CHAINS, WALK_VMA_LOOKUPS, WALK_CHAIN_LOCK };
enum { RMAP_ADDS, RMAP_REMOVES, CHAIN_LOCK, PTES_SCANNED };

static const struct rmap_object_kind objects[] = {{"pte_chain", PTE_CHAIN_BYTES}, {NULL, 0}};
static const struct rmap_lock_class locks[] = {
    {"pte_chain_lock", "bit_spinlock", "the PTEs that map one page"}, {NULL, NULL, NULL}};
static const struct rmap_counter walk_counters[] = {
    {"ptes", RMAP_COST_STEP, "entries of the page's list read", NULL},
    {"pte_chains", RMAP_COST_OTHER, "pte_chains read, a cache line each", NULL},
    {"vma_lookups", RMAP_COST_LOOKUP, "find_vma() of a PTE's address", NULL},
    {"chain_lock", RMAP_COST_LOCK, "pte_chain_lock()", "pte_chain_lock"},
    {NULL, 0, NULL, NULL}};
static const struct rmap_counter op_counters[] = {
    {"rmap_adds", RMAP_COST_LINK, "page_add_rmap()", NULL},
    {"rmap_removes", RMAP_COST_LINK, "page_remove_rmap()", NULL},
    {"chain_lock", RMAP_COST_LOCK, "pte_chain_lock()", "pte_chain_lock"},
    {"ptes_scanned", RMAP_COST_STEP, "entries read to find the one to remove", NULL},
    {NULL, 0, NULL, NULL}};

/* A pointer to a PTE, as what the kernel made of it: ptep_to_mm() and ptep_to_address(). */
struct pte_pointer {
    uint64_t addr;
    uint32_t mm;
};

struct pte_chain {
    uint32_t next; /* handle */
    uint32_t idx;  /* of the pointer put in last; those before it are free */
    struct pte_pointer ptes[NRPTE];
};

/* Objects of one kind, by handle, since a folio's word has only 32 bits. Handle 0 is none. */
struct pool {
    void* objects;
    size_t size;         /* of one */
    uint32_t made, room; /* handles given out so far, 0 among them, and the space for them */
    uint32_t free;       /* list of those free again; each holds the next one's handle */
};

/* The model of one replay. */
struct pte_chain_model {
    const struct rmap_machine* machine;
    struct pool directs; /* struct pte_pointer: PTEs of pages that are mapped once */
    struct pool chains;  /* struct pte_chain */
    uint64_t* visited;   /* VMAs of the walk in progress */
    size_t visited_room;
};

static void* at(const struct pool* pool, uint32_t handle) {
    return (char*)pool->objects + handle * pool->size;
}
static struct pte_pointer* direct_at(const struct pte_chain_model* model, uint32_t handle) {
    return (struct pte_pointer*)model->directs.objects + handle;
}
static struct pte_chain* chain_at(const struct pte_chain_model* model, uint32_t handle) {
    return (struct pte_chain*)model->chains.objects + handle;
}

/* A handle, or 0 after a failure. */
static uint32_t take(const struct pte_chain_model* model, struct pool* pool) {
    const uint32_t handle = pool->free;
    if (handle) {
        memcpy(&pool->free, at(pool, handle), sizeof(pool->free));
        return handle;
    }
    if (pool->made >= pool->room) {
        const uint32_t room = pool->room ? 2 * pool->room : 1024;
        void* objects = room < UINT32_C(1) << 31 ? realloc(pool->objects, room * pool->size) : NULL;
        if (!objects) {
            model->machine->fail(model->machine, "out of memory");
            return 0;
        }
        pool->objects = objects;
        pool->room = room;
    }
    return pool->made++;
}

static void put(struct pool* pool, uint32_t handle) {
    memcpy(at(pool, handle), &pool->free, sizeof(pool->free));
    pool->free = handle;
}

static int is_direct(uint32_t page) { return !(page & 1); } /* PageDirect() */
static uint32_t direct(uint32_t handle) { return handle << 1; }
static uint32_t chain(uint32_t handle) { return handle ? handle << 1 | 1 : 0; }

static int same(struct pte_pointer a, struct pte_pointer b) {
    return a.mm == b.mm && a.addr == b.addr;
}

static uint32_t pte_chain_alloc(struct pte_chain_model* model, uint32_t next,
                                struct pte_pointer pte) {
    const uint32_t handle = take(model, &model->chains);
    struct pte_chain* made = chain_at(model, handle);
    if (!handle) return 0;
    model->machine->allocated(model->machine, PTE_CHAIN, 1);
    made->next = next;
    made->idx = NRPTE - 1;
    made->ptes[made->idx] = pte;
    return handle;
}

/* ---- the life of a replay ---- */

static int pte_chain_init(const struct rmap_machine* machine, const struct rmap_params* params,
                          void** state) {
    struct pte_chain_model* model = calloc(1, sizeof(*model));
    (void)params;
    if (!model) return machine->fail(machine, "out of memory");
    model->machine = machine;
    model->directs.size = sizeof(struct pte_pointer);
    model->chains.size = sizeof(struct pte_chain);
    model->directs.made = model->chains.made = 1;
    *state = model;
    return 0;
}

static void pte_chain_exit(void* state) {
    struct pte_chain_model* model = state;
    free(model->directs.objects);
    free(model->chains.objects);
    free(model);
}

/* ---- VMAs: nothing to this design, any two faulted VMAs of an mm may be merged ---- */

static int anon_vma_prepare(void* state, struct rmap_vma* vma) {
    (void)state;
    vma->anon_vma = (void*)(uintptr_t)vma->mm;
    return 0;
}

static int anon_vma_fork(void* state, struct rmap_vma* child, const struct rmap_vma* parent) {
    (void)parent;
    return anon_vma_prepare(state, child);
}

/* ---- pages ---- */

static int home(void* state, const struct rmap_vma* vma, uint32_t* page) {
    (void)state, (void)vma;
    *page = 0;
    return 0;
}

static int page_add_rmap(void* state, uint32_t* page, uint32_t mm, uint64_t addr) {
    struct pte_chain_model* model = state;
    const struct pte_pointer pte = {addr, mm};
    uint32_t handle = *page >> 1;
    ++model->machine->counters[CHAIN_LOCK];
    ++model->machine->counters[RMAP_ADDS];
    if (!*page) {
        handle = take(model, &model->directs);
        if (!handle) return -1;
        *direct_at(model, handle) = pte;
        *page = direct(handle);
    } else if (is_direct(*page)) { /* converted into a pte_chain */
        const uint32_t made = pte_chain_alloc(model, 0, *direct_at(model, handle));
        struct pte_chain* first = chain_at(model, made);
        if (!made) return -1;
        put(&model->directs, handle);
        first->ptes[--first->idx] = pte;
        *page = chain(made);
    } else if (chain_at(model, handle)->idx) {
        struct pte_chain* first = chain_at(model, handle);
        first->ptes[--first->idx] = pte;
    } else { /* it is full */
        handle = pte_chain_alloc(model, handle, pte);
        if (!handle) return -1;
        *page = chain(handle);
    }
    return 0;
}

/* The pointer that was put in last takes the place of the one that goes. */
static int page_remove_rmap(void* state, uint32_t* page, uint32_t mm, uint64_t addr) {
    struct pte_chain_model* model = state;
    const struct rmap_machine* machine = model->machine;
    const struct pte_pointer pte = {addr, mm};
    const uint32_t handle = *page >> 1;
    uint32_t next = is_direct(*page) ? 0 : handle, i;
    ++machine->counters[CHAIN_LOCK];
    ++machine->counters[RMAP_REMOVES];
    if (*page && is_direct(*page) && same(*direct_at(model, handle), pte)) {
        put(&model->directs, handle);
        *page = 0;
        return 0;
    }
    while (next) {
        struct pte_chain *list = chain_at(model, next), *first = chain_at(model, handle);
        for (i = list->idx; i < NRPTE; ++i) {
            ++machine->counters[PTES_SCANNED];
            if (!same(list->ptes[i], pte)) continue;
            list->ptes[i] = first->ptes[first->idx];
            if (++first->idx == NRPTE) {
                *page = chain(first->next);
                put(&model->chains, handle);
                machine->freed(machine, PTE_CHAIN, 1);
            }
            return 0;
        }
        next = list->next;
    }
    return machine->fail(machine, "a PTE goes that is in no list of its page");
}

/* ---- walks ---- */

/* One PTE, of the VMA that covers it. Several may map a large folio in one VMA: the machine takes that
 * once. Returns as machine->visit_at() does. */
static int visit(const struct pte_chain_model* model, struct rmap_walk* walk,
                 struct pte_pointer pte) {
    ++walk->counters[WALK_PTES];
    ++walk->counters[WALK_VMA_LOOKUPS];
    return model->machine->visit_at(walk, pte.mm, pte.addr);
}

/* page_referenced(), try_to_unmap(): from the entry put in last to the first. */
static int rmap_walk(void* state, struct rmap_walk* walk) {
    const struct pte_chain_model* model = state;
    uint32_t handle = walk->home >> 1, i;
    int go_on = 1;
    ++walk->counters[WALK_CHAIN_LOCK];
    if (is_direct(walk->home)) {
        if (handle) go_on = visit(model, walk, *direct_at(model, handle));
        return go_on < 0 ? go_on : 0;
    }
    while (handle && go_on > 0) {
        const struct pte_chain* list = chain_at(model, handle);
        ++walk->counters[WALK_PTE_CHAINS];
        for (i = list->idx; i < NRPTE && go_on > 0; ++i) go_on = visit(model, walk, list->ptes[i]);
        handle = list->next;
    }
    return go_on < 0 ? go_on : 0;
}

static const struct rmap_model_ops ops = {
    .abi_version = RMAP_ABI_VERSION,
    .struct_size = sizeof(ops),
    .name = "pte_chain",
    .doc = "Linux 2.5: every page lists the PTEs that map it",
    .objects = objects,
    .walk_counters = walk_counters,
    .op_counters = op_counters,
    .locks = locks,
    .needs = RMAP_NEEDS_PAGES,
    .init = pte_chain_init,
    .exit = pte_chain_exit,
    .anon_vma_prepare = anon_vma_prepare,
    .anon_vma_fork = anon_vma_fork,
    .home = home,
    .rmap_walk = rmap_walk,
    .page_add_rmap = page_add_rmap,
    .page_remove_rmap = page_remove_rmap,
};

const struct rmap_model_ops* rmap_model(void) { return &ops; }
