# SPDX-License-Identifier: GPL-2.0-only
"""The six holes that the proof of concept of cow-context has, each by itself: none of these
scenarios goes through another one's situation."""

from __future__ import annotations

from rmapreplay.testing.calls import Calls
from rmapreplay.testing.scenarios.case import Cases, X, Y, Z

case = Cases("hole")


@case()
def _1_exclusive_and_displaced(c: Calls) -> None:
    """A page that one process alone maps was moved: it is not where its index says."""
    a = c.process()
    c.mmap(a, X, 1)
    c.write(a, X)
    c.mremap(a, X, 1, Y, 1)


@case()
def _2_exclusive_at_an_ancestor(c: Calls) -> None:
    """The parent unmaps a page that its child still maps, and lives on: the child's page is at home
    with the parent."""
    a = c.process()
    c.mmap(a, X, 1)
    c.write(a, X)
    c.fork(a)
    c.munmap(a, X, 1)


@case()
def _3_shared_page_swapped_in(c: Calls) -> None:
    """The child is the first to have a shared page read from swap; then its parent maps it too."""
    a = c.process()
    c.mmap(a, X, 1)
    c.write(a, X)
    b = c.fork(a)
    c.swap_out(b, X)  # first, or for a moment it has what is at home with its parent
    c.swap_out(a, X)
    c.read(b, X)
    c.read(a, X)


@case()
def _4_walk_while_fork_copies(c: Calls) -> None:
    """A page is looked for when fork has copied its entry and has more to copy."""
    a = c.process()
    c.mmap(a, X, 1)
    c.mmap(a, Y, 1)
    c.write(a, X)
    c.write(a, Y)
    c.begin_fork(a, Y)
    c.go_on_forking(a, Y)
    c.end_fork(a)


@case()
def _5_a_smaller_displacement(c: Calls) -> None:
    """Two mappings of the same offsets were moved, the second one less far than the first, and what
    was moved first is shared."""
    a = c.process()
    c.mmap(a, X, 1)
    c.write(a, X)
    c.fork(a)
    c.mremap(a, X, 1, Z, 1)
    c.mmap(a, X, 1)
    c.write(a, X)
    c.fork(a)
    c.mremap(a, X, 1, Y, 1)


@case()
def _6_a_part_is_moved(c: Calls) -> None:
    """The middle of a shared mapping is moved."""
    a = c.process()
    c.mmap(a, X, 8)
    c.write(a, X, 8)
    c.fork(a)
    c.mremap(a, X + 3, 2, Y, 2)
