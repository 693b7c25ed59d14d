# SPDX-License-Identifier: GPL-2.0-only
"""Import of `perf script` text: tracepoints of system calls, tasks and page faults, and perf's own
MMAP2, COMM, FORK and EXIT records."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from rmapreplay import _native
from rmapreplay.traces.importers.base import ImportOptions, import_text
from rmapreplay.traces.schema import Metadata
from rmapreplay.traces.truth import answer_keys

_LINE: Final = re.compile(
    rb"^.{0,40}?\d+/\d+\s+(\[\d+\]\s+)?\d+\.\d+: +(PERF_RECORD_\w+|\w+:\w+: )", re.MULTILINE
)


class PerfImporter:
    """See importers.base.Importer."""

    name = "perf"

    def recognizes(self, head: bytes) -> bool:
        return _LINE.search(head) is not None

    def run(self, source: Path, out: Path, options: ImportOptions) -> Metadata:
        with answer_keys(out, options.truth):
            return import_text(_native.PerfParser(), self.name, source, out, options)
