# SPDX-License-Identifier: GPL-2.0-only
"""A model that is right, and models that are wrong in one thing each."""

from __future__ import annotations

from itertools import count
from typing import ClassVar

import rmapreplay as rr


class Family(rr.RmapModel):
    """One list of VMAs for all that descend from a first fault, as in Linux 2.6.7."""

    objects: ClassVar = {"anon_vma": 24, "link": 32}

    def __init__(self, machine: rr.Machine, kernel: str) -> None:
        super().__init__(machine, kernel)
        self.numbers = count(1)
        self.own: dict[int, int] = {}  # family of each faulted VMA
        self.lists: dict[int, dict[int, None]] = {}  # VMAs of each family, in order

    def found(self) -> int:
        """A new family."""
        self.machine.allocated("anon_vma")
        family = next(self.numbers)
        self.lists[family] = {}
        return family

    def join(self, vma: int, family: int) -> int:
        self.machine.allocated("link")
        self.own[vma] = family
        self.lists[family][vma] = None
        return family

    def anon_vma_prepare(self, vma: int) -> int:
        return self.join(vma, self.found())

    def anon_vma_fork(self, child: int, parent: int) -> int:
        return self.join(child, self.own[parent])

    def anon_vma_clone(self, dst: int, src: int, why: rr.CloneFor) -> None:
        self.join(dst, self.own[src])

    def unlink_anon_vmas(self, vma: int) -> None:
        family = self.own.pop(vma)
        del self.lists[family][vma]
        self.machine.freed("link")
        if not self.lists[family]:
            del self.lists[family]
            self.machine.freed("anon_vma")

    def home(self, vma: int) -> int:
        return self.own[vma]

    def rmap_walk(self, walk: rr.Walk) -> None:
        for vma in self.lists[walk.home]:
            if walk.overlaps(vma) and not walk.visit(vma):
                return

    def validate(self, live: rr.Live) -> None:
        faulted = {
            v for mm in live.mms for v in self.machine.vmas(mm) if self.machine.vma(v).faulted
        }
        assert self.own.keys() == faulted, "every faulted VMA has a family"
        assert live.homed.keys() <= self.lists.keys(), "folios are homed at living families"


class Unlisted(Family):
    """Base of those that forget a VMA: it has its family's word, but the family does not know."""

    def belong(self, vma: int, family: int) -> int:
        self.join(vma, family)
        self.lists[family].pop(vma)
        return family

    def unlink_anon_vmas(self, vma: int) -> None:
        self.lists[self.own[vma]][vma] = None
        super().unlink_anon_vmas(vma)


class ForgetsSplit(Unlisted):
    """The new half of a split VMA is not on the list."""

    def anon_vma_clone(self, dst: int, src: int, why: rr.CloneFor) -> None:
        (self.belong if why == "split" else self.join)(dst, self.own[src])


class ForgetsChild(Unlisted):
    """A VMA that fork copies is not on the list."""

    def anon_vma_fork(self, child: int, parent: int) -> int:
        return self.belong(child, self.own[parent])


class ForgetsMove(Unlisted):
    """The copy that mremap makes is not on the list."""

    def anon_vma_clone(self, dst: int, src: int, why: rr.CloneFor) -> None:
        (self.belong if why == "remap" else self.join)(dst, self.own[src])


class LosesSurvivor(Unlisted):
    """An unfaulted VMA that takes a faulted one in is not on the list."""

    def anon_vma_clone(self, dst: int, src: int, why: rr.CloneFor) -> None:
        (self.belong if why == "merge_unfaulted" else self.join)(dst, self.own[src])


class FreesTwice(Family):
    """A link is freed once more than it was made."""

    def unlink_anon_vmas(self, vma: int) -> None:
        super().unlink_anon_vmas(vma)
        self.machine.freed("link")


class NeverFrees(Family):
    """Families are made and never freed."""

    def unlink_anon_vmas(self, vma: int) -> None:
        family = self.own.pop(vma)
        del self.lists[family][vma]
        self.machine.freed("link")


class Miscounts(Family):
    """fork counts two links where it makes one."""

    def anon_vma_fork(self, child: int, parent: int) -> int:
        self.machine.allocated("link")
        return super().anon_vma_fork(child, parent)


class OffersTwice(Family):
    """A walk that has found nothing begins again."""

    def rmap_walk(self, walk: rr.Walk) -> None:
        super().rmap_walk(walk)
        if not walk.found or walk.found < walk.mapcount:
            super().rmap_walk(walk)
        elif walk.mapcount > 2:
            walk.visit(next(iter(self.lists[walk.home])))


class OffersStale(Family):
    """VMAs that have gone stay on the list while others are on it."""

    def unlink_anon_vmas(self, vma: int) -> None:
        family = self.own.pop(vma)
        self.machine.freed("link")
        if family not in self.own.values():
            del self.lists[family]
            self.machine.freed("anon_vma")


class Entry:
    """A VMA on a list; sets of these are in the order of their addresses in memory."""

    def __init__(self, vma: int) -> None:
        self.vma = vma


class OrderOfAddresses(Family):
    """A walk goes through a set, whose order is another each time."""

    def rmap_walk(self, walk: rr.Walk) -> None:
        for entry in self.entries(walk.home):
            if walk.overlaps(entry.vma) and not walk.visit(entry.vma):
                return

    def entries(self, family: int) -> set[Entry]:
        return {Entry(vma) for vma in self.lists[family]}


class OrderOfHashes(Family):
    """A walk goes through a set of names, whose order is another in each process."""

    def rmap_walk(self, walk: rr.Walk) -> None:
        for name in {str(vma) for vma in self.lists[walk.home]}:
            if walk.overlaps(int(name)) and not walk.visit(int(name)):
                return


class WrongRootHome(Family):
    """A page from swap is taken to be its process's alone."""

    ALONE = 1 << 20

    def root_home(self, vma: int) -> int:
        return self.ALONE + self.own[vma] * 64 + self.machine.mm_of(vma)

    def rmap_walk(self, walk: rr.Walk) -> None:
        if walk.home < self.ALONE:
            super().rmap_walk(walk)
            return
        family, mm = divmod(walk.home - self.ALONE, 64)
        for vma in self.lists[family]:
            mine = self.machine.mm_of(vma) == mm
            if mine and walk.overlaps(vma) and not walk.visit(vma):
                return

    def validate(self, live: rr.Live) -> None:
        pass


class HomeChangesWithSplit(Family):
    """The new half of a split VMA founds a family of its own."""

    def anon_vma_clone(self, dst: int, src: int, why: rr.CloneFor) -> None:
        self.join(dst, self.found() if why == "split" else self.own[src])

    def validate(self, live: rr.Live) -> None:
        pass


class StopsAtExclusive(Family):
    """A folio of one process alone is looked for in the first VMA of the list."""

    def rmap_walk(self, walk: rr.Walk) -> None:
        for vma in self.lists[walk.home]:
            if walk.overlaps(vma) and (not walk.visit(vma) or walk.exclusive):
                return


class MergesStrangers(Family):
    """All VMAs of an address space have one word, so that strangers merge."""

    def anon_vma_prepare(self, vma: int) -> int:
        super().anon_vma_prepare(vma)
        return self.machine.mm_of(vma)

    def anon_vma_fork(self, child: int, parent: int) -> int:
        super().anon_vma_fork(child, parent)
        return self.machine.mm_of(child)

    def validate(self, live: rr.Live) -> None:
        pass
