# SPDX-License-Identifier: GPL-2.0-only
"""Estimates of time: what was counted, times weights in nanoseconds (docs/cost-models.md).

Counts are exact and weights are not. So an estimate is never part of a replay: it is made of its
summary or its tables afterwards, and says which weights it used.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from rmapreplay.replay.figures import is_rmap
from rmapreplay.traces.errors import RmapReplayError

if TYPE_CHECKING:
    import polars as pl

PER_WALK: Final = {
    "visits": "visit",
    "levels": "level",
    "steps": "step",
    "lookups": "lookup",
    "locks": "lock",
    "refcounts": "refcount",
}
"""What is weighed of a walk (a metric of the summary, a column of the table), and its weight."""
PER_OPERATION: Final = {"links": "link", "locks": "lock", "refcounts": "refcount"}
"""What is weighed of an operation, beside the objects that it allocates and frees."""
WEIGHTS: Final = tuple(
    dict.fromkeys((*PER_WALK.values(), *PER_OPERATION.values(), "allocate", "free"))
)
SHIPPED: Final = ("warm", "cold")


@dataclass(frozen=True)
class Weight:
    """What one of something takes.

    Attributes:
        ns: nanoseconds.
        origin: where the figure comes from, in words.
    """

    ns: float
    origin: str


@dataclass(frozen=True)
class CostModel:
    """Weights.

    Attributes:
        name: the name it was asked for by, or that of its file.
        weights: one for each of WEIGHTS.
        counters: more, for counters of models by their names: they add to what the sums that they
            are in weigh.
    """

    name: str
    weights: Mapping[str, Weight]
    counters: Mapping[str, Weight] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""

        def plain(weights: Mapping[str, Weight]) -> dict[str, Any]:
            return {name: {"ns": w.ns, "origin": w.origin} for name, w in weights.items()}

        return {
            "name": self.name,
            "weights": plain(self.weights),
            "counters": plain(self.counters),
        }

    def walk_ns(self, columns: Iterable[str]) -> pl.Expr:
        """Nanoseconds of each walk, f64, of a walks table with these columns. Null where the table
        has a null in what is weighed."""
        import polars as pl

        present = set(columns)
        terms = [
            pl.col(metric) * weight.ns for metric, weight in self._per_walk() if metric in present
        ]
        return pl.sum_horizontal(terms, ignore_nulls=False).cast(pl.Float64)

    def of_model(self, found: Mapping[str, Any]) -> dict[str, Any]:
        """What a model's part of a summary comes to, in nanoseconds.

        Keys: `per_walk` (mean), `walks` (all of them), `operations` (by operation, all its calls),
        `total`. None where a metric is null in the summary.
        """
        walk = self._walk(found["walk"])
        walks = None if walk is None else walk * found["walks"]
        operations = {
            op: self._operation(costs) for op, costs in found["operations"].items() if op != "walk"
        }
        total = None if walks is None else walks + sum(operations.values())
        return {"per_walk": walk, "walks": walks, "operations": operations, "total": total}

    def _per_walk(self) -> list[tuple[str, Weight]]:
        sums = [(metric, self.weights[name]) for metric, name in PER_WALK.items()]
        return sums + list(self.counters.items())

    def _walk(self, metrics: Mapping[str, Mapping[str, float | None]]) -> float | None:
        total = 0.0
        for metric, weight in self._per_walk():
            if metric not in metrics:
                continue
            mean = metrics[metric]["mean"]
            if mean is None:
                return None
            total += mean * weight.ns
        return total

    def _operation(self, costs: Mapping[str, Any]) -> float:
        ns = sum(
            costs["costs"][metric] * self.weights[name].ns for metric, name in PER_OPERATION.items()
        )
        for what, name in (("allocated", "allocate"), ("freed", "free")):
            objects = sum(n for kind, n in costs[what].items() if is_rmap(kind))
            ns += objects * self.weights[name].ns
        for name, weight in self.counters.items():
            ns += costs["counters"].get(name, 0) * weight.ns
        return float(ns)


def estimate(summary: Mapping[str, Any], cost_model: CostModel) -> dict[str, Any]:
    """The summary, with `cost_model`, the weights, and in each model's part `estimated_ns`."""
    models = {
        label: {**found, "estimated_ns": cost_model.of_model(found)}
        for label, found in summary["models"].items()
    }
    return {**summary, "models": models, "cost_model": cost_model.as_dict()}


def read_cost_model(source: str | Path) -> CostModel:
    """Weights by name, one of SHIPPED, or of a TOML file.

    A file may leave out weights: they are zero. Raises RmapReplayError if there is no such file, or
    it holds something else.
    """
    text = str(source)
    if text in SHIPPED:
        path = resources.files("rmapreplay") / "analysis" / "cost_models" / f"{text}.toml"
        content = path.read_bytes()
    else:
        try:
            content = Path(source).read_bytes()
        except OSError as error:
            known = " nor ".join((f"neither {SHIPPED[0]}", *SHIPPED[1:]))
            raise RmapReplayError(
                f"cost model {text}: {known}, and no file that can be read: {error.strerror}"
            ) from error
    try:
        table = tomllib.loads(content.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RmapReplayError(f"cost model {text}: is not TOML: {error}") from error
    for part in table:
        if part not in ("weights", "counters"):
            raise _wrong(text, part, "neither weights nor counters")
    weights = _weights(text, "weights", table.get("weights", {}))
    for name in weights:
        if name not in WEIGHTS:
            raise _wrong(text, f"weights.{name}", f"no weight; there are {', '.join(WEIGHTS)}")
    absent = Weight(0.0, "not given")
    return CostModel(
        Path(text).stem,
        {name: weights.get(name, absent) for name in WEIGHTS},
        _weights(text, "counters", table.get("counters", {})),
    )


def _weights(source: str, part: str, table: object) -> dict[str, Weight]:
    if not isinstance(table, dict):
        raise _wrong(source, part, "is no table")
    return {name: _weight(source, f"{part}.{name}", value) for name, value in table.items()}


def _weight(source: str, place: str, value: object) -> Weight:
    if not isinstance(value, dict) or not set(value) <= {"ns", "origin"}:
        raise _wrong(source, place, "is no table of ns and origin")
    ns, origin = value.get("ns"), value.get("origin")
    if isinstance(ns, bool) or not isinstance(ns, int | float) or not 0 <= ns < float("inf"):
        raise _wrong(source, f"{place}.ns", f"is {ns!r}, no number of nanoseconds")
    if not isinstance(origin, str) or not origin.strip():
        raise _wrong(source, f"{place}.origin", "says nothing; a weight must tell where it is from")
    return Weight(float(ns), origin)


def _wrong(source: str, place: str, what: str) -> RmapReplayError:
    return RmapReplayError(f"cost model {source}: {place}: {what}")
