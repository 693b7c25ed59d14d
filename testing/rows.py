# SPDX-License-Identifier: GPL-2.0-only
"""Rows of a trace that are made up in memory: replayed as they are, and written out for people."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow as pa

from rmapreplay.traces.schema import CANONICAL_SCHEMA, FILE_SCHEMA, NAMED_COLUMNS
from rmapreplay.traces.writer import write_trace

PAGE = 4096
Row = Mapping[str, Any]
"""A row of a trace: what is given, by column; columns left out are null."""


class RowsTrace:
    """Rows as a trace that an engine can replay: an engine.Trace."""

    path = None

    def __init__(self, rows: Sequence[Row], metadata: Mapping[str, Any]) -> None:
        self.metadata = metadata
        self.rows = len(rows)
        self._rows = rows

    @cached_property
    def _whole(self) -> pa.RecordBatch:
        return canonical(self._rows)

    def batches(self, batch_size: int = 1 << 16) -> Iterator[pa.RecordBatch]:
        for start in range(0, self.rows, batch_size):
            yield self._whole.slice(start, batch_size)


def canonical(rows: Sequence[Row]) -> pa.RecordBatch:
    """Rows as a replay takes them. A reader would make the same of them, slowly for so few."""
    columns = []
    for file, field in zip(FILE_SCHEMA, CANONICAL_SCHEMA, strict=True):
        values = [row.get(file.name) for row in rows]
        if all(value is None for value in values):
            columns.append(pa.nulls(len(rows), field.type))
            continue
        if names := NAMED_COLUMNS.get(file.name):
            # Of paths only the kernel's own names are told apart.
            other = 0 if file.name == "path" else None
            values = [None if value is None else _code(names, value, other) for value in values]
        columns.append(pa.array(values, field.type))
    return pa.RecordBatch.from_arrays(columns, schema=CANONICAL_SCHEMA)


def _code(names: Sequence[str], name: str, other: int | None) -> int | None:
    return names.index(name) if name in names else other


def write_rows(path: Path, rows: Sequence[Row], metadata: Mapping[str, Any]) -> Path:
    """Write rows as a trace, PATH.parquet, and for reading, PATH.txt; returns the former.

    Raises RmapReplayError or OSError if that cannot be done.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    trace = path.with_name(f"{path.name}.parquet")
    write_trace(trace, [pa.RecordBatch.from_pylist(list(rows), FILE_SCHEMA)], dict(metadata))
    lines = [f"{i:4} {line(row)}\n" for i, row in enumerate(rows)]
    path.with_name(f"{path.name}.txt").write_text(f"{dict(metadata)}\n" + "".join(lines))
    return trace


_DECIMAL = {"fd", "file", "advice", "child", "child_tid", "error", "prot", "order"}


def line(row: Row) -> str:
    """A row as one line: process, operation, and what is given."""
    words = [f"{row['pid']} {row['op']:<10}"]
    for name, value in row.items():
        if name in ("time", "op", "pid", "tid") or value is None:
            continue
        if name in ("len", "new_len") and value % PAGE == 0:
            words.append(f"{name}={value // PAGE} pages")
        elif isinstance(value, int) and not isinstance(value, bool) and name not in _DECIMAL:
            words.append(f"{name}={value:#x}")
        else:
            words.append(f"{name}={value}")
    return " ".join(words)
