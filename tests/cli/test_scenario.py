# SPDX-License-Identifier: GPL-2.0-only
"""rmapreplay scenario, and scenarios wherever a trace is taken."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

TEXT = """# A child maps something new over what it shared.
A map x 4
A write x 4
A fork B
A fork C
B unmap x
B map x
B write x
walk A x
expect anon_vma visits 2
expect cow visits 3
expect cow useless {useless}
"""


@pytest.fixture
def scenario(tmp_path: Path) -> Path:
    path = tmp_path / "a.scn"
    path.write_text(TEXT.format(useless=1))
    return path


def test_run_says_that_expectations_hold(cli, scenario):
    done = cli("run", scenario, "-m", "anon_vma", "-m", "cow")
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.splitlines()[-1] == "3 of 3 expectations hold"


def test_an_expectation_that_does_not_hold_is_a_line_and_exit_code_1(cli, scenario):
    scenario.write_text(TEXT.format(useless=0))
    out = scenario.with_name("out")
    done = cli("run", scenario, "-m", "anon_vma", "-m", "cow",
               "--out", out, "--format", "json")  # fmt: skip
    assert done.returncode == 1
    line = f"{scenario}:12: expected cow useless 0, found 1"
    assert done.stderr == f"{line}\n"
    told = {"checked": 3, "failed": [line]}
    assert json.loads(done.stdout)["expectations"] == told
    assert json.loads((out / "summary.json").read_text())["expectations"] == told
    assert not (out / "visits.parquet").exists()


def test_an_error_in_the_text_is_one_line(cli, scenario):
    scenario.write_text("A map x 4\nA wipe x\n")
    done = cli("run", scenario, "-m", "cow")
    assert done.returncode == 2
    assert done.stdout == ""
    [line] = done.stderr.splitlines()
    assert line.startswith(f"rmapreplay: error: {scenario}:2:3: 'wipe' is not a call: one of fork")


def test_other_commands_take_scenarios(cli, scenario):
    done = cli("info", scenario, "--format", "json")
    assert json.loads(done.stdout)["rows"] == 12


def test_list(cli):
    done = cli("scenario", "list")
    assert done.returncode == 0
    assert "question_a: 17 rows, 7 expectations\n    Question a: a child unmaps" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 100
    found = json.loads(cli("scenario", "list", "--format", "json").stdout)
    assert [one["name"] for one in found] == sorted(one["name"] for one in found)
    assert {"name", "path", "about", "rows", "expectations"} == set(found[0])


def test_show_and_export(cli, scenario, tmp_path):
    shown = cli("scenario", "show", "question_b").stdout
    assert shown.startswith("# SPDX-License-Identifier: GPL-2.0-only\n# Question b:")
    program = tmp_path / "a.c"
    assert cli("scenario", "export", scenario, "--c", "-o", program).returncode == 0
    assert "B unmap x" in program.read_text()
    done = cli("scenario", "export", scenario, "--c", "-o", program)
    assert done.returncode == 2
    assert "exists (--force replaces it)" in done.stderr


def test_a_trace_as_text_is_that_trace(cli, forking_trace, tmp_path):
    text = tmp_path / "forking.scn"
    assert cli("scenario", "export", forking_trace, "--text", "-o", text).returncode == 0
    both = [
        json.loads(cli("run", path, "-m", "cow", "--format", "json").stdout)["models"]["cow"]
        for path in (forking_trace, text)
    ]
    for one in both:
        del one["seconds"], one["events_per_second"], one["machine_bytes"]
    assert both[0] == both[1]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["question_a"], "say what to write: --c, a C program, or --text, a scenario"),
        (["question_z", "--c"], "question_z: neither a .scn file nor one of the library"),
    ],
)
def test_bad_usage(cli, arguments, reason):
    done = cli("scenario", "export", *arguments)
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert reason in line
