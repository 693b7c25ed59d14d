# SPDX-License-Identifier: GPL-2.0-only
"""rmapreplay check: exit codes, the JSON contract, what a terminal shows, and bad input."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import polars as pl
import pyarrow.parquet as pq
import pytest

from rmapreplay.traces.truth import TRUTH_METADATA_KEY

CORPUS = Path(__file__).parents[2] / "traces" / "corpus"
FORKY = CORPUS / "forky.parquet"


def one_error_line(done: subprocess.CompletedProcess[str]) -> str:
    """The error of a check that failed as it should: exit 2, one line, nothing on stdout."""
    assert done.returncode == 2
    assert done.stdout == ""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    prefix = "rmapreplay: error: "
    assert lines[0].startswith(prefix)
    return lines[0].removeprefix(prefix)


def move_the_heap(truth: pl.DataFrame) -> pl.DataFrame:
    heap = (pl.col("kind") == "snapshot") & (pl.col("path") == "[heap]")
    return truth.with_columns(end=pl.when(heap).then(pl.col("end") + 4096).otherwise("end"))


def test_json_is_the_contract(cli):
    done = cli("check", FORKY, "--format", "json")
    assert done.returncode == 0
    assert done.stderr == ""
    summary = json.loads(done.stdout)
    assert list(summary) == [
        *("trace", "truth", "model", "kernel", "events", "exact", "walks", "objects", "links"),
        *("vmas", "moments", "anomalies", "first_disagreement"),
    ]
    assert summary["truth"] == str(CORPUS / "forky.truth.parquet")
    assert summary["walks"] == {
        "recorded": 1280,
        "exact": 1280,
        "tie": 0,
        "prefix": 0,
        "wrong": 0,
        "prefix_kernel": 0,
        "prefix_model": 0,
        "not_replayed": 0,
    }
    assert set(summary["objects"]) == {"vm_area_struct", "anon_vma", "anon_vma_chain"}
    for kind in summary["objects"].values():
        assert kind["expected"] == kind["got"] > 0
    assert summary["vmas"]["snapshots"] == summary["vmas"]["equal"] == 40
    assert summary["first_disagreement"] is None
    assert summary["exact"] is True


def test_a_difference_is_exit_1_and_told_to_people(cli, doctored):
    trace = doctored("forky", move_the_heap)
    done = cli("check", trace)
    assert done.returncode == 1
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    assert "\nexact\n" not in done.stdout
    first = done.stdout.partition("first disagreement")[2]
    assert "/maps at burst 0: timer: 1 VMAs differ" in first
    assert "led to by" in first
    kernel_and_model = next(line for line in first.splitlines() if "|" in line)
    kernel, model = kernel_and_model.split("|")
    assert "rw-p" in kernel
    low, high = (part.split()[0].split("-")[1] for part in (kernel, model))
    assert int(low, 16) == int(high, 16) + 4096
    assert "last operations of pid" in first
    summary = json.loads(cli("check", trace, "--format", "json").stdout)
    assert summary["exact"] is False
    assert summary["first_disagreement"]["what"] == "snapshot"
    assert f"row {summary['first_disagreement']['row']}:" in first


def test_the_table_shows_every_comparison(cli):
    done = cli("check", FORKY)
    assert done.returncode == 0
    assert done.stdout.endswith("\nexact\n")
    for word in ("walks", "1,280", "anon_vma_chain", "inserts", "snapshots of VMA lists", "peak"):
        assert word in done.stdout
    sites = cli("check", CORPUS / "nginx.parquet").stdout
    assert "by anon_vma_clone()" in sites


def test_kernel_rules_can_be_chosen(cli):
    done = cli("check", FORKY, "--model", "anon_vma:kernel=6.12", "--format", "json")
    summary = json.loads(done.stdout)
    assert summary["kernel"] == "6.12"
    # Its lists keep the order that those of 7.3 turn around at each fork.
    assert done.returncode == 1
    assert summary["links"]["equal"] < summary["links"]["moments"]


def test_a_model_with_objects_of_its_own(cli):
    done = cli("check", FORKY, "-m", "cow")
    assert done.returncode == 0
    assert "anon_vma_chain" not in done.stdout
    done = cli("check", CORPUS / "scen.parquet", "-m", "cow-poc", "--format", "json")
    assert done.returncode == 1
    summary = json.loads(done.stdout)
    assert summary["walks"]["wrong"] > 0
    assert "kernel and model find something else" in summary["first_disagreement"]["text"]


def test_the_answer_key_may_be_elsewhere(cli, tmp_path):
    trace = tmp_path / "moved.parquet"
    shutil.copy(FORKY, trace)
    assert "moved.truth.parquet: no such file" in one_error_line(cli("check", trace))
    assert cli("check", trace, "--truth", CORPUS / "forky.truth.parquet").returncode == 0


def test_an_answer_key_of_another_trace(cli):
    line = one_error_line(cli("check", FORKY, "--truth", CORPUS / "bash.truth.parquet"))
    assert line.startswith(str(CORPUS / "bash.truth.parquet"))
    assert "is of another trace" in line


def test_a_truncated_answer_key(cli, tmp_path):
    shutil.copy(FORKY, tmp_path / "t.parquet")
    whole = (CORPUS / "forky.truth.parquet").read_bytes()
    (tmp_path / "t.truth.parquet").write_bytes(whole[: len(whole) // 2])
    line = one_error_line(cli("check", tmp_path / "t.parquet"))
    assert line.startswith(str(tmp_path / "t.truth.parquet"))
    assert "truncated" in line


@pytest.mark.parametrize(
    ("footer", "reason"),
    [
        ({TRUTH_METADATA_KEY: b'{"version": 99}'}, "version 99 is newer"),
        ({}, "not an answer key"),
    ],
)
def test_answer_keys_of_other_versions(cli, tmp_path, footer, reason):
    shutil.copy(FORKY, tmp_path / "t.parquet")
    table = pq.read_table(CORPUS / "forky.truth.parquet").replace_schema_metadata(footer)
    pq.write_table(table, tmp_path / "t.truth.parquet")
    assert reason in one_error_line(cli("check", tmp_path / "t.parquet"))


@pytest.mark.parametrize(
    "arguments",
    [
        ["check"],
        ["check", FORKY, "--format", "yaml"],
        ["check", FORKY, "--model", "no-such-model"],
        ["check", FORKY, "-m", "anon_vma", "extra"],
    ],
)
def test_bad_usage(cli, arguments):
    one_error_line(cli(*arguments))


def test_a_trace_that_is_not_there(cli, tmp_path):
    line = one_error_line(cli("check", tmp_path / "none.parquet"))
    assert line.startswith(str(tmp_path / "none.parquet"))
