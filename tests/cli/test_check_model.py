# SPDX-License-Identifier: GPL-2.0-only
"""rmapreplay check-model as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import rmapreplay as rr

CORPUS = Path(__file__).parents[2] / "traces" / "corpus"


def test_a_model_that_passes_leaves_nothing(tmp_path, cli):
    done = cli("check-model", "cow", "--only", "hole", "--kernel", "7.3", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "hole_6_a_part_is_moved           pass" in done.stdout
    assert "cow: all 6 checks passed (rules of Linux 7.3)" in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_model_that_fails_says_how(tmp_path, cli):
    done = cli("check-model", "cow-poc", "--only", "hole_2", "--kernel", "6.18", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (1, "")
    lines = done.stdout.splitlines()
    assert "cow-poc: 1 of 1 checks failed (rules of Linux 6.18)" in lines
    trace = "check-model-failures/hole_2_exclusive_at_an_ancestor"
    assert f"  trace: {trace}.parquet (listing: {trace}.txt)" in lines
    assert (tmp_path / f"{trace}.txt").exists()
    again = next(line for line in lines if line.startswith("  again: rmapreplay "))
    done = cli(*again.split()[2:], cwd=tmp_path)
    assert done.returncode == 1
    assert "cow-poc missed 1 mappings" in done.stdout


def test_json(tmp_path, cli):
    done = cli("check-model", "cow", "--only", "question", "--format", "json", cwd=tmp_path)
    report = json.loads(done.stdout)
    assert report["model"] == "cow"
    assert report["kernels"] == ["7.3", "6.18", "6.12"]
    assert report["passed"] is True
    assert [check["result"] for check in report["checks"]] == ["pass"] * 5
    assert all(check["finding"] is None for check in report["checks"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing"], "no such model"),
        (["cow", "--kernel", "2.6"], "kernel '2.6': one of 7.3, 6.18, 6.12, all"),
        (["cow", "--only", "nowhere"], "no check is called nowhere"),
        (["cow", "--trace", "nowhere.parquet"], "nowhere.parquet"),
        (["cow", "--seeds", "0"], "--seeds"),
    ],
)
def test_bad_usage_is_one_line(arguments, message, tmp_path, cli):
    done = cli("check-model", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_trace_of_ones_own(tmp_path, cli, forking_trace):
    """A short one is walked after each row, of a long one the end is cut off."""
    long = CORPUS / "scen.parquet"
    assert rr.read_trace(long).rows > 2000
    given = ["--trace", forking_trace, "--trace", long, "--only", "trace"]
    done = cli("check-model", "cow", *given, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    done = cli("check-model", "cow-poc", *given, "--format", "json", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    for check in json.loads(done.stdout)["checks"]:
        finding = check["finding"]
        assert check["name"] in ("trace_forking", "trace_scen")
        if finding:
            assert finding["rule"] == "miss"
            assert finding["rows"] <= 10
            assert rr.read_trace(tmp_path / finding["trace"]).rows == finding["rows"]
    assert finding
