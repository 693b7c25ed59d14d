# SPDX-License-Identifier: GPL-2.0-only
"""Rules: what faults and reclaim do to pages."""

from __future__ import annotations

from itertools import takewhile

from hypothesis import strategies as st
from hypothesis.stateful import precondition, rule

from .naive import READ, WRITE, Space
from .sequence import STACK_TOP, Sequence, lengths, numbers

POPULATE_READ, POPULATE_WRITE = 22, 23


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
        for page in range(at, at + pages):
            if page not in space.mapped:
                break
            (self.naive.write if write else self.naive.read)(space, page)
            self.feed("fault", pid, addr_page=page, write=bool(write), source="user")

    @rule(who=numbers, above=st.integers(-3, 34))
    def use_stack(self, who: int, above: int) -> None:
        pid, space = self.any_process(who)
        page = min(space.stack + above, STACK_TOP - 1)
        self.naive.write_stack(space, page)
        self.feed("fault", pid, addr_page=page, write=True, source="user")

    @rule(who=numbers, number=numbers, pages=lengths, write=st.booleans(), row=st.booleans())
    def populate(self, who: int, number: int, pages: int, write: bool, row: bool) -> None:
        """MADV_POPULATE_*, or pages faulted in of which the capture has no faults."""
        pid, space = self.any_process(who)
        start, end = self.span(space, number, pages)
        needed = WRITE if write else READ
        areas = (space.mapped.get(page) for page in range(start, end))
        allowed = takewhile(lambda area: area is not None and area.prot & needed, areas)
        end = start + len(list(allowed))
        if end == start:
            return
        for page in range(start, end):
            (self.naive.write if write else self.naive.read)(space, page)
        if row:
            self.feed("populate", pid, addr_page=start, len_page=end - start, write=write)
        else:
            advice = POPULATE_WRITE if write else POPULATE_READ
            self.feed("madvise", pid, addr_page=start, len_page=end - start, advice=advice)

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
        end = start + len(list(takewhile(present.__contains__, range(start, start + pages))))
        where = {"addr_page": start, "len_page": end - start}
        if how == "discard":
            self.naive.discard(space, start, end)
            self.feed("discard", pid, **where)
            return
        names = {space.content[page] for page in range(start, end)}
        self.naive.swap_out(space, start, end)
        self.feed("swap_out", pid, **where)
        for other, relative in self.naive.spaces.items() if how == "all" else ():
            for page in sorted(self.evictable(relative)):
                if relative.content[page] in names:
                    self.naive.swap_out(relative, page, page + 1)
                    self.feed("swap_out", other, addr_page=page, len_page=1)

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
            end = start + len(list(takewhile(swapped.__contains__, range(start, start + pages))))
            self.naive.swap_in(space, start, end)
            self.feed("swap_in", pid, addr_page=start, len_page=end - start)
        (self.naive.write if write else self.naive.read)(space, start)
        self.feed("fault", pid, addr_page=start, write=write, source="user")
