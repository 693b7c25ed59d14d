# SPDX-License-Identifier: GPL-2.0-only
"""Timelines of small traces, row by row; and how one is kept and opened."""

from __future__ import annotations

import gc
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import rmapreplay as rr

PAGE = 4096
HEAP = 0x7F0000000000
HEAP_PAGE = HEAP // PAGE
Rows = Callable[..., Path]


def mmap(pid: int, addr: int, pages: int) -> dict[str, Any]:
    return {"op": "mmap", "pid": pid, "addr": addr, "len": pages * PAGE, "flags": 0x22, "prot": 3}


def write(pid: int, page: int) -> dict[str, Any]:
    addr = HEAP + page * PAGE
    return {"op": "fault", "pid": pid, "addr": addr, "write": True, "source": "user"}


def fork(pid: int, child: int) -> dict[str, Any]:
    return {"op": "fork", "pid": pid, "flags": 0, "child": child, "child_tid": child}


FORKED = [
    {"op": "exec", "pid": 100, "path": "/usr/bin/a_name_that_is_too_long"},
    mmap(100, HEAP, 4),
    write(100, 0),
    write(100, 1),
    fork(100, 200),
    write(200, 0),
    {"op": "exit", "pid": 100},
]


@pytest.fixture
def forked(tmp_path: Path, write_rows: Rows) -> Path:
    return write_rows(tmp_path / "forked.parquet", FORKED)


def rows(table: pl.LazyFrame, *columns: str, **where: Any) -> list[tuple[Any, ...]]:
    named = [pl.col(name) == value for name, value in where.items()]
    return table.filter(*named).select(columns).sort(columns).collect().rows()


def test_address_spaces(forked: Path) -> None:
    history = rr.timeline(forked, "cow")
    mms = history.mms.with_columns(pl.col("how").cast(pl.String))
    assert rows(mms, "mm", "pid", "comm", "parent", "how", "born", "execed", "gone") == [
        (1, 100, "a_name_that_is_", None, "exec", 0, 0, 6),
        (2, 200, "a_name_that_is_", 1, "fork", 4, None, None),
    ]


@pytest.mark.parametrize("model", [model["name"] for model in rr.models()])
def test_a_page_that_is_shared_and_copied(forked: Path, model: str) -> None:
    history = rr.timeline(forked, model, walks="none", verify="all")
    heap = history.mappings.filter(pl.col("page") >= HEAP_PAGE, pl.col("page") < HEAP_PAGE + 4)
    first, second, copy = sorted(heap.select("folio").unique().collect()["folio"])
    assert rows(heap, "mm", "page", "folio", "pages", "from", "to") == [
        (1, HEAP_PAGE, first, 1, 2, 6),
        (1, HEAP_PAGE + 1, second, 1, 3, 6),
        (2, HEAP_PAGE, first, 1, 4, 5),
        (2, HEAP_PAGE, copy, 1, 5, None),
        (2, HEAP_PAGE + 1, second, 1, 4, None),
    ]
    exclusive = history.folios.sort("from").group_by("folio").agg("exclusive", "from").collect()
    of = {folio: list(zip(e, f, strict=True)) for folio, e, f in exclusive.rows()}
    # Exclusive until fork; the writer's copy from the beginning.
    assert of[first][0] == (True, 2)
    assert (False, 4) in of[first]
    assert of[copy][0] == (True, 5)


def test_a_split_says_what_it_was_made_of(tmp_path: Path, write_rows: Rows) -> None:
    protect = {"op": "mprotect", "pid": 100, "addr": HEAP + PAGE, "len": PAGE, "prot": 1}
    trace = write_rows(tmp_path / "split.parquet", [*FORKED[:3], protect])
    history = rr.timeline(trace, "anon_vma")
    spans = history.vma_spans.filter(pl.col("start") >= HEAP, pl.col("end") <= HEAP + 4 * PAGE)
    made = spans.with_columns(pl.col("op").cast(pl.String))
    (whole,) = rows(made, "vma", **{"from": 1})
    assert rows(made, "from", "start", "end", "faulted", "origin", "op", "to") == [
        (1, HEAP, HEAP + 4 * PAGE, False, None, "mmap", 2),
        (2, HEAP, HEAP + 4 * PAGE, True, None, "fault", 3),
        (3, HEAP, HEAP + PAGE, True, whole[0], "mprotect", None),
        (3, HEAP + PAGE, HEAP + 2 * PAGE, True, None, "mprotect", None),
        (3, HEAP + 2 * PAGE, HEAP + 4 * PAGE, True, whole[0], "mprotect", None),
    ]
    # All three are linked where the whole was, which was taken out and put back behind the others.
    linked = history.at("link_spans", 3).filter(pl.col("first") >= HEAP_PAGE).collect()
    linked = linked.filter(pl.col("first") < HEAP_PAGE + 4)
    assert linked["object"].n_unique() == 1
    assert linked.sort("first")["order"].arg_max() == 1


def test_displaced_memory(tmp_path: Path, write_rows: Rows) -> None:
    move = {
        "op": "mremap",
        "pid": 100,
        "addr": HEAP,
        "len": 2 * PAGE,
        "new_addr": HEAP + 64 * PAGE,
        "new_len": 2 * PAGE,
        "flags": 3,
    }
    unmap = {"op": "munmap", "pid": 100, "addr": HEAP + 64 * PAGE, "len": 2 * PAGE}
    trace = write_rows(tmp_path / "moved.parquet", [*FORKED[:4], move, unmap])
    history = rr.timeline(trace, "cow")
    assert rows(history.remap_spans, "mm", "first", "last", "displacement", "from", "to") == [
        (1, HEAP_PAGE, HEAP_PAGE + 1, 64, 4, 5)
    ]
    (context,) = rows(history.remap_spans, "context")
    assert context in rows(history.folios, "home", home_mm=1)


def test_what_happens_after_the_last_row(tmp_path: Path, write_rows: Rows) -> None:
    """The end of an address space whose rows are missing, and walks at the end: in a row of their
    own, so that walks at the last row still see what was there."""
    trace = write_rows(tmp_path / "cut.parquet", FORKED, teardown=["exit_mmap"])
    history = rr.timeline(trace, "anon_vma", walks="every:7,kind=all")
    last = len(FORKED) - 1
    assert rows(history.mms, "mm", "gone") == [(1, last + 1), (2, None)]
    assert history.walks.select("seq").unique().collect()["seq"].to_list() == [last]
    at_end = rr.timeline(trace, "anon_vma", walks="end")
    assert at_end.walks.select("seq").unique().collect()["seq"].to_list() == [last + 1]


def test_the_tables_go_with_the_object(forked: Path) -> None:
    history = rr.timeline(forked, "cow")
    directory = history.directory
    assert directory.exists()
    del history
    gc.collect()
    assert not directory.exists()


def test_written_and_read_again(forked: Path, tmp_path: Path) -> None:
    out = tmp_path / "history"
    written = rr.timeline(forked, "cow:kernel=6.18", walks="end", out=out)
    again = rr.read_timeline(out)
    assert again.metadata == written.metadata
    assert again.metadata["model"] == "cow:kernel=6.18"
    assert again.metadata["kernel"] == "6.18"
    assert again.metadata["walk_policy"] == "end"
    assert again.metadata["trace"]["path"] == str(forked)
    for table, count in again.metadata["tables"].items():
        assert again.table(table).select(pl.len()).collect().item() == count
    with pytest.raises(rr.RmapReplayError, match="exists"):
        rr.timeline(forked, "cow", out=out)
    rr.timeline(forked, "anon_vma", out=out, force=True)
    assert rr.read_timeline(out).metadata["model"] == "anon_vma"
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_what_is_no_timeline(tmp_path: Path, forked: Path) -> None:
    with pytest.raises(rr.RmapReplayError, match="not a timeline"):
        rr.read_timeline(tmp_path)
    history = rr.timeline(forked, "cow", out=tmp_path / "history")
    with pytest.raises(ValueError, match="no table vmas"):
        history.table("vmas")
    path = history.directory / "timeline.json"
    path.write_text(json.dumps({**history.metadata, "schema_version": 2}))
    with pytest.raises(rr.RmapReplayError, match="newer than this program's"):
        rr.read_timeline(history.directory)
    path.write_text("[")
    with pytest.raises(rr.RmapReplayError, match="cannot be read"):
        rr.read_timeline(history.directory)


def test_a_replay_that_has_begun_has_no_timeline(forked: Path) -> None:
    from rmapreplay.replay.engine import ModelRun
    from rmapreplay.replay.specs import ModelSpec

    trace = rr.read_trace(forked)
    run = ModelRun(ModelSpec.parse("cow"), trace, "none", False, None)
    for batch in trace.batches():
        run.feed(batch)
    with pytest.raises(ValueError, match="has begun"):
        run.native.record_timeline(print)
