# SPDX-License-Identifier: GPL-2.0-only
"""A snapshot of processes that stand still, as the first rows of a trace."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

import polars as pl
import pyarrow as pa

from rmapreplay.traces.capture.snapshot import proc
from rmapreplay.traces.capture.snapshot.pages import (
    ANON,
    GUARD,
    SWAPPED,
    ZERO,
    Pages,
    RawPages,
    entries,
)
from rmapreplay.traces.capture.snapshot.plan import Plan, plan
from rmapreplay.traces.capture.snapshot.proc import Memory
from rmapreplay.traces.capture.snapshot.sharing import analyse, image_sharing
from rmapreplay.traces.capture.snapshot.tree import Family, families
from rmapreplay.traces.capture.snapshot.vmas import VM_HUGETLB, VM_SHARED, VM_SPECIAL, Files, Layout
from rmapreplay.traces.capture.snapshot.write import batches
from rmapreplay.traces.schema import Metadata

_UNTRACKED: Final = VM_SHARED | VM_HUGETLB | VM_SPECIAL
"""VMAs without anonymous memory, or with such as nobody tracks."""
_COMPAT_END: Final = 1 << 32
"""No VMA of a 32-bit program lies above, and the stack and vdso of others do."""


@dataclass(frozen=True)
class Task:
    """A process, for an importer to go on with.

    Attributes:
        pid: its number.
        tids: its living tasks.
        mm_of: an earlier process whose address space it shares, 0: none.
        shm: (address, length) of what shmat has mapped.
        compat: it runs a 32-bit program.
    """

    pid: int
    tids: tuple[int, ...]
    mm_of: int = 0
    shm: tuple[tuple[int, int], ...] = ()
    compat: bool = False


class Snapshot:
    """What processes had mapped at a moment. Whatever need not be read while they stand still is
    done when it is first asked for.

    Attributes:
        time: the moment, in ns of CLOCK_MONOTONIC.
    """

    def __init__(self, moment: int, memories: list[Memory], pages: Pages) -> None:
        self.time = moment
        self._memories = memories
        self._pages = pages
        self._files = Files()
        self._rows = 0

    @property
    def tasks(self) -> list[Task]:
        """The processes, each after the one whose memory it shares."""
        return _tasks(self._memories, self._layouts)

    @property
    def files(self) -> int:
        """Numbers up to this one stand for files."""
        return self._files.count if self._layouts else 0

    def rows(self) -> Iterator[pa.RecordBatch]:
        """Rows of FILE_SCHEMA that lead to what was found."""
        for batch in batches(self._plan, self.time):
            self._rows += batch.num_rows
            yield batch

    @property
    def metadata(self) -> Metadata:
        """For the trace's metadata: what was found, and by reason what could only be guessed
        (`guessed`) or not be said at all (`dropped`). Complete when rows() is through."""
        found = self._entries
        kinds = Counter(dict(found["kind"].value_counts().iter_rows()))
        ignored = self._pages.entries.height - found.height
        dropped = {**self._pages.dropped, "page_of_untracked_vma": ignored, **self._files.unknown}
        return {
            "rows": self._rows,
            "processes": len(self.tasks),
            "tasks": sum(len(task.tids) for task in self.tasks),
            "address_spaces": len(self._layouts),
            "execs": len(self._families),
            "vmas": sum(len(layout) for layout in self._layouts),
            "files": self.files,
            "pages": kinds[ANON],
            "swapped_pages": kinds[SWAPPED],
            "zero_pages": kinds[ZERO],
            "guard_pages": kinds[GUARD],
            "ksm_pages": self._pages.merged,
            **_shared(found),
            "guessed": self._guessed(),
            "dropped": {reason: n for reason, n in sorted(dropped.items()) if n},
        }

    def _guessed(self) -> dict[str, int]:
        guessed = Counter(self._plan.lost)
        guessed["parent_of_orphan"] = sum(family.orphans for family in self._families)
        guessed["vmas_kept_apart"] = sum(vma.apart for layout in self._layouts for vma in layout)
        guessed.update(_strangers(self._entries, self._families))
        return {reason: n for reason, n in sorted(guessed.items()) if n}

    @cached_property
    def _layouts(self) -> list[Layout]:
        return [self._files.parse(memory.smaps) for memory in self._memories]

    @cached_property
    def _entries(self) -> pl.DataFrame:
        return _tracked(self._pages.entries, self._layouts)

    @cached_property
    def _families(self) -> list[Family]:
        images = [memory.owner.image for memory in self._memories]
        numbers = {image: i for i, image in enumerate(dict.fromkeys(images))}
        sharing = image_sharing(self._entries, [numbers[image] for image in images])
        return families(self._memories, self._layouts, sharing)

    @cached_property
    def _plan(self) -> Plan:
        return plan(self._families, analyse(self._entries, self._families))


def take(pids: Collection[int]) -> Snapshot:
    """Read what processes have mapped, who stand still.

    Raises OSError if /proc does not let itself be read.
    """
    memories = proc.read(pids)
    pages = entries([memory.pages for memory in memories])
    for memory in memories:
        memory.pages = RawPages()
    return Snapshot(time.monotonic_ns(), memories, pages)


def _tasks(memories: list[Memory], layouts: list[Layout]) -> list[Task]:
    tasks = []
    for memory, layout in zip(memories, layouts, strict=True):
        shm = tuple(
            (vma.start, vma.end - vma.start)
            for vma in layout
            if vma.file and (vma.path or "").startswith("/SYSV")
        )
        owner = memory.owner.pid
        compat = all(vma.end <= _COMPAT_END for vma in layout)
        tasks += [
            Task(user.pid, user.tids, 0 if user.pid == owner else owner, shm, compat)
            for user in memory.users
        ]
    return tasks


def _tracked(found: pl.DataFrame, layouts: list[Layout]) -> pl.DataFrame:
    """Entries in VMAs whose anonymous memory counts."""
    vmas = pl.DataFrame(
        [
            (mm, vma.start >> 12, not vma.flags & _UNTRACKED)
            for mm, layout in enumerate(layouts)
            for vma in layout
        ],
        schema={"mm": pl.UInt32, "page": pl.UInt64, "tracked": pl.Boolean},
        orient="row",
    )
    known = found.sort("page").join_asof(
        vmas.sort("page"), on="page", by="mm", strategy="backward", check_sortedness=False
    )
    return known.filter(pl.col("tracked")).drop("tracked").sort("mm", "page")


def _shared(found: pl.DataFrame) -> Metadata:
    """How many folios more than one address space has, and how many entries refer to those."""
    pages = found.filter(pl.col("kind") == ANON).group_by("page", "key").len()
    shared = pages.filter(pl.col("len") > 1)["len"]
    return {"shared_pages": len(shared), "mappings_of_shared_pages": int(shared.sum())}


def _strangers(found: pl.DataFrame, families_: list[Family]) -> dict[str, int]:
    """Sharing that no history of forks explains, by reason, in entries."""
    of = pl.DataFrame(
        [(node.index, i) for i, family in enumerate(families_) for node in family.nodes],
        schema={"mm": pl.UInt32, "family": pl.UInt32},
        orient="row",
    )
    pages = found.filter(pl.col("kind") == ANON).join(of, on="mm")
    by_page = pages.group_by("key").agg(
        entries=pl.len(),
        places=pl.col("page").n_unique(),
        families=pl.col("family").n_unique(),
        hidden=(~pl.col("alone")).any(),
    )
    several = pl.col("entries") > 1
    counts = by_page.select(
        shared_at_another_address=pl.col("entries").filter(several, pl.col("places") > 1).sum(),
        shared_without_common_exec=pl.col("entries").filter(several, pl.col("families") > 1).sum(),
        shared_with_others=(~several & pl.col("hidden")).sum(),
    )
    return counts.row(0, named=True)
