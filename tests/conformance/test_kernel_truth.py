# SPDX-License-Identifier: GPL-2.0-only
"""The anon_vma model against Linux 7.3 and 6.12, in recordings that tests/kernel made of workloads
that each do one kind of thing."""

from __future__ import annotations

from pathlib import Path

import pytest

import rmapreplay as rr

DATA = Path(__file__).parents[1] / "data" / "kernel-truth"
TRACES = sorted(path for path in DATA.glob("*/*.parquet") if ".truth." not in path.name)


@pytest.mark.parametrize("path", TRACES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_anon_vma_does_what_the_kernel_did(path: Path) -> None:
    """Every walk, object, link and VMA list, from the input alone."""
    check = rr.check(path)
    assert check.disagreements == []
    summary = check.summary
    assert summary["kernel"] == ".".join(path.parent.name.split(".")[:2])
    walks = summary["walks"]
    assert walks["recorded"] == walks["exact"] + walks["prefix_kernel"] > 100
    assert walks["prefix_kernel"] <= walks["recorded"] // 10
    assert summary["links"]["moments"] > 1
    assert summary["vmas"]["snapshots"] > 1


def test_both_kernels_ran_the_same_workloads() -> None:
    of: dict[str, set[str]] = {}
    for path in TRACES:
        of.setdefault(path.parent.name, set()).add(path.stem)
    names, *others = of.values()
    assert len(others) == 1
    assert names == others[0]
    assert len(names) >= 12


@pytest.mark.parametrize("path", TRACES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_the_design_as_intended_misses_nothing(path: Path) -> None:
    models = rr.replay(path, ["anon_vma", "cow"]).summary["models"]
    assert models["anon_vma"]["misses"] == 0
    assert models["cow"]["misses"] == 0
    for model in models.values():
        assert all(kind["live"] == 0 for kind in model["objects"].values())


def test_recordings_are_small() -> None:
    assert sum(file.stat().st_size for file in DATA.glob("*/*.parquet")) < 8 << 20
