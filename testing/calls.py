# SPDX-License-Identifier: GPL-2.0-only
"""System calls, faults and reclaim as a program would cause them: each tells the naive truth and
makes the rows that a capture of it would have.

Places and lengths are in pages, processes are numbered by pid. A call is made up as a kernel could
have recorded it; what it does is asked of the truth, so that a call that fails half way has its
`error`. Whoever calls makes calls that can succeed, or fail having done something.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol

from rmapreplay.testing.naive import EXEC, READ, WRITE, Area, Naive, Space
from rmapreplay.testing.rows import PAGE, Row

HEAP = 0x555500000
STACK_TOP = 0x7FFC00000
TOP = 0x7FFFFFFFF  # of the address space, where exec puts the arguments at first
STACK_PAGES = 32  # that exec makes, and those of the arguments

MAP_SHARED, MAP_PRIVATE, MAP_FIXED, MAP_ANONYMOUS, MAP_GROWSDOWN = 0x1, 0x2, 0x10, 0x20, 0x100
MAP_LOCKED, MAP_POPULATE = 0x2000, 0x8000
MREMAP_MAYMOVE, MREMAP_FIXED, MREMAP_DONTUNMAP = 1, 2, 4
MLOCK_ONFAULT = 1
CLONE_VM, CLONE_VFORK = 0x100, 0x4000
PR_SET_VMA = 0x53564D41
ENOMEM = 12
DONTNEED, FREE, DONTFORK, DOFORK, WIPEONFORK, KEEPONFORK = 4, 8, 10, 11, 18, 19
POPULATE_READ, POPULATE_WRITE, DONTNEED_LOCKED = 22, 23, 24

TEARDOWN = {
    "at_exit": [],
    "vmas": ["exit_mmap"],
    "all": ["unmap_vmas", "free_pgtables", "exit_mmap"],
}
"""Which rows an address space's end has, by what a capture can see of it."""


class Rows(Protocol):
    """Takes the rows as they are made."""

    def add(self, row: Row) -> None: ...
    def new_space(self, space: Space) -> None:
        """The truth has a new address space, made by the last row."""


class Calls:
    """Processes that make calls.

    Attributes:
        naive: the truth.
        copied: address spaces by process that is between the two rows of a fork.
        dying: address spaces without users, and the rows of their end still to come.
    """

    def __init__(self, naive: Naive, rows: Rows, teardown: str) -> None:
        self.naive = naive
        self._rows = rows
        self._steps: Sequence[str] = TEARDOWN[teardown]
        self._next_pid = 100
        self.copied: dict[int, Space] = {}
        self.dying: list[tuple[int, Space, list[str]]] = []

    def _feed(self, op: str, pid: int, **columns: Any) -> None:
        """Add a row. Columns ending in _page are addresses or lengths in pages."""
        row = {
            name.removesuffix("_page"): value * PAGE if name.endswith("_page") else value
            for name, value in columns.items()
            if value is not None  # as where the column is left out
        }
        self._rows.add({"op": op, "pid": pid, **row})

    def _range(self, op: str, pid: int, start: int, end: int, **columns: Any) -> None:
        self._feed(op, pid, addr_page=start, len_page=end - start, **columns)

    def _failed(self, space: Space, start: int, end: int) -> int | None:
        """What a call returns that meets a hole."""
        return ENOMEM if space.mapped_up_to(start, end) < end else None

    # ---- mappings ----

    def mmap(
        self,
        pid: int,
        start: int,
        pages: int,
        prot: int = READ | WRITE,
        *,
        file: int = 0,
        offset: int = 0,
        shared: bool = False,
        flags: int = 0,
    ) -> None:
        """`offset` in pages; `flags`: MAP_FIXED, MAP_POPULATE or MAP_LOCKED."""
        area = Area(
            self.naive.name(), prot, shared=shared, file=file,
            locked="locked" if flags & MAP_LOCKED else "",
        )  # fmt: skip
        space = self.naive.spaces[pid]
        self.naive.mmap(space, start, start + pages, area, populate=bool(flags & MAP_POPULATE))
        flags |= (MAP_SHARED if shared else MAP_PRIVATE) | (0 if file else MAP_ANONYMOUS)
        where = {"fd": 2 + file, "file": file, "offset_page": offset} if file else {}
        self._range("mmap", pid, start, start + pages, prot=prot, flags=flags, **where)

    def munmap(self, pid: int, start: int, pages: int) -> None:
        self.naive.munmap(self.naive.spaces[pid], start, start + pages)
        self._range("munmap", pid, start, start + pages)

    def mprotect(self, pid: int, start: int, pages: int, prot: int) -> None:
        space, end = self.naive.spaces[pid], start + pages
        failed = self._failed(space, start, end)
        self.naive.mprotect(space, start, space.mapped_up_to(start, end), prot)
        self._range("mprotect", pid, start, end, prot=prot, error=failed)

    def brk(self, pid: int, brk: int, *, below: int = 0) -> None:
        """The break is put so many bytes below a page's end."""
        self.naive.set_brk(self.naive.spaces[pid], brk)
        self._feed("brk", pid, addr=brk * PAGE - below)

    def mremap(
        self,
        pid: int,
        start: int,
        pages: int,
        to: int,
        new_pages: int,
        flags: int | None = None,
    ) -> None:
        """To another place, or with `to` equal to `start` in place. Unless `flags` are given, what
        does not grow is moved by MREMAP_FIXED."""
        if flags is None:
            fixed = to != start and new_pages <= pages
            flags = MREMAP_MAYMOVE | (MREMAP_FIXED if fixed else 0)
        space, end = self.naive.spaces[pid], start + pages
        if flags & MREMAP_DONTUNMAP:
            self.naive.move_and_keep(space, start, end, to)
        elif to != start:
            self.naive.move(space, start, end, to, new_pages)
        elif new_pages < pages:
            self.naive.munmap(space, start + new_pages, end)
        else:
            self.naive.grow(space, end, new_pages - pages)
        self._range(
            "mremap", pid, start, end, new_addr_page=to, new_len_page=new_pages, flags=flags
        )

    # ---- advice, locks, names ----

    def madvise(self, pid: int, start: int, pages: int, advice: int) -> None:
        """madvise() passes over holes, but then fails."""
        space, end, naive = self.naive.spaces[pid], start + pages, self.naive
        if advice in (DONTNEED, DONTNEED_LOCKED):
            naive.dont_need(space, start, end)
        elif advice == FREE:
            naive.may_free(space, start, end)
        elif advice in (DONTFORK, DOFORK):
            naive.set_dont_fork(space, start, end, advice == DONTFORK)
        elif advice in (WIPEONFORK, KEEPONFORK):
            naive.set_wipe_on_fork(space, start, end, advice == WIPEONFORK)
        elif advice in (POPULATE_READ, POPULATE_WRITE):
            self._fault_in(space, range(start, end), advice == POPULATE_WRITE)
        else:
            naive.tell_apart(space, start, end)
        failed = self._failed(space, start, end)
        self._range("madvise", pid, start, end, advice=advice, error=failed)

    def mlock(self, pid: int, start: int, pages: int, *, on_fault: bool = False) -> None:
        """A lock ends at the first hole, and then makes nothing present; without one, at what
        cannot be accessed, with all of the range locked."""
        space, end = self.naive.spaces[pid], start + pages
        failed = self._failed(space, start, end)
        how = "onfault" if on_fault else "locked"
        self.naive.lock(space, start, space.mapped_up_to(start, end), how)
        if not (on_fault or failed) and not self.naive.populate(space, range(start, end)):
            failed = ENOMEM
        flags = MLOCK_ONFAULT if on_fault else None
        self._range("mlock", pid, start, end, flags=flags, error=failed)

    def munlock(self, pid: int, start: int, pages: int) -> None:
        space, end = self.naive.spaces[pid], start + pages
        failed = self._failed(space, start, end)
        self.naive.lock(space, start, space.mapped_up_to(start, end), "")
        self._range("munlock", pid, start, end, error=failed)

    def mbind(self, pid: int, start: int, pages: int, mode: int) -> None:
        """A policy keeps VMAs apart, and does nothing else here."""
        self.naive.tell_apart(self.naive.spaces[pid], start, start + pages)
        self._range("mbind", pid, start, start + pages, advice=mode, flags=0)

    def set_name(self, pid: int, start: int, pages: int, name: int) -> None:
        """PR_SET_VMA_ANON_NAME, which keeps VMAs apart likewise."""
        self.naive.tell_apart(self.naive.spaces[pid], start, start + pages)
        self._range("prctl", pid, start, start + pages, flags=PR_SET_VMA, new_addr=name)

    def mseal(self, pid: int, start: int, pages: int) -> None:
        """A seal keeps VMAs apart likewise, and makes calls fail that are not made here."""
        self.naive.tell_apart(self.naive.spaces[pid], start, start + pages)
        self._range("mseal", pid, start, start + pages)

    # ---- pages ----

    def _fault_in(self, space: Space, pages: Iterable[int], write: bool) -> None:
        for page in pages:
            (self.naive.write if write else self.naive.read)(space, page)

    def _fault(self, pid: int, start: int, pages: int, write: bool) -> None:
        space = self.naive.spaces[pid]
        for page in range(start, start + pages):
            self._fault_in(space, [page], write)
            self._feed("fault", pid, addr_page=page, write=write, source="user")

    def write(self, pid: int, start: int, pages: int = 1) -> None:
        """A write to each page; where it is not allowed, nothing happens."""
        self._fault(pid, start, pages, True)

    def read(self, pid: int, start: int, pages: int = 1) -> None:
        self._fault(pid, start, pages, False)

    def write_large(self, pid: int, start: int, order: int) -> None:
        """A write to a page that a folio of 2^order pages is made for. (The naive truth knows of
        no such folios; use it where the truth is not asked.)"""
        self._fault_in(self.naive.spaces[pid], [start], write=True)
        self._feed("fault", pid, addr_page=start, write=True, source="user", order=order)

    def write_stack(self, pid: int, page: int) -> None:
        """A write at or below the stack, which grows to hold it."""
        self.naive.write_stack(self.naive.spaces[pid], page)
        self._feed("fault", pid, addr_page=page, write=True, source="user")

    def populate(self, pid: int, start: int, pages: int, *, write: bool = True) -> None:
        """Pages faulted in of which the capture has no faults."""
        self._fault_in(self.naive.spaces[pid], range(start, start + pages), write)
        self._range("populate", pid, start, start + pages, write=write)

    def swap_out(self, pid: int, start: int, pages: int = 1) -> None:
        self.naive.swap_out(self.naive.spaces[pid], start, start + pages)
        self._range("swap_out", pid, start, start + pages)

    def discard(self, pid: int, start: int, pages: int = 1) -> None:
        self.naive.discard(self.naive.spaces[pid], start, start + pages)
        self._range("discard", pid, start, start + pages)

    def swap_in(self, pid: int, start: int, pages: int = 1, *, read_ahead: bool = False) -> None:
        """Found in the swap cache, where they still were, or where reading ahead had put them; a
        fault of the first page follows. Without this a fault reads its page anew."""
        self.naive.swap_in(self.naive.spaces[pid], start, start + pages)
        self._range("swap_in", pid, start, start + pages, flags=1 if read_ahead else None)

    # ---- processes ----

    def new_pid(self) -> int:
        self._next_pid += 1
        return self._next_pid

    def fork(self, pid: int) -> int:
        """Returns the child."""
        child = self.new_pid()
        space = self.naive.spaces[child] = self.naive.copy_space(self.naive.spaces[pid])
        self._feed("fork", pid, flags=0, child=child, child_tid=child)
        self._rows.new_space(space)
        return child

    def begin_fork(self, pid: int, below: int | None = None) -> None:
        """dup_mmap(): other threads of the parent go on before the child is there. With `below`
        only the mappings below that page are copied, and go_on_forking() copies the rest."""
        parent = self.naive.spaces[pid]
        if below is None:
            space = self.naive.copy_space(parent)
        else:
            space = Space()
            self.naive.copy_pages(parent, space, 0, below)
        self.copied[pid] = space
        self.naive.others.append(space)
        self._feed("dup_mmap", pid, addr_page=below)
        self._rows.new_space(space)

    def go_on_forking(self, pid: int, start: int, below: int | None = None) -> None:
        """dup_mmap() goes on, from page `start` where it was, up to `below` or to its end."""
        end = 1 << 36 if below is None else below
        self.naive.copy_pages(self.naive.spaces[pid], self.copied[pid], start, end)
        self._feed("dup_mmap", pid, addr_page=below)

    def end_fork(self, pid: int) -> int:
        """Returns the child."""
        space, child = self.copied.pop(pid), self.new_pid()
        self.naive.others.remove(space)
        self.naive.spaces[child] = space
        self._feed("fork", pid, flags=0, child=child, child_tid=child)
        return child

    def vfork(self, pid: int) -> int:
        """Returns the child, which shares the address space until it execs or exits."""
        child = self.new_pid()
        self.naive.share(pid, child)
        self._feed("fork", pid, flags=CLONE_VM | CLONE_VFORK, child=child, child_tid=child)
        return child

    def exit(self, pid: int) -> None:
        space = self.naive.spaces[pid]
        self.naive.exit(pid)
        self._feed("exit", pid)
        self._release(pid, space)

    def _release(self, pid: int, space: Space) -> None:
        """A process has stopped using a space."""
        if self._steps and self.naive.unused(space):
            if len(self._steps) == 1:
                self.naive.unmap_vmas(space)
            self.naive.others.append(space)
            self.dying.append((pid, space, list(self._steps)))

    def end_space(self) -> None:
        """The next row of the end of the address space that died first."""
        pid, space, steps = self.dying[0]
        op = steps.pop(0)
        if op == "unmap_vmas":
            self.naive.unmap_vmas(space)
        elif op == "exit_mmap":
            self.naive.others.remove(space)
            self.dying.pop(0)
        self._feed(op, pid)

    def end_spaces(self) -> None:
        """All rows still to come of address spaces that nobody uses."""
        while self.dying:
            self.end_space()

    def end_all(self) -> None:
        """Every process exits, the youngest last, and its address space ends."""
        for pid in list(self.copied):
            self.end_fork(pid)
        for pid in list(self.naive.spaces):
            self.exit(pid)
        self.end_spaces()

    def process(self) -> int:
        """A new process with nothing mapped but a page of a stack, where exec has put it at first.
        Returns its pid."""
        pid = self.new_pid()
        space = self.naive.exec(pid)
        stack = Area(self.naive.name(), READ | WRITE)
        self.naive.mmap(space, TOP - 1, TOP, stack, populate=True)
        self._feed("exec", pid)
        self._rows.new_space(space)
        return pid

    def exec(self, pid: int | None = None, args: int = 1) -> int:
        """A process, a new one if `pid` is none, makes an exec, up to where the program starts: a
        file's data, the stack with so many pages of arguments, the break, the vdso."""
        naive = self.naive
        pid = self.new_pid() if pid is None else pid
        old = naive.spaces.get(pid)
        space = naive.exec(pid)
        self._feed("exec", pid)
        self._rows.new_space(space)
        mapping: dict[str, Any] = {"offset": 0, "prot": READ | WRITE, "flags": MAP_PRIVATE}
        if args > 1:
            arguments = {**mapping, "flags": MAP_GROWSDOWN}
            self._range("mapping", pid, TOP - args, TOP, **arguments)
        data = Area(naive.name(), READ | WRITE, file=9)
        naive.mmap(space, HEAP - 16, HEAP - 12, data, populate=False)
        self._range("mapping", pid, HEAP - 16, HEAP - 12, file=9, **mapping)
        space.stack = STACK_TOP - STACK_PAGES - args
        stack = Area(naive.name(), READ | WRITE)
        naive.mmap(space, space.stack, STACK_TOP, stack, populate=False)
        self._fault_in(space, range(STACK_TOP - args, STACK_TOP), write=True)
        where = {**mapping, "offset": (TOP - args) * PAGE}
        self._range("mapping", pid, space.stack, STACK_TOP, path="[stack]", **where)
        space.heap = space.brk = HEAP
        self._feed("brk", pid, addr_page=HEAP)
        vdso = Area(naive.name(), READ | EXEC, file=99)
        naive.mmap(space, STACK_TOP + 256, STACK_TOP + 258, vdso, populate=False)
        special = {**mapping, "prot": READ | EXEC}
        self._range("mapping", pid, STACK_TOP + 256, STACK_TOP + 258, path="[vdso]", **special)
        if old is not None:
            self._release(pid, old)
        return pid
