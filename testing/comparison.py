# SPDX-License-Identifier: GPL-2.0-only
"""Rows of a trace as they are made up, fed to models and held against the naive truth."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

from rmapreplay.replay.engine import ModelRun
from rmapreplay.replay.specs import ModelSpec
from rmapreplay.testing.calls import TEARDOWN
from rmapreplay.testing.naive import EXEC, READ, WRITE, Area, Naive, Space
from rmapreplay.testing.rows import PAGE, Row, RowsTrace, canonical, write_rows
from rmapreplay.traces.reader import read_trace
from rmapreplay.traces.schema import FILE_SCHEMA

Folios = set[frozenset[tuple[int, int]]]
"""Anonymous folios, each as the pages (mm, number) that map it."""

_VM_FLAGS = {
    "read": 0x1,
    "write": 0x2,
    "exec": 0x4,
    "shared": 0x8,
    "locked": 0x2000,
    "dont_fork": 0x20000,
    "on_fault": 0x80000,
    "wipe_on_fork": 0x2000000,
}
_VM_MASK = sum(_VM_FLAGS.values())


@cache
def vm_flags(area: Area) -> int:
    """The vm_flags, of those compared, that an area of the truth stands for."""
    return sum(
        _VM_FLAGS[name]
        for name, on in (
            ("read", area.prot & READ),
            ("write", area.prot & WRITE),
            ("exec", area.prot & EXEC),
            ("shared", area.shared),
            ("locked", area.locked),
            ("on_fault", area.locked == "onfault"),
            ("dont_fork", area.dont_fork),
            ("wipe_on_fork", area.wipe_on_fork),
        )
        if on
    )


def metadata_of(kernel: str, teardown: str) -> dict[str, Any]:
    """What a trace made up here says of itself."""
    return {
        "kernel": f"{kernel}.0",
        "thp": {"enabled": "never", "use_zero_page": True},
        "teardown": list(TEARDOWN[teardown]),
    }


class Tables:
    """Result tables, kept whole: an engine.Sink."""

    def __init__(self) -> None:
        self._rows: dict[str, list[pa.RecordBatch]] = {}

    def write(self, model: str, table: str, rows: pa.RecordBatch) -> None:
        self._rows.setdefault(table, []).append(rows)

    def table(self, name: str) -> pa.Table:
        return pa.Table.from_batches(self._rows[name])

    def columns(self, table: str, *names: str) -> Iterator[tuple[Any, ...]]:
        """Row by row, the values of some columns."""
        whole = self.table(table)
        return zip(*(whole[name].to_pylist() for name in names), strict=True)


class Side:
    """One model's replay."""

    def __init__(
        self, model: str | ModelSpec, metadata: Mapping[str, Any], *, every_page: bool = False
    ) -> None:
        spec = ModelSpec.parse(model) if isinstance(model, str) else model
        self.model = spec.label
        self.tables = Tables()
        run = ModelRun(spec, RowsTrace((), metadata), "none", True, self.tables)
        self.native = run.native
        if every_page:
            self.native.record_every_page()
        self.feed = run.feed
        self.finish = run.finish

    def areas(self) -> dict[tuple[int, int], int]:
        """Of each mapped page (mm, number), the vm_flags that are compared."""
        vmas = pa.record_batch(self.native.vmas()).to_pydict()
        rows = zip(*(vmas[name] for name in ("mm", "start", "end", "flags")), strict=True)
        return {
            (mm, page): flags & _VM_MASK
            for mm, start, end, flags in rows
            for page in range(start // PAGE, end // PAGE)
        }

    def folios(self) -> Folios:
        """Of each anonymous folio, the pages (mm, number) that map it."""
        mappings = pa.record_batch(self.native.mappings()).to_pydict()
        found: dict[int, set[tuple[int, int]]] = {}
        rows = zip(*(mappings[name] for name in ("mm", "addr", "folio")), strict=True)
        for mm, addr, folio in rows:
            found.setdefault(folio, set()).add((mm, addr // PAGE))
        return {frozenset(sharers) for sharers in found.values()}

    def check_visits(self, walked: Sequence[Folios]) -> None:
        """Each time that all folios were walked (`walked`), each was walked once, and the VMAs of
        all of its mappings were visited, none twice; each visit found those that are there."""
        visits: dict[int, list[tuple[int, int, int, int]]] = {}
        columns = ("walk", "mm", "start", "end", "hits")
        for walk, mm, start, end, hits in self.tables.columns("visits", *columns):
            visits.setdefault(walk, []).append((mm, start // PAGE, end // PAGE, hits))
        walks = self.tables.columns("walks", "walk", "folio")
        for folios in walked:
            home = {where: sharers for sharers in folios for where in sharers}
            seen = set()
            for walk, folio in islice(walks, len(folios)):
                sharers = home[folio >> 36, folio & ((1 << 36) - 1)]
                seen.add(sharers)
                self._check_walk(walk, sharers, visits.get(walk, []))
            assert seen == folios, f"{self.model}: not every folio was walked"
        assert next(walks, None) is None, f"{self.model}: more walks than folios"

    def _check_walk(
        self,
        walk: int,
        sharers: frozenset[tuple[int, int]],
        visits: list[tuple[int, int, int, int]],
    ) -> None:
        left = set(sharers)
        for mm, start, end, hits in visits:
            found = {(at, page) for at, page in left if at == mm and start <= page < end}
            assert hits == len(found), (
                f"{self.model}, walk {walk}: pages {start:#x}-{end:#x} of mm {mm} were visited; "
                f"found {hits} mappings where {len(found)} were still to find"
            )
            left -= found
        for mm, page in left:
            raise AssertionError(
                f"{self.model}, walk {walk}: page {page:#x} of mm {mm} was not visited"
            )


class Comparison:
    """A trace in the making, replayed under models as it grows.

    Attributes:
        naive: the truth, which whoever adds rows keeps up to date.
        rows: those added so far.
        failed: whether the models and the truth were found to differ, or a model has failed.
    """

    def __init__(
        self,
        models: Sequence[str | ModelSpec],
        kernel: str,
        teardown: str,
        naive: Naive,
        *,
        every_page: bool = False,
        on_rows: Callable[[Sequence[Row], dict[str, Any]], None] | None = None,
        on_failure: Callable[[Exception], None] | None = None,
    ) -> None:
        """
        every_page: each page has a folio record, with a home that is asked for once.
        on_rows: is given all rows, and the metadata, before the last of them are replayed.
        on_failure: is told of what check() and finish() are about to raise; it may raise something
            of its own.
        """
        self.naive = naive
        self._on_rows = on_rows
        self._on_failure = on_failure
        self.metadata = metadata_of(kernel, teardown)
        self.rows: list[Row] = []
        self.failed = False
        self._fed = 0  # rows
        self._serials: dict[Space, int] = {}  # of the machine's mms
        self._walked: list[Folios] = []
        self._sides = [Side(model, self.metadata, every_page=every_page) for model in models]

    # ---- rows ----

    def add(self, row: Row) -> None:
        """Append a row. It is replayed before anything is looked at."""
        self.rows.append({"time": len(self.rows), "tid": row["pid"], **row})

    def new_space(self, space: Space) -> None:
        """The truth has a new address space, made by the last row; the machine numbers its mms in
        the order in which they are made."""
        self._serials[space] = len(self._serials) + 1

    def _replay(self) -> None:
        if self._fed == len(self.rows):
            return
        if self._on_rows:
            self._on_rows(self.rows, self.metadata)
        batch = canonical(self.rows[self._fed :])
        self._fed = len(self.rows)
        for side in self._sides:
            side.feed(batch)

    @contextmanager
    def _watched(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            self.failed = True
            if self._on_failure:
                self._on_failure(error)
            raise

    # ---- checks ----

    def check(self) -> None:
        """Hold every model against the truth: the same pages mapped, with the same flags, and in
        the same folios. Invariants hold. Every folio is walked, for finish() to look at.

        Raises AssertionError, or ModelError if a model fails.
        """
        with self._watched():
            self._replay()
            self._check_state()

    def _check_state(self) -> None:
        areas = {
            (self._serials[space], page): vm_flags(area)
            for space in self.naive.living()
            for page, area in space.mapped.items()
        }
        folios = {
            frozenset((self._serials[space], page) for space, page in sharers)
            for sharers in self.naive.shared_folios().values()
        }
        for side in self._sides:
            side.native.validate()
            assert side.areas() == areas, f"{side.model}: VMAs\n{_difference(side.areas(), areas)}"
            found = side.folios()
            assert found == folios, f"{side.model}: folios\n{_difference(found, folios)}"
            side.native.walk_all("all")
        self._walked.append(folios)

    def finish(self) -> None:
        """Look at what all the walks visited, once no more rows come. Raises AssertionError if a
        mapping was missed or a VMA visited twice, or objects of a model outlive the address spaces;
        and TraceFormatError if a reader would not take the rows.
        """
        with self._watched():
            table = pa.Table.from_pylist(self.rows, schema=FILE_SCHEMA)
            assert sum(batch.num_rows for batch in read_trace(table).batches()) == len(self.rows)
            for side in self._sides:
                side.finish()
                side.check_visits(self._walked)
                misses = side.native.summary()["misses"]
                assert not misses, f"{side.model} missed {misses} mappings"
                if not self.naive.living():
                    left = {kind: n for kind, n in side.native.live().items() if n}
                    assert not left, f"{side.model}: still there at the end: {left}"

    def write(self, path: Path) -> Path:
        """Write the rows as a trace, PATH.parquet, and for reading, PATH.txt."""
        return write_rows(path, self.rows, self.metadata)


def _difference(found: Any, expected: Any) -> str:
    """What one of two dicts or sets has and the other has not."""
    if isinstance(found, dict):
        found, expected = set(found.items()), set(expected.items())
    lines = [f"  model alone: {_hex(item)}" for item in sorted(found - expected, key=str)]
    lines += [f"  truth alone: {_hex(item)}" for item in sorted(expected - found, key=str)]
    return "\n".join(lines)


def _hex(item: Any) -> str:
    if isinstance(item, frozenset):
        return ", ".join(f"page {page:#x} of mm {mm}" for mm, page in sorted(item))
    (mm, page), flags = item
    return f"page {page:#x} of mm {mm}, vm_flags {flags:#x}"
