# SPDX-License-Identifier: GPL-2.0-only
"""Reading traces: checked row by row as they stream past, and given to the engine as codes."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rmapreplay import _native
from rmapreplay.traces.errors import RmapReplayError, TraceFormatError
from rmapreplay.traces.schema import (
    CANONICAL_SCHEMA,
    FILE_SCHEMA,
    METADATA_KEY,
    NAMED_COLUMNS,
    SCHEMA_VERSION,
    Metadata,
)

if TYPE_CHECKING:
    import polars as pl

BATCH_ROWS: Final = 1 << 16


class Trace:
    """A trace, in a Parquet file or in memory. Opening it checks the columns and the metadata;
    every pass over it checks the rows.

    Attributes:
        path: the file, or None.
        rows: how many rows it has.
        metadata: the JSON object of the file's `rmapreplay` key, see docs/trace-format.md.
    """

    def __init__(self, source: pq.ParquetFile | pa.Table, path: Path | None) -> None:
        self._source = source
        self.path = path
        if isinstance(source, pq.ParquetFile):
            schema, footer = source.schema_arrow, source.metadata.metadata
        else:
            schema, footer = source.schema, source.schema.metadata
        self.metadata = self._read_metadata(footer or {})
        self._check_columns(schema)

    @cached_property
    def rows(self) -> int:
        if isinstance(self._source, pq.ParquetFile):
            return int(self._source.metadata.num_rows)
        return int(self._source.num_rows)

    def __repr__(self) -> str:
        return f"Trace({str(self.path) if self.path else 'in memory'!r}, rows={self.rows})"

    def batches(self, batch_size: int = BATCH_ROWS) -> Iterator[pa.RecordBatch]:
        """Record batches of CANONICAL_SCHEMA, of at most `batch_size` rows.

        Raises TraceFormatError at the first row that does not hold what the format says.
        """
        for _, canonical in self._checked(batch_size):
            yield canonical

    def frame(self) -> pl.DataFrame:
        """All rows and columns as the file has them. Raises TraceFormatError as batches() does."""
        import polars as pl

        batches = [batch for batch, _ in self._checked(BATCH_ROWS)]
        frame = pl.from_arrow(pa.Table.from_batches(batches, schema=FILE_SCHEMA))
        assert isinstance(frame, pl.DataFrame)
        return frame

    # ---- checks ----

    def _error(self, reason: str, **place: Any) -> TraceFormatError:
        return TraceFormatError(reason, path=self.path, **place)

    def _read_metadata(self, footer: dict[bytes, bytes]) -> Metadata:
        text = footer.get(METADATA_KEY)
        if text is None:
            if self.path is None:
                return {}
            raise self._error("no metadata key 'rmapreplay': not a trace")
        try:
            metadata = json.loads(text)
        except ValueError as error:
            raise self._error(f"metadata is not JSON: {error}") from error
        if not isinstance(metadata, dict):
            raise self._error("metadata is not a JSON object")
        version = metadata.get("schema_version")
        if not isinstance(version, int) or version < 1:
            raise self._error(f"metadata has no valid schema_version: {version!r}")
        if version > SCHEMA_VERSION:
            raise self._error(
                f"schema version {version} is newer than this program's, {SCHEMA_VERSION}"
            )
        return metadata

    def _check_columns(self, schema: pa.Schema) -> None:
        for field in FILE_SCHEMA:
            if schema.get_field_index(field.name) < 0:
                raise self._error("is missing", column=field.name)
            found = schema.field(field.name).type
            if not _acceptable(found, field.type):
                raise self._error(f"has type {found}, not {field.type}", column=field.name)

    def _checked(self, batch_size: int) -> Iterator[tuple[pa.RecordBatch, pa.RecordBatch]]:
        check = _native.TraceCheck()
        row = 0
        for batch in self._raw(batch_size):
            whole, canonical = self._canonical(batch, row)
            if problem := check.check(canonical):
                at, column, reason = problem
                raise self._error(reason, row=at, column=column)
            row += batch.num_rows
            yield whole, canonical

    def _raw(self, batch_size: int) -> Iterator[pa.RecordBatch]:
        names = FILE_SCHEMA.names
        if isinstance(self._source, pa.Table):
            yield from self._source.select(names).to_batches(max_chunksize=batch_size)
            return
        try:
            yield from self._source.iter_batches(batch_size=batch_size, columns=names)
        except (pa.ArrowException, OSError) as error:
            raise self._error(f"damaged Parquet data: {_one_line(error)}") from error

    def _canonical(
        self, batch: pa.RecordBatch, first: int
    ) -> tuple[pa.RecordBatch, pa.RecordBatch]:
        whole, canonical = [], []
        for field in FILE_SCHEMA:
            column = batch.column(field.name)
            if column.type != field.type:
                try:
                    if pa.types.is_string_view(column.type):
                        column = column.cast(pa.string())  # which alone casts to a dictionary
                    column = column.cast(field.type)
                except pa.ArrowInvalid as error:
                    raise self._error(_one_line(error), column=field.name) from error
            whole.append(column)
            names = NAMED_COLUMNS.get(field.name)
            canonical.append(column if names is None else self._codes(field.name, column, first))
        return (
            pa.RecordBatch.from_arrays(whole, schema=FILE_SCHEMA),
            pa.RecordBatch.from_arrays(canonical, schema=CANONICAL_SCHEMA),
        )

    def _codes(self, name: str, column: pa.DictionaryArray, first: int) -> pa.Array:
        names = pa.array(NAMED_COLUMNS[name])
        positions = pc.index_in(column.dictionary, value_set=names).cast(pa.uint8())
        codes = pc.take(positions, column.indices)
        if name != "path" and codes.null_count > column.null_count:
            unknown = pc.and_(pc.is_null(codes), pc.is_valid(column))
            at = pc.index(unknown, True).as_py()
            value = column[at].as_py()
            raise self._error(f"unknown name {value!r}", row=first + at, column=name)
        return codes


def read_trace(source: Any, metadata: Metadata | None = None) -> Trace:
    """Open a trace.

    Args:
        source: path of a Parquet file, or an object with the same columns and an
            `__arrow_c_stream__` method (polars frame, pyarrow table, DuckDB relation), which is
            read whole.
        metadata: for such an object, what a file would have under the key `rmapreplay`.

    Raises:
        RmapReplayError: the file cannot be read.
        TraceFormatError: it is not a trace: not Parquet, cut short, columns or metadata missing or
            not of the right type, or from a newer schema version.
    """
    if isinstance(source, (str, Path)):
        return _open(Path(source))
    if not hasattr(source, "__arrow_c_stream__"):
        raise TypeError(f"neither a path nor Arrow data: {type(source).__name__}")
    table = pa.RecordBatchReader.from_stream(source).read_all()
    footer = dict(table.schema.metadata or {})
    if metadata is not None:
        footer[METADATA_KEY] = json.dumps({"schema_version": SCHEMA_VERSION, **metadata}).encode()
    return Trace(table.replace_schema_metadata(footer), None)


def _open(path: Path) -> Trace:
    try:
        # A memory map would turn a truncation while reading into SIGBUS.
        file = pq.ParquetFile(str(path), memory_map=False)
    except FileNotFoundError as error:
        raise RmapReplayError(f"{path}: no such file") from error
    except (pa.ArrowException, OSError) as error:
        if path.is_dir():
            raise RmapReplayError(f"{path}: is a directory") from error
        if isinstance(error, PermissionError):
            raise RmapReplayError(f"{path}: {error.strerror}") from error
        raise TraceFormatError(
            f"not a Parquet file, or truncated: {_one_line(error)}", path=path
        ) from error
    return Trace(file, path)


def _acceptable(found: pa.DataType, wanted: pa.DataType) -> bool:
    if pa.types.is_dictionary(wanted):
        if pa.types.is_dictionary(found):
            found = found.value_type
        return bool(
            pa.types.is_string(found)
            or pa.types.is_large_string(found)
            or pa.types.is_string_view(found)
            or pa.types.is_null(found)
        )
    if pa.types.is_null(found):
        return True
    if pa.types.is_integer(wanted):
        return bool(pa.types.is_integer(found))
    return bool(found == wanted)


def _one_line(error: BaseException) -> str:
    return str(error).split("\n", 1)[0]
