# SPDX-License-Identifier: GPL-2.0-only
"""Pages that reclaim takes away and faults bring back."""

from __future__ import annotations

from rmapreplay.testing.calls import DONTNEED, FREE, Calls
from rmapreplay.testing.scenarios.case import Cases, X, Y

case = Cases("swap")


def swapped_family(c: Calls, members: int) -> list[int]:
    """A process and its children, whose two shared pages are in swap."""
    a = c.process()
    c.mmap(a, X, 2)
    c.write(a, X, 2)
    family = [a, *(c.fork(a) for _ in range(members - 1))]
    for pid in family:
        c.swap_out(pid, X, 2)
    return family


@case()
def out_and_in_alone(c: Calls) -> None:
    """One process's pages go to swap and come back, one by a read, one by a write."""
    a = c.process()
    c.mmap(a, X, 2)
    c.write(a, X, 2)
    c.swap_out(a, X, 2)
    c.read(a, X)
    c.swap_in(a, X + 1)
    c.write(a, X + 1)
    c.fork(a)


@case()
def in_by_the_youngest_first(c: Calls) -> None:
    """A shared page comes back from the swap cache, the youngest of the family first."""
    family = swapped_family(c, 4)
    for pid in reversed(family):
        c.swap_in(pid, X)
        c.read(pid, X)


@case()
def read_anew_by_the_youngest_first(c: Calls) -> None:
    """A shared page has left the swap cache too: the youngest of the family has it read, and the
    others map what was read."""
    family = swapped_family(c, 4)
    for pid in reversed(family):
        c.read(pid, X)
    c.fork(family[1])


@case()
def read_ahead_of_the_others(c: Calls) -> None:
    """Reading ahead has put a page into the swap cache that one of the middle maps first, by a
    write; its relatives map the page anew."""
    a, b, d = swapped_family(c, 3)
    e = c.fork(b)
    c.swap_in(b, X, 2, read_ahead=True)
    c.write(b, X)
    c.read(d, X, 2)
    c.read(e, X + 1)
    c.write(a, X + 1)


@case()
def written_when_it_comes_back(c: Calls) -> None:
    """One of a family writes to the page it faults in, another reads it, a third forks first."""
    a, b, d = swapped_family(c, 3)
    c.swap_in(b, X)
    c.write(b, X)
    c.swap_in(a, X)
    c.read(a, X)
    e = c.fork(d)
    c.swap_in(e, X)
    c.read(e, X)
    c.swap_in(d, X, 2)
    c.write(d, X)


@case()
def home_has_gone(c: Calls) -> None:
    """The process that wrote the page exits while it is in swap; its children map it again."""
    a, b, d = swapped_family(c, 3)
    c.exit(a)
    for pid in (d, b):
        c.swap_in(pid, X, 2)
        c.read(pid, X, 2)
    c.write(b, X)


@case()
def moved_while_in_swap(c: Calls) -> None:
    """A child moves a mapping whose pages are in swap, and then faults them in."""
    a, b = swapped_family(c, 2)
    c.mremap(b, X, 2, Y, 2)
    c.swap_in(b, Y, 2)
    c.read(b, Y, 2)
    c.swap_in(a, X, 2)
    c.read(a, X, 2)
    c.write(b, Y)


@case()
def given_up_while_in_swap(c: Calls) -> None:
    """What is in swap is unmapped, dropped or freed by some of those who share it."""
    a, b, d = swapped_family(c, 3)
    c.madvise(b, X, 1, DONTNEED)
    c.madvise(d, X, 1, FREE)
    c.munmap(a, X + 1, 1)
    c.swap_in(a, X)
    c.read(a, X)
    c.swap_in(d, X + 1)
    c.write(d, X + 1)


@case()
def reclaim_takes_one_mapping_at_a_time(c: Calls) -> None:
    """A shared page is unmapped from one process after another; clean pages are discarded."""
    a = c.process()
    c.mmap(a, X, 2)
    c.write(a, X, 2)
    b = c.fork(a)
    d = c.fork(b)
    c.swap_out(b, X)
    c.swap_out(a, X)
    c.swap_in(b, X)
    c.read(b, X)
    c.discard(d, X + 1)
    c.write(d, X + 1)


@case()
def in_beside_a_copy(c: Calls) -> None:
    """A VMA that came from a fork and a new one of its process map pages from swap."""
    a = c.process()
    c.mmap(a, X, 2)
    c.write(a, X, 2)
    b = c.fork(a)
    c.mmap(b, Y, 1)
    c.write(b, Y)
    d = c.fork(b)
    for pid, at in ((a, X), (b, X), (d, X), (b, Y), (d, Y)):
        c.swap_out(pid, at)
    for pid, at in ((d, Y), (b, Y), (d, X), (a, X)):
        c.swap_in(pid, at)
        c.read(pid, at)
