# SPDX-License-Identifier: GPL-2.0-only
"""VMAs that join and part (the situations of selftests/mm/merge.c, and more of them)."""

from __future__ import annotations

from rmapreplay.testing.calls import DOFORK, DONTFORK, MAP_FIXED, Calls
from rmapreplay.testing.naive import READ, WRITE
from rmapreplay.testing.scenarios.case import Cases, X, Y, Z

case = Cases("merge")
MERGEABLE = 12


def apart_and_together(c: Calls, apart: int, faulted: int) -> None:
    """Of six pages the three at `apart` are told from the others by their protection while the
    three at `faulted` are written; then the difference goes."""
    a = c.process()
    c.mmap(a, X, 6)
    c.mprotect(a, X + apart, 3, READ)
    c.write(a, X + faulted, 3)
    c.mprotect(a, X + apart, 3, READ | WRITE)
    c.write(a, X, 6)
    b = c.fork(a)
    c.write(b, X + 2, 2)


@case()
def unfaulted_joins_a_faulted_left(c: Calls) -> None:
    """An unfaulted VMA joins the faulted one on its left."""
    apart_and_together(c, 3, 0)


@case()
def unfaulted_joins_a_faulted_right(c: Calls) -> None:
    """An unfaulted VMA joins the faulted one on its right."""
    apart_and_together(c, 0, 3)


@case()
def faulted_joins_an_unfaulted(c: Calls) -> None:
    """It is the faulted one that changes, and takes its unfaulted neighbours in."""
    a = c.process()
    c.mmap(a, X, 9, READ)
    c.mprotect(a, X + 3, 3, READ | WRITE)
    c.write(a, X + 3, 3)
    c.mprotect(a, X + 3, 3, READ)
    c.fork(a)
    c.mprotect(a, X, 9, READ | WRITE)
    c.write(a, X, 9)
    c.fork(a)


@case()
def unfaulted_joins_both(c: Calls) -> None:
    """An unfaulted VMA lies between two that were one when they were faulted."""
    a = c.process()
    c.mmap(a, X, 9)
    c.write(a, X, 9)
    c.mmap(a, X + 3, 3, READ, flags=MAP_FIXED)
    c.mprotect(a, X + 3, 3, READ | WRITE)
    c.write(a, X + 4)
    c.fork(a)


@case()
def between_strangers(c: Calls) -> None:
    """What fits between two VMAs that were faulted each by itself can join one of them at most."""
    a = c.process()
    c.mmap(a, X, 3)
    c.mmap(a, X + 6, 3)
    c.write(a, X, 3)
    c.write(a, X + 6, 3)
    c.mmap(a, X + 3, 3)
    c.write(a, X + 3, 3)
    b = c.fork(a)
    c.write(b, X + 4, 4)


@case()
def faulted_left_takes_a_part(c: Calls) -> None:
    """The boundary between two VMAs of one origin moves, to the right and back to the left."""
    a = c.process()
    c.mmap(a, X, 8)
    c.write(a, X, 8)
    c.mprotect(a, X + 4, 4, READ)
    b = c.fork(a)
    for pid in (a, b):
        c.mprotect(pid, X + 4, 2, READ | WRITE)
        c.mprotect(pid, X + 3, 3, READ)
        c.write(pid, X, 3)
    c.mprotect(a, X, 8, READ | WRITE)


@case()
def split_in_three(c: Calls) -> None:
    """A shared VMA is cut in its middle in one process, at its ends in the other."""
    a = c.process()
    c.mmap(a, X, 9)
    c.write(a, X, 9)
    b = c.fork(a)
    c.munmap(a, X + 4, 1)
    c.munmap(b, X, 1)
    c.munmap(b, X + 8, 1)
    c.fork(b)
    c.mmap(a, X + 4, 1)
    c.write(a, X + 4)


@case()
def split_while_shared_then_forked(c: Calls) -> None:
    """VMAs that are told apart after a fork are inherited so, and come together in the child."""
    a = c.process()
    c.mmap(a, X, 8)
    c.write(a, X, 8)
    c.madvise(a, X + 2, 4, DONTFORK)
    c.madvise(a, X + 3, 2, DOFORK)
    b = c.fork(a)
    c.mmap(b, X + 2, 1)
    c.write(b, X + 2)
    c.madvise(a, X, 8, DOFORK)
    c.fork(a)


@case()
def beside_an_inherited_vma(c: Calls) -> None:
    """A child maps next to what it inherited, writes there, and lets both be one if it can."""
    a = c.process()
    c.mmap(a, X, 2)
    c.write(a, X, 2)
    b = c.fork(a)
    c.mmap(b, X + 2, 2)
    c.write(b, X + 2, 2)
    c.mmap(b, X - 2, 2)
    c.write(b, X - 2, 4)
    c.fork(b)
    c.munmap(a, X, 2)


@case()
def forked_source(c: Calls) -> None:
    """A parent's faulted VMA meets, after a fork, a part of it that was unfaulted."""
    a = c.process()
    c.mmap(a, X, 6)
    c.mprotect(a, X + 3, 3, READ)
    c.write(a, X, 3)
    c.fork(a)
    c.mprotect(a, X + 3, 3, READ | WRITE)
    c.write(a, X + 3, 3)


@case()
def forked_target(c: Calls) -> None:
    """The same in the child, whose VMA has more to it than the parent's."""
    a = c.process()
    c.mmap(a, X, 6)
    c.mprotect(a, X + 3, 3, READ)
    c.write(a, X, 3)
    b = c.fork(a)
    c.mprotect(b, X + 3, 3, READ | WRITE)
    c.write(b, X + 2, 4)


@case()
def by_advice_for_ksm(c: Calls) -> None:
    """Neighbours become alike when both are mergeable."""
    a = c.process()
    c.mmap(a, X, 4)
    c.madvise(a, X, 4, MERGEABLE)
    c.write(a, X, 4)
    c.mmap(a, X + 4, 4)
    c.write(a, X + 4)
    c.madvise(a, X + 4, 4, MERGEABLE)
    c.fork(a)


@case()
def by_sealing(c: Calls) -> None:
    """Parts of a VMA are sealed one by one, until all is sealed and one again."""
    a = c.process()
    c.mmap(a, X, 6)
    c.write(a, X, 6)
    for at in (0, 4, 2):
        c.mseal(a, X + at, 2)
    c.fork(a)


@case()
def by_names_and_policies(c: Calls) -> None:
    """A name or a memory policy keeps parts of a shared VMA apart, and then no more."""
    a = c.process()
    c.mmap(a, X, 6)
    c.write(a, X, 6)
    b = c.fork(a)
    c.set_name(a, X + 2, 2, 7)
    c.mbind(b, X + 3, 2, 2)
    c.fork(b)
    c.set_name(a, X + 2, 2, 0)
    c.mbind(b, X + 3, 2, 0)
    c.write(b, X, 6)


@case()
def brk_after_a_fork(c: Calls) -> None:
    """A child's heap grows beside what it inherited; then it shrinks into that."""
    a = c.exec()
    heap = c.naive.spaces[a].brk
    c.brk(a, heap + 3)
    c.write(a, heap, 3)
    b = c.fork(a)
    c.brk(b, heap + 5)
    c.write(b, heap + 3, 2)
    c.brk(b, heap + 7)
    c.write(b, heap + 5)
    c.brk(b, heap + 2)
    c.write(b, heap)


# ---- by mremap ----


@case()
def unfaulted_moved_before_faulted(c: Calls) -> None:
    """An unfaulted VMA is moved right before a faulted one."""
    a = c.process()
    c.mmap(a, X + 4, 4)
    c.write(a, X + 4, 4)
    c.mmap(a, Y, 4)
    c.mremap(a, Y, 4, X, 4)
    c.write(a, X, 4)
    c.fork(a)


@case()
def unfaulted_moved_behind_faulted(c: Calls) -> None:
    """An unfaulted VMA is moved right behind a faulted one."""
    a = c.process()
    c.mmap(a, X, 4)
    c.write(a, X, 4)
    c.mmap(a, Y, 4)
    c.mremap(a, Y, 4, X + 4, 4)
    c.write(a, X + 4, 4)
    c.fork(a)


@case()
def unfaulted_moved_between(c: Calls) -> None:
    """An unfaulted VMA is moved between two parts of what was one faulted VMA."""
    a = c.process()
    c.mmap(a, X, 9)
    c.write(a, X, 9)
    c.munmap(a, X + 3, 3)
    c.mmap(a, Y, 3)
    c.mremap(a, Y, 3, X + 3, 3)
    c.write(a, X + 3, 3)
    c.fork(a)


@case()
def faulted_moved_home(c: Calls) -> None:
    """The middle of a faulted VMA goes away and comes back to where its pages belong."""
    a = c.process()
    c.mmap(a, X, 9)
    c.write(a, X, 9)
    c.mremap(a, X + 3, 3, Y, 3)
    b = c.fork(a)
    for pid in (a, b):
        c.mremap(pid, Y, 3, X + 3, 3)
        c.write(pid, X + 4)


@case()
def both_neighbours_moved_home(c: Calls) -> None:
    """Three parts of one VMA are moved away and come home in another order."""
    a = c.process()
    c.mmap(a, X, 9)
    c.write(a, X, 9)
    for i, to in enumerate((Y, Z, Y + 64)):
        c.mremap(a, X + 3 * i, 3, to, 3)
    c.fork(a)
    for i, at in ((1, Z), (2, Y + 64), (0, Y)):
        c.mremap(a, at, 3, X + 3 * i, 3)
    c.fork(a)


def moved_in_a_family(c: Calls, around: list[tuple[int, bool]]) -> None:
    """A child moves what it inherited to X + 3, where there are neighbours at given places, faulted
    or not; and so does its parent."""
    a = c.process()
    c.mmap(a, Y, 3)
    c.write(a, Y, 3)
    b = c.fork(a)
    for pid in (b, a):
        for at, faulted in around:
            c.mmap(pid, X + at, 3)
            if faulted:
                c.write(pid, X + at, 3)
        c.mremap(pid, Y, 3, X + 3, 3)
        c.write(pid, X + 4)
    c.fork(b)


@case()
def inherited_moved_behind_unfaulted(c: Calls) -> None:
    """What a child inherited is moved right behind an unfaulted VMA."""
    moved_in_a_family(c, [(0, False)])


@case()
def inherited_moved_before_unfaulted(c: Calls) -> None:
    """What a child inherited is moved right before an unfaulted VMA."""
    moved_in_a_family(c, [(6, False)])


@case()
def inherited_moved_between_unfaulted(c: Calls) -> None:
    """What a child inherited is moved between two unfaulted VMAs."""
    moved_in_a_family(c, [(0, False), (6, False)])


@case()
def inherited_moved_between_both_kinds(c: Calls) -> None:
    """What a child inherited is moved between an unfaulted VMA and a faulted one."""
    moved_in_a_family(c, [(0, False), (6, True)])
