# SPDX-License-Identifier: GPL-2.0-only
"""Rows of a trace as they are made up, fed to every model, held against the naive truth, and
written out when they do not agree."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence, Set
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa

import rmapreplay as rr
from rmapreplay.replay.engine import ModelRun
from rmapreplay.replay.specs import ModelSpec
from rmapreplay.traces.schema import CANONICAL_SCHEMA, FILE_SCHEMA, NAMED_COLUMNS
from rmapreplay.traces.writer import write_trace

from .naive import EXEC, READ, WRITE, Area, Naive, Space

PAGE = 4096
Folios = set[frozenset[tuple[int, int]]]
"""Anonymous folios, each as the pages (mm, number) that map it."""
MAY_MISS = frozenset({"cow-poc"})
"""Models that are known to miss mappings."""

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


class _InMemory:
    """As much of a trace as a replay must know beforehand."""

    path = None
    rows = 0

    def __init__(self, metadata: Mapping[str, Any]) -> None:
        self.metadata = metadata

    def batches(self, batch_size: int = 0) -> Iterator[pa.RecordBatch]:
        return iter(())


class Tables:
    """Result tables, kept whole: an engine.Sink."""

    def __init__(self) -> None:
        self._rows: dict[str, list[pa.RecordBatch]] = {}

    def write(self, model: str, table: str, rows: pa.RecordBatch) -> None:
        self._rows.setdefault(table, []).append(rows)

    def columns(self, table: str, *names: str) -> Iterator[tuple[Any, ...]]:
        """Row by row, the values of some columns."""
        whole = pa.Table.from_batches(self._rows[table]).to_pydict()
        return zip(*(whole[name] for name in names), strict=True)


class Side:
    """One model's replay."""

    def __init__(self, model: str, metadata: Mapping[str, Any]) -> None:
        self.model = model
        self.tables = Tables()
        run = ModelRun(ModelSpec.parse(model), _InMemory(metadata), "none", True, self.tables)
        self.native = run.native
        self.feed = run.feed
        self.finish = run.finish

    def serials(self) -> set[int]:
        """Of the mms there are."""
        return set(pa.record_batch(self.native.vmas())["mm"].to_pylist())

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
        all of its mappings were visited."""
        visits: dict[int, list[tuple[int, int, int]]] = {}
        for walk, mm, start, end in self.tables.columns("visits", "walk", "mm", "start", "end"):
            visits.setdefault(walk, []).append((mm, start // PAGE, end // PAGE))
        walks = self.tables.columns("walks", "walk", "folio")
        for folios in walked:
            home = {where: sharers for sharers in folios for where in sharers}
            seen = set()
            for walk, folio in islice(walks, len(folios)):
                sharers = home[folio >> 36, folio & ((1 << 36) - 1)]
                seen.add(sharers)
                for mm, page in sharers:
                    assert any(
                        mm == visited and start <= page < end
                        for visited, start, end in visits.get(walk, ())
                    ), f"{self.model}, walk {walk}: page {page:#x} of mm {mm} was not visited"
            assert seen == folios, f"{self.model}: not every folio was walked"
        assert next(walks, None) is None, f"{self.model}: more walks than folios"


class Scenario:
    """A trace in the making, replayed under every model as it grows.

    Attributes:
        naive: the truth, which whoever adds rows keeps up to date.
        rows: those added so far.
    """

    def __init__(self, kernel: str, teardown: Sequence[str], naive: Naive) -> None:
        self.naive = naive
        self.metadata = {
            "kernel": f"{kernel}.0",
            "thp": {"enabled": "never", "use_zero_page": True},
            "teardown": list(teardown),
        }
        self.rows: list[dict[str, Any]] = []
        self._fed = 0  # rows
        self._serials: dict[Space, int] = {}  # of the machine's mms
        self._walked: list[Folios] = []
        # Where the index is an address, mremap() copies what is shared: another truth.
        self.sides = [
            Side(model["name"], self.metadata)
            for model in rr.models()
            if not model["needs"]["index_is_address"]
        ]

    # ---- rows ----

    def add(self, row: Mapping[str, Any]) -> None:
        """Append a row. It is replayed before anything is looked at."""
        self.rows.append({"time": len(self.rows), "tid": row["pid"], **row})

    def replay(self) -> None:
        """Replay the rows added since, under every model."""
        if self._fed == len(self.rows):
            return
        batch = _canonical(self.rows[self._fed :])
        self._fed = len(self.rows)
        for side in self.sides:
            side.feed(batch)

    def new_space(self, space: Space) -> None:
        """Learn which of the machine's mms the truth's newest address space is."""
        self.replay()
        found = {max(side.serials(), default=0) for side in self.sides}
        assert len(found) == 1, f"mms are not numbered alike: {found}"
        self._serials[space] = found.pop()

    # ---- checks ----

    def check(self) -> None:
        """Hold every model against the truth: the same pages mapped, with the same flags, and in
        the same folios. Invariants hold. Every folio is walked, for finish() to look at."""
        self.replay()
        areas = {
            (self._serials[space], page): vm_flags(area)
            for space in self.naive.living()
            for page, area in space.mapped.items()
        }
        folios = {
            frozenset((self._serials[space], page) for space, page in sharers)
            for sharers in self.naive.shared_folios().values()
        }
        for side in self.sides:
            side.native.validate()
            assert side.areas() == areas, f"{side.model}: VMAs\n{_difference(side.areas(), areas)}"
            found = side.folios()
            assert found == folios, f"{side.model}: folios\n{_difference(found, folios)}"
            side.native.walk_all("all")
        self._walked.append(folios)

    def finish(self, may_miss: Set[str] = MAY_MISS) -> None:
        """Look at what all the walks visited, once no more rows come: no mapping was missed. And at
        the rows, as a reader of their trace would."""
        table = pa.Table.from_pylist(self.rows, schema=FILE_SCHEMA)
        assert sum(batch.num_rows for batch in rr.read_trace(table).batches()) == len(self.rows)
        for side in self.sides:
            side.finish()
            if side.model not in may_miss:
                side.check_visits(self._walked)
                misses = side.native.summary()["misses"]
                assert not misses, f"{side.model} missed {misses} mappings"

    # ---- files ----

    def write(self, directory: Path, name: str) -> Path:
        """Write the rows as a trace, DIRECTORY/NAME.parquet, and for reading, NAME.txt."""
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / f"{name}.parquet"
        write_trace(path, [pa.RecordBatch.from_pylist(self.rows, FILE_SCHEMA)], self.metadata)
        lines = [f"{i:4} {_line(row)}\n" for i, row in enumerate(self.rows)]
        path.with_suffix(".txt").write_text(f"{self.metadata}\n" + "".join(lines))
        return path


def _canonical(rows: Sequence[Mapping[str, Any]]) -> pa.RecordBatch:
    """Rows as a replay takes them. A reader would make the same of them, slowly for so few."""
    columns = []
    for file, field in zip(FILE_SCHEMA, CANONICAL_SCHEMA, strict=True):
        values = [row.get(file.name) for row in rows]
        if all(value is None for value in values):
            columns.append(pa.nulls(len(rows), field.type))
            continue
        if names := NAMED_COLUMNS.get(file.name):
            values = [None if value is None else names.index(value) for value in values]
        columns.append(pa.array(values, field.type))
    return pa.RecordBatch.from_arrays(columns, schema=CANONICAL_SCHEMA)


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


_DECIMAL = {"fd", "file", "advice", "child", "child_tid", "error", "prot"}


def _line(row: Mapping[str, Any]) -> str:
    """A row as one line: process, operation, and what is given."""
    words = [f"{row['pid']} {row['op']:<10}"]
    for name, value in row.items():
        if name in ("time", "op", "pid", "tid") or value is None:
            continue
        if name in ("len", "new_len") and value % PAGE == 0:
            words.append(f"{name}={value // PAGE} pages")
        elif isinstance(value, int) and not isinstance(value, bool) and name not in _DECIMAL:
            words.append(f"{name}={value:#x}")
        else:
            words.append(f"{name}={value}")
    return " ".join(words)
