# SPDX-License-Identifier: GPL-2.0-only
"""Which VMAs of an address space share an anon_vma, and which have links that fork made: whether
two of them can ever merge."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from rmapreplay.traces.capture.snapshot import vmas
from rmapreplay.traces.capture.snapshot.vmas import Layout, Vma


@dataclass(frozen=True)
class Piece:
    """A range of addresses that was mapped, or copied by fork, in one piece: it has one anon_vma
    however it is split.

    Attributes:
        start, end: the range.
        copied: fork copied it.
        faulted: it has an anon_vma. What will ever hold a page is faulted as soon as it is mapped.
    """

    start: int
    end: int
    copied: bool
    faulted: bool


@dataclass
class Origins:
    """Where the VMAs of an address space came from, by address."""

    pieces: list[Piece] = field(default_factory=list)

    def copy(self, layout: Layout) -> Origins:
        """Those of a child that fork gives this layout."""
        wipe = vmas.VM_WIPEONFORK
        return Origins(
            [
                Piece(vma.start, vma.end, True, self.faulted(vma) and not vma.flags & wipe)
                for vma in layout
            ]
        )

    def mapped(self, start: int, end: int, *, faulted: bool) -> None:
        """A new piece, in place of what was there."""
        i = bisect_right(self.pieces, start, key=lambda piece: piece.end)
        j = bisect_left(self.pieces, end, key=lambda piece: piece.start)
        ends = [old for old in self.pieces[i:j][:1] if old.start < start]
        rests = [old for old in self.pieces[i:j][-1:] if old.end > end]
        self.pieces[i:j] = [
            *(replace(old, end=start) for old in ends),
            Piece(start, end, False, faulted),
            *(replace(old, start=end) for old in rests),
        ]

    def shares(self, low: Vma, high: Vma) -> None:
        """The anon_vma of two neighbours is the same."""
        i = bisect_right(self.pieces, low.start, key=lambda piece: piece.end)
        j = bisect_right(self.pieces, high.start, key=lambda piece: piece.end)
        both = replace(self.pieces[i], end=self.pieces[j].end)
        self.pieces[i : j + 1] = [both]

    def one(self, vma: Vma) -> bool:
        """Whether all of a VMA came in one piece."""
        return any(old.start <= vma.start and vma.end <= old.end for old in self._over(vma))

    def faulted(self, vma: Vma) -> bool:
        """Whether it has an anon_vma."""
        return any(old.faulted for old in self._over(vma))

    def linked(self, vma: Vma) -> bool:
        """Whether it has links that fork made (vma_is_fork_child())."""
        return any(old.faulted and old.copied for old in self._over(vma))

    def _over(self, vma: Vma) -> Iterator[Piece]:
        i = bisect_right(self.pieces, vma.start, key=lambda piece: piece.end)
        while i < len(self.pieces) and self.pieces[i].start < vma.end:
            yield self.pieces[i]
            i += 1
