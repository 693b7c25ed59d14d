# SPDX-License-Identifier: GPL-2.0-only
"""Traces made in code, and the command line as a user runs it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from rmapreplay.traces.schema import FILE_SCHEMA
from rmapreplay.traces.truth import TRUTH_METADATA_KEY, TRUTH_SCHEMA, truth_path
from rmapreplay.traces.writer import write_trace

MAP_PRIVATE_ANONYMOUS = 0x22
READ_WRITE = 0x3
PAGE = 4096
HEAP = 0x7F0000000000

Row = Mapping[str, Any]


def forking_rows(pages: int, children: int) -> list[Row]:
    """A process writes `pages` pages of an anonymous mapping and forks `children` children. Every
    child writes the first half of the pages and lives; the parent exits before them."""

    def fault(pid: int, page: int) -> Row:
        return {
            "op": "fault",
            "pid": pid,
            "addr": HEAP + page * PAGE,
            "write": True,
            "source": "user",
        }

    rows: list[Row] = [
        {"op": "exec", "pid": 100},
        {
            "op": "mmap",
            "pid": 100,
            "addr": HEAP,
            "len": pages * PAGE,
            "flags": MAP_PRIVATE_ANONYMOUS,
            "prot": READ_WRITE,
        },
        *(fault(100, page) for page in range(pages)),
    ]
    for child in range(200, 200 + children):
        rows.append({"op": "fork", "pid": 100, "flags": 0, "child": child, "child_tid": child})
        rows += [fault(child, page) for page in range(pages // 2)]
    return [*rows, {"op": "exit", "pid": 100}, {"op": "exit_mmap", "pid": 100}]


def _write_rows(path: Path, rows: list[Row], **metadata: Any) -> Path:
    full = [{"time": 1000 * i, "tid": row["pid"], **row} for i, row in enumerate(rows)]
    batch = pa.RecordBatch.from_pylist(full, schema=FILE_SCHEMA)
    write_trace(path, [batch], {"kernel": "7.3.4", **metadata})
    return path


@pytest.fixture(scope="session")
def write_rows() -> Callable[..., Path]:
    """write_rows(path, rows, **metadata) writes a trace; time and tid are filled in where rows
    leave them out, and the kernel is 7.3.4."""
    return _write_rows


@pytest.fixture(scope="session")
def forking_trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """64 pages, 3 children: 167 rows."""
    return _write_rows(tmp_path_factory.mktemp("traces") / "forking.parquet", forking_rows(64, 3))


CORPUS = Path(__file__).parents[1] / "traces" / "corpus"

Change = Callable[[pl.DataFrame], pl.DataFrame]


@pytest.fixture
def doctored(tmp_path: Path) -> Callable[[str, Change], Path]:
    """doctored(name, change): a copy of a bundled trace, with its answer key as `change` makes it
    of the right one."""

    def doctor(name: str, change: Change) -> Path:
        trace = tmp_path / f"{name}.parquet"
        shutil.copy(CORPUS / trace.name, trace)
        right = pq.read_table(truth_path(CORPUS / trace.name))
        footer = pq.read_metadata(truth_path(CORPUS / trace.name)).metadata
        footer = {TRUTH_METADATA_KEY: footer[TRUTH_METADATA_KEY]}
        frame = pl.from_arrow(right)
        assert isinstance(frame, pl.DataFrame)
        changed = change(frame.with_columns(pl.col("kind").cast(pl.String)))
        assert changed.height != frame.height or not changed.equals(frame.cast(changed.schema))
        columns = [
            changed[field.name].to_arrow().cast(field.type)
            if field.name != "kind"
            else pa.array(changed["kind"].to_list()).dictionary_encode().cast(field.type)
            for field in TRUTH_SCHEMA
        ]
        table = pa.Table.from_arrays(columns, schema=TRUTH_SCHEMA)
        pq.write_table(table.replace_schema_metadata(footer), truth_path(trace))
        return trace

    return doctor


Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def cli_program() -> Path:
    """The installed `rmapreplay`."""
    return Path(sys.executable).with_name("rmapreplay")


@pytest.fixture(scope="session")
def cli(cli_program: Path) -> Cli:
    """Runs `rmapreplay` with the given arguments. `env` adds variables, `stdout_to` is a file to
    take standard output; other keywords are subprocess.run's."""

    def run(
        *arguments: str | Path,
        env: Mapping[str, str] | None = None,
        stdout_to: Any = subprocess.PIPE,
        **options: Any,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [cli_program, *map(str, arguments)],
            stdout=stdout_to,
            stderr=subprocess.PIPE,
            text=True,
            timeout=120,
            check=False,
            env={**os.environ, **(env or {})},
            **options,
        )

    return run
