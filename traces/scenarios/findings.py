# SPDX-License-Identifier: GPL-2.0-only
"""Whether what a scenario expects was found: a replay's tables held against its expectations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from rmapreplay.traces.scenarios.expect import Expectation, seen_text
from rmapreplay.traces.scenarios.words import PAGE

_PAGE_BITS: Final = 36  # of the column `folio`: mm serial << 36 | virtual page


class Findings:
    """Takes the tables of a replay as they fill, keeps of them what expectations are about, and
    says which of those do not hold. It can be a replay's sink.

    Args:
        expectations: of the trace.
        names: what processes are called, by pid.
    """

    def __init__(self, expectations: Sequence[Expectation], names: Mapping[int, str]) -> None:
        self.expectations = list(expectations)
        self._names = names
        self._models: dict[str, _ModelFindings] = {}

    @property
    def visits_needed(self) -> bool:
        """Whether the table of visits is to be written."""
        return any(expectation.of == "visited" for expectation in self.expectations)

    def begin(self, model: str) -> None:
        """A model is about to give its tables; not needed if they come one after another."""
        about = [each for each in self.expectations if each.speaks_of(model)]
        self._models[model] = _ModelFindings(about, self._names)

    def write(self, model: str, table: str, rows: pa.RecordBatch) -> None:
        if model not in self._models:
            self.begin(model)
        self._models[model].write(table, rows)

    def failures(self, summary: Mapping[str, Any]) -> list[str]:
        """A line for each expectation that does not hold of a model that finished, in the order
        of the scenario."""
        found: list[tuple[int, str]] = []
        for model, told in summary["models"].items():
            if model not in self._models:
                self.begin(model)
            findings = self._models[model]
            for place, expectation in enumerate(self.expectations):
                if expectation.speaks_of(model):
                    for text in findings.wrong(expectation, told):
                        found.append((place, expectation.failed(model, text)))
        found.sort(key=lambda each: each[0])
        return [text for _, text in found]

    def checked(self, summary: Mapping[str, Any]) -> int:
        """How many expectations speak of a model that finished, once for each."""
        return sum(
            expectation.speaks_of(model)
            for model in summary["models"]
            for expectation in self.expectations
        )


class _ModelFindings:
    """What one model's tables had."""

    def __init__(self, expectations: list[Expectation], names: Mapping[int, str]) -> None:
        self._names = names
        walks = [each for each in expectations if each.of in ("walk", "visited")]
        rows = {row for each in walks for row in range(each.first, each.last + 1)}
        self._rows = pa.array(sorted(rows), pa.uint64())
        self._visits_needed = any(each.of == "visited" for each in walks)
        self._walks: dict[int, dict[str, Any]] = {}  # by row, the recorded one
        self._visits: list[pa.RecordBatch] = []
        self._sums = {
            id(each): _Sum(each) for each in expectations if each.of in ("call", "objects")
        }

    def write(self, table: str, rows: pa.RecordBatch) -> None:
        if table == "operations":
            for each in self._sums.values():
                each.add(rows)
        elif table == "walks" and len(self._rows):
            kept = pc.is_in(rows["seq"].cast(pa.uint64()), value_set=self._rows)
            for walk in rows.filter(kept).to_pylist():
                # Walks that --walks asked for after this row come after the row's own.
                self._walks.setdefault(walk["seq"], walk)
            if rows.num_rows:
                self._drop_visits(rows["walk"][-1].as_py())
        elif table == "visits" and self._visits_needed:
            self._visits.append(rows)

    def _drop_visits(self, last: int) -> None:
        """Forget those of other walks, up to the last walk that is known. Tables are handed on
        when they are full, so visits may come before their walks, and after them."""
        known = pa.array([walk["walk"] for walk in self._walks.values()], pa.uint64())
        kept = []
        for rows in self._visits:
            walk = rows["walk"].cast(pa.uint64())
            wanted = pc.or_(pc.is_in(walk, value_set=known), pc.greater(walk, last))
            kept.append(rows.filter(wanted))
        self._visits = [rows for rows in kept if rows.num_rows]

    def wrong(self, expectation: Expectation, told: Mapping[str, Any]) -> Iterator[str]:
        """What was found instead; nothing if the expectation holds."""
        if expectation.of == "total":
            found = told.get(expectation.metric)
            if not isinstance(found, int):
                yield f"no total of the name {expectation.metric}"
            elif not expectation.holds(found):
                yield str(found)
        elif expectation.of in ("call", "objects"):
            yield from self._sums[id(expectation)].wrong()
        else:
            for row in range(expectation.first, expectation.last + 1):
                address = expectation.address + (row - expectation.first) * PAGE
                walk = self._walks.get(row)
                if walk is None or _address_of(walk) != address:
                    yield "no walk: no anonymous page is mapped there"
                    return
                if wrong := self._wrong_walk(expectation, walk):
                    yield wrong
                    return

    def _wrong_walk(self, expectation: Expectation, walk: Mapping[str, Any]) -> str | None:
        if expectation.of == "visited":
            mine = [rows.filter(pc.equal(rows["walk"], walk["walk"])) for rows in self._visits]
            visits = [visit for rows in mine for visit in rows.to_pylist()]
            return _wrong_visits(expectation.visited, visits, _address_of(walk), self._names)
        found = walk.get(expectation.metric)
        if found is None:
            return f"no metric of walks of the name {expectation.metric}"
        return None if expectation.holds(found) else str(found)


def _address_of(walk: Mapping[str, Any]) -> int:
    """Where the walked folio was found, in bytes."""
    return int((walk["folio"] & (1 << _PAGE_BITS) - 1) * PAGE)


class _Sum:
    """A sum over the rows of the table of operations that an expectation is about."""

    def __init__(self, expectation: Expectation) -> None:
        self._expectation = expectation
        self._found = 0
        kind, objects = expectation.metric, expectation.of == "objects"
        self._first = 0 if objects else expectation.first
        self._columns = (
            [(f"{kind}_allocated", 1), (f"{kind}_freed", -1)] if objects else [(kind, 1)]
        )
        self._known = True

    def add(self, rows: pa.RecordBatch) -> None:
        if any(name not in rows.schema.names for name, _ in self._columns):
            self._known = False
            return
        seq = rows["seq"]
        kept = pc.and_(
            pc.greater_equal(seq, self._first), pc.less_equal(seq, self._expectation.last)
        )
        mine = rows.filter(kept)
        for name, sign in self._columns:
            self._found += sign * (pc.sum(mine[name]).as_py() or 0)

    def wrong(self) -> Iterator[str]:
        expectation = self._expectation
        if not self._known:
            what = "kind of object" if expectation.of == "objects" else "cost of calls"
            yield f"no {what} of the name {expectation.metric}"
        elif not expectation.holds(self._found):
            yield str(self._found)


def _wrong_visits(
    expected: Sequence[Mapping[str, Any]],
    visits: Sequence[Mapping[str, Any]],
    address: int,
    names: Mapping[int, str],
) -> str | None:
    def same(want: Mapping[str, Any], got: Mapping[str, Any]) -> bool:
        at = want.get("address", address)
        return bool(
            want["pid"] == got["pid"]
            and want["hit"] == (got["hits"] > 0)
            and got["start"] <= at < got["end"]
        )

    if len(expected) == len(visits) and all(map(same, expected, visits)):
        return None
    return seen_text(
        [
            {
                "name": names.get(got["pid"], f"p{got['pid']}"),
                "hit": got["hits"] > 0,
                **({} if got["start"] <= address < got["end"] else {"address": got["start"]}),
            }
            for got in visits
        ]
    )
