# SPDX-License-Identifier: GPL-2.0-only
"""The answer key of a trace, set against the trace's rows.

What is left out, so that an exact replay shows as exact (docs/check.md):

- Objects of address spaces that no process came to use, of an exec or fork that failed, and visits
  of their VMAs: a trace has no rows of them.
- Visits of VMAs in an address space that is still being copied: a trace has it whole or not at all.

What is added:

- The end of an anon_vma that nothing needs any more, neither link nor descendant, and that was not
  freed before the recording ended: KSM holds references of its own.
- Since v7.3 anon_vma_fork() allocates an anon_vma and then an anon_vma_chain ahead of
  knowing whether it needs them. Of those it spares the probes show the first only, so the second is
  taken to live as long.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Final

import polars as pl

from rmapreplay.traces.errors import RmapReplayError, TraceFormatError

if TYPE_CHECKING:
    from rmapreplay.traces.reader import Trace
    from rmapreplay.traces.truth import Truth

AVC: Final = "anon_vma_chain"


@dataclass(frozen=True)
class Moment:
    """A point of the trace at which what lives is compared.

    Attributes:
        name: for people.
        row: how many rows of the trace come before it.
        time: the first time that does not belong to it; None at the end.
        burst: number of the burst of walks that begins there, if one does.
    """

    name: str
    row: int
    time: int | None
    burst: int | None


class Answers:
    """An answer key and its trace.

    Attributes:
        trace: the trace.
        truth: the answer key.
        rows: the trace, with a column `row`.
    """

    def __init__(self, trace: Trace, truth: Truth) -> None:
        self.trace = trace
        self.truth = truth
        self.rows = trace.frame().with_row_index("row").cast({"row": pl.UInt64})
        self._refuse_others()

    @cached_property
    def walks(self) -> pl.DataFrame:
        """The trace's walk rows: walk (number, as the answer key has it), row, time, pid, addr,
        kind."""
        walks = self.rows.filter(pl.col("op") == "walk")
        return walks.with_row_index("walk").select(
            "walk", "row", "time", "pid", "addr", pl.col("kind").cast(pl.String)
        )

    @cached_property
    def moments(self) -> list[Moment]:
        """The beginning of each burst of walks, and the end, in order."""
        times = self.rows["time"]
        bursts = [
            Moment(f"burst {burst}" + (f": {label}" if label else ""), int(row), time, burst)
            for burst, label, time, row in zip(
                *self.truth.bursts.select("burst", "label", "time"),
                times.search_sorted(self.truth.bursts["time"], side="left"),
                strict=True,
            )
        ]
        return [*bursts, Moment("the end", self.rows.height, None, None)]

    @cached_property
    def visits(self) -> pl.DataFrame:
        """What the kernel visited in recorded walks: walk, visit, pid, start, end, found."""
        return (
            self.truth.visits.join(
                self.walks.select("walk", "row"), on="walk", maintain_order="left"
            )
            .join(self._copied, on="pid", how="left", maintain_order="left")
            .filter(pl.col("pid").is_not_null(), pl.col("copied").fill_null(0) <= pl.col("row"))
            .select("walk", "visit", "pid", "start", "end", "found")
            .sort("walk", "visit")
        )

    @cached_property
    def _copied(self) -> pl.DataFrame:
        """Of each process that was forked (pid) the row by which it first had its address space."""
        forks = self.rows.filter(pl.col("op").is_in(["fork", "dup_mmap"])).with_columns(
            before=pl.col("row").shift(1).over("tid"), ahead=pl.col("op").shift(1).over("tid")
        )
        copied = pl.when(pl.col("ahead") == "dup_mmap").then("before").otherwise("row")
        made = forks.filter(pl.col("op") == "fork", pl.col("child") != pl.col("pid"))
        return made.group_by(pl.col("child").alias("pid")).agg(copied.min().alias("copied"))

    # ---- objects ----

    @cached_property
    def objects(self) -> pl.DataFrame:
        """What the probes saw of objects of address spaces that were used, in order."""
        objects = self.truth.objects
        allocated = objects.filter(pl.col("action") == "alloc")
        never_used = allocated.filter(pl.col("pid").is_null()).select("object", "id")
        return objects.join(never_used, on=["object", "id"], how="anti", maintain_order="left")

    @cached_property
    def lives(self) -> pl.DataFrame:
        """Allocations and frees in order: time, object, task (who: a pid if probes saw it, a tid
        if the slab allocator did), site (null from probes), change (1 or -1)."""
        change = pl.when(pl.col("action") == "alloc").then(1).otherwise(-1).alias("change")
        if self.objects.is_empty():
            site = pl.col("site").str.split(".").list.first()  # gcc: NAME.part.0, NAME.isra.0
            return self.truth.allocations.select(
                "time", "object", pl.col("tid").alias("task"), site, change
            )
        seen = self.objects.filter(pl.col("action").is_in(["alloc", "free"]))
        spared = seen.filter(
            pl.col("object") == "anon_vma", pl.col("action") == "alloc", pl.col("root").is_null()
        )["id"]
        is_spared = (pl.col("object") == "anon_vma") & pl.col("id").is_in(spared.implode())
        with_chain = seen.filter(is_spared).with_columns(object=pl.lit(AVC))
        return (
            pl.concat([seen, with_chain, self._unneeded])
            .sort("time", maintain_order=True)
            .select(
                "time",
                "object",
                pl.col("pid").alias("task"),
                pl.lit(None, pl.String).alias("site"),
                change,
            )
        )

    @cached_property
    def _unneeded(self) -> pl.DataFrame:
        """Frees that are yet to come, of anon_vmas that nothing needs any more."""
        anon_vmas = self.objects.filter(pl.col("object") == "anon_vma")
        freed = anon_vmas.filter(pl.col("action") == "free").select("id", freed="time")
        known = anon_vmas.filter(pl.col("action") == "alloc").join(freed, on="id", how="left")
        ends = []
        for left in known.filter(pl.col("freed").is_null()).iter_rows(named=True):
            links = self._chains.filter(pl.col("anon_vma") == left["id"])
            linked = links.group_by("id").agg(pl.col("action", "time").last())
            members = known.filter(pl.col("root") == left["id"], pl.col("id") != left["id"])
            needed = members["freed"].null_count() + (linked["action"] == "insert").sum()
            if linked.height and not needed:
                last = max([*linked["time"], *members["freed"]])
                end = {"time": last, "object": "anon_vma", "action": "free", "id": left["id"]}
                ends.append(end)
        return pl.DataFrame(ends, schema=self.objects.schema)

    def links_before(self, time: int | None) -> pl.DataFrame:
        """The anon_vma_chains in trees before `time` (None: at the end): pid (who first used the
        mm), start, end and id `vma` of the VMA, position in its list (head first), object (id of
        the anon_vma)."""
        seen = self._chains if time is None else self._chains.filter(pl.col("time") < time)
        # New links go to the head of their VMA's list and stay where they are.
        return (
            seen.group_by("id", maintain_order=True)
            .agg(pl.col("action", "mm", "start", "end", "vma", "anon_vma").last())
            .filter(pl.col("action") == "insert")
            .join(self._first_users, on="mm", how="left", maintain_order="left")
            .select(
                *("pid", "start", "end", "vma"),
                (pl.len() - 1 - pl.int_range(pl.len())).over("vma").alias("position"),
                pl.col("anon_vma").alias("object"),
            )
        )

    @cached_property
    def _first_users(self) -> pl.DataFrame:
        """By mm the pid of the process that first used it."""
        return self.objects.drop_nulls("mm").group_by("mm").agg(pl.col("pid").drop_nulls().first())

    @cached_property
    def _chains(self) -> pl.DataFrame:
        return self.objects.filter(
            pl.col("object") == AVC, pl.col("action").is_in(["insert", "remove"])
        )

    # ---- VMAs ----

    @cached_property
    def reports(self) -> pl.DataFrame:
        """VMAs that the kernel reported, with the `row` of the trace whose doing they were: row,
        pid, start, end, last (of that row; the only one that nothing came after)."""
        keys = ["time", "pid", "tid"]
        rows = self.rows.group_by(keys, maintain_order=True).agg(pl.col("row").last())
        reports = self.truth.mapped.join(rows, on=keys, how="left", maintain_order="left")
        lost = reports.filter(pl.col("row").is_null())
        if not lost.is_empty():
            raise self._other(f"no row of pid {lost['pid'][0]} at time {lost['time'][0]}")
        last = pl.int_range(pl.len()) == pl.len() - 1
        return reports.select("row", "pid", "start", "end", last.over("row").alias("last")).sort(
            "row", maintain_order=True
        )

    # ---- whether they belong together ----

    def _other(self, why: str) -> TraceFormatError:
        return TraceFormatError(f"is of another trace: {why}", path=self.truth.path)

    def _refuse_others(self) -> None:
        rows: dict[str, int] = self.truth.metadata.get("rows", {})
        if not any(rows.get(kind) for kind in ("visit", "object", "snapshot", "mapped",
                                               "allocation")):  # fmt: skip
            raise RmapReplayError(f"{self.truth.path}: holds nothing to compare")
        began = self.truth.visits.group_by("walk").agg(pl.col("time").first())
        if not began.is_empty() and began.height != self.walks.height:
            raise self._other(f"has {began.height} walks, the trace {self.walks.height}")
        off = began.join(self.walks, on="walk", how="left").filter(
            pl.col("time").ne_missing(pl.col("time_right"))
        )
        if not off.is_empty():
            walk, time, _, ours, *_ = off.sort("walk").row(0)
            raise self._other(f"walk {walk} began at {time}, in the trace at {ours}")
        pids = self.rows["pid"].unique()
        for kind in (self.truth.objects, self.truth.allocations, self.truth.snapshots):
            known = kind.filter(pl.col("pid").is_in(pids.implode()))
            if known.is_empty() and not kind["pid"].is_null().all():
                raise self._other("none of its processes is in the trace")
        _ = self.reports
