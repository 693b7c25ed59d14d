# SPDX-License-Identifier: GPL-2.0-only
"""The tables of the results, aggregated to what can be drawn. All of it happens in polars, lazily:
what comes into Python is a few hundred points to a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from rmapreplay.analysis.report.results import Results, TraceInfo

if TYPE_CHECKING:
    import polars as pl

CURVE_POINTS: Final = 64
MOMENTS: Final = 96
DRAWN_TRACES: Final = 40
"""Traces with charts of their own. The matrices have all."""


def drawn(results: Results) -> list[TraceInfo]:
    """The traces to draw: all, or those with the most walks."""
    if len(results.traces) <= DRAWN_TRACES:
        return results.traces
    walks = {
        trace.name: sum(
            results.numbers[trace.name, model].total("walks")
            for model in results.models
            if (trace.name, model) in results.numbers
        )
        for trace in results.traces
    }
    most = sorted(walks, key=lambda name: (-walks[name], name))[:DRAWN_TRACES]
    return [trace for trace in results.traces if trace.name in most]


def visits_curves(results: Results, traces: Sequence[TraceInfo]) -> pl.DataFrame:
    """For each trace and model, of how many walks one visits at least so many VMAs.

    Columns: trace, model (strings), visits (i64, from 1, increasing), walks (i64), share (f64). At
    most CURVE_POINTS points each, by logarithm of visits; those kept are exact.
    """
    import polars as pl

    counted = (
        _of(results.tables["walks"], traces)
        .group_by("trace", "model", "visits")
        .agg(walks=pl.len().cast(pl.Int64))
        .collect(engine="streaming")
        .sort("trace", "model", "visits")
    )
    by = ("trace", "model")
    curves = counted.with_columns(
        pl.col("visits").cast(pl.Int64),
        pl.col("walks").cum_sum(reverse=True).over(by),
        share=pl.col("walks").cum_sum(reverse=True).over(by) / pl.col("walks").sum().over(by),
    ).filter(pl.col("visits") > 0)
    # In each bin the last is kept, so that the largest number of visits is.
    spread = (pl.col("visits").max().over(by) + 1).log()
    bins = ((pl.col("visits").log() / spread) * CURVE_POINTS).floor().alias("bin")
    return curves.group_by(*by, bins, maintain_order=True).last().drop("bin")


def memory_curves(results: Results, traces: Sequence[TraceInfo]) -> pl.DataFrame:
    """What each kind of object took over time.

    Columns: trace, model, kind (strings), seq (i64, row of the trace), bytes (f64). Of each trace
    and model some MOMENTS of the moments recorded, evenly, with the first and the last.
    """
    import polars as pl

    sizes = pl.DataFrame(
        [
            (trace.name, model, kind, numbers.size(kind))
            for trace in traces
            for model in results.models
            if (numbers := results.numbers.get((trace.name, model)))
            for kind in numbers.kinds()
        ],
        schema={"trace": pl.String, "model": pl.String, "kind": pl.String, "size": pl.Float64},
        orient="row",
    )
    by = ("trace", "model")
    number, last = pl.int_range(pl.len()).over(by), pl.len().over(by) - 1
    table = _of(results.tables["memory"], traces)
    present = set(table.collect_schema().names())
    kinds = [kind for kind in sizes["kind"].unique(maintain_order=True) if kind in present]
    if not kinds:
        return pl.DataFrame(schema={**sizes.schema, "seq": pl.Int64, "bytes": pl.Float64}).drop(
            "size"
        )
    step = (last // MOMENTS).clip(1)
    return (
        table.select(*by, pl.col("seq").cast(pl.Int64), *kinds)
        .sort(*by, "seq")
        .filter((number % step == 0) | (number == last))
        .unpivot(kinds, index=[*by, "seq"], variable_name="kind", value_name="live")
        .collect(engine="streaming")
        .join(sizes, on=["trace", "model", "kind"], how="inner", maintain_order="left")
        .select(*by, "kind", "seq", bytes=pl.col("live").fill_null(0) * pl.col("size"))
    )


def first_misses(results: Results) -> pl.DataFrame:
    """Of each trace and model that has misses, how many, and the first of them.

    Columns: trace, model (strings), misses, walks (i64, walks with misses), walk, seq, pid, addr.
    The pairs with the most misses first.
    """
    import polars as pl

    table = results.tables["misses"]
    if "walk" not in table.collect_schema().names():
        return pl.DataFrame()
    return (
        table.with_columns(pl.col("trace", "model").cast(pl.String))
        .group_by("trace", "model")
        .agg(
            misses=pl.len().cast(pl.Int64),
            walks=pl.col("walk").n_unique().cast(pl.Int64),
            walk=pl.col("walk").min(),
            seq=pl.col("seq").sort_by("walk", "addr").first(),
            pid=pl.col("pid").sort_by("walk", "addr").first(),
            addr=pl.col("addr").sort_by("walk", "addr").first(),
        )
        .collect(engine="streaming")
        .sort(pl.col("misses"), "trace", "model", descending=[True, False, False])
    )


def _of(table: pl.LazyFrame, traces: Sequence[TraceInfo]) -> pl.LazyFrame:
    import polars as pl

    return table.with_columns(pl.col("trace", "model").cast(pl.String)).filter(
        pl.col("trace").is_in([trace.name for trace in traces])
    )
