# SPDX-License-Identifier: GPL-2.0-only
"""What lives at a moment of a trace, around what went wrong there, in lines for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from rmapreplay.replay.engine import ModelRun
from rmapreplay.replay.specs import ModelSpec
from rmapreplay.testing.comparison import Tables
from rmapreplay.testing.examine import Flaw
from rmapreplay.testing.rows import PAGE, Row, RowsTrace
from rmapreplay.traces.errors import RmapReplayError

MOST = 12
"""Lines of one kind that are shown."""

Record = Mapping[str, Any]


def describe(
    spec: ModelSpec, rows: Sequence[Row], metadata: Mapping[str, Any], flaw: Flaw
) -> list[str]:
    """The folio that was walked with all that map it, what the walk was offered and what it was
    not; and the VMAs of the processes concerned. After the row of the flaw, or if the model fails
    there before it."""
    state = None
    if flaw.rule != "crash":
        state = _State.at(spec, rows[: flaw.row + 1], metadata)
    state = state or _State.at(spec, rows[: flaw.row], metadata)
    if state is None:
        return []
    if flaw.walk is None:
        row = rows[flaw.row] if flaw.row < len(rows) else {}
        pids = {row.get("pid"), row.get("child")}
        return state.vma_lines({vma["mm"] for vma in state.vmas if vma["pid"] in pids})
    return _walk_lines(state, flaw)


class _State:
    """VMAs and mappings of a replay, as the native module's tables have them."""

    def __init__(self, vmas: list[Record], mappings: list[Record]) -> None:
        self.vmas = vmas
        self.mappings = mappings

    @classmethod
    def at(cls, spec: ModelSpec, rows: Sequence[Row], metadata: Mapping[str, Any]) -> _State | None:
        """At the end of some rows; None if the model fails there."""
        trace = RowsTrace(rows, metadata)
        try:
            run = ModelRun(spec, trace, "none", False, Tables())
            for batch in trace.batches():
                run.feed(batch)
        except RmapReplayError:
            return None
        vmas, mappings = (
            pa.record_batch(table).to_pylist()
            for table in (run.native.vmas(), run.native.mappings())
        )
        return cls(vmas, mappings)

    def vma_lines(self, mms: Iterable[int]) -> list[str]:
        wanted = set(mms)
        vmas = [vma for vma in self.vmas if vma["mm"] in wanted]
        lines = [f"VMAs ({len(vmas)})"]
        for vma in vmas[:MOST]:
            faulted = "faulted" if vma["faulted"] else "not faulted"
            lines.append(
                f"  {_where(vma)}  offset {vma['index']:#x}  {_flags(vma['flags'])}  {faulted}"
            )
        return lines + _rest(vmas)


def _walk_lines(state: _State, flaw: Flaw) -> list[str]:
    walk = flaw.walk
    assert walk is not None
    key = (walk["folio"] >> 36, (walk["folio"] & ((1 << 36) - 1)) * PAGE)
    folio = next((m["folio"] for m in state.mappings if (m["mm"], m["addr"]) == key), None)
    sharers = [mapping for mapping in state.mappings if mapping["folio"] == folio]
    lines = [f"folio of {1 << walk['order']} pages, walked as `{walk['kind']}`, is mapped by"]
    missed = {(m["mm"], m["addr"]) for m in flaw.missed}
    for at in sharers[:MOST]:
        mark = "  MISSED" if (at["mm"], at["addr"]) in missed else ""
        lines.append(f"  {_mm(at)}  {at['addr']:#x}{mark}")
    lines += _rest(sharers)
    lines.append("the walk was offered" + ("" if flaw.offered else " nothing"))
    for vma in flaw.offered[:MOST]:
        lines.append(f"  {_where(vma)}  offset {vma['index']:#x}  found {vma['hits']}")
    lines += _rest(flaw.offered)
    mms = {at["mm"] for at in sharers} | {vma["mm"] for vma in flaw.offered}
    return lines + state.vma_lines(mms)


def _rest(items: Sequence[Any]) -> list[str]:
    return [f"  and {len(items) - MOST} more"] if len(items) > MOST else []


def _mm(item: Record) -> str:
    """An mm is told by its process, and by its number where two have been the same process's."""
    return f"pid {item['pid']} (mm {item['mm']})"


def _where(vma: Record) -> str:
    return f"{_mm(vma)}  {vma['start']:012x}-{vma['end']:012x}"


def _flags(flags: int) -> str:
    return "".join(
        letter if flags & bit else "-" for letter, bit in (("r", 1), ("w", 2), ("x", 4))
    ) + ("s" if flags & 8 else "p")
