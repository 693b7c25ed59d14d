# SPDX-License-Identifier: GPL-2.0-only
"""rr.check: differences in objects and links, and what does not count as one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import polars as pl
import pytest

import rmapreplay as rr
from rmapreplay.replay.check.answers import Answers
from rmapreplay.replay.check.objects import _in_flight
from rmapreplay.traces.truth import read_truth

CORPUS = Path(__file__).parents[2] / "traces" / "corpus"

Doctor = Callable[[str, Callable[[pl.DataFrame], pl.DataFrame]], Path]


def test_a_lost_link_shows_in_counts_and_moments(doctored: Doctor) -> None:
    lost: list[Any] = []

    def lose(truth: pl.DataFrame) -> pl.DataFrame:
        chains = truth.filter(pl.col("object") == "anon_vma_chain", pl.col("action") == "insert")
        lost.append(chains.row(400, named=True))
        here = (pl.col("object") == "anon_vma_chain") & (pl.col("id") == lost[0]["id"])
        return truth.filter(~here.fill_null(False))

    trace = doctored("forky", lose)
    summary = rr.check(trace).summary
    chains = summary["objects"]["anon_vma_chain"]
    assert chains["got"] == chains["expected"] + 1
    assert chains["inserts"]["got"] == chains["inserts"]["expected"] + 1
    assert chains["removes"]["got"] == chains["removes"]["expected"] + 1
    assert summary["links"]["equal"] < summary["links"]["moments"]
    # It is the fork that made it that is named, or the part of its copy.
    first = summary["first_disagreement"]
    assert first["what"] == "counts"
    assert first["event"]["op"] in ("dup_mmap", "fork")
    rows = rr.read_trace(trace).frame().slice(first["row"])
    forks = rows.filter(pl.col("op") == "fork", pl.col("tid") == first["event"]["tid"])
    assert forks["child"][0] == lost[0]["pid"]


def test_links_that_lead_elsewhere(doctored: Doctor) -> None:
    """All counts are right, but one link leads to another anon_vma."""
    moved: list[Any] = []

    def lead_astray(truth: pl.DataFrame) -> pl.DataFrame:
        chains = truth.filter(pl.col("object") == "anon_vma_chain", pl.col("action") == "insert")
        moved.append(chains.row(400, named=True))
        other = chains.filter(pl.col("anon_vma") != moved[0]["anon_vma"])["anon_vma"][0]
        here = (pl.col("object") == "anon_vma_chain") & (pl.col("id") == moved[0]["id"])
        return truth.with_columns(anon_vma=pl.when(here).then(other).otherwise("anon_vma"))

    check = rr.check(doctored("forky", lead_astray))
    first = check.summary["first_disagreement"]
    assert {found.what for found in check.disagreements} == {"links"}
    assert first["category"] == "members of the anon_vmas"
    assert first["expected"] != first["got"]


def test_lists_in_another_order(doctored: Doctor) -> None:
    """A VMA's list shows in the order in which its links were made."""

    def swap(truth: pl.DataFrame) -> pl.DataFrame:
        chains = truth.filter(pl.col("object") == "anon_vma_chain", pl.col("action") == "alloc")
        vma = chains.group_by("vma", maintain_order=True).len().filter(pl.col("len") > 2)["vma"][0]
        first, second = chains.filter(pl.col("vma") == vma)["id"].head(2)
        here = pl.col("object") == "anon_vma_chain"
        swapped = pl.col("id").replace({first: second, second: first})
        anon_vmas = chains.filter(pl.col("vma") == vma)["anon_vma"].head(2)
        turned = pl.col("anon_vma").replace(dict(zip(anon_vmas, reversed(anon_vmas), strict=True)))
        both = here & (pl.col("vma") == vma)
        return truth.with_columns(
            id=pl.when(both).then(swapped).otherwise("id"),
            anon_vma=pl.when(both).then(turned).otherwise("anon_vma"),
        )

    check = rr.check(doctored("forky", swap))
    assert {found.what for found in check.disagreements} == {"links"}
    assert {found.category for found in check.disagreements} == {"order of the list"}


def test_a_lost_allocation_names_the_task_and_the_site(doctored: Doctor) -> None:
    lost: list[Any] = []

    def lose(truth: pl.DataFrame) -> pl.DataFrame:
        clones = truth.filter(pl.col("site") == "anon_vma_clone")
        lost.append(clones.row(200, named=True))
        here = (pl.col("object") == "anon_vma_chain") & (pl.col("id") == lost[0]["id"])
        return truth.filter(~here)

    check = rr.check(doctored("nginx", lose))
    chains = check.summary["objects"]["anon_vma_chain"]
    assert (chains["expected"], chains["got"]) == (736, 737)
    assert chains["freed"] == {"expected": 736, "got": 737}
    assert chains["sites"]["anon_vma_clone"] == {"expected": 364, "got": 365}
    assert chains["sites"]["anon_vma_fork"] == {"expected": 236, "got": 236}
    first = check.summary["first_disagreement"]
    assert first["what"] == "counts"
    assert first["event"]["tid"] == lost[0]["tid"]
    assert abs(first["event"]["time"] - lost[0]["time"]) < 1_000_000
    assert "anon_vma_chain: allocated by anon_vma_clone()" in [
        found.text for found in check.disagreements
    ]


def test_objects_of_address_spaces_never_used_do_not_count(doctored: Doctor) -> None:
    def fail_an_exec(truth: pl.DataFrame) -> pl.DataFrame:
        made = truth.filter(pl.col("object") == "vm_area_struct", pl.col("action") == "alloc")
        ghost = made.head(1).with_columns(id=pl.lit(99999, pl.UInt32), pid=pl.lit(None, pl.Int32))
        gone = ghost.with_columns(action=pl.lit("free"))
        return pl.concat([truth, ghost, gone])

    assert rr.check(doctored("forky", fail_an_exec)).exact


def test_an_anon_vma_that_ksm_keeps_has_ended(doctored: Doctor) -> None:
    """The last free of a root is not in the recording; the model has no reason to keep it."""

    def keep(truth: pl.DataFrame) -> pl.DataFrame:
        anon_vmas = truth.filter(pl.col("object") == "anon_vma", pl.col("action") == "alloc")
        root = anon_vmas.filter(pl.col("id") == pl.col("root"))["id"][-1]
        here = (pl.col("object") == "anon_vma") & (pl.col("id") == root)
        return truth.filter(~(here & (pl.col("action") == "free")).fill_null(False))

    assert rr.check(doctored("forky", keep)).exact

    def keep_link_too(truth: pl.DataFrame) -> pl.DataFrame:
        kept = keep(truth)
        chains = kept.filter(pl.col("object") == "anon_vma_chain", pl.col("action") == "remove")
        roots = truth.filter(pl.col("object") == "anon_vma", pl.col("action") == "alloc")
        root = roots.filter(pl.col("id") == pl.col("root"))["id"][-1]
        link = chains.filter(pl.col("anon_vma") == root)["id"][-1]
        here = (pl.col("object") == "anon_vma_chain") & (pl.col("id") == link)
        ends = pl.col("action").is_in(["remove", "free"])
        return kept.filter(~(here & ends).fill_null(False))

    live = rr.check(doctored("forky", keep_link_too)).summary["moments"][-1]["live"]
    assert live["anon_vma"] == {"expected": 1, "got": 0}
    assert live["anon_vma_chain"] == {"expected": 1, "got": 0}


def test_a_spared_anon_vma_had_a_link_allocated_with_it() -> None:
    trace = rr.read_trace(CORPUS / "scen.parquet")
    answers = Answers(trace, read_truth(CORPUS / "scen.parquet"))
    objects = answers.truth.objects.filter(pl.col("action") == "alloc")
    spared = objects.filter(pl.col("object") == "anon_vma", pl.col("root").is_null())
    assert spared.height > 0
    chains = answers.lives.filter(pl.col("object") == "anon_vma_chain")
    seen = objects.filter(pl.col("object") == "anon_vma_chain")
    assert chains.filter(pl.col("change") == 1).height == seen.height + spared.height
    assert chains["change"].sum() == 0
    assert set(spared["time"]) <= set(chains.filter(pl.col("change") == 1)["time"])


def test_a_peak_that_nothing_in_flight_explains(doctored: Doctor) -> None:
    """A hundred VMAs more, there and gone at one time: none of them is still to come."""

    def add(truth: pl.DataFrame) -> pl.DataFrame:
        allocs = truth.with_row_index("at").filter(
            pl.col("object") == "vm_area_struct", pl.col("action") == "alloc"
        )
        at = int(allocs["at"][-1])
        alloc = truth[at : at + 1]
        more = pl.concat([alloc] * 100 + [alloc.with_columns(action=pl.lit("free"))] * 100)
        return pl.concat([truth[: at + 1], more, truth[at + 1 :]])

    summary = rr.check(doctored("forky", add)).summary
    peak = summary["objects"]["vm_area_struct"]["peak"]
    assert peak["expected"] - peak["got"] > peak["in_flight"]
    assert not summary["exact"]


@pytest.mark.parametrize(
    ("first", "second", "changes", "expected"),
    [
        ("fault", "fault", [20, 40], 2),  # some by that time, some after
        ("fault", "fault", [20, 25], 0),  # done
        ("fault", "fault", [35, 40], 0),  # not begun
        ("munmap", "fault", [35, 40], 2),  # begun where its row stands
        ("munmap", "fault", [20, 25], 0),
        ("munmap", "fault", [35, 60], 1),  # what comes after the second row is not of the first
        ("fault", "mmap", [20, 25], 2),  # not ended before its row
        ("fault", "exit_mmap", [20, 25], 2),
        ("fault", "mmap", [5, 25], 1),
        ("fault", "mmap", [35, 40], 0),
    ],
)
def test_what_is_in_flight(first: str, second: str, changes: list[int], expected: int) -> None:
    """Of a task with rows at 10 and 50, at 30."""
    rows = pl.DataFrame({"time": [10, 50], "tid": [7, 7], "op": [first, second]})
    answers: Any = SimpleNamespace(rows=rows, objects=pl.DataFrame())
    theirs = pl.DataFrame({"time": changes, "task": 7, "change": 1})
    assert _in_flight(theirs, answers, 30) == expected
