# SPDX-License-Identifier: GPL-2.0-only
"""Models side by side, in scenarios small enough to be counted by hand."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest

import rmapreplay as rr

HEAP, PAGE = 0x7F0000000000, 4096
AWAY = HEAP + 0x1000000
ROOT = Path(__file__).parents[2]
CORPUS = ROOT / "traces" / "corpus"
Row = dict[str, Any]


def at(op: str, pid: int, page: int = 0, **columns: Any) -> Row:
    return {"op": op, "pid": pid, "addr": HEAP + page * PAGE, **columns}


def write(pid: int, page: int) -> Row:
    return at("fault", pid, page, write=True, source="user")


def fork(pid: int, child: int) -> Row:
    return {"op": "fork", "pid": pid, "flags": 0, "child": child, "child_tid": child}


MEMORY = {"flags": 0x22, "prot": 3, "offset": 0}

THREE_CHILDREN: list[Row] = [
    at("mapping", 100, len=2 * PAGE, **MEMORY),
    write(100, 0),
    write(100, 1),
    *(fork(100, child) for child in (200, 300, 400)),
    # 200 has other memory at the first page.
    at("munmap", 200, len=PAGE),
    at("mmap", 200, len=PAGE, **MEMORY),
    write(200, 0),
    *(at("walk", pid, page, kind="all") for pid, page in ((100, 0), (300, 0), (100, 1))),
]
"""anon_vma visits the three that map the first page; cow also 200, in vain. Both visit all four
that map the second."""


@pytest.fixture
def children(tmp_path: Path, write_rows: Callable[..., Path]) -> Path:
    return write_rows(tmp_path / "children.parquet", THREE_CHILDREN)


@pytest.fixture
def compared(children: Path) -> rr.Comparison:
    by = ["reason", "process", "mapping", "sharers", "depth", "kind", "order"]
    return rr.compare(children, ["anon_vma", "cow"], walks="none", by=by)


def value(found: rr.Comparison, model: str, group: str, name: str, stat: str) -> tuple[Any, Any]:
    """A figure of the first trace, and its ratio."""
    rows = found.metrics.filter(
        trace=found.traces["trace"][0], model=model, group=group, name=name, stat=stat
    )
    return rows.select("value", "ratio").row(0)


def test_metrics_side_by_side(compared: rr.Comparison) -> None:
    def of_cow(*figure: str) -> tuple[Any, Any]:
        return value(compared, "cow", *figure)

    assert value(compared, "anon_vma", "walk", "visits", "mean") == (10 / 3, 1.0)
    assert of_cow("walk", "visits", "mean") == (4.0, pytest.approx(1.2))
    assert value(compared, "anon_vma", "walk", "visits", "p95") == (4.0, 1.0)
    assert of_cow("walk", "visits", "max") == (4.0, 1.0)
    assert of_cow("walks", "useless", "sum") == (2.0, None)  # of none there is no multiple
    assert of_cow("walks", "misses", "sum") == (0.0, None)


def test_objects_and_forks_side_by_side(compared: rr.Comparison) -> None:
    """A fork makes an anon_vma and two AVCs, or a context. The munmap splits 200's VMA, which
    clones its two AVCs for a moment: nine of them at the peak, of ten made; of anon_vmas five, the
    last for the new memory."""

    def of(model: str, *figure: str) -> Any:
        return value(compared, model, *figure)[0]

    assert of("anon_vma", "fork", "objects", "mean") == 3.0
    assert of("anon_vma", "fork", "links", "mean") == 2.0
    assert of("cow", "fork", "objects", "mean") == 1.0
    assert of("anon_vma", "object", "objects", "allocated") == 5 + 10
    assert of("anon_vma", "object", "bytes", "peak") == 5 * 104 + 9 * 64
    assert of("cow", "object", "objects", "allocated") == 4
    assert of("cow", "object", "bytes", "peak") == 4 * 96
    assert value(compared, "cow", "object", "bytes", "peak")[1] == pytest.approx(384 / 1096)


def test_walk_by_walk(compared: rr.Comparison) -> None:
    (found,) = compared.alignment.filter(trace="children").to_dicts()
    assert found == {
        "trace": "children", "model": "cow", "reference": "anon_vma", "walks": 3,
        "alone": 0, "lacking": 0, "missed_walks": 0, "more_walks": 2, "more": 2,
        "fewer_walks": 0, "fewer": 0, "net": 2, "reference_sum": 10, "model_sum": 12,
    }  # fmt: skip


def test_groups(compared: rr.Comparison) -> None:
    groups = compared.groups.filter(trace="children")
    found = {
        (by, of): (walks, more_walks, more, fewer)
        for by, of, walks, more_walks, more, fewer in groups.select(
            "by", "value", "walks", "more_walks", "more", "fewer"
        ).iter_rows()
    }
    assert found == {
        ("reason", "hits"): (3, 0, 0, 0),
        ("reason", "useless_empty"): (3, 0, 0, 0),
        ("reason", "useless_other"): (3, 2, 2, 0),
        ("process", "?[100]"): (2, 1, 1, 0),
        ("process", "?[300]"): (1, 1, 1, 0),
        ("mapping", "anon"): (3, 2, 2, 0),
        ("sharers", "3-4"): (3, 2, 2, 0),
        ("depth", "0"): (2, 1, 1, 0),
        ("depth", "1"): (1, 1, 1, 0),
        ("kind", "all"): (3, 2, 2, 0),
        ("order", "0"): (3, 2, 2, 0),
    }


def test_worst_walks_and_what_to_type(compared: rr.Comparison, children: Path) -> None:
    """anon_vma has none. The two of cow are of different mms, so each is told."""
    worst = compared.worst.select("model", "walk", "pid", "cost", "best", "best_cost", "alike")
    assert worst.rows() == [
        ("cow", 0, 100, 4, "anon_vma", 3, 1),
        ("cow", 1, 300, 4, "anon_vma", 3, 1),
    ]
    assert compared.worst["explain"][1] == (
        f"rmapreplay explain {children} --walk 1 --model cow,anon_vma --walks none"
    )


def test_the_other_way_round(children: Path) -> None:
    found = rr.compare(children, ["cow", "anon_vma"], walks="none")
    (row,) = found.alignment.filter(trace="children").to_dicts()
    assert (row["model"], row["fewer_walks"], row["fewer"], row["net"]) == ("anon_vma", 2, 2, -2)
    assert found.worst["model"].to_list() == ["cow", "cow"]


def test_by_another_metric(children: Path) -> None:
    """cow looks once into each of four mms, anon_vma into none."""
    found = rr.compare(children, ["anon_vma", "cow"], walks="none", metric="lookups", by=["depth"])
    (row,) = found.alignment.filter(trace="children").to_dicts()
    assert (row["more_walks"], row["more"]) == (3, 12)
    with pytest.raises(rr.RmapReplayError, match="reason"):
        rr.compare(children, ["anon_vma", "cow"], metric="lookups", by=["reason"])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [({"metric": "hits"}, "metric 'hits'"), ({"by": ["size"]}, "by 'size'"), ({"walks": "x"}, "x")],
)
def test_bad_arguments(children: Path, arguments: dict[str, Any], reason: str) -> None:
    with pytest.raises(rr.RmapReplayError, match=reason):
        rr.compare(children, ["anon_vma", "cow"], **arguments)


# ---- models with walks of their own ----


@pytest.fixture
def moved(tmp_path: Path, write_rows: Callable[..., Path]) -> Path:
    """A child moves the page that it shares. anonmm must copy it: two folios, of which the models
    that can move it have one."""
    move = {"new_addr": AWAY, "new_len": PAGE, "len": PAGE, "flags": 3}
    rows = [
        at("mapping", 100, len=PAGE, **MEMORY),
        write(100, 0),
        fork(100, 200),
        at("mremap", 200, **move),
    ]
    return write_rows(tmp_path / "moved.parquet", rows)


def test_walks_of_its_own_are_counted(moved: Path) -> None:
    models = ["anon_vma", "anonmm", "cow"]
    found = rr.compare(moved, models, walks="end,kind=all", by=["sharers"])
    anonmm, cow = found.alignment.filter(trace="moved").to_dicts()
    assert (anonmm["walks"], anonmm["alone"], anonmm["lacking"]) == (1, 1, 0)
    # The walk they have in common: two visits against one, since the copy is another folio.
    assert (anonmm["fewer_walks"], anonmm["fewer"]) == (1, 1)
    assert (cow["walks"], cow["alone"], cow["lacking"], cow["net"]) == (1, 0, 0, 0)
    assert value(found, "anonmm", "walks", "walks", "sum") == (2.0, 2.0)


def test_walks_only_of_the_first_are_counted(moved: Path) -> None:
    found = rr.compare(moved, ["anonmm", "anon_vma"], walks="end,kind=all")
    (row,) = found.alignment.filter(trace="moved").to_dicts()
    assert (row["walks"], row["alone"], row["lacking"]) == (1, 0, 1)


# ---- several traces ----


def test_totals_are_over_all_walks(children: Path, moved: Path) -> None:
    found = rr.compare([children, moved], ["anon_vma", "cow"], walks="end,kind=all")
    cow = found.metrics.filter(model="cow", group="walks")
    walks, visits, useless = (
        dict(cow.filter(name=name).select("trace", "value").iter_rows())
        for name in ("walks", "visits", "useless")
    )
    mean = found.metrics.filter(
        pl.col("trace").is_null(), model="cow", group="walk", name="visits", stat="mean"
    )
    for sums in (walks, visits, useless):
        assert sums[None] == sums["children"] + sums["moved"]
    assert mean["value"].item() == visits[None] / walks[None]
    total = found.alignment.filter(pl.col("trace").is_null()).to_dicts()
    assert len(total) == 1
    assert total[0]["walks"] == found.alignment.filter(pl.col("trace").is_not_null())["walks"].sum()
    assert found.to_dict()["total"]["worst"][0]["trace"] == "children"


def test_traces_of_one_name_are_told_apart(
    children: Path, tmp_path: Path, write_rows: Callable[..., Path]
) -> None:
    (tmp_path / "other").mkdir()
    other = write_rows(tmp_path / "other" / "children.parquet", THREE_CHILDREN)
    found = rr.compare([children, other, children], ["cow"], walks="none")
    assert found.traces["trace"].to_list() == [
        f"{children} (1)", str(other), f"{children} (2)",
    ]  # fmt: skip


class Fails(rr.RmapModel):
    """Cannot fork."""

    def anon_vma_prepare(self, vma: int) -> int:
        return 1

    def anon_vma_clone(self, dst: int, src: int, why: rr.CloneFor) -> None:
        pass

    def anon_vma_fork(self, child: int, parent: int) -> int:
        raise RuntimeError("out of AVCs")

    def unlink_anon_vmas(self, vma: int) -> None:
        pass

    def home(self, vma: int) -> int:
        return 1

    def rmap_walk(self, walk: rr.Walk) -> None:
        pass


def test_what_fails_takes_nothing_with_it(
    children: Path, tmp_path: Path, write_rows: Callable[..., Path]
) -> None:
    """Of the other trace too, which Fails gets through: only that one is in the total."""
    alone = write_rows(tmp_path / "alone.parquet", THREE_CHILDREN[:2])
    broken = tmp_path / "broken.parquet"
    broken.write_bytes(b"no Parquet")
    found = rr.compare([children, broken, alone], [Fails, "anon_vma", "cow"], walks="none")
    assert [(failure.trace, failure.model) for failure in found.failures] == [
        ("children", "Fails"), ("broken", None),
    ]  # fmt: skip
    assert "out of AVCs" in found.failures[0].message
    assert found.traces.select("trace", "reference", "whole").rows() == [
        ("children", "anon_vma", False), ("alone", "Fails", True),
    ]  # fmt: skip
    assert found.alignment.filter(trace="children")["model"].to_list() == ["cow"]
    assert value(found, "cow", "walk", "visits", "mean") == (4.0, pytest.approx(1.2))
    assert sorted(found.metrics.filter(pl.col("trace").is_null())["model"].unique()) == [
        "Fails", "anon_vma", "cow",
    ]  # fmt: skip


# ---- real traces ----


def test_it_says_what_run_says() -> None:
    """Of a bundled trace, and of its totals, where they are that trace's alone."""
    models = ["anon_vma", "cow", "cow-poc", "anonmm"]
    trace = CORPUS / "bash.parquet"
    found = rr.compare(trace, models)
    result = rr.replay(trace, models)
    for model, said in result.summary["models"].items():
        for name in ("walks", "visits", "hits", "useless", "misses"):
            assert value(found, model, "walks", name, "sum")[0] == said[name]
        for name in ("visits", "useless", "steps", "lookups", "locks", "refcounts"):
            for stat in ("mean", "p95", "max"):
                assert value(found, model, "walk", name, stat)[0] == said["walk"][name][stat]
    alone, total = (found.metrics.filter(pl.col("trace").is_null() == null).drop("trace")
                    for null in (False, True))  # fmt: skip
    assert alone.equals(total)

    # And walk by walk what a join of the tables says: here the walks have the same numbers.
    both = result.walks.filter(model="anon_vma").join(
        result.walks.filter(model="cow"), on=["walk", "seq", "folio", "kind"]
    )
    more = both["visits_right"].cast(pl.Int64) - both["visits"].cast(pl.Int64)
    row = found.alignment.filter(trace="bash", model="cow").row(0, named=True)
    assert row["walks"] == both.height == result.walks.filter(model="cow").height
    assert (row["more_walks"], row["more"]) == ((more > 0).sum(), more.clip(lower_bound=0).sum())
    assert (row["fewer_walks"], row["net"]) == ((more < 0).sum(), more.sum())
    groups = found.groups.filter(trace="bash", model="cow")
    for by in ("mapping", "sharers", "reason"):
        assert groups.filter(by=by)["net"].sum() == row["net"]
    by_mapping = (
        both.with_columns(more=more).group_by(value=pl.col("mapping").cast(pl.String))
        .agg(walks=pl.len().cast(pl.Int64), net=pl.col("more").sum())
    )  # fmt: skip
    said_by_mapping = groups.filter(by="mapping").select("value", "walks", "net")
    assert said_by_mapping.sort("value").equals(by_mapping.sort("value"))


def test_estimates_are_of_all_walks_and_forks() -> None:
    traces, models = [CORPUS / "bash.parquet", CORPUS / "redis.parquet"], ["anon_vma", "cow"]
    cold = rr.read_cost_model("cold")
    found = rr.compare(traces, models, cost_model=cold)
    for model in models:
        of = [
            rr.estimate(rr.replay(trace, model).summary, cold)["models"][model] for trace in traces
        ]
        estimates = [each["estimated_ns"] for each in of]
        walk, fork = (
            found.metrics.filter(
                pl.col("trace").is_null(), group="estimate", model=model, name=name
            )
            for name in ("walk", "fork")
        )
        walks = sum(each["walks"] for each in of)
        assert walk["value"].item() == pytest.approx(sum(e["walks"] for e in estimates) / walks)
        forks = sum(each["operations"]["fork"]["calls"] for each in of)
        ns = sum(e["operations"].get(op, 0) for e in estimates for op in ("fork", "dup_mmap"))
        assert fork["value"].item() == pytest.approx(ns / forks)
    assert rr.compare(traces[0], models).metrics.filter(group="estimate").is_empty()


def test_the_same_twice() -> None:
    first, second = (
        json.dumps(rr.compare(CORPUS / "rmap.parquet", ["anon_vma", "cow"], threads=n).to_dict())
        for n in (1, 2)
    )
    assert first == second


def test_the_page_says_what_the_json_has(compared: rr.Comparison) -> None:
    page = (ROOT / "docs" / "compare.md").read_text()
    told = set(re.findall(r"`\.?([a-z_]+)`", page))

    def keys(part: Any) -> set[str]:
        if isinstance(part, dict):
            return set(part) | {key for each in part.values() for key in keys(each)}
        return {key for each in part for key in keys(each)} if isinstance(part, list) else set()

    assert keys(compared.to_dict()) <= told
