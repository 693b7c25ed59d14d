# SPDX-License-Identifier: GPL-2.0-only
"""Reading traces: checked row by row as they stream past, and given to the engine as codes."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from rmapreplay import _native
from rmapreplay.traces.errors import RmapReplayError, TraceFormatError
from rmapreplay.traces.places import fetch, local_path
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
SCENARIO_SUFFIX: Final = ".scn"


def _with_names(kind: pa.DataType) -> pa.Schema:
    return pa.schema(
        [pa.field(f.name, kind if f.name in NAMED_COLUMNS else f.type) for f in FILE_SCHEMA]
    )


# As Parquet is decoded without a conversion; the same with places in the dictionaries for names.
_DECODED_SCHEMA: Final = _with_names(pa.dictionary(pa.int32(), pa.string()))
_PLACES_SCHEMA: Final = _with_names(pa.int32())
_NAMED_AT: Final = {name: FILE_SCHEMA.names.index(name) for name in NAMED_COLUMNS}


class Trace:
    """A trace, in a Parquet file or in memory. Opening it checks the columns and the metadata;
    every pass over it checks the rows.

    Attributes:
        path: the file, or None.
        url: where it was read from, if that is not a file of this machine.
        rows: how many rows it has.
        metadata: the JSON object of the file's `rmapreplay` key, see docs/trace-format.md.
    """

    def __init__(
        self, source: pq.ParquetFile | pa.Table, path: Path | None, url: str | None = None
    ) -> None:
        self._source = source
        self.path = path
        self.url = url
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
        return f"Trace({str(self.path or self.url or 'in memory')!r}, rows={self.rows})"

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
        table = pa.Table.from_batches(batches, schema=_DECODED_SCHEMA)
        frame = pl.from_arrow(table.cast(FILE_SCHEMA))
        assert isinstance(frame, pl.DataFrame)
        return frame

    def slice(
        self, start: int, stop: int, keep: Callable[[pa.RecordBatch], Any] | None = None
    ) -> pa.Table:
        """The rows from `start` to before `stop`, of FILE_SCHEMA; of these the rows that `keep`
        says of a batch (an array of booleans)."""
        found = []
        row = 0
        for batch in self._raw(BATCH_ROWS):
            if row >= stop:
                break
            part = batch.slice(max(0, start - row), max(0, stop - max(start, row)))
            row += batch.num_rows
            if part.num_rows:
                part = self._decoded(part, {})
                found.append(part.filter(keep(part)) if keep else part)
        return pa.Table.from_batches(found, schema=_DECODED_SCHEMA).cast(FILE_SCHEMA)

    def exec_paths(self, batch_size: int = BATCH_ROWS) -> Iterator[tuple[int, str]]:
        """Row number and path of each `exec` row that has a path; reads two columns."""
        row = 0
        for batch in self._raw(batch_size, ("op", "path")):
            names = dict(zip(batch.schema.names, batch.columns, strict=True))
            if "path" in names:
                named = pc.and_(pc.equal(names["op"], "exec"), pc.is_valid(names["path"]))
                for at in pc.indices_nonzero(named).to_pylist():
                    yield row + at, names["path"][at].as_py()
            row += batch.num_rows

    def file_paths(self, batch_size: int = BATCH_ROWS) -> dict[int, str]:
        """The path of each file that a row names, by its number in the trace; reads two columns."""
        found: dict[int, str] = {}
        for batch in self._raw(batch_size, ("file", "path")):
            names = dict(zip(batch.schema.names, batch.columns, strict=True))
            if "file" not in names or "path" not in names:
                continue
            both = pc.and_(pc.is_valid(names["file"]), pc.is_valid(names["path"]))
            for at in pc.indices_nonzero(both).to_pylist():
                found.setdefault(names["file"][at].as_py(), names["path"][at].as_py())
        return found

    # ---- checks ----

    def _error(self, reason: str, **place: Any) -> TraceFormatError:
        return TraceFormatError(reason, path=self.path or self.url, **place)

    def _read_metadata(self, footer: dict[bytes, bytes]) -> Metadata:
        text = footer.get(METADATA_KEY)
        if text is None:
            if isinstance(self._source, pa.Table):
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
        """The rows twice: as the file has them (_DECODED_SCHEMA), and in canonical form."""
        check = _native.TraceCheck()
        codes = {name: _Codes(name) for name in NAMED_COLUMNS}
        nulls: dict[str, pa.Array] = {}  # columns that the batches lack; shared, as fresh is slow
        row = 0
        for batch in self._raw(batch_size):
            whole = self._decoded(batch, nulls)
            places = whole.columns
            for at in _NAMED_AT.values():
                places[at] = places[at].indices
            dictionaries = [codes[name].of(whole[at].dictionary) for name, at in _NAMED_AT.items()]
            found = check.check(
                pa.RecordBatch.from_arrays(places, schema=_PLACES_SCHEMA), dictionaries
            )
            if isinstance(found, tuple):
                at, column, reason = found
                if not reason:
                    reason = f"unknown name {whole[column][at - row].as_py()!r}"
                raise self._error(reason, row=at, column=column)
            columns = places
            for at, raw in zip(_NAMED_AT.values(), found, strict=True):
                columns[at] = _with_nulls_of(places[at], raw)
            row += batch.num_rows
            yield whole, pa.RecordBatch.from_arrays(columns, schema=CANONICAL_SCHEMA)

    def _raw(
        self, batch_size: int, names: Sequence[str] = tuple(FILE_SCHEMA.names)
    ) -> Iterator[pa.RecordBatch]:
        if isinstance(self._source, pa.Table):
            yield from self._source.select(list(names)).to_batches(max_chunksize=batch_size)
            return
        empty = _empty_columns(self._source.metadata)
        names = [name for name in names if name not in empty]
        try:
            yield from self._source.iter_batches(batch_size=batch_size, columns=names)
        except (pa.ArrowException, OSError) as error:
            raise self._error(f"damaged Parquet data: {_one_line(error)}") from error

    def _decoded(self, batch: pa.RecordBatch, nulls: dict[str, pa.Array]) -> pa.RecordBatch:
        found = dict(zip(batch.schema.names, batch.columns, strict=True))
        columns = []
        for field in _DECODED_SCHEMA:
            column = found.get(field.name)
            if column is None:
                if len(nulls.get(field.name, ())) < batch.num_rows:
                    nulls[field.name] = pa.nulls(batch.num_rows, field.type)
                column = nulls[field.name].slice(0, batch.num_rows)
            elif column.type != field.type:
                try:
                    if pa.types.is_string_view(column.type):
                        column = column.cast(pa.string())  # which alone casts to a dictionary
                    column = column.cast(field.type)
                except pa.ArrowInvalid as error:
                    raise self._error(_one_line(error), column=field.name) from error
            columns.append(column)
        return pa.RecordBatch.from_arrays(columns, schema=_DECODED_SCHEMA)


class _Codes:
    """What the names in a column's dictionary are known by."""

    def __init__(self, name: str) -> None:
        self._names = pa.array(NAMED_COLUMNS[name])
        # Any path will do.
        self._unknown = pa.scalar(0 if name == "path" else 255, pa.uint8())
        self._dictionary = pa.array([], pa.string())
        self._codes = b""

    def of(self, dictionary: pa.Array) -> bytes:
        """A byte for each of the strings. Batch after batch has the same ones."""
        if not dictionary.equals(self._dictionary):
            codes = pc.index_in(dictionary, value_set=self._names).cast(pa.uint8())
            values = pc.fill_null(codes, self._unknown).buffers()[1]
            self._dictionary = dictionary
            self._codes = values.to_pybytes()[: len(dictionary)]
        return self._codes


def _with_nulls_of(column: pa.Array, codes: bytes) -> pa.Array:
    array = pa.Array.from_buffers(pa.uint8(), len(column), [None, pa.py_buffer(codes)])
    if column.null_count == 0:
        return array
    return pc.if_else(pc.is_valid(column), array, pa.scalar(None, pa.uint8()))


def _empty_columns(file: pq.FileMetaData) -> set[str]:
    """Columns in which every row is null, and which so need no reading."""
    nulls: dict[str, int] = {}
    for i in range(file.num_row_groups):
        group = file.row_group(i)
        for j in range(group.num_columns):
            column = group.column(j)
            statistics = column.statistics
            if statistics is not None and statistics.has_null_count:
                name = column.path_in_schema
                nulls[name] = nulls.get(name, 0) + statistics.null_count
    return {name for name, count in nulls.items() if count == file.num_rows}


def read_trace(source: Any, metadata: Metadata | None = None) -> Trace:
    """Open a trace.

    Args:
        source: path of a Parquet file, or of a scenario (.scn); URL of one (http://, memory://, or
            what else fsspec reads), which is fetched whole; or an object with the same columns and
            an `__arrow_c_stream__` method (polars frame, pyarrow table, DuckDB relation), which is
            read whole.
        metadata: for such an object, what a file would have under the key `rmapreplay`.

    Raises:
        RmapReplayError: the file cannot be read.
        TraceFormatError: it is not a trace: not Parquet, cut short, columns or metadata missing or
            not of the right type, or from a newer schema version.
        ScenarioError: it is a scenario whose text is not right; names line and column.
    """
    if isinstance(source, (str, Path)):
        path = local_path(source)
        if path is not None and path.suffix == SCENARIO_SUFFIX:
            from rmapreplay.traces.scenarios import read_scenario

            return read_scenario(path).trace()
        return _open(path) if path is not None else _open_url(str(source))
    if not hasattr(source, "__arrow_c_stream__"):
        raise TypeError(f"neither a path nor Arrow data: {type(source).__name__}")
    table = pa.RecordBatchReader.from_stream(source).read_all()
    footer = dict(table.schema.metadata or {})
    if metadata is not None:
        footer[METADATA_KEY] = json.dumps({"schema_version": SCHEMA_VERSION, **metadata}).encode()
    return Trace(table.replace_schema_metadata(footer), None)


def _open(path: Path) -> Trace:
    try:
        return Trace(_parquet(str(path)), path)
    except FileNotFoundError as error:
        raise RmapReplayError(f"{path}: no such file") from error
    except (pa.ArrowException, OSError) as error:
        if path.is_dir():
            raise RmapReplayError(f"{path}: is a directory") from error
        if isinstance(error, PermissionError):
            raise RmapReplayError(f"{path}: {error.strerror}") from error
        raise _not_parquet(path, error) from error


def _open_url(url: str) -> Trace:
    if url.endswith(SCENARIO_SUFFIX):
        return _scenario_at(url)
    # Parquet is read from its end, so all of it has to be here, for as long as the trace lives.
    file = tempfile.TemporaryFile()  # noqa: SIM115
    fetch(url, file)
    try:
        return Trace(_parquet(file), None, url)
    except (pa.ArrowException, OSError) as error:
        raise _not_parquet(url, error) from error


def _scenario_at(url: str) -> Trace:
    from rmapreplay.traces.scenarios import parse

    content = io.BytesIO()
    fetch(url, content)
    try:
        text = content.getvalue().decode()
    except UnicodeDecodeError as error:
        raise RmapReplayError(f"{url}: not UTF-8 text") from error
    trace = parse(text, url.rpartition("/")[2]).trace()
    trace.path, trace.url = None, url
    return trace


def _parquet(source: Any) -> pq.ParquetFile:
    # A memory map would turn a truncation while reading into SIGBUS.
    file = pq.ParquetFile(source, memory_map=False)
    found = {file.schema.column(i).path for i in range(len(file.schema))}
    return pq.ParquetFile(
        source,
        memory_map=False,
        metadata=file.metadata,
        read_dictionary=[name for name in NAMED_COLUMNS if name in found],
    )


def _not_parquet(place: str | Path, error: Exception) -> TraceFormatError:
    return TraceFormatError(f"not a Parquet file, or truncated: {_one_line(error)}", path=place)


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
