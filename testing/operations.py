# SPDX-License-Identifier: GPL-2.0-only
"""Random sequences of system calls, faults and reclaim: a hypothesis state machine that tells the
naive truth and every model of each, and holds them against one another.

Whatever a rule draws is made to fit the state, so that few steps are wasted: places are numbers of
pages in a small arena, and processes and pages are taken by number from those there are. Where
kernels differ in what they do, the rule says so. THP is off: whether a huge page fits depends on
how VMAs merge, and so on the model.
"""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from rmapreplay.testing.calls import MAP_POPULATE, TEARDOWN
from rmapreplay.testing.mapping_rules import MappingRules
from rmapreplay.testing.naive import READ, WRITE
from rmapreplay.testing.page_rules import PageRules
from rmapreplay.testing.sequence import numbers

MOST_PROCESSES = 6


class Operations(MappingRules, PageRules):
    """One random sequence; here, what becomes of processes and their address spaces."""

    kernels: tuple[str, ...] = ("7.3", "6.18", "6.12")

    @initialize(
        kernel=st.integers(0, 2),
        teardown=st.sampled_from(list(TEARDOWN)),
        pages=st.sampled_from([0, 8, 16, 24]),
        every_page=st.booleans(),
    )
    def start(self, kernel: int, teardown: str, pages: int, every_page: bool) -> None:
        """A process with so many pages to begin with."""
        self.begin(self.kernels[kernel % len(self.kernels)], teardown, every_page)
        if pages:
            self.mmap(0, 0, pages, READ | WRITE, "anon", True, MAP_POPULATE)

    def can_fork(self, number: int) -> int | None:
        if len(self.naive.spaces) + len(self.calls.copied) >= MOST_PROCESSES:
            return None
        return self.process(number, forking=False)

    @rule(who=numbers)
    def fork(self, who: int) -> None:
        if (pid := self.can_fork(who)) is not None:
            self.calls.fork(pid)

    @rule(who=numbers)
    def begin_fork(self, who: int) -> None:
        if (pid := self.can_fork(who)) is not None:
            self.calls.begin_fork(pid)

    @precondition(lambda self: self.calls.copied)
    @rule()
    def end_fork(self) -> None:
        self.calls.end_fork(max(self.calls.copied))

    @rule(who=numbers)
    def vfork(self, who: int) -> None:
        if (pid := self.can_fork(who)) is not None:
            self.calls.vfork(pid)

    @rule(who=numbers, last=st.sampled_from([False, False, True]))
    def exit(self, who: int, last: bool) -> None:
        pid = self.process(who, forking=False)
        if pid is None or (len(self.naive.spaces) == 1 and not last):
            return
        self.calls.exit(pid)
        if not self.naive.spaces:
            self.calls.exec()

    @rule(who=numbers, args=st.sampled_from([0, 0, 1, 3]))
    def exec(self, who: int, args: int) -> None:
        """With so many pages of arguments. An exec forgets much: with none it is left out."""
        pid = self.process(who, forking=False)
        if args and pid is not None:
            self.calls.exec(pid, args)

    @precondition(lambda self: self.calls.dying)
    @rule()
    def end_space(self) -> None:
        self.calls.end_space()
