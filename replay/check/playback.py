# SPDX-License-Identifier: GPL-2.0-only
"""A replay that stops at moments to look at what lives."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import polars as pl
import pyarrow as pa

from rmapreplay.replay import DEFAULT_BATCH_SIZE
from rmapreplay.replay.engine import ModelRun
from rmapreplay.replay.output import MemorySink

if TYPE_CHECKING:
    from rmapreplay.replay.specs import ModelSpec
    from rmapreplay.traces.reader import Trace


def frame(table: Any) -> pl.DataFrame:
    """An Arrow table of the native core as a polars frame."""
    made = pl.from_arrow(pa.record_batch(table) if hasattr(table, "__arrow_c_array__") else table)
    assert isinstance(made, pl.DataFrame)
    return made


@dataclass(frozen=True)
class State:
    """What lives in a replay between two rows.

    Attributes:
        vmas: every VMA: mm, pid, start, end, index, offset, flags, file, faulted.
        links: every anon_vma_chain: mm, pid, start, end, position, object, own.
        live: objects by kind.
        mms: by pid of those asked for, the mm of the process (None: there is none).
    """

    vmas: pl.DataFrame
    links: pl.DataFrame
    live: dict[str, int]
    mms: dict[int, int | None]

    def vmas_of(self, pid: int) -> pl.DataFrame:
        """The VMAs of the address space that a process uses, by address."""
        return self.vmas.filter(pl.col("mm") == self.mms.get(pid))


class Playback:
    """One replay of a trace from beginning to end, with its recorded walks only.

    Attributes:
        kernel: the rules followed.
        states: what lived before each of the rows in `stops`, in their order.
        watched: start and end of the VMAs that `watch` asked for, 0 where there was none.
        walks, visits, operations: the result tables (docs/architecture.md).
        summary: the model's part of a summary.
    """

    def __init__(
        self,
        trace: Trace,
        spec: ModelSpec,
        *,
        stops: Sequence[int],
        pids: Iterable[int],
        watch: pl.DataFrame,
        batch_size: int = DEFAULT_BATCH_SIZE,
    ) -> None:
        self._trace = trace
        self._spec = spec
        sink = MemorySink([spec.label])
        run = ModelRun(spec, trace, "none", True, sink)
        self.kernel = run.kernel
        run.native.watch(watch.select("row", "pid", pl.col("start").alias("addr")))
        asked = sorted(set(pids))
        self.states: list[State] = []
        for at in _feed(run, trace, stops, batch_size):
            assert at == stops[len(self.states)]
            self.states.append(_state(run, asked))
        run.finish()
        self.watched = frame(run.native.watched())
        self.walks = frame(sink.table("walks"))
        self.visits = _owned(frame(sink.table("visits")), run)
        self.states = [
            replace(state, links=_owned(state.links, run, first=True))
            if state.links.height
            else state
            for state in self.states
        ]
        self.operations = frame(sink.table("operations"))
        self.summary = run.summary()

    def state_before(self, row: int, pids: Iterable[int]) -> State:
        """What lives before `row`, from a replay of its own."""
        run = ModelRun(self._spec, self._trace, "none", False, None)
        for _ in _feed(run, self._trace, [row], DEFAULT_BATCH_SIZE):
            break
        return _state(run, sorted(set(pids)))


def _owned(rows: pl.DataFrame, run: ModelRun, *, first: bool = False) -> pl.DataFrame:
    """Rows with the pid of the process that came to use their mm, for those made before its fork
    row; 0 if none did. `first`: of all rows, though it may have gone and left its mm to others.
    """
    owners = frame(run.native.owners()).unique("mm", keep="last").rename({"pid": "owner"})
    owned = rows.join(owners, on="mm", how="left", maintain_order="left")
    known = pl.col("owner").is_not_null() if first else pl.lit(False)
    unnamed = pl.col("pid") == 0
    pid = pl.when(known | unnamed).then(pl.col("owner").fill_null(0)).otherwise("pid")
    return owned.with_columns(pid.alias("pid")).drop("owner")


def _feed(run: ModelRun, trace: Trace, stops: Sequence[int], batch_size: int) -> Iterable[int]:
    """Feed the whole trace; yields each of `stops`, ascending, when the rows before it are in."""
    done = 0
    left = list(stops)
    for batch in trace.batches(batch_size=batch_size):
        while left and left[0] <= done + batch.num_rows:
            ahead = left[0] - done
            run.feed(batch.slice(0, ahead))
            batch = batch.slice(ahead)
            done = left.pop(0)
            yield done
        run.feed(batch)
        done += batch.num_rows
    yield from left  # of an empty trace


def _state(run: ModelRun, pids: Iterable[int]) -> State:
    native = run.native
    return State(
        frame(native.vmas()),
        frame(native.links()),
        native.live(),
        {pid: native.mm_of(pid) for pid in pids},
    )
