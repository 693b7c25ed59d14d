# SPDX-License-Identifier: GPL-2.0-only
"""rmapreplay compare: models side by side, walk by walk."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from rmapreplay.analysis.compare.vocabulary import COSTS, DEFAULT_BY, DEFAULT_METRIC, FOUND, GROUPS
from rmapreplay.cli import completion
from rmapreplay.cli.compare_tables import print_comparison, print_divergence, print_shrunk
from rmapreplay.cli.errors import print_error
from rmapreplay.cli.options import CostModelOption, WalksOption
from rmapreplay.cli.run import show_progress
from rmapreplay.cli.tables import Format
from rmapreplay.replay import DEFAULT_WALKS
from rmapreplay.traces.errors import RmapReplayError

if TYPE_CHECKING:
    from rmapreplay.replay.engine import Progress


class CompareCommand(TyperCommand):
    """`compare`; its --first-divergence may stand alone, which typer has no word for."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        return super().parse_args(ctx, _complete(args))


def _complete(args: Sequence[str]) -> list[str]:
    """--first-divergence that no metric follows becomes --first-divergence=found."""
    return [
        f"{arg}={FOUND}" if arg == "--first-divergence" and value not in (FOUND, *COSTS) else arg
        for arg, value in pairwise([*args, ""])
    ]


def compare(
    traces: Annotated[
        list[str],
        typer.Argument(
            autocompletion=completion.traces,
            metavar="TRACE...",
            help="Traces; or directories, globs or lists of them, as for `batch`.",
        ),
    ],
    models: Annotated[
        list[str],
        typer.Option(
            "--models",
            "--model",
            "-m",
            autocompletion=completion.models,
            metavar="MODEL,...",
            help="Models, as --model of `run` takes them, with commas between them; repeatable. "
            "The others are held against the first.",
        ),
    ],
    walks: WalksOption = DEFAULT_WALKS,
    metric: Annotated[
        str, typer.Option(metavar="|".join(COSTS), help="What is compared walk by walk.")
    ] = DEFAULT_METRIC,
    by: Annotated[
        str,
        typer.Option(
            metavar="GROUP,...",
            help=f"What walks are grouped by: {', '.join(GROUPS)}.",
        ),
    ] = ",".join(DEFAULT_BY),
    first_divergence: Annotated[
        str | None,
        typer.Option(
            "--first-divergence",
            metavar="[METRIC]",
            help="Only find the first walk in which a model differs from the first one: in the "
            f"mappings found ({FOUND}, the default) or in one of the metrics.",
        ),
    ] = None,
    shrink: Annotated[
        bool,
        typer.Option("--shrink", help="Cut the trace to the rows that show it; needs --out."),
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="DIR", help="Where --shrink writes it.")
    ] = None,
    seconds: Annotated[
        float, typer.Option(min=0.0, metavar="N", help="How long --shrink may take.")
    ] = 60.0,
    force: Annotated[bool, typer.Option("--force", help="Replace what is in DIR.")] = False,
    cost_model: CostModelOption = None,
    output: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.table,
    threads: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Models to replay at a time; default: all."),
    ] = None,
) -> None:
    """Set models side by side: where one does more, by how much, in which walks.

    Every TRACE is replayed under all of them. Told are what walks, forks and memory cost; in how
    many walks one does more than the first, by how much, where; and its worst walks, with what to
    type to have them explained.

    A trace that cannot be replayed, or a model that fails, takes no others with it: a line on
    standard error says what failed.

    Exit code: 2 if anything failed; else 1 if a model missed a mapping, or with --first-divergence
    if there is one.
    """
    from rmapreplay.replay.specs import split_specs

    specs = [spec for text in models for spec in split_specs(text)]
    places = _places(traces)
    if shrink != (out is not None):
        raise RmapReplayError("--shrink and --out go together")
    if shrink and first_divergence is None:
        raise RmapReplayError("--shrink needs --first-divergence")
    if shrink and len(places) > 1:
        raise RmapReplayError("--shrink takes one trace")
    with _Bars() as bars:
        if first_divergence is not None:
            code = _diverge(
                *(places, specs, first_divergence, walks, threads, output, bars),
                out=out,
                seconds=seconds,
                force=force,
            )
        else:
            code = _compare(places, specs, walks, metric, by, cost_model, threads, output, bars)
    if code:
        raise typer.Exit(code)


def _places(given: Sequence[str]) -> list[str]:
    """Paths and URLs of the traces. A trace that is not there is one too, which will fail."""
    from rmapreplay.batch.corpus import find_traces

    places: list[str] = []
    for each in given:
        if Path(each).is_dir() or any(char in each for char in "*?[") or each.endswith(".txt"):
            found = find_traces([each], apart_from=Path(os.devnull))
            places += [source.place for source in found]
        elif len(given) == 1 or not each.endswith(".truth.parquet"):
            places.append(each)
    return places


class _Bars:
    """A bar for each trace, one after another."""

    def __init__(self) -> None:
        self._stack = ExitStack()

    def __enter__(self) -> _Bars:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def next(self, _name: str, rows: int) -> Progress:
        self._stack.close()
        return self._stack.enter_context(show_progress(rows)) or (lambda _: None)

    def done(self) -> None:
        self._stack.close()


def _compare(
    traces: list[str],
    specs: list[str],
    walks: str,
    metric: str,
    by: str,
    cost_model: str | None,
    threads: int | None,
    output: Format,
    bars: _Bars,
) -> int:
    import rmapreplay as rr

    found = rr.compare(
        traces,
        specs,
        walks=walks,
        metric=metric,
        by=[each for each in by.split(",") if each],
        cost_model=rr.read_cost_model(cost_model) if cost_model else None,
        threads=threads,
        watch=bars.next,
    )
    bars.done()
    if output is Format.json:
        typer.echo(json.dumps(found.to_dict(), indent=2))
    elif found.traces.height:
        print_comparison(found)
    for failure in found.failures:
        where = f"{failure.trace}: " if failure.model else ""
        print_error(where + failure.message)
    return 2 if found.failures else 1 if found.misses else 0


def _diverge(
    traces: list[str],
    specs: list[str],
    metric: str,
    walks: str,
    threads: int | None,
    output: Format,
    bars: _Bars,
    *,
    out: Path | None,
    seconds: float,
    force: bool,
) -> int:
    import rmapreplay as rr
    from rmapreplay.replay.engine import check_walks

    check_walks(walks)
    results: list[dict[str, Any]] = []
    failed = False
    for trace in traces:
        result: dict[str, Any] = {"trace": trace, "divergence": None}
        try:
            found = rr.first_divergence(
                trace, specs, metric, walks=walks, threads=threads, watch=bars.next
            )
            bars.done()
            shrunk = None
            if found is not None:
                result["divergence"] = found.to_dict()
                if out is not None:
                    shrunk = rr.shrink_divergence(trace, specs, found, seconds)
                    written = shrunk.write(out, force=force)
                    result["shrunk"] = {"path": str(written), **shrunk.to_dict()}
        except RmapReplayError as error:
            bars.done()
            if len(traces) == 1:
                raise
            failed = True
            print_error(error)
            continue
        results.append(result)
        if output is Format.table:
            print_divergence(trace, specs, metric, found)
            if shrunk is not None:
                print_shrunk(shrunk, written)
    if output is Format.json:
        typer.echo(
            json.dumps({"metric": metric, "walk_policy": walks, "traces": results}, indent=2)
        )
    return 2 if failed else 1 if any(result["divergence"] for result in results) else 0
