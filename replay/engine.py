# SPDX-License-Identifier: GPL-2.0-only
"""Replays a trace under several models side by side: one reader, one machine per model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import pyarrow as pa

from rmapreplay import _native
from rmapreplay.replay import DEFAULT_BATCH_SIZE, DEFAULT_WALKS
from rmapreplay.replay.specs import ModelSpec
from rmapreplay.traces.errors import (
    InvariantError,
    ModelError,
    RmapReplayError,
    TraceFormatError,
)

DEFAULT_STACK_LIMIT = 8 << 20
"""Bytes; what Linux starts out with."""

SAMPLED_VERIFICATIONS = 64
"""At how many points, at most, a replay that is verified by sample recounts itself."""

Verify = bool | int | str
"""When a replay recounts every invariant: False never; True or "sampled" at points that are evenly
spaced over the trace; a number N after each N events; "all" after each event. All but never
include the end. Numbers may be text."""


class Trace(Protocol):
    """What the engine needs of a trace; `rmapreplay.traces.reader.Trace` is one."""

    @property
    def path(self) -> Path | None: ...
    @property
    def rows(self) -> int: ...
    @property
    def metadata(self) -> Mapping[str, Any]: ...
    def batches(self, batch_size: int = ...) -> Iterator[pa.RecordBatch]: ...


class Sink(Protocol):
    """Takes the result tables as they fill."""

    def write(self, model: str, table: str, rows: pa.RecordBatch) -> None:
        """Take the next rows of a model's table (one of TABLES), in order.

        Called by the thread that replays the model: never twice at a time for one model, but for
        several models at once. Every table comes at least once, the last time perhaps empty.
        """


Progress = Callable[[int], None]
"""Called after each batch with the number of events replayed so far."""


class ModelRun:
    """One model's replay, and the time it took."""

    def __init__(
        self,
        spec: ModelSpec,
        trace: Trace,
        walks: str,
        visits: bool,
        sink: Sink | None,
        verify: Verify = False,
    ) -> None:
        self.spec = spec
        self._rows = trace.rows
        self.kernel = spec.kernel(trace.metadata)
        self.seconds = 0.0
        self._path = trace.path
        thp: Mapping[str, Any] = trace.metadata.get("thp") or {}
        enabled = thp.get("enabled")

        def write(table: str, rows: Any) -> None:
            assert sink is not None
            sink.write(spec.label, table, pa.record_batch(rows))

        try:
            self.native = _native.Replay(
                model=spec.source,
                label=spec.label,
                params=dict(spec.params),
                kernel=self.kernel,
                thp=enabled if enabled in ("always", "madvise") else "never",
                use_zero_page=bool(thp.get("use_zero_page", True)),
                stack_limit=int(trace.metadata.get("stack_limit") or DEFAULT_STACK_LIMIT),
                teardown=_teardown(trace.metadata),
                orders=bool(trace.metadata.get("fault_orders")),
                rows=trace.rows,
                walks=walks,
                visits=visits,
                sink=None if sink is None else write,
            )
        except ValueError as error:
            raise ModelError(spec.label, str(error)) from error
        self.native.verify_every(verify_period(verify, trace.rows))

    def feed(self, batch: pa.RecordBatch) -> None:
        self._timed(lambda: self.native.feed(batch))

    def finish(self) -> None:
        self._timed(self.native.finish)

    def _timed(self, step: Callable[[], None]) -> None:
        start = time.perf_counter()
        try:
            step()
        except ValueError as error:
            raise TraceFormatError(str(error), path=self._path, row=self.native.row) from error
        except _native.BrokenInvariant as error:
            last = max(0, self._rows - 1)
            raise InvariantError(
                self.spec.label, str(error), event=min(self.native.row, last)
            ) from error
        except RuntimeError as error:
            raise ModelError(self.spec.label, str(error), event=self.native.row) from error
        finally:
            self.seconds += time.perf_counter() - start

    def summary(self) -> dict[str, Any]:
        summary: dict[str, Any] = self.native.summary()
        events = summary.pop("events")
        return {
            "kernel": self.kernel,
            **summary,
            "seconds": round(self.seconds, 6),
            "events_per_second": round(events / self.seconds) if self.seconds else None,
        }


def _teardown(metadata: Mapping[str, Any]) -> str:
    rows = metadata.get("teardown") or []
    if "unmap_vmas" in rows:
        return "all"
    return "vmas" if "exit_mmap" in rows else "at_exit"


def check_walks(text: str) -> str:
    """Return a walk policy as it came. Raises RmapReplayError if it is not one."""
    try:
        _native.check_walk_policy(text)
    except ValueError as error:
        raise RmapReplayError(str(error)) from error
    return text


def verify_period(verify: Verify, rows: int) -> int:
    """Events between two verifications of a trace of so many rows; 0: none at all.

    Raises RmapReplayError if `verify` is not what Verify says.
    """
    if verify is False:
        return 0
    if verify is True or verify == "sampled":
        return max(1, -(-rows // SAMPLED_VERIFICATIONS))
    if verify == "all":
        return 1
    try:
        period = int(verify)
    except ValueError:
        period = 0
    if period < 1:
        raise RmapReplayError(f"verify '{verify}': one of sampled, all, or a number of events")
    return period


def run(
    trace: Trace,
    specs: Sequence[ModelSpec],
    *,
    walks: str = DEFAULT_WALKS,
    visits: bool = False,
    verify: Verify = False,
    batch_size: int = DEFAULT_BATCH_SIZE,
    threads: int | None = None,
    sink: Sink | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Replay `trace` under each of `specs`; returns the summary (docs/architecture.md).

    Memory is bounded by what lives in the traced processes, not by the trace's length: tables go
    to `sink` as they fill, and without one they are not made. The result does not depend on
    `batch_size` (rows read at a time) or `threads` (models replayed at a time, default all).

    Raises TraceFormatError (the trace is not right; names file and row), ModelError (a model
    cannot be made or failed), InvariantError (a ModelError: `verify` found an invariant broken;
    what other models found is lost), RmapReplayError (`walks`, `verify`, or two models of one
    label).
    """
    check_walks(walks)
    labels = [spec.label for spec in specs]
    for label in labels:
        if labels.count(label) > 1:
            raise RmapReplayError(f"model {label} is given twice")
    runs = [ModelRun(spec, trace, walks, visits, sink, verify) for spec in specs]
    events = 0
    with ThreadPoolExecutor(max_workers=min(len(runs), threads or len(runs))) as pool:
        # While the models replay one batch the reader decodes the next.
        pending: list[Future[None]] = []
        for batch in trace.batches(batch_size=batch_size):
            _wait(pending)
            if progress and events:
                progress(events)
            events += batch.num_rows
            pending = [pool.submit(run.feed, batch) for run in runs]
        _wait(pending)
        _wait([pool.submit(run.finish) for run in runs])
    if progress:
        progress(events)
    return _summarise(trace, events, walks, runs)


def _wait(pending: Sequence[Future[None]]) -> None:
    """Wait for all; raises what the first to fail, in order of the models, has raised."""
    for future in pending:
        future.exception()
    for future in pending:
        future.result()


def _summarise(trace: Trace, events: int, walks: str, runs: Sequence[ModelRun]) -> dict[str, Any]:
    models = {run.spec.label: run.summary() for run in runs}
    # VMAs merge differently under different models, so each has anomalies of its own; the trace's
    # are those of the model that met most.
    anomalies: dict[str, int] = {}
    for model in models.values():
        for kind, found in model["anomalies"].items():
            anomalies[kind] = max(anomalies.get(kind, 0), found["count"])
    return {
        "trace": {
            "path": str(trace.path) if trace.path else None,
            "metadata": dict(trace.metadata),
        },
        "events": events,
        "walk_policy": walks,
        "anomalies": dict(sorted(anomalies.items())),
        "models": models,
    }
