# SPDX-License-Identifier: GPL-2.0-only
"""The anon_vma model against a running kernel: recorded walks, VMA by VMA and in order."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import polars as pl
import pytest

import rmapreplay as rr
from rmapreplay.traces.truth import read_truth, truth_path

CORPUS = Path(__file__).parents[2] / "traces" / "corpus"
DATA = Path(__file__).parents[1] / "data"
PAGE = 4096

# Recorded walks.
RECORDINGS = {
    "scen": 1356,
    "forky": 1280,
    "bash": 3888,
    "merge": 40,
    "python": 45986,
    "rmap": 128,
}


@pytest.mark.parametrize("name", RECORDINGS)
def test_anon_vma_does_what_the_kernel_did(name: str) -> None:
    """Every walk, object, link and VMA list, from the input alone."""
    check = rr.check(CORPUS / f"{name}.parquet")
    walks = RECORDINGS[name]
    assert check.disagreements == []
    assert check.summary["walks"] == {
        "recorded": walks,
        "exact": walks,
        "tie": 0,
        "prefix": 0,
        "wrong": 0,
        "prefix_kernel": 0,
        "prefix_model": 0,
        "not_replayed": 0,
    }
    assert check.summary["objects"]["anon_vma_chain"]["inserts"]["expected"] > 600
    assert check.summary["links"]["moments"] > 1
    assert check.summary["vmas"]["snapshots"] > 1
    assert check.summary["vmas"]["reports"] > 16


@pytest.mark.parametrize("name", RECORDINGS)
def test_only_the_design_as_written_misses(name: str) -> None:
    result = rr.replay(CORPUS / f"{name}.parquet", ["anon_vma", "cow", "cow-poc"])
    models = result.summary["models"]
    assert models["anon_vma"]["misses"] == 0
    assert models["cow"]["misses"] == 0
    assert models["cow-poc"]["misses"] > 0
    assert result.misses.filter(pl.col("model") == "cow-poc").height > 0


def test_recordings_leave_nothing_alive_and_nothing_unexplained() -> None:
    for name in RECORDINGS:
        summary = rr.replay(CORPUS / f"{name}.parquet", ["anon_vma", "cow"]).summary
        # The rmap selftest unmaps a page at address 0, where nothing is.
        assert summary["anomalies"] == ({"munmap_nothing": 1} if name == "rmap" else {})
        for model in summary["models"].values():
            assert all(kind["live"] == 0 for kind in model["objects"].values())


# The pages of interest in `scen` lie at X; scenario 5 moves them to Y.
X, Y, PAGES = 0x700000000000, 0x710000000000, 4


def described_walks(trace: rr.Trace, bursts: pl.DataFrame) -> dict[str, str]:
    """By label: which of the scenario's processes each page's full walk visited, as in
    scen_x_walks.txt: `p0,1: m0+ m1-` for pages 0 and 1 found in the first process (by order of
    fork) and looked for in vain in the second."""
    visits: dict[int, list[tuple[int, int, int, bool]]] = defaultdict(list)
    table = rr.replay(trace, "anon_vma", walks="none", visits=True).visits
    for walk, pid, start, stop, hits in table.select(
        "walk", "pid", "start", "end", "hits"
    ).iter_rows():
        visits[walk].append((pid, start, stop, hits > 0))
    rows = trace.frame()
    walks = rows.filter(pl.col("op") == "walk").with_row_index("walk")
    execs = rows.filter(pl.col("op") == "exec").select("time", "pid").rows()
    forks = rows.filter(pl.col("op") == "fork").select("time", "child").rows()
    described = {}
    for begin, end, label in bursts.select("time", "end_time", "label").iter_rows():
        started, root = max(row for row in execs if row[0] < begin)
        family = [root, *(child for time, child in forks if time > started)]
        pages: dict[str, list[int]] = {}
        full = walks.filter(pl.col("time").is_between(begin, end), pl.col("kind") == "all")
        for walk, addr in full.select("walk", "addr").iter_rows():
            page = next((addr - at for at in (X, Y) if 0 <= addr - at < PAGES * PAGE), None)
            if page is None:
                continue
            seen = " ".join(
                f"m{family.index(pid)}{'+' if found else '-'}"
                + ("" if start <= X + page < stop else f"@{Y + page:x}")
                for pid, start, stop, found in visits[walk]
            )
            pages.setdefault(seen, []).append(page // PAGE)
        described[label] = " | ".join(
            f"p{','.join(map(str, sorted(numbers)))}: {seen}" for seen, numbers in pages.items()
        )
    return described


def test_the_eleven_scenarios() -> None:
    path = CORPUS / "scen.parquet"
    expected = {}
    for line in (DATA / "scen_x_walks.txt").read_text().splitlines():
        # Labels hold spaces and end where two of them begin.
        label, text = line.split("  ", 1) if "  " in line else line.split(" ", 1)
        expected[label.strip()] = text.strip()
    got = described_walks(rr.read_trace(path), read_truth(truth_path(path)).bursts)
    assert len({label.split(":")[0] for label in expected}) == 11
    assert {label: got.get(label) for label in expected} == expected
