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

/* A pte_chain; or, of a page that is mapped once, the PTE in ptes[0] and no object of the kernel's. */
struct pte_chain {
    uint32_t next; /* handle */
    uint32_t idx;  /* of the pointer put in last; those before it are free */
    struct pte_pointer ptes[NRPTE];
};

/* The model of one replay. Chains have handles, since a folio's word has only 32 bits. */
struct pte_chain_model {
    const struct rmap_machine* machine;
    struct pte_chain* chains;
    uint32_t made, room; /* handles given out so far, 0 among them, and the space for them */
    uint32_t free;       /* list of those free again, by next */
    uint64_t* visited;   /* VMAs of the walk in progress */
    size_t visited_room;
};

static int is_direct(uint32_t page) { return !(page & 1); } /* PageDirect() */
static uint32_t direct(uint32_t handle) { return handle << 1; }
static uint32_t chain(uint32_t handle) { return handle ? handle << 1 | 1 : 0; }

static int same(struct pte_pointer a, struct pte_pointer b) {
    return a.mm == b.mm && a.addr == b.addr;
}

/* A free handle, 0 if there is no memory. */
static uint32_t take_handle(struct pte_chain_model* model) {
    uint32_t handle = model->free;
    if (handle) {
        model->free = model->chains[handle].next;
        return handle;
    }
    if (model->made == model->room) {
        const uint32_t room = 2 * model->room;
        void* chains = room < (UINT32_C(1) << 31)
                           ? realloc(model->chains, room * sizeof(struct pte_chain))
                           : NULL;
        if (!chains) {
            model->machine->fail(model->machine, "out of memory");
            return 0;
        }
        model->chains = chains;
        model->room = room;
    }
    return model->made++;
}

static void put_handle(struct pte_chain_model* model, uint32_t handle) {
    model->chains[handle].next = model->free;
    model->free = handle;
}

static uint32_t pte_chain_alloc(struct pte_chain_model* model, uint32_t next,
                                struct pte_pointer pte) {
    const uint32_t handle = take_handle(model);
    struct pte_chain* made = &model->chains[handle];
    if (!handle) return 0;
    model->machine->allocated(model->machine, PTE_CHAIN, 1);
    made->next = next;
    made->idx = NRPTE - 1;
    made->ptes[made->idx] = pte;
    return handle;
}

/* ---- the life of a replay ---- */

static void pte_chain_exit(void* state) {
    struct pte_chain_model* model = state;
    free(model->chains);
    free(model->visited);
    free(model);
}

static int pte_chain_init(const struct rmap_machine* machine, const struct rmap_params* params,
                          void** state) {
    struct pte_chain_model* model = calloc(1, sizeof(*model));
    (void)params;
    if (!model) return machine->fail(machine, "out of memory");
    model->machine = machine;
    model->room = 1024;
    model->made = 1; /* 0 says "none" */
    model->chains = calloc(model->room, sizeof(struct pte_chain));
    if (!model->chains) {
        pte_chain_exit(model);
        return machine->fail(machine, "out of memory");
    }
    *state = model;
    return 0;
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
    model->machine->count(model->machine, CHAIN_LOCK, 1);
    model->machine->count(model->machine, RMAP_ADDS, 1);
    if (!*page) {
        handle = take_handle(model);
        if (!handle) return -1;
        model->chains[handle].ptes[0] = pte;
        *page = direct(handle);
    } else if (is_direct(*page)) { /* converted into a pte_chain */
        const uint32_t made = pte_chain_alloc(model, 0, model->chains[handle].ptes[0]);
        struct pte_chain* first = &model->chains[made];
        if (!made) return -1;
        put_handle(model, handle);
        first->ptes[--first->idx] = pte;
        *page = chain(made);
    } else if (model->chains[handle].idx) {
        struct pte_chain* first = &model->chains[handle];
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
    struct pte_chain* first = &model->chains[handle];
    uint64_t scanned = 0;
    uint32_t at, i;
    machine->count(machine, CHAIN_LOCK, 1);
    machine->count(machine, RMAP_REMOVES, 1);
    if (*page && is_direct(*page) && same(first->ptes[0], pte)) {
        put_handle(model, handle);
        *page = 0;
        return 0;
    }
    for (at = is_direct(*page) ? 0 : handle; at; at = model->chains[at].next)
        for (i = model->chains[at].idx; i < NRPTE; ++i) {
            ++scanned;
            if (!same(model->chains[at].ptes[i], pte)) continue;
            machine->count(machine, PTES_SCANNED, scanned);
            model->chains[at].ptes[i] = first->ptes[first->idx];
            if (++first->idx == NRPTE) {
                *page = chain(first->next);
                put_handle(model, handle);
                machine->freed(machine, PTE_CHAIN, 1);
            }
            return 0;
        }
    return machine->fail(machine, "a PTE goes that is in no list of its page");
}

/* ---- walks ---- */

/* Whether a VMA was offered to this walk; notes that it is. Several entries of a VMA may map a large
 * folio, but it is visited once. */
static int seen(struct pte_chain_model* model, size_t visits, uint64_t vma) {
    size_t i;
    for (i = 0; i < visits; ++i)
        if (model->visited[i] == vma) return 1;
    if (visits == model->visited_room) {
        const size_t room = visits ? 2 * visits : 64;
        void* visited = realloc(model->visited, room * sizeof(*model->visited));
        if (!visited) return model->machine->fail(model->machine, "out of memory");
        model->visited = visited;
        model->visited_room = room;
    }
    model->visited[visits] = vma;
    return 0;
}

/* page_referenced(), try_to_unmap(): from the entry put in last to the first. */
static int rmap_walk(void* state, struct rmap_walk* walk) {
    struct pte_chain_model* model = state;
    const struct rmap_machine* machine = model->machine;
    const uint32_t page = walk->home;
    uint64_t ptes = 0, chains = 0;
    size_t visits = 0;
    uint32_t at = page >> 1;
    int go_on = 1;
    while (at && go_on > 0) {
        const struct pte_chain* list = &model->chains[at];
        uint32_t i = is_direct(page) ? 0 : list->idx;
        const uint32_t end = is_direct(page) ? 1 : NRPTE;
        chains += !is_direct(page);
        for (; i < end && go_on > 0; ++i) {
            struct rmap_vma vma;
            int known = 0;
            ++ptes;
            if (machine->find_vma(machine, list->ptes[i].mm, list->ptes[i].addr, &vma) <= 0)
                return machine->fail(machine, "a list has a PTE that no VMA covers");
            if (walk->nr > 1) known = seen(model, visits, vma.vma);
            if (known < 0) return known;
            if (known) continue;
            ++visits;
            go_on = machine->visit(walk, vma.vma);
        }
        at = is_direct(page) ? 0 : list->next;
    }
    machine->walk_count(walk, WALK_CHAIN_LOCK, 1);
    machine->walk_count(walk, WALK_PTE_CHAINS, chains);
    machine->walk_count(walk, WALK_PTES, ptes);
    machine->walk_count(walk, WALK_VMA_LOOKUPS, ptes);
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
