# SPDX-License-Identifier: GPL-2.0-only
"""How two models differ in one walk, in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from rmapreplay.analysis.explain.explanation import Story, Visit

_NAMED: Final = 4
"""Processes that are named; of more only how many."""


def difference(one: Story, two: Story) -> str:
    """Visits first, then what was found, then what the walk cost beside them."""
    if not _same_walk(one, two):
        return (
            f"not the same walk: {one.model} walks {_walked(one)}, {two.model} {_walked(two)} "
            "(models whose VMAs or folios differ number their walks differently)"
        )
    a, b = ({(v.mm.mm, v.addr): v for v in story.visits} for story in (one, two))
    only_one = [visit for place, visit in a.items() if place not in b]
    only_two = [visit for place, visit in b.items() if place not in a]
    more = len(two.visits) - len(one.visits)
    if more:
        direction = "more" if more > 0 else "fewer"
        text = (
            f"{two.model} visits {_vmas(abs(more))} {direction} than {one.model} "
            f"({len(two.visits)} against {len(one.visits)})"
        )
    elif only_one or only_two:
        text = (
            f"{two.model} visits as many VMAs as {one.model} ({len(two.visits)}), but not the same"
        )
    elif list(a) != list(b):
        text = f"{two.model} visits the VMAs that {one.model} visits, in another order"
    else:
        text = f"{two.model} and {one.model} visit the same VMAs in the same order"
    details = []
    if only_one:
        details.append(f"not {_whose(only_one)}")
    if only_two:
        details.append(f"{'but' if only_one else 'also'} {_whose(only_two)}")
    if details:
        text += f": {', '.join(details)}"
    return f"{text}; {_misses(one, two)}"


def _same_walk(one: Story, two: Story) -> bool:
    return all(
        (one.walk["seq"], one.folio["folio"], one.walk["kind"])[i]
        == (two.walk["seq"], two.folio["folio"], two.walk["kind"])[i]
        for i in range(3)
    )


def _walked(story: Story) -> str:
    folio = story.folio
    return f"pid {folio['pid']} at {folio['addr']:#x} at row {story.walk['seq']:,}"


def _vmas(n: int) -> str:
    return f"{n:,} VMA" + ("" if n == 1 else "s")


def _whose(visits: Sequence[Visit]) -> str:
    """`that of pid 12, in vain`; `those of pid 12 and pid 13, 1 of 2 in vain`."""
    names = list(dict.fromkeys(f"pid {visit.mm.pid}" for visit in visits))
    if len(names) > _NAMED:
        whose = f"{len(names):,} processes"
    else:
        whose = " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
    in_vain = sum(visit.result != "hit" for visit in visits)
    which = "that" if len(visits) == 1 else "those"
    if in_vain == len(visits):
        vain = "in vain"
    else:
        vain = f"{in_vain:,} of {len(visits):,} in vain" if in_vain else "which has the folio"
        if not in_vain and len(visits) > 1:
            vain = "which have the folio"
    return f"{which} of {whose}, {vain}"


def _misses(one: Story, two: Story) -> str:
    missing = [story for story in (one, two) if story.missed]
    if not missing:
        found = [sum(visit.hits for visit in story.visits) for story in (one, two)]
        if found[0] == found[1]:
            return f"both find {found[0]} of {one.folio['mapcount']} mappings"
        return f"{two.model} finds {found[1]} mappings, {one.model} {found[0]}"
    return ", ".join(
        f"{story.model} misses {len(story.missed):,} of {story.folio['mapcount']:,} mappings"
        for story in missing
    )
