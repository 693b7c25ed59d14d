# SPDX-License-Identifier: GPL-2.0-only
"""Pages shared by a tree of processes (the situations of selftests/mm/rmap.c, and more of them)."""

from __future__ import annotations

from rmapreplay.testing.calls import Calls
from rmapreplay.testing.naive import READ, WRITE
from rmapreplay.testing.scenarios.case import Cases, X, Y

case = Cases("rmap")


@case()
def one_page(c: Calls) -> None:
    """One process, one page; written, dropped, written again."""
    a = c.process()
    c.mmap(a, X, 1)
    c.write(a, X)
    c.madvise(a, X, 1, 4)
    c.write(a, X)
    c.munmap(a, X, 1)


@case()
def family_shares_a_page(c: Calls) -> None:
    """Two levels of children all map what the first process has written."""
    root = c.process()
    c.mmap(root, X, 2)
    c.write(root, X, 2)
    for child in [c.fork(root) for _ in range(3)]:
        c.fork(child)
    c.write(root, X)


@case()
def written_by_a_child_before_it_forks(c: Calls) -> None:
    """What a child wrote is shared with its own children, and with nobody else."""
    root = c.process()
    c.mmap(root, X, 3)
    c.write(root, X, 3)
    child = c.fork(root)
    c.write(child, X + 1)
    grandchildren = [c.fork(child), c.fork(child)]
    c.write(grandchildren[0], X + 1)
    c.write(root, X + 1)


@case()
def mapped_before_the_fork_faulted_after(c: Calls) -> None:
    """A mapping that nobody had touched is inherited; parent and child fault it in each for
    themselves."""
    a = c.process()
    c.mmap(a, X, 2)
    b = c.fork(a)
    c.write(b, X)
    c.write(a, X)
    c.fork(b)


@case()
def read_faults_give_no_page(c: Calls) -> None:
    """What was only read has no anonymous page; a child's write makes one."""
    a = c.process()
    c.mmap(a, X, 2)
    c.read(a, X, 2)
    b = c.fork(a)
    c.write(b, X + 1)
    c.write(a, X)


@case()
def private_file_pages(c: Calls) -> None:
    """Written pages of private file mappings, two of the same part of a file, shared by fork."""
    a = c.process()
    c.mmap(a, X, 4, file=1, offset=16)
    c.mmap(a, Y, 4, file=1, offset=16)
    c.write(a, X + 1)
    c.write(a, Y + 1)
    b = c.fork(a)
    c.write(b, Y + 1)
    c.munmap(a, X, 2)


@case()
def family_after_a_move(c: Calls) -> None:
    """Each of a family moves what it shares to a place of its own."""
    root = c.process()
    c.mmap(root, X, 2)
    c.write(root, X, 2)
    family = [root, c.fork(root), c.fork(root)]
    family.append(c.fork(family[1]))
    for i, pid in enumerate(family):
        c.mremap(pid, X, 2, Y + 16 * i, 2)
    c.fork(family[3])


@case()
def members_leave_one_by_one(c: Calls) -> None:
    """Of a family that shares a page one after another unmaps it, drops it, writes it, exits."""
    root = c.process()
    c.mmap(root, X, 4)
    c.write(root, X, 4)
    a, b, d, e = (c.fork(root) for _ in range(4))
    c.munmap(a, X + 1, 1)
    c.madvise(b, X + 1, 1, 4)
    c.write(d, X + 1)
    c.exit(root)
    c.exit(e)
    c.write(a, X)


@case()
def read_only_in_a_child(c: Calls) -> None:
    """A child makes a part of what it shares read-only, which splits its VMA, and undoes it."""
    a = c.process()
    c.mmap(a, X, 6)
    c.write(a, X, 6)
    b = c.fork(a)
    c.mprotect(b, X + 2, 2, READ)
    c.fork(b)
    c.mprotect(b, X + 2, 2, READ | WRITE)
    c.write(b, X + 2)
