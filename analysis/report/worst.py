# SPDX-License-Identifier: GPL-2.0-only
"""The walks for which one model visits most beyond what another needs."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from rmapreplay.analysis.compare.alignment import aligned, walks_in
from rmapreplay.analysis.report.results import Results, TraceInfo
from rmapreplay.replay import DEFAULT_WALKS

if TYPE_CHECKING:
    import polars as pl


@dataclass(frozen=True)
class WorstWalk:
    """A walk, and what the model that visits least does for it.

    Attributes:
        trace: its trace.
        model: the one with the excess.
        walk: its number under that model.
        seq: row of the trace.
        kind: what for: referenced, unmap or migrate.
        mapcount: PTEs that map the folio.
        visits, useless: of that model.
        other: the model that visits least and misses nothing; None of a single model.
        other_walk: the number under that one.
        other_visits: its visits; of a single model the walk's hits.
    """

    trace: TraceInfo
    model: str
    walk: int
    seq: int
    kind: str
    mapcount: int
    visits: int
    useless: int
    other: str | None
    other_walk: int
    other_visits: int

    @property
    def excess(self) -> int:
        """Visits beyond the other's."""
        return self.visits - self.other_visits

    def models(self) -> list[str]:
        """Those that call it by the same number: one `explain` can tell it under both."""
        both = self.other is not None and self.other_walk == self.walk
        return [self.model, self.other] if both and self.other else [self.model]

    def command(self, walks: str) -> str:
        """The command line that tells it step by step."""
        place = self.trace.place or self.trace.name
        words = ["rmapreplay", "explain", place, "--walk", str(self.walk)]
        words += [word for model in self.models() for word in ("-m", model)]
        if walks != DEFAULT_WALKS:
            words += ["--walks", walks]
        return shlex.join(words)


@dataclass
class Alignment:
    """How the walks of the models were matched, and the worst of them.

    Attributes:
        matched: walks that every model has which finished the trace.
        unmatched: walks that not every model has, by trace and model; none left out where there
            are none.
        by_trace: for each trace the walk with the largest excess, largest first.
        by_model: for each model the same, over all traces.
    """

    matched: int = 0
    unmatched: dict[tuple[str, str], int] = field(default_factory=dict)
    by_trace: list[WorstWalk] = field(default_factory=list)
    by_model: list[WorstWalk] = field(default_factory=list)

    def all(self) -> list[WorstWalk]:
        """Each once, largest excess first."""
        both = dict.fromkeys((*self.by_trace, *self.by_model))
        return sorted(both, key=_rank)


def _rank(worst: WorstWalk) -> tuple[int, str, str]:
    return -worst.excess, worst.trace.name, worst.model


def worst_walks(results: Results) -> Alignment:
    """Match the walks of the models, trace by trace, and find the largest excess of each model.

    Which walks are the same is told in analysis/compare/alignment.py.
    """
    found = Alignment()
    of_model: dict[str, WorstWalk] = {}
    for trace in results.traces:
        models = [m for m in results.models if (trace.name, m) in results.numbers]
        if not models:
            continue
        worst: dict[str, WorstWalk] = {}
        matched = 0
        tables = (walks_in(results.walks_file(trace.name, model), model) for model in models)
        for block in aligned(list(tables)):
            part = block.drop_nulls([f"walk:{i}" for i in range(len(models))])
            matched += part.height
            for walk in _largest(part, trace, models):
                if walk.model not in worst or walk.excess > worst[walk.model].excess:
                    worst[walk.model] = walk
        found.matched += matched
        for model in models:
            walks = int(results.numbers[trace.name, model].total("walks"))
            if walks > matched:
                found.unmatched[trace.name, model] = walks - matched
        found.by_trace += sorted(worst.values(), key=_rank)[:1]
        for model, walk in worst.items():
            if model not in of_model or _rank(walk) < _rank(of_model[model]):
                of_model[model] = walk
    found.by_trace.sort(key=_rank)
    found.by_model = sorted(of_model.values(), key=_rank)
    return found


def _largest(part: pl.DataFrame, trace: TraceInfo, models: list[str]) -> Iterator[WorstWalk]:
    """For each model the walk with its largest excess, the first of equals; none if it has none."""
    import polars as pl

    many = range(len(models))
    for i, model in enumerate(models):
        # Who misses a mapping visits less than the walk needs.
        others = [
            pl.when(pl.col(f"misses:{j}") == 0).then(pl.col(f"visits:{j}").cast(pl.Int64))
            for j in many
            if j != i
        ]
        least = pl.min_horizontal(others) if others else pl.col("hits:0").cast(pl.Int64)
        ranked = part.with_columns(least=least).with_columns(
            excess=pl.col(f"visits:{i}").cast(pl.Int64) - pl.col("least")
        )
        top = ranked["excess"].max() if part.height else None
        if not isinstance(top, int) or top <= 0:
            continue
        row = ranked.filter(pl.col("excess") == top).sort(f"walk:{i}").row(0, named=True)
        other = next(
            (
                j
                for j in many
                if j != i and not row[f"misses:{j}"] and row[f"visits:{j}"] == row["least"]
            ),
            None,
        )
        yield WorstWalk(
            trace,
            model,
            row[f"walk:{i}"],
            row["seq"],
            row["kind"],
            row["mapcount"],
            row[f"visits:{i}"],
            row[f"useless:{i}"],
            None if other is None else models[other],
            row[f"walk:{i if other is None else other}"],
            row["least"],
        )


@dataclass(frozen=True)
class Told:
    """A walk told step by step, or why it is not."""

    worst: WorstWalk
    text: str | None
    why_not: str = ""


def explain_all(results: Results, worst: list[WorstWalk], most: int) -> list[Told]:
    """Tell the first `most` of these walks step by step."""
    from rmapreplay.analysis.explain.explanation import explain
    from rmapreplay.traces.errors import RmapReplayError

    told = []
    for number, each in enumerate(worst):
        if number >= most:
            told.append(Told(each, None))
            continue
        if why := _unreadable(each.trace):
            told.append(Told(each, None, why))
            continue
        try:
            found = explain(
                str(each.trace.place), each.walk, each.models(), walks=results.walks_policy
            )
        except RmapReplayError as error:
            told.append(Told(each, None, " ".join(str(error).split())))
        else:
            told.append(Told(each, found.text()))
    return told


def _unreadable(trace: TraceInfo) -> str:
    """Why the trace cannot be replayed here, or ""."""
    if trace.place is None:
        return "the results do not say where the trace is"
    path = Path(trace.place)
    if not path.is_file():
        return f"{trace.place} is not a file here"
    if trace.sha256 is not None:
        with path.open("rb") as file:
            if hashlib.file_digest(file, "sha256").hexdigest() != trace.sha256:
                return f"{trace.place} is another trace now: its SHA-256 differs"
    return ""
