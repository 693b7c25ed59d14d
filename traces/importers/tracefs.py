# SPDX-License-Identifier: GPL-2.0-only
"""Import of tracefs text with system calls, faults, and probes of the reverse map's functions: the
trace, and beside it the answer key that the probes give."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from rmapreplay import _native
from rmapreplay.traces.importers.base import ImportOptions, import_text
from rmapreplay.traces.schema import Metadata
from rmapreplay.traces.snapshots import SnapshotArchive
from rmapreplay.traces.truth import TruthWriter

_HEAD: Final = re.compile(
    rb"^# tracer: \w+$|^.{16}-\d+ +(\( *[\d-]+\) +)?\[\d+\] .*?\d: \w+[:(]", re.MULTILINE
)
_BATCH_ROWS: Final = 1 << 16


class TracefsImporter:
    """See importers.base.Importer. The answer key is written to truth_path(out)."""

    name = "tracefs"

    def recognizes(self, head: bytes) -> bool:
        return _HEAD.search(head) is not None

    def run(self, source: Path, out: Path, options: ImportOptions) -> Metadata:
        if options.kernel is None:
            options = replace(options, kernel=_kernel(options.truth))
        with TruthWriter(out) as truth:
            parser = _TruthTap(_native.TracefsParser(), truth)
            metadata = import_text(parser, self.name, source, out, options)
            truth.sources.append(source.name)
            truth.add_answer_keys(options.truth)
        return metadata


class _TruthTap:
    """A tracefs parser whose answer key flows off by itself."""

    def __init__(self, parser: Any, truth: TruthWriter) -> None:
        self._parser = parser
        self._truth = truth

    def feed(self, chunk: bytes, /) -> None:
        self._parser.feed(chunk)
        if self._parser.truth_ready >= _BATCH_ROWS:
            self._drain()

    def finish(self) -> None:
        self._parser.finish()
        self._drain()

    def take(self) -> Any:
        return self._parser.take()

    def stats(self) -> dict[str, Any]:
        stats: dict[str, Any] = self._parser.stats()
        return stats

    @property
    def ready(self) -> int:
        return int(self._parser.ready)

    @property
    def rows(self) -> int:
        return int(self._parser.rows)

    @property
    def first_time(self) -> int:
        return int(self._parser.first_time)

    @property
    def last_time(self) -> int:
        return int(self._parser.last_time)

    def _drain(self) -> None:
        self._truth.append("visit", self._parser.take_visits())
        self._truth.append("object", self._parser.take_objects())
        self._truth.append("burst", self._parser.take_bursts())


def _kernel(answer_keys: Iterable[Path]) -> str | None:
    """The kernel's release, if an archive beside the capture has its log."""
    for file in answer_keys:
        if SnapshotArchive.recognizes(file) and (release := SnapshotArchive(file).kernel()):
            return release
    return None
