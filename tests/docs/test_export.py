# SPDX-License-Identifier: GPL-2.0-only
"""docs/export.md: its queries and programs run on the results of `run --out`, and its figures agree
with the library's."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import duckdb
import pytest

import rmapreplay as rr

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "export.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", TEXT, flags=re.M | re.S)


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("export")
    trace = ROOT / "traces" / "corpus" / "bash.parquet"
    rr.replay(trace, ["anon_vma", "cow"], out=made / "results")
    return made


@pytest.fixture(scope="module")
def summary() -> dict[str, Any]:
    trace = ROOT / "traces" / "corpus" / "bash.parquet"
    return rr.replay(trace, ["anon_vma", "cow"]).summary["models"]


def test_duckdb(directory: Path, summary: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(directory)
    most_in_vain, beside = blocks("sql")
    with duckdb.connect() as connection:
        rows = connection.sql(most_in_vain).fetchall()
        assert len(rows) == 5
        assert all(0 < share < 1 for *_, share in rows)
        ((anon_vma, cow, anon_vma_more, cow_more),) = connection.sql(beside).fetchall()
    assert (anon_vma, cow) == (summary["anon_vma"]["visits"], summary["cow"]["visits"])
    assert anon_vma_more + cow_more > 0


def test_frames(directory: Path, summary: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(directory)
    names: dict[str, Any] = {}
    for program in blocks("python"):
        exec(program, names)
    for model, found in summary.items():
        for cost in ("links", "locks", "refcounts"):
            expected = sum(found["operations"][op]["costs"][cost] for op in ("fork", "dup_mmap"))
            assert names["cost_of_forks"].loc[model, cost] == expected
        assert names["by_sharers"].loc[(model, 1), "visits"] >= 1
    assert [model for model, _ in names["at_most"].iter_rows()] == list(summary)
