# SPDX-License-Identifier: GPL-2.0-only
"""What frame models are made of: which ranges hold which points, and which rows of a history hold
at which moments."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

import polars as pl


class Timeline(Protocol):
    """The tables that models read; `rr.timeline()` makes them (docs/timeline.md)."""

    @property
    def mms(self) -> pl.LazyFrame: ...
    @property
    def vma_spans(self) -> pl.LazyFrame: ...
    @property
    def folios(self) -> pl.LazyFrame: ...
    @property
    def mappings(self) -> pl.LazyFrame: ...
    @property
    def link_spans(self) -> pl.LazyFrame: ...
    @property
    def walks(self) -> pl.LazyFrame: ...


PAGE_SIZE: Final = 4096
"""Bytes."""
FOREVER: Final = 2**62
"""After every row."""

WALK_INPUT: Final = (
    *("walk", "seq", "kind", "folio", "index", "order"),
    *("mapcount", "exclusive", "home"),
)
"""What a model may know of a walk. The other columns are the native model's answer."""


EPOCHS: Final = 256
"""Into which overlapping() divides the moments: enough to part those that lived at different times,
and few enough that what lives long is not copied much."""


def pages_of(order: str) -> pl.Expr:
    """Of a folio."""
    return pl.lit(2, pl.Int64).pow(pl.col(order))


def walks_of(timeline: Timeline) -> pl.LazyFrame:
    """The walks: walk, seq, folio, first and last (offsets, in pages), order, mapcount, exclusive,
    home, and of its kind, may_stop (not all) and referenced. Numbers are i64, whatever the table's
    are."""
    return (
        timeline.walks.select(WALK_INPUT)
        .with_columns(
            may_stop=pl.col("kind").cast(pl.String) != "all",
            referenced=pl.col("kind").cast(pl.String) == "referenced",
        )
        .drop("kind")
        .with_columns(
            pl.exclude("exclusive", "may_stop", "referenced").cast(pl.Int64),
        )
        .with_columns(first="index", last=pl.col("index") + pages_of("order") - 1)
        .drop("index")
    )


def spans_of(table: pl.LazyFrame, *columns: str) -> pl.LazyFrame:
    """Some columns of a table of spans, with `from` and `until`, the last row after which it
    holds."""
    return table.select(
        pl.col(*columns),
        pl.col("from").cast(pl.Int64),
        (pl.col("to").cast(pl.Int64) - 1).fill_null(FOREVER).alias("until"),
    )


def settled(frame: pl.LazyFrame) -> pl.LazyFrame:
    """The frame, computed. For those that a plan would use more than once: it would hold a copy of
    all that leads to them for each use, and so grow beyond measure."""
    return frame.collect(engine="streaming").lazy()


def holding(
    ranges: pl.LazyFrame,
    points: pl.LazyFrame,
    *,
    by: Sequence[str],
    first: str,
    last: str,
    point: str,
) -> pl.LazyFrame:
    """Each range together with each point of its group that lies in [first, last].

    `points` must be distinct. In order, the points of a range are neighbours, so two searches in
    the sorted points find the ends of each range, and only pairs that are asked for are ever made.
    Returns the columns of both.
    """
    numbered = settled(points.sort(*by, point).with_row_index("_point"))
    found = numbered.select(*by, "_point", pl.col(point).alias("_at"))
    for edge, strategy, end in ((first, "forward", "_begin"), (last, "backward", "_end")):
        ranges = (
            ranges.sort(edge)
            .join_asof(
                found.sort("_at"),
                left_on=edge,
                right_on="_at",
                by=list(by),
                strategy=strategy,  # type: ignore[arg-type]
                check_sortedness=False,  # polars cannot tell for groups
                coalesce=False,
            )
            .drop("_at", *(f"{name}_right" for name in by), strict=False)
            .rename({"_point": end})
        )
    return (
        ranges.filter(pl.col("_begin") <= pl.col("_end"))
        .with_columns(_point=pl.int_ranges("_begin", pl.col("_end") + 1, dtype=pl.UInt32))
        .drop("_begin", "_end")
        .explode("_point")
        .join(numbered.drop(by), on="_point")
        .drop("_point")
    )


def at_moments(spans: pl.LazyFrame, moments: pl.LazyFrame, *, by: Sequence[str]) -> pl.LazyFrame:
    """The rows of a history that hold at moments: (*by, seq) with the columns of `spans`."""
    held = holding(spans, moments, by=by, first="from", last="until", point="seq")
    return held.drop("from", "until")


def overlapping(
    asked: pl.LazyFrame, spans: pl.LazyFrame, *, by: Sequence[str], what: str
) -> pl.LazyFrame:
    """Each row of `asked` with each row of the history that then overlapped its folio.

    asked: *by, seq, order, first and last: [first, last] is what a folio of that order takes.
    spans: *by, `what` (that of which it is a span: a VMA), low and high, from, until.

    Spans are many (a heap has one for each brk()), of few VMAs, and walks ask for the same places
    again and again. So first the places are held against the whole of what each VMA ever covered,
    epoch by epoch, lest each meets all VMAs of the past; then the spans of those VMAs against the
    moments asked for.

    Returns the columns of both.
    """
    spans = settled(spans)
    epochs = settled(_epochs(asked.select("seq").unique()))
    asked = settled(asked.join(epochs.select("seq", "epoch"), on="seq"))
    places = settled(asked.select(*by, "order", "epoch", "first").unique())
    orders = places.select("order").unique()
    ever = (
        spans.group_by(*by, what)
        .agg(
            pl.min("low"),
            pl.max("high"),
            pl.min("from").alias("born"),
            pl.max("until").alias("gone"),
        )
        .pipe(_in_epochs, epochs)
        .join(orders, how="cross")
        .with_columns(low=pl.col("low") - pages_of("order") + 1)
    )
    near = holding(
        ever, places, by=[*by, "order", "epoch"], first="low", last="high", point="first"
    )
    candidates = settled(
        asked.join(near.drop("low", "high"), on=[*by, "order", "epoch", "first"])
        .filter(pl.col("seq").is_between("born", "gone"))
        .drop("born", "gone", "epoch")
    )
    moments = candidates.select(*by, what, "seq").unique()
    then = at_moments(spans, moments, by=[*by, what])
    return candidates.join(then, on=[*by, what, "seq"]).filter(
        (pl.col("low") <= pl.col("last")) & (pl.col("first") <= pl.col("high"))
    )


def _epochs(moments: pl.LazyFrame) -> pl.LazyFrame:
    """seq, epoch, since and till: the moments in EPOCHS groups of neighbours, or fewer, with the
    first and last moment of each."""
    number = pl.int_range(pl.len()) * pl.min_horizontal(EPOCHS, pl.len()) // pl.len()
    numbered = settled(moments.sort("seq").with_columns(epoch=number))
    edges = numbered.group_by("epoch").agg(since=pl.min("seq"), till=pl.max("seq"))
    return numbered.join(edges, on="epoch")


def _in_epochs(lives: pl.LazyFrame, epochs: pl.LazyFrame) -> pl.LazyFrame:
    """Each row for each of the epochs that lie between its born and gone, or partly."""
    edges = epochs.select("epoch", "since", "till").unique()
    return (
        lives.sort("born")
        .join_asof(
            edges.select("till", _begin="epoch").sort("till"),
            left_on="born",
            right_on="till",
            strategy="forward",
        )
        .sort("gone")
        .join_asof(
            edges.select("since", _end="epoch").sort("since"),
            left_on="gone",
            right_on="since",
            strategy="backward",
        )
        .filter(pl.col("_begin") <= pl.col("_end"))
        .with_columns(epoch=pl.int_ranges("_begin", pl.col("_end") + 1))
        .drop("_begin", "_end", "since", "till", strict=False)
        .explode("epoch")
    )
