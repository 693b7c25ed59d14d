# SPDX-License-Identifier: GPL-2.0-only
"""Makes a trace that shows something as short as it can be and still show it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")

FEW = 30
"""Rows of which it is tried to leave out any two, such as a fork and the child's exit."""


def shrink(
    rows: Sequence[T],
    shows: Callable[[list[T]], bool],
    seconds: float,
    *,
    keep_last: bool = True,
) -> list[T]:
    """Leaves out rows, first many at a time, then one by one, as long as `shows` says of the rest
    that it still does. Ends when no row can go, or the time is over."""
    deadline = time.monotonic() + seconds
    end = len(rows) - 1 if keep_last else len(rows)
    kept, last = list(rows[:end]), list(rows[end:])
    size = max(1, len(kept) // 2)
    while True:
        before = len(kept)
        # From the end: what comes later needs what came before, seldom the other way round.
        at = len(kept)
        while at > 0:
            if time.monotonic() > deadline:
                return kept + last
            start = max(0, at - size)
            rest = kept[:start] + kept[at:]
            if shows(rest + last):
                kept = rest
            at = start
        done = size == 1 and len(kept) == before
        if done and (len(kept) > FEW or not _without_two(kept, last, shows, deadline)):
            return kept + last
        size = max(1, size // 2)


def _without_two(
    kept: list[T], last: list[T], shows: Callable[[list[T]], bool], deadline: float
) -> bool:
    """Takes two rows out of `kept` that are not needed; says whether there were any."""
    for late in range(len(kept) - 1, 0, -1):
        for early in range(late - 1, -1, -1):
            if time.monotonic() > deadline:
                return False
            rest = kept[:early] + kept[early + 1 : late] + kept[late + 1 :]
            if shows(rest + last):
                kept[:] = rest
                return True
    return False
