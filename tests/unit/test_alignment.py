# SPDX-License-Identifier: GPL-2.0-only
"""Walks of several models beside each other, held against a plain loop over them."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import polars as pl
import pytest

from rmapreplay.analysis.compare import alignment
from rmapreplay.analysis.compare.alignment import KEY, NUMBERS, WALKED, aligned
from rmapreplay.analysis.compare.tally import Tally, distributions

Walk = dict[str, Any]


def walks_of(keys: list[tuple[int, int, str]], **numbers: int) -> list[Walk]:
    """Walks with these keys, in order; what they cost is told by their number, times 10."""
    plain = {"pid": 1, "mapping": "anon", "fork_depth": 0, "order": 0, "mapcount": 1}
    return [
        {
            **dict(zip(KEY, key, strict=True)),
            **plain,
            **dict.fromkeys(NUMBERS, 0),
            "walk": i,
            "visits": 10 * i,
            **numbers,
        }
        for i, key in enumerate(keys)
    ]


def frame(walks: list[Walk]) -> pl.DataFrame:
    schema = dict.fromkeys((*KEY, *WALKED, *NUMBERS), pl.Int64)
    return pl.DataFrame(walks, {**schema, "kind": pl.String, "mapping": pl.String})


def in_pieces(walks: list[Walk], size: int) -> Any:
    return iter([frame(walks[i : i + size]) for i in range(0, len(walks), size)])


def naive(models: list[list[Walk]]) -> set[tuple[Any, ...]]:
    """The n-th walk of each key: its number under each model, None if that does not make it."""
    found: dict[tuple[Any, ...], list[int | None]] = {}
    for place, walks in enumerate(models):
        seen: Counter[tuple[Any, ...]] = Counter()
        for walk in walks:
            key = tuple(walk[name] for name in KEY)
            row = found.setdefault((*key, seen[key]), [None] * len(models))
            row[place] = walk["walk"]
            seen[key] += 1
    return {(*key[:3], *row) for key, row in found.items()}


@pytest.mark.parametrize("block", [1, 3, 7, 1000])
@pytest.mark.parametrize("seed", range(8))
def test_the_same_however_it_comes(block: int, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Walks left out here and there, several of the same folio at the same row; in any pieces."""
    monkeypatch.setattr(alignment, "BLOCK", block)
    rng = random.Random(seed)
    whole = [
        (seq, rng.randrange(3), rng.choice(["unmap", "all"]))
        for seq in range(12)
        for _ in range(rng.randrange(6))
    ]
    models = [
        walks_of([key for key in whole if rng.random() > left_out]) for left_out in (0.0, 0.1, 0.4)
    ]
    blocks = list(aligned([in_pieces(walks, rng.randrange(1, 9)) for walks in models]))
    found = pl.concat(block.cast({f"walk:{i}": pl.Int64 for i in range(3)}) for block in blocks)
    rows = found.select(*KEY, "walk:0", "walk:1", "walk:2").rows()
    assert len(rows) == len(set(rows))
    assert set(rows) == naive(models)
    assert found["seq"].is_sorted()


def test_equal_walks_are_not_joined(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nearly always all models make the same walks; then there is nothing to look for."""
    monkeypatch.setattr(alignment, "BLOCK", 4)
    monkeypatch.setattr(alignment, "_joined", lambda _: pytest.fail("joined"))
    walks = walks_of([(i // 5, i, "all") for i in range(21)])
    blocks = list(aligned([in_pieces(walks, 3), in_pieces(walks, 7)]))
    assert sum(block.height for block in blocks) == 21
    assert all((block["walk:0"] == block["walk:1"]).all() for block in blocks)


def test_no_walks_at_all() -> None:
    assert list(aligned([iter([]), iter([])])) == []


def tally(blocks: list[list[Walk]], models: int, by: list[str]) -> Tally:
    names = pl.DataFrame(schema={"pid": pl.Int64, "seq": pl.Int64, "comm": pl.String})
    found = Tally([f"m{i}" for i in range(models)], "visits", by, names)
    for block in aligned([in_pieces(walks, 100) for walks in blocks]):
        found.add(block)
    return found


def test_groups_of_numbers_are_ranges() -> None:
    sharers = [1, 2, 3, 4, 5, 8, 9, 16, 17, 1000]
    walks = [
        {**walk, "mapcount": n}
        for walk, n in zip(walks_of([(i, 0, "all") for i in range(10)]), sharers, strict=True)
    ]
    groups = tally([walks, walks], 2, ["sharers"]).groups()
    assert groups.select("value", "walks").rows() == [
        ("1", 1), ("2", 1), ("3-4", 2), ("5-8", 2), ("9-16", 2), ("17-32", 1), ("513-1024", 1),
    ]  # fmt: skip


def test_sharers_of_a_large_folio_are_the_vmas_that_hold_it() -> None:
    """512 PTEs of a 2 MB folio in each of three processes, of which one model visits one."""
    huge = {"order": 9, "mapcount": 1536}
    first = [{**walk, **huge, "hits": 1} for walk in walks_of([(0, 0, "unmap")])]
    second = [{**walk, **huge, "hits": 3} for walk in walks_of([(0, 0, "unmap")])]
    groups = tally([first, second], 2, ["sharers"]).groups()
    assert groups["value"].to_list() == ["3-4"]


def test_the_best_of_the_others_missed_nothing() -> None:
    """m2 visits least, but is no measure: it missed a mapping."""
    keys = [(0, 0, "all")]
    models = [
        walks_of(keys, visits=7),
        walks_of(keys, visits=5),
        walks_of(keys, visits=1, misses=1),
    ]
    worst = tally(models, 3, []).worst()
    assert worst.select("model", "best", "excess").rows() == [("m0", "m1", 2)]


def test_ten_worst_and_how_many_are_alike() -> None:
    """Thirty walks of one mm in groups of three that cost the same, ever more."""
    keys = [(i, 5 << 36 | i, "all") for i in range(36)]
    reference = walks_of(keys, visits=1)
    worse = [{**walk, "visits": 2 + i // 3} for i, walk in enumerate(walks_of(keys))]
    worst = tally([reference, worse], 2, []).worst()
    assert worst["model"].unique().to_list() == ["m1"]
    assert worst["excess"].to_list() == [*range(12, 2, -1)]
    assert worst["alike"].to_list() == [3] * 10
    assert worst["walk"].to_list() == [*range(33, 3, -3)]


def test_percentiles_are_by_nearest_rank() -> None:
    counts = pl.DataFrame({"name": ["visits"] * 3, "value": [1, 2, 40], "len": [90, 5, 5]})
    found = distributions(counts)["visits"]
    assert found == {"mean": (90 + 10 + 200) / 100, "p95": 2, "max": 40}
    twice = distributions(pl.concat([counts, counts]))["visits"]
    assert twice == found
    assert distributions(counts)["steps"] == {"mean": 0.0, "p95": 0, "max": 0}
