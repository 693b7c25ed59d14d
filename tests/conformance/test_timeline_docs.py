# SPDX-License-Identifier: GPL-2.0-only
"""docs/timeline.md: its columns are those of the tables, and its recipes run, the two forms of each
with one answer."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest

import rmapreplay as rr
from rmapreplay.replay.timeline import TABLES

ROOT = Path(__file__).resolve().parents[2]
TEXT = (ROOT / "docs" / "timeline.md").read_text()
TRACE = ROOT / "traces" / "corpus" / "bash.parquet"


def sections(marks: str) -> dict[str, str]:
    parts = re.split(rf"^{marks} (.+)\n", TEXT, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.M | re.S)


RECIPES = {title: text for title, text in sections("###").items() if "```sql" in text}


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("recipes")
    rr.timeline(TRACE, "anon_vma", out=made / "history")
    rr.timeline(TRACE, "cow", out=made / "history-cow")
    return made


def test_every_block_is_run() -> None:
    assert len(RECIPES) >= 6
    assert all(len(blocks(text, "sql")) == 1 for text in RECIPES.values())
    assert all(len(blocks(text, "python")) == 1 for text in RECIPES.values())
    # Beside: how a timeline is made, and how the recipes open theirs.
    assert len(blocks(TEXT, "python")) == len(RECIPES) + 2


def test_how_it_is_made(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(directory)
    Path("trace.parquet").symlink_to(TRACE)
    names: dict[str, Any] = {}
    exec(blocks(TEXT, "python")[0], names)
    assert names["history"].metadata["events"] == rr.read_trace(TRACE).rows


@pytest.mark.parametrize("title", RECIPES)
def test_recipe(title: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(directory)
    names: dict[str, Any] = {}
    exec(blocks(sections("##")["Recipes"], "python")[0], names)
    exec(blocks(RECIPES[title], "python")[0], names)
    answer = names["answer"]
    assert isinstance(answer, pl.DataFrame)
    assert not answer.is_empty()
    with duckdb.connect() as connection:
        asked = connection.sql(blocks(RECIPES[title], "sql")[0])
        columns, rows = asked.columns, asked.fetchall()
    assert rows
    found = answer.select(columns).rows()
    assert len(found) == len(rows)
    for ours, theirs in zip(found, rows, strict=True):
        assert ours == pytest.approx(theirs)


@pytest.mark.parametrize("table", TABLES)
def test_every_column_is_described(table: str, directory: Path) -> None:
    described = [
        name
        for row in re.findall(r"^\| (`.*?) \|", sections("###")[table], flags=re.M)
        for name in re.findall(r"`(\w+)`", row)
    ]
    columns = rr.read_timeline(directory / "history").table(table).collect_schema().names()
    if table == "walks":  # the rest is as in another table
        described += re.findall(r"`(\w+)`", sections("###")["walks"].partition("| column")[0])
        described.remove("run")
    assert len(described) == len(set(described))
    assert set(described) == set(columns)
