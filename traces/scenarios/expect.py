# SPDX-License-Identifier: GPL-2.0-only
"""What a scenario says will be found: lines that begin with `expect`."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from rmapreplay.traces.scenarios.arguments import Arguments
from rmapreplay.traces.scenarios.lines import Line, Word

COMPARISONS: Final[dict[str, Callable[[int, int], bool]]] = {
    "=": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}

_FOUND_BY_WALKS: Final = ("walks", "visits", "hits", "useless", "misses")
"""What no call costs: of these, an expectation that follows no walk speaks of the whole run."""


@dataclass(frozen=True)
class Expectation:
    """One line of a scenario that begins with `expect`, in plain values, as metadata has it.

    Attributes:
        path: the scenario's file, or None.
        line: its number.
        models: labels of those it speaks of; `*` is every one.
        of: `walk`, each of the walks that the line before made; `call`, what that line cost;
            `objects`, how many live then; `total`, of the whole run; `visited`, as `walk`, which
            VMAs in which order.
        metric: its name; of `objects`, the kind.
        comparison: one of COMPARISONS.
        value: what is expected; None of `visited`.
        visited: of `visited`, per VMA `pid`, `name`, `hit` and maybe `address`.
        first, last: rows of the line before.
        address: of the first walk, in bytes; each is a page further.
    """

    path: str | None
    line: int
    models: tuple[str, ...]
    of: str
    metric: str
    comparison: str
    value: int | None
    visited: tuple[dict[str, Any], ...]
    first: int
    last: int
    address: int

    def speaks_of(self, model: str) -> bool:
        return "*" in self.models or model in self.models

    def failed(self, model: str, found: str) -> str:
        wanted = seen_text(self.visited) if self.value is None else self._bound
        what = {"objects": f"live {self.metric}", "total": f"{self.metric} in total"}
        subject = what.get(self.of, self.metric)
        return (
            f"{self.path or 'scenario'}:{self.line}: expected {model} {subject} {wanted}, "
            f"found {found}"
        )

    @property
    def _bound(self) -> str:
        return f"{self.value}" if self.comparison == "=" else f"{self.comparison} {self.value}"

    def holds(self, found: int) -> bool:
        assert self.value is not None
        return COMPARISONS[self.comparison](found, self.value)


Seen = Callable[[Word], dict[str, Any]]


@dataclass(frozen=True)
class Before:
    """The line before those that begin with `expect`: its first and last row, the address of the
    first, and whether they are walks."""

    first: int
    last: int
    address: int
    walks: bool


def read_expectation(
    line: Line, arguments: Arguments, before: Before | None, seen: Seen
) -> Expectation:
    """Read a line that begins with `expect`; `seen` reads a visit. Raises ScenarioError."""
    models = tuple(arguments.word("the models, or *").text.split(","))
    what = arguments.option("total", "objects", "visited")
    here = arguments.here
    if before is None:
        here.fail("nothing has happened yet: expectations follow what they are about")
    if what == "visited":
        if not before.walks:
            here.fail("'visited' speaks of a walk, and must follow one")
        words = arguments.remaining()
        if not words:
            here.fail("the processes visited must follow, or 'nothing'")
        nothing = len(words) == 1 and words[0].text == "nothing"
        visits = () if nothing else tuple(seen(word) for word in words)
        return _expectation(line, models, "visited", "visited", "=", None, visits, before)
    metric = arguments.word("a kind of object" if what == "objects" else "a metric").text
    if what is None:
        alone = metric in _FOUND_BY_WALKS and not before.walks
        what = "total" if alone else "walk" if before.walks else "call"
    comparison = arguments.option(*COMPARISONS) or "="
    value = arguments.number("a number")
    arguments.done()
    return _expectation(line, models, what, metric, comparison, value, (), before)


def _expectation(
    line: Line,
    models: tuple[str, ...],
    of: str,
    metric: str,
    comparison: str,
    value: int | None,
    visited: tuple[dict[str, Any], ...],
    before: Before,
) -> Expectation:
    path = None if line.first.path is None else str(line.first.path)
    where = (before.first, before.last, before.address)
    return Expectation(path, line.number, models, of, metric, comparison, value, visited, *where)


def to_metadata(expectations: Sequence[Expectation]) -> list[dict[str, Any]]:
    """As JSON has them."""
    return [asdict(expectation) for expectation in expectations]


def from_metadata(metadata: Mapping[str, Any]) -> list[Expectation]:
    """Those that a trace's metadata has."""
    return [
        Expectation(**{**each, "models": tuple(each["models"]), "visited": tuple(each["visited"])})
        for each in metadata.get("expect") or ()
    ]


def seen_text(visits: Sequence[Mapping[str, Any]]) -> str:
    return " ".join(
        visit["name"]
        + (f"@{visit['address']:#x}" if visit.get("address") is not None else "")
        + ("+" if visit["hit"] else "-")
        for visit in visits
    ) or "nothing"  # fmt: skip
