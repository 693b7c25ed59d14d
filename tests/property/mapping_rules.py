# SPDX-License-Identifier: GPL-2.0-only
"""Rules: calls that map, unmap, move, and change what is mapped."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import strategies as st
from hypothesis.stateful import rule

from .naive import EXEC, READ, WRITE, Area, Space
from .scenario import PAGE
from .sequence import (
    ARENA,
    ARENA_PAGES,
    HEAP,
    HEAP_PAGES,
    MAP_PRIVATE,
    Sequence,
    lengths,
    numbers,
)

MAP_SHARED, MAP_FIXED, MAP_ANONYMOUS = 0x1, 0x10, 0x20
MAP_LOCKED, MAP_POPULATE = 0x2000, 0x8000
MREMAP_MAYMOVE, MREMAP_FIXED, MREMAP_DONTUNMAP = 1, 2, 4
MLOCK_ONFAULT = 1
PR_SET_VMA = 0x53564D41
ENOMEM = 12
NEUTRAL = {"random": 1, "normal": 0, "mergeable": 12, "dont_dump": 16}
FLAG = {"dont_fork": 10, "do_fork": 11, "wipe_on_fork": 18, "keep_on_fork": 19}
DONTNEED, FREE, DONTNEED_LOCKED = 4, 8, 24

places = st.integers(0, ARENA_PAGES - 1)
prots = st.sampled_from([READ | WRITE, READ | WRITE, READ | WRITE | EXEC, READ, 0])


class MappingRules(Sequence):
    """What calls do to mappings."""

    # ---- mappings ----

    @rule(
        who=numbers, place=places, pages=lengths, prot=prots,
        kind=st.sampled_from(["anon", "anon", "anon", "file", "file 2", "shared"]),
        over=st.booleans(), more=st.sampled_from([0, 0, 0, MAP_POPULATE, MAP_LOCKED]),
    )  # fmt: skip
    def mmap(
        self, who: int, place: int, pages: int, prot: int, kind: str, over: bool, more: int
    ) -> None:
        pid, space = self.any_process(who)
        start, end = ARENA + place, min(ARENA + place + pages, ARENA + ARENA_PAGES)
        if not over:
            free = self.find_free(space, start, end - start)
            if free is None:
                return
            start, end = free, free + end - start
        file = {"file": 1, "file 2": 2}.get(kind, 0)
        flags = (
            (MAP_SHARED if kind == "shared" else MAP_PRIVATE)
            | (0 if file else MAP_ANONYMOUS) | (MAP_FIXED if over else 0) | more
        )  # fmt: skip
        where = {"fd": 2 + file, "file": file, "offset_page": start - ARENA + 512} if file else {}
        area = Area(
            self.naive.name(), prot, shared=kind == "shared", file=file,
            locked="locked" if more == MAP_LOCKED else "",
        )  # fmt: skip
        self.naive.mmap(space, start, end, area, populate=more == MAP_POPULATE)
        self.feed(
            "mmap", pid, addr_page=start, len_page=end - start, prot=prot, flags=flags, **where
        )

    @rule(who=numbers, number=numbers, pages=lengths)
    def munmap(self, who: int, number: int, pages: int) -> None:
        pid, space = self.any_process(who)
        start, end = self.span(space, number, pages)
        if space.is_free(start, end):
            return
        self.naive.munmap(space, start, end)
        self.feed("munmap", pid, addr_page=start, len_page=end - start)

    @rule(who=numbers, number=numbers, pages=lengths, prot=prots)
    def mprotect(self, who: int, number: int, pages: int, prot: int) -> None:
        pid, space = self.any_process(who)
        start, end = self.span(space, number, pages)
        hole = space.mapped_up_to(start, end)
        if hole == start:
            return
        self.naive.mprotect(space, start, hole, prot)
        failed = {"error": ENOMEM} if hole < end else {}
        self.feed("mprotect", pid, addr_page=start, len_page=end - start, prot=prot, **failed)

    @rule(who=numbers, grow=st.integers(-4, 6), odd=st.booleans())
    def brk(self, who: int, grow: int, odd: bool) -> None:
        pid, space = self.any_process(who)
        brk = min(max(space.brk + grow, HEAP), HEAP + HEAP_PAGES)
        if brk == space.brk:
            return
        self.naive.set_brk(space, brk)
        self.feed("brk", pid, addr=brk * PAGE - (100 if odd and brk > HEAP else 0))

    # ---- mremap ----

    @rule(
        who=numbers, number=numbers, skip=st.integers(0, 3), pages=lengths, place=places,
        new_pages=lengths,
        how=st.sampled_from(["shrink", "grow", "fixed", "several", "keep", "keep fixed"]),
    )  # fmt: skip
    def mremap(
        self, who: int, number: int, skip: int, pages: int, place: int, new_pages: int, how: str
    ) -> None:
        pid, space = self.any_process(who)
        at = self.page(number, self.mapped(space))
        if at is None:
            return
        run_start, run_end = space.run_at(at)
        start = min(run_start + skip, run_end - 1)
        end = min(start + pages, run_end)
        move = {
            "shrink": self.shrink, "grow": self.grow, "fixed": self.move_fixed,
            "several": self.move_several, "keep": self.keep, "keep fixed": self.keep,
        }[how]  # fmt: skip
        moved = move(space, start, end, ARENA + place, new_pages, how)
        if moved is None:
            return
        end, to, length, flags = moved
        self.feed(
            "mremap", pid, addr_page=start, len_page=end - start, new_addr_page=to,
            new_len_page=length, flags=flags,
        )  # fmt: skip

    # Each tells the truth and returns the end of the old range, new place, new length and flags; or
    # None if it cannot be done.

    def shrink(
        self, space: Space, start: int, end: int, to: int, pages: int, how: str
    ) -> tuple[int, int, int, int] | None:
        if pages >= end - start:
            return None
        self.naive.munmap(space, start + pages, end)
        return end, start, pages, 0

    def grow(
        self, space: Space, start: int, end: int, to: int, pages: int, how: str
    ) -> tuple[int, int, int, int] | None:
        length = end - start + pages
        if space.is_free(end, end + pages):
            self.naive.grow(space, end, pages)
            return end, start, length, MREMAP_MAYMOVE
        free = self.find_free(space, to, length)
        if free is None:
            return None
        self.naive.move(space, start, end, free, length)
        return end, free, length, MREMAP_MAYMOVE

    def move_fixed(
        self, space: Space, start: int, end: int, to: int, pages: int, how: str
    ) -> tuple[int, int, int, int] | None:
        if to < end and start < to + pages:
            return None
        self.naive.move(space, start, end, to, pages)
        return end, to, pages, MREMAP_MAYMOVE | MREMAP_FIXED

    def move_several(
        self, space: Space, start: int, end: int, to: int, pages: int, how: str
    ) -> tuple[int, int, int, int] | None:
        """Since 6.17 a move of equal length may take several VMAs."""
        if self.kernel >= (6, 18):
            end = space.mapped_up_to(start, start + pages)
        return self.move_fixed(space, start, end, to, end - start, how)

    def keep(
        self, space: Space, start: int, end: int, to: int, pages: int, how: str
    ) -> tuple[int, int, int, int] | None:
        # Before 7.x the lock went from the whole of the source's VMA, however far that reaches.
        if space.mapped[start].locked and self.kernel < (7, 3):
            return None
        flags = MREMAP_MAYMOVE | MREMAP_DONTUNMAP
        if how == "keep":
            free = self.find_free(space, to, end - start)
            if free is None:
                return None
            to = free
        else:
            flags |= MREMAP_FIXED
            if to < end and start < to + end - start:
                return None
        self.naive.move_and_keep(space, start, end, to)
        return end, to, end - start, flags

    # ---- advice, locks, names ----

    def advise(
        self,
        who: int,
        number: int,
        pages: int,
        advice: int,
        change: Callable[[Space, int, int], None],
    ) -> None:
        """madvise() passes over holes, but then fails."""
        pid, space = self.any_process(who)
        start, end = self.span(space, number, pages)
        if space.is_free(start, end):
            return
        change(space, start, end)
        failed = {"error": ENOMEM} if space.mapped_up_to(start, end) < end else {}
        self.feed("madvise", pid, addr_page=start, len_page=end - start, advice=advice, **failed)

    def areas(self, who: int, number: int, pages: int) -> list[Area]:
        """What is mapped in a span."""
        _, space = self.any_process(who)
        found = (space.mapped.get(page) for page in range(*self.span(space, number, pages)))
        return [area for area in found if area]

    @rule(who=numbers, number=numbers, pages=lengths, free=st.booleans())
    def dont_need(self, who: int, number: int, pages: int, free: bool) -> None:
        areas = self.areas(who, number, pages)
        if free:
            # For private anonymous memory alone.
            if all(area.private and not area.file for area in areas):
                self.advise(who, number, pages, FREE, self.naive.may_free)
        else:
            locked = any(area.locked for area in areas)
            advice = DONTNEED_LOCKED if locked else DONTNEED
            self.advise(who, number, pages, advice, self.naive.dont_need)

    @rule(who=numbers, number=numbers, pages=lengths, advice=st.sampled_from(list(FLAG)))
    def advise_fork(self, who: int, number: int, pages: int, advice: str) -> None:
        if advice in ("dont_fork", "do_fork"):
            change = self.naive.set_dont_fork
        elif all(area.private and not area.file for area in self.areas(who, number, pages)):
            change = self.naive.set_wipe_on_fork
        else:
            return
        on = advice in ("dont_fork", "wipe_on_fork")
        self.advise(who, number, pages, FLAG[advice], lambda *where: change(*where, on))

    @rule(who=numbers, number=numbers, pages=lengths, advice=st.sampled_from(list(NEUTRAL)))
    def advise_otherwise(self, who: int, number: int, pages: int, advice: str) -> None:
        self.advise(who, number, pages, NEUTRAL[advice], self.naive.tell_apart)

    @rule(who=numbers, number=numbers, pages=lengths, how=st.sampled_from(["lock", "fault", "un"]))
    def mlock(self, who: int, number: int, pages: int, how: str) -> None:
        """A lock ends at the first hole, and then makes nothing present; without one, at what
        cannot be accessed, with all of the range locked."""
        pid, space = self.any_process(who)
        start, end = self.span(space, number, pages)
        hole = space.mapped_up_to(start, end)
        if hole == start:
            return
        self.naive.lock(space, start, hole, {"lock": "locked", "fault": "onfault", "un": ""}[how])
        failed = hole < end
        if how == "lock" and not failed:
            failed = not self.naive.populate(space, range(start, end))
        columns = {"error": ENOMEM} if failed else {}
        if how == "fault":
            columns["flags"] = MLOCK_ONFAULT
        op = "munlock" if how == "un" else "mlock"
        self.feed(op, pid, addr_page=start, len_page=end - start, **columns)

    @rule(who=numbers, number=numbers, pages=lengths, name=st.integers(0, 2), policy=st.booleans())
    def tell_apart(self, who: int, number: int, pages: int, name: int, policy: bool) -> None:
        """mbind() or PR_SET_VMA: what decides which VMAs may merge, and nothing else."""
        pid, space = self.any_process(who)
        start, end = self.span(space, number, pages)
        areas = self.areas(who, number, pages)
        if len(areas) < end - start or any(area.file or area.shared for area in areas):
            return
        self.naive.tell_apart(space, start, end)
        where = {"addr_page": start, "len_page": end - start}
        if policy:
            self.feed("mbind", pid, **where, advice=name, flags=0)
        else:
            self.feed("prctl", pid, **where, flags=PR_SET_VMA, new_addr=name)
