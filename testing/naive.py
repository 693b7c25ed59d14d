# SPDX-License-Identifier: GPL-2.0-only
"""What maps what, by the semantics of the system calls and nothing else: no VMAs that merge, no
page tables, no folios. Every page of an address space has a few attributes if it is mapped, and the
name of its content if it holds anonymous memory. Two pages share a folio if their content has the
same name; a write gives the page a name of its own, whoever shared the old one. Content that is in
swap is mapped by nobody until it is faulted in again, and then still has its name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

READ, WRITE, EXEC = 1, 2, 4


@dataclass(frozen=True)
class Area:
    """What a page is mapped as.

    made: consecutive pages with the same number certainly lie in one VMA: they were mapped by one
        call, and every later call that told them from others changed the number.
    file: 0 for anonymous memory.
    locked: "", "locked" or "onfault".
    """

    made: int
    prot: int
    shared: bool = False
    file: int = 0
    locked: str = ""
    dont_fork: bool = False
    wipe_on_fork: bool = False
    grows_down: bool = False

    @property
    def private(self) -> bool:
        return not self.shared


@dataclass(eq=False)
class Space:
    """An address space: attributes of each mapped page, the name of its anonymous content, and
    which pages' content is in swap."""

    mapped: dict[int, Area] = field(default_factory=dict)
    content: dict[int, int] = field(default_factory=dict)
    swapped: set[int] = field(default_factory=set)
    heap: int = 0  # where it starts
    brk: int = 0  # first page above the heap
    stack: int = 0  # lowest page

    def drop(self, page: int) -> None:
        """The content of a page is gone."""
        self.content.pop(page, None)
        self.swapped.discard(page)

    def copy(self, page: int, to: Space, there: int) -> None:
        """A page of another space, or of this one, has the content of one of this."""
        if page in self.content:
            to.content[there] = self.content[page]
            if page in self.swapped:
                to.swapped.add(there)

    def is_free(self, start: int, end: int) -> bool:
        return not any(page in self.mapped for page in range(start, end))

    def mapped_up_to(self, start: int, end: int) -> int:
        """The first hole in [start, end), or end."""
        return next((page for page in range(start, end) if page not in self.mapped), end)

    def run_at(self, page: int) -> tuple[int, int]:
        """The pages around a mapped one that certainly are in the same VMA."""
        area, start, end = self.mapped[page], page, page + 1
        while self.mapped.get(start - 1) == area:
            start -= 1
        while self.mapped.get(end) == area:
            end += 1
        return start, end


class Naive:
    """All processes. Methods are named after the calls and take pages, not addresses; the caller
    makes only calls that succeed, or that fail having done what is said here.

    With `index_is_address`, moving shared content copies it, as a reverse map asks for whose folios
    are found by their address.
    """

    def __init__(self, *, index_is_address: bool = False) -> None:
        self._copies_shared = index_is_address
        self.spaces: dict[int, Space] = {}  # by process
        self.others: list[Space] = []  # that no process uses any more, or yet
        self._names = 0

    def name(self) -> int:
        """A number never used before."""
        self._names += 1
        return self._names

    def living(self) -> list[Space]:
        """All address spaces, each once."""
        return list(dict.fromkeys([*self.spaces.values(), *self.others]))

    def shared_folios(self) -> dict[int, set[tuple[Space, int]]]:
        """By name of content, all (address space, page) that map it."""
        found: dict[int, set[tuple[Space, int]]] = {}
        for space in self.living():
            for page, name in space.content.items():
                if page not in space.swapped:
                    found.setdefault(name, set()).add((space, page))
        return found

    def _shared_content(self, space: Space, pages: Iterable[int]) -> set[int]:
        """Names of content that some pages of a space have and others too, in swap or not."""
        uses = Counter(name for each in self.living() for name in each.content.values())
        return {name for page in pages if uses[name := space.content.get(page, 0)] > 1}

    def _move_content(self, space: Space, pages: Iterable[int], by: int) -> None:
        copied = self._shared_content(space, pages) if self._copies_shared else ()
        for page in pages:
            space.copy(page, space, page + by)
            if space.content.get(page) in copied:
                space.content[page + by] = self.name()
            space.drop(page)

    # ---- pages ----

    def write(self, space: Space, page: int) -> None:
        area = space.mapped.get(page)
        if area and area.prot & WRITE and area.private:
            space.content[page] = self.name()
            space.swapped.discard(page)

    def read(self, space: Space, page: int) -> None:
        area = space.mapped.get(page)
        if area and area.prot:
            space.swapped.discard(page)

    def write_stack(self, space: Space, page: int) -> None:
        """A write at or below the stack, which grows to hold it."""
        for below in range(page, space.stack):
            space.mapped[below] = space.mapped[space.stack]
        space.stack = min(space.stack, page)
        self.write(space, page)

    def populate(self, space: Space, pages: Iterable[int]) -> bool:
        """Faults pages in, for writing where a private mapping can be written. Ends at the first
        that cannot be accessed at all, and says whether there was none."""
        for page in pages:
            area = space.mapped[page]
            if area.locked != "onfault":
                if not area.prot:
                    return False
                self.read(space, page)
                self.write(space, page)
        return True

    # ---- mappings ----

    def _change(
        self, space: Space, start: int, end: int, change: Callable[[Area], Area]
    ) -> dict[int, Area]:
        """Changes attributes of what is mapped in a range; pages that were told apart stay so, and
        are told from the others. Returns the pages changed, and what they were."""
        made: dict[int, int] = {}
        changed = {}
        for page in range(start, end):
            area = space.mapped.get(page)
            if area is None or change(area) == area:
                continue
            number = made.setdefault(area.made, self.name())
            space.mapped[page] = replace(change(area), made=number)
            changed[page] = area
        return changed

    def mmap(self, space: Space, start: int, end: int, area: Area, *, populate: bool) -> None:
        self.munmap(space, start, end)
        for page in range(start, end):
            space.mapped[page] = area
        if populate or area.locked:
            self.populate(space, range(start, end))

    def munmap(self, space: Space, start: int, end: int) -> None:
        for page in range(start, end):
            space.mapped.pop(page, None)
            space.drop(page)

    def mprotect(self, space: Space, start: int, end: int, prot: int) -> None:
        """`end` is the end, or the first hole before it. Locked memory that becomes writable is
        made present at once."""
        changed = self._change(space, start, end, lambda area: replace(area, prot=prot))
        for page, old in changed.items():
            if old.locked == "locked" and not old.prot & WRITE:
                self.write(space, page)

    def move(self, space: Space, start: int, end: int, to: int, pages: int) -> None:
        """mremap() of [start, end) to a place elsewhere, with a length of its own, where whatever
        was there goes."""
        self.munmap(space, to, to + pages)
        made: dict[int, int] = {}
        last = space.mapped[end - 1]
        for page in range(start, min(end, start + pages)):
            area = space.mapped[page]
            number = made.setdefault(area.made, self.name())
            space.mapped[page - start + to] = replace(area, made=number)
        self._move_content(space, range(start, min(end, start + pages)), to - start)
        self.munmap(space, start, end)
        if pages > end - start:
            grown = replace(last, made=made[last.made])
            self._grow(space, to + end - start, to + pages, grown)

    def grow(self, space: Space, end: int, pages: int) -> None:
        """mremap() of what ends at `end`, in place, by so many pages."""
        self._grow(space, end, end + pages, space.mapped[end - 1])

    def _grow(self, space: Space, start: int, end: int, area: Area) -> None:
        for page in range(start, end):
            space.mapped[page] = area
        if area.locked:
            self.populate(space, range(start, end))

    def move_and_keep(self, space: Space, start: int, end: int, to: int) -> None:
        """MREMAP_DONTUNMAP: the content moves, the old mapping stays, empty and not locked."""
        self.munmap(space, to, to + end - start)
        number = self.name()
        for page in range(start, end):
            space.mapped[page - start + to] = replace(space.mapped[page], made=number)
        self._move_content(space, range(start, end), to - start)
        self._change(space, start, end, lambda area: replace(area, locked=""))

    def set_brk(self, space: Space, brk: int) -> None:
        if brk < space.brk:
            self.munmap(space, brk, space.brk)
        area = Area(self.name(), READ | WRITE)
        for page in range(space.brk, brk):
            space.mapped[page] = area
        space.brk = brk

    # ---- advice ----

    def dont_need(self, space: Space, start: int, end: int) -> None:
        for page in range(start, end):
            space.drop(page)

    def may_free(self, space: Space, start: int, end: int) -> None:
        """MADV_FREE: what is in swap goes at once, the rest when reclaim comes for it."""
        for page in range(start, end):
            if page in space.swapped:
                space.drop(page)

    def tell_apart(self, space: Space, start: int, end: int) -> None:
        """A call that changes nothing but what may lie in one VMA."""
        made: dict[int, int] = {}
        for page in range(start, end):
            if area := space.mapped.get(page):
                number = made.setdefault(area.made, self.name())
                space.mapped[page] = replace(area, made=number)

    def set_dont_fork(self, space: Space, start: int, end: int, on: bool) -> None:
        self._change(space, start, end, lambda area: replace(area, dont_fork=on))

    def set_wipe_on_fork(self, space: Space, start: int, end: int, on: bool) -> None:
        self._change(space, start, end, lambda area: replace(area, wipe_on_fork=on))

    def lock(self, space: Space, start: int, end: int, locked: str) -> None:
        """mlock() and munlock(), without what mlock() makes present."""
        self._change(space, start, end, lambda area: replace(area, locked=locked))

    # ---- reclaim ----

    def swap_out(self, space: Space, start: int, end: int) -> None:
        space.swapped.update(page for page in range(start, end) if page in space.content)

    def discard(self, space: Space, start: int, end: int) -> None:
        for page in range(start, end):
            space.drop(page)

    def swap_in(self, space: Space, start: int, end: int) -> None:
        space.swapped.difference_update(range(start, end))

    # ---- processes ----

    def copy_space(self, parent: Space) -> Space:
        """What fork makes; nobody's as yet."""
        space = Space()
        space.heap, space.brk, space.stack = parent.heap, parent.brk, parent.stack
        self.copy_pages(parent, space, 0, 1 << 36)
        return space

    def copy_pages(self, parent: Space, space: Space, start: int, end: int) -> None:
        """What fork copies of the mappings in a range."""
        for page, area in parent.mapped.items():
            if area.dont_fork or not start <= page < end:
                continue
            space.mapped[page] = replace(area, locked="")
            if not area.wipe_on_fork:
                parent.copy(page, space, page)

    def share(self, pid: int, child: int) -> None:
        """vfork(): the same address space, until one of them execs or exits."""
        self.spaces[child] = self.spaces[pid]

    def exec(self, pid: int) -> Space:
        """A new, empty address space."""
        self.spaces[pid] = Space()
        return self.spaces[pid]

    def exit(self, pid: int) -> None:
        del self.spaces[pid]

    def unused(self, space: Space) -> bool:
        """Whether no process uses it any more. What nobody uses is gone if not in `others`."""
        return space not in self.spaces.values()

    def unmap_vmas(self, space: Space) -> None:
        """The first part of an address space's end: its pages go, and its mappings last."""
        space.content.clear()
        space.swapped.clear()
