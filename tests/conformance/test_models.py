# SPDX-License-Identifier: GPL-2.0-only
"""Every built-in model over every bundled trace: nothing missed, nothing broken, nothing left."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pytest

import rmapreplay as rr

CORPUS = Path(__file__).parents[2] / "traces" / "corpus"
TRACES = sorted(
    path.relative_to(CORPUS).as_posix()
    for path in CORPUS.glob("**/*.parquet")
    if not path.name.endswith(".truth.parquet")
)
MODELS = [model["name"] for model in rr.models()]
MAY_MISS = {"cow-poc"}


def test_the_corpus_is_there() -> None:
    assert len(TRACES) >= 20


@pytest.mark.parametrize("trace", TRACES)
def test_no_model_misses_a_mapping(trace: str) -> None:
    """With invariants recounted at some 64 points. Walks of all models are of the same folios; only
    where the index is an address, mremap() makes other ones."""
    result = rr.replay(CORPUS / trace, MODELS, walks="scan:2", verify=True)
    models = result.summary["models"]
    for name, found in models.items():
        assert found["verified"] > 60, name
        assert name in MAY_MISS or not found["misses"], name
        assert all(kind["live"] == 0 for kind in found["objects"].values()), name
    same_truth = [m["name"] for m in rr.models() if not m["needs"]["index_is_address"]]
    assert len({models[name]["walks"] for name in same_truth}) == 1

    walks = result.walks.filter(pl.col("model") == "pte_chain")
    assert walks["useless"].sum() == 0
    small = walks.filter((pl.col("order") == 0) & ~pl.col("stopped"))
    assert (small["visits"] == small["mapcount"]).all()


@pytest.mark.parametrize("trace", ["redis", "pymp", "captured/postgres"])
def test_sums_are_those_of_the_counters(trace: str) -> None:
    """Walk by walk, and operation by operation: no counter is in two sums, none is forgotten."""
    result = rr.replay(CORPUS / f"{trace}.parquet", MODELS, walks="scan:1")
    for model in rr.models():
        mine = pl.col("model") == model["name"]
        for frame, counters, sums in (
            (result.walks, model["walk_counters"], ("step", "lookup", "lock", "refcount")),
            (result.operations, model["op_counters"], ("link", "lock", "refcount")),
        ):
            rows = frame.filter(mine)
            for cost in sums:
                expected = sum(rows[c["name"]].sum() for c in counters if c["cost"] == cost)
                assert rows[f"{cost}s"].sum() == expected, (model["name"], cost)
        for operation in result.summary["models"][model["name"]]["operations"].values():
            for cost in ("link", "lock", "refcount"):
                assert operation["costs"][f"{cost}s"] == sum(
                    operation["counters"][c["name"]]
                    for c in model["op_counters"]
                    if c["cost"] == cost
                )


def test_every_lock_that_is_counted_is_described() -> None:
    for model in rr.models():
        locks = {lock["name"] for lock in model["locks"]}
        counters = [*model["walk_counters"], *model["op_counters"]]
        assert {c["lock"] for c in counters if c["cost"] == "lock"} == locks
        assert all(not c["lock"] for c in counters if c["cost"] != "lock")
        assert all(counter["doc"] for counter in counters)


@pytest.mark.parametrize("trace", ["bash", "pymp", "captured/postgres"])
def test_operations_of_the_table_are_those_of_the_summary(trace: str) -> None:
    """Also faults, of which few make objects and all may count something."""
    result = rr.replay(CORPUS / f"{trace}.parquet", MODELS, walks="none")
    by_op = result.operations.group_by("model", "op").sum()
    for model, found in result.summary["models"].items():
        for op, costs in found["operations"].items():
            expected = {**costs["costs"], **costs["counters"]}
            for what in ("allocated", "freed"):
                expected |= {f"{kind}_{what}": n for kind, n in costs[what].items()}
            rows = by_op.filter(model=model, op=op)
            if op != "walk":
                got = rows.to_dicts()[0] if rows.height else dict.fromkeys(expected, 0)
                assert {name: got[name] for name in expected} == expected, (model, op)
