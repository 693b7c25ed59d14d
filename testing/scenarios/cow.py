# SPDX-License-Identifier: GPL-2.0-only
"""Copy on write (the situations of selftests/mm/cow.c that show in what maps what)."""

from __future__ import annotations

from rmapreplay.testing.calls import DONTNEED, Calls
from rmapreplay.testing.naive import READ, WRITE
from rmapreplay.testing.scenarios.case import Cases, X, Y

case = Cases("cow")


@case()
def in_the_child(c: Calls) -> None:
    """The child writes to a shared page, and shares its copy with a child of its own."""
    a = c.process()
    c.mmap(a, X, 1)
    c.write(a, X)
    b = c.fork(a)
    c.write(b, X)
    d = c.fork(b)
    c.write(d, X)


@case()
def in_the_parent(c: Calls) -> None:
    """The parent writes to a shared page: the old page is the child's alone, the copy its own."""
    a = c.process()
    c.mmap(a, X, 1)
    c.write(a, X)
    b = c.fork(a)
    c.write(a, X)
    c.write(b, X)


@case()
def protected_and_released(c: Calls) -> None:
    """Before parent and child write, mprotect takes the right away and gives it back."""
    a = c.process()
    c.mmap(a, X, 2)
    c.write(a, X, 2)
    b = c.fork(a)
    for pid in (a, b):
        c.mprotect(pid, X, 2, READ)
        c.mprotect(pid, X, 2, READ | WRITE)
    c.write(a, X)
    c.write(b, X + 1)


@case()
def unmapped_in_the_child_then_in_the_parent(c: Calls) -> None:
    """A shared page is given up by one side, then by the other."""
    a = c.process()
    c.mmap(a, X, 2)
    c.write(a, X, 2)
    b = c.fork(a)
    c.munmap(b, X, 1)
    c.write(a, X)
    c.munmap(a, X + 1, 1)
    c.write(b, X + 1)


@case()
def reused_after_the_sharers_are_gone(c: Calls) -> None:
    """The last process that maps a page takes it over by a write, and then shares it anew."""
    a = c.process()
    c.mmap(a, X, 1)
    c.write(a, X)
    b = c.fork(a)
    d = c.fork(b)
    c.exit(a)
    c.exit(b)
    c.write(d, X)
    c.fork(d)


@case()
def of_a_private_file_page(c: Calls) -> None:
    """The private copy of a file's page is copied again in the child."""
    a = c.process()
    c.mmap(a, X, 3, file=1, offset=4)
    c.write(a, X + 1)
    b = c.fork(a)
    c.write(b, X + 1)
    c.write(b, X + 2)
    c.fork(b)


@case()
def partly_shared(c: Calls) -> None:
    """The child keeps the lower or the upper half of what was shared, and both write to theirs."""
    a = c.process()
    c.mmap(a, X, 4)
    c.write(a, X, 4)
    lower, upper = c.fork(a), c.fork(a)
    c.munmap(lower, X + 2, 2)
    c.madvise(upper, X, 2, DONTNEED)
    c.write(lower, X)
    c.write(a, X + 3)
    c.write(upper, X, 4)


@case()
def moved_then_copied(c: Calls) -> None:
    """One half of a shared mapping is moved, and written at the new place and at the old."""
    a = c.process()
    c.mmap(a, X, 4)
    c.write(a, X, 4)
    b = c.fork(a)
    c.mremap(b, X + 2, 2, Y, 2)
    c.write(b, Y)
    c.write(a, X + 2)
    c.write(b, X)
