# SPDX-License-Identifier: GPL-2.0-only
"""A scenario exported as a program, run on this kernel and captured, is the scenario again."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import rmapreplay as rr
from rmapreplay.traces.reader import read_trace
from rmapreplay.traces.scenarios import library, read_scenario, to_c
from rmapreplay.traces.scenarios.words import FIRST_PLACE

END_OF_PLACES = 0x780000000000
MODELS = ["anon_vma", "cow"]
OWN_PAGES = (1 << 36) - 1  # of the column `folio`


def walks_at_places(trace: Any) -> list[tuple[Any, ...]]:
    """What walks find, at the end of a trace, of each page at the scenario's places."""
    walks = rr.replay(trace, MODELS, walks="end,kind=all").walks
    page = pl.col("folio") & OWN_PAGES
    found = walks.filter(page.is_between(FIRST_PLACE >> 12, END_OF_PLACES >> 12))
    columns = [pl.col("model").cast(pl.String), page.alias("page")]
    return sorted(found.select(*columns, "visits", "hits", "useless", "mapcount").rows())


@pytest.mark.parametrize(
    "name",
    ["question_a", "question_b", "scen_04", "scen_05", "fork_chain", "mremap_away_and_back"],
)
def test_captured_it_is_the_same(capture: Any, tmp_path: Path, name: str) -> None:
    scenario = read_scenario(library()[name])
    program = tmp_path / "program"
    build = ["cc", "-std=c11", "-Wall", "-Werror", "-x", "c", "-", "-o", str(program)]
    subprocess.run(build, input=to_c(scenario), text=True, check=True)
    done = capture(program)
    assert done.returncode == 0, done.stderr

    captured = read_trace(tmp_path / "x.parquet")
    rows = captured.frame()
    # After the scenario's own exits come those of the processes that it leaves, one by one.
    exits = sum(step.columns["op"] == "exit" for step in scenario.steps)
    end = rows.with_row_index().filter(pl.col("op") == "exit")["index"][exits]
    there = walks_at_places(rr.read_trace(rows[:end], captured.metadata))
    # Without its own walks: those at the end are what is compared.
    steps = scenario.trace().frame().filter(pl.col("op") != "walk")
    here = walks_at_places(rr.read_trace(steps, {"kernel": captured.metadata["kernel"]}))
    assert len(here) >= len(MODELS)
    assert there == here
