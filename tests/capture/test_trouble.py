# SPDX-License-Identifier: GPL-2.0-only
"""Captures that do not go as hoped: one clear line, nothing half-written, nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rmapreplay.traces.capture import cgroup

BUSY = "while :; do (:); sleep 0.02; done"


def until(true: Callable[[], Any], seconds: float = 20) -> Any:
    """Wait for something to become true; returns it."""
    end = time.monotonic() + seconds
    while not (found := true()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return found


def descendants(pid: int) -> Iterator[int]:
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in map(int, task.read_text().split()):
            yield child
            yield from descendants(child)


def named(pid: int, comm: str) -> list[int]:
    """Descendants of a process by their name."""
    found = []
    for child in descendants(pid):
        try:
            if Path(f"/proc/{child}/comm").read_text().strip() == comm:
                found.append(child)
        except OSError:
            continue
    return found


def cgroups(pid: int) -> list[Path]:
    """Those that a capture made."""
    place = cgroup.mount()
    assert place
    return list(place.glob(f"rmapreplay-{pid}-*"))


def nothing_left(process: subprocess.Popen[str], directory: Path) -> None:
    assert not cgroups(process.pid)
    assert not list(directory.glob(".*"))


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (["no-such-program"], "no-such-program: no such program, or not executable"),
        (["/etc/passwd"], "/etc/passwd: no such program, or not executable"),
        ([], "say what to capture"),
    ],
)
def test_no_such_command(capture: Any, tmp_path: Path, command: list[str], says: str) -> None:
    done = capture(*command)
    assert done.returncode == 2
    assert (
        done.stderr.strip().splitlines()[-1] == f"rmapreplay: error: {says}" or says in done.stderr
    )
    assert not list(tmp_path.iterdir())


def test_no_program_at_all(capture: Any, tmp_path: Path) -> None:
    program = tmp_path / "text"
    program.write_bytes(b"\x7fELF, or so it says")
    program.chmod(0o755)
    done = capture(program)
    assert done.returncode == 2
    assert done.stderr == f"rmapreplay: error: {program}: Exec format error\n"
    assert list(tmp_path.iterdir()) == [program]


def test_existing_trace(capture: Any, tmp_path: Path) -> None:
    out = tmp_path / "x.parquet"
    out.write_text("mine")
    done = capture("true")
    assert (done.returncode, out.read_text()) == (2, "mine")
    assert "exists already" in done.stderr
    assert capture("true", options=("--force",)).returncode == 0
    assert out.stat().st_size > 4


def test_missing_directory(perf: None, cli: Any, tmp_path: Path) -> None:
    done = cli("capture", "-o", tmp_path / "none" / "x.parquet", "--", "true")
    assert done.returncode == 2
    assert "none: cannot write: No such file or directory" in done.stderr


def test_duration(capture: Any, trace: Any, replayed: Any) -> None:
    began = time.monotonic()
    done = capture("bash", "-c", BUSY, options=("--duration", "0.5"))
    assert done.returncode == 0, done.stderr
    assert time.monotonic() - began < 30
    run = trace().metadata["capture"]
    assert run["ended"] == "duration"
    assert 0.5 <= run["seconds"] < 5
    assert trace().metadata["processes_alive"] >= 1
    replayed()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(
    capturing: Any, tmp_path: Path, trace: Any, replayed: Any, number: signal.Signals
) -> None:
    process = capturing("bash", "-c", f"trap 'exit 9' TERM; {BUSY}")
    until(lambda: named(process.pid, "sleep"))
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert "(interrupted, the command exited with status 9)" in said
    nothing_left(process, tmp_path)
    assert trace().metadata["processes_alive"] == 0
    assert sum(replayed()["anomalies"].values()) == 0


def test_interrupted_and_deaf(capturing: Any, tmp_path: Path, trace: Any) -> None:
    """A workload that does not end when asked is killed; a second Ctrl-C need not wait for that."""
    process = capturing("bash", "-c", f"trap '' TERM INT; {BUSY}")
    until(lambda: named(process.pid, "sleep"))
    process.send_signal(signal.SIGINT)
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 0, said
    assert trace().metadata["processes_alive"] >= 1
    nothing_left(process, tmp_path)


def test_killed(capturing: Any, capture: Any, tmp_path: Path) -> None:
    """Nothing can be written then; perf must not go on, and the next capture clears up."""
    process = capturing("bash", "-c", BUSY)
    until(lambda: named(process.pid, "sleep"))
    perf = named(process.pid, "perf")
    assert perf
    groups = cgroups(process.pid)
    process.kill()
    process.wait()
    until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in perf))
    assert not list(tmp_path.glob("*.parquet"))
    for group in groups:
        group.joinpath("cgroup.kill").write_text("1")
        until(lambda group=group: "populated 0" in group.joinpath("cgroup.events").read_text())
    done = capture("true")
    assert done.returncode == 0, done.stderr
    nothing_left(process, tmp_path)


def test_perf_dies(capturing: Any, tmp_path: Path) -> None:
    process = capturing("bash", "-c", BUSY)
    until(lambda: named(process.pid, "sleep"))
    os.kill(named(process.pid, "perf")[0], signal.SIGKILL)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 2
    assert said.startswith("rmapreplay: error: perf record ended with status -9")
    assert not list(tmp_path.glob("*.parquet"))
    nothing_left(process, tmp_path)


def test_losses(capturing: Any, tmp_path: Path, trace: Any) -> None:
    """perf stands still while the workload overflows the smallest buffer there is."""
    gate = tmp_path / "gate"
    faults = "python3 -c 'x = bytearray(400 << 20)'"
    script = f"sleep 0 & until [ -e {gate} ]; do sleep 0.05; done; {faults}; {faults}; rm {gate}"
    process = capturing("bash", "-c", script, options=("--buffer", "1"))
    until(lambda: named(process.pid, "sleep"))
    perf = named(process.pid, "perf")[0]
    os.kill(perf, signal.SIGSTOP)
    gate.touch()
    until(lambda: not gate.exists(), 60)
    os.kill(perf, signal.SIGCONT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1, said
    lost = trace().metadata["lost"]
    assert lost > 0
    assert f"the capture lost {lost} events" in said


def test_full_disk(capturing: Any, perf: None, cli: Any, tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "none", small], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("cannot mount a tmpfs here")
    try:
        script = "for i in $(seq 1000); do (:); done"
        done = cli("capture", "-o", small / "x.parquet", "--", "bash", "-c", script)
        assert done.returncode == 2
        assert len(done.stderr.splitlines()) == 1
        assert "No space left on device" in done.stderr
        assert not list(small.iterdir())
    finally:
        subprocess.run(["umount", small], check=True)


def test_keep_raw(capture: Any, cli: Any, tmp_path: Path) -> None:
    done = capture("true", options=("--keep-raw",))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x.perf.data").stat().st_size > 10_000
    found = pl.read_parquet(tmp_path / "x.parquet")
    assert len(found) > 50


def test_check(perf: None, cli: Any, tmp_path: Path) -> None:
    done = cli("capture", "--check")
    assert done.returncode == 0
    lines = done.stdout.splitlines()
    assert len(lines) >= 6
    assert all(line.startswith("ok ") for line in lines)
    alone = cli("capture", "--check", env={"PATH": str(tmp_path)})
    assert alone.returncode == 1
    assert "MISSING  perf: not installed; install it, in Debian with: apt install" in alone.stdout
    said = cli("capture", "-o", tmp_path / "x.parquet", "--", "true", env={"PATH": str(tmp_path)})
    assert said.returncode == 2
    assert said.stderr.startswith("rmapreplay: error: cannot capture here: perf: not installed; ")
    assert not list(tmp_path.iterdir())
