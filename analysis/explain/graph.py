# SPDX-License-Identifier: GPL-2.0-only
"""An explanation as a graph: the fork tree, and the visits through it, for graphviz or mermaid."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from rmapreplay.analysis.explain.text import born

if TYPE_CHECKING:
    from rmapreplay.analysis.explain.explanation import Explanation, Process, Story, Visit

_FILL: Final = {"hit": "#b7e1cd", "useless": "#fce8b2", "missed": "#f4c7c3", "other": "#eeeeee"}
"""Colours by what became of a process."""


@dataclass(frozen=True)
class _Node:
    name: str
    lines: list[str]
    what: str


@dataclass(frozen=True)
class _Edge:
    start: str
    end: str
    label: str  # empty: a fork


def dot(explanation: Explanation) -> str:
    """A directed graph with a cluster per model: a box per process, coloured by what became of it,
    solid lines for forks, dashed ones for visits in their order."""
    lines = ["digraph walk {", "  rankdir=TB;", "  node [shape=box, style=filled, fontsize=10];"]
    lines.append(f"  label={_quoted(_title(explanation))};")
    for number, story in enumerate(explanation.stories):
        lines.append(f"  subgraph cluster_{number} {{")
        lines.append(f"    label={_quoted(_heading(story))};")
        for node in _nodes(story, number):
            text = "\\n".join(_escaped(line) for line in node.lines)
            lines.append(f'    {node.name} [label="{text}", fillcolor="{_FILL[node.what]}"];')
        for edge in _edges(story, number):
            more = f" [label={_quoted(edge.label)}, style=dashed, constraint=false]"
            lines.append(f"    {edge.start} -> {edge.end}{more if edge.label else ''};")
        lines.append("  }")
    return "\n".join([*lines, "}"])


def mermaid(explanation: Explanation) -> str:
    """A flowchart with a subgraph per model, drawn as by dot()."""
    lines = ["---", f"title: {json.dumps(_title(explanation))}", "---", "flowchart TB"]
    for number, story in enumerate(explanation.stories):
        lines.append(f'  subgraph model_{number}["{_mermaid_text(_heading(story))}"]')
        for node in _nodes(story, number):
            text = "<br/>".join(_mermaid_text(line) for line in node.lines)
            lines.append(f'    {node.name}["{text}"]:::{node.what}')
        for edge in _edges(story, number):
            arrow = f'-. "{_mermaid_text(edge.label)}" .->' if edge.label else "-->"
            lines.append(f"    {edge.start} {arrow} {edge.end}")
        lines.append("  end")
    lines += [f"  classDef {name} fill:{colour},color:#000" for name, colour in _FILL.items()]
    return "\n".join(lines)


def _title(explanation: Explanation) -> str:
    walk = explanation.stories[0].walk
    title = f"walk {explanation.number} ({walk['kind']}) at row {walk['seq']}"
    return f"{explanation.trace}: {title}" if explanation.trace else title


def _heading(story: Story) -> str:
    walk = story.walk
    return (
        f"{story.model}: {walk['visits']} visits, {walk['hits']} hit, {story.useless} useless, "
        f"{walk['misses']} missed. {story.end['text']}"
    )


def _nodes(story: Story, number: int) -> Iterator[_Node]:
    folio = story.folio
    lines = [f"folio, index {folio['index']:#x}", f"mapcount {folio['mapcount']}"]
    home = story.home
    lines.append(f"home: {home['kind'] or 'object'} {home['object']}")
    yield _Node(f"m{number}_folio", lines, "other")
    for process in story.processes:
        mm = process.mm
        lines = [f"{mm.name}, mm {mm.mm}", f"{born(mm)}, {mm.state}"]
        lines += [f"maps it at {addr:#x}" for addr in process.addresses[:3]]
        visits = [visit for visit in story.visits if visit.mm.mm == mm.mm]
        lines += [_visit(visit) for visit in visits[:3]]
        missed = story.walk["misses"] and process.found < len(process.addresses)
        if missed:
            lines.append("MISSED")
        yield _Node(_name(number, mm.mm), lines, "missed" if missed else _what(process))


def _visit(visit: Visit) -> str:
    return f"#{visit.visit} {visit.result}" + (f": {visit.reason}" if visit.reason else "")


def _what(process: Process) -> str:
    if process.visits > process.in_vain:
        return "hit"
    return "useless" if process.in_vain else "other"


def _edges(story: Story, number: int) -> Iterator[_Edge]:
    shown = {process.mm.mm for process in story.processes}
    for process in story.processes:
        if process.mm.parent in shown:
            parent = process.mm.parent
            assert parent is not None
            yield _Edge(_name(number, parent), _name(number, process.mm.mm), "")
    at = f"m{number}_folio"
    for visit in story.visits:
        to = _name(number, visit.mm.mm)
        yield _Edge(at, to, f"#{visit.visit}")
        at = to


def _name(number: int, mm: int) -> str:
    return f"m{number}_mm{mm}"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _quoted(text: str) -> str:
    return f'"{_escaped(text)}"'


def _mermaid_text(text: str) -> str:
    """With what mermaid would read as its own as entities."""
    return "".join(f"#{ord(c)};" if c in '"#<>[]{}|`&\\' else c for c in text)
