# SPDX-License-Identifier: GPL-2.0-only
"""Sums over aligned walks: in how many walks a model does more than the first, by how much, in
groups; which walks cost it most; and how often each cost came, for percentiles over traces."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Final

import polars as pl

from rmapreplay.analysis.compare.vocabulary import COSTS, REASONS

WORST: Final = 10

_COUNTED: Final = (
    "walks", "missed_walks", "more_walks", "more", "fewer_walks", "fewer", "net",
    "reference_sum", "model_sum",
)  # fmt: skip
_NAMES: Final = ("model", "kind", "comm", "mapping", "best")
_WORST_SCHEMA: Final = pl.Schema(
    {
        name: pl.String() if name in _NAMES else pl.Int64()
        for name in (
            "model", "walk", "seq", "kind", "folio", "pid", "comm", "mm", "mapping", "fork_depth",
            "order", "sharers", "cost", "best", "best_cost", "excess", "alike",
        )
    }
)  # fmt: skip
_COMPACT_AFTER: Final = 64
"""Blocks whose sums are kept apart before they are added up."""


class Tally:
    """Adds up blocks of aligned walks (analysis/compare/alignment.py).

    Args:
        models: labels; the first is the one that the others are held against.
        metric: one of COSTS.
        by: some of GROUPS.
        names: pid, seq and comm: what a process is called from that row of the trace on.
    """

    def __init__(
        self, models: Sequence[str], metric: str, by: Sequence[str], names: pl.DataFrame
    ) -> None:
        self._models = list(models)
        self._metric = metric
        self._by = list(by)
        self._names = names
        self._sums: list[pl.DataFrame] = []
        self._worst: dict[int, pl.DataFrame] = {}
        self._alone = [dict.fromkeys(("alone", "lacking"), 0) for _ in models]
        self._counts: list[list[pl.DataFrame]] = [[] for _ in models]

    def add(self, block: pl.DataFrame) -> None:
        block = self._grouped(block)
        for i in range(len(self._models)):
            self._count(block, i)
            self._find_worst(block, i)
        for i in range(1, len(self._models)):
            made, reference = (pl.col(f"walk:{place}").is_not_null() for place in (i, 0))
            alone, lacking = block.select((made & ~reference).sum(), (reference & ~made).sum()).row(
                0
            )
            self._alone[i]["alone"] += alone
            self._alone[i]["lacking"] += lacking
            both = block.filter(made & reference)
            self._sums.append(_compared(both, i, self._metric, pl.lit("all"), pl.lit("")))
            for by in self._by:
                if by == "reason":
                    self._sums += [
                        _compared(both, i, part, pl.lit(by), pl.lit(part))
                        for part in REASONS[self._metric]
                    ]
                else:
                    self._sums.append(
                        _compared(both, i, self._metric, pl.lit(by), pl.col(f"by:{by}"))
                    )
        if len(self._sums) > _COMPACT_AFTER * len(self._models) * (len(self._by) + 1):
            self._sums = [_added(self._sums)]

    # ---- what was found ----

    def alignment(self) -> pl.DataFrame:
        """A row for each model but the first: how many walks it has in common with that; `alone`
        and `lacking` are those that only one of the two makes; then as groups()."""
        sums = self._groups().filter(pl.col("by") == "all").drop("by", "value")
        rows = [
            {"model": label, **found}
            for label, found in zip(self._models[1:], self._alone[1:], strict=True)
        ]
        schema = {"model": pl.String, "alone": pl.Int64, "lacking": pl.Int64}
        found = pl.DataFrame(rows, schema).join(sums, on="model", how="left", maintain_order="left")
        return found.with_columns(pl.col(_COUNTED).fill_null(0))

    def groups(self) -> pl.DataFrame:
        """A row for each model but the first, and each group: the walks that both make; those in
        which the model costs more than the first, and by how much in sum; those in which it costs
        less; the difference of the sums."""
        return self._groups().filter(pl.col("by") != "all")

    def _groups(self) -> pl.DataFrame:
        found = _added(self._sums)
        order = {by: place for place, by in enumerate(("all", *self._by))}
        model = {str(place): label for place, label in enumerate(self._models)}
        return found.sort(
            pl.col("by").replace_strict(order, return_dtype=pl.Int64),
            _rank("value"),
            maintain_order=True,
        ).select(
            "by",
            "value",
            pl.col("place").cast(pl.String).replace_strict(model, return_dtype=pl.String)
            .alias("model"),
            *_COUNTED,
        )  # fmt: skip

    def worst(self) -> pl.DataFrame:
        """The worst walks of each model: those in which it costs most above the best of the others
        that missed nothing. Walks of one mm and kind of mapping with the same costs everywhere are
        told once, by the first; `alike` says how many there are."""
        found = [self._worst[i] for i in range(len(self._models)) if i in self._worst]
        return pl.concat(found) if found else pl.DataFrame(schema=_WORST_SCHEMA)

    def counts(self, place: int) -> pl.DataFrame:
        """How often each cost came in the walks of a model: name, value, len."""
        return _counted(self._counts[place])

    # ---- one block ----

    def _grouped(self, block: pl.DataFrame) -> pl.DataFrame:
        hits = pl.max_horizontal(f"hits:{i}" for i in range(len(self._models)))
        sharers = pl.when(pl.col("order") == 0).then("mapcount").otherwise(hits).cast(pl.Int64)
        block = block.with_columns(
            pl.col("kind", "mapping").name.prefix("by:"),
            pl.col("order").cast(pl.String).alias("by:order"),
            _range_of(pl.col("fork_depth").cast(pl.Int64)).alias("by:depth"),
            _range_of(sharers).alias("by:sharers"),
            sharers=sharers,
            mm=pl.col("folio") // 2**36,
        )
        if self._names.height:
            block = block.join_asof(self._names, on="seq", by="pid", check_sortedness=False)
        else:
            block = block.with_columns(comm=pl.lit(None, pl.String))
        process = pl.concat_str(pl.col("comm").fill_null("?"), pl.lit("["), "pid", pl.lit("]"))
        return block.with_columns(process.alias("by:process"))

    def _count(self, block: pl.DataFrame, place: int) -> None:
        made = block.filter(pl.col(f"walk:{place}").is_not_null())
        parts = self._counts[place]
        parts += [
            made.group_by(value=pl.col(f"{name}:{place}").cast(pl.Int64))
            .len()
            .select(pl.lit(name).alias("name"), "value", pl.col("len").cast(pl.Int64))
            for name in COSTS
        ]
        if len(parts) > _COMPACT_AFTER * len(COSTS):
            self._counts[place] = [_counted(parts)]

    def _find_worst(self, block: pl.DataFrame, place: int) -> None:
        def cost(i: int) -> pl.Expr:
            return pl.col(f"{self._metric}:{i}").cast(pl.Int64)

        others = [i for i in range(len(self._models)) if i != place]
        if not others:
            return
        whole = [pl.when(pl.col(f"misses:{i}") == 0).then(cost(i)) for i in others]
        best = pl.min_horizontal(whole)
        best_model = reduce(
            lambda rest, of: (
                pl.when(of[1] == best).then(pl.lit(self._models[of[0]])).otherwise(rest)
            ),
            reversed(list(zip(others, whole, strict=True))),
            pl.lit(None, pl.String),
        )
        found = (
            block.lazy()
            .filter(cost(place) > best)
            .select(
                *(
                    pl.lit(self._models[place]).alias("model"),
                    pl.col(f"walk:{place}").alias("walk"),
                ),
                *("seq", "kind", "folio", "pid", "comm", "mm", "mapping", "fork_depth", "order"),
                *("sharers", cost(place).alias("cost"), best_model.alias("best")),
                *(best.alias("best_cost"), (cost(place) - best).alias("excess")),
                alike=pl.lit(1, pl.Int64),
            )
            .cast(_WORST_SCHEMA)
            .collect()
        )
        if not found.height:
            return
        if place in self._worst:
            found = pl.concat([self._worst[place], found])
        same = ["model", "mm", "mapping", "kind", "order", "sharers", "cost", "best", "best_cost"]
        # What is dropped cannot come back: others that were ahead of it still are.
        self._worst[place] = (
            found.group_by(same, maintain_order=True)
            .agg(pl.exclude(*same, "alike").first(), pl.col("alike").sum())
            .sort("excess", "walk", descending=[True, False])
            .head(WORST)
            .select(found.columns)
        )


def _compared(
    both: pl.DataFrame, place: int, metric: str, by: pl.Expr, value: pl.Expr
) -> pl.DataFrame:
    """Sums over walks that the first model and that at `place` make."""
    ours, reference = (pl.col(f"{metric}:{i}").cast(pl.Int64) for i in (place, 0))
    difference = ours - reference
    return (
        both.lazy()
        .group_by(by=by, value=value, maintain_order=True)
        .agg(
            walks=pl.len().cast(pl.Int64),
            missed_walks=(pl.col(f"misses:{place}") > 0).sum().cast(pl.Int64),
            more_walks=(difference > 0).sum().cast(pl.Int64),
            more=difference.clip(lower_bound=0).sum(),
            fewer_walks=(difference < 0).sum().cast(pl.Int64),
            fewer=-difference.clip(upper_bound=0).sum(),
            net=difference.sum(),
            reference_sum=reference.sum(),
            model_sum=ours.sum(),
        )
        .select(pl.lit(place).cast(pl.Int64).alias("place"), "by", "value", *_COUNTED)
        .collect()
    )


def _added(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    keys = ["place", "by", "value"]
    if not parts:
        schema = {"place": pl.Int64, "by": pl.String, "value": pl.String}
        return pl.DataFrame(schema={**schema, **dict.fromkeys(_COUNTED, pl.Int64)})
    return pl.concat(parts).group_by(keys, maintain_order=True).agg(pl.col(_COUNTED).sum())


def _counted(parts: Sequence[pl.DataFrame]) -> pl.DataFrame:
    if not parts:
        return pl.DataFrame(schema={"name": pl.String, "value": pl.Int64, "len": pl.Int64})
    return pl.concat(parts).group_by("name", "value").agg(pl.col("len").sum())


def distributions(counts: pl.DataFrame) -> dict[str, dict[str, float | int]]:
    """Mean, p95 (nearest rank) and max of each name in what Tally.counts() says; several of these,
    one after another, are added up."""
    found: dict[str, dict[str, float | int]] = {}
    for name in COSTS:
        values = (
            counts.filter(pl.col("name") == name).group_by("value").agg(pl.col("len").sum())
            .sort("value")
        )  # fmt: skip
        walks = int(values["len"].sum())
        if not walks:
            found[name] = {"mean": 0.0, "p95": 0, "max": 0}
            continue
        rank = -(-walks * 95 // 100)
        reached = values.filter(pl.col("len").cum_sum() >= rank)
        found[name] = {
            "mean": int((values["value"] * values["len"]).sum()) / walks,
            "p95": int(reached["value"][0]),
            "max": int(values["value"][-1]),
        }
    return found


def _range_of(n: pl.Expr) -> pl.Expr:
    """0, 1, 2, 3-4, 5-8, 9-16 and so on: what a number is told as in a group."""
    high = pl.lit(2).pow((n - 1).cast(pl.Float64).clip(lower_bound=1).log(2).floor() + 1)
    high = high.cast(pl.Int64)
    wide = pl.concat_str((high // 2 + 1).cast(pl.String), pl.lit("-"), high.cast(pl.String))
    return pl.when(n > 2).then(wide).otherwise(n.cast(pl.String))


def _rank(name: str) -> pl.Expr:
    """Numbers and ranges of them in their order, other names as they came."""
    return pl.col(name).str.extract(r"^(\d+)(?:-\d+)?$").cast(pl.Int64).fill_null(0)
