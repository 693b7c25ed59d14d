# SPDX-License-Identifier: GPL-2.0-only
"""anonmm, simplified, with callbacks that numba compiles: to copy and change.

All mms forked since the last exec are a family, and a page lies at the same address in whichever of
them map it. So a walk asks every member for the VMA at that address. Run it:

    rmapreplay run TRACE --model ./numba_model.py:model

Numbers stand for what is a pointer in C, so that the state of a replay is an address here: that of
four words, made in init().
"""

import ctypes

import numpy as np
from numba import carray, njit

import rmapreplay as rr
from rmapreplay.rmap_models.compiled import (
    PAGE_SHIFT,
    CompiledModel,
    address_of,
    allocated,
    freed,
    pointer,
    record,
    visit_at,
)

libc = ctypes.CDLL(None)
realloc = libc.realloc
realloc.restype, realloc.argtypes = ctypes.c_uint64, [ctypes.c_uint64, ctypes.c_uint64]

# The words of the state: the machine, the address of the list of mms, how many are on it, and for
# how many it has room. The list holds the head of the family, then the mm, for each.
MACHINE, MMS, COUNT, ROOM, WORDS = range(5)
ANONMM = 0  # objects
ASKED, LOOKUPS = range(2)  # walk_counters

model = CompiledModel(
    "anonmm_numba",
    "a list of all mms since the last exec",
    objects={"anonmm": 40},
    walk_counters=(
        rr.Counter("anonmms", "step", "mms of the family that were asked"),
        rr.Counter("vma_lookups", "lookup", "searches for the VMA at folio->index"),
    ),
    index_is_address=True,
)


@njit
def words(state):
    return carray(pointer(state), WORDS, np.uint64)


@njit
def mms(state):
    return carray(pointer(words(state)[MMS]), (words(state)[ROOM], 2), np.uint32)


@njit
def list_mm(state, head, mm):
    own = words(state)
    if own[COUNT] == own[ROOM]:
        own[ROOM] = max(64, 2 * own[ROOM])
        own[MMS] = realloc(own[MMS], 8 * own[ROOM])
        if own[MMS] == 0:
            return -1
    listed = mms(state)
    listed[own[COUNT], 0] = head
    listed[own[COUNT], 1] = mm
    own[COUNT] += 1
    return allocated(own[MACHINE], ANONMM, 1)


@model.callback
def init(machine, params, state):
    state[0] = realloc(0, 8 * WORDS)
    if state[0] == 0:
        return -1
    words(state[0])[:] = 0
    words(state[0])[MACHINE] = address_of(machine)
    return 0


@model.callback
def exit_(state):
    realloc(words(state)[MMS], 0)
    realloc(state, 0)


# exec: a family of its own. The word of an mm is the head of its family.
@model.callback
def mm_init(state, mm):
    record(mm).rmap = record(mm).mm
    return list_mm(state, record(mm).mm, record(mm).mm)


# On the list before any page is copied.
@model.callback
def mm_fork_begin(state, child, parent):
    record(child).rmap = record(parent).rmap
    return list_mm(state, record(parent).rmap, record(child).mm)


@model.callback
def mm_exit(state, mm):
    own, listed = words(state), mms(state)
    for i in range(own[COUNT]):
        if listed[i, 1] == record(mm).mm:
            own[COUNT] -= 1
            for j in range(i, own[COUNT]):
                listed[j, 0], listed[j, 1] = listed[j + 1, 0], listed[j + 1, 1]
            return freed(own[MACHINE], ANONMM, 1)
    return -1


# VMAs are nothing to this design: any two of an mm may be merged.
@model.callback
def anon_vma_prepare(state, vma):
    record(vma).anon_vma = record(vma).mm
    return 0


@model.callback
def anon_vma_fork(state, child, parent):
    record(child).anon_vma = record(child).mm
    return 0


@model.callback
def home(state, vma, home):
    home[0] = record(vma).mm_rmap
    return 0


@model.callback
def rmap_walk(state, walk):
    own, listed, folio = words(state), mms(state), record(walk)
    counters = carray(pointer(folio.counters), 2, np.uint64)
    for i in range(own[COUNT]):
        if listed[i, 0] != folio.home:
            continue
        counters[ASKED] += 1
        # A large folio may lie in several VMAs; each is offered once.
        for page in range(folio.nr):
            counters[LOOKUPS] += 1
            addr = (folio.index + page) << PAGE_SHIFT
            if visit_at(address_of(walk), listed[i, 1], addr) != 1:
                return 0
    return 0
