# SPDX-License-Identifier: GPL-2.0-only
"""Random sequences of system calls, faults and reclaim: a hypothesis state machine that tells the
naive truth and every model of each, and holds them against one another.

Whatever a rule draws is made to fit the state, so that few steps are wasted: places are numbers of
pages in a small arena, and processes and pages are taken by number from those there are. A call is
made up as a kernel could have recorded it; where kernels differ in what they do, the rule says so.
THP is off: whether a huge page fits depends on how VMAs merge, and so on the model.
"""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import initialize, precondition, rule

from .mapping_rules import MAP_POPULATE, MappingRules
from .naive import READ, WRITE
from .page_rules import PageRules
from .sequence import TEARDOWN, numbers

CLONE_VM, CLONE_VFORK = 0x100, 0x4000
MOST_PROCESSES = 6


class Operations(MappingRules, PageRules):
    """One random sequence; here, what becomes of processes and their address spaces."""

    @initialize(
        kernel=st.sampled_from(["7.3", "6.18", "6.12"]),
        teardown=st.sampled_from(list(TEARDOWN)),
        pages=st.sampled_from([0, 8, 16, 24]),
    )
    def start(self, kernel: str, teardown: str, pages: int) -> None:
        """A process with so many pages to begin with."""
        self.begin(kernel, teardown)
        if pages:
            self.mmap(0, 0, pages, READ | WRITE, "anon", True, MAP_POPULATE)

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
