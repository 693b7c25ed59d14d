# SPDX-License-Identifier: GPL-2.0-only
"""The other backend: a native replay records its timeline, and the frame form of the model says
what the walks cost (docs/frames.md)."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import polars as pl
import pyarrow as pa

from rmapreplay.replay import DEFAULT_BATCH_SIZE, DEFAULT_WALKS, engine, expectations
from rmapreplay.replay.specs import ModelSpec, info_of
from rmapreplay.replay.timeline import Timeline, read_timeline, record
from rmapreplay.rmap_models.frames import NAMES, frame_model, page_walk
from rmapreplay.traces.errors import ModelError

SLICE: Final = 1 << 18
"""Walks that a model is asked about at a time, to bound memory."""

_TOTALS: Final = ("visits", "hits", "useless", "misses")
_FIRST_MISSES: Final = 10
_SUMS: Final = {"step": "steps", "lookup": "lookups", "lock": "locks", "refcount": "refcounts"}
"""The columns that add up a model's counters of a class (docs/metrics.md)."""


@expectations.checked
def run(
    trace: Any,
    specs: Sequence[ModelSpec],
    *,
    walks: str = DEFAULT_WALKS,
    visits: bool = False,
    verify: engine.Verify = False,
    batch_size: int = DEFAULT_BATCH_SIZE,
    threads: int | None = None,
    sink: engine.Sink | None = None,
    progress: engine.Progress | None = None,
    errors: dict[str, ModelError] | None = None,
) -> dict[str, Any]:
    """As engine.run(), but one model after another, whatever `threads` says. Walks, visits and
    misses, and what the summary says of them, come from the frame models; all else (objects,
    operations, memory) from the native replay that recorded the timeline.

    Counters that the frame form does not derive are null, and so are their distributions.

    Raises what engine.run() does, and ModelError if a model has no frame form.
    """
    engine.check_walks(walks)
    engine.verify_period(verify, trace.rows)
    engine.labels_of(specs)
    for spec in specs:
        if spec.source not in NAMES:
            raise ModelError(spec.label, f"has no frame form ({' and '.join(NAMES)} have)")
    models: dict[str, dict[str, Any]] = {}
    failed: dict[str, ModelError] = {}
    for spec in specs:
        with tempfile.TemporaryDirectory(prefix="rmapreplay-") as room:
            passing = None if sink is None else _Passing(sink)
            try:
                native = engine.ModelRun(spec, trace, walks, False, passing, verify)
                directory = Path(room) / "timeline"
                record(
                    native,
                    trace,
                    directory,
                    walks=walks,
                    batch_size=batch_size,
                    progress=progress,
                )
            except ModelError as error:
                failed[spec.label] = error
                continue
            found = _Found(spec)
            found.replay(read_timeline(directory), passing, visits)
            models[spec.label] = found.summary(native.summary())
    if errors is not None:
        errors.update(failed)
    return engine.summarise(trace, walks, models, failed)


@dataclass
class _Slice:
    """A timeline with some of its walks."""

    mms: pl.LazyFrame
    vma_spans: pl.LazyFrame
    folios: pl.LazyFrame
    mappings: pl.LazyFrame
    link_spans: pl.LazyFrame
    walks: pl.LazyFrame


def slices(timeline: Timeline, walks: int = SLICE) -> Iterator[_Slice]:
    """The timeline with so many walks at a time, in order; at least one, perhaps with none."""
    for first in range(0, max(1, timeline.metadata["tables"]["walks"]), walks):
        yield _Slice(
            timeline.mms,
            timeline.vma_spans,
            timeline.folios,
            timeline.mappings,
            timeline.link_spans,
            timeline.walks.slice(first, walks),
        )


class _Passing:
    """Hands on the tables that are the native replay's; knows the schemas of the others."""

    def __init__(self, sink: engine.Sink) -> None:
        self._sink = sink
        self._schemas: dict[str, pa.Schema] = {}

    def write(self, model: str, table: str, rows: pa.RecordBatch) -> None:
        if table in ("walks", "visits", "misses"):
            self._schemas[table] = rows.schema
        else:
            self._sink.write(model, table, rows)

    def write_frame(self, model: str, table: str, frame: pl.DataFrame) -> None:
        """As the native table, with nulls in the columns that `frame` lacks."""
        frame = frame.with_columns(pl.lit(model).alias("model"))
        fields = [
            field if field.name in frame.columns else field.with_nullable(True)
            for field in self._schemas[table]
        ]
        columns = [
            _cast(frame[field.name].to_arrow(), field.type)
            if field.name in frame.columns
            else pa.nulls(frame.height, field.type)
            for field in fields
        ]
        batch = pa.RecordBatch.from_arrays(columns, schema=pa.schema(fields))
        self._sink.write(model, table, batch)


def _cast(column: pa.Array, to: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(to):
        column = column.cast(pa.string()).dictionary_encode()
    return column.cast(to)


class _Found:
    """What the frame form of one model finds, slice by slice."""

    def __init__(self, spec: ModelSpec) -> None:
        self._label = spec.label
        self._model = frame_model(spec.name)
        counters = info_of(spec.name, spec.source)["walk_counters"]
        of_class = {
            column: [counter["name"] for counter in counters if counter["cost"] == cost]
            for cost, column in _SUMS.items()
        }
        self._sums = [
            pl.sum_horizontal(pl.lit(0, pl.Int64), *names).alias(column)
            for column, names in of_class.items()
            if set(names) <= set(self._model.COUNTERS)
        ]
        self._values: dict[str, Counter[int]] = {}  # by column: how often each came
        self._totals: Counter[str] = Counter()
        self._first_misses: list[dict[str, int]] = []
        self._seconds = 0.0

    def replay(self, timeline: Timeline, sink: _Passing | None, visits: bool) -> None:
        """Ask the model about every walk."""
        start = time.perf_counter()
        pids = timeline.mms.select(pl.col("mm").cast(pl.Int64), "pid").collect()
        last = max(0, timeline.metadata["events"] - 1)
        for part in slices(timeline):
            walks = self._model.walks(part).collect(engine="streaming")
            walks = walks.with_columns(self._sums)
            missing = bool((walks["misses"] > 0).any())
            wanted = part if missing or (visits and sink) else _without_walks(part)
            offered = _named(self._model.visits(wanted).collect(engine="streaming"), pids)
            missed = page_walk.misses(walks.lazy(), offered.lazy(), wanted).collect()
            missed = _named(missed, pids)
            # A replay's tables count walks after the last row as part of it.
            walks, missed = (
                frame.with_columns(pl.col("seq").clip(upper_bound=last))
                for frame in (walks, missed)
            )
            self._add(walks, missed)
            if sink is None:
                continue
            sink.write_frame(self._label, "walks", _as_native(walks, part))
            sink.write_frame(self._label, "misses", missed)
            sink.write_frame(self._label, "visits", offered)
        self._seconds += time.perf_counter() - start

    def _add(self, walks: pl.DataFrame, missed: pl.DataFrame) -> None:
        self._totals["walks"] += walks.height
        for name in walks.columns:
            if name not in ("walk", "seq", "kind", "folio"):
                found = walks[name].cast(pl.Int64).value_counts()
                self._values.setdefault(name, Counter()).update(dict(found.iter_rows()))
        for name in _TOTALS:
            self._totals[name] += int(walks[name].sum())
        self._first_misses += [
            {"walk": walk, "row": row, "pid": pid, "address": address}
            for walk, row, pid, address in missed.select("walk", "seq", "pid", "addr")
            .head(_FIRST_MISSES - len(self._first_misses))
            .iter_rows()
        ]

    def summary(self, native: Mapping[str, Any]) -> dict[str, Any]:
        """The native replay's, with what was found here in the place of what it found."""
        seconds = native["seconds"] + self._seconds
        events = (native["events_per_second"] or 0) * native["seconds"]
        return {
            **native,
            **{
                name: self._totals[name]
                for name in ("walks", "visits", "hits", "useless", "misses")
            },
            "first_misses": self._first_misses,
            "walk": {name: _distribution(self._values.get(name)) for name in native["walk"]},
            "seconds": round(seconds, 6),
            "events_per_second": round(events / seconds) if seconds else None,
        }


def _without_walks(part: _Slice) -> _Slice:
    return replace(part, walks=part.walks.clear())


def _named(rows: pl.DataFrame, pids: pl.DataFrame) -> pl.DataFrame:
    return rows.join(pids, on="mm", how="left", maintain_order="left")


def _as_native(walks: pl.DataFrame, part: _Slice) -> pl.DataFrame:
    """With folios named as in a replay's tables: by mm and page of the mapping walked from."""
    page = pl.col("mm").cast(pl.UInt64) * 2**36 + pl.col("page")
    return walks.drop("folio").join(
        part.walks.select("walk", folio=page).collect(), on="walk", maintain_order="left"
    )


def _distribution(values: Counter[int] | None) -> dict[str, float | int | None]:
    """Of one column over all walks, percentiles by nearest rank, as a native replay counts them.
    Nothing of what the frame form does not derive."""
    if values is None:
        return dict.fromkeys(("mean", "p50", "p95", "p99", "max"))
    in_order = sorted(values.items())
    count = values.total()

    def percentile(percent: int) -> int:
        rank = max(1, -(-count * percent // 100))
        seen = 0
        for value, times in in_order:
            seen += times
            if seen >= rank:
                return value
        return 0

    return {
        "mean": sum(value * times for value, times in in_order) / count if count else 0.0,
        "p50": percentile(50),
        "p95": percentile(95),
        "p99": percentile(99),
        "max": in_order[-1][0] if in_order else 0,
    }
