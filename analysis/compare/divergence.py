# SPDX-License-Identifier: GPL-2.0-only
"""The first walk in which models differ, and the shortest trace that still shows it."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from rmapreplay.analysis.compare.alignment import NUMBERS, WalkSpool, aligned
from rmapreplay.analysis.compare.comparison import (
    Watch,
    check_metric,
    explain_command,
    place_of,
    replay_walks,
)
from rmapreplay.analysis.compare.vocabulary import FOUND
from rmapreplay.analysis.processes import comms
from rmapreplay.replay import DEFAULT_WALKS, engine
from rmapreplay.replay.specs import ModelSpec
from rmapreplay.testing.rows import Row
from rmapreplay.traces.errors import RmapReplayError
from rmapreplay.traces.reader import Trace, read_trace

if TYPE_CHECKING:
    from rmapreplay.replay.result import Model

_CONTEXT: Final = 4
"""Rows before the walk that are shown."""


@dataclass(frozen=True)
class Divergence:
    """A walk in which a model differs from the reference, and what was going on.

    Attributes:
        trace: the path as given, or "in memory".
        walks: the walk policy.
        metric: what they differ in: `found`, or a cost.
        reference, model: labels.
        seq: row of the trace after which (or at which) the walk happened.
        kind: of walk.
        pid, comm, mm: whose mapping it began from: process, its name if known, serial of the mm.
        address: the page there, in bytes.
        mapping, fork_depth: of that mapping.
        order, mapcount: of the folio.
        numbers: by label, of both models: walk (its number), hits, useless_empty, useless_other,
            misses and the costs.
        rows: rows of the trace up to that one, by number: the last few.
        same: walks before it in which both models agree.
        unaligned: walks before it that only one of them makes.
    """

    trace: str
    walks: str
    metric: str
    reference: str
    model: str
    seq: int
    kind: str
    pid: int
    comm: str | None
    mm: int
    address: int
    mapping: str
    fork_depth: int
    order: int
    mapcount: int
    numbers: dict[str, dict[str, int]]
    rows: dict[int, Row]
    same: int
    unaligned: int

    @property
    def explain(self) -> str:
        """The command that tells both models' walks step by step."""
        walk = self.numbers[self.model]["walk"]
        return explain_command(self.trace, walk, [self.model, self.reference], self.walks)

    def to_dict(self) -> dict[str, Any]:
        """As `--format json` prints it."""
        return {**vars(self), "explain": self.explain}


def check_divergence_metric(metric: str) -> str:
    """Raises RmapReplayError if models cannot diverge in that."""
    if metric == FOUND:
        return metric
    try:
        return check_metric(metric)
    except RmapReplayError as error:
        raise RmapReplayError(f"{error}, or {FOUND}") from error


def first_divergence(
    trace: Trace | str | Path,
    models: Sequence[Model],
    metric: str = FOUND,
    *,
    walks: str = DEFAULT_WALKS,
    threads: int | None = None,
    watch: Watch | None = None,
) -> Divergence | None:
    """The first walk in which any of the models differs from the first of them; None if none does.

    Args:
        trace: a trace, or the path of one.
        models: two or more, as rr.replay takes them; the first is the reference.
        metric: `found`: how many mappings of the folio the walk finds; or visits, useless, steps,
            lookups, locks or refcounts.
        walks, threads: as rr.replay takes them.
        watch: told how far it is.

    Walks that only one of two models makes are not compared; they are counted. Raises ModelError if
    a model fails, TraceFormatError or RmapReplayError if trace or arguments are not right.
    """
    check_divergence_metric(metric)
    specs = [ModelSpec.of(model) for model in models]
    if len(engine.labels_of(specs)) < 2:
        raise RmapReplayError("a divergence is between two models or more")
    opened = trace if isinstance(trace, Trace) else read_trace(trace)
    progress = watch(place_of(trace), opened.rows) if watch else None
    return find(opened, place_of(trace), specs, metric, walks, threads, progress)


def find(
    opened: Trace,
    place_of_trace: str,
    specs: Sequence[ModelSpec],
    metric: str,
    walks: str,
    threads: int | None = None,
    progress: engine.Progress | None = None,
) -> Divergence | None:
    """As first_divergence(), of a trace that is open."""
    with tempfile.TemporaryDirectory(prefix="rmapreplay-") as room:
        spool = WalkSpool(Path(room))
        summary = replay_walks(opened, specs, walks, spool, threads=threads, progress=progress)
        for error in engine.errors_of(summary).values():
            raise error
        found = search([spool.walks(spec.label) for spec in specs], metric)
    if found is None:
        return None
    place, walk, same, unaligned = found
    seq, pid = walk["seq"], walk["pid"]
    names = comms(opened).filter((pl.col("pid") == pid) & (pl.col("seq") <= seq))
    rows = opened.slice(max(0, seq - _CONTEXT), seq + 1).to_pylist()
    return Divergence(
        trace=place_of_trace,
        walks=walks,
        metric=metric,
        reference=specs[0].label,
        model=specs[place].label,
        seq=seq,
        comm=names["comm"][-1] if names.height else None,
        mm=walk["folio"] >> 36,
        address=(walk["folio"] & (1 << 36) - 1) << 12,
        **{name: walk[name] for name in ("kind", "pid", "mapping", "fork_depth")},
        **{name: walk[name] for name in ("order", "mapcount")},
        numbers={
            specs[i].label: {name: int(walk[f"{name}:{i}"]) for name in NUMBERS} for i in (0, place)
        },
        rows={
            seq + 1 - len(rows) + i: {name: v for name, v in row.items() if v is not None}
            for i, row in enumerate(rows)
        },
        same=same,
        unaligned=unaligned,
    )


def search(
    models: Sequence[Iterator[pl.DataFrame]], metric: str
) -> tuple[int, dict[str, Any], int, int] | None:
    """The place of the model that differs first from that at place 0, the walk, how many before it
    were the same, and how many had no counterpart."""
    same = unaligned = 0
    for block in aligned(models):
        differs = [differing(metric, i).fill_null(False) for i in range(1, len(models))]
        made = [pl.col(f"walk:{i}").is_not_null() for i in range(len(models))]
        whole = pl.all_horizontal(made)
        first = block.select(pl.any_horizontal(differs).arg_true().first()).item()
        before = block if first is None else block.head(first)
        in_common = int(before.select(whole.sum()).item()) if before.height else 0
        same += in_common
        unaligned += before.height - in_common
        if first is not None:
            walk = block.slice(first, 1)
            place = next(i for i in range(1, len(models)) if walk.select(differs[i - 1]).item())
            return place, walk.row(0, named=True), same, unaligned
    return None


def differing(metric: str, place: int) -> pl.Expr:
    """Whether the model at `place` differs from the first, in columns of aligned walks; null for a
    walk that only one of them makes.

    Of a folio of one page a visit finds one mapping. Of larger ones a VMA may hold any number, and
    VMAs may differ; but what no visit found is missed.
    """

    def apart(name: str) -> pl.Expr:
        return pl.col(f"{name}:{place}") != pl.col(f"{name}:0")

    if metric != FOUND:
        return apart(metric)
    return apart("misses") | ((pl.col("order") == 0) & apart("hits"))
