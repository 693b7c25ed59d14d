# SPDX-License-Identifier: GPL-2.0-only
"""Replays rows under one model and says what is wrong first, from what the machine itself knows: it
has the page tables, so it can tell what every walk should have found."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol

import pyarrow as pa
import pyarrow.compute as pc

from rmapreplay.replay.engine import ModelRun, Verify
from rmapreplay.replay.specs import ModelSpec
from rmapreplay.testing.comparison import Tables
from rmapreplay.traces.errors import InvariantError, ModelError

KINDS: Final = ("all", "referenced", "unmap", "migrate")
"""Kinds of walks; `all` visits every mapping, the others may be stopped before."""

FEW: Final = 10_000
"""Rows that Python is faster with than a query."""

RULES: Final = {
    "miss": "a finished walk has found every mapping of its folio",
    "twice": "no walk is offered a VMA twice",
    "error": "the model does nothing that no model may do",
    "crash": "the model returns from every callback",
    "invariant": "what the model recounts of itself holds after each event",
    "accounting": "live objects are never fewer than none, and none are left at the end",
    "determinism": "the same events give the same results, however they are batched",
    "truth": "the machine maps what the calls mean, whatever the model says of merging",
}
"""What a model must keep to."""


class Events(Protocol):
    """As much of a trace as is replayed here; rows in memory, or a file."""

    @property
    def rows(self) -> int: ...
    @property
    def path(self) -> Any: ...
    @property
    def metadata(self) -> Mapping[str, Any]: ...
    def batches(self, batch_size: int = ...) -> Iterator[pa.RecordBatch]: ...


@dataclass(frozen=True)
class How:
    """How rows are replayed.

    Attributes:
        when: when every folio is walked: "every:1" (after each row), "end", or another walk policy.
        kinds: kinds of these walks; each is a replay of its own.
        verify: when invariants are recounted.
        every_page: whether each page has a folio record, with a home that is asked for once.
    """

    when: str = "every:1"
    kinds: tuple[str, ...] = KINDS
    verify: Verify = "all"
    every_page: bool = False


@dataclass(frozen=True)
class Flaw:
    """What a model did wrong.

    Attributes:
        rule: which of RULES it broke.
        text: what happened, in one line.
        row: of the rows replayed, the one after which it showed, or at which the model failed.
        how: the replay that showed it, with one kind of walk.
        walk: the walk that showed it, if one did: columns of the table `walks`.
        offered: VMAs offered to it, in order: columns of `visits`.
        missed: mappings it was not offered: columns of `misses`.
    """

    rule: str
    text: str
    row: int
    how: How
    walk: Mapping[str, Any] | None = None
    offered: tuple[Mapping[str, Any], ...] = ()
    missed: tuple[Mapping[str, Any], ...] = ()

    @property
    def shape(self) -> tuple[Any, ...]:
        """What a smaller trace must show as well, to show the same thing."""
        if self.walk is None:
            letters = "".join(c for c in self.text if not c.isdigit())
            return self.rule, letters.partition(" (row")[0]
        return self.rule, self.walk["mapcount"], len(self.missed)


@dataclass(frozen=True)
class Examined:
    """What came of it.

    Attributes:
        flaw: the first thing that was wrong, if anything was.
        anomalies: kinds of them that the machine met.
    """

    flaw: Flaw | None
    anomalies: frozenset[str] = frozenset()


def examine(spec: ModelSpec, events: Events, how: How) -> Examined:
    """Replay `events` under a model, once for each kind of walk, until something is wrong."""
    anomalies: set[str] = set()
    for kind in how.kinds:
        one = How(how.when, (kind,), how.verify, how.every_page)
        flaw, tables, summary = _replay(spec, events, one)
        anomalies |= set(summary.get("anomalies", ()))
        if flaw is None:
            flaw = _look(tables, one)
        elif how.when == "every:1":
            # A replay that ends early leaves no tables; what the walks before it found comes first.
            failed, tables, _ = _replay(spec, _Beginning(events, flaw.row), one)
            flaw = (None if failed else _look(tables, one)) or flaw
        if flaw:
            return Examined(flaw, frozenset(anomalies))
    return Examined(None, frozenset(anomalies))


class _Beginning:
    """The first rows of a trace."""

    path = None

    def __init__(self, events: Events, rows: int) -> None:
        self.rows = rows
        self.metadata = events.metadata
        self._events = events

    def batches(self, batch_size: int = 1 << 16) -> Iterator[pa.RecordBatch]:
        left = self.rows
        for batch in self._events.batches(batch_size):
            if left <= 0:
                return
            yield batch.slice(0, left)
            left -= batch.num_rows


class _Tables(Tables):
    """Result tables that can be summed up."""

    def add_to(self, digest: hashlib._Hash) -> None:
        for name in sorted(self._rows):
            table = self.table(name).combine_chunks()
            buffer = pa.BufferOutputStream()
            with pa.ipc.new_stream(buffer, table.schema) as stream:
                stream.write_table(table)
            digest.update(buffer.getvalue())


def results_differ(spec: ModelSpec, events: Events, how: How) -> bool:
    """Whether replays of the same events, in batches of several sizes, give different tables. The
    replays live side by side, so that what depends on where objects lie is not the same twice."""
    alive: list[ModelRun] = []
    digests = set()
    for batch_size in (1 << 16, 1, 7, 1 << 16, 1 << 16, 1 << 16):
        digests.add(digest_of(spec, events, how, batch_size, alive))
    return len(digests) > 1


def digest_of(
    spec: ModelSpec,
    events: Events,
    how: How,
    batch_size: int = 1 << 16,
    alive: list[ModelRun] | None = None,
) -> str:
    """Of the result tables of a replay, as far as it goes. The replay is added to `alive`."""
    _, tables, _ = _replay(spec, events, how, batch_size, alive)
    digest = hashlib.sha256()
    tables.add_to(digest)
    return digest.hexdigest()


def _replay(
    spec: ModelSpec,
    events: Events,
    how: How,
    batch_size: int = 1 << 16,
    alive: list[ModelRun] | None = None,
) -> tuple[Flaw | None, _Tables, Mapping[str, Any]]:
    """What failed, the result tables, and the summary. The replay is added to `alive`."""
    tables = _Tables()
    walks = how.when if how.when == "none" else f"{how.when},kind={how.kinds[0]}"
    flaw = None
    run = None
    try:
        run = ModelRun(spec, events, walks, True, tables, how.verify)
        if alive is not None:
            alive.append(run)
        if how.every_page:
            run.native.record_every_page()
        for batch in events.batches(batch_size):
            run.feed(batch)
        run.finish()
    except ModelError as error:
        last = max(0, events.rows - 1)
        row = last if error.event is None else min(error.event, last)
        rule = "invariant" if isinstance(error, InvariantError) else "error"
        flaw = Flaw(rule, " ".join(error.reason.split()), row, how)
    return flaw, tables, {} if run is None else run.native.summary()


def _look(tables: _Tables, how: How) -> Flaw | None:
    """The first walk, or moment, that is not right."""
    all_ = (_missed(tables, how), _twice(tables, how), _unbalanced(tables, how))
    return min((flaw for flaw in all_ if flaw), key=lambda flaw: flaw.row, default=None)


def _missed(tables: _Tables, how: How) -> Flaw | None:
    walks = tables.table("walks")
    if not any(walks["misses"].to_pylist()):
        return None
    walk = _first(walks, pc.greater(walks["misses"], 0))
    assert walk
    text = (
        f"a walk was not offered {walk['misses']} of the {walk['mapcount']} mappings of its folio"
    )
    return _walk_flaw("miss", text, walk, tables, how)


def _twice(tables: _Tables, how: How) -> Flaw | None:
    visits = tables.table("visits")
    if visits.num_rows < FEW:
        each = zip(*(visits[name].to_pylist() for name in ("walk", "mm", "start")), strict=True)
        if len(set(each)) == visits.num_rows:
            return None
    times = visits.group_by(["walk", "mm", "pid", "start"], use_threads=False).aggregate(
        [([], "count_all")]
    )
    repeated = times.filter(pc.greater(times["count_all"], 1)).sort_by("walk")
    if not repeated.num_rows:
        return None
    again = repeated.slice(0, 1).to_pylist()[0]
    walks = tables.table("walks")
    walk = _first(walks, pc.equal(walks["walk"], again["walk"]))
    assert walk
    vma = f"the VMA at {again['start']:#x} of pid {again['pid']}"
    text = f"a walk was offered {vma} {again['count_all']} times"
    return _walk_flaw("twice", text, walk, tables, how)


def _walk_flaw(rule: str, text: str, walk: Mapping[str, Any], tables: _Tables, how: How) -> Flaw:
    offered, missed = (
        tuple(table.filter(pc.equal(table["walk"], walk["walk"])).to_pylist())
        for table in (tables.table("visits"), tables.table("misses"))
    )
    return Flaw(rule, text, walk["seq"], how, walk, offered, missed)


def _unbalanced(tables: _Tables, how: How) -> Flaw | None:
    """The first moment at which the ledger cannot be right, by the table `memory`."""
    memory = tables.table("memory")
    names = memory.column_names
    kinds = names[names.index("time") + 2 : names.index("bytes")]
    for moment in memory.to_pylist():
        for kind in kinds:
            if moment[kind] >= 1 << 63:
                text = f"more {kind} freed than allocated"
                return Flaw("accounting", text, moment["seq"], how)
        if moment["mms"] == 0 and any(moment[kind] for kind in kinds):
            live = ", ".join(f"{moment[kind]} {kind}" for kind in kinds if moment[kind])
            text = f"no address space is left, but {live}"
            return Flaw("accounting", text, moment["seq"], how)
    return None


def _first(table: pa.Table, chosen: Any) -> Mapping[str, Any] | None:
    """The first of the chosen rows."""
    rows = table.filter(chosen).slice(0, 1).to_pylist()
    return rows[0] if rows else None
