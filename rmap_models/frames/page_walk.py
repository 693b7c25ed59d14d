# SPDX-License-Identifier: GPL-2.0-only
"""What the VMAs that a model offers to a walk come to: which hold the folio, and when the walk is
over (page_vma_mapped_walk(), rmap_one() and done() of the kernel's walks)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import polars as pl

from rmapreplay.rmap_models.frames.tables import PAGE_SIZE, Timeline, holding, settled, spans_of

VM_LOCKED: Final = 0x2000

VISIT_COLUMNS: Final = ("walk", "visit", "mm", "start", "end", "index", "hits")

SUM_COLUMNS: Final = (
    *("walk", "seq", "kind", "folio", "order", "mapcount"),
    *("visits", "hits", "useless", "useless_empty", "useless_other", "misses", "stopped"),
)
"""What there is of a walk beside counters. PTEs are counted in mapcount and misses, VMAs in the
others; folio is the timeline's number."""

_KEPT: Final = (
    *("walk", "seq", "mm", "start", "end", "index", "page", "last_page", "hits", "locked"),
    *("mapcount", "exclusive", "may_stop", "referenced"),
)
"""What is taken along when visits are put in order."""


def test(offered: pl.LazyFrame, timeline: Timeline) -> pl.LazyFrame:
    """Count the mappings of the walk's folio in each VMA offered.

    offered: walk, seq, folio, first, last, mm, start, end, index (offset of start), ...
    Returns them with hits, and the virtual pages [page, last_page] that were tested.
    """
    low = pl.max_horizontal("first", "index")
    high = pl.min_horizontal(
        "last", pl.col("index") + ((pl.col("end") - pl.col("start")) // PAGE_SIZE) - 1
    )
    start = (pl.col("start") // PAGE_SIZE) - pl.col("index")
    offered = settled(
        offered.with_columns(page=low + start, last_page=high + start).with_row_index("offer")
    )
    mappings = _mappings(timeline)
    hits = (
        offered.select("offer", "seq", "folio", "mm", "page", "last_page")
        .join(mappings, on=["folio", "mm"])
        .filter(
            pl.col("seq").is_between("from", "until")
            & (pl.col("low") <= pl.col("last_page"))
            & (pl.col("page") <= pl.col("high"))
        )
        .group_by("offer")
        .agg(pl.len().cast(pl.Int64).alias("hits"))
    )
    return (
        offered.join(hits, on="offer", how="left")
        .with_columns(pl.col("hits").fill_null(0))
        .drop("offer")
    )


def _mappings(timeline: Timeline) -> pl.LazyFrame:
    """folio, mm, virtual pages [low, high], from, until."""
    return spans_of(timeline.mappings, "folio", "mm", "page", "pages").select(
        pl.col("folio", "mm").cast(pl.Int64),
        low=pl.col("page").cast(pl.Int64),
        high=pl.col("page").cast(pl.Int64) + pl.col("pages").cast(pl.Int64) - 1,
        **{name: pl.col(name) for name in ("from", "until")},
    )


def stop(tested: pl.LazyFrame, order: Sequence[str], *, steps: Sequence[str] = ()) -> pl.LazyFrame:
    """Put what was offered into the model's order, and leave out what comes after a walk's end.

    A walk of kind all never stops. Others stop once they found mapcount mappings, one of kind
    referenced also after a hit in an mlocked VMA. With `steps`, columns that tell one step of a
    walk from the next, the walk of a folio that only one mm maps is over after a step by which
    mapcount mappings are found, whatever its kind.

    Returns the visits: columns of `tested`, visit (from 0), stops (whether the walk was stopped
    here) and ends (or over).
    """
    begins = differs(1, "walk")

    def running(values: pl.Expr) -> pl.Expr:
        """Sum from the walk's first visit to this one."""
        total = values.cum_sum()
        return total - pl.when(begins).then(total - values).forward_fill()

    all_found = pl.col("_found") >= pl.col("mapcount")
    locked = pl.col("referenced") & (pl.col("hits") > 0) & pl.col("locked")
    stops = pl.col("may_stop") & (all_found | locked)
    alone = (pl.col("mapcount") <= 1) | pl.col("exclusive")
    over = alone & all_found & differs(-1, "walk", *steps) if steps else pl.lit(False)
    ends = pl.col("ends").cast(pl.Int64)
    return settled(
        tested.select(*_KEPT, *(name for name in order if name not in _KEPT))
        .sort("walk", *order)
        .with_columns(_found=running(pl.col("hits")), visit=pl.int_range(pl.len()))
        .with_columns(stops=stops, ends=stops | over)
        .with_columns(
            _ended=running(ends) - ends,
            visit=pl.col("visit") - pl.when(begins).then("visit").forward_fill(),
        )
        .filter(pl.col("_ended") == 0)
        .drop("_ended", "_found")
    )


def differs(rows: int, *columns: str) -> pl.Expr:
    """Whether one of the columns is not as so many rows before."""
    return pl.any_horizontal(pl.col(name).ne_missing(pl.col(name).shift(rows)) for name in columns)


def useless(visits: pl.LazyFrame, timeline: Timeline) -> pl.LazyFrame:
    """Of each walk that visited VMAs in vain, how many of those held another anonymous folio at a
    page tested: walk, useless_other."""
    vain = (
        visits.filter(pl.col("hits") == 0)
        .select("walk", "visit", "mm", "seq", "page", "last_page")
        .with_columns(pages=pl.col("last_page") - pl.col("page"))
    )
    vain = settled(vain)
    places = vain.select("mm", "pages", "page").unique()
    mappings = _mappings(timeline).drop("folio")
    near = holding(
        mappings.join(places.select("pages").unique(), how="cross").with_columns(
            low=pl.col("low") - pl.col("pages")
        ),
        places,
        by=["mm", "pages"],
        first="low",
        last="high",
        point="page",
    )
    return (
        vain.join(near, on=["mm", "pages", "page"])
        .filter(pl.col("seq").is_between("from", "until"))
        .select("walk", "visit")
        .unique()
        .group_by("walk")
        .agg(pl.len().cast(pl.Int64).alias("useless_other"))
    )


def sums(visits: pl.LazyFrame, timeline: Timeline, *counters: pl.Expr) -> pl.LazyFrame:
    """One row per walk of the timeline, in order, from the visits made: SUM_COLUMNS, then the
    model's counters of them.

    A mapping that a walk did not find is a miss, unless the walk was stopped.
    """
    made = visits.group_by("walk").agg(
        pl.len().cast(pl.Int64).alias("visits"),
        (pl.col("hits") > 0).sum().cast(pl.Int64).alias("hits"),
        pl.col("hits").sum().alias("_found"),
        pl.col("stops").any().alias("stopped"),
        *counters,
    )
    names = [counter.meta.output_name() for counter in counters]
    return (
        timeline.walks.select("walk", "seq", "kind", "folio", "order", "mapcount")
        .with_columns(_walk=pl.col("walk").cast(pl.Int64))
        .join(made, left_on="_walk", right_on="walk", how="left")
        .join(useless(visits, timeline), left_on="_walk", right_on="walk", how="left")
        .with_columns(
            pl.col("visits", "hits", "_found", "useless_other", *names).fill_null(0),
            pl.col("stopped").fill_null(False),
        )
        .with_columns(useless=pl.col("visits") - pl.col("hits"))
        .with_columns(
            useless_empty=pl.col("useless") - pl.col("useless_other"),
            misses=pl.when("stopped").then(0).otherwise(pl.col("mapcount") - pl.col("_found")),
        )
        .select(*SUM_COLUMNS, *names)
        .sort("walk")
    )


def misses(walks: pl.LazyFrame, visits: pl.LazyFrame, timeline: Timeline) -> pl.LazyFrame:
    """The mappings that finished walks were never offered: walk, seq, mm, addr (bytes), from what a
    model's `walks` and `visits` say of the timeline."""
    mapped = (
        walks.filter(pl.col("misses") > 0)
        .select(pl.col("walk", "seq", "folio").cast(pl.Int64))
        .join(_mappings(timeline), on="folio")
        .filter(pl.col("seq").is_between("from", "until"))
        .select("walk", "seq", "mm", addr=pl.col("low") * PAGE_SIZE)
    )
    offered = mapped.join(visits.select("walk", "mm", "start", "end"), on=["walk", "mm"]).filter(
        (pl.col("start") <= pl.col("addr")) & (pl.col("addr") < pl.col("end"))
    )
    return mapped.join(offered, on=["walk", "mm", "addr"], how="anti").sort("walk", "mm", "addr")
