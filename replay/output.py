# SPDX-License-Identifier: GPL-2.0-only
"""Where result tables go: a directory of Parquet files, or memory."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from rmapreplay.replay import TABLES
from rmapreplay.traces.errors import RmapReplayError

SUMMARY = "summary.json"


class MemorySink:
    """Keeps every table in memory."""

    def __init__(self, models: list[str]) -> None:
        self._rows: dict[str, dict[str, list[pa.RecordBatch]]] = {
            table: {model: [] for model in models} for table in TABLES
        }

    def write(self, model: str, table: str, rows: pa.RecordBatch) -> None:
        self._rows[table][model].append(rows)

    def table(self, name: str) -> pa.Table:
        """A table, models one after another; counters that a model does not have are null."""
        parts = [pa.Table.from_batches(rows) for rows in self._rows[name].values()]
        schema = _common_schema([part.schema for part in parts])
        return pa.concat_tables([_fit(part, schema) for part in parts])


class DirectorySink:
    """Writes DIR/{walks,operations,memory,misses}.parquet (and visits.parquet if asked) and
    DIR/summary.json.

    A context manager. Everything is written to a hidden directory beside DIR, which takes DIR's
    place when the block ends without an exception; else nothing of it is left. If DIR was there
    already its files are replaced one by one, summary.json last. Raises RmapReplayError if DIR
    holds results and `force` is not set, or cannot be written.
    """

    def __init__(
        self, directory: str | Path, models: list[str], *, visits: bool, force: bool
    ) -> None:
        self.directory = Path(directory)
        self._temporary = self.directory.parent / f".{self.directory.name}.{os.getpid()}.tmp"
        self._models = models
        self._tables = [table for table in TABLES if visits or table != "visits"]
        self._force = force
        self._writers: dict[tuple[str, str], pq.ParquetWriter] = {}
        self._summary: dict[str, Any] | None = None

    def __enter__(self) -> DirectorySink:
        if self.directory.exists() and not self.directory.is_dir():
            raise RmapReplayError(f"{self.directory}: is not a directory")
        there = [path for path in self._final_paths() if path.exists()]
        if there and not self._force:
            raise RmapReplayError(f"{there[0]}: exists (--force replaces it)")
        try:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary.mkdir(parents=True)
        except OSError as error:
            raise self._cannot(error) from error
        return self

    def write(self, model: str, table: str, rows: pa.RecordBatch) -> None:
        if table not in self._tables:
            return
        try:
            writer = self._writers.get((model, table))
            if writer is None:
                writer = _writer(self._part(model, table), rows.schema)
                self._writers[model, table] = writer
            if rows.num_rows:
                writer.write_batch(rows)
        except OSError as error:
            raise self._cannot(error) from error

    def write_summary(self, summary: dict[str, Any]) -> None:
        self._summary = summary

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._close_parts()
                for table in self._tables:
                    self._join(table)
                (self._temporary / SUMMARY).write_text(json.dumps(self._summary, indent=2) + "\n")
                self._put_in_place()
        except OSError as failure:
            raise self._cannot(failure) from failure
        finally:
            self._abandon()

    def _part(self, model: str, table: str) -> Path:
        return self._temporary / f"{table}.{self._models.index(model)}.part"

    def _final_paths(self) -> list[Path]:
        return [self.directory / f"{table}.parquet" for table in TABLES] + [
            self.directory / SUMMARY
        ]

    def _close_parts(self) -> None:
        for key in list(self._writers):
            self._writers.pop(key).close()

    def _join(self, table: str) -> None:
        """The models' parts of a table, one after another, as one file."""
        final = self._temporary / f"{table}.parquet"
        parts = [self._part(model, table) for model in self._models]
        if len(parts) == 1:
            parts[0].rename(final)
            return
        files = [pq.ParquetFile(part) for part in parts]
        schema = _common_schema([file.schema_arrow for file in files])
        with _writer(final, schema) as writer:
            for file in files:
                with file:
                    for group in range(file.num_row_groups):
                        writer.write_table(_fit(file.read_row_group(group), schema))
        for part in parts:
            part.unlink()

    def _put_in_place(self) -> None:
        if not self.directory.exists():
            self._temporary.rename(self.directory)
            return
        *stale_tables, stale_summary = self._final_paths()
        stale_summary.unlink(missing_ok=True)
        for stale in stale_tables:
            fresh = self._temporary / stale.name
            if fresh.exists():
                fresh.replace(stale)
            else:
                stale.unlink(missing_ok=True)
        (self._temporary / SUMMARY).replace(stale_summary)

    def _abandon(self) -> None:
        for writer in self._writers.values():
            # Its file is about to go; that it cannot be finished on a full disk is no news.
            try:
                writer.close()
            except OSError:
                continue
        self._writers.clear()
        shutil.rmtree(self._temporary, ignore_errors=True)

    def _cannot(self, error: OSError) -> RmapReplayError:
        reason = os.strerror(error.errno) if error.errno else str(error)
        return RmapReplayError(f"{self.directory}: cannot write: {reason}")


def _writer(path: Path, schema: pa.Schema) -> pq.ParquetWriter:
    return pq.ParquetWriter(path, schema, compression="zstd")


def _common_schema(schemas: list[pa.Schema]) -> pa.Schema:
    """Every column of any model; those that not every model has are nullable."""
    fields: dict[str, pa.Field] = {}
    for schema in schemas:
        for field in schema:
            fields.setdefault(field.name, field)
    everywhere = set.intersection(*(set(schema.names) for schema in schemas))
    return pa.schema(
        [
            field if name in everywhere else field.with_nullable(True)
            for name, field in fields.items()
        ]
    )


def _fit(table: pa.Table, schema: pa.Schema) -> pa.Table:
    columns = [
        table[field.name].cast(field.type)
        if field.name in table.schema.names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(columns, schema=schema)
