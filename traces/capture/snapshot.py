# SPDX-License-Identifier: GPL-2.0-only
"""A snapshot of processes that stand still, as the first rows of a trace."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Final

import polars as pl
import pyarrow as pa

from rmapreplay.traces.capture import snapshot_proc
from rmapreplay.traces.capture.snapshot_pages import (
    ANON,
    GUARD,
    SWAPPED,
    ZERO,
    Pages,
    RawPages,
    entries,
)
from rmapreplay.traces.capture.snapshot_plan import Plan, plan
from rmapreplay.traces.capture.snapshot_proc import Memory
from rmapreplay.traces.capture.snapshot_sharing import analyse, image_sharing
from rmapreplay.traces.capture.snapshot_tree import Family, families
from rmapreplay.traces.capture.snapshot_vmas import VM_HUGETLB, VM_SHARED, VM_SPECIAL, Files, Layout
from rmapreplay.traces.capture.snapshot_write import batches
from rmapreplay.traces.schema import Metadata

_UNTRACKED: Final = VM_SHARED | VM_HUGETLB | VM_SPECIAL
"""VMAs without anonymous memory, or with such as nobody tracks."""


@dataclass(frozen=True)
class Task:
    """A process, for an importer to go on with.

    Attributes:
        pid: its number.
        tids: its living tasks.
        mm_of: an earlier process whose address space it shares, 0: none.
        shm: (address, length) of what shmat has mapped.
    """

    pid: int
    tids: tuple[int, ...]
    mm_of: int = 0
    shm: tuple[tuple[int, int], ...] = ()


@dataclass
class Snapshot:
    """What processes had mapped at a moment.

    Attributes:
        time: the moment, in ns of CLOCK_MONOTONIC.
        tasks: the processes, in an order in which each comes after the one whose memory it shares.
        files: numbers up to this one stand for files.
    """

    time: int
    tasks: list[Task]
    files: int
    _families: list[Family]
    _pages: Pages
    _unknown: dict[str, int]
    _plan: Plan | None = field(default=None, repr=False)
    _rows: int = 0

    def rows(self) -> Iterator[pa.RecordBatch]:
        """Rows of FILE_SCHEMA that lead to what was found."""
        for batch in batches(self._planned(), self.time):
            self._rows += batch.num_rows
            yield batch

    @property
    def metadata(self) -> Metadata:
        """For the trace's metadata: what was found, and by reason what could only be guessed
        (`guessed`) or not be said at all (`dropped`). Complete when rows() is through."""
        found = self._pages.entries
        nodes = [node for family in self._families for node in family.nodes]
        kinds = Counter(dict(found["kind"].value_counts().iter_rows()))
        return {
            "rows": self._rows,
            "processes": len(self.tasks),
            "tasks": sum(len(task.tids) for task in self.tasks),
            "address_spaces": len(nodes),
            "execs": len(self._families),
            "vmas": sum(len(node.layout) for node in nodes),
            "files": self.files,
            "pages": kinds[ANON],
            "swapped_pages": kinds[SWAPPED],
            "zero_pages": kinds[ZERO],
            "guard_pages": kinds[GUARD],
            "ksm_pages": self._pages.merged,
            **_shared(found),
            "guessed": self._guessed(),
            "dropped": {**self._pages.dropped, **self._unknown},
        }

    def _guessed(self) -> dict[str, int]:
        families_ = self._families
        guessed = Counter(self._planned().lost)
        guessed["parent_of_orphan"] = sum(family.orphans for family in families_)
        guessed["vmas_kept_apart"] = sum(
            vma.apart for family in families_ for node in family.nodes for vma in node.layout
        )
        guessed.update(_strangers(self._pages.entries, families_))
        return {reason: n for reason, n in sorted(guessed.items()) if n}

    def _planned(self) -> Plan:
        if self._plan is None:
            self._plan = plan(self._families, analyse(self._pages.entries, self._families))
        return self._plan


def take(pids: Collection[int]) -> Snapshot:
    """Read what processes have mapped, who stand still. What takes longer than reading is done by
    rows(), when they may go on.

    Raises OSError if /proc does not let itself be read.
    """
    memories = snapshot_proc.read(pids)
    pages = entries([memory.pages for memory in memories])
    moment = time.monotonic_ns()
    files = Files()
    layouts = [files.parse(memory.smaps) for memory in memories]
    for memory in memories:
        memory.smaps = b""
        memory.pages = RawPages()
    pages.entries, ignored = _tracked(pages.entries, layouts)
    pages.dropped |= {"page_of_untracked_vma": ignored} if ignored else {}
    numbers = {image: i for i, image in enumerate({memory.owner.image for memory in memories})}
    images = [numbers[memory.owner.image] for memory in memories]
    found = families(memories, layouts, image_sharing(pages.entries, images))
    return Snapshot(moment, _tasks(memories, layouts), files.count, found, pages, files.unknown)


def _tasks(memories: list[Memory], layouts: list[Layout]) -> list[Task]:
    tasks = []
    for memory, layout in zip(memories, layouts, strict=True):
        shm = tuple(
            (vma.start, vma.end - vma.start)
            for vma in layout
            if vma.file and (vma.path or "").startswith("/SYSV")
        )
        owner = memory.owner.pid
        tasks += [
            Task(user.pid, user.tids, 0 if user.pid == owner else owner, shm)
            for user in memory.users
        ]
    return tasks


def _tracked(found: pl.DataFrame, layouts: list[Layout]) -> tuple[pl.DataFrame, int]:
    """Entries in VMAs whose anonymous memory counts, and how many others there are."""
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
    kept = known.filter(pl.col("tracked")).drop("tracked").sort("mm", "page")
    return kept, found.height - kept.height


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
