# SPDX-License-Identifier: GPL-2.0-only
"""What snapshots are made of, from text and numbers made up here: no process is looked at."""

from __future__ import annotations

import polars as pl
import pytest

from rmapreplay.traces.capture.snapshot import vmas
from rmapreplay.traces.capture.snapshot.pages import ANON, ENTRIES, SWAPPED, RawPages, entries
from rmapreplay.traces.capture.snapshot.proc import Memory, Process
from rmapreplay.traces.capture.snapshot.sharing import Share, analyse, carried, image_sharing
from rmapreplay.traces.capture.snapshot.tree import Family, families, reconstruct
from rmapreplay.traces.capture.snapshot.vmas import Files, Vma

PAGE = 0x1000
READ_WRITE = 0x100073


def smaps(*vmas: str) -> bytes:
    """Of lines `start-end perms offset dev inode path | VmFlags`."""
    text = ""
    for vma in vmas:
        header, _, flags = vma.partition(" | ")
        text += f"{header}\nSize:    4 kB\nAnonymous:   0 kB\nVmFlags: {flags} \n"
    return text.encode()


def test_files_of_two_opens_and_vmas_kept_apart() -> None:
    files = Files()
    code = "rd ex mr mw me"
    layout = files.parse(
        smaps(
            f"1000-2000 r-xp 00000000 08:01 77 /lib/a b.so | {code}",
            f"2000-3000 r-xp 00001000 08:01 77 /lib/a b.so | {code}",
            f"3000-4000 r-xp 00009000 08:01 77 /lib/a b.so | {code}",
            "4000-5000 rw-p 00000000 00:00 0  | rd wr mr mw me ac sd",
            "5000-6000 rw-p 00000000 00:00 0  | rd wr mr mw me ac",
            "6000-7000 rw-p 00000000 00:00 0 [anon:arena] | rd wr mr mw me ac",
            "ffffffffff600000-ffffffffff601000 --xp 00000000 00:00 0 [vsyscall] | ex zz",
        )
    )
    assert [vma.file for vma in layout] == [1, 2, 2, 0, 0, 0]
    assert layout[0].path == "/lib/a b.so"
    assert [vma.apart for vma in layout] == [False, False, False, False, True, False]
    assert layout[3].flags == READ_WRITE
    assert (layout[4].label, layout[5].label) == (0, 1)
    assert files.unknown == {"unknown_vm_flag_zz": 1}
    # The same places in another process are the same files.
    assert files.parse(smaps(f"1000-2000 r-xp 00000000 08:01 77 /lib/a b.so | {code}"))[0].file == 1
    assert files.count == 2


def test_the_stack_keeps_the_offset_from_before_exec_moved_it() -> None:
    layout = Files().parse(
        smaps(
            "7ffc00000000-7ffc00001000 ---p 00000000 00:00 0  | mr mw me gd ac",
            "7ffc00001000-7ffc00009000 rw-p 00000000 00:00 0 [stack] | rd wr mr mw me gd ac",
            "7ffc0000a000-7ffc0000c000 r-xp 00000000 00:00 0 [vdso] | rd ex mr mw me de",
        )
    )
    assert [vma.stack for vma in layout] == [True, True, False]
    assert layout[1].offset == (1 << 47) - PAGE - 8 * PAGE
    assert layout[0].offset == layout[1].offset - PAGE
    assert layout[2].special


def test_layouts() -> None:
    low, high = Vma(0x1000, 0x5000, READ_WRITE), Vma(0x5000, 0x9000, READ_WRITE)
    assert vmas.join([low, high]) == [Vma(0x1000, 0x9000, READ_WRITE)]
    parted = Vma(0x5000, 0x9000, READ_WRITE, apart=True)
    assert vmas.join([low, parted]) == [low, parted]
    middle = Vma(0x3000, 0x6000, 0x71)
    assert vmas.overlay([low, parted], [middle]) == [
        Vma(0x1000, 0x3000, READ_WRITE),
        middle,
        Vma(0x6000, 0x9000, READ_WRITE),
    ]
    mapped = Vma(0x1000, 0x9000, 0x71, file=3, offset=0x7000)
    assert mapped.part(0x4000, 0x6000).offset == 0xA000
    assert [vma.start for vma in vmas.overlaps([low, parted], 0x4FFF, 0x5001)] == [0x1000, 0x5000]


def memory(pid: int, parent: int, *, start: int = 0, randomized: bool = True) -> Memory:
    image = (8, 1, 2, 3, 4)
    return Memory(
        [Process(pid, parent, start, (pid,), "/bin/x", 0, image, randomized, False, False)]
    )


def test_families() -> None:
    """Numbers of processes begin anew, parents exit, and parents may be young."""
    layout = [Vma(0x1000, 0x5000, READ_WRITE)]
    memories = [
        memory(900, 1),
        memory(901, 900, start=1),
        memory(30, 901, start=1),
        memory(31, 1, start=2),
    ]
    (family,) = families(memories, [layout] * 4, set())
    assert [node.memory.owner.pid for node in family.nodes] == [900, 901, 30, 31]
    parents = [node.parent and node.parent.memory.owner.pid for node in family.nodes]
    assert parents == [None, 900, 901, 900]
    assert family.orphans == 1


def test_without_randomization_only_shared_pages_make_relatives() -> None:
    layout = [Vma(0x1000, 0x5000, READ_WRITE)]
    memories = [memory(9, 1, randomized=False), memory(10, 9, randomized=False)]
    assert len(families(memories, [layout] * 2, set())) == 2
    assert len(families(memories, [layout] * 2, {0, 1})) == 1


def table(*rows: tuple[int, int, int, int]) -> pl.DataFrame:
    """Of mm, page, kind, key."""
    filled = [(*row, row[3], 0, True) for row in rows]
    return pl.DataFrame(filled, schema=ENTRIES, orient="row")


def test_patterns() -> None:
    layout = [Vma(0x1000, 0x9000, READ_WRITE)]
    memories = [memory(9, 1), memory(10, 9), memory(11, 10)]
    (family,) = families(memories, [layout] * 3, set())
    found = table(
        *[(mm, page, ANON, 100 + page) for mm in (0, 2) for page in (1, 2, 3)],
        *[(1, page, ANON, 200 + page) for page in (2, 3)],
        (0, 5, SWAPPED, 7), (1, 5, SWAPPED, 7),
    )  # fmt: skip
    assert image_sharing(found, [0, 0, 0]) == {0, 1, 2}
    assert image_sharing(found, [0, 1, 0]) == {0, 2}
    sharing = analyse(found, [family])
    runs = sharing.runs.select("start", "len", "pattern").rows()
    assert [run[:2] for run in runs] == [(0x1000, PAGE), (0x2000, 2 * PAGE), (0x5000, PAGE)]
    two = Share((0, 2), ANON, 0)
    assert [sharing.patterns[run[2]] for run in runs] == [
        (two,),
        (two, Share((1,), ANON, 0)),
        (Share((0, 1), SWAPPED, 0),),
    ]
    # What 0 and 2 share was 1's when it forked 2, whatever it has now.
    nodes = {node.index: node for node in family.nodes}
    assert carried((two, Share((1,), ANON, 0)), nodes) == {1: 0, 2: 0}


def test_a_layout_that_was_larger_when_it_was_copied() -> None:
    """The parent has since split what the child has in one piece, and unmapped its end."""
    whole = Vma(0x1000, 0x9000, READ_WRITE)
    parts = [Vma(0x1000, 0x4000, READ_WRITE), Vma(0x4000, 0x7000, 0x100071)]
    (family,) = families([memory(9, 1), memory(10, 9)], [parts, [whole]], set())
    parent, child = family.nodes
    child.carried = [0x1000]
    reconstruct(family)
    assert parent.forking == [[whole]]
    assert parent.birth == [whole]
    assert child.birth == [whole]


@pytest.mark.parametrize("apart", [False, True])
def test_what_a_child_added_below(apart: bool) -> None:
    """The kernel keeps it apart from what was copied; the parent's own growth merged."""
    grown = Vma(0x2000, 0x9000, READ_WRITE)
    child_layout = [Vma(0x1000, 0x5000, READ_WRITE), Vma(0x5000, 0x9000, READ_WRITE, apart=apart)]
    (family,) = families([memory(9, 1), memory(10, 9)], [[grown], child_layout], set())
    parent, child = family.nodes
    child.carried = [0x5000]
    reconstruct(family)
    (then,) = parent.forking
    if apart:
        assert then == [Vma(0x5000, 0x9000, READ_WRITE)]
    else:
        assert then[0].start == 0x1000


def test_no_entries_at_all() -> None:
    pages = entries([RawPages()])
    assert pages.entries.is_empty()
    assert pages.entries.schema == pl.Schema(ENTRIES)
    assert isinstance(Family([]).boundaries(), list)
