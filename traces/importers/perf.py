# SPDX-License-Identifier: GPL-2.0-only
"""Import of `perf script` text: tracepoints of system calls, tasks and page faults, and perf's own
MMAP2, COMM, FORK and EXIT records. What MMAP2 records tell of VMAs after a call or a fault is the
answer key."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Final

from rmapreplay import _native
from rmapreplay.traces.importers.base import ImportOptions, TextSource, import_text
from rmapreplay.traces.importers.truth_tap import TruthTap
from rmapreplay.traces.schema import Metadata
from rmapreplay.traces.truth import TruthWriter

_LINE: Final = re.compile(
    rb"^.{0,40}?\d+/\d+\s+(\[\d+\]\s+)?\d+\.\d+: +(PERF_RECORD_\w+|\w+:\w+: )", re.MULTILINE
)


class PerfImporter:
    """See importers.base.Importer. The answer key is written to truth_path(out)."""

    name = "perf"

    def recognizes(self, head: bytes) -> bool:
        return _LINE.search(head) is not None

    def run(self, source: TextSource, out: Path, options: ImportOptions) -> Metadata:
        with TruthWriter(out) as truth:
            truth.sources.append(source.name)
            truth.add_answer_keys(options.truth)
            options = replace(options, lost=options.lost + truth.lost)
            parser = TruthTap(_native.PerfParser(), truth, {"mapped": "take_mapped"})

            def finish() -> Metadata:
                truth.complete()
                seen = parser.stats()["events"]
                return {"teardown": ["exit_mmap"] if "mmap:exit_mmap" in seen else []}

            return import_text(parser, self.name, source, out, options, finish)
