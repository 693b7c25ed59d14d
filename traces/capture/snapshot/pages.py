# SPDX-License-Identifier: GPL-2.0-only
"""What page tables hold, from /proc/PID/pagemap, and what kind of pages these are, from
/proc/kpageflags. Pages of files are left out; everything is a column, for there may be millions."""

from __future__ import annotations

import array
import fcntl
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from errno import EINVAL, ENOTTY
from pathlib import Path
from typing import Final

import polars as pl
import pyarrow as pa

_PAGE: Final = 12
_USER_END: Final = (1 << 47) - 4096

# ioctl(PAGEMAP_SCAN), include/uapi/linux/fs.h, since Linux 6.7
_PAGEMAP_SCAN: Final = 0xC0606610
_IS_FILE, _IS_PRESENT, _IS_SWAPPED = 1 << 2, 1 << 3, 1 << 4
_REGIONS: Final = 4096
_GAP_PAGES: Final = 64
"""Regions this near are read as one: a page more costs less than a call."""

# /proc/PID/pagemap
_PFN: Final = (1 << 55) - 1
_EXCLUSIVE, _GUARD, _FILE, _SWAP, _PRESENT = (1 << bit for bit in (56, 58, 61, 62, 63))
_SWAP_TYPES: Final = 23
"""MAX_SWAPFILES at its smallest: types from here on are migration entries, markers and the like."""

# include/uapi/linux/kernel-page-flags.h
_HEAD, _TAIL, _KSM, _THP, _ZERO = (1 << bit for bit in (15, 16, 21, 22, 24))
_BLOCK_PAGES: Final = 1 << 7
"""Page frames whose flags are read at a time."""

_OWN: Final = pl.lit(1 << 62, pl.UInt64)
"""Above all page frames."""

ANON, SWAPPED, ZERO, GUARD = range(4)
"""Kinds of entries."""

ENTRIES: Final = {
    "mm": pl.UInt32,
    "page": pl.UInt64,
    "kind": pl.UInt8,
    "key": pl.UInt64,
    "head": pl.UInt64,
    "order": pl.UInt8,
    "alone": pl.Boolean,
}
"""Columns of entries(): mm (place in the list), page (address >> 12), kind, key (what two entries
that share a page have in common), head (first page frame of its folio) and order of the folio,
alone (the kernel says that nobody else maps it)."""


@dataclass
class RawPages:
    """Regions of page tables that may hold what is of interest, as the kernel gave them.

    Attributes:
        first: first page of each region.
        count: its number of pages.
        data: the 8-byte entries of /proc/PID/pagemap, region after region.
    """

    first: list[int] = field(default_factory=list)
    count: list[int] = field(default_factory=list)
    data: list[bytes] = field(default_factory=list)


@dataclass
class Pages:
    """Entries of all address spaces.

    Attributes:
        entries: columns ENTRIES, by mm and page.
        dropped: entries that are of no use, by reason.
        merged: entries that map a page of KSM's.
    """

    entries: pl.DataFrame
    dropped: dict[str, int]
    merged: int


def read_pages(tid: int) -> RawPages:
    """What the page tables of a task that stands still hold but for pages of files."""
    raw = RawPages()
    pagemap = os.open(f"/proc/{tid}/pagemap", os.O_RDONLY)
    try:
        for start, end in _near(_regions(pagemap, tid)):
            data = os.pread(pagemap, (end - start) * 8, start * 8)
            raw.first.append(start)
            raw.count.append(len(data) // 8)
            raw.data.append(data)
    finally:
        os.close(pagemap)
    return raw


def _regions(pagemap: int, tid: int) -> Iterator[tuple[int, int]]:
    """Ranges of pages, ascending, that are mapped or in swap and not of files."""
    vector = array.array("Q", bytes(24 * _REGIONS))
    at = 0
    while at < _USER_END:
        args = bytearray(
            struct.pack(
                "=12Q",
                96,
                0,
                at,
                _USER_END,
                0,
                vector.buffer_info()[0],
                _REGIONS,
                0,
                _IS_FILE,
                _IS_FILE,
                _IS_PRESENT | _IS_SWAPPED,
                _IS_PRESENT,
            )
        )
        try:
            found = fcntl.ioctl(pagemap, _PAGEMAP_SCAN, args)
        except OSError as error:
            if error.errno not in (ENOTTY, EINVAL):
                raise
            yield from _mapped(tid)
            return
        for i in range(0, 3 * found, 3):
            yield vector[i] >> _PAGE, vector[i + 1] >> _PAGE
        at = struct.unpack_from("=Q", args, 32)[0]


def _mapped(tid: int) -> Iterator[tuple[int, int]]:
    """Before Linux 6.7: every mapping that has anonymous memory or is in swap in part."""
    start = end = 0
    for line in Path(f"/proc/{tid}/smaps").read_text(errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name in ("Anonymous", "Swap"):
            if int(value.split()[0]) and start < end:
                yield start, end
                start = end
        elif "-" in name and " " in name:
            low, _, high = name.partition(" ")[0].partition("-")
            start, end = int(low, 16) >> _PAGE, min(int(high, 16), _USER_END) >> _PAGE


def _near(regions: Iterator[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Regions with little between them, joined; long ones cut."""
    limit = 1 << 22
    last: tuple[int, int] | None = None
    for start, end in regions:
        if last and start - last[1] <= _GAP_PAGES and end - last[0] <= limit:
            last = (last[0], end)
            continue
        if last:
            yield last
        while end - start > limit:
            yield start, start + limit
            start += limit
        last = (start, end)
    if last:
        yield last


def entries(raw: Sequence[RawPages]) -> Pages:
    """What the entries say; one list item per address space."""
    table = _table(raw)
    entry = pl.col("entry")

    def has(bit: int) -> pl.Expr:
        return (entry & bit) != 0

    swap_type = entry & 31
    table = table.filter(entry & (_PRESENT | _SWAP) != 0, ~has(_FILE)).with_columns(
        kind=pl.when(has(_GUARD)).then(GUARD).when(has(_SWAP)).then(SWAPPED).otherwise(ANON),
        key=entry & _PFN,
        alone=has(_EXCLUSIVE),
    )
    unclear = (pl.col("kind") == SWAPPED) & (swap_type >= _SWAP_TYPES)
    dropped = {"migrating_or_unknown_entry": table.filter(unclear).height}
    table = table.filter(~unclear).drop("entry")
    table = _with_folios(table)
    flags = pl.col("flags")
    zero = (pl.col("kind") == ANON) & (flags & _ZERO != 0)
    merged = (pl.col("kind") == ANON) & (flags & _KSM != 0)
    own = pl.col("mm").cast(pl.UInt64) * (1 << 36) + pl.col("page") + _OWN
    table = table.with_columns(
        kind=pl.when(zero).then(ZERO).otherwise("kind"),
        key=pl.when(merged).then(own).otherwise("key"),
        order=pl.when(zero | merged).then(0).otherwise("order"),
    )
    return Pages(
        table.select(pl.col(name).cast(kind) for name, kind in ENTRIES.items()),
        {reason: n for reason, n in dropped.items() if n},
        table.select(merged.sum()).item(),
    )


def _table(raw: Sequence[RawPages]) -> pl.DataFrame:
    """Every entry read: mm, page, entry."""
    data = b"".join(part for each in raw for part in each.data)
    regions = pl.DataFrame(
        {
            "mm": [i for i, each in enumerate(raw) for _ in each.first],
            "first": [first for each in raw for first in each.first],
            "count": [count for each in raw for count in each.count],
        },
        schema={"mm": pl.UInt32, "first": pl.Int64, "count": pl.Int64},
    )
    buffer = pa.Array.from_buffers(pa.uint64(), len(data) // 8, [None, pa.py_buffer(data)])
    pages = regions.select(
        "mm", page=pl.int_ranges("first", pl.col("first") + pl.col("count"))
    ).explode("page")
    pages = pages.filter(pl.col("page").is_not_null())
    return pages.with_columns(
        pl.col("page").cast(pl.UInt64), entry=pl.Series(pl.from_arrow(buffer))
    )


def _with_folios(table: pl.DataFrame) -> pl.DataFrame:
    """Adds flags (of /proc/kpageflags), head and order."""
    frames = table.filter(pl.col("kind") == ANON).select("key").unique().sort("key")
    frames = frames.with_columns(flags=_page_flags(frames["key"]))
    frames = frames.join(_folios(frames), on="key", how="left")
    return table.join(frames, on="key", how="left", maintain_order="left").with_columns(
        pl.when(pl.col("kind") == ANON).then(pl.col(name)).fill_null(0).alias(name)
        for name in ("flags", "head", "order")
    )


def _folios(frames: pl.DataFrame) -> pl.DataFrame:
    """Of page frames in order, those of large folios that are all there: key, head, order."""
    key, flags, tail = pl.col("key"), pl.col("flags"), pl.col("flags") & _TAIL != 0
    frames = frames.filter(flags & (_HEAD | _TAIL) != 0)
    goes_on = tail & (key - key.shift(1) == 1).fill_null(value=False)
    frames = frames.with_columns(folio=(~goes_on).cum_sum())
    found = frames.group_by("folio", maintain_order=True).agg(
        head=key.first(), size=pl.len().cast(pl.UInt64), whole=(flags & _HEAD != 0).first()
    )
    # A folio whose end is not mapped here has a tail page behind what is.
    found = found.filter("whole").with_columns(order=pl.col("size").log(2).cast(pl.UInt8))
    found = found.with_columns(after=_page_flags(found["head"] + found["size"])).filter(
        (pl.col("after") & _TAIL == 0) & (pl.lit(2, pl.UInt64).pow("order") == pl.col("size"))
    )
    return frames.join(found, on="folio").select("key", "head", "order")


def _page_flags(frames: pl.Series) -> pl.Series:
    """/proc/kpageflags of page frames, ascending."""
    if frames.is_empty():
        return pl.Series([], dtype=pl.UInt64)
    blocks = (frames // _BLOCK_PAGES).unique().sort()
    parts = []
    fd = os.open("/proc/kpageflags", os.O_RDONLY)
    try:
        for block in blocks:
            data = os.pread(fd, _BLOCK_PAGES * 8, block * _BLOCK_PAGES * 8)
            parts.append(data.ljust(_BLOCK_PAGES * 8, b"\0"))
    finally:
        os.close(fd)
    data = b"".join(parts)
    buffer = pa.Array.from_buffers(pa.uint64(), len(data) // 8, [None, pa.py_buffer(data)])
    flags = pl.Series(pl.from_arrow(buffer))
    return flags.gather(
        blocks.search_sorted(frames // _BLOCK_PAGES) * _BLOCK_PAGES + frames % _BLOCK_PAGES
    )
