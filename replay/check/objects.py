# SPDX-License-Identifier: GPL-2.0-only
"""Objects of the reverse map: how many were allocated, freed, linked and alive."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import polars as pl

from rmapreplay.replay.check.answers import AVC, Answers, Moment
from rmapreplay.replay.check.disagreement import Disagreement
from rmapreplay.replay.check.playback import Playback

KINDS: Final = ("vm_area_struct", "anon_vma", AVC)
_TREE_COUNTERS: Final = {"inserts": ("insert", "avc_inserts"), "removes": ("remove", "avc_removes")}

# Rows that stand at the end of what they tell of, and at its beginning. Others may be either.
_AT_RETURN: Final = ("mmap", "fork", "dup_mmap")
_AT_ENTRY: Final = (
    *("munmap", "mremap", "mprotect", "brk", "madvise", "mlock", "munlock", "mlockall"),
    *("munlockall", "mbind", "mseal", "prctl"),
)

Pair = dict[str, int]
"""`expected` of the kernel, `got` in the replay; of a peak also `in_flight`"""


def pair(expected: int, got: int) -> Pair:
    return {"expected": expected, "got": got}


def agrees(compared: Pair) -> bool:
    """Whether kernel and replay have the same number, as far as it can be told."""
    return abs(compared["expected"] - compared["got"]) <= compared.get("in_flight", 0)


@dataclass(frozen=True)
class ObjectAgreement:
    """How the objects agree.

    Attributes:
        counts: the `objects` of a summary; empty if the answer key has none.
        live: by moment, kind by kind.
        disagreements: in the order of `counts` and of the moments.
    """

    counts: dict[str, dict[str, Any]]
    live: list[dict[str, Pair]]
    disagreements: list[Disagreement]


def compare_objects(answers: Answers, playback: Playback) -> ObjectAgreement:
    """Compare what was allocated, freed, put into and taken from trees in all, at the peak, by call
    site (if the slab allocator told), and what is alive at each moment."""
    lives = answers.lives
    if lives.is_empty():
        return ObjectAgreement({}, [], [])
    counts = {kind: _count(kind, answers, playback) for kind in KINDS}
    if not answers.objects.is_empty():
        for name, (action, counter) in _TREE_COUNTERS.items():
            seen = _tree_changes(answers, action).height
            counts[AVC][name] = pair(seen, int(playback.operations[counter].sum()))
    disagreements = [
        _of_counts(answers, playback, kind, what, compared)
        for kind, compared_all in counts.items()
        for what, compared in _pairs(compared_all)
        if not agrees(compared)
    ]
    live = []
    for moment, state in zip(answers.moments, playback.states, strict=True):
        before = lives if moment.time is None else lives.filter(pl.col("time") < moment.time)
        alive = dict(before.group_by("object").agg(pl.col("change").sum()).iter_rows())
        at = {kind: pair(alive.get(kind, 0), state.live[kind]) for kind in KINDS}
        live.append(at)
        if any(one["expected"] != one["got"] for one in at.values()):
            disagreements.append(_of_moment(moment, at))
    return ObjectAgreement(counts, live, disagreements)


def _tree_changes(answers: Answers, action: str) -> pl.DataFrame:
    """The anon_vma_chains put into trees or taken from them: time and task (a pid)."""
    changes = answers.objects.filter(pl.col("object") == AVC, pl.col("action") == action)
    return changes.select("time", pl.col("pid").alias("task"))


def _count(kind: str, answers: Answers, playback: Playback) -> dict[str, Any]:
    ours = playback.summary["objects"][kind]
    theirs = answers.lives.filter(pl.col("object") == kind)
    allocated = theirs.filter(pl.col("change") == 1)
    counts: dict[str, Any] = pair(allocated.height, ours["allocated"])
    counts["freed"] = pair(theirs.height - allocated.height, ours["freed"])
    counts["peak"] = _peak(kind, theirs, answers, playback)
    by_site = allocated.drop_nulls("site").group_by("site").len()
    if not by_site.is_empty():
        expected = dict(by_site.iter_rows())
        counts["sites"] = {
            site: pair(expected.get(site, 0), ours["sites"].get(site, 0))
            for site in sorted({*expected, *ours["sites"]})
        }
    return counts


def _peak(kind: str, theirs: pl.DataFrame, answers: Answers, playback: Playback) -> Pair:
    """The most alive at a time. In the replay a row is one instant, in the kernel it takes a while
    in which other tasks go on; so the peaks may differ by what was in flight at the higher."""
    alive = theirs["change"].cum_sum()
    top = alive.arg_max()
    compared = pair(
        0 if top is None else int(alive[top]), playback.summary["objects"][kind]["peak"]
    )
    if compared["expected"] > compared["got"] and top is not None:
        time = int(theirs["time"][top])
    else:
        rows = playback.operations.sort("seq")
        allocated, freed = rows[f"{kind}_allocated"].cum_sum(), rows[f"{kind}_freed"].cum_sum()
        highest = (allocated - freed.shift(1, fill_value=0)).arg_max()
        if highest is None:
            return compared
        time = int(answers.rows["time"][int(rows["seq"][highest])])
    return compared | {"in_flight": _in_flight(theirs, answers, time)}


def _in_flight(theirs: pl.DataFrame, answers: Answers, time: int) -> int:
    """Allocations and frees of operations that had begun and not ended: those of each task between
    two of its rows, if they are of an operation that the first of the rows began or that the second
    ended, or if some of them came by `time` and some after."""
    by = "tid" if answers.objects.is_empty() else "pid"
    op, at = pl.col("op").cast(pl.String), pl.col("time")
    before, after = at < time, at > time
    rows = answers.rows.group_by(pl.col(by).alias("task"), maintain_order=True).agg(
        at.filter(before).last().alias("begin"),
        op.filter(before).last().is_in(_AT_ENTRY).alias("entered"),
        at.filter(after).first().alias("end"),
        op.filter(after).first().is_in((*_AT_RETURN, "exit_mmap")).alias("returns"),
    )
    spans = (
        theirs.join(rows, on="task")
        .filter(
            pl.col("begin").is_null() | (at >= pl.col("begin")),
            pl.col("end").is_null() | (at <= pl.col("end")),
        )
        .group_by("task")
        .agg(
            pl.len().alias("changes"),
            ((at <= time).any() | pl.col("entered").any()).alias("begun"),
            ((at > time).any() | pl.col("returns").any()).alias("unfinished"),
        )
    )
    return int(spans.filter("begun", "unfinished")["changes"].sum())


def _pairs(counts: dict[str, Any]) -> list[tuple[str, Pair]]:
    """By name, every pair in the counts of a kind."""
    nested = {name: value for name, value in counts.items() if isinstance(value, dict)}
    sites: dict[str, Pair] = nested.pop("sites", {})
    return [
        ("allocated", pair(counts["expected"], counts["got"])),
        *nested.items(),
        *((f"allocated by {site}()", value) for site, value in sites.items()),
    ]


def _of_moment(moment: Moment, live: dict[str, Pair]) -> Disagreement:
    off = [kind for kind, one in live.items() if one["expected"] != one["got"]]
    return Disagreement(
        max(moment.row - 1, 0),
        "live",
        "live objects",
        f"live {', '.join(off)} at {moment.name}",
        expected=[{kind: live[kind]["expected"] for kind in off}],
        got=[{kind: live[kind]["got"] for kind in off}],
    )


def _of_counts(
    answers: Answers, playback: Playback, kind: str, what: str, compared: Pair
) -> Disagreement:
    row = None
    if what.startswith("allocated"):
        allocated = answers.lives.filter(pl.col("object") == kind, pl.col("change") == 1)
        row = _locate(answers, playback, allocated, f"{kind}_allocated")
    elif what in _TREE_COUNTERS:
        action, counter = _TREE_COUNTERS[what]
        row = _locate(answers, playback, _tree_changes(answers, action), counter)
    pid, area = _where(answers, row)
    return Disagreement(
        row,
        "counts",
        what,
        f"{kind}: {what}",
        pid,
        area,
        expected=[{what: compared["expected"]}],
        got=[{what: compared["got"]}],
    )


def _where(answers: Answers, row: int | None) -> tuple[int | None, tuple[int, int] | None]:
    """The process of a row, and the addresses that it names."""
    if row is None:
        return None, None
    pid, addr, length = answers.rows.select("pid", "addr", "len").row(row)
    return pid, None if addr is None else (addr, addr + max(length or 0, 1))


def _locate(answers: Answers, playback: Playback, events: pl.DataFrame, counted: str) -> int | None:
    """The first row from which on kernel and model have done something a
    different number of times.

    A task does one thing after another. So by the time of one of its rows the kernel has done for
    it what the model has before that row, or after it if the row stands at the end of what it tells
    of. The row looked for comes after the last one at which that was so.

    Args:
        events: what the kernel did: time, task.
        counted: the column of the operations table that counts it.
    """
    theirs = events.select("time", "task", kernel=pl.int_range(1, pl.len() + 1).over("task"))
    ours = playback.operations.select(row="seq", n=pl.col(counted).cast(pl.Int64))
    rows = answers.rows.select("row", "time", pl.col("op").cast(pl.String), "pid", "tid", "child")
    if answers.objects.is_empty():
        task = pl.col("tid")
    else:  # probes name the process that gets the object
        child = pl.col("child").fill_null(strategy="backward").over("tid")
        task = pl.when(pl.col("op").is_in(["fork", "dup_mmap"])).then(child).otherwise("pid")
    rows = (
        rows.join(ours, on="row", how="left", maintain_order="left")
        .with_columns(pl.col("n").fill_null(0), task=task)
        .with_columns(after=pl.col("n").cum_sum().over("task"))
        .join_asof(theirs, on="time", by="task", allow_exact_matches=False, check_sortedness=False)
        .with_columns(pl.col("kernel").fill_null(0))
    )
    least = (
        pl.when(pl.col("op").is_in(_AT_RETURN))
        .then("after")
        .otherwise(pl.col("after") - pl.col("n"))
    )
    most = (
        pl.when(pl.col("op").is_in(_AT_ENTRY))
        .then(pl.col("after") - pl.col("n"))
        .otherwise("after")
    )
    totals = theirs.group_by("task").agg(pl.col("kernel").max().alias("total"))
    off = (
        rows.join(totals, on="task", how="left", maintain_order="left")
        .filter(pl.col("after").last().over("task") != pl.col("total").fill_null(0))
        .with_columns(agrees=pl.col("kernel").is_between(least, most))
        .with_columns(since=pl.col("row").filter("agrees").max().fill_null(0).over("task"))
    )
    # Between the last row that agrees and the next: that one does it if it stands at its end.
    ends = pl.col("op").is_in(_AT_RETURN)
    nearest = off.filter(pl.col("row") >= pl.col("since")).group_by("task", maintain_order=True)
    found = nearest.agg(
        pl.when(pl.len() > 1, ends.slice(1, 1).first())
        .then(pl.col("row").slice(1, 1).first())
        .otherwise(pl.col("row").first())
    )["row"].min()
    return found if isinstance(found, int) else None
