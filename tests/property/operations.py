# SPDX-License-Identifier: GPL-2.0-only
"""Random sequences of system calls, faults and reclaim: a hypothesis state machine that tells the
naive truth and every model of each, and holds them against one another.

Whatever a rule draws is made to fit the state, so that few steps are wasted: places are numbers of
pages in a small arena, and processes and pages are taken by number from those there are. A call is
made up as a kernel could have recorded it; where kernels differ in what they do, the rule says so.
THP is off: whether a huge page fits depends on how VMAs merge, and so on the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Set
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from .naive import EXEC, READ, WRITE, Area, Naive, Space
from .scenario import MAY_MISS, PAGE, Scenario

ARENA, ARENA_PAGES = 0x7000001E0, 64  # in pages; a boundary of 2 MB lies in its middle
HEAP, HEAP_PAGES = 0x555500000, 24
STACK_TOP = 0x7FFC00000
TOP = 0x7FFFFFFFF  # of the address space, where exec puts the arguments at first
FAILURES = Path(__file__).with_name("failures")

MAP_SHARED, MAP_PRIVATE, MAP_FIXED, MAP_ANONYMOUS = 0x1, 0x2, 0x10, 0x20
MAP_GROWSDOWN, MAP_LOCKED, MAP_POPULATE = 0x100, 0x2000, 0x8000
MREMAP_MAYMOVE, MREMAP_FIXED, MREMAP_DONTUNMAP = 1, 2, 4
CLONE_VM, CLONE_VFORK = 0x100, 0x4000
MLOCK_ONFAULT = 1
PR_SET_VMA = 0x53564D41
ENOMEM = 12
NEUTRAL = {"random": 1, "normal": 0, "mergeable": 12, "dont_dump": 16}
FLAG = {"dont_fork": 10, "do_fork": 11, "wipe_on_fork": 18, "keep_on_fork": 19}
DONTNEED, FREE, POPULATE_READ, POPULATE_WRITE, DONTNEED_LOCKED = 4, 8, 22, 23, 24
TEARDOWN = {
    "at_exit": [],
    "vmas": ["exit_mmap"],
    "all": ["unmap_vmas", "free_pgtables", "exit_mmap"],
}
MOST_PROCESSES = 6

numbers = st.integers(0, 127)  # taken modulo how many there are
places = st.integers(0, ARENA_PAGES - 1)
lengths = st.integers(1, 8)
prots = st.sampled_from([READ | WRITE, READ | WRITE, READ | WRITE | EXEC, READ, 0])


class Operations(RuleBasedStateMachine):
    """One random sequence.

    Class attributes, for tests of the tests:
        truth: what makes the naive truth.
        may_miss: the models that may miss mappings.
        failures: directory for the sequences that fail.
    """

    truth: type[Naive] = Naive
    may_miss: Set[str] = MAY_MISS
    failures: Path = FAILURES
    failed = False

    @initialize(
        kernel=st.sampled_from(["7.3", "6.18", "6.12"]),
        teardown=st.sampled_from(list(TEARDOWN)),
        pages=st.sampled_from([0, 8, 16, 24]),
    )
    def start(self, kernel: str, teardown: str, pages: int) -> None:
        """A process with so many pages to begin with."""
        self.naive = self.truth()
        self.scenario = Scenario(kernel, TEARDOWN[teardown], self.naive)
        self.kernel = tuple(int(part) for part in kernel.split("."))
        self.next_pid = 100
        self.copied: dict[int, Space] = {}  # by process whose fork is between its two rows
        self.dying: list[tuple[int, Space, list[str]]] = []  # process, rows still to come
        self.steps = TEARDOWN[teardown]
        self.first_exec()
        if pages:
            self.mmap(0, 0, pages, READ | WRITE, "anon", True, MAP_POPULATE)

    # ---- what the rules share ----

    @contextmanager
    def written(self) -> Iterator[None]:
        """Writes the sequence to files if what is done here fails."""
        try:
            yield
        except Exception as error:
            self.failed = True
            path = self.scenario.write(self.failures, type(self).__name__)
            raise AssertionError(
                f"{error}\nthe sequence is in {path} (and .txt): "
                f"rmapreplay run {path} --model anon_vma --verify all"
            ) from error

    def feed(self, op: str, pid: int, **columns: Any) -> None:
        """Add a row. Columns ending in _page are addresses or lengths in pages."""
        row = {
            name.removesuffix("_page"): value * PAGE if name.endswith("_page") else value
            for name, value in columns.items()
        }
        self.scenario.add({"op": op, "pid": pid, **row})

    def new_space(self, space: Space) -> None:
        with self.written():
            self.scenario.new_space(space)

    @invariant()
    def models_agree_with_the_truth(self) -> None:
        with self.written():
            self.scenario.check()

    def teardown(self) -> None:
        if hasattr(self, "scenario") and not self.failed:
            with self.written():
                self.scenario.finish(self.may_miss)

    def process(self, number: int, *, forking: bool = True) -> tuple[int, Space] | None:
        """One of the processes; without `forking`, none that waits for its fork row."""
        pids = [pid for pid in self.naive.spaces if forking or pid not in self.copied]
        if not pids:
            return None
        pid = pids[number % len(pids)]
        return pid, self.naive.spaces[pid]

    def any_process(self, number: int) -> tuple[int, Space]:
        found = self.process(number)
        assert found
        return found

    def page(self, number: int, pages: list[int]) -> int | None:
        """One of the pages."""
        return pages[number % len(pages)] if pages else None

    def find_free(self, space: Space, near: int, pages: int) -> int | None:
        """A free range of the arena, the first from `near` on if there is one."""
        last = ARENA + ARENA_PAGES - pages
        candidates = [*range(near, last + 1), *range(ARENA, min(near, last + 1))]
        return next((at for at in candidates if space.is_free(at, at + pages)), None)

    def mapped(self, space: Space) -> list[int]:
        """The pages of the arena that are mapped."""
        return sorted(page for page in space.mapped if ARENA <= page < ARENA + ARENA_PAGES)

    def span(self, space: Space, number: int, pages: int) -> tuple[int, int]:
        """A range that begins at one of the mapped pages, or now and then just before it."""
        start = self.page(number, self.mapped(space)) or ARENA
        if number % 4 == 3 and start > ARENA:
            start -= 1
        return start, min(start + pages, ARENA + ARENA_PAGES)

    def release(self, pid: int, space: Space) -> None:
        """A process has stopped using a space."""
        if self.steps and self.naive.unused(space):
            if self.steps == TEARDOWN["vmas"]:
                self.naive.unmap_vmas(space)
            self.naive.others.append(space)
            self.dying.append((pid, space, list(self.steps)))

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

    # ---- processes ----

    @rule(who=numbers)
    def fork(self, who: int) -> None:
        found = self.process(who, forking=False)
        if not found or len(self.naive.spaces) == MOST_PROCESSES:
            return
        pid, parent = found
        child = self.new_pid()
        space = self.naive.spaces[child] = self.naive.copy_space(parent)
        self.feed("fork", pid, flags=0, child=child, child_tid=child)
        self.new_space(space)

    @rule(who=numbers)
    def begin_fork(self, who: int) -> None:
        """dup_mmap(): other threads of the parent go on before the child is there."""
        found = self.process(who, forking=False)
        if not found or len(self.naive.spaces) + len(self.copied) >= MOST_PROCESSES:
            return
        pid, parent = found
        space = self.copied[pid] = self.naive.copy_space(parent)
        self.naive.others.append(space)
        self.feed("dup_mmap", pid)
        self.new_space(space)

    @precondition(lambda self: self.copied)
    @rule()
    def end_fork(self) -> None:
        pid, space = self.copied.popitem()
        child = self.new_pid()
        self.naive.others.remove(space)
        self.naive.spaces[child] = space
        self.feed("fork", pid, flags=0, child=child, child_tid=child)

    @rule(who=numbers)
    def vfork(self, who: int) -> None:
        found = self.process(who, forking=False)
        if not found or len(self.naive.spaces) == MOST_PROCESSES:
            return
        pid, space = found
        child = self.new_pid()
        self.naive.spaces[child] = space
        flags = CLONE_VM | CLONE_VFORK
        self.feed("fork", pid, flags=flags, child=child, child_tid=child)

    @rule(who=numbers, last=st.sampled_from([False, False, True]))
    def exit(self, who: int, last: bool) -> None:
        found = self.process(who, forking=False)
        if not found or (len(self.naive.spaces) == 1 and not last):
            return
        pid, space = found
        self.naive.exit(pid)
        self.feed("exit", pid)
        self.release(pid, space)
        if not self.naive.spaces:
            self.first_exec()

    @rule(who=numbers, args=st.sampled_from([0, 0, 1, 3]))
    def exec(self, who: int, args: int) -> None:
        """With so many pages of arguments. An exec forgets much: with none it is left out."""
        if args and (found := self.process(who, forking=False)):
            pid, old = found
            self.make_exec(pid, args)
            self.release(pid, old)

    def first_exec(self) -> None:
        self.make_exec(self.new_pid(), 1)

    def new_pid(self) -> int:
        self.next_pid += 1
        return self.next_pid

    def make_exec(self, pid: int, args: int) -> None:
        """The rows of an exec, up to where the program starts: a file's data, the stack with so
        many pages of arguments, the break, the vdso."""
        naive, space = self.naive, self.naive.exec(pid)
        self.feed("exec", pid)
        self.new_space(space)
        mapping = {"offset": 0, "prot": READ | WRITE, "flags": MAP_PRIVATE}
        if args > 1:
            arguments = {**mapping, "flags": MAP_GROWSDOWN}
            self.feed("mapping", pid, addr_page=TOP - args, len_page=args, **arguments)
        data = Area(naive.name(), READ | WRITE, file=9)
        naive.mmap(space, HEAP - 16, HEAP - 12, data, populate=False)
        self.feed("mapping", pid, addr_page=HEAP - 16, len_page=4, file=9, **mapping)
        space.stack = STACK_TOP - 32 - args
        stack = Area(naive.name(), READ | WRITE)
        naive.mmap(space, space.stack, STACK_TOP, stack, populate=False)
        for page in range(STACK_TOP - args, STACK_TOP):
            naive.write(space, page)
        self.feed(
            "mapping", pid, addr_page=space.stack, len_page=32 + args, path="[stack]",
            **{**mapping, "offset": (TOP - args) * PAGE},
        )  # fmt: skip
        space.heap = space.brk = HEAP
        self.feed("brk", pid, addr_page=HEAP)
        vdso = Area(naive.name(), READ | EXEC, file=99)
        naive.mmap(space, STACK_TOP + 256, STACK_TOP + 258, vdso, populate=False)
        self.feed(
            "mapping", pid, addr_page=STACK_TOP + 256, len_page=2, path="[vdso]",
            **{**mapping, "prot": READ | EXEC},
        )  # fmt: skip

    @precondition(lambda self: self.dying)
    @rule()
    def end_space(self) -> None:
        """The next row of the end of the address space that died first."""
        pid, space, steps = self.dying[0]
        op = steps.pop(0)
        if op == "unmap_vmas":
            self.naive.unmap_vmas(space)
        elif op == "exit_mmap":
            self.naive.others.remove(space)
            self.dying.pop(0)
        self.feed(op, pid)
