# SPDX-License-Identifier: GPL-2.0-only
"""Replays a trace under several models side by side: one reader, one machine per model."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

import pyarrow as pa

from rmapreplay import _native
from rmapreplay.replay import BACKENDS, DEFAULT_BATCH_SIZE, DEFAULT_WALKS, expectations
from rmapreplay.replay.isolation import WorkerRun, trace_for_workers
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


_PROGRESS_SECONDS: Final = 0.2
"""How often to look how far models in other processes are."""

_DONE: Final[Future[None]] = Future()
_DONE.set_result(None)

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
        except (ValueError, RuntimeError) as error:
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
        except RuntimeError as error:
            broken = isinstance(error, _native.BrokenInvariant)
            event = min(self.native.row, max(0, self._rows - 1))
            raise (InvariantError if broken else ModelError)(
                self.spec.label, str(error), event=event
            ) from error
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


@expectations.checked
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
    errors: dict[str, ModelError] | None = None,
) -> dict[str, Any]:
    """Replay `trace` under each of `specs`; returns the summary (docs/architecture.md).

    Memory is bounded by what lives in the traced processes, not by the trace's length: tables go
    to `sink` as they fill, and without one they are not made. The result does not depend on
    `batch_size` (rows read at a time) or `threads` (models replayed at a time, default all).

    A model that cannot be made, or fails, takes no other with it: `models` in the summary has
    those that finished, `failed` the others, see errors_of(). `errors`, if given, gets these too,
    by label, each with the exception that caused it. What a failed model gave to `sink` is not to
    be used. A model from a shared library is replayed in a process of its own, which may crash.
    Of a trace with expectations the summary says whether they hold (replay/expectations.py).

    Raises TraceFormatError (the trace is not right; names file and row), RmapReplayError (`walks`,
    `verify`, or two models of one label).
    """
    check_walks(walks)
    verify_period(verify, trace.rows)
    labels = labels_of(specs)
    failed: dict[str, ModelError] = {}
    with ExitStack() as stack:
        here: list[ModelRun] = []
        workers: list[WorkerRun] = []
        told: dict[str, Any] = {}
        for spec in specs:
            if isinstance(spec.source, Path):
                told = told or stack.enter_context(trace_for_workers(trace))
                worker = WorkerRun(
                    spec,
                    told,
                    walks=walks,
                    visits=visits,
                    verify=verify,
                    batch_size=batch_size,
                    sink=sink,
                )
                stack.callback(worker.close)
                workers.append(worker)
                continue
            try:
                here.append(ModelRun(spec, trace, walks, visits, sink, verify))
            except ModelError as error:
                failed[spec.label] = error
        pool = stack.enter_context(ThreadPoolExecutor(min(len(specs), threads or len(specs))))
        for worker in workers:
            stack.callback(worker.kill)
        elsewhere = [(worker, pool.submit(worker.run)) for worker in workers]
        here = _replay_here(trace, here, pool, batch_size, progress, failed)
        while not here and (running := [done for _, done in elsewhere if not done.done()]):
            wait(running, timeout=_PROGRESS_SECONDS)
            if progress:
                progress(max(worker.row or 0 for worker in workers))
        finished: list[ModelRun | WorkerRun] = [*here, *_wait(elsewhere, failed)]
    if progress:
        progress(trace.rows)
    finished.sort(key=lambda run: labels.index(run.spec.label))
    failures = {label: failed[label] for label in labels if label in failed}
    if errors is not None:
        errors.update(failures)
    models = {run.spec.label: run.summary() for run in finished}
    return summarise(trace, walks, models, failures)


def backend(name: str) -> Callable[..., dict[str, Any]]:
    """What takes the arguments of run(): run() itself, or that of another of BACKENDS. Raises
    RmapReplayError if there is none of that name."""
    if name == "native":
        return run
    if name != "frames":
        raise RmapReplayError(f"backend '{name}': one of {', '.join(BACKENDS)}")
    from rmapreplay.replay import frames

    return frames.run


def labels_of(specs: Sequence[ModelSpec]) -> list[str]:
    """Raises RmapReplayError if two are the same."""
    labels = [spec.label for spec in specs]
    for label in labels:
        if labels.count(label) > 1:
            raise RmapReplayError(f"model {label} is given twice")
    return labels


def _replay_here(
    trace: Trace,
    runs: list[ModelRun],
    pool: ThreadPoolExecutor,
    batch_size: int,
    progress: Progress | None,
    failed: dict[str, ModelError],
) -> list[ModelRun]:
    """Feed all of the trace to these; returns those that did not fail."""
    if not runs:
        return runs
    events = 0
    # While the models replay one batch the reader decodes the next.
    pending: list[tuple[ModelRun, Future[None]]] = [(run, _DONE) for run in runs]
    for batch in trace.batches(batch_size=batch_size):
        runs = _wait(pending, failed)
        if progress and events:
            progress(events)
        events += batch.num_rows
        pending = [(run, pool.submit(run.feed, batch)) for run in runs]
        if not runs:
            break
    runs = _wait(pending, failed)
    return _wait([(run, pool.submit(run.finish)) for run in runs], failed)


_Run = TypeVar("_Run", ModelRun, WorkerRun)


def _wait(
    pending: Sequence[tuple[_Run, Future[None]]], failed: dict[str, ModelError]
) -> list[_Run]:
    """Wait for all; returns those that did not fail, and notes the others. Raises what is no
    model's failure."""
    for _, future in pending:
        future.exception()
    alive = []
    for run, future in pending:
        try:
            future.result()
        except ModelError as error:
            failed[run.spec.label] = error
        else:
            alive.append(run)
    return alive


def errors_of(summary: Mapping[str, Any]) -> dict[str, ModelError]:
    """The errors of the models that failed, by label: ModelError, or InvariantError."""
    return {
        label: (InvariantError if found["invariant"] else ModelError)(
            label, found["message"], event=found["event"]
        )
        for label, found in summary["failed"].items()
    }


def summarise(
    trace: Trace,
    walks: str,
    models: Mapping[str, dict[str, Any]],
    failed: Mapping[str, ModelError],
) -> dict[str, Any]:
    """A run's summary, from those of the models that finished, and what failed, by label."""
    # VMAs merge differently under different models, so each has anomalies of its own; the trace's
    # are those of the model that met most.
    anomalies: dict[str, int] = {}
    for model in models.values():
        for kind, found in model["anomalies"].items():
            anomalies[kind] = max(anomalies.get(kind, 0), found["count"])
    return {
        "trace": {
            "path": str(place) if (place := trace.path or getattr(trace, "url", None)) else None,
            "metadata": dict(trace.metadata),
        },
        "events": trace.rows,
        "walk_policy": walks,
        "anomalies": dict(sorted(anomalies.items())),
        "models": models,
        "failed": {
            label: {
                "message": error.reason,
                "event": error.event,
                "invariant": isinstance(error, InvariantError),
            }
            for label, error in failed.items()
        },
    }
