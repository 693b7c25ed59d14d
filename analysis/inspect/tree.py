# SPDX-License-Identifier: GPL-2.0-only
"""Lines in lines: what explain and inspect have to say, for a terminal to draw as a tree."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from typing import Final

WIDTH: Final = 100


@dataclass
class Branch:
    """A line, and those that belong to it.

    Attributes:
        text: the line.
        style: how a terminal shows it, as rich names styles.
        below: the lines that belong to it, in order.
    """

    text: str
    style: str = ""
    below: list[Branch] = field(default_factory=list)

    def add(self, text: str, style: str = "") -> Branch:
        """A further line below; returns it."""
        self.below.append(Branch(text, style))
        return self.below[-1]

    def plain(self, depth: int = 0) -> str:
        """All of it as text, two spaces deeper per level, in lines of up to WIDTH columns where
        words allow."""
        margin = "  " * depth
        own = textwrap.fill(
            self.text,
            max(WIDTH, len(margin) + WIDTH // 2),
            initial_indent=margin,
            subsequent_indent=f"{margin}    ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        return "\n".join([own, *(branch.plain(depth + 1) for branch in self.below)])


def count(n: int, what: str) -> str:
    """`1 VMA`, `1,234 VMAs`."""
    if n == 1:
        return f"1 {what}"
    if what.endswith("y"):
        return f"{n:,} {what[:-1]}ies"
    return f"{n:,} {what}" + ("es" if what.endswith("ss") else "s")
