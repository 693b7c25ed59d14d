# SPDX-License-Identifier: GPL-2.0-only
"""rmapreplay capture --backend tracefs, by tracepoints or probes, whichever this machine has."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from rmapreplay.traces.capture import requirements
from rmapreplay.traces.capture.session import CaptureOptions
from rmapreplay.traces.capture.session import requirements as all_requirements
from rmapreplay.traces.capture.tracefs.probes import probes_allowed
from rmapreplay.traces.reader import read_trace

PAGE = 4096
FORKS = """
    #include <sys/mman.h>
    #include <sys/wait.h>
    #include <unistd.h>
    int main(void) {
        volatile char *p = mmap(0, 40 << 12, 3, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        for (int i = 0; i < 40; i += 2) p[i << 12] = 1;
        mprotect((void *)p, 10 << 12, PROT_READ);
        for (int i = 0; i < CHILDREN; ++i) {
            if (fork() == 0) {
                for (int page = 10; page < 16; ++page) p[page << 12] = 2;
                munmap((void *)(p + (20 << 12)), 20 << 12);
                _exit(0);
            }
        }
        while (wait(0) > 0) {}
        return 0;
    }
"""


@pytest.fixture(autouse=True)
def tracefs() -> Path:
    """Skips where tracefs cannot capture, and says why."""
    options = CaptureOptions(backend="tracefs")
    if unmet := [str(one) for one in all_requirements(options) if not one.met]:
        pytest.skip(f"no capture here: {'; '.join(unmet)}")
    place = requirements.tracefs()
    assert place
    return place


@pytest.fixture
def arguments(cli_program: Path, tmp_path: Path) -> list[str]:
    out = str(tmp_path / "x.parquet")
    return [str(cli_program), "capture", "--backend", "tracefs", "-o", out]


def rows(path: Path) -> pl.DataFrame:
    return pl.read_parquet(path).with_columns(pl.col("op", "path").cast(pl.String))


def ours(place: Path) -> list[str]:
    """Instances and probes of captures."""
    probes = place / "dynamic_events"
    lines = probes.read_text().splitlines() if probes.exists() else []
    instances = [path.name for path in (place / "instances").glob("rmapreplay-*")]
    return instances + [line for line in lines if ":rmapreplay_" in line]


def test_fork_and_mmap(
    arguments: list[str], compiled: Any, tmp_path: Path, replayed: Any, tracefs: Path
) -> None:
    before = ours(tracefs)
    done = subprocess.run(
        [*arguments, "--", compiled(FORKS, "-DCHILDREN=3")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert set(ours(tracefs)) <= set(before)
    assert not list(tmp_path.glob(".*"))

    found = rows(tmp_path / "x.parquet")
    mmap = found.filter((pl.col("op") == "mmap") & (pl.col("len") == 40 * PAGE)).to_dicts()
    assert [(row["prot"], row["flags"]) for row in mmap] == [(3, 0x22)]
    start = mmap[0]["addr"]
    inside = found.filter(pl.col("addr").is_between(start, start + 40 * PAGE, closed="left"))
    parent = mmap[0]["pid"]

    def pages(pid: int) -> list[int]:
        faults = inside.filter((pl.col("op") == "fault") & (pl.col("pid") == pid))
        assert faults["write"].all()
        return [(addr - start) // PAGE for addr in faults["addr"]]

    assert pages(parent) == list(range(0, 40, 2))
    children = found.filter(pl.col("op") == "fork")["child"].to_list()
    assert len(children) == 3
    for child in children:
        assert pages(child) == list(range(10, 16))
        unmaps = inside.filter((pl.col("op") == "munmap") & (pl.col("pid") == child))
        assert unmaps.select("addr", "len").rows() == [(start + 20 * PAGE, 20 * PAGE)]
    protects = inside.filter(pl.col("op") == "mprotect").select("addr", "len", "prot").rows()
    assert protects == [(start, 10 * PAGE, 1)]
    ends = found.filter(pl.col("op") == "exit")
    assert set(ends["pid"]) == {parent, *children}
    assert len(found.filter(pl.col("op") == "exit_mmap")) == 4

    metadata = read_trace(tmp_path / "x.parquet").metadata
    assert metadata["lost"] == 0
    assert metadata["processes_alive"] == 0
    assert "time_went_back" not in metadata["dropped"]
    assert sum(replayed()["anomalies"].values()) == 0


def test_exec_is_there_with_what_it_maps(
    arguments: list[str], tmp_path: Path, replayed: Any
) -> None:
    script = "(:); /bin/ls / >/dev/null; exec /bin/true"
    done = subprocess.run([*arguments, "--", "bash", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = rows(tmp_path / "x.parquet")
    execs = found.filter(pl.col("op") == "exec")["path"].to_list()
    assert [Path(path).name for path in execs] == ["bash", "ls", "true"]
    mappings = found.filter(pl.col("op") == "mapping")
    if read_trace(tmp_path / "x.parquet").metadata["lacks"]:
        assert len(mappings) == 0  # and so the metadata say
        return
    assert len(mappings.filter(pl.col("path") == "[stack]")) == 3
    assert len(mappings.filter(pl.col("path") == "[vdso]")) == 3
    assert len(mappings.filter(pl.col("file").is_not_null())) >= 3 * 8
    assert sum(replayed()["anomalies"].values()) == 0


def test_perf_has_the_same_rows(
    arguments: list[str], compiled: Any, cli_program: Path, perf: None, tmp_path: Path
) -> None:
    """Of one program whose addresses are the same in every run."""
    if probes_allowed():
        pytest.skip("with probes, a trace of tracefs has more")
    program = compiled(FORKS, "-DCHILDREN=1")
    by_perf = [str(cli_program), "capture", "-o", str(tmp_path / "perf.parquet")]
    for command in (arguments, by_perf):
        assert subprocess.run(["setarch", "-R", *command, "--", program]).returncode == 0
    mine = by_process(tmp_path / "x.parquet")
    theirs = by_process(tmp_path / "perf.parquet")
    assert len(mine) == len(theirs) == 2
    assert len(theirs[0]) > 100
    for one, other in zip(mine, theirs, strict=True):
        assert calls(one) == calls(other)
        # Which fault is whose is settled, but not when parent and child come to it.
        assert sorted(one, key=str) == sorted(other, key=str)


def calls(rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [row for row in rows if row[0] != "fault"]


def by_process(path: Path) -> list[list[tuple[Any, ...]]]:
    """What each process did, in order; without times and numbers that are another's in each run."""
    found = rows(path).with_columns(pl.col("source").cast(pl.String))
    columns = ["op", "addr", "len", "flags", "prot", "offset", "fd", "advice", "path"]
    faults = ["write", "source", "present"]
    return [
        found.filter(pl.col("pid") == pid).select(*columns, *faults).rows()
        for pid in found["pid"].unique(maintain_order=True)
    ]


def test_losses_are_told(
    arguments: list[str], compiled: Any, tmp_path: Path, tracefs: Path
) -> None:
    """A capture that stands still while its workload goes on loses what the buffer cannot take."""
    capture = subprocess.Popen(
        [
            *arguments,
            "--buffer",
            "1",
            "--",
            "bash",
            "-c",
            f"sleep 1; {compiled(FORKS, '-DCHILDREN=4000')}",
        ],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        end = time.monotonic() + 20
        while not ours(tracefs) and time.monotonic() < end:
            time.sleep(0.02)
        time.sleep(0.5)
        os.kill(capture.pid, signal.SIGSTOP)
        time.sleep(4)
        os.kill(capture.pid, signal.SIGCONT)
        _, said = capture.communicate(timeout=120)
    finally:
        capture.kill()
    assert capture.returncode == 1, said
    lost = read_trace(tmp_path / "x.parquet").metadata["lost"]
    assert lost > 1000
    assert f"{lost} lost" in said


def test_what_a_killed_capture_left_goes_with_the_next(
    arguments: list[str], tmp_path: Path, tracefs: Path
) -> None:
    capture = subprocess.Popen([*arguments, "--", "sleep", "60"], stderr=subprocess.DEVNULL)
    end = time.monotonic() + 20
    left: list[str] = []
    while not left and time.monotonic() < end:
        left = [name for name in ours(tracefs) if f"-{capture.pid}-" in name]
        time.sleep(0.05)
    assert left
    capture.kill()
    capture.wait()
    assert set(left) <= set(ours(tracefs))
    assert subprocess.run([*arguments, "--", "true"], check=False).returncode == 0
    assert not {*left} & {*ours(tracefs)}


def test_a_full_disk(
    arguments: list[str], cli_program: Path, tmp_path: Path, tracefs: Path
) -> None:
    small = tmp_path / "small"
    small.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(small)], check=False
    )
    if mounted.returncode != 0 or not shutil.which("umount"):
        pytest.skip("tmpfs cannot be mounted here")
    before = ours(tracefs)
    try:
        out = ["-o", str(small / "x.parquet")]
        done = subprocess.run(
            [*arguments[:-2], *out, "--", "bash", "-c", "for i in {1..500}; do (:); done"],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 2
        assert "No space left on device" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
        assert not list(small.iterdir())
        assert set(ours(tracefs)) <= set(before)
    finally:
        subprocess.run(["umount", str(small)], check=True)
