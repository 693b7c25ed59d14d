# SPDX-License-Identifier: GPL-2.0-only
"""Reading and writing traces: round trip, batch splits, and every way a file can be wrong."""

from __future__ import annotations

import json
import os
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rmapreplay import RmapReplayError, TraceFormatError, read_trace
from rmapreplay.traces.info import trace_info
from rmapreplay.traces.schema import (
    CANONICAL_SCHEMA,
    FILE_SCHEMA,
    METADATA_KEY,
    NEEDED_COLUMNS,
    OP_NAMES,
    SOURCE_NAMES,
    SPECIAL_NAMES,
)
from rmapreplay.traces.writer import TraceWriter, write_trace

ROWS: list[dict[str, Any]] = [
    {"op": "exec", "path": "/bin/a"},
    {
        "op": "mapping",
        "addr": 0x7FFF0000,
        "len": 0x21000,
        "offset": 0x7FFFFFFDE000,
        "prot": 3,
        "flags": 0x122,
        "path": "[stack]",
    },
    {"op": "mmap", "addr": 0x10000, "len": 0x2000, "prot": 3, "flags": 0x22},
    {"op": "fault", "addr": 0x10000, "write": True, "source": "user", "present": False},
    {"op": "fork", "flags": 0x1200000, "child": 2, "child_tid": 2},
    {"op": "fork", "flags": 0x4100, "child": 3, "child_tid": 3},
    {"op": "fork", "flags": 0x3D0F00, "child": 1, "child_tid": 4},
    {"op": "mprotect", "addr": 0x10000, "len": 0x4000, "prot": 1, "error": 12},
    {"op": "walk", "addr": 0x10000, "kind": "unmap"},
    {"op": "exit"},
]


def batch(rows: list[dict[str, Any]] | None = None) -> pa.RecordBatch:
    """Rows of FILE_SCHEMA; time counts up from 100, pid and tid are 1 unless given."""
    rows = ROWS if rows is None else rows
    filled = [{"time": 100 + i, "pid": 1, "tid": 1, **row} for i, row in enumerate(rows)]
    columns = [
        pa.array([row.get(field.name) for row in filled], _plain(field.type)).cast(field.type)
        for field in FILE_SCHEMA
    ]
    return pa.RecordBatch.from_arrays(columns, schema=FILE_SCHEMA)


def _plain(kind: pa.DataType) -> pa.DataType:
    return kind.value_type if pa.types.is_dictionary(kind) else kind


@pytest.fixture
def trace(tmp_path: Path) -> Path:
    path = tmp_path / "a.parquet"
    write_trace(path, [batch()], {"kernel": "6.18.44"})
    return path


def rewrite(path: Path, change: Callable[[pa.Table], pa.Table], metadata: Any = None) -> Path:
    """The trace again, with changed columns or metadata."""
    file = pq.ParquetFile(path)
    table = change(file.read())
    kept = file.metadata.metadata[METADATA_KEY]
    raw = kept if metadata is None else metadata
    out = path.with_name("changed.parquet")
    pq.write_table(table.replace_schema_metadata({METADATA_KEY: raw} if raw else None), out)
    return out


def replace(table: pa.Table, name: str, values: Any) -> pa.Table:
    return table.set_column(table.schema.get_field_index(name), name, values)


def consume(source: Any) -> None:
    for _ in read_trace(source).batches():
        pass


# ---- what works ----


def test_round_trip_keeps_rows_and_metadata(trace: Path) -> None:
    read = read_trace(trace)
    assert read.path == trace
    assert read.rows == len(ROWS)
    assert read.metadata["kernel"] == "6.18.44"
    assert read.metadata["schema_version"] == 2
    assert read.metadata["rows"] == len(ROWS)
    expected = pl.from_arrow(pa.Table.from_batches([batch()]))
    assert isinstance(expected, pl.DataFrame)
    assert read.frame().equals(expected)


@pytest.mark.parametrize("size", [1, 3, 4, 1000])
def test_batches_are_canonical_whatever_their_size(trace: Path, size: int) -> None:
    batches = list(read_trace(trace).batches(size))
    assert all(b.schema.equals(CANONICAL_SCHEMA) and b.num_rows <= size for b in batches)
    rows = pa.Table.from_batches(batches).to_pylist()
    assert [OP_NAMES[row["op"]] for row in rows] == [row["op"] for row in ROWS]
    assert rows[0]["special"] == 0  # an ordinary path
    assert rows[2]["special"] is None
    assert SPECIAL_NAMES[rows[1]["special"]] == "[stack]"
    assert SOURCE_NAMES[rows[3]["source"]] == "user"
    assert rows[3]["present"] is False
    assert rows[2]["present"] is None
    assert rows[7]["error"] == 12


def test_row_groups_and_batches_of_the_writer_do_not_show(tmp_path: Path) -> None:
    one, many = tmp_path / "one.parquet", tmp_path / "many.parquet"
    write_trace(one, [batch()])
    write_trace(many, [batch().slice(i, 1) for i in range(len(ROWS))])
    assert read_trace(one).frame().equals(read_trace(many).frame())


@pytest.mark.parametrize(
    "as_source",
    [
        lambda table: table,
        lambda table: pl.from_arrow(table),
        lambda table: pl.from_arrow(table).with_columns(pl.col("op", "path").cast(pl.String)),
        lambda table: table.select(sorted(table.column_names)),
        lambda table: replace(table, "addr", table["addr"].cast(pa.int64())),
        lambda table: replace(table, "vm_flags", pa.nulls(len(table))),
    ],
    ids=["pyarrow", "polars", "strings", "column order", "signed", "null type"],
)
def test_a_trace_from_memory(as_source: Callable[[pa.Table], Any]) -> None:
    table = pa.Table.from_batches([batch()])
    read = read_trace(as_source(table), {"kernel": "7.3.4"})
    assert read.path is None
    assert read.rows == len(ROWS)
    assert read.metadata["kernel"] == "7.3.4"
    got = pa.Table.from_batches(read.batches(4))
    assert got.equals(pa.Table.from_batches(read_trace(table).batches()))


def test_info_counts_what_is_inside(trace: Path) -> None:
    found = trace_info(read_trace(trace))
    assert found["rows"] == len(ROWS)
    assert found["ops"]["fork"] == 3
    assert found["forks"] == {"fork": 1, "vfork": 1, "thread": 1}
    assert found["processes"] == 1
    assert found["errors"] == 1
    assert found["span"] == pytest.approx(9e-9)
    assert found["bytes"] == trace.stat().st_size


def test_every_operation_says_what_it_needs() -> None:
    assert set(NEEDED_COLUMNS) == set(OP_NAMES)
    names = set(FILE_SCHEMA.names)
    assert all(set(columns) <= names for columns in NEEDED_COLUMNS.values())


# ---- what does not ----


def test_neither_path_nor_arrow() -> None:
    with pytest.raises(TypeError, match="neither a path nor Arrow data: list"):
        read_trace([1, 2])


def test_no_file_and_a_directory(tmp_path: Path) -> None:
    with pytest.raises(RmapReplayError, match=r"none\.parquet: no such file$"):
        read_trace(tmp_path / "none.parquet")
    with pytest.raises(RmapReplayError, match=r"is a directory$"):
        read_trace(tmp_path)


@pytest.mark.parametrize("content", [b"", b"hello", b"PAR1" * 100])
def test_not_parquet(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.parquet"
    path.write_bytes(content)
    with pytest.raises(TraceFormatError, match="not a Parquet file, or truncated") as raised:
        read_trace(path)
    assert raised.value.path == path
    assert "\n" not in str(raised.value)


def test_truncated_at_any_length(trace: Path, tmp_path: Path) -> None:
    whole = trace.read_bytes()
    cut = tmp_path / "cut.parquet"
    for length in range(0, len(whole), 97):
        cut.write_bytes(whole[:length])
        with pytest.raises(TraceFormatError):
            consume(cut)


def test_damaged_pages(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    write_trace(path, [batch([{**ROWS[3], "addr": i * i << 12} for i in range(5_000)])])
    raw = bytearray(path.read_bytes())
    raw[4:2000] = bytes(1996)
    path.write_bytes(raw)
    with pytest.raises(TraceFormatError, match="damaged Parquet data") as raised:
        consume(path)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("name", FILE_SCHEMA.names)
def test_missing_column(trace: Path, name: str) -> None:
    with pytest.raises(TraceFormatError, match=f"column {name}: is missing$") as raised:
        read_trace(rewrite(trace, lambda table: table.drop_columns([name])))
    assert raised.value.column == name


@pytest.mark.parametrize(
    ("name", "kind"),
    [("addr", pa.string()), ("op", pa.int32()), ("write", pa.int8()), ("time", pa.float64())],
)
def test_wrong_type(trace: Path, name: str, kind: pa.DataType) -> None:
    changed = rewrite(trace, lambda t: replace(t, name, pa.nulls(len(t), kind)))
    with pytest.raises(TraceFormatError, match=rf"column {name}: has type {kind}, not "):
        read_trace(changed)


def test_value_out_of_range(trace: Path) -> None:
    changed = rewrite(trace, lambda t: replace(t, "addr", pa.array([-1] * len(t), pa.int64())))
    with pytest.raises(TraceFormatError, match="column addr: "):
        consume(changed)


@pytest.mark.parametrize(
    ("metadata", "reason"),
    [
        (b"", "no metadata key 'rmapreplay': not a trace"),
        (b"{", "metadata is not JSON"),
        (b"[]", "metadata is not a JSON object"),
        (b"{}", "metadata has no valid schema_version: None"),
        (b'{"schema_version": "1"}', "metadata has no valid schema_version: '1'"),
        (b'{"schema_version": 3}', "schema version 3 is newer than this program's, 2"),
    ],
)
def test_metadata(trace: Path, metadata: bytes, reason: str) -> None:
    with pytest.raises(TraceFormatError) as raised:
        read_trace(rewrite(trace, lambda table: table, metadata))
    assert raised.value.reason.startswith(reason)


@pytest.mark.parametrize(
    ("row", "column", "value", "reason"),
    [
        (3, "time", 5, "5 is before the row above, 102: rows must be sorted by time"),
        (3, "op", "defragment", "unknown name 'defragment'"),
        (3, "source", "martian", "unknown name 'martian'"),
        (8, "kind", "moonwalk", "unknown name 'moonwalk'"),
        (3, "pid", -1, "-1 is not a process id"),
        (3, "pid", 1 << 22, "4194304 is not a process id"),
        (4, "child", 1 << 30, "1073741824 is not a process id"),
        (3, "addr", 1 << 47, "0x800000000000 is not a user-space address"),
        (2, "len", 2**64 - 1, "0xffffffffffffffff goes past the end of the address space"),
        (3, "addr", None, "is null, but fault needs it"),
        (3, "source", None, "is null, but fault needs it"),
        (4, "child", None, "is null, but fork needs it"),
        (8, "kind", None, "is null, but walk needs it"),
    ],
)
@pytest.mark.parametrize("size", [1, 4, 100])
def test_bad_row(tmp_path: Path, row: int, column: str, value: Any, reason: str, size: int) -> None:
    rows = [dict(r) for r in ROWS]
    rows[row][column] = value
    path = tmp_path / "bad.parquet"
    write_trace(path, [batch(rows)])
    with pytest.raises(TraceFormatError) as raised:
        list(read_trace(path).batches(size))
    assert str(raised.value) == f"{path}, row {row}, column {column}: {reason}"
    with pytest.raises(TraceFormatError, match="row "):
        read_trace(path).frame()


@pytest.mark.parametrize("size", [1, 4, 100])
def test_the_first_of_two_bad_rows_is_named(tmp_path: Path, size: int) -> None:
    rows = [dict(r) for r in ROWS]
    rows[2]["addr"] = 1 << 47
    rows[3]["op"] = "defragment"
    path = tmp_path / "bad.parquet"
    write_trace(path, [batch(rows)])
    with pytest.raises(TraceFormatError, match="row 2, column addr: "):
        list(read_trace(path).batches(size))


@pytest.mark.parametrize("column", ["time", "op", "pid", "tid"])
def test_null_throughout_where_there_must_be_a_value(trace: Path, column: str) -> None:
    def spoil(table: pa.Table) -> pa.Table:
        kind = _plain(table.schema.field(column).type)
        return replace(table, column, pa.nulls(len(table), kind))

    with pytest.raises(TraceFormatError, match=f"row 0, column {column}: is null$"):
        consume(rewrite(trace, spoil))


def test_nothing_but_nulls(trace: Path) -> None:
    def spoil(table: pa.Table) -> pa.Table:
        nulls = [pa.nulls(len(table), _plain(kind)) for kind in table.schema.types]
        return pa.table(nulls, table.schema.names)

    with pytest.raises(TraceFormatError, match="row 0, column time: is null$"):
        consume(rewrite(trace, spoil))


def test_no_rows(tmp_path: Path) -> None:
    path = tmp_path / "none.parquet"
    write_trace(path, [])
    assert sum(b.num_rows for b in read_trace(path).batches()) == 0
    assert read_trace(path).frame().columns == FILE_SCHEMA.names


@pytest.mark.parametrize("column", ["time", "op", "pid", "tid"])
def test_null_where_there_must_be_a_value(trace: Path, column: str) -> None:
    def spoil(table: pa.Table) -> pa.Table:
        values = table[column].to_pylist()
        values[2] = None
        return replace(table, column, pa.array(values, _plain(table.schema.field(column).type)))

    with pytest.raises(TraceFormatError, match=f"row 2, column {column}: is null$"):
        consume(rewrite(trace, spoil))


# ---- writing ----


def test_nothing_is_left_when_writing_fails(tmp_path: Path) -> None:
    out = tmp_path / "a.parquet"
    out.write_bytes(b"before")

    def fail() -> None:
        with TraceWriter(out) as writer:
            writer.write(batch())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert [p.name for p in tmp_path.iterdir()] == ["a.parquet"]
    assert out.read_bytes() == b"before"


def test_output_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(RmapReplayError, match=r"cannot write: No such file or directory$"):
        write_trace(tmp_path / "none" / "a.parquet", [batch()])


def test_full_disk(tmp_path: Path) -> None:
    # A file-size limit fails the write as a full disk does, without needing one.
    out = tmp_path / "a.parquet"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(RmapReplayError, match=r"a\.parquet: cannot write: File too large$"):
            write_trace(out, [batch([{**ROWS[3], "addr": i << 12} for i in range(20_000)])])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []


def test_same_input_same_bytes(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.parquet", "b.parquet")]
    for path in paths:
        write_trace(path, [batch()], {"dropped": {"b": 1, "a": 2}})
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[0].stat().st_mode & 0o777 == 0o666 & ~_umask()
    footer = pq.read_metadata(paths[0]).metadata[METADATA_KEY]
    assert json.loads(footer)["page_size"] == 4096


def _umask() -> int:
    old = os.umask(0)
    os.umask(old)
    return old
