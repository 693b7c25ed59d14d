# SPDX-License-Identifier: GPL-2.0-only
"""The bundled captures: replays say what their cards say, and VMAs are the kernel's."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import rmapreplay as rr

CAPTURED = Path(__file__).parents[2] / "traces" / "corpus" / "captured"
NAMES = sorted(path.stem for path in CAPTURED.glob("*.json"))


def test_there_are_some() -> None:
    assert len(NAMES) >= 8


@pytest.mark.parametrize("name", NAMES)
def test_the_card_is_right(name: str) -> None:
    card = json.loads((CAPTURED / f"{name}.json").read_text())
    trace = rr.read_trace(CAPTURED / f"{name}.parquet")
    assert card["events"] == trace.rows
    assert card["lost"] == trace.metadata["lost"] == 0
    assert card["unmatched"] == {"enters": 0, "exits": 0}
    summary = rr.replay(trace, ["anon_vma", "cow"]).summary
    assert summary["anomalies"] == card["anomalies"]
    for label, model in summary["models"].items():
        assert model["misses"] == card["misses"][label] == 0
        assert model["walks"] > 0
        assert all(kind["live"] == 0 for kind in model["objects"].values())


@pytest.mark.parametrize("name", NAMES)
def test_vmas_are_those_that_the_kernel_reported(name: str) -> None:
    vmas = rr.check(CAPTURED / f"{name}.parquet").summary["vmas"]
    assert vmas["reports"] > 0
    assert vmas["reports_equal"] == vmas["reports"]
