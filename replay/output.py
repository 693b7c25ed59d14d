# SPDX-License-Identifier: GPL-2.0-only
"""Where result tables go: a directory of Parquet files, or memory."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pyarrow as pa
import pyarrow.parquet as pq

from rmapreplay.replay import TABLES, timeline
from rmapreplay.traces.errors import RmapReplayError
from rmapreplay.traces.files import cannot_write

SUMMARY = "summary.json"


class MemorySink:
    """Keeps every table in memory."""

    def __init__(self, models: list[str]) -> None:
        self._rows: dict[str, dict[str, list[pa.RecordBatch]]] = {
            table: {model: [] for model in models} for table in TABLES
        }

    def write(self, model: str, table: str, rows: pa.RecordBatch) -> None:
        self._rows[table][model].append(rows)

    def drop(self, model: str) -> None:
        """Forget what a model that failed gave."""
        for rows in self._rows.values():
            del rows[model]

    def table(self, name: str) -> pa.Table:
        """A table, models one after another; counters that a model does not have are null."""
        parts = [pa.Table.from_batches(rows) for rows in self._rows[name].values()]
        schema = _common_schema([part.schema for part in parts])
        return pa.concat_tables([_fit(part, schema) for part in parts])


class WholeDirectory:
    """A directory of results, of which all is there or nothing.

    A context manager. Files are written to a hidden directory beside it, which takes its place when
    the block ends without an exception; else nothing of it is left. If it was there already its
    files are replaced one by one, the last of `files` last. Raises RmapReplayError if it holds
    results and `force` is not set, or cannot be written.

    Args:
        directory: where it is to be.
        files: names of the files that it may hold.
        force: replace them.
    """

    def __init__(self, directory: str | Path, files: Sequence[str], *, force: bool) -> None:
        self.directory = Path(directory)
        self._temporary = self.directory.parent / f".{self.directory.name}.{os.getpid()}.tmp"
        self._files = list(files)
        self._force = force
        self._writers: dict[str, pq.ParquetWriter] = {}

    def __enter__(self) -> Self:
        if self.directory.exists() and not self.directory.is_dir():
            raise RmapReplayError(f"{self.directory}: is not a directory")
        there = [path for path in self._final_paths() if path.exists()]
        if there and not self._force:
            raise RmapReplayError(f"{there[0]}: exists (--force replaces it)")
        try:
            shutil.rmtree(self._temporary, ignore_errors=True)
            self._temporary.mkdir(parents=True)
        except OSError as error:
            raise cannot_write(self.directory, error) from error
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if kind is None:
                self._close_writers()
                self._complete()
                self._put_in_place()
        except OSError as failure:
            raise cannot_write(self.directory, failure) from failure
        finally:
            self._abandon()

    def _complete(self) -> None:
        """Make of what was written the files that are to be there."""
        raise NotImplementedError

    def _append(self, name: str, rows: pa.RecordBatch) -> None:
        """Write the next rows of a Parquet file."""
        try:
            writer = self._writers.get(name)
            if writer is None:
                writer = self._writers[name] = _writer(self._temporary / name, rows.schema)
            if rows.num_rows:
                writer.write_batch(rows)
        except OSError as error:
            raise cannot_write(self.directory, error) from error

    def _write_json(self, name: str, content: object) -> None:
        (self._temporary / name).write_text(json.dumps(content, indent=2) + "\n")

    def _final_paths(self) -> list[Path]:
        return [self.directory / name for name in self._files]

    def _close_writers(self) -> None:
        for name in list(self._writers):
            self._writers.pop(name).close()

    def _put_in_place(self) -> None:
        if not self.directory.exists():
            self._temporary.rename(self.directory)
            return
        *stale_files, stale_last = self._final_paths()
        stale_last.unlink(missing_ok=True)
        for stale in stale_files:
            fresh = self._temporary / stale.name
            if fresh.exists():
                fresh.replace(stale)
            else:
                stale.unlink(missing_ok=True)
        (self._temporary / stale_last.name).replace(stale_last)

    def _abandon(self) -> None:
        for writer in self._writers.values():
            # Its file is about to go; that it cannot be finished on a full disk is no news.
            try:
                writer.close()
            except OSError:
                continue
        self._writers.clear()
        shutil.rmtree(self._temporary, ignore_errors=True)


class DirectorySink(WholeDirectory):
    """Writes DIR/{walks,operations,memory,misses}.parquet (and visits.parquet if asked) and, last,
    DIR/summary.json."""

    def __init__(
        self, directory: str | Path, models: list[str], *, visits: bool, force: bool
    ) -> None:
        super().__init__(
            directory, [*(f"{table}.parquet" for table in TABLES), SUMMARY], force=force
        )
        self._models = models
        self._tables = [table for table in TABLES if visits or table != "visits"]
        self._summary: dict[str, Any] | None = None

    def write(self, model: str, table: str, rows: pa.RecordBatch) -> None:
        if table in self._tables:
            self._append(self._part(model, table), rows)

    def write_summary(self, summary: dict[str, Any]) -> None:
        """The tables have the models that the summary has; those that failed are left out."""
        self._summary = summary

    def _complete(self) -> None:
        for table in self._tables:
            self._join(table)
        self._write_json(SUMMARY, self._summary)

    def _part(self, model: str, table: str) -> str:
        return f"{table}.{self._models.index(model)}.part"

    def _join(self, table: str) -> None:
        """The models' parts of a table, one after another, as one file."""
        assert self._summary is not None
        final = self._temporary / f"{table}.parquet"
        for model in self._summary["failed"]:
            (self._temporary / self._part(model, table)).unlink(missing_ok=True)
        parts = [self._temporary / self._part(model, table) for model in self._summary["models"]]
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


class TimelineSink(WholeDirectory):
    """Writes the tables of a timeline, and its metadata last (replay/timeline.py)."""

    def __init__(self, directory: str | Path, *, force: bool) -> None:
        files = [f"{table}.parquet" for table in timeline.TABLES]
        super().__init__(directory, [*files, timeline.METADATA], force=force)
        self._mms: list[pa.RecordBatch] = []
        self._metadata: dict[str, Any] = {}
        self._rows = dict.fromkeys(timeline.TABLES, 0)

    def write(self, table: str, rows: Any) -> None:
        """Take the next rows of a table: a native one, with `__arrow_c_array__`."""
        batch = pa.record_batch(rows)
        self._rows[table] += batch.num_rows
        if table == "mms":
            self._mms.append(batch)
        else:
            self._append(f"{table}.parquet", batch)

    def write_names(self, exec_paths: Iterable[tuple[int, str]]) -> None:
        """Write the mms, called as the paths of the exec rows say."""
        mms = pa.Table.from_batches(self._mms).sort_by("mm").combine_chunks()
        paths = dict(exec_paths)
        comms: dict[int, str | None] = {}
        for mm, parent, execed in zip(
            *(mms[name].to_pylist() for name in ("mm", "parent", "execed")), strict=True
        ):
            path = paths.get(execed) if execed is not None else None
            comms[mm] = comm_of(path) if path is not None else comms.get(parent)
        column = pa.array([comms[mm] for mm in mms["mm"].to_pylist()], pa.string())
        mms = mms.add_column(mms.schema.get_field_index("pid") + 1, "comm", column)
        for batch in mms.to_batches() or [pa.RecordBatch.from_pylist([], mms.schema)]:
            self._append("mms.parquet", batch)

    def write_metadata(self, metadata: dict[str, Any]) -> None:
        self._metadata = metadata

    def _complete(self) -> None:
        self._write_json(timeline.METADATA, {**self._metadata, "tables": self._rows})


def comm_of(path: str) -> str:
    """begin_new_exec(): the last part of the path, as far as it goes into TASK_COMM_LEN."""
    return path.rpartition("/")[2].encode()[:15].decode(errors="ignore")


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
