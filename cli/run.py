# SPDX-License-Identifier: GPL-2.0-only
"""rmapreplay run: replay a trace under models and print what it cost."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from rmapreplay.cli import completion
from rmapreplay.cli.errors import print_error
from rmapreplay.cli.options import CostModelOption, TraceArgument
from rmapreplay.cli.tables import Cell, Format, number, print_table
from rmapreplay.replay import BACKENDS, DEFAULT_BACKEND, DEFAULT_BATCH_SIZE, DEFAULT_WALKS
from rmapreplay.replay.figures import FORK, forks, own_objects

Summary = dict[str, Any]

_SHOWN_MISSES = 5


class RunCommand(TyperCommand):
    """`run`; its --verify may stand alone, which typer has no word for."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _complete_verify(args))


def _complete_verify(args: Sequence[str]) -> list[str]:
    """--verify that no value follows becomes --verify=sampled."""
    return [
        "--verify=sampled"
        if arg == "--verify" and not re.fullmatch(r"sampled|all|\d+", value)
        else arg
        for arg, value in pairwise([*args, ""])
    ]


def run(
    trace: TraceArgument,
    model: Annotated[
        list[str],
        typer.Option(
            "--model",
            "-m",
            autocompletion=completion.models,
            metavar="MODEL[:KEY=VALUE,...]",
            help="Model to replay under; repeatable. A name (`rmapreplay models` lists them), "
            "file.py:Class, package.module:Class or file.so.",
        ),
    ],
    walks: Annotated[
        str,
        typer.Option(
            autocompletion=completion.walk_policies,
            metavar="SPEC",
            help="When walks happen beside those recorded: scan:K (of every folio, at K points), "
            "every:N events, sample:N@seed, reclaim:N, end or none; "
            "then ,kind=referenced|unmap|migrate|all.",
        ),
    ] = DEFAULT_WALKS,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Directory for the tables, as Parquet, and summary.json."),
    ] = None,
    output: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.table,
    strict: Annotated[bool, typer.Option("--strict", help="Exit with 1 on anomalies.")] = False,
    visits: Annotated[
        bool, typer.Option("--visits", help="Also write every VMA visited (needs --out).")
    ] = False,
    verify: Annotated[
        str | None,
        typer.Option(
            "--verify",
            metavar="[sampled|all|N]",
            help="Recount every invariant at the end and at 64 points (sampled; or --verify "
            "alone), after each event, or after each N.",
        ),
    ] = None,
    backend: Annotated[
        str,
        typer.Option(
            metavar="|".join(BACKENDS),
            help="What answers the walks: the model, or its form as relations over a timeline.",
        ),
    ] = DEFAULT_BACKEND,
    cost_model: CostModelOption = None,
    force: Annotated[bool, typer.Option("--force", help="Replace results in DIR.")] = False,
    batch_size: Annotated[
        int, typer.Option(min=1, metavar="ROWS", help="Rows to read at a time.")
    ] = DEFAULT_BATCH_SIZE,
    threads: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Models to replay at a time; default: all."),
    ] = None,
) -> None:
    """Replay TRACE under models and print what walks and operations cost.

    A model that fails, or breaks an invariant under --verify, takes no other with it: what those
    found is printed and written, then a line on standard error says what failed.

    Exit code: 2 if a model failed; else 1 if one missed a mapping, if an expectation of a scenario
    does not hold, under --verify if an invariant is broken, or under --strict if the trace met
    anomalies.
    """
    from rmapreplay.analysis.estimates import estimate, read_cost_model
    from rmapreplay.replay import engine
    from rmapreplay.replay.output import DirectorySink
    from rmapreplay.replay.specs import ModelSpec
    from rmapreplay.traces.errors import RmapReplayError
    from rmapreplay.traces.reader import read_trace

    if visits and out is None:
        raise RmapReplayError("--visits needs --out")
    specs = [ModelSpec.parse(text) for text in model]
    engine.check_walks(walks)
    weights = read_cost_model(cost_model) if cost_model else None
    opened = read_trace(trace)

    def replay(sink: engine.Sink | None) -> Summary:
        with show_progress(opened.rows) as progress:
            summary = engine.backend(backend)(
                opened,
                specs,
                walks=walks,
                visits=visits,
                verify=False if verify is None else verify,
                batch_size=batch_size,
                threads=threads,
                sink=sink,
                progress=progress,
            )
        return estimate(summary, weights) if weights else summary

    def stop_if_all_failed(summary: Summary) -> None:
        if not summary["models"]:
            raise typer.Exit(_print_failures(summary))

    if out is None:
        summary = replay(None)
        stop_if_all_failed(summary)
    else:
        with DirectorySink(out, model, visits=visits, force=force) as sink:
            summary = replay(sink)
            stop_if_all_failed(summary)
            sink.write_summary(summary)
    if output is Format.json:
        typer.echo(json.dumps(summary, indent=2))
    else:
        _print_summary(summary)
    missed = any(found["misses"] for found in summary["models"].values())
    wrong = _print_wrong_expectations(summary)
    found = 1 if missed or wrong or (strict and summary["anomalies"]) else 0
    if code := max(found, _print_failures(summary)):
        raise typer.Exit(code)


def _print_failures(summary: Summary) -> int:
    """A line for each model that failed. Returns the exit code that this asks for."""
    from rmapreplay.replay.engine import errors_of
    from rmapreplay.traces.errors import InvariantError

    code = 0
    for error in errors_of(summary).values():
        print_error(error)
        code = max(code, 1 if isinstance(error, InvariantError) else 2)
    return code


def _print_wrong_expectations(summary: Summary) -> bool:
    """A line for each that does not hold, as compilers tell of errors. Returns whether any."""
    wrong = summary.get("expectations", {}).get("failed", [])
    for line in wrong:
        print(line, file=sys.stderr)
    return bool(wrong)


@contextmanager
def show_progress(rows: int) -> Iterator[Callable[[int], None] | None]:
    """A bar on standard error, if that is a terminal."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("events", total=rows)
        yield lambda done: bar.update(task, completed=done)


def _print_summary(summary: Summary) -> None:
    models: dict[str, Summary] = summary["models"]
    metadata = summary["trace"]["metadata"]
    kernel = metadata.get("kernel") or "unknown"
    print(
        f"{summary['trace']['path']}: {number(summary['events'])} events, kernel {kernel}, "
        f"walks {summary['walk_policy']}\n"
    )
    _print_comparison(models)
    if weights := summary.get("cost_model"):
        print(f"\nestimated: counts times the weights of cost model {weights['name']}")
    for label, found in models.items():
        print(f"\n{label} (rules of Linux {found['kernel']})\n")
        _print_model(found)
    _print_anomalies(models)
    _print_misses(models)
    if told := summary.get("expectations"):
        held = told["checked"] - len(told["failed"])
        print(f"\n{held} of {told['checked']} expectations hold")


# What all models count in the same words (docs/metrics.md).
_PER_WALK = ("visits", "useless", "steps", "lookups", "locks", "refcounts")


def _print_comparison(models: dict[str, Summary]) -> None:
    found = list(models.values())
    rows: list[list[Cell]] = [
        [what, *(each[what] for each in found)]
        for what in ("walks", "visits", "hits", "useless", "misses")
    ]
    for metric in ("p95", "max"):
        rows.append(
            [f"visits per walk, {metric}", *(each["walk"]["visits"][metric] for each in found)]
        )
    for metric in _PER_WALK:
        rows.append([f"{metric} per walk", *(each["walk"][metric]["mean"] for each in found)])
    rows.append(
        ["bytes at peak, without VMAs", *(own_objects(each)["bytes_peak"] for each in found)]
    )
    of_forks = [forks(each) for each in found]
    if all(fork["calls"] for fork in of_forks):
        for what in ("objects", "links", "locks", "refcounts"):
            per_fork = [float(fork[what] / fork["calls"]) for fork in of_forks]
            rows.append([f"{what} per fork", *per_fork])
    if any("estimated_ns" in each for each in found):
        rows += _estimated(found, of_forks)
    if any(each["verified"] for each in found):
        rows.append(["times verified", *(each["verified"] for each in found)])
    rows.append(["events per second", *(each["events_per_second"] for each in found)])
    print_table(["", *models], rows)


def _estimated(found: list[Summary], of_forks: list[dict[str, int]]) -> list[list[Cell]]:
    estimates = [each["estimated_ns"] for each in found]
    rows: list[list[Cell]] = [["estimated ns per walk", *(each["per_walk"] for each in estimates)]]
    if all(fork["calls"] for fork in of_forks):
        per_fork = [
            sum(each["operations"].get(op, 0.0) for op in FORK) / fork["calls"]
            for each, fork in zip(estimates, of_forks, strict=True)
        ]
        rows.append(["estimated ns per fork", *per_fork])
    return rows


def _print_model(found: Summary) -> None:
    print_table(
        ["per walk", "mean", "p50", "p95", "p99", "max"],
        [[metric, *values.values()] for metric, values in found["walk"].items()],
    )
    print()
    print_table(
        ["objects", "allocated", "freed", "live", "peak", "bytes at peak"],
        [
            [kind, *(n[what] for what in ("allocated", "freed", "live", "peak", "bytes_peak"))]
            for kind, n in found["objects"].items()
        ],
    )
    print()
    _print_operations(found)


def _print_operations(found: Summary) -> None:
    """What each operation did to the structures: objects, then the model's counters. Operations
    and counters that stayed at nothing are left out; the summary as JSON has them."""
    costly = {
        op: costs
        for op, costs in found["operations"].items()
        if any(
            (*costs["allocated"].values(), *costs["freed"].values(), *costs["counters"].values())
        )
    }
    kinds = list(found["objects"])
    print_table(
        ["operations", "calls", *kinds],
        [
            [
                op,
                costs["calls"],
                *(_flow(costs["allocated"][kind], costs["freed"][kind]) for kind in kinds),
            ]
            for op, costs in costly.items()
        ],
    )
    counters = [
        name
        for name in next(iter(costly.values()), {"counters": {}})["counters"]
        if any(costs["counters"][name] for costs in costly.values())
    ]
    if not counters:
        return
    print()
    print_table(
        ["operations", *counters],
        [
            [op, *(costs["counters"][name] or None for name in counters)]
            for op, costs in costly.items()
            if any(costs["counters"].values())
        ],
    )


def _flow(allocated: int, freed: int) -> str:
    """Objects allocated and freed: "+12 -3"."""
    parts = [f"+{number(allocated)}"] if allocated else []
    return " ".join(parts + ([f"-{number(freed)}"] if freed else []))


def _print_anomalies(models: dict[str, Summary]) -> None:
    kinds = sorted({kind for found in models.values() for kind in found["anomalies"]})
    if not kinds:
        return
    print()
    rows: list[list[Cell]] = []
    for kind in kinds:
        each = [found["anomalies"].get(kind) for found in models.values()]
        first = min(found["first_row"] for found in each if found)
        rows.append([kind, *(found["count"] if found else 0 for found in each), first])
    print_table(["anomalies", *models, "first at row"], rows)


def _print_misses(models: dict[str, Summary]) -> None:
    for label, found in models.items():
        if not found["misses"]:
            continue
        print(f"\n{label} missed {number(found['misses'])} mappings, the first of them:\n")
        print_table(
            ["walk", "row", "pid", "address"],
            [
                [str(miss["walk"]), str(miss["row"]), str(miss["pid"]), f"{miss['address']:#x}"]
                for miss in found["first_misses"][:_SHOWN_MISSES]
            ],
            left=0,
        )
