# SPDX-License-Identifier: GPL-2.0-only
"""The answer key beside a trace: what the kernel itself did in the captured run. No model sees it;
docs/truth-sidecar.md describes it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from rmapreplay.traces.errors import RmapReplayError, TraceFormatError
from rmapreplay.traces.schema import Metadata
from rmapreplay.traces.snapshots import SNAPSHOT_SCHEMA, SnapshotArchive
from rmapreplay.traces.writer import ParquetFileWriter

if TYPE_CHECKING:
    import polars as pl

    from rmapreplay.traces.importers.base import TextSource

TRUTH_VERSION: Final = 1
TRUTH_METADATA_KEY: Final = b"rmapreplay-truth"

_COLUMN_TYPES: Final = {
    "kind": pa.dictionary(pa.int8(), pa.string()),
    "time": pa.int64(),
    "end_time": pa.int64(),
    "walk": pa.uint32(),
    "visit": pa.uint32(),
    "found": pa.uint32(),
    "stopped": pa.bool_(),
    "pid": pa.int32(),
    "tid": pa.int32(),
    "start": pa.uint64(),
    "end": pa.uint64(),
    "object": pa.string(),
    "action": pa.string(),
    "id": pa.uint32(),
    "mm": pa.uint32(),
    "vma": pa.uint32(),
    "anon_vma": pa.uint32(),
    "root": pa.uint32(),
    "parent": pa.uint32(),
    "site": pa.string(),
    "burst": pa.int32(),
    "label": pa.string(),
    "perms": pa.string(),
    "offset": pa.uint64(),
    "path": pa.string(),
}
TRUTH_SCHEMA: Final = pa.schema(
    [pa.field(name, kind, nullable=name != "kind") for name, kind in _COLUMN_TYPES.items()]
)
KIND_COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "visit": ("time", "walk", "visit", "pid", "start", "end", "found", "stopped"),
    "object": (
        *("time", "object", "action", "id", "mm", "pid", "start", "end"),
        *("vma", "anon_vma", "root", "parent"),
    ),
    "snapshot": tuple(SNAPSHOT_SCHEMA.names),
    "mapped": ("time", "pid", "tid", "start", "end"),
    "allocation": ("time", "pid", "tid", "object", "action", "id", "site"),
    "burst": ("time", "end_time", "burst", "label"),
}
"""Per kind of row, the columns it uses; all others are null."""


def truth_path(trace: str | Path) -> Path:
    """Where the answer key of a trace file is: X.truth.parquet beside X.parquet."""
    trace = Path(trace)
    return trace.with_name(trace.name.removesuffix(".parquet") + ".truth.parquet")


class TruthWriter(ParquetFileWriter):
    """Writes the answer key of the trace file `trace`; a context manager like TraceWriter.

    Attributes:
        counts: rows by kind.
        sources: names of what it was made from.
        lost: events that captures of slab allocations say they lost.
        dropped: what of those could not be used, by reason.
    """

    def __init__(self, trace: str | Path) -> None:
        super().__init__(
            truth_path(trace),
            TRUTH_SCHEMA,
            column_encoding={"time": "DELTA_BINARY_PACKED"},
            use_dictionary=[name for name in _COLUMN_TYPES if name != "time"],
            compression_level=9,
        )
        self.counts: Counter[str] = Counter()
        self.sources: list[str] = []
        self.lost = 0
        self.dropped: Counter[str] = Counter()
        self._burst_times: dict[int, int] = {}

    def append(self, kind: str, rows: Any) -> None:
        """Add rows of one kind.

        Args:
            kind: a key of KIND_COLUMNS.
            rows: an Arrow record batch or struct array with the kind's columns.
        """
        batch = pa.record_batch(rows)
        if batch.num_rows == 0:
            return
        zeros = pa.nulls(batch.num_rows, pa.int8()).fill_null(0)
        columns = {"kind": pa.DictionaryArray.from_arrays(zeros, [kind])}
        for name in KIND_COLUMNS[kind]:
            columns[name] = batch.column(name).cast(_COLUMN_TYPES[name])
        for name, wanted in _COLUMN_TYPES.items():
            if name not in columns:
                columns[name] = pa.nulls(batch.num_rows, wanted)
        self.write(pa.record_batch([columns[name] for name in _COLUMN_TYPES], schema=TRUTH_SCHEMA))
        self.counts[kind] += batch.num_rows
        if kind == "burst":
            times = zip(batch["burst"].to_pylist(), batch["time"].to_pylist(), strict=True)
            self._burst_times.update(times)

    def add_answer_keys(self, keys: Iterable[Path | TextSource]) -> None:
        """Add what there is of the same run: perf script text of slab allocations, or files of it,
        or tar archives of maps snapshots; the bursts that the latter belong to must be there
        already.

        Raises TraceFormatError if one is neither, damaged, or of another run.
        """
        from rmapreplay.traces.importers.base import TextFile  # importers need this module
        from rmapreplay.traces.importers.kmem import KmemReader

        for key in keys:
            if isinstance(key, Path) and SnapshotArchive.recognizes(key):
                for snapshots in SnapshotArchive(key).batches(self._burst_times):
                    self.append("snapshot", snapshots)
            else:
                reader = KmemReader(TextFile(key) if isinstance(key, Path) else key)
                for allocations in reader:
                    self.append("allocation", allocations)
                self.lost += reader.counts["lost"]
                self.dropped.update(reader.counts["dropped"])
            self.sources.append(key.name)

    def __enter__(self) -> TruthWriter:
        super().__enter__()
        return self

    def complete(self) -> None:
        self.set_metadata(
            TRUTH_METADATA_KEY,
            {
                "version": TRUTH_VERSION,
                "rows": {kind: self.counts[kind] for kind in KIND_COLUMNS},
                "sources": self.sources,
                "lost": self.lost,
                "dropped": dict(sorted(self.dropped.items())),
            },
        )
        super().complete()


@contextmanager
def answer_keys(trace: str | Path, keys: Sequence[Path | TextSource]) -> Iterator[int]:
    """Around the writing of `trace`: puts what there is of the same run beside it, both or neither;
    without any, what an earlier trace of that name had is removed. Yields how many events were
    lost. For captures that are no answer key themselves; see TruthWriter.add_answer_keys()."""
    if not keys:
        yield 0
        truth_path(trace).unlink(missing_ok=True)
        return
    with TruthWriter(trace) as truth:
        truth.add_answer_keys(keys)
        truth.complete()
        yield truth.lost


class Truth:
    """An answer key. Each kind of row is read when first asked for, as a polars frame with the
    columns of KIND_COLUMNS; one that the file has no rows of is empty.

    Attributes:
        path: the file.
        metadata: the JSON object of its footer; docs/truth-sidecar.md describes it.
    """

    def __init__(self, path: Path, metadata: Metadata) -> None:
        self.path = path
        self.metadata = metadata

    @cached_property
    def visits(self) -> pl.DataFrame:
        """VMAs handed to recorded walks, in order of walk and visit."""
        return self._frame("visit")

    @cached_property
    def objects(self) -> pl.DataFrame:
        """Objects allocated, freed, put into and taken from trees, in order."""
        return self._frame("object")

    @cached_property
    def snapshots(self) -> pl.DataFrame:
        """VMAs as /proc/PID/maps had them, by burst, pid and address."""
        return self._frame("snapshot")

    @cached_property
    def mapped(self) -> pl.DataFrame:
        """VMAs as reported after calls that made or changed them, in order."""
        return self._frame("mapped")

    @cached_property
    def allocations(self) -> pl.DataFrame:
        """Slab allocations and frees with their call sites, in order."""
        return self._frame("allocation")

    @cached_property
    def bursts(self) -> pl.DataFrame:
        """When the capture's launcher asked for walks, and its label for them."""
        return self._frame("burst")

    def _frame(self, kind: str) -> pl.DataFrame:
        import polars as pl

        try:
            table = pq.read_table(
                self.path, columns=list(KIND_COLUMNS[kind]), filters=[("kind", "==", kind)]
            )
        except (pa.ArrowException, OSError) as error:
            raise TraceFormatError(f"damaged Parquet data: {error}", path=self.path) from error
        frame = pl.from_arrow(table)
        assert isinstance(frame, pl.DataFrame)
        return frame


def read_truth(path: str | Path) -> Truth:
    """Open an answer key, by its own name or by that of its trace.

    Raises:
        RmapReplayError: there is none, or it cannot be read.
        TraceFormatError: the file is not an answer key, or from a newer version.
    """
    path = Path(path)
    if not path.name.endswith(".truth.parquet"):
        path = truth_path(path)
    try:
        footer = pq.read_metadata(path).metadata or {}
    except FileNotFoundError as error:
        raise RmapReplayError(f"{path}: no such file") from error
    except (pa.ArrowException, OSError) as error:
        raise TraceFormatError("not a Parquet file, or truncated", path=path) from error
    metadata: Mapping[str, Any] = json.loads(footer.get(TRUTH_METADATA_KEY, b"{}"))
    version = metadata.get("version")
    if not isinstance(version, int):
        raise TraceFormatError("no metadata key 'rmapreplay-truth': not an answer key", path=path)
    if version > TRUTH_VERSION:
        raise TraceFormatError(
            f"version {version} is newer than this program's, {TRUTH_VERSION}", path=path
        )
    return Truth(path, dict(metadata))
