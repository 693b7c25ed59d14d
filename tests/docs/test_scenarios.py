# SPDX-License-Identifier: GPL-2.0-only
"""docs/scenarios.md: its example holds, and it has every word and every scenario there is."""

from __future__ import annotations

import re
from pathlib import Path

import rmapreplay as rr
from rmapreplay.traces.scenarios import library, parse
from rmapreplay.traces.scenarios.calls import FORKS, VERBS
from rmapreplay.traces.scenarios.words import DIRECTIVES

TEXT = (Path(__file__).parents[2] / "docs" / "scenarios.md").read_text()
GRAMMAR = TEXT.partition("## The grammar")[2]


def test_the_example_holds() -> None:
    example = re.search(r"```\n(# A child.*?)```", TEXT, re.DOTALL)
    assert example
    summary = rr.replay(parse(example[1]).trace(), ["anon_vma", "cow"]).summary
    assert summary["expectations"] == {"checked": 5, "failed": []}


def test_every_word_is_there() -> None:
    for verb in (*VERBS, *FORKS):
        assert f"`A {verb}" in TEXT
        assert f'"{verb}"' in GRAMMAR
    for word in DIRECTIVES:
        assert f"`{word}" in TEXT
        assert f'"{word}"' in GRAMMAR


def test_every_scenario_is_there() -> None:
    table = TEXT.partition("## The library")[2].partition("##")[0]
    named = set(re.findall(r"`(\w+)`", table))
    series = ("question_", "scen_")  # told by the first and the last
    assert {"question_a", "question_e", "scen_01", "scen_11"} <= named
    assert {name for name in library() if not name.startswith(series)} <= named
