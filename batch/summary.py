# SPDX-License-Identifier: GPL-2.0-only
"""The summaries of many replays as one tidy table, and what they come to in all."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from rmapreplay.batch.tasks import Failure
from rmapreplay.replay.figures import own_objects

if TYPE_CHECKING:
    import pyarrow as pa

_TOTALS: Final = ("walks", "visits", "hits", "useless", "misses")

Value = tuple[str, str, str, float | None]
"""Group, name, stat, value."""


def summary_table(records: Sequence[Mapping[str, Any]], failed: Sequence[Failure]) -> pa.Table:
    """A row for each number of each summary: trace, model, group, name, stat (strings), value
    (f64; null where there is none, such as the mean of no walks). docs/batch.md lists them."""
    import pyarrow as pa

    columns: dict[str, list[Any]] = {
        name: [] for name in ("trace", "model", "group", "name", "stat", "value")
    }
    for record in records:
        of = record["trace"]["name"], record["model"]["label"]
        _add(columns, of, values(record))
    for failure in failed:
        _add(columns, (failure.trace, failure.model), [("failure", failure.kind, "count", 1.0)])
    text = pa.dictionary(pa.int32(), pa.string())
    fields = [pa.field(name, pa.float64() if name == "value" else text) for name in columns]
    return pa.table(columns, schema=pa.schema(fields))


def _add(
    columns: dict[str, list[Any]], of: tuple[str, str], rows: Sequence[Value] | Iterator[Value]
) -> None:
    for row in rows:
        for column, value in zip(columns.values(), (*of, *row), strict=True):
            column.append(value)


def values(record: Mapping[str, Any]) -> Iterator[Value]:
    """The numbers of one replay."""
    found = record["summary"]
    yield "replay", "events", "total", record["events"]
    yield "replay", "machine_bytes", "at_end", found["machine_bytes"]
    for name in _TOTALS:
        yield "walks", name, "total", found[name]
    for metric, stats in found["walk"].items():
        for stat, value in stats.items():
            yield "walk", metric, stat, value
    for kind, stats in found["objects"].items():
        for stat, value in stats.items():
            if stat != "sites":
                yield "object", kind, stat, value
        for site, value in stats["sites"].items():
            yield "site", kind, site, value
    for op, told in found["operations"].items():
        yield "operation", op, "calls", told["calls"]
        # A model may call a counter as the sum is called which it alone makes.
        for stat, value in {**told["counters"], **told["costs"]}.items():
            yield "operation", op, stat, value
        for what in ("allocated", "freed"):
            for kind, value in told[what].items():
                yield "operation", op, f"{kind}_{what}", value
    for kind, told in found["anomalies"].items():
        yield "anomaly", kind, "count", told["count"]
        yield "anomaly", kind, "first_row", told["first_row"]


def totals(
    labels: Sequence[str], records: Sequence[Mapping[str, Any]], failed: Sequence[Failure]
) -> dict[str, dict[str, Any]]:
    """What each model comes to, over the traces that every model finished, so that they can be set
    against each other: traces, walks, visits, hits, useless, misses, useless_share (of visits), and
    bytes_at_peak (of the model's own objects, each kind at its own peak)."""
    unfinished = {failure.trace for failure in failed}
    found: dict[str, dict[str, Any]] = {
        label: {"traces": 0, **dict.fromkeys(_TOTALS, 0), "useless_share": None, "bytes_at_peak": 0}
        for label in labels
    }
    for record in records:
        if record["trace"]["name"] in unfinished:
            continue
        total, summary = found[record["model"]["label"]], record["summary"]
        total["traces"] += 1
        for name in _TOTALS:
            total[name] += summary[name]
        total["bytes_at_peak"] += own_objects(summary)["bytes_peak"]
    for total in found.values():
        if total["visits"]:
            total["useless_share"] = round(total["useless"] / total["visits"], 6)
    return found
