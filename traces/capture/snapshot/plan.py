# SPDX-License-Identifier: GPL-2.0-only
"""A history that leads to what is there now: every family begins with its first address space,
which writes what its children are to share, forks them in the order of their birth, and writes or
drops what it has no longer in common with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import polars as pl

from rmapreplay.traces.capture.snapshot import vmas
from rmapreplay.traces.capture.snapshot.origins import Origins
from rmapreplay.traces.capture.snapshot.pages import SWAPPED, ZERO
from rmapreplay.traces.capture.snapshot.rows import PAGE, Content, Row, change, fault
from rmapreplay.traces.capture.snapshot.sharing import Pattern, Share, Sharing, carried
from rmapreplay.traces.capture.snapshot.tree import HEAP_FLAGS, Family, Node, reconstruct
from rmapreplay.traces.capture.snapshot.vmas import Layout, Vma

_PR_SET_THP_DISABLE, _PR_SET_MEMORY_MERGE = 41, 67
_CLONE_VM, _CLONE_THREAD = 0x100, 0x10000
_CLONE_SIGHAND: Final = 0x800
_MADV_GUARD_INSTALL: Final = 102

DROP, WRITE, READ, SWAP_OUT = range(4)
"""What happens to pages in a block."""

# The order of rows within a block.
LAYOUT, PAGES, GUARDS, LATE, TASKS, SWAP, FORK = range(7)


@dataclass
class Plan:
    """Rows of all families: those of layouts and tasks one by one, those of pages as runs.

    Attributes:
        rows: a row, with block, part and pid: its place in the history.
        runs: the same columns and op, start, len, and order (of the folios), per run of pages.
        lost: pages, by reason, whose sharing is not as it was found.
        pids: of each block.
        layouts: of each block: the layout its pages are written in.
    """

    rows: list[Row] = field(default_factory=list)
    runs: list[pl.DataFrame] = field(default_factory=list)
    lost: Counter[str] = field(default_factory=Counter)
    pids: list[int] = field(default_factory=list)
    layouts: list[Layout] = field(default_factory=list)


@dataclass
class _Block:
    """What one address space does until it forks a child, or until now.

    Attributes:
        number: its place in the history.
        child: the child it forks, None: the last block of `node`.
        first: nothing has been done in this address space before.
        lost: ranges whose pages go.
    """

    number: int
    node: Node
    child: Node | None
    first: bool
    lost: list[tuple[int, int]] = field(default_factory=list)


def plan(families: Sequence[Family], sharing: Sharing) -> Plan:
    """The history of all families, one after the other."""
    made = Plan()
    guards = sharing.guards.partition_by("mm", as_dict=True)
    for number, family in enumerate(families):
        runs = sharing.runs.filter(pl.col("family") == number)
        nodes = {node.index: node for node in family.nodes}
        claims = {
            i: carried(sharing.patterns[i], nodes) for i in runs["pattern"].unique().to_list()
        }
        _note_carried(family, nodes, runs, claims)
        reconstruct(family)
        content = sharing.content(number)
        blocks = list(_blocks(family, len(made.pids)))
        now: dict[int, Layout] = {}
        breaks: dict[int, int] = {}
        origins = {family.nodes[0].index: Origins()}
        for block in blocks:
            _layout_rows(made, block, now, breaks, origins, content)
            if block.child is None and (block.node.index,) in guards:
                _guard_rows(made, block, guards[(block.node.index,)])
        _page_runs(made, blocks, runs, sharing.patterns, claims)
    return made


def _note_carried(
    family: Family, nodes: dict[int, Node], runs: pl.DataFrame, claims: dict[int, dict[int, int]]
) -> None:
    """Fill in Node.carried."""
    edges = [(pattern, child) for pattern, by_child in claims.items() for child in by_child]
    if not edges:
        return
    edge = pl.DataFrame(edges, {"pattern": pl.UInt32, "child": pl.UInt32}, orient="row")
    cuts = pl.Series("cut", family.boundaries(), pl.UInt64)
    at = cuts.gather(cuts.search_sorted(runs["start"], "right") - 1)
    pieces = runs.select("pattern", cut=at).unique().join(edge, on="pattern")
    pieces = pieces.select("child", "cut").unique().sort("child", "cut")
    for (child,), rows in pieces.partition_by("child", as_dict=True).items():
        nodes[int(str(child))].carried = rows["cut"].to_list()


def _blocks(family: Family, first: int) -> Iterator[_Block]:
    forks = [(child.parent, child) for child in family.nodes[1:] if child.parent]
    seen: set[int] = set()
    for number, (node, child) in enumerate(
        [*forks, *((node, None) for node in family.nodes)], first
    ):
        yield _Block(number, node, child, node.index not in seen)
        seen.add(node.index)


# ---- layouts and tasks ----


def _layout_rows(
    made: Plan,
    block: _Block,
    now: dict[int, Layout],
    breaks: dict[int, int],
    origins: dict[int, Origins],
    content: Content,
) -> None:
    node, child = block.node, block.child
    owner = node.memory.owner
    made.pids.append(owner.pid)

    def add(part: int, row: Row) -> None:
        made.rows.append({"block": block.number, "part": part, "pid": owner.pid, **row})

    def become(target: Layout) -> None:
        there = now[node.index]
        if there == target:
            return
        changed = change(there, target, content, origins[node.index], node.needs)
        for row in changed.rows:
            add(LAYOUT, row)
        block.lost += changed.lost
        late = {row["addr"] for row in changed.late}
        if child:  # fork copies no locks, so that they can wait until the last block
            target = [_unlocked(vma) if vma.start in late else vma for vma in target]
        else:
            for row in changed.late:
                add(LATE, row)
        now[node.index] = target

    def move_brk(to: int) -> None:
        there, was = now[node.index], breaks[node.index]
        now[node.index] = _move_brk(there, was, to, content, origins[node.index], add)
        breaks[node.index] = to

    if not node.parent and node.index not in now:
        _first_rows(node, add)
        now[node.index], breaks[node.index] = [], owner.start_brk
    if block.first:
        move_brk(node.birth_brk)
        become(node.birth)
    if child:
        become(node.forking[node.children.index(child)])
        row = {"op": "fork", "flags": 0, "child": child.memory.owner.pid}
        add(FORK, {**row, "child_tid": child.memory.owner.pid})
        now[child.index] = vmas.inherited(now[node.index])
        breaks[child.index] = breaks[node.index]
        origins[child.index] = origins[node.index].copy(now[child.index])
    else:
        move_brk(node.brk)
        become(node.layout)
        _last_rows(node, add)
    made.layouts.append(now[node.index])


def _first_rows(node: Node, add: Any) -> None:
    """A new address space with nothing in it: its stack is mapped like all else, as large as it is
    now. Huge pages are off as long as pages are written."""
    owner = node.memory.owner
    add(LAYOUT, {"op": "exec", "path": owner.program})
    add(LAYOUT, {"op": "munmap", "addr": vmas.STACK_TOP_MAX - PAGE, "len": PAGE})
    add(LAYOUT, {"op": "prctl", "flags": _PR_SET_THP_DISABLE, "addr": 1})
    if owner.ksm_merge_any:
        add(LAYOUT, {"op": "prctl", "flags": _PR_SET_MEMORY_MERGE, "addr": 1})
    if owner.start_brk:
        add(LAYOUT, {"op": "brk", "addr": owner.start_brk})


def _move_brk(
    layout: Layout,
    now: int,
    brk: int,
    content: Content,
    origins: Origins,
    add: Any,
) -> Layout:
    """The layout after a brk call. What grows above a heap that fork copied stays apart from it."""
    low, high = sorted((_page_up(now), _page_up(brk)))
    if low == high:
        return layout
    heap = Vma(low, high, HEAP_FLAGS, path="[heap]")
    if brk > now and vmas.overlaps(layout, low, high):
        add(LAYOUT, {"op": "munmap", "addr": low, "len": high - low})
    add(LAYOUT, {"op": "brk", "addr": brk})
    left = list(vmas.subtract(layout, [heap]))
    if brk < now:
        return left
    if faulted := content.any(low, high):
        for row in fault(low):
            add(LAYOUT, row)
    below = vmas.overlaps(left, low - 1, low)
    heap = replace(heap, apart=any(origins.linked(vma) for vma in below))
    origins.mapped(low, high, faulted=faulted)
    return vmas.overlay(left, [heap])


def _unlocked(vma: Vma) -> Vma:
    return replace(vma, flags=vma.flags & ~vmas.LOCKED)


def _page_up(address: int) -> int:
    return -(-address // PAGE) * PAGE


def _last_rows(node: Node, add: Any) -> None:
    """The tasks, and what was off for a while."""
    owner = node.memory.owner
    add(LATE, {"op": "prctl", "flags": _PR_SET_THP_DISABLE, "addr": int(owner.thp_disabled)})
    for user in node.memory.users:
        if user is not owner:
            new = {"child": user.pid, "child_tid": user.pid}
            add(TASKS, {"op": "fork", "flags": _CLONE_VM, **new})
    thread = _CLONE_VM | _CLONE_SIGHAND | _CLONE_THREAD
    for user in node.memory.users:
        for tid in user.tids:
            if tid != user.pid:
                row = {"op": "fork", "flags": thread, "child": user.pid, "child_tid": tid}
                add(TASKS, {**row, "pid": user.pid})
        if user.tids[0] != user.pid:
            add(TASKS, {"op": "exit", "pid": user.pid})


def _guard_rows(made: Plan, block: _Block, guards: pl.DataFrame) -> None:
    for start, length in guards.select("start", "len").iter_rows():
        made.rows.append(
            {
                "block": block.number,
                "part": GUARDS,
                "pid": block.node.memory.owner.pid,
                "op": "madvise",
                "addr": start,
                "len": length,
                "advice": _MADV_GUARD_INSTALL,
            }
        )


# ---- pages ----


def _page_runs(
    made: Plan,
    blocks: list[_Block],
    runs: pl.DataFrame,
    patterns: Sequence[Pattern],
    claims: dict[int, dict[int, int]],
) -> None:
    """What happens to the pages of each pattern, and so to each run."""
    runs, losses = _with_losses(runs, blocks)
    cases = runs.group_by("pattern", "losses").agg(bytes=pl.col("len").sum())
    steps: list[tuple[int, int, int, int, int]] = []
    for pattern, lost, size in cases.iter_rows():
        history = _History(patterns[pattern], claims[pattern], losses[lost])
        for block in blocks:
            history.live(block)
        steps += [(pattern, lost, *step) for step in history.steps]
        for reason, n in history.lost.items():
            made.lost[reason] += n * size // PAGE
    schema = {
        "pattern": pl.UInt32,
        "losses": pl.UInt32,
        "block": pl.UInt32,
        "step": pl.UInt8,
        "order": pl.UInt8,
    }
    table = pl.DataFrame(steps, schema=schema, orient="row")
    if table.height:
        made.runs.append(runs.join(table, on=["pattern", "losses"]).drop("family"))


def _with_losses(
    runs: pl.DataFrame, blocks: list[_Block]
) -> tuple[pl.DataFrame, list[frozenset[int]]]:
    """Runs with `losses`: place in the list of the blocks that each of their pages is lost in."""
    ends = sorted({at for block in blocks for span in block.lost for at in span})
    known: dict[frozenset[int], int] = {frozenset(): 0}
    spans = [(0, 0)]
    for at in ends:
        over = frozenset(
            block.number for block in blocks if any(low <= at < high for low, high in block.lost)
        )
        spans.append((at, known.setdefault(over, len(known))))
    table = pl.DataFrame(spans, {"start": pl.UInt64, "losses": pl.UInt32}, orient="row")
    return runs.sort("start").join_asof(table, on="start", check_sortedness=False), list(known)


class _History:
    """The pages of one pattern through the blocks of a family.

    Attributes:
        steps: (block, step, order of the folio) of what must happen.
        lost: folios that are not shared as the pattern has it, by reason.
    """

    def __init__(self, pattern: Pattern, claims: dict[int, int], losses: frozenset[int]) -> None:
        self.steps: list[tuple[int, int, int]] = []
        self.lost: Counter[str] = Counter()
        self._pattern = pattern
        self._claims = claims
        self._losses = losses
        self._final = {member: i for i, share in enumerate(pattern) for member in share.members}
        self._held: dict[int, int] = {}  # by member: a folio
        self._folio: dict[int, int] = {}  # by share: the folio that it is
        self._folios = 0

    def live(self, block: _Block) -> None:
        """One block."""
        index = block.node.index
        if block.number in self._losses:
            self._held.pop(index, None)
        if block.child is None:
            self._end(block)
            return
        child = block.child.index
        if (wanted := self._claims.get(child)) is not None:
            self._have(block, wanted)
        if index in self._held:
            self._held[child] = self._held[index]

    def _end(self, block: _Block) -> None:
        wanted = self._final.get(block.node.index)
        share = None if wanted is None else self._pattern[wanted]
        if share is None or share.kind == ZERO:
            if block.node.index in self._held:
                self._step(block, DROP)
            if share:
                self._step(block, READ)
            return
        assert wanted is not None
        self._have(block, wanted)
        if share.kind == SWAPPED:
            self._step(block, SWAP_OUT)

    def _have(self, block: _Block, wanted: int) -> None:
        """The folio of a share is held by the block's address space from here on."""
        index, share = block.node.index, self._pattern[wanted]
        if wanted in self._folio and self._held.get(index) == self._folio[wanted]:
            return
        if wanted in self._folio:
            self.lost["sharing_not_expressed"] += 1
        if share.order and index in self._held:
            self._step(block, DROP)
        self._step(block, WRITE, share)
        self._folios += 1
        self._held[index] = self._folios
        self._folio.setdefault(wanted, self._folios)

    def _step(self, block: _Block, step: int, share: Share | None = None) -> None:
        self.steps.append((block.number, step, share.order if share else 0))
