# SPDX-License-Identifier: GPL-2.0-only
"""The examples of docs/check-model.md run as they stand, and its tables are of what there is."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import rmapreplay as rr
from rmapreplay.testing import check_model, conformance_cases
from rmapreplay.testing.examine import RULES

TEXT = (Path(__file__).parents[2] / "docs" / "check-model.md").read_text()
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


def test_the_examples_run(tmp_path, cli):
    (code,) = (code for language, code in BLOCKS if language == "python")
    (commands,) = (code for language, code in BLOCKS if language == "console")
    name = re.match(r"# (\w+\.py)\n", code)
    assert name
    (tmp_path / name[1]).write_text(code)
    for command in commands.splitlines():
        program, *arguments = shlex.split(command)
        if program == "rmapreplay":
            done = cli(*arguments, cwd=tmp_path)
        else:
            assert program == "python"
            done = subprocess.run(
                [sys.executable, *arguments], cwd=tmp_path, capture_output=True, text=True,
                check=False,
            )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(conformance_cases()) + 1} passed" in done.stdout


def test_the_report_is_as_shown(tmp_path):
    report = check_model("cow-poc", only=["hole_6"], out=tmp_path / "check-model-failures")
    text = str(report).replace(f"{tmp_path}/", "")
    shown = next(code for _, code in BLOCKS if code.startswith("FAILED"))
    before, _, after = shown.partition("      ...\n")
    assert before in text
    assert text.endswith(after.rstrip())
    listing = (tmp_path / "check-model-failures" / "hole_6_a_part_is_moved.txt").read_text()
    expected = next(code for _, code in BLOCKS if code.startswith("   0 101 exec"))
    assert [line.rstrip() for line in listing.splitlines()[1:]] == expected.splitlines()


def test_the_rules_are_described():
    described = set(re.findall(r"^\| `(\w+)` \|", TEXT, re.MULTILINE))
    assert described >= {
        *RULES,
        *(model["name"] for model in rr.models() if "-" not in model["name"]),
    }


def test_the_table_is_of_the_models_and_scenarios_there_are():
    table = TEXT.partition("<!-- table -->\n")[2].partition("<!-- end")[0].splitlines()
    groups = [cell.strip() for cell in table[0].split("|")[2:-3]]
    sizes: dict[str, int] = {}
    for name in [*(case.name for case in conformance_cases()), "random", "determinism"]:
        group = name.partition("_")[0]
        sizes[group] = sizes.get(group, 0) + 1
    sizes_of_all = [str(sizes[group]) for group in groups if group]
    rows = {row.split("`")[1]: row for row in table[2:]}
    assert set(rows) == {model["name"] for model in rr.models()}
    for model, row in rows.items():
        failed, made = zip(*re.findall(r"(\d+) of (\d+)", row), strict=True)
        assert list(made)[: len(sizes_of_all)] == sizes_of_all
        assert len(made) == len(sizes)
        assert (set(failed) == {"0"}) == (model != "cow-poc") == row.endswith("passes |")
