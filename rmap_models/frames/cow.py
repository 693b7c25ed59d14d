# SPDX-License-Identifier: GPL-2.0-only
"""cow-context as intended, as relations: a walk looks for the folio's offset in its home mm, then
in every mm forked from there, newest first and children before their parent. In each it looks where
the offset says, then at each displacement that the mm knows of.

No table of displacements is asked: what has been moved, and by how far, are the faulted VMAs whose
start differs from their offset.
"""

from __future__ import annotations

import polars as pl

from rmapreplay.rmap_models.frames import page_walk
from rmapreplay.rmap_models.frames.fork_tree import fork_tree, homes
from rmapreplay.rmap_models.frames.tables import (
    FOREVER,
    PAGE_SIZE,
    Timeline,
    at_moments,
    holding,
    overlapping,
    settled,
    spans_of,
    walks_of,
)

COUNTERS = (
    *("contexts_live", "contexts_dead", "mmget", "vma_lookups", "remap_lookups"),
    "empty_contexts",
)
"""Of the native model's counters; remap_entries depends on how its tree cuts ranges."""

_ORDER = ("rank", "displaced", "displacement", "start")
_STEPS = ("mm", "displaced")
_AT_HOME = -1
"""The rank of the context that comes first."""


def walks(timeline: Timeline) -> pl.LazyFrame:
    """One row per walk: page_walk.SUM_COLUMNS, and COUNTERS."""
    visited, contexts = _walk(timeline)
    moved = pl.col("displaced")
    found = page_walk.sums(
        visited.with_columns(
            _context=page_walk.differs(1, "walk", "mm"),
            _lookup=moved & page_walk.differs(1, "walk", "mm", "displacement"),
        ),
        timeline,
        pl.col("_context").sum().cast(pl.Int64).alias("_with_vmas"),
        pl.col("_lookup").sum().cast(pl.Int64).alias("_displacements"),
        (pl.col("ends") & ~moved).sum().cast(pl.Int64).alias("_before_remaps"),
    )
    counted = contexts.group_by("walk").agg(
        contexts_live=pl.col("lives").sum().cast(pl.Int64),
        contexts_dead=(~pl.col("lives")).sum().cast(pl.Int64),
    )
    live = pl.col("contexts_live")
    return (
        found.with_columns(_walk=pl.col("walk").cast(pl.Int64))
        .join(counted, left_on="_walk", right_on="walk", how="left")
        .with_columns(pl.col("contexts_live", "contexts_dead").fill_null(0))
        .with_columns(
            mmget=live,
            vma_lookups=live + pl.col("_displacements"),
            remap_lookups=live - pl.col("_before_remaps"),
            empty_contexts=live - pl.col("_with_vmas"),
        )
        .select(*page_walk.SUM_COLUMNS, *COUNTERS)
        .sort("walk")
    )


def visits(timeline: Timeline) -> pl.LazyFrame:
    """One row per VMA offered, by walk and in order: walk, visit, mm, start, end, index, hits."""
    return _walk(timeline)[0].select(page_walk.VISIT_COLUMNS)


def _walk(timeline: Timeline) -> tuple[pl.LazyFrame, pl.LazyFrame]:
    """The visits that walks made, and the contexts that they visited: walk, rank, lives."""
    tree = fork_tree(timeline)
    asked = settled(
        walks_of(timeline)
        .drop("home")
        .join(homes(timeline, tree), on="folio")
        .filter(pl.col("seq").is_between("from", "until"))
        .drop("from", "until")
    )
    at_home = settled(
        asked.join(tree.lazy().select("mm", "alive"), left_on="home", right_on="mm").select(
            pl.exclude("alive"),
            mm="home",
            rank=pl.lit(_AT_HOME, pl.Int64),
            lives=pl.col("seq") <= pl.col("alive"),
        )
    )
    found_at_home = settled(_look(at_home, timeline))
    # Most walks end at home. The others are taken through all below it, and cut where they end.
    over = page_walk.stop(found_at_home, _ORDER, steps=_STEPS).filter("ends")
    going_on = settled(asked.join(over, on="walk", how="anti"))
    below = settled(going_on.join(_descendants(going_on, tree), on=["home", "seq"]))
    found = pl.concat([found_at_home, _look(below, timeline)])
    visited = page_walk.stop(found, _ORDER, steps=_STEPS)
    last = visited.filter("ends").select("walk", last_rank="rank")
    contexts = (
        pl.concat([frame.select("walk", "rank", "lives") for frame in (at_home, below)])
        .join(last, on="walk", how="left")
        .filter(pl.col("rank") <= pl.col("last_rank").fill_null(FOREVER))
    )
    return visited, contexts


def _descendants(asked: pl.LazyFrame, tree: pl.DataFrame) -> pl.LazyFrame:
    """The contexts below a home at the moments of its walks: home, seq, mm, rank, lives."""
    moments = settled(asked.select("home", "seq").unique())
    mms = tree.lazy()
    below = holding(
        moments.select("home")
        .unique()
        .join(mms, left_on="home", right_on="mm")
        .select("home", "first", low="place")
        .with_columns(last=pl.col("low") - 1, tree=pl.lit(0)),
        mms.select("mm", "place", "alive", tree=pl.lit(0), **{"from": "born"}, until="until"),
        by=["tree"],
        first="first",
        last="last",
        point="place",
    ).select("home", "mm", "alive", "from", "until", rank="place")
    return at_moments(below, moments, by=["home"]).select(
        "home", "seq", "mm", "rank", lives=pl.col("seq") <= pl.col("alive")
    )


def _look(contexts: pl.LazyFrame, timeline: Timeline) -> pl.LazyFrame:
    """The faulted VMAs of each walk's contexts that the folio's offsets may lie in, and what is
    there."""
    vmas = spans_of(
        timeline.vma_spans, "vma", "mm", "start", "end", "anon_pgoff", "flags", "faulted"
    )
    index = pl.col("anon_pgoff").cast(pl.Int64)
    faulted = vmas.filter("faulted").select(
        pl.col("vma", "mm", "start", "end").cast(pl.Int64),
        index=index,
        low=index,
        high=index + ((pl.col("end") - pl.col("start")).cast(pl.Int64) // PAGE_SIZE) - 1,
        locked=(pl.col("flags") & page_walk.VM_LOCKED) != 0,
        **{name: pl.col(name) for name in ("from", "until")},
    )
    displacement = (pl.col("start") // PAGE_SIZE) - pl.col("index")
    offered = overlapping(contexts, faulted, by=["mm"], what="vma").with_columns(
        displaced=displacement != 0, displacement=displacement
    )
    return page_walk.test(offered, timeline)
