# SPDX-License-Identifier: GPL-2.0-only
"""rmapreplay models: what there is to replay under."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from rmapreplay.cli.tables import Format, print_table


def models(
    output: Annotated[Format, typer.Option("--format", help="How to print.")] = Format.table,
) -> None:
    """List the models, their parameters, and the objects they are made of."""
    from rmapreplay.rmap_models import models as list_models

    found = list_models()
    if output is Format.json:
        typer.echo(json.dumps(found, indent=2))
        return
    for number, model in enumerate(found):
        if number:
            typer.echo("")
        typer.echo(f"{model['name']}: {model['doc']}")
        if model["params"]:
            print_table(
                ["parameter", "values", "default", ""],
                [[p["name"], p["values"], p["initial"], p["doc"]] for p in model["params"]],
                left=4,
            )
        print_table(["object", "bytes"], [[name, size] for name, size in model["objects"].items()])
        typer.echo(f"per walk: {', '.join(model['walk_counters']) or 'nothing more'}")
        typer.echo(f"per operation: {', '.join(model['op_counters']) or 'nothing more'}")
