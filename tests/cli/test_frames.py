# SPDX-License-Identifier: GPL-2.0-only
"""run --backend frames."""

from __future__ import annotations

import json
from pathlib import Path

import pyarrow.parquet as pq


def test_the_summary_is_the_native_one_but_for_what_is_not_derived(cli, forking_trace: Path):
    models = ("--model=anon_vma", "--model=cow:kernel=6.18", "--format=json")
    native, frames = (
        json.loads(cli("run", forking_trace, *models, "--backend", backend).stdout)
        for backend in ("native", "frames")
    )
    not_derived = {"levels", "steps", "tree_nodes", "remap_entries"}
    assert list(native["models"]) == list(frames["models"]) == ["anon_vma", "cow:kernel=6.18"]
    for summary in (native, frames):
        for model in summary["models"].values():
            del model["seconds"], model["events_per_second"], model["machine_bytes"]
    for model in frames["models"].values():
        found = {name for name, values in model["walk"].items() if values["mean"] is None}
        assert found <= not_derived
        assert {"levels", "steps"} <= found
    for summary in (native, frames):
        for model in summary["models"].values():
            model["walk"] = {k: v for k, v in model["walk"].items() if k not in not_derived}
    assert frames == native


def test_tables_have_the_native_columns(cli, forking_trace: Path, tmp_path: Path):
    for backend in ("native", "frames"):
        options = ("--model=cow", "--visits", "--out", tmp_path / backend)
        done = cli("run", forking_trace, *options, "--backend", backend)
        assert done.returncode == 0, done.stderr
    for table in ("walks", "visits", "misses", "operations", "memory"):
        native, frames = (
            pq.read_table(tmp_path / backend / f"{table}.parquet")
            for backend in ("native", "frames")
        )
        assert frames.schema.names == native.schema.names
        assert frames.schema.types == native.schema.types
        assert frames.num_rows == native.num_rows


def test_a_trace_without_walks(cli, forking_trace: Path, tmp_path: Path):
    done = cli(
        *("run", forking_trace, "--model=anon_vma", "--walks=none", "--backend=frames"),
        *("--visits", "--out", tmp_path / "out", "--format=json"),
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["models"]["anon_vma"]["walks"] == 0
    assert pq.read_table(tmp_path / "out" / "walks.parquet").num_rows == 0


def test_what_cannot_be_is_said_in_one_line(cli, forking_trace: Path):
    for options, error in (
        (
            ("--model=anon_vma", "--model=pte_chain", "--backend=frames"),
            "model pte_chain: has no frame form (anon_vma and cow have)",
        ),
        (("--model=cow", "--backend=duck"), "backend 'duck': one of native, frames"),
    ):
        done = cli("run", forking_trace, *options)
        assert done.returncode == 2
        assert done.stdout == ""
        assert done.stderr == f"rmapreplay: error: {error}\n"
