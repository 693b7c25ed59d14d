# SPDX-License-Identifier: GPL-2.0-only
"""Folios larger than a page. The naive truth does not know of them: the machine recounts itself."""

from __future__ import annotations

from rmapreplay.testing.calls import DONTNEED, MAP_FIXED, Calls
from rmapreplay.testing.naive import READ
from rmapreplay.testing.scenarios.case import Cases, X, Y

case = Cases("large")
HUGE = 512
THP = {"metadata": {"thp": {"enabled": "always", "use_zero_page": True}}, "truth": False}
MTHP = {"metadata": {"fault_orders": True}, "truth": False}


@case(**THP)
def huge_page_shared(c: Calls) -> None:
    """A huge page is shared by fork, and copied in part by parent and child."""
    a = c.process()
    c.mmap(a, X, HUGE)
    c.write(a, X)
    b = c.fork(a)
    c.write(b, X + 7)
    c.fork(b)
    c.write(a, X + 9)


@case(**THP)
def huge_page_partly_unmapped(c: Calls) -> None:
    """Child and parent give up different parts of a huge page."""
    a = c.process()
    c.mmap(a, X, HUGE)
    c.write(a, X)
    b = c.fork(a)
    c.munmap(b, X, 500)
    c.madvise(a, X + 8, HUGE - 8, DONTNEED)
    c.write(a, X)
    c.exit(b)


@case(**THP)
def huge_page_split_by_protection(c: Calls) -> None:
    """The VMA of a huge page is split in the child; its parts are inherited and moved."""
    a = c.process()
    c.mmap(a, X, HUGE)
    c.write(a, X)
    b = c.fork(a)
    c.mprotect(b, X + 256, 128, READ)
    c.fork(b)
    c.munmap(a, X, HUGE - 4)


@case(**THP)
def huge_page_moved(c: Calls) -> None:
    """A huge page is moved whole, and in the child by a page: its parts map it one by one."""
    a = c.process()
    c.mmap(a, X, HUGE)
    c.write(a, X)
    b = c.fork(a)
    c.mremap(a, X, HUGE, Y + HUGE, HUGE)
    c.mremap(b, X + 506, 6, Y + 1, 6)
    c.fork(a)
    c.munmap(b, X, 500)


@case(**MTHP)
def folio_of_16_pages(c: Calls) -> None:
    """A folio of 16 pages is shared, and copied, unmapped and moved in parts."""
    a = c.process()
    c.mmap(a, X, 64)
    c.write_large(a, X + 16, 4)
    c.write_large(a, X + 32, 4)
    b = c.fork(a)
    c.write(b, X + 18)
    c.munmap(a, X + 20, 4)
    c.mremap(b, X + 24, 4, Y, 4)
    d = c.fork(b)
    c.exit(a)
    c.write(d, X + 16)


@case(**MTHP)
def folio_across_two_vmas(c: Calls) -> None:
    """A folio of 16 pages lies in two VMAs of its process, and of its child."""
    a = c.process()
    c.mmap(a, X, 64)
    c.write_large(a, X + 16, 4)
    c.mprotect(a, X + 24, 40, READ)
    b = c.fork(a)
    c.munmap(b, X, 20)
    c.mmap(a, X + 22, 4, flags=MAP_FIXED)
    c.write(a, X + 22)


@case(**MTHP)
def folio_moved_over_itself(c: Calls) -> None:
    """Pages of a folio are moved so that their old offsets and new addresses overlap."""
    a = c.process()
    c.mmap(a, X, 32)
    c.write_large(a, X, 4)
    c.fork(a)
    c.mremap(a, X, 4, X + 18, 4)
    c.mremap(a, X + 9, 6, X + 1, 6)
    c.write(a, X + 5)
    c.fork(a)
