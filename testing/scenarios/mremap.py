# SPDX-License-Identifier: GPL-2.0-only
"""Mappings that move and change their size (the situations of selftests/mm/mremap_test.c)."""

from __future__ import annotations

from rmapreplay.testing.calls import MREMAP_DONTUNMAP, MREMAP_MAYMOVE, Calls
from rmapreplay.testing.naive import READ, WRITE
from rmapreplay.testing.scenarios.case import Cases, X, Y, Z

case = Cases("mremap")
KEEP = MREMAP_MAYMOVE | MREMAP_DONTUNMAP
MB2 = 512  # pages


@case()
def away_and_on(c: Calls) -> None:
    """A mapping is moved twice; children of each place share its pages."""
    a = c.process()
    c.mmap(a, X, 3)
    c.write(a, X, 3)
    for source, to in ((X, Y), (Y, Z)):
        c.mremap(a, source, 3, to, 3)
        c.fork(a)
    c.write(a, Z + 1)


@case()
def over_something_else(c: Calls) -> None:
    """MREMAP_FIXED onto what is mapped and shared: that goes, in one process only."""
    a = c.process()
    c.mmap(a, X, 2)
    c.mmap(a, Y, 4)
    c.write(a, X, 2)
    c.write(a, Y, 4)
    b = c.fork(a)
    c.mremap(b, X, 2, Y + 1, 2)
    c.mremap(a, Y + 1, 2, X, 2)


@case()
def across_two_megabytes(c: Calls) -> None:
    """Source and destination lie differently on boundaries of 2 MB."""
    a = c.process()
    c.mmap(a, X + MB2 - 2, 4)
    c.write(a, X + MB2 - 2, 4)
    b = c.fork(a)
    c.mremap(a, X + MB2 - 2, 4, Y + 1, 4)
    c.mremap(b, X + MB2 - 1, 3, Y + 2 * MB2 - 1, 3)


@case()
def grown_over_free_space(c: Calls) -> None:
    """A mapping is expanded in place, up to its neighbour, and joins it."""
    a = c.process()
    c.mmap(a, X, 6)
    c.write(a, X, 6)
    c.munmap(a, X + 2, 2)
    c.mremap(a, X, 2, X, 4)
    c.write(a, X + 2, 2)
    c.fork(a)


@case()
def grown_in_a_child(c: Calls) -> None:
    """A child expands what it inherited, in place, and then by moving it."""
    a = c.process()
    c.mmap(a, X, 2)
    c.write(a, X, 2)
    b = c.fork(a)
    c.mremap(b, X, 2, X, 3)
    c.write(b, X + 2)
    c.mremap(b, X, 3, Y, 5)
    c.write(b, Y + 3)
    c.fork(b)


@case()
def its_end_is_grown(c: Calls) -> None:
    """Only the last part of a mapping is expanded, by moving it elsewhere."""
    a = c.process()
    c.mmap(a, X, 4)
    c.write(a, X, 4)
    c.fork(a)
    c.mremap(a, X + 2, 2, Y, 4)
    c.write(a, Y, 4)


@case()
def shrunk(c: Calls) -> None:
    """A shared mapping is shrunk in place, and while it moves."""
    a = c.process()
    c.mmap(a, X, 6)
    c.write(a, X, 6)
    b = c.fork(a)
    c.mremap(a, X, 6, X, 4, 0)
    c.mremap(b, X, 6, Y, 2)
    c.write(b, Y)


@case()
def shrunk_over_several(c: Calls) -> None:
    """What is cut off by shrinking spans several VMAs."""
    a = c.process()
    c.mmap(a, X, 6)
    c.write(a, X, 6)
    c.fork(a)
    c.mprotect(a, X + 3, 1, READ)
    c.munmap(a, X + 5, 1)
    c.mremap(a, X, 5, X, 2, 0)


@case()
def within_its_own_range(c: Calls) -> None:
    """A part is moved over another part of the same mapping."""
    a = c.process()
    c.mmap(a, X, 8)
    c.write(a, X, 8)
    b = c.fork(a)
    c.mremap(a, X, 2, X + 5, 2)
    c.mremap(b, X + 4, 3, X + 1, 3)
    c.write(b, X + 2)


@case(kernels=("7.3", "6.18"))
def several_vmas_at_once(c: Calls) -> None:
    """A move of equal length takes several VMAs, faulted and not, each at its distance."""
    a = c.process()
    c.mmap(a, X, 8)
    c.write(a, X, 2)
    c.mprotect(a, X + 2, 2, READ)
    c.mprotect(a, X + 6, 2, READ)
    c.write(a, X + 4, 2)
    b = c.fork(a)
    c.mremap(a, X, 8, Y, 8)
    c.mremap(b, X + 1, 6, Z, 6)
    c.write(b, Z + 3, 2)


@case()
def source_stays(c: Calls) -> None:
    """MREMAP_DONTUNMAP: the pages go, the mapping stays and is written again; in a child too."""
    a = c.process()
    c.mmap(a, X, 4)
    c.write(a, X, 4)
    b = c.fork(a)
    c.mremap(a, X, 4, Y, 4, KEEP)
    c.write(a, X, 2)
    c.mremap(b, X + 1, 2, Z, 2, KEEP)
    c.write(b, X + 1)
    c.fork(b)


@case()
def source_stays_and_follows(c: Calls) -> None:
    """After MREMAP_DONTUNMAP the empty source is written and then moved beside what went before."""
    a = c.process()
    c.mmap(a, X, 2)
    c.write(a, X, 2)
    c.mremap(a, X, 2, Y, 2, KEEP)
    c.write(a, X, 2)
    c.mremap(a, X, 2, Y + 2, 2)
    c.fork(a)


@case()
def private_file_mapping(c: Calls) -> None:
    """Written pages of a private file mapping move, some of them shared."""
    a = c.process()
    c.mmap(a, X, 6, file=1, offset=8)
    c.write(a, X + 1, 3)
    c.fork(a)
    c.mremap(a, X, 6, Y, 6)
    c.mmap(a, X, 6, file=1, offset=8)
    c.write(a, X + 1)
    c.mremap(a, X + 1, 2, Z, 2)
    c.fork(a)


@case()
def many_places_of_one_offset(c: Calls) -> None:
    """The same addresses are mapped, written and moved away again and again, down and up."""
    a = c.process()
    for i in (3, 1, 4, 2, 5):
        c.mmap(a, X, 2)
        c.write(a, X, 2)
        c.mremap(a, X, 2, Y + 16 * i, 2)
    b = c.fork(a)
    c.munmap(a, Y + 16, 2)
    c.mremap(b, Y + 32, 2, X, 2)
    c.mprotect(b, Y + 48, 1, READ)
    c.mprotect(b, Y + 48, 1, READ | WRITE)
    c.fork(b)
