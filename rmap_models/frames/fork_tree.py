# SPDX-License-Identifier: GPL-2.0-only
"""Who was forked from whom, in a form in which all below an mm are one range of numbers.

Trees are climbed by doubling: from everyone's n-th ancestor one join makes the 2n-th, so a chain of
a thousand forks takes ten. An mm is one row, so this is done at once, not lazily.
"""

from __future__ import annotations

import polars as pl

from rmapreplay.rmap_models.frames.tables import FOREVER, Timeline, spans_of


def fork_tree(timeline: Timeline) -> pl.DataFrame:
    """A row per mm: mm, top (the oldest ancestor), first and place, born and until.

    Numbered by place, every mm comes after all those forked from it, and of two that were forked
    from the same mm the newer is first, with all below it. So mm and all below it have the places
    [first, place], in the order in which a cow-context walk visits them but for its beginning.

    born, until: the rows after which its context exists, dead or alive: to the end of the last mm
    that descends from it, or folio homed at one of them. alive: the last of its mm.
    """
    mms = timeline.mms.select(
        pl.col("mm", "born").cast(pl.Int64),
        parent=pl.when(pl.col("how").cast(pl.String) == "fork").then(
            pl.col("parent").cast(pl.Int64)
        ),
        alive=(pl.col("gone").cast(pl.Int64) - 1).fill_null(FOREVER),
    )
    tree = mms.collect()
    jumps = _jumps(tree)
    sizes = _below(tree.select("mm", size=pl.lit(1, pl.Int64)), jumps, pl.col("size").sum())
    elder = tree.join(sizes, on="mm").sort("mm", descending=True)
    elder = elder.with_columns(
        first=(pl.col("size").cum_sum() - pl.col("size")).over("parent"), top="mm"
    )
    for jump in jumps:
        above = elder.select(ancestor="mm", skipped="first", higher="top")
        elder = (
            elder.join(jump, on="mm", how="left")
            .join(above, on="ancestor", how="left")
            .with_columns(
                first=pl.col("first") + pl.col("skipped").fill_null(0),
                top=pl.coalesce("higher", "top"),
            )
            .drop("ancestor", "skipped", "higher")
        )
    placed = elder.with_columns(place=pl.col("first") + pl.col("size") - 1).drop("size", "parent")
    kept = _below(
        placed.join(_homed(timeline, placed), on="mm", how="left").select(
            "mm", until=pl.max_horizontal("alive", "until")
        ),
        jumps,
        pl.col("until").max(),
    )
    return placed.join(kept, on="mm")


def _homed(timeline: Timeline, tree: pl.DataFrame) -> pl.DataFrame:
    """mm, and the last row after which a folio is homed there."""
    return homes(timeline, tree).group_by(mm="home").agg(pl.col("until").max()).collect()


def homes(timeline: Timeline, tree: pl.DataFrame) -> pl.LazyFrame:
    """Where walks of a folio begin: folio, home (an mm), from, until.

    That is the mm that made it; for a folio that swap gave back, and of which relatives may have
    entries too, the oldest ancestor.
    """
    folios = spans_of(timeline.folios, "folio", "home_mm", "home_root")
    return (
        folios.with_columns(pl.col("folio", "home_mm").cast(pl.Int64))
        .join(tree.lazy().select(home_mm="mm", top="top"), on="home_mm")
        .select(
            "folio",
            "from",
            "until",
            home=pl.when("home_root").then("top").otherwise("home_mm"),
        )
    )


def _jumps(tree: pl.DataFrame) -> list[pl.DataFrame]:
    """For n = 1, 2, 4, ...: mm and its n-th ancestor, of those that have one."""
    jumps = []
    jump = tree.filter(pl.col("parent").is_not_null()).select("mm", ancestor="parent")
    while jump.height:
        jumps.append(jump)
        jump = jump.join(jump.select(ancestor="mm", further="ancestor"), on="ancestor").select(
            "mm", ancestor="further"
        )
    return jumps


def _below(values: pl.DataFrame, jumps: list[pl.DataFrame], fold: pl.Expr) -> pl.DataFrame:
    """The values of each mm folded with those of all below it: after the step of n, with those that
    are less than 2n generations away."""
    for jump in jumps:
        lower = values.join(jump, on="mm").drop("mm").rename({"ancestor": "mm"})
        values = pl.concat([values, lower.select(values.columns)]).group_by("mm").agg(fold)
    return values
