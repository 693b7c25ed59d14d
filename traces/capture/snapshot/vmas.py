# SPDX-License-Identifier: GPL-2.0-only
"""VMAs as /proc/PID/smaps tells them, and lists of them: a layout is all that an address space has
mapped, in order of address."""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

VM_READ, VM_WRITE, VM_EXEC, VM_SHARED = 0x1, 0x2, 0x4, 0x8
VM_GROWSDOWN, VM_MAYBE_GUARD, VM_LOCKED, VM_LOCKONFAULT = 0x100, 0x800, 0x2000, 0x80000
VM_SEQ_READ, VM_RAND_READ, VM_DONTCOPY = 0x8000, 0x10000, 0x20000
VM_ACCOUNT, VM_NORESERVE, VM_HUGETLB = 0x100000, 0x200000, 0x400000
VM_WIPEONFORK, VM_DONTDUMP, VM_SOFTDIRTY = 0x2000000, 0x4000000, 0x8000000
VM_HUGEPAGE, VM_NOHUGEPAGE, VM_MERGEABLE = 0x20000000, 0x40000000, 0x80000000
VM_SEALED = 1 << 42
VM_ACCESS = VM_READ | VM_WRITE | VM_EXEC
VM_SPECIAL = 0x4000 | 0x40000 | 0x400 | 0x10000000  # VM_IO, DONTEXPAND, PFNMAP, MIXEDMAP
LOCKED = VM_LOCKED | VM_LOCKONFAULT
STICKY = VM_SOFTDIRTY | VM_MAYBE_GUARD
_PKEY_BIT: Final = 32

# show_smap_vma_flags() in fs/proc/task_mmu.c; the bits are those of Linux 7.3.
_CODES: Final = {
    "rd": 0, "wr": 1, "ex": 2, "sh": 3, "mr": 4, "mw": 5, "me": 6, "ms": 7, "gd": 8, "um": 9,
    "pf": 10, "gu": 11, "uw": 12, "lo": 13, "io": 14, "sr": 15, "rr": 16, "dc": 17, "de": 18,
    "lf": 19, "ac": 20, "nr": 21, "ht": 22, "sf": 23, "ar": 24, "wf": 25, "dd": 26, "sd": 27,
    "mm": 28, "hg": 29, "nh": 30, "mg": 31, "ss": 37, "dp": 40, "ui": 41, "sl": 42, "ur": 43,
}  # fmt: skip

_HEADER: Final = re.compile(
    r"^([0-9a-f]+)-([0-9a-f]+) \S{4} ([0-9a-f]+) (\S+) (\d+) *(.*)$", re.MULTILINE
)
_FLAGS: Final = re.compile(r"^VmFlags:(.*)$", re.MULTILINE)
_PKEYS: Final = re.compile(r"^ProtectionKey: +(\d+)$", re.MULTILINE)
_USER_END: Final = 1 << 47
STACK_TOP_MAX: Final = _USER_END - 4096
_SPECIAL_NAMES: Final = ("[vdso]", "[vvar]", "[vvar_vclock]", "[uprobes]")


@dataclass(frozen=True, slots=True)
class Vma:
    """A mapping, or a part of one.

    Attributes:
        start, end: addresses.
        flags: vm_flags, without VM_SOFTDIRTY.
        file: number of its file within the trace, 0: none.
        offset: of `start` in the file; of the stack: the address before exec moved it.
        path: of the file, or the kernel's own name.
        stack: part of the stack that exec made.
        label: number of its PR_SET_VMA_ANON_NAME, 0: none.
        apart: the kernel did not merge it with the one below, though nothing to be seen parts them.
    """

    start: int
    end: int
    flags: int
    file: int = 0
    offset: int = 0
    path: str | None = None
    stack: bool = False
    label: int = 0
    apart: bool = False

    def part(self, start: int, end: int) -> Vma:
        """What of it lies in [start, end)."""
        start, end = max(start, self.start), min(end, self.end)
        if (start, end) == (self.start, self.end):
            return self
        moved = start - self.start
        return replace(
            self,
            start=start,
            end=end,
            offset=self.offset + moved if self.file or self.stack else 0,
            apart=self.apart and not moved,
        )

    def grown(self, end: int) -> Vma:
        return replace(self, end=end)

    @property
    def special(self) -> bool:
        return self.path in _SPECIAL_NAMES

    @property
    def writable(self) -> bool:
        return bool(self.flags & VM_WRITE)


Layout = list[Vma]


def same_object(one: Vma, other: Vma) -> bool:
    """Whether both map the same thing to the same addresses, so that one can become the other."""
    if one.special or other.special:
        return one.path == other.path and one.start == other.start and one.end == other.end
    return (
        one.file == other.file
        and one.stack == other.stack
        and (not (one.file or one.stack) or one.offset - one.start == other.offset - other.start)
    )


def mergeable(low: Vma, high: Vma) -> bool:
    """Whether two neighbours would be one, as far as /proc shows (is_mergeable_vma())."""
    return (
        low.end == high.start
        and (low.flags ^ high.flags) & ~STICKY == 0
        and not low.flags & VM_SPECIAL
        and low.label == high.label
        and same_object(low, high)
    )


def join(parts: Iterable[Vma]) -> Layout:
    """Parts in order of address, put together where nothing parts them."""
    layout: Layout = []
    for vma in parts:
        if layout and not vma.apart and mergeable(layout[-1], vma):
            layout[-1] = layout[-1].grown(vma.end)
        else:
            layout.append(vma)
    return layout


def subtract(layout: Layout, taken: Layout) -> Iterator[Vma]:
    """What of a layout lies where `taken` has nothing."""
    i = 0
    for vma in layout:
        at = vma.start
        while i < len(taken) and taken[i].end <= at:
            i += 1
        j = i
        while j < len(taken) and taken[j].start < vma.end:
            if at < taken[j].start:
                yield vma.part(at, taken[j].start)
            at = max(at, taken[j].end)
            j += 1
        if at < vma.end:
            yield vma.part(at, vma.end)


def overlay(layout: Layout, above: Layout) -> Layout:
    """A layout with another on top."""
    if not above:
        return layout
    return join(sorted([*subtract(layout, above), *above], key=lambda vma: vma.start))


def overlaps(layout: Layout, start: int, end: int) -> Layout:
    """The VMAs that reach into [start, end), whole."""
    i = bisect_right(layout, start, key=lambda vma: vma.end)
    found = []
    while i < len(layout) and layout[i].start < end:
        found.append(layout[i])
        i += 1
    return found


def inherited(layout: Layout) -> Layout:
    """What fork copies of a layout (dup_mmap())."""
    return [
        replace(vma, flags=vma.flags & ~LOCKED) if vma.flags & LOCKED else vma
        for vma in layout
        if not vma.flags & VM_DONTCOPY
    ]


@dataclass
class Files:
    """Numbers for files and names, the same for the same ones in all processes.

    Attributes:
        unknown: flags without a name that is known here, by reason.
    """

    unknown: dict[str, int] = field(default_factory=dict)
    _numbers: dict[tuple[str, int, int], int] = field(default_factory=dict)
    _labels: dict[str, int] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return len(self._numbers)

    def parse(self, smaps: bytes) -> Layout:
        """The layout that /proc/PID/smaps describes."""
        text = smaps.decode(errors="replace")
        flags = [self._flags(codes.split()) for codes in _FLAGS.findall(text)]
        if pkeys := _PKEYS.findall(text):
            flags = [f | int(k) << _PKEY_BIT for f, k in zip(flags, pkeys, strict=True)]
        layout: Layout = []
        parts: dict[tuple[str, int], int] = {}
        for (start, end, offset, device, inode, name), bits in zip(
            _HEADER.findall(text), flags, strict=True
        ):
            vma = Vma(int(start, 16), int(end, 16), bits, path=name or None)
            if vma.start >= _USER_END:
                continue
            if name.startswith("[anon:"):
                vma = replace(vma, label=self._labels.setdefault(name, len(self._labels) + 1))
            identity = (device, int(inode))
            if identity[1]:
                part = parts.setdefault(identity, 0)
                vma = replace(vma, file=self._number(*identity, part), offset=int(offset, 16))
                # Two opens of one file are two files.
                if layout and mergeable(layout[-1], vma):
                    parts[identity] += 1
                    vma = replace(vma, file=self._number(*identity, part + 1))
            elif layout and mergeable(layout[-1], vma):
                vma = replace(vma, apart=True)
            layout.append(vma)
        return _with_stack(layout)

    def _number(self, device: str, inode: int, part: int) -> int:
        return self._numbers.setdefault((device, inode, part), len(self._numbers) + 1)

    def _flags(self, codes: list[str]) -> int:
        flags = 0
        for code in codes:
            if code in _CODES:
                flags |= 1 << _CODES[code]
            else:
                reason = f"unknown_vm_flag_{code}"
                self.unknown[reason] = self.unknown.get(reason, 0) + 1
        return flags & ~VM_SOFTDIRTY


def _with_stack(layout: Layout) -> Layout:
    """Marks the stack of exec, also where mprotect has split it. Its top was at the end of user
    space before exec moved it, and its pages keep the index they had there (setup_arg_pages())."""
    named = next((i for i, vma in enumerate(layout) if vma.path == "[stack]"), None)
    if named is None:
        return layout
    last = first = named
    while last + 1 < len(layout) and _below(layout[last], layout[last + 1]):
        last += 1
    while first > 0 and _below(layout[first - 1], layout[first]):
        first -= 1
    moved = STACK_TOP_MAX - layout[last].end
    for i in range(first, last + 1):
        vma = layout[i]
        layout[i] = replace(vma, stack=True, offset=vma.start + moved, path="[stack]")
    return layout


def _below(low: Vma, high: Vma) -> bool:
    down = low.flags & high.flags & VM_GROWSDOWN
    return bool(down) and low.end == high.start and not low.file and not high.file
