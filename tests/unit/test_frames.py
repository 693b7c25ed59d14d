# SPDX-License-Identifier: GPL-2.0-only
"""Frame models on timelines made by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import polars as pl
import pytest

from rmapreplay.rmap_models.frames import anon_vma, cow
from rmapreplay.rmap_models.frames.fork_tree import fork_tree
from rmapreplay.rmap_models.frames.tables import holding

_SCHEMAS: dict[str, dict[str, Any]] = {
    "mms": {
        "mm": pl.UInt32,
        "parent": pl.UInt32,
        "how": pl.String,
        "born": pl.UInt64,
        "gone": pl.UInt64,
    },
    "vma_spans": {
        "vma": pl.UInt32,
        "mm": pl.UInt32,
        "start": pl.UInt64,
        "end": pl.UInt64,
        "anon_pgoff": pl.UInt64,
        "flags": pl.UInt64,
        "faulted": pl.Boolean,
        "from": pl.UInt64,
        "to": pl.UInt64,
    },
    "folios": {
        "folio": pl.UInt64,
        "home_mm": pl.UInt32,
        "home_root": pl.Boolean,
        "from": pl.UInt64,
        "to": pl.UInt64,
    },
    "mappings": {
        "folio": pl.UInt64,
        "mm": pl.UInt32,
        "page": pl.UInt64,
        "pages": pl.UInt16,
        "from": pl.UInt64,
        "to": pl.UInt64,
    },
    "link_spans": {
        "object": pl.UInt32,
        "vma": pl.UInt32,
        "mm": pl.UInt32,
        "first": pl.UInt64,
        "last": pl.UInt64,
        "from": pl.UInt64,
        "to": pl.UInt64,
        "order": pl.UInt64,
    },
    "walks": {
        "walk": pl.UInt64,
        "seq": pl.UInt64,
        "kind": pl.String,
        "folio": pl.UInt64,
        "index": pl.UInt64,
        "order": pl.UInt8,
        "mapcount": pl.UInt32,
        "exclusive": pl.Boolean,
        "home": pl.UInt32,
    },
}


@dataclass
class ByHand:
    """A timeline of a few rows, each a tuple in the order of _SCHEMAS."""

    mms: pl.LazyFrame
    vma_spans: pl.LazyFrame
    folios: pl.LazyFrame
    mappings: pl.LazyFrame
    link_spans: pl.LazyFrame
    walks: pl.LazyFrame


def by_hand(**tables: list[tuple[Any, ...]]) -> ByHand:
    return ByHand(
        **{
            name: pl.LazyFrame(tables.get(name, []), schema=schema, orient="row")
            for name, schema in _SCHEMAS.items()
        }
    )


LOCKED = 0x2000
PAGE = 4096


def family(kind: str = "referenced", parent_flags: int = 0) -> ByHand:
    """mm 1 forks mm 2, then mm 3. All map folio 1, which mm 1 made, at page 16; mm 2 has then moved
    it to page 64 and mapped folio 2 in its place, and mm 3 has unmapped it and mapped folio 3."""
    area = (16 * PAGE, 20 * PAGE, 16)
    return by_hand(
        mms=[(1, None, "exec", 0, None), (2, 1, "fork", 3, None), (3, 1, "fork", 4, 9)],
        vma_spans=[
            (1, 1, *area, parent_flags, True, 1, None),
            (2, 2, *area, 0, True, 3, 5),
            (4, 2, 64 * PAGE, 68 * PAGE, 16, 0, True, 5, None),
            (5, 2, *area, 0, True, 6, None),
            (3, 3, *area, 0, True, 4, 9),
        ],
        folios=[
            (1, 1, False, 2, None),
            (2, 2, False, 7, None),
            (3, 3, False, 8, 9),
        ],
        mappings=[
            (1, 1, 16, 1, 2, None),
            (1, 2, 16, 1, 3, 5),
            (1, 2, 64, 1, 5, None),
            (1, 3, 16, 1, 4, 8),
            (2, 2, 16, 1, 7, None),
            (3, 3, 16, 1, 8, 9),
        ],
        link_spans=[
            (1, 1, 1, 16, 19, 1, None, 1),
            (1, 2, 2, 16, 19, 3, 5, 2),
            (1, 3, 3, 16, 19, 4, 9, 3),
            (1, 4, 2, 16, 19, 5, None, 4),
            (2, 5, 2, 16, 19, 6, None, 5),
        ],
        walks=[
            (0, 2, kind, 1, 16, 0, 1, True, 1),
            (1, 4, kind, 1, 16, 0, 3, False, 1),
            (2, 8, kind, 1, 16, 0, 2, False, 1),
            (3, 9, kind, 2, 16, 0, 1, True, 2),
        ],
    )


def seen(visits: pl.LazyFrame) -> list[tuple[int, ...]]:
    """(walk, mm, virtual page of the VMA, hits) by visit."""
    frame = visits.collect().with_columns(pl.col("start") // PAGE)
    assert frame.equals(frame.sort("walk", "visit"))
    return frame.select("walk", "mm", "start", "hits").rows()


def test_anon_vma_visits_links_in_order_of_insertion() -> None:
    assert seen(anon_vma.visits(family())) == [
        (0, 1, 16, 1),
        *((1, 1, 16, 1), (1, 2, 16, 1), (1, 3, 16, 1)),
        *((2, 1, 16, 1), (2, 3, 16, 0), (2, 2, 64, 1)),
        (3, 2, 16, 1),
    ]
    sums = anon_vma.walks(family()).collect()
    assert sums["visits"].to_list() == [1, 3, 3, 1]
    assert sums["useless_other"].to_list() == [0, 0, 1, 0]
    assert sums["stopped"].all()


def test_cow_visits_its_home_then_the_newest_below() -> None:
    assert seen(cow.visits(family("all"))) == [
        (0, 1, 16, 1),
        *((1, 1, 16, 1), (1, 3, 16, 1), (1, 2, 16, 1)),
        *((2, 1, 16, 1), (2, 3, 16, 0), (2, 2, 16, 0), (2, 2, 64, 1)),
        (3, 2, 16, 1),
    ]
    sums = cow.walks(family("all")).collect()
    assert sums["contexts_live"].to_list() == [1, 3, 3, 1]
    assert sums["useless_other"].to_list() == [0, 0, 2, 0]
    assert sums["vma_lookups"].to_list() == [1, 3, 4, 1]
    assert sums["remap_lookups"].to_list() == [0, 3, 3, 0]
    assert sums["misses"].sum() == 0
    assert not sums["stopped"].any()


@pytest.mark.parametrize("model", [anon_vma, cow])
def test_an_mlocked_vma_stops_a_walk_for_references(model: Any) -> None:
    assert model.walks(family(parent_flags=LOCKED)).collect()["visits"].to_list() == [1, 1, 1, 1]
    every = model.walks(family("unmap", LOCKED)).collect()
    assert every["visits"].to_list()[1] == 3
    assert every["misses"].sum() == 0


@pytest.mark.parametrize("model", [anon_vma, cow])
def test_what_is_not_offered_is_missed(model: Any) -> None:
    short = family()
    short.link_spans = short.link_spans.filter(pl.col("vma") != 4)
    short.vma_spans = short.vma_spans.filter(pl.col("vma") != 4)
    sums = model.walks(short).collect()
    assert sums["misses"].to_list() == [0, 0, 1, 0]
    assert sums["stopped"].to_list() == [True, True, False, True]


@pytest.mark.parametrize("model", [anon_vma, cow])
def test_no_walks_at_all(model: Any) -> None:
    none = family()
    none.walks = none.walks.filter(pl.lit(False))
    assert model.walks(none).collect().height == 0
    assert model.visits(none).collect().height == 0


def test_a_chain_of_forks_is_numbered_from_its_end() -> None:
    n = 1000
    mms = [(1, None, "exec", 0, None)] + [(i, i - 1, "fork", i, i + 2) for i in range(2, n + 1)]
    tree = fork_tree(by_hand(mms=mms)).sort("mm")
    assert tree["place"].to_list() == list(range(n - 1, -1, -1))
    assert tree["first"].to_list() == [0] * n
    assert tree["top"].to_list() == [1] * n
    # A context lives as long as the last of those below.
    assert tree["until"].to_list()[1:] == [n + 1] * (n - 1)


def test_siblings_come_newest_first_before_their_parent() -> None:
    mms = [
        (1, None, "exec", 0, None),
        *((2, 1, "fork", 1, None), (3, 1, "fork", 2, None), (4, 2, "fork", 3, None)),
        (5, None, "exec", 4, None),
        (6, 2, "fork", 5, None),
    ]
    tree = fork_tree(by_hand(mms=mms))
    inside = tree.filter(pl.col("top") == 1).sort("place")
    assert inside["mm"].to_list() == [3, 6, 4, 2, 1]
    assert tree["place"].n_unique() == 6
    of_two = tree.row(by_predicate=pl.col("mm") == 2, named=True)
    below = tree.filter(pl.col("place").is_between(of_two["first"], of_two["place"]))
    assert set(below["mm"]) == {2, 4, 6}


def test_holding_pairs_ranges_with_the_points_in_them() -> None:
    ranges = pl.LazyFrame({"of": [1, 1, 2, 3], "low": [0, 5, 5, 0], "high": [5, 4, 9, 99]})
    points = pl.LazyFrame({"of": [1, 1, 1, 2], "at": [0, 5, 6, 9]})
    found = holding(ranges, points, by=["of"], first="low", last="high", point="at").collect()
    assert sorted(found.select("of", "low", "at").rows()) == [(1, 0, 0), (1, 0, 5), (2, 5, 9)]
