# SPDX-License-Identifier: GPL-2.0-only
"""rmapreplay export: a replay for other programs to show."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rmapreplay.cli import completion
from rmapreplay.cli.options import CostModelOption, TraceArgument, WalksOption
from rmapreplay.cli.run import show_progress
from rmapreplay.replay import DEFAULT_WALKS


def export(
    trace: TraceArgument,
    model: Annotated[
        list[str],
        typer.Option(
            "--model",
            "-m",
            autocompletion=completion.models,
            metavar="MODEL[:KEY=VALUE,...]",
            help="Model to replay under; repeatable.",
        ),
    ],
    perfetto: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json[.gz]",
            help="Write processes, operations and counters over time, for ui.perfetto.dev.",
        ),
    ] = None,
    folded: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.txt",
            help="Write stacks of model, process and operation, for flame graphs.",
        ),
    ] = None,
    weight: Annotated[
        str,
        typer.Option(
            metavar="visits|steps|lookups|locks|refcounts|links|objects|ns",
            help="What the width of a flame graph's frames means; ns needs --cost-model.",
        ),
    ] = "visits",
    cost_model: CostModelOption = None,
    walks: WalksOption = DEFAULT_WALKS,
    force: Annotated[bool, typer.Option("--force", help="Replace files.")] = False,
) -> None:
    """Write what a replay cost for other programs: Perfetto, flame graphs.

    docs/export.md tells what is in the files.
    """
    from rmapreplay.analysis.estimates import read_cost_model
    from rmapreplay.analysis.export.folded import export_folded
    from rmapreplay.analysis.export.perfetto import export_perfetto
    from rmapreplay.replay.engine import errors_of
    from rmapreplay.traces.errors import RmapReplayError
    from rmapreplay.traces.reader import read_trace

    if perfetto is None and folded is None:
        raise RmapReplayError("say what to write: --perfetto FILE, --folded FILE, or both")
    weights = read_cost_model(cost_model) if cost_model else None
    opened = read_trace(trace)
    with show_progress(opened.rows) as progress:
        summaries = []
        if perfetto is not None:
            summaries.append(
                export_perfetto(
                    opened, model, perfetto, walks=walks, force=force, progress=progress
                )
            )
        if folded is not None:
            summaries.append(
                export_folded(
                    opened,
                    model,
                    folded,
                    weight=weight,
                    cost_model=weights,
                    walks=walks,
                    force=force,
                    progress=progress,
                )
            )
    for error in errors_of(summaries[0]).values():
        raise error
