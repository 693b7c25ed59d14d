# SPDX-License-Identifier: GPL-2.0-only
"""A replay for other programs to show: its tables, read lazily from disk, and names."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import polars as pl
import pyarrow as pa

from rmapreplay.analysis.processes import comms
from rmapreplay.replay import DEFAULT_WALKS
from rmapreplay.replay.figures import is_rmap
from rmapreplay.replay.result import replay
from rmapreplay.traces.reader import Trace, read_trace

if TYPE_CHECKING:
    from rmapreplay.replay.engine import Progress
    from rmapreplay.replay.result import Model

_COSTS: Final = ("links", "locks", "refcounts")


@dataclass(frozen=True)
class Spooled:
    """A replay whose tables are files.

    Attributes:
        trace: what was replayed.
        summary: as Result.summary.
        directory: where the tables are, for as long as replayed() lasts.
    """

    trace: Trace
    summary: dict[str, Any]
    directory: Path

    @property
    def models(self) -> list[str]:
        """Labels of the models that finished."""
        return list(self.summary["models"])

    def table(self, name: str) -> pl.LazyFrame:
        """walks, operations or memory; the model as text."""
        return pl.scan_parquet(self.directory / f"{name}.parquet").with_columns(
            pl.col("model").cast(pl.String)
        )

    def times(self) -> pl.DataFrame:
        """seq (u64) and time (i64, ns) of each row of the trace."""
        times = [batch["time"] for batch in self.trace.batches()]
        column = pl.Series("time", pa.chunked_array(times, pa.int64()))
        return pl.DataFrame(column).with_row_index("seq").cast({"seq": pl.UInt64})

    def named(self, rows: pl.LazyFrame) -> pl.LazyFrame:
        """Rows with seq and pid, sorted by seq, and `process`: what that pid was called then."""
        with_names = rows.join_asof(
            comms(self.trace).lazy(), on="seq", by="pid", check_sortedness=False
        )
        process = pl.format("{} [{}]", pl.col("comm").fill_null("?"), "pid")
        return with_names.with_columns(process=process).drop("comm")


@contextmanager
def replayed(
    trace: Trace | str | Path,
    models: Model | Sequence[Model],
    *,
    walks: str = DEFAULT_WALKS,
    progress: Progress | None = None,
) -> Iterator[Spooled]:
    """Replay, with the tables in a temporary directory. Raises what replay() does; a model that
    fails is not among the tables."""
    opened = trace if isinstance(trace, Trace) else read_trace(trace)
    with tempfile.TemporaryDirectory(prefix="rmapreplay-") as room:
        out = Path(room) / "tables"
        result = replay(opened, models, walks=walks, out=out, progress=progress)
        yield Spooled(opened, result.summary, out)


def cost_columns(columns: Sequence[str]) -> list[str]:
    """Of the operations table: the sums, and what was allocated and freed by kind, but for VMAs."""
    objects = [
        name
        for name in columns
        if name.endswith(("_allocated", "_freed")) and is_rmap(name.rpartition("_")[0])
    ]
    return [*_COSTS, *objects]
