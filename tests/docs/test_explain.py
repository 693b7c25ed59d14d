# SPDX-License-Identifier: GPL-2.0-only
"""The examples of docs/explain.md are what the program says."""

from __future__ import annotations

import json
import re
from pathlib import Path

import rmapreplay as rr

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "explain.md").read_text()
TRACE = "traces/corpus/forky.parquet"


def _blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", TEXT, re.DOTALL)


def test_what_the_commands_print(cli):
    blocks = [block.split("\n", 1) for block in _blocks("text")]
    assert [command.split()[2] for command, _ in blocks] == ["explain", "inspect"]
    for command, printed in blocks:
        assert cli(*command.split()[2:], cwd=ROOT).stdout == printed


def test_a_visit_as_json(monkeypatch):
    monkeypatch.chdir(ROOT)
    (block,) = _blocks("json")
    told = rr.explain(TRACE, 98, "anon_vma")
    assert json.loads(block) == told.to_dict()["models"]["anon_vma"]["visits"][0]


def test_a_flowchart(monkeypatch):
    monkeypatch.chdir(ROOT)
    (block,) = _blocks("mermaid")
    assert rr.explain(TRACE, 98, "cow").mermaid() + "\n" == block


def test_every_reason_is_told():
    from rmapreplay.analysis.explain.reasons import CODES

    table = TEXT[TEXT.index("| `because` |") : TEXT.index("`nothing` in a VMA of a file")]
    codes = [code for line in table.splitlines()[2:] for code in re.findall(r"`(\w+)`", line[:32])]
    assert sorted(codes) == sorted(CODES)
