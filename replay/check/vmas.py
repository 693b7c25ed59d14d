# SPDX-License-Identifier: GPL-2.0-only
"""VMA lists against /proc/PID/maps, and single VMAs against what the kernel reported."""

from __future__ import annotations

from typing import Any, Final

import polars as pl

from rmapreplay.replay.check.answers import Answers, Moment
from rmapreplay.replay.check.disagreement import Disagreement
from rmapreplay.replay.check.playback import Playback, State

_USER_SPACE: Final = 1 << 47  # [vsyscall] lies above and is no VMA
_VM_SHARED: Final = 0x8

Line = tuple[int, int, str, int]
"""start, end, perms and offset of a VMA"""


def compare_snapshots(
    answers: Answers, playback: Playback
) -> tuple[dict[str, int], list[Disagreement]]:
    """Compare every process's VMA list at every burst that has a snapshot of it: start, end,
    permissions, and for mappings of files the offset."""
    counts = {"snapshots": 0, "equal": 0}
    disagreements = []
    by_burst = answers.truth.snapshots.partition_by("burst", as_dict=True, maintain_order=True)
    for moment, state in zip(answers.moments, playback.states, strict=True):
        lines = by_burst.get((moment.burst,))
        if moment.burst is None or lines is None:
            continue
        for (pid,), theirs in lines.partition_by("pid", as_dict=True, maintain_order=True).items():
            assert isinstance(pid, int)
            counts["snapshots"] += 1
            expected = _expected(theirs)
            got = _got(state, pid, {line[0] for line in expected if line[3]})
            if expected == got:
                counts["equal"] += 1
            else:
                disagreements.append(_of_snapshot(answers, moment, pid, expected, got))
    return counts, disagreements


def _expected(lines: pl.DataFrame) -> list[Line]:
    user = lines.filter(pl.col("start") < _USER_SPACE).sort("start")
    return user.select("start", "end", "perms", "offset").rows()


def _got(state: State, pid: int, with_offset: set[int]) -> list[Line]:
    """As /proc/PID/maps prints it. What has no struct file has no offset there."""
    return [
        (start, end, _perms(flags), offset if start in with_offset else 0)
        for start, end, flags, offset in state.vmas_of(pid)
        .select("start", "end", "flags", "offset")
        .iter_rows()
    ]


def _perms(flags: int) -> str:
    access = "".join(name if flags & bit else "-" for name, bit in (("r", 1), ("w", 2), ("x", 4)))
    return access + ("s" if flags & _VM_SHARED else "p")


def _of_snapshot(
    answers: Answers, moment: Moment, pid: int, expected: list[Line], got: list[Line]
) -> Disagreement:
    theirs = [line for line in expected if line not in got]
    ours = [line for line in got if line not in expected]
    start = min(line[0] for line in theirs + ours)
    end = max(line[1] for line in theirs + ours if line[0] == start)
    same_ranges = [line[:2] for line in theirs] == [line[:2] for line in ours]
    return Disagreement(
        max(moment.row - 1, 0),
        "snapshot",
        "permissions or offset" if same_ranges else "range",
        f"/proc/{pid}/maps at {moment.name}: {len(theirs)} VMAs differ, the first at {start:#x}",
        pid,
        (start, end),
        _items(theirs),
        _items(ours),
        _cause(answers, moment.row, pid, start, end),
    )


def _items(lines: list[Line]) -> list[dict[str, Any]]:
    names = ("start", "end", "perms", "offset")
    return [dict(zip(names, line, strict=True)) for line in lines]


def _cause(answers: Answers, row: int, pid: int, start: int, end: int) -> int | None:
    """The last operation before `row` of a process on these addresses, faults aside; else the fork
    that made it."""
    reach = pl.col("addr") + pl.col("len").fill_null(1)
    on_these = (
        (pl.col("pid") == pid)
        & ~pl.col("op").is_in(["fault", "walk"])
        & (pl.col("addr") <= end)
        & (reach >= start)
    )
    before = answers.rows.filter(pl.col("row") < row)
    for causes in (before.filter(on_these), before.filter(pl.col("child") == pid)):
        if not causes.is_empty():
            return int(causes["row"][-1])
    return None


def compare_reports(
    answers: Answers, playback: Playback
) -> tuple[dict[str, int], list[Disagreement]]:
    """Compare the VMAs that the kernel reported after it mapped, changed or grew them, right after
    the row whose doing they were. Of a call that reported several only the last is compared: what
    came after may have merged with those before."""
    reports = answers.reports.hstack(playback.watched.rename({"start": "got", "end": "got_end"}))
    last = reports.filter("last")
    equal = (pl.col("start") == pl.col("got")) & (pl.col("end") == pl.col("got_end"))
    off = last.filter(~equal)
    counts = {
        "reports": last.height,
        "reports_equal": last.height - off.height,
        "reports_intermediate": reports.height - last.height,
    }
    disagreements = [
        Disagreement(
            row,
            "report",
            "range" if got_end else "no VMA",
            f"the VMA of pid {pid} at {start:#x} that the kernel reported",
            pid,
            (start, end),
            [{"start": start, "end": end}],
            [{"start": got, "end": got_end}] if got_end else [],
        )
        for row, pid, start, end, got, got_end in off.drop("last").iter_rows()
    ]
    return counts, disagreements
