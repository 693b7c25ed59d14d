# SPDX-License-Identifier: GPL-2.0-only
"""A random sequence in the making: the naive truth, the models, and what the rules share."""

from __future__ import annotations

from collections.abc import Iterator, Set
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant

from .naive import EXEC, READ, WRITE, Area, Naive, Space
from .scenario import MAY_MISS, PAGE, Scenario

ARENA, ARENA_PAGES = 0x7000001E0, 64  # in pages; a boundary of 2 MB lies in its middle
HEAP, HEAP_PAGES = 0x555500000, 24
STACK_TOP = 0x7FFC00000
TOP = 0x7FFFFFFFF  # of the address space, where exec puts the arguments at first
FAILURES = Path(__file__).with_name("failures")

MAP_PRIVATE, MAP_GROWSDOWN = 0x2, 0x100
TEARDOWN = {
    "at_exit": [],
    "vmas": ["exit_mmap"],
    "all": ["unmap_vmas", "free_pgtables", "exit_mmap"],
}

numbers = st.integers(0, 127)  # taken modulo how many there are
lengths = st.integers(1, 8)


class Sequence(RuleBasedStateMachine):
    """What the rules share.

    Class attributes, for tests of the tests:
        truth: what makes the naive truth.
        may_miss: the models that may miss mappings.
        failures: directory for the sequences that fail.
    """

    truth: type[Naive] = Naive
    may_miss: Set[str] = MAY_MISS
    failures: Path = FAILURES
    failed = False

    def begin(self, kernel: str, teardown: str) -> None:
        """Set up, with one process."""
        self.naive = self.truth()
        self.scenario = Scenario(kernel, TEARDOWN[teardown], self.naive)
        self.kernel = tuple(int(part) for part in kernel.split("."))
        self.next_pid = 100
        self.copied: dict[int, Space] = {}  # by process whose fork is between its two rows
        self.dying: list[tuple[int, Space, list[str]]] = []  # process, rows still to come
        self.steps = TEARDOWN[teardown]
        self.first_exec()

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
