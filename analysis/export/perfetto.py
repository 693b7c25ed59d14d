# SPDX-License-Identifier: GPL-2.0-only
"""A replay as a trace that Perfetto shows: when each process lived, what its operations cost, and
counters of what lived and what walks visited.

The format is that of Chrome's trace events (JSON), which ui.perfetto.dev opens, also gzipped. Text
is put together by polars, a table at a time: a trace may have millions of operations.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, cast

import polars as pl

from rmapreplay.analysis.export.spool import Spooled, cost_columns, replayed
from rmapreplay.replay import DEFAULT_WALKS
from rmapreplay.traces.files import whole_file
from rmapreplay.traces.reader import Trace

if TYPE_CHECKING:
    from rmapreplay.replay.engine import Progress
    from rmapreplay.replay.result import Model

FIRST_COUNTER_PID: Final = 1 << 30
"""Models have tracks of their own, numbered from here: no process has such a pid."""

_AT_A_TIME: Final = 1 << 16

_LIFE: Final = 1
"""The track of a process that says when it lived; those of the models' operations come after."""


def export_perfetto(
    trace: Trace | str | Path,
    models: Model | Sequence[Model],
    out: str | Path,
    *,
    walks: str = DEFAULT_WALKS,
    force: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Replay a trace and write what it cost as JSON for Perfetto; gzipped if `out` ends in .gz.

    Returns the summary. Raises as replay() does, and RmapReplayError if `out` exists and `force` is
    not set, or cannot be written.
    """
    with (
        whole_file(out, force=force) as file,
        replayed(trace, models, walks=walks, progress=progress) as done,
    ):
        if Path(out).suffix == ".gz":
            # Without the time and the name, so that the same input gives the same bytes.
            with gzip.GzipFile(fileobj=file, mode="wb", filename="", mtime=0) as packed:
                _write(cast("IO[bytes]", packed), done)
        else:
            _write(file, done)
    return done.summary


def _write(file: IO[bytes], done: Spooled) -> None:
    file.write(b'{"displayTimeUnit":"ns","traceEvents":[')
    separator = b"\n"
    for events in _events(done):
        for at in range(0, len(events), _AT_A_TIME):
            part = events.slice(at, _AT_A_TIME)
            file.write(separator + ",\n".join(part).encode())
            separator = b",\n"
    # What a reader of the file needs to know it by.
    kept = {key: done.summary[key] for key in ("events", "walk_policy", "anomalies", "failed")}
    other = {"trace": done.summary["trace"]["metadata"], "models": done.models, **kept}
    file.write(b'\n],"otherData":' + json.dumps(other).encode() + b"}\n")


def _events(done: Spooled) -> Iterator[pl.Series]:
    """Events as JSON, some at a time."""
    times = done.times()
    if times.is_empty():
        return
    # Microseconds, as the format has them; with the thousandths that nanoseconds need.
    times = times.select("seq", ts=(pl.col("time") - times["time"][0]) / 1000)
    yield from _processes(done, times)
    yield from _operations(done, times.lazy())
    yield from _counters(done, times)


def _processes(done: Spooled, times: pl.DataFrame) -> Iterator[pl.Series]:
    """When each lived: from its first row to its last, or to the end of a child's fork."""
    batches = (batch.select(["pid", "child"]) for batch in done.trace.batches())
    rows = pl.concat([pl.DataFrame(batch) for batch in batches]).hstack(times)
    seen = pl.concat(
        [
            rows.select("pid", "seq", "ts"),
            rows.filter(pl.col("child") > 0)
            .select("seq", "ts", pid="child")
            .select("pid", "seq", "ts"),
        ]
    )
    lives = (
        done.named(
            seen.lazy()
            .group_by("pid")
            .agg(ts=pl.col("ts").min(), end=pl.col("ts").max(), seq=pl.col("seq").max())
            .sort("seq")
        )
        .sort("ts", "pid")
        .collect()
    )
    names = [
        text
        for pid, process in lives.select("pid", "process").iter_rows()
        for text in (
            _metadata("process_name", pid, 0, name=process),
            _metadata("thread_name", pid, _LIFE, name="lives"),
            *(
                _metadata("thread_name", pid, _LIFE + 1 + at, name=f"operations under {model}")
                for at, model in enumerate(done.models)
            ),
        )
    ]
    yield pl.Series(names, dtype=pl.String)
    yield _encoded(
        lives,
        ph=pl.lit("X"),
        name=pl.lit("lives"),
        cat=pl.lit("process"),
        pid="pid",
        tid=pl.lit(_LIFE),
        ts="ts",
        dur=pl.col("end") - pl.col("ts"),
    )


def _operations(done: Spooled, times: pl.LazyFrame) -> Iterator[pl.Series]:
    """An instant for each operation that changed something, with what it cost."""
    rows = done.table("operations").join(times, on="seq", how="left", maintain_order="left")
    costs = cost_columns(rows.collect_schema().names())
    for at, model in enumerate(done.models):
        of_model = rows.filter(pl.col("model") == model)
        sums = of_model.group_by("op", maintain_order=True).agg(pl.col(costs).sum()).collect()
        for (op,), of_op in sums.group_by("op", maintain_order=True):
            told = [name for name in costs if of_op[name].item()]
            if told:
                yield _encoded(
                    of_model.filter(
                        pl.col("op") == op, pl.any_horizontal(pl.col(told).ne_missing(0))
                    ).collect(),
                    ph=pl.lit("i"),
                    s=pl.lit("t"),
                    name=pl.lit(op),
                    cat=pl.lit("operation"),
                    pid="pid",
                    tid=pl.lit(_LIFE + 1 + at),
                    ts="ts",
                    args=pl.struct("seq", *told),
                )


def _counters(done: Spooled, times: pl.DataFrame) -> Iterator[pl.Series]:
    """What lived at the moments of the memory table, and what walks visited on average at each row
    at which there were any."""
    memory, walks = done.table("memory"), done.table("walks")
    kinds = [
        name
        for name, dtype in memory.collect_schema().items()
        if dtype == pl.UInt64 and name not in ("seq", "bytes", "folios", "ptes", "mms")
    ]
    for at, model in enumerate(done.models):
        pid = FIRST_COUNTER_PID + at
        yield pl.Series([_metadata("process_name", pid, 0, name=f"model {model}")])
        lived = (
            memory.filter(pl.col("model") == model)
            .join(times.lazy(), on="seq", how="left", maintain_order="left")
            .collect()
        )
        for name in (*kinds, "bytes", "folios", "ptes", "mms"):
            if lived[name].null_count() < lived.height:
                title = name if name in ("bytes", "folios", "ptes", "mms") else f"{name} live"
                yield _encoded(
                    lived, **_counter(title, pid), args=pl.struct(pl.col(name).alias(title))
                )
        visits = (
            walks.filter(pl.col("model") == model)
            .group_by("seq")
            .agg(pl.len().alias("walks"), pl.col("hits", "useless").mean())
            .join(times.lazy(), on="seq", how="left")
            .sort("seq")
            .collect()
        )
        yield _encoded(visits, **_counter("walks", pid), args=pl.struct("walks"))
        yield _encoded(
            visits, **_counter("visits per walk", pid), args=pl.struct("hits", "useless")
        )


def _counter(name: str, pid: int) -> dict[str, Any]:
    return {"ph": pl.lit("C"), "name": pl.lit(name), "pid": pl.lit(pid), "ts": "ts"}


def _metadata(what: str, pid: int, tid: int, **args: str) -> str:
    return json.dumps({"ph": "M", "name": what, "pid": pid, "tid": tid, "args": args})


def _encoded(rows: pl.DataFrame, **fields: Any) -> pl.Series:
    """A JSON object for each row."""
    return rows.select(pl.struct(**fields).struct.json_encode()).to_series()
