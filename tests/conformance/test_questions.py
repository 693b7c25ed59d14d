# SPDX-License-Identifier: GPL-2.0-only
"""Question c of the mailing-list discussion at its full size, through the whole program. Questions
a to e at the level of the models are in tests/native/test_models_questions.cpp."""

from __future__ import annotations

import polars as pl
import pyarrow as pa
import pytest

import rmapreplay as rr
from rmapreplay.traces.schema import FILE_SCHEMA

VMAS = 1000
CHILDREN = 1000
PAGE = 4096
BASE = 0x700000000000
PARENT = 100


@pytest.fixture(scope="module")
def trace() -> rr.Trace:
    """P makes 1000 VMAs of a page each and forks 1000 children; child k keeps only VMA k."""
    address = pl.lit(BASE, pl.UInt64) + 2 * PAGE * pl.col("vma").cast(pl.UInt64)
    vmas = pl.select(vma=pl.int_range(VMAS))
    start = pl.DataFrame({"op": ["exec"], "pid": [PARENT]})
    maps = vmas.select(op=pl.lit("mmap"), pid=PARENT, addr=address, len=PAGE, flags=0x22, prot=3)
    faults = vmas.select(
        op=pl.lit("fault"), pid=PARENT, addr=address, write=True, source=pl.lit("user")
    )
    # Per child, its fork and then the VMAs it drops.
    children = (
        pl.select(child=PARENT + 1 + pl.int_range(CHILDREN))
        .join(pl.select(vma=pl.int_range(-1, VMAS)), how="cross")
        .filter(pl.col("vma") != pl.col("child") - PARENT - 1)
        .select(
            op=pl.when(pl.col("vma") < 0).then(pl.lit("fork")).otherwise(pl.lit("munmap")),
            pid=pl.when(pl.col("vma") < 0).then(PARENT).otherwise(pl.col("child")),
            addr=pl.when(pl.col("vma") >= 0).then(address),
            len=pl.when(pl.col("vma") >= 0).then(PAGE),
            flags=pl.when(pl.col("vma") < 0).then(0),
            child=pl.when(pl.col("vma") < 0).then(pl.col("child")),
            child_tid=pl.when(pl.col("vma") < 0).then(pl.col("child")),
        )
    )
    rows = pl.concat([start, maps, faults, children], how="diagonal_relaxed").with_columns(
        time=pl.lit(0, pl.Int64), tid=pl.col("pid")
    )
    arrays = [
        rows[field.name].to_arrow().cast(field.type)
        if field.name in rows.columns
        else pa.nulls(rows.height, field.type)
        for field in FILE_SCHEMA
    ]
    return rr.read_trace(
        pa.Table.from_arrays(arrays, schema=FILE_SCHEMA),
        metadata={"schema_version": 2, "kernel": "7.3.4"},
    )


def test_question_c_a_thousand_children_that_keep_one_vma_each(trace: rr.Trace) -> None:
    result = rr.replay(trace, ["anon_vma", "cow"], walks="end,kind=all")
    assert result.summary["anomalies"] == {}
    walks = result.walks.filter(pl.col("mapcount") == 2)  # P's page k, which child k maps too
    assert walks.group_by("model").len().sort("model").rows() == [
        ("anon_vma", VMAS),
        ("cow", VMAS),
    ]
    assert walks["visits"].unique().to_list() == [2]
    assert walks["useless"].unique().to_list() == [0]
    assert walks["misses"].sum() == 0
    cow = walks.filter(pl.col("model") == "cow")
    assert cow["contexts_live"].unique().to_list() == [CHILDREN + 1]
    assert cow["empty_contexts"].unique().to_list() == [CHILDREN - 1]
    anon_vma = walks.filter(pl.col("model") == "anon_vma")
    assert anon_vma["avcs"].unique().to_list() == [2]
