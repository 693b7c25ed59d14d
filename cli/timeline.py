# SPDX-License-Identifier: GPL-2.0-only
"""rmapreplay timeline: a replay as tables of what held when."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from rmapreplay.cli import completion
from rmapreplay.cli.options import TraceArgument, WalksOption
from rmapreplay.cli.run import show_progress
from rmapreplay.cli.tables import print_table
from rmapreplay.replay import DEFAULT_WALKS


def timeline(
    trace: TraceArgument,
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            autocompletion=completion.models,
            metavar="NAME[:KEY=VALUE,...]",
            help="Model to replay under.",
        ),
    ],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="Directory for the tables.")
    ],
    walks: WalksOption = DEFAULT_WALKS,
    force: Annotated[bool, typer.Option("--force", help="Replace a timeline in DIR.")] = False,
) -> None:
    """Write what lived when in a replay to DIR, as Parquet.

    VMAs, address spaces, folios, mappings, links and remaps, each with the rows of the trace from
    and to which it holds, and the walks (docs/timeline.md).
    """
    from rmapreplay.replay import timeline as tables
    from rmapreplay.traces.reader import read_trace

    opened = read_trace(trace)
    with show_progress(opened.rows) as progress:
        made = tables.timeline(opened, model, walks=walks, out=out, force=force, progress=progress)
    print_table(
        ["table", "rows", "bytes"],
        [
            [name, rows, (made.directory / f"{name}.parquet").stat().st_size]
            for name, rows in made.metadata["tables"].items()
        ],
    )
