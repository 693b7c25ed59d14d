# SPDX-License-Identifier: GPL-2.0-only
"""Rows that make a layout out of another, by the calls that a process would make itself."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, Final

from rmapreplay.traces.capture.snapshot import vmas
from rmapreplay.traces.capture.snapshot.origins import Origins
from rmapreplay.traces.capture.snapshot.vmas import Layout, Vma

Row = dict[str, Any]
"""Columns of a trace that are not null, without time and task."""

PAGE: Final = 4096
MADV_DONTNEED_LOCKED: Final = 24
MADV_DONTDUMP, MADV_DODUMP = 16, 17
_MLOCK_ONFAULT: Final = 1
_MAP_PRIVATE, _MAP_SHARED, _MAP_ANONYMOUS = 0x02, 0x01, 0x20
_MAP_FIXED, _MAP_NORESERVE, _MAP_STACK = 0x10, 0x4000, 0x20000
_VM_MAY_ACCESS: Final = 0x70
_PR_SET_VMA: Final = 0x53564D41
_STACK: Final = 0x100173  # VM_STACK_FLAGS that a row of [stack] always has

# madvise() values that set and clear a flag.
_ADVICE: Final = {
    vmas.VM_DONTCOPY: (10, 11),
    vmas.VM_DONTDUMP: (MADV_DONTDUMP, MADV_DODUMP),
    vmas.VM_WIPEONFORK: (18, 19),
    vmas.VM_MERGEABLE: (12, 13),
}
_HUGE: Final = vmas.VM_HUGEPAGE | vmas.VM_NOHUGEPAGE
_READING: Final = vmas.VM_SEQ_READ | vmas.VM_RAND_READ


@dataclass(frozen=True)
class Content:
    """Which pages of a family of address spaces any of them has something at: ranges of addresses,
    ascending."""

    starts: Sequence[int]
    ends: Sequence[int]

    def any(self, start: int, end: int) -> bool:
        i = bisect_right(self.ends, start)
        return i < len(self.starts) and self.starts[i] < end

    def free_page(self, vma: Vma) -> int | None:
        """Address of a page of a VMA with nothing at it."""
        at = vma.start
        i = bisect_right(self.ends, at)
        while at < vma.end:
            if i >= len(self.starts) or self.starts[i] > at:
                return at
            at = self.ends[i]
            i += 1
        return None


@dataclass
class Change:
    """What leads from one layout to another.

    Attributes:
        rows: to be applied in this order.
        late: those that must wait until the pages are there.
        lost: ranges of addresses whose pages went with the VMA they were in.
    """

    rows: list[Row] = field(default_factory=list)
    late: list[Row] = field(default_factory=list)
    lost: list[tuple[int, int]] = field(default_factory=list)


def change(
    now: Layout,
    target: Layout,
    content: Content,
    origins: Origins,
    needed: Callable[[Vma], bool],
) -> Change:
    """Rows that turn a layout into `target`; `origins` goes along. `needed`: whether pages that are
    in a VMA should stay."""
    made = Change()
    for low, high in _ranges(vmas.subtract(now, target)):
        made.rows.append({"op": "munmap", "addr": low, "len": high - low})
    anew = _mapped_anew(now, target, needed)
    for i, vma in enumerate(target):
        there = vmas.overlaps(now, vma.start, vma.end)
        below = target[i - 1] if i else None
        parted = i - 1 in anew
        rows = None if i in anew else _in_place(there, vma, below, content, origins, parted=parted)
        if rows is not None:
            made.rows += rows
        else:
            made.rows += _map(vma, below if vma.apart else None, content)
            faulted = vma.apart or content.any(vma.start, vma.end)
            origins.mapped(vma.start, vma.end, faulted=faulted)
            if faulted and below and _reuses(below, vma, now, origins):
                origins.shares(below, vma)
            if there:
                made.lost.append((vma.start, vma.end))
            there = [vma]
        made.late += _late(there, vma)
    return made


def _mapped_anew(now: Layout, target: Layout, needed: Callable[[Vma], bool]) -> set[int]:
    """Which VMAs of a target were unmapped and mapped again: of two that are kept apart where there
    was one, the lower, if the pages of the upper are needed."""
    found = set()
    for i, (low, high) in enumerate(pairwise(target)):
        if high.apart and low.end == high.start and needed(high) and not needed(low):
            there = vmas.overlaps(now, high.start - 1, high.start + 1)
            if len(there) == 1:
                found.add(i)
    return found


def _ranges(parts: Iterator[Vma]) -> Iterator[tuple[int, int]]:
    last: tuple[int, int] | None = None
    for part in parts:
        if last and part.start == last[1]:
            last = (last[0], part.end)
            continue
        if last:
            yield last
        last = (part.start, part.end)
    if last:
        yield last


# ---- VMAs that stay ----


def _in_place(
    there: Layout,
    vma: Vma,
    below: Vma | None,
    content: Content,
    origins: Origins,
    *,
    parted: bool,
) -> list[Row] | None:
    """Rows that turn what is there into `vma`, with its pages; None: there is no such way.
    `parted`: what lies below was mapped anew."""
    parts = [each.part(vma.start, vma.end) for each in there]
    if not parts or any(not vmas.same_object(part, vma) for part in parts):
        return None
    if any(part.apart for part in parts[1:]):
        return None
    if vma.apart and not parted and not _stays_apart(there[0], vma, below, origins):
        return None
    if len(parts) > 1 and not _will_merge(parts, vma, origins):
        return None
    rows: list[Row] = []
    for part in parts:
        made = _flags(part, vma, faulted=origins.faulted(vma))
        if made is None:
            return None
        rows += made
    holes = list(vmas.subtract([vma], parts))
    if holes:
        grown = _grow(holes, vma, content, origins)
        return None if grown is None else rows + grown
    return rows


def _stays_apart(there: Vma, vma: Vma, below: Vma | None, origins: Origins) -> bool:
    """Whether a VMA that begins where `vma` does will not merge with the one below."""
    if there.start != vma.start or below is None:
        return False
    if origins.one(replace(below, end=vma.end)):
        return False
    return there.apart or origins.linked(vma) or origins.linked(below)


def _will_merge(parts: Layout, vma: Vma, origins: Origins) -> bool:
    """Whether parts have no more than one anon_vma, and no links that keep others away from it."""
    if origins.one(vma):
        return True
    return not origins.linked(vma) and sum(origins.faulted(part) for part in parts) < 2


def _reuses(below: Vma, vma: Vma, now: Layout, origins: Origins) -> bool:
    """Whether a VMA that is new takes the anon_vma of the one below (find_mergeable_anon_vma(),
    which would try the one above first)."""
    return (
        not vma.apart
        and below.end == vma.start
        and (below.flags ^ vma.flags) & ~(vmas.VM_ACCESS | vmas.STICKY) == 0
        and vmas.same_object(below, vma)
        and origins.faulted(below)
        and not origins.linked(below)
        and not vmas.overlaps(now, vma.end, vma.end + 1)
    )


def _flags(part: Vma, vma: Vma, *, faulted: bool) -> list[Row] | None:
    """Calls that give a part the flags and the name it is to have, or None."""
    place = {"addr": part.start, "len": part.end - part.start}
    have, want = part.flags & ~vmas.STICKY, vma.flags & ~vmas.STICKY
    rows: list[Row] = []
    if (have ^ want) & vmas.VM_ACCESS:
        rows.append({"op": "mprotect", **place, "prot": want & vmas.VM_ACCESS})
        have = _after_mprotect(have, want, vma, faulted=faulted)
    for flag, (on, off) in _ADVICE.items():
        if (have ^ want) & flag:
            rows.append({"op": "madvise", **place, "advice": on if want & flag else off})
            have ^= flag
    if (have ^ want) & _HUGE:
        if not want & _HUGE:
            return None
        rows.append({"op": "madvise", **place, "advice": 14 if want & vmas.VM_HUGEPAGE else 15})
        have = have & ~_HUGE | want & _HUGE
    if (have ^ want) & _READING:
        advice = {vmas.VM_RAND_READ: 1, vmas.VM_SEQ_READ: 2}.get(want & _READING, 0)
        rows.append({"op": "madvise", **place, "advice": advice})
        have = have & ~_READING | want & _READING
    if want & ~have & vmas.VM_SEALED:
        rows.append({"op": "mseal", **place})
        have |= vmas.VM_SEALED
    if have & ~want & vmas.LOCKED:
        rows.append({"op": "munlock", **place})
    if part.label != vma.label:
        rows.append(_named(vma, place))
    return None if (have ^ want) & ~vmas.LOCKED else rows


def _after_mprotect(have: int, want: int, vma: Vma, *, faulted: bool) -> int:
    """mprotect_fixup(): becoming writable charges private memory, which is undone only while an
    anonymous mapping has no pages."""
    charged = vmas.VM_ACCOUNT | vmas.VM_WRITE | vmas.VM_HUGETLB | vmas.VM_SHARED
    flags = have & ~vmas.VM_ACCESS | want & vmas.VM_ACCESS
    if want & vmas.VM_WRITE:
        if not have & (charged | vmas.VM_NORESERVE):
            flags |= vmas.VM_ACCOUNT
    elif have & vmas.VM_ACCOUNT and not vma.file and not faulted:
        flags &= ~vmas.VM_ACCOUNT
    return flags


def _late(there: Layout, vma: Vma) -> list[Row]:
    """mlock() fills what it locks; that must find the pages it would make."""
    if not vma.flags & vmas.VM_LOCKED or all(part.flags & vmas.VM_LOCKED for part in there):
        return []
    flags = _MLOCK_ONFAULT if vma.flags & vmas.VM_LOCKONFAULT else 0
    return [{"op": "mlock", "addr": vma.start, "len": vma.end - vma.start, "flags": flags}]


# ---- VMAs that are new ----


def _mmap_flags(vma: Vma) -> int | None:
    """The flags with which mmap makes private anonymous memory like this, or None."""
    if vma.file or vma.stack or vma.label or vma.path not in (None, "[heap]"):
        return None
    flags = _MAP_PRIVATE | _MAP_ANONYMOUS | _MAP_FIXED
    made = vma.flags & vmas.VM_ACCESS | _VM_MAY_ACCESS
    if vma.flags & vmas.VM_NORESERVE:
        flags |= _MAP_NORESERVE
        made |= vmas.VM_NORESERVE
    elif vma.writable:
        made |= vmas.VM_ACCOUNT
    if vma.flags & vmas.VM_NOHUGEPAGE:
        flags |= _MAP_STACK
        made |= vmas.VM_NOHUGEPAGE
    return flags if (made ^ vma.flags) & ~vmas.STICKY == 0 else None


def _grow(holes: Layout, vma: Vma, content: Content, origins: Origins) -> list[Row] | None:
    """Rows that fill holes of a VMA, or None. Unlike `mapping`, `mmap` merges with neighbours on
    both sides; but nothing merges with what fork has linked."""
    flags = _mmap_flags(vma)
    if flags is None or origins.linked(vma):
        return None
    rows: list[Row] = []
    for hole in holes:
        place = {"addr": hole.start, "len": hole.end - hole.start}
        prot = hole.flags & vmas.VM_ACCESS
        rows.append({"op": "mmap", **place, "prot": prot, "flags": flags})
        faulted = content.any(hole.start, hole.end)
        if faulted:
            rows += fault(hole.start)
        origins.mapped(hole.start, hole.end, faulted=faulted)
    return rows


def _map(vma: Vma, low: Vma | None, content: Content) -> list[Row]:
    """A `mapping` row, and what keeps it apart from `low`, its neighbour below.

    Two VMAs that nothing else parts have anon_vmas of their own. So they come to have them while a
    flag parts them.
    """
    place = {"addr": vma.start, "len": vma.end - vma.start}
    if not vma.apart or low is None:
        first = fault(vma.start) if content.any(vma.start, vma.end) else []
        return [_mapping(vma), *_completed(vma, place), *first]
    parted = replace(vma, flags=vma.flags ^ vmas.VM_DONTDUMP)
    back = MADV_DONTDUMP if vma.flags & vmas.VM_DONTDUMP else MADV_DODUMP
    below = content.free_page(low)
    pages = [vma.start] if below is None else [below, vma.start]
    return [
        _mapping(parted),
        *_completed(parted, place),
        *[forced_write(page) for page in pages],
        {"op": "madvise", **place, "advice": back},
        *[drop(page, page + PAGE) for page in pages],
    ]


def _mapping(vma: Vma) -> Row:
    shared = _MAP_SHARED if vma.flags & vmas.VM_SHARED else _MAP_PRIVATE
    row: Row = {
        "op": "mapping",
        "addr": vma.start,
        "len": vma.end - vma.start,
        "offset": vma.offset,
        "prot": vma.flags & vmas.VM_ACCESS,
        "flags": shared | (0 if vma.file else _MAP_ANONYMOUS),
        "vm_flags": vma.flags,
    }
    if vma.file:
        row["file"] = vma.file
    if vma.path:
        row["path"] = vma.path
    return row


def _completed(vma: Vma, place: Row) -> list[Row]:
    """What a `mapping` row cannot say."""
    rows = []
    if vma.stack and _STACK & ~vma.flags & vmas.VM_ACCESS:
        rows.append({"op": "mprotect", **place, "prot": vma.flags & vmas.VM_ACCESS})
    if vma.label:
        rows.append(_named(vma, place))
    return rows


def _named(vma: Vma, place: Row) -> Row:
    return {"op": "prctl", **place, "flags": _PR_SET_VMA, "new_addr": vma.label}


def fault(page: int) -> list[Row]:
    """Rows after which a VMA has an anon_vma, and the page is not there."""
    return [forced_write(page), drop(page, page + PAGE)]


def forced_write(page: int) -> Row:
    """Whatever the VMA allows."""
    return {"op": "fault", "addr": page, "write": True, "source": "gup"}


def drop(start: int, end: int) -> Row:
    """A row that takes the pages of a range away."""
    return {"op": "madvise", "addr": start, "len": end - start, "advice": MADV_DONTNEED_LOCKED}
