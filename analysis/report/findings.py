# SPDX-License-Identifier: GPL-2.0-only
"""What the numbers say, in sentences: which design walks more, wastes more, takes more memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from rmapreplay.analysis.report.matrix import TIMES, Cell, Matrix
from rmapreplay.analysis.report.results import Results

_NAMED: Final = 2  # workloads named in a sentence


@dataclass(frozen=True)
class Finding:
    """An answer.

    Attributes:
        question: a few words.
        text: sentences, with names between backquotes.
        bad: whether it is something that went wrong.
    """

    question: str
    text: str
    bad: bool = False


def find(results: Results, matrices: Sequence[Matrix], reference: str) -> list[Finding]:
    """The findings, the most important first; what went wrong is always among them."""
    by_key = {matrix.metric.key: matrix for matrix in matrices}
    holes = {
        model
        for model in results.models
        if any(
            numbers.total("misses")
            for (_, label), numbers in results.numbers.items()
            if label == model
        )
    }
    asked = {
        "visits": ("Walks more", "visits per walk", "visits most", "least"),
        "useless": ("Wastes more", "of its visits in vain", "wastes most", "least"),
        "bytes": ("Takes more memory", "bytes at peak", "takes most", "least"),
        "fork-objects": ("Forks cost more", "objects per fork", "allocates most", "fewest"),
        "ns-walk": ("Takes more time", "estimated ns per walk", "is slowest", "fastest"),
    }
    found = [
        Finding(words[0], _compared(by_key[key], words, reference, holes))
        for key, words in asked.items()
        if key in by_key
    ]
    return [*found, *_wrong(results)]


def _compared(
    matrix: Matrix, words: tuple[str, str, str, str], reference: str, holes: set[str]
) -> str:
    _, unit, most_word, least_word = words
    totals = {model: cell for model, cell in matrix.totals().items() if cell.value is not None}
    # A model that misses mappings does less than its task.
    fair = {model: cell for model, cell in totals.items() if model not in holes} or totals
    values = {model: cell.value or 0.0 for model, cell in fair.items()}
    if not values:
        return "Nothing to compare: no trace has results of every model."
    most, least = max(values, key=values.__getitem__), min(values, key=values.__getitem__)
    if len(values) == 1 or values[most] == values[least]:
        who = f"`{most}`: " if len(values) == 1 else "All the same: "
        return f"{who}{totals[most].text} {unit}."
    text = (
        f"`{most}` {most_word}: {_amount(fair, most, unit, reference)}; "
        f"{least_word} `{least}`: {_amount(fair, least, '', reference)}."
    )
    return text + _workloads(matrix, reference, holes)


def _amount(totals: Mapping[str, Cell], model: str, unit: str, reference: str) -> str:
    cell = totals[model]
    text = f"{cell.text} {unit}".strip()
    if model == reference or not cell.against:
        return text
    return f"{text} ({_against(cell)} `{reference}`)"


def _against(cell: Cell) -> str:
    if cell.against.endswith(TIMES):
        return cell.against
    return f"{cell.against} points on"


def _workloads(matrix: Matrix, reference: str, holes: set[str]) -> str:
    """Where the models stand furthest from the reference."""
    if len(matrix.rows) < 2:
        return ""
    compared = [
        (row.short, model, cell)
        for model in matrix.models
        if model != reference and model not in holes
        for row, cell in matrix.column(model)
        if cell.change
    ]
    if not compared:
        return f" On no trace do they differ from `{reference}`."
    text = ""
    for sign, word in ((1, f"above `{reference}`"), (-1, "below it")):
        furthest = sorted(
            (each for each in compared if each[2].change == sign),
            key=lambda each: (-_distance(matrix, reference, *each), each[0], each[1]),
        )
        # One workload is named once, by the model that is furthest there.
        named: dict[str, tuple[str, Cell]] = {}
        for trace, model, cell in furthest:
            if len(named) < _NAMED:
                named.setdefault(trace, (model, cell))
        if named:
            told = ", ".join(
                f"{trace} (`{model}` {cell.against or cell.text})"
                for trace, (model, cell) in named.items()
            )
            text += f" Furthest {word}: {told}."
    return text


def _distance(matrix: Matrix, reference: str, trace: str, model: str, cell: Cell) -> float:
    base = next(each for row, each in matrix.column(reference) if row.short == trace).value or 0.0
    value = cell.value or 0.0
    if matrix.metric.kind == "share":
        return abs(value - base)
    low, high = sorted((value, base))
    return high / low if low else float("inf")


def _wrong(results: Results) -> list[Finding]:
    found = []
    for model in results.models:
        missed = {
            trace.short: numbers.total("misses")
            for trace in results.traces
            if (numbers := results.numbers.get((trace.name, model))) and numbers.total("misses")
        }
        if missed:
            worst = max(missed, key=missed.__getitem__)
            found.append(
                Finding(
                    "Misses mappings",
                    f"`{model}` missed {sum(missed.values()):,.0f} mappings on {len(missed)} of "
                    f"{len(results.traces)} traces, most on {worst} ({missed[worst]:,.0f}). Its "
                    "other figures are of walks that did not find everything, and it is left out "
                    "of the sentences above.",
                    bad=True,
                )
            )
    if results.failed:
        traces = len({failure.trace for failure in results.failed})
        found.append(
            Finding(
                "Failed",
                f"{len(results.failed)} of {len(results.traces) * len(results.models)} replays, on "
                f"{traces} {'trace' if traces == 1 else 'traces'}, have no result. Totals leave "
                "these traces out.",
                bad=True,
            )
        )
    if len(found) == 0:
        found.append(Finding("Complete", "No model missed a mapping, and no replay failed."))
    return found
