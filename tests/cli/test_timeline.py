# SPDX-License-Identifier: GPL-2.0-only
"""rmapreplay timeline: what it prints, and a directory that is whole or absent."""

from __future__ import annotations

import resource
from pathlib import Path

import rmapreplay as rr

TABLES = ["folios", "link_spans", "mappings", "mms", "remap_spans", "vma_spans", "walks"]


def test_prints_rows_and_bytes(cli, forking_trace, tmp_path):
    out = tmp_path / "history"
    done = cli("timeline", forking_trace, "--model", "anon_vma", "-o", out)
    assert done.returncode == 0
    assert done.stderr == ""
    history = rr.read_timeline(out)
    header, *lines = [line.split() for line in done.stdout.splitlines()]
    assert header == ["table", "rows", "bytes"]
    printed = {name: (int(n.replace(",", "")), int(b.replace(",", ""))) for name, n, b in lines}
    assert sorted(printed) == TABLES
    for name, (rows, size) in printed.items():
        assert rows == history.metadata["tables"][name]
        assert size == (out / f"{name}.parquet").stat().st_size
    assert sorted(p.name for p in out.iterdir()) == [
        *sorted(f"{name}.parquet" for name in TABLES)[:-2],
        "timeline.json",
        "vma_spans.parquet",
        "walks.parquet",
    ]


def test_replaces_only_by_force(cli, forking_trace, tmp_path):
    out = tmp_path / "history"
    command = ["timeline", forking_trace, "-o", out, "--model"]
    assert cli(*command, "cow").returncode == 0
    refused = cli(*command, "anon_vma")
    assert refused.returncode == 2
    assert refused.stdout == ""
    assert "exists (--force replaces it)" in refused.stderr
    assert rr.read_timeline(out).metadata["model"] == "cow"
    assert cli(*command, "anon_vma", "--force").returncode == 0
    assert rr.read_timeline(out).metadata["model"] == "anon_vma"


def test_nothing_is_left_of_a_failure(cli, forking_trace, tmp_path):
    out = tmp_path / "history"
    command = ["timeline", forking_trace, "-o", out]
    assert cli(*command, "--model=nonesuch").returncode == 2
    assert cli(*command, "--model=cow", "--walks=often").returncode == 2
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_told_in_one_line(cli_program, forking_trace, tmp_path):
    import subprocess

    def no_space() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))

    done = subprocess.run(
        [cli_program, "timeline", forking_trace, "--model=cow", "-o", tmp_path / "history"],
        capture_output=True,
        text=True,
        preexec_fn=no_space,
    )
    assert done.returncode == 2
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert "history: cannot write: File too large" in line
    assert list(Path(tmp_path).iterdir()) == []
