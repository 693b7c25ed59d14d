# SPDX-License-Identifier: GPL-2.0-only
"""What processes are called, from which row of a trace on."""

from __future__ import annotations

from typing import Any

import polars as pl
import pyarrow.compute as pc

from rmapreplay.replay.output import comm_of
from rmapreplay.traces.reader import Trace
from rmapreplay.traces.schema import OP_NAMES, process_names


def comms(trace: Trace) -> pl.DataFrame:
    """The names of processes, as exec gave them and children inherited them, or a scenario calls
    them: pid, seq (the row from which on), comm. Sorted by seq. Processes without are not in it.

    Raises TraceFormatError if a row is not right.
    """
    fork, execed = OP_NAMES.index("fork"), OP_NAMES.index("exec")
    paths = dict(trace.exec_paths())
    given = process_names(trace.metadata)
    names = dict(given)
    found: list[dict[str, Any]] = [
        {"pid": pid, "seq": 0, "comm": name} for pid, name in given.items()
    ]
    row = 0
    for batch in trace.batches():
        op, pid, child = (batch[name] for name in ("op", "pid", "child"))
        told = pc.indices_nonzero(pc.or_(pc.equal(op, fork), pc.equal(op, execed)))
        for at, which, parent, new in zip(
            told.to_pylist(), *(column.take(told).to_pylist() for column in (op, pid, child)),
            strict=True,
        ):  # fmt: skip
            if which == fork:
                named, comm = new, given.get(new) or names.get(parent)
            else:
                path = paths.get(row + at)
                named, comm = parent, path and comm_of(path)
            if comm and names.get(named) != comm:
                names[named] = comm
                found.append({"pid": named, "seq": row + at, "comm": comm})
        row += batch.num_rows
    return pl.DataFrame(found, {"pid": pl.Int32, "seq": pl.UInt64, "comm": pl.String})
