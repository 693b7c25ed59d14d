# SPDX-License-Identifier: GPL-2.0-only
"""What processes that stand still have mapped, read page by page from /proc in the plainest way,
and held against a replay."""

from __future__ import annotations

import os
import struct
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from rmapreplay.replay.check.playback import frame
from rmapreplay.replay.engine import ModelRun
from rmapreplay.replay.specs import ModelSpec

_PAGE: Final = 4096
_USER_END: Final = 1 << 47
_PRESENT, _FILE, _PFN = 1 << 63, 1 << 61, (1 << 55) - 1
_ZERO_PAGE: Final = 1 << 24  # /proc/kpageflags
_VM_SHARED: Final = 0x88  # VM_SHARED or VM_MAYSHARE: what /proc/PID/maps shows as s

_NOT_OF_FILES: Final = 1 << 31
"""The machine's numbers from here on are for what has no path: shared memory, vdso."""

Line = tuple[int, int, str, int]
"""start, end, permissions and offset of a VMA"""

Sharers = set[tuple[int, frozenset[int]]]
"""For each folio and address: who maps it there."""


@dataclass(frozen=True)
class State:
    """What some processes have mapped, by pid."""

    vmas: dict[int, list[Line]]
    sharers: Sharers


def read(pids: Iterable[int]) -> State:
    """As /proc has it, of processes that share no address space and stand still."""
    vmas = {pid: _maps(pid) for pid in pids}
    mapped = {pid: _anonymous(pid) for pid in vmas}
    zero = _zero_pages({frame for pages in mapped.values() for frame in pages.values()})
    found: dict[tuple[int, int], set[int]] = defaultdict(set)
    for pid, pages in mapped.items():
        for address, number in pages.items():
            if number not in zero:
                found[address, number].add(pid)
    return State(vmas, {(address, frozenset(who)) for (address, _), who in found.items()})


def replayed(trace: Any, pids: Iterable[int]) -> tuple[State, dict[str, Any]]:
    """As a replay of a whole trace has it, and its anomalies."""
    run = ModelRun(ModelSpec.parse("anon_vma"), trace, "none", False, None)
    for batch in trace.batches():
        run.feed(batch)
    run.native.validate()
    all_vmas = frame(run.native.vmas()).sort("mm", "start")
    mms = {run.native.mm_of(pid): pid for pid in pids}
    vmas = {
        pid: [
            (start, end, _permissions(flags), offset if 0 < file < _NOT_OF_FILES else 0)
            for start, end, flags, offset, file in all_vmas.filter(pl.col("mm") == mm)
            .select("start", "end", "flags", "offset", "file")
            .iter_rows()
        ]
        for mm, pid in mms.items()
    }
    found: dict[tuple[int, int], set[int]] = defaultdict(set)
    for mm, address, folio in (
        frame(run.native.mappings()).select("mm", "addr", "folio").iter_rows()
    ):
        found[address, folio].add(mms[mm])
    sharers = {(address, frozenset(who)) for (address, _), who in found.items()}
    return State(vmas, sharers), run.native.summary()["anomalies"]


def _permissions(flags: int) -> str:
    access = "".join(name if flags & bit else "-" for name, bit in (("r", 1), ("w", 2), ("x", 4)))
    return access + ("s" if flags & _VM_SHARED else "p")


def _maps(pid: int) -> list[Line]:
    lines = []
    with open(f"/proc/{pid}/maps") as file:
        for line in file:
            place, permissions, offset, _, inode = line.split()[:5]
            start, end = (int(at, 16) for at in place.split("-"))
            if start < _USER_END:
                lines.append((start, end, permissions, int(offset, 16) if int(inode) else 0))
    return lines


def _anonymous(pid: int) -> dict[int, int]:
    """Page frame by address, of pages that are not a file's."""
    found = {}
    with open(f"/proc/{pid}/pagemap", "rb", buffering=0) as pagemap:
        for start, end, permissions, _ in _maps(pid):
            if permissions.endswith("s"):
                continue
            pagemap.seek(start // _PAGE * 8)
            data = pagemap.read((end - start) // _PAGE * 8)
            for i, (entry,) in enumerate(struct.iter_unpack("=Q", data)):
                if entry & _PRESENT and not entry & _FILE:
                    found[start + i * _PAGE] = entry & _PFN
        specials = _special_ranges(pid)
    return {at: n for at, n in found.items() if not any(low <= at < high for low, high in specials)}


def _special_ranges(pid: int) -> list[tuple[int, int]]:
    with open(f"/proc/{pid}/maps") as file:
        lines = [line.split() for line in file if "[v" in line]
    return [
        (int(low, 16), int(high, 16)) for low, _, high in (each[0].partition("-") for each in lines)
    ]


def _zero_pages(frames: Iterable[int]) -> set[int]:
    flags = os.open("/proc/kpageflags", os.O_RDONLY)
    try:
        return {n for n in frames if struct.unpack("=Q", os.pread(flags, 8, n * 8))[0] & _ZERO_PAGE}
    finally:
        os.close(flags)
