# SPDX-License-Identifier: GPL-2.0-only
"""Import of `strace -f -ttt` text: system calls only."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Final

from rmapreplay import _native
from rmapreplay.traces.importers.base import ImportOptions, TextSource, import_text
from rmapreplay.traces.schema import Metadata
from rmapreplay.traces.truth import answer_keys

_LINE: Final = re.compile(
    rb"^(\d+|\[pid +\d+\]) +\d+\.\d+ (\w+\(|<\.\.\. \w+ resumed>|\+\+\+ |--- )", re.MULTILINE
)
_LACKS: Final = ["faults", "mappings of exec", "exit_mmap"]


class StraceImporter:
    """See importers.base.Importer."""

    name = "strace"

    def recognizes(self, head: bytes) -> bool:
        return _LINE.search(head) is not None

    def run(self, source: TextSource, out: Path, options: ImportOptions) -> Metadata:
        with answer_keys(out, options.truth) as lost:
            options = replace(options, lost=options.lost + lost)
            return import_text(
                _native.StraceParser(), self.name, source, out, options, lambda: {"lacks": _LACKS}
            )
