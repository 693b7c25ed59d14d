# SPDX-License-Identifier: GPL-2.0-only
"""anon_vma, as relations: a walk visits the VMAs whose link to the folio's anon_vma overlaps the
folio, in the order of the anon_vma's interval tree (rmap_walk_anon(), mm/rmap.c)."""

from __future__ import annotations

import polars as pl

from rmapreplay.rmap_models.frames import page_walk
from rmapreplay.rmap_models.frames.tables import (
    Timeline,
    at_moments,
    overlapping,
    settled,
    spans_of,
    walks_of,
)

COUNTERS = ("avcs", "root_lock_read")
"""Of the native model's counters; tree_nodes depends on how the tree is balanced."""


def walks(timeline: Timeline) -> pl.LazyFrame:
    """One row per walk: page_walk.SUM_COLUMNS, and COUNTERS."""
    found = page_walk.sums(_visits(timeline), timeline)
    return found.with_columns(avcs="visits", root_lock_read=pl.lit(1, pl.Int64))


def visits(timeline: Timeline) -> pl.LazyFrame:
    """One row per VMA offered, by walk and in order: walk, visit, mm, start, end, index, hits."""
    return _visits(timeline).select(page_walk.VISIT_COLUMNS)


def _visits(timeline: Timeline) -> pl.LazyFrame:
    links = spans_of(timeline.link_spans, "object", "vma", "mm", "first", "last", "order")
    linked = settled(
        overlapping(
            walks_of(timeline),
            links.select(
                pl.col("object").cast(pl.Int64).alias("home"),
                pl.col("vma", "mm").cast(pl.Int64),
                low=pl.col("first").cast(pl.Int64),
                high=pl.col("last").cast(pl.Int64),
                inserted=pl.col("order").cast(pl.Int64),
                **{name: pl.col(name) for name in ("from", "until")},
            ),
            by=["home"],
            what="vma",
        )
    )
    offered = linked.join(_vmas(timeline, linked), on=["vma", "seq"])
    # Equal starts in order of insertion. Siblings of a fork have them by the thousand.
    return page_walk.stop(page_walk.test(offered, timeline), ["index", "inserted"])


def _vmas(timeline: Timeline, linked: pl.LazyFrame) -> pl.LazyFrame:
    """What is to know of a VMA at a moment: vma, seq, start, end, index, locked."""
    vmas = spans_of(timeline.vma_spans, "vma", "start", "end", "anon_pgoff", "flags")
    return at_moments(
        vmas.select(
            pl.col("vma", "start", "end").cast(pl.Int64),
            index=pl.col("anon_pgoff").cast(pl.Int64),
            locked=(pl.col("flags") & page_walk.VM_LOCKED) != 0,
            **{name: pl.col(name) for name in ("from", "until")},
        ),
        linked.select("vma", "seq").unique(),
        by=["vma"],
    )
