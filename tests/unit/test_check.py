# SPDX-License-Identifier: GPL-2.0-only
"""rr.check: what is exact shows as exact, and every kind of difference is found and named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pyarrow as pa
import pytest

import rmapreplay as rr
from rmapreplay.replay.check.walks import Walk, categorise, categorise_finds
from rmapreplay.traces.truth import KIND_COLUMNS, TruthWriter, read_truth

CORPUS = Path(__file__).parents[2] / "traces" / "corpus"
PAGE = 4096
A, B, C = (1, 0x1000, 0x3000), (2, 0x1000, 0x3000), (2, 0x8000, 0x9000)

Doctor = Callable[[str, Callable[[pl.DataFrame], pl.DataFrame]], Path]


# ---- categories ----


def walk(
    *visits: tuple[tuple[int, int, int], int], stopped: bool = False, indices: Any = ()
) -> Walk:
    return Walk([(*vma, hits) for vma, hits in visits], stopped, list(indices) or [0] * len(visits))


@pytest.mark.parametrize(
    ("kernel", "model", "category"),
    [
        (walk((A, 1), (B, 0)), walk((A, 1), (B, 0)), "exact"),
        (walk(), walk(), "exact"),
        (walk((A, 1), (B, 0)), walk((B, 0), (A, 1)), "tie"),
        # The offsets say which comes first.
        (walk((A, 1), (B, 0)), walk((B, 0), (A, 1), indices=[0, 1]), "wrong"),
        # Within one process the order is no matter of chance.
        (walk((B, 1), (C, 0)), walk((C, 0), (B, 1)), "wrong"),
        (walk((A, 1), (B, 0)), walk((A, 1), (B, 1)), "wrong"),
        (walk((A, 1), (B, 0)), walk((A, 1)), "wrong"),
        (walk((A, 1), stopped=True), walk((A, 1), (B, 0)), "prefix_kernel"),
        (walk((A, 1), stopped=True), walk((A, 1), (B, 0), stopped=True), "prefix_kernel"),
        (walk((A, 1), stopped=True), walk((A, 1)), "prefix_kernel"),
        (walk((A, 1), (B, 0)), walk((A, 1), stopped=True), "prefix_model"),
        (walk((A, 1)), walk((A, 1), stopped=True), "prefix_model"),
        (walk((A, 0), stopped=True), walk((A, 1), (B, 0)), "wrong"),
        (walk((B, 1), stopped=True), walk((A, 1), (B, 1)), "wrong"),
    ],
)  # fmt: skip
def test_categories(kernel: Walk, model: Walk, category: str) -> None:
    assert categorise(kernel, model) == category


@pytest.mark.parametrize(
    ("kernel", "model", "category"),
    [
        (walk((A, 1), (B, 0)), walk((A, 1)), "exact"),
        (walk((B, 1), (C, 1)), walk((C, 2)), "exact"),
        (walk((A, 1)), walk((A, 1), (B, 1)), "wrong"),
        (walk((A, 1), stopped=True), walk((A, 1), (B, 1)), "prefix_kernel"),
        (walk((A, 1), (B, 1)), walk((A, 1), stopped=True), "prefix_model"),
        (walk((A, 1), stopped=True), walk((B, 1)), "wrong"),
    ],
)  # fmt: skip
def test_categories_by_what_was_found(kernel: Walk, model: Walk, category: str) -> None:
    assert categorise_finds(kernel, model) == category


# ---- an answer key as it should be ----


def test_exact() -> None:
    check = rr.check(CORPUS / "forky.parquet")
    summary = check.summary
    assert check.exact
    assert check.disagreements == []
    assert summary["first_disagreement"] is None
    assert summary["kernel"] == "7.3"
    assert summary["walks"]["recorded"] == summary["walks"]["exact"] == 1280
    assert summary["objects"]["anon_vma"]["expected"] == 106
    assert summary["objects"]["anon_vma_chain"]["inserts"] == {"expected": 611, "got": 611}
    assert summary["links"] == {"moments": 5, "equal": 5}
    assert (summary["vmas"]["snapshots"], summary["vmas"]["equal"]) == (40, 40)
    assert [moment["row"] for moment in summary["moments"]][-1] == summary["events"]
    assert summary["moments"][0]["live"]["anon_vma"]["got"] > 90
    assert check.walks["category"].unique().to_list() == ["exact"]


def test_slab_allocations_are_compared_by_site() -> None:
    objects = rr.check(CORPUS / "nginx.parquet").summary["objects"]
    for kind in objects.values():
        assert kind["expected"] == kind["got"] == kind["freed"]["got"]
        assert kind["sites"].items()
        assert sum(site["expected"] for site in kind["sites"].values()) == kind["expected"]
    assert objects["anon_vma_chain"]["sites"]["anon_vma_clone"] == {"expected": 365, "got": 365}


def test_the_result_depends_on_no_batch_size() -> None:
    checks = [rr.check(CORPUS / "forky.parquet", batch_size=n) for n in (7, 1 << 16)]
    assert checks[0].summary == checks[1].summary
    assert checks[0].walks.equals(checks[1].walks)


def test_another_model_is_compared_by_what_it_finds(doctored: Doctor) -> None:
    summary = rr.check(CORPUS / "forky.parquet", model="cow").summary
    assert summary["exact"]
    assert summary["walks"]["exact"] == 1280
    assert summary["objects"] == {}
    assert (summary["links"]["moments"], summary["vmas"]["snapshots"]) == (0, 0)

    def lose_a_find(truth: pl.DataFrame) -> pl.DataFrame:
        return truth.with_columns(found=pl.when(pl.col("walk") == 101).then(0).otherwise("found"))

    summary = rr.check(doctored("forky", lose_a_find), model="cow").summary
    assert summary["walks"]["wrong"] == 1
    assert summary["first_disagreement"]["text"].startswith("walk 101 ")


# ---- walks ----


def visits_of(truth: pl.DataFrame, number: int) -> tuple[pl.DataFrame, pl.DataFrame]:
    """The visits of a walk, and all other rows."""
    here = (pl.col("kind") == "visit") & (pl.col("walk") == number)
    return truth.filter(here), truth.filter(~here | pl.col("walk").is_null())


def walk_row(trace: Path, number: int) -> int:
    rows = rr.read_trace(trace).frame().with_row_index("row").filter(pl.col("op") == "walk")
    return int(rows["row"][number])


def numbered(truth: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([others, truth.with_columns(visit=pl.int_range(pl.len(), dtype=pl.UInt32))])


def test_visits_swapped_between_processes_are_a_tie(doctored: Doctor) -> None:
    def swap(truth: pl.DataFrame) -> pl.DataFrame:
        visits, others = visits_of(truth, 101)
        assert visits["start"].n_unique() == 1 < visits["pid"].n_unique()
        return numbered(visits.reverse(), others)

    check = rr.check(doctored("forky", swap))
    assert check.summary["walks"]["tie"] == 1
    assert check.summary["walks"]["exact"] == 1279
    assert check.exact
    assert check.walks.filter(pl.col("category") == "tie")["walk"].to_list() == [101]


def test_a_visit_too_many_is_wrong_and_named(doctored: Doctor) -> None:
    dropped: list[Any] = []

    def drop(truth: pl.DataFrame) -> pl.DataFrame:
        visits, others = visits_of(truth, 101)
        dropped.append(visits.row(2, named=True))
        return numbered(visits.filter(pl.col("visit") != 2), others)

    trace = doctored("forky", drop)
    check = rr.check(trace)
    first = check.summary["first_disagreement"]
    assert not check.exact
    assert check.summary["walks"]["wrong"] == 1
    assert (first["what"], first["category"]) == ("walk", "wrong")
    assert first["row"] == walk_row(trace, 101)
    assert first["event"]["op"] == "walk"
    extra = [item for item in first["got"] if item not in first["expected"]]
    assert [(item["pid"], item["start"]) for item in extra] == [
        (dropped[0]["pid"], dropped[0]["start"])
    ]
    assert any(item["start"] <= first["address"] < item["end"] for item in first["vmas"]["got"])
    assert {"start", "end"} <= set(first["vmas"]["expected"][0])
    assert 0 < len(first["operations"]) <= 10
    assert all(row["row"] <= first["row"] for row in first["operations"])


def test_the_first_in_order_of_the_trace_is_named(doctored: Doctor) -> None:
    def lose_finds(truth: pl.DataFrame) -> pl.DataFrame:
        lost = pl.col("walk").is_in([300, 200])
        return truth.with_columns(found=pl.when(lost).then(7).otherwise("found"))

    check = rr.check(doctored("forky", lose_finds))
    assert [found.text.split(" ")[1] for found in check.disagreements] == ["200", "300"]
    assert check.summary["first_disagreement"]["text"].startswith("walk 200 ")


def test_walks_that_the_kernel_ended_early_agree(doctored: Doctor) -> None:
    def cut(truth: pl.DataFrame) -> pl.DataFrame:
        visits, others = visits_of(truth, 101)
        kept = visits.head(3).with_columns(stopped=pl.col("visit") == 2)
        return numbered(kept, others)

    check = rr.check(doctored("forky", cut))
    assert check.summary["walks"]["prefix"] == check.summary["walks"]["prefix_kernel"] == 1
    assert check.exact


def test_walks_that_the_model_ends_early_do_not(doctored: Doctor) -> None:
    stopped = read_truth(CORPUS / "forky.parquet").visits.filter("stopped")
    number = int(stopped["walk"][0])

    def go_on(truth: pl.DataFrame) -> pl.DataFrame:
        visits, others = visits_of(truth, number)
        more = visits.tail(1).with_columns(end=pl.col("end") + PAGE, found=pl.lit(0, pl.UInt32))
        longer = pl.concat([visits, more]).with_columns(stopped=pl.lit(False))
        return numbered(longer, others)

    check = rr.check(doctored("forky", go_on))
    assert check.summary["walks"]["prefix_model"] == 1
    assert not check.exact
    assert check.summary["first_disagreement"]["category"] == "prefix_model"


def test_a_walk_of_a_folio_that_the_model_does_not_have(
    write_rows: Callable[..., Path], tmp_path: Path
) -> None:
    trace = write_rows(tmp_path / "t.parquet", [*exec_and_map(), {"op": "walk", "pid": 1,
                       "addr": HEAP, "kind": "all"}])  # fmt: skip
    visit = {"time": 2000, "walk": 0, "visit": 0, "pid": 1, "start": HEAP, "end": HEAP + PAGE,
             "found": 1, "stopped": False}  # fmt: skip
    write_truth(trace, "visit", [visit])
    summary = rr.check(trace).summary
    assert summary["walks"]["wrong"] == summary["walks"]["not_replayed"] == 1
    assert summary["anomalies"] == {"walk_no_folio": 1}
    assert summary["first_disagreement"]["category"] == "not_replayed"


def forked_walk(write_rows: Callable[..., Path], path: Path, fork_first: bool) -> Path:
    """A page that process 2 shares, walked before or after the rows of process 2's fork."""
    fork = [
        {"op": "dup_mmap", "pid": 1},
        {"op": "fork", "pid": 1, "flags": 0, "child": 2, "child_tid": 2},
    ]
    walks = [{"op": "walk", "pid": 1, "addr": HEAP, "kind": "all"}]
    fault = {"op": "fault", "pid": 1, "addr": HEAP, "write": True, "source": "user"}
    # Between the two of fork the copy is there, but not yet any process that it belongs to.
    later = [fork[0], *walks, fork[1]] if fork_first else [*walks, *fork]
    return write_rows(path, [*exec_and_map(), fault, *later])


@pytest.mark.parametrize("fork_first", [True, False])
def test_visits_in_a_copy_that_is_not_complete_do_not_count(
    write_rows: Callable[..., Path], tmp_path: Path, fork_first: bool
) -> None:
    trace = forked_walk(write_rows, tmp_path / "t.parquet", fork_first)
    time = 4000 if fork_first else 3000
    vma = {"time": time, "walk": 0, "start": HEAP, "end": HEAP + 4 * PAGE, "stopped": False}
    parent = {**vma, "visit": 0, "pid": 1, "found": 1}
    child = {**vma, "visit": 1, "pid": 2, "found": 1}
    nobody = {**vma, "visit": 2, "pid": None, "found": 0}
    write_truth(trace, "visit", [parent, child, nobody])
    assert rr.check(trace).summary["walks"]["exact"] == 1
    # Once the copy is complete it does count.
    write_truth(trace, "visit", [parent, nobody])
    assert rr.check(trace).summary["walks"]["wrong"] == (1 if fork_first else 0)


# ---- VMAs ----


def test_a_vma_bound_that_differs_from_the_snapshot(doctored: Doctor) -> None:
    changed: list[Any] = []

    def move(truth: pl.DataFrame) -> pl.DataFrame:
        heaps = truth.filter(pl.col("kind") == "snapshot", pl.col("path") == "[heap]")
        changed.append(heaps.row(0, named=True))
        here = pl.all_horizontal(
            pl.col(name) == changed[0][name] for name in ("burst", "pid", "start")
        )
        here &= pl.col("kind") == "snapshot"
        return truth.with_columns(end=pl.when(here).then(pl.col("end") + PAGE).otherwise("end"))

    check = rr.check(doctored("forky", move))
    first = check.summary["first_disagreement"]
    assert check.summary["vmas"]["equal"] == check.summary["vmas"]["snapshots"] - 1
    assert (first["what"], first["category"]) == ("snapshot", "range")
    assert first["pid"] == changed[0]["pid"]
    assert first["address"] == changed[0]["start"]
    assert [item["end"] for item in first["expected"]] == [changed[0]["end"] + PAGE]
    assert [item["end"] for item in first["got"]] == [changed[0]["end"]]
    assert {"perms", "start", "end"} == set(first["vmas"]["expected"][0])
    assert changed[0]["start"] in [item["start"] for item in first["vmas"]["expected"]]


@pytest.mark.parametrize(("column", "value"), [("perms", "rwxp"), ("offset", PAGE * 77)])
def test_permissions_and_offsets(doctored: Doctor, column: str, value: Any) -> None:
    def change(truth: pl.DataFrame) -> pl.DataFrame:
        of_file = (pl.col("kind") == "snapshot") & pl.col("path").str.starts_with("/")
        row = truth.with_row_index("at").filter(of_file & (pl.col("offset") > 0))["at"][0]
        here = pl.int_range(pl.len()) == row
        return truth.with_columns(pl.when(here).then(pl.lit(value)).otherwise(column).alias(column))

    check = rr.check(doctored("forky", change))
    assert [found.category for found in check.disagreements] == ["permissions or offset"]


HEAP = 0x7F0000000000


def exec_and_map() -> list[dict[str, Any]]:
    return [
        {"op": "exec", "pid": 1},
        {"op": "mmap", "pid": 1, "addr": HEAP, "len": 4 * PAGE, "flags": 0x22, "prot": 3},
    ]


def write_truth(trace: Path, kind: str, rows: list[dict[str, Any]]) -> None:
    with TruthWriter(trace) as writer:
        writer.append(kind, pa.RecordBatch.from_pylist(rows))


def report(time: int, start: int, end: int, pid: int = 1) -> dict[str, int]:
    return {"time": time, "pid": pid, "tid": pid, "start": start, "end": end}


@pytest.fixture
def mapping_trace(write_rows: Callable[..., Path], tmp_path: Path) -> Path:
    """Row 2 maps below row 1's mapping, with which it merges; row 3 makes two VMAs of it."""
    return write_rows(
        tmp_path / "t.parquet",
        [
            *exec_and_map(),
            {"op": "mmap", "pid": 1, "addr": HEAP - PAGE, "len": PAGE, "flags": 0x22, "prot": 3},
            {"op": "mprotect", "pid": 1, "addr": HEAP + PAGE, "len": 3 * PAGE, "prot": 1},
        ],
    )


def test_reported_vmas_are_compared_right_after_their_row(mapping_trace: Path) -> None:
    write_truth(mapping_trace, "mapped", [
        report(1000, HEAP, HEAP + 4 * PAGE),
        report(2000, HEAP - PAGE, HEAP + 4 * PAGE),
        report(3000, HEAP + 3 * PAGE, HEAP + 4 * PAGE),  # as if done in two steps
        report(3000, HEAP + PAGE, HEAP + 4 * PAGE),
    ])  # fmt: skip
    check = rr.check(mapping_trace)
    assert check.exact
    assert check.summary["vmas"] == {"snapshots": 0, "equal": 0, "reports": 3, "reports_equal": 3,
                                     "reports_intermediate": 1}  # fmt: skip
    assert check.reports["row"].to_list() == [1, 2, 3, 3]


def test_a_reported_vma_that_differs(mapping_trace: Path) -> None:
    write_truth(mapping_trace, "mapped", [
        report(1000, HEAP, HEAP + 4 * PAGE),
        report(2000, HEAP - PAGE, HEAP),
        report(3000, HEAP + 9 * PAGE, HEAP + 10 * PAGE),
    ])  # fmt: skip
    check = rr.check(mapping_trace)
    first = check.summary["first_disagreement"]
    assert check.summary["vmas"]["reports_equal"] == 1
    assert [found.category for found in check.disagreements] == ["range", "no VMA"]
    assert (first["what"], first["row"], first["event"]["op"]) == ("report", 2, "mmap")
    assert first["expected"] == [{"start": HEAP - PAGE, "end": HEAP}]
    assert first["got"] == [{"start": HEAP - PAGE, "end": HEAP + 4 * PAGE}]
    assert first["vmas"]["expected"] is None


# ---- what is no answer key of the trace ----


def test_an_answer_key_of_another_run(doctored: Doctor, mapping_trace: Path) -> None:
    def shift(truth: pl.DataFrame) -> pl.DataFrame:
        return truth.with_columns(time=pl.col("time") + 1)

    with pytest.raises(rr.TraceFormatError, match="is of another trace: walk 0 began at"):
        rr.check(doctored("forky", shift))
    with pytest.raises(rr.TraceFormatError, match="is of another trace: has 1280 walks"):
        rr.check(CORPUS / "bash.parquet", CORPUS / "forky.truth.parquet")
    with pytest.raises(rr.TraceFormatError, match="none of its processes"):
        rr.check(CORPUS / "redis.parquet", CORPUS / "nginx.truth.parquet")
    write_truth(mapping_trace, "mapped", [report(1001, HEAP, HEAP + PAGE)])
    with pytest.raises(rr.TraceFormatError, match="no row of pid 1 at time 1001"):
        rr.check(mapping_trace)


def test_nothing_to_compare(mapping_trace: Path) -> None:
    with pytest.raises(rr.RmapReplayError, match="truth.parquet: no such file"):
        rr.check(mapping_trace)
    with TruthWriter(mapping_trace):
        pass
    with pytest.raises(rr.RmapReplayError, match="holds nothing to compare"):
        rr.check(mapping_trace)
    with pytest.raises(rr.RmapReplayError, match="has no answer key beside it"):
        rr.check(rr.read_trace(rr.read_trace(mapping_trace).frame()))


def test_a_damaged_answer_key(doctored: Doctor) -> None:
    trace = doctored("forky", lambda truth: truth.head(truth.height - 1))
    key = trace.with_name("forky.truth.parquet")
    data = bytearray(key.read_bytes())
    key.write_bytes(data[:-9])
    with pytest.raises(rr.TraceFormatError, match="not a Parquet file, or truncated"):
        rr.check(trace)


# ---- the replay that stops on the way ----


def test_watching_needs_rows_in_order_that_are_still_to_come(mapping_trace: Path) -> None:
    from rmapreplay.replay.engine import ModelRun
    from rmapreplay.replay.specs import ModelSpec

    trace = rr.read_trace(mapping_trace)
    native = ModelRun(ModelSpec.parse("anon_vma"), trace, "none", False, None).native
    schema = {"row": pl.UInt64, "pid": pl.Int32, "addr": pl.UInt64}
    with pytest.raises(ValueError, match="row \\(uint64\\)"):
        native.watch(pl.DataFrame({"row": [1]}))
    with pytest.raises(ValueError, match="not in order"):
        native.watch(pl.DataFrame({"row": [2, 1], "pid": [1, 1], "addr": [HEAP, HEAP]}, schema))
    for batch in trace.batches():
        native.feed(batch)
    with pytest.raises(ValueError, match="were fed already"):
        native.watch(pl.DataFrame({"row": [3], "pid": [1], "addr": [HEAP]}, schema))


def test_every_kind_of_answer_is_compared() -> None:
    """A kind added to the answer key must be compared too, or be known not to need it."""
    compared = {"visit", "object", "snapshot", "mapped", "allocation"}
    assert set(KIND_COLUMNS) - compared == {"burst"}
