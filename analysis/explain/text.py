# SPDX-License-Identifier: GPL-2.0-only
"""An explanation as lines for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from rmapreplay.analysis.explain.reasons import CODES
from rmapreplay.analysis.inspect.moment import describe_object
from rmapreplay.analysis.inspect.tree import Branch, count
from rmapreplay.testing.rows import line

if TYPE_CHECKING:
    from rmapreplay.analysis.explain.explanation import Explanation, Process, Story, Visit
    from rmapreplay.analysis.inspect.moment import Mm

SHOWN_VISITS: Final = 10
"""First visits that are shown each; of more the last one too, and the others in sum."""
SHOWN_CHILDREN: Final = 8
"""Children of one process that are shown each."""
_SHOWN_MISSES: Final = 10

_HIT: Final = "green"
_VAIN: Final = "yellow"
_MISS: Final = "bold red"
_FAINT: Final = "dim"


def tree(explanation: Explanation, *, everything: bool) -> Branch:
    """All of it; long lists in full only if `everything` is set."""
    first = explanation.difference or _headline(explanation)
    root = Branch(first, "bold")
    if explanation.difference:
        root.add(_headline(explanation))
    seq = explanation.stories[0].walk["seq"]
    root.add(f"row {seq:,}: {line(explanation.event)}" if explanation.event else f"row {seq:,}")
    for story in explanation.stories:
        _add_story(root, story, seq, everything)
    return root


def _headline(explanation: Explanation) -> str:
    walk = explanation.stories[0].walk
    return (
        f"walk {explanation.number} ({walk['kind']}) of "
        f"{explanation.trace or 'a trace in memory'}, --walks {explanation.walks}"
    )


def _add_story(root: Branch, story: Story, seq: int, everything: bool) -> None:
    walk = story.walk
    misses = f", {count(walk['misses'], 'miss')}" if walk["misses"] else ""
    elsewhere = f" (at row {walk['seq']:,})" if walk["seq"] != seq else ""
    top = root.add(
        f"{story.model}, rules of Linux {story.kernel}{elsewhere}: "
        f"{count(walk['visits'], 'visit')}, {walk['hits']:,} hit, {story.useless:,} useless"
        f"{misses}",
        "bold",
    )
    _add_folio(top, story)
    forest = top.add("fork tree")
    by_parent: dict[int | None, list[Process]] = {}
    shown = {process.mm.mm for process in story.processes}
    for process in story.processes:
        parent = process.mm.parent if process.mm.parent in shown else None
        by_parent.setdefault(parent, []).append(process)
    _add_processes(forest, by_parent, None, bool(walk["misses"]), everything)
    visits = top.add(f"visits, as {story.model} makes them")
    _add_visits(visits, story.visits, everything)
    spent = _spent(story.end["spent"])
    top.add(story.end["text"] + (f"; after the last visit {spent}" if spent else ""))
    if story.missed:
        missed = top.add(f"missed: {count(len(story.missed), 'mapping')}", _MISS)
        for at in story.missed if everything else story.missed[:_SHOWN_MISSES]:
            missed.add(f"pid {at['pid']}, mm {at['mm']}, at {at['addr']:#x}", _MISS)
        if not everything and len(story.missed) > _SHOWN_MISSES:
            missed.add(f"and {len(story.missed) - _SHOWN_MISSES:,} more")


def _add_folio(top: Branch, story: Story) -> None:
    folio = story.folio
    whose = "exclusive" if folio["exclusive"] else "not exclusive"
    found = top.add(
        f"folio of {count(folio['pages'], 'page')}, index {folio['index']:#x}, "
        f"mapcount {folio['mapcount']}, {whose}"
    )
    found.add(
        f"walked from pid {folio['pid']}, mm {folio['mm']}, at {folio['addr']:#x} "
        f"({folio['mapping']}, {count(folio['fork_depth'], 'fork')} deep)"
    )
    found.add(f"homed at {describe_object(story.home)}")
    if remaps := story.home["remaps"]:
        here = [r for r in remaps if r["first"] <= folio["index"] <= r["last"]]
        found.add(f"{count(len(remaps), 'remap')} there, {len(here)} for this index")


# ---- the fork tree ----


def _add_processes(
    above: Branch,
    by_parent: Mapping[int | None, Sequence[Process]],
    parent: int | None,
    misses: bool,
    everything: bool,
) -> None:
    children = by_parent.get(parent, ())
    few = everything or len(children) <= SHOWN_CHILDREN
    for process in children if few else children[:SHOWN_CHILDREN]:
        text, style = _process(process, misses)
        _add_processes(above.add(text, style), by_parent, process.mm.mm, misses, everything)
    if not few:
        left = [p for child in children[SHOWN_CHILDREN:] for p in _family(child, by_parent)]
        maps = sum(bool(process.addresses) for process in left)
        vain = sum(bool(process.in_vain) for process in left)
        above.add(f"and {len(left):,} more: {maps:,} map it, {vain:,} visited in vain", _FAINT)


def _family(process: Process, by_parent: Mapping[int | None, Sequence[Process]]) -> list[Process]:
    found = [process]
    for each in found:
        found += by_parent.get(each.mm.mm, ())
    return found


def _process(process: Process, misses: bool) -> tuple[str, str]:
    words = [f"{process.mm.name}, mm {process.mm.mm}, {born(process.mm)}, {state(process.mm)}"]
    style = _FAINT
    if process.addresses:
        style = _HIT
        places = ", ".join(f"{addr:#x}" for addr in process.addresses[:3])
        places += " ..." if len(process.addresses) > 3 else ""
        words.append(f"maps it at {places}")
        if process.found < len(process.addresses):
            style = _MISS if misses else ""
            words.append("not offered: MISSED" if misses else "not looked for")
    if process.in_vain:
        style = style if process.addresses else _VAIN
        words.append("visited in vain" if process.in_vain == process.visits else "also in vain")
    return "; ".join(words), style


def born(mm: Mm) -> str:
    """How it came to be: `forked at row 12`."""
    if mm.how == "first_seen":
        return "there before the trace" if mm.born == 0 else f"first seen at row {mm.born:,}"
    return f"{'forked' if mm.how == 'fork' else 'exec'} at row {mm.born:,}"


def state(mm: Mm) -> str:
    """Whether it lives: `alive`, `gone at row 12`."""
    return f"gone at row {mm.gone:,}" if mm.gone is not None else mm.state


# ---- visits ----


def _add_visits(top: Branch, visits: Sequence[Visit], everything: bool) -> None:
    if everything or len(visits) <= SHOWN_VISITS + 2:
        for visit in visits:
            _add_visit(top, visit)
        return
    for visit in visits[:SHOWN_VISITS]:
        _add_visit(top, visit)
    _add_sum(top, visits[SHOWN_VISITS:-1])
    _add_visit(top, visits[-1])


def _add_visit(top: Branch, visit: Visit) -> None:
    where = f"#{visit.visit} {visit.mm.name}, mm {visit.mm.mm}, at {visit.addr:#x}"
    if visit.pages > 1:
        where += f" ({count(visit.pages, 'page')})"
    if visit.result == "hit":
        hits = f" ({visit.hits} entries)" if visit.hits > 1 else ""
        one = top.add(f"{where}: hit{hits}", _HIT)
    else:
        one = top.add(f"{where}: useless", _VAIN)
        one.add(visit.reason)
    one.add(f"VMA {visit.vma.describe()}", _FAINT)
    one.add(f"spent {_spent({**visit.spent, 'levels': visit.levels}) or 'nothing'}", _FAINT)


def _add_sum(top: Branch, visits: Sequence[Visit]) -> None:
    """Many visits in a few lines."""
    first, last = visits[0].visit, visits[-1].visit
    hits = sum(visit.result == "hit" for visit in visits)
    more = top.add(
        f"#{first} to #{last}: {len(visits):,} more, {hits:,} hit, {len(visits) - hits:,} useless "
        "(--all shows each)"
    )
    reasons = Counter(visit.because for visit in visits if visit.because)
    for code, n in reasons.most_common():
        more.add(f"{n:,} useless: {CODES[code]}", _VAIN)
    spent: Counter[str] = Counter()
    for visit in visits:
        spent.update({**visit.spent, "levels": visit.levels})
    more.add(f"spent {_spent(spent)}", _FAINT)


def _spent(counts: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {n:,}" for name, n in counts.items() if n)
