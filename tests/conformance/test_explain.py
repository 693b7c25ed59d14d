# SPDX-License-Identifier: GPL-2.0-only
"""explain tells the walks of bundled traces as the tables of a replay have them."""

from __future__ import annotations

import random
from pathlib import Path

import polars as pl
import pytest

import rmapreplay as rr

CORPUS = Path(__file__).parents[2] / "traces" / "corpus"
MODELS = [model["name"] for model in rr.models()]
WALKS = "scan:4"


def _some(walks: pl.DataFrame) -> list[int]:
    """Of each sort that explain tells in its own way a few, and some others."""
    sorts = (
        pl.col("misses") > 0,
        pl.col("useless_empty") > 0,
        pl.col("useless_other") > 0,
        pl.col("order") > 0,
        ~pl.col("stopped"),
        pl.col("visits") == pl.col("visits").max(),
    )
    chosen = set(random.Random(6).sample(walks["walk"].to_list(), 3))
    for sort in sorts:
        chosen.update(walks.filter(sort)["walk"].head(1))
    return sorted(chosen)


@pytest.mark.parametrize("name", ["forky", "rmap", "scen", "bash"])
@pytest.mark.parametrize("model", MODELS)
def test_equals_the_tables(name, model):
    path = CORPUS / f"{name}.parquet"
    result = rr.replay(path, [model], walks=WALKS, visits=True)
    table = {row["walk"]: row for row in result.walks.iter_rows(named=True)}
    missed = result.misses
    for number in _some(result.walks):
        explanation = rr.explain(path, number, model, walks=WALKS)
        story = explanation.stories[0]
        row = table[number]
        for column in ("walk", "seq", "kind", "visits", "hits", "misses", "levels", "stopped"):
            assert story.walk[column] == row[column], column
        for column in ("folio", "order", "mapcount", "pid", "mapping", "fork_depth"):
            assert story.folio[column] == row[column], column
        visits = result.visits.filter(pl.col("walk") == number)
        assert [
            (v.visit, v.mm.mm, v.mm.pid, v.vma.start, v.vma.end, v.vma.index, v.hits)
            for v in story.visits
        ] == visits.select("visit", "mm", "pid", "start", "end", "index", "hits").rows()
        results = [visit.result for visit in story.visits]
        assert results.count("empty") == row["useless_empty"]
        assert results.count("other") == row["useless_other"]
        assert all(bool(v.reason) == (v.result != "hit") for v in story.visits)
        # Every step is some visit's, or came after the last.
        for counter, total in story.walk["counters"].items():
            parts = [visit.spent[counter] for visit in story.visits]
            assert min(parts, default=0) >= 0
            assert sum(parts) + story.end["spent"][counter] == total
            if counter in row:
                assert total == row[counter]
        assert sum(visit.levels for visit in story.visits) == row["levels"]
        assert [(m["mm"], m["pid"], m["addr"]) for m in story.missed] == missed.filter(
            pl.col("walk") == number
        ).select("mm", "pid", "addr").rows()
        mapped = [addr for process in story.processes for addr in process.addresses]
        assert len(mapped) == row["mapcount"]
        assert sum(process.found for process in story.processes) == sum(visits["hits"])
        shown = {process.mm.mm for process in story.processes}
        assert {visit.mm.mm for visit in story.visits} <= shown
