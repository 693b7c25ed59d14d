# SPDX-License-Identifier: GPL-2.0-only
"""A replay as folded stacks, for flame graphs: model, process, what was done, of what, and how much
of it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl

from rmapreplay.analysis.estimates import PER_OPERATION, PER_WALK, CostModel
from rmapreplay.analysis.export.spool import Spooled, cost_columns, replayed
from rmapreplay.replay import DEFAULT_WALKS
from rmapreplay.traces.errors import RmapReplayError
from rmapreplay.traces.files import write_whole
from rmapreplay.traces.reader import Trace

if TYPE_CHECKING:
    from rmapreplay.replay.engine import Progress
    from rmapreplay.replay.result import Model

VISITS: Final = ("hits", "useless_empty", "useless_other")
WEIGHTS: Final = ("visits", "steps", "lookups", "locks", "refcounts", "links", "objects", "ns")
"""What the width of a frame may mean. Each is of walks or of operations, or of both."""


def export_folded(
    trace: Trace | str | Path,
    models: Model | Sequence[Model],
    out: str | Path,
    *,
    weight: str = "visits",
    cost_model: CostModel | None = None,
    walks: str = DEFAULT_WALKS,
    force: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Replay a trace and write folded stacks, a line each: frames with semicolons between, a blank,
    a whole number.

    Args:
        weight: what is counted, one of WEIGHTS. `visits` are parted into hits and useless ones,
            `objects` (allocated) by kind; `ns` are estimates, parted by what was weighed.
        cost_model: the weights that `ns` needs.

    Returns the summary. Raises as replay() does, and RmapReplayError if there is no such weight, no
    cost model for it, or `out` exists and `force` is not set, or cannot be written.
    """
    if weight not in WEIGHTS:
        raise RmapReplayError(f"weight {weight!r}: one of {', '.join(WEIGHTS)}")
    if weight == "ns" and cost_model is None:
        raise RmapReplayError("weight ns needs a cost model")
    with replayed(trace, models, walks=walks, progress=progress) as done:
        parts = [_walks(done, weight, cost_model), _operations(done, weight, cost_model)]
        stacks = pl.concat([part for part in parts if part is not None])
    lines = (
        stacks.with_columns(pl.col("value").round().cast(pl.Int64))
        .filter(pl.col("value") > 0)
        .sort("model", "process", "what", "item")
        # A semicolon in a program's name would be a frame of its own.
        .with_columns(pl.col("process").str.replace_all(";", ",", literal=True))
        .select(pl.format("{};{};{};{} {}", "model", "process", "what", "item", "value"))
        .to_series()
    )
    write_whole(out, "".join(f"{line}\n" for line in lines), force=force)
    return done.summary


def _walks(done: Spooled, weight: str, cost_model: CostModel | None) -> pl.DataFrame | None:
    columns = done.table("walks").collect_schema().names()
    items: dict[str, pl.Expr] = {}
    if weight == "visits":
        items = {name: pl.col(name) for name in VISITS}
    elif weight == "ns":
        assert cost_model
        items = {
            metric: pl.col(metric) * cost_model.weights[name].ns
            for metric, name in PER_WALK.items()
        } | {
            name: pl.col(name) * each.ns
            for name, each in cost_model.counters.items()
            if name in columns
        }
    elif weight in columns:
        items = {weight: pl.col(weight)}
    what = pl.format("walk {}", pl.col("kind").cast(pl.String))
    return _stacks(done, "walks", what, items)


def _operations(done: Spooled, weight: str, cost_model: CostModel | None) -> pl.DataFrame | None:
    columns = done.table("operations").collect_schema().names()
    objects = [name for name in cost_columns(columns) if name.endswith(("_allocated", "_freed"))]
    items: dict[str, pl.Expr] = {}
    if weight == "objects":
        items = {
            name.removesuffix("_allocated"): pl.col(name)
            for name in objects
            if name.endswith("_allocated")
        }
    elif weight == "ns":
        assert cost_model
        weights = {metric: cost_model.weights[name].ns for metric, name in PER_OPERATION.items()}
        for name in objects:
            which = "allocate" if name.endswith("_allocated") else "free"
            weights[name] = cost_model.weights[which].ns
        weights |= {name: each.ns for name, each in cost_model.counters.items() if name in columns}
        items = {name: pl.col(name) * ns for name, ns in weights.items()}
    elif weight in columns:
        items = {weight: pl.col(weight)}
    # What walks cost is in their own table.
    return _stacks(done, "operations", pl.col("op").cast(pl.String), items, pl.col("op") != "walk")


def _stacks(
    done: Spooled,
    table: str,
    what: pl.Expr,
    items: dict[str, pl.Expr],
    which: pl.Expr | None = None,
) -> pl.DataFrame | None:
    """Sums by model, process, what was done and item; None if there is no item."""
    if not items:
        return None
    rows = done.table(table).with_columns(what=what)
    if which is not None:
        rows = rows.filter(which)
    # Both tables are in order of rows for one model at a time.
    sums = [
        done.named(rows.filter(pl.col("model") == model).set_sorted("seq"))
        .group_by("model", "process", "what")
        .agg(expr.sum().cast(pl.Float64).alias(name) for name, expr in items.items())
        .collect()
        for model in done.models
    ]
    return pl.concat(sums).unpivot(
        index=["model", "process", "what"], variable_name="item", value_name="value"
    )
