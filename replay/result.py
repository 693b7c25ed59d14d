# SPDX-License-Identifier: GPL-2.0-only
"""What a replay found, as polars frames and a summary."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmapreplay.replay import DEFAULT_BACKEND, DEFAULT_BATCH_SIZE, DEFAULT_WALKS

if TYPE_CHECKING:
    import polars as pl

    from rmapreplay.replay import engine
    from rmapreplay.rmap_models.base import ModelOps, RmapModel
    from rmapreplay.traces.errors import ModelError

    Model = str | type[RmapModel] | ModelOps


class Result:
    """What a replay found.

    Attributes:
        summary: the totals and distributions, as in DIR/summary.json.
        failed: the errors of models that failed, by label: ModelError, or InvariantError, with
            the exception that caused it. They have no rows in the frames.

    The frames have a column `model`, and hold one model's rows after another's. Counters that a
    model does not have are null in its rows.
    """

    def __init__(
        self,
        summary: dict[str, Any],
        load: Callable[[str], pl.DataFrame],
        failed: Mapping[str, ModelError],
    ) -> None:
        self.summary = summary
        self.failed = failed
        self._load = load
        self._frames: dict[str, pl.DataFrame] = {}

    def _frame(self, name: str) -> pl.DataFrame:
        if name not in self._frames:
            self._frames[name] = self._load(name)
        return self._frames[name]

    @property
    def walks(self) -> pl.DataFrame:
        """One row per walk and model: walk, seq (row of the trace), kind, folio; of the mapping it
        began from pid, mapping (heap, stack, anon or file) and fork_depth; order, mapcount (PTEs),
        visits, hits, useless (VMAs), misses (PTEs), levels, the sums steps, lookups, locks and
        refcounts (docs/metrics.md), and the model's counters."""
        return self._frame("walks")

    @property
    def visits(self) -> pl.DataFrame:
        """One row per VMA offered to a walk, if they were asked for: walk, visit (from 0), mm, pid,
        start, end (bytes), index (of start, in pages), hits (PTEs)."""
        return self._frame("visits")

    @property
    def misses(self) -> pl.DataFrame:
        """One row per mapping that a walk was never offered: walk, seq, mm, pid, addr (bytes)."""
        return self._frame("misses")

    @property
    def operations(self) -> pl.DataFrame:
        """One row per operation that cost something: seq, op, pid, the sums links, locks and
        refcounts (docs/metrics.md), objects allocated and freed by kind, the model's counters."""
        return self._frame("operations")

    @property
    def memory(self) -> pl.DataFrame:
        """Live objects by kind at moments of the trace: seq, time (ns), counts, bytes in all,
        folios, ptes, mms."""
        return self._frame("memory")

    def __repr__(self) -> str:
        models = ", ".join(self.summary["models"])
        return f"<rmapreplay.Result: {self.summary['events']} events under {models}>"


def replay(
    trace: engine.Trace | str | Path,
    model: Model | Sequence[Model],
    *,
    walks: str = DEFAULT_WALKS,
    visits: bool = False,
    verify: engine.Verify = False,
    out: str | Path | None = None,
    force: bool = False,
    batch_size: int = DEFAULT_BATCH_SIZE,
    threads: int | None = None,
    progress: engine.Progress | None = None,
    backend: str = DEFAULT_BACKEND,
) -> Result:
    """Replay a trace under one model or several side by side.

    Args:
        trace: a trace, or the path of one.
        model: `name` or `name:key=value,...` as `--model` takes it, a subclass of RmapModel, an
            object with `rmap_model_ops`, or several.
        walks: when walks happen beside those recorded: scan:K, every:N, sample:N@seed, reclaim:N,
            end or none, each with an optional `,kind=referenced|unmap|migrate|all`.
        visits: also record every VMA offered.
        verify: when to recount every invariant of machine and models, beside at the end: True or
            "sampled" (at 64 points), "all" (after each event), or a number N (after each N events).
        out: a directory for the tables; without it they are kept in memory.
        force: replace results in `out`.
        batch_size: rows read at a time.
        threads: models replayed at a time.
        progress: called now and then with the number of events replayed.
        backend: native, or frames (docs/frames.md): the model's frame form says what walks cost.

    A model that fails takes no other with it: Result.failed has its error. Raises that of the
    first, ModelError or InvariantError (a ModelError: an invariant is broken), only if none
    finished; and ModelError if there is no such model. Raises TraceFormatError or RmapReplayError
    if trace or arguments are not right.
    """
    from rmapreplay.replay import engine
    from rmapreplay.replay.output import DirectorySink, MemorySink
    from rmapreplay.replay.specs import ModelSpec

    if isinstance(trace, str | Path):
        from rmapreplay.traces.reader import read_trace

        trace = read_trace(trace)
    models = model if isinstance(model, Sequence) and not isinstance(model, str) else [model]
    specs = [ModelSpec.of(each) for each in models]
    labels = [spec.label for spec in specs]

    errors: dict[str, ModelError] = {}

    def run(sink: engine.Sink) -> dict[str, Any]:
        summary = engine.backend(backend)(
            trace,
            specs,
            walks=walks,
            visits=visits,
            verify=verify,
            batch_size=batch_size,
            threads=threads,
            sink=sink,
            progress=progress,
            errors=errors,
        )
        if not summary["models"]:
            raise next(iter(errors.values()))
        return summary

    if out is None:
        memory = MemorySink(labels)
        summary = run(memory)
        for label in summary["failed"]:
            memory.drop(label)
        return Result(summary, lambda name: _from_arrow(memory.table(name)), errors)
    with DirectorySink(out, labels, visits=visits, force=force) as directory:
        summary = run(directory)
        directory.write_summary(summary)
    return Result(summary, lambda name: _from_file(directory.directory / f"{name}.parquet"), errors)


def _from_arrow(table: Any) -> pl.DataFrame:
    import polars as pl

    frame = pl.from_arrow(table)
    assert isinstance(frame, pl.DataFrame)
    return frame


def _from_file(path: Path) -> pl.DataFrame:
    import pyarrow.parquet as pq

    return _from_arrow(pq.read_table(path))
