# SPDX-License-Identifier: GPL-2.0-only
"""The first walk in which models differ, and the trace that is left of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import rmapreplay as rr

CORPUS = Path(__file__).parents[2] / "traces" / "corpus"
HEAP, PAGE = 0x7F0000000000, 4096
AWAY = HEAP + 0x1000000


def at(op: str, pid: int, page: int = 0, **columns: Any) -> dict[str, Any]:
    return {"op": op, "pid": pid, "addr": HEAP + page * PAGE, **columns}


def write(pid: int, page: int) -> dict[str, Any]:
    return at("fault", pid, page, write=True, source="user")


def moved_home(idle: int) -> list[dict[str, Any]]:
    """A page that is exclusive and displaced is what cow-poc does not find; before it is moved, it
    does. Around that, faults and a process that have nothing to do with it."""
    return [
        at("mapping", 100, len=64 * PAGE, flags=0x22, prot=3, offset=0),
        at("mapping", 900, len=64 * PAGE, flags=0x22, prot=3, offset=0),
        *(write(pid, page) for page in range(1, idle) for pid in (100, 900)),
        write(100, 0),
        at("walk", 100, kind="unmap"),
        at("mremap", 100, len=PAGE, new_addr=AWAY, new_len=PAGE, flags=3),
        *(write(900, page) for page in range(idle, 2 * idle)),
        {"op": "walk", "pid": 100, "addr": AWAY, "kind": "unmap"},
    ]


@pytest.fixture
def moved(tmp_path: Path, write_rows: Callable[..., Path]) -> Path:
    return write_rows(tmp_path / "moved.parquet", moved_home(20))


def test_the_first_that_differs(moved: Path) -> None:
    rows = moved_home(20)
    found = rr.first_divergence(moved, ["anon_vma", "cow", "cow-poc"], walks="none")
    assert found is not None
    assert (found.reference, found.model) == ("anon_vma", "cow-poc")
    assert (found.seq, found.same, found.unaligned) == (len(rows) - 1, 1, 0)
    assert (found.pid, found.address, found.kind) == (100, AWAY, "unmap")
    assert found.numbers["anon_vma"]["hits"] == found.numbers["cow-poc"]["misses"] == 1
    assert list(found.rows) == list(range(len(rows) - 5, len(rows)))
    assert found.rows[found.seq]["op"] == "walk"
    assert found.explain == (
        f"rmapreplay explain {moved} --walk 1 --model cow-poc,anon_vma --walks none"
    )


def test_none(moved: Path) -> None:
    assert rr.first_divergence(moved, ["anon_vma", "cow"], walks="none") is None


def test_in_a_metric(moved: Path) -> None:
    """anon_vma takes the root's lock for the first walk already, cow takes none."""
    found = rr.first_divergence(moved, ["anon_vma", "cow"], "locks", walks="none")
    assert found is not None
    assert (found.same, found.numbers["anon_vma"]["locks"]) == (0, 1)


def test_arguments(moved: Path) -> None:
    with pytest.raises(rr.RmapReplayError, match="metric 'hits'.* found"):
        rr.first_divergence(moved, ["anon_vma", "cow"], "hits")
    with pytest.raises(rr.RmapReplayError, match="two models"):
        rr.first_divergence(moved, ["anon_vma"])


def test_what_is_left_is_what_it_takes(moved: Path, tmp_path: Path) -> None:
    """Memory, a write, the move; and the walk."""
    models = ["anon_vma", "cow-poc"]
    found = rr.first_divergence(moved, models, walks="none")
    assert found is not None
    shrunk = rr.shrink_divergence(moved, models, found)
    ops = [row["op"] for row in shrunk.trace.slice(0, 99).to_pylist()]
    assert ops == ["mapping", "fault", "mremap", "walk"]
    assert shrunk.rows_before == len(moved_home(20))
    assert shrunk.divergence.numbers["cow-poc"]["misses"] == 1

    written = shrunk.write(tmp_path / "out")
    for path in (written, written.with_suffix(".scn")):
        result = rr.replay(path, models, walks="none")
        assert result.summary["anomalies"] == {}
        assert [m["misses"] for m in result.summary["models"].values()] == [0, 1]
    with pytest.raises(rr.RmapReplayError, match="exists"):
        shrunk.write(tmp_path / "out")
    shrunk.write(tmp_path / "out", force=True)


@pytest.mark.parametrize(
    ("name", "models", "metric"),
    [
        ("redis", ["anon_vma", "cow-poc"], "found"),
        ("python", ["anon_vma", "cow-poc"], "found"),
        ("rmap", ["anon_vma", "cow"], "useless"),
    ],
)
def test_bundled_traces(name: str, models: list[str], metric: str) -> None:
    trace = CORPUS / f"{name}.parquet"
    found = rr.first_divergence(trace, models, metric)
    assert found is not None
    shrunk = rr.shrink_divergence(trace, models, found, seconds=20)
    assert shrunk.trace.rows <= 10
    assert rr.replay(shrunk.trace, models, walks="none").summary["anomalies"] == {}
    again = shrunk.divergence
    assert (again.kind, again.address, again.metric) == (found.kind, found.address, metric)


def test_of_a_page_that_faults_elsewhere_led_to(
    tmp_path: Path, write_rows: Callable[..., Path]
) -> None:
    """Only the fault on another page matters: the page walked is not where it was written."""
    rows = [
        at("mapping", 100, len=8 * PAGE, flags=0x22, prot=3, offset=0),
        *(write(100, page) for page in range(8)),
        at("mremap", 100, 0, len=8 * PAGE, new_addr=AWAY, new_len=8 * PAGE, flags=3),
    ]
    trace = write_rows(tmp_path / "away.parquet", rows)
    models = ["anon_vma", "cow-poc"]
    found = rr.first_divergence(trace, models, walks="end")
    assert found is not None
    shrunk = rr.shrink_divergence(trace, models, found)
    assert [row["op"] for row in shrunk.trace.slice(0, 99).to_pylist()] == [
        "mapping", "fault", "mremap", "walk",
    ]  # fmt: skip
    assert shrunk.trace.slice(1, 2)["addr"].to_pylist() == [HEAP]
