# SPDX-License-Identifier: GPL-2.0-only
"""What docs/tutorial.md and docs/run.md say that commands print is what they print."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def console():
    spec = importlib.util.spec_from_file_location("console", DOCS / "console.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_session(console):
    seen = []

    def tell(command, printed, found):
        seen.append(command.split()[:2])
        assert console.matches(printed, found), f"$ {command}\n{found}"
        return printed

    for page in (DOCS / "tutorial.md", DOCS / "run.md"):
        assert console.replayed(page, tell) == page.read_text()
    asked = {command[1] for command in seen if command[0] == "rmapreplay"}
    assert asked >= {"info", "check", "compare", "explain", "run", "scenario", "batch"}


def test_what_was_left_out(console):
    said = "one\n...\nfour\n"
    assert console.matches(said, "one\ntwo\nthree\nfour\n")
    assert console.matches(said, "one\nfour\n")
    assert not console.matches(said, "one\ntwo\nfour\nfive\n")
    assert not console.matches(said, "two\nfour\n")
    assert not console.matches("visits  7\n", "visits  8\n")
    assert console.matches("all\n...\n", "all\nthat\nfollows\n")


def test_columns_may_be_wider(console):
    assert console.matches("visits  7   8\n", "visits     7  8\n")
    assert not console.matches("visits  7  8\n", "visits  78\n")
    assert not console.matches("  visits\n", "    visits\n")


def test_commands_over_several_lines(console):
    text = "$ one \\\n  --two\nout\n\nput\n$ three\n"
    assert list(console.commands(text)) == [("one \\\n  --two", "out\n\nput\n"), ("three", "")]


def test_a_wrong_page_is_set_right(console, tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```scn\n# a.scn: a\nA map x\n```\n\n```console\n$ wc -l a.scn\n3 a.scn\n```\n")
    console.main([page])
    assert page.read_text().endswith("$ wc -l a.scn\n2 a.scn\n```\n")
