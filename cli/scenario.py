# SPDX-License-Identifier: GPL-2.0-only
"""rmapreplay scenario: the scenarios that come along, and scenarios in other forms."""

from __future__ import annotations

import json
import shutil
import textwrap
from pathlib import Path
from typing import Annotated

import typer

from rmapreplay.cli import completion
from rmapreplay.cli.tables import Format, number

scenario = typer.Typer(
    no_args_is_help=True,
    help="List the scenarios that come along, show one, write them in other forms.",
)

Named = Annotated[
    str,
    typer.Argument(
        autocompletion=completion.scenarios,
        metavar="SCENARIO",
        help="A .scn file, or a name that `list` shows.",
    ),
]


@scenario.command("list")
def list_(
    output: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.table,
) -> None:
    """List the scenarios that come along."""
    from rmapreplay.traces.scenarios import library, read_scenario

    found = [(name, path, read_scenario(path)) for name, path in library().items()]
    if output is Format.json:
        plain = [
            {
                "name": name,
                "path": str(path),
                "about": one.about,
                "rows": one.rows,
                "expectations": len(one.expectations),
            }
            for name, path, one in found
        ]
        typer.echo(json.dumps(plain, indent=2))
        return
    width = min(100, shutil.get_terminal_size().columns)
    for name, _, one in found:
        typer.echo(f"{name}: {number(one.rows)} rows, {number(len(one.expectations))} expectations")
        indent = " " * 4
        typer.echo(textwrap.fill(one.about, width, initial_indent=indent, subsequent_indent=indent))


@scenario.command("show")
def show(name: Named) -> None:
    """Print the text of a scenario."""
    from rmapreplay.traces.scenarios import find, read_scenario

    typer.echo(read_scenario(find(name)).text, nl=False)


@scenario.command("export")
def export(
    source: Annotated[
        str,
        typer.Argument(
            autocompletion=completion.scenarios,
            metavar="SCENARIO",
            help="A .scn file, a name that `list` shows; or any trace (--text).",
        ),
    ],
    as_c: Annotated[
        bool, typer.Option("--c", help="As a C program that makes the calls on a live kernel.")
    ] = False,
    as_text: Annotated[
        bool, typer.Option("--text", help="As a scenario whose loops are unrolled.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option("--out", "-o", metavar="FILE", help="Where to write it; else it is printed."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace FILE if it exists.")] = False,
) -> None:
    """Write a scenario as a C program, or any trace as a scenario."""
    from rmapreplay.traces.errors import RmapReplayError
    from rmapreplay.traces.files import write_whole
    from rmapreplay.traces.reader import read_trace
    from rmapreplay.traces.scenarios import find, read_scenario, to_c, to_text

    if as_c == as_text:
        raise RmapReplayError("say what to write: --c, a C program, or --text, a scenario")
    if as_c:
        content = to_c(read_scenario(find(source)))
    else:
        trace = Path(source)
        content = to_text(read_trace(trace if trace.exists() else find(source)))
    if out is None:
        typer.echo(content, nl=False)
    else:
        write_whole(out, content, force=force)
