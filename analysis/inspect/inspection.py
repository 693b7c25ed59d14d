# SPDX-License-Identifier: GPL-2.0-only
"""What lives after a row of a trace: processes, VMAs, the model's objects, and single pages."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmapreplay.analysis.inspect.moment import PAGE, Mm, Moment, Vma
from rmapreplay.replay.specs import ModelSpec
from rmapreplay.traces.errors import RmapReplayError

if TYPE_CHECKING:
    from rmapreplay.replay.engine import Progress
    from rmapreplay.traces.reader import Trace


@dataclass(frozen=True)
class Place:
    """What one address holds in one address space.

    Attributes:
        mm, vma: whose, and the VMA there.
        addr: of the page.
        page: `what` (nothing, zero_page, guard, swap, folio), `by_pmd`, and of a folio `index`,
            `pages`, `mapcount`, `exclusive`, `home`.
        home: the object that the folio is homed at, or None.
        sharers: all that map the folio: mm, pid, addr (of a PMD its first page).
    """

    mm: Mm
    vma: Vma
    addr: int
    page: dict[str, Any]
    home: dict[str, Any] | None
    sharers: list[dict[str, int]]

    def to_dict(self) -> dict[str, Any]:
        return {**self.__dict__, "mm": self.mm.mm, "pid": self.mm.pid, "vma": self.vma.to_dict()}


@dataclass(frozen=True)
class Inspection:
    """The state of a replay after a row.

    Attributes:
        trace: path, or None of one in memory.
        seq: the row.
        event: that row, by column.
        model, kernel: label, and the rules followed.
        mms: the address spaces that live, in order of creation; of one process only its own.
        ancestors: others from which these were copied, living or gone.
        vmas: of these, by address.
        objects: of the model, those that these VMAs lead to and those that they name in turn; see
            Moment.object(). Each with the VMAs of the whole replay that are homed there and that
            are linked to it: `homes` and `links`, of which each has mm, pid, start and end.
        live: live objects of the whole replay, by kind.
        bytes: what they take, by kind.
        places: where an address was asked for, what each of these address spaces holds there.
    """

    trace: str | None
    seq: int
    event: dict[str, Any]
    model: str
    kernel: str
    mms: list[Mm]
    ancestors: list[Mm]
    vmas: list[Vma]
    objects: list[dict[str, Any]]
    live: dict[str, int]
    bytes: dict[str, int]
    places: list[Place] | None

    def to_dict(self) -> dict[str, Any]:
        """As `--format json` prints it (docs/explain.md)."""
        by_mm: dict[int, list[dict[str, Any]]] = {mm.mm: [] for mm in self.mms}
        for vma in self.vmas:
            by_mm[vma.mm].append(vma.to_dict())
        return {
            "trace": self.trace,
            "row": self.seq,
            "event": self.event,
            "model": self.model,
            "kernel": self.kernel,
            "processes": [{**mm.to_dict(), "vmas": by_mm[mm.mm]} for mm in self.mms],
            "ancestors": [mm.to_dict() for mm in self.ancestors],
            "objects": self.objects,
            "live": self.live,
            "bytes": self.bytes,
            **({} if self.places is None else {"places": [p.to_dict() for p in self.places]}),
        }

    def text(self, *, everything: bool = False) -> str:
        """As the command prints it where there is no terminal. Long lists are summarised unless
        `everything` is set."""
        from rmapreplay.analysis.inspect.text import tree

        return tree(self, everything=everything).plain()


def inspect(
    trace: Trace | str | Path,
    at: int,
    model: object = "anon_vma",
    *,
    pid: int | None = None,
    addr: int | None = None,
    progress: Progress | None = None,
) -> Inspection:
    """The state after row `at` of a trace.

    Args:
        trace: a trace, or the path of one.
        at: the row, from 0.
        model: as replay() takes it.
        pid: of this living process only.
        addr: also tell what each address space holds at this address, in bytes.
        progress: called with the number of rows replayed so far.

    Raises RmapReplayError if there is no such row, process, or mapping at the address; ModelError,
    TraceFormatError.
    """
    from rmapreplay.analysis.inspect.history import event

    if isinstance(trace, str | Path):
        from rmapreplay.traces.reader import read_trace

        trace = read_trace(trace)
    spec = ModelSpec.of(model)
    moment = Moment(trace, spec, row=at, progress=progress)
    mms = moment.living if pid is None else [_mm_of(moment, pid)]
    wanted = {mm.mm for mm in mms}
    vmas = [vma for vma in moment.vmas if vma.mm in wanted]
    live: dict[str, int] = moment.native.live()
    sizes = spec_info(spec)
    return Inspection(
        trace=str(trace.path) if trace.path else None,
        seq=at,
        event=event(trace, at),
        model=spec.label,
        kernel=moment.kernel,
        mms=mms,
        ancestors=_ancestors(moment, mms),
        vmas=vmas,
        objects=_objects(moment, vmas, whole=pid is None),
        live=live,
        bytes={kind: n * sizes[kind] for kind, n in live.items()},
        places=None if addr is None else _places(moment, mms, addr),
    )


def spec_info(spec: ModelSpec) -> dict[str, int]:
    """Bytes of each kind of object of a model."""
    from rmapreplay.replay.specs import info_of

    return info_of(spec.name, spec.source)["objects"]


def _mm_of(moment: Moment, pid: int) -> Mm:
    serial = moment.native.mm_of(pid)
    if serial is not None:
        return moment.mms[serial]
    for mm in moment.living:
        if mm.pid == pid:
            return mm
    there = sorted({mm.pid for mm in moment.living})
    named = ", ".join(map(str, there[:10])) + (", ..." if len(there) > 10 else "")
    raise RmapReplayError(
        f"no process {pid} lives after row {moment.seq}"
        + (f": there are {len(there)}: {named}" if there else ": none does")
    )


def _ancestors(moment: Moment, mms: list[Mm]) -> list[Mm]:
    found: dict[int, Mm] = {}
    shown = {mm.mm for mm in mms}
    for mm in mms:
        above = mm.parent
        while above is not None and above not in found:
            if above not in shown:
                found[above] = moment.mms[above]
            above = moment.mms[above].parent
    return [found[mm] for mm in sorted(found)]


def _objects(moment: Moment, vmas: list[Vma], *, whole: bool) -> list[dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {
        each["object"]: {**each, "homes": [], "links": []} for each in moment.native.objects()
    }
    for vma in moment.vmas:
        named = {"mm": vma.mm, "pid": moment.mms[vma.mm].pid, "start": vma.start, "end": vma.end}
        if vma.home in found:
            found[vma.home]["homes"].append(named)
        for handle in vma.chain:
            found[handle]["links"].append(named)
    if whole:
        return list(found.values())
    left = {handle for vma in vmas for handle in (*vma.chain, vma.home) if handle in found}
    wanted: set[int] = set()
    while left:
        handle = left.pop()
        wanted.add(handle)
        left |= {f["value"] for f in found[handle]["fields"] if f["is"] == "object"} - wanted
    return [each for handle, each in found.items() if handle in wanted]


def _places(moment: Moment, mms: list[Mm], addr: int) -> list[Place]:
    places = []
    for mm in mms:
        vma = moment.vma_at(mm.mm, addr)
        page = moment.page(mm.mm, addr)
        if vma is None or page is None:
            continue
        folio = page["what"] == "folio"
        places.append(
            Place(
                mm,
                vma,
                addr // PAGE * PAGE,
                page,
                moment.object(page["home"]) if folio else None,
                [
                    {name: at[name] for name in ("mm", "pid", "addr")}
                    for at in moment.native.sharers(mm.mm, addr)
                ],
            )
        )
    if not places:
        whose = f"pid {mms[0].pid}" if len(mms) == 1 else f"any of {len(mms)} processes"
        raise RmapReplayError(f"no VMA of {whose} covers {addr:#x} after row {moment.seq}")
    return places
