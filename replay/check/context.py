# SPDX-License-Identifier: GPL-2.0-only
"""What surrounds a disagreement: the event, the VMAs around on both sides, what came before."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import polars as pl

if TYPE_CHECKING:
    from rmapreplay.replay.check.answers import Answers
    from rmapreplay.replay.check.disagreement import Disagreement, Item
    from rmapreplay.replay.check.playback import Playback

_NEIGHBOURS: Final = 3
_OPERATIONS: Final = 10
_SHOWN: Final = 12
"""Lines of one side."""


def describe(found: Disagreement, answers: Answers, playback: Playback) -> dict[str, Any]:
    """A disagreement as the `first_disagreement` of a summary."""
    event = found.cause if found.cause is not None else found.row
    around = None
    if found.row is not None and found.pid is not None and found.area is not None:
        around = _around(found, answers, playback)
    return {
        "what": found.what,
        "category": found.category,
        "text": found.text,
        "row": found.row,
        "pid": found.pid,
        "address": found.area[0] if found.area else None,
        "event": None if event is None else _rows(answers.rows.filter(pl.col("row") == event))[0],
        "expected": found.expected[:_SHOWN],
        "got": found.got[:_SHOWN],
        "vmas": around,
        "operations": _before(found, answers),
    }


def _around(
    found: Disagreement, answers: Answers, playback: Playback
) -> dict[str, list[Item] | None]:
    """The VMAs of the process near the addresses, just after the row. The kernel's are those of
    the snapshot if it is one that differs; else the faulted ones, which is what its links show;
    None if the answer key has neither."""
    assert found.row is not None
    assert found.pid is not None
    assert found.area is not None
    theirs = None
    state = playback.state_before(found.row + 1, [found.pid])
    ours = state.vmas_of(found.pid).select("start", "end", "index", "faulted")
    if found.what == "snapshot":
        burst = next(m.burst for m in answers.moments if m.row == found.row + 1)
        theirs = answers.truth.snapshots.filter(
            pl.col("burst") == burst, pl.col("pid") == found.pid
        ).select("start", "end", "perms")
    elif not answers.objects.is_empty():
        later = answers.rows.filter(pl.col("row") == found.row + 1)["time"]
        links = answers.links_before(later[0] if len(later) else None)
        theirs = links.filter(pl.col("pid") == found.pid).select("start", "end").unique()
    return {
        "expected": None if theirs is None else _near(theirs.sort("start"), *found.area),
        "got": _near(ours.sort("start"), *found.area),
    }


def _near(vmas: pl.DataFrame, start: int, end: int) -> list[Item]:
    below = vmas.filter(pl.col("end") <= start).tail(_NEIGHBOURS)
    there = vmas.filter(pl.col("end") > start, pl.col("start") < end).head(_SHOWN)
    above = vmas.filter(pl.col("start") >= end).head(_NEIGHBOURS)
    return [*below.to_dicts(), *there.to_dicts(), *above.to_dicts()]


def _before(found: Disagreement, answers: Answers) -> list[dict[str, Any]]:
    """The last operations on the address space: those of the process, and the fork that made it;
    of its faults only those in the area."""
    if found.row is None or found.pid is None:
        return []
    start, end = found.area or (0, 0)
    near = pl.col("addr").is_between(start, end, closed="left")
    rows = answers.rows.filter(
        pl.col("row") <= found.row,
        (pl.col("pid") == found.pid) | (pl.col("child") == found.pid),
        ~pl.col("op").is_in(["fault", "walk"]) | ((pl.col("op") == "fault") & near),
    )
    return _rows(rows.tail(_OPERATIONS))


def _rows(rows: pl.DataFrame) -> list[dict[str, Any]]:
    """Rows of the trace without what is null in them."""
    return [
        {name: value for name, value in row.items() if value is not None} for row in rows.to_dicts()
    ]
