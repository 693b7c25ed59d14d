# SPDX-License-Identifier: GPL-2.0-only
"""Rules: calls that map, unmap, move, and change what is mapped."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import rule

from rmapreplay.testing.calls import (
    DOFORK,
    DONTFORK,
    DONTNEED,
    DONTNEED_LOCKED,
    FREE,
    HEAP,
    KEEPONFORK,
    MAP_FIXED,
    MAP_LOCKED,
    MAP_POPULATE,
    MREMAP_DONTUNMAP,
    MREMAP_FIXED,
    MREMAP_MAYMOVE,
    WIPEONFORK,
)
from rmapreplay.testing.naive import EXEC, READ, WRITE, Area, Space
from rmapreplay.testing.sequence import (
    ARENA,
    ARENA_PAGES,
    HEAP_PAGES,
    Sequence,
    lengths,
    numbers,
)

NEUTRAL = {"random": 1, "normal": 0, "mergeable": 12, "dont_dump": 16}

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
        start, pages = ARENA + place, min(pages, ARENA_PAGES - place)
        if over:
            more |= MAP_FIXED
        else:
            free = self.find_free(space, start, pages)
            if free is None:
                return
            start = free
        self.calls.mmap(
            pid, start, pages, prot, file={"file": 1, "file 2": 2}.get(kind, 0),
            offset=start - ARENA + 512, shared=kind == "shared", flags=more,
        )  # fmt: skip

    @rule(who=numbers, number=numbers, pages=lengths)
    def munmap(self, who: int, number: int, pages: int) -> None:
        pid, space = self.any_process(who)
        start, pages = self.span(space, number, pages)
        if not space.is_free(start, start + pages):
            self.calls.munmap(pid, start, pages)

    @rule(who=numbers, number=numbers, pages=lengths, prot=prots)
    def mprotect(self, who: int, number: int, pages: int, prot: int) -> None:
        pid, space = self.any_process(who)
        start, pages = self.span(space, number, pages)
        if start in space.mapped:
            self.calls.mprotect(pid, start, pages, prot)

    @rule(who=numbers, grow=st.integers(-4, 6), odd=st.booleans())
    def brk(self, who: int, grow: int, odd: bool) -> None:
        pid, space = self.any_process(who)
        brk = min(max(space.brk + grow, HEAP), HEAP + HEAP_PAGES)
        if brk != space.brk:
            self.calls.brk(pid, brk, below=100 if odd and brk > HEAP else 0)

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
        fit = {
            "shrink": self.shrink, "grow": self.grow, "fixed": self.move_fixed,
            "several": self.move_several, "keep": self.keep, "keep fixed": self.keep,
        }[how]  # fmt: skip
        fitted = fit(space, start, end, ARENA + place, new_pages, how)
        if fitted is not None:
            end, to, length, flags = fitted
            self.calls.mremap(pid, start, end - start, to, length, flags)

    # Each returns the end of the old range, new place, new length and flags; or None if it cannot
    # be done.

    def shrink(
        self, space: Space, start: int, end: int, to: int, pages: int, how: str
    ) -> tuple[int, int, int, int] | None:
        return None if pages >= end - start else (end, start, pages, 0)

    def grow(
        self, space: Space, start: int, end: int, to: int, pages: int, how: str
    ) -> tuple[int, int, int, int] | None:
        length = end - start + pages
        if space.is_free(end, end + pages):
            return end, start, length, MREMAP_MAYMOVE
        free = self.find_free(space, to, length)
        return None if free is None else (end, free, length, MREMAP_MAYMOVE)

    def move_fixed(
        self, space: Space, start: int, end: int, to: int, pages: int, how: str
    ) -> tuple[int, int, int, int] | None:
        if to < end and start < to + pages:
            return None
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
        return end, to, end - start, flags

    # ---- advice, locks, names ----

    def advise(self, who: int, number: int, pages: int, advice: int) -> None:
        pid, space = self.any_process(who)
        start, pages = self.span(space, number, pages)
        if not space.is_free(start, start + pages):
            self.calls.madvise(pid, start, pages, advice)

    def areas(self, who: int, number: int, pages: int) -> list[Area]:
        """What is mapped in a span."""
        _, space = self.any_process(who)
        start, pages = self.span(space, number, pages)
        found = (space.mapped.get(page) for page in range(start, start + pages))
        return [area for area in found if area]

    @rule(who=numbers, number=numbers, pages=lengths, free=st.booleans())
    def dont_need(self, who: int, number: int, pages: int, free: bool) -> None:
        areas = self.areas(who, number, pages)
        if free:
            # For private anonymous memory alone.
            if all(area.private and not area.file for area in areas):
                self.advise(who, number, pages, FREE)
        else:
            locked = any(area.locked for area in areas)
            self.advise(who, number, pages, DONTNEED_LOCKED if locked else DONTNEED)

    @rule(
        who=numbers, number=numbers, pages=lengths,
        advice=st.sampled_from([DONTFORK, DOFORK, WIPEONFORK, KEEPONFORK]),
    )  # fmt: skip
    def advise_fork(self, who: int, number: int, pages: int, advice: int) -> None:
        areas = self.areas(who, number, pages)
        anonymous = all(area.private and not area.file for area in areas)
        if advice in (DONTFORK, DOFORK) or anonymous:
            self.advise(who, number, pages, advice)

    @rule(who=numbers, number=numbers, pages=lengths, advice=st.sampled_from(list(NEUTRAL)))
    def advise_otherwise(self, who: int, number: int, pages: int, advice: str) -> None:
        self.advise(who, number, pages, NEUTRAL[advice])

    @rule(who=numbers, number=numbers, pages=lengths, how=st.sampled_from(["lock", "fault", "un"]))
    def mlock(self, who: int, number: int, pages: int, how: str) -> None:
        pid, space = self.any_process(who)
        start, pages = self.span(space, number, pages)
        if start not in space.mapped:
            return
        if how == "un":
            self.calls.munlock(pid, start, pages)
        else:
            self.calls.mlock(pid, start, pages, on_fault=how == "fault")

    @rule(who=numbers, number=numbers, pages=lengths, name=st.integers(0, 2), policy=st.booleans())
    def tell_apart(self, who: int, number: int, pages: int, name: int, policy: bool) -> None:
        """mbind() or PR_SET_VMA: what decides which VMAs may merge, and nothing else."""
        pid, space = self.any_process(who)
        start, pages = self.span(space, number, pages)
        areas = self.areas(who, number, pages)
        if len(areas) < pages or any(area.file or area.shared for area in areas):
            return
        (self.calls.mbind if policy else self.calls.set_name)(pid, start, pages, name)
