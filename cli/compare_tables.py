# SPDX-License-Identifier: GPL-2.0-only
"""What `rmapreplay compare` prints."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rmapreplay.analysis.compare.vocabulary import COSTS
from rmapreplay.cli.tables import Cell, number, print_table

if TYPE_CHECKING:
    from rmapreplay.analysis.compare.comparison import Comparison
    from rmapreplay.analysis.compare.divergence import Divergence
    from rmapreplay.analysis.compare.shrink import Shrunk

Part = dict[str, Any]
"""A trace of Comparison.to_dict(), or its total."""

_GROUP_ROWS = 10
_REASONS = {
    "hits": "found it",
    "useless_empty": "nothing there",
    "useless_other": "another folio there",
}


def print_comparison(found: Comparison) -> None:
    """Each trace, then all of them if there are several, then the worst walks."""
    told = found.to_dict()
    for trace in told["traces"]:
        summary = found.summaries[trace["trace"]]
        kernel = summary["trace"]["metadata"].get("kernel") or "unknown"
        models = list(summary["models"])
        print(
            f"{trace['path']}: {number(trace['rows'])} events, kernel {kernel}, "
            f"walks {told['walk_policy']}\n"
        )
        _print_part(trace, models, told["metric"])
        print()
    whole = [trace for trace in told["traces"] if trace["whole"]]
    worst = told["total"]["worst"]
    if len(told["traces"]) > 1:
        if whole:
            print(f"total of {len(whole)} traces{_of_how_many(told, whole)}\n")
            _print_part(told["total"], told["models"], told["metric"])
            print()
            _print_ratios(whole, told["models"])
            print()
    elif not whole:
        worst = told["traces"][0]["worst"]
    _print_worst(worst, told["metric"], several=len(told["traces"]) > 1)


def _of_how_many(told: Part, whole: Sequence[Part]) -> str:
    left_out = len(told["traces"]) - len(whole)
    return f" ({left_out} more, which not every model finished, left out)" if left_out else ""


def _print_part(part: Part, models: Sequence[str], metric: str) -> None:
    _print_metrics(part["metrics"], models)
    if len(models) < 2:
        return
    print()
    _print_alignment(part["alignment"], models[0], metric)
    if part["groups"]:
        print()
        _print_groups(part["groups"], models, metric)


def _print_metrics(metrics: Sequence[Part], models: Sequence[str]) -> None:
    """Beside each model but the first, the ratios to it: of means, sums and peaks."""
    figures = {(m["model"], m["name"], m["group"], m["stat"]): m for m in metrics}

    def row(title: str, name: str, group: str, stat: str, show: Any) -> list[Cell]:
        cells: list[Cell] = [title]
        for place, model in enumerate(models):
            cells.append(show(model))
            if place:
                cells.append(figures[model, name, group, stat]["ratio"])
        return cells

    def distribution(name: str) -> list[Cell]:
        def show(model: str) -> Cell:
            mean, p95, top = (
                figures[model, name, "walk", stat]["value"] for stat in ("mean", "p95", "max")
            )
            return f"{number(mean)} / {number(int(p95))} / {number(int(top))}"

        return row(name, name, "walk", "mean", show)

    def count(title: str, name: str, group: str, stat: str) -> list[Cell]:
        return row(
            title, name, group, stat, lambda model: int(figures[model, name, group, stat]["value"])
        )

    rows = [
        count("walks", "walks", "walks", "sum"),
        *(distribution(name) for name in COSTS),
        count("mappings missed", "misses", "walks", "sum"),
        count("objects allocated", "objects", "object", "allocated"),
        count("bytes at peak", "bytes", "object", "peak"),
    ]
    for name in ("objects", "links", "locks", "refcounts"):
        if (models[0], name, "fork", "mean") in figures:
            rows.append(
                row(
                    *(f"{name} per fork", name, "fork", "mean"),
                    lambda model, name=name: figures[model, name, "fork", "mean"]["value"],
                )
            )
    for name in ("walk", "fork"):
        if (models[0], name, "estimate", "mean") in figures:
            rows.append(
                row(
                    *(f"estimated ns per {name}", name, "estimate", "mean"),
                    lambda model, name=name: figures[model, name, "estimate", "mean"]["value"],
                )
            )
    header = ["per walk: mean / p95 / max", models[0]]
    for model in models[1:]:
        header += [model, "ratio"]
    print_table(header, rows)


def _print_alignment(alignment: Sequence[Part], reference: str, metric: str) -> None:
    columns = {
        "walks": "walks",
        "more_walks": "more in",
        "more": "by",
        "fewer_walks": "less in",
        "fewer": "by",
        "net": "net",
        "missed_walks": "missed in",
    }
    if any(row["alone"] or row["lacking"] for row in alignment):
        columns |= {"alone": "walks of its own", "lacking": f"only of {reference}"}
    print_table(
        [f"{metric} against {reference}", *columns.values()],
        [[row["model"], *(row[name] for name in columns)] for row in alignment],
    )


def _print_groups(groups: Sequence[Part], models: Sequence[str], metric: str) -> None:
    """A line for each group: what the first model has in sum, and how much more, and less, the
    others."""
    lines: dict[tuple[str, str], list[Part]] = {}
    for group in groups:
        lines.setdefault((group["by"], group["value"]), []).append(group)
    rows: list[list[Cell]] = []
    for by in dict.fromkeys(group["by"] for group in groups):
        of = {value: each for (key, value), each in lines.items() if key == by}
        shown = list(of)
        if len(of) > _GROUP_ROWS:
            most = sorted(of, key=lambda value: -max(g["more"] + g["fewer"] for g in of[value]))
            shown = [value for value in of if value in most[:_GROUP_ROWS]]
        for value in shown:
            each = {group["model"]: group for group in of[value]}
            first = of[value][0]
            rows.append(
                [
                    f"{by}: {_REASONS.get(value, value) if by == 'reason' else value}",
                    first["walks"],
                    first["reference_sum"],
                    *(_difference(each.get(model)) for model in models[1:]),
                ]
            )
        if len(shown) < len(of):
            rows.append([f"{by}: {len(of) - len(shown)} others, see --format json"])
            rows[-1] += [None] * (len(models) + 1)
    print_table([f"{metric} by", "walks", models[0], *models[1:]], rows)


def _difference(group: Part | None) -> str:
    if group is None:
        return ""
    parts = [
        f"{sign}{number(group[what])} in {number(group[f'{what}_walks'])}"
        for sign, what in (("+", "more"), ("-", "fewer"))
        if group[what]
    ]
    return ", ".join(parts) or "same"


def _print_ratios(traces: Sequence[Part], models: Sequence[str]) -> None:
    """A line for each trace: how the others compare with the first model."""
    wanted = [
        ("visits", "walk", "mean", "visits"),
        ("useless", "walk", "mean", "useless"),
        ("bytes", "object", "peak", "bytes"),
        ("objects", "fork", "mean", "objects/fork"),
    ]
    rows: list[list[Cell]] = []
    for trace in traces:
        ratios = {
            (m["model"], m["name"], m["group"], m["stat"]): m["ratio"] for m in trace["metrics"]
        }
        rows.append(
            [
                trace["trace"],
                *(
                    ratios.get((model, name, group, stat))
                    for model in models[1:]
                    for name, group, stat, _ in wanted
                ),
            ]
        )
    header = [f"{model} {title}" for model in models[1:] for *_, title in wanted]
    print_table([f"ratio to {models[0]}", *header], rows)


def _print_worst(worst: Sequence[Part], metric: str, *, several: bool) -> None:
    """For each model, the walks that cost it most above the best other, and what to type."""
    for model in dict.fromkeys(walk["model"] for walk in worst):
        walks = [walk for walk in worst if walk["model"] == model]
        header = ["row", "process", "mapping", "sharers", metric, "best other", "more", "alike"]
        rows: list[list[Cell]] = [
            [
                str(walk["seq"]),
                _process(walk["comm"], walk["pid"]),
                walk["mapping"],
                walk["sharers"],
                walk["cost"],
                f"{walk['best']} {number(walk['best_cost'])}",
                walk["excess"],
                walk["alike"],
            ]
            for walk in walks
        ]
        print(f"worst walks of {model}\n")
        if several:
            for row, walk in zip(rows, walks, strict=True):
                row.insert(0, walk["trace"])
            header.insert(0, "trace")
        print_table(header, rows, left=4 if several else 3)
        print()
        for walk in walks:
            print(walk["explain"])
        print()


def _process(comm: str | None, pid: int) -> str:
    return f"{comm}[{pid}]" if comm else str(pid)


# ---- the first divergence ----


def print_divergence(
    trace: str, models: Sequence[str], metric: str, found: Divergence | None
) -> None:
    """The walk, what both models did in it, and the rows before it."""
    what = {"found": "mappings found"}.get(metric, metric)
    if found is None:
        others = ", ".join(models[1:])
        print(f"{trace}: no walk in which {others} differs from {models[0]} in {what}")
        return
    print(
        f"{trace}: {found.model} differs from {found.reference} in {what}, "
        f"after {number(found.same)} walks that do not"
        + (f" and {number(found.unaligned)} that only one makes" if found.unaligned else "")
    )
    _print_walk(found)
    print(f"\n{found.explain}")


def print_shrunk(shrunk: Shrunk, path: Path) -> None:
    """The trace that was cut out, row by row."""
    print(f"\ncut from {number(shrunk.rows_before)} rows to {shrunk.trace.rows}: {path}")
    _print_walk(shrunk.divergence)
    print(f"\n{shrunk.explain_in(path)}")


def _print_walk(found: Divergence) -> None:
    from rmapreplay.testing.rows import line

    depth = f"{found.fork_depth} forks down" if found.fork_depth else "not forked"
    print(
        f"\n{found.kind} walk after row {number(found.seq)} of page {found.address:#x} "
        f"({found.mapping}) of {_process(found.comm, found.pid)}, mm {found.mm}, {depth}; "
        f"order {found.order}, mapcount {found.mapcount}\n"
    )
    models = list(found.numbers)
    names = list(found.numbers[models[0]])
    print_table(
        ["", *models], [[name, *(found.numbers[model][name] for model in models)] for name in names]
    )
    print()
    for row, event in found.rows.items():
        print(f"{row:>8} {line(event)}")
