# SPDX-License-Identifier: GPL-2.0-only
"""Recorded walks: which VMAs were visited, in which order, and what was found in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import polars as pl

from rmapreplay.replay.check.answers import Answers
from rmapreplay.replay.check.disagreement import Disagreement
from rmapreplay.replay.check.playback import Playback

CATEGORIES: Final = ("exact", "tie", "prefix_kernel", "prefix_model", "wrong")

Visit = tuple[int | None, int, int, int]
"""pid (None: of no traced process), start and end of the VMA, entries found in it"""


@dataclass
class Walk:
    """One side of a walk.

    Attributes:
        visits: the VMAs visited, in order.
        stopped: whether it ended before the tree had no more.
        indices: of each VMA the anonymous offset; the model's side only.
    """

    visits: list[Visit] = field(default_factory=list)
    stopped: bool = False
    indices: list[int] = field(default_factory=list)


def categorise(kernel: Walk, model: Walk) -> str:
    """One of CATEGORIES:

    exact: the same visits and finds in the same order, and the same end.
    tie: the same visits and finds, with VMAs of equal anonymous offset, of different processes, in
        another order.
    prefix_kernel, prefix_model: that side stopped first, and up to there they are the same.
    wrong: anything else.
    """
    if kernel.visits == model.visits and kernel.stopped == model.stopped:
        return "exact"
    for name, short, long in (("kernel", kernel, model), ("model", model, kernel)):
        shorter = len(short.visits) < len(long.visits) or not long.stopped
        if short.stopped and shorter and short.visits == long.visits[: len(short.visits)]:
            return f"prefix_{name}"
    if kernel.stopped == model.stopped and _by_pid(kernel) == _by_pid(model):
        index = dict(zip(model.visits, model.indices, strict=True))
        order = [index[visit] for visit in kernel.visits]
        if order == sorted(order):
            return "tie"
    return "wrong"


def _by_pid(walk: Walk) -> dict[int | None, list[Visit]]:
    visits: dict[int | None, list[Visit]] = {}
    for visit in walk.visits:
        visits.setdefault(visit[0], []).append(visit)
    return visits


def categorise_finds(kernel: Walk, model: Walk) -> str:
    """As categorise() for a model that need not visit what the kernel visits: by how many entries
    were found in each process. There are no ties."""
    found = [Counter[int | None](), Counter[int | None]()]
    for counts, walk in zip(found, (kernel, model), strict=True):
        for pid, _, _, hits in walk.visits:
            counts[pid] += hits
    if found[0] == found[1]:
        return "exact"
    if kernel.stopped and found[0] <= found[1]:
        return "prefix_kernel"
    return "prefix_model" if model.stopped and found[1] <= found[0] else "wrong"


@dataclass(frozen=True)
class WalkAgreement:
    """How the recorded walks agree.

    Attributes:
        frame: a row per recorded walk: walk (its number), row (of the trace), kind, pid, addr,
            category, replayed (whether the model had a folio there).
        disagreements: those that are neither exact, tie nor prefix_kernel, in order.
    """

    frame: pl.DataFrame
    disagreements: list[Disagreement]

    def counts(self) -> dict[str, int]:
        """The `walks` of a summary."""
        found = Counter(self.frame["category"])
        return {
            "recorded": self.frame.height,
            "exact": found["exact"],
            "tie": found["tie"],
            "prefix": found["prefix_kernel"] + found["prefix_model"],
            "wrong": found["wrong"],
            "prefix_kernel": found["prefix_kernel"],
            "prefix_model": found["prefix_model"],
            "not_replayed": self.frame.height - int(self.frame["replayed"].sum()),
        }


def compare_walks(answers: Answers, playback: Playback, *, linked: bool) -> WalkAgreement:
    """Compare every walk that the answer key has visits of. `linked`: the model links VMAs as the
    kernel does, so visits must be the kernel's; else only what was found."""
    truth = answers.truth.visits
    recorded = answers.walks if not truth.is_empty() else answers.walks.clear()
    kernel = _walks(answers.visits, "walk", "found")
    for walk, stopped in truth.group_by("walk").agg(pl.col("stopped").any()).iter_rows():
        kernel.setdefault(walk, Walk()).stopped = stopped
    rows = playback.walks.select("walk", pl.col("seq").alias("row"))
    visits = playback.visits.join(rows, on="walk", maintain_order="left")
    model = _walks(visits, "row", "hits")
    for row, stopped in playback.walks.select("seq", "stopped").iter_rows():
        model.setdefault(row, Walk()).stopped = stopped

    rate = categorise if linked else categorise_finds
    categories, replayed, disagreements = [], [], []
    for walk, row, _, pid, addr, kind in recorded.iter_rows():
        theirs = kernel[walk]
        ours = model.get(row)
        category = "wrong" if ours is None else rate(theirs, ours)
        categories.append(category)
        replayed.append(ours is not None)
        if category in ("wrong", "prefix_model"):
            where = f"walk {walk} ({kind}) of the folio that pid {pid} maps at {addr:#x}"
            disagreements.append(
                Disagreement(
                    row,
                    "walk",
                    category if ours else "not_replayed",
                    f"{where}: {_why(category, ours, linked)}",
                    pid,
                    (addr, addr + 1),
                    _items(theirs),
                    _items(ours or Walk()),
                )
            )
    frame = recorded.select("walk", "row", "kind", "pid", "addr").with_columns(
        pl.Series("category", categories, pl.String), pl.Series("replayed", replayed, pl.Boolean)
    )
    return WalkAgreement(frame, disagreements)


def _why(category: str, model: Walk | None, linked: bool) -> str:
    if model is None:
        return "the model has no anonymous folio there"
    if category == "prefix_model":
        return "the model stopped before the kernel did"
    differ = "visit or find" if linked else "find"
    return f"kernel and model {differ} something else"


def _walks(visits: pl.DataFrame, key: str, found: str) -> dict[int, Walk]:
    walks: dict[int, Walk] = {}
    index = pl.col("index") if "index" in visits.columns else pl.lit(None).alias("index")
    chosen = visits.select(key, "pid", "start", "end", found, index)
    for walk, pid, start, end, hits, offset in chosen.iter_rows():
        side = walks.setdefault(walk, Walk())
        side.visits.append((pid, start, end, hits))
        side.indices.append(offset)
    return walks


def _items(walk: Walk) -> list[dict[str, Any]]:
    return [dict(_item(visit)) for visit in walk.visits]


def _item(visit: Visit) -> Iterator[tuple[str, Any]]:
    yield from zip(("pid", "start", "end", "hits"), visit, strict=True)
