# SPDX-License-Identifier: GPL-2.0-only
"""The questions that the mailing list raised about cow-context."""

from __future__ import annotations

from rmapreplay.testing.calls import Calls
from rmapreplay.testing.scenarios.case import Cases, X

case = Cases("question")


@case()
def a_something_new_at_the_same_place(c: Calls) -> None:
    """A child unmaps X and maps new memory there, without and then with a third process that shares
    what the parent has at X."""
    a = c.process()
    c.mmap(a, X, 1)
    c.write(a, X)
    for sharers in (0, 1):
        b = c.fork(a)
        for _ in range(sharers):
            c.fork(a)
        c.munmap(b, X, 1)
        c.mmap(b, X, 1)
        c.write(b, X)


@case()
def b_the_parent_gives_up_the_page(c: Calls) -> None:
    """The parent unmaps X; the child has it alone, and some time later writes to it."""
    a = c.process()
    c.mmap(a, X, 1)
    c.write(a, X)
    b = c.fork(a)
    c.munmap(a, X, 1)
    c.write(b, X)


@case()
def c_each_child_keeps_one_mapping(c: Calls) -> None:
    """A process makes many VMAs and forks as many children; child k keeps VMA k alone."""
    n = 8
    a = c.process()
    for i in range(n):
        c.mmap(a, X + 2 * i, 1)
        c.write(a, X + 2 * i)
    for k in range(n):
        child = c.fork(a)
        for i in range(n):
            if i != k:
                c.munmap(child, X + 2 * i, 1)


@case()
def d_fork_and_exit_in_turn(c: Calls) -> None:
    """Fork, the parent exits, the child forks, its parent exits, and so on."""
    at = c.process()
    c.mmap(at, X, 2)
    c.write(at, X, 2)
    for generation in range(12):
        child = c.fork(at)
        c.exit(at)
        if generation % 4 == 1:
            c.write(child, X)
        at = child


@case()
def e_the_middle_goes_first(c: Calls) -> None:
    """Of three generations that share a page the middle one exits, then the youngest; what they
    kept alive must go, and what the eldest needs must stay."""
    a = c.process()
    c.mmap(a, X, 1)
    c.write(a, X)
    b = c.fork(a)
    d = c.fork(b)
    e = c.fork(d)
    c.exit(b)
    c.exit(d)
    c.write(a, X)
    c.exit(e)
