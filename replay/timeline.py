# SPDX-License-Identifier: GPL-2.0-only
"""A replay as history: what held from which row of the trace to which (docs/timeline.md)."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rmapreplay.replay import DEFAULT_BATCH_SIZE, DEFAULT_WALKS
from rmapreplay.traces.errors import RmapReplayError

if TYPE_CHECKING:
    import polars as pl

    from rmapreplay.replay import engine
    from rmapreplay.traces.reader import Trace

SCHEMA_VERSION: Final = 1
"""Of the tables; readers refuse newer ones."""

TABLES: Final = (
    "mms",
    "vma_spans",
    "folios",
    "mappings",
    "link_spans",
    "remap_spans",
    "walks",
)
"""The tables of a timeline."""

METADATA: Final = "timeline.json"


class Timeline:
    """What lived when, in one replay under one model. docs/timeline.md has every column.

    Rows hold after the rows `from` to `to` - 1 of the trace, without end if `to` is null.

    Attributes:
        directory: where the tables are, as Parquet. If it was not asked for it is a temporary one,
            and goes with this object: lazy frames must be collected while this is there.
        metadata: `schema_version`, `rmapreplay` (version), `trace` (`path`, `metadata`), `events`,
            `model` (label), `kernel` (rules followed), `walk_policy`, `tables` (rows by name),
            `summary` (the model's part of a replay's).
    """

    def __init__(
        self, directory: Path, keep: tempfile.TemporaryDirectory[str] | None = None
    ) -> None:
        self.directory = directory
        self._keep = keep
        self.metadata: dict[str, Any] = _read_metadata(directory)

    def table(self, name: str) -> pl.LazyFrame:
        """One of TABLES."""
        import polars as pl

        if name not in TABLES:
            raise ValueError(f"no table {name} (there are {', '.join(TABLES)})")
        return pl.scan_parquet(self.directory / f"{name}.parquet")

    def at(self, name: str, seq: int) -> pl.LazyFrame:
        """The rows of a table of spans, or of mms, that hold after row `seq` of the trace."""
        import polars as pl

        since, until = ("born", "gone") if name == "mms" else ("from", "to")
        return self.table(name).filter(
            (pl.col(since) <= seq) & (pl.col(until).is_null() | (pl.col(until) > seq))
        )

    @property
    def mms(self) -> pl.LazyFrame:
        """Address spaces: mm, pid, comm, parent, how, born, execed, gone."""
        return self.table("mms")

    @property
    def vma_spans(self) -> pl.LazyFrame:
        """VMAs, a row per change: vma, mm, start, end (bytes), anon_pgoff, pgoff (pages), file,
        kind, flags, faulted, from, to, origin, op."""
        return self.table("vma_spans")

    @property
    def folios(self) -> pl.LazyFrame:
        """Anonymous folios, a row per change: folio, order, index, home, home_mm, home_root,
        exclusive, born, from, to."""
        return self.table("folios")

    @property
    def mappings(self) -> pl.LazyFrame:
        """Entries that map anonymous folios: folio, mm, page, pages (1 or 512), from, to."""
        return self.table("mappings")

    @property
    def link_spans(self) -> pl.LazyFrame:
        """Links of a model that links VMAs with objects: object, vma, mm, first, last, from, to,
        order."""
        return self.table("link_spans")

    @property
    def remap_spans(self) -> pl.LazyFrame:
        """What a cow-context knows to be displaced: context, mm, first, last, displacement, from,
        to."""
        return self.table("remap_spans")

    @property
    def walks(self) -> pl.LazyFrame:
        """Walks: walk, seq, kind, folio, mm, page, index, order, mapcount, exclusive, home, and
        what the native model found."""
        return self.table("walks")

    def __repr__(self) -> str:
        events, model = self.metadata["events"], self.metadata["model"]
        return f"<rmapreplay.Timeline: {events} events under {model}>"


def _read_metadata(directory: Path) -> dict[str, Any]:
    path = directory / METADATA
    try:
        metadata = json.loads(path.read_text())
        version = metadata["schema_version"]
    except FileNotFoundError:
        raise RmapReplayError(
            f"{directory}: no {METADATA}: not a timeline (rmapreplay timeline makes one)"
        ) from None
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RmapReplayError(f"{path}: cannot be read: {error}") from error
    if version > SCHEMA_VERSION:
        raise RmapReplayError(
            f"{path}: schema version {version} is newer than this program's, {SCHEMA_VERSION}"
        )
    assert isinstance(metadata, dict)
    return metadata


def read_timeline(directory: str | Path) -> Timeline:
    """Open what `timeline(..., out=directory)` has written.

    Raises RmapReplayError if there is no timeline, or one of a newer schema version.
    """
    return Timeline(Path(directory))


def timeline(
    trace: Trace | str | Path,
    model: str,
    *,
    walks: str = DEFAULT_WALKS,
    verify: engine.Verify = False,
    out: str | Path | None = None,
    force: bool = False,
    batch_size: int = DEFAULT_BATCH_SIZE,
    progress: engine.Progress | None = None,
) -> Timeline:
    """Replay a trace under one model and record its history.

    Memory is bounded by what lives in the traced processes, and a row per address space.

    Args:
        trace: a trace, or the path of one.
        model: as in replay(). Links and remaps are known of `anon_vma`, `cow` and `cow-poc`, and
            of other models that tell a RmapWatcher (rmap_models/native/model.hpp).
        walks, verify, batch_size, progress: as in replay(); `verify` also checks the timeline.
        out: a directory for the tables; without it, a temporary one.
        force: replace a timeline in `out`.

    Raises TraceFormatError, ModelError, InvariantError or RmapReplayError.
    """
    from rmapreplay.replay import engine
    from rmapreplay.replay.specs import ModelSpec

    if isinstance(trace, str | Path):
        from rmapreplay.traces.reader import read_trace

        trace = read_trace(trace)
    spec = ModelSpec.parse(model)
    engine.check_walks(walks)
    keep: tempfile.TemporaryDirectory[str] | None = None
    if out is None:
        keep = tempfile.TemporaryDirectory(prefix="rmapreplay-")
        out = Path(keep.name) / "timeline"
    run = engine.ModelRun(spec, trace, walks, False, None, verify)
    record(run, trace, out, walks=walks, force=force, batch_size=batch_size, progress=progress)
    return Timeline(Path(out), keep)


def record(
    run: engine.ModelRun,
    trace: Trace,
    directory: str | Path,
    *,
    walks: str,
    force: bool = False,
    batch_size: int = DEFAULT_BATCH_SIZE,
    progress: engine.Progress | None = None,
) -> None:
    """Replay all of the trace in `run`, which must be new, and write its history to `directory`."""
    from rmapreplay.replay.output import TimelineSink

    with TimelineSink(directory, force=force) as sink:
        run.native.record_timeline(sink.write)
        events = 0
        for batch in trace.batches(batch_size=batch_size):
            run.feed(batch)
            events += batch.num_rows
            if progress:
                progress(events)
        run.finish()
        sink.write_names(trace.exec_paths())
        sink.write_metadata(_metadata(trace, run.spec.label, run, walks, events))


def _metadata(
    trace: Trace, label: str, run: engine.ModelRun, walks: str, events: int
) -> dict[str, Any]:
    from rmapreplay import __version__

    return {
        "schema_version": SCHEMA_VERSION,
        "rmapreplay": __version__,
        "trace": {
            "path": str(trace.path) if trace.path else None,
            "metadata": dict(trace.metadata),
        },
        "events": events,
        "model": label,
        "kernel": run.kernel,
        "walk_policy": walks,
        "summary": run.summary(),
    }
