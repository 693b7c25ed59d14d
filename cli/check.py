# SPDX-License-Identifier: GPL-2.0-only
"""rmapreplay check: a replay against what the kernel did in the captured run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from rmapreplay.cli import completion
from rmapreplay.cli.tables import Cell, Format, number, print_table

Item = Mapping[str, Any]
Pair = tuple[Item | None, Item | None]

_HEX: Final = ("addr", "len", "new_addr", "new_len", "offset", "flags", "vm_flags")


def check(
    trace: Annotated[
        Path,
        typer.Argument(
            autocompletion=completion.traces, metavar="TRACE", help="Trace with an answer key."
        ),
    ],
    truth: Annotated[
        Path | None,
        typer.Option(metavar="SIDECAR", help="The answer key; default: the one beside TRACE."),
    ] = None,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            autocompletion=completion.models,
            metavar="SPEC",
            help="NAME or NAME:key=value,...",
        ),
    ] = "anon_vma",
    output: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.table,
) -> None:
    """Compare a replay with what the kernel did: walks, objects, links, VMAs.

    Exit code: 1 if anything differs, and then the first difference in order of the trace is named.
    """
    from rmapreplay.replay.check import check as run_check

    found = run_check(trace, truth, model)
    if output is Format.json:
        typer.echo(json.dumps(found.summary, indent=2))
    else:
        _print_summary(found.summary)
    if not found.exact:
        raise typer.Exit(1)


def _print_summary(summary: Mapping[str, Any]) -> None:
    print(
        f"{summary['trace']}: {number(summary['events'])} events under {summary['model']} "
        f"(rules of Linux {summary['kernel']})\n"
    )
    walks = summary["walks"]
    shown = ("recorded", "exact", "tie", "prefix", "wrong")
    print_table(["walks", *shown], [["", *(walks[name] for name in shown)]])
    if summary["objects"]:
        print()
        print_table(["objects", "", "kernel", "model"], _object_rows(summary["objects"]), left=2)
    compared = _compared_rows(summary)
    if compared:
        print()
        print_table(["", "compared", "equal"], compared)
    if summary["anomalies"]:
        print()
        print_table(["anomalies", ""], list(summary["anomalies"].items()))
    print()
    if summary["first_disagreement"] is None:
        print("exact")
    else:
        _print_disagreement(summary["first_disagreement"])


def _object_rows(objects: Mapping[str, Any]) -> list[list[Cell]]:
    rows: list[list[Cell]] = []
    for kind, counts in objects.items():
        rows.append([kind, "allocated", counts["expected"], counts["got"]])
        for what in ("freed", "peak", "inserts", "removes"):
            if what not in counts:
                continue
            pair = counts[what]
            off = pair["expected"] != pair["got"] and pair.get("in_flight")
            label = f"{what} ({pair['in_flight']} in flight)" if off else what
            rows.append(["", label, pair["expected"], pair["got"]])
        for site, pair in counts.get("sites", {}).items():
            rows.append(["", f"by {site}()", pair["expected"], pair["got"]])
    return rows


def _compared_rows(summary: Mapping[str, Any]) -> list[list[Cell]]:
    live = [moment["live"] for moment in summary["moments"] if "live" in moment]
    alike = [all(pair["expected"] == pair["got"] for pair in at.values()) for at in live]
    links, vmas = summary["links"], summary["vmas"]
    rows: list[list[Cell]] = [
        ["moments: live objects", len(live), sum(alike)],
        ["moments: anon_vma_chains", links["moments"], links["equal"]],
        ["snapshots of VMA lists", vmas["snapshots"], vmas["equal"]],
        ["VMAs reported", vmas.get("reports", 0), vmas.get("reports_equal", 0)],
    ]
    return [row for row in rows if row[1]]


def _print_disagreement(first: Mapping[str, Any]) -> None:
    where = "" if first["row"] is None else f" shows at row {first['row']}"
    print(f"first disagreement{where}: {first['text']} ({first['category']})")
    if first["event"]:
        print(f"\nled to by\n{_row(first['event'])}")
    print()
    _print_sides("kernel", "model", zip_longest(first["expected"], first["got"]))
    if vmas := first["vmas"]:
        print(f"\nVMAs of pid {first['pid']} around {first['address']:#x}")
        if vmas["expected"] is None:
            print("  model")
            for vma in vmas["got"]:
                print(f"  {_item(vma)}")
        else:
            kernel = "kernel" if first["what"] == "snapshot" else "kernel, the faulted ones"
            _print_sides(kernel, "model", _by_start(vmas["expected"], vmas["got"]))
    if first["operations"]:
        print(f"\nlast operations of pid {first['pid']}")
        for row in first["operations"]:
            print(_row(row))


def _by_start(ours: Sequence[Item], theirs: Sequence[Item]) -> Iterable[Pair]:
    """Two lists of VMAs, those of equal start beside each other."""
    sides = [{vma["start"]: vma for vma in side} for side in (ours, theirs)]
    for start in sorted({*sides[0], *sides[1]}):
        yield sides[0].get(start), sides[1].get(start)


def _print_sides(left: str, right: str, pairs: Iterable[Pair]) -> None:
    """Two lists beside each other. Marked as `diff -y` does: pairs that differ in what both say."""
    lines = []
    for one, other in pairs:
        if one is None or other is None:
            mark = ">" if one is None else "<"
        else:
            mark = "|" if any(one[name] != other[name] for name in {*one} & {*other}) else " "
        lines.append((_item(one or {}), mark, _item(other or {})))
    width = max([len(left), *(len(text) for text, _, _ in lines)])
    print(f"  {left:<{width}}     {right}")
    for text, mark, other_text in lines:
        print(f"  {text:<{width}}  {mark}  {other_text}".rstrip())


def _item(item: Item) -> str:
    """A VMA as /proc/PID/maps has it, then what else is said of it."""
    words = []
    if "start" in item:
        words.append(f"{item['start']:012x}-{item['end']:012x}")
    for name, value in item.items():
        if name in ("start", "end"):
            continue
        if name == "pid":
            words.insert(0, f"pid {value}")
        elif name == "perms":
            words.append(value)
        elif name == "faulted":
            words.append(name if value else "unfaulted")
        else:
            words.append(f"{name} {value:#x}" if name in ("index", "offset") else f"{name} {value}")
    return " ".join(words)


def _row(row: Item) -> str:
    """A row of the trace on one line."""
    task = f"{row['pid']}" if row["pid"] == row["tid"] else f"{row['pid']}/{row['tid']}"
    words = [f"{row['row']:>9}  {row['op']:<9} {task:>9} "]
    for name, value in row.items():
        if name in ("row", "time", "op", "pid", "tid"):
            continue
        if name == "prot":
            value = "".join(c if value & bit else "-" for c, bit in (("r", 1), ("w", 2), ("x", 4)))
        elif name in _HEX:
            value = f"{value:#x}"
        elif isinstance(value, bool):
            value = int(value)
        words.append(f"{name}={value}")
    return " ".join(words)
