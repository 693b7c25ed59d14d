# SPDX-License-Identifier: GPL-2.0-only
"""What the importers share: reading text in chunks, plain or .zst, into a native parser, and its
rows and counts into a trace."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

import pyarrow as pa

from rmapreplay.traces.errors import RmapReplayError, TraceFormatError
from rmapreplay.traces.schema import Metadata
from rmapreplay.traces.writer import TraceWriter

CHUNK_BYTES: Final = 1 << 20
_BATCH_ROWS: Final = 1 << 16
_ZSTD_MAGIC: Final = b"\x28\xb5\x2f\xfd"
PAGE_SIZE: Final = 4096


class Parser(Protocol):
    """A native parser: bytes in, Arrow out."""

    def feed(self, chunk: bytes, /) -> None: ...
    def finish(self) -> None: ...
    def take(self) -> Any: ...
    def stats(self) -> dict[str, Any]: ...
    @property
    def ready(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def first_time(self) -> int: ...
    @property
    def last_time(self) -> int: ...


@runtime_checkable
class Adopts(Protocol):
    """A parser that goes on from what was there before the capture began (see Adopted)."""

    def adopt(
        self, pid: int, tids: list[int], mm_of: int, shm: list[tuple[int, int]], compat: bool, /
    ) -> None: ...
    def first_file(self, file: int, /) -> None: ...


class TextSource(Protocol):
    """Where the text of a capture comes from."""

    @property
    def name(self) -> str:
        """What metadata call it."""

    @property
    def place(self) -> str:
        """What messages call it."""

    def chunks(self) -> Iterator[bytes]:
        """The text, cut anywhere. Raises RmapReplayError if it cannot be had."""


class TextFile:
    """The text of a file, plain or .zst."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def name(self) -> str:
        return self.path.name

    @property
    def place(self) -> str:
        return str(self.path)

    def chunks(self) -> Iterator[bytes]:
        return read_chunks(self.path)


class Adopted(Protocol):
    """A process that was there before the capture began.

    Attributes:
        pid, tids: its number and its living tasks'.
        mm_of: an adopted process whose address space it shares, 0: none.
        shm: (address, length) of what shmat has mapped.
        compat: it runs a 32-bit program.
    """

    @property
    def pid(self) -> int: ...
    @property
    def tids(self) -> tuple[int, ...]: ...
    @property
    def mm_of(self) -> int: ...
    @property
    def shm(self) -> tuple[tuple[int, int], ...]: ...
    @property
    def compat(self) -> bool: ...


class Snapshot(Protocol):
    """What was there before the capture began; capture.snapshot.Snapshot is one.

    Attributes:
        tasks: the processes, in the order in which they can be adopted.
        files: file numbers up to this one are taken by its rows.
        time: of all its rows.
    """

    @property
    def tasks(self) -> Sequence[Adopted]: ...
    @property
    def files(self) -> int: ...
    @property
    def time(self) -> int: ...

    def rows(self) -> Iterator[pa.RecordBatch]:
        """The first rows of the trace, of FILE_SCHEMA."""

    @property
    def metadata(self) -> Metadata:
        """For the metadata's key `attached`, when all rows are written."""


@dataclass(frozen=True)
class ImportOptions:
    """What the user knows of the capture and its text does not say.

    Attributes:
        kernel: release, as `uname -r` has it.
        thp: /sys/kernel/mm/transparent_hugepage/enabled: always, madvise or never.
        use_zero_page: /sys/kernel/mm/transparent_hugepage/use_zero_page.
        stack_limit: RLIMIT_STACK in bytes.
        command, description: free text about the workload.
        truth: answer keys of the same run, for the sidecar (see truth.py).
        lost: events that the capture lost and its text does not tell of.
        capture: what `rmapreplay capture` knows of its own run, for the metadata's key of that
            name.
        snapshot: what was there before the capture began.
        progress: called now and then with the bytes of text read so far.
    """

    kernel: str | None = None
    thp: str | None = None
    use_zero_page: bool = True
    stack_limit: int | None = None
    command: str | None = None
    description: str | None = None
    truth: tuple[Path | TextSource, ...] = ()
    lost: int = 0
    capture: Metadata | None = None
    snapshot: Snapshot | None = field(default=None, compare=False)
    progress: Callable[[int], None] | None = field(default=None, compare=False)


class Importer(Protocol):
    """A capture format."""

    name: str

    def recognizes(self, head: bytes) -> bool:
        """Whether a file whose text begins with `head` is of this format."""

    def run(self, source: TextSource, out: Path, options: ImportOptions) -> Metadata:
        """Import `source` to the trace `out`; returns the trace's metadata.

        Raises TraceFormatError if the source is not of this format or damaged, RmapReplayError if
        a file cannot be read or written.
        """


def read_chunks(path: Path) -> Iterator[bytes]:
    """The text of a file in chunks of about 1 MB, decompressed if it is zstd.

    Raises RmapReplayError if it cannot be read, TraceFormatError if the compressed data is damaged
    or cut short.
    """
    try:
        with path.open("rb") as file:
            compressed = file.read(4) == _ZSTD_MAGIC
    except OSError as error:
        raise RmapReplayError(f"{path}: cannot read: {error.strerror}") from error
    try:
        with pa.input_stream(str(path), compression="zstd" if compressed else None) as stream:
            while chunk := stream.read(CHUNK_BYTES):
                yield chunk
    except OSError as error:
        if not compressed:
            raise RmapReplayError(f"{path}: cannot read: {error}") from error
        raise TraceFormatError(f"damaged or truncated zstd data ({error})", path=path) from error


def base_metadata(tool: str, source: TextSource, options: ImportOptions) -> Metadata:
    """The part of a trace's metadata that is known before the first line is read."""
    return {
        **({"capture": options.capture} if options.capture else {}),
        "page_size": PAGE_SIZE,
        "arch": "x86_64",
        "kernel": options.kernel,
        "thp": {
            "enabled": options.thp,
            "use_zero_page": options.use_zero_page if options.thp else None,
        },
        "stack_limit": options.stack_limit,
        "tool": {"from": tool, "source": source.name},
        "command": options.command,
        "description": options.description,
    }


def count_metadata(parser: Parser) -> Metadata:
    """The part that a finished parser knows."""
    stats = parser.stats()
    return {
        "events": stats["events"],
        "syscalls": stats["syscalls"],
        "lines": stats["lines"],
        "rows": parser.rows,
        "lost": stats["lost"],
        "unmatched": {"enters": stats["unmatched_enters"], "exits": stats["unmatched_exits"]},
        "dropped": stats["dropped"],
        "processes_alive": stats["processes_alive"],
        "time": {"first": parser.first_time, "last": parser.last_time} if parser.rows else None,
    }


def import_text(
    parser: Parser,
    tool: str,
    source: TextSource,
    out: Path,
    options: ImportOptions,
    finish: Callable[[], Metadata] = dict,
) -> Metadata:
    """Run the text of `source` through `parser` into the trace `out`; see Importer.run(). `finish`
    is called when the parser has finished and before the trace is there under its name; what it
    returns is added to the metadata."""
    done = 0
    with TraceWriter(out) as writer:
        attached = adopt(parser, options.snapshot, writer) if options.snapshot else {}
        for chunk in source.chunks():
            parser.feed(chunk)
            done += len(chunk)
            if options.progress:
                options.progress(done)
            if parser.ready >= _BATCH_ROWS:
                writer.write(pa.record_batch(parser.take()))
        parser.finish()
        if parser.ready:
            writer.write(pa.record_batch(parser.take()))
        counts = count_metadata(parser) | {"rows": writer.rows}
        if options.snapshot:
            first = options.snapshot.time
            counts["time"] = {"last": first, **(counts["time"] or {}), "first": first}
        counts["lost"] += options.lost
        if writer.rows == 0:
            raise TraceFormatError(_nothing(tool, counts), path=source.place)
        metadata = base_metadata(tool, source, options) | counts | attached | {"lacks": []}
        writer.metadata = metadata | finish()
    return writer.metadata


def adopt(parser: Parser, snapshot: Snapshot, writer: TraceWriter) -> Metadata:
    """Begin the trace with a snapshot, from which the parser goes on; returns what the metadata say
    of it. Raises RmapReplayError if the parser cannot do that."""
    if not isinstance(parser, Adopts):
        raise RmapReplayError("a capture of this kind cannot begin in the middle")
    for batch in snapshot.rows():
        writer.write(batch)
    parser.first_file(snapshot.files + 1)
    for task in snapshot.tasks:
        parser.adopt(task.pid, list(task.tids), task.mm_of, list(task.shm), task.compat)
    return {"attached": {"time": snapshot.time, **snapshot.metadata}}


def _nothing(tool: str, counts: Metadata) -> str:
    lines, malformed = counts["lines"], counts["dropped"].get("malformed_line", 0)
    if malformed == lines:
        return f"none of {lines} lines reads as {tool} text"
    return f"{lines} lines of {tool} text, but nothing in them can be used: {counts['dropped']}"
