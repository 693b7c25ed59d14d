# SPDX-License-Identifier: GPL-2.0-only
"""What a batch found, as lazy polars frames."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmapreplay.batch.tasks import Failure
from rmapreplay.traces.errors import RmapReplayError

if TYPE_CHECKING:
    import polars as pl


class BatchResult:
    """What a batch found.

    Attributes:
        directory: where it is.
        manifest: what manifest.json holds: the traces, models, parameters and versions with their
            hashes, a file per result, and the totals of each model.
        failed: the tasks that have no result, and why.
        done: how many tasks this run did; 0 for a batch that was read.
        reused: how many were finished before.

    The frames are lazy: what is not asked for is not read. Those of tables have a column `trace`
    and a column `model`; columns that a model does not have are null in its rows.
    """

    def __init__(
        self, directory: Path, manifest: Mapping[str, Any], *, done: int, reused: int
    ) -> None:
        self.directory = directory
        self.manifest = manifest
        self.failed: Sequence[Failure] = [Failure(**told) for told in manifest["failed"]]
        self.done = done
        self.reused = reused

    @property
    def walks(self) -> pl.LazyFrame:
        """One row per walk, trace and model, as Result.walks."""
        return self._table("walks")

    @property
    def operations(self) -> pl.LazyFrame:
        """One row per operation that cost something, as Result.operations."""
        return self._table("operations")

    @property
    def memory(self) -> pl.LazyFrame:
        """Live objects by kind at moments of the traces, as Result.memory."""
        return self._table("memory")

    @property
    def misses(self) -> pl.LazyFrame:
        """One row per mapping that a walk was never offered, as Result.misses."""
        return self._table("misses")

    @property
    def summary(self) -> pl.LazyFrame:
        """One row per number: trace, model, group, name, stat, value (docs/batch.md)."""
        import polars as pl

        return pl.scan_parquet(self.directory / self.manifest["summary"]["path"])

    def _table(self, name: str) -> pl.LazyFrame:
        """The files of each model have one schema; those of different models may not."""
        import polars as pl

        files: dict[str, list[Path]] = {}
        for task in self.manifest["tasks"]:
            path = self.directory / task["files"][name]["path"]
            files.setdefault(task["model"], []).append(path)
        if not files:
            return pl.LazyFrame(schema={"trace": pl.Categorical, "model": pl.Categorical})
        return pl.concat(
            [pl.scan_parquet(paths, hive_partitioning=False) for paths in files.values()],
            how="diagonal",
        )

    def __repr__(self) -> str:
        traces, models = (len(self.manifest[what]) for what in ("traces", "models"))
        return (
            f"<rmapreplay.BatchResult: {traces} traces under {models} models, "
            f"{len(self.failed)} failed>"
        )


def read_batch(directory: str | Path) -> BatchResult:
    """What `batch` left in a directory. Raises RmapReplayError if there is none that came to its
    end."""
    directory = Path(directory)
    try:
        manifest = json.loads((directory / "manifest.json").read_text())
    except FileNotFoundError as error:
        raise RmapReplayError(
            f"{directory}: has no manifest.json: no batch came to its end there (the same command "
            "goes on with one that was interrupted)"
        ) from error
    except (OSError, ValueError) as error:
        raise RmapReplayError(f"{directory}: manifest.json cannot be read: {error}") from error
    return BatchResult(directory, manifest, done=0, reused=len(manifest["tasks"]))
