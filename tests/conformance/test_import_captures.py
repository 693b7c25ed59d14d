# SPDX-License-Identifier: GPL-2.0-only
"""Real captures through the importers, and the bundled traces made from them."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

from rmapreplay import read_trace
from rmapreplay.traces.importers import ImportOptions, import_capture
from rmapreplay.traces.info import trace_info
from rmapreplay.traces.truth import read_truth, truth_path

DATA = Path(__file__).parents[1] / "data"
CORPUS = Path(__file__).parents[2] / "traces" / "corpus"
CAPTURES = ("redis", "nginx", "pymp", "sng_rmap")
RECORDINGS = ("scen", "forky", "bash", "rmap", "merge", "python")
BUNDLED = (*CAPTURES, *RECORDINGS)


def test_perf_capture_of_nginx(tmp_path: Path) -> None:
    out = tmp_path / "nginx.parquet"
    options = ImportOptions(truth=(DATA / "nginx.kmem.txt.zst",))
    metadata = import_capture(DATA / "nginx.core.txt.zst", out, options=options)
    assert metadata["lines"] == 6568
    assert metadata["lost"] == 0
    assert metadata["unmatched"] == {"enters": 0, "exits": 0}
    assert metadata["processes_alive"] == 0
    # The launcher's own events, a prctl this kernel lacks, and perf's records of the launcher.
    assert metadata["dropped"] == {
        "before_first_exec": 2,
        "failed_prctl_EINVAL": 24,
        "fault_of_signal_frame": 2,
        "sideband_of_unknown_process": 45,
    }
    info = trace_info(read_trace(out))
    assert info["processes"] == 14
    assert info["forks"] == {"fork": 13, "vfork": 0, "thread": 0}
    # All of the capture's, but the launcher's last and those that a signal's frame repeats.
    assert info["ops"]["fault"] == 4374 + 103 - 1 - 2
    assert read_trace(out).frame().equals(read_trace(CORPUS / "nginx.parquet").frame())
    bundled, made = read_truth(CORPUS / "nginx.parquet"), read_truth(out)
    assert made.allocations.equals(bundled.allocations)
    assert made.mapped.equals(bundled.mapped)


@pytest.mark.parametrize("name", BUNDLED)
def test_each_report_belongs_to_a_row_that_made_it(name: str) -> None:
    """Of its time and task. mmap and a fault report the VMA at their address; brk's address is the
    end of its VMA, and mprotect reports all VMAs of its range."""
    trace, truth = read_trace(CORPUS / f"{name}.parquet"), read_truth(CORPUS / f"{name}.parquet")
    mapped = truth.mapped.with_row_index("report")
    rows = trace.frame().filter(pl.col("op").is_in(["mmap", "mprotect", "brk", "fault"]))
    causes = mapped.join(rows, on=["time", "pid", "tid"]).unique("report", keep="first")
    assert causes.height == mapped.height > 10
    assert mapped["time"].is_sorted()
    inside = pl.col("addr").is_between(pl.col("start"), pl.col("end"), closed="left")
    assert causes.filter(pl.col("op").is_in(["mmap", "fault"]), ~inside).is_empty()


# Rows that are not of parts.
WHOLE = ~pl.col("op").is_in(["dup_mmap", "free_pgtables"]) | pl.col("addr").is_null()


@pytest.mark.parametrize("name", BUNDLED)
def test_every_address_space_ends(name: str) -> None:
    """As many as were made: one by each fork that copies, one by each exec."""
    trace = read_trace(CORPUS / f"{name}.parquet")
    frame = trace.frame().filter(WHOLE)
    ops = dict(frame["op"].cast(pl.String).value_counts().rows())
    kinds = ["unmap_vmas", "free_pgtables", "exit_mmap"] if name in RECORDINGS else ["exit_mmap"]
    assert trace.metadata["teardown"] == kinds
    assert trace.metadata["processes_alive"] == 0
    forks = trace_info(trace)["forks"]
    for op in kinds:
        assert ops[op] == forks["fork"] + ops["exec"]
    if name not in RECORDINGS:
        return
    assert ops["dup_mmap"] == forks["fork"]
    # Each goes through the three steps, and the fork of a copy follows it.
    for _, steps in frame.filter(pl.col("op").is_in(kinds)).group_by("pid", maintain_order=True):
        assert steps["op"].to_list() == kinds * (steps.height // 3)
    forked = frame.filter(
        (pl.col("op") == "dup_mmap") | ((pl.col("op") == "fork") & (pl.col("flags") & 0x100 == 0))
    )
    for _, steps in forked.group_by("tid", maintain_order=True):
        assert steps["op"].to_list() == ["dup_mmap", "fork"] * (steps.height // 2)


def test_every_exec_maps_an_image_and_trims_it(tmp_path: Path) -> None:
    frame = read_trace(CORPUS / "nginx.parquet").frame()
    execs = frame.filter(pl.col("op") == "exec").height
    mappings = frame.filter(pl.col("op") == "mapping")
    for name in ("[stack]", "[vdso]", "[vvar]"):
        assert mappings.filter(pl.col("path") == name).height == execs
    # An image is trimmed where its second segment begins: the program's and its interpreter's.
    previous = frame.with_columns(before=pl.col("op").cast(pl.String).shift())
    trimmed = previous.filter((pl.col("op") == "mapping") & (pl.col("before") == "munmap"))
    assert trimmed.height == 2 * execs


def test_strace_sample(tmp_path: Path) -> None:
    out = tmp_path / "forks.parquet"
    metadata = import_capture(DATA / "forks.strace.txt.zst", out)
    assert metadata["lines"] == 400
    assert metadata["dropped"] == {"mappings_of_exec": 12}
    info = trace_info(read_trace(out))
    assert info["forks"] == {"fork": 17, "vfork": 0, "thread": 0}
    assert info["ops"]["mmap"] == metadata["events"]["mmap"] == 210


@pytest.mark.parametrize("name", RECORDINGS)
def test_rows_of_copies_and_ends_stand_where_the_kernel_s_objects_came_and_went(name: str) -> None:
    rows = read_trace(CORPUS / f"{name}.parquet").frame().filter(WHOLE)
    objects = read_truth(CORPUS / f"{name}.parquet").objects.filter(pl.col("mm").is_not_null())
    ends = rows.filter(pl.col("op") == "exit_mmap")["time"]
    vmas = objects.filter(pl.col("object") == "vm_area_struct")
    last = vmas.filter(pl.col("action") == "free").group_by("mm").agg(pl.col("time").max())
    assert last["time"].sort().to_list() == ends.to_list()
    # Links go between the beginning of the end and the row of free_pgtables, then the VMAs.
    for _, steps in rows.filter(
        pl.col("op").is_in(["unmap_vmas", "free_pgtables", "exit_mmap"])
    ).group_by("pid", maintain_order=True):
        of_pid = objects.filter(pl.col("pid") == steps["pid"][0], pl.col("action") == "free")
        thirds = (steps["time"].gather_every(3, offset) for offset in range(3))
        for begin, unlink, end in zip(*thirds, strict=True):
            during = of_pid.filter(pl.col("time").is_between(begin, end, closed="right"))
            assert during.height > 0
            by_then = during.filter(pl.col("time") < unlink)
            assert "vm_area_struct" not in by_then["object"]
            assert "anon_vma_chain" not in during.filter(pl.col("time") > unlink)["object"]
    # A child's first VMAs were there when its copy was done.
    forks = rows.filter((pl.col("op") == "fork") & (pl.col("flags") & 0x100 == 0))
    dups = rows.filter(pl.col("op") == "dup_mmap").select("time", "tid").sort("time")
    copies = forks.sort("time").join_asof(
        dups, on="time", by="tid", coalesce=False, check_sortedness=False
    )
    made = vmas.filter(pl.col("action") == "alloc")
    for child, copied, forked in copies.select("child", "time_right", "time").iter_rows():
        born = made.filter(pl.col("pid") == child, pl.col("time") < forked)["time"]
        last_born = born.max()
        assert isinstance(last_born, int)
        assert last_born < copied < forked


@pytest.mark.parametrize("name", BUNDLED)
def test_bundled_trace(name: str) -> None:
    path = CORPUS / f"{name}.parquet"
    info = trace_info(read_trace(path))
    metadata = info["metadata"]
    assert info["rows"] == metadata["rows"] > 1000
    assert metadata["lost"] == 0
    assert metadata["kernel"]
    assert metadata["thp"]["enabled"] in ("madvise", "never")
    row = next(r for r in (CORPUS / "README.md").read_text().splitlines() if f"| {name} |" in r)
    truth = truth_path(path)
    assert row.endswith(f"| {path.stat().st_size} | {truth.stat().st_size} |")
    assert f"| {info['rows']} |" in row


def test_bundled_traces_are_small() -> None:
    files = list(CORPUS.glob("*.parquet"))
    assert len(files) == 2 * len(BUNDLED)
    assert sum(file.stat().st_size for file in files) < 10 << 20
