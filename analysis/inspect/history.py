# SPDX-License-Identifier: GPL-2.0-only
"""What the rows of a trace say of single pages: which of them was the last to touch one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import polars as pl
import pyarrow as pa

from rmapreplay.traces.schema import NAMED_COLUMNS, OP_NAMES, SPECIAL_NAMES

if TYPE_CHECKING:
    from rmapreplay.traces.reader import Trace

_PAGE: Final = 4096

# Those that can change what is mapped at a page, beside faults that write. brk is not among them:
# it does not say from where the break came.
_TOUCHING: Final = (
    *("munmap", "mmap", "mapping", "mremap", "populate"),
    *("swap_out", "swap_in", "discard"),
)
_ADVICE: Final = {
    4: "MADV_DONTNEED",
    8: "MADV_FREE",
    9: "MADV_REMOVE",
    23: "MADV_POPULATE_WRITE",
    24: "MADV_DONTNEED_LOCKED",
    102: "MADV_GUARD_INSTALL",
    103: "MADV_GUARD_REMOVE",
}
"""Those that do, by their numbers in linux/mman.h."""


@dataclass(frozen=True)
class Touch:
    """The last row that touched a page.

    Attributes:
        row: its number.
        op: its operation, of madvise the advice.
    """

    row: int
    op: str


@dataclass(frozen=True)
class Wanted:
    """A page of a process, and the rows from `since` to the moment."""

    pid: int
    addr: int
    since: int


def last_touches(trace: Trace, wanted: Sequence[Wanted], until: int) -> list[Touch | None]:
    """For each page the last row up to `until` by which its process wrote it or changed what is
    mapped there; None if there is none. One pass over the trace."""
    found: list[Touch | None] = [None] * len(wanted)
    if not wanted:
        return found
    pages = pl.DataFrame(
        {
            "key": range(len(wanted)),
            "pid": [each.pid for each in wanted],
            "page": [each.addr // _PAGE * _PAGE for each in wanted],
            "since": [each.since for each in wanted],
        },
        schema={"key": pl.UInt32, "pid": pl.Int32, "page": pl.UInt64, "since": pl.UInt64},
    )
    first = 0
    for batch in trace.batches():
        if first > until:
            break
        rows = batch.slice(0, until + 1 - first)
        for key, row, op, advice in _touches(rows, first, pages).iter_rows():
            name = OP_NAMES[op]
            if name == "fault":
                name = "write fault"
            found[key] = Touch(row, _ADVICE[advice] if name == "madvise" else name)
        first += batch.num_rows
    return found


def _touches(batch: pa.RecordBatch, first: int, pages: pl.DataFrame) -> pl.DataFrame:
    """The last touch within a batch, by key of the page: key, row, op, advice."""
    rows = pl.from_arrow(
        batch.select(["op", "pid", "addr", "len", "new_addr", "new_len", "write", "advice"])
    )
    assert isinstance(rows, pl.DataFrame)
    op = pl.col("op")
    touching = (
        op.is_in([OP_NAMES.index(name) for name in _TOUCHING])
        | ((op == OP_NAMES.index("fault")) & pl.col("write"))
        | ((op == OP_NAMES.index("madvise")) & pl.col("advice").is_in(list(_ADVICE)))
    )
    rows = rows.with_row_index("row", offset=first).filter(
        touching & pl.col("pid").is_in(pages["pid"].unique().to_list())
    )

    def covers(addr: str, length: str) -> pl.Expr:
        start = pl.col(addr) // _PAGE * _PAGE
        end = pl.col(addr) + pl.col(length).fill_null(1).clip(lower_bound=1)
        return ((pl.col("page") >= start) & (pl.col("page") < end)).fill_null(False)

    return (
        rows.join(pages, on="pid")
        .filter(
            (pl.col("row") >= pl.col("since"))
            & (covers("addr", "len") | covers("new_addr", "new_len"))
        )
        .group_by("key")
        .agg(pl.col("row", "op", "advice").sort_by("row").last())
    )


def event(trace: Trace, row: int) -> dict[str, Any]:
    """A row of the trace: what it gives, by column, names as in the file. Of paths only those that
    the kernel makes (`[heap]`), for reading them all takes longer."""
    first = 0
    for batch in trace.batches():
        if row < first + batch.num_rows:
            values: Mapping[str, Any] = batch.slice(row - first, 1).to_pylist()[0]
            break
        first += batch.num_rows
    else:
        return {}
    found = {}
    for name, value in values.items():
        if value is None:
            continue
        if name == "special":
            if SPECIAL_NAMES[value]:
                found["path"] = SPECIAL_NAMES[value]
        elif name in NAMED_COLUMNS:
            found[name] = NAMED_COLUMNS[name][value]
        else:
            found[name] = value
    return found
