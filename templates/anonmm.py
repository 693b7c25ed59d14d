# SPDX-License-Identifier: GPL-2.0-only
"""anonmm (Hugh Dickins, 2004) as a model in Python, to copy and change.

Each mm has one object. All mms forked since the last exec are a family, and a page lies at the same
address in whichever of them map it. So a walk asks every member for the VMA at that address.
"""

import rmapreplay as rr


class AnonMm:
    """struct anonmm: stays while its mm lives, pages are at home there or, a head's, members do."""

    def __init__(self, mm: int, head: "AnonMm | None" = None) -> None:
        self.mm = mm
        self.lives = True
        self.count = 1 if head else 2  # the mm, its pages; a head: itself, and each other member
        self.head = head or self  # of the mm that did exec
        self.family = [self]  # a head's: its members, in the order of their forks


class AnonMmModel(rr.RmapModel):
    """one object per mm, and a list of all mms since the last exec"""

    objects = {"anonmm": 40}  # bytes as slab allocates it
    locks = (rr.LockClass("head->lock", "spinlock", "the list of all mms forked since one exec"),)
    walk_counters = (
        rr.Counter("anonmms_live", "step", "anonmms visited whose mm lives"),
        rr.Counter("anonmms_dead", "step", "anonmms visited whose mm is gone"),
        rr.Counter("vma_lookups", "lookup", "searches for the VMA at folio->index"),
        rr.Counter("head_lock", "lock", "for the whole walk", "head->lock"),
    )
    op_counters = (
        rr.Counter("refcounts", "refcount", "references taken or dropped: mm, member, page"),
        rr.Counter("head_lock", "lock", "to change the list", "head->lock"),
    )
    # A page that mremap() moves gets the index of its new address; one that others map is copied.
    index_is_address = True

    def __init__(self, machine: rr.Machine, kernel: str) -> None:
        super().__init__(machine, kernel)
        self.anonmms: dict[int, AnonMm] = {}  # by mm, whose number is also that of a home

    # exec: a family of its own.
    def mm_init(self, mm: int) -> None:
        self.anonmms[mm] = AnonMm(mm)
        self.machine.allocated("anonmm")

    # fork: on the family's list before any page is copied.
    def mm_fork_begin(self, child: int, parent: int) -> None:
        head = self.anonmms[parent].head
        self.anonmms[child] = AnonMm(child, head)
        self.machine.allocated("anonmm")
        self.machine.count("head_lock")
        head.family.append(self.anonmms[child])
        self.get(head, 1)

    def mm_exit(self, mm: int) -> None:
        self.anonmms[mm].lives = False
        self.machine.count("head_lock")
        self.put(self.anonmms[mm], 1)

    def home(self, vma: int) -> int:
        return self.machine.mm_of(vma)

    def folios_homed(self, home: int, n: int) -> None:
        self.get(self.anonmms[home], n)

    def folios_unhomed(self, home: int, n: int) -> None:
        self.put(self.anonmms[home], n)

    def get(self, anonmm: AnonMm, n: int) -> None:
        self.machine.count("refcounts", n)
        anonmm.count += n

    # A member without references leaves the list; a head that has only itself goes.
    def put(self, anonmm: AnonMm, n: int) -> None:
        self.machine.count("refcounts", n)
        anonmm.count -= n
        if anonmm.count == (anonmm is anonmm.head):
            self.machine.freed("anonmm")
            del self.anonmms[anonmm.mm]
            if anonmm is not anonmm.head:
                anonmm.head.family.remove(anonmm)
                self.put(anonmm.head, 1)

    # The page's own mm first, then on around the list.
    def rmap_walk(self, walk: rr.Walk) -> None:
        walk.count("head_lock")
        family = self.anonmms[walk.home].head.family
        at = family.index(self.anonmms[walk.home])
        start, end = walk.index << 12, (walk.index + walk.nr) << 12
        for anonmm in family[at:] + family[:at]:
            walk.count("anonmms_live" if anonmm.lives else "anonmms_dead")
            if anonmm.lives:
                walk.count("vma_lookups")
                for vma in self.machine.vmas(anonmm.mm, start, end):
                    if walk.overlaps(vma) and not walk.visit(vma):
                        return
