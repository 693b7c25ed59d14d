# SPDX-License-Identifier: GPL-2.0-only
"""A process that does one task, for execute.py: what happens here happens to no other task.

The job comes as JSON on standard input. The tables are written to the directory that it names, and
at last result.json, which says what was found or what went wrong.
"""

from __future__ import annotations

import ctypes
import dataclasses
import hashlib
import json
import os
import platform
import resource
import signal
import sys
import time
import traceback
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import pyarrow as pa
import pyarrow.parquet as pq

from rmapreplay.batch.corpus import digest
from rmapreplay.batch.program import program
from rmapreplay.batch.tasks import TABLES, parse_model
from rmapreplay.replay import engine
from rmapreplay.replay.specs import ModelSpec
from rmapreplay.traces.errors import ModelError, RmapReplayError, TraceFormatError
from rmapreplay.traces.places import fetch, local_path
from rmapreplay.traces.reader import read_trace

RESULT: Final = "result.json"

_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_TOLD_OF_TRACE: Final = ("kernel", "arch", "description", "thp")


class Tables:
    """Writes the tables of one replay, each with the name of the trace in a first column."""

    def __init__(self, directory: Path, trace: str) -> None:
        self._directory = directory
        self._trace = pa.array([trace])
        self._writers: dict[str, pq.ParquetWriter] = {}
        self.rows = dict.fromkeys(TABLES, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for writer in self._writers.values():
            writer.close()

    def write(self, model: str, table: str, rows: pa.RecordBatch) -> None:
        if table not in TABLES:
            return
        # As the column `model` is: a dictionary of one.
        codes = pa.array(bytes(rows.num_rows), pa.uint8())
        names = pa.DictionaryArray.from_arrays(codes, self._trace)
        field = pa.field("trace", names.type, nullable=False)
        named = pa.RecordBatch.from_arrays(
            [names, *rows.columns], schema=pa.schema([field, *rows.schema])
        )
        if table not in self._writers:
            path = self._directory / f"{table}.parquet"
            self._writers[table] = pq.ParquetWriter(path, named.schema, compression="zstd")
        if rows.num_rows:
            self._writers[table].write_batch(named)
            self.rows[table] += rows.num_rows


def do_task(job: Mapping[str, Any]) -> dict[str, Any]:
    """Replay, write the tables, and return the record of the result. Raises RmapReplayError."""
    directory = Path(job["directory"])
    identity = job["identity"]
    if program() != identity["program"]:
        raise RmapReplayError(
            f"asked for by {_text(identity['program'])}, but here is {_text(program())}: "
            "install the same package on both"
        )
    spec = _model(job)
    trace = read_trace(_trace_file(job))
    label = spec.label
    errors: dict[str, ModelError] = {}
    with Tables(directory, identity["trace"]["name"]) as tables:
        summary = engine.run(
            trace, [spec], walks=identity["parameters"]["walks"], sink=tables, errors=errors
        )
    if errors:
        raise errors[label]
    found = {
        name: value
        for name, value in summary["models"][label].items()
        if name not in ("seconds", "events_per_second")
    }
    return {
        **identity,
        "about": {key: trace.metadata.get(key) for key in _TOLD_OF_TRACE},
        "events": summary["events"],
        "summary": found,
        "files": {
            table: _file(directory / f"{table}.parquet", tables.rows[table]) for table in TABLES
        },
    }


def _text(made_by: Mapping[str, str]) -> str:
    return (
        f"{made_by['name']} {made_by['version']} (build {made_by['build'][:12]}, "
        f"pyarrow {made_by['pyarrow']})"
    )


def _model(job: Mapping[str, Any]) -> ModelSpec:
    """The model; from a file that came with the job, if one did."""
    asked = job["identity"]["model"]
    label: str = asked["label"]
    _, colon, rest = label.partition(":")
    text = f"{job['model_file']}{colon}{rest}" if job["model_file"] else label
    model = parse_model(text)
    if model.sha256 != asked["sha256"]:
        raise ModelError(label, "its file is not the one that the batch began with")
    return dataclasses.replace(ModelSpec.parse(text), label=label)


def _trace_file(job: Mapping[str, Any]) -> Path:
    """The trace as a file on this machine, which is the one that was asked for."""
    asked = job["identity"]["trace"]
    path = local_path(job["place"])
    if path is None:
        path = _fetched(job)
        with path.open("wb") as file:
            fetch(job["place"], file)
    if digest(str(path))[0] != asked["sha256"]:
        raise RmapReplayError(f"{job['place']}: changed since the batch began")
    return path


def _file(path: Path, rows: int) -> dict[str, Any]:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return {"rows": rows, "bytes": path.stat().st_size, "sha256": sha256}


def _failure(error: Exception, job: Mapping[str, Any]) -> dict[str, Any]:
    """An error as one line, without places that only this machine knows."""
    if isinstance(error, TraceFormatError):
        at = [f"row {error.row}"] if error.row is not None else []
        at += [f"column {error.column}"] if error.column is not None else []
        message = f"{', '.join(at)}: {error.reason}" if at else error.reason
    elif isinstance(error, RmapReplayError):
        message = str(error)
    else:
        message = traceback.format_exception_only(error)[-1]
    for here, name in _names(job):
        message = message.replace(here, name)
    return {
        "kind": type(error).__name__,
        "message": " ".join(message.split()),
        "event": error.event if isinstance(error, ModelError) else None,
    }


def _names(job: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Where trace and model are on this machine, and what they are called elsewhere."""
    asked = job["identity"]
    trace = asked["trace"]["name"]
    names = [(str(_fetched(job)), trace), (job["place"], trace)]
    if job["model_file"]:
        names.append((job["model_file"], asked["model"]["label"].partition(":")[0]))
    return names


def _fetched(job: Mapping[str, Any]) -> Path:
    """Where a trace goes that is not on this machine."""
    return Path(job["directory"]) / f"trace{Path(job['place']).suffix}"


def main() -> None:
    job = json.load(sys.stdin)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != job["parent"]:
        return
    started = time.perf_counter()
    try:
        result: dict[str, Any] = {"record": do_task(job)}
    except Exception as error:  # whatever a model's Python raises ends this task and no other
        result = {"failure": _failure(error, job)}
    own, below = (resource.getrusage(w) for w in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    result["timing"] = {
        "host": platform.node(),
        "seconds": round(time.perf_counter() - started, 3),
        "cpu_seconds": round(sum(u.ru_utime + u.ru_stime for u in (own, below)), 3),
        "peak_bytes": max(own.ru_maxrss, below.ru_maxrss) * 1024,
    }
    directory = Path(job["directory"])
    (directory / f"{RESULT}.part").write_text(json.dumps(result))
    (directory / f"{RESULT}.part").rename(directory / RESULT)
    sys.stdout.flush()
    sys.stderr.flush()
    # What a library's destructors would do now is nobody's business any more.
    os._exit(0)


if __name__ == "__main__":
    main()
