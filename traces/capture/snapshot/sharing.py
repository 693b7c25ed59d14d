# SPDX-License-Identifier: GPL-2.0-only
"""Which pages are shared by whom. Pages that the same address spaces share in the same way are of
one pattern, and there are few patterns, however many pages."""

from __future__ import annotations

import random
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import polars as pl

from rmapreplay.traces.capture.snapshot.pages import ANON, GUARD, SWAPPED, ZERO
from rmapreplay.traces.capture.snapshot.rows import PAGE, Content
from rmapreplay.traces.capture.snapshot.tree import Family, Node

_TOKEN_BITS: Final = 40


@dataclass(frozen=True)
class Share:
    """A folio's place in a pattern.

    Attributes:
        members: who has it, by index.
        kind: ANON, SWAPPED or ZERO.
        order: of the folio.
    """

    members: tuple[int, ...]
    kind: int
    order: int


Pattern = tuple[Share, ...]
"""What all members of a family have at an address, by folio."""


@dataclass
class Sharing:
    """What is shared in the families.

    Attributes:
        runs: consecutive pages of one pattern, within one VMA: family, start (address), len
            (bytes), pattern.
        patterns: by their number.
        guards: guard markers: mm, start, len.
    """

    runs: pl.DataFrame
    patterns: list[Pattern]
    guards: pl.DataFrame

    def content(self, family: int) -> Content:
        """Where a family has anything."""
        own = self.runs.filter(pl.col("family") == family)
        ends = own["start"] + own["len"]
        return Content(array("Q", own["start"].to_list()), array("Q", ends.to_list()))


def image_sharing(entries: pl.DataFrame, images: Sequence[int]) -> set[int]:
    """Who shares any page, at one address, with another of the same image (a number per mm)."""
    image = pl.DataFrame(
        {"mm": range(len(images)), "image": images}, {"mm": pl.UInt32, "image": pl.UInt32}
    )
    several = [i for i, n in Counter(images).items() if n > 1]
    shared = entries.filter(pl.col("kind").is_in([ANON, SWAPPED])).join(image, on="mm")
    shared = shared.filter(pl.col("image").is_in(several))
    return set(shared.filter(pl.len().over("image", "page", "kind", "key") > 1)["mm"].unique())


def analyse(entries: pl.DataFrame, families: Sequence[Family]) -> Sharing:
    """The patterns of all families."""
    of = pl.DataFrame(
        [
            (node.index, i, token)
            for i, family in enumerate(families)
            for node, token in zip(family.nodes, _tokens(len(family.nodes)), strict=True)
        ],
        schema={"mm": pl.UInt32, "family": pl.UInt32, "token": pl.UInt64},
        orient="row",
    )
    entries = entries.join(of, on="mm")
    guards = _together(entries.filter(pl.col("kind") == GUARD), ["mm"])
    entries = entries.filter(pl.col("kind") != GUARD)
    cuts = pl.DataFrame(
        [(i, at // PAGE) for i, family in enumerate(families) for at in family.boundaries()],
        schema={"family": pl.UInt32, "page": pl.UInt64},
        orient="row",
    )
    folios = _with_orders(entries, cuts)
    pages = _signed(folios).sort("family", "page")
    runs = _runs(pages, cuts)
    known = runs.unique(["family", "signature"], keep="first", maintain_order=True)
    known = known.select("family", "signature", page="first").with_row_index("pattern")
    runs = runs.join(
        known.select("family", "signature", "pattern"),
        on=["family", "signature"],
        maintain_order="left",
    )
    runs = runs.select(
        "family", start=pl.col("first") * PAGE, len=pl.col("pages") * PAGE, pattern="pattern"
    )
    return Sharing(runs, _patterns(known, entries, folios), guards)


def _tokens(n: int) -> list[int]:
    """Numbers whose sums tell which of them were added."""
    chance = random.Random(n)
    return [chance.getrandbits(_TOKEN_BITS) for _ in range(n)]


def _with_orders(entries: pl.DataFrame, cuts: pl.DataFrame) -> pl.DataFrame:
    """A row per page and folio: family, page, kind, key, members (sum of their tokens), order.
    A large folio has its order only if all of it is there, at its place, and shared in one way;
    else it counts as pages."""
    place = ["family", "page", "kind", "key"]
    folios = entries.group_by(place).agg(
        members=pl.col("token").sum(), head=pl.col("head").first(), order=pl.col("order").first()
    )
    large = folios.filter(pl.col("order") > 0)
    if large.is_empty():
        return folios.with_columns(pl.lit(0, pl.UInt8).alias("order"))
    plain = _signed(folios.with_columns(pl.lit(0, pl.UInt8).alias("order")))
    size = pl.lit(1, pl.UInt64) * pl.lit(2, pl.UInt64).pow("order")
    blocks = large.with_columns(base=pl.col("page") - (pl.col("key") - pl.col("head")))
    blocks = (
        blocks.join(plain, on=["family", "page"])
        .group_by("family", "head", "base", "order")
        .agg(there=pl.len(), alike=pl.col("signature").n_unique() == 1)
    )
    after = cuts.rename({"page": "cut"}).sort("cut")
    blocks = (
        blocks.with_columns(inside=pl.col("base") + 1)
        .sort("inside")
        .join_asof(
            after,
            left_on="inside",
            right_on="cut",
            by="family",
            strategy="forward",
            check_sortedness=False,
        )
    )
    blocks = blocks.filter(
        (pl.col("there") == size)
        & pl.col("alike")
        & (pl.col("base") % size == 0)
        & (pl.col("cut").is_null() | (pl.col("cut") - pl.col("base") >= size))
    ).select("family", "head", "base", whole="order")
    folios = folios.with_columns(base=pl.col("page") + pl.col("head") - pl.col("key"))
    folios = folios.join(blocks, on=["family", "head", "base"], how="left")
    return folios.with_columns(order=pl.col("whole").fill_null(0)).drop("base", "whole")


def _signed(folios: pl.DataFrame) -> pl.DataFrame:
    """A row per page: family, page, signature: equal where members, kinds and orders are."""
    told = (
        pl.col("members")
        + pl.col("kind").cast(pl.UInt64) * (1 << 58)
        + pl.col("order").cast(pl.UInt64) * (1 << 60)
    )
    mixed = folios.select("family", "page", sign=told.hash() // 4096)
    return mixed.group_by("family", "page").agg(signature=pl.col("sign").sum())


def _runs(pages: pl.DataFrame, cuts: pl.DataFrame) -> pl.DataFrame:
    cut = cuts.with_columns(cut=pl.lit(value=True)).unique(["family", "page"])
    pages = pages.join(cut, on=["family", "page"], how="left", maintain_order="left")
    new = (
        (pl.col("page") != pl.col("page").shift(1) + 1)
        | (pl.col("family") != pl.col("family").shift(1))
        | (pl.col("signature") != pl.col("signature").shift(1))
        | pl.col("cut").is_not_null()
    ).fill_null(value=True)
    return (
        pages.with_columns(run=new.cum_sum())
        .group_by("run", maintain_order=True)
        .agg(
            pl.col("family").first(),
            first=pl.col("page").first(),
            pages=pl.len().cast(pl.UInt64),
            signature=pl.col("signature").first(),
        )
    )


def _together(pages: pl.DataFrame, by: list[str]) -> pl.DataFrame:
    """Runs of consecutive pages: the columns `by`, start, len."""
    pages = pages.select(*by, "page").sort(*by, "page")
    new = pl.col("page") != pl.col("page").shift(1) + 1
    for name in by:
        new |= pl.col(name) != pl.col(name).shift(1)
    runs = pages.with_columns(run=new.fill_null(value=True).cum_sum()).group_by(
        *by, "run", maintain_order=True
    )
    return runs.agg(start=pl.col("page").first() * PAGE, len=pl.len().cast(pl.UInt64) * PAGE).drop(
        "run"
    )


def _patterns(known: pl.DataFrame, entries: pl.DataFrame, folios: pl.DataFrame) -> list[Pattern]:
    """From one page of each."""
    place = ["family", "page"]
    chosen = known.select(*place, "pattern").join(
        entries.select(*place, "kind", "key", "mm"), on=place
    )
    chosen = chosen.join(folios.select(*place, "kind", "key", "order"), on=[*place, "kind", "key"])
    shares = chosen.group_by("pattern", "kind", "key", maintain_order=True).agg(
        pl.col("mm").sort(), pl.col("order").first()
    )
    patterns: list[list[Share]] = [[] for _ in range(known.height)]
    for pattern, kind, members, order in shares.select(
        "pattern", "kind", "mm", "order"
    ).iter_rows():
        patterns[pattern].append(Share(tuple(members), kind, order))
    return [tuple(sorted(each, key=lambda share: share.members)) for each in patterns]


def carried(pattern: Pattern, nodes: dict[int, Node]) -> dict[int, int]:
    """Who got a folio of a pattern from its parent: by index of the child, the place of the share
    in the pattern. Of two that claim one child, the one with more members."""
    found: dict[int, int] = {}
    order = sorted(range(len(pattern)), key=lambda i: -len(pattern[i].members))
    for i in order:
        share = pattern[i]
        if share.kind == ZERO or len(share.members) < 2:
            continue
        below: Counter[int] = Counter()
        for member in share.members:
            below.update(node.index for node in nodes[member].ancestry())
        for index, n in below.items():
            if n < len(share.members):
                found.setdefault(index, i)
    return found
