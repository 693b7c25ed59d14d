# SPDX-License-Identifier: GPL-2.0-only
"""The answer key of a captured run: perf script text of kmem:kmem_cache_alloc and
kmem:kmem_cache_free for vm_area_struct, anon_vma and anon_vma_chain, and, to know what of that no
trace has rows of, task:task_newtask and raw_syscalls of execve and clone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pyarrow as pa

from rmapreplay import _native
from rmapreplay.traces.errors import TraceFormatError
from rmapreplay.traces.importers.base import TextSource

_BATCH_ROWS: Final = 1 << 16


class KmemReader:
    """Iterates over a text's rows as record batches: time (ns), pid and tid of the acting task,
    object (vm_area_struct, anon_vma, anon_vma_chain), action (alloc, free), id (serial within the
    object's kind, from 1) and site (the function that called the allocator).

    Raises TraceFormatError if the text is damaged or holds no such line, RmapReplayError if it
    cannot be had. `counts` is filled when the iteration ends: lines, rows, live (objects not freed
    at the end), lost (events) and dropped by reason.
    """

    def __init__(self, source: TextSource) -> None:
        self.source = source
        self.counts: dict[str, Any] = {}

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        parser = _native.KmemParser()
        for chunk in self.source.chunks():
            parser.feed(chunk)
            if parser.ready >= _BATCH_ROWS:
                yield pa.record_batch(parser.take())
        parser.finish()
        if parser.rows == 0:
            raise TraceFormatError(
                f"none of {parser.lines} lines is an allocation of the reverse map",
                path=self.source.place,
            )
        if parser.ready:
            yield pa.record_batch(parser.take())
        self.counts = {
            "lines": parser.lines,
            "rows": parser.rows,
            "live": parser.live,
            "lost": parser.lost,
            "dropped": parser.dropped,
        }
