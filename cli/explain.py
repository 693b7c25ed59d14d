# SPDX-License-Identifier: GPL-2.0-only
"""rmapreplay explain: one walk, step by step."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import Annotated

import typer

from rmapreplay.cli import completion
from rmapreplay.cli.options import TraceArgument, WalksOption
from rmapreplay.cli.run import show_progress
from rmapreplay.cli.trees import print_tree
from rmapreplay.replay import DEFAULT_WALKS


class ExplainFormat(StrEnum):
    """What --format takes."""

    tree = "tree"
    json = "json"
    dot = "dot"
    mermaid = "mermaid"


def explain(
    trace: TraceArgument,
    walk: Annotated[
        int,
        typer.Option(metavar="N", help="Number of the walk, as in the table `walks`."),
    ],
    model: Annotated[
        list[str],
        typer.Option(
            "--model",
            "-m",
            autocompletion=completion.models,
            metavar="NAME[:KEY=VALUE,...]",
            help="Model to ask; may be repeated, or name several after commas.",
        ),
    ],
    walks: WalksOption = DEFAULT_WALKS,
    output: Annotated[
        ExplainFormat, typer.Option("--format", "-f", help="tree, json, dot or mermaid.")
    ] = ExplainFormat.tree,
    everything: Annotated[
        bool, typer.Option("--all", help="Show each of many visits and processes.")
    ] = False,
) -> None:
    """Tell one walk step by step: who maps the folio, what is visited, and why.

    With two models the first line says how they differ (docs/explain.md).
    """
    from rmapreplay.analysis.explain import explanation as telling
    from rmapreplay.analysis.explain.text import tree
    from rmapreplay.replay.specs import split_specs
    from rmapreplay.traces.reader import read_trace

    opened = read_trace(trace)
    models = [spec for text in model for spec in split_specs(text)]
    with show_progress(opened.rows) as progress:
        told = telling.explain(opened, walk, models, walks=walks, progress=progress)
    match output:
        case ExplainFormat.json:
            typer.echo(json.dumps(told.to_dict(), indent=2))
        case ExplainFormat.dot:
            typer.echo(told.dot())
        case ExplainFormat.mermaid:
            typer.echo(told.mermaid())
        case ExplainFormat.tree:
            print_tree(tree(told, everything=everything))
