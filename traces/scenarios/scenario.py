# SPDX-License-Identifier: GPL-2.0-only
"""A scenario: its text read, as a trace, and held against what a replay found."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

import pyarrow as pa

from rmapreplay.traces.errors import RmapReplayError
from rmapreplay.traces.scenarios.compiler import Compiler, Step
from rmapreplay.traces.scenarios.errors import ScenarioError
from rmapreplay.traces.scenarios.expect import Expectation, to_metadata
from rmapreplay.traces.scenarios.findings import Findings
from rmapreplay.traces.scenarios.words import PAGE
from rmapreplay.traces.schema import (
    FILE_SCHEMA,
    METADATA_KEY,
    NAMED_COLUMNS,
    SCHEMA_VERSION,
    process_names,
)

if TYPE_CHECKING:
    import polars as pl

    from rmapreplay.traces.reader import Trace

DEFAULT_KERNEL: Final = "7.3"
_NANOSECONDS_A_ROW: Final = 1000
_BATCH_ROWS: Final = 1 << 16


class Result(Protocol):
    """What check() needs of a replay's result."""

    @property
    def summary(self) -> dict[str, Any]: ...
    @property
    def walks(self) -> pl.DataFrame: ...
    @property
    def visits(self) -> pl.DataFrame: ...
    @property
    def operations(self) -> pl.DataFrame: ...


@dataclass(frozen=True)
class Scenario:
    """A scenario, read.

    Attributes:
        path: its file, or None.
        text: as it was written.
        steps: what happens, in order, loops unrolled.
        expectations: what it says will be found.
        metadata: of its trace.
    """

    path: Path | None
    text: str
    steps: tuple[Step, ...]
    expectations: tuple[Expectation, ...]
    metadata: dict[str, Any]

    @property
    def rows(self) -> int:
        return sum(step.rows for step in self.steps)

    @property
    def about(self) -> str:
        """The comment that the text begins with, up to the first line that is none."""
        lines = []
        for line in self.text.splitlines():
            if not line.startswith("#"):
                break
            if "SPDX-" not in line:
                lines.append(line.lstrip("# ").rstrip())
        return " ".join(filter(None, lines))

    def trace(self) -> Trace:
        """The scenario as a trace in memory."""
        from rmapreplay.traces.reader import Trace

        footer = {METADATA_KEY: json.dumps(self.metadata).encode()}
        table = pa.Table.from_batches(_batches(self.steps), schema=FILE_SCHEMA)
        return Trace(table.replace_schema_metadata(footer), self.path)

    def check(self, result: Result) -> list[str]:
        """A line for each expectation that does not hold of one of the models of a replay's
        result. Those about VMAs visited need a replay with visits=True."""
        findings = Findings(self.expectations, process_names(self.metadata))
        for model in result.summary["models"]:
            for name in ("walks", "visits", "operations"):
                frame = getattr(result, name)
                mine = frame.filter(frame["model"] == model)
                # Columns that only other models have are null.
                own = [each for each in mine if not mine.height or each.null_count() < mine.height]
                for batch in mine.select(own).to_arrow().to_batches():
                    findings.write(model, name, batch)
        return findings.failures(result.summary)


def parse(text: str, path: str | Path | None = None) -> Scenario:
    """Read the text of a scenario; `path` is what errors call it.

    Raises ScenarioError, which names line and column.
    """
    path = None if path is None else Path(path)
    compiler = Compiler(path)
    compiler.compile(text)
    metadata = {
        "schema_version": SCHEMA_VERSION,
        "rows": sum(step.rows for step in compiler.steps),
        "kernel": DEFAULT_KERNEL,
        "thp": {"enabled": "never", "use_zero_page": True},
        "tool": {"from": "scenario", "source": path.name if path else None},
        **compiler.metadata,
    }
    if compiler.names:
        metadata["process_names"] = {str(pid): name for pid, name in compiler.names.items()}
    if compiler.expectations:
        metadata["expect"] = to_metadata(compiler.expectations)
    steps, expectations = tuple(compiler.steps), tuple(compiler.expectations)
    return Scenario(path, text, steps, expectations, metadata)


def read_scenario(path: str | Path) -> Scenario:
    """Read a file. Raises ScenarioError, or RmapReplayError if it cannot be read."""
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        raise RmapReplayError(f"{path}: no such file") from error
    except OSError as error:
        raise RmapReplayError(f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise ScenarioError("not UTF-8 text", path=path, line=line, column=1) from error
    return parse(text, path)


# ---- rows ----


def _batches(steps: Sequence[Step]) -> Iterator[pa.RecordBatch]:
    """The rows of all steps, in batches of FILE_SCHEMA."""
    pending: list[tuple[Step, int, int]] = []  # a step, which of its rows is the first, how many
    size = 0
    for step in steps:
        done = 0
        while done < step.rows:
            take = min(step.rows - done, _BATCH_ROWS - size)
            pending.append((step, done, take))
            done += take
            size += take
            if size == _BATCH_ROWS:
                yield _batch(pending, size)
                pending, size = [], 0
    if pending:
        yield _batch(pending, size)


def _batch(parts: Sequence[tuple[Step, int, int]], size: int) -> pa.RecordBatch:
    columns = []
    given = {"time", *(name for step, _, _ in parts for name in step.columns)}
    for field in FILE_SCHEMA:
        if field.name not in given:
            columns.append(pa.nulls(size, field.type))
            continue
        values: list[Any] = []
        for step, first, rows in parts:
            value = step.time if field.name == "time" else step.columns.get(field.name)
            apart = {"time": _NANOSECONDS_A_ROW, "addr": PAGE}.get(field.name, 0)
            if value is None or not apart:
                values += [value] * rows
            else:
                start = value + first * apart
                values += range(start, start + rows * apart, apart)
        if field.name in NAMED_COLUMNS:
            columns.append(pa.array(values, pa.string()).dictionary_encode().cast(field.type))
        else:
            columns.append(pa.array(values, field.type))
    return pa.RecordBatch.from_arrays(columns, schema=FILE_SCHEMA)
