# SPDX-License-Identifier: GPL-2.0-only
"""Rules: what faults and reclaim do to pages."""

from __future__ import annotations

from itertools import takewhile

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from rmapreplay.testing.calls import POPULATE_READ, POPULATE_WRITE, STACK_TOP
from rmapreplay.testing.naive import READ, WRITE, Space
from rmapreplay.testing.sequence import Sequence, lengths, numbers


class PageRules(Sequence):
    """What faults and reclaim do to pages."""

    # ---- faults ----

    @rule(who=numbers, number=numbers, pages=st.integers(1, 6), write=st.sampled_from([1, 1, 0]))
    def touch(self, who: int, number: int, pages: int, write: int) -> None:
        """Reads or writes; not all of them are allowed, and then nothing happens."""
        pid, space = self.any_process(who)
        at = self.page(number, sorted(page for page in space.mapped if page < STACK_TOP - 64))
        if at is None:
            return
        pages = space.mapped_up_to(at, at + pages) - at
        (self.calls.write if write else self.calls.read)(pid, at, pages)

    @rule(who=numbers, above=st.integers(-3, 34))
    def use_stack(self, who: int, above: int) -> None:
        pid, space = self.any_process(who)
        self.calls.write_stack(pid, min(space.stack + above, STACK_TOP - 1))

    @rule(who=numbers, number=numbers, pages=lengths, write=st.booleans(), row=st.booleans())
    def populate(self, who: int, number: int, pages: int, write: bool, row: bool) -> None:
        """MADV_POPULATE_*, or pages faulted in of which the capture has no faults."""
        pid, space = self.any_process(who)
        start, pages = self.span(space, number, pages)
        needed = WRITE if write else READ
        areas = (space.mapped.get(page) for page in range(start, start + pages))
        pages = len(list(takewhile(lambda area: area is not None and area.prot & needed, areas)))
        if not pages:
            return
        if row:
            self.calls.populate(pid, start, pages, write=write)
        else:
            self.calls.madvise(pid, start, pages, POPULATE_WRITE if write else POPULATE_READ)

    # ---- reclaim ----

    def evictable(self, space: Space) -> set[int]:
        return {
            page
            for page in space.content
            if page not in space.swapped and not space.mapped[page].locked
        }

    @rule(
        who=numbers, number=numbers, pages=lengths, how=st.sampled_from(["all", "one", "discard"])
    )
    def swap_out(self, who: int, number: int, pages: int, how: str) -> None:
        """Reclaim takes a run of pages, from one process, or from all that share them."""
        pid, space = self.any_process(who)
        present = self.evictable(space)
        start = self.page(number, sorted(present))
        if start is None:
            return
        run = range(start, start + pages)
        pages = len(list(takewhile(present.__contains__, run)))
        if how == "discard":
            self.calls.discard(pid, start, pages)
            return
        names = {space.content[page] for page in run[:pages]}
        self.calls.swap_out(pid, start, pages)
        for other, relative in self.naive.spaces.items() if how == "all" else ():
            for page in sorted(self.evictable(relative)):
                if relative.content[page] in names:
                    self.calls.swap_out(other, page)

    @precondition(lambda self: any(space.swapped for space in self.naive.spaces.values()))
    @rule(
        who=numbers, number=numbers, pages=lengths, cached=st.booleans(), write=st.booleans()
    )  # fmt: skip
    def fault_in(self, who: int, number: int, pages: int, cached: bool, write: bool) -> None:
        """A fault on a page in swap: it is read, or found in the swap cache, there with those that
        follow it."""
        having = [(pid, space) for pid, space in self.naive.spaces.items() if space.swapped]
        pid, space = having[who % len(having)]
        swapped = space.swapped
        start = sorted(swapped)[number % len(swapped)]
        if not space.mapped[start].prot & (WRITE if write else READ):
            return
        if cached:
            run = takewhile(swapped.__contains__, range(start, start + pages))
            self.calls.swap_in(pid, start, len(list(run)))
        (self.calls.write if write else self.calls.read)(pid, start)
