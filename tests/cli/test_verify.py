# SPDX-License-Identifier: GPL-2.0-only
"""rmapreplay run --verify: the invariants hold over the bundled traces, and what happens if not."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import polars as pl
import pytest

import rmapreplay as rr
from rmapreplay import _native
from rmapreplay.cli import app
from rmapreplay.replay import engine

CORPUS = Path(__file__).parents[2] / "traces" / "corpus"
TRACES = sorted(
    path for path in CORPUS.glob("*.parquet") if not path.name.endswith(".truth.parquet")
)
NativeReplay = _native.Replay
MODELS = [str(model["name"]) for model in rr.models()]


def verified(summary):
    return {label: model["verified"] for label, model in summary["models"].items()}


@pytest.mark.parametrize("trace", TRACES, ids=lambda path: path.stem)
def test_invariants_hold_over_a_bundled_trace(trace):
    summary = rr.replay(trace, MODELS, walks="none", verify="sampled").summary
    assert set(verified(summary)) == set(MODELS)
    assert all(32 <= times <= 64 for times in verified(summary).values())


def test_invariants_hold_after_every_event(cli):
    done = cli(
        "run", CORPUS / "forky.parquet", *(f"--model={name}" for name in MODELS),
        "--walks=none", "--verify", "all", "--format=json",
    )  # fmt: skip
    summary = json.loads(done.stdout)
    assert verified(summary) == dict.fromkeys(MODELS, summary["events"])


@pytest.mark.parametrize(
    ("options", "times"),
    [
        ([], 0),
        (["--verify"], 56),  # every 3 of 167 events, and at the end
        (["--verify", "sampled"], 56),
        (["--verify=all"], 167),
        (["--verify", "all"], 167),
        (["--verify", "50"], 4),
        (["--verify=167"], 1),
    ],
)
def test_verify_takes_a_value_or_none(cli, forking_trace, options, times):
    for arguments in (
        ["run", forking_trace, "--model=cow", *options, "--format=json"],
        ["run", *options, "--format=json", forking_trace, "--model=cow"],
    ):
        done = cli(*arguments)
        assert done.returncode == 0, done.stderr
        assert verified(json.loads(done.stdout)) == {"cow": times}


def test_the_table_says_how_often(cli, forking_trace):
    arguments = ["run", forking_trace, "--model=cow"]
    assert "times verified" not in cli(*arguments).stdout
    assert "times verified" in cli(*arguments, "--verify").stdout


@pytest.mark.parametrize("value", ["0", "some", "-3", "", "1.5"])
def test_another_value_is_refused_in_one_line(cli, forking_trace, value):
    done = cli("run", forking_trace, "--model=cow", f"--verify={value}")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert f"verify '{value}': one of sampled, all, or a number of events" in done.stderr


def test_verify_from_python(forking_trace):
    for verify, times in (
        (False, 0),
        (True, 56),
        ("sampled", 56),
        (50, 4),
        ("50", 4),
        ("all", 167),
    ):
        summary = rr.replay(forking_trace, "cow", verify=verify).summary
        assert verified(summary) == {"cow": times}
    with pytest.raises(rr.RmapReplayError, match="verify 'some': one of"):
        rr.replay(forking_trace, "cow", verify="some")


class Unsound:
    """A native replay whose invariants break at some row, as those of no model here do."""

    broken_at = 100

    def __init__(self, **keywords):
        self._replay = NativeReplay(**keywords)
        self._breaks = keywords["model"] == "cow"

    def __getattr__(self, name):
        return getattr(self._replay, name)

    def feed(self, batch):
        if self._breaks and self.row + batch.num_rows > self.broken_at:
            self._replay.feed(batch.slice(0, self.broken_at - self.row))
            raise _native.BrokenInvariant("cow_context 0: refcount is 7, recounted 6")
        self._replay.feed(batch)


def test_a_broken_invariant_names_model_event_and_invariant(forking_trace, monkeypatch):
    monkeypatch.setattr(engine._native, "Replay", Unsound)
    with pytest.raises(rr.InvariantError, match="refcount is 7") as caught:
        rr.replay(forking_trace, "cow", verify=True)
    assert isinstance(caught.value, rr.ModelError)
    assert (caught.value.model, caught.value.event) == ("cow", 100)


def test_a_broken_invariant_takes_no_other_model_with_it(forking_trace, monkeypatch):
    alone = rr.replay(forking_trace, "anon_vma", verify=True)
    monkeypatch.setattr(engine._native, "Replay", Unsound)
    result = rr.replay(forking_trace, ["anon_vma", "cow"], verify=True)
    assert list(result.summary["models"]) == ["anon_vma"]
    assert isinstance(result.failed["cow"], rr.InvariantError)
    assert (result.failed["cow"].model, result.failed["cow"].event) == ("cow", 100)
    assert result.walks.equals(alone.walks)


def run_unsound(models, forking_trace, out, monkeypatch):
    monkeypatch.setattr(engine._native, "Replay", Unsound)
    argv = ["run", forking_trace, *(f"--model={name}" for name in models), "--verify", "--out", out]
    monkeypatch.setattr(app.os, "dup2", lambda *_: None)  # standard output is pytest's
    monkeypatch.setattr(sys, "argv", ["rmapreplay", *map(str, argv)])
    with pytest.raises(SystemExit) as left:
        app.main()
    return left.value.code


BROKEN = (
    "rmapreplay: error: broken invariant: model cow, event 100: "
    "cow_context 0: refcount is 7, recounted 6\n"
)


def test_a_broken_invariant_is_a_finding(forking_trace, tmp_path, monkeypatch, capfd):
    out = tmp_path / "out"
    assert run_unsound(["cow", "anon_vma"], forking_trace, out, monkeypatch) == 1
    printed = capfd.readouterr()
    assert printed.err == BROKEN
    assert "anon_vma (rules of Linux 7.3)" in printed.out
    summary = json.loads((out / "summary.json").read_text())
    assert list(summary["models"]) == ["anon_vma"]
    assert summary["failed"]["cow"]["invariant"]
    walks = pl.read_parquet(out / "walks.parquet")
    assert walks["model"].cast(pl.String).unique().to_list() == ["anon_vma"]
    assert list(tmp_path.iterdir()) == [out]


def test_there_are_no_results_if_no_model_finished(forking_trace, tmp_path, monkeypatch, capfd):
    assert run_unsound(["cow"], forking_trace, tmp_path / "out", monkeypatch) == 1
    assert capfd.readouterr() == ("", BROKEN)
    assert list(tmp_path.iterdir()) == []
