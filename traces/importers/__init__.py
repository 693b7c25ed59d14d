# SPDX-License-Identifier: GPL-2.0-only
"""Captures made by other tools, turned into traces. Each format is one module with one Importer."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Final, cast

from rmapreplay.traces.errors import RmapReplayError, TraceFormatError
from rmapreplay.traces.importers.base import Importer, ImportOptions, TextFile, read_chunks
from rmapreplay.traces.schema import Metadata
from rmapreplay.traces.truth import truth_path

# In the order in which formats are tried.
_IMPORTERS: Final = {
    "tracefs": ("tracefs", "TracefsImporter"),
    "perf": ("perf", "PerfImporter"),
    "strace": ("strace", "StraceImporter"),
}
FORMATS: Final = tuple(_IMPORTERS)

__all__ = [
    "FORMATS",
    "ImportOptions",
    "Importer",
    "detect",
    "import_capture",
    "importer",
    "refuse_existing",
]


def importer(name: str) -> Importer:
    """The importer of a format of FORMATS."""
    module, cls = _IMPORTERS[name]
    made = getattr(import_module(f"{__name__}.{module}"), cls)()
    return cast(Importer, made)


def detect(source: Path) -> Importer:
    """The importer that recognizes the first megabyte of a file.

    Raises TraceFormatError if none does, RmapReplayError if it cannot be read.
    """
    head = next(read_chunks(source), b"")
    for candidate in _all():
        if candidate.recognizes(head):
            return candidate
    reason = "is empty" if not head else f"not a capture of a known format ({', '.join(FORMATS)})"
    raise TraceFormatError(reason, path=source)


def import_capture(
    source: str | Path,
    out: str | Path,
    *,
    source_format: str = "auto",
    options: ImportOptions | None = None,
    force: bool = False,
) -> Metadata:
    """Import a capture to the trace file `out`; returns the trace's metadata.

    Args:
        source: text, plain or zstd.
        out: Parquet file to make; its truth, if there is any, goes beside it (see truth.py).
        source_format: one of FORMATS, or auto.
        options: what the capture's text does not say.
        force: replace `out`, and its truth, if they exist.

    Raises:
        TraceFormatError: the source is not of the format, or damaged.
        RmapReplayError: a file cannot be read or written, or exists.
    """
    source, out = Path(source), Path(out)
    if source_format != "auto" and source_format not in FORMATS:
        raise RmapReplayError(f"no format {source_format!r}: one of auto, {', '.join(FORMATS)}")
    refuse_existing(out, force)
    chosen = detect(source) if source_format == "auto" else importer(source_format)
    return chosen.run(TextFile(source), out, options or ImportOptions())


def refuse_existing(out: Path, force: bool) -> None:
    """Raises RmapReplayError if a trace or its answer key is in the way."""
    for file in (out, truth_path(out)):
        if file.exists() and not force:
            raise RmapReplayError(f"{file}: exists already")


def _all() -> Iterator[Importer]:
    return (importer(name) for name in FORMATS)
