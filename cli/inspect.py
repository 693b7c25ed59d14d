# SPDX-License-Identifier: GPL-2.0-only
"""rmapreplay inspect: what lives after a row of a trace."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer

from rmapreplay.cli import completion
from rmapreplay.cli.options import TraceArgument
from rmapreplay.cli.run import show_progress
from rmapreplay.cli.trees import print_tree


class InspectFormat(StrEnum):
    """What --format takes."""

    tree = "tree"
    json = "json"


def _address(text: str) -> int:
    """A number as C writes it: 4096, 0x1000."""
    try:
        return int(text, 0)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not an address (0x7f0000000000)") from None


def inspect(
    trace: TraceArgument,
    at: Annotated[int, typer.Option("--at", metavar="SEQ", help="After which row, from 0.")],
    model: Annotated[
        str,
        typer.Option(
            "--model",
            "-m",
            autocompletion=completion.models,
            metavar="NAME[:KEY=VALUE,...]",
            help="Model to ask.",
        ),
    ] = "anon_vma",
    pid: Annotated[
        int | None, typer.Option("--pid", metavar="P", help="Only this process, all its VMAs.")
    ] = None,
    addr: Annotated[
        int | None,
        typer.Option(
            "--addr", metavar="A", parser=_address, help="What is mapped there, and by whom else."
        ),
    ] = None,
    output: Annotated[
        InspectFormat, typer.Option("--format", "-f", help="tree or json.")
    ] = InspectFormat.tree,
    everything: Annotated[
        bool, typer.Option("--all", help="Show each of many VMAs and objects.")
    ] = False,
) -> None:
    """Show what lives after a row: processes, VMAs, the model's objects and links."""
    from rmapreplay.analysis.inspect import inspection as looking
    from rmapreplay.analysis.inspect.text import tree
    from rmapreplay.traces.reader import read_trace

    opened = read_trace(trace)
    with show_progress(opened.rows) as progress:
        state = looking.inspect(opened, at, model, pid=pid, addr=addr, progress=progress)
    if output is InspectFormat.json:
        typer.echo(json.dumps(state.to_dict(), indent=2))
    else:
        print_tree(tree(state, everything=everything))
