# SPDX-License-Identifier: GPL-2.0-only
"""`rmapreplay compare` as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "traces" / "corpus"


def lines_with(text: str, start: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith(start)]


def test_one_trace(cli, forking_trace):
    """Three children write half of 64 pages and live: 32 folios that they share, 96 that are their
    own, and a stack. The figures are those of run."""
    done = cli("compare", forking_trace, "-m", "anon_vma,cow", "--walks", "end,kind=all")
    assert (done.returncode, done.stderr) == (0, "")
    assert lines_with(done.stdout, "walks ")[0].split() == ["walks", "129", "129", "1.000"]
    assert lines_with(done.stdout, "cow ")[0].split()[1] == "129"
    said = json.loads(
        cli("run", forking_trace, "-m", "anon_vma", "-m", "cow", "--walks", "end,kind=all",
            "--format", "json").stdout
    )["models"]  # fmt: skip
    for model, found in said.items():
        mean = f"{found['walk']['visits']['mean']:.3f} / "
        assert mean in lines_with(done.stdout, "visits ")[0], model


def test_json(cli, forking_trace):
    done = cli(
        "compare", forking_trace, "--models", "anon_vma:kernel=6.18,cow", "--model", "pte_chain",
        "--by", "depth,kind", "--metric", "steps", "--format", "json",
    )  # fmt: skip
    assert done.returncode == 0
    told = json.loads(done.stdout)
    assert told["models"] == ["anon_vma:kernel=6.18", "cow", "pte_chain"]
    assert (told["metric"], told["by"]) == ("steps", ["depth", "kind"])
    assert {group["by"] for group in told["total"]["groups"]} == {"depth", "kind"}
    assert told["failures"] == []


def test_misses_are_a_finding(cli):
    done = cli("compare", CORPUS / "bash.parquet", "-m", "anon_vma,cow-poc")
    assert done.returncode == 1
    assert done.stderr == ""


def test_what_fails_is_told_and_the_rest_is_there(cli, forking_trace, tmp_path):
    gone = tmp_path / "gone.parquet"
    done = cli("compare", gone, forking_trace, "-m", "anon_vma,cow", "--walks", "end")
    assert done.returncode == 2
    assert done.stderr == f"rmapreplay: error: {gone}: no such file\n"
    assert done.stdout.startswith(f"{forking_trace}: 167 events")


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["-m", "anon_vma,nonesuch"], "no such model"),
        (["-m", "anon_vma,anon_vma"], "given twice"),
        (["-m", "anon_vma,cow", "--by", "size"], "by 'size'"),
        (["-m", "anon_vma,cow", "--metric", "hits"], "metric 'hits'"),
        (["-m", "anon_vma,cow", "--walks", "never"], "never"),
        (["-m", "anon_vma,cow", "--shrink"], "--out"),
        (["-m", "anon_vma,cow", "--shrink", "-o", "x"], "--first-divergence"),
        (["-m", "anon_vma", "--first-divergence"], "two models"),
    ],
)
def test_bad_usage_is_one_line(cli, forking_trace, arguments, reason):
    done = cli("compare", forking_trace, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert reason in done.stderr


def test_no_divergence(cli, forking_trace):
    done = cli("compare", forking_trace, "-m", "anon_vma,cow", "--first-divergence")
    assert done.returncode == 0
    assert done.stdout == (
        f"{forking_trace}: no walk in which cow differs from anon_vma in mappings found\n"
    )


def test_first_divergence_in_a_metric(cli, forking_trace):
    done = cli(
        "compare", forking_trace, "-m", "anon_vma,cow", "--first-divergence", "locks",
        "--format", "json",
    )  # fmt: skip
    assert done.returncode == 1
    (trace,) = json.loads(done.stdout)["traces"]
    assert trace["divergence"]["numbers"]["anon_vma"]["locks"] == 1
    assert trace["divergence"]["numbers"]["cow"]["locks"] == 0


def test_a_hole_is_found_and_cut_out(cli, tmp_path):
    """The page writes what the documentation shows."""
    out = tmp_path / "hole"
    done = cli(
        "compare", "traces/corpus/redis.parquet", "-m", "anon_vma,cow-poc", "--first-divergence",
        "--shrink", "-o", out, cwd=ROOT,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (1, "")
    assert f"cut from 3,581 rows to 3: {out / 'divergence.parquet'}" in done.stdout
    assert (out / "divergence.scn").read_text() in (ROOT / "docs" / "compare.md").read_text()
    command = done.stdout.splitlines()[-1]
    assert command == (
        f"rmapreplay explain {out / 'divergence.parquet'} --walk 0 --model cow-poc,anon_vma "
        "--walks none"
    )
    again = cli("run", out / "divergence.scn", "-m", "cow-poc", "--walks", "none")
    assert again.returncode == 1
    assert "cow-poc missed 1 mappings" in again.stdout
    assert cli(*command.split()[1:]).returncode == 0


def test_the_worst_walks_can_be_explained(cli):
    told = json.loads(
        cli("compare", CORPUS / "rmap.parquet", "-m", "anon_vma,cow", "--format", "json").stdout
    )
    worst = {walk["model"]: walk for walk in reversed(told["total"]["worst"])}
    for walk in worst.values():
        done = cli(*walk["explain"].split()[1:])
        assert (done.returncode, done.stderr) == (0, "")


def test_the_whole_corpus_is_as_documented(cli):
    done = cli("compare", "traces/corpus", "-m", "anon_vma,cow", cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    page = (ROOT / "docs" / "compare.md").read_text()
    block = page.split("part of the output of that command")[1].split("```\n")[1]
    assert block in done.stdout
