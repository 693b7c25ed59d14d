# SPDX-License-Identifier: GPL-2.0-only
"""Who was forked from whom, and what address spaces looked like when that happened, as far as what
is there now tells.

Address spaces that came from one exec by fork form a family. What a child has and could not have
made itself its parent had when it forked: layouts are derived from the youngest back to the first.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import pairwise
from typing import Final

from rmapreplay.traces.capture.snapshot import vmas
from rmapreplay.traces.capture.snapshot.proc import Image, Memory
from rmapreplay.traces.capture.snapshot.vmas import Layout, Vma, overlaps, same_object

_PAGE: Final = 4096
HEAP_FLAGS: Final = 0x100073
"""VM_READ, WRITE, MAYREAD, MAYWRITE, MAYEXEC, ACCOUNT: as brk maps it."""


@dataclass(eq=False)
class Node:
    """An address space in its family.

    Attributes:
        index: its place in the list of all.
        memory: what /proc says of it.
        layout: what it has mapped.
        parent: who forked it, None for the first of a family.
        children: in the order in which they were forked.
        carried: addresses from which on, up to the next boundary of a VMA, it has pages that it
            got from its parent; ascending.
        birth: its layout when it was made.
        forking: its layout at each of its forks.
        brk, birth_brk: its break, now and then.
    """

    index: int
    memory: Memory
    layout: Layout
    parent: Node | None = None
    children: list[Node] = field(default_factory=list)
    carried: list[int] = field(default_factory=list)
    birth: Layout = field(default_factory=list)
    forking: list[Layout] = field(default_factory=list)
    brk: int = 0
    birth_brk: int = 0

    def __post_init__(self) -> None:
        heap = [vma.end for vma in self.layout if vma.path == "[heap]"]
        self.brk = self.birth_brk = max(heap, default=self.memory.owner.start_brk)

    def carries(self, vma: Vma) -> bool:
        """Whether it got any page of this VMA from its parent."""
        i = bisect_left(self.carried, vma.start)
        return i < len(self.carried) and self.carried[i] < vma.end

    def needs(self, vma: Vma) -> bool:
        """Whether it, or a child of it, got any page of this VMA from its parent."""
        return any(node.carries(vma) for node in (self, *self.children))

    def ancestry(self) -> Iterator[Node]:
        """Itself, its parent, and so on."""
        node: Node | None = self
        while node:
            yield node
            node = node.parent


@dataclass
class Family:
    """Address spaces that came from one exec.

    Attributes:
        nodes: in order of birth: every parent before its children.
        orphans: nodes whose parent is not there, and that were given the oldest of the family.
    """

    nodes: list[Node]
    orphans: int = 0

    def boundaries(self) -> list[int]:
        """Where VMAs of any of them begin or end, ascending."""
        return sorted(
            {at for node in self.nodes for vma in node.layout for at in (vma.start, vma.end)}
        )


def families(
    memories: list[Memory], layouts: list[Layout], sharing: Collection[int]
) -> list[Family]:
    """Sort address spaces, oldest first, into families. `sharing`: those that share any page with
    another of the same image; without address space randomization the image proves nothing."""
    by_image: dict[tuple[Image, int], list[Node]] = {}
    for i, (memory, layout) in enumerate(zip(memories, layouts, strict=True)):
        owner = memory.owner
        alone = 0 if owner.randomized or i in sharing else i + 1
        by_image.setdefault((owner.image, alone), []).append(Node(i, memory, layout))
    return [_family(nodes) for nodes in by_image.values()]


def _family(nodes: list[Node]) -> Family:
    """The oldest is the first; others descend from the nearest that their process descends from."""
    by_pid = {user.pid: node for node in nodes for user in node.memory.users}
    orphans = 0
    for node in nodes[1:]:
        parent = by_pid.get(node.memory.owner.parent)
        if parent is None or node in parent.ancestry():
            parent = nodes[0]
            orphans += 1
        node.parent = parent
        parent.children.append(node)
    # Clock ticks are coarse, and process numbers begin anew.
    ready = [(_age(nodes[0]), 0)]
    place = {node.index: i for i, node in enumerate(nodes)}
    ordered = []
    heapify(ready)
    while ready:
        node = nodes[heappop(ready)[1]]
        ordered.append(node)
        node.children.sort(key=_age)
        for child in node.children:
            heappush(ready, (_age(child), place[child.index]))
    return Family(ordered, orphans)


def _age(node: Node) -> tuple[int, int]:
    return node.memory.owner.start, node.memory.owner.pid


def reconstruct(family: Family) -> None:
    """Fill in birth and forking of all nodes, whose `carried` is known."""
    for node in reversed(family.nodes):
        got = [_inheritable(child, node) for child in node.children]
        base = node.layout
        for part in got:
            base = vmas.overlay(part, base)
        for part, child in zip(got, node.children, strict=True):
            then = _coarser(base, part, child)
            later = _grown_later(child, then, (node, *node.children))
            node.forking.append(list(vmas.subtract(then, later)))
        node.birth = _coarser(node.layout, node.forking[0], node) if got else node.layout
        for part, child in zip(got, node.children, strict=True):
            end = child.birth_brk
            if end > node.birth_brk and overlaps(part, end - 1, end):
                node.birth_brk = end


def _inheritable(child: Node, parent: Node) -> Layout:
    """What of a child's first layout was its parent's: where its pages came from, and what both
    have. A part that the kernel kept apart, as it does with what is added to a copied VMA, is so
    only if the parent has it just so."""
    kept = []
    for vma, high in zip(child.birth, [*child.birth[1:], None], strict=True):
        if vma.flags & vmas.VM_DONTCOPY:
            continue
        common = [
            low for low in overlaps(parent.layout, vma.start, vma.end) if same_object(low, vma)
        ]
        if vma.apart:
            common = [low for low in common if low.apart and low.start == vma.start]
        added = high and high.apart and child.carries(high) and not parent.needs(vma)
        if added and high and _spanning(parent.layout, high.start):
            common = []
        if common or child.carries(vma):
            kept.append(vma)
    return kept


def _grown_later(child: Node, layout: Layout, others: Sequence[Node]) -> Layout:
    """What a parent cannot have had when it forked a child. What the child added below a VMA that
    it has from its parent the kernel keeps apart from that; what the parent added there merged, and
    so was added later, unless one of the others got pages of it."""
    later = []
    for low, high in pairwise(child.birth):
        whole = _spanning(layout, high.start) if high.apart else None
        if whole and child.carries(high) and not child.carries(low):
            side = whole.part(whole.start, high.start)
            if not any(node.carries(side) for node in others):
                later.append(side)
    return sorted(later, key=lambda vma: vma.start)


def _spanning(layout: Layout, address: int) -> Vma | None:
    """The VMA that lies on both sides of an address."""
    there = overlaps(layout, address - 1, address + 1)
    return there[0] if len(there) == 1 and there[0].start < address < there[0].end else None


def _coarser(base: Layout, other: Layout, node: Node) -> Layout:
    """A layout, with VMAs of another where those are larger: a VMA is split at any time, but hardly
    ever are two that were copied merged. And with those whose pages had to be there for `node`."""
    above = []
    for i, vma in enumerate(other):
        there = overlaps(base, vma.start, vma.end)
        same = all(same_object(low, vma) for low in there)
        within = len(there) == 1 and there[0].start <= vma.start and vma.end <= there[0].end
        parted = vma.apart and node.carries(vma) and i > 0 and node.carries(other[i - 1])
        parted = parted and all(low.start != vma.start for low in there)
        if not there or (same and (parted or not within)) or (not same and node.carries(vma)):
            above.append(vma)
    return vmas.overlay(base, above)
