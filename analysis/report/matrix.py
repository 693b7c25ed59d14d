# SPDX-License-Identifier: GPL-2.0-only
"""Metrics as matrices of traces x models, each model set against a reference."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rmapreplay.analysis.report.results import Numbers, Results

if TYPE_CHECKING:
    from rmapreplay.analysis.estimates import CostModel

Value = Callable[[Sequence[Numbers]], float | None]

SAME: Final = 0.01
"""Two values that differ by less than this part are called the same; shares, by this much."""

TIMES: Final = "\N{MULTIPLICATION SIGN}"
_MINUS: Final = "\N{MINUS SIGN}"
_NONE: Final = "\N{EN DASH}"
_FULL_TONE: Final = 4.0  # times the reference, or a fourth of it: the strongest colour
_FULL_TONE_SHARE: Final = 0.5


@dataclass(frozen=True)
class Metric:
    """What a matrix is of. Of all of them less is better.

    Attributes:
        key: a word for it.
        title: what it is called.
        unit: what the values are in.
        about: how it is made, in a sentence.
        kind: "mean", "share" (of 1), "bytes" or "count".
        value: of one trace under a model, or of several summed.
    """

    key: str
    title: str
    unit: str
    about: str
    kind: str
    value: Value

    def text(self, value: float | None) -> str:
        """A value as people read it."""
        if value is None:
            return _NONE
        if self.kind == "share":
            return f"{100 * value:.1f} %"
        if self.kind == "mean":
            return f"{value:,.0f}" if value >= 1000 else f"{value:,.2f}"
        return f"{value:,.0f}"


@dataclass(frozen=True)
class Cell:
    """A value of a matrix.

    Attributes:
        value: None where there is none.
        text: the value as people read it.
        against: how it stands to the reference's: times it, or of a share, the difference in
            percentage points; "" for the reference itself, and where there is nothing to compare.
        change: -1 if less than the reference's, 1 if more, 0 if the same or not compared.
        tone: how much less or more, from -1 to 1, by logarithm.
    """

    value: float | None
    text: str
    against: str = ""
    change: int = 0
    tone: float = 0.0


@dataclass(frozen=True)
class Row:
    """A trace, or the total: a cell for each model."""

    trace: str
    short: str
    cells: list[Cell]


@dataclass(frozen=True)
class Matrix:
    """A metric of all traces under all models.

    Attributes:
        metric: which.
        models: labels, in the order of the cells.
        rows: by trace.
        total: over the traces that every model finished.
    """

    metric: Metric
    models: list[str]
    rows: list[Row]
    total: Row

    def column(self, model: str) -> list[tuple[Row, Cell]]:
        """The rows, each with its cell of this model."""
        at = self.models.index(model)
        return [(row, row.cells[at]) for row in self.rows]

    def totals(self) -> dict[str, Cell]:
        return dict(zip(self.models, self.total.cells, strict=True))


def matrices(results: Results, reference: str, cost_model: CostModel | None) -> list[Matrix]:
    """All metrics; those that need walks or forks only where there are some, estimates only with a
    cost model."""
    made = [_matrix(results, reference, metric) for metric in (*_COUNTED, *_estimates(cost_model))]
    return [
        each
        for each in made
        if any(cell.value is not None for row in each.rows for cell in row.cells)
    ]


def _matrix(results: Results, reference: str, metric: Metric) -> Matrix:
    def row(name: str, short: str, traces: Sequence[str]) -> Row:
        by_model = {}
        for model in results.models:
            numbers = [results.numbers.get((trace, model)) for trace in traces]
            there = [each for each in numbers if each is not None]
            by_model[model] = metric.value(there) if there else None
        return Row(
            name,
            short,
            [
                _cell(metric, value, None if model == reference else by_model[reference])
                for model, value in by_model.items()
            ],
        )

    common = [trace.name for trace in results.common()]
    title = f"all {len(common)} traces" if len(common) > 1 else "the trace"
    if len(common) != len(results.traces):
        title = f"{len(common)} traces that all models finished"
    return Matrix(
        metric,
        results.models,
        [row(trace.name, trace.short, [trace.name]) for trace in results.traces],
        row(title, title, common),
    )


def _cell(metric: Metric, value: float | None, base: float | None) -> Cell:
    text = metric.text(value)
    if value is None or base is None:
        return Cell(value, text)
    if metric.kind == "share":
        points = value - base
        change = 0 if abs(points) < SAME else (1 if points > 0 else -1)
        tone = max(-1.0, min(1.0, points / _FULL_TONE_SHARE))
        return Cell(
            value,
            text,
            f"{100 * points:+.1f}".replace("-", _MINUS),
            change,
            tone if change else 0.0,
        )
    if value == base:
        return Cell(value, text, f"1.00{TIMES}" if base else "")
    if not base or not value:
        sign = 1 if value > base else -1
        return Cell(value, text, "" if not base else f"0.00{TIMES}", sign, float(sign))
    ratio = value / base
    change = 0 if abs(ratio - 1) < SAME else (1 if ratio > 1 else -1)
    tone = max(-1.0, min(1.0, math.log(ratio) / math.log(_FULL_TONE)))
    return Cell(value, text, times(ratio), change, tone if change else 0.0)


def times(ratio: float) -> str:
    """As in 1.21 times; with fewer digits where these say enough."""
    if ratio >= 10:
        return f"{ratio:,.0f}{TIMES}"
    return f"{ratio:.2f}{TIMES}" if ratio >= 0.095 or not ratio else f"{ratio:.1g}{TIMES}"


def _ratio(of: float | None, over: float) -> float | None:
    return None if of is None or not over else of / over


def _sum(numbers: Sequence[Numbers], each: Callable[[Numbers], float | None]) -> float | None:
    found = [each(one) for one in numbers]
    return None if None in found else sum(value for value in found if value is not None)


def _walks(numbers: Sequence[Numbers]) -> float:
    return sum(each.total("walks") for each in numbers)


def _per_walk(metric: str) -> Value:
    return lambda numbers: _ratio(
        _sum(numbers, lambda each: each.of_walks(metric)), _walks(numbers)
    )


def _per_fork(what: str) -> Value:
    return lambda numbers: _ratio(
        _sum(numbers, lambda each: each.forks()[what]),
        sum(each.forks()["calls"] for each in numbers),
    )


_COUNTED: Final = (
    Metric(
        "visits",
        "Visits per walk",
        "VMAs per walk",
        "VMAs that a walk of one folio was offered, on average over all walks.",
        "mean",
        lambda numbers: _ratio(sum(n.total("visits") for n in numbers), _walks(numbers)),
    ),
    Metric(
        "useless",
        "Useless share",
        "share of visits, %",
        "Visits to VMAs that do not map the folio, of all visits.",
        "share",
        lambda numbers: _ratio(
            sum(n.total("useless") for n in numbers), sum(n.total("visits") for n in numbers)
        ),
    ),
    Metric(
        "bytes",
        "Bytes at peak",
        "bytes",
        "Of the model's own objects, without VMAs, each kind at its own peak; summed over traces.",
        "bytes",
        lambda numbers: sum(n.bytes_at_peak() for n in numbers),
    ),
    Metric(
        "steps",
        "Steps per walk",
        "index entries read per walk",
        "Tree nodes, list elements, contexts, remap entries or PTE pointers read.",
        "mean",
        _per_walk("steps"),
    ),
    Metric(
        "lookups",
        "Lookups per walk",
        "searches per walk",
        "Searches in an mm's tree of VMAs.",
        "mean",
        _per_walk("lookups"),
    ),
    Metric(
        "locks",
        "Locks per walk",
        "locks per walk",
        "Locks of the reverse map taken, in either mode; page table and folio locks left out.",
        "mean",
        _per_walk("locks"),
    ),
    Metric(
        "fork-objects",
        "Objects per fork",
        "objects per call of fork",
        "The model's own objects allocated by fork and its copying, per call of fork.",
        "mean",
        _per_fork("objects"),
    ),
    Metric(
        "fork-locks",
        "Locks per fork",
        "locks per call of fork",
        "Locks of the reverse map taken by fork and its copying, per call of fork.",
        "mean",
        _per_fork("locks"),
    ),
    Metric(
        "misses",
        "Misses",
        "PTEs",
        "Mappings that a finished walk was never offered: holes of the model.",
        "count",
        lambda numbers: sum(n.total("misses") for n in numbers),
    ),
)


def _estimates(cost_model: CostModel | None) -> list[Metric]:
    if cost_model is None:
        return []
    weights = cost_model

    def per_walk(numbers: Sequence[Numbers]) -> float | None:
        def walks(each: Numbers) -> float | None:
            if not each.total("walks"):
                return 0.0
            found: float | None = weights.of_model(each.summary())["walks"]
            return found

        return _ratio(_sum(numbers, walks), _walks(numbers))

    def per_fork(numbers: Sequence[Numbers]) -> float | None:
        def forks(each: Numbers) -> float:
            found = weights.of_model(each.summary())["operations"]
            return float(found.get("fork", 0.0) + found.get("dup_mmap", 0.0))

        return _ratio(_sum(numbers, forks), sum(n.forks()["calls"] for n in numbers))

    about = f"Estimated: counts times the weights of cost model {weights.name}."
    return [
        Metric("ns-walk", "ns per walk, estimated", "estimated ns", about, "mean", per_walk),
        Metric("ns-fork", "ns per fork, estimated", "estimated ns", about, "mean", per_fork),
    ]
