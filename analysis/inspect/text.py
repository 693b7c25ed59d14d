# SPDX-License-Identifier: GPL-2.0-only
"""The state of a replay as lines for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from rmapreplay.analysis.explain.text import born, state
from rmapreplay.analysis.inspect.moment import describe_object
from rmapreplay.analysis.inspect.tree import Branch, count
from rmapreplay.testing.rows import line

if TYPE_CHECKING:
    from rmapreplay.analysis.inspect.inspection import Inspection, Place
    from rmapreplay.analysis.inspect.moment import Mm, Vma

SHOWN_VMAS: Final = 60
"""If no more than so many VMAs are asked for, each is shown."""
SHOWN_OBJECTS: Final = 20
SHOWN_MMS: Final = 40
_SHOWN_SHARERS: Final = 10
_SHOWN_OWNERS: Final = 3
_FAINT: Final = "dim"


def tree(inspection: Inspection, *, everything: bool) -> Branch:
    """All of it; long lists in full only if `everything` is set."""
    root = Branch(
        f"{inspection.trace or 'a trace in memory'} after row {inspection.seq:,}, under "
        f"{inspection.model}, rules of Linux {inspection.kernel}",
        "bold",
    )
    root.add(f"row {inspection.seq:,}: {line(inspection.event)}")
    for place in (inspection.places or [])[: None if everything else _SHOWN_SHARERS]:
        _add_place(root, place, everything)
    _add_rest(root, len(inspection.places or []), _SHOWN_SHARERS, everything)
    _add_processes(root, inspection, everything)
    _add_objects(root, inspection, everything)
    return root


def _add_rest(above: Branch, there: int, shown: int, everything: bool) -> None:
    if there > shown and not everything:
        above.add(f"and {there - shown:,} more (--all shows each)", _FAINT)


def _add_place(root: Branch, place: Place, everything: bool) -> None:
    page = place.page
    what = {"nothing": "nothing is mapped", "zero_page": "the zero page", "guard": "a guard marker"}
    what |= {"swap": "a swap entry", "folio": f"a folio of {count(page.get('pages', 1), 'page')}"}
    top = root.add(f"{place.addr:#x} of {place.mm.name}, mm {place.mm.mm}: {what[page['what']]}")
    top.add(f"VMA {place.vma.describe()}", _FAINT)
    if place.home is None:
        return
    whose = "exclusive" if page["exclusive"] else "not exclusive"
    by = ", by a PMD" if page["by_pmd"] else ""
    top.add(f"index {page['index']:#x}, mapcount {page['mapcount']}, {whose}{by}")
    top.add(f"homed at {describe_object(place.home)}")
    shared = top.add(f"mapped by {count(len(place.sharers), 'entry')}")
    for at in place.sharers if everything else place.sharers[:_SHOWN_SHARERS]:
        shared.add(f"pid {at['pid']}, mm {at['mm']}, at {at['addr']:#x}")
    _add_rest(shared, len(place.sharers), _SHOWN_SHARERS, everything)


# ---- processes ----


def _add_processes(root: Branch, inspection: Inspection, everything: bool) -> None:
    detailed = everything or len(inspection.vmas) <= SHOWN_VMAS or len(inspection.mms) == 1
    top = root.add(
        f"{count(len(inspection.mms), 'address space')}, {count(len(inspection.vmas), 'VMA')}"
    )
    if not detailed:
        top.text += " (--pid or --all shows them)"
    vmas: dict[int, list[Vma]] = {mm.mm: [] for mm in inspection.mms}
    for vma in inspection.vmas:
        vmas[vma.mm].append(vma)
    few = everything or len(inspection.mms) <= SHOWN_MMS
    living = inspection.mms if few else inspection.mms[:SHOWN_MMS]
    branches: dict[int, Branch] = {}
    for mm in sorted([*living, *inspection.ancestors], key=lambda mm: mm.mm):
        above = branches.get(mm.parent or 0, top)
        branches[mm.mm] = above.add(*_process(mm, vmas.get(mm.mm)))
        if detailed:
            for vma in vmas.get(mm.mm, []):
                _add_vma(branches[mm.mm], vma)
    _add_rest(top, len(inspection.mms), SHOWN_MMS, everything)


def _process(mm: Mm, vmas: list[Vma] | None) -> tuple[str, str]:
    text = f"{mm.name}, mm {mm.mm}, {born(mm)}, {state(mm)}"
    if vmas is None:  # not asked for
        return text, _FAINT
    text += f": {count(len(vmas), 'VMA')}, {_pages(vmas)}"
    return text, "" if mm.state == "alive" else _FAINT


def _pages(vmas: list[Vma]) -> str:
    anon, shared, swap = (
        sum(getattr(vma, name) for vma in vmas) for name in ("anon", "shared", "swap")
    )
    text = count(anon, "anonymous page")
    text += f" ({shared:,} shared)" if shared else ""
    return text + (f", {swap:,} in swap" if swap else "")


def _add_vma(above: Branch, vma: Vma) -> None:
    words = [vma.describe()]
    if vma.faulted:
        words.append(_pages([vma]))
        if vma.displacement:
            words.append(f"displaced by {vma.displacement:+,} pages")
        others = [str(handle) for handle in vma.chain if handle != vma.home]
        words.append(f"home {vma.home}" + (f", linked to {', '.join(others)}" if others else ""))
    above.add("; ".join(words), "" if vma.faulted else _FAINT)


# ---- objects ----


def _vmas(vmas: Sequence[Mapping[str, int]], everything: bool) -> str:
    """`2 VMAs: pid 12 at 7f0000000000, pid 13 at 7f0000000000`."""
    shown = vmas if everything else vmas[:_SHOWN_OWNERS]
    text = ", ".join(f"pid {vma['pid']} at {vma['start']:012x}" for vma in shown)
    return f"{count(len(vmas), 'VMA')}: {text}" + (", ..." if len(shown) < len(vmas) else "")


def _add_objects(root: Branch, inspection: Inspection, everything: bool) -> None:
    top = root.add("live in the whole replay")
    for kind, n in inspection.live.items():
        top.add(f"{kind} {n:,}, {inspection.bytes[kind]:,} bytes")
    if not inspection.objects:
        return
    top = root.add("the model's objects that these VMAs lead to")
    for each in inspection.objects if everything else inspection.objects[:SHOWN_OBJECTS]:
        branch = top.add(describe_object(each))
        for name, what in (("homes", "home of"), ("links", "linked to")):
            if each[name]:
                branch.add(f"{what} {_vmas(each[name], everything)}", _FAINT)
        for remap in each["remaps"] if everything else each["remaps"][:_SHOWN_SHARERS]:
            branch.add(
                f"index {remap['first']:#x} to {remap['last']:#x} lies "
                f"{remap['displacement']:+,} pages further on"
            )
        _add_rest(branch, len(each["remaps"]), _SHOWN_SHARERS, everything)
    _add_rest(top, len(inspection.objects), SHOWN_OBJECTS, everything)
