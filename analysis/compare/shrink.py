# SPDX-License-Identifier: GPL-2.0-only
"""Cuts a trace down to the rows that two models need to differ in a walk."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from rmapreplay.analysis.compare.alignment import WalkSpool
from rmapreplay.analysis.compare.comparison import replay_walks
from rmapreplay.analysis.compare.divergence import Divergence, find, search
from rmapreplay.analysis.compare.vocabulary import FOUND
from rmapreplay.replay.output import WholeDirectory
from rmapreplay.replay.specs import ModelSpec
from rmapreplay.testing.shrink import shrink
from rmapreplay.traces.errors import RmapReplayError
from rmapreplay.traces.reader import Trace, read_trace
from rmapreplay.traces.scenarios import to_text
from rmapreplay.traces.schema import FILE_SCHEMA
from rmapreplay.traces.writer import write_trace

if TYPE_CHECKING:
    from rmapreplay.replay.result import Model

DEFAULT_SECONDS: Final = 60.0
TRACE: Final = "divergence.parquet"
SCENARIO: Final = "divergence.scn"

_WALKS: Final = "none"
"""The only walk is the trace's last row."""
_HUGE: Final = 1 << 21


@dataclass(frozen=True)
class Shrunk:
    """The shortest trace found in which two models differ. Its last row is the walk.

    Attributes:
        trace: in memory; it needs no walks beside its own (`--walks none`).
        divergence: what is to be seen in it.
        rows_before: rows of the trace that it was cut from, up to the walk.
    """

    trace: Trace
    divergence: Divergence
    rows_before: int

    def explain_in(self, path: Path) -> str:
        """The command that tells both models' walks step by step, once it is written there."""
        return replace(self.divergence, trace=str(path)).explain

    def to_dict(self) -> dict[str, Any]:
        """As `--format json` prints it."""
        return {
            "rows": self.trace.rows,
            "rows_before": self.rows_before,
            "divergence": self.divergence.to_dict(),
        }

    def text(self) -> str:
        """The trace as a scenario (docs/scenarios.md)."""
        found = self.divergence
        what = "the mappings found" if found.metric == FOUND else found.metric
        about = f"In the last walk {found.model} differs from {found.reference} in {what}."
        return to_text(self.trace, about=about)

    def write(self, directory: str | Path, *, force: bool = False) -> Path:
        """Write it as DIRECTORY/divergence.parquet, whose path is returned, and as a scenario,
        DIRECTORY/divergence.scn.

        Raises RmapReplayError if there is one and `force` is not set, or it cannot be written.
        """
        with _Directory(directory, self.trace, self.text(), force=force):
            pass
        return Path(directory) / TRACE


class _Directory(WholeDirectory):
    def __init__(self, directory: str | Path, trace: Trace, text: str, *, force: bool) -> None:
        super().__init__(directory, [SCENARIO, TRACE], force=force)
        self._trace = trace
        self._text = text

    def _complete(self) -> None:
        rows = self._trace.slice(0, self._trace.rows)
        write_trace(self._temporary / TRACE, rows.to_batches(), dict(self._trace.metadata))
        (self._temporary / SCENARIO).write_text(self._text)


def shrink_divergence(
    trace: Trace | str | Path,
    models: Sequence[Model],
    divergence: Divergence,
    seconds: float = DEFAULT_SECONDS,
) -> Shrunk:
    """Leave out rows of a trace as long as the two models still differ in a walk of the same page,
    by the same metric, and no new kind of anomaly comes up.

    Args:
        trace: where `divergence` was found, or its path.
        models: those given to first_divergence(), or the two that differ.
        divergence: what it returned.
        seconds: after which to be content with what there is.

    Raises RmapReplayError if a walk at the end of these rows does not show it (as where the walk
    was of an mm that no process had yet), and what first_divergence() raises.
    """
    opened = trace if isinstance(trace, Trace) else read_trace(trace)
    by_label = {spec.label: spec for spec in map(ModelSpec.of, models)}
    specs = [by_label[divergence.reference], by_label[divergence.model]]
    cut = _Cut(opened, specs, divergence)
    rows = cut.first_rows()
    kept = shrink([*range(rows.num_rows)], cut.shows(rows), seconds, keep_last=True)
    small = cut.trace_of(rows, kept)
    found = find(small, "in memory", specs, divergence.metric, _WALKS)
    assert found is not None
    return Shrunk(small, found, divergence.seq + 1)


class _Cut:
    """Rows of a trace with a walk behind them, and whether that shows the divergence."""

    def __init__(self, trace: Trace, specs: Sequence[ModelSpec], divergence: Divergence) -> None:
        self._trace = trace
        self._specs = specs
        self._divergence = divergence
        # A scenario's expectations speak of rows that will be others.
        dropped = ("rows", "expect")
        self._metadata = {key: value for key, value in trace.metadata.items() if key not in dropped}
        self._metadata["description"] = f"cut from {Path(divergence.trace).stem}"
        self._anomalies: set[str] = set()

    def first_rows(self) -> pa.Table:
        """Rows to begin with: without the faults on other pages, and without processes that are no
        relatives, where that will do; else all up to the walk. The last is the walk."""
        near = self._with_walk(self._rows(self._near))
        if self._differs(self._trace_of(near)):
            related = near.filter(_relatives(near, self._divergence.pid))
            return related if self._differs(self._trace_of(related)) else near
        whole = self._with_walk(self._rows(None))
        if not self._differs(self._trace_of(whole), remember=True):
            raise RmapReplayError(
                f"row {self._divergence.seq}: a walk of {self._divergence.address:#x} in process "
                f"{self._divergence.pid} does not show it again, so it cannot be cut out"
            )
        return whole

    def shows(self, rows: pa.Table) -> Callable[[list[int]], bool]:
        return lambda kept: self._differs(self.trace_of(rows, kept))

    def trace_of(self, rows: pa.Table, kept: Sequence[int]) -> Trace:
        return self._trace_of(rows.take(pa.array(kept, pa.int64())))

    def _trace_of(self, rows: pa.Table) -> Trace:
        return read_trace(rows, self._metadata)

    def _rows(self, keep: Callable[[pa.RecordBatch], Any] | None) -> pa.Table:
        return self._trace.slice(0, self._divergence.seq + 1, keep)

    def _near(self, batch: pa.RecordBatch) -> Any:
        """All but faults and walks elsewhere."""
        size = 4096 if self._divergence.order == 0 else _HUGE
        start = self._divergence.address & ~(size - 1)
        there = pc.and_(
            pc.greater_equal(batch["addr"], start), pc.less(batch["addr"], start + size)
        )
        op = batch["op"].cast(pa.string())
        elsewhere = pc.is_in(op, pa.array(["fault", "walk"]))
        return pc.or_(pc.invert(elsewhere), pc.fill_null(there, False))

    def _with_walk(self, rows: pa.Table) -> pa.Table:
        found = self._divergence
        walk = {
            "time": rows["time"][-1].as_py() if rows.num_rows else 0,
            "op": "walk",
            "pid": found.pid,
            "tid": found.pid,
            "addr": found.address,
            "kind": found.kind,
            "order": found.order or None,
        }
        last = pa.RecordBatch.from_pylist([walk], FILE_SCHEMA)
        return pa.concat_tables([rows, pa.Table.from_batches([last])]).unify_dictionaries()

    def _differs(self, trace: Trace, *, remember: bool = False) -> bool:
        with tempfile.TemporaryDirectory(prefix="rmapreplay-") as room:
            spool = WalkSpool(Path(room))
            try:
                summary = replay_walks(trace, self._specs, _WALKS, spool)
            except RmapReplayError:
                return False
            if summary["failed"]:
                return False
            anomalies = set(summary["anomalies"])
            if remember:
                self._anomalies = anomalies
            if not anomalies <= self._anomalies:
                return False
            walks = [spool.walks(spec.label) for spec in self._specs]
            return search(walks, self._divergence.metric) is not None


def _relatives(rows: pa.Table, pid: int) -> pa.Array:
    """Which rows are of processes that forks connect with that one."""
    forks = rows.filter(pc.equal(rows["op"].cast(pa.string()), "fork"))
    family = {pid}
    pairs = list(zip(forks["pid"].to_pylist(), forks["child"].to_pylist(), strict=True))
    while True:
        more = {both for pair in pairs if family & set(pair) for both in pair} - family
        if not more:
            return pc.is_in(rows["pid"], pa.array(sorted(family), pa.int32()))
        family |= more
