# SPDX-License-Identifier: GPL-2.0-only
"""What is inside a trace, in numbers."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from rmapreplay.traces.reader import Trace
from rmapreplay.traces.schema import OP_NAMES

_CLONE_VM: Final = 0x100
_CLONE_THREAD: Final = 0x10000


def trace_info(trace: Trace) -> dict[str, Any]:
    """Counts and facts about a trace, ready for JSON.

    Returns:
        path, bytes (of the file), rows, bytes_per_event, ops ({op: rows}), processes (distinct
        thread groups), tasks (distinct tids), forks ({fork, vfork, thread: rows}: vfork is any
        CLONE_VM without CLONE_THREAD), errors (rows of failed calls that had effects), span
        (seconds), metadata (the trace's own).

    Raises TraceFormatError if a row is not what the format says.
    """
    ops: Counter[int] = Counter()
    forks = {"fork": 0, "vfork": 0, "thread": 0}
    pids: set[int] = set()
    tids: set[int] = set()
    errors = 0
    first = last = None
    for batch in trace.batches():
        for count in pc.value_counts(batch["op"]).to_pylist():
            ops[count["values"]] += count["counts"]
        for flags in _fork_flags(batch):
            kind = "thread" if flags & _CLONE_THREAD else "vfork" if flags & _CLONE_VM else "fork"
            forks[kind] += 1
        pids.update(pc.unique(batch["pid"]).to_pylist())
        tids.update(pc.unique(batch["tid"]).to_pylist())
        errors += len(batch) - batch["error"].null_count
        if batch.num_rows:
            first = batch["time"][0].as_py() if first is None else first
            last = batch["time"][-1].as_py()
    size = trace.path.stat().st_size if trace.path else None
    return {
        "path": str(place) if (place := trace.path or trace.url) else None,
        "bytes": size,
        "rows": trace.rows,
        "bytes_per_event": round(size / trace.rows, 3) if size and trace.rows else None,
        "ops": {OP_NAMES[op]: n for op, n in sorted(ops.items(), key=lambda item: -item[1])},
        "processes": len(pids),
        "tasks": len(tids),
        "forks": forks,
        "errors": errors,
        "span": (last - first) / 1e9 if first is not None and last is not None else 0.0,
        "metadata": trace.metadata,
    }


def _fork_flags(batch: pa.RecordBatch) -> list[int]:
    is_fork = pc.equal(batch["op"], pa.scalar(OP_NAMES.index("fork"), pa.uint8()))
    return [int(flags) for flags in batch["flags"].filter(is_fork).to_pylist()]
