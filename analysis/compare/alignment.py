# SPDX-License-Identifier: GPL-2.0-only
"""Walks of several models beside each other: the same walk in one row, block by block.

Two walks are the same if row of the trace, folio and kind are equal, and both are the n-th of that
kind there. Nearly always all models make the same walks in the same order. A model whose truth
differs (one that copies pages at mremap(), or splits huge pages elsewhere) has some of its own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from rmapreplay.analysis.compare.vocabulary import COSTS

BLOCK: Final = 1 << 17
"""Walks of each model that are looked at together; more only if they are all of one row."""

KEY: Final = ("seq", "folio", "kind")
WALKED: Final = ("pid", "mapping", "fork_depth", "order", "mapcount")
"""What is said of a walk's folio, and of the mapping that it began from."""

NUMBERS: Final = ("walk", "hits", "useless_empty", "useless_other", "misses", *COSTS)
"""What each model has of its own for a walk; in a block `visits:1` is that of the second model."""

_COLUMNS: Final = (*KEY, *WALKED, *NUMBERS)


class WalkSpool:
    """A sink that keeps each model's walks in a file, and no other table.

    Args:
        directory: where; the files are there as long as it is.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._writers: dict[str, pq.ParquetWriter] = {}
        self._paths: dict[str, Path] = {}

    def expect(self, models: Sequence[str]) -> None:
        """The models that will write. Each has a file from now on, so that threads share none."""
        for i, model in enumerate(models):
            self._paths[model] = self._directory / f"walks.{i}.parquet"

    def write(self, model: str, table: str, rows: pa.RecordBatch) -> None:
        if table != "walks":
            return
        rows = rows.select(list(_COLUMNS))
        if model not in self._writers:
            self._writers[model] = pq.ParquetWriter(
                self._paths[model], rows.schema, compression="zstd", compression_level=1
            )
        if rows.num_rows:
            self._writers[model].write_batch(rows)

    def close(self) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def walks(self, model: str) -> Iterator[pl.DataFrame]:
        """What the model wrote, in order, some BLOCK rows at a time. Only after close()."""
        return walks_in(self._paths[model])


def walks_in(path: Path, model: str | None = None) -> Iterator[pl.DataFrame]:
    """A model's walks in a table of walks, or all, in order, some BLOCK rows at a time."""
    columns = [*_COLUMNS, *(["model"] if model is not None else [])]
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(batch_size=BLOCK, columns=columns):
            frame = pl.from_arrow(pa.Table.from_batches([batch]))
            assert isinstance(frame, pl.DataFrame)
            if model is not None:
                frame = frame.filter(pl.col("model").cast(pl.String) == model).drop("model")
            yield frame.with_columns(pl.col("kind", "mapping").cast(pl.String))


def aligned(models: Sequence[Iterator[pl.DataFrame]]) -> Iterator[pl.DataFrame]:
    """The walks of models beside each other.

    Args:
        models: for each, its walks in order, with the columns KEY, WALKED and NUMBERS.

    Yields frames in order of `seq`: KEY, WALKED, then for the model at place i the NUMBERS with
    `:i` behind their names. They are null where that model does not make the walk; WALKED is as the
    first of those has it that do.

    Memory is bounded by BLOCK, and by the walks of one row of the trace.
    """
    sides = [_Side(frames) for frames in models]
    while True:
        for side in sides:
            side.fill(BLOCK)
        common = min(side.held.height for side in sides)
        if common and _same_walks(sides, common):
            yield _beside([side.take(common) for side in sides])
            continue
        # A model may have walks of its own here. All of a row must be there to tell which.
        ends = [int(side.held["seq"][-1]) for side in sides if not side.ended]
        if not ends:
            rest = [side.take(side.held.height) for side in sides]
            if any(walks.height for walks in rest):
                yield _joined(rest)
            return
        whole = [side.before(min(ends)) for side in sides]
        if any(whole):
            yield _joined([side.take(n) for side, n in zip(sides, whole, strict=True)])
        else:
            for side in sides:
                side.fill(side.held.height + BLOCK)


class _Side:
    """One model's walks: those that were read and are not yet in a block."""

    def __init__(self, frames: Iterator[pl.DataFrame]) -> None:
        self._frames = frames
        self.held = pl.DataFrame(schema=dict.fromkeys(_COLUMNS, pl.Null))
        self.ended = False

    def fill(self, rows: int) -> None:
        """Hold so many, if there are."""
        while self.held.height < rows and not self.ended:
            more = next(self._frames, None)
            if more is None:
                self.ended = True
            else:
                self.held = pl.concat([self.held, more]) if self.held.height else more

    def before(self, seq: int) -> int:
        """How many are of rows before that one."""
        return int((self.held["seq"] < seq).sum()) if self.held.height else 0

    def take(self, rows: int) -> pl.DataFrame:
        taken, self.held = self.held.head(rows), self.held.slice(rows)
        return taken


def _same_walks(sides: Sequence[_Side], rows: int) -> bool:
    first, *others = (side.held.head(rows).select(KEY) for side in sides)
    return all(first.equals(other) for other in others)


def _numbers(walks: pl.DataFrame, place: int) -> pl.DataFrame:
    return walks.select(pl.col(name).alias(f"{name}:{place}") for name in NUMBERS)


def _beside(sides: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Of the same walks in the same order."""
    numbers = [_numbers(walks, place) for place, walks in enumerate(sides)]
    return pl.concat([sides[0].select(*KEY, *WALKED), *numbers], how="horizontal")


def _joined(sides: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Of walks that may have no counterpart. Those that all models make are in their order."""
    on = [*KEY, "nth"]
    numbered = [
        walks.with_columns(nth=pl.int_range(pl.len()).over(KEY)) for walks in sides if walks.height
    ]
    places = [place for place, walks in enumerate(sides) if walks.height]
    whole = (
        pl.concat([walks.select(*on, *WALKED, at=pl.int_range(pl.len())) for walks in numbered])
        .group_by(on, maintain_order=True)
        .first()
    )
    for place, walks in zip(places, numbered, strict=True):
        own = pl.concat([walks.select(on), _numbers(walks, place)], how="horizontal")
        whole = whole.join(own, on=on, how="left", maintain_order="left")
    missing = [
        pl.lit(None, pl.Int64).alias(f"{name}:{place}")
        for place in range(len(sides))
        if place not in places
        for name in NUMBERS
    ]
    return whole.with_columns(missing).sort("seq", "at").drop("nth", "at")
