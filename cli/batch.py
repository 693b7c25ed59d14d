# SPDX-License-Identifier: GPL-2.0-only
"""rmapreplay batch: every trace of a corpus under every model."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rmapreplay.cli import completion
from rmapreplay.cli.options import WalksOption
from rmapreplay.cli.tables import Cell, Format, number, print_table
from rmapreplay.replay import DEFAULT_WALKS

if TYPE_CHECKING:
    from rmapreplay.batch.dataset import BatchResult
    from rmapreplay.batch.run import Stage


def batch(
    corpus: Annotated[
        list[str],
        typer.Argument(
            autocompletion=completion.traces,
            metavar="CORPUS...",
            help="Directories, traces, globs, text files that list traces, or URLs of these.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="OUT", help="Directory for the results.")
    ],
    models: Annotated[
        list[str],
        typer.Option(
            "--models",
            "-m",
            autocompletion=completion.models,
            metavar="MODEL,...",
            help="Models to replay under, as --model of `run` takes them, with commas between "
            "them; repeatable.",
        ),
    ],
    walks: WalksOption = DEFAULT_WALKS,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs", "-j", min=1, metavar="N", help="Replays at a time; default: one per CPU."
        ),
    ] = None,
    cluster: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS",
            help="Replay on the workers of the dask scheduler at tcp://HOST:PORT, or local:N.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace results in OUT.")] = False,
    output: Annotated[
        Format, typer.Option("--format", help="How to print; json is the manifest.")
    ] = Format.table,
) -> None:
    """Replay a corpus under every model, and write one dataset to OUT.

    Each trace under each model is replayed in a process of its own; one that fails is told at the
    end, and the rest finish. Results that are in OUT already are not made again: after an
    interruption the same command goes on (docs/batch.md).

    Exit code: 1 if a replay failed or a model missed a mapping.
    """
    import rmapreplay as rr
    from rmapreplay.replay.specs import split_specs

    specs = [spec for text in models for spec in split_specs(text)]
    try:
        with _pipes_may_break(), _progress() as progress:
            found = rr.batch(
                corpus,
                specs,
                out=out,
                walks=walks,
                jobs=jobs,
                cluster=cluster,
                force=force,
                progress=progress,
            )
    except KeyboardInterrupt:
        print(
            f"rmapreplay: interrupted; {out} keeps what is finished, and the same command"
            f"{' without --force' if force else ''} goes on",
            file=sys.stderr,
        )
        raise typer.Exit(130) from None
    if output is Format.json:
        typer.echo(json.dumps(found.manifest, indent=2))
    else:
        _print(found)
    if found.failed or any(total["misses"] for total in found.manifest["totals"].values()):
        raise typer.Exit(1)


@contextmanager
def _pipes_may_break() -> Iterator[None]:
    """Replays and schedulers that go away are told as errors; main() has SIGPIPE end the program,
    for the sake of standard output alone."""
    before = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGPIPE, before)


@contextmanager
def _progress() -> Iterator[Callable[[Stage], None] | None]:
    """A bar on standard error, if that is a terminal. It goes by bytes of traces."""
    if not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    with Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[count]}"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        speed_estimate_period=3600,
    ) as bars:
        bar = bars.add_task("", count="")

        def show(stage: Stage) -> None:
            failed = f", {stage.failed} failed" if stage.failed else ""
            bars.update(
                bar,
                description=stage.name,
                count=f"{number(stage.done)}/{number(stage.total)}{failed}",
                completed=stage.bytes_done if stage.bytes_total else stage.done,
                total=stage.bytes_total or stage.total,
            )

        yield show


def _print(found: BatchResult) -> None:
    manifest = found.manifest
    print(
        f"{found.directory}: {_count(len(manifest['traces']), 'trace')}, "
        f"{_count(len(manifest['models']), 'model')}, walks {manifest['parameters']['walks']}: "
        f"{_count(found.done, 'replay')} done, {number(found.reused)} reused, "
        f"{number(len(found.failed))} failed\n"
    )
    totals: dict[str, dict[str, Any]] = manifest["totals"]
    rows: list[list[Cell]] = [
        [
            label,
            total["traces"],
            total["walks"],
            total["visits"],
            total["visits"] / total["walks"] if total["walks"] else None,
            None if total["useless_share"] is None else f"{100 * total['useless_share']:.2f} %",
            total["misses"],
            total["bytes_at_peak"],
        ]
        for label, total in totals.items()
    ]
    heads = ["traces", "walks", "visits", "per walk", "useless", "misses", "bytes at peak"]
    print_table(["model", *heads], rows)
    if found.failed:
        print("\nTotals are of the traces that every model finished. These failed:\n")
        print_table(
            ["trace", "model", "why"],
            [[failure.trace, failure.model, failure.message] for failure in found.failed],
            left=3,
        )


def _count(n: int, noun: str) -> str:
    return f"{number(n)} {noun}{'' if n == 1 else 's'}"
