# SPDX-License-Identifier: GPL-2.0-only
"""Makes a trace that shows something as short as it can be and still show it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TypeVar

T = TypeVar("T")


def shrink(rows: Sequence[T], shows: Callable[[list[T]], bool], seconds: float) -> list[T]:
    """Leaves out rows, first many at a time, then one by one, as long as `shows` says of the rest
    that it still does; the last row stays. Ends when no row can go, or the time is over."""
    deadline = time.monotonic() + seconds
    kept, last = list(rows[:-1]), list(rows[-1:])
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
        if size == 1 and len(kept) == before:
            return kept + last
        size = max(1, size // 2)
