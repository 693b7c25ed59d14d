# SPDX-License-Identifier: GPL-2.0-only
"""rmapreplay report: results as one page."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from rmapreplay.cli.options import CostModelOption


class ReportFormat(StrEnum):
    """What --format takes."""

    html = "html"
    md = "md"


def report(
    results: Annotated[
        Path,
        typer.Argument(
            metavar="RESULTS", help="Directory that `batch` wrote, or `run` with --out."
        ),
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="FILE", help="File to write; md goes to standard output."
        ),
    ] = None,
    output: Annotated[
        ReportFormat | None,
        typer.Option("--format", help="What to write; default: by the name of FILE, else html."),
    ] = None,
    reference: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Model to set the others against; default: the first."),
    ] = None,
    cost_model: CostModelOption = None,
    explain: Annotated[
        int,
        typer.Option(
            min=0,
            metavar="N",
            help="Tell so many of the worst walks step by step, where their traces can be read.",
        ),
    ] = 6,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE.")] = False,
) -> None:
    """Write results as a page: which design walks, wastes and takes more, and where.

    HTML is one file that needs nothing else and no network; md is short, for a mail or a merge
    request (docs/report.md).
    """
    import rmapreplay as rr
    from rmapreplay.traces.errors import RmapReplayError
    from rmapreplay.traces.files import write_whole

    if output is None:
        markdown = out is not None and out.suffix in (".md", ".markdown")
        output = ReportFormat.md if markdown else ReportFormat.html
    if out is None and output is ReportFormat.html:
        raise RmapReplayError("a report as HTML is a file: say which, -o report.html")
    if out is not None and out.exists() and not force:
        raise RmapReplayError(f"{out}: exists (--force replaces it)")
    made = rr.report(results, reference=reference, cost_model=cost_model)
    text = made.markdown() if output is ReportFormat.md else made.html(explained=explain)
    if out is None:
        typer.echo(text, nl=False)
    else:
        write_whole(out, text, force=force)
