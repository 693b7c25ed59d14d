# SPDX-License-Identifier: GPL-2.0-only
"""anon_vma of Linux 2.6.7 to 2.6.33 in Python, to hold against the native model of that name."""

from __future__ import annotations

from itertools import count
from typing import ClassVar

import rmapreplay as rr

ACCESS_FLAGS = 0x7


def alike(below: rr.Vma, above: rr.Vma) -> bool:
    """is_mergeable of mm/mmap.c then: mprotect() aside, the two could be one."""
    pages = (below.end - below.start) >> 12
    return (
        below.end == above.start
        and (below.file, below.policy) == (above.file, above.policy)
        and (below.flags ^ above.flags) & ~ACCESS_FLAGS == 0
        and below.pgoff + pages == above.pgoff
        and below.anon_pgoff + pages == above.anon_pgoff
    )


class AnonVmaGlobal(rr.RmapModel):
    """Linux 2.6.7 to 2.6.33, in Python"""

    name = "global_in_python"
    params = (rr.Param("share", "yes|no", "yes", "whether first faults take a neighbour's"),)
    objects: ClassVar = {"anon_vma": 24}
    locks = (rr.LockClass("anon_vma->lock", "spinlock", "all VMAs forked from one"),)
    walk_counters = (
        rr.Counter("vmas", "step", "VMAs of the list read, whatever their range"),
        rr.Counter("anon_vma_lock", "lock", "page_lock_anon_vma()", "anon_vma->lock"),
    )
    op_counters = (
        rr.Counter("list_adds", "link", "VMAs put on an anon_vma's list"),
        rr.Counter("list_dels", "link", "VMAs taken off it"),
        rr.Counter("anon_vma_shared", "other", "first faults that took a neighbour's anon_vma"),
    )

    def __init__(self, machine: rr.Machine, kernel: str, share: str) -> None:
        super().__init__(machine, kernel)
        self.share = share == "yes"
        self.numbers = count(1)
        self.own: dict[int, int] = {}  # of each faulted VMA
        self.lists: dict[int, dict[int, None]] = {}  # VMAs of each anon_vma, in order

    def link(self, vma: int, anon_vma: int) -> int:
        self.machine.count("list_adds")
        self.own[vma] = anon_vma
        self.lists[anon_vma][vma] = None
        return anon_vma

    def anon_vma_prepare(self, vma: int) -> int:
        anon_vma = self.mergeable(vma) if self.share else None
        if anon_vma:
            self.machine.count("anon_vma_shared")
        else:
            self.machine.allocated("anon_vma")
            anon_vma = next(self.numbers)
            self.lists[anon_vma] = {}
        return self.link(vma, anon_vma)

    def mergeable(self, vma: int) -> int | None:
        machine = self.machine
        this = machine.vma(vma)
        above = machine.find_vma(this.mm, this.end)
        if above in self.own and alike(this, machine.vma(above)):
            return self.own[above]
        below = machine.find_vma(this.mm, this.start - 1)
        if below in self.own and alike(machine.vma(below), this):
            return self.own[below]
        return None

    def anon_vma_clone(self, dst: int, src: int, why: str) -> None:
        self.link(dst, self.own[src])

    def anon_vma_fork(self, child: int, parent: int) -> int:
        return self.link(child, self.own[parent])

    def unlink_anon_vmas(self, vma: int) -> None:
        self.machine.count("list_dels")
        anon_vma = self.own.pop(vma)
        del self.lists[anon_vma][vma]
        if not self.lists[anon_vma]:
            del self.lists[anon_vma]
            self.machine.freed("anon_vma")

    def home(self, vma: int) -> int:
        return self.own[vma]

    def rmap_walk(self, walk: rr.Walk) -> None:
        walk.count("anon_vma_lock")
        for vma in self.lists[walk.home]:
            walk.count("vmas")
            if walk.overlaps(vma) and not walk.visit(vma):
                return

    def validate(self, live: rr.Live) -> None:
        vmas = [vma for mm in live.mms for vma in self.machine.vmas(mm)]
        assert self.own.keys() == {vma for vma in vmas if self.machine.vma(vma).faulted}
        assert {v: number for number, listed in self.lists.items() for v in listed} == self.own
        assert live.homed.keys() <= self.lists.keys()
