# SPDX-License-Identifier: GPL-2.0-only
"""A plan as record batches of a trace."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import polars as pl
import pyarrow as pa

from rmapreplay.traces.capture.snapshot.plan import DROP, PAGES, READ, SWAP, SWAP_OUT, WRITE, Plan
from rmapreplay.traces.capture.snapshot.rows import MADV_DONTNEED_LOCKED, PAGE
from rmapreplay.traces.schema import FILE_SCHEMA

_BATCH_ROWS: Final = 1 << 16

_COLUMNS: Final = {
    "op": pl.String,
    "pid": pl.Int32,
    "addr": pl.UInt64,
    "len": pl.UInt64,
    "new_addr": pl.UInt64,
    "offset": pl.UInt64,
    "flags": pl.UInt64,
    "vm_flags": pl.UInt64,
    "prot": pl.UInt32,
    "file": pl.UInt32,
    "advice": pl.Int32,
    "child": pl.Int32,
    "child_tid": pl.Int32,
    "path": pl.String,
    "write": pl.Boolean,
    "source": pl.String,
    "order": pl.UInt8,
}
_PLACE: Final = {"block": pl.UInt32, "part": pl.UInt8}


def batches(plan: Plan, time: int) -> Iterator[pa.RecordBatch]:
    """Rows of FILE_SCHEMA in the order of the history, all of one time (ns)."""
    rows = pl.DataFrame(plan.rows, schema={**_PLACE, **_COLUMNS}, orient="row")
    parts = [rows, *_page_rows(plan)]
    table = pl.concat(parts, how="diagonal").sort("block", "part", maintain_order=True)
    for at in range(0, table.height, _BATCH_ROWS):
        yield _batch(table[at : at + _BATCH_ROWS], time)


def _page_rows(plan: Plan) -> list[pl.DataFrame]:
    """Rows for the pages: drops first, then what is written and read, then what goes to swap."""
    if not plan.runs:
        return []
    runs = _joined(_with_access(pl.concat(plan.runs), plan)).with_columns(
        pid=pl.col("block").replace_strict(range(len(plan.pids)), plan.pids, return_dtype=pl.Int32),
        part=pl.when(pl.col("step") == SWAP_OUT).then(SWAP).otherwise(PAGES),
    )
    single = (pl.col("order") > 0) | ~pl.col("writable")
    steps = {step: runs.filter(pl.col("step") == step) for step in (DROP, WRITE, READ, SWAP_OUT)}
    return [
        _ranges(steps[DROP], op="madvise", advice=MADV_DONTNEED_LOCKED),
        _ranges(steps[WRITE].filter(~single), op="populate", write=True),
        _faults(steps[WRITE].filter(single)),
        _ranges(steps[READ], op="populate", write=False),
        _ranges(steps[SWAP_OUT], op="swap_out"),
    ]


def _with_access(runs: pl.DataFrame, plan: Plan) -> pl.DataFrame:
    """Adds `writable`: whether a run's VMA is. What went with its VMA is left out."""
    vmas = pl.DataFrame(
        [
            (block, vma.start, vma.end, vma.writable)
            for block in runs["block"].unique().to_list()
            for vma in plan.layouts[block]
        ],
        schema={"block": pl.UInt32, "start": pl.UInt64, "end": pl.UInt64, "writable": pl.Boolean},
        orient="row",
    )
    known = runs.sort("start").join_asof(
        vmas.sort("start"), on="start", by="block", check_sortedness=False
    )
    return known.filter(pl.col("start") < pl.col("end"))


def _joined(runs: pl.DataFrame) -> pl.DataFrame:
    """Runs that one row can stand for, joined."""
    key = ["block", "step", "order", "writable"]
    runs = runs.sort(*key, "start")
    new = pl.col("start") != (pl.col("start") + pl.col("len")).shift(1)
    for name in key:
        new |= pl.col(name) != pl.col(name).shift(1)
    runs = runs.with_columns(run=new.fill_null(value=True).cum_sum())
    return runs.group_by(*key, "run", maintain_order=True).agg(
        pl.col("start").first(), pl.col("len").sum()
    )


def _ranges(runs: pl.DataFrame, **constant: object) -> pl.DataFrame:
    rows = runs.select("block", "part", "pid", "len", addr="start")
    return _typed(rows.with_columns(pl.lit(value).alias(name) for name, value in constant.items()))


def _faults(runs: pl.DataFrame) -> pl.DataFrame:
    """A row per folio: those of several pages, and those that no call could write."""
    start, length = pl.col("start").cast(pl.Int64), pl.col("len").cast(pl.Int64)
    step = PAGE * pl.lit(2, pl.Int64).pow("order")
    rows = runs.with_columns(addr=pl.int_ranges(start, start + length, step)).explode("addr")
    rows = rows.filter(pl.col("addr").is_not_null())
    return _typed(
        rows.select("block", "part", "pid", "addr", "order").with_columns(
            op=pl.lit("fault"), write=pl.lit(value=True), source=pl.lit("gup")
        )
    )


def _typed(rows: pl.DataFrame) -> pl.DataFrame:
    kinds = {**_PLACE, **_COLUMNS}
    return rows.select(pl.col(name).cast(kinds[name]) for name in rows.columns)


def _batch(rows: pl.DataFrame, time: int) -> pa.RecordBatch:
    table = rows.to_arrow().combine_chunks()
    columns = []
    for field in FILE_SCHEMA:
        if field.name == "time":
            columns.append(pa.array([time], pa.int64()).take(pa.array([0] * rows.height)))
        elif field.name == "tid":
            columns.append(_column(table, "pid"))
        elif field.name not in _COLUMNS:
            columns.append(pa.nulls(rows.height, field.type))
        elif pa.types.is_dictionary(field.type):
            values = _column(table, field.name).cast(pa.string()).dictionary_encode()
            codes = values.indices.cast(field.type.index_type)
            columns.append(pa.DictionaryArray.from_arrays(codes, values.dictionary))
        else:
            columns.append(_column(table, field.name).cast(field.type))
    return pa.RecordBatch.from_arrays(columns, schema=FILE_SCHEMA)


def _column(table: pa.Table, name: str) -> pa.Array:
    chunks = table.column(name).chunks
    return chunks[0] if chunks else pa.nulls(0, table.schema.field(name).type)
