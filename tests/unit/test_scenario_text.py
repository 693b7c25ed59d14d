# SPDX-License-Identifier: GPL-2.0-only
"""Any trace as scenario text: what is read back makes the same rows, and so the same replay."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

import rmapreplay as rr
from rmapreplay.testing.rows import RowsTrace, canonical
from rmapreplay.testing.scenarios import conformance_cases
from rmapreplay.traces.scenarios import parse, to_text
from rmapreplay.traces.schema import FILE_SCHEMA

ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "traces" / "corpus"
TRUTH = ROOT / "tests" / "data" / "kernel-truth" / "7.3.4"
RECORDINGS = {
    "scen": CORPUS / "scen.parquet",  # exec, walks, mremap
    "merge": CORPUS / "merge.parquet",
    "nginx": CORPUS / "nginx.parquet",  # threads, files
    "mthp": TRUTH / "mthp.parquet",  # orders
    "swap": TRUTH / "swap.parquet",
}
ALL = conformance_cases()
MODELS = [
    "anon_vma", "cow", "cow-poc", "pte_chain", "anonmm", "anon_vma_global", "anon_vma_lazy",
]  # fmt: skip


def without_times(trace: rr.Trace) -> pl.DataFrame:
    return trace.frame().drop("time").with_columns(pl.col(pl.Categorical).cast(pl.String))


@pytest.mark.parametrize("name", RECORDINGS)
def test_a_recording_comes_back_row_by_row(name: str) -> None:
    trace = rr.read_trace(RECORDINGS[name])
    text = to_text(trace)
    back = parse(text).trace()
    assert without_times(back).equals(without_times(trace))
    for key in ("kernel", "thp", "stack_limit", "teardown", "fault_orders"):
        assert back.metadata.get(key) == trace.metadata.get(key)
    assert text.count(" raw ") < back.rows / 5  # most has words


def test_times_come_back_if_asked_for() -> None:
    trace = rr.read_trace(RECORDINGS["scen"])
    assert parse(to_text(trace, times=True)).trace().frame()["time"].equals(trace.frame()["time"])


@pytest.mark.parametrize("case", ALL, ids=lambda case: case.name)
def test_what_is_made_up_replays_the_same(case: Any) -> None:
    """The traces that `check-model` and its shrinking make."""
    kernel = case.kernels[0]
    rows, metadata = case.rows(kernel)
    rows = [row if row["op"] != "walk" else {**row, "kind": "all"} for row in rows]
    text = to_text(rows, metadata, about=case.about)
    scenario = parse(text)
    assert scenario.about == " ".join(case.about.split())
    whole = [{**row, "tid": row.get("tid", row["pid"])} for row in rows]
    wanted = canonical([{"time": 0, **row} for row in whole])
    [got] = scenario.trace().batches(1 << 20)
    for field in wanted.schema:
        if field.name != "time":
            assert got[field.name].equals(wanted[field.name]), field.name


def test_the_same_replay_under_every_model() -> None:
    cases = [case for case in ALL if case.name.startswith(("question", "mremap", "swap"))]
    for case in cases[::3]:
        rows, metadata = case.rows("7.3")
        whole = [{"tid": row["pid"], **row, "time": 1000 * i} for i, row in enumerate(rows)]
        before = rr.replay(RowsTrace(whole, metadata), MODELS, walks="every:1,kind=all")
        after = rr.replay(parse(to_text(rows, metadata)).trace(), MODELS, walks="every:1,kind=all")
        for table in ("walks", "operations", "misses", "memory"):
            assert getattr(before, table).equals(getattr(after, table)), (case.name, table)


def test_what_there_are_no_words_for() -> None:
    rows = [
        {"op": "exec", "pid": 7, "path": "/bin/a \"b\" #c"},
        {"op": "munmap", "pid": 7, "addr": 0x1001, "len": 1},
        {"op": "mmap", "pid": 7, "addr": 0, "len": 4096, "prot": 0x1000003, "flags": 0x40026,
         "error": 12},
        {"op": "fault", "pid": 7, "tid": 9, "addr": 0x5000, "write": False, "source": "gup",
         "present": True, "order": 0},
        {"op": "fork", "pid": 7, "tid": 9, "flags": 0x10100, "child": 7, "child_tid": 11},
        {"op": "mremap", "pid": 7, "addr": 0x5000, "len": 0, "new_addr": 0x9000, "new_len": 4096,
         "flags": 1},
        {"op": "prctl", "pid": 7, "flags": 67, "addr": 1},
        {"op": "mlockall", "pid": 7, "flags": 9},
        {"op": "exit_mmap", "pid": 7},
    ]  # fmt: skip
    text = to_text(rows, {"kernel": None, "thp": {"enabled": None, "use_zero_page": None}})
    trace = parse(text).trace()
    back = [
        {name: value for name, value in row.items() if value is not None and name != "time"}
        for row in trace.frame().iter_rows(named=True)
    ]
    assert back == [{"tid": row["pid"], **row} for row in rows]
    assert trace.metadata["kernel"] is None
    assert trace.metadata["thp"] == {"enabled": None, "use_zero_page": None}
    assert set(FILE_SCHEMA.names) >= set(back[0])
