/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The least that is a model: it lists every faulted VMA of the machine and offers all that overlap. Each
 * of the macros below, set by the compiler's -D, makes it go wrong in one way.
 */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

#include "rmap_model.h"

#ifndef ABI
#define ABI RMAP_ABI_VERSION
#endif
#ifndef SIZE
#define SIZE sizeof(struct rmap_model_ops)
#endif
#ifndef ON_LOAD
#define ON_LOAD
#endif
#ifndef ON_INIT
#define ON_INIT
#endif
#ifndef ON_EXIT
#define ON_EXIT
#endif
#ifndef ON_PREPARE
#define ON_PREPARE
#endif
#ifndef ON_FORK
#define ON_FORK
#endif
#ifndef ON_WALK
#define ON_WALK
#endif
#ifndef ON_VALIDATE
#define ON_VALIDATE
#endif
#ifndef HOME
#define HOME home_of
#endif
#ifndef WORD
#define WORD (void*)1
#endif
#ifndef SYMBOL
#define SYMBOL rmap_model
#endif

enum { LINK };

struct every_vma {
    const struct rmap_machine* machine;
    uint64_t* vmas;
    size_t count, room;
};

static const struct rmap_object_kind objects[] = {{"link", 32}, {NULL, 0}};
static const struct rmap_site sites[] = {{"link_alloc", LINK}, {NULL, 0}};
static const struct rmap_counter walk_counters[] = {
    {"links_read", RMAP_COST_STEP, "VMAs looked at", NULL}, {NULL, 0, NULL, NULL}};
static const struct rmap_counter op_counters[] = {
    {"links", RMAP_COST_LINK, "VMAs listed and taken off", NULL}, {NULL, 0, NULL, NULL}};
static const struct rmap_param params[] = {{"colour", "red|blue", "red", "changes nothing"},
                                           {NULL, NULL, NULL, NULL}};

__attribute__((constructor)) static void loaded(void) { ON_LOAD; }

static int init(const struct rmap_machine* machine, const struct rmap_params* given, void** state) {
    struct every_vma* model = calloc(1, sizeof(*model));
    const char* colour = rmap_param_value(given, "colour");
    ON_INIT;
    if (!model) return machine->fail(machine, "out of memory");
    if (colour) fprintf(stdout, "colour %s, rules %u\n", colour, machine->kernel);
    model->machine = machine;
    *state = model;
    return 0;
}

static void leave(void* state) {
    struct every_vma* model = state;
    ON_EXIT;
    free(model->vmas);
    free(model);
}

static int list(struct every_vma* model, uint64_t vma) {
    if (model->count == model->room) {
        const size_t room = model->room ? 2 * model->room : 64;
        uint64_t* vmas = realloc(model->vmas, room * sizeof(*vmas));
        if (!vmas) return model->machine->fail(model->machine, "out of memory");
        model->vmas = vmas;
        model->room = room;
    }
    model->vmas[model->count++] = vma;
    model->machine->allocated_at(model->machine, 0);
    ++model->machine->counters[0];
    return 0;
}

static int anon_vma_prepare(void* state, struct rmap_vma* vma) {
    struct every_vma* model = state;
    vma->anon_vma = WORD;
    ON_PREPARE;
    return list(model, vma->vma);
}

static int anon_vma_clone(void* state, struct rmap_vma* dst, const struct rmap_vma* src,
                          uint32_t why) {
    (void)src, (void)why;
    return list(state, dst->vma);
}

static int anon_vma_fork(void* state, struct rmap_vma* child, const struct rmap_vma* parent) {
    struct every_vma* model = state;
    (void)parent;
    child->anon_vma = WORD;
    ON_FORK;
    return list(model, child->vma);
}

static int unlink_anon_vmas(void* state, struct rmap_vma* vma) {
    struct every_vma* model = state;
    size_t i;
    for (i = 0; i < model->count; ++i)
        if (model->vmas[i] == vma->vma) {
            model->vmas[i] = model->vmas[--model->count];
            model->machine->freed(model->machine, LINK, 1);
            ++model->machine->counters[0];
            return 0;
        }
    return model->machine->fail(model->machine, "a VMA is unlinked that was never linked");
}

static int home_of(void* state, const struct rmap_vma* vma, uint32_t* home) {
    (void)state, (void)vma;
    *home = 7;
    return 0;
}

static int rmap_walk(void* state, struct rmap_walk* walk) {
    struct every_vma* model = state;
    const struct rmap_machine* machine = model->machine;
    size_t i;
    int go_on = 1;
    ON_WALK;
    for (i = 0; i < model->count && go_on > 0; ++i) {
        struct rmap_vma vma;
        uint64_t pages;
        if (machine->find(machine, model->vmas[i], &vma) != 1)
            return machine->fail(machine, "a VMA is listed that is gone");
        pages = (vma.end - vma.start) >> RMAP_PAGE_SHIFT;
        ++walk->counters[0];
        if (vma.anon_pgoff < walk->index + walk->nr && walk->index < vma.anon_pgoff + pages)
            go_on = machine->visit(walk, vma.vma);
    }
    return go_on < 0 ? go_on : 0;
}

static int validate(void* state, const struct rmap_live* live) {
    struct every_vma* model = state;
    size_t i;
    ON_VALIDATE;
    for (i = 0; i < live->home_count; ++i)
        if (live->homes[i] != 7 || !live->folios[i])
            return model->machine->fail(model->machine, "folios are homed elsewhere");
    return 0;
}

static const struct rmap_model_ops ops = {.abi_version = ABI,
                                          .struct_size = SIZE,
                                          .name = "every_vma",
                                          .doc = "lists every faulted VMA",
                                          .params = params,
                                          .objects = objects,
                                          .sites = sites,
                                          .walk_counters = walk_counters,
                                          .op_counters = op_counters,
                                          .init = init,
                                          .exit = leave,
                                          .anon_vma_prepare = anon_vma_prepare,
                                          .anon_vma_clone = anon_vma_clone,
                                          .anon_vma_fork = anon_vma_fork,
                                          .unlink_anon_vmas = unlink_anon_vmas,
                                          .home = HOME,
                                          .rmap_walk = rmap_walk,
                                          .validate = validate};

const struct rmap_model_ops* SYMBOL(void) { return &ops; }
