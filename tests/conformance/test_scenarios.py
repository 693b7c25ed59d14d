# SPDX-License-Identifier: GPL-2.0-only
"""The library of scenarios: every expectation holds, under every model that it names; and the
eleven of the recording `scen` agree with what the kernel visited there."""

from __future__ import annotations

import re
from collections import defaultdict
from itertools import pairwise
from pathlib import Path

import polars as pl
import pytest

import rmapreplay as rr
from rmapreplay.traces.scenarios import Scenario, library

DATA = Path(__file__).parents[1] / "data"
X, Y, PAGE = 0x700000000000, 0x710000000000, 4096
MODELS = [model["name"] for model in rr.models()]


def models_of(scenario: Scenario) -> list[str]:
    named = {model for one in scenario.expectations for model in one.models}
    return MODELS if "*" in named else sorted(named)


@pytest.mark.parametrize("name", library())
def test_what_is_expected_is_found(name: str) -> None:
    scenario = rr.read_scenario(library()[name])
    assert scenario.expectations
    assert scenario.about.endswith((".", "?"))
    models = models_of(scenario)
    assert {"anon_vma", "cow"} <= set(models)
    summary = rr.replay(scenario.trace(), models, walks="none").summary
    told = summary["expectations"]
    assert told["failed"] == []
    assert told["checked"] >= len(scenario.expectations)
    assert summary["failed"] == {}
    assert summary["anomalies"] == {}


def test_the_library_has_what_was_argued_about() -> None:
    names = set(library())
    assert {f"question_{letter}" for letter in "abcde"} <= names
    assert {f"scen_{number:02}" for number in range(1, 12)} <= names
    assert {"aim7", "fork_chain", "zygote", "mremap_away_and_back"} <= names


def described(name: str) -> dict[str, str]:
    """By label, which is a comment of the scenario: which processes each page's walk visited, as in
    scen_x_walks.txt (tests/conformance/test_recordings.py reads it for the recording)."""
    scenario = rr.read_scenario(library()[name])
    trace = scenario.trace()
    result = rr.replay(trace, "anon_vma", walks="none", visits=True)
    visits: dict[int, list[str]] = defaultdict(list)
    pids = [100, *trace.frame().filter(pl.col("op") == "fork")["child"].to_list()]
    walks = {walk: (seq, folio) for walk, seq, folio in result.walks["walk", "seq", "folio"].rows()}
    for walk, pid, start, end, hits in result.visits["walk", "pid", "start", "end", "hits"].rows():
        address = (walks[walk][1] & (1 << 36) - 1) * PAGE
        page = (address - (Y if address >= Y else X)) // PAGE
        at = "" if start <= X + page * PAGE < end else f"@{Y + page * PAGE:x}"
        visits[walk].append(f"m{pids.index(pid)}{'+' if hits else '-'}{at}")
    lines = scenario.text.splitlines()
    marks = [number for number, line in enumerate(lines, 1) if re.match(r"# s\d+:", line)]
    found = {}
    for begin, end in pairwise([*marks, len(lines) + 1]):
        pages: dict[str, list[int]] = {}
        for step in scenario.steps:
            if step.columns["op"] == "walk" and begin < step.line < end:
                for row in range(step.row, step.row + step.rows):
                    [walk] = [walk for walk, (seq, _) in walks.items() if seq == row]
                    page = walks[walk][1] & 0xFFFFFFF
                    pages.setdefault(" ".join(visits[walk]), []).append(page)
        found[lines[begin - 1][2:]] = " | ".join(
            f"p{','.join(map(str, numbers))}: {seen}" for seen, numbers in pages.items()
        )
    return found


def of_pages(text: str) -> list[tuple[str, str]]:
    """`p0,1: m0+ | p2: m1+`, as a page and what its walk visited, in no order: the kernel's walks
    came in the order of its pagemaps."""
    seen = []
    for part in text.split(" | "):
        numbers, _, visited = part[1:].partition(": ")
        seen += [(number, visited) for number in numbers.split(",")]
    return sorted(seen)


def test_the_eleven_agree_with_the_kernel() -> None:
    expected = {}
    for line in (DATA / "scen_x_walks.txt").read_text().splitlines():
        label, text = line.split("  ", 1)
        expected[label.strip()] = text.strip()
    got = {}
    for number in range(1, 12):
        got.update(described(f"scen_{number:02}"))
    assert len(expected) == 27
    assert {label: of_pages(text) for label, text in got.items()} == {
        label: of_pages(text) for label, text in expected.items()
    }
