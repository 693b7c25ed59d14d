# SPDX-License-Identifier: GPL-2.0-only
"""One moment of a replay, and who was there: address spaces, their VMAs, the model's objects."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, cast

import pyarrow as pa

from rmapreplay.replay import DEFAULT_BATCH_SIZE
from rmapreplay.replay.engine import ModelRun
from rmapreplay.replay.output import comm_of
from rmapreplay.traces.errors import RmapReplayError
from rmapreplay.traces.schema import process_names

if TYPE_CHECKING:
    from rmapreplay.replay.engine import Progress
    from rmapreplay.replay.specs import ModelSpec
    from rmapreplay.traces.reader import Trace

PAGE: Final = 4096

# vm_flags that say how a VMA behaves, by the words of docs/explain.md.
_FLAGS: Final = {
    0x100: "growsdown",
    0x2000: "locked",
    0x20000: "dontcopy",
    0x400000: "hugetlb",
    0x2000000: "wipeonfork",
    0x20000000: "hugepage",
    0x40000000: "nohugepage",
    0x80000000: "mergeable",
}
LOCKED: Final = 0x2000


def perms(flags: int) -> str:
    """As /proc/PID/maps has them: `rw-p`."""
    access = "".join(name if flags & bit else "-" for name, bit in (("r", 1), ("w", 2), ("x", 4)))
    return access + ("s" if flags & 8 else "p")


@dataclass(frozen=True)
class Mm:
    """An address space, living or gone.

    Attributes:
        mm: serial number, in order of creation, from 1.
        pid: the process it is called after: of a living one who uses it now, of one that is gone
            who first had it. 0: a copy that fork is not done with.
        comm: name of the program, where the trace has its exec; of a copy its parent's; or what a
            scenario calls the process.
        parent: serial of the mm it was copied from, or None.
        how: fork, exec, or first_seen (it was there before the trace began).
        born, gone: rows; `gone` is None while it lives.
        state: alive, dying (no task uses it, its end has rows to come), forking, or gone.
    """

    mm: int
    pid: int
    comm: str | None
    parent: int | None
    how: str
    born: int
    gone: int | None
    state: str

    @property
    def name(self) -> str:
        """`pid 12 (redis-server)`."""
        return f"pid {self.pid}" + (f" ({self.comm})" if self.comm else "")

    def to_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)


@dataclass(frozen=True)
class Vma:
    """A VMA. Addresses in bytes, `index` (anonymous offset of its start) in pages.

    Attributes:
        kind: heap, stack, anon, file, shmem (shared anonymous memory) or special (vdso, vvar).
        file: number of its file in the trace, 0 if it has none, or none of the trace's.
        path: of its file, where the trace has it.
        flags: raw vm_flags.
        faulted: whether it was ever anonymously faulted.
        anon, shared, swap: pages that map an anonymous folio; of these, one that others map too;
            and those that are in swap.
        home: handle of the object that its pages are homed at; None if it is not faulted.
        chain: handles of the objects that it is linked to, head first.
    """

    vma: int
    mm: int
    start: int
    end: int
    index: int
    flags: int
    kind: str
    file: int
    path: str | None
    faulted: bool
    anon: int
    shared: int
    swap: int
    home: int | None
    chain: list[int] = field(default_factory=list)

    @property
    def words(self) -> list[str]:
        """The flags that say how it behaves: locked, growsdown, ..."""
        return [name for bit, name in _FLAGS.items() if self.flags & bit]

    @property
    def displacement(self) -> int:
        """Pages from where its index says to where it is: not 0 once it was moved."""
        return self.start // PAGE - self.index

    def describe(self) -> str:
        """Range, permissions and what it is: `7f0000000000-7f0000040000 rw-p anon, locked`."""
        what = self.path or f"file {self.file}" if self.kind == "file" else self.kind
        return ", ".join(
            [f"{self.start:012x}-{self.end:012x} {perms(self.flags)} {what}", *self.words]
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            **self.__dict__,
            "perms": perms(self.flags),
            "words": self.words,
            "displacement": self.displacement,
        }


class Moment:
    """A replay that stands still: after a row, or at a walk.

    Args:
        trace, spec: what to replay.
        row: after which row; or
        walk: at which walk, counted from 0, of those that happen under `walks`.

    Attributes:
        seq: the row.
        native: the replay.

    Raises RmapReplayError if there is no such row or walk, and what a replay raises.
    """

    def __init__(
        self,
        trace: Trace,
        spec: ModelSpec,
        *,
        row: int | None = None,
        walk: int | None = None,
        walks: str = "none",
        progress: Progress | None = None,
    ) -> None:
        if row is not None and not 0 <= row < trace.rows:
            there = f"rows 0 to {trace.rows - 1}" if trace.rows else "no rows"
            raise RmapReplayError(f"there is no row {row}: the trace has {there}")
        self.trace = trace
        self.spec = spec
        run = ModelRun(spec, trace, walks, False, None)
        self.kernel = run.kernel
        self.native = run.native
        self.native.record_lives()
        if walk is not None:
            self.native.stop_at_walk(walk)
        left = trace.rows if row is None else row + 1
        for batch in trace.batches(batch_size=DEFAULT_BATCH_SIZE):
            run.feed(batch.slice(0, left))
            left -= batch.num_rows
            if progress:
                progress(self.native.row)
            if left <= 0 or self.native.stopped:
                break
        if walk is not None and not self.native.stopped:
            run.finish()
        if walk is not None and not self.native.stopped:
            raise RmapReplayError(_no_walk(spec.label, walk, walks, self.native.summary()["walks"]))
        self.seq = row if row is not None else int(self.story["walk"]["seq"])

    @cached_property
    def story(self) -> dict[str, Any]:
        """The walk in full: walk, folio, visits, entries (docs/explain.md)."""
        return cast("dict[str, Any]", self.native.story())

    @cached_property
    def mms(self) -> dict[int, Mm]:
        """Every address space there has been, by serial."""
        users: Mapping[int, int] = self.native.users()
        mms, pids_now = (self._vma_rows[name].to_pylist() for name in ("mm", "pid"))
        pids = dict(zip(mms, pids_now, strict=True))
        paths = dict(self.trace.exec_paths())
        given = process_names(self.trace.metadata)
        found: dict[int, Mm] = {}
        for life in self.native.lives():
            mm = life["mm"]
            path = paths.get(life["execed"])
            above = found.get(life["parent"])
            pid = pids.get(mm, life["pid"])
            inherited = given.get(pid) or (above.comm if above else None)
            if mm in users:
                unnamed = "dying" if life["pid"] else "forking"
                state = "alive" if users[mm] else unnamed
            else:
                state = "gone"
            found[mm] = Mm(
                mm,
                pid,
                comm_of(path) if path is not None else inherited,
                life["parent"],
                life["how"],
                life["born"],
                life["gone"],
                state,
            )
        return found

    @cached_property
    def living(self) -> list[Mm]:
        """Those that are not gone, in order of creation."""
        return [mm for mm in self.mms.values() if mm.state != "gone"]

    @cached_property
    def vmas(self) -> list[Vma]:
        """Every VMA, by mm and address."""
        chains: dict[tuple[int, int], list[int]] = {}
        links = pa.record_batch(self.native.links()).to_pydict()
        for mm, start, handle in zip(links["mm"], links["start"], links["object"], strict=True):
            chains.setdefault((mm, start), []).append(handle)
        details = pa.record_batch(self.native.vma_details()).to_pylist()
        paths = self.trace.file_paths()
        return [
            Vma(
                **{name: more[name] for name in ("vma", "kind", "anon", "shared", "swap")},
                **{name: row[name] for name in ("mm", "start", "end", "index", "flags", "faulted")},
                file=row["file"] if more["kind"] == "file" else 0,
                path=paths.get(row["file"]),
                home=more["home"] if row["faulted"] else None,
                chain=chains.get((row["mm"], row["start"]), []),
            )
            for row, more in zip(self._vma_rows.to_pylist(), details, strict=True)
        ]

    @cached_property
    def _vma_rows(self) -> pa.RecordBatch:
        return pa.record_batch(self.native.vmas())

    def vmas_of(self, mm: int) -> list[Vma]:
        return [vma for vma in self.vmas if vma.mm == mm]

    def vma_at(self, mm: int, addr: int) -> Vma | None:
        return next((v for v in self.vmas if v.mm == mm and v.start <= addr < v.end), None)

    def page(self, mm: int, addr: int) -> dict[str, Any] | None:
        """What a page holds: `what` (nothing, zero_page, guard, swap, folio), `by_pmd`, and of a
        folio `index`, `pages`, `mapcount`, `exclusive`, `home`. None where there is no VMA."""
        return cast("dict[str, Any] | None", self.native.page(mm, addr))

    def object(self, handle: int) -> dict[str, Any]:
        """An object of the model: `object` (its handle), `kind` ("" if the model does not say),
        `fields` (a list of `name`, `value` and `is`: number, object or mm), `remaps`."""
        found: dict[str, Any] = self.native.object_view(handle)
        return found


def _no_walk(label: str, walk: int, walks: str, there: int) -> str:
    numbers = {0: "none", 1: "one, number 0"}.get(there, f"{there:,}, numbers 0 to {there - 1}")
    return f"there is no walk {walk} under {label} with --walks {walks}: there are {numbers}"


def describe_object(found: Mapping[str, Any]) -> str:
    """An object in one line: `anon_vma 12: root 3, parent 7, refcount 1`."""
    kind = found["kind"] or "object"
    words = []
    for each in found["fields"]:
        value = f"mm {each['value']}" if each["is"] == "mm" else f"{each['name']} {each['value']}"
        words.append(value)
    return f"{kind} {found['object']}" + (f": {', '.join(words)}" if words else "")
