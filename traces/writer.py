# SPDX-License-Identifier: GPL-2.0-only
"""Writing traces, batch by batch; a file appears under its name only when it is complete."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from rmapreplay.traces.files import cannot_write, temporary_beside
from rmapreplay.traces.schema import FILE_SCHEMA, METADATA_KEY, SCHEMA_VERSION, Metadata

ROW_GROUP_ROWS: Final = 1 << 20
# Time rises by small steps and packs best as differences. Addresses repeat at a distance, which
# zstd sees in plain values but not in differences; tasks and names are few.
_DICTIONARY_COLUMNS: Final = ["op", "pid", "tid", "path", "source", "kind"]
_COLUMN_ENCODING: Final = {"time": "DELTA_BINARY_PACKED"}
_ZSTD_LEVEL: Final = 9
# Pages end by size alone (a megabyte). Each is unpacked by itself, and most columns are all but
# empty: pages of 20,000 rows, the default, would cost more time and more room than what they hold.
_MAX_ROWS_PER_PAGE: Final = ROW_GROUP_ROWS


class ParquetFileWriter:
    """Writes record batches of one schema to `path` by way of a temporary file beside it.

    Use as a context manager; the file is put in place when the block ends without an exception,
    else nothing is left of it. Raises RmapReplayError if it cannot be written.
    """

    def __init__(self, path: str | Path, schema: pa.Schema, **options: Any) -> None:
        self.path = Path(path)
        self.rows = 0
        self._schema = schema
        self._options = options
        self._pending: list[pa.RecordBatch] = []
        self._pending_rows = 0
        self._metadata: dict[bytes, bytes] = {}
        self._complete = False

    def __enter__(self) -> ParquetFileWriter:
        self._temporary = temporary_beside(self.path)
        try:
            self._temporary.open("xb").close()
        except OSError as error:
            raise cannot_write(self.path, error) from error
        try:
            self._writer = pq.ParquetWriter(
                self._temporary, self._schema, compression="zstd", **self._options
            )
        except BaseException:
            self._temporary.unlink(missing_ok=True)
            raise
        return self

    def write(self, batch: pa.RecordBatch) -> None:
        """Append a batch of the writer's schema."""
        self._pending.append(batch)
        self._pending_rows += batch.num_rows
        self.rows += batch.num_rows
        if self._pending_rows >= ROW_GROUP_ROWS:
            self._flush()

    def set_metadata(self, key: bytes, value: Metadata) -> None:
        """Key-value metadata for the file's footer, as JSON."""
        self._metadata[key] = json.dumps(value, sort_keys=True).encode()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self.complete()
                self._temporary.replace(self.path)
            else:
                self._writer.close()
        except OSError as failure:
            if kind is None:
                raise cannot_write(self.path, failure) from failure
        finally:
            self._temporary.unlink(missing_ok=True)

    def complete(self) -> None:
        """Write all that is to be written; what is left to the end of the block is to give the
        file its name. For files that appear together or not at all."""
        if self._complete:
            return
        try:
            self._flush()
            self._writer.add_key_value_metadata(self._metadata)
            self._writer.close()
        except OSError as error:
            raise cannot_write(self.path, error) from error
        self._complete = True

    def _flush(self) -> None:
        if not self._pending:
            return
        table = pa.Table.from_batches(self._pending, schema=self._schema)
        self._pending.clear()
        self._pending_rows = 0
        try:
            self._writer.write_table(table, row_group_size=ROW_GROUP_ROWS)
        except OSError as error:
            raise cannot_write(self.path, error) from error


class TraceWriter(ParquetFileWriter):
    """Writes a trace. Set `metadata` before the block ends; `rows` and the schema version are
    filled in."""

    def __init__(self, path: str | Path) -> None:
        super().__init__(
            path,
            FILE_SCHEMA,
            use_dictionary=_DICTIONARY_COLUMNS,
            column_encoding=_COLUMN_ENCODING,
            compression_level=_ZSTD_LEVEL,
            max_rows_per_page=_MAX_ROWS_PER_PAGE,
        )
        self.metadata: Metadata = {}

    def __enter__(self) -> TraceWriter:
        super().__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.set_metadata(
            METADATA_KEY, {**self.metadata, "schema_version": SCHEMA_VERSION, "rows": self.rows}
        )
        super().__exit__(kind, error, trace)


def write_trace(
    path: str | Path, batches: Iterable[pa.RecordBatch], metadata: Metadata | None = None
) -> int:
    """Write batches of FILE_SCHEMA, and metadata, to `path`; returns the number of rows.

    Raises RmapReplayError if the file cannot be written.
    """
    with TraceWriter(path) as writer:
        for batch in batches:
            writer.write(batch)
        writer.metadata = {"page_size": 4096, "arch": "x86_64", **(metadata or {})}
    return writer.rows
