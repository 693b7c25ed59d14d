# SPDX-License-Identifier: GPL-2.0-only
"""rmapreplay import and rmapreplay info, as a user runs them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rmapreplay import read_trace

PERF = """\
  7/7     [000]     1.000000001:       raw_syscalls:sys_enter: NR 59 (1, 2, 3, 4, 5, 6)
  7/7     [000]     1.000000002: PERF_RECORD_COMM exec: a b:7/7
  7/7     [000]     1.000000003: sched:sched_process_exec: filename=/bin/a pid=7 old_pid=7
  7/7     [000]     1.000000004:        raw_syscalls:sys_exit: NR 59 = 0
  7/7     [000]     1.000000005:       raw_syscalls:sys_enter: NR 11 (1, 1, 0, 0, 0, 0)
  7/7     [000]     1.000000006:        raw_syscalls:sys_exit: NR 11 = -22
  7/7     [000]     1.000000007:       raw_syscalls:sys_enter: NR 12 (0, 0, 0, 0, 0, 0)
  7/7     [000]     1.000000008: PERF_RECORD_LOST lost 3
  7/7     [000]     1.500000002: task:task_newtask: pid=8 comm=a clone_flags=4100 oom_score_adj=0
"""


def rmapreplay(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", "from rmapreplay.cli.app import main; main()", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    path = tmp_path / "a.txt"
    path.write_text(PERF)
    return path


def test_import_then_info(capture: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.parquet"
    done = rmapreplay(
        *("import", capture, "-o", out, "--kernel", "6.18.44", "--thp", "madvise"),
        *("--no-huge-zero-page", "--command", "run it", "--description", "a test"),
        *("--stack-limit", "1048576"),
    )
    assert (done.returncode, done.stdout) == (0, "")
    assert f"{out}: 2 rows from 9 lines of perf text" in done.stderr
    assert "the capture lost 3 events" in done.stderr
    assert "1 system call enters without their other half" in done.stderr
    assert "2 processes were alive at the end" in done.stderr
    assert "not used: 1 failed_munmap_EINVAL" in done.stderr
    metadata = read_trace(out).metadata
    assert metadata["thp"] == {"enabled": "madvise", "use_zero_page": False}
    assert metadata["stack_limit"] == 1048576

    table = rmapreplay("info", out)
    assert (table.returncode, table.stderr) == (0, "")
    lines = {" ".join(line.split()) for line in table.stdout.splitlines()}
    assert lines >= {
        "description a test",
        "command run it",
        "kernel 6.18.44",
        "thp madvise, huge zero page off",
        "captured with perf",
        "events 2",
        "span 0.500000 s",
        "processes 1 (1 tasks)",
        "forks 0 fork, 1 vfork, 0 thread",
        "exec 1",
        "lost 3",
        "unmatched 1 enters, 0 exits",
        "failed_munmap_EINVAL 1",
    }

    found = json.loads(rmapreplay("info", out, "--format", "json").stdout)
    assert found["ops"] == {"exec": 1, "fork": 1}
    assert found["forks"] == {"fork": 0, "vfork": 1, "thread": 0}
    assert found["metadata"]["dropped"] == {"failed_munmap_EINVAL": 1}
    assert found["bytes"] == out.stat().st_size


def test_refusals_take_one_line_and_leave_nothing(capture: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.parquet"
    other = tmp_path / "other.txt"
    other.write_text("hello\n")
    cases = [
        (("import", other, "-o", out), "other.txt: not a capture of a known format"),
        (("import", tmp_path / "none", "-o", out), "none: cannot read: No such file"),
        (("import", capture, "-o", out, "--from", "strace"), "none of 9 lines reads as strace"),
        (("import", capture, "-o", tmp_path / "no" / "a.parquet"), "cannot write: No such file"),
        (
            ("import", capture, "-o", out, "--truth", other),
            "other.txt: none of 1 lines is an allocation",
        ),
        (("import", capture, "-o", out, "--from", "dtrace"), "dtrace"),
        (("import", capture), "--out"),
        (("info", out), "a.parquet: no such file"),
        (("info", other), "other.txt: not a Parquet file, or truncated"),
    ]
    for arguments, expected in cases:
        done = rmapreplay(*arguments)
        assert (done.returncode, done.stdout) == (2, ""), arguments
        assert expected in done.stderr
        assert done.stderr.count("\n") == 1
        assert "Traceback" not in done.stderr
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.txt", "other.txt"]


def test_an_existing_trace_needs_force(capture: Path, tmp_path: Path) -> None:
    out = tmp_path / "a.parquet"
    assert rmapreplay("import", capture, "-o", out).returncode == 0
    before = out.read_bytes()
    again = rmapreplay("import", capture, "-o", out)
    assert again.returncode == 2
    assert "exists already" in again.stderr
    assert rmapreplay("import", capture, "-o", out, "--force").returncode == 0
    assert out.read_bytes() == before
