# SPDX-License-Identifier: GPL-2.0-only
"""One thing in which kernel and model differ."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Item = dict[str, Any]
"""One line of one side: a VMA, a visit or a count, by names."""


@dataclass(frozen=True)
class Disagreement:
    """One thing in which kernel and model differ.

    Attributes:
        row: the row of the trace after which it shows; None: cannot be told.
        what: walk, report, snapshot, links, live, or counts.
        category: how it differs.
        text: the same in words.
        pid: the process concerned, if it is one.
        area: the addresses concerned, from and to.
        expected, got: the kernel's side and the model's, in order.
        cause: the row that is likely to have led to it; None: `row` itself.
    """

    row: int | None
    what: str
    category: str
    text: str
    pid: int | None = None
    area: tuple[int, int] | None = None
    expected: list[Item] = field(default_factory=list)
    got: list[Item] = field(default_factory=list)
    cause: int | None = None
