# SPDX-License-Identifier: GPL-2.0-only
"""The frame models against the native ones, walk by walk and visit by visit, in order.

By default over the bundled traces that take a second or two; RMAPREPLAY_ALL_TRACES=1 (`make
frames-equal`) takes all of them, which needs minutes and a few GB.
"""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest

import rmapreplay as rr
from rmapreplay.replay.frames import slices
from rmapreplay.rmap_models.frames import NAMES, frame_model, page_walk
from rmapreplay.rmap_models.frames.tables import WALK_INPUT

CORPUS = Path(__file__).parents[2] / "traces" / "corpus"
RECORDED = Path(__file__).parents[1] / "data" / "kernel-truth"
TRACES = sorted(
    path
    for path in (
        *CORPUS.glob("*.parquet"),
        *CORPUS.glob("captured/*.parquet"),
        *RECORDED.glob("*/*.parquet"),
    )
    if not path.name.endswith(".truth.parquet")
)
SHORT = {
    *("corpus/bash", "corpus/forky", "corpus/merge", "corpus/nginx", "corpus/rmap", "corpus/scen"),
    *("corpus/python", "corpus/sng_rmap", "captured/stress_mremap"),
    *("7.3.4/fork_chain", "6.12.107/mremap_storm", "7.3.4/mthp", "6.12.107/thp", "7.3.4/swap"),
}
CHOSEN = [
    path
    for path in TRACES
    if f"{path.parent.name}/{path.stem}" in SHORT or os.environ.get("RMAPREPLAY_ALL_TRACES")
]

NOT_DERIVED = {
    "anon_vma": {"levels", "steps", "tree_nodes"},
    "cow": {"levels", "steps", "remap_entries"},
}
"""Of the columns of walks; they are null."""


def assert_equal(trace: Path, model: str, walks: str) -> int:
    """Returns how many visits there were."""
    native = rr.replay(trace, model, walks=walks, visits=True)
    frames = rr.replay(trace, model, walks=walks, visits=True, backend="frames")
    null = NOT_DERIVED[model.partition(":")[0]]
    for name in null:
        assert frames.walks[name].null_count() == frames.walks.height
    of_mm = {"pid", "mapping", "fork_depth"}
    for table, without in (("walks", null | of_mm), ("visits", {"pid"}), ("misses", {"pid"})):
        expected = getattr(native, table).drop(without)
        found = getattr(frames, table)
        assert found.columns == getattr(native, table).columns
        assert found.drop(without).equals(expected), _difference(found, expected)
    ours, theirs = (result.summary["models"][model] for result in (frames, native))
    for name, values in theirs["walk"].items():
        expected = values if name not in null else dict.fromkeys(values)
        assert ours["walk"][name] == expected
    for key in ("walks", "visits", "hits", "useless", "misses", "objects", "operations"):
        assert ours[key] == theirs[key]
    assert frames.memory.equals(native.memory)
    assert frames.operations.equals(native.operations)
    return native.visits.height


def _difference(found: pl.DataFrame, expected: pl.DataFrame) -> str:
    """The first rows that one has and the other has not."""
    found = found.select(expected.columns)
    return "\n".join(
        f"{whose} alone: {rows.join(others, on=rows.columns, nulls_equal=True, how='anti').head(5)}"
        for whose, rows, others in (("frames", found, expected), ("native", expected, found))
    )


@pytest.mark.parametrize("model", NAMES)
@pytest.mark.parametrize("trace", CHOSEN, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_bundled_traces(trace: Path, model: str) -> None:
    assert assert_equal(trace, model, "scan:16") > 0


@pytest.mark.parametrize("model", NAMES)
@pytest.mark.parametrize(
    "walks",
    [
        "every:97",
        "every:300,kind=all",
        "sample:500@7,kind=unmap",
        "end,kind=all",
        "scan:3,kind=unmap",
        "reclaim:3,kind=migrate",
    ],
)
def test_when_walks_happen_and_why(walks: str, model: str) -> None:
    assert assert_equal(CORPUS / "bash.parquet", model, walks) > 0


@pytest.mark.parametrize("model", NAMES)
@pytest.mark.parametrize("name", ["scen", "python"])
def test_walks_that_were_recorded(name: str, model: str) -> None:
    """Nearly as many moments as walks."""
    assert assert_equal(CORPUS / f"{name}.parquet", model, "none") > 1000


@pytest.mark.parametrize("model", NAMES)
@pytest.mark.parametrize("kernel", ["6.12", "6.18", "7.3"])
@pytest.mark.parametrize("name", ["scen", "merge", "captured/apache_prefork"])
def test_rules_of_other_kernels(name: str, kernel: str, model: str) -> None:
    assert assert_equal(CORPUS / f"{name}.parquet", f"{model}:kernel={kernel}", "scan:8") > 0


@pytest.mark.parametrize("model", NAMES)
def test_nothing_of_the_native_answer_is_read(model: str) -> None:
    timeline = rr.timeline(CORPUS / "bash.parquet", model)
    (whole,) = slices(timeline)
    frames = frame_model(model)
    found, visited = frames.walks(whole).collect(), frames.visits(whole).collect()
    assert found.height
    answers = set(whole.walks.collect_schema().names()) - {*WALK_INPUT}
    assert {"visits", "hits", "useless", "misses", "stopped"} <= answers
    whole.walks = whole.walks.drop(answers)
    if model == "cow":
        # Nor of what else the native model says of itself.
        whole.walks = whole.walks.with_columns(home=pl.lit(0, pl.UInt32))
        whole.folios = whole.folios.with_columns(home=pl.lit(0, pl.UInt32))
        whole.link_spans = whole.link_spans.clear()
    assert frames.walks(whole).collect().equals(found)
    assert frames.visits(whole).collect().equals(visited)


@pytest.mark.parametrize("model", NAMES)
def test_slices_add_up(model: str) -> None:
    timeline = rr.timeline(CORPUS / "bash.parquet", model)
    frames = frame_model(model)
    (whole,) = slices(timeline)
    parts = list(slices(timeline, 1000))
    assert len(parts) > 2
    for ask in (frames.walks, frames.visits):
        together = pl.concat([ask(part).collect() for part in parts])
        assert together.equals(ask(whole).collect())


@pytest.mark.parametrize("model", NAMES)
def test_misses_are_those_that_were_not_offered(model: str) -> None:
    """Of a timeline that has lost a VMA, whatever the native model found."""
    timeline = rr.timeline(CORPUS / "bash.parquet", model, walks="scan:4,kind=all")
    (whole,) = slices(timeline)
    frames = frame_model(model)
    most = frames.visits(whole).filter(pl.col("hits") > 0).collect()
    vma = most.group_by("mm", "start").len().sort("len", "mm", "start").row(-1, named=True)
    lost = (pl.col("mm") == vma["mm"]) & (pl.col("start") == vma["start"])
    ours = most.filter(lost)
    spans = whole.vma_spans.filter(lost).select("vma").unique()
    whole.vma_spans = whole.vma_spans.join(spans, on="vma", how="anti")
    whole.link_spans = whole.link_spans.join(spans, on="vma", how="anti")
    walks = frames.walks(whole).collect()
    missed = page_walk.misses(walks.lazy(), frames.visits(whole), whole).collect()
    assert walks["misses"].sum() == missed.height > 0
    assert set(ours["walk"]) <= set(missed["walk"])
    assert missed["mm"].unique().to_list() == [vma["mm"]]
