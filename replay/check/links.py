# SPDX-License-Identifier: GPL-2.0-only
"""The links themselves: which VMAs hang on which anon_vmas, by which list."""

from __future__ import annotations

from collections import Counter
from typing import Any

import polars as pl

from rmapreplay.replay.check.answers import Answers
from rmapreplay.replay.check.disagreement import Disagreement
from rmapreplay.replay.check.playback import Playback

Range = tuple[int, int, int]
"""pid, start and end of a VMA"""
Members = tuple[Range, ...]
"""An anon_vma, which has no name of its own: the VMAs linked with it"""


def linked_vmas(links: pl.DataFrame, vma: str) -> Counter[tuple[Range, tuple[Members, ...]]]:
    """Every linked VMA with its list, head first, an anon_vma being named by its members.

    Args:
        links: pid, start, end, position, object, and what tells VMAs of one range apart, `vma`.
    """
    members: dict[int, list[Range]] = {}
    lists: dict[tuple[Any, Range], list[int]] = {}
    rows = links.sort("position").select(vma, "pid", "start", "end", "object")
    for name, pid, start, end, anon_vma in rows.iter_rows():
        members.setdefault(anon_vma, []).append((pid, start, end))
        lists.setdefault((name, (pid, start, end)), []).append(anon_vma)
    named = {anon_vma: tuple(sorted(ranges)) for anon_vma, ranges in members.items()}
    return Counter(
        (where, tuple(named[anon_vma] for anon_vma in chain)) for (_, where), chain in lists.items()
    )


def compare_links(answers: Answers, playback: Playback) -> tuple[list[bool], list[Disagreement]]:
    """Whether the links are the same, moment by moment, and the first difference of each moment
    where they are not. Nothing if the answer key has none."""
    if answers.objects.is_empty():
        return [], []
    equal, disagreements = [], []
    for moment, state in zip(answers.moments, playback.states, strict=True):
        expected = linked_vmas(answers.links_before(moment.time), "vma")
        got = linked_vmas(state.links, "mm")
        equal.append(expected == got)
        if expected == got:
            continue
        missing, extra = expected - got, got - expected
        (pid, start, end), _ = first = min([*missing, *extra], key=lambda linked: linked[0])
        theirs = [chain for where, chain in missing if where == first[0]]
        ours = [chain for where, chain in extra if where == first[0]]
        disagreements.append(
            Disagreement(
                max(moment.row - 1, 0),
                "links",
                _category(theirs, ours),
                f"anon_vma_chains of pid {pid}'s VMA {start:#x}-{end:#x} at {moment.name}; "
                f"{missing.total()} VMAs differ in all",
                pid,
                (start, end),
                _items(theirs),
                _items(ours),
            )
        )
    return equal, disagreements


def _category(theirs: list[tuple[Members, ...]], ours: list[tuple[Members, ...]]) -> str:
    if not theirs or not ours:
        return "linked on one side only"
    same = sorted(map(sorted, theirs)) == sorted(map(sorted, ours))
    return "order of the list" if same else "members of the anon_vmas"


def _items(chains: list[tuple[Members, ...]]) -> list[dict[str, Any]]:
    """One line per link: its position in the list, and a VMA linked with the same anon_vma."""
    return [
        {"position": position, "pid": pid, "start": start, "end": end}
        for chain in chains
        for position, members in enumerate(chain)
        for pid, start, end in members
    ]
