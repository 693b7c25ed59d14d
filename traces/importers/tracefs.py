# SPDX-License-Identifier: GPL-2.0-only
"""Import of tracefs text with system calls, faults, and probes of the reverse map's functions: the
trace, and beside it the answer key that the probes give. Text without probes, of tracepoints alone,
gives a trace too."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Final

from rmapreplay import _native
from rmapreplay.traces.importers.base import ImportOptions, TextSource, import_text
from rmapreplay.traces.importers.truth_tap import TruthTap
from rmapreplay.traces.schema import Metadata
from rmapreplay.traces.snapshots import SnapshotArchive
from rmapreplay.traces.truth import TruthWriter

_HEAD: Final = re.compile(
    rb"^# tracer: \w+$|^.{16}-\d+ +(\( *[\d-]+\) +)?\[\d+\] .*?\d: \w+[:(]", re.MULTILINE
)
_KINDS: Final = {
    "visit": "take_visits",
    "object": "take_objects",
    "mapped": "take_mapped",
    "burst": "take_bursts",
}
_TEARDOWN: Final = {
    "unmap_vmas": "mm_exit",
    "free_pgtables": "av_unlink",
    "exit_mmap": "vma_free",
}
"""The rows of exit_mmap(), and the probe that tells of each."""
_PROBE: Final = re.compile(rb"\d: (mm_exec|fault|faultx|vma_map|avc_ins): \(")
_POINT: Final = re.compile(rb"\d: page_fault_(user|kernel): ")


class TracefsImporter:
    """See importers.base.Importer. The answer key is written to truth_path(out)."""

    name = "tracefs"

    def recognizes(self, head: bytes) -> bool:
        return _HEAD.search(head) is not None

    def run(self, source: TextSource, out: Path, options: ImportOptions) -> Metadata:
        if options.kernel is None:
            options = replace(options, kernel=_kernel(options.truth))
        head = next(source.chunks(), b"")
        if _POINT.search(head) and not _PROBE.search(head):
            return self._run_points(source, out, options)
        with TruthWriter(out) as truth:
            native = _native.TracefsParser()
            parser = TruthTap(native, truth, _KINDS)

            def finish() -> Metadata:
                truth.sources.append(source.name)
                truth.add_answer_keys(options.truth)
                truth.complete()
                seen = parser.stats()["events"]
                return {
                    "lost": parser.stats()["lost"] + options.lost + truth.lost,
                    "teardown": [op for op, probe in _TEARDOWN.items() if probe in seen],
                    "fault_orders": native.fault_orders,
                }

            return import_text(parser, self.name, source, out, options, finish)

    def _run_points(self, source: TextSource, out: Path, options: ImportOptions) -> Metadata:
        with TruthWriter(out) as truth:
            truth.sources.append(source.name)
            truth.add_answer_keys(options.truth)
            options = replace(options, lost=options.lost + truth.lost)
            native = _native.TracepointsParser()
            parser = TruthTap(native, truth, {"mapped": "take_mapped"})

            def finish() -> Metadata:
                truth.complete()
                seen = parser.stats()["events"]
                return {
                    "teardown": ["exit_mmap"] if "exit_mmap" in seen else [],
                    "lacks": [] if native.records_seen else ["mappings of exec"],
                }

            return import_text(parser, self.name, source, out, options, finish)


def _kernel(answer_keys: Iterable[Path | TextSource]) -> str | None:
    """The kernel's release, if an archive beside the capture has its log."""
    archives = (key for key in answer_keys if isinstance(key, Path))
    for archive in filter(SnapshotArchive.recognizes, archives):
        if release := SnapshotArchive(archive).kernel():
            return release
    return None
