# SPDX-License-Identifier: GPL-2.0-only
"""Archives of /proc/PID/maps, taken while the workload of a tracefs capture was frozen."""

from __future__ import annotations

import re
import tarfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pyarrow as pa

from rmapreplay.traces.errors import RmapReplayError, TraceFormatError

SNAPSHOT_SCHEMA: Final = pa.schema(
    {
        "time": pa.int64(),
        "burst": pa.int32(),
        "pid": pa.int32(),
        "start": pa.uint64(),
        "end": pa.uint64(),
        "perms": pa.string(),
        "offset": pa.uint64(),
        "path": pa.string(),
    }
)

_MEMBER: Final = re.compile(r"(?:.*/)?maps\.(\d+)\.txt")
_KERNEL: Final = re.compile(r"Linux version (\S+)")
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"


class SnapshotArchive:
    """A tar archive, plain or zstd, with one file maps.N.txt per burst N of walks: for each process
    a line `== pid P` and then its maps. Other members are let be, but for the kernel's log."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @staticmethod
    def recognizes(path: Path) -> bool:
        """Whether the name is that of an archive."""
        return path.name.endswith((".tar", ".tar.zst"))

    def batches(self, burst_times: Mapping[int, int]) -> Iterator[pa.RecordBatch]:
        """One record batch of SNAPSHOT_SCHEMA per snapshot, in order of burst.

        Args:
            burst_times: time of each burst of the trace.

        Raises:
            TraceFormatError: the archive is damaged, or a snapshot belongs to no burst.
        """
        texts = {
            int(match[1]): (name, text)
            for name, text in self._members(_MEMBER)
            if (match := _MEMBER.fullmatch(name))
        }
        for burst, (name, text) in sorted(texts.items()):
            if burst not in burst_times:
                reason = f"{name}: the trace has no burst {burst} of walks: of another run?"
                raise TraceFormatError(reason, path=self.path)
            yield self._parse(name, text, burst, burst_times[burst])

    def kernel(self) -> str | None:
        """The release of the captured kernel, from its log."""
        for _, text in self._members(re.compile(r"(?:.*/)?dmesg\.txt")):
            if match := _KERNEL.search(text):
                return match[1]
        return None

    def _parse(self, name: str, text: str, burst: int, time: int) -> pa.RecordBatch:
        rows: list[dict[str, object]] = []
        pid = 0
        for number, line in enumerate(text.splitlines(), 1):
            try:
                if line.startswith("== pid "):
                    pid = int(line[7:])
                    continue
                span, perms, offset, _device, _inode, *path = line.split(maxsplit=5)
                start, _, end = span.partition("-")
                row = {
                    "time": time,
                    "burst": burst,
                    "pid": pid,
                    "start": int(start, 16),
                    "end": int(end, 16),
                    "perms": perms,
                    "offset": int(offset, 16),
                    "path": path[0] if path else None,
                }
            except ValueError as error:
                raise TraceFormatError(
                    f"{name}, line {number}: not a line of /proc/PID/maps", path=self.path
                ) from error
            rows.append(row)
        return pa.RecordBatch.from_pylist(rows, schema=SNAPSHOT_SCHEMA)

    def _members(self, pattern: re.Pattern[str]) -> Iterator[tuple[str, str]]:
        with self._open() as archive:
            for member in archive:
                if not member.isfile() or not pattern.fullmatch(member.name):
                    continue
                file = archive.extractfile(member)
                assert file
                yield member.name, file.read().decode(errors="replace")

    @contextmanager
    def _open(self) -> Iterator[tarfile.TarFile]:
        try:
            with self.path.open("rb") as file:
                compressed = file.read(4) == _ZSTD_MAGIC
            with (
                pa.input_stream(str(self.path), compression="zstd" if compressed else None) as raw,
                tarfile.open(fileobj=raw, mode="r|") as archive,
            ):
                yield archive
        except (tarfile.TarError, EOFError, pa.ArrowException) as error:
            raise TraceFormatError(f"damaged archive: {error}", path=self.path) from error
        except OSError as error:
            if error.strerror is None:  # of pyarrow's decompression
                raise TraceFormatError(f"damaged archive: {error}", path=self.path) from error
            raise RmapReplayError(f"{self.path}: {error.strerror}") from error
