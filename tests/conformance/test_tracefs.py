# SPDX-License-Identifier: GPL-2.0-only
"""A piece of a tracefs recording through the importer, counted again line by line in Python.

tests/data/scen1: the first scenario of the `scen` recording (Linux 7.3.4 in QEMU): A writes four
pages at X and forks B, B maps anew at X, B exits; all folios are walked at each step."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import polars as pl
import pytest

import rmapreplay as rr
from rmapreplay.traces.importers import ImportOptions, detect, import_capture
from rmapreplay.traces.importers.base import read_chunks
from rmapreplay.traces.truth import Truth, read_truth, truth_path

DATA = Path(__file__).parents[1] / "data"
SOURCE = DATA / "scen1.trace.txt.zst"
ARCHIVE = DATA / "scen1.aux.tar.zst"
START = 4748  # when the launcher begins with the scenario
X, PAGES, PAGE = 0x700000000000, 4, 4096

_LINE = re.compile(r"^.{16}-(\d+) +\[\d+\] \S+ +(\d+): (\w+)(.*)$")
_CALLBACKS = {"v_migr": "migrate", "v_rmig": "all"}

Event = tuple[int, int, str, dict[str, str]]
Cli = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def trace(tmp_path_factory: pytest.TempPathFactory) -> rr.Trace:
    out = tmp_path_factory.mktemp("tracefs") / "scen1.parquet"
    import_capture(SOURCE, out, options=ImportOptions(truth=(ARCHIVE,), thp="never"))
    return rr.read_trace(out)


@pytest.fixture(scope="module")
def truth(trace: rr.Trace) -> Truth:
    assert trace.path
    return read_truth(trace.path)


@pytest.fixture(scope="module")
def events() -> list[Event]:
    """tid, time, name and fields of every line."""

    def parse() -> Iterator[Event]:
        for line in b"".join(read_chunks(SOURCE)).decode().splitlines():
            if match := _LINE.match(line):
                pairs = (word.split("=", 1) for word in match[4].split() if "=" in word)
                yield int(match[1]), int(match[2]), match[3], dict(pairs)

    return list(parse())


def test_it_is_recognized() -> None:
    assert detect(SOURCE).name == "tracefs"
    assert detect(DATA / "nginx.core.txt.zst").name == "perf"
    assert detect(DATA / "forks.strace.txt.zst").name == "strace"


def test_walks_and_visits_are_the_recorded_ones(
    trace: rr.Trace, truth: Truth, events: list[Event]
) -> None:
    walks: list[tuple[int, str]] = []
    visits: list[tuple[int, int, int, int]] = []  # walk, start, end, found
    begun = 0
    for _, time, name, fields in events:
        if name == "walk":
            begun = time
        elif name in _CALLBACKS:
            if not walks or walks[-1][0] != begun:
                walks.append((begun, _CALLBACKS[name]))
            span = int(fields["start"], 16), int(fields["end"], 16)
            visits.append((len(walks) - 1, *span, 0))
        elif name == "pvmw" and fields["ret"] == "1":
            walk, start, end, found = visits[-1]
            visits[-1] = walk, start, end, found + 1
    assert len(walks) == 118
    rows = trace.frame().filter(pl.col("op") == "walk")
    assert rows.select("time", pl.col("kind").cast(pl.String)).rows() == walks
    assert truth.visits.select("walk", "start", "end", "found").rows() == visits
    assert truth.visits["walk"].n_unique() == len(walks)


def test_a_walk_names_a_mapping_it_found(trace: rr.Trace, truth: Truth) -> None:
    walks = trace.frame().filter(pl.col("op") == "walk").with_row_index("walk")
    found = truth.visits.filter(pl.col("found") > 0).group_by("walk").first()
    both = walks.join(found, on="walk", suffix="_visit")
    assert both.height == walks.height
    assert both.filter(
        (pl.col("pid") != pl.col("pid_visit"))
        | ~pl.col("addr").is_between(pl.col("start"), pl.col("end"), closed="left")
    ).is_empty()


def test_every_object_ends_and_every_link_was_where_it_says(
    truth: Truth, events: list[Event]
) -> None:
    counts = Counter(truth.objects.select("object", "action").rows())
    for kind in ("vm_area_struct", "anon_vma", "anon_vma_chain"):
        assert counts[kind, "alloc"] == counts[kind, "free"] > 0
    # The workload's address spaces: what 116 execs and what it forks.
    mms = {
        fields["mm"]
        for tid, time, name, fields in events
        if tid == 116 and name in ("mm_exec", "mm_dup") and time > START
    }
    inserts = [
        fields
        for _, time, name, fields in events
        if name == "avc_ins" and time > START and fields["mm"] in mms
    ]
    assert counts["anon_vma_chain", "insert"] == len(inserts) > 0
    links = truth.objects.filter(pl.col("object") == "anon_vma_chain")
    assert counts["anon_vma_chain", "insert"] == counts["anon_vma_chain", "remove"]
    assert links.filter(pl.any_horizontal(pl.col("pid", "vma", "anon_vma").is_null())).is_empty()
    assert set(truth.objects["pid"].drop_nulls()) == {116, 117}


def test_dropped_are_the_launcher_and_what_explains_itself(trace: rr.Trace) -> None:
    assert trace.metadata["kernel"] == "7.3.4+deb13-cloud-amd64"
    assert trace.metadata["lost"] == 0
    assert trace.metadata["unmatched"] == {"enters": 0, "exits": 0}
    assert trace.metadata["processes_alive"] == 0
    assert set(trace.metadata["dropped"]) == {
        *("other_process", "before_first_exec", "exec_stack_gup"),
        *("fault_retry", "mapping_of_unplaced_stack"),
    }


def test_snapshots_and_bursts(truth: Truth) -> None:
    assert truth.bursts["label"].to_list() == ["s1:afterfork", "s1:B-remapped", "s1:B-gone"]
    assert truth.snapshots.group_by("burst", maintain_order=True).agg(
        pl.col("pid").unique().sort()
    ).rows() == [(100, [116, 117]), (101, [116, 117]), (102, [116])]
    times = dict(truth.bursts.select("burst", "time").rows())
    assert set(truth.snapshots.select("burst", "time").rows()) == set(times.items())


def test_the_walks_of_x_are_those_of_the_scenario(trace: rr.Trace, truth: Truth) -> None:
    described = {}
    walks = trace.frame().filter(pl.col("op") == "walk").with_row_index("walk")
    for begin, end, label in truth.bursts.select("time", "end_time", "label").iter_rows():
        of_x = walks.filter(
            pl.col("time").is_between(begin, end),
            pl.col("kind") == "all",
            pl.col("addr").is_between(X, X + PAGES * PAGE, closed="left"),
        )
        seen = of_x.select("walk", "addr").join(truth.visits, on="walk").sort("walk", "visit")
        described[label] = Counter(
            " ".join(f"{pid}{'+' if found else '-'}" for pid, found in walk["pid", "found"].rows())
            for walk in seen.partition_by("walk")
        )
    assert described == {
        "s1:afterfork": {"116+ 117+": PAGES},
        "s1:B-remapped": {"116+": PAGES, "117+": PAGES},
        "s1:B-gone": {"116+": PAGES},
    }


def test_the_kernel_s_vmas_are_the_replay_s(trace: rr.Trace, truth: Truth) -> None:
    """All anonymous VMAs of the snapshots that a walk of their burst visited."""
    result = rr.replay(trace, ["anon_vma"], walks="none", visits=True)
    got = set(result.visits.select("walk", "visit", "pid", "start", "end").rows())
    assert got == set(truth.visits.select("walk", "visit", "pid", "start", "end").rows())
    mapped = set(truth.snapshots.select("pid", "start", "end").rows())
    assert {row[2:] for row in got} <= mapped


def test_cli(tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "scen1.parquet"
    done = cli("import", SOURCE, "-o", out, "--truth", ARCHIVE, "--thp", "never")
    assert (done.returncode, done.stdout) == (0, "")
    assert "not used: " in done.stderr
    assert truth_path(out).exists()
    again = cli(
        "import", DATA / "nginx.core.txt.zst", "-o", tmp_path / "n.parquet", "--truth", ARCHIVE
    )
    assert again.returncode == 2
    assert again.stderr.count("\n") == 1
    assert "scen1.aux.tar.zst: maps.100.txt: the trace has no burst 100" in again.stderr
    assert not (tmp_path / "n.parquet").exists()
