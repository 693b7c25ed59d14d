# SPDX-License-Identifier: GPL-2.0-only
"""The anon_vma model against the kernel's own slab allocations in the captured runs."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

import rmapreplay as rr
from rmapreplay.traces.truth import read_truth, truth_path

CORPUS = Path(__file__).parents[2] / "traces" / "corpus"
CAPTURES = ("redis", "nginx", "pymp", "sng_rmap")
OBJECTS = ("vm_area_struct", "anon_vma", "anon_vma_chain")

# What the input of these captures lacks: pymp binds a few mappings with mbind(), a call that was
# not captured; without it VMAs merge that were kept apart.
ALLOWED = {"pymp": {"vm_area_struct": 1}}
ANOMALIES = {"pymp": {"fault_present_mismatch": 1}}


def allocated(trace: Path) -> dict[str, int]:
    allocations = read_truth(truth_path(trace)).allocations.filter(pl.col("action") == "alloc")
    counts = dict(allocations.group_by("object").len().iter_rows())
    return {name: counts[name] for name in OBJECTS}


@pytest.mark.parametrize("name", CAPTURES)
def test_allocations_equal_the_kernels(name: str) -> None:
    path = CORPUS / f"{name}.parquet"
    objects = rr.replay(path, "anon_vma", walks="none").summary["models"]["anon_vma"]["objects"]
    got = {kind: objects[kind]["allocated"] for kind in OBJECTS}
    expected = allocated(path)
    off = {kind: abs(got[kind] - n) for kind, n in expected.items() if got[kind] != n}
    assert off == ALLOWED.get(name, {})


@pytest.mark.parametrize("name", CAPTURES)
def test_no_misses_and_only_known_anomalies(name: str) -> None:
    summary = rr.replay(CORPUS / f"{name}.parquet", ["anon_vma", "cow", "cow-poc"]).summary
    assert summary["anomalies"] == ANOMALIES.get(name, {})
    assert summary["models"]["anon_vma"]["misses"] == 0
    assert summary["models"]["cow"]["misses"] == 0
    assert summary["models"]["cow-poc"]["misses"] > 0
    for model in summary["models"].values():
        assert all(kind["live"] == 0 for kind in model["objects"].values())
