# SPDX-License-Identifier: GPL-2.0-only
"""A batch's directory while it is being filled: what is finished, and what comes to it.

Of each finished task it has the tables, and a record in tasks/. The record is written last, so that
where there is one the result is whole, wherever the program was stopped.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from rmapreplay.batch.summary import summary_table, totals
from rmapreplay.batch.tasks import TABLES, Failure, Finished, Task, place_of
from rmapreplay.traces.errors import RmapReplayError
from rmapreplay.traces.files import cannot_write, write_whole

MANIFEST: Final = "manifest.json"
SUMMARY: Final = "summary.parquet"
TIMINGS: Final = "timings.jsonl"

_RECORDS = "tasks"
_PARTIAL = ".partial"

Record = dict[str, Any]


class Store:
    """A batch's directory. A context manager, which keeps others from writing there.

    Args:
        directory: made if it is not there.
        force: take the results of earlier batches away first.

    Raises RmapReplayError if it holds anything else than a batch's results, another process is
    writing there, or it cannot be written.
    """

    def __init__(self, directory: Path, *, force: bool) -> None:
        self.directory = directory
        self._force = force
        self._lock = -1

    def __enter__(self) -> Self:
        ours = {MANIFEST, SUMMARY, TIMINGS, _RECORDS, _PARTIAL, *TABLES}
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            self._lock = os.open(self.directory, os.O_RDONLY)
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            foreign = {path.name for path in self.directory.iterdir()} - ours
            if foreign and not (self.directory / _RECORDS).is_dir():
                raise RmapReplayError(
                    f"{self.directory}: is no directory of a batch, there is '{min(foreign)}' in it"
                )
            self._remove([_PARTIAL, *(ours if self._force else ())])
            for needed in (_RECORDS, _PARTIAL):
                (self.directory / needed).mkdir(exist_ok=True)
        except BaseException as error:
            self._unlock()
            if isinstance(error, BlockingIOError):
                reason = f"{self.directory}: another batch is writing there"
                raise RmapReplayError(reason) from error
            if isinstance(error, FileExistsError):
                raise RmapReplayError(f"{self.directory}: is not a directory") from error
            if isinstance(error, OSError):
                raise cannot_write(self.directory, error) from error
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        shutil.rmtree(self.directory / _PARTIAL, ignore_errors=True)
        self._unlock()

    def reuse(self, tasks: Sequence[Task], asked: Iterable[tuple[str, str]]) -> dict[Any, Record]:
        """The records of those tasks that are finished, by key.

        Args:
            tasks: those that could be had.
            asked: the keys of these and of those that could not, for want of the trace.

        Raises RmapReplayError if there are results of anything else: of another trace, model,
        parameter or version.
        """
        by_key = {task.key: task for task in tasks}
        allowed = set(asked)
        finished: dict[Any, Record] = {}
        for path, record in self._records():
            key = record["trace"]["name"], record["model"]["label"]
            if key not in allowed:
                raise self._stale(f"{key[0]} under {key[1]}, which is not asked for")
            if key not in by_key:
                continue
            if difference := _difference(record, by_key[key].identity()):
                raise self._stale(f"{key[0]} under {key[1]} {difference}")
            if self._whole(record):
                finished[key] = record
            else:
                path.unlink()
        self._remove([MANIFEST, SUMMARY])
        return finished

    def new_directory(self, _task: Task) -> Path:
        """An empty directory for what a task writes."""
        return Path(tempfile.mkdtemp(dir=self.directory / _PARTIAL))

    def keep(self, finished: Finished) -> None:
        """Put the tables of a task in their place, and then its record."""
        try:
            for table, file in finished.files.items():
                place = self.directory / place_of(table, *finished.task.key)
                place.parent.mkdir(parents=True, exist_ok=True)
                file.replace(place)
            if not isinstance(finished.outcome, Failure):
                self._write_json(place_of(_RECORDS, *finished.task.key, ".json"), finished.outcome)
            if finished.directory is not None:
                shutil.rmtree(finished.directory)
        except OSError as error:
            raise cannot_write(self.directory, error) from error

    def note(self, line: dict[str, Any]) -> None:
        """Add a line to the timings: all that differs from one run to another is there."""
        with (self.directory / TIMINGS).open("a") as file:
            file.write(json.dumps(line) + "\n")

    def conclude(
        self, about: dict[str, Any], records: Sequence[Record], failed: Sequence[Failure]
    ) -> dict[str, Any]:
        """Write summary.parquet, and last the manifest, which is returned.

        Args:
            about: what the manifest begins with; its `models` are in the order asked for.
            records: of all tasks that are finished.
        """
        import pyarrow.parquet as pq

        labels = [model["label"] for model in about["models"]]
        records = sorted(records, key=lambda r: (r["trace"]["name"], labels.index(_label(r))))
        failed = sorted(failed, key=lambda f: (f.trace, labels.index(f.model)))
        part = self.directory / _PARTIAL / SUMMARY
        pq.write_table(summary_table(records, failed), part, compression="zstd")
        manifest = {
            **about,
            "totals": totals(labels, records, failed),
            "tasks": [_in_manifest(record) for record in records],
            "failed": [vars(failure) for failure in failed],
            "summary": {
                "path": SUMMARY,
                "bytes": part.stat().st_size,
                "sha256": _sha256(part),
            },
        }
        part.replace(self.directory / SUMMARY)
        self._write_json(MANIFEST, manifest)
        return manifest

    def _unlock(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _records(self) -> Iterator[tuple[Path, Record]]:
        for path in sorted((self.directory / _RECORDS).glob("*/*.json")):
            try:
                yield path, json.loads(path.read_text())
            except ValueError:  # cut short, as by a loss of power
                path.unlink()

    def _whole(self, record: Record) -> bool:
        """Whether the tables are what the record says."""
        for table, told in record["files"].items():
            path = self.directory / place_of(table, record["trace"]["name"], _label(record))
            if not path.is_file() or _sha256(path) != told["sha256"]:
                return False
        return True

    def _stale(self, what: str) -> RmapReplayError:
        return RmapReplayError(f"{self.directory}: has results of {what} (--force replaces all)")

    def _write_json(self, name: str, content: object) -> None:
        path = self.directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, json.dumps(content, indent=2) + "\n", force=True)

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            path = self.directory / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)


def _difference(record: Record, asked: Record) -> str | None:
    """In which way a record is of something else than what is asked for."""
    if record["trace"] != asked["trace"]:
        return "that are of another trace: its SHA-256 differs"
    if record["model"] != asked["model"]:
        return "whose file has changed since"
    if record["parameters"] != asked["parameters"]:
        return f"with walks {record['parameters']['walks']}"
    if record["program"] != asked["program"]:
        made_by = record["program"]
        return (
            f"that {made_by['name']} {made_by['version']} (build {made_by['build'][:12]}, "
            f"pyarrow {made_by['pyarrow']}) made"
        )
    return None


def _in_manifest(record: Record) -> Record:
    """A task as the manifest tells it."""
    trace, model = record["trace"]["name"], _label(record)
    return {
        "trace": trace,
        "model": model,
        "rules": record["summary"]["kernel"],
        "files": {
            table: {"path": place_of(table, trace, model), **told}
            for table, told in record["files"].items()
        },
    }


def _label(record: Record) -> str:
    label: str = record["model"]["label"]
    return label


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
