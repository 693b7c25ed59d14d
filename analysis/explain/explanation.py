# SPDX-License-Identifier: GPL-2.0-only
"""One walk told step by step: who maps the folio, and which VMAs the model went to, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rmapreplay.analysis.explain import reasons
from rmapreplay.analysis.explain.difference import difference
from rmapreplay.analysis.inspect.history import Wanted, event, last_touches
from rmapreplay.analysis.inspect.moment import PAGE, Mm, Moment, Vma
from rmapreplay.replay import DEFAULT_WALKS
from rmapreplay.replay.engine import check_walks, labels_of
from rmapreplay.replay.specs import ModelSpec
from rmapreplay.traces.errors import RmapReplayError

if TYPE_CHECKING:
    from rmapreplay.replay.engine import Progress
    from rmapreplay.traces.reader import Trace

Counts = dict[str, int]


@dataclass(frozen=True)
class Process:
    """An address space on the fork tree of a walk.

    Attributes:
        mm: the address space.
        addresses: where it maps the folio; of a PMD the first page.
        found: how many of these the walk found.
        visits: how many of its VMAs the walk visited.
        in_vain: how many of those without finding the folio.
    """

    mm: Mm
    addresses: list[int]
    found: int
    visits: int
    in_vain: int

    def to_dict(self) -> dict[str, Any]:
        return {**self.mm.to_dict(), **{k: v for k, v in self.__dict__.items() if k != "mm"}}


@dataclass(frozen=True)
class Visit:
    """A VMA that the walk was offered.

    Attributes:
        visit: its number, from 0, as in the table `visits`.
        mm, vma: whose it is, and what.
        addr: the first address tested, in bytes.
        pages: how many pages from there: more than one only of a large folio.
        hits: entries found.
        result: hit, empty (nothing of the range is mapped there) or other (another folio is).
        seen: what the page at `addr` holds, or the first page that holds another folio.
        reason: why it was useless, as far as the state and the trace show; "" for a hit.
        because: a word for that, the same for like visits (docs/explain.md).
        row: the row of the trace that `reason` names, or None.
        spent: what the model has counted since the visit before, by counter.
        levels: page tables descended.
    """

    visit: int
    mm: Mm
    vma: Vma
    addr: int
    pages: int
    hits: int
    result: str
    seen: Mapping[str, Any]
    reason: str
    because: str
    row: int | None
    spent: Counts
    levels: int

    def to_dict(self) -> dict[str, Any]:
        vma = {k: v for k, v in self.vma.to_dict().items() if k not in ("mm", "chain", "home")}
        whose = {"mm": self.mm.mm, "pid": self.mm.pid, "comm": self.mm.comm, "vma": vma}
        return {"visit": self.visit, **whose, **self.__dict__, **whose}


@dataclass(frozen=True)
class Story:
    """A walk under one model.

    Attributes:
        model: label of the model.
        kernel: the rules followed.
        walk: walk, seq (row of the trace), time (ns), kind, visits, hits, useless_empty,
            useless_other, misses, levels, stopped, and `counters` of the model, as in the table
            `walks`.
        folio: folio (its number in that table), index, pages, order, mapcount, exclusive, home
            (handle), and the mapping it was found by: mm, pid, addr, mapping (heap, stack, anon or
            file), fork_depth.
        home: the object that it is homed at, see Moment.object().
        processes: the fork tree, parents before their children.
        visits: in the model's order.
        end: `code` (found_all, locked or no_more), `text`, and `spent` after the last visit.
        missed: the mappings that the model did not offer: mm, pid, addr.
    """

    model: str
    kernel: str
    walk: dict[str, Any]
    folio: dict[str, Any]
    home: dict[str, Any]
    processes: list[Process]
    visits: list[Visit]
    end: dict[str, Any]
    missed: list[dict[str, int]]

    @property
    def useless(self) -> int:
        return int(self.walk["useless_empty"] + self.walk["useless_other"])

    def to_dict(self) -> dict[str, Any]:
        return {
            "kernel": self.kernel,
            "walk": self.walk,
            "folio": self.folio,
            "home": self.home,
            "processes": [each.to_dict() for each in self.processes],
            "visits": [each.to_dict() for each in self.visits],
            "end": self.end,
            "misses": self.missed,
        }


@dataclass(frozen=True)
class Explanation:
    """A walk, told under one model or several.

    Attributes:
        trace: path, or None of one in memory.
        number: the walk.
        walks: the policy that it happens under.
        event: the row of the trace at which it happens, by column.
        stories: one per model, in the order asked for.
        difference: how the second differs from the first, in one sentence; None of one model.
    """

    trace: str | None
    number: int
    walks: str
    event: dict[str, Any]
    stories: list[Story]
    difference: str | None = field(default=None)

    def to_dict(self) -> dict[str, Any]:
        """As `--format json` prints it (docs/explain.md)."""
        return {
            "trace": self.trace,
            "walk": self.number,
            "walks": self.walks,
            "event": self.event,
            "difference": self.difference,
            "models": {story.model: story.to_dict() for story in self.stories},
        }

    def text(self, *, everything: bool = False) -> str:
        """As the command prints it where there is no terminal. Long lists are summarised unless
        `everything` is set."""
        from rmapreplay.analysis.explain.text import tree

        return tree(self, everything=everything).plain()

    def dot(self) -> str:
        """A directed graph in the language of graphviz."""
        from rmapreplay.analysis.explain.graph import dot

        return dot(self)

    def mermaid(self) -> str:
        """A mermaid flowchart."""
        from rmapreplay.analysis.explain.graph import mermaid

        return mermaid(self)


def explain(
    trace: Trace | str | Path,
    walk: int,
    models: object,
    *,
    walks: str = DEFAULT_WALKS,
    progress: Progress | None = None,
) -> Explanation:
    """Tell one walk step by step.

    The trace is replayed up to the walk, once per model, and read a second time for what happened
    to the pages that were visited in vain.

    Args:
        trace: a trace, or the path of one.
        walk: its number in the table `walks` of a replay with the same `walks`.
        models: a model as replay() takes it, or a list of them.
        walks: when walks happen, as in replay().
        progress: called with the number of rows replayed so far.

    Raises RmapReplayError if there is no such walk, ModelError, TraceFormatError.
    """
    if isinstance(trace, str | Path):
        from rmapreplay.traces.reader import read_trace

        trace = read_trace(trace)
    if walk < 0:
        raise RmapReplayError(f"there is no walk {walk}: they are counted from 0")
    check_walks(walks)
    asked = models if isinstance(models, list | tuple) else [models]
    specs = [ModelSpec.of(model) for model in asked]
    labels_of(specs)
    stories = [_story(trace, spec, walk, walks, progress) for spec in specs]
    return Explanation(
        str(trace.path) if trace.path else None,
        walk,
        walks,
        event(trace, stories[0].walk["seq"]) if stories else {},
        stories,
        difference(stories[0], stories[1]) if len(stories) > 1 else None,
    )


def _story(
    trace: Trace, spec: ModelSpec, number: int, walks: str, progress: Progress | None
) -> Story:
    moment = Moment(trace, spec, walk=number, walks=walks, progress=progress)
    told = moment.story
    walk, folio, entries = told["walk"], told["folio"], told["entries"]
    visits = _visits(moment, told)
    found = sum(visit.hits for visit in visits)
    return Story(
        model=spec.label,
        kernel=moment.kernel,
        walk=walk,
        folio=folio,
        home=moment.object(folio["home"]),
        processes=_processes(moment, entries, visits),
        visits=visits,
        end={
            **reasons.end(walk, found, folio["mapcount"], visits[-1].vma if visits else None),
            "spent": _minus(walk["counters"], told["visits"][-1]["counters"] if visits else {}),
        },
        missed=[
            {name: entry[name] for name in ("mm", "pid", "addr")}
            for entry in entries
            if walk["misses"] and not entry["found"]
        ],
    )


def _minus(now: Counts, before: Counts) -> Counts:
    return {name: value - before.get(name, 0) for name, value in now.items()}


def _visits(moment: Moment, told: Mapping[str, Any]) -> list[Visit]:
    vmas = {(vma.mm, vma.start): vma for vma in moment.vmas}
    folio = told["folio"]
    offered: list[tuple[dict[str, Any], Vma, int, int, str, dict[str, Any]]] = []
    for row in told["visits"]:
        vma = vmas[row["mm"], row["start"]]
        first = max(folio["index"], vma.index)
        pages = min(folio["index"] + folio["pages"], vma.index + _pages(vma)) - first
        addr = vma.start + (first - vma.index) * PAGE
        result, seen = _seen(moment, vma, addr, pages, row["hits"])
        offered.append((row, vma, addr, pages, result, seen))
    useless = [each for each in offered if each[4] != "hit"]
    touches = last_touches(
        moment.trace,
        [Wanted(row["pid"], addr, moment.mms[vma.mm].born) for row, vma, addr, _, _, _ in useless],
        moment.seq,
    )
    touched = {each[0]["visit"]: touch for each, touch in zip(useless, touches, strict=True)}
    visits = []
    counters: Counts = {}
    levels = 0
    for row, vma, addr, pages, result, seen in offered:
        mm = moment.mms[vma.mm]
        why = reasons.NONE
        if result != "hit":
            why = reasons.useless(seen, vma, mm, touched[row["visit"]])
        visits.append(
            Visit(
                row["visit"],
                mm,
                vma,
                addr,
                pages,
                row["hits"],
                result,
                seen,
                why.text,
                why.code,
                why.row,
                _minus(row["counters"], counters),
                row["levels"] - levels,
            )
        )
        counters, levels = row["counters"], row["levels"]
    return visits


def _pages(vma: Vma) -> int:
    return (vma.end - vma.start) // PAGE


def _seen(moment: Moment, vma: Vma, addr: int, pages: int, hits: int) -> tuple[str, dict[str, Any]]:
    """What a visit came to, and what it saw."""
    first = moment.page(vma.mm, addr) or _NOTHING
    if hits:
        return "hit", first
    at = addr
    while at < addr + pages * PAGE:
        seen = moment.page(vma.mm, at) or _NOTHING
        if seen["what"] == "folio":
            return "other", seen
        at += PAGE
    return "empty", first


_NOTHING: Final[dict[str, Any]] = {"what": "nothing", "by_pmd": False}


def _processes(
    moment: Moment, entries: Sequence[Mapping[str, Any]], visits: Sequence[Visit]
) -> list[Process]:
    """The address spaces that map the folio or were visited, with those they come from up to the
    one they have in common."""
    concerned = {entry["mm"] for entry in entries} | {visit.mm.mm for visit in visits}
    shown = set(concerned)
    for mm in concerned:
        above = moment.mms[mm].parent
        while above is not None and above not in shown:
            shown.add(above)
            above = moment.mms[above].parent
    children: dict[int | None, list[int]] = {}
    for mm in sorted(shown):
        children.setdefault(moment.mms[mm].parent, []).append(mm)
    for root in children.get(None, []):
        # Nothing is told of ancestors above the first that matters, or below whom lines part.
        while root not in concerned and len(children.get(root, [])) == 1:
            shown.remove(root)
            root = children[root][0]
    return [
        Process(
            moment.mms[mm],
            [entry["addr"] for entry in entries if entry["mm"] == mm],
            sum(entry["found"] for entry in entries if entry["mm"] == mm),
            sum(visit.mm.mm == mm for visit in visits),
            sum(visit.mm.mm == mm and visit.result != "hit" for visit in visits),
        )
        for mm in sorted(shown)
    ]
