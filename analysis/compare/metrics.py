# SPDX-License-Identifier: GPL-2.0-only
"""The figures of models beside each other: what docs/metrics.md defines, in one tidy table."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

import polars as pl

from rmapreplay.analysis.compare.vocabulary import COSTS
from rmapreplay.replay.figures import FORK, forks, own_objects

_N = TypeVar("_N", int, float)

Models = Mapping[str, Mapping[str, Any]]
"""What a summary says of each model that finished, by label."""

_TOTALS = ("walks", "visits", "hits", "useless", "misses")
_STATS = ("mean", "p95", "max")
_PER_FORK = ("objects", "links", "locks", "refcounts")
_SCHEMA = {
    "trace": pl.String,
    "model": pl.String,
    "group": pl.String,
    "name": pl.String,
    "stat": pl.String,
    "value": pl.Float64,
}


def metrics_of(trace: str, models: Models) -> pl.DataFrame:
    """A row for each model and figure: trace, model, group, name, stat, value.

    The groups are `walks` (sums over all of them), `walk` (mean, p95 and max per walk), `object`
    (the model's own, all kinds: allocated; bytes, each kind at its peak), `fork` (mean per call;
    none if there was no fork), and of a summary with estimates `estimate` (mean nanoseconds of a
    walk and of a fork).
    """
    rows = [
        (trace, label, *figure, float(value))
        for label, found in models.items()
        for figure, value in _figures(
            {name: found[name] for name in _TOTALS},
            found["walk"],
            own_objects(found),
            forks(found),
            _estimated(found),
        )
    ]
    return pl.DataFrame(rows, _SCHEMA, orient="row")


def total_of(traces: Sequence[Models], walk: Mapping[str, Mapping[str, Any]]) -> pl.DataFrame:
    """The same over several traces, with null for the trace: sums, per walk over all walks, per
    fork over all forks.

    Args:
        traces: what each trace's summary says of the models; all have the same.
        walk: for each model, mean, p95 and max of COSTS over the walks of all traces.
    """
    rows = []
    for label in traces[0]:
        each = [models[label] for models in traces]
        totals = {name: sum(found[name] for found in each) for name in _TOTALS}
        objects = _sum(map(own_objects, each))
        estimated = _sum(map(_estimated, each))
        figures = _figures(totals, walk[label], objects, _sum(map(forks, each)), estimated)
        rows += [(None, label, *figure, float(value)) for figure, value in figures]
    return pl.DataFrame(rows, _SCHEMA, orient="row")


def add_ratios(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """All parts, each figure with its ratio to that of the first model of its trace."""
    metrics = pl.concat(parts) if parts else pl.DataFrame(schema=_SCHEMA)
    reference = pl.col("value").first().over("trace", "group", "name", "stat")
    return metrics.with_columns(ratio=pl.when(reference != 0).then(pl.col("value") / reference))


def _estimated(found: Mapping[str, Any]) -> dict[str, float]:
    """Estimated nanoseconds of all walks, and of all forks; nothing if there are no estimates."""
    estimated = found.get("estimated_ns")
    if estimated is None:
        return {}
    return {
        "walk": estimated["walks"],
        "fork": sum(estimated["operations"].get(op, 0.0) for op in FORK),
    }


def _sum(parts: Iterable[dict[str, _N]]) -> dict[str, _N]:
    sums: dict[str, Any] = {}
    for part in parts:
        for name, n in part.items():
            sums[name] = sums.get(name, 0) + n
    return sums


def _figures(
    totals: Mapping[str, int],
    walk: Mapping[str, Mapping[str, float]],
    objects: Mapping[str, int],
    per_fork: Mapping[str, int],
    estimated: Mapping[str, float],
) -> Iterator[tuple[tuple[str, str, str], float]]:
    for name in _TOTALS:
        yield ("walks", name, "sum"), totals[name]
    for name in COSTS:
        for stat in _STATS:
            yield ("walk", name, stat), walk[name][stat]
    yield ("object", "objects", "allocated"), objects["allocated"]
    yield ("object", "bytes", "peak"), objects["bytes_peak"]
    if per_fork["calls"]:
        for name in _PER_FORK:
            yield ("fork", name, "mean"), per_fork[name] / per_fork["calls"]
    for name, calls in (("walk", totals["walks"]), ("fork", per_fork["calls"])):
        if estimated and calls:
            yield ("estimate", name, "mean"), estimated[name] / calls
